/* test_verify.c - mirrors sks/src/verify.c: the cases of ATIS-1000082. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "data.h"
#include "verifier_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* -- the vectors ------------------------------------------------------------------------------- */

static struct sks_call
call_of(const json_t *request, const char *identity, const char **to)
{
    const json_t *tns = json_object_get(json_object_get(request, "to"), "tn");

    *to = json_string_value(json_array_get(tns, 0));
    assert_int_equal(json_array_size(tns), 1);
    return (struct sks_call){
        .from_tn = json_string_value(json_object_get(json_object_get(request, "from"), "tn")),
        .to_tn = to,
        .to_tn_count = 1,
        .time = json_integer_value(json_object_get(request, "time")),
        .identity = identity,
    };
}

/* 17 for "E17-revoked", 0 for "ok-", and -1 for "X-", which implies no case. */
static int
case_of(const char *id)
{
    if (strncmp(id, "ok-", 3) == 0)
        return 0;
    return id[0] == 'E' ? (int)strtol(id + 1, NULL, 10) : -1;
}

static void
assert_expected(const char *id, const struct sks_verification *got, const json_t *expect)
{
    const char *text = json_string_value(json_object_get(expect, "reasontext"));

    assert_int_equal(got->reason_code, json_integer_value(json_object_get(expect, "reasoncode")));
    assert_int_equal(strcasecmp(got->reason_text, text == NULL ? "" : text), 0);
    assert_string_equal(got->verstat, json_string_value(json_object_get(expect, "verstat")));
    if (case_of(id) >= 0)
        assert_int_equal(got->verdict, case_of(id));
    assert_int_equal(got->verdict == SKS_VALID, text == NULL);
    assert_int_equal(got->reason_desc.text[0] != '\0', text != NULL);
    assert_int_equal(got->attest != 0, text == NULL);
}

static void
every_identity_of_the_vectors_gets_its_verdict(void **state)
{
    json_t *vectors = data_json("self/identity_headers.json");
    json_t *vector;
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(vectors, "cases")), 44);
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        const char *id = json_string_value(json_object_get(vector, "id"));
        const char *identity = json_string_value(json_object_get(vector, "identity"));
        struct sks_verification got;
        const char *to;
        struct sks_call call = call_of(json_object_get(vector, "request"), identity, &to);

        vs.serves = json_string_value(json_object_get(vector, "x5u_serves"));
        assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_OK);
        print_message("%s: %s\n", id, got.reason_desc.text);
        assert_expected(id, &got, json_object_get(vector, "expect"));
    }
    json_decref(vectors);
}

static unsigned vouched;

static void
vouch(void *context, const char *x5u)
{
    (void)context;
    assert_int_equal(strncmp(x5u, "https://", 8), 0);
    vouched++;
}

/* A sender can name any URL in a PASSporT; only a good signature shows that the URL belongs to the
 * signer. */
static void
a_url_is_vouched_for_by_a_good_signature_alone(void **state)
{
    const struct sks_verifier_config config = {.trust = vs.trust, .chain = serve, .vouch = vouch};
    struct sks_verifier *verifier = NULL;
    json_t *vectors = data_json("self/identity_headers.json");
    json_t *vector;
    size_t i;

    (void)state;
    assert_int_equal(sks_verifier_new(&config, &verifier), HSM_OK);
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        struct sks_verification got;
        const char *to;
        struct sks_call call = call_of(json_object_get(vector, "request"),
                                       json_string_value(json_object_get(vector, "identity")), &to);

        vouched = 0;
        vs.serves = json_string_value(json_object_get(vector, "x5u_serves"));
        assert_int_equal(sks_verify(verifier, &call, NOW, &got), HSM_OK);
        assert_int_equal(vouched, got.verdict == SKS_VALID || got.verdict == SKS_E19_ATTEST);
    }
    sks_verifier_free(verifier);
    json_decref(vectors);
}

