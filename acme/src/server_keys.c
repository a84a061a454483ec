/*
 * server_keys.c - the public keys of accounts that have been here lately: to read a JWK and find
 * its point on the curve costs a third of the signature that it verifies.
 *
 * Kept by the text that the store has, which is read for each request: a key that was changed is
 * another text.
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <acme/jwk.h>
#include <hsm/log.h>

#include "store_internal.h"

#define KEPT_MAX 256 /* accounts of one process, a power of two; one makes room for another */

struct kept {
    char *jwk; /* NULL: free */
    EVP_PKEY *key;
};

struct acme_keys {
    pthread_mutex_t mutex;
    struct kept kept[KEPT_MAX]; /* by the hash of their text */
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
    EVP_PKEY_free(kept->key);
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

/* A reference of the caller's, or NULL. */
static EVP_PKEY *
look_up(struct acme_keys *keys, const struct kept *place, const char *jwk)
{
    EVP_PKEY *key = NULL;

    pthread_mutex_lock(&keys->mutex);
    if (place->jwk != NULL && strcmp(place->jwk, jwk) == 0 && EVP_PKEY_up_ref(place->key) == 1)
        key = place->key;
    pthread_mutex_unlock(&keys->mutex);
    return key;
}

/* Nothing is lost when this fails. */
static void
keep(struct acme_keys *keys, struct kept *place, const char *jwk, EVP_PKEY *key)
{
    struct kept fresh = {.jwk = strdup(jwk)}, old;

    if (fresh.jwk == NULL || EVP_PKEY_up_ref(key) != 1) {
        free(fresh.jwk);
        return;
    }
    fresh.key = key;
    pthread_mutex_lock(&keys->mutex);
    old = *place;
    *place = fresh;
    pthread_mutex_unlock(&keys->mutex);
    clear(&old);
}

enum hsm_status
acme_keys_find(struct acme_keys *keys, const char *jwk, EVP_PKEY **out)
{
    DEFER(json_decref) json_t *object = NULL;
    struct kept *place = &keys->kept[store_text_hash(jwk) & (KEPT_MAX - 1)];

    *out = look_up(keys, place, jwk);
    if (*out != NULL)
        return HSM_OK;
    object = json_loads(jwk, 0, NULL);
    if (object == NULL || acme_jwk_parse(object, out, NULL) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "the key of an account is not readable in the store");
        return HSM_ERR_IO;
    }
    keep(keys, place, jwk, *out);
    return HSM_OK;
}
