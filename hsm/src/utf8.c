/* utf8.c - characters of a text from outside. */
#include "utf8_internal.h"

#include <stdbool.h>

static bool
is_continuation(unsigned char octet)
{
    return (octet & 0xc0) == 0x80;
}

/* Characters of three octets: U+2028, U+2029, and those that Unicode 15 section 23.2 and UAX #9
 * list for bidirectional text: U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069. */
static bool
rearranges(const unsigned char *s)
{
    if (s[0] != 0xe2)
        return false;
    return (s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xa8 && s[2] <= 0xae))) ||
           (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
}

/* C1 controls, and U+061C, the Arabic letter mark. */
static bool
is_unseen(const unsigned char *s)
{
    return (s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xd8 && s[1] == 0x9c);
}

size_t
hsm_utf8_len(const char *at)
{
    const unsigned char *s = (const unsigned char *)at;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf && is_continuation(s[1]))
        return is_unseen(s) ? 0 : 2;
    if (s[0] >= 0xe0 && s[0] <= 0xef && is_continuation(s[1]) && is_continuation(s[2])) {
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || rearranges(s))
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
