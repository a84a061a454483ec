/* x5u_fetch.c - threads that fetch chains: a slow repository keeps few of them busy. */
#include "x5u_internal.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <acme/time.h>
#include <certs/cert.h>
#include <hsm/clock.h>
#include <hsm/log.h>

#define GIVEN_UP_S 2 /* before a fetch that did not start in time is tried again */
/* A chain whose leaf had already expired when it arrived is used for this long before it is fetched
 * again; it is judged by its dates. */
#define ENDED_S SKS_X5U_NEGATIVE_MAX_S

/* The result of a fetch. */
struct catch
{
    enum hsm_status st;
    struct certs_chain *chain; /* NULL: not modified, or nothing */
    size_t octets;
    char *etag;
    time_t age; /* how long it is fresh */
    struct hsm_reason why;
    unsigned took_ms;
    bool is_kept; /* read from disk */
    bool is_given_up; /* no request was sent */
};

/* ---- freshness in HTTP (RFC 9111) ---- */

/* max-age of section 5.2.2.1; 0 when absent. */
static time_t
max_age(const char *cache_control)
{
    static const char name[] = "max-age=";
    const char *at = cache_control;
    long seconds = 0;

    while (at != NULL && *at != '\0') {
        at += strspn(at, ", \t");
        if (strncasecmp(at, name, sizeof(name) - 1) == 0) {
            for (at += sizeof(name) - 1; isdigit((unsigned char)*at); at++)
                seconds = seconds < X5U_CACHE_S_MAX ? seconds * 10 + (*at - '0') : X5U_CACHE_S_MAX;
            return (time_t)seconds;
        }
        at += strcspn(at, ",");
    }
    return 0;
}

time_t
sks_x5u_fresh_for(const char *cache_control)
{
    time_t age = max_age(cache_control);

    if (age < SKS_X5U_CACHE_S)
        return SKS_X5U_CACHE_S;
    return age < X5U_CACHE_S_MAX ? age : X5U_CACHE_S_MAX;
}

/* ---- one fetch, without the lock ---- */

static enum hsm_status
take_reply(struct acme_http_reply *reply, const char *url, bool has_chain, struct catch *catch)
{
    enum hsm_status st = HSM_OK;

    catch->age = sks_x5u_fresh_for(reply->cache_control);
    if (reply->status == 200) /* deployed repositories send many media types: the body counts */
        st = certs_chain_parse_pem(reply->body, reply->body_len, CERTS_CHAIN_LEN_MAX, &catch->chain,
                                   &catch->why);
    else if (reply->status != 304 || !has_chain) /* a redirect is not followed */
        st = hsm_refuse(&catch->why, HSM_ERR_BUSY, "%s: HTTP status %d", url, reply->status);
    catch->octets = reply->body_len;
    if (reply->etag != NULL && strlen(reply->etag) <= X5U_ETAG_MAX) {
        catch->etag = reply->etag;
        reply->etag = NULL;
    }
    return st;
}

static void
fetch(const struct sks_x5u_cache *cache, const char *url, const char *etag, bool has_chain,
      struct catch *out)
{
    const struct acme_http_fetch get = {
        .method = "GET",
        .url = url,
        .accept = "application/pem-certificate-chain",
        .if_none_match = etag,
        .reply_max = CERTS_CHAIN_OCTETS_MAX,
        .timeout_ms = SKS_X5U_TIMEOUT_MS,
        .public_addresses_only = !cache->private_addresses,
    };
    struct acme_http_reply reply = {.status = 0};
    const int64_t begun_ms = hsm_clock_ms();

    *out = (struct catch){.st = HSM_OK};
    out->st = acme_http_fetch(cache->http, &get, &reply, &out->why);
    if (out->st == HSM_OK) {
        out->st = take_reply(&reply, url, has_chain, out);
        acme_http_reply_clear(&reply);
    }
    if (out->st == HSM_ERR_NOMEM)
        (void)hsm_refuse(&out->why, HSM_ERR_NOMEM, "%s: out of memory", url);
    out->took_ms = (unsigned)(hsm_clock_ms() - begun_ms);
}

