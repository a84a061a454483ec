/* x5u_table.c - the table of URLs, by URL and by last use. */
#include "x5u_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define STRANGE_SHARE 8 /* an eighth of the cache is for chains that were not vouched for */

/* FNV-1a from a random start: enough for tables whose size is bounded. Never 0. */
static uint64_t
hash_of(const struct sks_x5u_cache *cache, const char *text, size_t len)
{
    uint64_t hash = cache->seed;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
    hash ^= hash >> 32;
    return hash != 0 ? hash : 1;
}

static uint64_t
hash_of_url(const struct sks_x5u_cache *cache, const char *url)
{
    return hash_of(cache, url, strlen(url));
}

static struct x5u_entry **
bucket_of(struct sks_x5u_cache *cache, uint64_t hash)
{
    return &cache->buckets[hash % X5U_BUCKETS];
}

static void
entry_free(struct x5u_entry *entry)
{
    certs_chain_free(entry->chain);
    free(entry->etag);
    free(entry->url);
    free(entry);
}

static void
line_add(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    TAILQ_INSERT_TAIL(&cache->lines[entry->state], entry, use);
    cache->counts[entry->state]++;
    cache->octets[entry->state] += entry->octets;
}

static void
line_remove(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    TAILQ_REMOVE(&cache->lines[entry->state], entry, use);
    cache->counts[entry->state]--;
    cache->octets[entry->state] -= entry->octets;
}

struct x5u_entry *
sks_x5u_find(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_url(cache, url);
    struct x5u_entry *entry = *bucket_of(cache, hash);

    while (entry != NULL && (entry->hash != hash || strcmp(entry->url, url) != 0))
        entry = entry->next;
    return entry;
}

struct x5u_entry *
sks_x5u_add(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_url(cache, url);
    struct x5u_entry **bucket = bucket_of(cache, hash);
    struct x5u_entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL)
        return NULL;
    entry->url = strdup(url);
    if (entry->url == NULL) {
        free(entry);
        return NULL;
    }
    entry->hash = hash;
    entry->host = sks_x5u_host(entry->url, &entry->host_len);
    entry->state = X5U_NEW;
    SLIST_INIT(&entry->waiters);
    entry->next = *bucket;
    *bucket = entry;
    line_add(cache, entry);
    return entry;
}

void
sks_x5u_unpin(struct x5u_entry *entry)
{
    if (--entry->pins == 0 && entry->is_dropped)
        entry_free(entry);
}

void
sks_x5u_drop(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    struct x5u_entry **at = bucket_of(cache, entry->hash);

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    line_remove(cache, entry);
    entry->octets = 0;
    entry->is_dropped = true;
    if (entry->pins == 0)
        entry_free(entry);
}

void
sks_x5u_touch(struct sks_x5u_cache *cache, struct x5u_entry *entry, time_t now)
{
    if (entry->is_dropped)
        return;
    TAILQ_REMOVE(&cache->lines[entry->state], entry, use);
    TAILQ_INSERT_TAIL(&cache->lines[entry->state], entry, use);
    entry->used_at = now;
}

/* A caller waits for the result of a fetch of this entry. */
static bool
is_awaited(const struct x5u_entry *entry)
{
    return entry->is_in_flight && (entry->pins > 1 || entry->waiter_count > 0);
}

/* The least recently used entry that is neither preloaded nor awaited; NULL: there is no such
 * entry. */
static struct x5u_entry *
oldest(struct sks_x5u_cache *cache, enum x5u_state state)
{
    struct x5u_entry *entry;

    TAILQ_FOREACH(entry, &cache->lines[state], use)
    {
        if (!entry->is_preloaded && !is_awaited(entry))
            return entry;
    }
    return NULL;
}

static bool
has_too_many_chains(const struct sks_x5u_cache *cache)
{
    return cache->counts[X5U_GOOD] + cache->counts[X5U_STRANGE] > cache->chains_max ||
           cache->octets[X5U_GOOD] + cache->octets[X5U_STRANGE] > cache->octets_max;
}

/* Chains that were not vouched for evict one another as soon as they exceed their share. */
static struct x5u_entry *
oldest_chain(struct sks_x5u_cache *cache)
{
    bool strange = cache->counts[X5U_STRANGE] > 1 &&
                   (cache->counts[X5U_STRANGE] > cache->chains_max / STRANGE_SHARE ||
                    cache->octets[X5U_STRANGE] > cache->octets_max / STRANGE_SHARE);
    struct x5u_entry *entry = oldest(cache, strange ? X5U_STRANGE : X5U_GOOD);

    return entry != NULL ? entry : oldest(cache, strange ? X5U_GOOD : X5U_STRANGE);
}

static void
push_out(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry;

    while (cache->counts[X5U_FAILED] > X5U_FAILED_MAX &&
           (entry = oldest(cache, X5U_FAILED)) != NULL)
        sks_x5u_drop(cache, entry);
    while (has_too_many_chains(cache) && (entry = oldest_chain(cache)) != NULL)
        sks_x5u_drop(cache, entry);
}

void
sks_x5u_change(struct sks_x5u_cache *cache, struct x5u_entry *entry, enum x5u_state state)
{
    line_remove(cache, entry);
    entry->state = state;
    line_add(cache, entry);
    push_out(cache);
}

void
sks_x5u_keep(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain *chain,
             size_t octets)
{
    certs_chain_free(entry->chain);
    entry->chain = chain;
    cache->octets[entry->state] += octets - entry->octets;
    entry->octets = octets;
}

/* ---- vouched URLs and hosts ---- */

bool
sks_x5u_is_vouched(const struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_url(cache, url);

    return atomic_load_explicit(&cache->vouched[hash % X5U_BUCKETS], memory_order_relaxed) == hash;
}

/* A host name is case-insensitive, the rest of a URL is not. */
static uint64_t
hash_of_host(const struct sks_x5u_cache *cache, const char *url)
{
    char folded[X5U_HOST_MAX];
    size_t len;
    const char *host = sks_x5u_host(url, &len);

    for (size_t i = 0; i < len; i++)
        folded[i] = (char)tolower((unsigned char)host[i]);
    return hash_of(cache, folded, len);
}

void
sks_x5u_know_host(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_host(cache, url);

    cache->hosts[hash % X5U_HOSTS] = hash;
}

bool
sks_x5u_is_host_known(const struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_host(cache, url);

    return cache->hosts[hash % X5U_HOSTS] == hash;
}

void
sks_x5u_know_url(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of_url(cache, url);

    atomic_store_explicit(&cache->vouched[hash % X5U_BUCKETS], hash, memory_order_relaxed);
    sks_x5u_know_host(cache, url);
}

void
sks_x5u_vouch(struct sks_x5u_cache *cache, const char *url)
{
    struct x5u_entry *entry;

    if (sks_x5u_is_vouched(cache, url))
        return;
    pthread_mutex_lock(&cache->lock);
    sks_x5u_know_url(cache, url);
    entry = sks_x5u_find(cache, url);
    if (entry != NULL && entry->chain != NULL)
        sks_x5u_keep_on_disk(cache, entry);
    if (entry != NULL && entry->state == X5U_STRANGE)
        sks_x5u_change(cache, entry, X5U_GOOD);
    pthread_mutex_unlock(&cache->lock);
}
