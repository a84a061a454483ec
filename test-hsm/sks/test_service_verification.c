/* test_service_verification.c - mirrors sks/src/service_verification.c and ms_api_verif*.c: the
 * verification API in its dialects. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/service.h>

#include "caller.h"
#include "data.h"
#include "one_token.h"
#include "softhsm.h"
#include "verifier_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PATH         "/stir/v1/verification"
#define WAITING      12 /* calls at once; four threads serve them */

static struct {
    struct sks_tokens *tokens;
    struct sks_catalogue *catalogue;
    struct sks_service *service;
    struct unix_server server;
    struct called called;
} api;

/* Chains that are still being fetched, and the calls that wait for them. */
static struct {
    pthread_mutex_t lock;
    bool is_away;
    void (*landed[WAITING])(void *context);
    void *contexts[WAITING];
    atomic_uint waiting;
} chains = {.lock = PTHREAD_MUTEX_INITIALIZER};

static time_t
now_of_vectors(void)
{
    return NOW;
}

static enum hsm_status
ask(void *context, const char *x5u, time_t now, const struct sks_call *call,
    struct certs_chain **out, struct hsm_reason *why)
{
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    pthread_mutex_lock(&chains.lock);
    if (chains.is_away) {
        assert_true(chains.waiting < WAITING);
        chains.landed[chains.waiting] = call->wait->landed;
        chains.contexts[chains.waiting] = call->wait->context;
        chains.waiting++;
    } else {
        st = serve(context, x5u, now, out, why);
    }
    pthread_mutex_unlock(&chains.lock);
    return st;
}

static const struct sks_dial_plan nanp = {"1", "1", "011", 10};

static int
start(void **state)
{
    const struct sks_verifier_config verifier = {.chain = serve, .ask = ask};
    struct sks_verifier_config config = verifier;
    char path[160];

    if (verifier_start(state) != 0)
        return -1;
    sks_verifier_free(vs.verifier);
    config.trust = vs.trust;
    assert_int_equal(sks_verifier_new(&config, &vs.verifier), HSM_OK);
    softhsm_start();
    hsm_token_close(softhsm_token("all"));
    api.tokens = one_token("pkcs11:token=all", NULL);
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    assert_int_equal(sks_catalogue_open(path, &api.catalogue), HSM_OK);
    assert_int_equal(sks_service_new(&(struct sks_service_config){.catalogue = api.catalogue,
                                                                  .tokens = api.tokens,
                                                                  .verifier = vs.verifier,
                                                                  .trust = vs.trust,
                                                                  .dial_plan = &nanp,
                                                                  .now = now_of_vectors},
                                     &api.service),
                     HSM_OK);
    unix_server_start(&api.server, softhsm_dir(), sks_service_handler(api.service));
    return 0;
}

static int
stop(void **state)
{
    unix_server_stop(&api.server);
    sks_service_free(api.service);
    sks_catalogue_close(api.catalogue);
    sks_tokens_close(api.tokens);
    softhsm_stop();
    return verifier_stop(state);
}

static void
post(const char *body)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};

    call(&api.server.caller, "POST", PATH, headers, body, &api.called);
}

/* Verify {"verificationRequest": request}; takes `request` over. Returns the member of the answer;
 * decref it. */
static json_t *
verify(json_t *request)
{
    json_t *body = json_pack("{s:o}", "verificationRequest", request);
    char *text = json_dumps(body, JSON_COMPACT);
    json_t *answer;
    json_t *response;

    post(text);
    free(text);
    json_decref(body);
    assert_int_equal(api.called.status, 200);
    answer = called_json(&api.called);
    response = json_incref(json_object_get(answer, "verificationResponse"));
    assert_non_null(response);
    json_decref(answer);
    return response;
}

/* -- the vectors in every form ----------------------------------------------------------------- */

static json_t *
atis_form(const char *identity, const json_t *request)
{
    return json_pack("{s:s, s:O, s:O, s:O}", "identity", identity, "from",
                     json_object_get(request, "from"), "to", json_object_get(request, "to"), "time",
                     json_object_get(request, "time"));
}

static json_t *
claims_form(const char *identity, const json_t *request)
{
    return json_pack("{s:s, s:O, s:O, s:O}", "identity", identity, "orig",
                     json_object_get(request, "from"), "dest", json_object_get(request, "to"),
                     "iat", json_object_get(request, "time"));
}

