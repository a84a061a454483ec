/* test_authority_grant.c - mirrors acme/src/authority_grant.c: SPC tokens. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/jwk.h>

#include "authority_service_group.h"
#include "data.h"

#define TOKEN_LIFETIME 7200

/* ---- requests ---- */

static char *
basic(const char *user, const char *password)
{
    char pair[512];
    char *encoded;
    char *header = NULL;

    snprintf(pair, sizeof(pair), "%s:%s", user, password);
    encoded = acme_base64_encode(pair, strlen(pair));
    assert_true(asprintf(&header, "Basic %s", encoded) > 0);
    free(encoded);
    return header;
}

/* ---- SPC tokens ---- */

/* The token passes every check of an STI-CA that fetches its x5u. */
static void
assert_token_is_good(const char *text, const char *tkvalue, bool ca)
{
    struct acme_authority_token *token = NULL;
    struct certs_chain *signer = NULL;
    struct certs_tnauthlist *identifier = NULL;
    struct hsm_reason why = {""};
    struct acme_authority_token_policy policy;
    uint8_t *der = NULL;
    size_t len;
    enum hsm_status st;

    assert_int_equal(acme_base64_decode_any(tkvalue, strlen(tkvalue), &der, &len), HSM_OK);
    assert_int_equal(certs_tnauthlist_parse(der, len, &identifier, &why), HSM_OK);
    free(der);
    if (acme_authority_token_parse(text, &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_true(acme_url_same_origin(acme_authority_token_x5u(token), pa.base_url));
    if (acme_http_fetch_chain(pa.http, acme_authority_token_x5u(token), &signer, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_chain_len(signer), 2);
    policy = (struct acme_authority_token_policy){.signer = signer,
                                                  .pa_anchors = pa.root,
                                                  .account_key = account_key,
                                                  .identifier = identifier,
                                                  .now = time(NULL)};
    st = acme_authority_token_check(token, &policy, &why);
    if (st != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(acme_authority_token_ca(token), ca);
    assert_string_equal(acme_authority_token_iss(token), pa.base_url);
    assert_in_range(acme_authority_token_exp(token), time(NULL) + TOKEN_LIFETIME - 60,
                    time(NULL) + TOKEN_LIFETIME);
    certs_tnauthlist_free(identifier);
    certs_chain_free(signer);
    acme_authority_token_free(token);
}

/* The number of records of the token's jti in the store. */
static int64_t
recorded(const char *text)
{
    struct acme_authority_token *token = NULL;
    struct acme_rows *rows = NULL;
    struct hsm_reason why;
    int64_t count;

    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_OK);
    assert_int_equal(acme_store_query(store, &rows,
                                      "SELECT count(*) FROM spc_token WHERE jti = ?"
                                      " AND account = '1234' AND spc = '1234' AND fingerprint = ?"
                                      " AND expires = ?",
                                      "ssi", acme_authority_token_jti(token), fingerprint,
                                      (int64_t)acme_authority_token_exp(token)),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    count = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    acme_authority_token_free(token);
    return count;
}

static void
check_grant(const char *path, const char *authorization, const char *body)
{
    json_t *answer = NULL;
    char crl[128];

    if (post(path, authorization, body, &answer) != 200)
        fail_msg("%s: %s", path, text_of(answer, "message"));
    snprintf(crl, sizeof(crl), "%s/download/v1/crl", pa.base_url);
    assert_string_equal(text_of(answer, "status"), "success");
    assert_string_equal(text_of(answer, "crl"), crl);
    assert_string_equal(text_of(answer, "iss"), "CN=pa-crl,O=STI-PA Example,C=US");
    assert_token_is_good(text_of(answer, "token"), TKVALUE_1234, false);
    assert_int_equal(recorded(text_of(answer, "token")), 1);
    json_decref(answer);
}

static void
token_is_granted_on_three_paths_by_three_credentials_in_two_forms(void **state)
{
    static const char *const paths[] = {"/at/account/1234/token", "/sti-pa/account/1234/token",
                                        "/api/v1/account/1234/token"};
    char *raw = login("sp-1234");
    char *bearer = NULL;
    char *user_and_password = basic("sp-1234", PASSWORD);
    const char *credentials[3];
    char bare[512];
    char wrapped[600];

    (void)state;
    assert_true(asprintf(&bearer, "bearer %s", raw) > 0);
    credentials[0] = raw;
    credentials[1] = bearer;
    credentials[2] = user_and_password;
    snprintf(bare, sizeof(bare),
             "{\"tktype\":\"TnAuthList\",\"tkvalue\":\"" TKVALUE_1234
             "==\",\"ca\":false,\"fingerprint\":\"%s\"}",
             fingerprint);
    snprintf(wrapped, sizeof(wrapped), "{\"atc\":%s}", bare);
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            check_grant(paths[i], credentials[j], bare);
            check_grant(paths[i], credentials[j], wrapped);
        }
    }
    free(raw);
    free(bearer);
    free(user_and_password);
}

static int64_t
tokens_of(const char *jti)
{
    struct acme_rows *rows = NULL;
    int64_t count;

    assert_int_equal(
        acme_store_query(store, &rows, "SELECT count(*) FROM spc_token WHERE jti = ?", "s", jti),
        HSM_OK);
    assert_true(acme_rows_next(rows));
    count = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return count;
}

static void
tokens_are_forgotten_long_after_their_end_and_events_are_not(void **state)
{
    static const struct {
        const char *jti;
        int64_t ended_s; /* before now, less ACME_AUTHORITY_TOKEN_DAYS */
        int64_t kept;
    } cases[] = {{"ended-just-now", -86400L * ACME_AUTHORITY_TOKEN_DAYS, 1},
                 {"ended-lately", -60, 1},
                 {"ended-long-ago", 60, 0}};
    const int64_t since = (int64_t)time(NULL) - 86400L * ACME_AUTHORITY_TOKEN_DAYS;
    struct acme_rows *rows = NULL;
    int64_t events;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(acme_store_run(store, NULL,
                                        "INSERT INTO spc_token (jti, account, spc, ca, fingerprint,"
                                        " issued, expires) VALUES (?, '1234', '1234', 0, '', 1, ?)",
                                        "si", cases[i].jti, since - cases[i].ended_s),
                         HSM_OK);
    assert_int_equal(acme_store_query(store, &rows, "SELECT count(*) FROM event", ""), HSM_OK);
    assert_true(acme_rows_next(rows));
    events = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    acme_authority_refresh(authority);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(tokens_of(cases[i].jti), cases[i].kept);
    assert_int_equal(acme_store_query(store, &rows, "SELECT count(*) FROM event", ""), HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_true(events > 0 && acme_rows_int(rows, 0) >= events);
    acme_rows_free(rows);
}

static void
deployed_client_gets_what_it_expects(void **state)
{
    json_t *vectors = data_json("self/spc_tokens.json");
    json_t *request = json_object_get(vectors, "token_request");
    json_t *wanted = json_object_get(vectors, "token_response");
    char *body = json_dumps(json_object_get(request, "body"), JSON_COMPACT);
    char *access = login("sp-1234");
    json_t *answer = NULL;
    struct acme_authority_token *token = NULL;
    struct hsm_reason why;
    const char *name;
    json_t *value;

    (void)state;
    assert_int_equal(post(text_of(request, "path"), access, body, &answer), 200);
    json_object_foreach(wanted, name, value)
        assert_true(json_is_string(json_object_get(answer, name)));
    assert_int_equal(acme_authority_token_parse(text_of(answer, "token"), &token, &why), HSM_OK);
    /* The client's fingerprint is returned unchanged, whatever it identifies. */
    assert_string_equal(
        acme_authority_token_fingerprint(token),
        text_of(json_object_get(json_object_get(request, "body"), "atc"), "fingerprint"));
    acme_authority_token_free(token);
    json_decref(answer);
    json_decref(vectors);
    free(body);
    free(access);
}

/* The payload of a compact JWS; the signature is not verified. */
static json_t *
payload_of(const char *jws)
{
    const char *begin = strchr(jws, '.') + 1;
    uint8_t *octets = NULL;
    size_t len;
    json_t *payload;

    assert_int_equal(
        acme_base64url_decode(begin, (size_t)(strchr(begin, '.') - begin), &octets, &len), HSM_OK);
    payload = json_loadb((char *)octets, len, 0, NULL);
    free(octets);
    return payload;
}

static void
tkvalue_comes_back_in_the_clients_own_alphabet(void **state)
{
    static const char *const values[] = {"MAigBhYENzA5Sg", "MAigBhYENzA5Sg=="};
    char *access = login("sp-1234");
    char thumbprint[ACME_THUMBPRINT_LEN + 1];

    (void)state;
    assert_int_equal(acme_jwk_thumbprint(account_key, thumbprint), HSM_OK);
    for (size_t i = 0; i < 2; i++) {
        json_t *answer = NULL;
        json_t *payload;
        char body[512];

        snprintf(body, sizeof(body),
                 "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"%s\",\"fingerprint\":\"%s\"}", values[i],
                 thumbprint);
        assert_int_equal(post("/at/account/1234/token", access, body, &answer), 200);
        payload = payload_of(text_of(answer, "token"));
        assert_string_equal(text_of(json_object_get(payload, "atc"), "tkvalue"), values[i]);
        assert_string_equal(text_of(json_object_get(payload, "atc"), "fingerprint"), thumbprint);
        assert_token_is_good(text_of(answer, "token"), values[i], false);
        json_decref(payload);
        json_decref(answer);
    }
    free(access);
}

static void
ca_is_granted_to_those_who_may(void **state)
{
    char *may = basic("sp-two", PASSWORD);
    char *may_not = basic("sp-1234", PASSWORD);
    json_t *answer = NULL;
    char body[512];

    (void)state;
    snprintf(body, sizeof(body),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYENTY3OA\",\"ca\":true,"
             "\"fingerprint\":\"%s\"}}",
             fingerprint);
    assert_int_equal(post("/at/account/sp.two/token", may, body, &answer), 200);
    assert_token_is_good(text_of(answer, "token"), "MAigBhYENTY3OA", true);
    json_decref(answer);
    snprintf(body, sizeof(body),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234
             "\",\"ca\":true,\"fingerprint\":\"%s\"}}",
             fingerprint);
    assert_int_equal(post("/at/account/1234/token", may_not, body, NULL), 403);
    free(may);
    free(may_not);
}

#define FP                                                                                         \
    "SHA256 "                                                                                      \
    "0B:15:90:71:2D:0D:19:FD:9D:34:6A:C6:80:59:3E:1B:0A:21:34:AE:65:01:45:41:06:D5:EA:F2:D9:4C:"   \
    "66:EC"

static const struct {
    const char *why;
    int status;
    const char *body;
} refused_wishes[] = {
    {"SPC of another account", 403,
     "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYENTY3OA\",\"fingerprint\":\"" FP
     "\"}}"},
    {"SPC of nobody", 403,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEOTk5OQ\",\"fingerprint\":\"" FP "\"}"},
    {"nothing", 400, ""},
    {"not JSON", 400, "token please"},
    {"an array", 400, "[]"},
    {"cut off", 400, "{\"atc\":{\"tktype\":\"TNAuthList\""},
    {"no members", 400, "{}"},
    {"atc is not an object", 400, "{\"atc\":\"TNAuthList\"}"},
    {"atc is null", 400, "{\"atc\":null}"},
    {"no tktype", 400, "{\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"" FP "\"}"},
    {"another tktype", 400,
     "{\"tktype\":\"Other\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"" FP "\"}"},
    {"no tkvalue", 400, "{\"tktype\":\"TNAuthList\",\"fingerprint\":\"" FP "\"}"},
    {"tkvalue is a number", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":1234,\"fingerprint\":\"" FP "\"}"},
    {"tkvalue is empty", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"\",\"fingerprint\":\"" FP "\"}"},
    {"tkvalue is the SPC itself", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"1234\",\"fingerprint\":\"" FP "\"}"},
    {"tkvalue is not base64", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAig BhYEMTIzNA\",\"fingerprint\":\"" FP "\"}"},
    {"octets after the list", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNAA\",\"fingerprint\":\"" FP "\"}"},
    {"two codes", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MBCgBhYEMTIzNKAGFgQ3MDlK\",\"fingerprint\":\"" FP
     "\"}"},
    {"a telephone number", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MA-iDRYLMTIxNTU1NTAxMDA\",\"fingerprint\":\"" FP
     "\"}"},
    {"no fingerprint", 400, "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\"}"},
    {"fingerprint without its hash", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":"
     "\"0B:15:90:71:2D:0D:19:FD:9D:34:6A:C6:80:59:3E:1B\"}"},
    {"fingerprint of another hash", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":"
     "\"SHA512 0B:15:90:71:2D:0D:19:FD:9D:34:6A:C6:80:59:3E:1B:0A:21:34:AE:65:01:45:41:06:D5:EA:"
     "F2:D9:4C:66:EC\"}"},
    {"fingerprint that is not hex", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":"
     "\"SHA256 0G:15:90:71:2D:0D:19:FD:9D:34:6A:C6:80:59:3E:1B:0A:21:34:AE:65:01:45:41:06:D5:EA:"
     "F2:D9:4C:66:EC\"}"},
    {"fingerprint that is too short", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":"
     "\"SHA256 0B:15\"}"},
    {"ca is a text", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"ca\":\"no\",\"fingerprint\":"
     "\"" FP "\"}"},
    {"tkvalue twice", 400,
     "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"tkvalue\":\"MAigBhYENTY3OA\","
     "\"fingerprint\":\"" FP "\"}"},
    {"atc twice", 400, "{\"atc\":{},\"atc\":{}}"},
};

static void
wishes_that_are_refused(void **state)
{
    char *access = login("sp-1234");

    (void)state;
    for (size_t i = 0; i < sizeof(refused_wishes) / sizeof(refused_wishes[0]); i++) {
        json_t *answer = NULL;
        int status = post("/at/account/1234/token", access, refused_wishes[i].body, &answer);

        if (status != refused_wishes[i].status)
            fail_msg("%s: %d", refused_wishes[i].why, status);
        assert_string_equal(text_of(answer, "status"), "error");
        assert_true(strlen(text_of(answer, "message")) > 0);
        assert_null(json_object_get(answer, "token"));
        json_decref(answer);
    }
    free(access);
}

static void
credentials_that_are_refused(void **state)
{
    char *of_another = login("sp-two");
    char *wrong = basic("sp-1234", "guess");
    char *another = basic("sp-two", PASSWORD);
    char *nobody = basic("nobody", PASSWORD);
    char *good = basic("sp-1234", PASSWORD);
    char body[512];
    const struct {
        const char *authorization;
        const char *path;
        int status;
    } rows[] = {
        {good, "/at/account/1234/token", 200},
        {NULL, "/at/account/1234/token", 401},
        {"x", "/at/account/1234/token", 403},
        {"Bearer x", "/at/account/1234/token", 403},
        {"Bearer", "/at/account/1234/token", 403},
        {"Basic", "/at/account/1234/token", 403},
        {"Basic !", "/at/account/1234/token", 403},
        {"Basic bm9jb2xvbg==", "/at/account/1234/token", 403},
        {"Basic /zp4", "/at/account/1234/token", 403}, /* the user is not UTF-8 */
        {"Digest username=\"sp-1234\"", "/at/account/1234/token", 403},
        {of_another, "/at/account/1234/token", 403},
        {wrong, "/at/account/1234/token", 403},
        {another, "/at/account/1234/token", 403},
        {nobody, "/at/account/1234/token", 403},
        {good, "/at/account/unknown/token", 403},
        {good, "/at/account/sp.two/token", 403},
    };

    (void)state;
    snprintf(body, sizeof(body),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status = post(rows[i].path, rows[i].authorization, body, NULL);

        if (status != rows[i].status)
            fail_msg("row %zu: %d", i, status);
    }
    free(of_another);
    free(wrong);
    free(another);
    free(nobody);
    free(good);
}

static void
requests_of_the_wrong_kind_are_refused(void **state)
{
    char *access = login("sp-1234");
    char *huge = malloc(ACME_HTTP_BODY_MAX + 2);
    const struct {
        const char *method, *path, *type, *body;
        int status;
    } rows[] = {
        {"POST", "/at/account/1234/token", "text/plain", "{}", 415},
        {"POST", "/at/account/1234/token", "application/jsonx", "{}", 415},
        {"POST", "/at/account/1234/token", "application/json; charset=utf-8", "{}", 400},
        {"POST", "/api/v1/auth/login", "application/x-www-form-urlencoded", "{}", 415},
        {"GET", "/at/account/1234/token", NULL, NULL, 405},
        {"GET", "/api/v1/auth/login", NULL, NULL, 405},
        {"POST", "/api/v1/ca-list", "application/json", "{}", 405},
        {"POST", "/download/v1/crl", "application/json", "{}", 405},
        {"GET", "/", NULL, NULL, 404},
        {"GET", "/download/v1/certificate/certificateId_1.crt", NULL, NULL, 404},
        {"POST", "/at/account/1234/token/more", "application/json", "{}", 404},
        {"POST", "/at/account//token", "application/json", "{}", 404},
        {"POST", "/at/account/1234/token", "application/json", huge, 413},
    };

    (void)state;
    memset(huge, ' ', ACME_HTTP_BODY_MAX + 1);
    huge[ACME_HTTP_BODY_MAX + 1] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct acme_http_reply reply = {0};
        int status =
            exchange(rows[i].method, rows[i].path, access, rows[i].type, rows[i].body, &reply);

        acme_http_reply_clear(&reply);
        if (status != rows[i].status)
            fail_msg("%s %s: %d", rows[i].method, rows[i].path, status);
    }
    free(access);
    free(huge);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(token_is_granted_on_three_paths_by_three_credentials_in_two_forms,
                                  reset_clock),
        cmocka_unit_test(tokens_are_forgotten_long_after_their_end_and_events_are_not),
        cmocka_unit_test_teardown(deployed_client_gets_what_it_expects, reset_clock),
        cmocka_unit_test_teardown(tkvalue_comes_back_in_the_clients_own_alphabet, reset_clock),
        cmocka_unit_test_teardown(ca_is_granted_to_those_who_may, reset_clock),
        cmocka_unit_test_teardown(wishes_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(credentials_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(requests_of_the_wrong_kind_are_refused, reset_clock),
    };

    return cmocka_run_group_tests(tests, authority_service_start, authority_service_stop);
}
