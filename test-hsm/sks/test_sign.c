/* test_sign.c - mirrors sks/src/sign.c, with keys on a throw-away SoftHSM token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <sks/identity.h>
#include <sks/sign.h>
#include <sks/verify.h>

#include "ecosystem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define X5U "https://cr.sp.example/certs/sp-1234.pem"

static struct ecosystem eco;
static const char *const dest[] = {"12155551213"};

static int
set_up(void **state)
{
    (void)state;
    eco_start(&eco);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    eco_stop(&eco);
    return 0;
}

static struct sks_claims
claims_new(time_t iat)
{
    return (struct sks_claims){
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = dest,
        .dest_tn_count = 1,
        .iat = iat,
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };
}

static struct sks_signer *
signer_new(const struct certs_chain *chain)
{
    struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};

    if (sks_signer_new(&(struct sks_signer_config){.key = eco.sp_key, .chain = chain, .x5u = X5U},
                       &signer, &why) != HSM_OK)
        fail_msg("%s", why.text);
    return signer;
}

/* -- the verdict of an STI-VS -- */

static enum hsm_status
serve(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    (void)now;
    (void)why;
    assert_string_equal(x5u, X5U);
    eco_must(certs_chain_new(out), x5u);
    return certs_chain_append(*out, eco.sp);
}

static enum sks_case
verdict_of(const char *identity, time_t now)
{
    struct sks_trust *trust = NULL;
    struct sks_verifier *verifier = NULL;
    struct sks_verification got;
    const struct sks_call call = {
        .from_tn = "12155551212",
        .to_tn = dest,
        .to_tn_count = 1,
        .time = now,
        .identity = identity,
    };

    eco_must(sks_trust_fixed(eco.roots, NULL, 0, NULL, NULL, &trust), "trust");
    eco_must(
        sks_verifier_new(&(struct sks_verifier_config){.trust = trust, .chain = serve}, &verifier),
        "verifier");
    eco_must(sks_verify(verifier, &call, now, &got), "verify");
    sks_verifier_free(verifier);
    sks_trust_free(trust);
    return got.verdict;
}

static void
what_is_signed_verifies_until_it_changes(void **state)
{
    struct sks_signer *signer = signer_new(eco.sp);
    struct sks_claims claims = claims_new(eco.now);
    char *identity = NULL;
    char *dot;

    (void)state;
    assert_int_equal(sks_signer_sign(signer, &claims, eco.now, &identity, NULL), HSM_OK);
    assert_non_null(strstr(identity, ";info=<" X5U ">;alg=ES256;ppt=shaken"));
    assert_int_equal(verdict_of(identity, eco.now), SKS_VALID);
    assert_int_equal(verdict_of(identity, eco.now + 61), SKS_E15_IAT_STALE);
    dot = strchr(strchr(identity, '.') + 1, '.');
    dot[1] = dot[1] == 'A' ? 'B' : 'A';
    assert_int_equal(verdict_of(identity, eco.now), SKS_E18_SIGNATURE);
    free(identity);
    sks_signer_free(signer);
}

static void
the_signer_tells_whose_it_is_and_how_long(void **state)
{
    struct sks_signer *signer = signer_new(eco.sp);

    (void)state;
    assert_string_equal(sks_signer_spc(signer), ECO_SPC);
    assert_string_equal(sks_signer_x5u(signer), X5U);
    assert_int_equal(sks_signer_not_after(signer), eco.now + 365 * ECO_DAY);
    sks_signer_free(signer);
}

static void
iat_is_fresh_or_nothing_is_signed(void **state)
{
    static const struct {
        int64_t offset;
        enum hsm_status wanted;
    } offsets[] = {
        {-60, HSM_OK},
        {60, HSM_OK},
        {-61, HSM_ERR_UNTRUSTED},
        {61, HSM_ERR_UNTRUSTED},
        {-86400, HSM_ERR_UNTRUSTED},
    };
    struct sks_signer *signer = signer_new(eco.sp);

    (void)state;
    for (size_t i = 0; i < COUNT(offsets); i++) {
        struct sks_claims claims = claims_new(eco.now + offsets[i].offset);
        struct hsm_reason why = {""};
        char *identity = NULL;

        assert_int_equal(sks_signer_sign(signer, &claims, eco.now, &identity, &why),
                         offsets[i].wanted);
        assert_int_equal(identity == NULL, offsets[i].wanted != HSM_OK);
        if (identity == NULL)
            assert_memory_equal(why.text, "iat: ", 5);
        free(identity);
    }
    sks_signer_free(signer);
}

