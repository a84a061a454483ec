/* test_crl.c - mirrors certs/src/crl.c and crl_table.c: reading, verifying, looking up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/crl.h>

#include "crl_group.h"
#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
the_vector_reads_alike_as_pem_and_der(void **state)
{
    static const char *const files[] = {"self/sti-pa.crl.pem", "self/sti-pa.crl.der"};
    struct certs_chain *pa = data_chain("self/pa-root.cert.pem");
    struct certs_chain *by = data_chain("self/pa-crl.cert.pem");
    X509 *good = data_cert("self/sp-1234.cert.pem");
    X509 *revoked = data_cert("self/sp-1234-revoked.cert.pem");

    (void)state;
    for (size_t i = 0; i < COUNT(files); i++) {
        struct certs_crl *crl = data_crl(files[i]);

        assert_int_equal(certs_crl_number(crl), 7);
        assert_int_equal(certs_crl_this_update(crl), 1768435200);
        assert_int_equal(certs_crl_next_update(crl), 1768521600);
        assert_string_equal(certs_crl_url(crl), CRL_URL);
        assert_null(certs_crl_signer_cert_url(crl));
        assert_int_equal(certs_crl_verify(crl, by, pa, CRL_URL, DATA_NOW, NULL), HSM_OK);
        assert_false(certs_crl_has(crl, good)); /* its serial is listed for another issuer */
        assert_true(certs_crl_has(crl, revoked));
        certs_crl_free(crl);
    }
    X509_free(good);
    X509_free(revoked);
    certs_chain_free(pa);
    certs_chain_free(by);
}

static void
an_entry_inherits_the_issuer_of_the_one_before(void **state)
{
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    X509 *issuer = data_cert("self/sti-ca-int.cert.pem");
    X509 *other = data_cert("self/pa-crl.cert.pem");

    (void)state;
    assert_true(is_listed(crl, X509_get_subject_name(issuer), "443ee2399fcffb5c09c4afcb8e6eb1b7"));
    assert_false(is_listed(crl, X509_get_subject_name(other), "443ee2399fcffb5c09c4afcb8e6eb1b7"));
    assert_false(is_listed(crl, X509_get_subject_name(issuer), "443ee2399fcffb5c09c4afcb8e6eb1b8"));
    assert_false(is_listed(crl, X509_get_subject_name(issuer), "55492c1d19f42e88516b08db24a61a83"));
    X509_free(issuer);
    X509_free(other);
    certs_crl_free(crl);
}

/* "CN=A,O=B,C=C" in the most common encoding. */
static X509_NAME *
name_of(const char *text)
{
    X509_NAME *name = X509_NAME_new();
    char copy[256];

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *at = copy; *at != '\0';) {
        char *part = strrchr(copy, ',');
        char *type = part == NULL ? copy : part + 1;
        char *value = strchr(type, '=');

        *value++ = '\0';
        peer_must(
            X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8, (uint8_t *)value, -1, -1, 0) == 1,
            text);
        *(part == NULL ? copy : part) = '\0';
    }
    return name;
}

/* The entries of crl.json in the order of the CRL; an absent issuer is inherited. */
static void
each_entry_of_the_vector_is_read(void **state)
{
    json_t *vector = data_json("self/crl.json");
    const json_t *entries = json_object_get(vector, "entries");
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    X509_NAME *issuer = NULL;

    (void)state;
    assert_int_equal(certs_crl_len(crl), json_array_size(entries));
    for (size_t i = 0; i < certs_crl_len(crl); i++) {
        const json_t *wanted = json_array_get(entries, i);
        const char *name = json_string_value(json_object_get(wanted, "certificateIssuer"));
        uint8_t serial[CERTS_SERIAL_MAX];
        size_t len = data_unhex(json_string_value(json_object_get(wanted, "serial_hex")), serial,
                                sizeof(serial));
        struct certs_crl_entry entry;

        if (*name != '(') {
            X509_NAME_free(issuer);
            issuer = name_of(name);
        }
        certs_crl_get(crl, i, &entry);
        assert_int_equal(entry.serial_len, len);
        assert_memory_equal(entry.serial, serial, len);
        assert_int_equal(X509_NAME_cmp(entry.issuer, issuer), 0);
    }
    X509_NAME_free(issuer);
    certs_crl_free(crl);
    json_decref(vector);
}

