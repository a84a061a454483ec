/* test_x5u.c - mirrors sks/src/x5u.c, against a repository on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <hsm/process.h>
#include <sks/x5u.h>

#include "ecosystem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define THREADS  6
#define FAILURES 1000 /* failed fetches that the cache remembers */
#define WAITERS  16384 /* calls that can wait for one fetch */
#define MEET_MS  3000 /* the longest a fetch waits for a second one to begin */
#define ATTEMPTS 5 /* attempts of a test that a slow machine may fail */

static struct ecosystem eco;
static struct eco_server repository;
static struct certs_chain *short_lived; /* its leaf is valid for one hour */
static struct certs_chain *ended; /* its leaf expired a minute ago */
static char *sp_pem, *short_pem, *ended_pem;
static atomic_uint fetches, not_modified;
static atomic_bool is_down, is_gate_shut;
static atomic_uint meeting, met;

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

static int
set_up(void **state)
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

static int
tear_down(void **state)
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

static struct sks_x5u_cache *
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

/* Get PATH from the repository; on HSM_OK the chain has two certificates. */
static enum hsm_status
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

static const struct {
    const char *url;
    enum hsm_status wanted;
} urls[] = {
    {"https://cr.sp.example/c.pem", HSM_OK},
    {"https://cr.sp.example:443/c.pem", HSM_OK},
    {"https://cr.sp.example:8443/a/b/c-1_2~3.pem", HSM_OK},
    {"HTTPS://CR.sp.example/c.pem", HSM_OK},
    {"https://cr.sp.example/", HSM_OK},
    {"https://cr.sp.example/%7Esp/c@1.pem", HSM_OK},
    {"https://192.0.2.1/c.pem", HSM_OK},
    {"https://[2001:db8::1]:8443/c.pem", HSM_OK},
    {"", HSM_ERR_MALFORMED},
    {"cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"http://cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"ftp://cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"https:cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"https:///c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:80/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:9999/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:0/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:65979/c.pem", HSM_ERR_MALFORMED}, /* 443 modulo 2^16 */
    {"https://cr.sp.example:000443/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example:4294967739/c.pem", HSM_ERR_MALFORMED}, /* 443 modulo 2^32 */
    {"https://cr.sp.example:+443/c.pem", HSM_ERR_MALFORMED},
    {"https://user@cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"https://user:password@cr.sp.example/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example\\@127.0.0.1/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/c.pem?v=1", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/c.pem#leaf", HSM_ERR_MALFORMED},
    {"https://cr.sp.example?x", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/c.pem%0", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/c pem", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/c.pem\r\nX: y", HSM_ERR_MALFORMED},
    {"https://cr.sp.example/<c>.pem", HSM_ERR_MALFORMED},
    {"https://[::1/c.pem", HSM_ERR_MALFORMED},
    {"https://[]/c.pem", HSM_ERR_MALFORMED},
    {"https://[fe80::1%25eth0]/c.pem", HSM_ERR_MALFORMED},
    {"https://cr.\xc3\xa9.example/c.pem", HSM_ERR_MALFORMED},
};

static void
a_url_keeps_the_rules_or_is_refused(void **state)
{
    struct sks_x5u_cache *cache = NULL;

    (void)state;
    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http}, &cache), "cache");
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct hsm_reason why = {""};

        print_message("%s\n", urls[i].url);
        assert_int_equal(sks_x5u_check(cache, urls[i].url, &why), urls[i].wanted);
        assert_int_equal(strncmp(why.text, "x5u: ", 5) == 0, urls[i].wanted != HSM_OK);
    }
    sks_x5u_cache_free(cache);
}

/* Host names and addresses have separate buffers. */
static void
a_host_has_a_bound(void **state)
{
    char url[SKS_X5U_MAX + 1];
    char host[301];
    struct sks_x5u_cache *cache = NULL;

    (void)state;
    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http}, &cache), "cache");
    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    snprintf(url, sizeof(url), "https://%.253s/c.pem", host);
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_OK);
    snprintf(url, sizeof(url), "https://%.254s/c.pem", host);
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_ERR_MALFORMED);
    snprintf(url, sizeof(url), "https://[%.45s]/c.pem", host);
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_OK);
    snprintf(url, sizeof(url), "https://[%s]/c.pem", host);
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_ERR_MALFORMED);
    sks_x5u_cache_free(cache);
}

static void
a_url_has_a_bound(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    char url[SKS_X5U_MAX + 2];

    (void)state;
    memset(url, 'a', sizeof(url) - 1);
    memcpy(url, "https://a/", 10);
    url[sizeof(url) - 1] = '\0';
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_ERR_MALFORMED);
    url[sizeof(url) - 2] = '\0';
    assert_int_equal(sks_x5u_check(cache, url, NULL), HSM_OK);
    sks_x5u_cache_free(cache);
}

static void
a_port_must_be_allowed(void **state)
{
    struct sks_x5u_cache *strict = NULL;
    struct certs_chain *chain = NULL;
    char url[128];

    (void)state;
    fetches = 0;
    snprintf(url, sizeof(url), "%s/c.pem", repository.base);
    eco_must(sks_x5u_cache_new(
                 &(struct sks_x5u_config){.http = eco.http, .private_addresses = true}, &strict),
             "cache");
    assert_int_equal(sks_x5u_get(strict, url, eco.now, &chain, NULL), HSM_ERR_MALFORMED);
    assert_null(chain);
    assert_int_equal(fetches, 0);
    sks_x5u_cache_free(strict);
}

/* The connection is refused, whether the host is an address in any notation or a name. */
static void
special_addresses_are_not_connected_to(void **state)
{
    static const char *const hosts[] = {
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.2.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::1]",
        "[2001:db8::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[ff02::1]",
    };
    struct sks_x5u_cache *cache = cache_new(false);

    (void)state;
    for (size_t i = 0; i < COUNT(hosts); i++) {
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};
        char url[128];

        snprintf(url, sizeof(url), "https://%s:%u/c.pem", hosts[i], repository.port);
        assert_int_equal(sks_x5u_get(cache, url, eco.now, &chain, &why), HSM_ERR_BUSY);
        print_message("%s\n", why.text);
        assert_null(chain);
        assert_non_null(strstr(why.text, "not at a public address"));
    }
    assert_int_equal(fetches, 0);
    sks_x5u_cache_free(cache);
}

