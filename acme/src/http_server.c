/* http_server.c - evhttp over OpenSSL: one event loop, and threads for handlers that wait. */
#define _GNU_SOURCE /* accept4 */
#include "http_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define THREADS_MAX     64
#define BUCKETS         1024 /* of the connections by pointer, a power of two */
#define STOP_S          10 /* seconds for the calls in flight when the loop is asked to stop */
#define REFUSED_AT_ONCE 64 /* connections closed in one turn while the server is full */
/* What may lie unread: a whole request and the start of the next. evhttp bounds headers and bodies,
 * but not the line of a chunk's size. */
#define INPUT_MAX (ACME_HTTP_HEADERS_MAX + ACME_HTTP_BODY_MAX + 16384)

struct server;

/* A client's connection, from accept() on. Loop thread only. */
struct connection {
    struct server *server;
    struct bufferevent *bev; /* a reference, until adopt() */
    struct evhttp_connection *http; /* NULL until adopt() */
    struct call *call; /* the request that a handler has; NULL: none */
    bool is_replying; /* an answer is being written */
    time_t since; /* monotonic: when it last began to read or to write */
    char *client; /* subject of its certificate; NULL: none, or not yet asked */
    TAILQ_ENTRY(connection) all; /* of the server, or of the loop before adopt() */
    LIST_ENTRY(connection) bucket;
};

TAILQ_HEAD(connections, connection);
LIST_HEAD(bucket, connection);

/* A request on its way through a handler. A handler's thread sees request and response alone. */
struct call {
    struct server *server;
    struct connection *connection; /* loop thread; NULL: the peer is gone */
    struct evhttp_request *http; /* loop thread; NULL likewise */
    struct acme_http_request *request;
    struct acme_http_response response;
    struct timespec begun;
    STAILQ_ENTRY(call) next;
};

STAILQ_HEAD(calls, call);

struct server {
    struct acme_http_loop *loop;
    struct acme_http_handler handler;
    char *address; /* for the log */
    char *unix_path; /* NULL: TCP */
    struct stat unix_file;
    unsigned port;
    unsigned idle_s;
    size_t connections_max;
    SSL_CTX *tls; /* NULL: none */
    struct evhttp *http;
    struct evhttp_bound_socket *socket; /* NULL once it stopped accepting */
    struct event *refuser; /* accepts and closes while the server is full */
    size_t refused; /* connections, since it was last told */
    time_t refused_told; /* monotonic */
    struct connections connections;
    size_t connection_count; /* those not adopted yet included */
    struct bucket buckets[BUCKETS];
    TAILQ_ENTRY(server) next;
};

struct tick {
    struct event *event;
    void (*tick)(void *context);
    void *context;
    TAILQ_ENTRY(tick) next;
};

struct acme_http_loop {
    struct event_base *base;
    struct event *wake, *adopt, *sweep, *deadline, *sigterm, *sigint;
    int wake_fd; /* eventfd: a call is done, or stop was asked for */
    TAILQ_HEAD(, server) servers;
    TAILQ_HEAD(, tick) ticks;
    struct connections fresh; /* accepted, not adopted yet */
    size_t calls; /* handed to the threads and not taken back */
    size_t replying;
    bool is_stopping;
    atomic_bool stop_asked;
    unsigned threads_wanted, thread_count;
    pthread_t threads[THREADS_MAX];
    bool is_abandoned; /* a thread still runs: nothing may be released */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;
    struct calls queue, done;
    size_t queue_len;
    size_t running;
    bool threads_end;
};

DEFINE_DEFER(struct acme_http_loop, acme_http_loop_free)

static time_t
monotonic_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* ---- requests ---------------------------------------------------------- */

static enum acme_http_method
method_of(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return ACME_HTTP_GET;
    case EVHTTP_REQ_HEAD:
        return ACME_HTTP_HEAD;
    case EVHTTP_REQ_POST:
        return ACME_HTTP_POST;
    case EVHTTP_REQ_PUT:
        return ACME_HTTP_PUT;
    case EVHTTP_REQ_DELETE:
        return ACME_HTTP_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return ACME_HTTP_OPTIONS;
    default:
        return ACME_HTTP_OTHER;
    }
}

