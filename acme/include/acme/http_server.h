/*
 * http_server.h - an HTTP/1.1 server (RFC 9112) over TLS, with the key in the
 * token, or over a Unix socket.
 *
 * One event loop serves the network, and runs handlers of quick and brief
 * requests; others run on a small pool of threads, so that they may wait for a
 * token, a disk or a fetch. Limits are enforced before a handler is called.
 */
#ifndef ACME_HTTP_SERVER_H
#define ACME_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/metrics.h>
#include <hsm/status.h>
#include <hsm/supervise.h>

#define ACME_HTTP_BODY_MAX    65536 /* octets; larger: 413 */
#define ACME_HTTP_HEADERS_MAX 16384 /* octets of a request's head; larger: 431, or 414 */
/* Seconds without progress; then the connection is closed. A request is complete, and an answer
 * taken, within twice this time. */
#define ACME_HTTP_IDLE_S 30
/* Per server, or a quarter of the process's descriptors; more are closed at once. When seven
 * eighths are in use, connections without a request are closed after 3 s. */
#define ACME_HTTP_CONNECTIONS_MAX 1024
#define ACME_HTTP_QUEUE_MAX       1024 /* requests waiting for a thread; more: 503 */
#define ACME_HTTP_PARAM_MAX       128 /* characters of one path parameter */
#define ACME_HTTP_PARKS_MAX       16 /* times that one request may be parked */
#define ACME_HTTP_PARKED_MAX      512 /* requests parked at one time */
#define ACME_HTTP_STUCK_S         60 /* seconds in a handler; then the worker stops beating */

enum acme_http_method {
    ACME_HTTP_GET,
    ACME_HTTP_HEAD,
    ACME_HTTP_POST,
    ACME_HTTP_PUT,
    ACME_HTTP_DELETE,
    ACME_HTTP_OPTIONS,
    ACME_HTTP_OTHER,
};

/* A request: everything is borrowed for the duration of the handler's call. */
struct acme_http_request;
enum acme_http_method acme_http_request_method(const struct acme_http_request *request);
/** The decoded path without query, e.g. "/acme/order/7". */
const char *acme_http_request_path(const struct acme_http_request *request);
/** The raw query after '?', or NULL. */
const char *acme_http_request_query(const struct acme_http_request *request);
/** A header's value, NULL when absent; of several equal ones the first. */
const char *acme_http_request_header(const struct acme_http_request *request, const char *name);
/** The body, NUL-terminated. */
const char *acme_http_request_body(const struct acme_http_request *request, size_t *len);
/** "127.0.0.1" or "unix". */
const char *acme_http_request_peer(const struct acme_http_request *request);
/** True for a connection over the Unix socket. */
bool acme_http_request_is_local(const struct acme_http_request *request);
/** Subject of a client certificate that chained to client_anchors; NULL: none. */
const char *acme_http_request_client(const struct acme_http_request *request);
/** SHA-256 of that certificate, 64 lower-case hex digits; NULL: none. */
const char *acme_http_request_client_sha256(const struct acme_http_request *request);
/** Its subjectAltNames as in certs_cert_alt_names(); NULL: none. */
const char *acme_http_request_client_names(const struct acme_http_request *request);
/** User id of the process that connected to the Unix socket; -1: another kind of connection. */
long acme_http_request_uid(const struct acme_http_request *request);

/*
 * A response: initially 500 and empty, filled by the handler. A call that runs out
 * of memory, or is given a header that cannot be sent, makes it 500 for good.
 */
struct acme_http_response;
void acme_http_respond(struct acme_http_response *response, int status, const char *content_type,
                       const void *body, size_t len);
/** Compact JSON; takes over the reference to `value`, NULL makes it 500. */
void acme_http_respond_json(struct acme_http_response *response, int status,
                            const char *content_type, json_t *value);
/** Add a header; several with one name are allowed. A name that is not a token, or a value with
 *  control characters, cannot be sent. */
void acme_http_response_header(struct acme_http_response *response, const char *name,
                               const char *value);
/** Name of the matched route, for log and metrics (static, e.g. the acme_http_match() pattern).
 *  Without one the path is not logged, as it is client input. */
void acme_http_response_route(struct acme_http_response *response, const char *route);

