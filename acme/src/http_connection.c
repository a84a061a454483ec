/* http_connection.c - connections from accept() to close: requests are passed on, responses
 * written. */
#include "http_loop_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <hsm/clock.h>
#include <hsm/log.h>
#include <hsm/metrics.h>

#define INPUT_MIN     1024 /* octets of the first buffer for an incomplete request */
#define INPUT_MAX     (HTTP_REQUEST_MAX + 1) /* including the NUL behind a body */
#define JOINED_MAX    16384 /* octets of a body that is copied behind the response's head */
#define DROPPED_TURNS 16 /* number of reads that discard input in one turn */

/* ---- closing ----------------------------------------------------------- */

static bool
is_open(const struct http_connection *connection)
{
    return connection->fd >= 0;
}

static void
clear_input(struct http_connection *connection)
{
    struct http_input *input = &connection->input;

    if (input->octets != connection->server->loop->scratch)
        acme_http_octets_free(input->octets, input->len);
    else
        OPENSSL_cleanse(input->octets, input->len);
    memset(input, 0, sizeof(*input));
}

static void
clear_output(struct http_connection *connection)
{
    connection->server->loop->kept -= acme_http_output_len(&connection->output);
    for (size_t i = 0; i < 2; i++)
        acme_http_octets_free(connection->output.texts[i], connection->output.lens[i]);
    memset(&connection->output, 0, sizeof(connection->output));
}

static void
wait_for_input(struct http_connection *connection, bool wanted)
{
    if (wanted == connection->is_reading)
        return;
    if (wanted)
        event_add(&connection->readable, NULL);
    else
        event_del(&connection->readable);
    connection->is_reading = wanted;
}

/* The rest is released by acme_http_connection_release(), when no caller uses it any more. */
static void
close_now(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct acme_http_loop *loop = server->loop;

    wait_for_input(connection, false);
    event_del(&connection->writable);
    if (!connection->is_lingering && !connection->is_replying && connection->call == NULL)
        acme_http_stream_end(connection);
    SSL_free(connection->ssl);
    connection->ssl = NULL;
    close(connection->fd);
    connection->fd = -1;
    clear_input(connection);
    clear_output(connection);
    if (connection->is_ready)
        TAILQ_REMOVE(&loop->ready, connection, ready);
    if (connection->is_replying)
        loop->replying--;
    TAILQ_REMOVE(&server->connections, connection, all);
    server->connection_count--;
    acme_http_accept_update(server);
    acme_http_end_when_idle(loop);
}

void
acme_http_connection_release(struct http_connection *connection)
{
    if (is_open(connection))
        return;
    if (connection->call != NULL) {
        acme_http_forget_parked(connection->call); /* the call releases the connection at its end */
        return;
    }
    acme_http_peer_forget(&connection->peer);
    free(connection);
}

/* Read and discard what the peer still sends: closing before the peer has read the response could
 * lose the response (RFC 9112 section 9.6). */
