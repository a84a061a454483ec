/* test_passport.c - mirrors sks/src/passport.c, with a key on a throw-away SoftHSM token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <acme/jws.h>
#include <sks/passport.h>
#include <sks/tn.h>

#include "data.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define X5U    "https://cr.sp.example/certs/sp-1234.pem"
#define ORIGID "de305d54-75b4-431b-adb2-eb6b9e546014"

static const char *const one_tn[] = {"12155551213"};
static const char *const two_tns[] = {"12155551213", "12155551214"};
static const char *const one_uri[] = {"sip:alice@example.com"};

static struct hsm_token *token;

/* The claims of the vectors, for a test to modify. */
static struct sks_claims
claims_new(void)
{
    return (struct sks_claims){
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = one_tn,
        .dest_tn_count = 1,
        .iat = 1768478400,
        .origid = ORIGID,
    };
}

static int
set_up(void **state)
{
    struct hsm_key *key = NULL;

    softhsm_start();
    token = softhsm_token("sp");
    if (hsm_key_generate(token, "signer", &key) != HSM_OK)
        return -1;
    *state = key;
    return 0;
}

static int
tear_down(void **state)
{
    hsm_key_free(*state);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

/* Not inlined: gcc 12 mistakes the returned pointer for the address of the variable. */
static __attribute__((noinline)) char *
sign(const struct sks_claims *claims, struct hsm_key *key)
{
    char *passport = NULL;

    assert_int_equal(sks_claims_check(claims, NULL), HSM_OK);
    assert_int_equal(sks_passport_new(claims, X5U, key, &passport), HSM_OK);
    return passport;
}

/* Header and payload are octet for octet those of a peer's PASSporT with the same claims. */
static void
header_and_payload_are_those_of_the_vectors(void **state)
{
    json_t *vectors = data_json("self/passport_other.json");
    const json_t *shaken = json_array_get(json_object_get(vectors, "cases"), 0);
    const char *wanted = json_string_value(json_object_get(shaken, "jws"));
    size_t signed_len = (size_t)(strrchr(wanted, '.') - wanted) + 1;
    struct sks_claims claims = claims_new();
    char *passport = sign(&claims, *state);

    assert_memory_equal(passport, wanted, signed_len);
    free(passport);
    json_decref(vectors);
}

static void
the_signature_verifies_until_an_octet_changes(void **state)
{
    struct sks_claims claims = claims_new();
    char *passport = sign(&claims, *state);
    EVP_PKEY *public_key = hsm_key_public(*state);
    struct acme_jws *jws = NULL;

    assert_int_equal(acme_jws_parse_compact(passport, strlen(passport), &jws, NULL), HSM_OK);
    assert_int_equal(acme_jws_verify(jws, public_key, NULL), HSM_OK);
    acme_jws_free(jws);
    *strrchr(passport, '.') = '\0'; /* signature of "A", claims of "B" */
    claims.attest = 'B';
    char *other = sign(&claims, *state);
    size_t size = strlen(passport) + strlen(other) + 1;
    char *mixed = malloc(size);

    snprintf(mixed, size, "%s%s", passport, strrchr(other, '.'));
    jws = NULL;
    assert_int_equal(acme_jws_parse_compact(mixed, strlen(mixed), &jws, NULL), HSM_OK);
    assert_int_equal(acme_jws_verify(jws, public_key, NULL), HSM_ERR_UNTRUSTED);
    acme_jws_free(jws);
    free(mixed);
    free(other);
    free(passport);
}

static const struct {
    struct sks_claims claims;
    const char *payload;
} canonical[] = {
    {{.attest = 'B',
      .orig_tn = "1",
      .dest_tn = two_tns,
      .dest_tn_count = 2,
      .iat = 0,
      .origid = ORIGID},
     "{\"attest\":\"B\",\"dest\":{\"tn\":[\"12155551213\",\"12155551214\"]},\"iat\":0,"
     "\"orig\":{\"tn\":\"1\"},\"origid\":\"" ORIGID "\"}"},
    {{.attest = 'C',
      .orig_uri = "sip:bob@example.com",
      .dest_tn = one_tn,
      .dest_tn_count = 1,
      .dest_uri = one_uri,
      .dest_uri_count = 1,
      .iat = 1768478400,
      .origid = ORIGID},
     "{\"attest\":\"C\",\"dest\":{\"tn\":[\"12155551213\"],\"uri\":[\"sip:alice@example.com\"]},"
     "\"iat\":1768478400,\"orig\":{\"uri\":\"sip:bob@example.com\"},\"origid\":\"" ORIGID "\"}"},
    {{.attest = 'A',
      .orig_tn = "*67#",
      .dest_uri = one_uri,
      .dest_uri_count = 1,
      .iat = INT64_MAX,
      .origid = ORIGID},
     "{\"attest\":\"A\",\"dest\":{\"uri\":[\"sip:alice@example.com\"]},"
     "\"iat\":9223372036854775807,\"orig\":{\"tn\":\"*67#\"},\"origid\":\"" ORIGID "\"}"},
};

/* RFC 8225 section 9 */
static void
members_are_sorted_without_blanks_and_dest_is_arrays(void **state)
{
    for (size_t i = 0; i < COUNT(canonical); i++) {
        char *passport = sign(&canonical[i].claims, *state);
        const char *payload = strchr(passport, '.') + 1;
        uint8_t *octets = NULL;
        size_t len = 0;

        assert_int_equal(acme_base64url_decode(payload, strcspn(payload, "."), &octets, &len),
                         HSM_OK);
        assert_string_equal((const char *)octets, canonical[i].payload);
        free(octets);
        free(passport);
    }
}

static void
an_x5u_that_is_too_long_or_no_url_is_refused(void **state)
{
    struct sks_claims claims = claims_new();
    char x5u[SKS_PASSPORT_X5U_MAX + 2];
    char *passport = NULL;

    memset(x5u, 'a', sizeof(x5u) - 1);
    x5u[sizeof(x5u) - 1] = '\0';
    assert_int_equal(sks_passport_new(&claims, x5u, *state, &passport), HSM_ERR_MALFORMED);
    assert_null(passport);
    x5u[sizeof(x5u) - 2] = '\0';
    assert_int_equal(sks_passport_new(&claims, x5u, *state, &passport), HSM_OK);
    free(passport);
    passport = NULL;
    x5u[0] = '"'; /* not allowed in a URL */
    assert_int_equal(sks_passport_new(&claims, x5u, *state, &passport), HSM_ERR_MALFORMED);
    assert_null(passport);
}

#define CLAIMS(...)                                                                                \
    {                                                                                              \
        .attest = 'A', .orig_tn = "12155551212", .dest_tn = one_tn, .dest_tn_count = 1,            \
        .iat = 1768478400, .origid = ORIGID, __VA_ARGS__                                           \
    }

static const char *const plus_tn[] = {"+12155551213"};
static const char *const blank_uri[] = {"sip:alice @example.com"};
static const char *const quote_uri[] = {"sip:al\"ice@example.com"};
static const char *const no_uri[] = {"alice"};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init" /* intended in this table */
static const struct {
    struct sks_claims claims;
    const char *claim; /* the one that is refused */
} refused[] = {
    {CLAIMS(.attest = 'D'), "attest"},
    {CLAIMS(.attest = 'a'), "attest"},
    {CLAIMS(.attest = '\0'), "attest"},
    {CLAIMS(.orig_tn = NULL), "orig"},
    {CLAIMS(.orig_uri = "sip:bob@example.com"), "orig"},
    {CLAIMS(.orig_tn = "+12155551212"), "orig"},
    {CLAIMS(.orig_tn = ""), "orig"},
    {CLAIMS(.orig_tn = "123456789012345678901234567890123"), "orig"},
    {CLAIMS(.orig_tn = NULL, .orig_uri = "bob"), "orig"},
    {CLAIMS(.orig_tn = NULL, .orig_uri = "sip:"), "orig"},
    {CLAIMS(.dest_tn_count = 0), "dest"},
    {CLAIMS(.dest_tn = plus_tn), "dest"},
    {CLAIMS(.dest_tn_count = SKS_DEST_MAX + 1), "dest"},
    {CLAIMS(.dest_tn_count = SIZE_MAX, .dest_uri_count = 2), "dest"},
    {CLAIMS(.dest_uri = blank_uri, .dest_uri_count = 1), "dest"},
    {CLAIMS(.dest_uri = quote_uri, .dest_uri_count = 1), "dest"},
    {CLAIMS(.dest_uri = no_uri, .dest_uri_count = 1), "dest"},
    {CLAIMS(.iat = -1), "iat"},
    {CLAIMS(.origid = NULL), "origid"},
    {CLAIMS(.origid = ""), "origid"},
    {CLAIMS(.origid = "de305d54-75b4-431b-adb2-eb6b9e54601"), "origid"},
    {CLAIMS(.origid = "de305d54-75b4-431b-adb2-eb6b9e5460144"), "origid"},
    {CLAIMS(.origid = "de305d54-75b4-431b-adb2-eb6b9e54601g"), "origid"},
    {CLAIMS(.origid = "de305d5475b4-431b-adb2-eb6b9e546014--"), "origid"},
    {CLAIMS(.origid = "customer 4711"), "origid"},
};
#pragma GCC diagnostic pop

static void
claims_that_the_rfcs_do_not_allow_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct sks_refusal refusal = {.member = NULL};

        assert_int_equal(sks_claims_check(&refused[i].claims, &refusal), HSM_ERR_MALFORMED);
        print_message("%zu: %s\n", i, refusal.why.text);
        assert_string_equal(refusal.member, refused[i].claim);
    }
}

