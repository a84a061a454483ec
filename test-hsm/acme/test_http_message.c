/* test_http_message.c - mirrors acme/src/http_message.c, and with it http_call.c and
 * http_response.c. */
#define _GNU_SOURCE /* strptime, timegm */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <acme/http_server.h>

#include "http_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- requests ---- */

static void
a_request_reaches_the_handler_whole(void **state)
{
    static const char text[] = "POST /a%20b/%c3%bc?x=%20&y HTTP/1.1\r\n" HOST
                               "x-value:  v w \r\nX-Value: second\r\nConnection: close\r\n"
                               "Content-Length: 5\r\n\r\nbo\ndy";

    (void)state;
    exchange(text, strlen(text));
    assert_true(starts_with(reply, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(reply, "\r\nContent-Type: application/json\r\n"));
    assert_string_equal(
        body_of(reply),
        "{\"method\":2,\"path\":\"/a b/\xc3\xbc\",\"query\":\"x=%20&y\",\"x\":\"v w\","
        "\"peer\":\"unix\",\"local\":true,\"client\":null,\"body\":\"bo\\ndy\"}");
}

static void
a_chunked_body_is_put_together(void **state)
{
    static const char text[] = "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n"
                               "Connection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

    (void)state;
    exchange(text, strlen(text));
    assert_non_null(strstr(reply, "\"method\":3,"));
    assert_non_null(strstr(reply, "\"body\":\"abcde\"}"));
}

static void
every_method_reaches_the_handler(void **state)
{
    static const struct {
        const char *method;
        enum acme_http_method wanted;
    } table[] = {
        {"GET", ACME_HTTP_GET},       {"POST", ACME_HTTP_POST},       {"PUT", ACME_HTTP_PUT},
        {"DELETE", ACME_HTTP_DELETE}, {"OPTIONS", ACME_HTTP_OPTIONS}, {"PATCH", ACME_HTTP_OTHER},
        {"TRACE", ACME_HTTP_OTHER},   {"BREW", ACME_HTTP_OTHER},
    };
    char text[128], wanted[32];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
                 table[i].method);
        snprintf(wanted, sizeof(wanted), "{\"method\":%d,", (int)table[i].wanted);
        exchange(text, strlen(text));
        assert_true(starts_with(body_of(reply), wanted));
    }
}

static void
head_is_answered_with_the_length_alone(void **state)
{
    static const char text[] = "HEAD /wait HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";

    (void)state;
    gate_set(true);
    exchange(text, strlen(text));
    assert_true(starts_with(reply, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(reply, "\r\nContent-Length: 6\r\n"));
    assert_string_equal(body_of(reply), "");
}

/* After each of these follows a good request: the server answers once, with this status, and
 * closes. */
static const struct {
    const char *text;
    const char *status;
} refused[] = {
    /* targets */
    {"GET /a/../b HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a/%2e%2E/b HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /./a HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /.. HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%00b HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%0ab HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%7f HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%2fb HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a% HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%4 HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET /a%4g HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"GET a HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "400"},
    {"CONNECT a:443 HTTP/1.1\r\n" HOST "\r\n", "400"},
    /* where the request ends: RFC 9112 section 6.3 */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
     "0\r\n\r\n",
     "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\na", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: x\r\n\r\n", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length : 1\r\n\r\na", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", "501"},
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na", "400"},
    {"BREW / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na", "400"},
    {"TRACE / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
    /* headers: RFC 9112 section 5 */
    {"GET / HTTP/1.1\r\n" HOST "X Y: a\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n", "400"},
    {"GET / HTTP/1.1\r\n" HOST "X-Y: a\x01"
     "b\r\n\r\n",
     "400"},
    {"GET / HTTP/1.1\r\n" HOST "nonsense\r\n\r\n", "400"},
    {"nonsense\r\n\r\n", "400"},
    {"POST / HTTP/1.1\r\n" HOST "Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na", "417"},
};

static void
what_two_readers_could_read_in_two_ways_is_refused(void **state)
{
    static const char follows[] = "GET /second HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    char text[512], wanted[32];

    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        snprintf(text, sizeof(text), "%s%s", refused[i].text, follows);
        snprintf(wanted, sizeof(wanted), "HTTP/1.1 %s ", refused[i].status);
        exchange(text, strlen(text));
        if (!starts_with(reply, wanted) || strstr(reply + 1, "HTTP/1.1") != NULL ||
            strstr(reply, "second") != NULL)
            fail_msg("%s: wanted %s, got %s", refused[i].text, wanted, reply);
    }
}

static void
a_body_that_is_too_large_gets_413(void **state)
{
    static char text[ACME_HTTP_BODY_MAX + 512];
    const size_t head_size = 256;

    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        for (size_t more = 0; more < 2; more++) {
            size_t len = ACME_HTTP_BODY_MAX + more;
            int head =
                snprintf(text, head_size, "POST / HTTP/1.1\r\n" HOST "Connection: close\r\n");

            if (chunked != 0)
                head += snprintf(text + head, head_size,
                                 "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", len);
            else
                head += snprintf(text + head, head_size, "Content-Length: %zu\r\n\r\n", len);
            memset(text + head, 'b', len);
            snprintf(text + head + len, 32, "%s", chunked != 0 ? "\r\n0\r\n\r\n" : "");
            exchange(text, strlen(text));
            assert_true(starts_with(reply, more > 0 ? "HTTP/1.1 413 " : "HTTP/1.1 200 "));
        }
    }
}

