/*
 * test_recovery.c - tokens that fail under load: slot.c, recover.c, signer.c, worker.c, pool.c.
 *
 * Every fault strikes while callers sign, and every signature that is given out is
 * verified. $STI_FAULT_SECONDS is how long the mixture of all faults lasts (2 when it is
 * not set), $STI_FAULT_SEED chooses it.
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
#include "softhsm.h"

#define CALLERS     8
#define DEADLINE_MS 3000
#define GRACE_MS    50 /* a call may take so much longer than its deadline */
#define RETURN_MS   1000 /* a token that is back serves again within */

/* On a loaded machine with sanitizers a thread may wait for its turn. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MACHINE_MS 400
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MACHINE_MS 400
#else
#define MACHINE_MS 50
#endif
#else
#define MACHINE_MS 50
#endif

static const char message[] = "a message";
static uint8_t digest[HSM_SHA256_LEN];

struct load {
    struct hsm_key *key;
    unsigned deadline_ms;
    atomic_bool over;
    atomic_uint good;
    atomic_uint refused;
    atomic_uint wrong; /* given out, and not a signature */
    atomic_uint late;
    pthread_t callers[CALLERS];
};

static double
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void
sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static struct hsm_token *
open_token(const char *label, const struct hsm_token_config *with)
{
    struct hsm_token_config config = *with;
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;
    char uri[64];

    snprintf(uri, sizeof(uri), "pkcs11:token=%s", label);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.uri = uri;
    config.module = softhsm_module();
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

static struct hsm_key *
the_key(struct hsm_token *token)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find_or_generate(token, "signer", &key), HSM_OK);
    return key;
}

static void
one_call(struct load *load)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    double begin = now_ms();
    enum hsm_status st = hsm_key_sign_digest_within(load->key, digest, load->deadline_ms,
                                                    HSM_WAIT_FOR_RECOVERY, sig);

    if (now_ms() - begin > load->deadline_ms + GRACE_MS + MACHINE_MS)
        load->late++;
    if (st != HSM_OK) {
        load->refused++;
        return;
    }
    load->good++;
    if (hsm_es256_verify(hsm_key_public(load->key), message, strlen(message), sig, sizeof(sig)) !=
        HSM_OK)
        load->wrong++;
}

static void *
call_until_over(void *argument)
{
    struct load *load = argument;

    while (!load->over)
        one_call(load);
    return NULL;
}

static void
load_start(struct load *load, struct hsm_key *key, unsigned deadline_ms)
{
    memset(load, 0, sizeof(*load));
    load->key = key;
    load->deadline_ms = deadline_ms;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&load->callers[i], NULL, call_until_over, load), 0);
}

static void
load_stop(struct load *load)
{
    load->over = true;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(load->callers[i], NULL), 0);
}

/* Nothing that was given out is wrong, nobody waited longer than they wanted to. */
static void
assert_sound(const struct load *load, const char *what)
{
    if (load->wrong > 0 || load->late > 0 || load->good == 0)
        fail_msg("%s: %u good, %u wrong, %u late, %u refused", what, load->good, load->wrong,
                 load->late, load->refused);
}

static void
assert_unseen(const struct load *load, const char *what)
{
    assert_sound(load, what);
    if (load->refused > 0)
        fail_msg("%s: %u of %u calls were refused", what, load->refused, load->good);
}

static void
assert_back_soon(struct hsm_token *token, struct hsm_key *key)
{
    double begin = now_ms();
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st =
        hsm_key_sign_digest_within(key, digest, RETURN_MS + MACHINE_MS, HSM_WAIT_FOR_RECOVERY, sig);

    if (st != HSM_OK || !hsm_token_is_ready(token))
        fail_msg("not back after %.0f ms: %s", now_ms() - begin, hsm_status_text(st));
}

static void
assert_refuses_to_sign(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t len = sizeof(der);

    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_int_not_equal(EVP_PKEY_sign(ctx, der, &len, digest, sizeof(digest)), 1);
    EVP_PKEY_CTX_free(ctx);
}

