/* issue.c - certificates by profile, signed by a token key. */

#define _GNU_SOURCE /* strcasestr */

#include <certs/issue.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <hsm/es256.h>

#include "x509_internal.h"

#define SERIAL_MIN 8 /* octets: ATIS-1000080 v005 section 6.4.1, at least 64 bits */
#define SERIAL_LEN 16 /* octets of those that certs_serial_new() makes */
#define URL_MAX    1024 /* octets of a CRL URL */

/* What a profile asks of subject and extensions; what it does not name is forbidden. */
struct profile {
    const char *text;
    bool ca;
    bool self_signed;
    bool c_and_o; /* C and O are required */
    bool policy_and_crl; /* CertificatePolicies, CRLDistributionPoints */
    bool tnauthlist; /* TNAuthList of one SPC; CN "SHAKEN <SPC>" */
    bool alt_names; /* subjectAltName, at least one name */
    bool shaken_in_cn; /* CN contains "SHAKEN" */
    bool root_in_cn; /* CN contains "ROOT", in any case */
    int key_usage; /* KU_*: exactly this */
    int ext_key_usage; /* NID; NID_undef: no such extension */
};

static const struct profile profiles[] = {
    /* ATIS-1000080 v005 section 6.4.1 */
    [CERTS_PROFILE_STI_ROOT] = {.text = "sti-root",
                                .ca = true,
                                .self_signed = true,
                                .c_and_o = true,
                                .shaken_in_cn = true,
                                .root_in_cn = true,
                                .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_STI_INTERMEDIATE] = {.text = "sti-intermediate",
                                        .ca = true,
                                        .c_and_o = true,
                                        .policy_and_crl = true,
                                        .shaken_in_cn = true,
                                        .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_STI_END_ENTITY] = {.text = "sti-end-entity",
                                      .c_and_o = true,
                                      .policy_and_crl = true,
                                      .tnauthlist = true,
                                      .key_usage = KU_DIGITAL_SIGNATURE},
    /* the STI-PA's own: RFC 5280 */
    [CERTS_PROFILE_PA_ROOT] = {.text = "pa-root",
                               .ca = true,
                               .self_signed = true,
                               .c_and_o = true,
                               .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_PA_SIGNER] = {.text = "pa-signer",
                                 .c_and_o = true,
                                 .key_usage = KU_DIGITAL_SIGNATURE},
    [CERTS_PROFILE_PA_CRL_SIGNER] = {.text = "pa-crl-signer",
                                     .c_and_o = true,
                                     .key_usage = KU_CRL_SIGN},
    /* of our daemons and their clients: RFC 5280, RFC 6125 */
    [CERTS_PROFILE_TLS_ROOT] = {.text = "tls-root",
                                .ca = true,
                                .self_signed = true,
                                .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_TLS_SERVER] = {.text = "tls-server",
                                  .alt_names = true,
                                  .key_usage = KU_DIGITAL_SIGNATURE,
                                  .ext_key_usage = NID_server_auth},
    [CERTS_PROFILE_TLS_CLIENT] = {.text = "tls-client",
                                  .key_usage = KU_DIGITAL_SIGNATURE,
                                  .ext_key_usage = NID_client_auth},
};

#define PROFILES (sizeof(profiles) / sizeof(profiles[0]))

DEFINE_DEFER(ASN1_BIT_STRING, ASN1_BIT_STRING_free)
DEFINE_DEFER(ASN1_INTEGER, ASN1_INTEGER_free)
DEFINE_DEFER(ASN1_OCTET_STRING, ASN1_OCTET_STRING_free)
DEFINE_DEFER(CERTIFICATEPOLICIES, CERTIFICATEPOLICIES_free)
DEFINE_DEFER(CRL_DIST_POINTS, CRL_DIST_POINTS_free)
DEFINE_DEFER(DIST_POINT, DIST_POINT_free)
DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)
DEFINE_DEFER(EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free)
DEFINE_DEFER(POLICYINFO, POLICYINFO_free)

const char *
certs_profile_text(enum certs_profile profile)
{
    return (size_t)profile < PROFILES ? profiles[profile].text : "unknown";
}

enum hsm_status
certs_profile_parse(const char *text, enum certs_profile *out)
{
    for (size_t i = 0; i < PROFILES; i++) {
        if (strcmp(text, profiles[i].text) == 0) {
            *out = (enum certs_profile)i;
            return HSM_OK;
        }
    }
    return HSM_ERR_MALFORMED;
}

