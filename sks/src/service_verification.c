/* service_verification.c - POST /stir/v1/verification. */
#include "service_internal.h"

#include <stdlib.h>

#include <hsm/clock.h>
#include <hsm/defer.h>

#include "ms_api_verification_internal.h"

/* ---- waiting for chains ---- */

static void
resume(void *parked)
{
    acme_http_resume(parked);
}

static void
release_visit(void *visit)
{
    sks_x5u_visit_free(visit);
}

void
sks_service_wait(struct sks_service_wait *wait, struct acme_http_response *response,
                 struct sks_call *call)
{
    wait->parked = acme_http_park(response);
    wait->visit = acme_http_kept(response);
    wait->how = (struct sks_x5u_wait){.landed = wait->parked != NULL ? resume : NULL,
                                      .context = wait->parked,
                                      .visit = &wait->visit};
    call->wait = &wait->how;
}

bool
sks_service_waits(struct sks_service_wait *wait, struct acme_http_response *response,
                  enum hsm_status st, struct ms_fault *fault)
{
    if (wait->visit != NULL)
        acme_http_keep(response, wait->visit, release_visit);
    if (st == HSM_ERR_BUSY && wait->parked != NULL)
        return true;
    acme_http_unpark(wait->parked);
    if (st == HSM_ERR_BUSY)
        sks_ms_refuse(fault, MS_NOT_POSSIBLE_NOW, "too many calls wait for a certificate", "");
    return false;
}

/* ---- calls ---- */

static bool
is_untrusted(const struct sks_judgements *judgements)
{
    for (size_t i = 0; i < judgements->count; i++) {
        if (judgements->judged[i].verification.verdict == SKS_E17_UNTRUSTED)
            return true;
    }
    return false;
}

/* Without a current list and CRL it cannot be decided whether a certificate is trusted: that is a
 * fault of this server, not a verdict on the call. */
static bool
judge(struct sks_service *service, const struct sks_call *call, struct sks_judgements **out,
      enum hsm_status *st, struct ms_fault *fault)
{
    time_t now = sks_service_now(service);

    *st = sks_verify_all(service->config.verifier, call, now, out);
    if (*st != HSM_OK)
        return sks_ms_refuse(fault, MS_INTERNAL, "", "");
    if (is_untrusted(*out) && !sks_trust_is_ready(service->config.trust, now))
        return sks_ms_refuse(fault, MS_NOT_POSSIBLE_NOW, SKS_SERVICE_NO_TRUST, "");
    return true;
}

/* Judge, unless a chain has to be fetched first: then the request is parked and judged when the
 * chain is there. No thread waits for the chain, because a stranger chooses its URL. */
static bool
judge_or_park(struct sks_service *service, struct sks_call *call,
              struct acme_http_response *response, struct sks_judgements **out, bool *is_parked,
              struct ms_fault *fault)
{
    struct sks_service_wait wait;
    enum hsm_status st;
    bool is_judged;

    sks_service_wait(&wait, response, call);
    is_judged = judge(service, call, out, &st, fault);
    call->wait = NULL;
    *is_parked = sks_service_waits(&wait, response, st, fault);
    return is_judged;
}

/* The verdict that is counted: that on the shaken PASSporT, or else on the first one. */
static const struct sks_verification *
told(const struct sks_judgements *judgements)
{
    return judgements->shaken != NULL ? &judgements->shaken->verification
                                      : &judgements->judged[0].verification;
}

/* Add a Reason header for each PASSporT that is not valid, for a proxy that lets the call continue
 * (RFC 9410). If there are several PASSporTs, each header identifies the one it is about. */
static void
add_reasons(const struct sks_judgements *judgements, struct acme_http_response *response)
{
    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_judged *judged = &judgements->judged[i];
        DEFER(free)
        char *text = sks_verification_reason(&judged->verification,
                                             judgements->count > 1 ? judged->signature : NULL);

        if (text != NULL)
            acme_http_response_header(response, "Reason", text);
    }
}

/* A request that was parked for a chain was counted when it came. */
static bool
check_rate(const struct sks_caller *caller, struct acme_http_response *response,
           struct ms_fault *fault)
{
    return caller == NULL || acme_http_was_parked(response) ||
           sks_caller_take_verification(caller, hsm_clock_ns(), &fault->wait_s) == HSM_OK ||
           sks_ms_refuse(fault, MS_TOO_MANY, "of this caller", "");
}

void
sks_service_answer_verification(struct sks_service *service, const struct sks_caller *caller,
                                const struct acme_http_request *request,
                                struct acme_http_response *response)
{
    DEFER(sks_judgements_free) struct sks_judgements *judgements = NULL;
    struct ms_verification verification; /* sks_ms_verification_parse() sets the rest */
    DEFER(sks_ms_verification_clear) struct ms_verification *held = &verification;
    struct ms_fault fault = {.dialect = MS_ATIS};
    enum sks_outcome outcome = SKS_OUTCOME_GOOD;
    int64_t begun = hsm_clock_ns();
    bool is_parked = false;
    const char *body;
    size_t len;

    verification.json = NULL;
    if (sks_service_body(request, &body, &len, &fault) &&
        sks_ms_verification_parse(body, len, sks_service_dial_plan(service, caller), held,
                                  &fault) &&
        check_rate(caller, response, &fault) &&
        judge_or_park(service, &held->call, response, &judgements, &is_parked, &fault)) {
        acme_http_respond_json(response, 200, "application/json",
                               sks_ms_verification_response(held, judgements));
        add_reasons(judgements, response);
        sks_meter_verdict(service, told(judgements));
    } else if (!is_parked) {
        sks_ms_fault_respond(&fault, response);
        outcome = sks_service_outcome(&fault);
    }
    if (!is_parked)
        sks_meter_verification(service, outcome, begun);
}