/* What a refused key says until the next look at it does not matter. */
static enum hsm_status
eventually_signs(struct hsm_key *key)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = HSM_ERR_BUSY;

    for (int i = 0; i < 100 && st != HSM_OK; i++) {
        st = hsm_key_sign_verified(key, message, strlen(message), sig);
        sleep_ms(st == HSM_OK ? 0 : 20);
    }
    return st;
}

/* ---- the table of faults ---- */

static const struct hsm_token_config direct = {
    .route = HSM_ROUTE_DIRECT, .sessions = 4, .verify_every = 1, .op_timeout_ms = DEADLINE_MS};
static const struct hsm_token_config libp11 = {
    .route = HSM_ROUTE_LIBP11, .sessions = 4, .verify_every = 1, .op_timeout_ms = DEADLINE_MS};
static const struct hsm_token_config workers = {.route = HSM_ROUTE_DIRECT,
                                                .sessions = 4,
                                                .workers = 6,
                                                .verify_every = 1,
                                                .op_timeout_ms = DEADLINE_MS};

/* A good caller gets over these without help. */
static void
strike_one_by_one(const struct hsm_token_config *config)
{
    static const unsigned faults[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,
                                      10, 12, 15, 16, 20, 21, 22, 23, 24};
    struct hsm_token *token = open_token("falling", config);
    struct hsm_key *key = the_key(token);

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct load load;
        char what[32];

        snprintf(what, sizeof(what), "fault %u", faults[i]);
        fault("fault %u chance 0.02 for 120ms", faults[i]);
        load_start(&load, key, DEADLINE_MS);
        sleep_ms(100);
        fault("fault 4 times 1"); /* so that what strikes in a recovery strikes, too */
        sleep_ms(100);
        load_stop(&load);
        fault("reset");
        assert_unseen(&load, what);
        assert_back_soon(token, key);
    }
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
faults_that_pass_are_not_seen_directly(void **state)
{
    (void)state;
    strike_one_by_one(&direct);
}

static void
faults_that_pass_are_not_seen_through_libp11(void **state)
{
    (void)state;
    strike_one_by_one(&libp11);
}

static void
faults_that_pass_are_not_seen_with_workers(void **state)
{
    (void)state;
    strike_one_by_one(&workers);
}

static unsigned
from_environment(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);

    return value != NULL ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* On a loaded machine few calls are made, and it may take a while until one of them is struck. */
static void
mix_for(const struct hsm_token *token, unsigned seconds)
{
    struct hsm_token_stats stats = {0};

    sleep_ms(seconds * 1000);
    for (int i = 0; i < 300 && stats.losses == 0; i++) {
        hsm_token_stats(token, &stats);
        sleep_ms(stats.losses == 0 ? 100 : 0);
    }
}

