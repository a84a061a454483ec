/* test_store.c - mirrors acme/src/store.c. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <sys/wait.h>

#include <acme/store.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define THREADS      8
#define ROUNDS       50

static const char *const migrations[] = {
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, octets BLOB)",
    "CREATE TABLE counter(value INTEGER NOT NULL); INSERT INTO counter VALUES(0)",
    "ALTER TABLE item ADD COLUMN more TEXT; "
    "CREATE TABLE part(item INTEGER NOT NULL REFERENCES item(id))",
    NULL,
};

static char directory[] = "/tmp/sti-store.XXXXXX";
static char path[64];

static void
remove_files(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[80];

    for (size_t i = 0; i < COUNT(ends); i++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
}

static int
set_up_group(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/s.db", directory);
    return 0;
}

static int
tear_down_group(void **state)
{
    (void)state;
    return rmdir(directory);
}

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
number(struct acme_store *store, const char *sql)
{
    struct acme_rows *rows = NULL;
    int64_t value;

    assert_int_equal(acme_store_query(store, &rows, sql, ""), HSM_OK);
    assert_true(acme_rows_next(rows));
    value = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return value;
}

static enum hsm_status
add(struct acme_store *store, const char *name)
{
    return acme_store_run(store, NULL, "INSERT INTO item(name) VALUES(?)", "s", name);
}

static void
commits_reach_the_disk_before_they_return(void **state)
{
    struct acme_rows *rows = NULL;

    assert_int_equal(number(*state, "PRAGMA synchronous"), 2); /* FULL */
    assert_int_equal(number(*state, "PRAGMA foreign_keys"), 1);
    assert_int_equal(acme_store_query(*state, &rows, "PRAGMA journal_mode", ""), HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_string_equal(acme_rows_text(rows, 0), "wal");
    acme_rows_free(rows);
}

static void
the_files_are_for_the_owner_alone(void **state)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[80];
    struct stat about;

    assert_int_equal(add(*state, "a"), HSM_OK);
    for (size_t i = 0; i < COUNT(ends); i++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        assert_int_equal(stat(name, &about), 0);
        assert_int_equal(about.st_mode & 0777, 0600);
    }
}

static void
values_come_back_as_they_were_bound(void **state)
{
    const uint8_t octets[] = {0, 1, 0xff, 0};
    struct acme_rows *rows = NULL;
    int64_t changes = -1;
    size_t len = 99;

    assert_int_equal(acme_store_run(*state, &changes,
                                    "INSERT INTO item(id,name,octets,more) VALUES(?,?,?,?)", "isbs",
                                    INT64_MIN, "\xc3\xbc \"'", octets, sizeof(octets), NULL),
                     HSM_OK);
    assert_int_equal(changes, 1);
    assert_int_equal(acme_store_run(*state, NULL, "INSERT INTO item(id,name,octets) VALUES(?,?,?)",
                                    "isb", INT64_MAX, "", "", (size_t)0),
                     HSM_OK);
    assert_int_equal(
        acme_store_query(*state, &rows, "SELECT id,name,octets,more FROM item ORDER BY id", ""),
        HSM_OK);
    assert_int_equal(acme_rows_count(rows), 2);
    assert_null(acme_rows_text(rows, 1)); /* before the first row */
    assert_true(acme_rows_next(rows));
    assert_true(acme_rows_int(rows, 0) == INT64_MIN);
    assert_string_equal(acme_rows_text(rows, 1), "\xc3\xbc \"'");
    assert_memory_equal(acme_rows_blob(rows, 2, &len), octets, sizeof(octets));
    assert_int_equal(len, sizeof(octets));
    assert_null(acme_rows_text(rows, 3));
    assert_null(acme_rows_text(rows, 4)); /* no such column */
    assert_true(acme_rows_next(rows));
    assert_true(acme_rows_int(rows, 0) == INT64_MAX);
    assert_string_equal(acme_rows_text(rows, 1), "");
    assert_non_null(acme_rows_blob(rows, 2, &len));
    assert_int_equal(len, 0);
    assert_false(acme_rows_next(rows));
    assert_false(acme_rows_next(rows));
    assert_int_equal(acme_rows_int(rows, 0), 0); /* after the last row */
    acme_rows_free(rows);
}

static void
a_name_that_is_taken_exists(void **state)
{
    assert_int_equal(add(*state, "a"), HSM_OK);
    assert_int_equal(add(*state, "a"), HSM_ERR_EXISTS);
    assert_int_equal(acme_store_run(*state, NULL, "INSERT INTO item(id,name) VALUES(1,'b')", ""),
                     HSM_ERR_EXISTS);
    assert_int_equal(add(*state, NULL), HSM_ERR_USAGE); /* NOT NULL */
    assert_int_equal(acme_store_run(*state, NULL, "INSERT INTO part VALUES(99)", ""),
                     HSM_ERR_USAGE); /* REFERENCES */
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 1);
}

