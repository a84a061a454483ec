/*
 * fuzz_verify.c - Identity headers, one per line, judged together; and whether a call with these
 * headers may be diverted.
 *
 * A line is one of these; what is not JSON may be so on purpose:
 *     PPT{..payload..}            a PASSporT of that type
 *     {..header..}{..payload..}   a PASSporT with that header
 *     anything without a brace    the header field value itself
 * They are encoded here, so that the fuzzer changes JSON. "@" in a payload stands for the PASSporT
 * of the previous line, for the opt of a div-o. Every x5u serves a chain without certificates:
 * nothing is valid, and everything up to the certificate is judged.
 */
#define _GNU_SOURCE /* asprintf */
#include <stdio.h>

#include <acme/base64url.h>
#include <diversion_internal.h>
#include <sks/verify.h>

#include "fuzz.h"

#define NOW 1768478400 /* the clock of the vectors */
#define X5U "https://cr.sp.example/certs/sp-1234.pem"

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

/* ---- lines ---- */

/* "@" is what stands for it; free() it. */
static char *
fill_in(const char *payload, const char *passport)
{
    const char *at = strchr(payload, '@');
    char *text = NULL;

    if (at == NULL)
        return fuzz_text((const uint8_t *)payload, strlen(payload));
    fuzz_assert(asprintf(&text, "%.*s%s%s", (int)(at - payload), payload, passport, at + 1) >= 0);
    return text;
}

/* A PASSporT that is not signed; free() it. */
static char *
encode(const char *header, size_t header_len, const char *payload)
{
    char *parts[] = {acme_base64url_encode(header, header_len),
                     acme_base64url_encode(payload, strlen(payload))};
    char *text = NULL;

    fuzz_assert(asprintf(&text, "%s.%s.c2ln", parts[0], parts[1]) >= 0);
    free(parts[0]);
    free(parts[1]);
    return text;
}

/* A header field value and its PASSporT, which replaces the one before; free() both. */
static char *
identity_of(const char *line, char **passport)
{
    const char *brace = strchr(line, '{');
    const char *between = strstr(line, "}{");
    const char *ppt = brace == line ? "" : line;
    int ppt_len = brace == NULL ? 0 : (int)strcspn(ppt, "{");
    char *header = NULL;
    char *payload;
    char *identity = NULL;

    if (brace == NULL)
        return fuzz_text((const uint8_t *)line, strlen(line));
    payload = fill_in(brace == line && between != NULL ? between + 1 : brace, *passport);
    free(*passport);
    if (brace == line && between != NULL) {
        *passport = encode(line, (size_t)(between - line) + 1, payload);
    } else {
        fuzz_assert(asprintf(&header,
                             "{\"alg\":\"ES256\"%s%.*s%s,\"typ\":\"passport\",\"x5u\":\"" X5U "\"}",
                             ppt_len > 0 ? ",\"ppt\":\"" : "", ppt_len, ppt,
                             ppt_len > 0 ? "\"" : "") >= 0);
        *passport = encode(header, strlen(header), payload);
    }
    fuzz_assert(asprintf(&identity, "%s;info=<" X5U ">%s%.*s%s", *passport,
                         ppt_len > 0 ? ";ppt=\"" : "", ppt_len, ppt, ppt_len > 0 ? "\"" : "") >= 0);
    free(header);
    free(payload);
    return identity;
}

/* How many there are; free() each. */
static size_t
take_lines(char *text, char **identities)
{
    char *passport = fuzz_text(NULL, 0);
    size_t count = 0;

    while (text != NULL && count < SKS_IDENTITIES_MAX)
        identities[count++] = identity_of(strsep(&text, "\n"), &passport);
    free(passport);
    return count;
}

/* ---- the call ---- */

static void
judge(const struct sks_call *call)
{
    struct sks_judgements *judgements = NULL;

    fuzz_assert(sks_verify_all(make_verifier(), call, NOW, &judgements) == HSM_OK);
    fuzz_assert(judgements->count >= call->identity_count);
    check(judgements);
    sks_judgements_free(judgements);
}

static void
divert(const struct sks_call *call)
{
    const struct sks_claims div = {.ppt = SKS_PPT_DIV,
                                   .orig_tn = call->from_tn,
                                   .dest_tn = target,
                                   .dest_tn_count = 1,
                                   .div_tn = to[0],
                                   .iat = NOW};
    struct sks_refusal refusal = {.member = NULL};
    struct sks_verification verification;
    enum hsm_status st =
        sks_diversion_check(call->identities, call->identity_count, &div, &refusal);

    fuzz_assert(st == HSM_OK || st == HSM_ERR_MALFORMED || st == HSM_ERR_UNTRUSTED);
    fuzz_assert((st == HSM_OK) || refusal.member != NULL);
    fuzz_assert(sks_verify_diversion(make_verifier(), call, &div, NOW, &verification) == HSM_OK);
    fuzz_assert(verification.verdict != SKS_VALID);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    char *identities[SKS_IDENTITIES_MAX];
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
        .identities = (const char *const *)identities,
    };

    call.identity_count = take_lines(text, identities);
    judge(&call);
    divert(&call);
    for (size_t i = 0; i < call.identity_count; i++)
        free(identities[i]);
    free(text);
    return 0;
}