/* 3GPP's form has a string in `to`. */
static json_t *
threegpp_form(const char *identity, const json_t *request)
{
    const json_t *to = json_object_get(json_object_get(request, "to"), "tn");

    return json_pack("{s:s, s:O, s:{s:O}, s:O}", "identityHeader", identity, "from",
                     json_object_get(request, "from"), "to", "tn", json_array_get(to, 0), "time",
                     json_object_get(request, "time"));
}

static json_t *
threegpp_claims_form(const char *identity, const json_t *request)
{
    return json_pack("{s:s, s:O, s:O, s:O}", "identityHeader", identity, "orig",
                     json_object_get(request, "from"), "dest", json_object_get(request, "to"),
                     "iat", json_object_get(request, "time"));
}

static void
assert_atis(const json_t *response, const json_t *expect)
{
    const char *text = json_string_value(json_object_get(expect, "reasontext"));
    const char *found = json_string_value(json_object_get(response, "reasontext"));
    char header[512];

    assert_string_equal(json_string_value(json_object_get(response, "verstat")),
                        json_string_value(json_object_get(expect, "verstat")));
    assert_int_equal(json_integer_value(json_object_get(response, "reasoncode")),
                     json_integer_value(json_object_get(expect, "reasoncode")));
    assert_int_equal(text == NULL, found == NULL);
    assert_int_equal(called_header(&api.called, "Reason", header)[0] == '\0', text == NULL);
    if (text != NULL) {
        assert_int_equal(strcasecmp(text, found), 0);
        assert_non_null(json_object_get(response, "reasondesc"));
        assert_non_null(strstr(header, found)); /* RFC 9410 */
    }
}

static void
assert_plain_atis(const json_t *response, const json_t *expect)
{
    assert_atis(response, expect);
    assert_int_equal(json_object_size(response),
                     json_object_get(response, "reasoncode") == NULL ? 1 : 4);
}

static void
assert_threegpp(const json_t *response, const json_t *expect)
{
    const json_t *results = json_object_get(response, "verifyResults");
    const json_t *result = json_object_get(json_array_get(results, 0), "verifyResult");
    bool is_valid = json_is_null(json_object_get(expect, "reasoncode"));

    assert_string_equal(json_string_value(json_object_get(response, "verstatValue")),
                        json_string_value(json_object_get(expect, "verstat")));
    assert_int_equal(json_object_size(response), is_valid ? 1 : 3);
    assert_int_equal(results == NULL, is_valid);
    if (is_valid)
        return;
    assert_string_equal(json_string_value(json_object_get(result, "ppt")), "shaken");
    assert_string_equal(json_string_value(json_object_get(result, "status")), "fail");
    assert_int_equal(json_integer_value(json_object_get(result, "reasonCode")),
                     json_integer_value(json_object_get(expect, "reasoncode")));
    assert_int_equal(strcasecmp(json_string_value(json_object_get(result, "reasonText")),
                                json_string_value(json_object_get(expect, "reasontext"))),
                     0);
    assert_int_equal(json_array_size(json_object_get(response, "reasonHeaders")), 1);
}

static const struct {
    const char *name;
    json_t *(*request)(const char *identity, const json_t *request);
    void (*check)(const json_t *response, const json_t *expect);
} forms[] = {
    {"from/to/time", atis_form, assert_plain_atis},
    {"orig/dest/iat", claims_form, assert_plain_atis},
    {"3GPP", threegpp_form, assert_threegpp},
    {"3GPP orig/dest/iat", threegpp_claims_form, assert_threegpp},
};

static void
every_identity_of_the_vectors_gets_its_verdict_in_every_form(void **state)
{
    json_t *vectors = data_json("self/identity_headers.json");
    json_t *vector;
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(vectors, "cases")), 44);
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        const char *identity = json_string_value(json_object_get(vector, "identity"));

        vs.serves = json_string_value(json_object_get(vector, "x5u_serves"));
        for (size_t form = 0; form < COUNT(forms); form++) {
            json_t *response =
                verify(forms[form].request(identity, json_object_get(vector, "request")));

            print_message("%s in %s\n", json_string_value(json_object_get(vector, "id")),
                          forms[form].name);
            forms[form].check(response, json_object_get(vector, "expect"));
            json_decref(response);
        }
    }
    json_decref(vectors);
}

