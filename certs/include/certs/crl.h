/*
 * crl.h - the STI-PA's one indirect CRL (RFC 5280 section 5, ATIS-1000080).
 *
 * OpenSSL's own CRL checking requires the CRL issuer to be under the
 * certificate's anchor (RFC 5280 section 6.3.3 f); in SHAKEN it is under the
 * STI-PA's. So the signer's path is checked separately, and entries are matched
 * by certificateIssuer and serial.
 */
#ifndef CERTS_CRL_H
#define CERTS_CRL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <openssl/types.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define CERTS_CRL_MAX        33554432 /* octets: 100,000 entries, each with its issuer, in PEM */
#define CERTS_CRL_DIGEST_LEN 32 /* octets */

struct certs_crl_entry {
    const X509_NAME *issuer; /* the certificate's issuer; borrowed */
    uint8_t serial[CERTS_SERIAL_MAX]; /* content octets, as from certs_cert_serial() */
    size_t serial_len;
    time_t revoked_at;
    int reason; /* RFC 5280 section 5.3.1; 0 is not encoded; -1 when read: an unlisted code */
};

/**
 * The entry for a certificate, without time and reason; the issuer is borrowed from it.
 *
 * @retval HSM_ERR_UNSUPPORTED  no CRL can have its serial number: certs_cert_check_serial()
 */
HSM_MUST_CHECK enum hsm_status certs_crl_entry_of(const X509 *cert, struct certs_crl_entry *out,
                                                  struct hsm_reason *why);

struct certs_crl_request {
    uint64_t number; /* cRLNumber */
    time_t this_update, next_update;
    const char *url; /* issuingDistributionPoint; equals the certificates' CRLDP */
    const char *signer_cert_url; /* AuthorityInfoAccess caIssuers; NULL: absent */
    const struct certs_crl_entry *entries;
    size_t count; /* 0: an empty CRL */
};

/**
 * Build, sign, verify the signature; the DER octets are released with free(). Entries of one issuer
 * that follow one another name it once: sorted by issuer the CRL is shortest.
 *
 * @retval HSM_ERR_UNSUPPORTED  in PEM it would have more than CERTS_CRL_MAX octets; nothing is
 *                              signed
 */
HSM_MUST_CHECK enum hsm_status certs_crl_new(const struct certs_crl_request *request,
                                             const X509 *signer, struct hsm_key *signer_key,
                                             uint8_t **der, size_t *len);

/** RFC 7468 text of a DER CRL; free() it. */
HSM_MUST_CHECK enum hsm_status certs_crl_pem(const uint8_t *der, size_t len, char **out);

struct certs_crl;

/**
 * Parse a CRL in PEM or DER: at most CERTS_CRL_MAX octets; v2, with nextUpdate, a cRLNumber of
 * up to 20 octets, and a critical, indirect issuingDistributionPoint with a URL.
 * Nothing is verified yet. An entry whose serial number is negative or of more
 * than CERTS_SERIAL_MAX octets is left out: certs_path_verify() refuses whatever
 * has one.
 *
 * @retval HSM_ERR_UNSUPPORTED  another critical extension, or not for all certificates and reasons
 */
HSM_MUST_CHECK enum hsm_status certs_crl_parse(const uint8_t *octets, size_t len,
                                               struct certs_crl **out, struct hsm_reason *why);

/** The cRLNumber; UINT64_MAX if it is larger. Compare CRLs with certs_crl_check_newer(). */
uint64_t certs_crl_number(const struct certs_crl *crl);
time_t certs_crl_this_update(const struct certs_crl *crl);
time_t certs_crl_next_update(const struct certs_crl *crl);
/** The DER octets, for storage; free() them. */
HSM_MUST_CHECK enum hsm_status certs_crl_der(const struct certs_crl *crl, uint8_t **out,
                                             size_t *len);
