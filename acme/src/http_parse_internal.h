/*
 * http_parse_internal.h - an incremental parser for requests of HTTP/1.1 (RFC 9112).
 *
 * Strict: input that two recipients could interpret differently is refused. Lines end
 * with CRLF, header fields are not folded, a length is given once, and "chunked" is
 * the only coding. Requests are bounded by HTTP_FIELDS_MAX, ACME_HTTP_HEADERS_MAX and
 * ACME_HTTP_BODY_MAX.
 *
 * Octets are parsed in place: texts are NUL-terminated, the path is decoded, and the
 * chunks of a body are joined.
 */
#ifndef ACME_HTTP_PARSE_INTERNAL_H
#define ACME_HTTP_PARSE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <acme/http_server.h>

#define HTTP_FIELDS_MAX     100 /* header fields of one request; more: 431 */
#define HTTP_CHUNK_LINE_MAX 256 /* octets of a chunk's size and extensions; more: 400 */
/* Bound on the octets kept of a request: its head, its body, and an incomplete line. */
#define HTTP_REQUEST_MAX (2 * ACME_HTTP_HEADERS_MAX + ACME_HTTP_BODY_MAX)

/* A header field: offsets into the octets of the request. Both texts are NUL-terminated. */
struct http_field {
    uint16_t name, name_len, value;
};

struct http_parser {
    int state;
    enum acme_http_method method; /* ACME_HTTP_OTHER until it is known */
    size_t at; /* the octets from here on are not parsed yet */
    size_t searched; /* the line that begins at `at` does not end before this offset */
    size_t path, query; /* offsets; query 0: none */
    size_t body; /* offset; the end of the head */
    size_t body_len;
    size_t content_length;
    size_t chunk_left; /* octets of the current chunk */
    size_t extra; /* octets of chunk extensions and trailers so far */
    bool has_empty_line; /* before the request */
    bool is_old; /* HTTP/1.0 */
    bool takes_content; /* the method takes content */
    bool has_host, has_length, is_chunked;
    bool says_close, says_keep_alive;
    bool wants_continue; /* waits for 100 before sending the body; cleared when 100 is sent */
    size_t field_count;
    struct http_field fields[HTTP_FIELDS_MAX];
};

#define HTTP_PARSE_MORE  0
#define HTTP_PARSE_WHOLE 1

/** Reset for the next request. */
void acme_http_parser_reset(struct http_parser *parser);

/**
 * Parse on; `octets` are all octets of the request so far.
 *
 * @param octets  may have moved since the last call
 * @param len     in and out: smaller when the framing of chunks was removed
 *
 * @return HTTP_PARSE_MORE; HTTP_PARSE_WHOLE: the request ends at parser->at, and octets behind
 *         that belong to the next; else the HTTP status of the refusal: nothing more is parsed
 */
int acme_http_parse(struct http_parser *parser, char *octets, size_t *len);

/** RFC 9112 section 9.3: whether the connection stays open after the response. */
bool acme_http_parser_persists(const struct http_parser *parser);

#endif
