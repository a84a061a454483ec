/*
 * x5u.h - the certificate chains that PASSporTs name, with a cache.
 *
 * An attacker chooses these URLs. Only https, without userinfo, query and
 * fragment, on allowed ports; names that resolve to loopback, private,
 * link-local or other special addresses are refused unless configured; no
 * redirects; bounded in octets and time.
 *
 * Chains are fetched by threads of the cache's own, one fetch at a time for
 * each URL and few for each host, so that a repository that is slow or dead
 * keeps only those waiting who need its chains. Names of hosts are as many as
 * an attacker likes: those that nobody has vouched for share what the others
 * leave, of threads, of the queue and of the cache. A chain that has become
 * stale is used while it is asked for again. Threads may share a cache.
 */
#ifndef SKS_X5U_H
#define SKS_X5U_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <hsm/metrics.h>
#include <hsm/status.h>

#define SKS_X5U_MAX            512 /* characters of the URL */
#define SKS_X5U_TIMEOUT_MS     4000 /* for one fetch */
#define SKS_X5U_QUEUE_MS       2000 /* nobody waits longer for a fetch to begin */
#define SKS_X5U_CACHE_MAX      10000 /* chains kept; then the one not used for longest goes */
#define SKS_X5U_OCTETS_MAX     33554432 /* the same, of their PEM: in memory ten times as much */
#define SKS_X5U_UNUSED_S       21600 /* one that no call has named for so long goes, too */
#define SKS_X5U_CACHE_S        86400 /* fresh at least this long (ATIS-1000074: 24 h) */
#define SKS_X5U_STALE_S        86400 /* used so much longer while it cannot be had anew */
#define SKS_X5U_NEGATIVE_S     10 /* a failed fetch is not repeated for this long; */
#define SKS_X5U_NEGATIVE_MAX_S 60 /* twice as long after each failure more, up to this */
#define SKS_X5U_VISIT_MAX      8 /* chains that are fetched for one call */
#define SKS_X5U_PRELOADED_MAX  1000 /* URLs that are fetched before anybody asks */

struct sks_x5u_cache;

struct sks_x5u_config {
    struct acme_http_client *http; /* borrowed */
    const unsigned *ports; /* besides 443 and 8443; at most 16, ends with 0; NULL: none; copied */
    bool private_addresses; /* fetch from special addresses too: labs and tests */
    size_t chains_max, octets_max; /* 0: SKS_X5U_CACHE_MAX, SKS_X5U_OCTETS_MAX */
    unsigned unused_s; /* 0: SKS_X5U_UNUSED_S */
    unsigned queue_ms; /* 0: SKS_X5U_QUEUE_MS */
    struct hsm_metrics *metrics; /* borrowed; NULL: nobody wants to know how long fetches take */
};

HSM_MUST_CHECK enum hsm_status sks_x5u_cache_new(const struct sks_x5u_config *config,
                                                 struct sks_x5u_cache **out);

/** The URL keeps the rules of ATIS-1000074 as far as its text shows. */
HSM_MUST_CHECK enum hsm_status sks_x5u_check(const struct sks_x5u_cache *cache, const char *url,
                                             struct hsm_reason *why);

/**
 * The chain behind a URL, from the cache or fetched; waits for the fetch. A
 * chain is fresh for 24 hours, or as long as Cache-Control says if that is more
 * (a week at most), may be used for a day more when it cannot be had anew, and
 * never beyond its leaf's notAfter; one whose leaf has ended already is not asked
 * for again for a minute. Nothing of it is verified here.
 *
 * @param out  owned by the caller
 * @retval HSM_ERR_MALFORMED  the URL breaks a rule
 * @retval HSM_ERR_BUSY       cannot be obtained now: not reachable, not 200, not PEM certificates,
 *                            not at a public address, too many being fetched or waiting for it
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_get(struct sks_x5u_cache *cache, const char *url, time_t now,
                                           struct certs_chain **out, struct hsm_reason *why);

/** What one call has asked for and not found: what is fetched for it is its own, whatever becomes
 * of that in the cache, and is not fetched for it again. */
struct sks_x5u_visit;

/** Before the cache is freed. NULL is fine. */
void sks_x5u_visit_free(struct sks_x5u_visit *visit);

/** How a call waits for chains without a thread. */
struct sks_x5u_wait {
    /** Called once when a fetch has ended, on a thread of the cache or of who frees it: then ask
     *  again. NULL: nobody is told. */
    void (*landed)(void *context);
    void *context;
    /** The same at every time that this call asks, NULL at first; made when there is something to
     *  remember. NULL: nothing is remembered. */
    struct sks_x5u_visit **visit;
};

/**
 * The same without waiting.
 *
 * @retval HSM_ERR_NOT_FOUND  it is being fetched
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_ask(struct sks_x5u_cache *cache, const char *url, time_t now,
                                           const struct sks_x5u_wait *wait,
                                           struct certs_chain **out, struct hsm_reason *why);

/** A PASSporT that names this URL was signed with the key of its chain, which is trusted: its chain
 *  stays when there are too many, and its host has threads that strangers do not get. Cheap. */
void sks_x5u_vouch(struct sks_x5u_cache *cache, const char *url);

/** Have sks_x5u_refresh() fetch a chain before anybody asks for it and keep it fresh; it is never
 *  pushed out.
 *  @retval HSM_ERR_USAGE  SKS_X5U_PRELOADED_MAX are already */
HSM_MUST_CHECK enum hsm_status sks_x5u_preload(struct sks_x5u_cache *cache, const char *url,
                                               struct hsm_reason *why);

/** Ask anew for what has become stale, and forget what has ended or has not been asked for; call
 *  every minute. Does not wait. */
void sks_x5u_refresh(struct sks_x5u_cache *cache, time_t now);

/* Since the cache was made, but for the last two. */
struct sks_x5u_count {
    uint64_t found; /* asked for and there */
    uint64_t stale; /* of them asked for anew because they had become stale */
    uint64_t not_found; /* asked for, and had to be fetched or waited for */
    uint64_t fetched, failed; /* fetches, and those of them that brought nothing */
    uint64_t fetch_ms; /* what they took together */
    size_t kept; /* chains now */
    size_t octets; /* of their PEM */
};

void sks_x5u_count(struct sks_x5u_cache *cache, struct sks_x5u_count *out);

/** Nobody waits any more. May take the time of a fetch. */
void sks_x5u_cache_free(struct sks_x5u_cache *cache);

#endif
