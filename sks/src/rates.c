/* rates.c - token buckets that worker processes share. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <sks/rates.h>

#include <stdatomic.h>
#include <stdlib.h>

#include <sys/mman.h>

#include <hsm/log.h>

#define SECOND_NS INT64_C(1000000000)

struct bucket {
    _Atomic uint64_t name; /* its hash; 0: free */
    _Atomic int64_t full_ns; /* when the bucket is full again */
};

struct sks_rates {
    struct bucket *buckets; /* SKS_RATES_MAX of them, shared */
};

enum hsm_status
sks_rates_new(struct sks_rates **out)
{
    struct sks_rates *rates = calloc(1, sizeof(*rates));
    void *memory;

    if (rates == NULL)
        return HSM_ERR_NOMEM;
    memory = mmap(NULL, SKS_RATES_MAX * sizeof(struct bucket), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(rates);
        return HSM_ERR_NOMEM;
    }
    rates->buckets = memory;
    *out = rates;
    return HSM_OK;
}

void
sks_rates_free(struct sks_rates *rates)
{
    if (rates == NULL)
        return;
    munmap(rates->buckets, SKS_RATES_MAX * sizeof(struct bucket));
    free(rates);
}

/* FNV-1a of 64 bits. Names are the operator's own: two that collide share a bucket, and of a
 * thousand names that happens once in 10^13 files. */
static uint64_t
hash(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h != 0 ? h : 1;
}

enum hsm_status
sks_rates_bucket(struct sks_rates *rates, const char *name, size_t *bucket)
{
    uint64_t wanted = hash(name);

    for (size_t i = 0; i < SKS_RATES_MAX; i++) {
        size_t at = (wanted + i) % SKS_RATES_MAX;
        uint64_t found = 0;

        if (atomic_compare_exchange_strong(&rates->buckets[at].name, &found, wanted) ||
            found == wanted) {
            *bucket = at;
            return HSM_OK;
        }
    }
    hsm_log(HSM_LOG_ERROR, "more than %d names have a rate", SKS_RATES_MAX);
    return HSM_ERR_NOMEM;
}

enum hsm_status
sks_rates_take(struct sks_rates *rates, size_t bucket, unsigned per_s, unsigned burst,
               int64_t now_ns, unsigned *wait_s)
{
    _Atomic int64_t *full_ns = &rates->buckets[bucket].full_ns;
    const int64_t each_ns = SECOND_NS / per_s;
    int64_t full = atomic_load(full_ns);
    int64_t after;

    do {
        after = (full > now_ns ? full : now_ns) + each_ns;
        if (after - now_ns > (int64_t)burst * each_ns) {
            *wait_s =
                (unsigned)((after - now_ns - (int64_t)burst * each_ns + SECOND_NS - 1) / SECOND_NS);
            return HSM_ERR_BUSY;
        }
    } while (!atomic_compare_exchange_weak(full_ns, &full, after));
    return HSM_OK;
}
