/* hex.h - octets as lower-case hexadecimal digits (RFC 4648 section 8). */
#ifndef HSM_HEX_H
#define HSM_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The number of digits that `octets` octets are written with. */
#define HSM_HEX_LEN(octets) (2 * (octets))

/** Write HSM_HEX_LEN(len) digits and a NUL. */
void hsm_hex_put(const uint8_t *octets, size_t len, char *out);

/** Read `digits` digits as `len` octets; no terminator needed. False: a wrong number of digits, or
 *  a character that is not a lower-case digit; `out` may then hold the octets read so far. */
bool hsm_hex_get(const char *hex, size_t digits, uint8_t *out, size_t len);

#endif
