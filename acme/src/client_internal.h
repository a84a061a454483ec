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

/** What a CA's directory has (RFC 8555 section 7.1.1); texts owned, optional ones NULL. */
struct acme_directory {
    char *new_nonce, *new_account, *new_order;
    char *revoke_cert, *key_change, *renewal_info; /* optional */
    char *terms_of_service, *website; /* optional */
    bool external_account_required;
};

struct acme_client {
    struct acme_client_config config; /* its pointers are borrowed */
    struct acme_directory directory;
    char *kid; /* NULL before the account is known */
    char *orders; /* its list of orders; NULL: not known, or the CA has none */
    char *nonce; /* the one to use next; NULL: ask newNonce */
    unsigned retry_after_s; /* of the last refusal */
};

/** One answer: its HTTP reply, and its body when that is JSON. */
struct acme_answer {
    struct acme_http_reply reply;
    json_t *body; /* NULL: empty, or not JSON */
};

void acme_answer_clear(struct acme_answer *answer);
/* ---- client_request.c ---- */

/** Who signs a request. */
struct acme_client_signer {
    struct hsm_key *key;
    const char *kid; /* NULL: the header has the key's jwk */
};

/** A request without signature: the directory, renewalInfo. HSM_OK whatever the status. */
HSM_MUST_CHECK enum hsm_status acme_client_get(struct acme_client *client, const char *url,
                                               struct acme_answer *answer, struct hsm_reason *why);

/**
 * A signed request, again with the fresh nonce when the server did not like the old one.
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

/** acme_client_post() whose answer must be a success with JSON; otherwise it is refused with the
 *  text of the problem document. */
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

/** True if it is a problem document of that type. */
bool acme_problem_is(const json_t *problem, enum acme_error error);
bool acme_client_has_problem(const struct acme_answer *answer, enum acme_error error);

/** A copy takes the place of what *text was. */
HSM_MUST_CHECK enum hsm_status acme_client_replace_text(char **text, const char *value);

/** The Location of an answer into *out. */
HSM_MUST_CHECK enum hsm_status acme_client_location(const struct acme_answer *answer,
                                                    const char *what, char **out,
                                                    struct hsm_reason *why);

/* ---- client_chain.c ---- */

/** The certificate with the chain that the order's `accepts` takes, or with the CA's first. */
HSM_MUST_CHECK enum hsm_status
acme_client_download(struct acme_client *client, const struct acme_client_order *order,
                     const char *url, struct certs_chain **chain, struct hsm_reason *why);

/* ---- client_wait.c ---- */

/** For how long an order is waited for, and how long until the next look. */
struct acme_patience {
    int64_t deadline_ms; /* hsm_clock_ms() */
    struct acme_backoff backoff;
};

void acme_patience_start(struct acme_patience *patience, unsigned limit_s);

#define ACME_RETRY_AFTER_MAX_S 2592000 /* a CA that says more is asked again after a month */

/** Delta seconds or an HTTP date (RFC 9110 section 10.2.3), at most that; -1: absent or neither. */
long acme_retry_after_s(const char *value, time_t now);

/** Wait as the server asks; HSM_ERR_BUSY when that is past the deadline, or the client stopped. */
HSM_MUST_CHECK enum hsm_status acme_client_wait(struct acme_client *client,
                                                struct acme_patience *patience,
                                                const char *retry_after, struct hsm_reason *why);

/* ---- client_parse.c: what a CA says, judged without asking anybody ---- */

/** True if it has the characters of a URL alone; nothing else is checked. */
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
    const char *finalize, *certificate; /* there when the status wants them */
    const char *x5u; /* NULL: none, or not valid yet */
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
        bool is_pending; /* else it was answered */
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
 *  @param http_status  told when there is no document */
void acme_problem_describe(const json_t *problem, int http_status, char out[HSM_REASON_MAX]);

#endif
