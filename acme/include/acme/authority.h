/*
 * authority.h - the STI-PA: accounts of service providers, SPC tokens, the
 * signed list of trusted STI-CAs and the one indirect CRL.
 *
 *   POST /api/v1/auth/login             {"userId","password"}: an access and a refresh token
 *   POST /api/v1/auth/refresh           {"refreshToken"}: a fresh pair; the old one is spent
 *   POST /api/v1/auth/token             an access token by OAuth 2.0 (RFC 6749 section 4.4)
 *   POST /at/account/:id/token          RFC 9447 section 5.1, RFC 9448 section 5.5
 *   POST /sti-pa/account/:id/token      the same, ATIS-1000080
 *   POST /api/v1/account/:id/token      the same, as deployed
 *   GET  /api/v1/ca-list                {"caList": compact JWS}
 *   GET  /download/v1/crl               DER, application/pkix-crl (RFC 2585 section 4.2)
 *   GET  /download/v1/certificate/:id   PEM chain of a signer; the URL is never used for another
 *   POST /sti-pa/revocations            puts a certificate on the CRL: {"issuer": DER in base64,
 *                                       "serial": hex, "reason": CRLReason, "requester": text,
 *                                       "notAfter": RFC 3339, may be left out}
 *
 * Requests for tokens and revocations are authorized by an access token or an API
 * key ("Bearer TOKEN" or, as deployed, the bare token), by "Basic" user and password,
 * or by a client certificate that is bound to the account. A suspended account, or
 * one used from an address that is not on its list, gets 403. Errors are
 * {"status":"error","message"}.
 *
 * An STI-CA may revoke what was issued under its own names. A service provider must
 * add "chain", the PEM chain of its certificate; an STI-CA may. Then notAfter is read
 * from the certificate. 200: the certificate is revoked, durably; the CRL lists it
 * within about a second (ACME_AUTHORITY_CRL_PAUSE_MS), or as soon as a CRL can be signed
 * again, whatever happens to this process. 202: an operator decides. A repeated request
 * gets the same answer. A valid request that exceeds a bound gets 403, 429 or 507, with
 * a "type" in the error: "quotaExceeded", "rateLimited", "crlFull".
 *
 * Handlers are safe on several threads, and several processes may share one
 * store: list sequence and CRL number are durable before they are published.
 */
#ifndef ACME_AUTHORITY_H
#define ACME_AUTHORITY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <acme/http_server.h>
#include <acme/store.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>

#define ACME_AUTHORITY_ID_MAX   64 /* characters of an account id: letters, digits, "-._~" */
#define ACME_AUTHORITY_USER_MAX 128 /* octets of a user name; more: 400 */
/* Wrong passwords for one user from one address (IPv6: one /64) in the time below; more: 429. */
#define ACME_AUTHORITY_FAILURES_MAX 10
#define ACME_AUTHORITY_GUESSES_MAX  40 /* likewise, but for any users from one address */
#define ACME_AUTHORITY_FAILURES_S   300 /* seconds */
/* Wrong passwords an hour for one user from all addresses where it has not logged in before; more:
 * 429, from such addresses only. */
#define ACME_AUTHORITY_STRANGERS_MAX    240
#define ACME_AUTHORITY_HOME_DAYS        90 /* for which an address is known after a login */
#define ACME_AUTHORITY_TOKEN_DAYS       400 /* for which an SPC token is known after its end */
#define ACME_AUTHORITY_HASHES_MAX       2 /* passwords hashed at once by a process, 32 MiB each */
#define ACME_AUTHORITY_WAITING_MAX      16 /* requests that wait for hashing; more: 503 */
#define ACME_AUTHORITY_KEY_DAYS_MAX     3660 /* that an API key is valid */
#define ACME_AUTHORITY_MAX_AGE_S        300 /* seconds that list and CRL may be cached at most */
#define ACME_AUTHORITY_CRL_PATH         "/download/v1/crl"
#define ACME_AUTHORITY_CA_LIST_PATH     "/api/v1/ca-list"
#define ACME_AUTHORITY_SIGNERS_PATH     "/download/v1/certificate/" /* every x5u starts with it */
#define ACME_AUTHORITY_REVOCATIONS_PATH "/sti-pa/revocations"
#define ACME_AUTHORITY_REQUESTER_MAX    256 /* octets of a revocation's requester; more: 400 */
#define ACME_AUTHORITY_REVOCATIONS_MAX  99999 /* entries of the CRL; more: 507 */
#define ACME_AUTHORITY_AUTOMATIC        "sti-ca"
#define ACME_AUTHORITY_FULL_RETRY_S     3600 /* seconds of the 507's Retry-After */
#define ACME_AUTHORITY_CRL_PAUSE_MS     1000 /* for crl_pause_ms, with acme_authority_tick() */
#define ACME_AUTHORITY_ENTRY_DAYS       9132 /* 25 years: longer than STI-CA certificates last */

