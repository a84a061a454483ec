/* test_verify_all.c - mirrors sks/src/verify_all.c and verify_claims.c: all types of PASSporT,
 * several of them in one call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data.h"
#include "peer.h"
#include "verifier_fixture.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define ORIG   "\"orig\":{\"tn\":\"12155551212\"}"
#define DEST   "\"dest\":{\"tn\":[\"12155551213\"]}"
#define IAT    "\"iat\":1768478400"
#define COMMON DEST "," IAT "," ORIG
#define OLD    "\"iat\":1768471200" /* two hours ago */
#define ORIGID "\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\""

/* A div from one number to another. */
#define DIV(from, to, iat)                                                                         \
    "{\"dest\":{\"tn\":[\"" to "\"]},\"div\":{\"tn\":\"" from "\"}," iat "," ORIG "}"
#define DIV_213_214     DIV("12155551213", "12155551214", IAT)
#define DIV_214_215     DIV("12155551214", "12155551215", IAT)
#define SHAKEN_OLD      "{\"attest\":\"A\"," DEST "," OLD "," ORIG "," ORIGID "}"
#define SHAKEN_ANCIENT  "{\"attest\":\"A\"," DEST ",\"iat\":1768467599," ORIG "," ORIGID "}"
#define SHAKEN_WITH(it) "{\"attest\":\"A\"," COMMON "," ORIGID "," it "}"

/* One PASSporT of a call: its type, its payload and the expected verdict. */
struct one {
    const char *ppt; /* "": no ppt */
    const char *payload;
    enum sks_case wanted;
    bool is_forged; /* signed with another key */
};

static EVP_PKEY *rogue_key;

/* The header field value; free() it. */
static char *
identity_new(const struct one *one)
{
    char header[512];
    char *passport;
    char *identity;
    size_t size;

    if (one->ppt[0] == '\0')
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"typ\":\"passport\",\"x5u\":\"%s\"}",
                 X5U);
    else
        snprintf(header, sizeof(header),
                 "{\"alg\":\"ES256\",\"ppt\":\"%s\",\"typ\":\"passport\",\"x5u\":\"%s\"}", one->ppt,
                 X5U);
    passport = passport_new(header, one->payload, one->is_forged ? rogue_key : vs.sp_key);
    size = strlen(passport) + 256;
    identity = malloc(size);
    snprintf(identity, size, "%s;info=<%s>%s%s%s", passport, X5U, one->ppt[0] ? ";ppt=\"" : "",
             one->ppt, one->ppt[0] ? "\"" : "");
    free(passport);
    return identity;
}

static const char *const number_213[] = {"12155551213"};
static const char *const number_214[] = {"12155551214"};
static const char *const number_215[] = {"12155551215"};

static struct sks_call
call_new(void)
{
    return (struct sks_call){
        .from_tn = "12155551212", .to_tn = number_213, .to_tn_count = 1, .time = NOW};
}

/* Judge the PASSporTs of a call; free with sks_judgements_free(). */
static struct sks_judgements *
judge_call(struct sks_call call, const struct one *ones, size_t count)
{
    struct sks_judgements *got = NULL;
    char *identities[SKS_IDENTITIES_MAX];

    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < count; i++)
        identities[i] = identity_new(&ones[i]);
    call.identities = (const char *const *)identities;
    call.identity_count = count;
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_OK);
    for (size_t i = 0; i < count; i++)
        free(identities[i]);
    return got;
}

static void
assert_wanted(const struct sks_judgements *got, const struct one *ones, size_t count)
{
    assert_true(got->count >= count);
    for (size_t i = 0; i < count; i++) {
        const struct sks_judged *judged = &got->judged[i];

        print_message("%s: E%d %s\n", ones[i].ppt, (int)judged->verification.verdict,
                      judged->verification.reason_desc.text);
        assert_int_equal(judged->verification.verdict, ones[i].wanted);
        assert_int_equal(judged->index, i);
        assert_string_equal(sks_ppt_text(judged->ppt), ones[i].ppt);
    }
}

static void
assert_judged(struct sks_call call, const struct one *ones, size_t count)
{
    struct sks_judgements *got = judge_call(call, ones, count);

    assert_wanted(got, ones, count);
    sks_judgements_free(got);
}

/* -- the claims of each type ------------------------------------------------------------------- */

