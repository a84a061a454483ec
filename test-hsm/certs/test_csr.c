/* test_csr.c - mirrors certs/src/csr.c, on a throw-away SoftHSM token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include <certs/csr.h>

#include "peer_cert.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct hsm_token *token;
static struct hsm_key *key;

static int
token_up(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("csr");
    return hsm_key_generate(token, "csr-key", &key) == HSM_OK ? 0 : -1;
}

static int
token_down(void **state)
{
    (void)state;
    hsm_key_free(key);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

static const struct {
    const char *file, *spc; /* NULL: no TNAuthList */
} requests[] = {
    {"self/sp-1234.csr.pem", "1234"},
    {"self/sp-1234-wrong-spc.csr.pem", "5678"},
    {"self/sp-1234-ca-true-missing.csr.pem", NULL},
};

static void
each_request_of_the_vectors_reads_as_it_was_made(void **state)
{
    EVP_PKEY *public_key = peer_key_from_pem("self/sp-1234.key.pem");

    (void)state;
    for (size_t i = 0; i < COUNT(requests); i++) {
        struct certs_csr *csr = NULL;

        assert_int_equal(certs_csr_read(data_path(requests[i].file), &csr), HSM_OK);
        assert_int_equal(EVP_PKEY_eq(certs_csr_public(csr), public_key), 1);
        assert_false(certs_csr_is_ca(csr));
        if (requests[i].spc == NULL)
            assert_null(certs_csr_tnauthlist(csr));
        else
            assert_string_equal(certs_tnauthlist_spc(certs_csr_tnauthlist(csr)), requests[i].spc);
        assert_null(certs_csr_constraints(csr));
        certs_csr_free(csr);
    }
    EVP_PKEY_free(public_key);
}

static void
a_token_key_makes_a_request_that_openssl_accepts(void **state)
{
    struct certs_tnauthlist *list = NULL;
    struct certs_csr *csr = NULL;
    uint8_t *der = NULL;
    const uint8_t *at;
    size_t len;
    X509_REQ *req;

    (void)state;
    assert_int_equal(certs_tnauthlist_from_spc("709J", &list), HSM_OK);
    assert_int_equal(
        certs_csr_new(
            &(struct certs_csr_request){
                .subject = {.country = "US", .organization = "Tél", .common_name = "SHAKEN 709J"},
                .tnauthlist = list},
            key, &der, &len),
        HSM_OK);
    at = der;
    req = d2i_X509_REQ(NULL, &at, (long)len);
    assert_non_null(req);
    assert_int_equal(X509_REQ_verify(req, hsm_key_public(key)), 1);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 3);
    X509_REQ_free(req);

    assert_int_equal(certs_csr_parse(der, len, &csr, NULL), HSM_OK);
    assert_true(certs_tnauthlist_equals(certs_csr_tnauthlist(csr), list));
    assert_false(certs_csr_is_ca(csr));
    assert_true(hsm_key_matches(key, certs_csr_public(csr)));
    certs_csr_free(csr);
    certs_tnauthlist_free(list);
    free(der);
}

static void
a_request_may_be_for_a_ca_with_an_empty_subject(void **state)
{
    struct certs_csr *csr = NULL;
    uint8_t *der = NULL;
    size_t len;
    char *pem = NULL;

    (void)state;
    assert_int_equal(certs_csr_new(&(struct certs_csr_request){.ca = true}, key, &der, &len),
                     HSM_OK);
    assert_int_equal(certs_csr_parse(der, len, &csr, NULL), HSM_OK);
    assert_true(certs_csr_is_ca(csr));
    assert_null(certs_csr_tnauthlist(csr));
    assert_int_equal(certs_csr_pem(der, len, &pem), HSM_OK);
    assert_ptr_equal(strstr(pem, "-----BEGIN CERTIFICATE REQUEST-----\n"), pem);
    free(pem);
    free(der);
    certs_csr_free(csr);
}

static void
names_of_a_server_are_asked_for(void **state)
{
    static const char *const dns[] = {"sti-ca.example", "*.example", NULL};
    static const char *const ip[] = {"127.0.0.1", "::1", NULL};
    uint8_t *der = NULL;
    const uint8_t *at;
    size_t len;
    X509_REQ *req;
    X509_EXTENSIONS *exts;
    GENERAL_NAMES *names;

    (void)state;
    assert_int_equal(
        certs_csr_new(&(struct certs_csr_request){.dns_names = dns, .ip_addresses = ip}, key, &der,
                      &len),
        HSM_OK);
    at = der;
    req = d2i_X509_REQ(NULL, &at, (long)len);
    exts = X509_REQ_get_extensions(req);
    names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(names), 4);
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
    free(der);
}

