/* x5u.c - the certificate chains that PASSporTs name, with a cache. */
#include "x5u_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include <acme/time.h>

static bool
is_port_allowed(const struct sks_x5u_cache *cache, unsigned port)
{
    if (port == 443 || port == 8443)
        return true;
    for (size_t i = 0; cache->ports[i] != 0; i++) {
        if (cache->ports[i] == port)
            return true;
    }
    return false;
}

enum hsm_status
sks_x5u_check(const struct sks_x5u_cache *cache, const char *url, struct hsm_reason *why)
{
    unsigned port;
    enum hsm_status st = sks_x5u_parse(url, &port, why);

    if (st == HSM_OK && !is_port_allowed(cache, port))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: port %u is not allowed", port);
    return st;
}

/* ---- lookup, with the lock held ---- */

static enum hsm_status
add(struct sks_x5u_cache *cache, const char *url, struct x5u_entry **out, struct hsm_reason *why)
{
    enum hsm_status st = sks_x5u_check(cache, url, why);

    if (st != HSM_OK)
        return st;
    *out = sks_x5u_add(cache, url);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* If the clock was set back since the last fetch was launched, end what was timed by it: a failure
 * can be fetched again at once, and a chain is stale. */
static void
follow_clock(struct x5u_entry *entry, time_t now)
{
    time_t until = entry->chain != NULL ? now + SKS_X5U_STALE_S : now;

    if (entry->asked_at <= now + ACME_CLOCK_SKEW_S)
        return;
    entry->asked_at = now;
    entry->used_at = now;
    entry->retry_at = 0;
    if (entry->fresh_until > now)
        entry->fresh_until = now;
    if (entry->until > until)
        entry->until = until;
}

/* State of a URL when a call looks it up. */
enum standing {
    ABSENT, /* nothing */
    HIT, /* a chain */
    STALE, /* a chain that may be used but must be fetched again */
    FAILED, /* a fetch failed recently */
    ENDED /* expired, or not fetched yet */
};

static enum standing
classify(const struct x5u_entry *entry, time_t now)
{
    if (entry == NULL)
        return ABSENT;
    if (entry->state == X5U_NEW || now >= entry->until)
        return ENDED;
    if (entry->chain == NULL)
        return entry->is_in_flight ? ENDED : FAILED;
    return now >= entry->fresh_until && now >= entry->retry_at ? STALE : HIT;
}

static enum hsm_status
use(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now, struct certs_chain **out)
{
    cache->count.found++;
    sks_x5u_touch(cache, entry, now);
    *out = certs_chain_hold(entry->chain);
    return HSM_OK;
}

/* HSM_ERR_NOT_FOUND: the call waits for a fetch, which may have been started before. */
static enum hsm_status
await(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now, struct hsm_reason *why)
{
    cache->count.not_found++;
    entry->used_at = now;
    if (sks_x5u_launch(cache, entry, now))
        return HSM_ERR_NOT_FOUND;
    return hsm_refuse(why, HSM_ERR_BUSY, "too many chains are being fetched already");
}

/* Look up the URL at the time `now`. HSM_ERR_NOT_FOUND: *entry has to be fetched first. URLs in the
 * table were checked when they were added. */
static enum hsm_status
look_up(struct sks_x5u_cache *cache, const char *url, time_t now, struct x5u_entry **entry,
        struct certs_chain **out, struct hsm_reason *why)
{
    enum hsm_status st;

    *entry = sks_x5u_find(cache, url);
    if (*entry != NULL)
        follow_clock(*entry, now);
    switch (classify(*entry, now)) {
    case ABSENT:
        st = add(cache, url, entry, why);
        if (st == HSM_OK && (st = await(cache, *entry, now, why)) != HSM_ERR_NOT_FOUND)
            sks_x5u_drop(cache, *entry);
        return st;
    case ENDED:
        return await(cache, *entry, now, why);
    case FAILED:
        return hsm_refuse(why, HSM_ERR_BUSY, "%s", (*entry)->why.text);
    case STALE:
        cache->count.stale++;
        (void)sks_x5u_launch(cache, *entry, now); /* the call does not wait for it */
        return use(cache, *entry, now, out);
    case HIT:
        return use(cache, *entry, now, out);
    }
    return HSM_ERR_USAGE;
}

/* The result of a fetch, whatever happened to the entry in the table since. */
static enum hsm_status
take_result(const struct x5u_entry *entry, struct certs_chain **out, struct hsm_reason *why)
{
    if (entry->chain == NULL)
        return hsm_refuse(why, HSM_ERR_BUSY, "%s", entry->why.text);
    *out = certs_chain_hold(entry->chain);
    return HSM_OK;
}

/* The result of a flight that this thread waits for. */
static enum hsm_status
wait_for(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain **out,
         struct hsm_reason *why)
{
    enum hsm_status st;

    entry->pins++;
    while (entry->is_in_flight)
        pthread_cond_wait(&cache->landed, &cache->lock);
    st = take_result(entry, out, why);
    sks_x5u_unpin(entry);
    return st;
}

enum hsm_status
sks_x5u_get(struct sks_x5u_cache *cache, const char *url, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    struct x5u_entry *entry = NULL;
    enum hsm_status st;

    pthread_mutex_lock(&cache->lock);
    st = look_up(cache, url, now, &entry, out, why);
    if (st == HSM_ERR_NOT_FOUND)
        st = wait_for(cache, entry, out, why);
    pthread_mutex_unlock(&cache->lock);
    return st;
}

/* ---- without waiting; with the lock held ---- */

/* The entry of the URL in this visit; NULL: this visit has not requested it. */
static const struct x5u_asked *
visit_find(const struct sks_x5u_visit *visit, const char *url)
{
    for (size_t i = 0; visit != NULL && i < visit->count; i++) {
        if (strcmp(visit->asked[i].entry->url, url) == 0)
            return &visit->asked[i];
    }
    return NULL;
}

/* The pin keeps its result for this visit. */
static enum hsm_status
visit_add(struct sks_x5u_cache *cache, struct sks_x5u_visit **visit, struct x5u_entry *entry,
          struct hsm_reason *why)
{
    if (*visit == NULL) {
        *visit = calloc(1, sizeof(**visit));
        if (*visit == NULL)
            return HSM_ERR_NOMEM;
        (*visit)->cache = cache;
    }
    if ((*visit)->count == SKS_X5U_VISIT_MAX)
        return hsm_refuse(why, HSM_ERR_BUSY, "too many chains are fetched for one call");
    (*visit)->asked[(*visit)->count++] =
        (struct x5u_asked){.entry = entry, .landings = entry->landings};
    entry->pins++;
    return HSM_OK;
}

/* A stranger's slow host must not hold all the calls that the server can park. */
static bool
may_wait(const struct sks_x5u_cache *cache, const struct x5u_entry *entry)
{
    return cache->waiters < X5U_WAITERS_MAX &&
           (entry->is_known || cache->strange_waiters < X5U_STRANGE_WAITERS);
}

static enum hsm_status
add_waiter(struct sks_x5u_cache *cache, struct x5u_entry *entry, const struct sks_x5u_wait *wait,
           struct hsm_reason *why)
{
    struct x5u_waiter *waiter;

    if (!may_wait(cache, entry))
        return hsm_refuse(why, HSM_ERR_BUSY, "too many calls wait for chains already");
    waiter = malloc(sizeof(*waiter));
    if (waiter == NULL)
        return HSM_ERR_NOMEM;
    *waiter = (struct x5u_waiter){.landed = wait->landed, .context = wait->context};
    SLIST_INSERT_HEAD(&entry->waiters, waiter, next);
    entry->waiter_count++;
    cache->waiters++;
    cache->strange_waiters += !entry->is_known;
    return HSM_ERR_NOT_FOUND;
}

/* HSM_ERR_NOT_FOUND: a fetch is in progress; wait->landed, if set, is called at its end. */
static enum hsm_status
be_told(struct sks_x5u_cache *cache, struct x5u_entry *entry, const struct sks_x5u_wait *wait,
        struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    if (wait->landed == NULL)
        return HSM_ERR_NOT_FOUND;
    if (wait->visit != NULL && visit_find(*wait->visit, entry->url) == NULL)
        st = visit_add(cache, wait->visit, entry, why);
    return st == HSM_OK ? add_waiter(cache, entry, wait, why) : st;
}

enum hsm_status
sks_x5u_ask(struct sks_x5u_cache *cache, const char *url, time_t now,
            const struct sks_x5u_wait *wait, struct certs_chain **out, struct hsm_reason *why)
{
    const struct x5u_asked *asked;
    struct x5u_entry *entry;
    enum hsm_status st;

    pthread_mutex_lock(&cache->lock);
    asked = wait->visit != NULL ? visit_find(*wait->visit, url) : NULL;
    if (asked != NULL && asked->landings != asked->entry->landings) {
        st = take_result(asked->entry, out, why);
    } else if (asked != NULL) {
        st = be_told(cache, asked->entry, wait, why);
    } else {
        st = look_up(cache, url, now, &entry, out, why);
        if (st == HSM_ERR_NOT_FOUND)
            st = be_told(cache, entry, wait, why);
    }
    pthread_mutex_unlock(&cache->lock);
    return st;
}

void
sks_x5u_visit_free(struct sks_x5u_visit *visit)
{
    if (visit == NULL)
        return;
    pthread_mutex_lock(&visit->cache->lock);
    for (size_t i = 0; i < visit->count; i++)
        sks_x5u_unpin(visit->asked[i].entry);
    pthread_mutex_unlock(&visit->cache->lock);
    free(visit);
}

/* ---- preload and refresh ---- */

enum hsm_status
sks_x5u_preload(struct sks_x5u_cache *cache, const char *url, struct hsm_reason *why)
{
    struct x5u_entry *entry;
    enum hsm_status st = sks_x5u_check(cache, url, why);

    if (st != HSM_OK)
        return st;
    pthread_mutex_lock(&cache->lock);
    entry = sks_x5u_find(cache, url);
    if (entry == NULL && cache->preloaded >= SKS_X5U_PRELOADED_MAX) {
        st = hsm_refuse(why, HSM_ERR_USAGE, "more than %d URLs are preloaded",
                        SKS_X5U_PRELOADED_MAX);
    } else if (entry == NULL && (entry = sks_x5u_add(cache, url)) == NULL) {
        st = HSM_ERR_NOMEM;
    } else if (!entry->is_preloaded) {
        entry->is_preloaded = true;
        cache->preloaded++;
        sks_x5u_know_host(cache, url);
        if (entry->state == X5U_NEW)
            sks_x5u_change(cache, entry, X5U_FAILED); /* as if it had failed: refresh fetches it */
    }
    pthread_mutex_unlock(&cache->lock);
    return st;
}

static bool
is_due(const struct x5u_entry *entry, time_t now)
{
    if (entry->chain != NULL)
        return now >= entry->fresh_until && now >= entry->retry_at;
    return entry->is_preloaded && entry->state == X5U_FAILED && now >= entry->until;
}

/* A failed entry ends at its own `until`, which is soon. */
static bool
is_over(const struct sks_x5u_cache *cache, const struct x5u_entry *entry, time_t now)
{
    return now >= entry->until ||
           (entry->chain != NULL && now >= entry->used_at + (time_t)cache->unused_s);
}

void
sks_x5u_refresh(struct sks_x5u_cache *cache, time_t now)
{
    static const enum x5u_state states[] = {X5U_GOOD, X5U_STRANGE, X5U_FAILED};
    struct x5u_entry *entry;
    struct x5u_entry *following;

    pthread_mutex_lock(&cache->lock);
    sks_x5u_sweep_kept(cache, now);
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        for (entry = TAILQ_FIRST(&cache->lines[states[i]]); entry != NULL; entry = following) {
            following = TAILQ_NEXT(entry, use);
            follow_clock(entry, now);
            if (is_over(cache, entry, now) && !entry->is_preloaded && !entry->is_in_flight)
                sks_x5u_drop(cache, entry);
            else if (is_due(entry, now) && !sks_x5u_launch(cache, entry, now))
                break; /* at the next call */
        }
    }
    pthread_mutex_unlock(&cache->lock);
}