static const char *
method_text(enum acme_http_method method)
{
    static const char *const texts[] = {
        [ACME_HTTP_GET] = "GET",         [ACME_HTTP_HEAD] = "HEAD",
        [ACME_HTTP_POST] = "POST",       [ACME_HTTP_PUT] = "PUT",
        [ACME_HTTP_DELETE] = "DELETE",   [ACME_HTTP_OPTIONS] = "OPTIONS",
        [ACME_HTTP_OTHER] = "(another)",
    };

    return texts[method];
}

static bool
is_decimal(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* What evhttp lets pass although two readers could see the end of the request in two places
 * (RFC 9112 sections 5 and 6.3). The HTTP status to refuse with, or 0. */
static int
check_headers(struct evhttp_request *http, bool may_have_body)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(http);
    const struct evkeyval *header;
    unsigned lengths = 0;
    unsigned encodings = 0;
    bool has_body = false;

    if (evhttp_request_get_command(http) == EVHTTP_REQ_CONNECT)
        return 400; /* no proxy */
    TAILQ_FOREACH(header, headers, next)
    {
        if (!http_is_token(header->key) || !http_is_field_value(header->value))
            return 400;
        if (strcasecmp(header->key, "Content-Length") == 0) {
            if (!is_decimal(header->value))
                return 400;
            has_body = has_body || header->value[strspn(header->value, "0")] != '\0';
            lengths++;
        } else if (strcasecmp(header->key, "Transfer-Encoding") == 0) {
            if (strcasecmp(header->value, "chunked") != 0)
                return 501;
            has_body = true;
            encodings++;
        }
    }
    if (lengths + encodings > 1 || (has_body && !may_have_body))
        return 400;
    return 0;
}

/* evhttp reads no body for these: one that was sent would be taken for the next request. */
static bool
may_have_body(struct evhttp_request *http)
{
    enum acme_http_method method = method_of(http);

    return evhttp_request_get_command(http) == EVHTTP_REQ_PATCH ||
           (method != ACME_HTTP_HEAD && method != ACME_HTTP_OTHER);
}

/* Room inside the one allocation of a request. */
struct room {
    char *at;
};

static size_t
text_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

static const char *
put_text(struct room *room, const char *text)
{
    size_t size = text_size(text);
    char *to = room->at;

    if (text == NULL)
        return NULL;
    memcpy(to, text, size);
    room->at += size;
    return to;
}

static size_t
headers_size(const struct evkeyvalq *headers, size_t *count)
{
    const struct evkeyval *header;
    size_t size = 0;

    *count = 0;
    TAILQ_FOREACH(header, headers, next)
    {
        size += sizeof(struct http_header) + strlen(header->key) + strlen(header->value) + 2;
        (*count)++;
    }
    return size;
}

static void
put_headers(struct acme_http_request *request, struct room *room, const struct evkeyvalq *headers)
{
    struct http_header *to = (struct http_header *)(request + 1); /* room begins behind them */
    const struct evkeyval *header;

    request->headers = to;
    TAILQ_FOREACH(header, headers, next)
    {
        to->name = put_text(room, header->key);
        to->value = put_text(room, header->value);
        to++;
    }
}

static void
put_body(struct acme_http_request *request, struct room *room, struct evbuffer *body)
{
    ev_ssize_t len = evbuffer_copyout(body, room->at, request->body_len);

    assert(len == (ev_ssize_t)request->body_len);
    (void)len;
    room->at[request->body_len] = '\0';
    request->body = room->at;
    room->at += request->body_len + 1;
}

static const char *
peer_of(const struct connection *connection)
{
    char *address = NULL;
    ev_uint16_t port = 0;

    if (connection->server->unix_path != NULL)
        return "unix";
    evhttp_connection_get_peer(connection->http, &address, &port);
    return address != NULL ? address : "unknown";
}