/** The first URL of the issuingDistributionPoint: borrowed. */
const char *certs_crl_url(const struct certs_crl *crl);
/** The caIssuers URL of the AuthorityInfoAccess: borrowed, NULL when absent. */
const char *certs_crl_signer_cert_url(const struct certs_crl *crl);

/**
 * Verify that the signer's certificate is the CRL's issuer, chains to an STI-PA
 * anchor and may sign CRLs, and that signature, times and distribution point are
 * good.
 *
 * @param signer  the signer's certificate first, then intermediates
 * @param url     the CRL's URL in certificates, to be among those of its issuingDistributionPoint;
 *                NULL: not compared
 */
HSM_MUST_CHECK enum hsm_status
certs_crl_verify(const struct certs_crl *crl, const struct certs_chain *signer,
                 const struct certs_chain *pa_anchors, const char *url, time_t now,
                 struct hsm_reason *why);

/**
 * Check that a CRL may follow one that was seen before: its cRLNumber must not be
 * lower, and if it is equal its thisUpdate not earlier (RFC 5280 section 5.2.3).
 *
 * @param before  NULL: none was seen
 * @retval HSM_ERR_UNTRUSTED  a rollback
 */
HSM_MUST_CHECK enum hsm_status certs_crl_check_newer(const struct certs_crl *crl,
                                                     const struct certs_crl *before,
                                                     struct hsm_reason *why);

/** SHA-256 of the DER: identifies exactly this CRL. Borrowed. */
const uint8_t *certs_crl_digest(const struct certs_crl *crl);

/**
 * Find a certificate's entry by issuer and serial, in a time that does not grow with the CRL.
 *
 * An entry revokes, whatever its reason. removeFromCRL is for delta CRLs, which SHAKEN does not
 * use: here it does not undo a revocation.
 *
 * @param out  NULL, or receives the entry; its issuer is borrowed from the CRL
 *
 * @retval HSM_ERR_NOT_FOUND  it is not on the CRL; any other failure leaves that open
 */
HSM_MUST_CHECK enum hsm_status certs_crl_find(const struct certs_crl *crl, const X509 *cert,
                                              struct certs_crl_entry *out);

/** True if the certificate is on the CRL, or if memory is too short to find out. */
bool certs_crl_has(const struct certs_crl *crl, const X509 *cert);

/** @retval HSM_ERR_UNTRUSTED  revoked: the reason states since when and why */
HSM_MUST_CHECK enum hsm_status certs_crl_check(const struct certs_crl *crl, const X509 *cert,
                                               struct hsm_reason *why);

/**
 * The CRL is the one that the certificate names (RFC 5280 section 6.3.3 b): one
 * of its URLs is among those of one of the certificate's distribution points, and
 * its issuer is that point's cRLIssuer. A certificate without distribution points,
 * or a point without either, leaves it open; certificates by ATIS-1000080 v003
 * have no cRLIssuer.
 */
bool certs_crl_covers(const struct certs_crl *crl, const X509 *cert);

/** The number of entries, without those left out; the number of those; and each entry in the CRL's
 * order, its issuer borrowed from the CRL. */
size_t certs_crl_len(const struct certs_crl *crl);
size_t certs_crl_left_out(const struct certs_crl *crl);
void certs_crl_get(const struct certs_crl *crl, size_t i, struct certs_crl_entry *out);

/** True for a reason that an entry of an indirect full CRL may have (RFC 5280 section 5.3.1): 7 is
 * unused, and 8, removeFromCRL, is for delta CRLs. */
bool certs_crl_is_reason(int64_t reason);

/** "keyCompromise"; static storage. */
const char *certs_crl_reason_text(int reason);

/** What `sti-cert crl show` prints: the CRL's fields and its entries, each with its issuer. */
HSM_MUST_CHECK enum hsm_status certs_crl_show(const struct certs_crl *crl, FILE *to);

void certs_crl_free(struct certs_crl *crl);
DEFINE_DEFER(struct certs_crl, certs_crl_free)

#endif
