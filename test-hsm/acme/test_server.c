/* test_server.c - mirrors acme/src/server*.c: the STI-CA over HTTPS, with other parties' clients.
 */
#define _GNU_SOURCE /* asprintf */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/jwk.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>

#include "ca_fixture.h"
#include "data.h"
#include "peer_jws.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY          86400 /* seconds */
#define DATA_NOW     1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define THREADS      8

static struct ca_fixture ca;

/* ---- helpers ---- */

static void
assert_refused(const struct got *got, int status, const char *problem, const char *what)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%s: %d %s instead of %d %s", what, got->status, got->body, status, problem);
    assert_string_equal(got_header(got, "Content-Type"), "application/problem+json");
    assert_int_equal(json_integer_value(json_object_get(got->json, "status")), status);
}

/* What every answer to a POST carries (RFC 8555 sections 6.5, 7.1). */
static void
assert_post_headers(const struct got *got)
{
    char index[CA_URL_SIZE];

    snprintf(index, sizeof(index), "<%s/acme/directory>;rel=\"index\"", ca.pa.base_url);
    assert_string_equal(got_header(got, "Link"), index);
    assert_true(strlen(got_header(got, "Replay-Nonce")) == 22);
    assert_string_equal(got_header(got, "Cache-Control"), "no-store");
}

/* ---- directory and nonces ---- */

static void
the_directory_names_what_is_offered_and_nothing_else(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char url[CA_URL_SIZE];

    (void)state;
    ca_fetch(&ca, "GET", "/acme/directory", NULL, NULL, &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_header(&got, "Content-Type"), "application/json");
    assert_string_equal(got_header(&got, "Link"), "");
    assert_int_equal(json_object_size(got.json), 7);
    snprintf(url, sizeof(url), "%s/acme/renewal-info", ca.pa.base_url);
    assert_string_equal(got_text(&got, "renewalInfo"), url);
    snprintf(url, sizeof(url), "%s/acme/new-order", ca.pa.base_url);
    assert_string_equal(got_text(&got, "newOrder"), url);
    assert_non_null(json_object_get(got.json, "keyChange"));
    assert_non_null(json_object_get(got.json, "revokeCert"));
    assert_null(json_object_get(got.json, "newAuthz"));
}

static void
new_nonce_answers_head_with_200_and_get_with_204(void **state)
{
    CLEAR_AFTER(got_clear) struct got head = {.status = 0};
    CLEAR_AFTER(got_clear) struct got get = {.status = 0};

    (void)state;
    ca_fetch(&ca, "HEAD", "/acme/new-nonce", NULL, NULL, &head);
    ca_fetch(&ca, "GET", "/acme/new-nonce", NULL, NULL, &get);
    assert_int_equal(head.status, 200);
    assert_int_equal(get.status, 204);
    assert_post_headers(&head);
    assert_post_headers(&get);
    assert_string_not_equal(got_header(&head, "Replay-Nonce"), got_header(&get, "Replay-Nonce"));
}

static void
a_nonce_is_good_once(void **state)
{
    const struct peer *peer = *state;
    char nonce[64], *body;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    ca_nonce(&ca, nonce);
    body = peer_body(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce});
    ca_fetch(&ca, "POST", peer->kid, "application/jose+json", body, &first);
    ca_fetch(&ca, "POST", peer->kid, "application/jose+json", body, &second);
    free(body);
    assert_int_equal(first.status, 200);
    assert_refused(&second, 400, "badNonce", "replayed");
    assert_post_headers(&second);
}

static void
the_nonce_of_an_answer_is_good_for_the_next_request(void **state)
{
    const struct peer *peer = *state;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    peer_send(&ca, peer, peer->kid, "", &first);
    snprintf(nonce, sizeof(nonce), "%s", got_header(&first, "Replay-Nonce"));
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &second);
    assert_int_equal(second.status, 200);
}

static void
a_nonce_expires_and_is_deleted(void **state)
{
    const struct peer *peer = *state;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    ca_fixture_set_time(time(NULL) + 3601);
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &got);
    assert_refused(&got, 400, "badNonce", "an hour old");
    acme_server_expire(ca.server);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM nonce"), 1); /* of that answer */
    ca_fixture_set_time(0);
}

static void
processes_on_one_store_share_their_nonces(void **state)
{
    const struct peer *peer = *state;
    struct acme_server *first = ca.server, *second = NULL;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    assert_int_equal(acme_server_new(&ca.config, &second), HSM_OK);
    ca.server = second;
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &got);
    ca.server = first;
    acme_server_free(second);
    assert_int_equal(got.status, 200);
}

/* ---- the envelope (RFC 8555 section 6) ---- */

static void
a_request_with_one_fault_is_refused(void **state)
{
    const struct peer *peer = *state;
    char foreign[CA_URL_SIZE], unknown[CA_URL_SIZE];
    json_t *crit = json_pack("{s:[s]}", "crit", "exp");
    json_t *b64 = json_pack("{s:b, s:[s]}", "b64", 0, "crit", "b64");
    const char *path = "/acme/new-order";
    const struct {
        const char *what;
        struct post post;
        int status;
        const char *problem;
    } faults[] = {
        {"media type", {.content_type = "application/json"}, 415, "malformed"},
        {"no media type", {.content_type = "application/jose+jsonx"}, 415, "malformed"},
        {"alg none", {.alg = "none"}, 400, "badSignatureAlgorithm"},
        {"alg HS256", {.alg = "HS256"}, 400, "badSignatureAlgorithm"},
        {"alg ES384", {.alg = "ES384"}, 400, "badSignatureAlgorithm"},
        {"another url", {.url = "/acme/new-account"}, 403, "unauthorized"},
        {"another host", {.url = "https://ca.example/acme/new-order"}, 403, "unauthorized"},
        {"no nonce", {.no_nonce = true}, 400, "badNonce"},
        {"unknown nonce", {.nonce = "AAAAAAAAAAAAAAAAAAAAAA"}, 400, "badNonce"},
        {"nonce not base64url", {.nonce = "AAAA+/=="}, 400, "malformed"},
        {"jwk and kid", {.with_jwk = true}, 400, "malformed"},
        {"neither jwk nor kid", {.without_key = true}, 400, "malformed"},
        {"kid of another server", {.kid = foreign}, 400, "accountDoesNotExist"},
        {"kid of no account", {.kid = unknown}, 400, "accountDoesNotExist"},
        {"signature", {.break_signature = true}, 403, "unauthorized"},
        {"crit", {.header = crit}, 400, "malformed"},
        {"b64 false", {.header = b64}, 400, "malformed"},
        {"payload no JSON", {.payload = "{"}, 400, "malformed"},
        {"payload an array", {.payload = "[]"}, 400, "malformed"},
        {"duplicate members", {.payload = "{\"a\":1,\"a\":1}"}, 400, "malformed"},
        {"POST-as-GET of newOrder", {.payload = ""}, 400, "malformed"},
    };

    snprintf(foreign, sizeof(foreign), "https://ca.example/acme/acct/AAAAAAAAAAAAAAAAAAAAAA");
    snprintf(unknown, sizeof(unknown), "%s/acme/acct/AAAAAAAAAAAAAAAAAAAAAA", ca.pa.base_url);
    for (size_t i = 0; i < COUNT(faults); i++) {
        struct post post = faults[i].post;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        post.path = path;
        if (post.payload == NULL)
            post.payload = "{}";
        peer_post(&ca, peer, &post, &got);
        assert_refused(&got, faults[i].status, faults[i].problem, faults[i].what);
        assert_post_headers(&got);
    }
    json_decref(crit);
    json_decref(b64);
}

static void
an_unsupported_algorithm_is_told_which_ones_are(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_post(&ca, *state,
              &(struct post){.path = "/acme/new-order", .payload = "{}", .alg = "RS256"}, &got);
    assert_int_equal(json_array_size(json_object_get(got.json, "algorithms")), 1);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(got.json, "algorithms"), 0)), "ES256");
}

static void
a_body_that_is_no_flattened_jws_is_malformed(void **state)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "[]",
        "{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\",\"signature\":\"\"}",
        "{\"protected\":\"e30\",\"payload\":\"\",\"signatures\":[]}",
        "{\"protected\":\"e30\",\"header\":{},\"payload\":\"\",\"signature\":\"AA\"}",
        "e30.e30.AA",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fetch(&ca, "POST", "/acme/new-order", "application/jose+json", bodies[i], &got);
        assert_refused(&got, 400, "malformed", bodies[i]);
    }
}

