/* test_supervise.c - mirrors hsm/src/supervise.c: workers that end, hang, or leave. */
#define _GNU_SOURCE /* pipe2 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hsm/supervise.h>
#include <hsm/token.h>

#include "supervise_group.h"

/* ---- */

static void
workers_start_one_by_one_and_stop_when_asked(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_well);

    (void)state;
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(shared->runs[i], 1);
        assert_int_equal(events[2 * i].change, HSM_WORKER_STARTED);
        assert_int_equal(events[2 * i + 1].change, HSM_WORKER_READY);
        assert_int_equal(events[2 * i].pid, events[2 * i + 1].pid);
        assert_int_equal(events[2 * i].index, i);
    }
    assert_int_equal(count_of(HSM_WORKER_ENDED), WORKERS);
    assert_int_equal(last_counts()->failed, 0);
    assert_int_equal(shared->alone, 1); /* the first */
    assert_no_child_is_left();
}

static void
the_signals_of_the_caller_are_as_before(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_well);
    sigset_t before, after;

    (void)state;
    is_enough = all_are_ready;
    sigprocmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    sigprocmask(SIG_BLOCK, NULL, &after);
    for (int number = 1; number < SIGRTMAX; number++)
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
}

static void
numbers_of_workers_that_are_refused(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_well);

    (void)state;
    config.workers = 0;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_USAGE);
    config.workers = HSM_WORKERS_MAX + 1;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_USAGE);
    assert_int_equal(event_count, 0);
}

/* ---- crashes ---- */

static void
one_that_crashes_is_replaced_and_the_others_stay(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_well);

    (void)state;
    signal_for = kill_the_last_when_all_are_ready;
    is_enough = a_replacement_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->runs[0], 1);
    assert_int_equal(shared->runs[1], 1);
    assert_int_equal(shared->runs[2], 2);
    assert_int_equal(last_counts()->started, WORKERS + 1);
    assert_int_equal(last_counts()->failed, 1);
    assert_int_equal(last_counts()->stuck, 0);
    assert_int_equal(shared->alone, 1); /* the replacement is not */
}

static int
ask_the_last_to_end(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS ? SIGTERM : 0;
}

static void
one_that_an_operator_ends_is_replaced(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_well);

    (void)state;
    signal_for = ask_the_last_to_end;
    is_enough = a_replacement_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->runs[2], 2);
}

static enum hsm_status
run_and_crash(struct hsm_worker *worker, void *context)
{
    (void)context;
    if (begin_run(worker) > 8)
        return serve(worker);
    _exit(3);
}

static bool
one_is_ready(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY;
}

static void
the_rest_before_a_restart_doubles_up_to_its_limit(void **state)
{
    static const unsigned wanted[] = {5, 10, 20, 40, 40, 40, 40, 40};
    struct hsm_supervise_config config = supervise_with(run_and_crash);
    size_t seen = 0;

    (void)state;
    config.workers = 1;
    is_enough = one_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    for (size_t i = 0; i < event_count; i++) {
        if (events[i].change == HSM_WORKER_ENDED && seen < 8)
            assert_int_equal(events[i].rest_ms, wanted[seen++]);
    }
    assert_int_equal(seen, 8);
    assert_int_equal(last_counts()->failed, 8);
    assert_int_equal(shared->alone, 9);
}

static enum hsm_status
run_busy_twice(struct hsm_worker *worker, void *context)
{
    (void)context;
    return begin_run(worker) <= 2 ? HSM_ERR_BUSY : serve(worker);
}

static void
a_token_that_is_away_at_the_start_is_waited_for(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_busy_twice);

    (void)state;
    config.workers = 1;
    is_enough = one_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->runs[0], 3);
}

/* ---- heartbeats ---- */

static enum hsm_status
run_without_beats_once(struct hsm_worker *worker, void *context)
{
    (void)context;
    if (begin_run(worker) > 1)
        return serve(worker);
    signal(SIGTERM, SIG_IGN); /* as in a call that never returns */
    hsm_worker_ready(worker);
    for (;;)
        pause();
}

static void
one_that_does_not_beat_is_killed_and_replaced(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_without_beats_once);

    (void)state;
    config.workers = 1;
    config.heartbeat_ms = 1500; /* enough for a heartbeat of the other one on any machine */
    is_enough = two_were_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(count_of(HSM_WORKER_STUCK), 1);
    assert_int_equal(last_counts()->stuck, 1);
    assert_int_equal(last_counts()->failed, 1);
    assert_int_equal(shared->runs[0], 2);
}

static enum hsm_status
run_never_ready_once(struct hsm_worker *worker, void *context)
{
    (void)context;
    if (begin_run(worker) > 1)
        return serve(worker);
    for (;;) {
        hsm_worker_beat(worker); /* sends nothing before it is ready */
        poll(NULL, 0, 10);
    }
}

static void
one_that_is_not_ready_in_time_is_killed_and_replaced(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_never_ready_once);

    (void)state;
    config.workers = 1;
    config.start_ms = 1500; /* enough for the other one to start on any machine */
    is_enough = one_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(last_counts()->stuck, 1);
    assert_int_equal(shared->runs[0], 2);
}

static enum hsm_status
run_and_never_end(struct hsm_worker *worker, void *context)
{
    (void)context;
    begin_run(worker);
    signal(SIGTERM, SIG_IGN);
    hsm_worker_ready(worker);
    while (shared->hups == 0) { /* never true */
        hsm_worker_beat(worker);
        poll(NULL, 0, 10);
    }
    return HSM_OK;
}

static void
one_that_does_not_stop_is_killed(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_and_never_end);

    (void)state;
    config.stop_ms = 100;
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_BUSY);
    assert_int_equal(count_of(HSM_WORKER_STUCK), WORKERS);
    assert_no_child_is_left();
}

