/* test_http_tickets.c - mirrors acme/src/http_tickets.c and http_peer.c: sessions, client
 * certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <sys/syscall.h>

#include <acme/http_client.h>
#include <acme/http_server.h>

#include "http_group.h"

/* The library's monotonic clock is ahead by this when a test says so. */
static _Atomic time_t ahead_s;

int
clock_gettime(clockid_t clock, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, out);

    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE)
        out->tv_sec += ahead_s;
    return rc;
}

/* ---- sockets that processes share ---- */

static void
a_session_is_resumed_by_another_that_shares_the_socket(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct acme_http_listener *listener = NULL;
    struct http_peer one, two;
    SSL_SESSION *session;
    SSL *ssl;

    (void)state;
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    assert_int_not_equal(acme_http_listener_port(listener), 0);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1); /* ticket at once */
    share(&one, listener, "127.0.0.1:0", 0);
    ssl = tls_connect_to(ctx, &one, NULL);
    assert_false(SSL_session_reused(ssl));
    session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&one), HSM_OK);
    share(&two, listener, "127.0.0.1:0", 0); /* the socket is still open */
    ssl = tls_connect_to(ctx, &two, session);
    assert_true(SSL_session_reused(ssl));
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&two), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    acme_http_listener_close(listener);
    acme_http_listener_close(NULL);
}

/* Ticket keys last 12 hours and are accepted for 12 more; a resumed session gets a new ticket. */
static void
a_session_is_resumed_with_the_last_but_one_ticket_keys_at_most(void **state)
{
    static const struct {
        time_t hours; /* since the ticket before it */
        bool resumed;
    } cases[] = {{0, true}, {13, true}, {13, true}, {25, false}};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct acme_http_listener *listener = NULL;
    SSL_SESSION *first, *session;
    struct http_peer sharer;
    SSL *ssl;

    (void)state;
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1); /* ticket at once */
    share(&sharer, listener, "127.0.0.1:0", 0);
    ssl = tls_connect_to(ctx, &sharer, NULL);
    first = SSL_get1_session(ssl);
    session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ahead_s += cases[i].hours * 3600;
        ssl = tls_connect_to(ctx, &sharer, session);
        assert_int_equal(SSL_session_reused(ssl), cases[i].resumed);
        SSL_SESSION_free(session);
        session = SSL_get1_session(ssl);
        (void)SSL_shutdown(ssl);
        tls_close(ssl);
    }
    ssl = tls_connect_to(ctx, &sharer, first);
    assert_false(SSL_session_reused(ssl));
    tls_close(ssl);
    ahead_s = 0;
    assert_int_equal(http_peer_stop(&sharer), HSM_OK);
    SSL_SESSION_free(first);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    acme_http_listener_close(listener);
}

/* ---- client certificates ---- */

static enum hsm_status
fetch_as(const struct http_identity *id, struct acme_http_reply *out)
{
    const struct acme_http_client_config config = {.tls_ca = http_ca_path,
                                                   .client_key = id != NULL ? id->key : NULL,
                                                   .client_chain = id != NULL ? id->chain : NULL};
    struct acme_http_client *client = NULL;
    struct acme_http_fetch fetch = {.method = "GET", .reply_max = 4096, .timeout_ms = SOON_MS};
    struct hsm_reason why;
    char url[64];
    enum hsm_status st;

    assert_int_equal(acme_http_client_new(&config, &client), HSM_OK);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/", peer.port);
    fetch.url = url;
    st = acme_http_fetch(client, &fetch, out, &why);
    acme_http_client_free(client);
    return st;
}

