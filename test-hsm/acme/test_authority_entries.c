/* test_authority_entries.c - mirrors acme/src/authority_entries.c and authority_revocations.c: the
 * CRL, its entries and their limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include <jansson.h>

#include <acme/authority.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <hsm/time.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "authority_revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- requests ---- */

/* Add the end of validity that an STI-CA reports. */
static json_t *
with_end(json_t *plea, time_t not_after)
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(not_after, text);
    json_object_set_new(plea, "notAfter", json_string(text));
    return plea;
}

/* ---- the CRL ---- */

static void
the_crl_is_signed_anew_each_day_with_the_same_entries(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    uint64_t number;

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 3)), 200);
    number = crl_number();
    acme_authority_refresh(authority);
    assert_int_equal(crl_number(), number);
    atomic_store(&clock_offset_s, DAY - 3600);
    acme_authority_refresh(authority);
    assert_int_equal(count("SELECT max(number) FROM document WHERE kind = 1"), (int64_t)number);
    atomic_store(&clock_offset_s, DAY);
    acme_authority_refresh(authority);
    assert_int_equal(count("SELECT max(number) FROM document WHERE kind = 1"), (int64_t)number + 1);
    atomic_store(&clock_offset_s, 0);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* A revocation accepted but not published before a crash is published after it. */
static void
a_restart_publishes_what_was_decided(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    const char *undo = "DELETE FROM document WHERE kind = 1 AND number ="
                       " (SELECT max(number) FROM document WHERE kind = 1)";

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    must(acme_store_run(store, NULL, undo, ""), undo);
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE entry IS NOT NULL"),
                     count("SELECT max(entry) FROM revocation"));
    begin_again(0);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* Sign a new CRL at that offset of the clock. */
static void
sign_crl_at(int offset_s)
{
    uint64_t number = crl_number();

    atomic_store(&clock_offset_s, offset_s);
    acme_authority_refresh(authority);
    assert_int_equal(crl_number(), number + 1);
}

/* RFC 5280 section 3.3; here CRLs are valid for two days. */
static void
an_entry_leaves_the_crl_after_its_certificate_has_ended(void **state)
{
    struct certs_chain *ended = enrol(&one, "1234");
    struct certs_chain *good = enrol(&one, "1234");
    struct certs_chain *unknown = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation WHERE dropped IS NOT NULL");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(ended, 1), time(NULL) + 3600)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(good, 1), time(NULL) + 5 * DAY)), 200);
    assert_int_equal(ask("ca-one", plea_of(unknown, 1)), 200);
    /* The first CRL after the end of the certificate, and another while the first is valid. */
    for (int day = 1; day <= 2; day++) {
        sign_crl_at(day * DAY);
        assert_true(is_on_crl(ended));
    }
    sign_crl_at(3 * DAY);
    assert_false(is_on_crl(ended));
    assert_true(is_on_crl(good));
    assert_true(is_on_crl(unknown));
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE dropped IS NOT NULL"),
                     before + 1);
    /* requested again, without an end of validity */
    assert_int_equal(ask("ca-one", plea_of(ended, 4)), 200);
    assert_true(is_on_crl(ended));
    sign_crl_at(0);
    assert_true(is_on_crl(good));
    certs_chain_free(unknown);
    certs_chain_free(good);
    certs_chain_free(ended);
}

