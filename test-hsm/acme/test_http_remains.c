/* test_http_remains.c - passwords and tokens leave no copy in the memory of a server or a client.
 * When run by hand, set LD_BIND_NOW=1. */
#define _GNU_SOURCE /* pread of large offsets */
#include <fcntl.h>
#include <inttypes.h>
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

#include <openssl/crypto.h>

#include <acme/http_client.h>
#include <acme/json.h>

#include "http_fixture.h"

#define PASSWORD_LEN 40 /* octets */
#define MAPPING_MAX  (INT64_C(1) << 28) /* octets; larger ones are a sanitizer's shadow */
#define PADDING      40000 /* octets: more than a server reads in one call */
#define SOON_MS      20000
#define LOGINS       20
#define TRIES        50

/* Octet i of the password, which is never stored as a whole. */
static char
password_octet(size_t i)
{
    return (char)('A' + (i * i * i + 5 * i) % 59 % 26);
}

/* Compares without the part that malloc() overwrites in freed memory. */
static bool
is_rest_of_password(const char *octets)
{
    for (size_t i = 16; i < PASSWORD_LEN; i++)
        if (octets[i] != password_octet(i))
            return false;
    return true;
}

static size_t
count_in(const char *octets, size_t len)
{
    const char *end = octets + len, *at = octets + 16;
    size_t count = 0;

    while (at < end && (at = memchr(at, password_octet(16), (size_t)(end - at))) != NULL) {
        count += end - at >= PASSWORD_LEN - 16 && is_rest_of_password(at - 16);
        at++;
    }
    return count;
}

/* The number of copies of the password in the writable memory of this process. */
static size_t
remains(void)
{
    static char chunk[65536];
    FILE *maps = fopen("/proc/self/maps", "re");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    size_t count = 0;
    char line[512];
    uint64_t at, end;
    ssize_t n;

    assert_non_null(maps);
    assert_true(memory >= 0);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " rw", &at, &end) != 2 ||
            strstr(line, " rw") == NULL || (int64_t)(end - at) > MAPPING_MAX)
            continue;
        for (; at < end; at += sizeof(chunk) - PASSWORD_LEN) { /* chunks overlap */
            n = pread(memory, chunk, sizeof(chunk), (off_t)at);
            if (n > 0)
                count += count_in(chunk, (size_t)n < end - at ? (size_t)n : (size_t)(end - at));
            OPENSSL_cleanse(chunk, sizeof(chunk));
        }
    }
    fclose(maps);
    close(memory);
    return count;
}

/* The answer arrives before the server has wiped the memory used for it. */
static size_t
remains_in_the_end(void)
{
    const struct timespec pause = {0, 20000000};
    size_t count = remains();

    for (int i = 0; i < TRIES && count != 0; i++) {
        nanosleep(&pause, NULL);
        count = remains();
    }
    return count;
}

static void
put_password(char *to)
{
    for (size_t i = 0; i < PASSWORD_LEN; i++)
        to[i] = password_octet(i);
}

/* The answer contains the password of the request, as the answer to a login contains tokens. */
static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *given = acme_http_request_header(request, "Authorization");
    json_t *body = NULL;
    const char *password = "";
    size_t len;
    const char *text = acme_http_request_body(request, &len);

    (void)context;
    if (given == NULL || strlen(given) != strlen("Bearer ") + PASSWORD_LEN ||
        acme_json_parse(text, len, &body, NULL) != HSM_OK ||
        acme_json_string(body, "password", &password, NULL) != HSM_OK) {
        acme_http_respond(response, 400, NULL, NULL, 0);
        json_decref(body);
        return;
    }
    acme_http_respond_json(response, 200, "application/json",
                           json_pack("{s:s, s:i}", "accessToken", password, "expiresIn", 60));
    json_decref(body);
}

static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, "/quick") == 0;
}

static struct http_peer peer;

static int
start(void **state)
{
    (void)state;
    http_peer_start(&peer, 2, (struct acme_http_handler){.handle = handle, .is_quick = is_quick},
                    NULL);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    return http_peer_stop(&peer) == HSM_OK ? 0 : -1;
}

