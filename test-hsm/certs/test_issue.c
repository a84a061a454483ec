/* test_issue.c - mirrors certs/src/issue.c: what it encodes, and cross certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/sha.h>

#include <certs/issue.h>

#include "issue_group.h"
#include "peer_cert.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* one 12155550199, range 12155550110 x 10 */
#define NUMBERS_HEX "3023a20d160b3132313535353530313939a1123010160b313231353535353031313002010a"

/* The extensions required in each profile, in order: OID, critical, and extnValue if it is
 * fixed. */
static const struct {
    enum certs_profile profile;
    struct {
        const char *oid;
        int critical;
        const char *value_hex; /* NULL: checked elsewhere */
    } exts[10];
} expected[] = {
    {CERTS_PROFILE_STI_ROOT,
     {{"2.5.29.19", 1, "30030101ff"}, {"2.5.29.15", 1, "03020204"}, {"2.5.29.14", 0, NULL}}},
    {CERTS_PROFILE_STI_INTERMEDIATE,
     {{"2.5.29.19", 1, "30030101ff"},
      {"2.5.29.15", 1, "03020204"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"2.5.29.32", 0, "300e300c060a6086480186ff09010104"},
      {"2.5.29.31", 0, NULL}}},
    {CERTS_PROFILE_STI_END_ENTITY,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"2.5.29.32", 0, "300e300c060a6086480186ff09010104"},
      {"2.5.29.31", 0, NULL},
      {"1.3.6.1.5.5.7.1.26", 0, "3008a006160431323334"}}},
    {CERTS_PROFILE_STI_CROSS,
     {{"2.5.29.19", 1, "30030101ff"},
      {"2.5.29.15", 1, "03020204"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"2.5.29.32", 0, "300e300c060a6086480186ff09010104"},
      {"2.5.29.31", 0, NULL}}},
    {CERTS_PROFILE_TN_END_ENTITY,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"1.3.6.1.5.5.7.1.26", 0, NUMBERS_HEX},
      {"1.3.6.1.5.5.7.1.27", 0, "3016a11430123010160661747465737430060c01410c0142"}}},
    {CERTS_PROFILE_DELEGATE_CA,
     {{"2.5.29.19", 1, "30030101ff"},
      {"2.5.29.15", 1, "03020204"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"1.3.6.1.5.5.7.1.26", 0, "301ca006160431323334a1123010160b3132313535353530313030020164"}}},
    {CERTS_PROFILE_DELEGATE_END_ENTITY,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"1.3.6.1.5.5.7.1.26", 0, NUMBERS_HEX},
      {"1.3.6.1.5.5.7.1.27", 0, "3016a11430123010160661747465737430060c01410c0142"}}},
    {CERTS_PROFILE_PA_ROOT,
     {{"2.5.29.19", 1, "30030101ff"}, {"2.5.29.15", 1, "03020204"}, {"2.5.29.14", 0, NULL}}},
    {CERTS_PROFILE_PA_SIGNER,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL}}},
    {CERTS_PROFILE_PA_CRL_SIGNER,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020102"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL}}},
    {CERTS_PROFILE_TLS_ROOT,
     {{"2.5.29.19", 1, "30030101ff"}, {"2.5.29.15", 1, "03020204"}, {"2.5.29.14", 0, NULL}}},
    {CERTS_PROFILE_TLS_SERVER,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.37", 0, "300a06082b06010505070301"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL},
      {"2.5.29.17", 0,
       "3033820e7374692d63612e6578616d706c6582096c6f63616c686f737487047f000001871000000000000000000"
       "0"
       "00000000000001"}}},
    {CERTS_PROFILE_TLS_CLIENT,
     {{"2.5.29.19", 1, "3000"},
      {"2.5.29.15", 1, "03020780"},
      {"2.5.29.37", 0, "300a06082b06010505070302"},
      {"2.5.29.14", 0, NULL},
      {"2.5.29.35", 0, NULL}}},
};

