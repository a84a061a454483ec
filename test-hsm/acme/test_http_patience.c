/* test_http_patience.c - mirrors acme/src/http_patience.c and http_connection.c: slow and vanishing
 * peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <acme/http_server.h>

#include "http_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Close so that the server receives a reset. */
static void
tls_reset(SSL *ssl)
{
    const struct linger now = {1, 0};

    setsockopt(SSL_get_fd(ssl), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    tls_close(ssl);
}

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

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, http_group_start, http_group_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_does_not_finish_a_request_is_closed),
        cmocka_unit_test(where_many_are_who_says_nothing_is_not_waited_for),
        cmocka_unit_test(an_answer_has_its_own_time),
        WITH_SERVER(answers_that_nobody_takes_are_not_kept_without_end),
        WITH_SERVER(peers_may_vanish_while_their_request_is_handled),
        WITH_SERVER(an_answer_that_nobody_waits_for_is_told),
        WITH_SERVER(peers_may_vanish_anywhere_in_tls),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
