/* service_signing.c - POST /stir/v1/signing. */
#include "service_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/metrics.h>
#include <hsm/use.h>

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

/** A request on its way to a signature. */
struct sks_signing_call {
    struct sks_signing_call *next; /* of the spare ones */
    struct sks_service *service;
    const struct sks_caller *caller; /* NULL: nothing is known of callers */
    const struct sks_customer *customer; /* NULL likewise */
    const char *who; /* asked, for the journal of signatures; NULL: nobody */
    time_t now;
    int64_t begun; /* hsm_metric_clock_ns() */
    unsigned wait_s; /* when there were too many calls */
    struct ms_fault fault; /* why it is not signed */
    bool is_signed;
    char *identity; /* owned; NULL: not signed */
    struct sks_signers *signers; /* a share; NULL: not signed */
    const struct sks_signer *signer; /* one of them */
    struct ms_signing signing;
};

/* ---- calls come and go ---- */

/* Calls that are kept: to allocate and release so much costs a microsecond. */
#define SPARE_MAX 64

static struct sks_signing_call *
take_spare(struct sks_calls *calls)
{
    struct sks_signing_call *spare;

    pthread_mutex_lock(&calls->lock);
    spare = calls->spare;
    if (spare != NULL) {
        calls->spare = spare->next;
        calls->spare_count--;
    }
    pthread_mutex_unlock(&calls->lock);
    return spare;
}

static struct sks_signing_call *
call_new(struct sks_service *service, const struct sks_caller *caller)
{
    struct sks_signing_call *call = take_spare(&service->calls);

    if (call == NULL)
        call = malloc(sizeof(*call));
    if (call == NULL)
        return NULL;
    memset(call, 0, offsetof(struct sks_signing_call, signing)); /* ms_signing_parse() makes it */
    call->signing.json = NULL;
    call->fault.dialect = MS_ATIS;
    call->service = service;
    call->caller = caller;
    call->who = hsm_use_now().who;
    call->now = sks_service_now(service);
    call->begun = hsm_metric_clock_ns();
    return call;
}

static void
call_free(struct sks_signing_call *call)
{
    struct sks_calls *calls = &call->service->calls;
    bool is_kept;

    ms_signing_clear(&call->signing);
    sks_signers_free(call->signers);
    free(call->identity);
    pthread_mutex_lock(&calls->lock);
    is_kept = calls->spare_count < SPARE_MAX;
    if (is_kept) {
        call->next = calls->spare;
        calls->spare = call;
        calls->spare_count++;
    }
    pthread_mutex_unlock(&calls->lock);
    if (!is_kept)
        free(call);
}

void
sks_calls_free(struct sks_calls *calls)
{
    struct sks_signing_call *call;

    while ((call = take_spare(calls)) != NULL)
        free(call);
    pthread_mutex_destroy(&calls->lock);
}

/* ---- what may be signed ---- */

static bool
deny(struct ms_fault *fault, const struct sks_refusal *refusal)
{
    return ms_refuse(fault, MS_NOT_ALLOWED, refusal->member, refusal->why.text);
}

static bool
find_customer(struct sks_signing_call *call)
{
    struct sks_refusal refusal = {.member = NULL};

    return call->caller == NULL ||
           sks_caller_customer(call->caller, call->signing.profile_id, &call->signing.claims,
                               &call->customer, &refusal) == HSM_OK ||
           deny(&call->fault, &refusal);
}

static bool
check_claims(struct sks_signing_call *call)
{
    const char *origid = call->customer == NULL ? NULL : sks_customer_origid(call->customer);

    return ms_signing_check(&call->signing, origid, &call->fault) &&
           check_fresh(&call->signing.claims, call->now, &call->fault);
}

/* What the customer may have said. */
static bool
check_policy(struct sks_signing_call *call)
{
    struct sks_refusal refusal = {.member = NULL};

    return call->customer == NULL ||
           sks_customer_check(call->customer, &call->signing.claims, call->signing.header_count,
                              &refusal) == HSM_OK ||
           deny(&call->fault, &refusal);
}

