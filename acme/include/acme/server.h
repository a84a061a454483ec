/*
 * server.h - the STI-CA: an ACME server (RFC 8555) for the TNAuthList
 * identifier (RFC 9448) with tkauth-01 challenges (RFC 9447).
 *
 * Issuance: the serial and the content to be certified are durable before the
 * token signs; the certificate is durable before the answer. Handlers are safe
 * on several threads, and several processes may share one store.
 */
#ifndef ACME_SERVER_H
#define ACME_SERVER_H

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include <openssl/types.h>

#include <acme/http_client.h>
#include <acme/http_server.h>
#include <acme/store.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct acme_server_config {
    const char *base_url; /* "https://ca.example:4443": start of every URL in answers; no path */
    struct acme_store *store; /* opened with acme_server_migrations */
    struct hsm_token *token; /* serial numbers come from its generator */
    struct hsm_key *issuing_key;
    const struct certs_chain *issuing_chain; /* the issuing certificate first, root last */
    const struct certs_chain *pa_anchors; /* STI-PA roots, anchors of SPC tokens' signers */
    struct acme_http_client *http; /* fetches the x5u of SPC tokens */
    const char *const *authorities; /* URL prefixes such an x5u must have; NULL-terminated */
    const char *policy_oid;
    const char *crl_url; /* the STI-PA's CRL */
    const X509_NAME *crl_issuer; /* its issuer, as encoded there */
    const struct certs_chain *crl_signer; /* the certificate with that name first; NULL: the CRL is
                                           * not verified and not imported */
    const char *country; /* C of end-entity subjects of unregistered participants */
    unsigned valid_days; /* of end-entity certificates */
    unsigned backdate_s; /* notBefore = now - this */
    bool participants_required; /* refuse the SPCs of unregistered participants */
    bool account_key_in_csr; /* accept a CSR for the account's own key (RFC 8555 section 11.1
                                forbids) */
    struct hsm_metrics *metrics; /* NULL: nothing is counted */
    bool read_without_dot; /* accept a POST-as-GET signed without the final '.' (RFC 7515
                              section 5.1 has it) */
    bool authorizations_reused; /* while their SPC token is valid: RFC 8555 section 7.1.4 */
    bool within_token; /* no certificate outlives its SPC token: RFC 9447 section 7 */
    bool chains_hosted; /* put x5u into orders (RFC 9448 section 7), and serve the chains */
    const struct certs_chain *const *alternate_chains; /* other certificates of the issuing key and
                              their issuers, each as issuing_chain; NULL-terminated, or NULL */
    const char *terms_of_service; /* URL; accounts agree to it. NULL: no terms */
    /* Directory of acme_server_external_add(); NULL: no external accounts. */
    const char *external_accounts;
    bool external_account_required; /* of a new account */
    /* Per hour; 0: no limit. Nonces are counted for newNonce, and for answers to requests that no
     * account has signed; requests_per_account applies to challenge answers, revocations and key
     * changes separately; each process counts renewalInfo for itself. */
    unsigned accounts_per_address, orders_per_address, orders_per_account;
    unsigned nonces_per_address, requests_per_account, renewal_info_per_address;
    unsigned renew_from_percent,
        renew_until_percent; /* of a certificate's life, RFC 9773; 0: 66, 83 */
    bool web_enabled; /* the pages of the manual flow, and the status page, below BASE/web */
    bool only_checked; /* for --check: no order is touched, no request is served */
    bool others_serve; /* other processes serve from this store already; leave them their orders */
    /* URL for revocations at the STI-PA, and this STI-CA's account there; NULL: they stay
     * queued. */
    const char *revocation_url, *revocation_user;
    const struct hsm_secret *revocation_password;
    const struct hsm_secret *revocation_api_key; /* NULL: user and password are used */
    time_t (*now)(void); /* NULL: time() */
};

extern const char *const acme_server_migrations[];

struct acme_server;

/**
 * All pointers are borrowed and outlive the server. Orders left "processing" by a
 * crash are completed or voided here; with others_serve only those that no process
 * has tried for some seconds, and the rest by acme_server_tick() or when their
 * client polls.
 *
 * @retval HSM_ERR_UNTRUSTED  issuing_key is not the key of the issuing certificate
 */
HSM_MUST_CHECK enum hsm_status acme_server_new(const struct acme_server_config *config,
                                               struct acme_server **out);
/** The handler of all its URLs. Its context is the server: borrowed, valid until
 *  acme_server_free(). */
struct acme_http_handler acme_server_handler(struct acme_server *server);
/** Append to a JSON array, as texts, the reasons why the server cannot issue now, other than its
 *  token. */
void acme_server_not_ready(struct acme_server *server, json_t *reasons);
/** Delete expired nonces and orders, and complete orders that wait for the token; about once a
 *  minute. */
void acme_server_expire(struct acme_server *server);
/** Forward due revocations to the STI-PA. May wait some seconds for it; if several processes share
 *  the store, only one forwards each. Faults are logged. */
void acme_server_forward(struct acme_server *server);
/** acme_server_expire(), acme_server_forward() and importing the STI-PA's CRL, each when due; every
 *  second or two, one call at a time. Only one process on a store expires. */
