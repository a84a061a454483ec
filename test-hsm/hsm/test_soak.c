/*
 * test_soak.c - all faults of the table of ../module/README.md, one by one and mixed, under load.
 *
 * Once for each way to sign: both routes, without and with workers. What must hold:
 * no crash, no hang, no wrong signature, no call beyond its deadline, all sessions usable
 * again, and callers do not see a fault from which recovery is possible. On a dedicated machine the
 * previous rate must return within a second: STI_TEST_MACHINE_MS=0 requires nine tenths of it, and
 * deadlines kept to 50 ms. Otherwise a quarter of it, later, is enough (load.h).
 *
 * $STI_SOAK_SECONDS is the total duration; without it, each fault occurs once and
 * the mixture lasts two seconds for each way. $STI_FAULT_SEED selects the mixture.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/log.h>

#include "fault_client.h"
#include "forking.h"
#include "load.h"
#include "machine.h"
#include "skips.h"
#include "softhsm.h"

#define WAYS       4
#define STRETCH_MS 10000 /* duration of a mixture with one seed */
#define SHORT_MS   2000
#define HANG_S     120 /* added to the duration, then the test ends itself */

static const struct hsm_token_config ways[WAYS] = {
    {.route = HSM_ROUTE_DIRECT, .sessions = LOAD_SESSIONS, .verify_every = 1},
    {.route = HSM_ROUTE_LIBP11, .sessions = LOAD_SESSIONS, .verify_every = 1},
    {.route = HSM_ROUTE_DIRECT, .sessions = LOAD_SESSIONS, .verify_every = 1, .workers = 6},
    {.route = HSM_ROUTE_LIBP11, .sessions = LOAD_SESSIONS, .verify_every = 1, .workers = 6},
};

static const char *const way_names[WAYS] = {"direct", "libp11", "direct, workers",
                                            "libp11, workers"};

/* A token opened in one of the ways, and the load on it. */
struct soak {
    const char *way;
    struct hsm_token *token;
    struct hsm_key *key;
    struct load load;
    unsigned rate; /* signatures in 50 ms without a fault */
};

static unsigned
from_environment(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);

    return value != NULL ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* The short form omits a way that combines two others. */
static bool
is_left_out(size_t way)
{
    return getenv("STI_SOAK_SECONDS") == NULL && ways[way].route == HSM_ROUTE_DIRECT &&
           ways[way].workers > 0;
}

static void
soak_open(struct soak *s, size_t way, const char *label)
{
    s->way = way_names[way];
    s->token = load_token(label, &ways[way]);
    s->key = load_key(s->token);
}

static void
soak_close(struct soak *s)
{
    hsm_key_free(s->key);
    hsm_token_close(s->token);
}

/* ---- single faults ---- */

/* Faults that a caller with a deadline of three seconds does not notice, each with a reboot beside
 * it to trigger the faults of a recovery. */
static const struct {
    unsigned fault;
    const char *beside;
} passing[] = {
    {1, "fault 4 times 1"},  {2, "fault 4 times 1"},  {3, "fault 4 times 1"},
    {4, "fault 4 times 1"},  {5, "fault 4 times 1"},  {6, "fault 4 times 1"},
    {7, "fault 4 times 1"},  {8, "fault 4 times 1"},  {9, "fault 4 times 1"},
    {10, "fault 4 times 1"}, {11, "fault 4 times 1"}, {12, "fault 4 times 1"},
    {14, "fault 4 times 1"}, {15, "fault 4 times 1"}, {16, "fault 4 times 1"},
    {20, "finalize"},        {21, "finalize"},        {22, "fault 4 times 1"},
    {23, "fault 4 times 1"}, {24, "fault 4 times 1"},
};

