/* test_supervise_reload.c - mirrors hsm/src/supervise_reload.c: a new configuration takes over, or
 * nothing changes. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hsm/supervise.h>
#include <hsm/token.h>

#include "softhsm.h"

#define WORKERS    3
#define LIMIT_S    30 /* a slower test is stuck itself */
#define PATIENCE_S 100 /* the limit for tests that open a token */
#define EVENTS     256

/* A configuration consists of the conduct of its workers. */
enum conduct {
    GOOD,
    FAILS, /* before it is ready */
    CRASHES, /* before it is ready */
    IS_REFUSED, /* its PIN */
    OPENS, /* opens a token, and serves if it can */
    OPENS_WITH_A_WRONG_PIN, /* opens it with a wrong PIN */
    STAYS, /* GOOD, but does not leave when it is replaced */
    IS_GOOD_ONCE, /* one worker serves; a second one finds no resources */
    IS_GOOD_AT_FIRST, /* the first WORKERS serve, later ones do not */
};

/* In shared memory: the workers that ran with each configuration, and those that run now. */
static struct seen {
    atomic_int runs[8], living[8]; /* by the number of the configuration */
    atomic_int places[HSM_PLACES]; /* processes at each place */
    atomic_int shared_places; /* two processes at one place */
    atomic_int candidates[8]; /* workers that try a configuration, by number */
} * seen;

static struct {
    int number, next; /* the configuration in use, and the next one */
    enum conduct conducts[8]; /* by number */
    enum hsm_status answer; /* to HSM_RELOAD_PREPARE */
    unsigned workers; /* requested by the next one; 0: unchanged */
    unsigned reload_ms; /* 0: long */
    unsigned start_ms; /* 0: short */
    int prepared, committed, abandoned;
} program;

static struct hsm_worker_event events[EVENTS];
static size_t event_count;
static void (*on_ready)(const struct hsm_worker_event *event);
static void (*on_end)(const struct hsm_worker_event *event);

static volatile sig_atomic_t is_over;

static void
end_by_signal(int number)
{
    (void)number;
    is_over = 1;
}

static enum hsm_status
serve(struct hsm_worker *worker, int number)
{
    const struct sigaction end = {.sa_handler = end_by_signal};
    const struct timespec beat = {.tv_nsec = 5 * 1000 * 1000};
    int place = (int)hsm_worker_place(worker);

    sigaction(SIGTERM, &end, NULL);
    if (program.conducts[number] != STAYS)
        sigaction(SIGHUP, &end, NULL);
    seen->living[number]++;
    seen->shared_places += seen->places[place]++ > 0;
    hsm_worker_ready(worker);
    while (!is_over) {
        hsm_worker_beat(worker);
        nanosleep(&beat, NULL);
    }
    seen->places[place]--;
    seen->living[number]--;
    return HSM_OK;
}

static enum hsm_status
serve_with_token(struct hsm_worker *worker, int number, const char *pin_text)
{
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;
    enum hsm_status st;

    alarm(PATIENCE_S);
    assert_int_equal(hsm_secret_new(pin_text, strlen(pin_text), &pin), HSM_OK);
    st = hsm_token_open(&(struct hsm_token_config){.uri = "pkcs11:token=reloaded",
                                                   .module = softhsm_module(),
                                                   .pin = pin},
                        &token);
    hsm_secret_free(pin);
    if (st == HSM_OK)
        st = serve(worker, number);
    hsm_token_close(token);
    return st;
}

static enum hsm_status
run(struct hsm_worker *worker, void *context)
{
    int number = *(int *)context;

    int runs;

    alarm(LIMIT_S);
    runs = ++seen->runs[number];
    seen->candidates[number] += hsm_worker_is_candidate(worker);
    switch (program.conducts[number]) {
    case FAILS:
        return HSM_ERR_NOT_FOUND;
    case CRASHES:
        _exit(3);
    case IS_REFUSED:
        return HSM_ERR_DENIED;
    case OPENS:
        return serve_with_token(worker, number, SOFTHSM_USER_PIN);
    case OPENS_WITH_A_WRONG_PIN:
        return serve_with_token(worker, number, "9999");
    case IS_GOOD_ONCE:
        if (runs > 1)
            return HSM_ERR_BUSY;
        break;
    case IS_GOOD_AT_FIRST:
        if (runs > WORKERS)
            return HSM_ERR_BUSY;
        break;
    case GOOD:
    case STAYS:
        break;
    }
    return serve(worker, number);
}

