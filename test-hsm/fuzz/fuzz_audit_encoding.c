/* fuzz_audit_encoding.c - the search for private keys in arbitrary octets. */
#include "audit_internal.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        (void)hsm_encoding_at(data, len, i);
    return 0;
}
