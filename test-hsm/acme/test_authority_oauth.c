/* test_authority_oauth.c - mirrors acme/src/authority_oauth.c. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <jansson.h>

#include <acme/authority.h>
#include <acme/base64url.h>
#include <acme/store.h>

#include "authority_service_group.h"

#define ENDPOINT  "/api/v1/auth/token"
#define FORM_TYPE "application/x-www-form-urlencoded"
#define GRANT     "grant_type=client_credentials"
#define SESSION   600 /* seconds, of authority_group_config() */

/* "Basic" with these texts as they stand; free() it. */
static char *
basic(const char *user, const char *password)
{
    char *pair = NULL, *header = NULL, *encoded;

    assert_true(asprintf(&pair, "%s:%s", user, password) > 0);
    encoded = acme_base64_encode(pair, strlen(pair));
    assert_true(encoded != NULL && asprintf(&header, "Basic %s", encoded) > 0);
    free(encoded);
    free(pair);
    return header;
}

/* @return the status; *answer: to be decref'd */
static int
ask(const char *authorization, const char *type, const char *body, json_t **answer)
{
    struct acme_http_reply reply = {0};
    int status = exchange("POST", ENDPOINT, authorization, type, body, &reply);

    *answer = json_loadb(reply.body, reply.body_len, 0, NULL);
    assert_non_null(*answer);
    assert_string_equal(reply.cache_control, "no-store");
    acme_http_reply_clear(&reply);
    return status;
}

static void
assert_error(const char *authorization, const char *type, const char *body, int status,
             const char *error)
{
    json_t *answer = NULL;
    int got = ask(authorization, type, body, &answer);

    if (got != status || strcmp(text_of(answer, "error"), error) != 0)
        fail_msg("%s: %d %s, wanted %d %s", body, got, text_of(answer, "error"), status, error);
    assert_non_null(text_of(answer, "error_description"));
    json_decref(answer);
}

/* free() it. */
static char *
token_of(const char *user, const char *password, const char *body)
{
    char *authorization = basic(user, password);
    json_t *answer = NULL;
    char *token;

    assert_int_equal(ask(authorization, FORM_TYPE, body, &answer), 200);
    assert_string_equal(text_of(answer, "token_type"), "Bearer");
    assert_int_equal(json_integer_value(json_object_get(answer, "expires_in")), SESSION);
    assert_int_equal(json_object_size(answer), 3); /* no refresh token */
    token = strdup(text_of(answer, "access_token"));
    json_decref(answer);
    free(authorization);
    return token;
}

static int
ask_spc_token(const char *access)
{
    char authorization[256], body[512];

    snprintf(authorization, sizeof(authorization), "Bearer %s", access);
    snprintf(body, sizeof(body),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234
             "\",\"ca\":false,\"fingerprint\":\"%s\"}}",
             fingerprint);
    return post("/at/account/1234/token", authorization, body, NULL);
}

static void
a_client_gets_an_access_token_for_its_lifetime(void **state)
{
    char *access = token_of("sp-1234", PASSWORD, GRANT);

    (void)state;
    assert_int_equal(ask_spc_token(access), 200);
    atomic_store(&clock_offset_s, SESSION + 1);
    assert_int_equal(ask_spc_token(access), 403);
    free(access);
}

/* Nobody has the refresh token of its session, so the row is of no use after that. */
static void
nothing_of_it_stays_in_the_store(void **state)
{
    struct acme_rows *rows = NULL;

    (void)state;
    free(token_of("sp-two", PASSWORD, GRANT));
    atomic_store(&clock_offset_s, SESSION + 1);
    acme_authority_refresh(authority);
    assert_int_equal(
        acme_store_query(store, &rows, "SELECT 1 FROM session WHERE account = 'sp.two'", ""),
        HSM_OK);
    assert_false(acme_rows_next(rows));
    acme_rows_free(rows);
}

static void
unknown_and_empty_parameters_are_ignored(void **state)
{
    (void)state;
    free(token_of("sp-1234", PASSWORD, "resource=x&" GRANT "&scope=&client_id=sp-1234"));
}

/* RFC 6749 section 2.3.1: the texts in Basic are form-encoded. */
static void
credentials_are_form_encoded(void **state)
{
    static const char odd[] = "50% +more:";

    (void)state;
    assert_int_equal(
        authority_group_account("odd", "sp odd", odd, (const char *[]){"42", NULL}, false), HSM_OK);
    free(token_of("sp+odd", "50%25+%2Bmore%3A", GRANT));
    free(token_of("sp%20odd", "50%25%20%2Bmore:", GRANT));
}

