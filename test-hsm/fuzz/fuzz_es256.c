/* fuzz_es256.c - DER signatures: what is accepted converts back to the same octets. */
#include <hsm/es256.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t sig[HSM_P256_SIG_LEN], der[HSM_P256_DER_SIG_MAX];
    size_t der_len = 0;

    if (hsm_es256_from_der(data, len, sig) == HSM_OK) {
        fuzz_assert(hsm_es256_to_der(sig, der, &der_len) == HSM_OK);
        fuzz_assert(der_len == len && memcmp(der, data, len) == 0);
    }
    return 0;
}