/*
 * The deferred part of a quick request. The loop first reads all requests that have arrived, then
 * runs their deferred parts in a row, which is faster than finishing one request after the other.
 * If there are many, the deferral thread runs them in a row while the loop reads and writes.
 */
struct acme_http_rest {
    /** The CPU-bound part. Calls are serialised, except when one has waited for something for so
     *  long that those queued behind it were given to the handlers' threads. */
    void (*work)(void *context);
    /** Answer, in the loop, and release the context. Called exactly once: the peer may be gone by
     *  then, and a loop that ends may not have called work(). */
    void (*finish)(void *context, const struct acme_http_request *request,
                   struct acme_http_response *response);
    void *context;
};

/** The last call of a handler: `rest` will answer. False: the request is not a quick one, and the
 *  handler runs on a thread that may do the work itself. */
bool acme_http_defer(struct acme_http_response *response, const struct acme_http_rest *rest);

/*
 * A request that has to wait for something is parked and holds no thread: its
 * handler parks it, returns without an answer, and is called again from the start
 * when it is resumed, which may happen before the handler has returned.
 */
struct acme_http_parked;

/** Park the request, in its handler. NULL: answer now, because there is no memory, it was parked
 *  ACME_HTTP_PARKS_MAX times already, ACME_HTTP_PARKED_MAX others are parked, its peer is gone, or
 *  it is a quick request. Otherwise acme_http_resume() or acme_http_unpark() releases the result.
 *  A parked request is dropped when its peer is gone: on a reset or a closed Unix socket, but not
 *  on TCP's FIN, after which a peer may still read. */
struct acme_http_parked *acme_http_park(struct acme_http_response *response);

/** The last call of a quick request's handler that has to wait after all: the request is handled
 *  again from the start on a thread. False: it is on one already. */
bool acme_http_hand_over(struct acme_http_response *response);

/** True if the request was parked before. */
bool acme_http_was_parked(struct acme_http_response *response);

/** Undo acme_http_park() in the same call of the handler, which then answers. NULL is fine. */
void acme_http_unpark(struct acme_http_parked *parked);

/** Resume a parked request: once, from any thread, even after the loop has ended. False: it was
 *  dropped, and its handler is not called again. */
bool acme_http_resume(struct acme_http_parked *parked);

/** Store something for the handler's next call, in a handler that has parked the request; at most
 *  once for each request. Released with the request. */
void acme_http_keep(struct acme_http_response *response, void *kept, void (*release)(void *kept));

/** What was kept; NULL: nothing. */
void *acme_http_kept(struct acme_http_response *response);

/**
 * Match a path against a pattern of literal segments and ":name" segments,
 * e.g. "/acme/order/:id". params[i] receives the i-th parameter.
 */
bool acme_http_match(const char *path, const char *pattern, char params[][ACME_HTTP_PARAM_MAX + 1],
                     size_t params_max);

struct acme_http_handler {
    /** Answer a request; called on any of the server's threads, including the event loop's. */
    void (*handle)(void *context, const struct acme_http_request *request,
                   struct acme_http_response *response);
    /** True if this request never waits: it is handled in the event loop. NULL: no request is. */
    bool (*is_quick)(void *context, enum acme_http_method method, const char *path);
    /** True if this request waits only for a local disk and the token, which respond quickly: while
     *  the event loop has nothing else to do, it handles such a request itself, which saves waking
     *  another thread. NULL: no request is brief. */
    bool (*is_brief)(void *context, enum acme_http_method method, const char *path);
    /** True if this request may wait for another operator's server, or use much processor time:
     *  slow requests never occupy the last free thread, nor more than half of the queue. NULL: no
     *  request is slow. */
    bool (*is_slow)(void *context, enum acme_http_method method, const char *path);
    void *context; /* borrowed */
};

/** "ADDRESS:PORT" or "[ADDRESS]:PORT"; names are not resolved. */
bool acme_http_address_is_valid(const char *address);

/** True for "127.0.0.1:PORT" and "[::1]:PORT", which no other machine can reach. */
bool acme_http_address_is_loopback(const char *address);

/** A listening socket that worker processes share: opened before fork(), used after it. */
struct acme_http_listener;

/**
 * @param address  as in struct acme_http_server_config
 * @retval HSM_ERR_IO  the address cannot be bound; logged
 */
