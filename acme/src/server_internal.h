/*
 * server_internal.h - shared by the files of the ACME server.
 *
 * A handler responds through its call. Functions that take a call and return bool
 * have made the response when they return false.
 */
#ifndef ACME_SERVER_INTERNAL_H
#define ACME_SERVER_INTERNAL_H

#include <acme/server.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <jansson.h>

#include <acme/jws.h>
#include <acme/problem.h>
#include <acme/time.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>

#include "address_internal.h"
#include "limit_internal.h"

#define ACME_BASE_URL_MAX 256 /* characters */
#define ACME_URL_MAX      511 /* characters: base URL, "/acme/", resource, id, rest */
#define ACME_ID_LEN       22 /* base64url of 16 random octets: cannot be guessed */
#define ACME_UNDER_LEN    64 /* hex SHA-256 */
#define ACME_DAY_S        86400

#define ACME_NONCE_LIFETIME_S 3600
#define ACME_NONCES_MAX       100000 /* in the store; then the oldest are deleted */
#define ACME_ORDER_LIFETIME_S (7 * ACME_DAY_S) /* to fulfil an order and issue its certificate */
#define ACME_ORDER_KEPT_S     ACME_DAY_S /* an expired order can be read this much longer */
#define ACME_ORDERS_OPEN_MAX  1000 /* of one account; more: 429 */
#define ACME_ORDERS_PAGE      100 /* URLs in one page of the orders list */
#define ACME_CONTACTS_MAX     8 /* of one account */
#define ACME_CONTACT_MAX      254 /* octets of one contact */
#define ACME_IDENTIFIER_MAX   256 /* characters; one SPC needs far fewer */
#define ACME_ORGANIZATION_MAX 64 /* octets: ub-organization-name, RFC 5280 appendix A.1 */
#define ACME_ALTERNATES_MAX   8 /* alternate chains */
#define ACME_RETRY_AFTER      "5" /* seconds, for orders in processing and for 503 */
#define ACME_RETRY_S          5
#define ACME_SIGNED_PER_TICK  256 /* certificates that one tick tries to complete */

/* States as in RFC 8555 section 7.1.6, in JSON and in the store. */
#define ACME_PENDING     "pending"
#define ACME_READY       "ready"
#define ACME_PROCESSING  "processing"
#define ACME_VALID       "valid"
#define ACME_INVALID     "invalid"
#define ACME_DEACTIVATED "deactivated"
#define ACME_REVOKED     "revoked"
#define ACME_EXPIRED     "expired"

#define ACME_WEB_MANUAL "manual" /* the account of orders from the web page; it has no key */

struct acme_server {
    struct acme_server_config config; /* its pointers are borrowed */
    struct certs_chain
        *intermediates; /* the issuing chain without its root: what clients download */
    char under[ACME_UNDER_LEN +
               1]; /* digest of the issuer and all that goes into every certificate */
    char *intermediates_pem; /* as PEM */
    struct certs_chain *alternates[ACME_ALTERNATES_MAX]; /* alternate chains, also without their
                                                          * roots */
    size_t alternate_count;
    struct acme_signers *signers;
    struct certs_verdicts *verdicts; /* on the signers' paths */
    struct acme_web *web; /* NULL: no web pages */
    atomic_uint nonces_made;
    struct acme_keys *keys; /* cache of account keys */
    struct acme_limit_here *renewals; /* limit on renewalInfo, by address */
    time_t expire_at, tell_at, crl_at; /* of acme_server_tick() */
    struct certs_crl *crl; /* verified; entries from crl_next on are not yet stored; NULL: none */
    size_t crl_next;
    uint8_t crl_taken[CERTS_CRL_DIGEST_LEN]; /* digest of the CRL whose entries are in the store */
    _Atomic int64_t long_until; /* monotonic; until then no request is taken for a brief one */
};

/* A nonce that is used, and the fresh one that is made in the same transaction. */
struct acme_nonce_exchange {
    struct acme_server *server;
    struct acme_store_work work;
    const char *nonce; /* borrowed; NULL: only a fresh one is requested */
    char address[ACME_ADDRESS_MAX + 1]; /* charged for a nonce that replaces none */
    time_t now;
    bool is_good; /* it existed and had not expired */
    char next[ACME_ID_LEN + 1]; /* "": none was made, because of the limit */
    time_t wait_s; /* seconds to wait in that case */
};

