/* test_authority_migrations.c - mirrors acme/src/authority_migrations.c: migration from every
 * former version, and which queries use an index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <acme/authority.h>
#include <acme/server.h>

#include "postgres.h"
#include "softhsm.h"

#define MIGRATIONS_MAX 32

/* Make a store of version n with an account and, if that version has the table, a revocation; then
 * open it with this program. */
static void
take_further(size_t version, const char *const *former)
{
    const int64_t revocations = version >= 2 ? 1 : 0;

    struct acme_store *old = NULL;
    struct acme_rows *rows = NULL;
    char path[4300];

    snprintf(path, sizeof(path), "%s/former-%zu.db", softhsm_dir(), version);
    assert_int_equal(acme_store_open(postgres_or_file(path), former, &old), HSM_OK);
    assert_int_equal(acme_store_run(old, NULL,
                                    "INSERT INTO account (id, \"user\", salt, hash, scrypt_n,"
                                    " scrypt_r, scrypt_p, ca, created)"
                                    " VALUES ('1', 'sp', ?, ?, 1, 1, 1, 0, 1)",
                                    "bb", "0", (size_t)1, "0", (size_t)1),
                     HSM_OK);
    if (revocations > 0)
        assert_int_equal(acme_store_run(old, NULL,
                                        "INSERT INTO revocation (issuer, serial, reason, requester,"
                                        " account, state, asked, decided, entry)"
                                        " VALUES (?, ?, 1, 'who', '1', 'revoked', 1, 1, 1)",
                                        "bb", "0", (size_t)1, "1", (size_t)1),
                         HSM_OK);
    acme_store_close(old);
    assert_int_equal(acme_store_open(postgres_or_file(path), acme_authority_migrations, &old),
                     HSM_OK);
    assert_int_equal(acme_store_query(old, &rows,
                                      "SELECT is_sti_ca, (SELECT count(*) FROM revocation WHERE"
                                      " entry = 1 AND not_after IS NULL AND dropped IS NULL),"
                                      " (SELECT count(*) FROM event) FROM account WHERE id = '1'"
                                      " AND suspended IS NULL",
                                      ""),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_int_equal(acme_rows_int(rows, 0), 0);
    assert_int_equal(acme_rows_int(rows, 1), revocations);
    assert_int_equal(acme_rows_int(rows, 2), 0);
    acme_rows_free(rows);
    assert_int_equal(acme_store_query(old, &rows,
                                      "SELECT (SELECT count(*) FROM revocation WHERE end_shown = 0"
                                      " AND by_operator = 0), (SELECT count(*) FROM rate),"
                                      " (SELECT count(*) FROM login_address),"
                                      " (SELECT count(*) FROM published)",
                                      ""),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_int_equal(acme_rows_int(rows, 0), revocations);
    for (size_t i = 1; i < 4; i++)
        assert_int_equal(acme_rows_int(rows, i), 0);
    acme_rows_free(rows);
    /* version 9 drops this table: it has no row, and can be made again */
    assert_int_equal(acme_store_run(old, NULL, "CREATE TABLE login_failure (at INTEGER)", ""),
                     HSM_OK);
    acme_store_close(old);
}

static void
a_store_of_every_former_version_is_taken_further(void **state)
{
    const char *former[MIGRATIONS_MAX] = {NULL};

    (void)state;
    for (size_t i = 0; acme_authority_migrations[i] != NULL; i++) {
        assert_true(i + 1 < MIGRATIONS_MAX);
        former[i] = acme_authority_migrations[i];
        take_further(i + 1, former);
    }
}

/* SQLite's plan, which does not depend on the size of a table. */
static void
assert_searched(struct acme_store *store, const char *statement)
{
    struct acme_rows *rows = NULL;
    char sql[512];

    snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", statement);
    assert_int_equal(acme_store_query(store, &rows, sql, ""), HSM_OK);
    assert_true(acme_rows_count(rows) > 0);
    while (acme_rows_next(rows)) {
        if (strncmp(acme_rows_text(rows, 3), "SEARCH ", strlen("SEARCH ")) != 0)
            fail_msg("%s: %s", statement, acme_rows_text(rows, 3));
    }
    acme_rows_free(rows);
}

static void
what_is_asked_for_all_the_time_is_found_by_an_index(void **state)
{
    static const struct {
        const char *const *migrations;
        const char *statement;
    } cases[] = {
        {acme_authority_migrations, "SELECT subject FROM rate WHERE used_until <= 1"},
        {acme_authority_migrations, "SELECT * FROM session WHERE refresh_until <= 1"},
        {acme_authority_migrations, "SELECT * FROM login_address WHERE at <= 1"},
        {acme_authority_migrations, "SELECT jti FROM spc_token WHERE expires <= 1"},
        {acme_authority_migrations,
         "SELECT * FROM revocation WHERE dropped IS NULL AND outlived <= 1"},
        {acme_authority_migrations,
         "SELECT detail FROM event WHERE what = 'w' AND subject = 's' ORDER BY id DESC LIMIT 1"},
        {acme_server_migrations,
         "SELECT detail FROM event WHERE what = 'w' AND subject = 's' ORDER BY id DESC LIMIT 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct acme_store *store = NULL;
        char path[4300];

        snprintf(path, sizeof(path), "%s/plan-%zu.db", softhsm_dir(), i);
        assert_int_equal(acme_store_open(path, cases[i].migrations, &store), HSM_OK);
        assert_searched(store, cases[i].statement);
        acme_store_close(store);
    }
}

static int
start(void **state)
{
    (void)state;
    softhsm_start();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_of_every_former_version_is_taken_further),
        cmocka_unit_test(what_is_asked_for_all_the_time_is_found_by_an_index),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
