/*
 * authority_revoke_internal.h - what the files of the STI-PA share that handle revocation requests.
 *
 * authority_plea.c         parse a request
 * authority_revoke.c       the route, and who may revoke what
 * authority_automatic.c    the rule by which requests are decided without an operator
 * authority_decide.c       record and decide a request
 * authority_revocations.c  what an operator does with requests and entries
 */
#ifndef ACME_AUTHORITY_REVOKE_INTERNAL_H
#define ACME_AUTHORITY_REVOKE_INTERNAL_H

#include "authority_internal.h"

#define AUTHORITY_STATE_QUEUED  "queued"
#define AUTHORITY_STATE_REVOKED "revoked"
#define AUTHORITY_STATE_REFUSED "refused"

/** What is asked for; texts are borrowed from the body or the caller, name and issuer owned. */
struct authority_plea {
    X509_NAME *name; /* the issuer's */
    uint8_t *issuer; /* its DER */
    size_t issuer_len;
    uint8_t serial[CERTS_SERIAL_MAX]; /* content octets */
    size_t serial_len;
    int reason;
    time_t not_after; /* of the certificate; 0: not known */
    bool is_end_shown; /* it was read from the certificate, and not only said */
    const char *requester;
    const char *chain; /* NULL: none */
    const char *account; /* who asks */
    enum authority_asker asker; /* in the place of that account: the operator */
    bool is_automatic; /* a rule, or the operator, decides at once */
};

void acme_authority_plea_clear(struct authority_plea *plea);

/* ---- authority_plea.c ---- */

/** Of a request's body. */
HSM_MUST_CHECK enum hsm_status acme_authority_plea_parse(const json_t *body, time_t now,
                                                         struct authority_plea *plea,
                                                         struct hsm_reason *why);

/**
 * Issuer, serial and end of a certificate.
 *
 * @retval HSM_ERR_UNSUPPORTED  no CRL can have its serial number
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_plea_take(const X509 *cert, struct authority_plea *plea, struct hsm_reason *why);

/**
 * Take the issuer's name as it was bound to an STI-CA, so that the same request is the same row.
 *
 * @param owner  receives the account of that STI-CA
 * @retval HSM_ERR_NOT_FOUND  it is no STI-CA's that has an account
 */
HSM_MUST_CHECK enum hsm_status acme_authority_plea_adopt(struct acme_store *store,
                                                         struct authority_plea *plea,
                                                         char owner[ACME_AUTHORITY_ID_MAX + 1]);

/** "SERIAL of ISSUER"; free() it. NULL: out of memory. */
char *acme_authority_certificate_text(const uint8_t *issuer, size_t issuer_len,
                                      const uint8_t *serial, size_t serial_len);

/* ---- authority_automatic.c ---- */

/** As acme_authority_config.revocation_automatic says it: sets of reasons, bit 0 for reason 0. */
HSM_MUST_CHECK enum hsm_status acme_authority_automatic_parse(const char *text,
                                                              uint16_t rule[AUTHORITY_ASKERS],
                                                              struct hsm_reason *why);

/* ---- authority_decide.c ---- */

enum authority_state {
    AUTHORITY_IS_QUEUED,
    AUTHORITY_IS_REVOKED,
    AUTHORITY_IS_REFUSED,
};

/** Why a request cannot be taken. */
enum authority_obstacle {
    AUTHORITY_NO_OBSTACLE,
    AUTHORITY_QUOTA, /* the account has as many as it may */
    AUTHORITY_CRL_FULL,
};

struct authority_decision {
    enum authority_state state;
    bool is_changed; /* by this request */
    enum authority_obstacle obstacle; /* then nothing was changed, whatever the rest says */
};

/** "queued", "revoked", "refused" */
const char *acme_authority_state_text(enum authority_state state);

/**
 * Within a transaction, to be committed only without an obstacle.
 *
 * @param quota  requests of one account that wait or are on the CRL; 0: any number
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_decide(struct acme_store *store, const struct authority_plea *plea, unsigned quota,
                      int64_t now, struct authority_decision *out);

#endif
