/*
 * trust.h - what a STI-VS trusts: the STI-PA's list of STI-CA roots and its CRL.
 *
 * Kept across restarts in a directory; if a refresh fails, a valid list or CRL is
 * kept until it expires, and a rollback is refused. Threads may share it.
 */
#ifndef SKS_TRUST_H
#define SKS_TRUST_H

#include <stdbool.h>
#include <time.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <certs/crl.h>
#include <certs/path.h>
#include <hsm/defer.h>
#include <hsm/status.h>

#define SKS_TRUST_LIST_EVERY_S 3600 /* between requests for the list */
#define SKS_TRUST_CRL_EVERY_S  300 /* for the CRL: bounds the delay until a revocation is seen */

#define SKS_TRUST_VERDICTS 20000 /* cached verdicts on chains */
#define SKS_TRUST_UNUSED_S 21600 /* after which an unused verdict is dropped */

struct sks_trust;

struct sks_trust_config {
    struct acme_http_client *http; /* borrowed */
    const struct certs_chain *pa_anchors; /* borrowed */
    const char *ca_list_url;
    const char *crl_url;
    const char *dir; /* where list and CRL are kept; NULL: in memory only */
    unsigned list_every_s, crl_every_s, unused_s; /* 0: the defaults above */
    const struct certs_path_policy *policy; /* copied; its store is borrowed; NULL: the default */
};

/**
 * Starts with what the directory holds, checked again when it is used; fetch
 * with sks_trust_refresh(). The directory is made if it is not there.
 */
HSM_MUST_CHECK enum hsm_status sks_trust_new(const struct sks_trust_config *config,
                                             struct sks_trust **out);

/**
 * Fixed anchors and a CRL (octets, PEM or DER; NULL: revocation is not checked), never refreshed:
 * for tools and tests. All are copied. The CRL is verified when it is used, against pa_anchors.
 *
 * @retval HSM_ERR_MALFORMED  the CRL cannot be read; logged
 */
HSM_MUST_CHECK enum hsm_status
sks_trust_fixed(const struct certs_chain *anchors, const uint8_t *crl, size_t crl_len,
                const struct certs_chain *crl_signer, const struct certs_chain *pa_anchors,
                struct sks_trust **out);

/**
 * Fetch what is missing or due: list and CRL each after its interval, or half its
 * lifetime if that is less; what came from the directory is fetched again at the
 * first call. What has not changed at the STI-PA (ETag) is not sent again.
 * Failures are logged, the first is returned; a valid list or CRL is kept. Calls
 * of sks_trust_check() do not wait. Unused verdicts are dropped.
 *
 * @retval HSM_ERR_BUSY       the STI-PA could not be reached
 * @retval HSM_ERR_UNTRUSTED  its answer does not verify, or is older than one before
 */
HSM_MUST_CHECK enum hsm_status sks_trust_refresh(struct sks_trust *trust, time_t now);

/** In how many seconds to call sks_trust_refresh() again: 1 to 60. */
unsigned sks_trust_next_s(struct sks_trust *trust, time_t now);

/** True if there are a list and a CRL that are valid at `now`. */
bool sks_trust_is_ready(struct sks_trust *trust, time_t now);

/** When the present list and CRL expire; 0: there is none, or it does not expire. */
void sks_trust_ends(struct sks_trust *trust, time_t *list, time_t *crl);

/**
 * A copy of the trusted STI-CA roots: certs_chain_free().
 *
 * @retval HSM_ERR_UNTRUSTED  there is no list that is valid at `now`
 */
HSM_MUST_CHECK enum hsm_status sks_trust_roots(struct sks_trust *trust, time_t now,
                                               struct certs_chain **out, struct hsm_reason *why);

/**
 * Find the path of a chain to a trusted STI-CA root, and check revocation. The verdict is cached
 * until the list, the CRL or one of the chain's certificates expires or is replaced.
 *
 * @param out  certs_path_free() it; its first certificate is the end entity, which need not be the
 *             first of the chain
 * @retval HSM_ERR_UNTRUSTED  with one reason, which may be a missing or expired CRL
 */
HSM_MUST_CHECK enum hsm_status sks_trust_path(struct sks_trust *trust,
                                              const struct certs_chain *chain, time_t now,
                                              struct certs_path **out, struct hsm_reason *why);

/** sks_trust_path() for a chain whose first certificate is the end entity. */
HSM_MUST_CHECK enum hsm_status sks_trust_check(struct sks_trust *trust,
                                               const struct certs_chain *chain, time_t now,
                                               struct hsm_reason *why);

/** True if the CRL that is held, good at `now`, has the certificate: that is for good. */
bool sks_trust_is_revoked(struct sks_trust *trust, const X509 *cert, time_t now);

void sks_trust_free(struct sks_trust *trust);
DEFINE_DEFER(struct sks_trust, sks_trust_free)

#endif
