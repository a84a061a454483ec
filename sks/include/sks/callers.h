/*
 * callers.h - who may have calls signed, on whose behalf, and with which claims.
 *
 * A file of sections (docs/SIGNING.md): "[customer NAME]" is a customer whose
 * calls are signed, with the SPC of the certificate, the numbers, the attestation,
 * the kinds of PASSporT and the rate; "[caller NAME]" is a program that sends
 * requests, with its credentials, what it may use, and the customers it may speak
 * for.
 */
#ifndef SKS_CALLERS_H
#define SKS_CALLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/claims.h>
#include <sks/dial_plan.h>
#include <sks/rates.h>

#define SKS_CALLERS_MAX 1024 /* callers, and customers, of one file */

struct sks_callers;
struct sks_caller;
struct sks_customer;

/**
 * Read and check a file; faults are logged with file and line.
 *
 * @param rates  borrowed, outlives the callers
 */
HSM_MUST_CHECK enum hsm_status sks_callers_read(const char *path, struct sks_rates *rates,
                                                struct sks_callers **out);
void sks_callers_free(struct sks_callers *callers);
DEFINE_DEFER(struct sks_callers, sks_callers_free)

/** The SPC of each customer; borrowed. */
const char *const *sks_callers_spcs(const struct sks_callers *callers, size_t *count);

/* ---- who asks ---- */

/** The evidence in a request of who sent it; NULL and -1: absent. */
struct sks_evidence {
    long uid; /* of the process at a Unix socket */
    const char *sha256, *subject, *names; /* of a client certificate under the anchors */
    const char *bearer; /* RFC 6750 */
};

/** The caller that sent a request; NULL: unknown. A bearer token is compared, by its hash and in
 *  constant time, with those of all callers. */
const struct sks_caller *sks_callers_find(const struct sks_callers *callers,
                                          const struct sks_evidence *evidence);

const char *sks_caller_name(const struct sks_caller *caller);

enum sks_api {
    SKS_API_SIGNING,
    SKS_API_VERIFICATION,
    SKS_API_METRICS, /* and which service providers are not served */
    SKS_APIS
};

bool sks_caller_may_use(const struct sks_caller *caller, enum sks_api api);

/** The caller's own dial plan for numbers without "+"; NULL: the caller has no plan. */
const struct sks_dial_plan *sks_caller_dial_plan(const struct sks_caller *caller);

/* ---- on whose behalf ---- */

/**
 * The customer on whose behalf a caller requests: the one it names, or the first of its customers
 * that has the number the PASSporT is about (the originating number, or for div the diverting one).
 *
 * @param name  NULL: the caller names none
 * @retval HSM_ERR_DENIED  there is no such customer; `refusal` says why
 */
HSM_MUST_CHECK enum hsm_status
sks_caller_customer(const struct sks_caller *caller, const char *name,
                    const struct sks_claims *claims, const struct sks_customer **out,
                    struct sks_refusal *refusal);

const char *sks_customer_name(const struct sks_customer *customer);
const char *sks_customer_spc(const struct sks_customer *customer);
const char *sks_customer_origid(const struct sks_customer *customer); /* NULL: the caller chooses */
const char *sks_customer_rule(const struct sks_customer *customer); /* "FILE:LINE" */
/** True of a div PASSporT that is signed only when the PASSporT that it diverts is valid. */
bool sks_customer_verifies_div(const struct sks_customer *customer,
                               const struct sks_claims *claims);

/**
 * Check whether these claims may be signed for the customer: kind, attestation, origid, namespaces,
 * rich call data, its alternate presentation number (apn), and the headers of a diverted call.
 *
 * @param claims        passed sks_claims_check()
 * @param header_count  Identity headers that came with a div request
 * @retval HSM_ERR_DENIED  no; `refusal` says why
 */
HSM_MUST_CHECK enum hsm_status sks_customer_check(const struct sks_customer *customer,
                                                  const struct sks_claims *claims,
                                                  size_t header_count, struct sks_refusal *refusal);

/**
 * Take one call that is to be signed from the rates of both.
 *
 * @param customer  NULL: only from the caller's
 * @retval HSM_ERR_BUSY  too many; the reason says whose, and *wait_s how long to wait
 */
HSM_MUST_CHECK enum hsm_status sks_caller_take(const struct sks_caller *caller,
                                               const struct sks_customer *customer, int64_t now_ns,
                                               unsigned *wait_s, struct hsm_reason *why);

/** Take one call that is to be verified from the caller's rate for these: HSM_ERR_BUSY as above. */
HSM_MUST_CHECK enum hsm_status sks_caller_take_verification(const struct sks_caller *caller,
                                                            int64_t now_ns, unsigned *wait_s);

#endif
