/* bench_sks.c - signing and verifying calls compared with raw signatures and raw verification. */
#include "bench.h"
#include "bench_sks_signing.h"
#include "bench_sks_verify.h"
#include "softhsm.h"

/* bench_sks [PART ...] */
int
main(int argc, char **argv)
{
    softhsm_start();
    bench_signing(argc, argv);
    softhsm_stop();
    if (bench_is_wanted("verify", argc, argv))
        bench_sks_verify();
    return bench_status(argc, argv);
}
