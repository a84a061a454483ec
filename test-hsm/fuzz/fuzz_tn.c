/* fuzz_tn.c - Telephone numbers: what comes out is canonical. */
#include <sks/tn.h>

#include "fuzz.h"

static const struct sks_dial_plan plans[] = {
    {.country_code = NULL}, {"1", "1", "011", 10}, {"33", "0", "00", 9},
    {"49", "0", "00", 0},   {"371", "", "", 8},
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    char tn[SKS_TN_MAX + 1];

    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        if (sks_tn_canonical(text, &plans[i], tn) == HSM_OK)
            fuzz_assert(sks_tn_is_canonical(tn));
    }
    free(text);
    return 0;
}
