/* log.c - one line, one write(), to stderr. */
#include <hsm/log.h>
#include <hsm/time.h>

#include "utf8_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX     2048 /* octets before escaping; longer messages are cut */
#define LINE_MAX_OCTETS 4096 /* PIPE_BUF of Linux: one write() to a pipe is not torn */

static const char *const level_words[] = {
    [HSM_LOG_ERROR] = "error",
    [HSM_LOG_WARNING] = "warning",
    [HSM_LOG_INFO] = "info",
    [HSM_LOG_DEBUG] = "debug",
};

static const char *const format_words[] = {
    [HSM_LOG_TEXT] = "text",
    [HSM_LOG_JSON] = "json",
};

/* The only global of the libraries: main() sets it before threads start. */
static struct hsm_log_config sink = {NULL, HSM_LOG_TEXT, HSM_LOG_INFO};

/* A line under construction; a part that does not fit before `limit` is dropped whole. */
struct line {
    char text[LINE_MAX_OCTETS];
    size_t len;
    size_t limit;
};

static bool
line_add(struct line *line, const char *octets, size_t len)
{
    if (len > line->limit - line->len)
        return false;
    memcpy(line->text + line->len, octets, len);
    line->len += len;
    return true;
}

static bool
line_puts(struct line *line, const char *text)
{
    return line_add(line, text, strlen(text));
}

/* RFC 8259 section 7; an octet that is not UTF-8 becomes U+FFFD. */
static void
json_escape(unsigned char octet, char *out, size_t size)
{
    if (octet == '"' || octet == '\\')
        snprintf(out, size, "\\%c", octet);
    else if (octet >= 0x80)
        snprintf(out, size, "\\ufffd");
    else
        snprintf(out, size, "\\u%04x", octet);
}

static bool
needs_escape(unsigned char octet, enum hsm_log_format format)
{
    if (octet < 0x20 || octet == 0x7f)
        return true;
    return format == HSM_LOG_JSON && (octet == '"' || octet == '\\');
}

/* Length of the value of a pin-value (RFC 7512 section 2.3), which is a PIN in whatever text it
 * appears; the text from the next blank or attribute on is kept. 0: there is no pin-value here. */
static size_t
pin_value_len(const char *text)
{
    static const char name[] = "pin-value=";
    const size_t len = sizeof(name) - 1;

    if ((*text != 'p' && *text != 'P') || strncasecmp(text, name, len) != 0)
        return 0;
    return len + strcspn(text + len, " &");
}

static bool
line_escaped(struct line *line, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    char escape[8];

    while (*s != '\0') {
        size_t pin = pin_value_len((const char *)s);

        if (pin > 0) {
            if (!line_puts(line, "pin-value=(hidden)"))
                return false;
            s += pin;
            continue;
        }
        size_t n = hsm_utf8_len((const char *)s);

        if (n > 0 && !needs_escape(*s, sink.format)) {
            if (!line_add(line, (const char *)s, n))
                return false;
            s += n;
            continue;
        }
        if (sink.format == HSM_LOG_JSON)
            json_escape(*s, escape, sizeof(escape));
        else
            snprintf(escape, sizeof(escape), "\\x%02x", *s);
        if (!line_puts(line, escape))
            return false;
        s++;
    }
    return true;
}

/* ,"name":"value": whole or not at all. */
static void
line_field(struct line *line, const struct hsm_log_field *field)
{
    const char *quote = field->is_number ? "" : "\"";
    size_t before = line->len;

    if (field->value == NULL)
        return;
    if (!line_puts(line, ",\"") || !line_puts(line, field->name) || !line_puts(line, "\":") ||
        !line_puts(line, quote) || !line_escaped(line, field->value) || !line_puts(line, quote))
        line->len = before;
}

static void
line_format(struct line *line, enum hsm_log_level level, const struct hsm_log_field *fields,
            size_t count, const char *message)
{
    static const char json_end[] = "\"}\n";
    bool json = sink.format == HSM_LOG_JSON;
    const char *program = sink.program != NULL ? sink.program : "sti";
    char time_text[HSM_TIME_LEN + 1];

    hsm_time_format(time(NULL), time_text);
    line->len = 0;
    line->limit = sizeof(line->text) - sizeof(json_end); /* there is always room for the end */
    line_puts(line, json ? "{\"time\":\"" : "");
    line_puts(line, time_text);
    line_puts(line, json ? "\",\"level\":\"" : " ");
    if (json)
        line_puts(line, level_words[level]);
    line_puts(line, json ? "\",\"program\":\"" : "");
    line_escaped(line, program);
    line_puts(line, json ? "\"" : ": ");
    for (size_t i = 0; json && i < count; i++)
        line_field(line, &fields[i]);
    line_puts(line, json ? ",\"message\":\"" : "");
    if (!json) {
        line_puts(line, level_words[level]);
        line_puts(line, ": ");
    }
    line_escaped(line, message);
    line->limit = sizeof(line->text);
    line_puts(line, json ? json_end : "\n");
}

static void
line_write(const struct line *line)
{
    ssize_t n;

    do
        n = write(STDERR_FILENO, line->text, line->len);
    while (n < 0 && errno == EINTR);
}

void
hsm_log_open(const struct hsm_log_config *config)
{
    sink = *config;
}

static _Thread_local bool is_repetition;

void
hsm_log_repeats(bool repeats)
{
    is_repetition = repeats;
}

bool
hsm_log_is_on(enum hsm_log_level level)
{
    return (is_repetition ? HSM_LOG_DEBUG : level) <= sink.level;
}

HSM_PRINTF(4, 0)
static void
log_line(enum hsm_log_level level, const struct hsm_log_field *fields, size_t count,
         const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    int saved_errno = errno;
    struct line line;

    if (!hsm_log_is_on(level))
        return;
    if (is_repetition)
        level = HSM_LOG_DEBUG;
    if (vsnprintf(message, sizeof(message), format, args) >= 0) {
        line_format(&line, level, fields, count, message);
        line_write(&line);
    }
    errno = saved_errno;
}

void
hsm_log(enum hsm_log_level level, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(level, NULL, 0, format, args);
    va_end(args);
}

void
hsm_log_event(enum hsm_log_level level, const struct hsm_log_field *fields, size_t count,
              const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_line(level, fields, count, format, args);
    va_end(args);
}

enum hsm_status
hsm_log_level_parse(const char *word, enum hsm_log_level *out)
{
    for (size_t i = 0; i < sizeof(level_words) / sizeof(level_words[0]); i++) {
        if (strcmp(word, level_words[i]) == 0) {
            *out = (enum hsm_log_level)i;
            return HSM_OK;
        }
    }
    return HSM_ERR_MALFORMED;
}

enum hsm_status
hsm_log_format_parse(const char *word, enum hsm_log_format *out)
{
    for (size_t i = 0; i < sizeof(format_words) / sizeof(format_words[0]); i++) {
        if (strcmp(word, format_words[i]) == 0) {
            *out = (enum hsm_log_format)i;
            return HSM_OK;
        }
    }
    return HSM_ERR_MALFORMED;
}
