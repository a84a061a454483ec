/* fuzz_identity.c - Identity header field values. */
#include <sks/identity.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    struct sks_identity identity = {0};
    struct hsm_reason why;

    if (sks_identity_parse(text, &identity, &why) == HSM_OK)
        fuzz_assert(identity.passport != NULL);
    sks_identity_clear(&identity);
    free(text);
    return 0;
}
