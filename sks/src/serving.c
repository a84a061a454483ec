/* serving.c - the service providers for which the worker processes sign calls now. */
#include <sks/serving.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "times_internal.h"

/** The time stored for an SPC is that of its last report, plus 1 s; 0: never reported. */
struct sks_serving {
    struct times *times;
};

enum hsm_status
sks_serving_new(struct sks_serving **out)
{
    struct sks_serving *serving = calloc(1, sizeof(*serving));

    if (serving == NULL)
        return HSM_ERR_NOMEM;
    if (sks_times_new(&serving->times) != HSM_OK) {
        free(serving);
        return HSM_ERR_NOMEM;
    }
    *out = serving;
    return HSM_OK;
}

void
sks_serving_free(struct sks_serving *serving)
{
    if (serving == NULL)
        return;
    sks_times_free(serving->times);
    free(serving);
}

void
sks_serving_tell(struct sks_serving *serving, const char *spc, time_t now)
{
    size_t at;

    if (sks_times_of(serving->times, spc, &at) == HSM_OK)
        atomic_store(sks_times_at(serving->times, at), (int64_t)now + 1);
}

bool
sks_serving_is(struct sks_serving *serving, const char *spc, time_t now)
{
    size_t at;
    int64_t told;

    if (sks_times_of(serving->times, spc, &at) != HSM_OK)
        return false;
    told = atomic_load(sks_times_at(serving->times, at));
    return told != 0 && (int64_t)now - (told - 1) <= SKS_SERVING_S;
}
