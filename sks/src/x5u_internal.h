/*
 * x5u_internal.h - the cache of certificate chains.
 *
 * x5u.c        requests for chains
 * x5u_url.c    the rules for URLs
 * x5u_table.c  entries by URL and by last use
 * x5u_kept.c   chains on disk, and the thread that writes them
 * x5u_fetch.c  threads that fetch, and the freshness of chains by HTTP
 */
#ifndef SKS_X5U_INTERNAL_H
#define SKS_X5U_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include <sys/queue.h>

#include <acme/http_server.h>
#include <hsm/status.h>
#include <sks/x5u.h>

#define X5U_HOST_MAX      253 /* characters (RFC 1035 section 2.3.4); an address has fewer */
#define X5U_BUCKETS       16384 /* a power of two, above SKS_X5U_CACHE_MAX */
#define X5U_ETAG_MAX      256 /* characters; a longer one is not sent back */
#define X5U_SWEEP_S       600 /* between sweeps of the directory */
#define X5U_PORTS_MAX     16 /* configured ones */
#define X5U_FAILED_MAX    1000 /* entries of failed fetches; they never evict a chain */
#define X5U_CACHE_S_MAX   604800 /* the longest max-age that is accepted */
#define X5U_FETCHERS      16 /* threads, started when needed */
#define X5U_HOST_FETCHES  4 /* from one host at a time */
#define X5U_SLOW_MS       1000 /* a host that takes this long is slow: one fetch at a time, */
#define X5U_SLOW_S        60 /* for this long */
#define X5U_SLOW_HOSTS    64 /* slow hosts that are remembered */
#define X5U_QUEUE_MAX     1024 /* fetches that wait for a thread; more are refused at once */
#define X5U_HOST_QUEUE    128 /* of these, fetches from one host */
#define X5U_WAITERS_MAX   16384 /* calls that wait for the end of a fetch */
#define X5U_STRANGERS     12 /* fetches at a time from hosts that are not known */
#define X5U_STRANGE_QUEUE 768 /* fetches from such hosts in the queue */
/* Calls that wait for such fetches: of those that the server parks, the others have a quarter. */
#define X5U_STRANGE_WAITERS (ACME_HTTP_PARKED_MAX / 4 * 3)
#define X5U_HOSTS           16384 /* places for known hosts; of a thousand hosts, few collide */

enum x5u_state {
    X5U_NEW, /* being fetched for the first time */
    X5U_GOOD, /* a chain that was vouched for or preloaded */
    X5U_STRANGE, /* any other chain */
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

/* A fetch that a call waits for, or waited for. */
struct x5u_asked {
    struct x5u_entry *entry; /* pinned */
    unsigned landings; /* of the entry, when the call began to wait */
};

struct sks_x5u_visit {
    struct sks_x5u_cache *cache; /* borrowed */
    struct x5u_asked asked[SKS_X5U_VISIT_MAX];
    size_t count;
};

/* The entry of one URL. */
struct x5u_entry {
    /* The members that a call reads when the chain is in the cache: one or two cache lines. */
    struct x5u_entry *next; /* in its bucket */
    uint64_t hash; /* of the URL */
    char *url;
    struct certs_chain *chain; /* X5U_GOOD, X5U_STRANGE; else NULL */
    time_t fresh_until; /* of a chain: from then on it is fetched again, and used meanwhile */
    time_t until; /* of a chain, or X5U_FAILED: not used from then on */
    TAILQ_ENTRY(x5u_entry) use; /* in the list of its state, the most recently used last */
    time_t used_at; /* when it was last requested */
    enum x5u_state state;
    bool is_preloaded; /* kept fresh, and never evicted */
    bool is_in_flight; /* queued, or being fetched */
    bool is_known; /* in flight: its host is a known one */
    bool is_kept; /* on disk in its present form, or queued for it */
    bool is_to_keep; /* in the queue of what is to be written */
    bool has_keep_failed; /* the last write failed, and has not been tried again */
    bool is_dropped; /* removed from the table: the last pin releases it */

