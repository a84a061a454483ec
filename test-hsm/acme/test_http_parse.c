/* test_http_parse.c - mirrors acme/src/http_parse.c: RFC 9112, and request smuggling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOST         "Host: x\r\n"
#define CHUNKED      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

/* A request that is read in pieces, each in memory of exactly the size received so far. */
struct reading {
    struct http_parser parser;
    char *octets;
    size_t len; /* of octets */
    size_t taken; /* octets consumed */
    int status;
};

static void
read_in_pieces(const char *text, size_t len, size_t piece, struct reading *out)
{
    memset(out, 0, sizeof(*out));
    acme_http_parser_reset(&out->parser);
    while (out->status == HTTP_PARSE_MORE && out->taken < len) {
        size_t n = len - out->taken < piece ? len - out->taken : piece;
        char *more = malloc(out->len + n);

        assert_non_null(more);
        if (out->len > 0)
            memcpy(more, out->octets, out->len);
        memcpy(more + out->len, text + out->taken, n);
        free(out->octets);
        out->octets = more;
        out->len += n;
        out->taken += n;
        out->status = acme_http_parse(&out->parser, out->octets, &out->len);
        assert_true(out->len <= HTTP_REQUEST_MAX || piece > 1);
    }
}

static const char *
text_at(const struct reading *reading, size_t offset)
{
    return reading->octets + offset;
}

static const char *
field_of(const struct reading *reading, const char *name)
{
    const struct acme_http_request request = {.octets = reading->octets,
                                              .fields = reading->parser.fields,
                                              .field_count = reading->parser.field_count};

    return acme_http_request_header(&request, name);
}

static const size_t pieces[] = {1, 2, 3, 7, 64, SIZE_MAX};

/* ---- accepted ---- */

