/* passport.c - make PASSporTs, and take them apart. */
#include <sks/passport.h>

#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/use.h>

#include "passport_internal.h"
#include "writing_internal.h"

#define SIGNATURE_MAX 512 /* octets, decoded; an ES256 signature has 64 */

#define HEADER_TEXT_MAX (128 + SKS_PASSPORT_X5U_MAX) /* octets */

/* RFC 8225 section 4, with its members in order (section 9); returns the length. Nothing in x5u
 * needs an escape, see is_plain(). */
static size_t
header_text(enum sks_ppt ppt, const char *x5u, char out[HEADER_TEXT_MAX])
{
    struct writing to = {.at = out, .end = out + HEADER_TEXT_MAX};

    put_text(&to, "{\"alg\":\"ES256\"");
    if (ppt != SKS_PPT_NONE) {
        put_text(&to, ",\"ppt\":");
        sks_put_quoted(&to, sks_ppt_text(ppt));
    }
    put_text(&to, ",\"typ\":\"passport\",\"x5u\":");
    sks_put_quoted(&to, x5u);
    put_text(&to, "}");
    return (size_t)(to.at - out);
}

/* True if x5u is short enough and JSON needs no escape for it. */
static bool
is_plain(const char *x5u)
{
    return strlen(x5u) <= SKS_PASSPORT_X5U_MAX && sks_put_string_size(x5u) == strlen(x5u) + 2;
}

enum hsm_status
sks_passport_begin(enum sks_ppt ppt, const char *x5u, char **out)
{
    char header[HEADER_TEXT_MAX];
    size_t header_len;
    char *begin;
    size_t len;

    if (!is_plain(x5u))
        return HSM_ERR_MALFORMED;
    header_len = header_text(ppt, x5u, header);
    begin = malloc(ACME_BASE64URL_LEN(header_len) + 2);
    if (begin == NULL)
        return HSM_ERR_NOMEM;
    len = acme_base64url_write(header, header_len, begin);
    begin[len++] = '.';
    begin[len] = '\0';
    *out = begin;
    return HSM_OK;
}

bool
sks_passport_has_header(const struct sks_passport *passport, enum sks_ppt ppt, const char *x5u)
{
    char header[HEADER_TEXT_MAX];
    char encoded[ACME_BASE64URL_LEN(HEADER_TEXT_MAX)];
    size_t len;

    if (ppt == SKS_PPT_UNKNOWN || !is_plain(x5u))
        return false;
    len = acme_base64url_write(header, header_text(ppt, x5u, header), encoded);
    return passport->header_len == len && memcmp(passport->header, encoded, len) == 0;
}

enum hsm_status
sks_passport_unsigned(const char *begin, const struct sks_claims *claims, const char *after,
                      char **out, size_t *out_len)
{
    char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
    size_t begin_len = strlen(begin);
    size_t payload_len;
    size_t len;
    char *text;
    enum hsm_status st = sks_claims_payload(claims, payload, &payload_len);

    if (st != HSM_OK)
        return st;
    len = begin_len + ACME_BASE64URL_LEN(payload_len);
    text = malloc(len + 1 + ACME_BASE64URL_LEN(HSM_P256_SIG_LEN) + strlen(after) + 1);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    memcpy(text, begin, begin_len);
    acme_base64url_write(payload, payload_len, text + begin_len);
    *out = text;
    *out_len = len;
    return HSM_OK;
}

void
sks_passport_complete(char *text, size_t len, const uint8_t *sig, const char *after)
{
    text[len++] = '.';
    len += acme_base64url_write(sig, HSM_P256_SIG_LEN, text + len);
    memcpy(text + len, after, strlen(after) + 1);
}

enum hsm_status
sks_passport_sign(const char *begin, const struct sks_claims *claims, struct hsm_key *key,
                  const char *after, char **out)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    DEFER(free) char *text = NULL;
    size_t len = 0;
    enum hsm_status st = sks_passport_unsigned(begin, claims, after, &text, &len);
    HSM_USE_FOR(HSM_USE_PASSPORT);

    if (st == HSM_OK)
        st = hsm_key_sign(key, text, len, sig);
    if (st != HSM_OK)
        return st;
    sks_passport_complete(text, len, sig, after);
    *out = text;
    text = NULL;
    return HSM_OK;
}

