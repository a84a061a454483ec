/* test_http_defer.c - mirrors acme/src/http_defer.c: the deferred part of quick calls. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

#define REQUEST(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define BACKLOG       24 /* simultaneous requests, enough to involve the thread */
#define FEW           6 /* too few for that */
#define PATIENCE_MS   30000

/* A request whose handler has deferred work. */
struct deferred {
    unsigned number;
    pthread_t handled_by, worked_by;
    atomic_uint works, ends;
    unsigned turn; /* its position in the order of work */
};

static struct {
    atomic_bool is_slow; /* no request counts as quick */
    atomic_bool is_shut; /* the loop is held at the gate */
    atomic_bool at_gate;
    atomic_bool is_stuck; /* work on the first request blocks */
    atomic_uint working, most_working, worked, ended;
    struct deferred calls[BACKLOG];
} world;

static void
work(void *context)
{
    struct deferred *call = context;
    unsigned working = ++world.working;

    if (working > world.most_working)
        world.most_working = working;
    call->worked_by = pthread_self();
    call->works++;
    while (call->number == 0 && world.is_stuck)
        usleep(500);
    call->turn = world.worked++;
    world.working--;
}

static void
finish(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct deferred *call = context;
    const char *path = acme_http_request_path(request);

    call->ends++;
    world.ended++;
    acme_http_respond(response, 200, "text/plain", path, strlen(path));
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);
    struct deferred *call;

    (void)context;
    if (strcmp(path, "/gate") == 0) {
        world.at_gate = true;
        while (world.is_shut)
            usleep(500);
    }
    if (strncmp(path, "/later/", 7) != 0) {
        acme_http_respond(response, 200, "text/plain", path, strlen(path));
        return;
    }
    call = &world.calls[strtoul(path + 7, NULL, 10)];
    call->handled_by = pthread_self();
    if (acme_http_defer(response, &(struct acme_http_rest){work, finish, call}))
        return;
    work(call);
    finish(call, request, response);
}

static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    (void)path;
    return !world.is_slow;
}

/* A server, and connections that it has accepted. */
struct scene {
    struct http_peer peer;
    int gate;
    int fds[BACKLOG];
};

static void
assert_answer(int fd, const char *text)
{
    char answer[4096];

    assert_true(http_receive(fd, answer, sizeof(answer), text, 1, PATIENCE_MS) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 200"));
    assert_non_null(strstr(answer, text));
}

static int
connect_and_ask(const struct http_peer *peer)
{
    int fd = http_connect_unix(peer);

    assert_true(fd >= 0);
    http_send(fd, REQUEST("/plain"), strlen(REQUEST("/plain")));
    assert_answer(fd, "/plain");
    return fd;
}

static void
set_scene(struct scene *scene)
{
    memset(&world, 0, sizeof(world));
    for (unsigned i = 0; i < BACKLOG; i++)
        world.calls[i].number = i;
    http_peer_start(&scene->peer, 4,
                    (struct acme_http_handler){.handle = handle, .is_quick = is_quick}, NULL);
    scene->gate = connect_and_ask(&scene->peer);
    for (unsigned i = 0; i < BACKLOG; i++)
        scene->fds[i] = connect_and_ask(&scene->peer);
}

/* Send requests so that the loop finds all of them at once. */
static void
send_at_once(const struct scene *scene, unsigned count)
{
    char request[64];

    world.is_shut = true;
    http_send(scene->gate, REQUEST("/gate"), strlen(REQUEST("/gate")));
    while (!world.at_gate)
        usleep(500);
    for (unsigned i = 0; i < count; i++) {
        int len = snprintf(request, sizeof(request), REQUEST("/later/%u"), i);

        http_send(scene->fds[i], request, (size_t)len);
    }
    world.is_shut = false;
}

static void
ask_at_once(const struct scene *scene, unsigned count)
{
    send_at_once(scene, count);
    assert_answer(scene->gate, "/gate");
}

static void
assert_answers(const struct scene *scene, unsigned from, unsigned to)
{
    char text[32];

    for (unsigned i = from; i < to; i++) {
        snprintf(text, sizeof(text), "/later/%u", i);
        assert_answer(scene->fds[i], text);
    }
}

static void
assert_each_is_done_once(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(world.calls[i].works, 1);
        assert_int_equal(world.calls[i].ends, 1);
    }
}

static void
leave(struct scene *scene)
{
    assert_int_equal(http_peer_stop(&scene->peer), HSM_OK);
    close(scene->gate);
    for (unsigned i = 0; i < BACKLOG; i++)
        close(scene->fds[i]);
}

/* All requests are answered, and each one's work is done exactly once. */
static void
run_scene(unsigned count)
{
    struct scene scene;

    set_scene(&scene);
    ask_at_once(&scene, count);
    assert_answers(&scene, 0, count);
    assert_each_is_done_once(count);
    leave(&scene);
}

/* A busy machine may suspend the thread at work for so long that the work seems to block; then
 * other threads take over the rest. Such a run is repeated. */
#define ATTEMPTS 20

static bool
all_are_done_in_the_loop(unsigned count)
{
    bool good = true;

    for (unsigned i = 0; i < count; i++)
        good = good && pthread_equal(world.calls[i].handled_by, world.calls[i].worked_by);
    return good;
}

