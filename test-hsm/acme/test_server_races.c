/* test_server_races.c - another request, process or operator changes the account after a request
 * was authenticated. */
#define _GNU_SOURCE /* asprintf */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "ca_group.h"

#include <acme/jwk.h>
#include <hsm/defer.h>

#include "peer.h"
#include "server_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TERMS        "https://ca.example/terms"
#define OPEN_MAX     1000 /* orders of one account */
#define REQUESTS     4
#define REACHED_MS   60000 /* enough to authenticate the requests on any machine */

static atomic_uint authenticated; /* requests whose account has been read */

/* ---- requests in progress while this thread writes to the store ---- */

struct request {
    pthread_t thread;
    const char *url;
    char *body;
    struct got got;
};

enum hsm_status __real_acme_keys_find(struct acme_keys *keys, const char *jwk,
                                      struct acme_account_key **out);
enum hsm_status __wrap_acme_keys_find(struct acme_keys *keys, const char *jwk,
                                      struct acme_account_key **out);

/* Replaces the server's function through the linker's --wrap. From here on the account is as it was
 * read. */
enum hsm_status
__wrap_acme_keys_find(struct acme_keys *keys, const char *jwk, struct acme_account_key **out)
{
    authenticated++;
    return __real_acme_keys_find(keys, jwk, out);
}

static void *
carry(void *context)
{
    struct request *request = context;

    ca_fetch(&ca, "POST", request->url, "application/jose+json", request->body, &request->got);
    return NULL;
}

/* The nonce is obtained in advance, as newNonce would block too. */
static void
prepare(struct request *request, const struct peer *peer, const char *url, const char *payload)
{
    *request = (struct request){.url = url};
    request->body = peer_body(&ca, peer, &(struct post){.path = url, .payload = payload});
}

/* The requests are authenticated before `sql` changes the account, and answered after it. */
static void
answer_around(struct request *requests, size_t count, const struct peer *peer, const char *sql)
{
    assert_int_equal(acme_store_begin(ca.store), HSM_OK);
    authenticated = 0;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&requests[i].thread, NULL, carry, &requests[i]), 0);
    for (unsigned ms = 0; ms < REACHED_MS && authenticated < count; ms++)
        usleep(1000);
    assert_int_equal(authenticated, count);
    if (sql != NULL)
        assert_int_equal(acme_store_run(ca.store, NULL, sql, "s", strrchr(peer->kid, '/') + 1),
                         HSM_OK);
    assert_int_equal(acme_store_commit(ca.store), HSM_OK);
    for (size_t i = 0; i < count; i++) {
        pthread_join(requests[i].thread, NULL);
        free(requests[i].body);
    }
}

/* ---- accounts ---- */

static void
update_around(const struct peer *peer, const char *payload, const char *sql, struct got *got)
{
    struct request request;

    prepare(&request, peer, peer->kid, payload);
    answer_around(&request, 1, peer, sql);
    *got = request.got;
}

static void
an_update_changes_what_it_names_and_nothing_else(void **state)
{
    struct peer peer;
    CLEAR_AFTER(got_clear) struct got contact = {.status = 0};
    CLEAR_AFTER(got_clear) struct got agreed = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    update_around(&peer, "{\"contact\":[\"mailto:noc@sp.example\"]}",
                  "UPDATE account SET terms = '" TERMS "' WHERE id = ?", &contact);
    assert_int_equal(contact.status, 200);
    assert_true(json_is_true(json_object_get(contact.json, "termsOfServiceAgreed")));
    assert_non_null(strstr(contact.body, "mailto:noc@sp.example"));
    ca.config.terms_of_service = TERMS;
    ca_fixture_restart(&ca);
    update_around(&peer, "{\"termsOfServiceAgreed\":true}",
                  "UPDATE account SET contact = '[\"mailto:new@sp.example\"]', terms = NULL"
                  " WHERE id = ?",
                  &agreed);
    ca.config.terms_of_service = NULL;
    ca_fixture_restart(&ca);
    assert_int_equal(agreed.status, 200);
    assert_true(json_is_true(json_object_get(agreed.json, "termsOfServiceAgreed")));
    assert_non_null(strstr(agreed.body, "mailto:new@sp.example"));
    peer_stop(&peer);
}

