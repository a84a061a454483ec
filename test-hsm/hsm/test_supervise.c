/* test_supervise.c - mirrors hsm/src/supervise.c: workers that end, hang, refuse to start, or
 * leave. */
#define _GNU_SOURCE /* pipe2 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hsm/es256.h>
#include <hsm/key.h>
#include <hsm/supervise.h>
#include <hsm/token.h>

#include "fault_client.h"
#include "softhsm.h"

#define WORKERS    3
#define EVENTS_MAX 256
#define LIMIT_S    30 /* a slower test is stuck itself */
#define STUCK_MS   50 /* deadline of an operation that becomes stuck */
#define PATIENCE_S 100 /* the limit for tests that open a token */

/* The supervisor's events, and results of workers in shared memory. */
static struct hsm_worker_event events[EVENTS_MAX];
static size_t event_count;
static struct shared {
    int runs[HSM_WORKERS_MAX]; /* by index; at most one worker per index runs at a time */
    int alone;
    int hups;
    atomic_uint opened, refused, logins; /* counts of workers whose token is lost */
    unsigned sessions; /* of one of two workers */
} * shared;

/* If this returns true for an event, the supervisor receives SIGTERM. */
static bool (*is_enough)(const struct hsm_worker_event *event);
static bool is_asked;
/* Signal to send to the worker of an event; 0: none. */
static int (*signal_for)(const struct hsm_worker_event *event);

static void
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

static size_t
count_of(enum hsm_worker_change change)
{
    size_t count = 0;

    for (size_t i = 0; i < event_count; i++)
        count += events[i].change == change;
    return count;
}

static const struct hsm_supervise_counts *
last_counts(void)
{
    assert_true(event_count > 0);
    return &events[event_count - 1].counts;
}

static volatile sig_atomic_t is_over;

static void
end_by_signal(int number)
{
    (void)number;
    is_over = 1;
}

static void
beat(struct hsm_worker *worker)
{
    const struct timespec rest = {.tv_nsec = 10 * 1000 * 1000};

    hsm_worker_beat(worker);
    nanosleep(&rest, NULL);
}

/* A well-behaved worker: it becomes ready, sends heartbeats and ends on request. */
static enum hsm_status
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

static int
begin(struct hsm_worker *worker)
{
    alarm(LIMIT_S);
    shared->alone += hsm_worker_is_alone(worker);
    return ++shared->runs[hsm_worker_index(worker)];
}

static enum hsm_status
run_well(struct hsm_worker *worker, void *context)
{
    (void)context;
    begin(worker);
    return serve(worker);
}

static struct hsm_supervise_config
    with(enum hsm_status (*run)(struct hsm_worker *worker, void *context))
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

static bool
all_are_ready(const struct hsm_worker_event *event)
{
    (void)event;
    return count_of(HSM_WORKER_READY) == WORKERS;
}

static bool
a_replacement_is_ready(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS + 1;
}

static void
assert_no_child_is_left(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* ---- */

static void
workers_start_one_by_one_and_stop_when_asked(void **state)
{
    struct hsm_supervise_config config = with(run_well);

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
    struct hsm_supervise_config config = with(run_well);
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
    struct hsm_supervise_config config = with(run_well);

    (void)state;
    config.workers = 0;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_USAGE);
    config.workers = HSM_WORKERS_MAX + 1;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_USAGE);
    assert_int_equal(event_count, 0);
}

/* ---- crashes ---- */

static int
kill_the_last_when_all_are_ready(const struct hsm_worker_event *event)
{
    return event->change == HSM_WORKER_READY && count_of(HSM_WORKER_READY) == WORKERS ? SIGKILL : 0;
}

static void
one_that_crashes_is_replaced_and_the_others_stay(void **state)
{
    struct hsm_supervise_config config = with(run_well);

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
    struct hsm_supervise_config config = with(run_well);

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
    if (begin(worker) > 8)
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
    struct hsm_supervise_config config = with(run_and_crash);
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
    return begin(worker) <= 2 ? HSM_ERR_BUSY : serve(worker);
}

static void
a_token_that_is_away_at_the_start_is_waited_for(void **state)
{
    struct hsm_supervise_config config = with(run_busy_twice);

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
    if (begin(worker) > 1)
        return serve(worker);
    signal(SIGTERM, SIG_IGN); /* as in a call that never returns */
    hsm_worker_ready(worker);
    for (;;)
        pause();
}

static bool
two_were_ready(const struct hsm_worker_event *event)
{
    (void)event;
    return count_of(HSM_WORKER_READY) == 2;
}

