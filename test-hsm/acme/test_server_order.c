/* test_server_order.c - mirrors acme/src/server_order.c: newOrder, and orders that are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>

#include "ca_group.h"
#include "peer_jws.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY          86400 /* seconds */

static void
an_order_for_what_is_not_one_spc_is_refused(void **state)
{
    static const struct {
        const char *payload;
        int status;
        const char *problem;
    } cases[] = {
        {"{}", 400, "malformed"},
        {"{\"identifiers\":[]}", 400, "malformed"},
        {"{\"identifiers\":{}}", 400, "malformed"},
        {"{\"identifiers\":[7]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\"}]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}]}", 403,
         "unsupportedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
         "{\"type\":\"dns\",\"value\":\"sp.example\"}]}",
         403, "unsupportedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
         "{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}]}",
         403, "rejectedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"!\"}]}", 400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIz\"}]}", 400,
         "malformed"},
        /* a single number: 12155550100 */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MA-iDRYLMTIxNTU1NTAxMDA\"}]}", 403,
         "rejectedIdentifier"},
        /* two SPCs */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MBCgBhYEMTIzNKAGFgQ1Njc4\"}]}",
         403, "rejectedIdentifier"},
        /* "ab12": not in upper case */
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEYWIxMg\"}]}", 403,
         "rejectedIdentifier"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notAfter\":\"tomorrow\"}",
         400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notAfter\":\"2999-01-01T00:00:00Z\"}",
         400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notBefore\":\"2001-01-01T00:00:00Z\"}",
         400, "malformed"},
        {"{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
         "\"notAfter\":\"1970-01-01T00:00:00Z\"}",
         400, "malformed"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, "/acme/new-order", cases[i].payload, &got);
        ca_assert_refused(&got, cases[i].status, cases[i].problem, cases[i].payload);
    }
}

/* RFC 8555 section 6.7.1. */
static void
each_of_several_identifiers_is_told_what_is_wrong_with_it(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *subproblems, *one;

    peer_send(&ca, *state, "/acme/new-order",
              "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"},"
              "{\"type\":\"dns\",\"value\":\"sp.example\"},"
              "{\"type\":\"TNAuthList\",\"value\":\"MAigBhYENzA5Sg\"}]}",
              &got);
    ca_assert_refused(&got, 403, "compound", "two identifiers too many");
    subproblems = json_object_get(got.json, "subproblems");
    assert_int_equal(json_array_size(subproblems), 2);
    one = json_array_get(subproblems, 0);
    assert_string_equal(json_string_value(json_object_get(one, "type")),
                        "urn:ietf:params:acme:error:unsupportedIdentifier");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(one, "identifier"), "value")),
        "sp.example");
    one = json_array_get(subproblems, 1);
    assert_string_equal(json_string_value(json_object_get(one, "type")),
                        "urn:ietf:params:acme:error:rejectedIdentifier");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(one, "identifier"), "value")),
        "MAigBhYENzA5Sg");
}

static void
the_identifier_comes_back_as_the_client_wrote_it(void **state)
{
    static const char *const values[] = {"MAigBhYEMTIzNA", "MAigBhYEMTIzNA==", "MAigBhYEODg_Pw",
                                         "MAigBhYENzA5Sg=="};
    const char *wanted[] = {values[0], values[1], NULL, values[3]}; /* "88??" is not an SPC */

    for (size_t i = 0; i < COUNT(values); i++) {
        char payload[256];
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        const json_t *identifier;

        snprintf(payload, sizeof(payload),
                 "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"%s\"}]}", values[i]);
        peer_send(&ca, *state, "/acme/new-order", payload, &got);
        assert_int_equal(got.status == 201, wanted[i] != NULL);
        if (wanted[i] == NULL)
            continue;
        ca_assert_post_headers(&got);
        identifier = json_array_get(json_object_get(got.json, "identifiers"), 0);
        assert_string_equal(json_string_value(json_object_get(identifier, "value")), wanted[i]);
        assert_string_equal(got_text(&got, "status"), "pending");
        assert_true(strlen(got_text(&got, "expires")) == 20);
    }
}

/* RFC 3339 text of the time, two hours ahead of UTC and with a fraction. */
static void
local_time(time_t t, char text[40])
{
    struct tm tm;
    time_t local = t + 7200;

    gmtime_r(&local, &tm);
    strftime(text, 40, "%Y-%m-%dt%H:%M:%S.25+02:00", &tm);
}

