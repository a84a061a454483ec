/*
 * test_malformed.c - real requests to the STI-CA and the STI-PA with a fault in their JSON, JWS,
 * octets or HTTP: each gets a client error, and leaks no memory.
 *
 * STI_MALFORMED_REQUESTS: how many (default 3000); STI_MALFORMED_SEED: the seed that selects them.
 */
#define _GNU_SOURCE /* asprintf, mallinfo2 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <malloc.h>
#include <openssl/evp.h>

#include "ca_fixture.h"

#include <acme/authority.h>
#include <acme/base64url.h>
#include <acme/jwk.h>
#include <hsm/defer.h>

#include "peer.h"
#include "softhsm.h"

#define REQUESTS     3000
#define MEMORY_MAX   (4 << 20) /* octets by which the heap may grow */
#define LONG_TEXT    5000 /* characters */
#define DEEP         40 /* levels of arrays */
#define PATH_MAX_LEN 700
#define LOGIN_EACH   200 /* one in that many requests to the STI-PA: each hashes a password */

/* ---- pseudorandom numbers, repeatable for a given seed ---- */

static uint64_t seed;

/* SplitMix64 */
static uint64_t
random64(void)
{
    uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t
below(size_t limit)
{
    return (size_t)(random64() % limit);
}

/* ---- faults in JSON ---- */

static json_t *
deep_arrays(void)
{
    json_t *value = json_array();

    for (int i = 0; i < DEEP; i++)
        value = json_pack("[o]", value);
    return value;
}

static json_t *
long_text(void)
{
    char text[LONG_TEXT + 1];

    memset(text, 'A' + (int)below(26), LONG_TEXT);
    text[LONG_TEXT] = '\0';
    return json_string(text);
}

static json_t *
odd_value(void)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "\x01\x1f",
                                        "\xc3\xa9\xe2\x82\xac",
                                        "%00",
                                        "../..",
                                        "AAAA",
                                        "AA==",
                                        "-_-_",
                                        "null",
                                        "https://",
                                        "deactivated",
                                        "valid",
                                        "2026-01-01T00:00:00Z",
                                        "9999-99-99T99:99:99Z"};

    switch (below(10)) {
    case 0:
        return json_null();
    case 1:
        return json_true();
    case 2:
        return json_integer((json_int_t)(random64()));
    case 3:
        return json_integer((json_int_t)below(10) - 2);
    case 4:
        return json_real(1e300);
    case 5:
        return json_object();
    case 6:
        return deep_arrays();
    case 7:
        return long_text();
    default:
        return json_string(texts[below(sizeof(texts) / sizeof(texts[0]))]);
    }
}

/* A text with one character added, removed or changed. */
static json_t *
odd_text(const char *text)
{
    size_t len = strlen(text), at = below(len + 1);
    char *odd = malloc(len + 3);
    json_t *value;

    assert_non_null(odd);
    switch (below(4)) {
    case 0:
        snprintf(odd, len + 3, "%.*s", (int)at, text);
        break;
    case 1:
        snprintf(odd, len + 3, "%s=", text);
        break;
    case 2:
        snprintf(odd, len + 3, "%.*s%c%s", (int)at, text, (char)(' ' + below(94)), text + at);
        break;
    default:
        snprintf(odd, len + 3, "%s", text);
        if (at < len)
            odd[at] = (char)(' ' + below(94));
    }
    value = json_string(odd);
    free(odd);
    return value;
}

static void
mutate_member(json_t *object, const char *name, json_t *value)
{
    char other[64];

    switch (below(4)) {
    case 0:
        json_object_del(object, name);
        break;
    case 1:
        snprintf(other, sizeof(other), "%.40s%c", name, (char)('a' + below(26)));
        json_object_set(object, other, value);
        json_object_del(object, name);
        break;
    case 2:
        if (json_is_string(value)) {
            json_object_set_new(object, name, odd_text(json_string_value(value)));
            break;
        }
        /* fall through */
    default:
        json_object_set_new(object, name, odd_value());
    }
}

/* Change one value somewhere in the tree. */
static void
mutate(json_t *value)
{
    const char *name;
    json_t *member;
    size_t wanted;

    if (json_is_array(value) && json_array_size(value) > 0) {
        wanted = below(json_array_size(value));
        if (below(2) == 0)
            mutate(json_array_get(value, wanted));
        else if (below(2) == 0)
            json_array_append(value, json_array_get(value, wanted));
        else
            json_array_set_new(value, wanted, odd_value());
        return;
    }
    if (!json_is_object(value) || json_object_size(value) == 0)
        return;
    wanted = below(json_object_size(value));
    json_object_foreach(value, name, member)
    {
        char copy[64];

        if (wanted-- > 0)
            continue;
        snprintf(copy, sizeof(copy), "%s", name);
        json_incref(member);
        if ((json_is_object(member) || json_is_array(member)) && below(3) != 0)
            mutate(member);
        else
            mutate_member(value, copy, member);
        json_decref(member);
        return;
    }
}