static void
numbers_and_claim_constraints_are_asked_for(void **state)
{
    static const struct certs_tn_entry entries[] = {{CERTS_TN_ONE, "12155550100", 1},
                                                    {CERTS_TN_RANGE, "12155550200", 100}};
    static const char *const no_rph[] = {"rph", NULL};
    struct certs_tnauthlist *list = NULL;
    struct certs_constraints *constraints = NULL;
    struct certs_csr_request request = {0};
    struct certs_csr *csr = NULL;
    uint8_t *der = NULL;
    const uint8_t *wanted;
    size_t len;
    size_t wanted_len;

    (void)state;
    assert_int_equal(certs_tnauthlist_new(entries, COUNT(entries), &list, NULL), HSM_OK);
    assert_int_equal(
        certs_constraints_new(CERTS_CONSTRAINTS_ENHANCED,
                              &(struct certs_claim_constraints){.must_exclude = no_rph},
                              &constraints, NULL),
        HSM_OK);
    request.tnauthlist = list;
    request.constraints = constraints;
    assert_int_equal(certs_csr_new(&request, key, &der, &len), HSM_OK);
    assert_int_equal(certs_csr_parse(der, len, &csr, NULL), HSM_OK);
    assert_true(certs_tnauthlist_equals(certs_csr_tnauthlist(csr), list));
    assert_int_equal(certs_constraints_form(certs_csr_constraints(csr)),
                     CERTS_CONSTRAINTS_ENHANCED);
    wanted = certs_constraints_der(constraints, &wanted_len);
    assert_memory_equal(certs_constraints_der(certs_csr_constraints(csr), &len), wanted,
                        wanted_len);
    assert_int_equal(len, wanted_len);
    free(der);
    der = NULL;
    request.ca = true;
    assert_int_equal(certs_csr_new(&request, key, &der, &len), HSM_ERR_USAGE);
    assert_null(der);
    certs_csr_free(csr);
    certs_constraints_free(constraints);
    certs_tnauthlist_free(list);
}

static const struct {
    const char *what;
    struct certs_subject subject;
    const char *dns, *ip;
} unwritable[] = {
    {"a country of three letters", {.country = "USA"}, NULL, NULL},
    {"a country in small letters", {.country = "us"}, NULL, NULL},
    {"an empty organization", {.organization = ""}, NULL, NULL},
    {"a line break", {.common_name = "SHAKEN\n1234"}, NULL, NULL},
    {"what is not UTF-8", {.common_name = "\xff\xfe"}, NULL, NULL},
    {"a CN of 65 characters",
     {.common_name = "12345678901234567890123456789012345678901234567890123456789012345"},
     NULL,
     NULL},
    {"a name with a blank", {0}, "a b", NULL},
    {"a name with an empty label", {0}, "a..b", NULL},
    {"an empty name", {0}, "", NULL},
    {"a wildcard alone", {0}, "*.", NULL},
    {"two wildcards", {0}, "*.*.example", NULL},
    {"an address of three octets", {0}, NULL, "127.0.1"},
    {"an address that is a name", {0}, NULL, "localhost"},
};

static void
what_cannot_be_written_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(unwritable); i++) {
        const char *const dns[] = {unwritable[i].dns, NULL};
        const char *const ip[] = {unwritable[i].ip, NULL};
        uint8_t *der = NULL;
        size_t len;

        if (certs_csr_new(&(struct certs_csr_request){.subject = unwritable[i].subject,
                                                      .dns_names = dns,
                                                      .ip_addresses = ip},
                          key, &der, &len) != HSM_ERR_USAGE)
            fail_msg("%s was written", unwritable[i].what);
        assert_null(der);
    }
}

/* -- other parties' requests, each breaking a rule -- */

#define JWT_ATTEST      "1.3.6.1.5.5.7.1.27", "DER:3016a11430123010160661747465737430060c01410c0142"
#define ENHANCED_NO_RPH "1.3.6.1.5.5.7.1.33", "DER:300ea20c300a16037270681603737068"

struct forgery {
    const char *what;
    const char *curve;
    const char *digest;
    struct peer_ext exts[4];
    int values; /* of the extensionRequest; 0: no such attribute */
    bool flip; /* change the last octet of the signature */
    enum hsm_status wanted;
};

