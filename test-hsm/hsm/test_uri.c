/* test_uri.c - mirrors hsm/src/uri.c; RFC 7512 section 3 and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hsm/uri.h>

#include "data.h"

#define LABEL_32 "12345678901234567890123456789012" /* the longest label of a token */

static void
assert_id(const struct hsm_uri *uri, const char *hex)
{
    uint8_t expected[HSM_ID_MAX];
    size_t expected_len = data_unhex(hex, expected, sizeof(expected));
    size_t len = 0;
    const uint8_t *id = hsm_uri_id(uri, &len);

    assert_non_null(id);
    assert_int_equal(len, expected_len);
    assert_memory_equal(id, expected, len);
}

static void
assert_attributes(const struct hsm_uri *uri, json_t *expected)
{
    const char *name;
    json_t *value;

    json_object_foreach(expected, name, value)
    {
        if (strcmp(name, "id") == 0)
            assert_id(uri, json_string_value(value));
        else
            assert_string_equal(hsm_uri_get(uri, name), json_string_value(value));
    }
}

static void
examples_of_the_rfc_parse(void **state)
{
    json_t *vectors = data_json("rfc/rfc7512_uris.json");
    json_t *positives = json_object_get(vectors, "positive");
    size_t i;
    json_t *row;

    (void)state;
    assert_int_equal(json_array_size(positives), 13);
    json_array_foreach(positives, i, row)
    {
        json_t *parsed = json_object_get(row, "parsed");
        struct hsm_uri *uri = NULL;

        assert_int_equal(hsm_uri_parse(json_string_value(json_object_get(row, "uri")), &uri, NULL),
                         HSM_OK);
        assert_attributes(uri, json_object_get(parsed, "path"));
        assert_attributes(uri, json_object_get(parsed, "query"));
        hsm_uri_free(uri);
    }
    json_decref(vectors);
}

static void
negatives_of_the_vectors_are_refused(void **state)
{
    json_t *vectors = data_json("rfc/rfc7512_uris.json");
    json_t *negatives = json_object_get(vectors, "negative");
    size_t i;
    json_t *row;

    (void)state;
    assert_int_equal(json_array_size(negatives), 9);
    json_array_foreach(negatives, i, row)
    {
        const char *text = json_string_value(json_object_get(row, "uri"));
        struct hsm_uri *uri = NULL;
        struct hsm_reason why = {""};

        if (hsm_uri_parse(text, &uri, &why) != HSM_ERR_MALFORMED)
            fail_msg("%s: accepted", text);
        assert_string_not_equal(why.text, "");
        assert_null(uri);
    }
    json_decref(vectors);
}

static void
more_malformed_uris_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "pkcs11",
        "token=a",
        "pkcs11:token",
        "pkcs11:=a",
        "pkcs11:;",
        "pkcs11:token=a;",
        "pkcs11:token=a;;object=b",
        "pkcs11:tok%65n=a",
        "pkcs11:token=%",
        "pkcs11:token=%4",
        "pkcs11:token=a%00b",
        "pkcs11:token=\xc3\xa9",
        "pkcs11:token=a#b",
        "pkcs11:token=a/b",
        "pkcs11:id=%01;id=%02",
        "pkcs11:slot-id=",
        "pkcs11:slot-id=-1",
        "pkcs11:library-version=.1",
        "pkcs11:library-version=1.",
        "pkcs11:object=k?pin-source=file:/a&pin-source=file:/b",
        "pkcs11:object=k?module-path=/a&module-path=/b",
        "pkcs11:object=k?module-path=",
        "pkcs11:object=k?pin-source",
        "pkcs11:pin-value=1234", /* a query attribute in the path */
        "pkcs11:?token=a", /* a path attribute in the query */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_uri *uri = NULL;
        struct hsm_reason why = {""};

        if (hsm_uri_parse(rows[i], &uri, &why) != HSM_ERR_MALFORMED)
            fail_msg("%s: accepted", rows[i]);
        assert_string_not_equal(why.text, "");
        assert_null(uri);
    }
}

