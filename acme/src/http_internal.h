/*
 * http_internal.h - what the files of the HTTP server share.
 *
 * http_message.c  requests, responses, targets and patterns: no libevent
 * http_listen.c   addresses and TLS contexts: no libevent
 * http_loop_internal.h has what the files with libevent share.
 */
#ifndef ACME_HTTP_INTERNAL_H
#define ACME_HTTP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/types.h>
#include <sys/stat.h>

#include <acme/http_server.h>
#include <hsm/status.h>

struct http_header {
    const char *name;
    const char *value;
};

/* What is known of a client's certificate; NULL: none. */
struct http_client {
    const char *subject;
    const char *sha256; /* hex */
    const char *names;
};

/* One allocation holds the struct and all that it points to: a handler thread needs nothing of the
 * connection, which may be gone by then. */
struct acme_http_request {
    enum acme_http_method method;
    const char *path;
    const char *query; /* NULL: none */
    const struct http_header *headers;
    size_t header_count;
    const char *body;
    size_t body_len;
    const char *peer;
    bool is_local;
    struct http_client client;
    long uid; /* -1: none */
};

struct acme_http_response {
    int status;
    char *body; /* owned */
    size_t len;
    struct http_header *headers; /* owned, and so are their texts */
    size_t header_count;
    bool is_broken; /* stays 500 */
    const char *route; /* static; NULL: none */
};

void http_response_init(struct acme_http_response *response);
void http_response_clear(struct acme_http_response *response);

/**
 * Decode the path of a request target into `out`, which has strlen(raw) + 1 octets.
 *
 * False: no absolute path, a broken escape, a control character or slash that hides in an escape,
 * or a dot segment (RFC 3986 section 3.3), which no client of ours sends.
 */
bool http_path_decode(const char *raw, char *out);

/* RFC 9110: token (section 5.6.2) and a value without control characters but HTAB (section 5.5). */
bool http_is_token(const char *name);
bool http_is_field_value(const char *value);

#define HTTP_TICKET_KEYS_LEN 80 /* octets: what SSL_CTX_set_tlsext_ticket_keys() takes */

struct acme_http_listener {
    int fd; /* non-blocking; -1: a server has taken it */
    unsigned port; /* 0: Unix socket */
    char *unix_path; /* NULL: TCP */
    struct stat unix_file; /* st_ino 0: not made */
    unsigned char ticket_keys[HTTP_TICKET_KEYS_LEN]; /* of the TLS sessions of all that share it */
};

/** TLS 1.2 and later with the key in the token; HSM_ERR_UNTRUSTED: key and certificate differ. */
HSM_MUST_CHECK enum hsm_status http_tls_new(const struct acme_http_server_config *config,
                                            SSL_CTX **out);

#endif