/* Opening a token takes time and must not be interrupted, not even by a SIGTERM. */
static enum hsm_status
run_and_start_slowly(struct hsm_worker *worker, void *context)
{
    (void)context;
    begin_run(worker);
    kill(getppid(), SIGTERM);
    for (int i = 0; i < 10; i++)
        poll(NULL, 0, 10);
    shared->hups++; /* reached */
    return serve(worker);
}

static void
one_that_is_starting_is_asked_to_stop_when_it_is_ready(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_and_start_slowly);

    (void)state;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->hups, 1);
    assert_int_equal(last_counts()->started, 1);
    assert_int_equal(last_counts()->stuck, 0);
}

static enum hsm_status
run_and_outlive_the_supervisor(struct hsm_worker *worker, void *context)
{
    (void)context;
    begin_run(worker);
    kill(getppid(), SIGKILL);
    for (int i = 0; i < 10; i++)
        poll(NULL, 0, 10);
    shared->hups++;
    hsm_worker_ready(worker);
    shared->hups++; /* not reached */
    return HSM_OK;
}

static void
one_that_is_starting_ends_after_its_supervisor(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_and_outlive_the_supervisor);
    struct pollfd end = {.events = POLLIN};
    pid_t supervisor;
    char octet;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    config.on_event = NULL;
    supervisor = fork();
    if (supervisor == 0) {
        close(fds[0]);
        _exit(hsm_supervise(&config) == HSM_OK ? 0 : 1);
    }
    close(fds[1]);
    assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
    end.fd = fds[0];
    assert_int_equal(poll(&end, 1, 10000), 1); /* no process has the other end open */
    assert_int_equal(read(fds[0], &octet, 1), 0);
    assert_int_equal(shared->hups, 1);
    close(fds[0]);
}

/* ---- signals, and the end of the supervisor ---- */

static void
count_hup(int number)
{
    (void)number;
    shared->hups++; /* in one worker */
}

static enum hsm_status
run_and_count_hups(struct hsm_worker *worker, void *context)
{
    const struct sigaction count = {.sa_handler = count_hup, .sa_flags = SA_RESTART};

    (void)context;
    begin_run(worker);
    if (hsm_worker_index(worker) == 0)
        sigaction(SIGHUP, &count, NULL); /* the others ignore it */
    hsm_worker_ready(worker);
    while (shared->hups == 0) {
        hsm_worker_beat(worker);
        poll(NULL, 0, 5);
    }
    if (hsm_worker_index(worker) == 0)
        kill(getppid(), SIGINT);
    return serve(worker);
}

static bool
send_hup_when_all_are_ready(const struct hsm_worker_event *event)
{
    if (event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS)
        assert_int_equal(kill(getpid(), SIGHUP), 0);
    return false;
}

static void
hangups_are_passed_on_and_sigint_stops(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_and_count_hups);

    (void)state;
    is_enough = send_hup_when_all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->hups, 1);
    assert_int_equal(last_counts()->failed, 0);
}

static int ready_pipe[2];

static enum hsm_status
run_and_tell_pid(struct hsm_worker *worker, void *context)
{
    pid_t self = getpid();

    (void)context;
    alarm(LIMIT_S);
    if (write(ready_pipe[1], &self, sizeof(self)) != sizeof(self))
        return HSM_ERR_IO;
    return serve(worker);
}

/* The pipe's write end is open as long as a worker lives. */
static void
workers_end_with_their_supervisor(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_and_tell_pid);
    struct pollfd end = {.events = POLLIN};
    pid_t supervisor, worker;

    (void)state;
    assert_int_equal(pipe2(ready_pipe, O_CLOEXEC), 0);
    config.on_event = NULL;
    supervisor = fork();
    if (supervisor == 0) {
        close(ready_pipe[0]);
        _exit(hsm_supervise(&config) == HSM_OK ? 0 : 1);
    }
    close(ready_pipe[1]);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(read(ready_pipe[0], &worker, sizeof(worker)), sizeof(worker));
    assert_int_equal(kill(supervisor, SIGKILL), 0);
    assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
    end.fd = ready_pipe[0];
    assert_int_equal(poll(&end, 1, 10000), 1);
    assert_int_equal(read(ready_pipe[0], &worker, sizeof(worker)), 0);
    close(ready_pipe[0]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(workers_start_one_by_one_and_stop_when_asked, supervise_group_fresh),
        cmocka_unit_test_setup(the_signals_of_the_caller_are_as_before, supervise_group_fresh),
        cmocka_unit_test_setup(numbers_of_workers_that_are_refused, supervise_group_fresh),
        cmocka_unit_test_setup(one_that_crashes_is_replaced_and_the_others_stay,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_an_operator_ends_is_replaced, supervise_group_fresh),
        cmocka_unit_test_setup(the_rest_before_a_restart_doubles_up_to_its_limit,
                               supervise_group_fresh),
        cmocka_unit_test_setup(a_token_that_is_away_at_the_start_is_waited_for,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_does_not_beat_is_killed_and_replaced,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_is_not_ready_in_time_is_killed_and_replaced,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_does_not_stop_is_killed, supervise_group_fresh),
        cmocka_unit_test_setup(one_that_is_starting_is_asked_to_stop_when_it_is_ready,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_is_starting_ends_after_its_supervisor,
                               supervise_group_fresh),
        cmocka_unit_test_setup(hangups_are_passed_on_and_sigint_stops, supervise_group_fresh),
        cmocka_unit_test_setup(workers_end_with_their_supervisor, supervise_group_fresh),
    };

    return cmocka_run_group_tests(tests, supervise_group_start, supervise_group_stop);
}
