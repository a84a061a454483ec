/* test_http_accept.c - mirrors acme/src/http_accept.c: limits of connections and descriptors. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <acme/http_server.h>

#include "http_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- slow, greedy and vanishing peers ---- */

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

/* ---- sockets that processes share ---- */

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

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, http_group_start, http_group_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_left_for_what_the_process_does),
        cmocka_unit_test(more_connections_than_the_limit_are_closed),
        WITH_SERVER(a_server_out_of_descriptors_waits_quietly_and_recovers),
        cmocka_unit_test(one_that_is_full_leaves_connections_to_the_others),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
