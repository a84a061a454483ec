/* fuzz_tn.c - Telephone numbers: what comes out is canonical. */
#include <sks/tn.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    char tn[SKS_TN_MAX + 1];

    if (sks_tn_canonical(text, "1", tn) == HSM_OK)
        fuzz_assert(sks_tn_is_canonical(tn));
    free(text);
    return 0;
}
