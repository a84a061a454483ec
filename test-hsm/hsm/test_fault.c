/* test_fault.c - tokens that fail or give false answers: module.c, token.c, key.c and object.c,
 * with the shim. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/audit.h>
#include <hsm/es256.h>
#include <hsm/key.h>

#include "forking.h"
#include "softhsm.h"

#define CALLERS    64
#define SHORT_MS   300 /* for calls that are expected to fail */
#define PATIENT_MS 20000 /* for calls that wait for each other */

static void
tell_shim(const char *words)
{
    assert_int_equal(setenv("STI_SHIM", words, 1), 0);
}

static enum hsm_status
try_open_as(struct hsm_token_config config, struct hsm_token **out)
{
    struct hsm_secret *pin = NULL;
    enum hsm_status st;

    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.uri = "pkcs11:token=faulty";
    config.module = softhsm_module();
    config.pin = pin;
    st = hsm_token_open(&config, out);
    hsm_secret_free(pin);
    return st;
}

static enum hsm_status
try_open_with(unsigned op_timeout_ms, struct hsm_token **out)
{
    return try_open_as((struct hsm_token_config){.op_timeout_ms = op_timeout_ms}, out);
}

static enum hsm_status
try_open(struct hsm_token **out)
{
    return try_open_with(SHORT_MS, out);
}

/* With this fault opening fails with `expected`. */
static void
opening_fails(const char *words, enum hsm_status expected)
{
    struct hsm_token *token = NULL;

    alarm(60); /* a hang counts as a failure */
    tell_shim(words);
    if (try_open(&token) != expected)
        fail_msg("told %s: not \"%s\"", words, hsm_status_text(expected));
    assert_null(token);
    tell_shim("");
    assert_int_equal(try_open(&token), HSM_OK);
    hsm_token_close(token);
    alarm(0);
}

static void
a_token_without_sessions_is_unavailable_and_does_not_hang(void **state)
{
    (void)state;
    opening_fails("C_OpenSession=0x30", HSM_ERR_BUSY); /* CKR_DEVICE_ERROR */
    opening_fails("C_OpenSession=0xe0", HSM_ERR_BUSY); /* CKR_TOKEN_NOT_PRESENT */
    opening_fails("C_OpenSession=0xb1", HSM_ERR_BUSY); /* CKR_SESSION_COUNT */
    opening_fails("sessions=0", HSM_ERR_BUSY);
    opening_fails("sessions=1", HSM_ERR_BUSY); /* none left for libp11 */
}

static void
tokens_that_cannot_be_used_are_not_opened(void **state)
{
    (void)state;
    opening_fails("C_Initialize=0x5", HSM_ERR_BUSY);
    opening_fails("no-ecdsa", HSM_ERR_UNSUPPORTED);
    opening_fails("flags=0x40000", HSM_ERR_DENIED); /* CKF_USER_PIN_LOCKED */
    opening_fails("flags=0x20000", HSM_ERR_DENIED); /* CKF_USER_PIN_FINAL_TRY */
    opening_fails("C_Login=0x30", HSM_ERR_BUSY); /* not about the PIN: may be retried */
    opening_fails("C_Login=0x102", HSM_ERR_DENIED); /* CKR_USER_PIN_NOT_INITIALIZED */
}

static void
a_token_whose_pin_cannot_be_set_is_not_ready(void **state)
{
    struct hsm_secret *pin = NULL;

    (void)state;
    assert_int_equal(hsm_secret_new("86420", 5, &pin), HSM_OK);
    tell_shim("C_InitPIN=0x30");
    assert_int_equal(hsm_token_init(softhsm_module(), "pinless", pin, pin), HSM_ERR_BUSY);
    tell_shim("");
    hsm_secret_free(pin);
}

static void
attributes_that_a_module_does_not_know_are_left_out(void **state)
{
    struct hsm_token *token = *state;
    struct hsm_key *key = NULL;
    uint8_t sig[HSM_P256_SIG_LEN];

    tell_shim("plain");
    assert_int_equal(hsm_key_generate(token, "plain", &key), HSM_OK);
    tell_shim("");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(key);
}

static void
a_hiccup_in_key_generation_is_tried_again(void **state)
{
    struct hsm_key *key = NULL;

    tell_shim("hiccup");
    assert_int_equal(hsm_key_generate(*state, "hiccup", &key), HSM_OK);
    tell_shim("");
    hsm_key_free(key);
}

