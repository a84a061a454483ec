/* link.c - Link header fields (RFC 8288 section 3). Parsing stops at the first malformed
 * element. */
#include "link_internal.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define BLANKS " \t"

/* A part of the text. */
struct span {
    const char *at;
    size_t len;
};

static bool
take_char(const char **at, char wanted)
{
    *at += strspn(*at, BLANKS);
    if (**at != wanted)
        return false;
    ++*at;
    return true;
}

/* A token, or the text between quotes. Escapes are not decoded: the relation types looked for have
 * no "\". */
static bool
take_value(const char **at, struct span *out)
{
    *at += strspn(*at, BLANKS);
    if (**at != '"') {
        *out = (struct span){*at, strcspn(*at, BLANKS ",;\"")};
        *at += out->len;
        return true;
    }
    *out = (struct span){++*at, 0};
    while (**at != '"') {
        if (**at == '\\')
            ++*at;
        if (**at == '\0')
            return false;
        ++*at;
    }
    out->len = (size_t)(*at - out->at);
    ++*at;
    return true;
}

/* Relation types are separated by blanks and compared without regard to case. */
static bool
has_type(struct span types, const char *relation)
{
    size_t len = strlen(relation);

    while (types.len > 0) {
        size_t one = 0;

        while (one < types.len && strchr(BLANKS, types.at[one]) == NULL)
            one++;
        if (one == len && strncasecmp(types.at, relation, len) == 0)
            return true;
        one += one < types.len;
        types.at += one;
        types.len -= one;
    }
    return false;
}

/* The parameters of one link; of several "rel" the first counts (section 3.3). */
static bool
take_parameters(const char **at, const char *relation, bool *matches)
{
    bool is_first = true;

    *matches = false;
    while (take_char(at, ';')) {
        struct span name, value = {"", 0};

        *at += strspn(*at, BLANKS);
        name = (struct span){*at, strcspn(*at, BLANKS ",;=\"")};
        *at += name.len;
        if (take_char(at, '=') && !take_value(at, &value))
            return false;
        if (!is_first || name.len != 3 || strncasecmp(name.at, "rel", 3) != 0)
            continue;
        is_first = false;
        *matches = has_type(value, relation);
    }
    return true;
}

enum hsm_status
acme_link_find(const char *links, const char *relation, size_t skip, char **url)
{
    const char *at = links != NULL ? links : "";

    for (;;) {
        struct span target;
        bool matches;

        while (take_char(&at, ',')) /* elements may be empty (RFC 9110 section 5.6.1.2) */
            ;
        if (!take_char(&at, '<'))
            return HSM_ERR_NOT_FOUND;
        target = (struct span){at, strcspn(at, ">")};
        at += target.len;
        if (!take_char(&at, '>') || !take_parameters(&at, relation, &matches))
            return HSM_ERR_NOT_FOUND;
        if (matches && skip-- == 0) {
            *url = strndup(target.at, target.len);
            return *url != NULL ? HSM_OK : HSM_ERR_NOMEM;
        }
    }
}
