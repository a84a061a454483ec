/* test_json.c - mirrors acme/src/json.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/json.h>

#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static json_t *
parsed(const char *text)
{
    struct hsm_reason why = {""};
    json_t *json = NULL;

    if (acme_json_parse(text, strlen(text), &json, &why) != HSM_OK)
        fail_msg("%s: %s", text, why.text);
    return json;
}

static void
refuses(const char *text, size_t len, const char *reason)
{
    struct hsm_reason why = {""};
    json_t *json = NULL;

    assert_int_equal(acme_json_parse(text, len, &json, &why), HSM_ERR_MALFORMED);
    assert_null(json);
    if (strstr(why.text, reason) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", text, why.text, reason);
}

static void
objects_parse_whatever_their_strings_hold(void **state)
{
    static const char *const good[] = {
        "{}",
        " \r\n\t{ \"a\" : [ 1 , true , null ] } \n",
        "{\"a\":\"[[[[[[[[[[{{{{{{{{{{\"}",
        "{\"a\":\"\\\"[[[[[[[[[[\\\\\",\"b\":\"\\\\\\\"{{{{{{{{{{\"}",
        "{\"a\":\"Caf\\u00e9 \\ud83d\\ude00 \xc3\xa9\"}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        json_decref(parsed(good[i]));
}

static void
what_is_no_single_object_is_refused(void **state)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "ends too early"},
        {"{", "ends too early"},
        {"{\"a\":\"b", "ends too early"},
        {"{\"a\":\"\\", "syntax error"},
        {"[]", "not an object"},
        {"\"a\"", "JSON:"},
        {"{}x", "something follows"},
        {"{}{}", "something follows"},
        {"{\"a\":1,}", "syntax error"},
        {"{a:1}", "syntax error"},
        {"{'a':1}", "syntax error"},
        {"{\"a\":01}", "syntax error"},
        {"{\"a\":+1}", "syntax error"},
        {"{\"a\":NaN}", "syntax error"},
        {"{\"a\":1 /* one */}", "syntax error"},
        {"{\"a\":\"\n\"}", "syntax error"},
        {"{\"a\":\"\\x41\"}", "syntax error"},
        {"{\"a\":1,\"a\":1}", "twice"},
        {"{\"b\":{\"a\":1,\"\\u0061\":2}}", "twice"},
        {"{\"a\":\"\\u0000\"}", "NUL"},
        {"{\"a\\u0000\":1}", "NUL"},
        {"{\"a\":\"\\ud800\"}", "syntax error"},
        {"{\"a\":\"\xc0\xaf\"}", "not UTF-8"},
        {"{\"a\":\"\xed\xa0\x80\"}", "not UTF-8"},
        {"{\"a\":\"\xff\"}", "not UTF-8"},
        {"{\"a\":9223372036854775808}", "out of range"},
        {"{\"a\":1e999}", "out of range"},
        {"\xef\xbb\xbf{}", "JSON: line 1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        refuses(bad[i].text, strlen(bad[i].text), bad[i].reason);
    refuses("{\"a\":\"b\0c\"}", 11, "JSON:");
    refuses("{}\0", 3, "something follows");
    refuses("{\n  \"a\": 1,\n  ?\n}", 17, "line 3 column");
}

static void
eight_levels_are_enough(void **state)
{
    static const char nine[] = "{\"a\":[[[[[[[[]]]]]]]]}";

    (void)state;
    json_decref(parsed("{\"a\":[[[[[[[]]]]]]],\"b\":[[[[[[[1]]]]]]]}"));
    json_decref(parsed("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}"));
    refuses(nine, strlen(nine), "nested deeper than 8 levels");
}

/* A parser that recursed before the check would crash here. */
static void
a_million_brackets_are_refused_before_they_are_parsed(void **state)
{
    size_t len = 1000000;
    char *text = malloc(len);

    (void)state;
    memset(text, '[', len);
    text[0] = '{';
    refuses(text, len, "nested deeper");
    free(text);
}

static void
reasons_do_not_quote_the_input(void **state)
{
    static const char text[] = "{\"user\":\"noc\",\"password\":\"hunter2\"hunter2}";
    struct hsm_reason why = {""};
    json_t *json = NULL;

    (void)state;
    assert_int_equal(acme_json_parse(text, strlen(text), &json, &why), HSM_ERR_MALFORMED);
    assert_null(strstr(why.text, "hunter2"));
}

