/* test_service.c - mirrors sks/src/service.c and ms_api*.c: the API through a Unix socket and TLS.
 */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include <sks/passport.h>
#include <sks/service.h>
#include <sks/signers.h>
#include <sks/verify.h>

#include "caller.h"
#include "data.h"
#include "ecosystem.h"
#include "one_token.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOW          1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define X5U          "https://cr.sp.example/certs/sp-1234.pem" /* x5u of the vectors */
#define BEARER       "a9993e364706816aba3e25717850c26c"
#define SIGNING      "/stir/v1/signing"
#define VERIFICATION "/stir/v1/verification"
#define JSON_TYPE    "Content-Type: application/json"
#define TOKEN_URI    "pkcs11:token=all"
#define ORIGID       "de305d54-75b4-431b-adb2-eb6b9e546014"

/* The request that every test starts from. */
#define MEMBER_ATTEST "\"attest\":\"A\""
#define MEMBER_DEST   "\"dest\":{\"tn\":[\"12155551213\"]}"
#define MEMBER_IAT    "\"iat\":1768478400"
#define MEMBER_ORIG   "\"orig\":{\"tn\":\"12155551212\"}"
#define MEMBER_ORIGID "\"origid\":\"" ORIGID "\""
#define SIGN_THIS(attest, dest, iat, orig, origid)                                                 \
    "{\"signingRequest\":{" attest "," dest "," iat "," orig "," origid "}}"
#define GOOD_SIGNING SIGN_THIS(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID)

#define MEMBER_FROM     "\"from\":{\"tn\":\"12155551212\"}"
#define MEMBER_IDENTITY "\"identity\":\"a.b.c;info=<https://cr.example/1.pem>\""
#define MEMBER_TIME     "\"time\":1768478400"
#define MEMBER_TO       "\"to\":{\"tn\":[\"12155551213\"]}"
#define VERIFY_THIS(from, identity, time, to)                                                      \
    "{\"verificationRequest\":{" from "," identity "," time "," to "}}"

static struct {
    struct ecosystem eco; /* its STI certificates are valid at the time of the vectors */
    struct certs_chain *vector_chain;
    struct sks_trust *trust;
    struct sks_verifier *verifier;
    const struct certs_chain *served; /* served for every x5u */
    struct hsm_secret *bearer;
    struct hsm_key *client_key;
    struct certs_chain *client;
    char path[160]; /* of the catalogue */
    _Atomic time_t now;
    atomic_bool repository_is_silent;
    atomic_uint fetching;
} world;

/* One service with its two listeners, created for each test. */
static struct {
    struct sks_catalogue *catalogue;
    struct sks_tokens *tokens;
    struct hsm_metrics *metrics;
    struct sks_service *service;
    struct unix_server local;
    struct acme_http_loop *loop;
    pthread_t thread;
    char base[64];
    struct caller tls;
} sks;

static struct called called;

/* ---- the environment ---- */

static time_t
vector_now(void)
{
    return world.now;
}

static enum hsm_status
serve_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    struct certs_chain *copy = NULL;

    (void)context;
    (void)x5u;
    (void)now;
    (void)why;
    atomic_fetch_add(&world.fetching, 1);
    while (atomic_load(&world.repository_is_silent))
        usleep(1000);
    atomic_fetch_sub(&world.fetching, 1);
    assert_int_equal(certs_chain_new(&copy), HSM_OK);
    assert_int_equal(certs_chain_append(copy, world.served), HSM_OK);
    *out = copy;
    return HSM_OK;
}

/* Our roots and those of the vectors; no CRL is checked. */
static void
make_verifier(void)
{
    struct certs_chain *roots = NULL;

    eco_must(certs_chain_read(data_path("self/sti-ca-root.cert.pem"), &roots), "roots");
    eco_must(certs_chain_append(roots, world.eco.roots), "roots");
    eco_must(sks_trust_fixed(roots, NULL, 0, NULL, world.eco.pa_anchors, &world.trust), "trust");
    eco_must(
        sks_verifier_new(&(struct sks_verifier_config){.trust = world.trust, .chain = serve_chain},
                         &world.verifier),
        "verifier");
    certs_chain_free(roots);
}

static void
make_client(const char *label)
{
    world.client_key = eco_key(&world.eco, label);
    world.client = eco_chain(
        eco_issue(&world.eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_TLS_CLIENT,
                                               .subject = {.common_name = "caller"}},
                  hsm_key_public(world.client_key), world.eco.tls_anchors, world.eco.tls_root_key));
}

static int
make_world(void **state)
{
    struct ecosystem *eco = &world.eco;

    (void)state;
    world.now = NOW;
    eco->now = NOW;
    softhsm_start();
    eco->token = softhsm_token("all");
    eco_pa_new(eco);
    eco_ca_new(eco);
    eco->sp_key = eco_key(eco, "sp");
    eco->sp = eco_sp_chain(eco, ECO_SPC, hsm_key_public(eco->sp_key), 0, 0);
    eco->now = time(NULL); /* TLS uses the real time, not that of the vectors */
    eco_tls_new(eco);
    make_client("tls-client");
    make_verifier();
    eco_must(certs_chain_read(data_path("self/sp-1234.chain.pem"), &world.vector_chain), "chain");
    eco_must(hsm_secret_new(BEARER, strlen(BEARER), &world.bearer), "bearer");
    snprintf(world.path, sizeof(world.path), "%s/catalogue.db", softhsm_dir());
    return 0;
}

static int
end_world(void **state)
{
    (void)state;
    hsm_secret_free(world.bearer);
    certs_chain_free(world.client);
    hsm_key_free(world.client_key);
    certs_chain_free(world.vector_chain);
    sks_verifier_free(world.verifier);
    sks_trust_free(world.trust);
    eco_stop(&world.eco);
    return 0;
}

