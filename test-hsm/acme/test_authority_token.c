/* test_authority_token.c - mirrors acme/src/authority_token.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/authority_token.h>
#include <acme/jwk.h>
#include <acme/jws.h>
#include <certs/cert.h>
#include <certs/issue.h>

#include "data.h"
#include "peer_jws.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NOW 1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define DAY 86400 /* seconds */
#define X5U "https://pa.example/download/v1/certificate/1.crt"

/* Our own STI-PA, with its keys in the token, in addition to that of the vectors. */
static struct {
    struct hsm_token *token;
    struct hsm_key *root_key, *signer_key, *account_key;
    struct certs_chain *anchors, *chain;
    struct certs_tnauthlist *spc;
} pa;

static const char *
member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    if (text == NULL)
        fail_msg("vector without \"%s\"", name);
    return text;
}

static struct certs_chain *
chain_from(const char *name)
{
    struct certs_chain *chain = NULL;

    assert_int_equal(certs_chain_read(data_path(name), &chain), HSM_OK);
    return chain;
}

static struct certs_tnauthlist *
spc_list(const char *spc)
{
    struct certs_tnauthlist *list = NULL;

    assert_int_equal(certs_tnauthlist_from_spc(spc, &list), HSM_OK);
    return list;
}

/* issuer NULL: the root */
static struct certs_chain *
issued(enum certs_profile profile, const char *name, struct hsm_key *subject, const X509 *issuer)
{
    struct certs_issue_request request = {
        .profile = profile,
        .subject = {.country = "US", .organization = "PA", .common_name = name},
        .public_key = hsm_key_public(subject),
        .not_before = NOW - DAY,
        .not_after = NOW + 30 * DAY,
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    X509 *cert = NULL;

    assert_int_equal(certs_serial_new(pa.token, request.serial, &request.serial_len), HSM_OK);
    if (certs_issue(&request, issuer, pa.root_key, &cert, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    X509_free(cert);
    return chain;
}

static int
set_up(void **state)
{
    (void)state;
    softhsm_start();
    pa.token = softhsm_token("pa");
    if (hsm_key_generate(pa.token, "root", &pa.root_key) != HSM_OK ||
        hsm_key_generate(pa.token, "signer", &pa.signer_key) != HSM_OK ||
        hsm_key_generate(pa.token, "account", &pa.account_key) != HSM_OK)
        return -1;
    pa.anchors = issued(CERTS_PROFILE_PA_ROOT, "PA Root", pa.root_key, NULL);
    pa.chain =
        issued(CERTS_PROFILE_PA_SIGNER, "PA Signer", pa.signer_key, certs_chain_get(pa.anchors, 0));
    pa.spc = spc_list("1234");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    certs_tnauthlist_free(pa.spc);
    certs_chain_free(pa.chain);
    certs_chain_free(pa.anchors);
    hsm_key_free(pa.account_key);
    hsm_key_free(pa.signer_key);
    hsm_key_free(pa.root_key);
    hsm_token_close(pa.token);
    softhsm_stop();
    return 0;
}

/* The verdict on the signer's path is the same when it is computed and when it comes from the
 * cache. */
static void
agrees_with_verdicts(const struct acme_authority_token *token,
                     const struct acme_authority_token_policy *policy, enum hsm_status wanted,
                     const char *reason)
{
    struct acme_authority_token_policy kept = *policy;

    assert_int_equal(
        certs_verdicts_new(&(struct certs_path_policy){.purpose = CERTS_FOR_PA_SIGNING}, 8,
                           &kept.verdicts),
        HSM_OK);
    for (int i = 0; i < 2; i++) {
        struct hsm_reason why = {""};

        assert_int_equal(acme_authority_token_check(token, &kept, &why), wanted);
        assert_string_equal(why.text, reason);
    }
    certs_verdicts_free(kept.verdicts);
}

static enum hsm_status
judge(const char *text, const struct acme_authority_token_policy *policy, struct hsm_reason *why)
{
    struct acme_authority_token *parsed = NULL;
    enum hsm_status st = acme_authority_token_parse(text, &parsed, why);

    if (st == HSM_OK) {
        st = acme_authority_token_check(parsed, policy, why);
        agrees_with_verdicts(parsed, policy, st, why->text);
    }
    acme_authority_token_free(parsed);
    return st;
}

static void
judges(const char *text, const struct acme_authority_token_policy *policy, enum hsm_status wanted,
       const char *reason)
{
    struct hsm_reason why = {""};
    enum hsm_status st = judge(text, policy, &why);

    if (st != wanted || strstr(why.text, reason) == NULL)
        fail_msg("%s: \"%s\", not %s: \"%s\"", hsm_status_text(st), why.text,
                 hsm_status_text(wanted), reason);
}

/* ---- the vectors ---- */

static struct acme_authority_token_policy
vector_policy(void)
{
    return (struct acme_authority_token_policy){
        .signer = chain_from("self/pa-signer.cert.pem"),
        .pa_anchors = chain_from("self/pa-root.cert.pem"),
        .account_key = peer_key_from_pem("self/acme-account.key.pem"),
        .identifier = spc_list("1234"),
        .now = NOW,
    };
}

static void
vector_policy_free(struct acme_authority_token_policy *policy)
{
    certs_chain_free((struct certs_chain *)policy->signer);
    certs_chain_free((struct certs_chain *)policy->pa_anchors);
    certs_tnauthlist_free((struct certs_tnauthlist *)policy->identifier);
    EVP_PKEY_free(policy->account_key);
}

/* Our reason where the vector expects "reject: ...". */
static const struct {
    const char *id;
    enum hsm_status status;
    const char *reason;
} refusals[] = {
    {"expired", HSM_ERR_UNTRUSTED, "exp:"},
    {"wrong-fingerprint", HSM_ERR_UNTRUSTED, "fingerprint:"},
    {"wrong-spc", HSM_ERR_UNTRUSTED, "tkvalue:"},
    {"untrusted-signer", HSM_ERR_UNTRUSTED, "signature"},
    {"wrong-tktype", HSM_ERR_UNSUPPORTED, "tktype:"},
    {"alg-none", HSM_ERR_UNSUPPORTED, "alg \"none\""},
    {"http-x5u", HSM_ERR_MALFORMED, "x5u:"},
    {"bad-signature", HSM_ERR_UNTRUSTED, "signature"},
};

static void
judge_vector(const json_t *vector, const struct acme_authority_token_policy *policy)
{
    const char *id = member(vector, "id");
    size_t i = 0;

    while (i < COUNT(refusals) && strcmp(refusals[i].id, id) != 0)
        i++;
    /* "reject at finalize" is accepted here; the caller learns the flag. */
    if ((strncmp(member(vector, "expect"), "reject:", 7) == 0) != (i < COUNT(refusals)))
        fail_msg("%s: %s", id, member(vector, "expect"));
    if (i < COUNT(refusals))
        judges(member(vector, "token"), policy, refusals[i].status, refusals[i].reason);
    else
        judges(member(vector, "token"), policy, HSM_OK, "");
}

static void
vectors_get_their_verdicts(void **state)
{
    json_t *vectors = data_json("self/spc_tokens.json"), *vector;
    struct acme_authority_token_policy policy = vector_policy();
    size_t i;

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(vectors, "now")), NOW);
    json_array_foreach(json_object_get(vectors, "tokens"), i, vector)
    {
        judge_vector(vector, &policy);
    }
    assert_int_equal(i, 13);
    vector_policy_free(&policy);
    json_decref(vectors);
}

static void
vectors_say_what_their_payload_says(void **state)
{
    json_t *vectors = data_json("self/spc_tokens.json"), *vector;
    struct certs_tnauthlist *spc = spc_list("1234");
    size_t i, seen = 0;

    (void)state;
    json_array_foreach(json_object_get(vectors, "tokens"), i, vector)
    {
        const json_t *payload = json_object_get(vector, "payload");
        const json_t *atc = json_object_get(payload, "atc");
        struct acme_authority_token *token = NULL;

        if (acme_authority_token_parse(member(vector, "token"), &token, NULL) != HSM_OK)
            continue;
        seen++;
        assert_string_equal(acme_authority_token_x5u(token), member(vectors, "x5u"));
        assert_null(acme_authority_token_x5c(token));
        assert_string_equal(acme_authority_token_jti(token), member(payload, "jti"));
        assert_true(acme_authority_token_exp(token) ==
                    json_integer_value(json_object_get(payload, "exp")));
        assert_int_equal(acme_authority_token_ca(token), json_is_true(json_object_get(atc, "ca")));
        assert_string_equal(acme_authority_token_fingerprint(token), member(atc, "fingerprint"));
        if (json_object_get(payload, "iss") == NULL)
            assert_null(acme_authority_token_iss(token));
        else
            assert_string_equal(acme_authority_token_iss(token), member(payload, "iss"));
        assert_int_equal(certs_tnauthlist_equals(acme_authority_token_tnauthlist(token), spc),
                         strcmp(member(vector, "id"), "wrong-spc") != 0);
        acme_authority_token_free(token);
    }
    assert_int_equal(seen, 10); /* the others cannot be parsed */
    certs_tnauthlist_free(spc);
    json_decref(vectors);
}

static void
the_token_of_the_response_is_for_what_the_request_asked(void **state)
{
    json_t *vectors = data_json("self/spc_tokens.json");
    const json_t *asked =
        json_object_get(json_object_get(json_object_get(vectors, "token_request"), "body"), "atc");
    const char *text = member(json_object_get(vectors, "token_response"), "token");
    struct acme_authority_token_policy policy = vector_policy();
    struct acme_authority_token *token = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_OK);
    assert_int_equal(acme_authority_token_check(token, &policy, &why), HSM_OK);
    assert_string_equal(acme_authority_token_fingerprint(token), member(asked, "fingerprint"));
    assert_int_equal(acme_authority_token_ca(token), json_is_true(json_object_get(asked, "ca")));
    acme_authority_token_free(token);
    vector_policy_free(&policy);
    json_decref(vectors);
}

