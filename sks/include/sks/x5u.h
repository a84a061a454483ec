/*
 * x5u.h - fetch the certificate chains that PASSporTs name, with a cache.
 *
 * An attacker chooses these URLs. Only https, without userinfo, query and
 * fragment, on allowed ports; names that resolve to loopback, private,
 * link-local or other special addresses are refused unless configured; no
 * redirects; bounded in octets and time. Threads may share it; one fetch is in
 * flight per URL.
 */
#ifndef SKS_X5U_H
#define SKS_X5U_H

#include <stdbool.h>
#include <time.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <hsm/status.h>

#define SKS_X5U_MAX        512 /* characters of the URL */
#define SKS_X5U_TIMEOUT_MS 4000 /* for one fetch */
#define SKS_X5U_CACHE_MAX  10000 /* chains kept; then the one not used for longest goes */
#define SKS_X5U_CACHE_S    86400 /* kept at least this long (ATIS-1000074: 24 h) */
#define SKS_X5U_NEGATIVE_S 10 /* a failed fetch is not repeated for this long */

struct sks_x5u_cache;

struct sks_x5u_config {
    struct acme_http_client *http; /* borrowed */
    const unsigned *ports; /* besides 443 and 8443; at most 16, ends with 0; NULL: none; copied */
    bool private_addresses; /* fetch from special addresses too: labs and tests */
};

HSM_MUST_CHECK enum hsm_status sks_x5u_cache_new(const struct sks_x5u_config *config,
                                                 struct sks_x5u_cache **out);

/** The URL keeps the rules of ATIS-1000074 as far as its text shows. */
HSM_MUST_CHECK enum hsm_status sks_x5u_check(const struct sks_x5u_cache *cache, const char *url,
                                             struct hsm_reason *why);

/**
 * The chain behind a URL, from the cache or fetched. A chain stays in the cache
 * for 24 hours, or as long as Cache-Control says if that is more (a week at
 * most), and never beyond its leaf's notAfter. Nothing of it is verified here.
 *
 * @param out  owned by the caller
 * @retval HSM_ERR_MALFORMED  the URL breaks a rule
 * @retval HSM_ERR_BUSY       cannot be obtained now: not reachable, not 200, not PEM certificates,
 *                            not at a public address, too many being fetched
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_get(struct sks_x5u_cache *cache, const char *url, time_t now,
                                           struct certs_chain **out, struct hsm_reason *why);

void sks_x5u_cache_free(struct sks_x5u_cache *cache);

#endif