void
sks_x5u_count(struct sks_x5u_cache *cache, struct sks_x5u_count *out)
{
    pthread_mutex_lock(&cache->lock);
    *out = cache->count;
    out->kept = cache->counts[X5U_GOOD] + cache->counts[X5U_STRANGE];
    out->octets = cache->octets[X5U_GOOD] + cache->octets[X5U_STRANGE];
    pthread_mutex_unlock(&cache->lock);
}

/* ---- making one ---- */

static const struct hsm_metric fetch_seconds = {
    "sti_sks_x5u_fetch_seconds", "How long fetches of certificate chains took, failed ones too.",
    HSM_HISTOGRAM, NULL, hsm_metric_seconds};

static void
set_up(struct sks_x5u_cache *cache, const struct sks_x5u_config *config, size_t ports)
{
    cache->http = config->http;
    cache->private_addresses = config->private_addresses;
    cache->chains_max = config->chains_max != 0 ? config->chains_max : SKS_X5U_CACHE_MAX;
    cache->octets_max = config->octets_max != 0 ? config->octets_max : SKS_X5U_OCTETS_MAX;
    cache->unused_s = config->unused_s != 0 ? config->unused_s : SKS_X5U_UNUSED_S;
    cache->queue_ms = config->queue_ms != 0 ? config->queue_ms : SKS_X5U_QUEUE_MS;
    if (ports > 0)
        memcpy(cache->ports, config->ports, ports * sizeof(cache->ports[0]));
    for (size_t i = 0; i < sizeof(cache->lines) / sizeof(cache->lines[0]); i++)
        TAILQ_INIT(&cache->lines[i]);
    STAILQ_INIT(&cache->queue);
    STAILQ_INIT(&cache->to_keep);
    cache->fetch_seconds = hsm_series(config->metrics, &fetch_seconds, NULL);
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->landed, NULL);
    pthread_cond_init(&cache->work, NULL);
    pthread_cond_init(&cache->keep_work, NULL);
}

