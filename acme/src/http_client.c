/* http_client.c - HTTPS requests with bounds (libcurl). */
#define _GNU_SOURCE /* asprintf */
#include <acme/http_client.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <unistd.h>

#include <sys/socket.h>

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/secret.h>

#include "address_internal.h"
#include "defer_internal.h"

#define URL_MAX 2048 /* octets; longer: HSM_ERR_MALFORMED */
/* Octets of one header of the answer; longer: malformed. */
#define HEADER_VALUE_MAX       8192
#define CONNECT_MS_MAX         10000 /* for name resolution, TCP and TLS, at most */
#define POOL_MAX               16 /* idle handles kept, each with its open connections */
#define CONNECTIONS_PER_HANDLE 4L /* kept open per handle */
#define CHAIN_TIMEOUT_MS       10000

struct acme_http_client {
    char *tls_ca; /* NULL: the system's */
    bool system_too; /* the system's CAs besides tls_ca */
    char *user_agent;
    struct hsm_key *client_key; /* borrowed */
    const struct certs_chain *client_chain; /* borrowed */
    pthread_mutex_t mutex; /* guards idle and idle_count */
    CURL *idle[POOL_MAX];
    size_t idle_count;
};

/* State of one exchange, for curl's callbacks. */
struct exchange {
    struct acme_http_reply *reply;
    size_t body_size; /* allocated */
    size_t reply_max;
    bool is_too_large, is_out_of_memory, is_address_refused;
};

/* curl copies Authorization, and bodies with passwords and tokens, into buffers of its own. */
static void
start_curl(void)
{
    curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, hsm_wipe_free, hsm_wipe_realloc, strdup,
                         calloc);
}

static enum hsm_status
check_config(const struct acme_http_client_config *config)
{
    X509 *leaf;

    if (config->tls_ca != NULL) {
        DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
        enum hsm_status st = certs_chain_read(config->tls_ca, &anchors);

        if (st != HSM_OK)
            return st; /* detected at start, not at each fetch */
    }
    if (config->client_key == NULL)
        return HSM_OK;
    leaf = config->client_chain != NULL ? certs_chain_get(config->client_chain, 0) : NULL;
    if (leaf == NULL || !hsm_key_matches(config->client_key, certs_cert_public(leaf))) {
        hsm_log(HSM_LOG_ERROR, "TLS client: key %s is not the key of its certificate",
                hsm_key_label(config->client_key));
        return HSM_ERR_UNTRUSTED;
    }
    return HSM_OK;
}

enum hsm_status
acme_http_client_new(const struct acme_http_client_config *config, struct acme_http_client **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    DEFER(acme_http_client_free) struct acme_http_client *client = NULL;
    const char *agent = config->user_agent != NULL ? config->user_agent : "sti-hsm/" STI_VERSION;
    enum hsm_status st = check_config(config);

    if (st != HSM_OK)
        return st;
    pthread_once(&once, start_curl);
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&client->mutex, NULL);
    client->system_too = config->system_too;
    client->client_key = config->client_key;
    client->client_chain = config->client_chain;
    client->user_agent = strdup(agent);
    if (config->tls_ca != NULL)
        client->tls_ca = strdup(config->tls_ca);
    if (client->user_agent == NULL || (config->tls_ca != NULL && client->tls_ca == NULL))
        return HSM_ERR_NOMEM;
    *out = client;
    client = NULL;
    return HSM_OK;
}

void
acme_http_client_free(struct acme_http_client *client)
{
    if (client == NULL)
        return;
    for (size_t i = 0; i < client->idle_count; i++)
        curl_easy_cleanup(client->idle[i]);
    pthread_mutex_destroy(&client->mutex);
    free(client->tls_ca);
    free(client->user_agent);
    free(client);
}