/* A connection that another cache has opened is not reused to circumvent that check. */
static void
an_open_connection_does_not_lead_to_a_special_address(void **state)
{
    struct sks_x5u_cache *open = cache_new(true);
    struct sks_x5u_cache *strict;

    (void)state;
    assert_int_equal(get(open, "/c.pem", eco.now), HSM_OK);
    strict = cache_new(false);
    assert_int_equal(get(strict, "/c.pem", eco.now), HSM_ERR_BUSY);
    assert_int_equal(fetches, 0);
    sks_x5u_cache_free(strict);
    sks_x5u_cache_free(open);
}

static void
what_a_bad_repository_says_is_no_chain(void **state)
{
    static const char *const paths[] = {"/redirect.pem", "/garbage.pem", "/empty.pem", "/huge.pem",
                                        "/missing.pem"};
    struct sks_x5u_cache *cache = cache_new(true);

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++)
        assert_int_equal(get(cache, paths[i], eco.now), HSM_ERR_BUSY);
    assert_int_equal(fetches, COUNT(paths)); /* the redirect was not followed */
    /* The media type is not checked. */
    assert_int_equal(get(cache, "/octets.pem", eco.now), HSM_OK);
    sks_x5u_cache_free(cache);
}

static void
a_failed_fetch_is_not_repeated_at_once(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);

    (void)state;
    is_down = true;
    assert_int_equal(get(cache, "/c.pem", eco.now), HSM_ERR_BUSY);
    is_down = false;
    assert_int_equal(get(cache, "/c.pem", eco.now + SKS_X5U_NEGATIVE_S - 1), HSM_ERR_BUSY);
    assert_int_equal(fetches, 1);
    assert_int_equal(get(cache, "/c.pem", eco.now + SKS_X5U_NEGATIVE_S), HSM_OK);
    assert_int_equal(fetches, 2);
    sks_x5u_cache_free(cache);
}

/* Wait for background fetches; the exact count also detects unexpected ones. */
static void
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

static const struct {
    const char *path;
    time_t fresh_s; /* at least one day, at most one week */
    time_t kept_s; /* one day longer, but not beyond the leaf's notAfter */
} lives[] = {
    {"/plain.pem", SKS_X5U_CACHE_S, SKS_X5U_CACHE_S + SKS_X5U_STALE_S},
    {"/never.pem", SKS_X5U_CACHE_S, SKS_X5U_CACHE_S + SKS_X5U_STALE_S},
    {"/week.pem", 400000, 400000 + SKS_X5U_STALE_S},
    {"/year.pem", 604800, 604800 + SKS_X5U_STALE_S},
    {"/short.pem", 3601, 3601}, /* notAfter itself is included */
    {"/short-year.pem", 3601, 3601},
};

static void
a_chain_is_fresh_then_stale_then_gone(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(lives); i++) {
        struct sks_x5u_cache *cache = cache_new(true);
        unsigned count = 1;

        assert_int_equal(get(cache, lives[i].path, eco.now), HSM_OK);
        assert_int_equal(get(cache, lives[i].path, eco.now + lives[i].fresh_s - 1), HSM_OK);
        wait_for_fetches(cache, 1);
        is_down = true;
        /* A stale chain is fetched again and stays in use meanwhile. */
        if (lives[i].kept_s > lives[i].fresh_s) {
            assert_int_equal(get(cache, lives[i].path, eco.now + lives[i].fresh_s), HSM_OK);
            wait_for_fetches(cache, ++count);
            assert_int_equal(get(cache, lives[i].path, eco.now + lives[i].fresh_s + 1), HSM_OK);
            wait_for_fetches(cache, count); /* no immediate retry */
            assert_int_equal(get(cache, lives[i].path, eco.now + lives[i].kept_s - 1), HSM_OK);
            wait_for_fetches(cache, ++count);
        }
        assert_int_equal(get(cache, lives[i].path, eco.now + lives[i].kept_s), HSM_ERR_BUSY);
        wait_for_fetches(cache, ++count);
        sks_x5u_cache_free(cache);
    }
}

static void
a_stale_chain_is_replaced_while_it_is_used(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    const time_t stale = eco.now + SKS_X5U_CACHE_S;

    (void)state;
    assert_int_equal(get(cache, "/plain.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/plain.pem", stale), HSM_OK);
    wait_for_fetches(cache, 2);
    assert_int_equal(get(cache, "/plain.pem", stale + SKS_X5U_CACHE_S - 1), HSM_OK);
    wait_for_fetches(cache, 2);
    assert_int_equal(not_modified, 0);
    sks_x5u_cache_free(cache);
}

static void
what_has_not_changed_is_not_sent_again(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    const time_t stale = eco.now + SKS_X5U_CACHE_S;

    (void)state;
    assert_int_equal(get(cache, "/tagged.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/tagged.pem", stale - 1), HSM_OK);
    sks_x5u_refresh(cache, stale - 1);
    wait_for_fetches(cache, 1);
    sks_x5u_refresh(cache, stale); /* not triggered by a call */
    wait_for_fetches(cache, 2);
    assert_int_equal(not_modified, 1);
    assert_int_equal(get(cache, "/tagged.pem", stale + SKS_X5U_CACHE_S - 1), HSM_OK);
    wait_for_fetches(cache, 2);
    sks_x5u_refresh(cache, stale + 30 * SKS_X5U_CACHE_S); /* expired, hence removed */
    assert_int_equal(get(cache, "/tagged.pem", stale + 30 * SKS_X5U_CACHE_S), HSM_OK);
    sks_x5u_cache_free(cache);
}

static size_t
kept(struct sks_x5u_cache *cache)
{
    struct sks_x5u_count now;

    sks_x5u_count(cache, &now);
    return now.kept;
}

