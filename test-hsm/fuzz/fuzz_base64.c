/* fuzz_base64.c - base64url: strictly accepted text encodes back to the same text. */
#include <acme/base64url.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *octets = NULL;
    size_t octets_len = 0;

    if (acme_base64url_decode((const char *)data, len, &octets, &octets_len) == HSM_OK) {
        char *text = acme_base64url_encode(octets, octets_len);

        fuzz_assert(text != NULL && strlen(text) == len && memcmp(text, data, len) == 0);
        free(text);
        free(octets);
    }
    octets = NULL;
    if (acme_base64_decode_any((const char *)data, len, &octets, &octets_len) == HSM_OK)
        free(octets);
    return 0;
}
