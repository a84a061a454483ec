/* http_connection.c - connections from accept() to close, requests handed out, answers written. */
#define _GNU_SOURCE /* accept4 */
#include "http_loop_internal.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <hsm/log.h>

#define DRAIN_IDLE_S                                                                               \
    3 /* seconds without a request, then a connection of a loop that drains ends                   \
       */
#define REFUSED_AT_ONCE 64 /* connections closed in one turn while the server is full */
/* What may lie unread: a whole request and the start of the next. evhttp bounds headers and bodies,
 * but not the line of a chunk's size. */
#define INPUT_MAX (ACME_HTTP_HEADERS_MAX + ACME_HTTP_BODY_MAX + 16384)

time_t
http_monotonic_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

void
http_call_free(struct http_call *call)
{
    if (call == NULL)
        return;
    http_response_clear(&call->response);
    free(call->request);
    free(call);
}

static struct http_bucket *
bucket_of(struct http_server *server, const struct evhttp_connection *http)
{
    return &server->buckets[((uintptr_t)http >> 6) & (HTTP_BUCKETS - 1)];
}

static struct http_connection *
connection_find(struct http_server *server, const struct evhttp_connection *http)
{
    struct http_connection *connection;

    LIST_FOREACH(connection, bucket_of(server, http), bucket)
    {
        if (connection->http == http)
            return connection;
    }
    return NULL;
}

/* ---- answers ----------------------------------------------------------- */

static void
on_replied(struct evhttp_request *http, void *context)
{
    struct http_connection *connection = context;

    (void)http;
    connection->is_replying = false;
    connection->has_input = false;
    connection->since = http_monotonic_s();
    connection->server->loop->replying--;
    http_end_when_idle(connection->server->loop);
}

static void
release_body(const void *data, size_t len, void *context)
{
    (void)data;
    (void)len;
    free(context);
}

/* evhttp closes after an answer that says so. */
static void
close_after(struct evhttp_request *http)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(http);

    evhttp_remove_header(headers, "Connection");
    evhttp_add_header(headers, "Connection", "close");
}

/* May close the connection at once: what is left of it is looked up again. */
static void
send_reply(struct http_connection *connection, struct evhttp_request *http, int status,
           struct evbuffer *body)
{
    struct http_server *server = connection->server;
    struct evhttp_connection *key = connection->http;

    connection->is_replying = true;
    connection->since = http_monotonic_s();
    server->loop->replying++;
    if (server->loop->is_stopping || server->loop->is_draining)
        close_after(http);
    evhttp_request_set_on_complete_cb(http, on_replied, connection);
    evhttp_send_reply(http, status, NULL, body);
    /* evhttp reads on to learn when the peer is gone, but takes one that only said it has nothing
     * more to ask (shutdown(SHUT_WR)) for gone, too. It reads again after the answer. */
    connection = connection_find(server, key);
    if (connection != NULL && connection->is_replying)
        bufferevent_disable(evhttp_connection_get_bufferevent(key), EV_READ);
    http_end_when_idle(server->loop);
}

/* RFC 9110 sections 6.4.1 and 8.6 */
static bool
status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool
put_reply(struct http_call *call, struct evhttp_request *http, struct evbuffer *body)
{
    struct acme_http_response *response = &call->response;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(http);
    char length[32];

    for (size_t i = 0; i < response->header_count; i++) {
        if (evhttp_add_header(headers, response->headers[i].name, response->headers[i].value) != 0)
            return false;
    }
    if (!status_has_body(response->status))
        return true;
    snprintf(length, sizeof(length), "%zu", response->len);
    if (evhttp_add_header(headers, "Content-Length", length) != 0)
        return false;
    if (response->len == 0 || call->request->method == ACME_HTTP_HEAD)
        return true;
    if (evbuffer_add_reference(body, response->body, response->len, release_body, response->body) !=
        0)
        return false;
    response->body = NULL; /* the buffer's now */
    return true;
}

/* Answer, if the peer is still there, and forget the call. */
void
http_deliver(struct http_call *call)
{
    struct http_connection *connection = call->connection;
    struct evhttp_request *http = call->http;
    struct evbuffer *body;

    if (connection == NULL) {
        http_observe_call(call, " (the peer is gone)");
        http_call_free(call);
        return;
    }
    connection->call = NULL;
    body = evbuffer_new();
    if (body == NULL || !put_reply(call, http, body)) {
        call->response.status = 500;
        evhttp_clear_headers(evhttp_request_get_output_headers(http));
        close_after(http);
        if (body != NULL)
            evbuffer_drain(body, evbuffer_get_length(body));
    }
    http_observe_call(call, "");
    send_reply(connection, http, call->response.status, body);
    if (body != NULL)
        evbuffer_free(body);
    http_call_free(call);
}

