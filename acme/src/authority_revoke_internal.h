/*
 * authority_revoke_internal.h - shared by the files of the STI-PA that handle revocation requests.
 *
 * authority_plea.c         parse a request
 * authority_revoke.c       the route, and which account may revoke what
 * authority_automatic.c    the rule by which requests are decided without an operator
 * authority_decide.c       record and decide a request
 * authority_revocations.c  requests and entries: an operator's view and changes
 */
#ifndef ACME_AUTHORITY_REVOKE_INTERNAL_H
#define ACME_AUTHORITY_REVOKE_INTERNAL_H

#include "authority_internal.h"

#define AUTHORITY_STATE_QUEUED  "queued"
#define AUTHORITY_STATE_REVOKED "revoked"
#define AUTHORITY_STATE_REFUSED "refused"

/** A revocation request; texts are borrowed from the body or the caller, name and issuer owned. */
struct authority_plea {
    X509_NAME *name; /* the issuer's */
    uint8_t *issuer; /* its DER */
    size_t issuer_len;
    uint8_t serial[CERTS_SERIAL_MAX]; /* content octets */
    size_t serial_len;
    int reason;
    time_t not_after; /* of the certificate; 0: not known */
    bool is_end_shown; /* read from the certificate, not only asserted */
    const char *requester;
    const char *chain; /* NULL: none */
    const char *account; /* that made the request */
    enum authority_asker asker; /* AUTHORITY_OPERATOR: not the account but the operator made it */
    bool is_automatic; /* granted at once, by the rule or the operator */
};

void acme_authority_plea_clear(struct authority_plea *plea);

/* ---- authority_plea.c ---- */

/** Parse the body of a request. */
HSM_MUST_CHECK enum hsm_status acme_authority_plea_parse(const json_t *body, time_t now,
                                                         struct authority_plea *plea,
                                                         struct hsm_reason *why);

/**
 * Fill in issuer, serial and end from a certificate.
 *
 * @retval HSM_ERR_UNSUPPORTED  no CRL can have its serial number
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_plea_take(const X509 *cert, struct authority_plea *plea, struct hsm_reason *why);

/**
 * Replace the issuer's name by the encoding that is bound to an STI-CA, so that a repeated
 * request finds the same row.
 *
 * @param owner  receives the account of that STI-CA
 * @retval HSM_ERR_NOT_FOUND  no STI-CA with an account has this name
 */
HSM_MUST_CHECK enum hsm_status acme_authority_plea_adopt(struct acme_store *store,
                                                         struct authority_plea *plea,
                                                         char owner[ACME_AUTHORITY_ID_MAX + 1]);

/** "SERIAL of ISSUER"; free() it. NULL: out of memory. */
char *acme_authority_certificate_text(const uint8_t *issuer, size_t issuer_len,
                                      const uint8_t *serial, size_t serial_len);

/* ---- authority_automatic.c ---- */

/** Parse acme_authority_config.revocation_automatic into sets of reasons, bit 0 for reason 0. */
HSM_MUST_CHECK enum hsm_status acme_authority_automatic_parse(const char *text,
                                                              uint16_t rule[AUTHORITY_ASKERS],
                                                              struct hsm_reason *why);

/* ---- authority_decide.c ---- */

enum authority_state {
    AUTHORITY_IS_QUEUED,
    AUTHORITY_IS_REVOKED,
    AUTHORITY_IS_REFUSED,
};

/** Why a request cannot be accepted. */
enum authority_obstacle {
    AUTHORITY_NO_OBSTACLE,
    AUTHORITY_QUOTA, /* the account has reached its quota */
    AUTHORITY_CRL_FULL,
};

struct authority_decision {
    enum authority_state state;
    bool is_changed; /* by this request */
    enum authority_obstacle obstacle; /* if there is one, nothing was changed */
};

/** "queued", "revoked", "refused" */
const char *acme_authority_state_text(enum authority_state state);

/**
 * Record and decide a request. Within a transaction; commit it only if there is no
 * obstacle.
 *
 * @param quota  bound on the account's requests that are pending or on the CRL; 0:
 * no bound
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_decide(struct acme_store *store, const struct authority_plea *plea, unsigned quota,
                      int64_t now, struct authority_decision *out);

#endif
