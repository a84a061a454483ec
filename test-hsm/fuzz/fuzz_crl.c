/* fuzz_crl.c - CRLs, PEM and DER. */
#include <certs/crl.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why;

    if (certs_crl_parse(data, len, &crl, &why) == HSM_OK)
        fuzz_assert(certs_crl_next_update(crl) != 0);
    certs_crl_free(crl);
    return 0;
}