static void
the_form_of_2017_is_refused(void **state)
{
    json_t *vectors = data_json("self/spc_tokens.json");
    const char *text = member(json_object_get(vectors, "v1_2017_form"), "token");
    struct acme_authority_token_policy policy = vector_policy();

    (void)state;
    judges(text, &policy, HSM_ERR_MALFORMED, "jti: missing");
    vector_policy_free(&policy);
    json_decref(vectors);
}

/* ---- our own STI-PA ---- */

static struct acme_authority_token_policy
own_policy(void)
{
    return (struct acme_authority_token_policy){
        .signer = pa.chain,
        .pa_anchors = pa.anchors,
        .account_key = hsm_key_public(pa.account_key),
        .identifier = pa.spc,
        .now = NOW,
    };
}

static struct acme_authority_token_request
own_request(char fingerprint[ACME_FINGERPRINT_LEN + 1], enum acme_fingerprint form)
{
    assert_int_equal(acme_fingerprint_format(hsm_key_public(pa.account_key), form, fingerprint),
                     HSM_OK);
    return (struct acme_authority_token_request){
        .iss = "https://pa.example",
        .x5u = X5U,
        .exp = NOW + 600,
        .jti = "id-1",
        .tnauthlist = pa.spc,
        .fingerprint = fingerprint,
    };
}

