/* server_terms.c - agreeing to the terms of service (RFC 8555 sections 7.3 and 7.3.3). */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <acme/json.h>

bool
acme_terms_take(struct acme_call *call, const json_t *payload)
{
    const char *terms = call->server->config.terms_of_service;
    struct hsm_reason why = {""};
    bool agreed = false;

    if (acme_json_bool_optional(payload, "termsOfServiceAgreed", false, &agreed, &why) != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
        return false;
    }
    if (!agreed || terms == NULL)
        return true;
    free(call->terms);
    call->terms = strdup(terms);
    if (call->terms == NULL)
        acme_call_fault(call, HSM_ERR_NOMEM);
    return call->terms != NULL;
}

/* 403 with what RFC 8555 section 7.3.3 requires for directing a person to the terms: a Link and an
 * instance. */
static void
refuse(struct acme_call *call, const char *terms)
{
    json_t *problem =
        acme_problem_new(ACME_USER_ACTION_REQUIRED, 403,
                         "agree to the terms of service first: termsOfServiceAgreed is true");

    if (problem != NULL && json_object_set_new(problem, "instance", json_string(terms)) != 0) {
        json_decref(problem);
        problem = NULL;
    }
    acme_call_link(call, terms, "terms-of-service");
    acme_http_respond_json(call->response, 403, "application/problem+json", problem);
}

bool
acme_terms_wanted(struct acme_call *call)
{
    const char *terms = call->server->config.terms_of_service;

    if (terms == NULL || (call->terms != NULL && strcmp(call->terms, terms) == 0))
        return true;
    refuse(call, terms);
    return false;
}
