/*
 * bench_sks_signing.h - POST /stir/v1/signing beside the token's own C_Sign.
 */
#ifndef BENCH_SKS_SIGNING_H
#define BENCH_SKS_SIGNING_H

/** All rows, or those of the parts named on the command line. Whatever opens a token runs in a
 *  separate process. */
void bench_signing(int argc, char **argv);

#endif
