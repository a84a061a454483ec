/*
 * service_internal.h - what the files of the API service share.
 *
 * service.c               authentication, headers and routes
 * service_signing.c       signing requests
 * service_verification.c  verification requests
 * service_health.c        readiness
 * service_meter.c         metrics
 */
#ifndef SKS_SERVICE_INTERNAL_H
#define SKS_SERVICE_INTERNAL_H

#include <sks/service.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <hsm/clock.h>
#include <sks/signers.h>
#include <sks/x5u.h>

#include "signing_internal.h"

/* Why it cannot be decided whether a certificate is trusted. */
#define SKS_SERVICE_NO_TRUST "no trusted-CA list and CRL that are good now"

enum sks_outcome {
    SKS_OUTCOME_GOOD, /* signed; judged, whatever the verdict */
    SKS_OUTCOME_REFUSED, /* a fault of the request */
    SKS_OUTCOME_UNAVAILABLE, /* no credential, no token, no trusted-CA list */
    SKS_OUTCOME_FAILED,
    SKS_OUTCOMES
};

enum sks_role {
    SKS_ROLE_SIGNING, /* STI-AS */
    SKS_ROLE_VERIFICATION, /* STI-VS */
    SKS_ROLES
};

/** The metric series of the service; all NULL if it is configured without metrics. */
struct sks_meter {
    struct hsm_series *signing[SKS_OUTCOMES];
    struct hsm_series *verification[SKS_OUTCOMES];
    struct hsm_series *verdicts[SKS_E19_ATTEST + 1];
    struct hsm_series *ready[SKS_ROLES];
};

/** Memory of finished signing calls, which is used again. */
struct sks_calls {
    pthread_mutex_t lock;
    struct sks_signing_call *spare;
    size_t spare_count;
};

struct sks_service {
    struct sks_service_config config;

    struct sks_signing *signing; /* owned */
    struct acme_operations operations;
    struct sks_meter meter;
    struct sks_calls calls;
};

/** The present time, by the configured clock if there is one. */
time_t sks_service_now(const struct sks_service *service);

/** The body of a POST; false, with *fault, if a header is not acceptable or the body is empty. */
bool sks_service_body(const struct acme_http_request *request, const char **body, size_t *len,
                      struct ms_fault *fault);

/** The plan for a caller's numbers without "+"; NULL: they include country codes. `caller` may be
 *  NULL. */
const struct sks_dial_plan *sks_service_dial_plan(const struct sks_service *service,
                                                  const struct sks_caller *caller);

/** The outcome as which a fault is counted. */
enum sks_outcome sks_service_outcome(const struct ms_fault *fault);

/* service_signing.c */

/** POST /stir/v1/signing. @param caller  NULL: no callers are configured */
void sks_service_answer_signing(struct sks_service *service, const struct sks_caller *caller,
                                const struct acme_http_request *request,
                                struct acme_http_response *response);

/** Free the spare calls; no call may be in progress. */
void sks_calls_free(struct sks_calls *calls);

/* service_verification.c */

/** POST /stir/v1/verification */
void sks_service_answer_verification(struct sks_service *service, const struct sks_caller *caller,
                                     const struct acme_http_request *request,
                                     struct acme_http_response *response);

/** A request that waits for chains without a thread. */
struct sks_service_wait {
    struct acme_http_parked *parked; /* NULL: it cannot be parked */
    struct sks_x5u_visit *visit;
    struct sks_x5u_wait how;
};

/** Prepare to park the request, before the verifier is called: `call` refers to *wait from now on.
 */
void sks_service_wait(struct sks_service_wait *wait, struct acme_http_response *response,
                      struct sks_call *call);

/** Call it after the verifier has returned `st`. True: the request is parked, and its handler will
 *  be called again. False: it is not; *fault is set if it would have to be (HSM_ERR_BUSY). */
bool sks_service_waits(struct sks_service_wait *wait, struct acme_http_response *response,
                       enum hsm_status st, struct ms_fault *fault);

/* service_health.c */

/** Report why calls cannot be signed, or verified, now; their context is a struct sks_service. */
extern const struct acme_operations_role sks_service_roles[];

bool sks_service_is_ready(struct sks_service *service, enum sks_role role);

/** Add "not_served", the service providers whose calls are not signed now, and "left_out", the
 *  active credentials that do not sign, each with the reason. An empty list is omitted. `service`
 *  is a struct sks_service. */
void sks_service_detail(void *service, json_t *answer);

/* service_meter.c */

void sks_meter_open(struct hsm_metrics *metrics, struct sks_meter *out);

/** Count an answered request. @param begun  hsm_clock_ns() */
void sks_meter_signing(struct sks_service *service, enum sks_outcome outcome, int64_t begun);

/** Count a signature that the token gave with the key of a credential, or failed to give, and the
 *  nanoseconds that this took. `service` is a struct sks_service. */
void sks_meter_signature(void *service, const struct sks_signer *signer, bool good,
                         int64_t took_ns);

void sks_meter_verification(struct sks_service *service, enum sks_outcome outcome, int64_t begun);

void sks_meter_verdict(struct sks_service *service, const struct sks_verification *verification);

/** Set the gauges; call it every second. */
void sks_meter_state(struct sks_service *service);

/** Stop exposing the gauges of credentials that are about to be released; NULL: there are none.
 *  `service` is a struct sks_service. */
void sks_meter_forget(void *service, const struct sks_signers *signers);

#endif
