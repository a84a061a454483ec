/* passport.c - PASSporTs of the SHAKEN type. */
#include <sks/passport.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jws.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/use.h>
#include <sks/tn.h>

#include "passport_internal.h"

#define PAYLOAD_FIXED  256 /* octets, at most: everything but the identities */
#define IDENTITY_MARKS 3 /* octets around an identity in an array: its quotes, a comma */
#define SIGNATURE_MAX  512 /* octets, decoded; other than 64 it is no ES256 signature anyway */

DEFINE_DEFER(json_t, json_decref)
DEFINE_DEFER(char, free)

/* 8-4-4-4-12 hex digits (RFC 4122 section 3). */
static bool
is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i] != '\0'; i++) {
        if (form[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return true;
}

/* A scheme, and only characters that RFC 3986 section 2 knows. */
static bool
is_uri(const char *text)
{
    size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789+-.");

    if (!isalpha((unsigned char)text[0]) || text[scheme] != ':' || text[scheme + 1] == '\0')
        return false;
    for (const char *c = text; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("-._~:/?#[]@!$&'()*+,;=%", *c) == NULL)
            return false;
    }
    return strlen(text) <= SKS_TN_URI_MAX;
}

static enum hsm_status
check_orig(const struct sks_claims *claims, struct hsm_reason *why)
{
    if ((claims->orig_tn == NULL) == (claims->orig_uri == NULL))
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "orig: RFC 8225 section 5.2.1: exactly one of tn and uri");
    if (claims->orig_tn != NULL && !sks_tn_is_canonical(claims->orig_tn))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "orig: tn is not canonical");
    if (claims->orig_uri != NULL && !is_uri(claims->orig_uri))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "orig: uri is not a URI");
    return HSM_OK;
}

/* How many octets the identities take, and whether they are as RFC 8225 section 5.2.1 wants them.
 */
static enum hsm_status
check_dest(const struct sks_claims *claims, size_t *octets, struct hsm_reason *why)
{
    if (claims->dest_tn_count > SKS_DEST_MAX || claims->dest_uri_count > SKS_DEST_MAX ||
        claims->dest_tn_count + claims->dest_uri_count > SKS_DEST_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "dest: more than %d", SKS_DEST_MAX);
    if (claims->dest_tn_count + claims->dest_uri_count == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "dest: empty");
    for (size_t i = 0; i < claims->dest_tn_count; i++) {
        if (!sks_tn_is_canonical(claims->dest_tn[i]))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "dest: tn is not canonical");
        *octets += strlen(claims->dest_tn[i]) + IDENTITY_MARKS;
    }
    for (size_t i = 0; i < claims->dest_uri_count; i++) {
        if (!is_uri(claims->dest_uri[i]))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "dest: uri is not a URI");
        *octets += strlen(claims->dest_uri[i]) + IDENTITY_MARKS;
    }
    return HSM_OK;
}

enum hsm_status
sks_claims_check(const struct sks_claims *claims, struct hsm_reason *why)
{
    size_t octets = PAYLOAD_FIXED;
    enum hsm_status st;

    if (claims->attest < 'A' || claims->attest > 'C')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "attest: not A, B or C");
    st = check_orig(claims, why);
    if (st == HSM_OK)
        st = check_dest(claims, &octets, why);
    if (st != HSM_OK)
        return st;
    if (claims->orig_uri != NULL)
        octets += strlen(claims->orig_uri);
    if (octets > SKS_PASSPORT_PAYLOAD_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "dest: too long altogether");
    if (claims->iat < 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "iat: before 1970");
    if (claims->origid == NULL || !is_uuid(claims->origid))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "origid: not a UUID (RFC 8588 section 5)");
    return HSM_OK;
}

/* json_object_set_new() and json_array_append_new() take the value also when they fail. */
static json_t *
texts_to_json(const char *const *texts, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; array != NULL && i < count; i++) {
        if (json_array_append_new(array, json_string(texts[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Arrays even when there is one (RFC 8225 section 5.2.1); a kind that is absent has no member. */
static json_t *
dest_to_json(const struct sks_claims *claims)
{
    json_t *dest = json_object();
    bool good = dest != NULL;

    if (good && claims->dest_tn_count > 0)
        good = json_object_set_new(dest, "tn",
                                   texts_to_json(claims->dest_tn, claims->dest_tn_count)) == 0;
    if (good && claims->dest_uri_count > 0)
        good = json_object_set_new(dest, "uri",
                                   texts_to_json(claims->dest_uri, claims->dest_uri_count)) == 0;
    if (!good) {
        json_decref(dest);
        return NULL;
    }
    return dest;
}

/* free() it; NULL: no memory. */
static char *
payload_text(const struct sks_claims *claims)
{
    const char attest[] = {claims->attest, '\0'};
    bool is_tn = claims->orig_tn != NULL;
    DEFER(json_decref) json_t *payload = NULL;

    payload =
        json_pack("{s:s, s:o, s:I, s:{s:s}, s:s}", "attest", attest, "dest", dest_to_json(claims),
                  "iat", (json_int_t)claims->iat, "orig", is_tn ? "tn" : "uri",
                  is_tn ? claims->orig_tn : claims->orig_uri, "origid", claims->origid);
    return payload == NULL ? NULL : acme_json_canonical(payload);
}

/* RFC 8588 section 3; free() it; NULL: no memory. */
static char *
header_text(const char *x5u)
{
    DEFER(json_decref)
    json_t *header = json_pack("{s:s, s:s, s:s, s:s}", "alg", "ES256", "ppt", "shaken", "typ",
                               "passport", "x5u", x5u);

    return header == NULL ? NULL : acme_json_canonical(header);
}

enum hsm_status
sks_passport_new(const struct sks_claims *claims, const char *x5u, struct hsm_key *key, char **out)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *payload = NULL;
    HSM_USE_FOR(HSM_USE_PASSPORT);

    if (strlen(x5u) > SKS_PASSPORT_X5U_MAX)
        return HSM_ERR_MALFORMED;
    header = header_text(x5u);
    payload = payload_text(claims);
    if (header == NULL || payload == NULL)
        return HSM_ERR_NOMEM;
    return acme_jws_sign_compact_fast(header, payload, strlen(payload), key, out);
}

/* The text up to the next dot, or to the end. */
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
sks_passport_verify(const struct sks_passport *passport, EVP_PKEY *public_key,
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
    /* Header and payload stand side by side in what was received, joined by the dot. */
    st = hsm_es256_verify(public_key, passport->header,
                          passport->header_len + 1 + passport->payload_len, (const uint8_t *)sig,
                          sig_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "signature: %zu octets, not %d", sig_len,
                          HSM_P256_SIG_LEN);
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, st, "signature: does not verify with the certificate's key");
    if (st == HSM_ERR_UNSUPPORTED)
        return hsm_refuse(why, st, "the certificate's key is not on P-256");
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
