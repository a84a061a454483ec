/*
 * test_recovery.c - tokens that fail under load: slot.c, recover.c, signer.c, worker.c, pool.c.
 *
 * Every signature that is returned is verified. test_soak.c has all faults of the table.
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

#include <openssl/evp.h>

#include <hsm/es256.h>
#include <hsm/key.h>
#include <hsm/log.h>

#include "fault_client.h"
#include "load.h"
#include "machine.h"
#include "skips.h"
#include "softhsm.h"

static void
assert_refuses_to_sign(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t len = sizeof(der);

    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_int_not_equal(EVP_PKEY_sign(ctx, der, &len, load_digest, sizeof(load_digest)), 1);
    EVP_PKEY_CTX_free(ctx);
}

/* A refused key may fail with any status until it is checked again. */
static enum hsm_status
eventually_signs(struct hsm_key *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = HSM_ERR_BUSY;

    for (int i = 0; i < 100 && st != HSM_OK; i++) {
        st = hsm_key_sign_verified(key, load_message, strlen(load_message), sig);
        load_sleep_ms(st == HSM_OK ? 0 : 20);
    }
    return st;
}

static const struct hsm_token_config direct = {
    .route = HSM_ROUTE_DIRECT, .sessions = 4, .verify_every = 1, .op_timeout_ms = LOAD_DEADLINE_MS};
static const struct hsm_token_config libp11 = {
    .route = HSM_ROUTE_LIBP11, .sessions = 4, .verify_every = 1, .op_timeout_ms = LOAD_DEADLINE_MS};
static const struct hsm_token_config workers = {.route = HSM_ROUTE_DIRECT,
                                                .sessions = 4,
                                                .workers = 6,
                                                .verify_every = 1,
                                                .op_timeout_ms = LOAD_DEADLINE_MS};

/* ---- outages ---- */

static void
nobody_sees_an_outage_shorter_than_the_deadline(void **state)
{
    struct hsm_token *token = load_token("falling", &libp11);
    struct hsm_key *key = load_key(token);
    struct hsm_token_stats stats;
    struct load load;

    (void)state;
    load_start(&load, key, LOAD_DEADLINE_MS);
    load_sleep_ms(50);
    fault("remove for 1s");
    load_sleep_ms(1000);
    load_assert_back_soon(token, key);
    load_stop(&load);
    fault("reset");
    load_assert_unseen(&load, "away for 1 s");
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.losses, stats.recoveries);
    assert_int_equal(stats.timeouts, 0);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
calls_end_at_their_deadline_while_the_token_is_away(void **state)
{
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);
    struct load load;

    (void)state;
    fault("remove");
    load_start(&load, key, 100);
    load_sleep_ms(300);
    load_stop(&load);
    assert_int_equal(load.good, 0);
    assert_int_equal(load.late, 0);
    assert_true(load.refused >= LOAD_CALLERS);
    assert_false(hsm_token_is_ready(token));
    fault("return");
    load_assert_back_soon(token, key);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* The meaning of such a value is unknown, and some vendors report lost connections with it. */
static void
a_vendors_own_error_is_got_over_as_a_lost_session_is(void **state)
{
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);
    struct hsm_token_stats stats;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_Sign times 1 rv 0x80000030");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.losses, 0);
    assert_int_equal(stats.sessions_dropped, 1);
    fault("on C_SignInit for 200ms rv 0x80000030");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_true(stats.losses > 0);
    assert_int_equal(stats.failures, 0);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* X509_sign() and TLS servers hold the EVP_PKEY for months. */
static void
an_evp_pkey_survives_all_of_it(void **state)
{
    struct hsm_token *token = load_token("falling", &libp11);
    struct hsm_key *key = load_key(token);
    EVP_PKEY *pkey = hsm_key_pkey(key);
    static const char *const losses[] = {"reboot",          "logout",   "renumber",
                                         "renumber slots",  "finalize", "drop all",
                                         "remove for 100ms"};

    (void)state;
    assert_int_equal(EVP_PKEY_up_ref(pkey), 1);
    hsm_key_free(key);
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
        uint8_t der[HSM_P256_DER_SIG_MAX];
        size_t len = sizeof(der);

        fault("%s", losses[i]);
        assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
        if (EVP_PKEY_sign(ctx, der, &len, load_digest, sizeof(load_digest)) != 1)
            fail_msg("after %s", losses[i]);
        EVP_PKEY_CTX_free(ctx);
    }
    fault("reset");
    hsm_token_close(token);
    assert_refuses_to_sign(pkey);
    EVP_PKEY_free(pkey);
}

/* ---- verified signatures ---- */