/* Some callers send neither alg nor ppt (and some no angle brackets). */
static void
an_identity_with_info_alone_is_judged_by_its_passport(void **state)
{
    json_t *vectors = data_json("self/identity_headers.json");
    const json_t *vector = json_array_get(json_object_get(vectors, "cases"), 0);
    const char *identity = json_string_value(json_object_get(vector, "identity"));
    char *alone = strdup(identity);

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    *strstr(alone, ";alg=") = '\0';
    assert_null(strstr(alone, "ppt="));
    for (size_t form = 0; form < COUNT(forms); form++) {
        json_t *response = verify(forms[form].request(alone, json_object_get(vector, "request")));

        forms[form].check(response, json_object_get(vector, "expect"));
        json_decref(response);
    }
    free(alone);
    json_decref(vectors);
}

/* Numbers as a switch of that country writes them; a PASSporT has them in E.164 (RFC 8224 section
 * 8.3). */
static void
numbers_of_the_signalling_are_as_the_dial_plan_has_them(void **state)
{
    static const struct {
        const char *from, *to, *verstat;
    } cases[] = {
        {"{\"tn\":\"2155551212\"}", "{\"tn\":\"(215) 555-1213\"}", "TN-Validation-Passed"},
        {"{\"uri\":\"sip:2155551212@a.example\"}", "{\"uri\":\"tel:011-12155551213\"}",
         "TN-Validation-Passed"},
        {"{\"tn\":\"+2155551212\"}", "{\"tn\":\"2155551213\"}", "No-TN-Validation"},
        {"{\"tn\":\"5551212\"}", "{\"tn\":\"2155551213\"}", "No-TN-Validation"},
    };
    json_t *vectors = data_json("self/identity_headers.json");
    const json_t *vector = json_array_get(json_object_get(vectors, "cases"), 0);

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *response = verify(json_pack("{s:O, s:o, s:o, s:i}", "identity",
                                            json_object_get(vector, "identity"), "from",
                                            json_loads(cases[i].from, 0, NULL), "to",
                                            json_loads(cases[i].to, 0, NULL), "time", NOW));

        assert_string_equal(json_string_value(json_object_get(response, "verstat")),
                            cases[i].verstat);
        json_decref(response);
    }
    json_decref(vectors);
}

/* -- several PASSporTs ------------------------------------------------------------------------- */

/* The header field value of a PASSporT of the vectors; free() it. */
static char *
vector_identity(const char *wanted)
{
    json_t *vectors = data_json("self/passport_other.json");
    json_t *vector;
    char *identity = NULL;
    size_t i;

    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        if (strcmp(json_string_value(json_object_get(vector, "id")), wanted) == 0)
            assert_true(asprintf(&identity, "%s;info=<" X5U ">",
                                 json_string_value(json_object_get(vector, "jws"))) > 0);
    }
    json_decref(vectors);
    assert_non_null(identity);
    return identity;
}

/* A 3GPP request with these in identityHeaders, and further members; takes `more` over. */
static json_t *
verify_others(const char *first, const char *second, json_t *more)
{
    char *one = vector_identity(first);
    char *two = second == NULL ? NULL : vector_identity(second);
    json_t *request =
        json_pack("{s:[s, s*], s:{s:s}, s:{s:s}, s:i}", "identityHeaders", one, two, "from", "tn",
                  "12155551212", "to", "tn", "12155551213", "time", NOW);

    vs.serves = "sp-1234.chain.pem";
    if (more != NULL)
        json_object_update_new(request, more);
    free(one);
    free(two);
    return verify(request);
}

static void
assert_answer(json_t *response, const char *wanted)
{
    char *text = json_dumps(response, JSON_COMPACT | JSON_SORT_KEYS);

    assert_string_equal(text, wanted);
    free(text);
    json_decref(response);
}

