/* fuzz_authority_token.c - SPC tokens. */
#include <acme/authority_token.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    struct acme_authority_token *token = NULL;
    struct hsm_reason why;

    if (acme_authority_token_parse(text, &token, &why) == HSM_OK)
        fuzz_assert(acme_authority_token_tnauthlist(token) != NULL);
    acme_authority_token_free(token);
    free(text);
    return 0;
}
