/* test_http_client.c - mirrors acme/src/http_client.c, against our own server. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <acme/http_client.h>

#include "http_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define URL_SIZE     4096 /* octets */
#define TIMEOUT_MS   5000
#define BODY_LEN     1000
#define THREADS      8
#define ROUNDS       25

static struct http_peer peer;
static atomic_uint followed; /* requests to the target of a redirect */

static void
respond_chain(struct acme_http_response *response, const char *type, const char *more)
{
    char *pem = NULL;
    char *text;

    assert_int_equal(certs_chain_pem(http_server_id.chain, &pem), HSM_OK);
    text = malloc(strlen(pem) + strlen(more) + 1);
    snprintf(text, strlen(pem) + strlen(more) + 1, "%s%s", pem, more);
    acme_http_respond(response, 200, type, text, strlen(text));
    free(text);
    free(pem);
}

static void
respond_octets(struct acme_http_response *response, size_t len)
{
    char *octets = malloc(len);

    memset(octets, 'o', len);
    acme_http_respond(response, 200, "text/plain", octets, len);
    free(octets);
}

/* The request as the server saw it, one header per line. */
static void
describe(const struct acme_http_request *request, struct acme_http_response *response)
{
    static const char *const names[] = {"User-Agent",   "Accept-Language", "Accept",
                                        "Content-Type", "Authorization",   "Expect",
                                        "Cookie"};
    char text[4096] = "";
    size_t len;
    const char *body = acme_http_request_body(request, &len);

    for (size_t i = 0; i < COUNT(names); i++) {
        const char *value = acme_http_request_header(request, names[i]);

        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s: %s\n", names[i],
                 value != NULL ? value : "-");
    }
    snprintf(text + strlen(text), sizeof(text) - strlen(text), "%d %s?%s\n%.*s",
             acme_http_request_method(request), acme_http_request_path(request),
             acme_http_request_query(request) != NULL ? acme_http_request_query(request) : "",
             (int)len, body);
    acme_http_respond(response, 200, "text/plain", text, strlen(text));
}

