/* test_chain.c - mirrors certs/src/chain.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* 2026-04-01T00:00:00Z, notAfter of the leaf in sp-1234.cert.pem */
#define LEAF_NOT_AFTER ((time_t)1775001600)

static const struct {
    const char *what, *chain, *anchors;
    enum certs_purpose purpose;
    time_t now;
    enum hsm_status wanted;
    const char *reason; /* part of it */
} verdicts[] = {
    {"a good chain", "self/sp-1234.chain.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI, DATA_NOW,
     HSM_OK, NULL},
    {"the last second of notAfter", "self/sp-1234.chain.pem", "self/sti-ca-root.cert.pem",
     CERTS_FOR_STI, LEAF_NOT_AFTER, HSM_OK, NULL},
    {"one second later", "self/sp-1234.chain.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI,
     LEAF_NOT_AFTER + 1, HSM_ERR_UNTRUSTED, "expired"},
    {"before it is valid", "self/sp-1234.chain.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI,
     DATA_NOW - 30 * 86400, HSM_ERR_UNTRUSTED, "not yet valid"},
    {"another root", "self/sp-1234.chain.pem", "self/rogue-root.cert.pem", CERTS_FOR_STI, DATA_NOW,
     HSM_ERR_UNTRUSTED, "unable to get"},
    {"a rogue's chain", "self/rogue.chain.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI,
     DATA_NOW, HSM_ERR_UNTRUSTED, "self"},
    {"no intermediate", "self/sp-1234.cert.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI,
     DATA_NOW, HSM_ERR_UNTRUSTED, "unable to get"},
    {"an intermediate as anchor", "self/sp-1234.cert.pem", "self/sti-ca-int.cert.pem",
     CERTS_FOR_STI, DATA_NOW, HSM_ERR_UNTRUSTED, "unable to get"},
    {"the revoked one, of which this does not know", "self/sp-1234-revoked.chain.pem",
     "self/sti-ca-root.cert.pem", CERTS_FOR_STI, DATA_NOW, HSM_OK, NULL},
    {"a CA as the leaf", "self/sti-ca-int.cert.pem", "self/sti-ca-root.cert.pem", CERTS_FOR_STI,
     DATA_NOW, HSM_ERR_UNTRUSTED, "a CA, not an end entity"},
    {"an anchor as the leaf", "self/sti-ca-root.cert.pem", "self/sti-ca-root.cert.pem",
     CERTS_FOR_STI, DATA_NOW, HSM_ERR_UNTRUSTED, "an anchor"},
    {"the PA's signer", "self/pa-signer.cert.pem", "self/pa-root.cert.pem", CERTS_FOR_PA_SIGNING,
     DATA_NOW, HSM_OK, NULL},
    {"the PA's signer for calls", "self/pa-signer.cert.pem", "self/pa-root.cert.pem", CERTS_FOR_STI,
     DATA_NOW, HSM_ERR_UNTRUSTED, "TNAuthList"},
    {"the PA's signer for CRLs", "self/pa-signer.cert.pem", "self/pa-root.cert.pem", CERTS_FOR_CRL,
     DATA_NOW, HSM_ERR_UNTRUSTED, "cRLSign"},
    {"the CRL's signer", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CERTS_FOR_CRL, DATA_NOW,
     HSM_OK, NULL},
    {"the CRL's signer for tokens", "self/pa-crl.cert.pem", "self/pa-root.cert.pem",
     CERTS_FOR_PA_SIGNING, DATA_NOW, HSM_ERR_UNTRUSTED, "digitalSignature"},
    {"an STI-CA that issues", "self/sti-ca-int.cert.pem", "self/sti-ca-root.cert.pem",
     CERTS_FOR_ISSUING, DATA_NOW, HSM_OK, NULL},
    {"an end entity as STI-CA", "self/sp-1234.chain.pem", "self/sti-ca-root.cert.pem",
     CERTS_FOR_ISSUING, DATA_NOW, HSM_ERR_UNTRUSTED, "not a CA"},
    {"an STI-CA of another root", "self/sti-ca-int.cert.pem", "self/rogue-root.cert.pem",
     CERTS_FOR_ISSUING, DATA_NOW, HSM_ERR_UNTRUSTED, "unable to get"},
};

