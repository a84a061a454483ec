/* test_authority.c - mirrors acme/src/authority.c: login and construction. */
#define _GNU_SOURCE /* memmem, asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/ca_list.h>
#include <hsm/process.h>

#include "authority_service_group.h"

#define SESSION 600

/* ---- login ---- */

static void
login_refuses_a_wrong_password_and_an_unknown_user_alike(void **state)
{
    json_t *wrong = NULL;
    json_t *unknown = NULL;

    (void)state;
    assert_int_equal(
        post("/api/v1/auth/login", NULL, "{\"userId\":\"sp-two\",\"password\":\"guess\"}", &wrong),
        403);
    assert_int_equal(post("/api/v1/auth/login", NULL,
                          "{\"userId\":\"nobody\",\"password\":\"guess\"}", &unknown),
                     403);
    assert_string_equal(text_of(wrong, "status"), "error");
    assert_true(json_equal(wrong, unknown));
    json_decref(wrong);
    json_decref(unknown);
}

static void
login_refuses_what_is_not_a_login(void **state)
{
    static const struct {
        const char *body;
        int status;
    } rows[] = {
        {"", 400},
        {"{", 400},
        {"[]", 400},
        {"{\"userId\":\"sp-two\"}", 400},
        {"{\"userId\":\"sp-two\",\"password\":1}", 400},
        {"{\"userId\":\"sp-two\",\"userId\":\"sp-two\",\"password\":\"" PASSWORD "\"}", 400},
        {"{\"userId\":\"sp-two\",\"password\":\"" PASSWORD "\"} x", 400},
        {"{\"userId\":\"sp-two\",\"password\":\"\"}", 403},
        {"{\"userId\":\"SP-TWO\",\"password\":\"" PASSWORD "\"}", 403},
        {"{\"userId\":\"\",\"password\":\"" PASSWORD "\"}", 403},
    };
    char *long_user = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status = post("/api/v1/auth/login", NULL, rows[i].body, NULL);

        if (status != rows[i].status)
            fail_msg("%s: %d", rows[i].body, status);
    }
    assert_true(asprintf(&long_user, "{\"userId\":\"%0129d\",\"password\":\"x\"}", 0) > 0);
    assert_int_equal(post("/api/v1/auth/login", NULL, long_user, NULL), 400);
    free(long_user);
}

static void
ten_wrong_passwords_lock_a_user_out(void **state)
{
    const char *right = "{\"userId\":\"sp-lock\",\"password\":\"" PASSWORD "\"}";

    (void)state;
    atomic_store(&clock_stands_s, time(NULL));
    assert_int_equal(add_account("lock", "sp-lock", (const char *[]){"4321", NULL}, false), HSM_OK);
    for (int i = 0; i < ACME_AUTHORITY_FAILURES_MAX; i++)
        assert_int_equal(post("/api/v1/auth/login", NULL,
                              "{\"userId\":\"sp-lock\",\"password\":\"guess\"}", NULL),
                         403);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 429);
    atomic_store(&clock_offset_s, ACME_AUTHORITY_FAILURES_S / ACME_AUTHORITY_FAILURES_MAX - 20);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 429);
    atomic_store(&clock_offset_s, ACME_AUTHORITY_FAILURES_S + 10);
    acme_authority_refresh(authority);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 200);
}

/* Otherwise hashing passwords would keep the STI-PA busy for all other users. */
static void
who_tries_many_users_is_refused_before_a_hash_is_made(void **state)
{
    const char *right = "{\"userId\":\"sp-tried\",\"password\":\"" PASSWORD "\"}";

    (void)state;
    atomic_store(&clock_stands_s, time(NULL));
    assert_int_equal(add_account("tried", "sp-tried", (const char *[]){"4321", NULL}, false),
                     HSM_OK);
    atomic_store(&clock_offset_s, 10 * ACME_AUTHORITY_FAILURES_S);
    for (int i = 0; i < ACME_AUTHORITY_GUESSES_MAX; i++) {
        char body[128];

        snprintf(body, sizeof(body), "{\"userId\":\"guess-%d\",\"password\":\"x\"}", i);
        assert_int_equal(post("/api/v1/auth/login", NULL, body, NULL), 403);
    }
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 429);
    assert_int_equal(
        post("/api/v1/auth/login", NULL, "{\"userId\":\"address:unix\",\"password\":\"x\"}", NULL),
        403); /* not a valid user name */
    atomic_store(&clock_offset_s, 12 * ACME_AUTHORITY_FAILURES_S);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 200);
}

static void
wrong_passwords_of_a_clock_that_was_ahead_do_not_count(void **state)
{
    const char *right = "{\"userId\":\"sp-ahead\",\"password\":\"" PASSWORD "\"}";

    (void)state;
    atomic_store(&clock_stands_s, time(NULL));
    assert_int_equal(add_account("ahead", "sp-ahead", (const char *[]){"4321", NULL}, false),
                     HSM_OK);
    atomic_store(&clock_offset_s, 1000000);
    for (int i = 0; i < ACME_AUTHORITY_FAILURES_MAX; i++)
        assert_int_equal(post("/api/v1/auth/login", NULL,
                              "{\"userId\":\"sp-ahead\",\"password\":\"guess\"}", NULL),
                         403);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 429);
    atomic_store(&clock_offset_s, 0);
    assert_int_equal(post("/api/v1/auth/login", NULL, right, NULL), 200);
}