static void
respond_headers(struct acme_http_response *response)
{
    acme_http_response_header(response, "Location", "/first");
    acme_http_response_header(response, "location", " https://ca.example/order/1 ");
    acme_http_response_header(response, "Replay-Nonce", "AbC-_1");
    acme_http_response_header(response, "Retry-After", "7");
    acme_http_response_header(response, "Cache-Control", "public, max-age=86400");
    acme_http_response_header(response, "ETag", "\"e\"");
    acme_http_response_header(response, "Set-Cookie", "a=b");
    acme_http_respond(response, 201, "application/json", "{}", 2);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const struct timespec half_a_second = {0, 500000000};
    const char *path = acme_http_request_path(request);

    (void)context;
    if (strcmp(path, "/headers") == 0) {
        respond_headers(response);
    } else if (strcmp(path, "/redirect") == 0) {
        acme_http_response_header(response, "Location", "/followed");
        acme_http_respond(response, 302, NULL, NULL, 0);
    } else if (strcmp(path, "/followed") == 0) {
        followed++;
    } else if (strcmp(path, "/slow") == 0) {
        nanosleep(&half_a_second, NULL);
    } else if (strcmp(path, "/octets") == 0) {
        respond_octets(response, BODY_LEN);
    } else if (strcmp(path, "/header") == 0) {
        char value[9000];

        memset(value, 'v', sizeof(value) - 1);
        value[sizeof(value) - 1] = '\0';
        acme_http_response_header(response, "ETag", value);
        acme_http_respond(response, 200, NULL, NULL, 0);
    } else if (strcmp(path, "/chain.pem") == 0) {
        respond_chain(response, "application/pem-certificate-chain", "");
    } else if (strcmp(path, "/octet-stream.pem") == 0) {
        respond_chain(response, "application/octet-stream", "");
    } else if (strcmp(path, "/more.pem") == 0) {
        respond_chain(response, "application/pem-certificate-chain",
                      "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    } else if (strcmp(path, "/html.pem") == 0) {
        acme_http_respond(response, 200, "application/pem-certificate-chain", "<html>", 6);
    } else if (strcmp(path, "/large.pem") == 0) {
        respond_octets(response, CERTS_CHAIN_OCTETS_MAX + 1);
    } else if (strcmp(path, "/busy.pem") == 0) {
        acme_http_respond(response, 503, NULL, NULL, 0);
    } else if (strcmp(path, "/none.pem") == 0) {
        acme_http_respond(response, 404, "text/plain", "no", 2);
    } else {
        describe(request, response);
    }
}

static const struct acme_http_handler handler = {.handle = handle};

static int
start(void **state)
{
    const struct acme_http_client_config config = {.tls_ca = http_ca_path};
    struct acme_http_client *client = NULL;

    http_peer_start(&peer, 4, handler, NULL);
    if (acme_http_client_new(&config, &client) != HSM_OK)
        return -1;
    *state = client;
    return 0;
}

static int
stop(void **state)
{
    acme_http_client_free(*state);
    return http_peer_stop(&peer) == HSM_OK ? 0 : -1;
}

static const char *
url_of(const char *path)
{
    static _Thread_local char url[URL_SIZE];

    snprintf(url, sizeof(url), "https://127.0.0.1:%u%s", peer.port, path);
    return url;
}

static enum hsm_status
get(struct acme_http_client *client, const char *url, size_t max, struct acme_http_reply *reply,
    struct hsm_reason *why)
{
    const struct acme_http_fetch fetch = {
        .method = "GET", .url = url, .reply_max = max, .timeout_ms = TIMEOUT_MS};

    return acme_http_fetch(client, &fetch, reply, why);
}

static void
the_answer_is_given_with_the_headers_that_matter(void **state)
{
    struct acme_http_reply reply;

    assert_int_equal(get(*state, url_of("/headers"), 100, &reply, NULL), HSM_OK);
    assert_int_equal(reply.status, 201);
    assert_int_equal(reply.body_len, 2);
    assert_string_equal(reply.body, "{}");
    assert_string_equal(reply.content_type, "application/json");
    assert_string_equal(reply.location, "https://ca.example/order/1"); /* the last */
    assert_string_equal(reply.replay_nonce, "AbC-_1");
    assert_string_equal(reply.retry_after, "7");
    assert_string_equal(reply.cache_control, "public, max-age=86400");
    assert_string_equal(reply.etag, "\"e\"");
    acme_http_reply_clear(&reply);
    assert_null(reply.body);
}

static void
any_status_is_an_answer_and_absent_headers_are_null(void **state)
{
    struct acme_http_reply reply;

    assert_int_equal(get(*state, url_of("/busy.pem"), 100, &reply, NULL), HSM_OK);
    assert_int_equal(reply.status, 503);
    assert_string_equal(reply.body, "");
    assert_string_equal(reply.content_type, "");
    assert_null(reply.location);
    assert_null(reply.replay_nonce);
    acme_http_reply_clear(&reply);
}

static void
a_request_says_what_it_should_and_nothing_else(void **state)
{
    const struct acme_http_fetch post = {.method = "POST",
                                         .url = url_of("/a?b=c"),
                                         .content_type = "application/jose+json",
                                         .accept = "application/json",
                                         .authorization = "Bearer secret",
                                         .body = "{\"a\":1}",
                                         .body_len = 7,
                                         .reply_max = 4096,
                                         .timeout_ms = TIMEOUT_MS};
    const struct acme_http_fetch empty = {
        .method = "POST", .url = post.url, .reply_max = 4096, .timeout_ms = TIMEOUT_MS};
    struct acme_http_reply reply;

    assert_int_equal(acme_http_fetch(*state, &post, &reply, NULL), HSM_OK);
    assert_non_null(strstr(reply.body, "User-Agent: sti-hsm/"));
    assert_non_null(strstr(reply.body, "\nAccept-Language: en\nAccept: application/json\n"
                                       "Content-Type: application/jose+json\n"
                                       "Authorization: Bearer secret\nExpect: -\nCookie: -\n"
                                       "2 /a?b=c\n{\"a\":1}"));
    acme_http_reply_clear(&reply);
    assert_int_equal(acme_http_fetch(*state, &empty, &reply, NULL), HSM_OK);
    assert_non_null(strstr(reply.body, "\nContent-Type: -\nAuthorization: -\n"));
    acme_http_reply_clear(&reply);
}

static void
head_gives_headers_without_a_body(void **state)
{
    const struct acme_http_fetch fetch = {
        .method = "HEAD", .url = url_of("/headers"), .reply_max = 0, .timeout_ms = TIMEOUT_MS};
    struct acme_http_reply reply;

    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, NULL), HSM_OK);
    assert_int_equal(reply.status, 201);
    assert_int_equal(reply.body_len, 0);
    assert_string_equal(reply.replay_nonce, "AbC-_1");
    acme_http_reply_clear(&reply);
}