/* Copy a request out of evhttp. The HTTP status to refuse with, or 0. */
static int
request_new(const struct connection *connection, struct evhttp_request *http,
            struct acme_http_request **out)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(http);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const char *path = evhttp_uri_get_path(uri);
    const char *query = evhttp_uri_get_query(uri);
    const char *peer = peer_of(connection);
    struct evbuffer *body = evhttp_request_get_input_buffer(http);
    size_t body_len = evbuffer_get_length(body);
    struct acme_http_request *request;
    struct room room;
    size_t count;
    size_t size = sizeof(*request) + headers_size(headers, &count) + text_size(path) +
                  text_size(query) + text_size(peer) + text_size(connection->client) + body_len + 1;

    request = calloc(1, size);
    if (request == NULL)
        return 503;
    room.at = (char *)request + sizeof(*request) + count * sizeof(struct http_header);
    if (path == NULL || !http_path_decode(path, room.at)) {
        free(request);
        return 400;
    }
    request->path = room.at;
    room.at += text_size(request->path);
    request->method = method_of(http);
    request->header_count = count;
    request->body_len = body_len;
    request->is_local = connection->server->unix_path != NULL;
    put_headers(request, &room, headers);
    request->query = put_text(&room, query);
    request->peer = put_text(&room, peer);
    request->client = put_text(&room, connection->client);
    put_body(request, &room, body);
    *out = request;
    return 0;
}

static void
call_free(struct call *call)
{
    if (call == NULL)
        return;
    http_response_clear(&call->response);
    free(call->request);
    free(call);
}

static void
log_call(const struct call *call, const char *note)
{
    struct timespec now;
    double ms;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = (double)(now.tv_sec - call->begun.tv_sec) * 1e3 +
         (double)(now.tv_nsec - call->begun.tv_nsec) / 1e6;
    hsm_log(HSM_LOG_INFO, "%s %s %d %s %.1f ms%s", method_text(call->request->method),
            call->request->path, call->response.status, call->request->peer, ms, note);
}

static struct bucket *
bucket_of(struct server *server, const struct evhttp_connection *http)
{
    return &server->buckets[((uintptr_t)http >> 6) & (BUCKETS - 1)];
}

static struct connection *
connection_find(struct server *server, const struct evhttp_connection *http)
{
    struct connection *connection;

    LIST_FOREACH(connection, bucket_of(server, http), bucket)
    {
        if (connection->http == http)
            return connection;
    }
    return NULL;
}

/* ---- answers ----------------------------------------------------------- */

/* While stopping: end the loop when nothing is left to wait for. */
static void
end_when_idle(struct acme_http_loop *loop)
{
    if (loop->is_stopping && loop->calls == 0 && loop->replying == 0)
        event_base_loopbreak(loop->base);
}

