/* test_text.c - mirrors hsm/src/text.c and utf8.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hsm/text.h>

static const struct {
    const char *text, *put; /* put NULL: unchanged */
} rows[] = {
    {"", NULL},
    {"account 17: \\x9b", NULL},
    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\x91", NULL},
    {"\xe2\x80\x8d", NULL}, /* a joiner is allowed in words */
    {"\xe2\x80\xa7", NULL}, /* U+2027, just before the line separator */
    {"\xe2\x81\xa5", NULL},
    {"\xd8\x9b", NULL},
    {"a\nb", "a\\x0ab"},
    {"\x1b[2K", "\\x1b[2K"},
    {"\x7f", "\\x7f"},
    {"\xc2\x9b"
     "2K",
     "\\xc2\\x9b2K"}, /* CSI */
    {"\xff", "\\xff"},
    {"\xe2\x82", "\\xe2\\x82"},
    {"\xd8\x9c", "\\xd8\\x9c"}, /* U+061C */
    {"\xe2\x80\x8e", "\\xe2\\x80\\x8e"},
    {"\xe2\x80\x8f", "\\xe2\\x80\\x8f"},
    {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"}, /* LINE SEPARATOR */
    {"\xe2\x80\xae", "\\xe2\\x80\\xae"}, /* RIGHT-TO-LEFT OVERRIDE */
    {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"},
    {"\xe2\x81\xa9", "\\xe2\\x81\\xa9"},
};

static void
what_would_drive_a_terminal_is_not_plain_and_is_written_as_octets(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *put = NULL;
        size_t len = 0;
        FILE *to = open_memstream(&put, &len);

        assert_int_equal(hsm_text_is_plain(rows[i].text), rows[i].put == NULL);
        hsm_text_put(rows[i].text, to);
        fclose(to);
        assert_string_equal(put, rows[i].put != NULL ? rows[i].put : rows[i].text);
        free(put);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_drive_a_terminal_is_not_plain_and_is_written_as_octets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
