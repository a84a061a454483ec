/* test_server_policy.c - options that an operator can enable: mirrors acme/src/server_external.c,
 * server_terms.c, server_limit.c, server_renewal.c and server_chain.c. */
#define _GNU_SOURCE /* asprintf, strptime, timegm */

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

#include <openssl/hmac.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "ca_group.h"

#include <acme/base64url.h>
#include <acme/jwk.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <hsm/defer.h>

#include "peer.h"
#include "softhsm.h"

#define TERMS "https://ca.example/terms/1"

static struct acme_server_config plain; /* the fixture's configuration */

static void
assert_refused(const struct got *got, int status, const char *problem)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%d %s instead of %d %s", got->status, got->body, status, problem);
}

static void
serve_as_before(void)
{
    ca_fixture_set_time(0);
    ca.config = plain;
    ca_fixture_restart(&ca);
}

/* ---- external account binding ---- */

static const char *
keys_dir(void)
{
    static char dir[4200];

    snprintf(dir, sizeof(dir), "%s/external", softhsm_dir());
    return dir;
}

static char *
key_path(const char *id)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", keys_dir(), id) < 0)
        abort();
    return path;
}

static void
join_bound(const struct peer *peer, const struct peer_binding *plan, struct got *got)
{
    struct peer_binding binding = *plan;
    char *payload;

    binding.dir = keys_dir();
    payload = peer_binding_payload(&ca, peer, &binding);

    peer_send(&ca, peer, "/acme/new-account", payload, got);
    free(payload);
}

static void
require_external_accounts(void)
{
    ca.config.external_accounts = keys_dir();
    ca.config.external_account_required = true;
    ca_fixture_restart(&ca);
}

static void
a_key_binds_one_account_and_is_gone(void **state)
{
    struct peer first, second;
    CLEAR_AFTER(got_clear) struct got directory = {.status = 0};
    CLEAR_AFTER(got_clear) struct got bound = {.status = 0};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};
    char *path = key_path("one");
    struct stat about;
    char *payload;

    (void)state;
    require_external_accounts();
    peer_start(&first);
    peer_start(&second);
    ca_fetch(&ca, "GET", "/acme/directory", NULL, NULL, &directory);
    assert_true(json_is_true(
        json_object_get(json_object_get(directory.json, "meta"), "externalAccountRequired")));
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "one"), HSM_OK);
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "one"), HSM_ERR_EXISTS);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    payload =
        peer_binding_payload(&ca, &second, &(struct peer_binding){.dir = keys_dir(), .kid = "one"});
    join_bound(&first, &(struct peer_binding){.kid = "one"}, &bound);
    assert_int_equal(bound.status, 201);
    assert_true(json_is_object(json_object_get(bound.json, "externalAccountBinding")));
    assert_int_not_equal(access(path, F_OK), 0);
    peer_send(&ca, &second, "/acme/new-account", payload, &again);
    assert_refused(&again, 403, "unauthorized");
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "one"), HSM_ERR_EXISTS);
    peer_send(&ca, &first, "/acme/new-account", "{}", &read); /* an existing account */
    assert_int_equal(read.status, 200);
    assert_true(json_is_object(json_object_get(read.json, "externalAccountBinding")));
    free(payload);
    free(path);
    peer_stop(&first);
    peer_stop(&second);
    serve_as_before();
}

/* Two simultaneous requests may both verify their MAC before the file is removed. */
static void
the_store_says_that_a_key_was_used(void **state)
{
    struct peer first, second;
    CLEAR_AFTER(got_clear) struct got bound = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    (void)state;
    require_external_accounts();
    peer_start(&first);
    peer_start(&second);
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "two"), HSM_OK);
    join_bound(&first, &(struct peer_binding){.kid = "two"}, &bound);
    assert_int_equal(bound.status, 201);
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM event JOIN account ON who ="
                              " 'account ' || account.id WHERE what = 'external account used'"
                              " AND subject = 'two'"),
        1);
    ca_fixture_sql(&ca, "UPDATE account SET external_account = 'other' WHERE external_account ="
                        " 'two'");
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "two"), HSM_OK);
    ca_fixture_sql(&ca, "UPDATE account SET external_account = 'two' WHERE external_account ="
                        " 'other'");
    join_bound(&second, &(struct peer_binding){.kid = "two"}, &again);
    assert_refused(&again, 403, "unauthorized");
    peer_stop(&first);
    peer_stop(&second);
    serve_as_before();
}

