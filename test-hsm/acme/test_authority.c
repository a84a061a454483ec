/* test_authority.c - mirrors acme/src/authority*.c: a real STI-PA over HTTPS, keys in SoftHSM. */
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
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/ca_list.h>
#include <acme/jwk.h>
#include <certs/crl.h>
#include <hsm/process.h>

#include "authority_group.h"
#include "data.h"
#include "peer.h"
#include "softhsm.h"

#define PASSWORD       "correct horse"
#define TOKEN_LIFETIME 7200
#define SESSION        600
#define LIST_LIFETIME  86400
#define CRL_LIFETIME   43200
#define TKVALUE_1234   "MAigBhYEMTIzNA" /* the TNAuthList of SPC 1234 */

static EVP_PKEY *account_key; /* of an ACME account; tokens carry its fingerprint */
static char fingerprint[ACME_FINGERPRINT_LEN + 1];
static atomic_long clock_offset_s; /* the STI-PA's clock is ahead by this */
static atomic_long clock_stands_s; /* offset at which the clock stands still; 0: it runs */

static time_t
pa_clock(void)
{
    const time_t stands = atomic_load(&clock_stands_s);

    return (stands != 0 ? stands : time(NULL)) + atomic_load(&clock_offset_s);
}

/* The port, and thus the base URL, is known only once the server listens. */
static enum hsm_status
add_account(const char *id, const char *user, const char *const *spcs, bool ca)
{
    return authority_group_account(id, user, PASSWORD, spcs, ca);
}

/* Set the faults of the token, in the syntax of test-hsm/hsm/shim.c. */
static void
token_answers(const char *faults)
{
    assert_int_equal(setenv("STI_SHIM", faults, 1), 0);
}

static int
start(void **state)
{
    struct acme_authority_config config;

    (void)state;
    assert_int_equal(setenv("STI_SHIM_BEHIND", softhsm_module(), 1), 0);
    assert_int_equal(setenv("STI_TEST_MODULE", SHIM_MODULE, 1), 0);
    assert_int_equal(setenv("STI_TEST_TIMEOUT_MS", "1500", 1), 0);
    token_answers("");
    authority_group_open();
    config = authority_group_config(pa_clock);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    assert_int_equal(add_account("1234", "sp-1234", (const char *[]){"1234", "709J", NULL}, false),
                     HSM_OK);
    assert_int_equal(add_account("sp.two", "sp-two", (const char *[]){"5678", NULL}, true), HSM_OK);
    account_key = peer_key_new("P-256");
    assert_int_equal(acme_fingerprint_format(account_key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    return 0;
}

static int
stop(void **state)
{
    EVP_PKEY_free(account_key);
    return authority_group_stop(state);
}

static int
reset_clock(void **state)
{
    (void)state;
    atomic_store(&clock_offset_s, 0);
    atomic_store(&clock_stands_s, 0);
    return 0;
}

/* ---- requests ---- */

static int
exchange(const char *method, const char *path, const char *authorization, const char *type,
         const char *body, struct acme_http_reply *reply)
{
    struct hsm_reason why = {""};
    char url[1024];
    struct acme_http_fetch fetch = {
        .method = method,
        .url = url,
        .content_type = type,
        .authorization = authorization,
        .body = body,
        .body_len = body != NULL ? strlen(body) : 0,
        .reply_max = 1 << 20,
        .timeout_ms = 30000,
    };

    snprintf(url, sizeof(url), "%s%s", pa.base_url, path);
    if (acme_http_fetch(pa.http, &fetch, reply, &why) != HSM_OK)
        fail_msg("%s %s: %s", method, path, why.text);
    return reply->status;
}

/* POST JSON; *answer (may be NULL) receives the body, to be decref'd. */
static int
post(const char *path, const char *authorization, const char *body, json_t **answer)
{
    struct acme_http_reply reply = {0};
    int status = exchange("POST", path, authorization, "application/json", body, &reply);

    if (answer != NULL) {
        *answer = json_loadb(reply.body, reply.body_len, 0, NULL);
        assert_non_null(*answer);
    }
    acme_http_reply_clear(&reply);
    return status;
}

static const char *
text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    assert_non_null(text);
    return text;
}

/* The access token of a successful login; free() it. */
static char *
login(const char *user)
{
    char body[256];
    json_t *answer = NULL;
    char *token;

    snprintf(body, sizeof(body), "{\"userId\":\"%s\",\"password\":\"%s\"}", user, PASSWORD);
    assert_int_equal(post("/api/v1/auth/login", NULL, body, &answer), 200);
    assert_string_equal(text_of(answer, "status"), "success");
    token = strdup(text_of(answer, "accessToken"));
    json_decref(answer);
    return token;
}

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

/* ---- publications ---- */

static char *
url_of(const char *path)
{
    char *url = NULL;

    assert_true(asprintf(&url, "%s%s", pa.base_url, path) > 0);
    return url;
}

/* The verified list; acme_ca_list_free() it. NULL: refused, and the reason is printed. */
static struct acme_ca_list *
fetch_list(uint64_t previous_sequence, time_t now)
{
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st =
        acme_authority_fetch_ca_list(pa.http, url, pa.root, previous_sequence, now, &list, &why);

    if (st != HSM_OK) {
        assert_int_equal(st, HSM_ERR_UNTRUSTED);
        print_message("%s\n", why.text);
    }
    free(url);
    return list;
}

static uint64_t
list_sequence(void)
{
    struct acme_ca_list *list = fetch_list(0, time(NULL));
    uint64_t sequence;

    assert_non_null(list);
    sequence = acme_ca_list_sequence(list);
    acme_ca_list_free(list);
    return sequence;
}

static void
trusted_ca_is_on_the_next_list_with_a_higher_sequence(void **state)
{
    X509 *root = pa_fixture_ca_root(&pa, "sti-ca-root", "Example STI-CA");
    uint64_t before = list_sequence();
    struct acme_ca_list *list;

    (void)state;
    assert_int_equal(list_sequence(), before);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_OK);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_ERR_EXISTS);
    list = fetch_list(before, time(NULL));
    assert_non_null(list);
    assert_int_equal(acme_ca_list_sequence(list), before + 1);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 1);
    assert_int_equal(X509_cmp(certs_chain_get(acme_ca_list_roots(list), 0), root), 0);
    acme_ca_list_free(list);
    X509_free(root);
}