/* Publish a credential with that key and chain; returns its id. */
static int64_t
publish(const char *key_uri, const struct certs_chain *chain, const char *spc, const char *x5u)
{
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)spc,
        .token_uri = (char *)(uintptr_t)TOKEN_URI,
        .key_uri = (char *)(uintptr_t)key_uri,
        .x5u = (char *)(uintptr_t)x5u,
        .not_after = certs_chain_not_after(chain),
    };

    assert_int_equal(certs_chain_pem(chain, &pem), HSM_OK);
    credential.chain_pem = pem;
    assert_int_equal(sks_catalogue_put(sks.catalogue, &credential), HSM_OK);
    free(pem);
    return credential.id;
}

static void
activate(const char *key_uri, const struct certs_chain *chain, const char *spc, const char *x5u)
{
    int64_t id = publish(key_uri, chain, spc, x5u);

    assert_int_equal(sks_catalogue_activate(sks.catalogue, id), HSM_OK);
}

static enum hsm_status
new_service(const char *spc, struct sks_service **out)
{
    const struct sks_service_config config = {
        .catalogue = sks.catalogue,
        .tokens = sks.tokens,
        .spc = spc,
        .verifier = world.verifier,
        .trust = world.trust,
        .bearer = world.bearer,
        .metrics = sks.metrics,
        .now = vector_now,
    };

    return sks_service_new(&config, out);
}

static void
listen_tls(void)
{
    const struct acme_http_server_config config = {
        .address = "127.0.0.1:0",
        .tls_key = world.eco.tls_key,
        .tls_chain = world.eco.tls,
        .client_anchors = world.eco.tls_anchors,
        .handler = sks_service_handler(sks.service),
    };

    eco_must(acme_http_loop_new(4, &sks.loop), "loop");
    eco_must(acme_http_loop_listen(sks.loop, &config), "listen");
    snprintf(sks.base, sizeof(sks.base), "https://127.0.0.1:%u", acme_http_loop_port(sks.loop, 0));
    sks.tls = (struct caller){.base = sks.base, .tls_ca = world.eco.tls_ca};
    if (pthread_create(&sks.thread, NULL, eco_server_run, sks.loop) != 0)
        abort();
}

static int
start_without_credential(void **state)
{
    (void)state;
    world.now = NOW;
    world.served = world.eco.sp;
    sks.tokens = one_token(TOKEN_URI, NULL);
    if (hsm_metrics_new(1, &sks.metrics) != HSM_OK ||
        sks_catalogue_open(world.path, &sks.catalogue) != HSM_OK ||
        new_service(ECO_SPC, &sks.service) != HSM_OK)
        return -1;
    unix_server_start(&sks.local, softhsm_dir(), sks_service_handler(sks.service));
    listen_tls();
    return 0;
}

static int
start(void **state)
{
    if (start_without_credential(state) != 0)
        return -1;
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    sks_service_refresh(sks.service);
    return 0;
}

static int
stop(void **state)
{
    char journal[192];

    (void)state;
    acme_http_loop_stop(sks.loop);
    pthread_join(sks.thread, NULL);
    acme_http_loop_free(sks.loop);
    unix_server_stop(&sks.local);
    sks_service_free(sks.service);
    sks_tokens_close(sks.tokens);
    sks_catalogue_close(sks.catalogue);
    hsm_metrics_free(sks.metrics);
    snprintf(journal, sizeof(journal), "%s-wal", world.path);
    unlink(journal);
    snprintf(journal, sizeof(journal), "%s-shm", world.path);
    unlink(journal);
    return unlink(world.path);
}

/* ---- calls ---- */

static void
post(const char *path, const char *body)
{
    static const char *const headers[] = {JSON_TYPE, NULL};

    call(&sks.local.caller, "POST", path, headers, body, &called);
}

/* The Identity header of a successful answer; free() it. */
static char *
signed_identity(void)
{
    json_t *json = called_json(&called);
    const char *identity =
        json_string_value(json_object_get(json_object_get(json, "signingResponse"), "identity"));
    char *copy;

    assert_int_equal(called.status, 200);
    assert_non_null(identity);
    copy = strdup(identity);
    json_decref(json);
    return copy;
}

static void
verify_identity(const char *identity)
{
    char *body = NULL;

    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{" MEMBER_FROM
                         ",\"identity\":\"%s\"," MEMBER_TIME "," MEMBER_TO "}}",
                         identity) > 0);
    post(VERIFICATION, body);
    free(body);
}

static void
assert_verstat(const char *verstat, int reason_code)
{
    json_t *json = called_json(&called);
    json_t *response = json_object_get(json, "verificationResponse");

    assert_int_equal(called.status, 200);
    assert_string_equal(json_string_value(json_object_get(response, "verstat")), verstat);
    assert_int_equal(json_integer_value(json_object_get(response, "reasoncode")), reason_code);
    json_decref(json);
}

/* A requestError of that kind with that first variable, and without a signature. */
static void
assert_error(long status, const char *id, const char *variable)
{
    json_t *json = called_json(&called);
    json_t *error = json_object_get(json, "requestError");
    json_t *exception =
        json_object_get(error, strncmp(id, "POL", 3) == 0 ? "policyException" : "serviceException");
    const char *found = json_string_value(json_object_get(exception, "messageId"));
    const char *first =
        json_string_value(json_array_get(json_object_get(exception, "variables"), 0));

    if (called.status != status || found == NULL || strcmp(found, id) != 0)
        fail_msg("%ld %s, wanted %ld %s", called.status, called.body, status, id);
    assert_true(json_is_string(json_object_get(exception, "text")));
    if (variable != NULL && (first == NULL || strcmp(first, variable) != 0))
        fail_msg("%s, wanted %s", called.body, variable);
    assert_int_equal(json_object_size(json), 1);
    assert_null(strstr(called.body, "signingResponse"));
    json_decref(json);
}

