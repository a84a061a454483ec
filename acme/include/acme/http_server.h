/*
 * http_server.h - server of HTTP/1.1 (RFC 9112) over TLS, with the key in the
 * token, or over a Unix socket.
 *
 * One event loop for the network, and for handlers that are quick or brief;
 * the others run on a small pool of threads, so that one may wait for a token,
 * a disk or a fetch. Limits are enforced before
 * a handler sees anything.
 */
#ifndef ACME_HTTP_SERVER_H
#define ACME_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <certs/chain.h>
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
 * eighths are taken, those that wait for a request are waited for 3 s. */
#define ACME_HTTP_CONNECTIONS_MAX 1024
#define ACME_HTTP_QUEUE_MAX       1024 /* requests waiting for a thread; more: 503 */
#define ACME_HTTP_PARAM_MAX       128 /* characters of one path parameter */
#define ACME_HTTP_PARKS_MAX       16 /* times that one request is put aside */
#define ACME_HTTP_PARKED_MAX      512 /* requests put aside at one time */
#define ACME_HTTP_STUCK_S         60 /* seconds in a handler, then a worker process beats no more */

enum acme_http_method {
    ACME_HTTP_GET,
    ACME_HTTP_HEAD,
    ACME_HTTP_POST,
    ACME_HTTP_PUT,
    ACME_HTTP_DELETE,
    ACME_HTTP_OPTIONS,
    ACME_HTTP_OTHER,
};

/* A request: everything borrowed for the time of the handler's call. */
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
/** Its subjectAltNames as certs_cert_alt_names() tells them; NULL: none. */
const char *acme_http_request_client_names(const struct acme_http_request *request);
/** User id of the process at the other end of a Unix socket when it connected; -1: none. */
long acme_http_request_uid(const struct acme_http_request *request);

/*
 * A response: made 500 and empty, filled by the handler. A call that runs out
 * of memory, or is given a header that cannot be sent, leaves it 500 for good.
 */
struct acme_http_response;
void acme_http_respond(struct acme_http_response *response, int status, const char *content_type,
                       const void *body, size_t len);
/** Compact JSON; takes over the reference to `value`, NULL makes it 500. */
void acme_http_respond_json(struct acme_http_response *response, int status,
                            const char *content_type, json_t *value);
/** Add a header; several of one name are allowed. A name that is no token or a value with control
 *  characters cannot be sent. */
void acme_http_response_header(struct acme_http_response *response, const char *name,
                               const char *value);
/** Which resource it was: what log and metrics call it, a pattern of acme_http_match() for
 * instance; static. Of a request without one the path is not logged: it may be anything. */
void acme_http_response_route(struct acme_http_response *response, const char *route);
int acme_http_response_status(const struct acme_http_response *response);

/*
 * What a quick request leaves for later. The loop first reads whatever has come, and then does what
 * is left of it in a row: that is faster than one request after the other. If it is much, a thread
 * of its own does it, also in a row, while the loop reads and writes.
 */
struct acme_http_rest {
    /** Take the processor's time. Two at once only when one has waited for something for so long
     *  that those behind it were given to the handlers' threads. */
    void (*work)(void *context);
    /** In the loop: answer, and release the context. Once, whatever happens: the peer may be gone,
     *  and a loop that ends may not have called work(). */
    void (*finish)(void *context, const struct acme_http_request *request,
                   struct acme_http_response *response);
    void *context;
};

/** In a handler, last: the answer is given by `rest`. False: the request is not a quick one, and
 *  its handler has a thread to do all that on. */
bool acme_http_defer(struct acme_http_response *response, const struct acme_http_rest *rest);

/*
 * A request that has to wait for something is put aside and holds no thread:
 * its handler parks it, returns without an answer, and is called again from the
 * start when somebody has resumed it, which may be before it has returned.
 */
struct acme_http_parked;

/** In a handler. NULL: no memory, parked ACME_HTTP_PARKS_MAX times already, ACME_HTTP_PARKED_MAX
 *  others are, its peer is gone, or a quick request: answer now. Else acme_http_resume() or
 *  acme_http_unpark() releases it. Parked, it is forgotten when its peer is gone: a connection
 *  that was reset, a Unix socket that was closed; not TCP's FIN, after which a peer may read. */
struct acme_http_parked *acme_http_park(struct acme_http_response *response);

