/* bench_enrol.c - ACME clients that use little processor time. */
#define _GNU_SOURCE /* asprintf, strcasestr */
#include "bench_enrol.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "bench.h"
#include "peer.h"
#include "peer_jws.h"

#define MESSAGE_MAX 16384 /* octets of a request, and of an answer */
#define NONCE_SIZE  64
#define SPC         "1234"

struct bench_client {
    struct ca_fixture *ca;
    struct peer peer;
    struct sockaddr_in address;
    SSL_CTX *tls;
    SSL *connection; /* NULL: not connected */
    char nonce[NONCE_SIZE];
    char answer[MESSAGE_MAX + 1]; /* the last one */
    char *order; /* payload of newOrder */
};

/* ---- the connection ---- */

static void
disconnect(struct bench_client *client)
{
    if (client->connection == NULL)
        return;
    close(SSL_get_fd(client->connection));
    SSL_free(client->connection);
    client->connection = NULL;
}

static void
connect_tls(struct bench_client *client)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    disconnect(client);
    bench_check(
        fd >= 0 && connect(fd, (struct sockaddr *)&client->address, sizeof(client->address)) == 0 &&
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) == 0,
        "connecting to the STI-CA");
    client->connection = SSL_new(client->tls);
    bench_check(
        client->connection != NULL && SSL_set_fd(client->connection, fd) == 1 &&
            X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(client->connection), "127.0.0.1") == 1 &&
            SSL_connect(client->connection) == 1,
        "TLS with the STI-CA");
}

/* The value of a header in the last answer, truncated to fit. */
static void
copy_header(const struct bench_client *client, const char *name, char *out, size_t size)
{
    const char *found = strcasestr(client->answer, name);

    bench_check(found != NULL, client->answer);
    found += strlen(name);
    snprintf(out, size, "%.*s", (int)strcspn(found, "\r"), found);
}

static bool
is_complete(const char *answer, size_t len, bool has_body)
{
    const char *end = strstr(answer, "\r\n\r\n"), *length;

    if (end == NULL || !has_body)
        return end != NULL;
    length = strcasestr(answer, "\r\nContent-Length: ");
    return length != NULL && length < end &&
           len >= (size_t)(end + 4 - answer) + strtoul(length + 18, NULL, 10);
}

/* Send a request, read its answer, and keep the answer's nonce. */
static void
exchange(struct bench_client *client, const char *request, size_t len, bool has_body)
{
    size_t got = 0;

    bench_check(SSL_write(client->connection, request, (int)len) == (int)len, "sending a request");
    do {
        int n = SSL_read(client->connection, client->answer + got, (int)(MESSAGE_MAX - got));

        bench_check(n > 0, "reading an answer");
        got += (size_t)n;
        client->answer[got] = '\0';
    } while (!is_complete(client->answer, got, has_body));
    copy_header(client, "\r\nReplay-Nonce: ", client->nonce, sizeof(client->nonce));
}

void
bench_client_connect(struct bench_client *client)
{
    static const char request[] = "HEAD /acme/new-nonce HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

    connect_tls(client);
    exchange(client, request, sizeof(request) - 1, false);
}

/* ---- the client ---- */

