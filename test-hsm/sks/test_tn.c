/* test_tn.c - mirrors sks/src/tn.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sks/tn.h>

#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
each_vector_has_its_canonical_number(void **state)
{
    json_t *vectors = data_json("self/tn_canonical.json");
    json_t *vector;
    size_t i;

    (void)state;
    assert_true(json_array_size(json_object_get(vectors, "cases")) >= 12);
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        const char *in = json_string_value(json_object_get(vector, "in"));
        const char *wanted = json_string_value(json_object_get(vector, "out"));
        const struct sks_dial_plan plan = {json_string_value(json_object_get(vector, "default_cc")),
                                           "1", "011", 10};
        char out[SKS_TN_MAX + 1] = "untouched";
        enum hsm_status st = sks_tn_canonical(in, &plan, out);

        print_message("%s\n", in);
        assert_int_equal(st, wanted != NULL ? HSM_OK : HSM_ERR_NOT_FOUND);
        assert_string_equal(out, wanted != NULL ? wanted : "untouched");
    }
    json_decref(vectors);
}

static const struct sks_dial_plan nanp = {"1", "1", "011", 10};
static const struct sks_dial_plan france = {"33", "0", "00", 9};
static const struct sks_dial_plan germany = {"49", "0", "00", 0}; /* numbers vary in length */
static const struct sks_dial_plan latvia = {"371", "", "00", 8}; /* no national prefix */

static const struct {
    const char *in;
    const struct sks_dial_plan *plan;
    const char *out;
    enum hsm_status wanted;
} numbers[] = {
    {"12155551212", NULL, "12155551212", HSM_OK},
    {"+1 (215) 555-1212", NULL, "12155551212", HSM_OK},
    {"TEL:+12155551212", NULL, "12155551212", HSM_OK},
    {"sips:+12155551212:secret@sp.example:5061;user=phone?a=b", NULL, "12155551212", HSM_OK},
    {"#31#", NULL, "#31#", HSM_OK},
    /* The country code is added only to national numbers, not to global ones, service codes or
     * numbers of other lengths. */
    {"+2155551212", &nanp, "2155551212", HSM_OK},
    {"911", &nanp, "911", HSM_OK},
    {"*215555121", &nanp, "*215555121", HSM_OK},
    {"12155551212", &nanp, "12155551212", HSM_OK},
    {"sip:2155551212@sp.example;user=phone", &nanp, "12155551212", HSM_OK},
    {"1215555121", NULL, "1215555121", HSM_OK},
    /* Dial prefixes are removed (RFC 8224 section 8.3). */
    {"011 44 20 7946 0000", &nanp, "442079460000", HSM_OK},
    {"011442079460000#", &nanp, "011442079460000#", HSM_OK},
    {"+011442079460000", &nanp, "011442079460000", HSM_OK},
    {"06 12 34 56 78", &france, "33612345678", HSM_OK},
    {"612345678", &france, "33612345678", HSM_OK},
    {"+33612345678", &france, "33612345678", HSM_OK},
    {"0033612345678", &france, "33612345678", HSM_OK},
    {"0012155551212", &france, "12155551212", HSM_OK},
    {"33612345678", &france, "33612345678", HSM_OK},
    {"0612345", &france, "0612345", HSM_OK},
    {"112", &france, "112", HSM_OK},
    {"00112", &france, "00112", HSM_OK},
    {"030 901820", &germany, "4930901820", HSM_OK},
    {"0049 30 901820", &germany, "4930901820", HSM_OK},
    {"901820", &germany, "901820", HSM_OK},
    {"0800", &germany, "0800", HSM_OK},
    {"67030300", &latvia, "37167030300", HSM_OK},
    {"067030300", &latvia, "067030300", HSM_OK},
    {"0123456789012345678901234567890", &germany, "49123456789012345678901234567890", HSM_OK},
    {"01234567890123456789012345678901", &germany, NULL, HSM_ERR_MALFORMED},
    {"2155551212", NULL, "2155551212", HSM_OK},
    {"12345678901234567890123456789012", NULL, "12345678901234567890123456789012", HSM_OK},
    {"123456789012345678901234567890123", NULL, NULL, HSM_ERR_MALFORMED},
    {"", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"+", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"tel:", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"++12155551212", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"1+2155551212", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"tel:1-800-FLOWERS", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"sip:12155551212", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"sip:@sp.example", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"sip:%2@sp.example", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"sip:1%002@sp.example", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"http://12155551212/", NULL, NULL, HSM_ERR_NOT_FOUND},
    {"\xef\xbc\x91", NULL, NULL, HSM_ERR_NOT_FOUND},
};

