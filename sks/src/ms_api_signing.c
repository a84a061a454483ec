/* ms_api_signing.c - the signingRequest and its response, in both dialects. */
#include "ms_api_signing_internal.h"

#include <stdlib.h>
#include <string.h>

#include <sks/identity.h>

#include "diversion_internal.h"
#include "writing_internal.h"

/* ---- kinds ---- */

/** The members that a request of ATIS-1000082 must have, and others may; NULL: absent. */
struct base {
    const json_t *attest, *dest, *iat, *orig, *origid;
};

static struct base
find_base(const json_t *request)
{
    return (struct base){json_object_get(request, "attest"), json_object_get(request, "dest"),
                         json_object_get(request, "iat"), json_object_get(request, "orig"),
                         json_object_get(request, "origid")};
}

/* True of nearly all requests: these members and no others, so nothing else has to be looked up. */
static bool
is_plain(const json_t *request, const struct base *base)
{
    return json_object_size(request) == 5 && base->attest != NULL && base->dest != NULL &&
           base->iat != NULL && base->orig != NULL && base->origid != NULL;
}

static enum ms_dialect
dialect_of(const json_t *request)
{
    static const char *const others[] = {
        "ppt", "div", "rph", "sph", "profileId", "requestId", "identityHeaders", NULL};

    return sks_ms_request_count(request, others) > 0 ? MS_3GPP : MS_ATIS;
}

/* "" stands for shaken, and so does an absent ppt. */
static bool
take_ppt(const json_t *request, enum sks_ppt *out, struct ms_fault *fault)
{
    const json_t *ppt = json_object_get(request, "ppt");
    const char *text = json_string_value(ppt);

    *out = SKS_PPT_SHAKEN;
    if (ppt == NULL || (text != NULL && text[0] == '\0'))
        return true;
    if (text == NULL || sks_ppt_parse(text, out) != HSM_OK)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "ppt", "none of shaken, div, rph, rcd");
    return true;
}

/* ATIS-1000082 has only shaken PASSporTs, and requires an origid in each request. */
static bool
has_mandatory(const json_t *request, const struct ms_signing *signing, struct ms_fault *fault)
{
    static const char *const atis[] = {"attest", "dest", "iat", "orig", "origid", NULL};
    static const char *const threegpp[SKS_PPT_COUNT][6] = {
        [SKS_PPT_SHAKEN] = {"attest", "dest", "iat", "orig", NULL},
        [SKS_PPT_DIV] = {"dest", "div", "iat", "orig", NULL},
        [SKS_PPT_RPH] = {"dest", "iat", "orig", "rph", NULL},
        [SKS_PPT_RCD] = {"dest", "iat", "orig", NULL},
    };

    return sks_ms_request_has_all(
        request, signing->dialect == MS_ATIS ? atis : threegpp[signing->claims.ppt], fault);
}

/* ---- members ---- */

static bool
take_optional_string(const json_t *member, const char *name, size_t max, const char **out,
                     struct ms_fault *fault)
{
    return member == NULL || sks_ms_take_string(member, name, max, out, fault);
}

static bool
take_attest(const json_t *attest, char *out, struct ms_fault *fault)
{
    const char *text;

    if (attest == NULL)
        return true;
    if (!sks_ms_take_string(attest, "attest", 1, &text, fault) || strchr("ABC", text[0]) == NULL)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "attest", "not A, B or C");
    *out = text[0];
    return true;
}

static bool
take_div(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    const json_t *div = json_object_get(request, "div");
    const json_t *hi = json_object_get(div, "hi");

    if (div == NULL)
        return true;
    if (!sks_ms_take_one(&out->div, div, "div", fault))
        return false;
    out->claims.div_hi = json_string_value(hi);
    return hi == NULL || out->claims.div_hi != NULL ||
           sks_ms_refuse(fault, MS_INVALID_PARAMETER, "div", "hi is not a string");
}

/* The strings of an array, 1 to `max`. */
static bool
take_strings(const json_t *array, const char *name, const char **out, size_t max, size_t *count,
             struct ms_fault *fault)
{
    if (!json_is_array(array) || json_array_size(array) == 0)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not an array with elements");
    if (json_array_size(array) > max)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "too many");
    for (*count = 0; *count < json_array_size(array); (*count)++) {
        out[*count] = json_string_value(json_array_get(array, *count));
        if (out[*count] == NULL)
            return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "an element is not a string");
    }
    return true;
}

