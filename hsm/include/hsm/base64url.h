/*
 * base64url.h - base64url without padding (RFC 4648 section 5), as JOSE uses it,
 * and padded base64 (section 4), as PEM-like texts use it.
 */
#ifndef HSM_BASE64URL_H
#define HSM_BASE64URL_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

/** Encode; free() it. NULL: out of memory. */
char *hsm_base64url_encode(const void *octets, size_t len);

/** The number of characters that `octets` octets encode to. */
#define HSM_BASE64URL_LEN(octets) (((octets) / 3 * 4) + ((octets) % 3 * 4 + 2) / 3)

/** Encode into HSM_BASE64URL_LEN(len) characters, without a NUL; returns how many. */
size_t hsm_base64url_write(const void *octets, size_t len, char *out);

/**
 * Decode strictly: padding, white space, the other alphabet and non-zero
 * trailing bits are malformed. *out has a NUL after its octets; free() it.
 */
HSM_MUST_CHECK enum hsm_status hsm_base64url_decode(const char *text, size_t len, uint8_t **out,
                                                    size_t *out_len);

/** Decode the standard alphabet with padding (RFC 4648 section 4), as strictly as
 *  hsm_base64url_decode(). */
HSM_MUST_CHECK enum hsm_status hsm_base64_decode(const char *text, size_t len, uint8_t **out,
                                                 size_t *out_len);

/**
 * Decode either alphabet (but not a mixture), padded or not: for identifiers and
 * tkvalues as deployed clients send them. Trailing bits must be zero here, too.
 */
HSM_MUST_CHECK enum hsm_status hsm_base64_decode_any(const char *text, size_t len, uint8_t **out,
                                                     size_t *out_len);

/** Encode with the standard alphabet, padded (RFC 4648 section 4); free() it. NULL: out of memory.
 */
char *hsm_base64_encode(const void *octets, size_t len);

#endif