static void
many_long_destinations_do_not_exceed_a_payload(void **state)
{
    const char *dest[SKS_DEST_MAX];
    char uri[SKS_TN_URI_MAX + 1];
    struct sks_claims claims = claims_new();

    memset(uri, 'a', SKS_TN_URI_MAX);
    uri[SKS_TN_URI_MAX] = '\0';
    memcpy(uri, "sip:", 4);
    for (size_t i = 0; i < SKS_DEST_MAX; i++)
        dest[i] = uri;
    claims.dest_uri = dest;
    claims.dest_uri_count = SKS_DEST_MAX - 1;
    assert_int_equal(sks_claims_check(&claims, NULL), HSM_ERR_MALFORMED);
    claims.dest_uri_count = 15; /* what fits in 8192 octets can be read back */
    char *passport = sign(&claims, *state);
    json_t *header = NULL;
    json_t *payload = NULL;

    assert_int_equal(sks_passport_decode(passport, &header, &payload, NULL), HSM_OK);
    json_decref(header);
    json_decref(payload);
    free(passport);
}

/* Every PASSporT of RFC 8225 and of the project's vectors whose parts are published. */
static void
published_passports_decode_to_their_claims(void **state)
{
    static const char *const files[] = {"rfc/rfc8225_passport.json", "rfc/rfc8946_div.json",
                                        "self/passport_other.json"};
    size_t decoded = 0;

    (void)state;
    for (size_t f = 0; f < COUNT(files); f++) {
        json_t *vectors = data_json(files[f]);
        json_t *vector;
        size_t i;

        json_array_foreach(json_object_get(vectors, "cases"), i, vector)
        {
            const char *jws = json_string_value(json_object_get(vector, "jws"));
            json_t *wanted = json_object_get(vector, "payload");
            json_t *header = NULL;
            json_t *payload = NULL;

            if (jws == NULL || wanted == NULL)
                continue;
            assert_int_equal(sks_passport_decode(jws, &header, &payload, NULL), HSM_OK);
            assert_true(json_equal(header, json_object_get(vector, "header")));
            assert_true(json_equal(payload, wanted));
            json_decref(header);
            json_decref(payload);
            decoded++;
        }
        json_decref(vectors);
    }
    assert_true(decoded >= 3);
}

