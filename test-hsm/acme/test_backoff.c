/* test_backoff.c - mirrors acme/src/backoff.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <acme/backoff.h>

static void
waits_double_up_to_the_longest_and_begin_anew(void **state)
{
    struct acme_backoff backoff = {.first_ms = 1000, .longest_ms = 5000};
    static const unsigned most[] = {1000, 2000, 4000, 5000, 5000};

    (void)state;
    for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++)
        assert_in_range(acme_backoff_next(&backoff, -1), most[i] / 2, most[i]);
    acme_backoff_reset(&backoff);
    assert_in_range(acme_backoff_next(&backoff, -1), 500, 1000);
}

static void
what_the_peer_asks_for_is_kept(void **state)
{
    struct acme_backoff backoff = {.first_ms = 1000, .longest_ms = 5000};

    (void)state;
    assert_in_range(acme_backoff_next(&backoff, 20000), 20000, 22000);
    assert_int_equal(acme_backoff_next(&backoff, 0), 0);
    assert_in_range(acme_backoff_next(&backoff, 1L << 40), 1 << 29, INT32_MAX);
}

static void
not_all_wait_alike(void **state)
{
    unsigned first = acme_backoff_random(1000000);
    unsigned same = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        unsigned number = acme_backoff_random(1000000);

        assert_true(number < 1000000);
        same += number == first;
    }
    assert_true(same < 50);
    assert_int_equal(acme_backoff_random(0), 0);
    assert_int_equal(acme_backoff_random(1), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_up_to_the_longest_and_begin_anew),
        cmocka_unit_test(what_the_peer_asks_for_is_kept),
        cmocka_unit_test(not_all_wait_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
