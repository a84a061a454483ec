/* http_stream.c - read and write a socket, with or without TLS. */
#include "http_loop_internal.h"

#include <errno.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <hsm/use.h>

#define KEY_UPDATES_MAX 32 /* per connection; a client needs one in many gigabytes */

/* OpenSSL reads on while only KeyUpdate messages arrive (RFC 8446 section 4.6.3), and meanwhile the
 * loop would serve no other connection. */
static void
on_message(int is_written, int version, int content_type, const void *octets, size_t len, SSL *ssl,
           void *context)
{
    struct http_connection *connection = SSL_get_app_data(ssl);

    (void)version;
    (void)context;
    if (!is_written && content_type == SSL3_RT_HANDSHAKE && len > 0 &&
        *(const unsigned char *)octets == SSL3_MT_KEY_UPDATE &&
        ++connection->key_updates > KEY_UPDATES_MAX)
        SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN); /* ends SSL_read() */
}

bool
acme_http_stream_begin(struct http_connection *connection, SSL_CTX *tls)
{
    connection->ssl = SSL_new(tls);
    if (connection->ssl == NULL || SSL_set_fd(connection->ssl, connection->fd) != 1 ||
        SSL_set_app_data(connection->ssl, connection) != 1)
        return false;
    SSL_set_msg_callback(connection->ssl, on_message);
    SSL_set_accept_state(connection->ssl);
    return true;
}

/* The result of a failed OpenSSL call. A peer that closes without close_notify counts as closed:
 * HTTP itself delimits requests. */
static ssize_t
tls_refused(struct http_connection *connection, int n)
{
    int reason = SSL_get_error(connection->ssl, n);

    ERR_clear_error();
    switch (reason) {
    case SSL_ERROR_WANT_READ:
        return HTTP_STREAM_WAITS;
    case SSL_ERROR_WANT_WRITE:
        event_add(&connection->writable, NULL);
        return HTTP_STREAM_WAITS;
    case SSL_ERROR_ZERO_RETURN:
        return HTTP_STREAM_ENDED;
    default:
        connection->is_broken = true;
        return HTTP_STREAM_ENDED;
    }
}

/* The result of a failed recv() or sendmsg(). */
static ssize_t
refused(struct http_connection *connection)
{
    if (errno == EAGAIN || errno == EINTR)
        return HTTP_STREAM_WAITS; /* the event loop will signal it */
    connection->is_broken = true;
    return HTTP_STREAM_ENDED;
}

ssize_t
acme_http_stream_read(struct http_connection *connection, char *to, size_t size)
{
    ssize_t n;

    if (connection->ssl != NULL) {
        HSM_USE_FOR(HSM_USE_TLS);

        ERR_clear_error(); /* errors left by a handler would be mistaken for those of this call */
        n = SSL_read(connection->ssl, to, (int)size);
        return n > 0 ? n : tls_refused(connection, (int)n);
    }
    n = recv(connection->fd, to, size, 0);
    if (n < 0)
        return refused(connection);
    return n > 0 ? n : HTTP_STREAM_ENDED;
}

ssize_t
acme_http_stream_write(struct http_connection *connection, const struct iovec *parts, size_t count)
{
    const struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    ssize_t n;

    if (connection->ssl != NULL) { /* one part at a time: each becomes records of its own */
        ERR_clear_error();
        n = SSL_write(connection->ssl, parts[0].iov_base, (int)parts[0].iov_len);
        return n > 0 ? n : tls_refused(connection, (int)n);
    }
    n = count == 1 ? send(connection->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                   : sendmsg(connection->fd, &message, MSG_NOSIGNAL);
    return n >= 0 ? n : refused(connection);
}

bool
acme_http_stream_has_more(const struct http_connection *connection)
{
    return connection->ssl != NULL && SSL_has_pending(connection->ssl) == 1;
}

/* A TLS peer is notified, so that the end cannot be mistaken for a truncation. */
void
acme_http_stream_end(struct http_connection *connection)
{
    if (connection->is_broken)
        return;
    if (connection->ssl != NULL && SSL_is_init_finished(connection->ssl)) {
        SSL_shutdown(connection->ssl);
        ERR_clear_error();
    }
    shutdown(connection->fd, SHUT_WR);
}
