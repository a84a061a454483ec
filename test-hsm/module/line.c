/* line.c - split a command into words and parse them. */
#include "line.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"

#define BLANKS        " \t\r"
#define DAY_NS        86400e9
#define NS_PER_SECOND 1e9

void
fault_line_say(struct fault_line *line, const char *format, ...)
{
    size_t room = line->reply_size - line->reply_len;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line->reply + line->reply_len, room, format, args);
    va_end(args);
    if (n > 0)
        line->reply_len += (size_t)n < room ? (size_t)n : room - 1;
}

bool
fault_line_refuse(struct fault_line *line, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line->reply, line->reply_size, format, args);
    va_end(args);
    line->reply_len = n < 0 ? 0 : (size_t)n < line->reply_size ? (size_t)n : line->reply_size - 1;
    return false;
}

static bool
add_word(struct fault_line *line, char *word)
{
    if (line->count == FAULT_WORDS_MAX)
        return fault_line_refuse(line, "more than %d words", FAULT_WORDS_MAX);
    line->words[line->count++] = word;
    return true;
}

bool
fault_line_read(struct fault_line *line, const char *text, size_t len)
{
    char *at = line->text;

    if (len >= sizeof(line->text))
        return fault_line_refuse(line, "longer than %d octets", FAULT_LINE_MAX - 1);
    memcpy(line->text, text, len);
    line->text[len] = '\0';
    line->count = 0;
    line->at = 0;
    for (;;) {
        bool quoted;
        char *end;

        at += strspn(at, BLANKS);
        if (*at == '\0' || *at == '#')
            return true;
        quoted = *at == '"';
        at += quoted;
        end = at + strcspn(at, quoted ? "\"" : BLANKS);
        if (quoted && *end == '\0')
            return fault_line_refuse(line, "a quote is not closed");
        if (!add_word(line, at))
            return false;
        at = *end != '\0' ? end + 1 : end;
        *end = '\0';
    }
}

bool
fault_line_word(struct fault_line *line, const char *what, const char **out)
{
    if (line->at == line->count) {
        fault_line_refuse(line, "%s is missing", what);
        return false;
    }
    *out = line->words[line->at++];
    return true;
}

bool
fault_line_number(struct fault_line *line, unsigned long most, unsigned long *out)
{
    const char *word = NULL;
    unsigned long number;

    if (!fault_line_word(line, "a number", &word))
        return false;
    if (!fault_number_parse(word, &number) || number > most)
        return fault_line_refuse(line, "%s: not a number up to %lu", word, most);
    *out = number;
    return true;
}

bool
fault_line_share(struct fault_line *line, double *out)
{
    const char *word = NULL;
    double share;
    char *end;

    if (!fault_line_word(line, "a share", &word))
        return false;
    share = strtod(word, &end);
    if (end == word || *end != '\0' || !(share >= 0 && share <= 1))
        return fault_line_refuse(line, "%s: not a share from 0 to 1", word);
    *out = share;
    return true;
}

bool
fault_time_parse(const char *word, int64_t *out_ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", NS_PER_SECOND}};
    char *unit;
    double value = strtod(word, &unit);

    if (strcmp(word, "0") == 0) {
        *out_ns = 0;
        return true;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && unit != word; i++) {
        double ns = value * units[i].ns;

        if (strcmp(unit, units[i].name) == 0 && ns >= 0 && ns <= DAY_NS) {
            *out_ns = (int64_t)ns;
            return true;
        }
    }
    return false;
}

bool
fault_line_time(struct fault_line *line, int64_t *out_ns)
{
    const char *word = NULL;

    if (!fault_line_word(line, "a time", &word))
        return false;
    if (!fault_time_parse(word, out_ns))
        return fault_line_refuse(line, "%s: not a time such as 250us, 10ms, 1.5s", word);
    return true;
}

bool
fault_line_rv(struct fault_line *line, CK_RV *out)
{
    const char *word = NULL;

    if (!fault_line_word(line, "a return value", &word))
        return false;
    if (!fault_ckr_parse(word, out))
        return fault_line_refuse(line, "%s: not a return value", word);
    return true;
}

static bool
add_function(struct fault_line *line, const char *name, bool on[FN_COUNT])
{
    enum fault_fn fn;

    if (strcmp(name, "any") == 0) {
        memset(on, true, FN_COUNT * sizeof(on[0]));
        return true;
    }
    if (!fault_fn_parse(name, &fn))
        return fault_line_refuse(line, "%s: not a function", name);
    on[fn] = true;
    return true;
}

bool
fault_line_functions(struct fault_line *line, bool on[FN_COUNT])
{
    const char *word = NULL;
    char names[FAULT_LINE_MAX];
    char *rest = NULL;

    memset(on, false, FN_COUNT * sizeof(on[0]));
    if (!fault_line_word(line, "a function", &word))
        return false;
    snprintf(names, sizeof(names), "%s", word);
    for (char *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        if (!add_function(line, name, on))
            return false;
    }
    return true;
}

bool
fault_line_take(struct fault_line *line, const char *word)
{
    if (line->at == line->count || strcmp(line->words[line->at], word) != 0)
        return false;
    line->at++;
    return true;
}

bool
fault_line_end(struct fault_line *line)
{
    if (line->at < line->count)
        return fault_line_refuse(line, "%s: not understood", line->words[line->at]);
    return true;
}
