/*
 * client.h - an ACME client (RFC 8555) for the TNAuthList identifier, with its
 * account key in the token.
 */
#ifndef ACME_CLIENT_H
#define ACME_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <acme/http_client.h>
#include <acme/jwk.h>
#include <certs/chain.h>
#include <certs/tnauthlist.h>
#include <hsm/key.h>
#include <hsm/status.h>

/** In which member the SPC token answers the challenge. */
enum acme_tkauth_member {
    ACME_TKAUTH, /* RFC 9448 section 4: "tkauth" */
    ACME_ATC, /* deployed CAs: "atc" */
};

struct acme_client_config {
    struct acme_http_client *http;
    const char *directory_url;
    struct hsm_key *account_key;
    const char *contact; /* "mailto:noc@sp.example"; NULL: none */
    enum acme_tkauth_member member;
    unsigned poll_limit_s; /* give up waiting for authorization or issuance after this */
};

struct acme_client;

/** Reads the directory. All pointers are borrowed. A client is for one thread. */
HSM_MUST_CHECK enum hsm_status acme_client_new(const struct acme_client_config *config,
                                               struct acme_client **out, struct hsm_reason *why);
void acme_client_free(struct acme_client *client);

/** Create the account, or find it when it exists (RFC 8555 section 7.3). Agrees to terms of
 * service. */
HSM_MUST_CHECK enum hsm_status acme_client_account(struct acme_client *client,
                                                   struct hsm_reason *why);

/** The account URL; NULL before acme_client_account(). */
const char *acme_client_kid(const struct acme_client *client);

struct acme_client_order {
    const struct certs_tnauthlist *tnauthlist;
    /** Get an SPC token for the account key; free()d by the client. Called when one is needed. */
    enum hsm_status (*spc_token)(void *context, EVP_PKEY *account_key, char **token,
                                 struct hsm_reason *why);
    void *context;
    const uint8_t *csr; /* DER */
    size_t csr_len;
    /** Told the order's URL as soon as it is known, so that a caller can resume; may be NULL. What
     *  it returns but HSM_OK ends the attempt: nothing goes on that could not be noted. */
    enum hsm_status (*ordered)(void *context, const char *order_url);
    const char *resume_url; /* an order made before; NULL: make a new one */
};

/**
 * Order, authorize, finalize, download: the whole of RFC 8555 section 7.4. Retries badNonce,
 * honours Retry-After, handles every order state. Creates or finds the account first when that was
 * not done.
 *
 * @param chain  what the CA gave: parsed, leaf first, not yet trusted
 * @retval HSM_ERR_DENIED  the CA refused: the reason has the problem document's type and detail
 * @retval HSM_ERR_BUSY    unreachable, 5xx, rate limited, or still processing at poll_limit_s
 */
HSM_MUST_CHECK enum hsm_status
acme_client_obtain(struct acme_client *client, const struct acme_client_order *order,
                   struct certs_chain **chain, struct hsm_reason *why);

/**
 * revokeCert (RFC 8555 section 7.6), by the account, which is created or found
 * first when that was not done, or by the certificate's own key.
 *
 * @param reason           RFC 5280 section 5.3.1
 * @param certificate_key  NULL: by the account
 * @retval HSM_ERR_EXISTS       it is revoked already
 * @retval HSM_ERR_DENIED       the CA refused: the reason has the problem document's type and
 * detail
 * @retval HSM_ERR_BUSY         unreachable, 5xx or rate limited
 * @retval HSM_ERR_UNSUPPORTED  the CA's directory has no revokeCert
 */
HSM_MUST_CHECK enum hsm_status acme_client_revoke(struct acme_client *client, const X509 *cert,
                                                  int reason, struct hsm_key *certificate_key,
                                                  struct hsm_reason *why);

#endif
