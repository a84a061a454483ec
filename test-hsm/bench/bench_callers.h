/*
 * bench_callers.h - callers of hsm_key_sign() or of C_Sign, each a thread, and the token they
 * share.
 */
#ifndef BENCH_CALLERS_H
#define BENCH_CALLERS_H

#include <pthread.h>
#include <stdbool.h>

#include <hsm/key.h>

#include "bench_raw.h"

#define BENCH_TOKEN "bench"
/** verify_every of the tokens: what a verification costs is no cost of the layer. */
#define BENCH_NEVER 1000000000

/** Callers on threads of their own, ours or raw; BENCH_RAW_SESSIONS_MAX at most. */
struct bench_callers {
    unsigned count;
    struct hsm_key *key; /* NULL: raw */
    const struct bench_raw *raw;
    bool digest_only;
    double *latencies_us; /* NULL: not wanted; one for each call */
    pthread_barrier_t ready;
};

/** One call, of the caller with that index. bench_open() was called before. */
void bench_callers_call(const struct bench_callers *all, unsigned index);

/** So many calls of each. Microseconds from when all are ready until the last one is; to start the
 *  threads does not count. */
double bench_callers_run(struct bench_callers *all, size_t times_each);

/** Open BENCH_TOKEN of a module, and find its key `signer`, or make it. */
struct hsm_token *bench_open(const char *module, enum hsm_route route, unsigned sessions,
                             struct hsm_key **key);

#endif
