/* test_authority_revoke.c - mirrors acme/src/authority_revoke.c: requests of STI-CAs, and our
 * client. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include <jansson.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/base64url.h>
#include <certs/crl.h>
#include <certs/issue.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "authority_revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- requests ---- */

static char *
basic(const char *user, const char *password)
{
    char pair[256], *encoded, *header = NULL;

    snprintf(pair, sizeof(pair), "%s:%s", user, password);
    encoded = acme_base64_encode(pair, strlen(pair));
    if (encoded == NULL || asprintf(&header, "Basic %s", encoded) < 0)
        abort();
    free(encoded);
    return header;
}

/* ---- an STI-CA ---- */

static void
what_an_sti_ca_revokes_is_on_the_crl_at_once(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *other = enrol(&one, "1234");
    struct certs_crl_entry entry = {.issuer = NULL};
    struct certs_crl *crl;
    uint64_t before = crl_number();

    (void)state;
    assert_false(is_on_crl(chain));
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    crl = fetch_crl();
    assert_int_equal(certs_crl_number(crl), before + 1);
    assert_int_equal(certs_crl_find(crl, certs_chain_get(chain, 0), &entry), HSM_OK);
    assert_int_equal(entry.reason, 1);
    assert_in_range(entry.revoked_at, time(NULL) - 60, time(NULL) + 1);
    assert_false(certs_crl_has(crl, certs_chain_get(other, 0)));
    certs_crl_free(crl);
    certs_chain_free(other);
    certs_chain_free(chain);
}

static void
the_same_request_again_changes_nothing(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_crl_entry entry = {.issuer = NULL};
    struct certs_crl *crl;
    uint64_t number;
    json_t *upper = plea_of(chain, 1);
    char *serial = strdup(json_string_value(json_object_get(upper, "serial")));
    char *padded = NULL;

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    number = crl_number();
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 4)), 200); /* the first reason stays */
    /* Upper case, with the leading zeros that others write. */
    for (char *c = serial; *c != '\0'; c++)
        *c = *c >= 'a' ? (char)(*c - 'a' + 'A') : *c;
    assert_true(asprintf(&padded, "0000%s", serial) > 0);
    json_object_set_new(upper, "serial", json_string(padded));
    assert_int_equal(ask("ca-one", upper), 200);
    assert_int_equal(crl_number(), number);
    crl = fetch_crl();
    assert_int_equal(certs_crl_find(crl, certs_chain_get(chain, 0), &entry), HSM_OK);
    assert_int_equal(entry.reason, 1);
    certs_crl_free(crl);
    free(padded);
    free(serial);
    certs_chain_free(chain);
}

/* "Bearer TOKEN" of ca-one; free() it. */
static char *
log_in(void)
{
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const char *login = "{\"userId\":\"ca-one\",\"password\":\"" PASSWORD "\"}";
    char url[128], *authorization = NULL;
    json_t *session;

    snprintf(url, sizeof(url), "%s/api/v1/auth/login", pa.base_url);
    assert_int_equal(acme_http_fetch(pa.http,
                                     &(struct acme_http_fetch){.method = "POST",
                                                               .url = url,
                                                               .content_type = "application/json",
                                                               .body = login,
                                                               .body_len = strlen(login),
                                                               .reply_max = 65536,
                                                               .timeout_ms = 30000},
                                     &reply, &why),
                     HSM_OK);
    session = json_loadb(reply.body, reply.body_len, 0, NULL);
    assert_true(asprintf(&authorization, "Bearer %s",
                         json_string_value(json_object_get(session, "accessToken"))) > 0);
    json_decref(session);
    acme_http_reply_clear(&reply);
    return authorization;
}

static void
an_access_token_is_as_good_as_a_password(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 0);
    char *body = json_dumps(plea, 0);
    char *authorization = log_in();

    (void)state;
    assert_int_equal(post(authorization, "application/json", body, NULL), 200);
    assert_true(is_on_crl(chain));
    free(authorization);
    free(body);
    json_decref(plea);
    certs_chain_free(chain);
}

static void
an_sti_ca_revokes_its_own_issuing_certificate_too(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *issuing = NULL;

    (void)state;
    must(certs_chain_new(&issuing), "chain");
    must(certs_chain_add(issuing, certs_chain_get(two.chain, 0)), "chain");
    assert_int_equal(ask("ca-two", plea_of(issuing, 2)), 200);
    assert_true(is_on_crl(issuing));
    certs_chain_free(issuing);
    certs_chain_free(chain);
}