/* Truncate, double or change the octets, or append some. free() it. */
static char *
mutate_text(const char *text)
{
    size_t len = strlen(text), at = below(len + 1);
    char *odd = malloc(2 * len + 16);

    assert_non_null(odd);
    switch (below(5)) {
    case 0:
        snprintf(odd, 2 * len + 16, "%.*s", (int)at, text);
        break;
    case 1:
        snprintf(odd, 2 * len + 16, "%s%s", text, text);
        break;
    case 2:
        snprintf(odd, 2 * len + 16, "%.*s\xff%s", (int)at, text, text + at);
        break;
    case 3:
        snprintf(odd, 2 * len + 16, "%.*s%.*s%s", (int)at, text, (int)(len - at) / 2, text + at,
                 text + at);
        break;
    default:
        snprintf(odd, 2 * len + 16, "%s", text);
        if (at < len)
            odd[at] = (char)(1 + below(127));
    }
    return odd;
}

static char *
mutated_json(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);
    char *odd;

    if (value == NULL)
        return strdup(text);
    for (size_t i = 0; i <= below(3); i++)
        mutate(value);
    odd = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    return odd;
}

/* ---- valid requests ---- */

struct real {
    const char *path; /* or URL */
    char *payload;
    bool by_new_key;
};

static struct ca_fixture ca;
static struct acme_authority *authority;
static struct acme_store *authority_store;
static struct peer account, fresh;
static struct peer_order pending, ready, valid;
static struct real reals[12];
static size_t real_count;
static char nonce[64]; /* of the last answer */

static void
add_real(const char *path, char *payload, bool by_new_key)
{
    assert_true(real_count < sizeof(reals) / sizeof(reals[0]));
    reals[real_count++] = (struct real){path, payload, by_new_key};
}

static char *
challenge_payload(void)
{
    char *token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = account.key});
    char *payload = NULL;

    if (asprintf(&payload, "{\"tkauth\":\"%s\"}", token) < 0)
        abort();
    free(token);
    return payload;
}

static char *
revocation_payload(void)
{
    size_t len;
    uint8_t *der = peer_download(&ca, &account, valid.url, &len);
    char *text = acme_base64url_encode(der, len), *payload = NULL;

    if (asprintf(&payload, "{\"certificate\":\"%s\",\"reason\":9}", text) < 0)
        abort();
    free(text);
    free(der);
    return payload;
}

static void
make_reals(void)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct post inner = {.path = "/acme/key-change", .payload = "{}", .no_nonce = true};

    add_real("/acme/new-account",
             strdup("{\"contact\":[\"mailto:a@example.com\"],\"termsOfServiceAgreed\":true,"
                    "\"onlyReturnExisting\":false,\"externalAccountBinding\":{\"protected\":\"AA\","
                    "\"payload\":\"AA\",\"signature\":\"AA\"}}"),
             true);
    add_real("/acme/new-order", peer_order_payload("1234"), false);
    add_real(account.kid, strdup("{\"contact\":[\"mailto:b@example.com\"]}"), false);
    add_real(pending.url, strdup(""), false);
    add_real(pending.authz, strdup("{\"status\":\"valid\"}"), false);
    add_real(pending.challenge, challenge_payload(), false);
    add_real(ready.finalize, peer_csr_payload(key, "5678", false), false);
    add_real("/acme/key-change", peer_body(&ca, &fresh, &inner), false);
    add_real("/acme/revoke-cert", revocation_payload(), false);
    add_real("/acme/revoke-cert", revocation_payload(), true);
    EVP_PKEY_free(key);
}

/* ---- requests with a fault ---- */

static void
assert_blames_the_client(const struct got *got, const char *what, const char *body)
{
    if (got->status >= 200 && got->status < 500)
        return;
    fail_msg("%d for %s: %s", got->status, what, body != NULL ? body : "");
}

/* A malformed request target. */
static void
odd_path(const char *path, char out[PATH_MAX_LEN])
{
    static const char *const ends[] = {"/",        "//",   "/..",         "/%2e%2e",
                                       "/%00",     "/%zz", "?cursor=%ff", "?a=b&a=b",
                                       "/a/b/c/d", "%2f",  ";x",          "/%c3%a9"};
    char *odd;

    if (below(2) == 0) {
        snprintf(out, PATH_MAX_LEN, "%.500s%s", path, ends[below(sizeof(ends) / sizeof(ends[0]))]);
        return;
    }
    odd = mutate_text(path);
    for (char *c = odd; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '#')
            *c = 'x';
    }
    snprintf(out, PATH_MAX_LEN, "%s%.500s", odd[0] == '/' ? "" : "/", odd);
    free(odd);
}