static void
other_requests_are_refused_with_the_error_of_the_standard(void **state)
{
    static const struct {
        const char *type, *body, *error;
    } rows[] = {
        {FORM_TYPE, "", "invalid_request"},
        {FORM_TYPE, "grant_type=", "invalid_request"},
        {FORM_TYPE, GRANT "&" GRANT, "invalid_request"},
        {FORM_TYPE, "grant_type=%zz", "invalid_request"},
        {FORM_TYPE, GRANT "&client_secret=" PASSWORD, "invalid_request"},
        {"application/json", "{\"grant_type\":\"client_credentials\"}", "invalid_request"},
        {FORM_TYPE, "grant_type=password", "unsupported_grant_type"},
        {FORM_TYPE, "grant_type=authorization_code&code=1", "unsupported_grant_type"},
        {FORM_TYPE, GRANT "&scope=all", "invalid_scope"},
    };
    char *right = basic("sp-1234", PASSWORD);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_error(right, rows[i].type, rows[i].body, 400, rows[i].error);
    free(right);
}

static void
a_client_that_is_not_authenticated_gets_401(void **state)
{
    char *const wrong[] = {
        basic("sp-1234", "guess"), basic("nobody", PASSWORD), basic("", PASSWORD),
        basic("sp-1234", ""),      basic("sp-1234%zz", "x"),  basic("sp-1234", "%00"),
        basic("%ff", "x"),         basic("a%0ab", "x"),       basic("a%3Ab", "x"),
    };
    static const char *const not_basic[] = {"Basic !", "Basic c3AtMTIzNA==", "Bearer abc", "Basic"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_error(wrong[i], FORM_TYPE, GRANT, 401, "invalid_client");
        free(wrong[i]);
    }
    for (size_t i = 0; i < sizeof(not_basic) / sizeof(not_basic[0]); i++)
        assert_error(not_basic[i], FORM_TYPE, GRANT, 401, "invalid_client");
    assert_error(NULL, FORM_TYPE, GRANT, 401, "invalid_client");
}

static void
a_suspended_account_gets_no_token(void **state)
{
    char *right = basic("sp-two", PASSWORD);

    (void)state;
    assert_int_equal(acme_authority_account_suspend(store, "sp.two", "fees"), HSM_OK);
    assert_error(right, FORM_TYPE, GRANT, 400, "unauthorized_client");
    assert_int_equal(acme_authority_account_reinstate(store, "sp.two"), HSM_OK);
    free(token_of("sp-two", PASSWORD, GRANT));
    free(right);
}

/* The limits of the login: a guess here counts there. */
static void
guesses_are_limited(void **state)
{
    char *wrong, *right;
    json_t *answer = NULL;

    (void)state;
    atomic_store(&clock_stands_s, time(NULL));
    assert_int_equal(add_account("lock", "sp-lock", (const char *[]){"4321", NULL}, false), HSM_OK);
    wrong = basic("sp-lock", "guess");
    right = basic("sp-lock", PASSWORD);
    for (int i = 0; i < ACME_AUTHORITY_FAILURES_MAX; i++)
        assert_error(wrong, FORM_TYPE, GRANT, 401, "invalid_client");
    assert_int_equal(ask(right, FORM_TYPE, GRANT, &answer), 429);
    json_decref(answer);
    assert_int_equal(post("/api/v1/auth/login", NULL,
                          "{\"userId\":\"sp-lock\",\"password\":\"" PASSWORD "\"}", NULL),
                     429);
    free(wrong);
    free(right);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_client_gets_an_access_token_for_its_lifetime, reset_clock),
        cmocka_unit_test_teardown(nothing_of_it_stays_in_the_store, reset_clock),
        cmocka_unit_test(unknown_and_empty_parameters_are_ignored),
        cmocka_unit_test(credentials_are_form_encoded),
        cmocka_unit_test(other_requests_are_refused_with_the_error_of_the_standard),
        cmocka_unit_test(a_client_that_is_not_authenticated_gets_401),
        cmocka_unit_test(a_suspended_account_gets_no_token),
        cmocka_unit_test_teardown(guesses_are_limited, reset_clock),
    };

    return cmocka_run_group_tests(tests, authority_service_start, authority_service_stop);
}
