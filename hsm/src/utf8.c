/* utf8.c - characters of a text that came from elsewhere. */
#include "utf8_internal.h"

#include <stdbool.h>

static bool
is_continuation(unsigned char octet)
{
    return (octet & 0xc0) == 0x80;
}

size_t
hsm_utf8_len(const char *at)
{
    const unsigned char *s = (const unsigned char *)at;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf && is_continuation(s[1]))
        return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : 2;
    if (s[0] >= 0xe0 && s[0] <= 0xef && is_continuation(s[1]) && is_continuation(s[2])) {
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
            return 0;
        return 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4 && is_continuation(s[1]) && is_continuation(s[2]) &&
        is_continuation(s[3])) {
        if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
            return 0;
        return 4;
    }
    return 0;
}
