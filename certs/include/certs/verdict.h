/*
 * verdict.h - a cache of verdicts on chains.
 *
 * A verifier meets the same chain in every call of a provider. The key of a
 * verdict is what it depends on: the digests of the chain, of the anchors and of
 * the CRL. It holds until the first of the certificates, the list or the CRL
 * expires. When one of them is replaced, verdicts based on it are no longer found:
 * nothing has to be invalidated, and a stale verdict cannot be returned.
 * A refusal is kept for five minutes at most. A failure, such as missing memory, is
 * an error other than HSM_ERR_UNTRUSTED, and is not kept.
 *
 * Threads may share it. It is bounded; refusals never evict good verdicts. A good
 * verdict keeps the certificates of its path in memory, so the owner calls
 * certs_verdicts_forget() to drop those that have expired or are not used.
 */
#ifndef CERTS_VERDICT_H
#define CERTS_VERDICT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <certs/chain.h>
#include <certs/path.h>
#include <hsm/defer.h>
#include <hsm/status.h>

#define CERTS_VERDICTS_MAX 1048576 /* verdicts that a cache can be made for */

struct certs_verdicts;

/**
 * @param policy  copied; its intermediates are borrowed and outlive the cache; NULL: the default
 * @param max     the number of verdicts that there is room for, up to CERTS_VERDICTS_MAX; rounded
 *                up to a power of two, 128 at least
 */
HSM_MUST_CHECK enum hsm_status certs_verdicts_new(const struct certs_path_policy *policy,
                                                  size_t max, struct certs_verdicts **out);

/**
 * certs_path_verify(), or its cached result. Two threads that need the same uncached verdict at the
 * same time may both compute it.
 *
 * @param out  NULL, or certs_path_free() it
 */
HSM_MUST_CHECK enum hsm_status
certs_verdicts_check(struct certs_verdicts *verdicts, const struct certs_chain *chain,
                     const struct certs_trust *trust, time_t now, struct certs_path **out,
                     struct hsm_reason *why);

/** Drop the verdicts that have expired, and those that were not used for `unused_s` seconds. */
void certs_verdicts_forget(struct certs_verdicts *verdicts, time_t now, time_t unused_s);

struct certs_verdicts_count {
    uint64_t found; /* since it was made */
    uint64_t not_found;
    size_t kept; /* now */
};

void certs_verdicts_count(struct certs_verdicts *verdicts, struct certs_verdicts_count *out);

void certs_verdicts_free(struct certs_verdicts *verdicts);
DEFINE_DEFER(struct certs_verdicts, certs_verdicts_free)

#endif