static void
extension_is(X509_EXTENSION *ext, const char *oid, int critical, const char *value_hex)
{
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(ext);
    uint8_t wanted[128];
    char text[80];

    OBJ_obj2txt(text, sizeof(text), X509_EXTENSION_get_object(ext), 1);
    assert_string_equal(text, oid);
    assert_int_equal(X509_EXTENSION_get_critical(ext), critical);
    if (value_hex == NULL)
        return;
    assert_int_equal(ASN1_STRING_length(value), data_unhex(value_hex, wanted, sizeof(wanted)));
    assert_memory_equal(ASN1_STRING_get0_data(value), wanted, ASN1_STRING_length(value));
}

static void
each_profile_has_its_extensions_and_no_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(expected); i++) {
        const X509 *cert = issued[expected[i].profile];
        int n = 0;

        print_message("%s\n", certs_profile_text(expected[i].profile));
        for (; expected[i].exts[n].oid != NULL; n++)
            extension_is(X509_get_ext(cert, n), expected[i].exts[n].oid,
                         expected[i].exts[n].critical, expected[i].exts[n].value_hex);
        assert_int_equal(X509_get_ext_count(cert), n);
    }
    assert_int_equal(COUNT(expected), PROFILES);
}

static void
every_certificate_is_x509_v3_ecdsa_with_sha256(void **state)
{
    (void)state;
    for (int i = 0; i < PROFILES; i++) {
        EVP_PKEY *issuer = hsm_key_public(keys[issuer_of((enum certs_profile)i)]);
        uint8_t serial[CERTS_SERIAL_MAX];

        assert_int_equal(X509_get_version(issued[i]), X509_VERSION_3);
        assert_int_equal(X509_get_signature_nid(issued[i]), NID_ecdsa_with_SHA256);
        assert_int_equal(OBJ_obj2nid(X509_get0_tbs_sigalg(issued[i])->algorithm),
                         NID_ecdsa_with_SHA256);
        assert_int_equal(X509_verify(issued[i], issuer), 1);
        assert_true(hsm_key_matches(keys[i], certs_cert_public(issued[i])));
        assert_int_equal(certs_cert_serial(issued[i], serial), 10);
        assert_int_equal(serial[0], 0);
        assert_int_equal(serial[1], 0x80);
        assert_int_equal(certs_cert_not_before(issued[i]), DATA_NOW);
        assert_int_equal(certs_cert_not_after(issued[i]), DATA_NOW + 90 * A_DAY);
    }
}

/* The content of subjectPublicKey is the point; the identifier is its SHA-1 (RFC 5280 section
 * 4.2.1.2). */
static void
key_identifiers_are_sha1_of_the_public_key(void **state)
{
    (void)state;
    for (int i = 0; i < PROFILES; i++) {
        enum certs_profile issuer = issuer_of((enum certs_profile)i);
        const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(issued[i]);
        const ASN1_OCTET_STRING *authority = X509_get0_authority_key_id(issued[i]);
        uint8_t wanted[SHA_DIGEST_LENGTH];

        SHA1(hsm_key_point(keys[i]), HSM_P256_POINT_LEN, wanted);
        assert_int_equal(ASN1_STRING_length(own), sizeof(wanted));
        assert_memory_equal(ASN1_STRING_get0_data(own), wanted, sizeof(wanted));
        if (issuer == (enum certs_profile)i)
            assert_null(authority);
        else
            assert_int_equal(
                ASN1_OCTET_STRING_cmp(authority, X509_get0_subject_key_id(issued[issuer])), 0);
    }
}

static int
string_type(const X509_NAME *name, int nid)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1);

    return ASN1_STRING_type(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
}