static const char *const broken[] = {
    "",
    ".",
    "..",
    "..c2ln",
    "e30.e30.",
    "e30..c2ln",
    ".e30.c2ln",
    "e30.e30",
    "e30.e30.c2ln.c2ln",
    "e30=.e30.c2ln",
    "e31.e30.c2ln", /* trailing bits that are not zero */
    "e30.W10.c2ln", /* an array */
    "W10.e30.c2ln",
    "eyJhIjoxLCJhIjoyfQ.e30.c2ln", /* {"a":1,"a":2} */
    "e30.eyJhIjoxLCJhIjoyfQ.c2ln",
    "e30.eyJh.c2ln",
};

static void
what_is_no_full_form_is_refused(void **state)
{
    json_t *header = NULL;
    json_t *payload = NULL;
    struct hsm_reason why = {""};

    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        print_message("%s\n", broken[i]);
        assert_int_equal(sks_passport_decode(broken[i], &header, &payload, &why),
                         HSM_ERR_MALFORMED);
        assert_null(header);
        assert_null(payload);
    }
}

static void
the_payload_that_rfc_8443_prints_is_no_json(void **state)
{
    json_t *rph = data_json("rfc/rfc8443_rph.json");
    json_t *header = NULL;
    json_t *payload = NULL;

    (void)state;
    assert_int_equal(sks_passport_decode(json_string_value(json_object_get(rph, "jws")), &header,
                                         &payload, NULL),
                     HSM_ERR_MALFORMED);
    json_decref(rph);
}

