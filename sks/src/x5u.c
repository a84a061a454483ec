/* x5u.c - fetch the certificate chains that PASSporTs name, with a cache. */
#include <sks/x5u.h>

#include <ctype.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/rand.h>

#include <certs/cert.h>
#include <hsm/defer.h>

#include "x5u_internal.h"

#define SCHEME      "https://"
#define HOST_MAX    253 /* characters of a name, RFC 1035 section 2.3.4 */
#define BUCKETS     16384 /* a power of two, above SKS_X5U_CACHE_MAX */
#define PORTS_MAX   16 /* configured ones */
#define FAILED_MAX  1000 /* URLs kept that could not be fetched: they never push out a chain */
#define FLIGHTS_MAX 64 /* fetches at one time; more are refused at once */
#define CACHE_S_MAX 604800 /* however long a max-age a stranger sends */
#define WIDEST_PORT 65535

enum state {
    FETCHING,
    GOOD,
    FAILED
};

/* What is known of one URL. */
struct entry {
    char *url;
    enum state state;
    struct certs_chain *chain; /* GOOD */
    struct hsm_reason why; /* FAILED */
    time_t until; /* GOOD, FAILED: not used from then on */
    unsigned waiting; /* threads that hold a pointer to it, the one that fetches included */
    bool is_dropped; /* out of the table: the last that waits releases it */
    struct entry *next; /* in its bucket */
    struct entry *newer, *older; /* in the list of its state */
};

/* Entries of one state, by last use. */
struct line {
    struct entry *newest, *oldest;
    size_t count;
};

struct sks_x5u_cache {
    struct acme_http_client *http; /* borrowed */
    unsigned ports[PORTS_MAX + 1];
    bool private_addresses;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t landed;
    struct entry *buckets[BUCKETS];
    uint64_t seed; /* URLs are a stranger's: so that he cannot choose their bucket */
    struct line lines[3]; /* by state */
};

DEFINE_DEFER(struct certs_chain, certs_chain_free)

/* -- the rules --------------------------------------------------------------------------------- */

/* Characters of a name, or of an IP literal with its brackets (RFC 3986 section 3.2.2). */
static size_t
host_len(const char *host)
{
    size_t len;

    if (*host == '[') {
        len = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
        return host[len] == ']' && len > 1 ? len + 1 : 0;
    }
    len = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");
    return len <= HOST_MAX ? len : 0;
}

/* ":" and one to five digits, or nothing; moves on. */
static bool
take_port(const char **at, unsigned *port)
{
    size_t digits;

    *port = 443;
    if (**at != ':')
        return true;
    digits = strspn(*at + 1, "0123456789");
    if (digits == 0 || digits > 5)
        return false;
    *port = 0;
    for (const char *c = *at + 1; c <= *at + digits; c++)
        *port = *port * 10 + (unsigned)(*c - '0');
    *at += 1 + digits;
    return *port > 0 && *port <= WIDEST_PORT;
}

/* path-abempty of RFC 3986 section 3.3, not empty. */
static bool
is_path(const char *path)
{
    if (*path != '/')
        return false;
    for (const char *c = path; *c != '\0'; c++) {
        if (*c == '%' && (!isxdigit((unsigned char)c[1]) || !isxdigit((unsigned char)c[2])))
            return false;
        if (!isalnum((unsigned char)*c) && strchr("/-._~%!$&'()*+,;=:@", *c) == NULL)
            return false;
    }
    return true;
}

