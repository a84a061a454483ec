/*
 * authority_internal.h - what the files of the STI-PA share.
 *
 * authority.c           routes, migrations, start and end
 * authority_account.c   accounts: which one a request is of, and its rights
 * authority_password.c  user names and passwords, and limits on guessing them
 * authority_standing.c  suspended accounts, addresses, client certificates, API keys
 * authority_policy.c    what the governance authority's file allows
 * authority_grant.c     SPC tokens
 * authority_ca.c        the trusted STI-CAs and their accounts
 * authority_entries.c   entries of the CRL
 * authority_publish.c   signing and serving list and CRL
 * authority_observe.c   metrics
 * authority_operator.c  accounts, as an operator adds, changes and lists them
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

enum authority_document {
    AUTHORITY_CA_LIST,
    AUTHORITY_CRL,
    AUTHORITY_DOCUMENTS, /* how many there are */
};

/** The requester of a revocation. */
enum authority_asker {
    AUTHORITY_SP,
    AUTHORITY_STI_CA,
    AUTHORITY_ASKERS, /* how many kinds send requests */
    AUTHORITY_OPERATOR = AUTHORITY_ASKERS,
};

/* Passwords that are being hashed, and requests that wait for one of these to be done. */
struct authority_hashing {
    pthread_mutex_t mutex;
    unsigned running;
    struct acme_http_parked *waiting[ACME_AUTHORITY_WAITING_MAX]; /* the first one first */
    size_t waiting_count;
};

struct acme_authority {
    struct acme_authority_config config; /* what it points to is borrowed */
    char *signer_url; /* where the chain of the signer is: x5u of tokens and list */
    char *crl_signer_url; /* likewise of the CRL's signer: its AuthorityInfoAccess */
    char *crl_url;
    char *crl_issuer; /* its name as RFC 2253 text: "iss" of token answers */
    struct authority_policy *policy; /* NULL: there is none */
    uint16_t automatic[AUTHORITY_ASKERS]; /* reasons for which no operator decides: 1 << reason */
    atomic_bool crl_changed; /* by this process, and not published since */
    _Atomic int64_t refreshed_ns; /* monotonic: when all was looked at last */
    pthread_mutex_t signing; /* one thread re-signs at a time */
    int64_t crl_signed_ns; /* monotonic: the last one of this process; under the lock */
    time_t retry_at[AUTHORITY_DOCUMENTS]; /* after a failed signature; under the lock */
    struct authority_hashing hashing;
};

time_t acme_authority_now(const struct acme_authority *authority);

/** {"status":"error","message"} */
void acme_authority_answer_error(struct acme_http_response *response, int status,
                                 const char *message);

/** 503 for a token or store that is away, else 500; what happened is in the log. */
void acme_authority_answer_failure(struct acme_http_response *response, enum hsm_status status);

/** The JSON object of a request; if there is none, the answer (415, 400) is made. Decref it. */
json_t *acme_authority_body(const struct acme_http_request *request,
                            struct acme_http_response *response);

/** BASE and a path; free() it. NULL: out of memory. */
char *acme_authority_url(const char *base_url, const char *path);

/* authority_account.c */

/** What the credentials of a request are worth. */
enum authority_verdict {
    AUTHORITY_ADMITTED,
    AUTHORITY_REFUSED, /* wrong, expired, or of another account: the answer does not say which */
    AUTHORITY_SUSPENDED, /* good, but the account is suspended */
    AUTHORITY_ELSEWHERE, /* good, but not from this address */
    AUTHORITY_LIMITED, /* too many wrong passwords: not checked at all */
    AUTHORITY_BUSY, /* too many other passwords are being hashed */
    AUTHORITY_ANONYMOUS, /* the request has no credentials */
};

/** What an account may: of a service provider the first two, of an STI-CA the last. */
struct authority_rights {
    const char *const *spcs; /* NULL-terminated; NULL: none */
    bool ca; /* may ask for the "ca" flag */
    const struct certs_path *issuers; /* from the issuing CA to its root; NULL: no STI-CA */
};

/** 1 to ACME_AUTHORITY_USER_MAX printable octets without ':' (RFC 7617 section 2). */
bool acme_authority_is_user(const char *text);

