/* test_server_crl.c - mirrors acme/src/server_crl.c: certificates that the STI-PA revokes without a
 * request of the STI-CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <hsm/defer.h>

#include "ca_group.h"

#define DAY 86400

static char crl_url[128];

/* ---- the STI-PA ---- */

static struct {
    uint8_t *der; /* NULL: the STI-PA is down */
    size_t len;
    uint64_t number;
} published;

static bool
answer_crl(struct ca_fixture *fixture, const struct acme_http_request *request,
           struct acme_http_response *response)
{
    if (strcmp(acme_http_request_path(request), "/crl") != 0)
        return false;
    atomic_fetch_add(&fixture->intercepted, 1);
    if (published.der != NULL)
        acme_http_respond(response, 200, "application/pkix-crl", published.der, published.len);
    else
        acme_http_respond(response, 503, "text/plain", "", 0);
    return true;
}

static void
publish_all(const struct certs_crl_entry *entries, size_t count)
{
    const struct certs_crl_request request = {
        .number = ++published.number,
        .this_update = ca_fixture_time() - 60,
        .next_update = ca_fixture_time() + DAY,
        .url = crl_url,
        .entries = entries,
        .count = count,
    };

    free(published.der);
    published.der = NULL;
    assert_int_equal(certs_crl_new(&request, certs_chain_get(ca.pa.crl_chain, 0), ca.pa.crl_key,
                                   &published.der, &published.len),
                     HSM_OK);
}

static void
publish(const struct certs_crl_entry *entry)
{
    publish_all(entry, entry != NULL ? 1 : 0);
}

/* As the process does that holds the duty. */
static void
look_at_crl(void)
{
    ca_fixture_restart(&ca);
    ca_fixture_sql(&ca, "DELETE FROM duty");
    acme_server_tick(ca.server);
}

/* ---- certificates and revocations ---- */

struct certificate {
    uint8_t *der;
    size_t len;
    X509 *x509;
};

static void
certificate_clear(struct certificate *certificate)
{
    free(certificate->der);
    X509_free(certificate->x509);
}

static void
enrol(struct certificate *out)
{
    struct peer_order order;

    peer_enrol(&ca, &account, "1234", &order);
    out->der = peer_download(&ca, &account, order.url, &out->len);
    assert_int_equal(certs_cert_parse_der(out->der, out->len, &out->x509, NULL), HSM_OK);
}

static struct certs_crl_entry
entry_of(const struct certificate *certificate, int reason)
{
    struct certs_crl_entry entry;

    assert_int_equal(certs_crl_entry_of(certificate->x509, &entry, NULL), HSM_OK);
    entry.reason = reason;
    entry.revoked_at = ca_fixture_time() - 120;
    return entry;
}

static int64_t
revocations(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM revocation");
}

/* RFC 9773: whether the window suggested by renewalInfo has passed. */
static bool
is_to_be_renewed(const struct certificate *certificate)
{
    const ASN1_OCTET_STRING *key_id = X509_get0_authority_key_id(certificate->x509);
    uint8_t serial[CERTS_SERIAL_MAX];
    size_t len = certs_cert_serial(certificate->x509, serial);
    char *first =
        acme_base64url_encode(ASN1_STRING_get0_data(key_id), (size_t)ASN1_STRING_length(key_id));
    char *second = acme_base64url_encode(serial, len), path[256], now[32];
    time_t t = ca_fixture_time();
    bool passed;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    snprintf(path, sizeof(path), "/acme/renewal-info/%s.%s", first, second);
    ca_fetch(&ca, "GET", path, NULL, NULL, &got);
    assert_int_equal(got.status, 200);
    strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime(&t));
    passed = strcmp(json_string_value(
                        json_object_get(json_object_get(got.json, "suggestedWindow"), "end")),
                    now) < 0;
    free(first);
    free(second);
    return passed;
}

static void
assert_revoke_is(const struct certificate *certificate, int status, const char *problem)
{
    char *text = acme_base64url_encode(certificate->der, certificate->len);
    json_t *object = json_pack("{s:s}", "certificate", text);
    char *payload = json_dumps(object, JSON_COMPACT);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_send(&ca, &account, "/acme/revoke-cert", payload, &got);
    assert_int_equal(got.status, status);
    assert_string_equal(got_problem(&got), problem);
    free(payload);
    json_decref(object);
    free(text);
}

