/* test_server_finalize.c - mirrors acme/src/server_challenge.c and server_finalize.c: from the SPC
 * token to the certificate. */
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
#include <openssl/hmac.h>
#include <openssl/x509.h>

#include <acme/jwk.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/csr.h>
#include <hsm/defer.h>

#include "ca_group.h"
#include "peer_jws.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY          86400 /* seconds */
#define THREADS      8

/* ---- the challenge (RFC 9448 section 6) ---- */

static void
answer_challenge(const struct peer *peer, const struct peer_order *order, const char *member,
                 const char *token, struct got *got)
{
    char *payload = NULL;

    if (asprintf(&payload, "{\"%s\":\"%s\"}", member, token) < 0)
        abort();
    peer_send(&ca, peer, order->challenge, payload, got);
    free(payload);
}

static void
assert_token_refused(const struct peer *peer, const char *token, const char *problem,
                     const char *what)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};
    CLEAR_AFTER(got_clear) struct got finalized = {.status = 0};
    const char *type;

    peer_order(&ca, peer, "1234", &order);
    answer_challenge(peer, &order, "tkauth", token, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(got_text(&answer, "status"), "invalid");
    type = json_string_value(json_object_get(json_object_get(answer.json, "error"), "type"));
    if (type == NULL || strcmp(strrchr(type, ':') + 1, problem) != 0)
        fail_msg("%s: %s", what, answer.body);
    peer_assert_status(&ca, peer, order.authz, "invalid");
    peer_send(&ca, peer, order.url, "", &read);
    assert_string_equal(got_text(&read, "status"), "invalid");
    assert_non_null(json_object_get(read.json, "error"));
    peer_finalize(&ca, peer, &order, peer->key, "1234", false, &finalized);
    ca_assert_refused(&finalized, 403, "orderNotReady", what);
}

static void
an_spc_token_with_one_fault_ends_the_order(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *other = peer_key_new("P-256");
    char rogue[CA_URL_SIZE], garbage[CA_URL_SIZE], missing[CA_URL_SIZE], near[CA_URL_SIZE];
    char dots[CA_URL_SIZE];
    const struct {
        const char *what;
        struct token_plan plan;
        const char *problem;
    } cases[] = {
        {"expired", {.exp = ca_fixture_time() - 1}, "unauthorized"},
        {"fingerprint of another key", {.account_key = other}, "unauthorized"},
        {"another SPC", {.spc = "5678"}, "unauthorized"},
        {"another signer", {.signer = ca.issuing_key}, "unauthorized"},
        {"signer that may not", {.signer = ca.pa.crl_key, .x5u = rogue}, "unauthorized"},
        {"x5u elsewhere", {.x5u = "https://evil.example/signer.pem"}, "unauthorized"},
        {"x5u beside the authority", {.x5u = near}, "unauthorized"},
        {"x5u that climbs out", {.x5u = dots}, "unauthorized"},
        {"x5u of no chain", {.x5u = garbage}, "connection"},
        {"x5u of nothing", {.x5u = missing}, "connection"},
    };

    snprintf(rogue, sizeof(rogue), "%s/pa/rogue.pem", ca.pa.base_url);
    snprintf(garbage, sizeof(garbage), "%s/pa/garbage.pem", ca.pa.base_url);
    snprintf(missing, sizeof(missing), "%s/pa/missing.pem", ca.pa.base_url);
    snprintf(near, sizeof(near), "%s.evil.example/pa/signer.pem", ca.pa.base_url);
    snprintf(dots, sizeof(dots), "%s/pa/../pa/signer.pem", ca.pa.base_url);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct token_plan plan = cases[i].plan;
        char *token;

        if (plan.spc == NULL)
            plan.spc = "1234";
        if (plan.account_key == NULL)
            plan.account_key = peer->key;
        token = peer_token(&ca, &plan);
        assert_token_refused(peer, token, cases[i].problem, cases[i].what);
        free(token);
    }
    EVP_PKEY_free(other);
}