static void
a_chain_that_no_call_names_is_forgotten(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct hsm_reason why = {""};
    char url[256];

    (void)state;
    snprintf(url, sizeof(url), "%s/preloaded.pem", repository.base);
    assert_int_equal(sks_x5u_preload(cache, url, &why), HSM_OK);
    assert_int_equal(get(cache, "/preloaded.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/one.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/other.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/other.pem", eco.now + 60), HSM_OK); /* served from the cache */
    sks_x5u_refresh(cache, eco.now + SKS_X5U_UNUSED_S - 1);
    assert_int_equal(kept(cache), 3);
    sks_x5u_refresh(cache, eco.now + SKS_X5U_UNUSED_S);
    assert_int_equal(kept(cache), 2);
    sks_x5u_refresh(cache, eco.now + SKS_X5U_UNUSED_S + 60);
    assert_int_equal(kept(cache), 1); /* the preloaded chain */
    wait_for_fetches(cache, 3);
    assert_int_equal(get(cache, "/one.pem", eco.now + SKS_X5U_UNUSED_S + 60), HSM_OK);
    wait_for_fetches(cache, 4);
    sks_x5u_cache_free(cache);
}

static void
failures_are_repeated_later_and_later_within_a_bound(void **state)
{
    static const time_t pauses[] = {10, 20, 40, 60, 60};
    struct sks_x5u_cache *cache = cache_new(true);
    time_t now = eco.now;

    (void)state;
    is_down = true;
    assert_int_equal(get(cache, "/c.pem", now), HSM_ERR_BUSY);
    for (size_t i = 0; i < COUNT(pauses); i++) {
        assert_int_equal(get(cache, "/c.pem", now + pauses[i] - 1), HSM_ERR_BUSY);
        wait_for_fetches(cache, (unsigned)i + 1);
        now += pauses[i];
        assert_int_equal(get(cache, "/c.pem", now), HSM_ERR_BUSY);
        wait_for_fetches(cache, (unsigned)i + 2);
    }
    is_down = false;
    assert_int_equal(get(cache, "/c.pem", now + 60), HSM_OK);
    sks_x5u_cache_free(cache);
}

/* What was learned while the clock was ahead does not outlast the correction of the clock. */
static void
a_clock_that_is_set_back_delays_no_fetch(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    const time_t ahead = eco.now + 365 * 86400;

    (void)state;
    is_down = true;
    assert_int_equal(get(cache, "/failed.pem", ahead), HSM_ERR_BUSY);
    is_down = false;
    assert_int_equal(get(cache, "/failed.pem", ahead), HSM_ERR_BUSY); /* the clock is the same */
    assert_int_equal(get(cache, "/failed.pem", eco.now), HSM_OK);
    wait_for_fetches(cache, 2);
    assert_int_equal(get(cache, "/plain.pem", ahead), HSM_OK);
    assert_int_equal(get(cache, "/plain.pem", eco.now), HSM_OK); /* used, and fetched again */
    wait_for_fetches(cache, 4);
    assert_int_equal(get(cache, "/plain.pem", eco.now + 1), HSM_OK);
    wait_for_fetches(cache, 4);
    sks_x5u_cache_free(cache);
}

static void
a_preloaded_chain_is_fetched_after_the_clock_was_set_back(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    const time_t ahead = eco.now + 365 * 86400;
    char url[256];

    (void)state;
    snprintf(url, sizeof(url), "%s/plain.pem", repository.base);
    assert_int_equal(sks_x5u_preload(cache, url, NULL), HSM_OK);
    is_down = true;
    sks_x5u_refresh(cache, ahead);
    wait_for_fetches(cache, 1);
    is_down = false;
    sks_x5u_refresh(cache, eco.now);
    wait_for_fetches(cache, 2);
    assert_int_equal(get(cache, "/plain.pem", eco.now), HSM_OK);
    wait_for_fetches(cache, 2);
    sks_x5u_cache_free(cache);
}

/* A cache limited to `chains_max` chains or `octets_max` octets. */
static struct sks_x5u_cache *
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

static void
the_chain_that_was_not_used_for_longest_goes_first(void **state)
{
    const size_t few = 2 * strlen(sp_pem) + 1;
    struct sks_x5u_cache *const caches[] = {small_cache(2, 0, 0), small_cache(0, few, 0)};

    (void)state;
    for (size_t i = 0; i < COUNT(caches); i++) {
        struct sks_x5u_count count;

        fetches = 0;
        assert_int_equal(get(caches[i], "/1.pem", eco.now), HSM_OK);
        assert_int_equal(get(caches[i], "/2.pem", eco.now), HSM_OK);
        assert_int_equal(get(caches[i], "/1.pem", eco.now), HSM_OK);
        assert_int_equal(get(caches[i], "/3.pem", eco.now), HSM_OK); /* evicts 2 */
        wait_for_fetches(caches[i], 3);
        assert_int_equal(get(caches[i], "/1.pem", eco.now), HSM_OK);
        wait_for_fetches(caches[i], 3);
        sks_x5u_count(caches[i], &count);
        assert_int_equal(count.kept, 2);
        assert_int_equal(count.octets, 2 * strlen(sp_pem));
        assert_int_equal(get(caches[i], "/2.pem", eco.now), HSM_OK);
        wait_for_fetches(caches[i], 4);
        sks_x5u_cache_free(caches[i]);
    }
}

static void
chains_can_be_there_before_anybody_asks(void **state)
{
    struct sks_x5u_cache *cache = small_cache(1, 0, 0);
    char url[256];

    (void)state;
    snprintf(url, sizeof(url), "%s/pre.pem", repository.base);
    assert_int_equal(sks_x5u_preload(cache, "http://cr.example/c.pem", NULL), HSM_ERR_MALFORMED);
    is_down = true;
    assert_int_equal(sks_x5u_preload(cache, url, NULL), HSM_OK);
    sks_x5u_refresh(cache, eco.now);
    wait_for_fetches(cache, 1);
    is_down = false;
    sks_x5u_refresh(cache, eco.now + SKS_X5U_NEGATIVE_S - 1);
    wait_for_fetches(cache, 1);
    sks_x5u_refresh(cache, eco.now + SKS_X5U_NEGATIVE_S); /* not triggered by a call */
    wait_for_fetches(cache, 2);
    assert_int_equal(get(cache, "/1.pem", eco.now + 20), HSM_OK); /* does not evict it */
    assert_int_equal(get(cache, "/2.pem", eco.now + 20), HSM_OK);
    assert_int_equal(get(cache, "/pre.pem", eco.now + 20), HSM_OK);
    wait_for_fetches(cache, 4);
    sks_x5u_cache_free(cache);
}

