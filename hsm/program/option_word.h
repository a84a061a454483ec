/*
 * option_word.h - what getopt_long() made of one word of a command line: for the two readers of
 * tables, this floor's options.c and that of acme.
 *
 * A PIN or a password may stand behind the name of an option that does not exist
 * ("--pin-value=.."): no value is told. So `opterr` is 0, and short options begin with ":".
 */
#ifndef STI_OPTION_WORD_H
#define STI_OPTION_WORD_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define OPTION_WORD_NO_SHORT ":" /* the short options for getopt_long() */
#define OPTION_WORD_FIRST    256 /* what it gives for the first long one; less: '?', ':' */

/* getopt_long() takes "--pin" for "--pin-source", and what was typed behind it for a source that
 * may be told: nobody shall think that a PIN can be an argument. */
bool option_word_is_spelled_out(char *const *argv, const char *name);

/* Why getopt_long() gave '?' or ':' at the last word. */
void option_word_fault(int found, char *const *argv, struct hsm_reason *why);

#endif