/* Only CRLs that begin after the certificate's end count, however late they begin. */
static void
an_entry_is_on_a_crl_that_is_later_than_its_certificate_however_late(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 3600)), 200);
    assert_true(is_on_crl(chain));
    sign_crl_at(5 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(6 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(7 * DAY + 1);
    assert_false(is_on_crl(chain));
    sign_crl_at(0);
    certs_chain_free(chain);
}

static void
an_entry_whose_end_nobody_knows_stays_as_long_as_configured(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *told = enrol(&one, "1234");

    (void)state;
    begin_again(1);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(told, 1)), 200);
    assert_int_equal(ask("ca-one", with_chain(plea_of(told, 1), told)), 200);
    sign_crl_at(DAY); /* a day has passed, but thisUpdate is backdated */
    assert_true(is_on_crl(chain));
    sign_crl_at(2 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(3 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(4 * DAY);
    assert_false(is_on_crl(chain));
    assert_true(is_on_crl(told)); /* its certificate was shown afterwards */
    sign_crl_at(0);
    begin_again(0);
    certs_chain_free(told);
    certs_chain_free(chain);
}

/* When the certificate is shown, its end is read from it, and a different statement in the request
 * is ignored. */
static void
when_a_certificate_ends_is_read_from_it_where_it_is_shown(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&one, "1234")};
    char sql[160];

    (void)state;
    assert_int_equal(
        ask("sp", with_end(with_chain(plea_of(chains[0], 1), chains[0]), time(NULL) + 60)), 202);
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(chains[1], 0), 1, time(NULL)), HSM_OK);
    for (size_t i = 0; i < COUNT(chains); i++) {
        snprintf(sql, sizeof(sql), "SELECT not_after - %lld FROM revocation WHERE id = %lld",
                 (long long)certs_cert_not_after(certs_chain_get(chains[i], 0)),
                 (long long)(last_id() - 1) + (long long)i);
        assert_int_equal(count(sql), 0);
        certs_chain_free(chains[i]);
    }
}

/* CRLs are valid for two days: an entry whose end could be set earlier would be missing from the
 * fourth. */
static void
who_may_revoke_cannot_take_it_back(void **state)
{
    struct certs_chain *untold = enrol(&one, "1234");
    struct certs_chain *told = enrol(&one, "1234");
    struct certs_chain *shown = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(untold, 1)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(untold, 1), time(NULL) - DAY)), 400);
    assert_int_equal(ask("ca-one", with_end(plea_of(untold, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(told, 1), time(NULL) + 20 * DAY)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(told, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_chain(plea_of(shown, 1), shown)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(shown, 1), time(NULL) + 60)), 200);
    for (int day = 1; day <= 4; day++)
        sign_crl_at(day * DAY);
    assert_true(is_on_crl(untold));
    assert_true(is_on_crl(told));
    assert_true(is_on_crl(shown));
    sign_crl_at(0);
    certs_chain_free(shown);
    certs_chain_free(told);
    certs_chain_free(untold);
}

/* Another trusted STI-CA cannot end an entry either, by issuing under that name a certificate that
 * ends earlier. */
static void
a_certificate_from_the_root_of_another_sti_ca_shows_nothing(void **state)
{
    struct sti_ca forger = two;
    struct certs_chain *forged;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    forger.chain =
        chain_of(issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                                                    .subject.common_name = "SHAKEN Issuing"},
                       "One", two.issuing_key, two.root, two.root_key),
                 two.root);
    forged = enrol(&forger, "1234");
    assert_int_equal(ask("ca-one", with_chain(plea_of(forged, 1), forged)), 403);
    assert_int_equal(ask("sp", with_chain(plea_of(forged, 1), forged)), 403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(forged);
    certs_chain_free(forger.chain);
}

/* An early end stated first does not override a later one from another party that may revoke. */
static void
a_later_end_is_heard_from_whoever_may_revoke(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *shown = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 20 * DAY)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(shown, 1), time(NULL) + 60)), 200);
    for (int day = 1; day <= 4; day++)
        sign_crl_at(day * DAY);
    assert_true(is_on_crl(chain));
    assert_false(is_on_crl(shown));
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 200);
    assert_true(is_on_crl(shown));
    sign_crl_at(0);
    certs_chain_free(shown);
    certs_chain_free(chain);
}

