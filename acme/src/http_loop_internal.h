/*
 * http_loop_internal.h - the event loop, its servers, connections and calls.
 *
 * http_server.c      the loop, listening, stopping
 * http_threads.c     handlers that wait
 * http_accept.c      new connections
 * http_connection.c  connections from then to close: requests handed out, answers written
 * http_patience.c    how long connections are waited for
 * http_call.c        a request on its way through a handler
 * http_stream.c      octets over a socket, in TLS or not
 * http_peer.c        who is at the other end
 * http_observe.c     log and metrics of a request
 * http_park.c        requests that wait for something without a thread
 * http_defer.c       the deferred part of quick calls: in turn, or in a thread of its own
 *
 * libevent runs in the loop's thread alone. A handler's thread sees the request
 * and the response of its call and the peer's identity, and nothing else from here.
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
#define HTTP_S_NS        INT64_C(1000000000)
#define HTTP_SCRATCH     32768 /* octets that are read at once */
#define HTTP_SEEN        64 /* series of metrics that are at hand, a power of two */
#define HTTP_KEPT_MAX    67108864 /* octets that wait to be taken, of a loop: more are not kept */

struct http_server;

/* What has come of a request that is not whole. */
struct http_input {
    char *octets; /* owned, or the loop's scratch while it is worked on; NULL: nothing */
    size_t len, size;
};

/* What waits until the peer takes it: one text after the other. */
struct http_output {
    char *texts[2]; /* owned */
    size_t lens[2];
    size_t sent; /* of both */
};

/* A client's connection. Loop thread only, but for `peer`, which is not changed while a handler has
 * a call. */
struct http_connection {
    struct http_server *server;
    int fd; /* -1: it is closed, and stays for the sake of its call */
    SSL *ssl; /* NULL: none */
    unsigned key_updates; /* that came over it */
    struct event readable, writable;
    bool is_reading; /* `readable` is waited for */
    bool is_broken; /* nothing more can be sent to the peer */
    bool is_ready; /* in the loop's list: it has input that was read */
    bool is_replying; /* an answer is being written */
    bool is_lingering; /* the answer was the last, and the peer has not closed */
    enum http_persistence persistence; /* after the answer that comes next */
    bool is_known; /* the peer is */
    struct http_peer peer;
    struct http_call *call; /* the request that a handler's thread has, or that is deferred */
    time_t since; /* monotonic: when it last began to wait for a request, to answer or to linger */
    time_t progress; /* monotonic: when it last gave or took octets */
    struct http_input input;
    struct http_output output;
    struct http_parser parser; /* of what is in `input` */
    TAILQ_ENTRY(http_connection) all; /* of the server */
    TAILQ_ENTRY(http_connection) ready; /* of the loop */
};

TAILQ_HEAD(http_connections, http_connection);

/* A request on its way through a handler. */
struct http_call {
    struct http_connection *connection; /* its fields are for the loop's thread, but for `peer` */
    struct http_server *server;
    struct acme_http_request request;
    struct acme_http_response response;
    struct acme_http_rest rest; /* of a call that was deferred; its functions are NULL else */
    int64_t begun_ns; /* monotonic */
    bool is_slow;
    bool is_handed_over; /* by its handler in the loop, to one on a thread */
    bool is_on_thread; /* a handler has it, on a thread of the pool */
    bool is_resumed; /* parked and resumed before the handler has returned */
    atomic_bool is_in_vain; /* its peer is gone */
    unsigned parks; /* how often it was parked */
    struct acme_http_parked *parked; /* put aside; not owned; under the loop's mutex then */
    void *kept; /* by the handler, for when it has the call again; NULL: nothing */
    void (*release)(void *kept);
    STAILQ_ENTRY(http_call) next;
};

STAILQ_HEAD(http_calls, http_call);

/* Where requests like this one are counted. */
struct http_seen {
    const char *route; /* NULL: an empty place */
    enum acme_http_method method;
    int status;
    struct hsm_series *count, *durations;
};

struct http_server {
    struct acme_http_loop *loop;
    struct acme_http_handler handler;
    char *address; /* for the log */
    struct acme_http_listener *listener; /* owned; NULL: it is shared */
    int fd; /* that listens; -1: no more */
    struct event acceptable; /* of fd */
    bool is_accepting; /* `acceptable` is waited for */
    bool is_unix;
    bool is_quiet;
    struct hsm_metrics *metrics; /* borrowed; NULL: none */
    struct http_seen seen[HTTP_SEEN];
    unsigned port;
    unsigned idle_s;
    size_t connections_max;
    SSL_CTX *tls; /* NULL: none */
    size_t refused; /* connections, since it was last told */
    time_t refused_told; /* monotonic */
    time_t tls_not_after; /* of its chain; 0: without TLS */
    struct http_connections connections;
    size_t connection_count;
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

/* Calls that were deferred. */
struct http_later {
    struct http_calls turn; /* in this turn of the loop */
    size_t turn_len;
    struct event *turn_end; /* when all that was ready has been read */
    size_t out; /* handed over and not taken back */
    struct event *watch; /* now and then while some are out */
    pthread_t thread;
    bool has_thread;

