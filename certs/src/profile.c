/* profile.c - what each profile of issue.h requires of a request and of its issuer. */

#define _GNU_SOURCE /* strcasestr */

#include "profile_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "x509_internal.h"

#define SERIAL_MIN   8 /* octets: ATIS-1000080 v005 section 6.4.1, at least 64 bits */
#define URL_MAX      1024 /* octets of a URL in a certificate */
#define PATH_LEN_MAX 16 /* longer than any chain that is accepted */

static const struct certs_profile_rules profiles[] = {
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
                                        .policy = CERTS_REQUIRED,
                                        .crl = CERTS_REQUIRED,
                                        .shaken_in_cn = true,
                                        .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_STI_END_ENTITY] = {.text = "sti-end-entity",
                                      .c_and_o = true,
                                      .policy = CERTS_REQUIRED,
                                      .crl = CERTS_REQUIRED,
                                      .tnauthlist = CERTS_ONE_SPC,
                                      .key_usage = KU_DIGITAL_SIGNATURE},
    [CERTS_PROFILE_STI_CROSS] = {.text = "sti-cross", /* its issuer treats it as an intermediate */
                                 .ca = true,
                                 .cross = true,
                                 .policy = CERTS_REQUIRED,
                                 .crl = CERTS_REQUIRED,
                                 .key_usage = KU_KEY_CERT_SIGN},
    /* RFC 8226, RFC 9060: not in the table of ATIS-1000080 */
    [CERTS_PROFILE_TN_END_ENTITY] = {.text = "tn-end-entity",
                                     .c_and_o = true,
                                     .policy = CERTS_OPTIONAL,
                                     .crl = CERTS_OPTIONAL,
                                     .tnauthlist = CERTS_ANY_TNAUTHLIST,
                                     .number_options = true,
                                     .key_usage = KU_DIGITAL_SIGNATURE},
    [CERTS_PROFILE_DELEGATE_CA] = {.text = "delegate-ca",
                                   .ca = true,
                                   .c_and_o = true,
                                   .policy = CERTS_OPTIONAL,
                                   .crl = CERTS_OPTIONAL,
                                   .tnauthlist = CERTS_ANY_TNAUTHLIST,
                                   .key_usage = KU_KEY_CERT_SIGN},
    [CERTS_PROFILE_DELEGATE_END_ENTITY] = {.text = "delegate-end-entity",
                                           .delegate = true,
                                           .c_and_o = true,
                                           .policy = CERTS_OPTIONAL,
                                           .crl = CERTS_OPTIONAL,
                                           .tnauthlist = CERTS_ANY_TNAUTHLIST,
                                           .number_options = true,
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
    /* for our daemons and their clients: RFC 5280, RFC 6125 */
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

const struct certs_profile_rules *
certs_profile_rules(enum certs_profile profile)
{
    return (size_t)profile < PROFILES ? &profiles[profile] : NULL;
}

EVP_PKEY *
certs_request_public_key(const struct certs_issue_request *request)
{
    return request->subject_cert != NULL ? certs_cert_public(request->subject_cert)
                                         : request->public_key;
}

static enum hsm_status
refuse(struct hsm_reason *why, const struct certs_profile_rules *profile, const char *rule)
{
    return hsm_refuse(why, HSM_ERR_USAGE, "%s: %s", profile->text, rule);
}

/* RFC 5280 section 4.1.2.2 and ATIS-1000080 v005 section 6.4.1 */
static enum hsm_status
check_serial(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
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

/* A cross certificate has the subject of an existing root, which must have signed itself. */
static enum hsm_status
check_subject_cert(const struct certs_issue_request *request,
                   const struct certs_profile_rules *profile, struct hsm_reason *why)
{
    const struct certs_subject *subject = &request->subject;
    X509 *cert = (X509 *)request->subject_cert; /* OpenSSL's getters fill a cache under a lock */
    char *name;
    bool is_shaken;

    if (cert == NULL || request->public_key != NULL || subject->country != NULL ||
        subject->state != NULL || subject->locality != NULL || subject->organization != NULL ||
        subject->common_name != NULL)
        return refuse(why, profile, "name and key are those of the root it certifies, no others");
    if (X509_check_ca(cert) != 1 || (X509_get_key_usage(cert) & KU_KEY_CERT_SIGN) == 0 ||
        X509_self_signed(cert, 1) != 1) {
        ERR_clear_error();
        return refuse(why, profile, "what it certifies must be a CA that signed itself");
    }
    if (X509_get0_subject_key_id(cert) == NULL)
        return refuse(why, profile, "the root it certifies must have a subject key identifier");
    name = certs_cert_common_name(cert);
    is_shaken = name != NULL && strstr(name, "SHAKEN") != NULL;
    free(name);
    if (!is_shaken)
        return refuse(why, profile, "the CN must contain \"SHAKEN\"");
    if (request->not_before < certs_cert_not_before(cert) ||
        request->not_after > certs_cert_not_after(cert))
        return refuse(why, profile, "the root it certifies is not valid for all of that time");
    return HSM_OK;
}

static enum hsm_status
check_subject(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
              struct hsm_reason *why)
{
    const struct certs_subject *subject = &request->subject;

    if (profile->cross)
        return check_subject_cert(request, profile, why);
    if (request->subject_cert != NULL)
        return refuse(why, profile, "it does not certify another root");
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
check_one_spc(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
              struct hsm_reason *why)
{
    static const char prefix[] = "SHAKEN ";
    const char *cn = request->subject.common_name;
    const char *spc =
        request->tnauthlist == NULL ? NULL : certs_tnauthlist_spc(request->tnauthlist);

    if (spc == NULL)
        return refuse(why, profile, "it must have a TNAuthList of exactly one SPC");
    if (strspn(spc, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(spc))
        return refuse(why, profile, "the SPC must be digits and upper-case letters");
    if (strncmp(cn, prefix, strlen(prefix)) != 0 || strcmp(cn + strlen(prefix), spc) != 0)
        return refuse(why, profile,
                      "the CN must be \"SHAKEN <SPC>\" with the SPC of the TNAuthList");
    return HSM_OK;
}

/* Printable, with this scheme, and with a host. */
static bool
is_url(const char *url, const char *scheme)
{
    size_t len = strlen(scheme);

    if (strncmp(url, scheme, len) != 0 || url[len] == '\0' || url[len] == '/' ||
        strlen(url) > URL_MAX)
        return false;
    for (const char *c = url; *c != '\0'; c++) {
        if (*c <= 0x20 || *c > 0x7e)
            return false;
    }
    return true;
}

static enum hsm_status
check_tnauthlist(const struct certs_issue_request *request,
                 const struct certs_profile_rules *profile, struct hsm_reason *why)
{
    if (profile->tnauthlist == CERTS_NO_TNAUTHLIST && request->tnauthlist != NULL)
        return refuse(why, profile, "it must not have a TNAuthList");
    if (profile->tnauthlist == CERTS_ANY_TNAUTHLIST && request->tnauthlist == NULL)
        return refuse(why, profile, "it must have a TNAuthList");
    if (!profile->number_options && request->tnauthlist_url != NULL)
        return refuse(why, profile, "it must not have its TNAuthList elsewhere");
    if (!profile->number_options && request->constraints != NULL)
        return refuse(why, profile, "it must not have claim constraints");
    if (request->tnauthlist_url != NULL && !is_url(request->tnauthlist_url, "https://"))
        return refuse(why, profile, "the URL of a TNAuthList must be one of HTTPS");
    return profile->tnauthlist == CERTS_ONE_SPC ? check_one_spc(request, profile, why) : HSM_OK;
}

static enum hsm_status
check_crl(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
          struct hsm_reason *why)
{
    bool has_crl = request->crl_url != NULL || request->crl_issuer != NULL;

    if (profile->crl == CERTS_FORBIDDEN && has_crl)
        return refuse(why, profile, "it must not have a CRL distribution point");
    if (profile->crl != CERTS_REQUIRED && !has_crl)
        return HSM_OK;
    if (request->crl_url == NULL ||
        (!is_url(request->crl_url, "https://") && !is_url(request->crl_url, "http://")))
        return refuse(why, profile, "it must have the HTTP URL of the CRL");
    if (request->crl_issuer == NULL || X509_NAME_entry_count(request->crl_issuer) == 0)
        return refuse(why, profile, "it must have the name of the CRL issuer");
    return HSM_OK;
}

static enum hsm_status
check_policy_and_crl(const struct certs_issue_request *request,
                     const struct certs_profile_rules *profile, struct hsm_reason *why)
{
    if (profile->policy == CERTS_FORBIDDEN && request->policy_oid != NULL)
        return refuse(why, profile, "it must not have a certificate policy");
    if (profile->policy == CERTS_REQUIRED && request->policy_oid == NULL)
        return refuse(why, profile, "it must have one certificate policy");
    return check_crl(request, profile, why);
}

static enum hsm_status
check_rest(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
           struct hsm_reason *why)
{
    bool has_dns = request->dns_names != NULL && request->dns_names[0] != NULL;
    bool has_ip = request->ip_addresses != NULL && request->ip_addresses[0] != NULL;

    if (profile->alt_names != (has_dns || has_ip))
        return refuse(why, profile,
                      profile->alt_names ? "it must have a DNS name or IP address"
                                         : "it must not have DNS names or IP addresses");
    if (request->has_path_len && (!profile->ca || request->path_len > PATH_LEN_MAX))
        return refuse(why, profile,
                      profile->ca ? "the pathLenConstraint is too large"
                                  : "it is no CA, and must not have a pathLenConstraint");
    if (!certs_is_p256(certs_request_public_key(request)))
        return refuse(why, profile, "the subject's key must be on P-256");
    if (request->not_before >= request->not_after)
        return refuse(why, profile, "notBefore must come before notAfter");
    return HSM_OK;
}

enum hsm_status
certs_profile_check(const struct certs_profile_rules *profile,
                    const struct certs_issue_request *request, struct hsm_reason *why)
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

/* RFC 5280 section 4.2.1.9 */
static enum hsm_status
check_path_len(const struct certs_issue_request *request, X509 *issuer, struct hsm_reason *why)
{
    long limit = X509_get_pathlen(issuer); /* -1: no limit */

    if (limit == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate's pathLenConstraint allows no CA below it");
    if (limit > 0 && request->has_path_len && (long)request->path_len >= limit)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate's pathLenConstraint is %ld: that of a CA below "
                          "it is less",
                          limit);
    return HSM_OK;
}

/* RFC 9060 section 4: the list is within the issuer's, if that has one. */
static enum hsm_status
check_scope(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
            const X509 *issuer, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *limit = NULL;
    struct hsm_reason broken = {0};
    enum hsm_status st;

    if (certs_cert_has_tnauthlist_elsewhere(issuer))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate: its TNAuthList is elsewhere, so that none can "
                          "be compared with it");
    st = certs_cert_tnauthlist(issuer, &limit, &broken);
    if (st == HSM_ERR_NOT_FOUND)
        return profile->delegate
                   ? hsm_refuse(why, HSM_ERR_UNTRUSTED,
                                "the issuing certificate is not a delegate CA's: no TNAuthList")
                   : HSM_OK;
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the issuing certificate: %s", broken.text);
    if (st != HSM_OK)
        return st;
    if (request->tnauthlist == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "RFC 9060: below a certificate with a TNAuthList each one has its own");
    switch (certs_tnauthlist_scope(limit, request->tnauthlist)) {
    case CERTS_SCOPE_INSIDE:
        return HSM_OK;
    case CERTS_SCOPE_BY_NUMBERING:
        if (request->numbers_under_spc)
            return HSM_OK;
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "RFC 9060: the TNAuthList has numbers of which only numbering data can "
                          "tell whether they are the issuer's");
    case CERTS_SCOPE_OUTSIDE:
        break;
    }
    return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                      "RFC 9060: the TNAuthList is not encompassed by the issuer's");
}

/* The issuing certificate belongs to a CA and to the key given, and its validity covers that of the
 * new one. */
static enum hsm_status
check_issuer(const struct certs_issue_request *request, const struct certs_profile_rules *profile,
             const X509 *issuer, const struct hsm_key *issuer_key, struct hsm_reason *why)
{
    X509 *cert = (X509 *)issuer; /* OpenSSL's getters fill a cache under a lock */
    enum hsm_status st = HSM_OK;

    if (!hsm_key_matches(issuer_key, certs_cert_public(issuer)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the key is not that of the issuing certificate");
    if (X509_check_ca(cert) != 1 || (X509_get_key_usage(cert) & KU_KEY_CERT_SIGN) == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the issuing certificate is not a CA's");
    if (X509_get0_subject_key_id(cert) == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate has no subject key identifier");
    if (request->not_before < certs_cert_not_before(issuer) ||
        request->not_after > certs_cert_not_after(issuer))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the issuing certificate is not valid for all of the validity asked for");
    if (profile->cross && hsm_key_matches(issuer_key, certs_request_public_key(request)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the root that it certifies is the issuer");
    if (profile->ca)
        st = check_path_len(request, cert, why);
    return st == HSM_OK ? check_scope(request, profile, issuer, why) : st;
}

enum hsm_status
certs_profile_check_signer(const struct certs_profile_rules *profile,
                           const struct certs_issue_request *request, const X509 *issuer,
                           const struct hsm_key *issuer_key, struct hsm_reason *why)
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
