/* test_server_revoke.c - mirrors acme/src/server_revoke.c: who revokes which certificate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pthread.h>

#include <cmocka.h>

#include <certs/cert.h>
#include <hsm/defer.h>

#include "revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a certificate and requests about it ---- */

static int64_t
revocations(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM revocation");
}

/* ---- authorization ---- */

static void
the_account_that_it_was_issued_to_revokes_a_certificate_once(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    enrol(*state, "1234", &certificate);
    revoke(*state, &certificate, "1", &first);
    assert_int_equal(first.status, 200);
    assert_string_equal(first.body != NULL ? first.body : "", "");
    assert_string_not_equal(got_header(&first, "Replay-Nonce"), "");
    assert_int_equal(ca_fixture_count(&ca, "SELECT reason FROM revocation"), 1);
    revoke(*state, &certificate, "1", &second);
    assert_refused(&second, 400, "alreadyRevoked");
    assert_int_equal(revocations(), 1);
}

static void
the_key_of_a_certificate_revokes_it(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    struct peer holder = {.kid = ""};
    char *payload;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    holder.key = certificate.key;
    payload = payload_of(certificate.der, certificate.len, NULL);
    peer_post(&ca, &holder,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .with_jwk = true},
              &got);
    assert_int_equal(got.status, 200);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE reason = 0 AND"
                                           " requester = 'certificate key'"),
                     1);
    free(payload);
}

static void
an_account_that_is_authorized_for_the_spc_revokes_a_certificate_of_another(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    struct peer other;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got before = {.status = 0};
    CLEAR_AFTER(got_clear) struct got elsewhere = {.status = 0};
    CLEAR_AFTER(got_clear) struct got expired = {.status = 0};
    CLEAR_AFTER(got_clear) struct got good = {.status = 0};

    enrol(*state, "1234", &certificate);
    peer_join(&ca, &other);
    revoke(&other, &certificate, NULL, &before);
    assert_refused(&before, 403, "unauthorized");

    peer_order_ready(&ca, &other, "5678", &order); /* for another SPC */
    revoke(&other, &certificate, NULL, &elsewhere);
    assert_refused(&elsewhere, 403, "unauthorized");

    peer_order_ready(&ca, &other, "1234", &order);
    ca_fixture_sql(&ca, "UPDATE authz SET expires = expires - 100000000");
    revoke(&other, &certificate, NULL, &expired);
    assert_refused(&expired, 403, "unauthorized");
    ca_fixture_sql(&ca, "UPDATE authz SET expires = expires + 100000000");
    revoke(&other, &certificate, NULL, &good);
    assert_int_equal(good.status, 200);
    peer_stop(&other);
}

static void
nobody_else_revokes_a_certificate(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(certificate_clear) struct certificate second;
    struct peer stranger = {.kid = ""};
    char *payload;
    CLEAR_AFTER(got_clear) struct got by_other_key = {.status = 0};
    CLEAR_AFTER(got_clear) struct got by_account_key = {.status = 0};
    CLEAR_AFTER(got_clear) struct got forged = {.status = 0};
    CLEAR_AFTER(got_clear) struct got deactivated = {.status = 0};
    struct peer former;
    CLEAR_AFTER(got_clear) struct got gone = {.status = 0};

    enrol(*state, "1234", &certificate);
    enrol(*state, "1234", &second);
    payload = payload_of(certificate.der, certificate.len, NULL);
    stranger.key = second.key;
    peer_post(&ca, &stranger,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .with_jwk = true},
              &by_other_key);
    assert_refused(&by_other_key, 403, "unauthorized");
    stranger.key = ((struct peer *)*state)->key; /* a jwk is not an account */
    peer_post(&ca, &stranger,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .with_jwk = true},
              &by_account_key);
    assert_refused(&by_account_key, 403, "unauthorized");
    peer_post(
        &ca, *state,
        &(struct post){.path = "/acme/revoke-cert", .payload = payload, .break_signature = true},
        &forged);
    assert_refused(&forged, 403, "unauthorized");

    peer_join(&ca, &former);
    peer_send(&ca, &former, former.kid, "{\"status\":\"deactivated\"}", &gone);
    assert_int_equal(gone.status, 200);
    revoke(&former, &certificate, NULL, &deactivated);
    assert_refused(&deactivated, 401, "unauthorized");
    peer_stop(&former);
    free(payload);
    assert_int_equal(revocations(), 0);
}

