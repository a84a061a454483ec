/* test_http_server.c - mirrors acme/src/http_server.c, and with it http_accept.c to http_tickets.c.
 */
#define _GNU_SOURCE /* strptime, timegm */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <acme/http_client.h>
#include <acme/http_server.h>
#include <acme/problem.h>
#include <certs/issue.h>

#include "http_fixture.h"

/* The library's monotonic clock is ahead by this when a test says so. */
static _Atomic time_t ahead_s;

int
clock_gettime(clockid_t clock, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, out);

    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE)
        out->tv_sec += ahead_s;
    return rc;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define REPLY_SIZE   65536 /* octets */
#define SOON_MS      5000 /* anything slower has failed */
#define LARGE        3000000
#define HOST         "Host: x\r\n"

/* ---- the handler: the path selects what it does ---- */

/* Handlers of "/wait" wait here until the test opens the gate. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_open;
    unsigned waiting, passed;
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0};

static void
gate_pass(void)
{
    pthread_mutex_lock(&gate.mutex);
    gate.waiting++;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open)
        pthread_cond_wait(&gate.changed, &gate.mutex);
    gate.waiting--;
    gate.passed++;
    pthread_mutex_unlock(&gate.mutex);
}

static void
gate_set(bool is_open)
{
    pthread_mutex_lock(&gate.mutex);
    gate.is_open = is_open;
    gate.passed = 0;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

static void
gate_await(unsigned waiting)
{
    pthread_mutex_lock(&gate.mutex);
    while (gate.waiting < waiting)
        pthread_cond_wait(&gate.changed, &gate.mutex);
    pthread_mutex_unlock(&gate.mutex);
}

static json_t *
text_or_null(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

/* Everything that a handler can see, as JSON. */
static void
describe(const struct acme_http_request *request, struct acme_http_response *response)
{
    size_t len;
    const char *body = acme_http_request_body(request, &len);
    json_t *seen = json_object();

    json_object_set_new(seen, "method", json_integer(acme_http_request_method(request)));
    json_object_set_new(seen, "path", text_or_null(acme_http_request_path(request)));
    json_object_set_new(seen, "query", text_or_null(acme_http_request_query(request)));
    json_object_set_new(seen, "x", text_or_null(acme_http_request_header(request, "X-Value")));
    json_object_set_new(seen, "peer", text_or_null(acme_http_request_peer(request)));
    json_object_set_new(seen, "local", json_boolean(acme_http_request_is_local(request)));
    json_object_set_new(seen, "client", text_or_null(acme_http_request_client(request)));
    json_object_set_new(seen, "body", json_stringn(body, len));
    acme_http_respond_json(response, 200, "application/json", seen);
}

static void
respond_large(struct acme_http_response *response)
{
    char *octets = malloc(LARGE);

    memset(octets, 'l', LARGE);
    acme_http_respond(response, 200, "text/plain", octets, LARGE);
    free(octets);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);

    (void)context;
    if (strcmp(path, "/wait") == 0) {
        gate_pass();
        acme_http_respond(response, 200, "text/plain", "waited", 6);
    } else if (strcmp(path, "/wait/large") == 0) {
        gate_pass();
        respond_large(response);
    } else if (strcmp(path, "/large") == 0) {
        respond_large(response);
    } else if (strcmp(path, "/header") == 0) {
        acme_http_response_header(response, "X-Bad", "a\r\nX-Injected: b");
        acme_http_respond(response, 200, "text/plain", "x", 1);
    } else if (strcmp(path, "/headers") == 0) {
        acme_http_response_header(response, "Link", "<1>");
        acme_http_response_header(response, "Link", "<2>");
        acme_http_respond(response, 201, NULL, NULL, 0);
    } else if (strcmp(path, "/none") == 0) {
        acme_http_respond(response, 204, NULL, NULL, 0);
    } else if (strcmp(path, "/problem") == 0) {
        acme_problem_respond(response, ACME_MALFORMED, 405, "GET is not for this");
    } else if (strcmp(path, "/silent") != 0) {
        describe(request, response);
    }
}

static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, "/quick") == 0;
}

static const struct acme_http_handler handler = {.handle = handle, .is_quick = is_quick};

static struct http_peer peer;
static char reply[REPLY_SIZE];

static int
start(void **state)
{
    (void)state;
    gate_set(false);
    http_peer_start(&peer, 4, handler, NULL);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    gate_set(true);
    return http_peer_stop(&peer) == HSM_OK ? 0 : -1;
}

/* Send octets over a new Unix connection and read until the server closes. */
static const char *
exchange(const char *text, size_t len)
{
    int fd = http_connect_unix(&peer);

    assert_true(fd >= 0);
    http_send(fd, text, len);
    if (http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) < 0)
        fail_msg("not closed after: %s", text);
    close(fd);
    return reply;
}

static bool
starts_with(const char *text, const char *start_text)
{
    return strncmp(text, start_text, strlen(start_text)) == 0;
}

static const char *
body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

/* ---- TLS peers that send raw octets ---- */

static SSL_CTX *
tls_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_load_verify_file(ctx, http_ca_path), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

static SSL *
tls_connect(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);
    int fd = http_connect_tcp(&peer);

    assert_true(fd >= 0);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void
tls_close(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_free(ssl);
    close(fd);
}

