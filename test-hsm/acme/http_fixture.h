/*
 * http_fixture.h - TLS keys and certificates in a SoftHSM token, servers in
 * threads, and peers that speak octets instead of HTTP.
 */
#ifndef TEST_HTTP_FIXTURE_H
#define TEST_HTTP_FIXTURE_H

#include <pthread.h>
#include <stddef.h>
#include <time.h>

#include <acme/http_server.h>
#include <certs/chain.h>
#include <hsm/key.h>
#include <hsm/token.h>

struct http_identity {
    struct hsm_key *key;
    struct certs_chain *chain; /* leaf, root */
};

/* All made by http_fixture_start(). */
extern struct http_identity http_server_id; /* 127.0.0.1 */
extern struct http_identity http_client_id; /* subject "CN=client" */
extern struct http_identity http_other_id; /* under another root, which is not trusted */
extern struct certs_chain *http_anchors; /* of the first two */
extern char http_ca_path[], http_other_ca_path[];

/** A client like http_client_id with this notAfter: http_identity_clear() it. */
void http_client_until(const char *label, time_t not_after, struct http_identity *out);
void http_identity_clear(struct http_identity *id);

/** cmocka group fixtures. */
int http_fixture_start(void **state);
int http_fixture_stop(void **state);

/* A server with its loop on a separate thread. */
struct http_peer {
    struct acme_http_loop *loop;
    pthread_t thread;
    enum hsm_status result;
    unsigned port;
    char socket[128]; /* path of the Unix socket */
};

/** Listen with TLS on 127.0.0.1 and on a Unix socket at once; `more` gives limits and anchors. */
void http_peer_listen(struct http_peer *peer, unsigned threads, struct acme_http_handler handler,
                      const struct acme_http_server_config *more);
/** Run the loop on its thread. */
void http_peer_run(struct http_peer *peer);
/** http_peer_listen() and http_peer_run(). */
void http_peer_start(struct http_peer *peer, unsigned threads, struct acme_http_handler handler,
                     const struct acme_http_server_config *more);
/** Stop, wait for the end, release; returns what acme_http_loop_run() returned. */
enum hsm_status http_peer_stop(struct http_peer *peer);

/** A connected socket, or -1. */
int http_connect_unix(const struct http_peer *peer);
int http_connect_tcp(const struct http_peer *peer);

/** Write all octets; those that the peer does not accept are dropped. */
void http_send(int fd, const char *text, size_t len);

/**
 * Read until the peer closes, or until `count` times `mark` was seen; at most `timeout_ms`.
 *
 * @return  octets read, NUL-terminated in `reply`; -1: neither happened in time
 */
long http_receive(int fd, char *reply, size_t size, const char *mark, size_t count, int timeout_ms);

/** True if the peer closes within this time; what it sends is dropped. */
bool http_is_closed(int fd, int timeout_ms);

#endif
