/*
 * test_conformance.c - RFC 8555, 9447, 9448 and 9773, section by section: what an STI-CA or STI-PA
 * can get wrong, the request that tests it, and the expected answer.
 *
 * --table prints docs/CONFORMANCE.md, which scripts/conformance writes.
 */
#define _GNU_SOURCE /* asprintf, strcasestr */

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
#include <openssl/x509v3.h>

#include "ca_fixture.h"

#include <acme/base64url.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#include "conformance_world.h"
#include "peer.h"
#include "softhsm.h"

#define ORDERS_OF_A_PAGE 100 /* page size of the server */

struct conformance_world world;
static struct acme_server_config plain;
static struct peer nobody; /* key without an account, made for the last rule that needed one */
static struct peer_order pending, ready, theirs;
static char certificate[CA_URL_SIZE]; /* URL of the valid order's certificate */

/* ---- one request ---- */

/* "@order/finalize": the value of "@order" depends on the run. */
static void
resolve(const char *path, char out[CA_URL_SIZE])
{
    const struct {
        const char *name, *url;
    } names[] = {
        {"@account", world.account.kid},
        {"@other-account", world.stranger.kid},
        {"@pending", pending.url},
        {"@ready", ready.url},
        {"@valid", world.valid.url},
        {"@their-order", theirs.url},
        {"@authz", pending.authz},
        {"@challenge", pending.challenge},
        {"@certificate", certificate},
        {"@their-authz", theirs.authz},
        {"@their-challenge", theirs.challenge},
    };

    snprintf(out, CA_URL_SIZE, "%s", path);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = strlen(names[i].name);

        if (strncmp(path, names[i].name, len) == 0 && (path[len] == '\0' || path[len] == '/'))
            snprintf(out, CA_URL_SIZE, "%.300s%s", names[i].url, path + len);
    }
}

static const struct peer *
signer_of(const struct rule *rule)
{
    if (rule->signer == BY_STRANGER)
        return &world.stranger;
    if (rule->signer == BY_ACCOUNT)
        return &world.account;
    peer_stop(&nobody);
    peer_start(&nobody);
    return &nobody;
}

static void
ask(const struct rule *rule, struct got *got)
{
    json_t *header = rule->header != NULL ? json_loads(rule->header, 0, NULL) : NULL;
    char url[CA_URL_SIZE];

    if (rule->as != NULL) {
        conformance_pa_ask(rule->as, rule->method != NULL ? rule->method : "POST", rule->path,
                           rule->content_type != NULL ? rule->content_type : "application/json",
                           rule->payload, got);
        return;
    }
    resolve(rule->path, url);
    if (rule->method != NULL)
        ca_fetch(&world.ca, rule->method, url, rule->content_type, rule->payload, got);
    else
        peer_post(&world.ca, signer_of(rule),
                  &(struct post){.path = url,
                                 .payload = rule->payload != NULL ? rule->payload : "",
                                 .alg = rule->alg,
                                 .url = rule->url,
                                 .nonce = rule->nonce,
                                 .kid = rule->kid,
                                 .content_type = rule->content_type,
                                 .header = header,
                                 .no_nonce = rule->no_nonce,
                                 .with_jwk = rule->with_jwk,
                                 .without_key = rule->without_key,
                                 .break_signature = rule->break_signature},
                  got);
    json_decref(header);
}

/* "Name" or "Name: part of a value" */
static bool
has_header(const struct got *got, const char *wanted)
{
    const char *colon = strstr(wanted, ": ");
    char name[64];

    snprintf(name, sizeof(name), "%.*s",
             (int)(colon != NULL ? (size_t)(colon - wanted) : strlen(wanted)), wanted);
    for (int n = 0; n < 8; n++) {
        const char *value = got_header_n(got, name, n);

        if (value[0] != '\0' && (colon == NULL || strstr(value, colon + 2) != NULL))
            return true;
    }
    return false;
}

