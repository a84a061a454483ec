/* fuzz.h - what libFuzzer and replay.c call. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/** A NUL-terminated copy, for parsers of text; free() it. */
static inline char *
fuzz_text(const uint8_t *data, size_t len)
{
    char *text = malloc(len + 1);

    if (text == NULL)
        abort();
    if (len > 0)
        memcpy(text, data, len);
    text[len] = '\0';
    return text;
}

/** Abort if a property of our code does not hold for an input. */
static inline void
fuzz_assert(int holds)
{
    if (!holds)
        abort();
}

#endif