static void
div_and_rph_have_answers_of_their_own(void **state)
{
    (void)state;
    assert_answer(
        verify_others("shaken", "div", json_pack("{s:{s:s}}", "dest", "tn", "12155551214")),
        "{\"divResult\":[{\"div\":{\"tn\":\"12155551213\"},"
        "\"verstatValue\":\"TN-Validation-Passed\"}],"
        "\"verstatValue\":\"TN-Validation-Passed\"}");
    assert_answer(verify_others("rph", NULL,
                                json_pack("{s:[s, s]}", "protectedHeaders", "Diversion: <tel:1>",
                                          "Resource-Priority: ets.0, wps.0")),
                  "{\"verstatPriority\":\"RPH-Validation-Passed\"}");
    assert_answer(verify_others("rph+sph", NULL,
                                json_pack("{s:[s, s]}", "protectedHeaders",
                                          "resource-priority:esnet.0", "Priority: psap-callback")),
                  "{\"verstatPriority\":\"RPH-Validation-Passed\"}");
}

static void
what_the_signalling_contradicts_does_not_pass(void **state)
{
    static const char *const headers[] = {
        "Resource-Priority: ets.1", "Resource-Priority: ets.0,q735.1", "Priority: psap-callback"};

    (void)state;
    for (size_t i = 0; i < COUNT(headers); i++) {
        json_t *response =
            verify_others("rph", NULL, json_pack("{s:[s]}", "protectedHeaders", headers[i]));
        const json_t *result = json_object_get(
            json_array_get(json_object_get(response, "verifyResults"), 0), "verifyResult");

        assert_string_equal(json_string_value(json_object_get(response, "verstatPriority")),
                            "No-RPH-Validation");
        assert_int_equal(json_integer_value(json_object_get(result, "reasonCode")), 438);
        assert_null(json_object_get(response, "verstatValue"));
        json_decref(response);
    }
}

static void
rich_call_data_is_handed_on(void **state)
{
    json_t *response = verify_others("rcd", "shaken", NULL);
    const json_t *result = json_object_get(
        json_array_get(json_object_get(response, "verifyResults"), 0), "verifyResult");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(result, "ppt")), "rcd");
    assert_string_equal(json_string_value(json_object_get(result, "status")), "pass");
    assert_string_equal(json_string_value(json_object_get(result, "rcdStatus")), "pass");
    assert_non_null(
        json_object_get(json_object_get(json_object_get(result, "validClaims"), "rcd"), "nam"));
    assert_null(json_object_get(response, "reasonHeaders"));
    json_decref(response);
}

/* The ppi of each Reason names its PASSporT. */
static void
a_list_is_judged_in_the_dialect_of_atis_too(void **state)
{
    char *shaken = vector_identity("shaken");
    char *rph = vector_identity("rph");
    json_t *from = json_pack("{s:{s:s}, s:{s:[s]}, s:i}", "from", "tn", "12155551212", "to", "tn",
                             "12155551213", "time", NOW);
    json_t *request = json_deep_copy(from);
    json_t *response;
    const char *reason;

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    json_object_set_new(request, "identity", json_pack("[s, s]", "..x;info=<" X5U ">", shaken));
    response = verify(request);
    assert_string_equal(json_string_value(json_object_get(response, "verstat")),
                        "TN-Validation-Passed");
    assert_null(json_object_get(response, "reasoncode"));
    assert_int_equal(json_array_size(json_object_get(response, "verifyResults")), 2);
    reason = json_string_value(json_array_get(json_object_get(response, "reasonHeaders"), 0));
    assert_string_equal(reason, "STIR ;cause=438 ;text=\"Invalid Identity Header\" ;ppi=\"..x\"");
    json_decref(response);
    request = json_deep_copy(from);
    json_object_set_new(request, "identity", json_pack("[s, s]", shaken, rph));
    /* All are valid: verstat reports on the shaken PASSporT, and nothing on the others. */
    response = verify(request);
    assert_string_equal(
        json_string_value(json_object_get(
            json_object_get(json_array_get(json_object_get(response, "verifyResults"), 1),
                            "verifyResult"),
            "status")),
        "pass");
    assert_null(json_object_get(response, "reasonHeaders"));
    json_decref(response);
    request = json_deep_copy(from);
    json_object_set_new(request, "identity", json_pack("[s, s]", shaken, shaken));
    assert_answer(verify(request), "{\"verstat\":\"TN-Validation-Passed\"}");
    request = from;
    json_object_set_new(request, "identity", json_pack("[s]", rph));
    response = verify(request);
    assert_string_equal(json_string_value(json_object_get(response, "verstat")),
                        "No-TN-Validation");
    assert_int_equal(json_integer_value(json_object_get(response, "reasoncode")), 438);
    json_decref(response);
    free(rph);
    free(shaken);
}

