/* test_constraints.c - mirrors certs/src/constraints.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/constraints.h>

#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define JWT      CERTS_CONSTRAINTS_JWT
#define ENHANCED CERTS_CONSTRAINTS_ENHANCED

static void
names_are(const char *const *names, json_t *wanted)
{
    size_t n = 0;

    if (wanted == NULL) {
        assert_null(names);
        return;
    }
    for (; names[n] != NULL; n++)
        assert_string_equal(names[n], json_string_value(json_array_get(wanted, n)));
    assert_int_equal(n, json_array_size(wanted));
}

static void
content_is(const struct certs_claim_constraints *content, json_t *wanted)
{
    json_t *permitted = json_object_get(wanted, "permittedValues");
    size_t n = 0;

    names_are(content->must_include, json_object_get(wanted, "mustInclude"));
    names_are(content->must_exclude, json_object_get(wanted, "mustExclude"));
    if (permitted == NULL) {
        assert_null(content->permitted_values);
        return;
    }
    for (; content->permitted_values[n].claim != NULL; n++) {
        json_t *one = json_array_get(permitted, n);
        json_t *values = json_object_get(one, "permitted");

        assert_string_equal(content->permitted_values[n].claim,
                            json_string_value(json_object_get(one, "claim")));
        names_are(content->permitted_values[n].values,
                  values != NULL ? values : json_object_get(one, "values"));
    }
    assert_int_equal(n, json_array_size(permitted));
}

/* Encoding what was read gives the same octets; constraints that exclude iat can be read, but are
 * never made. */
static void
content_makes(enum certs_constraints_form form, const struct certs_constraints *read,
              const uint8_t *der, size_t len)
{
    struct certs_constraints *made = NULL;
    struct hsm_reason why = {0};
    size_t made_len;
    enum hsm_status st = certs_constraints_new(form, certs_constraints_content(read), &made, &why);

    if (certs_constraints_are_void(read)) {
        assert_int_equal(st, HSM_ERR_USAGE);
        assert_non_null(strstr(why.text, "mustExclude must not name"));
        return;
    }
    assert_int_equal(st, HSM_OK);
    assert_int_equal(certs_constraints_form(made), form);
    assert_memory_equal(certs_constraints_der(made, &made_len), der, len);
    assert_int_equal(made_len, len);
    certs_constraints_free(made);
}

static void
each_vector_has_its_verdict_and_is_made_again(void **state)
{
    json_t *file = data_json("self/jwtclaimconstraints.json");
    json_t *vector;
    size_t i;
    size_t good = 0;

    (void)state;
    json_array_foreach(json_object_get(file, "cases"), i, vector)
    {
        const char *oid = json_string_value(json_object_get(vector, "ext_oid"));
        enum certs_constraints_form form = strstr(oid, ".33") != NULL ? ENHANCED : JWT;
        bool valid = json_is_true(json_object_get(vector, "valid"));
        struct certs_constraints *constraints = NULL;
        uint8_t der[128];
        size_t len =
            data_unhex(json_string_value(json_object_get(vector, "der_hex")), der, sizeof(der));

        print_message("%s\n", json_string_value(json_object_get(vector, "id")));
        assert_int_equal(certs_constraints_parse(form, der, len, &constraints, NULL),
                         valid ? HSM_OK : HSM_ERR_MALFORMED);
        if (valid) {
            content_is(certs_constraints_content(constraints), json_object_get(vector, "decoded"));
            content_makes(form, constraints, der, len);
            good++;
        } else {
            assert_null(constraints);
        }
        certs_constraints_free(constraints);
    }
    assert_int_equal(good, 5);
    assert_int_equal(i, 6);
    json_decref(file);
}

