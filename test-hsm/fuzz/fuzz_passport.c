/* fuzz_passport.c - PASSporTs in full form. */
#include <sks/passport.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    json_t *header = NULL, *payload = NULL;
    struct hsm_reason why;

    if (sks_passport_decode(text, &header, &payload, &why) == HSM_OK)
        fuzz_assert(json_is_object(header) && json_is_object(payload));
    json_decref(header);
    json_decref(payload);
    free(text);
    return 0;
}
