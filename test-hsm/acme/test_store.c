/* test_store.c - mirrors acme/src/store.c and its backends: one table of tests, run for each. */
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

#include "store_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define THREADS      8
#define ROUNDS       50

static const char *const migrations[] = {
    "CREATE TABLE item(id {id}, name TEXT UNIQUE NOT NULL, octets {octets})",
    "CREATE TABLE counter(value {int} NOT NULL); INSERT INTO counter VALUES(0)",
    "ALTER TABLE item ADD COLUMN more TEXT; "
    "CREATE TABLE part(item {int} NOT NULL REFERENCES item(id));"
    "CREATE TABLE note(id {id}, text TEXT NOT NULL){strict}; {append-only:note}",
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

static int64_t
version(struct acme_store *store)
{
    return number(store, acme_store_is_uri(path) ? "SELECT version FROM store_version"
                                                 : "PRAGMA user_version");
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
    assert_int_equal(acme_store_query(*state, &rows, "SELECT * FROM pragma_journal_mode", ""),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_string_equal(acme_rows_text(rows, 0), "wal");
    acme_rows_free(rows);
}

static void
the_files_are_for_the_owner_alone(void **state)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[sizeof(path) + 8];
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
    assert_int_equal(add(*state, NULL), HSM_ERR_USAGE); /* violates NOT NULL */
    /* violates REFERENCES */
    assert_int_equal(acme_store_run(*state, NULL, "INSERT INTO part VALUES(99)", ""),
                     HSM_ERR_USAGE);
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
    acme_store_rollback(*state); /* without a transaction: no effect */
    assert_int_equal(add(*state, "a"), HSM_OK);
}

static void
nothing_follows_in_a_transaction_after_a_statement_that_failed(void **state)
{
    assert_int_equal(add(*state, "a"), HSM_OK);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "in the transaction"), HSM_OK);
    assert_int_equal(add(*state, "a"), HSM_ERR_EXISTS);
    assert_int_equal(add(*state, "behind"), HSM_ERR_IO);
    assert_int_equal(acme_store_commit(*state), HSM_ERR_IO);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 1);
    assert_int_equal(add(*state, "behind"), HSM_OK);
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

/* Runs on a separate thread, because this one would see its own transaction's changes. */
static void *
count_items(void *context)
{
    struct acme_store *store = context;
    struct acme_rows *rows = NULL;
    intptr_t count = -1;

    if (acme_store_query(store, &rows, "SELECT count(*) FROM item", "") == HSM_OK &&
        acme_rows_next(rows))
        count = (intptr_t)acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return (void *)count;
}

static intptr_t
items_seen_by_another_thread(struct acme_store *store)
{
    pthread_t thread;
    void *count = NULL;

    assert_int_equal(pthread_create(&thread, NULL, count_items, store), 0);
    assert_int_equal(pthread_join(thread, &count), 0); /* does not return if the thread blocks */
    return (intptr_t)count;
}

static void
another_thread_reads_on_during_a_transaction_what_was_durable_before(void **state)
{
    assert_int_equal(add(*state, "before"), HSM_OK);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "within"), HSM_OK);
    assert_int_equal(items_seen_by_another_thread(*state), 1);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 2);
    assert_int_equal(acme_store_commit(*state), HSM_OK);
    assert_int_equal(items_seen_by_another_thread(*state), 2);
}

static void
an_insert_tells_the_number_that_it_got(void **state)
{
    static const char insert[] = "INSERT INTO item(name) VALUES(?) RETURNING id";
    int64_t first = 0, second = 0;

    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(acme_store_insert(*state, &first, insert, "s", "a"), HSM_OK);
    assert_int_equal(acme_store_insert(*state, &second, insert, "s", "b"), HSM_OK);
    assert_int_equal(acme_store_commit(*state), HSM_OK);
    assert_true(second > first && first > 0);
    assert_int_equal(number(*state, "SELECT id FROM item WHERE name = 'b'"), second);
}

static void
a_table_that_only_grows_refuses_all_else(void **state)
{
    static const char insert[] = "INSERT INTO note(text) VALUES('said')";

    assert_int_equal(acme_store_run(*state, NULL, insert, ""), HSM_OK);
    assert_int_not_equal(acme_store_run(*state, NULL, "UPDATE note SET text = ''", ""), HSM_OK);
    assert_int_not_equal(acme_store_run(*state, NULL, "DELETE FROM note", ""), HSM_OK);
    assert_int_equal(number(*state, "SELECT count(*) FROM note WHERE text = 'said'"), 1);
}