static enum hsm_status
reload(void *context, enum hsm_reload_step step, unsigned *workers)
{
    (void)context;
    if (step == HSM_RELOAD_PREPARE) {
        program.prepared++;
        if (program.answer != HSM_OK)
            return program.answer;
        if (program.workers != 0)
            *workers = program.workers;
        program.next = program.number;
        program.number = program.prepared; /* the first configuration is number 0 */
    } else if (step == HSM_RELOAD_COMMIT) {
        program.committed++;
    } else {
        program.abandoned++;
        program.number = program.next;
    }
    return HSM_OK;
}

static void
on_event(void *context, const struct hsm_worker_event *event)
{
    (void)context;
    assert_true(event_count < EVENTS);
    events[event_count++] = *event;
    if (event->change == HSM_WORKER_READY)
        on_ready(event);
    if (event->change == HSM_WORKER_ENDED && on_end != NULL)
        on_end(event);
}

static enum hsm_status
supervise(void)
{
    return hsm_supervise(&(struct hsm_supervise_config){
        .workers = WORKERS,
        .run = run,
        .context = &program.number,
        .heartbeat_ms = 5000,
        .start_ms = program.start_ms != 0 ? program.start_ms : 10000,
        .stop_ms = 10000,
        .retire_ms = 300,
        .reload_ms = program.reload_ms != 0 ? program.reload_ms : 20000,
        .restart_min_ms = 5,
        .restart_max_ms = 40,
        .reload = reload,
        .on_event = on_event,
    });
}

static size_t
count_of(enum hsm_worker_change change)
{
    size_t count = 0;

    for (size_t i = 0; i < event_count; i++)
        count += events[i].change == change;
    return count;
}

static void
ask(int number)
{
    assert_int_equal(kill(getpid(), number), 0);
}

/* ---- */

static void
hang_up_when_all_are_ready(const struct hsm_worker_event *event)
{
    (void)event;
    if (count_of(HSM_WORKER_READY) == WORKERS)
        ask(SIGHUP);
}

static void
stop_when_the_old_have_ended(const struct hsm_worker_event *event)
{
    (void)event;
    if (count_of(HSM_WORKER_ENDED) == WORKERS)
        ask(SIGTERM);
}

static void
new_workers_take_the_place_of_the_old(void **state)
{
    (void)state;
    on_ready = hang_up_when_all_are_ready;
    on_end = stop_when_the_old_have_ended;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(seen->runs[0], WORKERS);
    assert_int_equal(seen->runs[1], WORKERS);
    assert_int_equal(seen->candidates[0], 0);
    assert_int_equal(seen->candidates[1], 1); /* the others start after it */
    assert_int_equal(program.committed, 1);
    assert_int_equal(program.abandoned, 0);
    assert_int_equal(events[event_count - 1].counts.failed, 0);
    assert_int_equal(seen->shared_places, 0);
    assert_int_equal(seen->living[0] + seen->living[1], 0);
}

/* At any time at least as many workers are ready as the smaller configuration has. */
static void
count_those_who_serve(const struct hsm_worker_event *event)
{
    hang_up_when_all_are_ready(event);
    if (count_of(HSM_WORKER_READY) > WORKERS)
        assert_in_range(count_of(HSM_WORKER_READY) - count_of(HSM_WORKER_ENDED), WORKERS,
                        2 * WORKERS);
}

static void
nobody_leaves_before_another_is_ready(void **state)
{
    (void)state;
    on_ready = count_those_who_serve;
    on_end = stop_when_the_old_have_ended;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(count_of(HSM_WORKER_READY), 2 * WORKERS);
}

static void
stop_when_all_is_done(const struct hsm_worker_event *event)
{
    (void)event;
    if (count_of(HSM_WORKER_ENDED) == WORKERS &&
        count_of(HSM_WORKER_READY) == WORKERS + program.workers)
        ask(SIGTERM);
}

static void
hang_up_and_stop(const struct hsm_worker_event *event)
{
    hang_up_when_all_are_ready(event);
    stop_when_all_is_done(event);
}

static void
the_number_of_workers_may_change(void **state)
{
    (void)state;
    for (unsigned wanted = 1; wanted <= 5; wanted += 4) {
        memset(seen, 0, sizeof(*seen));
        memset(&program, 0, sizeof(program));
        event_count = 0;
        program.workers = wanted;
        on_ready = hang_up_and_stop;
        on_end = stop_when_all_is_done;
        assert_int_equal(supervise(), HSM_OK);
        assert_int_equal(seen->runs[1], wanted);
    }
}

static int hang_ups;