/* Close so that the server receives a reset. */
static void
tls_reset(SSL *ssl)
{
    const struct linger now = {1, 0};

    setsockopt(SSL_get_fd(ssl), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    tls_close(ssl);
}

static void
tls_send(SSL *ssl, const char *text)
{
    assert_int_equal(SSL_write(ssl, text, (int)strlen(text)), strlen(text));
}

/* Read until the server ends the connection properly, with close_notify. */
static const char *
tls_receive(SSL *ssl)
{
    size_t len = 0;
    int n;

    while ((n = SSL_read(ssl, reply + len, (int)(sizeof(reply) - len - 1))) > 0)
        len += (size_t)n;
    reply[len] = '\0';
    assert_int_equal(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN);
    return reply;
}

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

/* ---- slow, greedy and vanishing peers ---- */

/* Peers that never finish a request, with a timeout of one second. */
static void
who_does_not_finish_a_request_is_closed(void **state)
{
    static const char half[] = "POST /half HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nhal";
    static const char chunks[] = "POST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n";
    static char zeros[4096];
    const struct acme_http_server_config patience = {.idle_s = 1};
    int fds[5];
    unsigned open_count = COUNT(fds);

    (void)state;
    http_peer_start(&peer, 1, handler, &patience);
    memset(zeros, '0', sizeof(zeros));
    for (size_t i = 0; i < COUNT(fds); i++)
        fds[i] = i == 4 ? http_connect_tcp(&peer) : http_connect_unix(&peer);
    http_send(fds[1], half, strlen(half));
    http_send(fds[2], chunks, strlen(chunks));
    /* 6 s: twice the timeout, and the interval of the sweep */
    for (int i = 0; i < 60 && open_count > 0; i++) {
        if (fds[2] >= 0) /* a chunk size that never ends */
            send(fds[2], zeros, sizeof(zeros), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (fds[3] >= 0) /* one octet at a time */
            send(fds[3], "G", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        usleep(20000);
        for (size_t k = 0; k < COUNT(fds); k++) {
            if (fds[k] >= 0 && http_is_closed(fds[k], 16)) {
                close(fds[k]);
                fds[k] = -1;
                open_count--;
            }
        }
    }
    assert_int_equal(open_count, 0);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* A connection that is served; retried while the server has not yet noticed that others are
 * closed. */
static int
connect_served(const char *text)
{
    for (int i = 0; i < SOON_MS / 10; i++) {
        int fd = http_connect_unix(&peer);

        assert_true(fd >= 0);
        http_send(fd, text, strlen(text));
        if (http_receive(fd, reply, sizeof(reply), "\"body\"", 1, SOON_MS) > 0)
            return fd;
        close(fd);
        usleep(10000);
    }
    fail_msg("not served");
    return -1;
}

/* A nearly full server closes silent connections early, so the last one admitted is served. */
static void
where_many_are_who_says_nothing_is_not_waited_for(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    const struct acme_http_server_config limit = {.connections_max = 8};
    int fds[7];

    (void)state;
    http_peer_start(&peer, 1, handler, &limit);
    for (size_t i = 0; i < COUNT(fds); i++)
        fds[i] = http_connect_unix(&peer);
    http_send(fds[0], text, 10);
    exchange(text, strlen(text));
    assert_true(starts_with(reply, "HTTP/1.1 200 "));
    assert_false(http_is_closed(fds[0], 1000));
    assert_true(http_is_closed(fds[0], 2 * SOON_MS));
    assert_false(http_is_closed(fds[1], 1000)); /* there is room now */
    for (size_t i = 0; i < COUNT(fds); i++)
        close(fds[i]);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* The handler takes longer than the timeout of a connection, and the peer reads slowly. */
static void
an_answer_has_its_own_time(void **state)
{
    static const char text[] = "GET /wait/large HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    const struct acme_http_server_config patience = {.idle_s = 1};
    size_t size = LARGE + REPLY_SIZE, len = 0;
    char *whole = malloc(size);
    ssize_t n;
    int fd;

    (void)state;
    gate_set(false);
    http_peer_start(&peer, 1, handler, &patience);
    fd = http_connect_unix(&peer);
    http_send(fd, text, strlen(text));
    gate_await(1);
    usleep(3200000);
    gate_set(true);
    while ((n = read(fd, whole + len, len + LARGE / 20 < size ? LARGE / 20 : size - len)) > 0) {
        len += (size_t)n;
        usleep(75000); /* 1.5 s in all, with a check of the connections each second */
    }
    whole[len] = '\0';
    assert_int_equal(strlen(body_of(whole)), LARGE);
    free(whole);
    close(fd);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* The memory for answers is bounded: the connection that has not read for the longest time is cut
 * off. */
static void
answers_that_nobody_takes_are_not_kept_without_end(void **state)
{
    static const char text[] = "GET /large HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    size_t size = LARGE + REPLY_SIZE;
    char *whole = malloc(size);
    int fds[64 * 1024 * 1024 / LARGE + 6];

    (void)state;
    for (size_t i = 0; i < COUNT(fds); i++) {
        fds[i] = http_connect_unix(&peer);
        http_send(fds[i], text, strlen(text));
        assert_true(http_receive(fds[i], reply, 2, "H", 1, SOON_MS) > 0); /* being sent */
    }
    assert_true(http_receive(fds[0], whole, size, NULL, 0, SOON_MS) >= 0);
    assert_true(strlen(whole) < LARGE);
    assert_true(http_receive(fds[COUNT(fds) - 1], whole, size, NULL, 0, SOON_MS) > 0);
    assert_int_equal(strlen(body_of(whole)), LARGE);
    for (size_t i = 0; i < COUNT(fds); i++)
        close(fds[i]);
    free(whole);
}

static void
descriptors_are_left_for_what_the_process_does(void **state)
{
    struct rlimit before, fewer;
    int fds[17];

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    fewer = before;
    fewer.rlim_cur = 4 * (COUNT(fds) - 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &fewer), 0);
    http_peer_start(&peer, 1, handler, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (size_t i = 0; i < COUNT(fds) - 1; i++)
        fds[i] = connect_served("GET / HTTP/1.1\r\n" HOST "\r\n");
    fds[COUNT(fds) - 1] = http_connect_unix(&peer);
    assert_true(http_is_closed(fds[COUNT(fds) - 1], SOON_MS));
    for (size_t i = 0; i < COUNT(fds); i++)
        close(fds[i]);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* The server writes to a closed connection, or finds it closed before it can write. */
static void
peers_may_vanish_while_their_request_is_handled(void **state)
{
    static const char text[] = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    static const char after[] = "GET /after HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    SSL_CTX *ctx = tls_context();
    int fds[4];
    SSL *tls[4];

    (void)state;
    for (int round = 0; round < 10; round++) {
        gate_set(false);
        for (size_t i = 0; i < 4; i++) {
            fds[i] = http_connect_unix(&peer);
            http_send(fds[i], text, strlen(text));
            tls[i] = tls_connect(ctx);
            tls_send(tls[i], i % 2 == 0 ? text : "GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /half");
        }
        gate_await(4);
        for (size_t i = 0; i < 4; i++) {
            close(fds[i]);
            if (i < 2)
                tls_reset(tls[i]);
            else
                tls_close(tls[i]);
        }
        gate_set(true);
        assert_true(starts_with(exchange(after, strlen(after)), "HTTP/1.1 200 "));
    }
    SSL_CTX_free(ctx);
}

static size_t
count_lines(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

/* An answer that no peer waits for is logged, except when the peer has only closed its sending
 * side. */
static void
an_answer_that_nobody_waits_for_is_told(void **state)
{
    static const char text[] = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    static const char other[] = "GET /quick HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    int standard = dup(STDERR_FILENO);

    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        FILE *log = tmpfile();
        char told[4096] = "";
        int fd = http_connect_unix(&peer);

        gate_set(false);
        http_send(fd, text, strlen(text));
        gate_await(1);
        dup2(fileno(log), STDERR_FILENO);
        if (gone)
            close(fd);
        else
            assert_int_equal(shutdown(fd, SHUT_WR), 0);
        for (int i = 0; i < 3; i++) /* run the loop */
            exchange(other, strlen(other));
        gate_set(true);
        if (!gone)
            assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
        for (int i = 0; i < SOON_MS && count_lines(told) < 4; i++) { /* until all are logged */
            usleep(1000);
            memset(told, 0, sizeof(told));
            assert_true(pread(fileno(log), told, sizeof(told) - 1, 0) >= 0);
        }
        dup2(standard, STDERR_FILENO);
        fclose(log);
        if (!gone)
            close(fd);
        assert_int_equal(strstr(told, "(the peer is gone)") != NULL, gone);
    }
    close(standard);
}

static void
peers_may_vanish_anywhere_in_tls(void **state)
{
    static const char after[] = "GET /after HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    SSL_CTX *ctx = tls_context();

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = http_connect_tcp(&peer);
        SSL *ssl = tls_connect(ctx);

        assert_true(fd >= 0);
        if (i % 2 == 0) /* an incomplete ClientHello, or not TLS at all */
            http_send(fd, i % 4 == 0 ? "\x16\x03\x01\x02" : "GET / HTTP/1.1\r\n\r\n", 4);
        close(fd);
        tls_send(ssl, "GET /large HTTP/1.1\r\n" HOST "\r\n");
        tls_reset(ssl);
    }
    assert_true(starts_with(exchange(after, strlen(after)), "HTTP/1.1 200 "));
    SSL_CTX_free(ctx);
}

static void
more_connections_than_the_limit_are_closed(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    const struct acme_http_server_config limit = {.connections_max = 3};
    int fds[4];

    (void)state;
    http_peer_start(&peer, 1, handler, &limit);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 3; i++)
            fds[i] = connect_served(text);
        fds[3] = http_connect_unix(&peer);
        assert_true(http_is_closed(fds[3], SOON_MS));
        http_send(fds[0], text, strlen(text)); /* the others are still served */
        assert_true(http_receive(fds[0], reply, sizeof(reply), "\"body\"", 1, SOON_MS) > 0);
        for (size_t i = 0; i < 4; i++)
            close(fds[i]);
    }
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static void
handlers_that_wait_do_not_hold_up_the_others(void **state)
{
    static const char slow[] = "GET /wait HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char quick[] = "GET /quick HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    int fds[64];

    (void)state;
    for (size_t i = 0; i < COUNT(fds); i++) {
        fds[i] = http_connect_unix(&peer);
        assert_true(fds[i] >= 0);
        http_send(fds[i], slow, strlen(slow));
    }
    gate_await(4); /* all threads are busy */
    assert_true(starts_with(exchange(quick, strlen(quick)), "HTTP/1.1 200 "));
    gate_set(true);
    for (size_t i = 0; i < COUNT(fds); i++) {
        assert_true(http_receive(fds[i], reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
        assert_true(starts_with(reply, "HTTP/1.1 200 "));
        close(fds[i]);
    }
}

static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, "/wait") == 0;
}

/* Such a handler waits, for example, for the server of a caller's certificate. */
static void
handlers_that_wait_for_others_leave_a_thread(void **state)
{
    static const char slow[] = "GET /wait HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char other[] = "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    const struct acme_http_handler with = {.handle = handle, .is_slow = is_slow};
    int fds[16];

    (void)state;
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        gate_set(false);
        http_peer_start(&peer, threads, with, NULL);
        for (size_t i = 0; i < COUNT(fds); i++) {
            fds[i] = http_connect_unix(&peer);
            http_send(fds[i], slow, strlen(slow));
        }
        gate_await(threads == 1 ? 1 : threads - 1);
        for (int i = 0; threads > 1 && i < 3; i++)
            assert_true(starts_with(exchange(other, strlen(other)), "HTTP/1.1 200 "));
        gate_set(true);
        for (size_t i = 0; i < COUNT(fds); i++) {
            assert_true(http_receive(fds[i], reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
            assert_true(starts_with(reply, "HTTP/1.1 200 "));
            close(fds[i]);
        }
        assert_int_equal(http_peer_stop(&peer), HSM_OK);
    }
}

static bool
is_brief(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, "/brief") == 0;
}

static void
tell_thread(void *context, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    const char *where = pthread_equal(pthread_self(), peer.thread) ? "loop" : "pool";

    (void)context;
    if (strcmp(acme_http_request_path(request), "/wait") == 0)
        gate_pass();
    acme_http_respond(response, 200, "text/plain", where, strlen(where));
}

static void
brief_requests_stay_in_the_loop_while_it_has_nothing_else(void **state)
{
    static const char brief[] = "GET /brief HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char other[] = "GET /other HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char waits[] = "GET /wait HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    const struct acme_http_handler with = {.handle = tell_thread, .is_brief = is_brief};
    int fd;

    (void)state;
    gate_set(false);
    http_peer_start(&peer, 2, with, NULL);
    assert_string_equal(body_of(exchange(brief, strlen(brief))), "loop");
    assert_string_equal(body_of(exchange(other, strlen(other))), "pool");
    fd = http_connect_unix(&peer);
    http_send(fd, waits, strlen(waits));
    gate_await(1);
    assert_string_equal(body_of(exchange(brief, strlen(brief))), "pool");
    gate_set(true);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    close(fd);
    assert_string_equal(body_of(exchange(brief, strlen(brief))), "loop");
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static bool
may_open(size_t count)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < count)
        return false;
    if (limit.rlim_cur < count)
        limit.rlim_cur = count;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static void
more_requests_than_the_queue_holds_get_503(void **state)
{
    static const char text[] = "GET /wait HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    enum {
        held = ACME_HTTP_QUEUE_MAX + 1,
        count = held + 3
    };
    static int fds[count];
    const struct acme_http_server_config limit = {.connections_max = 2 * count};
    size_t good = 0;
    size_t busy = 0;

    (void)state;
    if (!may_open(3 * count)) {
        printf("the limit of open files is too low for this test\n");
        skip();
    }
    gate_set(false);
    http_peer_start(&peer, 1, handler, &limit);
    for (size_t i = 0; i < count; i++) {
        fds[i] = http_connect_unix(&peer);
        assert_true(fds[i] >= 0);
        http_send(fds[i], text, strlen(text));
        if (i == 0)
            /* the thread is busy and the queue is empty */
            gate_await(1);
    }
    for (size_t i = held; i < count; i++) /* requests arrive in order */
        assert_true(http_receive(fds[i], reply, sizeof(reply), "\r\n\r\n", 1, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 503 "));
    assert_non_null(strstr(reply, "\r\nRetry-After: 1\r\n"));
    gate_set(true);
    for (size_t i = 0; i < held; i++) {
        assert_true(http_receive(fds[i], reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
        good += starts_with(reply, "HTTP/1.1 200 ");
        busy += starts_with(reply, "HTTP/1.1 503 ");
    }
    assert_int_equal(good, held);
    assert_int_equal(busy, 0);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* Take all free descriptors; returns their number. */
static size_t
exhaust(int *fds, size_t max)
{
    size_t count = 0;

    while (count < max && (fds[count] = dup(STDERR_FILENO)) >= 0)
        count++;
    assert_int_equal(errno, EMFILE);
    return count;
}

static void
a_server_out_of_descriptors_waits_quietly_and_recovers(void **state)
{
    static const char text[] = "GET /late HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static int taken[4096];
    struct rlimit before, fewer;
    FILE *log = tmpfile();
    int standard = dup(STDERR_FILENO);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t count;

    (void)state;
    snprintf(name.sun_path, sizeof(name.sun_path), "%.107s", peer.socket);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    fewer = before;
    fewer.rlim_cur = (rlim_t)fd + 10;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &fewer), 0);
    count = exhaust(taken, COUNT(taken));
    dup2(fileno(log), STDERR_FILENO);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    http_send(fd, text, strlen(text));
    assert_int_equal(http_receive(fd, reply, sizeof(reply), NULL, 0, 200), -1);
    dup2(standard, STDERR_FILENO);
    close(standard);
    assert_in_range(lseek(fileno(log), 0, SEEK_END), 1, 1000); /* octets: a line or two */
    fclose(log);
    while (count > 0)
        close(taken[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 200 "));
    close(fd);
}

/* ---- listening ---- */

static struct acme_http_server_config
tls_config(const char *address)
{
    return (struct acme_http_server_config){.address = address,
                                            .tls_key = http_server_id.key,
                                            .tls_chain = http_server_id.chain,
                                            .handler = handler};
}

static void
a_certificate_of_another_key_is_refused_at_once(void **state)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");
    struct acme_http_loop *loop = NULL;
    struct certs_chain *empty = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    config.tls_key = http_other_id.key;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_chain_new(&empty), HSM_OK);
    config.tls_chain = empty;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_UNTRUSTED);
    config = tls_config("127.0.0.1:0");
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    assert_int_not_equal(acme_http_loop_port(loop, 0), 0);
    assert_int_equal(acme_http_loop_port(loop, 1), 0);
    acme_http_loop_free(loop);
    certs_chain_free(empty);
}

/* The clock may be wrong, so this is only logged and left to the operator. */
static void
a_certificate_that_has_ended_is_told(void **state)
{
    struct certs_issue_request request = {.profile = CERTS_PROFILE_TLS_ROOT,
                                          .subject = {.common_name = "ended"},
                                          .public_key = hsm_key_public(http_server_id.key),
                                          .serial = {1},
                                          .serial_len = CERTS_SERIAL_MAX,
                                          .not_before = time(NULL) - 7200};
    int standard = dup(STDERR_FILENO);

    (void)state;
    for (int ended = 0; ended < 2; ended++) {
        struct acme_http_server_config config = tls_config("127.0.0.1:0");
        struct acme_http_loop *loop = NULL;
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};
        FILE *log = tmpfile();
        X509 *cert = NULL;
        char text[2048] = "";

        request.not_after = time(NULL) + (ended ? -60 : 3600);
        assert_int_equal(certs_issue(&request, NULL, http_server_id.key, &cert, &why), HSM_OK);
        assert_int_equal(certs_chain_new(&chain), HSM_OK);
        assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
        config.tls_chain = chain;
        assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
        dup2(fileno(log), STDERR_FILENO);
        assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
        dup2(standard, STDERR_FILENO);
        assert_true(pread(fileno(log), text, sizeof(text) - 1, 0) >= 0);
        assert_int_equal(strstr(text, "has ended") != NULL, ended);
        acme_http_loop_free(loop);
        certs_chain_free(chain);
        X509_free(cert);
        fclose(log);
    }
    close(standard);
}

static void
tls_is_for_tcp_and_only_for_tcp(void **state)
{
    struct acme_http_server_config config = tls_config("unix:/tmp/sti-never.sock");
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    config = tls_config("127.0.0.1:0");
    config.tls_key = NULL;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    assert_int_equal(access("/tmp/sti-never.sock", F_OK), -1);
    acme_http_loop_free(loop);
}

static void
what_is_no_address_is_refused(void **state)
{
    static const char *const addresses[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        ":8443",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "::1:8443",
        "[::1]",
        "[::1:8443",
        "::1]:1",
        "localhost:8443",
        "192.0.2.1:1",
        "127.0.0.1:8443:1",
        "/tmp/a.sock",
    };
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct acme_http_server_config config = tls_config(addresses[i]);

        if (acme_http_loop_listen(loop, &config) != HSM_ERR_IO)
            fail_msg("%s", addresses[i]);
    }
    acme_http_loop_free(loop);
}

static void
a_port_that_is_taken_is_refused(void **state)
{
    char address[32];
    struct acme_http_loop *loop = NULL;
    struct acme_http_server_config config = tls_config("127.0.0.1:0");

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    snprintf(address, sizeof(address), "127.0.0.1:%u", acme_http_loop_port(loop, 0));
    config = tls_config(address);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_IO);
    acme_http_loop_free(loop);
}

static void
a_unix_socket_is_for_its_owner_and_replaces_only_a_stale_one(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char address[64];
    struct acme_http_server_config config = {.address = address, .handler = handler};
    struct acme_http_loop *loop = NULL;
    struct acme_http_loop *second = NULL;
    struct stat about;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    FILE *file;

    (void)state;
    snprintf(name.sun_path, sizeof(name.sun_path), "/tmp/sti-own-%d.sock", (int)getpid());
    snprintf(address, sizeof(address), "unix:/tmp/sti-own-%d.sock", (int)getpid());
    assert_int_equal(bind(stale, (struct sockaddr *)&name, sizeof(name)), 0);
    close(stale);
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_new(1, &second), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK); /* replaces the stale one */
    assert_int_equal(stat(name.sun_path, &about), 0);
    assert_true(S_ISSOCK(about.st_mode));
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(acme_http_loop_listen(second, &config), HSM_ERR_IO); /* in use */
    acme_http_loop_free(loop);
    assert_int_equal(access(name.sun_path, F_OK), -1); /* removed with its server */
    file = fopen(name.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(acme_http_loop_listen(second, &config), HSM_ERR_IO); /* not a socket */
    assert_int_equal(access(name.sun_path, F_OK), 0);
    unlink(name.sun_path);
    acme_http_loop_free(second);
}

static void
old_tls_and_plain_text_are_refused(void **state)
{
    SSL_CTX *ctx = tls_context();
    SSL *ssl;
    int fd = http_connect_tcp(&peer);

    (void)state;
    http_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) >= 0);
    assert_null(strstr(reply, "HTTP"));
    close(fd);
    SSL_CTX_set_security_level(ctx, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION), 1);
    ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(&peer)), 1);
    assert_int_not_equal(SSL_connect(ssl), 1);
    tls_close(ssl);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
    ssl = tls_connect(ctx);
    assert_string_equal(SSL_get_version(ssl), "TLSv1.2");
    tls_close(ssl);
    SSL_CTX_free(ctx);
}

