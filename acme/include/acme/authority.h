/*
 * authority.h - the STI-PA: accounts of service providers, SPC tokens, the
 * signed list of trusted STI-CAs and the one indirect CRL.
 */
#ifndef ACME_AUTHORITY_H
#define ACME_AUTHORITY_H

#include <stdbool.h>
#include <time.h>

#include <acme/http_server.h>
#include <acme/store.h>
#include <certs/chain.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct acme_authority_config {
    const char *base_url;     /* "https://pa.example": start of x5u, CRL and iss URLs */
    struct acme_store *store; /* opened with acme_authority_migrations */
    struct hsm_key *signer_key; /* SPC tokens and the trusted-CA list */
    const struct certs_chain *signer_chain;
    struct hsm_key *crl_key;
    const struct certs_chain *crl_chain;
    unsigned token_lifetime_s;
    unsigned session_lifetime_s; /* of an access token */
    unsigned list_lifetime_s;
    unsigned crl_lifetime_s;
    time_t (*now)(void); /* NULL: time() */
};

extern const char *const acme_authority_migrations[];

struct acme_authority;

/**
 * All pointers are borrowed. Signs list and CRL if there is none that lasts.
 *
 * @retval HSM_ERR_UNTRUSTED  a key is not the key of its certificate
 */
HSM_MUST_CHECK enum hsm_status acme_authority_new(const struct acme_authority_config *config,
                                                  struct acme_authority **out);
struct acme_http_handler acme_authority_handler(struct acme_authority *authority);
/** Re-sign list and CRL when half their life is over or what they say changed; call every minute. */
void acme_authority_refresh(struct acme_authority *authority);
void acme_authority_free(struct acme_authority *authority);

/** "BASE/download/v1/crl": what certificates carry as CRLDistributionPoint; free() it. */
char *acme_authority_crl_url(const char *base_url);

/**
 * Add a service provider's account. The password is stored as a salted scrypt hash.
 *
 * @param spcs  NULL-terminated; the codes this account may have tokens for
 * @param ca    may ask for the "ca" flag
 * @retval HSM_ERR_EXISTS  the account id or the user is taken
 */
HSM_MUST_CHECK enum hsm_status acme_authority_account_add(struct acme_store *store,
                                                          const char *account_id,
                                                          const char *user,
                                                          const struct hsm_secret *password,
                                                          const char *const *spcs, bool ca);

/** Put an STI-CA's root on the trusted list; HSM_ERR_EXISTS if it is there. */
HSM_MUST_CHECK enum hsm_status acme_authority_ca_add(struct acme_store *store, const X509 *root);

#endif
