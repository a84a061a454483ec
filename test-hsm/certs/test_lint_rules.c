/*
 * test_lint_rules.c - mirrors certs/src/lint_rules.c: each rule with a certificate that obeys it
 * and one that violates it.
 *
 * The certificates play those of other parties, with keys in memory: a chain of root,
 * intermediate and end entity that obeys every rule, changed in one respect.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <certs/lint.h>

#include "peer_cert.h"

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define ATTRIBUTES_MAX 8
#define EXTS_MAX       12
#define YEAR           31536000

#define ROOT         CERTS_LINT_ROOT
#define INTERMEDIATE CERTS_LINT_INTERMEDIATE
#define EE           CERTS_LINT_END_ENTITY

/* CertificatePolicies: 2.16.840.1.114569.1.1.n, and 1.2.3.4 */
#define POLICY(n) "DER:300E300C060A6086480186FF090101" n
#define CP_1_1    POLICY("01")
#define CP_1_3    POLICY("03")
#define CP_1_4    POLICY("04")
#define OF_OTHERS "DER:3007300506032A0304"

#define TNAUTHLIST "1.3.6.1.5.5.7.1.26"

/* DER of CRLDistributionPoints, in parts: a point with the URL http://pa.example/crl */
#define URL_POINT "A019A0178615687474703A2F2F70612E6578616D706C652F63726C"
/* and a cRLIssuer C=US, CN=STI-PA CRL */
#define CRL_ISSUER                                                                                 \
    "A226A4243022310B30090603550406130255533113301106035504030C0A5354492D50412043524C"

struct attribute {
    int nid;
    int type; /* V_ASN1_...; 0: chosen by OpenSSL */
    const char *value;
    int set; /* -1: in the same set as the previous attribute */
};

/* The contents of a certificate. */
struct spec {
    enum certs_lint_role role;
    bool tell_role; /* pass the role to the lint; otherwise the certificate shows it */
    long version; /* as encoded: 2 is v3 */
    const char *serial; /* hex */
    struct attribute subject[ATTRIBUTES_MAX]; /* terminated by nid 0 */
    const char *issuer_cn; /* another issuer name than the signer's; NULL: the signer's */
    time_t not_before, not_after;
    const char *not_before_text; /* GeneralizedTime; NULL: not_before */
    EVP_PKEY *key;
    EVP_PKEY *signer; /* NULL: the issuer's key */
    const EVP_MD *digest;
    struct peer_ext exts[EXTS_MAX]; /* terminated by a NULL oid */
    void (*after)(X509 **cert); /* a change that OpenSSL's API does not support */
};

typedef void change(struct spec *spec);

static EVP_PKEY *root_key, *ca_key, *ee_key, *p384_key, *p521_key, *rsa_key;
static X509 *root_cert, *ca_cert;

/* ---- a certificate that obeys every rule ---- */

static struct spec
good_spec(enum certs_lint_role role)
{
    struct spec spec = {
        .role = role,
        .version = X509_VERSION_3,
        .serial = "0080000000000000000001",
        .subject = {{NID_countryName, 0, "US", 0}, {NID_organizationName, 0, "Test STI-CA", 0}},
        .not_before = DATA_NOW,
        .not_after = DATA_NOW + YEAR,
        .key = role == ROOT           ? root_key
               : role == INTERMEDIATE ? ca_key
                                      : ee_key,
        .digest = EVP_sha256(),
    };
    static const struct peer_ext root_exts[] = {{"basicConstraints", "critical,CA:TRUE"},
                                                {"keyUsage", "critical,keyCertSign"},
                                                {"subjectKeyIdentifier", "hash"}};
    static const struct peer_ext issued_exts[] = {
        {"basicConstraints", "critical,CA:TRUE"},
        {"keyUsage", "critical,keyCertSign"},
        {"subjectKeyIdentifier", "hash"},
        {"authorityKeyIdentifier", "keyid:always"},
        {"certificatePolicies", CP_1_4},
        {"crlDistributionPoints", "DER:30453043" URL_POINT CRL_ISSUER}};

    if (role == ROOT)
        memcpy(spec.exts, root_exts, sizeof(root_exts));
    else
        memcpy(spec.exts, issued_exts, sizeof(issued_exts));
    spec.subject[2] = (struct attribute){NID_commonName, 0,
                                         role == ROOT           ? "Test SHAKEN Root"
                                         : role == INTERMEDIATE ? "Test SHAKEN Intermediate"
                                                                : "SHAKEN 1234",
                                         0};
    if (role == EE) {
        spec.exts[0].value = "critical,CA:FALSE";
        spec.exts[1].value = "critical,digitalSignature";
        spec.exts[6] = (struct peer_ext){PEER_TNAUTHLIST_1234};
    }
    return spec;
}

static void
set_serial(X509 *cert, const char *hex)
{
    BIGNUM *number = NULL;

    peer_must(BN_hex2bn(&number, hex) > 0, hex);
    peer_must(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL, hex);
    BN_free(number);
}

static X509_NAME *
name_of(const struct spec *spec)
{
    X509_NAME *name = X509_NAME_new();

    for (const struct attribute *a = spec->subject; a->nid != 0; a++)
        peer_must(X509_NAME_add_entry_by_NID(name, a->nid, a->type == 0 ? MBSTRING_UTF8 : a->type,
                                             (const uint8_t *)a->value, -1, -1, a->set) == 1,
                  a->value);
    return name;
}

static void
set_issuer(X509 *cert, const struct spec *spec, const X509 *issuer)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(issuer == NULL ? cert : issuer));

    if (spec->issuer_cn != NULL)
        X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                   (const uint8_t *)spec->issuer_cn, -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_NAME_free(name);
}

static const X509 *
issuer_of(const struct spec *spec)
{
    return spec->role == ROOT ? NULL : spec->role == INTERMEDIATE ? root_cert : ca_cert;
}

