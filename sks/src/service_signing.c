/* service_signing.c - POST /stir/v1/signing. */
#include "service_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/use.h>

#include "ms_api_signing_internal.h"

/* RFC 8224 section 4.1: a signature is made only for the present time. */
static bool
check_fresh(const struct sks_claims *claims, time_t now, struct ms_fault *fault)
{
    struct hsm_reason why;

    if (claims->iat >= (int64_t)now - SKS_FRESHNESS_S &&
        claims->iat <= (int64_t)now + SKS_FRESHNESS_S)
        return true;
    hsm_refuse(&why, HSM_ERR_UNTRUSTED, "not within %d s of now", SKS_FRESHNESS_S);
    return sks_ms_refuse(fault, MS_INVALID_PARAMETER, "iat", why.text);
}

/** A request on its way to a signature. */
struct sks_signing_call {
    struct sks_signing_call *next; /* spare call */
    struct sks_service *service;
    const struct sks_caller *caller; /* NULL: no callers are configured */
    const struct sks_customer *customer; /* NULL likewise */
    const char *who; /* sender of the request, for the signing journal; NULL: unknown */
    time_t now;
    int64_t begun; /* hsm_clock_ns() */
    bool is_charged; /* to the rates */
    struct ms_fault fault; /* why it is not signed */
    bool is_aside; /* parked: its request is handled again later */
    bool is_signed;
    char *identity; /* owned; NULL: not signed */
    struct sks_signers *signers; /* owned reference; NULL: not signed */
    const struct sks_signer *signer; /* one of `signers` */
    struct ms_signing signing;
};

/* ---- allocating and releasing calls ---- */

/* Spare calls that are kept, because allocating and releasing one costs a microsecond. */
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
    memset(call, 0,
           offsetof(struct sks_signing_call, signing)); /* sks_ms_signing_parse() sets the rest */
    call->signing.json = NULL;
    call->fault.dialect = MS_ATIS;
    call->service = service;
    call->caller = caller;
    call->who = hsm_use_now().who;
    call->now = sks_service_now(service);
    call->begun = hsm_clock_ns();
    return call;
}

static void
call_free(struct sks_signing_call *call)
{
    struct sks_calls *calls = &call->service->calls;
    bool is_kept;

    sks_ms_signing_clear(&call->signing);
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
    return sks_ms_refuse(fault, MS_NOT_ALLOWED, refusal->member, refusal->why.text);
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

    return sks_ms_signing_check(&call->signing, origid, &call->fault) &&
           check_fresh(&call->signing.claims, call->now, &call->fault);
}

/* Check that the customer may claim this. */
static bool
check_policy(struct sks_signing_call *call)
{
    struct sks_refusal refusal = {.member = NULL};

    return call->customer == NULL ||
           sks_customer_check(call->customer, &call->signing.claims, call->signing.header_count,
                              &refusal) == HSM_OK ||
           deny(&call->fault, &refusal);
}

static bool
verifies(const struct sks_signing_call *call)
{
    return call->customer != NULL &&
           sks_customer_verifies_div(call->customer, &call->signing.claims);
}

/* Verification may wait, which the event loop must not. */
static bool
may_wait(struct sks_signing_call *call, struct acme_http_response *response)
{
    call->is_aside = verifies(call) && acme_http_hand_over(response);
    return !call->is_aside;
}

/* Charge the rates of the caller and the customer, once for each call. */
static bool
check_rate(struct sks_signing_call *call, struct acme_http_response *response)
{
    struct hsm_reason why = {""};

    call->is_charged = call->customer == NULL || acme_http_was_parked(response) ||
                       sks_caller_take(call->caller, call->customer, hsm_clock_ns(),
                                       &call->fault.wait_s, &why) == HSM_OK;
    return call->is_charged || sks_ms_refuse(&call->fault, MS_TOO_MANY, why.text, "");
}

static bool
judge_diversion(struct sks_signing_call *call, const struct sks_verification *verification)
{
    struct sks_trust *trust = call->service->config.trust;

    if (verification->verdict == SKS_VALID)
        return true;
    if (verification->verdict == SKS_E17_UNTRUSTED && !sks_trust_is_ready(trust, call->now))
        return sks_ms_refuse(&call->fault, MS_NOT_POSSIBLE_NOW, SKS_SERVICE_NO_TRUST, "");
    if (verification->verdict == SKS_E8_INFO_UNREACHABLE) /* it may be reachable later */
        return sks_ms_refuse(&call->fault, MS_NOT_POSSIBLE_NOW, verification->reason_desc.text, "");
    return sks_ms_refuse(&call->fault, MS_NOT_ALLOWED, "identityHeaders",
                         verification->reason_desc.text);
}

