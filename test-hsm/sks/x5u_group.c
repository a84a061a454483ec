/* x5u_group.c - the cache of chains and the repository that its tests share. */
#include "x5u_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <sys/socket.h>

#define MEET_MS 3000 /* the longest a fetch waits for a second one to begin */

struct ecosystem eco;
struct eco_server repository;
static struct certs_chain *short_lived; /* its leaf is valid for one hour */
static struct certs_chain *ended; /* its leaf expired a minute ago */
char *sp_pem, *short_pem, *ended_pem;
atomic_uint fetches, not_modified;
atomic_bool is_down, is_gate_shut;
atomic_uint meeting, met;

static bool
is_known(const struct acme_http_request *request)
{
    const char *tag = acme_http_request_header(request, "If-None-Match");

    return tag != NULL && strcmp(tag, "\"one\"") == 0;
}

/* Waits until a second fetch of this kind is under way, for at most MEET_MS. */
static void
meet(void)
{
    if (++meeting > 1)
        met++;
    for (unsigned i = 0; i < MEET_MS && met == 0; i++)
        usleep(1000);
    meeting--;
}

/* A repository; the path selects how it behaves. */
static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    static const char type[] = "application/pem-certificate-chain";
    const char *path = acme_http_request_path(request);
    const char *pem = strstr(path, "short") != NULL   ? short_pem
                      : strstr(path, "ended") != NULL ? ended_pem
                                                      : sp_pem;

    (void)context;
    fetches++;
    while (strstr(path, "gate") != NULL && is_gate_shut)
        usleep(1000);
    if (strstr(path, "meet") != NULL)
        meet();
    if (!is_down && is_known(request)) {
        not_modified++;
        acme_http_respond(response, 304, NULL, NULL, 0);
        acme_http_response_header(response, "ETag", "\"one\"");
    } else if (is_down) {
        acme_http_respond(response, 503, "text/plain", "later", 5);
    } else if (strstr(path, "slow") != NULL) {
        usleep(400000);
        acme_http_respond(response, 200, type, pem, strlen(pem));
    } else if (strstr(path, "redirect") != NULL) {
        acme_http_respond(response, 302, "text/plain", "", 0);
        acme_http_response_header(response, "Location", repository.base);
    } else if (strstr(path, "garbage") != NULL) {
        acme_http_respond(response, 200, type, "not PEM", 7);
    } else if (strstr(path, "empty") != NULL) {
        acme_http_respond(response, 200, type, "", 0);
    } else if (strstr(path, "huge") != NULL) {
        char *body = calloc(1, CERTS_CHAIN_OCTETS_MAX + 1);

        memset(body, '\n', CERTS_CHAIN_OCTETS_MAX + 1);
        memcpy(body, pem, strlen(pem));
        acme_http_respond(response, 200, type, body, CERTS_CHAIN_OCTETS_MAX + 1);
        free(body);
    } else if (strstr(path, "missing") != NULL) {
        acme_http_respond(response, 404, "text/plain", "", 0);
    } else {
        acme_http_respond(response, 200, strstr(path, "octets") != NULL ? "text/plain" : type, pem,
                          strlen(pem));
        if (strstr(path, "week") != NULL)
            acme_http_response_header(response, "Cache-Control", "public, max-age=400000");
        if (strstr(path, "year") != NULL)
            acme_http_response_header(response, "Cache-Control", "max-age=99999999999999999999");
        if (strstr(path, "never") != NULL)
            acme_http_response_header(response, "Cache-Control", "no-store, max-age=0");
        if (strstr(path, "tagged") != NULL)
            acme_http_response_header(response, "ETag", "\"one\"");
    }
}

