/*
 * test_slot.c - which calls may be in the module, and when: slot.c, admin.c, recover.c, module.c,
 * pool.c.
 *
 * Tokens under load: test_recovery.c.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <hsm/key.h>
#include <hsm/log.h>

#include "fault_client.h"
#include "load.h"
#include "machine.h"
#include "raw.h"
#include "skips.h"
#include "softhsm.h"

#define CLOSINGS 10
#define LOSSES   25 /* sum over both tokens */
#define WAIT_MS  5000 /* to wait for another thread */
#define PROBE_MS 20
#define SHORT_MS 300 /* a deadline */
#define SPUN_MS  100 /* processor time; a thread that sleeps for SHORT_MS uses less */
#define STEP_MS  5

static double
processor_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static char behind[256]; /* the module behind the fault module */

/* ---- calls other than signatures ---- */

/* Signs once, in another thread. */
struct signing {
    struct hsm_key *key;
    enum hsm_status status;
    pthread_t thread;
};

static void *
sign_once(void *argument)
{
    struct signing *signing = argument;
    uint8_t sig[HSM_P256_SIG_LEN];

    signing->status = hsm_key_sign_verified(signing->key, "x", 1, sig);
    return NULL;
}

/* Start a signature and wait until it is stuck in the module. */
static void
stick(struct signing *signing, struct hsm_key *key)
{
    signing->key = key;
    fault("on C_Sign times 1 block");
    assert_int_equal(pthread_create(&signing->thread, NULL, sign_once, signing), 0);
    for (int ms = 0; ms < WAIT_MS && fault_number("held") == 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(fault_number("held"), 1);
}

/* Sign until that many calls are held in the module. A call that runs late may not reach the module
 * before its deadline. */
static void
stick_another(struct hsm_key *key, unsigned long held)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    for (int ms = 0; ms < WAIT_MS && fault_number("held") < held; ms += SHORT_MS)
        assert_int_equal(
            hsm_key_sign_digest_within(key, load_digest, SHORT_MS, HSM_WAIT_FOR_RECOVERY, sig),
            HSM_ERR_BUSY);
    assert_int_equal(fault_number("held"), held);
}

static void
unstick(struct signing *signing)
{
    fault("release");
    assert_int_equal(pthread_join(signing->thread, NULL), 0);
    fault("reset");
}

static void
others_end_at_their_deadline_while_a_call_is_stuck_in_a_serial_module(void **state)
{
    const struct hsm_token_config serial = {
        .route = HSM_ROUTE_DIRECT, .op_timeout_ms = SHORT_MS, .quirks = "serial"};
    struct hsm_token *token = load_token("one", &serial);
    struct hsm_key *key = load_key(token);
    struct hsm_key *other = NULL;
    struct signing signing;
    uint8_t octets[8];
    double begin;

    (void)state;
    stick(&signing, key);
    begin = processor_ms();
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_ERR_BUSY);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &other), HSM_ERR_BUSY);
    assert_null(other);
    assert_true(processor_ms() - begin < SPUN_MS);
    unstick(&signing);
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
}

static struct hsm_token_stats
stats_of(const struct hsm_token *token)
{
    struct hsm_token_stats stats;

    hsm_token_stats(token, &stats);
    return stats;
}

/* Is held in the module; returns NULL if it succeeded after its release. */
static void *
ask_for_octets(void *token)
{
    uint8_t octets[8];

    return hsm_token_random(token, octets, sizeof(octets)) == HSM_OK ? NULL : token;
}

static void
a_call_that_is_not_a_signature_is_counted_when_it_is_stuck(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT, .op_timeout_ms = SHORT_MS};
    struct hsm_token *token = load_token("one", &config);
    struct hsm_key *key = load_key(token);
    uint8_t octets[8];
    uint8_t sig[HSM_P256_SIG_LEN];
    pthread_t thread;
    void *failed = NULL;

    (void)state;
    fault("on C_GenerateRandom times 1 block");
    assert_int_equal(pthread_create(&thread, NULL, ask_for_octets, token), 0);
    for (int ms = 0; ms < WAIT_MS && fault_number("held") == 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    load_sleep_ms(STEP_MS);
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_ERR_BUSY);
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_ERR_BUSY);
    assert_int_equal(stats_of(token).stuck, 1);
    assert_int_equal(stats_of(token).stuck_now, 1);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    fault("release");
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_int_equal(stats_of(token).stuck_now, 0);
    fault("reset");
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- two tokens of one module ---- */