static void
a_token_that_we_made_is_accepted(void **state)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_authority_token_request request =
        own_request(fingerprint, ACME_FINGERPRINT_THUMBPRINT);
    struct acme_authority_token_policy policy = own_policy();
    struct acme_authority_token *token = NULL;
    struct hsm_reason why = {""};
    char *text = NULL;

    (void)state;
    request.ca = true;
    assert_int_equal(acme_authority_token_new(&request, pa.signer_key, &text), HSM_OK);
    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_OK);
    if (acme_authority_token_check(token, &policy, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_string_equal(acme_authority_token_iss(token), "https://pa.example");
    assert_string_equal(acme_authority_token_x5u(token), X5U);
    assert_string_equal(acme_authority_token_jti(token), "id-1");
    assert_true(acme_authority_token_exp(token) == NOW + 600);
    assert_true(acme_authority_token_ca(token));
    acme_authority_token_free(token);
    free(text);
}

static void
the_text_is_that_of_rfc_9448(void **state)
{
    struct acme_authority_token_request request = {.x5u = X5U,
                                                   .exp = 1640995200,
                                                   .jti = "id6098364921",
                                                   .tkvalue = "MAigBhYEMTIzNA==",
                                                   .fingerprint = "SHA256 56:3E"};
    struct acme_jws *jws = NULL;
    char *text = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(acme_authority_token_new(&request, pa.signer_key, &text), HSM_OK);
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, NULL), HSM_OK);
    assert_string_equal(acme_jws_header_text(jws, &len),
                        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"x5u\":\"" X5U "\"}");
    assert_string_equal(acme_jws_payload(jws, &len),
                        "{\"atc\":{\"ca\":false,\"fingerprint\":\"SHA256 56:3E\","
                        "\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNA==\"},"
                        "\"exp\":1640995200,\"jti\":\"id6098364921\"}");
    acme_jws_free(jws);
    free(text);
}

