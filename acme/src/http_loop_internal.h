/*
 * http_loop_internal.h - the event loop, its servers, connections and calls.
 *
 * http_server.c      the loop, handler threads, listening, stopping
 * http_connection.c  connections from accept() to close, requests handed out, answers written
 * http_peer.c        who is at the other end
 * http_request.c     what evhttp read, checked and copied
 * http_observe.c     what is told of a request: log and metrics
 * http_park.c        requests that wait for something without a thread
 *
 * libevent runs in the loop's thread alone. A handler's thread sees the request
 * and the response of its call, and nothing else of what is here.
 */
#ifndef ACME_HTTP_LOOP_INTERNAL_H
#define ACME_HTTP_LOOP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <openssl/types.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "http_internal.h"

#define HTTP_THREADS_MAX 64
#define HTTP_BUCKETS     1024 /* of the connections by pointer, a power of two */

struct http_server;

/* A client's connection, from accept() on. Loop thread only. */
struct http_connection {
    struct http_server *server;
    struct bufferevent *bev; /* a reference, until http_adopt() */
    struct evhttp_connection *http; /* NULL until http_adopt() */
    struct http_call *call; /* the request that a handler has; NULL: none */
    bool is_replying; /* an answer is being written */
    bool has_input; /* something of a request has come since the last answer */
    time_t since; /* monotonic: when it last began to read or to write */
    bool is_known; /* what follows was asked for */
    struct http_client client; /* owned texts */
    long uid; /* of the process at the other end of a Unix socket; -1: none */
    TAILQ_ENTRY(http_connection) all; /* of the server, or of the loop before http_adopt() */
    LIST_ENTRY(http_connection) bucket;
};

TAILQ_HEAD(http_connections, http_connection);
LIST_HEAD(http_bucket, http_connection);

/* A request on its way through a handler. */
struct http_call {
    struct http_server *server;
    struct http_connection *connection; /* loop thread; NULL: the peer is gone */
    struct evhttp_request *http; /* loop thread; NULL likewise */
    struct acme_http_request *request;
    struct acme_http_response response;
    int64_t begun_ns; /* monotonic */
    bool is_slow;
    bool is_on_thread; /* a handler has it, on a thread of the pool */
    bool is_resumed; /* parked and resumed before the handler has returned */
    unsigned parks; /* how often it was parked */
    struct acme_http_parked *parked; /* put aside; not owned; under the loop's mutex then */
    STAILQ_ENTRY(http_call) next;
};

STAILQ_HEAD(http_calls, http_call);

struct http_server {
    struct acme_http_loop *loop;
    struct acme_http_handler handler;
    char *address; /* for the log */
    struct acme_http_listener *listener; /* owned; NULL: it is shared */
    bool is_unix;
    bool is_quiet;
    struct hsm_metrics *metrics; /* borrowed; NULL: none */
    unsigned port;
    unsigned idle_s;
    size_t connections_max;
    SSL_CTX *tls; /* NULL: none */
    struct evhttp *http;
    struct evhttp_bound_socket *socket; /* NULL once it stopped accepting */
    struct event *refuser; /* accepts and closes while the server is full; NULL: others accept */
    size_t refused; /* connections, since it was last told */
    time_t refused_told; /* monotonic */
    struct http_connections connections;
    size_t connection_count; /* those not adopted yet included */
    struct http_bucket buckets[HTTP_BUCKETS];
    TAILQ_ENTRY(http_server) next;
};

/* Something to do every few seconds, on a handler's thread: it may wait for a token or a disk. */
struct http_tick {
    struct acme_http_loop *loop;
    struct event *event;
    void (*tick)(void *context);
    void *context;
    bool is_out; /* loop thread: handed to the threads and not taken back */
    TAILQ_ENTRY(http_tick) next;
    STAILQ_ENTRY(http_tick) turn; /* in due or ticked */
};

STAILQ_HEAD(http_ticks, http_tick);