static void
names_are_encoded_in_order_and_in_their_types(void **state)
{
    const X509_NAME *name = certs_cert_subject_name(issued[CERTS_PROFILE_STI_END_ENTITY]);
    X509 *cert = NULL;
    struct certs_issue_request request = good_request(CERTS_PROFILE_PA_ROOT);
    char *text = certs_name_text(name);

    (void)state;
    assert_string_equal(text, "CN=SHAKEN 1234,O=T\\C3\\A9st Telecom,C=US");
    free(text);
    assert_int_equal(string_type(name, NID_countryName), V_ASN1_PRINTABLESTRING);
    assert_int_equal(string_type(name, NID_organizationName), V_ASN1_UTF8STRING);
    assert_int_equal(string_type(name, NID_commonName), V_ASN1_UTF8STRING);

    request.subject.state = "NJ";
    request.subject.locality = "Bridgewater";
    assert_int_equal(issue(&request, &cert, NULL), HSM_OK);
    text = certs_cert_subject(cert); /* RFC 2253 writes the last one first */
    assert_string_equal(text, "CN=STI-PA Root Certificate,O=T\\C3\\A9st Telecom,L=Bridgewater,"
                              "ST=NJ,C=US");
    free(text);
    X509_free(cert);
}

/* cRLIssuer is encoded as the CRL signer's subject, whatever its order and string types. */
static void
the_crl_issuer_is_encoded_as_the_signer_encodes_itself(void **state)
{
    struct certs_issue_request request = good_request(CERTS_PROFILE_STI_END_ENTITY);
    X509_NAME *odd = X509_NAME_new();
    X509 *cert = NULL;
    CRL_DIST_POINTS *points;
    const DIST_POINT *point;
    uint8_t *wanted = NULL;
    uint8_t *found = NULL;
    size_t wanted_len;
    size_t found_len;
    char *url;

    (void)state;
    X509_NAME_add_entry_by_txt(odd, "L", V_ASN1_PRINTABLESTRING, (const uint8_t *)"Bridgewater", -1,
                               -1, 0);
    X509_NAME_add_entry_by_txt(odd, "CN", V_ASN1_T61STRING, (const uint8_t *)"STI-PA CRL", -1, -1,
                               0);
    X509_NAME_add_entry_by_txt(odd, "C", V_ASN1_PRINTABLESTRING, (const uint8_t *)"US", -1, -1, 0);
    request.crl_issuer = odd;
    assert_int_equal(issue(&request, &cert, NULL), HSM_OK);
    points = X509_get_ext_d2i(cert, NID_crl_distribution_points, NULL, NULL);
    assert_int_equal(sk_DIST_POINT_num(points), 1);
    point = sk_DIST_POINT_value(points, 0);
    assert_null(point->reasons);
    assert_int_equal(sk_GENERAL_NAME_num(point->CRLissuer), 1);
    assert_int_equal(sk_GENERAL_NAME_num(point->distpoint->name.fullname), 1);
    assert_int_equal(certs_name_der(sk_GENERAL_NAME_value(point->CRLissuer, 0)->d.directoryName,
                                    &found, &found_len),
                     HSM_OK);
    assert_int_equal(certs_name_der(odd, &wanted, &wanted_len), HSM_OK);
    assert_int_equal(found_len, wanted_len);
    assert_memory_equal(found, wanted, wanted_len);
    url = certs_cert_crl_url(cert);
    assert_string_equal(url, CRL_URL);
    free(url);
    free(wanted);
    free(found);
    CRL_DIST_POINTS_free(points);
    X509_NAME_free(odd);
    X509_free(cert);
}

static void
a_name_comes_back_from_its_der(void **state)
{
    const X509_NAME *name = certs_cert_subject_name(issued[CERTS_PROFILE_PA_CRL_SIGNER]);
    X509_NAME *again = NULL;
    uint8_t *der = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_name_der(name, &der, &len), HSM_OK);
    assert_int_equal(certs_name_parse(der, len, &again), HSM_OK);
    assert_int_equal(X509_NAME_cmp(name, again), 0);
    X509_NAME_free(again);
    again = NULL;
    assert_int_equal(certs_name_parse(der, len - 1, &again), HSM_ERR_MALFORMED);
    assert_int_equal(certs_name_parse(der, 0, &again), HSM_ERR_MALFORMED);
    assert_null(again);
    free(der);
}

