/*
 * authority_client.h - a client of an STI-PA: SPC tokens (with a login), the
 * trusted-CA list, the CRL and revocation requests.
 */
#ifndef ACME_AUTHORITY_CLIENT_H
#define ACME_AUTHORITY_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <acme/ca_list.h>
#include <acme/http_client.h>
#include <certs/chain.h>
#include <certs/crl.h>
#include <certs/tnauthlist.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct acme_authority_login {
    struct acme_http_client *http;
    const char *base_url; /* of the STI-PA */
    const char *account_id;
    const char *user;
    const struct hsm_secret *password;
    const struct hsm_secret *api_key; /* NULL: user and password log in; else they are not used */
};

/**
 * Log in, unless there is an API key, and get an SPC token; free() it.
 *
 * @retval HSM_ERR_DENIED  the STI-PA refused user, account or SPC: the reason has its message
 * @retval HSM_ERR_BUSY    not reachable, or 5xx
 */
HSM_MUST_CHECK enum hsm_status acme_authority_fetch_token(const struct acme_authority_login *login,
                                                          const struct certs_tnauthlist *tnauthlist,
                                                          bool ca, const char *fingerprint,
                                                          char **token, struct hsm_reason *why);

/** A repeated query, and the results of the last one. */
struct acme_authority_query {
    struct acme_http_client *http;
    const char *url; /* e.g. "https://pa.example/api/v1/ca-list" */
    const struct certs_chain *pa_anchors;
    /* from the last response; NULL: none */
    const struct certs_chain *signer; /* not fetched again if it signed the new answer, too */
    const char *etag;
};

/**
 * Fetch and check the trusted-CA list. Its x5u must have the same origin as the URL.
 *
 * @param signer  receives its signer's chain; certs_chain_free() it
 * @param etag    receives a text, or NULL; free() it
 * @retval HSM_ERR_EXISTS  the list has not changed since query->etag
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_get_ca_list(const struct acme_authority_query *query, uint64_t previous_sequence,
                           time_t now, struct acme_ca_list **out, struct certs_chain **signer,
                           char **etag, struct hsm_reason *why);

/** acme_authority_get_ca_list() for the CRL and the URL of its signer's certificate. */
HSM_MUST_CHECK enum hsm_status
acme_authority_get_crl(const struct acme_authority_query *query, time_t now, struct certs_crl **out,
                       struct certs_chain **signer, char **etag, struct hsm_reason *why);

/** Fetch and check the trusted-CA list, without knowledge of an earlier answer. */
HSM_MUST_CHECK enum hsm_status
acme_authority_fetch_ca_list(struct acme_http_client *http, const char *url,
                             const struct certs_chain *pa_anchors, uint64_t previous_sequence,
                             time_t now, struct acme_ca_list **out, struct hsm_reason *why);

/** Fetch and check the CRL, without knowledge of an earlier answer. */
HSM_MUST_CHECK enum hsm_status
acme_authority_fetch_crl(struct acme_http_client *http, const char *url,
                         const struct certs_chain *pa_anchors, time_t now, struct certs_crl **out,
                         struct hsm_reason *why);

/** A certificate that its STI-CA, or the service provider that holds it, asks to have on the
 *  CRL. */
struct acme_authority_revocation {
    struct acme_http_client *http;
    const char *url; /* e.g. "https://pa.example/sti-pa/revocations" */
    const char *user;
    const struct hsm_secret *password;
    const struct hsm_secret *api_key; /* NULL: user and password; else they are not used */
    const uint8_t *issuer; /* its name in DER */
    size_t issuer_len;
    const uint8_t *serial; /* content octets */
    size_t serial_len;
    int reason; /* RFC 5280 section 5.3.1 */
    const char *requester; /* origin of the request, for the STI-PA's operator */
    time_t not_after; /* of the certificate, as the STI-CA states it; 0: not stated */
    const char *chain_pem; /* proves a service provider's right to revoke; STI-CA: NULL */
};

/**
 * Request a revocation; repeating a request is harmless. Takes some seconds at most.
 *
 * @param queued  may be NULL; true: an operator of the STI-PA decides; false: it is revoked
 * @retval HSM_ERR_DENIED  the STI-PA refused: the reason has its message
 * @retval HSM_ERR_BUSY    not reachable, or 5xx
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_request_revocation(const struct acme_authority_revocation *revocation, bool *queued,
                                  struct hsm_reason *why);

/** True if two https URLs have the same scheme, host and port (RFC 6454). */
bool acme_url_same_origin(const char *a, const char *b);

#endif
