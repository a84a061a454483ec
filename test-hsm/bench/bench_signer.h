/*
 * bench_signer.h - processes that do nothing but C_Sign, whenever they are told to.
 */
#ifndef BENCH_SIGNER_H
#define BENCH_SIGNER_H

#include "bench_process.h"

struct bench_signed {
    double count, seconds, cpu_us;
};

/** @param open  opens and logs in to the token of that label, in the process */
void bench_signer_begin(void (*open)(void), const char *token, struct bench_process *out);

/** All of them sign for so long at once; what they did is added to *sum. */
void bench_signer_turn(const struct bench_process *signers, unsigned count, double seconds,
                       struct bench_signed *sum);

/** One signs at even distances for `seconds`, at that share of what it has just shown that it can;
 *  bench_tail() of the times from when each signature was due. */
double bench_signer_tail(const struct bench_process *signer, double share, double seconds);

#endif