static void
hang_up_twice(const struct hsm_worker_event *event)
{
    (void)event;
    if (count_of(HSM_WORKER_READY) == WORKERS)
        ask(SIGHUP);
    if (count_of(HSM_WORKER_READY) == WORKERS + 1 && hang_ups++ == 0)
        ask(SIGHUP); /* during the first reload; a second one follows it */
}

static void
stop_when_two_generations_have_ended(const struct hsm_worker_event *event)
{
    (void)event;
    if (count_of(HSM_WORKER_ENDED) == 2 * WORKERS)
        ask(SIGTERM);
}

static void
a_hangup_during_a_reload_is_another_reload(void **state)
{
    (void)state;
    hang_ups = 0;
    on_ready = hang_up_twice;
    on_end = stop_when_two_generations_have_ended;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(program.committed, 2);
    assert_int_equal(seen->runs[2], WORKERS);
    assert_int_equal(seen->shared_places, 0);
}

static int refusals;

static void
stop_when_the_candidate_has_ended(const struct hsm_worker_event *event)
{
    assert_int_equal(event->rest_ms, 0);
    refusals++;
    ask(SIGTERM);
}

static void
a_configuration_that_no_worker_can_use_is_given_up(void **state)
{
    static const enum conduct conducts[] = {FAILS, CRASHES, IS_REFUSED};

    (void)state;
    for (size_t i = 0; i < sizeof(conducts) / sizeof(conducts[0]); i++) {
        memset(seen, 0, sizeof(*seen));
        memset(&program, 0, sizeof(program));
        event_count = 0;
        program.conducts[1] = conducts[i];
        on_ready = hang_up_when_all_are_ready;
        on_end = stop_when_the_candidate_has_ended;
        refusals = 0;
        assert_int_equal(supervise(), HSM_OK);
        assert_int_equal(seen->runs[1], 1); /* tried once */
        assert_int_equal(seen->runs[0], WORKERS); /* none of the old workers was replaced */
        assert_int_equal(program.committed, 0);
        assert_int_equal(program.abandoned, 1);
        assert_int_equal(events[event_count - 1].counts.failed, 0);
    }
}

static void
kill_one_of_the_old(const struct hsm_worker_event *event)
{
    hang_up_when_all_are_ready(event);
    if (count_of(HSM_WORKER_READY) > WORKERS)
        ask(SIGTERM);
}

static void
end_another_after_the_candidate(const struct hsm_worker_event *event)
{
    if (refusals++ > 0)
        return;
    for (size_t i = 0; i < event_count; i++)
        if (events[i].change == HSM_WORKER_READY && events[i].pid != event->pid) {
            assert_int_equal(kill(events[i].pid, SIGKILL), 0);
            return;
        }
}

static void
after_one_that_was_given_up_workers_have_the_old_one(void **state)
{
    (void)state;
    program.conducts[1] = FAILS;
    on_ready = kill_one_of_the_old;
    on_end = end_another_after_the_candidate;
    refusals = 0;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(seen->runs[0], WORKERS + 1);
    assert_int_equal(seen->runs[1], 1);
}

/* Runs in a child: a supervisor never loads a module. */
static void
make_token(void)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        hsm_token_close(softhsm_token("reloaded"));
        exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void
a_pin_that_is_refused_to_a_new_one_is_still_good_in_the_old(void **state)
{
    (void)state;
    alarm(PATIENCE_S);
    make_token();
    program.conducts[0] = OPENS;
    program.conducts[1] = OPENS_WITH_A_WRONG_PIN;
    program.start_ms = PATIENCE_S * 1000; /* others may hold the token's lock */
    on_ready = kill_one_of_the_old;
    on_end = end_another_after_the_candidate;
    refusals = 0;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(program.abandoned, 1);
    assert_int_equal(seen->runs[0], WORKERS + 1);
    assert_int_equal(seen->runs[1], 1);
}

static void
stop_soon_after_a_refusal(const struct hsm_worker_event *event)
{
    hang_up_when_all_are_ready(event);
    if (count_of(HSM_WORKER_READY) == WORKERS)
        assert_int_equal(kill(event->pid, SIGKILL), 0); /* the replacement becomes ready later */
    if (count_of(HSM_WORKER_READY) == WORKERS + 1)
        ask(SIGTERM);
}

static void
one_that_cannot_be_read_changes_nothing(void **state)
{
    (void)state;
    program.answer = HSM_ERR_MALFORMED;
    on_ready = stop_soon_after_a_refusal;
    on_end = NULL;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(program.prepared, 1);
    assert_int_equal(program.abandoned + program.committed, 0);
    assert_int_equal(seen->runs[0], WORKERS + 1);
}

