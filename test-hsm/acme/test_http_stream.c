/* test_http_stream.c - mirrors acme/src/http_stream.c: TLS with a token that may be away. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "fault_client.h"
#include "http_fixture.h"

#define REQUEST    "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
#define HANDSHAKES 4
/* Less than that many handshakes take that wait for a token (op_timeout_ms of hsm/token.h), and
 * much more than handshakes that do not. */
#define SOON_MS 5000

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    (void)context;
    (void)request;
    acme_http_respond(response, 200, "text/plain", "served", 6);
}

/* Send the first message of a handshake without waiting for an answer; a refusal may already
 * arrive. */
static SSL *
begin_handshake(SSL_CTX *ctx, const struct http_peer *peer)
{
    SSL *ssl = SSL_new(ctx);
    int fd = http_connect_tcp(peer);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_not_equal(SSL_connect(ssl), 1);
    return ssl;
}

static bool
handshake_succeeds(SSL_CTX *ctx, const struct http_peer *peer)
{
    SSL *ssl = SSL_new(ctx);
    int fd = http_connect_tcp(peer);
    bool good;

    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    good = SSL_connect(ssl) == 1;
    SSL_free(ssl);
    close(fd);
    return good;
}

static void
handshakes_do_not_wait_for_a_token_that_is_away(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct http_peer peer;
    SSL *begun[HANDSHAKES];
    char answer[1024];
    int connected;

    (void)state;
    http_peer_start(&peer, 1, (struct acme_http_handler){.handle = handle}, NULL);
    connected = http_connect_unix(&peer);
    http_send(connected, REQUEST, strlen(REQUEST));
    assert_true(http_receive(connected, answer, sizeof(answer), "served", 1, SOON_MS) > 0);
    assert_true(handshake_succeeds(ctx, &peer));
    fault("remove");
    for (size_t i = 0; i < HANDSHAKES; i++)
        begun[i] = begin_handshake(ctx, &peer);
    http_send(connected, REQUEST, strlen(REQUEST)); /* open connections are served */
    assert_true(http_receive(connected, answer, sizeof(answer), "served", 1, SOON_MS) > 0);
    for (size_t i = 0; i < HANDSHAKES; i++) {
        assert_true(http_is_closed(SSL_get_fd(begun[i]), SOON_MS));
        close(SSL_get_fd(begun[i]));
        SSL_free(begun[i]);
    }
    fault("return");
    for (int i = 0; i < 100 && !handshake_succeeds(ctx, &peer); i++)
        usleep(50000);
    assert_true(handshake_succeeds(ctx, &peer));
    fault("reset");
    close(connected);
    SSL_CTX_free(ctx);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* Build that many KeyUpdate messages and send their octets at once. */
static void
send_key_updates(SSL *ssl, size_t count)
{
    BIO *octets = BIO_new(BIO_s_mem());
    BIO *socket = BIO_new_socket(SSL_get_fd(ssl), BIO_NOCLOSE);
    char *text;
    long len;

    assert_int_equal(BIO_up_ref(octets), 1);
    SSL_set0_wbio(ssl, octets);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ssl), 1);
    }
    len = BIO_get_mem_data(octets, &text);
    assert_int_equal(write(SSL_get_fd(ssl), text, (size_t)len), len);
    SSL_set0_wbio(ssl, socket);
    BIO_free(octets);
}

static void
new_keys_without_end_do_not_keep_the_loop(void **state)
{
    static const size_t many = 40;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct http_peer peer;
    char answer[1024];
    SSL *ssl = SSL_new(ctx);
    int fd;

    (void)state;
    http_peer_start(&peer, 1, (struct acme_http_handler){.handle = handle}, NULL);
    fd = http_connect_tcp(&peer);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    send_key_updates(ssl, many / 2);
    assert_int_equal(SSL_write(ssl, REQUEST, (int)strlen(REQUEST)), strlen(REQUEST));
    assert_true(SSL_read(ssl, answer, sizeof(answer)) > 0); /* a few are accepted */
    send_key_updates(ssl, many / 2);
    assert_true(http_is_closed(fd, SOON_MS));
    SSL_free(ssl);
    close(fd);
    SSL_CTX_free(ctx);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

static int
start(void **state)
{
    fault_open();
    return http_fixture_start(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_do_not_wait_for_a_token_that_is_away),
        cmocka_unit_test(new_keys_without_end_do_not_keep_the_loop),
    };

    return cmocka_run_group_tests(tests, start, http_fixture_stop);
}
