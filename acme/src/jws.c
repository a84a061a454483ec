/* jws.c - JSON Web Signatures with ES256, and MACs with HS256. */
#include <acme/jws.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/es256.h>

struct acme_jws {
    char *signing_input; /* "protected.payload" as received */
    size_t signing_input_len;
    json_t *header;
    char *header_text;
    size_t header_len;
    char *payload;
    size_t payload_len;
    uint8_t *signature;
    size_t signature_len;
};

/* The three parts as received, borrowed, not NUL-terminated. */
struct parts {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len;
};

static enum hsm_status
decode_part(const char *name, const char *text, size_t len, size_t max, uint8_t **out,
            size_t *out_len, struct hsm_reason *why)
{
    enum hsm_status st;

    if (len > ACME_BASE64URL_LEN(max))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JWS: %s longer than %zu octets", name, max);
    st = acme_base64url_decode(text, len, out, out_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "JWS: %s is not base64url", name);
    return st;
}

static enum hsm_status
decode_parts(struct acme_jws *jws, const struct parts *parts, struct hsm_reason *why)
{
    enum hsm_status st;

    st = decode_part("header", parts->header, parts->header_len, ACME_JWS_HEADER_MAX,
                     (uint8_t **)&jws->header_text, &jws->header_len, why);
    if (st == HSM_OK)
        st = decode_part("payload", parts->payload, parts->payload_len, ACME_JWS_PAYLOAD_MAX,
                         (uint8_t **)&jws->payload, &jws->payload_len, why);
    if (st == HSM_OK)
        st = decode_part("signature", parts->signature, parts->signature_len,
                         ACME_JWS_SIGNATURE_MAX, &jws->signature, &jws->signature_len, why);
    return st;
}

/* RFC 7515 section 5.2 step 8: the signature covers the text as received. */
static enum hsm_status
keep_signing_input(struct acme_jws *jws, const struct parts *parts)
{
    size_t len = parts->header_len + 1 + parts->payload_len;

    jws->signing_input = malloc(len);
    if (jws->signing_input == NULL)
        return HSM_ERR_NOMEM;
    memcpy(jws->signing_input, parts->header, parts->header_len);
    jws->signing_input[parts->header_len] = '.';
    memcpy(jws->signing_input + parts->header_len + 1, parts->payload, parts->payload_len);
    jws->signing_input_len = len;
    return HSM_OK;
}

static enum hsm_status
parse_parts(const struct parts *parts, struct acme_jws **out, struct hsm_reason *why)
{
    DEFER(acme_jws_free) struct acme_jws *jws = calloc(1, sizeof(*jws));
    const char *alg;
    enum hsm_status st;

    if (jws == NULL)
        return HSM_ERR_NOMEM;
    st = decode_parts(jws, parts, why);
    if (st == HSM_OK)
        st = acme_json_parse(jws->header_text, jws->header_len, &jws->header, why);
    if (st == HSM_OK)
        st = acme_json_string(jws->header, "alg", &alg, why);
    if (st == HSM_OK)
        st = keep_signing_input(jws, parts);
    if (st != HSM_OK)
        return st;
    *out = jws;
    jws = NULL;
    return HSM_OK;
}

enum hsm_status
acme_jws_parse_compact(const char *text, size_t len, struct acme_jws **out, struct hsm_reason *why)
{
    const char *end = text + len;
    const char *first = memchr(text, '.', len);
    const char *second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
    struct parts parts;

    if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JWS: not three parts");
    parts = (struct parts){
        .header = text,
        .header_len = (size_t)(first - text),
        .payload = first + 1,
        .payload_len = (size_t)(second - first - 1),
        .signature = second + 1,
        .signature_len = (size_t)(end - second - 1),
    };
    return parse_parts(&parts, out, why);
}

enum hsm_status
acme_jws_parse_flattened(const char *text, size_t len, struct acme_jws **out,
                         struct hsm_reason *why)
{
    DEFER(json_decref) json_t *object = NULL;
    enum hsm_status st = acme_json_parse(text, len, &object, why);

    if (st != HSM_OK)
        return st;
    return acme_jws_parse_object(object, out, why);
}