static void
each_chain_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(verdicts); i++) {
        struct certs_chain *chain = data_chain(verdicts[i].chain);
        struct certs_chain *anchors = data_chain(verdicts[i].anchors);
        struct hsm_reason why = {0};
        enum hsm_status st =
            certs_chain_verify(chain, anchors, verdicts[i].purpose, verdicts[i].now, &why);

        if (st != verdicts[i].wanted ||
            (verdicts[i].reason != NULL && strstr(why.text, verdicts[i].reason) == NULL))
            fail_msg("%s: %s: %s", verdicts[i].what, hsm_status_text(st), why.text);
        certs_chain_free(chain);
        certs_chain_free(anchors);
    }
}

static void
an_expired_leaf_is_named_in_the_reason(void **state)
{
    struct certs_chain *chain = data_chain("self/sp-1234-expired.cert.pem");
    struct certs_chain *rest = data_chain("self/sti-ca-int.cert.pem");
    struct certs_chain *anchors = data_chain("self/sti-ca-root.cert.pem");
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_chain_append(chain, rest), HSM_OK);
    assert_int_equal(certs_chain_verify(chain, anchors, CERTS_FOR_STI, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "CN=SHAKEN 1234"));
    assert_non_null(strstr(why.text, "expired"));
    certs_chain_free(chain);
    certs_chain_free(rest);
    certs_chain_free(anchors);
}

static void
a_flipped_bit_in_the_signature_is_noticed(void **state)
{
    struct certs_chain *chain = NULL;
    struct certs_chain *rest = data_chain("self/sti-ca-int.cert.pem");
    struct certs_chain *anchors = data_chain("self/sti-ca-root.cert.pem");
    X509 *good = data_cert("self/sp-1234.cert.pem");
    X509 *bad = NULL;
    uint8_t *der = NULL;
    size_t len;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_cert_der(good, &der, &len), HSM_OK);
    der[len - 1] ^= 1;
    assert_int_equal(certs_cert_parse_der(der, len, &bad, NULL), HSM_OK);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, bad), HSM_OK);
    assert_int_equal(certs_chain_append(chain, rest), HSM_OK);
    assert_int_equal(certs_chain_verify(chain, anchors, CERTS_FOR_STI, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "signature"));
    free(der);
    X509_free(good);
    X509_free(bad);
    certs_chain_free(chain);
    certs_chain_free(rest);
    certs_chain_free(anchors);
}

#define BC_CA                                                                                      \
    {                                                                                              \
        "basicConstraints", "critical,CA:TRUE"                                                     \
    }
#define BC_EE                                                                                      \
    {                                                                                              \
        "basicConstraints", "critical,CA:FALSE"                                                    \
    }
#define KU_CA                                                                                      \
    {                                                                                              \
        "keyUsage", "critical,keyCertSign"                                                         \
    }
#define KU_EE                                                                                      \
    {                                                                                              \
        "keyUsage", "critical,digitalSignature"                                                    \
    }
#define SKI                                                                                        \
    {                                                                                              \
        "subjectKeyIdentifier", "hash"                                                             \
    }
#define AKI                                                                                        \
    {                                                                                              \
        "authorityKeyIdentifier", "keyid"                                                          \
    }
#define TNAUTH                                                                                     \
    {                                                                                              \
        PEER_TNAUTHLIST_1234                                                                       \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }

static const struct peer_ext ca_exts[] = {BC_CA, KU_CA, SKI, END};
static const struct peer_ext good_int[] = {BC_CA, KU_CA, SKI, AKI, END};
static const struct peer_ext pathlen_root[] = {
    {"basicConstraints", "critical,CA:TRUE,pathlen:0"}, KU_CA, SKI, END};
static const struct peer_ext int_without_bc[] = {KU_CA, SKI, AKI, END};
static const struct peer_ext int_that_is_ee[] = {BC_EE, KU_CA, SKI, AKI, END};
static const struct peer_ext int_without_cert_sign[] = {
    BC_CA, {"keyUsage", "critical,digitalSignature"}, SKI, AKI, END};
static const struct peer_ext good_leaf[] = {BC_EE, KU_EE, SKI, AKI, TNAUTH, END};
static const struct peer_ext leaf_without_ku[] = {BC_EE, SKI, AKI, TNAUTH, END};
static const struct peer_ext leaf_of_old[] = {KU_EE, SKI, AKI, TNAUTH, END};
static const struct peer_ext leaf_with_bad_tnauthlist[] = {
    BC_EE, KU_EE, SKI, AKI, {"1.3.6.1.5.5.7.1.26", "DER:3006800431323334"}, END};
