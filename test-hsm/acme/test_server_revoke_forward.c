/* test_server_revoke_forward.c - mirrors acme/src/server_revoke.c: what the STI-PA is told,
 * reachable or not. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pthread.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/time.h>

#include "postgres.h"
#include "revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
assert_told(const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(sti_pa.told, name));

    assert_non_null(text);
    assert_string_equal(text, wanted);
}

static int64_t
accepted(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE accepted IS NOT NULL");
}

static void
a_revocation_is_forwarded_to_the_sti_pa_once(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    uint8_t *issuer = NULL;
    size_t len;
    char *issuer_text, *serial, *credentials, *requester = NULL, header[128];
    char not_after[HSM_TIME_LEN + 1];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, "1", &got);
    assert_int_equal(got.status, 200);
    assert_int_equal(atomic_load(&ca.intercepted), 0); /* forwarded asynchronously */
    acme_server_forward(ca.server);
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 1);
    assert_int_equal(accepted(), 1);

    assert_int_equal(certs_name_der(certs_cert_subject_name(certs_chain_get(ca.issuing_chain, 0)),
                                    &issuer, &len),
                     HSM_OK);
    issuer_text = acme_base64_encode(issuer, len);
    serial = certs_cert_serial_hex(certificate.x509);
    credentials = acme_base64_encode("sti-ca:" PASSWORD, strlen("sti-ca:" PASSWORD));
    snprintf(header, sizeof(header), "Basic %s", credentials);
    assert_string_equal(sti_pa.authorization, header);
    assert_string_equal(sti_pa.content_type, "application/json");
    assert_told("issuer", issuer_text);
    assert_told("serial", serial);
    assert_int_equal(json_integer_value(json_object_get(sti_pa.told, "reason")), 1);
    assert_true(asprintf(&requester, "account %s", strrchr(account.kid, '/') + 1) > 0);
    assert_told("requester", requester);
    hsm_time_format(certs_cert_not_after(certificate.x509), not_after);
    assert_told("notAfter", not_after);
    assert_int_equal(json_object_size(sti_pa.told), 5);
    free(requester);
    free(credentials);
    free(serial);
    free(issuer_text);
    free(issuer);
}

/* After any failure the request is retried, at growing intervals, until the STI-PA accepts it. */
static void
what_the_sti_pa_did_not_accept_is_forwarded_again_with_back_off(void **state)
{
    static const int refusals[] = {500, 503, 403, 401, 429, 400, 302, 204};
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    time_t now;
    int tried = 0;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, "1", &got);
    assert_int_equal(got.status, 200);
    now = time(NULL); /* not earlier: a revocation is due from its own second on */
    for (size_t i = 0; i < COUNT(refusals); i++) {
        int pause = i < 5 ? 15 << i : 300;

        atomic_store(&sti_pa.status, refusals[i]);
        ca_fixture_set_time(now);
        acme_server_forward(ca.server);
        assert_int_equal(atomic_load(&ca.intercepted), ++tried);
        ca_fixture_set_time(now + pause - 1);
        acme_server_forward(ca.server);
        assert_int_equal(atomic_load(&ca.intercepted), tried);
        now += pause;
    }
    assert_int_equal(accepted(), 0);
    ca_fixture_set_time(now);
    atomic_store(&sti_pa.status, 202);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 1);
}

static void
a_clock_that_was_ahead_holds_up_no_revocation(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    time_t now = time(NULL);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, "1", &got);
    atomic_store(&sti_pa.status, 503);
    ca_fixture_set_time(now + 1000000);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 0);
    atomic_store(&sti_pa.status, 202);
    ca_fixture_set_time(now);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 1);
}

