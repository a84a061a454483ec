/* fuzz_http_request.c - octets of HTTP connections: parsed at once and in pieces, the result is the
 * same. */
#include "fuzz.h"
#include "http_internal.h"

struct reading {
    struct http_parser parser;
    char *octets;
    size_t len, taken;
    int status;
};

static void
read_in_pieces(const uint8_t *data, size_t len, size_t piece, struct reading *out)
{
    out->octets = NULL;
    out->len = out->taken = 0;
    out->status = HTTP_PARSE_MORE;
    acme_http_parser_reset(&out->parser);
    while (out->status == HTTP_PARSE_MORE && out->taken < len) {
        size_t n = len - out->taken < piece ? len - out->taken : piece;

        out->octets = realloc(out->octets, out->len + n);
        fuzz_assert(out->octets != NULL);
        memcpy(out->octets + out->len, data + out->taken, n);
        out->len += n;
        out->taken += n;
        out->status = acme_http_parse(&out->parser, out->octets, &out->len);
        fuzz_assert(out->len <= HTTP_REQUEST_MAX + n);
    }
}

static void
check(const struct reading *got)
{
    const struct http_parser *parser = &got->parser;

    fuzz_assert(parser->body_len <= ACME_HTTP_BODY_MAX);
    fuzz_assert(parser->body + parser->body_len <= parser->at && parser->at <= got->len);
    fuzz_assert(got->octets[parser->path] == '/');
    for (size_t i = 0; i < parser->field_count; i++) {
        const char *value = got->octets + parser->fields[i].value;

        fuzz_assert(strlen(got->octets + parser->fields[i].name) == parser->fields[i].name_len);
        fuzz_assert(acme_http_value_span(value, strlen(value)) == strlen(value));
    }
}

static void
compare(const struct reading *one, const struct reading *other)
{
    fuzz_assert(one->status == other->status);
    if (one->status != HTTP_PARSE_WHOLE)
        return;
    fuzz_assert(one->taken - (one->len - one->parser.at) ==
                other->taken - (other->len - other->parser.at));
    fuzz_assert(one->parser.method == other->parser.method);
    fuzz_assert(one->parser.body_len == other->parser.body_len);
    fuzz_assert(one->parser.body == other->parser.body);
    fuzz_assert(memcmp(one->octets, other->octets, one->parser.body + one->parser.body_len) == 0);
    fuzz_assert(acme_http_parser_persists(&one->parser) ==
                acme_http_parser_persists(&other->parser));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct reading whole, octets;
    size_t taken;

    do { /* one request after the other */
        read_in_pieces(data, len, len > 0 ? len : 1, &whole);
        read_in_pieces(data, len, 1, &octets);
        compare(&whole, &octets);
        taken = whole.status == HTTP_PARSE_WHOLE ? octets.taken : len;
        if (whole.status == HTTP_PARSE_WHOLE)
            check(&whole);
        free(whole.octets);
        free(octets.octets);
        data += taken;
        len -= taken;
    } while (len > 0);
    return 0;
}