static void
an_oversized_body_is_413(void **state)
{
    char *body = malloc(ACME_HTTP_BODY_MAX + 2);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    memset(body, 'A', ACME_HTTP_BODY_MAX + 1);
    body[ACME_HTTP_BODY_MAX + 1] = '\0';
    ca_fetch(&ca, "POST", "/acme/new-order", "application/jose+json", body, &got);
    free(body);
    assert_int_equal(got.status, 413);
}

static void
get_of_what_wants_a_post_is_405(void **state)
{
    static const char *const paths[] = {
        "/acme/new-account", "/acme/new-order",        "/acme/key-change", "/acme/acct/x",
        "/acme/order/x",     "/acme/order/x/finalize", "/acme/authz/x",    "/acme/chall/x",
        "/acme/cert/x",      "/acme/acct/x/orders",
    };
    CLEAR_AFTER(got_clear) struct got post = {.status = 0};
    CLEAR_AFTER(got_clear) struct got nowhere = {.status = 0};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fetch(&ca, "GET", paths[i], NULL, NULL, &got);
        assert_refused(&got, 405, "malformed", paths[i]);
        assert_string_equal(got_header(&got, "Allow"), "POST, OPTIONS");
    }
    ca_fetch(&ca, "POST", "/acme/directory", "application/jose+json", "{}", &post);
    assert_refused(&post, 405, "malformed", "POST of the directory");
    ca_fetch(&ca, "GET", "/acme/nowhere", NULL, NULL, &nowhere);
    assert_refused(&nowhere, 404, "malformed", "unknown path");
}

/* ---- accounts (section 7.3) ---- */

static void
an_account_is_created_once_and_found_by_its_key(void **state)
{
    const char *path = "/acme/new-account";
    struct peer peer;
    CLEAR_AFTER(got_clear) struct got missing = {.status = 0};
    CLEAR_AFTER(got_clear) struct got created = {.status = 0};
    CLEAR_AFTER(got_clear) struct got found = {.status = 0};

    (void)state;
    peer_start(&peer);
    peer_send(&ca, &peer, path, "{\"onlyReturnExisting\":true}", &missing);
    assert_refused(&missing, 400, "accountDoesNotExist", "only existing");

    peer_send(&ca, &peer, path,
              "{\"contact\":[\"mailto:noc@sp.example\"],\"orders\":\"x\",\"unknown\":1}", &created);
    assert_int_equal(created.status, 201);
    assert_post_headers(&created);
    assert_string_equal(got_text(&created, "status"), "valid");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(created.json, "contact"), 0)),
        "mailto:noc@sp.example");

    peer_send(&ca, &peer, path, "{\"contact\":[\"mailto:other@sp.example\"]}", &found);
    assert_int_equal(found.status, 200);
    assert_string_equal(got_header(&found, "Location"), got_header(&created, "Location"));
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(found.json, "contact"), 0)),
        "mailto:noc@sp.example");
    peer_stop(&peer);
}

static void
a_contact_that_is_no_mail_address_is_refused(void **state)
{
    static const struct {
        const char *contact, *problem;
    } cases[] = {
        {"[\"tel:+12155550100\"]", "unsupportedContact"},
        {"[\"https://sp.example\"]", "unsupportedContact"},
        {"[\"mailto:noc\"]", "invalidContact"},
        {"[\"mailto:@sp.example\"]", "invalidContact"},
        {"[\"mailto:a@sp.example,b@sp.example\"]", "invalidContact"},
        {"[\"mailto:a@sp.example?subject=x\"]", "invalidContact"},
        {"[\"mailto:a@b@c\"]", "invalidContact"},
        {"[7]", "invalidContact"},
        {"\"mailto:a@sp.example\"", "invalidContact"},
        {"[\"mailto:1@x\",\"mailto:2@x\",\"mailto:3@x\",\"mailto:4@x\",\"mailto:5@x\","
         "\"mailto:6@x\",\"mailto:7@x\",\"mailto:8@x\",\"mailto:9@x\"]",
         "invalidContact"},
    };
    const struct peer *peer = *state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char payload[512];
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        snprintf(payload, sizeof(payload), "{\"contact\":%s}", cases[i].contact);
        peer_send(&ca, peer, peer->kid, payload, &got);
        assert_refused(&got, 400, cases[i].problem, cases[i].contact);
    }
}

static void
an_account_key_must_be_a_public_p256_key(void **state)
{
    json_t *with_private = json_pack("{s:{s:s,s:s,s:s,s:s,s:s}}", "jwk", "kty", "EC", "crv",
                                     "P-256", "x", "7yTB3A1zxGlZof6xNZY-JOeRQY4Ky8OL9V2ShdPqrVQ",
                                     "y", "FvO6dIxUQFkyGZm4LY6kEnrF2sREN5dm5i4kwVSxnHs", "d",
                                     "7yTB3A1zxGlZof6xNZY-JOeRQY4Ky8OL9V2ShdPqrVQ");
    json_t *off_curve = json_pack("{s:{s:s,s:s,s:s,s:s}}", "jwk", "kty", "EC", "crv", "P-256", "x",
                                  "7yTB3A1zxGlZof6xNZY-JOeRQY4Ky8OL9V2ShdPqrVQ", "y",
                                  "7yTB3A1zxGlZof6xNZY-JOeRQY4Ky8OL9V2ShdPqrVQ");
    json_t *rsa = json_pack("{s:{s:s,s:s,s:s}}", "jwk", "kty", "RSA", "n", "AQAB", "e", "AQAB");
    const json_t *headers[] = {with_private, off_curve, rsa};
    struct peer peer;

    (void)state;
    peer_start(&peer);
    for (size_t i = 0; i < COUNT(headers); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_post(
            &ca, &peer,
            &(struct post){.path = "/acme/new-account", .payload = "{}", .header = headers[i]},
            &got);
        assert_refused(&got, 400, "badPublicKey", "jwk");
        json_decref((json_t *)headers[i]);
    }
    peer_stop(&peer);
}

/* How many acts of that kind an account has done to itself. */
static int64_t
events(const char *what, const struct peer *peer)
{
    struct acme_rows *rows = NULL;
    int64_t count;

    assert_int_equal(
        acme_store_query(ca.store, &rows,
                         "SELECT count(*) FROM event WHERE what = ? AND subject = ? AND"
                         " who = 'account ' || subject",
                         "ss", what, strrchr(peer->kid, '/') + 1),
        HSM_OK);
    assert_true(acme_rows_next(rows));
    count = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return count;
}

static void
an_account_is_updated_and_deactivated_with_all_it_has_open(void **state)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got updated = {.status = 0};
    CLEAR_AFTER(got_clear) struct got deactivated = {.status = 0};
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};
    CLEAR_AFTER(got_clear) struct got new_account = {.status = 0};
    char kid[CA_URL_SIZE];

    (void)state;
    peer_join(&ca, &peer);
    peer_order(&ca, &peer, "1234", &order);
    peer_send(&ca, &peer, peer.kid, "{\"contact\":[\"mailto:new@sp.example\"]}", &updated);
    assert_int_equal(updated.status, 200);
    assert_int_equal(json_array_size(json_object_get(updated.json, "contact")), 1);

    peer_send(&ca, &peer, peer.kid, "{\"status\":\"deactivated\"}", &deactivated);
    assert_int_equal(deactivated.status, 200);
    assert_string_equal(got_text(&deactivated, "status"), "deactivated");
    assert_int_equal(events("account deactivated", &peer), 1);
    peer_send(&ca, &peer, order.url, "", &refused);
    assert_refused(&refused, 401, "unauthorized", "after deactivation");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM acme_order JOIN account ON"
                                           " account.id = account WHERE account.status ="
                                           " 'deactivated' AND acme_order.status <> 'invalid'"),
                     0);
    snprintf(kid, sizeof(kid), "%s", peer.kid);
    peer.kid[0] = '\0'; /* by jwk again */
    peer_send(&ca, &peer, "/acme/new-account", "{}", &new_account);
    assert_refused(&new_account, 401, "unauthorized", "newAccount with a deactivated key");
    peer_stop(&peer);
}

