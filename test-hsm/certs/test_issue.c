/* test_issue.c - mirrors certs/src/issue.c, on a throw-away SoftHSM token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/sha.h>

#include <certs/issue.h>

#include "peer_cert.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define CRL_URL  "https://sti-pa.example/download/v1/crl"
#define A_DAY    86400
#define PROFILES (CERTS_PROFILE_TLS_CLIENT + 1)

/* One certificate of each profile, issued once and read by the tests. */
static struct hsm_token *token;
static struct hsm_key *keys[PROFILES];
static X509 *made[PROFILES];
static struct certs_tnauthlist *spc_1234;
static struct certs_tnauthlist *delegated; /* to the delegate CA: SPC 1234 and a range */
static struct certs_tnauthlist *numbers; /* of the certificates for numbers, within `delegated` */
static struct certs_constraints *constraints;
static X509 *next_root; /* self-signed with the key of the cross certificate */

static const char *const server_dns[] = {"sti-ca.example", "localhost", NULL};
static const char *const server_ip[] = {"127.0.0.1", "::1", NULL};

/* A request that obeys every rule of its profile; each test breaks one. */
static struct certs_issue_request
good_request(enum certs_profile profile)
{
    static const char *const names[PROFILES] = {
        [CERTS_PROFILE_STI_ROOT] = "Test SHAKEN Root",
        [CERTS_PROFILE_STI_INTERMEDIATE] = "Test SHAKEN Intermediate",
        [CERTS_PROFILE_STI_END_ENTITY] = "SHAKEN 1234",
        [CERTS_PROFILE_STI_CROSS] = NULL,
        [CERTS_PROFILE_TN_END_ENTITY] = "Test School District",
        [CERTS_PROFILE_DELEGATE_CA] = "Test Delegate CA",
        [CERTS_PROFILE_DELEGATE_END_ENTITY] = "Test Customer",
        [CERTS_PROFILE_PA_ROOT] = "STI-PA Root Certificate",
        [CERTS_PROFILE_PA_SIGNER] = "STI-PA Token Signer",
        [CERTS_PROFILE_PA_CRL_SIGNER] = "STI-PA CRL",
        [CERTS_PROFILE_TLS_ROOT] = "Test TLS",
        [CERTS_PROFILE_TLS_SERVER] = "sti-ca.example",
        [CERTS_PROFILE_TLS_CLIENT] = "sp-kms",
    };
    bool is_cross = profile == CERTS_PROFILE_STI_CROSS;
    bool is_sti = is_cross || profile == CERTS_PROFILE_STI_INTERMEDIATE ||
                  profile == CERTS_PROFILE_STI_END_ENTITY;
    bool is_of_numbers =
        profile == CERTS_PROFILE_TN_END_ENTITY || profile == CERTS_PROFILE_DELEGATE_END_ENTITY;
    bool is_server = profile == CERTS_PROFILE_TLS_SERVER;

    return (struct certs_issue_request){
        .profile = profile,
        .subject = {.country = is_cross ? NULL : "US",
                    .organization = is_cross ? NULL : "Tést Telecom",
                    .common_name = names[profile]},
        .public_key = is_cross ? NULL : hsm_key_public(keys[profile]),
        .subject_cert = is_cross ? next_root : NULL,
        .serial = {0x00, 0x80, 1, 2, 3, 4, 5, 6, 7, (uint8_t)profile},
        .serial_len = 10,
        .not_before = DATA_NOW,
        .not_after = DATA_NOW + 90 * A_DAY,
        .tnauthlist = profile == CERTS_PROFILE_STI_END_ENTITY ? spc_1234
                      : profile == CERTS_PROFILE_DELEGATE_CA  ? delegated
                      : is_of_numbers                         ? numbers
                                                              : NULL,
        .constraints = is_of_numbers ? constraints : NULL,
        .policy_oid = is_sti ? CERTS_POLICY_CP_1_4 : NULL,
        .crl_url = is_sti ? CRL_URL : NULL,
        .crl_issuer = is_sti ? certs_cert_subject_name(made[CERTS_PROFILE_PA_CRL_SIGNER]) : NULL,
        .dns_names = is_server ? server_dns : NULL,
        .ip_addresses = is_server ? server_ip : NULL,
    };
}