static void
one_that_does_not_beat_is_killed_and_replaced(void **state)
{
    struct hsm_supervise_config config = with(run_without_beats_once);

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
    if (begin(worker) > 1)
        return serve(worker);
    for (;;) {
        hsm_worker_beat(worker); /* sends nothing before it is ready */
        poll(NULL, 0, 10);
    }
}

static void
one_that_is_not_ready_in_time_is_killed_and_replaced(void **state)
{
    struct hsm_supervise_config config = with(run_never_ready_once);

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
    begin(worker);
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
    struct hsm_supervise_config config = with(run_and_never_end);

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
    begin(worker);
    kill(getppid(), SIGTERM);
    for (int i = 0; i < 10; i++)
        poll(NULL, 0, 10);
    shared->hups++; /* reached */
    return serve(worker);
}

static void
one_that_is_starting_is_asked_to_stop_when_it_is_ready(void **state)
{
    struct hsm_supervise_config config = with(run_and_start_slowly);

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
    begin(worker);
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
    struct hsm_supervise_config config = with(run_and_outlive_the_supervisor);
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

/* ---- refusals ---- */

static enum hsm_status
open_with(const char *uri, const char *text, struct hsm_token **out)
{
    struct hsm_secret *pin = NULL;
    enum hsm_status st;

    assert_int_equal(hsm_secret_new(text, strlen(text), &pin), HSM_OK);
    st = hsm_token_open(
        &(struct hsm_token_config){
            .uri = uri, .module = softhsm_module(), .pin = pin, .probe_ms = 20},
        out);
    hsm_secret_free(pin);
    return st;
}

/* Opens the token as a daemon does, with a wrong PIN. */
static enum hsm_status
run_with_wrong_pin(struct hsm_worker *worker, void *context)
{
    struct hsm_token *token = NULL;
    enum hsm_status st;

    begin(worker);
    alarm(PATIENCE_S);
    st = open_with("pkcs11:token=supervised", context, &token);
    if (st != HSM_OK)
        return st;
    st = serve(worker);
    hsm_token_close(token);
    return st;
}

static void
a_pin_that_is_refused_is_tried_once_in_all(void **state)
{
    static char wrong[] = "9999", right[] = SOFTHSM_USER_PIN;
    struct hsm_supervise_config config = with(run_with_wrong_pin);

    (void)state;
    config.start_ms =
        /* Other processes of this host may hold the token's lock. */
        PATIENCE_S * 1000;
    alarm(PATIENCE_S);
    config.context = wrong;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_DENIED);
    assert_int_equal(shared->runs[0] + shared->runs[1] + shared->runs[2], 1);
    assert_int_equal(last_counts()->started, 1);
    assert_no_child_is_left();
    event_count = 0;
    is_asked = false;
    config.context = right;
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->runs[0] + shared->runs[1] + shared->runs[2], 1 + WORKERS);
}

/* The first worker has the wrong PIN, and each worker continues without the token. */
static enum hsm_status
run_without_the_token(struct hsm_worker *worker, void *context)
{
    enum hsm_status *results = context; /* shared memory */
    struct hsm_token *token = NULL;
    const char *text = hsm_worker_index(worker) == 0 ? "9999" : SOFTHSM_USER_PIN;

    begin(worker);
    alarm(PATIENCE_S);
    results[hsm_worker_index(worker)] = open_with("pkcs11:token=worn", text, &token);
    hsm_token_close(token);
    return serve(worker);
}

static void
a_pin_that_one_worker_was_refused_is_not_tried_by_another(void **state)
{
    enum hsm_status *results = mmap(NULL, sizeof(*results) * WORKERS, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct hsm_supervise_config config = with(run_without_the_token);

    (void)state;
    assert_ptr_not_equal(results, MAP_FAILED);
    hsm_token_close(softhsm_token("worn"));
    config.start_ms = PATIENCE_S * 1000;
    config.context = results;
    alarm(PATIENCE_S);
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(results[i], HSM_ERR_DENIED);
    munmap(results, sizeof(*results) * WORKERS);
}

/* Once all workers have opened the token, each of them loses it and its PIN is changed. */
static enum hsm_status
run_and_lose_the_token(struct hsm_worker *worker, void *context)
{
    struct hsm_token *token = NULL;
    struct hsm_token_stats stats = {.service = HSM_OK};

    (void)context;
    begin(worker);
    fault_open();
    assert_int_equal(open_with("pkcs11:token=supervised", SOFTHSM_USER_PIN, &token), HSM_OK);
    hsm_worker_ready(worker);
    alarm(PATIENCE_S);
    shared->opened++;
    while (shared->opened < WORKERS)
        beat(worker);
    fault("on C_Login delay 300ms rv CKR_PIN_INCORRECT\nreboot");
    while (stats.service != HSM_ERR_DENIED) {
        beat(worker);
        hsm_token_stats(token, &stats);
    }
    hsm_token_close(token);
    shared->logins += (unsigned)stats.logins;
    if (++shared->refused == WORKERS)
        (void)kill(getppid(), SIGTERM);
    return serve(worker);
}

static void
a_pin_that_is_refused_to_all_at_once_is_tried_by_one(void **state)
{
    struct hsm_supervise_config config = with(run_and_lose_the_token);

    (void)state;
    config.start_ms = PATIENCE_S * 1000;
    alarm(PATIENCE_S);
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->refused, WORKERS);
    assert_int_equal(shared->logins, WORKERS + 1); /* all to open it, one to recover it */
}

