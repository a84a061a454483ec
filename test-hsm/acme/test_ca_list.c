/* test_ca_list.c - mirrors acme/src/ca_list.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/ca_list.h>
#include <acme/jws.h>
#include <certs/issue.h>

#include "data.h"
#include "peer_jws.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NOW 1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define DAY 86400 /* seconds */
#define X5U "https://pa.example/download/v1/certificate/1.crt"

/* The STI-PA of the vectors, and a key of our own in a token. */
static struct {
    struct hsm_token *token;
    struct hsm_key *root_key, *signer_key;
    struct certs_chain *anchors, *signer, *roots;
    EVP_PKEY *key;
} pa;

static struct certs_chain *
chain_from(const char *name)
{
    struct certs_chain *chain = NULL;

    assert_int_equal(certs_chain_read(data_path(name), &chain), HSM_OK);
    return chain;
}

static int
set_up(void **state)
{
    (void)state;
    pa.anchors = chain_from("self/pa-root.cert.pem");
    pa.signer = chain_from("self/pa-signer.cert.pem");
    pa.key = peer_key_from_pem("self/pa-signer.key.pem");
    pa.roots = chain_from("self/sti-ca-root.cert.pem");
    softhsm_start();
    pa.token = softhsm_token("pa");
    if (hsm_key_generate(pa.token, "root", &pa.root_key) != HSM_OK ||
        hsm_key_generate(pa.token, "signer", &pa.signer_key) != HSM_OK)
        return -1;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    hsm_key_free(pa.signer_key);
    hsm_key_free(pa.root_key);
    hsm_token_close(pa.token);
    softhsm_stop();
    EVP_PKEY_free(pa.key);
    certs_chain_free(pa.roots);
    certs_chain_free(pa.signer);
    certs_chain_free(pa.anchors);
    return 0;
}

static enum hsm_status
judge(const char *text, uint64_t previous, time_t now, struct hsm_reason *why)
{
    struct acme_ca_list *list = NULL;
    enum hsm_status st = acme_ca_list_parse(text, strlen(text), &list, why);

    if (st == HSM_OK)
        st = acme_ca_list_check(list, pa.signer, pa.anchors, previous, now, why);
    acme_ca_list_free(list);
    return st;
}

static void
judges(const char *text, uint64_t previous, enum hsm_status wanted, const char *reason)
{
    struct hsm_reason why = {""};
    enum hsm_status st = judge(text, previous, NOW, &why);

    if (st != wanted || strstr(why.text, reason) == NULL)
        fail_msg("%s: \"%s\", not %s: \"%s\"", hsm_status_text(st), why.text,
                 hsm_status_text(wanted), reason);
}

static const char *
vector_text(const json_t *vectors, size_t i, const char *id)
{
    const json_t *vector = json_array_get(json_object_get(vectors, "lists"), i);

    assert_string_equal(json_string_value(json_object_get(vector, "id")), id);
    return json_string_value(json_object_get(vector, "jws"));
}

static void
vectors_get_their_verdicts(void **state)
{
    static const struct {
        const char *id;
        enum hsm_status status;
        const char *reason;
    } wanted[] = {
        {"ok", HSM_OK, ""},
        {"rollback", HSM_ERR_UNTRUSTED, "sequence:"},
        {"expired", HSM_ERR_UNTRUSTED, "exp:"},
        {"wrong-signer", HSM_ERR_UNTRUSTED, "signature does not verify"},
    };
    json_t *vectors = data_json("self/ca_list.json");
    json_int_t previous = json_integer_value(json_object_get(vectors, "previous_sequence"));

    (void)state;
    assert_int_equal(json_array_size(json_object_get(vectors, "lists")), COUNT(wanted));
    for (size_t i = 0; i < COUNT(wanted); i++)
        judges(vector_text(vectors, i, wanted[i].id), (uint64_t)previous, wanted[i].status,
               wanted[i].reason);
    json_decref(vectors);
}

