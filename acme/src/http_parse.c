/* http_parse.c - an incremental parser for requests of HTTP/1.1 (RFC 9112). */
#include "http_parse_internal.h"

#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "http_internal.h"

/* What is parsed next. */
enum {
    REQUEST_LINE,
    FIELD,
    CONTENT,
    CHUNK_SIZE,
    CHUNK_DATA,
    CHUNK_END,
    TRAILER,
    END,
};

#define ON 2 /* a step was completed; continue with the next */

/* A line without its CRLF; NUL replaces the CR. */
struct line {
    char *text;
    size_t len;
};

void
acme_http_parser_reset(struct http_parser *parser)
{
    memset(parser, 0, offsetof(struct http_parser, fields));
    parser->method = ACME_HTTP_OTHER;
}

bool
acme_http_parser_persists(const struct http_parser *parser)
{
    return !parser->says_close && (!parser->is_old || parser->says_keep_alive);
}

/* Take the next line, which must end before octet `end`: ON, HTTP_PARSE_MORE, or `too_long`. */
static int
take_line(struct http_parser *parser, char *octets, size_t len, size_t end, int too_long,
          struct line *out)
{
    size_t from = parser->searched > parser->at ? parser->searched : parser->at;
    size_t to = len < end ? len : end;
    char *lf = from < to ? memchr(octets + from, '\n', to - from) : NULL;

    if (lf == NULL) {
        parser->searched = to;
        return len < end ? HTTP_PARSE_MORE : too_long;
    }
    out->text = octets + parser->at;
    out->len = (size_t)(lf - out->text);
    if (out->len == 0 || lf[-1] != '\r')
        return 400; /* section 2.2: other recipients may accept a bare LF as a line end */
    out->text[--out->len] = '\0';
    parser->at += out->len + 2;
    return ON;
}

/* ---- the request line: section 3 --------------------------------------- */

static const struct method {
    const char *name;
    enum acme_http_method method;
    bool takes_content;
} methods[] = {
    {"GET", ACME_HTTP_GET, true},       {"POST", ACME_HTTP_POST, true},
    {"HEAD", ACME_HTTP_HEAD, false},    {"PUT", ACME_HTTP_PUT, true},
    {"DELETE", ACME_HTTP_DELETE, true}, {"OPTIONS", ACME_HTTP_OPTIONS, true},
    {"PATCH", ACME_HTTP_OTHER, true},
};

static bool
is_text(const char *text, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(text, wanted, len) == 0;
}

/* A method that is not known to take content must have none: an intermediary might take the content
 * for another request. */
static void
know_method(struct http_parser *parser, const char *text, size_t len)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (is_text(text, len, methods[i].name)) {
            parser->method = methods[i].method;
            parser->takes_content = methods[i].takes_content;
            return;
        }
    }
}

/* "HTTP/1.1"; a higher minor version is treated as 1.1 (RFC 9110 section 2.5). */
static int
know_version(struct http_parser *parser, const char *text)
{
    if (strlen(text) != 8 || memcmp(text, "HTTP/", 5) != 0 || text[5] < '0' || text[5] > '9' ||
        text[6] != '.' || text[7] < '0' || text[7] > '9')
        return 400;
    if (text[5] != '1')
        return 505;
    parser->is_old = text[7] == '0';
    return ON;
}

/* Section 3.2.2: of "http://authority/path" the path is used, whatever the authority. NULL: neither
 * this form nor a path. */
static char *
skip_authority(char *target)
{
    static const char *const schemes[] = {"http://", "https://"};

    if (*target == '/')
        return target;
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        size_t authority;

        if (strncasecmp(target, schemes[i], len) != 0)
            continue;
        target += len;
        authority = strcspn(target, "/?@");
        if (authority == 0 || target[authority] == '@')
            return NULL;
        if (target[authority] == '/')
            return target + authority;
        target[authority - 1] = '/'; /* an empty path; there is room for the slash */
        return target + authority - 1;
    }
    return NULL;
}

static int
know_target(struct http_parser *parser, char *octets, char *target)
{
    char *path = skip_authority(target);
    char *query;

    if (path == NULL)
        return 400;
    query = strchr(path, '?');
    if (query != NULL) {
        *query++ = '\0';
        parser->query = (size_t)(query - octets);
    }
    parser->path = (size_t)(path - octets);
    return acme_http_path_decode(path, path) ? ON : 400;
}

/* RFC 3986: only US-ASCII, and no fragment. */
static bool
is_target(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= 0x20 || *text >= 0x7f || *text == '#')
            return false;
    }
    return true;
}