/* The same claims as a good token, under another alg. */
static char *
token_with_alg(const struct peer *peer, const char *alg)
{
    char fingerprint[ACME_FINGERPRINT_LEN + 1], header[CA_URL_SIZE + 64], payload[512];

    assert_int_equal(acme_fingerprint_format(peer->key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    snprintf(header, sizeof(header),
             "{\"alg\":\"%s\",\"typ\":\"JWT\",\"x5u\":\"%s/pa/signer.pem\"}", alg, ca.pa.base_url);
    snprintf(payload, sizeof(payload),
             "{\"exp\":%lld,\"jti\":\"x\",\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":"
             "\"MAigBhYEMTIzNA\",\"ca\":false,\"fingerprint\":\"%s\"}}",
             (long long)ca_fixture_time() + 600, fingerprint);
    if (strcmp(alg, "HS256") == 0) { /* keyed with the signer's public key, as an attacker could */
        char *input = peer_signing_input(header, payload), *token;
        uint8_t mac[32];

        assert_non_null(HMAC(EVP_sha256(), hsm_key_point(ca.pa.signer_key), HSM_P256_POINT_LEN,
                             (const uint8_t *)input, strlen(input), mac, NULL));
        token = peer_jws_with(header, payload, mac, sizeof(mac));
        free(input);
        return token;
    }
    return strcmp(alg, "none") == 0 ? peer_jws_with(header, payload, "", 0)
                                    : peer_jws(peer->key, header, payload);
}

static void
an_spc_token_that_is_not_es256_ends_the_order(void **state)
{
    static const char *const algs[] = {"none", "HS256", "ES256K", "RS256"};

    for (size_t i = 0; i < COUNT(algs); i++) {
        struct peer_order order;
        CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
        char *token = token_with_alg(*state, algs[i]);

        peer_order(&ca, *state, "1234", &order);
        answer_challenge(*state, &order, "atc", token, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(got_text(&answer, "status"), "invalid");
        peer_assert_status(&ca, *state, order.url, "invalid");
        free(token);
    }
}

static void
what_is_no_spc_token_ends_the_order(void **state)
{
    static const char *const tokens[] = {"", "x", "a.b.c", "e30.e30.AAAA"};

    for (size_t i = 0; i < COUNT(tokens); i++)
        assert_token_refused(*state, tokens[i], "incorrectResponse", tokens[i]);
}

static bool
the_sti_pa_is_away(struct ca_fixture *fixture, const struct acme_http_request *request,
                   struct acme_http_response *response)
{
    (void)fixture;
    if (strcmp(acme_http_request_path(request), "/pa/signer.pem") != 0)
        return false;
    acme_http_respond(response, 503, NULL, NULL, 0);
    return true;
}

static void
an_sti_pa_that_is_away_costs_no_order(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got away = {.status = 0};
    CLEAR_AFTER(got_clear) struct got back = {.status = 0};
    char *token;

    ca_fixture_restart(&ca); /* empties the cache of signers' certificates */
    peer_order(&ca, peer, "1234", &order);
    token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key});
    ca.intercept = the_sti_pa_is_away;
    answer_challenge(peer, &order, "tkauth", token, &away);
    ca.intercept = NULL;
    ca_assert_refused(&away, 503, "connection", "the STI-PA is away");
    assert_non_null(got_header(&away, "Retry-After"));
    peer_assert_status(&ca, peer, order.authz, "pending");
    answer_challenge(peer, &order, "tkauth", token, &back);
    assert_int_equal(back.status, 200);
    assert_string_equal(got_text(&back, "status"), "valid");
    peer_assert_status(&ca, peer, order.url, "ready");
    free(token);
}

static void
a_response_without_one_token_leaves_the_challenge_pending(void **state)
{
    static const char *const payloads[] = {"{}", "{\"tkauth\":7}",
                                           "{\"tkauth\":\"a\",\"atc\":\"a\"}", "{\"other\":\"a\"}"};
    struct peer_order order;

    peer_order(&ca, *state, "1234", &order);
    for (size_t i = 0; i < COUNT(payloads); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_send(&ca, *state, order.challenge, payloads[i], &got);
        ca_assert_refused(&got, 400, "malformed", payloads[i]);
    }
    peer_assert_status(&ca, *state, order.challenge, "pending");
}

static void
every_deployed_form_of_a_good_token_is_taken(void **state)
{
    const struct peer *peer = *state;
    char spki[ACME_FINGERPRINT_LEN + 1], thumbprint[ACME_THUMBPRINT_LEN + 1];
    const struct {
        const char *member;
        struct token_plan plan;
    } forms[] = {
        {"tkauth", {.spc = "1234", .account_key = peer->key}},
        {"atc", {.spc = "1234", .account_key = peer->key}},
        {"atc", {.spc = "1234", .tkvalue = "MAigBhYEMTIzNA==", .fingerprint = spki}},
        {"tkauth", {.spc = "1234", .fingerprint = thumbprint}},
    };

    assert_int_equal(acme_fingerprint_format(peer->key, ACME_FINGERPRINT_SPKI, spki), HSM_OK);
    assert_int_equal(acme_jwk_thumbprint(peer->key, thumbprint), HSM_OK);
    for (size_t i = 0; i < COUNT(forms); i++) {
        struct peer_order order;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        CLEAR_AFTER(got_clear) struct got again = {.status = 0};
        char *token = peer_token(&ca, &forms[i].plan);

        peer_order(&ca, peer, "1234", &order);
        answer_challenge(peer, &order, forms[i].member, token, &got);
        assert_int_equal(got.status, 200);
        assert_string_equal(got_text(&got, "status"), "valid");
        assert_true(strlen(got_text(&got, "validated")) == 20);
        peer_assert_status(&ca, peer, order.authz, "valid");
        peer_assert_status(&ca, peer, order.url, "ready");
        answer_challenge(peer, &order, forms[i].member, "x", &again); /* too late to spoil it */
        assert_string_equal(got_text(&again, "status"), "valid");
        free(token);
    }
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM challenge WHERE status = 'valid'"
                                           " AND (jti IS NULL OR token_exp IS NULL)"),
                     0);
}

