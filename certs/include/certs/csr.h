/*
 * csr.h - PKCS#10 requests (RFC 2986): made with a token key, checked before anything is issued.
 */
#ifndef CERTS_CSR_H
#define CERTS_CSR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <certs/constraints.h>
#include <certs/issue.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define CERTS_CSR_MAX     16384 /* octets of DER */
#define CERTS_CSR_PEM_MAX (2 * CERTS_CSR_MAX) /* octets of a text or file that holds one */

struct certs_csr_request {
    struct certs_subject subject; /* all NULL: an empty subject */
    const struct certs_tnauthlist *tnauthlist; /* NULL: no such extension */
    bool ca; /* BasicConstraints cA */
    const struct certs_constraints *constraints; /* NULL: no such extension; not with `ca` */
    const char *const *dns_names; /* subjectAltName, NULL-terminated; or NULL */
    const char *const *ip_addresses;
};

/** Make and sign; the DER octets are released with free(). */
HSM_MUST_CHECK enum hsm_status certs_csr_new(const struct certs_csr_request *request,
                                             struct hsm_key *key, uint8_t **der, size_t *len);

struct certs_csr;

/**
 * Parse and check what every request must fulfil: one DER value, P-256 key,
 * good self-signature, ecdsa-with-SHA256, each extension at most once, claim
 * constraints of one form and for an end entity only.
 */
HSM_MUST_CHECK enum hsm_status certs_csr_parse(const uint8_t *der, size_t len,
                                               struct certs_csr **out, struct hsm_reason *why);

/** certs_csr_parse() of DER, or of text with one PEM "CERTIFICATE REQUEST". */
HSM_MUST_CHECK enum hsm_status certs_csr_parse_any(const void *octets, size_t len,
                                                   struct certs_csr **out, struct hsm_reason *why);

/** certs_csr_parse_any() of a file; faults are logged with its path. */
HSM_MUST_CHECK enum hsm_status certs_csr_read(const char *path, struct certs_csr **out);

/** RFC 7468 text of a DER request; free() it. */
HSM_MUST_CHECK enum hsm_status certs_csr_pem(const uint8_t *der, size_t len, char **out);

/** All borrowed from the request. */
EVP_PKEY *certs_csr_public(const struct certs_csr *csr);
const struct certs_tnauthlist *certs_csr_tnauthlist(const struct certs_csr *csr); /* NULL: none */
bool certs_csr_is_ca(const struct certs_csr *csr);
const struct certs_constraints *certs_csr_constraints(const struct certs_csr *csr); /* NULL: none */

void certs_csr_free(struct certs_csr *csr);
DEFINE_DEFER(struct certs_csr, certs_csr_free)

#endif