static const struct one claims[] = {
    {"shaken", PAYLOAD, SKS_VALID, false},
    {"shaken", PAYLOAD, SKS_E18_SIGNATURE, true},
    {"", "{" COMMON "}", SKS_VALID, false},
    {"", "{" DEST "," IAT "}", SKS_E14_CLAIM_MISSING, false},
    {"foo", "{" COMMON "}", SKS_E5_PPT_PARAMETER, false},
    /* rph (RFC 8443, RFC 9027) */
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"ets.0\",\"wps.0\"]}}", SKS_VALID, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"esnet.0\"]},\"sph\":\"psap-callback\"}", SKS_VALID,
     false},
    {"rph", "{" COMMON "}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[]}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":\"ets.0\"}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"ets\"]}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"ets.0.1\"]}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\".0\"]}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[1]}}", SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"ets.0\"]},\"sph\":\"psap-callback\"}",
     SKS_E14_CLAIM_MISSING, false},
    {"rph", "{" COMMON ",\"rph\":{\"auth\":[\"esnet.0\"]},\"sph\":\"other\"}",
     SKS_E14_CLAIM_MISSING, false},
    /* rcd (RFC 9795) */
    {"rcd", "{" COMMON ",\"rcd\":{\"nam\":\"James Bond\"}}", SKS_VALID, false},
    {"rcd", "{\"crn\":\"for your ears only\"," COMMON "}", SKS_VALID, false},
    {"rcd", "{" COMMON "}", SKS_E14_CLAIM_MISSING, false},
    {"rcd", "{" COMMON ",\"rcd\":{}}", SKS_E14_CLAIM_MISSING, false},
    {"rcd", "{\"crn\":7," COMMON "}", SKS_E14_CLAIM_MISSING, false},
    {"rcd", "{" COMMON ",\"rcdi\":{\"/nam\":\"sha256-x\"}}", SKS_E14_CLAIM_MISSING, false},
    /* mky (RFC 8225 section 5.2.2) */
    {"", "{" DEST "," IAT ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"021ACC54\"}]," ORIG "}",
     SKS_VALID, false},
    {"", "{" DEST "," IAT ",\"mky\":[]," ORIG "}", SKS_E14_CLAIM_MISSING, false},
    {"", "{" DEST "," IAT ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"021acc54\"}]," ORIG "}",
     SKS_E14_CLAIM_MISSING, false},
    {"", "{" DEST "," IAT ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"02:1A:CC\"}]," ORIG "}",
     SKS_E14_CLAIM_MISSING, false},
    {"", "{" DEST "," IAT ",\"mky\":[{\"dig\":\"021ACC54\"}]," ORIG "}", SKS_E14_CLAIM_MISSING,
     false},
    {"",
     "{" DEST "," IAT ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"BB\"},"
     "{\"alg\":\"sha-256\",\"dig\":\"AA\"}]," ORIG "}",
     SKS_E14_CLAIM_MISSING, false},
    /* div (RFC 8946) without the PASSporT that it diverts */
    {"div", DIV("12155551212", "12155551213", IAT), SKS_E16_NUMBERS_DIFFER, false},
    {"div", "{" COMMON "}", SKS_E14_CLAIM_MISSING, false},
    {"div", DIV("+12155551214", "12155551213", IAT), SKS_E14_CLAIM_MISSING, false},
    {"div", "{" DEST ",\"div\":{\"tn\":\"1\"}," IAT ",\"opt\":\"a.b.c\"," ORIG "}",
     SKS_E14_CLAIM_MISSING, false},
    {"div-o", "{" DEST ",\"div\":{\"tn\":\"1\"}," IAT "," ORIG "}", SKS_E14_CLAIM_MISSING, false},
};

static void
each_type_must_claim_what_its_standard_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(claims); i++) {
        struct sks_judgements *got = judge_call(call_new(), &claims[i], 1);

        print_message("%s %s: %s\n", claims[i].ppt, claims[i].payload,
                      got->judged[0].verification.reason_desc.text);
        assert_int_equal(got->judged[0].verification.verdict, claims[i].wanted);
        sks_judgements_free(got);
    }
}

static void
the_passports_of_the_vectors_are_valid(void **state)
{
    static const char *const alice[] = {"sip:alice@example.com"};
    json_t *vectors = data_json("self/passport_other.json");
    json_t *vector;
    size_t i;

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        const char *id = json_string_value(json_object_get(vector, "id"));
        struct sks_call call = call_new();
        struct sks_judgements *got = NULL;
        char identity[4096];
        const char *const identities[] = {identity};

        snprintf(identity, sizeof(identity), "%s;info=<" X5U ">",
                 json_string_value(json_object_get(vector, "jws")));
        call.identities = identities;
        call.identity_count = 1;
        if (strcmp(id, "base-no-ppt") == 0) {
            call.to_tn_count = 0;
            call.to_uri = alice;
            call.to_uri_count = 1;
        } else if (strcmp(id, "div") == 0) {
            call.to_tn = number_214;
        }
        assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_OK);
        print_message("%s: %s\n", id, got->judged[0].verification.reason_desc.text);
        assert_int_equal(got->judged[0].verification.verdict,
                         strcmp(id, "div") == 0 ? SKS_E16_NUMBERS_DIFFER : SKS_VALID);
        sks_judgements_free(got);
    }
    assert_true(i >= 6);
    json_decref(vectors);
}

/* -- diversion (RFC 8946 section 4.2) ---------------------------------------------------------- */

static struct sks_call
call_to(const char *const *target)
{
    struct sks_call call = call_new();

    call.target_tn = target;
    call.target_tn_count = 1;
    return call;
}