static enum certs_profile
issuer_of(enum certs_profile profile)
{
    switch (profile) {
    case CERTS_PROFILE_STI_INTERMEDIATE:
    case CERTS_PROFILE_STI_CROSS:
        return CERTS_PROFILE_STI_ROOT;
    case CERTS_PROFILE_STI_END_ENTITY:
    case CERTS_PROFILE_TN_END_ENTITY:
    case CERTS_PROFILE_DELEGATE_CA:
        return CERTS_PROFILE_STI_INTERMEDIATE;
    case CERTS_PROFILE_DELEGATE_END_ENTITY:
        return CERTS_PROFILE_DELEGATE_CA;
    case CERTS_PROFILE_PA_SIGNER:
    case CERTS_PROFILE_PA_CRL_SIGNER:
        return CERTS_PROFILE_PA_ROOT;
    case CERTS_PROFILE_TLS_SERVER:
    case CERTS_PROFILE_TLS_CLIENT:
        return CERTS_PROFILE_TLS_ROOT;
    default:
        return profile; /* a root */
    }
}

static enum hsm_status
issue(const struct certs_issue_request *request, X509 **out, struct hsm_reason *why)
{
    enum certs_profile issuer = issuer_of(request->profile);

    return certs_issue(request, issuer == request->profile ? NULL : made[issuer], keys[issuer], out,
                       why);
}

static void
make(enum certs_profile profile)
{
    struct certs_issue_request request = good_request(profile);
    struct hsm_reason why = {0};

    if (issue(&request, &made[profile], &why) != HSM_OK)
        peer_must(false, why.text);
}

/* The CA's next root, which the present root certifies. */
static void
make_next_root(void)
{
    struct certs_issue_request request = good_request(CERTS_PROFILE_STI_ROOT);

    request.subject.common_name = "Test SHAKEN Root G2";
    request.public_key = hsm_key_public(keys[CERTS_PROFILE_STI_CROSS]);
    peer_must(certs_issue(&request, NULL, keys[CERTS_PROFILE_STI_CROSS], &next_root, NULL) ==
                  HSM_OK,
              "next root");
}

static void
make_lists(void)
{
    static const struct certs_tn_entry delegated_entries[] = {{CERTS_TN_SPC, "1234", 0},
                                                              {CERTS_TN_RANGE, "12155550100", 100}};
    static const struct certs_tn_entry number_entries[] = {{CERTS_TN_ONE, "12155550199", 1},
                                                           {CERTS_TN_RANGE, "12155550110", 10}};
    static const char *const attest[] = {"A", "B", NULL};
    static const struct certs_permitted_values permitted[] = {{"attest", attest}, {NULL, NULL}};

    peer_must(certs_tnauthlist_from_spc("1234", &spc_1234) == HSM_OK, "SPC");
    peer_must(certs_tnauthlist_new(delegated_entries, COUNT(delegated_entries), &delegated, NULL) ==
                  HSM_OK,
              "delegated");
    peer_must(certs_tnauthlist_new(number_entries, COUNT(number_entries), &numbers, NULL) == HSM_OK,
              "numbers");
    peer_must(
        certs_constraints_new(CERTS_CONSTRAINTS_JWT,
                              &(struct certs_claim_constraints){.permitted_values = permitted},
                              &constraints, NULL) == HSM_OK,
        "constraints");
}

static int
ca_up(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("issue");
    make_lists();
    for (int i = 0; i < PROFILES; i++)
        peer_must(hsm_key_generate(token, certs_profile_text((enum certs_profile)i), &keys[i]) ==
                      HSM_OK,
                  "key");
    make(CERTS_PROFILE_PA_ROOT);
    make(CERTS_PROFILE_PA_SIGNER);
    make(CERTS_PROFILE_PA_CRL_SIGNER);
    make(CERTS_PROFILE_STI_ROOT);
    make(CERTS_PROFILE_STI_INTERMEDIATE);
    make(CERTS_PROFILE_STI_END_ENTITY);
    make_next_root();
    make(CERTS_PROFILE_STI_CROSS);
    make(CERTS_PROFILE_TN_END_ENTITY);
    make(CERTS_PROFILE_DELEGATE_CA);
    make(CERTS_PROFILE_DELEGATE_END_ENTITY);
    make(CERTS_PROFILE_TLS_ROOT);
    make(CERTS_PROFILE_TLS_SERVER);
    make(CERTS_PROFILE_TLS_CLIENT);
    return 0;
}

