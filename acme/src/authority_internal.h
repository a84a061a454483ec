/*
 * authority_internal.h - what the files of the STI-PA share.
 *
 * authority.c           routes, migrations, start and end
 * authority_account.c   accounts: authentication, logins, sessions
 * authority_oauth.c     access tokens by OAuth 2.0
 * authority_password.c  user names and passwords, and limits on guessing them
 * authority_standing.c  suspended accounts, addresses, client certificates, API keys
 * authority_policy.c    what the governance authority's file allows
 * authority_grant.c     SPC tokens
 * authority_ca.c        the trusted STI-CAs and their accounts
 * authority_entries.c   entries of the CRL
 * authority_publish.c   sign and serve list and CRL
 * authority_observe.c   metrics
 * authority_operator.c  accounts: an operator adds, changes and lists them
 * authority_start.c     events at the start of a daemon
 *
 * Revocation requests are in authority_revoke_internal.h.
 */
#ifndef ACME_AUTHORITY_INTERNAL_H
#define ACME_AUTHORITY_INTERNAL_H

#include <acme/authority.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <openssl/sha.h>

#include <acme/json.h>
#include <certs/crl.h>
#include <certs/path.h>
#include <hsm/defer.h>

#include "password_internal.h"

#define AUTHORITY_AUTHORIZATION_MAX 2048 /* characters of the header's value; longer: refused */
#define AUTHORITY_BASIC_CHALLENGE   "Basic realm=\"STI-PA\", charset=\"UTF-8\""

enum authority_document {
    AUTHORITY_CA_LIST,
    AUTHORITY_CRL,
    AUTHORITY_DOCUMENTS, /* their number */
};

/** The origin of a revocation request. */
enum authority_asker {
    AUTHORITY_SP,
    AUTHORITY_STI_CA,
    AUTHORITY_ASKERS, /* the number of kinds that send requests */
    AUTHORITY_OPERATOR = AUTHORITY_ASKERS,
};

/* Passwords that are being hashed, and requests that wait until one of them is done. */
struct authority_hashing {
    pthread_mutex_t mutex;
    unsigned running;
    struct acme_http_parked *waiting[ACME_AUTHORITY_WAITING_MAX]; /* in order of arrival */
    size_t waiting_count;
};

struct acme_authority {
    struct acme_authority_config config; /* its pointers are borrowed */
    char *signer_url; /* URL of the signer's chain: x5u of tokens and list */
    char *crl_signer_url; /* URL of the CRL signer's chain: the CRL's AuthorityInfoAccess */
    char *crl_url;
    char *crl_issuer; /* its name as RFC 2253 text: "iss" of token answers */
    struct authority_policy *policy; /* NULL: no policy file */
    uint16_t automatic[AUTHORITY_ASKERS]; /* reasons granted without an operator: 1 << reason */
    atomic_bool crl_changed; /* by this process, and not yet published */
    _Atomic int64_t refreshed_ns; /* monotonic: time of the last acme_authority_refresh() */
    pthread_mutex_t signing; /* held while signing */
    int64_t crl_signed_ns; /* monotonic: when this process last signed a CRL; under the lock */
    time_t retry_at[AUTHORITY_DOCUMENTS]; /* after a failed signature; under the lock */
    struct authority_hashing hashing;
};

time_t acme_authority_now(const struct acme_authority *authority);

/** {"status":"error","message"} */
void acme_authority_answer_error(struct acme_http_response *response, int status,
                                 const char *message);

/** 503 when the token or the store is unavailable, else 500; the fault itself is in the log. */
void acme_authority_answer_failure(struct acme_http_response *response, enum hsm_status status);

/** The JSON object of a request; json_decref() it. NULL: there is none, and the error (415, 400)
 *  was sent. */
json_t *acme_authority_body(const struct acme_http_request *request,
                            struct acme_http_response *response);

/** BASE and a path; free() it. NULL: out of memory. */
char *acme_authority_url(const char *base_url, const char *path);

/* authority_account.c */