struct acme_authority_config {
    const char *base_url; /* "https://pa.example": start of x5u, CRL and iss URLs */
    struct acme_store *store; /* opened with acme_authority_migrations */
    struct hsm_key *signer_key; /* SPC tokens and the trusted-CA list */
    const struct certs_chain *signer_chain;
    struct hsm_key *crl_key;
    const struct certs_chain *crl_chain;
    unsigned token_lifetime_s;
    unsigned session_lifetime_s; /* of an access token; a refresh token lasts 24 times as long */
    unsigned list_lifetime_s;
    unsigned crl_lifetime_s;
    unsigned entry_days; /* for which a CRL entry stays if its certificate's notAfter is unknown; 0:
                          * ACME_AUTHORITY_ENTRY_DAYS */
    struct hsm_metrics *metrics; /* NULL: nothing is counted */
    unsigned tokens_per_hour; /* SPC tokens of one account; more: 429; 0: no limit */
    unsigned revocations_per_hour; /* requests of one account; more: 429; 0: no limit */
    unsigned revocations_per_account; /* pending or on the CRL; more: 403; 0: no limit */
    /* Requests that are granted without an operator: "sti-ca" or "sp", each alone or with a reason
     * ("sp:keyCompromise"), separated by commas; "none". NULL: ACME_AUTHORITY_AUTOMATIC */
    const char *revocation_automatic;
    unsigned crl_pause_ms; /* between two CRLs that one process signs because of new entries */
    const char *policy; /* the governance authority's file (docs/STI-PA.md); NULL: none */
    bool only_checked; /* for --check: nothing is signed, no request is served */
    time_t (*now)(void); /* NULL: time() */
};

extern const char *const acme_authority_migrations[];

struct acme_authority;

/**
 * All pointers are borrowed. Signs list and CRL if there are no current ones.
 *
 * @retval HSM_ERR_UNTRUSTED  a key is not the key of its certificate
 */
HSM_MUST_CHECK enum hsm_status acme_authority_new(const struct acme_authority_config *config,
                                                  struct acme_authority **out);
/** Record the settings as events when a daemon begins to serve: acme_events_tell_start(). */
HSM_MUST_CHECK enum hsm_status acme_authority_tell_start(struct acme_authority *authority);

/** The handler of the requests above. Its context is the authority: borrowed, valid until
 *  acme_authority_free(). */
struct acme_http_handler acme_authority_handler(struct acme_authority *authority);
/** Append to a JSON array, as texts, the reasons why the authority cannot serve now, other than its
 *  token. */
void acme_authority_not_ready(struct acme_authority *authority, json_t *reasons);
/** Sign list and CRL when half their lifetime has passed or their contents have changed, and delete
 *  expired rows. Faults are logged. */
void acme_authority_refresh(struct acme_authority *authority);
/** Call every second. Publishes a CRL with the revocations of this process; once a minute calls
 *  acme_authority_refresh(). */
void acme_authority_tick(struct acme_authority *authority);
void acme_authority_free(struct acme_authority *authority);
DEFINE_DEFER(struct acme_authority, acme_authority_free)

/** "BASE/download/v1/crl": what certificates carry as CRLDistributionPoint; free() it. */
char *acme_authority_crl_url(const char *base_url);