static const struct forgery forgeries[] = {
    {"a good one", "P-256", "SHA256", {{PEER_TNAUTHLIST_1234}}, 1, false, HSM_OK},
    {"no extensions at all", "P-256", "SHA256", {{0}}, 0, false, HSM_OK},
    {"a key on P-384", "P-384", "SHA256", {{0}}, 0, false, HSM_ERR_UNSUPPORTED},
    {"a key on secp256k1", "secp256k1", "SHA256", {{0}}, 0, false, HSM_ERR_UNSUPPORTED},
    {"ecdsa-with-SHA384", "P-256", "SHA384", {{0}}, 0, false, HSM_ERR_UNSUPPORTED},
    {"ecdsa-with-SHA1", "P-256", "SHA1", {{0}}, 0, false, HSM_ERR_UNSUPPORTED},
    {"a bad signature", "P-256", "SHA256", {{0}}, 0, true, HSM_ERR_UNTRUSTED},
    {"two TNAuthLists",
     "P-256",
     "SHA256",
     {{PEER_TNAUTHLIST_1234}, {PEER_TNAUTHLIST_1234}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"an implicit TNAuthList",
     "P-256",
     "SHA256",
     {{"1.3.6.1.5.5.7.1.26", "DER:3006800431323334"}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"claim constraints of both forms",
     "P-256",
     "SHA256",
     {{JWT_ATTEST}, {ENHANCED_NO_RPH}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"claim constraints for a CA",
     "P-256",
     "SHA256",
     {{"basicConstraints", "critical,CA:TRUE"}, {JWT_ATTEST}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"claim constraints without any",
     "P-256",
     "SHA256",
     {{"1.3.6.1.5.5.7.1.27", "DER:3000"}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"basicConstraints twice",
     "P-256",
     "SHA256",
     {{"basicConstraints", "CA:FALSE"}, {"basicConstraints", "CA:TRUE"}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"basicConstraints that are not",
     "P-256",
     "SHA256",
     {{"2.5.29.19", "DER:0500"}},
     1,
     false,
     HSM_ERR_MALFORMED},
    {"two values in the extensionRequest",
     "P-256",
     "SHA256",
     {{PEER_TNAUTHLIST_1234}},
     2,
     false,
     HSM_ERR_MALFORMED},
};

static X509_REQ *
forge(const struct forgery *forgery, EVP_PKEY *peer)
{
    X509_REQ *req = X509_REQ_new();
    X509_EXTENSIONS *exts = NULL;
    uint8_t *der = NULL;
    int len;

    for (const struct peer_ext *ext = forgery->exts; ext->oid != NULL; ext++) {
        X509_EXTENSION *made = X509V3_EXT_nconf(NULL, NULL, ext->oid, ext->value);

        assert_non_null(X509v3_add_ext(&exts, made, -1));
        X509_EXTENSION_free(made);
    }
    len = i2d_X509_EXTENSIONS(exts, &der);
    if (forgery->values > 0)
        assert_int_equal(X509_REQ_add1_attr_by_NID(req, NID_ext_req, V_ASN1_SEQUENCE, der, len), 1);
    for (int i = 1; i < forgery->values; i++)
        assert_int_equal(
            X509_ATTRIBUTE_set1_data(X509_REQ_get_attr(req, 0), V_ASN1_SEQUENCE, der, len), 1);
    assert_int_equal(X509_REQ_set_pubkey(req, peer), 1);
    assert_true(X509_REQ_sign(req, peer, EVP_get_digestbyname(forgery->digest)) > 0);
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return req;
}

static void
each_broken_rule_has_its_refusal(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(forgeries); i++) {
        EVP_PKEY *peer = peer_key_new(forgeries[i].curve);
        X509_REQ *req = forge(&forgeries[i], peer);
        struct certs_csr *csr = NULL;
        struct hsm_reason why = {0};
        uint8_t *der = NULL;
        int len = i2d_X509_REQ(req, &der);
        enum hsm_status st;

        if (forgeries[i].flip)
            der[len - 1] ^= 1;
        st = certs_csr_parse(der, (size_t)len, &csr, &why);
        if (st != forgeries[i].wanted)
            fail_msg("%s: %s: %s", forgeries[i].what, hsm_status_text(st), why.text);
        assert_int_equal(st == HSM_OK, csr != NULL);
        certs_csr_free(csr);
        OPENSSL_free(der);
        X509_REQ_free(req);
        EVP_PKEY_free(peer);
    }
}

static void
a_request_is_one_der_value_within_its_bound(void **state)
{
    uint8_t *der = NULL;
    uint8_t *more = calloc(1, CERTS_CSR_MAX + 1);
    struct certs_csr *csr = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_csr_new(&(struct certs_csr_request){0}, key, &der, &len), HSM_OK);
    memcpy(more, der, len);
    assert_int_equal(certs_csr_parse(more, len + 1, &csr, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_csr_parse(more, len - 1, &csr, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_csr_parse(more, CERTS_CSR_MAX + 1, &csr, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_csr_read(data_path("self/sp-1234.cert.pem"), &csr), HSM_ERR_MALFORMED);
    assert_int_equal(certs_csr_read("/nonexistent", &csr), HSM_ERR_NOT_FOUND);
    assert_null(csr);
    free(more);
    free(der);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_of_the_vectors_reads_as_it_was_made),
        cmocka_unit_test(a_token_key_makes_a_request_that_openssl_accepts),
        cmocka_unit_test(a_request_may_be_for_a_ca_with_an_empty_subject),
        cmocka_unit_test(names_of_a_server_are_asked_for),
        cmocka_unit_test(numbers_and_claim_constraints_are_asked_for),
        cmocka_unit_test(what_cannot_be_written_is_refused),
        cmocka_unit_test(each_broken_rule_has_its_refusal),
        cmocka_unit_test(a_request_is_one_der_value_within_its_bound),
    };

    return cmocka_run_group_tests(tests, token_up, token_down);
}