static const struct hsm_token_config restarting = {.route = HSM_ROUTE_DIRECT,
                                                   .sessions = LOAD_SESSIONS,
                                                   .verify_every = 1,
                                                   .op_timeout_ms = LOAD_DEADLINE_MS,
                                                   .quirks = "restart"};

static void
calls_of_a_token_that_came_back_are_out_of_the_module_when_another_restarts_it(void **state)
{
    struct hsm_token *tokens[] = {load_token("one", &restarting), load_token("two", &restarting)};
    struct hsm_key *keys[] = {load_key(tokens[0]), load_key(tokens[1])};
    struct load loads[2];

    (void)state;
    for (size_t i = 0; i < 2; i++)
        load_start(&loads[i], keys[i], LOAD_DEADLINE_MS);
    fault("latency C_Initialize,C_Finalize 10ms");
    for (size_t i = 0; i < LOSSES; i++) {
        load_sleep_ms(30);
        fault("reboot");
    }
    for (size_t i = 0; i < 2; i++)
        load_stop(&loads[i]);
    for (size_t i = 0; i < 2; i++)
        load_assert_back_soon(tokens[i], keys[i]);
    assert_int_equal(fault_number("misuse"), 0);
    fault("reset");
    for (size_t i = 0; i < 2; i++) {
        load_assert_sound(&loads[i], "two tokens lost together");
        hsm_key_free(keys[i]);
        hsm_token_close(tokens[i]);
    }
}

static void
a_token_that_is_closed_is_out_of_the_module_when_another_restarts_it(void **state)
{
    struct hsm_token *token = load_token("one", &restarting);
    struct hsm_key *key = load_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];
    struct load load;

    (void)state;
    load_start(&load, key, LOAD_DEADLINE_MS);
    fault("latency C_CloseSession,C_Logout 10ms");
    for (size_t i = 0; i < CLOSINGS; i++) {
        struct hsm_token *other = load_token("two", &restarting);

        fault("on C_Sign token one times 1 rv CKR_DEVICE_REMOVED");
        load_sleep_ms(STEP_MS);
        hsm_token_close(other);
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    }
    load_stop(&load);
    load_assert_back_soon(token, key);
    assert_int_equal(fault_number("misuse"), 0);
    fault("reset");
    load_assert_sound(&load, "a token of the module closed");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* Wait for `more` attempts to recover; false: the token has recovered. */
