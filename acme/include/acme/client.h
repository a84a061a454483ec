/*
 * client.h - an ACME client (RFC 8555) with its account key in the token: for
 * identifiers of any type, and for the TNAuthList (RFC 9448) in particular.
 *
 * The reason of a refusal gives the request, the CA's answer (type and detail of
 * its problem document), and in parentheses what that means for the operator. A
 * client is used by one thread.
 */
#ifndef ACME_CLIENT_H
#define ACME_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <acme/http_client.h>
#include <acme/jwk.h>
#include <certs/chain.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>

/** The member of the response that has the SPC token. */
enum acme_tkauth_member {
    ACME_TKAUTH, /* RFC 9448 section 4: "tkauth" */
    ACME_ATC, /* deployed CAs: "atc" */
};

/** Encoding of the TNAuthList identifier. */
enum acme_tnauthlist_text {
    ACME_TNAUTHLIST_BASE64URL, /* RFC 9448 section 3 */
    ACME_TNAUTHLIST_BASE64, /* deployed CAs: the standard alphabet, padded */
};

struct acme_client_config {
    struct acme_http_client *http;
    const char *directory_url;
    struct hsm_key *account_key;
    const char *contact; /* "mailto:noc@sp.example"; NULL: none */
    enum acme_tkauth_member member;
    enum acme_tnauthlist_text tnauthlist_text;
    unsigned poll_limit_s; /* give up waiting for authorization or issuance after this */
    /** External account binding (RFC 8555 section 7.3.4): the CA's identifier of the MAC key, and
     *  the key itself in base64url, as CAs issue it. Both or neither. */
    const char *eab_kid;
    const struct hsm_secret *eab_key;
    /** Called several times a second while the client waits; true: give up with HSM_ERR_BUSY. May
     *  be NULL. */
    bool (*stopped)(void *context);
    void *stopped_context;
};

struct acme_client;

/** Reads the directory. All pointers are borrowed. */
HSM_MUST_CHECK enum hsm_status acme_client_new(const struct acme_client_config *config,
                                               struct acme_client **out, struct hsm_reason *why);
void acme_client_free(struct acme_client *client);
DEFINE_DEFER(struct acme_client, acme_client_free)

/** The directory's metadata (RFC 8555 section 7.1.1); texts borrowed, NULL when absent. */
struct acme_client_meta {
    const char *terms_of_service, *website;
    bool external_account_required;
    bool has_renewal_info; /* RFC 9773 */
};

void acme_client_meta(const struct acme_client *client, struct acme_client_meta *out);

/** Retry-After of the CA's last refusal, in seconds; 0: it had none. */
unsigned acme_client_retry_after_s(const struct acme_client *client);

/* ---- the account ---- */

/** Create the account, or find it if it exists (RFC 8555 section 7.3). Agrees to the terms of
 *  service, and binds the account to an external one if the configuration has one. */
HSM_MUST_CHECK enum hsm_status acme_client_account(struct acme_client *client,
                                                   struct hsm_reason *why);

/**
 * Find the account of this key, without creating one (RFC 8555 section 7.3.1).
 *
 * @retval HSM_ERR_NOT_FOUND  the CA has no account of this key
 * @retval HSM_ERR_DENIED     it has ended (section 7.1.6), or the CA refuses for another reason
 */
HSM_MUST_CHECK enum hsm_status acme_client_account_find(struct acme_client *client,
                                                        struct hsm_reason *why);

/** The account URL; NULL before acme_client_account() or acme_client_account_find(). */
const char *acme_client_kid(const struct acme_client *client);

#define ACME_CLIENT_CONTACTS_MAX 512 /* characters; a longer list is truncated */

struct acme_client_account_state {
    char status[16]; /* valid, deactivated, revoked */
    /* URLs, separated by blanks; texts with other characters are left out; "": none */
    char contacts[ACME_CLIENT_CONTACTS_MAX + 1];
};

/** Read the account's state from the CA. Finds the account first if that was not done. */
HSM_MUST_CHECK enum hsm_status acme_client_account_read(struct acme_client *client,
                                                        struct acme_client_account_state *out,
                                                        struct hsm_reason *why);

/**
 * Replace the contact (RFC 8555 section 7.3.2).
 *
 * @param contact  NULL: remove it
 */
HSM_MUST_CHECK enum hsm_status
acme_client_account_update(struct acme_client *client, const char *contact, struct hsm_reason *why);

/** Deactivate the account (RFC 8555 section 7.3.6). Irreversible; pending orders are lost. */
HSM_MUST_CHECK enum hsm_status acme_client_account_deactivate(struct acme_client *client,
                                                              struct hsm_reason *why);

/**
 * Key change (RFC 8555 section 7.3.5): `new_key` becomes the account's key, and the client
 * signs with it from now on.
 *
 * @param new_key  borrowed, like the old key
 * @retval HSM_ERR_EXISTS       another account has that key
 * @retval HSM_ERR_UNSUPPORTED  the CA's directory has no keyChange
 */
HSM_MUST_CHECK enum hsm_status acme_client_account_rollover(struct acme_client *client,
                                                            struct hsm_key *new_key,
                                                            struct hsm_reason *why);

/* ---- orders ---- */

struct acme_client_identifier {
    const char *type; /* "TNAuthList", "dns" */
    const char *value;
};

/** A challenge that the CA offers (RFC 8555 section 7.1.5); texts borrowed, NULL when absent. */
struct acme_client_challenge {
    const char *identifier_type, *identifier_value;
    const char *type, *token, *tkauth_type;
};