/* A certificate of the vectors, or any certificate with that issuer and serial. */
static X509 *
cert_of(const json_t *expected)
{
    const char *file = json_string_value(json_object_get(expected, "cert"));
    uint8_t serial[CERTS_SERIAL_MAX];
    X509_NAME *issuer;
    X509 *cert;
    size_t len;

    if (file != NULL) {
        char path[128];

        snprintf(path, sizeof(path), "self/%s", file);
        return data_cert(path);
    }
    len = data_unhex(json_string_value(json_object_get(expected, "serial_hex")), serial,
                     sizeof(serial));
    issuer = name_of(json_string_value(json_object_get(expected, "issuer")));
    cert = cert_named(issuer, serial, len);
    X509_NAME_free(issuer);
    return cert;
}

static void
each_verdict_of_the_vector_is_ours(void **state)
{
    json_t *vector = data_json("self/crl.json");
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    const json_t *expected;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(vector, "expect"), i, expected)
    {
        X509 *cert = cert_of(expected);
        bool revoked = json_is_true(json_object_get(expected, "revoked"));
        const char *reason = json_string_value(json_object_get(expected, "reason"));
        struct hsm_reason why = {0};

        assert_int_equal(certs_crl_check(crl, cert, &why), revoked ? HSM_ERR_UNTRUSTED : HSM_OK);
        if (reason != NULL)
            assert_non_null(strstr(why.text, reason));
        X509_free(cert);
    }
    certs_crl_free(crl);
    json_decref(vector);
}

static const struct {
    const char *what, *signer, *anchors, *url;
    time_t now;
    enum hsm_status wanted;
    const char *reason;
} verdicts[] = {
    {"good", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CRL_URL, DATA_NOW, HSM_OK, NULL},
    {"no URL to compare", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", NULL, DATA_NOW, HSM_OK,
     NULL},
    {"another URL", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CRL_URL "2", DATA_NOW,
     HSM_ERR_UNTRUSTED, "another distribution point"},
    {"its last second", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CRL_URL, 1768521600,
     HSM_OK, NULL},
    {"expired", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CRL_URL, 1768521601,
     HSM_ERR_UNTRUSTED, "expired"},
    {"not yet valid", "self/pa-crl.cert.pem", "self/pa-root.cert.pem", CRL_URL, 1768435199,
     HSM_ERR_UNTRUSTED, "not yet valid"},
    {"the STI-CA's anchor", "self/pa-crl.cert.pem", "self/sti-ca-root.cert.pem", CRL_URL, DATA_NOW,
     HSM_ERR_UNTRUSTED, "unable to get"},
    {"a signer that may not sign CRLs", "self/pa-signer.cert.pem", "self/pa-root.cert.pem", CRL_URL,
     DATA_NOW, HSM_ERR_UNTRUSTED, "cRLSign"},
    {"the root as signer", "self/pa-root.cert.pem", "self/pa-root.cert.pem", CRL_URL, DATA_NOW,
     HSM_ERR_UNTRUSTED, "anchor"},
};

static void
each_signer_time_and_url_has_its_verdict(void **state)
{
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");

    (void)state;
    for (size_t i = 0; i < COUNT(verdicts); i++) {
        struct certs_chain *by = data_chain(verdicts[i].signer);
        struct certs_chain *pa = data_chain(verdicts[i].anchors);
        struct hsm_reason why = {0};
        enum hsm_status st = certs_crl_verify(crl, by, pa, verdicts[i].url, verdicts[i].now, &why);

        if (st != verdicts[i].wanted ||
            (verdicts[i].reason != NULL && strstr(why.text, verdicts[i].reason) == NULL))
            fail_msg("%s: %s: %s", verdicts[i].what, hsm_status_text(st), why.text);
        certs_chain_free(by);
        certs_chain_free(pa);
    }
    certs_crl_free(crl);
}

static void
another_signer_under_the_same_anchor_is_refused(void **state)
{
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_crl_verify(crl, signer_chain, anchors, CRL_URL, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "issuer"));
    certs_crl_free(crl);
}

static void
a_flipped_bit_in_the_signature_is_noticed(void **state)
{
    struct certs_chain *pa = data_chain("self/pa-root.cert.pem");
    struct certs_chain *by = data_chain("self/pa-crl.cert.pem");
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {0};
    size_t len;
    char *der = data_text("self/sti-pa.crl.der", &len);

    (void)state;
    der[len - 1] ^= 1;
    assert_int_equal(certs_crl_parse((uint8_t *)der, len, &crl, NULL), HSM_OK);
    assert_int_equal(certs_crl_verify(crl, by, pa, CRL_URL, DATA_NOW, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "signature"));
    certs_crl_free(crl);
    certs_chain_free(pa);
    certs_chain_free(by);
    free(der);
}

#define IDP_GOOD                                                                                   \
    {                                                                                              \
        "issuingDistributionPoint", "critical,fullname:URI:" CRL_URL ",indirectCRL:TRUE"           \
    }

