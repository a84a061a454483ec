/* test_html.c - mirrors hsm/src/html.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <hsm/html.h>

#define REPLACED "\xef\xbf\xbd" /* U+FFFD */

static void
every_character_is_harmless_where_it_is_put(void **state)
{
    static const struct {
        const char *text, *html;
        size_t taken;
    } rows[] = {
        {"a<", "a", 1},
        {"&amp;", "&amp;", 1},
        {"<script>", "&lt;", 1},
        {">", "&gt;", 1},
        {"\"", "&quot;", 1},
        {"'", "&#39;", 1},
        {"\n", "\n", 1},
        {"\t", "\t", 1},
        {"\x01", REPLACED, 1},
        {"\x1b[0m", REPLACED, 1},
        {"\x7f", REPLACED, 1},
        {"\xc2\x9b", REPLACED, 1}, /* a C1 control */
        {"\xe2\x80\xae", REPLACED, 1}, /* RIGHT-TO-LEFT OVERRIDE */
        {"\xc3\xa9t", "\xc3\xa9", 2},
        {"\xe2\x82\xac", "\xe2\x82\xac", 3},
        {"\xf0\x9f\x94\x91", "\xf0\x9f\x94\x91", 4},
        {"\xc3<", REPLACED, 1}, /* the following octet is kept */
        {"\xc0\xbc", REPLACED, 1}, /* '<' in two octets */
        {"\xed\xa0\x80", REPLACED, 1}, /* a surrogate */
        {"\xf4\x90\x80\x80", REPLACED, 1}, /* above U+10FFFF */
        {"\xff", REPLACED, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *out = NULL;
        size_t len = 0;

        assert_int_equal(hsm_html_character(rows[i].text, &out, &len), rows[i].taken);
        assert_int_equal(len, strlen(rows[i].html));
        assert_memory_equal(out, rows[i].html, len);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_harmless_where_it_is_put),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