#define NEVER 1000000000 /* value of verify_every */

static void *
sign_one(void *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = hsm_key_sign_digest(key, load_digest, sig);

    return st == HSM_OK && hsm_es256_verify(hsm_key_public(key), load_message, strlen(load_message),
                                            sig, sizeof(sig)) == HSM_OK
               ? key
               : NULL;
}

/* Sign once in each session at the same time; returns how many of the signatures were verified. */
static uint64_t
verified_of_one_in_each_session(struct hsm_token *token, struct hsm_key *key)
{
    pthread_t callers[LOAD_SESSIONS];
    struct hsm_token_stats before;
    struct hsm_token_stats after;

    hsm_token_stats(token, &before);
    fault("on C_Sign times %d block", LOAD_SESSIONS);
    for (unsigned i = 0; i < LOAD_SESSIONS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, sign_one, key), 0);
    for (int i = 0; i < 400 && fault_number("held") < LOAD_SESSIONS; i++)
        load_sleep_ms(5);
    fault("release");
    for (unsigned i = 0; i < LOAD_SESSIONS; i++) {
        void *good = NULL;

        assert_int_equal(pthread_join(callers[i], &good), 0);
        assert_non_null(good);
    }
    fault("reset");
    hsm_token_stats(token, &after);
    return after.verified - before.verified;
}

/* Sessions with a group of HSMs behind one slot may be on different members. */
static void
the_first_signature_in_each_session_is_verified(void **state)
{
    struct hsm_token_config config = direct;
    struct hsm_token *token;
    struct hsm_key *key;

    (void)state;
    config.verify_every = NEVER;
    config.op_timeout_ms = 20000;
    token = load_token("falling", &config);
    key = load_key(token);
    assert_int_equal(verified_of_one_in_each_session(token, key), LOAD_SESSIONS);
    assert_int_equal(verified_of_one_in_each_session(token, key), 0);
    fault("reboot");
    load_assert_back_soon(token, key);
    (void)verified_of_one_in_each_session(token, key); /* the sessions not used since */
    assert_int_equal(verified_of_one_in_each_session(token, key), 0);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- calls that are stuck in the module ---- */

static void
a_deadline_holds_while_a_call_is_stuck(void **state)
{
    struct hsm_token *token = load_token("falling", &workers);
    struct hsm_key *key = load_key(token);
    struct hsm_token_stats stats;
    struct load load;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_Sign times 3 block");
    load_start(&load, key, 500);
    load_sleep_ms(900);
    load_stop(&load);
    load_assert_sound(&load, "stuck");
    assert_true(load.refused >= 3); /* more if the machine is late */
    hsm_token_stats(token, &stats);
    assert_true(stats.stuck >= 3);
    assert_true(stats.stuck_now >= 3);
    fault("release");
    for (int i = 0; i < 100 && stats.stuck_now > 0; i++) {
        load_sleep_ms(10);
        hsm_token_stats(token, &stats);
    }
    assert_int_equal(stats.stuck_now, 0);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- permanent losses ---- */

static void
a_key_that_became_another_one_is_refused(void **state)
{
    static const char *const changes[] = {
        "on C_GetAttributeValue point other",
        "on C_GetAttributeValue attribute CKA_EXTRACTABLE true",
        "on C_GetAttributeValue attribute CKA_SENSITIVE false",
        "on C_GetAttributeValue attribute CKA_LOCAL false",
    };
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);

    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t sig[HSM_P256_SIG_LEN] = {0xaa};

        if (strstr(changes[i], "CKA_LOCAL") != NULL && getenv("STI_TEST_QUIRKS") != NULL)
            continue; /* waived by the quirks */
        fault("%s\nreboot", changes[i]);
        assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_UNTRUSTED);
        assert_int_equal(sig[0], 0xaa);
        fault("reset");
        fault("reboot");
        assert_int_equal(eventually_signs(key), HSM_OK);
    }
    hsm_key_free(key);
    hsm_token_close(token);
}

/* A module that does not report CKA_LOCAL can be used if the configuration allows it; the other
 * attributes are still checked. */
static void
an_origin_that_is_not_told_is_waived_by_the_configuration_alone(void **state)
{
    struct hsm_token_config waived = direct;
    struct hsm_token *token;
    struct hsm_key *key;

    (void)state;
    if (getenv("STI_TEST_QUIRKS") != NULL)
        skip(); /* this module never reports it and is tested with that quirk */
    token = load_token("falling", &direct);
    key = load_key(token);
    hsm_key_free(key);
    fault("on C_GetAttributeValue attribute CKA_LOCAL false");
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_ERR_UNTRUSTED);
    hsm_token_close(token);
    waived.quirks = "known,origin-untold";
    token = load_token("falling", &waived);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_OK);
    hsm_key_free(key);
    fault("on C_GetAttributeValue attribute CKA_ALWAYS_SENSITIVE false");
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_ERR_UNTRUSTED);
    fault("reset");
    hsm_token_close(token);
}

