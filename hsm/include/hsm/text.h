/*
 * text.h - text that is not ours, before an operator's eyes.
 */
#ifndef HSM_TEXT_H
#define HSM_TEXT_H

#include <stdbool.h>
#include <stdio.h>

/**
 * True: a text of UTF-8 that shows as one line, and as it stands: without control characters (C0,
 * DEL, C1), and without those of Unicode that end a line or turn its direction.
 */
bool hsm_text_is_plain(const char *text);

/** Write a text as the log does: what hsm_text_is_plain() would not have, octet by octet as \x9b.
 */
void hsm_text_put(const char *text, FILE *to);

#endif