#define NUMBER                                                                                     \
    {                                                                                              \
        "2.5.29.20", "DER:020101"                                                                  \
    }

#define END                                                                                        \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }

static const struct {
    const char *what;
    struct peer_ext exts[4];
    struct peer_ext entry_ext;
    bool no_next_update, version_1;
    enum hsm_status wanted;
} forged[] = {
    {"a good one", {IDP_GOOD, NUMBER, END}, END, false, false, HSM_OK},
    {"an unknown extension",
     {IDP_GOOD, NUMBER, {"1.2.3.4", "DER:0500"}, END},
     END,
     false,
     false,
     HSM_OK},
    {"an unknown critical extension",
     {IDP_GOOD, NUMBER, {"1.2.3.4", "critical,DER:0500"}, END},
     END,
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"a delta CRL",
     {IDP_GOOD, NUMBER, {"2.5.29.27", "critical,DER:020101"}, END},
     END,
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"an unknown critical extension of an entry",
     {IDP_GOOD, NUMBER, END},
     {"1.2.3.4", "critical,DER:0500"},
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"a certificateIssuer that is a URL",
     {IDP_GOOD, NUMBER, END},
     {"2.5.29.29", "critical,DER:30068604413A2F2F"},
     false,
     false,
     HSM_ERR_MALFORMED},
    {"no issuingDistributionPoint", {NUMBER, END}, END, false, false, HSM_ERR_MALFORMED},
    {"one that is not critical",
     {{"issuingDistributionPoint", "fullname:URI:" CRL_URL ",indirectCRL:TRUE"}, NUMBER, END},
     END,
     false,
     false,
     HSM_ERR_MALFORMED},
    {"one that is there twice",
     {IDP_GOOD, IDP_GOOD, NUMBER, END},
     END,
     false,
     false,
     HSM_ERR_MALFORMED},
    {"a direct CRL",
     {{"issuingDistributionPoint", "critical,fullname:URI:" CRL_URL}, NUMBER, END},
     END,
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"for CA certificates only",
     {{"issuingDistributionPoint",
       "critical,fullname:URI:" CRL_URL ",indirectCRL:TRUE,onlyCA:TRUE"},
      NUMBER,
      END},
     END,
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"for one reason only",
     {{"issuingDistributionPoint",
       "critical,fullname:URI:" CRL_URL ",indirectCRL:TRUE,onlysomereasons:keyCompromise"},
      NUMBER,
      END},
     END,
     false,
     false,
     HSM_ERR_UNSUPPORTED},
    {"no URL",
     {{"issuingDistributionPoint", "critical,indirectCRL:TRUE"}, NUMBER, END},
     END,
     false,
     false,
     HSM_ERR_MALFORMED},
    {"no number", {IDP_GOOD, END}, END, false, false, HSM_ERR_MALFORMED},
    {"no nextUpdate", {IDP_GOOD, NUMBER, END}, END, true, false, HSM_ERR_MALFORMED},
    {"version 1", {IDP_GOOD, NUMBER, END}, END, false, true, HSM_ERR_MALFORMED},
};

static X509_REVOKED *
forge_entry(const struct peer_ext *ext)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, DATA_NOW);
    X509_EXTENSION *made = X509V3_EXT_nconf(NULL, NULL, ext->oid, ext->value);

    ASN1_INTEGER_set(serial, 9);
    X509_REVOKED_set_serialNumber(entry, serial);
    X509_REVOKED_set_revocationDate(entry, time);
    assert_int_equal(X509_REVOKED_add_ext(entry, made, -1), 1);
    X509_EXTENSION_free(made);
    ASN1_TIME_free(time);
    ASN1_INTEGER_free(serial);
    return entry;
}

static void
forge_exts(X509_CRL *crl, const struct peer_ext *ext)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, NULL, NULL, NULL, crl, 0);
    X509V3_set_ctx_nodb(&ctx);
    for (; ext->oid != NULL; ext++) {
        X509_EXTENSION *made = X509V3_EXT_nconf(NULL, &ctx, ext->oid, ext->value);

        peer_must(made != NULL, ext->value);
        assert_int_equal(X509_CRL_add_ext(crl, made, -1), 1);
        X509_EXTENSION_free(made);
    }
}

static X509_CRL *
forge(size_t i, EVP_PKEY *key)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, DATA_NOW);

    X509_CRL_set_version(crl, forged[i].version_1 ? X509_CRL_VERSION_1 : X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(signer));
    X509_CRL_set1_lastUpdate(crl, time);
    if (!forged[i].no_next_update)
        X509_CRL_set1_nextUpdate(crl, time);
    forge_exts(crl, forged[i].exts);
    if (forged[i].entry_ext.oid != NULL)
        assert_int_equal(X509_CRL_add0_revoked(crl, forge_entry(&forged[i].entry_ext)), 1);
    assert_true(X509_CRL_sign(crl, key, EVP_sha256()) > 0);
    ASN1_TIME_free(time);
    return crl;
}

