/* conformance_tokens.c - SPC tokens (RFC 9447, RFC 9448). */
#define _GNU_SOURCE /* asprintf */

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

#include <acme/base64url.h>
#include <acme/jws.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#include "conformance_world.h"
#include "peer.h"

static void
answer(const struct peer_order *order, const char *member, const char *token, struct got *got)
{
    char *payload = NULL;

    if (asprintf(&payload, "{\"%s\":\"%s\"}", member, token) < 0)
        abort();
    peer_send(&world.ca, &world.account, order->challenge, payload, got);
    free(payload);
}

static void
assert_token_accepted(const struct token_plan *plan, const char *member)
{
    struct peer_order order;
    char *token = peer_token(&world.ca, plan);
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_order(&world.ca, &world.account, "1234", &order);
    answer(&order, member, token, &got);
    assert_string_equal(got_text(&got, "status"), "valid");
    assert_non_null(json_object_get(got.json, "validated"));
    peer_assert_status(&world.ca, &world.account, order.url, "ready");
    free(token);
}

/* RFC 8555 section 7.1.6: challenge, authorization and order become invalid and show the reason. */
static void
assert_refused_text(const char *token, const char *problem)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const char *type;

    peer_order(&world.ca, &world.account, "1234", &order);
    answer(&order, "tkauth", token, &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "invalid");
    type = json_string_value(json_object_get(json_object_get(got.json, "error"), "type"));
    assert_non_null(type);
    assert_string_equal(strrchr(type, ':') + 1, problem);
    peer_assert_status(&world.ca, &world.account, order.authz, "invalid");
    peer_assert_status(&world.ca, &world.account, order.url, "invalid");
}

static void
assert_token_refused(const struct token_plan *plan, const char *problem)
{
    char *token = peer_token(&world.ca, plan);

    assert_refused_text(token, problem);
    free(token);
}

void
conformance_token_is_accepted(void)
{
    assert_token_accepted(&(struct token_plan){.spc = "1234", .account_key = world.account.key},
                          "tkauth");
}

void
conformance_token_as_deployed_is_accepted(void)
{
    assert_token_accepted(&(struct token_plan){.spc = "1234", .account_key = world.account.key},
                          "atc");
}

void
conformance_token_that_is_none(void)
{
    assert_refused_text("abc", "incorrectResponse");
}

void
conformance_token_of_another_code(void)
{
    assert_token_refused(&(struct token_plan){.spc = "5678", .account_key = world.account.key},
                         "unauthorized");
}

void
conformance_token_of_another_account(void)
{
    assert_token_refused(&(struct token_plan){.spc = "1234", .account_key = world.stranger.key},
                         "unauthorized");
}

void
conformance_token_that_has_expired(void)
{
    assert_token_refused(&(struct token_plan){.spc = "1234",
                                              .account_key = world.account.key,
                                              .exp = time(NULL) - 10},
                         "unauthorized");
}

void
conformance_token_of_another_signer(void)
{
    assert_token_refused(&(struct token_plan){.spc = "1234",
                                              .account_key = world.account.key,
                                              .signer = world.ca.pa.crl_key},
                         "unauthorized");
}

void
conformance_token_of_an_unknown_authority(void)
{
    assert_token_refused(&(struct token_plan){.spc = "1234",
                                              .account_key = world.account.key,
                                              .x5u = "https://pa.example/signer.pem"},
                         "unauthorized");
}

void
conformance_token_whose_signer_is_not_to_be_had(void)
{
    char x5u[CA_URL_SIZE];

    snprintf(x5u, sizeof(x5u), "%s/pa/nothing.pem", world.ca.pa.base_url);
    assert_token_refused(
        &(struct token_plan){.spc = "1234", .account_key = world.account.key, .x5u = x5u},
        "connection");
}

/* A good token whose header or payload is edited and which is signed again. */
static void
assert_edited_refused(void (*edit)(json_t *header, json_t *payload), const char *problem)
{
    char *good = peer_token(&world.ca,
                            &(struct token_plan){.spc = "1234", .account_key = world.account.key});
    struct acme_jws *jws = NULL;
    size_t len;
    json_t *header, *payload;
    char *header_text, *text, *edited = NULL;

    assert_int_equal(acme_jws_parse_compact(good, strlen(good), &jws, NULL), HSM_OK);
    header = json_loads(acme_jws_header_text(jws, &len), 0, NULL);
    payload = json_loads(acme_jws_payload(jws, &len), 0, NULL);
    edit(header, payload);
    header_text = json_dumps(header, JSON_COMPACT);
    text = json_dumps(payload, JSON_COMPACT);
    assert_int_equal(
        acme_jws_sign_compact(header_text, text, strlen(text), world.ca.pa.signer_key, &edited),
        HSM_OK);
    assert_refused_text(edited, problem);
    free(header_text);
    free(text);
    free(edited);
    free(good);
    json_decref(header);
    json_decref(payload);
    acme_jws_free(jws);
}

