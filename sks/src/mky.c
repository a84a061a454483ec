/* mky.c - fingerprints of media keys. */
#include "mky_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Comparing alg, then dig gives the order of the concatenated text, because no name of a hash
 * function in RFC 8122 is a prefix of another. */
int
sks_mky_compare(const struct sks_mky *a, const struct sks_mky *b)
{
    int order = strcmp(a->alg, b->alg);

    return order != 0 ? order : strcmp(a->dig, b->dig);
}

static int
compare(const void *a, const void *b)
{
    return sks_mky_compare(a, b);
}

/* RFC 8122 section 5: the name is not case-sensitive. */
static bool
take_alg(const char *text, char out[SKS_MKY_ALG_MAX + 1])
{
    size_t len = text == NULL ? 0 : strlen(text);

    if (len == 0 || len > SKS_MKY_ALG_MAX)
        return false;
    for (size_t i = 0; i <= len; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    return true;
}

static bool
take_dig(const char *text, char out[SKS_MKY_DIG_MAX + 1])
{
    size_t len = 0;

    for (; text != NULL && *text != '\0'; text++) {
        if (*text == ':' && len > 0 && len % 2 == 0 && isxdigit((unsigned char)text[1]))
            continue;
        if (len == SKS_MKY_DIG_MAX || !isxdigit((unsigned char)*text))
            return false;
        out[len++] = (char)toupper((unsigned char)*text);
    }
    out[len] = '\0';
    return len > 0 && len % 2 == 0;
}

/* Media descriptions of one call may share a key. */
static void
drop_repetitions(struct sks_mky_set *set)
{
    size_t kept = 0;

    for (size_t i = 0; i < set->count; i++)
        if (kept == 0 || sks_mky_compare(&set->all[kept - 1], &set->all[i]) != 0)
            set->all[kept++] = set->all[i];
    set->count = kept;
}

const char *
sks_mky_take(const json_t *array, struct sks_mky_set *out)
{
    if (!json_is_array(array) || json_array_size(array) > SKS_MKY_MAX)
        return "not an array of up to 16";
    out->count = json_array_size(array);
    for (size_t i = 0; i < out->count; i++) {
        const json_t *one = json_array_get(array, i);

        if (!take_alg(json_string_value(json_object_get(one, "alg")), out->algs[i]) ||
            json_object_size(one) != 2)
            return "not objects of alg and dig";
        if (!take_dig(json_string_value(json_object_get(one, "dig")), out->digs[i]))
            return "dig is not hexadecimal, or too long";
        out->all[i] = (struct sks_mky){.alg = out->algs[i], .dig = out->digs[i]};
    }
    qsort(out->all, out->count, sizeof(out->all[0]), compare);
    drop_repetitions(out);
    return NULL;
}

const char *
sks_mky_fault(const json_t *claim)
{
    struct sks_mky_set set;
    struct sks_mky before = {NULL, NULL};

    if (json_array_size(claim) == 0 || sks_mky_take(claim, &set) != NULL)
        return "mky: not an array of fingerprints";
    for (size_t i = 0; i < json_array_size(claim); i++) {
        const json_t *one = json_array_get(claim, i);
        const struct sks_mky next = {json_string_value(json_object_get(one, "alg")),
                                     json_string_value(json_object_get(one, "dig"))};

        if (strcspn(next.dig, ":abcdef") != strlen(next.dig))
            return "mky: not alg and dig in upper-case hex";
        if (i > 0 && sks_mky_compare(&before, &next) > 0)
            return "mky: not sorted";
        before = next;
    }
    return NULL;
}

bool
sks_mky_equal(const json_t *claim, const json_t *sdp)
{
    struct sks_mky_set sets[2];

    if (sks_mky_take(claim, &sets[0]) != NULL || sks_mky_take(sdp, &sets[1]) != NULL ||
        sets[0].count != sets[1].count)
        return false;
    for (size_t i = 0; i < sets[0].count; i++)
        if (sks_mky_compare(&sets[0].all[i], &sets[1].all[i]) != 0)
            return false;
    return true;
}