static void
list_is_refused_when_rolled_back_or_expired_or_of_another_authority(void **state)
{
    uint64_t sequence = list_sequence();
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_null(fetch_list(sequence + 1, time(NULL)));
    assert_null(fetch_list(0, time(NULL) + LIST_LIFETIME + 1));
    assert_int_equal(
        acme_authority_fetch_ca_list(pa.http, url, pa.tls_chain, 0, time(NULL), &list, &why),
        HSM_ERR_UNTRUSTED);
    assert_null(list);
    free(url);
}

static void
list_is_signed_anew_at_half_of_its_life(void **state)
{
    uint64_t sequence = list_sequence();

    (void)state;
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 - 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence + 1);
}

/* Uses an open connection, which needs no TLS signature, so the answer shows only the state of the
 * list. */
static int
list_status(void)
{
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    int status;

    if (acme_http_fetch(pa.http,
                        &(struct acme_http_fetch){
                            .method = "GET", .url = url, .reply_max = 65536, .timeout_ms = 30000},
                        &reply, &why) != HSM_OK)
        fail_msg("%s", why.text);
    status = reply.status;
    acme_http_reply_clear(&reply);
    free(url);
    return status;
}

static void
list_that_cannot_be_signed_anew_serves_until_it_ends(void **state)
{
    uint64_t sequence;

    (void)state;
    acme_authority_refresh(authority);
    sequence = list_sequence();
    token_answers("C_Sign=0x30"); /* CKR_DEVICE_ERROR */
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);
    atomic_store(&clock_offset_s, LIST_LIFETIME + 60);
    assert_int_equal(list_status(), 503);
    token_answers("");
    atomic_store(&clock_offset_s, LIST_LIFETIME + 120); /* retried soon, not each time */
    assert_int_equal(list_status(), 200);
    assert_int_equal(list_sequence(), sequence + 1);
}