/* The first worker dies in the login that follows the loss of its token. */
static enum hsm_status
run_and_die_in_a_login(struct hsm_worker *worker, void *context)
{
    struct hsm_token *token = NULL;
    bool is_first = begin(worker) == 1 && hsm_worker_index(worker) == 0;
    enum hsm_status st;

    (void)context;
    alarm(PATIENCE_S);
    fault_open();
    st = open_with("pkcs11:token=supervised", SOFTHSM_USER_PIN, &token);
    if (st != HSM_OK)
        return st;
    if (is_first) {
        hsm_worker_ready(worker);
        fault("on C_Login block\nreboot");
        while (fault_number("held") == 0)
            beat(worker);
        (void)raise(SIGKILL);
    }
    st = serve(worker);
    hsm_token_close(token);
    return st;
}

static bool
all_are_ready_and_one_was_twice(const struct hsm_worker_event *event)
{
    (void)event;
    return count_of(HSM_WORKER_READY) == WORKERS + 1;
}

static void
one_that_dies_in_a_login_keeps_nobody_from_it(void **state)
{
    struct hsm_supervise_config config = with(run_and_die_in_a_login);

    (void)state;
    config.start_ms = PATIENCE_S * 1000;
    alarm(PATIENCE_S);
    is_enough = all_are_ready_and_one_was_twice;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(last_counts()->failed, 1);
}

/* The first worker sends heartbeats while calls are stuck in its token. */
static enum hsm_status
run_with_calls_stuck_once(struct hsm_worker *worker, void *context)
{
    static const uint8_t digest[HSM_SHA256_LEN];
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;
    struct hsm_key *key = NULL;
    uint8_t sig[HSM_P256_SIG_LEN];

    if (begin(worker) > 1)
        return serve(worker);
    alarm(PATIENCE_S);
    fault_open();
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    assert_int_equal(hsm_token_open(&(struct hsm_token_config){.uri = "pkcs11:token=supervised",
                                                               .module = softhsm_module(),
                                                               .pin = pin,
                                                               .sessions = 1,
                                                               .workers = 1,
                                                               .op_timeout_ms = STUCK_MS,
                                                               .probe_ms = STUCK_MS},
                                    &token),
                     HSM_OK);
    while (hsm_key_find_or_generate(token, "signer", &key) != HSM_OK)
        continue; /* the machine was slow */
    hsm_worker_ready(worker);
    fault("%s", (const char *)context);
    while (!is_over) {
        enum hsm_status st =
            hsm_key_sign_digest_within(key, digest, STUCK_MS, HSM_WAIT_FOR_RECOVERY, sig);

        assert_true(st == HSM_OK || st == HSM_ERR_BUSY);
        beat(worker);
    }
    return HSM_OK;
}

static void
assert_is_replaced(char *what_is_stuck)
{
    struct hsm_supervise_config config = with(run_with_calls_stuck_once);

    config.workers = 1;
    config.start_ms = PATIENCE_S * 1000;
    config.heartbeat_ms = 1000;
    config.context = what_is_stuck;
    alarm(PATIENCE_S);
    is_enough = two_were_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(last_counts()->stuck, 1);
    assert_int_equal(shared->runs[0], 2);
}

static void
one_with_calls_stuck_in_all_sessions_of_its_token_is_replaced(void **state)
{
    static char signatures[] = "on C_Sign block";

    (void)state;
    assert_is_replaced(signatures);
}

static void
one_whose_token_cannot_be_recovered_is_replaced(void **state)
{
    static char probes[] = "on C_GetSessionInfo block";

    (void)state;
    assert_is_replaced(probes);
}

