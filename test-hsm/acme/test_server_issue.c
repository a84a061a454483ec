/* test_server_issue.c - mirrors acme/src/server_issue.c: crashes, and a token that goes away. */
#define _GNU_SOURCE /* setenv */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/x509.h>

#include "ca_group.h"
#include "peer.h"
#include "postgres.h"
#include "softhsm.h"

/* ---- crashes ---- */

/* Set the store to its state after a crash between the record of intent and the certificate. */
static void
crash_before_certificate(const struct peer_order *order)
{
    ca_fixture_order_sql(&ca, order->url,
                         "UPDATE issuance SET der = NULL, chain = NULL, attempted = 0 WHERE"
                         " order_id = ?");
    ca_fixture_order_sql(&ca, order->url,
                         "UPDATE acme_order SET status = 'processing' WHERE id = ?");
}

/* Compares what the token signed; the signature itself differs each time. */
static void
assert_same_tbs(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    X509 *first = d2i_X509(NULL, &(const uint8_t *){a}, (long)a_len);
    X509 *second = d2i_X509(NULL, &(const uint8_t *){b}, (long)b_len);
    uint8_t *first_tbs = NULL, *second_tbs = NULL;
    int first_len = i2d_re_X509_tbs(first, &first_tbs);
    int second_len = i2d_re_X509_tbs(second, &second_tbs);

    assert_true(first_len > 0);
    assert_int_equal(first_len, second_len);
    assert_memory_equal(first_tbs, second_tbs, (size_t)first_len);
    OPENSSL_free(first_tbs);
    OPENSSL_free(second_tbs);
    X509_free(first);
    X509_free(second);
}

static void
a_restart_completes_what_was_about_to_be_signed(void **state)
{
    struct peer_order order;
    size_t before_len, after_len;
    uint8_t *before, *after;

    peer_enrol(&ca, *state, "1234", &order);
    before = peer_download(&ca, *state, order.url, &before_len);
    crash_before_certificate(&order);
    ca_fixture_set_time(time(NULL) + 1000); /* the dates of the restart must not be used */
    ca_fixture_restart(&ca);
    after = peer_download(&ca, *state, order.url, &after_len);
    ca_fixture_set_time(0);
    assert_same_tbs(before, before_len, after, after_len);
    free(before);
    free(after);
}

/* sti-ca serve --check with a different policy, while the daemon serves. */
static void
a_check_completes_and_voids_nothing(void **state)
{
    static const char processing[] = "SELECT count(*) FROM acme_order WHERE status = 'processing'";
    struct acme_server_config checked = ca.config;
    struct acme_server *server = NULL;
    struct peer_order order;

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    checked.store = ca.store;
    checked.only_checked = true;
    checked.policy_oid = "1.2.3.4";
    assert_int_equal(acme_server_new(&checked, &server), HSM_OK);
    acme_server_free(server);
    assert_int_equal(ca_fixture_count(&ca, processing), 1);
    ca_fixture_restart(&ca);
    assert_int_equal(ca_fixture_count(&ca, processing), 0);
    peer_assert_status(&ca, *state, order.url, "valid");
}

static void
a_restart_under_another_profile_voids_it_and_its_serial_is_never_used(void **state)
{
    struct peer_order order, next;
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    ca.config.crl_url = "https://pa.example/crl2";
    ca_fixture_restart(&ca);
    peer_send(&ca, *state, order.url, "", &read);
    ca.config.crl_url = "https://pa.example/crl";
    ca_fixture_restart(&ca);
    assert_string_equal(got_text(&read, "status"), "invalid");
    assert_non_null(json_object_get(read.json, "error"));
    assert_null(json_object_get(read.json, "certificate"));
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE voided = 1 AND der"
                                           " IS NULL AND serial IS NOT NULL"),
                     1);
    peer_enrol(&ca, *state, "1234", &next);
    peer_assert_status(&ca, *state, order.url, "invalid");
}

static int64_t
voided(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE voided = 1");
}

/* Instances receive a new configuration one after the other, and each leaves the other's orders
 * alone. */
