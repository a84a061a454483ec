/* text.c - text from outside, made safe for a terminal. */
#include <hsm/text.h>

#include "utf8_internal.h"

static bool
is_control(char octet)
{
    return (unsigned char)octet < 0x20 || octet == 0x7f;
}

bool
hsm_text_is_plain(const char *text)
{
    while (*text != '\0') {
        size_t len = is_control(*text) ? 0 : hsm_utf8_len(text);

        if (len == 0)
            return false;
        text += len;
    }
    return true;
}

void
hsm_text_put(const char *text, FILE *to)
{
    while (*text != '\0') {
        size_t len = is_control(*text) ? 0 : hsm_utf8_len(text);

        if (len > 0) {
            fwrite(text, 1, len, to);
            text += len;
        } else {
            fprintf(to, "\\x%02x", (unsigned char)*text++);
        }
    }
}