static void
settings_out_of_their_range_are_refused(void **state)
{
    static const struct hsm_token_config bad[] = {
        {.quirks = "origin-told"},   {.quirks = "id=1"},           {.quirks = "sessions=0"},
        {.quirks = "known;restart"}, {.sessions = 1025},           {.workers = 257},
        {.reconnect_max_ms = 5001},  {.reconnect_min_ms = 600},    {.op_timeout_ms = 600001},
        {.quirks = "connections=0"}, {.quirks = "connections=17"}, {.quirks = "connections=x"},
    };
    struct hsm_secret *pin = NULL;

    (void)state;
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hsm_token_config config = bad[i];
        struct hsm_token *token = NULL;

        config.uri = "pkcs11:token=falling";
        config.module = softhsm_module();
        config.pin = pin;
        if (hsm_token_open(&config, &token) != HSM_ERR_USAGE)
            fail_msg("row %zu", i);
        assert_null(token);
    }
    hsm_secret_free(pin);
}

static void
a_key_that_is_gone_is_not_found_and_may_come_back(void **state)
{
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_FindObjects for 500ms objects empty\nreboot"); /* replication between HSMs lags */
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_OK);
    fault("on C_FindObjects objects empty\nreboot");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_NOT_FOUND);
    fault("reset");
    assert_int_equal(eventually_signs(key), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* The answers of a busy token, for every function. */
static void
a_token_that_is_throttled_finds_reads_generates_and_destroys_all_the_same(void **state)
{
    static const char *const functions[] = {"C_FindObjectsInit", "C_FindObjects",
                                            "C_GetAttributeValue", "C_GenerateKeyPair",
                                            "C_DestroyObject"};
    static const char *const answers[] = {"CKR_FUNCTION_FAILED", "CKR_DEVICE_MEMORY",
                                          "CKR_FUNCTION_CANCELED"};
    struct hsm_token *token = load_token("falling", &direct);

    (void)state;
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        for (size_t j = 0; j < sizeof(answers) / sizeof(answers[0]); j++) {
            struct hsm_key *key = NULL;
            struct hsm_key *found = NULL;

            fault("on %s times 3 rv %s", functions[i], answers[j]);
            if (hsm_key_generate(token, "throttled", &key) != HSM_OK ||
                hsm_key_find(token, "pkcs11:object=throttled", &found) != HSM_OK ||
                hsm_key_destroy(key) != HSM_OK)
                fail_msg("%s: %s", functions[i], answers[j]);
            assert_int_equal(fault_number("struck 1"), 3);
            hsm_key_free(found);
            hsm_key_free(key);
            fault("reset");
        }
    }
    hsm_token_close(token);
}

/* A key is not generated twice, and a destroyed key is not taken for an existing one. */
static void
what_was_done_and_answered_with_an_error_is_not_done_again(void **state)
{
    static const char *const answers[] = {"CKR_FUNCTION_FAILED", "CKR_FUNCTION_CANCELED",
                                          "CKR_GENERAL_ERROR"};
    struct hsm_token *token = load_token("falling", &direct);

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct hsm_key *key = NULL;

        fault("on C_GenerateKeyPair times 1 rv %s done", answers[i]);
        assert_int_equal(hsm_key_generate(token, "done", &key), HSM_ERR_BUSY);
        assert_null(key);
        assert_int_equal(fault_number("struck 1"), 1);
        fault("reset");
        assert_int_equal(hsm_key_find(token, "pkcs11:object=done", &key), HSM_OK);
        if (strcmp(answers[i], "CKR_GENERAL_ERROR") != 0) /* after it no destruction is repeated */
            fault("on C_DestroyObject times 1 rv %s done", answers[i]);
        assert_int_equal(hsm_key_destroy(key), HSM_OK);
        hsm_key_free(key);
        key = NULL;
        fault("reset");
        assert_int_equal(hsm_key_find(token, "pkcs11:object=done", &key), HSM_ERR_NOT_FOUND);
    }
    hsm_token_close(token);
}

static void
a_function_that_was_cancelled_is_called_once_more(void **state)
{
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);
    struct hsm_token_stats stats;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_Sign times 1 rv CKR_FUNCTION_CANCELED");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.sessions_dropped, 0);
    assert_int_equal(stats.retries, 1);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* Keys made by another program: CKR_BUFFER_TOO_SMALL does not count as a failure of the token. */