/* The count of a request, in the transaction of its nonce if both come at the same time. */
struct acme_counting {
    struct acme_store_work work;
    const char *what; /* NULL: not counted, or counted already */
    time_t wait_s; /* seconds to wait; 0: within the limit */
};

/* One request, the key that signed it, and its response. */
struct acme_call {
    struct acme_server *server;
    const struct acme_http_request *request;
    struct acme_http_response *response;
    char params[2][ACME_HTTP_PARAM_MAX + 1]; /* :id of the path, and :n */
    time_t now;
    struct acme_jws *jws; /* owned; NULL for GET and HEAD */
    struct acme_account_key *account_key; /* owned; NULL: the request was signed with a jwk */
    EVP_PKEY *key; /* owned; verified the JWS: the account's key, or the jwk */
    char account[ACME_ID_LEN + 1]; /* "" before newAccount */
    json_t *contact; /* owned; contacts of the account */
    json_t *binding; /* owned; the account's external account binding; NULL: none */
    char *terms; /* owned; the terms of service that the account has agreed to; NULL: none */
    struct acme_nonce_exchange exchange; /* of its nonce */
    bool is_exchanging; /* begun, and not yet waited for */
    bool is_settled; /* the nonce was good, and the request is within the limits */
    struct acme_counting counting;
    bool is_brief; /* it waits for disk and token only */
    char nonce[ACME_ID_LEN + 1]; /* the fresh nonce of the response; "" before there is one */
};

/* ---- server_observe.c ---- */

enum acme_issuance_outcome {
    ACME_ISSUED,
    ACME_PUT_OFF, /* the token or the store was unavailable: it is tried again */
    ACME_GIVEN_UP, /* void */
};

void acme_server_count_issuance(struct acme_server *server, enum acme_issuance_outcome outcome);
/** Set the gauges. */
void acme_server_observe(struct acme_server *server);

/* ---- server.c ---- */

/** BASE/acme/RESOURCE[/ID[REST]]; id and rest may be NULL. */
void acme_server_url(const struct acme_server *server, const char *resource, const char *id,
                     const char *rest, char out[ACME_URL_MAX + 1]);

time_t acme_server_now(const struct acme_server *server);

HSM_MUST_CHECK enum hsm_status acme_id_new(char out[ACME_ID_LEN + 1]);

/** Respond with a problem document (RFC 8555 section 6.7). */
void acme_call_refuse(struct acme_call *call, enum acme_error error, int http_status,
                      const char *format, ...) HSM_PRINTF(4, 5);

/** Respond to a fault of this server: 503 when it is transient, else 500. */
void acme_call_fault(struct acme_call *call, enum hsm_status st);

/** Respond with JSON; takes over the reference. NULL: out of memory. */
void acme_call_json(struct acme_call *call, int http_status, json_t *value);

/** Location header with a URL of acme_server_url(). */
void acme_call_location(struct acme_call *call, const char *resource, const char *id);

/** Link: <URL>;rel="REL" */
void acme_call_link(struct acme_call *call, const char *url, const char *rel);

/* ---- server_nonce.c: RFC 8555 section 6.5 ---- */

/** Begin the exchange of the call's nonce; once for each acme_nonce_wait(). */
void acme_nonce_ask(struct acme_call *call, const char *nonce);
/** When it returns HSM_OK, the exchange is durable, and is_good and next are set. */
HSM_MUST_CHECK enum hsm_status acme_nonce_wait(struct acme_nonce_exchange *exchange);

/**
 * A fresh nonce for the response, into the call; it counts for the client's
 * address.
 *
 * @param wait_s  receives 0, or the seconds to wait
 */
HSM_MUST_CHECK enum hsm_status acme_nonce_new(struct acme_call *call, time_t *wait_s);
/** The response's nonce goes to a client without an account: count it like those of newNonce. */
void acme_nonce_count_unknown(struct acme_call *call);
/** Delete the oldest nonces beyond ACME_NONCES_MAX. */
HSM_MUST_CHECK enum hsm_status acme_nonce_trim(struct acme_store *store);

/* ---- server_request.c: RFC 8555 section 6.2 ---- */