static void
a_claim_that_is_not_allowed_is_not_signed(void **state)
{
    struct sks_signer *signer = signer_new(eco.sp);
    struct sks_claims claims = claims_new(eco.now);
    struct hsm_reason why = {""};
    char *identity = NULL;

    (void)state;
    claims.attest = 'D';
    assert_int_equal(sks_signer_sign(signer, &claims, eco.now, &identity, &why), HSM_ERR_MALFORMED);
    assert_memory_equal(why.text, "attest: ", 8);
    claims = claims_new(eco.now);
    claims.orig_tn = "+12155551212";
    assert_int_equal(sks_signer_sign(signer, &claims, eco.now, &identity, &why), HSM_ERR_MALFORMED);
    assert_memory_equal(why.text, "orig: ", 6);
    assert_null(identity);
    sks_signer_free(signer);
}

/* RFC 8224 section 4.1: now and iat lie within the certificate's validity. */
static void
outside_the_certificates_validity_nothing_is_signed(void **state)
{
    const time_t from = eco.now - 1000;
    const time_t until = eco.now + 1000;
    const struct {
        time_t now, iat;
        enum hsm_status wanted;
    } times[] = {
        {from, from, HSM_OK},
        {until, until, HSM_OK},
        {from - 1, from, HSM_ERR_UNTRUSTED},
        {from, from - 1, HSM_ERR_UNTRUSTED},
        {until + 1, until, HSM_ERR_UNTRUSTED},
        {until, until + 1, HSM_ERR_UNTRUSTED},
    };
    struct certs_chain *chain =
        eco_sp_chain(&eco, ECO_SPC, hsm_key_public(eco.sp_key), from, until);
    struct sks_signer *signer = signer_new(chain);

    (void)state;
    for (size_t i = 0; i < COUNT(times); i++) {
        struct sks_claims claims = claims_new(times[i].iat);
        char *identity = NULL;

        assert_int_equal(sks_signer_sign(signer, &claims, times[i].now, &identity, NULL),
                         times[i].wanted);
        free(identity);
    }
    sks_signer_free(signer);
    certs_chain_free(chain);
}

static void
a_certificate_of_another_key_is_refused_at_load(void **state)
{
    struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(
        sks_signer_new(&(struct sks_signer_config){.key = eco.ca_key, .chain = eco.sp, .x5u = X5U},
                       &signer, &why),
        HSM_ERR_UNTRUSTED);
    assert_null(signer);
    assert_non_null(strstr(why.text, "key ca"));
}

static void
a_certificate_without_tnauthlist_is_refused_at_load(void **state)
{
    struct sks_signer *signer = NULL;

    (void)state;
    assert_int_equal(
        sks_signer_new(&(struct sks_signer_config){.key = eco.ca_key, .chain = eco.ca, .x5u = X5U},
                       &signer, NULL),
        HSM_ERR_MALFORMED);
    assert_null(signer);
}

static void
an_x5u_that_no_one_could_fetch_is_refused_at_load(void **state)
{
    static const char *const urls[] = {
        "",
        "http://cr.sp.example/c.pem",
        "https://cr.sp.example",
        "https://cr.sp.example/c.pem?v=1",
        "https://cr.sp.example/c.pem>;ppt=div",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct sks_signer *signer = NULL;

        assert_int_equal(
            sks_signer_new(
                &(struct sks_signer_config){.key = eco.sp_key, .chain = eco.sp, .x5u = urls[i]},
                &signer, NULL),
            HSM_ERR_MALFORMED);
        assert_null(signer);
    }
}

/* A certificate of the SP's key for telephone numbers only, with or without constraints. */
static struct certs_chain *
tn_chain(const struct certs_constraints *constraints)
{
    const struct certs_tn_entry entries[] = {{.kind = CERTS_TN_RANGE, "12155551200", 100}};
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain;

    eco_must(certs_tnauthlist_new(entries, 1, &list, NULL), "numbers");
    chain = eco_chain(eco_issue(&eco,
                                (struct certs_issue_request){.profile = CERTS_PROFILE_TN_END_ENTITY,
                                                             .subject = {.common_name = "numbers"},
                                                             .tnauthlist = list,
                                                             .constraints = constraints},
                                hsm_key_public(eco.sp_key), eco.ca, eco.ca_key));
    certs_tnauthlist_free(list);
    return chain;
}

static enum hsm_status
sign_with(const struct certs_chain *chain, struct sks_claims claims, struct hsm_reason *why)
{
    struct sks_signer *signer = signer_new(chain);
    char *identity = NULL;
    enum hsm_status st = sks_signer_sign(signer, &claims, eco.now, &identity, why);

    assert_true((st == HSM_OK) == (identity != NULL));
    free(identity);
    sks_signer_free(signer);
    return st;
}