static void
each_broken_rule_has_its_refusal(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(forged); i++) {
        X509_CRL *made = forge(i, key);
        struct certs_crl *crl = NULL;
        struct hsm_reason why = {0};
        uint8_t *der = NULL;
        int len = i2d_X509_CRL(made, &der);
        enum hsm_status st = certs_crl_parse(der, (size_t)len, &crl, &why);

        if (st != forged[i].wanted)
            fail_msg("%s: %s: %s", forged[i].what, hsm_status_text(st), why.text);
        certs_crl_free(crl);
        OPENSSL_free(der);
        X509_CRL_free(made);
    }
    EVP_PKEY_free(key);
}

/* Sign it with any key, parse and free it. */
static enum hsm_status
parse_forged(X509_CRL *made, struct certs_crl **out, struct hsm_reason *why)
{
    EVP_PKEY *key = peer_key_new("P-256");
    uint8_t *der = NULL;
    enum hsm_status st;
    int len;

    assert_true(X509_CRL_sign(made, key, EVP_sha256()) > 0);
    len = i2d_X509_CRL(made, &der);
    st = certs_crl_parse(der, (size_t)len, out, why);
    OPENSSL_free(der);
    X509_CRL_free(made);
    EVP_PKEY_free(key);
    return st;
}

/* A CRL with the signer's name and these extensions, without entries. */
static X509_CRL *
forge_plain(const struct peer_ext *exts)
{
    X509_CRL *made = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, DATA_NOW);

    X509_CRL_set_version(made, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(made, X509_get_subject_name(signer));
    X509_CRL_set1_lastUpdate(made, time);
    X509_CRL_set1_nextUpdate(made, time);
    forge_exts(made, exts);
    ASN1_TIME_free(time);
    return made;
}

/* An unknown extension; no two have the same name. */
static X509_EXTENSION *
unknown_ext(size_t i)
{
    char oid[32];
    X509_EXTENSION *ext;

    snprintf(oid, sizeof(oid), "1.2.3.4.%zu", i);
    ext = X509V3_EXT_nconf(NULL, NULL, oid, "DER:0500");
    peer_must(ext != NULL, oid);
    return ext;
}

static enum hsm_status
parse_with_extensions(size_t of_crl, size_t of_entry, struct hsm_reason *why)
{
    static const struct peer_ext exts[] = {IDP_GOOD, NUMBER, END};
    static const struct peer_ext first = {"2.5.29.21", "DER:0A0101"};
    X509_CRL *made = forge_plain(exts);
    X509_REVOKED *entry = forge_entry(&first);
    struct certs_crl *crl = NULL;
    enum hsm_status st;

    for (size_t i = 2; i < of_crl; i++) {
        X509_EXTENSION *ext = unknown_ext(i);

        assert_int_equal(X509_CRL_add_ext(made, ext, -1), 1);
        X509_EXTENSION_free(ext);
    }
    for (size_t i = 1; i < of_entry; i++) {
        X509_EXTENSION *ext = unknown_ext(i);

        assert_int_equal(X509_REVOKED_add_ext(entry, ext, -1), 1);
        X509_EXTENSION_free(ext);
    }
    assert_int_equal(X509_CRL_add0_revoked(made, entry), 1);
    st = parse_forged(made, &crl, why);
    certs_crl_free(crl);
    return st;
}