static void
incomplete_requests_make_no_token(void **state)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_authority_token_request bad[4];
    char *text = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        bad[i] = own_request(fingerprint, ACME_FINGERPRINT_SPKI);
    bad[0].x5u = NULL;
    bad[1].jti = NULL;
    bad[2].tnauthlist = NULL;
    bad[3].fingerprint = NULL;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(acme_authority_token_new(&bad[i], pa.signer_key, &text), HSM_ERR_USAGE);
    assert_null(text);
}

/* One good token, judged by policies that differ from the right one in one member each. */
static void
every_part_of_the_policy_counts(void **state)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_authority_token_request request = own_request(fingerprint, ACME_FINGERPRINT_SPKI);
    struct acme_authority_token_policy policy = own_policy(), changed;
    struct acme_authority_token_policy foreign = vector_policy();
    struct certs_tnauthlist *other = spc_list("5678");
    char *text = NULL;

    (void)state;
    assert_int_equal(acme_authority_token_new(&request, pa.signer_key, &text), HSM_OK);
    judges(text, &policy, HSM_OK, "");

    changed = policy;
    changed.pa_anchors = foreign.pa_anchors;
    judges(text, &changed, HSM_ERR_UNTRUSTED, "certificate \"");
    changed = policy;
    changed.signer = foreign.signer;
    judges(text, &changed, HSM_ERR_UNTRUSTED, "certificate \"");
    changed = foreign; /* a valid chain, but not the signer's */
    changed.account_key = policy.account_key;
    judges(text, &changed, HSM_ERR_UNTRUSTED, "signature does not verify");
    changed = policy;
    changed.identifier = other;
    judges(text, &changed, HSM_ERR_UNTRUSTED, "tkvalue:");
    changed = policy;
    changed.account_key = hsm_key_public(pa.signer_key);
    judges(text, &changed, HSM_ERR_UNTRUSTED, "fingerprint:");
    changed = policy;
    changed.now = NOW + 599;
    judges(text, &changed, HSM_OK, "");
    changed.now = NOW + 600;
    judges(text, &changed, HSM_ERR_UNTRUSTED, "exp:");
    changed.now = NOW + 31 * DAY; /* the certificate's validity is checked before the token's */
    judges(text, &changed, HSM_ERR_UNTRUSTED, "expired");

    free(text);
    certs_tnauthlist_free(other);
    vector_policy_free(&foreign);
}

