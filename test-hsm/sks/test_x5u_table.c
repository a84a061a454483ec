/* test_x5u_table.c - mirrors sks/src/x5u_table.c: which chains go first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sks/x5u.h>

#include "x5u_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FAILURES 1000 /* failed fetches that the cache remembers */

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
        cmocka_unit_test(a_chain_that_no_call_names_is_forgotten),
        cmocka_unit_test(the_chain_that_was_not_used_for_longest_goes_first),
        cmocka_unit_test(what_is_waited_for_is_not_pushed_out),
        cmocka_unit_test(strangers_do_not_push_out_chains_that_sign_calls),
        cmocka_unit_test(failures_do_not_push_out_chains),
    };

    return cmocka_run_group_tests(tests, x5u_group_start, x5u_group_stop);
}
