/* journal_line.c - the lines of a journal file, and their chain. */
#include "journal_line_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hsm/log.h>
#include <hsm/use.h>

#include "es256_internal.h"

#define FIELDS      9
#define READ_OCTETS 262144
#define KIND_MAX    31 /* octets */
#define NUMBER_MAX  20 /* digits of 2^64 - 1 */

/* ---- times ---- */

int64_t
hsm_time_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Breaking down a second costs as much as hashing a line, and many lines share a second. */
void
hsm_time_put(int64_t time_us, char out[HSM_JOURNAL_TIME_LEN + 1])
{
    static _Thread_local int64_t known = -1;
    static _Thread_local char text[32];
    int64_t second = time_us / 1000000;
    unsigned us = (unsigned)(time_us % 1000000);

    if (second != known) {
        time_t at = (time_t)second;
        struct tm tm;

        if (gmtime_r(&at, &tm) == NULL || tm.tm_year > 9999 - 1900)
            memset(&tm, 0, sizeof(tm));
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.", &tm);
        known = second;
    }
    memcpy(out, text, 20);
    for (int i = 25; i >= 20; i--, us /= 10)
        out[i] = (char)('0' + us % 10);
    out[26] = 'Z';
    out[27] = '\0';
}

int64_t
hsm_time_get(const char *text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    struct tm tm = {.tm_isdst = 0};
    char again[HSM_JOURNAL_TIME_LEN + 1];
    int64_t us = 0;
    time_t second;

    for (size_t i = 0; i < sizeof(form); i++) {
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return -1;
    }
    tm.tm_year = (int)strtol(text, NULL, 10) - 1900;
    tm.tm_mon = (int)strtol(text + 5, NULL, 10) - 1;
    tm.tm_mday = (int)strtol(text + 8, NULL, 10);
    tm.tm_hour = (int)strtol(text + 11, NULL, 10);
    tm.tm_min = (int)strtol(text + 14, NULL, 10);
    tm.tm_sec = (int)strtol(text + 17, NULL, 10);
    second = timegm(&tm);
    us = strtol(text + 20, NULL, 10);
    if (second < 0)
        return -1;
    hsm_time_put((int64_t)second * 1000000 + us, again); /* 31 February is another day */
    return strcmp(text, again) == 0 ? (int64_t)second * 1000000 + us : -1;
}

/* ---- fields of a line ---- */

static bool
is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._~:/@+=-", c) != NULL);
}

/* Returns the octets written; 0 if there is no room for them and a NUL. */
static size_t
percent_encode(const char *text, size_t len, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t octet = (uint8_t)text[i];

        if (n + 3 >= size)
            return 0;
        if (is_plain(text[i])) {
            out[n++] = text[i];
            continue;
        }
        out[n++] = '%';
        hsm_hex_put(&octet, 1, out + n);
        n += HSM_HEX_LEN(1);
    }
    out[n] = '\0';
    return n;
}

void
hsm_who_put(const char *who, char *out)
{
    size_t len = strnlen(who, HSM_WHO_MAX);

    if (len == 0)
        len = strlen(who = "-");
    (void)percent_encode(who, len, out, 3 * HSM_WHO_MAX + 3);
}

void
hsm_detail_put(char *detail, size_t size, const char *name, const char *value)
{
    size_t len = strlen(detail);
    size_t name_len = strlen(name);
    size_t comma = len > 0 ? 1 : 0;
    size_t at = len + comma + name_len + 1;

    if (at >= size)
        return;
    if (*value != '\0' && percent_encode(value, strlen(value), detail + at, size - at) == 0) {
        detail[len] = '\0';
        return;
    }
    if (comma != 0)
        detail[len] = ',';
    memcpy(detail + len + comma, name, name_len);
    detail[at - 1] = '=';
    if (*value == '\0')
        detail[at] = '\0';
}

void
hsm_detail_put_number(char *detail, size_t size, const char *name, uint64_t value)
{
    char text[NUMBER_MAX + 1];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    hsm_detail_put(detail, size, name, text);
}

static bool
percent_decode(const char *text, size_t len, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t octet = (uint8_t)text[i];

        if (n + 1 >= size)
            return false;
        if (octet == '%') {
            if (i + 2 >= len)
                return false;
            if (!hsm_hex_get(text + i + 1, HSM_HEX_LEN(1), &octet, 1) || octet == 0)
                return false;
            i += 2;
        }
        out[n++] = (char)octet;
    }
    out[n] = '\0';
    return true;
}

