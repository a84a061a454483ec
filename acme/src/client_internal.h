/*
 * client_internal.h - what the files of the ACME client share.
 */
#ifndef ACME_CLIENT_INTERNAL_H
#define ACME_CLIENT_INTERNAL_H

#include <acme/client.h>

#include <jansson.h>

#include <acme/backoff.h>
#include <acme/problem.h>
#include <hsm/defer.h>

#define ACME_REPLY_MAX       65536 /* octets of a JSON answer */
#define ACME_TIMEOUT_MS      30000 /* of one request */
#define ACME_CLIENT_URL_MAX  2048 /* characters of a URL that the server names */
#define ACME_AUTHZS_MAX      16 /* authorizations of one order */
#define ACME_CHALLENGES_MAX  16 /* of one authorization */
#define ACME_WAIT_FIRST_MS   1000 /* between polls without Retry-After; doubled ... */
#define ACME_WAIT_LONGEST_MS 15000 /* ... up to this */

/** A CA's directory (RFC 8555 section 7.1.1); texts owned, optional ones NULL. */
struct acme_directory {
    char *new_nonce, *new_account, *new_order;
    char *revoke_cert, *key_change, *renewal_info; /* optional */
    char *terms_of_service, *website; /* optional */
    bool external_account_required;
};

struct acme_client {
    struct acme_client_config config; /* its pointers are borrowed */
    struct acme_directory directory;
    char *kid; /* NULL: the account is not known yet */
    char *orders; /* URL of its list of orders; NULL: not known, or the CA has none */
    char *nonce; /* the one to use next; NULL: request newNonce */
    unsigned retry_after_s; /* of the last refusal */
};

/** One answer: its HTTP reply, and its body when that is JSON. */
struct acme_answer {
    struct acme_http_reply reply;
    json_t *body; /* NULL: empty, or not JSON */
};

void acme_answer_clear(struct acme_answer *answer);
/* ---- client_request.c ---- */

/** The key that signs a request. */
struct acme_client_signer {
    struct hsm_key *key;
    const char *kid; /* NULL: the header carries the key's jwk */
};

/** An unsigned GET: the directory, renewalInfo. HSM_OK whatever the status. */
HSM_MUST_CHECK enum hsm_status acme_client_get(struct acme_client *client, const char *url,
                                               struct acme_answer *answer, struct hsm_reason *why);

/**
 * A signed request; repeated with a fresh nonce when the server refuses the old one
 * (badNonce).
 *
 * @param payload  "": POST-as-GET (RFC 8555 section 6.3)
 * @param accept   NULL: any
 * HSM_OK whatever the status of the answer.
 */
HSM_MUST_CHECK enum hsm_status
acme_client_post_as(struct acme_client *client, const struct acme_client_signer *signer,
                    const char *url, const char *payload, const char *accept,
                    struct acme_answer *answer, struct hsm_reason *why);
/** POST signed by the account, or by its key while there is no account. */
HSM_MUST_CHECK enum hsm_status acme_client_post(struct acme_client *client, const char *url,
                                                const char *payload, const char *accept,
                                                struct acme_answer *answer, struct hsm_reason *why);

/** acme_client_call() requires a success with a JSON body and otherwise refuses with the text of
 *  the problem document; else as acme_client_post(). */
HSM_MUST_CHECK enum hsm_status acme_client_call(struct acme_client *client, const char *what,
                                                const char *url, const char *payload,
                                                struct acme_answer *answer, struct hsm_reason *why);

/** acme_client_call() for idempotent requests: transient failures are retried a few times. */
HSM_MUST_CHECK enum hsm_status
acme_client_call_again(struct acme_client *client, const char *what, const char *url,
                       const char *payload, struct acme_answer *answer, struct hsm_reason *why);

/** Map a response to a status: HSM_OK for success, HSM_ERR_BUSY for a transient error, else the
 * kind of the problem. */
HSM_MUST_CHECK enum hsm_status acme_client_judge(struct acme_client *client,
                                                 const struct acme_answer *answer, const char *what,
                                                 struct hsm_reason *why);

/** True if it is a problem document of this type. */
bool acme_problem_is(const json_t *problem, enum acme_error error);
bool acme_client_has_problem(const struct acme_answer *answer, enum acme_error error);