/* -- the documentation ------------------------------------------------------------------------- */

/* The next column of a row of Markdown, without surrounding blanks; advances the row. */
static char *
take_column(char **row)
{
    char *column = strsep(row, "|");

    assert_non_null(column);
    column += strspn(column, " ");
    for (size_t len = strlen(column); len > 0 && column[len - 1] == ' '; len--)
        column[len - 1] = '\0';
    return column;
}

static void
assert_row_holds(const json_t *cases, const char *id, int number, long code, const char *text,
                 const char *verstat)
{
    const json_t *vector = NULL;
    size_t i;
    struct sks_verification got;
    struct sks_call call;
    const char *to;

    for (i = 0; i < json_array_size(cases); i++) {
        vector = json_array_get(cases, i);
        if (strcmp(json_string_value(json_object_get(vector, "id")), id) == 0)
            break;
    }
    print_message("%s\n", id);
    assert_true(i < json_array_size(cases));
    vs.serves = json_string_value(json_object_get(vector, "x5u_serves"));
    call = call_of(json_object_get(vector, "request"),
                   json_string_value(json_object_get(vector, "identity")), &to);
    assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_OK);
    assert_int_equal(got.verdict, number);
    assert_int_equal(got.reason_code, code);
    assert_string_equal(got.reason_text, text);
    assert_string_equal(got.verstat, verstat);
}

/* docs/VERIFICATION.md has a row for every case, and names every vector. */
static void
the_table_of_the_documentation_holds(void **state)
{
    json_t *vectors = data_json("self/identity_headers.json");
    size_t len;
    char *doc = data_text("../../docs/VERIFICATION.md", &len);
    char *rest = doc;
    char *row;
    unsigned rows = 0;
    unsigned judged = 0;

    (void)state;
    while ((row = strsep(&rest, "\n")) != NULL) {
        const char *label;
        const char *code;
        const char *text;
        const char *verstat;
        char *ids;
        char *id;

        if (strncmp(row, "| E", 3) != 0 && strncmp(row, "| valid ", 8) != 0)
            continue;
        row++;
        label = take_column(&row);
        (void)take_column(&row);
        code = take_column(&row);
        text = take_column(&row);
        verstat = take_column(&row);
        ids = take_column(&row);
        for (; (id = strsep(&ids, " ")) != NULL; judged++)
            assert_row_holds(json_object_get(vectors, "cases"), id,
                             *label == 'E' ? (int)strtol(label + 1, NULL, 10) : SKS_VALID,
                             strtol(code, NULL, 10), text, verstat);
        rows++;
    }
    assert_int_equal(rows, SKS_E19_ATTEST - SKS_E3_TIME_STALE + 2);
    assert_int_equal(judged, json_array_size(json_object_get(vectors, "cases")));
    free(doc);
    json_decref(vectors);
}

/* -- PASSporTs made here ----------------------------------------------------------------------- */

static const char *const called[] = {"12155551213"};

static struct sks_call
call_new(void)
{
    return (struct sks_call){
        .from_tn = "12155551212",
        .to_tn = called,
        .to_tn_count = 1,
        .time = NOW,
    };
}

/* Judge a PASSporT signed by the service provider: header, payload and the parameters after them;
 * NULL for good ones. */
static struct sks_verification
judge_call(struct sks_call call, const char *header, const char *payload, const char *parameters)
{
    char *passport = passport_new(header == NULL ? HEADER : header,
                                  payload == NULL ? PAYLOAD : payload, vs.sp_key);
    struct sks_verification got;
    char identity[8192];

    snprintf(identity, sizeof(identity), "%s%s", passport,
             parameters == NULL ? ";info=<" X5U ">;alg=ES256;ppt=shaken" : parameters);
    call.identity = identity;
    assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_OK);
    free(passport);
    return got;
}

static struct sks_verification
judge(const char *header, const char *payload, const char *parameters)
{
    vs.serves = "sp-1234.chain.pem";
    return judge_call(call_new(), header, payload, parameters);
}