static void
numbers_lose_their_marks_and_words_are_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        char out[SKS_TN_MAX + 1] = "untouched";

        print_message("%s\n", numbers[i].in);
        assert_int_equal(sks_tn_canonical(numbers[i].in, numbers[i].plan, out), numbers[i].wanted);
        assert_string_equal(out, numbers[i].out != NULL ? numbers[i].out : "untouched");
    }
}

static void
a_text_longer_than_a_uri_may_be_is_refused(void **state)
{
    char text[SKS_TN_URI_MAX + 2];
    char out[SKS_TN_URI_MAX + 1];

    (void)state;
    memset(text, '-', sizeof(text) - 1);
    text[0] = '1';
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(sks_tn_canonical(text, NULL, out), HSM_ERR_MALFORMED);
    text[sizeof(text) - 2] = '\0';
    assert_int_equal(sks_tn_canonical(text, NULL, out), HSM_OK);
    assert_string_equal(out, "1");
    memset(text, 'a', sizeof(text) - 1);
    memcpy(text, "sip:a@", 6);
    assert_int_equal(sks_uri_canonical(text, out), HSM_ERR_MALFORMED);
}

static void
canonical_is_digits_and_two_signs_only(void **state)
{
    static const char *const good[] = {"1",    "911",         "*67",
                                       "#31#", "12155551212", "12345678901234567890123456789012"};
    static const char *const bad[] = {
        "", "+1", "1 2", "1-2", "a", "1\n", "123456789012345678901234567890123",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(sks_tn_is_canonical(good[i]));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(sks_tn_is_canonical(bad[i]));
}

/* RFC 8224 section 8.5 */
static const struct {
    const char *in, *out;
    enum hsm_status wanted;
} uris[] = {
    {"sip:alice@example.com", "sip:alice@example.com", HSM_OK},
    {"SIP:Alice@EXAMPLE.com", "sip:alice@example.com", HSM_OK},
    {"sips:alice:secret@example.com:5061;transport=tcp?subject=x", "sips:alice@example.com",
     HSM_OK},
    {"sip:%61lice@example.com", "sip:alice@example.com", HSM_OK},
    {"sip:a%2Fb@example.com", "sip:a%2fb@example.com", HSM_OK},
    {"sip:alice@[2001:DB8::1]:5060", "sip:alice@[2001:db8::1]", HSM_OK},
    {"sip:alice;x=1@example.com", "sip:alice@example.com", HSM_OK},
    {"tel:+12155551212", NULL, HSM_ERR_NOT_FOUND},
    {"sip:example.com", NULL, HSM_ERR_NOT_FOUND},
    {"sip:@example.com", NULL, HSM_ERR_MALFORMED},
    {"sip:alice@", NULL, HSM_ERR_MALFORMED},
    {"sip:alice@:5060", NULL, HSM_ERR_MALFORMED},
};

static void
a_sip_uri_is_scheme_user_and_host(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(uris); i++) {
        char out[SKS_TN_URI_MAX + 1] = "untouched";

        print_message("%s\n", uris[i].in);
        assert_int_equal(sks_uri_canonical(uris[i].in, out), uris[i].wanted);
        assert_string_equal(out, uris[i].out != NULL ? uris[i].out : "untouched");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_vector_has_its_canonical_number),
        cmocka_unit_test(numbers_lose_their_marks_and_words_are_none),
        cmocka_unit_test(a_text_longer_than_a_uri_may_be_is_refused),
        cmocka_unit_test(canonical_is_digits_and_two_signs_only),
        cmocka_unit_test(a_sip_uri_is_scheme_user_and_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
