/* claims.c - check the claims of a PASSporT, and write them as RFC 8225 section 9 requires. */
#include <sks/claims.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <sks/tn.h>

#include "mky_internal.h"
#include "r_value_internal.h"
#include "rcd_internal.h"
#include "writing_internal.h"

#define PAYLOAD_FIXED  384 /* octets, upper bound of all that is not counted separately */
#define IDENTITY_MARKS 3 /* octets around an identity in an array: its quotes, a comma */
#define MKY_MARKS      19 /* octets around a media key: {"alg":"","dig":""}, */

static const char *const ppt_texts[] = {"shaken", "div", "rph", "rcd", "", "div-o", "?"};

const char *
sks_ppt_text(enum sks_ppt ppt)
{
    return ppt_texts[ppt];
}

enum hsm_status
sks_ppt_parse(const char *text, enum sks_ppt *out)
{
    for (int i = 0; i < SKS_PPT_NONE; i++) {
        if (strcmp(ppt_texts[i], text) == 0) {
            *out = (enum sks_ppt)i;
            return HSM_OK;
        }
    }
    return HSM_ERR_NOT_FOUND;
}

/* ---- texts ---- */

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* 8-4-4-4-12 hex digits (RFC 4122 section 3). */
static bool
is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    for (size_t i = 0; form[i] != '\0'; i++) {
        if (form[i] == '-' ? text[i] != '-' : !is_hex(text[i]))
            return false; /* a shorter text ends here */
    }
    return text[sizeof(form) - 1] == '\0';
}

/* A scheme, and only characters of RFC 3986 section 2. */
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

/* ---- claims, one by one ---- */

static enum hsm_status
refuse(struct sks_refusal *refusal, const char *claim, const char *what)
{
    return hsm_refuse(sks_refusal_of(refusal, claim), HSM_ERR_MALFORMED, "%s", what);
}

/* Exactly one of a number and a URI (RFC 8225 section 5.2.1). */
static enum hsm_status
check_one(const char *name, const char *tn, const char *uri, struct sks_refusal *refusal)
{
    if ((tn == NULL) == (uri == NULL))
        return refuse(refusal, name, "RFC 8225 section 5.2.1: exactly one of tn and uri");
    if (tn != NULL && !sks_tn_is_canonical(tn))
        return refuse(refusal, name, "tn is not canonical");
    if (uri != NULL && !is_uri(uri))
        return refuse(refusal, name, "uri is not a URI");
    return HSM_OK;
}

static enum hsm_status
check_dest(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    if (claims->dest_tn_count > SKS_DEST_MAX || claims->dest_uri_count > SKS_DEST_MAX ||
        claims->dest_tn_count + claims->dest_uri_count > SKS_DEST_MAX)
        return hsm_refuse(sks_refusal_of(refusal, "dest"), HSM_ERR_MALFORMED, "more than %d",
                          SKS_DEST_MAX);
    if (claims->dest_tn_count + claims->dest_uri_count == 0)
        return refuse(refusal, "dest", "empty");
    for (size_t i = 0; i < claims->dest_tn_count; i++) {
        if (!sks_tn_is_canonical(claims->dest_tn[i]))
            return refuse(refusal, "dest", "tn is not canonical");
        *octets += strlen(claims->dest_tn[i]) + IDENTITY_MARKS;
    }
    for (size_t i = 0; i < claims->dest_uri_count; i++) {
        if (!is_uri(claims->dest_uri[i]))
            return refuse(refusal, "dest", "uri is not a URI");
        *octets += strlen(claims->dest_uri[i]) + IDENTITY_MARKS;
    }
    return HSM_OK;
}

/* RFC 8588 sections 4 and 5. */
static enum hsm_status
check_shaken(const struct sks_claims *claims, struct sks_refusal *refusal)
{
    if (claims->attest < 'A' || claims->attest > 'C')
        return refuse(refusal, "attest", "not A, B or C");
    if (claims->origid == NULL || !is_uuid(claims->origid))
        return refuse(refusal, "origid", "not a UUID (RFC 8588 section 5)");
    return HSM_OK;
}

