/* test_server.c - mirrors acme/src/server.c and server_request.c: directory, nonces, and the
 * envelope of requests, those of other software among them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>

#include "ca_group.h"
#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DATA_NOW     1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */

/* ---- directory and nonces ---- */

static void
the_directory_names_what_is_offered_and_nothing_else(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char url[CA_URL_SIZE];

    (void)state;
    ca_fetch(&ca, "GET", "/acme/directory", NULL, NULL, &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_header(&got, "Content-Type"), "application/json");
    assert_string_equal(got_header(&got, "Link"), "");
    assert_int_equal(json_object_size(got.json), 7);
    snprintf(url, sizeof(url), "%s/acme/renewal-info", ca.pa.base_url);
    assert_string_equal(got_text(&got, "renewalInfo"), url);
    snprintf(url, sizeof(url), "%s/acme/new-order", ca.pa.base_url);
    assert_string_equal(got_text(&got, "newOrder"), url);
    assert_non_null(json_object_get(got.json, "keyChange"));
    assert_non_null(json_object_get(got.json, "revokeCert"));
    assert_null(json_object_get(got.json, "newAuthz"));
}

static void
new_nonce_answers_head_with_200_and_get_with_204(void **state)
{
    CLEAR_AFTER(got_clear) struct got head = {.status = 0};
    CLEAR_AFTER(got_clear) struct got get = {.status = 0};

    (void)state;
    ca_fetch(&ca, "HEAD", "/acme/new-nonce", NULL, NULL, &head);
    ca_fetch(&ca, "GET", "/acme/new-nonce", NULL, NULL, &get);
    assert_int_equal(head.status, 200);
    assert_int_equal(get.status, 204);
    ca_assert_post_headers(&head);
    ca_assert_post_headers(&get);
    assert_string_not_equal(got_header(&head, "Replay-Nonce"), got_header(&get, "Replay-Nonce"));
}

static void
a_nonce_is_good_once(void **state)
{
    const struct peer *peer = *state;
    char nonce[64], *body;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    ca_nonce(&ca, nonce);
    body = peer_body(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce});
    ca_fetch(&ca, "POST", peer->kid, "application/jose+json", body, &first);
    ca_fetch(&ca, "POST", peer->kid, "application/jose+json", body, &second);
    free(body);
    assert_int_equal(first.status, 200);
    ca_assert_refused(&second, 400, "badNonce", "replayed");
    ca_assert_post_headers(&second);
}

static void
the_nonce_of_an_answer_is_good_for_the_next_request(void **state)
{
    const struct peer *peer = *state;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    peer_send(&ca, peer, peer->kid, "", &first);
    snprintf(nonce, sizeof(nonce), "%s", got_header(&first, "Replay-Nonce"));
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &second);
    assert_int_equal(second.status, 200);
}

static void
a_nonce_expires_and_is_deleted(void **state)
{
    const struct peer *peer = *state;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    ca_fixture_set_time(time(NULL) + 3601);
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &got);
    ca_assert_refused(&got, 400, "badNonce", "an hour old");
    acme_server_expire(ca.server);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM nonce"), 1); /* from this answer */
    ca_fixture_set_time(0);
}

static void
processes_on_one_store_share_their_nonces(void **state)
{
    const struct peer *peer = *state;
    struct acme_server *first = ca.server, *second = NULL;
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    assert_int_equal(acme_server_new(&ca.config, &second), HSM_OK);
    ca.server = second;
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &got);
    ca.server = first;
    acme_server_free(second);
    assert_int_equal(got.status, 200);
}

/* ---- the envelope (RFC 8555 section 6) ---- */

