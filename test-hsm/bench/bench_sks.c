/* bench_sks.c - signing and verifying calls beside raw signatures and raw verification. */
#include "bench_sks_signing.h"
#include "bench_sks_verify.h"
#include "softhsm.h"

int
main(void)
{
    softhsm_start();
    bench_signing();
    softhsm_stop();
    bench_sks_verify();
    return 0;
}
