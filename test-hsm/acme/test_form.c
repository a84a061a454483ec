/* test_form.c - mirrors acme/src/form.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "form_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FIELDS                                                                                     \
    {                                                                                              \
        {.name = "csr", .max = 8},                                                                 \
        {                                                                                          \
            .name = "token", .max = 4                                                              \
        }                                                                                          \
    }

static const struct {
    const char *body, *csr, *token; /* NULL: absent */
} good[] = {
    {"", NULL, NULL},
    {"csr=", "", NULL},
    {"csr=a&token=b", "a", "b"},
    {"token=b&csr=a+b%2B%26%3D%0D%0a", "a b+&=\r\n", "b"},
    {"csr=12345678&token=1234", "12345678", "1234"},
    {"csr=a=b", "a=b", NULL},
    {"csr=%c3%a9", "\xc3\xa9", NULL},
};

static const struct {
    const char *body, *why;
} bad[] = {
    {"csr", "a field that the form does not have"},
    {"=a", "a field that the form does not have"},
    {"csr=a&csr=b", "csr: sent twice"},
    {"csr=a&other=b", "a field that the form does not have"},
    {"%63sr=a", "a field that the form does not have"},
    {"csr=123456789", "csr: more than 8 octets"},
    {"token=%31%32%33%34%35", "token: more than 4 octets"},
    {"csr=%", "csr: not form-encoded"},
    {"csr=%4", "csr: not form-encoded"},
    {"csr=%4&token=b", "csr: not form-encoded"},
    {"csr=%zz", "csr: not form-encoded"},
    {"csr=%00", "csr: not form-encoded"},
    {"token=a&csr=%00", "csr: not form-encoded"},
    {"&csr=a", "a field that the form does not have"},
};

static void
assert_value(const char *value, const char *wanted)
{
    if (wanted == NULL)
        assert_null(value);
    else
        assert_string_equal(value, wanted);
}

static void
fields_are_decoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct acme_form_field fields[] = FIELDS;
        struct hsm_reason why = {""};

        assert_int_equal(acme_form_parse(good[i].body, strlen(good[i].body), fields, 2, &why),
                         HSM_OK);
        assert_value(fields[0].value, good[i].csr);
        assert_value(fields[1].value, good[i].token);
        acme_form_clear(fields, 2);
        assert_null(fields[0].value);
    }
}

static void
bodies_that_are_not_of_the_form_are_refused_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct acme_form_field fields[] = FIELDS;
        struct hsm_reason why = {""};

        assert_int_equal(acme_form_parse(bad[i].body, strlen(bad[i].body), fields, 2, &why),
                         HSM_ERR_MALFORMED);
        assert_string_equal(why.text, bad[i].why);
        assert_null(fields[0].value);
        assert_null(fields[1].value);
    }
}

/* A literal NUL octet. */
static void
a_nul_ends_no_value_early(void **state)
{
    struct acme_form_field fields[] = FIELDS;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_form_parse("csr=a\0b", 7, fields, 2, &why), HSM_ERR_MALFORMED);
}

/* RFC 6749 section 3.2. */
static void
a_protocol_may_ignore_other_fields(void **state)
{
    static const char *const ignored[] = {"other=1&csr=a", "csr=a&other", "other=%zz&&csr=a&=b"};
    struct hsm_reason why = {""};

    (void)state;
    for (size_t i = 0; i < COUNT(ignored); i++) {
        struct acme_form_field fields[] = FIELDS;

        assert_int_equal(acme_form_pick(ignored[i], strlen(ignored[i]), fields, 2, &why), HSM_OK);
        assert_value(fields[0].value, "a");
        assert_value(fields[1].value, NULL);
        acme_form_clear(fields, 2);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct acme_form_field fields[] = FIELDS;

        if (strcmp(bad[i].why, "a field that the form does not have") != 0)
            assert_int_equal(acme_form_pick(bad[i].body, strlen(bad[i].body), fields, 2, &why),
                             HSM_ERR_MALFORMED);
    }
}

static void
a_single_value_is_decoded_in_place(void **state)
{
    char good_value[] = "a+b%2B%25c";
    char *const bad_values[] = {(char[]){"%"}, (char[]){"a%4"}, (char[]){"%zz"}, (char[]){"%00"}};

    (void)state;
    assert_true(acme_form_decode(good_value));
    assert_string_equal(good_value, "a b+%c");
    for (size_t i = 0; i < COUNT(bad_values); i++)
        assert_false(acme_form_decode(bad_values[i]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_decoded),
        cmocka_unit_test(bodies_that_are_not_of_the_form_are_refused_whole),
        cmocka_unit_test(a_nul_ends_no_value_early),
        cmocka_unit_test(a_protocol_may_ignore_other_fields),
        cmocka_unit_test(a_single_value_is_decoded_in_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
