/*
 * x5u_internal.h - the cache of certificate chains.
 *
 * x5u.c        what callers ask for
 * x5u_url.c    which URLs are allowed
 * x5u_table.c  entries by URL and by last use
 * x5u_kept.c   chains on disk, and the thread that writes them
 * x5u_fetch.c  threads that fetch, and what HTTP says of how long a chain is fresh
 */
#ifndef SKS_X5U_INTERNAL_H
#define SKS_X5U_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include <sys/queue.h>

#include <hsm/status.h>
#include <sks/x5u.h>

#define X5U_HOST_MAX      253 /* characters of a name (RFC 1035 section 2.3.4); an address has fewer */
#define X5U_BUCKETS       16384 /* a power of two, above SKS_X5U_CACHE_MAX */
#define X5U_ETAG_MAX      256 /* characters; a longer one is not sent back */
#define X5U_SWEEP_S       600 /* between looks at all that is kept on disk */
#define X5U_PORTS_MAX     16 /* configured ones */
#define X5U_FAILED_MAX    1000 /* URLs kept that could not be fetched: they never push out a chain */
#define X5U_CACHE_S_MAX   604800 /* however long a max-age a stranger sends */
#define X5U_FETCHERS      16 /* threads, started as they are needed */
#define X5U_HOST_FETCHES  4 /* at one time from one host */
#define X5U_SLOW_MS       1000 /* an answer after that makes a host slow: one fetch at a time, */
#define X5U_SLOW_S        60 /* for so long */
#define X5U_SLOW_HOSTS    64 /* that are remembered */
#define X5U_QUEUE_MAX     1024 /* fetches that wait for a thread; more are refused at once */
#define X5U_HOST_QUEUE    128 /* of them of one host */
#define X5U_WAITERS_MAX   16384 /* calls that wait for the end of a fetch */
#define X5U_STRANGERS     12 /* fetches at one time from hosts that nobody has vouched for */
#define X5U_STRANGE_QUEUE 768 /* fetches of theirs in the queue */
#define X5U_HOSTS         16384 /* places for hosts that were vouched for; few of a thousand collide */

enum x5u_state {
    X5U_NEW, /* nothing is known yet; it is being fetched */
    X5U_GOOD, /* a chain that somebody has vouched for */
    X5U_STRANGE, /* a chain that nobody has */
    X5U_FAILED,
    X5U_STATES
};

/* A callback for the end of a fetch. */
struct x5u_waiter {
    void (*landed)(void *context);
    void *context;
    SLIST_ENTRY(x5u_waiter) next;
};

SLIST_HEAD(x5u_waiters, x5u_waiter);

/* What one call has asked for. */
struct x5u_asked {
    struct x5u_entry *entry; /* pinned */
    unsigned landings; /* of the entry, when it was asked for */
};

struct sks_x5u_visit {
    struct sks_x5u_cache *cache; /* borrowed */
    struct x5u_asked asked[SKS_X5U_VISIT_MAX];
    size_t count;
};

/* What is known of one URL. */
struct x5u_entry {
    /* What a call asks of a chain that is here: one or two cache lines. */
    struct x5u_entry *next; /* in its bucket */
    uint64_t hash; /* of the URL */
    char *url;
    struct certs_chain *chain; /* X5U_GOOD, X5U_STRANGE; else NULL */
    time_t fresh_until; /* of a chain: from then on it is asked for again, and used meanwhile */
    time_t until; /* of a chain, or X5U_FAILED: not used from then on */
    TAILQ_ENTRY(x5u_entry) use; /* in the line of its state, the newest last */
    time_t used_at; /* the last time that it was asked for */
    enum x5u_state state;
    bool is_preloaded; /* kept fresh, and never pushed out */
    bool is_in_flight; /* queued, or being fetched */
    bool is_known; /* in flight: somebody has vouched for its host */
    bool is_kept; /* on disk as it is here, or about to be */
    bool is_to_keep; /* in the line for that */
    bool has_keep_failed; /* it could not be written, and was not tried again since */
    bool is_dropped; /* out of the table: the last pin releases it */

    const char *host; /* in url */
    size_t host_len;
    size_t octets; /* of the PEM that it came as */
    char *etag; /* NULL: none */
    time_t retry_at; /* of a chain: no fetch before */
    unsigned failures; /* in a row */
    time_t asked_at; /* in flight: what time it was then */
    int64_t queued_ms; /* in flight: the same by hsm_clock_ms() */
    unsigned pins; /* threads that hold a pointer to it, and the flight */
    struct x5u_waiters waiters;
    size_t waiter_count;
    unsigned landings; /* fetches that have ended */
    STAILQ_ENTRY(x5u_entry) flight; /* in the queue */
    STAILQ_ENTRY(x5u_entry) keeping; /* in the line of what is to be written */
    struct hsm_reason why; /* X5U_FAILED */
};

TAILQ_HEAD(x5u_line, x5u_entry);

struct x5u_slow_host {
    char host[X5U_HOST_MAX + 1];
    time_t until;
};

