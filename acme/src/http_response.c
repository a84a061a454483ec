/* http_response.c - build and format responses. */
#include "http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/crypto.h>

#define FIELDS_MAX 32 /* of one response */
#define TEXT_MIN   512 /* octets of the first allocation */

/* ---- text ---- */

void
acme_http_octets_free(char *octets, size_t len)
{
    if (octets != NULL)
        OPENSSL_cleanse(octets, len);
    free(octets);
}

bool
acme_http_text_add(struct http_text *text, const char *octets, size_t len)
{
    if (len > text->size - text->len) {
        size_t size = text->size > 0 ? 2 * text->size : TEXT_MIN;
        char *more;

        if (size < text->len + len)
            size = text->len + len;
        more = malloc(size); /* realloc() could leave a copy in freed memory */
        if (more == NULL)
            return false;
        if (text->len > 0)
            memcpy(more, text->octets, text->len);
        acme_http_octets_free(text->octets, text->len);
        text->octets = more;
        text->size = size;
    }
    if (len > 0)
        memcpy(text->octets + text->len, octets, len);
    text->len += len;
    return true;
}

void
acme_http_text_clear(struct http_text *text)
{
    acme_http_octets_free(text->octets, text->len);
    memset(text, 0, sizeof(*text));
}

static bool
add_text(struct http_text *text, const char *more)
{
    return acme_http_text_add(text, more, strlen(more));
}

/* ---- building ---- */

void
acme_http_response_init(struct acme_http_response *response)
{
    memset(response, 0, sizeof(*response));
    response->status = 500;
}

void
acme_http_response_clear(struct acme_http_response *response)
{
    acme_http_text_clear(&response->fields);
    acme_http_text_clear(&response->body);
    acme_http_response_init(response);
}

/* The response cannot be completed: drop it, and make sure that later calls cannot turn it into a
 * success. */
static void
response_break(struct acme_http_response *response)
{
    const char *route = response->route;

    acme_http_response_clear(response);
    response->route = route;
    response->is_broken = true;
}

static bool
add_field(struct acme_http_response *response, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = strlen(value);

    return name_len > 0 && acme_http_token_span(name, name_len) == name_len &&
           acme_http_value_span(value, value_len) == value_len &&
           response->field_count++ < FIELDS_MAX &&
           acme_http_text_add(&response->fields, name, name_len) &&
           acme_http_text_add(&response->fields, ": ", 2) &&
           acme_http_text_add(&response->fields, value, value_len) &&
           acme_http_text_add(&response->fields, "\r\n", 2);
}

void
acme_http_response_header(struct acme_http_response *response, const char *name, const char *value)
{
    /* A missing header could be an essential one (Location, Replay-Nonce). */
    if (!response->is_broken && !add_field(response, name, value))
        response_break(response);
}

/* The line of the field with this name; NULL: there is none. Its `len` octets include the CRLF. */
static char *
find_line(const struct acme_http_response *response, const char *name, size_t *len)
{
    const struct http_text *fields = &response->fields;
    size_t name_len = strlen(name);

    for (size_t at = 0; at < fields->len; at += *len) {
        char *line = fields->octets + at;

        *len = (size_t)((char *)memchr(line, '\n', fields->len - at) + 1 - line);
        if (*len > name_len && line[name_len] == ':' && strncasecmp(line, name, name_len) == 0)
            return line;
    }
    return NULL;
}

const char *
acme_http_response_field(const struct acme_http_response *response, const char *name, size_t *len)
{
    const char *line = find_line(response, name, len);
    size_t around = strlen(name) + 4; /* ": " and CRLF */

    if (line == NULL)
        return NULL;
    *len -= around;
    return line + around - 2;
}

static void
remove_fields(struct acme_http_response *response, const char *name)
{
    struct http_text *fields = &response->fields;
    char *line;
    size_t len;

    while ((line = find_line(response, name, &len)) != NULL) {
        memmove(line, line + len, (size_t)(fields->octets + fields->len - line) - len);
        fields->len -= len;
        response->field_count--;
    }
}

/* Takes over the body. */
static void
respond_with(struct acme_http_response *response, int status, const char *content_type,
             struct http_text *body)
{
    if (response->is_broken) {
        acme_http_text_clear(body);
        return;
    }
    acme_http_text_clear(&response->body);
    response->body = *body;
    response->status = status;
    remove_fields(response, "Content-Type");
    if (content_type != NULL)
        acme_http_response_header(response, "Content-Type", content_type);
}

void
acme_http_respond(struct acme_http_response *response, int status, const char *content_type,
                  const void *body, size_t len)
{
    struct http_text copy = {.octets = NULL};

    if (acme_http_text_add(&copy, body, len))
        respond_with(response, status, content_type, &copy);
    else
        response_break(response);
}

static int
add_json(const char *text, size_t len, void *to)
{
    return acme_http_text_add(to, text, len) ? 0 : -1;
}

void
acme_http_respond_json(struct acme_http_response *response, int status, const char *content_type,
                       json_t *value)
{
    struct http_text text = {.octets = NULL};

    if (value != NULL &&
        json_dump_callback(value, add_json, &text, JSON_COMPACT | JSON_ENCODE_ANY) == 0) {
        respond_with(response, status, content_type, &text);
    } else {
        acme_http_text_clear(&text);
        response_break(response);
    }
    json_decref(value);
}

void
acme_http_response_route(struct acme_http_response *response, const char *route)
{
    response->route = route;
}

/* ---- formatting ---- */

/* RFC 9110 section 15: phrases of the status codes used here; clients do not need them. */
static const char *
reason(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {303, "See Other"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].phrase;
    }
    return "";
}

bool
acme_http_status_has_content(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* Decimal; snprintf() would take longer than the rest of the head. */
static bool
add_number(struct http_text *text, size_t number)
{
    char digits[24];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return acme_http_text_add(text, digits + at, sizeof(digits) - at);
}

static bool
add_persistence(struct http_text *text, enum http_persistence persistence)
{
    switch (persistence) {
    case HTTP_CLOSES:
        return add_text(text, "Connection: close\r\n");
    case HTTP_PERSISTS_SAID:
        return add_text(text, "Connection: keep-alive\r\n");
    default:
        return true;
    }
}

bool
acme_http_response_head(const struct acme_http_response *response, const char *date,
                        enum http_persistence persistence, struct http_text *to)
{
    to->len = 0;
    return add_text(to, "HTTP/1.1 ") && add_number(to, (size_t)response->status) &&
           add_text(to, " ") && add_text(to, reason(response->status)) &&
           add_text(to, "\r\nDate: ") && add_text(to, date) && add_text(to, "\r\n") &&
           acme_http_text_add(to, response->fields.octets, response->fields.len) &&
           add_persistence(to, persistence) &&
           (!acme_http_status_has_content(response->status) ||
            (add_text(to, "Content-Length: ") && add_number(to, response->body.len) &&
             add_text(to, "\r\n"))) &&
           add_text(to, "\r\n");
}

/* The names of days and months are those of the C locale, which these programs never change. */
void
acme_http_date(time_t when, char out[HTTP_DATE_SIZE])
{
    struct tm tm;

    if (gmtime_r(&when, &tm) == NULL ||
        strftime(out, HTTP_DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        out[0] = '\0';
}