static void
linger(struct http_connection *connection)
{
    struct acme_http_loop *loop = connection->server->loop;
    ssize_t n = 1;

    for (int i = 0; i < DROPPED_TURNS && n > 0; i++)
        n = recv(connection->fd, loop->scratch, HTTP_SCRATCH, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_now(connection);
}

static void
close_in_peace(struct http_connection *connection)
{
    acme_http_stream_end(connection);
    connection->is_lingering = true;
    clear_input(connection);
    if (connection->is_broken || connection->server->loop->is_stopping) {
        close_now(connection);
        return;
    }
    wait_for_input(connection, true);
    linger(connection);
}

/* ---- responses --------------------------------------------------------- */

/* One request at a time. */
static bool
may_read(const struct http_connection *connection)
{
    return connection->call == NULL && !connection->is_replying && !connection->is_lingering;
}

/* Queue it: it is served after the connections that are ready already. */
static void
make_ready(struct http_connection *connection)
{
    const struct timeval now = {0, 0};
    struct acme_http_loop *loop = connection->server->loop;

    if (connection->is_ready)
        return;
    if (TAILQ_EMPTY(&loop->ready))
        event_add(loop->proceed, &now);
    TAILQ_INSERT_TAIL(&loop->ready, connection, ready);
    connection->is_ready = true;
}

/* The response has been written. */
static void
on_replied(struct http_connection *connection)
{
    struct acme_http_loop *loop = connection->server->loop;

    connection->is_replying = false;
    connection->since = connection->progress;
    loop->replying--;
    clear_output(connection);
    if (connection->persistence == HTTP_CLOSES) {
        close_in_peace(connection);
    } else {
        if (connection->input.len > 0 || acme_http_stream_has_more(connection))
            make_ready(connection);
        wait_for_input(connection, true);
    }
    acme_http_end_when_idle(loop);
}

/* The unsent rest of the parts; empty ones are left out. */
static size_t
parts_left(const struct iovec *parts, size_t sent, struct iovec *left)
{
    size_t count = 0;

    for (size_t i = 0; i < 2; i++) {
        size_t gone = sent < parts[i].iov_len ? sent : parts[i].iov_len;

        sent -= gone;
        if (gone < parts[i].iov_len) {
            left[count].iov_base = (char *)parts[i].iov_base + gone;
            left[count++].iov_len = parts[i].iov_len - gone;
        }
    }
    return count;
}

/* Write as much as the peer takes; returns the number of octets sent so far, or
 * HTTP_STREAM_ENDED. */
static ssize_t
write_parts(struct http_connection *connection, const struct iovec *parts, size_t sent)
{
    struct iovec left[2];
    size_t count;

    while ((count = parts_left(parts, sent, left)) > 0) {
        ssize_t n = acme_http_stream_write(connection, left, count);

        if (n < 0)
            return HTTP_STREAM_ENDED;
        if (n == HTTP_STREAM_WAITS)
            break;
        sent += (size_t)n;
        connection->progress = hsm_clock_s();
    }
    return (ssize_t)sent;
}

static void
on_writable(evutil_socket_t fd, short what, void *context)
{
    struct http_connection *connection = context;
    struct http_output *output = &connection->output;
    const struct iovec parts[] = {{output->texts[0], output->lens[0]},
                                  {output->texts[1], output->lens[1]}};
    ssize_t sent = write_parts(connection, parts, output->sent);

    (void)fd;
    (void)what;
    if (sent < 0) {
        close_now(connection);
    } else if ((size_t)sent == acme_http_output_len(output)) {
        if (connection->is_replying)
            on_replied(connection);
        else if (may_read(connection)) /* a TLS handshake waited for the socket to be writable */
            make_ready(connection);
    } else {
        output->sent = (size_t)sent;
        event_add(&connection->writable, NULL);
    }
    acme_http_connection_release(connection);
}

/* Keep what the peer has not taken yet; takes over the body. */
static bool
keep_output(struct http_connection *connection, const struct http_text *head,
            struct http_text *body, size_t sent)
{
    struct http_output *output = &connection->output;

    output->texts[0] = malloc(head->len);
    if (output->texts[0] == NULL)
        return false;
    memcpy(output->texts[0], head->octets, head->len);
    output->lens[0] = head->len;
    if (body != NULL) {
        output->texts[1] = body->octets;
        output->lens[1] = body->len;
        memset(body, 0, sizeof(*body));
    }
    output->sent = sent;
    connection->server->loop->kept += acme_http_output_len(output);
    return true;
}

/* Bound the memory for responses that peers request but do not read. */
static void
bound_kept(struct http_connection *newest)
{
    struct acme_http_loop *loop = newest->server->loop;
    struct http_connection *slowest;

    while (loop->kept > HTTP_KEPT_MAX && (slowest = acme_http_slowest(loop, newest)) != NULL) {
        hsm_log(HSM_LOG_WARNING, "%s: closed: more than %d octets wait to be taken",
                slowest->server->address, HTTP_KEPT_MAX);
        close_now(slowest);
        acme_http_connection_release(slowest);
    }
}

static const char *
date_of_now(struct acme_http_loop *loop)
{
    time_t now = time(NULL);

    if (now != loop->date_of) {
        acme_http_date(now, loop->date);
        loop->date_of = now;
    }
    return loop->date;
}

/* May close the connection. */
static void
reply(struct http_connection *connection, struct acme_http_response *response, bool is_head)
{
    struct acme_http_loop *loop = connection->server->loop;
    struct http_text *head = &loop->head;
    struct http_text *body =
        is_head || !acme_http_status_has_content(response->status) ? NULL : &response->body;
    struct iovec parts[2] = {{NULL, 0}, {NULL, 0}};
    ssize_t sent = HTTP_STREAM_ENDED;

    connection->is_replying = true;
    connection->since = connection->progress = hsm_clock_s();
    loop->replying++;
    if (loop->is_stopping || loop->is_draining)
        connection->persistence = HTTP_CLOSES;
    if (!acme_http_response_head(response, date_of_now(loop), connection->persistence, head)) {
        close_now(connection);
        return;
    }
    if (body != NULL && body->len <= JOINED_MAX &&
        acme_http_text_add(head, body->octets, body->len))
        body = NULL;
    parts[0] = (struct iovec){head->octets, head->len};
    if (body != NULL)
        parts[1] = (struct iovec){body->octets, body->len};
    sent = write_parts(connection, parts, 0);
    if (sent == (ssize_t)(parts[0].iov_len + parts[1].iov_len))
        on_replied(connection);
    else if (sent < 0 || !keep_output(connection, head, body, (size_t)sent))
        close_now(connection);
    else {
        event_add(&connection->writable, NULL);
        bound_kept(connection);
    }
    OPENSSL_cleanse(head->octets, head->len); /* the body may have been copied there */
}

/* Respond to a call that a thread had or that was deferred. */
void
acme_http_deliver(struct http_call *call)
{
    struct http_connection *connection = call->connection;

    connection->call = NULL;
    acme_http_call_finish(call);
    acme_http_observe_call(call, is_open(connection) ? "" : " (the peer is gone)");
    if (is_open(connection))
        reply(connection, &call->response, call->request.method == ACME_HTTP_HEAD);
    acme_http_call_free(call);
}

/* Refuse a request that no handler gets; whatever follows on the connection cannot be trusted. */
static void
refuse(struct http_connection *connection, int status)
{
    struct acme_http_response response;

    acme_http_observe_refusal(connection->server, connection->parser.method, status);
    acme_http_response_init(&response);
    response.status = status;
    connection->persistence = HTTP_CLOSES;
    clear_input(connection);
    reply(connection, &response, false);
}

/* ---- requests ---------------------------------------------------------- */

/* Move unread input from the loop's shared scratch buffer to memory of its own. */
static bool
own_input(struct http_connection *connection, size_t from)
{
    struct http_input *input = &connection->input;
    size_t len = input->len - from;
    char *own;

    if (len == 0) {
        clear_input(connection);
        return true;
    }
    if (input->octets != connection->server->loop->scratch) {
        memmove(input->octets, input->octets + from, len);
        OPENSSL_cleanse(input->octets + len, from);
        input->len = len;
        return true;
    }
    own = malloc(len < INPUT_MIN ? INPUT_MIN : len + 1);
    if (own == NULL)
        return false;
    memcpy(own, input->octets + from, len);
    OPENSSL_cleanse(input->octets, input->len);
    *input = (struct http_input){own, len, len < INPUT_MIN ? INPUT_MIN : len + 1};
    return true;
}

/* The request in `input` was taken; octets behind it belong to the next request. */
static void
next_request(struct http_connection *connection)
{
    if (!own_input(connection, connection->parser.at))
        close_now(connection);
    acme_http_parser_reset(&connection->parser);
}

/* Respond to a call that the loop handled itself. */
static void
answer(struct http_connection *connection, struct http_call *call)
{
    acme_http_observe_call(call, "");
    next_request(connection);
    if (is_open(connection))
        reply(connection, &call->response, call->request.method == ACME_HTTP_HEAD);
}

static void
hand_out(struct http_connection *connection, struct http_call *call)
{
    struct http_call *copy = acme_http_call_copy(call);

    if (copy != NULL) {
        copy->is_slow = acme_http_call_is(copy, call->server->handler.is_slow);
        connection->call = copy;
        if (acme_http_enqueue(call->server->loop, copy)) {
            next_request(connection);
            return;
        }
        connection->call = NULL;
        acme_http_call_free(copy);
    }
    acme_http_respond(&call->response, 503, NULL, NULL, 0);
    acme_http_response_header(&call->response, "Retry-After", "1");
    answer(connection, call);
}

/* The handler ran in the loop and asked to run again on a thread. */
static void
hand_over(struct http_connection *connection, struct http_call *call)
{
    acme_http_response_clear(&call->response);
    acme_http_response_init(&call->response);
    hand_out(connection, call);
}

/* The handler ran in the loop and deferred part of its work. */
static void
defer(struct http_connection *connection, struct http_call *call)
{
    struct http_call *copy = acme_http_call_copy(call);

    if (copy == NULL) {
        acme_http_handle(call);
        acme_http_call_finish(call);
        answer(connection, call);
        return;
    }
    acme_http_response_init(&call->response); /* it belongs to the copy now */
    connection->call = copy;
    next_request(connection);
    acme_http_later_add(copy);
}

/* The loop has nothing else to do. */
static bool
is_alone(const struct acme_http_loop *loop)
{
    return loop->calls == 0 && TAILQ_EMPTY(&loop->ready) &&
           event_base_get_num_events(loop->base, EVENT_BASE_COUNT_ACTIVE) == 0;
}

static bool
is_for_loop(const struct http_call *call)
{
    const struct acme_http_handler *handler = &call->server->handler;

    return acme_http_call_is(call, handler->is_quick) ||
           (is_alone(call->server->loop) && acme_http_call_is(call, handler->is_brief));
}

/* Process a complete request. Its handler borrows the octets in place; the octet behind the body,
 * which may be the first of the next request, is NUL meanwhile. */
static void
take_request(struct http_connection *connection)
{
    const struct http_parser *parser = &connection->parser;
    char *end = connection->input.octets + parser->body + parser->body_len;
    char behind = *end;
    struct http_call call;

    if (!connection->is_known)
        acme_http_peer_learn(connection);
    connection->persistence = !acme_http_parser_persists(parser) ? HTTP_CLOSES
                              : parser->is_old                   ? HTTP_PERSISTS_SAID
                                                                 : HTTP_PERSISTS;
    acme_http_call_init(&call, connection);
    if (is_for_loop(&call)) {
        *end = '\0';
        acme_http_handle(&call);
        *end = behind;
        if (call.is_handed_over)
            hand_over(connection, &call);
        else if (call.rest.work != NULL)
            defer(connection, &call);
        else
            answer(connection, &call);
    } else {
        hand_out(connection, &call);
    }
    acme_http_response_clear(&call.response);
}

/* RFC 9110 section 10.1.1: the client waits for this response before it sends the body. */
static void
tell_to_continue(struct http_connection *connection)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const struct iovec part = {(char *)(uintptr_t)text, sizeof(text) - 1};

    connection->parser.wants_continue = false;
    if (acme_http_stream_write(connection, &part, 1) != (ssize_t)part.iov_len)
        close_now(connection);
}