struct sks_x5u_cache {
    struct acme_http_client *http; /* borrowed */
    unsigned ports[X5U_PORTS_MAX + 1];
    bool private_addresses;
    char *dir; /* owned; NULL: nothing is kept on disk */
    size_t chains_max, octets_max;
    unsigned queue_ms, unused_s;
    _Atomic uint64_t vouched[X5U_BUCKETS]; /* hashes of URLs; a newer one takes the place */
    uint64_t seed; /* URLs are a stranger's: so that he cannot choose their bucket */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t landed; /* for threads that wait */
    pthread_cond_t work; /* for fetchers */
    struct x5u_entry *buckets[X5U_BUCKETS];
    struct x5u_line lines[X5U_STATES];
    size_t counts[X5U_STATES];
    size_t octets[X5U_STATES]; /* of chains */
    uint64_t hosts[X5U_HOSTS]; /* hashes of names, as `vouched` */
    size_t preloaded;
    size_t waiters;
    STAILQ_HEAD(, x5u_entry) queue;
    size_t queue_len;
    struct x5u_entry *running[X5U_FETCHERS];
    pthread_t fetchers[X5U_FETCHERS];
    unsigned started, fetcher_count, resting; /* threads that were made, that run, that wait */
    struct x5u_slow_host slow[X5U_SLOW_HOSTS];
    size_t next_slow;
    pthread_cond_t keep_work; /* for the keeper */
    pthread_t keeper;
    bool has_keeper, is_sweep_due;
    STAILQ_HEAD(, x5u_entry) to_keep;
    size_t kept_since_sweep;
    time_t sweep_at; /* by the clock of calls */
    time_t swept_at; /* the keeper's alone */
    bool is_ending;
    struct sks_x5u_count count;
    struct hsm_series *fetch_seconds;
};

/* x5u_url.c */

/** https, host, optional port, path; no userinfo, query and fragment. The port is 443 when absent.
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_parse(const char *url, unsigned *port,
                                             struct hsm_reason *why);

/** The host of a URL that sks_x5u_parse() took; borrowed, not NUL-terminated. */
const char *sks_x5u_host(const char *url, size_t *len);

/* x5u_table.c: with the lock held */

struct x5u_entry *sks_x5u_find(struct sks_x5u_cache *cache, const char *url);
/** A new one in the table. NULL: no memory. */
struct x5u_entry *sks_x5u_add(struct sks_x5u_cache *cache, const char *url);
/** Out of the table, and released unless it is pinned. */
void sks_x5u_drop(struct sks_x5u_cache *cache, struct x5u_entry *entry);
void sks_x5u_unpin(struct x5u_entry *entry);
/** It was used at that time: the last to be pushed out. */
void sks_x5u_touch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now);
/** Somebody has vouched for the URL; for any of its host. */
bool sks_x5u_is_vouched(const struct sks_x5u_cache *cache, const char *url);
void sks_x5u_know_host(struct sks_x5u_cache *cache, const char *url);
bool sks_x5u_is_host_known(const struct sks_x5u_cache *cache, const char *url);
/** Into another state; what there is too much of then goes. */
void sks_x5u_change(struct sks_x5u_cache *cache, struct x5u_entry *entry, enum x5u_state state);
/** Take in a chain with its size, in place of the one before; the chain is taken over. */
void sks_x5u_keep(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain *chain,
                  size_t octets);

/** Somebody has vouched for it. */
void sks_x5u_know_url(struct sks_x5u_cache *cache, const char *url);

/* x5u_kept.c */

/* A chain with what is known of it. */
struct x5u_kept {
    struct certs_chain *chain;
    size_t octets; /* of its PEM */
    char *etag; /* NULL: none */
    time_t fresh_until;
};

/** What is kept of a URL, checked as if it had been fetched; owned by the caller. False: nothing
 * that may be used at `now`. Without the lock. */
bool sks_x5u_kept_read(const struct sks_x5u_cache *cache, const char *url, time_t now,
                       struct x5u_kept *out);

/* with the lock held */

/** Have it written, if it is not. */
void sks_x5u_keep_on_disk(struct sks_x5u_cache *cache, struct x5u_entry *entry);
/** Now and then: have what is beyond the bounds removed, and written what could not be. */
void sks_x5u_sweep_kept(struct sks_x5u_cache *cache, time_t now);
/** End its thread. Lets go of the lock meanwhile. */
void sks_x5u_end_keeper(struct sks_x5u_cache *cache);

/* x5u_fetch.c */

/** How long a chain is fresh by its Cache-Control (NULL: none): 24 hours even when less was said
 *  (ATIS-1000074), longer when more was. */
time_t sks_x5u_fresh_for(const char *cache_control);

/* and with the lock held */

/** Put a fetch into the queue; false: too many wait already. */
bool sks_x5u_launch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now);
/** End the threads, which may take the time of a fetch. Lets go of the lock meanwhile. */
void sks_x5u_end_fetchers(struct sks_x5u_cache *cache);

#endif
