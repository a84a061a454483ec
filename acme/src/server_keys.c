/*
 * server_keys.c - a cache of the public keys of recently active accounts: parsing a JWK and
 * checking that its point is on the curve costs a third of verifying a signature, and preparing
 * the verifier another tenth.
 *
 * The cache is indexed by the text from the store, which is read for each request: a changed key
 * has another text.
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <acme/jwk.h>
#include <hsm/es256.h>
#include <hsm/json.h>
#include <hsm/log.h>

#include "store_internal.h"

#define KEPT_MAX 256 /* accounts per process, a power of two; a new one may replace another */

struct kept {
    char *jwk; /* NULL: unused */
    struct acme_account_key *key;
};

struct acme_keys {
    pthread_mutex_t mutex;
    struct kept kept[KEPT_MAX]; /* by the hash of the text */
};

enum hsm_status
acme_keys_new(struct acme_keys **out)
{
    struct acme_keys *keys = calloc(1, sizeof(*keys));

    if (keys == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&keys->mutex, NULL);
    *out = keys;
    return HSM_OK;
}

static void
clear(struct kept *kept)
{
    free(kept->jwk);
    acme_account_key_free(kept->key);
}

void
acme_keys_free(struct acme_keys *keys)
{
    if (keys == NULL)
        return;
    for (size_t i = 0; i < KEPT_MAX; i++)
        clear(&keys->kept[i]);
    pthread_mutex_destroy(&keys->mutex);
    free(keys);
}

static struct acme_account_key *
hold(struct acme_account_key *key)
{
    atomic_fetch_add(&key->references, 1);
    return key;
}

void
acme_account_key_free(struct acme_account_key *key)
{
    if (key == NULL || atomic_fetch_sub(&key->references, 1) > 1)
        return;
    hsm_es256_verifier_free(key->verifier);
    EVP_PKEY_free(key->key);
    free(key);
}

/* The cached key, with a reference for the caller; or NULL. */
static struct acme_account_key *
look_up(struct acme_keys *keys, const struct kept *place, const char *jwk)
{
    struct acme_account_key *key = NULL;

    pthread_mutex_lock(&keys->mutex);
    if (place->jwk != NULL && strcmp(place->jwk, jwk) == 0)
        key = hold(place->key);
    pthread_mutex_unlock(&keys->mutex);
    return key;
}

/* On failure the key is just not cached. */
static void
keep(struct acme_keys *keys, struct kept *place, const char *jwk, struct acme_account_key *key)
{
    struct kept fresh = {.jwk = strdup(jwk)}, old;

    if (fresh.jwk == NULL)
        return;
    fresh.key = hold(key);
    pthread_mutex_lock(&keys->mutex);
    old = *place;
    *place = fresh;
    pthread_mutex_unlock(&keys->mutex);
    clear(&old);
}

static enum hsm_status
read_key(const char *jwk, struct acme_account_key *key)
{
    DEFER(json_decref) json_t *object = json_loads(jwk, 0, NULL);

    if (object == NULL || acme_jwk_parse(object, &key->key, NULL) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "the key of an account is not readable in the store");
        return HSM_ERR_IO;
    }
    return hsm_es256_verifier_new(key->key, &key->verifier);
}

enum hsm_status
acme_keys_find(struct acme_keys *keys, const char *jwk, struct acme_account_key **out)
{
    struct kept *place = &keys->kept[acme_store_text_hash(jwk) & (KEPT_MAX - 1)];
    struct acme_account_key *key = look_up(keys, place, jwk);
    enum hsm_status st = HSM_OK;

    if (key == NULL) {
        key = calloc(1, sizeof(*key));
        if (key == NULL)
            return HSM_ERR_NOMEM;
        key->references = 1;
        st = read_key(jwk, key);
        if (st == HSM_OK)
            keep(keys, place, jwk, key);
    }
    if (st == HSM_OK)
        *out = key;
    else
        acme_account_key_free(key);
    return st;
}