static void
a_few_are_done_in_the_loop(void **state)
{
    bool good = false;

    (void)state;
    for (int i = 0; i < ATTEMPTS && !good; i++) {
        run_scene(FEW);
        good = all_are_done_in_the_loop(FEW) && world.most_working == 1;
    }
    assert_true(good);
}

static bool
one_thread_does_all_in_order(unsigned count)
{
    const struct deferred *calls = world.calls;
    bool good = world.most_working == 1;

    for (unsigned i = 0; i < count; i++)
        good = good && calls[i].turn == i &&
               pthread_equal(calls[0].worked_by, calls[i].worked_by) &&
               !pthread_equal(calls[i].handled_by, calls[i].worked_by);
    return good;
}

static void
a_backlog_is_done_by_one_thread_in_its_order(void **state)
{
    bool good = false;

    (void)state;
    for (int i = 0; i < ATTEMPTS && !good; i++) {
        run_scene(BACKLOG);
        good = one_thread_does_all_in_order(BACKLOG);
    }
    assert_true(good);
}

static void
the_loop_serves_others_meanwhile(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    ask_at_once(&scene, BACKLOG);
    close(connect_and_ask(&scene.peer));
    assert_int_equal(world.calls[0].ends, 0);
    world.is_stuck = false;
    assert_answers(&scene, 0, BACKLOG);
    leave(&scene);
}

static void
those_behind_one_that_waits_do_not_wait(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    ask_at_once(&scene, BACKLOG);
    assert_answers(&scene, 1, BACKLOG);
    assert_int_equal(world.calls[0].ends, 0);
    world.is_stuck = false;
    assert_answers(&scene, 0, 1);
    assert_each_is_done_once(BACKLOG);
    leave(&scene);
}

/* The loop itself works on the first one. */
static void
those_behind_one_that_has_waited_in_the_loop_go_to_threads(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    send_at_once(&scene, FEW);
    while (world.calls[0].works == 0)
        usleep(500);
    usleep(100000); /* longer than any work that does not block */
    world.is_stuck = false;
    assert_answers(&scene, 0, FEW);
    assert_true(pthread_equal(world.calls[0].handled_by, world.calls[0].worked_by));
    for (unsigned i = 1; i < FEW; i++)
        assert_false(pthread_equal(world.calls[i].handled_by, world.calls[i].worked_by));
    assert_each_is_done_once(FEW);
    leave(&scene);
}

static void
a_call_whose_peer_is_gone_is_done_to_its_end(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    ask_at_once(&scene, BACKLOG);
    close(scene.fds[0]);
    close(scene.fds[1]);
    scene.fds[0] = connect_and_ask(&scene.peer);
    scene.fds[1] = connect_and_ask(&scene.peer);
    world.is_stuck = false;
    assert_answers(&scene, 2, BACKLOG);
    while (world.ended < BACKLOG)
        usleep(500);
    assert_each_is_done_once(BACKLOG);
    leave(&scene);
}

static void
a_loop_that_stops_finishes_them(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    ask_at_once(&scene, BACKLOG);
    acme_http_loop_stop(scene.peer.loop);
    assert_true(http_is_closed(scene.gate, PATIENCE_MS)); /* it had no pending answer */
    world.is_stuck = false;
    assert_answers(&scene, 0, BACKLOG);
    assert_each_is_done_once(BACKLOG);
    leave(&scene);
}

static void
pipelined_requests_are_answered_in_their_order(void **state)
{
    static const char both[] = REQUEST("/later/0") REQUEST("/plain") REQUEST("/later/23");
    struct scene scene;
    char answers[4096];
    const char *at = answers;

    (void)state;
    set_scene(&scene);
    world.is_stuck = true;
    ask_at_once(&scene, BACKLOG - 1);
    close(scene.fds[0]);
    scene.fds[0] = connect_and_ask(&scene.peer);
    http_send(scene.fds[0], both, strlen(both));
    world.is_stuck = false;
    assert_true(http_receive(scene.fds[0], answers, sizeof(answers), "/later/23", 1, PATIENCE_MS) >
                0);
    at = strstr(at, "/later/0");
    assert_non_null(at);
    at = strstr(at, "/plain");
    assert_non_null(at);
    assert_non_null(strstr(at, "/later/23"));
    leave(&scene);
}

static void
a_request_that_is_not_quick_has_a_thread_already(void **state)
{
    struct scene scene;

    (void)state;
    set_scene(&scene);
    world.is_slow = true;
    ask_at_once(&scene, FEW);
    assert_answers(&scene, 0, FEW);
    assert_each_is_done_once(FEW);
    for (unsigned i = 0; i < FEW; i++)
        assert_true(pthread_equal(world.calls[i].handled_by, world.calls[i].worked_by));
    leave(&scene);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_are_done_in_the_loop),
        cmocka_unit_test(a_backlog_is_done_by_one_thread_in_its_order),
        cmocka_unit_test(the_loop_serves_others_meanwhile),
        cmocka_unit_test(those_behind_one_that_waits_do_not_wait),
        cmocka_unit_test(those_behind_one_that_has_waited_in_the_loop_go_to_threads),
        cmocka_unit_test(a_call_whose_peer_is_gone_is_done_to_its_end),
        cmocka_unit_test(a_loop_that_stops_finishes_them),
        cmocka_unit_test(pipelined_requests_are_answered_in_their_order),
        cmocka_unit_test(a_request_that_is_not_quick_has_a_thread_already),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