enum acme_signer {
    ACME_SIGNER_NEW, /* by the jwk of its header: newAccount */
    ACME_SIGNER_ACCOUNT, /* by the account that its kid names */
    ACME_SIGNER_EITHER, /* by one or the other: revokeCert */
};

/** Check media type, JWS, alg, url, key and signature. The exchange of the nonce has then begun,
 *  but not ended. */
bool acme_call_authenticate(struct acme_call *call, enum acme_signer signer);

/**
 * Wait until the nonce is used, durably, and the request counted, if it is; may be called again.
 * A handler calls it before it changes anything and before it completes a success. False: the
 * response is badNonce, rateLimited or a fault, whatever it was before.
 */
bool acme_call_settle(struct acme_call *call);

/** True for POST-as-GET (RFC 8555 section 6.3). */
bool acme_call_is_read(const struct acme_call *call);
/** Refuses anything but POST-as-GET. */
bool acme_call_wants_read(struct acme_call *call);
/** The payload as an object; the caller decrefs. */
bool acme_call_payload(struct acme_call *call, json_t **out);

/** The URL of this request, which must be the "url" of its JWS. */
void acme_call_url(const struct acme_call *call, char out[ACME_URL_MAX + 1]);

/** ES256 only; the error response names it (RFC 8555 section 6.2). */
bool acme_call_wants_es256(struct acme_call *call, const struct acme_jws *jws);

/* ---- server_keys.c ---- */

HSM_MUST_CHECK enum hsm_status acme_keys_new(struct acme_keys **out);
void acme_keys_free(struct acme_keys *keys);

/* The public key of an account, ready to verify. Immutable; threads share it. */
struct acme_account_key {
    atomic_uint references;
    EVP_PKEY *key;
    struct hsm_es256_verifier *verifier;
};

/** The key of a JWK that this server has stored; acme_account_key_free() it. */
HSM_MUST_CHECK enum hsm_status acme_keys_find(struct acme_keys *keys, const char *jwk,
                                              struct acme_account_key **out);
void acme_account_key_free(struct acme_account_key *key);

/* ---- server_account.c ---- */

#define ACME_ACCOUNT_COLUMNS "account.contact, account.binding, account.terms"

/** Read what the account resource shows, from ACME_ACCOUNT_COLUMNS that begin at `first`. */
HSM_MUST_CHECK enum hsm_status acme_account_read(struct acme_call *call,
                                                 const struct acme_rows *rows, size_t first);

/** True if the path names the signing account: an account cannot read another. */
bool acme_account_is_own(struct acme_call *call);

/* ---- server_operator.c ---- */

/**
 * End an account within a transaction, and with it its pending authorizations and orders (RFC 8555
 * section 7.3.6).
 *
 * @param status  ACME_DEACTIVATED, ACME_REVOKED
 * @retval HSM_ERR_NOT_FOUND  it is not valid any more
 */
HSM_MUST_CHECK enum hsm_status acme_account_end(struct acme_store *store, const char *account,
                                                const char *status);

/* ---- server_terms.c: terms of service (RFC 8555 sections 7.3, 7.3.3) ---- */

/** Read the member termsOfServiceAgreed; true sets call->terms to the current terms. */
bool acme_terms_take(struct acme_call *call, const json_t *payload);
/** Refuses unless the account has agreed to the current terms. */
bool acme_terms_wanted(struct acme_call *call);

/* ---- server_external.c: external account binding (RFC 8555 section 7.3.4) ---- */

/**
 * Read the member externalAccountBinding of a newAccount into call->binding.
 *
 * @param id  receives the key identifier; "": no binding was given, and none is required
 */
bool acme_external_take(struct acme_call *call, const json_t *payload,
                        char id[ACME_EXTERNAL_ID_MAX + 1]);
/** Record the event that call->account was made with this external account, within the same
 *  transaction. */
enum hsm_status acme_external_tell_used(const struct acme_call *call, const char *id);
/** Remove the file of a key that was used. */
void acme_external_used(const struct acme_server *server, const char *id);

/* ---- server_limit.c: rate limits (RFC 8555 section 6.6) ---- */

/**
 * Count one event `what` of the subject `whom`, with a limit of `per_hour` (0: no
 * limit).
 *
 * @param wait_s  receives 0; or, if nothing was counted, the seconds to wait
 */