static const struct {
    const char *parameters;
    enum sks_case wanted;
} parameter_cases[] = {
    {";info=<" X5U ">", SKS_VALID}, /* sent by some callers */
    {";info=" X5U ";alg=ES256", SKS_VALID},
    {";info=<" X5U ">;ppt=SHAKEN", SKS_E5_PPT_PARAMETER},
    {";info=<" X5U ">;ppt=div", SKS_E5_PPT_PARAMETER},
    {"", SKS_E6_NO_INFO},
    {";info=<>", SKS_E7_INFO_INVALID},
    {";info=<ftp://cr.sp.example/certs/sp-1234.pem>", SKS_E7_INFO_INVALID},
    {";info=<HTTPS://cr.sp.example/certs/sp-1234.pem>", SKS_E10_X5U_NOT_INFO},
    {";info=<" X5U ">;alg=none", SKS_E12_ALG},
    {";info=<" X5U ">;info=<" X5U ">", SKS_E4_COMPACT_FORM}, /* cannot be parsed */
    {"x;info=<" X5U ">", SKS_E18_SIGNATURE},
};

static void
parameters_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(parameter_cases); i++) {
        print_message("%s\n", parameter_cases[i].parameters);
        assert_int_equal(judge(NULL, NULL, parameter_cases[i].parameters).verdict,
                         parameter_cases[i].wanted);
    }
}

static const struct {
    const char *header;
    enum sks_case wanted;
} header_cases[] = {
    {"{\"alg\":\"none\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}", SKS_E12_ALG},
    {"{\"alg\":\"HS256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}",
     SKS_E12_ALG},
    {"{\"alg\":\"es256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}",
     SKS_E12_ALG},
    {"{\"alg\":\"ES256\",\"crit\":[\"x\"],\"ppt\":\"shaken\",\"typ\":\"passport\","
     "\"x5u\":\"" X5U "\"}",
     SKS_E12_ALG},
    {"{\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"Passport\",\"x5u\":\"" X5U "\"}",
     SKS_E11_TYP},
    {"{\"alg\":\"ES256\",\"ppt\":1,\"typ\":\"passport\",\"x5u\":\"" X5U "\"}",
     SKS_E9_HEADER_MEMBER_MISSING},
    {"{\"alg\":\"ES256\",\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"passport\","
     "\"x5u\":\"" X5U "\"}",
     SKS_E4_COMPACT_FORM},
    {"[]", SKS_E4_COMPACT_FORM},
    {"{\"alg\":\"ES256\",\"kid\":\"1\",\"ppt\":\"shaken\",\"typ\":\"passport\","
     "\"x5u\":\"" X5U "\"}",
     SKS_VALID},
    /* valid, although not in the form of RFC 8225 section 9 */
    {"{\"typ\":\"passport\",\"alg\":\"ES256\",\"ppt\":\"shaken\",\"x5u\":\"" X5U "\"}", SKS_VALID},
    {"{\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"} ", SKS_VALID},
    {"{\"alg\":\"ES256\",\"ppt\":\"?\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}", SKS_E13_PPT},
};

static void
headers_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(header_cases); i++) {
        print_message("%s\n", header_cases[i].header);
        assert_int_equal(judge(header_cases[i].header, NULL, NULL).verdict, header_cases[i].wanted);
    }
}

#define DEST   "\"dest\":{\"tn\":[\"12155551213\"]},"
#define ORIG   "\"orig\":{\"tn\":\"12155551212\"},"
#define ORIGID "\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\""