/* X509_free() it. */
static X509 *
make(const struct spec *spec)
{
    const X509 *issuer = issuer_of(spec);
    EVP_PKEY *signer = issuer == NULL ? spec->key : spec->role == EE ? ca_key : root_key;
    X509_NAME *name = name_of(spec);
    X509 *cert = X509_new();

    X509_set_version(cert, spec->version);
    set_serial(cert, spec->serial);
    X509_set_subject_name(cert, name);
    set_issuer(cert, spec, issuer);
    ASN1_TIME_set(X509_getm_notBefore(cert), spec->not_before);
    ASN1_TIME_set(X509_getm_notAfter(cert), spec->not_after);
    if (spec->not_before_text != NULL)
        peer_must(
            ASN1_GENERALIZEDTIME_set_string(X509_getm_notBefore(cert), spec->not_before_text) == 1,
            spec->not_before_text);
    X509_set_pubkey(cert, spec->key);
    for (const struct peer_ext *ext = spec->exts; ext->oid != NULL; ext++)
        peer_add_ext(cert, issuer, ext);
    peer_must(X509_sign(cert, spec->signer != NULL ? spec->signer : signer, spec->digest) > 0,
              "X509_sign");
    X509_NAME_free(name);
    if (spec->after != NULL)
        spec->after(&cert);
    return cert;
}

/* ---- changes ---- */

static void
set_ext(struct spec *spec, const char *oid, const char *value)
{
    size_t i = 0;

    while (spec->exts[i].oid != NULL && strcmp(spec->exts[i].oid, oid) != 0)
        i++;
    spec->exts[i] = (struct peer_ext){oid, value};
}

static void
add_ext(struct spec *spec, const char *oid, const char *value)
{
    size_t i = 0;

    while (spec->exts[i].oid != NULL)
        i++;
    spec->exts[i] = (struct peer_ext){oid, value};
}

static void
drop_ext(struct spec *spec, const char *oid)
{
    size_t kept = 0;

    for (size_t i = 0; spec->exts[i].oid != NULL; i++) {
        if (strcmp(spec->exts[i].oid, oid) != 0)
            spec->exts[kept++] = spec->exts[i];
    }
    spec->exts[kept].oid = NULL;
}

static struct attribute *
attribute_of(struct spec *spec, int nid)
{
    struct attribute *a = spec->subject;

    while (a->nid != 0 && a->nid != nid)
        a++;
    a->nid = nid;
    return a;
}

static void
set_name(struct spec *spec, int nid, const char *value)
{
    attribute_of(spec, nid)->value = value;
}

static void
add_name(struct spec *spec, int nid, const char *value, int set)
{
    struct attribute *a = spec->subject;

    while (a->nid != 0)
        a++;
    *a = (struct attribute){nid, 0, value, set};
}

static void
drop_name(struct spec *spec, int nid)
{
    size_t kept = 0;

    for (size_t i = 0; spec->subject[i].nid != 0; i++) {
        if (spec->subject[i].nid != nid)
            spec->subject[kept++] = spec->subject[i];
    }
    spec->subject[kept].nid = 0;
}

/* Replace the octets `from` by `to`, of the same length, and parse the result. */
static void
replace_octets(X509 **cert, const uint8_t *from, const uint8_t *to, size_t len)
{
    uint8_t *der = NULL;
    int der_len = i2d_X509(*cert, &der);
    const uint8_t *at = der;
    size_t found = 0;

    for (size_t i = 0; i + len <= (size_t)der_len; i++) {
        if (memcmp(der + i, from, len) == 0) {
            memcpy(der + i, to, len);
            found++;
        }
    }
    peer_must(found > 0, "octets to replace");
    X509_free(*cert);
    *cert = d2i_X509(NULL, &at, der_len);
    peer_must(*cert != NULL, "certificate");
    OPENSSL_free(der);
}

/* Changes are named after their result. */
#define CHANGE(name) static void name(struct spec *spec)

CHANGE(version_2)
{
    spec->version = X509_VERSION_2;
}

CHANGE(serial_negative)
{
    spec->serial = "-0080000000000000000001";
}

CHANGE(serial_zero)
{
    spec->serial = "00";
}

CHANGE(serial_of_63_bits)
{
    spec->serial = "7FFFFFFFFFFFFFFF";
}

CHANGE(serial_of_64_bits)
{
    spec->serial = "8000000000000000";
}

CHANGE(serial_of_20_octets)
{
    spec->serial = "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
}

CHANGE(serial_of_21_octets)
{
    spec->serial = "8000000000000000000000000000000000000000";
}

CHANGE(sha_512)
{
    spec->digest = EVP_sha512();
}

CHANGE(sha_256)
{
    spec->digest = EVP_sha256();
}

CHANGE(sha_384)
{
    spec->digest = EVP_sha384();
}

CHANGE(sha_384_before_cp_1_4)
{
    sha_384(spec);
    set_ext(spec, "certificatePolicies", CP_1_3);
}

CHANGE(key_p384)
{
    spec->key = p384_key;
}

CHANGE(key_p384_sha_384)
{
    key_p384(spec);
    sha_384(spec);
}

CHANGE(key_p384_before_cp_1_4)
{
    key_p384(spec);
    set_ext(spec, "certificatePolicies", CP_1_3);
}

CHANGE(key_p384_in_2022)
{
    key_p384(spec);
    spec->not_before = 1656633600; /* 2022-07-01 */
}

CHANGE(key_p521)
{
    spec->key = p521_key;
}

CHANGE(key_rsa)
{
    spec->key = rsa_key;
}

/* The outer algorithm becomes ecdsa-with-SHA384; the one in the TBSCertificate stays. */
static void
change_outer_algorithm(X509 **cert)
{
    const X509_ALGOR *outer;

    X509_get0_signature(NULL, &outer, *cert);
    X509_ALGOR_set0((X509_ALGOR *)outer, OBJ_nid2obj(NID_ecdsa_with_SHA384), V_ASN1_UNDEF, NULL);
}