static void
on_replied(struct evhttp_request *http, void *context)
{
    struct connection *connection = context;

    (void)http;
    connection->is_replying = false;
    connection->since = monotonic_s();
    connection->server->loop->replying--;
    end_when_idle(connection->server->loop);
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
send_reply(struct connection *connection, struct evhttp_request *http, int status,
           struct evbuffer *body)
{
    struct server *server = connection->server;
    struct evhttp_connection *key = connection->http;

    connection->is_replying = true;
    connection->since = monotonic_s();
    server->loop->replying++;
    if (server->loop->is_stopping)
        close_after(http);
    evhttp_request_set_on_complete_cb(http, on_replied, connection);
    evhttp_send_reply(http, status, NULL, body);
    /* evhttp reads on to learn when the peer is gone, but takes one that only said it has nothing
     * more to ask (shutdown(SHUT_WR)) for gone, too. It reads again after the answer. */
    connection = connection_find(server, key);
    if (connection != NULL && connection->is_replying)
        bufferevent_disable(evhttp_connection_get_bufferevent(key), EV_READ);
    end_when_idle(server->loop);
}

/* RFC 9110 sections 6.4.1 and 8.6 */
static bool
status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool
put_reply(struct call *call, struct evhttp_request *http, struct evbuffer *body)
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
static void
deliver(struct call *call)
{
    struct connection *connection = call->connection;
    struct evhttp_request *http = call->http;
    struct evbuffer *body;

    if (connection == NULL) {
        log_call(call, " (the peer is gone)");
        call_free(call);
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
    log_call(call, "");
    send_reply(connection, http, call->response.status, body);
    if (body != NULL)
        evbuffer_free(body);
    call_free(call);
}

/* A request that no handler sees; what follows it on the connection is not to be trusted. */
static void
refuse(struct connection *connection, struct evhttp_request *http, int status)
{
    hsm_log(HSM_LOG_INFO, "%s: request refused: %d", connection->server->address, status);
    if (evhttp_request_get_command(http) == EVHTTP_REQ_CONNECT) {
        evhttp_connection_free(connection->http); /* evhttp keeps it open after any answer */
        return;
    }
    close_after(http);
    evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Length", "0");
    send_reply(connection, http, status, NULL);
}

/* ---- handler threads --------------------------------------------------- */

static void
wake_up(struct acme_http_loop *loop)
{
    const uint64_t one = 1;
    ssize_t n;

    do {
        n = write(loop->wake_fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR); /* EAGAIN: it is awake */
}

static void
handle(struct call *call)
{
    const struct acme_http_handler *handler = &call->server->handler;

    handler->handle(handler->context, call->request, &call->response);
}

static void *
handler_thread(void *context)
{
    struct acme_http_loop *loop = context;
    struct call *call;

    pthread_mutex_lock(&loop->mutex);
    for (;;) {
        while (STAILQ_EMPTY(&loop->queue) && !loop->threads_end)
            pthread_cond_wait(&loop->work, &loop->mutex);
        if (loop->threads_end)
            break;
        call = STAILQ_FIRST(&loop->queue);
        STAILQ_REMOVE_HEAD(&loop->queue, next);
        loop->queue_len--;
        loop->running++;
        pthread_mutex_unlock(&loop->mutex);
        handle(call);
        pthread_mutex_lock(&loop->mutex);
        loop->running--;
        STAILQ_INSERT_TAIL(&loop->done, call, next);
        wake_up(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
    return NULL;
}

/* False: the queue is full. */
static bool
enqueue(struct acme_http_loop *loop, struct call *call)
{
    bool has_room;

    pthread_mutex_lock(&loop->mutex);
    has_room = loop->queue_len < ACME_HTTP_QUEUE_MAX;
    if (has_room) {
        STAILQ_INSERT_TAIL(&loop->queue, call, next);
        loop->queue_len++;
        pthread_cond_signal(&loop->work);
    }
    pthread_mutex_unlock(&loop->mutex);
    if (has_room)
        loop->calls++;
    return has_room;
}

/* Signals are for the loop's thread: a PKCS#11 module is not to be interrupted. */
static enum hsm_status
start_threads(struct acme_http_loop *loop)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && loop->thread_count < loop->threads_wanted) {
        rc = pthread_create(&loop->threads[loop->thread_count], NULL, handler_thread, loop);
        if (rc == 0)
            loop->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot start a thread: %s", strerror(rc));
        return HSM_ERR_NOMEM;
    }
    return HSM_OK;
}

/* False: a handler did not return in its time; its thread cannot be ended. */
static bool
end_threads(struct acme_http_loop *loop)
{
    bool all_rest;

    pthread_mutex_lock(&loop->mutex);
    loop->threads_end = true;
    pthread_cond_broadcast(&loop->work);
    all_rest = loop->running == 0;
    pthread_mutex_unlock(&loop->mutex);
    for (unsigned i = 0; i < loop->thread_count; i++) {
        if (all_rest)
            pthread_join(loop->threads[i], NULL);
        else
            pthread_detach(loop->threads[i]);
    }
    loop->thread_count = 0;
    return all_rest;
}

/* ---- connections ------------------------------------------------------- */

static bool
is_full(const struct server *server)
{
    return server->connection_count >= server->connections_max;
}

/* While the server is full, someone else reads the listening socket, who accepts and closes. */
static void
update_accepting(struct server *server)
{
    struct evconnlistener *listener;

    if (server->socket == NULL)
        return;
    listener = evhttp_bound_socket_get_listener(server->socket);
    if (is_full(server)) {
        evconnlistener_disable(listener);
        event_add(server->refuser, NULL);
    } else {
        event_del(server->refuser);
        evconnlistener_enable(listener);
    }
}

/* Told once a second at most: who floods us with connections does not fill the log as well. */
static void
tell_refused(struct server *server)
{
    time_t now = monotonic_s();

    if (server->refused == 0 || now == server->refused_told)
        return;
    hsm_log(HSM_LOG_WARNING, "%s: %zu connections are open; %zu refused", server->address,
            server->connection_count, server->refused);
    server->refused = 0;
    server->refused_told = now;
}

static void
refuse_connections(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    int client;

    (void)what;
    for (int i = 0; i < REFUSED_AT_ONCE; i++) {
        client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            break;
        close(client);
        server->refused++;
    }
    tell_refused(server);
}

/* evhttp is about to accept: make the connection's stream and take note of it. evhttp falls back
 * to a plain stream when this gives none; on_request() sees that. */
static struct bufferevent *
on_accept(struct event_base *base, void *context)
{
    struct server *server = context;
    struct connection *connection = calloc(1, sizeof(*connection));
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
forget_connection(struct connection *connection)
{
    struct server *server = connection->server;
    bool was_full = is_full(server);

    server->connection_count--;
    if (was_full && !is_full(server))
        update_accepting(server);
    free(connection->client);
    free(connection);
}

/* Tell a TLS peer that this is the end and no truncation, unless something broke before. */
static void
say_goodbye(const struct connection *connection)
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
    struct connection *connection = context;
    struct server *server = connection->server;
    struct acme_http_loop *loop = server->loop;
    struct call *call = connection->call;

    (void)http;
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
    end_when_idle(loop);
}

/*
 * Bind what on_accept() noted to evhttp's connections. evhttp 2.1 tells us of a connection with its
 * first request at the earliest, which is too late to count and to time it; but it is what the
 * stream's callbacks are given. They are cleared when the stream was released meanwhile.
 */
static void
adopt(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct connection *connection;

    (void)fd;
    (void)what;
    while ((connection = TAILQ_FIRST(&loop->fresh)) != NULL) {
        struct bufferevent *bev = connection->bev;
        void *http = NULL;

        TAILQ_REMOVE(&loop->fresh, connection, all);
        bufferevent_getcb(bev, NULL, NULL, NULL, &http);
        connection->bev = NULL;
        connection->http = http;
        connection->since = monotonic_s();
        if (http != NULL) {
            TAILQ_INSERT_TAIL(&connection->server->connections, connection, all);
            LIST_INSERT_HEAD(bucket_of(connection->server, http), connection, bucket);
            evhttp_connection_set_closecb(http, on_close, connection);
        } else {
            forget_connection(connection);
        }
        bufferevent_decref(bev);
    }
}

/* evhttp's timeout begins anew with each octet; this one does not. */
static void
sweep(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct connection *connection, *following;
    struct server *server;
    time_t now = monotonic_s();

    (void)fd;
    (void)what;
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        tell_refused(server);
        for (connection = TAILQ_FIRST(&server->connections); connection != NULL;
             connection = following) {
            following = TAILQ_NEXT(connection, all);
            if (connection->call == NULL && now - connection->since > 2 * (time_t)server->idle_s)
                evhttp_connection_free(connection->http); /* on_close() does the rest */
        }
    }
}

/* The subject of the client's certificate; OpenSSL let in only those that chain to an anchor. */
static void
learn_client(struct connection *connection)
{
    SSL *ssl = bufferevent_openssl_get_ssl(evhttp_connection_get_bufferevent(connection->http));
    X509 *cert = ssl != NULL ? SSL_get0_peer_certificate(ssl) : NULL;

    if (cert != NULL && connection->client == NULL && SSL_get_verify_result(ssl) == X509_V_OK)
        connection->client = certs_cert_subject(cert);
}

/* A whole request has come in; the HTTP status to refuse it with, or 0. */
static int
call_new(struct connection *connection, struct evhttp_request *http, struct call **out)
{
    struct call *call;
    int status = check_headers(http, may_have_body(http));

    if (status != 0)
        return status;
    learn_client(connection);
    call = calloc(1, sizeof(*call));
    if (call == NULL)
        return 503;
    status = request_new(connection, http, &call->request);
    if (status != 0) {
        free(call);
        return status;
    }
    clock_gettime(CLOCK_MONOTONIC, &call->begun);
    http_response_init(&call->response);
    call->server = connection->server;
    call->connection = connection;
    call->http = http;
    connection->call = call;
    *out = call;
    return 0;
}

static bool
is_quick(const struct call *call)
{
    const struct acme_http_handler *handler = &call->server->handler;

    return handler->is_quick != NULL &&
           handler->is_quick(handler->context, call->request->method, call->request->path);
}

static void
on_request(struct evhttp_request *http, void *context)
{
    struct server *server = context;
    struct connection *connection = connection_find(server, evhttp_request_get_connection(http));
    struct call *call = NULL;
    int status;

    if (connection == NULL) { /* no memory at accept: a plain stream, even where TLS is due */
        evhttp_send_error(http, 503, NULL);
        return;
    }
    status = call_new(connection, http, &call);
    if (status != 0) {
        refuse(connection, http, status);
    } else if (is_quick(call)) {
        handle(call);
        deliver(call);
    } else if (!enqueue(server->loop, call)) {
        acme_http_respond(&call->response, 503, NULL, NULL, 0);
        acme_http_response_header(&call->response, "Retry-After", "1");
        deliver(call);
    }
}

/* ---- the loop ---------------------------------------------------------- */

static void
take_back_calls(struct acme_http_loop *loop)
{
    struct calls done = STAILQ_HEAD_INITIALIZER(done);
    struct call *call;

    pthread_mutex_lock(&loop->mutex);
    STAILQ_CONCAT(&done, &loop->done);
    pthread_mutex_unlock(&loop->mutex);
    while ((call = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, next);
        loop->calls--;
        deliver(call);
    }
}

/* Connections that wait for a request have nothing to lose. */
static void
close_idle(struct server *server)
{
    struct connection *connection, *following;

    for (connection = TAILQ_FIRST(&server->connections); connection != NULL;
         connection = following) {
        following = TAILQ_NEXT(connection, all);
        if (connection->call == NULL && !connection->is_replying)
            evhttp_connection_free(connection->http);
    }
}

static void
stop_accepting(struct server *server)
{
    if (server->socket == NULL)
        return;
    event_del(server->refuser);
    evhttp_del_accept_socket(server->http, server->socket);
    server->socket = NULL;
}

static void
begin_stop(struct acme_http_loop *loop)
{
    const struct timeval limit = {STOP_S, 0};
    struct server *server;

    loop->is_stopping = true;
    adopt(-1, 0, loop);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        stop_accepting(server);
        close_idle(server);
    }
    event_add(loop->deadline, &limit);
    end_when_idle(loop);
}

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    uint64_t count;

    (void)what;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    take_back_calls(loop);
    if (atomic_load(&loop->stop_asked) && !loop->is_stopping)
        begin_stop(loop);
    end_when_idle(loop);
}

