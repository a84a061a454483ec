/*
 * test_store_together.c - mirrors acme/src/store_together.c: run for each kind of store.
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_fixture.h"

#define THREADS 8
#define ROUNDS  30

static const char *const migrations[] = {
    "CREATE TABLE item(id {id}, name TEXT UNIQUE NOT NULL);"
    "CREATE TABLE counter(value {int} NOT NULL); INSERT INTO counter VALUES(0)",
    NULL,
};

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

static int64_t
number(struct acme_store *store, const char *sql, const char *value)
{
    struct acme_rows *rows = NULL;
    int64_t found;

    assert_int_equal(acme_store_query(store, &rows, sql, value != NULL ? "s" : "", value), HSM_OK);
    assert_true(acme_rows_next(rows));
    found = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return found;
}

static bool
has(struct acme_store *store, const char *name)
{
    return number(store, "SELECT count(*) FROM item WHERE name = ?", name) == 1;
}

/* ---- work items ---- */

/* A work item that adds a row. */
struct adding {
    struct acme_store_work work;
    const char *name;
    int runs;
};

static enum hsm_status
add(struct acme_store *store, void *context)
{
    struct adding *adding = context;

    adding->runs++;
    return acme_store_run(store, NULL, "INSERT INTO item(name) VALUES(?)", "s", adding->name);
}

static void
ask(struct acme_store *store, struct adding *adding, const char *name)
{
    *adding = (struct adding){.work = {.run = add, .context = adding}, .name = name};
    acme_store_ask(store, &adding->work);
}

/* A transaction of another thread that lasts until it is released. */
struct holding {
    struct acme_store *store;
    pthread_t thread;
    sem_t began, go;
    bool has_begun;
    enum hsm_status status;
};

static enum hsm_status
stay(struct acme_store *store, void *context)
{
    struct holding *holding = context;

    if (!holding->has_begun) { /* it may be run twice */
        holding->has_begun = true;
        sem_post(&holding->began);
        while (sem_wait(&holding->go) != 0)
            continue;
    }
    return acme_store_run(store, NULL, "INSERT INTO item(name) VALUES('held')", "");
}

static void *
hold(void *context)
{
    struct holding *holding = context;

    holding->status = acme_store_together(holding->store, stay, holding);
    return NULL;
}

static void
begin_to_hold(struct acme_store *store, struct holding *holding)
{
    *holding = (struct holding){.store = store};
    sem_init(&holding->began, 0, 0);
    sem_init(&holding->go, 0, 0);
    assert_int_equal(pthread_create(&holding->thread, NULL, hold, holding), 0);
    while (sem_wait(&holding->began) != 0)
        continue;
}

static void
let_go(struct holding *holding)
{
    sem_post(&holding->go);
    assert_int_equal(pthread_join(holding->thread, NULL), 0);
    assert_int_equal(holding->status, HSM_OK);
    sem_destroy(&holding->began);
    sem_destroy(&holding->go);
}

/* ---- the tests ---- */

static void
what_is_asked_during_a_transaction_goes_along_with_the_next(void **state)
{
    struct holding holding;
    struct adding one, two;

    begin_to_hold(*state, &holding);
    ask(*state, &one, "one");
    ask(*state, &two, "two");
    let_go(&holding);
    assert_true(has(*state, "held"));
    assert_int_equal(one.runs + two.runs, 0); /* no one waits for them yet */
    assert_int_equal(acme_store_wait(*state, &one.work), HSM_OK);
    assert_int_equal(two.runs, 1);
    assert_true(has(*state, "one") && has(*state, "two"));
    assert_int_equal(acme_store_wait(*state, &two.work), HSM_OK);
    assert_int_equal(two.runs, 1);
}

static void
a_work_that_fails_is_undone_alone(void **state)
{
    struct adding first, taken, after;

    ask(*state, &first, "same");
    ask(*state, &taken, "same");
    ask(*state, &after, "after");
    assert_int_equal(acme_store_wait(*state, &first.work), HSM_OK);
    assert_int_equal(acme_store_wait(*state, &taken.work), HSM_ERR_EXISTS);
    assert_int_equal(acme_store_wait(*state, &after.work), HSM_OK);
    assert_int_equal(first.runs, 2); /* after a failure, each is run separately */
    assert_int_equal(taken.runs, 2);
    assert_int_equal(after.runs, 1);
    assert_true(has(*state, "same") && has(*state, "after"));
}

/* Another process that tries to write when one of our work items fails. */
struct intruder {
    pthread_t thread;
    struct acme_store *store;
    sem_t comes;
    enum hsm_status status;
    bool has_come;
};

static void *
intrude(void *context)
{
    struct intruder *intruder = context;

    sem_post(&intruder->comes);
    intruder->status =
        acme_store_run(intruder->store, NULL, "INSERT INTO item(name) VALUES('z')", "");
    return NULL;
}

/* Fails after it has written a row. */
static enum hsm_status
fail_while_another_comes(struct acme_store *store, void *context)
{
    struct intruder *intruder = context;
    enum hsm_status st = acme_store_run(store, NULL, "INSERT INTO item(name) VALUES('failed')", "");

    assert_int_equal(st, HSM_OK);
    if (!intruder->has_come) {
        intruder->has_come = true;
        assert_int_equal(pthread_create(&intruder->thread, NULL, intrude, intruder), 0);
        while (sem_wait(&intruder->comes) != 0)
            continue;
        usleep(50000); /* it waits for the lock now */
    }
    return HSM_ERR_DENIED;
}