static const struct {
    const char *const *target;
    struct one ones[4]; /* terminated by a NULL ppt */
} chains[] = {
    {number_214, {{"shaken", PAYLOAD, SKS_VALID, false}, {"div", DIV_213_214, SKS_VALID, false}}},
    /* in any order */
    {number_214, {{"div", DIV_213_214, SKS_VALID, false}, {"shaken", PAYLOAD, SKS_VALID, false}}},
    {number_215,
     {{"div", DIV_214_215, SKS_VALID, false},
      {"shaken", PAYLOAD, SKS_VALID, false},
      {"div", DIV_213_214, SKS_VALID, false}}},
    /* the chain does not end at the called number: the first PASSporT is still valid alone */
    {number_215,
     {{"shaken", PAYLOAD, SKS_VALID, false}, {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false}}},
    /* a link is missing */
    {number_215,
     {{"shaken", PAYLOAD, SKS_VALID, false}, {"div", DIV_214_215, SKS_E16_NUMBERS_DIFFER, false}}},
    /* a link is forged: what it would lead to does not count */
    {number_215,
     {{"shaken", PAYLOAD, SKS_VALID, false},
      {"div", DIV_213_214, SKS_E18_SIGNATURE, true},
      {"div", DIV_214_215, SKS_E16_NUMBERS_DIFFER, false}}},
    {number_215,
     {{"shaken", PAYLOAD, SKS_VALID, false},
      {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false},
      {"div", DIV_214_215, SKS_E18_SIGNATURE, true}}},
    {number_214,
     {{"shaken", PAYLOAD, SKS_E18_SIGNATURE, true},
      {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false}}},
    /* a call may be transferred hours later, but not days; its div is fresh */
    {number_214,
     {{"shaken", SHAKEN_OLD, SKS_VALID, false}, {"div", DIV_213_214, SKS_VALID, false}}},
    {number_214,
     {{"shaken", SHAKEN_ANCIENT, SKS_E15_IAT_STALE, false},
      {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false}}},
    {number_214,
     {{"shaken", PAYLOAD, SKS_VALID, false},
      {"div", DIV("12155551213", "12155551214", OLD), SKS_E15_IAT_STALE, false}}},
    {number_213, {{"shaken", SHAKEN_OLD, SKS_E15_IAT_STALE, false}}},
    /* an old PASSporT needs a valid div */
    {number_214,
     {{"shaken", SHAKEN_OLD, SKS_E15_IAT_STALE, false},
      {"div", DIV_213_214, SKS_E18_SIGNATURE, true}}},
    {number_215,
     {{"shaken", SHAKEN_OLD, SKS_E15_IAT_STALE, false},
      {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false}}},
    /* a ring has no first PASSporT */
    {number_214,
     {{"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false},
      {"div", DIV("12155551214", "12155551213", IAT), SKS_E16_NUMBERS_DIFFER, false}}},
    /* another orig */
    {number_214,
     {{"shaken", PAYLOAD, SKS_VALID, false},
      {"div",
       "{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":\"12155551213\"}," IAT
       ",\"orig\":{\"tn\":\"12155551299\"}}",
       SKS_E16_NUMBERS_DIFFER, false}}},
    /* a base PASSporT can be diverted as well */
    {number_214, {{"", "{" COMMON "}", SKS_VALID, false}, {"div", DIV_213_214, SKS_VALID, false}}},
};

static void
a_chain_of_div_leads_from_the_first_call_to_where_it_goes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(chains); i++) {
        size_t count = 0;

        while (count < COUNT(chains[i].ones) && chains[i].ones[count].ppt != NULL)
            count++;
        print_message("chain %zu\n", i);
        assert_judged(call_to(chains[i].target), chains[i].ones, count);
    }
}

/* If the call was diverted before it arrived, its To need not be the first number. */
static void
a_call_whose_to_is_the_new_target_passes_by_its_chain(void **state)
{
    const struct one with[] = {{"shaken", PAYLOAD, SKS_VALID, false},
                               {"div", DIV_213_214, SKS_VALID, false}};
    const struct one without[] = {{"shaken", PAYLOAD, SKS_E16_NUMBERS_DIFFER, false}};
    struct sks_call call = call_new();

    (void)state;
    call.to_tn = number_214;
    assert_judged(call, with, 2);
    assert_judged(call, without, 1);
}

static void
assert_div_o(const char *inner_payload, bool is_forged, enum sks_case outer, enum sks_case inner)
{
    char *opt = passport_new(HEADER, inner_payload, is_forged ? rogue_key : vs.sp_key);
    char payload[4096];
    struct one one = {"div-o", payload, outer, false};
    struct sks_judgements *got;

    snprintf(payload, sizeof(payload),
             "{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":\"12155551213\"}," IAT
             ",\"opt\":\"%s\"," ORIG "}",
             opt);
    got = judge_call(call_to(number_214), &one, 1);
    assert_wanted(got, &one, 1);
    assert_int_equal(got->count, 2);
    assert_true(got->judged[1].is_inside);
    assert_int_equal(got->judged[1].index, 0);
    assert_int_equal(got->judged[1].verification.verdict, inner);
    sks_judgements_free(got);
    free(opt);
}