/* ---- signing and verifying ---- */

static void
signed_call_verifies(void **state)
{
    char *identity;
    char header[512];

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_string_equal(called_header(&called, "Content-Type", header), "application/json");
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    assert_null(strstr(called.body, "reason"));
    free(identity);
}

static void
verification_of_other_numbers_fails(void **state)
{
    char *identity;
    char *body = NULL;

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{\"from\":{\"tn\":\"12155550000\"},"
                         "\"identity\":\"%s\"," MEMBER_TIME "," MEMBER_TO "}}",
                         identity) > 0);
    post(VERIFICATION, body);
    assert_verstat("No-TN-Validation", 438);
    free(body);
    free(identity);
}

/* RFC 8224 section 8.3, and the forms of `to` in 3GPP TS 24.229. */
static void
numbers_are_made_canonical_on_both_sides(void **state)
{
    char *identity;
    char *body = NULL;
    json_t *header = NULL;
    json_t *payload = NULL;

    (void)state;
    post(SIGNING, SIGN_THIS(MEMBER_ATTEST, "\"dest\":{\"tn\":[\"+1 (215) 555-1213\"]}", MEMBER_IAT,
                            "\"orig\":{\"tn\":\"+1.215.555.1212\"}", MEMBER_ORIGID));
    identity = signed_identity();
    *strchr(identity, ';') = '\0';
    assert_int_equal(sks_passport_decode(identity, &header, &payload, NULL), HSM_OK);
    assert_string_equal(json_string_value(json_object_get(json_object_get(payload, "orig"), "tn")),
                        "12155551212");
    assert_string_equal(json_string_value(json_array_get(
                            json_object_get(json_object_get(payload, "dest"), "tn"), 0)),
                        "12155551213");
    identity[strlen(identity)] = ';';
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{\"from\":{\"tn\":\"+12155551212\"},"
                         "\"identity\":\"%s\"," MEMBER_TIME ",\"to\":{\"tn\":\"1-215-555-1213\"}}}",
                         identity) > 0);
    post(VERIFICATION, body);
    assert_verstat("TN-Validation-Passed", 0);
    json_decref(header);
    json_decref(payload);
    free(body);
    free(identity);
}

static void
uris_are_signed_as_uris(void **state)
{
    json_t *header = NULL;
    json_t *payload = NULL;
    char *identity;

    (void)state;
    post(SIGNING,
         SIGN_THIS(MEMBER_ATTEST, "\"dest\":{\"uri\":[\"sip:bob@example.com\"]}", MEMBER_IAT,
                   "\"orig\":{\"uri\":\"sip:alice@example.com\"}", MEMBER_ORIGID));
    identity = signed_identity();
    *strchr(identity, ';') = '\0';
    assert_int_equal(sks_passport_decode(identity, &header, &payload, NULL), HSM_OK);
    assert_string_equal(json_string_value(json_object_get(json_object_get(payload, "orig"), "uri")),
                        "sip:alice@example.com");
    json_decref(header);
    json_decref(payload);
    free(identity);
}

/* Length of header and payload of an Identity value, the parts that do not depend on the signer. */
static size_t
signing_input_len(const char *identity)
{
    return (size_t)(strchr(strchr(identity, '.') + 1, '.') - identity);
}

/* 3GPP's answer, compared without the signature, which differs each time. */
static void
check_vector_header(json_t *wanted)
{
    json_t *json = called_json(&called);
    const char *header = json_string_value(
        json_object_get(json_object_get(json, "signingResponse"), "identityHeader"));
    const char *vector = json_string_value(
        json_object_get(json_object_get(wanted, "signingResponse"), "identityHeader"));

    assert_non_null(header);
    assert_int_equal(signing_input_len(header), signing_input_len(vector));
    assert_memory_equal(header, vector, signing_input_len(vector));
    assert_string_equal(strchr(header, ';'), strchr(vector, ';'));
    json_decref(json);
}

static void
check_vector_signature(json_t *wanted)
{
    char *identity = signed_identity();
    const char *vector =
        json_string_value(json_object_get(json_object_get(wanted, "signingResponse"), "identity"));

    assert_int_equal(signing_input_len(identity), signing_input_len(vector));
    assert_memory_equal(identity, vector, signing_input_len(vector));
    assert_string_equal(strchr(identity, ';'), strchr(vector, ';'));
    world.served = world.eco.sp;
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    free(identity);
}

/* Compare all members except the text of reasondesc. */
static void
check_vector_verdict(json_t *wanted)
{
    json_t *json = called_json(&called);
    json_t *found = json_object_get(json, "verificationResponse");
    json_t *response = json_object_get(wanted, "verificationResponse");
    const char *name;
    json_t *value;

    json_object_foreach(response, name, value)
    {
        if (strcmp(name, "reasondesc") != 0)
            assert_true(json_equal(json_object_get(found, name), value));
        else
            assert_true(json_is_string(json_object_get(found, name)));
    }
    assert_int_equal(json_object_size(found), json_object_size(response));
    json_decref(json);
}

static void
check_vector(json_t *vector)
{
    const char *id = json_string_value(json_object_get(vector, "id"));
    json_t *wanted = json_object_get(vector, "response");
    char *body = json_dumps(json_object_get(vector, "request"), JSON_COMPACT);

    print_message("%s\n", id);
    world.served = world.vector_chain;
    post(json_string_value(json_object_get(vector, "path")), body);
    free(body);
    assert_int_equal(called.status, json_integer_value(json_object_get(vector, "status")));
    if (strncmp(id, "3gpp-sign", 9) == 0) {
        check_vector_header(wanted);
    } else if (json_object_get(wanted, "signingResponse") != NULL) {
        check_vector_signature(wanted);
    } else if (json_object_get(wanted, "verificationResponse") != NULL) {
        check_vector_verdict(wanted);
    } else {
        json_t *json = called_json(&called);

        assert_true(json_equal(json, wanted));
        json_decref(json);
    }
}