/** Result of checking the credentials of a request. */
enum authority_verdict {
    AUTHORITY_ADMITTED,
    AUTHORITY_REFUSED, /* wrong, expired, or of another account: the response does not say which */
    AUTHORITY_SUSPENDED, /* correct, but the account is suspended */
    AUTHORITY_ELSEWHERE, /* correct, but not allowed from this address */
    AUTHORITY_LIMITED, /* too many wrong passwords: not checked at all */
    AUTHORITY_BUSY, /* too many other passwords are being hashed */
    AUTHORITY_ANONYMOUS, /* the request has no credentials */
};

/** The rights of an account: spcs and ca for a service provider, issuers for an STI-CA. */
struct authority_rights {
    const char *const *spcs; /* NULL-terminated; NULL: none */
    bool ca; /* may request tokens with the "ca" flag */
    const struct certs_path *issuers; /* from the issuing CA to its root; NULL: not an STI-CA */
};

/** 1 to ACME_AUTHORITY_USER_MAX printable octets without ':' (RFC 7617 section 2). */
bool acme_authority_is_user(const char *text);

/** Check id and user, hash the password, and insert everything or nothing. */
HSM_MUST_CHECK enum hsm_status
acme_authority_account_insert(struct acme_store *store, const char *account_id, const char *user,
                              const struct hsm_secret *password,
                              const struct authority_rights *rights);

/** Find the account that the Authorization header authenticates; "" unless the verdict is
 *  AUTHORITY_ADMITTED. */
HSM_MUST_CHECK enum hsm_status acme_authority_authenticate(struct acme_authority *authority,
                                                           const struct acme_http_request *request,
                                                           enum authority_verdict *verdict,
                                                           char account[ACME_AUTHORITY_ID_MAX + 1]);

/** Authenticate a request for one account id, which may not exist. */
HSM_MUST_CHECK enum hsm_status
acme_authority_admit(struct acme_authority *authority, const struct acme_http_request *request,
                     const char *account_id, enum authority_verdict *verdict);

/** Respond to any verdict but AUTHORITY_ADMITTED, or park the request, so that its handler is
 *  called again. */
void acme_authority_answer_verdict(struct acme_authority *authority,
                                   struct acme_http_response *response,
                                   enum authority_verdict verdict);

/* The tokens that a client gets. The store keeps only their SHA-256, so nobody can log in with what
 * the store has. */
struct authority_session {
    struct hsm_secret *access, *refresh; /* owned */
    int64_t refresh_s; /* lifetime of the refresh token, set before it is opened */
};

void acme_authority_session_clear(struct authority_session *session);

/** Check a password and open a session, if the verdict is AUTHORITY_ADMITTED. */
HSM_MUST_CHECK enum hsm_status acme_authority_session_open(struct acme_authority *authority,
                                                           const struct acme_http_request *request,
                                                           const char *user, const char *password,
                                                           struct authority_session *session,
                                                           enum authority_verdict *verdict);

void acme_authority_serve_login(struct acme_authority *authority,
                                const struct acme_http_request *request, const char *param,
                                struct acme_http_response *response);
void acme_authority_serve_relogin(struct acme_authority *authority,
                                  const struct acme_http_request *request, const char *param,
                                  struct acme_http_response *response);

/** Delete expired sessions, full rate limits and old addresses of users. */
HSM_MUST_CHECK enum hsm_status acme_authority_accounts_expire(struct acme_authority *authority);

/* authority_oauth.c */

/** The token endpoint (RFC 6749 section 3.2) for the grant "client_credentials". */
void acme_authority_serve_oauth(struct acme_authority *authority,
                                const struct acme_http_request *request, const char *param,
                                struct acme_http_response *response);

/* authority_password.c */

/** The account of a user name, and the hash that the password was compared with. */
struct authority_user {
    char account[ACME_AUTHORITY_ID_MAX + 1]; /* "": there is no such user */
    struct acme_password_hash stored;
};

/** Check a password, also for an unknown user; *out is written when the password is right. */
HSM_MUST_CHECK enum hsm_status
acme_authority_password_check(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *user,
                              const char *password, enum authority_verdict *verdict,
                              struct authority_user *out);

/** Within a transaction: *verdict becomes AUTHORITY_REFUSED if the password was changed since it
 *  was compared. */
HSM_MUST_CHECK enum hsm_status acme_authority_password_confirm(struct acme_store *store,
                                                               const struct authority_user *user,
                                                               enum authority_verdict *verdict);

