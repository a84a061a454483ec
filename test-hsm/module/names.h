/* names.h - PKCS#11's constants by name: return values, attributes, flags of a token. */
#ifndef FAULT_NAMES_H
#define FAULT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#define FAULT_CKR_TEXT_MAX 64 /* octets, with the 0 */

/** "CKR_DEVICE_ERROR"; a value without a name here is written in hexadecimal. */
const char *fault_ckr_text(CK_RV rv, char text[FAULT_CKR_TEXT_MAX]);

/** By name or as a number. */
bool fault_ckr_parse(const char *word, CK_RV *out);
bool fault_cka_parse(const char *word, CK_ATTRIBUTE_TYPE *out);

/** Flags of CK_TOKEN_INFO. */
bool fault_ckf_parse(const char *word, CK_FLAGS *out);

/** Decimal, or hexadecimal after 0x. */
bool fault_number_parse(const char *word, unsigned long *out);

#endif
