/* fuzz_crl.c - CRLs, PEM and DER: each entry of one that is accepted can be read. */
#include <certs/crl.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why;

    if (certs_crl_parse(data, len, &crl, &why) == HSM_OK) {
        fuzz_assert(certs_crl_check_newer(crl, crl, &why) == HSM_OK);
        for (size_t i = 0; i < certs_crl_len(crl); i++) {
            struct certs_crl_entry entry;

            certs_crl_get(crl, i, &entry);
            fuzz_assert(entry.issuer != NULL && entry.serial_len <= CERTS_SERIAL_MAX);
            fuzz_assert(certs_crl_reason_text(entry.reason) != NULL);
        }
    }
    certs_crl_free(crl);
    return 0;
}