/* ---- the tests ---- */

static void
what_the_sti_pa_revokes_is_revoked_here(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate revoked = {.der = NULL}, good = {.der = NULL};
    struct certs_crl_entry entry;

    (void)state;
    enrol(&revoked);
    enrol(&good);
    entry = entry_of(&revoked, 4);
    assert_false(is_to_be_renewed(&revoked));
    publish(&entry);
    look_at_crl();
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE reason = 4 AND"
                                           " requester = 'STI-PA' AND accepted IS NOT NULL"),
                     1);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM event WHERE who = 'STI-PA' AND"
                                           " what = 'certificate revoked' AND detail ="
                                           " 'superseded'"),
                     1);
    assert_true(is_to_be_renewed(&revoked));
    assert_false(is_to_be_renewed(&good));
    assert_revoke_is(&revoked, 400, "alreadyRevoked");
    look_at_crl(); /* the same CRL again */
    assert_int_equal(revocations(), 1);
    assert_revoke_is(&good, 200, "");
}

/* The STI-PA may have withdrawn it since; a missing CRL entry does not show whether it was
 * withdrawn or had expired. */
static void
what_the_sti_pa_revoked_is_asked_for_again(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate revoked = {.der = NULL};
    struct certs_crl_entry entry;
    char *serial;

    (void)state;
    enrol(&revoked);
    entry = entry_of(&revoked, 4);
    publish(&entry);
    look_at_crl();
    publish(NULL);
    look_at_crl();
    assert_revoke_is(&revoked, 400, "alreadyRevoked");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE accepted IS NULL"
                                           " AND tries = 0 AND reason = 0 AND"
                                           " requester LIKE 'account %'"),
                     1);
    serial = certs_cert_serial_hex(revoked.x509);
    ca_fixture_sql(&ca, "UPDATE revocation SET accepted = 1, reason = 1, tries = 3");
    assert_int_equal(acme_server_revoke(ca.store, serial, 4, ca_fixture_time()), HSM_ERR_EXISTS);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE accepted IS NULL"
                                           " AND tries = 0 AND reason = 1 AND"
                                           " requester = 'operator'"),
                     1);
    free(serial);
}

static void
what_another_ca_issued_under_the_same_serial_is_not_ours(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate = {.der = NULL};
    struct certs_crl_entry entry;

    (void)state;
    enrol(&certificate);
    entry = entry_of(&certificate, 1);
    entry.issuer = certs_cert_subject_name(certs_chain_get(ca.root, 0));
    publish(&entry);
    look_at_crl();
    assert_int_equal(revocations(), 0);
    entry = entry_of(&certificate, 1);
    entry.serial[0] ^= 1; /* also one that was never issued */
    publish(&entry);
    look_at_crl();
    assert_int_equal(revocations(), 0);
}

/* The issuing key certified under another name, with the root; certs_chain_free() it. */
static struct certs_chain *
renamed_issuing(void)
{
    struct certs_issue_request request = {
        .profile = CERTS_PROFILE_STI_INTERMEDIATE,
        .subject = {.country = "US",
                    .organization = "STI-CA Example",
                    .common_name = "SHAKEN Next"},
        .public_key = hsm_key_public(ca.issuing_key),
        .not_before = time(NULL) - DAY,
        .not_after = time(NULL) + 365 * DAY,
        .policy_oid = CERTS_POLICY_CP_1_4,
        .crl_url = crl_url,
        .crl_issuer = certs_cert_subject_name(certs_chain_get(ca.pa.crl_chain, 0)),
    };
    struct certs_chain *chain = NULL;
    X509 *cert = NULL;

    assert_int_equal(certs_serial_new(ca.pa.token, request.serial, &request.serial_len), HSM_OK);
    assert_int_equal(certs_issue(&request, certs_chain_get(ca.root, 0), ca.root_key, &cert, NULL),
                     HSM_OK);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    assert_int_equal(certs_chain_append(chain, ca.root), HSM_OK);
    X509_free(cert);
    return chain;
}