/* All that can strike a program that is running and has the right PIN. */
static void
strike_mixed(const struct hsm_token_config *config)
{
    struct hsm_token *token = open_token("falling", config);
    struct hsm_key *key = the_key(token);
    struct hsm_token_stats stats;
    struct load load;

    fault("random seed %u rate 0.003 faults "
          "1,2,3,4,5,6,7,8,9,10,12,14,15,16,17,18,20,21,22,23,24%s "
          "outage 20ms..300ms slow 5ms..20ms stuck 50ms..200ms gap 100ms",
          from_environment("STI_FAULT_SEED", 1), config->workers > 0 ? ",11" : "");
    load_start(&load, key, DEADLINE_MS);
    mix_for(token, from_environment("STI_FAULT_SECONDS", 2));
    fault("random off");
    fault("reset");
    load_stop(&load);
    hsm_token_stats(token, &stats);
    print_message("%u good, %u refused, %u late, %u wrong; %llu losses, %llu recoveries\n",
                  load.good, load.refused, load.late, load.wrong, (unsigned long long)stats.losses,
                  (unsigned long long)stats.recoveries);
    assert_sound(&load, "all faults");
    assert_true(stats.losses > 0);
    assert_back_soon(token, key);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
all_faults_at_once_directly(void **state)
{
    (void)state;
    strike_mixed(&direct);
}

static void
all_faults_at_once_through_libp11(void **state)
{
    (void)state;
    strike_mixed(&libp11);
}

static void
all_faults_at_once_with_workers(void **state)
{
    (void)state;
    strike_mixed(&workers);
}

/* ---- outages ---- */

static void
nobody_sees_an_outage_shorter_than_the_deadline(void **state)
{
    struct hsm_token *token = open_token("falling", &libp11);
    struct hsm_key *key = the_key(token);
    struct hsm_token_stats stats;
    struct load load;

    (void)state;
    load_start(&load, key, DEADLINE_MS);
    sleep_ms(50);
    fault("remove for 1s");
    sleep_ms(1000);
    assert_back_soon(token, key);
    load_stop(&load);
    fault("reset");
    assert_unseen(&load, "away for 1 s");
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.losses, stats.recoveries);
    assert_int_equal(stats.timeouts, 0);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
calls_end_at_their_deadline_while_the_token_is_away(void **state)
{
    struct hsm_token *token = open_token("falling", &direct);
    struct hsm_key *key = the_key(token);
    struct load load;

    (void)state;
    fault("remove");
    load_start(&load, key, 100);
    sleep_ms(300);
    load_stop(&load);
    assert_int_equal(load.good, 0);
    assert_int_equal(load.late, 0);
    assert_true(load.refused >= CALLERS);
    assert_false(hsm_token_is_ready(token));
    fault("return");
    assert_back_soon(token, key);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* X509_sign() and TLS servers hold it for months. */
static void
an_evp_pkey_survives_all_of_it(void **state)
{
    struct hsm_token *token = open_token("falling", &libp11);
    struct hsm_key *key = the_key(token);
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
        if (EVP_PKEY_sign(ctx, der, &len, digest, sizeof(digest)) != 1)
            fail_msg("after %s", losses[i]);
        EVP_PKEY_CTX_free(ctx);
    }
    fault("reset");
    hsm_token_close(token);
    assert_refuses_to_sign(pkey);
    EVP_PKEY_free(pkey);
}

/* ---- calls that are stuck in the module ---- */

static void
a_deadline_holds_while_a_call_is_stuck(void **state)
{
    struct hsm_token *token = open_token("falling", &workers);
    struct hsm_key *key = the_key(token);
    struct hsm_token_stats stats;
    struct load load;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_Sign times 3 block");
    load_start(&load, key, 200);
    sleep_ms(600);
    load_stop(&load);
    assert_sound(&load, "stuck");
    assert_int_equal(load.refused, 3);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.stuck, 3);
    assert_int_equal(stats.stuck_now, 3);
    fault("release");
    for (int i = 0; i < 100 && stats.stuck_now > 0; i++) {
        sleep_ms(10);
        hsm_token_stats(token, &stats);
    }
    assert_int_equal(stats.stuck_now, 0);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- what is not got over ---- */

static void
a_key_that_became_another_one_is_refused(void **state)
{
    static const char *const changes[] = {
        "on C_GetAttributeValue point other",
        "on C_GetAttributeValue attribute CKA_EXTRACTABLE true",
        "on C_GetAttributeValue attribute CKA_SENSITIVE false",
        "on C_GetAttributeValue attribute CKA_LOCAL false",
    };
    struct hsm_token *token = open_token("falling", &direct);
    struct hsm_key *key = the_key(token);

    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t sig[HSM_P256_SIG_LEN] = {0xaa};

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

/* Modules that never say CKA_LOCAL are used by who says so, and what says more is still asked for.
 */
static void
an_origin_that_is_not_told_is_waived_by_the_configuration_alone(void **state)
{
    struct hsm_token_config waived = direct;
    struct hsm_token *token = open_token("falling", &direct);
    struct hsm_key *key = the_key(token);

    (void)state;
    hsm_key_free(key);
    fault("on C_GetAttributeValue attribute CKA_LOCAL false");
    assert_int_equal(hsm_key_find(token, "pkcs11:object=signer", &key), HSM_ERR_UNTRUSTED);
    hsm_token_close(token);
    waived.quirks = "known,origin-untold";
    token = open_token("falling", &waived);
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
        {.quirks = "origin-told"},   {.quirks = "id=1"},        {.quirks = "sessions=0"},
        {.quirks = "known;restart"}, {.sessions = 1025},        {.workers = 257},
        {.reconnect_max_ms = 5001},  {.reconnect_min_ms = 600}, {.op_timeout_ms = 600001},
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
    struct hsm_token *token = open_token("falling", &direct);
    struct hsm_key *key = the_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    fault("on C_FindObjects for 500ms objects empty\nreboot"); /* copies between HSMs lag */
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_OK);
    fault("on C_FindObjects objects empty\nreboot");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_NOT_FOUND);
    fault("reset");
    assert_int_equal(eventually_signs(key), HSM_OK);
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
    token = open_token("falling", &config);
    key = the_key(token);
    fault("on C_Sign times 1 signature flip");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_OK);
    assert_int_equal(told.of_kind[HSM_EVENT_WRONG_SIGNATURE], 1);
    assert_int_equal(told.of_kind[HSM_EVENT_LOST], 1);
    assert_int_equal(told.of_kind[HSM_EVENT_RECOVERED], 1);
    fault("reset");
    hsm_key_free(key);
    hsm_token_close(token);
}