static unsigned thirds; /* workers of the third configuration that became ready */

/* After the second configuration was abandoned and all of its workers have ended, a third one is
 * tried. The test ends when that has its workers and the first has none. */
static void
try_a_third_one(const struct hsm_worker_event *event)
{
    hang_up_when_all_are_ready(event);
    if (program.abandoned == 1 && seen->living[1] == 0 && program.prepared == 1 && hang_ups++ == 0)
        ask(SIGHUP);
    thirds += event->change == HSM_WORKER_READY && program.prepared == 2;
    if (thirds == WORKERS && seen->living[0] == 0)
        ask(SIGTERM);
}

static void
without_a_second_worker_the_old_configuration_is_back(void **state)
{
    static const enum conduct old_ones[] = {GOOD, IS_GOOD_AT_FIRST}; /* can return, or cannot */

    (void)state;
    for (size_t i = 0; i < sizeof(old_ones) / sizeof(old_ones[0]); i++) {
        memset(seen, 0, sizeof(*seen));
        memset(&program, 0, sizeof(program));
        event_count = 0;
        hang_ups = 0;
        thirds = 0;
        program.reload_ms = 150;
        program.conducts[0] = old_ones[i];
        program.conducts[1] = IS_GOOD_ONCE;
        on_ready = try_a_third_one;
        on_end = try_a_third_one;
        assert_int_equal(supervise(), HSM_OK);
        assert_int_equal(program.abandoned, 1);
        assert_int_equal(program.committed, 1);
        assert_true(seen->runs[0] > WORKERS); /* started to replace the ones that had left */
        assert_int_equal(seen->runs[2], WORKERS);
        assert_int_equal(seen->shared_places, 0);
    }
}

static void
one_that_does_not_leave_is_killed_in_the_end(void **state)
{
    (void)state;
    program.conducts[0] = STAYS;
    on_ready = hang_up_when_all_are_ready;
    on_end = stop_when_the_old_have_ended;
    assert_int_equal(supervise(), HSM_OK);
    assert_int_equal(count_of(HSM_WORKER_STUCK), WORKERS);
    assert_int_equal(seen->runs[1], WORKERS);
}

static void
systemd_is_told_of_a_reload(void **state)
{
    static const char *const wanted[] = {"READY=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1",
                                         "STOPPING=1"};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char address[64];

    (void)state;
    snprintf(address, sizeof(address), "@sti-reload-%d", (int)getpid());
    memcpy(name.sun_path + 1, address + 1, strlen(address) - 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&name,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address))),
                     0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address, 1), 0);
    on_ready = hang_up_when_all_are_ready;
    on_end = stop_when_the_old_have_ended;
    assert_int_equal(supervise(), HSM_OK);
    unsetenv("NOTIFY_SOCKET");
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        char text[128] = "";

        assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
        text[strlen(wanted[i])] = '\0'; /* ignore the time that follows */
        assert_string_equal(text, wanted[i]);
    }
    close(fd);
}

static int
fresh(void **state)
{
    (void)state;
    memset(seen, 0, sizeof(*seen));
    memset(&program, 0, sizeof(program));
    event_count = 0;
    alarm(LIMIT_S);
    return 0;
}

static int
start(void **state)
{
    (void)state;
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    softhsm_start();
    return seen == MAP_FAILED ? -1 : 0;
}

static int
stop(void **state)
{
    (void)state;
    alarm(0);
    softhsm_stop();
    return munmap(seen, sizeof(*seen));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(new_workers_take_the_place_of_the_old, fresh),
        cmocka_unit_test_setup(nobody_leaves_before_another_is_ready, fresh),
        cmocka_unit_test_setup(the_number_of_workers_may_change, fresh),
        cmocka_unit_test_setup(a_hangup_during_a_reload_is_another_reload, fresh),
        cmocka_unit_test_setup(a_configuration_that_no_worker_can_use_is_given_up, fresh),
        cmocka_unit_test_setup(after_one_that_was_given_up_workers_have_the_old_one, fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_to_a_new_one_is_still_good_in_the_old, fresh),
        cmocka_unit_test_setup(one_that_cannot_be_read_changes_nothing, fresh),
        cmocka_unit_test_setup(without_a_second_worker_the_old_configuration_is_back, fresh),
        cmocka_unit_test_setup(one_that_does_not_leave_is_killed_in_the_end, fresh),
        cmocka_unit_test_setup(systemd_is_told_of_a_reload, fresh),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