static const struct {
    const char *text;
    enum acme_http_method method;
    const char *path, *query; /* NULL: none */
    const char *body;
    const char *x; /* value of field X; NULL: absent */
    bool persists;
} good[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, true},
    {"GET /a%20b?c=%20d?e HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/a b", "c=%20d?e", "", NULL,
     true},
    {"GET /? HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/", "", "", NULL, true},
    {"\r\nGET / HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, true},
    {"GET http://h:1/p?q HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/p", "q", "", NULL, true},
    {"GET HTTPS://h HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, true},
    {"GET http://h?q HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_GET, "/", "q", "", NULL, true},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_OTHER, "/", NULL, "", NULL, true},
    {"get / HTTP/1.1\r\n" HOST "\r\n", ACME_HTTP_OTHER, "/", NULL, "", NULL, true},
    {"PATCH / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na", ACME_HTTP_OTHER, "/", NULL, "a",
     NULL, true},
    {"DELETE / HTTP/1.1\r\nhOST:[::1]:443\r\n\r\n", ACME_HTTP_DELETE, "/", NULL, "", NULL, true},
    {"HEAD / HTTP/1.1\r\nHost:\r\n\r\n", ACME_HTTP_HEAD, "/", NULL, "", NULL, true},
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", ACME_HTTP_HEAD, "/", NULL, "", NULL,
     true},
    {"POST / HTTP/1.1\r\n" HOST "content-length:\t003 \r\nX: \t v w \t\r\n\r\na\nb", ACME_HTTP_POST,
     "/", NULL, "a\nb", "v w", true},
    {"PUT / HTTP/1.1\r\n" HOST "X:\r\nX: second\r\n\r\n", ACME_HTTP_PUT, "/", NULL, "", "", true},
    {"OPTIONS / HTTP/1.1\r\n" HOST "X: \xc3\xbc\r\n\r\n", ACME_HTTP_OPTIONS, "/", NULL, "",
     "\xc3\xbc", true},
    {CHUNKED "0\r\n\r\n", ACME_HTTP_POST, "/", NULL, "", NULL, true},
    {CHUNKED "3\r\nabc\r\n00A\r\n\r\n0\r\n\r\n345\r\n0\r\n\r\n", ACME_HTTP_POST, "/", NULL,
     "abc\r\n0\r\n\r\n345", NULL, true},
    {CHUNKED "1;a=\"b;c\"\r\nx\r\n1 \t;d\r\ny\r\n0;e\r\nTrailer: v\r\nX: w\r\n\r\n", ACME_HTTP_POST,
     "/", NULL, "xy", NULL, true},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
     ACME_HTTP_POST, "/", NULL, "a", NULL, true},
    /* section 9.3: persistence of the connection */
    {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", ACME_HTTP_GET, "/", NULL, "", NULL,
     false},
    {"GET / HTTP/1.1\r\n" HOST "Connection: x,, \tCLOSE ,y\r\n\r\n", ACME_HTTP_GET, "/", NULL, "",
     NULL, false},
    {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n", ACME_HTTP_GET,
     "/", NULL, "", NULL, false},
    {"GET / HTTP/1.1\r\n" HOST "Connection: closed, xclose\r\n\r\n", ACME_HTTP_GET, "/", NULL, "",
     NULL, true},
    {"GET / HTTP/1.0\r\n\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, false},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, true},
    {"GET / HTTP/1.9\r\n" HOST "\r\n", ACME_HTTP_GET, "/", NULL, "", NULL, true},
};

/* The octets of a following request are not consumed. */
static void
a_request_is_the_same_in_any_pieces(void **state)
{
    static const char follows[] = "POST /second HTTP/1.1\r\n" HOST "\r\n";
    char text[1024];

    (void)state;
    for (size_t i = 0; i < COUNT(good) * COUNT(pieces); i++) {
        size_t row = i / COUNT(pieces);
        size_t len = strlen(good[row].text);
        struct reading got;

        snprintf(text, sizeof(text), "%s%s", good[row].text, follows);
        read_in_pieces(text, strlen(text), pieces[i % COUNT(pieces)], &got);
        if (got.status != HTTP_PARSE_WHOLE)
            fail_msg("%s: %d", text, got.status);
        assert_int_equal(got.taken - (got.len - got.parser.at), len);
        assert_memory_equal(got.octets + got.parser.at, follows, got.len - got.parser.at);
        assert_int_equal(got.parser.method, good[row].method);
        assert_string_equal(text_at(&got, got.parser.path), good[row].path);
        assert_int_equal(got.parser.query != 0, good[row].query != NULL);
        if (good[row].query != NULL)
            assert_string_equal(text_at(&got, got.parser.query), good[row].query);
        assert_int_equal(got.parser.body_len, strlen(good[row].body));
        assert_memory_equal(text_at(&got, got.parser.body), good[row].body, got.parser.body_len);
        if (good[row].x != NULL)
            assert_string_equal(field_of(&got, "x"), good[row].x);
        else
            assert_null(field_of(&got, "x"));
        assert_int_equal(acme_http_parser_persists(&got.parser), good[row].persists);
        free(got.octets);
    }
}

/* ---- refused ---- */

static const struct {
    const char *text;
    int status;
} refused[] = {
    /* lines: section 2.2 */
    {"GET / HTTP/1.1\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "\n", 400},
    {"GET / HTTP/1.1\r\r\n" HOST "\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: a\rb: c\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n", 400},
    {"\n", 400},
    {"\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 400},
    /* the request line: section 3 */
    {"nonsense\r\n", 400},
    {" GET / HTTP/1.1\r\n", 400},
    {"GET  / HTTP/1.1\r\n", 400},
    {"GET /  HTTP/1.1\r\n", 400},
    {"GET\t/ HTTP/1.1\r\n", 400},
    {"GET / HTTP/1.1 \r\n", 400},
    {"GET /a b HTTP/1.1\r\n", 400},
    {"GET /\tb HTTP/1.1\r\n", 400},
    {"GET /\r\n", 400},
    {"GET HTTP/1.1\r\n", 400},
    {"GET  HTTP/1.1\r\n", 400},
    {"G(T / HTTP/1.1\r\n", 400},
    {"GET /\x01 HTTP/1.1\r\n", 400},
    {"GET /\xc3\xbc HTTP/1.1\r\n", 400},
    {"GET /a#b HTTP/1.1\r\n", 400},
    {"GET /?a#b HTTP/1.1\r\n", 400},
    {"GET / http/1.1\r\n", 400},
    {"GET / HTTP/1\r\n", 400},
    {"GET / HTTP/1.10\r\n", 400},
    {"GET / HTTP/1.x\r\n", 400},
    {"GET / HTTP/1,1\r\n", 400},
    {"GET / XTTP/1.1\r\n", 400},
    {"GET / HTTP/0.9\r\n", 505},
    {"GET / HTTP/2.0\r\n", 505},
    {"PRI * HTTP/2.0\r\n", 505},
    {"GET a HTTP/1.1\r\n", 400},
    {"GET * HTTP/1.1\r\n", 400},
    {"GET x:443 HTTP/1.1\r\n", 400},
    {"GET ftp://x/ HTTP/1.1\r\n", 400},
    {"GET http:///a HTTP/1.1\r\n", 400},
    {"GET http:// HTTP/1.1\r\n", 400},
    {"GET http:/a HTTP/1.1\r\n", 400},
    {"GET http://u@x/ HTTP/1.1\r\n", 400},
    {"GET http://x/../a HTTP/1.1\r\n", 400},
    {"GET /%2e%2e/a HTTP/1.1\r\n", 400},
    {"GET /a%2fb HTTP/1.1\r\n", 400},
    {"GET /a%00 HTTP/1.1\r\n", 400},
    {"GET /%ff HTTP/1.1\r\n", 400},
    {"GET /%c3/%bc HTTP/1.1\r\n", 400},
    {"GET /%ed%a0%80 HTTP/1.1\r\n", 400},
    {"GET /%4 HTTP/1.1\r\n", 400},
    {"GET /%4? HTTP/1.1\r\n", 400},
    {"CONNECT x:443 HTTP/1.1\r\n", 400},
    {"CONNECT / HTTP/1.1\r\n", 400},
    /* header fields: section 5 */
    {"GET / HTTP/1.1\r\n" HOST " folded\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n X: a\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "\tfolded: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X\t: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X(: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "\xc3\xbc: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: \x7f\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "X: a\x0b\r\n\r\n", 400},
    /* Host: section 3.2 */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET http://x/ HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
    {"GET / HTTP/1.0\r\n" HOST "host: y\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n", 400},
    /* length of the body: section 6 */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1e1\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551617\r\n\r\n", 413},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
     400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;a\r\n", 501},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
     "chunked\r\n",
     400},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n", 501},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", 400},
    {"TRACE / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 400},
    {"BREW / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" HOST "Expect: 200-maybe\r\n", 417},
    /* chunks: section 7.1 */
    {CHUNKED "\r\n", 400},
    {CHUNKED "g\r\n", 400},
    {CHUNKED "-1\r\n", 400},
    {CHUNKED "+1\r\n", 400},
    {CHUNKED "0x1\r\n", 400},
    {CHUNKED " 1\r\n", 400},
    {CHUNKED "1 \r\n", 400},
    {CHUNKED "1,\r\n", 400},
    {CHUNKED "1\na\r\n", 400},
    {CHUNKED "1;a\nb\r\n", 400},
    {CHUNKED "1;a\rb\r\n", 400},
    {CHUNKED "1\r\nab", 400},
    {CHUNKED "1\r\na\n", 400},
    {CHUNKED "1\r\na\rb", 400},
    {CHUNKED "10001\r\n", 413},
    {CHUNKED "ffffffffffffffffffffffff\r\n", 413},
    {CHUNKED "1\r\na\r\n10000\r\n", 413},
    {CHUNKED "0\r\nX\r\n", 400},
    {CHUNKED "0\r\nX : a\r\n", 400},
    {CHUNKED "0\r\n folded\r\n", 400},
    {CHUNKED "0\r\n\n", 400},
};

static void
what_breaks_the_grammar_is_refused_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused) * COUNT(pieces); i++) {
        const char *text = refused[i / COUNT(pieces)].text;
        struct reading got;

        read_in_pieces(text, strlen(text), pieces[i % COUNT(pieces)], &got);
        if (got.status != refused[i / COUNT(pieces)].status)
            fail_msg("%s: %d", text, got.status);
        free(got.octets);
    }
}

static void
a_nul_is_no_end(void **state)
{
    static const char *const texts[] = {
        "GET /@ HTTP/1.1\r\n",
        "GET / HTTP/1.1@\r\n",
        "GET@ / HTTP/1.1\r\n",
        "@GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHo@st: x\r\n",
        "GET / HTTP/1.1\r\nHost: x@y\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1@\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked@\r\n",
        CHUNKED "1@\r\n",
        CHUNKED "@\r\n",
        CHUNKED "1;a@\r\n",
        CHUNKED "0\r\nX: @\r\n",
    };
    char text[128];

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        size_t len = strlen(texts[i]);
        struct reading got;

        memcpy(text, texts[i], len + 1);
        *strchr(text, '@') = '\0';
        read_in_pieces(text, len, i % 2 == 0 ? 1 : len, &got);
        if (got.status != 400)
            fail_msg("%s: %d", texts[i], got.status);
        free(got.octets);
    }
}