static void
a_request_that_cannot_be_sent_is_refused(void **state)
{
    struct acme_http_fetch fetch = {
        .method = "PATCH", .url = url_of("/a"), .reply_max = 4096, .timeout_ms = TIMEOUT_MS};
    struct acme_http_reply reply;

    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, NULL), HSM_ERR_USAGE);
    fetch.method = "GET";
    fetch.authorization = "Bearer a\r\nX-Injected: b";
    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, NULL), HSM_ERR_USAGE);
}

static void
a_redirect_is_not_followed(void **state)
{
    struct acme_http_reply reply;

    assert_int_equal(get(*state, url_of("/redirect"), 100, &reply, NULL), HSM_OK);
    assert_int_equal(reply.status, 302);
    assert_string_equal(reply.location, "/followed");
    acme_http_reply_clear(&reply);
    assert_int_equal(followed, 0);
}

static void
an_answer_beyond_its_bound_is_malformed(void **state)
{
    struct acme_http_reply reply;
    struct hsm_reason why;

    assert_int_equal(get(*state, url_of("/octets"), BODY_LEN, &reply, &why), HSM_OK);
    assert_int_equal(reply.body_len, BODY_LEN);
    acme_http_reply_clear(&reply);
    assert_int_equal(get(*state, url_of("/octets"), BODY_LEN - 1, &reply, &why), HSM_ERR_MALFORMED);
    assert_non_null(strstr(why.text, "too large"));
    assert_int_equal(get(*state, url_of("/header"), BODY_LEN, &reply, &why), HSM_ERR_MALFORMED);
    assert_non_null(strstr(why.text, "too large"));
    assert_int_equal(get(*state, url_of("/octets"), BODY_LEN, &reply, &why), HSM_OK);
    acme_http_reply_clear(&reply);
}

static void
a_slow_answer_is_not_waited_for(void **state)
{
    const struct acme_http_fetch fetch = {
        .method = "GET", .url = url_of("/slow"), .reply_max = 100, .timeout_ms = 100};
    struct acme_http_reply reply;
    struct hsm_reason why;

    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, &why), HSM_ERR_BUSY);
    assert_non_null(strstr(why.text, "timed out"));
}

static void
who_is_not_there_is_busy(void **state)
{
    char url[64];
    struct acme_http_reply reply;
    struct hsm_reason why;

    snprintf(url, sizeof(url), "https://127.0.0.1:1/");
    assert_int_equal(get(*state, url, 100, &reply, &why), HSM_ERR_BUSY);
    assert_non_null(strstr(why.text, "https://127.0.0.1:1/"));
}

static void
what_is_no_https_url_is_refused(void **state)
{
    static const char *const urls[] = {
        "",
        "http://127.0.0.1/",
        "HTTP://127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "127.0.0.1/",
        "https://",
        "https:///a",
        "https:/127.0.0.1/",
        "https:127.0.0.1/",
        "https://user@127.0.0.1/",
        "https://user:password@127.0.0.1/",
        "https://127.0.0.1:99999/",
        "https://127.0.0.1/a b",
        "https://127.0.0.1/a\nb",
        "https://127.0.0.1/\x80",
        "javascript:alert(1)",
    };
    static char text[3000] = "https://127.0.0.1/";
    struct acme_http_reply reply;
    struct hsm_reason why;

    for (size_t i = 0; i < COUNT(urls); i++) {
        memset(&why, 0, sizeof(why));
        if (get(*state, urls[i], 100, &reply, &why) != HSM_ERR_MALFORMED || why.text[0] == '\0')
            fail_msg("%s", urls[i]);
        assert_null(strstr(why.text, "password"));
    }
    memset(text + strlen(text), 'a', 2100);
    assert_int_equal(get(*state, text, 100, &reply, &why), HSM_ERR_MALFORMED);
}