/* Closing with unread octets would discard the answer of a peer that is still sending. */
static void
who_is_refused_while_it_sends_gets_to_read_why(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 3000000\r\n\r\n";
    static char body[300000];
    SSL_CTX *ctx = tls_context();
    SSL *ssl = tls_connect(ctx);
    int fd = http_connect_unix(&peer);

    (void)state;
    memset(body, 'b', sizeof(body));
    http_send(fd, head, strlen(head));
    tls_send(ssl, head);
    for (int i = 0; i < 10; i++) {
        http_send(fd, body, sizeof(body));
        assert_int_equal(SSL_write(ssl, body, sizeof(body)), sizeof(body));
    }
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 413 "));
    assert_true(starts_with(tls_receive(ssl), "HTTP/1.1 413 "));
    close(fd);
    tls_close(ssl);
    SSL_CTX_free(ctx);
}

/* A request with that many octets in its target and in a header field. */
static const char *
exchange_large(size_t target, size_t field)
{
    static char text[2 * ACME_HTTP_HEADERS_MAX + 256];
    char *at = text + snprintf(text, sizeof(text), "GET /");

    memset(at, 't', target);
    at += target;
    at += snprintf(at, 128, " HTTP/1.1\r\n" HOST "Connection: close\r\nX-Value: ");
    memset(at, 'h', field);
    at += field;
    memcpy(at, "\r\n\r\n", 4);
    return exchange(text, (size_t)(at + 4 - text));
}

static void
a_head_that_is_too_large_gets_431_or_414(void **state)
{
    (void)state;
    assert_true(starts_with(exchange_large(0, ACME_HTTP_HEADERS_MAX - 200), "HTTP/1.1 200 "));
    assert_true(starts_with(exchange_large(0, ACME_HTTP_HEADERS_MAX), "HTTP/1.1 431 "));
    assert_true(starts_with(exchange_large(ACME_HTTP_HEADERS_MAX - 200, 0), "HTTP/1.1 200 "));
    assert_true(starts_with(exchange_large(ACME_HTTP_HEADERS_MAX, 0), "HTTP/1.1 414 "));
}

/* ---- answers ---- */

static void
answers_carry_what_the_handler_said(void **state)
{
    static const char with_headers[] = "GET /headers HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char none[] = "GET /none HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char problem[] = "GET /problem HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";

    (void)state;
    exchange(with_headers, strlen(with_headers));
    assert_true(starts_with(reply, "HTTP/1.1 201 Created\r\n"));
    assert_non_null(strstr(reply, "\r\nLink: <1>\r\n"));
    assert_non_null(strstr(reply, "\r\nLink: <2>\r\n"));
    assert_non_null(strstr(reply, "\r\nContent-Length: 0\r\n"));
    assert_null(strstr(reply, "Content-Type"));

    exchange(none, strlen(none));
    assert_true(starts_with(reply, "HTTP/1.1 204 "));
    assert_null(strstr(reply, "Content-Length"));

    exchange(problem, strlen(problem));
    assert_true(starts_with(reply, "HTTP/1.1 405 "));
    assert_non_null(strstr(reply, "\r\nContent-Type: application/problem+json\r\n"));
    assert_string_equal(body_of(reply), "{\"type\":\"urn:ietf:params:acme:error:malformed\","
                                        "\"detail\":\"GET is not for this\",\"status\":405}");
}