/* A stranger could serve millions of them: they are counted before they are compared pairwise. */
static void
a_crl_and_its_entries_have_64_extensions_at_most(void **state)
{
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(parse_with_extensions(64, 64, &why), HSM_OK);
    assert_int_equal(parse_with_extensions(65, 1, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "CRL: more than 64 extensions");
    assert_int_equal(parse_with_extensions(2, 65, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "CRL entry: more than 64 extensions");
}

/* "-80" is a negative one. */
static ASN1_INTEGER *
serial_of(const char *hex)
{
    BIGNUM *number = NULL;
    ASN1_INTEGER *serial;

    peer_must(BN_hex2bn(&number, hex) > 0, hex);
    serial = BN_to_ASN1_INTEGER(number, NULL);
    BN_free(number);
    return serial;
}

static X509 *
cert_of_serial(const char *hex)
{
    ASN1_INTEGER *serial = serial_of(hex);
    X509 *cert = X509_new();

    peer_must(X509_set_issuer_name(cert, X509_get_subject_name(root)) == 1 &&
                  X509_set_serialNumber(cert, serial) == 1,
              hex);
    ASN1_INTEGER_free(serial);
    return cert;
}

#define OCTETS_19 "00112233445566778899aabbccddeeff001122"

static const struct {
    const char *hex;
    bool is_left_out;
} serials[] = {
    {"80" OCTETS_19, true}, /* a zero and 20 octets; also names the issuer for those after it */
    {"01", false},          {"7f" OCTETS_19, false}, {"01" OCTETS_19 "00", true},
    {"-02", true},          {"03", false},           {"80", false},
};

/* RFC 5280 section 4.1.2.2: a serial number that violates it must not prevent other revocations. */
static void
an_entry_whose_serial_number_no_certificate_may_have_is_left_out(void **state)
{
    static const struct peer_ext exts[] = {IDP_GOOD, NUMBER, END};
    X509_CRL *made = forge_plain(exts);
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {0};
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    for (size_t i = 0; i < COUNT(serials); i++) {
        static const struct peer_ext reason = {"2.5.29.21", "DER:0A0101"};
        X509_REVOKED *entry = forge_entry(&reason);
        ASN1_INTEGER *serial = serial_of(serials[i].hex);

        X509_REVOKED_set_serialNumber(entry, serial);
        if (i == 0) {
            GENERAL_NAMES *names = GENERAL_NAMES_new();
            GENERAL_NAME *name = GENERAL_NAME_new();

            GENERAL_NAME_set0_value(name, GEN_DIRNAME, X509_NAME_dup(X509_get_subject_name(root)));
            sk_GENERAL_NAME_push(names, name);
            assert_int_equal(X509_REVOKED_add1_ext_i2d(entry, NID_certificate_issuer, names, 1, 0),
                             1);
            GENERAL_NAMES_free(names);
        }
        ASN1_INTEGER_free(serial);
        assert_int_equal(X509_CRL_add0_revoked(made, entry), 1);
    }
    if (parse_forged(made, &crl, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_crl_len(crl), 4);
    assert_int_equal(certs_crl_show(crl, to), HSM_OK);
    fclose(to);
    assert_non_null(strstr(text, "  entries      4\n  left out     3: "));
    for (size_t i = 0; i < COUNT(serials); i++) {
        X509 *cert = cert_of_serial(serials[i].hex);

        if (certs_crl_has(crl, cert) == serials[i].is_left_out)
            fail_msg("%s", serials[i].hex);
        X509_free(cert);
    }
    free(text);
    certs_crl_free(crl);
}

/* The octets are the same, whether taken from the certificate or from its entry. */
static void
an_entry_has_the_serial_number_of_its_certificate(void **state)
{
    X509 *cert = cert_of_serial("80");
    struct certs_crl_entry entry, found, first;
    struct certs_crl_request request = {.number = 3, .entries = &entry, .count = 1};
    struct certs_crl *crl;

    (void)state;
    assert_int_equal(certs_crl_entry_of(cert, &entry, NULL), HSM_OK);
    assert_int_equal(entry.serial_len, 2);
    assert_memory_equal(entry.serial, "\x00\x80", 2);
    entry.revoked_at = DATA_NOW;
    entry.reason = 0;
    crl = make(&request);
    assert_int_equal(certs_crl_find(crl, cert, &found), HSM_OK);
    certs_crl_get(crl, 0, &first);
    assert_int_equal(found.serial_len, 2);
    assert_memory_equal(found.serial, entry.serial, 2);
    assert_int_equal(first.serial_len, 2);
    assert_memory_equal(first.serial, entry.serial, 2);
    certs_crl_free(crl);
    X509_free(cert);
}

static void
a_certificate_that_no_crl_can_have_has_no_entry(void **state)
{
    struct certs_crl_entry entry = {.serial_len = 7};

    (void)state;
    for (size_t i = 0; i < COUNT(serials); i++) {
        X509 *cert = cert_of_serial(serials[i].hex);
        struct hsm_reason why = {0};
        enum hsm_status st = certs_crl_entry_of(cert, &entry, &why);

        assert_int_equal(st, serials[i].is_left_out ? HSM_ERR_UNSUPPORTED : HSM_OK);
        if (i == 0)
            assert_int_equal(entry.serial_len, 7);
        if (serials[i].is_left_out)
            assert_non_null(strstr(why.text, serials[i].hex[0] == '-' ? "negative" : "20 octets"));
        X509_free(cert);
    }
}

/* fullName: the URIs ldap://x/ and CRL_URL; indirectCRL */
#define TWO_URLS                                                                                   \
    {                                                                                              \
        "issuingDistributionPoint",                                                                \
            "critical,DER:"                                                                        \
            "303AA035A03386096C6461703A2F2F782F862668747470733A2F2F7374692D70"                     \
            "612E6578616D706C652F646F776E6C6F61642F76312F63726C8401FF"                             \
    }

/* RFC 5280 section 6.3.3 (b) (2) (i): one name in common with the certificate is sufficient. */
static void
each_url_of_a_distribution_point_counts(void **state)
{
    static const struct {
        const char *point;
        bool covered;
    } certificates[] = {
        {"URI:" CRL_URL, true},
        {"URI:ldap://x/", true},
        {"URI:https://other.example/,URI:" CRL_URL, true},
        {"URI:https://other.example/", false},
        {"DNS:x", false},
    };
    const struct peer_ext exts[] = {TWO_URLS, NUMBER, END};
    EVP_PKEY *key = peer_key_new("P-256");
    struct certs_crl *crl = NULL;

    (void)state;
    assert_int_equal(parse_forged(forge_plain(exts), &crl, NULL), HSM_OK);
    assert_string_equal(certs_crl_url(crl), "ldap://x/");
    for (size_t i = 0; i < COUNT(certificates); i++) {
        const struct peer_ext point[] = {{"crlDistributionPoints", certificates[i].point}, END};
        X509 *cert = peer_cert(&(struct peer_spec){.cn = "SHAKEN", .key = key, .exts = point});

        if (certs_crl_covers(crl, cert) != certificates[i].covered)
            fail_msg("%s", certificates[i].point);
        X509_free(cert);
    }
    certs_crl_free(crl);
    EVP_PKEY_free(key);
}

/* The same for the CRL requested. Its signer is under an anchor, both with keys in memory. */
static void
a_crl_is_good_for_each_of_its_urls(void **state)
{
    static const struct peer_ext root_exts[] = {
        {"basicConstraints", "critical,CA:TRUE"}, {"keyUsage", "critical,keyCertSign"}, END};
    static const struct peer_ext signer_exts[] = {{"keyUsage", "critical,cRLSign"}, END};
    static const struct peer_ext exts[] = {TWO_URLS, NUMBER, END};
    static const struct {
        const char *url;
        enum hsm_status wanted;
    } urls[] = {
        {CRL_URL, HSM_OK}, {"ldap://x/", HSM_OK}, {NULL, HSM_OK}, {CRL_URL "2", HSM_ERR_UNTRUSTED}};
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *anchor = peer_cert(&(struct peer_spec){.cn = "PA", .key = key, .exts = root_exts});
    X509 *by = peer_cert(&(struct peer_spec){
        .cn = "CRL", .key = key, .issuer = anchor, .issuer_key = key, .exts = signer_exts});
    X509_CRL *made = forge_plain(exts);
    struct certs_chain *pa = NULL, *chain = NULL;
    struct certs_crl *crl = NULL;
    uint8_t *der = NULL;
    int len;

    (void)state;
    X509_CRL_set_issuer_name(made, X509_get_subject_name(by));
    assert_true(X509_CRL_sign(made, key, EVP_sha256()) > 0);
    len = i2d_X509_CRL(made, &der);
    assert_int_equal(certs_crl_parse(der, (size_t)len, &crl, NULL), HSM_OK);
    peer_must(certs_chain_new(&pa) == HSM_OK && certs_chain_add(pa, anchor) == HSM_OK &&
                  certs_chain_new(&chain) == HSM_OK && certs_chain_add(chain, by) == HSM_OK,
              "memory");
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct hsm_reason why = {0};

        if (certs_crl_verify(crl, chain, pa, urls[i].url, DATA_NOW, &why) != urls[i].wanted)
            fail_msg("%zu: %s", i, why.text);
    }
    certs_crl_free(crl);
    OPENSSL_free(der);
    X509_CRL_free(made);
    certs_chain_free(chain);
    certs_chain_free(pa);
    X509_free(by);
    X509_free(anchor);
    EVP_PKEY_free(key);
}

/* A CRL with that number (DER in hex) and thisUpdate, and with an entry for serial number 9 if
 * `entry_ext` is given. */
static enum hsm_status
forge_numbered(const char *number, time_t this_update, const struct peer_ext *entry_ext,
               struct certs_crl **out, struct hsm_reason *why)
{
    const struct peer_ext exts[] = {IDP_GOOD, {"2.5.29.20", number}, END};
    X509_CRL *made = forge_plain(exts);
    ASN1_TIME *time = ASN1_TIME_set(NULL, this_update);

    X509_CRL_set1_lastUpdate(made, time);
    if (entry_ext != NULL)
        assert_int_equal(X509_CRL_add0_revoked(made, forge_entry(entry_ext)), 1);
    ASN1_TIME_free(time);
    return parse_forged(made, out, why);
}

#define NUMBER_20 "02140102030405060708090A0B0C0D0E0F1011121314"

static const struct {
    const char *before, *after;
    int later_s; /* seconds added to thisUpdate */
    enum hsm_status wanted;
} orders[] = {
    {"DER:020105", "DER:020106", 60, HSM_OK},
    {"DER:020105", "DER:020105", 0, HSM_OK},
    {"DER:020105", "DER:020105", 60, HSM_OK},
    {"DER:020105", "DER:020105", -1, HSM_ERR_UNTRUSTED},
    {"DER:020105", "DER:020104", 60, HSM_ERR_UNTRUSTED},
    {"DER:02020100", "DER:0201FF", 60, HSM_ERR_MALFORMED}, /* negative */
    {"DER:02020100", "DER:020200FF", 60, HSM_ERR_UNTRUSTED},
    {"DER:020900FFFFFFFFFFFFFFFF", "DER:0209010000000000000000", 60, HSM_OK},
    {"DER:0209010000000000000000", "DER:020900FFFFFFFFFFFFFFFF", 60, HSM_ERR_UNTRUSTED},
    {"DER:" NUMBER_20, "DER:" NUMBER_20, 60, HSM_OK},
    {"DER:" NUMBER_20, "DER:0209010000000000000000", 60, HSM_ERR_UNTRUSTED},
    {"DER:0201FF", "DER:0215010203040506070809101112131415161718192021", 60,
     HSM_ERR_MALFORMED}, /* 21 octets */
};

static void
a_rollback_of_the_number_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(orders); i++) {
        struct certs_crl *before = NULL;
        struct certs_crl *after = NULL;
        struct hsm_reason why = {0};
        enum hsm_status st =
            forge_numbered(orders[i].after, DATA_NOW + orders[i].later_s, NULL, &after, &why);

        if (st == HSM_OK)
            st = forge_numbered(orders[i].before, DATA_NOW, NULL, &before, &why);
        if (st == HSM_OK) {
            assert_int_equal(certs_crl_check_newer(after, NULL, NULL), HSM_OK);
            st = certs_crl_check_newer(after, before, &why);
        }
        if (st != orders[i].wanted)
            fail_msg("%s after %s: %s: %s", orders[i].after, orders[i].before, hsm_status_text(st),
                     why.text);
        certs_crl_free(before);
        certs_crl_free(after);
    }
}