enum hsm_status
sks_passport_new(const struct sks_claims *claims, const char *x5u, struct hsm_key *key, char **out)
{
    DEFER(free) char *begin = NULL;
    enum hsm_status st = sks_passport_begin(claims->ppt, x5u, &begin);

    return st == HSM_OK ? sks_passport_sign(begin, claims, key, "", out) : st;
}

enum hsm_status
sks_claims_read(const struct sks_claims *claims, json_t **out)
{
    char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
    size_t len;
    enum hsm_status st = sks_claims_payload(claims, payload, &len);

    return st == HSM_OK ? acme_json_parse(payload, len, out, NULL) : st;
}

/* The text up to the next dot or the end; returns what follows the dot, or NULL. */
static const char *
take_part(const char *at, const char **part, size_t *len)
{
    *part = at;
    *len = strcspn(at, ".");
    return at[*len] == '.' ? at + *len + 1 : NULL;
}

enum hsm_status
sks_passport_split(const char *text, struct sks_passport *out, struct hsm_reason *why)
{
    struct sks_passport parts;
    const char *rest = take_part(text, &parts.header, &parts.header_len);

    if (rest != NULL)
        rest = take_part(rest, &parts.payload, &parts.payload_len);
    if (rest == NULL || take_part(rest, &parts.signature, &parts.signature_len) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PASSporT: not header.payload.signature");
    if (parts.header_len == 0 || parts.payload_len == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "PASSporT: compact form; RFC 8588 needs the full form");
    if (parts.signature_len == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PASSporT: not signed");
    *out = parts;
    return HSM_OK;
}

static enum hsm_status
decode_json(const char *name, const char *text, size_t len, size_t max, json_t **out,
            struct hsm_reason *why)
{
    DEFER(free) char *octets = NULL;
    size_t octets_len;
    enum hsm_status st;

    if (len > ACME_BASE64URL_LEN(max))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PASSporT: %s longer than %zu octets", name, max);
    st = acme_base64url_decode(text, len, (uint8_t **)&octets, &octets_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "PASSporT: %s is not base64url", name);
    if (st != HSM_OK)
        return st;
    return acme_json_parse(octets, octets_len, out, why);
}

enum hsm_status
sks_passport_header(const struct sks_passport *passport, json_t **out, struct hsm_reason *why)
{
    return decode_json("header", passport->header, passport->header_len, SKS_PASSPORT_HEADER_MAX,
                       out, why);
}

enum hsm_status
sks_passport_payload(const struct sks_passport *passport, json_t **out, struct hsm_reason *why)
{
    return decode_json("payload", passport->payload, passport->payload_len,
                       SKS_PASSPORT_PAYLOAD_MAX, out, why);
}

enum hsm_status
sks_passport_verify(const struct sks_passport *passport, const struct hsm_es256_verifier *verifier,
                    struct hsm_reason *why)
{
    DEFER(free) char *sig = NULL;
    size_t sig_len;
    enum hsm_status st;

    if (passport->signature_len > ACME_BASE64URL_LEN(SIGNATURE_MAX))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "signature: too long");
    st = acme_base64url_decode(passport->signature, passport->signature_len, (uint8_t **)&sig,
                               &sig_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "signature: not base64url");
    if (st != HSM_OK)
        return st;
    /* Header and payload are adjacent in the received text, joined by the dot. */
    st = hsm_es256_verifier_verify(verifier, passport->header,
                                   passport->header_len + 1 + passport->payload_len,
                                   (const uint8_t *)sig, sig_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "signature: %zu octets, not %d", sig_len,
                          HSM_P256_SIG_LEN);
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, st, "signature: does not verify with the certificate's key");
    return st;
}

enum hsm_status
sks_passport_decode(const char *passport, json_t **header, json_t **payload, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *decoded_header = NULL;
    DEFER(json_decref) json_t *decoded_payload = NULL;
    struct sks_passport parts;
    enum hsm_status st = sks_passport_split(passport, &parts, why);

    if (st == HSM_OK)
        st = sks_passport_header(&parts, &decoded_header, why);
    if (st == HSM_OK)
        st = sks_passport_payload(&parts, &decoded_payload, why);
    if (st != HSM_OK)
        return st;
    *header = decoded_header;
    *payload = decoded_payload;
    decoded_header = NULL;
    decoded_payload = NULL;
    return HSM_OK;
}
