/* issue.c - certificates by profile, signed by a token key. */

#include <certs/issue.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <certs/lint.h>
#include <hsm/es256.h>
#include <hsm/use.h>

#include "profile_internal.h"
#include "x509_internal.h"

#define SERIAL_LEN 16 /* octets of serial numbers made by certs_serial_new() */

DEFINE_DEFER(ASN1_BIT_STRING, ASN1_BIT_STRING_free)
DEFINE_DEFER(DIST_POINT, DIST_POINT_free)
DEFINE_DEFER(EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free)
DEFINE_DEFER(POLICYINFO, POLICYINFO_free)

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

/*
 * RFC 5280 section 4.2.1.2 method (1): SHA-1 of the content of the subjectPublicKey BIT STRING. A
 * cross certificate repeats the root's own identifier for its key, because certificates under the
 * root refer to that.
 */
static enum hsm_status
add_subject_key_id(X509_EXTENSIONS **exts, const X509 *cert, const X509 *subject_cert)
{
    DEFER(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    uint8_t sha1[CERTS_SHA1_LEN];

    if (subject_cert != NULL)
        return certs_exts_add(exts, NID_subject_key_identifier, false,
                              (void *)X509_get0_subject_key_id((X509 *)subject_cert));
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
add_basic_constraints(X509_EXTENSIONS **exts, const struct certs_issue_request *request,
                      const struct certs_profile_rules *profile)
{
    long path_len = request->has_path_len ? (long)request->path_len : CERTS_NO_PATH_LEN;

    return certs_exts_add_basic_constraints(exts, profile->ca, path_len);
}

/* The TNAuthList by value, or by its URL. */
static enum hsm_status
add_scope(X509_EXTENSIONS **exts, const struct certs_issue_request *request)
{
    if (request->tnauthlist_url != NULL)
        return certs_exts_add_info_access(exts, CERTS_AD_STIR_TN_LIST, request->tnauthlist_url);
    return certs_exts_add_tnauthlist(exts, request->tnauthlist);
}

/* The extensions of all profiles. */
static enum hsm_status
build_common_extensions(const struct certs_issue_request *request,
                        const struct certs_profile_rules *profile, const X509 *issuer,
                        const X509 *cert, X509_EXTENSIONS **exts)
{
    enum hsm_status st = add_basic_constraints(exts, request, profile);

    if (st == HSM_OK)
        st = add_key_usage(exts, profile->key_usage);
    if (st == HSM_OK && profile->ext_key_usage != NID_undef)
        st = add_ext_key_usage(exts, profile->ext_key_usage);
    if (st == HSM_OK)
        st = add_subject_key_id(exts, cert, request->subject_cert);
    if (st == HSM_OK && issuer != NULL)
        st = certs_exts_add_authority_key_id(exts, issuer);
    return st;
}

/* The request was checked against its profile, so what it contains is allowed. */
static enum hsm_status
build_extensions(const struct certs_issue_request *request,
                 const struct certs_profile_rules *profile, const X509 *issuer, const X509 *cert,
                 X509_EXTENSIONS **exts, struct hsm_reason *why)
{
    enum hsm_status st = build_common_extensions(request, profile, issuer, cert, exts);

    if (st == HSM_OK && request->policy_oid != NULL)
        st = add_policy(exts, request->policy_oid, why);
    if (st == HSM_OK && request->crl_url != NULL)
        st = add_crl_distribution_point(exts, request);
    if (st == HSM_OK && request->tnauthlist != NULL)
        st = add_scope(exts, request);
    if (st == HSM_OK && request->constraints != NULL)
        st = certs_exts_add_constraints(exts, request->constraints);
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

/*
 * The subject's key as a named curve and an uncompressed point, whatever form it had.
 * X509_set_pubkey() would do, but it searches all of OpenSSL's encoders, which takes longer than
 * the signature.
 */
static enum hsm_status
set_public_key(X509 *cert, EVP_PKEY *public_key)
{
    uint8_t point[HSM_P256_POINT_LEN], *octets;
    enum hsm_status st = hsm_p256_point(public_key, point);

    if (st != HSM_OK)
        return st;
    octets = OPENSSL_memdup(point, sizeof(point));
    if (octets == NULL)
        return HSM_ERR_NOMEM;
    if (X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(cert), OBJ_nid2obj(NID_X9_62_id_ecPublicKey),
                               V_ASN1_OBJECT, OBJ_nid2obj(NID_X9_62_prime256v1), octets,
                               sizeof(point)) == 1)
        return HSM_OK;
    OPENSSL_free(octets);
    return certs_openssl_failed("subject's key");
}

static enum hsm_status
set_serial(X509 *cert, const uint8_t *serial, size_t len)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *integer = ASN1_INTEGER_new();
    size_t skip = serial[0] == 0 ? 1 : 0; /* OpenSSL stores the magnitude */

    if (integer == NULL || ASN1_STRING_set(integer, serial + skip, (int)(len - skip)) != 1 ||
        X509_set_serialNumber(cert, integer) != 1)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

/* Built from validated attributes; for a cross certificate the root's subject, as encoded there. */
static enum hsm_status
subject_of(const struct certs_issue_request *request, X509_NAME **out, struct hsm_reason *why)
{
    if (request->subject_cert == NULL)
        return certs_subject_name(&request->subject, out, why);
    *out = X509_NAME_dup(X509_get_subject_name(request->subject_cert));
    return *out == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

static enum hsm_status
set_fields(const struct certs_issue_request *request, const X509 *issuer, X509 *cert,
           struct hsm_reason *why)
{
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    enum hsm_status st = subject_of(request, &name, why);

    if (st == HSM_OK)
        st = set_serial(cert, request->serial, request->serial_len);
    if (st == HSM_OK)
        st = set_public_key(cert, certs_request_public_key(request));
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
build(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
      const X509 *issuer, X509 *cert, struct hsm_reason *why)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    enum hsm_status st = set_fields(request, issuer, cert, why);

    if (st == HSM_OK)
        st = build_extensions(request, profile, issuer, cert, &exts, why);
    return st == HSM_OK ? set_extensions(cert, exts) : st;
}

/* The profile's role in the lint; 0: ATIS-1000080 section 6.4.1 does not apply to it. */
static enum certs_lint_role
lint_role_of(enum certs_profile profile)
{
    switch (profile) {
    case CERTS_PROFILE_STI_ROOT:
        return CERTS_LINT_ROOT;
    case CERTS_PROFILE_STI_INTERMEDIATE:
    case CERTS_PROFILE_STI_CROSS:
        return CERTS_LINT_INTERMEDIATE;
    case CERTS_PROFILE_STI_END_ENTITY:
        return CERTS_LINT_END_ENTITY;
    default:
        return 0;
    }
}

/* The rules of the United States' policy do not apply to a certificate under the French one. */
static unsigned
lint_sources_of(const struct certs_issue_request *request)
{
    static const char french_man[] = "1.2.250.1.695.1.1.";

    if (request->policy_oid != NULL &&
        strncmp(request->policy_oid, french_man, strlen(french_man)) == 0)
        return CERTS_LINT_ATIS | CERTS_LINT_RFC;
    return 0;
}

/* A certificate in which our own lint finds an error, by the latest rules, is not signed. */
static enum hsm_status
lint(const struct certs_issue_request *request, const X509 *issuer, const X509 *built,
     struct hsm_reason *why)
{
    const struct certs_lint_options options = {
        .role = lint_role_of(request->profile),
        .date = CERTS_LINT_LATEST,
        .sources = lint_sources_of(request),
        .issuer = issuer,
    };
    struct certs_lint *found = NULL;
    enum hsm_status st = HSM_OK;

    if (options.role == 0)
        return HSM_OK;
    st = certs_lint_new(built, &options, &found);
    for (size_t i = 0; st == HSM_OK && i < certs_lint_len(found); i++) {
        const struct certs_lint_finding *finding = certs_lint_get(found, i);

        if (finding->rule->severity == CERTS_LINT_ERROR)
            st = hsm_refuse(why, HSM_ERR_USAGE, "%s: %s (%s): %s",
                            certs_profile_text(request->profile), finding->rule->id,
                            finding->rule->citation, finding->detail.text);
    }
    certs_lint_free(found);
    return st;
}

/* certs_sign() verifies the signature before it assembles the certificate. */
static enum hsm_status
sign(X509 *built, struct hsm_key *key, uint8_t **out, size_t *len)
{
    uint8_t *tbs = NULL;
    int tbs_len = i2d_re_X509_tbs(built, &tbs);
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_CERTIFICATE);

    if (tbs_len <= 0)
        return certs_openssl_failed("certificate");
    st = certs_sign(key, tbs, (size_t)tbs_len, out, len);
    OPENSSL_free(tbs);
    return st;
}

enum hsm_status
certs_issue_der(const struct certs_issue_request *request, const X509 *issuer,
                struct hsm_key *issuer_key, uint8_t **out, size_t *len, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    const struct certs_profile_rules *profile = certs_profile_rules(request->profile);
    enum hsm_status st;

    if (profile == NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "unknown profile");
    st = certs_profile_check(profile, request, why);
    if (st == HSM_OK)
        st = certs_profile_check_signer(profile, request, issuer, issuer_key, why);
    if (st != HSM_OK)
        return st;

    cert = X509_new();
    if (cert == NULL)
        return HSM_ERR_NOMEM;
    st = build(request, profile, issuer, cert, why);
    if (st == HSM_OK)
        st = lint(request, issuer, cert, why);
    return st == HSM_OK ? sign(cert, issuer_key, out, len) : st;
}

enum hsm_status
certs_issue(const struct certs_issue_request *request, const X509 *issuer,
            struct hsm_key *issuer_key, X509 **out, struct hsm_reason *why)
{
    DEFER(free) void *octets = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = certs_issue_der(request, issuer, issuer_key, &der, &len, why);

    octets = der;
    return st == HSM_OK ? certs_cert_parse_der(der, len, out, why) : st;
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
