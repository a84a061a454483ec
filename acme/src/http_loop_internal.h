/*
 * http_loop_internal.h - the event loop, its servers, connections and calls.
 *
 * http_server.c      the loop, listening, stopping
 * http_threads.c     threads for handlers that wait
 * http_accept.c      new connections
 * http_connection.c  connections until they are closed: requests and responses
 * http_patience.c    timeouts of connections
 * http_call.c        a request while a handler processes it
 * http_stream.c      read and write a socket, with or without TLS
 * http_peer.c        the identity of a peer
 * http_observe.c     log and metrics of a request
 * http_park.c        parked requests, which wait without a thread
 * http_defer.c       the deferred part of quick calls, in the loop or in a thread
 *
 * libevent is used in the loop's thread only. A handler's thread uses the request and the
 * response of its call and the peer's identity, and nothing else of these structs.
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
#include <event2/event_struct.h>
#include <openssl/types.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "http_internal.h"

#define HTTP_THREADS_MAX 64
#define HTTP_SCRATCH     32768 /* octets read at once */
#define HTTP_SEEN        64 /* cached series of metrics, a power of two */
#define HTTP_KEPT_MAX    67108864 /* octets of unsent responses that a loop keeps */

struct http_server;

/* Input of an incomplete request. */
struct http_input {
    char *octets; /* owned, or the loop's scratch buffer while it is processed; NULL: empty */
    size_t len, size;
};

/* Output that the peer has not taken yet: one text after the other. */
struct http_output {
    char *texts[2]; /* owned */
    size_t lens[2];
    size_t sent; /* octets of both */
};

/* A client's connection. Used by the loop's thread only, except `peer`, which does not change while
 * a handler has a call. */
struct http_connection {
    struct http_server *server;
    int fd; /* -1: closed, and kept until its call ends */
    SSL *ssl; /* NULL: no TLS */
    unsigned key_updates; /* number of KeyUpdate messages received */
    struct event readable, writable;
    bool is_reading; /* `readable` is in the event loop */
    bool is_broken; /* nothing can be sent to the peer any more */
    bool is_ready; /* in the loop's list: unprocessed input was read */
    bool is_replying; /* a response is being written */
    bool is_lingering; /* the last response was sent; waiting for the peer to close */
    enum http_persistence persistence; /* after the next response */
    bool is_known; /* `peer` is filled in */
    struct http_peer peer;
    struct http_call *call; /* the request that a handler's thread has, or that was deferred */
    time_t since; /* monotonic: since when it has waited for a request, responded or lingered */
    time_t progress; /* monotonic: when the peer last sent or took octets */
    struct http_input input;
    struct http_output output;
    struct http_parser parser; /* of the request in `input` */
    TAILQ_ENTRY(http_connection) all; /* of the server */
    TAILQ_ENTRY(http_connection) ready; /* of the loop */
};

TAILQ_HEAD(http_connections, http_connection);

/* A request while a handler processes it. */
struct http_call {
    struct http_connection *connection; /* for the loop's thread only, except `peer` */
    struct http_server *server;
    struct acme_http_request request;
    struct acme_http_response response;
    struct acme_http_rest rest; /* of a deferred call; else its functions are NULL */
    int64_t begun_ns; /* monotonic */
    bool is_slow;
    bool is_handed_over; /* by its handler, from the loop to a thread */
    bool is_on_thread; /* a handler is processing it on a thread of the pool */
    bool is_resumed; /* parked, and resumed before the handler returned */
    atomic_bool is_in_vain; /* the peer has closed the connection */
    unsigned parks; /* number of times it was parked */
    struct acme_http_parked *parked; /* not owned; once parked, guarded by the loop's mutex */
    void *kept; /* by the handler, for its next run; NULL: nothing */
    void (*release)(void *kept);
    STAILQ_ENTRY(http_call) next;
};

STAILQ_HEAD(http_calls, http_call);

/* A cached series of metrics, for requests with this route, method and status. */
struct http_seen {
    const char *route; /* NULL: unused */
    enum acme_http_method method;
    int status;
    struct hsm_series *count, *durations;
};

struct http_server {
    struct acme_http_loop *loop;
    struct acme_http_handler handler;
    char *address; /* for the log */
    struct acme_http_listener *listener; /* owned; NULL: a shared one is used */
    int fd; /* the listening socket; -1: stopped */
    struct event acceptable; /* of fd */
    bool is_accepting; /* `acceptable` is in the event loop */
    bool is_unix;
    bool is_quiet;
    struct hsm_metrics *metrics; /* borrowed; NULL: none */
    struct http_seen seen[HTTP_SEEN];
    unsigned port;
    unsigned idle_s;
    size_t connections_max;
    SSL_CTX *tls; /* NULL: none */
    size_t refused; /* connections refused since the last log message */
    time_t refused_told; /* monotonic: when that was logged */
    time_t tls_not_after; /* of its chain; 0: without TLS */
    struct http_connections connections;
    size_t connection_count;
    TAILQ_ENTRY(http_server) next;
};