static atomic_uint told;

static void
tell(void *context)
{
    (void)context;
    told++;
}

static enum hsm_status
ask(struct sks_x5u_cache *cache, const char *host, const char *path, struct certs_chain **out)
{
    char url[256];

    snprintf(url, sizeof(url), "https://%s:%u%s", host, repository.port, path);
    return sks_x5u_ask(cache, url, eco.now, &(struct sks_x5u_wait){.landed = tell}, out, NULL);
}

static void
wait_until_told(unsigned count)
{
    for (unsigned i = 0; i < 5000 && told < count; i++)
        usleep(1000);
    assert_int_equal(told, count);
}

static void
who_does_not_wait_is_told(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;

    (void)state;
    told = 0;
    assert_int_equal(ask(cache, "127.0.0.1", "/slow.pem", &chain), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask(cache, "127.0.0.1", "/slow.pem", &chain), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask(cache, "127.0.0.1", "/missing.pem", &chain), HSM_ERR_NOT_FOUND);
    assert_null(chain);
    wait_until_told(3);
    assert_int_equal(fetches, 2);
    assert_int_equal(ask(cache, "127.0.0.1", "/missing.pem", &chain), HSM_ERR_BUSY);
    assert_int_equal(ask(cache, "127.0.0.1", "/slow.pem", &chain), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    assert_int_equal(told, 3);
    certs_chain_free(chain);
    sks_x5u_cache_free(cache);
}

static enum hsm_status
ask_in_visit(struct sks_x5u_cache *cache, const char *path, time_t now,
             struct sks_x5u_visit **visit)
{
    const struct sks_x5u_wait wait = {.landed = tell, .visit = visit};
    struct certs_chain *chain = NULL;
    char url[256];
    enum hsm_status st;

    snprintf(url, sizeof(url), "%s%s", repository.base, path);
    st = sks_x5u_ask(cache, url, now, &wait, &chain, NULL);
    assert_int_equal(st == HSM_OK, chain != NULL);
    certs_chain_free(chain);
    return st;
}

/* The caller judges an expired leaf by its dates; fetching it again at once would return the same
 * one. */
static void
a_leaf_that_has_ended_is_not_asked_for_again_at_once(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct sks_x5u_visit *visit = NULL;

    (void)state;
    told = 0;
    assert_int_equal(ask_in_visit(cache, "/ended.pem", eco.now, &visit), HSM_ERR_NOT_FOUND);
    wait_until_told(1);
    assert_int_equal(ask_in_visit(cache, "/ended.pem", eco.now, &visit), HSM_OK);
    assert_int_equal(get(cache, "/ended.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, "/ended.pem", eco.now + 59), HSM_OK);
    sks_x5u_refresh(cache, eco.now + 59);
    wait_for_fetches(cache, 1);
    assert_int_equal(get(cache, "/ended.pem", eco.now + 60), HSM_OK);
    wait_for_fetches(cache, 2);
    sks_x5u_visit_free(visit);
    sks_x5u_cache_free(cache);
}

/* This holds whatever the time is at the retry and whatever has been evicted meanwhile. */
static void
a_call_takes_what_was_fetched_for_it_and_asks_no_more(void **state)
{
    struct sks_x5u_cache *cache = small_cache(1, 0, 0);
    struct sks_x5u_visit *visit = NULL;
    struct sks_x5u_visit *other = NULL;

    (void)state;
    told = 0;
    assert_int_equal(ask_in_visit(cache, "/missing.pem", eco.now, &visit), HSM_ERR_NOT_FOUND);
    wait_until_told(1);
    assert_int_equal(ask_in_visit(cache, "/1.pem", eco.now, &visit), HSM_ERR_NOT_FOUND);
    wait_until_told(2);
    assert_int_equal(get(cache, "/2.pem", eco.now), HSM_OK); /* evicts /1.pem */
    assert_int_equal(ask_in_visit(cache, "/missing.pem", eco.now + 60, &visit), HSM_ERR_BUSY);
    assert_int_equal(ask_in_visit(cache, "/1.pem", eco.now + 60, &visit), HSM_OK);
    wait_for_fetches(cache, 3);
    assert_int_equal(ask_in_visit(cache, "/missing.pem", eco.now + 60, &other), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask_in_visit(cache, "/1.pem", eco.now + 60, &other), HSM_ERR_NOT_FOUND);
    wait_until_told(4);
    wait_for_fetches(cache, 5);
    sks_x5u_visit_free(other);
    sks_x5u_visit_free(visit);
    sks_x5u_cache_free(cache);
}

static void
a_call_asks_for_so_many_chains_and_no_more(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct sks_x5u_visit *visit = NULL;
    char path[32];

    (void)state;
    told = 0;
    for (unsigned i = 0; i <= SKS_X5U_VISIT_MAX; i++) {
        snprintf(path, sizeof(path), "/%u.pem", i);
        assert_int_equal(ask_in_visit(cache, path, eco.now, &visit),
                         i < SKS_X5U_VISIT_MAX ? HSM_ERR_NOT_FOUND : HSM_ERR_BUSY);
    }
    wait_until_told(SKS_X5U_VISIT_MAX);
    sks_x5u_visit_free(visit);
    sks_x5u_cache_free(cache);
}

static void
so_many_calls_are_told_and_no_more(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;
    char url[256];

    (void)state;
    told = 0;
    is_gate_shut = true;
    for (unsigned i = 0; i < WAITERS; i++)
        assert_int_equal(ask(cache, "127.0.0.1", "/gate.pem", &chain), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask(cache, "127.0.0.1", "/gate.pem", &chain), HSM_ERR_BUSY);
    snprintf(url, sizeof(url), "%s/gate.pem", repository.base);
    /* Calls without a notification are not limited. */
    assert_int_equal(
        sks_x5u_ask(cache, url, eco.now, &(struct sks_x5u_wait){.landed = NULL}, &chain, NULL),
        HSM_ERR_NOT_FOUND);
    is_gate_shut = false;
    wait_until_told(WAITERS);
    assert_int_equal(get(cache, "/gate.pem", eco.now), HSM_OK);
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
}

/* The end of the chain also does not start a second fetch while one is under way. */
static void
a_preloaded_chain_is_preloaded_after_its_end_too(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct sks_x5u_visit *visit = NULL;
    char url[256];

    (void)state;
    snprintf(url, sizeof(url), "%s/short-gate.pem", repository.base);
    assert_int_equal(sks_x5u_preload(cache, url, NULL), HSM_OK);
    assert_int_equal(get(cache, "/short-gate.pem", eco.now), HSM_OK);
    is_down = true;
    assert_int_equal(get(cache, "/short-gate.pem", eco.now + 3601), HSM_ERR_BUSY);
    wait_for_fetches(cache, 2);
    is_down = false;
    is_gate_shut = true;
    sks_x5u_refresh(cache, eco.now + 3601 + SKS_X5U_NEGATIVE_S); /* not triggered by a call */
    told = 0;
    assert_int_equal(ask_in_visit(cache, "/short-gate.pem", eco.now + 4000, &visit),
                     HSM_ERR_NOT_FOUND);
    is_gate_shut = false;
    wait_until_told(1);
    sks_x5u_visit_free(visit);
    wait_for_fetches(cache, 3);
    for (unsigned i = 1; i <= SKS_X5U_PRELOADED_MAX; i++) { /* it still holds one of the places */
        snprintf(url, sizeof(url), "%s/%u.pem", repository.base, i);
        assert_int_equal(sks_x5u_preload(cache, url, NULL),
                         i < SKS_X5U_PRELOADED_MAX ? HSM_OK : HSM_ERR_USAGE);
    }
    sks_x5u_cache_free(cache);
}

/* The chain that a call waits for, after an earlier fetch of it failed. */
static void
what_is_waited_for_is_not_pushed_out(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;
    char url[256];

    (void)state;
    is_down = true;
    assert_int_equal(get(cache, "/gate.pem", eco.now - SKS_X5U_NEGATIVE_S), HSM_ERR_BUSY);
    is_down = false;
    is_gate_shut = true;
    told = 0;
    assert_int_equal(ask(cache, "127.0.0.1", "/gate.pem", &chain), HSM_ERR_NOT_FOUND);
    for (unsigned i = 0; i < FAILURES; i++) { /* these count as failed fetches */
        snprintf(url, sizeof(url), "%s/%u.pem", repository.base, i);
        assert_int_equal(sks_x5u_preload(cache, url, NULL), HSM_OK);
    }
    is_gate_shut = false;
    wait_until_told(1);
    assert_int_equal(ask(cache, "127.0.0.1", "/gate.pem", &chain), HSM_OK);
    assert_int_equal(fetches, 2);
    certs_chain_free(chain);
    sks_x5u_cache_free(cache);
}

/* This holds for any number of requests to it. When the cache is freed, waiting calls are
 * notified. */
static void
a_slow_repository_slows_no_other(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;
    char path[32];

    (void)state;
    told = 0;
    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "/slow-%u.pem", i);
        assert_int_equal(ask(cache, "localhost", path, &chain), HSM_ERR_NOT_FOUND);
    }
    assert_int_equal(get(cache, "/c.pem", eco.now), HSM_OK);
    assert_true(told < 16);
    sks_x5u_cache_free(cache);
    assert_int_equal(told, 40);
}

static void
one_repository_does_not_fill_the_queue(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;
    unsigned refused = 0;
    char path[32];

    (void)state;
    told = 0;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "/slow-%u.pem", i);
        refused += ask(cache, "localhost", path, &chain) == HSM_ERR_BUSY;
    }
    assert_true(refused > 50);
    assert_int_equal(get(cache, "/c.pem", eco.now), HSM_OK);
    sks_x5u_cache_free(cache);
    assert_int_equal(told, 200 - refused);
}

