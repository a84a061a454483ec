/* es256.c - ECDSA P-256 with SHA-256: check signatures, convert them and public keys. */
#include <hsm/es256.h>

#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <hsm/defer.h>

#include "defer_internal.h"
#include "es256_internal.h"

#define HALF (HSM_P256_SIG_LEN / 2) /* octets of R, of S and of a coordinate */

/* n, the order of P-256 (FIPS 186-4 D.1.2.3). */
static const uint8_t order[HALF] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};

/* Signatures are public, so time may depend on them. */
static bool
is_in_range(const uint8_t *number)
{
    static const uint8_t zero[HALF];

    return memcmp(number, zero, HALF) != 0 && memcmp(number, order, HALF) < 0;
}

bool
hsm_es256_in_range(const uint8_t *sig)
{
    return is_in_range(sig) && is_in_range(sig + HALF);
}

bool
hsm_es256_is_p256(EVP_PKEY *key)
{
    char group[32];
    size_t len;

    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), &len) == 1 &&
           OBJ_sn2nid(group) == NID_X9_62_prime256v1;
}

/* INTEGER of X.690 section 8.3: no leading zero octet except one that keeps it positive. */
static size_t
put_integer(const uint8_t *number, uint8_t *der)
{
    size_t skip = 0;
    size_t len;
    size_t pad;

    while (skip < HALF - 1 && number[skip] == 0)
        skip++;
    pad = number[skip] >= 0x80 ? 1 : 0;
    len = HALF - skip;
    der[0] = 0x02;
    der[1] = (uint8_t)(len + pad);
    der[2] = 0x00;
    memcpy(der + 2 + pad, number + skip, len);
    return 2 + pad + len;
}

enum hsm_status
hsm_es256_to_der(const uint8_t *sig, uint8_t *der, size_t *der_len)
{
    size_t len;

    if (!is_in_range(sig) || !is_in_range(sig + HALF))
        return HSM_ERR_MALFORMED;
    len = put_integer(sig, der + 2);
    len += put_integer(sig + HALF, der + 2 + len);
    der[0] = 0x30;
    der[1] = (uint8_t)len;
    *der_len = 2 + len;
    return HSM_OK;
}

/* One minimal positive INTEGER of at most 32 octets; returns the octets it takes, or 0. */
static size_t
get_integer(const uint8_t *der, size_t len, uint8_t *number)
{
    const uint8_t *value = der + 2;
    size_t n;

    if (len < 3 || der[0] != 0x02 || der[1] == 0 || der[1] > HALF + 1 || der[1] > len - 2)
        return 0;
    n = der[1];
    if (value[0] >= 0x80 || (n > 1 && value[0] == 0x00 && value[1] < 0x80))
        return 0; /* negative, or longer than necessary */
    if (value[0] == 0x00) {
        value++;
        n--;
    }
    if (n > HALF)
        return 0;
    memset(number, 0, HALF - n);
    memcpy(number + HALF - n, value, n);
    return 2 + (size_t)der[1];
}

enum hsm_status
hsm_es256_from_der(const uint8_t *der, size_t der_len, uint8_t *sig)
{
    uint8_t raw[HSM_P256_SIG_LEN];
    size_t r_len;
    size_t s_len;

    if (der_len < 8 || der_len > HSM_P256_DER_SIG_MAX || der[0] != 0x30 || der[1] != der_len - 2)
        return HSM_ERR_MALFORMED;
    r_len = get_integer(der + 2, der_len - 2, raw);
    if (r_len == 0)
        return HSM_ERR_MALFORMED;
    s_len = get_integer(der + 2 + r_len, der_len - 2 - r_len, raw + HALF);
    if (s_len == 0 || 2 + r_len + s_len != der_len)
        return HSM_ERR_MALFORMED;
    if (!is_in_range(raw) || !is_in_range(raw + HALF))
        return HSM_ERR_MALFORMED;
    memcpy(sig, raw, sizeof(raw));
    return HSM_OK;
}

enum hsm_status
hsm_es256_verify(EVP_PKEY *public_key, const void *message, size_t len, const uint8_t *sig,
                 size_t sig_len)
{
    DEFER(EVP_MD_CTX_free) EVP_MD_CTX *ctx = NULL;
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len;
    int verdict;

    if (sig_len != HSM_P256_SIG_LEN)
        return HSM_ERR_MALFORMED;
    if (!hsm_es256_is_p256(public_key))
        return HSM_ERR_UNSUPPORTED;
    if (hsm_es256_to_der(sig, der, &der_len) != HSM_OK)
        return HSM_ERR_UNTRUSTED;
    ctx = EVP_MD_CTX_new();
    if (ctx == NULL)
        return HSM_ERR_NOMEM;
    if (EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public_key) != 1) {
        ERR_clear_error();
        return HSM_ERR_CRYPTO;
    }
    verdict = EVP_DigestVerify(ctx, der, der_len, message, len);
    if (verdict == 1)
        return HSM_OK;
    ERR_clear_error();
    return HSM_ERR_UNTRUSTED;
}

/* Fetching an algorithm and making a context cost more than hashing a PASSporT. */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static pthread_key_t sha256_key;
static EVP_MD *sha256;
static bool sha256_ready;

