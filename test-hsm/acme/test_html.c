/* test_html.c - mirrors acme/src/html.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "html_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BAD          "\xef\xbf\xbd"

static const struct {
    const char *value, *wanted;
} escapes[] = {
    {"plain", "plain"},
    {NULL, ""},
    {"<script>", "&lt;script&gt;"},
    {"\" onload='x' &amp;", "&quot; onload=&#39;x&#39; &amp;amp;"},
    {"line\r\n\tnext", "line\r\n\tnext"},
    {"\x01\x1b\x7f", BAD BAD BAD},
    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"\xc0\xaf", BAD BAD}, /* overlong */
    {"\xed\xa0\x80", BAD BAD BAD}, /* a surrogate */
    {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* above U+10FFFF */
    {"\xc3", BAD}, /* truncated: the following text is kept */
    {"\xe2\x82<", BAD BAD "&lt;"},
};

static void
what_is_put_in_is_escaped(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(escapes); i++) {
        struct acme_html html = {.text = NULL};
        char wanted[256];

        snprintf(wanted, sizeof(wanted), "<p title=\"%s\">", escapes[i].wanted);
        acme_html_add(&html, "<p title=\"%s\">", escapes[i].value);
        assert_false(html.failed);
        assert_string_equal(html.text, wanted);
        acme_html_clear(&html);
    }
}

static void
numbers_and_percent_signs_are_written(void **state)
{
    struct acme_html html = {.text = NULL};

    (void)state;
    acme_html_add(&html, "%lld %% ", -9223372036854775807LL);
    acme_html_add(&html, "%s", "%s");
    assert_string_equal(html.text, "-9223372036854775807 % %s");
    assert_int_equal(html.len, strlen(html.text));
    acme_html_clear(&html);
}

/* The page is invalid from then on, and nothing more is written. */
static void
a_page_that_is_too_large_fails_for_good(void **state)
{
    struct acme_html html = {.text = NULL};
    char *large = malloc(ACME_HTML_MAX + 1);

    (void)state;
    assert_non_null(large);
    memset(large, 'a', ACME_HTML_MAX);
    large[ACME_HTML_MAX] = '\0';
    acme_html_add(&html, "<p>");
    acme_html_add(&html, "%s", large + ACME_HTML_MAX / 2);
    assert_false(html.failed);
    for (int i = 0; i < 4 && !html.failed; i++)
        acme_html_add(&html, "%s", large + ACME_HTML_MAX / 2);
    assert_true(html.failed);
    acme_html_add(&html, "</p>");
    assert_true(html.failed);
    acme_html_clear(&html);
    free(large);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_in_is_escaped),
        cmocka_unit_test(numbers_and_percent_signs_are_written),
        cmocka_unit_test(a_page_that_is_too_large_fails_for_good),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
