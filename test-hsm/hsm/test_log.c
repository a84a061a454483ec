/* test_log.c - mirrors hsm/src/log.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include <hsm/log.h>

#define LINE_SIZE 8192

static int saved_stderr;
static int reading_end;

/* Replace standard error by a pipe; captured() restores it and returns what was written. */
static void
capture(enum hsm_log_format format, enum hsm_log_level level)
{
    static struct hsm_log_config config;
    int ends[2];

    config = (struct hsm_log_config){"tester", format, level};
    hsm_log_open(&config);
    assert_int_equal(pipe(ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    reading_end = ends[0];
}

/* A single read(), which returns what one write() wrote. */
static size_t
captured(char *out)
{
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    n = read(reading_end, out, LINE_SIZE - 1);
    close(reading_end);
    assert_true(n >= 0);
    out[n] = '\0';
    return (size_t)n;
}

/* Skip a time in the form of "2026-01-15T12:00:00Z". */
static const char *
after_time(const char *line)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";

    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == 'd')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], shape[i]);
    }
    return line + sizeof(shape) - 1;
}

static void
text_has_time_program_level_and_message(void **state)
{
    char line[LINE_SIZE];

    (void)state;
    capture(HSM_LOG_TEXT, HSM_LOG_INFO);
    hsm_log(HSM_LOG_ERROR, "order %d: %s", 17, "refused");
    captured(line);
    assert_string_equal(after_time(line), " tester: error: order 17: refused\n");
}

static void
what_was_told_before_is_for_debugging(void **state)
{
    char line[LINE_SIZE];

    (void)state;
    capture(HSM_LOG_TEXT, HSM_LOG_INFO);
    hsm_log_repeats(true);
    hsm_log(HSM_LOG_ERROR, "again");
    hsm_log_repeats(false);
    hsm_log(HSM_LOG_INFO, "something else");
    captured(line);
    assert_string_equal(after_time(line), " tester: info: something else\n");
    capture(HSM_LOG_TEXT, HSM_LOG_DEBUG);
    hsm_log_repeats(true);
    hsm_log(HSM_LOG_ERROR, "again");
    hsm_log_repeats(false);
    captured(line);
    assert_string_equal(after_time(line), " tester: debug: again\n");
}

static void
text_escapes_controls_and_keeps_utf8(void **state)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {
        {"a\nb", "a\\x0ab"},
        {"\x1b[2J", "\\x1b[2J"},
        {"\x7f", "\\x7f"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x94\x91", "\xf0\x9f\x94\x91"},
        {"\xc2\x9b"
         "2J",
         "\\xc2\\x9b"
         "2J"}, /* CSI as a C1 control */
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"}, /* RIGHT-TO-LEFT OVERRIDE */
        {"\xff", "\\xff"},
        {"\xc0\xaf", "\\xc0\\xaf"}, /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"}, /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xe2\x82", "\\xe2\\x82"},
        {"say \"x\"", "say \"x\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[LINE_SIZE];
        char expected[128];

        capture(HSM_LOG_TEXT, HSM_LOG_INFO);
        hsm_log(HSM_LOG_INFO, "%s", rows[i].in);
        captured(line);
        snprintf(expected, sizeof(expected), " tester: info: %s\n", rows[i].out);
        assert_string_equal(after_time(line), expected);
    }
}

/* RFC 7512 section 2.3. Our code never passes such a URI on. */
static void
a_pin_in_a_uri_is_left_out(void **state)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {
        {"token pkcs11:token=a?pin-value=48291736: not open",
         "token pkcs11:token=a?pin-value=(hidden) not open"},
        {"pkcs11:token=a?pin-value=4829%2017&module-name=b c",
         "pkcs11:token=a?pin-value=(hidden)&module-name=b c"},
        {"pkcs11:?PIN-Value=48291736", "pkcs11:?pin-value=(hidden)"},
        {"pin-value=", "pin-value=(hidden)"},
        {"has a pin-value: use pin-source=file:/p", "has a pin-value: use pin-source=file:/p"},
        {"ping pin-valued=1", "ping pin-valued=1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[LINE_SIZE];
        char expected[128];

        capture(HSM_LOG_TEXT, HSM_LOG_INFO);
        hsm_log(HSM_LOG_INFO, "%s", rows[i].in);
        captured(line);
        snprintf(expected, sizeof(expected), " tester: info: %s\n", rows[i].out);
        assert_string_equal(after_time(line), expected);
    }
}

static json_t *
json_line_of(const char *message)
{
    char line[LINE_SIZE];
    json_error_t error;
    json_t *json;
    size_t len;

    capture(HSM_LOG_JSON, HSM_LOG_DEBUG);
    hsm_log(HSM_LOG_WARNING, "%s", message);
    len = captured(line);
    assert_int_equal(line[len - 1], '\n');
    assert_null(memchr(line, '\n', len - 1));
    json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(json);
    return json;
}

static const char *
member(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));

    assert_non_null(value);
    return value;
}

static void
json_has_the_four_members(void **state)
{
    json_t *json = json_line_of("hello");

    (void)state;
    assert_int_equal(json_object_size(json), 4);
    assert_string_equal(after_time(member(json, "time")), "");
    assert_string_equal(member(json, "level"), "warning");
    assert_string_equal(member(json, "program"), "tester");
    assert_string_equal(member(json, "message"), "hello");
    json_decref(json);
}

