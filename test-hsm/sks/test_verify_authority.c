/* test_verify_authority.c - mirrors sks/src/verify_authority.c: what a certificate entitles its
 * holder to claim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <sks/verify.h>

#include "ecosystem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define X5U          "https://cr.example/1.pem"

static struct ecosystem eco;
static struct sks_trust *trust;
static struct sks_verifier *verifier;
static const struct certs_chain *served;

static enum hsm_status
serve(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    (void)x5u;
    (void)now;
    (void)why;
    return certs_chain_copy(served, out);
}

static int
start(void **state)
{
    (void)state;
    eco_start(&eco);
    eco_must(sks_trust_fixed(eco.roots, NULL, 0, NULL, NULL, &trust), "trust");
    eco_must(
        sks_verifier_new(&(struct sks_verifier_config){.trust = trust, .chain = serve}, &verifier),
        "verifier");
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    sks_verifier_free(verifier);
    sks_trust_free(trust);
    eco_stop(&eco);
    return 0;
}

/* A certificate for these entries under the STI-CA's root, with or without constraints. */
static struct certs_chain *
tn_chain(const struct certs_tn_entry *entries, size_t count,
         const struct certs_constraints *constraints)
{
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why = {""};
    struct certs_chain *chain;

    eco_must(certs_tnauthlist_new(entries, count, &list, &why), why.text);
    chain = eco_chain(eco_issue(&eco,
                                (struct certs_issue_request){.profile = CERTS_PROFILE_TN_END_ENTITY,
                                                             .subject = {.common_name = "numbers"},
                                                             .tnauthlist = list,
                                                             .constraints = constraints},
                                hsm_key_public(eco.sp_key), eco.ca, eco.ca_key));
    eco_must(certs_chain_append(chain, eco.ca), "chain");
    certs_tnauthlist_free(list);
    return chain;
}

/* The verdict on one PASSporT; a div is accompanied by its first PASSporT, which a provider
 * signed. */
static struct sks_verification
judge(const char *ppt, const char *orig, const char *claims)
{
    static const char *const to[] = {"12155551213"};
    char *identity = eco_identity(&eco, ppt, X5U, orig, claims);
    const char *const identities[] = {identity};
    struct sks_call call = {.from_tn = orig,
                            .to_tn = to,
                            .to_tn_count = 1,
                            .time = eco.now,
                            .identities = identities,
                            .identity_count = 1};
    struct sks_judgements *got = NULL;
    struct sks_verification verdict;

    assert_int_equal(sks_verify_all(verifier, &call, eco.now, &got), HSM_OK);
    verdict = got->judged[0].verification;
    print_message("%s %s: %s\n", ppt, orig, verdict.reason_desc.text);
    sks_judgements_free(got);
    free(identity);
    return verdict;
}

static const struct certs_tn_entry range = {CERTS_TN_RANGE, "12155550100", 100};
static const struct certs_tn_entry both[] = {{CERTS_TN_ONE, "12155559999", 1},
                                             {CERTS_TN_SPC, "1234", 0}};

static void
numbers_speak_for_themselves_alone(void **state)
{
    struct certs_chain *numbers = tn_chain(&range, 1, NULL);
    struct sks_verification got;

    (void)state;
    served = numbers;
    assert_int_equal(judge("shaken", "12155550100", ECO_SHAKEN).verdict, SKS_VALID);
    assert_int_equal(judge("shaken", "12155550199", ECO_SHAKEN).verdict, SKS_VALID);
    got = judge("shaken", "12155550200", ECO_SHAKEN);
    assert_int_equal(got.verdict, SKS_E17_UNTRUSTED);
    assert_int_equal(got.reason_code, 437);
    assert_string_equal(got.verstat, "TN-Validation-Failed");
    assert_non_null(strstr(got.reason_desc.text, "orig"));
    assert_int_equal(judge("rph", "12155550200", ",\"rph\":{\"auth\":[\"ets.0\"]}").verdict,
                     SKS_E17_UNTRUSTED);
    certs_chain_free(numbers);
}

/* An SPC does not show which numbers a provider serves. */
static void
a_provider_speaks_for_any_number(void **state)
{
    struct certs_chain *chain = tn_chain(both, 2, NULL);

    (void)state;
    served = chain;
    assert_int_equal(judge("shaken", "12155550200", ECO_SHAKEN).verdict, SKS_VALID);
    served = eco.sp;
    assert_int_equal(judge("shaken", "12155550200", ECO_SHAKEN).verdict, SKS_VALID);
    certs_chain_free(chain);
}

