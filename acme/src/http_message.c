/* http_message.c - requests: their targets, patterns and characters. */
#include "http_internal.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include <acme/json.h>

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
    size_t len = strlen(name);

    for (size_t i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];

        if (field->name_len == len && strncasecmp(request->octets + field->name, name, len) == 0)
            return request->octets + field->value;
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
    return request->peer->address;
}

bool
acme_http_request_is_local(const struct acme_http_request *request)
{
    return request->peer->is_local;
}

const char *
acme_http_request_client(const struct acme_http_request *request)
{
    return request->peer->subject;
}

const char *
acme_http_request_client_sha256(const struct acme_http_request *request)
{
    return request->peer->sha256;
}

const char *
acme_http_request_client_names(const struct acme_http_request *request)
{
    return request->peer->names;
}

long
acme_http_request_uid(const struct acme_http_request *request)
{
    return request->peer->uid;
}

/* RFC 9110 section 5.6.2: letters, digits and !#$%&'*+-.^_`|~, as bits of two words. */
static bool
is_token_octet(unsigned char c)
{
    static const uint64_t octets[] = {0x03ff6cfa00000000, 0x57ffffffc7fffffe};

    return c < 128 && (octets[c / 64] >> (c % 64) & 1) != 0;
}

size_t
acme_http_token_span(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && is_token_octet((unsigned char)text[n]))
        n++;
    return n;
}

/* RFC 9110 section 5.5: no control characters but HTAB. */
size_t
acme_http_value_span(const char *text, size_t len)
{
    size_t n = 0;

    for (; n < len; n++) {
        unsigned char c = (unsigned char)text[n];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            break;
    }
    return n;
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
acme_http_path_decode(const char *raw, char *out)
{
    char *to = out;
    bool is_ascii = true;

    if (*raw != '/')
        return false;
    for (; *raw != '\0'; raw++) {
        int c = (unsigned char)*raw;

        if (c == '%') {
            int high = OPENSSL_hexchar2int((unsigned char)raw[1]);
            int low = high >= 0 ? OPENSSL_hexchar2int((unsigned char)raw[2]) : -1;

            if (low < 0)
                return false;
            c = high * 16 + low;
            if (c == '/')
                return false;
            raw += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        is_ascii = is_ascii && c < 0x80;
        *to++ = (char)c;
    }
    *to = '\0';
    return !has_dot_segment(out) && (is_ascii || acme_json_can_carry(out));
}
