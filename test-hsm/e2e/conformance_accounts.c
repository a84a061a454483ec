/* conformance_accounts.c - key changes and external account binding (RFC 8555
 * sections 7.3.4, 7.3.5). */
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

#include <acme/jwk.h>
#include <hsm/defer.h>

#include "conformance_world.h"
#include "peer.h"
#include "softhsm.h"

/* ---- key change ---- */

/* The inner JWS, with optional faults. */
struct key_change {
    EVP_PKEY *key; /* the new key */
    EVP_PKEY *old_key; /* NULL: the account's key */
    const char *account, *url; /* NULL: the correct value */
    bool break_signature, with_nonce, with_kid;
};

/* free() it. */
static char *
inner_jws(const struct peer *old, const struct key_change *change)
{
    const char *kid = change->account != NULL ? change->account : old->kid;
    struct peer signer = {.key = change->key};
    json_t *jwk = NULL, *object;
    char *payload, *inner;

    assert_int_equal(acme_jwk_new(change->old_key != NULL ? change->old_key : old->key, &jwk),
                     HSM_OK);
    object = json_pack("{s:s, s:o}", "account", kid, "oldKey", jwk);
    payload = json_dumps(object, JSON_COMPACT);
    inner = peer_body(&world.ca, &signer,
                      &(struct post){.path = "/acme/key-change",
                                     .payload = payload,
                                     .url = change->url,
                                     .no_nonce = !change->with_nonce,
                                     .break_signature = change->break_signature,
                                     .kid = change->with_kid ? old->kid : NULL,
                                     .with_jwk = true});
    free(payload);
    json_decref(object);
    return inner;
}

static void
change_key(const struct peer *old, const struct key_change *change, struct got *got)
{
    char *payload = inner_jws(old, change);

    peer_send(&world.ca, old, "/acme/key-change", payload, got);
    free(payload);
}

void
conformance_key_changes(void)
{
    struct peer peer, fresh;
    CLEAR_AFTER(got_clear) struct got changed = {.status = 0};
    CLEAR_AFTER(got_clear) struct got stale = {.status = 0};
    CLEAR_AFTER(got_clear) struct got now = {.status = 0};

    peer_join(&world.ca, &peer);
    peer_start(&fresh);
    change_key(&peer, &(struct key_change){.key = fresh.key}, &changed);
    assert_got(&changed, 200, "");
    peer_send(&world.ca, &peer, peer.kid, "", &stale);
    assert_got(&stale, 403, "unauthorized");
    snprintf(fresh.kid, sizeof(fresh.kid), "%s", peer.kid);
    peer_send(&world.ca, &fresh, fresh.kid, "", &now);
    assert_got(&now, 200, "");
    peer_stop(&peer);
    peer_stop(&fresh);
}

void
conformance_key_change_to_a_taken_key(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    change_key(&world.account, &(struct key_change){.key = world.stranger.key}, &got);
    assert_got(&got, 409, "malformed");
    assert_string_equal(got_header(&got, "Location"), world.stranger.kid);
}

/* Change the account's key to a fresh one. */
static void
assert_key_change_refused(const struct key_change *plan)
{
    struct key_change change = *plan;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    change.key = peer_key_new("P-256");
    change_key(&world.account, &change, &got);
    assert_got(&got, 400, "malformed");
    EVP_PKEY_free(change.key);
}

void
conformance_key_change_of_another_account(void)
{
    assert_key_change_refused(&(struct key_change){.account = world.stranger.kid});
}

void
conformance_key_change_for_another_url(void)
{
    assert_key_change_refused(&(struct key_change){.url = "/acme/new-account"});
}

void
conformance_key_change_with_another_old_key(void)
{
    assert_key_change_refused(&(struct key_change){.old_key = world.stranger.key});
}

void
conformance_key_change_that_the_new_key_did_not_sign(void)
{
    assert_key_change_refused(&(struct key_change){.break_signature = true});
}

void
conformance_key_change_with_a_nonce_inside(void)
{
    assert_key_change_refused(&(struct key_change){.with_nonce = true});
}

void
conformance_key_change_with_a_kid_inside(void)
{
    assert_key_change_refused(&(struct key_change){.with_kid = true});
}

/* ---- external account binding ---- */

static const char *
keys_dir(void)
{
    static char dir[4200];

    snprintf(dir, sizeof(dir), "%s/external", softhsm_dir());
    return dir;
}

void
conformance_with_keys_for_external_accounts(void)
{
    world.ca.config.external_accounts = keys_dir();
    world.ca.config.external_account_required = true;
}

/* Each rule has a separate key, and "other" is one of them. */
static void
bind(const struct peer_binding *plan, int status, const char *problem)
{
    struct peer_binding binding = *plan;
    static int number;
    char id[32];
    struct peer peer;
    char *payload;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    if (number == 0)
        assert_int_equal(acme_server_external_add(world.ca.store, keys_dir(), "other"), HSM_OK);
    snprintf(id, sizeof(id), "key-%d", number++);
    assert_int_equal(acme_server_external_add(world.ca.store, keys_dir(), id), HSM_OK);
    binding.dir = keys_dir();
    binding.kid = id;
    peer_start(&peer);
    payload = peer_binding_payload(&world.ca, &peer, &binding);
    peer_send(&world.ca, &peer, "/acme/new-account", payload, &got);
    assert_got(&got, status, problem);
    assert_true((json_object_get(got.json, "externalAccountBinding") != NULL) == (status == 201));
    free(payload);
    peer_stop(&peer);
}

void
conformance_binding_is_accepted(void)
{
    bind(&(struct peer_binding){.alg = NULL}, 201, "");
}

void
conformance_binding_by_another_mac_key(void)
{
    bind(&(struct peer_binding){.key_of = "other"}, 403, "unauthorized");
}

void
conformance_binding_with_a_nonce(void)
{
    bind(&(struct peer_binding){.nonce = "AAAA"}, 400, "malformed");
}

void
conformance_binding_for_another_url(void)
{
    bind(&(struct peer_binding){.url = "https://other.example/acme/new-account"}, 400, "malformed");
}

void
conformance_binding_of_another_account_key(void)
{
    bind(&(struct peer_binding){.payload_key = world.stranger.key}, 400, "malformed");
}

void
conformance_binding_by_a_signature(void)
{
    bind(&(struct peer_binding){.alg = "ES256"}, 400, "badSignatureAlgorithm");
}
