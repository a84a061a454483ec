/* test_x5u_fetch.c - mirrors sks/src/x5u_fetch.c: addresses, answers, and how many fetches there
 * are at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>

#include <sks/x5u.h>

#include "x5u_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define THREADS 6

#define ATTEMPTS 5 /* attempts of a test that a slow machine may fail */

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_addresses_are_not_connected_to),
        cmocka_unit_test(an_open_connection_does_not_lead_to_a_special_address),
        cmocka_unit_test(what_a_bad_repository_says_is_no_chain),
        cmocka_unit_test(a_failed_fetch_is_not_repeated_at_once),
        cmocka_unit_test(a_slow_repository_slows_no_other),
        cmocka_unit_test(one_repository_does_not_fill_the_queue),
        cmocka_unit_test(hosts_without_number_leave_room_for_those_that_sign_calls),
        cmocka_unit_test(many_calls_for_one_url_are_one_fetch),
        cmocka_unit_test(fetches_of_different_urls_do_not_wait_for_each_other),
    };

    return cmocka_run_group_tests(tests, x5u_group_start, x5u_group_stop);
}
