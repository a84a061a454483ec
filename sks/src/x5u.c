/* x5u.c - the certificate chains that PASSporTs name, with a cache. */
#include "x5u_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

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

/* ---- asking; with the lock held ---- */

static enum hsm_status
add(struct sks_x5u_cache *cache, const char *url, struct x5u_entry **out, struct hsm_reason *why)
{
    enum hsm_status st = sks_x5u_check(cache, url, why);

    if (st != HSM_OK)
        return st;
    *out = x5u_add(cache, url);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* What is known of the URL at that time; its entry if it is to be fetched first: *entry. What the
 * table holds was checked when it came in. */
static enum hsm_status
look_up(struct sks_x5u_cache *cache, const char *url, time_t now, struct x5u_entry **entry,
        struct certs_chain **out, struct hsm_reason *why)
{
    struct x5u_entry *found = x5u_find(cache, url);
    enum hsm_status st = HSM_OK;

    if (found != NULL && found->chain != NULL && now < found->until) {
        cache->count.found++;
        if (now >= found->fresh_until && now >= found->retry_at) {
            cache->count.stale++;
            (void)x5u_launch(cache, found, now); /* the call does not wait for it */
        }
        x5u_touch(cache, found, now);
        *out = certs_chain_hold(found->chain);
        return HSM_OK;
    }
    if (found != NULL && found->state == X5U_FAILED && now < found->until && !found->is_in_flight)
        return hsm_refuse(why, HSM_ERR_BUSY, "%s", found->why.text);
    if (found != NULL && found->chain != NULL) { /* has ended: what comes now is another's */
        x5u_drop(cache, found);
        found = NULL;
    }
    if (found == NULL)
        st = add(cache, url, &found, why);
    if (st != HSM_OK)
        return st;
    cache->count.not_found++;
    found->used_at = now;
    if (!x5u_launch(cache, found, now)) {
        if (found->state == X5U_NEW)
            x5u_drop(cache, found);
        return hsm_refuse(why, HSM_ERR_BUSY, "too many chains are being fetched already");
    }
    *entry = found;
    return HSM_ERR_NOT_FOUND;
}

/* The result of a flight that this thread waits for. */
static enum hsm_status
wait_for(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain **out,
         struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    entry->pins++;
    while (entry->is_in_flight)
        pthread_cond_wait(&cache->landed, &cache->lock);
    if (entry->chain != NULL)
        *out = certs_chain_hold(entry->chain);
    else
        st = hsm_refuse(why, HSM_ERR_BUSY, "%s", entry->why.text);
    x5u_unpin(entry);
    return st;
}

static enum hsm_status
add_waiter(struct x5u_entry *entry, void (*landed)(void *context), void *context)
{
    struct x5u_waiter *waiter = malloc(sizeof(*waiter));

    if (waiter == NULL)
        return HSM_ERR_NOMEM;
    *waiter = (struct x5u_waiter){.landed = landed, .context = context};
    SLIST_INSERT_HEAD(&entry->waiters, waiter, next);
    return HSM_ERR_NOT_FOUND;
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

enum hsm_status
sks_x5u_ask(struct sks_x5u_cache *cache, const char *url, time_t now, void (*landed)(void *context),
            void *context, struct certs_chain **out, struct hsm_reason *why)
{
    struct x5u_entry *entry = NULL;
    enum hsm_status st;

    pthread_mutex_lock(&cache->lock);
    st = look_up(cache, url, now, &entry, out, why);
    if (st == HSM_ERR_NOT_FOUND)
        st = add_waiter(entry, landed, context);
    pthread_mutex_unlock(&cache->lock);
    return st;
}

/* ---- before anybody asks ---- */

enum hsm_status
sks_x5u_preload(struct sks_x5u_cache *cache, const char *url, struct hsm_reason *why)
{
    struct x5u_entry *entry;
    enum hsm_status st = sks_x5u_check(cache, url, why);

    if (st != HSM_OK)
        return st;
    pthread_mutex_lock(&cache->lock);
    entry = x5u_find(cache, url);
    if (entry == NULL && cache->preloaded >= SKS_X5U_PRELOADED_MAX) {
        st = hsm_refuse(why, HSM_ERR_USAGE, "more than %d URLs are preloaded",
                        SKS_X5U_PRELOADED_MAX);
    } else if (entry == NULL && (entry = x5u_add(cache, url)) == NULL) {
        st = HSM_ERR_NOMEM;
    } else if (!entry->is_preloaded) {
        entry->is_preloaded = true;
        cache->preloaded++;
        x5u_know_host(cache, url);
        if (entry->state == X5U_NEW)
            x5u_change(cache, entry, X5U_FAILED); /* as if it had failed: refresh fetches it */
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

/* Failures have an end of their own, which comes soon. */
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
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        for (entry = TAILQ_FIRST(&cache->lines[states[i]]); entry != NULL; entry = following) {
            following = TAILQ_NEXT(entry, use);
            if (is_over(cache, entry, now) && !entry->is_preloaded && !entry->is_in_flight)
                x5u_drop(cache, entry);
            else if (is_due(entry, now) && !x5u_launch(cache, entry, now))
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
    cache->fetch_seconds = hsm_series(config->metrics, &fetch_seconds, NULL);
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->landed, NULL);
    pthread_cond_init(&cache->work, NULL);
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
    if (RAND_bytes((uint8_t *)&cache->seed, sizeof(cache->seed)) != 1) {
        free(cache);
        return HSM_ERR_CRYPTO;
    }
    set_up(cache, config, ports);
    *out = cache;
    return HSM_OK;
}

/* Nobody is waiting any more. */
void
sks_x5u_cache_free(struct sks_x5u_cache *cache)
{
    if (cache == NULL)
        return;
    pthread_mutex_lock(&cache->lock);
    x5u_end_fetchers(cache);
    for (size_t i = 0; i < X5U_BUCKETS; i++) {
        while (cache->buckets[i] != NULL)
            x5u_drop(cache, cache->buckets[i]);
    }
    pthread_mutex_unlock(&cache->lock);
    pthread_cond_destroy(&cache->work);
    pthread_cond_destroy(&cache->landed);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}