static void
what_another_configuration_began_is_left_to_it_for_some_minutes(void **state)
{
    struct peer_order order, other;
    int64_t before = voided();

    peer_enrol(&ca, *state, "1234", &order);
    peer_enrol(&ca, *state, "1234", &other);
    crash_before_certificate(&order);
    crash_before_certificate(&other);
    ca.config.crl_url = "https://pa.example/crl2";
    ca.config.others_serve = true;
    ca_fixture_restart(&ca);
    acme_server_expire(ca.server);
    peer_assert_status(&ca, *state, order.url, "processing");
    ca_fixture_order_sql(&ca, other.url, "UPDATE issuance SET recorded = 0 WHERE order_id = ?");
    acme_server_expire(ca.server); /* no process has completed it */
    peer_assert_status(&ca, *state, other.url, "invalid");
    assert_int_equal(voided(), before + 1);
    ca.config.crl_url = "https://pa.example/crl";
    ca_fixture_restart(&ca);
    peer_assert_status(&ca, *state, order.url, "valid");
    ca.config.others_serve = false;
    ca_fixture_restart(&ca);
}

static void
a_clock_that_was_ahead_holds_up_no_order(void **state)
{
    struct peer_order order;

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    ca_fixture_order_sql(&ca, order.url,
                         "UPDATE issuance SET attempted = not_after, recorded = not_after WHERE"
                         " order_id = ?");
    peer_assert_status(&ca, *state, order.url, "valid");
    crash_before_certificate(&order);
    ca_fixture_order_sql(&ca, order.url,
                         "UPDATE issuance SET attempted = not_after WHERE order_id = ?");
    acme_server_expire(ca.server);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM acme_order WHERE status = 'processing'"), 0);
}

static void
a_poll_completes_what_waited_for_the_token(void **state)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got waiting = {.status = 0};
    size_t len;

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    ca_fixture_sql(&ca, "UPDATE issuance SET serial = NULL, attempted = recorded + 30 WHERE der IS"
                        " NULL AND voided = 0");
    peer_send(&ca, *state, order.url, "", &waiting); /* another process is working on it */
    assert_string_equal(got_text(&waiting, "status"), "processing");
    assert_string_equal(got_header(&waiting, "Retry-After"), "5");
    assert_null(json_object_get(waiting.json, "certificate"));
    ca_fixture_sql(&ca, "UPDATE issuance SET attempted = 0 WHERE der IS NULL AND voided = 0");
    free(peer_download(&ca, *state, order.url, &len));
}

/* Simulates another process that is always faster: it ends the order of each issuance that gets its
 * serial. */
static void
meet_another_process(void)
{
#define ENDED                                                                                      \
    "BEGIN UPDATE issuance SET voided = 1 WHERE order_id = NEW.order_id;"                          \
    " UPDATE acme_order SET status = 'invalid' WHERE id = NEW.order_id;"
    if (!acme_store_is_uri(postgres_or_file(ca.store_path))) {
        ca_fixture_sql(&ca,
                       "CREATE TRIGGER other AFTER UPDATE OF serial ON issuance " ENDED " END");
        return;
    }
    ca_fixture_sql(&ca, "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$" ENDED
                        " RETURN NULL; END$$");
    ca_fixture_sql(&ca, "CREATE TRIGGER other AFTER UPDATE OF serial ON issuance FOR EACH ROW"
                        " EXECUTE FUNCTION other()");
#undef ENDED
}

static void
part_from_it(void)
{
    if (acme_store_is_uri(postgres_or_file(ca.store_path)))
        ca_fixture_sql(&ca, "DROP FUNCTION other CASCADE");
    else
        ca_fixture_sql(&ca, "DROP TRIGGER other");
}

/* RFC 8555 section 7.3.6. */
static void
an_order_that_waits_ends_with_its_account(void **state)
{
    struct peer leaving;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    int64_t before = voided();

    (void)state;
    peer_join(&ca, &leaving);
    peer_enrol(&ca, &leaving, "1234", &order);
    crash_before_certificate(&order);
    peer_send(&ca, &leaving, leaving.kid, "{\"status\":\"deactivated\"}", &got);
    assert_int_equal(got.status, 200);
    ca_fixture_set_time(time(NULL) + 10);
    acme_server_tick(ca.server);
    ca_fixture_set_time(0);
    assert_int_equal(voided(), before + 1);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM acme_order WHERE status = 'processing'"), 0);
    assert_int_equal(ca_fixture_count(&ca,
                                      "SELECT count(*) FROM acme_order WHERE status ="
                                      " 'invalid' AND error LIKE '%unauthorized%deactivated%'"),
                     1);
    peer_stop(&leaving);
}