static void
assert_headers(const struct rule *rule, const struct got *got)
{
    bool is_post = rule->method == NULL;

    for (size_t i = 0; i < RULE_HEADERS && rule->headers[i] != NULL; i++) {
        if (!has_header(got, rule->headers[i]))
            fail_msg("no %s in %s", rule->headers[i], got->headers);
    }
    if (rule->as != NULL) /* the rest applies to RFC 8555 only */
        return;
    if (strcmp(rule->path, "/acme/directory") != 0 && !has_header(got, "Link: rel=\"index\""))
        fail_msg("no Link to the directory in %s", got->headers);
    if (is_post && !has_header(got, "Replay-Nonce"))
        fail_msg("no Replay-Nonce in %s", got->headers);
}

/* RFC 8555 section 6.7 */
static void
assert_problem(const struct rule *rule, const struct got *got)
{
    if (rule->problem == NULL)
        return;
    assert_string_equal(got_header(got, "Content-Type"), "application/problem+json");
    if (strcmp(got_problem(got), rule->problem) != 0)
        fail_msg("%s instead of %s", got->body, rule->problem);
}

static void
check_request(const struct rule *rule)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ask(rule, &got);
    if (got.status != rule->status)
        fail_msg("%d %s instead of %d", got.status, got.body, rule->status);
    assert_problem(rule, &got);
    assert_headers(rule, &got);
    if (rule->member != NULL && json_object_get(got.json, rule->member) == NULL)
        fail_msg("no \"%s\" in %s", rule->member, got.body);
}

/* ---- operator settings ---- */

void
conformance_with_terms(void)
{
    world.ca.config.terms_of_service = "https://ca.example/terms";
}

void
conformance_with_external_accounts(void)
{
    world.ca.config.external_accounts = "/nonexistent";
    world.ca.config.external_account_required = true;
}

void
conformance_with_limit(void)
{
    world.ca.config.accounts_per_address = 1;
}

void
conformance_with_hosted_chains(void)
{
    world.ca.config.chains_hosted = true;
}

/* ---- rules that need several requests ---- */

void
assert_got(const struct got *got, int status, const char *problem)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%d %s instead of %d %s", got->status, got->body, status, problem);
}

void
conformance_nonce_is_used_once(void)
{
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    char nonce[64];

    ca_nonce(&world.ca, nonce);
    peer_post(&world.ca, &world.account,
              &(struct post){.path = world.account.kid, .payload = "", .nonce = nonce}, &first);
    assert_got(&first, 200, "");
    peer_post(&world.ca, &world.account,
              &(struct post){.path = world.account.kid, .payload = "", .nonce = nonce}, &second);
    assert_got(&second, 400, "badNonce");
    assert_true(has_header(&second, "Replay-Nonce"));
}

void
conformance_nonce_of_an_answer_is_good(void)
{
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    char nonce[64];

    peer_send(&world.ca, &world.account, world.account.kid, "", &first);
    snprintf(nonce, sizeof(nonce), "%s", got_header(&first, "Replay-Nonce"));
    peer_post(&world.ca, &world.account,
              &(struct post){.path = world.account.kid, .payload = "", .nonce = nonce}, &second);
    assert_got(&second, 200, "");
}

/* The limit is one account, which the first one at this address uses up. */
void
conformance_rate_is_limited(void)
{
    struct peer first, second;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_join(&world.ca, &first);
    peer_start(&second);
    peer_send(&world.ca, &second, "/acme/new-account", "{}", &got);
    assert_got(&got, 429, "rateLimited");
    assert_true(has_header(&got, "Retry-After"));
    peer_stop(&first);
    peer_stop(&second);
}

void
conformance_algorithms_are_named(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_post(&world.ca, &world.account,
              &(struct post){.path = world.account.kid, .payload = "", .alg = "RS256"}, &got);
    assert_got(&got, 400, "badSignatureAlgorithm");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(got.json, "algorithms"), 0)), "ES256");
}

void
conformance_unprotected_header_is_refused(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char *body = peer_body(&world.ca, &world.account,
                           &(struct post){.path = world.account.kid, .payload = ""});
    json_t *object = json_loads(body, 0, NULL);
    char *text;

    json_object_set_new(object, "header", json_object());
    text = json_dumps(object, JSON_COMPACT);
    ca_fetch(&world.ca, "POST", world.account.kid, "application/jose+json", text, &got);
    assert_got(&got, 400, "malformed");
    free(text);
    free(body);
    json_decref(object);
}

/* ---- accounts ---- */

