/*
 * callers.h - who may have calls signed, on whose behalf, and what may be said in them.
 *
 * A file of sections (docs/SIGNING.md): "[customer NAME]" is whose calls are
 * signed, with the SPC of the certificate, the numbers, the attestation, the
 * kinds of PASSporT and the rate; "[caller NAME]" is a program that asks, with
 * what it is known by and the customers it may speak for.
 */
#ifndef SKS_CALLERS_H
#define SKS_CALLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/** The SPC of each customer; borrowed. */
const char *const *sks_callers_spcs(const struct sks_callers *callers, size_t *count);

/* ---- who asks ---- */

/** What a request shows of who sent it; NULL and -1: nothing. */
struct sks_evidence {
    long uid; /* of the process at a Unix socket */
    const char *sha256, *subject, *names; /* of a client certificate under the anchors */
    const char *bearer; /* RFC 6750 */
};

/** NULL: nobody who is known. Bearer tokens are compared by their hashes, all of them, in constant
 *  time. */
const struct sks_caller *sks_callers_find(const struct sks_callers *callers,
                                          const struct sks_evidence *evidence);

const char *sks_caller_name(const struct sks_caller *caller);

/** Of its numbers without "+"; NULL: it has none of its own. */
const struct sks_dial_plan *sks_caller_dial_plan(const struct sks_caller *caller);

/* ---- on whose behalf ---- */

/**
 * The customer that a caller speaks for: the one it names, or the first of its customers that has
 * the number which the PASSporT is about: the originator's, or with div the one that diverted.
 *
 * @param name  NULL: not named
 * @retval HSM_ERR_DENIED  none; `refusal` says why
 */
HSM_MUST_CHECK enum hsm_status
sks_caller_customer(const struct sks_caller *caller, const char *name,
                    const struct sks_claims *claims, const struct sks_customer **out,
                    struct sks_refusal *refusal);

const char *sks_customer_name(const struct sks_customer *customer);
const char *sks_customer_spc(const struct sks_customer *customer);
const char *sks_customer_origid(const struct sks_customer *customer); /* NULL: the caller chooses */
const char *sks_customer_rule(const struct sks_customer *customer); /* "FILE:LINE" */
/** True if the PASSporT that a div of its calls diverts must be valid. */
bool sks_customer_verifies_div(const struct sks_customer *customer);

/**
 * Whether these claims may be signed for the customer: kind, attestation, origid, namespaces, rich
 * call data, and the headers of a diverted call.
 *
 * @param header_count  Identity headers that came with a div request
 * @retval HSM_ERR_DENIED  no; `refusal` says why
 */
HSM_MUST_CHECK enum hsm_status sks_customer_check(const struct sks_customer *customer,
                                                  const struct sks_claims *claims,
                                                  size_t header_count, struct sks_refusal *refusal);

/**
 * One call of the rates of both.
 *
 * @param customer  NULL: of the caller's alone
 * @retval HSM_ERR_BUSY  too many; the reason says whose, and *wait_s for how long
 */
HSM_MUST_CHECK enum hsm_status sks_caller_take(const struct sks_caller *caller,
                                               const struct sks_customer *customer, int64_t now_ns,
                                               unsigned *wait_s, struct hsm_reason *why);

#endif