CHANGE(algorithms_differ)
{
    spec->after = change_outer_algorithm;
}

CHANGE(root_told)
{
    spec->tell_role = true;
}

CHANGE(root_of_another_issuer)
{
    root_told(spec);
    spec->issuer_cn = "Another";
}

CHANGE(of_another_issuer)
{
    spec->issuer_cn = "Another";
}

/* Make issuer and subject equal, and sign with the subject's key. */
static void
sign_itself(X509 **cert)
{
    X509_set_issuer_name(*cert, X509_get_subject_name(*cert));
    peer_must(X509_sign(*cert, ee_key, EVP_sha256()) > 0, "X509_sign");
}

CHANGE(signed_by_itself)
{
    spec->after = sign_itself;
}

CHANGE(generalized_time)
{
    spec->not_before_text = "20260115120000Z";
}

CHANGE(generalized_time_of_2050)
{
    spec->not_after = 2556144000; /* 2051-01-01, for which OpenSSL uses GeneralizedTime */
}

CHANGE(ends_before_it_begins)
{
    spec->not_after = spec->not_before - 1;
}

CHANGE(a_second_of_validity)
{
    spec->not_after = spec->not_before;
}

/* Insert subjectUniqueID [2] after the public key, before the extensions [3]. */
static void
add_unique_identifier(X509 **cert)
{
    static const uint8_t id[] = {0x82, 0x02, 0x00, 0x80};
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(*cert);
    uint8_t *der = NULL;
    int len = i2d_X509(*cert, &der);
    uint8_t *grown = malloc((size_t)len + sizeof(id));
    const uint8_t *at = grown;
    size_t end = 0;

    while (memcmp(der + end, bits->data, (size_t)bits->length) != 0)
        end++;
    end += (size_t)bits->length;
    memcpy(grown, der, end);
    memcpy(grown + end, id, sizeof(id));
    memcpy(grown + end + sizeof(id), der + end, (size_t)len - end);
    peer_must(der[1] == 0x82 && der[5] == 0x82, "lengths of two octets");
    grown[3] = (uint8_t)(grown[3] + sizeof(id)); /* Certificate */
    grown[7] = (uint8_t)(grown[7] + sizeof(id)); /* TBSCertificate */
    peer_must(grown[3] >= sizeof(id) && grown[7] >= sizeof(id), "no carry");
    X509_free(*cert);
    *cert = d2i_X509(NULL, &at, len + (int)sizeof(id));
    peer_must(*cert != NULL, "certificate");
    OPENSSL_free(der);
    free(grown);
}

CHANGE(with_a_unique_identifier)
{
    spec->after = add_unique_identifier;
}

/* Change y of the point, so that it is no longer on the curve. */
static void
spoil_point(X509 **cert)
{
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(*cert);
    uint8_t from[65];
    uint8_t to[65];

    peer_must(bits->length == sizeof(from), "a point");
    memcpy(from, bits->data, sizeof(from));
    memcpy(to, from, sizeof(to));
    to[64] ^= 1;
    replace_octets(cert, from, to, sizeof(from));
}

CHANGE(key_off_its_curve)
{
    spec->after = spoil_point;
}

CHANGE(without_c)
{
    drop_name(spec, NID_countryName);
}

CHANGE(with_two_c)
{
    add_name(spec, NID_countryName, "US", 0);
}

CHANGE(without_cn)
{
    drop_name(spec, NID_commonName);
}

CHANGE(with_two_cn)
{
    add_name(spec, NID_commonName, "SHAKEN 1234", 0);
}

CHANGE(without_o)
{
    drop_name(spec, NID_organizationName);
}

CHANGE(with_two_o)
{
    add_name(spec, NID_organizationName, "Another", 0);
}

CHANGE(c_in_small_letters)
{
    set_name(spec, NID_countryName, "us");
}

CHANGE(c_that_is_nobodys)
{
    set_name(spec, NID_countryName, "ZZ");
}

CHANGE(c_of_canada)
{
    set_name(spec, NID_countryName, "CA");
}

CHANGE(c_of_canada_before_cp_1_4)
{
    c_of_canada(spec);
    set_ext(spec, "certificatePolicies", CP_1_3);
}

CHANGE(c_of_canada_under_cp_1_4)
{
    c_of_canada(spec);
    set_ext(spec, "certificatePolicies", CP_1_4);
}

CHANGE(c_as_utf8)
{
    attribute_of(spec, NID_countryName)->type = V_ASN1_UTF8STRING;
}

CHANGE(cn_without_shaken)
{
    set_name(spec, NID_commonName, "Test Root Intermediate 1234");
}

CHANGE(cn_with_shaken_in_a_word)
{
    set_name(spec, NID_commonName, "SHAKENX Root Intermediate 1234");
}

CHANGE(cn_without_root)
{
    set_name(spec, NID_commonName, "SHAKEN Anchor");
}

CHANGE(cn_with_a_small_root)
{
    set_name(spec, NID_commonName, "SHAKEN root");
}

CHANGE(cn_of_two_spaces)
{
    set_name(spec, NID_commonName, "SHAKEN  1234");
}

CHANGE(cn_of_another_spc)
{
    set_name(spec, NID_commonName, "SHAKEN 12345");
}

CHANGE(cn_with_more)
{
    set_name(spec, NID_commonName, "Acme SHAKEN 1234");
}

CHANGE(in_2021)
{
    spec->not_before = 1609459200; /* 2021-01-01 */
    set_ext(spec, "certificatePolicies", CP_1_1);
}

CHANGE(in_2021_as_comcast)
{
    in_2021(spec);
    set_name(spec, NID_commonName, "Acme SHAKEN cert 1234");
}

CHANGE(cn_without_spc)
{
    set_name(spec, NID_commonName, "Acme SHAKEN cert");
}

CHANGE(in_2021_of_another_policy)
{
    in_2021(spec);
    set_ext(spec, "certificatePolicies", OF_OTHERS);
}

