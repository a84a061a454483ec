/* test_service_signing.c - mirrors sks/src/service_signing.c and what it uses: both dialects of the
 * signing API, callers and customers, and the record of signatures. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <sks/passport.h>
#include <sks/service.h>
#include <sks/x5u.h>

#include "caller.h"
#include "ecosystem.h"
#include "fault_client.h"
#include "one_token.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SIGNING      "/stir/v1/signing"
#define JSON_TYPE    "Content-Type: application/json"
#define X5U          "https://cr.sp.example/certs/sp-1234.pem"
#define X5U_2        "https://cr.sp.example/certs/sp-709J.pem"
#define SPC_2        "709J"
#define SPC_3        "321Y"
#define SPC_4        "654Z"
#define SPC_5        "987W"
#define ALL          "pkcs11:token=all"
#define THIRD        "pkcs11:token=third"
#define ORIGID       "de305d54-75b4-431b-adb2-eb6b9e546014"
#define TOKEN        "a9993e364706816aba3e25717850c26c"
/* printf %s "$TOKEN" | sha256sum */
#define TOKEN_SHA256 "606bb671c889e12f6dca22a7b188614c5765e77da4dfbb4ae7cee2a44944099f"
/* printf %s b00361a396177a9cb410ff61f20015ad | sha256sum */
#define OTHER_SHA256 "464f22b0a3655d9ce7024683bb597f2d02b146450dd7291e544bb0cedadf108c"

static struct {
    struct ecosystem eco;
    struct hsm_key *key_2; /* of a second provider */
    struct certs_chain *chain_2;
    struct hsm_key *client_key;
    struct certs_chain *client;
    struct sks_trust *trust;
    struct sks_verifier *verifier;
    unsigned asked; /* number of requests for chains */
    struct hsm_metrics *metrics;
    struct sks_catalogue *catalogue;
    char trail[192];
} world;

/* One service, created for each test with its own callers. */
static struct {
    struct sks_rates *rates;
    struct sks_callers *callers;
    struct sks_trail *trail;
    struct sks_service *service;
    struct sks_tokens *tokens; /* NULL: begin() opens the common one */
    struct unix_server local;
} sks;

static struct called called;

/* ---- the environment ---- */

/* Only the chain of the first provider can be fetched. */
static enum hsm_status
fetch(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    (void)now;
    if (strcmp(x5u, X5U) == 0)
        return certs_chain_copy(world.eco.sp, out);
    return hsm_refuse(why, HSM_ERR_BUSY, "%s is not there", x5u);
}

/* The first chain requested has to be fetched, and arrives at once. */
static enum hsm_status
ask(void *context, const char *x5u, time_t now, const struct sks_call *call,
    struct certs_chain **out, struct hsm_reason *why)
{
    if (world.asked++ > 0)
        return fetch(context, x5u, now, out, why);
    call->wait->landed(call->wait->context);
    return HSM_ERR_NOT_FOUND;
}

static void
make_verifier(const struct sks_trust_config *trust)
{
    struct sks_verifier_config config = {.chain = fetch, .ask = ask};

    if (trust != NULL)
        eco_must(sks_trust_new(trust, &world.trust), "trust");
    else
        eco_must(sks_trust_fixed(world.eco.roots, NULL, 0, NULL, NULL, &world.trust), "trust");
    config.trust = world.trust;
    eco_must(sks_verifier_new(&config, &world.verifier), "verifier");
}

static void
free_verifier(void)
{
    sks_verifier_free(world.verifier);
    sks_trust_free(world.trust);
}

static void
activate(const char *token_uri, const char *key_uri, const struct certs_chain *chain,
         const char *spc, const char *x5u)
{
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)spc,
        .token_uri = (char *)(uintptr_t)token_uri,
        .key_uri = (char *)(uintptr_t)key_uri,
        .x5u = (char *)(uintptr_t)x5u,
        .not_after = certs_chain_not_after(chain),
    };

    eco_must(certs_chain_pem(chain, &pem), "chain");
    credential.chain_pem = pem;
    eco_must(sks_catalogue_put(world.catalogue, &credential), spc);
    eco_must(sks_catalogue_activate(world.catalogue, credential.id), spc);
    free(pem);
}

static int
make_world(void **state)
{
    struct ecosystem *eco = &world.eco;
    char path[192];

    (void)state;
    fault_open();
    eco_start(eco);
    world.key_2 = eco_key(eco, "sp-2");
    world.chain_2 = eco_sp_chain(eco, SPC_2, hsm_key_public(world.key_2), 0, 0);
    world.client_key = eco_key(eco, "tls-client");
    world.client =
        eco_chain(eco_issue(eco,
                            (struct certs_issue_request){.profile = CERTS_PROFILE_TLS_CLIENT,
                                                         .subject = {.common_name = "caller"}},
                            hsm_key_public(world.client_key), eco->tls_anchors, eco->tls_root_key));
    make_verifier(NULL);
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    snprintf(world.trail, sizeof(world.trail), "%s/trail", softhsm_dir());
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    eco_must(hsm_metrics_new(1, &world.metrics), "metrics");
    activate(ALL, "pkcs11:object=sp", eco->sp, ECO_SPC, X5U);
    activate(ALL, "pkcs11:object=sp-2", world.chain_2, SPC_2, X5U_2);
    return 0;
}

static int
end_world(void **state)
{
    (void)state;
    hsm_metrics_free(world.metrics);
    sks_catalogue_close(world.catalogue);
    free_verifier();
    certs_chain_free(world.client);
    hsm_key_free(world.client_key);
    certs_chain_free(world.chain_2);
    hsm_key_free(world.key_2);
    eco_stop(&world.eco);
    return 0;
}

/* ---- services ---- */

static enum hsm_status
read_callers(const char *text, struct sks_callers **out)
{
    char path[192];
    FILE *to;
    enum hsm_status st;

    snprintf(path, sizeof(path), "%s/callers.conf", softhsm_dir());
    to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
    st = sks_callers_read(path, sks.rates, out);
    unlink(path);
    return st;
}

/* `callers` is the content of the file; NULL: no file. */
static void
begin(const char *callers)
{
    static const struct sks_dial_plan nanp = {"1", "1", "011", 10};
    struct sks_service_config config = {
        .catalogue = world.catalogue,
        .tokens = sks.tokens,
        .spc = ECO_SPC,
        .verifier = world.verifier,
        .trust = world.trust,
        .dial_plan = &nanp,
        .metrics = world.metrics,
    };

    eco_must(sks_rates_new(&sks.rates), "rates");
    if (sks.tokens == NULL)
        config.tokens = sks.tokens = one_token(ALL, NULL);
    if (callers != NULL)
        assert_int_equal(read_callers(callers, &sks.callers), HSM_OK);
    eco_must(sks_trail_open(world.trail, &sks.trail), "trail");
    config.callers = sks.callers;
    config.trail = sks.trail;
    eco_must(sks_service_new(&config, &sks.service), "service");
    unix_server_start(&sks.local, softhsm_dir(), sks_service_handler(sks.service));
}

static int
finish(void **state)
{
    (void)state;
    fault("swap off\nreset");
    if (sks.service == NULL)
        return 0;
    unix_server_stop(&sks.local);
    sks_service_free(sks.service);
    sks_trail_close(sks.trail);
    sks_callers_free(sks.callers);
    sks_rates_free(sks.rates);
    sks_tokens_close(sks.tokens);
    memset(&sks, 0, sizeof(sks));
    unlink(world.trail);
    return 0;
}

/* ---- calls ---- */

/* Post a signingRequest with these members. */
static void
post_at(time_t iat, const char *members)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    char *body = NULL;

    assert_true(asprintf(&body, "{\"signingRequest\":{\"iat\":%lld,%s}}", (long long)iat, members) >
                0);
    call(&sks.local.caller, "POST", SIGNING, headers, body, &called);
    free(body);
}

static void
post(const char *members)
{
    post_at(time(NULL), members);
}

#define FROM   "\"orig\":{\"tn\":\"12155551212\"}"
#define TO     "\"dest\":{\"tn\":[\"12155551213\"]}"
#define A      "\"attest\":\"A\""
#define ID     "\"origid\":\"" ORIGID "\""
#define SHAKEN A "," FROM "," TO "," ID
#define DIV                                                                                        \
    "\"ppt\":\"div\"," FROM ",\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":"                \
    "\"12155551213\"}"

/* The Identity header of a successful answer, in the member of the dialect; free() it. */
static char *
signed_identity(const char *member)
{
    json_t *json = called_json(&called);
    json_t *response = json_object_get(json, "signingResponse");
    const char *identity = json_string_value(json_object_get(response, member));
    char *copy;

    if (called.status != 200 || identity == NULL)
        fail_msg("%ld %s", called.status, called.body);
    copy = strdup(identity);
    json_decref(json);
    return copy;
}

/* The claims of the PASSporT just signed; decref them. */
static json_t *
signed_payload(const char *member)
{
    char *identity = signed_identity(member);
    json_t *header = NULL;
    json_t *payload = NULL;

    *strchr(identity, ';') = '\0';
    assert_int_equal(sks_passport_decode(identity, &header, &payload, NULL), HSM_OK);
    json_decref(header);
    free(identity);
    return payload;
}