static void
accepted_connections_do_not_wait_for_acknowledgements(void **state)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");
    struct acme_http_loop *loop = NULL;
    int found = 0;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    for (int fd = 0; fd < 256; fd++) { /* find the listening one */
        struct sockaddr_in name;
        socklen_t len = sizeof(name);
        int value = 0;
        socklen_t value_len = sizeof(value);

        if (getsockname(fd, (struct sockaddr *)&name, &len) != 0 || name.sin_family != AF_INET ||
            ntohs(name.sin_port) != acme_http_loop_port(loop, 0))
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &value_len), 0);
        found += value != 0;
    }
    assert_int_equal(found, 1);
    acme_http_loop_free(loop);
}

/* ---- sockets that processes share ---- */

/* A separate loop on a shared socket, as in a worker process. */
static void
share(struct http_peer *sharer, const struct acme_http_listener *listener, const char *address,
      unsigned connections_max)
{
    struct acme_http_server_config config = tls_config(address);

    if (strncmp(address, "unix:", 5) == 0) {
        config.tls_key = NULL;
        config.tls_chain = NULL;
    }
    config.listener = listener;
    config.connections_max = connections_max;
    memset(sharer, 0, sizeof(*sharer));
    assert_int_equal(acme_http_loop_new(1, &sharer->loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(sharer->loop, &config), HSM_OK);
    sharer->port = acme_http_loop_port(sharer->loop, 0);
    assert_int_equal(sharer->port, acme_http_listener_port(listener));
    http_peer_run(sharer);
}

static SSL *
tls_connect_to(SSL_CTX *ctx, const struct http_peer *to, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(ctx);

    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(to)), 1);
    if (session != NULL)
        assert_int_equal(SSL_set_session(ssl, session), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void
a_session_is_resumed_by_another_that_shares_the_socket(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct acme_http_listener *listener = NULL;
    struct http_peer one, two;
    SSL_SESSION *session;
    SSL *ssl;

    (void)state;
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    assert_int_not_equal(acme_http_listener_port(listener), 0);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1); /* ticket at once */
    share(&one, listener, "127.0.0.1:0", 0);
    ssl = tls_connect_to(ctx, &one, NULL);
    assert_false(SSL_session_reused(ssl));
    session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&one), HSM_OK);
    share(&two, listener, "127.0.0.1:0", 0); /* the socket is still open */
    ssl = tls_connect_to(ctx, &two, session);
    assert_true(SSL_session_reused(ssl));
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&two), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    acme_http_listener_close(listener);
    acme_http_listener_close(NULL);
}