static void
bindings_that_are_refused(void **state)
{
    EVP_PKEY *other = peer_key_new("P-256");
    const struct {
        struct peer_binding binding;
        int status;
        const char *problem;
    } rows[] = {
        {{.kid = "mine", .key_of = "other"}, 403, "unauthorized"},
        {{.kid = "unknown", .key_of = "mine"}, 403, "unauthorized"},
        {{.kid = "../external/mine", .key_of = "mine"}, 403, "unauthorized"},
        {{.kid = "", .key_of = "mine"}, 403, "unauthorized"},
        {{.kid = "mine", .alg = "ES256"}, 400, "badSignatureAlgorithm"},
        {{.kid = "mine", .alg = "none"}, 400, "badSignatureAlgorithm"},
        {{.kid = "mine", .url = "https://ca.example/acme/new-account"}, 400, "malformed"},
        {{.kid = "mine", .nonce = "AAAA"}, 400, "malformed"},
        {{.kid = "mine", .payload_key = other}, 400, "malformed"},
    };
    struct peer peer;

    (void)state;
    require_external_accounts();
    peer_start(&peer);
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "mine"), HSM_OK);
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "other"), HSM_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        join_bound(&peer, &rows[i].binding, &got);
        assert_refused(&got, rows[i].status, rows[i].problem);
    }
    for (int i = 0; i < 2; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, &peer, "/acme/new-account",
                  i == 0 ? "{}" : "{\"externalAccountBinding\":\"x\"}", &got);
        assert_refused(&got, i == 0 ? 403 : 400, i == 0 ? "externalAccountRequired" : "malformed");
    }
    assert_int_equal(acme_server_external_add(ca.store, keys_dir(), "a/b"), HSM_ERR_MALFORMED);
    assert_int_equal(acme_server_external_remove(ca.store, keys_dir(), "mine"), HSM_OK);
    assert_int_equal(acme_server_external_remove(ca.store, keys_dir(), "mine"), HSM_ERR_NOT_FOUND);
    peer_stop(&peer);
    EVP_PKEY_free(other);
    serve_as_before();
}

/* ---- terms of service ---- */

static int64_t
terms_told(void)
{
    return ca_fixture_count(&ca,
                            "SELECT count(*) FROM event WHERE what = 'configured' AND subject ="
                            " 'terms-of-service' AND detail = '" TERMS "'");
}

static void
accounts_agree_to_the_terms_and_to_new_ones(void **state)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};
    CLEAR_AFTER(got_clear) struct got joined = {.status = 0};
    CLEAR_AFTER(got_clear) struct got stale = {.status = 0};
    CLEAR_AFTER(got_clear) struct got agreed = {.status = 0};

    (void)state;
    ca.config.terms_of_service = TERMS;
    ca_fixture_restart(&ca);
    peer_start(&peer);
    peer_send(&ca, &peer, "/acme/new-account", "{\"termsOfServiceAgreed\":false}", &refused);
    assert_refused(&refused, 403, "userActionRequired");
    assert_string_equal(got_text(&refused, "instance"), TERMS);
    assert_string_equal(got_header_n(&refused, "Link", 1), "<" TERMS ">;rel=\"terms-of-service\"");
    peer_send(&ca, &peer, "/acme/new-account", "{\"termsOfServiceAgreed\":true}", &joined);
    assert_int_equal(joined.status, 201);
    assert_true(json_is_true(json_object_get(joined.json, "termsOfServiceAgreed")));
    snprintf(peer.kid, sizeof(peer.kid), "%s", got_header(&joined, "Location"));
    peer_order_ready(&ca, &peer, "1234", &order);
    assert_int_equal(acme_server_tell_start(ca.server), HSM_OK);
    assert_int_equal(acme_server_tell_start(ca.server), HSM_OK); /* unchanged: not recorded */
    assert_int_equal(terms_told(), 1);
    ca.config.terms_of_service = TERMS "a";
    ca_fixture_restart(&ca);
    peer_send(&ca, &peer, "/acme/new-order", "{}", &stale);
    assert_refused(&stale, 403, "userActionRequired");
    peer_assert_status(&ca, &peer, order.url, "ready"); /* reading is allowed */
    got_clear(&stale);
    peer_send(&ca, &peer, order.finalize, "{}", &stale);
    assert_refused(&stale, 403, "userActionRequired");
    peer_send(&ca, &peer, peer.kid, "{\"termsOfServiceAgreed\":true}", &agreed);
    assert_int_equal(agreed.status, 200);
    peer_enrol(&ca, &peer, "1234", &order);
    peer_stop(&peer);
    serve_as_before();
}