/* Simulates a full history of earlier entries. */
static void
entries_that_left_the_crl_make_room(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char sql[128];

    (void)state;
    snprintf(sql, sizeof(sql),
             "UPDATE revocation SET entry = %d WHERE entry ="
             " (SELECT max(entry) FROM revocation)",
             ACME_AUTHORITY_REVOCATIONS_MAX);
    must(acme_store_run(store, NULL, sql, ""), sql);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

struct racer {
    struct certs_chain *chain;
    int status;
};

static void *
race(void *context)
{
    struct racer *racer = context;

    racer->status = ask("ca-one", plea_of(racer->chain, 1));
    return NULL;
}

static void
requests_at_once_are_all_on_the_crl(void **state)
{
    struct racer racers[6];
    pthread_t threads[COUNT(racers)];
    int64_t before = count("SELECT max(entry) FROM revocation");

    (void)state;
    for (size_t i = 0; i < COUNT(racers); i++) /* each pair requests the same revocation */
        racers[i] = (struct racer){.chain = i % 2 == 0 ? enrol(&one, "1234") : racers[i - 1].chain};
    for (size_t i = 0; i < COUNT(racers); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < COUNT(racers); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].status, 200);
        assert_true(is_on_crl(racers[i].chain));
    }
    assert_int_equal(count("SELECT max(entry) FROM revocation"), before + 3);
    for (size_t i = 0; i < COUNT(racers); i += 2)
        certs_chain_free(racers[i].chain);
}

/* The STI-PA's program calls this once a second. */
static void *
tick(void *stop)
{
    const struct timespec second = {1, 0};

    while (!atomic_load((atomic_bool *)stop)) {
        acme_authority_tick(authority);
        nanosleep(&second, NULL);
    }
    return NULL;
}

static time_t
clock_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

#define MANY 200

/* A request does not wait until the CRL is signed, and requests for the CRL do not cause a
 * signature for each entry. */
static void
many_revocations_take_few_crls(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char *authorization = api_key("ca-one");
    atomic_bool stop = false;
    pthread_t ticking;
    uint64_t before;
    size_t entries;
    time_t begun;
    struct certs_crl *crl;

    (void)state;
    begin_with(&(struct acme_authority_config){.crl_pause_ms = ACME_AUTHORITY_CRL_PAUSE_MS});
    crl = fetch_crl();
    before = certs_crl_number(crl);
    entries = certs_crl_len(crl);
    certs_crl_free(crl);
    begun = clock_s();
    assert_int_equal(pthread_create(&ticking, NULL, tick, &stop), 0);
    for (int i = 0; i < MANY; i++) {
        char serial[32], *body;

        snprintf(serial, sizeof(serial), "7777%08x", (unsigned)i);
        json_object_set_new(plea, "serial", json_string(serial));
        body = json_dumps(plea, 0);
        assert_int_equal(post(authorization, "application/json", body, NULL), 200);
        free(body);
        if (i % 10 == 0) /* a verifier fetches it meanwhile */
            (void)crl_number();
    }
    do { /* "within about a second"; the test runner ends the loop otherwise */
        crl = fetch_crl();
        if (certs_crl_len(crl) < entries + MANY) {
            certs_crl_free(crl);
            crl = NULL;
            nanosleep(&(struct timespec){0, 50000000}, NULL);
        }
    } while (crl == NULL);
    /* At most one CRL per second from the ticks and one per second from requests for it. */
    assert_in_range(certs_crl_number(crl) - before, 1, 2 * (clock_s() - begun + 2));
    assert_true(certs_crl_number(crl) - before < MANY / 2);
    certs_crl_free(crl);
    atomic_store(&stop, true);
    pthread_join(ticking, NULL);
    begin_again(0);
    free(authorization);
    json_decref(plea);
    certs_chain_free(chain);
}

/* ---- how much ---- */

static void
an_account_has_so_many_revocations_and_another_is_not_touched(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&one, "1234"), enrol(&two, "1234")};
    int64_t own = count("SELECT count(*) FROM revocation WHERE account = 'ca1' AND dropped IS NULL"
                        " AND state <> 'refused' AND by_operator = 0");

    (void)state;
    begin_with(&(struct acme_authority_config){.revocations_per_account = (unsigned)own + 1});
    assert_int_equal(ask("ca-one", plea_of(chains[0], 1)), 200);
    for (int i = 0; i < 2; i++) /* the event is recorded once */
        assert_int_equal(ask("ca-one", plea_of(chains[1], 1)), 403);
    assert_string_equal(last_event(), "quota of revocations used up");
    assert_int_equal(count("SELECT count(*) FROM event WHERE what LIKE 'quota %'"), 1);
    assert_int_equal(ask("ca-one", plea_of(chains[0], 1)), 200); /* already revoked */
    assert_int_equal(ask("ca-two", plea_of(chains[2], 1)), 200);
    assert_false(is_on_crl(chains[1]));
    /* A revocation by the operator does not count. */
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(chains[1], 0), 1, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chains[1]));
    begin_again(0);
    for (size_t i = 0; i < COUNT(chains); i++)
        certs_chain_free(chains[i]);
}

