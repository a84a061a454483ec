/* times.c - a time for each of many names, in memory that worker processes share. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "times_internal.h"

#include <stdlib.h>

#include <sys/mman.h>

#include <hsm/log.h>

struct place {
    _Atomic uint64_t name; /* its hash; 0: free */
    _Atomic int64_t time;
};

struct times {
    struct place *places; /* TIMES_MAX of them, shared */
};

enum hsm_status
sks_times_new(struct times **out)
{
    struct times *times = calloc(1, sizeof(*times));
    void *memory;

    if (times == NULL)
        return HSM_ERR_NOMEM;
    memory = mmap(NULL, TIMES_MAX * sizeof(struct place), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(times);
        return HSM_ERR_NOMEM;
    }
    times->places = memory;
    *out = times;
    return HSM_OK;
}

void
sks_times_free(struct times *times)
{
    if (times == NULL)
        return;
    munmap(times->places, TIMES_MAX * sizeof(struct place));
    free(times);
}

/* 64-bit FNV-1a. Two names with the same hash would share a place; with a thousand names, that
 * happens in fewer than one of 10^13 files. */
static uint64_t
hash(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h != 0 ? h : 1;
}

enum hsm_status
sks_times_of(struct times *times, const char *name, size_t *at)
{
    uint64_t wanted = hash(name);

    for (size_t i = 0; i < TIMES_MAX; i++) {
        size_t place = (wanted + i) % TIMES_MAX;
        uint64_t found = 0;

        if (atomic_compare_exchange_strong(&times->places[place].name, &found, wanted) ||
            found == wanted) {
            *at = place;
            return HSM_OK;
        }
    }
    hsm_log(HSM_LOG_ERROR, "more than %d names of callers, customers or providers", TIMES_MAX);
    return HSM_ERR_NOMEM;
}

_Atomic int64_t *
sks_times_at(struct times *times, size_t at)
{
    return &times->places[at].time;
}