static void
a_server_that_does_not_chain_to_our_anchors_is_not_spoken_to(void **state)
{
    const struct acme_http_client_config foreign = {.tls_ca = http_other_ca_path};
    const struct acme_http_client_config system_anchors = {.tls_ca = NULL};
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply;
    struct hsm_reason why;
    char url[64];

    assert_int_equal(acme_http_client_new(&foreign, &client), HSM_OK);
    assert_int_equal(get(client, url_of("/followed"), 100, &reply, &why), HSM_ERR_BUSY);
    assert_non_null(strstr(why.text, "TLS not trusted"));
    acme_http_client_free(client);
    assert_int_equal(acme_http_client_new(&system_anchors, &client), HSM_OK);
    assert_int_equal(get(client, url_of("/followed"), 100, &reply, &why), HSM_ERR_BUSY);
    acme_http_client_free(client);
    /* The certificate is for 127.0.0.1. */
    snprintf(url, sizeof(url), "https://localhost:%u/followed", peer.port);
    assert_int_equal(get(*state, url, 100, &reply, &why), HSM_ERR_BUSY);
    assert_non_null(strstr(why.text, "TLS not trusted"));
    assert_int_equal(followed, 0);
}

static void
proxies_of_the_environment_are_ignored(void **state)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    struct acme_http_reply reply;

    for (size_t i = 0; i < COUNT(names); i++)
        assert_int_equal(setenv(names[i], "http://127.0.0.1:1", 1), 0);
    assert_int_equal(get(*state, url_of("/"), 4096, &reply, NULL), HSM_OK);
    acme_http_reply_clear(&reply);
    for (size_t i = 0; i < COUNT(names); i++)
        unsetenv(names[i]);
}

static void
an_address_that_is_not_public_is_refused_where_asked(void **state)
{
    struct acme_http_fetch fetch = {
        .method = "GET", .url = url_of("/"), .reply_max = 4096, .timeout_ms = TIMEOUT_MS};
    struct acme_http_reply reply;
    struct hsm_reason why;

    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, &why), HSM_OK);
    acme_http_reply_clear(&reply);
    fetch.public_addresses_only = true; /* although a connection to it is open */
    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, &why), HSM_ERR_BUSY);
    assert_non_null(strstr(why.text, "not at a public address"));
}

static void
connections_are_used_again(void **state)
{
    const struct acme_http_client_config config = {.tls_ca = http_ca_path};
    const struct acme_http_server_config one = {.connections_max = 1};
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply;

    (void)state;
    http_peer_start(&peer, 1, handler, &one);
    assert_int_equal(acme_http_client_new(&config, &client), HSM_OK);
    for (int i = 0; i < 5; i++) { /* a second connection would be refused */
        assert_int_equal(get(client, url_of("/"), 4096, &reply, NULL), HSM_OK);
        acme_http_reply_clear(&reply);
    }
    acme_http_client_free(client);
    assert_int_equal(http_peer_stop(&peer), HSM_OK);
}

/* A name whose DNS servers never answer, so that the resolver blocks. */
static struct {
    atomic_bool is_asked, is_let_go, has_ended;
} silence;

typedef int resolve_fn(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out);

/* Replaces the C library's function; libcurl calls this one. */
int
getaddrinfo(const char *restrict node, const char *restrict service,
            const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    union {
        void *symbol;
        resolve_fn *function;
    } next = {.symbol = dlsym(RTLD_NEXT, "getaddrinfo")};

    if (node == NULL || strcmp(node, "silent.example") != 0)
        return next.function(node, service, hints, out);
    silence.is_asked = true;
    for (int i = 0; i < TIMEOUT_MS && !silence.is_let_go; i++)
        usleep(1000);
    silence.has_ended = true;
    return EAI_AGAIN;
}

static void
a_name_whose_servers_are_silent_is_not_waited_for(void **state)
{
    const struct acme_http_fetch fetch = {.method = "GET",
                                          .url = "https://silent.example/c.pem",
                                          .reply_max = 4096,
                                          .timeout_ms = 1500};
    struct acme_http_reply reply;
    struct hsm_reason why = {.text = ""};

    assert_int_equal(acme_http_fetch(*state, &fetch, &reply, &why), HSM_ERR_BUSY);
    assert_true(silence.is_asked);
    assert_false(silence.has_ended);
    assert_non_null(strstr(why.text, "timed out"));
    silence.is_let_go = true;
    while (!silence.has_ended)
        usleep(1000);
}