/* ---- finalize and certificate ---- */

static void
a_certificate_says_what_the_ca_knows_and_not_what_the_csr_claims(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};
    CLEAR_AFTER(got_clear) struct got pem = {.status = 0};
    char *subject;

    assert_int_equal(acme_server_participant_set(ca.store, "709J", "Bücher Telecom", "US"), HSM_OK);
    peer_enrol(&ca, peer, "709J", &order);
    peer_send(&ca, peer, order.url, "", &read);
    peer_send(&ca, peer, got_text(&read, "certificate"), "", &pem);
    assert_int_equal(certs_chain_parse_pem(pem.body, strlen(pem.body), 8, &chain, &why), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2); /* without the root */
    if (certs_chain_verify(chain, ca.root, CERTS_FOR_STI, ca_fixture_time(), &why) != HSM_OK)
        fail_msg("%s", why.text);
    subject = certs_cert_subject(certs_chain_get(chain, 0));
    assert_string_equal(subject, "CN=SHAKEN 709J,O=B\\C3\\BCcher Telecom,C=US");
    free(subject);
    certs_chain_free(chain);
}

static void
a_participant_without_a_name_is_certified_as_the_holder_of_its_code(void **state)
{
    struct peer_order order;
    struct hsm_reason why = {""};
    size_t len;
    uint8_t *der;
    char *subject;
    X509 *cert = NULL;

    peer_enrol(&ca, *state, "5678", &order);
    der = peer_download(&ca, *state, order.url, &len);
    assert_int_equal(certs_cert_parse_der(der, len, &cert, &why), HSM_OK);
    subject = certs_cert_subject(cert);
    assert_string_equal(subject, "CN=SHAKEN 5678,O=Service Provider 5678,C=US");
    free(subject);
    X509_free(cert);
    free(der);
}

static void
a_csr_that_does_not_fit_is_refused_and_the_order_stays_ready(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256"), *p384 = peer_key_new("P-384"), *used;
    struct peer other;
    struct peer_order order, before;
    const struct {
        const char *what;
        EVP_PKEY **key;
        const char *spc;
        bool ca;
    } cases[] = {
        {"another SPC", &key, "5678", false},
        {"no TNAuthList", &key, NULL, false},
        {"CA:TRUE", &key, "1234", true},
        {"P-384", &p384, "1234", false},
        {"the account's key", (EVP_PKEY **)&peer->key, "1234", false},
        {"another account's key", &other.key, "1234", false},
        {"a key certified before", &used, "1234", false},
    };
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got malformed = {.status = 0};
    CLEAR_AFTER(got_clear) struct got garbage = {.status = 0};
    CLEAR_AFTER(got_clear) struct got good = {.status = 0};

    peer_join(&ca, &other);
    used = peer_key_new("P-256");
    peer_order_ready(&ca, peer, "1234", &before);
    peer_finalize(&ca, peer, &before, used, "1234", false, &first);
    assert_int_equal(first.status, 200);

    peer_order_ready(&ca, peer, "1234", &order);
    for (size_t i = 0; i < COUNT(cases); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        peer_finalize(&ca, peer, &order, *cases[i].key, cases[i].spc, cases[i].ca, &got);
        ca_assert_refused(&got, 400, "badCSR", cases[i].what);
        peer_assert_status(&ca, peer, order.url, "ready");
    }
    peer_send(&ca, peer, order.finalize, "{\"csr\":\"a+b=\"}", &malformed);
    ca_assert_refused(&malformed, 400, "malformed", "not base64url");
    peer_send(&ca, peer, order.finalize, "{\"csr\":\"AAAA\"}", &garbage);
    ca_assert_refused(&garbage, 400, "badCSR", "not DER");
    peer_finalize(&ca, peer, &order, key, "1234", false, &good);
    assert_int_equal(good.status, 200);
    EVP_PKEY_free(key);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(used);
    peer_stop(&other);
}