static int
read_request_line(struct http_parser *parser, char *octets, size_t len)
{
    struct line line;
    char *target, *version;
    size_t method_len;
    int step = take_line(parser, octets, len, ACME_HTTP_HEADERS_MAX, 414, &line);

    if (step != ON)
        return step;
    if (line.len == 0) { /* section 2.2: some clients send one after a body */
        if (parser->has_empty_line)
            return 400;
        parser->has_empty_line = true;
        return ON;
    }
    if (memchr(line.text, '\0', line.len) != NULL)
        return 400;
    method_len = acme_http_token_span(line.text, line.len);
    version = strrchr(line.text, ' ');
    if (method_len == 0 || line.text[method_len] != ' ' || version == line.text + method_len)
        return 400;
    know_method(parser, line.text, method_len);
    if (is_text(line.text, method_len, "CONNECT"))
        return 400; /* this server is not a proxy */
    target = line.text + method_len + 1;
    *version++ = '\0';
    if (*target == '\0' || !is_target(target))
        return 400;
    step = know_version(parser, version);
    if (step != ON)
        return step;
    parser->state = FIELD;
    return know_target(parser, octets, target);
}

/* ---- header fields: section 5 ------------------------------------------ */

/* RFC 9110 section 7.2 and RFC 3986 section 3.2: the characters of an authority without userinfo,
 * as bits of two words. */
static bool
is_host(const char *value)
{
    static const uint64_t octets[] = {0x2fff7ff200000000, 0x47fffffeaffffffe};

    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;

        if (c >= 128 || (octets[c / 64] >> (c % 64) & 1) == 0)
            return false;
    }
    return true;
}

static int
read_host(struct http_parser *parser, const char *value)
{
    if (parser->has_host || !is_host(value))
        return 400;
    parser->has_host = true;
    return ON;
}

/* Section 6.3: one length only, in digits. */
static int
read_content_length(struct http_parser *parser, const char *value)
{
    size_t length = 0;

    if (parser->has_length || *value == '\0')
        return 400;
    for (; *value != '\0'; value++) {
        if (*value < '0' || *value > '9')
            return 400;
        if (length <= ACME_HTTP_BODY_MAX)
            length = 10 * length + (size_t)(*value - '0');
    }
    parser->has_length = true;
    parser->content_length = length;
    return ON;
}

static int
read_transfer_encoding(struct http_parser *parser, const char *value)
{
    if (strcasecmp(value, "chunked") != 0)
        return 501;
    if (parser->is_chunked || parser->is_old)
        return 400;
    parser->is_chunked = true;
    return ON;
}

/* RFC 9110 section 7.6.1: a list of tokens. */
static int
read_connection(struct http_parser *parser, const char *value)
{
    for (;;) {
        size_t len;

        value += strspn(value, " \t,");
        len = strcspn(value, " \t,");
        if (len == 0)
            return ON;
        parser->says_close |= len == 5 && strncasecmp(value, "close", len) == 0;
        parser->says_keep_alive |= len == 10 && strncasecmp(value, "keep-alive", len) == 0;
        value += len;
    }
}

/* RFC 9110 section 10.1.1 */
static int
read_expect(struct http_parser *parser, const char *value)
{
    if (strcasecmp(value, "100-continue") != 0)
        return 417;
    parser->wants_continue = !parser->is_old;
    return ON;
}

static const struct known {
    const char *name;
    size_t len;
    int (*read)(struct http_parser *parser, const char *value);
} known[] = {
    {"Host", 4, read_host},
    {"Content-Length", 14, read_content_length},
    {"Transfer-Encoding", 17, read_transfer_encoding},
    {"Connection", 10, read_connection},
    {"Expect", 6, read_expect},
};

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* "name: value", without blanks around the value; both are NUL-terminated. NULL: malformed. */
static char *
split_field(struct line line, size_t *name_len)
{
    char *value = line.text + acme_http_token_span(line.text, line.len);
    char *end = line.text + line.len;

    if (value == line.text || *value != ':')
        return NULL;
    *name_len = (size_t)(value - line.text);
    *value++ = '\0';
    while (value < end && is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    if (acme_http_value_span(value, (size_t)(end - value)) != (size_t)(end - value))
        return NULL;
    *end = '\0';
    return value;
}

/* Section 6.3: determine where the body ends. */
static int
end_head(struct http_parser *parser)
{
    bool has_body = parser->is_chunked || parser->content_length > 0;

    if (!parser->has_host && !parser->is_old)
        return 400; /* section 3.2 */
    if ((parser->has_length && parser->is_chunked) || (has_body && !parser->takes_content))
        return 400;
    if (parser->content_length > ACME_HTTP_BODY_MAX)
        return 413;
    parser->body = parser->at;
    parser->wants_continue = parser->wants_continue && has_body;
    parser->state = !has_body ? END : parser->is_chunked ? CHUNK_SIZE : CONTENT;
    return ON;
}

static int
read_field(struct http_parser *parser, char *octets, size_t len)
{
    struct http_field *field = &parser->fields[parser->field_count];
    struct line line;
    const char *value;
    size_t name_len;
    int step = take_line(parser, octets, len, ACME_HTTP_HEADERS_MAX, 431, &line);

    if (step != ON)
        return step;
    if (line.len == 0)
        return end_head(parser);
    if (parser->field_count == HTTP_FIELDS_MAX)
        return 431;
    value = split_field(line, &name_len);
    if (value == NULL)
        return 400;
    parser->field_count++;
    field->name = (uint16_t)(line.text - octets);
    field->name_len = (uint16_t)name_len;
    field->value = (uint16_t)(value - octets);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].len == name_len && strncasecmp(known[i].name, line.text, name_len) == 0)
            return known[i].read(parser, value);
    }
    return ON;
}