/* ---- rate limits ---- */

static void
new_order(const struct peer *peer, const char *more, struct got *got)
{
    char payload[1024];

    snprintf(payload, sizeof(payload),
             "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"MAigBhYEMTIzNA\"}]%s}", more);
    peer_send(&ca, peer, "/acme/new-order", payload, got);
}

static void
assert_limited(const struct got *got, int longest_s)
{
    int wait = atoi(got_header(got, "Retry-After"));

    assert_refused(got, 429, "rateLimited");
    assert_true(wait > 0 && wait <= longest_s);
}

static void
orders_of_an_account_are_limited(void **state)
{
    struct peer peer, other;
    CLEAR_AFTER(got_clear) struct got too_many = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    peer_join(&ca, &other);
    ca.config.orders_per_account = 4;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(time(NULL));
    for (int i = 0; i < 6; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fixture_set_time(ca_fixture_time() + (i == 4 ? 900 : 0)); /* 15 minutes apart */
        if (i == 5)
            break;
        new_order(&peer, "", &got);
        assert_int_equal(got.status, 201);
    }
    new_order(&peer, "", &too_many);
    assert_limited(&too_many, 900);
    got_clear(&too_many);
    new_order(&other, "", &too_many); /* per account */
    assert_int_equal(too_many.status, 201);
    ca_fixture_restart(&ca); /* the counts are in the store */
    got_clear(&too_many);
    new_order(&peer, "", &too_many);
    assert_limited(&too_many, 900);
    ca_fixture_set_time(ca_fixture_time() - 86400); /* a clock that was ahead is set back */
    got_clear(&too_many);
    new_order(&peer, "", &too_many);
    assert_int_equal(too_many.status, 201);
    peer_stop(&peer);
    peer_stop(&other);
    serve_as_before();
}

static void
accounts_and_orders_of_an_address_are_limited(void **state)
{
    struct peer peers[3];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca.config.accounts_per_address = 2;
    ca.config.orders_per_address = 2;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(time(NULL));
    peer_join(&ca, &peers[0]);
    peer_join(&ca, &peers[1]);
    peer_start(&peers[2]);
    peer_send(&ca, &peers[2], "/acme/new-account", "{}", &got);
    assert_limited(&got, 1800);
    got_clear(&got);
    peer_send(&ca, &(struct peer){.key = peers[0].key}, "/acme/new-account", "{}", &got);
    assert_int_equal(got.status, 200); /* finding an account does not count as creating one */
    for (int i = 0; i < 3; i++) {
        got_clear(&got);
        new_order(&peers[i % 2], "", &got);
        if (i < 2)
            assert_int_equal(got.status, 201);
    }
    assert_limited(&got, 1800);
    acme_server_expire(ca.server); /* keeps what still counts */
    got_clear(&got);
    new_order(&peers[0], "", &got);
    assert_limited(&got, 1800);
    for (int i = 0; i < 3; i++)
        peer_stop(&peers[i]);
    serve_as_before();
}

/* ---- reuse of authorizations ---- */

static void
an_authorization_is_used_again_while_its_token_lives(void **state)
{
    struct peer peer;
    struct peer_order order;
    EVP_PKEY *key = peer_key_new("P-256");
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    CLEAR_AFTER(got_clear) struct got finalized = {.status = 0};
    CLEAR_AFTER(got_clear) struct got late = {.status = 0};
    char *csr;

    (void)state;
    peer_join(&ca, &peer);
    peer_enrol(&ca, &peer, "1234", &order);
    new_order(&peer, "", &second);
    assert_string_equal(got_text(&second, "status"), "pending"); /* not enabled by default */
    got_clear(&second);
    ca.config.authorizations_reused = true;
    ca_fixture_restart(&ca);
    new_order(&peer, "", &second);
    assert_int_equal(second.status, 201);
    assert_string_equal(got_text(&second, "status"), "ready");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(second.json, "authorizations"), 0)),
        order.authz);
    csr = peer_csr_payload(key, "1234", false);
    peer_send(&ca, &peer, got_text(&second, "finalize"), csr, &finalized);
    assert_string_equal(got_text(&finalized, "status"), "valid");
    ca_fixture_set_time(time(NULL) + 700); /* the token was valid for ten minutes */
    new_order(&peer, "", &late);
    assert_string_equal(got_text(&late, "status"), "pending");
    free(csr);
    EVP_PKEY_free(key);
    peer_stop(&peer);
    serve_as_before();
}