/* A handle without options; curl_easy_reset() keeps its connections open. */
static CURL *
handle_take(struct acme_http_client *client)
{
    CURL *curl = NULL;

    pthread_mutex_lock(&client->mutex);
    if (client->idle_count > 0)
        curl = client->idle[--client->idle_count];
    pthread_mutex_unlock(&client->mutex);
    if (curl == NULL)
        return curl_easy_init();
    curl_easy_reset(curl);
    return curl;
}

static void
handle_give(struct acme_http_client *client, CURL *curl)
{
    bool kept = false;

    curl_easy_reset(curl); /* forgets Authorization and the caller's buffers */
    pthread_mutex_lock(&client->mutex);
    if (client->idle_count < POOL_MAX) {
        client->idle[client->idle_count++] = curl;
        kept = true;
    }
    pthread_mutex_unlock(&client->mutex);
    if (!kept)
        curl_easy_cleanup(curl);
}

/* https, printable ASCII, no user information (RFC 9110 section 4.2.4). */
static enum hsm_status
check_url(const char *url, struct hsm_reason *why)
{
    DEFER(curl_url_cleanup) CURLU *parts = curl_url();
    DEFER(curl_free) char *scheme = NULL;
    CURLUcode rc;

    if (parts == NULL)
        return HSM_ERR_NOMEM;
    if (strnlen(url, URL_MAX + 1) > URL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "URL longer than %d octets", URL_MAX);
    for (const char *s = url; *s != '\0'; s++) {
        if (*s <= 0x20 || *s >= 0x7f)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "URL with a blank or control character");
    }
    rc = curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER | CURLU_NON_SUPPORT_SCHEME);
    if (rc == CURLUE_OUT_OF_MEMORY)
        return HSM_ERR_NOMEM;
    if (rc == CURLUE_USER_NOT_ALLOWED)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "URL with user information");
    if (rc != CURLUE_OK || curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "not a URL: %s", url);
    /* curl accepts "https:host" and "https:///host", which have no authority (RFC 3986 section
     * 3). */
    if (strcmp(scheme, "https") != 0 || strncasecmp(url, "https://", 8) != 0 || url[8] == '/')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "not an https URL: %s", url);
    return HSM_OK;
}

static bool
body_reserve(struct exchange *exchange, size_t len)
{
    size_t size = exchange->body_size == 0 ? 4096 : exchange->body_size;
    char *larger;

    while (size < len + 1)
        size *= 2;
    if (size == exchange->body_size)
        return true;
    larger = realloc(exchange->reply->body, size);
    if (larger == NULL)
        return false;
    exchange->reply->body = larger;
    exchange->body_size = size;
    return true;
}

/* curl's write callback: a smaller return value ends the transfer. */
static size_t
take_body(char *octets, size_t one, size_t len, void *context)
{
    struct exchange *exchange = context;
    struct acme_http_reply *reply = exchange->reply;

    (void)one; /* always 1 */
    if (len > exchange->reply_max - reply->body_len) {
        exchange->is_too_large = true;
        return 0;
    }
    if (!body_reserve(exchange, reply->body_len + len)) {
        exchange->is_out_of_memory = true;
        return 0;
    }
    memcpy(reply->body + reply->body_len, octets, len);
    reply->body_len += len;
    reply->body[reply->body_len] = '\0';
    return len;
}

/* Where the reply keeps the header with this name; NULL: it is not kept. */
static char **
header_place(struct acme_http_reply *reply, const char *name, size_t len)
{
    const struct {
        const char *name;
        char **place;
    } kept[] = {
        {"Content-Type", &reply->content_type},
        {"Location", &reply->location},
        {"Replay-Nonce", &reply->replay_nonce},
        {"Retry-After", &reply->retry_after},
        {"ETag", &reply->etag},
        {"Cache-Control", &reply->cache_control},
        {"Link", &reply->link},
    };

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (strlen(kept[i].name) == len && strncasecmp(kept[i].name, name, len) == 0)
            return kept[i].place;
    }
    return NULL;
}