static void
keys_with_names_and_parameters_of_any_length_are_listed(void **state)
{
    static const char *const attributes[] = {"CKA_LABEL", "CKA_ID", "CKA_EC_PARAMS"};
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);
    char octets[2 * 65 + 1];

    (void)state;
    memset(octets, '6', sizeof(octets) - 1);
    octets[sizeof(octets) - 1] = '\0';
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        struct hsm_key_info *infos = NULL;
        size_t count = 0;

        fault("on C_GetAttributeValue attribute %s hex:%s", attributes[i], octets);
        if (hsm_key_list(token, &infos, &count) != HSM_OK)
            fail_msg("%s of 65 octets", attributes[i]);
        assert_true(count > 0);
        free(infos);
        fault("reset");
    }
    hsm_key_free(key);
    hsm_token_close(token);
}

struct told {
    atomic_uint of_kind[16];
};

static void
note(void *context, const struct hsm_event *event)
{
    struct told *told = context;

    told->of_kind[event->kind]++;
}

static void
events_tell_of_all_of_it(void **state)
{
    struct told told = {0};
    struct hsm_token_config config = direct;
    struct hsm_token *token;
    struct hsm_key *key;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    config.event = note;
    config.event_context = &told;
    config.verify_every = 1;
    token = load_token("falling", &config);
    key = load_key(token);
    fault("on C_Sign times 1 signature flip");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_OK);
    assert_int_equal(told.of_kind[HSM_EVENT_WRONG_SIGNATURE], 1);
    assert_int_equal(told.of_kind[HSM_EVENT_LOST], 1);
    assert_int_equal(told.of_kind[HSM_EVENT_RECOVERED], 1);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* This applies to any answer, as a vendor may have its own value. */
static void
a_pin_that_is_refused_is_not_tried_again(void **state)
{
    static const char *const answers[] = {"CKR_PIN_INCORRECT", "0x80000005"};

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct hsm_token *token = load_token("locked-out", &direct);
        struct hsm_key *key = load_key(token);
        uint8_t sig[HSM_P256_SIG_LEN];
        unsigned long before = fault_number("count C_Login");

        fault("on C_Login rv %s\nreboot", answers[i]);
        assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
        load_sleep_ms(100);
        assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
        assert_int_equal(fault_number("count C_Login"), before + 1);
        fault("reset");
        assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
        hsm_key_free(key);
        hsm_token_close(token);
        hsm_token_forget_refusals();
    }
}

/* Another user's login says nothing about the PIN. */
static void
a_login_that_finds_another_user_is_tried_again(void **state)
{
    struct hsm_token *token = load_token("falling", &direct);
    struct hsm_key *key = load_key(token);

    (void)state;
    fault("on C_Login times 2 rv CKR_USER_ANOTHER_ALREADY_LOGGED_IN\nreboot");
    load_assert_back_soon(token, key);
    fault("reset");
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
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token("falling"));
    hsm_token_close(softhsm_token("locked-out"));
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
        cmocka_unit_test(nobody_sees_an_outage_shorter_than_the_deadline),
        cmocka_unit_test(calls_end_at_their_deadline_while_the_token_is_away),
        cmocka_unit_test(a_vendors_own_error_is_got_over_as_a_lost_session_is),
        cmocka_unit_test(an_evp_pkey_survives_all_of_it),
        cmocka_unit_test(the_first_signature_in_each_session_is_verified),
        cmocka_unit_test(a_deadline_holds_while_a_call_is_stuck),
        cmocka_unit_test(a_key_that_became_another_one_is_refused),
        cmocka_unit_test(an_origin_that_is_not_told_is_waived_by_the_configuration_alone),
        cmocka_unit_test(settings_out_of_their_range_are_refused),
        cmocka_unit_test(a_key_that_is_gone_is_not_found_and_may_come_back),
        cmocka_unit_test(a_token_that_is_throttled_finds_reads_generates_and_destroys_all_the_same),
        cmocka_unit_test(what_was_done_and_answered_with_an_error_is_not_done_again),
        cmocka_unit_test(a_function_that_was_cancelled_is_called_once_more),
        cmocka_unit_test(keys_with_names_and_parameters_of_any_length_are_listed),
        cmocka_unit_test(events_tell_of_all_of_it),
        cmocka_unit_test(a_pin_that_is_refused_is_not_tried_again),
        cmocka_unit_test(a_login_that_finds_another_user_is_tried_again),
    };

    return skips_run_group_tests(tests, start, stop);
}
