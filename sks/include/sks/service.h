/*
 * service.h - POST /stir/v1/signing and /stir/v1/verification (ATIS-1000082),
 * with /healthz, /readyz and /metrics.
 *
 * Requests are accepted over the local Unix socket, from TLS clients with a
 * certificate under the configured anchors, and with a bearer token. A file of
 * callers admits only the callers that it lists, each within its limits. /healthz
 * and /readyz answer anyone.
 */
#ifndef SKS_SERVICE_H
#define SKS_SERVICE_H

#include <stdbool.h>
#include <time.h>

#include <acme/http_server.h>
#include <acme/operations.h>
#include <hsm/defer.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <sks/callers.h>
#include <sks/catalogue.h>
#include <sks/serving.h>
#include <sks/tokens.h>
#include <sks/trail.h>
#include <sks/trust.h>
#include <sks/verify.h>

struct sks_service;

struct sks_service_config {
    struct sks_catalogue *catalogue; /* active credentials sign */
    struct sks_tokens *tokens; /* where their keys are */
    const char *spc; /* which SPC signs; NULL: the only active one */
    struct sks_verifier *verifier;
    struct sks_trust *trust; /* for readiness */
    const struct hsm_secret *bearer; /* NULL: no bearer is accepted */
    /* Who may send requests, and for whom. NULL: anyone who is admitted as above may have anything
     * signed, with the credentials of `spc`. */
    const struct sks_callers *callers;
    /* For numbers without "+" from callers without a plan of their own; NULL: none. */
    const struct sks_dial_plan *dial_plan;
    struct sks_trail *trail; /* the record of signatures; NULL: none is kept */
    struct sks_serving *serving; /* the SPCs that all workers sign for; NULL: a single process */
    bool is_candidate; /* starts only if it can sign for all SPCs that the others sign for */
    struct hsm_metrics *metrics; /* NULL: nothing is counted */
    time_t (*now)(void); /* NULL: time() */
};

/**
 * All pointers are borrowed. Starts even without an active credential, or if its
 * key is not in the token now: signing then answers 503, never an unsigned
 * success. If there are several service providers, one that can be served is
 * enough.
 *
 * @retval HSM_ERR_UNTRUSTED  an active credential's key and certificate do not match
 * @retval HSM_ERR_AMBIGUOUS  spc is NULL and several SPCs have active credentials
 * @retval HSM_ERR_BUSY       a candidate that could not sign calls which are signed now; logged
 */
HSM_MUST_CHECK enum hsm_status sks_service_new(const struct sks_service_config *config,
                                               struct sks_service **out);

/** HSM_OK, or why not every active credential could be loaded, which was logged. */
HSM_MUST_CHECK enum hsm_status sks_service_check(const struct sks_service *service);

/** The handler of these requests. Its context is the service: borrowed, valid until
 *  sks_service_free(). */
struct acme_http_handler sks_service_handler(struct sks_service *service);

/** /healthz, /readyz and /metrics for a listener of their own; borrowed, valid until
 *  sks_service_free(). */
const struct acme_operations *sks_service_operations(const struct sks_service *service);

/**
 * Load credentials again if the catalogue changed, and ask the token for a
 * signature when it has not given one for a while; call every second, on a
 * thread that may wait for the token. What is loaded stays when loading fails.
 */
void sks_service_refresh(struct sks_service *service);

void sks_service_free(struct sks_service *service);
DEFINE_DEFER(struct sks_service, sks_service_free)

#endif