/* Look on disk before a request is sent: another process, perhaps an earlier one, may have stored
 * the chain. Only a fresh chain may replace one that has become stale. */
static bool
take_kept(const struct sks_x5u_cache *cache, const char *url, time_t now, bool has_chain,
          struct catch *out)
{
    struct x5u_kept kept;

    if (!sks_x5u_kept_read(cache, url, now, &kept))
        return false;
    if (has_chain && now >= kept.fresh_until) {
        certs_chain_free(kept.chain);
        free(kept.etag);
        return false;
    }
    *out = (struct catch){.chain = kept.chain,
                          .octets = kept.octets,
                          .etag = kept.etag,
                          .age = kept.fresh_until - now,
                          .is_kept = true};
    return true;
}

/* The fetch waited in the queue for too long. */
static void
give_up(const char *url, unsigned waited_ms, struct catch *out)
{
    *out = (struct catch){.took_ms = waited_ms, .is_given_up = true};
    out->st = hsm_refuse(&out->why, HSM_ERR_BUSY, "%s: too many chains are being fetched", url);
}

/* ---- landing, with the lock held ---- */

/* The pause after a failure doubles with each one in a row, up to a bound. */
static time_t
pause_after(struct x5u_entry *entry)
{
    time_t pause = SKS_X5U_NEGATIVE_S;

    for (unsigned i = 0; i < entry->failures && pause < SKS_X5U_NEGATIVE_MAX_S; i++)
        pause *= 2;
    entry->failures++;
    return pause < SKS_X5U_NEGATIVE_MAX_S ? pause : SKS_X5U_NEGATIVE_MAX_S;
}

static time_t
earlier(time_t a, time_t b)
{
    return a < b ? a : b;
}

/* A chain may be used for a while after it has become stale, but only until its leaf expires; if
 * the leaf has expired already, for ENDED_S. */
static void
land_good(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct catch *catch)
{
    time_t end;
    bool is_good;

    if (catch->chain != NULL) {
        sks_x5u_keep(cache, entry, catch->chain, catch->octets);
        free(entry->etag);
        entry->etag = catch->etag;
        catch->etag = NULL;
    }
    end = certs_cert_not_after(certs_chain_get(entry->chain, 0)) + 1;
    entry->fresh_until = entry->asked_at + catch->age;
    entry->until = earlier(entry->fresh_until + SKS_X5U_STALE_S, end);
    if (entry->until < entry->asked_at + ENDED_S)
        entry->until = entry->asked_at + ENDED_S;
    entry->fresh_until = earlier(entry->fresh_until, entry->until);
    entry->retry_at = 0;
    entry->failures = 0;
    entry->is_kept = catch->is_kept;
    if (catch->is_kept)
        sks_x5u_know_url(cache, entry->url);
    is_good = entry->is_preloaded || sks_x5u_is_vouched(cache, entry->url);
    if (is_good && entry->asked_at < end)
        sks_x5u_keep_on_disk(cache, entry);
    sks_x5u_change(cache, entry, is_good ? X5U_GOOD : X5U_STRANGE);
}

/* A chain that is held stays in use, unless it had ended when it was last requested. */
static void
land_failed(struct sks_x5u_cache *cache, struct x5u_entry *entry, const struct catch *catch)
{
    time_t wanted_at = entry->used_at > entry->asked_at ? entry->used_at : entry->asked_at;
    time_t again =
        entry->asked_at +
        (catch->is_given_up ? (time_t)(catch->took_ms / 1000) + GIVEN_UP_S : pause_after(entry));

    cache->count.failed++;
    if (entry->chain != NULL && wanted_at < entry->until) {
        entry->retry_at = again;
        return;
    }
    sks_x5u_keep(cache, entry, NULL, 0);
    entry->why = catch->why;
    entry->until = again;
    sks_x5u_change(cache, entry, X5U_FAILED);
}

