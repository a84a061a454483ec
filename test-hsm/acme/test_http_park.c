/* test_http_park.c - mirrors acme/src/http_park.c: requests that wait without a thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "http_fixture.h"

#define REQUEST(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#define WAITING       20 /* requests, served by one thread */
#define DESCRIPTORS   4096 /* a server uses a quarter of them for connections */

static struct {
    atomic_uint asked, handed_over;
    _Atomic(struct acme_http_parked *) parked[ACME_HTTP_PARKED_MAX + 1];
    atomic_uint released; /* of the kept contexts */
    atomic_bool is_open; /* answers are given */
} world;

static void
count_release(void *kept)
{
    assert_ptr_equal(kept, &world);
    world.released++;
}

static void
park(struct acme_http_response *response, const char *path)
{
    struct acme_http_parked *parked = acme_http_park(response);

    if (parked == NULL || strstr(path, "/unpark") != NULL) {
        acme_http_unpark(parked);
        acme_http_respond(response, parked == NULL ? 503 : 200, "text/plain", "now", 3);
        return;
    }
    acme_http_response_header(response, "X-Before", "is forgotten");
    if (strcmp(path, "/keep") == 0 && acme_http_kept(response) == NULL)
        acme_http_keep(response, &world, count_release);
    if (strcmp(path, "/again") == 0) /* resumed before this call returns */
        acme_http_resume(parked);
    else
        world.parked[world.asked - 1] = parked;
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);

    (void)context;
    if (strncmp(path, "/quick/not", 10) == 0 && acme_http_hand_over(response)) {
        acme_http_response_header(response, "X-Before", "is forgotten");
        world.handed_over++;
        return;
    }
    if (strcmp(path, "/plain") == 0 || world.is_open) {
        acme_http_response_header(response, "X-Parked",
                                  acme_http_was_parked(response) ? "yes" : "no");
        acme_http_respond(response, 200, "text/plain", "later", 5);
        if (acme_http_kept(response) == &world)
            acme_http_response_header(response, "X-Kept", "is there");
        return;
    }
    world.asked++;
    park(response, path);
}

static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strncmp(path, "/quick", 6) == 0;
}

