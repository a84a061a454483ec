/*
 * bench_signer.h - processes that do nothing but C_Sign, on command.
 */
#ifndef BENCH_SIGNER_H
#define BENCH_SIGNER_H

#include "bench_process.h"

struct bench_signed {
    double count, seconds, cpu_us;
};

/** @param open  called in the process: opens the token of this label and logs in */
void bench_signer_begin(void (*open)(void), const char *token, struct bench_process *out);

/** Let all of them sign at once for `seconds`; adds the results to *sum. */
void bench_signer_turn(const struct bench_process *signers, unsigned count, double seconds,
                       struct bench_signed *sum);

/** Let one sign at even intervals for `seconds`, at this share of the rate that it has just
 * reached; returns bench_tail() of the times since each signature was due. */
double bench_signer_tail(const struct bench_process *signer, double share, double seconds);

#endif
