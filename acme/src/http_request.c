/* http_request.c - what evhttp read, checked and copied. */
#include "http_loop_internal.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>

enum acme_http_method
http_method_of(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return ACME_HTTP_GET;
    case EVHTTP_REQ_HEAD:
        return ACME_HTTP_HEAD;
    case EVHTTP_REQ_POST:
        return ACME_HTTP_POST;
    case EVHTTP_REQ_PUT:
        return ACME_HTTP_PUT;
    case EVHTTP_REQ_DELETE:
        return ACME_HTTP_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return ACME_HTTP_OPTIONS;
    default:
        return ACME_HTTP_OTHER;
    }
}

const char *
http_method_text(enum acme_http_method method)
{
    static const char *const texts[] = {
        [ACME_HTTP_GET] = "GET",         [ACME_HTTP_HEAD] = "HEAD",
        [ACME_HTTP_POST] = "POST",       [ACME_HTTP_PUT] = "PUT",
        [ACME_HTTP_DELETE] = "DELETE",   [ACME_HTTP_OPTIONS] = "OPTIONS",
        [ACME_HTTP_OTHER] = "(another)",
    };

    return texts[method];
}

static bool
is_decimal(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* evhttp reads no body for these: one that was sent would be taken for the next request. */
static bool
may_have_body(struct evhttp_request *http)
{
    enum acme_http_method method = http_method_of(http);

    return evhttp_request_get_command(http) == EVHTTP_REQ_PATCH ||
           (method != ACME_HTTP_HEAD && method != ACME_HTTP_OTHER);
}

/* What evhttp lets pass although two readers could see the end of the request in two places
 * (RFC 9112 sections 5 and 6.3). The HTTP status to refuse with, or 0. */
int
http_request_check(struct evhttp_request *http)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(http);
    const struct evkeyval *header;
    unsigned lengths = 0;
    unsigned encodings = 0;
    bool has_body = false;

    if (evhttp_request_get_command(http) == EVHTTP_REQ_CONNECT)
        return 400; /* no proxy */
    TAILQ_FOREACH(header, headers, next)
    {
        if (!http_is_token(header->key) || !http_is_field_value(header->value))
            return 400;
        if (strcasecmp(header->key, "Content-Length") == 0) {
            if (!is_decimal(header->value))
                return 400;
            has_body = has_body || header->value[strspn(header->value, "0")] != '\0';
            lengths++;
        } else if (strcasecmp(header->key, "Transfer-Encoding") == 0) {
            if (strcasecmp(header->value, "chunked") != 0)
                return 501;
            has_body = true;
            encodings++;
        }
    }
    if (lengths + encodings > 1 || (has_body && !may_have_body(http)))
        return 400;
    return 0;
}

/* Room inside the one allocation of a request. */
struct room {
    char *at;
};

static size_t
text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static const char *
put_text(struct room *room, const char *text)
{
    size_t size = text_size(text);
    char *to = room->at;

    if (text == NULL)
        return NULL;
    memcpy(to, text, size);
    room->at += size;
    return to;
}

static size_t
headers_size(const struct evkeyvalq *headers, size_t *count)
{
    const struct evkeyval *header;
    size_t size = 0;

    *count = 0;
    TAILQ_FOREACH(header, headers, next)
    {
        size += sizeof(struct http_header) + strlen(header->key) + strlen(header->value) + 2;
        (*count)++;
    }
    return size;
}

static void
put_headers(struct acme_http_request *request, struct room *room, const struct evkeyvalq *headers)
{
    struct http_header *to = (struct http_header *)(request + 1); /* room begins behind them */
    const struct evkeyval *header;

    request->headers = to;
    TAILQ_FOREACH(header, headers, next)
    {
        to->name = put_text(room, header->key);
        to->value = put_text(room, header->value);
        to++;
    }
}

static void
put_body(struct acme_http_request *request, struct room *room, struct evbuffer *body)
{
    ev_ssize_t len = evbuffer_copyout(body, room->at, request->body_len);

    assert(len == (ev_ssize_t)request->body_len);
    (void)len;
    room->at[request->body_len] = '\0';
    request->body = room->at;
    room->at += request->body_len + 1;
}

static const char *
peer_of(const struct http_connection *connection)
{
    char *address = NULL;
    ev_uint16_t port = 0;

    if (connection->server->is_unix)
        return "unix";
    evhttp_connection_get_peer(connection->http, &address, &port);
    return address != NULL ? address : "unknown";
}

/* Copy a request out of evhttp. The HTTP status to refuse with, or 0. */
int
http_request_new(const struct http_connection *connection, struct evhttp_request *http,
                 struct acme_http_request **out)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(http);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const char *path = evhttp_uri_get_path(uri);
    const char *query = evhttp_uri_get_query(uri);
    const char *peer = peer_of(connection);
    const struct http_client *client = &connection->client;
    struct evbuffer *body = evhttp_request_get_input_buffer(http);
    size_t body_len = evbuffer_get_length(body);
    struct acme_http_request *request;
    struct room room;
    size_t count;
    size_t size = sizeof(*request) + headers_size(headers, &count) + text_size(path) +
                  text_size(query) + text_size(peer) + text_size(client->subject) +
                  text_size(client->sha256) + text_size(client->names) + body_len + 1;

    request = calloc(1, size);
    if (request == NULL)
        return 503;
    room.at = (char *)request + sizeof(*request) + count * sizeof(struct http_header);
    if (path == NULL || !http_path_decode(path, room.at)) {
        free(request);
        return 400;
    }
    request->path = room.at;
    room.at += text_size(request->path);
    request->method = http_method_of(http);
    request->header_count = count;
    request->body_len = body_len;
    request->is_local = connection->server->is_unix;
    put_headers(request, &room, headers);
    request->query = put_text(&room, query);
    request->peer = put_text(&room, peer);
    request->client.subject = put_text(&room, client->subject);
    request->client.sha256 = put_text(&room, client->sha256);
    request->client.names = put_text(&room, client->names);
    request->uid = connection->uid;
    put_body(request, &room, body);
    *out = request;
    return 0;
}