static void
sizes_are_bounded(void **state)
{
    char text[HSM_URI_MAX + 64];
    struct hsm_uri *uri = NULL;
    int n = snprintf(text, sizeof(text), "pkcs11:object=");

    (void)state;
    memset(text + n, 'x', (size_t)HSM_URI_MAX - (size_t)n);
    text[HSM_URI_MAX] = '\0';
    assert_int_equal(hsm_uri_parse(text, &uri, NULL), HSM_OK);
    hsm_uri_free(uri);
    uri = NULL;
    text[HSM_URI_MAX] = 'x';
    text[HSM_URI_MAX + 1] = '\0';
    assert_int_equal(hsm_uri_parse(text, &uri, NULL), HSM_ERR_MALFORMED);

    n = snprintf(text, sizeof(text), "pkcs11:id=");
    for (int i = 0; i <= HSM_ID_MAX; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%%%02x", i);
    assert_int_equal(hsm_uri_parse(text, &uri, NULL), HSM_ERR_MALFORMED);
    text[n - 3] = '\0';
    assert_int_equal(hsm_uri_parse(text, &uri, NULL), HSM_OK);
    hsm_uri_free(uri);
}

static void
too_many_attributes_are_refused(void **state)
{
    char text[HSM_URI_MAX];
    struct hsm_uri *uri = NULL;
    int n = snprintf(text, sizeof(text), "pkcs11:x0=y");

    (void)state;
    for (int i = 1; i < 40; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ";x%d=y", i);
    assert_int_equal(hsm_uri_parse(text, &uri, NULL), HSM_ERR_MALFORMED);
    assert_null(uri);
}

static void
unknown_path_attributes_match_nothing_and_unknown_query_ones_are_ignored(void **state)
{
    struct hsm_uri *uri = NULL;

    (void)state;
    assert_int_equal(hsm_uri_parse("pkcs11:token=a;x-pool=b", &uri, NULL), HSM_OK);
    assert_true(hsm_uri_matches_nothing(uri));
    hsm_uri_free(uri);
    assert_int_equal(hsm_uri_parse("pkcs11:token=" LABEL_32 "3", &uri, NULL), HSM_OK);
    assert_true(hsm_uri_matches_nothing(uri));
    hsm_uri_free(uri);
    assert_int_equal(hsm_uri_parse("pkcs11:token=" LABEL_32, &uri, NULL), HSM_OK);
    assert_false(hsm_uri_matches_nothing(uri));
    hsm_uri_free(uri);
    assert_int_equal(hsm_uri_parse("pkcs11:token=a?x-pool=b&x-pool=c", &uri, NULL), HSM_OK);
    assert_false(hsm_uri_matches_nothing(uri));
    hsm_uri_free(uri);
}

static void
absent_and_empty_attributes_differ(void **state)
{
    struct hsm_uri *uri = NULL;
    size_t len = 7;

    (void)state;
    assert_int_equal(hsm_uri_parse("PKCS11:serial=", &uri, NULL), HSM_OK);
    assert_string_equal(hsm_uri_get(uri, "serial"), "");
    assert_null(hsm_uri_get(uri, "token"));
    assert_null(hsm_uri_get(uri, "id"));
    assert_null(hsm_uri_id(uri, &len));
    assert_int_equal(len, 0);
    hsm_uri_free(uri);
    hsm_uri_free(NULL);
}

static void
a_reason_never_shows_a_value(void **state)
{
    static const char *const rows[] = {
        "pkcs11:token=a?pin-value=s3cret&pin-source=file:/x",
        "pkcs11:token=a?pin-value=s3cret&pin-value=s3cret",
        "pkcs11:token=a?pin-value=s3cret#",
        "pkcs11:token=a;pin-value=s3cret",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_uri *uri = NULL;
        struct hsm_reason why = {""};

        assert_int_equal(hsm_uri_parse(rows[i], &uri, &why), HSM_ERR_MALFORMED);
        assert_null(strstr(why.text, "s3cret"));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_rfc_parse),
        cmocka_unit_test(negatives_of_the_vectors_are_refused),
        cmocka_unit_test(more_malformed_uris_are_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(too_many_attributes_are_refused),
        cmocka_unit_test(unknown_path_attributes_match_nothing_and_unknown_query_ones_are_ignored),
        cmocka_unit_test(absent_and_empty_attributes_differ),
        cmocka_unit_test(a_reason_never_shows_a_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