/* Whether a file contains `text`. */
static bool
file_holds(const char *path, const char *text)
{
    uint8_t *octets = NULL;
    size_t len = 0;
    bool found;

    if (hsm_file_read(path, 64 << 20, &octets, &len) != HSM_OK)
        return false;
    found = memmem(octets, len, text, strlen(text)) != NULL;
    free(octets);
    return found;
}

static void
store_holds_neither_passwords_nor_access_tokens(void **state)
{
    char *token = login("sp-two");
    char wal[4300];

    (void)state;
    snprintf(wal, sizeof(wal), "%s-wal", authority_group_store_path());
    assert_true(file_holds(authority_group_store_path(), "sp-two") || file_holds(wal, "sp-two"));
    assert_false(file_holds(authority_group_store_path(), PASSWORD) || file_holds(wal, PASSWORD));
    assert_false(file_holds(authority_group_store_path(), token) || file_holds(wal, token));
    free(token);
}

static void
access_token_expires_and_a_refresh_token_is_good_once(void **state)
{
    json_t *answer = NULL;
    json_t *again = NULL;
    char *body = NULL;
    char wish[512];

    (void)state;
    snprintf(wish, sizeof(wish),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    assert_int_equal(post("/api/v1/auth/login", NULL,
                          "{\"userId\":\"sp-1234\",\"password\":\"" PASSWORD "\"}", &answer),
                     200);
    assert_int_equal(post("/at/account/1234/token", text_of(answer, "accessToken"), wish, NULL),
                     200);
    atomic_store(&clock_offset_s, SESSION + 1);
    assert_int_equal(post("/at/account/1234/token", text_of(answer, "accessToken"), wish, NULL),
                     403);

    assert_true(asprintf(&body, "{\"refreshToken\":\"%s\"}", text_of(answer, "refreshToken")) > 0);
    assert_int_equal(post("/api/v1/auth/refresh", NULL, body, &again), 200);
    assert_int_equal(post("/at/account/1234/token", text_of(again, "accessToken"), wish, NULL),
                     200);
    assert_int_equal(post("/api/v1/auth/refresh", NULL, body, NULL), 403);
    assert_int_equal(post("/api/v1/auth/refresh", NULL, "{\"refreshToken\":\"x\"}", NULL), 403);
    /* An access token is not accepted as a refresh token, nor a refresh token as an access
     * token. */
    assert_int_equal(post("/at/account/1234/token", text_of(again, "refreshToken"), wish, NULL),
                     403);
    free(body);
    json_decref(answer);
    json_decref(again);
}

/* ---- construction ---- */

static void
restart_serves_the_same_list_and_another_signer_a_new_one(void **state)
{
    struct acme_authority_config config = authority_group_config(pa_clock);
    struct acme_ca_list *before = fetch_list(0, time(NULL));
    struct acme_ca_list *after;
    struct acme_http_reply reply = {0};

    (void)state;
    assert_non_null(before);
    acme_authority_free(authority);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    assert_int_equal(list_sequence(), acme_ca_list_sequence(before));

    /* The same key with a chain without its root: a different chain at a different URL. */
    acme_authority_free(authority);
    assert_int_equal(certs_chain_new((struct certs_chain **)&config.signer_chain), HSM_OK);
    assert_int_equal(certs_chain_add((struct certs_chain *)config.signer_chain,
                                     certs_chain_get(pa.signer_chain, 0)),
                     HSM_OK);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    after = fetch_list(acme_ca_list_sequence(before), time(NULL));
    assert_non_null(after);
    assert_int_equal(acme_ca_list_sequence(after), acme_ca_list_sequence(before) + 1);
    assert_string_not_equal(acme_ca_list_x5u(after), acme_ca_list_x5u(before));
    assert_int_equal(
        exchange("GET", acme_ca_list_x5u(before) + strlen(pa.base_url), NULL, NULL, NULL, &reply),
        200);
    acme_http_reply_clear(&reply);
    acme_authority_free(authority);
    certs_chain_free((struct certs_chain *)config.signer_chain);
    config = authority_group_config(pa_clock);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    acme_ca_list_free(before);
    acme_ca_list_free(after);
}

static void
two_instances_on_one_store_give_one_list(void **state)
{
    struct acme_authority_config config = authority_group_config(pa_clock);
    struct acme_authority *second = NULL;
    X509 *root = pa_fixture_ca_root(&pa, "sti-ca-root-2", "Second STI-CA");
    uint64_t before = list_sequence();

    (void)state;
    assert_int_equal(acme_authority_new(&config, &second), HSM_OK);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_OK);
    acme_authority_refresh(second);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), before + 1);
    acme_authority_free(second);
    X509_free(root);
}