#define TOKEN_SESSIONS 12 /* total */

/* Source of the number of sessions: the token or the configuration. */
struct limit {
    const char *reported; /* by the module */
    const char *quirks;
};

static enum hsm_status
run_with_its_share(struct hsm_worker *worker, void *context)
{
    const struct limit *limit = context;
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;
    struct hsm_token_stats stats;

    (void)begin(worker);
    alarm(PATIENCE_S);
    fault_open();
    fault("report %s", limit->reported);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    assert_int_equal(hsm_token_open(&(struct hsm_token_config){.uri = "pkcs11:token=supervised",
                                                               .module = softhsm_module(),
                                                               .pin = pin,
                                                               .quirks = limit->quirks},
                                    &token),
                     HSM_OK);
    hsm_secret_free(pin);
    hsm_token_stats(token, &stats);
    shared->sessions = stats.sessions;
    hsm_token_close(token);
    return serve(worker);
}

static void
workers_leave_the_sessions_of_one_more_to_a_reload(void **state)
{
    struct limit limit = {.reported = "12"};
    struct hsm_supervise_config config = with(run_with_its_share);

    (void)state;
    config.context = &limit;
    config.workers = 2;
    config.start_ms = PATIENCE_S * 1000;
    alarm(PATIENCE_S);
    is_enough = two_were_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->sessions, TOKEN_SESSIONS / 3 - 1); /* without the control session */
}

static void
workers_divide_the_sessions_that_the_configuration_says(void **state)
{
    struct limit limit = {.reported = "infinite", .quirks = "known,sessions=12"};
    struct hsm_supervise_config config = with(run_with_its_share);

    (void)state;
    config.context = &limit;
    config.workers = 2;
    config.start_ms = PATIENCE_S * 1000;
    alarm(PATIENCE_S);
    is_enough = two_were_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    assert_int_equal(shared->sessions, TOKEN_SESSIONS / 3 - 1);
}

static enum hsm_status
run_once_then_denied(struct hsm_worker *worker, void *context)
{
    (void)context;
    return begin(worker) == 1 ? serve(worker) : HSM_ERR_DENIED;
}

static void
a_pin_that_is_refused_later_stops_all(void **state)
{
    struct hsm_supervise_config config = with(run_once_then_denied);

    (void)state;
    signal_for = kill_the_last_when_all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_DENIED);
    assert_int_equal(shared->runs[2], 2);
    assert_int_equal(last_counts()->started, WORKERS + 1);
    assert_no_child_is_left();
}

static enum hsm_status
run_and_return(struct hsm_worker *worker, void *context)
{
    const enum hsm_status *status = context;

    begin(worker);
    return *status;
}

static void
a_configuration_that_is_wrong_ends_the_start(void **state)
{
    static enum hsm_status kinds[] = {
        HSM_ERR_USAGE,     HSM_ERR_NOT_FOUND, HSM_ERR_AMBIGUOUS,   HSM_ERR_DENIED,
        HSM_ERR_MALFORMED, HSM_ERR_UNTRUSTED, HSM_ERR_UNSUPPORTED, HSM_ERR_IO,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct hsm_supervise_config config = with(run_and_return);

        config.context = &kinds[i];
        shared->runs[0] = 0;
        assert_int_equal(hsm_supervise(&config), kinds[i]);
        assert_int_equal(shared->runs[0], 1);
        assert_int_equal(shared->runs[1], 0);
    }
}

static enum hsm_status
run_once_then_miss_a_key(struct hsm_worker *worker, void *context)
{
    (void)context;
    return begin(worker) == 2 ? HSM_ERR_NOT_FOUND : serve(worker);
}

static void
what_is_wrong_later_rests_longest_and_the_others_serve(void **state)
{
    struct hsm_supervise_config config = with(run_once_then_miss_a_key);
    size_t seen = 0;

    (void)state;
    signal_for = kill_the_last_when_all_are_ready;
    is_enough = a_replacement_is_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    for (size_t i = 0; i < event_count; i++)
        seen += events[i].change == HSM_WORKER_ENDED && events[i].rest_ms == 40;
    assert_int_equal(seen, 1);
    assert_int_equal(shared->runs[2], 3);
    assert_int_equal(shared->runs[0], 1);
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
    begin(worker);
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
    struct hsm_supervise_config config = with(run_and_count_hups);

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
    struct hsm_supervise_config config = with(run_and_tell_pid);
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

/* ---- the service manager ---- */

static void
assert_told(int fd, const char *wanted)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char text[256];
    ssize_t n;

    do { /* skip watchdog messages */
        assert_int_equal(poll(&ready, 1, 10000), 1);
        n = recv(fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
    } while (strcmp(text, "WATCHDOG=1") == 0 && strcmp(wanted, text) != 0);
    assert_string_equal(text, wanted);
}

static void
told_to(const char *address, socklen_t len, const struct sockaddr_un *name)
{
    struct hsm_supervise_config config = with(run_well);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)name, len), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address, 1), 0);
    assert_int_equal(setenv("WATCHDOG_USEC", "20000", 1), 0);
    event_count = 0;
    is_asked = false;
    is_enough = all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_OK);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    assert_told(fd, "WATCHDOG=1");
    assert_told(fd, "READY=1");
    assert_told(fd, "STOPPING=1");
    close(fd);
}