static void
a_validity_that_is_asked_for_is_kept(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    time_t not_before = time(NULL) - 60, not_after = time(NULL) + 3 * DAY;
    char before[40], after[40], payload[512], echo[40];
    struct peer_order order;
    struct tm tm;
    CLEAR_AFTER(got_clear) struct got created = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    uint8_t *der;
    size_t len;
    X509 *cert = NULL;

    local_time(not_before, before);
    local_time(not_after, after);
    snprintf(payload, sizeof(payload),
             "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
             "\"notBefore\":\"%s\",\"notAfter\":\"%s\"}",
             before, after);
    peer_send(&ca, peer, "/acme/new-order", payload, &created);
    assert_int_equal(created.status, 201);
    gmtime_r(&not_after, &tm);
    strftime(echo, sizeof(echo), "%Y-%m-%dT%H:%M:%SZ", &tm);
    assert_string_equal(got_text(&created, "notAfter"), echo);
    snprintf(order.url, CA_URL_SIZE, "%s", got_header(&created, "Location"));
    snprintf(order.finalize, CA_URL_SIZE, "%s", got_text(&created, "finalize"));
    ca_fixture_sql(&ca, "UPDATE acme_order SET status = 'ready' WHERE not_after <> 0 AND"
                        " status = 'pending'");
    peer_finalize(&ca, peer, &order, key, "1234", false, &got);
    der = peer_download(&ca, peer, order.url, &len);
    assert_int_equal(certs_cert_parse_der(der, len, &cert, NULL), HSM_OK);
    assert_int_equal(certs_cert_not_before(cert), not_before);
    assert_int_equal(certs_cert_not_after(cert), not_after);
    X509_free(cert);
    free(der);
    EVP_PKEY_free(key);
}

/* newOrder with these times returns that status. */
static void
assert_validity(const struct peer *peer, time_t not_before, time_t not_after, int status)
{
    char before[40], after[40], payload[512];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    local_time(not_before, before);
    local_time(not_after, after);
    snprintf(payload, sizeof(payload),
             "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}],"
             "\"notBefore\":\"%s\",\"notAfter\":\"%s\"}",
             before, after);
    peer_send(&ca, peer, "/acme/new-order", payload, &got);
    if (got.status != status)
        fail_msg("%s to %s: %d %s", before, after, got.status, got.body);
    assert_string_equal(got_problem(&got), status == 400 ? "malformed" : "");
}

static void
no_validity_is_promised_beyond_the_issuers_end(void **state)
{
    time_t end = certs_chain_not_after(ca.config.issuing_chain), now = end - 3 * DAY;

    ca_fixture_set_time(now);
    assert_validity(*state, now, end + 1, 400);
    assert_validity(*state, end, end + DAY, 400);
    assert_validity(*state, now, end, 201);
    assert_validity(*state, end - 1, end, 201);
    ca_fixture_set_time(0);
}

/* The issuing certificate may be replaced before the order is finalized. */
static void
what_was_promised_is_not_cut_but_given_up(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "UPDATE acme_order SET not_after = ? WHERE id = ?", "is",
                                    (int64_t)certs_chain_not_after(ca.config.issuing_chain) + 1,
                                    strrchr(order.url, '/') + 1),
                     HSM_OK);
    peer_finalize(&ca, peer, &order, key, "1234", false, &got);
    assert_string_equal(got_text(&got, "status"), "invalid");
    EVP_PKEY_free(key);
}

static void
an_authorization_offers_one_tkauth_challenge(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got authz = {.status = 0};
    CLEAR_AFTER(got_clear) struct got challenge = {.status = 0};
    const json_t *offered;
    char up[CA_URL_SIZE + 16];

    peer_order(&ca, peer, "1234", &order);
    peer_send(&ca, peer, order.authz, "", &authz);
    assert_int_equal(json_array_size(json_object_get(authz.json, "challenges")), 1);
    offered = json_array_get(json_object_get(authz.json, "challenges"), 0);
    assert_string_equal(json_string_value(json_object_get(offered, "type")), "tkauth-01");
    assert_string_equal(json_string_value(json_object_get(offered, "tkauth-type")), "atc");
    assert_string_equal(json_string_value(json_object_get(offered, "status")), "pending");
    assert_true(json_string_length(json_object_get(offered, "token")) == 22);
    assert_null(json_object_get(offered, "token-authority"));
    assert_non_null(json_object_get(authz.json, "expires"));
    peer_send(&ca, peer, order.challenge, "", &challenge);
    snprintf(up, sizeof(up), "<%s>;rel=\"up\"", order.authz);
    assert_string_equal(got_header_n(&challenge, "Link", 1), up);
}

