/*
 * bench_sks_signing.h - POST /stir/v1/signing beside the token's own C_Sign.
 */
#ifndef BENCH_SKS_SIGNING_H
#define BENCH_SKS_SIGNING_H

/** Its rows, or those of the parts that main() was asked for. Everything that opens a token is a
 *  process of its own. */
void bench_signing(int argc, char **argv);

#endif
