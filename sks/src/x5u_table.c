/* x5u_table.c - what is known of URLs, by URL and by last use. */
#include "x5u_internal.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a from a random start: enough for a table whose size is bounded. */
static uint64_t
hash_of(const struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = cache->seed;

    for (; *url != '\0'; url++)
        hash = (hash ^ (uint8_t)*url) * 0x100000001b3;
    return hash ^ hash >> 32;
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
}

static void
line_remove(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    TAILQ_REMOVE(&cache->lines[entry->state], entry, use);
    cache->counts[entry->state]--;
}

struct x5u_entry *
x5u_find(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of(cache, url);
    struct x5u_entry *entry = *bucket_of(cache, hash);

    while (entry != NULL && (entry->hash != hash || strcmp(entry->url, url) != 0))
        entry = entry->next;
    return entry;
}

struct x5u_entry *
x5u_add(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = hash_of(cache, url);
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
    entry->host = x5u_host(entry->url, &entry->host_len);
    entry->state = X5U_NEW;
    SLIST_INIT(&entry->waiters);
    entry->next = *bucket;
    *bucket = entry;
    line_add(cache, entry);
    return entry;
}

void
x5u_unpin(struct x5u_entry *entry)
{
    if (--entry->pins == 0 && entry->is_dropped)
        entry_free(entry);
}

void
x5u_drop(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    struct x5u_entry **at = bucket_of(cache, entry->hash);

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    line_remove(cache, entry);
    cache->octets -= entry->octets;
    entry->octets = 0;
    entry->is_dropped = true;
    if (entry->pins == 0)
        entry_free(entry);
}

void
x5u_touch(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    if (entry->is_dropped)
        return;
    TAILQ_REMOVE(&cache->lines[entry->state], entry, use);
    TAILQ_INSERT_TAIL(&cache->lines[entry->state], entry, use);
}

/* The one that was not used for longest; those that were preloaded stay. NULL: only such. */
static struct x5u_entry *
oldest(struct sks_x5u_cache *cache, enum x5u_state state)
{
    struct x5u_entry *entry;

    TAILQ_FOREACH(entry, &cache->lines[state], use)
    {
        if (!entry->is_preloaded)
            return entry;
    }
    return NULL;
}

static bool
has_too_much(const struct sks_x5u_cache *cache, enum x5u_state state)
{
    if (state == X5U_GOOD)
        return cache->counts[state] > cache->chains_max || cache->octets > cache->octets_max;
    return state == X5U_FAILED && cache->counts[state] > X5U_FAILED_MAX;
}

static void
push_out(struct sks_x5u_cache *cache, enum x5u_state state)
{
    struct x5u_entry *entry;

    while (has_too_much(cache, state) && (entry = oldest(cache, state)) != NULL)
        x5u_drop(cache, entry);
}

void
x5u_change(struct sks_x5u_cache *cache, struct x5u_entry *entry, enum x5u_state state)
{
    line_remove(cache, entry);
    entry->state = state;
    line_add(cache, entry);
    push_out(cache, state);
}

void
x5u_keep(struct sks_x5u_cache *cache, struct x5u_entry *entry, struct certs_chain *chain,
         size_t octets)
{
    certs_chain_free(entry->chain);
    entry->chain = chain;
    cache->octets += octets - entry->octets;
    entry->octets = octets;
}