/* Under CP 1.3, serialNumber accompanies the CN, at the end. */
CHANGE(of_cp_1_3)
{
    set_ext(spec, "certificatePolicies", CP_1_3);
    add_name(spec, NID_serialNumber, "42", -1);
}

CHANGE(with_a_serial_number_apart)
{
    attribute_of(spec, NID_serialNumber)->set = 0;
}

CHANGE(with_a_set_after_it)
{
    add_name(spec, NID_localityName, "Somewhere", 0);
}

CHANGE(without_a_serial_number)
{
    drop_name(spec, NID_serialNumber);
}

CHANGE(of_cp_1_3_with_tnauthlist)
{
    of_cp_1_3(spec);
    add_ext(spec, PEER_TNAUTHLIST_1234);
}

CHANGE(with_ext_key_usage)
{
    add_ext(spec, "extendedKeyUsage", "clientAuth");
}

CHANGE(with_two_key_ids)
{
    add_ext(spec, "subjectKeyIdentifier", "hash");
}

CHANGE(with_policies_that_are_null)
{
    set_ext(spec, "certificatePolicies", "DER:0500");
}

CHANGE(key_id_critical)
{
    set_ext(spec, "subjectKeyIdentifier", "critical,hash");
}

CHANGE(authority_key_id_critical)
{
    set_ext(spec, "authorityKeyIdentifier",
            "critical,DER:301680140000000000000000000000000000000000000000");
}

CHANGE(without_basic_constraints)
{
    drop_ext(spec, "basicConstraints");
}

CHANGE(basic_constraints_not_critical)
{
    set_ext(spec, "basicConstraints", spec->role == EE ? "CA:FALSE" : "CA:TRUE");
}

CHANGE(basic_constraints_broken)
{
    set_ext(spec, "basicConstraints", "critical,DER:3003010101");
}

CHANGE(intermediate_that_is_no_ca)
{
    spec->tell_role = true;
    set_ext(spec, "basicConstraints", "critical,CA:FALSE");
}

CHANGE(end_entity_that_is_a_ca)
{
    spec->tell_role = true;
    set_ext(spec, "basicConstraints", "critical,CA:TRUE");
}

CHANGE(told_role)
{
    spec->tell_role = true;
}

CHANGE(ca_false_written_out)
{
    set_ext(spec, "basicConstraints", "critical,DER:3003010100");
}

CHANGE(with_path_len)
{
    set_ext(spec, "basicConstraints", "critical,DER:3003020100");
}

CHANGE(without_key_usage)
{
    drop_ext(spec, "keyUsage");
}

CHANGE(key_usage_not_critical)
{
    set_ext(spec, "keyUsage", spec->role == EE ? "digitalSignature" : "keyCertSign");
}

CHANGE(key_usage_crl_sign)
{
    set_ext(spec, "keyUsage", "critical,keyCertSign,cRLSign");
}

CHANGE(key_usage_crl_sign_before_cp_1_4)
{
    key_usage_crl_sign(spec);
    set_ext(spec, "certificatePolicies", CP_1_3);
}

CHANGE(key_usage_of_encipherment)
{
    set_ext(spec, "keyUsage", "critical,digitalSignature,keyEncipherment");
}

CHANGE(without_key_id)
{
    drop_ext(spec, "subjectKeyIdentifier");
}

CHANGE(key_id_of_8_bits)
{
    set_ext(spec, "subjectKeyIdentifier", "DER:040101");
}

CHANGE(key_id_of_another_key)
{
    set_ext(spec, "subjectKeyIdentifier", "DER:04140000000000000000000000000000000000000000");
}

CHANGE(without_authority_key_id)
{
    drop_ext(spec, "authorityKeyIdentifier");
}

CHANGE(authority_key_id_own)
{
    set_ext(spec, "authorityKeyIdentifier", "keyid:always");
}

CHANGE(authority_key_id_of_another_key)
{
    set_ext(spec, "authorityKeyIdentifier", "DER:301680140000000000000000000000000000000000000000");
}

CHANGE(authority_key_id_empty)
{
    set_ext(spec, "authorityKeyIdentifier", "DER:3000");
}

CHANGE(without_policies)
{
    drop_ext(spec, "certificatePolicies");
}

CHANGE(policies_critical)
{
    set_ext(spec, "certificatePolicies", "critical," CP_1_4);
}

CHANGE(policies_two)
{
    set_ext(spec, "certificatePolicies", "DER:3015300C060A6086480186FF09010104300506032A0304");
}

CHANGE(policy_of_others)
{
    set_ext(spec, "certificatePolicies", OF_OTHERS);
}

CHANGE(policy_cp_1_3)
{
    set_ext(spec, "certificatePolicies", CP_1_3);
}

CHANGE(with_policies)
{
    add_ext(spec, "certificatePolicies", CP_1_4);
}

CHANGE(without_crl)
{
    drop_ext(spec, "crlDistributionPoints");
}

CHANGE(crl_two_urls)
{
    set_ext(spec, "crlDistributionPoints",
            "DER:305C305AA030A02E8615687474703A2F2F70612E6578616D706C652F63726C"
            "8615687474703A2F2F70612E6578616D706C652F63726C" CRL_ISSUER);
}

CHANGE(crl_by_ldap)
{
    set_ext(spec, "crlDistributionPoints",
            "DER:30453043A019A01786156C6461703A2F2F70612E6578616D706C652F63726C" CRL_ISSUER);
}

CHANGE(crl_without_host)
{
    set_ext(spec, "crlDistributionPoints",
            "DER:303B3039A00FA00D860B687474703A2F2F2F63726C" CRL_ISSUER);
}

CHANGE(crl_two_points)
{
    set_ext(spec, "crlDistributionPoints", "DER:306F3043" URL_POINT CRL_ISSUER "3028" CRL_ISSUER);
}

CHANGE(crl_without_issuer)
{
    set_ext(spec, "crlDistributionPoints", "DER:301D301B" URL_POINT);
}

