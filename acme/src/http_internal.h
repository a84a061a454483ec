/*
 * http_internal.h - shared by the files of the HTTP server.
 *
 * http_parse.c     parse requests
 * http_message.c   requests, targets and patterns
 * http_response.c  build and format responses
 * http_listen.c    addresses and TLS contexts
 *
 * None of these uses the event loop; http_loop_internal.h is for the files that do.
 */
#ifndef ACME_HTTP_INTERNAL_H
#define ACME_HTTP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <netinet/in.h>
#include <openssl/types.h>
#include <sys/stat.h>

#include <acme/http_server.h>
#include <hsm/status.h>

#include "http_parse_internal.h"

/* The identity of the peer of a connection. */
struct http_peer {
    bool is_local; /* connected over the Unix socket */
    char address[INET6_ADDRSTRLEN]; /* "unix" for the Unix socket */
    long uid; /* of the process that connected to a Unix socket; -1: unknown */
    /* From a client certificate; owned; NULL: there is none. */
    char *subject, *sha256, *names;
};

/* All borrowed: from the connection's buffer, or from the copy of the call that a thread has. */
struct acme_http_request {
    enum acme_http_method method;
    const char *octets; /* of the head; `fields` has offsets into it */
    const struct http_field *fields;
    size_t field_count;
    const char *path;
    const char *query; /* NULL: none */
    const char *body;
    size_t body_len;
    const struct http_peer *peer;
};

/* A growing buffer, not NUL-terminated. */
struct http_text {
    char *octets; /* owned */
    size_t len, size;
};

struct acme_http_response {
    int status;
    struct http_text fields; /* "name: value" CRLF, as sent */
    size_t field_count;
    struct http_text body;
    bool is_broken; /* status stays 500 */
    const char *route; /* static; NULL: not set */
};

/* ---- http_message.c ---- */

/** RFC 9110: the number of leading octets that form a token (section 5.6.2), or a field value
 *  (section 5.5). */
size_t acme_http_token_span(const char *text, size_t len);
size_t acme_http_value_span(const char *text, size_t len);

/**
 * Decode the path of a request target into `out`, which has strlen(raw) + 1 octets and may be
 * `raw`.
 *
 * False: no absolute path, a broken escape, an escaped control character or slash, invalid UTF-8,
 * or a dot segment (RFC 3986 section 3.3), which legitimate clients do not send.
 */
bool acme_http_path_decode(const char *raw, char *out);

/* ---- http_response.c ---- */

void acme_http_response_init(struct acme_http_response *response);
void acme_http_response_clear(struct acme_http_response *response);

/** The value of the first field with this name, and its length; NULL: there is none. */
const char *acme_http_response_field(const struct acme_http_response *response, const char *name,
                                     size_t *len);

/** RFC 9110 sections 6.4.1 and 8.6: whether responses with this status have content. */
bool acme_http_status_has_content(int status);

/** What happens to a connection after a response. */
enum http_persistence {
    HTTP_PERSISTS,
    HTTP_PERSISTS_SAID, /* stated explicitly, to a client of HTTP/1.0 */
    HTTP_CLOSES,
};

/**
 * The head of a response (RFC 9112 section 4), up to its empty line.
 *
 * @param date  as in RFC 9110 section 6.6.1
 * @param to    is emptied first
 *
 * @return false: no memory
 */
bool acme_http_response_head(const struct acme_http_response *response, const char *date,
                             enum http_persistence persistence, struct http_text *to);

/** Free octets of a request or response after wiping them: they may contain passwords and tokens.
 *  NULL is fine. */
void acme_http_octets_free(char *octets, size_t len);

/** False: no memory. */
bool acme_http_text_add(struct http_text *text, const char *octets, size_t len);
void acme_http_text_clear(struct http_text *text);

/** "Sun, 06 Nov 1994 08:49:37 GMT": RFC 9110 section 5.6.7. */
#define HTTP_DATE_SIZE 30
void acme_http_date(time_t when, char out[HTTP_DATE_SIZE]);

/* ---- http_tickets.c ---- */

#define HTTP_TICKETS_S 43200 /* seconds that keys are used for; then they are accepted as long */

/** The keys of TLS session tickets: made before fork(), shared after it. NULL: no memory, or no
 *  random numbers. */
struct http_tickets *acme_http_tickets_new(void);
void acme_http_tickets_free(struct http_tickets *tickets);

/** @param tickets  borrowed; outlives the context */
bool acme_http_tickets_use(struct http_tickets *tickets, SSL_CTX *ctx);

/* ---- http_listen.c ---- */

struct acme_http_listener {
    int fd; /* non-blocking; -1: closed by a server that has stopped */
    unsigned port; /* 0: Unix socket */
    char *unix_path; /* NULL: TCP */
    struct stat unix_file; /* st_ino 0: not created */
    struct http_tickets *tickets; /* for the TLS sessions of all processes that share it */
};

/** TLS 1.2 and later with the key in the token. HSM_ERR_UNTRUSTED: it is not the certificate's
 *  key. */
HSM_MUST_CHECK enum hsm_status acme_http_tls_new(const struct acme_http_server_config *config,
                                                 SSL_CTX **out);

#endif