static const char *
exchange(const struct http_peer *peer, const char *request)
{
    static char answer[4096];
    int fd = http_connect_unix(peer);
    size_t len = 0;
    ssize_t n;

    assert_true(fd >= 0);
    http_send(fd, request, strlen(request));
    while ((n = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0)
        len += (size_t)n;
    answer[len] = '\0';
    close(fd);
    return answer;
}

static void
start(struct http_peer *peer)
{
    memset(&world, 0, sizeof(world));
    http_peer_start(peer, 1, (struct acme_http_handler){.handle = handle, .is_quick = is_quick},
                    NULL);
}

/* Returns once the request is parked. */
static int
begin(const struct http_peer *peer, const char *request, unsigned nth)
{
    int fd = http_connect_unix(peer);

    assert_true(fd >= 0);
    http_send(fd, request, strlen(request));
    while (world.parked[nth] == NULL)
        usleep(200);
    return fd;
}

static void
what_waits_holds_no_thread(void **state)
{
    struct http_peer peer;
    char answer[4096] = "";
    int fds[WAITING];

    (void)state;
    start(&peer);
    for (unsigned i = 0; i < WAITING; i++)
        fds[i] = begin(&peer, REQUEST("/wait"), i);
    assert_non_null(strstr(exchange(&peer, REQUEST("/plain")), "200"));
    world.is_open = true;
    for (unsigned i = 0; i < WAITING; i++)
        acme_http_resume(world.parked[i]);
    for (unsigned i = 0; i < WAITING; i++) {
        size_t len = 0;
        ssize_t n;

        while ((n = read(fds[i], answer + len, sizeof(answer) - 1 - len)) > 0)
            len += (size_t)n;
        answer[len] = '\0';
        assert_non_null(strstr(answer, " 200 "));
        assert_null(strstr(answer, "X-Before"));
        assert_non_null(strstr(answer, "X-Parked: yes"));
        close(fds[i]);
    }
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static void
a_request_is_parked_so_often_and_no_more(void **state)
{
    struct http_peer peer;

    (void)state;
    start(&peer);
    assert_non_null(strstr(exchange(&peer, REQUEST("/again")), " 503 "));
    assert_int_equal(world.asked, ACME_HTTP_PARKS_MAX + 1);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static void
what_is_unparked_is_answered_at_once(void **state)
{
    struct http_peer peer;

    (void)state;
    start(&peer);
    assert_non_null(strstr(exchange(&peer, REQUEST("/unpark")), "now"));
    /* A quick request occupies no thread, so it cannot be parked. */
    assert_non_null(strstr(exchange(&peer, REQUEST("/quick")), " 503 "));
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static void
a_request_that_is_not_quick_after_all_is_handled_on_a_thread(void **state)
{
    struct http_peer peer;
    const char *answer;

    (void)state;
    start(&peer);
    world.is_open = true;
    for (unsigned i = 1; i <= 3; i++) {
        answer = exchange(&peer, REQUEST("/quick/not"));
        assert_non_null(strstr(answer, " 200 "));
        assert_non_null(strstr(answer, "X-Parked: no"));
        assert_null(strstr(answer, "X-Before"));
        assert_int_equal(world.handed_over, i);
    }
    world.is_open = false; /* from a thread it can be parked */
    assert_non_null(strstr(exchange(&peer, REQUEST("/quick/not/unpark")), "now"));
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* The peer of a parked request may disconnect. */
static void
a_peer_that_is_gone_is_no_harm(void **state)
{
    struct http_peer peer;
    int fd;

    (void)state;
    start(&peer);
    fd = begin(&peer, REQUEST("/wait"), 0);
    close(fd);
    assert_non_null(strstr(exchange(&peer, REQUEST("/plain")), "200"));
    world.is_open = true;
    /* Works whether or not the server has noticed that the peer is gone. */
    (void)acme_http_resume(world.parked[0]);
    assert_non_null(strstr(exchange(&peer, REQUEST("/plain")), "200"));
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static void
what_is_kept_is_there_at_the_next_call_and_released_at_the_end(void **state)
{
    struct http_peer peer;
    char answer[4096] = "";
    int fd;

    (void)state;
    start(&peer);
    fd = begin(&peer, REQUEST("/keep"), 0);
    world.is_open = true;
    assert_true(acme_http_resume(world.parked[0]));
    assert_true(read(fd, answer, sizeof(answer) - 1) > 0);
    assert_non_null(strstr(answer, "X-Kept"));
    close(fd);
    assert_null(strstr(exchange(&peer, REQUEST("/plain")), "X-Kept"));
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    assert_int_equal(world.released, 1);
}

/* Up to the limit, requests are parked. One more is answered at once, until a parked one was served
 * or its peer is gone. */
static void
so_many_requests_are_parked_and_no_more(void **state)
{
    static int fds[ACME_HTTP_PARKED_MAX];
    struct rlimit descriptors;
    struct http_peer peer;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
    if (descriptors.rlim_max < DESCRIPTORS)
        skip();
    if (descriptors.rlim_cur < DESCRIPTORS)
        descriptors.rlim_cur = DESCRIPTORS;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
    start(&peer);
    for (unsigned i = 0; i < ACME_HTTP_PARKED_MAX; i++)
        fds[i] = begin(&peer, i == 0 ? REQUEST("/keep") : REQUEST("/wait"), i);
    assert_non_null(strstr(exchange(&peer, REQUEST("/wait")), " 503 "));
    assert_non_null(strstr(exchange(&peer, REQUEST("/plain")), " 200 "));
    close(fds[0]);
    while (world.released == 0)
        usleep(200);
    world.asked = 0;
    assert_false(acme_http_resume(world.parked[0])); /* already released with its peer */
    world.parked[0] = NULL;
    fds[0] = begin(&peer, REQUEST("/wait"), 0);
    assert_non_null(strstr(exchange(&peer, REQUEST("/wait")), " 503 "));
    world.is_open = true;
    for (unsigned i = 0; i < ACME_HTTP_PARKED_MAX; i++)
        acme_http_resume(world.parked[i]);
    for (unsigned i = 0; i < ACME_HTTP_PARKED_MAX; i++)
        close(fds[i]);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* The resume comes late: the loop has stopped waiting, after ten seconds, and is freed. */
static void
a_loop_may_end_before_its_requests_are_resumed(void **state)
{
    struct http_peer peer;
    int fd;

    (void)state;
    if (getenv("STI_LONG") == NULL)
        skip();
    start(&peer);
    fd = begin(&peer, REQUEST("/wait"), 0);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    acme_http_resume(world.parked[0]);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_holds_no_thread),
        cmocka_unit_test(a_request_is_parked_so_often_and_no_more),
        cmocka_unit_test(what_is_unparked_is_answered_at_once),
        cmocka_unit_test(a_request_that_is_not_quick_after_all_is_handled_on_a_thread),
        cmocka_unit_test(a_peer_that_is_gone_is_no_harm),
        cmocka_unit_test(what_is_kept_is_there_at_the_next_call_and_released_at_the_end),
        cmocka_unit_test(so_many_requests_are_parked_and_no_more),
        cmocka_unit_test(a_loop_may_end_before_its_requests_are_resumed),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