static void
times_after_2049_are_generalized_time(void **state)
{
    struct certs_issue_request request = good_request(CERTS_PROFILE_STI_ROOT);
    X509 *cert = NULL;

    (void)state;
    request.not_after = (time_t)2524608000; /* 2050-01-01T00:00:00Z */
    assert_int_equal(issue(&request, &cert, NULL), HSM_OK);
    assert_int_equal(ASN1_STRING_type(X509_get0_notBefore(cert)), V_ASN1_UTCTIME);
    assert_int_equal(ASN1_STRING_type(X509_get0_notAfter(cert)), V_ASN1_GENERALIZEDTIME);
    assert_int_equal(certs_cert_not_after(cert), request.not_after);
    X509_free(cert);
}

static void
serials_come_from_the_token_and_differ(void **state)
{
    uint8_t one[CERTS_SERIAL_MAX] = {0};
    uint8_t two[CERTS_SERIAL_MAX] = {0};
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(certs_serial_new(token, one, &len), HSM_OK);
        assert_int_equal(len, 16);
        assert_true(one[0] >= 0x40 && one[0] < 0x80);
        assert_memory_not_equal(one, two, 16);
        memcpy(two, one, sizeof(two));
    }
}

static void
write_cert(char *path, size_t size, const char *name, const X509 *cert)
{
    char *pem = NULL;
    FILE *file;

    snprintf(path, size, "%s/%s", softhsm_dir(), name);
    assert_int_equal(certs_cert_pem(cert, &pem), HSM_OK);
    file = fopen(path, "w");
    fputs(pem, file);
    fclose(file);
    free(pem);
}

/* The verdict of the openssl program on chains issued here. */
static bool
openssl_verifies(enum certs_profile root, enum certs_profile intermediate, enum certs_profile leaf,
                 const char *options)
{
    char root_path[512];
    char int_path[512];
    char leaf_path[512];
    char command[2048];

    write_cert(root_path, sizeof(root_path), "root.pem", issued[root]);
    write_cert(int_path, sizeof(int_path), "int.pem", issued[intermediate]);
    write_cert(leaf_path, sizeof(leaf_path), "leaf.pem", issued[leaf]);
    snprintf(command, sizeof(command),
             "openssl verify -x509_strict -attime %lld %s -CAfile %s -untrusted %s %s >&2",
             (long long)DATA_NOW, options, root_path, int_path, leaf_path);
    return system(command) == 0;
}

static void
the_openssl_program_accepts_the_chains(void **state)
{
    (void)state;
    assert_true(openssl_verifies(CERTS_PROFILE_STI_ROOT, CERTS_PROFILE_STI_INTERMEDIATE,
                                 CERTS_PROFILE_STI_END_ENTITY, ""));
    assert_true(openssl_verifies(CERTS_PROFILE_PA_ROOT, CERTS_PROFILE_PA_ROOT,
                                 CERTS_PROFILE_PA_SIGNER, ""));
    assert_true(openssl_verifies(CERTS_PROFILE_PA_ROOT, CERTS_PROFILE_PA_ROOT,
                                 CERTS_PROFILE_PA_CRL_SIGNER, "-purpose crlsign"));
    assert_true(openssl_verifies(CERTS_PROFILE_TLS_ROOT, CERTS_PROFILE_TLS_ROOT,
                                 CERTS_PROFILE_TLS_SERVER,
                                 "-purpose sslserver -verify_hostname sti-ca.example"));
    assert_true(openssl_verifies(CERTS_PROFILE_TLS_ROOT, CERTS_PROFILE_TLS_ROOT,
                                 CERTS_PROFILE_TLS_SERVER, "-purpose sslserver -verify_ip ::1"));
    assert_true(openssl_verifies(CERTS_PROFILE_TLS_ROOT, CERTS_PROFILE_TLS_ROOT,
                                 CERTS_PROFILE_TLS_CLIENT, "-purpose sslclient"));
    assert_true(openssl_verifies(CERTS_PROFILE_STI_ROOT, CERTS_PROFILE_STI_INTERMEDIATE,
                                 CERTS_PROFILE_TN_END_ENTITY, ""));
    assert_true(openssl_verifies(CERTS_PROFILE_STI_ROOT, CERTS_PROFILE_STI_INTERMEDIATE,
                                 CERTS_PROFILE_DELEGATE_CA, ""));
    assert_true(openssl_verifies(CERTS_PROFILE_STI_INTERMEDIATE, CERTS_PROFILE_DELEGATE_CA,
                                 CERTS_PROFILE_DELEGATE_END_ENTITY, "-partial_chain"));
    assert_true(openssl_verifies(CERTS_PROFILE_STI_ROOT, CERTS_PROFILE_STI_ROOT,
                                 CERTS_PROFILE_STI_CROSS, ""));
    assert_false(openssl_verifies(CERTS_PROFILE_TLS_ROOT, CERTS_PROFILE_TLS_ROOT,
                                  CERTS_PROFILE_TLS_CLIENT, "-purpose sslserver"));
    assert_false(openssl_verifies(CERTS_PROFILE_PA_ROOT, CERTS_PROFILE_STI_INTERMEDIATE,
                                  CERTS_PROFILE_STI_END_ENTITY, ""));
}

