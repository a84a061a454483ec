/*
 * x509_internal.h - helpers over OpenSSL's X.509, shared by the files of this floor.
 */
#ifndef CERTS_X509_INTERNAL_H
#define CERTS_X509_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <openssl/x509v3.h>

#include <certs/constraints.h>
#include <certs/issue.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#include "der_internal.h"

#define CERTS_SHA1_LEN 20

DEFINE_DEFER(ASN1_INTEGER, ASN1_INTEGER_free)
DEFINE_DEFER(ASN1_OBJECT, ASN1_OBJECT_free)
DEFINE_DEFER(ASN1_OCTET_STRING, ASN1_OCTET_STRING_free)
DEFINE_DEFER(AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free)
DEFINE_DEFER(BASIC_CONSTRAINTS, BASIC_CONSTRAINTS_free)
DEFINE_DEFER(BIO, BIO_free_all)
DEFINE_DEFER(CERTIFICATEPOLICIES, CERTIFICATEPOLICIES_free)
DEFINE_DEFER(CRL_DIST_POINTS, CRL_DIST_POINTS_free)
DEFINE_DEFER(GENERAL_NAMES, GENERAL_NAMES_free)
DEFINE_DEFER(X509, X509_free)
DEFINE_DEFER(X509_NAME, X509_NAME_free)

static inline void
certs_exts_free(X509_EXTENSIONS *exts)
{
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}

DEFINE_DEFER(X509_EXTENSIONS, certs_exts_free)

/* OpenSSL failed where only a lack of memory can be the cause: log it, empty its error queue. */
enum hsm_status certs_openssl_failed(const char *what);

bool certs_is_p256(EVP_PKEY *key);

/* Nothing in the certificate makes it a CA: OpenSSL's X509_check_ca() alone does not look at
 * basicConstraints when keyCertSign is missing. */
bool certs_is_end_entity(const X509 *cert);

/* RFC 5280 section 4.1.2.2: not negative, and CERTS_SERIAL_MAX content octets at most;
 * HSM_ERR_UNSUPPORTED. */
enum hsm_status certs_serial_check(const ASN1_INTEGER *serial, struct hsm_reason *why);

/* True if the content octets of an INTEGER need a leading zero to stay positive (X.690 section
 * 8.3.3): OpenSSL stores them without. */
bool certs_needs_zero(const uint8_t *octets, size_t len);

/* Seconds since the epoch, UTC; false: not a time. */
bool certs_time_get(const ASN1_TIME *time, time_t *out);

/* "2026-01-15 12:00:00 UTC" */
#define CERTS_TIME_TEXT_MAX 32
void certs_time_text(time_t time, char out[CERTS_TIME_TEXT_MAX]);

/*
 * Sign with ecdsa-with-SHA256 in the token and assemble the common form of certificates, requests
 * and CRLs: SEQUENCE { tbs, AlgorithmIdentifier, BIT STRING }.
 */
enum hsm_status certs_sign(struct hsm_key *key, const uint8_t *tbs, size_t len, uint8_t **der,
                           size_t *der_len);

/* The AlgorithmIdentifier of ecdsa-with-SHA256: written, and set inside a TBSCertificate. */
void certs_put_algorithm(struct der_writer *to);
enum hsm_status certs_set_algorithm(X509 *cert);

/* The content of an AlgorithmIdentifier is that of ecdsa-with-SHA256. */
bool certs_is_ecdsa_with_sha256(struct der_reader algorithm);

/*
 * The key in a whole SubjectPublicKeyInfo; EVP_PKEY_free() it. Nearly all are in the form that is
 * parsed without OpenSSL's search for a decoder.
 *
 * HSM_ERR_UNSUPPORTED: not on P-256; HSM_ERR_MALFORMED: not a point of the curve.
 */
enum hsm_status certs_spki_public(const uint8_t *spki, size_t len, EVP_PKEY **out);

/* RFC 7468 text with this label; *out is released with free(). */
enum hsm_status certs_pem_write(const char *label, const uint8_t *der, size_t len, char **out);

/* One RFC 7468 block with this label, or DER; *der is released with free(). */
enum hsm_status certs_pem_or_der(const uint8_t *octets, size_t len, const char *label,
                                 uint8_t **der, size_t *der_len, struct hsm_reason *why);

/* Position in an RFC 7468 text. */
struct certs_pem_scan {
    const char *at;
    size_t left;
};

/*
 * The next block, which must have this label; *der is released with free().
 *
 * @param text_allowed  text between blocks is skipped
 * @retval HSM_ERR_NOT_FOUND  no further block
 */