/* A certificate without them would allow more than the applicant wants. */
static void
a_csr_with_claim_constraints_is_refused(void **state)
{
    const struct peer *peer = *state;
    const struct certs_claim_constraints content = {.must_include =
                                                        (const char *[]){"attest", NULL}};
    static const struct {
        enum certs_constraints_form form;
        const char *name;
    } cases[] = {
        {CERTS_CONSTRAINTS_JWT, "CSR: JWTClaimConstraints"},
        {CERTS_CONSTRAINTS_ENHANCED, "CSR: EnhancedJWTClaimConstraints"},
    };
    struct hsm_key *key = NULL;
    struct certs_tnauthlist *list = NULL;
    struct peer_order order;

    assert_int_equal(hsm_key_generate(ca.pa.token, "constrained", &key), HSM_OK);
    assert_int_equal(certs_tnauthlist_from_spc("1234", &list), HSM_OK);
    peer_order_ready(&ca, peer, "1234", &order);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct certs_csr_request request = {.tnauthlist = list};
        struct certs_constraints *constraints = NULL;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        char *text, *payload = NULL;
        uint8_t *der = NULL;
        size_t len;

        assert_int_equal(certs_constraints_new(cases[i].form, &content, &constraints, NULL),
                         HSM_OK);
        request.constraints = constraints;
        assert_int_equal(certs_csr_new(&request, key, &der, &len), HSM_OK);
        text = acme_base64url_encode(der, len);
        if (asprintf(&payload, "{\"csr\":\"%s\"}", text) < 0)
            abort();
        peer_send(&ca, peer, order.finalize, payload, &got);
        ca_assert_refused(&got, 400, "badCSR", cases[i].name);
        assert_non_null(strstr(got_text(&got, "detail"), cases[i].name));
        free(payload);
        free(text);
        free(der);
        certs_constraints_free(constraints);
    }
    peer_assert_status(&ca, peer, order.url, "ready");
    certs_tnauthlist_free(list);
    hsm_key_free(key);
}

static void
a_token_for_a_ca_certificate_gives_none_here(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    char *token =
        peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key, .ca = true});
    CLEAR_AFTER(got_clear) struct got answer = {.status = 0};
    CLEAR_AFTER(got_clear) struct got delegate = {.status = 0};
    CLEAR_AFTER(got_clear) struct got end_entity = {.status = 0};

    peer_order(&ca, peer, "1234", &order);
    answer_challenge(peer, &order, "tkauth", token, &answer);
    assert_string_equal(got_text(&answer, "status"), "valid");
    peer_finalize(&ca, peer, &order, key, "1234", true, &delegate);
    ca_assert_refused(&delegate, 400, "badCSR", "CA:TRUE");
    assert_non_null(strstr(got_text(&delegate, "detail"), "delegate"));
    peer_finalize(&ca, peer, &order, key, "1234", false, &end_entity);
    ca_assert_refused(&end_entity, 400, "badCSR", "CA:FALSE");
    free(token);
    EVP_PKEY_free(key);
}