/* Parse the input; true if more must be read. */
static bool
use_input(struct http_connection *connection)
{
    int status =
        acme_http_parse(&connection->parser, connection->input.octets, &connection->input.len);

    if (status == HTTP_PARSE_WHOLE) {
        take_request(connection);
        return false;
    }
    if (status != HTTP_PARSE_MORE) {
        refuse(connection, status);
        return false;
    }
    if (!own_input(connection, 0))
        close_now(connection);
    else if (connection->parser.wants_continue)
        tell_to_continue(connection);
    return is_open(connection);
}

/* Make room for more input; false: no memory, or the request is too large. */
static bool
make_room(struct http_connection *connection)
{
    struct http_input *input = &connection->input;
    size_t size = 2 * input->size < INPUT_MAX ? 2 * input->size : INPUT_MAX;
    char *more;

    if (input->octets == NULL) {
        *input = (struct http_input){connection->server->loop->scratch, 0, HTTP_SCRATCH};
        return true;
    }
    if (input->len + 1 < input->size)
        return true;
    more = size > input->size ? malloc(size) : NULL; /* realloc() could leave a copy */
    if (more == NULL)
        return false;
    memcpy(more, input->octets, input->len);
    acme_http_octets_free(input->octets, input->len);
    input->octets = more;
    input->size = size;
    return true;
}