/** After AUTHORITY_BUSY: park the request until a password can be hashed. False: too many requests
 *  are waiting. */
bool acme_authority_password_wait(struct acme_authority *authority,
                                  struct acme_http_response *response);

/** Forget addresses without a recent login. */
HSM_MUST_CHECK enum hsm_status acme_authority_password_expire(struct acme_authority *authority);

void acme_authority_hashing_init(struct authority_hashing *hashing);
void acme_authority_hashing_clear(struct authority_hashing *hashing);

/* authority_standing.c */

enum authority_source {
    AUTHORITY_ANYWHERE, /* the account has no list of addresses */
    AUTHORITY_WITHIN, /* the request comes from an address on the list */
    AUTHORITY_OUTSIDE, /* the request comes from elsewhere */
};

HSM_MUST_CHECK enum hsm_status
acme_authority_source_of(struct acme_authority *authority, const struct acme_http_request *request,
                         const char *account, enum authority_source *source);

/** Check suspension and address of an authenticated account: *verdict stays, or becomes the
 *  refusal. */
HSM_MUST_CHECK enum hsm_status
acme_authority_check_standing(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *account,
                              enum authority_verdict *verdict);

/** *verdict and `account` change only if the key, or the subject of a verified client certificate,
 *  belongs to an account. */
HSM_MUST_CHECK enum hsm_status
acme_authority_admit_api_key(struct acme_authority *authority, const char *key,
                             enum authority_verdict *verdict,
                             char account[ACME_AUTHORITY_ID_MAX + 1]);
HSM_MUST_CHECK enum hsm_status acme_authority_admit_client(struct acme_authority *authority,
                                                           const char *subject,
                                                           enum authority_verdict *verdict,
                                                           char account[ACME_AUTHORITY_ID_MAX + 1]);

/* authority_policy.c */

struct authority_policy;

/** What a service provider code is entitled to. */
struct authority_rule {
    bool allowed; /* SPC tokens at all */
    bool ca; /* with the "ca" flag */
    int64_t lifetime_s; /* of its tokens; 0: as configured */
};

/** Read and check the file; faults are logged. */
HSM_MUST_CHECK enum hsm_status acme_authority_policy_open(const char *path,
                                                          struct acme_store *store,
                                                          struct authority_policy **out);
void acme_authority_policy_free(struct authority_policy *policy);
DEFINE_DEFER(struct authority_policy, acme_authority_policy_free)

/** Look up the rule in the file as it is now. A NULL policy allows everything. */
HSM_MUST_CHECK enum hsm_status acme_authority_policy_ask(struct authority_policy *policy,
                                                         struct acme_store *store, const char *spc,
                                                         struct authority_rule *out);

/** Reread the file if it changed; true if the policy in force is not the one in the file. A NULL
 *  policy is never stale. */
bool acme_authority_policy_is_stale(struct authority_policy *policy, struct acme_store *store);

/* authority_grant.c */

void acme_authority_grant(struct acme_authority *authority, const struct acme_http_request *request,
                          const char *account_id, struct acme_http_response *response);

/** Forget tokens that ended long ago. A jti is random: it is not used again. */
HSM_MUST_CHECK enum hsm_status acme_authority_tokens_expire(struct acme_authority *authority);

/* authority_ca.c */

/* certs_path_policy.ca_keys for paths to these roots: a root was judged when it was added to the
 * list. */
#define AUTHORITY_CA_KEYS (CERTS_CA_P384 | CERTS_CA_P521 | CERTS_CA_RSA)

/** The roots of the trusted STI-CAs. */
HSM_MUST_CHECK enum hsm_status acme_authority_roots(struct acme_store *store,
                                                    struct certs_chain **out);

/** Bind the names under which an STI-CA issues to its account, within the caller's transaction.
 *  HSM_ERR_EXISTS: one of them is bound to another account. Names are compared as in RFC 5280
 *  section 7.1, here and below. */
HSM_MUST_CHECK enum hsm_status acme_authority_issuers_insert(struct acme_store *store,
                                                             const char *account_id,
                                                             const struct certs_path *issuers);