static void
a_certificate_of_a_former_issuing_certificate_is_ours(void **state)
{
    struct certs_chain *renamed = renamed_issuing();
    CLEAR_AFTER(certificate_clear) struct certificate certificate = {.der = NULL};
    struct certs_crl_entry entry;

    (void)state;
    enrol(&certificate);
    entry = entry_of(&certificate, 1);
    publish(&entry);
    ca.config.issuing_chain = renamed;
    look_at_crl();
    ca.config.issuing_chain = ca.issuing_chain;
    assert_int_equal(revocations(), 1);
    ca_fixture_restart(&ca);
    certs_chain_free(renamed);
}

/* Our entry is the last of more entries than one transaction processes. */
static void
a_long_crl_is_taken_whole(void **state)
{
    enum {
        OTHERS = 1200
    };
    CLEAR_AFTER(certificate_clear) struct certificate certificate = {.der = NULL};
    struct certs_crl_entry *entries = calloc(OTHERS + 1, sizeof(*entries));

    (void)state;
    assert_non_null(entries);
    enrol(&certificate);
    for (size_t i = 0; i <= OTHERS; i++) {
        entries[i] = entry_of(&certificate, 1);
        if (i < OTHERS) { /* serials never issued, below ours */
            entries[i].serial[0] = 0x01;
            entries[i].serial[1] = (uint8_t)(i >> 8);
            entries[i].serial[2] = (uint8_t)i;
            entries[i].serial_len = 3;
        }
    }
    publish_all(entries, OTHERS + 1);
    look_at_crl();
    assert_int_equal(revocations(), 1);
    free(entries);
}

static void
a_crl_that_is_not_good_revokes_nothing(void **state)
{
    CLEAR_AFTER(certificate_clear) struct certificate certificate = {.der = NULL};
    struct certs_crl_entry entry;

    (void)state;
    enrol(&certificate);
    entry = entry_of(&certificate, 1);
    publish(&entry);
    ca.config.crl_signer = ca.pa.signer_chain; /* not its signer */
    look_at_crl();
    ca.config.crl_signer = ca.pa.crl_chain;
    published.der[published.len - 1] ^= 1;
    look_at_crl();
    publish(&entry);
    ca_fixture_set_time(time(NULL) + 2 * DAY); /* expired */
    look_at_crl();
    ca_fixture_set_time(0);
    free(published.der);
    published.der = NULL; /* unreachable */
    look_at_crl();
    assert_int_equal(revocations(), 0);
    publish(&entry);
    look_at_crl();
    assert_int_equal(revocations(), 1);
}

static void
one_process_looks_at_it_every_five_minutes(void **state)
{
    int before;

    (void)state;
    publish(NULL);
    look_at_crl();
    before = atomic_load(&ca.intercepted);
    acme_server_tick(ca.server);
    ca_fixture_restart(&ca); /* another process */
    acme_server_tick(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), before);
    ca_fixture_set_time(time(NULL) + 301);
    ca_fixture_restart(&ca);
    acme_server_tick(ca.server);
    assert_int_equal(atomic_load(&ca.intercepted), before + 1);
}

static int
begin(void **state)
{
    (void)state;
    ca_fixture_set_time(0);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    return 0;
}

static int
start(void **state)
{
    ca_group_start(state);
    snprintf(crl_url, sizeof(crl_url), "%s/crl", ca.pa.base_url);
    ca.config.crl_url = crl_url;
    ca.config.crl_signer = ca.pa.crl_chain;
    ca.intercept = answer_crl;
    ca_fixture_restart(&ca);
    return 0;
}

static int
stop(void **state)
{
    free(published.der);
    return ca_group_stop(state);
}

#define CASE(name) cmocka_unit_test_setup(name, begin)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_the_sti_pa_revokes_is_revoked_here),
        CASE(what_the_sti_pa_revoked_is_asked_for_again),
        CASE(what_another_ca_issued_under_the_same_serial_is_not_ours),
        CASE(a_certificate_of_a_former_issuing_certificate_is_ours),
        CASE(a_long_crl_is_taken_whole),
        CASE(a_crl_that_is_not_good_revokes_nothing),
        CASE(one_process_looks_at_it_every_five_minutes),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