HSM_MUST_CHECK enum hsm_status acme_limit_take(struct acme_store *store, const char *what,
                                               const char *whom, unsigned per_hour, time_t now,
                                               time_t *wait_s);
/** Begin to count a request of the call's account; acme_call_settle() waits for the result and
 *  refuses a request over the limit. */
void acme_limit_ask(struct acme_call *call, const char *what);
/** Respond with 429, rateLimited, Retry-After. */
void acme_limit_refuse(struct acme_call *call, const char *what, time_t wait_s);

/* ---- server_revoke.c ---- */

/** Import an entry of the verified CRL of the STI-PA: if the certificate is from this CA, it counts
 *  as revoked from now on. Within a transaction. */
HSM_MUST_CHECK enum hsm_status
acme_revocation_take(struct acme_store *store, const struct certs_crl_entry *entry, time_t now);

/* ---- server_crl.c ---- */

/** The CRL is not verified. */
HSM_MUST_CHECK enum hsm_status acme_crl_fetch(const struct acme_server_config *config,
                                              struct certs_crl **out, struct hsm_reason *why);
/** Verify with config->crl_signer, which must not be NULL. */
HSM_MUST_CHECK enum hsm_status acme_crl_verify(const struct acme_server_config *config,
                                               const struct certs_crl *crl, time_t now,
                                               struct hsm_reason *why);
/** Fetch and verify the CRL; if it is new, acme_crl_go_on() imports it. May take some seconds.
 *  Faults are logged. */
void acme_crl_take(struct acme_server *server, time_t now);
/** Import new entries for this CA's certificates, for some seconds at most; the rest with the next
 *  call. */
void acme_crl_go_on(struct acme_server *server, time_t now);

/* ---- server_upkeep.c ---- */

/** Among the processes that share the store, one performs a duty, and not again within `pause_s`.
 *  False: another process does it, or the store is busy. */
bool acme_duty_claim(struct acme_server *server, const char *name, time_t pause_s, time_t now);

/* ---- server_renewal.c: ACME renewal information (RFC 9773) ---- */

/** Read the member "replaces" of a newOrder; *out is NULL if it is absent. */
bool acme_replaces_take(struct acme_call *call, const json_t *payload, const char *spc,
                        const char **out);
/** Respond with 409, alreadyReplaced. */
void acme_replaces_refuse(struct acme_call *call);

/* ---- handlers ---- */

void acme_new_account(struct acme_call *call);
void acme_account(struct acme_call *call);
void acme_account_orders(struct acme_call *call);
void acme_key_change(struct acme_call *call);
void acme_new_order(struct acme_call *call);
void acme_order(struct acme_call *call);
void acme_authorization(struct acme_call *call);
void acme_challenge(struct acme_call *call);
void acme_finalize(struct acme_call *call);
void acme_certificate(struct acme_call *call);
void acme_certificate_alternate(struct acme_call *call);
void acme_hosted_chain(struct acme_call *call);
void acme_renewal_info(struct acme_call *call);
void acme_revoke_cert(struct acme_call *call);

/* ---- server_order.c ---- */

/* A row of the table; all borrowed from it. */
struct acme_order {
    struct acme_rows *rows;
    const char *id, *status, *authz, *identifier, *spc;
    const char *error; /* problem document; NULL: none */
    const char *certificate; /* its id, when the order is valid; else NULL */
    const char *replaces; /* certificate identifier, RFC 9773 section 4.1; NULL: none */
    const uint8_t *tnauthlist;
    size_t tnauthlist_len;
    time_t expires, not_before, not_after; /* 0: not requested by the client */
    time_t token_exp; /* of the SPC token of its authorization; 0: not yet */
    bool ca; /* the SPC token of its authorization has the "ca" flag */
};

/** Read the order that the path names, if it belongs to the account.
 *  acme_rows_free(order->rows). */
bool acme_order_load(struct acme_call *call, struct acme_order *order);
void acme_order_respond(struct acme_call *call, int http_status, const struct acme_order *order);

#define ACME_IDENTIFIER_TYPE "TNAuthList"

/** ATIS-1000080 section 6.4.1: exactly one SPC, [A-Z0-9]+, and nothing else; if configured, the SPC
 * of a participant.
 * @param spc  borrowed from the list */
