/*
 * http_client.h - HTTPS requests with bounds (libcurl).
 */
#ifndef ACME_HTTP_CLIENT_H
#define ACME_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct acme_http_client;

struct acme_http_client_config {
    const char *tls_ca; /* PEM file; NULL: the system's anchors */
    bool system_too; /* trust the system's anchors besides those of tls_ca */
    const char *user_agent; /* NULL: "sti-hsm/VERSION" */
    struct hsm_key *client_key; /* TLS client certificate, key in the token; or NULL */
    const struct certs_chain *client_chain; /* with client_key */
};

/** Threads may share a client. */
HSM_MUST_CHECK enum hsm_status acme_http_client_new(const struct acme_http_client_config *config,
                                                    struct acme_http_client **out);
void acme_http_client_free(struct acme_http_client *client);
DEFINE_DEFER(struct acme_http_client, acme_http_client_free)

struct acme_http_fetch {
    const char *method; /* "GET", "HEAD", "POST", "PUT" */
    const char *url; /* https only; userinfo is refused */
    const char *content_type; /* of the body; NULL: none */
    const char *accept; /* NULL: any */
    const char *if_none_match; /* an ETag: status 304 if it still matches; NULL: none */
    const char *authorization; /* header value, kept out of logs; NULL: none */
    const void *body;
    size_t body_len;
    size_t reply_max; /* octets of the answer's body; larger: HSM_ERR_MALFORMED */
    unsigned timeout_ms; /* for the whole exchange */
    /** Connect only to public Internet addresses: for URLs from untrusted sources. The address is
     *  checked when the connection is made, whatever the name resolved to before. */
    bool public_addresses_only;
};

struct acme_http_reply {
    int status;
    char *body; /* NUL-terminated; owned */
    size_t body_len;
    char *content_type; /* owned, "" when absent */
    /* owned, NULL when absent */
    char *location, *replay_nonce, *retry_after, *cache_control, *etag;
    char *link; /* the values of all Link fields, separated by commas (RFC 8288) */
};

/**
 * One exchange; redirects are not followed. Any HTTP status is a success here.
 *
 * @retval HSM_ERR_BUSY       could not connect, TLS not trusted, or timed out (the reason says
 *                            which)
 * @retval HSM_ERR_MALFORMED  the URL is not accepted, or the answer is too large
 */
HSM_MUST_CHECK enum hsm_status
acme_http_fetch(struct acme_http_client *client, const struct acme_http_fetch *fetch,
                struct acme_http_reply *reply, struct hsm_reason *why);

/** Release what a reply owns (not the struct) and make it empty again. */
void acme_http_reply_clear(struct acme_http_reply *reply);

/**
 * GET a PEM certificate chain: status 200, at most CERTS_CHAIN_OCTETS_MAX octets, PEM only.
 *
 * @retval HSM_ERR_NOT_FOUND  status 404 or 410
 * @retval HSM_ERR_BUSY       as acme_http_fetch(), and status 408, 429 or 5xx
 * @retval HSM_ERR_MALFORMED  any other status, or not such a chain
 */
HSM_MUST_CHECK enum hsm_status acme_http_fetch_chain(struct acme_http_client *client,
                                                     const char *url, struct certs_chain **out,
                                                     struct hsm_reason *why);

#endif