/* With this fault generation fails with `expected` and leaves no key. */
static void
generation_fails(struct hsm_token *token, const char *words, enum hsm_status expected)
{
    struct hsm_key *key = NULL;

    tell_shim(words);
    if (hsm_key_generate(token, "not-made", &key) != expected)
        fail_msg("told %s: not \"%s\"", words, hsm_status_text(expected));
    tell_shim("");
    assert_null(key);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=not-made", &key), HSM_ERR_NOT_FOUND);
    assert_null(key);
}

static void
a_key_that_is_not_as_asked_is_destroyed(void **state)
{
    static const char *const lies[] = {
        "lie=0x103:0", /* CKA_SENSITIVE */
        "lie=0x165:0", /* CKA_ALWAYS_SENSITIVE */
        "lie=0x162:1", /* CKA_EXTRACTABLE */
        "lie=0x164:0", /* CKA_NEVER_EXTRACTABLE */
        "lie=0x163:0", /* CKA_LOCAL */
        "lie=0x166:0", /* CKA_KEY_GEN_MECHANISM, its lowest octet */
        "lie=0x105:1", /* CKA_DECRYPT */
        "lie=0x107:1", /* CKA_UNWRAP */
        "lie=0x10c:1", /* CKA_DERIVE */
        "lie=0x109:1", /* CKA_SIGN_RECOVER */
        "lie=0x1:0", /* CKA_TOKEN */
        "lie=0x2:0", /* CKA_PRIVATE */
        "ask=0x2:0", /* the attribute really has that value */
        "ask=0x109:1", "ask=0x10c:1",
    };

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        generation_fails(*state, lies[i], HSM_ERR_UNTRUSTED);
    generation_fails(*state, "lie=0x108:0", HSM_ERR_UNSUPPORTED); /* CKA_SIGN */
}

/* Leaves a key from a generation that was killed before the key was read back; runs in a child. */
static void
be_killed_in_generation(const char *words)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        struct hsm_token *token = NULL;
        struct hsm_key *key = NULL;

        if (try_open(&token) != HSM_OK)
            _exit(1);
        tell_shim(words);
        _exit(hsm_key_generate(token, "left-over", &key) == HSM_OK ? 2 : 3);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_key_that_was_never_read_back_is_read_before_its_first_use(void **state)
{
    struct hsm_token *token = NULL;
    struct hsm_key *key = NULL;

    (void)state;
    SKIP_WHERE_NO_FORK();
    alarm(60);
    be_killed_in_generation("killed,ask=0x10c:1"); /* CKA_DERIVE */
    assert_int_equal(try_open(&token), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "left-over", &key), HSM_ERR_UNTRUSTED);
    assert_null(key);
    hsm_token_close(token);
    alarm(0);
}

static void
a_short_id_that_is_taken_or_reserved_is_not_given_to_another_key(void **state)
{
    struct hsm_token *token = NULL;
    struct hsm_key *first = NULL;
    struct hsm_key *second = NULL;
    struct hsm_key *again = NULL;

    (void)state;
    tell_shim("random=616100ff");
    assert_int_equal(try_open_as((struct hsm_token_config){.quirks = "known,id=2"}, &token),
                     HSM_OK);
    assert_int_equal(hsm_key_generate(token, "short-one", &first), HSM_OK);
    assert_string_equal(hsm_key_id(first), "6161");
    assert_int_equal(hsm_key_generate(token, "short-other", &second), HSM_OK);
    assert_int_equal(strlen(hsm_key_id(second)), 4);
    assert_string_not_equal(hsm_key_id(second), "6161");
    assert_string_not_equal(hsm_key_id(second), "0000");
    assert_string_not_equal(hsm_key_id(second), "ffff");
    tell_shim("");
    assert_int_equal(hsm_key_find(token, "pkcs11:object=short-one", &again), HSM_OK);
    hsm_key_free(again);
    hsm_key_free(second);
    hsm_key_free(first);
    hsm_token_close(token);
}

static void
a_key_that_does_not_sign_is_destroyed(void **state)
{
    generation_fails(*state, "flip", HSM_ERR_CRYPTO);
    generation_fails(*state, "C_SignInit=0x68", HSM_ERR_DENIED);
    generation_fails(*state, "C_GenerateKeyPair=0x140", HSM_ERR_UNSUPPORTED);
    generation_fails(*state, "C_GenerateKeyPair=0x5", HSM_ERR_BUSY);
    generation_fails(*state, "C_GenerateRandom=0x30", HSM_ERR_BUSY);
}

static struct hsm_key *
found(struct hsm_token *token)
{
    struct hsm_key *key = NULL;

    tell_shim("");
    assert_int_equal(hsm_key_find_or_generate(token, "steady", &key), HSM_OK);
    return key;
}