static void
drop_headers(struct acme_http_reply *reply)
{
    char **const all[] = {&reply->content_type, &reply->location,      &reply->replay_nonce,
                          &reply->retry_after,  &reply->cache_control, &reply->etag,
                          &reply->link};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        free(*all[i]);
        *all[i] = NULL;
    }
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Link is a list: fields are kept until HEADER_VALUE_MAX is reached. */
static enum hsm_status
add_link(char **links, const char *value, size_t len)
{
    const char *before = *links != NULL ? *links : "";
    char *joined = NULL;

    if (strlen(before) + len > HEADER_VALUE_MAX)
        return HSM_OK;
    if (asprintf(&joined, "%s%s%.*s", before, *before != '\0' ? ", " : "", (int)len, value) < 0)
        return HSM_ERR_NOMEM;
    free(*links);
    *links = joined;
    return HSM_OK;
}

/* curl's header callback: one line, not NUL-terminated. Of repeated headers the last is kept, but
 * all of Link. */
static size_t
take_header(char *line, size_t one, size_t len, void *context)
{
    struct exchange *exchange = context;
    const char *colon = memchr(line, ':', len);
    const char *value;
    const char *end = line + len;
    char **place;

    (void)one; /* always 1 */
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        drop_headers(exchange->reply); /* the headers so far are those of a 1xx response */
        return len;
    }
    place = colon == NULL ? NULL : header_place(exchange->reply, line, (size_t)(colon - line));
    if (place == NULL)
        return len;
    for (value = colon + 1; value < end && is_blank(*value); value++)
        ;
    while (end > value && is_blank(end[-1]))
        end--;
    if (place == &exchange->reply->link) {
        exchange->is_out_of_memory = add_link(place, value, (size_t)(end - value)) != HSM_OK;
        return exchange->is_out_of_memory ? 0 : len;
    }
    if (end - value > HEADER_VALUE_MAX) {
        exchange->is_too_large = true;
        return 0;
    }
    free(*place);
    *place = strndup(value, (size_t)(end - value));
    exchange->is_out_of_memory = *place == NULL;
    return *place == NULL ? 0 : len;
}

/* TLS client authentication: the private operation runs in the token. */
static CURLcode
use_client_key(SSL_CTX *ctx, const struct acme_http_client *client)
{
    X509 *cert = certs_chain_get(client->client_chain, 0);

    if (SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, hsm_key_pkey(client->client_key)) != 1) {
        ERR_clear_error();
        return CURLE_SSL_CERTPROBLEM;
    }
    for (size_t i = 1; (cert = certs_chain_get(client->client_chain, i)) != NULL; i++) {
        if (SSL_CTX_add1_chain_cert(ctx, cert) != 1) {
            ERR_clear_error();
            return CURLE_SSL_CERTPROBLEM;
        }
    }
    return CURLE_OK;
}

/* A reply may hold a token: OpenSSL keeps no copy of what it decrypted. */
static CURLcode
set_up_tls(CURL *curl, void *ssl_ctx, void *context)
{
    const struct acme_http_client *client = context;

    (void)curl;
    SSL_CTX_set_options(ssl_ctx, SSL_OP_CLEANSE_PLAINTEXT);
    return client->client_key != NULL ? use_client_key(ssl_ctx, client) : CURLE_OK;
}

DEFINE_DEFER(struct curl_slist, curl_slist_free_all)

static bool
list_add(struct curl_slist **list, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 1;
    char *line = malloc(size);
    struct curl_slist *longer;

    if (line == NULL)
        return false;
    snprintf(line, size, "%s%s", name, value);
    longer = curl_slist_append(*list, line);
    OPENSSL_cleanse(line, size); /* it may be Authorization */
    free(line);
    if (longer == NULL)
        return false;
    *list = longer;
    return true;
}