static void
an_sti_pa_that_is_down_is_told_when_it_is_up(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate first;
    CLEAR_AFTER(certificate_clear) struct certificate second;
    struct acme_server_config config = ca.config;
    CLEAR_AFTER(got_clear) struct got one = {.status = 0};
    CLEAR_AFTER(got_clear) struct got two = {.status = 0};

    enrol(*state, "1234", &first);
    enrol(*state, "5678", &second);
    ca.config.revocation_url = "https://127.0.0.1:1/sti-pa/revocations"; /* no server there */
    ca_fixture_restart(&ca);
    revoke(*state, &first, "1", &one);
    revoke(*state, &second, "1", &two);
    assert_int_equal(one.status, 200);
    assert_int_equal(two.status, 200);
    acme_server_forward(ca.server);
    /* Two are due and only one is tried, because the other would fail in the same way. */
    assert_int_equal(ca_fixture_count(&ca, "SELECT CAST(sum(tries) AS BIGINT) FROM revocation"), 1);
    ca.config.revocation_url = config.revocation_url;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(time(NULL) + 15);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 2);
}

static void
what_the_sti_pa_refuses_does_not_hold_up_what_follows(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate first;
    CLEAR_AFTER(certificate_clear) struct certificate second;
    CLEAR_AFTER(got_clear) struct got one = {.status = 0};
    CLEAR_AFTER(got_clear) struct got two = {.status = 0};

    enrol(*state, "1234", &first);
    enrol(*state, "5678", &second);
    revoke(*state, &first, NULL, &one);
    revoke(*state, &second, NULL, &two);
    atomic_store(&sti_pa.status, 403);
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 2);
    assert_int_equal(accepted(), 0);
}

static void
what_ended_before_the_sti_pa_knew_is_told_no_more(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    time_t end;

    enrol(*state, "1234", &certificate);
    end = (time_t)ca_fixture_count(&ca, "SELECT max(not_after) FROM issuance");
    revoke(*state, &certificate, "1", &got);
    atomic_store(&sti_pa.status, 400);
    ca_fixture_set_time(end);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 0); /* not expired: an operator must look at it */
    ca_fixture_set_time(end + 3600);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 1);
    assert_int_equal(atomic_load(&ca.intercepted), 2);
}

static int64_t
asked_again(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM event WHERE what ="
                                 " 'revocation asked for again'");
}

static void
revoke_by_its_key(const struct certificate *certificate, struct got *got)
{
    const struct peer holder = {.key = certificate->key};
    char *payload = payload_of(certificate->der, certificate->len, "1");

    got_clear(got);
    peer_post(&ca, &holder,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .with_jwk = true},
              got);
    free(payload);
}

/* The STI-PA may have withdrawn it, but the holder of the key could repeat the request at any
 * rate. */
static void
what_is_asked_for_again_is_forwarded_again_once_an_hour(void **state)
{
    const time_t now = time(NULL);
    const int64_t before = asked_again();
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    char *serial;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    ca_fixture_set_time(now);
    revoke_by_its_key(&certificate, &got);
    assert_int_equal(got.status, 200);
    acme_server_forward(ca.server);
    for (int i = 0; i < 3; i++) {
        revoke_by_its_key(&certificate, &got);
        assert_refused(&got, 400, "alreadyRevoked");
        acme_server_forward(ca.server);
    }
    assert_int_equal(atomic_load(&ca.intercepted), 2);
    assert_int_equal(asked_again(), before + 1);
    ca_fixture_set_time(now + 3600);
    revoke_by_its_key(&certificate, &got);
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 3);
    serial = certs_cert_serial_hex(certificate.x509);
    for (int i = 0; i < 2; i++) { /* no limit for an operator */
        assert_int_equal(acme_server_revoke(ca.store, serial, 4, now + 3600), HSM_ERR_EXISTS);
        acme_server_forward(ca.server);
    }
    assert_int_equal(atomic_load(&ca.intercepted), 5);
    assert_int_equal(asked_again(), before + 4);
    free(serial);
}