static void
a_div_o_carries_the_passport_that_it_diverts(void **state)
{
    (void)state;
    assert_div_o(PAYLOAD, false, SKS_VALID, SKS_VALID);
    assert_div_o(PAYLOAD, true, SKS_E16_NUMBERS_DIFFER, SKS_E18_SIGNATURE);
    assert_div_o("{}", false, SKS_E16_NUMBERS_DIFFER, SKS_E14_CLAIM_MISSING);
}

/* RFC 8946 section 5.1: the nested PASSporT itself must be good; others in the call do not
 * count. */
static void
a_div_o_does_not_stand_on_what_is_not_inside_of_it(void **state)
{
    static const struct {
        bool is_forged;
        enum sks_case wanted;
    } cases[] = {{false, SKS_VALID}, {true, SKS_E16_NUMBERS_DIFFER}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *opt = passport_new(HEADER, PAYLOAD, cases[i].is_forged ? rogue_key : vs.sp_key);
        char payload[4096];
        const struct one ones[] = {{"shaken", PAYLOAD, SKS_VALID, false},
                                   {"div-o", payload, cases[i].wanted, false}};
        struct sks_judgements *got;

        snprintf(payload, sizeof(payload),
                 "{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":\"12155551213\"}," IAT
                 ",\"opt\":\"%s\"," ORIG "}",
                 opt);
        got = judge_call(call_to(number_214), ones, 2);
        assert_wanted(got, ones, 2);
        assert_int_equal(got->count, 3);
        sks_judgements_free(got);
        free(opt);
    }
}

/* The PASSporTs received, and the verdict on a diversion by the number `from`. */
static const struct {
    const char *from;
    enum sks_case wanted;
    struct one ones[3]; /* terminated by a NULL ppt */
} diversions[] = {
    {"12155551213", SKS_VALID, {{"shaken", PAYLOAD, 0, false}}},
    {"12155551213", SKS_VALID, {{"shaken", SHAKEN_OLD, 0, false}}}, /* a transferred call */
    {"12155551213", SKS_VALID, {{"", "{" COMMON "}", 0, false}}},
    {"12155551213", SKS_VALID, {{"shaken", PAYLOAD, 0, true}, {"shaken", PAYLOAD, 0, false}}},
    {"12155551213", SKS_E15_IAT_STALE, {{"shaken", SHAKEN_ANCIENT, 0, false}}},
    {"12155551213", SKS_E18_SIGNATURE, {{"shaken", PAYLOAD, 0, true}}},
    {"12155551213", SKS_E14_CLAIM_MISSING, {{"rph", "{" COMMON "}", 0, false}}},
    {"12155551214", SKS_VALID, {{"shaken", PAYLOAD, 0, false}, {"div", DIV_213_214, 0, false}}},
    {"12155551214", SKS_VALID, {{"div", DIV_213_214, 0, false}, {"shaken", SHAKEN_OLD, 0, false}}},
    {"12155551214",
     SKS_E18_SIGNATURE,
     {{"shaken", PAYLOAD, 0, false}, {"div", DIV_213_214, 0, true}}},
    {"12155551214",
     SKS_E16_NUMBERS_DIFFER,
     {{"shaken", PAYLOAD, 0, true}, {"div", DIV_213_214, 0, false}}},
    {"12155551214", SKS_E16_NUMBERS_DIFFER, {{"div", DIV_213_214, 0, false}}},
    /* the call was not to this number */
    {"12155551214", SKS_E16_NUMBERS_DIFFER, {{"shaken", PAYLOAD, 0, false}}},
    {"12155551213",
     SKS_E16_NUMBERS_DIFFER,
     {{"shaken", "{\"attest\":\"A\"," DEST "," IAT ",\"orig\":{\"tn\":\"12155551299\"}," ORIGID "}",
       0, false}}},
};

static void
what_is_diverted_next_stands_on_what_has_come(void **state)
{
    (void)state;
    vs.serves = "sp-1234.chain.pem";
    for (size_t i = 0; i < COUNT(diversions); i++) {
        const struct sks_claims div = {.ppt = SKS_PPT_DIV,
                                       .orig_tn = "12155551212",
                                       .div_tn = diversions[i].from,
                                       .dest_tn = number_215,
                                       .dest_tn_count = 1,
                                       .iat = NOW};
        struct sks_call call = call_new();
        struct sks_verification got;
        char *identities[3];

        for (; diversions[i].ones[call.identity_count].ppt != NULL; call.identity_count++)
            identities[call.identity_count] =
                identity_new(&diversions[i].ones[call.identity_count]);
        call.to_tn = &diversions[i].from;
        call.identities = (const char *const *)identities;
        assert_int_equal(sks_verify_diversion(vs.verifier, &call, &div, NOW, &got), HSM_OK);
        print_message("diversion %zu: E%d %s\n", i, (int)got.verdict, got.reason_desc.text);
        assert_int_equal(got.verdict, diversions[i].wanted);
        for (size_t j = 0; j < call.identity_count; j++)
            free(identities[j]);
    }
}

/* Values that are not an identity, in place of %s. */
static const char *const no_identities[] = {"1",  "1.5",     "null", "true",
                                            "[]", "[\"1\"]", "{}",   "\"\""};