static void
an_order_that_waits_ends_with_the_name_of_its_participant(void **state)
{
    struct peer_order order;
    int64_t before = voided();

    assert_int_equal(acme_server_participant_set(ca.store, "1234", "Left", "US"), HSM_OK);
    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    assert_int_equal(acme_server_participant_remove(ca.store, "1234"), HSM_OK);
    assert_int_equal(voided(), before + 1);
    peer_assert_status(&ca, *state, order.url, "invalid");
}

static void
an_order_that_waits_ends_when_its_key_is_revoked_as_compromised(void **state)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *error;

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    ca_fixture_order_sql(&ca, order.url,
                         "INSERT INTO revocation (order_id, issuer, serial, reason, requester,"
                         " revoked, next_try, accepted) SELECT order_id, serial, serial, 1, 'x', 1,"
                         " 1, 1 FROM issuance WHERE order_id = ?");
    ca_fixture_set_time(time(NULL) + 10);
    peer_send(&ca, *state, order.url, "", &got);
    ca_fixture_set_time(0);
    assert_string_equal(got_text(&got, "status"), "invalid");
    error = json_object_get(got.json, "error");
    assert_string_equal(json_string_value(json_object_get(error, "type")),
                        "urn:ietf:params:acme:error:badCSR");
    assert_non_null(strstr(json_string_value(json_object_get(error, "detail")), "compromised"));
}

/* Another process may end the order between the assignment of the serial and its reading back. */
static void
an_order_that_another_process_ended_meanwhile_is_left_alone(void **state)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    ca_fixture_sql(&ca, "UPDATE issuance SET serial = NULL WHERE der IS NULL AND voided = 0");
    meet_another_process();
    peer_send(&ca, *state, order.url, "", &got);
    part_from_it();
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "invalid");
    assert_null(json_object_get(got.json, "certificate"));
}

static void
the_tick_completes_what_nobody_polls_for(void **state)
{
    struct peer_order order;

    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    acme_server_expire(ca.server);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM acme_order WHERE status = 'processing'"), 0);
    peer_assert_status(&ca, *state, order.url, "valid");
}

/* About every two seconds, not only once a minute as acme_server_expire() does. */
static void
each_tick_completes_what_waits(void **state)
{
    struct peer_order order;

    acme_server_tick(ca.server);
    peer_enrol(&ca, *state, "1234", &order);
    crash_before_certificate(&order);
    acme_server_tick(ca.server);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM acme_order WHERE status = 'processing'"), 0);
    peer_assert_status(&ca, *state, order.url, "valid");
}

static void
no_serial_is_in_two_certificates(void **state)
{
    (void)state;
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) - count(DISTINCT serial) FROM issuance"), 0);
    assert_true(ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE der IS NOT NULL") > 5);
}

/* ---- a token that goes away ---- */

static void
token_answers(const char *faults)
{
    assert_int_equal(setenv("STI_SHIM", faults, 1), 0);
}

/* After a fault the keys of a token are found and tried again one after another. One that seemed to
 * be at fault itself waits for the next probe of the token, ten seconds. */
static void
await_signature(struct hsm_key *key)
{
    uint8_t signature[HSM_P256_SIG_LEN];
    enum hsm_status st = HSM_ERR_BUSY;

    for (int i = 0; i < 400 && st != HSM_OK; i++) {
        st = hsm_key_sign(key, "a", 1, signature);
        if (st != HSM_OK)
            usleep(50000);
    }
    assert_int_equal(st, HSM_OK);
}

/* For the keys with which the peers are served, too. */
static void
token_recovers(void)
{
    token_answers("");
    await_signature(ca.pa.signer_key);
    await_signature(ca.pa.tls_key);
}

/* Read the order with the clock `later` seconds ahead. */
static void
assert_status_later(const char *url, const char *status, time_t later)
{
    ca_fixture_set_time(time(NULL) + later);
    peer_assert_status(&ca, &account, url, status);
}

static void
assert_waits_for_token(const char *faults, const char *spc)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    size_t len;

    peer_order_ready(&ca, &account, spc, &order);
    token_answers(faults);
    peer_finalize(&ca, &account, &order, key, spc, false, &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "processing");
    assert_string_equal(got_header(&got, "Retry-After"), "5");
    assert_null(json_object_get(got.json, "certificate"));
    assert_status_later(order.url, "processing", 10); /* retried without success */
    ca_fixture_restart(&ca);
    acme_server_expire(ca.server);
    assert_status_later(order.url, "processing", 20);
    token_recovers();
    assert_status_later(order.url, "valid", 30);
    free(peer_download(&ca, &account, order.url, &len));
    ca_fixture_set_time(0);
    EVP_PKEY_free(key);
}