/* RFC 9110 section 6.6.1 */
static void
answers_are_dated(void **state)
{
    static const char text[] = "GET /none HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    struct tm tm = {.tm_sec = -1};
    const char *date;

    (void)state;
    date = strstr(exchange(text, strlen(text)), "\r\nDate: ");
    assert_non_null(date);
    date = strptime(date, "\r\nDate: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    assert_non_null(date);
    assert_in_range(timegm(&tm), time(NULL) - 60, time(NULL));
}

/* RFC 9110 section 10.1.1 */
static void
a_client_that_waits_for_100_is_told_to_go_on(void **state)
{
    static const char head[] = "POST /quick HTTP/1.1\r\n" HOST "Content-Length: 4\r\n"
                               "Expect: 100-continue\r\n\r\n";
    static const char large[] = "POST /quick HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n"
                                "Expect: 100-continue\r\n\r\n";
    int fd = http_connect_unix(&peer);

    (void)state;
    for (int i = 0; i < 2; i++) {
        http_send(fd, head, strlen(head));
        assert_true(http_receive(fd, reply, sizeof(reply), "\r\n\r\n", 1, SOON_MS) > 0);
        assert_string_equal(reply, "HTTP/1.1 100 Continue\r\n\r\n");
        http_send(fd, "body", 4);
        assert_true(http_receive(fd, reply, sizeof(reply), "\"body\":\"body\"}", 1, SOON_MS) > 0);
        assert_true(starts_with(reply, "HTTP/1.1 200 OK\r\n"));
    }
    http_send(fd, large, strlen(large));
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 413 "));
    close(fd);
}

/* RFC 9112 section 9.3 */
static void
clients_of_http_1_0_keep_their_connection_if_they_ask(void **state)
{
    static const char kept[] = "GET /quick HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    static const char last[] = "GET /slow HTTP/1.0\r\n\r\n";
    int fd = http_connect_unix(&peer);

    (void)state;
    for (int i = 0; i < 2; i++) {
        http_send(fd, kept, strlen(kept));
        assert_true(http_receive(fd, reply, sizeof(reply), "\"body\"", 1, SOON_MS) > 0);
        assert_non_null(strstr(reply, "\r\nConnection: keep-alive\r\n"));
    }
    http_send(fd, last, strlen(last));
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_non_null(strstr(reply, "\r\nConnection: close\r\n"));
    close(fd);
}

static void
a_handler_that_says_nothing_or_cannot_be_quoted_gives_500(void **state)
{
    static const char silent[] = "GET /silent HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char header[] = "GET /header HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";

    (void)state;
    assert_true(starts_with(exchange(silent, strlen(silent)), "HTTP/1.1 500 "));
    assert_true(starts_with(exchange(header, strlen(header)), "HTTP/1.1 500 "));
    assert_null(strstr(reply, "X-Injected"));
}

static void
pipelined_requests_are_answered_in_order(void **state)
{
    char text[4096] = "";
    const char *at;
    SSL_CTX *ctx = tls_context();
    SSL *ssl = tls_connect(ctx);

    (void)state;
    for (int i = 0; i < 30; i++) /* served alternately by the loop and by threads */
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "POST /%s HTTP/1.1\r\n" HOST "X-Value: %d\r\nContent-Length: 1\r\n%s\r\nb",
                 i % 3 == 0 ? "quick" : "slow", i, i == 29 ? "Connection: close\r\n" : "");
    for (int tls = 0; tls < 2; tls++) {
        if (tls != 0) {
            tls_send(ssl, text);
            tls_receive(ssl);
        } else {
            exchange(text, strlen(text));
        }
        at = reply;
        for (int i = 0; i < 30; i++) {
            char wanted[32];

            snprintf(wanted, sizeof(wanted), "\"x\":\"%d\"", i);
            at = strstr(at, wanted);
            assert_non_null(at);
        }
    }
    tls_close(ssl);
    SSL_CTX_free(ctx);
}

static void
who_has_nothing_more_to_ask_still_gets_the_answer(void **state)
{
    static const char *const paths[] = {"/quick", "/slow", "/large"};
    char text[128];
    size_t size = LARGE + REPLY_SIZE;
    char *whole = malloc(size);

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        int fd = http_connect_unix(&peer);

        snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HOST "\r\n", paths[i]);
        http_send(fd, text, strlen(text));
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        assert_true(http_receive(fd, whole, size, NULL, 0, SOON_MS) > 0);
        assert_true(starts_with(whole, "HTTP/1.1 200 "));
        if (i == 2)
            assert_int_equal(strlen(body_of(whole)), LARGE);
        close(fd);
    }
    free(whole);
}

