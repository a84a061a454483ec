/* test_x5u_url.c - mirrors sks/src/x5u_url.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sks/x5u.h>

#include "x5u_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_keeps_the_rules_or_is_refused),
        cmocka_unit_test(a_host_has_a_bound),
        cmocka_unit_test(a_url_has_a_bound),
        cmocka_unit_test(a_port_must_be_allowed),
    };

    return cmocka_run_group_tests(tests, x5u_group_start, x5u_group_stop);
}