static void
our_own_path_validation_accepts_them_too(void **state)
{
    struct certs_chain *chain = NULL;
    struct certs_chain *anchors = NULL;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_new(&anchors), HSM_OK);
    assert_int_equal(certs_chain_add(chain, issued[CERTS_PROFILE_STI_END_ENTITY]), HSM_OK);
    assert_int_equal(certs_chain_add(chain, issued[CERTS_PROFILE_STI_INTERMEDIATE]), HSM_OK);
    assert_int_equal(certs_chain_add(anchors, issued[CERTS_PROFILE_STI_ROOT]), HSM_OK);
    if (certs_chain_verify(chain, anchors, CERTS_FOR_STI, DATA_NOW, &why) != HSM_OK)
        fail_msg("%s", why.text);
    certs_chain_free(chain);
    certs_chain_free(anchors);
}

/* A key pair may have a compressed point; the certificate's is uncompressed. */
static void
a_compressed_subject_key_is_written_uncompressed(void **state)
{
    struct certs_issue_request request = good_request(CERTS_PROFILE_STI_END_ENTITY);
    EVP_PKEY *peer = peer_key_new("P-256");
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(EVP_PKEY_set_utf8_string_param(peer, "point-format", "compressed"), 1);
    request.public_key = peer;
    assert_int_equal(issue(&request, &cert, NULL), HSM_OK);
    assert_int_equal(ASN1_STRING_length(X509_get0_pubkey_bitstr(cert)), HSM_P256_POINT_LEN);
    X509_free(cert);
    EVP_PKEY_free(peer);
}

/* -- cross certificates -- */

static void
a_cross_certificate_stands_for_the_root_it_certifies(void **state)
{
    const X509 *cross = issued[X];

    (void)state;
    assert_int_equal(X509_NAME_cmp(X509_get_subject_name(cross), X509_get_subject_name(next_root)),
                     0);
    assert_int_equal(
        X509_NAME_cmp(X509_get_issuer_name(cross), X509_get_subject_name(issued[ROOT])), 0);
    assert_int_equal(ASN1_OCTET_STRING_cmp(X509_get0_subject_key_id((X509 *)cross),
                                           X509_get0_subject_key_id(next_root)),
                     0);
    assert_true(hsm_key_matches(keys[X], certs_cert_public(cross)));
}

/* A root with the old name and a new key; each certifies the other (RFC 4210 appendix D.3). */
static void
roots_of_the_same_name_certify_each_other(void **state)
{
    struct certs_issue_request request = good_request(ROOT);
    struct hsm_reason why = {0};
    X509 *same_name = NULL;
    X509 *new_with_old = NULL;
    X509 *old_with_new = NULL;

    (void)state;
    request.public_key = hsm_key_public(keys[X]);
    assert_int_equal(certs_issue(&request, NULL, keys[X], &same_name, &why), HSM_OK);
    request = good_request(X);
    request.subject_cert = same_name;
    assert_int_equal(certs_issue(&request, issued[ROOT], keys[ROOT], &new_with_old, &why), HSM_OK);
    request.subject_cert = issued[ROOT];
    assert_int_equal(certs_issue(&request, same_name, keys[X], &old_with_new, &why), HSM_OK);
    assert_int_equal(X509_self_signed(new_with_old, 1), 0);
    assert_int_equal(X509_self_signed(old_with_new, 1), 0);
    X509_free(old_with_new);
    X509_free(new_with_old);
    X509_free(same_name);
}