static void
read_on(struct http_connection *connection)
{
    struct http_input *input = &connection->input;
    size_t room;
    ssize_t n;

    do {
        if (!make_room(connection)) {
            close_now(connection);
            return;
        }
        room = input->size - input->len - 1;
        n = acme_http_stream_read(connection, input->octets + input->len, room);
        if (n == HTTP_STREAM_ENDED) {
            close_now(connection);
            return;
        }
        if (n == HTTP_STREAM_WAITS) {
            if (input->len == 0)
                clear_input(connection);
            return;
        }
        input->len += (size_t)n;
        connection->progress = hsm_clock_s();
    } while (use_input(connection) && ((size_t)n == room || acme_http_stream_has_more(connection)));
}

/* Nothing is read while a call is in flight or a response is being written, but a closed connection
 * is noticed. A peer that has only shut down its sending side gets its response. */
static void
look_at_peer(struct http_connection *connection)
{
    struct pollfd peer = {.fd = connection->fd};

    if (poll(&peer, 1, 0) == 1) { /* no events were requested: POLLHUP or POLLERR */
        connection->is_broken = true;
        close_now(connection);
    } else {
        wait_for_input(connection, false);
    }
}

static void
on_readable(evutil_socket_t fd, short what, void *context)
{
    struct http_connection *connection = context;

    (void)fd;
    (void)what;
    if (connection->is_lingering)
        linger(connection);
    else if (!may_read(connection))
        look_at_peer(connection);
    else if (!connection->is_ready) /* else it is queued already */
        read_on(connection);
    acme_http_connection_release(connection);
}