/* Text that a stranger put into a PASSporT ends neither a header field nor its parameter. */
static void
a_reason_carries_no_text_of_strangers(void **state)
{
    static const char *const signatures[] = {
        "x\\r\\nX-Injected: y", "x\\\" ;text=\\\"y", "\\u00e4", "",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"};

    (void)state;
    for (size_t i = 0; i < COUNT(signatures); i++) {
        char payload[1024];
        char *passport, *identity = NULL;
        json_t *response, *reasons;

        snprintf(payload, sizeof(payload),
                 "{\"dest\":{\"tn\":[\"12155551213\"]},\"div\":{\"tn\":\"12155551212\"},"
                 "\"iat\":%d,\"opt\":\"a.b.%s\",\"orig\":{\"tn\":\"12155551212\"}}",
                 NOW, signatures[i]);
        passport = passport_new("{\"alg\":\"ES256\",\"ppt\":\"div-o\",\"typ\":\"passport\","
                                "\"x5u\":\"" X5U "\"}",
                                payload, vs.sp_key);
        assert_true(asprintf(&identity, "%s;info=<" X5U ">;ppt=\"div-o\"", passport) > 0);
        response =
            verify(json_pack("{s:{s:s}, s:{s:[s]}, s:i, s:[s]}", "from", "tn", "12155551212", "to",
                             "tn", "12155551213", "time", NOW, "identityHeaders", identity));
        reasons = json_object_get(response, "reasonHeaders");
        assert_int_equal(json_array_size(reasons), 2);
        assert_string_equal(json_string_value(json_array_get(reasons, 1)),
                            "STIR ;cause=438 ;text=\"Invalid Identity Header\"");
        json_decref(response);
        free(identity);
        free(passport);
    }
}

/* -- faults of a request (E1, E2) -------------------------------------------------------------- */

#define FROM          "\"from\":{\"tn\":\"12155551212\"}"
#define TO            "\"to\":{\"tn\":\"12155551213\"}"
#define TIME          "\"time\":1768478400"
#define HEADER_MEMBER "\"identityHeader\":\"a.b.c\""

static const struct {
    const char *members;
    const char *message; /* of 3GPP's {"error": message}; or the id of ATIS-1000082's error */
} faults[] = {
    {"", "SVC4001"},
    {FROM "," TO "," TIME, "SVC4001"},
    {FROM "," TO "," TIME ",\"identity\":[]", "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":[1]", "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":[\"\"]", "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]",
     "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":7", "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":\"a.b.c\",\"mky\":1", "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":\"a.b.c\",\"mky\":[{\"alg\":\"sha-256\"}]", "SVC4005"},
    {FROM "," TO "," TIME
          ",\"identity\":\"a.b.c\",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"A:AB:B\"}]",
     "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":\"a.b.c\",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"xx\"}]",
     "SVC4005"},
    {FROM "," TO "," TIME ",\"identity\":\"a.b.c\",\"dest\":{}", "SVC4005"},
    {"\"orig\":{\"tn\":\"1\"},\"dest\":{\"tn\":[\"2\"]},\"identity\":\"a.b.c\"", "SVC4001"},
    {"\"orig\":{\"tn\":\"1\"},\"iat\":1,\"identity\":\"a.b.c\"", "SVC4001"},
    {"\"orig\":{\"tn\":\"1\"},\"dest\":{\"tn\":[\"2\"]},\"iat\":\"1\",\"identity\":\"a.b.c\"",
     "SVC4005"},
    {HEADER_MEMBER, "Missing mandatory parameter 'from'"},
    {HEADER_MEMBER "," FROM "," TIME, "Missing mandatory parameter 'to'"},
    {HEADER_MEMBER "," FROM "," TO, "Missing mandatory parameter 'time'"},
    {"\"identityHeader\":\"\"," FROM "," TIME "," TO,
     "Invalid 'identityHeader' parameter value: empty or too long"},
    {"\"identityHeaders\":[]," FROM "," TIME "," TO,
     "Invalid 'identityHeaders' parameter value: empty, or too many"},
    {"\"identityHeaders\":\"a\"," FROM "," TIME "," TO,
     "Invalid 'identityHeaders' parameter value: not an array"},
    {HEADER_MEMBER ",\"identityHeaders\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]," FROM
                   "," TIME "," TO,
     "Invalid 'identityHeaders' parameter value: empty, or too many"},
    {HEADER_MEMBER ",\"protectedHeaders\":\"a\"," FROM "," TIME "," TO,
     "Invalid 'protectedHeaders' parameter value: not an array, or too many"},
    {HEADER_MEMBER ",\"protectedHeaders\":[1]," FROM "," TIME "," TO,
     "Invalid 'protectedHeaders' parameter value: not strings"},
    {HEADER_MEMBER ",\"dest\":{\"tn\":\"x y\"}," FROM "," TIME "," TO,
     "Invalid 'dest' parameter value: a tn is not a telephone number"},
};

static void
every_fault_of_a_request_is_told_in_its_dialect(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(faults); i++) {
        char *body = NULL;
        char *wanted = NULL;

        assert_true(asprintf(&body, "{\"verificationRequest\":{%s}}", faults[i].members) > 0);
        print_message("%s\n", body);
        post(body);
        assert_int_equal(api.called.status, 400);
        if (strncmp(faults[i].message, "SVC", 3) == 0)
            assert_true(asprintf(&wanted, "\"messageId\":\"%s\"", faults[i].message) > 0);
        else
            assert_true(asprintf(&wanted, "{\"error\":\"%s\"}", faults[i].message) > 0);
        assert_non_null(strstr(api.called.body, wanted));
        free(wanted);
        free(body);
    }
}