/* RFC 8224 section 6.1; for a diversion RFC 8946 section 4.1. */
static void
a_certificate_of_numbers_signs_for_these_alone(void **state)
{
    struct certs_chain *chain = tn_chain(NULL);
    struct sks_claims claims = claims_new(eco.now);
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(sign_with(chain, claims, &why), HSM_OK);
    claims.orig_tn = "13035550100";
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    assert_string_equal(why.text, "orig: not in the certificate's TNAuthList");
    assert_int_equal(sign_with(eco.sp, claims, &why), HSM_OK); /* an SPC covers any number */
    claims.orig_tn = NULL;
    claims.orig_uri = "sip:alice@example.com";
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    claims = (struct sks_claims){.ppt = SKS_PPT_DIV,
                                 .orig_tn = "13035550100",
                                 .dest_tn = dest,
                                 .dest_tn_count = 1,
                                 .iat = eco.now,
                                 .div_tn = "12155551213"};
    assert_int_equal(sign_with(chain, claims, &why), HSM_OK);
    claims.div_tn = "13035550100";
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    certs_chain_free(chain);
}

/* RFC 8226 section 8, RFC 9118: nothing is signed that a verifier would reject. */
static void
claim_constraints_of_the_certificate_are_kept(void **state)
{
    static const char *const must[] = {"attest", NULL};
    static const char *const levels[] = {"B", "C", NULL};
    static const struct certs_permitted_values permitted[] = {{"attest", levels}, {NULL, NULL}};
    static const char *const never[] = {"crn", NULL};
    const struct certs_claim_constraints content = {
        .must_include = must, .permitted_values = permitted, .must_exclude = never};
    struct certs_constraints *constraints = NULL;
    struct sks_claims claims = claims_new(eco.now);
    struct hsm_reason why = {""};
    struct certs_chain *chain;

    (void)state;
    eco_must(certs_constraints_new(CERTS_CONSTRAINTS_ENHANCED, &content, &constraints, &why),
             "constraints");
    chain = tn_chain(constraints);
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "attest"));
    claims.attest = 'B';
    assert_int_equal(sign_with(chain, claims, &why), HSM_OK);
    claims.crn = "because";
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "crn"));
    claims = (struct sks_claims){.ppt = SKS_PPT_DIV,
                                 .orig_tn = "12155551212",
                                 .dest_tn = dest,
                                 .dest_tn_count = 1,
                                 .iat = eco.now,
                                 .div_tn = "12155551213"};
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED); /* attest is missing */
    certs_chain_free(chain);
    certs_constraints_free(constraints);
}

/* Digest of "Q" including its quotes: printf '"Q"' | openssl dgst -binary -sha256 | base64 */
#define NAM_SHA256 "2lPcUAHvHocr1XW9ONn6/nW5oT6ZWs3v6LvRP0DhKCk"
#define NAM_SHA512                                                                                 \
    "JavSELCkYGM30FgM5z9yn8l73jAmDgcbWiwPxKhqS3iGdwJB1Q9wBEIzIVaS3BC+7vSugNaMJh3mXaHpJJdHAw"

/* Refused under a certificate that excludes the claim, and under one that permits only another
 * value. */
static void
assert_constrained(const char *claim, struct sks_claims claims)
{
    const char *const names[] = {claim, NULL};
    static const char *const other[] = {"other", NULL};
    const struct certs_permitted_values permitted[] = {{claim, other}, {NULL, NULL}};
    const struct certs_claim_constraints contents[] = {{.must_exclude = names},
                                                       {.permitted_values = permitted}};

    for (size_t i = 0; i < 2; i++) {
        struct certs_constraints *constraints = NULL;
        struct hsm_reason why = {""};
        struct certs_chain *chain;

        eco_must(
            certs_constraints_new(CERTS_CONSTRAINTS_ENHANCED, &contents[i], &constraints, &why),
            "constraints");
        chain = tn_chain(constraints);
        assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
        print_message("%s\n", why.text);
        assert_non_null(strstr(why.text, claim));
        certs_chain_free(chain);
        certs_constraints_free(constraints);
    }
}