CHANGE(crl_reasons_before_issuer)
{
    set_ext(spec, "crlDistributionPoints", "DER:30493047" URL_POINT "81020640" CRL_ISSUER);
}

CHANGE(crl_issuer_only)
{
    set_ext(spec, "crlDistributionPoints", "DER:302A3028" CRL_ISSUER);
}

CHANGE(crl_issuer_is_a_url)
{
    set_ext(spec, "crlDistributionPoints", "DER:30243022" URL_POINT "A2058603613A62");
}

CHANGE(with_crl)
{
    add_ext(spec, "crlDistributionPoints", "DER:30453043" URL_POINT CRL_ISSUER);
}

CHANGE(with_tnauthlist)
{
    add_ext(spec, PEER_TNAUTHLIST_1234);
}

CHANGE(without_tnauthlist)
{
    drop_ext(spec, TNAUTHLIST);
}

CHANGE(tnauthlist_critical)
{
    set_ext(spec, TNAUTHLIST, "critical,DER:3008A006160431323334");
}

CHANGE(tnauthlist_empty)
{
    set_ext(spec, TNAUTHLIST, "DER:3000");
}

CHANGE(tnauthlist_of_two)
{
    set_ext(spec, TNAUTHLIST, "DER:3010A006160431323334A006160431323335");
}

CHANGE(tnauthlist_of_an_empty_spc)
{
    set_ext(spec, TNAUTHLIST, "DER:3004A0021600");
}

CHANGE(tnauthlist_of_a_number)
{
    set_ext(spec, TNAUTHLIST, "DER:300FA20D160B3132313535353530313030");
}

CHANGE(tnauthlist_in_small_letters)
{
    set_ext(spec, TNAUTHLIST, "DER:3008A006160437303961");
    set_name(spec, NID_commonName, "SHAKEN 709a");
}

CHANGE(tnauthlist_with_a_number)
{
    set_ext(spec, TNAUTHLIST, "DER:3017A006160431323334A20D160B3132313535353530313030");
}

CHANGE(tnauthlist_of_a_printable_string)
{
    set_ext(spec, TNAUTHLIST, "DER:3008A006130431323334");
}

CHANGE(tnauthlist_of_another_tag)
{
    set_ext(spec, TNAUTHLIST, "DER:3010A006160431323334A306160431323334");
}

CHANGE(tnauthlist_of_a_universal_tag)
{
    set_ext(spec, TNAUTHLIST, "DER:30083006160431323334");
}

CHANGE(tnauthlist_with_octets_after)
{
    set_ext(spec, TNAUTHLIST, "DER:3008A0061604313233340000");
}

CHANGE(tnauthlist_with_octets_inside)
{
    set_ext(spec, TNAUTHLIST, "DER:300AA0081604313233340500");
}

/* ---- the table ---- */