#define REVOKED "UPDATE account SET status = 'revoked' WHERE id = ?"

static void
an_account_that_was_revoked_meanwhile_is_not_updated(void **state)
{
    struct peer peer;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    update_around(&peer, "{\"contact\":[\"mailto:late@sp.example\"]}", REVOKED, &got);
    assert_int_equal(got.status, 401);
    assert_string_equal(got_problem(&got), "unauthorized");
    assert_string_equal(got_text(&got, "detail"), "the account is valid no more");
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM account WHERE contact LIKE '%late@%'"), 0);
    peer_stop(&peer);
}

static char *
key_change(const struct peer *peer, EVP_PKEY *new_key)
{
    struct peer inner = {.key = new_key};
    json_t *old_key = NULL, *object;
    char *payload, *body;

    assert_int_equal(acme_jwk_new(peer->key, &old_key), HSM_OK);
    object = json_pack("{s:s, s:o}", "account", peer->kid, "oldKey", old_key);
    payload = json_dumps(object, JSON_COMPACT);
    body = peer_body(
        &ca, &inner,
        &(struct post){
            .path = "/acme/key-change", .payload = payload, .no_nonce = true, .with_jwk = true});
    json_decref(object);
    free(payload);
    return body;
}

static void
an_account_that_was_revoked_meanwhile_gets_no_new_key(void **state)
{
    EVP_PKEY *new_key = peer_key_new("P-256");
    struct peer peer;
    struct request request;
    char *inner;

    (void)state;
    peer_join(&ca, &peer);
    inner = key_change(&peer, new_key);
    prepare(&request, &peer, "/acme/key-change", inner);
    answer_around(&request, 1, &peer, REVOKED);
    assert_int_equal(request.got.status, 403);
    assert_string_equal(got_problem(&request.got), "unauthorized");
    got_clear(&request.got);
    free(inner);
    peer_stop(&peer);
    EVP_PKEY_free(new_key);
}

/* ---- orders ---- */

/* Fill up the account's open orders, except for one. */
static void
fill_orders(const struct peer *peer, const struct peer_order *order)
{
    assert_int_equal(
        acme_store_run(ca.store, NULL,
                       "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE"
                       " i < ?) INSERT INTO acme_order (id, account, authz, status, spc, created,"
                       " expires) SELECT 'filled' || i, ?, ?, 'pending', '1234', 1, 9999999999"
                       " FROM n",
                       "iss", (int64_t)OPEN_MAX - 2, strrchr(peer->kid, '/') + 1,
                       strrchr(order->authz, '/') + 1),
        HSM_OK);
}

static void
of_several_last_orders_of_an_account_one_is_made(void **state)
{
    char *payload = peer_order_payload("1234");
    struct request requests[REQUESTS];
    struct peer_order order;
    struct peer peer;
    int made = 0;

    (void)state;
    peer_join(&ca, &peer);
    peer_order(&ca, &peer, "1234", &order);
    fill_orders(&peer, &order);
    for (size_t i = 0; i < COUNT(requests); i++)
        prepare(&requests[i], &peer, "/acme/new-order", payload);
    answer_around(requests, COUNT(requests), &peer, NULL);
    for (size_t i = 0; i < COUNT(requests); i++) {
        made += requests[i].got.status == 201;
        if (requests[i].got.status != 201) {
            assert_int_equal(requests[i].got.status, 429);
            assert_string_equal(got_problem(&requests[i].got), "rateLimited");
            assert_string_equal(got_header(&requests[i].got, "Retry-After"), "3600");
        }
        got_clear(&requests[i].got);
    }
    assert_int_equal(made, 1);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM acme_order"), OPEN_MAX);
    peer_stop(&peer);
    free(payload);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_several_last_orders_of_an_account_one_is_made),
        cmocka_unit_test(an_update_changes_what_it_names_and_nothing_else),
        cmocka_unit_test(an_account_that_was_revoked_meanwhile_is_not_updated),
        cmocka_unit_test(an_account_that_was_revoked_meanwhile_gets_no_new_key),
    };

    return cmocka_run_group_tests(tests, ca_group_start_alone, ca_group_stop);
}