/** Check id and user, hash the password, insert all of it or nothing. */
HSM_MUST_CHECK enum hsm_status
acme_authority_account_insert(struct acme_store *store, const char *account_id, const char *user,
                              const struct hsm_secret *password,
                              const struct authority_rights *rights);

/** Whose account the Authorization header is good for; "" unless the verdict is
 *  AUTHORITY_ADMITTED. */
HSM_MUST_CHECK enum hsm_status acme_authority_authenticate(struct acme_authority *authority,
                                                           const struct acme_http_request *request,
                                                           enum authority_verdict *verdict,
                                                           char account[ACME_AUTHORITY_ID_MAX + 1]);

/** Compare the Authorization header with an account id, which may not exist. */
HSM_MUST_CHECK enum hsm_status
acme_authority_admit(struct acme_authority *authority, const struct acme_http_request *request,
                     const char *account_id, enum authority_verdict *verdict);

/** The answer to every verdict but AUTHORITY_ADMITTED; or the request is put aside, and its handler
 *  called again. */
void acme_authority_answer_verdict(struct acme_authority *authority,
                                   struct acme_http_response *response,
                                   enum authority_verdict verdict);

void acme_authority_serve_login(struct acme_authority *authority,
                                const struct acme_http_request *request, const char *param,
                                struct acme_http_response *response);
void acme_authority_serve_relogin(struct acme_authority *authority,
                                  const struct acme_http_request *request, const char *param,
                                  struct acme_http_response *response);

/** Delete what is over: sessions, limits, addresses of users. */
HSM_MUST_CHECK enum hsm_status acme_authority_accounts_expire(struct acme_authority *authority);

/* authority_password.c */

/** Whose password it is, and the hash that it was compared with. */
struct authority_user {
    char account[ACME_AUTHORITY_ID_MAX + 1]; /* "": there is no such user */
    struct acme_password_hash stored;
};

/** Compare a password, which may be of nobody; *out is written when it is right. */
HSM_MUST_CHECK enum hsm_status
acme_authority_password_check(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *user,
                              const char *password, enum authority_verdict *verdict,
                              struct authority_user *out);

/** Within a transaction: *verdict stays, or is AUTHORITY_REFUSED as the password was changed since
 *  it was compared. */
HSM_MUST_CHECK enum hsm_status acme_authority_password_confirm(struct acme_store *store,
                                                               const struct authority_user *user,
                                                               enum authority_verdict *verdict);

/** After AUTHORITY_BUSY: put the request aside until a password can be looked at. False: there is
 *  no room for it. */
bool acme_authority_password_wait(struct acme_authority *authority,
                                  struct acme_http_response *response);

/** Forget addresses from which nobody has logged in for long. */
HSM_MUST_CHECK enum hsm_status acme_authority_password_expire(struct acme_authority *authority);

void acme_authority_hashing_init(struct authority_hashing *hashing);
void acme_authority_hashing_clear(struct authority_hashing *hashing);

/* authority_standing.c */

enum authority_source {
    AUTHORITY_ANYWHERE, /* the account may be used from everywhere */
    AUTHORITY_WITHIN, /* the request is from where it may be used */
    AUTHORITY_OUTSIDE, /* it is not */
};

HSM_MUST_CHECK enum hsm_status
acme_authority_source_of(struct acme_authority *authority, const struct acme_http_request *request,
                         const char *account, enum authority_source *source);

/** Of an account whose credentials are good: *verdict stays, or says why it is refused. */
HSM_MUST_CHECK enum hsm_status
acme_authority_check_standing(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *account,
                              enum authority_verdict *verdict);

/** *verdict and `account` change only if the key, or the subject of a verified client certificate,
 *  is some account's. */
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

/** What a service provider code may have. */
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

/** By the file as it is now. NULL: everything is allowed. */
HSM_MUST_CHECK enum hsm_status acme_authority_policy_ask(struct authority_policy *policy,
                                                         struct acme_store *store, const char *spc,
                                                         struct authority_rule *out);

/** After a look at the file: whether something else is in force than what it says.
 *  NULL: no. */
bool acme_authority_policy_is_stale(struct authority_policy *policy, struct acme_store *store);

/* authority_grant.c */

void acme_authority_grant(struct acme_authority *authority, const struct acme_http_request *request,
                          const char *account_id, struct acme_http_response *response);

/* authority_ca.c */