static const struct {
    const char *payload;
    enum sks_case wanted;
} payload_cases[] = {
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478340," ORIG ORIGID "}", SKS_VALID},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478460," ORIG ORIGID "}", SKS_VALID},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478339," ORIG ORIGID "}", SKS_E15_IAT_STALE},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478461," ORIG ORIGID "}", SKS_E15_IAT_STALE},
    {"{\"attest\":\"A\"," DEST "\"iat\":9223372036854775807," ORIG ORIGID "}", SKS_E15_IAT_STALE},
    {"{\"attest\":\"A\"," DEST "\"iat\":9223372036854775808," ORIG ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":-1," ORIG ORIGID "}", SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":1.7684784e9," ORIG ORIGID "}", SKS_E14_CLAIM_MISSING},
    /* identities in the form of RFC 8225 section 5.2.1 */
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400,\"orig\":\"12155551212\"," ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400,\"orig\":{}," ORIGID "}", SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400,\"orig\":{\"tn\":[\"12155551212\"]}," ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400,\"orig\":{\"tn\":\"12155551212\","
     "\"uri\":\"sip:a@b\"}," ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\",\"dest\":{\"tn\":[]},\"iat\":1768478400," ORIG ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\",\"dest\":{},\"iat\":1768478400," ORIG ORIGID "}", SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\",\"dest\":{\"tn\":[12155551213]},\"iat\":1768478400," ORIG ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\",\"dest\":[\"12155551213\"],\"iat\":1768478400," ORIG ORIGID "}",
     SKS_E14_CLAIM_MISSING},
    {"{\"attest\":1," DEST "\"iat\":1768478400," ORIG ORIGID "}", SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400," ORIG "\"origid\":7}", SKS_E14_CLAIM_MISSING},
    {"[\"attest\"]", SKS_E14_CLAIM_MISSING},
    {"{\"attest\":\"A\"", SKS_E14_CLAIM_MISSING},
    /* unknown claims are ignored (RFC 9795 section 13.2) */
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400," ORIG ORIGID ",\"rcd\":{\"nam\":\"x\"}}",
     SKS_VALID},
    /* not canonical: matches no number */
    {"{\"attest\":\"A\"," DEST "\"iat\":1768478400,\"orig\":{\"tn\":\"+12155551212\"}," ORIGID "}",
     SKS_E16_NUMBERS_DIFFER},
    {"{\"attest\":\"A\",\"dest\":{\"tn\":[\"+12155551213\"]},\"iat\":1768478400," ORIG ORIGID "}",
     SKS_E16_NUMBERS_DIFFER},
    {"{\"attest\":\"AB\"," DEST "\"iat\":1768478400," ORIG ORIGID "}", SKS_E19_ATTEST},
    {"{\"attest\":\"\"," DEST "\"iat\":1768478400," ORIG ORIGID "}", SKS_E19_ATTEST},
};

static void
payloads_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(payload_cases); i++) {
        print_message("%s\n", payload_cases[i].payload);
        assert_int_equal(judge(NULL, payload_cases[i].payload, NULL).verdict,
                         payload_cases[i].wanted);
    }
}

static const char *const two[] = {"12155551213", "12155551214"};
static const char *const formatted[] = {"+1 (215) 555-1213"};
static const char *const number_uri[] = {"sip:+12155551213@sp.example;user=phone"};
static const char *const alice[] = {"SIP:Alice@Example.com:5060"};

#define URI_PAYLOAD                                                                                \
    "{\"attest\":\"A\",\"dest\":{\"uri\":[\"sip:alice@example.com\"]},\"iat\":1768478400,"         \
    "\"orig\":{\"uri\":\"sip:bob@example.com\"}," ORIGID "}"
#define TWO_PAYLOAD                                                                                \
    "{\"attest\":\"A\",\"dest\":{\"tn\":[\"12155551214\",\"12155551213\"]},"                       \
    "\"iat\":1768478400," ORIG ORIGID "}"

