/* test_operations.c - mirrors acme/src/operations.c and http_observe.c: what an operator sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <acme/operations.h>
#include <hsm/log.h>

#include "http_fixture.h"

#define SOON_MS 5000 /* anything slower has failed */

static struct hsm_metrics *metrics;
static const char *reason; /* why it is not ready; NULL: ready */
static struct http_peer peer;
static char reply[32768];

static void
not_ready(void *context, json_t *reasons)
{
    (void)context;
    if (reason != NULL)
        json_array_append_new(reasons, json_string(reason));
}

static void
never_ready(void *context, json_t *reasons)
{
    (void)context;
    json_array_append_new(reasons, json_string("it never is"));
}

static const struct acme_operations_role roles[] = {
    {"one", not_ready}, {"other", never_ready}, {NULL, NULL}};

static struct acme_operations operations = {.not_ready = not_ready};

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    char id[1][ACME_HTTP_PARAM_MAX + 1];

    if (acme_operations_answer(context, request, response))
        return;
    if (acme_http_match(acme_http_request_path(request), "/order/:id", id, 1))
        acme_http_response_route(response, "/order/:id");
    acme_http_response_header(response, "X-RequestID", "request-7");
    if (acme_http_match(acme_http_request_path(request), "/status/:code", id, 1))
        acme_http_respond(response, atoi(id[0]), NULL, NULL, 0);
    else
        acme_http_respond(response, 201, NULL, NULL, 0);
}

static int
start_with(struct acme_http_server_config more)
{
    reason = NULL;
    if (hsm_metrics_new(1, &metrics) != HSM_OK)
        return -1;
    operations.metrics = metrics;
    more.metrics = metrics;
    http_peer_start(&peer, 2, (struct acme_http_handler){.handle = handle, .context = &operations},
                    &more);
    return 0;
}

static int
start(void **state)
{
    (void)state;
    return start_with((struct acme_http_server_config){.address = NULL});
}

/* [log] requests = no */
static int
start_quiet(void **state)
{
    (void)state;
    return start_with((struct acme_http_server_config){.is_quiet = true});
}

static int
stop(void **state)
{
    enum hsm_status st = http_peer_stop(&peer);

    (void)state;
    hsm_metrics_free(metrics);
    return st == HSM_OK ? 0 : -1;
}

/* Send one request on a new connection and read the answer into `reply`. */
static void
ask(const char *method, const char *target)
{
    char text[512];
    int fd = http_connect_unix(&peer);

    snprintf(text, sizeof(text),
             "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
             "Authorization: Bearer secret-token\r\n\r\n",
             method, target);
    http_send(fd, text, strlen(text));
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    close(fd);
}

static void
assert_status(const char *status)
{
    if (strncmp(reply + strlen("HTTP/1.1 "), status, strlen(status)) != 0)
        fail_msg("wanted %s: %s", status, reply);
}

static void
assert_in_reply(const char *text)
{
    if (strstr(reply, text) == NULL)
        fail_msg("no %s in:\n%s", text, reply);
}

static void
readiness_says_why_it_is_not(void **state)
{
    (void)state;
    ask("GET", "/readyz");
    assert_status("200");
    assert_in_reply("{\"ready\":true,\"reasons\":[]}");
    assert_in_reply("Cache-Control: no-store");
    reason = "the token is away";
    ask("GET", "/readyz");
    assert_status("503");
    assert_in_reply("{\"ready\":false,\"reasons\":[\"the token is away\"]}");
    ask("HEAD", "/readyz");
    assert_status("503");
    ask("GET", "/healthz"); /* still alive */
    assert_status("200");
    assert_in_reply("{\"status\":\"ok\"}");
}

static void
each_role_is_ready_or_not(void **state)
{
    (void)state;
    ask("GET", "/readyz?role=one");
    assert_status("404"); /* no roles are defined */
    operations.roles = roles;
    ask("GET", "/readyz?role=one");
    assert_status("200");
    ask("GET", "/readyz?role=other");
    assert_status("503");
    assert_in_reply("{\"ready\":false,\"reasons\":[\"it never is\"]}");
    ask("GET", "/readyz?role=third");
    assert_status("404");
    ask("GET", "/readyz");
    assert_status("200");
    operations.roles = NULL;
}

