/* test_diversion.c - mirrors sks/src/diversion.c. */
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

#include <cmocka.h>

#include <acme/base64url.h>
#include <sks/service.h>
#include <sks/x5u.h>

#include "signing_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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
    signing_begin(NULL);
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
    signing_begin(NULL);
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
    signing_begin(NULL);
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
    signing_begin(NULL);
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
    signing_begin(NULL);
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

/* Start with these keys for the headers of diverted calls, and the rate. */
static void
begin_diverting(const char *keys)
{
    char text[512];

    snprintf(text, sizeof(text),
             "[customer a]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n%s"
             "[caller p]\nuid = %ld\ncountry-code = 1\ncustomers = a\n",
             keys, (long)getuid());
    signing_begin(text);
}

/* RFC 8946 section 4.1: a div PASSporT is added to a request that already has one. */
static void
a_customer_diverts_what_has_headers_unless_it_is_said_otherwise(void **state)
{
    (void)state;
    begin_diverting("");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    signing_finish(NULL);
    begin_diverting("div-headers = yes\n");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    signing_finish(NULL);
    begin_diverting("div-headers = verified\n");
    post(DIV);
    assert_3gpp_error(403, "'identityHeaders'");
    signing_finish(NULL);
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
        signing_finish(NULL);
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
    signing_finish(NULL);
    free_verifier();
    make_verifier(NULL);
    free(first);
}

#define TEST(test) cmocka_unit_test_teardown(test, signing_finish)

int
main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests(tests, signing_group_start, signing_group_stop);
}
