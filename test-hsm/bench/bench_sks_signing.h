/*
 * bench_sks_signing.h - POST /stir/v1/signing beside the token's own C_Sign.
 */
#ifndef BENCH_SKS_SIGNING_H
#define BENCH_SKS_SIGNING_H

/** All its rows. Everything that opens a token is a process of its own. */
void bench_signing(void);

#endif
