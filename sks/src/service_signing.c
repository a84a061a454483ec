/* service_signing.c - POST /stir/v1/signing. */
#include "service_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/metrics.h>

#include "ms_api_signing_internal.h"

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_signers, sks_signers_free)

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

/** A request on its way to a signature. */
struct call {
    struct sks_service *service;
    const struct sks_caller *caller; /* NULL: nothing is known of callers */
    const struct sks_customer *customer; /* NULL likewise */
    const char *request_id; /* for the record; NULL: none */
    time_t now;
    struct ms_signing *signing;
    unsigned wait_s; /* when there were too many calls */
};

/* The reason is "MEMBER: why". */
static bool
deny(struct ms_fault *fault, struct hsm_reason *why)
{
    char *colon = strstr(why->text, ": ");

    *colon = '\0';
    return ms_refuse(fault, MS_NOT_ALLOWED, why->text, colon + 2);
}

static bool
find_customer(struct call *call, struct ms_fault *fault)
{
    struct hsm_reason why = {""};

    return call->caller == NULL ||
           sks_caller_customer(call->caller, call->signing->profile_id, &call->signing->claims,
                               &call->customer, &why) == HSM_OK ||
           deny(fault, &why);
}

static bool
check_claims(struct call *call, struct ms_fault *fault)
{
    const char *origid = call->customer == NULL ? NULL : sks_customer_origid(call->customer);

    return ms_signing_check(call->signing, origid, fault) &&
           check_fresh(&call->signing->claims, call->now, fault);
}

/* What the customer may have said, and how often. */
static bool
check_policy(struct call *call, struct ms_fault *fault)
{
    struct hsm_reason why = {""};

    if (call->customer == NULL)
        return true;
    if (sks_customer_check(call->customer, &call->signing->claims, call->signing->header_count,
                           &why) != HSM_OK)
        return deny(fault, &why);
    return sks_caller_take(call->caller, call->customer, hsm_metric_clock_ns(), &call->wait_s,
                           &why) == HSM_OK ||
           ms_refuse(fault, MS_TOO_MANY, why.text, "");
}

/* No signature is given out without its record. */
static bool
record(const struct call *call, const struct sks_signer *signer, struct ms_fault *fault)
{
    const struct sks_customer *customer = call->customer;
    const struct sks_trail_entry entry = {
        .now = call->now,
        .caller = call->caller == NULL ? NULL : sks_caller_name(call->caller),
        .customer = customer == NULL ? NULL : sks_customer_name(customer),
        .rule = customer == NULL ? NULL : sks_customer_rule(customer),
        .spc = sks_signer_spc(signer),
        .x5u = sks_signer_x5u(signer),
        .request_id =
            call->signing->request_id != NULL ? call->signing->request_id : call->request_id,
        .claims = &call->signing->claims,
    };

    return call->service->config.trail == NULL ||
           sks_trail_write(call->service->config.trail, &entry) == HSM_OK ||
           ms_refuse(fault, MS_NOT_POSSIBLE_NOW, "the record of signatures cannot be written", "");
}

/* Answer with a signature; false: *fault says why there is none. */
static bool
sign(struct call *call, struct acme_http_response *response, struct ms_fault *fault)
{
    DEFER(free) char *text = NULL;
    DEFER(free) char *identity = NULL;
    DEFER(sks_signers_free) struct sks_signers *signers = NULL;
    const char *spc =
        call->customer == NULL ? call->service->config.spc : sks_customer_spc(call->customer);
    const struct sks_signer *signer = NULL;
    size_t len;

    if (!sks_signing_sign(call->service->signing, spc, &call->signing->claims, call->now, &identity,
                          &signers, &signer, fault) ||
        !record(call, signer, fault))
        return false;
    text = ms_signing_response(call->signing, identity, &len);
    if (text == NULL)
        return ms_refuse(fault, MS_INTERNAL, "", "");
    acme_http_respond(response, 200, "application/json", text, len);
    return true;
}

static bool
answer(struct call *call, const struct acme_http_request *request,
       struct acme_http_response *response, struct ms_fault *fault)
{
    const struct sks_dial_plan *plan = sks_service_dial_plan(call->service, call->caller);
    bool is_signed;
    const char *body;
    size_t len;

    if (!sks_service_body(request, &body, &len, fault) ||
        !ms_signing_parse(body, len, plan, call->signing, fault))
        return false;
    is_signed = find_customer(call, fault) && check_claims(call, fault) &&
                check_policy(call, fault) && sign(call, response, fault);
    ms_signing_clear(call->signing);
    return is_signed;
}

static void
respond_fault(const struct call *call, const struct ms_fault *fault,
              struct acme_http_response *response)
{
    char seconds[16];

    if (fault->error == MS_TOO_MANY) { /* RFC 6585 section 4 */
        snprintf(seconds, sizeof(seconds), "%u", call->wait_s);
        acme_http_response_header(response, "Retry-After", seconds);
    }
    ms_fault_respond(fault, response);
}

void
sks_service_answer_signing(struct sks_service *service, const struct sks_caller *caller,
                           const struct acme_http_request *request,
                           struct acme_http_response *response)
{
    struct ms_fault fault = {.dialect = MS_ATIS};
    struct ms_signing signing; /* ms_signing_parse() makes it */
    struct call call = {
        .service = service, .signing = &signing, .caller = caller, .now = sks_service_now(service)};
    int64_t begun = hsm_metric_clock_ns();
    bool is_signed;

    if (service->config.trail != NULL)
        call.request_id = acme_http_request_header(request, "X-RequestID");
    is_signed = answer(&call, request, response, &fault);
    if (!is_signed)
        respond_fault(&call, &fault, response);
    sks_meter_signing(service, is_signed ? SKS_OUTCOME_GOOD : sks_service_outcome(&fault), begun);
}