static int
ca_down(void **state)
{
    (void)state;
    for (int i = 0; i < PROFILES; i++) {
        X509_free(made[i]);
        hsm_key_free(keys[i]);
    }
    X509_free(next_root);
    certs_constraints_free(constraints);
    certs_tnauthlist_free(numbers);
    certs_tnauthlist_free(delegated);
    certs_tnauthlist_free(spc_1234);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

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
        const X509 *cert = made[expected[i].profile];
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

        assert_int_equal(X509_get_version(made[i]), X509_VERSION_3);
        assert_int_equal(X509_get_signature_nid(made[i]), NID_ecdsa_with_SHA256);
        assert_int_equal(OBJ_obj2nid(X509_get0_tbs_sigalg(made[i])->algorithm),
                         NID_ecdsa_with_SHA256);
        assert_int_equal(X509_verify(made[i], issuer), 1);
        assert_true(hsm_key_matches(keys[i], certs_cert_public(made[i])));
        assert_int_equal(certs_cert_serial(made[i], serial), 10);
        assert_int_equal(serial[0], 0);
        assert_int_equal(serial[1], 0x80);
        assert_int_equal(certs_cert_not_before(made[i]), DATA_NOW);
        assert_int_equal(certs_cert_not_after(made[i]), DATA_NOW + 90 * A_DAY);
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
        const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(made[i]);
        const ASN1_OCTET_STRING *authority = X509_get0_authority_key_id(made[i]);
        uint8_t wanted[SHA_DIGEST_LENGTH];

        SHA1(hsm_key_point(keys[i]), HSM_P256_POINT_LEN, wanted);
        assert_int_equal(ASN1_STRING_length(own), sizeof(wanted));
        assert_memory_equal(ASN1_STRING_get0_data(own), wanted, sizeof(wanted));
        if (issuer == (enum certs_profile)i)
            assert_null(authority);
        else
            assert_int_equal(
                ASN1_OCTET_STRING_cmp(authority, X509_get0_subject_key_id(made[issuer])), 0);
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
    const X509_NAME *name = certs_cert_subject_name(made[CERTS_PROFILE_STI_END_ENTITY]);
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
    const X509_NAME *name = certs_cert_subject_name(made[CERTS_PROFILE_PA_CRL_SIGNER]);
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

    write_cert(root_path, sizeof(root_path), "root.pem", made[root]);
    write_cert(int_path, sizeof(int_path), "int.pem", made[intermediate]);
    write_cert(leaf_path, sizeof(leaf_path), "leaf.pem", made[leaf]);
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
    assert_int_equal(certs_chain_add(chain, made[CERTS_PROFILE_STI_END_ENTITY]), HSM_OK);
    assert_int_equal(certs_chain_add(chain, made[CERTS_PROFILE_STI_INTERMEDIATE]), HSM_OK);
    assert_int_equal(certs_chain_add(anchors, made[CERTS_PROFILE_STI_ROOT]), HSM_OK);
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

/* -- refusals -- */

typedef void break_rule(struct certs_issue_request *request);

static struct certs_tnauthlist *broken_list; /* of the current case */
static EVP_PKEY *p384;

static void
set_list(struct certs_issue_request *request, const struct certs_tn_entry *entries, size_t count)
{
    peer_must(certs_tnauthlist_new(entries, count, &broken_list, NULL) == HSM_OK, "list");
    request->tnauthlist = broken_list;
}

static void
zero_serial(struct certs_issue_request *r)
{
    memset(r->serial, 0, sizeof(r->serial));
}

static void
no_serial(struct certs_issue_request *r)
{
    r->serial_len = 0;
}

static void
serial_of_56_bits(struct certs_issue_request *r)
{
    r->serial_len = 7;
}

static void
serial_of_21_octets(struct certs_issue_request *r)
{
    r->serial_len = CERTS_SERIAL_MAX + 1;
}

static void
negative_serial(struct certs_issue_request *r)
{
    r->serial[0] = 0x80;
}

static void
no_cn(struct certs_issue_request *r)
{
    r->subject.common_name = NULL;
}

static void
no_c(struct certs_issue_request *r)
{
    r->subject.country = NULL;
}

static void
no_o(struct certs_issue_request *r)
{
    r->subject.organization = NULL;
}

static void
small_c(struct certs_issue_request *r)
{
    r->subject.country = "us";
}

static void
cn_without_shaken(struct certs_issue_request *r)
{
    r->subject.common_name = "Shaken Root";
}

static void
cn_without_root(struct certs_issue_request *r)
{
    r->subject.common_name = "Test SHAKEN CA";
}

static void
cn_of_another_spc(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN 1235";
}

static void
cn_with_two_blanks(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN  1234";
}

static void
cn_with_more(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN 1234 Inc.";
}

static void
cn_of_the_spc_alone(struct certs_issue_request *r)
{
    r->subject.common_name = "1234";
}

static void
no_tnauthlist(struct certs_issue_request *r)
{
    r->tnauthlist = NULL;
}

static void
a_tnauthlist(struct certs_issue_request *r)
{
    r->tnauthlist = spc_1234;
}

static void
two_spcs(struct certs_issue_request *r)
{
    set_list(r, (struct certs_tn_entry[]){{CERTS_TN_SPC, "1234", 0}, {CERTS_TN_SPC, "5678", 0}}, 2);
}

static void
a_number(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_ONE, "1234", 1}, 1);
}