void
acme_http_proceed(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_connections turn = TAILQ_HEAD_INITIALIZER(turn);
    struct http_connection *connection;

    (void)fd;
    (void)what;
    TAILQ_CONCAT(&turn, &loop->ready, ready); /* later ones wait for the next turn */
    while ((connection = TAILQ_FIRST(&turn)) != NULL) {
        TAILQ_REMOVE(&turn, connection, ready);
        connection->is_ready = false;
        if (connection->input.len == 0 || use_input(connection))
            read_on(connection);
        acme_http_connection_release(connection);
    }
}

/* ---- from accept() on -------------------------------------------------- */

static void
know_address(struct http_peer *peer, const struct sockaddr *from)
{
    const void *octets =
        from->sa_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)from)->sin6_addr
            : &((const struct sockaddr_in *)(const void *)from)->sin_addr;

    if (inet_ntop(from->sa_family, octets, peer->address, sizeof(peer->address)) == NULL)
        memcpy(peer->address, "unknown", sizeof("unknown"));
}

static bool
make_connection(struct http_connection *connection, struct http_server *server, int fd)
{
    struct event_base *base = server->loop->base;

    connection->server = server;
    connection->fd = fd;
    connection->since = connection->progress = hsm_clock_s();
    connection->peer.uid = -1;
    connection->peer.is_local = server->is_unix;
    acme_http_parser_reset(&connection->parser);
    if (server->tls != NULL && !acme_http_stream_begin(connection, server->tls))
        return false;
    return event_assign(&connection->readable, base, fd, EV_READ | EV_PERSIST, on_readable,
                        connection) == 0 &&
           event_assign(&connection->writable, base, fd, EV_WRITE, on_writable, connection) == 0;
}

void
acme_http_connection_open(struct http_server *server, int fd, const struct sockaddr *from)
{
    struct http_connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL || !make_connection(connection, server, fd)) {
        if (connection != NULL)
            SSL_free(connection->ssl);
        free(connection);
        close(fd);
        return;
    }
    if (server->is_unix)
        memcpy(connection->peer.address, "unix", sizeof("unix"));
    else
        know_address(&connection->peer, from);
    TAILQ_INSERT_TAIL(&server->connections, connection, all);
    server->connection_count++;
    wait_for_input(connection, true);
}

static void
close_some(struct http_server *server, bool (*is_to_end)(const struct http_connection *, time_t))
{
    struct http_connection *connection, *following;
    time_t now = hsm_clock_s();

    for (connection = TAILQ_FIRST(&server->connections); connection != NULL;
         connection = following) {
        following = TAILQ_NEXT(connection, all);
        if (is_to_end(connection, now)) {
            close_now(connection);
            acme_http_connection_release(connection);
        }
    }
}

void
acme_http_sweep(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_server *server;

    (void)fd;
    (void)what;
    acme_http_observe_loop(loop);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        acme_http_accept_tell(server);
        close_some(server, acme_http_is_overdue);
        acme_http_accept_update(server);
    }
}

static bool
is_waiting(const struct http_connection *connection, time_t now)
{
    (void)now;
    return connection->call == NULL && !connection->is_replying;
}

void
acme_http_close_idle(struct http_server *server)
{
    close_some(server, is_waiting);
}

static bool
is_any(const struct http_connection *connection, time_t now)
{
    (void)connection;
    (void)now;
    return true;
}

void
acme_http_close_all(struct http_server *server)
{
    close_some(server, is_any);
}
