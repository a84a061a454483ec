/* http_group.c - the server that the tests of its parts share. */
#include "http_group.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <acme/problem.h>

/* ---- the handler: the path selects what it does ---- */

struct http_gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0};

void
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

void
gate_set(bool is_open)
{
    pthread_mutex_lock(&gate.mutex);
    gate.is_open = is_open;
    gate.passed = 0;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

void
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

void
handle_by_path(void *context, const struct acme_http_request *request,
               struct acme_http_response *response)
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

const struct acme_http_handler handler = {.handle = handle_by_path, .is_quick = is_quick};

struct http_peer peer;
char reply[REPLY_SIZE];

int
http_group_start(void **state)
{
    (void)state;
    gate_set(false);
    http_peer_start(&peer, 4, handler, NULL);
    return 0;
}

int
http_group_stop(void **state)
{
    (void)state;
    gate_set(true);
    return http_peer_stop(&peer) == HSM_OK ? 0 : -1;
}

const char *
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

bool
starts_with(const char *text, const char *start_text)
{
    return strncmp(text, start_text, strlen(start_text)) == 0;
}

const char *
body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

/* ---- TLS peers that send raw octets ---- */

SSL_CTX *
tls_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_load_verify_file(ctx, http_ca_path), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

SSL *
tls_connect(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);
    int fd = http_connect_tcp(&peer);

    assert_true(fd >= 0);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

void
tls_close(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_free(ssl);
    close(fd);
}

void
tls_send(SSL *ssl, const char *text)
{
    assert_int_equal(SSL_write(ssl, text, (int)strlen(text)), strlen(text));
}

const char *
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

struct acme_http_server_config
tls_config(const char *address)
{
    return (struct acme_http_server_config){.address = address,
                                            .tls_key = http_server_id.key,
                                            .tls_chain = http_server_id.chain,
                                            .handler = handler};
}

void
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

SSL *
tls_connect_to(SSL_CTX *ctx, const struct http_peer *to, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(ctx);

    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(to)), 1);
    if (session != NULL)
        assert_int_equal(SSL_set_session(ssl, session), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}
