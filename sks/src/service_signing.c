/* service_signing.c - POST /stir/v1/signing. */
#include "service_internal.h"

#include <stdlib.h>

#include <hsm/defer.h>
#include <hsm/metrics.h>

#include "ms_api_signing_internal.h"

DEFINE_DEFER(char, free)

/* RFC 8224 section 4.1: nobody signs for a time that is not now. */
static bool
check_fresh(const struct sks_claims *claims, time_t now, struct ms_fault *fault)
{
    struct hsm_reason why;

    if (claims->iat >= (int64_t)now - SKS_FRESHNESS_S &&
        claims->iat <= (int64_t)now + SKS_FRESHNESS_S)
        return true;
    hsm_refuse(&why, HSM_ERR_UNTRUSTED, "not within %d s of now", SKS_FRESHNESS_S);
    return ms_refuse(fault, MS_INVALID_PARAMETER, "iat", why.text);
}

/* The answer of a success; NULL: *fault says why there is none. */
static json_t *
sign(struct sks_service *service, const struct acme_http_request *request, struct ms_fault *fault)
{
    DEFER(free) char *identity = NULL;
    struct ms_signing signing;
    time_t now = sks_service_now(service);
    json_t *answer = NULL;
    const char *body;
    size_t len;

    if (!sks_service_body(request, &body, &len, fault) ||
        !ms_signing_parse(body, len, NULL, &signing, fault))
        return NULL;
    if (ms_signing_check(&signing, NULL, fault) && check_fresh(&signing.claims, now, fault) &&
        sks_signing_sign(service->signing, service->config.spc, &signing.claims, now, &identity,
                         fault)) {
        answer = ms_signing_response(&signing, identity);
        if (answer == NULL)
            (void)ms_refuse(fault, MS_INTERNAL, "", "");
    }
    ms_signing_clear(&signing);
    return answer;
}

void
sks_service_answer_signing(struct sks_service *service, const struct acme_http_request *request,
                           struct acme_http_response *response)
{
    struct ms_fault fault = {.dialect = MS_ATIS};
    enum sks_outcome outcome = SKS_OUTCOME_GOOD;
    int64_t begun = hsm_metric_clock_ns();
    json_t *answer = sign(service, request, &fault);

    if (answer != NULL) {
        acme_http_respond_json(response, 200, "application/json", answer);
    } else {
        ms_fault_respond(&fault, response);
        outcome = sks_service_outcome(&fault);
    }
    sks_meter_signing(service, outcome, begun);
}