static void
vouch(struct sks_x5u_cache *cache, const char *path)
{
    char url[256];

    snprintf(url, sizeof(url), "%s%s", repository.base, path);
    sks_x5u_vouch(cache, url);
}

/* A caller can name any URL; chains that have verified a call stay in the cache. */
static void
strangers_do_not_push_out_chains_that_sign_calls(void **state)
{
    struct sks_x5u_cache *const caches[] = {small_cache(4, 0, 0),
                                            small_cache(0, 4 * strlen(sp_pem) + 1, 0)};
    char path[32];

    (void)state;
    for (size_t i = 0; i < COUNT(caches); i++) {
        struct sks_x5u_count count;

        fetches = 0;
        assert_int_equal(get(caches[i], "/1.pem", eco.now), HSM_OK);
        vouch(caches[i], "/1.pem");
        vouch(caches[i], "/2.pem"); /* also before it was fetched */
        assert_int_equal(get(caches[i], "/2.pem", eco.now), HSM_OK);
        for (unsigned stranger = 0; stranger < 8; stranger++) {
            snprintf(path, sizeof(path), "/stranger-%u.pem", stranger);
            assert_int_equal(get(caches[i], path, eco.now), HSM_OK);
        }
        wait_for_fetches(caches[i], 10);
        assert_int_equal(get(caches[i], "/1.pem", eco.now), HSM_OK);
        assert_int_equal(get(caches[i], "/2.pem", eco.now), HSM_OK);
        assert_int_equal(get(caches[i], path, eco.now), HSM_OK); /* the last stranger's chain */
        wait_for_fetches(caches[i], 10);
        sks_x5u_count(caches[i], &count);
        assert_int_equal(count.kept, 4);
        assert_int_equal(count.octets, 4 * strlen(sp_pem));
        sks_x5u_cache_free(caches[i]);
    }
}

/* Hosts that accept connections and never answer, as an attacker can have any number of them in one
 * domain: 127.0.0.2 and so on, with the port of the repository. */
static void
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

static void
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