static void
the_account_key_is_certified_only_by_the_operators_leave(void **state)
{
    struct peer peer;
    struct peer_order first, second;
    CLEAR_AFTER(got_clear) struct got once = {.status = 0};
    CLEAR_AFTER(got_clear) struct got twice = {.status = 0};

    (void)state;
    ca.config.account_key_in_csr = true;
    ca_fixture_restart(&ca);
    peer_join(&ca, &peer);
    peer_order_ready(&ca, &peer, "1234", &first);
    peer_finalize(&ca, &peer, &first, peer.key, "1234", false, &once);
    peer_order_ready(&ca, &peer, "1234", &second);
    peer_finalize(&ca, &peer, &second, peer.key, "1234", false, &twice); /* renewal, same key */
    ca.config.account_key_in_csr = false;
    ca_fixture_restart(&ca);
    assert_int_equal(once.status, 200);
    assert_int_equal(twice.status, 200);
    peer_stop(&peer);
}

static void
an_order_is_finalized_once(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got pending = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};

    peer_order(&ca, peer, "1234", &order);
    peer_finalize(&ca, peer, &order, key, "1234", false, &pending);
    ca_assert_refused(&pending, 403, "orderNotReady", "pending");
    peer_enrol(&ca, peer, "1234", &order);
    peer_finalize(&ca, peer, &order, key, "1234", false, &again);
    ca_assert_refused(&again, 403, "orderNotReady", "valid");
    EVP_PKEY_free(key);
}

struct race {
    const struct peer *peer;
    const char *url;
    char *body;
    int status;
};

static void *
send_in_race(void *context)
{
    struct race *race = context;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_fetch(&ca, "POST", race->url, "application/jose+json", race->body, &got);
    race->status = got.status;
    return NULL;
}

static void
of_many_requests_that_finalize_an_order_one_gets_its_certificate(void **state)
{
    const struct peer *peer = *state;
    struct peer_order order;
    struct race races[THREADS];
    pthread_t threads[THREADS];
    int good = 0;
    int64_t before = ca_fixture_count(&ca, "SELECT count(*) FROM issuance");

    peer_order_ready(&ca, peer, "1234", &order);
    for (size_t i = 0; i < THREADS; i++) {
        EVP_PKEY *key = peer_key_new("P-256");
        char *payload = peer_csr_payload(key, "1234", false);

        races[i] = (struct race){.peer = peer, .url = order.finalize};
        races[i].body =
            peer_body(&ca, peer, &(struct post){.path = order.finalize, .payload = payload});
        free(payload);
        EVP_PKEY_free(key);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_race, &races[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        free(races[i].body);
        assert_true(races[i].status == 200 || races[i].status == 403);
        good += races[i].status == 200;
    }
    assert_int_equal(good, 1);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM issuance"), before + 1);
    peer_assert_status(&ca, peer, order.url, "valid");
}

/* Counts of everything that could have changed, combined into one number. */
static int64_t
changes_so_far(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM issuance") * 1000000 +
           ca_fixture_count(&ca, "SELECT count(*) FROM acme_order") * 1000 +
           ca_fixture_count(&ca, "SELECT count(*) FROM challenge WHERE status <> 'pending'") +
           ca_fixture_count(&ca, "SELECT count(*) FROM authz WHERE status = 'deactivated'");
}

static void
assert_replay_is_refused(const struct peer *peer, const char *url, const char *payload)
{
    char nonce[64], *body;
    int64_t before;
    CLEAR_AFTER(got_clear) struct got used = {.status = 0};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_nonce(&ca, nonce);
    peer_post(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce}, &used);
    assert_int_equal(used.status, 200);
    before = changes_so_far();
    body = peer_body(&ca, peer, &(struct post){.path = url, .payload = payload, .nonce = nonce});
    ca_fetch(&ca, "POST", url, "application/jose+json", body, &got);
    free(body);
    ca_assert_refused(&got, 400, "badNonce", url);
    ca_assert_post_headers(&got);
    assert_string_equal(got_header(&got, "Location"), "");
    assert_int_equal(changes_so_far(), before);
}

