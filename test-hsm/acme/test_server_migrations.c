/* test_server_migrations.c - mirrors acme/src/server_migrations.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <acme/server.h>
#include <acme/store.h>

#include "postgres.h"
#include "softhsm.h"

#define MIGRATIONS_MAX 32

static void
must_run(struct acme_store *store, const char *sql, const char *octets)
{
    assert_int_equal(acme_store_run(store, NULL, sql, octets != NULL ? "b" : "", octets, (size_t)1),
                     HSM_OK);
}

/* An account with an order in processing, in a form common to all versions. */
static void
insert_order(struct acme_store *store)
{
    must_run(store,
             "INSERT INTO account (id, status, jwk, thumbprint, contact, created)"
             " VALUES ('a', 'valid', '{}', 't', '[]', 1)",
             NULL);
    must_run(store,
             "INSERT INTO authz (id, account, status, identifier, tnauthlist, expires)"
             " VALUES ('z', 'a', 'valid', 'i', ?, 2)",
             "l");
    must_run(store,
             "INSERT INTO challenge (id, authz, status, token) VALUES ('c', 'z', 'valid', 't')",
             NULL);
    must_run(store,
             "INSERT INTO acme_order (id, account, authz, status, spc, created, expires)"
             " VALUES ('o', 'a', 'z', 'processing', '1234', 1, 2)",
             NULL);
    must_run(store,
             "INSERT INTO issuance (order_id, certificate, account, spc, organization, country,"
             " point, thumbprint, under, attempted)"
             " VALUES ('o', 'c', 'a', '1234', 'O', 'US', ?, 't', 'u', 1)",
             "p");
}

/* A store of version n with an order, opened by this program and then by that version's. */
static void
take_further(size_t version, const char *const *former)
{
    struct acme_store *store = NULL;
    struct acme_rows *rows = NULL;
    char path[4300];

    snprintf(path, sizeof(path), "%s/former-%zu.db", softhsm_dir(), version);
    assert_int_equal(acme_store_open(postgres_or_file(path), former, &store), HSM_OK);
    insert_order(store);
    acme_store_close(store);
    assert_int_equal(acme_store_open(postgres_or_file(path), acme_server_migrations, &store),
                     HSM_OK);
    assert_int_equal(acme_store_query(store, &rows,
                                      "SELECT count(*), (SELECT count(*) FROM revocation),"
                                      " (SELECT count(*) FROM rate), (SELECT count(*) FROM duty),"
                                      " (SELECT recorded FROM issuance WHERE order_id = 'o') FROM"
                                      " account WHERE id = 'a' AND terms IS NULL AND"
                                      " external_account IS NULL",
                                      ""),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    assert_int_equal(acme_rows_int(rows, 0), 1);
    for (size_t column = 1; column <= 4; column++)
        assert_int_equal(acme_rows_int(rows, column), 0);
    acme_rows_free(rows);
    acme_store_close(store);
    assert_int_equal(acme_store_open(postgres_or_file(path), former, &store), HSM_ERR_UNSUPPORTED);
}

static void
a_store_of_every_former_version_is_taken_further(void **state)
{
    const char *former[MIGRATIONS_MAX + 1] = {NULL};

    (void)state;
    for (size_t n = 0; acme_server_migrations[n + 1] != NULL; n++) {
        assert_true(n < MIGRATIONS_MAX);
        former[n] = acme_server_migrations[n];
        take_further(n + 1, former);
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
    };

    return cmocka_run_group_tests(tests, start, stop);
}
