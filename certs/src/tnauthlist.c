/* tnauthlist.c - the TNAuthorizationList of RFC 8226 section 9, read and written by hand as strict
 * DER. */

#include <certs/tnauthlist.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

#include "der_internal.h"

/* Consecutive numbers of the same length. */
struct span {
    size_t digits;
    uint64_t first, last; /* below 10^15 */
};

struct certs_tnauthlist {
    uint8_t *der;
    size_t der_len;
    struct certs_tn_entry *entries;
    size_t count;
    struct span *spans; /* all numbers except those with # or *: sorted, disjoint */
    size_t span_count;
    const struct certs_tn_entry **words; /* all other entries, SPCs first: sorted */
    size_t word_count;
};

/* `count` entries, zeroed; the DER is still missing. */
static struct certs_tnauthlist *
list_new(size_t count)
{
    struct certs_tnauthlist *list = calloc(1, sizeof(*list));

    if (list == NULL)
        return NULL;
    list->entries = calloc(count, sizeof(*list->entries));
    if (list->entries == NULL) {
        free(list);
        return NULL;
    }
    list->count = count;
    return list;
}

/*
 * ServiceProviderCode is an IA5String without a size in RFC 8226. An empty one identifies no
 * provider, and one that a terminal or a log cannot show is refused too.
 */
static enum hsm_status
check_spc(const char *text, struct hsm_reason *why)
{
    size_t len = strlen(text);

    if (len < 1)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: empty service provider code");
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: unprintable SPC");
    }
    return HSM_OK;
}

static enum hsm_status
check_number(const char *text, struct hsm_reason *why)
{
    size_t len = strlen(text);

    if (len < 1 || len > CERTS_TN_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "TNAuthList: a telephone number has 1 to %d digits", CERTS_TN_MAX);
    if (strspn(text, "0123456789#*") != len)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "TNAuthList: \"%s\": a telephone number holds only 0-9, # and *", text);
    return HSM_OK;
}

/* RFC 8226 section 9: start is digits only, and start + count is below 10^(digits of start). */
static enum hsm_status
check_range(const struct certs_tn_entry *entry, struct hsm_reason *why)
{
    uint64_t start = 0;
    uint64_t limit = 1; /* at most 10^15 */
    enum hsm_status st = check_number(entry->text, why);

    if (st != HSM_OK)
        return st;
    for (const char *digit = entry->text; *digit != '\0'; digit++) {
        if (*digit == '#' || *digit == '*')
            return hsm_refuse(why, HSM_ERR_MALFORMED,
                              "TNAuthList: \"%s\": a range starts with digits only", entry->text);
        start = start * 10 + (uint64_t)(*digit - '0');
        limit *= 10;
    }
    if (entry->count < 2)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a range counts 2 numbers or more");
    if (entry->count >= limit - start)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "TNAuthList: range %s x %" PRIu64 " grows beyond its digits", entry->text,
                          entry->count);
    return HSM_OK;
}

static enum hsm_status
check_entry(const struct certs_tn_entry *entry, struct hsm_reason *why)
{
    switch (entry->kind) {
    case CERTS_TN_SPC:
        return check_spc(entry->text, why);
    case CERTS_TN_RANGE:
        return check_range(entry, why);
    case CERTS_TN_ONE:
        return check_number(entry->text, why);
    }
    return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: unknown kind of entry");
}

static void
put_entry(struct der_writer *to, const struct certs_tn_entry *entry)
{
    size_t start = to->len;

    certs_der_put(to, entry->text, strlen(entry->text));
    certs_der_wrap(to, start, DER_IA5STRING);
    if (entry->kind == CERTS_TN_RANGE) {
        certs_der_put_unsigned(to, entry->count);
        certs_der_wrap(to, start, DER_SEQUENCE);
    }
    certs_der_wrap(to, start, (uint8_t)DER_CONTEXT(entry->kind));
}

static enum hsm_status
list_encode(struct certs_tnauthlist *list, struct hsm_reason *why)
{
    struct der_writer writer = {0};

    for (size_t i = 0; i < list->count; i++)
        put_entry(&writer, &list->entries[i]);
    certs_der_wrap(&writer, 0, DER_SEQUENCE);
    if (writer.failed) {
        certs_der_writer_free(&writer);
        return HSM_ERR_NOMEM;
    }
    if (writer.len > CERTS_TNAUTHLIST_MAX) {
        certs_der_writer_free(&writer);
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: more than %d octets",
                          CERTS_TNAUTHLIST_MAX);
    }
    list->der = writer.octets;
    list->der_len = writer.len;
    return HSM_OK;
}