/* Ticket keys last 12 hours and are accepted for 12 more; a resumed session gets a new ticket. */
static void
a_session_is_resumed_with_the_last_but_one_ticket_keys_at_most(void **state)
{
    static const struct {
        time_t hours; /* since the ticket before it */
        bool resumed;
    } cases[] = {{0, true}, {13, true}, {13, true}, {25, false}};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct acme_http_listener *listener = NULL;
    SSL_SESSION *first, *session;
    struct http_peer sharer;
    SSL *ssl;

    (void)state;
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1); /* ticket at once */
    share(&sharer, listener, "127.0.0.1:0", 0);
    ssl = tls_connect_to(ctx, &sharer, NULL);
    first = SSL_get1_session(ssl);
    session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ahead_s += cases[i].hours * 3600;
        ssl = tls_connect_to(ctx, &sharer, session);
        assert_int_equal(SSL_session_reused(ssl), cases[i].resumed);
        SSL_SESSION_free(session);
        session = SSL_get1_session(ssl);
        (void)SSL_shutdown(ssl);
        tls_close(ssl);
    }
    ssl = tls_connect_to(ctx, &sharer, first);
    assert_false(SSL_session_reused(ssl));
    tls_close(ssl);
    ahead_s = 0;
    assert_int_equal(http_peer_stop(&sharer), HSM_OK);
    SSL_SESSION_free(first);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    acme_http_listener_close(listener);
}