static void
an_account_that_the_operator_has_revoked_is_of_no_use(void **state)
{
    struct peer peer;
    struct peer_order order;
    const char *id;
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};
    CLEAR_AFTER(got_clear) struct got new_account = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    peer_order(&ca, &peer, "1234", &order);
    id = strrchr(peer.kid, '/') + 1;
    assert_int_equal(acme_server_account_revoke(ca.store, "nobody"), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_server_account_revoke(ca.store, id), HSM_OK);
    assert_int_equal(acme_server_account_revoke(ca.store, id), HSM_ERR_NOT_FOUND);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM event WHERE what = 'account revoked'"), 1);
    peer_send(&ca, &peer, order.url, "", &refused);
    assert_refused(&refused, 401, "unauthorized", "after revocation");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM acme_order JOIN account ON"
                                           " account.id = account WHERE account.status = 'revoked'"
                                           " AND acme_order.status <> 'invalid'"),
                     0);
    peer.kid[0] = '\0'; /* by jwk again */
    peer_send(&ca, &peer, "/acme/new-account", "{}", &new_account);
    assert_refused(&new_account, 401, "unauthorized", "newAccount with a revoked key");
    peer_stop(&peer);
}

static void
an_account_reads_no_other_ones_things(void **state)
{
    const struct peer *peer = *state;
    struct peer other;
    struct peer_order order;
    const char *urls[4];

    peer_join(&ca, &other);
    peer_order(&ca, &other, "1234", &order);
    urls[0] = other.kid;
    urls[1] = order.url;
    urls[2] = order.authz;
    urls[3] = order.challenge;
    for (size_t i = 0; i < COUNT(urls); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, peer, urls[i], "", &got);
        assert_refused(&got, 403, "unauthorized", urls[i]);
    }
    peer_stop(&other);
}

/* The URLs of one page, and its "next" ("" when it is the last). */
static void
read_orders(const struct peer *peer, const char *url, struct got *got, char next[CA_URL_SIZE])
{
    const char *link;

    peer_send(&ca, peer, url, "", got);
    assert_int_equal(got->status, 200);
    link = got_header_n(got, "Link", 1); /* the first is the directory */
    next[0] = '\0';
    if (link[0] == '\0')
        return;
    assert_non_null(strstr(link, ">;rel=\"next\""));
    snprintf(next, CA_URL_SIZE, "%.*s", (int)strcspn(link, ">") - 1, link + 1);
}

static const char *
nth_order(const struct got *got, size_t n)
{
    return json_string_value(json_array_get(json_object_get(got->json, "orders"), n));
}

/* As of that time; 101 orders, of which the two oldest are open. */
static void
date_orders(const struct peer *peer)
{
    const char *account = strrchr(peer->kid, '/') + 1;

    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM"
                                    " n WHERE i < 99) INSERT INTO acme_order (id, account, authz,"
                                    " status, spc, created, expires) SELECT 'listed' || i, account,"
                                    " authz, 'valid', spc, created + 5 + i / 2, expires FROM"
                                    " acme_order, n WHERE account = ?",
                                    "s", account),
                     HSM_OK);
}

static void
the_orders_of_an_account_are_listed_the_open_and_the_newest_first(void **state)
{
    struct peer peer;
    struct peer_order older, newer;
    char list[CA_URL_SIZE], next[CA_URL_SIZE], end[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    ca_fixture_set_time(time(NULL) - 100);
    peer_order(&ca, &peer, "1234", &older);
    date_orders(&peer);
    ca_fixture_set_time(0);
    peer_order(&ca, &peer, "1234", &newer);
    snprintf(list, sizeof(list), "%.400s/orders", peer.kid);
    read_orders(&peer, list, &first, next);
    assert_int_equal(json_array_size(json_object_get(first.json, "orders")), 100);
    assert_string_equal(nth_order(&first, 0), newer.url);
    assert_string_equal(nth_order(&first, 1), older.url);
    assert_non_null(strstr(nth_order(&first, 2), "/listed98"));
    assert_string_not_equal(next, "");
    ca_fixture_order_sql(&ca, older.url, "UPDATE acme_order SET status = 'invalid' WHERE id = ?");
    read_orders(&peer, next, &second, end);
    assert_int_equal(json_array_size(json_object_get(second.json, "orders")), 1);
    assert_non_null(strstr(nth_order(&second, 0), "/listed1"));
    assert_string_equal(end, "");
    peer_stop(&peer);
}

static void
a_cursor_that_is_none_of_ours_is_malformed(void **state)
{
    static const char *const cursors[] = {
        "cursor=", "cursor=x.1.a", "cursor=o.one.a", "cursor=o.1.", "cursor=o.1.a%20", "page=2",
    };

    for (size_t i = 0; i < COUNT(cursors); i++) {
        const struct peer *peer = *state;
        char url[CA_URL_SIZE];
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        snprintf(url, sizeof(url), "%.400s/orders?%s", peer->kid, cursors[i]);
        peer_send(&ca, peer, url, "", &got);
        assert_refused(&got, 400, "malformed", cursors[i]);
    }
}

/* ---- key change (section 7.3.5) ---- */

struct inner {
    const char *url, *account, *alg;
    EVP_PKEY *signer, *jwk, *old;
    bool nonce;
};

/* The inner JWS as text; free() it. */
static char *
inner_jws(const struct inner *inner)
{
    json_t *jwk = NULL, *old = NULL, *header, *payload, *body;
    char *header_text, *payload_text, *jws, *dot[2], *text;

    assert_int_equal(acme_jwk_new(inner->jwk, &jwk), HSM_OK);
    assert_int_equal(acme_jwk_new(inner->old, &old), HSM_OK);
    header = json_pack("{s:s, s:s, s:o}", "alg", inner->alg, "url", inner->url, "jwk", jwk);
    if (inner->nonce)
        json_object_set_new(header, "nonce", json_string("AAAA"));
    payload = json_pack("{s:s, s:o}", "account", inner->account, "oldKey", old);
    header_text = json_dumps(header, JSON_COMPACT);
    payload_text = json_dumps(payload, JSON_COMPACT);
    jws = peer_jws(inner->signer, header_text, payload_text);
    dot[0] = strchr(jws, '.');
    dot[1] = strchr(dot[0] + 1, '.');
    *dot[0] = *dot[1] = '\0';
    body = json_pack("{s:s, s:s, s:s}", "protected", jws, "payload", dot[0] + 1, "signature",
                     dot[1] + 1);
    text = json_dumps(body, JSON_COMPACT);
    free(header_text);
    free(payload_text);
    free(jws);
    json_decref(header);
    json_decref(payload);
    json_decref(body);
    return text;
}

static void
a_key_change_needs_both_keys_and_the_right_words(void **state)
{
    struct peer peer, other;
    EVP_PKEY *fresh = peer_key_new("P-256");
    char url[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got old_key = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    peer_join(&ca, &other);
    snprintf(url, sizeof(url), "%s/acme/key-change", ca.pa.base_url);
    const struct {
        const char *what;
        struct inner inner;
        int status;
        const char *problem;
    } cases[] = {
        {"another url",
         {other.kid, peer.kid, "ES256", fresh, fresh, peer.key, false},
         400,
         "malformed"},
        {"another account",
         {url, other.kid, "ES256", fresh, fresh, peer.key, false},
         400,
         "malformed"},
        {"another old key",
         {url, peer.kid, "ES256", fresh, fresh, other.key, false},
         400,
         "malformed"},
        {"not by the new key",
         {url, peer.kid, "ES256", peer.key, fresh, peer.key, false},
         400,
         "malformed"},
        {"with a nonce", {url, peer.kid, "ES256", fresh, fresh, peer.key, true}, 400, "malformed"},
        {"alg none",
         {url, peer.kid, "none", fresh, fresh, peer.key, false},
         400,
         "badSignatureAlgorithm"},
        {"key of another",
         {url, peer.kid, "ES256", other.key, other.key, peer.key, false},
         409,
         "malformed"},
        {"good", {url, peer.kid, "ES256", fresh, fresh, peer.key, false}, 200, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *payload = inner_jws(&cases[i].inner);
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, &peer, url, payload, &got);
        if (got.status != cases[i].status || strcmp(got_problem(&got), cases[i].problem) != 0)
            fail_msg("%s: %d %s", cases[i].what, got.status, got.body);
        if (got.status == 409)
            assert_string_equal(got_header(&got, "Location"), other.kid);
        free(payload);
    }
    peer_send(&ca, &peer, peer.kid, "", &old_key);
    assert_refused(&old_key, 403, "unauthorized", "the old key");
    EVP_PKEY_free(peer.key);
    peer.key = fresh;
    peer_assert_status(&ca, &peer, peer.kid, "valid");
    assert_int_equal(events("account key changed", &peer), 1);
    peer_stop(&peer);
    peer_stop(&other);
}

/* ---- newOrder (section 7.4, RFC 9448 section 3) ---- */

static void
an_order_for_what_is_not_one_spc_is_refused(void **state)
{
    static const struct {
        const char *payload;
        int status;
        const char *problem;
    } cases[] = {
        {"{}", 400, "malformed"},
        {"{\"identifiers\":[]}", 400, "malformed"},
        {"{\"identifiers\":{}}", 400, "malformed"},
        {"{\"identifiers\":[7]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\"}]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}]}", 403,
         "unsupportedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
         "{\"type\":\"dns\",\"value\":\"sp.example\"}]}",
         403, "unsupportedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
         "{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}]}",
         403, "rejectedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"!\"}]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIz\"}]}", 400,
         "malformed"},
        /* one number: 12155550100 */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MA-iDRYLMTIxNTU1NTAxMDA\"}]}", 403,
         "rejectedIdentifier"},
        /* two SPCs */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MBCgBhYEMTIzNKAGFgQ1Njc4\"}]}",
         403, "rejectedIdentifier"},
        /* "ab12": not upper case */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEYWIxMg\"}]}", 403,
         "rejectedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notAfter\":\"tomorrow\"}",
         400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notAfter\":\"2999-01-01T00:00:00Z\"}",
         400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notBefore\":\"2001-01-01T00:00:00Z\"}",
         400, "malformed"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, "/acme/new-order", cases[i].payload, &got);
        assert_refused(&got, cases[i].status, cases[i].problem, cases[i].payload);
    }
}

