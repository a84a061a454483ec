/*
 * service_internal.h - what the files of the API service share: service.c (who may ask, what is
 * asked), service_signing.c (calls signed), service_verification.c (calls verified),
 * service_health.c (could calls be served),
 * service_meter.c (what is counted).
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

/* Why nothing can be said of a certificate. */
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

/** Series that are counted in; all NULL when nobody wants to know. */
struct sks_meter {
    struct hsm_series *signing[SKS_OUTCOMES];
    struct hsm_series *verification[SKS_OUTCOMES];
    struct hsm_series *verdicts[SKS_E19_ATTEST + 1];
    struct hsm_series *ready[SKS_ROLES];
};

/** What calls are kept in until they are signed; a signed one's is used again. */
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

/** By its own clock, if it has one. */
time_t sks_service_now(const struct sks_service *service);

/** The body of a POST whose headers are good. */
bool sks_service_body(const struct acme_http_request *request, const char **body, size_t *len,
                      struct ms_fault *fault);

/** What a caller's numbers without "+" mean; NULL: they have country codes. `caller` may be NULL.
 */
const struct sks_dial_plan *sks_service_dial_plan(const struct sks_service *service,
                                                  const struct sks_caller *caller);

/** What a refusal is counted as. */
enum sks_outcome sks_service_outcome(const struct ms_fault *fault);

/* service_signing.c */

/** POST /stir/v1/signing. @param caller  NULL: nothing is known of callers */
void sks_service_answer_signing(struct sks_service *service, const struct sks_caller *caller,
                                const struct acme_http_request *request,
                                struct acme_http_response *response);

/** When none is on its way any more. */
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

/** After the verifier has returned `st`: true if the request is parked and its handler will be
 * called again; false, with *fault, if it would have to be parked and cannot. */
bool sks_service_waits(struct sks_service_wait *wait, struct acme_http_response *response,
                       enum hsm_status st, struct ms_fault *fault);

/* service_health.c */

/** Why no call could be signed, or verified, now; their context is a struct sks_service. */
extern const struct acme_operations_role sks_service_roles[];

bool sks_service_is_ready(struct sks_service *service, enum sks_role role);

/** Add "not_served", the service providers whose calls are not signed now, and "left_out", active
 *  credentials that do not sign, with why; nothing when there are none. `service` as above. */
void sks_service_detail(void *service, json_t *answer);

/* service_meter.c */

void sks_meter_open(struct hsm_metrics *metrics, struct sks_meter *out);

/** An answered request. @param begun  hsm_clock_ns() */
void sks_meter_signing(struct sks_service *service, enum sks_outcome outcome, int64_t begun);

/** The token gave a signature with the key of that credential, or did not, in so many nanoseconds;
 *  `service` is a struct sks_service. */
void sks_meter_signature(void *service, const struct sks_signer *signer, bool good,
                         int64_t took_ns);

void sks_meter_verification(struct sks_service *service, enum sks_outcome outcome, int64_t begun);

void sks_meter_verdict(struct sks_service *service, const struct sks_verification *verification);

/** Gauges as they are now; every second. */
void sks_meter_state(struct sks_service *service);

/** Gauges of credentials that are about to be replaced by others; `service` as above. */
void sks_meter_forget(void *service, const struct sks_signers *signers);

#endif