static void
strike(struct soak *s, unsigned fault_number, const char *beside)
{
    char what[64];

    snprintf(what, sizeof(what), "%s, fault %u", s->way, fault_number);
    load_start(&s->load, s->key, LOAD_DEADLINE_MS);
    load_await_first(&s->load);
    s->rate = load_rate(&s->load, 50);
    fault("fault %u chance 0.02 for 120ms", fault_number);
    load_sleep_ms(80);
    fault("%s", beside);
    load_sleep_ms(80);
    fault("reset");
    load_assert_full_rate(&s->load, s->rate, what);
    load_stop(&s->load);
    load_assert_unseen(&s->load, what);
    load_assert_back_soon(s->token, s->key);
    load_assert_all_sessions(s->token, what);
}

static void
faults_that_pass_are_not_seen(void **state)
{
    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        struct soak s;

        if (is_left_out(way))
            continue;
        soak_open(&s, way, "soaked");
        for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
            strike(&s, passing[i].fault, passing[i].beside);
        soak_close(&s);
    }
}

/* Fault 11. Without workers, the callers themselves are held in the module, as documented. */
static void
deadlines_hold_while_calls_are_stuck(void **state)
{
    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        struct hsm_token_stats stats;
        struct soak s;

        if (ways[way].workers == 0)
            continue;
        soak_open(&s, way, "soaked");
        load_start(&s.load, s.key, 1000);
        load_await_first(&s.load);
        s.rate = load_rate(&s.load, 50);
        fault("on C_Sign times 2 block\non C_SignInit times 1 block");
        load_assert_full_rate(&s.load, s.rate, "others are stuck");
        load_sleep_ms(1200);
        hsm_token_stats(s.token, &stats);
        assert_true(stats.stuck_now >= 3); /* more if the machine is late */
        fault("reset");
        load_assert_full_rate(&s.load, s.rate, "after calls were stuck");
        load_stop(&s.load);
        load_assert_sound(&s.load, "stuck");
        assert_true(s.load.refused >= 3);
        soak_close(&s);
    }
}

/* Fault 13: one login and no further one; all calls fail at once. */
static void
a_pin_that_is_refused_is_tried_once(void **state)
{
    static const char *const answers[] = {"on C_Login rv CKR_PIN_INCORRECT",
                                          "on C_Login rv CKR_PIN_LOCKED",
                                          "on C_Login rv CKR_PIN_EXPIRED", "fault 13"};

    (void)state;
    for (size_t i = 0; i < WAYS * 4; i++) {
        uint8_t sig[HSM_P256_SIG_LEN];
        unsigned long logins;
        char label[32];
        struct soak s;

        snprintf(label, sizeof(label), "latched-%zu", i);
        hsm_token_close(softhsm_token(label)); /* a separate token, as refusals stay latched */
        soak_open(&s, i / 4, label);
        logins = fault_number("count C_Login");
        load_start(&s.load, s.key, LOAD_DEADLINE_MS);
        load_await_first(&s.load);
        fault("%s\nreboot", answers[i % 4]);
        load_sleep_ms(60);
        assert_int_equal(hsm_key_sign(s.key, "x", 1, sig), HSM_ERR_DENIED);
        load_stop(&s.load);
        load_assert_sound(&s.load, s.way);
        assert_true(fault_number("count C_Login") <= logins + 1);
        fault("reset");
        assert_int_equal(hsm_key_sign(s.key, "x", 1, sig), HSM_ERR_DENIED);
        soak_close(&s);
    }
}

/* Faults 17 and 18: the key is refused until it has its former properties again. */
static void
keys_that_became_others_are_refused_and_come_back(void **state)
{
    static const unsigned faults[] = {17, 18};

    (void)state;
    for (size_t i = 0; i < WAYS * 2; i++) {
        uint8_t sig[HSM_P256_SIG_LEN];
        struct soak s;

        soak_open(&s, i / 2, "soaked");
        load_start(&s.load, s.key, LOAD_DEADLINE_MS);
        load_await_first(&s.load);
        s.rate = load_rate(&s.load, 50);
        fault("fault %u\nreboot", faults[i % 2]);
        assert_int_not_equal(hsm_key_sign(s.key, "x", 1, sig), HSM_OK);
        fault("reset\nreboot");
        load_assert_full_rate(&s.load, s.rate, s.way);
        load_stop(&s.load);
        load_assert_sound(&s.load, s.way);
        load_assert_all_sessions(s.token, s.way);
        assert_true(s.load.refused > 0);
        soak_close(&s);
    }
}