static const struct {
    const char *id;
    enum certs_lint_role role;
    change *keeps; /* NULL: no change */
    change *breaks; /* applied after `keeps` */
} cases[] = {
    {"ca.version", INTERMEDIATE, NULL, version_2},
    {"ee.version", EE, NULL, version_2},
    {"ca.serial-number.positive", ROOT, NULL, serial_negative},
    {"ca.serial-number.positive", INTERMEDIATE, NULL, serial_zero},
    {"ee.serial-number.positive", EE, NULL, serial_negative},
    {"ee.serial-number.positive", EE, NULL, serial_zero},
    {"ca.serial-number.64-bits", ROOT, serial_of_64_bits, serial_of_63_bits},
    {"ee.serial-number.64-bits", EE, serial_of_64_bits, serial_of_63_bits},
    {"sti.serial-number.20-octets", EE, serial_of_20_octets, serial_of_21_octets},
    {"ca.signature.algorithm", INTERMEDIATE, sha_384, sha_512},
    {"ca.signature.algorithm", INTERMEDIATE, NULL, sha_384_before_cp_1_4},
    {"ca.signature.algorithm", ROOT, sha_384, sha_512},
    {"ee.signature.algorithm", EE, sha_384, sha_512},
    {"ee.signature.algorithm", EE, NULL, sha_384_before_cp_1_4},
    {"sti.signature.sha-384", EE, NULL, sha_384},
    {"sti.signature.sha-384", ROOT, NULL, sha_384},
    {"sti.signature.curve", ROOT, key_p384_sha_384, sha_256},
    {"sti.signature.curve", EE, NULL, sha_384},
    {"sti.signature.agreement", EE, NULL, algorithms_differ},
    {"root.issuer", ROOT, root_told, root_of_another_issuer},
    {"issued.issuer.name", INTERMEDIATE, NULL, of_another_issuer},
    {"issued.issuer.name", EE, NULL, of_another_issuer},
    {"ee.issuer.other", EE, NULL, signed_by_itself},
    {"sti.validity.encoding", EE, generalized_time_of_2050, generalized_time},
    {"sti.validity.order", EE, a_second_of_validity, ends_before_it_begins},
    {"sti.unique-identifiers", ROOT, NULL, with_a_unique_identifier},
    {"ca.public-key.p-256", INTERMEDIATE, key_p384, key_p384_before_cp_1_4},
    {"ca.public-key.p-256", ROOT, key_p384, key_p384_in_2022},
    {"ca.public-key.p-256", INTERMEDIATE, NULL, key_p521},
    {"ca.public-key.p-256", INTERMEDIATE, NULL, key_rsa},
    {"ee.public-key.p-256", EE, NULL, key_p384},
    {"ee.public-key.p-256", EE, NULL, key_rsa},
    {"ca.public-key.p-384", INTERMEDIATE, NULL, key_p384},
    {"ca.public-key.p-384", ROOT, NULL, key_p384},
    {"sti.public-key.valid", EE, NULL, key_off_its_curve},
    {"ca.subject.c-and-cn", ROOT, NULL, without_c},
    {"ca.subject.c-and-cn", INTERMEDIATE, NULL, with_two_cn},
    {"ee.subject.c-and-cn", EE, NULL, with_two_c},
    {"ee.subject.c-and-cn", EE, NULL, without_cn},
    {"ca.subject.o", ROOT, NULL, without_o},
    {"ee.subject.o", EE, NULL, without_o},
    {"ee.subject.o", EE, NULL, with_two_o},
    {"ca.subject.c.iso-3166", ROOT, c_that_is_nobodys, c_in_small_letters},
    {"ee.subject.c.iso-3166", EE, NULL, c_in_small_letters},
    {"ee.subject.c.iso-3166", EE, NULL, without_c},
    {"ca.subject.c.assigned", ROOT, c_of_canada, c_that_is_nobodys},
    {"ee.subject.c.assigned", EE, c_of_canada, c_that_is_nobodys},
    {"ca.subject.c.us", INTERMEDIATE, NULL, c_of_canada},
    {"ee.subject.c.us", EE, c_of_canada_before_cp_1_4, c_of_canada_under_cp_1_4},
    {"sti.subject.printable", EE, NULL, c_as_utf8},
    {"ca.subject.cn.shaken", ROOT, NULL, cn_without_shaken},
    {"ca.subject.cn.shaken", INTERMEDIATE, NULL, cn_with_shaken_in_a_word},
    {"ee.subject.cn.shaken", EE, NULL, cn_with_shaken_in_a_word},
    {"ee.subject.cn.shaken", EE, NULL, without_cn},
    {"root.subject.cn.root", ROOT, cn_with_a_small_root, cn_without_root},
    {"ca.subject.cn.kind", ROOT, in_2021, cn_without_root},
    {"ca.subject.cn.kind", INTERMEDIATE, in_2021, cn_without_root},
    {"ee.subject.cn.spc", EE, cn_with_more, cn_of_two_spaces},
    {"ee.subject.cn.spc", EE, NULL, cn_of_another_spc},
    {"ee.subject.cn.spc", EE, NULL, without_tnauthlist},
    {"ee.subject.cn.exact", EE, NULL, cn_with_more},
    {"ee.subject.cn.includes-spc", EE, in_2021_as_comcast, cn_without_spc},
    {"ca.subject.serial-number", INTERMEDIATE, of_cp_1_3_with_tnauthlist, without_a_serial_number},
    {"ee.subject.serial-number", EE, of_cp_1_3, without_a_serial_number},
    {"ee.subject.serial-number.rdn", EE, of_cp_1_3, with_a_serial_number_apart},
    {"ee.subject.serial-number.rdn", EE, of_cp_1_3, with_a_set_after_it},
    {"ca.extensions.specified", ROOT, NULL, with_ext_key_usage},
    {"ee.extensions.specified", EE, NULL, with_ext_key_usage},
    {"sti.extensions.once", EE, NULL, with_two_key_ids},
    {"sti.extensions.syntax", EE, NULL, with_policies_that_are_null},
    {"sti.extensions.not-critical", ROOT, NULL, key_id_critical},
    {"sti.extensions.not-critical", EE, NULL, authority_key_id_critical},
    {"sti.basic-constraints", EE, NULL, without_basic_constraints},
    {"sti.basic-constraints", ROOT, NULL, basic_constraints_not_critical},
    {"sti.basic-constraints", EE, NULL, basic_constraints_broken},
    {"sti.basic-constraints.role", INTERMEDIATE, told_role, intermediate_that_is_no_ca},
    {"sti.basic-constraints.role", EE, told_role, end_entity_that_is_a_ca},
    {"sti.basic-constraints.default", EE, NULL, ca_false_written_out},
    {"ee.basic-constraints.path-len", EE, NULL, with_path_len},
    {"sti.key-usage", ROOT, NULL, without_key_usage},
    {"sti.key-usage", EE, NULL, key_usage_not_critical},
    {"ca.key-usage.values", INTERMEDIATE, key_usage_crl_sign_before_cp_1_4,
     key_usage_of_encipherment},
    {"ca.key-usage.values", INTERMEDIATE, NULL, key_usage_crl_sign},
    {"ca.key-usage.values", ROOT, key_usage_crl_sign, key_usage_of_encipherment},
    {"ca.key-usage.only", ROOT, NULL, key_usage_crl_sign},
    {"ee.key-usage.values", EE, NULL, key_usage_of_encipherment},
    {"ca.subject-key-identifier", ROOT, NULL, without_key_id},
    {"ee.subject-key-identifier", EE, NULL, without_key_id},
    {"ca.subject-key-identifier.160-bits", ROOT, NULL, key_id_of_8_bits},
    {"ca.subject-key-identifier.160-bits", INTERMEDIATE, NULL, without_key_id},
    {"ee.subject-key-identifier.160-bits", EE, key_id_of_another_key, key_id_of_8_bits},
    {"ca.subject-key-identifier.sha-1", ROOT, NULL, key_id_of_another_key},
    {"ee.subject-key-identifier.sha-1", EE, NULL, key_id_of_another_key},
    {"intermediate.authority-key-identifier", INTERMEDIATE, NULL, without_authority_key_id},
    {"ee.authority-key-identifier", EE, NULL, without_authority_key_id},
    {"root.authority-key-identifier", ROOT, authority_key_id_own, authority_key_id_of_another_key},
    {"issued.authority-key-identifier.value", EE, NULL, authority_key_id_empty},
    {"issued.authority-key-identifier.value", INTERMEDIATE, NULL, authority_key_id_empty},
    {"issued.authority-key-identifier.issuer", EE, NULL, authority_key_id_of_another_key},
    {"intermediate.certificate-policies", INTERMEDIATE, NULL, without_policies},
    {"intermediate.certificate-policies", INTERMEDIATE, NULL, policies_critical},
    {"ee.certificate-policies", EE, NULL, policies_two},
    {"ee.certificate-policies", EE, NULL, policies_critical},
    {"intermediate.certificate-policies.shaken", INTERMEDIATE, policy_cp_1_3, policy_of_others},
    {"intermediate.certificate-policies.shaken", INTERMEDIATE, NULL, policies_two},
    {"ee.certificate-policies.shaken", EE, policy_cp_1_3, policy_of_others},
    {"intermediate.certificate-policies.cp-1.1", INTERMEDIATE, in_2021, in_2021_of_another_policy},
    {"ee.certificate-policies.cp-1.1", EE, in_2021, in_2021_of_another_policy},
    {"intermediate.certificate-policies.current", INTERMEDIATE, NULL, policy_cp_1_3},
    {"ee.certificate-policies.current", EE, NULL, policy_cp_1_3},
    {"root.certificate-policies", ROOT, NULL, with_policies},
    {"intermediate.crl-distribution-points", INTERMEDIATE, NULL, without_crl},
    {"intermediate.crl-distribution-points", INTERMEDIATE, NULL, crl_two_urls},
    {"ee.crl-distribution-points", EE, NULL, crl_by_ldap},
    {"ee.crl-distribution-points", EE, NULL, crl_issuer_only},
    {"intermediate.crl-distribution-points.url", INTERMEDIATE, NULL, crl_by_ldap},
    {"ee.crl-distribution-points.url", EE, NULL, crl_without_host},
    {"intermediate.crl-distribution-points.one", INTERMEDIATE, NULL, crl_two_points},
    {"ee.crl-distribution-points.one", EE, NULL, crl_two_points},
    {"intermediate.crl-distribution-points.crl-issuer", INTERMEDIATE, NULL, crl_without_issuer},
    {"ee.crl-distribution-points.crl-issuer", EE, NULL, crl_without_issuer},
    {"ee.crl-distribution-points.crl-issuer", EE, NULL, crl_reasons_before_issuer},
    {"ee.crl-distribution-points.crl-issuer", EE, NULL, crl_issuer_only},
    {"intermediate.crl-distribution-points.crl-issuer.any-policy", INTERMEDIATE, policy_cp_1_3,
     crl_without_issuer},
    {"ee.crl-distribution-points.crl-issuer.any-policy", EE, policy_cp_1_3, crl_without_issuer},
    {"intermediate.crl-distribution-points.crl-issuer-name", INTERMEDIATE, NULL,
     crl_issuer_is_a_url},
    {"ee.crl-distribution-points.crl-issuer-name", EE, NULL, crl_issuer_is_a_url},
    {"root.crl-distribution-points", ROOT, NULL, with_crl},
    {"ca.tnauthlist", ROOT, NULL, with_tnauthlist},
    {"ca.tnauthlist", INTERMEDIATE, NULL, with_tnauthlist},
    {"ee.tnauthlist", EE, NULL, without_tnauthlist},
    {"ee.tnauthlist", EE, NULL, tnauthlist_critical},
    {"ee.tnauthlist", EE, NULL, tnauthlist_empty},
    {"ee.tnauthlist", EE, NULL, tnauthlist_of_two},
    {"ee.tnauthlist", EE, NULL, tnauthlist_of_an_empty_spc},
    {"ee.tnauthlist", EE, tnauthlist_of_a_printable_string, tnauthlist_of_a_number},
    {"ee.tnauthlist.spc-characters", EE, NULL, tnauthlist_in_small_letters},
    {"ee.tnauthlist.only-spc", EE, NULL, tnauthlist_with_a_number},
    {"sti.tnauthlist.ia5string", EE, NULL, tnauthlist_of_a_printable_string},
    {"sti.tnauthlist.tags", EE, tnauthlist_with_a_number, tnauthlist_of_another_tag},
    {"sti.tnauthlist.tags", EE, NULL, tnauthlist_of_a_universal_tag},
    {"sti.tnauthlist.end", EE, NULL, tnauthlist_with_octets_after},
    {"sti.tnauthlist.end", EE, NULL, tnauthlist_with_octets_inside},
};