static const struct peer_ext leaf_with_two_tnauthlists[] = {BC_EE,  KU_EE,  SKI, AKI,
                                                            TNAUTH, TNAUTH, END};
static const struct peer_ext leaf_with_critical_tnauthlist[] = {
    BC_EE, KU_EE, SKI, AKI, {"1.3.6.1.5.5.7.1.26", "critical,DER:3008A006160431323334"}, END};
static const struct peer_ext leaf_with_unknown_critical[] = {
    BC_EE, KU_EE, SKI, AKI, TNAUTH, {"1.2.3.4.5", "critical,DER:0500"}, END};
static const struct peer_ext leaf_with_unknown[] = {
    BC_EE, KU_EE, SKI, AKI, TNAUTH, {"1.2.3.4.5", "DER:0500"}, END};

static const struct {
    const char *what;
    const char *leaf_curve;
    const struct peer_ext *root, *intermediate, *leaf;
    enum hsm_status wanted;
    const char *reason;
} forged[] = {
    {"all good", "P-256", ca_exts, good_int, good_leaf, HSM_OK, NULL},
    {"basicConstraints left out of the leaf", "P-256", ca_exts, good_int, leaf_of_old, HSM_OK,
     NULL},
    {"an unknown extension", "P-256", ca_exts, good_int, leaf_with_unknown, HSM_OK, NULL},
    {"an unknown critical extension", "P-256", ca_exts, good_int, leaf_with_unknown_critical,
     HSM_ERR_UNTRUSTED, "critical"},
    {"a critical TNAuthList", "P-256", ca_exts, good_int, leaf_with_critical_tnauthlist,
     HSM_ERR_UNTRUSTED, "critical"},
    {"an implicit TNAuthList", "P-256", ca_exts, good_int, leaf_with_bad_tnauthlist,
     HSM_ERR_UNTRUSTED, "TNAuthList"},
    {"two TNAuthLists", "P-256", ca_exts, good_int, leaf_with_two_tnauthlists, HSM_ERR_UNTRUSTED,
     "twice"},
    {"no key usage", "P-256", ca_exts, good_int, leaf_without_ku, HSM_ERR_UNTRUSTED, "key usage"},
    {"a leaf on P-384", "P-384", ca_exts, good_int, good_leaf, HSM_ERR_UNTRUSTED, "P-256"},
    {"pathlen of the root exceeded", "P-256", pathlen_root, good_int, good_leaf, HSM_ERR_UNTRUSTED,
     "path length"},
    {"an intermediate without basicConstraints", "P-256", ca_exts, int_without_bc, good_leaf,
     HSM_ERR_UNTRUSTED, "CA"},
    {"an end entity that issues", "P-256", ca_exts, int_that_is_ee, good_leaf, HSM_ERR_UNTRUSTED,
     "CA"},
    {"an intermediate without keyCertSign", "P-256", ca_exts, int_without_cert_sign, good_leaf,
     HSM_ERR_UNTRUSTED, "certificate signing"},
};

static void
judge_forged(size_t i, EVP_PKEY *root_key, EVP_PKEY *int_key)
{
    EVP_PKEY *leaf_key = peer_key_new(forged[i].leaf_curve);
    X509 *root =
        peer_cert(&(struct peer_spec){.cn = "ROOT", .key = root_key, .exts = forged[i].root});
    X509 *intermediate = peer_cert(&(struct peer_spec){.cn = "INT",
                                                       .key = int_key,
                                                       .issuer = root,
                                                       .issuer_key = root_key,
                                                       .exts = forged[i].intermediate});
    X509 *leaf = peer_cert(&(struct peer_spec){.cn = "SHAKEN 1234",
                                               .key = leaf_key,
                                               .issuer = intermediate,
                                               .issuer_key = int_key,
                                               .exts = forged[i].leaf});
    struct certs_chain *chain = NULL;
    struct certs_chain *anchors = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st;

    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_new(&anchors), HSM_OK);
    assert_int_equal(certs_chain_add(chain, leaf), HSM_OK);
    assert_int_equal(certs_chain_add(chain, intermediate), HSM_OK);
    assert_int_equal(certs_chain_add(anchors, root), HSM_OK);
    st = certs_chain_verify(chain, anchors, CERTS_FOR_STI, DATA_NOW, &why);
    if (st != forged[i].wanted ||
        (forged[i].reason != NULL && strstr(why.text, forged[i].reason) == NULL))
        fail_msg("%s: %s: %s", forged[i].what, hsm_status_text(st), why.text);
    certs_chain_free(chain);
    certs_chain_free(anchors);
    X509_free(leaf);
    X509_free(intermediate);
    X509_free(root);
    EVP_PKEY_free(leaf_key);
}