/* Encodings that a hand-written parser could get wrong, in addition to the vectors. */
static const struct {
    const char *what;
    enum certs_constraints_form form;
    const char *der_hex;
} malformed[] = {
    {"nothing", JWT, "-"},
    {"half a header", JWT, "30"},
    {"a SET", JWT, "3107a00530031601 61"},
    {"octets after the SEQUENCE", JWT, "3007a0053003160161 00"},
    {"mustExclude in the old form", JWT, "300ea20c300a16037270681603737068"},
    {"an implicit tag", JWT, "3005a003160161"},
    {"a primitive tag", JWT, "3007800530 03160161"},
    {"the same component twice", JWT, "300ea0053003160161a0053003160162"},
    {"components out of order", ENHANCED, "300ea2053003160161a0053003160162"},
    {"a component [3]", ENHANCED, "3007a3053003160161"},
    {"mustInclude without a name", JWT, "3004a0023000"},
    {"mustExclude without a name", ENHANCED, "3004a2023000"},
    {"permittedValues without a claim", JWT, "3004a1023000"},
    {"a claim without values", JWT, "3009a10730053003160161"},
    {"a claim with an empty list of values", JWT, "300ba109300730051601613000"},
    {"a value that is an IA5String", JWT, "300ea10c300a30081601613003160141"},
    {"a value that is not UTF-8", JWT, "300ea10c300a300816016130030c01ff"},
    {"a value with a surrogate", JWT, "3010a10e300c300a16016130050c03eda080"},
    {"a value with an overlong form", JWT, "300fa10d300b300916016130040c02c081"},
    {"a value with a NUL", JWT, "300ea10c300a300816016130030c0100"},
    {"octets after the values", JWT, "3010a10e300c300a16016130030c01410500"},
    {"a name that is a UTF8String", JWT, "3007a00530030c0161"},
    {"an empty name", JWT, "3006a00430021600"},
    {"a name with a control character", JWT, "3007a0053003160107"},
    {"a name beyond ASCII", JWT, "3007a00530031601e9"},
    {"a name with a NUL", JWT, "3007a0053003160100"},
    {"octets after the names", JWT, "3009a00730031601610500"},
    {"a name cut short", JWT, "3007a0053003160261"},
    {"an indefinite length", JWT, "3080a00530031601610000"},
    {"a long length that is short", JWT, "308107a0053003160161"},
};

static size_t
unhex(const char *hex, uint8_t *out, size_t max)
{
    char digits[256] = "";
    size_t n = 0;

    for (; *hex != '\0'; hex++) {
        if (*hex != ' ')
            digits[n++] = *hex;
    }
    return data_unhex(digits, out, max);
}

static void
what_is_not_strict_der_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(malformed); i++) {
        struct certs_constraints *constraints = NULL;
        struct hsm_reason why = {0};
        uint8_t der[64];
        size_t len = unhex(malformed[i].der_hex, der, sizeof(der));

        if (certs_constraints_parse(malformed[i].form, der, len, &constraints, &why) !=
            HSM_ERR_MALFORMED)
            fail_msg("%s was taken", malformed[i].what);
        assert_null(constraints);
        assert_string_not_equal(why.text, "");
    }
}

static void
more_than_the_bound_is_refused(void **state)
{
    size_t len = CERTS_CONSTRAINTS_MAX + 1;
    uint8_t *der = calloc(1, len);
    struct certs_constraints *constraints = NULL;

    (void)state;
    assert_non_null(der);
    assert_int_equal(certs_constraints_parse(JWT, der, len, &constraints, NULL), HSM_ERR_MALFORMED);
    free(der);
}

/* -- encoding -- */

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PERMIT(claim, ...)                                                                         \
    {                                                                                              \
        claim, NAMES(__VA_ARGS__)                                                                  \
    }
#define PERMITTED(...) ((const struct certs_permitted_values[]){__VA_ARGS__, {NULL, NULL}})