enum hsm_status
certs_serial_new(struct hsm_token *token, uint8_t out[CERTS_SERIAL_MAX], size_t *len)
{
    uint8_t serial[SERIAL_LEN];
    enum hsm_status st = hsm_token_random(token, serial, sizeof(serial));

    if (st != HSM_OK)
        return st;
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and always of 16 octets */
    memcpy(out, serial, sizeof(serial));
    *len = sizeof(serial);
    return HSM_OK;
}

static enum hsm_status
refuse(struct hsm_reason *why, const struct profile *profile, const char *rule)
{
    return hsm_refuse(why, HSM_ERR_USAGE, "%s: %s", profile->text, rule);
}

/* RFC 5280 section 4.1.2.2 and ATIS-1000080 v005 section 6.4.1 */
static enum hsm_status
check_serial(const struct certs_issue_request *request, const struct profile *profile,
             struct hsm_reason *why)
{
    if (request->serial_len < SERIAL_MIN || request->serial_len > CERTS_SERIAL_MAX)
        return refuse(why, profile, "the serial number must have 8 to 20 octets");
    if ((request->serial[0] & 0x80) != 0)
        return refuse(why, profile, "the serial number must be positive");
    if (request->serial[0] == 0 && (request->serial[1] & 0x80) == 0)
        return refuse(why, profile, "the serial number must be in its shortest form");
    return HSM_OK;
}

static enum hsm_status
check_subject(const struct certs_issue_request *request, const struct profile *profile,
              struct hsm_reason *why)
{
    const struct certs_subject *subject = &request->subject;

    if (subject->common_name == NULL)
        return refuse(why, profile, "the subject must have a CN");
    if (profile->c_and_o && (subject->country == NULL || subject->organization == NULL))
        return refuse(why, profile, "the subject must have a C and an O");
    if (profile->shaken_in_cn && strstr(subject->common_name, "SHAKEN") == NULL)
        return refuse(why, profile, "the CN must contain \"SHAKEN\"");
    if (profile->root_in_cn && strcasestr(subject->common_name, "ROOT") == NULL)
        return refuse(why, profile, "the CN must contain \"ROOT\"");
    return HSM_OK;
}

/* ATIS-1000080 v005: exactly one SPC of digits and upper-case letters; CN is exactly "SHAKEN
 * <SPC>". */
static enum hsm_status
check_tnauthlist(const struct certs_issue_request *request, const struct profile *profile,
                 struct hsm_reason *why)
{
    static const char prefix[] = "SHAKEN ";
    const char *cn = request->subject.common_name;
    const char *spc;

    if (!profile->tnauthlist)
        return request->tnauthlist == NULL ? HSM_OK
                                           : refuse(why, profile, "it must not have a TNAuthList");
    spc = request->tnauthlist == NULL ? NULL : certs_tnauthlist_spc(request->tnauthlist);
    if (spc == NULL)
        return refuse(why, profile, "it must have a TNAuthList of exactly one SPC");
    if (strspn(spc, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(spc))
        return refuse(why, profile, "the SPC must be digits and upper-case letters");
    if (strncmp(cn, prefix, strlen(prefix)) != 0 || strcmp(cn + strlen(prefix), spc) != 0)
        return refuse(why, profile,
                      "the CN must be \"SHAKEN <SPC>\" with the SPC of the TNAuthList");
    return HSM_OK;
}

static bool
is_http_url(const char *url)
{
    const char *host = strncmp(url, "https://", 8) == 0  ? url + 8
                       : strncmp(url, "http://", 7) == 0 ? url + 7
                                                         : NULL;

    if (host == NULL || *host == '\0' || *host == '/' || strlen(url) > URL_MAX)
        return false;
    for (const char *c = url; *c != '\0'; c++) {
        if (*c <= 0x20 || *c > 0x7e)
            return false;
    }
    return true;
}

static enum hsm_status
check_policy_and_crl(const struct certs_issue_request *request, const struct profile *profile,
                     struct hsm_reason *why)
{
    if (!profile->policy_and_crl) {
        if (request->policy_oid != NULL)
            return refuse(why, profile, "it must not have a certificate policy");
        if (request->crl_url != NULL || request->crl_issuer != NULL)
            return refuse(why, profile, "it must not have a CRL distribution point");
        return HSM_OK;
    }
    if (request->policy_oid == NULL)
        return refuse(why, profile, "it must have one certificate policy");
    if (request->crl_url == NULL || !is_http_url(request->crl_url))
        return refuse(why, profile, "it must have the HTTP URL of the CRL");
    if (request->crl_issuer == NULL || X509_NAME_entry_count(request->crl_issuer) == 0)
        return refuse(why, profile, "it must have the name of the CRL issuer");
    return HSM_OK;
}

static enum hsm_status
check_rest(const struct certs_issue_request *request, const struct profile *profile,
           struct hsm_reason *why)
{
    bool has_dns = request->dns_names != NULL && request->dns_names[0] != NULL;
    bool has_ip = request->ip_addresses != NULL && request->ip_addresses[0] != NULL;