static void
the_handler_learns_who_showed_a_certificate(void **state)
{
    const struct acme_http_server_config config = {.client_anchors = http_anchors};
    struct acme_http_reply answer;

    (void)state;
    http_peer_start(&peer, 1, handler, &config);
    assert_int_equal(fetch_as(&http_client_id, &answer), HSM_OK);
    assert_non_null(strstr(answer.body, "\"client\":\"CN=client\""));
    assert_non_null(strstr(answer.body, "\"peer\":\"127.0.0.1\",\"local\":false"));
    acme_http_reply_clear(&answer);
    assert_int_equal(fetch_as(NULL, &answer), HSM_OK);
    assert_non_null(strstr(answer.body, "\"client\":null"));
    acme_http_reply_clear(&answer);
    assert_int_equal(fetch_as(&http_other_id, &answer), HSM_ERR_BUSY); /* of an unknown root */
    assert_int_equal(fetch_as(&http_server_id, &answer), HSM_ERR_BUSY); /* for serverAuth only */
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* A worker on a shared socket that trusts clients under these anchors. */
static void
share_under(struct http_peer *sharer, const struct acme_http_listener *listener,
            const struct certs_chain *anchors)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");

    config.listener = listener;
    config.client_anchors = anchors;
    memset(sharer, 0, sizeof(*sharer));
    assert_int_equal(acme_http_loop_new(1, &sharer->loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(sharer->loop, &config), HSM_OK);
    sharer->port = acme_http_loop_port(sharer->loop, 0);
    http_peer_run(sharer);
}

/* A client that receives its ticket before the first answer. */
static SSL_CTX *
client_context(const struct http_identity *id)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_use_certificate(ctx, certs_chain_get(id->chain, 0)), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, hsm_key_pkey(id->key)), 1);
    return ctx;
}

/* Ask the server for the client's name over this connection and close it; *session may be NULL. */
static void
assert_client(SSL *ssl, const char *wanted, SSL_SESSION **session)
{
    tls_send(ssl, "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(tls_receive(ssl), wanted));
    if (session != NULL)
        *session = SSL_get1_session(ssl);
    (void)SSL_shutdown(ssl); /* otherwise the session is invalid */
    tls_close(ssl);
}

static void
a_session_is_not_resumed_where_other_clients_are_trusted(void **state)
{
    SSL_CTX *ctx = client_context(&http_client_id);
    struct acme_http_listener *listener = NULL;
    struct certs_chain *others = NULL;
    SSL_SESSION *session = NULL;
    struct http_peer before, after;
    SSL *ssl;

    (void)state;
    assert_int_equal(certs_chain_read(http_other_ca_path, &others), HSM_OK);
    assert_int_equal(acme_http_listener_open("127.0.0.1:0", &listener), HSM_OK);
    share_under(&before, listener, http_anchors);
    assert_client(tls_connect_to(ctx, &before, NULL), "\"client\":\"CN=client\"", &session);
    ssl = tls_connect_to(ctx, &before, session);
    assert_true(SSL_session_reused(ssl));
    assert_client(ssl, "\"client\":\"CN=client\"", NULL);
    assert_int_equal(http_peer_stop(&before), HSM_OK);
    share_under(&after, listener, others); /* as after a reload */
    ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(&after)), 1);
    assert_int_equal(SSL_set_session(ssl, session), 1);
    assert_int_not_equal(SSL_connect(ssl), 1); /* a certificate is requested, and refused */
    tls_close(ssl);
    assert_int_equal(http_peer_stop(&after), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    certs_chain_free(others);
    acme_http_listener_close(listener);
}

static void
a_resumed_session_is_nobodys_once_the_certificate_has_ended(void **state)
{
    const struct acme_http_server_config config = {.client_anchors = http_anchors};
    const time_t end = time(NULL) + 2;
    struct http_identity brief;
    SSL_SESSION *session = NULL;
    SSL_CTX *ctx;
    SSL *ssl;

    (void)state;
    http_client_until("brief", end, &brief);
    ctx = client_context(&brief);
    http_peer_start(&peer, 1, handler, &config);
    assert_client(tls_connect_to(ctx, &peer, NULL), "\"client\":\"CN=brief\"", &session);
    while (time(NULL) <= end)
        usleep(100000);
    ssl = tls_connect_to(ctx, &peer, session);
    assert_true(SSL_session_reused(ssl));
    assert_client(ssl, "\"client\":null", NULL);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    http_identity_clear(&brief);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_resumed_by_another_that_shares_the_socket),
        cmocka_unit_test(a_session_is_resumed_with_the_last_but_one_ticket_keys_at_most),
        cmocka_unit_test(the_handler_learns_who_showed_a_certificate),
        cmocka_unit_test(a_session_is_not_resumed_where_other_clients_are_trusted),
        cmocka_unit_test(a_resumed_session_is_nobodys_once_the_certificate_has_ended),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