enum hsm_status certs_pem_next(struct certs_pem_scan *scan, const char *label, bool text_allowed,
                               uint8_t **der, size_t *der_len, struct hsm_reason *why);

#define CERTS_EXTS_MAX 64 /* extensions of a certificate, request, CRL or CRL entry */

/* RFC 5280 section 4.2: no extension twice; nor more than CERTS_EXTS_MAX. `what` begins the
 * reason. */
enum hsm_status certs_exts_unique(const X509_EXTENSIONS *exts, const char *what,
                                  struct hsm_reason *why);

/* Members of id-pe (1.3.6.1.5.5.7.1) that OpenSSL has no names for: RFC 8226, RFC 9118. */
enum certs_pe {
    CERTS_PE_TNAUTHLIST = 26,
    CERTS_PE_JWT_CONSTRAINTS = 27,
    CERTS_PE_ENHANCED_JWT_CONSTRAINTS = 33
};

/* The value of the extension, borrowed; NULL: absent. `what` begins the reason. */
enum hsm_status certs_exts_find_pe(const X509_EXTENSIONS *exts, enum certs_pe member,
                                   const char *what, const ASN1_OCTET_STRING **out,
                                   struct hsm_reason *why);

/* The TNAuthList in the extensions; HSM_ERR_NOT_FOUND if absent. */
enum hsm_status certs_exts_tnauthlist(const X509_EXTENSIONS *exts, struct certs_tnauthlist **out,
                                      struct hsm_reason *why);

/* Non-critical, RFC 8226 section 9. */
enum hsm_status certs_exts_add_tnauthlist(X509_EXTENSIONS **exts,
                                          const struct certs_tnauthlist *list);

/* The claim constraints in the extensions, in either form, but not both; HSM_ERR_NOT_FOUND if
 * absent. */
enum hsm_status certs_exts_constraints(const X509_EXTENSIONS *exts, struct certs_constraints **out,
                                       struct hsm_reason *why);

/* Non-critical, RFC 8226 section 8, RFC 9118 section 3. */
enum hsm_status certs_exts_add_constraints(X509_EXTENSIONS **exts,
                                           const struct certs_constraints *constraints);

enum hsm_status certs_exts_add(X509_EXTENSIONS **exts, int nid, bool critical, void *value);

/* BasicConstraints, critical. */
#define CERTS_NO_PATH_LEN (-1L)
enum hsm_status certs_exts_add_basic_constraints(X509_EXTENSIONS **exts, bool ca, long path_len);

/* authorityInfoAccess with one URL under this access method. */
#define CERTS_AD_CA_ISSUERS   "1.3.6.1.5.5.7.48.2"
#define CERTS_AD_STIR_TN_LIST "1.3.6.1.5.5.7.48.14" /* RFC 8226 section 10.1 */
enum hsm_status certs_exts_add_info_access(X509_EXTENSIONS **exts, const char *method,
                                           const char *url);

/* True if the access method occurs, with a URL or not. */
bool certs_access_has(const AUTHORITY_INFO_ACCESS *access, const char *method);

/* The first URL under this access method, free() it; NULL: none. */
char *certs_access_url(const AUTHORITY_INFO_ACCESS *access, const char *method);

/* AuthorityKeyIdentifier: the issuer's subject key identifier, which it must have. */
enum hsm_status certs_exts_add_authority_key_id(X509_EXTENSIONS **exts, const X509 *issuer);

/* A subjectAltName of DNS names and IP addresses; each may be NULL. */
enum hsm_status certs_exts_add_alt_names(X509_EXTENSIONS **exts, const char *const *dns_names,
                                         const char *const *ip_addresses, struct hsm_reason *why);

/* C PrintableString, everything else UTF8String. A text that does not fit is HSM_ERR_USAGE. */
enum hsm_status certs_subject_name(const struct certs_subject *subject, X509_NAME **out,
                                   struct hsm_reason *why);

/* One uniformResourceIdentifier; NULL: out of memory. */
GENERAL_NAMES *certs_uri_names(const char *uri);

/* One directoryName, in its original encoding; NULL: out of memory. */
GENERAL_NAMES *certs_directory_names(const X509_NAME *name);

/* A uniformResourceIdentifier, free() it; NULL: another kind of name, or not printable ASCII. */
char *certs_name_uri(const GENERAL_NAME *name);

/* The first name of that kind. */
char *certs_names_uri(const GENERAL_NAMES *names);

#endif