    if (profile->alt_names != (has_dns || has_ip))
        return refuse(why, profile,
                      profile->alt_names ? "it must have a DNS name or IP address"
                                         : "it must not have DNS names or IP addresses");
    if (!certs_is_p256(request->public_key))
        return refuse(why, profile, "the subject's key must be on P-256");
    if (request->not_before >= request->not_after)
        return refuse(why, profile, "notBefore must come before notAfter");
    return HSM_OK;
}

static enum hsm_status
check_request(const struct certs_issue_request *request, const struct profile *profile,
              struct hsm_reason *why)
{
    enum hsm_status st = check_serial(request, profile, why);

    if (st == HSM_OK)
        st = check_subject(request, profile, why);
    if (st == HSM_OK)
        st = check_tnauthlist(request, profile, why);
    if (st == HSM_OK)
        st = check_policy_and_crl(request, profile, why);
    return st == HSM_OK ? check_rest(request, profile, why) : st;
}

/* The issuing certificate is a CA's, its key is the one at hand, and its validity covers the new
 * one's. */
static enum hsm_status
check_issuer(const struct certs_issue_request *request, const struct profile *profile,
             const X509 *issuer, const struct hsm_key *issuer_key, struct hsm_reason *why)
{
    X509 *cert = (X509 *)issuer; /* OpenSSL's getters fill a cache under a lock */

    if (!hsm_key_matches(issuer_key, certs_cert_public(issuer)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the key is not that of the issuing certificate");
    if (X509_check_ca(cert) != 1 || (X509_get_key_usage(cert) & KU_KEY_CERT_SIGN) == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the issuing certificate is not a CA's");
    if (profile->ca && X509_get_pathlen(cert) == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate's pathLenConstraint allows no CA below it");
    if (X509_get0_subject_key_id(cert) == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate has no subject key identifier");
    if (request->not_before < certs_cert_not_before(issuer) ||
        request->not_after > certs_cert_not_after(issuer))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate is not valid for all of the validity asked for");
    return HSM_OK;
}

static enum hsm_status
check_signer(const struct certs_issue_request *request, const struct profile *profile,
             const X509 *issuer, const struct hsm_key *issuer_key, struct hsm_reason *why)
{
    if (profile->self_signed != (issuer == NULL))
        return refuse(why, profile,
                      profile->self_signed ? "it is self-signed, it has no issuing certificate"
                                           : "it needs an issuing certificate");
    if (issuer != NULL)
        return check_issuer(request, profile, issuer, issuer_key, why);
    if (!hsm_key_matches(issuer_key, request->public_key))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the subject's key is not the signing key");
    return HSM_OK;
}

static enum hsm_status
add_key_usage(X509_EXTENSIONS **exts, int usage)
{
    DEFER(ASN1_BIT_STRING_free) ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();

    for (int n = 0; bits != NULL && n < 8; n++) {
        if ((usage & (0x80 >> n)) != 0 && ASN1_BIT_STRING_set_bit(bits, n, 1) != 1)
            return HSM_ERR_NOMEM;
    }
    return certs_exts_add(exts, NID_key_usage, true, bits);
}

static enum hsm_status
add_ext_key_usage(X509_EXTENSIONS **exts, int nid)
{
    DEFER(EXTENDED_KEY_USAGE_free) EXTENDED_KEY_USAGE *usage = EXTENDED_KEY_USAGE_new();

    if (usage == NULL || sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(nid)) < 1)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_ext_key_usage, false, usage);
}

/* RFC 5280 section 4.2.1.2 method (1): SHA-1 of the content of the subjectPublicKey BIT STRING. */
static enum hsm_status
add_subject_key_id(X509_EXTENSIONS **exts, const X509 *cert)
{
    DEFER(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    uint8_t sha1[CERTS_SHA1_LEN];

    if (X509_pubkey_digest(cert, EVP_sha1(), sha1, NULL) != 1)
        return certs_openssl_failed("subjectKeyIdentifier");
    if (id == NULL || ASN1_OCTET_STRING_set(id, sha1, sizeof(sha1)) != 1)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_subject_key_identifier, false, id);
}

static enum hsm_status
add_policy(X509_EXTENSIONS **exts, const char *oid, struct hsm_reason *why)
{
    DEFER(CERTIFICATEPOLICIES_free) CERTIFICATEPOLICIES *policies = CERTIFICATEPOLICIES_new();
    DEFER(POLICYINFO_free) POLICYINFO *policy = POLICYINFO_new();
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);

    if (object == NULL) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_USAGE, "\"%s\" is not an object identifier", oid);
    }
    if (policies == NULL || policy == NULL) {
        ASN1_OBJECT_free(object);
        return HSM_ERR_NOMEM;
    }
    policy->policyid = object;
    if (sk_POLICYINFO_push(policies, policy) < 1)
        return HSM_ERR_NOMEM;
    policy = NULL;
    return certs_exts_add(exts, NID_certificate_policies, false, policies);
}

/* One DistributionPoint: fullName with the URL, cRLIssuer with the STI-PA's name. */
static enum hsm_status
add_crl_distribution_point(X509_EXTENSIONS **exts, const struct certs_issue_request *request)
{
    DEFER(CRL_DIST_POINTS_free) CRL_DIST_POINTS *points = CRL_DIST_POINTS_new();
    DEFER(DIST_POINT_free) DIST_POINT *point = DIST_POINT_new();

    if (points == NULL || point == NULL)
        return HSM_ERR_NOMEM;
    point->distpoint = DIST_POINT_NAME_new();
    point->CRLissuer = certs_directory_names(request->crl_issuer);
    if (point->distpoint == NULL || point->CRLissuer == NULL)
        return HSM_ERR_NOMEM;
    point->distpoint->type = 0; /* fullName */
    point->distpoint->name.fullname = certs_uri_names(request->crl_url);
    if (point->distpoint->name.fullname == NULL || sk_DIST_POINT_push(points, point) < 1)
        return HSM_ERR_NOMEM;
    point = NULL;
    return certs_exts_add(exts, NID_crl_distribution_points, false, points);
}

static enum hsm_status
build_extensions(const struct certs_issue_request *request, const struct profile *profile,
                 const X509 *issuer, const X509 *cert, X509_EXTENSIONS **exts,
                 struct hsm_reason *why)
{
    enum hsm_status st = certs_exts_add_basic_constraints(exts, profile->ca);

