/*
 * issue.h - certificates by profile, signed by a token key.
 *
 * The subject and every extension are built from what the caller validated;
 * nothing is copied from a request. Profiles: ATIS-1000080 v005 section 6.4.1
 * for the SHAKEN ones, RFC 8226 for certificates of telephone numbers, RFC 9060
 * for delegates.
 *
 * Below a certificate with a TNAuthList, whatever its profile, every certificate
 * must have one that its issuer's encompasses (RFC 9060 section 4).
 */
#ifndef CERTS_ISSUE_H
#define CERTS_ISSUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <openssl/types.h>

#include <certs/cert.h>
#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <hsm/key.h>
#include <hsm/status.h>

enum certs_profile {
    CERTS_PROFILE_STI_ROOT, /* an STI-CA's own root */
    CERTS_PROFILE_STI_INTERMEDIATE, /* an STI-CA's issuing certificate */
    CERTS_PROFILE_STI_END_ENTITY, /* a service provider's: CN "SHAKEN <SPC>", TNAuthList */
    CERTS_PROFILE_STI_CROSS, /* another root's name and key: an intermediate between two roots */
    CERTS_PROFILE_TN_END_ENTITY, /* RFC 8226: of telephone numbers, by value or by reference */
    CERTS_PROFILE_DELEGATE_CA, /* RFC 9060: a service provider's or customer's own CA */
    CERTS_PROFILE_DELEGATE_END_ENTITY, /* RFC 9060: issued by a delegate CA */
    CERTS_PROFILE_PA_ROOT, /* STI-PA: keyCertSign */
    CERTS_PROFILE_PA_SIGNER, /* SPC tokens and trusted-CA list: digitalSignature */
    CERTS_PROFILE_PA_CRL_SIGNER, /* cRLSign */
    CERTS_PROFILE_TLS_ROOT, /* a deployment's own TLS anchor: keyCertSign */
    CERTS_PROFILE_TLS_SERVER, /* serverAuth, subjectAltName */
    CERTS_PROFILE_TLS_CLIENT, /* clientAuth */
};

/** "sti-root", "sti-intermediate", "sti-end-entity", "sti-cross", "tn-end-entity", "delegate-ca",
 * "delegate-end-entity", "pa-root", ..., "tls-client". */
const char *certs_profile_text(enum certs_profile profile);

/** The inverse; HSM_ERR_MALFORMED for another word. */
HSM_MUST_CHECK enum hsm_status certs_profile_parse(const char *text, enum certs_profile *out);

/** UTF-8, borrowed; NULL leaves the attribute out. Encoded in the order C, ST, L, O, CN. */
struct certs_subject {
    const char *country; /* two letters */
    const char *state;
    const char *locality;
    const char *organization;
    const char *common_name;
};

#define CERTS_POLICY_CP_1_4 "2.16.840.1.114569.1.1.4"

struct certs_issue_request {
    enum certs_profile profile;
    struct certs_subject subject; /* STI cross: all NULL */
    EVP_PKEY *public_key; /* P-256; of the subject; STI cross: NULL */
    uint8_t serial[CERTS_SERIAL_MAX]; /* certs_serial_new() */
    size_t serial_len;
    time_t not_before, not_after;
    /* STI cross: the self-signed root whose name, key and key identifier are certified, as they are
     * encoded there; the requested validity lies within its own. Else NULL. */
    const X509 *subject_cert;
    bool has_path_len; /* a pathLenConstraint for a CA certificate */
    unsigned path_len;
    /* STI end entity: one SPC; TN end entity and delegates: any entries; else NULL */
    const struct certs_tnauthlist *tnauthlist;
    /* End entities of TNs and of delegates: the list is not in the certificate, but served at this
     * HTTPS URL (application/tnauthlist), RFC 8226 section 10.1; NULL: it is inside. */
    const char *tnauthlist_url;
    /* The caller knows from numbering data that all numbers of the list which are not in the
     * issuer's list belong to an SPC that is in it (CERTS_SCOPE_BY_NUMBERING). */
    bool numbers_under_spc;
    const struct certs_constraints *constraints; /* end entities of TNs and delegates; or NULL */
    const char *policy_oid; /* STI intermediate, end entity, cross; TN and delegates: may be NULL */
    const char *crl_url; /* for the same profiles as policy_oid */
    const X509_NAME
        *crl_issuer; /* with crl_url: the STI-PA CRL signer's subject, as encoded there */
    const char *const *dns_names; /* TLS server: NULL-terminated, or NULL; */
    const char *const *ip_addresses; /* it needs at least one name of either kind */
};

/** A serial of 16 octets, 126 bits of them random from the token's generator; positive. */
HSM_MUST_CHECK enum hsm_status certs_serial_new(struct hsm_token *token,
                                                uint8_t out[CERTS_SERIAL_MAX], size_t *len);

/**
 * Check the request against its profile, build, lint (ATIS-1000080 section 6.4.1 for the STI
 * profiles, see lint.h), sign, verify the signature.
 *
 * The caller has recorded the serial durably before it calls this.
 *
 * @param issuer  the issuing certificate; NULL: self-signed, issuer_key is the subject's own key
 * @retval HSM_ERR_USAGE      the request breaks its profile, or the certificate would break a lint
 *                            rule of severity error; the reason states which; nothing was signed
 * @retval HSM_ERR_UNTRUSTED  issuer_key is not the issuer's, or the issuer's validity, path length
 *                            or TNAuthList does not cover the certificate
 */
HSM_MUST_CHECK enum hsm_status certs_issue(const struct certs_issue_request *request,
                                           const X509 *issuer, struct hsm_key *issuer_key,
                                           X509 **out, struct hsm_reason *why);

/** certs_issue() giving DER, for callers that do not look into the certificate: OpenSSL takes as
 *  long to parse one as to verify it. free() it. */
HSM_MUST_CHECK enum hsm_status certs_issue_der(const struct certs_issue_request *request,
                                               const X509 *issuer, struct hsm_key *issuer_key,
                                               uint8_t **out, size_t *len, struct hsm_reason *why);

/** A name as encoded, for crl_issuer: the subject of a certificate, borrowed. */
const X509_NAME *certs_cert_subject_name(const X509 *cert);

/** A name as DER, and back (for configuration and stores): free(), X509_NAME_free(). */
HSM_MUST_CHECK enum hsm_status certs_name_der(const X509_NAME *name, uint8_t **out, size_t *len);
HSM_MUST_CHECK enum hsm_status certs_name_parse(const uint8_t *der, size_t len, X509_NAME **out);

/** RFC 2253 text of a name; free() it. */
char *certs_name_text(const X509_NAME *name);

#endif
