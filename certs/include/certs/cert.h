/*
 * cert.h - one X.509 certificate: the fields that matter to SHAKEN.
 *
 * X509 is OpenSSL's type; only this floor looks inside.
 */
#ifndef CERTS_CERT_H
#define CERTS_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <openssl/types.h>

#include <certs/tnauthlist.h>
#include <hsm/status.h>

#define CERTS_CERT_MAX   16384 /* octets of one DER certificate */
#define CERTS_SERIAL_MAX 20 /* octets, RFC 5280 section 4.1.2.2 */

/** Exactly one DER certificate, nothing after it. */
HSM_MUST_CHECK enum hsm_status certs_cert_parse_der(const uint8_t *der, size_t len, X509 **out,
                                                    struct hsm_reason *why);

/** The DER octets; free() them. */
HSM_MUST_CHECK enum hsm_status certs_cert_der(const X509 *cert, uint8_t **out, size_t *len);

/** RFC 7468 PEM; free() it. */
HSM_MUST_CHECK enum hsm_status certs_cert_pem(const X509 *cert, char **out);

/** RFC 7468 PEM of a certificate in DER; free() it. */
HSM_MUST_CHECK enum hsm_status certs_cert_pem_of_der(const uint8_t *der, size_t len, char **out);

/**
 * The TNAuthList extension; certs_tnauthlist_free() it.
 *
 * @retval HSM_ERR_NOT_FOUND  no such extension
 * @retval HSM_ERR_MALFORMED  it is malformed, or occurs twice
 */
HSM_MUST_CHECK enum hsm_status
certs_cert_tnauthlist(const X509 *cert, struct certs_tnauthlist **out, struct hsm_reason *why);

/** The URL of a TNAuthList that is not in the certificate itself (RFC 8226 section 10.1,
 *  id-ad-stirTNList); free() it. NULL: the certificate names none. */
char *certs_cert_tnauthlist_url(const X509 *cert);

/** Whether the certificate refers to a TNAuthList outside of it, with a URL or not; true as well if
 * that reference cannot be read. */
bool certs_cert_has_tnauthlist_elsewhere(const X509 *cert);

/** Subject or issuer as RFC 2253 text; free() it. NULL: out of memory. */
char *certs_cert_subject(const X509 *cert);
char *certs_cert_issuer(const X509 *cert);

/** The value of the subject's only commonName, or organizationName, as UTF-8; free() it; NULL:
 * none. */
char *certs_cert_common_name(const X509 *cert);
char *certs_cert_organization(const X509 *cert);

/** The DNS and URI names of the subjectAltName, "DNS:a.example URI:sip:b", separated by blanks;
 *  free() it. NULL: none, or out of memory. A name with blanks or with octets that are not
 *  printable ASCII is left out. */
char *certs_cert_alt_names(const X509 *cert);

/** Content octets of the serial number; 0: more than CERTS_SERIAL_MAX, and none are written. */
size_t certs_cert_serial(const X509 *cert, uint8_t out[CERTS_SERIAL_MAX]);
/**
 * Check that the serial number meets RFC 5280 section 4.1.2.2, so that a CRL can have it.
 *
 * @retval HSM_ERR_UNSUPPORTED  it is negative, or longer than CERTS_SERIAL_MAX octets
 */
HSM_MUST_CHECK enum hsm_status certs_cert_check_serial(const X509 *cert, struct hsm_reason *why);
/** The serial number as lower-case hex; free() it. */
char *certs_cert_serial_hex(const X509 *cert);

/**
 * Parse a serial number in hex, in either case: to the content octets that certs_cert_serial()
 * gives for it, with or without leading zeros.
 *
 * @retval HSM_ERR_MALFORMED  not 1 to CERTS_SERIAL_MAX octets, or not positive
 */
HSM_MUST_CHECK enum hsm_status certs_serial_parse(const char *hex, uint8_t out[CERTS_SERIAL_MAX],
                                                  size_t *len, struct hsm_reason *why);

/** keyIdentifier of the authorityKeyIdentifier (RFC 5280 section 4.2.1.1): borrowed; NULL: none. */
const uint8_t *certs_cert_authority_key_id(const X509 *cert, size_t *len);

/** The validity. 0 for a time that cannot be read, which certs_cert_parse_der() refuses. */
time_t certs_cert_not_before(const X509 *cert);
time_t certs_cert_not_after(const X509 *cert);

/** Borrowed. NULL: OpenSSL does not know the key type. */
EVP_PKEY *certs_cert_public(const X509 *cert);

/** True if the certificate names `issuer` as its issuer, by subject and key identifier; the
 *  signature is not checked. */
bool certs_cert_names_issuer(const X509 *cert, const X509 *issuer);

/** True if both have the same encoded subject. */
bool certs_cert_same_subject(const X509 *a, const X509 *b);

/** The first fullName URI of the CRLDistributionPoints; free() it; NULL: none. */
char *certs_cert_crl_url(const X509 *cert);

/** SHA-256 of the DER. */
HSM_MUST_CHECK enum hsm_status certs_cert_sha256(const X509 *cert, uint8_t out[32]);

/**
 * What `sti-cert show` prints: SPC, profile, policy, names, times, CRL issuer, key, fingerprints.
 *
 * @param now  for the number of days that are left
 */
HSM_MUST_CHECK enum hsm_status certs_cert_show(const X509 *cert, time_t now, FILE *to);

#endif