static bool
has_line_end(const char *value)
{
    return value != NULL && strpbrk(value, "\r\n") != NULL;
}

/* curl adds Expect and a media type on its own; a name without value suppresses them. */
static enum hsm_status
make_headers(const struct acme_http_fetch *fetch, struct curl_slist **out)
{
    bool good = list_add(out, "Accept-Language: en", "") && list_add(out, "Expect:", "");

    if (has_line_end(fetch->content_type) || has_line_end(fetch->accept) ||
        has_line_end(fetch->authorization) || has_line_end(fetch->if_none_match))
        return HSM_ERR_USAGE;
    if (good)
        good = fetch->content_type != NULL ? list_add(out, "Content-Type: ", fetch->content_type)
                                           : list_add(out, "Content-Type:", "");
    if (good && fetch->accept != NULL)
        good = list_add(out, "Accept: ", fetch->accept);
    if (good && fetch->if_none_match != NULL)
        good = list_add(out, "If-None-Match: ", fetch->if_none_match);
    if (good && fetch->authorization != NULL)
        good = list_add(out, "Authorization: ", fetch->authorization);
    return good ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
set_method(CURL *curl, const struct acme_http_fetch *fetch)
{
    if (strcmp(fetch->method, "GET") == 0) {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    } else if (strcmp(fetch->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(fetch->method, "POST") == 0 || strcmp(fetch->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, fetch->method);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->body_len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, fetch->body != NULL ? fetch->body : "");
    } else {
        return HSM_ERR_USAGE;
    }
    return HSM_OK;
}

/* Proxies named by the environment are ignored: peers are reached directly or not at all, so that
 * whoever can set a variable cannot read the requests. */
static void
set_transport(CURL *curl, const struct acme_http_client *client, unsigned timeout_ms)
{
    long connect_ms = timeout_ms < CONNECT_MS_MAX ? (long)timeout_ms : CONNECT_MS_MAX;

    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    /* Otherwise the C library's limit for resolving a name applies, 10 s and more: curl would wait
     * for its resolver thread. With this option the thread is abandoned and ends by itself. */
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, CONNECTIONS_PER_HANDLE);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (client->tls_ca != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->tls_ca);
    if (client->tls_ca != NULL && !client->system_too)
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL); /* that directory has all CAs */
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, set_up_tls);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, (void *)client);
}

/* curl's socket callback, called for each address before connecting. */
static curl_socket_t
open_public_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct exchange *exchange = context;

    if (purpose != CURLSOCKTYPE_IPCXN || !acme_address_is_public(&address->addr)) {
        exchange->is_address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* An open connection may have been made without this restriction. */
static void
set_public_only(CURL *curl, struct exchange *exchange)
{
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_public_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, exchange);
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
}

/* The reason of a failure; `text` is curl's, "" if there is none. */
static enum hsm_status
refuse_exchange(const struct exchange *exchange, CURLcode rc, const char *url, const char *text,
                struct hsm_reason *why)
{
    int shown = (int)strcspn(url, "?#");

    if (exchange->is_too_large)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%.*s: the answer is too large", shown, url);
    if (exchange->is_out_of_memory || rc == CURLE_OUT_OF_MEMORY)
        return hsm_refuse(why, HSM_ERR_NOMEM, "out of memory");
    if (exchange->is_address_refused)
        return hsm_refuse(why, HSM_ERR_BUSY, "%.*s: not at a public address", shown, url);
    if (*text == '\0')
        text = curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return hsm_refuse(why, HSM_ERR_BUSY, "%.*s: timed out: %s", shown, url, text);
    case CURLE_PEER_FAILED_VERIFICATION:
        return hsm_refuse(why, HSM_ERR_BUSY, "%.*s: TLS not trusted: %s", shown, url, text);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%.*s: %s", shown, url, text);
    default:
        return hsm_refuse(why, HSM_ERR_BUSY, "%.*s: %s", shown, url, text);
    }
}