/* 3GPP's {"error": ".."}, and no signature. */
static void
assert_3gpp_error(long status, const char *text)
{
    json_t *json = called_json(&called);
    const char *error = json_string_value(json_object_get(json, "error"));

    if (called.status != status || error == NULL || strstr(error, text) == NULL ||
        json_object_size(json) != 1)
        fail_msg("%ld %s, wanted %ld %s", called.status, called.body, status, text);
    json_decref(json);
}

static void
assert_atis_error(long status, const char *id, const char *variable)
{
    if (called.status != status || strstr(called.body, id) == NULL ||
        strstr(called.body, "requestError") == NULL || strstr(called.body, variable) == NULL)
        fail_msg("%ld %s, wanted %ld %s %s", called.status, called.body, status, id, variable);
}

/* ---- dialects ---- */

static void
each_dialect_is_answered_in_its_own_words(void **state)
{
    char *identity;

    (void)state;
    begin(NULL);
    post(SHAKEN);
    identity = signed_identity("identity");
    assert_non_null(strstr(identity, ";info=<" X5U ">;alg=ES256;ppt=shaken"));
    free(identity);
    post(SHAKEN ",\"ppt\":\"\",\"requestId\":\"r-1\"");
    identity = signed_identity("identityHeader");
    assert_non_null(strstr(identity, ";ppt=shaken"));
    assert_non_null(strstr(called.body, "\"requestId\":\"r-1\""));
    free(identity);
    post(SHAKEN ",\"requestId\":\"\\u0022\\\\\\/\\b\\f\\n\\r\\t\\u001f\\u007fü\"");
    identity = signed_identity("identityHeader");
    assert_non_null(
        strstr(called.body, "\"requestId\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u001F\x7fü\"}}"));
    free(identity);
    post(DIV);
    identity = signed_identity("identityHeader");
    assert_non_null(strstr(identity, ";ppt=\"div\""));
    free(identity);
    post("\"ppt\":\"div\"," FROM "," TO);
    assert_3gpp_error(400, "Missing mandatory parameter 'div'");
    post(A "," FROM "," TO);
    assert_atis_error(400, "SVC4001", "origid");
}