static void
on_signal(evutil_socket_t number, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)what;
    hsm_log(HSM_LOG_INFO, "stopping: signal %d", (int)number);
    if (!loop->is_stopping)
        begin_stop(loop);
}

static void
on_deadline(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)fd;
    (void)what;
    hsm_log(HSM_LOG_WARNING, "stopping: %zu calls did not finish in %d s", loop->calls, STOP_S);
    event_base_loopbreak(loop->base);
}

static void
on_tick(evutil_socket_t fd, short what, void *context)
{
    const struct tick *tick = context;

    (void)fd;
    (void)what;
    tick->tick(tick->context);
}

static void
on_libevent_log(int severity, const char *message)
{
    hsm_log(severity >= EVENT_LOG_WARN ? HSM_LOG_WARNING : HSM_LOG_DEBUG, "libevent: %s", message);
}

static void
start_libevent(void)
{
    struct sigaction now;

    evthread_use_pthreads();
    event_set_log_callback(on_libevent_log);
    /* A peer that is gone is an error of write(), not the end of the process. */
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static bool
make_events(struct acme_http_loop *loop)
{
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    loop->adopt = event_new(loop->base, -1, 0, adopt, loop);
    loop->sweep = event_new(loop->base, -1, EV_PERSIST, sweep, loop);
    loop->deadline = event_new(loop->base, -1, 0, on_deadline, loop);
    loop->sigterm = evsignal_new(loop->base, SIGTERM, on_signal, loop);
    loop->sigint = evsignal_new(loop->base, SIGINT, on_signal, loop);
    return loop->wake != NULL && loop->adopt != NULL && loop->sweep != NULL &&
           loop->deadline != NULL && loop->sigterm != NULL && loop->sigint != NULL &&
           event_add(loop->wake, NULL) == 0;
}

enum hsm_status
acme_http_loop_new(unsigned threads, struct acme_http_loop **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    DEFER(acme_http_loop_free) struct acme_http_loop *loop = NULL;

    if (threads == 0 || threads > THREADS_MAX)
        return HSM_ERR_USAGE;
    pthread_once(&once, start_libevent);
    loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return HSM_ERR_NOMEM;
    TAILQ_INIT(&loop->servers);
    TAILQ_INIT(&loop->ticks);
    TAILQ_INIT(&loop->fresh);
    STAILQ_INIT(&loop->queue);
    STAILQ_INIT(&loop->done);
    pthread_mutex_init(&loop->mutex, NULL);
    pthread_cond_init(&loop->work, NULL);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = event_base_new();
    if (loop->wake_fd < 0 || loop->base == NULL || !make_events(loop)) {
        hsm_log(HSM_LOG_ERROR, "cannot make an event loop: %s", strerror(errno));
        return HSM_ERR_NOMEM;
    }
    loop->threads_wanted = threads;
    *out = loop;
    loop = NULL;
    return HSM_OK;
}

/* ---- servers ----------------------------------------------------------- */

static void
server_free(struct server *server)
{
    struct stat about;

    if (server->http != NULL) {
        if (server->socket != NULL)
            stop_accepting(server);
        evhttp_free(server->http); /* closes the connections */
    }
    if (server->refuser != NULL)
        event_free(server->refuser);
    /* Only our own socket: another server may have taken the path meanwhile. */
    if (server->unix_path != NULL && lstat(server->unix_path, &about) == 0 &&
        about.st_dev == server->unix_file.st_dev && about.st_ino == server->unix_file.st_ino)
        unlink(server->unix_path);
    SSL_CTX_free(server->tls);
    free(server->unix_path);
    free(server->address);
    free(server);
}

DEFINE_DEFER(struct server, server_free)

static unsigned
port_of(int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
        return 0;
    if (name.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&name)->sin_port);
    if (name.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&name)->sin6_port);
    return 0;
}

