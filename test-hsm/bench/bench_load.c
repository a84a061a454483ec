/* bench_load.c - callers of an HTTP server: requests on connections that are kept. */
#define _GNU_SOURCE /* strcasestr */
#include "bench_load.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "bench.h"
#include "bench_raw.h"

#define ANSWER_MAX 8192 /* octets of an answer */

struct connection {
    const struct bench_load *load;
    pthread_barrier_t *ready;
    unsigned index;
    size_t answers;
    double *latencies_us;
    size_t latencies_max;
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
is_complete(const char *answer, size_t len)
{
    const char *end = strstr(answer, "\r\n\r\n");
    const char *length = strcasestr(answer, "content-length:");

    return end != NULL && length != NULL && length < end &&
           len >= (size_t)(end + 4 - answer) + strtoul(length + 15, NULL, 10);
}

static void
exchange(int fd, const char *request, size_t request_len)
{
    char answer[ANSWER_MAX + 1];
    size_t len = 0;

    bench_check(write(fd, request, request_len) == (ssize_t)request_len, "sending a request");
    do {
        ssize_t n = read(fd, answer + len, ANSWER_MAX - len);

        bench_check(n > 0, "reading an answer");
        len += (size_t)n;
        answer[len] = '\0';
    } while (!is_complete(answer, len));
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        fprintf(stderr, "%s\n", answer);
    bench_check(strncmp(answer, "HTTP/1.1 200", 12) == 0, "a call");
}

static void
sleep_until(double at_us)
{
    struct timespec at = {.tv_sec = (time_t)(at_us / 1e6)};

    at.tv_nsec = (long)((at_us - (double)at.tv_sec * 1e6) * 1e3);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        continue;
}

/* A request whose time has passed, because the answer before was late, has waited since then. */
static double
begin_at(double due_us)
{
    double now = bench_now_us();

    if (due_us == 0 || now >= due_us)
        return due_us == 0 ? now : due_us;
    sleep_until(due_us);
    return bench_now_us();
}

static void *
run_connection(void *argument)
{
    struct connection *connection = argument;
    const struct bench_load *load = connection->load;
    size_t request_len = strlen(load->request);
    double each_us = load->per_s > 0 ? load->connections * 1e6 / load->per_s : 0;
    int fd = connect_to(load->socket);
    double first_us;
    double end_us;

    exchange(fd, load->request, request_len);
    pthread_barrier_wait(connection->ready);
    first_us = bench_now_us() + each_us * connection->index / load->connections;
    end_us = bench_now_us() + load->seconds * 1e6;
    while (bench_now_us() < end_us) {
        double begun = begin_at(each_us > 0 ? first_us + each_us * (double)connection->answers : 0);

        exchange(fd, load->request, request_len);
        if (connection->answers < connection->latencies_max)
            connection->latencies_us[connection->answers] = bench_now_us() - begun;
        connection->answers++;
    }
    close(fd);
    return NULL;
}

/* The latencies of all connections, side by side. */
static size_t
gather(const struct bench_load *load, const struct connection *connections)
{
    size_t count = 0;

    for (unsigned i = 0; i < load->connections; i++) {
        const struct connection *one = &connections[i];
        size_t kept = one->answers < one->latencies_max ? one->answers : one->latencies_max;

        memmove(load->latencies_us + count, one->latencies_us, kept * sizeof(double));
        count += kept;
    }
    return count;
}

void
bench_load(const struct bench_load *load, struct bench_loaded *out)
{
    struct connection connections[BENCH_LOAD_MAX];
    pthread_t threads[BENCH_LOAD_MAX];
    pthread_barrier_t ready;
    size_t share = load->latencies_max / load->connections;
    double begun;

    memset(out, 0, sizeof(*out));
    bench_check(pthread_barrier_init(&ready, NULL, load->connections + 1) == 0, "a barrier");
    for (unsigned i = 0; i < load->connections; i++) {
        connections[i] = (struct connection){load,
                                             &ready,
                                             i,
                                             0,
                                             load->latencies_us + i * share,
                                             load->latencies_us == NULL ? 0 : share};
        bench_check(pthread_create(&threads[i], NULL, run_connection, &connections[i]) == 0,
                    "a thread");
    }
    pthread_barrier_wait(&ready);
    begun = bench_now_us();
    for (unsigned i = 0; i < load->connections; i++) {
        bench_check(pthread_join(threads[i], NULL) == 0, "a thread");
        out->answers += connections[i].answers;
        if (i == 0 || connections[i].answers < out->fewest)
            out->fewest = connections[i].answers;
        if (connections[i].answers > out->most)
            out->most = connections[i].answers;
    }
    out->seconds = (bench_now_us() - begun) / 1e6;
    pthread_barrier_destroy(&ready);
    if (load->latencies_us != NULL)
        out->latencies = gather(load, connections);
}