/* A request that no handler sees; what follows it on the connection is not to be trusted. */
static void
refuse(struct http_connection *connection, struct evhttp_request *http, int status)
{
    http_observe_refusal(connection->server, http_method_of(http), status);
    if (evhttp_request_get_command(http) == EVHTTP_REQ_CONNECT) {
        evhttp_connection_free(connection->http); /* evhttp keeps it open after any answer */
        return;
    }
    close_after(http);
    evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Length", "0");
    send_reply(connection, http, status, NULL);
}

/* ---- connections ------------------------------------------------------- */

static bool
is_full(const struct http_server *server)
{
    return server->connection_count >= server->connections_max;
}

/* While the server is full, someone else reads the listening socket, who accepts and closes. From a
 * shared one other processes accept, or nobody does: then connections wait in its backlog. */
static void
update_accepting(struct http_server *server)
{
    struct evconnlistener *listener;

    if (server->socket == NULL)
        return;
    listener = evhttp_bound_socket_get_listener(server->socket);
    if (is_full(server)) {
        evconnlistener_disable(listener);
        if (server->refuser != NULL)
            event_add(server->refuser, NULL);
    } else {
        if (server->refuser != NULL)
            event_del(server->refuser);
        evconnlistener_enable(listener);
    }
}

/* No more descriptors, most likely. The connection stays in the backlog and would wake us again and
 * again; http_sweep() listens again. */
void
http_on_accept_error(struct evconnlistener *listener, void *context)
{
    (void)context;
    hsm_log(HSM_LOG_ERROR, "cannot accept connections for a while: %s", strerror(errno));
    evconnlistener_disable(listener);
}

/* Told once a second at most: who floods us with connections does not fill the log as well. */
static void
tell_refused(struct http_server *server)
{
    time_t now = http_monotonic_s();

    if (server->refused == 0 || now == server->refused_told)
        return;
    hsm_log(HSM_LOG_WARNING, "%s: %zu connections are open; %zu refused", server->address,
            server->connection_count, server->refused);
    server->refused = 0;
    server->refused_told = now;
}

void
http_refuse_connections(evutil_socket_t fd, short what, void *context)
{
    struct http_server *server = context;
    int client;

    (void)what;
    for (int i = 0; i < REFUSED_AT_ONCE; i++) {
        client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                event_del(server->refuser); /* as in http_on_accept_error() */
            break;
        }
        close(client);
        server->refused++;
    }
    tell_refused(server);
}

/* evhttp is about to accept: make the connection's stream and take note of it. evhttp falls back
 * to a plain stream when this gives none; http_on_request() sees that. */
struct bufferevent *
http_on_accept(struct event_base *base, void *context)
{
    struct http_server *server = context;
    struct http_connection *connection = calloc(1, sizeof(*connection));
    SSL *ssl = server->tls != NULL ? SSL_new(server->tls) : NULL;

    if (connection != NULL && ssl != NULL)
        connection->bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                         BEV_OPT_CLOSE_ON_FREE);
    else if (connection != NULL && server->tls == NULL)
        connection->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (connection == NULL || connection->bev == NULL) {
        if (connection == NULL)
            SSL_free(ssl); /* else the failed call released it */
        free(connection);
        return NULL;
    }
    if (ssl != NULL) /* a peer that closes without close_notify has still closed */
        bufferevent_openssl_set_allow_dirty_shutdown(connection->bev, 1);
    bufferevent_setwatermark(connection->bev, EV_READ, 0, INPUT_MAX);
    bufferevent_incref(connection->bev);
    connection->server = server;
    TAILQ_INSERT_TAIL(&server->loop->fresh, connection, all);
    server->connection_count++;
    if (is_full(server))
        update_accepting(server);
    event_active(server->loop->adopt, EV_TIMEOUT, 0);
    return connection->bev;
}

static void
on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *context)
{
    struct http_connection *connection = context;

    (void)input;
    if (info->n_added > 0)
        connection->has_input = true;
}

static struct evbuffer *
input_of(struct evhttp_connection *http)
{
    return bufferevent_get_input(evhttp_connection_get_bufferevent(http));
}

static void
forget_connection(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    bool was_full = is_full(server);

    server->connection_count--;
    if (was_full && !is_full(server))
        update_accepting(server);
    http_peer_forget(connection);
    free(connection);
}

/* Tell a TLS peer that this is the end and no truncation, unless something broke before. */
static void
say_goodbye(const struct http_connection *connection)
{
    SSL *ssl = bufferevent_openssl_get_ssl(evhttp_connection_get_bufferevent(connection->http));

    if (ssl == NULL || connection->call != NULL || connection->is_replying ||
        !SSL_is_init_finished(ssl))
        return;
    SSL_shutdown(ssl);
    ERR_clear_error();
}

/*
 * evhttp is about to release a connection. A request that a handler still has is released by evhttp
 * too, with one exception: after an error of the network it was taken off the connection before and
 * is left to its user, that is us.
 */
