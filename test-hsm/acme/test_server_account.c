/* test_server_account.c - mirrors acme/src/server_account.c: accounts and their keys. */
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

#include <acme/jwk.h>
#include <hsm/defer.h>

#include "ca_group.h"
#include "peer_jws.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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
    ca_assert_refused(&missing, 400, "accountDoesNotExist", "only existing");

    peer_send(&ca, &peer, path,
              "{\"contact\":[\"mailto:noc@sp.example\"],\"orders\":\"x\",\"unknown\":1}", &created);
    assert_int_equal(created.status, 201);
    ca_assert_post_headers(&created);
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
        ca_assert_refused(&got, 400, cases[i].problem, cases[i].contact);
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
        ca_assert_refused(&got, 400, "badPublicKey", "jwk");
        json_decref((json_t *)headers[i]);
    }
    peer_stop(&peer);
}

/* The number of recorded events of that kind in which the account itself acted. */
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
    ca_assert_refused(&refused, 401, "unauthorized", "after deactivation");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM acme_order JOIN account ON"
                                           " account.id = account WHERE account.status ="
                                           " 'deactivated' AND acme_order.status <> 'invalid'"),
                     0);
    snprintf(kid, sizeof(kid), "%s", peer.kid);
    peer.kid[0] = '\0'; /* jwk instead of kid */
    peer_send(&ca, &peer, "/acme/new-account", "{}", &new_account);
    ca_assert_refused(&new_account, 401, "unauthorized", "newAccount with a deactivated key");
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
    ca_assert_refused(&refused, 401, "unauthorized", "after revocation");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM acme_order JOIN account ON"
                                           " account.id = account WHERE account.status = 'revoked'"
                                           " AND acme_order.status <> 'invalid'"),
                     0);
    peer.kid[0] = '\0'; /* jwk instead of kid */
    peer_send(&ca, &peer, "/acme/new-account", "{}", &new_account);
    ca_assert_refused(&new_account, 401, "unauthorized", "newAccount with a revoked key");
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
        ca_assert_refused(&got, 403, "unauthorized", urls[i]);
    }
    peer_stop(&other);
}

/* Reads one page of orders and its "next" URL ("" for the last page). */
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

/* Add 99 completed orders to the account's open one, two for each second after it. */
static void
date_orders(const struct peer *peer)
{
    const char *id = strrchr(peer->kid, '/') + 1;

    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM"
                                    " n WHERE i < 99) INSERT INTO acme_order (id, account, authz,"
                                    " status, spc, created, expires) SELECT 'listed' || i, account,"
                                    " authz, 'valid', spc, created + 5 + i / 2, expires FROM"
                                    " acme_order, n WHERE account = ?",
                                    "s", id),
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
        ca_assert_refused(&got, 400, "malformed", cursors[i]);
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
    ca_assert_refused(&old_key, 403, "unauthorized", "the old key");
    EVP_PKEY_free(peer.key);
    peer.key = fresh;
    peer_assert_status(&ca, &peer, peer.kid, "valid");
    assert_int_equal(events("account key changed", &peer), 1);
    peer_stop(&peer);
    peer_stop(&other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_is_created_once_and_found_by_its_key),
        cmocka_unit_test(a_contact_that_is_no_mail_address_is_refused),
        cmocka_unit_test(an_account_key_must_be_a_public_p256_key),
        cmocka_unit_test(an_account_is_updated_and_deactivated_with_all_it_has_open),
        cmocka_unit_test(an_account_that_the_operator_has_revoked_is_of_no_use),
        cmocka_unit_test(an_account_reads_no_other_ones_things),
        cmocka_unit_test(the_orders_of_an_account_are_listed_the_open_and_the_newest_first),
        cmocka_unit_test(a_cursor_that_is_none_of_ours_is_malformed),
        cmocka_unit_test(a_key_change_needs_both_keys_and_the_right_words),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
