/* fuzz_csr.c - PKCS#10 requests. */
#include <certs/csr.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct certs_csr *csr = NULL;
    struct hsm_reason why;

    if (certs_csr_parse(data, len, &csr, &why) == HSM_OK)
        fuzz_assert(certs_csr_public(csr) != NULL);
    certs_csr_free(csr);
    return 0;
}