static void
an_order_waits_for_a_token_that_does_not_sign(void **state)
{
    (void)state;
    assert_waits_for_token("C_Sign=0x30", "1234");
    assert_waits_for_token("C_SignInit=0xE0", "1234");
}

static void
an_order_waits_for_a_token_that_gives_no_serial_either(void **state)
{
    (void)state;
    assert_waits_for_token("C_GenerateRandom=0x30,C_Sign=0x30,C_SignInit=0x30", "1234");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE serial IS NULL"),
                     0);
}

static void
a_signature_that_is_none_makes_no_certificate(void **state)
{
    (void)state;
    assert_waits_for_token("flip", "1234");
    assert_waits_for_token("zero", "1234");
}

/* The token has another partition than before, say, until somebody notices. */
static void
an_order_waits_for_a_key_that_is_not_what_it_was(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    int64_t issued = ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE der IS NOT NULL");
    int64_t now = issued;

    (void)state;
    peer_order_ready(&ca, &account, "1234", &order);
    token_answers("lie=0x162:1,C_SignInit=0xE0"); /* CKA_EXTRACTABLE, once it is looked for again */
    peer_finalize(&ca, &account, &order, key, "1234", false, &got);
    assert_string_equal(got_text(&got, "status"), "processing");
    assert_status_later(order.url, "processing", 10);
    token_recovers();
    for (time_t i = 0; i < 100 && now == issued; i++) {
        usleep(50000);
        ca_fixture_set_time(time(NULL) + 20 + 10 * i);
        acme_server_expire(ca.server);
        now = ca_fixture_count(&ca, "SELECT count(*) FROM issuance WHERE der IS NOT NULL");
    }
    assert_int_equal(now, issued + 1);
    peer_assert_status(&ca, &account, order.url, "valid");
    ca_fixture_set_time(0);
    EVP_PKEY_free(key);
}

static void
an_order_that_waits_too_long_is_void(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    peer_order_ready(&ca, &account, "1234", &order);
    token_answers("C_Sign=0x30");
    peer_finalize(&ca, &account, &order, key, "1234", false, &got);
    assert_string_equal(got_text(&got, "status"), "processing");
    token_recovers();
    assert_status_later(order.url, "invalid", 7 * 86400 + 1);
    ca_fixture_set_time(0);
    EVP_PKEY_free(key);
}

static int
start(void **state)
{
    assert_int_equal(setenv("STI_SHIM_BEHIND", softhsm_module(), 1), 0);
    assert_int_equal(setenv("STI_TEST_MODULE", SHIM_MODULE, 1), 0);
    assert_int_equal(setenv("STI_TEST_TIMEOUT_MS", "1000", 1), 0);
    token_answers("");
    ca_group_start(state);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_completes_what_was_about_to_be_signed),
        cmocka_unit_test(a_check_completes_and_voids_nothing),
        cmocka_unit_test(a_restart_under_another_profile_voids_it_and_its_serial_is_never_used),
        cmocka_unit_test(what_another_configuration_began_is_left_to_it_for_some_minutes),
        cmocka_unit_test(a_clock_that_was_ahead_holds_up_no_order),
        cmocka_unit_test(a_poll_completes_what_waited_for_the_token),
        cmocka_unit_test(an_order_that_waits_ends_with_its_account),
        cmocka_unit_test(an_order_that_waits_ends_with_the_name_of_its_participant),
        cmocka_unit_test(an_order_that_waits_ends_when_its_key_is_revoked_as_compromised),
        cmocka_unit_test(an_order_that_another_process_ended_meanwhile_is_left_alone),
        cmocka_unit_test(the_tick_completes_what_nobody_polls_for),
        cmocka_unit_test(each_tick_completes_what_waits),
        cmocka_unit_test(an_order_waits_for_a_token_that_does_not_sign),
        cmocka_unit_test(an_order_waits_for_a_token_that_gives_no_serial_either),
        cmocka_unit_test(an_order_waits_for_a_key_that_is_not_what_it_was),
        cmocka_unit_test(a_signature_that_is_none_makes_no_certificate),
        cmocka_unit_test(an_order_that_waits_too_long_is_void),
        cmocka_unit_test(no_serial_is_in_two_certificates),
    };

    return cmocka_run_group_tests(tests, start, ca_group_stop);
}