void
conformance_account_is_found_again(void)
{
    struct peer same = {.key = world.account.key};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_send(&world.ca, &same, "/acme/new-account", "{\"contact\":[\"mailto:x@example.com\"]}",
              &got);
    assert_got(&got, 200, "");
    assert_string_equal(got_header(&got, "Location"), world.account.kid);
    assert_int_equal(json_array_size(json_object_get(got.json, "contact")), 0); /* unchanged */
}

void
conformance_orders_are_paged(void)
{
    struct peer peer;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};
    char path[CA_URL_SIZE + 16], next[CA_URL_SIZE], *payload = peer_order_payload("1234");
    const char *link;

    peer_join(&world.ca, &peer);
    for (int i = 0; i <= ORDERS_OF_A_PAGE; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&world.ca, &peer, "/acme/new-order", payload, &got);
        assert_got(&got, 201, "");
    }
    snprintf(path, sizeof(path), "%s/orders", peer.kid);
    peer_send(&world.ca, &peer, path, "", &first);
    assert_int_equal(json_array_size(json_object_get(first.json, "orders")), ORDERS_OF_A_PAGE);
    link = got_header_n(&first, "Link", 1);
    assert_non_null(strstr(link, ";rel=\"next\""));
    snprintf(next, sizeof(next), "%.*s", (int)strcspn(link + 1, ">"), link + 1);
    peer_send(&world.ca, &peer, next, "", &second);
    assert_int_equal(json_array_size(json_object_get(second.json, "orders")), 1);
    assert_false(has_header(&second, "Link: rel=\"next\""));
    free(payload);
    peer_stop(&peer);
}

void
conformance_deactivated_account_is_done(void)
{
    struct peer peer;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got after = {.status = 0};

    peer_join(&world.ca, &peer);
    peer_order(&world.ca, &peer, "1234", &order);
    peer_send(&world.ca, &peer, peer.kid, "{\"status\":\"deactivated\"}", &got);
    assert_string_equal(got_text(&got, "status"), "deactivated");
    peer_send(&world.ca, &peer, order.url, "", &after);
    assert_got(&after, 401, "unauthorized");
    peer_stop(&peer);
}

/* ---- orders ---- */

static void
new_order(const char *more, struct got *got)
{
    char *payload = peer_order_payload("1234"), *whole = NULL;

    payload[strlen(payload) - 1] = '\0';
    if (asprintf(&whole, "%s%s}", payload, more) < 0)
        abort();
    peer_send(&world.ca, &world.account, "/acme/new-order", whole, got);
    free(payload);
    free(whole);
}

void
conformance_order_names_what_it_is_for(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *identifier;

    new_order(",\"notAfter\":\"2999-01-01T00:00:00Z\"", &got);
    assert_got(&got, 400, "malformed");
    got_clear(&got);
    new_order("", &got);
    assert_got(&got, 201, "");
    identifier = json_array_get(json_object_get(got.json, "identifiers"), 0);
    assert_string_equal(json_string_value(json_object_get(identifier, "type")), "TNAuthList");
    assert_string_equal(json_string_value(json_object_get(identifier, "value")), "MAigBhYEMTIzNA");
    assert_string_equal(got_text(&got, "status"), "pending");
    assert_int_equal(json_array_size(json_object_get(got.json, "authorizations")), 1);
    assert_non_null(json_object_get(got.json, "finalize"));
    assert_non_null(json_object_get(got.json, "expires"));
}

/* The issuing certificate is valid for three more days. */
void
conformance_validity_within_the_issuers(void)
{
    time_t end = certs_chain_not_after(world.ca.config.issuing_chain);
    char until[40], more[80];
    CLEAR_AFTER(got_clear) struct got within = {.status = 0};
    CLEAR_AFTER(got_clear) struct got beyond = {.status = 0};

    ca_fixture_set_time(end - 3 * 86400);
    for (time_t t = end; t <= end + 1; t++) {
        strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", gmtime(&t));
        snprintf(more, sizeof(more), ",\"notAfter\":\"%s\"", until);
        new_order(more, t == end ? &within : &beyond);
        if (t == end)
            assert_string_equal(got_text(&within, "notAfter"), until);
    }
    ca_fixture_set_time(0);
    assert_got(&within, 201, "");
    assert_got(&beyond, 400, "malformed");
}