/* RFC 8555 section 6.7.1. */
static void
each_of_several_identifiers_is_told_what_is_wrong_with_it(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *subproblems, *one;

    peer_send(&ca, *state, "/acme/new-order",
              "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
              "{\"type\":\"dns\",\"value\":\"sp.example\"},"
              "{\"type\":\"TNAuthList\",\"value\":\"MAigBhYENzA5Sg\"}]}",
              &got);
    assert_refused(&got, 403, "compound", "two identifiers too many");
    subproblems = json_object_get(got.json, "subproblems");
    assert_int_equal(json_array_size(subproblems), 2);
    one = json_array_get(subproblems, 0);
    assert_string_equal(json_string_value(json_object_get(one, "type")),
                        "urn:ietf:params:acme:error:unsupportedIdentifier");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(one, "identifier"), "value")),
        "sp.example");
    one = json_array_get(subproblems, 1);
    assert_string_equal(json_string_value(json_object_get(one, "type")),
                        "urn:ietf:params:acme:error:rejectedIdentifier");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(one, "identifier"), "value")),
        "MAigBhYENzA5Sg");
}

static void
the_identifier_comes_back_as_the_client_wrote_it(void **state)
{
    static const char *const values[] = {"MAigBhYEMTIzNA", "MAigBhYEMTIzNA==", "MAigBhYEODg_Pw",
                                         "MAigBhYENzA5Sg=="};
    const char *wanted[] = {values[0], values[1], NULL, values[3]}; /* "88??" is no SPC */

    for (size_t i = 0; i < COUNT(values); i++) {
        char payload[256];
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        const json_t *identifier;

        snprintf(payload, sizeof(payload),
                 "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"%s\"}]}", values[i]);
        peer_send(&ca, *state, "/acme/new-order", payload, &got);
        assert_int_equal(got.status == 201, wanted[i] != NULL);
        if (wanted[i] == NULL)
            continue;
        assert_post_headers(&got);
        identifier = json_array_get(json_object_get(got.json, "identifiers"), 0);
        assert_string_equal(json_string_value(json_object_get(identifier, "value")), wanted[i]);
        assert_string_equal(got_text(&got, "status"), "pending");
        assert_true(strlen(got_text(&got, "expires")) == 20);
    }
}

/* An RFC 3339 text of the time, two hours ahead of UTC and with a fraction. */
static void
local_time(time_t t, char text[40])
{
    struct tm tm;
    time_t local = t + 7200;

    gmtime_r(&local, &tm);
    strftime(text, 40, "%Y-%m-%dt%H:%M:%S.25+02:00", &tm);
}

static void
a_validity_that_is_asked_for_is_kept(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    time_t not_before = time(NULL) - 60, not_after = time(NULL) + 3 * DAY;
    char before[40], after[40], payload[512], echo[40];
    struct peer_order order;
    struct tm tm;
    CLEAR_AFTER(got_clear) struct got created = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    uint8_t *der;
    size_t len;
    X509 *cert = NULL;

    local_time(not_before, before);
    local_time(not_after, after);
    snprintf(payload, sizeof(payload),
             "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
             "\"notBefore\":\"%s\",\"notAfter\":\"%s\"}",
             before, after);
    peer_send(&ca, peer, "/acme/new-order", payload, &created);
    assert_int_equal(created.status, 201);
    gmtime_r(&not_after, &tm);
    strftime(echo, sizeof(echo), "%Y-%m-%dT%H:%M:%SZ", &tm);
    assert_string_equal(got_text(&created, "notAfter"), echo);
    snprintf(order.url, CA_URL_SIZE, "%s", got_header(&created, "Location"));
    snprintf(order.finalize, CA_URL_SIZE, "%s", got_text(&created, "finalize"));
    ca_fixture_sql(&ca, "UPDATE acme_order SET status = 'ready' WHERE not_after <> 0 AND"
                        " status = 'pending'");
    peer_finalize(&ca, peer, &order, key, "1234", false, &got);
    der = peer_download(&ca, peer, order.url, &len);
    assert_int_equal(certs_cert_parse_der(der, len, &cert, NULL), HSM_OK);
    assert_int_equal(certs_cert_not_before(cert), not_before);
    assert_int_equal(certs_cert_not_after(cert), not_after);
    X509_free(cert);
    free(der);
    EVP_PKEY_free(key);
}

/* An order with these times gets that status. */
static void
assert_validity(const struct peer *peer, time_t not_before, time_t not_after, int status)
{
    char before[40], after[40], payload[512];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    local_time(not_before, before);
    local_time(not_after, after);
    snprintf(payload, sizeof(payload),
             "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
             "\"notBefore\":\"%s\",\"notAfter\":\"%s\"}",
             before, after);
    peer_send(&ca, peer, "/acme/new-order", payload, &got);
    if (got.status != status)
        fail_msg("%s to %s: %d %s", before, after, got.status, got.body);
    assert_string_equal(got_problem(&got), status == 400 ? "malformed" : "");
}

static void
no_validity_is_promised_beyond_the_issuers_end(void **state)
{
    time_t end = certs_chain_not_after(ca.config.issuing_chain), now = end - 3 * DAY;

    ca_fixture_set_time(now);
    assert_validity(*state, now, end + 1, 400);
    assert_validity(*state, end, end + DAY, 400);
    assert_validity(*state, now, end, 201);
    assert_validity(*state, end - 1, end, 201);
    ca_fixture_set_time(0);
}

/* The issuer may be another one when it is finalized. */
static void
what_was_promised_is_not_cut_but_given_up(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "UPDATE acme_order SET not_after = ? WHERE id = ?", "is",
                                    (int64_t)certs_chain_not_after(ca.config.issuing_chain) + 1,
                                    strrchr(order.url, '/') + 1),
                     HSM_OK);
    peer_finalize(&ca, peer, &order, key, "1234", false, &got);
    assert_string_equal(got_text(&got, "status"), "invalid");
    EVP_PKEY_free(key);
}

static void
an_authorization_offers_one_tkauth_challenge(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got authz = {.status = 0};
    CLEAR_AFTER(got_clear) struct got challenge = {.status = 0};
    const json_t *offered;
    char up[CA_URL_SIZE + 16];

    peer_order(&ca, peer, "1234", &order);
    peer_send(&ca, peer, order.authz, "", &authz);
    assert_int_equal(json_array_size(json_object_get(authz.json, "challenges")), 1);
    offered = json_array_get(json_object_get(authz.json, "challenges"), 0);
    assert_string_equal(json_string_value(json_object_get(offered, "type")), "tkauth-01");
    assert_string_equal(json_string_value(json_object_get(offered, "tkauth-type")), "atc");
    assert_string_equal(json_string_value(json_object_get(offered, "status")), "pending");
    assert_true(json_string_length(json_object_get(offered, "token")) == 22);
    assert_null(json_object_get(offered, "token-authority"));
    assert_non_null(json_object_get(authz.json, "expires"));
    peer_send(&ca, peer, order.challenge, "", &challenge);
    snprintf(up, sizeof(up), "<%s>;rel=\"up\"", order.authz);
    assert_string_equal(got_header_n(&challenge, "Link", 1), up);
}

