/* test_server_upkeep.c - mirrors acme/src/server_upkeep.c: expired rows are deleted in bounded
 * steps and by one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ca_group.h"

#define DAY  86400
#define MANY 1234 /* more than two steps of a sweep */

static int64_t
count(const char *sql)
{
    return ca_fixture_count(&ca, sql);
}

/* Insert MANY rows, each made by `insert` from n.i and these ids. */
static void
insert_many(const char *insert, const char *one, const char *other)
{
    char sql[512];

    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) %s",
             insert);
    assert_int_equal(acme_store_run(ca.store, NULL, sql, other != NULL ? "iss" : "is",
                                    (int64_t)MANY, one, other),
                     HSM_OK);
}

static const char *
id_of(const char *url)
{
    return strrchr(url, '/') + 1;
}

/* Orders with an authorization each, and as many that use the authorization of a valid order. */
static void
all_that_has_expired_goes_however_much_it_is(void **state)
{
    struct peer_order valid;

    peer_enrol(&ca, *state, "1234", &valid);
    insert_many("INSERT INTO authz (id, account, status, identifier, tnauthlist, expires) SELECT"
                " 'a' || n.i, authz.account, 'pending', identifier, tnauthlist, 1 FROM authz, n"
                " WHERE authz.id = ?",
                id_of(valid.authz), NULL);
    insert_many("INSERT INTO challenge (id, authz, status, token) SELECT 'c' || i, 'a' || i,"
                " 'pending', ? FROM n",
                "token", NULL);
    insert_many("INSERT INTO acme_order (id, account, authz, status, spc, created, expires) SELECT"
                " 'o' || i, ?, 'a' || i, 'pending', ?, 1, 1 FROM n",
                id_of(account.kid), "1234");
    insert_many("INSERT INTO acme_order (id, account, authz, status, spc, created, expires) SELECT"
                " 'r' || i, ?, ?, 'ready', '1234', 1, 1 FROM n",
                id_of(account.kid), id_of(valid.authz));
    insert_many("INSERT INTO nonce (value, expires) SELECT ? || i, 1 FROM n", "n", NULL);
    insert_many("INSERT INTO rate (subject, used_until) SELECT ? || i, 1 FROM n", "r", NULL);
    acme_server_expire(ca.server);
    assert_int_equal(count("SELECT count(*) FROM acme_order WHERE expires = 1"), 0);
    assert_int_equal(count("SELECT count(*) FROM authz WHERE expires = 1"), 0);
    assert_int_equal(count("SELECT count(*) FROM challenge WHERE token = 'token'"), 0);
    assert_int_equal(count("SELECT count(*) FROM nonce WHERE expires = 1"), 0);
    assert_int_equal(count("SELECT count(*) FROM rate WHERE used_until = 1"), 0);
    peer_assert_status(&ca, *state, valid.url, "valid");
    peer_assert_status(&ca, *state, valid.authz, "valid");
}

/* ---- several processes ---- */

static void
leave_litter(void)
{
    ca_fixture_sql(&ca, "INSERT INTO nonce (value, expires) VALUES ('litter', 1)");
}

static bool
is_swept(void)
{
    return count("SELECT count(*) FROM nonce WHERE value = 'litter'") == 0;
}

static struct acme_server *
another_process(void)
{
    struct acme_server *server = NULL;

    assert_int_equal(acme_server_new(&ca.config, &server), HSM_OK);
    return server;
}

static void
of_several_processes_one_sweeps_each_minute(void **state)
{
    time_t now = time(NULL) + DAY;
    struct acme_server *first = another_process(), *second = another_process();

    (void)state;
    leave_litter();
    ca_fixture_set_time(now);
    acme_server_tick(first);
    assert_true(is_swept());
    leave_litter();
    ca_fixture_set_time(now + 59);
    acme_server_tick(second);
    assert_false(is_swept());
    ca_fixture_set_time(now + 59 + 60);
    acme_server_tick(second);
    assert_true(is_swept());
    acme_server_free(first);
    acme_server_free(second);
    ca_fixture_set_time(0);
}

static void
a_clock_that_was_ahead_holds_up_no_sweep(void **state)
{
    struct acme_server *server = another_process();

    (void)state;
    leave_litter();
    ca_fixture_sql(&ca, "UPDATE duty SET next = 9999999999");
    acme_server_tick(server);
    assert_true(is_swept());
    acme_server_free(server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_has_expired_goes_however_much_it_is),
        cmocka_unit_test(of_several_processes_one_sweeps_each_minute),
        cmocka_unit_test(a_clock_that_was_ahead_holds_up_no_sweep),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