static void
a_large_answer_reaches_a_slow_reader_whole(void **state)
{
    static const char text[] = "GET /large HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static char octets[LARGE + 4096];
    SSL_CTX *ctx = tls_context();
    SSL *ssl = tls_connect(ctx);
    size_t len = 0;
    int n;

    (void)state;
    tls_send(ssl, text);
    while ((n = SSL_read(ssl, octets + len, len < 50000 ? 1000 : (int)(sizeof(octets) - len))) >
           0) {
        len += (size_t)n;
        if (len < 50000)
            usleep(1000);
    }
    assert_int_equal(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN);
    octets[len] = '\0';
    assert_int_equal(strlen(body_of(octets)), LARGE);
    tls_close(ssl);
    SSL_CTX_free(ctx);
}

static void
patterns_match_segments(void **state)
{
    static const struct {
        const char *path, *pattern;
        bool wanted;
        const char *first, *second;
    } table[] = {
        {"/", "/", true, NULL, NULL},
        {"/acme/directory", "/acme/directory", true, NULL, NULL},
        {"/acme/order/7", "/acme/order/:id", true, "7", NULL},
        {"/a/7/b/8", "/a/:x/b/:y", true, "7", "8"},
        {"/acme/order/7/", "/acme/order/:id", false, NULL, NULL},
        {"/acme/order/", "/acme/order/:id", false, NULL, NULL},
        {"/acme/order", "/acme/order/:id", false, NULL, NULL},
        {"/acme/order/7/finalize", "/acme/order/:id", false, NULL, NULL},
        {"/acme/orders/7", "/acme/order/:id", false, NULL, NULL},
        {"/acme/orde/7", "/acme/order/:id", false, NULL, NULL},
        {"/a/1/2/3", "/a/:x/:y/:z", false, NULL, NULL}, /* more than the caller's array holds */
        {"", "/", false, NULL, NULL},
        {"/a", "/", false, NULL, NULL},
    };
    char params[2][ACME_HTTP_PARAM_MAX + 1];
    char path[ACME_HTTP_PARAM_MAX + 8];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        if (acme_http_match(table[i].path, table[i].pattern, params, 2) != table[i].wanted)
            fail_msg("%s against %s", table[i].path, table[i].pattern);
        if (table[i].first != NULL)
            assert_string_equal(params[0], table[i].first);
        if (table[i].second != NULL)
            assert_string_equal(params[1], table[i].second);
    }
    snprintf(path, sizeof(path), "/%0*d", ACME_HTTP_PARAM_MAX, 1);
    assert_true(acme_http_match(path, "/:id", params, 1));
    snprintf(path, sizeof(path), "/%0*d", ACME_HTTP_PARAM_MAX + 1, 1);
    assert_false(acme_http_match(path, "/:id", params, 1));
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, http_group_start, http_group_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(a_request_reaches_the_handler_whole),
        WITH_SERVER(a_chunked_body_is_put_together),
        WITH_SERVER(every_method_reaches_the_handler),
        WITH_SERVER(head_is_answered_with_the_length_alone),
        WITH_SERVER(what_two_readers_could_read_in_two_ways_is_refused),
        WITH_SERVER(a_body_that_is_too_large_gets_413),
        WITH_SERVER(who_is_refused_while_it_sends_gets_to_read_why),
        WITH_SERVER(a_head_that_is_too_large_gets_431_or_414),
        WITH_SERVER(answers_carry_what_the_handler_said),
        WITH_SERVER(answers_are_dated),
        WITH_SERVER(a_client_that_waits_for_100_is_told_to_go_on),
        WITH_SERVER(clients_of_http_1_0_keep_their_connection_if_they_ask),
        WITH_SERVER(a_handler_that_says_nothing_or_cannot_be_quoted_gives_500),
        WITH_SERVER(pipelined_requests_are_answered_in_order),
        WITH_SERVER(who_has_nothing_more_to_ask_still_gets_the_answer),
        WITH_SERVER(a_large_answer_reaches_a_slow_reader_whole),
        cmocka_unit_test(patterns_match_segments),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