static void
two_processes_open_and_write_one_place(void **state)
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
        if (known > 0) {
            assert_int_equal(version(store), known);
            assert_int_equal(add(store, "kept"), HSM_OK);
        }
        acme_store_close(store);
        assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
        assert_int_equal(version(store), COUNT(migrations) - 1);
        assert_int_equal(number(store, "SELECT count(more)+count(*) FROM item"), known > 0);
        acme_store_close(store);
        remove_files();
    }
}

static void
a_migration_that_fails_leaves_the_version_before(void **state)
{
    static const char *const broken[] = {
        "CREATE TABLE item(id {id}, name TEXT UNIQUE NOT NULL, octets {octets})",
        "CREATE TABLE half(x {int}); CREATE TABLE item(y {int})",
        NULL,
    };
    struct acme_store *store = NULL;

    (void)state;
    assert_int_equal(acme_store_open(path, broken, &store), HSM_ERR_IO);
    assert_null(store);
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
    assert_int_equal(acme_store_run(store, NULL, "CREATE TABLE half(x INTEGER)", ""), HSM_OK);
    acme_store_close(store);
    remove_files();
}

static void
a_later_version_is_refused(void **state)
{
    static const char *const fewer[] = {
        "CREATE TABLE item(id {id}, name TEXT UNIQUE NOT NULL, octets {octets})", NULL};
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

static void
a_migration_names_only_what_there_is(void **state)
{
    static const char *const unknown[] = {"{integer}", "{int", "{}"};

    (void)state;
    for (size_t i = 0; i < COUNT(unknown); i++) {
        const char *const wrong[] = {unknown[i], NULL};
        struct acme_store *store = NULL;

        assert_int_equal(acme_store_open(path, wrong, &store), HSM_ERR_USAGE);
        assert_null(store);
    }
    remove_files();
}

/* ---- PostgreSQL only ---- */

static void
commits_reach_the_servers_disk_whatever_the_server_does_for_others(void **state)
{
    struct acme_store *store = NULL;
    struct acme_rows *rows = NULL;

    (void)state;
    postgres_sql("ALTER ROLE sti SET synchronous_commit = off");
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_OK);
    postgres_sql("ALTER ROLE sti RESET synchronous_commit");
    assert_int_equal(
        acme_store_query(store, &rows, "SELECT current_setting('synchronous_commit')", ""), HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_string_equal(acme_rows_text(rows, 0), "on");
    acme_rows_free(rows);
    assert_int_equal(add(store, "kept"), HSM_OK);
    postgres_restart();
    assert_int_equal(number(store, "SELECT count(*) FROM item"), 1);
    acme_store_close(store);
    remove_files();
}

static void
cut_connections(void)
{
    postgres_sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                 " WHERE application_name = 'sti-hsm'");
}

static void
a_connection_that_broke_is_made_anew_between_transactions(void **state)
{
    cut_connections();
    assert_int_equal(add(*state, "a"), HSM_OK);
    cut_connections();
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 1);
    cut_connections();
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "lost"), HSM_OK);
    cut_connections();
    assert_int_equal(add(*state, "b"), HSM_ERR_BUSY);
    acme_store_rollback(*state);
    assert_int_equal(acme_store_begin(*state), HSM_OK);
    assert_int_equal(add(*state, "lost"), HSM_OK);
    cut_connections();
    assert_int_equal(acme_store_commit(*state), HSM_ERR_BUSY); /* durable or not */
    assert_int_equal(add(*state, "lost"), HSM_OK);
    assert_int_equal(number(*state, "SELECT count(*) FROM item"), 2);
}

static void
what_may_pass_is_busy(void **state)
{
    static const struct {
        const char *sqlstate;
        enum hsm_status wanted;
    } cases[] = {
        {"40001", HSM_ERR_BUSY}, /* serialization_failure */
        {"40P01", HSM_ERR_BUSY}, /* deadlock_detected */
        {"55P03", HSM_ERR_BUSY}, /* lock_not_available */
        {"57P03", HSM_ERR_BUSY}, /* cannot_connect_now */
        {"53300", HSM_ERR_BUSY}, /* too_many_connections */
        {"23505", HSM_ERR_EXISTS}, /* unique_violation */
        {"23514", HSM_ERR_USAGE}, /* check_violation */
        {"3F000", HSM_ERR_NOT_FOUND}, /* invalid_schema_name */
        {"53100", HSM_ERR_IO}, /* disk_full */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char sql[80];

        snprintf(sql, sizeof(sql), "DO $$BEGIN RAISE SQLSTATE '%s'; END$$", cases[i].sqlstate);
        assert_int_equal(acme_store_run(*state, NULL, sql, ""), cases[i].wanted);
        assert_int_equal(number(*state, "SELECT 1"), 1);
    }
}