static void
every_kind_carries_its_claims(void **state)
{
    static const struct {
        const char *members, *claim, *value;
    } cases[] = {
        {DIV, "div", "{\"tn\":\"12155551213\"}"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[\"ets.0\",\"wps.0\"]}", "rph",
         "{\"auth\":[\"ets.0\",\"wps.0\"]}"},
        {"\"ppt\":\"rph\"," FROM "," TO
         ",\"rph\":{\"auth\":[\"esnet.0\"]},\"sph\":\"psap-callback\"",
         "sph", "\"psap-callback\""},
        {"\"ppt\":\"rcd\"," FROM "," TO ",\"rcd\":{\"nam\":\"Q\"},\"crn\":\"For your ears only\"",
         "crn", "\"For your ears only\""},
        {SHAKEN ",\"rcd\":{\"nam\":\"Q\"}", "rcd", "{\"nam\":\"Q\"}"},
        {SHAKEN ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\""
                "02:1a:cc:54:27:ab:eb:9c:53:3f:3e:4b:65:2e:7d:46:3f:54:42:cd:54:f1:7a:03:a2:7d:f9:"
                "b0:7f:46:19:b2\"},{\"alg\":\"SHA-256\",\"dig\":\""
                "021ACC5427ABEB9C533F3E4B652E7D463F5442CD54F17A03A27DF9B07F4619B2\"}]",
         "mky",
         "[{\"alg\":\"sha-256\",\"dig\":"
         "\"021ACC5427ABEB9C533F3E4B652E7D463F5442CD54F17A03A27DF9B07F4619B2\"}]"},
    };

    (void)state;
    begin(NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool is_atis = strstr(cases[i].members, "ppt") == NULL;
        json_t *payload;
        char *claim;

        post(cases[i].members);
        payload = signed_payload(is_atis ? "identity" : "identityHeader");
        claim = json_dumps(json_object_get(payload, cases[i].claim),
                           JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        assert_non_null(claim);
        assert_string_equal(claim, cases[i].value);
        free(claim);
        json_decref(payload);
    }
}

static void
what_a_kind_does_not_have_is_refused_in_its_dialect(void **state)
{
    static const struct {
        const char *members, *text;
    } cases[] = {
        {SHAKEN ",\"ppt\":\"msg\"", "'ppt'"},
        {SHAKEN ",\"ppt\":7", "'ppt'"},
        {SHAKEN ",\"rph\":{\"auth\":[\"ets.0\"]}", "'rph'"},
        {SHAKEN ",\"sph\":\"psap-callback\"", "'sph'"},
        {SHAKEN ",\"div\":{\"tn\":\"1\"}", "'div'"},
        {DIV "," A, "'attest'"},
        {DIV ",\"crn\":\"x\"", "'crn'"},
        {"\"ppt\":\"div\"," FROM "," TO ",\"div\":{}", "'div'"},
        {"\"ppt\":\"div\"," FROM "," TO ",\"div\":{\"tn\":\"1\",\"hi\":1}", "'div'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[]}", "'rph'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[1]}", "'rph'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[\"ets.0\"],\"x\":1}", "'rph'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":[]", "'rph'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[\"ets.0\"]},\"sph\":\"psap-callback\"",
         "'sph'"},
        {"\"ppt\":\"rcd\"," FROM "," TO, "'rcd'"},
        {"\"ppt\":\"rcd\"," FROM "," TO ",\"rcd\":{}", "'rcd'"},
        {"\"ppt\":\"rcd\"," FROM "," TO ",\"rcd\":{\"nam\":\"Q\"},\"rcdi\":{\"/nam\":\"sha256-x\"}",
         "'rcdi'"},
        {"\"ppt\":\"rcd\"," FROM "," TO ",\"rcd\":{\"nam\":\"Q\"},\"iss\":\"Q\"", "'iss'"},
        {DIV ",\"opt\":\"a.b.c\"", "'opt'"},
        {SHAKEN ",\"requestId\":7", "'requestId'"},
        {SHAKEN ",\"profileId\":\"\"", "'profileId'"},
        {SHAKEN ",\"identityHeaders\":[\"a.b.c\"]", "'identityHeaders'"},
        {DIV ",\"identityHeaders\":[]", "'identityHeaders'"},
        {A "," FROM "," TO ",\"ppt\":\"shaken\"", "'origid'"},
    };

    (void)state;
    begin(NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        post(cases[i].members);
        assert_3gpp_error(400, cases[i].text);
    }
    post(SHAKEN ",\"mky\":[]");
    assert_atis_error(400, "SVC4005", "mky");
    post(SHAKEN ",\"mky\":[{\"alg\":\"md5\",\"dig\":\"00\"}]");
    assert_atis_error(400, "SVC4005", "mky");
    post(SHAKEN ",\"crn\":7");
    assert_atis_error(400, "SVC4005", "crn");
}

/* ---- diversion ---- */

static void
post_div_at(time_t iat, const char *orig, const char *div, const char *dest,
            const char *const *headers, size_t count)
{
    char *list = strdup("");
    char *members = NULL;

    for (size_t i = 0; i < count; i++) {
        json_t *header = json_string(headers[i]);
        char *quoted = json_dumps(header, JSON_ENCODE_ANY);
        char *longer = NULL;

        assert_true(asprintf(&longer, "%s%s%s", list, i == 0 ? "" : ",", quoted) > 0);
        json_decref(header);
        free(quoted);
        free(list);
        list = longer;
    }
    assert_true(asprintf(&members,
                         "\"ppt\":\"div\",\"orig\":{\"tn\":\"%s\"},\"div\":{\"tn\":\"%s\"},"
                         "\"dest\":{\"tn\":[\"%s\"]},\"identityHeaders\":[%s]",
                         orig, div, dest, list) > 0);
    post_at(iat, members);
    free(members);
    free(list);
}

static void
post_div(const char *orig, const char *div, const char *dest, const char *const *headers,
         size_t count)
{
    post_div_at(time(NULL), orig, div, dest, headers, count);
}

/* RFC 8946 section 4: from 12 to 13, on to 14, on to 15. */
static void
a_diversion_continues_the_headers_of_its_call(void **state)
{
    const char *headers[2];
    char *first;
    char *second;

    (void)state;
    begin(NULL);
    post(SHAKEN);
    first = signed_identity("identity");
    headers[0] = first;
    post_div("12155551212", "+1 215 555 1213", "12155551214", headers, 1);
    second = signed_identity("identityHeader");
    headers[1] = second;
    post_div("12155551212", "12155551214", "12155551215", headers, 2);
    assert_int_equal(called.status, 200);
    post_div("12155551212", "12155551299", "12155551214", headers, 2);
    assert_3gpp_error(400, "'div' parameter value: no destination");
    post_div("12155551299", "12155551213", "12155551214", headers, 2);
    assert_3gpp_error(400, "'orig'");
    headers[0] = second; /* without the PASSporT that it diverts */
    post_div("12155551212", "12155551214", "12155551215", headers, 1);
    assert_3gpp_error(400, "the chain has a gap");
    headers[0] = "no.passport";
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    assert_3gpp_error(400, "'identityHeaders'");
    free(second);
    free(first);
}

/* An Identity header of type div-o from 13 to 14, with that `orig` and `opt`; free() it. */
static char *
div_o_identity(const char *orig, const char *opt)
{
    static const char header[] =
        "{\"alg\":\"ES256\",\"ppt\":\"div-o\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}";
    char *head = acme_base64url_encode(header, strlen(header));
    char *identity = NULL;
    char *payload = NULL;
    char *claims;

    assert_true(asprintf(&payload,
                         "{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":\"12155551213\"},"
                         "\"iat\":%lld,\"opt\":\"%s\",\"orig\":{\"tn\":\"%s\"}}",
                         (long long)time(NULL), opt, orig) > 0);
    claims = acme_base64url_encode(payload, strlen(payload));
    assert_true(asprintf(&identity, "%s.%s.AA;info=<" X5U ">;ppt=\"div-o\"", head, claims) > 0);
    free(claims);
    free(payload);
    free(head);
    return identity;
}

/* RFC 8946 section 5: a div-o contains the PASSporT that it diverts, and only that one counts. */
static void
a_diversion_continues_what_is_inside_of_a_div_o(void **state)
{
    static const struct {
        const char *opt; /* NULL: the PASSporT that it diverts */
        const char *orig;
        const char *error; /* NULL: accepted */
    } cases[] = {
        {NULL, "12155551212", NULL},
        {NULL, "12155551299", "the chain has a gap"},
        {"no.passport.AA", "12155551212", "the chain has a gap"},
        {"", "12155551212", "the chain has a gap"},
    };
    const char *headers[SKS_IDENTITIES_MAX];
    char *first;

    (void)state;
    begin(NULL);
    post(SHAKEN);
    first = signed_identity("identity");
    *strchr(first, ';') = '\0';
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *identity = div_o_identity(cases[i].orig, cases[i].opt != NULL ? cases[i].opt : first);

        for (size_t n = 0; n < SKS_IDENTITIES_MAX; n++)
            headers[n] = identity;
        post_div(cases[i].orig, "12155551214", "12155551215", headers, 1);
        if (cases[i].error == NULL)
            free(signed_identity("identityHeader"));
        else
            assert_3gpp_error(400, cases[i].error);
        if (cases[i].error == NULL) { /* no place left for the nested one */
            post_div(cases[i].orig, "12155551214", "12155551215", headers, SKS_IDENTITIES_MAX);
            assert_3gpp_error(400, "the chain has a gap");
        }
        free(identity);
    }
    free(first);
}

/* Nothing vouches for the claims of a PASSporT inside a div-o: its iat may be any integer. */
static void
a_diversion_does_not_continue_an_iat_before_1970(void **state)
{
    static const char claims[] = "{\"dest\":{\"tn\":[\"12155551214\"]},"
                                 "\"iat\":-9223372036854775808,"
                                 "\"orig\":{\"tn\":\"12155551212\"}}";
    char *payload = acme_base64url_encode(claims, strlen(claims));
    char *inner = NULL;
    char *outer;

    (void)state;
    begin(NULL);
    assert_true(asprintf(&inner, "e30.%s.AA", payload) > 0); /* the header is {} */
    outer = div_o_identity("12155551212", inner);
    post_div("12155551212", "12155551214", "12155551215", (const char *const *)&outer, 1);
    assert_3gpp_error(400, "'iat'");
    free(outer);
    free(inner);
    free(payload);
}

/* RFC 8946 section 4.1 requires the iat of the first to be retained, and the diverting party has
 * another clock. */
static void
a_diversion_may_have_a_clock_that_is_behind_that_of_the_first_call(void **state)
{
    time_t now = time(NULL);
    const char *headers[1];
    char *first;

    (void)state;
    begin(NULL);
    post_at(now + 30, SHAKEN);
    first = signed_identity("identity");
    headers[0] = first;
    post_div_at(now, "12155551212", "12155551213", "12155551214", headers, 1);
    free(signed_identity("identityHeader"));
    post_div_at(now - 45, "12155551212", "12155551213", "12155551214", headers, 1);
    assert_3gpp_error(400, "'iat'");
    free(first);
}

/* A div from one of eight numbers to all of them, preceded by `more` others; free() it. */
static char *
ring_link(size_t at, size_t more)
{
    static const char header[] =
        "{\"alg\":\"ES256\",\"ppt\":\"div\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}";
    json_t *dest = json_array();
    json_t *claims;
    char number[16];
    char *payload;
    char *parts[2];
    char *identity = NULL;

    while (more-- > 0)
        json_array_append_new(dest, json_string("9"));
    for (size_t i = 0; i < 8; i++) {
        snprintf(number, sizeof(number), "1215555121%zu", i);
        json_array_append_new(dest, json_string(number));
    }
    snprintf(number, sizeof(number), "1215555121%zu", at);
    claims = json_pack("{s:{s:o}, s:{s:s}, s:{s:s}, s:I}", "dest", "tn", dest, "div", "tn", number,
                       "orig", "tn", "12155551299", "iat", (json_int_t)time(NULL));
    payload = json_dumps(claims, JSON_COMPACT);
    parts[0] = acme_base64url_encode(header, strlen(header));
    parts[1] = acme_base64url_encode(payload, strlen(payload));
    assert_true(asprintf(&identity, "%s.%s.AA;info=<" X5U ">;ppt=\"div\"", parts[0], parts[1]) > 0);
    free(parts[1]);
    free(parts[0]);
    free(payload);
    json_decref(claims);
    return identity;
}

static double
processor_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Each of the eight leads to all others, and none to a PASSporT other than a div: there are 109600
 * paths to search. */
static void
a_ring_of_diversions_is_refused_at_once(void **state)
{
    static const struct {
        size_t more;
        const char *why;
    } cases[] = {
        {0, "the chain has a gap"},
        {SKS_DEST_MAX - 8, "the chain has a gap"},
        {SKS_DEST_MAX - 7, "orig, dest or div"},
        {1400, "orig, dest or div"},
    };
    double begun = processor_s();

    (void)state;
    begin(NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *headers[8];

        for (size_t at = 0; at < COUNT(headers); at++)
            headers[at] = ring_link(at, cases[i].more);
        post_div("12155551299", "12155551210", "12155551230", (const char *const *)headers,
                 COUNT(headers));
        assert_3gpp_error(400, "'identityHeaders'");
        assert_3gpp_error(400, cases[i].why);
        for (size_t at = 0; at < COUNT(headers); at++)
            free(headers[at]);
    }
    assert_true(processor_s() - begun < 2);
}

/* ---- callers ---- */

/* This process is the caller at the socket; its customers have separate numbers. */
static const char two_customers[] = "[customer acme]\n"
                                    "spc = " ECO_SPC "\n"
                                    "attest = A B\n"
                                    "numbers = 12155551200-12155551299\n"
                                    "types = shaken div rph\n"
                                    "rph = ets\n"
                                    "origid = " ORIGID "\n"
                                    "[customer bell]\n"
                                    "spc = " SPC_2 "\n"
                                    "attest = C\n"
                                    "numbers = any\n"
                                    "types = shaken div\n"
                                    "div-headers = yes\n"
                                    "[caller pbx]\n"
                                    "uid = %ld\n"
                                    "country-code = 1\n"
                                    "customers = acme bell\n";

static void
begin_with(const char *callers, long uid)
{
    char text[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the texts above */
    snprintf(text, sizeof(text), callers, uid);
#pragma GCC diagnostic pop
    begin(text);
}

/* Start with these keys for the headers of diverted calls, and the rate. */
static void
begin_diverting(const char *keys)
{
    char text[512];

    snprintf(text, sizeof(text),
             "[customer a]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n%s"
             "[caller p]\nuid = %ld\ncountry-code = 1\ncustomers = a\n",
             keys, (long)getuid());
    begin(text);
}

/* RFC 8946 section 4.1: a div PASSporT is added to a request that already has one. */
static void
a_customer_diverts_what_has_headers_unless_it_is_said_otherwise(void **state)
{
    (void)state;
    begin_diverting("");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    finish(NULL);
    begin_diverting("div-headers = yes\n");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    finish(NULL);
    begin_diverting("div-headers = verified\n");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    finish(NULL);
    begin_diverting("div-headers = no\n");
    post(DIV);
    assert_int_equal(called.status, 200);
}

/* The same header with another signature; free() it. */
static char *
forged(const char *identity)
{
    char *text = strdup(identity);
    char *in_signature = strchr(text, ';') - 40;

    *in_signature = *in_signature == 'A' ? 'B' : 'A';
    return text;
}

/* The same header with another URL of the certificate; free() it. */
static char *
moved(const char *identity)
{
    char *text = NULL;

    assert_true(asprintf(&text, "%.*s;info=<" X5U_2 ">", (int)strcspn(identity, ";"), identity) >
                0);
    return text;
}

/* The same div-o, signed with the key of its certificate; free() it. */
static char *
signed_div_o(const char *orig, const char *opt)
{
    char *identity = div_o_identity(orig, opt);
    size_t input_len = (size_t)(strstr(identity, ".AA;") - identity);
    uint8_t sig[HSM_P256_SIG_LEN];
    struct hsm_key *key = NULL;
    char *text = NULL;
    char *encoded;

    eco_must(hsm_key_find(world.eco.token, "pkcs11:object=sp", &key), "key");
    eco_must(hsm_key_sign_verified(key, identity, input_len, sig), "div-o");
    encoded = acme_base64url_encode(sig, sizeof(sig));
    assert_true(asprintf(&text, "%.*s.%s%s", (int)input_len, identity, encoded,
                         identity + input_len + strlen(".AA")) > 0);
    free(encoded);
    hsm_key_free(key);
    free(identity);
    return text;
}

/* RFC 8946 section 5: the signatures of a div-o and of the PASSporT nested in it are verified if
 * the customer's configuration requires it, and not otherwise. */
static void
a_div_o_is_verified_with_what_is_inside_of_it_where_the_customer_wants_it(void **state)
{
    static const struct {
        const char *keys;
        bool forges_outer, forges_inner;
        const char *error; /* NULL: accepted */
    } cases[] = {
        {"div-headers = yes\n", false, false, NULL},
        {"div-headers = yes\n", true, false, NULL},
        {"div-headers = yes\n", false, true, NULL},
        {"div-headers = verified\n", false, false, NULL},
        {"div-headers = verified\n", true, false, "'identityHeaders': signature: does not verify"},
        {"div-headers = verified\n", false, true, "'identityHeaders': div: no valid PASSporT"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *headers[1];
        char *first, *inner, *outer, *header;

        begin_diverting(cases[i].keys);
        post(SHAKEN);
        first = signed_identity("identity");
        inner = cases[i].forges_inner ? forged(first) : strdup(first);
        *strchr(inner, ';') = '\0';
        outer = signed_div_o("12155551212", inner);
        headers[0] = header = cases[i].forges_outer ? forged(outer) : strdup(outer);
        post_div("12155551212", "12155551214", "12155551215", headers, 1);
        if (cases[i].error == NULL)
            free(signed_identity("identityHeader"));
        else
            assert_3gpp_error(403, cases[i].error);
        free(header);
        free(outer);
        free(inner);
        free(first);
        finish(NULL);
    }
}

static void
what_is_diverted_is_verified_where_the_customer_wants_it(void **state)
{
    const char *headers[2];
    char *texts[4];

    (void)state;
    begin_diverting("div-headers = verified\n");
    post(SHAKEN);
    headers[0] = texts[0] = signed_identity("identity");
    world.asked = 0;
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    headers[1] = texts[1] = signed_identity("identityHeader");
    assert_int_equal(world.asked, 2); /* waited for the chain outside of the event loop */
    post_div("12155551212", "12155551214", "12155551215", headers, 2);
    assert_int_equal(called.status, 200);
    post_div("12155551212", "12155551299", "12155551215", headers, 2);
    assert_3gpp_error(400, "'div' parameter value: no destination");
    texts[2] = forged(texts[0]);
    headers[0] = texts[2];
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    assert_3gpp_error(403, "'identityHeaders': signature: does not verify");
    post_div("12155551212", "12155551214", "12155551215", headers, 2);
    assert_3gpp_error(403, "'identityHeaders': div: no valid PASSporT");
    texts[3] = moved(texts[0]);
    headers[0] = texts[3];
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    assert_3gpp_error(503, "is not there"); /* may become available */
    for (size_t i = 0; i < COUNT(texts); i++)
        free(texts[i]);
}

/* The call is handled twice while a chain is being fetched. */
static void
a_call_that_is_verified_counts_once(void **state)
{
    const char *headers[1];
    char *first;

    (void)state;
    begin_diverting("div-headers = verified\nrate = 1\nburst = 2\n");
    post(SHAKEN);
    first = signed_identity("identity");
    headers[0] = first;
    world.asked = 0;
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    assert_int_equal(called.status, 200);
    assert_int_equal(world.asked, 2);
    free(first);
}

/* A missing list of trusted CAs is not a verdict on the call. */
static void
nothing_is_diverted_that_is_to_be_verified_without_a_list_of_those_to_trust(void **state)
{
    const struct sks_trust_config nothing_yet = {
        .http = world.eco.http,
        .pa_anchors = world.eco.pa_anchors,
        .ca_list_url = "https://127.0.0.1:1/list",
        .crl_url = "https://127.0.0.1:1/crl",
    };
    const char *headers[1];
    char *first;

    (void)state;
    free_verifier();
    make_verifier(&nothing_yet);
    begin_diverting("div-headers = verified\n");
    post(SHAKEN);
    first = signed_identity("identity");
    headers[0] = first;
    world.asked = 0;
    post_div("12155551212", "12155551213", "12155551214", headers, 1);
    assert_3gpp_error(503, "no trusted-CA list");
    finish(NULL);
    free_verifier();
    make_verifier(NULL);
    free(first);
}

static void
the_number_says_whose_certificate_signs(void **state)
{
    char *identity;

    (void)state;
    begin_with(two_customers, (long)getuid());
    post(SHAKEN);
    identity = signed_identity("identity");
    assert_non_null(strstr(identity, X5U));
    free(identity);
    post("\"attest\":\"C\",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID);
    identity = signed_identity("identity");
    assert_non_null(strstr(identity, X5U_2));
    free(identity);
    post("\"attest\":\"C\"," FROM "," TO "," ID ",\"profileId\":\"bell\"");
    identity = signed_identity("identityHeader");
    assert_non_null(strstr(identity, X5U_2));
    free(identity);
}

static void
an_origid_that_is_left_out_is_the_customers(void **state)
{
    json_t *payload;

    (void)state;
    begin_with(two_customers, (long)getuid());
    post(A ",\"orig\":{\"tn\":\"(215) 555-1212\"}," TO ",\"ppt\":\"shaken\"");
    payload = signed_payload("identityHeader");
    assert_string_equal(json_string_value(json_object_get(payload, "origid")), ORIGID);
    assert_string_equal(json_string_value(json_object_get(json_object_get(payload, "orig"), "tn")),
                        "12155551212"); /* with the caller's country code */
    json_decref(payload);
}

static void
assert_signed(const char *name, const char *kind, const char *wanted)
{
    json_t *payload = signed_payload("identity");

    assert_string_equal(json_string_value(json_object_get(json_object_get(payload, name), kind)),
                        wanted);
    json_decref(payload);
}

static void
a_number_is_signed_as_its_dial_plan_has_it(void **state)
{
    static const struct {
        const char *keys, *number;
        bool is_signed; /* false: not a number of the customer */
    } cases[] = {
        {"country-code = 33\nnational-digits = 9\n", "06 12 34 56 78", true},
        {"country-code = 33\nnational-digits = 9\n", "612345678", true},
        {"country-code = 33\n", "0033 6 12 34 56 78", true},
        {"country-code = 33\n", "0612345678", true},
        {"country-code = 33\n", "612345678", false},
        {"country-code = 33\nnational-prefix = none\n", "0612345678", false},
        {"country-code = 1\n", "011 33 6 12 34 56 78", true},
        {"country-code = 1\ninternational-prefix = none\n", "01133612345678", false},
        {"", "0033612345678", false}, /* the default plan, of another country */
        {"", "011 33612345678", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[512];
        char members[256];

        snprintf(text, sizeof(text),
                 "[customer a]\nspc = " ECO_SPC "\nattest = A\nnumbers = 33612345678\n"
                 "[caller p]\nuid = %ld\ncustomers = a\n%s",
                 (long)getuid(), cases[i].keys);
        begin(text);
        snprintf(members, sizeof(members), A ",\"orig\":{\"tn\":\"%s\"}," TO "," ID,
                 cases[i].number);
        post(members);
        if (cases[i].is_signed)
            assert_signed("orig", "tn", "33612345678");
        else
            assert_atis_error(403, "POL4030", "orig");
        finish(NULL);
    }
}

/* RFC 8224 section 8.5. */
static void
a_uri_is_signed_in_canonical_form(void **state)
{
    (void)state;
    begin(NULL);
    post(A ",\"orig\":{\"uri\":\"SIP:%41lice:x@EXAMPLE.com:5060;user=phone?a=b\"}," TO "," ID);
    assert_signed("orig", "uri", "sip:alice@example.com");
    post(A ",\"orig\":{\"uri\":\"im:Bob@Example.com\"}," TO "," ID);
    assert_signed("orig", "uri", "im:Bob@Example.com");
    post(A ",\"orig\":{\"uri\":\"sip:@example.com\"}," TO "," ID);
    assert_atis_error(400, "SVC4005", "orig");
}

static void
a_customer_has_nothing_signed_beyond_its_section(void **state)
{
    static const struct {
        const char *members, *name;
    } atis[] = {
        {"\"attest\":\"C\"," FROM "," TO "," ID, "attest"},
        {A ",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID, "attest"}, /* bell's */
        {A "," FROM "," TO ",\"origid\":\"00000000-0000-4000-8000-000000000000\"", "origid"},
        {SHAKEN ",\"rcd\":{\"nam\":\"Q\"}", "rcd"},
        {SHAKEN ",\"crn\":\"x\"", "rcd"},
    };
    static const struct {
        const char *members, *name;
    } threegpp[] = {
        {SHAKEN ",\"profileId\":\"nobody\"", "'profileId'"},
        {A ",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID ",\"profileId\":\"acme\"", "'orig'"},
        {"\"ppt\":\"rcd\"," FROM "," TO ",\"crn\":\"x\"", "'ppt'"},
        {"\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[\"wps.0\"]}", "'rph'"},
        {"\"ppt\":\"div\"," FROM "," TO ",\"div\":{\"tn\":\"13035550100\"}", "'identityHeaders'"},
    };

    (void)state;
    begin_with(two_customers, (long)getuid());
    for (size_t i = 0; i < COUNT(atis); i++) {
        post(atis[i].members);
        assert_atis_error(403, "POL4030", atis[i].name);
    }
    for (size_t i = 0; i < COUNT(threegpp); i++) {
        post(threegpp[i].members);
        assert_3gpp_error(403, threegpp[i].name);
    }
    post("\"ppt\":\"rph\"," FROM "," TO ",\"rph\":{\"auth\":[\"ets.0\"]}");
    assert_int_equal(called.status, 200);
}

/* RFC 9795: the number that is shown instead of the originator's. */
static void
an_alternate_presentation_number_is_one_of_the_customer(void **state)
{
    static const char callers[] = "[customer a]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = 1215555*\ntypes = shaken rcd\n"
                                  "[caller p]\nuid = %ld\ncustomers = a\n";
    static const char *const good[] = {"12155551299", "+1 (215) 555-1299", "215.555.1299"};
    static const struct {
        const char *apn;
        long status;
        const char *text;
    } bad[] = {
        {"\"13035550100\"", 403, "apn is not a number of the customer"},
        {"\"+1 303 555 0100\"", 403, "apn is not a number of the customer"},
        {"\"911\"", 403, "apn is not a number of the customer"},
        {"\"sip:12155551299@sp.example\"", 400, "apn is not a telephone number"},
        {"\"121555512991215555129912155551299\"", 400, "apn is too long"},
        {"12155551299", 400, "apn is not a canonical number"},
    };
    char members[256];

    (void)state;
    begin_with(callers, (long)getuid());
    for (size_t i = 0; i < COUNT(good); i++) {
        snprintf(members, sizeof(members), SHAKEN ",\"rcd\":{\"nam\":\"Q\",\"apn\":\"%s\"}",
                 good[i]);
        post(members);
        assert_signed("rcd", "apn", "12155551299");
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        for (int is_rcd = 0; is_rcd < 2; is_rcd++) {
            snprintf(members, sizeof(members), "%s,\"rcd\":{\"nam\":\"Q\",\"apn\":%s}",
                     is_rcd ? "\"ppt\":\"rcd\"," FROM "," TO : SHAKEN, bad[i].apn);
            post(members);
            assert_int_equal(called.status, bad[i].status);
            if (strstr(called.body, bad[i].text) == NULL)
                fail_msg("%s, wanted %s", called.body, bad[i].text);
        }
    }
}

/* The caller may try elsewhere. */
static void
a_fault_of_the_token_is_no_refusal_to_the_caller(void **state)
{
    static const char *const faults[] = {
        "on C_SignInit rv CKR_MECHANISM_INVALID", /* HSM_ERR_UNSUPPORTED */
        "swap sp sp-2\nreboot", /* HSM_ERR_UNTRUSTED */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(faults); i++) {
        char line[160];

        begin_with(two_customers, (long)getuid());
        post(SHAKEN);
        free(signed_identity("identity"));
        fault("%s", faults[i]);
        post(SHAKEN);
        assert_atis_error(503, "POL5030", "the token does not sign");
        snprintf(line, sizeof(line),
                 "sti_sks_signatures_total{spc=\"" ECO_SPC
                 "\",key=\"sp\",token=\"all\",outcome=\"failed\"} %zu\n",
                 i + 1);
        call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
        assert_non_null(strstr(called.body, line));
        finish(NULL);
    }
}

/* A new customer has no certificate yet; the providers that have one are not affected. */
static void
a_provider_without_a_credential_stops_no_other(void **state)
{
    static const char callers[] = "[customer new]\nspc = 999X\nattest = A\nnumbers = 13035550100\n"
                                  "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = new acme\n";

    (void)state;
    begin_with(callers, (long)getuid());
    post(A ",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID);
    assert_atis_error(503, "POL5030", "no active credential");
    post(SHAKEN);
    free(signed_identity("identity"));
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    sks_service_refresh(sks.service);
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_non_null(strstr(called.body, "sti_sks_provider_ready{spc=\"999X\"} 0\n"));
    assert_non_null(strstr(called.body, "sti_sks_provider_ready{spc=\"" ECO_SPC "\"} 1\n"));
    assert_non_null(strstr(called.body, "sti_sks_ready{role=\"signing\"} 1\n"));
    finish(NULL);
    begin("[customer new]\nspc = 999X\nattest = A\nnumbers = any\n"
          "[caller pbx]\nuid = 1\ncustomers = new\n");
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "no active credential"));
}

/* Open a second token for a third provider. A PIN that was refused is latched. */
static void
open_two_tokens(const char *pin_of_third)
{
    struct hsm_secret *pins[2] = {NULL, NULL};
    const char *const texts[] = {SOFTHSM_USER_PIN, pin_of_third};
    struct sks_token_config configs[] = {{.uri = ALL, .module = softhsm_module()},
                                         {.uri = THIRD, .module = softhsm_module()}};

    for (size_t i = 0; i < COUNT(configs); i++) {
        eco_must(hsm_secret_new(texts[i], strlen(texts[i]), &pins[i]), "PIN");
        configs[i].pin = pins[i];
    }
    eco_must(sks_tokens_open(configs, COUNT(configs), &sks.tokens), "tokens");
    hsm_secret_free(pins[0]);
    hsm_secret_free(pins[1]);
}

static const char three_providers[] =
    "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\n"
    "[customer third]\nspc = " SPC_3 "\nattest = A\nnumbers = 13035550100\n"
    "[caller pbx]\nuid = %ld\ncustomers = acme third\n";

static void
a_provider_whose_token_refuses_its_pin_is_named_and_keeps_no_other_from_signing(void **state)
{
    static const char why[] = "the PIN of its token was refused";
    static const char not_served[] =
        "\"not_served\":[{\"spc\":\"" SPC_3 "\",\"why\":\"the PIN of its token was refused\"}]";
    struct hsm_token *third = softhsm_token("third");
    struct hsm_key *key = NULL;
    struct certs_chain *chain;
    char *identity;

    (void)state;
    eco_must(hsm_key_generate(third, "in-third", &key), "key");
    chain = eco_sp_chain(&world.eco, SPC_3, hsm_key_public(key), 0, 0);
    activate(THIRD, hsm_key_uri(key), chain, SPC_3, "https://cr.sp.example/certs/third.pem");
    hsm_key_free(key);
    hsm_token_close(third);
    open_two_tokens("9999");
    begin_with(three_providers, (long)getuid() + 1); /* strangers see no names */
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_null(strstr(called.body, "not_served"));
    finish(NULL);
    open_two_tokens("9999");
    begin_with(three_providers, (long)getuid());

    assert_int_equal(sks_service_check(sks.service), HSM_ERR_BUSY);
    for (int refreshed = 0; refreshed < 2; refreshed++) {
        post(SHAKEN);
        free(signed_identity("identity"));
        post(A ",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID);
        assert_atis_error(503, "POL5030", why);
        call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
        assert_int_equal(called.status, 200);
        assert_non_null(strstr(called.body, not_served));
        call(&sks.local.caller, "GET", "/healthz", NULL, NULL, &called);
        assert_int_equal(called.status, 200);
        assert_non_null(strstr(called.body, not_served));
        sks_service_refresh(sks.service);
    }
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_non_null(strstr(called.body, "sti_sks_provider_ready{spc=\"" SPC_3 "\"} 0\n"));
    assert_non_null(strstr(called.body, "sti_sks_provider_ready{spc=\"" ECO_SPC "\"} 1\n"));
    finish(NULL);

    hsm_token_forget_refusals(); /* as SIGHUP does */
    open_two_tokens(SOFTHSM_USER_PIN);
    begin_with(three_providers, (long)getuid());
    assert_int_equal(sks_service_check(sks.service), HSM_OK);
    post(A ",\"orig\":{\"tn\":\"13035550100\"}," TO "," ID);
    identity = signed_identity("identity");
    assert_non_null(strstr(identity, "third.pem"));
    free(identity);
    call(&sks.local.caller, "GET", "/healthz", NULL, NULL, &called);
    assert_string_equal(called.body, "{\"status\":\"ok\"}");
    certs_chain_free(chain);
}

static struct sks_credential *
credential_of(const char *spc, enum sks_state state)
{
    struct sks_credential *found = NULL;
    size_t count = 0;

    eco_must(sks_catalogue_list_in(world.catalogue, spc, state, state, &found, &count), spc);
    assert_int_equal(count, 1);
    return found;
}

static void
what_was_given_up_signs_no_more_while_its_successor_cannot(void **state)
{
    static const char callers[] = "[customer fourth]\nspc = " SPC_4 "\nattest = A\nnumbers = any\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = fourth\n";
    struct hsm_key *key = eco_key(&world.eco, "sp-4");
    struct certs_chain *chain = eco_sp_chain(&world.eco, SPC_4, hsm_key_public(key), 0, 0);
    struct sks_credential *retiring;

    (void)state;
    activate(ALL, "pkcs11:object=sp-4", chain, SPC_4, "https://cr.sp.example/certs/four-1.pem");
    begin_with(callers, (long)getuid());
    post(SHAKEN);
    free(signed_identity("identity"));
    activate(ALL, "pkcs11:object=lost", chain, SPC_4, "https://cr.sp.example/certs/four-2.pem");
    sks_service_refresh(sks.service);
    post(SHAKEN); /* still with the first, now retiring */
    free(signed_identity("identity"));
    retiring = credential_of(SPC_4, SKS_RETIRING);
    retiring->state = SKS_RETIRED;
    eco_must(sks_catalogue_put(world.catalogue, retiring), "retired");
    sks_service_refresh(sks.service);
    post(SHAKEN);
    assert_atis_error(503, "POL5030", "its key is not in the token");
    sks_credentials_free(retiring, 1);
    certs_chain_free(chain);
    hsm_key_free(key);
}

/* The other active credential is in a token that this process does not have. */
static void
what_the_operator_retires_signs_no_more_even_if_no_other_credential_can(void **state)
{
    static const char callers[] = "[customer fifth]\nspc = " SPC_5 "\nattest = A\nnumbers = any\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = fifth\n";
    struct hsm_key *key = eco_key(&world.eco, "sp-5");
    struct certs_chain *chain = eco_sp_chain(&world.eco, SPC_5, hsm_key_public(key), 0, 0);
    struct sks_credential *active;

    (void)state;
    activate(ALL, "pkcs11:object=sp-5", chain, SPC_5, "https://cr.sp.example/certs/five-1.pem");
    active = credential_of(SPC_5, SKS_ACTIVE);
    begin_with(callers, (long)getuid());
    activate(THIRD, "pkcs11:object=away", chain, SPC_5, "https://cr.sp.example/certs/five-2.pem");
    sks_service_refresh(sks.service);
    post(SHAKEN);
    free(signed_identity("identity"));
    active->state = SKS_RETIRING;
    eco_must(sks_catalogue_put(world.catalogue, active), "retiring");
    sks_service_refresh(sks.service);
    post(SHAKEN);
    assert_atis_error(503, "POL5030", "its token is not in the configuration");
    sks_credentials_free(active, 1);
    certs_chain_free(chain);
    hsm_key_free(key);
}

/* A worker that tries a new configuration while another one signs. */
static enum hsm_status
try_candidate(const char *token_uri, struct sks_serving *serving, bool is_candidate)
{
    struct sks_service_config config = {.catalogue = world.catalogue,
                                        .tokens = one_token(token_uri, NULL),
                                        .spc = ECO_SPC,
                                        .trust = world.trust,
                                        .serving = serving,
                                        .is_candidate = is_candidate};
    struct sks_service *service = NULL;
    enum hsm_status st = sks_service_new(&config, &service);

    sks_service_free(service);
    sks_tokens_close(config.tokens);
    return st;
}

static void
a_candidate_that_would_not_sign_what_is_signed_now_does_not_start(void **state)
{
    struct sks_serving *serving = NULL;
    struct sks_service *service = NULL;
    struct sks_service_config config = {.catalogue = world.catalogue,
                                        .tokens = one_token(ALL, NULL),
                                        .spc = ECO_SPC,
                                        .trust = world.trust};

    (void)state;
    hsm_token_close(softhsm_token("other"));
    eco_must(sks_serving_new(&serving), "memory");
    config.serving = serving;
    assert_int_equal(try_candidate("pkcs11:token=other", serving, true), HSM_OK); /* none signs */
    eco_must(sks_service_new(&config, &service), "service");
    sks_service_refresh(service);
    assert_int_equal(try_candidate("pkcs11:token=other", serving, true), HSM_ERR_BUSY);
    assert_int_equal(try_candidate(ALL, serving, true), HSM_OK);
    assert_int_equal(try_candidate("pkcs11:token=other", serving, false), HSM_OK);
    sks_service_free(service);
    sks_tokens_close(config.tokens);
    sks_serving_free(serving);
}

/* A load balancer must not remove an instance that can sign. */
static void
a_signer_is_ready_without_a_list_and_a_crl(void **state)
{
    const struct sks_trust_config nothing = {.http = world.eco.http,
                                             .ca_list_url = "https://pa.example/list",
                                             .crl_url = ECO_CRL_URL,
                                             .dir = softhsm_dir(),
                                             .pa_anchors = world.eco.pa_anchors};
    static const struct {
        const char *path;
        long status;
    } cases[] = {
        {"/readyz", 200},
        {"/readyz?role=signing", 200},
        {"/readyz?role=verification", 503},
        {"/readyz?role=all", 404},
        {"/readyz?role=", 404},
        {"/readyz?other", 200},
    };
    struct sks_trust *good = world.trust;

    (void)state;
    assert_int_equal(sks_trust_new(&nothing, &world.trust), HSM_OK);
    begin(NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        call(&sks.local.caller, "GET", cases[i].path, NULL, NULL, &called);
        assert_int_equal(called.status, cases[i].status);
    }
    post(SHAKEN);
    free(signed_identity("identity"));
    sks_service_refresh(sks.service);
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_non_null(strstr(called.body, "sti_sks_ready{role=\"signing\"} 1\n"));
    assert_non_null(strstr(called.body, "sti_sks_ready{role=\"verification\"} 0\n"));
    finish(NULL);
    sks_trust_free(world.trust);
    world.trust = good;
}

/* Another credential of the provider signs; callers see which one is left out. */
static void
a_credential_that_is_left_out_is_told(void **state)
{
    static const char customers[] =
        "[customer second]\nspc = " SPC_2 "\nattest = A\nnumbers = any\n"
        "[caller pbx]\nuid = %ld\ncustomers = second\n";

    (void)state;
    activate("pkcs11:token=gone", "pkcs11:object=sp-2", world.chain_2, SPC_2,
             "https://cr.sp.example/certs/gone.pem");
    begin_with(customers, (long)getuid());
    assert_int_equal(sks_service_check(sks.service), HSM_ERR_BUSY);
    post(SHAKEN);
    free(signed_identity("identity"));
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_non_null(strstr(called.body, "\"left_out\":[{\"spc\":\"" SPC_2 "\",\"credential\":"));
    assert_non_null(strstr(called.body, "\"why\":\"its token is not in the configuration\"}]"));
    assert_null(strstr(called.body, "not_served"));
    sks_service_refresh(sks.service);
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_non_null(strstr(called.body, ",spc=\"" SPC_2 "\"} 0\n"));
}

static void
what_is_signed_for_is_forgotten_when_nobody_says_so_any_more(void **state)
{
    struct sks_serving *serving = NULL;

    (void)state;
    eco_must(sks_serving_new(&serving), "memory");
    assert_false(sks_serving_is(serving, ECO_SPC, 5));
    sks_serving_tell(serving, ECO_SPC, 0);
    assert_true(sks_serving_is(serving, ECO_SPC, SKS_SERVING_S));
    assert_false(sks_serving_is(serving, ECO_SPC, SKS_SERVING_S + 1));
    assert_false(sks_serving_is(serving, SPC_2, 0));
    sks_serving_free(serving);
}

static void
who_is_not_in_the_file_is_not_authenticated(void **state)
{
    (void)state;
    begin_with(two_customers, (long)getuid() + 1);
    post(SHAKEN);
    assert_atis_error(401, "POL4010", "");
}

static void
calls_beyond_the_rate_are_told_when_to_come_back(void **state)
{
    static const char callers[] = "[customer acme]\n"
                                  "spc = " ECO_SPC "\n"
                                  "attest = A\n"
                                  "numbers = any\n"
                                  "rate = 1\n"
                                  "burst = 3\n"
                                  "[caller pbx]\n"
                                  "uid = %ld\n"
                                  "customers = acme\n";
    unsigned good = 0;
    char header[512];

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 100 && called.status != 429; i++) {
        post(SHAKEN);
        good += called.status == 200;
    }
    assert_atis_error(429, "POL4290", "of the customer");
    assert_true(good >= 3);
    assert_string_equal(called_header(&called, "Retry-After", header), "1");
    for (int i = 0; i < 10; i++) { /* refused by policy at any rate */
        post("\"attest\":\"B\"," FROM "," TO "," ID);
        assert_atis_error(403, "POL4030", "attest");
    }
    called.status = 0; /* reading Identity headers is work and counts */
    for (int i = 0; i < 100 && called.status != 429; i++) {
        post(DIV ",\"identityHeaders\":[\"no.passport\"]");
        if (called.status != 429)
            assert_3gpp_error(400, "'identityHeaders'");
    }
    assert_3gpp_error(429, "of the customer");
}

#define FROM_2 "\"orig\":{\"tn\":\"13035550100\"}"

/* A request refused by the rate of one customer does not count against the caller's rate for the
 * other. */
static void
a_customer_over_its_rate_does_not_use_up_the_callers(void **state)
{
    static const char callers[] = "[customer busy]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = 12155551212\nrate = 1\n"
                                  "[customer calm]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = 13035550100\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = busy calm\n"
                                  "rate = 1\nburst = 50\n";
    unsigned refused = 0;

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 60; i++) {
        post(SHAKEN);
        refused += called.status == 429 && strstr(called.body, "of the customer") != NULL;
    }
    assert_true(refused > 0);
    post(A "," FROM_2 "," TO "," ID);
    free(signed_identity("identity"));
}

static void
a_caller_over_its_rate_does_not_use_up_the_customers(void **state)
{
    static const char callers[] = "[customer acme]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = any\nrate = 1\nburst = 5\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = acme\nrate = 1\n";
    unsigned refused = 0;

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 30; i++) {
        post(SHAKEN);
        if (called.status == 429)
            assert_atis_error(429, "POL4290", "of this caller");
        refused += called.status == 429;
    }
    assert_true(refused > 0);
}

/* Authenticate over TLS: by a token whose hash is in the file, or by a certificate. */
static int
tls_status(const struct acme_http_client_config *config, const char *authorization)
{
    struct eco_server server;
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply = {.status = 0};
    char url[128];
    char *body = NULL;
    struct acme_http_fetch fetch = {
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .authorization = authorization,
        .reply_max = 65536,
        .timeout_ms = 10000,
    };
    const struct acme_http_server_config listen = {
        .address = "127.0.0.1:0",
        .tls_key = world.eco.tls_key,
        .tls_chain = world.eco.tls,
        .client_anchors = world.eco.tls_anchors,
        .handler = sks_service_handler(sks.service),
    };
    int status;

    eco_must(acme_http_loop_new(2, &server.loop), "loop");
    eco_must(acme_http_loop_listen(server.loop, &listen), "listen");
    snprintf(url, sizeof(url), "https://127.0.0.1:%u" SIGNING, acme_http_loop_port(server.loop, 0));
    assert_int_equal(pthread_create(&server.thread, NULL, eco_server_run, server.loop), 0);
    fetch.body_len = (size_t)asprintf(&body, "{\"signingRequest\":{\"iat\":%lld," SHAKEN "}}",
                                      (long long)time(NULL));
    fetch.body = body;
    eco_must(acme_http_client_new(config, &client), "client");
    eco_must(acme_http_fetch(client, &fetch, &reply, NULL), "fetch");
    status = reply.status;
    acme_http_reply_clear(&reply);
    acme_http_client_free(client);
    eco_server_stop(&server);
    free(body);
    return status;
}

static void
sha256_hex(const X509 *cert, char out[65])
{
    uint8_t octets[32];

    assert_int_equal(certs_cert_sha256(cert, octets), HSM_OK);
    for (size_t i = 0; i < sizeof(octets); i++)
        snprintf(out + 2 * i, 3, "%02x", octets[i]);
}

static void
remote_callers_are_known_by_token_or_certificate(void **state)
{
    const struct acme_http_client_config plain = {.tls_ca = world.eco.tls_ca};
    const struct acme_http_client_config with = {
        .tls_ca = world.eco.tls_ca, .client_key = world.client_key, .client_chain = world.client};
    char fingerprint[65];
    char *subject = certs_cert_subject(certs_chain_get(world.client, 0));
    char text[1024];

    (void)state;
    sha256_hex(certs_chain_get(world.client, 0), fingerprint);
    snprintf(text, sizeof(text),
             "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
             "[caller by-token]\nbearer-sha256 = " OTHER_SHA256 " " TOKEN_SHA256
             "\ncustomers = acme\n"
             "[caller by-fingerprint]\ncertificate = %s\ncustomers = acme\n",
             fingerprint);
    begin(text);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN), 200);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN "0"), 401);
    assert_int_equal(tls_status(&plain, NULL), 401);
    assert_int_equal(tls_status(&with, NULL), 200);
    finish(NULL);
    snprintf(text, sizeof(text),
             "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
             "[caller by-subject]\nsubject = %s\ncustomers = acme\n",
             subject);
    begin(text);
    assert_int_equal(tls_status(&with, NULL), 200);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN), 401);
    free(subject);
}

