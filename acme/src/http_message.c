/* http_message.c - requests, responses, targets and patterns. */
#include "http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX 32 /* of one response */

enum acme_http_method
acme_http_request_method(const struct acme_http_request *request)
{
    return request->method;
}

const char *
acme_http_request_path(const struct acme_http_request *request)
{
    return request->path;
}

const char *
acme_http_request_query(const struct acme_http_request *request)
{
    return request->query;
}

const char *
acme_http_request_header(const struct acme_http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    }
    return NULL;
}

const char *
acme_http_request_body(const struct acme_http_request *request, size_t *len)
{
    if (len != NULL)
        *len = request->body_len;
    return request->body;
}

const char *
acme_http_request_peer(const struct acme_http_request *request)
{
    return request->peer;
}

bool
acme_http_request_is_local(const struct acme_http_request *request)
{
    return request->is_local;
}

const char *
acme_http_request_client(const struct acme_http_request *request)
{
    return request->client.subject;
}

const char *
acme_http_request_client_sha256(const struct acme_http_request *request)
{
    return request->client.sha256;
}

const char *
acme_http_request_client_names(const struct acme_http_request *request)
{
    return request->client.names;
}

long
acme_http_request_uid(const struct acme_http_request *request)
{
    return request->uid;
}

void
http_response_init(struct acme_http_response *response)
{
    memset(response, 0, sizeof(*response));
    response->status = 500;
}

void
http_response_clear(struct acme_http_response *response)
{
    for (size_t i = 0; i < response->header_count; i++) {
        free((char *)response->headers[i].name);
        free((char *)response->headers[i].value);
    }
    free(response->headers);
    free(response->body);
    http_response_init(response);
}

/* What a handler meant to say cannot be said whole: then it is not said at all, and later calls do
 * not make it a success again. */
static void
response_break(struct acme_http_response *response)
{
    const char *route = response->route;

    http_response_clear(response);
    response->route = route;
    response->is_broken = true;
}

bool
http_is_token(const char *name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    if (*name == '\0')
        return false;
    for (; *name != '\0'; name++) {
        bool is_alnum = (*name >= '0' && *name <= '9') || (*name >= 'a' && *name <= 'z') ||
                        (*name >= 'A' && *name <= 'Z');

        if (!is_alnum && strchr(others, *name) == NULL)
            return false;
    }
    return true;
}

bool
http_is_field_value(const char *value)
{
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool
add_header(struct acme_http_response *response, const char *name, const char *value)
{
    struct http_header header = {strdup(name), strdup(value)};

    if (response->headers == NULL)
        response->headers = calloc(HEADERS_MAX, sizeof(*response->headers));
    if (header.name == NULL || header.value == NULL || response->headers == NULL ||
        response->header_count == HEADERS_MAX) {
        free((char *)header.name);
        free((char *)header.value);
        return false;
    }
    response->headers[response->header_count++] = header;
    return true;
}

void
acme_http_response_header(struct acme_http_response *response, const char *name, const char *value)
{
    /* A header that is left out could be the one that matters (Location, Replay-Nonce). */
    if (!response->is_broken &&
        (!http_is_token(name) || !http_is_field_value(value) || !add_header(response, name, value)))
        response_break(response);
}

static void
remove_header(struct acme_http_response *response, const char *name)
{
    size_t kept = 0;

    for (size_t i = 0; i < response->header_count; i++) {
        if (strcasecmp(response->headers[i].name, name) == 0) {
            free((char *)response->headers[i].name);
            free((char *)response->headers[i].value);
        } else {
            response->headers[kept++] = response->headers[i];
        }
    }
    response->header_count = kept;
}

/* Take over a body that malloc() made. */
static void
respond_with(struct acme_http_response *response, int status, const char *content_type, char *body,
             size_t len)
{
    if (response->is_broken) {
        free(body);
        return;
    }
    free(response->body);
    response->body = body;
    response->len = len;
    response->status = status;
    remove_header(response, "Content-Type");
    if (content_type != NULL)
        acme_http_response_header(response, "Content-Type", content_type);
}

void
acme_http_respond(struct acme_http_response *response, int status, const char *content_type,
                  const void *body, size_t len)
{
    char *copy = malloc(len + 1);

    if (copy == NULL) {
        response_break(response);
        return;
    }
    if (len > 0)
        memcpy(copy, body, len);
    copy[len] = '\0';
    respond_with(response, status, content_type, copy, len);
}

void
acme_http_respond_json(struct acme_http_response *response, int status, const char *content_type,
                       json_t *value)
{
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    json_decref(value);
    if (text == NULL) {
        response_break(response);
        return;
    }
    respond_with(response, status, content_type, text, strlen(text));
}

void
acme_http_response_route(struct acme_http_response *response, const char *route)
{
    response->route = route;
}

int
acme_http_response_status(const struct acme_http_response *response)
{
    return response->status;
}

bool
acme_http_match(const char *path, const char *pattern, char params[][ACME_HTTP_PARAM_MAX + 1],
                size_t params_max)
{
    size_t count = 0;

    while (*pattern == '/' && *path == '/') {
        size_t pattern_len = strcspn(++pattern, "/");
        size_t len = strcspn(++path, "/");

        if (*pattern == ':') {
            if (len == 0 || len > ACME_HTTP_PARAM_MAX || count == params_max)
                return false;
            memcpy(params[count], path, len);
            params[count++][len] = '\0';
        } else if (len != pattern_len || memcmp(path, pattern, len) != 0) {
            return false;
        }
        pattern += pattern_len;
        path += len;
    }
    return *pattern == '\0' && *path == '\0';
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool
has_dot_segment(const char *path)
{
    while (*path == '/') {
        size_t len = strcspn(++path, "/");

        if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
            return true;
        path += len;
    }
    return false;
}

bool
http_path_decode(const char *raw, char *out)
{
    char *to = out;

    if (*raw != '/')
        return false;
    for (; *raw != '\0'; raw++) {
        int c = (unsigned char)*raw;

        if (c == '%') {
            int high = hex_value(raw[1]);
            int low = high >= 0 ? hex_value(raw[2]) : -1;

            if (low < 0)
                return false;
            c = high * 16 + low;
            if (c == '/')
                return false;
            raw += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        *to++ = (char)c;
    }
    *to = '\0';
    return !has_dot_segment(out);
}