/* ---- contents of the request ---- */

static void
a_reason_is_one_that_a_crl_may_give_for_an_end_entity(void **state)
{
    static const struct {
        const char *reason;
        const char *problem; /* NULL: accepted */
    } rows[] = {
        {"7", "badRevocationReason"},
        {"8", "badRevocationReason"},
        {"9", "badRevocationReason"},
        {"10", "badRevocationReason"},
        {"11", "badRevocationReason"},
        {"-1", "badRevocationReason"},
        {"9223372036854775807", "badRevocationReason"},
        {"1.0", "malformed"},
        {"\"1\"", "malformed"},
        {"null", "malformed"},
        {"true", "malformed"},
        {"[1]", "malformed"},
        {"6", NULL},
    };
    CLEAR_AFTER(certificate_clear) struct certificate certificate;

    enrol(*state, "1234", &certificate);
    for (size_t i = 0; i < COUNT(rows); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        revoke(*state, &certificate, rows[i].reason, &got);
        if (rows[i].problem != NULL)
            assert_refused(&got, 400, rows[i].problem);
        else
            assert_int_equal(got.status, 200);
    }
    assert_int_equal(ca_fixture_count(&ca, "SELECT reason FROM revocation"), 6);
}

static void
what_names_no_certificate_is_malformed(void **state)
{
    static const char *const payloads[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"certificate\":1}",
        "{\"certificate\":\"\"}",
        "{\"certificate\":\"****\"}",
        "{\"certificate\":\"MAA\"}",
        "{\"certificate\":\"MAA\",\"certificate\":\"MAA\"}",
        "{\"certificate\":\"MAA=\"}",
    };

    for (size_t i = 0; i < COUNT(payloads); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, "/acme/revoke-cert", payloads[i], &got);
        if (got.status != 400 || strcmp(got_problem(&got), "malformed") != 0)
            fail_msg("%s: %d %s", payloads[i], got.status, got.body);
    }
}

/* One bit of the certificate's signature is changed; a certificate of another CA would look the
 * same. */
static void
what_this_ca_did_not_issue_is_not_found(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got changed = {.status = 0};
    CLEAR_AFTER(got_clear) struct got root = {.status = 0};
    uint8_t *der = NULL;
    size_t len;
    char *payload;

    enrol(*state, "1234", &certificate);
    certificate.der[certificate.len - 1] ^= 1;
    revoke(*state, &certificate, NULL, &changed);
    assert_refused(&changed, 404, "malformed");
    assert_int_equal(certs_cert_der(certs_chain_get(ca.root, 0), &der, &len), HSM_OK);
    payload = payload_of(der, len, NULL);
    peer_send(&ca, *state, "/acme/revoke-cert", payload, &root);
    assert_refused(&root, 404, "malformed");
    free(payload);
    free(der);
    assert_int_equal(revocations(), 0);
}

static void
an_expired_certificate_is_not_revoked(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    ca_fixture_set_time(certs_cert_not_after(certificate.x509) + 1);
    revoke(*state, &certificate, NULL, &got);
    ca_fixture_set_time(0);
    assert_refused(&got, 403, "unauthorized");
    assert_int_equal(revocations(), 0);
}