/* ---- the log of signatures ---- */

/* Returns the number of lines of a file, each of which is JSON; `last` is the last one. */
static size_t
read_trail(const char *path, json_t **last)
{
    FILE *from = fopen(path, "r");
    char line[16384];
    size_t count = 0;

    *last = NULL;
    assert_non_null(from);
    while (fgets(line, sizeof(line), from) != NULL) {
        json_decref(*last);
        *last = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(*last);
        count++;
    }
    fclose(from);
    return count;
}

static void
each_signature_is_on_record_with_whose_decision_it_was(void **state)
{
    static const char *const members[] = {"caller", "customer", "spc", "ppt", "x5u"};
    static const char *const values[] = {"pbx", "acme", ECO_SPC, "shaken", X5U};
    struct stat about;
    json_t *claims;
    json_t *last;

    (void)state;
    begin_with(two_customers, (long)getuid());
    post(SHAKEN);
    assert_int_equal(called.status, 200);
    post(SHAKEN ",\"requestId\":\"a\\\"b\"");
    assert_int_equal(called.status, 200);
    claims = signed_payload("identityHeader");
    assert_int_equal(read_trail(world.trail, &last), 2);
    for (size_t i = 0; i < COUNT(members); i++)
        assert_string_equal(json_string_value(json_object_get(last, members[i])), values[i]);
    assert_true(json_equal(json_object_get(last, "claims"), claims));
    assert_string_equal(json_string_value(json_object_get(last, "requestId")), "a?b");
    assert_non_null(strstr(json_string_value(json_object_get(last, "rule")), "callers.conf:2"));
    assert_int_equal(stat(world.trail, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    json_decref(claims);
    json_decref(last);
}

static void
each_refusal_is_on_record_with_what_was_asked(void **state)
{
    static const char callers[] = "[customer acme]\nspc = " ECO_SPC "\nattest = A B\n"
                                  "numbers = 12155551200-12155551299\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = acme\n";
    static const struct {
        const char *members, *refused, *customer, *attest, *number;
    } cases[] = {
        {"\"attest\":\"C\"," FROM "," TO "," ID, "attest: not a level of the customer", "acme", "C",
         "12155551212"},
        {A ",\"orig\":{\"tn\":\"19175550100\"}," TO "," ID, "orig: not a number of the customer",
         NULL, "A", "19175550100"},
        {A ",\"orig\":{\"tn\":\"19175550100\"}," TO ",\"origid\":\"no UUID\"",
         "orig: not a number of the customer", NULL, "A",
         "19175550100"}, /* its claims are invalid as well */
        {SHAKEN ",\"profileId\":\"nobody\"", "profileId: not a customer of this caller", NULL, "A",
         "12155551212"},
    };
    json_t *last;

    (void)state;
    begin_with(callers, (long)getuid());
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *customer, *attest, *number;
        json_t *claims;

        post(cases[i].members);
        assert_int_equal(called.status, 403);
        assert_int_equal(read_trail(world.trail, &last), i + 1);
        customer = json_string_value(json_object_get(last, "customer"));
        claims = json_object_get(last, "claims");
        attest = json_string_value(json_object_get(claims != NULL ? claims : last, "attest"));
        number = json_string_value(claims != NULL
                                       ? json_object_get(json_object_get(claims, "orig"), "tn")
                                       : json_object_get(last, "orig"));
        assert_string_equal(json_string_value(json_object_get(last, "refused")), cases[i].refused);
        assert_string_equal(json_string_value(json_object_get(last, "caller")), "pbx");
        assert_int_equal(customer != NULL, cases[i].customer != NULL);
        if (customer != NULL)
            assert_string_equal(customer, cases[i].customer);
        assert_string_equal(attest, cases[i].attest);
        assert_string_equal(number, cases[i].number);
        assert_null(json_object_get(last, "x5u"));
        json_decref(last);
    }
    post(A "," FROM "," TO); /* malformed, so not a refusal by policy */
    assert_int_equal(called.status, 400);
    assert_int_equal(read_trail(world.trail, &last), COUNT(cases));
    json_decref(last);
    sks_trail_follow(sks.trail); /* to the disk */
}

/* Otherwise refused callers could fill the disk, and nothing is signed without it. */
static void
refusals_are_on_record_no_more_often_than_the_rate(void **state)
{
    static const char *const callers[] = {
        "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\nrate = 1\n"
        "[caller pbx]\nuid = %ld\ncustomers = acme\n",
        "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\n"
        "[caller pbx]\nuid = %ld\ncustomers = acme\nrate = 1\n",
    };
    static const char *const members[] = {"\"attest\":\"C\"," FROM "," TO "," ID,
                                          SHAKEN ",\"profileId\":\"nobody\""};
    json_t *last;

    (void)state;
    for (size_t i = 0; i < COUNT(callers); i++) {
        time_t begun = time(NULL);
        size_t lines;

        begin_with(callers[i], (long)getuid());
        for (int calls = 0; calls < 60; calls++) {
            post(members[i]);
            assert_int_equal(called.status, 403);
        }
        lines = read_trail(world.trail, &last);
        json_decref(last);
        finish(NULL);
        assert_in_range(lines, 1, (size_t)(time(NULL) - begun) + 3);
    }
}

static void
a_record_that_is_moved_away_is_begun_anew(void **state)
{
    char moved[208];
    json_t *last;

    (void)state;
    begin(NULL);
    snprintf(moved, sizeof(moved), "%s.1", world.trail);
    post(SHAKEN);
    assert_int_equal(rename(world.trail, moved), 0);
    post(SHAKEN); /* still to the old file */
    sks_service_refresh(sks.service);
    post(SHAKEN);
    assert_int_equal(read_trail(moved, &last), 2);
    json_decref(last);
    assert_int_equal(read_trail(world.trail, &last), 1);
    assert_null(json_object_get(last, "caller")); /* callers have no names without a file */
    json_decref(last);
    unlink(moved);
}

static void
without_its_record_no_signature_is_given_out(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    snprintf(world.trail, sizeof(world.trail), "%s/full", softhsm_dir());
    assert_int_equal(symlink("/dev/full", world.trail), 0);
    /* Symbolic links are not followed. */
    assert_int_equal(sks_trail_open(world.trail, &sks.trail), HSM_ERR_IO);
    unlink(world.trail);
    snprintf(world.trail, sizeof(world.trail), "/dev/full");
    begin(NULL);
    post(SHAKEN);
    assert_atis_error(503, "POL5030", "record");
    assert_null(strstr(called.body, "identity"));
    snprintf(world.trail, sizeof(world.trail), "%s/trail", softhsm_dir());
}

/* ---- the file of callers ---- */

static void
a_file_of_callers_that_says_too_little_or_nonsense_is_refused(void **state)
{
#define CUSTOMER "[customer a]\nspc = 1234\nattest = A\nnumbers = any\n"
    static const char *const bad[] = {
        "",
        CUSTOMER, /* no caller */
        CUSTOMER "[caller p]\ncustomers = a\n", /* no authentication of the caller */
        CUSTOMER "[caller p]\nuid = 1\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = b\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a a\n",
        CUSTOMER "[caller p]\nuid = -2\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncolour = red\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 1234\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nnational-prefix = 0\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nnational-digits = 9\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\nnational-prefix = +\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\nnational-digits = 15\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\n"
                 "international-prefix = 000000\n",
        CUSTOMER "[caller p]\nbearer-sha256 = " TOKEN "\ncustomers = a\n",
        CUSTOMER "[caller p]\nbearer-sha256 = " TOKEN_SHA256 "0\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n[caller q]\nuid = 2\ncustomers = a\n"
                 "[caller p]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[caller]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[friend p]\nuid = 1\ncustomers = a\n",
        CUSTOMER CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = D\nnumbers = any\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = x\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 9-1\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 1-10\n[caller p]\nuid = 1\ncustomers = "
        "a\n",
        "[customer a]\nattest = A\nnumbers = any\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\ntypes = msg\n[caller p]\nuid = 1\n"
        "customers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\norigid = x\n[caller p]\nuid = 1\n"
        "customers = a\n",
        CUSTOMER "div-headers = maybe\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\nrate = -1\n[caller p]\nuid = 1\n"
        "customers = a\n",
    };
    struct sks_callers *callers = NULL;
    size_t count;

    (void)state;
    eco_must(sks_rates_new(&sks.rates), "rates");
    for (size_t i = 0; i < COUNT(bad); i++)
        if (read_callers(bad[i], &callers) == HSM_OK)
            fail_msg("taken: %s", bad[i]);
    assert_null(callers);
    assert_int_equal(read_callers(CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n", &callers),
                     HSM_OK);
    assert_string_equal(sks_callers_spcs(callers, &count)[0], "1234");
    assert_int_equal(count, 1);
    sks_callers_free(callers);
    sks_rates_free(sks.rates);
    sks.rates = NULL;
}

static void
numbers_are_single_ranges_or_prefixes(void **state)
{
    static const char text[] =
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 911 12155551200-12155551299 1303* 999* "
        "98-99 9999999999999*\n"
        "[caller p]\nuid = 1\ncustomers = a\n";
    static const struct {
        const char *number;
        bool is_in;
    } cases[] = {
        {"911", true},
        {"9110", false},
        {"12155551200", true},
        {"12155551299", true},
        {"12155551300", false},
        {"1215555120", false},
        {"1303", true},
        {"13035550100", true},
        {"130", false},
        {"130355501000000", true},
        {"1304", false},
        {"*67", false},
        {"999", true},
        {"9999", true},
        {"9990", true},
        {"999999999999999", true},
        {"999000000000000", true},
        {"998999999999999", false},
        {"98", true},
        {"99", true},
        {"97", false},
        {"9", false},
    };
    struct sks_callers *callers = NULL;
    const struct sks_caller *caller;

    (void)state;
    eco_must(sks_rates_new(&sks.rates), "rates");
    assert_int_equal(read_callers(text, &callers), HSM_OK);
    caller = sks_callers_find(callers, &(struct sks_evidence){.uid = 1});
    assert_non_null(caller);
    assert_null(sks_callers_find(callers, &(struct sks_evidence){.uid = -1}));
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct sks_claims claims = {.orig_tn = cases[i].number};
        const struct sks_customer *customer = NULL;

        if (sks_caller_customer(caller, NULL, &claims, &customer, NULL) !=
            (cases[i].is_in ? HSM_OK : HSM_ERR_DENIED))
            fail_msg("%s", cases[i].number);
    }
    sks_callers_free(callers);
    sks_rates_free(sks.rates);
    sks.rates = NULL;
}

/* The test passes the time; nothing sleeps. */
static void
a_bucket_gives_its_burst_and_fills_at_its_rate(void **state)
{
    const int64_t second = INT64_C(1000000000);
    struct sks_rates *rates = NULL;
    size_t a, b, again;
    unsigned wait_s = 0;

    (void)state;
    assert_int_equal(sks_rates_new(&rates), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "a", &a), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "b", &b), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "a", &again), HSM_OK);
    assert_int_equal(a, again);
    assert_int_not_equal(a, b);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sks_rates_take(rates, a, 10, 5, second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second, &wait_s), HSM_ERR_BUSY);
    assert_int_equal(wait_s, 1);
    assert_int_equal(sks_rates_take(rates, b, 10, 5, second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second + second / 10, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second + second / 10, &wait_s), HSM_ERR_BUSY);
    for (int i = 0; i < 5; i++) /* full again, but not beyond the burst */
        assert_int_equal(sks_rates_take(rates, a, 10, 5, 100 * second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, 100 * second, &wait_s), HSM_ERR_BUSY);
    sks_rates_free(rates);
}