static void
one_that_is_full_leaves_connections_to_the_others(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct acme_http_listener *listener = NULL;
    struct http_peer small, large;
    char answer[512];
    SSL *tls[5];

    (void)state;
    gate_set(true);
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    share(&small, listener, "127.0.0.1:0", 1);
    tls[0] = tls_connect_to(ctx, &small, NULL);
    share(&large, listener, "127.0.0.1:0", 10);
    for (int i = 1; i < 5; i++)
        tls[i] = tls_connect_to(ctx, &small, NULL);
    for (int i = 0; i < 5; i++) {
        assert_true(SSL_write(tls[i], request, (int)strlen(request)) > 0);
        assert_true(SSL_read(tls[i], answer, sizeof(answer)) > 0);
        assert_true(starts_with(answer, "HTTP/1.1 200 "));
        tls_close(tls[i]);
    }
    assert_int_equal(http_peer_stop(&small), HSM_OK);
    assert_int_equal(http_peer_stop(&large), HSM_OK);
    SSL_CTX_free(ctx);
    acme_http_listener_close(listener);
}

static void
the_file_of_a_shared_unix_socket_goes_with_the_listener(void **state)
{
    char address[64];
    const char *path = address + strlen("unix:");
    struct acme_http_listener *listener = NULL, *second = NULL;
    struct http_peer worker;

    (void)state;
    snprintf(address, sizeof(address), "unix:/tmp/sti-shared-%d.sock", (int)getpid());
    assert_int_equal(acme_http_listener_open(address, &listener), HSM_OK);
    assert_int_equal(acme_http_listener_open(address, &second), HSM_ERR_IO); /* in use */
    share(&worker, listener, address, 0);
    assert_int_equal(http_peer_stop(&worker), HSM_OK);
    assert_int_equal(access(path, F_OK), 0);
    acme_http_listener_close(listener);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(acme_http_listener_open("127.0.0.1", &listener), HSM_ERR_IO);
}