/* The last one: the latch is for the life of the process. */
static void
a_pin_that_is_refused_is_not_tried_again(void **state)
{
    struct hsm_token *token = open_token("latched", &direct);
    struct hsm_key *key = the_key(token);
    uint8_t sig[HSM_P256_SIG_LEN];
    unsigned long before;

    (void)state;
    before = fault_number("count C_Login");
    fault("on C_Login rv CKR_PIN_INCORRECT\nreboot");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    sleep_ms(100);
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    assert_int_equal(fault_number("count C_Login"), before + 1);
    fault("reset");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    hsm_key_free(key);
    hsm_token_close(token);
}

static int
start(void **state)
{
    (void)state;
    assert_int_equal(EVP_Digest(message, strlen(message), digest, NULL, EVP_sha256(), NULL), 1);
    hsm_log_open(&(struct hsm_log_config){
        "test", HSM_LOG_TEXT, getenv("STI_TEST_LOG") != NULL ? HSM_LOG_DEBUG : HSM_LOG_ERROR});
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token("falling"));
    hsm_token_close(softhsm_token("latched"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_that_pass_are_not_seen_directly),
        cmocka_unit_test(faults_that_pass_are_not_seen_through_libp11),
        cmocka_unit_test(faults_that_pass_are_not_seen_with_workers),
        cmocka_unit_test(all_faults_at_once_directly),
        cmocka_unit_test(all_faults_at_once_through_libp11),
        cmocka_unit_test(all_faults_at_once_with_workers),
        cmocka_unit_test(nobody_sees_an_outage_shorter_than_the_deadline),
        cmocka_unit_test(calls_end_at_their_deadline_while_the_token_is_away),
        cmocka_unit_test(an_evp_pkey_survives_all_of_it),
        cmocka_unit_test(a_deadline_holds_while_a_call_is_stuck),
        cmocka_unit_test(a_key_that_became_another_one_is_refused),
        cmocka_unit_test(an_origin_that_is_not_told_is_waived_by_the_configuration_alone),
        cmocka_unit_test(settings_out_of_their_range_are_refused),
        cmocka_unit_test(a_key_that_is_gone_is_not_found_and_may_come_back),
        cmocka_unit_test(events_tell_of_all_of_it),
        cmocka_unit_test(a_pin_that_is_refused_is_not_tried_again),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
