/*
 * fuzz_ms_api.c - bodies of the signing and verification API.
 *
 * The parsers have no public header, as nobody outside the service calls them; strangers reach
 * them through it, so they are fuzzed by themselves.
 */
#include <ms_api_signing_internal.h>
#include <ms_api_verification_internal.h>

#include "fuzz.h"

static void
fuzz_signing(const char *text, size_t len)
{
    struct ms_signing signing;
    struct ms_fault fault = {.error = MS_INTERNAL};

    if (ms_signing_parse(text, len, &signing, &fault)) {
        fuzz_assert(sks_claims_check(&signing.claims, NULL) == HSM_OK);
        ms_signing_clear(&signing);
    } else {
        fuzz_assert(ms_fault_status(&fault) == 400);
    }
}

static void
fuzz_verification(const char *text, size_t len)
{
    struct ms_verification verification;
    struct ms_fault fault = {.error = MS_INTERNAL};

    if (ms_verification_parse(text, len, &verification, &fault)) {
        fuzz_assert(verification.call.identity != NULL);
        fuzz_assert((verification.call.from_tn != NULL) != (verification.call.from_uri != NULL));
        fuzz_assert(verification.call.to_tn_count + verification.call.to_uri_count > 0);
        ms_verification_clear(&verification);
    } else {
        fuzz_assert(ms_fault_status(&fault) == 400);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);

    fuzz_signing(text, len);
    fuzz_verification(text, len);
    free(text);
    return 0;
}