/* Whether the STI-PA has the revocation or not, and however often it was asked for again. */
static void
a_compromise_is_forwarded_even_if_the_revocation_had_another_reason(void **state)
{
    const time_t now = time(NULL);
    CLEAR_AFTER(certificate_clear) struct certificate waiting;
    CLEAR_AFTER(certificate_clear) struct certificate known;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_fixture_set_time(now);
    enrol(*state, "1234", &known);
    revoke(*state, &known, "4", &got);
    acme_server_forward(ca.server);
    got_clear(&got);
    revoke(*state, &known, "4", &got); /* what is asked for again within the hour ... */
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 2);
    revoke_by_its_key(&known, &got); /* ... is not forwarded, but for this */
    assert_refused(&got, 400, "alreadyRevoked");
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 3);
    assert_int_equal(json_integer_value(json_object_get(sti_pa.told, "reason")), 1);

    atomic_store(&sti_pa.status, 503);
    enrol(*state, "1234", &waiting);
    got_clear(&got);
    revoke(*state, &waiting, "4", &got);
    acme_server_forward(ca.server);
    revoke_by_its_key(&waiting, &got);
    assert_refused(&got, 400, "alreadyRevoked");
    atomic_store(&sti_pa.status, 202);
    acme_server_forward(ca.server);
    assert_int_equal(json_integer_value(json_object_get(sti_pa.told, "reason")), 1);
    assert_int_equal(accepted(), 2);
}

static void
a_restored_sti_pa_is_told_again_what_it_has_lost(void **state)
{
    const time_t now = time(NULL);
    CLEAR_AFTER(certificate_clear) struct certificate before;
    CLEAR_AFTER(certificate_clear) struct certificate after;
    CLEAR_AFTER(certificate_clear) struct certificate ended;
    const struct certificate *const all[] = {&before, &after, &ended};
    uint8_t serial[CERTS_SERIAL_MAX];
    int64_t count = -1;

    enrol(*state, "1234", &before);
    enrol(*state, "1234", &after);
    enrol(*state, "1234", &ended);
    for (size_t i = 0; i < COUNT(all); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fixture_set_time(now + (i == 0 ? 0 : 60));
        revoke(*state, all[i], NULL, &got);
        assert_int_equal(got.status, 200);
        acme_server_forward(ca.server);
    }
    assert_int_equal(accepted(), 3);
    assert_int_equal(
        acme_store_run(ca.store, NULL, "UPDATE issuance SET not_after = ? WHERE serial = ?", "ib",
                       (int64_t)now + 120, serial, certs_cert_serial(ended.x509, serial)),
        HSM_OK);
    assert_int_equal(acme_server_revocations_resend(ca.store, now + 120, now + 120, &count),
                     HSM_OK);
    assert_int_equal(count, 0);
    assert_int_equal(acme_server_revocations_resend(ca.store, now + 60, now + 120, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_int_equal(accepted(), 2);
    ca_fixture_set_time(now + 120);
    acme_server_forward(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 4);
    assert_int_equal(accepted(), 3);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM event WHERE what ="
                                           " 'revocations sent again' AND detail = '1'"),
                     1);
}

static void
a_restart_forwards_what_a_crash_left(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, "3", &got);
    ca_fixture_restart(&ca); /* recorded but not forwarded */
    acme_server_tick(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 1);
    assert_int_equal(accepted(), 1);
    assert_int_equal(json_integer_value(json_object_get(sti_pa.told, "reason")), 3);

    /* Killed after the STI-PA accepted and before this was recorded: it is forwarded again. */
    ca_fixture_sql(&ca, "UPDATE revocation SET accepted = NULL");
    ca_fixture_restart(&ca);
    ca_fixture_set_time(time(NULL) + 15);
    acme_server_tick(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 2);
    assert_int_equal(accepted(), 1);
}

static void *
forward(void *server)
{
    acme_server_forward(server);
    return NULL;
}