/** In the handler of a quick request, last: it waits after all, and is handled again from the start
 *  on a thread. False: it is on one. */
bool acme_http_hand_over(struct acme_http_response *response);

/** True if the handler has put this request aside before. */
bool acme_http_was_parked(struct acme_http_response *response);

/** Take it back, in the same call of the handler: the answer is given now. NULL is fine. */
void acme_http_unpark(struct acme_http_parked *parked);

/** From any thread, once; after the loop has ended, too. False: it was forgotten, and its handler
 * is not called again. */
bool acme_http_resume(struct acme_http_parked *parked);

/** In a handler that has parked the request: what its next call finds. Released with the request;
 * once for each. */
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
    /** Answer a request; called on any of the server's threads, the event loop's included. */
    void (*handle)(void *context, const struct acme_http_request *request,
                   struct acme_http_response *response);
    /** True if this request never waits: it is then handled in the event loop. NULL: none is. */
    bool (*is_quick)(void *context, enum acme_http_method method, const char *path);
    /** True if this request waits for nothing but a disk and a token of our own, which answer soon:
     *  it is handled in the event loop as well, while nobody else wants anything of that; two
     *  threads need not wake each other then. NULL: none is. */
    bool (*is_brief)(void *context, enum acme_http_method method, const char *path);
    /** True if this request may wait for someone else's server, or keep a processor for long: of
     *  several threads such requests always leave one to the others, and half of the queue. NULL:
     *  none may. */
    bool (*is_slow)(void *context, enum acme_http_method method, const char *path);
    void *context; /* borrowed */
};

/** "ADDRESS:PORT" or "[ADDRESS]:PORT"; names are not resolved. */
bool acme_http_address_is_valid(const char *address);

/** "127.0.0.1:PORT" or "[::1]:PORT": nobody on another machine reaches it. */
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

/** Stop listening, and remove the file of a Unix socket. In the process that opened it, when no
 *  other uses it any more. NULL is fine. */
void acme_http_listener_close(struct acme_http_listener *listener);

struct acme_http_server_config {
    const char *address; /* "127.0.0.1:8443", "[::1]:8443" or "unix:/path" (mode 0600) */
    /* Borrowed: an open socket of this address. NULL: one is opened. A server that is full leaves
     * the connections on a shared one to the other processes; a TLS session may be resumed by any.
     */
    const struct acme_http_listener *listener;
    struct hsm_key *tls_key; /* borrowed; NULL for a Unix socket, and without TLS on loopback */
    const struct certs_chain *tls_chain; /* borrowed; leaf first; its key is tls_key */
    const struct certs_chain *client_anchors; /* NULL: client certificates are not asked for */
    struct acme_http_handler handler;
    unsigned idle_s; /* 0: ACME_HTTP_IDLE_S */
    unsigned connections_max; /* 0: ACME_HTTP_CONNECTIONS_MAX */
    bool without_tls; /* on an address of loopback only: for whoever is on this machine */
    bool is_quiet; /* requests are not logged */
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
 * Be the loop of a worker process: tell its supervisor when it begins to serve, and beat as long as
 * it turns and no handler and no tick is stuck. Before acme_http_loop_run().
 *
 * @param worker  borrowed, outlives the loop
 */
void acme_http_loop_supervise(struct acme_http_loop *loop, struct hsm_worker *worker);

/** Take no signals: the process has them otherwise. Before acme_http_loop_run(). */
void acme_http_loop_leave_signals(struct acme_http_loop *loop);

/**
 * Serve until SIGTERM or SIGINT, or acme_http_loop_stop() from any thread:
 * stop accepting, finish the calls in flight (10 s at most), return. Once.
 * Of several loops running in a process the first takes the signals. In a worker
 * SIGHUP means that another one serves: stop accepting, answer what comes over
 * open connections once more and say that they end, return when none is left.
 *
 * @retval HSM_ERR_BUSY  a handler did not return: end the process without releasing what it uses
 */
HSM_MUST_CHECK enum hsm_status acme_http_loop_run(struct acme_http_loop *loop);
void acme_http_loop_stop(struct acme_http_loop *loop);
/** From any thread: what SIGHUP means in a worker. */
void acme_http_loop_drain(struct acme_http_loop *loop);
void acme_http_loop_free(struct acme_http_loop *loop);

#endif
