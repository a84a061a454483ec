/*
 * service.h - POST /stir/v1/signing and /stir/v1/verification (ATIS-1000082),
 * with /healthz, /readyz and /metrics.
 *
 * Callers are the local Unix socket, TLS clients with a certificate under the
 * configured anchors, or bearers of a token; nobody else. Of them a file of
 * callers makes those whom it knows, each within what it may. /healthz and
 * /readyz answer anyone.
 */
#ifndef SKS_SERVICE_H
#define SKS_SERVICE_H

#include <stdbool.h>
#include <time.h>

#include <acme/http_server.h>
#include <acme/operations.h>
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
    /* Who may ask, and for whom, instead of all those above; NULL: they may have signed what they
     * like, with the credentials of `spc`. */
    const struct sks_callers *callers;
    /* Of numbers without "+", in what callers ask that have none of their own; NULL: none. */
    const struct sks_dial_plan *dial_plan;
    struct sks_trail *trail; /* the record of signatures; NULL: none is kept */
    struct sks_serving *serving; /* what worker processes sign for; NULL: there are no others */
    bool is_candidate; /* starts only if it signs for all that the others sign for */
    struct hsm_metrics *metrics; /* NULL: nothing is counted */
    time_t (*now)(void); /* NULL: time() */
};

/**
 * All pointers are borrowed. Starts without an active credential too, and when
 * its key is not in the token now: signing then answers 503, never an unsigned
 * success. Of several service providers one that can be served is enough.
 *
 * @retval HSM_ERR_UNTRUSTED  an active credential's key and certificate do not match
 * @retval HSM_ERR_AMBIGUOUS  spc is NULL and several SPCs have active credentials
 * @retval HSM_ERR_BUSY       it is a candidate, and calls that are signed now would not be; logged
 */
HSM_MUST_CHECK enum hsm_status sks_service_new(const struct sks_service_config *config,
                                               struct sks_service **out);

/** HSM_OK, or why not every active credential could be loaded, which was logged. */
HSM_MUST_CHECK enum hsm_status sks_service_check(const struct sks_service *service);

struct acme_http_handler sks_service_handler(struct sks_service *service);

/** The same /healthz, /readyz and /metrics for a listener of their own; lives as the service. */
const struct acme_operations *sks_service_operations(const struct sks_service *service);

/**
 * Load credentials again if the catalogue changed, and ask the token for a
 * signature when it has not given one for a while; call every second, on a
 * thread that may wait for the token. What is loaded stays when loading fails.
 */
void sks_service_refresh(struct sks_service *service);

void sks_service_free(struct sks_service *service);

#endif