static void
a_number_of_more_than_64_bits_is_the_largest(void **state)
{
    struct certs_crl *crl = NULL;

    (void)state;
    assert_int_equal(forge_numbered("DER:" NUMBER_20, DATA_NOW, NULL, &crl, NULL), HSM_OK);
    assert_true(certs_crl_number(crl) == UINT64_MAX);
    certs_crl_free(crl);
}

static const struct {
    const char *der; /* the reasonCode extension */
    int reason;
    const char *text;
} reasons[] = {
    {"DER:0A0100", 0, "unspecified"},     {"DER:0A0101", 1, "keyCompromise"},
    {"DER:0A0106", 6, "certificateHold"}, {"DER:0A0107", 7, "(7)"},
    {"DER:0A0108", 8, "removeFromCRL"}, /* for delta CRLs; has no effect here */
    {"DER:0A010A", 10, "aACompromise"},   {"DER:0A010B", -1, "unknown reason"},
    {"DER:0A01FF", -1, "unknown reason"}, {"DER:020101", -1, "unknown reason"},
};

static void
an_entry_revokes_whatever_its_reason_is(void **state)
{
    const uint8_t serial[] = {9};
    X509 *cert = cert_named(X509_get_subject_name(signer), serial, 1);

    (void)state;
    for (size_t i = 0; i < COUNT(reasons); i++) {
        const struct peer_ext ext = {"2.5.29.21", reasons[i].der};
        struct certs_crl *crl = NULL;
        struct certs_crl_entry entry;
        struct hsm_reason why = {0};

        assert_int_equal(forge_numbered("DER:020101", DATA_NOW, &ext, &crl, NULL), HSM_OK);
        assert_int_equal(certs_crl_find(crl, cert, &entry), HSM_OK);
        assert_int_equal(entry.reason, reasons[i].reason);
        assert_int_equal(entry.revoked_at, DATA_NOW);
        assert_int_equal(certs_crl_check(crl, cert, &why), HSM_ERR_UNTRUSTED);
        assert_non_null(strstr(why.text, "is revoked since 2026-01-15 12:00:00 UTC ("));
        assert_non_null(strstr(why.text, reasons[i].text));
        certs_crl_free(crl);
    }
    X509_free(cert);
}