static void
what_does_not_exist_is_404(void **state)
{
    static const char *const paths[] = {"/acme/order/AAAAAAAAAAAAAAAAAAAAAA", "/acme/authz/x",
                                        "/acme/chall/x", "/acme/cert/x"};

    for (size_t i = 0; i < COUNT(paths); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, paths[i], "", &got);
        assert_refused(&got, 404, "malformed", paths[i]);
    }
}

static void
an_authorization_can_be_given_up_and_takes_its_order_with_it(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got wrong = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    peer_send(&ca, peer, order.authz, "{\"status\":\"valid\"}", &wrong);
    assert_refused(&wrong, 400, "malformed", "status valid");
    peer_send(&ca, peer, order.authz, "{\"status\":\"deactivated\"}", &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "deactivated");
    peer_assert_status(&ca, peer, order.url, "invalid");
    peer_send(&ca, peer, order.authz, "{\"status\":\"deactivated\"}", &again);
    assert_refused(&again, 400, "malformed", "twice");
}

static void
an_spc_without_a_registered_name_is_refused_where_one_is_required(void **state)
{
    const char *payload =
        "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEODhaWg\"}]}"; /* 88ZZ */
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};
    CLEAR_AFTER(got_clear) struct got taken = {.status = 0};
    CLEAR_AFTER(got_clear) struct got lost = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    ca.config.participants_required = true;
    ca_fixture_restart(&ca);
    peer_send(&ca, *state, "/acme/new-order", payload, &refused);
    assert_int_equal(acme_server_participant_set(ca.store, "88ZZ", "Eighty-Eight", "CA"), HSM_OK);
    peer_send(&ca, *state, "/acme/new-order", payload, &taken);
    /* the name is gone again before the certificate: an order that is open then is lost */
    assert_int_equal(acme_server_participant_remove(ca.store, "88ZZ"), HSM_OK);
    assert_int_equal(acme_server_participant_remove(ca.store, "88ZZ"), HSM_ERR_NOT_FOUND);
    peer_send(&ca, *state, got_header(&taken, "Location"), "", &lost);
    peer_send(&ca, *state, "/acme/new-order", payload, &again);
    ca.config.participants_required = false;
    ca_fixture_restart(&ca);
    assert_refused(&refused, 403, "rejectedIdentifier", "88ZZ");
    assert_int_equal(taken.status, 201);
    assert_string_equal(got_text(&lost, "status"), "invalid");
    assert_refused(&again, 403, "rejectedIdentifier", "88ZZ removed");
}

static void
a_participant_has_an_spc_a_name_and_a_country(void **state)
{
    char name[66];

    (void)state;
    memset(name, 'n', 65);
    name[65] = '\0';
    assert_int_equal(acme_server_participant_set(ca.store, "1!", "N", "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "", "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", name, "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "us"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "USA"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "US"), HSM_OK);
}

/* ---- the challenge (RFC 9448 section 6) ---- */

static void
answer_challenge(const struct peer *peer, const struct peer_order *order, const char *member,
                 const char *token, struct got *got)
{
    char *payload = NULL;

    if (asprintf(&payload, "{\"%s\":\"%s\"}", member, token) < 0)
        abort();
    peer_send(&ca, peer, order->challenge, payload, got);
    free(payload);
}

static void
assert_token_refused(const struct peer *peer, const char *token, const char *problem,
                     const char *what)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};
    CLEAR_AFTER(got_clear) struct got finalized = {.status = 0};
    const char *type;

    peer_order(&ca, peer, "1234", &order);
    answer_challenge(peer, &order, "tkauth", token, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(got_text(&answer, "status"), "invalid");
    type = json_string_value(json_object_get(json_object_get(answer.json, "error"), "type"));
    if (type == NULL || strcmp(strrchr(type, ':') + 1, problem) != 0)
        fail_msg("%s: %s", what, answer.body);
    peer_assert_status(&ca, peer, order.authz, "invalid");
    peer_send(&ca, peer, order.url, "", &read);
    assert_string_equal(got_text(&read, "status"), "invalid");
    assert_non_null(json_object_get(read.json, "error"));
    peer_finalize(&ca, peer, &order, peer->key, "1234", false, &finalized);
    assert_refused(&finalized, 403, "orderNotReady", what);
}

static void
an_spc_token_with_one_fault_ends_the_order(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *other = peer_key_new("P-256");
    char rogue[CA_URL_SIZE], garbage[CA_URL_SIZE], missing[CA_URL_SIZE], near[CA_URL_SIZE];
    char dots[CA_URL_SIZE];
    const struct {
        const char *what;
        struct token_plan plan;
        const char *problem;
    } cases[] = {
        {"expired", {.exp = ca_fixture_time() - 1}, "unauthorized"},
        {"fingerprint of another key", {.account_key = other}, "unauthorized"},
        {"another SPC", {.spc = "5678"}, "unauthorized"},
        {"another signer", {.signer = ca.issuing_key}, "unauthorized"},
        {"signer that may not", {.signer = ca.pa.crl_key, .x5u = rogue}, "unauthorized"},
        {"x5u elsewhere", {.x5u = "https://evil.example/signer.pem"}, "unauthorized"},
        {"x5u beside the authority", {.x5u = near}, "unauthorized"},
        {"x5u that climbs out", {.x5u = dots}, "unauthorized"},
        {"x5u of no chain", {.x5u = garbage}, "connection"},
        {"x5u of nothing", {.x5u = missing}, "connection"},
    };

    snprintf(rogue, sizeof(rogue), "%s/pa/rogue.pem", ca.pa.base_url);
    snprintf(garbage, sizeof(garbage), "%s/pa/garbage.pem", ca.pa.base_url);
    snprintf(missing, sizeof(missing), "%s/pa/missing.pem", ca.pa.base_url);
    snprintf(near, sizeof(near), "%s.evil.example/pa/signer.pem", ca.pa.base_url);
    snprintf(dots, sizeof(dots), "%s/pa/../pa/signer.pem", ca.pa.base_url);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct token_plan plan = cases[i].plan;
        char *token;

        if (plan.spc == NULL)
            plan.spc = "1234";
        if (plan.account_key == NULL)
            plan.account_key = peer->key;
        token = peer_token(&ca, &plan);
        assert_token_refused(peer, token, cases[i].problem, cases[i].what);
        free(token);
    }
    EVP_PKEY_free(other);
}

/* The same claims as a good token, under another alg. */
static char *
token_with_alg(const struct peer *peer, const char *alg)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1], header[CA_URL_SIZE + 64], payload[512];

    assert_int_equal(acme_fingerprint_format(peer->key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    snprintf(header, sizeof(header),
             "{\"alg\":\"%s\",\"typ\":\"JWT\",\"x5u\":\"%s/pa/signer.pem\"}", alg, ca.pa.base_url);
    snprintf(payload, sizeof(payload),
             "{\"exp\":%lld,\"jti\":\"x\",\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":"
             "\"MAigBhYEMTIzNA\",\"ca\":false,\"fingerprint\":\"%s\"}}",
             (long long)ca_fixture_time() + 600, fingerprint);
    if (strcmp(alg, "HS256") == 0) { /* keyed with the signer's public key, as an attacker can */
        char *input = peer_signing_input(header, payload), *token;
        uint8_t mac[32];

        assert_non_null(HMAC(EVP_sha256(), hsm_key_point(ca.pa.signer_key), HSM_P256_POINT_LEN,
                             (const uint8_t *)input, strlen(input), mac, NULL));
        token = peer_jws_with(header, payload, mac, sizeof(mac));
        free(input);
        return token;
    }
    return strcmp(alg, "none") == 0 ? peer_jws_with(header, payload, "", 0)
                                    : peer_jws(peer->key, header, payload);
}

static void
an_spc_token_that_is_not_es256_ends_the_order(void **state)
{
    static const char *const algs[] = {"none", "HS256", "ES256K", "RS256"};

    for (size_t i = 0; i < COUNT(algs); i++) {
        struct peer_order order;
        CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
        char *token = token_with_alg(*state, algs[i]);

        peer_order(&ca, *state, "1234", &order);
        answer_challenge(*state, &order, "atc", token, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(got_text(&answer, "status"), "invalid");
        peer_assert_status(&ca, *state, order.url, "invalid");
        free(token);
    }
}

static void
what_is_no_spc_token_ends_the_order(void **state)
{
    static const char *const tokens[] = {"", "x", "a.b.c", "e30.e30.AAAA"};

    for (size_t i = 0; i < COUNT(tokens); i++)
        assert_token_refused(*state, tokens[i], "incorrectResponse", tokens[i]);
}

static bool
the_sti_pa_is_away(struct ca_fixture *fixture, const struct acme_http_request *request,
                   struct acme_http_response *response)
{
    (void)fixture;
    if (strcmp(acme_http_request_path(request), "/pa/signer.pem") != 0)
        return false;
    acme_http_respond(response, 503, NULL, NULL, 0);
    return true;
}

static void
an_sti_pa_that_is_away_costs_no_order(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got away = {.status = 0};
    CLEAR_AFTER(got_clear) struct got back = {.status = 0};
    char *token;

    ca_fixture_restart(&ca); /* and it knows no certificate of a signer */
    peer_order(&ca, peer, "1234", &order);
    token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key});
    ca.intercept = the_sti_pa_is_away;
    answer_challenge(peer, &order, "tkauth", token, &away);
    ca.intercept = NULL;
    assert_refused(&away, 503, "connection", "the STI-PA is away");
    assert_non_null(got_header(&away, "Retry-After"));
    peer_assert_status(&ca, peer, order.authz, "pending");
    answer_challenge(peer, &order, "tkauth", token, &back);
    assert_int_equal(back.status, 200);
    assert_string_equal(got_text(&back, "status"), "valid");
    peer_assert_status(&ca, peer, order.url, "ready");
    free(token);
}

