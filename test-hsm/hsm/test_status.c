/* test_status.c - mirrors hsm/src/status.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <hsm/status.h>

static void
every_kind_has_words_of_its_own(void **state)
{
    (void)state;
    for (int a = HSM_OK; a <= HSM_ERR_IO; a++) {
        const char *text = hsm_status_text((enum hsm_status)a);

        assert_non_null(text);
        assert_string_not_equal(text, "");
        for (int b = HSM_OK; b < a; b++)
            assert_string_not_equal(text, hsm_status_text((enum hsm_status)b));
    }
}

static void
what_is_no_kind_has_words_too(void **state)
{
    (void)state;
    assert_string_equal(hsm_status_text((enum hsm_status)(HSM_ERR_IO + 1)), "unknown status");
    assert_string_equal(hsm_status_text((enum hsm_status) - 1), "unknown status");
}

static void
programs_exit_0_2_or_1(void **state)
{
    (void)state;
    assert_int_equal(hsm_status_exit(HSM_OK), 0);
    assert_int_equal(hsm_status_exit(HSM_ERR_USAGE), 2);
    assert_int_equal(hsm_status_exit(HSM_ERR_NOMEM), 1);
    assert_int_equal(hsm_status_exit(HSM_ERR_IO), 1);
}

static void
a_refusal_is_a_reason_and_its_kind(void **state)
{
    struct hsm_reason why = {"old"};

    (void)state;
    assert_int_equal(hsm_refuse(&why, HSM_ERR_MALFORMED, "JWS: %d parts", 4), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "JWS: 4 parts");
    assert_int_equal(hsm_refuse(NULL, HSM_ERR_UNTRUSTED, "nobody asks"), HSM_ERR_UNTRUSTED);
}

static void
a_reason_is_printable_whatever_the_peer_sent(void **state)
{
    struct hsm_reason why;

    (void)state;
    (void)hsm_refuse(&why, HSM_ERR_MALFORMED, "kid \"%s\"", "a\r\nb\x1b[2J\x7f\xc3\xa9");
    assert_string_equal(why.text, "kid \"a??b?[2J???\"");
}

static void
a_long_reason_is_cut(void **state)
{
    struct hsm_reason why;
    char text[2 * HSM_REASON_MAX];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)hsm_refuse(&why, HSM_ERR_MALFORMED, "%s", text);
    assert_int_equal(strlen(why.text), HSM_REASON_MAX - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_words_of_its_own),
        cmocka_unit_test(what_is_no_kind_has_words_too),
        cmocka_unit_test(programs_exit_0_2_or_1),
        cmocka_unit_test(a_refusal_is_a_reason_and_its_kind),
        cmocka_unit_test(a_reason_is_printable_whatever_the_peer_sent),
        cmocka_unit_test(a_long_reason_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
