/* constrained.c - whether a PASSporT keeps its certificate's claim constraints. */
#include "constrained_internal.h"

#include <stdint.h>
#include <stdlib.h>

#include <acme/json.h>

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

enum hsm_status
sks_constrained_check(const struct certs_constraints *constraints, const json_t *payload,
                      struct hsm_reason *why)
{
    struct claims claims = {.payload = payload};
    const struct certs_claims view = {.payload = &claims, .has = has_claim, .value = claim_value};
    enum hsm_status st;

    if (constraints == NULL)
        return HSM_OK;
    st = certs_constraints_check(constraints, &view, why);
    free(claims.text);
    return st;
}
