/*
 * x5u_kept.c - chains that were vouched for, on disk: other processes, and those started later,
 * can use them while the repository is unreachable.
 *
 * One file per URL, named by the URL's digest and replaced as a whole. A chain read from disk is
 * checked and judged like one from the network.
 */
#include "x5u_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <sys/stat.h>

#include <acme/json.h>
#include <acme/time.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/process.h>

#define DIGEST_LEN 32 /* octets: SHA-256 */
#define NAME_LEN   (2 * DIGEST_LEN)
#define PATH_SIZE  4096 /* octets */
#define OCTETS_MAX                                                                                 \
    (2 * CERTS_CHAIN_OCTETS_MAX) /* of a file: line ends take two characters in it                 \
                                  */
#define AGE_MAX   (X5U_CACHE_S_MAX + SKS_X5U_STALE_S) /* no chain is used for longer */
#define REMNANT_S 3600 /* an incomplete file of this age was abandoned by its writer */
#define SWEEP_SHARE                                                                                \
    8 /* a sweep is due when chains_max / SWEEP_SHARE files were written since the last */

#define RETRIES_MAX 64 /* failed writes tried again in a sweep: each failure is logged */

DEFINE_DEFER(DIR, closedir)

/* ---- one file ---- */

static bool
path_of(const struct sks_x5u_cache *cache, const char *url, char out[PATH_SIZE])
{
    uint8_t digest[DIGEST_LEN];
    char name[NAME_LEN + 1];
    int n;

    if (EVP_Digest(url, strlen(url), digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    hsm_hex_put(digest, sizeof(digest), name);
    n = snprintf(out, PATH_SIZE, "%s/%s", cache->dir, name);
    return n > 0 && n < PATH_SIZE;
}

/* HSM_ERR_NOT_FOUND, not logged, when the file does not exist. */
static enum hsm_status
read_object(const char *path, json_t **out, struct hsm_reason *why)
{
    DEFER(free) char *text = NULL;
    size_t len;
    enum hsm_status st;

    if (access(path, F_OK) != 0)
        return HSM_ERR_NOT_FOUND;
    st = hsm_file_read(path, OCTETS_MAX, (uint8_t **)&text, &len);
    return st == HSM_OK ? acme_json_parse(text, len, out, why) : st;
}

static time_t
end_of(const struct x5u_kept *kept)
{
    time_t stale = kept->fresh_until + SKS_X5U_STALE_S;
    time_t end = certs_cert_not_after(certs_chain_get(kept->chain, 0)) + 1;

    return stale < end ? stale : end;
}

static enum hsm_status
read_members(const json_t *object, const char *url, time_t now, struct x5u_kept *out,
             struct hsm_reason *why)
{
    const char *of, *pem;
    const char *etag = NULL;
    int64_t fresh_until;
    enum hsm_status st = acme_json_string(object, "x5u", &of, why);

    if (st == HSM_OK)
        st = acme_json_string(object, "pem", &pem, why);
    if (st == HSM_OK)
        st = acme_json_integer(object, "freshUntil", &fresh_until, why);
    if (st == HSM_OK)
        st = acme_json_string_optional(object, "etag", &etag, why);
    if (st != HSM_OK)
        return st;
    if (strcmp(of, url) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: of another URL");
    if (fresh_until > (int64_t)now + X5U_CACHE_S_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "freshUntil: later than any");
    out->octets = strlen(pem);
    if (out->octets > CERTS_CHAIN_OCTETS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "pem: too large");
    out->fresh_until = (time_t)fresh_until;
    if (etag != NULL && strlen(etag) <= X5U_ETAG_MAX && (out->etag = strdup(etag)) == NULL)
        return HSM_ERR_NOMEM;
    return certs_chain_parse_pem(pem, out->octets, CERTS_CHAIN_LEN_MAX, &out->chain, why);
}

bool
sks_x5u_kept_read(const struct sks_x5u_cache *cache, const char *url, time_t now,
                  struct x5u_kept *out)
{
    DEFER(json_decref) json_t *object = NULL;
    struct x5u_kept kept = {.chain = NULL};
    struct hsm_reason why = {""};
    char path[PATH_SIZE];
    enum hsm_status st;

    if (cache->dir == NULL || !path_of(cache, url, path))
        return false;
    st = read_object(path, &object, &why);
    if (st == HSM_OK)
        st = read_members(object, url, now, &kept, &why);
    if (st == HSM_OK && now < end_of(&kept)) {
        *out = kept;
        return true;
    }
    if (st != HSM_OK && st != HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_WARNING, "%s: not used: %s", path, why.text);
    certs_chain_free(kept.chain);
    free(kept.etag);
    return false;
}

static enum hsm_status
write_file(const struct sks_x5u_cache *cache, const char *url, const struct x5u_kept *kept)
{
    DEFER(free) char *pem = NULL;
    DEFER(free) char *text = NULL;
    DEFER(json_decref) json_t *object = NULL;
    char path[PATH_SIZE];
    enum hsm_status st = certs_chain_pem(kept->chain, &pem);

    if (st != HSM_OK)
        return st;
    if (!path_of(cache, url, path))
        return HSM_ERR_USAGE;
    if (mkdir(cache->dir, 0755) != 0 && errno != EEXIST) {
        hsm_log(HSM_LOG_WARNING, "%s: %s", cache->dir, strerror(errno));
        return HSM_ERR_IO;
    }
    object = json_pack("{s:s, s:s, s:I, s:s*}", "x5u", url, "pem", pem, "freshUntil",
                       (json_int_t)kept->fresh_until, "etag",
                       kept->etag != NULL && acme_json_can_carry(kept->etag) ? kept->etag : NULL);
    text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    return text == NULL ? HSM_ERR_NOMEM : hsm_file_write(path, text, strlen(text), 0644);
}

/* ---- all of them ---- */

struct file {
    char name[NAME_LEN + 1];
    time_t written_at;
    size_t octets;
};

static int
newest_first(const void *a, const void *b)
{
    time_t one = ((const struct file *)a)->written_at;
    time_t other = ((const struct file *)b)->written_at;

    return (one < other) - (one > other);
}

static bool
is_name(const char *name)
{
    return strspn(name, "0123456789abcdef") == NAME_LEN && name[NAME_LEN] == '\0';
}

/* Delete files that are too old, and list the others in `files`, `max` at most: the rest is left to
 * the next sweep. */
static size_t
list_files(DIR *dir, time_t now, struct file *files, size_t max)
{
    size_t count = 0;
    struct dirent *entry;

    while (count < max && (entry = readdir(dir)) != NULL) {
        time_t age_max = is_name(entry->d_name) ? AGE_MAX : REMNANT_S;
        struct stat is;

        if (fstatat(dirfd(dir), entry->d_name, &is, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(is.st_mode))
            continue;
        if (is.st_mtime + age_max < now) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        } else if (is_name(entry->d_name)) {
            files[count].written_at = is.st_mtime;
            files[count].octets = (size_t)is.st_size;
            memcpy(files[count++].name, entry->d_name, NAME_LEN + 1);
        }
    }
    return count;
}

/* Record as known a host that was vouched for, in this or another process. */
static void
learn_host(struct sks_x5u_cache *cache, const char *name)
{
    DEFER(json_decref) json_t *object = NULL;
    struct hsm_reason why = {""};
    char path[PATH_SIZE];
    const char *url;
    int n = snprintf(path, sizeof(path), "%s/%s", cache->dir, name);

    if (n < 0 || n >= PATH_SIZE || read_object(path, &object, &why) != HSM_OK ||
        acme_json_string(object, "x5u", &url, &why) != HSM_OK ||
        sks_x5u_check(cache, url, &why) != HSM_OK)
        return;
    pthread_mutex_lock(&cache->lock);
    sks_x5u_know_host(cache, url);
    pthread_mutex_unlock(&cache->lock);
}

static void
sweep(struct sks_x5u_cache *cache)
{
    DEFER(closedir) DIR *dir = opendir(cache->dir);
    const size_t max = 2 * cache->chains_max;
    struct file *files = dir != NULL ? malloc(max * sizeof(*files)) : NULL;
    time_t now = time(NULL); /* compared with file times, unlike the time of calls */
    size_t octets = 0;
    size_t count;

    if (files == NULL)
        return;
    count = list_files(dir, now, files, max);
    qsort(files, count, sizeof(files[0]), newest_first);
    for (size_t i = 0; i < count; i++) {
        octets += files[i].octets;
        if (i >= cache->chains_max || octets > cache->octets_max)
            unlinkat(dirfd(dir), files[i].name, 0);
        else if (files[i].written_at >= cache->swept_at)
            learn_host(cache, files[i].name);
    }
    free(files);
    cache->swept_at = now;
}

/* ---- the thread that writes; with the lock held ---- */

/* False: it cannot be written, which was logged. */
static bool
keep_next(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry = STAILQ_FIRST(&cache->to_keep);
    struct x5u_kept kept = {.chain = NULL, .fresh_until = entry->fresh_until};
    enum hsm_status st = HSM_OK;

    STAILQ_REMOVE_HEAD(&cache->to_keep, keeping);
    entry->is_to_keep = false;
    if (entry->chain != NULL) {
        kept.chain = certs_chain_hold(entry->chain);
        kept.etag = entry->etag != NULL ? strdup(entry->etag) : NULL;
        pthread_mutex_unlock(&cache->lock);
        st = write_file(cache, entry->url, &kept);
        certs_chain_free(kept.chain);
        free(kept.etag);
        pthread_mutex_lock(&cache->lock);
    }
    if (st != HSM_OK && !entry->is_to_keep) { /* and no newer one is queued */
        entry->is_kept = false;
        entry->has_keep_failed = true;
    }
    sks_x5u_unpin(entry);
    return st == HSM_OK;
}

static void
sweep_now(struct sks_x5u_cache *cache)
{
    cache->is_sweep_due = false;
    cache->kept_since_sweep = 0;
    pthread_mutex_unlock(&cache->lock);
    sweep(cache);
    pthread_mutex_lock(&cache->lock);
}

static void *
keeper(void *context)
{
    struct sks_x5u_cache *cache = context;

    pthread_mutex_lock(&cache->lock);
    while (!cache->is_ending) {
        if (cache->is_sweep_due || cache->kept_since_sweep > cache->chains_max / SWEEP_SHARE)
            sweep_now(cache);
        else if (STAILQ_EMPTY(&cache->to_keep))
            pthread_cond_wait(&cache->keep_work, &cache->lock);
        else if (keep_next(cache))
            cache->kept_since_sweep++;
    }
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

/* Signals are left to the event loop. */
static bool
start_keeper(struct sks_x5u_cache *cache)
{
    sigset_t all;
    sigset_t before;

    if (cache->has_keeper)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    cache->has_keeper = pthread_create(&cache->keeper, NULL, keeper, cache) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    cache->is_sweep_due = cache->has_keeper;
    return cache->has_keeper;
}

void
sks_x5u_keep_on_disk(struct sks_x5u_cache *cache, struct x5u_entry *entry)
{
    if (cache->dir == NULL || entry->is_kept || entry->is_to_keep || !start_keeper(cache))
        return;
    entry->is_kept = true;
    entry->is_to_keep = true;
    entry->has_keep_failed = false;
    entry->pins++;
    STAILQ_INSERT_TAIL(&cache->to_keep, entry, keeping);
    pthread_cond_signal(&cache->keep_work);
}

/* Try failed writes again: the disk may have room by now. */
static void
keep_again(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry;
    size_t count = 0;

    TAILQ_FOREACH(entry, &cache->lines[X5U_GOOD], use)
    {
        if (!entry->has_keep_failed)
            continue;
        if (count++ == RETRIES_MAX)
            return;
        sks_x5u_keep_on_disk(cache, entry);
    }
}

void
sks_x5u_sweep_kept(struct sks_x5u_cache *cache, time_t now)
{
    if (cache->dir == NULL || !acme_time_is_due(cache->sweep_at, X5U_SWEEP_S, now) ||
        !start_keeper(cache))
        return;
    cache->sweep_at = now + X5U_SWEEP_S;
    cache->is_sweep_due = true;
    keep_again(cache);
    pthread_cond_signal(&cache->keep_work);
}

void
sks_x5u_end_keeper(struct sks_x5u_cache *cache)
{
    struct x5u_entry *entry;

    pthread_cond_broadcast(&cache->keep_work);
    pthread_mutex_unlock(&cache->lock);
    if (cache->has_keeper)
        pthread_join(cache->keeper, NULL);
    pthread_mutex_lock(&cache->lock);
    while ((entry = STAILQ_FIRST(&cache->to_keep)) != NULL) {
        STAILQ_REMOVE_HEAD(&cache->to_keep, keeping);
        sks_x5u_unpin(entry);
    }
}