static void
small_spc(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_SPC, "818h", 0}, 1);
    r->subject.common_name = "SHAKEN 818h";
}

static void
no_list(struct certs_issue_request *r)
{
    r->tnauthlist = NULL;
}

static void
list_in_the_clear(struct certs_issue_request *r)
{
    r->tnauthlist_url = "http://sti-ca.example/numbers";
}

static void
list_at_no_host(struct certs_issue_request *r)
{
    r->tnauthlist_url = "https:///numbers";
}

static void
list_elsewhere(struct certs_issue_request *r)
{
    r->tnauthlist_url = "https://sti-ca.example/numbers";
}

static void
claim_constraints(struct certs_issue_request *r)
{
    r->constraints = constraints;
}

static void
another_spc(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_SPC, "5678", 0}, 1);
    r->subject.common_name = "SHAKEN 5678";
    r->numbers_under_spc = true;
}

static void
another_number(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_ONE, "12155550200", 1}, 1);
}

static void
a_range_that_begins_outside(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_RANGE, "12155550099", 20}, 1);
}

static void
a_list_that_is_elsewhere(struct certs_issue_request *r)
{
    another_number(r);
    list_elsewhere(r);
}

static void
a_path_length(struct certs_issue_request *r)
{
    r->has_path_len = true;
}

static void
a_long_path(struct certs_issue_request *r)
{
    r->has_path_len = true;
    r->path_len = 17;
}

static void
no_root_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = NULL;
}

static void
a_root_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = next_root;
}

static void
a_name_beside_the_root(struct certs_issue_request *r)
{
    r->subject.common_name = "Test SHAKEN Root G3";
}

static void
a_key_beside_the_root(struct certs_issue_request *r)
{
    r->public_key = hsm_key_public(keys[CERTS_PROFILE_TLS_CLIENT]);
}

static void
an_intermediate_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = made[CERTS_PROFILE_STI_INTERMEDIATE];
}

static void
an_end_entity_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = made[CERTS_PROFILE_STI_END_ENTITY];
}

static void
the_issuer_itself_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = made[CERTS_PROFILE_STI_ROOT];
}

static void
a_root_that_is_not_of_shaken(struct certs_issue_request *r)
{
    r->subject_cert = made[CERTS_PROFILE_PA_ROOT];
}

static void
crl_url_alone(struct certs_issue_request *r)
{
    r->crl_url = CRL_URL;
}

static void
no_policy(struct certs_issue_request *r)
{
    r->policy_oid = NULL;
}

static void
policy_that_is_no_oid(struct certs_issue_request *r)
{
    r->policy_oid = "CP 1.4";
}

static void
policy_of_others(struct certs_issue_request *r)
{
    r->policy_oid = "1.2.3.4";
}

static void
country_of_others(struct certs_issue_request *r)
{
    r->subject.country = "CA";
}

static void
country_of_nobody(struct certs_issue_request *r)
{
    r->subject.country = "ZZ";
}

static void
serial_of_63_bits(struct certs_issue_request *r)
{
    memcpy(r->serial, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8);
    r->serial_len = 8;
}

static void
a_policy(struct certs_issue_request *r)
{
    r->policy_oid = CERTS_POLICY_CP_1_4;
}

static void
no_crl_url(struct certs_issue_request *r)
{
    r->crl_url = NULL;
}

static void
crl_in_a_file(struct certs_issue_request *r)
{
    r->crl_url = "file:///crl.pem";
}

static void
crl_url_with_a_blank(struct certs_issue_request *r)
{
    r->crl_url = "https://sti-pa.example/the crl";
}

static void
a_crl_url(struct certs_issue_request *r)
{
    r->crl_url = CRL_URL;
}

static void
no_crl_issuer(struct certs_issue_request *r)
{
    r->crl_issuer = NULL;
}

static void
no_alt_names(struct certs_issue_request *r)
{
    r->dns_names = NULL;
    r->ip_addresses = NULL;
}

static void
alt_names(struct certs_issue_request *r)
{
    r->dns_names = server_dns;
}

static void
key_on_p384(struct certs_issue_request *r)
{
    r->public_key = p384;
}

static void
no_key(struct certs_issue_request *r)
{
    r->public_key = NULL;
}

static void
ends_before_it_begins(struct certs_issue_request *r)
{
    r->not_after = r->not_before;
}

static void
begins_before_its_issuer(struct certs_issue_request *r)
{
    r->not_before = DATA_NOW - 1;
}

static void
ends_after_its_issuer(struct certs_issue_request *r)
{
    r->not_after = DATA_NOW + 90 * A_DAY + 1;
}

static void
key_of_another(struct certs_issue_request *r)
{
    r->public_key = hsm_key_public(keys[CERTS_PROFILE_TLS_CLIENT]);
}

