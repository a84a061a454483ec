/* jwk.c - JSON Web Keys on P-256, their thumbprints and fingerprints. */
#include <acme/jwk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/es256.h>

#define COORDINATE_LEN  32 /* octets, RFC 7518 section 6.2.1.2 */
#define COORDINATE_TEXT ACME_BASE64URL_LEN(COORDINATE_LEN)

struct coordinates {
    char x[COORDINATE_TEXT + 1];
    char y[COORDINATE_TEXT + 1];
};

static enum hsm_status
read_coordinates(EVP_PKEY *public_key, struct coordinates *out)
{
    uint8_t point[HSM_P256_POINT_LEN];
    enum hsm_status st = hsm_p256_point(public_key, point);

    if (st != HSM_OK)
        return st;
    out->x[acme_base64url_write(point + 1, COORDINATE_LEN, out->x)] = '\0';
    out->y[acme_base64url_write(point + 1 + COORDINATE_LEN, COORDINATE_LEN, out->y)] = '\0';
    return HSM_OK;
}

/* RFC 7638 section 3.2: the required members only, in lexicographic order. */
static enum hsm_status
thumbprint_octets(EVP_PKEY *public_key, uint8_t out[HSM_SHA256_LEN])
{
    struct coordinates at;
    char text[160];
    enum hsm_status st = read_coordinates(public_key, &at);
    int n;

    if (st != HSM_OK)
        return st;
    n = snprintf(text, sizeof(text), "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}",
                 at.x, at.y);
    if (n < 0 || SHA256((const uint8_t *)text, (size_t)n, out) == NULL)
        return HSM_ERR_CRYPTO;
    return HSM_OK;
}

static enum hsm_status
spki_octets(EVP_PKEY *public_key, uint8_t out[HSM_SHA256_LEN])
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(public_key, &der);
    bool good = len > 0 && SHA256(der, (size_t)len, out) != NULL;

    OPENSSL_free(der);
    return good ? HSM_OK : HSM_ERR_CRYPTO;
}

static enum hsm_status
coordinate(const json_t *jwk, const char *name, uint8_t *out, struct hsm_reason *why)
{
    const char *text = NULL;
    uint8_t *octets = NULL;
    size_t len = 0;
    enum hsm_status st = acme_json_string(jwk, name, &text, why);

    if (st != HSM_OK)
        return st;
    st = acme_base64url_decode(text, strlen(text), &octets, &len);
    if (st == HSM_ERR_MALFORMED || (st == HSM_OK && len != COORDINATE_LEN))
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "JWK: %s is not base64url of %d octets", name,
                        COORDINATE_LEN);
    if (st == HSM_OK)
        memcpy(out, octets, COORDINATE_LEN);
    free(octets);
    return st;
}

static bool
has_string(const json_t *array, const char *wanted)
{
    size_t i;
    json_t *value;

    json_array_foreach(array, i, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), wanted) == 0)
            return true;
    }
    return false;
}

/* RFC 7517 sections 4.2 to 4.4: a key that states its purpose is not used for another. */
static enum hsm_status
check_purpose(const json_t *jwk, struct hsm_reason *why)
{
    const json_t *operations = json_object_get(jwk, "key_ops");
    const char *use = NULL, *alg = NULL;
    enum hsm_status st = acme_json_string_optional(jwk, "use", &use, why);

    if (st == HSM_OK)
        st = acme_json_string_optional(jwk, "alg", &alg, why);
    if (st != HSM_OK)
        return st;
    if (use != NULL && strcmp(use, "sig") != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWK: use is not \"sig\"");
    if (alg != NULL && strcmp(alg, "ES256") != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWK: alg is not \"ES256\"");
    if (operations != NULL && !has_string(operations, "verify"))
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWK: key_ops does not have \"verify\"");
    return HSM_OK;
}