static void
a_deactivated_authorization_is_not_used_again(void **state)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got deactivated = {.status = 0};
    CLEAR_AFTER(got_clear) struct got next = {.status = 0};

    (void)state;
    ca.config.authorizations_reused = true;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_order_ready(&ca, &peer, "1234", &order);
    peer_send(&ca, &peer, order.authz, "{\"status\":\"deactivated\"}", &deactivated);
    assert_string_equal(got_text(&deactivated, "status"), "deactivated");
    peer_assert_status(&ca, &peer, order.url, "invalid");
    new_order(&peer, "", &next);
    assert_string_equal(got_text(&next, "status"), "pending");
    peer_stop(&peer);
    serve_as_before();
}

/* ---- certificates that do not outlive the SPC token (RFC 9447 section 7) ---- */

#define TOKEN_S 600 /* lifetime of the fixture's tokens */

static void
start_within_token(bool reused)
{
    ca.config.within_token = true;
    ca.config.authorizations_reused = reused;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(time(NULL));
}

static time_t
certified_until(const struct peer *peer, const struct peer_order *order)
{
    size_t len;
    uint8_t *der = peer_download(&ca, peer, order->url, &len);
    X509 *cert = d2i_X509(NULL, &(const uint8_t *){der}, (long)len);
    time_t until = certs_cert_not_after(cert);

    X509_free(cert);
    free(der);
    return until;
}

static void
a_certificate_ends_with_its_token_where_that_is_wanted(void **state)
{
    struct peer peer;
    struct peer_order order, usual;

    (void)state;
    peer_join(&ca, &peer);
    start_within_token(false);
    peer_enrol(&ca, &peer, "1234", &order);
    assert_int_equal(certified_until(&peer, &order), ca_fixture_time() + TOKEN_S);
    serve_as_before();
    peer_enrol(&ca, &peer, "1234", &usual);
    assert_true(certified_until(&peer, &usual) > time(NULL) + 80 * 86400);
    peer_stop(&peer);
}

static void
assert_outlives(const struct peer *peer, const struct peer_order *order, EVP_PKEY *key)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_finalize(&ca, peer, order, key, "1234", false, &got);
    assert_refused(&got, 403, "unauthorized");
    peer_assert_status(&ca, peer, order->url, "ready");
}

static void
what_would_outlive_its_token_is_not_certified(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order asked, late;
    struct peer peer;

    (void)state;
    peer_join(&ca, &peer);
    start_within_token(false);
    peer_order_ready(&ca, &peer, "1234", &asked);
    ca_fixture_order_sql(&ca, asked.url,
                         "UPDATE acme_order SET not_after = created + 86400 WHERE id = ?");
    assert_outlives(&peer, &asked, key);
    ca_fixture_order_sql(&ca, asked.url,
                         "UPDATE acme_order SET not_after = 0, not_before = created + 3600 WHERE"
                         " id = ?");
    assert_outlives(&peer, &asked, key);
    peer_order_ready(&ca, &peer, "1234", &late);
    ca_fixture_set_time(ca_fixture_time() + TOKEN_S);
    assert_outlives(&peer, &late, key);
    EVP_PKEY_free(key);
    peer_stop(&peer);
    serve_as_before();
}

