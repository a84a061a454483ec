/* test_limit.c - mirrors acme/src/limit.c, for each kind of store, and acme/src/limit_here.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "limit_internal.h"

#include "store_fixture.h"

#define NOW       1800000000
#define PROCESSES 4
#define TRIES     20 /* per process */
#define TIMES     30

static const char *const migrations[] = {
    "CREATE TABLE rate (subject TEXT PRIMARY KEY, used_until {int} NOT NULL)",
    NULL,
};
static const struct acme_limit limit = {"things", TIMES, 600};

static int
set_up(void **state)
{
    struct acme_store *store = NULL;

    if (acme_store_open(path, migrations, &store) != HSM_OK)
        return -1;
    *state = store;
    return 0;
}

static int
tear_down(void **state)
{
    acme_store_close(*state);
    remove_files();
    return 0;
}

/* Seconds to wait; 0: there was room. */
static time_t
take(struct acme_store *store, const struct acme_limit *of, const char *whom, time_t now)
{
    time_t wait_s = -1;

    assert_int_equal(acme_limit_take_one(store, of, whom, now, &wait_s), HSM_OK);
    return wait_s;
}

static void
all_at_once_and_then_one_after_the_other(void **state)
{
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(take(*state, &limit, "a", NOW), 0);
    assert_int_equal(take(*state, &limit, "a", NOW), 600 / TIMES);
    assert_int_equal(take(*state, &limit, "b", NOW), 0); /* another subject */
    assert_int_equal(take(*state, &limit, "a", NOW + 600 / TIMES - 1), 1);
    assert_int_equal(take(*state, &limit, "a", NOW + 600 / TIMES), 0);
    assert_int_equal(take(*state, &limit, "a", NOW + 600 / TIMES), 600 / TIMES);
    assert_int_equal(take(*state, &limit, "a", NOW - 100000), 0); /* the clock was ahead */
}

static bool
is_used_up(struct acme_store *store, time_t now)
{
    bool used_up = false;

    assert_int_equal(acme_limit_is_used_up(store, &limit, "a", now, &used_up), HSM_OK);
    return used_up;
}

static void
whether_a_limit_is_used_up_is_told_without_counting(void **state)
{
    for (int i = 0; i < TIMES; i++) {
        assert_false(is_used_up(*state, NOW));
        assert_int_equal(take(*state, &limit, "a", NOW), 0);
    }
    assert_true(is_used_up(*state, NOW));
    assert_true(is_used_up(*state, NOW + 600 / TIMES - 1));
    assert_false(is_used_up(*state, NOW + 600 / TIMES));
    assert_false(is_used_up(*state, NOW - 100000)); /* the clock was ahead */
    assert_int_equal(take(*state, &limit, "a", NOW + 600 / TIMES), 0);
}

/* ---- within one process ---- */

static void
a_process_counts_for_itself(void **state)
{
    struct acme_limit_here *here = NULL;
    char whom[] = "b0";
    int with_room = 0;

    (void)state;
    assert_int_equal(acme_limit_here_new(&limit, &here), HSM_OK);
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(acme_limit_here_take(here, "a", NOW), 0);
    assert_int_equal(acme_limit_here_take(here, "a", NOW), 600 / TIMES);
    for (; whom[1] <= '9'; whom[1]++) /* some share the slot of "a", but not all */
        with_room += acme_limit_here_take(here, whom, NOW) == 0;
    assert_true(with_room > 0);
    assert_int_equal(acme_limit_here_take(here, "a", NOW + 600 / TIMES - 1), 1);
    assert_int_equal(acme_limit_here_take(here, "a", NOW + 600 / TIMES), 0);
    assert_int_equal(acme_limit_here_take(here, "a", NOW + 600 / TIMES), 600 / TIMES);
    assert_int_equal(acme_limit_here_take(here, "a", NOW - 100000), 0); /* the clock was ahead */
    acme_limit_here_free(here);
}

static atomic_int taken;