#define SHAKEN_HEAD "{\"attest\":\"A\"," ORIGID ","
static const struct {
    const char *format; /* of the payload */
    const char *ppt;
} misplaced[] = {
    {SHAKEN_HEAD DEST "," IAT ",\"orig\":{\"tn\":%s}}", "shaken"},
    {SHAKEN_HEAD DEST "," IAT ",\"orig\":{\"uri\":%s}}", "shaken"},
    {SHAKEN_HEAD DEST "," IAT ",\"orig\":%s}", "shaken"},
    {SHAKEN_HEAD "\"dest\":{\"tn\":[%s]}," IAT "," ORIG "}", "shaken"},
    {SHAKEN_HEAD "\"dest\":{\"tn\":[\"12155551213\",%s]}," IAT "," ORIG "}", "shaken"},
    {SHAKEN_HEAD "\"dest\":{\"uri\":[%s]}," IAT "," ORIG "}", "shaken"},
    {SHAKEN_HEAD "\"dest\":%s," IAT "," ORIG "}", "shaken"},
    {"{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":%s}," IAT "," ORIG "}", "div"},
    {"{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"uri\":%s}," IAT "," ORIG "}", "div"},
    {"{\"dest\":{\"tn\":[\"12155551214\"]},\"div\":%s," IAT "," ORIG "}", "div"},
};

static void
write_misplaced(size_t place, const char *value, char out[512])
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* those above */
    snprintf(out, 512, misplaced[place].format, value);
#pragma GCC diagnostic pop
}

/* Anyone can send them: claims are compared before any signature is verified. */
static void
assert_misplaced(size_t place, const char *value)
{
    bool is_div = strcmp(misplaced[place].ppt, "div") == 0;
    char payload[512];
    const struct one beside[] = {
        {misplaced[place].ppt, payload, SKS_E14_CLAIM_MISSING, true},
        {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false},
        {"div", DIV_214_215, SKS_E16_NUMBERS_DIFFER, false},
        {"shaken", PAYLOAD, SKS_VALID, false},
    };

    write_misplaced(place, value, payload);
    print_message("%s\n", payload);
    assert_judged(call_to(number_215), beside, is_div ? 1 : 3);
    if (is_div)
        assert_judged(call_to(number_213), (const struct one[]){beside[0], beside[3]}, 2);
    else
        assert_div_o(payload, true, SKS_E16_NUMBERS_DIFFER, SKS_E14_CLAIM_MISSING);
}

static void
an_identity_of_another_type_is_told_beside_a_div_and_inside_of_one(void **state)
{
    (void)state;
    for (size_t place = 0; place < COUNT(misplaced); place++) {
        for (size_t i = 0; i < COUNT(no_identities); i++)
            assert_misplaced(place, no_identities[i]);
    }
}

/* The PASSporT nested in an invalid div-o is still judged. */
static void
a_div_o_without_who_diverted_carries_a_passport_still(void **state)
{
    char *opt = passport_new(HEADER, PAYLOAD, vs.sp_key);
    char payload[4096];
    const struct one one = {"div-o", payload, SKS_E14_CLAIM_MISSING, false};
    struct sks_judgements *got;

    (void)state;
    snprintf(payload, sizeof(payload),
             "{" DEST ",\"div\":{\"tn\":7}," IAT ",\"opt\":\"%s\"," ORIG "}", opt);
    got = judge_call(call_to(number_213), &one, 1);
    assert_wanted(got, &one, 1);
    assert_int_equal(got->count, 2);
    assert_int_equal(got->judged[1].verification.verdict, SKS_VALID);
    sks_judgements_free(got);
    free(opt);
}

/* RFC 8946's own example: its certificate was not published, so only the checks before it apply. */
static void
the_examples_of_rfc_8946_and_8443_are_not_valid_here(void **state)
{
    json_t *vectors = data_json("rfc/rfc8946_div.json");
    json_t *rph = data_json("rfc/rfc8443_rph.json");
    const char *const identities[] = {
        json_string_value(json_object_get(vectors, "identity_div")),
        json_string_value(json_object_get(vectors, "identity_div_o")),
        json_string_value(json_object_get(rph, "identity")),
    };
    struct sks_call call = call_new();
    struct sks_judgements *got = NULL;

    (void)state;
    call.identities = identities;
    call.identity_count = 3;
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_OK);
    assert_int_equal(got->judged[0].verification.verdict, SKS_E15_IAT_STALE);
    assert_int_equal(got->judged[1].verification.verdict, SKS_E14_CLAIM_MISSING); /* dest */
    assert_int_equal(got->judged[2].verification.verdict, SKS_E10_X5U_NOT_INFO);
    assert_null(got->shaken);
    sks_judgements_free(got);
    json_decref(rph);
    json_decref(vectors);
}

/* -- compared with the signalling -------------------------------------------------------------- */

#define RPH(auth, more) "{" COMMON ",\"rph\":{\"auth\":[" auth "]}" more "}"
#define CALLBACK        ",\"sph\":\"psap-callback\""