/* ---- client certificates ---- */

static enum hsm_status
fetch_as(const struct http_identity *id, struct acme_http_reply *out)
{
    const struct acme_http_client_config config = {.tls_ca = http_ca_path,
                                                   .client_key = id != NULL ? id->key : NULL,
                                                   .client_chain = id != NULL ? id->chain : NULL};
    struct acme_http_client *client = NULL;
    struct acme_http_fetch fetch = {.method = "GET", .reply_max = 4096, .timeout_ms = SOON_MS};
    struct hsm_reason why;
    char url[64];
    enum hsm_status st;

    assert_int_equal(acme_http_client_new(&config, &client), HSM_OK);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/", peer.port);
    fetch.url = url;
    st = acme_http_fetch(client, &fetch, out, &why);
    acme_http_client_free(client);
    return st;
}

static void
the_handler_learns_who_showed_a_certificate(void **state)
{
    const struct acme_http_server_config config = {.client_anchors = http_anchors};
    struct acme_http_reply answer;

    (void)state;
    http_peer_start(&peer, 1, handler, &config);
    assert_int_equal(fetch_as(&http_client_id, &answer), HSM_OK);
    assert_non_null(strstr(answer.body, "\"client\":\"CN=client\""));
    assert_non_null(strstr(answer.body, "\"peer\":\"127.0.0.1\",\"local\":false"));
    acme_http_reply_clear(&answer);
    assert_int_equal(fetch_as(NULL, &answer), HSM_OK);
    assert_non_null(strstr(answer.body, "\"client\":null"));
    acme_http_reply_clear(&answer);
    assert_int_equal(fetch_as(&http_other_id, &answer), HSM_ERR_BUSY); /* of an unknown root */
    assert_int_equal(fetch_as(&http_server_id, &answer), HSM_ERR_BUSY); /* for serverAuth only */
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* A worker on a shared socket that trusts clients under these anchors. */
static void
share_under(struct http_peer *sharer, const struct acme_http_listener *listener,
            const struct certs_chain *anchors)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");

    config.listener = listener;
    config.client_anchors = anchors;
    memset(sharer, 0, sizeof(*sharer));
    assert_int_equal(acme_http_loop_new(1, &sharer->loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(sharer->loop, &config), HSM_OK);
    sharer->port = acme_http_loop_port(sharer->loop, 0);
    http_peer_run(sharer);
}

/* A client that receives its ticket before the first answer. */
static SSL_CTX *
client_context(const struct http_identity *id)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_use_certificate(ctx, certs_chain_get(id->chain, 0)), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, hsm_key_pkey(id->key)), 1);
    return ctx;
}

