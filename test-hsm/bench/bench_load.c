/* bench_load.c - callers of an HTTP server: requests on persistent connections. */
#define _GNU_SOURCE /* strcasestr */
#include "bench_load.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bench.h"
#include "bench_process.h"
#include "bench_raw.h"

#define ANSWER_MAX 8192 /* octets of an answer */
#define OPENING_US 2000 /* between opening two connections */
#define REST_US    1.0

struct caller {
    int fd;
    bool is_waiting; /* for its answer */
    double begun_us; /* when its request was sent, or was due */
    size_t answers;
    char answer[ANSWER_MAX + 1];
    size_t len;
};

/* A running load. */
struct run {
    const struct bench_load *load;
    struct bench_loaded *out;
    size_t request_len;
    struct caller *callers;
    unsigned waiting; /* callers */
    unsigned next; /* caller, considered first when a request is due */
    size_t sent;
    int epoll;
    double begun_us;
};

static int
connect_to(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0,
                "connecting to the server");
    return fd;
}

static bool
is_complete(const struct caller *caller)
{
    const char *end = strstr(caller->answer, "\r\n\r\n");
    const char *length = strcasestr(caller->answer, "content-length:");

    return end != NULL && length != NULL && length < end &&
           caller->len >= (size_t)(end + 4 - caller->answer) + strtoul(length + 15, NULL, 10);
}

static void
begin_call(struct run *run, struct caller *caller, double begun_us)
{
    caller->begun_us = begun_us;
    caller->len = 0;
    caller->is_waiting = true;
    run->waiting++;
    run->sent++;
    bench_check(write(caller->fd, run->load->request, run->request_len) ==
                    (ssize_t)run->request_len,
                "sending a request");
}

/* Read what has arrived of an answer; true: it is complete. */
static bool
read_answer(struct caller *caller)
{
    ssize_t n =
        recv(caller->fd, caller->answer + caller->len, ANSWER_MAX - caller->len, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return false;
    bench_check(n > 0, "reading an answer");
    caller->len += (size_t)n;
    caller->answer[caller->len] = '\0';
    if (!is_complete(caller))
        return false;
    if (strncmp(caller->answer, "HTTP/1.1 200", 12) != 0)
        fprintf(stderr, "%s\n", caller->answer);
    bench_check(strncmp(caller->answer, "HTTP/1.1 200", 12) == 0, "a call");
    return true;
}

static void
end_call(struct run *run, struct caller *caller)
{
    const struct bench_load *load = run->load;
    struct bench_loaded *out = run->out;

    caller->is_waiting = false;
    run->waiting--;
    caller->answers++;
    if (load->latencies_us != NULL && out->latencies < load->latencies_max)
        load->latencies_us[out->latencies++] = bench_now_us() - caller->begun_us;
}

/* Polling the kernel without a break would hold the lock that the server's write() needs. */
static void
rest(void)
{
    double end_us = bench_now_us() + REST_US;

    while (bench_now_us() < end_us)
        continue;
}

/* Read the answers that have arrived; with `again` their callers send the next request at once. */
static void
take_answers(struct run *run, bool again)
{
    struct epoll_event events[BENCH_LOAD_MAX];
    int count = epoll_wait(run->epoll, events, BENCH_LOAD_MAX, 0);

    bench_check(count >= 0, "epoll_wait");
    if (count == 0)
        rest();
    for (int i = 0; i < count; i++) {
        struct caller *caller = events[i].data.ptr;

        if (!read_answer(caller))
            continue;
        end_call(run, caller);
        if (again)
            begin_call(run, caller, bench_now_us());
    }
}

static struct caller *
take_turn(struct run *run)
{
    while (run->callers[run->next].is_waiting)
        run->next = (run->next + 1) % run->load->connections;
    return &run->callers[run->next];
}

/* Send the requests that are due while callers are free. */
static void
begin_due(struct run *run)
{
    double each_us = 1e6 / run->load->per_s;
    double due_us = run->begun_us + each_us * (double)run->sent;

    for (; run->waiting < run->load->connections && due_us <= bench_now_us(); due_us += each_us)
        begin_call(run, take_turn(run), due_us);
}

/* Connect one after the other while the callers before it call: of several processes, the one with
 * less to do accepts it. The servers also make their first allocations meanwhile. */
static void
open_callers(struct run *run)
{
    for (unsigned i = 0; i < run->load->connections; i++) {
        struct caller *caller = &run->callers[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = caller};
        double next_us = bench_now_us() + OPENING_US;

        caller->fd = connect_to(run->load->socket);
        bench_check(epoll_ctl(run->epoll, EPOLL_CTL_ADD, caller->fd, &event) == 0, "epoll_ctl");
        begin_call(run, caller, 0);
        while (bench_now_us() < next_us)
            take_answers(run, true);
    }
    while (run->waiting > 0)
        take_answers(run, false);
    for (unsigned i = 0; i < run->load->connections; i++)
        run->callers[i].answers = 0;
    run->out->latencies = 0;
    run->sent = 0;
}

static void
close_callers(struct run *run)
{
    struct bench_loaded *out = run->out;

    out->fewest = run->callers[0].answers;
    for (unsigned i = 0; i < run->load->connections; i++) {
        size_t answers = run->callers[i].answers;

        out->answers += answers;
        out->fewest = answers < out->fewest ? answers : out->fewest;
        out->most = answers > out->most ? answers : out->most;
        close(run->callers[i].fd);
    }
}

void
bench_load(const struct bench_load *load, struct bench_loaded *out)
{
    struct run run = {.load = load,
                      .out = out,
                      .request_len = strlen(load->request),
                      .callers = calloc(load->connections, sizeof(*run.callers)),
                      .epoll = epoll_create1(EPOLL_CLOEXEC)};
    double end_us;

    bench_check(run.callers != NULL && run.epoll >= 0 && load->connections <= BENCH_LOAD_MAX,
                "callers");
    memset(out, 0, sizeof(*out));
    open_callers(&run);
    run.begun_us = bench_now_us();
    if (load->server != 0)
        out->server_cpu_us = -bench_cpu_us(load->server);
    end_us = run.begun_us + load->seconds * 1e6;
    for (unsigned i = 0; load->per_s == 0 && i < load->connections; i++)
        begin_call(&run, &run.callers[i], bench_now_us());
    while (bench_now_us() < end_us) {
        take_answers(&run, load->per_s == 0);
        if (load->per_s > 0)
            begin_due(&run);
    }
    while (run.waiting > 0)
        take_answers(&run, false);
    out->seconds = (bench_now_us() - run.begun_us) / 1e6;
    if (load->server != 0)
        out->server_cpu_us += bench_cpu_us(load->server);
    close_callers(&run);
    close(run.epoll);
    free(run.callers);
}

void
bench_load_wait(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    bench_check(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll");
    while (epoll_wait(epoll, &event, 1, 0) == 0)
        rest();
    close(epoll);
}