static const struct {
    const char *payload;
    const char *values[3]; /* of Resource-Priority */
    const char *priority;
    enum sks_case wanted;
} priorities[] = {
    {RPH("\"ets.0\"", ""), {"ets.0"}, NULL, SKS_VALID},
    {RPH("\"ets.0\"", ""), {"ETS.0"}, NULL, SKS_VALID},
    {RPH("\"ets.0\",\"wps.0\"", ""), {"wps.0"}, NULL, SKS_VALID},
    {RPH("\"ets.0\"", ""), {"ets.1"}, NULL, SKS_E16_NUMBERS_DIFFER},
    {RPH("\"ets.0\"", ""), {"ets.0", "wps.0"}, NULL, SKS_E16_NUMBERS_DIFFER},
    {RPH("\"esnet.0\"", CALLBACK), {"esnet.0"}, "psap-callback", SKS_VALID},
    {RPH("\"esnet.0\"", CALLBACK), {"esnet.0"}, "PSAP-Callback", SKS_VALID},
    {RPH("\"esnet.0\"", CALLBACK), {"esnet.0"}, "normal", SKS_E16_NUMBERS_DIFFER},
    {RPH("\"esnet.0\"", ""), {"esnet.0"}, "psap-callback", SKS_E16_NUMBERS_DIFFER},
    {RPH("\"esnet.0\"", ""), {"esnet.0"}, "urgent", SKS_VALID},
};

static void
priorities_are_those_of_the_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(priorities); i++) {
        const struct one one = {"rph", priorities[i].payload, priorities[i].wanted, false};
        struct sks_call call = call_new();

        call.resource_priority = priorities[i].values;
        while (priorities[i].values[call.resource_priority_count] != NULL)
            call.resource_priority_count++;
        call.priority = priorities[i].priority;
        assert_judged(call, &one, 1);
    }
}

/* What a caller takes from a=fingerprint lines (RFC 8122 section 5). */
static const struct {
    const char *sdp;
    enum sks_case wanted;
} fingerprints[] = {
    {"[{\"alg\":\"sha-256\",\"dig\":\"AA01\"},{\"alg\":\"sha-512\",\"dig\":\"BB02\"}]", SKS_VALID},
    {"[{\"alg\":\"sha-512\",\"dig\":\"BB02\"},{\"alg\":\"sha-256\",\"dig\":\"AA01\"}]", SKS_VALID},
    {"[{\"alg\":\"SHA-512\",\"dig\":\"bb:02\"},{\"alg\":\"sha-256\",\"dig\":\"Aa:01\"},"
     "{\"alg\":\"sha-256\",\"dig\":\"aa01\"}]",
     SKS_VALID},
    {"[{\"alg\":\"sha-256\",\"dig\":\"AA01\"}]", SKS_E16_NUMBERS_DIFFER},
    {"[{\"alg\":\"sha-256\",\"dig\":\"AA01\"},{\"alg\":\"sha-512\",\"dig\":\"BB03\"}]",
     SKS_E16_NUMBERS_DIFFER},
    {"[{\"alg\":\"sha-512\",\"dig\":\"AA01\"},{\"alg\":\"sha-256\",\"dig\":\"BB02\"}]",
     SKS_E16_NUMBERS_DIFFER},
    {"[{\"alg\":\"sha-256\",\"dig\":\"AA01\"},{\"alg\":\"sha-512\",\"dig\":\"BB02\"},"
     "{\"alg\":\"sha-512\",\"dig\":\"CC\"}]",
     SKS_E16_NUMBERS_DIFFER},
    {"[]", SKS_E16_NUMBERS_DIFFER},
};

static void
fingerprints_are_those_of_the_call(void **state)
{
    struct one one = {"",
                      "{" DEST "," IAT ",\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"AA01\"},"
                      "{\"alg\":\"sha-512\",\"dig\":\"BB02\"}]," ORIG "}",
                      SKS_VALID, false};

    (void)state;
    for (size_t i = 0; i < sizeof(fingerprints) / sizeof(fingerprints[0]); i++) {
        json_t *sdp = json_loads(fingerprints[i].sdp, 0, NULL);
        struct sks_call call = call_new();

        assert_non_null(sdp);
        call.mky = sdp;
        one.wanted = fingerprints[i].wanted;
        assert_judged(call, &one, 1);
        json_decref(sdp);
    }
}

/* -- rich call data (RFC 9795) ----------------------------------------------------------------- */

#define NAM_DIGEST "sha256-sM275lTgzCte+LHOKHtU4SxG8shlOo6OS4ot8IJQImY" /* section 8.3 */
#define NAM        "\"rcd\":{\"nam\":\"Q Branch Spy Gadgets\"}"
#define ICON       "\"rcd\":{\"icn\":\"https://example.com/i.png\",\"nam\":\"Q\"}"

