/*
 * padded_internal.h - texts of CK_TOKEN_INFO and other structs: padded with blanks, without NUL.
 */
#ifndef HSM_PADDED_INTERNAL_H
#define HSM_PADDED_INTERNAL_H

#include <stddef.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

/** `out` has room for len + 1 octets; returns it. */
static inline char *
hsm_unpad(const CK_UTF8CHAR *padded, size_t len, char *out)
{
    while (len > 0 && (padded[len - 1] == ' ' || padded[len - 1] == '\0'))
        len--;
    memcpy(out, padded, len);
    out[len] = '\0';
    return out;
}

#endif