static void
remember_slow(struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    struct x5u_slow_host *slow = &cache->slow[cache->next_slow];

    cache->next_slow = (cache->next_slow + 1) % X5U_SLOW_HOSTS;
    memcpy(slow->host, entry->host, entry->host_len);
    slow->host[entry->host_len] = '\0';
    slow->until = entry->asked_at + X5U_SLOW_S;
}

static void
count_fetch(struct sks_x5u_cache *cache, const struct x5u_entry *entry, const struct catch *catch)
{
    if (catch->is_given_up || catch->is_kept)
        return;
    cache->count.fetched++;
    cache->count.fetch_ms += catch->took_ms;
    hsm_series_observe(cache->fetch_seconds, catch->took_ms / 1e3);
    if (catch->took_ms >= X5U_SLOW_MS)
        remember_slow(cache, entry);
}

/* Detach the waiters: they are notified without the lock. */
static void
take_waiters(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct x5u_waiters *out)
{
    *out = entry->waiters;
    SLIST_INIT(&entry->waiters);
    cache->waiters -= entry->waiter_count;
    cache->strange_waiters -= entry->is_known ? 0 : entry->waiter_count;
    entry->waiter_count = 0;
}

static void
land(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct catch *catch,
     struct x5u_waiters *waiters)
{
    count_fetch(cache, entry, catch);
    entry->is_in_flight = false;
    entry->landings++;
    take_waiters(cache, entry, waiters);
    entry->pins++; /* a change of state may evict it */
    if (entry->is_dropped) {
        certs_chain_free(catch->chain);
    } else if (catch->st == HSM_OK) {
        land_good(cache, entry, catch);
    } else {
        land_failed(cache, entry, catch);
    }
    free(catch->etag);
    pthread_cond_broadcast(&cache->landed);
}

static void
tell(struct x5u_waiters *waiters)
{
    struct x5u_waiter *waiter;

    while ((waiter = SLIST_FIRST(waiters)) != NULL) {
        SLIST_REMOVE_HEAD(waiters, next);
        waiter->landed(waiter->context);
        free(waiter);
    }
}

/* ---- the queue ---- */

static bool
is_same_host(const struct x5u_entry *a, const struct x5u_entry *b)
{
    return a->host_len == b->host_len && strncasecmp(a->host, b->host, a->host_len) == 0;
}

static bool
is_slow(const struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    for (size_t i = 0; i < X5U_SLOW_HOSTS; i++) {
        const struct x5u_slow_host *slow = &cache->slow[i];

        if (!acme_time_is_due(slow->until, X5U_SLOW_S, entry->asked_at) &&
            strlen(slow->host) == entry->host_len &&
            strncasecmp(slow->host, entry->host, entry->host_len) == 0)
            return true;
    }
    return false;
}

static bool
has_room(const struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    unsigned running = 0;
    unsigned strangers = 0;

    for (size_t i = 0; i < X5U_FETCHERS; i++) {
        running += cache->running[i] != NULL && is_same_host(cache->running[i], entry);
        strangers += cache->running[i] != NULL && !cache->running[i]->is_known;
    }
    if (!entry->is_known && strangers >= X5U_STRANGERS)
        return false;
    return running == 0 || (running < X5U_HOST_FETCHES && !is_slow(cache, entry));
}

static bool
has_waited_too_long(const struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    return hsm_clock_ms() - entry->queued_ms > cache->queue_ms;
}

/* The first fetch in the queue that may run, or that has waited too long; NULL: there is none. */
static struct x5u_entry *
take_next(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry;

    STAILQ_FOREACH(entry, &cache->queue, flight)
    {
        if (has_room(cache, entry) || has_waited_too_long(cache, entry)) {
            STAILQ_REMOVE(&cache->queue, entry, x5u_entry, flight);
            cache->queue_len--;
            return entry;
        }
    }
    return NULL;
}

