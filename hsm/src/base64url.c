/* base64url.c - base64 in both alphabets, strict where JOSE is. */
#include <hsm/base64url.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char standard_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Six-bit values plus one, of both alphabets; 0: not a base64 character. */
static const uint8_t values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['-'] = 63,
    ['/'] = 64, ['_'] = 64,
};

/* Encode without padding. */
static size_t
write_with(const char *alphabet, const uint8_t *octets, size_t len, char *out)
{
    char *at = out;
    size_t i = 0;

    for (; i + 3 <= len; i += 3) {
        *at++ = alphabet[octets[i] >> 2];
        *at++ = alphabet[(octets[i] & 3) << 4 | octets[i + 1] >> 4];
        *at++ = alphabet[(octets[i + 1] & 15) << 2 | octets[i + 2] >> 6];
        *at++ = alphabet[octets[i + 2] & 63];
    }
    if (i < len) {
        unsigned next = i + 1 < len ? octets[i + 1] : 0;

        *at++ = alphabet[octets[i] >> 2];
        *at++ = alphabet[(octets[i] & 3) << 4 | next >> 4];
        if (i + 1 < len)
            *at++ = alphabet[(next & 15) << 2];
    }
    return (size_t)(at - out);
}

/* Decode whole and partial groups of characters of either alphabet, without padding. */
static bool
read_into(const char *text, size_t len, uint8_t *out)
{
    uint32_t bits = 0;
    unsigned held = 0; /* bits not yet written */

    if (len % 4 == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned value = values[(unsigned char)text[i]];

        if (value == 0)
            return false;
        bits = bits << 6 | (value - 1);
        held += 6;
        if (held >= 8) {
            held -= 8;
            *out++ = (uint8_t)(bits >> held);
        }
    }
    return (bits & ((1U << held) - 1)) == 0;
}

static bool
has_any(const char *text, size_t len, char a, char b)
{
    return memchr(text, a, len) != NULL || memchr(text, b, len) != NULL;
}

/* The length without padding; false if there is padding that does not fill the last group. */
static bool
strip_padding(const char *text, size_t *len)
{
    size_t bare = *len;

    while (bare > 0 && *len - bare < 2 && text[bare - 1] == '=')
        bare--;
    if (bare != *len && *len % 4 != 0)
        return false;
    *len = bare;
    return true;
}

static enum hsm_status
decode_bare(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    size_t n = len / 4 * 3 + len % 4 * 3 / 4;
    uint8_t *octets = malloc(n + 1);

    if (octets == NULL)
        return HSM_ERR_NOMEM;
    if (!read_into(text, len, octets)) {
        free(octets);
        return HSM_ERR_MALFORMED;
    }
    octets[n] = '\0';
    *out = octets;
    *out_len = n;
    return HSM_OK;
}

size_t
hsm_base64url_write(const void *octets, size_t len, char *out)
{
    return write_with(url_alphabet, octets, len, out);
}

char *
hsm_base64url_encode(const void *octets, size_t len)
{
    char *text = malloc(HSM_BASE64URL_LEN(len) + 1);

    if (text != NULL)
        text[hsm_base64url_write(octets, len, text)] = '\0';
    return text;
}

enum hsm_status
hsm_base64url_decode(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    if (has_any(text, len, '+', '/'))
        return HSM_ERR_MALFORMED;
    return decode_bare(text, len, out, out_len);
}

enum hsm_status
hsm_base64_decode(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    if (len % 4 != 0 || has_any(text, len, '-', '_') || !strip_padding(text, &len))
        return HSM_ERR_MALFORMED;
    return decode_bare(text, len, out, out_len);
}

enum hsm_status
hsm_base64_decode_any(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    if (has_any(text, len, '-', '_') && has_any(text, len, '+', '/'))
        return HSM_ERR_MALFORMED;
    if (!strip_padding(text, &len))
        return HSM_ERR_MALFORMED;
    return decode_bare(text, len, out, out_len);
}

char *
hsm_base64_encode(const void *octets, size_t len)
{
    char *text = malloc((len + 2) / 3 * 4 + 1);
    size_t n;

    if (text == NULL)
        return NULL;
    n = write_with(standard_alphabet, octets, len, text);
    while (n % 4 != 0)
        text[n++] = '=';
    text[n] = '\0';
    return text;
}