/* ---- content: sections 6 and 7 ----------------------------------------- */

static int
read_content(struct http_parser *parser, size_t len)
{
    if (len - parser->at < parser->content_length)
        return HTTP_PARSE_MORE;
    parser->body_len = parser->content_length;
    parser->at += parser->content_length;
    parser->state = END;
    return ON;
}

/* Section 7.1.1: chunk extensions are ignored; their total length is bounded. */
static bool
skip_extensions(struct http_parser *parser, const char *text, size_t len)
{
    const char *begin = text + strspn(text, " \t");

    parser->extra += len;
    return len == 0 || (*begin == ';' && acme_http_value_span(text, len) == len &&
                        parser->extra <= ACME_HTTP_HEADERS_MAX);
}

static int
read_chunk_size(struct http_parser *parser, char *octets, size_t len)
{
    struct line line;
    size_t size = 0;
    size_t digits = 0;
    int digit;
    int step = take_line(parser, octets, len, parser->at + HTTP_CHUNK_LINE_MAX, 400, &line);

    if (step != ON)
        return step;
    for (; (digit = OPENSSL_hexchar2int((unsigned char)line.text[digits])) >= 0; digits++) {
        if (size <= ACME_HTTP_BODY_MAX)
            size = 16 * size + (size_t)digit;
    }
    if (digits == 0 || !skip_extensions(parser, line.text + digits, line.len - digits))
        return 400;
    if (size > ACME_HTTP_BODY_MAX - parser->body_len)
        return 413;
    parser->chunk_left = size;
    parser->state = size > 0 ? CHUNK_DATA : TRAILER;
    return ON;
}

static int
read_chunk_data(struct http_parser *parser, char *octets, size_t len)
{
    size_t n = len - parser->at < parser->chunk_left ? len - parser->at : parser->chunk_left;

    memmove(octets + parser->body + parser->body_len, octets + parser->at, n);
    parser->body_len += n;
    parser->at += n;
    parser->chunk_left -= n;
    if (parser->chunk_left > 0)
        return HTTP_PARSE_MORE;
    parser->state = CHUNK_END;
    return ON;
}

static int
read_chunk_end(struct http_parser *parser, const char *octets, size_t len)
{
    size_t have = len - parser->at;

    if ((have > 0 && octets[parser->at] != '\r') || (have > 1 && octets[parser->at + 1] != '\n'))
        return 400;
    if (have < 2)
        return HTTP_PARSE_MORE;
    parser->at += 2;
    parser->state = CHUNK_SIZE;
    return ON;
}

/* Section 7.1.2: trailer fields are checked and discarded. */
static int
read_trailer(struct http_parser *parser, char *octets, size_t len)
{
    struct line line;
    size_t name_len;
    int step = take_line(parser, octets, len, parser->at + ACME_HTTP_HEADERS_MAX - parser->extra,
                         431, &line);

    if (step != ON)
        return step;
    if (line.len == 0) {
        parser->state = END;
        return ON;
    }
    parser->extra += line.len + 2;
    return split_field(line, &name_len) != NULL ? ON : 400;
}

/* Remove the parsed framing of a chunked body, to make room for further input. */
static void
close_gap(struct http_parser *parser, char *octets, size_t *len)
{
    size_t end = parser->body + parser->body_len;
    size_t gap = parser->at - end;

    memmove(octets + end, octets + parser->at, *len - parser->at);
    *len -= gap;
    parser->at = end;
    parser->searched = parser->searched > end + gap ? parser->searched - gap : end;
}

static int
step_on(struct http_parser *parser, char *octets, size_t len)
{
    switch (parser->state) {
    case REQUEST_LINE:
        return read_request_line(parser, octets, len);
    case FIELD:
        return read_field(parser, octets, len);
    case CONTENT:
        return read_content(parser, len);
    case CHUNK_SIZE:
        return read_chunk_size(parser, octets, len);
    case CHUNK_DATA:
        return read_chunk_data(parser, octets, len);
    case CHUNK_END:
        return read_chunk_end(parser, octets, len);
    case TRAILER:
        return read_trailer(parser, octets, len);
    default:
        return HTTP_PARSE_WHOLE;
    }
}

int
acme_http_parse(struct http_parser *parser, char *octets, size_t *len)
{
    int step;

    do
        step = step_on(parser, octets, *len);
    while (step == ON);
    if (step == HTTP_PARSE_MORE && parser->is_chunked && parser->body > 0)
        close_gap(parser, octets, len);
    return step;
}
