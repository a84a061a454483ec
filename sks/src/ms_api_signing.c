/* ms_api_signing.c - the signingRequest. */
#include "ms_api_signing_internal.h"

#include <string.h>

/* What another kind of PASSporT would have to carry: signing a shaken one without it would leave
 * out what the caller asked for (RFC 8946, RFC 8443, RFC 9027, RFC 9795, RFC 8225 5.2.2). */
static bool
is_plain_shaken(const json_t *request, struct ms_fault *fault)
{
    static const char *const others[] = {"crn", "div", "mky", "rcd", "rcdi", "rph", "sph", NULL};
    const json_t *ppt = json_object_get(request, "ppt");
    const char *text = json_string_value(ppt);

    if (ppt != NULL && (text == NULL || (text[0] != '\0' && strcmp(text, "shaken") != 0)))
        return ms_refuse(fault, MS_INVALID_PARAMETER, "ppt", "only shaken is signed");
    for (size_t i = 0; others[i] != NULL; i++)
        if (json_object_get(request, others[i]) != NULL)
            return ms_refuse(fault, MS_INVALID_PARAMETER, others[i], "only shaken is signed");
    return true;
}

static bool
take_attest(const json_t *request, char *out, struct ms_fault *fault)
{
    const char *text;

    if (!ms_take_string(request, "attest", 1, &text, fault) || strchr("ABC", text[0]) == NULL)
        return ms_refuse(fault, MS_INVALID_PARAMETER, "attest", "not A, B or C");
    *out = text[0];
    return true;
}

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
}

/* The reason begins with the claim's name. */
static bool
check_claims(const struct sks_claims *claims, struct ms_fault *fault)
{
    struct hsm_reason why = {""};
    enum hsm_status st = sks_claims_check(claims, &why);
    char *colon = strstr(why.text, ": ");

    if (st == HSM_OK)
        return true;
    if (st != HSM_ERR_MALFORMED || colon == NULL)
        return ms_refuse(fault, MS_INTERNAL, "", "");
    *colon = '\0';
    return ms_refuse(fault, MS_INVALID_PARAMETER, why.text, colon + 2);
}

static bool
take_claims(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    if (!is_plain_shaken(request, fault) || !take_attest(request, &out->claims.attest, fault) ||
        !ms_take_many(&out->dest, request, "dest", false, fault) ||
        !ms_take_time(request, "iat", &out->claims.iat, fault) ||
        !ms_take_one(&out->orig, request, "orig", fault) ||
        !ms_take_string(request, "origid", SKS_TN_URI_MAX, &out->claims.origid, fault))
        return false;
    point_claims(out);
    return check_claims(&out->claims, fault);
}

bool
ms_signing_parse(const char *body, size_t len, struct ms_signing *out, struct ms_fault *fault)
{
    static const char *const mandatory[] = {"attest", "dest", "iat", "orig", "origid", NULL};
    const json_t *request;

    memset(out, 0, sizeof(*out));
    if (ms_request_open(body, len, "signingRequest", &out->json, &request, fault) &&
        ms_request_has_all(request, mandatory, fault) && take_claims(request, out, fault))
        return true;
    ms_signing_clear(out);
    return false;
}

void
ms_signing_clear(struct ms_signing *signing)
{
    json_decref(signing->json);
    signing->json = NULL;
}