static void
vectors_of_the_api_hold(void **state)
{
    json_t *vectors = data_json("self/ms_api.json");
    json_t *cases = json_object_get(vectors, "cases");

    (void)state;
    assert_true(json_array_size(cases) >= 6);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_vector(json_array_get(cases, i));
    json_decref(vectors);
}

/* ---- errors of the API ---- */

static void
every_fault_of_a_signing_request_has_its_error(void **state)
{
#define WITH(attest, dest, iat, orig, origid) SIGN_THIS(attest, dest, iat, orig, origid)
    static const struct {
        const char *body, *id, *variable;
    } cases[] = {
        {"", "SVC4000", NULL},
        {"{", "SVC4006", NULL},
        {"nonsense", "SVC4006", NULL},
        {"[]", "SVC4006", NULL},
        {"{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_ATTEST "}}", "SVC4006", NULL},
        {GOOD_SIGNING "x", "SVC4006", NULL},
        {"{\"signingRequest\":{\"attest\":\"\xff\"}}", "SVC4006", NULL},
        {"{\"a\":[[[[[[[[[[1]]]]]]]]]]}", "SVC4006", NULL},
        {"{}", "SVC4001", "signingRequest"},
        {"{\"verificationRequest\":{}}", "SVC4001", "signingRequest"},
        {"{\"signingRequest\":[]}", "SVC4005", "signingRequest"},
        {"{\"signingRequest\":{}}", "SVC4001", "attest"},
        {"{\"signingRequest\":{" MEMBER_ATTEST "}}", "SVC4001", "dest"},
        {"{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_DEST "}}", "SVC4001", "iat"},
        {"{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_DEST "," MEMBER_IAT "}}", "SVC4001",
         "orig"},
        {"{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_DEST "," MEMBER_IAT "," MEMBER_ORIG "}}",
         "SVC4001", "origid"},
        {WITH("\"attest\":\"D\"", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH("\"attest\":\"a\"", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH("\"attest\":\"AB\"", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH("\"attest\":\"\"", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH("\"attest\":1", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH("\"attest\":null", MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "attest"},
        {WITH(MEMBER_ATTEST, "\"dest\":\"1\"", MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{}", MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"tn\":[]}", MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"tn\":\"12155551213\"}", MEMBER_IAT, MEMBER_ORIG,
              MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"tn\":[\"alice\"]}", MEMBER_IAT, MEMBER_ORIG,
              MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"tn\":[\"sip:1@example.com\"]}", MEMBER_IAT, MEMBER_ORIG,
              MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"tn\":[1]}", MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, "\"dest\":{\"uri\":[\"no uri\"]}", MEMBER_IAT, MEMBER_ORIG,
              MEMBER_ORIGID),
         "SVC4005", "dest"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":\"1768478400\"", MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":1768478400.5", MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":-1", MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":1e300", MEMBER_ORIG, MEMBER_ORIGID), "SVC4005",
         "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":1768478339", MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":1768478461", MEMBER_ORIG, MEMBER_ORIGID),
         "SVC4005", "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, "\"iat\":9223372036854775807", MEMBER_ORIG,
              MEMBER_ORIGID),
         "SVC4005", "iat"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, "\"orig\":{}", MEMBER_ORIGID), "SVC4005",
         "orig"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, "\"orig\":{\"tn\":[\"1\"]}", MEMBER_ORIGID),
         "SVC4005", "orig"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, "\"orig\":{\"tn\":\"\"}", MEMBER_ORIGID),
         "SVC4005", "orig"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT,
              "\"orig\":{\"tn\":\"123456789012345678901234567890123\"}", MEMBER_ORIGID),
         "SVC4005", "orig"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT,
              "\"orig\":{\"tn\":\"1\",\"uri\":\"sip:1@example.com\"}", MEMBER_ORIGID),
         "SVC4005", "orig"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, "\"origid\":\"no uuid\""),
         "SVC4005", "origid"},
        {WITH(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, "\"origid\":7"), "SVC4005",
         "origid"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        post(SIGNING, cases[i].body);
        assert_error(400, cases[i].id, cases[i].variable);
    }
#undef WITH
}

static void
every_fault_of_a_verification_request_has_its_error(void **state)
{
    static const struct {
        const char *body, *id, *variable;
    } cases[] = {
        {"", "SVC4000", NULL},
        {"{", "SVC4006", NULL},
        {"{}", "SVC4001", "verificationRequest"},
        {"{\"verificationRequest\":1}", "SVC4005", "verificationRequest"},
        {"{\"verificationRequest\":{}}", "SVC4001", "from"},
        {"{\"verificationRequest\":{" MEMBER_FROM "}}", "SVC4001", "identity"},
        {"{\"verificationRequest\":{" MEMBER_FROM "," MEMBER_IDENTITY "}}", "SVC4001", "time"},
        {"{\"verificationRequest\":{" MEMBER_FROM "," MEMBER_IDENTITY "," MEMBER_TIME "}}",
         "SVC4001", "to"},
        {VERIFY_THIS("\"from\":{}", MEMBER_IDENTITY, MEMBER_TIME, MEMBER_TO), "SVC4005", "from"},
        {VERIFY_THIS("\"from\":\"1\"", MEMBER_IDENTITY, MEMBER_TIME, MEMBER_TO), "SVC4005", "from"},
        {VERIFY_THIS("\"from\":{\"tn\":\"alice\"}", MEMBER_IDENTITY, MEMBER_TIME, MEMBER_TO),
         "SVC4005", "from"},
        {VERIFY_THIS(MEMBER_FROM, "\"identity\":\"\"", MEMBER_TIME, MEMBER_TO), "SVC4005",
         "identity"},
        {VERIFY_THIS(MEMBER_FROM, "\"identity\":{}", MEMBER_TIME, MEMBER_TO), "SVC4005",
         "identity"},
        {VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, "\"time\":\"now\"", MEMBER_TO), "SVC4005",
         "time"},
        {VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, MEMBER_TIME, "\"to\":{}"), "SVC4005", "to"},
        {VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, MEMBER_TIME, "\"to\":{\"tn\":[]}"), "SVC4005",
         "to"},
        {VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, MEMBER_TIME, "\"to\":{\"tn\":7}"), "SVC4005",
         "to"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        post(VERIFICATION, cases[i].body);
        assert_error(400, cases[i].id, cases[i].variable);
    }
}