enum hsm_status
sks_x5u_cache_new(const struct sks_x5u_config *config, struct sks_x5u_cache **out)
{
    struct sks_x5u_cache *cache;
    size_t ports = 0;

    while (config->ports != NULL && config->ports[ports] != 0)
        ports++;
    if (config->http == NULL || ports > X5U_PORTS_MAX)
        return HSM_ERR_USAGE;
    cache = calloc(1, sizeof(*cache));
    if (cache == NULL)
        return HSM_ERR_NOMEM;
    if (config->dir != NULL && (cache->dir = strdup(config->dir)) == NULL) {
        free(cache);
        return HSM_ERR_NOMEM;
    }
    if (RAND_bytes((uint8_t *)&cache->seed, sizeof(cache->seed)) != 1) {
        free(cache->dir);
        free(cache);
        return HSM_ERR_CRYPTO;
    }
    set_up(cache, config, ports);
    *out = cache;
    return HSM_OK;
}

/* No call is waiting. */
void
sks_x5u_cache_free(struct sks_x5u_cache *cache)
{
    if (cache == NULL)
        return;
    pthread_mutex_lock(&cache->lock);
    sks_x5u_end_fetchers(cache);
    sks_x5u_end_keeper(cache);
    for (size_t i = 0; i < X5U_BUCKETS; i++) {
        while (cache->buckets[i] != NULL)
            sks_x5u_drop(cache, cache->buckets[i]);
    }
    pthread_mutex_unlock(&cache->lock);
    pthread_cond_destroy(&cache->keep_work);
    pthread_cond_destroy(&cache->work);
    pthread_cond_destroy(&cache->landed);
    pthread_mutex_destroy(&cache->lock);
    free(cache->dir);
    free(cache);
}