/* End the fault; the token recovers within ten calls. */
static void
heals(struct hsm_key *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    tell_shim("");
    for (int tries = 0; tries < 10; tries++) {
        if (hsm_key_sign_verified(key, "x", 1, sig) == HSM_OK)
            return;
    }
    fail_msg("the token does not come back");
}

static void
damaged_signatures_are_never_given_out_as_verified(void **state)
{
    static const char *const damages[] = {"flip", "zero", "short"};
    struct hsm_key *key = found(*state);
    uint8_t sig[HSM_P256_SIG_LEN];

    memset(sig, 0xaa, sizeof(sig));
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        tell_shim(damages[i]);
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_ERR_CRYPTO);
        assert_int_equal(sig[0], 0xaa);
        heals(key);
    }
    tell_shim("zero");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_CRYPTO);
    assert_int_equal(sig[0], 0xaa);
    heals(key);
    hsm_key_free(key);
}

static enum hsm_status
sign_with(struct hsm_key *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    return hsm_key_sign_verified(key, "x", 1, sig);
}

static bool
comes_to_sign(struct hsm_key *key)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (sign_with(key) == HSM_OK)
            return true;
        usleep(10000);
    }
    return false;
}

/* Load the key as a catalogue reload does: the previous one is freed last. */
static void
load_again(struct hsm_token *token, const char *label, struct hsm_key **key)
{
    struct hsm_key *again = NULL;
    char uri[64];

    snprintf(uri, sizeof(uri), "pkcs11:object=%s", label);
    assert_int_equal(hsm_key_find(token, uri, &again), HSM_OK);
    hsm_key_free(*key);
    *key = again;
}

/* It does not matter which of the two keys the token is tested with first. */
static void
a_key_that_signs_wrongly_is_refused_alone(void **state)
{
    static const char *const labels[] = {"left", "right"};
    struct hsm_token *token = NULL;
    struct hsm_key *keys[2] = {NULL, NULL};
    struct hsm_token_stats before;
    struct hsm_token_stats after;

    (void)state;
    alarm(60);
    tell_shim("");
    assert_int_equal(
        try_open_as((struct hsm_token_config){.op_timeout_ms = PATIENT_MS, .probe_ms = 20}, &token),
        HSM_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(hsm_key_find_or_generate(token, labels[i], &keys[i]), HSM_OK);
    for (size_t bad = 0; bad < 2; bad++) {
        char words[32];

        snprintf(words, sizeof(words), "flip-of=%s", labels[bad]);
        tell_shim(words);
        assert_int_equal(sign_with(keys[bad]), HSM_ERR_CRYPTO);
        hsm_token_stats(token, &before);
        for (int i = 0; i < 20; i++) {
            if (i % 2 == 1)
                load_again(token, labels[bad], &keys[bad]);
            assert_int_equal(sign_with(keys[1 - bad]), HSM_OK);
            assert_int_equal(sign_with(keys[bad]), HSM_ERR_CRYPTO);
        }
        hsm_token_stats(token, &after);
        assert_int_equal(after.losses, before.losses); /* the token is not taken out of service */
        tell_shim("");
        assert_true(comes_to_sign(keys[bad]));
    }
    hsm_key_free(keys[0]);
    hsm_key_free(keys[1]);
    hsm_token_close(token);
    alarm(0);
}

/* Five: the caller's, and the four by which a key is tried in the recovery. Then the other key is
 * tried, and the token is good again. */
static void
a_fault_that_ends_during_the_recovery_is_not_held_against_a_key(void **state)
{
    struct hsm_token *token = NULL;
    struct hsm_key *keys[2] = {NULL, NULL};

    (void)state;
    alarm(60);
    tell_shim("");
    assert_int_equal(try_open(&token), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "left", &keys[0]), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "right", &keys[1]), HSM_OK);
    tell_shim("flips=5");
    assert_int_equal(sign_with(keys[0]), HSM_OK);
    tell_shim("");
    hsm_key_free(keys[0]);
    hsm_key_free(keys[1]);
    hsm_token_close(token);
    alarm(0);
}

static void
a_key_that_signed_wrongly_is_tried_again_before_the_next_probe(void **state)
{
    struct hsm_token *token = NULL;
    struct hsm_key *keys[2] = {NULL, NULL};

    (void)state;
    alarm(60);
    tell_shim("");
    assert_int_equal(
        try_open_as((struct hsm_token_config){.op_timeout_ms = PATIENT_MS, .probe_ms = 60000},
                    &token),
        HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "left", &keys[0]), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "right", &keys[1]), HSM_OK);
    tell_shim("flip-of=left");
    assert_int_equal(sign_with(keys[0]), HSM_ERR_CRYPTO);
    tell_shim("");
    assert_true(comes_to_sign(keys[0]));
    hsm_key_free(keys[0]);
    hsm_key_free(keys[1]);
    hsm_token_close(token);
    alarm(0);
}

