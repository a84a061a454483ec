/*
 * text.h - text from outside, made safe to show to an operator.
 */
#ifndef HSM_TEXT_H
#define HSM_TEXT_H

#include <stdbool.h>
#include <stdio.h>

/**
 * True if a text is UTF-8 that a terminal shows as one line and unaltered: no control characters
 * (C0, DEL, C1) and no Unicode characters that end a line or change its direction.
 */
bool hsm_text_is_plain(const char *text);

/** Write a text as the log does: the octets of a character that hsm_text_is_plain() refuses are
 *  written as \x9b each. */
void hsm_text_put(const char *text, FILE *to);

#endif