static void
an_authorization_that_ends_too_soon_is_not_used_again(void **state)
{
    struct peer_order order;
    struct peer peer;
    char until[64], more[128];
    time_t later;
    CLEAR_AFTER(got_clear) struct got within = {.status = 0};
    CLEAR_AFTER(got_clear) struct got beyond = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    start_within_token(true);
    peer_enrol(&ca, &peer, "1234", &order);
    later = ca_fixture_time() + 86400;
    strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", gmtime(&later));
    snprintf(more, sizeof(more), ",\"notAfter\":\"%s\"", until);
    new_order(&peer, "", &within);
    assert_string_equal(got_text(&within, "status"), "ready");
    new_order(&peer, more, &beyond);
    assert_string_equal(got_text(&beyond, "status"), "pending");
    peer_stop(&peer);
    serve_as_before();
}

/* ---- renewal information ---- */

/* RFC 9773 section 4.1, for the certificate of an order. */
static void
certificate_id(const struct peer *peer, const struct peer_order *order, char out[CA_URL_SIZE])
{
    size_t len, serial_len;
    uint8_t *der = peer_download(&ca, peer, order->url, &len), serial[CERTS_SERIAL_MAX];
    X509 *cert = d2i_X509(NULL, &(const uint8_t *){der}, (long)len);
    const ASN1_OCTET_STRING *key_id = X509_get0_authority_key_id(cert);
    char *first, *second;

    serial_len = certs_cert_serial(cert, serial);
    first =
        acme_base64url_encode(ASN1_STRING_get0_data(key_id), (size_t)ASN1_STRING_length(key_id));
    second = acme_base64url_encode(serial, serial_len);
    snprintf(out, CA_URL_SIZE, "%s.%s", first, second);
    free(first);
    free(second);
    X509_free(cert);
    free(der);
}

static void
fetch_window(const char *id, struct got *got)
{
    char path[CA_URL_SIZE + 64];

    snprintf(path, sizeof(path), "/acme/renewal-info/%s", id);
    ca_fetch(&ca, "GET", path, NULL, NULL, got);
}

static time_t
window_time(const struct got *got, const char *name)
{
    struct tm t = {.tm_sec = 0};
    const char *text =
        json_string_value(json_object_get(json_object_get(got->json, "suggestedWindow"), name));

    assert_non_null(text);
    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%SZ", &t));
    return timegm(&t);
}

static void
renewal_is_suggested_late_in_life_and_at_once_when_revoked(void **state)
{
    struct peer peer;
    struct peer_order order;
    char id[CA_URL_SIZE], payload[CA_URL_SIZE * 4], *der64;
    CLEAR_AFTER(got_clear) struct got window = {.status = 0};
    CLEAR_AFTER(got_clear) struct got revoked = {.status = 0};
    CLEAR_AFTER(got_clear) struct got at_once = {.status = 0};
    uint8_t *der;
    size_t len;
    time_t life = 90 * 86400 + 300, begin;

    (void)state;
    peer_join(&ca, &peer);
    peer_enrol(&ca, &peer, "1234", &order);
    certificate_id(&peer, &order, id);
    fetch_window(id, &window);
    assert_int_equal(window.status, 200);
    assert_string_equal(got_header(&window, "Content-Type"), "application/json");
    assert_true(atoi(got_header(&window, "Retry-After")) > 0);
    assert_string_equal(got_header(&window, "Cache-Control"), "public, max-age=300");
    begin = time(NULL) - 300;
    assert_in_range(window_time(&window, "start") - begin, life * 66 / 100 - 60,
                    life * 66 / 100 + 1);
    assert_in_range(window_time(&window, "end") - begin, life * 83 / 100 - 60, life * 83 / 100 + 1);
    der = peer_download(&ca, &peer, order.url, &len);
    der64 = acme_base64url_encode(der, len);
    snprintf(payload, sizeof(payload), "{\"certificate\":\"%s\",\"reason\":1}", der64);
    peer_send(&ca, &peer, "/acme/revoke-cert", payload, &revoked);
    assert_int_equal(revoked.status, 200);
    fetch_window(id, &at_once);
    assert_true(window_time(&at_once, "end") <= time(NULL));
    assert_true(window_time(&at_once, "start") < window_time(&at_once, "end"));
    free(der);
    free(der64);
    peer_stop(&peer);
}

