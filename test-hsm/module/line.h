/* line.h - the words of one command, and its reply. */
#ifndef FAULT_LINE_H
#define FAULT_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include "functions.h"

#define FAULT_LINE_MAX  1024 /* octets */
#define FAULT_WORDS_MAX 64

struct fault_line {
    char text[FAULT_LINE_MAX];
    char *words[FAULT_WORDS_MAX];
    size_t count;
    size_t at; /* the next word */
    char *reply;
    size_t reply_size;
    size_t reply_len;
};

/**
 * Words are between blanks or in "quotes"; # begins a comment.
 *
 * @return false: too long, or an unterminated quote; the reply says so
 */
bool fault_line_read(struct fault_line *line, const char *text, size_t len);

/** Append to the reply. */
void fault_line_say(struct fault_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Replace the reply by an error. Always returns false. */
bool fault_line_refuse(struct fault_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Read the next word as the given kind. False: it is something else, and the line is refused. */

bool fault_line_word(struct fault_line *line, const char *what, const char **out);
bool fault_line_number(struct fault_line *line, unsigned long most, unsigned long *out);

/** 0 to 1. */
bool fault_line_share(struct fault_line *line, double *out);

/** "250us", "1.5s": ns, us, ms or s; at most a day. */
bool fault_line_time(struct fault_line *line, int64_t *out_ns);

bool fault_line_rv(struct fault_line *line, CK_RV *out);

/** "C_SignInit,C_Sign"; "any": every function. */
bool fault_line_functions(struct fault_line *line, bool on[FN_COUNT]);

/** Take the next word if it equals `word`; false: it differs, or there is no next word. */
bool fault_line_take(struct fault_line *line, const char *word);

/** True at the end of the line; otherwise the line is refused. */
bool fault_line_end(struct fault_line *line);

/** Parse a duration, such as "1ms". */
bool fault_time_parse(const char *word, int64_t *out_ns);

#endif
