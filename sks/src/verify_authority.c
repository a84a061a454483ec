/* verify_authority.c - check that the certificate allows the claims. */
#include "verify_internal.h"

#include <certs/tnauthlist.h>

#include "constrained_internal.h"

/*
 * A provider vouches for numbers by attestation: an SPC does not show to which provider a ported
 * number belongs. A delegate certificate (RFC 9060) has no SPC and covers its own numbers only; in
 * a div PASSporT the number checked is the one that diverts (RFC 8946 section 4.2). A third party's
 * rich call data is identified by iss (RFC 9795 section 10).
 */
static enum hsm_status
check_number(struct judgement *j)
{
    const struct certs_tnauthlist *list;
    bool is_div = sks_ppt_is_div(j->ppt);
    const char *tn;

    if (certs_path_has_spc(j->path))
        return HSM_OK;
    list = certs_path_tnauthlist(j->path);
    if (list == NULL)
        return HSM_OK;
    if (j->ppt == SKS_PPT_RCD && json_object_get(j->payload, "iss") != NULL)
        return HSM_OK;
    tn = json_string_value(
        json_object_get(json_object_get(j->payload, is_div ? "div" : "orig"), "tn"));
    if (tn != NULL && certs_tnauthlist_has_number(list, tn))
        return HSM_OK;
    return sks_judge(j, SKS_E17_UNTRUSTED,
                     is_div ? "the certificate's TNAuthList does not hold the div number"
                            : "the certificate's TNAuthList does not hold the orig number");
}

enum hsm_status
sks_check_authority(struct judgement *j)
{
    enum hsm_status st = check_number(j);

    if (st != HSM_OK || j->verdict != SKS_VALID)
        return st;
    st = sks_constrained_check(certs_path_constraints(j->path), j->payload, &j->why);
    return st == HSM_OK ? HSM_OK : sks_judge_status(j, SKS_E17_UNTRUSTED, st);
}