static void
unknown_profile(struct certs_issue_request *r)
{
    r->profile = (enum certs_profile)PROFILES;
}

#define ROOT CERTS_PROFILE_STI_ROOT
#define INT  CERTS_PROFILE_STI_INTERMEDIATE
#define EE   CERTS_PROFILE_STI_END_ENTITY
#define X    CERTS_PROFILE_STI_CROSS
#define TN   CERTS_PROFILE_TN_END_ENTITY
#define DCA  CERTS_PROFILE_DELEGATE_CA
#define DEE  CERTS_PROFILE_DELEGATE_END_ENTITY

static const struct {
    enum certs_profile profile;
    break_rule *break_it;
    enum hsm_status wanted;
    const char *reason;
} refusals[] = {
    {EE, zero_serial, HSM_ERR_USAGE, "shortest form"},
    {EE, no_serial, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, serial_of_56_bits, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, serial_of_21_octets, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, negative_serial, HSM_ERR_USAGE, "positive"},
    {EE, no_cn, HSM_ERR_USAGE, "CN"},
    {EE, no_c, HSM_ERR_USAGE, "a C and an O"},
    {EE, no_o, HSM_ERR_USAGE, "a C and an O"},
    {EE, small_c, HSM_ERR_USAGE, "country"},
    {ROOT, cn_without_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {ROOT, cn_without_root, HSM_ERR_USAGE, "ROOT"},
    {INT, cn_without_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {EE, cn_of_another_spc, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_with_two_blanks, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_with_more, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_of_the_spc_alone, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, no_tnauthlist, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, two_spcs, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, a_number, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, small_spc, HSM_ERR_USAGE, "upper-case"},
    {INT, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {ROOT, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {EE, no_policy, HSM_ERR_USAGE, "policy"},
    {EE, policy_that_is_no_oid, HSM_ERR_USAGE, "object identifier"},
    {EE, policy_of_others, HSM_ERR_USAGE, "ee.certificate-policies.shaken"},
    {INT, policy_of_others, HSM_ERR_USAGE, "intermediate.certificate-policies.shaken"},
    {EE, country_of_others, HSM_ERR_USAGE, "ee.subject.c.us"},
    {ROOT, country_of_nobody, HSM_ERR_USAGE, "ca.subject.c.assigned"},
    {EE, serial_of_63_bits, HSM_ERR_USAGE, "ee.serial-number.64-bits"},
    {INT, no_policy, HSM_ERR_USAGE, "policy"},
    {ROOT, a_policy, HSM_ERR_USAGE, "must not have a certificate policy"},
    {EE, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {EE, crl_in_a_file, HSM_ERR_USAGE, "URL of the CRL"},
    {EE, crl_url_with_a_blank, HSM_ERR_USAGE, "URL of the CRL"},
    {INT, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {ROOT, a_crl_url, HSM_ERR_USAGE, "must not have a CRL"},
    {EE, no_crl_issuer, HSM_ERR_USAGE, "CRL issuer"},
    {EE, alt_names, HSM_ERR_USAGE, "must not have DNS names"},
    {CERTS_PROFILE_TLS_SERVER, no_alt_names, HSM_ERR_USAGE, "must have a DNS name"},
    {CERTS_PROFILE_PA_SIGNER, no_o, HSM_ERR_USAGE, "a C and an O"},
    {EE, key_on_p384, HSM_ERR_USAGE, "P-256"},
    {INT, key_on_p384, HSM_ERR_USAGE, "P-256"},
    {EE, no_key, HSM_ERR_USAGE, "P-256"},
    {EE, ends_before_it_begins, HSM_ERR_USAGE, "notBefore"},
    {EE, begins_before_its_issuer, HSM_ERR_UNTRUSTED, "not valid for all"},
    {EE, ends_after_its_issuer, HSM_ERR_UNTRUSTED, "not valid for all"},
    {ROOT, key_of_another, HSM_ERR_UNTRUSTED, "not the signing key"},
    {ROOT, unknown_profile, HSM_ERR_USAGE, "unknown profile"},
    {ROOT, a_root_to_certify, HSM_ERR_USAGE, "does not certify another root"},
    {EE, a_root_to_certify, HSM_ERR_USAGE, "does not certify another root"},
    {EE, list_elsewhere, HSM_ERR_USAGE, "must not have its TNAuthList elsewhere"},
    {EE, claim_constraints, HSM_ERR_USAGE, "must not have claim constraints"},
    {EE, a_path_length, HSM_ERR_USAGE, "no CA"},
    {INT, a_long_path, HSM_ERR_USAGE, "too large"},
    {X, no_root_to_certify, HSM_ERR_USAGE, "no others"},
    {X, a_name_beside_the_root, HSM_ERR_USAGE, "no others"},
    {X, a_key_beside_the_root, HSM_ERR_USAGE, "no others"},
    {X, an_intermediate_to_certify, HSM_ERR_USAGE, "signed itself"},
    {X, an_end_entity_to_certify, HSM_ERR_USAGE, "signed itself"},
    {X, a_root_that_is_not_of_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {X, the_issuer_itself_to_certify, HSM_ERR_UNTRUSTED, "is the issuer"},
    {X, begins_before_its_issuer, HSM_ERR_USAGE, "not valid for all of that time"},
    {X, ends_after_its_issuer, HSM_ERR_USAGE, "not valid for all of that time"},
    {X, no_policy, HSM_ERR_USAGE, "policy"},
    {X, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {X, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {TN, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {TN, list_in_the_clear, HSM_ERR_USAGE, "HTTPS"},
    {TN, list_at_no_host, HSM_ERR_USAGE, "HTTPS"},
    {TN, crl_url_alone, HSM_ERR_USAGE, "CRL issuer"},
    {TN, no_o, HSM_ERR_USAGE, "a C and an O"},
    {DCA, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {DCA, list_elsewhere, HSM_ERR_USAGE, "must not have its TNAuthList elsewhere"},
    {DCA, claim_constraints, HSM_ERR_USAGE, "must not have claim constraints"},
    {DEE, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {DEE, another_spc, HSM_ERR_UNTRUSTED, "not encompassed"},
    {DEE, another_number, HSM_ERR_UNTRUSTED, "numbering data"},
    {DEE, a_range_that_begins_outside, HSM_ERR_UNTRUSTED, "numbering data"},
    {DEE, a_list_that_is_elsewhere, HSM_ERR_UNTRUSTED, "numbering data"},
};

static void
each_broken_rule_is_refused(void **state)
{
    (void)state;
    p384 = peer_key_new("P-384");
    for (size_t i = 0; i < COUNT(refusals); i++) {
        struct certs_issue_request request = good_request(refusals[i].profile);
        enum certs_profile issuer = issuer_of(refusals[i].profile);
        struct hsm_reason why = {0};
        X509 *cert = NULL;
        enum hsm_status st;

        refusals[i].break_it(&request);
        st = certs_issue(&request, issuer == refusals[i].profile ? NULL : made[issuer],
                         keys[issuer], &cert, &why);
        if (st != refusals[i].wanted || strstr(why.text, refusals[i].reason) == NULL)
            fail_msg("%zu (%s): %s: %s", i, refusals[i].reason, hsm_status_text(st), why.text);
        assert_null(cert);
        certs_tnauthlist_free(broken_list);
        broken_list = NULL;
    }
    EVP_PKEY_free(p384);
}

/* The policy of another country applies; ATIS-1000080 remains the same. */
static void
the_rules_of_the_united_states_bind_no_certificate_under_the_french_policy(void **state)
{
    struct certs_issue_request request = good_request(EE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;

    (void)state;
    request.policy_oid = "1.2.250.1.695.1.1.1.1";
    request.subject.country = "FR";
    if (issue(&request, &cert, &why) != HSM_OK)
        fail_msg("%s", why.text);
    X509_free(cert);
    cert = NULL;
    request.subject.country = "ZZ";
    assert_int_equal(issue(&request, &cert, &why), HSM_ERR_USAGE);
    assert_non_null(strstr(why.text, "ee.subject.c.assigned"));
}

static void
a_key_that_is_not_the_issuers_signs_nothing(void **state)
{
    struct certs_issue_request request = good_request(EE);
    X509 *cert = NULL;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_issue(&request, made[INT], keys[ROOT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "not that of the issuing certificate"));
    assert_null(cert);
}

static void
only_a_ca_issues_and_only_a_root_signs_itself(void **state)
{
    struct certs_issue_request request = good_request(EE);
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, made[EE], keys[EE], &cert, NULL), HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_issue(&request, NULL, keys[EE], &cert, NULL), HSM_ERR_USAGE);
    request = good_request(ROOT);
    assert_int_equal(certs_issue(&request, made[INT], keys[INT], &cert, NULL), HSM_ERR_USAGE);
    assert_null(cert);
}

/* Issuing certificates made by others, with a path length and without a key identifier. */
static void
an_issuing_certificate_is_held_to_its_own_limits(void **state)
{
    static const struct peer_ext no_ca_below[] = {
        {"basicConstraints", "critical,CA:TRUE,pathlen:0"},
        {"keyUsage", "critical,keyCertSign"},
        {"subjectKeyIdentifier", "hash"},
        {NULL, NULL}};
    static const struct peer_ext no_ski[] = {{"basicConstraints", "critical,CA:TRUE"},
                                             {"keyUsage", "critical,keyCertSign"},
                                             {NULL, NULL}};
    EVP_PKEY *peer = peer_key_new("P-256");
    struct peer_spec spec = {.cn = "SHAKEN",
                             .key = hsm_key_public(keys[ROOT]),
                             .issuer_key = peer,
                             .not_before = DATA_NOW - A_DAY,
                             .not_after = DATA_NOW + 365 * A_DAY,
                             .exts = no_ca_below};
    struct certs_issue_request request = good_request(INT);
    struct hsm_reason why = {0};
    X509 *issuer = peer_cert(&spec);
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "pathLenConstraint"));
    request = good_request(EE);
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_OK);
    X509_free(cert);
    cert = NULL;
    X509_free(issuer);
    spec.exts = no_ski;
    issuer = peer_cert(&spec);
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "key identifier"));
    assert_null(cert);
    X509_free(issuer);
    EVP_PKEY_free(peer);
}

/* -- RFC 9060 -- */

/* Issue with the delegate CA, in any profile. */
static enum hsm_status
delegate(const struct certs_issue_request *request, struct hsm_reason *why)
{
    X509 *cert = NULL;
    enum hsm_status st = certs_issue(request, made[DCA], keys[DCA], &cert, why);

    X509_free(cert);
    return st;
}

static void
a_delegate_ca_hands_on_what_it_has(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};

    (void)state;
    request.tnauthlist = delegated; /* the whole of it */
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(DCA); /* also for another CA */
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(TN);
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(EE);
    assert_int_equal(delegate(&request, &why), HSM_OK);
    another_spc(&request);
    assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
    certs_tnauthlist_free(broken_list);
    broken_list = NULL;
}

static void
numbers_of_an_spc_are_for_the_caller_to_know(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};

    (void)state;
    another_number(&request);
    assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
    request.numbers_under_spc = true;
    assert_int_equal(delegate(&request, &why), HSM_OK);
    certs_tnauthlist_free(broken_list);
    broken_list = NULL;
}

static void
below_a_delegate_ca_nobody_is_without_a_list(void **state)
{
    static const enum certs_profile without[] = {INT, X, CERTS_PROFILE_PA_SIGNER,
                                                 CERTS_PROFILE_TLS_CLIENT};

    (void)state;
    for (size_t i = 0; i < COUNT(without); i++) {
        struct certs_issue_request request = good_request(without[i]);
        struct hsm_reason why = {0};

        assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
        assert_non_null(strstr(why.text, "each one has its own"));
    }
}

static void
a_delegates_issuer_is_a_delegate_ca(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, made[INT], keys[INT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "not a delegate CA's"));
    assert_null(cert);
}

static const struct {
    struct peer_ext list; /* the issuer's TNAuthList extension */
    enum certs_profile profile;
    const char *reason; /* NULL: issued */
} unreadable_lists[] = {
    {{"1.3.6.1.5.5.7.1.26", "DER:3000"}, DEE, "TNAuthList: no entry"},
    {{"authorityInfoAccess", "1.3.6.1.5.5.7.48.14;URI:https://sp.example/numbers"},
     DEE,
     "its TNAuthList is elsewhere"},
    {{"authorityInfoAccess", "1.3.6.1.5.5.7.48.14;URI:https://sp.example/numbers"},
     TN,
     "its TNAuthList is elsewhere"},
    {{"authorityInfoAccess", "caIssuers;URI:http://ca.example/root.crt"}, TN, NULL},
};

/* RFC 9060 section 4.1: a list by reference limits in the same way as one by value. */
static void
an_issuer_whose_list_cannot_be_read_issues_nothing(void **state)
{
    EVP_PKEY *peer = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(unreadable_lists); i++) {
        const struct peer_ext exts[] = {{"basicConstraints", "critical,CA:TRUE"},
                                        {"keyUsage", "critical,keyCertSign"},
                                        {"subjectKeyIdentifier", "hash"},
                                        unreadable_lists[i].list,
                                        {NULL, NULL}};
        X509 *issuer = peer_cert(&(struct peer_spec){.cn = "SHAKEN",
                                                     .key = hsm_key_public(keys[DCA]),
                                                     .issuer_key = peer,
                                                     .not_before = DATA_NOW - A_DAY,
                                                     .not_after = DATA_NOW + 365 * A_DAY,
                                                     .exts = exts});
        struct certs_issue_request request = good_request(unreadable_lists[i].profile);
        const char *reason = unreadable_lists[i].reason;
        struct hsm_reason why = {0};
        X509 *cert = NULL;
        enum hsm_status st = certs_issue(&request, issuer, keys[DCA], &cert, &why);

        if (st != (reason == NULL ? HSM_OK : HSM_ERR_UNTRUSTED) ||
            (reason != NULL && strstr(why.text, reason) == NULL) ||
            (cert == NULL) != (reason != NULL))
            fail_msg("%zu: %s: %s", i, hsm_status_text(st), why.text);
        X509_free(cert);
        X509_free(issuer);
    }
    EVP_PKEY_free(peer);
}

/* RFC 8226 section 10.1: the access method and the URL; the certificate itself has no list. */
static void
a_list_by_reference_is_an_access_description(void **state)
{
    static const uint8_t wanted[] =
        "\x30\x2c\x30\x2a\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x0e\x86\x1e"
        "https://sti-ca.example/numbers";
    struct certs_issue_request request = good_request(TN);
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why = {0};
    X509 *cert = NULL;
    X509_EXTENSION *ext;
    char *url;

    (void)state;
    list_elsewhere(&request);
    request.constraints = NULL;
    assert_int_equal(issue(&request, &cert, &why), HSM_OK);
    assert_int_equal(certs_cert_tnauthlist(cert, &list, NULL), HSM_ERR_NOT_FOUND);
    ext = X509_get_ext(cert, X509_get_ext_by_NID(cert, NID_info_access, -1));
    assert_int_equal(X509_EXTENSION_get_critical(ext), 0);
    assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(ext)), sizeof(wanted) - 1);
    assert_memory_equal(ASN1_STRING_get0_data(X509_EXTENSION_get_data(ext)), wanted,
                        sizeof(wanted) - 1);
    url = certs_cert_tnauthlist_url(cert);
    assert_string_equal(url, "https://sti-ca.example/numbers");
    free(url);
    assert_null(certs_cert_tnauthlist_url(made[TN]));
    X509_free(cert);
}