/**
 * Find the account to which an issuer's name is bound.
 *
 * @param account  receives the account of an STI-CA
 * @param der      receives the name as it was bound; free() it
 * @retval HSM_ERR_NOT_FOUND  it is bound to no account
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_issuer_find(struct acme_store *store, const X509_NAME *name,
                           char account[ACME_AUTHORITY_ID_MAX + 1], uint8_t **der, size_t *len);

/** Whether a root with one of the names of this account is still on the trusted list. */
HSM_MUST_CHECK enum hsm_status
acme_authority_issuer_is_trusted(struct acme_store *store, const char *account, bool *is_trusted);

/** SHA-256 over the current contents of the list, without its sequence and time. */
HSM_MUST_CHECK enum hsm_status acme_authority_roots_digest(struct acme_authority *authority,
                                                           uint8_t out[SHA256_DIGEST_LENGTH]);

/* authority_entries.c */

/** The current entries of the CRL. */
struct authority_entries {
    struct certs_crl_entry *entries; /* issuers are owned */
    size_t count;
    int64_t last; /* the number of the last one ever added; 0: none */
};

HSM_MUST_CHECK enum hsm_status acme_authority_entries_read(struct acme_authority *authority,
                                                           struct authority_entries *out);
void acme_authority_entries_clear(struct authority_entries *entries);

/** The number of the last entry ever: entries are append-only, so this number identifies the set.
 */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_last(struct acme_store *store, int64_t *out);

/** One number each: entries on the CRL, pending requests, the id of the last request ever. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_count(struct acme_store *store, int64_t *out);
HSM_MUST_CHECK enum hsm_status acme_authority_requests_queued(struct acme_store *store,
                                                              int64_t *out);
HSM_MUST_CHECK enum hsm_status acme_authority_requests_last(struct acme_store *store, int64_t *out);

/** Whether the CRL has ACME_AUTHORITY_REVOCATIONS_MAX entries. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_full(struct acme_store *store, bool *is_full);

/** Within a transaction: mark the request as granted and append its entry. */
HSM_MUST_CHECK enum hsm_status acme_authority_entry_add(struct acme_store *store, int64_t id,
                                                        int64_t now);

/** Within a transaction: take entries off the CRL, as an operator decided: those that an account
 *  requested, or all (NULL), with ids from `first` to `last`. */
HSM_MUST_CHECK enum hsm_status
acme_authority_entries_take_off(struct acme_store *store, const char *account, int64_t first,
                                int64_t last, int64_t now, int64_t *count);

/** Within a transaction: a CRL with this thisUpdate has the entries up to `last`; note which of
 *  them are of certificates that had ended by then. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_outlive(struct acme_authority *authority,
                                                              int64_t last, time_t this_update);

/* authority_revoke.c */

void acme_authority_revoke(struct acme_authority *authority,
                           const struct acme_http_request *request, const char *param,
                           struct acme_http_response *response);

/* authority_observe.c */

/** Set the gauges. */
void acme_authority_observe(struct acme_authority *authority);

/* authority_publish.c */

/** Keep a signer's chain for as long as the store exists; returns its URL, free() it. */
HSM_MUST_CHECK enum hsm_status acme_authority_signer_publish(struct acme_authority *authority,
                                                             const struct certs_chain *chain,
                                                             char **url);

/** Sign a new document if the one in the store is no longer current. */
HSM_MUST_CHECK enum hsm_status acme_authority_document_refresh(struct acme_authority *authority,
                                                               enum authority_document document);

/** The highest number that was published before the store was restored: documents up to it are not
 *  served. 0: it was not restored. */
HSM_MUST_CHECK enum hsm_status acme_authority_document_floor(struct acme_store *store,
                                                             enum authority_document kind,
                                                             uint64_t *out);

/** The published CRL is out of date: acme_authority_tick() signs the next. */
void acme_authority_crl_changed(struct acme_authority *authority);

void acme_authority_serve_ca_list(struct acme_authority *authority,
                                  const struct acme_http_request *request, const char *param,
                                  struct acme_http_response *response);
void acme_authority_serve_crl(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *param,
                              struct acme_http_response *response);
void acme_authority_serve_signer(struct acme_authority *authority,
                                 const struct acme_http_request *request, const char *id,
                                 struct acme_http_response *response);

#endif