enum hsm_status
acme_jws_parse_object(const json_t *object, struct acme_jws **out, struct hsm_reason *why)
{
    struct parts parts = {0};
    enum hsm_status st;

    if (!json_is_object(object))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JWS: not an object");
    st = acme_json_string(object, "protected", &parts.header, why);
    if (st == HSM_OK)
        st = acme_json_string(object, "payload", &parts.payload, why);
    if (st == HSM_OK)
        st = acme_json_string(object, "signature", &parts.signature, why);
    if (st != HSM_OK)
        return st;
    if (json_object_size(object) != 3)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "JWS: RFC 8555 section 6.2: only protected, payload and signature");
    parts.header_len = strlen(parts.header);
    parts.payload_len = strlen(parts.payload);
    parts.signature_len = strlen(parts.signature);
    return parse_parts(&parts, out, why);
}

const json_t *
acme_jws_header(const struct acme_jws *jws)
{
    return jws->header;
}

const char *
acme_jws_header_string(const struct acme_jws *jws, const char *name)
{
    return json_string_value(json_object_get(jws->header, name));
}

const char *
acme_jws_header_text(const struct acme_jws *jws, size_t *len)
{
    *len = jws->header_len;
    return jws->header_text;
}

const char *
acme_jws_payload(const struct acme_jws *jws, size_t *len)
{
    *len = jws->payload_len;
    return jws->payload;
}

/* Neither the key nor the sender chooses the algorithm (RFC 8725 section 3.1). */
static enum hsm_status
check_algorithm(const struct acme_jws *jws, const char *wanted, struct hsm_reason *why)
{
    const char *alg = acme_jws_header_string(jws, "alg");
    const json_t *b64 = json_object_get(jws->header, "b64");

    if (strcmp(alg, wanted) != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWS: alg \"%.32s\" is not %s", alg, wanted);
    if (json_object_get(jws->header, "crit") != NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWS: crit names extensions not known here");
    if (b64 != NULL && !json_is_true(b64))
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWS: b64 is not true");
    return HSM_OK;
}

enum hsm_status
acme_jws_check_algorithm(const struct acme_jws *jws, struct hsm_reason *why)
{
    return check_algorithm(jws, "ES256", why);
}

/* Map the result of verifying the signature. */
static enum hsm_status
outcome(const struct acme_jws *jws, enum hsm_status st, struct hsm_reason *why)
{
    switch (st) {
    case HSM_ERR_MALFORMED:
        return hsm_refuse(why, st, "JWS: signature of %zu octets, not %d", jws->signature_len,
                          HSM_P256_SIG_LEN);
    case HSM_ERR_UNSUPPORTED:
        return hsm_refuse(why, st, "JWS: the key is not on P-256");
    case HSM_ERR_UNTRUSTED:
        return hsm_refuse(why, st, "JWS: the signature does not verify");
    default:
        return st;
    }
}

static enum hsm_status
verify(const struct acme_jws *jws, size_t signed_len, EVP_PKEY *public_key, struct hsm_reason *why)
{
    enum hsm_status st = acme_jws_check_algorithm(jws, why);

    if (st != HSM_OK)
        return st;
    return outcome(jws,
                   hsm_es256_verify(public_key, jws->signing_input, signed_len, jws->signature,
                                    jws->signature_len),
                   why);
}

enum hsm_status
acme_jws_verify_by(const struct acme_jws *jws, const struct hsm_es256_verifier *verifier,
                   struct hsm_reason *why)
{
    enum hsm_status st = acme_jws_check_algorithm(jws, why);

    if (st != HSM_OK)
        return st;
    return outcome(jws,
                   hsm_es256_verifier_verify(verifier, jws->signing_input, jws->signing_input_len,
                                             jws->signature, jws->signature_len),
                   why);
}

enum hsm_status
acme_jws_verify(const struct acme_jws *jws, EVP_PKEY *public_key, struct hsm_reason *why)
{
    return verify(jws, jws->signing_input_len, public_key, why);
}

enum hsm_status
acme_jws_verify_without_dot(const struct acme_jws *jws, EVP_PKEY *public_key,
                            struct hsm_reason *why)
{
    if (jws->payload_len != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "JWS: the signature does not verify");
    return verify(jws, jws->signing_input_len - 1, public_key, why);
}

enum hsm_status
acme_jws_verify_mac(const struct acme_jws *jws, const void *key, size_t key_len,
                    struct hsm_reason *why)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    enum hsm_status st = check_algorithm(jws, "HS256", why);

    if (st != HSM_OK)
        return st;
    if (HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)jws->signing_input,
             jws->signing_input_len, mac, &len) == NULL)
        return HSM_ERR_CRYPTO;
    if (jws->signature_len != len || CRYPTO_memcmp(mac, jws->signature, len) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "JWS: the MAC does not verify");
    return HSM_OK;
}