static bool
take_rph(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    const json_t *rph = json_object_get(request, "rph");

    if (rph == NULL)
        return true;
    if (json_object_size(rph) != 1)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "rph", "not an object with auth");
    out->claims.rph_auth = out->rph;
    return take_strings(json_object_get(rph, "auth"), "rph", out->rph, SKS_RPH_MAX,
                        &out->claims.rph_count, fault);
}

static bool
take_mky(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    const json_t *array = json_object_get(request, "mky");
    const char *wrong = NULL;

    if (array == NULL)
        return true;
    wrong = json_array_size(array) > 0 ? sks_mky_take(array, &out->mky) : "not an array of 1 to 16";
    if (wrong != NULL)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "mky", wrong);
    out->claims.mky = out->mky.all;
    out->claims.mky_count = out->mky.count;
    return true;
}

/* The alternate presentation number is made canonical in place (RFC 8224 section 8.3). One that is
 * not a string is refused with the other claims. */
static bool
take_apn(json_t *apn, const struct sks_dial_plan *plan, struct ms_fault *fault)
{
    const char *text = json_string_value(apn);
    char canonical[SKS_TN_MAX + 1];
    enum hsm_status st = text == NULL ? HSM_OK : sks_ms_canonical_tn(text, plan, canonical);

    if (st != HSM_OK)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "rcd",
                             st == HSM_ERR_NOT_FOUND ? "apn is not a telephone number"
                                                     : "apn is too long");
    return text == NULL || json_string_set(apn, canonical) == 0 ||
           sks_ms_refuse(fault, MS_INTERNAL, "", "");
}

static bool
take_rcd(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    out->claims.rcd = json_object_get(request, "rcd");
    out->claims.rcdi = json_object_get(request, "rcdi");
    return take_apn(json_object_get(out->claims.rcd, "apn"), out->orig.plan, fault) &&
           take_optional_string(json_object_get(request, "crn"), "crn", SKS_CRN_MAX,
                                &out->claims.crn, fault);
}

static bool
take_headers(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    const json_t *headers = json_object_get(request, "identityHeaders");

    return headers == NULL || take_strings(headers, "identityHeaders", out->headers, MS_HEADERS_MAX,
                                           &out->header_count, fault);
}

/* ---- the request ---- */

static void
point_claims(struct ms_signing *signing)
{
    struct sks_claims *claims = &signing->claims;

    claims->orig_tn = signing->orig.tn_count > 0 ? signing->orig.tn[0] : NULL;
    claims->orig_uri = signing->orig.uri_count > 0 ? signing->orig.uri[0] : NULL;
    claims->dest_tn = signing->dest.tn;
    claims->dest_tn_count = signing->dest.tn_count;
    claims->dest_uri = signing->dest.uri;
    claims->dest_uri_count = signing->dest.uri_count;
    claims->div_tn = signing->div.tn_count > 0 ? signing->div.tn[0] : NULL;
    claims->div_uri = signing->div.uri_count > 0 ? signing->div.uri[0] : NULL;
}

static bool
take_base(const struct base *base, struct ms_signing *out, struct ms_fault *fault)
{
    return take_attest(base->attest, &out->claims.attest, fault) &&
           sks_ms_take_many(&out->dest, base->dest, "dest", out->dialect == MS_3GPP, fault) &&
           sks_ms_take_time(base->iat, "iat", &out->claims.iat, fault) &&
           sks_ms_take_one(&out->orig, base->orig, "orig", fault) &&
           take_optional_string(base->origid, "origid", SKS_TN_URI_MAX, &out->claims.origid, fault);
}

static bool
take_extensions(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    return take_div(request, out, fault) && take_rph(request, out, fault) &&
           take_optional_string(json_object_get(request, "sph"), "sph", SKS_R_VALUE_MAX,
                                &out->claims.sph, fault) &&
           take_mky(request, out, fault) && take_rcd(request, out, fault) &&
           take_headers(request, out, fault) &&
           take_optional_string(json_object_get(request, "profileId"), "profileId", MS_NAME_MAX,
                                &out->profile_id, fault) &&
           take_optional_string(json_object_get(request, "requestId"), "requestId", MS_NAME_MAX,
                                &out->request_id, fault);
}

