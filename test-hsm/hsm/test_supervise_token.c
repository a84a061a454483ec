/* test_supervise_token.c - mirrors hsm/src/supervise_worker.c: workers that may not start, or lose
 * their token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hsm/key.h>
#include <hsm/supervise.h>
#include <hsm/token.h>

#include "fault_client.h"
#include "softhsm.h"
#include "supervise_group.h"

#define STUCK_MS   50 /* deadline of an operation that becomes stuck */
#define PATIENCE_S 100 /* the limit for tests that open a token */

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

    begin_run(worker);
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
    struct hsm_supervise_config config = supervise_with(run_with_wrong_pin);

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

    begin_run(worker);
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
    struct hsm_supervise_config config = supervise_with(run_without_the_token);

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
    begin_run(worker);
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
    struct hsm_supervise_config config = supervise_with(run_and_lose_the_token);

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
    bool is_first = begin_run(worker) == 1 && hsm_worker_index(worker) == 0;
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
    struct hsm_supervise_config config = supervise_with(run_and_die_in_a_login);

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

    if (begin_run(worker) > 1)
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
    struct hsm_supervise_config config = supervise_with(run_with_calls_stuck_once);

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

    (void)begin_run(worker);
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
    struct hsm_supervise_config config = supervise_with(run_with_its_share);

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
    struct hsm_supervise_config config = supervise_with(run_with_its_share);

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
    return begin_run(worker) == 1 ? serve(worker) : HSM_ERR_DENIED;
}

static void
a_pin_that_is_refused_later_stops_all(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_once_then_denied);

    (void)state;
    signal_for = kill_the_last_when_all_are_ready;
    assert_int_equal(hsm_supervise(&config), HSM_ERR_DENIED);
    assert_int_equal(shared->runs[2], 2);
    assert_int_equal(last_counts()->started, WORKERS + 1);
    assert_no_child_is_left();
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
        struct hsm_supervise_config config = supervise_with(run_and_return);

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
    return begin_run(worker) == 2 ? HSM_ERR_NOT_FOUND : serve(worker);
}

static void
what_is_wrong_later_rests_longest_and_the_others_serve(void **state)
{
    struct hsm_supervise_config config = supervise_with(run_once_then_miss_a_key);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_pin_that_is_refused_is_tried_once_in_all, supervise_group_fresh),
        cmocka_unit_test_setup(a_pin_that_one_worker_was_refused_is_not_tried_by_another,
                               supervise_group_fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_to_all_at_once_is_tried_by_one,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_that_dies_in_a_login_keeps_nobody_from_it,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_with_calls_stuck_in_all_sessions_of_its_token_is_replaced,
                               supervise_group_fresh),
        cmocka_unit_test_setup(one_whose_token_cannot_be_recovered_is_replaced,
                               supervise_group_fresh),
        cmocka_unit_test_setup(workers_leave_the_sessions_of_one_more_to_a_reload,
                               supervise_group_fresh),
        cmocka_unit_test_setup(workers_divide_the_sessions_that_the_configuration_says,
                               supervise_group_fresh),
        cmocka_unit_test_setup(a_pin_that_is_refused_later_stops_all, supervise_group_fresh),
        cmocka_unit_test_setup(a_configuration_that_is_wrong_ends_the_start, supervise_group_fresh),
        cmocka_unit_test_setup(what_is_wrong_later_rests_longest_and_the_others_serve,
                               supervise_group_fresh),
    };

    return cmocka_run_group_tests(tests, supervise_group_start, supervise_group_stop);
}