HSM_MUST_CHECK enum hsm_status acme_spc_check(struct acme_server *server,
                                              const struct certs_tnauthlist *list, const char **spc,
                                              struct hsm_reason *why);

/** RFC 8555 section 6.6, within a transaction: count one more order of this account and address. If
 *  it is over a limit, the caller must roll back. */
HSM_MUST_CHECK enum hsm_status acme_order_count(struct acme_server *server, const char *whom,
                                                const char *peer, time_t now, time_t *wait_s);

/** Add a member to an object; false: out of memory. A time of 0 is left out. */
bool acme_json_add_url(json_t *object, const char *name, const struct acme_server *server,
                       const char *resource, const char *id, const char *rest);
bool acme_json_add_time(json_t *object, const char *name, time_t t);

/* ---- server_order_insert.c ---- */

/* Ids of a new order, its authorization and challenge. */
struct acme_order_ids {
    char order[ACME_ID_LEN + 1], authz[ACME_ID_LEN + 1], challenge[ACME_ID_LEN + 1];
    char token[ACME_ID_LEN + 1]; /* token of the challenge */
};

HSM_MUST_CHECK enum hsm_status acme_order_ids_new(struct acme_order_ids *ids);

struct acme_authority_token;

struct acme_new_authz {
    const struct acme_order_ids *ids;
    const char *account;
    const char *identifier; /* as sent by the client */
    const struct certs_tnauthlist *tnauthlist;
    time_t expires;
    const struct acme_authority_token *token; /* which made it valid; NULL: pending */
    time_t validated; /* when that was */
};

struct acme_new_order {
    const struct acme_order_ids *ids; /* the authorization may already exist */
    const char *account, *status, *spc;
    time_t not_before, not_after; /* 0: as configured */
    time_t created, expires;
    const char *replaces; /* NULL: none */
};

/** Insert an authorization and its challenge; this and the next function within a transaction. */
HSM_MUST_CHECK enum hsm_status acme_authz_insert(struct acme_store *store,
                                                 const struct acme_new_authz *authz);
/** @retval HSM_ERR_EXISTS  another order replaces the same certificate */
HSM_MUST_CHECK enum hsm_status acme_order_insert(struct acme_store *store,
                                                 const struct acme_new_order *order);

/* ---- server_finalize.c ---- */

struct certs_csr;

/** RFC 8555 section 7.4: exactly the order's identifier; RFC 9448 section 6: cA as in the token.
 *  Claim constraints are refused; other requested extensions are ignored. */
HSM_MUST_CHECK enum hsm_status acme_csr_check(const struct certs_csr *csr,
                                              const uint8_t *tnauthlist, size_t tnauthlist_len,
                                              bool ca, struct hsm_reason *why);

/**
 * HSM_ERR_EXISTS when the key belongs to another account or was certified before.
 * `own`: it is also the key of this account, which the operator has allowed; it may
 * be certified again for the account, unless a revocation stated keyCompromise.
 * Within a transaction.
 */
HSM_MUST_CHECK enum hsm_status acme_csr_key_check(struct acme_server *server, const char *account,
                                                  bool own, const char *thumbprint);

struct acme_subject {
    char organization[ACME_ORGANIZATION_MAX + 1];
    char country[3];
};

/** The subject with which this CA certifies the holder of an SPC. */
HSM_MUST_CHECK enum hsm_status acme_subject_find(struct acme_server *server, const char *spc,
                                                 struct acme_subject *out);

/* ---- server_chain.c ---- */

/** Check the alternate chains of the configuration and keep them. */
HSM_MUST_CHECK enum hsm_status acme_chain_take_alternates(struct acme_server *server);
/** A chain without its root: verifiers have their own (RFC 8555 section 7.4.2). */
HSM_MUST_CHECK enum hsm_status acme_chain_without_root(const struct certs_chain *chain,
                                                       struct certs_chain **out);
/** The URL of the hosted chain of a certificate. */
void acme_chain_hosted_url(const struct acme_server *server, const char *certificate,
                           char out[ACME_URL_MAX + 1]);

/* ---- server_challenge.c ---- */

struct acme_challenge_state {
    const char *id, *status, *token;
    const char *error; /* problem document; NULL: none */
    time_t validated; /* 0: not yet */
};