static void
the_root_and_the_crl_signer_do_not_sign_tokens(void **state)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_authority_token_request request = own_request(fingerprint, ACME_FINGERPRINT_SPKI);
    struct acme_authority_token_policy policy = own_policy();
    struct certs_chain *crl_signer = issued(CERTS_PROFILE_PA_CRL_SIGNER, "PA CRL", pa.account_key,
                                            certs_chain_get(pa.anchors, 0));
    char *text = NULL;

    (void)state;
    assert_int_equal(acme_authority_token_new(&request, pa.root_key, &text), HSM_OK);
    policy.signer = pa.anchors;
    judges(text, &policy, HSM_ERR_UNTRUSTED, "an anchor");
    free(text);
    assert_int_equal(acme_authority_token_new(&request, pa.account_key, &text), HSM_OK);
    policy.signer = crl_signer;
    judges(text, &policy, HSM_ERR_UNTRUSTED, "key usage");
    free(text);
    certs_chain_free(crl_signer);
}

/* ---- other parties' tokens, valid and invalid ---- */

#define HEADER  "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"x5u\":\"" X5U "\"}"
#define ATC(in) "\"atc\":{\"tktype\":\"TNAuthList\"," in "}"
#define VALUE   "\"tkvalue\":\"MAigBhYEMTIzNA\""
#define EXP     "\"exp\":1768479000,"
#define JTI     "\"jti\":\"1\","

/* The claims with FP replaced by the thumbprint of the vectors' account. */
static char *
with_fingerprint(const char *form)
{
    static const char thumbprint[] = "LFB1gKGE_15CTDyu5NuDVZX7eZuEu_tS3PiHXLOrusU";
    const char *at = strstr(form, "FP");
    size_t size = strlen(form) + sizeof(thumbprint);
    char *text = malloc(size);

    assert_non_null(text);
    if (at == NULL)
        snprintf(text, size, "%s", form);
    else
        snprintf(text, size, "%.*s%s%s", (int)(at - form), form, thumbprint, at + 2);
    return text;
}

static void
judges_claims(const char *header, const char *form, enum hsm_status wanted, const char *reason)
{
    struct acme_authority_token_policy policy = vector_policy();
    EVP_PKEY *signer = peer_key_from_pem("self/pa-signer.key.pem");
    char *claims = with_fingerprint(form);
    char *text = peer_jws(signer, header, claims);

    judges(text, &policy, wanted, reason);
    free(text);
    free(claims);
    EVP_PKEY_free(signer);
    vector_policy_free(&policy);
}

static void
what_is_optional_may_be_absent(void **state)
{
    static const char *const good[] = {
        "{" EXP JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}",
        "{" EXP JTI "\"nbf\":1768478460," ATC(VALUE ",\"fingerprint\":\"FP\",\"ca\":false") "}",
        "{" EXP JTI "\"iat\":1.5,\"sub\":[]," ATC(VALUE ",\"fingerprint\":\"FP\",\"more\":1") "}",
    };
    static const char claims[] = "{" EXP JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}";

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        judges_claims(HEADER, good[i], HSM_OK, "");
    judges_claims("{\"alg\":\"ES256\",\"x5u\":\"" X5U "\"}", claims, HSM_OK, "");
    judges_claims("{\"alg\":\"ES256\",\"typ\":\"jwt\",\"x5u\":\"" X5U "\"}", claims, HSM_OK, "");
}