/* The server must use up the nonce before it acts on a request. */
static void
with_a_used_nonce_nothing_is_changed_and_nothing_told(void **state)
{
    const struct peer *peer = *state;
    struct peer_order pending, ready, valid;
    EVP_PKEY *key = peer_key_new("P-256");
    char *order = peer_order_payload("1234"), *csr = peer_csr_payload(key, "1234", false);
    char *token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = peer->key});
    char *answer = NULL;
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};

    assert_true(asprintf(&answer, "{\"tkauth\":\"%s\"}", token) > 0);
    peer_order(&ca, peer, "1234", &pending);
    peer_order_ready(&ca, peer, "1234", &ready);
    peer_enrol(&ca, peer, "1234", &valid);
    peer_send(&ca, peer, valid.url, "", &read);
    assert_replay_is_refused(peer, "/acme/new-order", order);
    assert_replay_is_refused(peer, pending.authz, "");
    assert_replay_is_refused(peer, pending.authz, "{\"status\":\"deactivated\"}");
    assert_replay_is_refused(peer, pending.challenge, answer);
    assert_replay_is_refused(peer, ready.finalize, csr);
    assert_replay_is_refused(peer, valid.url, "");
    assert_replay_is_refused(peer, got_text(&read, "certificate"), "");
    peer_assert_status(&ca, peer, pending.url, "pending");
    peer_assert_status(&ca, peer, ready.url, "ready");
    free(answer);
    free(token);
    free(csr);
    free(order);
    EVP_PKEY_free(key);
}

static void
requests_at_once_with_one_nonce_use_it_once(void **state)
{
    const struct peer *peer = *state;
    struct race races[THREADS];
    pthread_t threads[THREADS];
    char nonce[64];
    int good = 0;

    ca_nonce(&ca, nonce);
    for (size_t i = 0; i < THREADS; i++) {
        races[i] = (struct race){.peer = peer, .url = peer->kid};
        races[i].body =
            peer_body(&ca, peer, &(struct post){.path = peer->kid, .payload = "", .nonce = nonce});
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_race, &races[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        free(races[i].body);
        assert_true(races[i].status == 200 || races[i].status == 400);
        good += races[i].status == 200;
    }
    assert_int_equal(good, 1);
}

static void
an_order_that_is_not_fulfilled_in_time_is_invalid_and_then_gone(void **state)
{
    const struct peer *peer = *state;
    EVP_PKEY *key = peer_key_new("P-256");
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got finalized = {.status = 0};
    CLEAR_AFTER(got_clear) struct got gone = {.status = 0};

    peer_order_ready(&ca, peer, "1234", &order);
    ca_fixture_set_time(time(NULL) + 7 * DAY);
    peer_finalize(&ca, peer, &order, key, "1234", false, &finalized);
    ca_assert_refused(&finalized, 403, "orderNotReady", "expired");
    peer_assert_status(&ca, peer, order.url, "invalid");
    peer_assert_status(&ca, peer, order.authz, "expired");
    acme_server_expire(ca.server);
    peer_assert_status(&ca, peer, order.url, "invalid");
    ca_fixture_set_time(time(NULL) + 8 * DAY + 1);
    acme_server_expire(ca.server);
    peer_send(&ca, peer, order.url, "", &gone);
    ca_assert_refused(&gone, 404, "malformed", "deleted");
    ca_fixture_set_time(0);
    EVP_PKEY_free(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_at_once_with_one_nonce_use_it_once),
        cmocka_unit_test(with_a_used_nonce_nothing_is_changed_and_nothing_told),
        cmocka_unit_test(an_spc_token_with_one_fault_ends_the_order),
        cmocka_unit_test(an_spc_token_that_is_not_es256_ends_the_order),
        cmocka_unit_test(what_is_no_spc_token_ends_the_order),
        cmocka_unit_test(an_sti_pa_that_is_away_costs_no_order),
        cmocka_unit_test(a_response_without_one_token_leaves_the_challenge_pending),
        cmocka_unit_test(every_deployed_form_of_a_good_token_is_taken),
        cmocka_unit_test(a_certificate_says_what_the_ca_knows_and_not_what_the_csr_claims),
        cmocka_unit_test(a_participant_without_a_name_is_certified_as_the_holder_of_its_code),
        cmocka_unit_test(a_csr_that_does_not_fit_is_refused_and_the_order_stays_ready),
        cmocka_unit_test(a_csr_with_claim_constraints_is_refused),
        cmocka_unit_test(a_token_for_a_ca_certificate_gives_none_here),
        cmocka_unit_test(the_account_key_is_certified_only_by_the_operators_leave),
        cmocka_unit_test(an_order_is_finalized_once),
        cmocka_unit_test(of_many_requests_that_finalize_an_order_one_gets_its_certificate),
        cmocka_unit_test(an_order_that_is_not_fulfilled_in_time_is_invalid_and_then_gone),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