static void
a_response_without_one_token_leaves_the_challenge_pending(void **state)
{
    static const char *const payloads[] = {"{}", "{\"tkauth\":7}",
                                           "{\"tkauth\":\"a\",\"atc\":\"a\"}", "{\"other\":\"a\"}"};
    struct peer_order order;

    peer_order(&ca, *state, "1234", &order);
    for (size_t i = 0; i < COUNT(payloads); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, order.challenge, payloads[i], &got);
        assert_refused(&got, 400, "malformed", payloads[i]);
    }
    peer_assert_status(&ca, *state, order.challenge, "pending");
}

static void
every_deployed_form_of_a_good_token_is_taken(void **state)
{
    const struct peer *peer = *state;
    char spki[ACME_FINGERPRINT_LEN + 1], thumbprint[ACME_THUMBPRINT_LEN + 1];
    const struct {
        const char *member;
        struct token_plan plan;
    } forms[] = {
        {"tkauth", {.spc = "1234", .account_key = peer->key}},
        {"atc", {.spc = "1234", .account_key = peer->key}},
        {"atc", {.spc = "1234", .tkvalue = "MAigBhYEMTIzNA==", .fingerprint = spki}},
        {"tkauth", {.spc = "1234", .fingerprint = thumbprint}},
    };

    assert_int_equal(acme_fingerprint_format(peer->key, ACME_FINGERPRINT_SPKI, spki), HSM_OK);
    assert_int_equal(acme_jwk_thumbprint(peer->key, thumbprint), HSM_OK);
    for (size_t i = 0; i < COUNT(forms); i++) {
        struct peer_order order;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        CLEAR_AFTER(got_clear) struct got again = {.status = 0};
        char *token = peer_token(&ca, &forms[i].plan);

        peer_order(&ca, peer, "1234", &order);
        answer_challenge(peer, &order, forms[i].member, token, &got);
        assert_int_equal(got.status, 200);
        assert_string_equal(got_text(&got, "status"), "valid");
        assert_true(strlen(got_text(&got, "validated")) == 20);
        peer_assert_status(&ca, peer, order.authz, "valid");
        peer_assert_status(&ca, peer, order.url, "ready");
        answer_challenge(peer, &order, forms[i].member, "x", &again); /* too late to spoil it */
        assert_string_equal(got_text(&again, "status"), "valid");
        free(token);
    }
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM challenge WHERE status = 'valid'"
                                           " AND (jti IS NULL OR token_exp IS NULL)"),
                     0);
}

/* ---- finalize and certificate ---- */

static void
a_certificate_says_what_the_ca_knows_and_not_what_the_csr_claims(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};
    CLEAR_AFTER(got_clear) struct got pem = {.status = 0};
    char *subject;

    assert_int_equal(acme_server_participant_set(ca.store, "709J", "Bücher Telecom", "US"), HSM_OK);
    peer_enrol(&ca, peer, "709J", &order);
    peer_send(&ca, peer, order.url, "", &read);
    peer_send(&ca, peer, got_text(&read, "certificate"), "", &pem);
    assert_int_equal(certs_chain_parse_pem(pem.body, strlen(pem.body), 8, &chain, &why), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2); /* without the root */
    if (certs_chain_verify(chain, ca.root, CERTS_FOR_STI, ca_fixture_time(), &why) != HSM_OK)
        fail_msg("%s", why.text);
    subject = certs_cert_subject(certs_chain_get(chain, 0));
    assert_string_equal(subject, "CN=SHAKEN 709J,O=B\\C3\\BCcher Telecom,C=US");
    free(subject);
    certs_chain_free(chain);
}

static void
a_participant_without_a_name_is_certified_as_the_holder_of_its_code(void **state)
{
    struct peer_order order;
    struct hsm_reason why = {""};
    size_t len;
    uint8_t *der;
    char *subject;
    X509 *cert = NULL;

    peer_enrol(&ca, *state, "5678", &order);
    der = peer_download(&ca, *state, order.url, &len);
    assert_int_equal(certs_cert_parse_der(der, len, &cert, &why), HSM_OK);
    subject = certs_cert_subject(cert);
    assert_string_equal(subject, "CN=SHAKEN 5678,O=Service Provider 5678,C=US");
    free(subject);
    X509_free(cert);
    free(der);
}

static void
a_csr_that_does_not_fit_is_refused_and_the_order_stays_ready(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256"), *p384 = peer_key_new("P-384"), *used;
    struct peer other;
    struct peer_order order, before;
    const struct {
        const char *what;
        EVP_PKEY **key;
        const char *spc;
        bool ca;
    } cases[] = {
        {"another SPC", &key, "5678", false},
        {"no TNAuthList", &key, NULL, false},
        {"CA:TRUE", &key, "1234", true},
        {"P-384", &p384, "1234", false},
        {"the account's key", (EVP_PKEY **)&peer->key, "1234", false},
        {"another account's key", &other.key, "1234", false},
        {"a key certified before", &used, "1234", false},
    };
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got malformed = {.status = 0};
    CLEAR_AFTER(got_clear) struct got garbage = {.status = 0};
    CLEAR_AFTER(got_clear) struct got good = {.status = 0};

    peer_join(&ca, &other);
    used = peer_key_new("P-256");
    peer_order_ready(&ca, peer, "1234", &before);
    peer_finalize(&ca, peer, &before, used, "1234", false, &first);
    assert_int_equal(first.status, 200);

    peer_order_ready(&ca, peer, "1234", &order);
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_finalize(&ca, peer, &order, *cases[i].key, cases[i].spc, cases[i].ca, &got);
        assert_refused(&got, 400, "badCSR", cases[i].what);
        peer_assert_status(&ca, peer, order.url, "ready");
    }
    peer_send(&ca, peer, order.finalize, "{\"csr\":\"a+b=\"}", &malformed);
    assert_refused(&malformed, 400, "malformed", "not base64url");
    peer_send(&ca, peer, order.finalize, "{\"csr\":\"AAAA\"}", &garbage);
    assert_refused(&garbage, 400, "badCSR", "not DER");
    peer_finalize(&ca, peer, &order, key, "1234", false, &good);
    assert_int_equal(good.status, 200);
    EVP_PKEY_free(key);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(used);
    peer_stop(&other);
}

static void
a_token_for_a_ca_certificate_gives_none_here(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    char *token =
        peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key, .ca = true});
    CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
    CLEAR_AFTER(got_clear) struct got delegate = {.status = 0};
    CLEAR_AFTER(got_clear) struct got end_entity = {.status = 0};

    peer_order(&ca, peer, "1234", &order);
    answer_challenge(peer, &order, "tkauth", token, &answer);
    assert_string_equal(got_text(&answer, "status"), "valid");
    peer_finalize(&ca, peer, &order, key, "1234", true, &delegate);
    assert_refused(&delegate, 400, "badCSR", "CA:TRUE");
    assert_non_null(strstr(got_text(&delegate, "detail"), "delegate"));
    peer_finalize(&ca, peer, &order, key, "1234", false, &end_entity);
    assert_refused(&end_entity, 400, "badCSR", "CA:FALSE");
    free(token);
    EVP_PKEY_free(key);
}