static void
calls_that_do_not_fit_their_statement_are_refused(void **state)
{
    static const char many[] = "INSERT INTO item(name) VALUES('x'); DELETE FROM counter";
    struct acme_rows *rows = NULL;

    assert_int_equal(acme_store_run(*state, NULL, "DELETE FROM item WHERE id=?", ""),
                     HSM_ERR_USAGE);
    assert_int_equal(acme_store_run(*state, NULL, "DELETE FROM item", "i", (int64_t)1),
                     HSM_ERR_USAGE);
    assert_int_equal(acme_store_run(*state, NULL, "DELETE FROM item WHERE id=?", "x", 1),
                     HSM_ERR_USAGE);
    assert_int_equal(acme_store_run(*state, NULL, "SELECT 1", ""), HSM_ERR_USAGE);
    assert_int_equal(acme_store_query(*state, &rows, "DELETE FROM item", ""), HSM_ERR_USAGE);
    assert_int_equal(acme_store_run(*state, NULL, many, ""), HSM_ERR_USAGE);
    assert_int_equal(acme_store_run(*state, NULL, "DELETE FROM nothing", ""), HSM_ERR_IO);
    assert_null(rows);
    assert_int_equal(number(*state, "SELECT count(*) FROM counter"), 1);
}

static void
more_statements_than_are_kept_work_as_well(void **state)
{
    char sql[64];

    for (int i = 0; i < 600; i++) {
        snprintf(sql, sizeof(sql), "SELECT %d", i);
        assert_int_equal(number(*state, sql), i);
    }
    assert_int_equal(number(*state, "SELECT 7"), 7);
}

static void
a_rolled_back_transaction_leaves_nothing(void **state)
{
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "a"), HSM_OK);
    acme_store_rollback(*state);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 0);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "a"), HSM_OK);
    assert_int_equal(acme_store_commit(*state), HSM_OK);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 1);
}

static void
transactions_do_not_nest_and_commit_needs_one(void **state)
{
    assert_int_equal(acme_store_commit(*state), HSM_ERR_USAGE);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(acme_store_begin(*state), HSM_ERR_USAGE);
    assert_int_equal(acme_store_commit(*state), HSM_OK);
    acme_store_rollback(*state); /* none: nothing happens */
    assert_int_equal(add(*state, "a"), HSM_OK);
}

static void
nothing_runs_outside_of_a_transaction_that_sqlite_ended(void **state)
{
    static const char rollback[] =
        "INSERT OR ROLLBACK INTO item(id,name) VALUES(1,'b')"; /* as after a full disk */

    assert_int_equal(add(*state, "a"), HSM_OK);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "in the transaction"), HSM_OK);
    assert_int_equal(acme_store_run(*state, NULL, rollback, ""), HSM_ERR_EXISTS);
    assert_int_equal(add(*state, "outside"), HSM_ERR_IO);
    assert_int_equal(acme_store_commit(*state), HSM_ERR_IO);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 1);
}

static void *
count_up(void *context)
{
    struct acme_store *store = context;
    intptr_t failures = 0;

    for (int i = 0; i < ROUNDS; i++) {
        struct acme_rows *rows = NULL;
        int64_t value = -1;

        if (acme_store_begin(store) != HSM_OK)
            return (void *)(failures + 1);
        if (acme_store_query(store, &rows, "SELECT value FROM counter", "") == HSM_OK &&
            acme_rows_next(rows))
            value = acme_rows_int(rows, 0);
        acme_rows_free(rows);
        if (acme_store_run(store, NULL, "UPDATE counter SET value=?", "i", value + 1) != HSM_OK)
            failures++;
        if (acme_store_commit(store) != HSM_OK)
            failures++;
    }
    return (void *)failures;
}

static void
threads_wait_for_each_others_transactions(void **state)
{
    pthread_t threads[THREADS];
    void *failures = NULL;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, *state), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_null(failures);
    }
    assert_int_equal(number(*state, "SELECT value FROM counter"), THREADS * ROUNDS);
}