enum hsm_status
sks_x5u_parse(const char *url, unsigned *port, struct hsm_reason *why)
{
    const char *at = url + strlen(SCHEME);
    size_t len;

    if (strnlen(url, SKS_X5U_MAX + 1) > SKS_X5U_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: longer than %d characters", SKS_X5U_MAX);
    if (strncasecmp(url, SCHEME, strlen(SCHEME)) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not an https URL");
    if (at[strcspn(at, "?#")] != '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has a query or fragment");
    if (memchr(at, '@', strcspn(at, "/")) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has user information");
    len = host_len(at);
    if (len == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has no host name or address");
    at += len;
    if (!take_port(&at, port))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not a port");
    if (!is_path(at))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not a path");
    return HSM_OK;
}

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

/* -- the table; all with the lock held --------------------------------------------------------- */

/* FNV-1a from a random start: enough for a table whose size is bounded. */
static struct entry **
bucket_of(struct sks_x5u_cache *cache, const char *url)
{
    uint64_t hash = cache->seed;

    for (; *url != '\0'; url++)
        hash = (hash ^ (uint8_t)*url) * 0x100000001b3;
    return &cache->buckets[(hash ^ hash >> 32) % BUCKETS];
}

static void
entry_free(struct entry *entry)
{
    certs_chain_free(entry->chain);
    free(entry->url);
    free(entry);
}

static void
line_add(struct sks_x5u_cache *cache, struct entry *entry)
{
    struct line *line = &cache->lines[entry->state];

    entry->newer = NULL;
    entry->older = line->newest;
    if (line->newest != NULL)
        line->newest->newer = entry;
    else
        line->oldest = entry;
    line->newest = entry;
    line->count++;
}

static void
line_remove(struct sks_x5u_cache *cache, struct entry *entry)
{
    struct line *line = &cache->lines[entry->state];

    *(entry->newer != NULL ? &entry->newer->older : &line->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &line->oldest) = entry->newer;
    line->count--;
}

/* Out of the table. Threads that still wait for it keep it alive. */
static void
drop(struct sks_x5u_cache *cache, struct entry *entry)
{
    struct entry **at = bucket_of(cache, entry->url);

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    line_remove(cache, entry);
    entry->is_dropped = true;
    if (entry->waiting == 0)
        entry_free(entry);
}

static void
let_go(struct entry *entry)
{
    if (--entry->waiting == 0 && entry->is_dropped)
        entry_free(entry);
}

static struct entry *
find(struct sks_x5u_cache *cache, const char *url)
{
    for (struct entry *entry = *bucket_of(cache, url); entry != NULL; entry = entry->next) {
        if (strcmp(entry->url, url) == 0)
            return entry;
    }
    return NULL;
}

/* An entry in flight. NULL: no memory. */
static struct entry *
add(struct sks_x5u_cache *cache, const char *url)
{
    struct entry **bucket = bucket_of(cache, url);
    struct entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL)
        return NULL;
    entry->url = strdup(url);
    if (entry->url == NULL) {
        free(entry);
        return NULL;
    }
    entry->state = FETCHING;
    entry->next = *bucket;
    *bucket = entry;
    line_add(cache, entry);
    return entry;
}

static void
change_state(struct sks_x5u_cache *cache, struct entry *entry, enum state state, size_t max)
{
    line_remove(cache, entry);
    entry->state = state;
    line_add(cache, entry);
    if (cache->lines[state].count > max)
        drop(cache, cache->lines[state].oldest);
}

/* -- fetching ---------------------------------------------------------------------------------- */

/* max-age of RFC 9111 section 5.2.2.1; 0 when there is none. */
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
                seconds = seconds < CACHE_S_MAX ? seconds * 10 + (*at - '0') : CACHE_S_MAX;
            return (time_t)seconds;
        }
        at += strcspn(at, ",");
    }
    return 0;
}

/* 24 hours even when less was said (ATIS-1000074), longer when more was, and no longer than the
 * certificate lives. */
static time_t
keep_until(const struct certs_chain *chain, const char *cache_control, time_t now)
{
    time_t age = max_age(cache_control);
    time_t end = certs_cert_not_after(certs_chain_get(chain, 0)) + 1;

    if (age < SKS_X5U_CACHE_S)
        age = SKS_X5U_CACHE_S;
    if (age > CACHE_S_MAX)
        age = CACHE_S_MAX;
    return end < now + age ? end : now + age;
}

static enum hsm_status
fetch(const struct sks_x5u_cache *cache, const char *url, time_t now, struct certs_chain **out,
      time_t *until, struct hsm_reason *why)
{
    const struct acme_http_fetch get = {
        .method = "GET",
        .url = url,
        .accept = "application/pem-certificate-chain",
        .reply_max = CERTS_CHAIN_OCTETS_MAX,
        .timeout_ms = SKS_X5U_TIMEOUT_MS,
        .public_addresses_only = !cache->private_addresses,
    };
    struct acme_http_reply reply = {.status = 0};
    enum hsm_status st = acme_http_fetch(cache->http, &get, &reply, why);

    if (st != HSM_OK)
        return st;
    if (reply.status != 200) /* a redirect included: it is not followed */
        st = hsm_refuse(why, HSM_ERR_BUSY, "%s: HTTP status %d", url, reply.status);
    else /* deployed repositories send many media types: the octets tell */
        st = certs_chain_parse_pem(reply.body, reply.body_len, CERTS_CHAIN_LEN_MAX, out, why);
    if (st == HSM_OK)
        *until = keep_until(*out, reply.cache_control, now);
    acme_http_reply_clear(&reply);
    return st;
}

/* Fetch without the lock, which is held before and after; then wake who waits. */
static void
fly(struct sks_x5u_cache *cache, struct entry *entry, time_t now)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {0};
    time_t until = now + SKS_X5U_NEGATIVE_S;
    enum hsm_status st;

    pthread_mutex_unlock(&cache->lock);
    st = fetch(cache, entry->url, now, &chain, &until, &why);
    pthread_mutex_lock(&cache->lock);
    entry->until = until;
    if (st == HSM_OK) {
        entry->chain = chain;
        change_state(cache, entry, GOOD, SKS_X5U_CACHE_MAX);
    } else {
        entry->why = why;
        if (st == HSM_ERR_NOMEM)
            (void)hsm_refuse(&entry->why, st, "%s: out of memory", entry->url);
        change_state(cache, entry, FAILED, FAILED_MAX);
    }
    pthread_cond_broadcast(&cache->landed);
}