static bool
make_http(struct server *server)
{
    server->http = evhttp_new(server->loop->base);
    if (server->http == NULL)
        return false;
    evhttp_set_max_headers_size(server->http, ACME_HTTP_HEADERS_MAX);
    evhttp_set_max_body_size(server->http, ACME_HTTP_BODY_MAX);
    evhttp_set_timeout(server->http, (int)server->idle_s);
    /* A body that is too large is read away, so that the client gets to read the 413. */
    evhttp_set_flags(server->http, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_default_content_type(server->http, NULL);
    evhttp_set_allowed_methods(server->http, UINT16_MAX); /* handlers answer 405 */
    evhttp_set_bevcb(server->http, on_accept, server);
    evhttp_set_gencb(server->http, on_request, server);
    return true;
}

/* Takes over the listening socket. */
static enum hsm_status
start_accepting(struct server *server, int fd)
{
    if (server->unix_path != NULL)
        (void)lstat(server->unix_path, &server->unix_file);
    server->port = port_of(fd);
    if (!make_http(server)) {
        close(fd);
        return HSM_ERR_NOMEM;
    }
    server->socket = evhttp_accept_socket_with_handle(server->http, fd);
    if (server->socket == NULL) {
        close(fd);
        return HSM_ERR_NOMEM;
    }
    server->refuser =
        event_new(server->loop->base, fd, EV_READ | EV_PERSIST, refuse_connections, server);
    return server->refuser != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
server_new(struct acme_http_loop *loop, const struct acme_http_server_config *config,
           struct server **out)
{
    struct server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return HSM_ERR_NOMEM;
    TAILQ_INIT(&server->connections);
    server->loop = loop;
    server->handler = config->handler;
    server->idle_s = config->idle_s != 0 ? config->idle_s : ACME_HTTP_IDLE_S;
    server->connections_max =
        config->connections_max != 0 ? config->connections_max : ACME_HTTP_CONNECTIONS_MAX;
    server->address = strdup(config->address);
    if (server->address == NULL) {
        free(server);
        return HSM_ERR_NOMEM;
    }
    *out = server;
    return HSM_OK;
}

enum hsm_status
acme_http_loop_listen(struct acme_http_loop *loop, const struct acme_http_server_config *config)
{
    DEFER(server_free) struct server *server = NULL;
    bool is_unix = strncmp(config->address, "unix:", 5) == 0;
    int fd = -1;
    enum hsm_status st;

    if (is_unix != (config->tls_key == NULL)) {
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: %s", config->address,
                is_unix ? "no TLS on a Unix socket" : "TLS needs a key");
        return HSM_ERR_USAGE;
    }
    st = server_new(loop, config, &server);
    if (st == HSM_OK && !is_unix)
        st = http_tls_new(config, &server->tls);
    if (st == HSM_OK)
        st = http_listen(config->address, &fd, &server->unix_path);
    if (st == HSM_OK)
        st = start_accepting(server, fd);
    if (st != HSM_OK)
        return st;
    hsm_log(HSM_LOG_INFO, "listening on %s (port %u)", server->address, server->port);
    TAILQ_INSERT_TAIL(&loop->servers, server, next);
    server = NULL;
    return HSM_OK;
}

unsigned
acme_http_loop_port(const struct acme_http_loop *loop, size_t i)
{
    const struct server *server;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        if (i-- == 0)
            return server->port;
    }
    return 0;
}