static void
authority_refuses_a_key_beside_another_certificate(void **state)
{
    struct acme_authority_config config = authority_group_config(pa_clock);
    struct acme_authority *none = NULL;

    (void)state;
    config.signer_key = pa.crl_key;
    assert_int_equal(acme_authority_new(&config, &none), HSM_ERR_UNTRUSTED);
    config = authority_group_config(pa_clock);
    config.crl_chain = pa.signer_chain;
    assert_int_equal(acme_authority_new(&config, &none), HSM_ERR_UNTRUSTED);
    config = authority_group_config(pa_clock);
    config.list_lifetime_s = 0;
    assert_int_equal(acme_authority_new(&config, &none), HSM_ERR_USAGE);
    config = authority_group_config(pa_clock);
    config.base_url = "http://pa.example";
    assert_int_equal(acme_authority_new(&config, &none), HSM_ERR_USAGE);
    assert_null(none);
}

static void
accounts_that_are_refused(void **state)
{
    static const char *const one[] = {"1234", NULL};
    static const char *const none[] = {NULL};
    static const char *const bad[] = {"1234", "12-34", NULL};
    char long_id[ACME_AUTHORITY_ID_MAX + 2];
    const struct {
        const char *id, *user;
        const char *const *spcs;
        enum hsm_status status;
    } rows[] = {
        {"1234", "fresh", one, HSM_ERR_EXISTS},      {"fresh", "sp-1234", one, HSM_ERR_EXISTS},
        {"", "fresh", one, HSM_ERR_MALFORMED},       {"a/b", "fresh", one, HSM_ERR_MALFORMED},
        {"..", "fresh", one, HSM_ERR_MALFORMED},     {"fresh", "", one, HSM_ERR_MALFORMED},
        {"fresh", "a:b", one, HSM_ERR_MALFORMED},    {"fresh", "a\nb", one, HSM_ERR_MALFORMED},
        {"fresh", "fresh", none, HSM_ERR_MALFORMED}, {"fresh", "fresh", bad, HSM_ERR_MALFORMED},
        {long_id, "fresh", one, HSM_ERR_MALFORMED},
    };

    (void)state;
    memset(long_id, 'a', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum hsm_status st = add_account(rows[i].id, rows[i].user, rows[i].spcs, false);

        if (st != rows[i].status)
            fail_msg("row %zu: %s", i, hsm_status_text(st));
    }
    /* A refused account leaves nothing behind. */
    assert_int_equal(add_account("fresh", "fresh", one, false), HSM_OK);
}

static void
only_roots_are_trusted(void **state)
{
    (void)state;
    assert_int_equal(acme_authority_ca_add(store, certs_chain_get(pa.signer_chain, 0)),
                     HSM_ERR_UNTRUSTED);
}

static size_t
reasons_not_ready(void)
{
    json_t *reasons = json_array();
    size_t count;

    acme_authority_not_ready(authority, reasons);
    count = json_array_size(reasons);
    json_decref(reasons);
    return count;
}

/* The stored list and CRL are no longer served, and their successors are not signed yet. */
static void
a_restored_store_is_ready_when_higher_numbers_are_signed(void **state)
{
    (void)state;
    acme_authority_refresh(authority);
    assert_int_equal(reasons_not_ready(), 0);
    assert_int_equal(acme_authority_numbers_raise(store, 1000000, 0, time(NULL)), HSM_OK);
    assert_int_equal(reasons_not_ready(), 1);
    assert_int_equal(acme_authority_numbers_raise(store, 0, 1000000, time(NULL)), HSM_OK);
    assert_int_equal(reasons_not_ready(), 2);
    acme_authority_refresh(authority);
    assert_int_equal(reasons_not_ready(), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(login_refuses_a_wrong_password_and_an_unknown_user_alike,
                                  reset_clock),
        cmocka_unit_test_teardown(login_refuses_what_is_not_a_login, reset_clock),
        cmocka_unit_test_teardown(store_holds_neither_passwords_nor_access_tokens, reset_clock),
        cmocka_unit_test_teardown(access_token_expires_and_a_refresh_token_is_good_once,
                                  reset_clock),
        cmocka_unit_test_teardown(ten_wrong_passwords_lock_a_user_out, reset_clock),
        cmocka_unit_test_teardown(who_tries_many_users_is_refused_before_a_hash_is_made,
                                  reset_clock),
        cmocka_unit_test_teardown(wrong_passwords_of_a_clock_that_was_ahead_do_not_count,
                                  reset_clock),
        cmocka_unit_test_teardown(restart_serves_the_same_list_and_another_signer_a_new_one,
                                  reset_clock),
        cmocka_unit_test_teardown(two_instances_on_one_store_give_one_list, reset_clock),
        cmocka_unit_test_teardown(authority_refuses_a_key_beside_another_certificate, reset_clock),
        cmocka_unit_test_teardown(accounts_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(only_roots_are_trusted, reset_clock),
        cmocka_unit_test_teardown(a_restored_store_is_ready_when_higher_numbers_are_signed,
                                  reset_clock),
    };

    return cmocka_run_group_tests(tests, authority_service_start, authority_service_stop);
}