static const struct {
    struct sks_call call; /* time and identity are filled in */
    const char *payload;
    enum sks_case wanted;
} party_cases[] = {
    {{.from_tn = "+1-215-555-1212", .to_tn = formatted, .to_tn_count = 1}, PAYLOAD, SKS_VALID},
    {{.from_uri = "tel:+12155551212", .to_uri = number_uri, .to_uri_count = 1}, PAYLOAD, SKS_VALID},
    {{.from_uri = "sip:bob@example.com;x=1", .to_uri = alice, .to_uri_count = 1},
     URI_PAYLOAD,
     SKS_VALID},
    {{.from_uri = "sip:bob@example.org", .to_uri = alice, .to_uri_count = 1},
     URI_PAYLOAD,
     SKS_E16_NUMBERS_DIFFER},
    {{.from_tn = "12155551212", .to_uri = alice, .to_uri_count = 1},
     URI_PAYLOAD,
     SKS_E16_NUMBERS_DIFFER},
    /* the number decides; a URI beside it does not help */
    {{.from_tn = "12155551299",
      .from_uri = "sip:bob@example.com",
      .to_uri = alice,
      .to_uri_count = 1},
     URI_PAYLOAD,
     SKS_E16_NUMBERS_DIFFER},
    {{.from_tn = "anonymous", .to_tn = called, .to_tn_count = 1}, PAYLOAD, SKS_E16_NUMBERS_DIFFER},
    {{.from_tn = "12155551213", .to_tn = called, .to_tn_count = 1},
     PAYLOAD,
     SKS_E16_NUMBERS_DIFFER},
    {{.from_tn = "12155551212", .to_tn = two, .to_tn_count = 2}, TWO_PAYLOAD, SKS_VALID},
    {{.from_tn = "12155551212", .to_tn = two, .to_tn_count = 2}, PAYLOAD, SKS_E16_NUMBERS_DIFFER},
    {{.from_tn = "12155551212",
      .to_tn = called,
      .to_tn_count = 1,
      .to_uri = alice,
      .to_uri_count = 1},
     PAYLOAD,
     SKS_E16_NUMBERS_DIFFER},
};

static void
the_parties_are_compared_in_canonical_form(void **state)
{
    (void)state;
    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < COUNT(party_cases); i++) {
        struct sks_call call = party_cases[i].call;

        call.time = NOW;
        print_message("%zu\n", i);
        assert_int_equal(judge_call(call, NULL, party_cases[i].payload, NULL).verdict,
                         party_cases[i].wanted);
    }
}

static void
the_time_of_the_request_has_a_window(void **state)
{
    static const struct {
        int64_t time;
        enum sks_case wanted;
    } times[] = {
        {NOW - 60, SKS_VALID},          {NOW - 61, SKS_E3_TIME_STALE},
        {NOW + 60, SKS_VALID},          {NOW + 61, SKS_E3_TIME_STALE},
        {INT64_MAX, SKS_E3_TIME_STALE}, {INT64_MIN, SKS_E3_TIME_STALE},
    };

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < COUNT(times); i++) {
        struct sks_call call = call_new();

        call.time = times[i].time;
        assert_int_equal(judge_call(call, NULL, NULL, NULL).verdict, times[i].wanted);
    }
}

static void
the_window_can_be_configured(void **state)
{
    const struct sks_verifier_config config = {
        .trust = vs.trust, .chain = serve, .freshness_s = 10};
    struct sks_verifier *strict = NULL;
    struct sks_verifier *usual = vs.verifier;
    struct sks_call call = call_new();

    (void)state;
    call.time = NOW - 11;
    assert_int_equal(sks_verifier_new(&config, &strict), HSM_OK);
    vs.serves = "sp-1234.chain.pem";
    assert_int_equal(judge_call(call, NULL, NULL, NULL).verdict, SKS_VALID);
    vs.verifier = strict;
    assert_int_equal(judge_call(call, NULL, NULL, NULL).verdict, SKS_E3_TIME_STALE);
    vs.verifier = usual;
    sks_verifier_free(strict);
}