static const struct {
    const char *claims;
    enum sks_rcd wanted;
} rcds[] = {
    {"\"x\":1", SKS_RCD_NONE},
    {NAM, SKS_RCD_GOOD},
    {NAM ",\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}", SKS_RCD_GOOD},
    {"\"rcd\":{\"nam\":\"Q Branch Spy Gadget\"},\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}",
     SKS_RCD_BAD},
    {ICON, SKS_RCD_GOOD},
    {ICON ",\"rcdi\":{\"/icn\":\"" NAM_DIGEST "\"}", SKS_RCD_CONTENT_OPEN},
    {ICON ",\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}", SKS_RCD_BAD},
    {"\"rcd\":{\"icn\":\"http://example.com/i.png\",\"nam\":\"Q\"}", SKS_RCD_BAD},
    {"\"rcd\":\"Q\"", SKS_RCD_BAD},
    {"\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}", SKS_RCD_BAD},
};

static void
rich_call_data_never_spoils_a_shaken_passport(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rcds); i++) {
        char payload[1024];
        struct one one = {"shaken", payload, SKS_VALID, false};
        struct sks_judgements *got;

        snprintf(payload, sizeof(payload), SHAKEN_WITH("%s"), rcds[i].claims);
        print_message("%s\n", payload);
        got = judge_call(call_new(), &one, 1);
        assert_wanted(got, &one, 1);
        assert_int_equal(got->judged[0].rcd, rcds[i].wanted);
        sks_judgements_free(got);
    }
}

static void
rich_call_data_that_is_false_spoils_its_own_passport(void **state)
{
    const struct one ones[] = {
        {"rcd", "{" COMMON "," NAM ",\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}}", SKS_VALID, false},
        {"rcd", "{" COMMON ",\"rcd\":{\"nam\":\"Q\"},\"rcdi\":{\"/nam\":\"" NAM_DIGEST "\"}}",
         SKS_E14_CLAIM_MISSING, false},
    };

    (void)state;
    assert_judged(call_new(), ones, 2);
}

static void
a_third_party_needs_a_caller_who_is_known(void **state)
{
    struct one ones[] = {
        {"rcd", "{" DEST "," IAT ",\"iss\":\"Example\"," ORIG "," NAM "}", SKS_E17_UNTRUSTED,
         false},
        {"shaken", PAYLOAD, SKS_E18_SIGNATURE, true},
    };

    (void)state;
    assert_judged(call_new(), ones, 2);
    ones[0].wanted = SKS_VALID;
    ones[1].is_forged = false;
    ones[1].wanted = SKS_VALID;
    assert_judged(call_new(), ones, 2);
}

static void
a_div_does_not_stand_on_a_third_party_alone(void **state)
{
    struct one ones[] = {
        {"rcd", "{" DEST "," IAT ",\"iss\":\"Example\"," ORIG "," NAM "}", SKS_E17_UNTRUSTED,
         false},
        {"div", DIV_213_214, SKS_E16_NUMBERS_DIFFER, false},
        {"shaken", PAYLOAD, SKS_VALID, false},
    };

    (void)state;
    assert_judged(call_to(number_214), ones, 2);
    ones[0].wanted = SKS_VALID;
    ones[1].wanted = SKS_VALID;
    assert_judged(call_to(number_214), ones, 3);
}

/* -- several PASSporTs ------------------------------------------------------------------------- */

/* RFC 8224 section 6.2: a call is invalid only if all its Identity headers are. */
static void
one_good_passport_is_enough(void **state)
{
    const struct one ones[] = {{"shaken", PAYLOAD, SKS_E18_SIGNATURE, true},
                               {"rph", "{" COMMON "}", SKS_E14_CLAIM_MISSING, false},
                               {"shaken", PAYLOAD, SKS_VALID, false}};
    struct sks_judgements *got = judge_call(call_new(), ones, 3);

    (void)state;
    assert_wanted(got, ones, 3);
    assert_ptr_equal(got->shaken, &got->judged[2]);
    sks_judgements_free(got);
    got = judge_call(call_new(), ones, 2);
    assert_ptr_equal(got->shaken, &got->judged[0]);
    sks_judgements_free(got);
    got = judge_call(call_new(), &ones[1], 1);
    assert_null(got->shaken);
    sks_judgements_free(got);
}

static void
a_call_has_a_bound_of_identity_headers(void **state)
{
    const char *identities[SKS_IDENTITIES_MAX + 1];
    const struct sks_claims div = {.ppt = SKS_PPT_DIV,
                                   .orig_tn = "12155551212",
                                   .div_tn = "12155551213",
                                   .dest_tn = number_214,
                                   .dest_tn_count = 1,
                                   .iat = NOW};
    struct sks_verification why;
    struct sks_call call = call_new();
    struct sks_judgements *got = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(identities); i++)
        identities[i] = "x";
    call.identities = identities;
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    call.identity_count = COUNT(identities);
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    call.identity_count--;
    call.identity = "x";
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_ERR_USAGE);
    assert_null(got);
    call.identity = NULL;
    assert_int_equal(sks_verify_all(vs.verifier, &call, NOW, &got), HSM_OK);
    assert_int_equal(got->count, SKS_IDENTITIES_MAX);
    sks_judgements_free(got);
    assert_int_equal(sks_verify_diversion(vs.verifier, &call, &div, NOW, &why), HSM_OK);
    assert_int_equal(why.verdict, SKS_E16_NUMBERS_DIFFER); /* one more still fits */
    call.identity_count++;
    assert_int_equal(sks_verify_diversion(vs.verifier, &call, &div, NOW, &why), HSM_ERR_USAGE);
}