/* RFC 8946 section 4.2: for a div it is the diverting number. The missing link is checked after the
 * certificate. */
static void
a_div_is_spoken_by_who_diverts(void **state)
{
    struct certs_chain *numbers = tn_chain(&range, 1, NULL);
    struct sks_verification got;

    (void)state;
    served = numbers;
    got = judge("div", "12155558888", ",\"div\":{\"tn\":\"12155550100\"}");
    assert_int_equal(got.verdict, SKS_E16_NUMBERS_DIFFER);
    got = judge("div", "12155550100", ",\"div\":{\"tn\":\"12155558888\"}");
    assert_int_equal(got.verdict, SKS_E17_UNTRUSTED);
    assert_non_null(strstr(got.reason_desc.text, "div"));
    certs_chain_free(numbers);
}

static const struct {
    const char *must_include, *must_exclude, *claim, *value; /* NULL: no such constraint */
    enum sks_case wanted;
} constraints[] = {
    {"origid", NULL, NULL, NULL, SKS_VALID},
    {"rcd", NULL, NULL, NULL, SKS_E17_UNTRUSTED},
    {NULL, "rcd", NULL, NULL, SKS_VALID},
    {NULL, "attest", NULL, NULL, SKS_E17_UNTRUSTED},
    {NULL, NULL, "attest", "A", SKS_VALID},
    {NULL, NULL, "attest", "B", SKS_E17_UNTRUSTED},
    {NULL, NULL, "confidence", "high", SKS_VALID}, /* the claim is absent */
    /* an object is compared as canonical JSON */
    {NULL, NULL, "orig", "x", SKS_E17_UNTRUSTED},
    {NULL, NULL, "orig", "{\"tn\":\"12155550100\"}", SKS_VALID},
    {NULL, NULL, "orig", "{\"tn\": \"12155550100\"}", SKS_E17_UNTRUSTED},
};

static void
a_certificate_limits_what_may_be_claimed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(constraints); i++) {
        const char *const include[] = {constraints[i].must_include, NULL};
        const char *const exclude[] = {constraints[i].must_exclude, NULL};
        const char *const values[] = {constraints[i].value, NULL};
        const struct certs_permitted_values permitted[] = {{constraints[i].claim, values},
                                                           {NULL, NULL}};
        const struct certs_claim_constraints content = {
            .must_include = include[0] == NULL ? NULL : include,
            .permitted_values = permitted[0].claim == NULL ? NULL : permitted,
            .must_exclude = exclude[0] == NULL ? NULL : exclude,
        };
        struct certs_constraints *made = NULL;
        struct hsm_reason why = {""};
        struct certs_chain *chain;

        eco_must(certs_constraints_new(CERTS_CONSTRAINTS_ENHANCED, &content, &made, &why),
                 why.text);
        chain = tn_chain(&range, 1, made);
        served = chain;
        assert_int_equal(judge("shaken", "12155550100", ECO_SHAKEN).verdict, constraints[i].wanted);
        certs_chain_free(chain);
        certs_constraints_free(made);
    }
}

static void
a_number_is_permitted_as_json_writes_it(void **state)
{
    char text[32];
    const char *const values[] = {text, NULL};
    const struct certs_permitted_values permitted[] = {{"iat", values}, {NULL, NULL}};
    const struct certs_claim_constraints content = {.permitted_values = permitted};

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct certs_constraints *made = NULL;
        struct hsm_reason why = {""};
        struct certs_chain *chain;

        snprintf(text, sizeof(text), "%lld", (long long)eco.now + late);
        eco_must(certs_constraints_new(CERTS_CONSTRAINTS_JWT, &content, &made, &why), why.text);
        chain = tn_chain(&range, 1, made);
        served = chain;
        assert_int_equal(judge("shaken", "12155550100", ECO_SHAKEN).verdict,
                         late ? SKS_E17_UNTRUSTED : SKS_VALID);
        certs_chain_free(chain);
        certs_constraints_free(made);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_speak_for_themselves_alone),
        cmocka_unit_test(a_provider_speaks_for_any_number),
        cmocka_unit_test(a_div_is_spoken_by_who_diverts),
        cmocka_unit_test(a_certificate_limits_what_may_be_claimed),
        cmocka_unit_test(a_number_is_permitted_as_json_writes_it),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