static void
a_root_whose_own_signature_is_broken_is_not_certified(void **state)
{
    struct certs_issue_request request = good_request(X);
    struct hsm_reason why = {0};
    uint8_t *der = NULL;
    X509 *broken = NULL;
    X509 *cert = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_cert_der(next_root, &der, &len), HSM_OK);
    der[len - 1] ^= 1; /* in the signature */
    assert_int_equal(certs_cert_parse_der(der, len, &broken, NULL), HSM_OK);
    request.subject_cert = broken;
    assert_int_equal(issue(&request, &cert, &why), HSM_ERR_USAGE);
    assert_non_null(strstr(why.text, "signed itself"));
    assert_null(cert);
    X509_free(broken);
    free(der);
}

/* -- path lengths -- */

static void
a_path_length_is_less_than_that_of_the_issuer(void **state)
{
    struct certs_issue_request request = good_request(INT);
    struct hsm_reason why = {0};
    X509 *one = NULL;
    X509 *zero = NULL;
    X509 *cert = NULL;

    (void)state;
    request.has_path_len = true;
    request.path_len = 1;
    assert_int_equal(issue(&request, &one, &why), HSM_OK);
    assert_int_equal(X509_get_pathlen(one), 1);
    assert_int_equal(certs_issue(&request, one, keys[INT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "is less"));
    request.path_len = 0;
    assert_int_equal(certs_issue(&request, one, keys[INT], &zero, &why), HSM_OK);
    assert_int_equal(X509_get_pathlen(zero), 0);
    request.has_path_len = false;
    assert_int_equal(certs_issue(&request, zero, keys[INT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "allows no CA"));
    assert_null(cert);
    X509_free(zero);
    X509_free(one);
}

static void
profiles_have_words(void **state)
{
    enum certs_profile profile;

    (void)state;
    for (int i = 0; i < PROFILES; i++) {
        assert_int_equal(certs_profile_parse(certs_profile_text((enum certs_profile)i), &profile),
                         HSM_OK);
        assert_int_equal(profile, i);
    }
    assert_int_equal(certs_profile_parse("sti", &profile), HSM_ERR_MALFORMED);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_profile_has_its_extensions_and_no_other),
        cmocka_unit_test(every_certificate_is_x509_v3_ecdsa_with_sha256),
        cmocka_unit_test(key_identifiers_are_sha1_of_the_public_key),
        cmocka_unit_test(names_are_encoded_in_order_and_in_their_types),
        cmocka_unit_test(the_crl_issuer_is_encoded_as_the_signer_encodes_itself),
        cmocka_unit_test(a_name_comes_back_from_its_der),
        cmocka_unit_test(times_after_2049_are_generalized_time),
        cmocka_unit_test(serials_come_from_the_token_and_differ),
        cmocka_unit_test(the_openssl_program_accepts_the_chains),
        cmocka_unit_test(our_own_path_validation_accepts_them_too),
        cmocka_unit_test(a_compressed_subject_key_is_written_uncompressed),
        cmocka_unit_test(a_cross_certificate_stands_for_the_root_it_certifies),
        cmocka_unit_test(roots_of_the_same_name_certify_each_other),
        cmocka_unit_test(a_root_whose_own_signature_is_broken_is_not_certified),
        cmocka_unit_test(a_path_length_is_less_than_that_of_the_issuer),
        cmocka_unit_test(profiles_have_words),
    };

    return cmocka_run_group_tests(tests, issue_group_start, issue_group_stop);
}