static void
a_request_with_one_fault_is_refused(void **state)
{
    const struct peer *peer = *state;
    char foreign[CA_URL_SIZE], unknown[CA_URL_SIZE];
    json_t *crit = json_pack("{s:[s]}", "crit", "exp");
    json_t *b64 = json_pack("{s:b, s:[s]}", "b64", 0, "crit", "b64");
    const char *path = "/acme/new-order";
    const struct {
        const char *what;
        struct post post;
        int status;
        const char *problem;
    } faults[] = {
        {"media type", {.content_type = "application/json"}, 415, "malformed"},
        {"no media type", {.content_type = "application/jose+jsonx"}, 415, "malformed"},
        {"alg none", {.alg = "none"}, 400, "badSignatureAlgorithm"},
        {"alg HS256", {.alg = "HS256"}, 400, "badSignatureAlgorithm"},
        {"alg ES384", {.alg = "ES384"}, 400, "badSignatureAlgorithm"},
        {"another url", {.url = "/acme/new-account"}, 403, "unauthorized"},
        {"another host", {.url = "https://ca.example/acme/new-order"}, 403, "unauthorized"},
        {"no nonce", {.no_nonce = true}, 400, "badNonce"},
        {"unknown nonce", {.nonce = "AAAAAAAAAAAAAAAAAAAAAA"}, 400, "badNonce"},
        {"nonce not base64url", {.nonce = "AAAA+/=="}, 400, "malformed"},
        {"jwk and kid", {.with_jwk = true}, 400, "malformed"},
        {"neither jwk nor kid", {.without_key = true}, 400, "malformed"},
        {"kid of another server", {.kid = foreign}, 400, "accountDoesNotExist"},
        {"kid of no account", {.kid = unknown}, 400, "accountDoesNotExist"},
        {"signature", {.break_signature = true}, 403, "unauthorized"},
        {"crit", {.header = crit}, 400, "malformed"},
        {"b64 false", {.header = b64}, 400, "malformed"},
        {"payload no JSON", {.payload = "{"}, 400, "malformed"},
        {"payload an array", {.payload = "[]"}, 400, "malformed"},
        {"duplicate members", {.payload = "{\"a\":1,\"a\":1}"}, 400, "malformed"},
        {"POST-as-GET of newOrder", {.payload = ""}, 400, "malformed"},
    };

    snprintf(foreign, sizeof(foreign), "https://ca.example/acme/acct/AAAAAAAAAAAAAAAAAAAAAA");
    snprintf(unknown, sizeof(unknown), "%s/acme/acct/AAAAAAAAAAAAAAAAAAAAAA", ca.pa.base_url);
    for (size_t i = 0; i < COUNT(faults); i++) {
        struct post post = faults[i].post;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        post.path = path;
        if (post.payload == NULL)
            post.payload = "{}";
        peer_post(&ca, peer, &post, &got);
        ca_assert_refused(&got, faults[i].status, faults[i].problem, faults[i].what);
        ca_assert_post_headers(&got);
    }
    json_decref(crit);
    json_decref(b64);
}

static void
an_unsupported_algorithm_is_told_which_ones_are(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_post(&ca, *state,
              &(struct post){.path = "/acme/new-order", .payload = "{}", .alg = "RS256"}, &got);
    assert_int_equal(json_array_size(json_object_get(got.json, "algorithms")), 1);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(got.json, "algorithms"), 0)), "ES256");
}

static void
a_body_that_is_no_flattened_jws_is_malformed(void **state)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "[]",
        "{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\",\"signature\":\"\"}",
        "{\"protected\":\"e30\",\"payload\":\"\",\"signatures\":[]}",
        "{\"protected\":\"e30\",\"header\":{},\"payload\":\"\",\"signature\":\"AA\"}",
        "e30.e30.AA",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fetch(&ca, "POST", "/acme/new-order", "application/jose+json", bodies[i], &got);
        ca_assert_refused(&got, 400, "malformed", bodies[i]);
    }
}

static void
an_oversized_body_is_413(void **state)
{
    char *body = malloc(ACME_HTTP_BODY_MAX + 2);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    memset(body, 'A', ACME_HTTP_BODY_MAX + 1);
    body[ACME_HTTP_BODY_MAX + 1] = '\0';
    ca_fetch(&ca, "POST", "/acme/new-order", "application/jose+json", body, &got);
    free(body);
    assert_int_equal(got.status, 413);
}