static void
on_close(struct evhttp_connection *http, void *context)
{
    struct http_connection *connection = context;
    struct http_server *server = connection->server;
    struct acme_http_loop *loop = server->loop;
    struct http_call *call = connection->call;

    evbuffer_remove_cb(input_of(http), on_input, connection);
    say_goodbye(connection);
    if (call != NULL) {
        if (evhttp_request_get_connection(call->http) == NULL)
            evhttp_request_free(call->http);
        call->http = NULL;
        call->connection = NULL;
    }
    if (connection->is_replying)
        loop->replying--;
    TAILQ_REMOVE(&server->connections, connection, all);
    LIST_REMOVE(connection, bucket);
    forget_connection(connection);
    http_end_when_idle(loop);
}

/*
 * Bind what http_on_accept() noted to evhttp's connections. evhttp 2.1 tells us of a connection
 * with its first request at the earliest, which is too late to count and to time it; but it is what
 * the stream's callbacks are given. They are cleared when the stream was released meanwhile.
 */
void
http_adopt(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_connection *connection;

    (void)fd;
    (void)what;
    while ((connection = TAILQ_FIRST(&loop->fresh)) != NULL) {
        struct bufferevent *bev = connection->bev;
        void *http = NULL;

        TAILQ_REMOVE(&loop->fresh, connection, all);
        bufferevent_getcb(bev, NULL, NULL, NULL, &http);
        connection->bev = NULL;
        connection->http = http;
        connection->since = http_monotonic_s();
        if (http != NULL) {
            TAILQ_INSERT_TAIL(&connection->server->connections, connection, all);
            LIST_INSERT_HEAD(bucket_of(connection->server, http), connection, bucket);
            evhttp_connection_set_closecb(http, on_close, connection);
            (void)evbuffer_add_cb(input_of(http), on_input, connection);
        } else {
            forget_connection(connection);
        }
        bufferevent_decref(bev);
    }
}

/* Seconds after which what lasts as long as that is given up. A loop that drains does not wait long
 * for connections on which nothing has begun. */
static time_t
patience(const struct http_connection *connection)
{
    const struct http_server *server = connection->server;

    if (server->loop->is_draining && !connection->is_replying && !connection->has_input)
        return DRAIN_IDLE_S;
    return 2 * (time_t)server->idle_s;
}

/* evhttp's timeout begins anew with each octet; this one does not. */
void
http_sweep(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_connection *connection, *following;
    struct http_server *server;
    time_t now = http_monotonic_s();

    (void)fd;
    (void)what;
    http_observe_loop(loop);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        tell_refused(server);
        update_accepting(server);
        for (connection = TAILQ_FIRST(&server->connections); connection != NULL;
             connection = following) {
            following = TAILQ_NEXT(connection, all);
            if (connection->call == NULL && now - connection->since > patience(connection))
                evhttp_connection_free(connection->http); /* on_close() does the rest */
        }
    }
}

/* A whole request has come in; the HTTP status to refuse it with, or 0. */
static int
call_new(struct http_connection *connection, struct evhttp_request *http, struct http_call **out)
{
    struct http_call *call;
    int status = http_request_check(http);

    if (status != 0)
        return status;
    if (!connection->is_known)
        http_peer_learn(connection);
    call = calloc(1, sizeof(*call));
    if (call == NULL)
        return 503;
    status = http_request_new(connection, http, &call->request);
    if (status != 0) {
        free(call);
        return status;
    }
    call->begun_ns = hsm_metric_clock_ns();
    http_response_init(&call->response);
    call->server = connection->server;
    call->connection = connection;
    call->http = http;
    connection->call = call;
    *out = call;
    return 0;
}

/* Ask the handler what kind of a request it is. */
static bool
is_kind(const struct http_call *call,
        bool (*kind)(void *context, enum acme_http_method method, const char *path))
{
    return kind != NULL &&
           kind(call->server->handler.context, call->request->method, call->request->path);
}

void
http_on_request(struct evhttp_request *http, void *context)
{
    struct http_server *server = context;
    struct http_connection *connection =
        connection_find(server, evhttp_request_get_connection(http));
    struct http_call *call = NULL;
    int status;

    if (connection == NULL) { /* no memory at accept: a plain stream, even where TLS is due */
        evhttp_send_error(http, 503, NULL);
        return;
    }
    status = call_new(connection, http, &call);
    if (status != 0) {
        refuse(connection, http, status);
        return;
    }
    call->is_slow = is_kind(call, server->handler.is_slow);
    if (is_kind(call, server->handler.is_quick)) {
        http_handle(call);
        http_deliver(call);
    } else if (!http_enqueue(server->loop, call)) {
        acme_http_respond(&call->response, 503, NULL, NULL, 0);
        acme_http_response_header(&call->response, "Retry-After", "1");
        http_deliver(call);
    }
}

/* Connections that wait for a request have nothing to lose. */
void
http_close_idle(struct http_server *server)
{
    struct http_connection *connection, *following;

    for (connection = TAILQ_FIRST(&server->connections); connection != NULL;
         connection = following) {
        following = TAILQ_NEXT(connection, all);
        if (connection->call == NULL && !connection->is_replying)
            evhttp_connection_free(connection->http);
    }
}