static void
an_account_asks_so_often_in_an_hour(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *other = enrol(&two, "1234");

    (void)state;
    begin_with(&(struct acme_authority_config){.revocations_per_hour = 2});
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 429);
    assert_string_equal(last_event(), "too many requests to revoke");
    assert_int_equal(ask("ca-two", plea_of(other, 1)), 200);
    atomic_store(&clock_offset_s, 3600);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    atomic_store(&clock_offset_s, 0);
    begin_again(0);
    certs_chain_free(other);
    certs_chain_free(chain);
}

/* ---- what an operator sees ---- */

/* Simulates that many entries from others, in SQLite's dialect; the CRL is not signed with them. */
static void
a_full_crl_is_told_and_takes_nothing(void **state)
{
    struct certs_chain *chain;
    char *authorization, *body, *message = NULL;
    json_t *plea;
    const char *fill =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO revocation (issuer, serial, reason, requester, account, state, asked,"
        " decided, entry) SELECT x'3000', CAST(i AS BLOB), 1, 'filler', 'ca2', 'revoked', 1, 1,"
        " 1000000 + i FROM n";

    (void)state;
    if (getenv("STI_TEST_STORE") != NULL)
        skip();
    chain = enrol(&one, "1234");
    authorization = api_key("ca-one");
    plea = plea_of(chain, 1);
    must(acme_store_run(store, NULL, fill, "i", (int64_t)ACME_AUTHORITY_REVOCATIONS_MAX), fill);
    body = json_dumps(plea, 0);
    assert_int_equal(post(authorization, "application/json", body, &message), 507);
    assert_string_equal(message, "the CRL is full, and the STI-PA's operator knows");
    assert_string_equal(last_event(), "CRL full");
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 1, time(NULL)),
                     HSM_ERR_UNSUPPORTED);
    must(acme_store_run(store, NULL, "DELETE FROM revocation WHERE requester = 'filler'", ""),
         "delete");
    assert_int_equal(post(authorization, "application/json", body, NULL), 200);
    free(message);
    free(body);
    json_decref(plea);
    free(authorization);
    certs_chain_free(chain);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_crl_is_signed_anew_each_day_with_the_same_entries),
        cmocka_unit_test(a_restart_publishes_what_was_decided),
        cmocka_unit_test(an_entry_leaves_the_crl_after_its_certificate_has_ended),
        cmocka_unit_test(an_entry_is_on_a_crl_that_is_later_than_its_certificate_however_late),
        cmocka_unit_test(an_entry_whose_end_nobody_knows_stays_as_long_as_configured),
        cmocka_unit_test(when_a_certificate_ends_is_read_from_it_where_it_is_shown),
        cmocka_unit_test(who_may_revoke_cannot_take_it_back),
        cmocka_unit_test(a_certificate_from_the_root_of_another_sti_ca_shows_nothing),
        cmocka_unit_test(a_later_end_is_heard_from_whoever_may_revoke),
        cmocka_unit_test(entries_that_left_the_crl_make_room),
        cmocka_unit_test(requests_at_once_are_all_on_the_crl),
        cmocka_unit_test(many_revocations_take_few_crls),
        cmocka_unit_test(an_account_has_so_many_revocations_and_another_is_not_touched),
        cmocka_unit_test(an_account_asks_so_often_in_an_hour),
        cmocka_unit_test(a_full_crl_is_told_and_takes_nothing),
    };

    return cmocka_run_group_tests(tests, authority_revoke_start, authority_revoke_stop);
}