/* Printable and without spaces, so that it can be logged and fetched unchanged. */
static bool
is_https_url(const char *text)
{
    static const char scheme[] = "https://";
    size_t len = strlen(text);

    if (len > ACME_X5U_MAX || len < sizeof(scheme) ||
        strncasecmp(text, scheme, sizeof(scheme) - 1) != 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return true;
}

enum hsm_status
acme_jws_x5u(const struct acme_jws *jws, const char **out, struct hsm_reason *why)
{
    const char *x5u = NULL;
    enum hsm_status st = acme_json_string(jws->header, "x5u", &x5u, why);

    if (st != HSM_OK)
        return st;
    if (!is_https_url(x5u))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not an https URL");
    *out = x5u;
    return HSM_OK;
}

enum hsm_status
acme_jws_verify_authority(const struct acme_jws *jws, const struct certs_chain *signer,
                          const struct certs_chain *pa_anchors, time_t now, struct hsm_reason *why)
{
    EVP_PKEY *key;
    enum hsm_status st = certs_chain_verify(signer, pa_anchors, CERTS_FOR_PA_SIGNING, now, why);

    if (st != HSM_OK)
        return st;
    key = certs_cert_public(certs_chain_get(signer, 0));
    if (key == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "JWS: the signer's key is of unknown type");
    return acme_jws_verify(jws, key, why);
}

char *
acme_jws_header_new(const char *x5u)
{
    DEFER(json_decref)
    json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "ES256", "typ", "JWT", "x5u", x5u);

    return header == NULL ? NULL : acme_json_canonical(header);
}

/* "header.payload", with room for ".signature" and a NUL; free() it. */
static enum hsm_status
signing_input_new(const char *header, const void *payload, size_t payload_len, char **out,
                  size_t *out_len)
{
    size_t header_len = strlen(header);
    char *text, *at;

    if (header_len > ACME_JWS_HEADER_MAX || payload_len > ACME_JWS_PAYLOAD_MAX)
        return HSM_ERR_USAGE;
    text = malloc(ACME_BASE64URL_LEN(header_len) + 1 + ACME_BASE64URL_LEN(payload_len) + 1 +
                  ACME_BASE64URL_LEN(HSM_P256_SIG_LEN) + 1);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    at = text + acme_base64url_write(header, header_len, text);
    *at++ = '.';
    at += acme_base64url_write(payload, payload_len, at);
    *out = text;
    *out_len = (size_t)(at - text);
    return HSM_OK;
}

enum hsm_status
acme_jws_sign_compact(const char *header, const void *payload, size_t payload_len,
                      struct hsm_key *key, char **out)
{
    DEFER(free) char *text = NULL;
    uint8_t sig[HSM_P256_SIG_LEN];
    size_t len = 0;
    enum hsm_status st = signing_input_new(header, payload, payload_len, &text, &len);

    if (st == HSM_OK)
        st = hsm_key_sign_verified(key, text, len, sig);
    if (st != HSM_OK)
        return st;
    text[len++] = '.';
    len += acme_base64url_write(sig, sizeof(sig), text + len);
    text[len] = '\0';
    *out = text;
    text = NULL;
    return HSM_OK;
}

enum hsm_status
acme_jws_sign_flattened(const char *header, const void *payload, size_t payload_len,
                        struct hsm_key *key, char **out)
{
    static const char form[] = "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}";
    DEFER(free) char *compact = NULL;
    char *first, *second, *text;
    size_t size;
    enum hsm_status st = acme_jws_sign_compact(header, payload, payload_len, key, &compact);

    if (st != HSM_OK)
        return st;
    first = strchr(compact, '.');
    second = strrchr(compact, '.');
    *first = *second = '\0';
    size = sizeof(form) + strlen(compact) + strlen(first + 1) + strlen(second + 1);
    text = malloc(size);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    snprintf(text, size, form, compact, first + 1, second + 1); /* base64url needs no escapes */
    *out = text;
    return HSM_OK;
}

void
acme_jws_free(struct acme_jws *jws)
{
    if (jws == NULL)
        return;
    json_decref(jws->header);
    free(jws->signing_input);
    free(jws->header_text);
    free(jws->payload);
    free(jws->signature);
    free(jws);
}