int
x5u_group_start(void **state)
{
    (void)state;
    eco_start(&eco);
    short_lived =
        eco_sp_chain(&eco, ECO_SPC, hsm_key_public(eco.sp_key), eco.now - 60, eco.now + 3600);
    eco_must(certs_chain_pem(eco.sp, &sp_pem), "chain");
    ended = eco_sp_chain(&eco, ECO_SPC, hsm_key_public(eco.sp_key), eco.now - 3600, eco.now - 60);
    eco_must(certs_chain_pem(short_lived, &short_pem), "chain");
    eco_must(certs_chain_pem(ended, &ended_pem), "chain");
    eco_server_start(&repository, &eco, (struct acme_http_handler){.handle = handle});
    return 0;
}

int
x5u_group_stop(void **state)
{
    (void)state;
    eco_server_stop(&repository);
    free(ended_pem);
    free(short_pem);
    free(sp_pem);
    certs_chain_free(ended);
    certs_chain_free(short_lived);
    eco_stop(&eco);
    return 0;
}

struct sks_x5u_cache *
cache_new(bool private_addresses)
{
    const unsigned ports[] = {repository.port, 0};
    struct sks_x5u_cache *cache = NULL;

    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http,
                                                        .ports = ports,
                                                        .private_addresses = private_addresses},
                               &cache),
             "cache");
    fetches = 0;
    not_modified = 0;
    is_down = false;
    return cache;
}

enum hsm_status
get(struct sks_x5u_cache *cache, const char *path, time_t now)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    char url[256];
    enum hsm_status st;

    snprintf(url, sizeof(url), "%s%s", repository.base, path);
    st = sks_x5u_get(cache, url, now, &chain, &why);
    if (st == HSM_OK)
        assert_int_equal(certs_chain_len(chain), 2);
    assert_int_equal(st == HSM_OK, chain != NULL);
    assert_int_equal(st == HSM_OK, why.text[0] == '\0');
    certs_chain_free(chain);
    return st;
}

void
wait_for_fetches(struct sks_x5u_cache *cache, unsigned count)
{
    struct sks_x5u_count now;

    for (unsigned i = 0; i < 5000; i++) {
        sks_x5u_count(cache, &now);
        if (now.fetched >= count)
            break;
        usleep(1000);
    }
    assert_int_equal(now.fetched, count);
    assert_int_equal(fetches, count);
}

struct sks_x5u_cache *
small_cache(size_t chains_max, size_t octets_max, unsigned queue_ms)
{
    const unsigned ports[] = {repository.port, 0};
    struct sks_x5u_cache *cache = NULL;

    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http,
                                                        .ports = ports,
                                                        .private_addresses = true,
                                                        .chains_max = chains_max,
                                                        .octets_max = octets_max,
                                                        .queue_ms = queue_ms},
                               &cache),
             "cache");
    fetches = 0;
    is_down = false;
    return cache;
}

atomic_uint told;

void
tell(void *context)
{
    (void)context;
    told++;
}

enum hsm_status
ask(struct sks_x5u_cache *cache, const char *host, const char *path, struct certs_chain **out)
{
    char url[256];

    snprintf(url, sizeof(url), "https://%s:%u%s", host, repository.port, path);
    return sks_x5u_ask(cache, url, eco.now, &(struct sks_x5u_wait){.landed = tell}, out, NULL);
}

void
wait_until_told(unsigned count)
{
    for (unsigned i = 0; i < 5000 && told < count; i++)
        usleep(1000);
    assert_int_equal(told, count);
}

void
vouch(struct sks_x5u_cache *cache, const char *path)
{
    char url[256];

    snprintf(url, sizeof(url), "%s%s", repository.base, path);
    sks_x5u_vouch(cache, url);
}

void
open_tarpits(int *sockets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)repository.port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)i)};

        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(sockets[i], (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(sockets[i], 8), 0);
    }
}

void
ask_tarpits(struct sks_x5u_cache *cache, size_t count)
{
    struct certs_chain *chain = NULL;
    char host[32];

    told = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(host, sizeof(host), "127.0.0.%zu", i + 2);
        assert_int_equal(ask(cache, host, "/c.pem", &chain), HSM_ERR_NOT_FOUND);
    }
}