/* Wait for a flight, or be the one that flies. */
static enum hsm_status
use(struct sks_x5u_cache *cache, struct entry *entry, bool is_new, time_t now,
    struct certs_chain **out, struct hsm_reason *why)
{
    enum hsm_status st;

    entry->waiting++;
    if (is_new)
        fly(cache, entry, now);
    while (entry->state == FETCHING)
        pthread_cond_wait(&cache->landed, &cache->lock);
    if (entry->state == GOOD)
        st = certs_chain_copy(entry->chain, out);
    else
        st = hsm_refuse(why, HSM_ERR_BUSY, "%s", entry->why.text);
    if (entry->state == GOOD && !entry->is_dropped) {
        line_remove(cache, entry);
        line_add(cache, entry); /* the newest */
    }
    let_go(entry);
    return st;
}

static enum hsm_status
find_or_fetch(struct sks_x5u_cache *cache, const char *url, time_t now, struct certs_chain **out,
              struct hsm_reason *why)
{
    struct entry *entry = find(cache, url);

    if (entry != NULL && entry->state != FETCHING && now >= entry->until) {
        drop(cache, entry);
        entry = NULL;
    }
    if (entry != NULL)
        return use(cache, entry, false, now, out, why);
    if (cache->lines[FETCHING].count >= FLIGHTS_MAX)
        return hsm_refuse(why, HSM_ERR_BUSY, "%d chains are being fetched already", FLIGHTS_MAX);
    entry = add(cache, url);
    return entry == NULL ? HSM_ERR_NOMEM : use(cache, entry, true, now, out, why);
}

enum hsm_status
sks_x5u_get(struct sks_x5u_cache *cache, const char *url, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    enum hsm_status st = sks_x5u_check(cache, url, why);

    if (st != HSM_OK)
        return st;
    pthread_mutex_lock(&cache->lock);
    st = find_or_fetch(cache, url, now, out, why);
    pthread_mutex_unlock(&cache->lock);
    return st;
}

enum hsm_status
sks_x5u_cache_new(const struct sks_x5u_config *config, struct sks_x5u_cache **out)
{
    struct sks_x5u_cache *cache;
    size_t count = 0;

    while (config->ports != NULL && config->ports[count] != 0)
        count++;
    if (config->http == NULL || count > PORTS_MAX)
        return HSM_ERR_USAGE;
    cache = calloc(1, sizeof(*cache));
    if (cache == NULL)
        return HSM_ERR_NOMEM;
    if (RAND_bytes((uint8_t *)&cache->seed, sizeof(cache->seed)) != 1) {
        free(cache);
        return HSM_ERR_CRYPTO;
    }
    cache->http = config->http;
    cache->private_addresses = config->private_addresses;
    if (count > 0)
        memcpy(cache->ports, config->ports, count * sizeof(cache->ports[0]));
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->landed, NULL);
    *out = cache;
    return HSM_OK;
}

/* Nobody is waiting any more. */
void
sks_x5u_cache_free(struct sks_x5u_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (cache->buckets[i] != NULL)
            drop(cache, cache->buckets[i]);
    }
    pthread_mutex_destroy(&cache->lock);
    pthread_cond_destroy(&cache->landed);
    free(cache);
}