/* A function that runs periodically on a handler's thread, since it may wait for a token or a
 * disk. */
struct http_tick {
    struct acme_http_loop *loop;
    struct event *event;
    void (*tick)(void *context);
    void *context;
    bool is_out; /* loop thread: given to the threads and not yet back */
    TAILQ_ENTRY(http_tick) next;
    STAILQ_ENTRY(http_tick) turn; /* in `due` or `ticked` */
};

STAILQ_HEAD(http_ticks, http_tick);

/* Calls that were deferred. */
struct http_later {
    struct http_calls turn; /* deferred in this turn of the loop */
    size_t turn_len;
    struct event *turn_end; /* after all events that were ready */
    size_t out; /* number of calls given to a thread and not yet back */
    struct event *watch; /* a timer that runs while `out` is not 0 */
    pthread_t thread;
    bool has_thread;

    /* Under the loop's mutex. */
    pthread_cond_t work;
    struct http_calls queue; /* for the thread */
    size_t queue_len;
    bool is_resting; /* the thread is idle */
    int64_t since_ns; /* monotonic: when its current call began; 0: it has none */
};

struct acme_http_loop {
    struct event_base *base;
    struct event *wake, *proceed, *sweep, *deadline, *sigterm, *sigint, *sighup;
    struct event *drained, *beat;
    int wake_fd; /* eventfd: a call is done, or a stop was requested */
    TAILQ_HEAD(, http_server) servers;
    TAILQ_HEAD(, http_tick) ticks;
    struct http_connections ready; /* one request of each is served per turn */
    struct http_later later;
    char *scratch; /* HTTP_SCRATCH octets */
    struct http_text head; /* of the response that is being written */
    time_t date_of; /* the time of `date` */
    char date[HTTP_DATE_SIZE];
    size_t calls; /* calls and ticks given to the threads or deferred, and not yet back */
    size_t replying;
    size_t kept; /* octets of unsent responses */
    bool is_stopping;
    bool is_draining; /* because a new process is already serving */
    atomic_bool stop_asked, drain_asked;
    atomic_uint parked_count; /* parked calls, and calls whose handler may still park them */
    unsigned threads_wanted, thread_count;
    pthread_t threads[HTTP_THREADS_MAX];
    struct hsm_worker *worker; /* borrowed; NULL: there is no supervisor */
    bool is_stuck; /* and this was logged */
    bool leaves_signals; /* the process handles signals itself */
    bool is_abandoned; /* a thread still runs: nothing may be released */

    pthread_mutex_t mutex; /* guards the members below */
    pthread_cond_t work;
    struct http_calls queue, slow, done, parked;
    struct http_ticks due, ticked;
    bool is_told; /* the loop was woken because something is done, and has not yet taken it back */
    size_t queue_len; /* including slow calls */
    size_t running, slow_running;
    unsigned threads_begun;
    time_t busy_since[HTTP_THREADS_MAX]; /* monotonic; 0: the thread is idle */
    bool threads_end;
};

/* ---- http_observe.c ---- */

const char *acme_http_method_text(enum acme_http_method method);
/** Log and count a call that was answered, or whose peer is gone. */
void acme_http_observe_call(const struct http_call *call, const char *note);
/** Count a request that was refused before any handler. */
void acme_http_observe_refusal(const struct http_server *server, enum acme_http_method method,
                               int status);
/** Update the gauges of the loop. */
void acme_http_observe_loop(struct acme_http_loop *loop);

/* ---- http_peer.c ---- */

/** Fill in the identity of the peer of an established connection. */
void acme_http_peer_learn(struct http_connection *connection);
void acme_http_peer_forget(struct http_peer *peer);

/* ---- http_stream.c ---- */

#define HTTP_STREAM_WAITS 0
#define HTTP_STREAM_ENDED (-1) /* the peer has ended the stream, or an error occurred */

/** TLS over the connection's socket; false: no memory. */
bool acme_http_stream_begin(struct http_connection *connection, SSL_CTX *tls);
/** The number of octets read, HTTP_STREAM_WAITS or HTTP_STREAM_ENDED. The TLS handshake takes place
 *  here and may have to write: then `writable` is added to the event loop. */
ssize_t acme_http_stream_read(struct http_connection *connection, char *to, size_t size);
/** The number of octets written from the parts, HTTP_STREAM_WAITS or HTTP_STREAM_ENDED. Octets that
 *  were not written must be passed again, unchanged, with the next call. */
ssize_t acme_http_stream_write(struct http_connection *connection, const struct iovec *parts,
                               size_t count);
/** True if there is input that the socket does not signal. */
bool acme_http_stream_has_more(const struct http_connection *connection);
/** Signal the end of the stream to the peer. */
void acme_http_stream_end(struct http_connection *connection);

/* ---- http_accept.c ---- */

/** Start accepting. */
bool acme_http_accept_start(struct http_server *server);
/** Accept or stop accepting, depending on the number of connections. */
void acme_http_accept_update(struct http_server *server);
/** Stop for good. A socket of its own is closed, so that no peer connects in vain. */
void acme_http_accept_stop(struct http_server *server);
/** Log refused connections, at most once a second. */
void acme_http_accept_tell(struct http_server *server);