/* Twelve of the tarpits are waited for. The calls for which no thread was free are notified before
 * any of the twelve times out. Returns false if they were not, as happens on a machine that is
 * seconds late. */
static bool
tarpits_leave_room(size_t count)
{
    struct sks_x5u_cache *cache = small_cache(0, 0, 400);
    struct certs_chain *chain = NULL;
    bool is_told_in_time;

    vouch(cache, "/before.pem");
    ask_tarpits(cache, count);
    assert_int_equal(get(cache, "/new.pem", eco.now), HSM_OK); /* waits 400 ms, not 4 s */
    usleep(450000);
    assert_int_equal(ask(cache, "127.0.0.1", "/then.pem", &chain), HSM_ERR_NOT_FOUND);
    for (unsigned i = 0; i < 10000 && told < 1 + count - 12; i++)
        usleep(1000);
    is_told_in_time = told == 1 + count - 12;
    sks_x5u_cache_free(cache);
    assert_int_equal(told, 1 + count);
    return is_told_in_time;
}

static void
hosts_without_number_leave_room_for_those_that_sign_calls(void **state)
{
    int sockets[24];
    bool leave_room = false;

    (void)state;
    open_tarpits(sockets, COUNT(sockets));
    for (unsigned i = 0; i < ATTEMPTS && !leave_room; i++)
        leave_room = tarpits_leave_room(COUNT(sockets));
    assert_true(leave_room);
    for (size_t i = 0; i < COUNT(sockets); i++)
        close(sockets[i]);
}

/* ---- chains on disk -------------------------------------------------------------------------- */

/* A separate directory for each test. */
static char kept_dir[4096];

static void
new_kept_dir(void)
{
    static unsigned number;

    snprintf(kept_dir, sizeof(kept_dir), "%s/chains-%u", softhsm_dir(), number++);
}

/* While true, writing to the directory of the chains fails with ENOSPC. */
static atomic_bool is_disk_full;
static atomic_uint refused; /* attempts to write a chain */

int
mkdir(const char *path, mode_t mode)
{
    if (is_disk_full && strcmp(path, kept_dir) == 0) {
        refused++;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static struct sks_x5u_cache *
cache_on_disk(size_t chains_max, unsigned queue_ms)
{
    const unsigned ports[] = {repository.port, 0};
    struct sks_x5u_cache *cache = NULL;

    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http,
                                                        .ports = ports,
                                                        .private_addresses = true,
                                                        .chains_max = chains_max,
                                                        .queue_ms = queue_ms,
                                                        .dir = kept_dir},
                               &cache),
             "cache");
    return cache;
}

/* Returns the number of kept chains and writes the path of one of them to `path`. */
static size_t
kept_files(char path[8192])
{
    DIR *dir = opendir(kept_dir);
    const struct dirent *entry;
    size_t count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || strchr(entry->d_name, '.') != NULL)
            continue; /* not a chain, or still being written */
        snprintf(path, 8192, "%s/%s", kept_dir, entry->d_name);
        count++;
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static void
wait_for_files(size_t count)
{
    char path[8192];

    for (unsigned i = 0; i < 5000 && kept_files(path) != count; i++)
        usleep(1000);
    assert_int_equal(kept_files(path), count);
}

/* Vouch for one chain in a cache and free that cache; from then on the repository is down. */
static void
leave_one_chain(const char *path)
{
    struct sks_x5u_cache *cache;

    new_kept_dir();
    cache = cache_on_disk(0, 0);
    fetches = 0;
    is_down = false;
    assert_int_equal(get(cache, path, eco.now), HSM_OK);
    assert_int_equal(get(cache, "/stranger.pem", eco.now), HSM_OK);
    vouch(cache, path);
    wait_for_files(1);
    sks_x5u_cache_free(cache);
    assert_int_equal(fetches, 2);
    is_down = true;
}

static void
who_comes_after_has_what_was_vouched_for(void **state)
{
    static const struct {
        time_t after;
        enum hsm_status wanted;
        unsigned fetches; /* a stale chain is fetched again */
    } times[] = {
        {0, HSM_OK, 0},
        {SKS_X5U_CACHE_S - 1, HSM_OK, 0},
        {SKS_X5U_CACHE_S, HSM_OK, 1},
        {SKS_X5U_CACHE_S + SKS_X5U_STALE_S - 1, HSM_OK, 1},
        {SKS_X5U_CACHE_S + SKS_X5U_STALE_S, HSM_ERR_BUSY, 1},
    };

    (void)state;
    leave_one_chain("/known.pem");
    for (size_t i = 0; i < COUNT(times); i++) {
        struct sks_x5u_cache *cache = cache_on_disk(0, 0);

        fetches = 0;
        assert_int_equal(get(cache, "/known.pem", eco.now + times[i].after), times[i].wanted);
        assert_int_equal(get(cache, "/known.pem", eco.now + times[i].after), times[i].wanted);
        wait_for_fetches(cache, times[i].fetches);
        assert_int_equal(get(cache, "/stranger.pem", eco.now), HSM_ERR_BUSY);
        sks_x5u_cache_free(cache);
    }
}

static void
a_kept_chain_ends_with_its_leaf(void **state)
{
    struct sks_x5u_cache *cache;

    (void)state;
    leave_one_chain("/short.pem");
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/short.pem", eco.now + 3601), HSM_ERR_BUSY);
    sks_x5u_cache_free(cache);
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/short.pem", eco.now + 3600), HSM_OK);
    sks_x5u_cache_free(cache);
}

/* Sweep repeatedly until `count` writes were refused or `files` files exist. */
static void
sweep_until(struct sks_x5u_cache *cache, time_t *now, unsigned count, size_t files)
{
    char path[8192];

    for (unsigned i = 0; i < 100 && refused < count && kept_files(path) < files; i++) {
        sks_x5u_refresh(cache, *now += 600);
        usleep(10000);
    }
}