void acme_server_tick(struct acme_server *server);
void acme_server_free(struct acme_server *server);
DEFINE_DEFER(struct acme_server, acme_server_free)

/** Record an event for each setting that accounts, certificates or their holders may rely on and
 *  that differs from the last start. */
HSM_MUST_CHECK enum hsm_status acme_server_tell_start(struct acme_server *server);

/** True if each certificate names the next one as its issuer, and the last one, not the first, is a
 *  root. Signatures and times are not checked. */
bool acme_server_chain_is_whole(const struct certs_chain *chain);

/** "https://HOST" or "https://HOST:PORT" and nothing more: kid, url and Location are compared as
 *  texts. */
bool acme_server_base_url_is_valid(const char *url);

/** "BASE/acme/directory": where clients begin; free() it. NULL: out of memory. */
char *acme_server_directory_url(const char *base_url);

/**
 * Revoke a certificate, as revokeCert does: durable when it returns, forwarded
 * to the STI-PA by the server.
 *
 * @param serial  hex, as certs_cert_serial_hex()
 * @param reason  0 to 6 (RFC 5280 section 5.3.1)
 * @retval HSM_ERR_MALFORMED  serial or reason is not as above
 * @retval HSM_ERR_NOT_FOUND  no certificate of this CA has that serial
 * @retval HSM_ERR_EXISTS     it is revoked already; the STI-PA is notified again
 */
HSM_MUST_CHECK enum hsm_status acme_server_revoke(struct acme_store *store, const char *serial,
                                                  int reason, time_t now);

/**
 * Have the server forward again what an STI-PA that was restored from a backup may have lost:
 * unexpired revocations that it has accepted, or that were imported from its CRL, since a time.
 * Recorded as an event.
 *
 * @param count  receives their number
 */
HSM_MUST_CHECK enum hsm_status
acme_server_revocations_resend(struct acme_store *store, time_t since, time_t now, int64_t *count);

/**
 * Make a key for one external account binding (RFC 8555 section 7.3.4): the file DIR/ID, mode 0600,
 * holds it as base64url, in the form for the account's holder. It is valid for one account, and
 * removed when the account is made. A digest would not suffice, as the key verifies a MAC.
 *
 * @param dir  made (mode 0700) if it does not exist
 * @param id   1 to ACME_EXTERNAL_ID_MAX of [A-Za-z0-9_-]
 * @retval HSM_ERR_MALFORMED  id is not as above
 * @retval HSM_ERR_EXISTS     the id has a key, or an account was bound with it
 */
HSM_MUST_CHECK enum hsm_status acme_server_external_add(struct acme_store *store, const char *dir,
                                                        const char *id);

/** Remove a key that was not used yet; HSM_ERR_NOT_FOUND: there is no such key. */
HSM_MUST_CHECK enum hsm_status acme_server_external_remove(struct acme_store *store,
                                                           const char *dir, const char *id);

/** One line for each key that was not used yet. */
HSM_MUST_CHECK enum hsm_status acme_server_external_list(const char *dir, FILE *to);

#define ACME_EXTERNAL_ID_MAX 64 /* characters */

/**
 * Add an operator's user for the status page; the password is stored as a salted scrypt hash.
 *
 * @param user  1 to 64 of [A-Za-z0-9._@-]
 * @retval HSM_ERR_MALFORMED  user is not as above, or the password has less than 12 octets
 * @retval HSM_ERR_EXISTS     there is a user with that name
 */
HSM_MUST_CHECK enum hsm_status acme_server_web_user_add(struct acme_store *store, const char *user,
                                                        const struct hsm_secret *password);

/** Remove a user; takes effect at once. HSM_ERR_NOT_FOUND: there is no user with that name. */
HSM_MUST_CHECK enum hsm_status acme_server_web_user_remove(struct acme_store *store,
                                                           const char *user);

/** One line for each user. */
HSM_MUST_CHECK enum hsm_status acme_server_web_users_show(struct acme_store *store, FILE *to);

/**
 * Register the validated name of the service provider that holds an SPC, for its certificates.
 *
 * @param organization  1 to 64 octets of UTF-8
 * @param country       ISO 3166-1 alpha-2, upper case
 */
HSM_MUST_CHECK enum hsm_status
acme_server_participant_set(struct acme_store *store, const char *spc, const char *organization,
                            const char *country);

/** Remove a participant; its open orders become invalid. HSM_ERR_NOT_FOUND: it is not registered.
 */
HSM_MUST_CHECK enum hsm_status acme_server_participant_remove(struct acme_store *store,
                                                              const char *spc);
/** One line for each participant: SPC, organization, country. */
HSM_MUST_CHECK enum hsm_status acme_server_participants_show(struct acme_store *store, FILE *to);

/**
 * End an account (RFC 8555 section 7.1.6, "revoked") with its pending authorizations and orders.
 * Certificates issued to it stay valid.
 *
 * @retval HSM_ERR_NOT_FOUND  there is no account with this id, or it is no longer valid
 */
HSM_MUST_CHECK enum hsm_status acme_server_account_revoke(struct acme_store *store,
                                                          const char *account);
/** One line for each account: id, status, since when, contacts, external account. */
HSM_MUST_CHECK enum hsm_status acme_server_accounts_show(struct acme_store *store, FILE *to);

#endif
