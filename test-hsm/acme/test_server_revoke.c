/* test_server_revoke.c - mirrors acme/src/server_revoke.c: revokeCert, with the STI-PA reachable or
 * not. */
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

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/time.h>

#include "ca_group.h"
#include "peer.h"
#include "postgres.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PASSWORD     "a pass word"

/* ---- a certificate and requests about it ---- */

struct certificate {
    EVP_PKEY *key;
    uint8_t *der;
    size_t len;
    X509 *x509;
};

static void
certificate_clear(struct certificate *certificate)
{
    EVP_PKEY_free(certificate->key);
    free(certificate->der);
    X509_free(certificate->x509);
}

static void
enrol(const struct peer *peer, const char *spc, struct certificate *out)
{
    struct peer_order order;
    struct hsm_reason why = {""};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    *out = (struct certificate){.key = peer_key_new("P-256")};
    peer_order_ready(&ca, peer, spc, &order);
    peer_finalize(&ca, peer, &order, out->key, spc, false, &got);
    assert_int_equal(got.status, 200);
    out->der = peer_download(&ca, peer, order.url, &out->len);
    assert_int_equal(certs_cert_parse_der(out->der, out->len, &out->x509, &why), HSM_OK);
}

/* free() the result. @param reason  JSON text; NULL: absent */
static char *
payload_of(const uint8_t *der, size_t len, const char *reason)
{
    char *text = acme_base64url_encode(der, len), *payload = NULL;

    if (text == NULL ||
        asprintf(&payload, "{\"certificate\":\"%s\"%s%s}", text,
                 reason != NULL ? ",\"reason\":" : "", reason != NULL ? reason : "") < 0)
        abort();
    free(text);
    return payload;
}

static void
revoke(const struct peer *peer, const struct certificate *certificate, const char *reason,
       struct got *got)
{
    char *payload = payload_of(certificate->der, certificate->len, reason);

    peer_send(&ca, peer, "/acme/revoke-cert", payload, got);
    free(payload);
}

static void
assert_refused(const struct got *got, int status, const char *problem)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%d %s, not %d %s", got->status, got->body, status, problem);
    assert_string_not_equal(got_header(got, "Replay-Nonce"), "");
}

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

/* ---- the STI-PA ---- */

/* The STI-PA's answer, and the last request to it. */
static struct {
    atomic_int status;
    pthread_mutex_t mutex;
    char *authorization, *content_type;
    json_t *told;
} pa = {.status = 200, .mutex = PTHREAD_MUTEX_INITIALIZER};

static void
pa_forget(void)
{
    free(pa.authorization);
    free(pa.content_type);
    json_decref(pa.told);
    pa.authorization = pa.content_type = NULL;
    pa.told = NULL;
}

static bool
answer_as_pa(struct ca_fixture *fixture, const struct acme_http_request *request,
             struct acme_http_response *response)
{
    const char *authorization = acme_http_request_header(request, "Authorization");
    const char *type = acme_http_request_header(request, "Content-Type");

    if (strcmp(acme_http_request_path(request), "/sti-pa/revocations") != 0)
        return false;
    pthread_mutex_lock(&pa.mutex);
    pa_forget();
    pa.authorization = strdup(authorization != NULL ? authorization : "");
    pa.content_type = strdup(type != NULL ? type : "");
    pa.told = json_loads(acme_http_request_body(request, NULL), 0, NULL);
    pthread_mutex_unlock(&pa.mutex);
    atomic_fetch_add(&fixture->intercepted, 1);
    acme_http_respond_json(response, atomic_load(&pa.status), "application/json",
                           json_pack("{s:s, s:s}", "status",
                                     atomic_load(&pa.status) < 300 ? "success" : "error", "message",
                                     "as the test says"));
    return true;
}

static void
assert_told(const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(pa.told, name));

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
    assert_string_equal(pa.authorization, header);
    assert_string_equal(pa.content_type, "application/json");
    assert_told("issuer", issuer_text);
    assert_told("serial", serial);
    assert_int_equal(json_integer_value(json_object_get(pa.told, "reason")), 1);
    assert_true(asprintf(&requester, "account %s", strrchr(account.kid, '/') + 1) > 0);
    assert_told("requester", requester);
    hsm_time_format(certs_cert_not_after(certificate.x509), not_after);
    assert_told("notAfter", not_after);
    assert_int_equal(json_object_size(pa.told), 5);
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

        atomic_store(&pa.status, refusals[i]);
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
    atomic_store(&pa.status, 202);
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
    atomic_store(&pa.status, 503);
    ca_fixture_set_time(now + 1000000);
    acme_server_forward(ca.server);
    assert_int_equal(accepted(), 0);
    atomic_store(&pa.status, 202);
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
    atomic_store(&pa.status, 403);
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
    atomic_store(&pa.status, 400);
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
    assert_int_equal(json_integer_value(json_object_get(pa.told, "reason")), 3);

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

/* ---- the store of a former version ---- */

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

/* ---- the group ---- */

static struct hsm_secret *password;
static char revocation_url[128];

static int
start(void **state)
{
    ca_group_start(state);
    if (hsm_secret_new(PASSWORD, strlen(PASSWORD), &password) != HSM_OK)
        return -1;
    snprintf(revocation_url, sizeof(revocation_url), "%s/sti-pa/revocations", ca.pa.base_url);
    ca.config.revocation_url = revocation_url;
    ca.config.revocation_user = "sti-ca";
    ca.config.revocation_password = password;
    ca.intercept = answer_as_pa;
    ca_fixture_restart(&ca);
    return 0;
}

static int
begin(void **state)
{
    (void)state;
    ca_fixture_set_time(0);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    atomic_store(&ca.intercepted, 0);
    atomic_store(&pa.status, 200);
    return 0;
}

static int
stop(void **state)
{
    hsm_secret_free(password);
    pa_forget();
    return ca_group_stop(state);
}

#define CASE(name) cmocka_unit_test_setup(name, begin)

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
        CASE(a_revocation_is_forwarded_to_the_sti_pa_once),
        CASE(what_the_sti_pa_did_not_accept_is_forwarded_again_with_back_off),
        CASE(a_clock_that_was_ahead_holds_up_no_revocation),
        CASE(an_sti_pa_that_is_down_is_told_when_it_is_up),
        CASE(what_the_sti_pa_refuses_does_not_hold_up_what_follows),
        CASE(what_ended_before_the_sti_pa_knew_is_told_no_more),
        CASE(what_is_asked_for_again_is_forwarded_again_once_an_hour),
        CASE(a_restored_sti_pa_is_told_again_what_it_has_lost),
        CASE(a_restart_forwards_what_a_crash_left),
        CASE(of_several_processes_one_forwards_a_revocation),
        CASE(without_an_sti_pa_a_revocation_is_durable_and_waits),
        CASE(a_server_is_not_made_with_half_an_account_at_the_sti_pa),
        CASE(a_compromised_key_is_not_certified_again),
        CASE(a_store_of_every_former_version_is_taken_further),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