static void
a_renewal_window_is_configured_whole(void **state)
{
    struct acme_server_config config = plain;
    struct acme_server *server = NULL;
    struct peer peer;
    struct peer_order order;
    char id[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    config.store = ca.store;
    config.renew_from_percent = 50;
    config.renew_until_percent = 50;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    ca.config.renew_from_percent = 10;
    ca.config.renew_until_percent = 20;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_enrol(&ca, &peer, "1234", &order);
    certificate_id(&peer, &order, id);
    fetch_window(id, &got);
    assert_in_range(window_time(&got, "end") - window_time(&got, "start"), 9 * 86400,
                    9 * 86400 + 60);
    peer_stop(&peer);
    serve_as_before();
}

static void
certificate_identifiers_that_are_refused(void **state)
{
    static const struct {
        const char *id;
        int status;
    } rows[] = {
        {"AAAA", 400},     {"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", 404},
        {".AIdlQyE", 400}, {"aYhba4dGQEHhs3uEe6CuLN4ByNQ.", 400},
        {"a.b=", 400},     {"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE.AA", 400},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        fetch_window(rows[i].id, &got);
        assert_refused(&got, rows[i].status, "malformed");
    }
}

static void
an_order_replaces_a_certificate_once(void **state)
{
    struct peer peer, other;
    struct peer_order order, foreign;
    char id[CA_URL_SIZE], theirs[CA_URL_SIZE], more[CA_URL_SIZE + 32], authz[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    CLEAR_AFTER(got_clear) struct got third = {.status = 0};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};

    (void)state;
    peer_join(&ca, &peer);
    peer_join(&ca, &other);
    peer_enrol(&ca, &peer, "1234", &order);
    peer_enrol(&ca, &other, "5678", &foreign);
    certificate_id(&peer, &order, id);
    certificate_id(&other, &foreign, theirs);
    snprintf(more, sizeof(more), ",\"replaces\":\"%s\"", id);
    new_order(&peer, more, &first);
    assert_int_equal(first.status, 201);
    assert_string_equal(got_text(&first, "replaces"), id);
    peer_send(&ca, &peer, got_header(&first, "Location"), "", &read);
    assert_string_equal(got_text(&read, "replaces"), id);
    new_order(&peer, more, &second);
    assert_refused(&second, 409, "alreadyReplaced");
    snprintf(authz, sizeof(authz), "%s",
             json_string_value(json_array_get(json_object_get(first.json, "authorizations"), 0)));
    got_clear(&read);
    peer_send(&ca, &peer, authz, "{\"status\":\"deactivated\"}", &read);
    new_order(&peer, more, &third); /* the first became invalid */
    assert_int_equal(third.status, 201);
    got_clear(&third);
    new_order(&other, more, &third);
    assert_refused(&third, 403, "unauthorized");
    got_clear(&third);
    snprintf(more, sizeof(more), ",\"replaces\":\"%s\"", theirs);
    new_order(&other, more, &third); /* of this account, but for SPC 5678 */
    assert_refused(&third, 400, "malformed");
    got_clear(&third);
    new_order(&peer, ",\"replaces\":\"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE\"", &third);
    assert_refused(&third, 400, "malformed");
    got_clear(&third);
    new_order(&peer, ",\"replaces\":7", &third);
    assert_refused(&third, 400, "malformed");
    peer_stop(&peer);
    peer_stop(&other);
}

/* ---- chains ---- */

/* The issuing key certified under another root. */
static struct certs_chain *
cross_certified(void)
{
    struct hsm_key *key = NULL;
    X509 *root = pa_fixture_ca_root(&ca.pa, "other-root", "Other STI-CA"), *cert = NULL;
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    struct certs_issue_request request = {
        .profile = CERTS_PROFILE_STI_INTERMEDIATE,
        .subject = {.country = "US",
                    .organization = "STI-CA Example",
                    .common_name = "SHAKEN Issuing"},
        .public_key = hsm_key_public(ca.issuing_key),
        .not_before = certs_cert_not_before(root),
        .not_after = certs_cert_not_after(root),
        .policy_oid = CERTS_POLICY_CP_1_4,
        .crl_url = "https://pa.example/crl",
        .crl_issuer = certs_cert_subject_name(certs_chain_get(ca.pa.crl_chain, 0)),
    };

    assert_int_equal(hsm_key_find_or_generate(ca.pa.token, "other-root", &key), HSM_OK);
    assert_int_equal(certs_serial_new(ca.pa.token, request.serial, &request.serial_len), HSM_OK);
    if (certs_issue(&request, root, key, &cert, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    assert_int_equal(certs_chain_add(chain, root), HSM_OK);
    X509_free(root);
    X509_free(cert);
    hsm_key_free(key);
    return chain;
}

static void
assert_chain_of(const char *pem, const struct certs_chain *issuers)
{
    struct certs_chain *chain = NULL;
    X509 *issuer;

    assert_int_equal(certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &chain, NULL),
                     HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    issuer = certs_chain_get(issuers, 0);
    assert_int_equal(X509_cmp(certs_chain_get(chain, 1), issuer), 0);
    assert_int_equal(X509_verify(certs_chain_get(chain, 0), certs_cert_public(issuer)), 1);
    certs_chain_free(chain);
}

static void
alternate_chains_are_linked_and_downloaded(void **state)
{
    struct certs_chain *chain = cross_certified();
    const struct certs_chain *list[] = {chain, NULL};
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got valid = {.status = 0};
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    CLEAR_AFTER(got_clear) struct got none = {.status = 0};
    char url[CA_URL_SIZE], wanted[CA_URL_SIZE + 32], missing[CA_URL_SIZE + 2];

    (void)state;
    ca.config.alternate_chains = list;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_enrol(&ca, &peer, "1234", &order);
    peer_send(&ca, &peer, order.url, "", &valid);
    peer_send(&ca, &peer, got_text(&valid, "certificate"), "", &first);
    assert_chain_of(first.body, ca.issuing_chain);
    snprintf(url, sizeof(url), "%s/1", got_text(&valid, "certificate"));
    snprintf(wanted, sizeof(wanted), "<%s>;rel=\"alternate\"", url);
    assert_string_equal(got_header_n(&first, "Link", 1), wanted);
    peer_send(&ca, &peer, url, "", &second);
    assert_int_equal(second.status, 200);
    assert_chain_of(second.body, chain);
    snprintf(wanted, sizeof(wanted), "<%s>;rel=\"alternate\"", got_text(&valid, "certificate"));
    assert_string_equal(got_header_n(&second, "Link", 1), wanted);
    for (const char *n = "02x"; *n != '\0'; n++) {
        snprintf(missing, sizeof(missing), "%s/%c", got_text(&valid, "certificate"), *n);
        got_clear(&none);
        peer_send(&ca, &peer, missing, "", &none);
        assert_refused(&none, 404, "malformed");
    }
    peer_stop(&peer);
    serve_as_before();
    certs_chain_free(chain);
}

static void
a_chain_of_another_key_is_no_alternate(void **state)
{
    const struct certs_chain *list[] = {ca.pa.signer_chain, NULL};
    struct acme_server_config config = plain;
    struct acme_server *server = NULL;

    (void)state;
    config.store = ca.store;
    config.alternate_chains = list;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_UNTRUSTED);
}

static void
a_hosted_chain_is_everybodys(void **state)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got valid = {.status = 0};
    CLEAR_AFTER(got_clear) struct got chain = {.status = 0};
    char url[CA_URL_SIZE];

    (void)state;
    peer_join(&ca, &peer);
    peer_enrol(&ca, &peer, "1234", &order);
    peer_send(&ca, &peer, order.url, "", &valid);
    assert_null(json_object_get(valid.json, "x5u"));
    got_clear(&valid);
    ca.config.chains_hosted = true;
    ca_fixture_restart(&ca);
    peer_send(&ca, &peer, order.url, "", &valid);
    snprintf(url, sizeof(url), "%s", got_text(&valid, "x5u"));
    ca_fetch(&ca, "GET", url, NULL, NULL, &chain);
    assert_int_equal(chain.status, 200);
    assert_string_equal(got_header(&chain, "Content-Type"), "application/pem-certificate-chain");
    assert_string_equal(got_header(&chain, "Cache-Control"), "public, max-age=86400");
    assert_chain_of(chain.body, ca.issuing_chain);
    got_clear(&chain);
    ca_fetch(&ca, "GET", "/acme/chain/unknown.pem", NULL, NULL, &chain);
    assert_refused(&chain, 404, "malformed");
    serve_as_before();
    got_clear(&chain);
    ca_fetch(&ca, "GET", url, NULL, NULL, &chain); /* disabled */
    assert_refused(&chain, 404, "malformed");
    peer_stop(&peer);
}

/* ---- quirks of deployed clients ---- */

/* The body of a POST-as-GET whose signature covers only "protected"; free() it. */
static char *
body_without_dot(const struct peer *peer, const char *path)
{
    char nonce[64], header[CA_URL_SIZE * 3], *header64, *signature64, *body = NULL;
    uint8_t signature[64];

    ca_nonce(&ca, nonce);
    snprintf(header, sizeof(header),
             "{\"alg\":\"ES256\",\"kid\":\"%s\",\"nonce\":\"%s\",\"url\":\"%s\"}", peer->kid, nonce,
             path);
    header64 = acme_base64url_encode(header, strlen(header));
    peer_sign_es256(peer->key, header64, strlen(header64), signature);
    signature64 = acme_base64url_encode(signature, sizeof(signature));
    if (asprintf(&body, "{\"protected\":\"%s\",\"payload\":\"\",\"signature\":\"%s\"}", header64,
                 signature64) < 0)
        abort();
    free(header64);
    free(signature64);
    return body;
}

static void
a_read_signed_without_the_dot_is_accepted_where_it_is_allowed(void **state)
{
    struct peer peer;

    (void)state;
    peer_join(&ca, &peer);
    for (int allowed = 0; allowed < 2; allowed++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        char *body;

        ca.config.read_without_dot = allowed;
        ca_fixture_restart(&ca);
        body = body_without_dot(&peer, peer.kid);
        ca_fetch(&ca, "POST", peer.kid, "application/jose+json", body, &got);
        assert_int_equal(got.status, allowed ? 200 : 403);
        free(body);
    }
    serve_as_before();
    peer_stop(&peer);
}

static void
browsers_may_ask_from_any_site(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca_fetch(&ca, "OPTIONS", "/acme/new-order", NULL, NULL, &got);
    assert_int_equal(got.status, 204);
    assert_string_equal(got_header(&got, "Access-Control-Allow-Origin"), "*");
    assert_string_equal(got_header(&got, "Access-Control-Allow-Headers"), "Content-Type");
    assert_string_equal(got_header(&got, "Access-Control-Allow-Methods"), "POST, OPTIONS");
    got_clear(&got);
    ca_fetch(&ca, "GET", "/acme/directory", NULL, NULL, &got);
    assert_string_equal(got_header(&got, "Access-Control-Allow-Origin"), "*");
    assert_non_null(strstr(got_header(&got, "Access-Control-Expose-Headers"), "Replay-Nonce"));
    got_clear(&got);
    ca_fetch(&ca, "OPTIONS", "/acme/nothing", NULL, NULL, &got);
    assert_refused(&got, 404, "malformed");
}

static int
start(void **state)
{
    ca_group_start_alone(state);
    plain = ca.config;
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_binds_one_account_and_is_gone),
        cmocka_unit_test(the_store_says_that_a_key_was_used),
        cmocka_unit_test(bindings_that_are_refused),
        cmocka_unit_test(accounts_agree_to_the_terms_and_to_new_ones),
        cmocka_unit_test(orders_of_an_account_are_limited),
        cmocka_unit_test(accounts_and_orders_of_an_address_are_limited),
        cmocka_unit_test(an_authorization_is_used_again_while_its_token_lives),
        cmocka_unit_test(a_deactivated_authorization_is_not_used_again),
        cmocka_unit_test(a_certificate_ends_with_its_token_where_that_is_wanted),
        cmocka_unit_test(what_would_outlive_its_token_is_not_certified),
        cmocka_unit_test(an_authorization_that_ends_too_soon_is_not_used_again),
        cmocka_unit_test(renewal_is_suggested_late_in_life_and_at_once_when_revoked),
        cmocka_unit_test(a_renewal_window_is_configured_whole),
        cmocka_unit_test(certificate_identifiers_that_are_refused),
        cmocka_unit_test(an_order_replaces_a_certificate_once),
        cmocka_unit_test(alternate_chains_are_linked_and_downloaded),
        cmocka_unit_test(a_chain_of_another_key_is_no_alternate),
        cmocka_unit_test(a_hosted_chain_is_everybodys),
        cmocka_unit_test(a_read_signed_without_the_dot_is_accepted_where_it_is_allowed),
        cmocka_unit_test(browsers_may_ask_from_any_site),
    };

    return cmocka_run_group_tests(tests, start, ca_group_stop);
}