/* Refuse the claims of third-party rich call data (RFC 9795 section 10) and of div-o (RFC 8946
 * section 5): without them the PASSporT would have another meaning. */
static bool
has_no_strangers(const json_t *request, struct ms_fault *fault)
{
    static const char *const strangers[] = {"iss", "opt"};

    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        if (json_object_get(request, strangers[i]) != NULL)
            return sks_ms_refuse(fault, MS_INVALID_PARAMETER, strangers[i],
                                 "not a claim that is signed");
    }
    return true;
}

static bool
take_request(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    const struct base base = find_base(request);
    bool good;

    if (is_plain(request, &base)) {
        good = take_base(&base, out, fault);
    } else {
        out->dialect = dialect_of(request);
        fault->dialect = out->dialect;
        good = has_no_strangers(request, fault) && take_ppt(request, &out->claims.ppt, fault) &&
               has_mandatory(request, out, fault) && take_base(&base, out, fault) &&
               take_extensions(request, out, fault);
    }
    point_claims(out);
    return good;
}

bool
sks_ms_signing_parse(const char *body, size_t len, const struct sks_dial_plan *plan,
                     struct ms_signing *out, struct ms_fault *fault)
{
    const json_t *request;

    memset(out, 0, offsetof(struct ms_signing, orig));
    sks_ms_identities_begin(&out->orig, plan);
    sks_ms_identities_begin(&out->dest, plan);
    sks_ms_identities_begin(&out->div, plan);
    if (sks_ms_request_open(body, len, "signingRequest", &out->json, &request, fault) &&
        take_request(request, out, fault))
        return true;
    sks_ms_signing_clear(out);
    return false;
}

static bool
refuse_claim(struct ms_fault *fault, enum hsm_status st, const struct sks_refusal *refusal)
{
    if (st != HSM_ERR_MALFORMED && st != HSM_ERR_UNTRUSTED)
        return sks_ms_refuse(fault, MS_INTERNAL, "", "");
    return sks_ms_refuse(fault, MS_INVALID_PARAMETER, refusal->member, refusal->why.text);
}

bool
sks_ms_signing_check(struct ms_signing *signing, const char *origid, struct ms_fault *fault)
{
    struct sks_claims *claims = &signing->claims;
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st;

    if (claims->ppt == SKS_PPT_SHAKEN && claims->origid == NULL) {
        if (origid == NULL)
            return sks_ms_refuse(fault, MS_MISSING_PARAMETER, "origid", "");
        claims->origid = origid;
    }
    st = sks_claims_check(claims, &refusal);
    if (st != HSM_OK)
        return refuse_claim(fault, st, &refusal);
    if (signing->header_count > 0 && claims->ppt != SKS_PPT_DIV)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "identityHeaders", "only with ppt div");
    return true;
}

bool
sks_ms_signing_check_headers(const struct ms_signing *signing, struct ms_fault *fault)
{
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st;

    if (signing->header_count == 0)
        return true;
    st = sks_diversion_check(signing->headers, signing->header_count, &signing->claims, &refusal);
    return st == HSM_OK || refuse_claim(fault, st, &refusal);
}

char *
sks_ms_signing_response(const struct ms_signing *signing, const char *identity, size_t *len)
{
    const char *begin = signing->dialect == MS_ATIS ? "{\"signingResponse\":{\"identity\":"
                                                    : "{\"signingResponse\":{\"identityHeader\":";
    const char *middle = signing->request_id != NULL ? ",\"requestId\":" : "";
    size_t size = strlen(begin) + sks_put_string_size(identity) + strlen(middle) +
                  (*middle != '\0' ? sks_put_string_size(signing->request_id) : 0) + strlen("}}");
    char *text = malloc(size);
    struct writing to;

    if (text == NULL)
        return NULL;
    to = (struct writing){.at = text, .end = text + size};
    put_text(&to, begin);
    sks_put_string(&to, identity);
    put_text(&to, middle);
    if (*middle != '\0')
        sks_put_string(&to, signing->request_id);
    put_text(&to, "}}");
    *len = (size_t)(to.at - text);
    return text;
}

void
sks_ms_signing_clear(struct ms_signing *signing)
{
    json_decref(signing->json);
    signing->json = NULL;
}