static enum hsm_status
check_type(const json_t *jwk, struct hsm_reason *why)
{
    const char *kty = NULL, *crv = NULL;
    enum hsm_status st = acme_json_string(jwk, "kty", &kty, why);

    if (st != HSM_OK)
        return st;
    if (json_object_get(jwk, "d") != NULL || json_object_get(jwk, "k") != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JWK: holds a private key");
    if (strcmp(kty, "EC") != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWK: kty is not \"EC\"");
    st = acme_json_string(jwk, "crv", &crv, why);
    if (st != HSM_OK)
        return st;
    if (strcmp(crv, "P-256") != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWK: crv is not \"P-256\"");
    return check_purpose(jwk, why);
}

enum hsm_status
acme_jwk_new(EVP_PKEY *public_key, json_t **out)
{
    struct coordinates at;
    json_t *jwk;
    enum hsm_status st = read_coordinates(public_key, &at);

    if (st != HSM_OK)
        return st;
    jwk = json_pack("{ssssssss}", "crv", "P-256", "kty", "EC", "x", at.x, "y", at.y);
    if (jwk == NULL)
        return HSM_ERR_NOMEM;
    *out = jwk;
    return HSM_OK;
}

enum hsm_status
acme_jwk_parse(const json_t *jwk, EVP_PKEY **out, struct hsm_reason *why)
{
    uint8_t point[HSM_P256_POINT_LEN] = {4}; /* uncompressed, SEC 1 section 2.3.3 */
    enum hsm_status st;

    if (!json_is_object(jwk))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JWK: not an object");
    st = check_type(jwk, why);
    if (st == HSM_OK)
        st = coordinate(jwk, "x", point + 1, why);
    if (st == HSM_OK)
        st = coordinate(jwk, "y", point + 1 + COORDINATE_LEN, why);
    if (st != HSM_OK)
        return st;
    st = hsm_p256_from_point(point, sizeof(point), out);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "JWK: x and y are not a point of P-256");
    return st;
}

enum hsm_status
acme_jwk_thumbprint(EVP_PKEY *public_key, char out[ACME_THUMBPRINT_LEN + 1])
{
    uint8_t octets[HSM_SHA256_LEN];
    enum hsm_status st = thumbprint_octets(public_key, octets);

    if (st != HSM_OK)
        return st;
    out[acme_base64url_write(octets, sizeof(octets), out)] = '\0';
    return HSM_OK;
}

enum hsm_status
acme_fingerprint_format(EVP_PKEY *public_key, enum acme_fingerprint form,
                        char out[ACME_FINGERPRINT_LEN + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    static const char prefix[] = "SHA256 ";
    uint8_t octets[HSM_SHA256_LEN];
    char *at = out + sizeof(prefix) - 1;
    enum hsm_status st = form == ACME_FINGERPRINT_SPKI ? spki_octets(public_key, octets)
                                                       : thumbprint_octets(public_key, octets);

    if (st != HSM_OK)
        return st;
    memcpy(out, prefix, sizeof(prefix) - 1);
    for (size_t i = 0; i < sizeof(octets); i++) {
        *at++ = digits[octets[i] >> 4];
        *at++ = digits[octets[i] & 15];
        *at++ = i + 1 < sizeof(octets) ? ':' : '\0';
    }
    return HSM_OK;
}

bool
acme_fingerprint_matches(const char *text, EVP_PKEY *public_key)
{
    char thumbprint[ACME_THUMBPRINT_LEN + 1];
    char hex[ACME_FINGERPRINT_LEN + 1];

    if (acme_jwk_thumbprint(public_key, thumbprint) == HSM_OK && strcmp(text, thumbprint) == 0)
        return true;
    for (int form = ACME_FINGERPRINT_THUMBPRINT; form <= ACME_FINGERPRINT_SPKI; form++) {
        if (acme_fingerprint_format(public_key, (enum acme_fingerprint)form, hex) == HSM_OK &&
            strcasecmp(text, hex) == 0)
            return true;
    }
    return false;
}