static void
an_operator_revokes_what_nobody_asked_for(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    X509 *cert = certs_chain_get(chain, 0);

    (void)state;
    for (int reason = 7; reason <= 8; reason++)
        assert_int_equal(acme_authority_revocation_add(store, cert, reason, time(NULL)),
                         HSM_ERR_MALFORMED);
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(pa.signer_chain, 0), 1, time(NULL)),
        HSM_ERR_NOT_FOUND);
    assert_false(is_on_crl(chain));
    assert_int_equal(acme_authority_revocation_add(store, cert, 9, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chain));
    assert_int_equal(acme_authority_revocation_add(store, cert, 9, time(NULL)), HSM_ERR_EXISTS);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200); /* the STI-CA may ask as well */
    assert_int_equal(count("SELECT count(*) FROM event WHERE what = 'certificate revoked' AND"
                           " who LIKE 'operator %' AND detail = 'the operator'"),
                     1);
    certs_chain_free(chain);
}

static void
an_operator_revokes_what_was_asked_for_and_waits(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 0, time(NULL)),
                     HSM_OK);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

static void
an_sti_ca_does_not_revoke_what_another_one_issued(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");
    char *message = NULL, *authorization = basic("ca-two", PASSWORD), *body;
    json_t *plea = plea_of(chain, 1);

    (void)state;
    body = json_dumps(plea, 0);
    assert_int_equal(post(authorization, "application/json", body, &message), 403);
    assert_string_equal(message, "the issuer is not of this account");
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    assert_false(is_on_crl(chain));
    /* A chain does not help an STI-CA: chains are for service providers. */
    assert_int_equal(ask("ca-two", with_chain(plea_of(chain, 1), chain)), 403);
    free(message);
    free(authorization);
    free(body);
    json_decref(plea);
    certs_chain_free(chain);
}

static void
an_sti_ca_has_no_spc_tokens(void **state)
{
    char url[128], *authorization = basic("ca-one", PASSWORD);
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const char *body =
        "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNA\",\"fingerprint\":"
        "\"SHA256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:"
        "00:00:00:00:00\"}";

    (void)state;
    snprintf(url, sizeof(url), "%s/at/account/ca1/token", pa.base_url);
    assert_int_equal(acme_http_fetch(pa.http,
                                     &(struct acme_http_fetch){.method = "POST",
                                                               .url = url,
                                                               .content_type = "application/json",
                                                               .authorization = authorization,
                                                               .body = body,
                                                               .body_len = strlen(body),
                                                               .reply_max = 65536,
                                                               .timeout_ms = 30000},
                                     &reply, &why),
                     HSM_OK);
    assert_int_equal(reply.status, 403);
    acme_http_reply_clear(&reply);
    free(authorization);
}

/* ---- bodies ---- */

static void
a_body_with_one_fault_is_refused(void **state)
{
    static const struct {
        const char *name, *value; /* JSON; NULL: absent */
        int status;
    } rows[] = {
        {"issuer", NULL, 400},
        {"serial", NULL, 400},
        {"reason", NULL, 400},
        {"requester", NULL, 400},
        {"issuer", "1", 400},
        {"issuer", "\"\"", 400},
        {"issuer", "\"****\"", 400},
        {"issuer", "\"MAM=\"", 400}, /* not a name */
        {"issuer", "\"MAA=\"", 403}, /* an empty name */
        {"serial", "1", 400},
        {"serial", "\"\"", 400},
        {"serial", "\"0\"", 400},
        {"serial", "\"00\"", 400},
        {"serial", "\"0g\"", 400},
        {"serial", "\"-1\"", 400},
        {"serial", "\"0x12\"", 400},
        {"serial", "\"0102030405060708091011121314151617181920ff\"", 400},
        {"serial", "\"8102030405060708091011121314151617181920\"", 400}, /* 21 octets with its 00 */
        {"reason", "7", 400},
        {"reason", "8", 400},
        {"reason", "11", 400},
        {"reason", "-1", 400},
        {"reason", "1.5", 400},
        {"reason", "\"1\"", 400},
        {"requester", "\"\"", 400},
        {"requester", "\"a\\nb\"", 400},
        {"requester", "\"\\u007f\"", 400},
        {"requester", "\"\\u009b2K\"", 400}, /* CSI: erase the line */
        {"requester", "\"\\u202etset\"", 400}, /* right-to-left override */
        {"requester", "\"\\u2028\"", 400},
        {"requester", "7", 400},
        {"chain", "7", 400},
        {"notAfter", "7", 400},
        {"notAfter", "\"\"", 400},
        {"notAfter", "\"2026-01-15\"", 400},
        {"notAfter", "\"1969-12-31T23:59:59Z\"", 400},
        {"notAfter", "\"2001-01-15T12:00:00Z\"", 400}, /* past */
        {"notAfter", "\"9999-12-31T23:59:59Z\"", 400}, /* no entry stays forever */
    };
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *plea = plea_of(chain, 1);
        int status;

        if (rows[i].value == NULL)
            json_object_del(plea, rows[i].name);
        else
            json_object_set_new(plea, rows[i].name,
                                json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        status = ask("ca-one", plea);
        if (status != rows[i].status)
            fail_msg("%s %s: %d", rows[i].name, rows[i].value != NULL ? rows[i].value : "missing",
                     status);
    }
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(chain);
}