/* How often the caller and the customer may. */
static bool
check_rate(struct sks_signing_call *call)
{
    struct hsm_reason why = {""};

    return call->customer == NULL ||
           sks_caller_take(call->caller, call->customer, hsm_metric_clock_ns(), &call->wait_s,
                           &why) == HSM_OK ||
           ms_refuse(&call->fault, MS_TOO_MANY, why.text, "");
}

/* No signature is given out without its record. */
static bool
record(struct sks_signing_call *call, const struct acme_http_request *request)
{
    struct sks_trail *trail = call->service->config.trail;
    const struct sks_customer *customer = call->customer;
    struct sks_trail_entry entry = {
        .now = call->now,
        .caller = call->caller == NULL ? NULL : sks_caller_name(call->caller),
        .customer = customer == NULL ? NULL : sks_customer_name(customer),
        .rule = customer == NULL ? NULL : sks_customer_rule(customer),
        .spc = sks_signer_spc(call->signer),
        .x5u = sks_signer_x5u(call->signer),
        .request_id = call->signing.request_id,
        .claims = &call->signing.claims,
    };

    if (trail == NULL)
        return true;
    if (entry.request_id == NULL)
        entry.request_id = acme_http_request_header(request, "X-RequestID");
    return sks_trail_write(trail, &entry) == HSM_OK ||
           ms_refuse(&call->fault, MS_NOT_POSSIBLE_NOW,
                     "the record of signatures cannot be written", "");
}

/* All that is known without the token; what is much work comes after the rate. */
static bool
check(struct sks_signing_call *call, const struct acme_http_request *request)
{
    const struct sks_dial_plan *plan = sks_service_dial_plan(call->service, call->caller);
    const char *body;
    size_t len;

    return sks_service_body(request, &body, &len, &call->fault) &&
           ms_signing_parse(body, len, plan, &call->signing, &call->fault) && find_customer(call) &&
           check_claims(call) && check_policy(call) && check_rate(call) &&
           ms_signing_check_headers(&call->signing, &call->fault);
}

static void
sign(void *context)
{
    struct sks_signing_call *call = context;
    const char *spc =
        call->customer == NULL ? call->service->config.spc : sks_customer_spc(call->customer);
    HSM_USE_ASKED_BY(call->who);

    call->is_signed =
        sks_signing_sign(call->service->signing, spc, &call->signing.claims, call->now,
                         &call->identity, &call->signers, &call->signer, &call->fault);
}

static bool
respond(struct sks_signing_call *call, const struct acme_http_request *request,
        struct acme_http_response *response)
{
    DEFER(free) char *text = NULL;
    size_t len;

    if (!record(call, request))
        return false;
    text = ms_signing_response(&call->signing, call->identity, &len);
    if (text == NULL)
        return ms_refuse(&call->fault, MS_INTERNAL, "", "");
    acme_http_respond(response, 200, "application/json", text, len);
    return true;
}

static void
respond_fault(const struct sks_signing_call *call, struct acme_http_response *response)
{
    char seconds[16];

    if (call->fault.error == MS_TOO_MANY) { /* RFC 6585 section 4 */
        snprintf(seconds, sizeof(seconds), "%u", call->wait_s);
        acme_http_response_header(response, "Retry-After", seconds);
    }
    ms_fault_respond(&call->fault, response);
}

/* Answer with the signature, or why there is none. */
static void
finish(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct sks_signing_call *call = context;
    enum sks_outcome outcome = SKS_OUTCOME_GOOD;

    if (!call->is_signed || !respond(call, request, response)) {
        respond_fault(call, response);
        outcome = sks_service_outcome(&call->fault);
    }
    sks_meter_signing(call->service, outcome, call->begun);
    call_free(call);
}

void
sks_service_answer_signing(struct sks_service *service, const struct sks_caller *caller,
                           const struct acme_http_request *request,
                           struct acme_http_response *response)
{
    struct sks_signing_call *call = call_new(service, caller);

    if (call == NULL)
        return; /* the response is 500 */
    if (check(call, request)) {
        const struct acme_http_rest rest = {sign, finish, call};

        call->fault.error = MS_NOT_POSSIBLE_NOW; /* if it comes to no signature any more */
        if (acme_http_defer(response, &rest))
            return;
        sign(call);
    }
    finish(call, request, response);
}