/* No claim that any type of PASSporT carries may be overlooked. */
static void
every_claim_that_is_signed_can_be_constrained(void **state)
{
    static const struct sks_mky mky = {
        "sha-256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    static const char *const esnet[] = {"esnet.0"};
    json_t *rcd = json_pack("{s:s}", "nam", "Q");
    json_t *rcdi = json_pack("{s:s}", "/nam", "sha256-" NAM_SHA256);
    struct sks_claims kinds[3] = {claims_new(eco.now), claims_new(eco.now), claims_new(eco.now)};
    size_t count = 0;

    (void)state;
    kinds[0].rcd = rcd;
    kinds[0].rcdi = rcdi;
    kinds[0].crn = "x";
    kinds[0].mky = &mky;
    kinds[0].mky_count = 1;
    for (size_t i = 1; i < 3; i++) {
        kinds[i].attest = '\0';
        kinds[i].origid = NULL;
    }
    kinds[1].ppt = SKS_PPT_DIV;
    kinds[1].div_tn = "12155551212";
    kinds[2].ppt = SKS_PPT_RPH;
    kinds[2].rph_auth = esnet;
    kinds[2].rph_count = 1;
    kinds[2].sph = "psap-callback";
    for (size_t i = 0; i < 3; i++) {
        char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
        size_t len = 0;
        json_t *json;
        const char *claim;
        json_t *value;

        assert_int_equal(sks_claims_check(&kinds[i], NULL), HSM_OK);
        assert_int_equal(sks_claims_payload(&kinds[i], payload, &len), HSM_OK);
        json = json_loadb(payload, len, 0, NULL);
        json_object_foreach(json, claim, value)
        {
            if (strcmp(claim, "dest") == 0 || strcmp(claim, "iat") == 0 ||
                strcmp(claim, "orig") == 0)
                continue; /* cannot be excluded (RFC 9118 section 3) */
            assert_constrained(claim, kinds[i]);
            count++;
        }
        json_decref(json);
    }
    assert_int_equal(count, 9);
    json_decref(rcdi);
    json_decref(rcd);
}

/* RFC 9795: a certificate that permits certain rich call data lists its digests. */
static void
digests_are_permitted_as_canonical_json(void **state)
{
    static const char digests[] = "{\"/nam\":\"sha256-" NAM_SHA256 "\"}";
    static const char *const values[] = {digests, NULL};
    static const struct certs_permitted_values permitted[] = {{"rcdi", values}, {NULL, NULL}};
    const struct certs_claim_constraints content = {.permitted_values = permitted};
    struct certs_constraints *constraints = NULL;
    struct sks_claims claims = claims_new(eco.now);
    struct hsm_reason why = {""};
    struct certs_chain *chain;
    json_t *rcd = json_pack("{s:s}", "nam", "Q");
    json_t *rcdi = json_loads(digests, 0, NULL);

    (void)state;
    eco_must(certs_constraints_new(CERTS_CONSTRAINTS_JWT, &content, &constraints, &why),
             "constraints");
    chain = tn_chain(constraints);
    claims.rcd = rcd;
    claims.rcdi = rcdi;
    assert_int_equal(sign_with(chain, claims, &why), HSM_OK);
    json_object_set_new(rcdi, "/nam", json_string("sha512-" NAM_SHA512));
    assert_int_equal(sign_with(chain, claims, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "rcdi"));
    json_decref(rcdi);
    json_decref(rcd);
    certs_chain_free(chain);
    certs_constraints_free(constraints);
}

static void
a_key_that_is_gone_gives_no_identity(void **state)
{
    struct hsm_key *key = eco_key(&eco, "gone");
    struct certs_chain *chain = eco_sp_chain(&eco, ECO_SPC, hsm_key_public(key), 0, 0);
    struct sks_claims claims = claims_new(eco.now);
    struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    (void)state;
    assert_int_equal(
        sks_signer_new(&(struct sks_signer_config){.key = key, .chain = chain, .x5u = X5U}, &signer,
                       NULL),
        HSM_OK);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    assert_int_not_equal(sks_signer_sign(signer, &claims, eco.now, &identity, &why), HSM_OK);
    assert_null(identity);
    assert_memory_equal(why.text, "key gone: ", 10);
    sks_signer_free(signer);
    certs_chain_free(chain);
    hsm_key_free(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_signed_verifies_until_it_changes),
        cmocka_unit_test(the_signer_tells_whose_it_is_and_how_long),
        cmocka_unit_test(iat_is_fresh_or_nothing_is_signed),
        cmocka_unit_test(a_claim_that_is_not_allowed_is_not_signed),
        cmocka_unit_test(outside_the_certificates_validity_nothing_is_signed),
        cmocka_unit_test(a_certificate_of_another_key_is_refused_at_load),
        cmocka_unit_test(a_certificate_without_tnauthlist_is_refused_at_load),
        cmocka_unit_test(a_certificate_of_numbers_signs_for_these_alone),
        cmocka_unit_test(claim_constraints_of_the_certificate_are_kept),
        cmocka_unit_test(every_claim_that_is_signed_can_be_constrained),
        cmocka_unit_test(digests_are_permitted_as_canonical_json),
        cmocka_unit_test(a_key_that_is_gone_gives_no_identity),
        cmocka_unit_test(an_x5u_that_no_one_could_fetch_is_refused_at_load),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
