/*
 * ca_list.h - the STI-PA's signed list of trusted STI-CAs (ATIS-1000080).
 *
 * A compact JWS: {"version":"1.0","sequence":N,"exp":T,"trustList":[PEM, ...]}.
 */
#ifndef ACME_CA_LIST_H
#define ACME_CA_LIST_H

#include <stdint.h>
#include <time.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define ACME_CA_LIST_MAX 1048576 /* characters */

struct acme_ca_list_request {
    uint64_t sequence; /* larger than every one published before */
    time_t exp;
    const char *x5u; /* HTTPS URL of the signer's certificate chain */
    const struct certs_chain *roots;
};

/** Make and sign; free() the text. */
HSM_MUST_CHECK enum hsm_status acme_ca_list_new(const struct acme_ca_list_request *request,
                                                struct hsm_key *signer, char **out);

struct acme_ca_list;

/**
 * Parse; nothing in it is trusted before acme_ca_list_check().
 *
 * @param text  `len` octets, copied; longer than ACME_CA_LIST_MAX: HSM_ERR_MALFORMED
 */
HSM_MUST_CHECK enum hsm_status
acme_ca_list_parse(const char *text, size_t len, struct acme_ca_list **out, struct hsm_reason *why);
const char *acme_ca_list_x5u(const struct acme_ca_list *list);
uint64_t acme_ca_list_sequence(const struct acme_ca_list *list);
time_t acme_ca_list_exp(const struct acme_ca_list *list);
/** The JWS as it was parsed, NUL-terminated, for storage: borrowed. */
const char *acme_ca_list_text(const struct acme_ca_list *list);
/** The roots, borrowed: trust anchors once the list has passed acme_ca_list_check(). */
const struct certs_chain *acme_ca_list_roots(const struct acme_ca_list *list);

/**
 * Check that the signer chains to a PA anchor, alg is ES256, the signature
 * verifies, exp is in the future, and the sequence is not lower than one seen
 * before (rollback).
 */
HSM_MUST_CHECK enum hsm_status
acme_ca_list_check(const struct acme_ca_list *list, const struct certs_chain *signer,
                   const struct certs_chain *pa_anchors, uint64_t previous_sequence, time_t now,
                   struct hsm_reason *why);

void acme_ca_list_free(struct acme_ca_list *list);
DEFINE_DEFER(struct acme_ca_list, acme_ca_list_free)

#endif
