/*
 * profile_internal.h - what each profile of issue.h requires of a request and of its issuer.
 */
#ifndef CERTS_PROFILE_INTERNAL_H
#define CERTS_PROFILE_INTERNAL_H

#include <stdbool.h>

#include <openssl/types.h>

#include <certs/issue.h>
#include <hsm/key.h>
#include <hsm/status.h>

/* Whatever a profile does not name is forbidden. */
enum certs_need {
    CERTS_FORBIDDEN = 0,
    CERTS_OPTIONAL,
    CERTS_REQUIRED
};

enum certs_scope_rule {
    CERTS_NO_TNAUTHLIST = 0,
    CERTS_ONE_SPC, /* TNAuthList of one SPC; CN "SHAKEN <SPC>" */
    CERTS_ANY_TNAUTHLIST
};

/* What a profile requires of subject and extensions. */
struct certs_profile_rules {
    const char *text;
    bool ca;
    bool self_signed;
    bool cross; /* subject and key are those of another root */
    bool delegate; /* the issuer must have a TNAuthList */
    bool c_and_o; /* C and O are required */
    enum certs_need policy; /* CertificatePolicies */
    enum certs_need crl; /* CRLDistributionPoints */
    enum certs_scope_rule tnauthlist;
    bool number_options; /* the list may be given by URL, and claims may be constrained */
    bool alt_names; /* subjectAltName, at least one name */
    bool shaken_in_cn; /* CN contains "SHAKEN" */
    bool root_in_cn; /* CN contains "ROOT", in any case */
    int key_usage; /* KU_*: exactly these */
    int ext_key_usage; /* NID; NID_undef: the extension is absent */
};

/* NULL: there is no such profile. */
const struct certs_profile_rules *certs_profile_rules(enum certs_profile profile);

/* The subject's key, from whichever member has it; may be NULL. */
EVP_PKEY *certs_request_public_key(const struct certs_issue_request *request);

/* HSM_ERR_USAGE: the request breaks its profile. */
enum hsm_status certs_profile_check(const struct certs_profile_rules *profile,
                                    const struct certs_issue_request *request,
                                    struct hsm_reason *why);

/* The signer may issue this, and the request stays within the signer's own scope; issuer NULL:
 * self-signed. */
enum hsm_status certs_profile_check_signer(const struct certs_profile_rules *profile,
                                           const struct certs_issue_request *request,
                                           const X509 *issuer, const struct hsm_key *issuer_key,
                                           struct hsm_reason *why);

#endif