static void
the_account_key_is_certified_only_by_the_operators_leave(void **state)
{
    struct peer peer;
    struct peer_order first, second;
    CLEAR_AFTER(got_clear) struct got once = {.status = 0};
    CLEAR_AFTER(got_clear) struct got twice = {.status = 0};

    (void)state;
    ca.config.account_key_in_csr = true;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_order_ready(&ca, &peer, "1234", &first);
    peer_finalize(&ca, &peer, &first, peer.key, "1234", false, &once);
    peer_order_ready(&ca, &peer, "1234", &second);
    peer_finalize(&ca, &peer, &second, peer.key, "1234", false, &twice); /* renewal with that key */
    ca.config.account_key_in_csr = false;
    ca_fixture_restart(&ca);
    assert_int_equal(once.status, 200);
    assert_int_equal(twice.status, 200);
    peer_stop(&peer);
}

static void
an_order_is_finalized_once(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got pending = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_order(&ca, peer, "1234", &order);
    peer_finalize(&ca, peer, &order, key, "1234", false, &pending);
    assert_refused(&pending, 403, "orderNotReady", "pending");
    peer_enrol(&ca, peer, "1234", &order);
    peer_finalize(&ca, peer, &order, key, "1234", false, &again);
    assert_refused(&again, 403, "orderNotReady", "valid");
    EVP_PKEY_free(key);
}

struct race {
    const struct peer *peer;
    const char *url;
    char *body;
    int status;
};

static void *
send_in_race(void *context)
{
    struct race *race = context;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_fetch(&ca, "POST", race->url, "application/jose+json", race->body, &got);
    race->status = got.status;
    return NULL;
}

static void
of_many_requests_that_finalize_an_order_one_gets_its_certificate(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    struct race races[THREADS];
    pthread_t threads[THREADS];
    int good = 0;
    int64_t before = ca_fixture_count(&ca, "SELECT count(*) FROM issuance");

    peer_order_ready(&ca, peer, "1234", &order);
    for (size_t i = 0; i < THREADS; i++) {
        EVP_PKEY *key = peer_key_new("P-256");
        char *payload = peer_csr_payload(key, "1234", false);

        races[i] = (struct race){.peer = peer, .url = order.finalize};
        races[i].body =
            peer_body(&ca, peer, &(struct post){.path = order.finalize, .payload = payload});
        free(payload);
        EVP_PKEY_free(key);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_race, &races[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        free(races[i].body);
        assert_true(races[i].status == 200 || races[i].status == 403);
        good += races[i].status == 200;
    }
    assert_int_equal(good, 1);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM issuance"), before + 1);
    peer_assert_status(&ca, peer, order.url, "valid");
}

/* All that could have changed, as one number for each. */
static int64_t
changes_so_far(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM issuance") * 1000000 +
           ca_fixture_count(&ca, "SELECT count(*) FROM acme_order") * 1000 +
           ca_fixture_count(&ca, "SELECT count(*) FROM challenge WHERE status <> 'pending'") +
           ca_fixture_count(&ca, "SELECT count(*) FROM authz WHERE status = 'deactivated'");
}

static void
assert_replay_is_refused(const struct peer *peer, const char *url, const char *payload)
{
    char nonce[64], *body;
    int64_t before;
    CLEAR_AFTER(got_clear) struct got used = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &used);
    assert_int_equal(used.status, 200);
    before = changes_so_far();
    body = peer_body(&ca, peer, &(struct post){.path = url, .payload = payload, .nonce = nonce});
    ca_fetch(&ca, "POST", url, "application/jose+json", body, &got);
    free(body);
    assert_refused(&got, 400, "badNonce", url);
    assert_post_headers(&got);
    assert_string_equal(got_header(&got, "Location"), "");
    assert_int_equal(changes_so_far(), before);
}

/* Nonces are exchanged while a request is looked at. */
static void
with_a_used_nonce_nothing_is_changed_and_nothing_told(void **state)
{
    const struct peer *peer = *state;
    struct peer_order pending, ready, valid;
    EVP_PKEY *key = peer_key_new("P-256");
    char *order = peer_order_payload("1234"), *csr = peer_csr_payload(key, "1234", false);
    char *token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key});
    char *answer = NULL;
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};

    assert_true(asprintf(&answer, "{\"tkauth\":\"%s\"}", token) > 0);
    peer_order(&ca, peer, "1234", &pending);
    peer_order_ready(&ca, peer, "1234", &ready);
    peer_enrol(&ca, peer, "1234", &valid);
    peer_send(&ca, peer, valid.url, "", &read);
    assert_replay_is_refused(peer, "/acme/new-order", order);
    assert_replay_is_refused(peer, pending.authz, "");
    assert_replay_is_refused(peer, pending.authz, "{\"status\":\"deactivated\"}");
    assert_replay_is_refused(peer, pending.challenge, answer);
    assert_replay_is_refused(peer, ready.finalize, csr);
    assert_replay_is_refused(peer, valid.url, "");
    assert_replay_is_refused(peer, got_text(&read, "certificate"), "");
    peer_assert_status(&ca, peer, pending.url, "pending");
    peer_assert_status(&ca, peer, ready.url, "ready");
    free(answer);
    free(token);
    free(csr);
    free(order);
    EVP_PKEY_free(key);
}

static void
requests_at_once_with_one_nonce_use_it_once(void **state)
{
    const struct peer *peer = *state;
    struct race races[THREADS];
    pthread_t threads[THREADS];
    char nonce[64];
    int good = 0;

    ca_nonce(&ca, nonce);
    for (size_t i = 0; i < THREADS; i++) {
        races[i] = (struct race){.peer = peer, .url = peer->kid};
        races[i].body =
            peer_body(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce});
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_race, &races[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        free(races[i].body);
        assert_true(races[i].status == 200 || races[i].status == 400);
        good += races[i].status == 200;
    }
    assert_int_equal(good, 1);
}

static void
an_order_that_is_not_fulfilled_in_time_is_invalid_and_then_gone(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got finalized = {.status = 0};
    CLEAR_AFTER(got_clear) struct got gone = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    ca_fixture_set_time(time(NULL) + 7 * DAY);
    peer_finalize(&ca, peer, &order, key, "1234", false, &finalized);
    assert_refused(&finalized, 403, "orderNotReady", "expired");
    peer_assert_status(&ca, peer, order.url, "invalid");
    peer_assert_status(&ca, peer, order.authz, "expired");
    acme_server_expire(ca.server);
    peer_assert_status(&ca, peer, order.url, "invalid");
    ca_fixture_set_time(time(NULL) + 8 * DAY + 1);
    acme_server_expire(ca.server);
    peer_send(&ca, peer, order.url, "", &gone);
    assert_refused(&gone, 404, "malformed", "deleted");
    ca_fixture_set_time(0);
    EVP_PKEY_free(key);
}

/* ---- configuration ---- */

static void
a_server_is_not_made_with_a_foreign_key_or_a_base_url_with_a_path(void **state)
{
    struct acme_server *server = NULL;
    struct acme_server_config config = ca.config;

    (void)state;
    config.issuing_key = ca.root_key;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_UNTRUSTED);
    config = ca.config;
    config.base_url = "https://ca.example/sub";
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config.base_url = "http://ca.example";
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config = ca.config;
    config.authorities = (const char *const[]){"http://pa.example/", NULL};
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    assert_null(server);
}

/* ---- requests that this project did not sign ---- */

static const json_t *
vector_step(const json_t *vectors, const char *name)
{
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(vectors, "steps"), i, step)
    {
        if (strcmp(json_string_value(json_object_get(step, "name")), name) == 0)
            return step;
    }
    fail_msg("no vector %s", name);
    return NULL;
}

/* Send a vector as it is; its nonce is made known to the server first. */
static void
send_vector(const json_t *vectors, const char *name, struct got *got)
{
    const json_t *step = vector_step(vectors, name);
    const json_t *body = json_object_get(step, "body");
    const char *protected_header = json_string_value(json_object_get(body, "protected"));
    char *text = json_dumps(body, JSON_COMPACT), path[256];
    uint8_t *header = NULL;
    size_t len;
    json_t *object;

    assert_int_equal(
        acme_base64url_decode(protected_header, strlen(protected_header), &header, &len), HSM_OK);
    object = json_loads((char *)header, 0, NULL);
    assert_int_equal(
        acme_store_run(ca.store, NULL,
                       "INSERT INTO nonce (value, expires) VALUES (?, ?) ON CONFLICT DO NOTHING",
                       "si", json_string_value(json_object_get(object, "nonce")),
                       (int64_t)DATA_NOW + 60),
        HSM_OK);
    snprintf(path, sizeof(path), "/acme%s", json_string_value(json_object_get(step, "path")));
    ca_fetch(&ca, "POST", path, "application/jose+json", text, got);
    json_decref(object);
    free(header);
    free(text);
}

