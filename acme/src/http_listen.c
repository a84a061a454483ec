/* http_listen.c - listening sockets: addresses, Unix sockets, TLS. */
#include "http_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define BACKLOG     1024 /* connections that wait for accept() */
#define ADDRESS_MAX 256 /* octets of "address:port" */
#define UNIX_PREFIX "unix:"
/* The workers of a killed supervisor end shortly after it and keep its address until then. */
#define IN_USE_TRIES 20
#define IN_USE_NS    (100 * 1000 * 1000)

DEFINE_DEFER(SSL_CTX, SSL_CTX_free)
DEFINE_DEFER(struct addrinfo, freeaddrinfo)

static enum hsm_status
cannot_listen(const char *address, const char *what, int fd)
{
    hsm_log(HSM_LOG_ERROR, "cannot listen on %s: %s: %s", address, what, strerror(errno));
    if (fd >= 0)
        close(fd);
    return HSM_ERR_IO;
}

/* getaddrinfo() accepts an empty port and ports above 65535. */
static bool
is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len > 0 && len <= 5 && text[len] == '\0' && strtol(text, NULL, 10) <= 65535;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT"; names are not resolved. */
static bool
parse_address(const char *address, struct addrinfo **out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    char text[ADDRESS_MAX];
    char *host = text;
    char *port;
    size_t len = strnlen(address, sizeof(text));
    bool good = len < sizeof(text);

    if (good) {
        memcpy(text, address, len + 1);
        port = strrchr(text, ':');
        good = port != NULL && port > text && is_port(port + 1);
    }
    if (good) {
        *port++ = '\0';
        if (*host == '[') {
            good = port[-2] == ']';
            port[-2] = '\0';
            host++;
        } else {
            good = strchr(host, ':') == NULL; /* an IPv6 address needs brackets */
        }
    }
    return good && getaddrinfo(host, port, &hints, out) == 0;
}

static bool
bind_soon(int fd, const struct sockaddr *address, socklen_t len)
{
    for (int i = 1; bind(fd, address, len) != 0; i++) {
        if (errno != EADDRINUSE || i == IN_USE_TRIES)
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = IN_USE_NS}, NULL);
    }
    return true;
}

static enum hsm_status
listen_tcp(const char *address, int *out)
{
    DEFER(freeaddrinfo) struct addrinfo *info = NULL;
    const int on = 1;
    int fd;

    if (!parse_address(address, &info)) {
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: not ADDRESS:PORT", address);
        return HSM_ERR_IO;
    }
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return cannot_listen(address, "socket", fd);
    /* Accepted sockets inherit TCP_NODELAY: without it, a TLS response waits for a delayed ACK. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
        return cannot_listen(address, "options", fd);
    if (!bind_soon(fd, info->ai_addr, info->ai_addrlen))
        return cannot_listen(address, "bind", fd);
    if (listen(fd, BACKLOG) != 0)
        return cannot_listen(address, "listen", fd);
    *out = fd;
    return HSM_OK;
}

/* Remove a socket that a dead server left behind; anything else stays, and bind() fails. */
static void
remove_stale(const struct sockaddr_un *name)
{
    struct stat about;
    int fd;

    if (lstat(name->sun_path, &about) != 0 || !S_ISSOCK(about.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)name, sizeof(*name)) != 0 && errno == ECONNREFUSED)
        unlink(name->sun_path);
    close(fd);
}

static enum hsm_status
listen_unix(const char *path, int *out)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strnlen(path, sizeof(name.sun_path));
    int fd;

    if (len == 0 || len >= sizeof(name.sun_path)) {
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: a path of 1 to %zu octets is needed", path,
                sizeof(name.sun_path) - 1);
        return HSM_ERR_IO;
    }
    memcpy(name.sun_path, path, len + 1);
    remove_stale(&name);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return cannot_listen(path, "socket", fd);
    /* Linux creates the file with the socket's mode, so at no time can other users connect, and the
     * umask, which all threads share, is not changed. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0)
        return cannot_listen(path, "bind", fd);
    if (listen(fd, BACKLOG) != 0) {
        unlink(path);
        return cannot_listen(path, "listen", fd);
    }
    *out = fd;
    return HSM_OK;
}

static unsigned
port_of(int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
        return 0;
    if (name.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&name)->sin_port);
    if (name.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&name)->sin6_port);
    return 0;
}

static enum hsm_status
open_socket(const char *address, struct acme_http_listener *listener)
{
    const char *path = address + strlen(UNIX_PREFIX);
    enum hsm_status st;

    if (strncmp(address, UNIX_PREFIX, strlen(UNIX_PREFIX)) != 0)
        return listen_tcp(address, &listener->fd);
    listener->unix_path = strdup(path);
    if (listener->unix_path == NULL)
        return HSM_ERR_NOMEM;
    st = listen_unix(path, &listener->fd);
    if (st == HSM_OK)
        (void)lstat(path, &listener->unix_file);
    return st;
}

bool
acme_http_address_is_valid(const char *address)
{
    DEFER(freeaddrinfo) struct addrinfo *info = NULL;

    return parse_address(address, &info);
}

bool
acme_http_address_is_loopback(const char *address)
{
    DEFER(freeaddrinfo) struct addrinfo *info = NULL;
    const void *name;

    if (!parse_address(address, &info))
        return false;
    name = info->ai_addr;
    if (info->ai_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)name)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return info->ai_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)name)->sin6_addr);
}

enum hsm_status
acme_http_listener_open(const char *address, struct acme_http_listener **out)
{
    DEFER(acme_http_listener_close)
    struct acme_http_listener *listener = calloc(1, sizeof(*listener));
    enum hsm_status st;

    if (listener == NULL)
        return HSM_ERR_NOMEM;
    listener->fd = -1;
    listener->tickets = acme_http_tickets_new();
    if (listener->tickets == NULL) {
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: no keys for TLS session tickets", address);
        return HSM_ERR_CRYPTO;
    }
    st = open_socket(address, listener);
    if (st != HSM_OK)
        return st;
    listener->port = port_of(listener->fd);
    *out = listener;
    listener = NULL;
    return HSM_OK;
}

unsigned
acme_http_listener_port(const struct acme_http_listener *listener)
{
    return listener->port;
}

void
acme_http_listener_close(struct acme_http_listener *listener)
{
    struct stat about;

    if (listener == NULL)
        return;
    /* Remove only the socket that this listener created: another server may have taken the path. */
    if (listener->unix_path != NULL && listener->unix_file.st_ino != 0 &&
        lstat(listener->unix_path, &about) == 0 && about.st_dev == listener->unix_file.st_dev &&
        about.st_ino == listener->unix_file.st_ino)
        unlink(listener->unix_path);
    if (listener->fd >= 0)
        close(listener->fd);
    acme_http_tickets_free(listener->tickets);
    free(listener->unix_path);
    free(listener);
}