enum hsm_status
acme_http_loop_every(struct acme_http_loop *loop, unsigned seconds, void (*tick)(void *context),
                     void *context)
{
    const struct timeval period = {(time_t)seconds, 0};
    struct tick *made;

    if (seconds == 0)
        return HSM_ERR_USAGE;
    made = calloc(1, sizeof(*made));
    if (made == NULL)
        return HSM_ERR_NOMEM;
    made->tick = tick;
    made->context = context;
    made->event = event_new(loop->base, -1, EV_PERSIST, on_tick, made);
    if (made->event == NULL || event_add(made->event, &period) != 0) {
        if (made->event != NULL)
            event_free(made->event);
        free(made);
        return HSM_ERR_NOMEM;
    }
    TAILQ_INSERT_TAIL(&loop->ticks, made, next);
    return HSM_OK;
}

static unsigned
sweep_period(const struct acme_http_loop *loop)
{
    const struct server *server;
    unsigned period = ACME_HTTP_IDLE_S / 4;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        if (server->idle_s / 4 < period)
            period = server->idle_s / 4;
    }
    return period > 0 ? period : 1;
}

enum hsm_status
acme_http_loop_run(struct acme_http_loop *loop)
{
    static atomic_flag signals_taken = ATOMIC_FLAG_INIT; /* a process has them once */
    const struct timeval period = {(time_t)sweep_period(loop), 0};
    enum hsm_status st = start_threads(loop);
    bool has_signals;

    if (st != HSM_OK)
        return st;
    has_signals = !atomic_flag_test_and_set(&signals_taken);
    event_add(loop->sweep, &period);
    if (has_signals) {
        event_add(loop->sigterm, NULL);
        event_add(loop->sigint, NULL);
    }
    if (event_base_dispatch(loop->base) != 0) {
        hsm_log(HSM_LOG_ERROR, "the event loop failed");
        st = HSM_ERR_IO;
    }
    if (has_signals) {
        event_del(loop->sigterm);
        event_del(loop->sigint);
        atomic_flag_clear(&signals_taken);
    }
    loop->is_abandoned = !end_threads(loop);
    if (st != HSM_OK)
        return st;
    return loop->is_abandoned ? HSM_ERR_BUSY : HSM_OK;
}

