/* bench_sks.c - signing calls beside the token's own signatures. */
#include "bench_sks_signing.h"
#include "softhsm.h"

int
main(void)
{
    softhsm_start();
    bench_signing();
    softhsm_stop();
    return 0;
}
