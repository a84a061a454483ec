/*
 * chain.h - a sequence of certificates: a chain (leaf first) or a set of anchors.
 */
#ifndef CERTS_CHAIN_H
#define CERTS_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define CERTS_CHAIN_OCTETS_MAX 65536 /* of PEM, for a chain from outside */
#define CERTS_CHAIN_LEN_MAX    8 /* certificates in a chain from outside */
#define CERTS_ANCHORS_MAX      1024 /* certificates in a set of anchors */

struct certs_chain;

HSM_MUST_CHECK enum hsm_status certs_chain_new(struct certs_chain **out);

/** Append; takes a reference of its own. */
HSM_MUST_CHECK enum hsm_status certs_chain_add(struct certs_chain *chain, X509 *cert);

/** Append every certificate of another chain. */
HSM_MUST_CHECK enum hsm_status certs_chain_append(struct certs_chain *chain,
                                                  const struct certs_chain *other);

/** Copy a chain; the certificates are shared, and the digest is copied, not computed again. */
HSM_MUST_CHECK enum hsm_status certs_chain_copy(const struct certs_chain *chain,
                                                struct certs_chain **out);

/** Take another reference, for an owner that does not change the chain either; released by
 *  certs_chain_free(). */
struct certs_chain *certs_chain_hold(struct certs_chain *chain);

size_t certs_chain_len(const struct certs_chain *chain);

/** Borrowed; NULL past the end. */
X509 *certs_chain_get(const struct certs_chain *chain, size_t i);

/**
 * Parse RFC 7468 text of certificates only: any other label, non-blank octets between them,
 * no certificate at all, or more than `max` is malformed (RFC 8555 section 11.4).
 */
HSM_MUST_CHECK enum hsm_status certs_chain_parse_pem(const char *pem, size_t len, size_t max,
                                                     struct certs_chain **out,
                                                     struct hsm_reason *why);

/**
 * Read a local configuration file: RFC 7468 text, which may contain other text but no other label,
 * or one certificate in DER. Faults are logged with its path.
 */
HSM_MUST_CHECK enum hsm_status certs_chain_read(const char *path, struct certs_chain **out);

/** RFC 7468 text, in order; free() it. */
HSM_MUST_CHECK enum hsm_status certs_chain_pem(const struct certs_chain *chain, char **out);

/** Replace a file (mode 0644), complete or not at all. */
HSM_MUST_CHECK enum hsm_status certs_chain_write(const struct certs_chain *chain, const char *path);

/** What the leaf of a chain must be usable for. */
enum certs_purpose {
    CERTS_FOR_STI, /* an end entity that signs PASSporTs: TNAuthList, digitalSignature */
    CERTS_FOR_PA_SIGNING, /* SPC tokens and the trusted-CA list */
    CERTS_FOR_CRL, /* the indirect CRL: cRLSign */
    CERTS_FOR_ISSUING, /* a CA below an anchor: keyCertSign */
};

/**
 * Validate the path from chain[0] to one of the anchors at the time `now` (RFC 5280
 * section 6), with the other certificates as intermediates in any order. All keys
 * must be on P-256; revocation is not checked. path.h has the version with options.
 *
 * @retval HSM_ERR_UNTRUSTED  with one reason: expired, unknown issuer, bad signature, key usage,
 * ...
 */
HSM_MUST_CHECK enum hsm_status
certs_chain_verify(const struct certs_chain *chain, const struct certs_chain *anchors,
                   enum certs_purpose purpose, time_t now, struct hsm_reason *why);

/** Each certificate names the next one as its issuer. Signatures and times are not checked. */
bool certs_chain_is_in_order(const struct certs_chain *chain);

/** The earliest notAfter in the chain. */
time_t certs_chain_not_after(const struct certs_chain *chain);

/** The latest notBefore in the chain: from then on all certificates are valid. 0: empty. */
time_t certs_chain_latest_start(const struct certs_chain *chain);

/** The earliest notBefore in the chain that is still to come. 0: all have begun. */
time_t certs_chain_next_start(const struct certs_chain *chain, time_t now);

#define CERTS_CHAIN_DIGEST_LEN 32 /* octets */

/**
 * Identifies exactly these certificates in this order (nested SHA-256 of their DER), so that it can
 * be the key of a cached verdict. Computed as certificates are added, so reading it is free;
 * borrowed.
 */
const uint8_t *certs_chain_digest(const struct certs_chain *chain);

/** certs_cert_show() of each, and which certificate of the chain has signed it. */
HSM_MUST_CHECK enum hsm_status certs_chain_show(const struct certs_chain *chain, time_t now,
                                                FILE *to);

void certs_chain_free(struct certs_chain *chain);
DEFINE_DEFER(struct certs_chain, certs_chain_free)

#endif
