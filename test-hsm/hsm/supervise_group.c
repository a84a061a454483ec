/* supervise_group.c - supervisors and their workers. */
#include "supervise_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "softhsm.h"

struct hsm_worker_event events[EVENTS_MAX];
size_t event_count;

struct shared *shared;

bool (*is_enough)(const struct hsm_worker_event *event);
bool is_asked;
int (*signal_for)(const struct hsm_worker_event *event);

void
on_event(void *context, const struct hsm_worker_event *event)
{
    (void)context;
    assert_true(event_count < EVENTS_MAX);
    events[event_count++] = *event;
    if (signal_for != NULL && signal_for(event) != 0)
        assert_int_equal(kill(event->pid, signal_for(event)), 0);
    if (is_enough != NULL && !is_asked && (is_asked = is_enough(event)))
        assert_int_equal(kill(getpid(), SIGTERM), 0);
}

size_t
count_of(enum hsm_worker_change change)
{
    size_t count = 0;

    for (size_t i = 0; i < event_count; i++)
        count += events[i].change == change;
    return count;
}

const struct hsm_supervise_counts *
last_counts(void)
{
    assert_true(event_count > 0);
    return &events[event_count - 1].counts;
}

volatile sig_atomic_t is_over;

static void
end_by_signal(int number)
{
    (void)number;
    is_over = 1;
}

void
beat(struct hsm_worker *worker)
{
    const struct timespec rest = {.tv_nsec = 10 * 1000 * 1000};

    hsm_worker_beat(worker);
    nanosleep(&rest, NULL);
}

enum hsm_status
serve(struct hsm_worker *worker)
{
    const struct sigaction end = {.sa_handler = end_by_signal};

    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    hsm_worker_ready(worker);
    alarm(LIMIT_S);
    while (!is_over)
        beat(worker);
    return HSM_OK;
}

int
begin_run(struct hsm_worker *worker)
{
    alarm(LIMIT_S);
    shared->alone += hsm_worker_is_alone(worker);
    return ++shared->runs[hsm_worker_index(worker)];
}

enum hsm_status
run_well(struct hsm_worker *worker, void *context)
{
    (void)context;
    begin_run(worker);
    return serve(worker);
}

struct hsm_supervise_config
    supervise_with(enum hsm_status (*run)(struct hsm_worker *worker, void *context))
{
    return (struct hsm_supervise_config){
        .workers = WORKERS,
        .run = run,
        .heartbeat_ms = 2000,
        .start_ms = 10000,
        .stop_ms = 10000,
        .restart_min_ms = 5,
        .restart_max_ms = 40,
        .on_event = on_event,
    };
}

bool
all_are_ready(const struct hsm_worker_event *event)
{
    (void)event;
    return count_of(HSM_WORKER_READY) == WORKERS;
}

bool
a_replacement_is_ready(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS + 1;
}

void
assert_no_child_is_left(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int
kill_the_last_when_all_are_ready(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS ? SIGKILL : 0;
}

bool
two_were_ready(const struct hsm_worker_event *event)
{
    (void)event;
    return count_of(HSM_WORKER_READY) == 2;
}

enum hsm_status
run_and_return(struct hsm_worker *worker, void *context)
{
    const enum hsm_status *status = context;

    begin_run(worker);
    return *status;
}

int
supervise_group_fresh(void **state)
{
    (void)state;
    memset(shared, 0, sizeof(*shared));
    event_count = 0;
    is_enough = NULL;
    is_asked = false;
    signal_for = NULL;
    alarm(LIMIT_S);
    return 0;
}

/* Runs in a child: a supervisor never loads a module. */
static void
make_token(void)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        hsm_token_close(softhsm_token("supervised"));
        exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
supervise_group_start(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    softhsm_start();
    make_token();
    return 0;
}

int
supervise_group_stop(void **state)
{
    (void)state;
    alarm(0);
    softhsm_stop();
    return 0;
}