static void
verdicts_are_answers_and_no_errors(void **state)
{
    (void)state;
    post(VERIFICATION, VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, "\"time\":1", MEMBER_TO));
    assert_verstat("No-TN-Validation", 403); /* E3 */
    post(VERIFICATION,
         VERIFY_THIS(MEMBER_FROM, "\"identity\":\"garbage\"", MEMBER_TIME, MEMBER_TO));
    assert_verstat("No-TN-Validation", 438); /* E4 */
}

static void
thirty_three_destinations_are_too_many(void **state)
{
    char body[2048];
    char *at = body + snprintf(body, sizeof(body),
                               "{\"signingRequest\":{" MEMBER_ATTEST ",\"dest\":{\"tn\":[");

    (void)state;
    for (int i = 0; i < SKS_DEST_MAX + 1; i++)
        at += snprintf(at, 64, "%s\"1215555%04d\"", i == 0 ? "" : ",", i);
    snprintf(at, 256, "]}," MEMBER_IAT "," MEMBER_ORIG "," MEMBER_ORIGID "}}");
    post(SIGNING, body);
    assert_error(400, "SVC4005", "dest");
}

static void
what_the_request_head_says_is_checked(void **state)
{
    static const struct {
        const char *method, *path, *header, *body;
        long status;
        const char *id;
    } cases[] = {
        {"GET", SIGNING, JSON_TYPE, NULL, 405, "POL4050"},
        {"PUT", SIGNING, JSON_TYPE, GOOD_SIGNING, 405, "POL4050"},
        {"DELETE", VERIFICATION, JSON_TYPE, NULL, 405, "POL4050"},
        {"POST", "/healthz", JSON_TYPE, "{}", 405, "POL4050"},
        {"POST", "/metrics", JSON_TYPE, "{}", 405, "POL4050"},
        {"POST", "/stir/v2/signing", JSON_TYPE, GOOD_SIGNING, 404, "SVC4003"},
        {"POST", SIGNING "/", JSON_TYPE, GOOD_SIGNING, 404, "SVC4003"},
        {"GET", "/", JSON_TYPE, NULL, 404, "SVC4003"},
        {"POST", SIGNING, "Content-Type: text/plain", GOOD_SIGNING, 415, "SVC4004"},
        {"POST", SIGNING, "Content-Type: application/jsonx", GOOD_SIGNING, 415, "SVC4004"},
        {"POST", SIGNING, "Content-Type:", GOOD_SIGNING, 415, "SVC4004"},
    };
    static const char *const wanted = "application/json";

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const headers[] = {cases[i].header, NULL};

        call(&sks.local.caller, cases[i].method, cases[i].path, headers, cases[i].body, &called);
        assert_error(cases[i].status, cases[i].id, cases[i].status == 415 ? wanted : NULL);
    }
}

static void
allow_names_the_methods(void **state)
{
    char value[512];

    (void)state;
    call(&sks.local.caller, "GET", SIGNING, NULL, NULL, &called);
    assert_string_equal(called_header(&called, "Allow", value), "POST");
    call(&sks.local.caller, "DELETE", "/metrics", NULL, NULL, &called);
    assert_string_equal(called_header(&called, "Allow", value), "GET, HEAD");
}

static void
missing_content_length_is_411(void **state)
{
    static const char *const headers[] = {JSON_TYPE, NULL};

    (void)state;
    call(&sks.local.caller, "POST", SIGNING, headers, NULL, &called);
    assert_error(411, "SVC4007", NULL);
}

static void
accept_decides_whether_json_is_wanted(void **state)
{
    static const struct {
        const char *accept;
        long status;
    } cases[] = {
        {"Accept: application/json", 200},
        {"Accept: application/*", 200},
        {"Accept: */*", 200},
        {"Accept: text/html, application/json;q=0.5", 200},
        {"Accept: APPLICATION/JSON", 200},
        {"Accept:", 200}, /* curl then sends no Accept header */
        {"Accept: text/html", 406},
        {"Accept: application/json;q=0", 406},
        {"Accept: application/jsonx", 406},
        {"Accept: text/*;q=1", 406},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const headers[] = {JSON_TYPE, cases[i].accept, NULL};

        call(&sks.local.caller, "POST", SIGNING, headers, GOOD_SIGNING, &called);
        if (called.status != cases[i].status)
            fail_msg("%s: %ld", cases[i].accept, called.status);
        if (cases[i].status == 406)
            assert_error(406, "SVC4002", cases[i].accept + strlen("Accept: "));
    }
}

static void
content_type_may_have_parameters(void **state)
{
    static const char *const headers[] = {"Content-Type: Application/JSON; charset=utf-8", NULL};

    (void)state;
    call(&sks.local.caller, "POST", SIGNING, headers, GOOD_SIGNING, &called);
    assert_int_equal(called.status, 200);
}