static void
only_a_password_file_has_the_password(void **state)
{
    struct acme_store *store = NULL;
    char file[80], more[120], uri[POSTGRES_URI_SIZE];
    FILE *passfile;

    (void)state;
    postgres_sql(
        "CREATE ROLE guarded LOGIN PASSWORD 'correct'; GRANT ALL ON SCHEMA store TO guarded");
    snprintf(file, sizeof(file), "/tmp/sti-passfile.%d", getpid());
    snprintf(more, sizeof(more), "&dbname=postgres&user=guarded&passfile=%s", file);
    postgres_uri("store", more, uri);
    assert_int_equal(acme_store_open(uri, migrations, &store), HSM_ERR_BUSY);
    passfile = fopen(file, "w");
    assert_non_null(passfile);
    fputs("*:*:*:guarded:correct\n", passfile);
    assert_int_equal(fchmod(fileno(passfile), 0600), 0);
    assert_int_equal(fclose(passfile), 0);
    assert_int_equal(acme_store_open(uri, migrations, &store), HSM_OK);
    acme_store_close(store);
    store = NULL;
    unlink(file);
    postgres_uri("store", "&user=guarded&password=correct", uri);
    assert_int_equal(acme_store_open(uri, migrations, &store), HSM_ERR_USAGE);
    assert_int_equal(acme_store_open("postgresql://sti:correct@localhost/x", migrations, &store),
                     HSM_ERR_USAGE);
    assert_int_equal(acme_store_open("postgresql://sti@localhost/x?unknown=1", migrations, &store),
                     HSM_ERR_USAGE);
    postgres_uri("store", "&options=-csearch_path%3Dnone", uri);
    assert_int_equal(acme_store_open(uri, migrations, &store), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_store_open("postgresql:///x?host=/nonexistent", migrations, &store),
                     HSM_ERR_BUSY);
    assert_null(store);
    remove_files();
    postgres_sql("DROP ROLE guarded");
}

static void
a_server_without_durability_is_refused(void **state)
{
    struct acme_store *store = NULL;

    (void)state;
    postgres_sql("ALTER SYSTEM SET fsync = off");
    postgres_restart();
    assert_int_equal(acme_store_open(path, migrations, &store), HSM_ERR_UNSUPPORTED);
    assert_null(store);
    postgres_sql("ALTER SYSTEM RESET fsync");
    postgres_restart();
}

#define ALONE(test)  cmocka_unit_test(test)
#define OPENED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#define OF_EVERY_STORE                                                                             \
    OPENED(values_come_back_as_they_were_bound), OPENED(a_name_that_is_taken_exists),              \
        OPENED(calls_that_do_not_fit_their_statement_are_refused),                                 \
        OPENED(more_statements_than_are_kept_work_as_well),                                        \
        OPENED(a_rolled_back_transaction_leaves_nothing),                                          \
        OPENED(transactions_do_not_nest_and_commit_needs_one),                                     \
        OPENED(nothing_follows_in_a_transaction_after_a_statement_that_failed),                    \
        OPENED(threads_wait_for_each_others_transactions),                                         \
        OPENED(another_thread_reads_on_during_a_transaction_what_was_durable_before),              \
        OPENED(an_insert_tells_the_number_that_it_got),                                            \
        OPENED(a_table_that_only_grows_refuses_all_else),                                          \
        ALONE(two_processes_open_and_write_one_place), OPENED(a_store_is_not_used_after_fork),     \
        ALONE(every_version_migrates_to_the_last),                                                 \
        ALONE(a_migration_that_fails_leaves_the_version_before),                                   \
        ALONE(a_migration_names_only_what_there_is), ALONE(a_later_version_is_refused)

static int
run_sqlite(void)
{
    const struct CMUnitTest sqlite[] = {
        OF_EVERY_STORE,
        OPENED(commits_reach_the_disk_before_they_return),
        OPENED(the_files_are_for_the_owner_alone),
        ALONE(what_is_no_database_is_refused),
    };

    return cmocka_run_group_tests(sqlite, set_up_group, tear_down_group);
}

static int
run_postgres(void)
{
    const struct CMUnitTest postgres[] = {
        OF_EVERY_STORE,
        ALONE(commits_reach_the_servers_disk_whatever_the_server_does_for_others),
        OPENED(a_connection_that_broke_is_made_anew_between_transactions),
        OPENED(what_may_pass_is_busy),
        ALONE(only_a_password_file_has_the_password),
        ALONE(a_server_without_durability_is_refused),
    };

    if (!postgres_start()) {
        printf("PostgreSQL is not installed: its tests are skipped\n");
        return 0;
    }
    return cmocka_run_group_tests(postgres, set_up_postgres, NULL);
}

int
main(void)
{
    int failed = run_sqlite();

    return failed + run_postgres();
}