/* a cRLIssuer: directoryName CN=OTHER */
#define OTHER_ISSUER "A212A410300E310C300A06035504030C034F5448"

static const struct {
    const char *what;
    struct peer_ext ext;
    bool covered;
} points[] = {
    {"no distribution point", END, true},
    {"its URL", {"crlDistributionPoints", "URI:" CRL_URL}, true},
    {"its URL among others",
     {"crlDistributionPoints", "URI:ldap://x/,URI:https://other.example/crl,URI:" CRL_URL},
     true},
    {"another URL", {"crlDistributionPoints", "URI:" CRL_URL "2"}, false},
    {"its URL in capitals",
     {"crlDistributionPoints", "URI:HTTPS://sti-pa.example/download/v1/crl"},
     false},
    {"no URI", {"crlDistributionPoints", "DNS:sti-pa.example"}, false},
    {"another cRLIssuer alone", {"2.5.29.31", "DER:30163014" OTHER_ISSUER}, false},
    {"a list that cannot be read", {"2.5.29.31", "DER:0500"}, false},
    {"an empty list", {"2.5.29.31", "DER:3000"}, false},
    {"a point that says nothing", {"2.5.29.31", "DER:30023000"}, true},
};

static void
a_crl_is_for_certificates_that_name_it(void **state)
{
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    struct certs_crl *of_another_issuer = make(&(struct certs_crl_request){.number = 1});
    X509 *vector = data_cert("self/sp-1234.cert.pem"); /* with a cRLIssuer */
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    assert_true(certs_crl_covers(crl, vector));
    assert_false(certs_crl_covers(of_another_issuer, vector));
    for (size_t i = 0; i < COUNT(points); i++) {
        const struct peer_ext exts[] = {points[i].ext, END};
        X509 *cert = peer_cert(&(struct peer_spec){.cn = "SHAKEN 1234", .key = key, .exts = exts});

        if (certs_crl_covers(crl, cert) != points[i].covered)
            fail_msg("%s", points[i].what);
        X509_free(cert);
    }
    EVP_PKEY_free(key);
    X509_free(vector);
    certs_crl_free(of_another_issuer);
    certs_crl_free(crl);
}