static void
request_id_is_echoed_when_it_is_harmless(void **state)
{
    char longest[160] = "X-RequestID: ";
    char longer[192];
    const char *const good[] = {JSON_TYPE, "X-RequestID: AA97B177-9383-4934-8543-0F91A7A02836",
                                NULL};
    const char *const bounded[] = {JSON_TYPE, longest, NULL};
    const char *const unbounded[] = {JSON_TYPE, longer, NULL};
    const char *const blank[] = {JSON_TYPE, "X-RequestID: a b", NULL};
    char value[512];

    (void)state;
    memset(longest + strlen(longest), 'x', 128);
    snprintf(longer, sizeof(longer), "%sx", longest);
    call(&sks.local.caller, "POST", SIGNING, good, GOOD_SIGNING, &called);
    assert_string_equal(called_header(&called, "X-RequestID", value), good[1] + 13);
    call(&sks.local.caller, "POST", SIGNING, good, "{", &called);
    assert_int_equal(called.status, 400);
    assert_string_equal(called_header(&called, "X-RequestID", value), good[1] + 13);
    call(&sks.local.caller, "POST", SIGNING, bounded, GOOD_SIGNING, &called);
    assert_string_equal(called_header(&called, "X-RequestID", value), longest + 13);
    call(&sks.local.caller, "POST", SIGNING, unbounded, GOOD_SIGNING, &called);
    assert_string_equal(called_header(&called, "X-RequestID", value), "");
    call(&sks.local.caller, "POST", SIGNING, blank, GOOD_SIGNING, &called);
    assert_string_equal(called_header(&called, "X-RequestID", value), "");
}

/* ---- who may call ---- */

static void
tls_callers_show_a_bearer_token(void **state)
{
    static const struct {
        const char *authorization;
        long status;
        const char *challenge;
    } cases[] = {
        {"Authorization: Bearer " BEARER, 200, ""},
        {"Authorization: bearer " BEARER, 200, ""},
        {"Authorization: Bearer " BEARER "x", 401,
         "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Bearer a9993e364706816aba3e25717850c26d", 401,
         "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Bearer ", 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: " BEARER, 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Basic " BEARER, 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"X-Nothing: x", 401, "Bearer realm=\"sti-sks\""},
    };
    char value[512];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const headers[] = {JSON_TYPE, cases[i].authorization, NULL};

        call(&sks.tls, "POST", SIGNING, headers, GOOD_SIGNING, &called);
        if (called.status != cases[i].status)
            fail_msg("%s: %ld", cases[i].authorization, called.status);
        assert_string_equal(called_header(&called, "WWW-Authenticate", value), cases[i].challenge);
        if (cases[i].status == 401)
            assert_error(401, "POL4010", NULL);
    }
}

static void
without_authentication_nothing_is_told(void **state)
{
    static const char *const paths[] = {SIGNING, VERIFICATION, "/metrics", "/", "/nothing"};
    static const char *const headers[] = {JSON_TYPE, NULL};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        call(&sks.tls, "POST", paths[i], headers, GOOD_SIGNING, &called);
        assert_error(401, "POL4010", NULL);
        call(&sks.tls, "GET", paths[i], NULL, NULL, &called);
        assert_error(401, "POL4010", NULL);
    }
}

static long
status_for_client(const struct acme_http_client_config *config)
{
    char url[128];
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const struct acme_http_fetch fetch = {
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .body = GOOD_SIGNING,
        .body_len = strlen(GOOD_SIGNING),
        .reply_max = 65536,
        .timeout_ms = 10000,
    };
    long status = 0; /* status if the TLS handshake fails */

    snprintf(url, sizeof(url), "%s" SIGNING, sks.base);
    assert_int_equal(acme_http_client_new(config, &client), HSM_OK);
    if (acme_http_fetch(client, &fetch, &reply, &why) == HSM_OK)
        status = reply.status;
    acme_http_reply_clear(&reply);
    acme_http_client_free(client);
    return status;
}

static void
tls_client_certificate_is_as_good_as_a_bearer_token(void **state)
{
    const struct acme_http_client_config with = {
        .tls_ca = world.eco.tls_ca, .client_key = world.client_key, .client_chain = world.client};
    const struct acme_http_client_config without = {.tls_ca = world.eco.tls_ca};

    (void)state;
    assert_int_equal(status_for_client(&with), 200);
    assert_int_equal(status_for_client(&without), 401);
}

/* A valid certificate of an SP that was not issued under the API's client anchors. */
static void
client_certificate_under_another_root_is_refused(void **state)
{
    const struct acme_http_client_config stranger = {.tls_ca = world.eco.tls_ca,
                                                     .client_key = world.eco.pa_signer_key,
                                                     .client_chain = world.eco.pa_signer};
    long status;

    (void)state;
    status = status_for_client(&stranger);
    assert_true(status == 0 || status == 401);
}

/* ---- never an unsigned success ---- */

static void
without_a_credential_signing_is_503(void **state)
{
    (void)state;
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "no active credential");
    post(SIGNING, "{}"); /* a malformed request is reported first */
    assert_error(400, "SVC4001", "signingRequest");
}

static void
credential_that_is_only_published_does_not_sign(void **state)
{
    (void)state;
    publish("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "no active credential");
}

static void
credential_signs_as_soon_as_it_is_active(void **state)
{
    char *identity;

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    assert_int_equal(called.status, 503);
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    post(SIGNING, GOOD_SIGNING); /* without a refresh */
    identity = signed_identity();
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    free(identity);
}

static void
ended_certificate_does_not_sign(void **state)
{
    char body[512];

    (void)state;
    world.now = certs_chain_not_after(world.eco.sp) + 1;
    snprintf(body, sizeof(body),
             "{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_DEST ",\"iat\":%lld," MEMBER_ORIG
             "," MEMBER_ORIGID "}}",
             (long long)world.now);
    post(SIGNING, body);
    assert_error(503, "POL5030", NULL);
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "not valid now"));
}

static void
certificate_of_another_key_is_refused_at_load(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=tls-client", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(ECO_SPC, &service), HSM_ERR_UNTRUSTED);
    assert_null(service);
    sks_service_refresh(sks.service); /* nor does the running one use it */
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", NULL);
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_non_null(strstr(called.body, "cannot be loaded"));
}

