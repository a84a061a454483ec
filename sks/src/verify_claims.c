/* verify_claims.c - check the claims of each type of PASSporT, also against the signalling. */
#include "verify_internal.h"

#include <string.h>
#include <strings.h>

#include <sks/claims.h>
#include <sks/tn.h>

#include "mky_internal.h"
#include "r_value_internal.h"
#include "rcd_internal.h"

enum sks_ppt
sks_ppt_of(const char *text)
{
    enum sks_ppt ppt;

    if (text != NULL && sks_ppt_parse(text, &ppt) == HSM_OK)
        return ppt;
    if (text != NULL && strcmp(text, sks_ppt_text(SKS_PPT_DIV_O)) == 0)
        return SKS_PPT_DIV_O;
    return SKS_PPT_UNKNOWN;
}

/* ---- div (RFC 8946 sections 3 and 5) ---- */

bool
sks_ppt_is_div(enum sks_ppt ppt)
{
    return ppt == SKS_PPT_DIV || ppt == SKS_PPT_DIV_O;
}

static enum hsm_status
check_div(struct judgement *j)
{
    const json_t *div = json_object_get(j->payload, "div");
    const json_t *tn = json_object_get(div, "tn");
    const json_t *opt = json_object_get(j->payload, "opt");

    if (!sks_claims_one_party(div))
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "div: missing, or not one tn or uri");
    if (tn != NULL && !sks_tn_is_canonical(json_string_value(tn)))
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "div: tn is not canonical");
    if (j->ppt == SKS_PPT_DIV && opt != NULL)
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "opt: not in a div PASSporT");
    if (j->ppt == SKS_PPT_DIV_O && json_string_length(opt) == 0)
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "opt: missing, or not a PASSporT");
    return HSM_OK;
}

/* ---- rph and sph (RFC 8443 section 4, RFC 9027 sections 3 and 4) ---- */

static const json_t *
auth_of(const struct judgement *j)
{
    return json_object_get(json_object_get(j->payload, "rph"), "auth");
}

static enum hsm_status
check_rph(struct judgement *j)
{
    const json_t *auth = auth_of(j);
    const json_t *sph = json_object_get(j->payload, "sph");
    const char *values[SKS_PRIORITIES_MAX];
    size_t count = json_array_size(auth);
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st;

    if (count == 0 || count > SKS_PRIORITIES_MAX)
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "rph: no array auth");
    if (sph != NULL && !json_is_string(sph))
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "sph: not a string");
    for (size_t i = 0; i < count; i++)
        values[i] = json_string_value(json_array_get(auth, i));
    st = sks_rph_check(values, count, json_string_value(sph), &refusal);
    return st == HSM_OK ? HSM_OK
                        : sks_judge_status(j, SKS_E14_CLAIM_MISSING,
                                           sks_refusal_tell(&refusal, st, &j->why));
}

static bool
is_authorized(const struct judgement *j, const char *value)
{
    const json_t *auth = auth_of(j);

    for (size_t i = 0; i < json_array_size(auth); i++) {
        if (strcasecmp(json_string_value(json_array_get(auth, i)), value) == 0)
            return true;
    }
    return false;
}

/* Every priority that the call requests must be in the PASSporT, which may name more: a proxy on
 * the way may have removed some from the call. */
static enum hsm_status
check_priorities(struct judgement *j)
{
    const struct sks_call *call = j->call;
    bool is_callback = call->priority != NULL && strcasecmp(call->priority, SKS_PSAP_CALLBACK) == 0;
    bool claims_callback = json_object_get(j->payload, "sph") != NULL;

    for (size_t i = 0; i < call->resource_priority_count; i++) {
        if (!is_authorized(j, call->resource_priority[i]))
            return sks_judge(j, SKS_E16_NUMBERS_DIFFER, "rph: Resource-Priority has another value");
    }
    if (call->priority != NULL && is_callback != claims_callback)
        return sks_judge(j, SKS_E16_NUMBERS_DIFFER, "sph: differs from Priority");
    return HSM_OK;
}

/* ---- claims of all types ---- */

static enum hsm_status
check_mky(struct judgement *j)
{
    const json_t *mky = json_object_get(j->payload, "mky");
    const char *fault = mky == NULL ? NULL : sks_mky_fault(mky);

    return fault == NULL ? HSM_OK : sks_judge(j, SKS_E14_CLAIM_MISSING, fault);
}

/* Check rcd, rcdi and crn (RFC 9795); if they pass, *out is their state. */
static enum hsm_status
judge_rcd(const json_t *payload, enum sks_rcd *out, struct sks_refusal *refusal)
{
    const json_t *rcd = json_object_get(payload, "rcd");
    const json_t *rcdi = json_object_get(payload, "rcdi");
    const json_t *crn = json_object_get(payload, "crn");
    enum hsm_status st = sks_rcd_check(rcd, rcdi, refusal);

    *out = rcd == NULL && rcdi == NULL && crn == NULL ? SKS_RCD_NONE : SKS_RCD_GOOD;
    if (st == HSM_OK && crn != NULL && !json_is_string(crn))
        return hsm_refuse(sks_refusal_of(refusal, "crn"), HSM_ERR_MALFORMED, "not a string");
    if (st == HSM_OK && rcdi != NULL && sks_rcdi_has_content(rcdi, rcd))
        *out = SKS_RCD_CONTENT_OPEN;
    return st;
}

/* A bad rcd claim invalidates a PASSporT of type rcd; in another type the data is not shown (RFC
 * 9795 section 8.2). */
static enum hsm_status
check_rcd(struct judgement *j)
{
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st = judge_rcd(j->payload, &j->rcd, &refusal);

    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK)
        j->rcd = SKS_RCD_BAD;
    if (j->ppt != SKS_PPT_RCD)
        return HSM_OK;
    if (j->rcd == SKS_RCD_NONE)
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "rcd: neither rcd nor crn");
    return st == HSM_OK ? HSM_OK
                        : sks_judge_status(j, SKS_E14_CLAIM_MISSING,
                                           sks_refusal_tell(&refusal, st, &j->why));
}

enum hsm_status
sks_check_type_claims(struct judgement *j)
{
    enum hsm_status st = check_mky(j);

    if (st == HSM_OK && j->verdict == SKS_VALID)
        st = check_rcd(j);
    if (st != HSM_OK || j->verdict != SKS_VALID)
        return st;
    switch (j->ppt) {
    case SKS_PPT_DIV:
    case SKS_PPT_DIV_O:
        return check_div(j);
    case SKS_PPT_RPH:
        return check_rph(j);
    default:
        return HSM_OK;
    }
}

enum hsm_status
sks_check_signalling(struct judgement *j)
{
    const json_t *mky = json_object_get(j->payload, "mky");

    if (mky != NULL && j->call->mky != NULL && !sks_mky_equal(mky, j->call->mky))
        return sks_judge(j, SKS_E16_NUMBERS_DIFFER,
                         "mky: differs from the fingerprints of the SDP");
    return j->ppt == SKS_PPT_RPH ? check_priorities(j) : HSM_OK;
}
