/*
 * verdict.h - verdicts on chains, kept for as long as they hold.
 *
 * A verifier meets the same chain with every call of a provider. A verdict is
 * kept under what it depends on: the digests of the chain, of the anchors and
 * of the CRL; it holds until the first of the certificates, the list and the
 * CRL ends. When one of them is replaced, what was kept under it is not found
 * any more: nothing has to be told, and a stale verdict cannot be given.
 *
 * Threads share it. It is bounded; refusals never push out good verdicts. A
 * good verdict holds on to the certificates of its path: whoever keeps verdicts
 * has those forgotten that have ended or that nobody asks for any more.
 */
#ifndef CERTS_VERDICT_H
#define CERTS_VERDICT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <certs/chain.h>
#include <certs/path.h>
#include <hsm/status.h>

#define CERTS_VERDICTS_MAX 1048576 /* verdicts; more cannot be asked for */

struct certs_verdicts;

/**
 * @param policy  copied; its intermediates are borrowed and outlive the cache; NULL: the default
 * @param max     for how many verdicts there is room, up to CERTS_VERDICTS_MAX; rounded up to the
 *                next power of two, 128 at least
 */
HSM_MUST_CHECK enum hsm_status certs_verdicts_new(const struct certs_path_policy *policy,
                                                  size_t max, struct certs_verdicts **out);

/**
 * certs_path_verify(), or what it said before. Two threads that ask at the same
 * time for what is not kept may both work it out.
 *
 * @param out  NULL, or certs_path_free() it
 */
HSM_MUST_CHECK enum hsm_status
certs_verdicts_check(struct certs_verdicts *verdicts, const struct certs_chain *chain,
                     const struct certs_trust *trust, time_t now, struct certs_path **out,
                     struct hsm_reason *why);

/** Drop the verdicts that have ended, and those that nobody has asked for in so many seconds. */
void certs_verdicts_forget(struct certs_verdicts *verdicts, time_t now, time_t unused_s);

struct certs_verdicts_count {
    uint64_t found; /* since it was made */
    uint64_t not_found;
    size_t kept; /* now */
};

void certs_verdicts_count(struct certs_verdicts *verdicts, struct certs_verdicts_count *out);

void certs_verdicts_free(struct certs_verdicts *verdicts);

#endif
