/* password.c - salted scrypt hashes of passwords (RFC 7914), and Basic credentials (RFC 7617). */
#include "password_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define SCRYPT_N          32768
#define SCRYPT_R          8
#define SCRYPT_P          1
#define SCRYPT_MEMORY_MAX (256UL * 1024 * 1024) /* octets; bound on the costs of a stored hash */

DEFINE_DEFER(EVP_KDF, EVP_KDF_free)
DEFINE_DEFER(EVP_KDF_CTX, EVP_KDF_CTX_free)

/* Hash with the salt and the cost parameters of `like`. */
static enum hsm_status
hash_password(const char *password, size_t len, const struct acme_password_hash *like,
              uint8_t out[ACME_PASSWORD_HASH_LEN])
{
    DEFER(EVP_KDF_free) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
    DEFER(EVP_KDF_CTX_free) EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    uint64_t n = like->n;
    uint64_t memory_max = SCRYPT_MEMORY_MAX;
    uint32_t r = like->r;
    uint32_t p = like->p;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)password, len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)like->salt,
                                          sizeof(like->salt)),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory_max),
        OSSL_PARAM_construct_end(),
    };

    if (ctx == NULL || EVP_KDF_derive(ctx, out, ACME_PASSWORD_HASH_LEN, params) != 1) {
        hsm_log(HSM_LOG_ERROR, "scrypt failed");
        return HSM_ERR_CRYPTO;
    }
    return HSM_OK;
}

enum hsm_status
acme_password_hash_new(const struct hsm_secret *password, struct acme_password_hash *out)
{
    struct acme_password_hash hash = acme_password_hash_of_nobody();
    enum hsm_status st;

    if (RAND_bytes(hash.salt, sizeof(hash.salt)) != 1) {
        hsm_log(HSM_LOG_ERROR, "no random numbers");
        return HSM_ERR_CRYPTO;
    }
    st = hash_password(hsm_secret_octets(password), hsm_secret_len(password), &hash, hash.hash);
    if (st != HSM_OK)
        return st;
    *out = hash;
    return HSM_OK;
}

struct acme_password_hash
acme_password_hash_of_nobody(void)
{
    return (struct acme_password_hash){.n = SCRYPT_N, .r = SCRYPT_R, .p = SCRYPT_P};
}

static bool
read_octets(const struct acme_rows *rows, size_t column, uint8_t *out, size_t len)
{
    size_t have;
    const uint8_t *octets = acme_rows_blob(rows, column, &have);

    if (octets == NULL || have != len)
        return false;
    memcpy(out, octets, len);
    return true;
}

enum hsm_status
acme_password_hash_read(const struct acme_rows *rows, size_t first, struct acme_password_hash *out)
{
    struct acme_password_hash hash;

    if (!read_octets(rows, first, hash.salt, sizeof(hash.salt)) ||
        !read_octets(rows, first + 1, hash.hash, sizeof(hash.hash))) {
        hsm_log(HSM_LOG_ERROR, "store: a password hash is broken");
        return HSM_ERR_IO;
    }
    hash.n = (uint64_t)acme_rows_int(rows, first + 2);
    hash.r = (uint32_t)acme_rows_int(rows, first + 3);
    hash.p = (uint32_t)acme_rows_int(rows, first + 4);
    *out = hash;
    return HSM_OK;
}

enum hsm_status
acme_password_matches(const char *password, size_t len, const struct acme_password_hash *stored,
                      bool *out)
{
    uint8_t hash[ACME_PASSWORD_HASH_LEN];
    enum hsm_status st = hash_password(password, len, stored, hash);

    if (st == HSM_OK)
        *out = CRYPTO_memcmp(hash, stored->hash, sizeof(hash)) == 0;
    OPENSSL_cleanse(hash, sizeof(hash));
    return st;
}

const char *
acme_after_scheme(const char *authorization, const char *scheme)
{
    size_t len = strlen(scheme);

    if (strncasecmp(authorization, scheme, len) != 0 || authorization[len] != ' ')
        return NULL;
    return authorization + len + strspn(authorization + len, " ");
}

enum hsm_status
acme_basic_parse(const char *credentials, struct acme_basic *out)
{
    struct acme_basic basic = {.user = NULL};
    uint8_t *decoded = NULL;
    enum hsm_status st =
        acme_base64_decode_any(credentials, strlen(credentials), &decoded, &basic.len);
    char *colon;

    if (st != HSM_OK)
        return st;
    basic.user = (char *)decoded;
    colon = strlen(basic.user) == basic.len ? strchr(basic.user, ':') : NULL;
    if (colon != NULL) {
        *colon = '\0';
        basic.password = colon + 1;
    }
    if (colon == NULL || !acme_json_can_carry(basic.user)) { /* section 2.1: charset="UTF-8" */
        acme_basic_clear(&basic);
        return HSM_ERR_MALFORMED;
    }
    *out = basic;
    return HSM_OK;
}

void
acme_basic_clear(struct acme_basic *basic)
{
    if (basic->user != NULL)
        OPENSSL_cleanse(basic->user, basic->len);
    free(basic->user);
    *basic = (struct acme_basic){.user = NULL};
}
