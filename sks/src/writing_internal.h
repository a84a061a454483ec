/*
 * writing_internal.h - write JSON text directly, without building a jansson tree first.
 *
 * The caller writes members in canonical order, and closes what it opens.
 */
#ifndef SKS_WRITING_INTERNAL_H
#define SKS_WRITING_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#define CANONICAL (JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) /* as acme_json_canonical() */

struct writing {
    char *at, *end;
    bool is_full; /* something did not fit */
};

static inline void
put(struct writing *to, const char *text, size_t len)
{
    if (to->is_full || len > (size_t)(to->end - to->at)) {
        to->is_full = true;
        return;
    }
    memcpy(to->at, text, len);
    to->at += len;
}

static inline void
put_text(struct writing *to, const char *text)
{
    put(to, text, strlen(text));
}

/** Write a text without characters to escape, as a string. */
void sks_put_quoted(struct writing *to, const char *text);

/** Write any UTF-8 as a string, with the octets that jansson would write; and their number at most.
 */
void sks_put_string(struct writing *to, const char *text);
size_t sks_put_string_size(const char *text);

/** @param number  not negative */
void sks_put_number(struct writing *to, int64_t number);

/** Write a value in canonical form (RFC 8225 section 9). */
void sks_put_json(struct writing *to, const json_t *value);

#endif
