/* http_call.c - a request while a handler processes it. */
#include "http_loop_internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <hsm/clock.h>

static void
describe_request(struct http_connection *connection, struct acme_http_request *out)
{
    const struct http_parser *parser = &connection->parser;
    const char *octets = connection->input.octets;

    *out = (struct acme_http_request){
        .method = parser->method,
        .octets = octets,
        .fields = parser->fields,
        .field_count = parser->field_count,
        .path = octets + parser->path,
        .query = parser->query > 0 ? octets + parser->query : NULL,
        .body = octets + parser->body,
        .body_len = parser->body_len,
        .peer = &connection->peer,
    };
}

void
acme_http_call_init(struct http_call *call, struct http_connection *connection)
{
    memset(call, 0, sizeof(*call));
    call->connection = connection;
    call->server = connection->server;
    call->begun_ns = hsm_clock_ns();
    acme_http_response_init(&call->response);
    describe_request(connection, &call->request);
}

/* Head and body of the request. */
static size_t
octets_len(const struct http_call *call)
{
    return (size_t)(call->request.body + call->request.body_len - call->request.octets);
}

struct http_call *
acme_http_call_copy(const struct http_call *call)
{
    const struct acme_http_request *from = &call->request;
    size_t fields_size = from->field_count * sizeof(*from->fields);
    size_t len = octets_len(call);
    struct http_call *copy = malloc(sizeof(*copy) + fields_size + len + 1);
    struct acme_http_request *to;
    char *octets;

    if (copy == NULL)
        return NULL;
    *copy = *call;
    to = &copy->request;
    octets = (char *)(copy + 1) + fields_size;
    memcpy(copy + 1, from->fields, fields_size);
    memcpy(octets, from->octets, len);
    octets[len] = '\0';
    to->fields = (const struct http_field *)(copy + 1);
    to->octets = octets;
    to->path = octets + (from->path - from->octets);
    if (from->query != NULL)
        to->query = octets + (from->query - from->octets);
    to->body = octets + (from->body - from->octets);
    return copy;
}

bool
acme_http_call_is(const struct http_call *call,
                  bool (*kind)(void *context, enum acme_http_method method, const char *path))
{
    return kind != NULL &&
           kind(call->server->handler.context, call->request.method, call->request.path);
}

struct http_call *
acme_http_call_of(struct acme_http_response *response)
{
    return (struct http_call *)(void *)((char *)response - offsetof(struct http_call, response));
}

void
acme_http_call_finish(struct http_call *call)
{
    if (call->rest.finish != NULL)
        call->rest.finish(call->rest.context, &call->request, &call->response);
    call->rest.finish = NULL;
}

void
acme_http_call_free(struct http_call *call)
{
    struct http_connection *connection = call->connection;

    acme_http_call_finish(call);
    connection->call = NULL;
    if (call->kept != NULL)
        call->release(call->kept);
    acme_http_response_clear(&call->response);
    OPENSSL_cleanse((char *)call->request.octets, octets_len(call)); /* the copy's own octets */
    free(call);
    acme_http_connection_release(connection);
}

void
acme_http_calls_free(struct http_calls *calls)
{
    struct http_call *call;

    while ((call = STAILQ_FIRST(calls)) != NULL) {
        STAILQ_REMOVE_HEAD(calls, next);
        acme_http_call_free(call);
    }
}