static void
assert_csr_refused(EVP_PKEY *key, const char *spc, bool is_ca)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_finalize(&world.ca, &world.account, &ready, key, spc, is_ca, &got);
    assert_got(&got, 400, "badCSR");
    peer_assert_status(&world.ca, &world.account, ready.url, "ready");
}

void
conformance_csr_of_other_identifiers(void)
{
    EVP_PKEY *key = peer_key_new("P-256");

    assert_csr_refused(key, "5678", false);
    assert_csr_refused(key, NULL, false);
    EVP_PKEY_free(key);
}

void
conformance_csr_of_the_account_key(void)
{
    assert_csr_refused(world.account.key, "1234", false);
}

void
conformance_csr_for_a_ca(void)
{
    EVP_PKEY *key = peer_key_new("P-256");

    assert_csr_refused(key, "1234", true);
    EVP_PKEY_free(key);
}

void
conformance_finalized_order_has_a_certificate(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_send(&world.ca, &world.account, world.valid.url, "", &got);
    assert_string_equal(got_text(&got, "status"), "valid");
    assert_string_equal(got_text(&got, "certificate"), certificate);
    peer_send(&world.ca, &world.account, world.valid.finalize, "{\"csr\":\"AA\"}", &again);
    assert_got(&again, 403, "orderNotReady");
}

void
conformance_chain_is_leaf_first_and_pem_alone(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    struct certs_chain *chain = NULL;

    peer_send(&world.ca, &world.account, certificate, "", &got);
    assert_string_equal(got_header(&got, "Content-Type"), "application/pem-certificate-chain");
    assert_int_equal(strncmp(got.body, "-----BEGIN CERTIFICATE-----\n", 28), 0);
    assert_int_equal(
        certs_chain_parse_pem(got.body, strlen(got.body), CERTS_CHAIN_LEN_MAX, &chain, NULL),
        HSM_OK);
    assert_int_equal(
        X509_verify(certs_chain_get(chain, 0), certs_cert_public(certs_chain_get(chain, 1))), 1);
    certs_chain_free(chain);
}

/* ---- authorizations ---- */

void
conformance_authorization_has_its_members(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *challenge;

    peer_send(&world.ca, &world.account, pending.authz, "", &got);
    assert_string_equal(got_text(&got, "status"), "pending");
    assert_non_null(json_object_get(got.json, "expires"));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(got.json, "identifier"), "value")),
        "MAigBhYEMTIzNA");
    challenge = json_array_get(json_object_get(got.json, "challenges"), 0);
    assert_string_equal(json_string_value(json_object_get(challenge, "type")), "tkauth-01");
    assert_string_equal(json_string_value(json_object_get(challenge, "tkauth-type")), "atc");
    assert_string_equal(json_string_value(json_object_get(challenge, "status")), "pending");
    assert_non_null(json_object_get(challenge, "url"));
    assert_non_null(json_object_get(challenge, "token"));
}

void
conformance_deactivated_authorization_ends_its_order(void)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_order(&world.ca, &world.account, "1234", &order);
    peer_send(&world.ca, &world.account, order.authz, "{\"status\":\"deactivated\"}", &got);
    assert_string_equal(got_text(&got, "status"), "deactivated");
    peer_assert_status(&world.ca, &world.account, order.url, "invalid");
    peer_send(&world.ca, &world.account, order.challenge, "{\"tkauth\":\"x\"}", &again);
    assert_got(&again, 400, "malformed");
}

/* ---- revocation ---- */

static char *
revocation_payload(const struct peer_order *order, const char *more)
{
    size_t len;
    uint8_t *der = peer_download(&world.ca, &world.account, order->url, &len);
    char *text = acme_base64url_encode(der, len), *payload = NULL;

    if (asprintf(&payload, "{\"certificate\":\"%s\"%s}", text, more) < 0)
        abort();
    free(text);
    free(der);
    return payload;
}

static void
revoke(const struct peer *signer, const struct peer_order *order, const char *more, int status,
       const char *problem)
{
    char *payload = revocation_payload(order, more);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_send(&world.ca, signer, "/acme/revoke-cert", payload, &got);
    assert_got(&got, status, problem);
    free(payload);
}

