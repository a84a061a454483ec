/* test_service_signing.c - mirrors sks/src/service_signing.c and ms_api_signing.c: the dialects,
 * and whose certificate signs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/service.h>
#include <sks/x5u.h>

#include "fault_client.h"
#include "one_token.h"
#include "signing_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SPC_3 "321Y"
#define SPC_4 "654Z"
#define SPC_5 "987W"

#define THIRD "pkcs11:token=third"

/* ---- dialects ---- */

static void
each_dialect_is_answered_in_its_own_words(void **state)
{
    char *identity;

    (void)state;
    signing_begin(NULL);
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
    signing_begin(NULL);
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
    signing_begin(NULL);
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

/* ---- callers ---- */

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
        signing_begin(text);
        snprintf(members, sizeof(members), A ",\"orig\":{\"tn\":\"%s\"}," TO "," ID,
                 cases[i].number);
        post(members);
        if (cases[i].is_signed)
            assert_signed("orig", "tn", "33612345678");
        else
            assert_atis_error(403, "POL4030", "orig");
        signing_finish(NULL);
    }
}

/* RFC 8224 section 8.5. */
static void
a_uri_is_signed_in_canonical_form(void **state)
{
    (void)state;
    signing_begin(NULL);
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
        signing_finish(NULL);
    }
}

/* A new customer has no certificate yet; the providers that have one are not affected. */
static void
a_provider_without_a_credential_stops_no_other(void **state)
{
    static const char callers[] =
        "[customer new]\nspc = 999X\nattest = A\nnumbers = 13035550100\n"
        "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
        "[caller pbx]\nuid = %ld\nuse = signing metrics\ncustomers = new acme\n";

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
    signing_finish(NULL);
    signing_begin("[customer new]\nspc = 999X\nattest = A\nnumbers = any\n"
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
    "[caller pbx]\nuid = %ld\nuse = signing metrics\ncustomers = acme third\n";

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
    signing_finish(NULL);
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
    signing_finish(NULL);

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
    signing_begin(NULL);
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
    signing_finish(NULL);
    sks_trust_free(world.trust);
    world.trust = good;
}

/* Another credential of the provider signs; callers see which one is left out. */
static void
a_credential_that_is_left_out_is_told(void **state)
{
    static const char customers[] =
        "[customer second]\nspc = " SPC_2 "\nattest = A\nnumbers = any\n"
        "[caller pbx]\nuid = %ld\nuse = signing metrics\ncustomers = second\n";

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

#define TEST(test) cmocka_unit_test_teardown(test, signing_finish)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_dialect_is_answered_in_its_own_words),
        TEST(every_kind_carries_its_claims),
        TEST(what_a_kind_does_not_have_is_refused_in_its_dialect),
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
    };

    return cmocka_run_group_tests(tests, signing_group_start, signing_group_stop);
}