static void
systemd_is_told_by_path_and_by_abstract_name(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char address[sizeof(name.sun_path)];
    int n = snprintf(address, sizeof(address), "%s/notify", softhsm_dir());

    (void)state;
    assert_true(n > 0 && (size_t)n < sizeof(address));
    memcpy(name.sun_path, address, sizeof(address));
    told_to(address, (socklen_t)sizeof(name), &name);
    n = snprintf(address, sizeof(address), "@sti-notify-%d", (int)getpid());
    memcpy(name.sun_path + 1, address + 1, (size_t)n - 1);
    name.sun_path[0] = '\0';
    told_to(address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n), &name);
}

static void
a_worker_that_never_is_ready_is_not_reported(void **state)
{
    static enum hsm_status missing = HSM_ERR_NOT_FOUND;
    struct hsm_supervise_config config = with(run_and_return);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s/notify-2", softhsm_dir());
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name.sun_path, 1), 0);
    config.context = &missing;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_NOT_FOUND);
    unsetenv("NOTIFY_SOCKET");
    assert_told(fd, "STOPPING=1"); /* without READY=1 before it */
    close(fd);
}

static int
fresh(void **state)
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

static int
start(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    softhsm_start();
    make_token();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    alarm(0);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(workers_start_one_by_one_and_stop_when_asked, fresh),
        cmocka_unit_test_setup(the_signals_of_the_caller_are_as_before, fresh),
        cmocka_unit_test_setup(numbers_of_workers_that_are_refused, fresh),
        cmocka_unit_test_setup(one_that_crashes_is_replaced_and_the_others_stay, fresh),
        cmocka_unit_test_setup(one_that_an_operator_ends_is_replaced, fresh),
        cmocka_unit_test_setup(the_rest_before_a_restart_doubles_up_to_its_limit, fresh),
        cmocka_unit_test_setup(a_token_that_is_away_at_the_start_is_waited_for, fresh),
        cmocka_unit_test_setup(one_that_does_not_beat_is_killed_and_replaced, fresh),
        cmocka_unit_test_setup(one_that_is_not_ready_in_time_is_killed_and_replaced, fresh),
        cmocka_unit_test_setup(one_that_does_not_stop_is_killed, fresh),
        cmocka_unit_test_setup(one_that_is_starting_is_asked_to_stop_when_it_is_ready, fresh),
        cmocka_unit_test_setup(one_that_is_starting_ends_after_its_supervisor, fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_is_tried_once_in_all, fresh),
        cmocka_unit_test_setup(a_pin_that_one_worker_was_refused_is_not_tried_by_another, fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_to_all_at_once_is_tried_by_one, fresh),
        cmocka_unit_test_setup(one_that_dies_in_a_login_keeps_nobody_from_it, fresh),
        cmocka_unit_test_setup(one_with_calls_stuck_in_all_sessions_of_its_token_is_replaced,
                               fresh),
        cmocka_unit_test_setup(one_whose_token_cannot_be_recovered_is_replaced, fresh),
        cmocka_unit_test_setup(workers_leave_the_sessions_of_one_more_to_a_reload, fresh),
        cmocka_unit_test_setup(workers_divide_the_sessions_that_the_configuration_says, fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_later_stops_all, fresh),
        cmocka_unit_test_setup(a_configuration_that_is_wrong_ends_the_start, fresh),
        cmocka_unit_test_setup(what_is_wrong_later_rests_longest_and_the_others_serve, fresh),
        cmocka_unit_test_setup(hangups_are_passed_on_and_sigint_stops, fresh),
        cmocka_unit_test_setup(workers_end_with_their_supervisor, fresh),
        cmocka_unit_test_setup(systemd_is_told_by_path_and_by_abstract_name, fresh),
        cmocka_unit_test_setup(a_worker_that_never_is_ready_is_not_reported, fresh),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