void
conformance_certificate_is_revoked_once(void)
{
    struct peer_order order;

    peer_enrol(&world.ca, &world.account, "1234", &order);
    revoke(&world.account, &order, ",\"reason\":4", 200, "");
    revoke(&world.account, &order, "", 400, "alreadyRevoked");
}

void
conformance_certificate_is_revoked_by_its_key(void)
{
    struct peer_order order;
    struct peer holder = {.key = peer_key_new("P-256")};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_order_ready(&world.ca, &world.account, "1234", &order);
    peer_finalize(&world.ca, &world.account, &order, holder.key, "1234", false, &got);
    assert_string_equal(got_text(&got, "status"), "valid");
    revoke(&holder, &order, "", 200, "");
    EVP_PKEY_free(holder.key);
}

/* RFC 8555 section 7.6: the account is authorized for all identifiers in the certificate. */
void
conformance_certificate_is_revoked_by_who_is_authorized(void)
{
    struct peer_order order, proved;
    struct peer other;

    peer_join(&world.ca, &other);
    peer_enrol(&world.ca, &world.account, "1234", &order);
    peer_order_ready(&world.ca, &other, "1234", &proved);
    revoke(&other, &order, "", 200, "");
    peer_stop(&other);
}

void
conformance_certificate_of_another_ca_is_not_revoked(void)
{
    uint8_t *der = NULL;
    size_t len = 0;
    char *text, *payload = NULL;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    assert_int_equal(certs_cert_der(certs_chain_get(world.ca.pa.signer_chain, 0), &der, &len),
                     HSM_OK);
    text = acme_base64url_encode(der, len);
    if (asprintf(&payload, "{\"certificate\":\"%s\"}", text) < 0)
        abort();
    peer_send(&world.ca, &world.account, "/acme/revoke-cert", payload, &got);
    assert_got(&got, 404, "malformed");
    free(payload);
    free(text);
    free(der);
}

void
conformance_stranger_does_not_revoke(void)
{
    revoke(&world.stranger, &world.valid, "", 403, "unauthorized");
}

void
conformance_reason_is_one_of_the_list(void)
{
    revoke(&world.account, &world.valid, ",\"reason\":7", 400, "badRevocationReason");
}

/* ---- renewal information ---- */

static void
certificate_id(char out[CA_URL_SIZE])
{
    size_t len, id_len, serial_len;
    uint8_t *der = peer_download(&world.ca, &world.account, world.valid.url, &len),
            serial[CERTS_SERIAL_MAX];
    X509 *cert = NULL;
    char *first, *second;

    assert_int_equal(certs_cert_parse_der(der, len, &cert, NULL), HSM_OK);
    serial_len = certs_cert_serial(cert, serial);
    first = acme_base64url_encode(certs_cert_authority_key_id(cert, &id_len), 20);
    assert_int_equal(id_len, 20);
    second = acme_base64url_encode(serial, serial_len);
    snprintf(out, CA_URL_SIZE, "%s.%s", first, second);
    free(first);
    free(second);
    free(der);
    X509_free(cert);
}

void
conformance_renewal_window_has_a_length(void)
{
    char id[CA_URL_SIZE], path[CA_URL_SIZE + 32];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const json_t *window;

    certificate_id(id);
    snprintf(path, sizeof(path), "/acme/renewal-info/%s", id);
    ca_fetch(&world.ca, "GET", path, NULL, NULL, &got);
    assert_got(&got, 200, "");
    assert_true(has_header(&got, "Retry-After"));
    window = json_object_get(got.json, "suggestedWindow");
    assert_true(strcmp(json_string_value(json_object_get(window, "start")),
                       json_string_value(json_object_get(window, "end"))) < 0);
}

void
conformance_certificate_is_replaced_once(void)
{
    char id[CA_URL_SIZE], more[CA_URL_SIZE + 32];
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    certificate_id(id);
    snprintf(more, sizeof(more), ",\"replaces\":\"%s\"", id);
    new_order(more, &first);
    assert_got(&first, 201, "");
    assert_string_equal(got_text(&first, "replaces"), id);
    new_order(more, &second);
    assert_got(&second, 409, "alreadyReplaced");
}

/* ---- running ---- */

static void
run_rule(void **state)
{
    const struct rule *rule = *state;

    if (rule->configure != NULL) {
        rule->configure();
        ca_fixture_restart(&world.ca);
    }
    if (rule->check != NULL)
        rule->check();
    else
        check_request(rule);
}

