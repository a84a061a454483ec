/* test_time.c - mirrors hsm/src/time.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hsm/time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WHEN         1768478400 /* date -u -d 2026-01-15T12:00:00Z +%s */

static void
a_time_has_a_text_a_day_and_a_stamp(void **state)
{
    static const struct {
        time_t t;
        const char *text, *day, *stamp;
    } rows[] = {
        {0, "1970-01-01T00:00:00Z", "1970-01-01", "19700101T000000Z"},
        {WHEN, "2026-01-15T12:00:00Z", "2026-01-15", "20260115T120000Z"},
        {951782399, "2000-02-28T23:59:59Z", "2000-02-28", "20000228T235959Z"},
        {253402300799, "9999-12-31T23:59:59Z", "9999-12-31", "99991231T235959Z"},
        {253402300800, "", "", ""}, /* a year of five digits */
        {INT64_MAX, "", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[HSM_TIME_LEN + 1], day[HSM_TIME_DAY_LEN + 1], stamp[HSM_TIME_STAMP_LEN + 1];

        hsm_time_format(rows[i].t, text);
        hsm_time_day(rows[i].t, day);
        hsm_time_stamp(rows[i].t, stamp);
        assert_string_equal(text, rows[i].text);
        assert_string_equal(day, rows[i].day);
        assert_string_equal(stamp, rows[i].stamp);
    }
}

/* Includes the examples of RFC 3339 section 5.8. */
static void
a_text_of_rfc_3339_is_a_time(void **state)
{
    static const struct {
        const char *text;
        time_t t;
    } rows[] = {
        {"2026-01-15T12:00:00Z", WHEN},           {"2026-01-15t12:00:00z", WHEN},
        {"2026-01-15T12:00:00.999Z", WHEN},       {"2026-01-15T14:30:00+02:30", WHEN},
        {"2026-01-15T11:00:00-01:00", WHEN},      {"1985-04-12T23:20:50.52Z", 482196050},
        {"1996-12-19T16:39:57-08:00", 851042397}, {"1990-12-31T23:59:60Z", 662688000},
        {"2024-02-29T00:00:00Z", 1709164800},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        time_t t = 1;

        assert_int_equal(hsm_time_parse(rows[i].text, &t), HSM_OK);
        assert_int_equal(t, rows[i].t);
    }
}

static void
what_is_none_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "2026-01-15",
        "2026-01-15T12:00:00",
        "2026-01-15 12:00:00Z",
        "2026-01-15T12:00Z",
        "2026-1-15T12:00:00Z",
        "2026-13-15T12:00:00Z",
        "2026-04-31T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "2026-01-15T24:00:00Z",
        "2026-01-15T12:60:00Z",
        "2026-01-15T12:00:61Z",
        "2026-01-15T12:00:00.Z",
        "2026-01-15T12:00:00+0100",
        "2026-01-15T12:00:00+24:00",
        "2026-01-15T12:00:00Zz",
        "1969-12-31T23:59:59Z",
        "12026-01-15T12:00:00Z",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        time_t t = 1;

        if (hsm_time_parse(texts[i], &t) != HSM_ERR_MALFORMED || t != 1)
            fail_msg("%s", texts[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_has_a_text_a_day_and_a_stamp),
        cmocka_unit_test(a_text_of_rfc_3339_is_a_time),
        cmocka_unit_test(what_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