static void
other_methods_and_paths_are_refused(void **state)
{
    static const char *const paths[] = {"/healthz", "/readyz", "/metrics"};

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ask("POST", paths[i]);
        assert_status("405");
        assert_in_reply("Allow: GET, HEAD");
    }
    ask("GET", "/metrics/");
    assert_status("201"); /* not an operations path */
}

static void
requests_are_counted_by_route_method_and_status(void **state)
{
    (void)state;
    ask("GET", "/order/17");
    ask("GET", "/order/18");
    ask("POST", "/order/17");
    ask("GET", "/12155551212?token=secret-token");
    ask("GET", "/a\x01"); /* refused before any handler */
    assert_status("400");
    ask("GET", "/metrics");
    assert_status("200");
    assert_in_reply("Content-Type: text/plain; version=0.0.4; charset=utf-8");
    assert_in_reply(
        "\nsti_http_requests_total{route=\"/order/:id\",method=\"GET\",status=\"201\"} 2\n");
    assert_in_reply(
        "\nsti_http_requests_total{route=\"/order/:id\",method=\"POST\",status=\"201\"} 1\n");
    assert_in_reply("\nsti_http_requests_total{route=\"other\",method=\"GET\",status=\"201\"} 1\n");
    assert_in_reply("\nsti_http_requests_total{route=\"other\",method=\"GET\",status=\"400\"} 1\n");
    assert_in_reply("\nsti_http_request_seconds_count{route=\"/order/:id\"} 3\n");
    assert_null(strstr(reply, "12155551212"));
}

/* The log entry of one request as JSON; NULL: none. */
static json_t *
log_of(const char *method, const char *target)
{
    const struct hsm_log_config as_json = {"tester", HSM_LOG_JSON, HSM_LOG_INFO};
    const struct hsm_log_config as_text = {"tester", HSM_LOG_TEXT, HSM_LOG_INFO};
    int standard = dup(STDERR_FILENO);
    FILE *log = tmpfile();
    char text[4096] = "";
    json_t *json;

    hsm_log_open(&as_json);
    dup2(fileno(log), STDERR_FILENO);
    ask(method, target);
    dup2(standard, STDERR_FILENO);
    hsm_log_open(&as_text);
    assert_true(pread(fileno(log), text, sizeof(text) - 1, 0) >= 0);
    fclose(log);
    close(standard);
    if (text[0] == '\0')
        return NULL;
    assert_null(strstr(text, "secret"));
    json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

static void
assert_member(const json_t *json, const char *name, const char *wanted)
{
    const char *value = json_string_value(json_object_get(json, name));

    assert_non_null(value);
    assert_string_equal(value, wanted);
}

static void
the_log_has_fields_and_no_secrets(void **state)
{
    json_t *json = log_of("GET", "/order/17?token=secret-token");

    (void)state;
    assert_member(json, "method", "GET");
    assert_member(json, "route", "/order/:id");
    assert_member(json, "path", "/order/17");
    assert_member(json, "peer", "unix");
    assert_member(json, "request_id", "request-7");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 201);
    assert_true(json_is_number(json_object_get(json, "ms")));
    assert_null(json_object_get(json, "client"));
    json_decref(json);
    json = log_of("GET", "/secret-token/12155551212"); /* unknown paths are not logged */
    assert_member(json, "route", "other");
    assert_null(json_object_get(json, "path"));
    assert_null(strstr(json_string_value(json_object_get(json, "message")), "12155551212"));
    json_decref(json);
}

/* A fault is always logged. A 503 is intentional and is not a fault. */
static void
a_fault_is_logged_where_requests_are_not(void **state)
{
    json_t *json = log_of("GET", "/status/500");

    (void)state;
    assert_non_null(json);
    assert_member(json, "level", "warning");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 500);
    json_decref(json);
    assert_null(log_of("GET", "/status/503"));
    assert_null(log_of("GET", "/status/404"));
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(readiness_says_why_it_is_not),
        WITH_SERVER(each_role_is_ready_or_not),
        WITH_SERVER(other_methods_and_paths_are_refused),
        WITH_SERVER(requests_are_counted_by_route_method_and_status),
        WITH_SERVER(the_log_has_fields_and_no_secrets),
        cmocka_unit_test_setup_teardown(a_fault_is_logged_where_requests_are_not, start_quiet,
                                        stop),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
