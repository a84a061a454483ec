/* fuzz_uri.c - PKCS#11 URIs. */
#include <hsm/uri.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    struct hsm_uri *uri = NULL;
    struct hsm_reason why;

    if (hsm_uri_parse(text, &uri, &why) == HSM_OK)
        hsm_uri_free(uri);
    free(text);
    return 0;
}
