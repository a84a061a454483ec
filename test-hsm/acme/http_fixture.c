/* http_fixture.c - TLS identities, servers in threads, and peers that send raw octets. */
#include "http_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <certs/cert.h>
#include <certs/issue.h>

#include "softhsm.h"

#define PATH_SIZE 4200 /* octets */
#define DAY_S     86400

struct http_identity http_server_id, http_client_id, http_other_id;
struct certs_chain *http_anchors;
char http_ca_path[PATH_SIZE], http_other_ca_path[PATH_SIZE];

static struct hsm_token *token;
static struct http_identity root, other_root;
static unsigned sockets;

static void
must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    abort();
}

static void
certify(const char *label, struct certs_issue_request *request, const struct http_identity *issuer,
        struct http_identity *out)
{
    struct hsm_reason why = {.text = ""};
    X509 *cert = NULL;
    time_t now = time(NULL);

    must(hsm_key_generate(token, label, &out->key) == HSM_OK, label);
    must(certs_serial_new(token, request->serial, &request->serial_len) == HSM_OK, "serial");
    request->subject.common_name = label;
    request->public_key = hsm_key_public(out->key);
    request->not_before = now - (issuer == NULL ? 2 * DAY_S : DAY_S);
    if (request->not_after == 0)
        request->not_after = now + (issuer == NULL ? 2 * DAY_S : DAY_S);
    must(certs_issue(request, issuer != NULL ? certs_chain_get(issuer->chain, 0) : NULL,
                     issuer != NULL ? issuer->key : out->key, &cert, &why) == HSM_OK,
         why.text);
    must(certs_chain_new(&out->chain) == HSM_OK, "chain");
    must(certs_chain_add(out->chain, cert) == HSM_OK, "chain");
    if (issuer != NULL)
        must(certs_chain_append(out->chain, issuer->chain) == HSM_OK, "chain");
    X509_free(cert);
}

static void
make_server(const char *label, const struct http_identity *issuer, struct http_identity *out)
{
    const char *const addresses[] = {"127.0.0.1", NULL};
    struct certs_issue_request request = {.profile = CERTS_PROFILE_TLS_SERVER,
                                          .ip_addresses = addresses};

    certify(label, &request, issuer, out);
}

void
http_client_until(const char *label, time_t not_after, struct http_identity *out)
{
    struct certs_issue_request client = {.profile = CERTS_PROFILE_TLS_CLIENT,
                                         .not_after = not_after};

    certify(label, &client, &root, out);
}

void
http_identity_clear(struct http_identity *id)
{
    certs_chain_free(id->chain);
    hsm_key_free(id->key);
}

int
http_fixture_start(void **state)
{
    struct certs_issue_request ca = {.profile = CERTS_PROFILE_TLS_ROOT};
    struct certs_issue_request client = {.profile = CERTS_PROFILE_TLS_CLIENT};

    (void)state;
    softhsm_start();
    token = softhsm_token("http");
    certify("root", &ca, NULL, &root);
    certify("other-root", &ca, NULL, &other_root);
    make_server("server", &root, &http_server_id);
    make_server("other", &other_root, &http_other_id);
    certify("client", &client, &root, &http_client_id);
    http_anchors = root.chain;
    snprintf(http_ca_path, PATH_SIZE, "%s/ca.pem", softhsm_dir());
    snprintf(http_other_ca_path, PATH_SIZE, "%s/other-ca.pem", softhsm_dir());
    must(certs_chain_write(root.chain, http_ca_path) == HSM_OK, http_ca_path);
    must(certs_chain_write(other_root.chain, http_other_ca_path) == HSM_OK, http_other_ca_path);
    return 0;
}

int
http_fixture_stop(void **state)
{
    struct http_identity *const all[] = {&root, &other_root, &http_server_id, &http_client_id,
                                         &http_other_id};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        http_identity_clear(all[i]);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

static void *
serve(void *context)
{
    struct http_peer *peer = context;

    peer->result = acme_http_loop_run(peer->loop);
    return NULL;
}

void
http_peer_listen(struct http_peer *peer, unsigned threads, struct acme_http_handler handler,
                 const struct acme_http_server_config *more)
{
    struct acme_http_server_config config = {.address = "127.0.0.1:0"};
    char address[140];

    memset(peer, 0, sizeof(*peer));
    if (more != NULL)
        config = *more;
    if (config.address == NULL)
        config.address = "127.0.0.1:0";
    config.handler = handler;
    config.tls_key = http_server_id.key;
    config.tls_chain = http_server_id.chain;
    must(acme_http_loop_new(threads, &peer->loop) == HSM_OK, "loop");
    must(acme_http_loop_listen(peer->loop, &config) == HSM_OK, "TLS");
    snprintf(peer->socket, sizeof(peer->socket), "/tmp/sti-http-%d-%u.sock", (int)getpid(),
             sockets++);
    snprintf(address, sizeof(address), "unix:%s", peer->socket);
    config.address = address;
    config.tls_key = NULL;
    must(acme_http_loop_listen(peer->loop, &config) == HSM_OK, "Unix socket");
    peer->port = acme_http_loop_port(peer->loop, 0);
}

void
http_peer_run(struct http_peer *peer)
{
    must(pthread_create(&peer->thread, NULL, serve, peer) == 0, "thread");
}

void
http_peer_start(struct http_peer *peer, unsigned threads, struct acme_http_handler handler,
                const struct acme_http_server_config *more)
{
    http_peer_listen(peer, threads, handler, more);
    http_peer_run(peer);
}

enum hsm_status
http_peer_stop(struct http_peer *peer)
{
    acme_http_loop_stop(peer->loop);
    must(pthread_join(peer->thread, NULL) == 0, "join");
    acme_http_loop_free(peer->loop);
    return peer->result;
}

int
http_connect_unix(const struct http_peer *peer)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0, "socket");
    snprintf(name.sun_path, sizeof(name.sun_path), "%.107s", peer->socket);
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
        return fd;
    close(fd);
    return -1;
}

int
http_connect_tcp(const struct http_peer *peer)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)peer->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0, "socket");
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
        return fd;
    close(fd);
    return -1;
}

void
http_send(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static long
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t
count_of(const char *text, const char *mark)
{
    size_t count = 0;

    while ((text = strstr(text, mark)) != NULL) {
        count++;
        text++;
    }
    return count;
}

long
http_receive(int fd, char *reply, size_t size, const char *mark, size_t count, int timeout_ms)
{
    long end = now_ms() + timeout_ms;
    size_t len = 0;

    reply[0] = '\0';
    while (len + 1 < size) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        long left = end - now_ms();
        ssize_t n;

        if (left <= 0 || poll(&wait, 1, (int)left) <= 0)
            return -1;
        n = recv(fd, reply + len, size - len - 1, 0);
        if (n <= 0)
            return (long)len; /* closed, or reset */
        len += (size_t)n;
        reply[len] = '\0';
        if (mark != NULL && count_of(reply, mark) >= count)
            return (long)len;
    }
    return (long)len;
}

bool
http_is_closed(int fd, int timeout_ms)
{
    char dropped[8192];

    return http_receive(fd, dropped, sizeof(dropped), NULL, 0, timeout_ms) >= 0;
}
