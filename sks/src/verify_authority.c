/* verify_authority.c - what the certificate lets its holder claim. */
#include "verify_internal.h"

#include <stdlib.h>

#include <acme/json.h>
#include <certs/constraints.h>
#include <certs/tnauthlist.h>

/* The claims as certs/ asks for them. */
struct claims {
    const json_t *payload;
    char *text; /* of the last value that is no string; owned */
};

static bool
has_claim(const void *context, const char *name)
{
    const struct claims *claims = context;

    return json_object_get(claims->payload, name) != NULL;
}

static const char *
claim_value(const void *context, const char *name)
{
    struct claims *claims = (struct claims *)(uintptr_t)context; /* only its text is written */
    const json_t *value = json_object_get(claims->payload, name);

    if (json_is_string(value))
        return json_string_value(value);
    free(claims->text);
    claims->text = acme_json_canonical(value);
    return claims->text;
}

/* RFC 8226 section 8, RFC 9118 section 3. */
static enum hsm_status
check_constraints(struct judgement *j)
{
    const struct certs_constraints *constraints = certs_path_constraints(j->path);
    struct claims claims = {.payload = j->payload};
    enum hsm_status st;

    if (constraints == NULL)
        return HSM_OK;
    st = certs_constraints_check(
        constraints,
        &(struct certs_claims){.payload = &claims, .has = has_claim, .value = claim_value},
        &j->why);
    free(claims.text);
    return st == HSM_OK ? HSM_OK : judge_status(j, SKS_E17_UNTRUSTED, st);
}

/*
 * A provider vouches for numbers by attestation: nobody can tell from an SPC
 * whose a ported number is. A certificate without an SPC, a delegate's (RFC
 * 9060), speaks for its numbers alone; of a div for the one that diverts (RFC
 * 8946 section 4.2). A third party's rich call data says so with iss (RFC 9795
 * section 10).
 */
static enum hsm_status
check_number(struct judgement *j)
{
    const struct certs_tnauthlist *list;
    bool is_div = ppt_is_div(j->ppt);
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
    return judge(j, SKS_E17_UNTRUSTED,
                 is_div ? "the certificate's TNAuthList does not hold the div number"
                        : "the certificate's TNAuthList does not hold the orig number");
}

enum hsm_status
check_authority(struct judgement *j)
{
    enum hsm_status st = check_number(j);

    return st == HSM_OK && j->verdict == SKS_VALID ? check_constraints(j) : st;
}