/* Ask the server for the client's name over this connection and close it; *session may be NULL. */
static void
assert_client(SSL *ssl, const char *wanted, SSL_SESSION **session)
{
    tls_send(ssl, "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(tls_receive(ssl), wanted));
    if (session != NULL)
        *session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
}

static void
a_session_is_not_resumed_where_other_clients_are_trusted(void **state)
{
    SSL_CTX *ctx = client_context(&http_client_id);
    struct acme_http_listener *listener = NULL;
    struct certs_chain *others = NULL;
    SSL_SESSION *session = NULL;
    struct http_peer before, after;
    SSL *ssl;

    (void)state;
    assert_int_equal(certs_chain_read(http_other_ca_path, &others), HSM_OK);
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    share_under(&before, listener, http_anchors);
    assert_client(tls_connect_to(ctx, &before, NULL), "\"client\":\"CN=client\"", &session);
    ssl = tls_connect_to(ctx, &before, session);
    assert_true(SSL_session_reused(ssl));
    assert_client(ssl, "\"client\":\"CN=client\"", NULL);
    assert_int_equal(http_peer_stop(&before), HSM_OK);
    share_under(&after, listener, others); /* as after a reload */
    ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(&after)), 1);
    assert_int_equal(SSL_set_session(ssl, session), 1);
    assert_int_not_equal(SSL_connect(ssl), 1); /* a certificate is requested, and refused */
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&after), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    certs_chain_free(others);
    acme_http_listener_close(listener);
}

static void
a_resumed_session_is_nobodys_once_the_certificate_has_ended(void **state)
{
    const struct acme_http_server_config config = {.client_anchors = http_anchors};
    const time_t end = time(NULL) + 2;
    struct http_identity brief;
    SSL_SESSION *session = NULL;
    SSL_CTX *ctx;
    SSL *ssl;

    (void)state;
    http_client_until("brief", end, &brief);
    ctx = client_context(&brief);
    http_peer_start(&peer, 1, handler, &config);
    assert_client(tls_connect_to(ctx, &peer, NULL), "\"client\":\"CN=brief\"", &session);
    while (time(NULL) <= end)
        usleep(100000);
    ssl = tls_connect_to(ctx, &peer, session);
    assert_true(SSL_session_reused(ssl));
    assert_client(ssl, "\"client\":null", NULL);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    http_identity_clear(&brief);
}

/* ---- stopping ---- */

static void
a_loop_stops_at_once_when_nothing_is_in_flight(void **state)
{
    int fd;

    (void)state;
    http_peer_start(&peer, 1, handler, NULL);
    fd = http_connect_unix(&peer);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    assert_true(http_is_closed(fd, SOON_MS));
    close(fd);
    http_peer_start(&peer, 1, handler, NULL);
    assert_int_equal(http_peer_stop(&peer), HSM_OK); /* possibly before it runs */
}

static void
what_is_in_flight_is_answered_before_the_end(void **state)
{
    static const char text[] = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    int fd, idle, i;

    (void)state;
    gate_set(false);
    http_peer_start(&peer, 1, handler, NULL);
    idle = http_connect_unix(&peer);
    fd = http_connect_unix(&peer);
    http_send(fd, text, strlen(text));
    gate_await(1);
    acme_http_loop_stop(peer.loop);
    assert_true(http_is_closed(idle, SOON_MS));
    for (i = 0; i < 100 && access(peer.socket, F_OK) == 0; i++) {
        int late = http_connect_unix(&peer);

        if (late < 0)
            break;
        close(late);
        usleep(10000);
    }
    assert_true(i < 100); /* no new connection is accepted */
    gate_set(true);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 200 "));
    assert_non_null(strstr(reply, "\r\nConnection: close\r\n"));
    assert_string_equal(body_of(reply), "waited");
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    close(fd);
    close(idle);
}

/* Another process serves from now on; open connections lose no request. */
static void
a_loop_that_drains_serves_each_open_connection_once_more(void **state)
{
    static const char text[] = "GET /once-more HTTP/1.1\r\n" HOST "\r\n";
    static const char waiting[] = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    int idle, busy, half, i;

    (void)state;
    gate_set(false);
    http_peer_start(&peer, 2, handler, NULL);
    idle = http_connect_unix(&peer);
    half = http_connect_unix(&peer);
    busy = http_connect_unix(&peer);
    http_send(half, text, 10);
    http_send(busy, waiting, strlen(waiting));
    gate_await(1);
    acme_http_loop_drain(peer.loop);
    for (i = 0; i < 100 && access(peer.socket, F_OK) == 0; i++) {
        int late = http_connect_unix(&peer);

        if (late < 0)
            break;
        close(late);
        usleep(10000);
    }
    assert_true(i < 100); /* no new connection is accepted */
    http_send(idle, text, strlen(text));
    http_send(half, text + 10, strlen(text) - 10);
    gate_set(true);
    for (i = 0; i < 3; i++) {
        int fd = i == 0 ? idle : i == 1 ? half : busy;

        assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0); /* then closed */
        assert_true(starts_with(reply, "HTTP/1.1 200 "));
        assert_non_null(strstr(reply, "\r\nConnection: close\r\n"));
        close(fd);
    }
    assert_int_equal(pthread_join(peer.thread, NULL), 0); /* ends when no connection is left */
    assert_int_equal(peer.result, HSM_OK);
    acme_http_loop_free(peer.loop);
}

static void
a_loop_that_drains_does_not_wait_for_who_says_nothing(void **state)
{
    int fd;

    (void)state;
    http_peer_start(&peer, 1, handler, NULL);
    fd = http_connect_unix(&peer);
    acme_http_loop_drain(peer.loop);
    assert_true(http_is_closed(fd, 2 * SOON_MS)); /* not only after 30 s */
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    acme_http_loop_free(peer.loop);
    close(fd);
}

static void
without_tls_there_is_loopback_only(void **state)
{
    static const struct {
        const char *address;
        bool is_valid, is_loopback;
    } cases[] = {
        {"127.0.0.1:0", true, true},
        {"[::1]:0", true, true},
        {"127.9.9.9:80", true, true},
        {"0.0.0.0:0", true, false},
        {"192.0.2.1:80", true, false},
        {"[::]:0", true, false},
        {"[2001:db8::1]:1", true, false},
        {"localhost:80", false, false},
        {"127.0.0.1", false, false},
        {"unix:/tmp/x", false, false},
        {"", false, false},
    };
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct acme_http_server_config config = {
            .address = cases[i].address, .without_tls = true, .handler = handler};

        if (acme_http_address_is_valid(cases[i].address) != cases[i].is_valid ||
            acme_http_address_is_loopback(cases[i].address) != cases[i].is_loopback)
            fail_msg("%s", cases[i].address);
        if (!cases[i].is_loopback)
            assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    }
    acme_http_loop_free(loop);
}