/* In a child, an inherited key must fail with HSM_ERR_USAGE. */
static int
sign_in_child(struct hsm_key *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    alarm(5);
    return hsm_key_sign(key, "x", 1, sig) == HSM_ERR_USAGE ? 0 : 1;
}

/* Fault 19. */
static void
children_do_not_sign_while_their_parent_does(void **state)
{
    SKIP_WHERE_NO_FORK();
    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        struct soak s;

        soak_open(&s, way, "soaked");
        load_start(&s.load, s.key, LOAD_DEADLINE_MS);
        load_await_first(&s.load);
        for (int i = 0; i < 5; i++) {
            int status = -1;
            pid_t child = fork();

            assert_true(child >= 0);
            if (child == 0)
                _exit(sign_in_child(s.key));
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_int_equal(status, 0);
        }
        load_stop(&s.load);
        load_assert_unseen(&s.load, s.way);
        soak_close(&s);
    }
}

/* Fault 25, and the part of 22 that concerns generation. */
static void
keys_are_generated_while_the_token_fails_to(void **state)
{
    (void)state;
    for (size_t way = 0; way < WAYS; way++) {
        struct hsm_key *key = NULL;
        uint8_t sig[HSM_P256_SIG_LEN];
        struct soak s;

        soak_open(&s, way, "soaked");
        load_start(&s.load, s.key, LOAD_DEADLINE_MS);
        load_await_first(&s.load);
        fault("fault 25 times 2");
        assert_int_equal(hsm_key_generate(s.token, "made under load", &key), HSM_OK);
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
        assert_int_equal(hsm_key_destroy(key), HSM_OK);
        fault("reset");
        hsm_key_free(key);
        load_stop(&s.load);
        load_assert_unseen(&s.load, s.way);
        soak_close(&s);
    }
}

/* Fault 26. */
static void
modules_that_are_none_are_refused_and_loaded_when_they_are(void **state)
{
    static const char *const none[] = {"fault 26", "null C_Sign", "null C_GetSessionInfo"};
    struct hsm_secret *pin = NULL;
    struct hsm_token_config config = {.uri = "pkcs11:token=soaked", .module = softhsm_module()};

    (void)state;
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct hsm_token *token = NULL;
        struct soak s;

        fault("%s", none[i]);
        assert_int_equal(hsm_token_open(&config, &token), HSM_ERR_UNSUPPORTED);
        assert_null(token);
        fault("offer any\nreset");
        soak_open(&s, i, "soaked");
        load_assert_back_soon(s.token, s.key);
        soak_close(&s);
    }
    hsm_secret_free(pin);
}

/* ---- mixtures ---- */

/* Another thread describes the key while the callers sign; its results are not checked. */
static void *
look_until_over(void *argument)
{
    struct soak *s = argument;

    while (!s->load.over) {
        struct hsm_key_info info;
        struct hsm_token_stats stats;

        (void)!hsm_key_describe(s->key, &info);
        hsm_token_stats(s->token, &stats);
        load_sleep_ms(20);
    }
    return NULL;
}

/* On a loaded machine there are few calls, and it may take a while until a fault strikes one. */
static void
mix_for(const struct soak *s, unsigned ms)
{
    struct hsm_token_stats before, now;

    hsm_token_stats(s->token, &before);
    load_sleep_ms(ms);
    hsm_token_stats(s->token, &now);
    for (int i = 0; i < 300 && now.losses == before.losses; i++) {
        load_sleep_ms(100);
        hsm_token_stats(s->token, &now);
    }
    assert_true(now.losses > before.losses);
}