/**
 * Add a service provider's account. The password is stored as a salted scrypt hash.
 *
 * @param account_id  1 to ACME_AUTHORITY_ID_MAX characters; it is part of URLs
 * @param user        1 to ACME_AUTHORITY_USER_MAX printable octets without ':' (RFC 7617 section 2)
 * @param spcs        NULL-terminated, at least one: the codes this account may get tokens for
 * @param ca          has the right to the "ca" flag
 * @retval HSM_ERR_EXISTS     the account id or the user is taken
 * @retval HSM_ERR_MALFORMED  an argument is not as above; logged
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_account_add(struct acme_store *store, const char *account_id, const char *user,
                           const struct hsm_secret *password, const char *const *spcs, bool ca);

/*
 * The state of an account. Each change is recorded as an event. HSM_ERR_NOT_FOUND:
 * no account has this id, or it is in that state already.
 */

/** @param reason  up to 256 octets; shown to operators, not to the account's user */
HSM_MUST_CHECK enum hsm_status acme_authority_account_suspend(struct acme_store *store,
                                                              const char *account_id,
                                                              const char *reason);
HSM_MUST_CHECK enum hsm_status acme_authority_account_reinstate(struct acme_store *store,
                                                                const char *account_id);

/**
 * Admit TLS client certificates with this subject (RFC 2253 text) and no others; NULL: none.
 *
 * @retval HSM_ERR_EXISTS  another account has this subject
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_account_bind(struct acme_store *store, const char *account_id, const char *subject);

/**
 * Set the addresses from which an account may be used.
 *
 * @param prefixes  "ADDRESS" or "ADDRESS/BITS", NULL-terminated; empty: any address
 */
HSM_MUST_CHECK enum hsm_status acme_authority_account_limit(struct acme_store *store,
                                                            const char *account_id,
                                                            const char *const *prefixes);

/**
 * Make an API key: 32 random octets in a new file (0600), their SHA-256 in the store.
 *
 * @param days  1 to ACME_AUTHORITY_KEY_DAYS_MAX: how long it is valid
 * @param id    receives its number, for acme_authority_api_key_revoke()
 * @retval HSM_ERR_EXISTS  the file exists
 */
HSM_MUST_CHECK enum hsm_status acme_authority_api_key_add(struct acme_store *store,
                                                          const char *account_id, const char *path,
                                                          unsigned days, int64_t *id);
HSM_MUST_CHECK enum hsm_status acme_authority_api_key_revoke(struct acme_store *store, int64_t id);
/** One line for each: its number, account, days, whether it is revoked. */
HSM_MUST_CHECK enum hsm_status acme_authority_api_keys_show(struct acme_store *store, FILE *to);

/** Replace the codes of a service provider's account and its right to the "ca" flag. */
HSM_MUST_CHECK enum hsm_status acme_authority_account_spcs(struct acme_store *store,
                                                           const char *account_id,
                                                           const char *const *spcs, bool ca);

/** Replace the password; sessions that were opened with the old one end. */
HSM_MUST_CHECK enum hsm_status acme_authority_account_password(struct acme_store *store,
                                                               const char *account_id,
                                                               const struct hsm_secret *password);

/** One line for each account: id, user, SPCs, right to the "ca" flag, state. */
HSM_MUST_CHECK enum hsm_status acme_authority_accounts_show(struct acme_store *store, FILE *to);

/**
 * Put an STI-CA's root on the trusted list.
 *
 * @retval HSM_ERR_EXISTS     it is on the list already
 * @retval HSM_ERR_UNTRUSTED  it is not self-issued, it has expired, or certs/lint.h finds an error
 *                            in it; logged
 */
HSM_MUST_CHECK enum hsm_status acme_authority_ca_add(struct acme_store *store, const X509 *root);

/**
 * Take a root off the list, by its SHA-256 as acme_authority_cas_show() prints it.
 *
 * @retval HSM_ERR_NOT_FOUND  it is not on the list
 */
HSM_MUST_CHECK enum hsm_status acme_authority_ca_remove(struct acme_store *store,
                                                        const char *sha256, const char *reason);