    if (st == HSM_OK)
        st = add_key_usage(exts, profile->key_usage);
    if (st == HSM_OK && profile->ext_key_usage != NID_undef)
        st = add_ext_key_usage(exts, profile->ext_key_usage);
    if (st == HSM_OK)
        st = add_subject_key_id(exts, cert);
    if (st == HSM_OK && issuer != NULL)
        st = certs_exts_add_authority_key_id(exts, issuer);
    if (st == HSM_OK && profile->policy_and_crl)
        st = add_policy(exts, request->policy_oid, why);
    if (st == HSM_OK && profile->policy_and_crl)
        st = add_crl_distribution_point(exts, request);
    if (st == HSM_OK && profile->tnauthlist)
        st = certs_exts_add_tnauthlist(exts, request->tnauthlist);
    if (st == HSM_OK && profile->alt_names)
        st = certs_exts_add_alt_names(exts, request->dns_names, request->ip_addresses, why);
    return st;
}

static enum hsm_status
set_extensions(X509 *cert, const X509_EXTENSIONS *exts)
{
    for (int i = 0; i < sk_X509_EXTENSION_num(exts); i++) {
        if (X509_add_ext(cert, sk_X509_EXTENSION_value(exts, i), -1) != 1)
            return certs_openssl_failed("extensions");
    }
    return HSM_OK;
}

/* The subject's key as a named curve and an uncompressed point, however it came. */
static enum hsm_status
set_public_key(X509 *cert, EVP_PKEY *public_key)
{
    DEFER(EVP_PKEY_free) EVP_PKEY *key = NULL;
    uint8_t point[HSM_P256_POINT_LEN];
    enum hsm_status st = hsm_p256_point(public_key, point);

    if (st == HSM_OK)
        st = hsm_p256_from_point(point, sizeof(point), &key);
    if (st != HSM_OK)
        return st;
    return X509_set_pubkey(cert, key) == 1 ? HSM_OK : certs_openssl_failed("subject's key");
}

static enum hsm_status
set_serial(X509 *cert, const uint8_t *serial, size_t len)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *integer = ASN1_INTEGER_new();
    size_t skip = serial[0] == 0 ? 1 : 0; /* OpenSSL keeps the magnitude */

