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
/** verify_every of the tokens: the cost of verification is not measured. */
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

/** One call of the caller with this index. Only after bench_open(). */
void bench_callers_call(const struct bench_callers *all, unsigned index);

/** Let each caller make `times_each` calls. Returns the microseconds from when all are ready until
 *  the last call has ended, without the start of the threads. */
double bench_callers_run(struct bench_callers *all, size_t times_each);

/** Open BENCH_TOKEN of a module, and find its key `signer`, or make it. */
struct hsm_token *bench_open(const char *module, enum hsm_route route, unsigned sessions,
                             struct hsm_key **key);

#endif