/* ---- limits ---- */

static char large[4 * ACME_HTTP_HEADERS_MAX + 2 * ACME_HTTP_BODY_MAX];

static void
check_large(size_t len, int wanted)
{
    static const size_t sizes[] = {1, 1000, SIZE_MAX};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct reading got;

        read_in_pieces(large, len, sizes[i], &got);
        assert_int_equal(got.status, wanted);
        free(got.octets);
    }
}

/* Write `count` times the octet between two texts into `large`; returns the length. */
static size_t
fill(const char *before, char octet, size_t count, const char *behind)
{
    size_t len = strlen(before);

    memcpy(large, before, len);
    memset(large + len, octet, count);
    memcpy(large + len + count, behind, strlen(behind) + 1);
    return len + count + strlen(behind);
}

static void
a_head_has_so_many_octets_and_no_more(void **state)
{
    const size_t room = ACME_HTTP_HEADERS_MAX - strlen("GET / HTTP/1.1\r\n" HOST "X: \r\n\r\n");
    const size_t line = ACME_HTTP_HEADERS_MAX - strlen("GET / HTTP/1.1\r\n");

    (void)state;
    check_large(fill("GET / HTTP/1.1\r\n" HOST "X: ", 'a', room, "\r\n\r\n"), HTTP_PARSE_WHOLE);
    check_large(fill("GET / HTTP/1.1\r\n" HOST "X: ", 'a', room + 1, "\r\n\r\n"), 431);
    check_large(fill("GET / HTTP/1.1\r\n" HOST "X: ", 'a', 2 * room, ""), 431);
    check_large(fill("GET /", 'a', line, " HTTP/1.1\r\n"), 431); /* no space for fields */
    check_large(fill("GET /", 'a', line + 1, " HTTP/1.1\r\n"), 414);
    check_large(fill("GET /", 'a', 2 * line, ""), 414);
    check_large(fill("", 'A', ACME_HTTP_HEADERS_MAX, ""), 414);
}

