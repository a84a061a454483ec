/*
 * fuzz_ms_api.c - bodies of the signing and verification API.
 *
 * The parsers have no public header, as only the service calls them. Untrusted input reaches them
 * through it, so they are fuzzed separately.
 */
#include <ms_api_signing_internal.h>
#include <ms_api_verification_internal.h>

#include <string.h>

#include <acme/json.h>

#include "fuzz.h"

static const struct sks_dial_plan plan = {.country_code = "1",
                                          .national_prefix = "1",
                                          .international_prefix = "011",
                                          .national_digits = 10};

/* A payload to be signed is canonical (RFC 8225 section 9): parsed and written again, it is the
 * same. */
static void
check_payload(const struct sks_claims *claims)
{
    char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
    size_t len = 0;
    json_t *json;
    char *again;

    fuzz_assert(sks_claims_check(claims, NULL) == HSM_OK);
    fuzz_assert(sks_claims_payload(claims, payload, &len) == HSM_OK);
    json = json_loadb(payload, len, JSON_REJECT_DUPLICATES, NULL);
    fuzz_assert(json != NULL);
    again = acme_json_canonical(json);
    fuzz_assert(again != NULL && strcmp(again, payload) == 0);
    free(again);
    json_decref(json);
}

static void
fuzz_signing(const char *text, size_t len)
{
    struct ms_signing signing;
    struct ms_fault fault = {.error = MS_INTERNAL};
    bool is_good = false;

    if (sks_ms_signing_parse(text, len, &plan, &signing, &fault)) {
        if (sks_ms_signing_check(&signing, NULL, &fault)) {
            check_payload(&signing.claims);
            is_good = sks_ms_signing_check_headers(&signing, &fault);
        }
        sks_ms_signing_clear(&signing);
    }
    fuzz_assert(is_good || sks_ms_fault_status(&fault) == 400);
}

static void
fuzz_verification(const char *text, size_t len)
{
    struct ms_verification verification;
    struct ms_fault fault = {.error = MS_INTERNAL};

    if (sks_ms_verification_parse(text, len, &plan, &verification, &fault)) {
        fuzz_assert((verification.call.identity != NULL) + verification.call.identity_count > 0);
        fuzz_assert((verification.call.identity != NULL) + verification.call.identity_count <=
                    SKS_IDENTITIES_MAX);
        fuzz_assert(verification.call.resource_priority_count <= SKS_PRIORITIES_MAX);
        fuzz_assert((verification.call.from_tn != NULL) != (verification.call.from_uri != NULL));
        fuzz_assert(verification.call.to_tn_count + verification.call.to_uri_count > 0);
        sks_ms_verification_clear(&verification);
    } else {
        fuzz_assert(sks_ms_fault_status(&fault) == 400);
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