static enum hsm_status
tls_failed(const char *address, const char *what)
{
    char text[128];

    ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
    ERR_clear_error();
    hsm_log(HSM_LOG_ERROR, "TLS of %s: %s: %s", address, what, text);
    return HSM_ERR_CRYPTO;
}

static enum hsm_status
use_chain(SSL_CTX *ctx, const struct acme_http_server_config *config)
{
    X509 *cert = certs_chain_get(config->tls_chain, 0);

    if (cert == NULL || !hsm_key_matches(config->tls_key, certs_cert_public(cert))) {
        hsm_log(HSM_LOG_ERROR, "TLS of %s: key %s is not the key of its certificate",
                config->address, hsm_key_label(config->tls_key));
        return HSM_ERR_UNTRUSTED;
    }
    if (certs_chain_not_after(config->tls_chain) <= time(NULL)) /* the clock may be wrong */
        hsm_log(HSM_LOG_WARNING,
                "TLS of %s: the certificate or an issuer has ended: clients refuse it",
                config->address);
    if (SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, hsm_key_pkey(config->tls_key)) != 1)
        return tls_failed(config->address, "certificate and key");
    for (size_t i = 1; (cert = certs_chain_get(config->tls_chain, i)) != NULL; i++) {
        if (SSL_CTX_add1_chain_cert(ctx, cert) != 1)
            return tls_failed(config->address, "chain");
    }
    return HSM_OK;
}

/* A client without a certificate is accepted, and acme_http_request_client() returns NULL; a client
 * with an invalid certificate is refused. */
static enum hsm_status
use_client_anchors(SSL_CTX *ctx, const struct acme_http_server_config *config)
{
    X509_STORE *anchors = SSL_CTX_get_cert_store(ctx);
    X509 *cert;

    for (size_t i = 0; (cert = certs_chain_get(config->client_anchors, i)) != NULL; i++) {
        if (X509_STORE_add_cert(anchors, cert) != 1 || SSL_CTX_add_client_CA(ctx, cert) != 1)
            return tls_failed(config->address, "client anchors");
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return HSM_OK;
}

/* Sessions resume by tickets only (http_tickets.c). A ticket records that a client certificate was
 * verified, so it is valid only with the same anchors, and not after a reload that changed them. */
static bool
set_session_context(SSL_CTX *ctx, const struct certs_chain *client_anchors)
{
    static const unsigned char nobody[] = "sti-hsm";

    if (client_anchors == NULL)
        return SSL_CTX_set_session_id_context(ctx, nobody, sizeof(nobody) - 1) == 1;
    return SSL_CTX_set_session_id_context(ctx, certs_chain_digest(client_anchors),
                                          CERTS_CHAIN_DIGEST_LEN) == 1;
}

static bool
set_policy(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN |
                              SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1); /* read a whole record with one read() */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, "ECDHE+ECDSA+AESGCM:ECDHE+ECDSA+CHACHA20") == 1;
}

enum hsm_status
acme_http_tls_new(const struct acme_http_server_config *config, SSL_CTX **out)
{
    DEFER(SSL_CTX_free) SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    enum hsm_status st;

    if (ctx == NULL)
        return HSM_ERR_NOMEM;
    if (!set_policy(ctx) || !set_session_context(ctx, config->client_anchors))
        return tls_failed(config->address, "policy");
    if (config->listener != NULL && !acme_http_tickets_use(config->listener->tickets, ctx))
        return tls_failed(config->address, "ticket keys");
    st = use_chain(ctx, config);
    if (st == HSM_OK && config->client_anchors != NULL)
        st = use_client_anchors(ctx, config);
    if (st != HSM_OK)
        return st;
    *out = ctx;
    ctx = NULL;
    return HSM_OK;
}