static void
a_head_has_so_many_fields_and_no_more(void **state)
{
    (void)state;
    for (size_t more = 0; more < 2; more++) {
        size_t len = (size_t)snprintf(large, sizeof(large), "GET / HTTP/1.1\r\n" HOST);

        for (size_t i = 1; i < HTTP_FIELDS_MAX + more; i++, len += 5)
            memcpy(large + len, "X: \r\n", 5);
        memcpy(large + len, "\r\n", 2);
        check_large(len + 2, more == 0 ? HTTP_PARSE_WHOLE : 431);
    }
}

static void
a_body_has_so_many_octets_and_no_more(void **state)
{
    char head[128];

    (void)state;
    snprintf(head, sizeof(head), "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n",
             ACME_HTTP_BODY_MAX);
    check_large(fill(head, '\n', ACME_HTTP_BODY_MAX, ""), HTTP_PARSE_WHOLE);
    snprintf(head, sizeof(head), CHUNKED "%x\r\n", ACME_HTTP_BODY_MAX);
    check_large(fill(head, '\n', ACME_HTTP_BODY_MAX, "\r\n0\r\n\r\n"), HTTP_PARSE_WHOLE);
    check_large(fill(head, '\n', ACME_HTTP_BODY_MAX, "\r\n1\r\n"), 413);
}

static void
what_is_between_chunks_and_behind_them_is_bounded(void **state)
{
    size_t len = strlen(CHUNKED);

    (void)state;
    check_large(fill(CHUNKED, '0', HTTP_CHUNK_LINE_MAX - 2, "\r\n\r\n"), HTTP_PARSE_WHOLE);
    check_large(fill(CHUNKED, '0', HTTP_CHUNK_LINE_MAX - 1, "\r\n\r\n"), 400);
    check_large(fill(CHUNKED "1;", 'a', HTTP_CHUNK_LINE_MAX, ""), 400);
    check_large(fill(CHUNKED "0\r\nX: ", 'a', ACME_HTTP_HEADERS_MAX - 20, "\r\n\r\n"),
                HTTP_PARSE_WHOLE);
    check_large(fill(CHUNKED "0\r\nX: ", 'a', ACME_HTTP_HEADERS_MAX, "\r\n\r\n"), 431);
    memcpy(large, CHUNKED, len);
    for (int i = 0; i < 200; i++, len += 106) { /* 20,000 octets of extensions */
        memcpy(large + len, "1;", 2);
        memset(large + len + 2, 'e', 99);
        memcpy(large + len + 101, "\r\na\r\n", 5);
    }
    check_large(len, 400);
}

static void
a_client_that_waits_is_told_to_continue_where_a_body_comes(void **state)
{
    static const struct {
        const char *text;
        bool wanted;
    } table[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n", true},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
         true},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n", false},
        {"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct reading got;

        read_in_pieces(table[i].text, strlen(table[i].text), SIZE_MAX, &got);
        assert_true(got.status == HTTP_PARSE_MORE || got.status == HTTP_PARSE_WHOLE);
        assert_int_equal(got.parser.wants_continue, table[i].wanted);
        free(got.octets);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_the_same_in_any_pieces),
        cmocka_unit_test(what_breaks_the_grammar_is_refused_in_any_pieces),
        cmocka_unit_test(a_nul_is_no_end),
        cmocka_unit_test(a_head_has_so_many_octets_and_no_more),
        cmocka_unit_test(a_head_has_so_many_fields_and_no_more),
        cmocka_unit_test(a_body_has_so_many_octets_and_no_more),
        cmocka_unit_test(what_is_between_chunks_and_behind_them_is_bounded),
        cmocka_unit_test(a_client_that_waits_is_told_to_continue_where_a_body_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