/* Check that the diverted PASSporT is valid: a div vouches only for what was verified. */
static bool
verify_headers(struct sks_signing_call *call, struct acme_http_response *response)
{
    const struct ms_signing *signing = &call->signing;
    const struct sks_claims *div = &signing->claims;
    struct sks_call diverted = {
        .from_tn = div->orig_tn,
        .from_uri = div->orig_uri,
        .to_tn = &div->div_tn,
        .to_tn_count = div->div_tn != NULL,
        .to_uri = &div->div_uri,
        .to_uri_count = div->div_uri != NULL,
        .time = call->now,
        .identities = signing->headers,
        .identity_count = signing->header_count,
    };
    struct sks_verification verification;
    struct sks_service_wait wait;
    enum hsm_status st;

    if (!verifies(call))
        return true;
    sks_service_wait(&wait, response, &diverted);
    st = sks_verify_diversion(call->service->config.verifier, &diverted, div, call->now,
                              &verification);
    call->fault.error = MS_INTERNAL; /* if there is no verdict */
    call->is_aside = sks_service_waits(&wait, response, st, &call->fault);
    return st == HSM_OK && judge_diversion(call, &verification);
}

/* Record a call that was signed, or that policy refused (`refused` is the reason). */
static enum hsm_status
record(const struct sks_signing_call *call, const struct acme_http_request *request,
       const char *refused)
{
    const struct sks_customer *customer = call->customer;
    struct sks_trail_entry entry = {
        .now = call->now,
        .caller = call->caller == NULL ? NULL : sks_caller_name(call->caller),
        .request_id = call->signing.request_id,
        .refused = refused,
        .claims = &call->signing.claims,
    };

    if (call->service->config.trail == NULL)
        return HSM_OK;
    if (customer != NULL) {
        entry.customer = sks_customer_name(customer);
        entry.rule = sks_customer_rule(customer);
        entry.spc = sks_customer_spc(customer);
    }
    if (call->signer != NULL) {
        entry.spc = sks_signer_spc(call->signer);
        entry.x5u = sks_signer_x5u(call->signer);
    }
    if (entry.request_id == NULL)
        entry.request_id = acme_http_request_header(request, "X-RequestID");
    return sks_trail_write(call->service->config.trail, &entry);
}

/* A call that is refused before it was charged to the rates is charged for its record. Otherwise a
 * caller could fill the disk, and without room for records nothing is signed. */
static bool
may_record(const struct sks_signing_call *call)
{
    struct hsm_reason why;
    unsigned wait_s;

    return call->is_charged || call->caller == NULL ||
           sks_caller_take(call->caller, call->customer, hsm_clock_ns(), &wait_s, &why) == HSM_OK;
}

/* A refused call is recorded too. If that fails it was logged; the call is refused either way. */
static void
record_refusal(const struct sks_signing_call *call, const struct acme_http_request *request)
{
    const struct hsm_reason *variables = call->fault.variables;
    struct hsm_reason why;

    if (call->fault.error != MS_NOT_ALLOWED || !may_record(call))
        return;
    (void)hsm_refuse(&why, HSM_ERR_DENIED, "%s: %s", variables[0].text, variables[1].text);
    (void)!record(call, request, why.text);
}

/* All checks that do not need the token. The expensive ones come after the rate limit. */
static bool
check(struct sks_signing_call *call, const struct acme_http_request *request,
      struct acme_http_response *response)
{
    const struct sks_dial_plan *plan = sks_service_dial_plan(call->service, call->caller);
    const char *body;
    size_t len;

    return sks_service_body(request, &body, &len, &call->fault) &&
           sks_ms_signing_parse(body, len, plan, &call->signing, &call->fault) &&
           find_customer(call) && check_claims(call) && check_policy(call) &&
           may_wait(call, response) && check_rate(call, response) &&
           sks_ms_signing_check_headers(&call->signing, &call->fault) &&
           verify_headers(call, response);
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

    if (record(call, request, NULL) != HSM_OK) /* no signature is given out without its record */
        return sks_ms_refuse(&call->fault, MS_NOT_POSSIBLE_NOW,
                             "the record of signatures cannot be written", "");
    text = sks_ms_signing_response(&call->signing, call->identity, &len);
    if (text == NULL)
        return sks_ms_refuse(&call->fault, MS_INTERNAL, "", "");
    acme_http_respond(response, 200, "application/json", text, len);
    return true;
}

/* Answer with the signature, or with the reason why it was refused. */
static void
finish(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct sks_signing_call *call = context;
    enum sks_outcome outcome = SKS_OUTCOME_GOOD;

    if (!call->is_signed || !respond(call, request, response)) {
        record_refusal(call, request);
        sks_ms_fault_respond(&call->fault, response);
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
    if (check(call, request, response)) {
        const struct acme_http_rest rest = {sign, finish, call};

        call->fault.error = MS_NOT_POSSIBLE_NOW; /* if sign() is never called */
        if (acme_http_defer(response, &rest))
            return;
        sign(call);
    }
    if (call->is_aside)
        call_free(call);
    else
        finish(call, request, response);
}
