/* rates.c - token buckets that worker processes share. */
#include <sks/rates.h>

#include <stdatomic.h>
#include <stdlib.h>

#include <hsm/clock.h>

#include "times_internal.h"

_Static_assert(SKS_RATES_MAX == TIMES_MAX, "each name has a time");

/** The time stored for a name is when its bucket will be full again. */
struct sks_rates {
    struct times *times;
};

enum hsm_status
sks_rates_new(struct sks_rates **out)
{
    struct sks_rates *rates = calloc(1, sizeof(*rates));

    if (rates == NULL)
        return HSM_ERR_NOMEM;
    if (sks_times_new(&rates->times) != HSM_OK) {
        free(rates);
        return HSM_ERR_NOMEM;
    }
    *out = rates;
    return HSM_OK;
}

void
sks_rates_free(struct sks_rates *rates)
{
    if (rates == NULL)
        return;
    sks_times_free(rates->times);
    free(rates);
}

enum hsm_status
sks_rates_bucket(struct sks_rates *rates, const char *name, size_t *bucket)
{
    return sks_times_of(rates->times, name, bucket);
}

enum hsm_status
sks_rates_take(struct sks_rates *rates, size_t bucket, unsigned per_s, unsigned burst,
               int64_t now_ns, unsigned *wait_s)
{
    _Atomic int64_t *full_ns = sks_times_at(rates->times, bucket);
    const int64_t each_ns = HSM_NS_PER_S / per_s;
    int64_t full = atomic_load(full_ns);
    int64_t after;

    do {
        after = (full > now_ns ? full : now_ns) + each_ns;
        if (after - now_ns > (int64_t)burst * each_ns) {
            *wait_s = (unsigned)((after - now_ns - (int64_t)burst * each_ns + HSM_NS_PER_S - 1) /
                                 HSM_NS_PER_S);
            return HSM_ERR_BUSY;
        }
    } while (!atomic_compare_exchange_weak(full_ns, &full, after));
    return HSM_OK;
}

void
sks_rates_give_back(struct sks_rates *rates, size_t bucket, unsigned per_s)
{
    atomic_fetch_sub(sks_times_at(rates->times, bucket), HSM_NS_PER_S / per_s);
}