/* Writing it later does not fetch it again. */
static void
a_chain_that_could_not_be_written_is_written_after_the_next_sweep(void **state)
{
    struct sks_x5u_cache *cache;
    time_t now = eco.now;

    (void)state;
    new_kept_dir();
    cache = cache_on_disk(0, 0);
    fetches = 0;
    refused = 0;
    is_down = false;
    is_disk_full = true;
    sks_x5u_refresh(cache, now);
    assert_int_equal(get(cache, "/known.pem", now), HSM_OK);
    vouch(cache, "/known.pem");
    for (unsigned i = 0; i < 5000 && refused == 0; i++)
        usleep(1000);
    assert_int_equal(refused, 1);
    sks_x5u_refresh(cache, now + 599);
    vouch(cache, "/known.pem");
    assert_int_equal(refused, 1);
    sweep_until(cache, &now, 2, 1);
    assert_true(refused >= 2);
    is_disk_full = false;
    sweep_until(cache, &now, 1000, 1);
    wait_for_files(1);
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
}

/* Whether the chain is served and fetched again because it is stale. */
static bool
is_stale(struct sks_x5u_cache *cache, const char *path, time_t now)
{
    struct sks_x5u_count before, after;

    sks_x5u_count(cache, &before);
    assert_int_equal(get(cache, path, now), HSM_OK);
    sks_x5u_count(cache, &after);
    return after.stale > before.stale;
}

static void
processes_beside_one_another_fetch_once(void **state)
{
    const time_t stale = eco.now + SKS_X5U_CACHE_S;
    struct sks_x5u_cache *one;
    struct sks_x5u_cache *other;
    struct stat before, now;
    char path[8192];

    (void)state;
    new_kept_dir();
    one = cache_on_disk(0, 0);
    other = cache_on_disk(0, 0);
    fetches = 0;
    is_down = false;
    assert_int_equal(get(one, "/known.pem", eco.now), HSM_OK);
    vouch(one, "/known.pem");
    wait_for_files(1);
    assert_int_equal(get(other, "/known.pem", eco.now), HSM_OK);
    assert_int_equal(fetches, 1);
    vouch(other, "/known.pem"); /* it was already vouched for */
    assert_int_equal(kept_files(path), 1);
    assert_int_equal(stat(path, &before), 0);
    now = before;
    assert_int_equal(get(one, "/known.pem", stale), HSM_OK);
    wait_for_fetches(one, 2);
    for (unsigned i = 0; i < 5000 && now.st_ino == before.st_ino; i++) { /* until it is on disk */
        usleep(1000);
        assert_int_equal(stat(path, &now), 0);
    }
    assert_true(now.st_ino != before.st_ino);
    fetches = 0;
    while (is_stale(other, "/known.pem", stale)) /* until it has read the new file */
        usleep(1000);
    assert_int_equal(fetches, 0);
    sks_x5u_cache_free(other);
    sks_x5u_cache_free(one);
}

static const struct {
    const char *from, *to; /* replaced in the file */
} forgeries[] = {
    {"{", ""},
    {"\"x5u\":\"https://", "\"x5u\":\"https://other."},
    {"\"x5u\"", "\"x5v\""},
    {"\"pem\"", "\"pen\""},
    {"BEGIN", "BEGUN"},
    {"\"freshUntil\":", "\"freshUntil\":9"},
    {"\"freshUntil\":", "\"freshUntil\":-"},
    {"\"freshUntil\":1", "\"freshUntil\":0"},
};

static void
overwrite(const char *path, const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *forged = malloc(strlen(text) + strlen(to) + 1);

    assert_non_null(at);
    snprintf(forged, strlen(text) + strlen(to) + 1, "%.*s%s%s", (int)(at - text), text, to,
             at + strlen(from));
    assert_int_equal(hsm_file_write(path, forged, strlen(forged), 0644), HSM_OK);
    free(forged);
}

static void
what_is_no_kept_chain_is_not_used(void **state)
{
    struct sks_x5u_cache *cache;
    char path[8192];
    uint8_t *text = NULL;
    size_t len;

    (void)state;
    leave_one_chain("/known.pem");
    assert_int_equal(kept_files(path), 1);
    assert_int_equal(hsm_file_read(path, 1048576, &text, &len), HSM_OK);
    for (size_t i = 0; i < COUNT(forgeries); i++) {
        print_message("%s\n", forgeries[i].to);
        overwrite(path, (const char *)text, forgeries[i].from, forgeries[i].to);
        cache = cache_on_disk(0, 0);
        assert_int_equal(get(cache, "/known.pem", eco.now), HSM_ERR_BUSY);
        sks_x5u_cache_free(cache);
    }
    overwrite(path, (const char *)text, "{", "{");
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/known.pem", eco.now), HSM_OK);
    sks_x5u_cache_free(cache);
    free(text);
}

/* The newest chains stay. An old partly written file is removed, and an unrelated directory
 * stays. */
static void
what_is_kept_has_the_bound_of_the_cache(void **state)
{
    const struct timespec long_ago[] = {{eco.now - 7200, 0}, {eco.now - 7200, 0}};
    struct sks_x5u_cache *cache;
    char remnant[8192], other[8192], path[32];

    (void)state;
    leave_one_chain("/known.pem");
    is_down = false;
    snprintf(remnant, sizeof(remnant), "%s/0123.ABCDEF", kept_dir);
    snprintf(other, sizeof(other), "%s/sub.dir", kept_dir);
    assert_int_equal(hsm_file_write(remnant, "{", 1, 0644), HSM_OK);
    assert_int_equal(utimensat(AT_FDCWD, remnant, long_ago, 0), 0);
    assert_int_equal(mkdir(other, 0755), 0);
    cache = cache_on_disk(3, 0);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(path, sizeof(path), "/%u.pem", i);
        assert_int_equal(get(cache, path, eco.now), HSM_OK);
        vouch(cache, path);
    }
    while (access(remnant, F_OK) == 0)
        usleep(1000);
    sks_x5u_refresh(cache, eco.now);
    wait_for_files(3);
    assert_int_equal(access(other, F_OK), 0);
    sks_x5u_cache_free(cache);
}

