/*
 * utf8_internal.h - characters of a text that came from elsewhere.
 */
#ifndef HSM_UTF8_INTERNAL_H
#define HSM_UTF8_INTERNAL_H

#include <stddef.h>

/** Octets of the UTF-8 character that begins here (RFC 3629 section 4); 0: none does, or it is a C1
 *  control, or one that ends a line or turns the direction in which it is read. The text ends with
 *  NUL. */
size_t hsm_utf8_len(const char *at);

#endif
