/*
 * utf8_internal.h - characters of a text from outside.
 */
#ifndef HSM_UTF8_INTERNAL_H
#define HSM_UTF8_INTERNAL_H

#include <stddef.h>

/** Octets of the UTF-8 character that begins here (RFC 3629 section 4); 0: it is invalid, or the
 * character is a C1 control, ends a line, or changes the direction of text. The text ends with
 * NUL. */
size_t hsm_utf8_len(const char *at);

#endif