/**
 * Add an STI-CA's account, which may revoke what was issued under the names in its chain.
 *
 * @param chain  its issuing certificate first; must contain a path to a root on the trusted list
 * @retval HSM_ERR_EXISTS     the account id, the user or one of the names is taken
 * @retval HSM_ERR_MALFORMED  as acme_authority_account_add(); logged
 * @retval HSM_ERR_UNTRUSTED  there is no such path; logged
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_ca_account_add(struct acme_store *store, const char *account_id, const char *user,
                              const struct hsm_secret *password, const struct certs_chain *chain);

/**
 * Bind the names of another chain to an STI-CA's account as well, for a new issuing certificate.
 *
 * @retval HSM_ERR_NOT_FOUND  no account of an STI-CA has this id
 * @retval HSM_ERR_EXISTS     one of the names is bound to another account
 * @retval HSM_ERR_UNTRUSTED  as acme_authority_ca_account_add(); logged
 */
HSM_MUST_CHECK enum hsm_status acme_authority_ca_account_extend(struct acme_store *store,
                                                                const char *account_id,
                                                                const struct certs_chain *chain);

#define ACME_AUTHORITY_NUMBER_MAX INT64_C(1000000000000000)

/**
 * For a store that was restored from a backup: give lists and CRLs signed from now on higher
 * numbers than those that were published before, as relying parties would refuse lower ones. A
 * list or CRL in the store with a lower number is no longer served. Recorded as an event.
 *
 * @param sequence    of the last trusted-CA list, 1 to ACME_AUTHORITY_NUMBER_MAX; 0: do not change
 * @param crl_number  of the last CRL, likewise
 * @retval HSM_ERR_EXISTS     one of them is lower than the store's; nothing was changed
 * @retval HSM_ERR_MALFORMED  one is out of range; logged
 */
HSM_MUST_CHECK enum hsm_status acme_authority_numbers_raise(struct acme_store *store,
                                                            int64_t sequence, int64_t crl_number,
                                                            time_t now);

/** One line for each trusted STI-CA: SHA-256 of its root, expiry, subject. */
HSM_MUST_CHECK enum hsm_status acme_authority_cas_show(struct acme_store *store, FILE *to);

/** One line for each revocation request: its id and state, since when, serial, reason, issuer,
 *  requester. */
HSM_MUST_CHECK enum hsm_status acme_authority_revocations_show(struct acme_store *store, FILE *to);

/**
 * Put a certificate on the CRL without a request: a decision of the governance authority.
 *
 * @param reason  RFC 5280 section 5.3.1
 * @retval HSM_ERR_EXISTS       it is on the CRL already
 * @retval HSM_ERR_MALFORMED    the reason is not one that a CRL may have
 * @retval HSM_ERR_NOT_FOUND    no STI-CA's account has its issuer's name
 * @retval HSM_ERR_UNSUPPORTED  the CRL is full; logged
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_revocation_add(struct acme_store *store, const X509 *cert, int reason, time_t now);

/**
 * Approve or refuse a pending request, as an operator decides. A refused one may
 * be approved later; an entry on the CRL stays there. The daemon signs a new CRL
 * with the next request for it, or within a minute.
 *
 * @retval HSM_ERR_NOT_FOUND    no request has this id
 * @retval HSM_ERR_USAGE        it has been decided already; logged
 * @retval HSM_ERR_UNSUPPORTED  the CRL is full; logged
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_revocation_decide(struct acme_store *store, int64_t id, bool approve, time_t now);

/**
 * Take entries off the CRL that should never have been on it, such as those requested with stolen
 * credentials. Their requests count as refused: an STI-CA whose requests are decided at once, or
 * the operator, may revoke such a certificate again; a service provider is refused.
 *
 * @param account_id  the requester's account; NULL: any
 * @param first,last  range of request ids
 * @param count       receives the number of entries removed
 * @retval HSM_ERR_NOT_FOUND  none of these is on the CRL
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_revocations_drop(struct acme_store *store, const char *account_id, int64_t first,
                                int64_t last, const char *reason, time_t now, int64_t *count);

#endif