static void
assert_vector(const json_t *vectors, const char *name, int status)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    send_vector(vectors, name, &got);
    if (got.status != status)
        fail_msg("%s: %d %s", name, got.status, got.body);
}

/* The vectors name their resources "1"; ours cannot be guessed. */
static void
rename_to_one(void)
{
    static const char *const statements[] = {
        "INSERT INTO authz (id, account, status, identifier, tnauthlist, expires)"
        " SELECT '1', '1', status, identifier, tnauthlist, expires FROM authz WHERE id ="
        " (SELECT authz FROM acme_order WHERE account = '1')",
        ("UPDATE challenge SET authz = '1', id = '1' WHERE authz ="
         " (SELECT authz FROM acme_order WHERE account = '1')"),
        "UPDATE acme_order SET id = '1', authz = '1', status = 'ready' WHERE account = '1'",
    };

    assert_int_equal(acme_store_begin(ca.store), HSM_OK);
    for (size_t i = 0; i < COUNT(statements); i++)
        ca_fixture_sql(&ca, statements[i]);
    assert_int_equal(acme_store_commit(ca.store), HSM_OK);
}

/* As if the order had been issued the certificate that the vectors revoke. */
static void
plant_certificate(void)
{
    struct certs_chain *chain = NULL;
    uint8_t serial[CERTS_SERIAL_MAX], *der = NULL;
    size_t serial_len, len;
    X509 *cert;

    assert_int_equal(certs_chain_read(data_path("self/sp-1234.cert.pem"), &chain), HSM_OK);
    cert = certs_chain_get(chain, 0);
    serial_len = certs_cert_serial(cert, serial);
    assert_int_equal(certs_cert_der(cert, &der, &len), HSM_OK);
    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "UPDATE issuance SET serial = ?, der = ? WHERE order_id = '1'",
                                    "bb", serial, serial_len, der, len),
                     HSM_OK);
    free(der);
    certs_chain_free(chain);
}

static void
requests_that_others_signed_are_understood(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json");
    CLEAR_AFTER(got_clear) struct got order = {.status = 0};
    CLEAR_AFTER(got_clear) struct got joined = {.status = 0};

    (void)state;
    ca_fixture_set_time(DATA_NOW);
    ca.config.base_url = "https://sti-ca.example";
    ca_fixture_restart(&ca);
    send_vector(vectors, "newAccount+EAB", &joined);
    assert_int_equal(joined.status, 201);
    assert_vector(vectors, "newAccount onlyReturnExisting", 200);
    assert_int_equal(acme_store_run(ca.store, NULL, "UPDATE account SET id = '1' WHERE id = ?", "s",
                                    strrchr(got_header(&joined, "Location"), '/') + 1),
                     HSM_OK);
    send_vector(vectors, "newOrder", &order);
    assert_int_equal(order.status, 201);
    assert_string_equal(got_text(&order, "notAfter"), "2026-04-15T12:00:00Z");
    rename_to_one();
    assert_vector(vectors, "get authz (POST-as-GET)", 200);
    assert_vector(vectors, "finalize", 200);
    ca_fixture_sql(&ca, "UPDATE issuance SET certificate = '1' WHERE order_id = '1'");
    assert_vector(vectors, "download cert", 200);
    assert_vector(vectors, "revokeCert by account", 404); /* another CA's */
    plant_certificate();
    ca_fixture_sql(&ca, "DELETE FROM nonce");
    assert_vector(vectors, "revokeCert by account", 200);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    assert_vector(vectors, "revokeCert by certificate key", 200);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation"), 1);
    ca_fixture_sql(&ca, "DELETE FROM nonce");
    assert_vector(vectors, "keyChange", 200);
    assert_vector(vectors, "deactivate account", 403); /* the old key is gone */
    ca.config.base_url = ca.pa.base_url;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(0);
    json_decref(vectors);
}

/* ---- the group ---- */

static struct peer account;

static int
start(void **state)
{
    ca_fixture_start(&ca);
    peer_join(&ca, &account);
    *state = &account;
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    peer_stop(&account);
    ca_fixture_stop(&ca);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_directory_names_what_is_offered_and_nothing_else),
        cmocka_unit_test(new_nonce_answers_head_with_200_and_get_with_204),
        cmocka_unit_test(a_nonce_is_good_once),
        cmocka_unit_test(requests_at_once_with_one_nonce_use_it_once),
        cmocka_unit_test(with_a_used_nonce_nothing_is_changed_and_nothing_told),
        cmocka_unit_test(the_nonce_of_an_answer_is_good_for_the_next_request),
        cmocka_unit_test(a_nonce_expires_and_is_deleted),
        cmocka_unit_test(processes_on_one_store_share_their_nonces),
        cmocka_unit_test(a_request_with_one_fault_is_refused),
        cmocka_unit_test(an_unsupported_algorithm_is_told_which_ones_are),
        cmocka_unit_test(a_body_that_is_no_flattened_jws_is_malformed),
        cmocka_unit_test(an_oversized_body_is_413),
        cmocka_unit_test(get_of_what_wants_a_post_is_405),
        cmocka_unit_test(an_account_is_created_once_and_found_by_its_key),
        cmocka_unit_test(a_contact_that_is_no_mail_address_is_refused),
        cmocka_unit_test(an_account_key_must_be_a_public_p256_key),
        cmocka_unit_test(an_account_is_updated_and_deactivated_with_all_it_has_open),
        cmocka_unit_test(an_account_that_the_operator_has_revoked_is_of_no_use),
        cmocka_unit_test(an_account_reads_no_other_ones_things),
        cmocka_unit_test(the_orders_of_an_account_are_listed_the_open_and_the_newest_first),
        cmocka_unit_test(a_cursor_that_is_none_of_ours_is_malformed),
        cmocka_unit_test(a_key_change_needs_both_keys_and_the_right_words),
        cmocka_unit_test(an_order_for_what_is_not_one_spc_is_refused),
        cmocka_unit_test(each_of_several_identifiers_is_told_what_is_wrong_with_it),
        cmocka_unit_test(the_identifier_comes_back_as_the_client_wrote_it),
        cmocka_unit_test(a_validity_that_is_asked_for_is_kept),
        cmocka_unit_test(no_validity_is_promised_beyond_the_issuers_end),
        cmocka_unit_test(what_was_promised_is_not_cut_but_given_up),
        cmocka_unit_test(an_authorization_offers_one_tkauth_challenge),
        cmocka_unit_test(what_does_not_exist_is_404),
        cmocka_unit_test(an_authorization_can_be_given_up_and_takes_its_order_with_it),
        cmocka_unit_test(an_spc_without_a_registered_name_is_refused_where_one_is_required),
        cmocka_unit_test(a_participant_has_an_spc_a_name_and_a_country),
        cmocka_unit_test(an_spc_token_with_one_fault_ends_the_order),
        cmocka_unit_test(an_spc_token_that_is_not_es256_ends_the_order),
        cmocka_unit_test(what_is_no_spc_token_ends_the_order),
        cmocka_unit_test(an_sti_pa_that_is_away_costs_no_order),
        cmocka_unit_test(a_response_without_one_token_leaves_the_challenge_pending),
        cmocka_unit_test(every_deployed_form_of_a_good_token_is_taken),
        cmocka_unit_test(a_certificate_says_what_the_ca_knows_and_not_what_the_csr_claims),
        cmocka_unit_test(a_participant_without_a_name_is_certified_as_the_holder_of_its_code),
        cmocka_unit_test(a_csr_that_does_not_fit_is_refused_and_the_order_stays_ready),
        cmocka_unit_test(a_token_for_a_ca_certificate_gives_none_here),
        cmocka_unit_test(the_account_key_is_certified_only_by_the_operators_leave),
        cmocka_unit_test(an_order_is_finalized_once),
        cmocka_unit_test(of_many_requests_that_finalize_an_order_one_gets_its_certificate),
        cmocka_unit_test(an_order_that_is_not_fulfilled_in_time_is_invalid_and_then_gone),
        cmocka_unit_test(a_server_is_not_made_with_a_foreign_key_or_a_base_url_with_a_path),
        cmocka_unit_test(requests_that_others_signed_are_understood),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