static void
what_does_not_exist_is_404(void **state)
{
    static const char *const paths[] = {"/acme/order/AAAAAAAAAAAAAAAAAAAAAA", "/acme/authz/x",
                                        "/acme/chall/x", "/acme/cert/x"};

    for (size_t i = 0; i < COUNT(paths); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, paths[i], "", &got);
        ca_assert_refused(&got, 404, "malformed", paths[i]);
    }
}

static void
an_authorization_can_be_given_up_and_takes_its_order_with_it(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got wrong = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    peer_send(&ca, peer, order.authz, "{\"status\":\"valid\"}", &wrong);
    ca_assert_refused(&wrong, 400, "malformed", "status valid");
    peer_send(&ca, peer, order.authz, "{\"status\":\"deactivated\"}", &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "deactivated");
    peer_assert_status(&ca, peer, order.url, "invalid");
    peer_send(&ca, peer, order.authz, "{\"status\":\"deactivated\"}", &again);
    ca_assert_refused(&again, 400, "malformed", "twice");
}

static void
an_spc_without_a_registered_name_is_refused_where_one_is_required(void **state)
{
    const char *payload =
        "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEODhaWg\"}]}"; /* 88ZZ */
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};
    CLEAR_AFTER(got_clear) struct got taken = {.status = 0};
    CLEAR_AFTER(got_clear) struct got lost = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    ca.config.participants_required = true;
    ca_fixture_restart(&ca);
    peer_send(&ca, *state, "/acme/new-order", payload, &refused);
    assert_int_equal(acme_server_participant_set(ca.store, "88ZZ", "Eighty-Eight", "CA"), HSM_OK);
    peer_send(&ca, *state, "/acme/new-order", payload, &taken);
    /* The name is removed again before the certificate is issued: an open order then fails. */
    assert_int_equal(acme_server_participant_remove(ca.store, "88ZZ"), HSM_OK);
    assert_int_equal(acme_server_participant_remove(ca.store, "88ZZ"), HSM_ERR_NOT_FOUND);
    peer_send(&ca, *state, got_header(&taken, "Location"), "", &lost);
    peer_send(&ca, *state, "/acme/new-order", payload, &again);
    ca.config.participants_required = false;
    ca_fixture_restart(&ca);
    ca_assert_refused(&refused, 403, "rejectedIdentifier", "88ZZ");
    assert_int_equal(taken.status, 201);
    assert_string_equal(got_text(&lost, "status"), "invalid");
    ca_assert_refused(&again, 403, "rejectedIdentifier", "88ZZ removed");
}

static void
a_participant_has_an_spc_a_name_and_a_country(void **state)
{
    char name[66];

    (void)state;
    memset(name, 'n', 65);
    name[65] = '\0';
    assert_int_equal(acme_server_participant_set(ca.store, "1!", "N", "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "", "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", name, "US"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "us"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "USA"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_participant_set(ca.store, "1", "N", "US"), HSM_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_for_what_is_not_one_spc_is_refused),
        cmocka_unit_test(each_of_several_identifiers_is_told_what_is_wrong_with_it),
        cmocka_unit_test(the_identifier_comes_back_as_the_client_wrote_it),
        cmocka_unit_test(a_validity_that_is_asked_for_is_kept),
        cmocka_unit_test(no_validity_is_promised_beyond_the_issuers_end),
        cmocka_unit_test(what_was_promised_is_not_cut_but_given_up),
        cmocka_unit_test(an_authorization_offers_one_tkauth_challenge),
        cmocka_unit_test(what_does_not_exist_is_404),
        cmocka_unit_test(an_authorization_can_be_given_up_and_takes_its_order_with_it),
        cmocka_unit_test(an_spc_without_a_registered_name_is_refused_where_one_is_required),
        cmocka_unit_test(a_participant_has_an_spc_a_name_and_a_country),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
