/* http_group.h - the server that the tests of acme/src/http_*.c share: its handler does what the
 * path says, and peers send it raw octets. */
#ifndef TEST_HTTP_GROUP_H
#define TEST_HTTP_GROUP_H

#include <pthread.h>
#include <stddef.h>

#include <openssl/ssl.h>

#include <acme/http_server.h>

#include "http_fixture.h"

#define REPLY_SIZE 65536 /* octets */
#define SOON_MS    5000 /* anything slower has failed */
#define LARGE      3000000
#define HOST       "Host: x\r\n"

struct http_gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_open;
    unsigned waiting, passed;
};

/* Handlers of "/wait" wait here until the test opens the gate. */
extern struct http_gate gate;

/** Wait until the gate is open. */
void gate_pass(void);

/** Open or close the gate, and begin to count who passes. */
void gate_set(bool is_open);

/** Wait until so many handlers wait at the gate. */
void gate_await(unsigned waiting);

/** The handler: "/wait" waits at the gate, "/large" answers with LARGE octets; most paths are
 * answered with what a handler can see. */
void handle_by_path(void *context, const struct acme_http_request *request,
                    struct acme_http_response *response);

/* handle_by_path(); only "/quick" is quick. */
extern const struct acme_http_handler handler;

/* The server, and what the last exchange received. */
extern struct http_peer peer;
extern char reply[REPLY_SIZE];

/** cmocka fixtures of one test: peer runs with four threads, and the gate is closed. */
int http_group_start(void **state);
int http_group_stop(void **state);

/** Send octets over a new Unix connection and read until the server closes. */
const char *exchange(const char *text, size_t len);
bool starts_with(const char *text, const char *start_text);

/** The body of an answer. */
const char *body_of(const char *answer);

/** A client that trusts http_server_id. */
SSL_CTX *tls_context(void);

/** Connect to peer. */
SSL *tls_connect(SSL_CTX *ctx);
void tls_close(SSL *ssl);
void tls_send(SSL *ssl, const char *text);

/** Read until the server ends the connection properly, with close_notify. */
const char *tls_receive(SSL *ssl);

/** A server on this address with http_server_id and handler. */
struct acme_http_server_config tls_config(const char *address);

/** A separate loop on a shared socket, as in a worker process. */
void share(struct http_peer *sharer, const struct acme_http_listener *listener, const char *address,
           unsigned connections_max);

/** Connect to a server; a session that is not NULL is to be resumed. */
SSL *tls_connect_to(SSL_CTX *ctx, const struct http_peer *to, SSL_SESSION *session);

#endif