static void
a_list_tells_its_roots(void **state)
{
    json_t *vectors = data_json("self/ca_list.json");
    const char *text = vector_text(vectors, 0, "ok");
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_ca_list_parse(text, strlen(text), &list, &why), HSM_OK);
    assert_string_equal(acme_ca_list_x5u(list),
                        "https://sti-pa.example/download/v1/certificate/certificateId_1.crt");
    assert_string_equal(acme_ca_list_text(list), text);
    assert_true(acme_ca_list_sequence(list) == 5);
    assert_true(acme_ca_list_exp(list) == 1768564800);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 1);
    assert_int_equal(
        X509_cmp(certs_chain_get(acme_ca_list_roots(list), 0), certs_chain_get(pa.roots, 0)), 0);
    acme_ca_list_free(list);
    json_decref(vectors);
}

static void
the_same_sequence_is_no_rollback(void **state)
{
    json_t *vectors = data_json("self/ca_list.json");
    const char *text = vector_text(vectors, 0, "ok");
    struct hsm_reason why = {""};

    (void)state;
    judges(text, 0, HSM_OK, "");
    judges(text, 5, HSM_OK, "");
    judges(text, 6, HSM_ERR_UNTRUSTED, "sequence:");
    judges(text, UINT64_MAX, HSM_ERR_UNTRUSTED, "sequence:");
    assert_int_equal(judge(text, 5, 1768564799, &why), HSM_OK);
    assert_int_equal(judge(text, 5, 1768564800, &why), HSM_ERR_UNTRUSTED);
    json_decref(vectors);
}