static void
each_broken_rule_has_its_verdict(void **state)
{
    EVP_PKEY *root_key = peer_key_new("P-256");
    EVP_PKEY *int_key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(forged); i++)
        judge_forged(i, root_key, int_key);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(int_key);
}

static void
a_self_signed_end_entity_among_the_anchors_signs_no_calls(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *cert =
        peer_cert(&(struct peer_spec){.cn = "SHAKEN 1234", .key = key, .exts = leaf_of_old});
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    assert_int_equal(certs_chain_verify(chain, chain, CERTS_FOR_STI, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_string_not_equal(why.text, "");
    certs_chain_free(chain);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
nothing_verifies_without_certificates_or_anchors(void **state)
{
    struct certs_chain *empty = NULL;
    struct certs_chain *chain = data_chain("self/sp-1234.chain.pem");

    (void)state;
    assert_int_equal(certs_chain_new(&empty), HSM_OK);
    assert_int_equal(certs_chain_verify(empty, chain, CERTS_FOR_STI, DATA_NOW, NULL),
                     HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_chain_verify(chain, empty, CERTS_FOR_STI, DATA_NOW, NULL),
                     HSM_ERR_UNTRUSTED);
    certs_chain_free(empty);
    certs_chain_free(chain);
}

static void
a_chain_is_written_and_read_in_order(void **state)
{
    size_t len;
    char *pem = data_text("self/sp-1234.chain.pem", &len);
    struct certs_chain *chain = NULL;
    char *again = NULL;

    (void)state;
    assert_int_equal(certs_chain_parse_pem(pem, len, CERTS_CHAIN_LEN_MAX, &chain, NULL), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    assert_null(certs_chain_get(chain, 2));
    assert_int_equal(certs_chain_not_after(chain), LEAF_NOT_AFTER);
    assert_true(certs_chain_is_in_order(chain));
    assert_int_equal(certs_chain_pem(chain, &again), HSM_OK);
    assert_string_equal(again, pem);
    free(again);
    free(pem);
    assert_int_equal(certs_chain_add(chain, certs_chain_get(chain, 0)), HSM_OK);
    assert_false(certs_chain_is_in_order(chain));
    certs_chain_free(chain);
}

#define CUT(text) "-----BEGIN CERTIFICATE-----\n" text "-----END CERTIFICATE-----\n"

static const struct {
    const char *what, *before, *after;
} around[] = {
    {"text before", "subject=SHAKEN\n", ""},
    {"text after", "", "that was it\n"},
    {"a private key after", "", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
    {"an empty certificate after", "", CUT("")},
    {"a certificate that is not base64 after", "", CUT("!!!!\n")},
    {"a certificate that is not DER after", "", CUT("AAAA\n")},
    {"headers in the block", "", CUT("Proc-Type: 4,ENCRYPTED\n\nAAAA\n")},
    {"a certificate without an end", "", "-----BEGIN CERTIFICATE-----\nAAAA\n"},
    {"an old label", "",
     "-----BEGIN X509 CERTIFICATE-----\nAAAA\n-----END X509 CERTIFICATE-----\n"},
};

static void
a_chain_from_outside_holds_certificates_and_nothing_else(void **state)
{
    char *pem = data_text("self/sp-1234.cert.pem", NULL);
    char text[4096];
    struct certs_chain *chain = NULL;
    struct hsm_reason why;

    (void)state;
    for (size_t i = 0; i < COUNT(around); i++) {
        snprintf(text, sizeof(text), "%s%s%s", around[i].before, pem, around[i].after);
        if (certs_chain_parse_pem(text, strlen(text), CERTS_CHAIN_LEN_MAX, &chain, &why) !=
            HSM_ERR_MALFORMED)
            fail_msg("%s was taken", around[i].what);
        assert_string_not_equal(why.text, "");
    }
    assert_null(chain);
    snprintf(text, sizeof(text), " \r\n%s\r\n\t\n", pem);
    assert_int_equal(certs_chain_parse_pem(text, strlen(text), 1, &chain, NULL), HSM_OK);
    certs_chain_free(chain);
    free(pem);
}

static void
a_chain_has_its_bounds(void **state)
{
    size_t len;
    char *pem = data_text("self/sp-1234.chain.pem", &len);
    char *blanks = malloc(CERTS_CHAIN_OCTETS_MAX + 1);
    struct certs_chain *chain = NULL;

    (void)state;
    assert_int_equal(certs_chain_parse_pem(pem, len, 1, &chain, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_chain_parse_pem("", 0, 8, &chain, NULL), HSM_ERR_MALFORMED);
    memset(blanks, '\n', CERTS_CHAIN_OCTETS_MAX + 1);
    memcpy(blanks, pem, len);
    assert_int_equal(certs_chain_parse_pem(blanks, CERTS_CHAIN_OCTETS_MAX + 1, 8, &chain, NULL),
                     HSM_ERR_MALFORMED);
    assert_null(chain);
    assert_int_equal(certs_chain_parse_pem(blanks, CERTS_CHAIN_OCTETS_MAX, 8, &chain, NULL),
                     HSM_OK);
    certs_chain_free(chain);
    free(blanks);
    free(pem);
}

static void
our_own_files_may_hold_text_but_no_keys(void **state)
{
    char *pem = data_text("self/sp-1234.chain.pem", NULL);
    char path[] = "/tmp/sti-chain.XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    struct certs_chain *chain = NULL;

    (void)state;
    fprintf(file, "the leaf:\n%sthat is all\n", pem);
    fclose(file);
    assert_int_equal(certs_chain_read(path, &chain), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    assert_int_equal(certs_chain_write(chain, path), HSM_OK);
    certs_chain_free(chain);
    chain = NULL;
    assert_int_equal(certs_chain_read(path, &chain), HSM_OK);
    certs_chain_free(chain);
    chain = NULL;
    assert_int_equal(certs_chain_read(data_path("self/sp-1234.key.pem"), &chain),
                     HSM_ERR_MALFORMED);
    assert_int_equal(certs_chain_read("/nonexistent", &chain), HSM_ERR_NOT_FOUND);
    assert_null(chain);
    remove(path);
    free(pem);
}

static void
showing_a_chain_tells_who_signed_what(void **state)
{
    struct certs_chain *chain = data_chain("self/sp-1234.chain.pem");
    struct certs_chain *root = data_chain("self/sti-ca-root.cert.pem");
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(certs_chain_append(chain, root), HSM_OK);
    assert_int_equal(certs_chain_show(chain, DATA_NOW, to), HSM_OK);
    fclose(to);
    assert_non_null(strstr(text, "TNAuthList   SPC 1234\n"));
    assert_non_null(strstr(text, "looks like   STI end entity\n"));
    assert_non_null(strstr(text, "looks like   STI intermediate\n"));
    assert_non_null(strstr(text, "looks like   STI root\n"));
    assert_non_null(strstr(text, "(75 days left)"));
    assert_non_null(strstr(text, "US SHAKEN CP 1.4"));
    assert_non_null(strstr(text, "CRL issuer   CN=STI-PA Example CRL,O=STI-PA Example,C=US\n"));
    assert_non_null(strstr(text, "signed by    certificate 2\n"));
    assert_non_null(strstr(text, "signed by    certificate 3\n"));
    assert_non_null(strstr(text, "signed by    itself\n"));
    free(text);
    certs_chain_free(chain);
    certs_chain_free(root);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chain_has_its_verdict),
        cmocka_unit_test(an_expired_leaf_is_named_in_the_reason),
        cmocka_unit_test(a_flipped_bit_in_the_signature_is_noticed),
        cmocka_unit_test(each_broken_rule_has_its_verdict),
        cmocka_unit_test(a_self_signed_end_entity_among_the_anchors_signs_no_calls),
        cmocka_unit_test(nothing_verifies_without_certificates_or_anchors),
        cmocka_unit_test(a_chain_is_written_and_read_in_order),
        cmocka_unit_test(a_chain_from_outside_holds_certificates_and_nothing_else),
        cmocka_unit_test(a_chain_has_its_bounds),
        cmocka_unit_test(our_own_files_may_hold_text_but_no_keys),
        cmocka_unit_test(showing_a_chain_tells_who_signed_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