static void
parts_have_their_bounds(void **state)
{
    static const size_t max[] = {SKS_PASSPORT_HEADER_MAX, SKS_PASSPORT_PAYLOAD_MAX};
    json_t *header;
    json_t *payload;

    (void)state;
    for (size_t part = 0; part < 2; part++) {
        for (size_t over = 0; over < 2; over++) {
            size_t len = max[part] + over;
            char *json = malloc(len);
            size_t size = ACME_BASE64URL_LEN(len) + 32;
            char *text = malloc(size);
            char *encoded;

            memset(json, ' ', len);
            json[0] = '{';
            json[len - 1] = '}';
            encoded = acme_base64url_encode(json, len);
            snprintf(text, size, "%s.%s.c2ln", part == 0 ? encoded : "e30",
                     part == 1 ? encoded : "e30");
            header = NULL;
            payload = NULL;
            assert_int_equal(sks_passport_decode(text, &header, &payload, NULL),
                             over == 0 ? HSM_OK : HSM_ERR_MALFORMED);
            json_decref(header);
            json_decref(payload);
            free(encoded);
            free(text);
            free(json);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_and_payload_are_those_of_the_vectors),
        cmocka_unit_test(the_signature_verifies_until_an_octet_changes),
        cmocka_unit_test(members_are_sorted_without_blanks_and_dest_is_arrays),
        cmocka_unit_test(an_x5u_that_is_too_long_or_no_url_is_refused),
        cmocka_unit_test(claims_that_the_rfcs_do_not_allow_are_refused_by_name),
        cmocka_unit_test(many_long_destinations_do_not_exceed_a_payload),
        cmocka_unit_test(published_passports_decode_to_their_claims),
        cmocka_unit_test(what_is_no_full_form_is_refused),
        cmocka_unit_test(the_payload_that_rfc_8443_prints_is_no_json),
        cmocka_unit_test(parts_have_their_bounds),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
