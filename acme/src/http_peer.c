/* http_peer.c - the identity of a connection's peer. */
#define _GNU_SOURCE /* struct ucred */
#include "http_loop_internal.h"

#include <stdint.h>
#include <stdlib.h>

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <certs/cert.h>
#include <hsm/hex.h>

/* free() it; NULL: no memory. */
static char *
fingerprint(const X509 *cert)
{
    uint8_t octets[32];
    char *text = malloc(HSM_HEX_LEN(sizeof(octets)) + 1);

    if (text == NULL || certs_cert_sha256(cert, octets) != HSM_OK) {
        free(text);
        return NULL;
    }
    hsm_hex_put(octets, sizeof(octets), text);
    return text;
}

/* A resumed session, and the sessions before it, may have begun long ago. */
static bool
is_valid_now(const X509 *cert)
{
    time_t now = time(NULL);

    return certs_cert_not_before(cert) <= now && now <= certs_cert_not_after(cert);
}

/* OpenSSL has accepted only certificates that chain to an anchor. */
static void
learn_certificate(SSL *ssl, struct http_peer *out)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);

    if (cert == NULL || SSL_get_verify_result(ssl) != X509_V_OK || !is_valid_now(cert))
        return;
    out->subject = certs_cert_subject(cert);
    out->sha256 = fingerprint(cert);
    out->names = certs_cert_alt_names(cert);
}

void
acme_http_peer_learn(struct http_connection *connection)
{
    struct http_peer *peer = &connection->peer;
    struct ucred process;
    socklen_t len = sizeof(process);

    connection->is_known = true;
    if (connection->ssl != NULL)
        learn_certificate(connection->ssl, peer);
    if (peer->is_local && getsockopt(connection->fd, SOL_SOCKET, SO_PEERCRED, &process, &len) == 0)
        peer->uid = (long)process.uid;
}

void
acme_http_peer_forget(struct http_peer *peer)
{
    free(peer->subject);
    free(peer->sha256);
    free(peer->names);
}