/* RFC 8946 section 4: the diverting party. */
static enum hsm_status
check_div(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    enum hsm_status st = check_one("div", claims->div_tn, claims->div_uri, refusal);

    if (st != HSM_OK)
        return st;
    if (claims->div_hi != NULL &&
        (claims->div_hi[0] == '\0' || strlen(claims->div_hi) > SKS_HI_MAX ||
         strspn(claims->div_hi, "0123456789.") != strlen(claims->div_hi)))
        return refuse(refusal, "div", "hi is no index of History-Info");
    if (claims->div_uri != NULL)
        *octets += strlen(claims->div_uri);
    return HSM_OK;
}

static enum hsm_status
check_rph(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    enum hsm_status st;

    if (claims->rph_count == 0 || claims->rph_count > SKS_RPH_MAX)
        return hsm_refuse(sks_refusal_of(refusal, "rph"), HSM_ERR_MALFORMED, "not 1 to %d r-values",
                          SKS_RPH_MAX);
    st = sks_rph_check(claims->rph_auth, claims->rph_count, claims->sph, refusal);
    for (size_t i = 0; st == HSM_OK && i < claims->rph_count; i++)
        *octets += strlen(claims->rph_auth[i]) + IDENTITY_MARKS;
    return st;
}

static size_t
digits_of(const char *alg)
{
    static const struct {
        const char *alg;
        size_t digits;
    } known[] = {{"sha-224", 56}, {"sha-256", 64}, {"sha-384", 96}, {"sha-512", 128}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].alg, alg) == 0)
            return known[i].digits;
    return 0;
}

/* RFC 8225 section 5.2.2. */
static enum hsm_status
check_mky(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    if (claims->mky_count > SKS_MKY_MAX)
        return hsm_refuse(sks_refusal_of(refusal, "mky"), HSM_ERR_MALFORMED, "more than %d",
                          SKS_MKY_MAX);
    for (size_t i = 0; i < claims->mky_count; i++) {
        const struct sks_mky *mky = &claims->mky[i];
        size_t digits = digits_of(mky->alg);

        if (digits == 0)
            return refuse(refusal, "mky", "alg is not of the SHA-2 family");
        if (strlen(mky->dig) != digits || strspn(mky->dig, "0123456789ABCDEF") != digits)
            return refuse(refusal, "mky", "dig is not the upper-case hex of its alg");
        if (i > 0 && sks_mky_compare(mky - 1, mky) >= 0)
            return refuse(refusal, "mky", "not in order, or twice");
        *octets += strlen(mky->alg) + digits + MKY_MARKS;
    }
    return HSM_OK;
}

/* Octets of a claim of rich call data; 0: it is absent. */
static size_t
length_of(const json_t *claim)
{
    return claim == NULL ? 0 : json_dumpb(claim, NULL, 0, CANONICAL);
}

/* RFC 9795 sections 5 and 6. The length is checked first, because each digest in rcdi may be one of
 * the whole rcd. */
static enum hsm_status
check_rcd(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    size_t len = length_of(claims->rcd) + length_of(claims->rcdi);
    enum hsm_status st;

    if (len > SKS_PASSPORT_PAYLOAD_MAX)
        return refuse(refusal, "rcd", "too long");
    st = sks_rcd_check(claims->rcd, claims->rcdi, refusal);
    if (st != HSM_OK)
        return st;
    if (claims->crn != NULL && (claims->crn[0] == '\0' || strlen(claims->crn) > SKS_CRN_MAX))
        return hsm_refuse(sks_refusal_of(refusal, "crn"), HSM_ERR_MALFORMED, "not 1 to %d octets",
                          SKS_CRN_MAX);
    if (claims->crn != NULL)
        *octets += 6 * strlen(claims->crn); /* each octet may be escaped as \u00.. */
    *octets += len;
    return HSM_OK;
}

