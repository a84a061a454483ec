/*
 * http_parse_internal.h - requests of HTTP/1.1 (RFC 9112) out of octets, as they come.
 *
 * Strict: what two readers could read in two ways is refused. Lines end with
 * CRLF, header fields are not folded, a length is told once, and no coding but
 * "chunked" is known. What is found is bounded by HTTP_FIELDS_MAX,
 * ACME_HTTP_HEADERS_MAX and ACME_HTTP_BODY_MAX.
 *
 * The octets are worked on in place: texts are ended with NUL, the path is
 * decoded, and the chunks of a body are put together.
 */
#ifndef ACME_HTTP_PARSE_INTERNAL_H
#define ACME_HTTP_PARSE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <acme/http_server.h>

#define HTTP_FIELDS_MAX     100 /* header fields of one request; more: 431 */
#define HTTP_CHUNK_LINE_MAX 256 /* octets of a chunk's size and extensions; more: 400 */
/* Octets that are kept of a request at most: its head, its body, and a line that is not whole. */
#define HTTP_REQUEST_MAX (2 * ACME_HTTP_HEADERS_MAX + ACME_HTTP_BODY_MAX)

/* A header field: offsets in the octets of the request. Both texts end with NUL. */
struct http_field {
    uint16_t name, name_len, value;
};

struct http_parser {
    int state;
    enum acme_http_method method; /* ACME_HTTP_OTHER until it is known */
    size_t at; /* what follows was not read */
    size_t searched; /* up to here there is no end of the line that begins at `at` */
    size_t path, query; /* offsets; query 0: none */
    size_t body; /* offset: where the head has ended */
    size_t body_len;
    size_t content_length;
    size_t chunk_left; /* octets of the chunk that is read */
    size_t extra; /* octets of chunk extensions and trailers so far */
    bool has_empty_line; /* before the request */
    bool is_old; /* HTTP/1.0 */
    bool takes_content; /* the method does */
    bool has_host, has_length, is_chunked;
    bool says_close, says_keep_alive;
    bool wants_continue; /* waits for 100 before sending the body; cleared when 100 is sent */
    size_t field_count;
    struct http_field fields[HTTP_FIELDS_MAX];
};

#define HTTP_PARSE_MORE  0
#define HTTP_PARSE_WHOLE 1

/** Begin with the next request. */
void acme_http_parser_reset(struct http_parser *parser);

/**
 * Read on, with all octets of the request so far, from its first one on.
 *
 * @param octets  may have moved since the last call
 * @param len     in and out: fewer, when what lies between two chunks was removed
 *
 * @return HTTP_PARSE_MORE; HTTP_PARSE_WHOLE: the request ends at parser->at, and what is behind
 *         that belongs to the next; else the HTTP status to refuse it with: no more is read
 */
int acme_http_parse(struct http_parser *parser, char *octets, size_t *len);

/** RFC 9112 section 9.3: whether the connection stays open after the answer. */
bool acme_http_parser_persists(const struct http_parser *parser);

#endif