static int
as_before(void **state)
{
    const struct rule *rule = *state;

    if (rule->configure != NULL) {
        world.ca.config = plain;
        ca_fixture_restart(&world.ca);
    }
    return 0;
}

static int
start(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca_fixture_start(&world.ca);
    conformance_pa_start(&world.ca);
    plain = world.ca.config;
    peer_join(&world.ca, &world.account);
    peer_join(&world.ca, &world.stranger);
    peer_order(&world.ca, &world.account, "1234", &pending);
    peer_order(&world.ca, &world.stranger, "5678", &theirs);
    peer_order_ready(&world.ca, &world.account, "1234", &ready);
    peer_enrol(&world.ca, &world.account, "1234", &world.valid);
    peer_send(&world.ca, &world.account, world.valid.url, "", &got);
    snprintf(certificate, sizeof(certificate), "%s", got_text(&got, "certificate"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    peer_stop(&world.account);
    peer_stop(&world.stranger);
    peer_stop(&nobody);
    ca_fixture_stop(&world.ca);
    conformance_pa_stop();
    return 0;
}

/* ---- the table ---- */

static void
print_answer(FILE *to, const struct rule *rule)
{
    if (rule->answer != NULL) {
        fputs(rule->answer, to);
        return;
    }
    fprintf(to, "%d", rule->status);
    if (rule->problem != NULL)
        fprintf(to, " `%s`", rule->problem);
    for (size_t i = 0; i < RULE_HEADERS && rule->headers[i] != NULL; i++)
        fprintf(to, ", `%s`", rule->headers[i]);
    if (rule->member != NULL)
        fprintf(to, ", member `%s`", rule->member);
}

static void
print_table(FILE *to)
{
    const char *rfc = "";

    fputs(
        "# Conformance\n\n"
        "What `test-hsm/e2e/test_conformance.c` asks of a running STI-CA and STI-PA, and the\n"
        "answer it asserts. Beside that, each answer of the STI-CA to a POST has `Replay-Nonce`,\n"
        "each but the directory `Link: rel=\"index\"`, each refusal `application/problem+json`.\n\n"
        "`scripts/conformance` writes this page from the test's own table; the test fails when it\n"
        "is not current.\n",
        to);
    for (size_t i = 0; i < conformance_rule_count; i++) {
        const struct rule *rule = &conformance_rules[i];

        if (strcmp(rfc, rule->rfc) != 0) {
            rfc = rule->rfc;
            fprintf(to, "\n## %s\n\n| section | what is asked | answer |\n|---|---|---|\n", rfc);
        }
        fprintf(to, "| %s | %s | ", rule->section, rule->must);
        print_answer(to, rule);
        fputs(" |\n", to);
    }
}

static void
the_page_is_current(void **state)
{
    char *table = NULL, page[65536];
    size_t size = 0, len;
    FILE *to = open_memstream(&table, &size), *file = fopen(CONFORMANCE_PAGE, "r");

    (void)state;
    assert_non_null(to);
    assert_non_null(file);
    print_table(to);
    assert_int_equal(fclose(to), 0);
    len = fread(page, 1, sizeof(page) - 1, file);
    page[len] = '\0';
    fclose(file);
    assert_string_equal(page, table); /* on failure, run scripts/conformance */
    free(table);
}

int
main(int argc, char **argv)
{
    struct CMUnitTest *tests;
    int failed;

    if (argc == 2 && strcmp(argv[1], "--table") == 0) {
        print_table(stdout);
        return 0;
    }
    tests = calloc(conformance_rule_count + 1, sizeof(*tests));
    assert_non_null(tests);
    tests[0] = (struct CMUnitTest)cmocka_unit_test(the_page_is_current);
    for (size_t i = 0; i < conformance_rule_count; i++)
        tests[i + 1] = (struct CMUnitTest){.name = conformance_rules[i].must,
                                           .test_func = run_rule,
                                           .teardown_func = as_before,
                                           .initial_state = (void *)&conformance_rules[i]};
    failed = _cmocka_run_group_tests("conformance", tests, conformance_rule_count + 1, start, stop);
    free(tests);
    return failed;
}