static void
get_of_what_wants_a_post_is_405(void **state)
{
    static const char *const paths[] = {
        "/acme/new-account", "/acme/new-order",        "/acme/key-change", "/acme/acct/x",
        "/acme/order/x",     "/acme/order/x/finalize", "/acme/authz/x",    "/acme/chall/x",
        "/acme/cert/x",      "/acme/acct/x/orders",
    };
    CLEAR_AFTER(got_clear) struct got post = {.status = 0};
    CLEAR_AFTER(got_clear) struct got nowhere = {.status = 0};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca_fetch(&ca, "GET", paths[i], NULL, NULL, &got);
        ca_assert_refused(&got, 405, "malformed", paths[i]);
        assert_string_equal(got_header(&got, "Allow"), "POST, OPTIONS");
    }
    ca_fetch(&ca, "POST", "/acme/directory", "application/jose+json", "{}", &post);
    ca_assert_refused(&post, 405, "malformed", "POST of the directory");
    ca_fetch(&ca, "GET", "/acme/nowhere", NULL, NULL, &nowhere);
    ca_assert_refused(&nowhere, 404, "malformed", "unknown path");
}

/* ---- configuration ---- */

static void
a_server_is_not_made_with_a_foreign_key_or_a_base_url_with_a_path(void **state)
{
    struct acme_server *server = NULL;
    struct acme_server_config config = ca.config;

    (void)state;
    config.issuing_key = ca.root_key;
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_UNTRUSTED);
    config = ca.config;
    config.base_url = "https://ca.example/sub";
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config.base_url = "http://ca.example";
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    config = ca.config;
    config.authorities = (const char *const[]){"http://pa.example/", NULL};
    assert_int_equal(acme_server_new(&config, &server), HSM_ERR_USAGE);
    assert_null(server);
}

/* ---- requests signed by other software ---- */

static const json_t *
vector_step(const json_t *vectors, const char *name)
{
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(vectors, "steps"), i, step)
    {
        if (strcmp(json_string_value(json_object_get(step, "name")), name) == 0)
            return step;
    }
    fail_msg("no vector %s", name);
    return NULL;
}

/* Send a vector unchanged, after its nonce was added to the store. */
static void
send_vector(const json_t *vectors, const char *name, struct got *got)
{
    const json_t *step = vector_step(vectors, name);
    const json_t *body = json_object_get(step, "body");
    const char *protected_header = json_string_value(json_object_get(body, "protected"));
    char *text = json_dumps(body, JSON_COMPACT), path[256];
    uint8_t *header = NULL;
    size_t len;
    json_t *object;

    assert_int_equal(
        acme_base64url_decode(protected_header, strlen(protected_header), &header, &len), HSM_OK);
    object = json_loads((char *)header, 0, NULL);
    assert_int_equal(
        acme_store_run(ca.store, NULL,
                       "INSERT INTO nonce (value, expires) VALUES (?, ?) ON CONFLICT DO NOTHING",
                       "si", json_string_value(json_object_get(object, "nonce")),
                       (int64_t)DATA_NOW + 60),
        HSM_OK);
    snprintf(path, sizeof(path), "/acme%s", json_string_value(json_object_get(step, "path")));
    ca_fetch(&ca, "POST", path, "application/jose+json", text, got);
    json_decref(object);
    free(header);
    free(text);
}

static void
assert_vector(const json_t *vectors, const char *name, int status)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    send_vector(vectors, name, &got);
    if (got.status != status)
        fail_msg("%s: %d %s", name, got.status, got.body);
}

/* The vectors name their resources "1"; ours have random names. */
static void
rename_to_one(void)
{
    static const char *const statements[] = {
        "INSERT INTO authz (id, account, status, identifier, tnauthlist, expires)"
        " SELECT '1', '1', status, identifier, tnauthlist, expires FROM authz WHERE id ="
        " (SELECT authz FROM acme_order WHERE account = '1')",
        ("UPDATE challenge SET authz = '1', id = '1' WHERE authz ="
         " (SELECT authz FROM acme_order WHERE account = '1')"),
        "UPDATE acme_order SET id = '1', authz = '1', status = 'ready' WHERE account = '1'",
    };

    assert_int_equal(acme_store_begin(ca.store), HSM_OK);
    for (size_t i = 0; i < COUNT(statements); i++)
        ca_fixture_sql(&ca, statements[i]);
    assert_int_equal(acme_store_commit(ca.store), HSM_OK);
}