HSM_MUST_CHECK enum hsm_status acme_http_listener_open(const char *address,
                                                       struct acme_http_listener **out);

/** The TCP port; 0 for a Unix socket. */
unsigned acme_http_listener_port(const struct acme_http_listener *listener);

/** Stop listening, and remove the file of a Unix socket. Call it in the process that opened it,
 *  when no other process uses it any more. NULL is fine. */
void acme_http_listener_close(struct acme_http_listener *listener);
DEFINE_DEFER(struct acme_http_listener, acme_http_listener_close)

struct acme_http_server_config {
    const char *address; /* "127.0.0.1:8443", "[::1]:8443" or "unix:/path" (mode 0600) */
    /* An open socket for this address; borrowed. NULL: one is opened. A full server leaves
     * connections on a shared socket to the other processes; any of them can resume a TLS session.
     */
    const struct acme_http_listener *listener;
    struct hsm_key *tls_key; /* borrowed; NULL for a Unix socket, and without TLS on loopback */
    const struct certs_chain *tls_chain; /* borrowed; leaf first; its key is tls_key */
    const struct certs_chain *client_anchors; /* NULL: client certificates are not requested */
    struct acme_http_handler handler;
    unsigned idle_s; /* 0: ACME_HTTP_IDLE_S */
    unsigned connections_max; /* 0: ACME_HTTP_CONNECTIONS_MAX */
    bool without_tls; /* only on a loopback address: for clients on this machine */
    bool is_quiet; /* do not log requests */
    struct hsm_metrics *metrics; /* borrowed; NULL: nothing is counted */
};

/** An event loop with its threads, and the servers on it. */
struct acme_http_loop;

/** @param threads  1 to 64 handler threads */
HSM_MUST_CHECK enum hsm_status acme_http_loop_new(unsigned threads, struct acme_http_loop **out);

/**
 * Listen; before acme_http_loop_run(). The certificate and the key are compared here, not at the
 * first connection.
 *
 * @retval HSM_ERR_UNTRUSTED  tls_key is not the key of tls_chain
 * @retval HSM_ERR_IO         the address cannot be bound
 */
HSM_MUST_CHECK enum hsm_status acme_http_loop_listen(struct acme_http_loop *loop,
                                                     const struct acme_http_server_config *config);

/** The TCP port of the i-th listener (useful after ":0"); 0 for a Unix socket. */
unsigned acme_http_loop_port(const struct acme_http_loop *loop, size_t i);

/** Call `tick` on one of the handlers' threads every `seconds` (refreshing lists, expiring state):
 *  it may wait, and is not called again before it has returned. Before acme_http_loop_run(). */
HSM_MUST_CHECK enum hsm_status acme_http_loop_every(struct acme_http_loop *loop, unsigned seconds,
                                                    void (*tick)(void *context), void *context);

/**
 * Be the loop of a worker process: report to its supervisor when it begins to serve, and beat as
 * long as the loop turns and no handler or tick is stuck. Before acme_http_loop_run().
 *
 * @param worker  borrowed, outlives the loop
 */
void acme_http_loop_supervise(struct acme_http_loop *loop, struct hsm_worker *worker);

/** Do not handle signals: other code of the process does. Before acme_http_loop_run(). */
void acme_http_loop_leave_signals(struct acme_http_loop *loop);

/**
 * Serve until SIGTERM or SIGINT, or acme_http_loop_stop() from any thread:
 * stop accepting, finish the calls in flight (10 s at most), return. Call it once.
 * If several loops run in a process, the first handles the signals. In a worker
 * SIGHUP means that another worker serves: stop accepting, answer one more request
 * on each open connection, with "Connection: close", and return when none is left.
 *
 * @retval HSM_ERR_BUSY  a handler did not return: end the process without releasing what it uses
 */
HSM_MUST_CHECK enum hsm_status acme_http_loop_run(struct acme_http_loop *loop);
void acme_http_loop_stop(struct acme_http_loop *loop);
/** Do what SIGHUP does in a worker; from any thread. */
void acme_http_loop_drain(struct acme_http_loop *loop);
void acme_http_loop_free(struct acme_http_loop *loop);
DEFINE_DEFER(struct acme_http_loop, acme_http_loop_free)

#endif
