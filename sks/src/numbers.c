/* numbers.c - sets of telephone numbers as an operator writes them. */
#include "numbers_internal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

#define ENTRIES_MAX 2048 /* numbers and ranges; a prefix becomes several */
#define DIGITS      "0123456789"

struct set {
    struct certs_tn_entry entries[ENTRIES_MAX];
    size_t count;
};

static enum hsm_status
refuse(struct hsm_reason *why, const char *word, size_t len, const char *what)
{
    return hsm_refuse(why, HSM_ERR_MALFORMED, "numbers: %.*s: %s", (int)len, word, what);
}

/* False: there is no room. */
static bool
add_entry(struct set *set, const char *first, size_t len, uint64_t count)
{
    struct certs_tn_entry *entry = &set->entries[set->count];

    if (set->count == ENTRIES_MAX)
        return false;
    entry->kind = count == 1 ? CERTS_TN_ONE : CERTS_TN_RANGE;
    entry->count = count;
    memcpy(entry->text, first, len);
    entry->text[len] = '\0';
    set->count++;
    return true;
}

static uint64_t
value(const char *digits, size_t len)
{
    uint64_t number = 0;

    for (size_t i = 0; i < len; i++)
        number = number * 10 + (uint64_t)(digits[i] - '0');
    return number;
}

/* A range of a TNAuthList ends before the last number of its length (RFC 8226 section 9), which is
 * therefore an entry of its own. */
static bool
add(struct set *set, const char *first, size_t len, uint64_t count)
{
    static const char nines[] = "999999999999999"; /* CERTS_TN_MAX */

    if (count == 1 || value(first, len) + count - 1 < value(nines, len))
        return add_entry(set, first, len, count);
    return add_entry(set, first, len, count - 1) && add_entry(set, nines, len, 1);
}

/* Add the prefix itself, then the prefix with 0 to 9 after it, with 00 to 99 and so on. */
static bool
add_prefix(struct set *set, const char *prefix, size_t len)
{
    char first[CERTS_TN_MAX] = "000000000000000";
    uint64_t count = 1;
    bool has_room = true;

    memcpy(first, prefix, len);
    for (size_t digits = len; has_room && digits <= CERTS_TN_MAX; digits++, count *= 10)
        has_room = digits == 0 || add(set, first, digits, count);
    return has_room;
}

static enum hsm_status
add_word(struct set *set, const char *word, size_t len, struct hsm_reason *why)
{
    size_t digits = strspn(word, DIGITS);
    const char *rest = word + digits;
    bool has_room;

    if (digits == 0 || digits > CERTS_TN_MAX)
        return refuse(why, word, len, "not a number");
    if (digits == len) {
        has_room = add(set, word, digits, 1);
    } else if (*rest == '*' && digits + 1 == len) {
        has_room = add_prefix(set, word, digits);
    } else {
        if (*rest != '-' || len != 2 * digits + 1 || strspn(rest + 1, DIGITS) != digits ||
            value(rest + 1, digits) < value(word, digits))
            return refuse(why, word, len, "not NUMBER, FIRST-LAST of one length, or PREFIX*");
        has_room = add(set, word, digits, value(rest + 1, digits) - value(word, digits) + 1);
    }
    return has_room ? HSM_OK : refuse(why, word, len, "too many numbers");
}

enum hsm_status
sks_numbers_parse(const char *words, struct certs_tnauthlist **out, struct hsm_reason *why)
{
    DEFER(free) struct set *set = calloc(1, sizeof(*set));
    struct hsm_reason fault = {""};
    enum hsm_status st = HSM_OK;

    if (set == NULL)
        return HSM_ERR_NOMEM;
    for (words += strspn(words, " \t"); st == HSM_OK && *words != '\0';
         words += strspn(words, " \t")) {
        size_t len = strcspn(words, " \t");

        st = add_word(set, words, len, why);
        words += len;
    }
    if (st != HSM_OK)
        return st;
    st = certs_tnauthlist_new(set->entries, set->count, out, &fault);
    return st == HSM_OK ? HSM_OK : hsm_refuse(why, st, "numbers: %.200s", fault.text);
}