static void
a_member_that_is_too_long_is_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char text[ACME_AUTHORITY_REQUESTER_MAX + 2] = "", *issuer = calloc(1, 8193);

    (void)state;
    memset(text, 'r', ACME_AUTHORITY_REQUESTER_MAX + 1);
    json_object_set_new(plea, "requester", json_string(text));
    assert_int_equal(ask("ca-one", plea), 400);
    assert_non_null(issuer);
    memset(issuer, 'A', 8192);
    plea = plea_of(chain, 1);
    json_object_set_new(plea, "issuer", json_string(issuer));
    assert_int_equal(ask("ca-one", plea), 400);
    text[ACME_AUTHORITY_REQUESTER_MAX] = '\0';
    plea = plea_of(chain, 1);
    json_object_set_new(plea, "requester", json_string(text));
    assert_int_equal(ask("ca-one", plea), 200);
    free(issuer);
    certs_chain_free(chain);
}

static void
what_is_no_request_is_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char *good = json_dumps(plea, JSON_COMPACT), *twice = NULL;
    char *authorization = basic("ca-one", PASSWORD), *wrong = basic("ca-one", "guess");
    char *unknown = basic("ca-none", PASSWORD);
    const char *const bodies[] = {"", "{", "[]", "null", "7"};

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++)
        assert_int_equal(post(authorization, "application/json", bodies[i], NULL), 400);
    assert_true(asprintf(&twice, "{\"reason\":1,%s", good + 1) > 0);
    assert_int_equal(post(authorization, "application/json", twice, NULL), 400);
    assert_int_equal(post(authorization, "text/plain", good, NULL), 415);
    assert_int_equal(post(NULL, "application/json", good, NULL), 401);
    assert_int_equal(post(wrong, "application/json", good, NULL), 403);
    assert_int_equal(post(unknown, "application/json", good, NULL), 403);
    assert_int_equal(post("Bearer nonsense", "application/json", good, NULL), 403);
    assert_false(is_on_crl(chain));
    free(unknown);
    free(wrong);
    free(authorization);
    free(twice);
    free(good);
    json_decref(plea);
    certs_chain_free(chain);
}

/* ---- the client ---- */

static void
the_client_tells_a_queued_request_from_one_that_is_done(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_crl_entry entry = {.serial_len = 0};
    struct hsm_secret *password = NULL;
    struct hsm_reason why = {""};
    char url[128], *pem = NULL;
    bool queued = false;
    struct acme_authority_revocation revocation = {.http = pa.http,
                                                   .url = url,
                                                   .user = "sp",
                                                   .serial = entry.serial,
                                                   .reason = 1,
                                                   .requester = "the test"};
    uint8_t *issuer = NULL;

    (void)state;
    snprintf(url, sizeof(url), "%s" ACME_AUTHORITY_REVOCATIONS_PATH, pa.base_url);
    must(certs_crl_entry_of(certs_chain_get(chain, 0), &entry, NULL), "entry");
    must(certs_name_der(entry.issuer, &issuer, &revocation.issuer_len), "issuer");
    revocation.serial_len = entry.serial_len;
    must(certs_chain_pem(chain, &pem), "PEM");
    must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), "password");
    revocation.issuer = issuer;
    revocation.password = password;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why),
                     HSM_ERR_DENIED); /* no chain */
    assert_non_null(strstr(why.text, "chain: missing"));
    revocation.chain_pem = pem;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why), HSM_OK);
    assert_true(queued);
    revocation.user = "ca-one";
    revocation.chain_pem = NULL;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why), HSM_OK);
    assert_false(queued);
    revocation.url = "https://127.0.0.1:1/sti-pa/revocations";
    assert_int_equal(acme_authority_request_revocation(&revocation, NULL, &why), HSM_ERR_BUSY);
    hsm_secret_free(password);
    free(pem);
    free(issuer);
    certs_chain_free(chain);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_sti_ca_revokes_is_on_the_crl_at_once),
        cmocka_unit_test(the_same_request_again_changes_nothing),
        cmocka_unit_test(an_access_token_is_as_good_as_a_password),
        cmocka_unit_test(an_sti_ca_revokes_its_own_issuing_certificate_too),
        cmocka_unit_test(an_operator_revokes_what_nobody_asked_for),
        cmocka_unit_test(an_operator_revokes_what_was_asked_for_and_waits),
        cmocka_unit_test(an_sti_ca_does_not_revoke_what_another_one_issued),
        cmocka_unit_test(an_sti_ca_has_no_spc_tokens),
        cmocka_unit_test(a_body_with_one_fault_is_refused),
        cmocka_unit_test(a_member_that_is_too_long_is_refused),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(the_client_tells_a_queued_request_from_one_that_is_done),
    };

    return cmocka_run_group_tests(tests, authority_revoke_start, authority_revoke_stop);
}