static void
of_several_processes_one_forwards_a_revocation(void **state)
{
    enum {
        PROCESSES = 4
    };
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    struct acme_store *stores[PROCESSES] = {NULL};
    struct acme_server *servers[PROCESSES] = {NULL};
    pthread_t threads[PROCESSES];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, NULL, &got);
    for (size_t i = 0; i < PROCESSES; i++) {
        struct acme_server_config config = ca.config;

        assert_int_equal(
            acme_store_open(postgres_or_file(ca.store_path), acme_server_migrations, &stores[i]),
            HSM_OK);
        config.store = stores[i];
        assert_int_equal(acme_server_new(&config, &servers[i]), HSM_OK);
    }
    for (size_t i = 0; i < PROCESSES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, forward, servers[i]), 0);
    for (size_t i = 0; i < PROCESSES; i++) {
        pthread_join(threads[i], NULL);
        acme_server_free(servers[i]);
        acme_store_close(stores[i]);
    }
    assert_int_equal(atomic_load(&ca.intercepted), 1);
    assert_int_equal(accepted(), 1);
}

static void
without_an_sti_pa_a_revocation_is_durable_and_waits(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    struct acme_server_config config = ca.config;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    ca.config.revocation_url = NULL;
    ca_fixture_restart(&ca);
    revoke(*state, &certificate, NULL, &got);
    assert_int_equal(got.status, 200);
    acme_server_tick(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), 0);
    assert_int_equal(ca_fixture_count(&ca, "SELECT tries FROM revocation"), 0);
    ca.config = config;
    ca_fixture_restart(&ca);
    acme_server_tick(ca.server);
    assert_int_equal(accepted(), 1);
}

static void
a_server_is_not_made_with_half_an_account_at_the_sti_pa(void **state)
{
    struct acme_server_config config = ca.config;
    struct acme_server *server = NULL;

    (void)state;
    config.revocation_url = "http://pa.example/sti-pa/revocations";
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config = ca.config;
    config.revocation_user = NULL;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config = ca.config;
    config.revocation_password = NULL;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    assert_null(server);
}

static void
a_compromised_key_is_not_certified_again(void **state)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(certificate_clear) struct certificate certificate = {.key = NULL};
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got revoked = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};
    struct hsm_reason why = {""};

    (void)state;
    ca.config.account_key_in_csr = true;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_order_ready(&ca, &peer, "1234", &order);
    peer_finalize(&ca, &peer, &order, peer.key, "1234", false, &first);
    assert_int_equal(first.status, 200);
    certificate.der = peer_download(&ca, &peer, order.url, &certificate.len);
    assert_int_equal(
        certs_cert_parse_der(certificate.der, certificate.len, &certificate.x509, &why), HSM_OK);
    revoke(&peer, &certificate, "1", &revoked);
    assert_int_equal(revoked.status, 200);
    peer_order_ready(&ca, &peer, "1234", &order);
    peer_finalize(&ca, &peer, &order, peer.key, "1234", false, &again);
    assert_refused(&again, 400, "badCSR");
    peer_stop(&peer);
    ca.config.account_key_in_csr = false;
    ca_fixture_restart(&ca);
}

#define CASE(name) cmocka_unit_test_setup(name, revoke_group_begin)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_revocation_is_forwarded_to_the_sti_pa_once),
        CASE(what_the_sti_pa_did_not_accept_is_forwarded_again_with_back_off),
        CASE(a_clock_that_was_ahead_holds_up_no_revocation),
        CASE(an_sti_pa_that_is_down_is_told_when_it_is_up),
        CASE(what_the_sti_pa_refuses_does_not_hold_up_what_follows),
        CASE(what_ended_before_the_sti_pa_knew_is_told_no_more),
        CASE(what_is_asked_for_again_is_forwarded_again_once_an_hour),
        CASE(a_compromise_is_forwarded_even_if_the_revocation_had_another_reason),
        CASE(a_restored_sti_pa_is_told_again_what_it_has_lost),
        CASE(a_restart_forwards_what_a_crash_left),
        CASE(of_several_processes_one_forwards_a_revocation),
        CASE(without_an_sti_pa_a_revocation_is_durable_and_waits),
        CASE(a_server_is_not_made_with_half_an_account_at_the_sti_pa),
        CASE(a_compromised_key_is_not_certified_again),
    };

    return cmocka_run_group_tests(tests, revoke_group_start, revoke_group_stop);
}