/* A delegate's certificates may have a policy and a CRL; those of the STI-CA must. */
static void
policy_and_crl_are_there_where_they_may_be(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;
    char *url;

    (void)state;
    request.policy_oid = "1.2.250.1.695.1.1.1.1";
    request.crl_url = CRL_URL;
    request.crl_issuer = certs_cert_subject_name(made[CERTS_PROFILE_PA_CRL_SIGNER]);
    assert_int_equal(issue(&request, &cert, &why), HSM_OK);
    assert_true(X509_get_ext_by_NID(cert, NID_certificate_policies, -1) >= 0);
    url = certs_cert_crl_url(cert);
    assert_string_equal(url, CRL_URL);
    free(url);
    X509_free(cert);
}

/* -- cross certificates -- */

static void
a_cross_certificate_stands_for_the_root_it_certifies(void **state)
{
    const X509 *cross = made[X];

    (void)state;
    assert_int_equal(X509_NAME_cmp(X509_get_subject_name(cross), X509_get_subject_name(next_root)),
                     0);
    assert_int_equal(X509_NAME_cmp(X509_get_issuer_name(cross), X509_get_subject_name(made[ROOT])),
                     0);
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
    assert_int_equal(certs_issue(&request, made[ROOT], keys[ROOT], &new_with_old, &why), HSM_OK);
    request.subject_cert = made[ROOT];
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
        cmocka_unit_test(each_broken_rule_is_refused),
        cmocka_unit_test(
            the_rules_of_the_united_states_bind_no_certificate_under_the_french_policy),
        cmocka_unit_test(a_key_that_is_not_the_issuers_signs_nothing),
        cmocka_unit_test(only_a_ca_issues_and_only_a_root_signs_itself),
        cmocka_unit_test(an_issuing_certificate_is_held_to_its_own_limits),
        cmocka_unit_test(a_delegate_ca_hands_on_what_it_has),
        cmocka_unit_test(numbers_of_an_spc_are_for_the_caller_to_know),
        cmocka_unit_test(below_a_delegate_ca_nobody_is_without_a_list),
        cmocka_unit_test(a_delegates_issuer_is_a_delegate_ca),
        cmocka_unit_test(an_issuer_whose_list_cannot_be_read_issues_nothing),
        cmocka_unit_test(a_list_by_reference_is_an_access_description),
        cmocka_unit_test(policy_and_crl_are_there_where_they_may_be),
        cmocka_unit_test(a_cross_certificate_stands_for_the_root_it_certifies),
        cmocka_unit_test(roots_of_the_same_name_certify_each_other),
        cmocka_unit_test(a_root_whose_own_signature_is_broken_is_not_certified),
        cmocka_unit_test(a_path_length_is_less_than_that_of_the_issuer),
        cmocka_unit_test(profiles_have_words),
    };

    return cmocka_run_group_tests(tests, ca_up, ca_down);
}