static void
what_makes_no_sense_is_not_made(void **state)
{
    static const char *const none[] = {NULL};
    const struct {
        struct certs_claim_constraints content;
        enum certs_constraints_form form;
        enum hsm_status wanted;
        const char *reason;
    } cases[] = {
        {{NULL, NULL, NULL}, JWT, HSM_ERR_MALFORMED, "empty"},
        {{none, NULL, NULL}, JWT, HSM_ERR_MALFORMED, "empty"},
        {{NULL, NULL, none}, ENHANCED, HSM_ERR_MALFORMED, "empty"},
        {{NULL, PERMITTED({"attest", none}), NULL}, JWT, HSM_ERR_MALFORMED, "empty"},
        {{NAMES(""), NULL, NULL}, JWT, HSM_ERR_MALFORMED, "claim name"},
        {{NAMES("atte\xc3\xa9t"), NULL, NULL}, JWT, HSM_ERR_MALFORMED, "claim name"},
        {{NULL, PERMITTED(PERMIT("attest", "\xff")), NULL}, JWT, HSM_ERR_MALFORMED, "UTF-8"},
        {{NULL, NULL, NAMES("rph")}, JWT, HSM_ERR_USAGE, "has no mustExclude"},
        {{NULL, NULL, NAMES("rph", "dest")}, ENHANCED, HSM_ERR_USAGE, "\"dest\""},
        {{NULL, NULL, NAMES("orig")}, ENHANCED, HSM_ERR_USAGE, "\"orig\""},
        {{NULL, NULL, NAMES("iat")}, ENHANCED, HSM_ERR_USAGE, "\"iat\""},
        {{NAMES("rcd", "rph"), NULL, NAMES("sph", "rph")}, ENHANCED, HSM_ERR_USAGE, "both"},
        {{NULL, PERMITTED(PERMIT("rcd", "x")), NAMES("rcd")}, ENHANCED, HSM_ERR_USAGE, "excluded"},
        {{NULL, PERMITTED(PERMIT("attest", "A"), PERMIT("attest", "B")), NULL},
         JWT,
         HSM_ERR_USAGE,
         "two lists"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct certs_constraints *constraints = NULL;
        struct hsm_reason why = {0};

        if (certs_constraints_new(cases[i].form, &cases[i].content, &constraints, &why) !=
                cases[i].wanted ||
            strstr(why.text, cases[i].reason) == NULL)
            fail_msg("case %zu: %s", i, why.text);
        assert_null(constraints);
    }
}

static void
constraints_read_well_whatever_they_hold(void **state)
{
    struct certs_constraints *constraints = NULL;
    char *text;

    (void)state;
    assert_int_equal(certs_constraints_new(
                         ENHANCED,
                         &(struct certs_claim_constraints){
                             NAMES("rcd", "origid"),
                             PERMITTED(PERMIT("attest", "A", "B"), PERMIT("x", "\033[2J\xc2\x9b")),
                             NAMES("rph")},
                         &constraints, NULL),
                     HSM_OK);
    text = certs_constraints_text(constraints);
    assert_string_equal(
        text, "must include rcd, origid; attest is A or B; x is ?[2J??; must exclude rph");
    free(text);
    certs_constraints_free(constraints);
}

/* -- checking a PASSporT's claims -- */

static bool
json_has(const void *payload, const char *name)
{
    return json_object_get(payload, name) != NULL;
}

static const char *
json_value(const void *payload, const char *name)
{
    static char number[32];
    json_t *value = json_object_get(payload, name);

    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return number;
    }
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    return json_string_value(value);
}

#define BASE "'iat':1443208345,'orig':{'tn':'12155550121'},'dest':{'tn':['12155550131']}"

static const struct {
    const char *payload; /* JSON with ' in place of " */
    const char *broken; /* the claim named by the reason; NULL: satisfied */
} checks[] = {
    /* must include rcd; attest is A or B; level is 7 or true; must exclude rph */
    {"{" BASE ",'rcd':{}}", NULL},
    {"{" BASE ",'rcd':{},'attest':'A'}", NULL},
    {"{" BASE ",'rcd':null,'attest':'B','level':7,'other':[]}", NULL},
    {"{" BASE ",'rcd':{},'level':true}", NULL},
    {"{" BASE "}", "\"rcd\" must be there"},
    {"{" BASE ",'rcd':{},'attest':'C'}", "\"attest\" has a value"},
    {"{" BASE ",'rcd':{},'attest':'a'}", "\"attest\" has a value"},
    {"{" BASE ",'rcd':{},'attest':'A '}", "\"attest\" has a value"},
    {"{" BASE ",'rcd':{},'attest':['A']}", "\"attest\" has a value"},
    {"{" BASE ",'rcd':{},'attest':null}", "\"attest\" has a value"},
    {"{" BASE ",'rcd':{},'level':8}", "\"level\" has a value"},
    {"{" BASE ",'rcd':{},'level':false}", "\"level\" has a value"},
    {"{" BASE ",'rcd':{},'rph':null}", "\"rph\" must not be there"},
    {"{" BASE ",'rcd':{},'attest':'A','rph':{}}", "\"rph\" must not be there"},
    /* in addition to the names listed: iat, orig, dest */
    {"{'orig':{},'dest':{},'rcd':{}}", "\"iat\" must be there"},
    {"{'iat':1,'dest':{},'rcd':{}}", "\"orig\" must be there"},
    {"{'iat':1,'orig':{},'rcd':{}}", "\"dest\" must be there"},
};