bool
hsm_journal_detail(const char *detail, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);

    while (*detail != '\0') {
        size_t len = strcspn(detail, ",");

        if (len > name_len && detail[name_len] == '=' && strncmp(detail, name, name_len) == 0)
            return percent_decode(detail + name_len + 1, len - name_len - 1, out, size);
        detail += len + (detail[len] == ',' ? 1 : 0);
    }
    return false;
}

/* ---- a line ---- */

struct writer {
    char *out;
    size_t len;
};

static void
put(struct writer *to, const char *text)
{
    size_t len = strlen(text);

    memcpy(to->out + to->len, text, len);
    to->len += len;
    to->out[to->len++] = ' ';
}

static void
put_number(struct writer *to, uint64_t number)
{
    char digits[NUMBER_MAX + 1];
    size_t at = sizeof(digits) - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(to, digits + at);
}

/* Names of statuses have blanks, but a field must not. */
static void
put_outcome(struct writer *to, enum hsm_status outcome)
{
    size_t begin = to->len;

    put(to, hsm_status_text(outcome));
    for (size_t i = begin; i + 1 < to->len; i++) {
        if (to->out[i] == ' ')
            to->out[i] = '-';
    }
}

enum hsm_status
hsm_line_hash(const uint8_t last[HSM_SHA256_LEN], const char *body, size_t len,
              uint8_t hash[HSM_SHA256_LEN])
{
    uint8_t leaf[1 + HSM_JOURNAL_HASH_HEX + 1 + HSM_JOURNAL_LINE_MAX];
    uint8_t *at = leaf + 1;

    if (len > HSM_JOURNAL_LINE_MAX)
        return HSM_ERR_USAGE;
    hsm_hex_put(last, HSM_SHA256_LEN, (char *)at);
    at[HSM_JOURNAL_HASH_HEX] = ' ';
    memcpy(at + HSM_JOURNAL_HASH_HEX + 1, body, len);
    return hsm_merkle_leaf_in_place(at, HSM_JOURNAL_HASH_HEX + 1 + len, hash);
}

enum hsm_status
hsm_line_put(struct hsm_chain *chain, const struct hsm_line *line, char *out, size_t *len)
{
    struct writer to = {out, 0};
    char text[3 * HSM_WHO_MAX + 3]; /* the longest text that is built here */
    uint8_t hash[HSM_SHA256_LEN];
    enum hsm_status st;

    if (line->detail != NULL && strlen(line->detail) > HSM_JOURNAL_DETAIL_MAX)
        return HSM_ERR_USAGE;
    put_number(&to, chain->tree.size);
    hsm_time_put(line->time_us, text);
    put(&to, text);
    put(&to, line->kind);
    put(&to, line->key);
    if (line->digest != NULL)
        hsm_hex_put(line->digest, HSM_SHA256_LEN, text);
    put(&to, line->digest != NULL ? text : "-");
    hsm_who_put(line->who, text);
    put(&to, text);
    put_outcome(&to, line->outcome);
    put(&to, line->detail != NULL && *line->detail != '\0' ? line->detail : "-");
    st = hsm_line_hash(chain->last, out, to.len - 1, hash);
    if (st == HSM_OK)
        st = hsm_merkle_append(&chain->tree, hash);
    if (st != HSM_OK)
        return st;
    hsm_hex_put(hash, sizeof(hash), out + to.len);
    to.len += HSM_JOURNAL_HASH_HEX;
    out[to.len++] = '\n';
    memcpy(chain->last, hash, sizeof(hash));
    chain->octets += to.len;
    *len = to.len;
    return HSM_OK;
}

static bool
number_from(const char *text, uint64_t *out)
{
    uint64_t number = 0;

    if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        unsigned digit = (unsigned)(*text - '0');

        if (*text < '0' || *text > '9' || number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

static bool
is_word(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz-/");

    return len > 0 && len <= KIND_MAX && text[len] == '\0';
}

static bool
is_hex_or_none(const char *text, size_t len)
{
    uint8_t octets[HSM_SHA256_LEN];

    return strcmp(text, "-") == 0 || hsm_hex_get(text, strlen(text), octets, len);
}

/* Replaces blanks by NULs; false: a wrong number of fields, or invalid characters in them. */
static bool
split(char *text, size_t len, char *field[FIELDS])
{
    size_t n = 0;

    field[n++] = text;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e || (text[i] == ' ' && n == FIELDS))
            return false;
        if (text[i] == ' ') {
            text[i] = '\0';
            field[n++] = text + i + 1;
        }
    }
    text[len] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (*field[i] == '\0')
            return false;
    }
    return n == FIELDS;
}