static void *
take_here(void *here)
{
    for (int i = 0; i < TRIES; i++)
        atomic_fetch_add(&taken, acme_limit_here_take(here, "all", NOW) == 0);
    return NULL;
}

static void
threads_share_a_limit_of_their_process(void **state)
{
    struct acme_limit_here *here = NULL;
    pthread_t threads[PROCESSES];

    (void)state;
    atomic_store(&taken, 0);
    assert_int_equal(acme_limit_here_new(&limit, &here), HSM_OK);
    for (size_t i = 0; i < PROCESSES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_here, here), 0);
    for (size_t i = 0; i < PROCESSES; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&taken), TIMES);
    acme_limit_here_free(here);
}

static void
no_limit_counts_nothing(void **state)
{
    const struct acme_limit none = {"things", 0, 600};
    struct acme_rows *rows = NULL;

    assert_int_equal(take(*state, &none, "a", NOW), 0);
    assert_int_equal(acme_limit_give_back(*state, &none, "a"), HSM_OK);
    assert_int_equal(acme_store_query(*state, &rows, "SELECT subject FROM rate", ""), HSM_OK);
    assert_int_equal(acme_rows_count(rows), 0);
    acme_rows_free(rows);
}

static void
what_was_given_back_can_be_taken_again(void **state)
{
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(take(*state, &limit, "a", NOW), 0);
    assert_int_equal(acme_limit_give_back(*state, &limit, "a"), HSM_OK);
    assert_int_equal(take(*state, &limit, "a", NOW), 0);
    assert_int_not_equal(take(*state, &limit, "a", NOW), 0);
    assert_int_equal(acme_limit_give_back(*state, &limit, "nobody"), HSM_OK);
}

static void
who_has_everything_left_is_forgotten(void **state)
{
    struct acme_rows *rows = NULL;
    int64_t count = 0;

    assert_int_equal(take(*state, &limit, "a", NOW), 0);
    assert_int_equal(take(*state, &limit, "a2", NOW), 0);
    assert_int_equal(take(*state, &limit, "b", NOW + 10), 0);
    assert_int_equal(acme_limit_expire(*state, NOW + 25, 1, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_int_equal(acme_limit_expire(*state, NOW + 25, 9, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_int_equal(acme_store_query(*state, &rows, "SELECT subject FROM rate", ""), HSM_OK);
    assert_int_equal(acme_rows_count(rows), 1);
    assert_true(acme_rows_next(rows));
    assert_string_equal(acme_rows_text(rows, 0), "things b");
    acme_rows_free(rows);
}

/* In a separate process: returns how often there was room. */
static int
take_often(void)
{
    struct acme_store *store = NULL;
    int room = 0;

    if (acme_store_open(path, migrations, &store) != HSM_OK)
        return -1;
    for (int i = 0; i < TRIES; i++) {
        time_t wait_s = 0;

        if (acme_limit_take_one(store, &limit, "all", NOW, &wait_s) != HSM_OK)
            return -1;
        room += wait_s == 0;
    }
    acme_store_close(store);
    return room;
}

static void
processes_share_a_limit(void **state)
{
    pid_t children[PROCESSES];
    int room = 0;

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(take_often());
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_in_range(WEXITSTATUS(status), 0, TRIES);
        room += WEXITSTATUS(status);
    }
    assert_int_equal(room, TIMES);
    remove_files();
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPENED(all_at_once_and_then_one_after_the_other),
        OPENED(whether_a_limit_is_used_up_is_told_without_counting),
        cmocka_unit_test(a_process_counts_for_itself),
        cmocka_unit_test(threads_share_a_limit_of_their_process),
        OPENED(no_limit_counts_nothing),
        OPENED(what_was_given_back_can_be_taken_again),
        OPENED(who_has_everything_left_is_forgotten),
        cmocka_unit_test(processes_share_a_limit),
    };
    int failed = cmocka_run_group_tests(tests, set_up_group, tear_down_group);

    if (postgres_start())
        return failed + cmocka_run_group_tests(tests, set_up_postgres, NULL);
    printf("PostgreSQL is not installed: its tests are skipped\n");
    return failed;
}