/* The host of a kept chain counts as known: room is left for it when strangers fill the queue. */
static void
who_comes_after_knows_hosts(void **state)
{
    struct sks_x5u_cache *cache;
    enum hsm_status st = HSM_ERR_BUSY;
    int sockets[24];
    char path[32];

    (void)state;
    leave_one_chain("/known.pem");
    is_down = false;
    cache = cache_on_disk(0, 100);
    sks_x5u_refresh(cache, eco.now);
    open_tarpits(sockets, COUNT(sockets));
    ask_tarpits(cache, COUNT(sockets));
    for (unsigned i = 0; i < 20 && st != HSM_OK; i++) { /* until the known host is loaded */
        snprintf(path, sizeof(path), "/new-%u.pem", i);
        st = get(cache, path, eco.now);
    }
    assert_int_equal(st, HSM_OK);
    for (size_t i = 0; i < COUNT(sockets); i++)
        close(sockets[i]);
    sks_x5u_cache_free(cache);
}

struct caller {
    pthread_t thread;
    struct sks_x5u_cache *cache;
    const char *path;
    enum hsm_status st;
};

static void *
call(void *context)
{
    struct caller *caller = context;

    caller->st = get(caller->cache, caller->path, eco.now);
    return NULL;
}

static void
call_at_once(struct sks_x5u_cache *cache, const char *const *paths, enum hsm_status wanted)
{
    struct caller callers[THREADS];

    for (size_t i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.cache = cache, .path = paths[i]};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].st, wanted);
    }
}

static void
many_calls_for_one_url_are_one_fetch(void **state)
{
    static const char *const same[THREADS] = {"/slow.pem", "/slow.pem", "/slow.pem",
                                              "/slow.pem", "/slow.pem", "/slow.pem"};
    struct sks_x5u_cache *cache = cache_new(true);

    (void)state;
    call_at_once(cache, same, HSM_OK);
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
    cache = cache_new(true);
    is_down = true;
    call_at_once(cache, same, HSM_ERR_BUSY);
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
}

static void
fetches_of_different_urls_do_not_wait_for_each_other(void **state)
{
    static const char *const different[THREADS] = {"/meet-1.pem", "/meet-2.pem", "/meet-3.pem",
                                                   "/meet-4.pem", "/meet-5.pem", "/meet-6.pem"};
    struct sks_x5u_cache *cache = cache_new(true);

    (void)state;
    met = 0;
    call_at_once(cache, different, HSM_OK);
    assert_int_equal(fetches, THREADS);
    assert_true(met > 0);
    sks_x5u_cache_free(cache);
}

/* Many URLs that fail do not evict the chains in use. */
static void
failures_do_not_push_out_chains(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    char path[32];

    (void)state;
    assert_int_equal(get(cache, "/c.pem", eco.now), HSM_OK);
    for (unsigned i = 0; i <= FAILURES; i++) {
        snprintf(path, sizeof(path), "/missing-%u.pem", i);
        assert_int_equal(get(cache, path, eco.now), HSM_ERR_BUSY);
    }
    fetches = 0;
    assert_int_equal(get(cache, "/c.pem", eco.now), HSM_OK);
    assert_int_equal(get(cache, path, eco.now), HSM_ERR_BUSY);
    assert_int_equal(fetches, 0);
    assert_int_equal(get(cache, "/missing-0.pem", eco.now), HSM_ERR_BUSY); /* evicted */
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_keeps_the_rules_or_is_refused),
        cmocka_unit_test(a_host_has_a_bound),
        cmocka_unit_test(a_url_has_a_bound),
        cmocka_unit_test(a_port_must_be_allowed),
        cmocka_unit_test(special_addresses_are_not_connected_to),
        cmocka_unit_test(an_open_connection_does_not_lead_to_a_special_address),
        cmocka_unit_test(what_a_bad_repository_says_is_no_chain),
        cmocka_unit_test(a_failed_fetch_is_not_repeated_at_once),
        cmocka_unit_test(a_chain_is_fresh_then_stale_then_gone),
        cmocka_unit_test(a_stale_chain_is_replaced_while_it_is_used),
        cmocka_unit_test(what_has_not_changed_is_not_sent_again),
        cmocka_unit_test(a_chain_that_no_call_names_is_forgotten),
        cmocka_unit_test(failures_are_repeated_later_and_later_within_a_bound),
        cmocka_unit_test(a_clock_that_is_set_back_delays_no_fetch),
        cmocka_unit_test(a_preloaded_chain_is_fetched_after_the_clock_was_set_back),
        cmocka_unit_test(the_chain_that_was_not_used_for_longest_goes_first),
        cmocka_unit_test(chains_can_be_there_before_anybody_asks),
        cmocka_unit_test(who_does_not_wait_is_told),
        cmocka_unit_test(a_leaf_that_has_ended_is_not_asked_for_again_at_once),
        cmocka_unit_test(a_call_takes_what_was_fetched_for_it_and_asks_no_more),
        cmocka_unit_test(a_call_asks_for_so_many_chains_and_no_more),
        cmocka_unit_test(so_many_calls_are_told_and_no_more),
        cmocka_unit_test(a_preloaded_chain_is_preloaded_after_its_end_too),
        cmocka_unit_test(what_is_waited_for_is_not_pushed_out),
        cmocka_unit_test(a_slow_repository_slows_no_other),
        cmocka_unit_test(one_repository_does_not_fill_the_queue),
        cmocka_unit_test(strangers_do_not_push_out_chains_that_sign_calls),
        cmocka_unit_test(hosts_without_number_leave_room_for_those_that_sign_calls),
        cmocka_unit_test(who_comes_after_has_what_was_vouched_for),
        cmocka_unit_test(a_kept_chain_ends_with_its_leaf),
        cmocka_unit_test(a_chain_that_could_not_be_written_is_written_after_the_next_sweep),
        cmocka_unit_test(processes_beside_one_another_fetch_once),
        cmocka_unit_test(what_is_no_kept_chain_is_not_used),
        cmocka_unit_test(what_is_kept_has_the_bound_of_the_cache),
        cmocka_unit_test(who_comes_after_knows_hosts),
        cmocka_unit_test(many_calls_for_one_url_are_one_fetch),
        cmocka_unit_test(failures_do_not_push_out_chains),
        cmocka_unit_test(fetches_of_different_urls_do_not_wait_for_each_other),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
