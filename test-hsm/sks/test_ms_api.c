/* test_ms_api.c - mirrors sks/src/ms_api*.c: signing and verifying, and the errors of the API. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sks/passport.h>
#include <sks/verify.h>

#include "data.h"
#include "one_token.h"
#include "service_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

#define WITH_CREDENTIAL(name) cmocka_unit_test_setup_teardown(name, service_start, service_stop)

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
    };

    return cmocka_run_group_tests(tests, service_group_start, service_group_stop);
}
