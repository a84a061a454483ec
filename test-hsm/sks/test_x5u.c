/* test_x5u.c - mirrors sks/src/x5u.c, against a repository on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <acme/http_server.h>
#include <sks/x5u.h>

#include "x5u_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define WAITERS         16384 /* calls that can wait for one fetch */
#define STRANGE_WAITERS (ACME_HTTP_PARKED_MAX / 4 * 3) /* if no call of its host was good yet */

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
    vouch(cache, "/before.pem");
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

/* The repository is a known host by its address, and a stranger by its name. */
static void
strangers_leave_room_for_calls_of_known_hosts(void **state)
{
    struct sks_x5u_cache *cache = cache_new(true);
    struct certs_chain *chain = NULL;

    (void)state;
    vouch(cache, "/before.pem");
    told = 0;
    is_gate_shut = true;
    for (unsigned i = 0; i < STRANGE_WAITERS; i++)
        assert_int_equal(ask(cache, "localhost", "/gate.pem", &chain), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask(cache, "localhost", "/gate.pem", &chain), HSM_ERR_BUSY);
    assert_int_equal(ask(cache, "localhost", "/2.pem", &chain), HSM_ERR_BUSY);
    assert_int_equal(ask(cache, "127.0.0.1", "/gate.pem", &chain), HSM_ERR_NOT_FOUND);
    is_gate_shut = false;
    wait_until_told(STRANGE_WAITERS + 1);
    assert_int_equal(ask(cache, "localhost", "/3.pem", &chain), HSM_ERR_NOT_FOUND);
    wait_until_told(STRANGE_WAITERS + 2);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_fresh_then_stale_then_gone),
        cmocka_unit_test(a_stale_chain_is_replaced_while_it_is_used),
        cmocka_unit_test(what_has_not_changed_is_not_sent_again),
        cmocka_unit_test(failures_are_repeated_later_and_later_within_a_bound),
        cmocka_unit_test(a_clock_that_is_set_back_delays_no_fetch),
        cmocka_unit_test(a_preloaded_chain_is_fetched_after_the_clock_was_set_back),
        cmocka_unit_test(chains_can_be_there_before_anybody_asks),
        cmocka_unit_test(who_does_not_wait_is_told),
        cmocka_unit_test(a_leaf_that_has_ended_is_not_asked_for_again_at_once),
        cmocka_unit_test(a_call_takes_what_was_fetched_for_it_and_asks_no_more),
        cmocka_unit_test(a_call_asks_for_so_many_chains_and_no_more),
        cmocka_unit_test(so_many_calls_are_told_and_no_more),
        cmocka_unit_test(strangers_leave_room_for_calls_of_known_hosts),
        cmocka_unit_test(a_preloaded_chain_is_preloaded_after_its_end_too),
    };

    return cmocka_run_group_tests(tests, x5u_group_start, x5u_group_stop);
}
