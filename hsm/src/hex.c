/* hex.c - hexadecimal digits. */
#include <hsm/hex.h>

static const char hex_digits[] = "0123456789abcdef";

void
hsm_hex_put(const uint8_t *octets, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = hex_digits[octets[i] >> 4];
        out[2 * i + 1] = hex_digits[octets[i] & 0x0f];
    }
    out[2 * len] = '\0';
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
hsm_hex_get(const char *hex, size_t digits, uint8_t *out, size_t len)
{
    if (digits != HSM_HEX_LEN(len))
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(hex[2 * i]);
        int low = high >= 0 ? hex_value(hex[2 * i + 1]) : -1;

        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