#define TEST(test) cmocka_unit_test_teardown(test, finish)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_dialect_is_answered_in_its_own_words),
        TEST(every_kind_carries_its_claims),
        TEST(what_a_kind_does_not_have_is_refused_in_its_dialect),
        TEST(a_diversion_continues_the_headers_of_its_call),
        TEST(a_diversion_continues_what_is_inside_of_a_div_o),
        TEST(a_diversion_does_not_continue_an_iat_before_1970),
        TEST(a_diversion_may_have_a_clock_that_is_behind_that_of_the_first_call),
        TEST(a_ring_of_diversions_is_refused_at_once),
        TEST(a_customer_diverts_what_has_headers_unless_it_is_said_otherwise),
        TEST(a_div_o_is_verified_with_what_is_inside_of_it_where_the_customer_wants_it),
        TEST(what_is_diverted_is_verified_where_the_customer_wants_it),
        TEST(a_call_that_is_verified_counts_once),
        TEST(nothing_is_diverted_that_is_to_be_verified_without_a_list_of_those_to_trust),
        TEST(the_number_says_whose_certificate_signs),
        TEST(an_origid_that_is_left_out_is_the_customers),
        TEST(a_number_is_signed_as_its_dial_plan_has_it),
        TEST(a_uri_is_signed_in_canonical_form),
        TEST(a_customer_has_nothing_signed_beyond_its_section),
        TEST(an_alternate_presentation_number_is_one_of_the_customer),
        TEST(a_fault_of_the_token_is_no_refusal_to_the_caller),
        TEST(a_provider_without_a_credential_stops_no_other),
        TEST(a_provider_whose_token_refuses_its_pin_is_named_and_keeps_no_other_from_signing),
        TEST(what_was_given_up_signs_no_more_while_its_successor_cannot),
        TEST(what_the_operator_retires_signs_no_more_even_if_no_other_credential_can),
        TEST(a_candidate_that_would_not_sign_what_is_signed_now_does_not_start),
        TEST(a_signer_is_ready_without_a_list_and_a_crl),
        TEST(a_credential_that_is_left_out_is_told),
        TEST(what_is_signed_for_is_forgotten_when_nobody_says_so_any_more),
        TEST(who_is_not_in_the_file_is_not_authenticated),
        TEST(calls_beyond_the_rate_are_told_when_to_come_back),
        TEST(a_customer_over_its_rate_does_not_use_up_the_callers),
        TEST(a_caller_over_its_rate_does_not_use_up_the_customers),
        TEST(remote_callers_are_known_by_token_or_certificate),
        TEST(each_signature_is_on_record_with_whose_decision_it_was),
        TEST(each_refusal_is_on_record_with_what_was_asked),
        TEST(refusals_are_on_record_no_more_often_than_the_rate),
        TEST(a_record_that_is_moved_away_is_begun_anew),
        TEST(without_its_record_no_signature_is_given_out),
        TEST(a_file_of_callers_that_says_too_little_or_nonsense_is_refused),
        TEST(numbers_are_single_ranges_or_prefixes),
        TEST(a_bucket_gives_its_burst_and_fills_at_its_rate),
    };

    return cmocka_run_group_tests(tests, make_world, end_world);
}
