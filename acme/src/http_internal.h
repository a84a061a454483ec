/*
 * http_internal.h - what the files of the HTTP server share.
 *
 * http_parse.c     requests out of octets
 * http_message.c   requests, targets and patterns
 * http_response.c  responses, and octets out of them
 * http_listen.c    addresses and TLS contexts
 *
 * None of these has to do with the event loop: http_loop_internal.h is for those that have.
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

/* Who is at the other end of a connection. */
struct http_peer {
    bool is_local; /* over the Unix socket */
    char address[INET6_ADDRSTRLEN]; /* "unix" */
    long uid; /* of its process, when it connected to a Unix socket; -1: none */
    /* Of a client certificate; owned; NULL: none. */
    char *subject, *sha256, *names;
};

/* All borrowed: of the connection's buffer, or of the call that a handler's thread has. */
struct acme_http_request {
    enum acme_http_method method;
    const char *octets; /* of the head: fields lie in it */
    const struct http_field *fields;
    size_t field_count;
    const char *path;
    const char *query; /* NULL: none */
    const char *body;
    size_t body_len;
    const struct http_peer *peer;
};

/* Text that grows; not ended with NUL. */
struct http_text {
    char *octets; /* owned */
    size_t len, size;
};

struct acme_http_response {
    int status;
    struct http_text fields; /* "name: value" CRLF, as they are sent */
    size_t field_count;
    struct http_text body;
    bool is_broken; /* stays 500 */
    const char *route; /* static; NULL: none */
};

/* ---- http_message.c ---- */

/** RFC 9110: how many of the octets, from the first on, are of a token (section 5.6.2), and of a
 *  field's value (section 5.5). */
size_t acme_http_token_span(const char *text, size_t len);
size_t acme_http_value_span(const char *text, size_t len);

/**
 * Decode the path of a request target into `out`, which has strlen(raw) + 1 octets and may be
 * `raw`.
 *
 * False: no absolute path, a broken escape, a control character or slash that hides in an escape,
 * what is no UTF-8, or a dot segment (RFC 3986 section 3.3), which no client of ours sends.
 */
bool acme_http_path_decode(const char *raw, char *out);

/* ---- http_response.c ---- */

void acme_http_response_init(struct acme_http_response *response);
void acme_http_response_clear(struct acme_http_response *response);

/** The value of its first field of that name, and its length; NULL: none. */
const char *acme_http_response_field(const struct acme_http_response *response, const char *name,
                                     size_t *len);

/** RFC 9110 sections 6.4.1 and 8.6: whether answers of that status have content. */
bool acme_http_status_has_content(int status);

/** What a connection does after an answer. */
enum http_persistence {
    HTTP_PERSISTS,
    HTTP_PERSISTS_SAID, /* to a client of HTTP/1.0 */
    HTTP_CLOSES,
};

/**
 * The head of an answer (RFC 9112 section 4), up to its empty line.
 *
 * @param date  as in RFC 9110 section 6.6.1
 * @param to    is emptied before
 *
 * @return false: no memory
 */
bool acme_http_response_head(const struct acme_http_response *response, const char *date,
                             enum http_persistence persistence, struct http_text *to);

/** Requests and answers may have passwords and tokens in them: they are wiped. NULL is fine. */
void acme_http_octets_free(char *octets, size_t len);

/** False: no memory. */
bool acme_http_text_add(struct http_text *text, const char *octets, size_t len);
void acme_http_text_clear(struct http_text *text);

/** "Sun, 06 Nov 1994 08:49:37 GMT": RFC 9110 section 5.6.7. */
#define HTTP_DATE_SIZE 30
void acme_http_date(time_t when, char out[HTTP_DATE_SIZE]);

/* ---- http_listen.c ---- */

#define HTTP_TICKET_KEYS_LEN 80 /* octets: what SSL_CTX_set_tlsext_ticket_keys() takes */

struct acme_http_listener {
    int fd; /* non-blocking; -1: a server that has stopped has closed it */
    unsigned port; /* 0: Unix socket */
    char *unix_path; /* NULL: TCP */
    struct stat unix_file; /* st_ino 0: not made */
    struct hsm_secret *ticket_keys; /* HTTP_TICKET_KEYS_LEN: of the TLS sessions of all that share
                                       it */
};

/** TLS 1.2 and later with the key in the token; HSM_ERR_UNTRUSTED: key and certificate differ. */
HSM_MUST_CHECK enum hsm_status acme_http_tls_new(const struct acme_http_server_config *config,
                                                 SSL_CTX **out);

#endif