static void
set_type(json_t *header, json_t *payload)
{
    (void)header;
    json_object_set_new(json_object_get(payload, "atc"), "tktype",
                        json_string("JWTClaimConstraints"));
}

static void
drop_fingerprint(json_t *header, json_t *payload)
{
    (void)header;
    json_object_del(json_object_get(payload, "atc"), "fingerprint");
}

static void
drop_jti(json_t *header, json_t *payload)
{
    (void)header;
    json_object_del(payload, "jti");
}

static void
unset_exp(json_t *header, json_t *payload)
{
    (void)header;
    json_object_set_new(payload, "exp", json_null());
}

/* The signer's own certificate, in the standard alphabet (RFC 7515 section 4.1.6). */
static void
add_x5c(json_t *header, json_t *payload)
{
    uint8_t *der = NULL;
    size_t len = 0;
    char *text;

    (void)payload;
    assert_int_equal(certs_cert_der(certs_chain_get(world.ca.pa.signer_chain, 0), &der, &len),
                     HSM_OK);
    text = acme_base64_encode(der, len);
    json_object_set_new(header, "x5c", json_pack("[s]", text));
    free(text);
    free(der);
}

/* RFC 9448 section 6 also permits the certificate in the token. */
void
conformance_token_with_its_signers_certificate(void)
{
    char *good = peer_token(&world.ca,
                            &(struct token_plan){.spc = "1234", .account_key = world.account.key});
    struct peer_order order;
    struct acme_jws *jws = NULL;
    json_t *header = json_pack("{s:s, s:s}", "alg", "ES256", "typ", "JWT");
    char *header_text, *token = NULL;
    const char *payload;
    size_t len;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    assert_int_equal(acme_jws_parse_compact(good, strlen(good), &jws, NULL), HSM_OK);
    payload = acme_jws_payload(jws, &len);
    add_x5c(header, NULL);
    header_text = json_dumps(header, JSON_COMPACT);
    assert_int_equal(
        acme_jws_sign_compact(header_text, payload, len, world.ca.pa.signer_key, &token), HSM_OK);
    peer_order(&world.ca, &world.account, "1234", &order);
    answer(&order, "tkauth", token, &got);
    assert_string_equal(got_text(&got, "status"), "valid");
    free(token);
    free(header_text);
    free(good);
    json_decref(header);
    acme_jws_free(jws);
}

void
conformance_token_with_x5u_and_x5c(void)
{
    assert_edited_refused(add_x5c, "incorrectResponse");
}

void
conformance_token_without_identifier(void)
{
    assert_edited_refused(drop_jti, "incorrectResponse");
}

void
conformance_token_without_fingerprint(void)
{
    assert_edited_refused(drop_fingerprint, "incorrectResponse");
}

/* Neither member is used: the challenge remains unchanged. */
void
conformance_answer_of_both_members(void)
{
    char *token = peer_token(&world.ca,
                             &(struct token_plan){.spc = "1234", .account_key = world.account.key});
    struct peer_order order;
    char *payload = NULL;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    if (asprintf(&payload, "{\"tkauth\":\"%s\",\"atc\":\"%s\"}", token, token) < 0)
        abort();
    peer_order(&world.ca, &world.account, "1234", &order);
    peer_send(&world.ca, &world.account, order.challenge, payload, &got);
    assert_got(&got, 400, "malformed");
    peer_assert_status(&world.ca, &world.account, order.url, "pending");
    free(payload);
    free(token);
}

void
conformance_token_of_another_type(void)
{
    assert_edited_refused(set_type, "incorrectResponse");
}

void
conformance_token_without_expiry(void)
{
    assert_edited_refused(unset_exp, "incorrectResponse");
}

void
conformance_token_for_a_ca_wants_a_ca_csr(void)
{
    struct peer_order order;
    EVP_PKEY *key = peer_key_new("P-256");
    char *token = peer_token(
        &world.ca,
        &(struct token_plan){.spc = "1234", .account_key = world.account.key, .ca = true});
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got refused = {.status = 0};

    peer_order(&world.ca, &world.account, "1234", &order);
    answer(&order, "tkauth", token, &got);
    assert_string_equal(got_text(&got, "status"), "valid");
    peer_finalize(&world.ca, &world.account, &order, key, "1234", false, &refused);
    assert_got(&refused, 400, "badCSR");
    free(token);
    EVP_PKEY_free(key);
}
