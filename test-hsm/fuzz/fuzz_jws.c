/* fuzz_jws.c - JWS in both serialisations. */
#include <acme/jws.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct acme_jws *jws = NULL;
    struct hsm_reason why;

    if (acme_jws_parse_compact((const char *)data, len, &jws, &why) == HSM_OK)
        fuzz_assert(acme_jws_header(jws) != NULL);
    acme_jws_free(jws);
    jws = NULL;
    if (acme_jws_parse_flattened((const char *)data, len, &jws, &why) == HSM_OK)
        fuzz_assert(acme_jws_header(jws) != NULL);
    acme_jws_free(jws);
    return 0;
}