static void
a_failed_signature_is_told_and_the_next_one_works(void **state)
{
    static const struct {
        const char *words;
        enum hsm_status status;
    } rows[] = {
        {"C_SignInit=0x30", HSM_ERR_BUSY}, /* CKR_DEVICE_ERROR */
        {"C_SignInit=0xb3", HSM_ERR_BUSY}, /* CKR_SESSION_HANDLE_INVALID */
        {"C_SignInit=0x101", HSM_ERR_BUSY}, /* CKR_USER_NOT_LOGGED_IN */
        {"C_SignInit=0x60", HSM_ERR_BUSY}, /* CKR_KEY_HANDLE_INVALID */
        {"C_SignInit=0x68", HSM_ERR_DENIED}, /* CKR_KEY_FUNCTION_NOT_PERMITTED */
        {"C_Sign=0x30", HSM_ERR_BUSY},
        {"C_Sign=0x80000001", HSM_ERR_BUSY}, /* vendor-defined, as used for lost connections */
    };
    struct hsm_key *key = found(*state);
    uint8_t sig[HSM_P256_SIG_LEN];

    memset(sig, 0xaa, sizeof(sig));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tell_shim(rows[i].words);
        if (hsm_key_sign(key, "x", 1, sig) != rows[i].status)
            fail_msg("told %s: not \"%s\"", rows[i].words, hsm_status_text(rows[i].status));
        assert_int_equal(sig[0], 0xaa);
        heals(key);
    }
    hsm_key_free(key);
}

static void
a_found_key_that_lies_is_refused(void **state)
{
    struct hsm_key *key = found(*state);
    struct hsm_key *again = NULL;

    hsm_key_free(key);
    tell_shim("lie=0x162:1");
    assert_int_equal(hsm_key_find(*state, "pkcs11:object=steady", &again), HSM_ERR_UNTRUSTED);
    tell_shim("lie=0x2:0"); /* CKA_PRIVATE */
    assert_int_equal(hsm_key_find(*state, "pkcs11:object=steady", &again), HSM_ERR_UNTRUSTED);
    tell_shim("C_FindObjects=0x30");
    assert_int_equal(hsm_key_find(*state, "pkcs11:object=steady", &again), HSM_ERR_BUSY);
    tell_shim("");
    assert_null(again);
}

static void
a_point_is_read_in_four_forms(void **state)
{
    static const char *const forms[] = {"point=raw", "point=xy", "point=bits"};
    struct hsm_key *key = found(*state);

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct hsm_key *again = NULL;
        uint8_t sig[HSM_P256_SIG_LEN];

        tell_shim(forms[i]);
        assert_int_equal(hsm_key_find(*state, "pkcs11:object=steady", &again), HSM_OK);
        tell_shim("");
        assert_memory_equal(hsm_key_point(again), hsm_key_point(key), HSM_P256_POINT_LEN);
        assert_true(hsm_key_matches(key, hsm_key_pkey(again)));
        assert_int_equal(hsm_key_sign_verified(again, "x", 1, sig), HSM_OK);
        hsm_key_free(again);
    }
    hsm_key_free(key);
}

struct caller {
    struct hsm_key *key;
    bool good;
};

static void *
sign_often(void *argument)
{
    struct caller *caller = argument;
    uint8_t sig[HSM_P256_SIG_LEN];

    caller->good = true;
    for (unsigned i = 0; i < 10 && caller->good; i++)
        caller->good = hsm_key_sign_verified(caller->key, "x", 1, sig) == HSM_OK;
    return NULL;
}