static void
find_address(struct bench_client *client)
{
    const char *port = strrchr(client->ca->url, ':') + 1;

    client->address = (struct sockaddr_in){.sin_family = AF_INET,
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                           .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
}

struct bench_client *
bench_client_new(struct ca_fixture *ca)
{
    struct bench_client *client = calloc(1, sizeof(*client));

    bench_check(client != NULL, "memory");
    client->ca = ca;
    client->order = peer_order_payload(SPC);
    peer_join(ca, &client->peer);
    find_address(client);
    client->tls = SSL_CTX_new(TLS_client_method());
    bench_check(client->tls != NULL && SSL_CTX_load_verify_file(client->tls, ca->tls_ca) == 1,
                ca->tls_ca);
    SSL_CTX_set_verify(client->tls, SSL_VERIFY_PEER, NULL);
    return client;
}

void
bench_client_free(struct bench_client *client)
{
    disconnect(client);
    SSL_CTX_free(client->tls);
    peer_stop(&client->peer);
    free(client->order);
    free(client);
}

/* ---- an order ---- */

void
bench_order_prepare(struct bench_client *client, struct bench_order *order)
{
    EVP_PKEY *key = peer_key_new("P-256");
    char *token =
        peer_token(client->ca, &(struct token_plan){.spc = SPC, .account_key = client->peer.key});

    bench_check(asprintf(&order->answer, "{\"tkauth\":\"%s\"}", token) > 0, "memory");
    order->csr = peer_csr_payload(key, SPC, false);
    free(token);
    EVP_PKEY_free(key);
}

void
bench_order_clear(struct bench_order *order)
{
    free(order->answer);
    free(order->csr);
}

/* A JWS of the account in flattened JSON (RFC 8555 section 6.2). */
static int
write_body(const struct bench_client *client, const char *url, const char *payload,
           char out[MESSAGE_MAX])
{
    char header[2 * CA_URL_SIZE + 256], sig_text[ACME_BASE64URL_LEN(64) + 1], *input, *dot;
    uint8_t sig[64];
    int len;

    snprintf(header, sizeof(header),
             "{\"alg\":\"ES256\",\"kid\":\"%s\",\"nonce\":\"%s\",\"url\":\"%s\"}", client->peer.kid,
             client->nonce, url);
    input = peer_signing_input(header, payload);
    peer_sign_es256(client->peer.key, input, strlen(input), sig);
    sig_text[acme_base64url_write(sig, sizeof(sig), sig_text)] = '\0';
    dot = strchr(input, '.');
    *dot = '\0';
    len =
        snprintf(out, MESSAGE_MAX, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
                 input, dot + 1, sig_text);
    free(input);
    bench_check(len > 0 && len < MESSAGE_MAX, "a request that is too large");
    return len;
}

/* A signed request to a URL or path; the answer must have that status. */
static void
post(struct bench_client *client, const char *place, const char *payload, const char *status)
{
    char url[CA_URL_SIZE], body[MESSAGE_MAX], request[MESSAGE_MAX + 1024];
    int body_len, len;

    snprintf(url, sizeof(url), "%s%s", place[0] == '/' ? client->ca->url : "", place);
    body_len = write_body(client, url, payload, body);
    len = snprintf(request, sizeof(request),
                   "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/jose+json\r\n"
                   "Content-Length: %d\r\n\r\n%s",
                   url + strlen(client->ca->url), body_len, body);
    exchange(client, request, (size_t)len, true);
    bench_check(strncmp(client->answer + strlen("HTTP/1.1 "), status, strlen(status)) == 0,
                client->answer);
}

/* The text that follows `before` in the last answer, up to a quote. */
static void
copy_text(const struct bench_client *client, const char *before, char out[CA_URL_SIZE])
{
    const char *found = strstr(client->answer, before);

    bench_check(found != NULL, client->answer);
    found += strlen(before);
    snprintf(out, CA_URL_SIZE, "%.*s", (int)strcspn(found, "\""), found);
}

static void
expect(const struct bench_client *client, const char *text)
{
    bench_check(strstr(client->answer, text) != NULL, client->answer);
}

void
bench_enrol(struct bench_client *client, const struct bench_order *order)
{
    char location[CA_URL_SIZE], authz[CA_URL_SIZE], finalize[CA_URL_SIZE], url[CA_URL_SIZE];

    post(client, "/acme/new-order", client->order, "201");
    copy_header(client, "\r\nLocation: ", location, sizeof(location));
    copy_text(client, "\"authorizations\":[\"", authz);
    copy_text(client, "\"finalize\":\"", finalize);
    post(client, authz, "", "200");
    copy_text(client, "\"url\":\"", url);
    post(client, url, order->answer, "200");
    post(client, authz, "", "200");
    expect(client, "\"status\":\"valid\"");
    post(client, location, "", "200");
    expect(client, "\"status\":\"ready\"");
    post(client, finalize, order->csr, "200");
    expect(client, "\"status\":\"valid\"");
    copy_text(client, "\"certificate\":\"", url);
    post(client, url, "", "200");
    expect(client, "-----END CERTIFICATE-----");
}