static void
members_come_with_their_type(void **state)
{
    json_t *json = parsed("{\"s\":\"text\",\"i\":1768478400,\"max\":9223372036854775807,"
                          "\"t\":true,\"f\":false,\"o\":{\"x\":1},\"a\":[1,2]}");
    struct hsm_reason why;
    const char *s = NULL, *none = "old";
    int64_t i = 0, max = 0;
    bool t = false, f = true, absent = false;
    json_t *o = NULL, *a = NULL;

    (void)state;
    assert_int_equal(acme_json_string(json, "s", &s, &why), HSM_OK);
    assert_string_equal(s, "text");
    assert_int_equal(acme_json_string_optional(json, "s", &s, &why), HSM_OK);
    assert_string_equal(s, "text");
    assert_int_equal(acme_json_string_optional(json, "zz", &none, &why), HSM_OK);
    assert_null(none);
    assert_int_equal(acme_json_integer(json, "i", &i, &why), HSM_OK);
    assert_true(i == 1768478400);
    assert_int_equal(acme_json_integer(json, "max", &max, &why), HSM_OK);
    assert_true(max == INT64_MAX);
    assert_int_equal(acme_json_bool_optional(json, "t", false, &t, &why), HSM_OK);
    assert_int_equal(acme_json_bool_optional(json, "f", true, &f, &why), HSM_OK);
    assert_int_equal(acme_json_bool_optional(json, "zz", true, &absent, &why), HSM_OK);
    assert_true(t && !f && absent);
    assert_int_equal(acme_json_object(json, "o", &o, &why), HSM_OK);
    assert_int_equal(json_object_size(o), 1);
    assert_int_equal(acme_json_array(json, "a", &a, &why), HSM_OK);
    assert_int_equal(json_array_size(a), 2);
    json_decref(json);
}

static void
members_that_are_absent_or_of_another_type_are_refused(void **state)
{
    json_t *json = parsed("{\"m\":null,\"real\":1.0,\"exp\":1e3,\"neg\":-1,\"text\":\"1\"}");
    struct hsm_reason why = {""};
    const char *s = "old";
    int64_t i = 7;
    bool b = true;
    json_t *j = json;

    (void)state;
    assert_int_equal(acme_json_string(json, "zz", &s, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "zz: missing");
    assert_int_equal(acme_json_string(json, "m", &s, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "m: not a string");
    assert_int_equal(acme_json_string_optional(json, "m", &s, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_integer(json, "zz", &i, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_integer(json, "real", &i, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "real: not an integer");
    assert_int_equal(acme_json_integer(json, "exp", &i, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_integer(json, "text", &i, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_integer(json, "neg", &i, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "neg: negative");
    assert_int_equal(acme_json_bool_optional(json, "m", true, &b, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_object(json, "m", &j, &why), HSM_ERR_MALFORMED);
    assert_int_equal(acme_json_array(json, "text", &j, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "text: not an array");
    assert_string_equal(s, "old");
    assert_true(i == 7 && b && j == json);
    json_decref(json);
}

static void
canonical_form_is_that_of_rfc_8225(void **state)
{
    json_t *vectors = data_json("self/canonical_json.json"), *entry;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry)
    {
        json_t *in = parsed(json_string_value(json_object_get(entry, "in")));
        char *out = acme_json_canonical(in);

        assert_string_equal(out, json_string_value(json_object_get(entry, "out")));
        free(out);
        json_decref(in);
    }
    assert_true(i > 0);
    json_decref(vectors);
}

static void
canonical_form_sorts_by_octets_and_escapes_nothing_needless(void **state)
{
    json_t *in =
        parsed("{\"b\":\"a/b\",\"a\":1,\"B\":2,\"ab\":3,\"\xc3\xa9\":4,\"\xf0\x9f\x98\x80\":5,"
               "\"\xef\xbf\xbd\":6}");
    char *out = acme_json_canonical(in);
    char *text = acme_json_canonical(json_object_get(in, "b"));

    (void)state;
    assert_string_equal(out, "{\"B\":2,\"a\":1,\"ab\":3,\"b\":\"a/b\",\"\xc3\xa9\":4,"
                             "\"\xef\xbf\xbd\":6,\"\xf0\x9f\x98\x80\":5}");
    assert_string_equal(text, "\"a/b\""); /* RFC 9795 section 6.1: digests of single values */
    free(text);
    free(out);
    json_decref(in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_parse_whatever_their_strings_hold),
        cmocka_unit_test(what_is_no_single_object_is_refused),
        cmocka_unit_test(eight_levels_are_enough),
        cmocka_unit_test(a_million_brackets_are_refused_before_they_are_parsed),
        cmocka_unit_test(reasons_do_not_quote_the_input),
        cmocka_unit_test(members_come_with_their_type),
        cmocka_unit_test(members_that_are_absent_or_of_another_type_are_refused),
        cmocka_unit_test(canonical_form_is_that_of_rfc_8225),
        cmocka_unit_test(canonical_form_sorts_by_octets_and_escapes_nothing_needless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