static void
a_request_is_signed_by_exactly_one_of_jwk_and_kid_over_this_url(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    CLEAR_AFTER(got_clear) struct got neither = {.status = 0};
    CLEAR_AFTER(got_clear) struct got elsewhere = {.status = 0};
    CLEAR_AFTER(got_clear) struct got replayed = {.status = 0};
    CLEAR_AFTER(got_clear) struct got get = {.status = 0};
    char *payload;

    enrol(*state, "1234", &certificate);
    payload = payload_of(certificate.der, certificate.len, NULL);
    peer_post(&ca, *state,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .without_key = true},
              &neither);
    assert_refused(&neither, 400, "malformed");
    peer_post(&ca, *state,
              &(struct post){.path = "/acme/revoke-cert",
                             .payload = payload,
                             .url = "https://ca.example/acme/revoke-cert"},
              &elsewhere);
    assert_refused(&elsewhere, 403, "unauthorized");
    peer_post(&ca, *state,
              &(struct post){.path = "/acme/revoke-cert", .payload = payload, .nonce = "AAAA"},
              &replayed);
    assert_refused(&replayed, 400, "badNonce");
    ca_fetch(&ca, "GET", "/acme/revoke-cert", NULL, NULL, &get);
    assert_int_equal(get.status, 405);
    free(payload);
    assert_int_equal(revocations(), 0);
}

struct racer {
    struct peer *peer;
    const struct certificate *certificate;
    int status;
};

static void *
race(void *context)
{
    struct racer *racer = context;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    revoke(racer->peer, racer->certificate, NULL, &got);
    racer->status = got.status;
    return NULL;
}

static void
of_many_requests_at_once_one_revokes(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    struct racer racers[8];
    pthread_t threads[COUNT(racers)];
    int good = 0;

    enrol(*state, "1234", &certificate);
    for (size_t i = 0; i < COUNT(racers); i++) {
        racers[i] = (struct racer){.peer = *state, .certificate = &certificate};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < COUNT(racers); i++) {
        pthread_join(threads[i], NULL);
        assert_true(racers[i].status == 200 || racers[i].status == 400);
        good += racers[i].status == 200;
    }
    assert_int_equal(good, 1);
    assert_int_equal(revocations(), 1);
}

/* ---- the operator ---- */

static void
an_operator_revokes_by_serial(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate;
    char *serial;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    enrol(*state, "1234", &certificate);
    serial = certs_cert_serial_hex(certificate.x509);
    assert_int_equal(acme_server_revoke(ca.store, serial, 7, time(NULL)), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_revoke(ca.store, serial, -1, time(NULL)), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_revoke(ca.store, "", 0, time(NULL)), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_revoke(ca.store, "0g", 0, time(NULL)), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_revoke(ca.store, "012", 0, time(NULL)), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_revoke(ca.store, "0102", 0, time(NULL)), HSM_ERR_NOT_FOUND);
    assert_int_equal(revocations(), 0);
    assert_int_equal(acme_server_revoke(ca.store, serial, 4, time(NULL)), HSM_OK);
    assert_int_equal(acme_server_revoke(ca.store, serial, 4, time(NULL)), HSM_ERR_EXISTS);
    revoke(*state, &certificate, NULL, &got);
    assert_refused(&got, 400, "alreadyRevoked");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE reason = 4 AND"
                                           " requester = 'operator'"),
                     1);
    free(serial);
}

#define CASE(name) cmocka_unit_test_setup(name, revoke_group_begin)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_account_that_it_was_issued_to_revokes_a_certificate_once),
        CASE(the_key_of_a_certificate_revokes_it),
        CASE(an_account_that_is_authorized_for_the_spc_revokes_a_certificate_of_another),
        CASE(nobody_else_revokes_a_certificate),
        CASE(a_reason_is_one_that_a_crl_may_give_for_an_end_entity),
        CASE(what_names_no_certificate_is_malformed),
        CASE(what_this_ca_did_not_issue_is_not_found),
        CASE(an_expired_certificate_is_not_revoked),
        CASE(a_request_is_signed_by_exactly_one_of_jwk_and_kid_over_this_url),
        CASE(of_many_requests_at_once_one_revokes),
        CASE(an_operator_revokes_by_serial),
    };

    return cmocka_run_group_tests(tests, revoke_group_start, revoke_group_stop);
}