static void
sigterm_ends_the_loop(void **state)
{
    (void)state;
    gate_set(true);
    http_peer_start(&peer, 1, handler, NULL);
    for (int i = 0; i < 3; i++) /* it runs */
        exchange("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
                 strlen("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    assert_int_equal(peer.result, HSM_OK);
    acme_http_loop_free(peer.loop);
}

static void
count_tick(void *context)
{
    unsigned *count = context;

    (*count)++;
    if (*count == 2)
        (void)kill(getpid(), SIGINT); /* so that the test ends */
}

static void
ticks_come_every_second_and_sigint_ends_the_loop(void **state)
{
    struct acme_http_loop *loop = NULL;
    unsigned count = 0;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_every(loop, 0, count_tick, &count), HSM_ERR_USAGE);
    assert_int_equal(acme_http_loop_every(loop, 1, count_tick, &count), HSM_OK);
    assert_int_equal(acme_http_loop_run(loop), HSM_OK);
    assert_int_equal(count, 2);
    acme_http_loop_free(loop);
}

static void
count_and_wait(void *context)
{
    atomic_fetch_add((atomic_uint *)context, 1);
    gate_pass();
}

/* A tick may block on a token. Stopping the loop waits for it. */
static void
a_tick_that_waits_holds_up_nobody_and_is_not_called_again(void **state)
{
    atomic_uint count = 0;
    int fd;

    (void)state;
    gate_set(false);
    http_peer_listen(&peer, 2, handler, NULL);
    assert_int_equal(acme_http_loop_every(peer.loop, 1, count_and_wait, &count), HSM_OK);
    http_peer_run(&peer);
    gate_await(1);
    fd = http_connect_unix(&peer);
    http_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n", strlen("GET / HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(http_receive(fd, reply, sizeof(reply), "}", 1, SOON_MS) > 0);
    assert_true(starts_with(reply, "HTTP/1.1 200 "));
    usleep(1200000); /* the next one would be due */
    assert_int_equal(atomic_load(&count), 1);
    acme_http_loop_stop(peer.loop);
    assert_true(http_is_closed(fd, SOON_MS));
    close(fd);
    assert_int_equal(gate.passed, 0); /* it still blocks, and the loop waits for it */
    gate_set(true);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    assert_int_equal(gate.passed, 1);
}

static void
a_loop_has_1_to_64_threads(void **state)
{
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(0, &loop), HSM_ERR_USAGE);
    assert_int_equal(acme_http_loop_new(65, &loop), HSM_ERR_USAGE);
    assert_null(loop);
    assert_int_equal(acme_http_loop_new(64, &loop), HSM_OK);
    acme_http_loop_free(loop);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

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
        cmocka_unit_test(who_does_not_finish_a_request_is_closed),
        cmocka_unit_test(where_many_are_who_says_nothing_is_not_waited_for),
        cmocka_unit_test(an_answer_has_its_own_time),
        WITH_SERVER(answers_that_nobody_takes_are_not_kept_without_end),
        cmocka_unit_test(descriptors_are_left_for_what_the_process_does),
        WITH_SERVER(peers_may_vanish_while_their_request_is_handled),
        WITH_SERVER(an_answer_that_nobody_waits_for_is_told),
        WITH_SERVER(peers_may_vanish_anywhere_in_tls),
        cmocka_unit_test(more_connections_than_the_limit_are_closed),
        WITH_SERVER(handlers_that_wait_do_not_hold_up_the_others),
        cmocka_unit_test(handlers_that_wait_for_others_leave_a_thread),
        cmocka_unit_test(brief_requests_stay_in_the_loop_while_it_has_nothing_else),
        cmocka_unit_test(more_requests_than_the_queue_holds_get_503),
        WITH_SERVER(a_server_out_of_descriptors_waits_quietly_and_recovers),
        cmocka_unit_test(a_certificate_of_another_key_is_refused_at_once),
        cmocka_unit_test(a_certificate_that_has_ended_is_told),
        cmocka_unit_test(tls_is_for_tcp_and_only_for_tcp),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_port_that_is_taken_is_refused),
        cmocka_unit_test(a_unix_socket_is_for_its_owner_and_replaces_only_a_stale_one),
        WITH_SERVER(old_tls_and_plain_text_are_refused),
        cmocka_unit_test(accepted_connections_do_not_wait_for_acknowledgements),
        cmocka_unit_test(a_session_is_resumed_by_another_that_shares_the_socket),
        cmocka_unit_test(a_session_is_resumed_with_the_last_but_one_ticket_keys_at_most),
        cmocka_unit_test(one_that_is_full_leaves_connections_to_the_others),
        cmocka_unit_test(the_file_of_a_shared_unix_socket_goes_with_the_listener),
        cmocka_unit_test(the_handler_learns_who_showed_a_certificate),
        cmocka_unit_test(a_session_is_not_resumed_where_other_clients_are_trusted),
        cmocka_unit_test(a_resumed_session_is_nobodys_once_the_certificate_has_ended),
        cmocka_unit_test(a_loop_stops_at_once_when_nothing_is_in_flight),
        cmocka_unit_test(what_is_in_flight_is_answered_before_the_end),
        cmocka_unit_test(a_loop_that_drains_serves_each_open_connection_once_more),
        cmocka_unit_test(a_loop_that_drains_does_not_wait_for_who_says_nothing),
        cmocka_unit_test(without_tls_there_is_loopback_only),
        cmocka_unit_test(sigterm_ends_the_loop),
        cmocka_unit_test(ticks_come_every_second_and_sigint_ends_the_loop),
        cmocka_unit_test(a_tick_that_waits_holds_up_nobody_and_is_not_called_again),
        cmocka_unit_test(a_loop_has_1_to_64_threads),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