static void
a_work_that_fails_gives_no_other_process_a_turn(void **state)
{
    struct intruder intruder = {.status = HSM_OK};
    struct acme_store_work failing = {.run = fail_while_another_comes, .context = &intruder};
    struct adding before, after;

    sem_init(&intruder.comes, 0, 0);
    assert_int_equal(acme_store_open(path, migrations, &intruder.store), HSM_OK);
    ask(*state, &before, "before");
    acme_store_ask(*state, &failing);
    ask(*state, &after, "z");
    assert_int_equal(acme_store_wait(*state, &before.work), HSM_OK);
    assert_int_equal(acme_store_wait(*state, &failing), HSM_ERR_DENIED);
    assert_int_equal(acme_store_wait(*state, &after.work), HSM_OK);
    assert_int_equal(pthread_join(intruder.thread, NULL), 0);
    assert_int_equal(intruder.status, HSM_ERR_EXISTS);
    assert_true(has(*state, "before") && has(*state, "z"));
    assert_false(has(*state, "failed"));
    acme_store_close(intruder.store);
    sem_destroy(&intruder.comes);
}

static void
however_many_fail_each_is_run_twice_at_most(void **state)
{
    struct adding works[40];

    assert_int_equal(acme_store_run(*state, NULL, "INSERT INTO item(name) VALUES('same')", ""),
                     HSM_OK);
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
        ask(*state, &works[i], "same");
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
        assert_int_equal(acme_store_wait(*state, &works[i].work), HSM_ERR_EXISTS);
        assert_true(works[i].runs <= 2);
    }
}

static void
the_work_that_leads_may_fail_as_well(void **state)
{
    struct adding taken, after;

    ask(*state, &after, "same");
    assert_int_equal(acme_store_wait(*state, &after.work), HSM_OK);
    ask(*state, &taken, "same");
    ask(*state, &after, "after");
    assert_int_equal(acme_store_wait(*state, &taken.work), HSM_ERR_EXISTS);
    assert_int_equal(acme_store_wait(*state, &after.work), HSM_OK);
    assert_true(has(*state, "after"));
}

/* A thread may do something slow between submitting a work item and waiting for it. */
static void
who_has_asked_and_does_not_wait_keeps_nobody_waiting(void **state)
{
    struct holding holding, another;
    struct adding asked;

    begin_to_hold(*state, &holding);
    ask(*state, &asked, "asked");
    let_go(&holding);
    begin_to_hold(*state, &another);
    sem_post(&another.go);
    assert_int_equal(pthread_join(another.thread, NULL), 0);
    assert_int_equal(another.status, HSM_ERR_EXISTS); /* "held" exists */
    assert_int_equal(acme_store_wait(*state, &asked.work), HSM_OK);
    assert_true(has(*state, "asked"));
    sem_destroy(&another.began);
    sem_destroy(&another.go);
}

static void
works_and_transactions_of_ones_own_wait_for_each_other(void **state)
{
    struct adding adding;

    assert_int_equal(acme_store_begin(*state), HSM_OK);
    ask(*state, &adding, "late");
    assert_int_equal(acme_store_wait(*state, &adding.work), HSM_ERR_USAGE); /* inside one */
    assert_int_equal(adding.runs, 0);
    assert_int_equal(acme_store_commit(*state), HSM_OK);
    assert_false(has(*state, "late"));
    ask(*state, &adding, "late");
    assert_int_equal(acme_store_wait(*state, &adding.work), HSM_OK);
    assert_true(has(*state, "late"));
}

/* The value read in a work item is the one it changes. Every tenth item fails. */
static enum hsm_status
count_up(struct acme_store *store, void *context)
{
    const int *round = context;
    struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows, "SELECT value FROM counter", "");

    if (st == HSM_OK && acme_rows_next(rows))
        st = acme_store_run(store, NULL, "UPDATE counter SET value = ?", "i",
                            acme_rows_int(rows, 0) + 1);
    acme_rows_free(rows);
    return st == HSM_OK && *round % 10 == 0 ? HSM_ERR_DENIED : st;
}

static void *
count_often(void *context)
{
    intptr_t failures = 0;

    for (int i = 0; i < ROUNDS; i++) {
        enum hsm_status wanted = i % 10 == 0 ? HSM_ERR_DENIED : HSM_OK;

        failures += acme_store_together(context, count_up, &i) != wanted;
    }
    return (void *)failures;
}

static void
of_many_threads_each_work_is_done_once_or_not_at_all(void **state)
{
    pthread_t threads[THREADS];
    void *failures = NULL;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_often, *state), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_null(failures);
    }
    assert_int_equal(number(*state, "SELECT value FROM counter", NULL),
                     THREADS * (ROUNDS - ROUNDS / 10));
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPENED(what_is_asked_during_a_transaction_goes_along_with_the_next),
        OPENED(a_work_that_fails_is_undone_alone),
        OPENED(a_work_that_fails_gives_no_other_process_a_turn),
        OPENED(however_many_fail_each_is_run_twice_at_most),
        OPENED(the_work_that_leads_may_fail_as_well),
        OPENED(who_has_asked_and_does_not_wait_keeps_nobody_waiting),
        OPENED(works_and_transactions_of_ones_own_wait_for_each_other),
        OPENED(of_many_threads_each_work_is_done_once_or_not_at_all),
    };
    int failed = cmocka_run_group_tests_name("SQLite", tests, set_up_group, tear_down_group);

    if (!postgres_start()) {
        printf("PostgreSQL is not installed: its tests are skipped\n");
        return failed;
    }
    return failed + cmocka_run_group_tests_name("PostgreSQL", tests, set_up_postgres, NULL);
}