/* issuer NULL: the root */
static struct certs_chain *
issued(enum certs_profile profile, struct hsm_key *subject, const X509 *issuer)
{
    struct certs_issue_request request = {
        .profile = profile,
        .subject = {.country = "US", .organization = "PA", .common_name = "PA"},
        .public_key = hsm_key_public(subject),
        .not_before = NOW - DAY,
        .not_after = NOW + 30 * DAY,
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    X509 *cert = NULL;

    if (issuer != NULL)
        request.subject.common_name = "PA Signer";
    assert_int_equal(certs_serial_new(pa.token, request.serial, &request.serial_len), HSM_OK);
    if (certs_issue(&request, issuer, pa.root_key, &cert, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    X509_free(cert);
    return chain;
}

static void
a_list_that_we_made_is_accepted_under_our_root_alone(void **state)
{
    struct certs_chain *anchors = issued(CERTS_PROFILE_PA_ROOT, pa.root_key, NULL);
    struct certs_chain *signer =
        issued(CERTS_PROFILE_PA_SIGNER, pa.signer_key, certs_chain_get(anchors, 0));
    struct certs_chain *roots = chain_from("self/sti-ca-root.cert.pem");
    struct acme_ca_list_request request = {
        .sequence = 7, .exp = NOW + DAY, .x5u = X5U, .roots = roots};
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};
    char *text = NULL;

    (void)state;
    assert_int_equal(certs_chain_append(roots, pa.anchors), HSM_OK);
    assert_int_equal(acme_ca_list_new(&request, pa.signer_key, &text), HSM_OK);
    assert_int_equal(acme_ca_list_parse(text, strlen(text), &list, &why), HSM_OK);
    if (acme_ca_list_check(list, signer, anchors, 7, NOW, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_true(acme_ca_list_sequence(list) == 7);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(
            X509_cmp(certs_chain_get(acme_ca_list_roots(list), i), certs_chain_get(roots, i)), 0);
    assert_int_equal(acme_ca_list_check(list, signer, pa.anchors, 7, NOW, &why), HSM_ERR_UNTRUSTED);
    assert_int_equal(acme_ca_list_check(list, pa.signer, pa.anchors, 7, NOW, &why),
                     HSM_ERR_UNTRUSTED);
    acme_ca_list_free(list);
    free(text);
    certs_chain_free(roots);
    certs_chain_free(signer);
    certs_chain_free(anchors);
}

static void
a_list_without_roots_is_a_list(void **state)
{
    struct certs_chain *none = NULL;
    struct acme_ca_list_request request = {.sequence = 0, .exp = NOW + DAY, .x5u = X5U};
    struct acme_ca_list *list = NULL;
    struct acme_jws *jws = NULL;
    char *text = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(certs_chain_new(&none), HSM_OK);
    request.roots = none;
    assert_int_equal(acme_ca_list_new(&request, pa.signer_key, &text), HSM_OK);
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, NULL), HSM_OK);
    assert_string_equal(acme_jws_header_text(jws, &len),
                        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"x5u\":\"" X5U "\"}");
    assert_string_equal(acme_jws_payload(jws, &len),
                        "{\"exp\":1768564800,\"sequence\":0,\"trustList\":[],\"version\":\"1.0\"}");
    assert_int_equal(acme_ca_list_parse(text, strlen(text), &list, NULL), HSM_OK);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 0);
    acme_ca_list_free(list);
    acme_jws_free(jws);
    free(text);
    certs_chain_free(none);
}

static void
impossible_requests_make_no_list(void **state)
{
    struct acme_ca_list_request good = {
        .sequence = 1, .exp = NOW + DAY, .x5u = X5U, .roots = pa.roots};
    struct acme_ca_list_request bad = good;
    char *text = NULL;

    (void)state;
    bad.x5u = NULL;
    assert_int_equal(acme_ca_list_new(&bad, pa.signer_key, &text), HSM_ERR_USAGE);
    bad = good;
    bad.sequence = (uint64_t)INT64_MAX + 1;
    assert_int_equal(acme_ca_list_new(&bad, pa.signer_key, &text), HSM_ERR_USAGE);
    assert_null(text);
}

/* ---- other parties' lists, valid and invalid ---- */

#define HEADER "{\"alg\":\"ES256\",\"x5u\":\"" X5U "\"}"

static json_t *
good_payload(void)
{
    char *pem = data_text("self/sti-ca-root.cert.pem", NULL);
    json_t *payload = json_pack("{s:s, s:i, s:i, s:[s]}", "version", "1.0", "sequence", 5, "exp",
                                NOW + DAY, "trustList", pem);

    assert_non_null(payload);
    free(pem);
    return payload;
}

static void
judges_payload(const json_t *payload, enum hsm_status wanted, const char *reason)
{
    char *claims = json_dumps(payload, 0);
    char *text = peer_jws(pa.key, HEADER, claims);

    judges(text, 4, wanted, reason);
    free(text);
    free(claims);
}

static void
members_that_are_not_known_are_ignored(void **state)
{
    json_t *payload = good_payload();

    (void)state;
    judges_payload(payload, HSM_OK, "");
    json_object_set_new(payload, "comment", json_pack("{s:[i]}", "a", 1));
    judges_payload(payload, HSM_OK, "");
    json_decref(payload);
}

static void
members_that_are_wrong_are_refused(void **state)
{
    static const struct {
        const char *name, *value; /* JSON; NULL: absent */
        enum hsm_status status;
        const char *reason;
    } bad[] = {
        {"version", NULL, HSM_ERR_MALFORMED, "version: missing"},
        {"version", "1.0", HSM_ERR_MALFORMED, "version: not a string"},
        {"version", "\"1.1\"", HSM_ERR_UNSUPPORTED, "version: \"1.1\""},
        {"version", "\"\"", HSM_ERR_UNSUPPORTED, "version:"},
        {"sequence", NULL, HSM_ERR_MALFORMED, "sequence: missing"},
        {"sequence", "\"5\"", HSM_ERR_MALFORMED, "sequence: not an integer"},
        {"sequence", "5.0", HSM_ERR_MALFORMED, "sequence: not an integer"},
        {"sequence", "-1", HSM_ERR_MALFORMED, "sequence: negative"},
        {"sequence", "3", HSM_ERR_UNTRUSTED, "sequence: lower"},
        {"exp", NULL, HSM_ERR_MALFORMED, "exp: missing"},
        {"exp", "1768478400", HSM_ERR_UNTRUSTED, "exp:"},
        {"trustList", NULL, HSM_ERR_MALFORMED, "trustList: missing"},
        {"trustList", "{}", HSM_ERR_MALFORMED, "trustList: not an array"},
        {"trustList", "\"-----BEGIN\"", HSM_ERR_MALFORMED, "trustList: not an array"},
        {"trustList", "[1]", HSM_ERR_MALFORMED, "trustList: not an array of strings"},
        {"trustList", "[\"\"]", HSM_ERR_MALFORMED, ""},
        {"trustList", "[\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"]",
         HSM_ERR_MALFORMED, ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        json_t *payload = good_payload();

        if (bad[i].value == NULL)
            json_object_del(payload, bad[i].name);
        else
            json_object_set_new(payload, bad[i].name,
                                json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        judges_payload(payload, bad[i].status, bad[i].reason);
        json_decref(payload);
    }
}

static void
each_entry_is_one_certificate(void **state)
{
    static const char *const bad[] = {"self/sp-1234.chain.pem", "self/sti-ca-root.key.pem",
                                      "self/sp-1234.csr.pem", "self/sti-pa.crl.pem"};

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        json_t *payload = good_payload();
        char *pem = data_text(bad[i], NULL);

        json_array_append_new(json_object_get(payload, "trustList"), json_string(pem));
        judges_payload(payload, HSM_ERR_MALFORMED, "");
        free(pem);
        json_decref(payload);
    }
}

static void
a_list_of_too_many_roots_is_refused(void **state)
{
    json_t *payload = good_payload();
    json_t *list = json_object_get(payload, "trustList");

    (void)state;
    while (json_array_size(list) <= CERTS_ANCHORS_MAX)
        json_array_append_new(list, json_string(""));
    judges_payload(payload, HSM_ERR_MALFORMED, "trustList: more than 1024");
    json_decref(payload);
}

static void
headers_that_are_wrong_are_refused(void **state)
{
    static const struct {
        const char *header;
        enum hsm_status status;
        const char *reason;
    } bad[] = {
        {"{\"alg\":\"none\",\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED, "alg \"none\""},
        {"{\"alg\":\"HS256\",\"x5u\":\"" X5U "\"}", HSM_ERR_UNSUPPORTED, "alg \"HS256\""},
        {"{\"alg\":\"ES256\"}", HSM_ERR_MALFORMED, "x5u: missing"},
        {"{\"alg\":\"ES256\",\"x5u\":\"http://pa.example/1\"}", HSM_ERR_MALFORMED, "x5u: not an"},
    };
    json_t *payload = good_payload();
    char *claims = json_dumps(payload, 0);

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *text = peer_jws(pa.key, bad[i].header, claims);

        judges(text, 4, bad[i].status, bad[i].reason);
        free(text);
    }
    free(claims);
    json_decref(payload);
}

static void
a_list_longer_than_its_bound_is_refused(void **state)
{
    char *text = malloc(ACME_CA_LIST_MAX + 2);

    (void)state;
    memset(text, 'A', ACME_CA_LIST_MAX + 1);
    text[ACME_CA_LIST_MAX + 1] = '\0';
    judges(text, 0, HSM_ERR_MALFORMED, "more than 1048576 characters");
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_get_their_verdicts),
        cmocka_unit_test(a_list_tells_its_roots),
        cmocka_unit_test(the_same_sequence_is_no_rollback),
        cmocka_unit_test(a_list_that_we_made_is_accepted_under_our_root_alone),
        cmocka_unit_test(a_list_without_roots_is_a_list),
        cmocka_unit_test(impossible_requests_make_no_list),
        cmocka_unit_test(members_that_are_not_known_are_ignored),
        cmocka_unit_test(members_that_are_wrong_are_refused),
        cmocka_unit_test(each_entry_is_one_certificate),
        cmocka_unit_test(a_list_of_too_many_roots_is_refused),
        cmocka_unit_test(headers_that_are_wrong_are_refused),
        cmocka_unit_test(a_list_longer_than_its_bound_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