/* Record the certificate that the vectors revoke as issued for the order. */
static void
plant_certificate(void)
{
    struct certs_chain *chain = NULL;
    uint8_t serial[CERTS_SERIAL_MAX], *der = NULL;
    size_t serial_len, len;
    X509 *cert;

    assert_int_equal(certs_chain_read(data_path("self/sp-1234.cert.pem"), &chain), HSM_OK);
    cert = certs_chain_get(chain, 0);
    serial_len = certs_cert_serial(cert, serial);
    assert_int_equal(certs_cert_der(cert, &der, &len), HSM_OK);
    assert_int_equal(acme_store_run(ca.store, NULL,
                                    "UPDATE issuance SET serial = ?, der = ? WHERE order_id = '1'",
                                    "bb", serial, serial_len, der, len),
                     HSM_OK);
    free(der);
    certs_chain_free(chain);
}

static void
requests_that_others_signed_are_understood(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json");
    CLEAR_AFTER(got_clear) struct got order = {.status = 0};
    CLEAR_AFTER(got_clear) struct got joined = {.status = 0};

    (void)state;
    ca_fixture_set_time(DATA_NOW);
    ca.config.base_url = "https://sti-ca.example";
    ca_fixture_restart(&ca);
    send_vector(vectors, "newAccount+EAB", &joined);
    assert_int_equal(joined.status, 201);
    assert_vector(vectors, "newAccount onlyReturnExisting", 200);
    assert_int_equal(acme_store_run(ca.store, NULL, "UPDATE account SET id = '1' WHERE id = ?", "s",
                                    strrchr(got_header(&joined, "Location"), '/') + 1),
                     HSM_OK);
    send_vector(vectors, "newOrder", &order);
    assert_int_equal(order.status, 201);
    assert_string_equal(got_text(&order, "notAfter"), "2026-04-15T12:00:00Z");
    rename_to_one();
    assert_vector(vectors, "get authz (POST-as-GET)", 200);
    assert_vector(vectors, "finalize", 200);
    ca_fixture_sql(&ca, "UPDATE issuance SET certificate = '1' WHERE order_id = '1'");
    assert_vector(vectors, "download cert", 200);
    assert_vector(vectors, "revokeCert by account", 404); /* issued by another CA */
    plant_certificate();
    ca_fixture_sql(&ca, "DELETE FROM nonce");
    assert_vector(vectors, "revokeCert by account", 200);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    assert_vector(vectors, "revokeCert by certificate key", 200);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation"), 1);
    ca_fixture_sql(&ca, "DELETE FROM nonce");
    assert_vector(vectors, "keyChange", 200);
    assert_vector(vectors, "deactivate account", 403); /* the old key was replaced */
    ca.config.base_url = ca.pa.base_url;
    ca_fixture_restart(&ca);
    ca_fixture_set_time(0);
    json_decref(vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_directory_names_what_is_offered_and_nothing_else),
        cmocka_unit_test(new_nonce_answers_head_with_200_and_get_with_204),
        cmocka_unit_test(a_nonce_is_good_once),
        cmocka_unit_test(the_nonce_of_an_answer_is_good_for_the_next_request),
        cmocka_unit_test(a_nonce_expires_and_is_deleted),
        cmocka_unit_test(processes_on_one_store_share_their_nonces),
        cmocka_unit_test(a_request_with_one_fault_is_refused),
        cmocka_unit_test(an_unsupported_algorithm_is_told_which_ones_are),
        cmocka_unit_test(a_body_that_is_no_flattened_jws_is_malformed),
        cmocka_unit_test(an_oversized_body_is_413),
        cmocka_unit_test(get_of_what_wants_a_post_is_405),
        cmocka_unit_test(a_server_is_not_made_with_a_foreign_key_or_a_base_url_with_a_path),
        cmocka_unit_test(requests_that_others_signed_are_understood),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