    const char *host; /* in url */
    size_t host_len;
    size_t octets; /* of its PEM */
    char *etag; /* NULL: none */
    time_t retry_at; /* of a chain: no fetch before this time */
    unsigned failures; /* in a row */
    time_t asked_at; /* when its last flight was launched */
    int64_t queued_ms; /* the same by hsm_clock_ms() */
    unsigned pins; /* references: of waiting threads, visits, the flight and the keeper */
    struct x5u_waiters waiters;
    size_t waiter_count;
    unsigned landings; /* fetches that have ended */
    STAILQ_ENTRY(x5u_entry) flight; /* in the queue of fetches */
    STAILQ_ENTRY(x5u_entry) keeping; /* in the queue of what is to be written */
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
    _Atomic uint64_t vouched[X5U_BUCKETS]; /* hashes of URLs; a newer one replaces an older one */
    uint64_t seed; /* random, so that strangers, who choose the URLs, cannot choose buckets */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t landed; /* for threads that wait for a fetch */
    pthread_cond_t work; /* for fetchers */
    struct x5u_entry *buckets[X5U_BUCKETS];
    struct x5u_line lines[X5U_STATES];
    size_t counts[X5U_STATES];
    size_t octets[X5U_STATES]; /* of chains */
    uint64_t hosts[X5U_HOSTS]; /* hashes of known hosts, replaced as in `vouched` */
    size_t preloaded;
    size_t waiters, strange_waiters;
    STAILQ_HEAD(, x5u_entry) queue;
    size_t queue_len;
    struct x5u_entry *running[X5U_FETCHERS];
    pthread_t fetchers[X5U_FETCHERS];
    unsigned started, fetcher_count, resting; /* threads created, running, waiting for work */
    struct x5u_slow_host slow[X5U_SLOW_HOSTS];
    size_t next_slow;
    pthread_cond_t keep_work; /* for the keeper */
    pthread_t keeper;
    bool has_keeper, is_sweep_due;
    STAILQ_HEAD(, x5u_entry) to_keep;
    size_t kept_since_sweep;
    time_t sweep_at; /* when the next sweep is due, by the time of calls */
    time_t swept_at; /* used by the keeper only, without the lock */
    bool is_ending;
    struct sks_x5u_count count;
    struct hsm_series *fetch_seconds;
};

/* x5u_url.c */

/** Accept https, host, optional port and path, without userinfo, query and fragment. *port is 443
 *  when absent. */
HSM_MUST_CHECK enum hsm_status sks_x5u_parse(const char *url, unsigned *port,
                                             struct hsm_reason *why);

/** The host of a URL that sks_x5u_parse() accepted; borrowed, not NUL-terminated. */
const char *sks_x5u_host(const char *url, size_t *len);

/* x5u_table.c: with the lock held */

struct x5u_entry *sks_x5u_find(struct sks_x5u_cache *cache, const char *url);
/** Add an entry to the table. NULL: no memory. */
struct x5u_entry *sks_x5u_add(struct sks_x5u_cache *cache, const char *url);
/** Remove an entry from the table, and release it unless it is pinned. */
void sks_x5u_drop(struct sks_x5u_cache *cache, struct x5u_entry *entry);
void sks_x5u_unpin(struct x5u_entry *entry);
/** Record a use at `now`: the entry is evicted last. */
void sks_x5u_touch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now);
/** True if the URL was vouched for. */
bool sks_x5u_is_vouched(const struct sks_x5u_cache *cache, const char *url);
/** A host is known once one of its URLs was vouched for or preloaded. */
void sks_x5u_know_host(struct sks_x5u_cache *cache, const char *url);
bool sks_x5u_is_host_known(const struct sks_x5u_cache *cache, const char *url);
/** Change the state, then evict entries that exceed a bound. */
void sks_x5u_change(struct sks_x5u_cache *cache, struct x5u_entry *entry, enum x5u_state state);
/** Replace the chain of an entry; takes ownership of `chain`, which may be NULL. `octets` is the
 *  size of its PEM. */
void sks_x5u_keep(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain *chain,
                  size_t octets);

/** Record that the URL was vouched for. */
void sks_x5u_know_url(struct sks_x5u_cache *cache, const char *url);

/* x5u_kept.c */

/* A stored chain. */
struct x5u_kept {
    struct certs_chain *chain;
    size_t octets; /* of its PEM */
    char *etag; /* NULL: none */
    time_t fresh_until;
};

/** Read the stored chain of a URL, checked as if it had been fetched; owned by the caller. False:
 * there is none that may be used at `now`. Call it without the lock. */
bool sks_x5u_kept_read(const struct sks_x5u_cache *cache, const char *url, time_t now,
                       struct x5u_kept *out);

/* with the lock held */

/** Queue an entry to be written, unless it is on disk already. */
void sks_x5u_keep_on_disk(struct sks_x5u_cache *cache, struct x5u_entry *entry);
/** If a sweep is due: have files beyond the bounds removed, and failed writes tried again. */
void sks_x5u_sweep_kept(struct sks_x5u_cache *cache, time_t now);
/** End the thread. Releases the lock meanwhile. */
void sks_x5u_end_keeper(struct sks_x5u_cache *cache);

/* x5u_fetch.c */

/** How long a chain is fresh by its Cache-Control (NULL: none): max-age, but at least 24 hours
 *  (ATIS-1000074) and at most X5U_CACHE_S_MAX. */
time_t sks_x5u_fresh_for(const char *cache_control);

/* and with the lock held */

/** Queue a fetch, unless one is in flight; false: too many wait, or no thread can be started. */
bool sks_x5u_launch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now);
/** End the threads, which may take the time of a fetch. Releases the lock meanwhile. */
void sks_x5u_end_fetchers(struct sks_x5u_cache *cache);

#endif