static void
fly(struct sks_x5u_cache *cache, unsigned self, struct x5u_entry *entry)
{
    unsigned waited_ms = (unsigned)(hsm_clock_ms() - entry->queued_ms);
    bool has_chain = entry->chain != NULL;
    time_t now = entry->asked_at;
    char *etag = has_chain && entry->etag != NULL ? strdup(entry->etag) : NULL;
    struct x5u_waiters waiters;
    struct catch catch;

    cache->running[self] = entry;
    pthread_mutex_unlock(&cache->lock);
    if (take_kept(cache, entry->url, now, has_chain, &catch))
        hsm_log(HSM_LOG_DEBUG, "%s: as it was kept", entry->url);
    else if (waited_ms > cache->queue_ms)
        give_up(entry->url, waited_ms, &catch);
    else
        fetch(cache, entry->url, etag, has_chain, &catch);
    free(etag);
    pthread_mutex_lock(&cache->lock);
    cache->running[self] = NULL;
    land(cache, entry, &catch, &waiters);
    sks_x5u_unpin(entry); /* pinned by land() */
    sks_x5u_unpin(entry); /* pinned by sks_x5u_launch() */
    pthread_mutex_unlock(&cache->lock);
    tell(&waiters);
    pthread_mutex_lock(&cache->lock);
    pthread_cond_broadcast(&cache->work); /* its host has room again */
}

static void *
fetcher(void *context)
{
    struct sks_x5u_cache *cache = context;
    struct x5u_entry *entry;
    unsigned self;

    pthread_mutex_lock(&cache->lock);
    self = cache->fetcher_count++;
    while (!cache->is_ending) {
        entry = take_next(cache);
        if (entry != NULL) {
            fly(cache, self, entry);
            continue;
        }
        cache->resting++;
        pthread_cond_wait(&cache->work, &cache->lock);
        cache->resting--;
    }
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

/* Signals are left to the event loop. If no thread can be started, the others do its work. */
static void
start_fetcher(struct sks_x5u_cache *cache)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&cache->fetchers[cache->started], NULL, fetcher, cache) == 0)
        cache->started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static bool
is_queue_full(const struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    const struct x5u_entry *queued;
    unsigned of_host = 0;
    unsigned strangers = 0;

    if (cache->queue_len >= X5U_QUEUE_MAX)
        return true;
    STAILQ_FOREACH(queued, &cache->queue, flight)
    {
        of_host += is_same_host(queued, entry);
        strangers += !queued->is_known;
    }
    return of_host >= X5U_HOST_QUEUE || (!entry->is_known && strangers >= X5U_STRANGE_QUEUE);
}

bool
sks_x5u_launch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now)
{
    if (entry->is_in_flight)
        return true;
    entry->is_known = sks_x5u_is_host_known(cache, entry->url);
    if (is_queue_full(cache, entry))
        return false;
    if (cache->resting <= cache->queue_len && cache->started < X5U_FETCHERS)
        start_fetcher(cache);
    if (cache->started == 0)
        return false;
    entry->is_in_flight = true;
    entry->asked_at = now;
    entry->queued_ms = hsm_clock_ms();
    entry->pins++;
    STAILQ_INSERT_TAIL(&cache->queue, entry, flight);
    cache->queue_len++;
    pthread_cond_signal(&cache->work);
    return true;
}

void
sks_x5u_end_fetchers(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry;

    cache->is_ending = true;
    pthread_cond_broadcast(&cache->work);
    pthread_mutex_unlock(&cache->lock);
    for (unsigned i = 0; i < cache->started; i++)
        pthread_join(cache->fetchers[i], NULL);
    pthread_mutex_lock(&cache->lock);
    while ((entry = STAILQ_FIRST(&cache->queue)) != NULL) {
        struct x5u_waiters waiters;

        STAILQ_REMOVE_HEAD(&cache->queue, flight);
        take_waiters(cache, entry, &waiters);
        sks_x5u_unpin(entry);
        tell(&waiters);
    }
}