/* ---- http_connection.c ---- */

/** Serve an accepted socket, which is taken over; `from` is the peer's address. */
void acme_http_connection_open(struct http_server *server, int fd, const struct sockaddr *from);
/** Process the connections in loop->ready. */
void acme_http_proceed(evutil_socket_t fd, short what, void *loop);
/** Close connections whose request or response takes too long; resume accepting after an error. */
void acme_http_sweep(evutil_socket_t fd, short what, void *loop);
/** Respond if the peer is still connected, and free the call. */
void acme_http_deliver(struct http_call *call);
/** Free it if it is closed and no call needs it. Code that calls anything that may close the
 *  connection calls this last. */
void acme_http_connection_release(struct http_connection *connection);
/** Close the connections that wait for a request: nothing is lost. */
void acme_http_close_idle(struct http_server *server);
/** Close all connections. */
void acme_http_close_all(struct http_server *server);

/* ---- http_patience.c ---- */

/** Octets of the output, including those sent already. */
size_t acme_http_output_len(const struct http_output *output);
/** True if the connection has exceeded the time limit of its state. */
bool acme_http_is_overdue(const struct http_connection *connection, time_t now);
/** The connection, other than `but`, whose peer has read nothing of its response for longest; or
 *  NULL. */
struct http_connection *acme_http_slowest(const struct acme_http_loop *loop,
                                          const struct http_connection *but);

/* ---- http_call.c ---- */

/** Initialize a call from the complete request in the connection's input; octets are borrowed. */
void acme_http_call_init(struct http_call *call, struct http_connection *connection);
/** Copy a call for a thread, which then needs nothing of the connection except its peer. One
 *  allocation holds the call and all octets of its request. NULL: no memory. */
struct http_call *acme_http_call_copy(const struct http_call *call);
/** Ask the handler whether the request is of this kind. */
bool acme_http_call_is(const struct http_call *call,
                       bool (*kind)(void *context, enum acme_http_method method, const char *path));
/** Free a copy; its connection is released, too. */
void acme_http_call_free(struct http_call *call);

/** Free all calls of a list. */
void acme_http_calls_free(struct http_calls *calls);
/** The call that a handler's response belongs to. */
struct http_call *acme_http_call_of(struct acme_http_response *response);
/** Run the `end` of a deferred call, at most once; does nothing for other calls. */
void acme_http_call_finish(struct http_call *call);

/* ---- http_defer.c ---- */

/** False: no memory. */
bool acme_http_later_open(struct acme_http_loop *loop);
/** Its thread must have ended. */
void acme_http_later_free(struct acme_http_loop *loop);
/** Add a copy whose handler has deferred it. It runs at the end of this turn of the loop, or is
 *  given to the thread then. */
void acme_http_later_add(struct http_call *call);

/* ---- http_park.c ---- */

/** After a handler returned: true if it has parked the call, which is then taken care of. With the
 *  loop's mutex held. */
bool acme_http_call_was_parked(struct acme_http_loop *loop, struct http_call *call);
/** The peer is gone: release the call and its connection if it is parked; else make sure that it is
 *  not parked any more. */
void acme_http_forget_parked(struct http_call *call);
/** Release parked calls that were not resumed; the threads must have ended. */
void acme_http_forget_all_parked(struct acme_http_loop *loop);

/* ---- http_threads.c ---- */

/** Run the handler. */
void acme_http_handle(struct http_call *call);
/** Give a call to the threads; false: the queue is full. */
bool acme_http_enqueue(struct acme_http_loop *loop, struct http_call *call);
/** Give a tick to the threads. */
void acme_http_enqueue_tick(struct http_tick *tick);
/** Give deferred calls to the threads. With the loop's mutex held. */
void acme_http_enqueue_deferred(struct acme_http_loop *loop, struct http_calls *calls);
/** Notify the loop, once, that calls are done. Called with the loop's mutex held, which is released
 *  in between. */
void acme_http_tell(struct acme_http_loop *loop);
/** Start a thread with all signals blocked; false: it could not be started. */
bool acme_http_thread_start(struct acme_http_loop *loop, void *(*run)(void *loop), pthread_t *out);
/** Wake the loop up, from any thread. */
void acme_http_wake(struct acme_http_loop *loop);
/** Take back finished calls and ticks, and send the responses. */
void acme_http_take_back(struct acme_http_loop *loop);
HSM_MUST_CHECK enum hsm_status acme_http_threads_start(struct acme_http_loop *loop);
/** False: a handler did not return in time; its thread cannot be ended. */
bool acme_http_threads_end(struct acme_http_loop *loop);
/** For how long the longest-running call or tick has been running. */
time_t acme_http_threads_longest_s(struct acme_http_loop *loop);

/* ---- http_server.c ---- */

/** While stopping or draining: end the loop when nothing is left to wait for. */
void acme_http_end_when_idle(struct acme_http_loop *loop);

#endif