static void
claims_that_break_rfc_9447_are_refused(void **state)
{
    static const struct {
        const char *claims;
        enum hsm_status status;
        const char *reason;
    } bad[] = {
        {"", HSM_ERR_MALFORMED, "JSON"},
        {"[]", HSM_ERR_MALFORMED, "not an object"},
        {"{" JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED, "exp: missing"},
        {"{\"exp\":\"1768479000\"," JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED,
         "exp: not an integer"},
        {"{\"exp\":1.768479e9," JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED,
         "exp: not an integer"},
        {"{" EXP EXP JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED, "twice"},
        {"{\"exp\":1768478400," JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_UNTRUSTED,
         "exp: the SPC token has expired"},
        {"{" EXP JTI "\"nbf\":1768478461," ATC(VALUE ",\"fingerprint\":\"FP\"") "}",
         HSM_ERR_UNTRUSTED, "nbf:"},
        {"{" EXP JTI "\"nbf\":\"0\"," ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED,
         "nbf: not an integer"},
        {"{" EXP ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED, "jti: missing"},
        {"{" EXP "\"jti\":\"\"," ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED,
         "jti: not 1 to"},
        {"{" EXP JTI "\"iss\":1," ATC(VALUE ",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED,
         "iss: not a string"},
        {"{" EXP "\"jti\":\"1\"}", HSM_ERR_MALFORMED, "atc: missing"},
        {"{" EXP JTI "\"atc\":\"TNAuthList\"}", HSM_ERR_MALFORMED, "atc: not an object"},
        {"{" EXP JTI "\"atc\":{" VALUE ",\"fingerprint\":\"FP\"}}", HSM_ERR_MALFORMED,
         "tktype: missing"},
        {"{" EXP JTI "\"atc\":{\"tktype\":\"TNAuthLists\"," VALUE ",\"fingerprint\":\"FP\"}}",
         HSM_ERR_UNSUPPORTED, "\"TNAuthLists\" is not TNAuthList"},
        {"{" EXP JTI ATC("\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED, "tkvalue: missing"},
        {"{" EXP JTI ATC("\"tkvalue\":\"\",\"fingerprint\":\"FP\"") "}", HSM_ERR_MALFORMED, ""},
        {"{" EXP JTI ATC("\"tkvalue\":\"MAigBhYEMTIzNA=\",\"fingerprint\":\"FP\"") "}",
         HSM_ERR_MALFORMED, "tkvalue: not base64"},
        {"{" EXP JTI ATC("\"tkvalue\":\"MAigBhYEMTIzNAA\",\"fingerprint\":\"FP\"") "}",
         HSM_ERR_MALFORMED, ""}, /* an octet after the list */
        {"{" EXP JTI ATC(VALUE) "}", HSM_ERR_MALFORMED, "fingerprint: missing"},
        {"{" EXP JTI ATC(VALUE ",\"fingerprint\":\"\"") "}", HSM_ERR_UNTRUSTED, "fingerprint:"},
        {"{" EXP JTI ATC(VALUE ",\"fingerprint\":\"FP\",\"ca\":\"false\"") "}", HSM_ERR_MALFORMED,
         "ca: not a boolean"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        judges_claims(HEADER, bad[i].claims, bad[i].status, bad[i].reason);
}

static void
headers_that_break_rfc_9447_are_refused(void **state)
{
    static const struct {
        const char *header;
        enum hsm_status status;
        const char *reason;
    } bad[] = {
        {"{\"typ\":\"JWT\",\"x5u\":\"" X5U "\"}", HSM_ERR_MALFORMED, "alg: missing"},
        {"{\"alg\":\"HS256\",\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED, "alg \"HS256\""},
        {"{\"alg\":\"ES384\",\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED, "alg \"ES384\""},
        {"{\"alg\":\"ES256\",\"crit\":[\"x5u\"],\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED, "crit"},
        {"{\"alg\":\"ES256\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED,
         "typ"},
        {"{\"alg\":\"ES256\",\"typ\":\"JWT\"}", HSM_ERR_MALFORMED, "x5u: missing"},
        {"{\"alg\":\"ES256\",\"x5u\":\"http://pa.example/1\"}", HSM_ERR_MALFORMED, "x5u: not an"},
        {"{\"alg\":\"ES256\",\"x5u\":\"" X5U "\",\"x5c\":[\"AAAA\"]}", HSM_ERR_MALFORMED,
         "only one"},
        {"{\"alg\":\"ES256\",\"x5c\":\"AAAA\"}", HSM_ERR_MALFORMED, "x5c: not an array"},
        {"{\"alg\":\"ES256\",\"x5c\":[]}", HSM_ERR_MALFORMED, "x5c: not 1 to 8"},
        {"{\"alg\":\"ES256\",\"x5c\":[1]}", HSM_ERR_MALFORMED, "x5c: not an array of strings"},
        {"{\"alg\":\"ES256\",\"x5c\":[\"-__-\"]}", HSM_ERR_MALFORMED, "x5c: not base64"},
        {"{\"alg\":\"ES256\",\"x5c\":[\"AAAA\"]}", HSM_ERR_MALFORMED, "certificate"},
        {"{\"alg\":\"ES256\",\"x5c\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
         HSM_ERR_MALFORMED, "x5c: not 1 to 8"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        judges_claims(bad[i].header, "{" EXP JTI ATC(VALUE ",\"fingerprint\":\"FP\"") "}",
                      bad[i].status, bad[i].reason);
}

static void
x5c_carries_the_signers_certificate(void **state)
{
    static const char claims[] = "{" EXP JTI ATC(
        VALUE ",\"fingerprint\":\"LFB1gKGE_15CTDyu5NuDVZX7eZuEu_tS3PiHXLOrusU\"") "}";
    struct acme_authority_token_policy policy = vector_policy();
    EVP_PKEY *signer = peer_key_from_pem("self/pa-signer.key.pem");
    struct acme_authority_token *token = NULL;
    struct hsm_reason why = {""};
    char header[4096], *base64, *text;
    uint8_t *der = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(certs_cert_der(certs_chain_get(policy.signer, 0), &der, &len), HSM_OK);
    base64 = acme_base64_encode(der, len);
    snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"x5c\":[\"%s\"]}", base64);
    text = peer_jws(signer, header, claims);
    if (acme_authority_token_parse(text, &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_null(acme_authority_token_x5u(token));
    assert_int_equal(certs_chain_len(acme_authority_token_x5c(token)), 1);
    assert_int_equal(X509_cmp(certs_chain_get(acme_authority_token_x5c(token), 0),
                              certs_chain_get(policy.signer, 0)),
                     0);
    certs_chain_free((struct certs_chain *)policy.signer);
    policy.signer = acme_authority_token_x5c(token);
    assert_int_equal(acme_authority_token_check(token, &policy, &why), HSM_OK);
    policy.signer = NULL;
    acme_authority_token_free(token);
    free(text);
    free(base64);
    free(der);
    EVP_PKEY_free(signer);
    vector_policy_free(&policy);
}

/* A verdict is computed again for other anchors, and after the certificates have expired. */
static void
a_verdict_on_the_signer_is_not_kept_beyond_what_it_depends_on(void **state)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1], *text = NULL;
    struct acme_authority_token_request request =
        own_request(fingerprint, ACME_FINGERPRINT_THUMBPRINT);
    struct acme_authority_token_policy policy = own_policy(), vectors = vector_policy();
    time_t end = certs_chain_not_after(pa.chain);
    struct acme_authority_token *token = NULL;
    struct certs_verdicts_count count;
    struct hsm_reason why = {""};

    (void)state;
    request.exp = end + 3600;
    assert_int_equal(
        certs_verdicts_new(&(struct certs_path_policy){.purpose = CERTS_FOR_PA_SIGNING}, 8,
                           &policy.verdicts),
        HSM_OK);
    assert_int_equal(acme_authority_token_new(&request, pa.signer_key, &text), HSM_OK);
    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_OK);
    policy.now = end;
    for (int i = 0; i < 3; i++)
        assert_int_equal(acme_authority_token_check(token, &policy, &why), HSM_OK);
    certs_verdicts_count(policy.verdicts, &count);
    assert_int_equal(count.found, 2);
    policy.now = end + 1;
    assert_int_equal(acme_authority_token_check(token, &policy, &why), HSM_ERR_UNTRUSTED);
    policy.now = end;
    policy.pa_anchors = vectors.pa_anchors;
    assert_int_equal(acme_authority_token_check(token, &policy, &why), HSM_ERR_UNTRUSTED);
    certs_verdicts_free(policy.verdicts);
    acme_authority_token_free(token);
    vector_policy_free(&vectors);
    free(text);
}

static void
a_token_longer_than_its_bound_is_refused(void **state)
{
    char *text = malloc(ACME_AUTHORITY_TOKEN_MAX + 2);
    struct acme_authority_token *token = NULL;
    struct hsm_reason why = {""};

    (void)state;
    memset(text, 'A', ACME_AUTHORITY_TOKEN_MAX + 1);
    text[ACME_AUTHORITY_TOKEN_MAX + 1] = '\0';
    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "SPC token: more than 16384 characters");
    assert_null(token);
    free(text);
}

/* The RFCs abbreviate the values in their examples, so only the structure is used, with our own
 * TNAuthList. */
static void
the_shapes_of_both_rfcs_are_read(void **state)
{
    static const char *const names[] = {"token_payload_9447", "token_payload_9448"};
    json_t *examples = data_json("rfc/rfc9447_9448_examples.json");
    EVP_PKEY *signer = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        json_t *payload = json_object_get(examples, names[i]);
        json_t *atc = json_object_get(payload, "atc");
        char *header = json_dumps(json_object_get(examples, "token_header"), 0);
        struct acme_authority_token *token = NULL;
        struct hsm_reason why = {""};
        char *claims, *text;

        json_object_set_new(atc, "tkvalue",
                            json_string(i == 0 ? "MAigBhYEMTIzNA==" : "MAigBhYEMTIzNA"));
        claims = json_dumps(payload, 0);
        text = peer_jws(signer, header, claims);
        if (acme_authority_token_parse(text, &token, &why) != HSM_OK)
            fail_msg("%s: %s", names[i], why.text);
        assert_string_equal(acme_authority_token_iss(token), member(payload, "iss"));
        assert_string_equal(acme_authority_token_jti(token), "id6098364921");
        assert_string_equal(acme_authority_token_fingerprint(token), member(atc, "fingerprint"));
        assert_string_equal(certs_tnauthlist_spc(acme_authority_token_tnauthlist(token)), "1234");
        assert_false(acme_authority_token_ca(token));
        acme_authority_token_free(token);
        free(text);
        free(claims);
        free(header);
    }
    EVP_PKEY_free(signer);
    json_decref(examples);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_get_their_verdicts),
        cmocka_unit_test(vectors_say_what_their_payload_says),
        cmocka_unit_test(the_token_of_the_response_is_for_what_the_request_asked),
        cmocka_unit_test(the_form_of_2017_is_refused),
        cmocka_unit_test(a_token_that_we_made_is_accepted),
        cmocka_unit_test(the_text_is_that_of_rfc_9448),
        cmocka_unit_test(incomplete_requests_make_no_token),
        cmocka_unit_test(every_part_of_the_policy_counts),
        cmocka_unit_test(the_root_and_the_crl_signer_do_not_sign_tokens),
        cmocka_unit_test(what_is_optional_may_be_absent),
        cmocka_unit_test(claims_that_break_rfc_9447_are_refused),
        cmocka_unit_test(headers_that_break_rfc_9447_are_refused),
        cmocka_unit_test(x5c_carries_the_signers_certificate),
        cmocka_unit_test(a_verdict_on_the_signer_is_not_kept_beyond_what_it_depends_on),
        cmocka_unit_test(a_token_longer_than_its_bound_is_refused),
        cmocka_unit_test(the_shapes_of_both_rfcs_are_read),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