struct acme_http_loop {
    struct event_base *base;
    struct event *wake, *adopt, *sweep, *deadline, *sigterm, *sigint, *sighup;
    struct event *drained, *beat;
    int wake_fd; /* eventfd: a call is done, or stop was asked for */
    TAILQ_HEAD(, http_server) servers;
    TAILQ_HEAD(, http_tick) ticks;
    struct http_connections fresh; /* accepted, not adopted yet */
    size_t calls; /* and ticks: handed to the threads and not taken back */
    size_t replying;
    bool is_stopping;
    bool is_draining; /* as for a new process that serves already */
    atomic_bool stop_asked, drain_asked;
    unsigned threads_wanted, thread_count;
    pthread_t threads[HTTP_THREADS_MAX];
    struct hsm_worker *worker; /* borrowed; NULL: nobody supervises */
    bool is_stuck; /* and said so */
    bool is_abandoned; /* a thread still runs: nothing may be released */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;
    struct http_calls queue, slow, done, parked;
    struct http_ticks due, ticked;
    size_t queue_len; /* of the slow as well */
    size_t running, slow_running;
    unsigned threads_begun;
    time_t busy_since[HTTP_THREADS_MAX]; /* monotonic; 0: that thread rests */
    bool threads_end;
};

/* http_request.c */

/** What evhttp lets pass although two readers could see the end of the request in two places
 *  (RFC 9112 sections 5 and 6.3). The HTTP status to refuse with, or 0. */
int http_request_check(struct evhttp_request *http);
/** Copy a request out of evhttp; free() it. The HTTP status to refuse with, or 0. */
int http_request_new(const struct http_connection *connection, struct evhttp_request *http,
                     struct acme_http_request **out);
const char *http_method_text(enum acme_http_method method);
enum acme_http_method http_method_of(struct evhttp_request *http);

/* http_observe.c */

/** A request was answered, or its peer is gone. */
void http_observe_call(const struct http_call *call, const char *note);
/** A request was refused that no handler saw. */
void http_observe_refusal(const struct http_server *server, enum acme_http_method method,
                          int status);
/** Now and then: how busy the loop is. */
void http_observe_loop(struct acme_http_loop *loop);

/* http_peer.c */

/** Who is at the other end of an established connection. */
void http_peer_learn(struct http_connection *connection);
void http_peer_forget(struct http_connection *connection);

/* http_connection.c: callbacks of libevent, and what the loop asks for */

/** Seconds of a clock that nobody sets. */
time_t http_monotonic_s(void);

/** evhttp is about to accept: gives the stream. `context` is the server. */
struct bufferevent *http_on_accept(struct event_base *base, void *context);
/** accept() failed. */
void http_on_accept_error(struct evconnlistener *listener, void *context);
/** A whole request has come in. */
void http_on_request(struct evhttp_request *http, void *context);
/** While the server is full: accept and close. */
void http_refuse_connections(evutil_socket_t fd, short what, void *context);
/** Bind connections that were accepted to evhttp's; `context` is the loop. */
void http_adopt(evutil_socket_t fd, short what, void *context);
/** Close connections whose request, or whose answer, takes too long; accept again after an error.
 */
void http_sweep(evutil_socket_t fd, short what, void *context);
/** Answer, if the peer is still there, and forget the call. */
void http_deliver(struct http_call *call);
void http_call_free(struct http_call *call);
/** Close the connections that wait for a request: they have nothing to lose. */
void http_close_idle(struct http_server *server);

/* http_park.c */

/** The handler has returned: true if it has parked the call, which is taken care of. With the
 *  loop's mutex held. */
bool http_was_parked(struct acme_http_loop *loop, struct http_call *call);
/** Release the calls that nobody has resumed; the threads have ended. */
void http_forget_parked(struct acme_http_loop *loop);

/* http_server.c */

/** Run the handler. */
void http_handle(struct http_call *call);
/** Give a call to the threads; false: the queue is full. */
bool http_enqueue(struct acme_http_loop *loop, struct http_call *call);
/** While stopping: end the loop when nothing is left to wait for. */
void http_end_when_idle(struct acme_http_loop *loop);

#endif