/* A message that can be refused without the certificate causes no fetch. */
static void
nothing_is_fetched_for_what_is_refused_before(void **state)
{
    static const char *const parameters[] = {"", ";ppt=foo;info=<" X5U ">", (";info=<" X5U)};
    struct sks_call stale = call_new();

    (void)state;
    vs.fetches = 0;
    for (size_t i = 0; i < COUNT(parameters); i++)
        assert_int_not_equal(judge(NULL, NULL, parameters[i]).verdict, SKS_VALID);
    stale.time = NOW + 3600;
    (void)judge_call(stale, NULL, NULL, NULL);
    (void)judge("{}{}", NULL, NULL);
    assert_int_equal(vs.fetches, 0);
    assert_int_equal(judge(NULL, NULL, NULL).verdict, SKS_VALID);
    assert_int_equal(vs.fetches, 1);
}

/* The verdict is the first case that applies, in the order of the list. */
static void
cases_are_judged_in_their_order(void **state)
{
    (void)state;
    vs.serves = NULL;
    assert_int_equal(judge_call(call_new(), "{\"alg\":\"none\"}", "{}", NULL).verdict,
                     SKS_E8_INFO_UNREACHABLE);
    /* another's certificate: "not trusted" is found before "not its key" */
    vs.serves = "rogue.chain.pem";
    assert_int_equal(judge_call(call_new(), NULL, NULL, NULL).verdict, SKS_E17_UNTRUSTED);
    assert_int_equal(judge_call(call_new(), NULL, "{}", NULL).verdict, SKS_E14_CLAIM_MISSING);
    vs.serves = "sp-1234-expired.cert.pem";
    assert_int_equal(judge_call(call_new(), NULL,
                                "{\"attest\":\"Z\"," DEST "\"iat\":1768478400," ORIG ORIGID "}",
                                NULL)
                         .verdict,
                     SKS_E17_UNTRUSTED);
}

/* RFC 8224 section 4.1: the signature is good, but info is not x5u; and the compact form. */
static void
the_examples_of_rfc_8224_are_refused(void **state)
{
    json_t *vectors = data_json("rfc/rfc8224_identity.json");
    const json_t *cases = json_object_get(vectors, "cases");
    static const enum sks_case wanted[] = {SKS_E10_X5U_NOT_INFO, SKS_E4_COMPACT_FORM};

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < COUNT(wanted); i++) {
        const json_t *vector = json_array_get(cases, i);
        struct sks_call call = call_new();
        struct sks_verification got;

        call.identity = json_string_value(json_object_get(vector, "identity"));
        assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_OK);
        /* without ppt, E9 precedes E10 and has the same answer */
        assert_int_equal(got.verdict, i == 0 ? SKS_E9_HEADER_MEMBER_MISSING : wanted[i]);
        assert_int_equal(got.reason_code, i == 0 ? 436 : 438);
    }
    json_decref(vectors);
}

/* div, rph, rcd and base PASSporTs belong to other services (RFC 8225 section 8.1). */
static void
other_passports_give_no_positive_result(void **state)
{
    json_t *vectors = data_json("self/passport_other.json");
    json_t *vector;
    size_t i;

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        const char *id = json_string_value(json_object_get(vector, "id"));
        char identity[4096];
        struct sks_call call = call_new();
        struct sks_verification got;

        snprintf(identity, sizeof(identity), "%s;info=<" X5U ">",
                 json_string_value(json_object_get(vector, "jws")));
        call.identity = identity;
        print_message("%s\n", id);
        assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_OK);
        if (strcmp(id, "shaken") == 0)
            assert_int_equal(got.verdict, SKS_VALID);
        else if (strcmp(id, "base-no-ppt") == 0)
            assert_int_equal(got.verdict, SKS_E9_HEADER_MEMBER_MISSING);
        else
            assert_int_equal(got.verdict, SKS_E13_PPT);
    }
    assert_true(i >= 6);
    json_decref(vectors);
}