static void
token_that_could_not_be_signed_does_not_count(void **state)
{
    struct acme_authority_config config = authority_group_config(pa_clock);
    struct acme_authority *before = authority;
    char *authorization = login("sp-1234");
    char wish[512];

    (void)state;
    snprintf(wish, sizeof(wish),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    config.tokens_per_hour = 2;
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    token_answers("C_Sign=0x30"); /* CKR_DEVICE_ERROR */
    for (unsigned i = 0; i < 2 * config.tokens_per_hour; i++)
        assert_int_not_equal(post("/at/account/1234/token", authorization, wish, NULL) / 100, 2);
    token_answers("");
    for (unsigned i = 0; i < config.tokens_per_hour; i++)
        assert_int_equal(post("/at/account/1234/token", authorization, wish, NULL), 200);
    assert_int_equal(post("/at/account/1234/token", authorization, wish, NULL), 429);
    acme_authority_free(authority);
    authority = before;
    free(authorization);
}

static void
clock_that_was_ahead_is_made_up_for(void **state)
{
    uint64_t sequence;

    (void)state;
    atomic_store(&clock_offset_s, 10 * LIST_LIFETIME);
    acme_authority_refresh(authority);
    sequence = list_sequence();
    atomic_store(&clock_offset_s, 0);
    assert_int_equal(list_sequence(), sequence + 1);
    assert_int_equal(list_sequence(), sequence + 1);
}

/* With the clock ahead, the signer had expired. The failure from then delays no retry under the
 * right clock. */
static void
signature_that_failed_when_the_clock_was_ahead_is_tried_again(void **state)
{
    long left = (long)(certs_chain_not_after(pa.signer_chain) - time(NULL));
    X509 *root = pa_fixture_ca_root(&pa, "late-root", "Late STI-CA");
    uint64_t sequence = list_sequence();

    (void)state;
    atomic_store(&clock_offset_s, left + 1000);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_OK);
    acme_authority_refresh(authority);
    atomic_store(&clock_offset_s, 0);
    assert_int_equal(list_sequence(), sequence + 1);
    X509_free(root);
}

static void
list_and_token_end_with_their_signer(void **state)
{
    long left = (long)(certs_chain_not_after(pa.signer_chain) - time(NULL));
    char *access;
    char body[512];
    uint64_t sequence;

    (void)state;
    snprintf(body, sizeof(body),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    atomic_store(&clock_offset_s, left - LIST_LIFETIME / 4);
    acme_authority_refresh(authority);
    sequence = list_sequence();
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);

    atomic_store(&clock_offset_s, left - 60);
    access = login("sp-1234");
    assert_int_equal(post("/at/account/1234/token", access, body, NULL), 200);
    atomic_store(&clock_offset_s, left + 1);
    assert_int_equal(post("/at/account/1234/token", access, body, NULL), 500);
    free(access);
}

static struct certs_crl *
fetch_crl(time_t now, const struct certs_chain *anchors)
{
    char *url = acme_authority_crl_url(pa.base_url);
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {""};

    if (acme_authority_fetch_crl(pa.http, url, anchors, now, &crl, &why) != HSM_OK)
        print_message("%s\n", why.text);
    free(url);
    return crl;
}

