/* count.c - counters in shards, so that threads do not share a cache line for each call. */
#include "count.h"

#include <stdatomic.h>

#define SHARDS 16

struct shard {
    _Alignas(64) atomic_ulong calls[FN_COUNT];
    atomic_ulong failures[FN_COUNT];
};

static struct shard shards[SHARDS];
static atomic_uint threads;

static struct shard *
own_shard(void)
{
    static _Thread_local unsigned number; /* 0: not chosen yet */

    if (number == 0)
        number = atomic_fetch_add(&threads, 1) % SHARDS + 1;
    return &shards[number - 1];
}

void
fault_count_call(enum fault_fn fn)
{
    atomic_fetch_add_explicit(&own_shard()->calls[fn], 1, memory_order_relaxed);
}

void
fault_count_failure(enum fault_fn fn)
{
    atomic_fetch_add_explicit(&own_shard()->failures[fn], 1, memory_order_relaxed);
}

unsigned long
fault_count_calls(enum fault_fn fn)
{
    unsigned long sum = 0;

    for (unsigned i = 0; i < SHARDS; i++)
        sum += atomic_load(&shards[i].calls[fn]);
    return sum;
}

unsigned long
fault_count_failures(enum fault_fn fn)
{
    unsigned long sum = 0;

    for (unsigned i = 0; i < SHARDS; i++)
        sum += atomic_load(&shards[i].failures[fn]);
    return sum;
}

void
fault_count_reset(void)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
            atomic_store(&shards[i].calls[fn], 0);
            atomic_store(&shards[i].failures[fn], 0);
        }
    }
}