static void
certificate_of_another_spc_is_refused_at_load(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=sp", world.eco.sp, "5678", X5U);
    assert_int_equal(new_service("5678", &service), HSM_ERR_UNTRUSTED);
    assert_null(service);
}

static void
key_that_is_not_there_gives_503_until_it_is(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=nowhere", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(ECO_SPC, &service), HSM_OK);
    sks_service_free(service);
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", NULL);
}

static void
several_spcs_want_a_choice(void **state)
{
    struct certs_chain *other =
        eco_sp_chain(&world.eco, "5678", hsm_key_public(world.eco.sp_key), NOW - 60, NOW + 3600);
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(NULL, &service), HSM_OK); /* only one candidate */
    sks_service_free(service);
    service = NULL;
    activate("pkcs11:object=sp", other, "5678", "https://cr.sp.example/certs/5678.pem");
    assert_int_equal(new_service(NULL, &service), HSM_ERR_AMBIGUOUS);
    assert_null(service);
    assert_int_equal(new_service("5678", &service), HSM_OK);
    sks_service_free(service);
    certs_chain_free(other);
}

/* A credential that cannot be loaded does not replace one that can. */
static void
bad_reload_keeps_what_signs(void **state)
{
    char *identity;

    (void)state;
    activate("pkcs11:object=tls-client", world.eco.sp, ECO_SPC,
             "https://cr.sp.example/certs/bad.pem");
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_non_null(strstr(identity, "info=<" X5U ">"));
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    free(identity);
}

static void *
verify_in_a_thread(void *context)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    struct called *answer = malloc(sizeof(*answer));

    call(&sks.local.caller, "POST", VERIFICATION, headers, context, answer);
    return answer;
}

/* The caller chooses the URL of the certificate that has to be fetched. */
static void
a_repository_that_is_silent_holds_up_no_signature(void **state)
{
    pthread_t threads[12];
    char *identity;
    char *body = NULL;

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{" MEMBER_FROM
                         ",\"identity\":\"%s\"," MEMBER_TIME "," MEMBER_TO "}}",
                         identity) > 0);
    atomic_store(&world.repository_is_silent, true);
    for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_in_a_thread, body), 0);
    while (atomic_load(&world.fetching) < 3) /* three of the four serving threads */
        usleep(1000);
    post(SIGNING, GOOD_SIGNING);
    assert_int_equal(called.status, 200);
    atomic_store(&world.repository_is_silent, false);
    for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
        struct called *answer = NULL;

        assert_int_equal(pthread_join(threads[i], (void **)&answer), 0);
        assert_non_null(strstr(answer->body, "TN-Validation-Passed"));
        free(answer);
    }
    free(identity);
    free(body);
}

/* The directory of SoftHSM's tokens is moved away under a running service. */
static void
token_that_is_away_never_gives_an_unsigned_success(void **state)
{
    char tokens[256];
    char away[256];
    long during;

    (void)state;
    snprintf(tokens, sizeof(tokens), "%s/tokens", softhsm_dir());
    snprintf(away, sizeof(away), "%s/away", softhsm_dir());
    assert_int_equal(rename(tokens, away), 0);
    post(SIGNING, GOOD_SIGNING);
    during = called.status;
    assert_int_equal(rename(away, tokens), 0);
    /* A module may continue with what it has in memory; the signature must then be valid. */
    if (during == 200) {
        char *identity = signed_identity();

        verify_identity(identity);
        assert_verstat("TN-Validation-Passed", 0);
        free(identity);
    } else {
        assert_error(503, "POL5030", NULL);
    }
}

static void
key_destroyed_in_the_token_gives_503(void **state)
{
    struct hsm_key *key = eco_key(&world.eco, "short-lived");
    struct certs_chain *chain =
        eco_sp_chain(&world.eco, ECO_SPC, hsm_key_public(key), NOW - 60, NOW + 3600);

    (void)state;
    activate("pkcs11:object=short-lived", chain, ECO_SPC, "https://cr.sp.example/certs/short.pem");
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    free(signed_identity());
    assert_non_null(strstr(called.body, "short.pem"));
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "the token does not sign");
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "the token does not sign"));
    hsm_key_free(key);
    certs_chain_free(chain);
}

/* ---- rotation under load ---- */

struct load {
    atomic_bool stop;
    atomic_int calls, failures;
};

static void *
call_all_the_time(void *context)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    struct called *mine = malloc(sizeof(*mine));
    struct load *load = context;

    while (!load->stop) {
        call(&sks.local.caller, "POST", SIGNING, headers, GOOD_SIGNING, mine);
        load->calls++;
        if (mine->status != 200 || strstr(mine->body, "\"identity\"") == NULL)
            load->failures++;
    }
    free(mine);
    return NULL;
}

static void
rotation_costs_no_call(void **state)
{
    struct hsm_key *next = eco_key(&world.eco, "next");
    struct certs_chain *chain =
        eco_sp_chain(&world.eco, ECO_SPC, hsm_key_public(next), NOW - 60, NOW + 3600);
    struct load load = {false, 0, 0};
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_all_the_time, &load), 0);
    for (int i = 0; i < 20; i++) {
        char x5u[64];
        int before = load.calls;

        snprintf(x5u, sizeof(x5u), "https://cr.sp.example/certs/%d.pem", i);
        if (i % 2 == 0)
            activate("pkcs11:object=next", chain, ECO_SPC, x5u);
        else
            activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, x5u);
        sks_service_refresh(sks.service);
        while (load.calls < before + 6)
            usleep(1000);
    }
    load.stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(load.failures, 0);
    post(SIGNING, GOOD_SIGNING);
    assert_non_null(strstr(called.body, "info=<https://cr.sp.example/certs/19.pem>"));
    assert_int_equal(hsm_key_destroy(next), HSM_OK);
    hsm_key_free(next);
    certs_chain_free(chain);
}