static void
without_a_crl_that_is_good_nobody_is_trusted(void **state)
{
    struct sks_call call = call_new();
    struct sks_verification got;
    char *passport;
    char identity[4096];
    const time_t later = NOW + 86400; /* after the CRL's nextUpdate */

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    passport = passport_new(HEADER, "{\"attest\":\"A\"," DEST "\"iat\":1768564800," ORIG ORIGID "}",
                            vs.sp_key);
    snprintf(identity, sizeof(identity), "%s;info=<" X5U ">", passport);
    call.identity = identity;
    call.time = later;
    assert_int_equal(sks_verify(vs.verifier, &call, later, &got), HSM_OK);
    assert_int_equal(got.verdict, SKS_E17_UNTRUSTED);
    assert_non_null(strstr(got.reason_desc.text, "CRL"));
    free(passport);
}

/* The signature is verified with the key of the certificate that was judged, at whatever
 * position. */
static void
a_repository_may_serve_certificates_in_another_order(void **state)
{
    struct sks_verification got;

    (void)state;
    vs.serves = "sti-ca-root.cert.pem";
    vs.and_then = "sp-1234.chain.pem";
    got = judge_call(call_new(), NULL, NULL, NULL);
    assert_int_equal(got.verdict, SKS_VALID);
    vs.serves = "sti-ca-int.cert.pem";
    vs.and_then = "sp-1234-revoked.cert.pem";
    got = judge_call(call_new(), NULL, NULL, NULL);
    assert_int_equal(got.verdict, SKS_E17_UNTRUSTED);
    vs.serves = "rogue-leaf.cert.pem"; /* the first end-entity certificate counts */
    vs.and_then = "sp-1234.chain.pem";
    got = judge_call(call_new(), NULL, NULL, NULL);
    assert_int_equal(got.verdict, SKS_E17_UNTRUSTED);
    vs.and_then = NULL;
}

static void
a_call_without_parties_or_identity_is_a_misuse(void **state)
{
    struct sks_call call = call_new();
    struct sks_verification got = {.verdict = SKS_E19_ATTEST};

    (void)state;
    assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    call.identity = "a.b.c;info=<" X5U ">";
    call.to_tn_count = 0;
    assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    call = call_new();
    call.identity = "a.b.c;info=<" X5U ">";
    call.from_tn = NULL;
    assert_int_equal(sks_verify(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    assert_int_equal(got.verdict, SKS_E19_ATTEST);
    assert_int_equal(sks_verifier_new(&(struct sks_verifier_config){.chain = serve}, &vs.verifier),
                     HSM_ERR_USAGE);
    assert_int_equal(
        sks_verifier_new(&(struct sks_verifier_config){.trust = vs.trust}, &vs.verifier),
        HSM_ERR_USAGE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_identity_of_the_vectors_gets_its_verdict),
        cmocka_unit_test(a_url_is_vouched_for_by_a_good_signature_alone),
        cmocka_unit_test(the_table_of_the_documentation_holds),
        cmocka_unit_test(parameters_are_judged),
        cmocka_unit_test(headers_are_judged),
        cmocka_unit_test(payloads_are_judged),
        cmocka_unit_test(the_parties_are_compared_in_canonical_form),
        cmocka_unit_test(the_time_of_the_request_has_a_window),
        cmocka_unit_test(the_window_can_be_configured),
        cmocka_unit_test(nothing_is_fetched_for_what_is_refused_before),
        cmocka_unit_test(cases_are_judged_in_their_order),
        cmocka_unit_test(the_examples_of_rfc_8224_are_refused),
        cmocka_unit_test(other_passports_give_no_positive_result),
        cmocka_unit_test(without_a_crl_that_is_good_nobody_is_trusted),
        cmocka_unit_test(a_repository_may_serve_certificates_in_another_order),
        cmocka_unit_test(a_call_without_parties_or_identity_is_a_misuse),
    };

    return cmocka_run_group_tests(tests, verifier_start, verifier_stop);
}