static bool
attempts_fail(const struct hsm_token *token, unsigned more)
{
    uint64_t until = stats_of(token).attempts + more;
    int ms = 0;

    for (; ms < WAIT_MS && stats_of(token).attempts < until; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    return ms < WAIT_MS && !hsm_token_is_ready(token);
}

/* Meanwhile the recovery of the first token waits for its session as well. */
static void
a_call_of_one_token_that_is_given_up_keeps_another_from_restarting_the_module(void **state)
{
    struct hsm_token_config config = restarting;
    struct hsm_token *tokens[2];
    struct hsm_key *keys[2];
    struct signing signing;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    alarm(60);
    config.workers = 2;
    config.op_timeout_ms = 2 * SHORT_MS;
    config.reconnect_max_ms = config.reconnect_min_ms = STEP_MS;
    for (size_t i = 0; i < 2; i++) {
        tokens[i] = load_token(i == 0 ? "one" : "two", &config);
        keys[i] = load_key(tokens[i]);
    }
    stick(&signing, keys[1]);
    fault("remove");
    for (size_t i = 0; i < 2; i++) {
        while (hsm_token_is_ready(tokens[i]))
            assert_int_equal(hsm_key_sign_digest_within(keys[i], load_digest, STEP_MS,
                                                        HSM_WAIT_FOR_SESSION, sig),
                             HSM_ERR_BUSY);
    }
    for (int ms = 0; ms < WAIT_MS && stats_of(tokens[1]).stuck_now == 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(stats_of(tokens[1]).stuck_now, 1);
    assert_true(attempts_fail(tokens[0], 3));
    assert_int_equal(fault_number("misuse"), 0);
    assert_int_equal(stats_of(tokens[0]).restarts, 0);
    fault("release");
    for (int ms = 0; ms < WAIT_MS && stats_of(tokens[0]).restarts == 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_true(stats_of(tokens[0]).restarts > 0);
    assert_int_equal(fault_number("misuse"), 0);
    unstick(&signing);
    for (size_t i = 0; i < 2; i++) {
        load_assert_back_soon(tokens[i], keys[i]);
        hsm_key_free(keys[i]);
        hsm_token_close(tokens[i]);
    }
    alarm(0);
}

/* ---- two modules ---- */

static void *
open_one(void *out)
{
    *(struct hsm_token **)out = load_token("one", &restarting);
    return NULL;
}

static void
a_module_that_does_not_start_keeps_nobody_from_another(void **state)
{
    /* without quirks, because the first module holds the host lock */
    struct hsm_token_config config = {.uri = "pkcs11:token=two", .module = behind, .quirks = ""};
    struct hsm_secret *pin = NULL;
    struct hsm_token *slow = NULL;
    struct hsm_token *token = NULL;
    uint8_t octets[8];
    pthread_t thread;

    (void)state;
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    fault("on C_Initialize times 1 block");
    assert_int_equal(pthread_create(&thread, NULL, open_one, &slow), 0);
    for (int ms = 0; ms < WAIT_MS && fault_number("held") == 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(fault_number("held"), 1);
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    assert_int_equal(hsm_token_random(token, octets, sizeof(octets)), HSM_OK);
    hsm_token_close(token);
    assert_int_equal(fault_number("held"), 1);
    fault("release");
    assert_int_equal(pthread_join(thread, NULL), 0);
    fault("reset");
    assert_int_equal(hsm_token_random(slow, octets, sizeof(octets)), HSM_OK);
    hsm_token_close(slow);
    hsm_secret_free(pin);
}

/* ---- logins ---- */

/* A logged-in user needs no PIN, and a PIN with one try left is never presented. */
static void
a_pin_of_which_one_try_is_left_is_not_presented(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT};
    struct hsm_token *token = load_token("two", &config);
    struct hsm_key *key = load_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];
    unsigned long before = fault_number("count C_Login");

    (void)state;
    fault("on C_GetTokenInfo flag CKF_USER_PIN_FINAL_TRY\nrenumber");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    assert_int_equal(stats_of(token).recoveries, 1);
    fault("reboot");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    assert_int_equal(fault_number("count C_Login"), before);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

#define OTHER_PIN "97531"

/* Open the token again while it is open, as during a reload. */
static struct hsm_token *
open_beside(const char *pin_text)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=changing",
                                      .module = softhsm_module(),
                                      .route = HSM_ROUTE_DIRECT,
                                      .quirks = getenv("STI_TEST_QUIRKS")};
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;

    assert_int_equal(hsm_secret_new(pin_text, strlen(pin_text), &pin), HSM_OK);
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

static void
a_token_that_was_lost_is_logged_in_to_with_the_pin_that_was_given_last(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT};
    struct hsm_token *token = load_token("changing", &config);
    struct hsm_key *key = load_key(token);
    struct raw *raw = raw_open("changing");
    struct hsm_token *other;
    uint8_t sig[HSM_P256_SIG_LEN];
    unsigned long before;

    (void)state;
    raw_change_pin(raw, SOFTHSM_USER_PIN, OTHER_PIN);
    raw_close(raw);
    before = fault_number("count C_Login");
    other = open_beside(OTHER_PIN);
    assert_int_equal(fault_number("count C_Login"), before); /* already logged in */
    hsm_token_close(other);
    fault("reboot");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    assert_int_equal(fault_number("count C_Login"), before + 1);
    other = open_beside(SOFTHSM_USER_PIN); /* now the wrong PIN */
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    fault("reboot");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    assert_int_equal(fault_number("count C_Login"), before + 2);
    hsm_token_forget_refusals();
    hsm_token_close(other);
    other = open_beside(OTHER_PIN);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    fault("reset");
    raw = raw_open("changing");
    raw_change_pin(raw, OTHER_PIN, SOFTHSM_USER_PIN);
    raw_close(raw);
    hsm_token_close(other);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- sessions ---- */

static void
sessions_without_room_are_tried_again(void **state)
{
    struct hsm_token_config config = restarting;
    struct hsm_token *token;
    struct hsm_key *key;
    struct load load;

    (void)state;
    config.probe_ms = PROBE_MS;
    token = load_token("one", &config);
    key = load_key(token);
    fault("sessions 2"); /* the control session and one more */
    load_start(&load, key, LOAD_DEADLINE_MS);
    for (int ms = 0; ms < WAIT_MS && stats_of(token).sessions_usable > 1; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(stats_of(token).sessions_usable, 1);
    fault("sessions any");
    for (int ms = 0; ms < WAIT_MS && stats_of(token).sessions_usable < LOAD_SESSIONS; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    load_stop(&load);
    fault("reset");
    load_assert_unseen(&load, "no room for sessions");
    assert_int_equal(stats_of(token).sessions_usable, LOAD_SESSIONS);
    assert_int_equal(stats_of(token).losses, 0);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* Each stuck session has a replacement, which becomes stuck as well. */
static void
a_token_with_calls_stuck_in_all_its_sessions_is_not_ready(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT,
                                            .sessions = 2,
                                            .workers = 2,
                                            .verify_every = 1,
                                            .op_timeout_ms = SHORT_MS};
    struct hsm_token *token = load_token("one", &config);
    struct hsm_key *key = load_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_Sign block");
    for (unsigned i = 1; i <= 2 * config.sessions; i++) {
        assert_true(hsm_token_is_ready(token));
        stick_another(key, i);
        assert_int_equal(stats_of(token).stuck, i);
        assert_int_equal(stats_of(token).stuck_now, i);
    }
    assert_false(hsm_token_is_ready(token));
    assert_int_equal(stats_of(token).service, HSM_ERR_BUSY);
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_BUSY);
    assert_int_equal(stats_of(token).stuck, 2 * config.sessions);
    fault("reset");
    load_assert_back_soon(token, key);
    for (int ms = 0; ms < WAIT_MS && stats_of(token).stuck_now > 0; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(stats_of(token).stuck_now, 0);
    assert_int_equal(stats_of(token).sessions_usable, config.sessions);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* The session that could not be opened has no call stuck in it. */
static void
a_session_without_room_is_tried_again_while_calls_are_stuck_in_all_others(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT,
                                            .sessions = 2,
                                            .workers = 2,
                                            .op_timeout_ms = SHORT_MS,
                                            .probe_ms = PROBE_MS};
    struct hsm_token *token = load_token("one", &config);
    struct hsm_key *key = load_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];
    struct load load;

    (void)state;
    fault("sessions 2"); /* the control session and one more */
    load_start(&load, key, LOAD_DEADLINE_MS);
    for (int ms = 0; ms < WAIT_MS && stats_of(token).sessions_usable > 1; ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    load_stop(&load);
    assert_int_equal(stats_of(token).sessions_usable, 1);
    fault("on C_Sign times 2 block");
    stick_another(key, 1);
    fault("sessions 3"); /* and the replacement */
    stick_another(key, 2);
    fault("sessions any");
    for (int ms = 0; ms < WAIT_MS && !hsm_token_is_ready(token); ms += STEP_MS)
        load_sleep_ms(STEP_MS);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    assert_int_equal(stats_of(token).stuck_now, 2);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- many keys ---- */

#define KEYS      16
#define KEY_MS    5 /* for each call */
#define SECOND_MS 1000 /* longer than for one key, shorter than for all */

static void *
sign_patiently(void *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    return hsm_key_sign_digest_within(key, load_digest, 10 * SECOND_MS, HSM_WAIT_FOR_RECOVERY,
                                      sig) == HSM_OK
               ? key
               : NULL;
}

static void
a_recovery_that_has_many_keys_to_look_for_is_not_stuck(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT, .op_timeout_ms = SECOND_MS};
    struct hsm_token *token = load_token("changing", &config);
    struct hsm_key *keys[KEYS] = {NULL};
    pthread_t thread;
    void *good = NULL;
    double begin;

    (void)state;
    for (size_t i = 0; i < KEYS; i++) {
        char label[16];

        snprintf(label, sizeof(label), "many-%zu", i);
        assert_int_equal(hsm_key_generate(token, label, &keys[i]), HSM_OK);
    }
    fault("latency C_GetAttributeValue,C_FindObjectsInit,C_FindObjects %dms", KEY_MS);
    fault("reboot");
    begin = load_now_ms();
    assert_int_equal(pthread_create(&thread, NULL, sign_patiently, keys[0]), 0);
    while (stats_of(token).recoveries == 0 && load_now_ms() - begin < 10 * SECOND_MS) {
        assert_int_equal(stats_of(token).stuck_now, 0);
        load_sleep_ms(STEP_MS);
    }
    assert_true(load_now_ms() - begin > SECOND_MS);
    assert_int_equal(pthread_join(thread, &good), 0);
    assert_non_null(good);
    assert_int_equal(stats_of(token).stuck, 0);
    fault("reset");
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(hsm_key_destroy(keys[i]), HSM_OK);
        hsm_key_free(keys[i]);
    }
    hsm_token_close(token);
}

static void
mend_what_is_lost(void *context, const struct hsm_event *event)
{
    (void)context;
    if (event->kind == HSM_EVENT_LOST)
        fault("reset");
}

/* A vendor-defined value can mean an unknown attribute or a lost connection. */
static void
a_key_that_is_read_while_the_token_is_lost_is_not_refused(void **state)
{
    const struct hsm_token_config config = {.route = HSM_ROUTE_DIRECT, .event = mend_what_is_lost};
    struct hsm_token *token = load_token("one", &config);
    struct hsm_key *key = NULL;

    (void)state;
    fault("on C_GetAttributeValue after 4 rv 0x80000042"); /* after the calls that find the pair */
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_ERR_UNSUPPORTED);
    assert_null(key);
    fault("reset\non C_GetAttributeValue after 4 rv 0x80000042\n"
          "on C_GetAttributeValue after 4 times 1 reboot");
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_OK);
    assert_int_equal(stats_of(token).recoveries, 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

static int
start(void **state)
{
    (void)state;
    load_prepare();
    machine_watch();
    hsm_log_open(&(struct hsm_log_config){
        "test", HSM_LOG_TEXT, getenv("STI_TEST_LOG") != NULL ? HSM_LOG_DEBUG : HSM_LOG_ERROR});
    snprintf(behind, sizeof(behind), "%s", softhsm_module());
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token("one"));
    hsm_token_close(softhsm_token("two"));
    hsm_token_close(softhsm_token("changing"));
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
        cmocka_unit_test(others_end_at_their_deadline_while_a_call_is_stuck_in_a_serial_module),
        cmocka_unit_test(a_call_that_is_not_a_signature_is_counted_when_it_is_stuck),
        cmocka_unit_test(
            calls_of_a_token_that_came_back_are_out_of_the_module_when_another_restarts_it),
        cmocka_unit_test(a_token_that_is_closed_is_out_of_the_module_when_another_restarts_it),
        cmocka_unit_test(
            a_call_of_one_token_that_is_given_up_keeps_another_from_restarting_the_module),
        cmocka_unit_test(a_module_that_does_not_start_keeps_nobody_from_another),
        cmocka_unit_test(a_pin_of_which_one_try_is_left_is_not_presented),
        cmocka_unit_test(a_token_that_was_lost_is_logged_in_to_with_the_pin_that_was_given_last),
        cmocka_unit_test(sessions_without_room_are_tried_again),
        cmocka_unit_test(a_token_with_calls_stuck_in_all_its_sessions_is_not_ready),
        cmocka_unit_test(a_session_without_room_is_tried_again_while_calls_are_stuck_in_all_others),
        cmocka_unit_test(a_recovery_that_has_many_keys_to_look_for_is_not_stuck),
        cmocka_unit_test(a_key_that_is_read_while_the_token_is_lost_is_not_refused),
    };

    return skips_run_group_tests(tests, start, stop);
}