/* ---- tests ---- */

static struct certs_lint *
lint(const struct spec *spec)
{
    struct certs_lint_options options = {.issuer = issuer_of(spec)};
    struct certs_lint *found = NULL;
    X509 *cert = make(spec);

    if (spec->tell_role)
        options.role = spec->role;
    assert_int_equal(certs_lint_new(cert, &options, &found), HSM_OK);
    X509_free(cert);
    return found;
}

static const struct certs_lint_finding *
find(const struct certs_lint *found, const char *id)
{
    for (size_t i = 0; i < certs_lint_len(found); i++) {
        if (strcmp(certs_lint_get(found, i)->rule->id, id) == 0)
            return certs_lint_get(found, i);
    }
    return NULL;
}

static const struct certs_lint_rule *
rule_of(const char *id)
{
    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        if (strcmp(certs_lint_rule(i)->id, id) == 0)
            return certs_lint_rule(i);
    }
    fail_msg("no rule %s", id);
    return NULL;
}

static void
the_good_chain_keeps_every_rule(void **state)
{
    static const enum certs_lint_role roles[] = {ROOT, INTERMEDIATE, EE};

    (void)state;
    for (size_t i = 0; i < COUNT(roles); i++) {
        struct spec spec = good_spec(roles[i]);
        struct certs_lint *found = lint(&spec);

        if (certs_lint_len(found) > 0)
            fail_msg("%s: %s", certs_lint_get(found, 0)->rule->id,
                     certs_lint_get(found, 0)->detail.text);
        assert_int_equal(certs_lint_role(found), roles[i]);
        certs_lint_free(found);
    }
}