/* ---- kinds ---- */

/* A claim that belongs to another kind of PASSporT, or NULL. See the table in the header. */
static const char *
find_stranger(const struct sks_claims *claims)
{
    const enum sks_ppt ppt = claims->ppt;

    if (ppt != SKS_PPT_SHAKEN && claims->attest != '\0')
        return "attest";
    if (ppt != SKS_PPT_SHAKEN && claims->origid != NULL)
        return "origid";
    if (ppt != SKS_PPT_DIV && (claims->div_tn != NULL || claims->div_uri != NULL))
        return "div";
    if (ppt != SKS_PPT_RPH && claims->rph_count > 0)
        return "rph";
    if (ppt != SKS_PPT_RPH && claims->sph != NULL)
        return "sph";
    if (ppt != SKS_PPT_DIV)
        return NULL;
    if (claims->rcd != NULL)
        return "rcd";
    if (claims->rcdi != NULL)
        return "rcdi";
    if (claims->crn != NULL)
        return "crn";
    return claims->mky_count > 0 ? "mky" : NULL;
}

static enum hsm_status
check_kind(const struct sks_claims *claims, size_t *octets, struct sks_refusal *refusal)
{
    const char *stranger = find_stranger(claims);

    if (stranger != NULL)
        return hsm_refuse(sks_refusal_of(refusal, stranger), HSM_ERR_MALFORMED,
                          "no claim of a %s PASSporT",
                          claims->ppt == SKS_PPT_NONE ? "base" : sks_ppt_text(claims->ppt));
    switch (claims->ppt) {
    case SKS_PPT_SHAKEN:
        return check_shaken(claims, refusal);
    case SKS_PPT_DIV:
        return check_div(claims, octets, refusal);
    case SKS_PPT_RPH:
        return check_rph(claims, octets, refusal);
    case SKS_PPT_RCD:
        if (claims->rcd == NULL && claims->crn == NULL)
            return refuse(refusal, "rcd", "RFC 9795 section 5: neither rcd nor crn");
        return HSM_OK;
    case SKS_PPT_NONE:
        return HSM_OK;
    default:
        return HSM_ERR_USAGE;
    }
}

enum hsm_status
sks_claims_check(const struct sks_claims *claims, struct sks_refusal *refusal)
{
    size_t octets = PAYLOAD_FIXED;
    enum hsm_status st = check_kind(claims, &octets, refusal);

    if (st == HSM_OK)
        st = check_one("orig", claims->orig_tn, claims->orig_uri, refusal);
    if (st == HSM_OK)
        st = check_dest(claims, &octets, refusal);
    if (st == HSM_OK)
        st = check_mky(claims, &octets, refusal);
    if (st == HSM_OK)
        st = check_rcd(claims, &octets, refusal);
    if (st != HSM_OK)
        return st;
    if (claims->orig_uri != NULL)
        octets += strlen(claims->orig_uri);
    if (octets > SKS_PASSPORT_PAYLOAD_MAX)
        return refuse(refusal, "dest", "too long altogether");
    if (claims->iat < 0)
        return refuse(refusal, "iat", "before 1970");
    return HSM_OK;
}

/* ---- payload ---- */

static void
put_texts(struct writing *to, const char *name, const char *const *texts, size_t count)
{
    put_text(to, name);
    for (size_t i = 0; i < count; i++) {
        put(to, i == 0 ? "[" : ",", 1);
        sks_put_quoted(to, texts[i]);
    }
    put(to, "]", 1);
}

static void
put_one(struct writing *to, const char *tn, const char *uri)
{
    put_text(to, tn != NULL ? "\"tn\":" : "\"uri\":");
    sks_put_quoted(to, tn != NULL ? tn : uri);
    put(to, "}", 1);
}