/** Replace *text by a copy of `value`. */
HSM_MUST_CHECK enum hsm_status acme_client_replace_text(char **text, const char *value);

/** Copy the Location of an answer to *out. */
HSM_MUST_CHECK enum hsm_status acme_client_location(const struct acme_answer *answer,
                                                    const char *what, char **out,
                                                    struct hsm_reason *why);

/* ---- client_chain.c ---- */

/** The certificate with the chain that the order's `accepts` prefers, or with the CA's first
 *  one. */
HSM_MUST_CHECK enum hsm_status
acme_client_download(struct acme_client *client, const struct acme_client_order *order,
                     const char *url, struct certs_chain **chain, struct hsm_reason *why);

/* ---- client_wait.c ---- */

/** How long to wait for an order, and how long until the next poll. */
struct acme_patience {
    int64_t deadline_ms; /* hsm_clock_ms() */
    struct acme_backoff backoff;
};

void acme_patience_start(struct acme_patience *patience, unsigned limit_s);

#define ACME_RETRY_AFTER_MAX_S 2592000 /* a longer Retry-After is cut to a month */

/** Delta seconds or an HTTP date (RFC 9110 section 10.2.3), limited to ACME_RETRY_AFTER_MAX_S; -1:
 *  absent or invalid. */
long acme_retry_after_s(const char *value, time_t now);

/** Wait as the server requests; HSM_ERR_BUSY when that is past the deadline, or the client was
 *  stopped. */
HSM_MUST_CHECK enum hsm_status acme_client_wait(struct acme_client *client,
                                                struct acme_patience *patience,
                                                const char *retry_after, struct hsm_reason *why);

/* ---- client_parse.c: answers of a CA; no network ---- */

/** True if it has only characters of a URL; nothing else is checked. */
bool acme_client_is_url(const char *text);

HSM_MUST_CHECK enum hsm_status
acme_directory_parse(const json_t *object, struct acme_directory *out, struct hsm_reason *why);
void acme_directory_clear(struct acme_directory *directory);

/** RFC 8555 section 7.1.6. */
enum acme_order_status {
    ACME_ORDER_PENDING,
    ACME_ORDER_READY,
    ACME_ORDER_PROCESSING,
    ACME_ORDER_VALID,
    ACME_ORDER_INVALID,
};

/** An order object; texts borrowed from it. */
struct acme_order_view {
    enum acme_order_status status;
    const char *authorizations[ACME_AUTHZS_MAX];
    size_t authorization_count;
    const char *finalize, *certificate; /* present when the status requires them */
    const char *x5u; /* NULL: absent, or not valid yet */
};

/** @retval HSM_ERR_DENIED  the order is invalid: the reason has its error */
HSM_MUST_CHECK enum hsm_status acme_order_parse(const json_t *object, struct acme_order_view *out,
                                                struct hsm_reason *why);

/** True if the order object is for exactly these identifiers, in any order. */
bool acme_order_is_for(const json_t *object, const struct acme_client_identifier *identifiers,
                       size_t count);

/** An authorization object; texts borrowed from it. */
struct acme_authz_view {
    bool is_valid; /* else it is pending */
    struct {
        struct acme_client_challenge challenge;
        const char *url;
        bool is_pending; /* else it was responded to */
    } offered[ACME_CHALLENGES_MAX];
    size_t count;
};

/** @retval HSM_ERR_DENIED  it is neither valid nor pending: the reason has the challenge's error */
HSM_MUST_CHECK enum hsm_status acme_authz_parse(const json_t *object, struct acme_authz_view *out,
                                                struct hsm_reason *why);

/** A RenewalInfo object (RFC 9773 section 4.2), without its Retry-After. */
HSM_MUST_CHECK enum hsm_status
acme_renewal_parse(const json_t *object, struct acme_client_renewal *out, struct hsm_reason *why);

/** "TYPE: DETAIL (what it means)" of a problem document, without the prefix of the type.
 * @param http_status  used when there is no document */
void acme_problem_describe(const json_t *problem, int http_status, char out[HSM_REASON_MAX]);

#endif
