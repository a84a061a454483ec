/* html.c - text from outside, in pages of HTML. */
#include <hsm/html.h>

#include <stdbool.h>
#include <string.h>

#include "utf8_internal.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static bool
is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
}

/* NULL: the character is written as it is. */
static const char *
reference_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

size_t
hsm_html_character(const char *text, const char **out, size_t *len)
{
    size_t taken = is_control(*text) ? 0 : hsm_utf8_len(text);
    const char *instead = taken == 0 ? REPLACEMENT : reference_of(*text);

    *out = instead != NULL ? instead : text;
    *len = instead != NULL ? strlen(instead) : taken;
    return taken > 0 ? taken : 1;
}