/* certs_path_policy.ca_keys of paths to them: what is on the list was judged when it came there. */
#define AUTHORITY_CA_KEYS (CERTS_CA_P384 | CERTS_CA_P521 | CERTS_CA_RSA)

/** The roots of the trusted STI-CAs. */
HSM_MUST_CHECK enum hsm_status acme_authority_roots(struct acme_store *store,
                                                    struct certs_chain **out);

/** Bind the names under which an STI-CA issues to its account, within the caller's transaction.
 *  HSM_ERR_EXISTS: one of them is another account's. Names are compared as verifiers do it (RFC
 *  5280 section 7.1), here and below. */
HSM_MUST_CHECK enum hsm_status acme_authority_issuers_insert(struct acme_store *store,
                                                             const char *account_id,
                                                             const struct certs_path *issuers);

/**
 * Find whose name it is.
 *
 * @param account  receives the account of an STI-CA
 * @param der      receives the name as it was bound; free() it
 * @retval HSM_ERR_NOT_FOUND  no account's
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_issuer_find(struct acme_store *store, const X509_NAME *name,
                           char account[ACME_AUTHORITY_ID_MAX + 1], uint8_t **der, size_t *len);

/** Whether a root with one of the names of this account is on the trusted list still. */
HSM_MUST_CHECK enum hsm_status
acme_authority_issuer_is_trusted(struct acme_store *store, const char *account, bool *is_trusted);

/** SHA-256 over what the list would say now, without its sequence and time. */
HSM_MUST_CHECK enum hsm_status acme_authority_roots_digest(struct acme_authority *authority,
                                                           uint8_t out[SHA256_DIGEST_LENGTH]);

/* authority_entries.c */

/** What the CRL has to name. */
struct authority_entries {
    struct certs_crl_entry *entries; /* issuers are owned */
    size_t count;
    int64_t last; /* the number of the last one; 0: there is none */
};

HSM_MUST_CHECK enum hsm_status acme_authority_entries_read(struct acme_authority *authority,
                                                           struct authority_entries *out);
void acme_authority_entries_clear(struct authority_entries *entries);

/** The number of the last entry ever: entries are append-only, so this number identifies the set.
 */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_last(struct acme_store *store, int64_t *out);

/** The number of entries on the CRL; of pending requests; the id of the last request ever. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_count(struct acme_store *store, int64_t *out);
HSM_MUST_CHECK enum hsm_status acme_authority_requests_queued(struct acme_store *store,
                                                              int64_t *out);
HSM_MUST_CHECK enum hsm_status acme_authority_requests_last(struct acme_store *store, int64_t *out);

/** Whether there are ACME_AUTHORITY_REVOCATIONS_MAX. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_full(struct acme_store *store, bool *is_full);

/** Within a transaction: the request is granted, and its entry the last. */
HSM_MUST_CHECK enum hsm_status acme_authority_entry_add(struct acme_store *store, int64_t id,
                                                        int64_t now);

/** Within a transaction: these are on the CRL no more, by an operator's word; those that an
 *  account has asked for, or all (NULL), with ids from first to last. */
HSM_MUST_CHECK enum hsm_status
acme_authority_entries_take_off(struct acme_store *store, const char *account, int64_t first,
                                int64_t last, int64_t now, int64_t *count);

/** Within a transaction: a CRL of that thisUpdate has the entries up to `last`, some of which may
 *  have been of certificates that ended before. */
HSM_MUST_CHECK enum hsm_status acme_authority_entries_outlive(struct acme_authority *authority,
                                                              int64_t last, time_t this_update);

/* authority_revoke.c */

void acme_authority_revoke(struct acme_authority *authority,
                           const struct acme_http_request *request, const char *param,
                           struct acme_http_response *response);

/* authority_observe.c */

/** Gauges as they are now. */
void acme_authority_observe(struct acme_authority *authority);

/* authority_publish.c */

/** Keep a signer's chain for as long as the store lasts, and say where; free() the URL. */
HSM_MUST_CHECK enum hsm_status acme_authority_signer_publish(struct acme_authority *authority,
                                                             const struct certs_chain *chain,
                                                             char **url);

/** Sign a document anew if the one in the store is not good any more. */
HSM_MUST_CHECK enum hsm_status acme_authority_document_refresh(struct acme_authority *authority,
                                                               enum authority_document document);

/** The highest number that was published before the store was restored: nothing up to it is served.
 *  0: it was not restored. */
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