static json_t *
payload_of(const char *text)
{
    char copy[512];
    json_t *payload;

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *c = copy; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    payload = json_loads(copy, 0, NULL);
    assert_non_null(payload);
    return payload;
}

static void
claims_keep_the_constraints_or_the_reason_names_the_claim(void **state)
{
    struct certs_constraints *constraints = NULL;
    struct hsm_reason why;

    (void)state;
    assert_int_equal(
        certs_constraints_new(
            ENHANCED,
            &(struct certs_claim_constraints){
                NAMES("rcd"), PERMITTED(PERMIT("attest", "A", "B"), PERMIT("level", "7", "true")),
                NAMES("rph")},
            &constraints, NULL),
        HSM_OK);
    for (size_t i = 0; i < COUNT(checks); i++) {
        json_t *payload = payload_of(checks[i].payload);
        struct certs_claims claims = {payload, json_has, json_value};
        enum hsm_status st;

        why.text[0] = '\0';
        st = certs_constraints_check(constraints, &claims, &why);
        if (checks[i].broken == NULL
                ? st != HSM_OK
                : st != HSM_ERR_UNTRUSTED || strstr(why.text, checks[i].broken) == NULL)
            fail_msg("%s: %s", checks[i].payload, why.text);
        json_decref(payload);
    }
    certs_constraints_free(constraints);
}

/* RFC 9118 section 3: the whole extension is ignored, including its other two parts. */
static void
constraints_that_exclude_what_every_passport_has_are_void(void **state)
{
    static const char *const der_hex[] = {
        "3009a20730051603696174", /* iat */
        "300fa20d300b16037270681604646573 74", /* rph, dest */
        "3013a0073005160372636 4a208300616046f726967", /* rcd must be there; orig */
    };
    json_t *payload = payload_of("{" BASE "}");
    struct certs_claims claims = {payload, json_has, json_value};

    (void)state;
    for (size_t i = 0; i < COUNT(der_hex); i++) {
        struct certs_constraints *constraints = NULL;
        uint8_t der[64];
        size_t len = unhex(der_hex[i], der, sizeof(der));

        assert_int_equal(certs_constraints_parse(ENHANCED, der, len, &constraints, NULL), HSM_OK);
        assert_true(certs_constraints_are_void(constraints));
        assert_int_equal(certs_constraints_check(constraints, &claims, NULL), HSM_OK);
        certs_constraints_free(constraints);
    }
    json_decref(payload);
}

/* -- in certificates -- */