static void
free_context(void *ctx)
{
    EVP_MD_CTX_free(ctx);
}

static void
fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    sha256_ready = sha256 != NULL && pthread_key_create(&sha256_key, free_context) == 0;
}

static EVP_MD_CTX *
context_of_this_thread(void)
{
    EVP_MD_CTX *ctx = pthread_getspecific(sha256_key);

    if (ctx != NULL)
        return ctx;
    ctx = EVP_MD_CTX_new();
    if (ctx != NULL && pthread_setspecific(sha256_key, ctx) != 0) {
        EVP_MD_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

enum hsm_status
hsm_sha256(const void *message, size_t len, uint8_t *digest)
{
    EVP_MD_CTX *ctx;

    pthread_once(&sha256_once, fetch_sha256);
    ctx = sha256_ready ? context_of_this_thread() : NULL;
    if (ctx != NULL && EVP_DigestInit_ex2(ctx, sha256, NULL) == 1 &&
        EVP_DigestUpdate(ctx, message, len) == 1 && EVP_DigestFinal_ex(ctx, digest, NULL) == 1)
        return HSM_OK;
    ERR_clear_error();
    return HSM_ERR_CRYPTO;
}

enum hsm_status
hsm_p256_from_point(const uint8_t *point, size_t len, EVP_PKEY **out)
{
    DEFER(EVP_PKEY_CTX_free) EVP_PKEY_CTX *ctx = NULL;
    uint8_t octets[HSM_P256_POINT_LEN];
    char group[] = SN_X9_62_prime256v1;
    EVP_PKEY *key = NULL;
    OSSL_PARAM params[3];

    if (len != HSM_P256_POINT_LEN || point[0] != 0x04)
        return HSM_ERR_MALFORMED;
    memcpy(octets, point, sizeof(octets)); /* OSSL_PARAM takes no const */
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, octets, sizeof(octets));
    params[2] = OSSL_PARAM_construct_end();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1) {
        ERR_clear_error();
        return HSM_ERR_CRYPTO;
    }
    if (EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        ERR_clear_error();
        return HSM_ERR_MALFORMED; /* not on the curve */
    }
    *out = key;
    return HSM_OK;
}

/* The point of a SubjectPublicKeyInfo; NULL: it has another form. */
static const uint8_t *
point_of_spki(const uint8_t *spki, size_t len)
{
    /* SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING } up to the point */
    static const uint8_t head[] = {
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    };

    if (len != sizeof(head) + HSM_P256_POINT_LEN || memcmp(spki, head, sizeof(head)) != 0)
        return NULL;
    return spki + sizeof(head);
}

enum hsm_status
hsm_p256_from_spki(const uint8_t *spki, size_t len, EVP_PKEY **out)
{
    const uint8_t *point = point_of_spki(spki, len);

    return point == NULL ? HSM_ERR_UNSUPPORTED
                         : hsm_p256_from_point(point, HSM_P256_POINT_LEN, out);
}

/* An EVP_PKEY from libp11 has no provider behind it: only its SubjectPublicKeyInfo is available. */
static bool
point_from_spki(EVP_PKEY *key, uint8_t *point)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    const uint8_t *found = len > 0 ? point_of_spki(der, (size_t)len) : NULL;
    bool good = found != NULL && found[0] == 0x04;

    if (good)
        memcpy(point, found, HSM_P256_POINT_LEN);
    OPENSSL_free(der);
    return good;
}

static bool
point_from_coordinates(EVP_PKEY *key, uint8_t *point)
{
    uint8_t octets[HSM_P256_POINT_LEN];
    BIGNUM *x = NULL;
    BIGNUM *y = NULL;
    bool good;

    octets[0] = 0x04;
    good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
           EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1 &&
           BN_bn2binpad(x, octets + 1, HALF) == HALF &&
           BN_bn2binpad(y, octets + 1 + HALF, HALF) == HALF;
    if (good)
        memcpy(point, octets, sizeof(octets));
    BN_free(x);
    BN_free(y);
    return good;
}

/* One query instead of two, each of which makes OpenSSL examine the whole key. The encoding is that
 * of the key's origin, which may be compressed. */
static bool
point_from_encoding(EVP_PKEY *key, uint8_t *point)
{
    uint8_t octets[HSM_P256_POINT_LEN];
    size_t len = 0;

    if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, octets, sizeof(octets),
                                        &len) != 1 ||
        len != sizeof(octets) || octets[0] != 0x04) {
        ERR_clear_error();
        return point_from_coordinates(key, point);
    }
    memcpy(point, octets, sizeof(octets));
    return true;
}

enum hsm_status
hsm_p256_point(EVP_PKEY *public_key, uint8_t *point)
{
    bool good;

    if (!hsm_es256_is_p256(public_key))
        return HSM_ERR_UNSUPPORTED;
    good = EVP_PKEY_get0_provider(public_key) != NULL ? point_from_encoding(public_key, point)
                                                      : point_from_spki(public_key, point);
    if (good)
        return HSM_OK;
    ERR_clear_error();
    return HSM_ERR_CRYPTO;
}