static void
crl_is_good_and_grows_in_number(void **state)
{
    struct certs_crl *first = fetch_crl(time(NULL), pa.root);
    struct certs_crl *second;

    (void)state;
    assert_non_null(first);
    assert_false(certs_crl_has(first, certs_chain_get(pa.signer_chain, 0)));
    assert_null(fetch_crl(time(NULL), pa.tls_chain));
    assert_null(fetch_crl(time(NULL) + 2 * CRL_LIFETIME, pa.root));
    atomic_store(&clock_offset_s, CRL_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    second = fetch_crl(pa_clock(), pa.root);
    assert_non_null(second);
    assert_int_equal(certs_crl_number(second), certs_crl_number(first) + 1);
    assert_true(certs_crl_next_update(second) > certs_crl_next_update(first));
    certs_crl_free(first);
    certs_crl_free(second);
}

static void
crl_is_der_and_may_be_cached(void **state)
{
    struct acme_http_reply reply = {0};

    (void)state;
    assert_int_equal(exchange("GET", "/download/v1/crl", NULL, NULL, NULL, &reply), 200);
    assert_string_equal(reply.content_type, "application/pkix-crl");
    assert_int_equal((uint8_t)reply.body[0], 0x30);
    assert_string_equal(reply.cache_control, "public, max-age=300");
    assert_non_null(reply.etag);
    acme_http_reply_clear(&reply);
    assert_int_equal(exchange("HEAD", "/download/v1/crl", NULL, NULL, NULL, &reply), 200);
    assert_int_equal(reply.body_len, 0);
    acme_http_reply_clear(&reply);
}

static void
signers_chain_stays_where_it_is(void **state)
{
    struct acme_ca_list *list = fetch_list(0, time(NULL));
    struct acme_http_reply reply = {0};
    const char *path;

    (void)state;
    assert_non_null(list);
    path = acme_ca_list_x5u(list) + strlen(pa.base_url);
    assert_int_equal(strncmp(path, ACME_AUTHORITY_SIGNERS_PATH "certificateId_",
                             strlen(ACME_AUTHORITY_SIGNERS_PATH "certificateId_")),
                     0);
    assert_int_equal(exchange("GET", path, NULL, NULL, NULL, &reply), 200);
    assert_string_equal(reply.content_type, "application/pem-certificate-chain");
    assert_non_null(strstr(reply.cache_control, "immutable"));
    acme_http_reply_clear(&reply);
    acme_ca_list_free(list);
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
        cmocka_unit_test_teardown(token_is_granted_on_three_paths_by_three_credentials_in_two_forms,
                                  reset_clock),
        cmocka_unit_test(tokens_are_forgotten_long_after_their_end_and_events_are_not),
        cmocka_unit_test_teardown(deployed_client_gets_what_it_expects, reset_clock),
        cmocka_unit_test_teardown(tkvalue_comes_back_in_the_clients_own_alphabet, reset_clock),
        cmocka_unit_test_teardown(ca_is_granted_to_those_who_may, reset_clock),
        cmocka_unit_test_teardown(wishes_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(credentials_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(requests_of_the_wrong_kind_are_refused, reset_clock),
        cmocka_unit_test_teardown(trusted_ca_is_on_the_next_list_with_a_higher_sequence,
                                  reset_clock),
        cmocka_unit_test_teardown(
            list_is_refused_when_rolled_back_or_expired_or_of_another_authority, reset_clock),
        cmocka_unit_test_teardown(list_is_signed_anew_at_half_of_its_life, reset_clock),
        cmocka_unit_test_teardown(list_that_cannot_be_signed_anew_serves_until_it_ends,
                                  reset_clock),
        cmocka_unit_test_teardown(token_that_could_not_be_signed_does_not_count, reset_clock),
        cmocka_unit_test_teardown(clock_that_was_ahead_is_made_up_for, reset_clock),
        cmocka_unit_test_teardown(signature_that_failed_when_the_clock_was_ahead_is_tried_again,
                                  reset_clock),
        cmocka_unit_test_teardown(list_and_token_end_with_their_signer, reset_clock),
        cmocka_unit_test_teardown(crl_is_good_and_grows_in_number, reset_clock),
        cmocka_unit_test_teardown(crl_is_der_and_may_be_cached, reset_clock),
        cmocka_unit_test_teardown(signers_chain_stays_where_it_is, reset_clock),
        cmocka_unit_test_teardown(restart_serves_the_same_list_and_another_signer_a_new_one,
                                  reset_clock),
        cmocka_unit_test_teardown(two_instances_on_one_store_give_one_list, reset_clock),
        cmocka_unit_test_teardown(authority_refuses_a_key_beside_another_certificate, reset_clock),
        cmocka_unit_test_teardown(accounts_that_are_refused, reset_clock),
        cmocka_unit_test_teardown(only_roots_are_trusted, reset_clock),
        cmocka_unit_test_teardown(a_restored_store_is_ready_when_higher_numbers_are_signed,
                                  reset_clock),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