    /* Under the loop's mutex. */
    pthread_cond_t work;
    struct http_calls queue; /* for the thread */
    size_t queue_len;
    bool is_resting; /* the thread is */
    int64_t since_ns; /* monotonic: when it began the call that it has; 0: it has none */
};

struct acme_http_loop {
    struct event_base *base;
    struct event *wake, *proceed, *sweep, *deadline, *sigterm, *sigint, *sighup;
    struct event *drained, *beat;
    int wake_fd; /* eventfd: a call is done, or stop was asked for */
    TAILQ_HEAD(, http_server) servers;
    TAILQ_HEAD(, http_tick) ticks;
    struct http_connections ready; /* served in turn, one request each */
    struct http_later later;
    char *scratch; /* HTTP_SCRATCH octets */
    struct http_text head; /* of the answer that is being written */
    time_t date_of; /* what `date` says */
    char date[HTTP_DATE_SIZE];
    size_t calls; /* and ticks: handed to the threads, or deferred, and not taken back */
    size_t replying;
    size_t kept; /* octets that wait until peers take them */
    bool is_stopping;
    bool is_draining; /* as for a new process that serves already */
    atomic_bool stop_asked, drain_asked;
    atomic_uint parked_count; /* calls, and those whose handler may park them yet */
    unsigned threads_wanted, thread_count;
    pthread_t threads[HTTP_THREADS_MAX];
    struct hsm_worker *worker; /* borrowed; NULL: nobody supervises */
    bool is_stuck; /* and said so */
    bool leaves_signals; /* the process has them otherwise */
    bool is_abandoned; /* a thread still runs: nothing may be released */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;
    struct http_calls queue, slow, done, parked;
    struct http_ticks due, ticked;
    bool is_told; /* that something is done; not taken back yet */
    size_t queue_len; /* of the slow as well */
    size_t running, slow_running;
    unsigned threads_begun;
    time_t busy_since[HTTP_THREADS_MAX]; /* monotonic; 0: that thread rests */
    bool threads_end;
};

/* ---- http_observe.c ---- */

const char *acme_http_method_text(enum acme_http_method method);
/** A request was answered, or its peer is gone. */
void acme_http_observe_call(const struct http_call *call, const char *note);
/** A request was refused that no handler saw. */
void acme_http_observe_refusal(const struct http_server *server, enum acme_http_method method,
                               int status);
/** Now and then: how busy the loop is. */
void acme_http_observe_loop(struct acme_http_loop *loop);

/* ---- http_peer.c ---- */

/** Who is at the other end of an established connection. */
void acme_http_peer_learn(struct http_connection *connection);
void acme_http_peer_forget(struct http_peer *peer);

/* ---- http_stream.c ---- */

#define HTTP_STREAM_WAITS 0
#define HTTP_STREAM_ENDED (-1) /* the peer has nothing more to say, or something broke */

/** TLS over the connection's socket; false: no memory. */
bool acme_http_stream_begin(struct http_connection *connection, SSL_CTX *tls);
/** Octets that were read, HTTP_STREAM_WAITS or HTTP_STREAM_ENDED. The TLS handshake is made by the
 *  way, and may want the socket to be writable: then `writable` is waited for. */
ssize_t acme_http_stream_read(struct http_connection *connection, char *to, size_t size);
/** Octets of the parts that were written, HTTP_STREAM_WAITS or HTTP_STREAM_ENDED. Of what was not,
 *  the same octets come with the next call. */
ssize_t acme_http_stream_write(struct http_connection *connection, const struct iovec *parts,
                               size_t count);
/** True if there is something to be read of which the socket says nothing. */
bool acme_http_stream_has_more(const struct http_connection *connection);
/** Say that nothing more comes. */
void acme_http_stream_end(struct http_connection *connection);

/* ---- http_accept.c ---- */

/** Begin to accept. */
bool acme_http_accept_start(struct http_server *server);
/** As the number of connections wants it: accept, or leave them to others. */
void acme_http_accept_update(struct http_server *server);
/** For good. A socket of our own is closed: nobody connects in vain. */
void acme_http_accept_stop(struct http_server *server);
/** Tell of connections that were refused, once a second at most. */
void acme_http_accept_tell(struct http_server *server);

/* ---- http_connection.c ---- */

/** Seconds of a clock that nobody sets. */
time_t acme_http_monotonic_s(void);

/** Serve an accepted socket, which is taken over; `from` is its peer. */
void acme_http_connection_open(struct http_server *server, int fd, const struct sockaddr *from);
/** Those in loop->ready. */
void acme_http_proceed(evutil_socket_t fd, short what, void *loop);
/** Close connections whose request, or whose answer, takes too long; accept again after an error.
 */
void acme_http_sweep(evutil_socket_t fd, short what, void *loop);
/** Answer, if the peer is still there, and forget the call. */
void acme_http_deliver(struct http_call *call);
/** Free it if it is closed and no call needs it: who calls what may close it calls this last. */
void acme_http_connection_release(struct http_connection *connection);
/** Close the connections that wait for a request: they have nothing to lose. */
void acme_http_close_idle(struct http_server *server);
/** Close all. */
void acme_http_close_all(struct http_server *server);

/* ---- http_patience.c ---- */

/** What waits until the peer takes it, and what it has taken of that. */
size_t acme_http_output_len(const struct http_output *output);
/** True if what lasts so long is given up. */
bool acme_http_is_overdue(const struct http_connection *connection, time_t now);
/** The one whose peer has taken nothing of its answer for longest, or NULL. */
struct http_connection *acme_http_slowest(const struct acme_http_loop *loop,
                                          const struct http_connection *but);

/* ---- http_call.c ---- */

/** Of the whole request that is in the connection's input: octets are borrowed. */
void acme_http_call_init(struct http_call *call, struct http_connection *connection);
/** For a thread, which needs nothing of the connection but its peer: one allocation holds the call
 *  and all octets of its request. NULL: no memory. */
struct http_call *acme_http_call_copy(const struct http_call *call);
/** Ask the handler whether the request is of that kind. */
bool acme_http_call_is(const struct http_call *call,
                       bool (*kind)(void *context, enum acme_http_method method, const char *path));
/** Of a copy: its connection is released, too. */
void acme_http_call_free(struct http_call *call);

/** All of them. */
void acme_http_calls_free(struct http_calls *calls);
/** The call that a handler was given a response of. */
struct http_call *acme_http_call_of(struct acme_http_response *response);
/** The end of a call that was deferred, at most once; nothing for any other. */
void acme_http_call_finish(struct http_call *call);

/* ---- http_defer.c ---- */

/** False: no memory. */
bool acme_http_later_open(struct acme_http_loop *loop);
/** Its thread has ended. */
void acme_http_later_free(struct acme_http_loop *loop);
/** A copy whose handler has deferred it; it is done at the end of this turn of the loop, or given
 *  to the thread then. */
void acme_http_later_add(struct http_call *call);

/* ---- http_park.c ---- */

/** The handler has returned: true if it has parked the call, which is taken care of. With the
 *  loop's mutex held. */
bool acme_http_call_was_parked(struct acme_http_loop *loop, struct http_call *call);
/** The peer of the call is gone: release it if it is parked, and its connection with it; else it is
 *  not parked any more. */
void acme_http_forget_parked(struct http_call *call);
/** Release the calls that nobody has resumed; the threads have ended. */
void acme_http_forget_all_parked(struct acme_http_loop *loop);

/* ---- http_threads.c ---- */

/** Run the handler. */
void acme_http_handle(struct http_call *call);
/** Give a call to the threads; false: the queue is full. */
bool acme_http_enqueue(struct acme_http_loop *loop, struct http_call *call);
/** Give them a tick. */
void acme_http_enqueue_tick(struct http_tick *tick);
/** With the loop's mutex held: of what was deferred, and waits for something. */
void acme_http_enqueue_deferred(struct acme_http_loop *loop, struct http_calls *calls);
/** Notify the loop, once, that calls are done. Called with the loop's mutex held, which is released
 *  meanwhile. */
void acme_http_tell(struct acme_http_loop *loop);
/** Start a thread with all signals blocked; false: it could not be started. */
bool acme_http_thread_start(struct acme_http_loop *loop, void *(*run)(void *loop), pthread_t *out);
/** Wake the loop up, from any thread. */
void acme_http_wake(struct acme_http_loop *loop);
/** What the threads have done: answers go out. */
void acme_http_take_back(struct acme_http_loop *loop);
HSM_MUST_CHECK enum hsm_status acme_http_threads_start(struct acme_http_loop *loop);
/** False: a handler did not return in its time; its thread cannot be ended. */
bool acme_http_threads_end(struct acme_http_loop *loop);
/** How long the thread that is longest at a call or a tick has been at it. */
time_t acme_http_threads_longest_s(struct acme_http_loop *loop);

/* ---- http_server.c ---- */

/** While stopping or draining: end the loop when nothing is left to wait for. */
void acme_http_end_when_idle(struct acme_http_loop *loop);

#endif