static void *
fetch_often(void *context)
{
    struct acme_http_client *client = context;

    for (int i = 0; i < ROUNDS; i++) {
        struct acme_http_reply reply;
        char path[48], wanted[64];
        bool same;

        snprintf(path, sizeof(path), "/%lu-%d", (unsigned long)pthread_self(), i);
        snprintf(wanted, sizeof(wanted), "\n0 %s?\n", path);
        if (get(client, url_of(path), 4096, &reply, NULL) != HSM_OK)
            return client;
        same = strstr(reply.body, wanted) != NULL;
        acme_http_reply_clear(&reply);
        if (!same)
            return client;
    }
    return NULL;
}

static void
threads_share_a_client(void **state)
{
    pthread_t threads[THREADS];
    void *failed = NULL;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fetch_often, *state), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static void
a_client_that_could_not_work_is_not_made(void **state)
{
    struct acme_http_client_config config = {.tls_ca = "/nonexistent/ca.pem"};
    struct acme_http_client *client = NULL;

    (void)state;
    assert_int_equal(acme_http_client_new(&config, &client), HSM_ERR_NOT_FOUND);
    config.tls_ca = http_ca_path;
    config.client_key = http_client_id.key;
    assert_int_equal(acme_http_client_new(&config, &client), HSM_ERR_UNTRUSTED); /* no chain */
    config.client_chain = http_server_id.chain;
    assert_int_equal(acme_http_client_new(&config, &client), HSM_ERR_UNTRUSTED);
    assert_null(client);
}

static void
a_chain_is_read_whatever_its_media_type(void **state)
{
    static const char *const paths[] = {"/chain.pem", "/octet-stream.pem"};

    for (size_t i = 0; i < COUNT(paths); i++) {
        struct certs_chain *chain = NULL;

        assert_int_equal(acme_http_fetch_chain(*state, url_of(paths[i]), &chain, NULL), HSM_OK);
        assert_int_equal(certs_chain_len(chain), 2);
        certs_chain_free(chain);
    }
}

static void
what_is_no_chain_is_refused(void **state)
{
    static const struct {
        const char *path;
        enum hsm_status wanted;
    } table[] = {
        {"/html.pem", HSM_ERR_MALFORMED},  {"/more.pem", HSM_ERR_MALFORMED},
        {"/large.pem", HSM_ERR_MALFORMED}, {"/redirect", HSM_ERR_MALFORMED},
        {"/headers", HSM_ERR_MALFORMED}, /* status 201 */
        {"/none.pem", HSM_ERR_NOT_FOUND},  {"/busy.pem", HSM_ERR_BUSY},
    };

    for (size_t i = 0; i < COUNT(table); i++) {
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {.text = ""};

        if (acme_http_fetch_chain(*state, url_of(table[i].path), &chain, &why) != table[i].wanted ||
            why.text[0] == '\0')
            fail_msg("%s: %s", table[i].path, why.text);
        assert_null(chain);
    }
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(the_answer_is_given_with_the_headers_that_matter),
        WITH_SERVER(any_status_is_an_answer_and_absent_headers_are_null),
        WITH_SERVER(a_request_says_what_it_should_and_nothing_else),
        WITH_SERVER(head_gives_headers_without_a_body),
        WITH_SERVER(a_request_that_cannot_be_sent_is_refused),
        WITH_SERVER(a_redirect_is_not_followed),
        WITH_SERVER(an_answer_beyond_its_bound_is_malformed),
        WITH_SERVER(a_slow_answer_is_not_waited_for),
        WITH_SERVER(a_name_whose_servers_are_silent_is_not_waited_for),
        WITH_SERVER(who_is_not_there_is_busy),
        WITH_SERVER(what_is_no_https_url_is_refused),
        WITH_SERVER(a_server_that_does_not_chain_to_our_anchors_is_not_spoken_to),
        WITH_SERVER(proxies_of_the_environment_are_ignored),
        WITH_SERVER(an_address_that_is_not_public_is_refused_where_asked),
        cmocka_unit_test(connections_are_used_again),
        WITH_SERVER(threads_share_a_client),
        cmocka_unit_test(a_client_that_could_not_work_is_not_made),
        WITH_SERVER(a_chain_is_read_whatever_its_media_type),
        WITH_SERVER(what_is_no_chain_is_refused),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
