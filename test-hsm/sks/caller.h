/*
 * caller.h - an HTTP caller that can send any method and headers, over a Unix socket or TLS; and a
 * server on a thread.
 */
#ifndef TEST_CALLER_H
#define TEST_CALLER_H

#include <pthread.h>
#include <stddef.h>

#include <jansson.h>

#include <acme/http_server.h>

#define CALLER_OCTETS_MAX 65536 /* limit of an answer's head, and of its body */

struct caller {
    const char *unix_socket; /* NULL: TLS to `base` */
    const char *base; /* "http://localhost", "https://127.0.0.1:PORT" */
    const char *tls_ca;
};

struct called {
    long status;
    char head[CALLER_OCTETS_MAX];
    size_t head_len;
    char body[CALLER_OCTETS_MAX];
    size_t body_len;
};

/* One exchange on a connection of its own. `headers` ends with NULL, or is NULL; a NULL body sends
 * no body. Aborts when there is no answer. */
void call(const struct caller *caller, const char *method, const char *target,
          const char *const *headers, const char *body, struct called *called);

/** A header of the answer into `out`, "" when it is not there; returns `out`. */
const char *called_header(const struct called *called, const char *name, char out[512]);

/** The answer's body as JSON; the caller decrefs. Aborts if it is not JSON. */
json_t *called_json(const struct called *called);

/* A handler behind a Unix socket. */
struct unix_server {
    struct acme_http_loop *loop;
    pthread_t thread;
    char path[160];
    struct caller caller;
};

/** A server on the socket `dir`/socket; aborts if it does not start. */
void unix_server_start(struct unix_server *server, const char *dir,
                       struct acme_http_handler handler);
void unix_server_stop(struct unix_server *server);

#endif
