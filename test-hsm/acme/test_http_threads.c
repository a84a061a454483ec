/* test_http_threads.c - mirrors acme/src/http_threads.c. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/resource.h>

#include <acme/http_server.h>

#include "http_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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
    const struct acme_http_handler with = {.handle = handle_by_path, .is_slow = is_slow};
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

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, http_group_start, http_group_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(handlers_that_wait_do_not_hold_up_the_others),
        cmocka_unit_test(handlers_that_wait_for_others_leave_a_thread),
        cmocka_unit_test(brief_requests_stay_in_the_loop_while_it_has_nothing_else),
        cmocka_unit_test(more_requests_than_the_queue_holds_get_503),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