    if (integer == NULL || ASN1_STRING_set(integer, serial + skip, (int)(len - skip)) != 1 ||
        X509_set_serialNumber(cert, integer) != 1)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

static enum hsm_status
set_fields(const struct certs_issue_request *request, const X509 *issuer, X509 *cert,
           struct hsm_reason *why)
{
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    enum hsm_status st = certs_subject_name(&request->subject, &name, why);

    if (st == HSM_OK)
        st = set_serial(cert, request->serial, request->serial_len);
    if (st == HSM_OK)
        st = set_public_key(cert, request->public_key);
    if (st == HSM_OK)
        st = certs_set_algorithm(cert);
    if (st != HSM_OK)
        return st;
    /* ASN1_TIME_set() writes UTCTime until 2049, then GeneralizedTime: RFC 5280 section 4.1.2.5 */
    if (X509_set_version(cert, X509_VERSION_3) != 1 || X509_set_subject_name(cert, name) != 1 ||
        X509_set_issuer_name(cert, issuer == NULL ? name : X509_get_subject_name(issuer)) != 1 ||
        ASN1_TIME_set(X509_getm_notBefore(cert), request->not_before) == NULL ||
        ASN1_TIME_set(X509_getm_notAfter(cert), request->not_after) == NULL)
        return certs_openssl_failed("certificate");
    return HSM_OK;
}

static enum hsm_status
build(const struct certs_issue_request *request, const struct profile *profile, const X509 *issuer,
      X509 *cert, struct hsm_reason *why)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    enum hsm_status st = set_fields(request, issuer, cert, why);

    if (st == HSM_OK)
        st = build_extensions(request, profile, issuer, cert, &exts, why);
    return st == HSM_OK ? set_extensions(cert, exts) : st;
}

/* Sign, and read back what was assembled: only what parses and verifies leaves this file. */
static enum hsm_status
sign(X509 *built, struct hsm_key *key, X509 **out, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    DEFER(free) void *octets = NULL;
    uint8_t *tbs = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    int tbs_len = i2d_re_X509_tbs(built, &tbs);
    enum hsm_status st;

    if (tbs_len <= 0)
        return certs_openssl_failed("certificate");
    st = certs_sign(key, tbs, (size_t)tbs_len, &der, &len);
    OPENSSL_free(tbs);
    if (st != HSM_OK)
        return st;
    octets = der;
    st = certs_cert_parse_der(der, len, &cert, why);
    if (st != HSM_OK)
        return st;
    if (X509_verify(cert, hsm_key_public(key)) != 1)
        return certs_openssl_failed("certificate");

    *out = cert;
    cert = NULL;
    return HSM_OK;
}

enum hsm_status
certs_issue(const struct certs_issue_request *request, const X509 *issuer,
            struct hsm_key *issuer_key, X509 **out, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    const struct profile *profile;
    enum hsm_status st;

    if ((size_t)request->profile >= PROFILES)
        return hsm_refuse(why, HSM_ERR_USAGE, "unknown profile");
    profile = &profiles[request->profile];
    st = check_request(request, profile, why);
    if (st == HSM_OK)
        st = check_signer(request, profile, issuer, issuer_key, why);
    if (st != HSM_OK)
        return st;

    cert = X509_new();
    if (cert == NULL)
        return HSM_ERR_NOMEM;
    st = build(request, profile, issuer, cert, why);
    return st == HSM_OK ? sign(cert, issuer_key, out, why) : st;
}

enum hsm_status
certs_name_der(const X509_NAME *name, uint8_t **out, size_t *len)
{
    const uint8_t *der;
    uint8_t *copy;
    size_t der_len;

    if (X509_NAME_get0_der(name, &der, &der_len) != 1)
        return certs_openssl_failed("name");
    copy = malloc(der_len);
    if (copy == NULL)
        return HSM_ERR_NOMEM;
    memcpy(copy, der, der_len);
    *out = copy;
    *len = der_len;
    return HSM_OK;
}

enum hsm_status
certs_name_parse(const uint8_t *der, size_t len, X509_NAME **out)
{
    const uint8_t *at = der;
    X509_NAME *name = len > CERTS_CERT_MAX ? NULL : d2i_X509_NAME(NULL, &at, (long)len);

    if (name == NULL || at != der + len) {
        ERR_clear_error();
        X509_NAME_free(name);
        return HSM_ERR_MALFORMED;
    }
    *out = name;
    return HSM_OK;
}