/* All faults that can strike a running program with the right PIN. */
static void
mix(struct soak *s, bool stuck_too, unsigned seed, unsigned ms)
{
    char what[64];
    pthread_t looker;

    snprintf(what, sizeof(what), "%s, seed %u", s->way, seed);
    load_start(&s->load, s->key, LOAD_DEADLINE_MS);
    load_await_first(&s->load);
    s->rate = load_rate(&s->load, 50);
    assert_int_equal(pthread_create(&looker, NULL, look_until_over, s), 0);
    fault("random seed %u rate 0.003 faults "
          "1,2,3,4,5,6,7,8,9,10,12,14,15,16,17,18,20,21,22,23,24%s "
          "outage 20ms..300ms slow 5ms..20ms stuck 50ms..200ms gap 100ms",
          seed, stuck_too ? ",11" : "");
    mix_for(s, ms);
    fault("random off\nreset");
    load_assert_full_rate(&s->load, s->rate, what);
    load_stop(&s->load);
    assert_int_equal(pthread_join(looker, NULL), 0);
    load_assert_sound(&s->load, what);
    load_assert_back_soon(s->token, s->key);
    load_assert_all_sessions(s->token, what);
}

/* Runs mixtures for this way's share of the time. */
static void
soak(size_t way, unsigned ms)
{
    unsigned seed = from_environment("STI_FAULT_SEED", 1);
    double until = load_now_ms() + ms;
    unsigned good = 0, refused = 0, excused = 0;
    struct hsm_token_stats stats;
    struct soak s;

    soak_open(&s, way, "soaked");
    do {
        mix(&s, ways[way].workers > 0, seed++, ms < STRETCH_MS ? ms : STRETCH_MS);
        good += s.load.good;
        refused += s.load.refused;
        excused += s.load.excused;
    } while (load_now_ms() < until);
    hsm_token_stats(s.token, &stats);
    print_message("%s: %u signatures, all good; %u refused, %u held up by the machine; %llu "
                  "recoveries, %llu restarts of the module, %llu calls left behind in it\n",
                  s.way, good, refused, excused, (unsigned long long)stats.recoveries,
                  (unsigned long long)stats.restarts, (unsigned long long)stats.stuck);
    soak_close(&s);
}

static void
all_faults_mixed_are_survived(void **state)
{
    unsigned seconds = from_environment("STI_SOAK_SECONDS", 0);

    (void)state;
    for (size_t way = 0; way < WAYS; way++)
        if (!is_left_out(way))
            soak(way, seconds > 0 ? seconds * 1000 / WAYS : SHORT_MS);
}

static int
start(void **state)
{
    (void)state;
    alarm(from_environment("STI_SOAK_SECONDS", 0) + from_environment("STI_TEST_HANG_S", HANG_S));
    load_prepare();
    machine_watch();
    hsm_log_open(&(struct hsm_log_config){
        "test", HSM_LOG_TEXT, getenv("STI_TEST_LOG") != NULL ? HSM_LOG_DEBUG : HSM_LOG_ERROR});
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token("soaked"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    machine_watch_end();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_that_pass_are_not_seen),
        cmocka_unit_test(deadlines_hold_while_calls_are_stuck),
        cmocka_unit_test(a_pin_that_is_refused_is_tried_once),
        cmocka_unit_test(keys_that_became_others_are_refused_and_come_back),
        cmocka_unit_test(children_do_not_sign_while_their_parent_does),
        cmocka_unit_test(keys_are_generated_while_the_token_fails_to),
        cmocka_unit_test(modules_that_are_none_are_refused_and_loaded_when_they_are),
        cmocka_unit_test(all_faults_mixed_are_survived),
    };

    return skips_run_group_tests(tests, start, stop);
}