/* False: not only digits, so the number is not part of a range. */
static bool
span_of(const struct certs_tn_entry *entry, struct span *out)
{
    uint64_t first = 0;
    size_t digits = strlen(entry->text);

    if (entry->kind == CERTS_TN_SPC || strspn(entry->text, "0123456789") != digits)
        return false;
    for (size_t i = 0; i < digits; i++)
        first = first * 10 + (uint64_t)(entry->text[i] - '0');
    *out = (struct span){.digits = digits, .first = first, .last = first + entry->count - 1};
    return true;
}

static int
compare_spans(const void *a, const void *b)
{
    const struct span *one = a;
    const struct span *other = b;

    if (one->digits != other->digits)
        return one->digits < other->digits ? -1 : 1;
    return one->first < other->first ? -1 : one->first > other->first;
}

/* Merge sorted spans that touch or overlap. */
static size_t
merge_spans(struct span *spans, size_t count)
{
    size_t kept = 0;

    if (count == 0)
        return 0;
    for (size_t i = 1; i < count; i++) {
        struct span *last = &spans[kept];

        if (spans[i].digits != last->digits || spans[i].first > last->last + 1)
            spans[++kept] = spans[i];
        else if (spans[i].last > last->last)
            last->last = spans[i].last;
    }
    return kept + 1;
}

static int
compare_words(const void *a, const void *b)
{
    const struct certs_tn_entry *one = *(const struct certs_tn_entry *const *)a;
    const struct certs_tn_entry *other = *(const struct certs_tn_entry *const *)b;

    if (one->kind != other->kind)
        return one->kind < other->kind ? -1 : 1;
    return strcmp(one->text, other->text);
}

/* Allows long lists to be compared without looking at each pair of entries. */
static enum hsm_status
list_index(struct certs_tnauthlist *list)
{
    struct span span;
    size_t spans = 0;

    list->spans = calloc(list->count, sizeof(*list->spans));
    list->words = calloc(list->count, sizeof(*list->words));
    if (list->spans == NULL || list->words == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < list->count; i++) {
        if (span_of(&list->entries[i], &span))
            list->spans[spans++] = span;
        else
            list->words[list->word_count++] = &list->entries[i];
    }
    qsort(list->words, list->word_count, sizeof(*list->words), compare_words);
    qsort(list->spans, spans, sizeof(*list->spans), compare_spans);
    list->span_count = merge_spans(list->spans, spans);
    return HSM_OK;
}

enum hsm_status
certs_tnauthlist_from_spc(const char *spc, struct certs_tnauthlist **out)
{
    struct certs_tn_entry entry = {.kind = CERTS_TN_SPC};
    size_t len = strlen(spc);

    if (len < 1 || len > CERTS_SPC_MAX)
        return HSM_ERR_MALFORMED;
    for (size_t i = 0; i < len; i++) {
        bool is_letter = (spc[i] >= 'A' && spc[i] <= 'Z') || (spc[i] >= 'a' && spc[i] <= 'z');

        if (!is_letter && !(spc[i] >= '0' && spc[i] <= '9'))
            return HSM_ERR_MALFORMED;
    }
    memcpy(entry.text, spc, len);
    return certs_tnauthlist_new(&entry, 1, out, NULL);
}

enum hsm_status
certs_tnauthlist_new(const struct certs_tn_entry *entries, size_t count,
                     struct certs_tnauthlist **out, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    enum hsm_status st;

    if (count < 1)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: no entry");
    list = list_new(count);
    if (list == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        if (memchr(entries[i].text, '\0', sizeof(entries[i].text)) == NULL)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: entry %zu is too long", i);
        st = check_entry(&entries[i], why);
        if (st != HSM_OK)
            return st;
        list->entries[i] = entries[i];
        if (entries[i].kind != CERTS_TN_RANGE)
            list->entries[i].count = entries[i].kind == CERTS_TN_ONE ? 1 : 0;
    }
    st = list_encode(list, why);
    if (st == HSM_OK)
        st = list_index(list);
    if (st != HSM_OK)
        return st;

    *out = list;
    list = NULL;
    return HSM_OK;
}

