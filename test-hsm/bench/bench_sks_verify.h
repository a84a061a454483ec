/* bench_sks_verify.h - what a STI-VS costs beside the P-256 verification in it. */
#ifndef BENCH_SKS_VERIFY_H
#define BENCH_SKS_VERIFY_H

/** All rows, in a new ecosystem. */
void bench_sks_verify(void);

#endif
