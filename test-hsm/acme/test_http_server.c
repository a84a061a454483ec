/* test_http_server.c - mirrors acme/src/http_server.c: stopping, draining, signals, ticks. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/socket.h>

#include <acme/http_server.h>

#include "http_group.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_stops_at_once_when_nothing_is_in_flight),
        cmocka_unit_test(what_is_in_flight_is_answered_before_the_end),
        cmocka_unit_test(a_loop_that_drains_serves_each_open_connection_once_more),
        cmocka_unit_test(a_loop_that_drains_does_not_wait_for_who_says_nothing),
        cmocka_unit_test(sigterm_ends_the_loop),
        cmocka_unit_test(ticks_come_every_second_and_sigint_ends_the_loop),
        cmocka_unit_test(a_tick_that_waits_holds_up_nobody_and_is_not_called_again),
        cmocka_unit_test(a_loop_has_1_to_64_threads),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