/* Uses a separate token, opened while sessions are limited. */
static void
many_callers_share_few_sessions(void **state)
{
    struct hsm_token *token = NULL;
    struct hsm_key *key = NULL;
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];

    (void)state;
    alarm(60);
    tell_shim("sessions=3");
    assert_int_equal(try_open_with(PATIENT_MS, &token), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(token, "steady", &key), HSM_OK);
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){key, false};
        assert_int_equal(pthread_create(&threads[i], NULL, sign_often, &callers[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(callers[i].good);
    }
    tell_shim("");
    hsm_key_free(key);
    hsm_token_close(token);
    alarm(0);
}

/* This test runs last, because it ends all use of the token in this process. */
static void
every_answer_about_the_pin_is_the_last(void **state)
{
    struct hsm_token *token = NULL;

    (void)state;
    tell_shim("C_Login=0xa4"); /* CKR_PIN_LOCKED */
    assert_int_equal(try_open(&token), HSM_ERR_DENIED);
    tell_shim("");
    assert_int_equal(try_open(&token), HSM_ERR_DENIED);
    assert_null(token);
}

static int
start(void **state)
{
    (void)state;
    setenv("STI_SHIM_BEHIND", softhsm_module(), 1);
    setenv("STI_TEST_MODULE", SHIM_MODULE, 1);
    setenv("STI_TEST_TIMEOUT_MS", "500", 1); /* short, as some calls must fail */
    setenv("STI_SHIM", "", 1);
    softhsm_start();
    hsm_token_close(softhsm_token("faulty"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

static int
open_token(void **state)
{
    return try_open((struct hsm_token **)state) == HSM_OK ? 0 : -1;
}

static int
close_token(void **state)
{
    hsm_token_close(*state);
    return 0;
}

#define ON_OPEN_TOKEN(test) cmocka_unit_test_setup_teardown(test, open_token, close_token)

/* The number of audit findings about keys that may wrap others. */
static size_t
wrapping_keys_found(struct hsm_token *token, const char *words)
{
    const struct hsm_audit_config config = {.program = "test_fault", .now = 1768478400};
    struct hsm_audit *audit = NULL;
    const json_t *report = NULL, *statement;
    size_t count = 0, i;

    tell_shim(words);
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    assert_int_equal(hsm_audit_token(audit, token), HSM_OK);
    tell_shim("");
    assert_int_equal(hsm_audit_finish(audit, &report), HSM_OK);
    json_array_foreach(json_object_get(report, "statements"), i, statement)
    {
        const char *id = json_string_value(json_object_get(statement, "id"));
        const char *verdict = json_string_value(json_object_get(statement, "verdict"));

        count += strcmp(id, "token.wrapping-key") == 0 && strcmp(verdict, "finding") == 0;
    }
    hsm_audit_free(audit);
    return count;
}

/* PKCS#11 v2.40: CKM_ECDH_AES_KEY_WRAP wraps under a public key on a curve. */
static void
a_public_key_on_a_curve_that_may_wrap_is_found_where_a_mechanism_does(void **state)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_generate(*state, "wrapper", &key), HSM_OK);
    assert_int_equal(wrapping_keys_found(*state, "lie=0x106:1"), 0); /* CKA_WRAP */
    assert_int_equal(wrapping_keys_found(*state, "lie=0x106:1,wraps=0x4038"), 0); /* X25519 */
    assert_int_equal(wrapping_keys_found(*state, "lie=0x106:0,wraps=0x1053"), 0);
    assert_true(wrapping_keys_found(*state, "lie=0x106:1,wraps=0x1053") > 0);
    assert_true(wrapping_keys_found(*state, "lie=0x106:1,wraps=0x4039") > 0); /* cofactor */
    hsm_key_free(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_without_sessions_is_unavailable_and_does_not_hang),
        cmocka_unit_test(tokens_that_cannot_be_used_are_not_opened),
        cmocka_unit_test(a_token_whose_pin_cannot_be_set_is_not_ready),
        cmocka_unit_test(a_key_that_was_never_read_back_is_read_before_its_first_use),
        ON_OPEN_TOKEN(attributes_that_a_module_does_not_know_are_left_out),
        ON_OPEN_TOKEN(a_hiccup_in_key_generation_is_tried_again),
        ON_OPEN_TOKEN(a_key_that_is_not_as_asked_is_destroyed),
        cmocka_unit_test(a_short_id_that_is_taken_or_reserved_is_not_given_to_another_key),
        ON_OPEN_TOKEN(a_key_that_does_not_sign_is_destroyed),
        ON_OPEN_TOKEN(damaged_signatures_are_never_given_out_as_verified),
        cmocka_unit_test(a_key_that_signs_wrongly_is_refused_alone),
        cmocka_unit_test(a_fault_that_ends_during_the_recovery_is_not_held_against_a_key),
        cmocka_unit_test(a_key_that_signed_wrongly_is_tried_again_before_the_next_probe),
        ON_OPEN_TOKEN(a_failed_signature_is_told_and_the_next_one_works),
        ON_OPEN_TOKEN(a_found_key_that_lies_is_refused),
        ON_OPEN_TOKEN(a_point_is_read_in_four_forms),
        ON_OPEN_TOKEN(a_public_key_on_a_curve_that_may_wrap_is_found_where_a_mechanism_does),
        cmocka_unit_test(many_callers_share_few_sessions),
        cmocka_unit_test(every_answer_about_the_pin_is_the_last),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