/* RFC 9410. */
static void
a_verdict_has_its_reason_header(void **state)
{
    const struct one ones[] = {{"shaken", PAYLOAD, SKS_E18_SIGNATURE, true},
                               {"shaken", PAYLOAD, SKS_VALID, false}};
    struct sks_judgements *got = judge_call(call_new(), ones, 2);
    char wanted[512];
    char *text;

    (void)state;
    text = sks_verification_reason(&got->judged[0].verification, NULL);
    assert_string_equal(text, "STIR ;cause=438 ;text=\"Invalid Identity Header\"");
    free(text);
    text = sks_verification_reason(&got->judged[0].verification, got->judged[0].signature);
    snprintf(wanted, sizeof(wanted),
             "STIR ;cause=438 ;text=\"Invalid Identity Header\" ;ppi=\"%s\"",
             got->judged[0].signature);
    assert_string_equal(text, wanted);
    assert_int_equal(strlen(got->judged[0].signature), 2 + 86);
    assert_memory_equal(got->judged[0].signature, "..", 2);
    free(text);
    assert_null(sks_verification_reason(&got->judged[1].verification, NULL));
    sks_judgements_free(got);
}

/* -- chains that are not cached yet ------------------------------------------------------------ */

static unsigned promises;

static enum hsm_status
promise(void *context, const char *x5u, time_t now, const struct sks_call *call,
        struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    if (promises > 0)
        return serve(context, x5u, now, out, why);
    promises++;
    assert_non_null(call->wait);
    return HSM_ERR_NOT_FOUND;
}

static void
a_call_that_need_not_wait_gets_no_verdict_before_its_chain_is_there(void **state)
{
    const struct sks_verifier_config config = {.trust = vs.trust, .chain = serve, .ask = promise};
    const struct one one = {"shaken", PAYLOAD, SKS_VALID, false};
    char *identity = identity_new(&one);
    const struct sks_x5u_wait wait = {.landed = NULL};
    struct sks_call call = call_new();
    struct sks_verifier *verifier = NULL;
    struct sks_judgements *got = NULL;

    (void)state;
    vs.serves = "sp-1234.chain.pem";
    assert_int_equal(sks_verifier_new(&config, &verifier), HSM_OK);
    assert_false(sks_verifier_waits(verifier));
    assert_true(sks_verifier_waits(vs.verifier));
    call.identity = identity;
    assert_int_equal(sks_verify_all(verifier, &call, NOW, &got), HSM_OK); /* this one blocks */
    sks_judgements_free(got);
    got = NULL;
    call.wait = &wait;
    assert_int_equal(sks_verify_all(verifier, &call, NOW, &got), HSM_ERR_BUSY);
    assert_null(got);
    assert_int_equal(sks_verify_all(verifier, &call, NOW, &got), HSM_OK);
    assert_int_equal(got->shaken->verification.verdict, SKS_VALID);
    sks_judgements_free(got);
    sks_verifier_free(verifier);
    free(identity);
}

static int
start(void **state)
{
    rogue_key = peer_key_from_pem("self/rogue-leaf.key.pem");
    return verifier_start(state);
}

static int
stop(void **state)
{
    EVP_PKEY_free(rogue_key);
    return verifier_stop(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_must_claim_what_its_standard_says),
        cmocka_unit_test(the_passports_of_the_vectors_are_valid),
        cmocka_unit_test(a_chain_of_div_leads_from_the_first_call_to_where_it_goes),
        cmocka_unit_test(a_call_whose_to_is_the_new_target_passes_by_its_chain),
        cmocka_unit_test(a_div_o_carries_the_passport_that_it_diverts),
        cmocka_unit_test(a_div_o_does_not_stand_on_what_is_not_inside_of_it),
        cmocka_unit_test(what_is_diverted_next_stands_on_what_has_come),
        cmocka_unit_test(an_identity_of_another_type_is_told_beside_a_div_and_inside_of_one),
        cmocka_unit_test(a_div_o_without_who_diverted_carries_a_passport_still),
        cmocka_unit_test(the_examples_of_rfc_8946_and_8443_are_not_valid_here),
        cmocka_unit_test(priorities_are_those_of_the_call),
        cmocka_unit_test(fingerprints_are_those_of_the_call),
        cmocka_unit_test(rich_call_data_never_spoils_a_shaken_passport),
        cmocka_unit_test(rich_call_data_that_is_false_spoils_its_own_passport),
        cmocka_unit_test(a_third_party_needs_a_caller_who_is_known),
        cmocka_unit_test(a_div_does_not_stand_on_a_third_party_alone),
        cmocka_unit_test(one_good_passport_is_enough),
        cmocka_unit_test(a_call_has_a_bound_of_identity_headers),
        cmocka_unit_test(a_verdict_has_its_reason_header),
        cmocka_unit_test(a_call_that_need_not_wait_gets_no_verdict_before_its_chain_is_there),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