void
acme_http_loop_stop(struct acme_http_loop *loop)
{
    atomic_store(&loop->stop_asked, true);
    wake_up(loop);
}

static void
free_calls(struct calls *calls)
{
    struct call *call;

    while ((call = STAILQ_FIRST(calls)) != NULL) {
        STAILQ_REMOVE_HEAD(calls, next);
        call_free(call);
    }
}

static void
free_events(struct acme_http_loop *loop)
{
    struct event *const all[] = {loop->wake,     loop->adopt,   loop->sweep,
                                 loop->deadline, loop->sigterm, loop->sigint};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] != NULL)
            event_free(all[i]);
    }
}

static void
free_servers(struct acme_http_loop *loop)
{
    struct server *server;
    struct tick *tick;

    while ((server = TAILQ_FIRST(&loop->servers)) != NULL) {
        TAILQ_REMOVE(&loop->servers, server, next);
        server_free(server);
    }
    while ((tick = TAILQ_FIRST(&loop->ticks)) != NULL) {
        TAILQ_REMOVE(&loop->ticks, tick, next);
        event_free(tick->event);
        free(tick);
    }
}

void
acme_http_loop_free(struct acme_http_loop *loop)
{
    if (loop == NULL || loop->is_abandoned)
        return; /* a thread may still use it */
    if (loop->thread_count > 0)
        (void)end_threads(loop); /* not all could be started: they rest */
    adopt(-1, 0, loop);
    free_servers(loop); /* calls that were not answered forget their connections */
    free_calls(&loop->queue);
    free_calls(&loop->done);
    free_events(loop);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_cond_destroy(&loop->work);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