/** What a CA has refused, for callers that decide what to do next. */
enum acme_client_refused {
    ACME_REFUSED_OTHER, /* the account, a new order, or the caller's `respond` or `spc_token` */
    ACME_REFUSED_ORDER, /* the order is invalid or gone: another order may be made */
    ACME_REFUSED_CSR, /* the CSR or its key (badCSR, badPublicKey): one with another key may be
                       * accepted */
};

struct acme_client_order {
    /** One TNAuthList, to whose challenge the client responds with an SPC token in the configured
     *  member. NULL: `identifiers` and `respond` are used. */
    const struct certs_tnauthlist *tnauthlist;
    /** Get an SPC token for the account key; the client free()s it. Called when one is needed. */
    enum hsm_status (*spc_token)(void *context, EVP_PKEY *account_key, char **token,
                                 struct hsm_reason *why);

    const struct acme_client_identifier *identifiers;
    size_t identifier_count;
    /**
     * Called for the challenges of an authorization in their order, until one is accepted.
     *
     * @param payload  receives the JSON of the response; the client free()s it
     * @retval HSM_ERR_UNSUPPORTED  this challenge is not supported; try the next
     */
    enum hsm_status (*respond)(void *context, const struct acme_client_challenge *challenge,
                               EVP_PKEY *account_key, char **payload, struct hsm_reason *why);

    void *context;
    const uint8_t *csr; /* DER */
    size_t csr_len;
    /** Called with the order's URL as soon as it is known, so that the caller can resume; may be
     *  NULL. Any status but HSM_OK ends the attempt: an order that could not be recorded is not
     *  continued. */
    enum hsm_status (*ordered)(void *context, const char *order_url);
    const char *resume_url; /* an order made before; NULL: make a new one */
    /** Set when an earlier attempt may have died between the creation of its order and ordered().
     *  The account's orders are searched for an open one for which this returns false, which is
     *  used instead of a new one. NULL: do not search. */
    bool (*is_known)(void *context, const char *order_url);
    /** Receives the URL at which the CA hosts the chain, from its order (RFC 9448 section 7), or
     *  NULL if the order has none; not checked; free() it. May be NULL. */
    char **x5u;
    /** A CA may offer alternate chains for the same certificate (RFC 8555 section 7.4.2): if this
     *  returns false for the first, they are fetched until it returns true. If none is accepted the
     *  first is used. NULL: the first is used. */
    bool (*accepts)(void *context, const struct certs_chain *chain);
    const X509 *replaces; /* the certificate that the new one replaces (RFC 9773); NULL: none */
    enum acme_client_refused *refused; /* written with HSM_ERR_DENIED; may be NULL */
};

/**
 * Order, authorize, finalize, download: the whole of RFC 8555 section 7.4. Retries after badNonce
 * and transient errors, honours Retry-After, handles every order state. Creates or finds the
 * account first if that was not done.
 *
 * @param chain  receives the CA's chain: parsed, leaf first, not yet trusted
 * @retval HSM_ERR_DENIED       the CA refused: the reason has the problem document's type and
 *                              detail
 * @retval HSM_ERR_BUSY         unreachable, 5xx, rate limited, or still processing at poll_limit_s
 * @retval HSM_ERR_UNSUPPORTED  an authorization has no supported challenge
 */
HSM_MUST_CHECK enum hsm_status
acme_client_obtain(struct acme_client *client, const struct acme_client_order *order,
                   struct certs_chain **chain, struct hsm_reason *why);

/**
 * revokeCert (RFC 8555 section 7.6), signed by the account, which is created or
 * found first if that was not done, or by the certificate's own key.
 *
 * @param reason           RFC 5280 section 5.3.1
 * @param certificate_key  NULL: the account signs
 * @retval HSM_ERR_EXISTS       it is revoked already
 * @retval HSM_ERR_DENIED       the CA refused: the reason has the problem document's type and
 *                              detail
 * @retval HSM_ERR_BUSY         unreachable, 5xx or rate limited
 * @retval HSM_ERR_UNSUPPORTED  the CA's directory has no revokeCert
 */
HSM_MUST_CHECK enum hsm_status acme_client_revoke(struct acme_client *client, const X509 *cert,
                                                  int reason, struct hsm_key *certificate_key,
                                                  struct hsm_reason *why);

/* ---- renewal information (RFC 9773) ---- */

/* Characters of an explanationURL; a longer one is ignored. */
#define ACME_CLIENT_EXPLANATION_MAX 512

struct acme_client_renewal {
    time_t start, end; /* when the CA wants the certificate renewed; start < end */
    char explanation_url[ACME_CLIENT_EXPLANATION_MAX + 1]; /* for a person; "": none */
    unsigned retry_after_s; /* poll again after exactly this time */
};

/**
 * When the CA suggests renewing a certificate.
 *
 * @retval HSM_ERR_UNSUPPORTED  the CA's directory has no renewalInfo, or the certificate no
 *                              authorityKeyIdentifier
 * @retval HSM_ERR_MALFORMED    the answer is not a renewalInfo, or its window ends before it begins
 */
HSM_MUST_CHECK enum hsm_status acme_client_renewal(struct acme_client *client, const X509 *cert,
                                                   struct acme_client_renewal *out,
                                                   struct hsm_reason *why);

/**
 * certID (RFC 9773 section 4.1): base64url of keyIdentifier and serial; free() it.
 *
 * @retval HSM_ERR_UNSUPPORTED  no authorityKeyIdentifier
 */
HSM_MUST_CHECK enum hsm_status acme_client_certid(const X509 *cert, char **out);

#endif