static void
the_certificate_of_rfc_9118_has_its_constraints(void **state)
{
    json_t *file = data_json("rfc/rfc9118_cert.json");
    const char *base64 = json_string_value(json_object_get(file, "cert_der_b64"));
    struct certs_constraints *constraints = NULL;
    struct hsm_reason why = {0};
    uint8_t octets[1024];
    uint8_t wanted[128];
    size_t wanted_len =
        data_unhex(json_string_value(json_object_get(file, "ejwtclaimconstraints_der_hex")), wanted,
                   sizeof(wanted));
    size_t len;
    X509 *cert = NULL;

    (void)state;
    assert_true(strlen(base64) / 4 * 3 <= sizeof(octets));
    len = (size_t)EVP_DecodeBlock(octets, (const uint8_t *)base64, (int)strlen(base64));
    while (base64[strlen(base64) - 1 - (strlen(base64) / 4 * 3 - len)] == '=')
        len--;
    assert_int_equal(certs_cert_parse_der(octets, len, &cert, &why), HSM_OK);
    assert_int_equal(certs_cert_constraints(cert, &constraints, &why), HSM_OK);
    assert_int_equal(certs_constraints_form(constraints), ENHANCED);
    assert_memory_equal(certs_constraints_der(constraints, &len), wanted, wanted_len);
    assert_int_equal(len, wanted_len);
    content_is(certs_constraints_content(constraints),
               json_object_get(file, "ejwtclaimconstraints"));
    assert_false(certs_constraints_are_void(constraints));
    certs_constraints_free(constraints);
    X509_free(cert);
    json_decref(file);
}

#define JWT_ATTEST      "1.3.6.1.5.5.7.1.27", "DER:3016a11430123010160661747465737430060c01410c0142"
#define ENHANCED_NO_RPH "1.3.6.1.5.5.7.1.33", "DER:300ea20c300a16037270681603737068"
#define LEAF            "basicConstraints", "critical,CA:FALSE"

static const struct {
    const char *what;
    struct peer_ext exts[4];
    enum hsm_status wanted;
    const char *reason;
} certificates[] = {
    {"the old form", {{LEAF}, {JWT_ATTEST}}, HSM_OK, ""},
    {"the enhanced form", {{LEAF}, {ENHANCED_NO_RPH}}, HSM_OK, ""},
    {"neither", {{LEAF}}, HSM_ERR_NOT_FOUND, "no claim constraints"},
    {"both", {{LEAF}, {JWT_ATTEST}, {ENHANCED_NO_RPH}}, HSM_ERR_MALFORMED, "both"},
    {"twice", {{LEAF}, {JWT_ATTEST}, {JWT_ATTEST}}, HSM_ERR_MALFORMED, "twice"},
    {"in a CA",
     {{"basicConstraints", "critical,CA:TRUE"}, {ENHANCED_NO_RPH}},
     HSM_ERR_MALFORMED,
     "in a CA certificate"},
    {"in a CA that may not sign certificates",
     {{"basicConstraints", "critical,CA:TRUE"},
      {"keyUsage", "critical,digitalSignature"},
      {ENHANCED_NO_RPH}},
     HSM_ERR_MALFORMED,
     "in a CA certificate"},
    {"an empty SEQUENCE", {{LEAF}, {"1.3.6.1.5.5.7.1.27", "DER:3000"}}, HSM_ERR_MALFORMED, "empty"},
};

static void
a_certificate_has_one_of_the_two_and_only_an_end_entity(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(certificates); i++) {
        X509 *cert = peer_cert(
            &(struct peer_spec){.cn = "SHAKEN", .key = key, .exts = certificates[i].exts});
        struct certs_constraints *constraints = NULL;
        struct hsm_reason why = {0};

        if (certs_cert_constraints(cert, &constraints, &why) != certificates[i].wanted ||
            strstr(why.text, certificates[i].reason) == NULL)
            fail_msg("%s: %s", certificates[i].what, why.text);
        assert_int_equal(constraints != NULL, certificates[i].wanted == HSM_OK);
        certs_constraints_free(constraints);
        X509_free(cert);
    }
    EVP_PKEY_free(key);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_vector_has_its_verdict_and_is_made_again),
        cmocka_unit_test(what_is_not_strict_der_is_refused),
        cmocka_unit_test(more_than_the_bound_is_refused),
        cmocka_unit_test(what_makes_no_sense_is_not_made),
        cmocka_unit_test(constraints_read_well_whatever_they_hold),
        cmocka_unit_test(claims_keep_the_constraints_or_the_reason_names_the_claim),
        cmocka_unit_test(constraints_that_exclude_what_every_passport_has_are_void),
        cmocka_unit_test(the_certificate_of_rfc_9118_has_its_constraints),
        cmocka_unit_test(a_certificate_has_one_of_the_two_and_only_an_end_entity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