static void *
add_and_keep_id(void *context)
{
    struct acme_store *store = context;

    for (int i = 0; i < ROUNDS; i++) {
        char name[40];
        struct acme_rows *rows = NULL;
        bool same;

        snprintf(name, sizeof(name), "%lu-%d", (unsigned long)pthread_self(), i);
        if (add(store, name) != HSM_OK)
            return store;
        if (acme_store_query(store, &rows, "SELECT name FROM item WHERE id=?", "i",
                             acme_store_last_id(store)) != HSM_OK)
            return store;
        same = acme_rows_next(rows) && strcmp(acme_rows_text(rows, 0), name) == 0;
        acme_rows_free(rows);
        if (!same)
            return store;
    }
    return NULL;
}

static void
each_thread_has_its_own_last_id(void **state)
{
    pthread_t threads[THREADS];
    void *failed = NULL;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_keep_id, *state), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static void
two_processes_open_and_write_one_file(void **state)
{
    pid_t children[2];
    struct acme_store *store = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(children); i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            bool good =
                acme_store_open(path, migrations, &store) == HSM_OK && count_up(store) == NULL;

            acme_store_close(store);
            _exit(good ? 0 : 1);
        }
    }
    for (size_t i = 0; i < COUNT(children); i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
    assert_int_equal(number(store, "SELECT value FROM counter"), 2 * ROUNDS);
    acme_store_close(store);
    remove_files();
}

static void
a_store_is_not_used_after_fork(void **state)
{
    int status = -1;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(add(*state, "child") == HSM_ERR_USAGE && acme_store_begin(*state) == HSM_ERR_USAGE
                  ? 0
                  : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void
every_version_migrates_to_the_last(void **state)
{
    (void)state;
    for (size_t known = 0; known < COUNT(migrations); known++) {
        const char *some[COUNT(migrations)] = {NULL};
        struct acme_store *store = NULL;

        memcpy(some, migrations, known * sizeof(some[0]));
        assert_int_equal(acme_store_open(path, some, &store), HSM_OK);
        assert_int_equal(number(store, "PRAGMA user_version"), known);
        if (known > 0)
            assert_int_equal(add(store, "kept"), HSM_OK);
        acme_store_close(store);
        assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
        assert_int_equal(number(store, "PRAGMA user_version"), COUNT(migrations) - 1);
        assert_int_equal(number(store, "SELECT count(more)+count(*) FROM item"), known > 0);
        acme_store_close(store);
        remove_files();
    }
}

static void
a_migration_that_fails_leaves_the_version_before(void **state)
{
    static const char *const broken[] = {
        "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, octets BLOB)",
        "CREATE TABLE half(x); CREATE TABLE item(y)",
        NULL,
    };
    struct acme_store *store = NULL;

    (void)state;
    assert_int_equal(acme_store_open(path, broken, &store), HSM_ERR_IO);
    assert_null(store);
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
    assert_int_equal(number(store, "SELECT count(*) FROM sqlite_schema WHERE name='half'"), 0);
    acme_store_close(store);
    remove_files();
}

static void
a_later_version_is_refused(void **state)
{
    static const char *const fewer[] = {
        "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, octets BLOB)", NULL};
    struct acme_store *store = NULL;

    (void)state;
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
    acme_store_close(store);
    store = NULL;
    assert_int_equal(acme_store_open(path, fewer, &store), HSM_ERR_UNSUPPORTED);
    assert_null(store);
    remove_files();
}

static void
what_is_no_database_is_refused(void **state)
{
    struct acme_store *store = NULL;
    FILE *file = fopen(path, "w");

    (void)state;
    assert_non_null(file);
    for (int i = 0; i < 100; i++)
        fputs("this is a text and not a database\n", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_ERR_IO);
    assert_int_equal(acme_store_open("/nonexistent/s.db", migrations, &store), HSM_ERR_IO);
    assert_null(store);
    remove_files();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commits_reach_the_disk_before_they_return, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_files_are_for_the_owner_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_come_back_as_they_were_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_is_taken_exists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(calls_that_do_not_fit_their_statement_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(more_statements_than_are_kept_work_as_well, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_rolled_back_transaction_leaves_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(transactions_do_not_nest_and_commit_needs_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nothing_runs_outside_of_a_transaction_that_sqlite_ended,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(threads_wait_for_each_others_transactions, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(each_thread_has_its_own_last_id, set_up, tear_down),
        cmocka_unit_test(two_processes_open_and_write_one_file),
        cmocka_unit_test_setup_teardown(a_store_is_not_used_after_fork, set_up, tear_down),
        cmocka_unit_test(every_version_migrates_to_the_last),
        cmocka_unit_test(a_migration_that_fails_leaves_the_version_before),
        cmocka_unit_test(a_later_version_is_refused),
        cmocka_unit_test(what_is_no_database_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
