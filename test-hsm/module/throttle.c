/* throttle.c - one token bucket per function. */
#include "throttle.h"

#include <pthread.h>
#include <stdint.h>

#include "armed.h"
#include "latency.h"

struct bucket {
    double rate; /* per second; 0: no bucket */
    double burst;
    double filled;
    int64_t filled_at_ns;
    CK_RV rv;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bucket buckets[FN_COUNT];

void
fault_throttle_set(enum fault_fn fn, double rate, double burst, CK_RV rv)
{
    pthread_mutex_lock(&lock);
    buckets[fn] = (struct bucket){rate, burst, burst, fault_now_ns(), rv};
    pthread_mutex_unlock(&lock);
    fault_arm(fn, FAULT_ARMED_THROTTLE, rate > 0);
}

CK_RV
fault_throttle_take(enum fault_fn fn)
{
    struct bucket *bucket = &buckets[fn];
    CK_RV rv = CKR_OK;
    int64_t now = fault_now_ns();

    pthread_mutex_lock(&lock);
    if (bucket->rate > 0) {
        bucket->filled += (double)(now - bucket->filled_at_ns) / 1e9 * bucket->rate;
        bucket->filled_at_ns = now;
        if (bucket->filled > bucket->burst)
            bucket->filled = bucket->burst;
        if (bucket->filled >= 1)
            bucket->filled -= 1;
        else
            rv = bucket->rv;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

void
fault_throttle_reset(void)
{
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++)
        fault_throttle_set(fn, 0, 1, CKR_OK);
}

void
fault_throttle_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}