/* -- chains that have to be fetched ------------------------------------------------------------ */

static void *
post_in_a_thread(void *body)
{
    static const char *const headers[] = {"Content-Type: application/json", "X-RequestID: 7", NULL};
    struct called *answer = malloc(sizeof(*answer));

    call(&api.server.caller, "POST", PATH, headers, body, answer);
    return answer;
}

/* All other calls are served, however many wait; a call that waited is answered as usual. */
static void
calls_that_wait_for_a_chain_hold_no_thread(void **state)
{
    char *identity = vector_identity("shaken");
    pthread_t threads[WAITING];
    char *body = NULL;
    char header[512];

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{" FROM "," TO "," TIME ",\"identity\":\"%s\"}}",
                         identity) > 0);
    chains.is_away = true;
    for (size_t i = 0; i < WAITING; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_in_a_thread, body), 0);
    while (chains.waiting < WAITING)
        usleep(1000);
    post("{\"verificationRequest\":{}}");
    assert_int_equal(api.called.status, 400);
    pthread_mutex_lock(&chains.lock);
    chains.is_away = false;
    pthread_mutex_unlock(&chains.lock);
    for (size_t i = 0; i < WAITING; i++)
        chains.landed[i](chains.contexts[i]);
    for (size_t i = 0; i < WAITING; i++) {
        struct called *answer = NULL;

        assert_int_equal(pthread_join(threads[i], (void **)&answer), 0);
        assert_int_equal(answer->status, 200);
        assert_non_null(strstr(answer->body, "TN-Validation-Passed"));
        assert_string_equal(called_header(answer, "X-RequestID", header), "7");
        free(answer);
    }
    free(body);
    free(identity);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_identity_of_the_vectors_gets_its_verdict_in_every_form),
        cmocka_unit_test(an_identity_with_info_alone_is_judged_by_its_passport),
        cmocka_unit_test(numbers_of_the_signalling_are_as_the_dial_plan_has_them),
        cmocka_unit_test(div_and_rph_have_answers_of_their_own),
        cmocka_unit_test(what_the_signalling_contradicts_does_not_pass),
        cmocka_unit_test(rich_call_data_is_handed_on),
        cmocka_unit_test(a_list_is_judged_in_the_dialect_of_atis_too),
        cmocka_unit_test(a_reason_carries_no_text_of_strangers),
        cmocka_unit_test(every_fault_of_a_request_is_told_in_its_dialect),
        cmocka_unit_test(calls_that_wait_for_a_chain_hold_no_thread),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
