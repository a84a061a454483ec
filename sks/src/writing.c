/* writing.c - write JSON text directly. */
#include "writing_internal.h"

#include <stdio.h>

#define ESCAPE_MAX 6 /* characters that represent one octet */

void
sks_put_quoted(struct writing *to, const char *text)
{
    put(to, "\"", 1);
    put_text(to, text);
    put(to, "\"", 1);
}

static bool
is_escaped(unsigned char octet)
{
    return octet < 0x20 || octet == '"' || octet == '\\';
}

/* The loop has no branches, so that compilers can vectorise it. */
static bool
has_escaped(const char *text, size_t len)
{
    unsigned char any = 0;

    for (size_t i = 0; i < len; i++)
        any |= is_escaped((unsigned char)text[i]);
    return any != 0;
}

size_t
sks_put_string_size(const char *text)
{
    size_t len = strlen(text);

    return 2 + (has_escaped(text, len) ? ESCAPE_MAX * len : len);
}

/* RFC 8259 section 7: the short form where there is one. */
static void
put_escaped(struct writing *to, char c)
{
    static const char named[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *at = strchr(named, c);
    char text[ESCAPE_MAX + 1];

    if (at != NULL)
        snprintf(text, sizeof(text), "\\%c", names[at - named]);
    else
        snprintf(text, sizeof(text), "\\u%04X", (unsigned)c);
    put_text(to, text);
}

void
sks_put_string(struct writing *to, const char *text)
{
    size_t len = strlen(text);

    if (!has_escaped(text, len)) {
        sks_put_quoted(to, text);
        return;
    }
    put(to, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (is_escaped((unsigned char)text[i]))
            put_escaped(to, text[i]);
        else
            put(to, text + i, 1);
    }
    put(to, "\"", 1);
}

void
sks_put_number(struct writing *to, int64_t number)
{
    char digits[20];
    size_t len = 0;

    do {
        digits[sizeof(digits) - ++len] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(to, digits + sizeof(digits) - len, len);
}

void
sks_put_json(struct writing *to, const json_t *value)
{
    size_t room = to->is_full ? 0 : (size_t)(to->end - to->at);
    size_t len = json_dumpb(value, to->at, room, CANONICAL);

    if (len == 0 || len > room)
        to->is_full = true;
    else
        to->at += len;
}
