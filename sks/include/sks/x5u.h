/*
 * x5u.h - the certificate chains that PASSporTs name, with a cache.
 *
 * An attacker chooses these URLs. Only https, without userinfo, query and
 * fragment, on allowed ports; names that resolve to loopback, private,
 * link-local or other special addresses are refused unless configured; no
 * redirects; bounded in octets and time.
 *
 * Chains are fetched by the cache's own threads, one fetch at a time for each URL
 * and few for each host, so that a slow or dead repository delays only the calls
 * that need its chains. An attacker can invent any number of host names: hosts
 * that were never vouched for share the threads, queue places, waiting calls and
 * cache entries that the others leave. A stale chain is used while it is fetched
 * again. Threads may share a cache, and processes the directory that keeps
 * vouched chains.
 */
#ifndef SKS_X5U_H
#define SKS_X5U_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/metrics.h>
#include <hsm/status.h>

#define SKS_X5U_MAX            512 /* characters of the URL */
#define SKS_X5U_TIMEOUT_MS     4000 /* for one fetch */
#define SKS_X5U_QUEUE_MS       2000 /* the longest wait for a fetch to begin */
#define SKS_X5U_CACHE_MAX      10000 /* chains kept; beyond it the least recently used is evicted */
#define SKS_X5U_OCTETS_MAX     33554432 /* of their PEM, likewise; memory use is ten times that */
#define SKS_X5U_UNUSED_S       21600 /* a chain that no call has named for so long goes, too */
#define SKS_X5U_CACHE_S        86400 /* fresh at least this long (ATIS-1000074: 24 h) */
#define SKS_X5U_STALE_S        86400 /* used this much longer while it cannot be fetched again */
#define SKS_X5U_NEGATIVE_S     10 /* a failed fetch is not repeated for this long; */
#define SKS_X5U_NEGATIVE_MAX_S 60 /* doubled after each further failure, up to this */
#define SKS_X5U_VISIT_MAX      8 /* chains that are fetched for one call */
#define SKS_X5U_PRELOADED_MAX  1000 /* URLs that are fetched before anybody asks */

struct sks_x5u_cache;

struct sks_x5u_config {
    struct acme_http_client *http; /* borrowed */
    const unsigned *ports; /* besides 443 and 8443; at most 16, ends with 0; NULL: none; copied */
    bool private_addresses; /* fetch from special addresses too: labs and tests */
    /** Directory in which vouched chains are kept across restarts, and for other processes; made
     *  when needed, bounded like the cache; copied. NULL: in memory only. */
    const char *dir;
    size_t chains_max, octets_max; /* 0: SKS_X5U_CACHE_MAX, SKS_X5U_OCTETS_MAX */
    unsigned unused_s; /* 0: SKS_X5U_UNUSED_S */
    unsigned queue_ms; /* 0: SKS_X5U_QUEUE_MS */
    struct hsm_metrics *metrics; /* borrowed; NULL: the time of fetches is not measured */
};

/**
 * The config itself is not kept; it says which of its pointers are copied.
 *
 * @retval HSM_ERR_USAGE  no http, or more than 16 ports
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_cache_new(const struct sks_x5u_config *config,
                                                 struct sks_x5u_cache **out);

/** Check the text of a URL against the rules of ATIS-1000074. */
HSM_MUST_CHECK enum hsm_status sks_x5u_check(const struct sks_x5u_cache *cache, const char *url,
                                             struct hsm_reason *why);

/**
 * The chain at a URL, from the cache or fetched; waits for the fetch. A chain is
 * fresh for 24 hours, or as long as Cache-Control says if that is more (a week at
 * most). It may be used for another day while it cannot be fetched again, but
 * never beyond its leaf's notAfter; one whose leaf has expired already is not
 * fetched again for a minute. Nothing in it is verified here.
 *
 * @param out  owned by the caller
 * @retval HSM_ERR_MALFORMED  the URL breaks a rule
 * @retval HSM_ERR_BUSY       cannot be obtained now: not reachable, not 200, not PEM certificates,
 *                            not at a public address, too many being fetched or waiting for it
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_get(struct sks_x5u_cache *cache, const char *url, time_t now,
                                           struct certs_chain **out, struct hsm_reason *why);

/** The chains that were fetched for one call. It keeps them whatever happens to them in the cache,
 *  and they are not fetched for it again. */
struct sks_x5u_visit;

/** Must be freed before the cache. NULL is fine. */
void sks_x5u_visit_free(struct sks_x5u_visit *visit);
DEFINE_DEFER(struct sks_x5u_visit, sks_x5u_visit_free)

/** How a call waits for chains without a thread. */
struct sks_x5u_wait {
    /** Called once when a fetch has ended, on a thread of the cache or the one that frees it: then
     *  call sks_x5u_ask() again. May be NULL. */
    void (*landed)(void *context);
    void *context;
    /** State of this call: initially NULL, passed unchanged each time that it asks, and allocated
     *  when there is something to keep. NULL: nothing is kept. */
    struct sks_x5u_visit **visit;
};

/**
 * sks_x5u_get() without waiting.
 *
 * @retval HSM_ERR_NOT_FOUND  it is being fetched
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_ask(struct sks_x5u_cache *cache, const char *url, time_t now,
                                           const struct sks_x5u_wait *wait,
                                           struct certs_chain **out, struct hsm_reason *why);

/** Report that a PASSporT with this URL was signed with the key of its trusted chain: the chain is
 *  evicted last, and its host gets threads that strangers do not. Cheap. */
void sks_x5u_vouch(struct sks_x5u_cache *cache, const char *url);

/**
 * Have sks_x5u_refresh() fetch a chain before any call needs it, and keep it fresh; it is never
 * evicted.
 *
 * @retval HSM_ERR_USAGE  there are SKS_X5U_PRELOADED_MAX already
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_preload(struct sks_x5u_cache *cache, const char *url,
                                               struct hsm_reason *why);

/** Fetch stale chains again, and drop those that have expired or are not used, on disk too; call
 *  every minute. Does not wait. */
void sks_x5u_refresh(struct sks_x5u_cache *cache, time_t now);

/* Counted since the cache was made, except for the last two members. */
struct sks_x5u_count {
    uint64_t found; /* requests answered from the cache */
    uint64_t stale; /* of these, requests that found a stale chain, which is fetched again */
    uint64_t not_found; /* requests that had to start or wait for a fetch */
    uint64_t fetched, failed; /* fetches, and those of them that failed */
    uint64_t fetch_ms; /* the total time of fetches */
    size_t kept; /* chains now */
    size_t octets; /* of their PEM */
};

void sks_x5u_count(struct sks_x5u_cache *cache, struct sks_x5u_count *out);

/** No call may be waiting. May take the time of a fetch. */
void sks_x5u_cache_free(struct sks_x5u_cache *cache);
DEFINE_DEFER(struct sks_x5u_cache, sks_x5u_cache_free)

#endif