/* ---- health and metrics ---- */

static void
health_is_told_to_anyone(void **state)
{
    (void)state;
    call(&sks.tls, "GET", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    call(&sks.tls, "HEAD", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_int_equal(called.body_len, 0);
    call(&sks.tls, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_string_equal(called.body, "{\"ready\":true,\"reasons\":[]}");
}

static void
not_ready_without_a_credential_but_alive(void **state)
{
    (void)state;
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "no active credential"));
    call(&sks.local.caller, "GET", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    call(&sks.local.caller, "GET", "/readyz?role=signing", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    call(&sks.local.caller, "GET", "/readyz?role=verification", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_non_null(strstr(called.body, "{\"ready\":true,\"reasons\":[],"));
}

static void
assert_metric(const char *line)
{
    if (strstr(called.body, line) == NULL)
        fail_msg("no %s in:\n%s", line, called.body);
}

static void
metrics_count_what_was_answered(void **state)
{
    char line[128];

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    post(SIGNING, GOOD_SIGNING);
    post(SIGNING, "{");
    post(VERIFICATION, VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, "\"time\":1", MEMBER_TO));
    post(VERIFICATION, "{");
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_metric("sti_sks_signature_seconds_count{token=\"all\",outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signatures_total{spc=\"" ECO_SPC
                  "\",key=\"sp\",token=\"all\",outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"refused\"} 1\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"unavailable\"} 0\n");
    assert_metric("sti_sks_signing_seconds_bucket{outcome=\"good\",le=\"+Inf\"} 2\n");
    assert_metric("sti_sks_verifications_total{case=\"valid\"} 0\n");
    assert_metric("sti_sks_verifications_total{case=\"E3\"} 1\n");
    assert_metric("sti_sks_verstat_total{verstat=\"No-TN-Validation\"} 1\n");
    assert_metric("sti_sks_verification_seconds_count{outcome=\"refused\"} 1\n");
    assert_metric("# TYPE sti_sks_signatures_total counter\n");
    assert_metric("sti_sks_ready{role=\"signing\"} 1\n");
    assert_metric("sti_sks_ready{role=\"verification\"} 1\n");
    assert_metric("sti_sks_credential_loaded{credential=\"1\",spc=\"" ECO_SPC "\"} 1\n");
    assert_metric("sti_sks_provider_ready{spc=\"" ECO_SPC "\"} 1\n");
    snprintf(line, sizeof(line),
             "sti_sks_credential_not_after_seconds{credential=\"1\",spc=\"" ECO_SPC
             "\",key=\"sp\"} %lld\n",
             (long long)certs_chain_not_after(world.eco.sp));
    assert_metric(line);
}

#define WITH_CREDENTIAL(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define WITHOUT_CREDENTIAL(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, start_without_credential, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CREDENTIAL(signed_call_verifies),
        WITH_CREDENTIAL(verification_of_other_numbers_fails),
        WITH_CREDENTIAL(numbers_are_made_canonical_on_both_sides),
        WITH_CREDENTIAL(uris_are_signed_as_uris),
        WITH_CREDENTIAL(vectors_of_the_api_hold),
        WITH_CREDENTIAL(every_fault_of_a_signing_request_has_its_error),
        WITH_CREDENTIAL(every_fault_of_a_verification_request_has_its_error),
        WITH_CREDENTIAL(verdicts_are_answers_and_no_errors),
        WITH_CREDENTIAL(thirty_three_destinations_are_too_many),
        WITH_CREDENTIAL(what_the_request_head_says_is_checked),
        WITH_CREDENTIAL(allow_names_the_methods),
        WITH_CREDENTIAL(missing_content_length_is_411),
        WITH_CREDENTIAL(accept_decides_whether_json_is_wanted),
        WITH_CREDENTIAL(content_type_may_have_parameters),
        WITH_CREDENTIAL(request_id_is_echoed_when_it_is_harmless),
        WITH_CREDENTIAL(tls_callers_show_a_bearer_token),
        WITH_CREDENTIAL(without_authentication_nothing_is_told),
        WITH_CREDENTIAL(tls_client_certificate_is_as_good_as_a_bearer_token),
        WITH_CREDENTIAL(client_certificate_under_another_root_is_refused),
        WITHOUT_CREDENTIAL(without_a_credential_signing_is_503),
        WITHOUT_CREDENTIAL(credential_that_is_only_published_does_not_sign),
        WITHOUT_CREDENTIAL(credential_signs_as_soon_as_it_is_active),
        WITH_CREDENTIAL(ended_certificate_does_not_sign),
        WITHOUT_CREDENTIAL(certificate_of_another_key_is_refused_at_load),
        WITHOUT_CREDENTIAL(certificate_of_another_spc_is_refused_at_load),
        WITHOUT_CREDENTIAL(key_that_is_not_there_gives_503_until_it_is),
        WITHOUT_CREDENTIAL(several_spcs_want_a_choice),
        WITH_CREDENTIAL(bad_reload_keeps_what_signs),
        WITH_CREDENTIAL(key_destroyed_in_the_token_gives_503),
        WITH_CREDENTIAL(rotation_costs_no_call),
        WITH_CREDENTIAL(health_is_told_to_anyone),
        WITHOUT_CREDENTIAL(not_ready_without_a_credential_but_alive),
        WITH_CREDENTIAL(metrics_count_what_was_answered),
        WITH_CREDENTIAL(a_repository_that_is_silent_holds_up_no_signature),
        /* last: SoftHSM does not find its objects again in this process */
        WITH_CREDENTIAL(token_that_is_away_never_gives_an_unsigned_success),
    };

    return cmocka_run_group_tests(tests, make_world, end_world);
}