const char *
hsm_line_parse(char *text, size_t len, struct hsm_journal_record *out, uint8_t hash[HSM_SHA256_LEN])
{
    char *field[FIELDS];

    if (!split(text, len, field))
        return "not a line of nine fields";
    if (!number_from(field[0], &out->number))
        return "its number is none";
    if (hsm_time_get(field[1]) < 0)
        return "its time is none";
    if (!is_word(field[2]) || !is_word(field[6]))
        return "its kind or its outcome is no word";
    if (!is_hex_or_none(field[3], HSM_JOURNAL_KEY_LEN) || !is_hex_or_none(field[4], HSM_SHA256_LEN))
        return "its key or what was hashed is not in hex";
    if (!hsm_hex_get(field[8], strlen(field[8]), hash, HSM_SHA256_LEN))
        return "its hash is not in hex";
    out->time = field[1];
    out->kind = field[2];
    out->key = field[3];
    out->digest = field[4];
    out->who = field[5];
    out->outcome = field[6];
    out->detail = field[7];
    out->leaf = hash;
    return NULL;
}

/* ---- files ---- */

enum hsm_status
hsm_walk_begin(struct hsm_walk *walk, int fd, const struct hsm_chain *chain)
{
    memset(walk, 0, sizeof(*walk));
    walk->fd = fd;
    if (chain != NULL)
        walk->chain = *chain;
    walk->buffer = malloc(READ_OCTETS);
    return walk->buffer != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

void
hsm_walk_end(struct hsm_walk *walk)
{
    free(walk->buffer);
    walk->buffer = NULL;
}

/* Moves unread octets to the front and reads more. False: failed. */
static bool
fill(struct hsm_walk *walk)
{
    uint64_t from = walk->chain.octets + (walk->end - walk->begin);
    ssize_t n;

    memmove(walk->buffer, walk->buffer + walk->begin, walk->end - walk->begin);
    walk->end -= walk->begin;
    walk->begin = 0;
    do
        n = pread(walk->fd, walk->buffer + walk->end, READ_OCTETS - walk->end, (off_t)from);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        hsm_log(HSM_LOG_ERROR, "the journal cannot be read: %s", strerror(errno));
        return false;
    }
    walk->end += (size_t)n;
    return true;
}

static enum hsm_walk_result
wrong(struct hsm_walk *walk, const char *what)
{
    walk->wrong = what;
    return HSM_WALK_WRONG;
}

static enum hsm_walk_result
take(struct hsm_walk *walk, const char *text, size_t len)
{
    uint8_t expected[HSM_SHA256_LEN];
    const char *fault;

    memcpy(walk->line, text, len);
    fault = hsm_line_parse(walk->line, len, &walk->record, walk->hash);
    if (fault != NULL)
        return wrong(walk, fault);
    if (walk->record.number != walk->chain.tree.size)
        return wrong(walk, "its number is not the next");
    if (hsm_line_hash(walk->chain.last, text, len - HSM_JOURNAL_HASH_HEX - 1, expected) != HSM_OK)
        return HSM_WALK_FAILED;
    if (memcmp(expected, walk->hash, sizeof(expected)) != 0)
        return wrong(walk, "its hash is not that of itself behind the line before");
    if (hsm_merkle_append(&walk->chain.tree, walk->hash) != HSM_OK)
        return HSM_WALK_FAILED;
    memcpy(walk->chain.last, walk->hash, sizeof(walk->hash));
    walk->chain.octets += len + 1;
    walk->begin += len + 1;
    return HSM_WALK_RECORD;
}

enum hsm_walk_result
hsm_walk_next(struct hsm_walk *walk)
{
    const char *text = walk->buffer + walk->begin;
    size_t have = walk->end - walk->begin;
    const char *end = memchr(text, '\n', have);

    if (end == NULL && have < HSM_JOURNAL_LINE_MAX) {
        if (!fill(walk))
            return HSM_WALK_FAILED;
        text = walk->buffer + walk->begin;
        have = walk->end - walk->begin;
        end = memchr(text, '\n', have);
    }
    if (end != NULL && end - text < HSM_JOURNAL_LINE_MAX)
        return take(walk, text, (size_t)(end - text));
    if (end != NULL || have >= HSM_JOURNAL_LINE_MAX)
        return wrong(walk, "a line longer than any");
    walk->torn = have;
    return have == 0 ? HSM_WALK_END : HSM_WALK_TORN;
}