static void
json_survives_any_message(void **state)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {
        {"\",\"level\":\"x", "\",\"level\":\"x"},
        {"back\\slash", "back\\slash"},
        {"a\r\n\tb\x01", "a\r\n\tb\x01"},
        {"\xc3\xa9\xe2\x82\xac", "\xc3\xa9\xe2\x82\xac"},
        {"x\xffy", "x\xef\xbf\xbdy"},
        {"\x7f", "\x7f"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *json = json_line_of(rows[i].in);

        assert_string_equal(member(json, "message"), rows[i].out);
        json_decref(json);
    }
}

static void
a_long_message_is_cut_and_its_line_ends(void **state)
{
    char message[6000];
    json_t *json;

    (void)state;
    memset(message, '\x01', sizeof(message) - 1); /* each is six characters in JSON */
    message[sizeof(message) - 1] = '\0';
    json = json_line_of(message);
    assert_in_range(strlen(member(json, "message")), 600, 700); /* out of a line of 4096 octets */
    json_decref(json);
}

static void
fields_are_members_in_json_and_left_out_of_text(void **state)
{
    char huge[6000];
    const struct hsm_log_field fields[] = {
        {"route", "/a\"b", false}, {"status", "200", true}, {"huge", huge, false},
        {"client", NULL, false},   {"ms", "1.5", true},
    };
    char line[LINE_SIZE];
    json_t *json;

    (void)state;
    memset(huge, 'x', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    capture(HSM_LOG_JSON, HSM_LOG_INFO);
    hsm_log_event(HSM_LOG_INFO, fields, 5, "GET %s", "/a");
    captured(line);
    json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_string_equal(member(json, "route"), "/a\"b");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 200);
    assert_true(json_is_real(json_object_get(json, "ms")));
    assert_string_equal(member(json, "message"), "GET /a");
    /* Members that are absent or do not fit are omitted. */
    assert_int_equal(json_object_size(json), 7);
    json_decref(json);
    capture(HSM_LOG_TEXT, HSM_LOG_INFO);
    assert_true(hsm_log_is_on(HSM_LOG_INFO));
    assert_false(hsm_log_is_on(HSM_LOG_DEBUG));
    hsm_log_event(HSM_LOG_DEBUG, fields, 5, "dropped");
    hsm_log_event(HSM_LOG_INFO, fields, 5, "GET %s", "/a");
    captured(line);
    assert_string_equal(after_time(line), " tester: info: GET /a\n");
}

static void
less_important_lines_are_dropped(void **state)
{
    char line[LINE_SIZE];

    (void)state;
    capture(HSM_LOG_TEXT, HSM_LOG_WARNING);
    hsm_log(HSM_LOG_DEBUG, "dropped");
    hsm_log(HSM_LOG_INFO, "dropped");
    hsm_log(HSM_LOG_WARNING, "kept");
    captured(line);
    assert_string_equal(after_time(line), " tester: warning: kept\n");
}

static void
logging_keeps_errno(void **state)
{
    char line[LINE_SIZE];

    (void)state;
    capture(HSM_LOG_TEXT, HSM_LOG_INFO);
    errno = ENOTDIR;
    hsm_log(HSM_LOG_ERROR, "x");
    assert_int_equal(errno, ENOTDIR);
    captured(line);
}

static void
words_of_levels_and_formats_are_parsed(void **state)
{
    enum hsm_log_level level = HSM_LOG_DEBUG;
    enum hsm_log_format format = HSM_LOG_JSON;

    (void)state;
    assert_int_equal(hsm_log_level_parse("error", &level), HSM_OK);
    assert_int_equal(level, HSM_LOG_ERROR);
    assert_int_equal(hsm_log_level_parse("debug", &level), HSM_OK);
    assert_int_equal(level, HSM_LOG_DEBUG);
    assert_int_equal(hsm_log_level_parse("Error", &level), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_log_level_parse("", &level), HSM_ERR_MALFORMED);
    assert_int_equal(level, HSM_LOG_DEBUG);
    assert_int_equal(hsm_log_format_parse("text", &format), HSM_OK);
    assert_int_equal(format, HSM_LOG_TEXT);
    assert_int_equal(hsm_log_format_parse("json", &format), HSM_OK);
    assert_int_equal(format, HSM_LOG_JSON);
    assert_int_equal(hsm_log_format_parse("xml", &format), HSM_ERR_MALFORMED);
    assert_int_equal(format, HSM_LOG_JSON);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_time_program_level_and_message),
        cmocka_unit_test(what_was_told_before_is_for_debugging),
        cmocka_unit_test(text_escapes_controls_and_keeps_utf8),
        cmocka_unit_test(a_pin_in_a_uri_is_left_out),
        cmocka_unit_test(json_has_the_four_members),
        cmocka_unit_test(json_survives_any_message),
        cmocka_unit_test(a_long_message_is_cut_and_its_line_ends),
        cmocka_unit_test(fields_are_members_in_json_and_left_out_of_text),
        cmocka_unit_test(less_important_lines_are_dropped),
        cmocka_unit_test(logging_keeps_errno),
        cmocka_unit_test(words_of_levels_and_formats_are_parsed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