static const char *
path_of(const char *url)
{
    return strncmp(url, ca.url, strlen(ca.url)) == 0 ? url + strlen(ca.url) : url;
}

static char *
odd_header(void)
{
    json_t *header =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:{s:s}}", "alg", "ES256", "url", account.kid, "nonce",
                  nonce, "kid", account.kid, "b64", 1, "jwk", "kty", "EC");
    const char *name;
    json_t *member;
    void *next;
    char *text;

    for (size_t i = 0; i <= below(3); i++)
        mutate(header);
    json_object_foreach_safe(header, next, name, member) /* keep about one in three */
    {
        if (below(3) != 0)
            json_object_del(header, name);
    }
    text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

/* The body of a real request with a fault in its payload, its header or its octets; free() it. */
static char *
odd_body(const struct real *real)
{
    size_t kind = below(4);
    char *payload = kind == 0   ? mutated_json(real->payload)
                    : kind == 1 ? mutate_text(real->payload)
                                : strdup(real->payload);
    char *header_text = kind == 2 ? odd_header() : NULL;
    json_t *header = header_text != NULL ? json_loads(header_text, 0, NULL) : NULL;
    char *body = peer_body(&ca, real->by_new_key ? &fresh : &account,
                           &(struct post){.path = real->path,
                                          .payload = payload,
                                          .nonce = nonce[0] != '\0' ? nonce : NULL,
                                          .header = header});
    char *odd = NULL;

    if (kind == 3)
        odd = below(2) == 0 ? mutate_text(body) : mutated_json(body);
    json_decref(header);
    free(header_text);
    free(payload);
    if (odd == NULL)
        return body;
    free(body);
    return odd;
}

static void
ask_ca(void)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"};
    static const char *const types[] = {"application/json", "application/jose+jsonx", "text/plain",
                                        "application/jose+json; charset=utf-8"};
    const struct real *real = &reals[below(real_count)];
    char *body = odd_body(real), path[PATH_MAX_LEN];
    bool odd_http = below(8) == 0;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    if (odd_http)
        odd_path(path_of(real->path), path);
    else
        snprintf(path, sizeof(path), "%s", path_of(real->path));
    if (below(20) == 0)
        ca_fetch(&ca, methods[below(sizeof(methods) / sizeof(methods[0]))], path, NULL, NULL, &got);
    else
        ca_fetch(&ca, "POST", path,
                 odd_http ? types[below(sizeof(types) / sizeof(types[0]))]
                          : "application/jose+json",
                 body, &got);
    assert_blames_the_client(&got, path, body);
    snprintf(nonce, sizeof(nonce), "%s", got_header(&got, "Replay-Nonce"));
    free(body);
}

static char session[256]; /* "access token" of the STI-PA */

static void
ask_authority(void)
{
    static const char *const paths[] = {"/at/account/one/token", "/sti-pa/account/one/token",
                                        "/api/v1/account/one/token", "/sti-pa/revocations",
                                        "/api/v1/auth/refresh"};
    static const char token[] =
        "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNA\","
        "\"ca\":false,\"fingerprint\":\"SHA256 00:11\"}}";
    static const char revocation[] =
        "{\"issuer\":\"MAA=\",\"serial\":\"01ff\",\"reason\":1,"
        "\"requester\":\"x\",\"chain\":\"-----BEGIN CERTIFICATE-----\"}";
    static const char login[] = "{\"userId\":\"user\",\"password\":\"guess\"}";
    bool logs_in = below(LOGIN_EACH) == 0;
    const char *path = logs_in ? "/api/v1/auth/login" : paths[below(5)];
    const char *real = logs_in ? login : strstr(path, "revoc") != NULL ? revocation : token;
    char *body = below(3) == 0 ? mutate_text(real) : mutated_json(real), odd[PATH_MAX_LEN];
    struct acme_http_reply reply = {.status = 0};
    struct hsm_reason why = {""};
    char url[PATH_MAX_LEN + 64];

    snprintf(odd, sizeof(odd), "%s", path);
    if (below(8) == 0)
        odd_path(path, odd);
    snprintf(url, sizeof(url), "%s%s", ca.url, odd);
    if (acme_http_fetch(ca.pa.http,
                        &(struct acme_http_fetch){.method = below(20) == 0 ? "GET" : "POST",
                                                  .url = url,
                                                  .content_type = "application/json",
                                                  .authorization = below(10) == 0 ? "x" : session,
                                                  .body = body,
                                                  .body_len = strlen(body),
                                                  .reply_max = 1 << 20,
                                                  .timeout_ms = 30000},
                        &reply, &why) != HSM_OK)
        fail_msg("%s: %s", url, why.text);
    assert_blames_the_client(&(struct got){.status = reply.status}, url, body);
    acme_http_reply_clear(&reply);
    free(body);
}

