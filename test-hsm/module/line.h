/* line.h - one command in words, and what is to be answered to it. */
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
 * @return false: too long, or a quote without its other half; the reply says so
 */
bool fault_line_read(struct fault_line *line, const char *text, size_t len);

/** More of the reply. */
void fault_line_say(struct fault_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** The reply is this instead. Always false. */
bool fault_line_refuse(struct fault_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The next word, as what it has to be. False: it is not, and the line is refused. */

bool fault_line_word(struct fault_line *line, const char *what, const char **out);
bool fault_line_number(struct fault_line *line, unsigned long most, unsigned long *out);

/** 0 to 1. */
bool fault_line_share(struct fault_line *line, double *out);

/** "250us", "1.5s": ns, us, ms or s; at most a day. */
bool fault_line_time(struct fault_line *line, int64_t *out_ns);

bool fault_line_rv(struct fault_line *line, CK_RV *out);

/** "C_SignInit,C_Sign"; "any": every function. */
bool fault_line_functions(struct fault_line *line, bool on[FN_COUNT]);

/** Whether the next word is that one; if so it is taken. */
bool fault_line_take(struct fault_line *line, const char *word);

/** Whether there is none left; if not so the line is refused. */
bool fault_line_end(struct fault_line *line);

/** "1ms" as a duration in a word of its own. */
bool fault_time_parse(const char *word, int64_t *out_ns);

#endif
