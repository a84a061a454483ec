/*
 * crl_internal.h - a CRL, shared by crl.c (reading, queries), crl_new.c (issuing) and crl_table.c
 * (look-up).
 */
#ifndef CERTS_CRL_INTERNAL_H
#define CERTS_CRL_INTERNAL_H

#include <certs/crl.h>

#include <openssl/x509v3.h>

#define CRL_LABEL "X509 CRL" /* RFC 7468 section 6 */

/* One entry, in the CRL's order. */
struct crl_revoked {
    const X509_NAME *issuer; /* borrowed from the CRL or from crl->issuers */
    const X509_REVOKED *entry; /* borrowed from the CRL */
    uint8_t serial[CERTS_SERIAL_MAX]; /* copy of the entry's serial number, as OpenSSL stores it,
                                       * without a leading zero: keeps a look-up in one place */
    uint8_t serial_len;
};

/* A place in the table: small, so that a look-up touches little memory. */
struct crl_slot {
    uint32_t entry; /* the entry's number, from 1; 0: free */
    uint32_t hash; /* half of the hash; the other half selects the place */
};

struct certs_crl {
    X509_CRL *crl;
    ASN1_INTEGER *number;
    uint8_t digest[CERTS_CRL_DIGEST_LEN];
    time_t this_update;
    time_t next_update;
    ISSUING_DIST_POINT *point;
    char *url; /* the first URL */
    char *signer_cert_url; /* NULL: not known */
    STACK_OF(X509_NAME) * issuers; /* certificateIssuer names, owned */
    struct crl_revoked *entries;
    size_t count;
    size_t left_out; /* entries whose serial number no valid certificate has */
    struct crl_slot *table; /* open addressing; at most half full */
    size_t table_mask; /* size - 1; the size is a power of two */
    uint64_t hash_key[2];
};

/* ---- crl.c ---- */

/** Check the signer's name and key, and that the one allowed algorithm was used. */
HSM_MUST_CHECK enum hsm_status
certs_crl_check_signature(const struct certs_crl *crl, const X509 *signer, struct hsm_reason *why);

/* ---- crl_table.c ---- */

/** Make room for `count` entries. */
HSM_MUST_CHECK enum hsm_status certs_crl_table_new(struct certs_crl *crl, size_t count);

/**
 * Every serial number passed here must have passed certs_serial_check().
 *
 * @param name_hash  X509_NAME_hash_ex() of the issuer
 */
uint64_t certs_crl_table_hash(const struct certs_crl *crl, unsigned long name_hash,
                              const ASN1_INTEGER *serial);

/** Add the next entry in the CRL's order, by its hash; both pointers are borrowed. */
void certs_crl_table_add(struct certs_crl *crl, uint64_t hash, const X509_NAME *issuer,
                         const X509_REVOKED *entry);

/** The entry of a certificate, the first if it is listed twice; NULL: it is not listed. */
const struct crl_revoked *certs_crl_table_find(const struct certs_crl *crl, uint64_t hash,
                                               const X509_NAME *issuer, const ASN1_INTEGER *serial);

#endif