/* Arrays even for a single value (RFC 8225 section 5.2.1); a kind without values has no member. */
static void
put_dest(struct writing *to, const struct sks_claims *claims)
{
    put_text(to, "\"dest\":{");
    if (claims->dest_tn_count > 0)
        put_texts(to, "\"tn\":", claims->dest_tn, claims->dest_tn_count);
    if (claims->dest_tn_count > 0 && claims->dest_uri_count > 0)
        put(to, ",", 1);
    if (claims->dest_uri_count > 0)
        put_texts(to, "\"uri\":", claims->dest_uri, claims->dest_uri_count);
    put(to, "}", 1);
}

static void
put_div(struct writing *to, const struct sks_claims *claims)
{
    put_text(to, ",\"div\":{");
    if (claims->div_hi != NULL) {
        put_text(to, "\"hi\":");
        sks_put_quoted(to, claims->div_hi);
        put(to, ",", 1);
    }
    put_one(to, claims->div_tn, claims->div_uri);
}

static void
put_mky(struct writing *to, const struct sks_claims *claims)
{
    for (size_t i = 0; i < claims->mky_count; i++) {
        put_text(to, i == 0 ? ",\"mky\":[{\"alg\":" : ",{\"alg\":");
        sks_put_quoted(to, claims->mky[i].alg);
        put_text(to, ",\"dig\":");
        sks_put_quoted(to, claims->mky[i].dig);
        put(to, "}", 1);
    }
    if (claims->mky_count > 0)
        put(to, "]", 1);
}

static void
put_crn(struct writing *to, const char *crn)
{
    json_t *value = json_string(crn); /* NULL if it is not UTF-8 */

    put_text(to, "\"crn\":");
    sks_put_json(to, value);
    put(to, ",", 1);
    json_decref(value);
}

static void
put_after_origid(struct writing *to, const struct sks_claims *claims)
{
    if (claims->rcd != NULL) {
        put_text(to, ",\"rcd\":");
        sks_put_json(to, claims->rcd);
    }
    if (claims->rcdi != NULL) {
        put_text(to, ",\"rcdi\":");
        sks_put_json(to, claims->rcdi);
    }
    if (claims->rph_count > 0) {
        put_texts(to, ",\"rph\":{\"auth\":", claims->rph_auth, claims->rph_count);
        put(to, "}", 1);
    }
    if (claims->sph != NULL) {
        put_text(to, ",\"sph\":");
        sks_put_quoted(to, claims->sph);
    }
}

enum hsm_status
sks_claims_payload(const struct sks_claims *claims, char out[SKS_PASSPORT_PAYLOAD_MAX + 1],
                   size_t *len)
{
    struct writing to = {.at = out, .end = out + SKS_PASSPORT_PAYLOAD_MAX}; /* room for the NUL */

    put(&to, "{", 1);
    if (claims->attest != '\0') {
        put_text(&to, "\"attest\":\"");
        put(&to, &claims->attest, 1);
        put_text(&to, "\",");
    }
    if (claims->crn != NULL)
        put_crn(&to, claims->crn);
    put_dest(&to, claims);
    if (claims->div_tn != NULL || claims->div_uri != NULL)
        put_div(&to, claims);
    put_text(&to, ",\"iat\":");
    sks_put_number(&to, claims->iat);
    put_mky(&to, claims);
    put_text(&to, ",\"orig\":{");
    put_one(&to, claims->orig_tn, claims->orig_uri);
    if (claims->origid != NULL) {
        put_text(&to, ",\"origid\":");
        sks_put_quoted(&to, claims->origid);
    }
    put_after_origid(&to, claims);
    put(&to, "}", 1);
    if (to.is_full)
        return HSM_ERR_MALFORMED;
    *to.at = '\0';
    *len = (size_t)(to.at - out);
    return HSM_OK;
}