static void
what_is_not_one_crl_is_refused(void **state)
{
    struct certs_crl *crl = NULL;
    size_t len;
    char *der = data_text("self/sti-pa.crl.der", &len);
    char *cert = data_text("self/sp-1234.cert.pem", NULL);

    (void)state;
    assert_int_equal(certs_crl_parse((uint8_t *)der, len - 1, &crl, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_crl_parse((uint8_t *)der, len + 1, &crl, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_crl_parse((uint8_t *)der, 0, &crl, NULL), HSM_ERR_MALFORMED);
    assert_int_equal(certs_crl_parse((uint8_t *)der, CERTS_CRL_MAX + 1, &crl, NULL),
                     HSM_ERR_MALFORMED);
    assert_int_equal(certs_crl_parse((uint8_t *)cert, strlen(cert), &crl, NULL), HSM_ERR_MALFORMED);
    assert_null(crl);
    free(cert);
    free(der);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_reads_alike_as_pem_and_der),
        cmocka_unit_test(an_entry_inherits_the_issuer_of_the_one_before),
        cmocka_unit_test(each_entry_of_the_vector_is_read),
        cmocka_unit_test(each_verdict_of_the_vector_is_ours),
        cmocka_unit_test(each_signer_time_and_url_has_its_verdict),
        cmocka_unit_test(another_signer_under_the_same_anchor_is_refused),
        cmocka_unit_test(a_flipped_bit_in_the_signature_is_noticed),
        cmocka_unit_test(each_broken_rule_has_its_refusal),
        cmocka_unit_test(a_crl_and_its_entries_have_64_extensions_at_most),
        cmocka_unit_test(an_entry_whose_serial_number_no_certificate_may_have_is_left_out),
        cmocka_unit_test(an_entry_has_the_serial_number_of_its_certificate),
        cmocka_unit_test(a_certificate_that_no_crl_can_have_has_no_entry),
        cmocka_unit_test(each_url_of_a_distribution_point_counts),
        cmocka_unit_test(a_crl_is_good_for_each_of_its_urls),
        cmocka_unit_test(a_rollback_of_the_number_is_refused),
        cmocka_unit_test(a_number_of_more_than_64_bits_is_the_largest),
        cmocka_unit_test(an_entry_revokes_whatever_its_reason_is),
        cmocka_unit_test(a_crl_is_for_certificates_that_name_it),
        cmocka_unit_test(what_is_not_one_crl_is_refused),
    };

    return cmocka_run_group_tests(tests, crl_group_start, crl_group_stop);
}