/** True for a fault of this server as opposed to a fault of the object checked: a retry may
 *  succeed. */
bool acme_status_is_fault(enum hsm_status st);

struct acme_authority_token;

/* Why a token was refused. */
struct acme_refusal {
    enum acme_error error;
    struct hsm_reason why;
};

/**
 * RFC 9448 section 6: find the token's signer, and make every check that does not need the CSR.
 *
 * @param signer  NULL, or receives the signer's chain; certs_chain_free() it
 */
HSM_MUST_CHECK enum hsm_status
acme_token_check(struct acme_server *server, const struct acme_authority_token *token,
                 const struct certs_tnauthlist *identifier, EVP_PKEY *account_key, time_t now,
                 struct certs_chain **signer, struct acme_refusal *refusal);

/** RFC 8555 section 8, RFC 9447 section 3; the caller decrefs. NULL: out of memory. */
json_t *acme_challenge_object(const struct acme_server *server,
                              const struct acme_challenge_state *challenge);

/* ---- server_signer.c: certificates of SPC tokens' signers ---- */

struct acme_signers;
HSM_MUST_CHECK enum hsm_status acme_signers_new(struct acme_signers **out);
void acme_signers_free(struct acme_signers *signers);
/** The chain at an x5u that may be fetched, perhaps fetched some minutes ago; shared and immutable,
 * certs_chain_free() it. For any thread.
 * @retval as acme_http_fetch_chain() */
HSM_MUST_CHECK enum hsm_status acme_signers_fetch(struct acme_server *server, const char *x5u,
                                                  time_t now, struct certs_chain **out,
                                                  struct hsm_reason *why);

/* ---- server_web.c: pages for people ---- */

struct acme_web;
/** Make the state of the pages; *out stays NULL when they are not enabled. */
HSM_MUST_CHECK enum hsm_status acme_web_new(const struct acme_server_config *config, time_t now,
                                            struct acme_web **out);
void acme_web_free(struct acme_web *web);
/** Whether the pages are enabled and this path is one of theirs. */
bool acme_web_has(const struct acme_server *server, const char *path);
/** Whether the page of this path may send a request to another server. */
bool acme_web_waits(const struct acme_server *server, const char *path);
void acme_web_handle(struct acme_server *server, const struct acme_http_request *request,
                     struct acme_http_response *response);

/* ---- server_issue.c: from intent to certificate ---- */

struct acme_serial {
    uint8_t octets[CERTS_SERIAL_MAX];
    size_t len; /* 0: the token was unavailable; it is assigned, durably, before signing */
};

/** Have the token generate a serial for an intent; outside of any transaction, which would make
 *  other writers wait. */
void acme_issue_draw_serial(const struct acme_server *server, struct acme_serial *out);

/* What is to be certified. */
struct acme_intent {
    const char *order_id, *account;
    const char *spc, *organization, *country;
    EVP_PKEY *public_key;
    const char *thumbprint; /* of public_key */
    const struct acme_serial *serial;
    time_t not_before, not_after; /* 0: as configured */
    time_t token_exp; /* of the order's SPC token */
};

/** Replace 0 by the configured validity, within the issuing chain and, if configured, within the
 *  SPC token; requested times stay. */
void acme_issue_validity(const struct acme_server *server, time_t now, time_t token_exp,
                         time_t *not_before, time_t *not_after);

/** Write the intent, within the caller's transaction. */
HSM_MUST_CHECK enum hsm_status acme_issue_record(struct acme_server *server,
                                                 const struct acme_intent *intent, time_t now);

/**
 * Sign the certificate of an intent and store it; outside of any transaction. Does nothing
 * when it is signed or void, or when another thread or process tried moments ago.
 *
 * @param first  the caller has just recorded the intent itself, or no other process serves
 * yet
 * @retval HSM_ERR_BUSY  the token is unavailable, or its output is not a valid signature:
 *                       the order stays "processing"
 */
HSM_MUST_CHECK enum hsm_status acme_issue_complete(struct acme_server *server, const char *order_id,
                                                   bool first, time_t now);

/** Complete or void up to `limit` orders that are "processing"; stops when the token is
 *  unavailable. */
HSM_MUST_CHECK enum hsm_status acme_issue_resume(struct acme_server *server, bool first,
                                                 int64_t limit, time_t now);

#endif