/* ---- the tests ---- */

static size_t
requests_wanted(void)
{
    const char *text = getenv("STI_MALFORMED_REQUESTS");

    return text != NULL ? strtoul(text, NULL, 10) : REQUESTS;
}

static size_t
heap(void)
{
    malloc_trim(0);
    return mallinfo2().uordblks;
}

/* With a sanitizer's allocator, both numbers are 0. */
static void
ask_many(void (*ask)(void), size_t count)
{
    size_t before = 0;

    for (size_t i = 0; i < count; i++) {
        if (i == count / 4) /* caches are full by then */
            before = heap();
        ask();
    }
    if (heap() > before + MEMORY_MAX)
        fail_msg("%zu octets more in use after %zu requests", heap() - before, count);
}

static void
the_sti_ca_answers_every_malformed_request(void **state)
{
    struct peer_order order;

    (void)state;
    ask_many(ask_ca, requests_wanted() * 2 / 3);
    peer_enrol(&ca, &account, "1234", &order); /* still serves */
    peer_assert_status(&ca, &account, ready.url, "ready");
}

static void
the_sti_pa_answers_every_malformed_request(void **state)
{
    (void)state;
    ask_many(ask_authority, requests_wanted() / 3);
}

/* Requests that are not for the STI-CA go to the STI-PA. */
static bool
intercept(struct ca_fixture *fixture, const struct acme_http_request *request,
          struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);
    struct acme_http_handler handler = acme_authority_handler(authority);

    (void)fixture;
    if (strncmp(path, "/acme", 5) == 0 || strncmp(path, "/pa/", 4) == 0)
        return false;
    handler.handle(handler.context, request, response);
    return true;
}

static void
start_authority(void)
{
    struct hsm_secret *password = NULL;
    char path[4300];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    snprintf(path, sizeof(path), "%s/sti-pa.db", softhsm_dir());
    assert_int_equal(acme_store_open(path, acme_authority_migrations, &authority_store), HSM_OK);
    assert_int_equal(
        acme_authority_new(&(struct acme_authority_config){.base_url = ca.pa.base_url,
                                                           .store = authority_store,
                                                           .signer_key = ca.pa.signer_key,
                                                           .signer_chain = ca.pa.signer_chain,
                                                           .crl_key = ca.pa.crl_key,
                                                           .crl_chain = ca.pa.crl_chain,
                                                           .token_lifetime_s = 600,
                                                           .session_lifetime_s = 86400,
                                                           .list_lifetime_s = 86400,
                                                           .crl_lifetime_s = 86400},
                           &authority),
        HSM_OK);
    assert_int_equal(hsm_secret_new("pass word", 9, &password), HSM_OK);
    assert_int_equal(acme_authority_account_add(authority_store, "one", "user", password,
                                                (const char *[]){"1234", NULL}, false),
                     HSM_OK);
    hsm_secret_free(password);
    ca.intercept = intercept;
    ca_fetch(&ca, "POST", "/api/v1/auth/login", "application/json",
             "{\"userId\":\"user\",\"password\":\"pass word\"}", &got);
    snprintf(session, sizeof(session), "Bearer %s", got_text(&got, "accessToken"));
}

static int
start(void **state)
{
    const char *text = getenv("STI_MALFORMED_SEED");

    (void)state;
    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    printf("STI_MALFORMED_SEED=%llu\n", (unsigned long long)seed);
    ca_fixture_start(&ca);
    peer_join(&ca, &account);
    peer_start(&fresh);
    peer_order(&ca, &account, "1234", &pending);
    peer_order_ready(&ca, &account, "1234", &ready);
    peer_enrol(&ca, &account, "1234", &valid);
    make_reals();
    start_authority();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    ca.intercept = NULL;
    acme_authority_free(authority);
    acme_store_close(authority_store);
    for (size_t i = 0; i < real_count; i++)
        free(reals[i].payload);
    peer_stop(&account);
    peer_stop(&fresh);
    ca_fixture_stop(&ca);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sti_ca_answers_every_malformed_request),
        cmocka_unit_test(the_sti_pa_answers_every_malformed_request),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
