/*
 * fuzz_verify.c - Identity header field values, one a line, judged together.
 *
 * Every x5u serves a chain without certificates: nothing is valid, and everything before the
 * certificate is judged.
 */
#include <stdio.h>

#include <sks/verify.h>

#include "fuzz.h"

#define NOW 1768478400 /* the clock of the vectors */

static const char *const to[] = {"12155551213"};
static const char *const target[] = {"12155551214"};
static const char *const priorities[] = {"ets.0", "esnet.0"};

static enum hsm_status
serve(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    (void)x5u;
    (void)now;
    (void)why;
    return certs_chain_new(out);
}

static struct sks_verifier *
make_verifier(void)
{
    static struct sks_verifier *verifier;
    struct certs_chain *anchors = NULL;
    struct sks_verifier_config config = {.chain = serve};

    if (verifier != NULL)
        return verifier;
    fuzz_assert(certs_chain_new(&anchors) == HSM_OK);
    fuzz_assert(sks_trust_fixed(anchors, NULL, 0, NULL, NULL, &config.trust) == HSM_OK);
    fuzz_assert(sks_verifier_new(&config, &verifier) == HSM_OK);
    certs_chain_free(anchors);
    return verifier;
}

static void
check(const struct sks_judgements *judgements)
{
    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_verification *verification = &judgements->judged[i].verification;
        char *reason = sks_verification_reason(verification, judgements->judged[i].signature);

        fuzz_assert(verification->verdict != SKS_VALID);
        fuzz_assert(verification->reason_code >= 403 && verification->reason_code <= 438);
        fuzz_assert(reason != NULL && strpbrk(reason, "\r\n") == NULL);
        free(reason);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    char *rest = text;
    const char *identities[SKS_IDENTITIES_MAX];
    struct sks_call call = {
        .from_tn = "12155551212",
        .to_tn = to,
        .to_tn_count = 1,
        .target_tn = target,
        .target_tn_count = 1,
        .resource_priority = priorities,
        .resource_priority_count = 2,
        .priority = "psap-callback",
        .time = NOW,
        .identities = identities,
    };
    struct sks_judgements *judgements = NULL;

    while (rest != NULL && call.identity_count < SKS_IDENTITIES_MAX)
        identities[call.identity_count++] = strsep(&rest, "\n");
    fuzz_assert(sks_verify_all(make_verifier(), &call, NOW, &judgements) == HSM_OK);
    fuzz_assert(judgements->count >= call.identity_count);
    check(judgements);
    sks_judgements_free(judgements);
    free(text);
    return 0;
}