/* curl leaves members unset when the response has no body or no such header. */
static enum hsm_status
complete_reply(CURL *curl, struct acme_http_reply *reply)
{
    long status = 0;

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    reply->status = (int)status;
    if (reply->body == NULL)
        reply->body = calloc(1, 1);
    if (reply->content_type == NULL)
        reply->content_type = calloc(1, 1);
    return reply->body != NULL && reply->content_type != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
perform(const struct acme_http_client *client, CURL *curl, const struct acme_http_fetch *fetch,
        struct acme_http_reply *reply, struct hsm_reason *why)
{
    DEFER(curl_slist_free_all) struct curl_slist *headers = NULL;
    struct exchange exchange = {.reply = reply, .reply_max = fetch->reply_max};
    char text[CURL_ERROR_SIZE] = "";
    enum hsm_status st = make_headers(fetch, &headers);
    CURLcode rc;

    if (st == HSM_OK)
        st = set_method(curl, fetch);
    if (st != HSM_OK)
        return st;
    set_transport(curl, client, fetch->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_URL, fetch->url);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, client->user_agent); /* RFC 8555 section 6.1 */
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
    if (fetch->public_addresses_only)
        set_public_only(curl, &exchange);
    rc = curl_easy_perform(curl);
    if (rc != CURLE_OK)
        return refuse_exchange(&exchange, rc, fetch->url, text, why);
    return complete_reply(curl, reply);
}

enum hsm_status
acme_http_fetch(struct acme_http_client *client, const struct acme_http_fetch *fetch,
                struct acme_http_reply *reply, struct hsm_reason *why)
{
    struct acme_http_reply made = {.status = 0};
    enum hsm_status st = check_url(fetch->url, why);
    CURL *curl;

    if (st != HSM_OK)
        return st;
    curl = handle_take(client);
    if (curl == NULL)
        return HSM_ERR_NOMEM;
    st = perform(client, curl, fetch, &made, why);
    handle_give(client, curl);
    if (st != HSM_OK) {
        acme_http_reply_clear(&made);
        return st;
    }
    *reply = made;
    return HSM_OK;
}

void
acme_http_reply_clear(struct acme_http_reply *reply)
{
    if (reply == NULL)
        return;
    if (reply->body != NULL)
        OPENSSL_cleanse(reply->body, reply->body_len); /* it may contain a token */
    free(reply->body);
    drop_headers(reply);
    memset(reply, 0, sizeof(*reply));
}

static enum hsm_status
status_from_http(int status)
{
    if (status == 404 || status == 410)
        return HSM_ERR_NOT_FOUND;
    if (status == 408 || status == 429 || status >= 500)
        return HSM_ERR_BUSY;
    return HSM_ERR_MALFORMED; /* including redirects */
}

enum hsm_status
acme_http_fetch_chain(struct acme_http_client *client, const char *url, struct certs_chain **out,
                      struct hsm_reason *why)
{
    const struct acme_http_fetch fetch = {
        .method = "GET",
        .url = url,
        .accept = "application/pem-certificate-chain",
        .reply_max = CERTS_CHAIN_OCTETS_MAX,
        .timeout_ms = CHAIN_TIMEOUT_MS,
    };
    struct acme_http_reply reply = {.status = 0};
    enum hsm_status st = acme_http_fetch(client, &fetch, &reply, why);

    if (st != HSM_OK)
        return st;
    /* The media type is not checked: deployed repositories send others, and only PEM is
     * accepted. */
    if (reply.status == 200)
        st = certs_chain_parse_pem(reply.body, reply.body_len, CERTS_CHAIN_LEN_MAX, out, why);
    else
        st = hsm_refuse(why, status_from_http(reply.status), "%.*s: HTTP status %d",
                        (int)strcspn(url, "?#"), url, reply.status);
    acme_http_reply_clear(&reply);
    return st;
}