/* {"password":"..","more":"xxx"} */
static char *
login_body(size_t padding)
{
    static const char before[] = "{\"password\":\"", between[] = "\",\"more\":\"", after[] = "\"}";
    size_t size = sizeof(before) + PASSWORD_LEN + sizeof(between) + padding + sizeof(after);
    char *body = calloc(1, size);
    char *at = body;

    assert_non_null(body);
    at = stpcpy(at, before);
    put_password(at);
    at = stpcpy(at + PASSWORD_LEN, between);
    memset(at, 'x', padding);
    stpcpy(at + padding, after);
    return body;
}

static void
wipe(char *text)
{
    OPENSSL_cleanse(text, strlen(text));
    free(text);
}

/* Over the Unix socket, in two pieces. */
static void
log_in_plain(const char *path, size_t padding)
{
    static char reply[4096];
    char head[512] = "";
    char *body = login_body(padding);
    char *mark;
    int fd = http_connect_unix(&peer);

    assert_true(fd >= 0);
    snprintf(head, sizeof(head),
             "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: "
             "close\r\nContent-Length: %zu\r\nAuthorization: Bearer %*s\r\n\r\n",
             path, strlen(body), PASSWORD_LEN, "");
    mark = strstr(head, "Bearer ");
    put_password(mark + strlen("Bearer "));
    http_send(fd, head, strlen(head));
    http_send(fd, body, strlen(body));
    OPENSSL_cleanse(head, sizeof(head));
    wipe(body);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) > 0);
    assert_memory_equal(reply, "HTTP/1.1 200 ", 13);
    assert_int_equal(count_in(reply, sizeof(reply)), 1);
    OPENSSL_cleanse(reply, sizeof(reply));
    close(fd);
}

static void
log_in_by_client(struct acme_http_client *client, const char *url, size_t padding)
{
    char authorization[] = "Bearer ........................................";
    char *body = login_body(padding);
    struct acme_http_reply reply = {0};
    const struct acme_http_fetch fetch = {.method = "POST",
                                          .url = url,
                                          .content_type = "application/json",
                                          .authorization = authorization,
                                          .body = body,
                                          .body_len = strlen(body),
                                          .reply_max = 4096,
                                          .timeout_ms = SOON_MS};

    assert_int_equal(strlen(authorization), strlen("Bearer ") + PASSWORD_LEN);
    put_password(authorization + strlen("Bearer "));
    assert_int_equal(acme_http_fetch(client, &fetch, &reply, NULL), HSM_OK);
    assert_int_equal(reply.status, 200);
    assert_int_equal(count_in(reply.body, reply.body_len), 1);
    acme_http_reply_clear(&reply);
    OPENSSL_cleanse(authorization, sizeof(authorization));
    wipe(body);
}

static void
a_copy_in_memory_is_found(void **state)
{
    char *planted = login_body(0);

    (void)state;
    assert_true(remains() >= 1);
    wipe(planted);
    assert_int_equal(remains(), 0);
}

static void
a_server_keeps_nothing_of_passwords_and_tokens(void **state)
{
    static const struct {
        const char *path;
        size_t padding;
    } cases[] = {{"/quick", 0}, {"/thread", 0}, {"/quick", PADDING}, {"/thread", PADDING}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t count;

        for (int n = 0; n < LOGINS; n++)
            log_in_plain(cases[i].path, cases[i].padding);
        count = remains_in_the_end();
        if (count != 0)
            fail_msg("%s, %zu octets: %zu copies", cases[i].path, cases[i].padding, count);
    }
}

/* With the client's handle and connection kept for the next request. */
static void
a_client_keeps_nothing_of_passwords_and_tokens(void **state)
{
    static const size_t padding[] = {0, PADDING};
    const struct acme_http_client_config config = {.tls_ca = http_ca_path};
    struct acme_http_client *client = NULL;
    char url[64];

    (void)state;
    assert_int_equal(acme_http_client_new(&config, &client), HSM_OK);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/thread", peer.port);
    for (size_t i = 0; i < sizeof(padding) / sizeof(padding[0]); i++) {
        size_t count;

        for (int n = 0; n < LOGINS; n++)
            log_in_by_client(client, url, padding[i]);
        count = remains_in_the_end();
        if (count != 0)
            fail_msg("%zu octets: %zu copies", padding[i], count);
    }
    acme_http_client_free(client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_in_memory_is_found),
        cmocka_unit_test_setup_teardown(a_server_keeps_nothing_of_passwords_and_tokens, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_client_keeps_nothing_of_passwords_and_tokens, start,
                                        stop),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