static enum hsm_status
read_text(struct der_reader *from, struct certs_tn_entry *entry, struct hsm_reason *why)
{
    struct der_reader text;

    /* RFC 8226's module has EXPLICIT TAGS: an implicit [0] (tag 80) is another encoder's mistake.
     */
    if (!certs_der_read(from, DER_IA5STRING, &text))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: an entry is not an IA5String");
    if (text.left > CERTS_SPC_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: an entry has %zu octets", text.left);
    if (memchr(text.at, '\0', text.left) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: an entry holds a NUL");
    memcpy(entry->text, text.at, text.left);
    entry->text[text.left] = '\0';
    return HSM_OK;
}

static enum hsm_status
read_count(struct der_reader *from, uint64_t *count, struct hsm_reason *why)
{
    struct der_reader integer;
    uint64_t value = 0;

    if (!certs_der_read(from, DER_INTEGER, &integer) || integer.left < 1)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a range without a count");
    if ((integer.at[0] & 0x80) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a negative count");
    if (integer.left > 1 && integer.at[0] == 0 && (integer.at[1] & 0x80) == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a count with a leading zero");
    if (integer.left > sizeof(value)) /* a start of 15 digits allows no count beyond 10^15 */
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a count out of bounds");
    for (size_t i = 0; i < integer.left; i++)
        value = value << 8 | integer.at[i];
    *count = value;
    return HSM_OK;
}

/*
 * TelephoneNumberRange ends with an extension marker. No addition has been defined, and one could
 * narrow the range: an unknown addition must not be certified, so anything after the count is
 * refused.
 */
static enum hsm_status
read_range(struct der_reader *from, struct certs_tn_entry *entry, struct hsm_reason *why)
{
    struct der_reader range;
    enum hsm_status st;

    if (!certs_der_read(from, DER_SEQUENCE, &range))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: a range is not a SEQUENCE");
    st = read_text(&range, entry, why);
    if (st == HSM_OK)
        st = read_count(&range, &entry->count, why);
    if (st == HSM_OK && range.left != 0)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: octets after the count of a range");
    return st;
}

static enum hsm_status
read_entry(struct der_reader *from, struct certs_tn_entry *entry, struct hsm_reason *why)
{
    struct der_reader value;
    enum hsm_status st;

    if (from->left < 1 || *from->at < DER_CONTEXT(0) || *from->at > DER_CONTEXT(2))
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "TNAuthList: an entry is neither [0], [1] nor [2]");
    entry->kind = (enum certs_tn_kind)(*from->at & 0x03);
    if (!certs_der_read(from, *from->at, &value))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: an entry is not DER");
    if (entry->kind == CERTS_TN_RANGE) {
        st = read_range(&value, entry, why);
    } else {
        st = read_text(&value, entry, why);
        entry->count = entry->kind == CERTS_TN_ONE ? 1 : 0;
    }
    if (st == HSM_OK && value.left != 0)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: octets after the value of an entry");
    return st == HSM_OK ? check_entry(entry, why) : st;
}

static size_t
count_entries(struct der_reader entries)
{
    struct der_reader value;
    size_t count = 0;

    while (entries.left > 0 && certs_der_read(&entries, *entries.at, &value))
        count++;
    return entries.left > 0 ? count + 1 : count; /* a broken entry is reported by read_entry() */
}

static enum hsm_status
copy_der(struct certs_tnauthlist *list, const uint8_t *der, size_t len)
{
    list->der = malloc(len);
    if (list->der == NULL)
        return HSM_ERR_NOMEM;
    memcpy(list->der, der, len);
    list->der_len = len;
    return HSM_OK;
}

enum hsm_status
certs_tnauthlist_parse(const uint8_t *der, size_t len, struct certs_tnauthlist **out,
                       struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    struct der_reader reader = {.at = der, .left = len};
    struct der_reader entries;
    enum hsm_status st;

    if (len > CERTS_TNAUTHLIST_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: more than %d octets",
                          CERTS_TNAUTHLIST_MAX);
    if (!certs_der_read(&reader, DER_SEQUENCE, &entries))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: not a DER SEQUENCE");
    if (reader.left != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: octets after the SEQUENCE");
    if (entries.left == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "TNAuthList: no entry");

    list = list_new(count_entries(entries));
    if (list == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < list->count; i++) {
        st = read_entry(&entries, &list->entries[i], why);
        if (st != HSM_OK)
            return st;
    }
    st = copy_der(list, der, len);
    if (st == HSM_OK)
        st = list_index(list);
    if (st != HSM_OK)
        return st;

    *out = list;
    list = NULL;
    return HSM_OK;
}

const uint8_t *
certs_tnauthlist_der(const struct certs_tnauthlist *list, size_t *len)
{
    *len = list->der_len;
    return list->der;
}

size_t
certs_tnauthlist_len(const struct certs_tnauthlist *list)
{
    return list->count;
}

const struct certs_tn_entry *
certs_tnauthlist_entry(const struct certs_tnauthlist *list, size_t i)
{
    return i < list->count ? &list->entries[i] : NULL;
}

const char *
certs_tnauthlist_spc(const struct certs_tnauthlist *list)
{
    return list->count == 1 && list->entries[0].kind == CERTS_TN_SPC ? list->entries[0].text : NULL;
}

bool
certs_tnauthlist_equals(const struct certs_tnauthlist *a, const struct certs_tnauthlist *b)
{
    return a->der_len == b->der_len && memcmp(a->der, b->der, a->der_len) == 0;
}

/* Spans are disjoint, so the numbers of `wanted` are either all within one, or the list lacks
 * some. */
static bool
has_span(const struct certs_tnauthlist *list, const struct span *wanted)
{
    size_t low = 0;
    size_t high = list->span_count; /* the wanted span begins at or before `wanted`, below `high` */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_spans(&list->spans[middle], wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && list->spans[low - 1].digits == wanted->digits &&
           list->spans[low - 1].last >= wanted->last;
}

static bool
has_entry(const struct certs_tnauthlist *list, const struct certs_tn_entry *wanted)
{
    struct span span;

    if (span_of(wanted, &span))
        return has_span(list, &span);
    return bsearch(&wanted, list->words, list->word_count, sizeof(*list->words), compare_words) !=
           NULL;
}

bool
certs_tnauthlist_has_spc(const struct certs_tnauthlist *list)
{
    return list->word_count > 0 && list->words[0]->kind == CERTS_TN_SPC;
}

bool
certs_tnauthlist_has_number(const struct certs_tnauthlist *list, const char *number)
{
    struct certs_tn_entry entry = {.kind = CERTS_TN_ONE, .count = 1};

    if (check_number(number, NULL) != HSM_OK)
        return false;
    memcpy(entry.text, number, strlen(number));
    return has_entry(list, &entry);
}

enum certs_scope
certs_tnauthlist_scope(const struct certs_tnauthlist *parent, const struct certs_tnauthlist *child)
{
    enum certs_scope scope = CERTS_SCOPE_INSIDE;

    for (size_t i = 0; i < child->count; i++) {
        if (has_entry(parent, &child->entries[i]))
            continue;
        if (child->entries[i].kind == CERTS_TN_SPC || !certs_tnauthlist_has_spc(parent))
            return CERTS_SCOPE_OUTSIDE;
        scope = CERTS_SCOPE_BY_NUMBERING;
    }
    return scope;
}

bool
certs_tnauthlist_encompasses(const struct certs_tnauthlist *parent,
                             const struct certs_tnauthlist *child)
{
    return certs_tnauthlist_scope(parent, child) == CERTS_SCOPE_INSIDE;
}

static void
print_entry(FILE *to, const struct certs_tn_entry *entry)
{
    switch (entry->kind) {
    case CERTS_TN_SPC:
        fprintf(to, "SPC %s", entry->text);
        return;
    case CERTS_TN_RANGE:
        fprintf(to, "range %s x %" PRIu64, entry->text, entry->count);
        return;
    case CERTS_TN_ONE:
        fprintf(to, "number %s", entry->text);
        return;
    }
}

char *
certs_tnauthlist_text(const struct certs_tnauthlist *list)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    if (to == NULL)
        return NULL;
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            fputs(", ", to);
        print_entry(to, &list->entries[i]);
    }
    if (fclose(to) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

enum hsm_status
certs_tnauthlist_copy(const struct certs_tnauthlist *list, struct certs_tnauthlist **out)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *copy = list_new(list->count);
    enum hsm_status st;

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    memcpy(copy->entries, list->entries, list->count * sizeof(*list->entries));
    st = copy_der(copy, list->der, list->der_len);
    if (st == HSM_OK)
        st = list_index(copy);
    if (st != HSM_OK)
        return st;

    *out = copy;
    copy = NULL;
    return HSM_OK;
}

void
certs_tnauthlist_free(struct certs_tnauthlist *list)
{
    if (list == NULL)
        return;
    free(list->der);
    free(list->entries);
    free(list->spans);
    free(list->words);
    free(list);
}
