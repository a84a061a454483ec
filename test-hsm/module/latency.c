/* latency.c - sleeping calls, engines in first-come order, held calls. */
#define _GNU_SOURCE
#include "latency.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include <sys/prctl.h>

#include "armed.h"

#define SECOND 1000000000LL /* ns */

struct live_latency {
    atomic_llong fixed_ns;
    atomic_llong jitter_ns;
    atomic_llong ramp_ns;
    atomic_llong most_ns;
    atomic_llong slow_ns;
    atomic_uint slow_ppb; /* calls in 10^9 */
    atomic_ullong calls; /* since it was set */
};

struct waiter {
    struct waiter *next;
    pthread_cond_t turn;
    bool called;
};

static struct live_latency latencies[FN_COUNT];
static atomic_ullong draws;

static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint engines; /* 0: any number */
static unsigned engines_busy;
static struct waiter *first_waiter;
static struct waiter *last_waiter;

static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hold_end; /* by CLOCK_MONOTONIC */
static bool hold_ready;
static unsigned held;
static unsigned long releases;

int64_t
fault_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static struct timespec
timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
}

/* SplitMix64. */
uint64_t
fault_mix(uint64_t counter)
{
    uint64_t z = counter * 0x9e3779b97f4a7c15U + 0x9e3779b97f4a7c15U;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* ---- latency */

void
fault_latency_set(enum fault_fn fn, const struct fault_latency *latency)
{
    struct live_latency *live = &latencies[fn];

    atomic_store(&live->fixed_ns, latency->fixed_ns);
    atomic_store(&live->jitter_ns, latency->jitter_ns);
    atomic_store(&live->ramp_ns, latency->ramp_ns);
    atomic_store(&live->most_ns, latency->most_ns);
    atomic_store(&live->slow_ns, latency->slow_ns);
    atomic_store(&live->slow_ppb, (unsigned)(latency->slow_share * 1e9));
    atomic_store(&live->calls, 0);
    fault_arm(fn, FAULT_ARMED_LATENCY,
              latency->fixed_ns > 0 || latency->jitter_ns > 0 || latency->ramp_ns > 0 ||
                  latency->slow_share > 0);
}

static int64_t
duration_of(struct live_latency *live)
{
    uint64_t draw = fault_mix(atomic_fetch_add(&draws, 1));
    int64_t calls = (int64_t)atomic_fetch_add(&live->calls, 1);
    int64_t jitter = atomic_load(&live->jitter_ns);
    int64_t ramp = atomic_load(&live->ramp_ns);
    int64_t most = atomic_load(&live->most_ns);
    int64_t ns = atomic_load(&live->fixed_ns);

    if (draw % 1000000000 < atomic_load(&live->slow_ppb))
        return atomic_load(&live->slow_ns);
    if (ramp > 0)
        ns = calls < (most - ns) / ramp ? ns + calls * ramp : most;
    if (jitter > 0)
        ns += (int64_t)((draw >> 16) % (uint64_t)(2 * jitter + 1)) - jitter;
    return ns;
}

/* With a timer slack of 1 ns: the default of 50 us would lengthen each short sleep. */
static void
sleep_until(int64_t end_ns)
{
    struct timespec end = timespec_of(end_ns);
    int slack = prctl(PR_GET_TIMERSLACK);

    prctl(PR_SET_TIMERSLACK, 1UL);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        continue;
    if (slack > 0)
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
}

void
fault_latency_spend(enum fault_fn fn)
{
    int64_t ns = duration_of(&latencies[fn]);

    if (ns > 0)
        sleep_until(fault_now_ns() + ns);
}

/* ---- engines */

/* engines_lock is held. */
static void
call_waiters(void)
{
    unsigned count = atomic_load(&engines);

    while (first_waiter != NULL && (count == 0 || engines_busy < count)) {
        struct waiter *waiter = first_waiter;

        first_waiter = waiter->next;
        engines_busy++;
        waiter->called = true;
        pthread_cond_signal(&waiter->turn);
    }
    if (first_waiter == NULL)
        last_waiter = NULL;
}

void
fault_engines_set(unsigned count)
{
    pthread_mutex_lock(&engines_lock);
    atomic_store(&engines, count);
    call_waiters();
    pthread_mutex_unlock(&engines_lock);
}

/* engines_lock is held. */
static void
wait_for_turn(void)
{
    struct waiter self = {NULL, PTHREAD_COND_INITIALIZER, false};

    if (last_waiter != NULL)
        last_waiter->next = &self;
    else
        first_waiter = &self;
    last_waiter = &self;
    while (!self.called)
        pthread_cond_wait(&self.turn, &engines_lock);
    pthread_cond_destroy(&self.turn);
}

bool
fault_engine_take(void)
{
    if (atomic_load_explicit(&engines, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&engines_lock);
    if (first_waiter == NULL && engines_busy < atomic_load(&engines))
        engines_busy++;
    else
        wait_for_turn();
    pthread_mutex_unlock(&engines_lock);
    return true;
}

void
fault_engine_release(void)
{
    pthread_mutex_lock(&engines_lock);
    engines_busy--;
    call_waiters();
    pthread_mutex_unlock(&engines_lock);
}

unsigned
fault_engine_waiting(void)
{
    unsigned count = 0;

    pthread_mutex_lock(&engines_lock);
    for (const struct waiter *waiter = first_waiter; waiter != NULL; waiter = waiter->next)
        count++;
    pthread_mutex_unlock(&engines_lock);
    return count;
}

/* ---- held calls */

/* hold_lock is held. */
static void
get_ready(void)
{
    pthread_condattr_t attr;

    if (hold_ready)
        return;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hold_end, &attr);
    pthread_condattr_destroy(&attr);
    hold_ready = true;
}

void
fault_hold(int64_t delay_ns, bool forever)
{
    struct timespec end = timespec_of(fault_now_ns() + delay_ns);
    unsigned long seen;
    int error = 0;

    pthread_mutex_lock(&hold_lock);
    get_ready();
    held++;
    seen = releases;
    while (releases == seen && error == 0)
        error = forever ? pthread_cond_wait(&hold_end, &hold_lock)
                        : pthread_cond_timedwait(&hold_end, &hold_lock, &end);
    held--;
    pthread_mutex_unlock(&hold_lock);
}

void
fault_release(void)
{
    pthread_mutex_lock(&hold_lock);
    get_ready();
    releases++;
    pthread_cond_broadcast(&hold_end);
    pthread_mutex_unlock(&hold_lock);
}

unsigned
fault_held(void)
{
    unsigned count;

    pthread_mutex_lock(&hold_lock);
    count = held;
    pthread_mutex_unlock(&hold_lock);
    return count;
}

void
fault_latency_reset(void)
{
    static const struct fault_latency none;

    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++)
        fault_latency_set(fn, &none);
    fault_engines_set(0);
    fault_release();
}

void
fault_latency_child(void)
{
    engines_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    engines_busy = 0;
    first_waiter = NULL;
    last_waiter = NULL;
    hold_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    hold_ready = false;
    held = 0;
}