static void
each_rule_is_kept_and_broken(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct certs_lint_rule *rule = rule_of(cases[i].id);
        struct spec spec = good_spec(cases[i].role);
        const struct certs_lint_finding *finding;
        struct certs_lint *found;

        if (cases[i].keeps != NULL)
            cases[i].keeps(&spec);
        found = lint(&spec);
        finding = find(found, rule->id);
        if (finding != NULL)
            fail_msg("case %zu: %s is broken by %s", i, rule->id, finding->detail.text);
        if (certs_lint_date(found) < rule->from ||
            (rule->until != 0 && certs_lint_date(found) >= rule->until) ||
            (certs_lint_role(found) & rule->roles) == 0)
            fail_msg("case %zu: %s did not apply", i, rule->id);
        certs_lint_free(found);

        cases[i].breaks(&spec);
        found = lint(&spec);
        finding = find(found, rule->id);
        if (finding == NULL)
            fail_msg("case %zu: %s is kept", i, rule->id);
        else if (finding->detail.text[0] == '\0')
            fail_msg("case %zu: %s does not say by what", i, rule->id);
        certs_lint_free(found);
    }
}

static void
no_rule_is_without_a_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        size_t k = 0;

        while (k < COUNT(cases) && strcmp(cases[k].id, certs_lint_rule(i)->id) != 0)
            k++;
        if (k == COUNT(cases))
            fail_msg("%s has no case", certs_lint_rule(i)->id);
    }
}

static void
rules_are_named_once_and_are_in_force_some_day(void **state)
{
    (void)state;
    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        const struct certs_lint_rule *rule = certs_lint_rule(i);

        assert_ptr_equal(rule_of(rule->id), rule);
        assert_true(rule->roles != 0 && (rule->roles & ~(unsigned)(ROOT | INTERMEDIATE | EE)) == 0);
        assert_true(rule->until == 0 || rule->until > rule->from);
        assert_string_not_equal(rule->requirement, "");
        assert_string_not_equal(rule->citation, "");
    }
}

/* The last day before a rule takes effect and the first day after it, for end entities and CAs. */
static void
a_rule_begins_on_its_day(void **state)
{
    static const struct {
        const char *id;
        enum certs_lint_role role;
        time_t last_free; /* 23:59:59 */
        change *breaks;
    } days[] = {
        {"ee.serial-number.64-bits", EE, 1678579199, serial_of_63_bits}, /* 2023-03-11 */
        {"ca.serial-number.64-bits", ROOT, 1670803199, serial_of_63_bits}, /* 2022-12-11 */
        {"ee.version", EE, 1606953599, version_2}, /* 2020-12-02 */
        {"ee.subject.o", EE, 1642291199, without_o}, /* 2022-01-15 */
        {"ee.certificate-policies.shaken", EE, 1641772799, policy_of_others}, /* 2022-01-09 */
        {"ee.subject.c.us", EE, 1693785599, c_of_canada}, /* 2023-09-03 */
        {"ca.subject.c.us", INTERMEDIATE, 1686009599, c_of_canada}, /* 2023-06-05 */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(days); i++) {
        struct spec spec = good_spec(days[i].role);
        struct certs_lint *found;

        days[i].breaks(&spec);
        spec.not_before = days[i].last_free;
        found = lint(&spec);
        assert_null(find(found, days[i].id));
        certs_lint_free(found);
        spec.not_before++;
        found = lint(&spec);
        assert_non_null(find(found, days[i].id));
        certs_lint_free(found);
    }
}

static void
two_standards_that_disagree_give_a_warning(void **state)
{
    struct spec spec = good_spec(INTERMEDIATE);
    struct certs_lint *found;

    (void)state;
    key_p384(&spec);
    found = lint(&spec);
    assert_int_equal(certs_lint_count(found, CERTS_LINT_ERROR), 0);
    assert_int_equal(certs_lint_count(found, CERTS_LINT_WARNING), 1);
    certs_lint_free(found);
    key_p384_before_cp_1_4(&spec);
    found = lint(&spec);
    assert_int_equal(find(found, "ca.public-key.p-256")->rule->severity, CERTS_LINT_ERROR);
    certs_lint_free(found);
}

static void
of_an_extension_that_is_there_twice_the_last_one_is_judged(void **state)
{
    struct spec spec = good_spec(EE);
    struct certs_lint *found;

    (void)state;
    add_ext(&spec, "keyUsage", "critical,keyEncipherment");
    add_ext(&spec, "basicConstraints", "critical,CA:TRUE");
    found = lint(&spec);
    assert_int_equal(certs_lint_role(found), INTERMEDIATE);
    assert_non_null(find(found, "ca.key-usage.values"));
    assert_non_null(find(found, "sti.extensions.once"));
    certs_lint_free(found);
}

static int
chain_up(void **state)
{
    struct spec spec;

    (void)state;
    root_key = peer_key_new("P-256");
    ca_key = peer_key_new("P-256");
    ee_key = peer_key_new("P-256");
    p384_key = peer_key_new("P-384");
    p521_key = peer_key_new("P-521");
    rsa_key = EVP_RSA_gen(2048);
    peer_must(rsa_key != NULL, "RSA");
    spec = good_spec(ROOT);
    root_cert = make(&spec);
    spec = good_spec(INTERMEDIATE);
    ca_cert = make(&spec);
    return 0;
}

static int
chain_down(void **state)
{
    EVP_PKEY *keys[] = {root_key, ca_key, ee_key, p384_key, p521_key, rsa_key};

    (void)state;
    for (size_t i = 0; i < COUNT(keys); i++)
        EVP_PKEY_free(keys[i]);
    X509_free(root_cert);
    X509_free(ca_cert);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_chain_keeps_every_rule),
        cmocka_unit_test(each_rule_is_kept_and_broken),
        cmocka_unit_test(no_rule_is_without_a_case),
        cmocka_unit_test(rules_are_named_once_and_are_in_force_some_day),
        cmocka_unit_test(a_rule_begins_on_its_day),
        cmocka_unit_test(two_standards_that_disagree_give_a_warning),
        cmocka_unit_test(of_an_extension_that_is_there_twice_the_last_one_is_judged),
    };

    return cmocka_run_group_tests(tests, chain_up, chain_down);
}
