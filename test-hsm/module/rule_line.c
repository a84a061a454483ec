/* rule_line.c - parse conditions and actions of rules. */
#include "rule_line.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latency.h"
#include "names.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct choice {
    const char *word;
    int value;
};

static const struct choice damages[] = {
    {"flip", FAULT_FLIP},     {"short", FAULT_SHORT},     {"long", FAULT_LONG},
    {"r-zero", FAULT_R_ZERO}, {"s-zero", FAULT_S_ZERO},   {"zero", FAULT_ZERO},
    {"der", FAULT_DER},       {"garbage", FAULT_GARBAGE}, {"stale", FAULT_STALE},
};

static const struct choice object_answers[] = {
    {"empty", FAULT_EMPTY},
    {"duplicate", FAULT_DUPLICATE},
    {"twin", FAULT_TWIN},
    {"partial", FAULT_PARTIAL},
};

static const struct choice values[] = {
    {"missing", FAULT_MISSING},
    {"sensitive", FAULT_SENSITIVE},
    {"unavailable", FAULT_UNAVAILABLE},
    {"empty", FAULT_NO_OCTETS},
};

static const struct choice points[] = {
    {"der", FAULT_POINT_DER},   {"raw", FAULT_POINT_RAW},     {"xy", FAULT_POINT_XY},
    {"bits", FAULT_POINT_BITS}, {"other", FAULT_POINT_OTHER},
};

static const struct choice effects[] = {
    {"drop", FAULT_DROP},
    {"reboot", FAULT_REBOOT},
    {"logout", FAULT_LOGOUT},
    {"renumber", FAULT_RENUMBER},
    {"renumber-slots", FAULT_RENUMBER_SLOTS},
    {"exchange", FAULT_EXCHANGE},
    {"finalize", FAULT_FINALIZE},
    {"crash", FAULT_CRASH},
};

static bool
choose(const struct choice *choices, size_t count, const char *word, int *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(choices[i].word, word) == 0) {
            *out = choices[i].value;
            return true;
        }
    }
    return false;
}

static bool
read_choice(struct fault_line *line, const char *what, const struct choice *choices, size_t count,
            int *out)
{
    const char *word;

    if (!fault_line_word(line, what, &word))
        return false;
    if (!choose(choices, count, word, out))
        return fault_line_refuse(line, "%s: not %s", word, what);
    return true;
}

bool
fault_line_label(struct fault_line *line, char label[FAULT_LABEL_SIZE])
{
    const char *word;

    if (!fault_line_word(line, "a label", &word))
        return false;
    if (strlen(word) >= FAULT_LABEL_SIZE)
        return fault_line_refuse(line, "%s: longer than a token's label", word);
    snprintf(label, FAULT_LABEL_SIZE, "%s", word);
    return true;
}

/* ---- conditions */

static bool
read_token(struct fault_line *line, struct fault_rule *rule)
{
    return fault_line_label(line, rule->token);
}

static bool
read_after(struct fault_line *line, struct fault_rule *rule)
{
    return fault_line_number(line, ULONG_MAX, &rule->after);
}

static bool
read_every(struct fault_line *line, struct fault_rule *rule)
{
    if (!fault_line_number(line, ULONG_MAX, &rule->every))
        return false;
    return rule->every > 0 || fault_line_refuse(line, "every 0: not a number from 1");
}

static bool
read_times(struct fault_line *line, struct fault_rule *rule)
{
    if (!fault_line_number(line, ULONG_MAX, &rule->times))
        return false;
    return rule->times > 0 || fault_line_refuse(line, "times 0: not a number from 1");
}

static bool
read_for(struct fault_line *line, struct fault_rule *rule)
{
    int64_t ns;

    if (!fault_line_time(line, &ns))
        return false;
    rule->until_ns = fault_now_ns() + ns;
    return true;
}

static bool
read_chance(struct fault_line *line, struct fault_rule *rule)
{
    return fault_line_share(line, &rule->chance);
}

/* ---- actions */

static bool
read_rv(struct fault_line *line, struct fault_rule *rule)
{
    struct fault_strike *strike = &rule->strike;

    if (!fault_line_rv(line, &strike->rv))
        return false;
    if (strike->rv == CKR_OK)
        return fault_line_refuse(line, "rv CKR_OK: not a fault");
    strike->answers = true;
    if (fault_line_take(line, "active"))
        strike->outcome = FAULT_ACTIVE;
    else if (fault_line_take(line, "done"))
        strike->outcome = FAULT_DONE;
    return true;
}

static bool
read_delay(struct fault_line *line, struct fault_rule *rule)
{
    return fault_line_time(line, &rule->strike.delay_ns);
}

static bool
read_block(struct fault_line *line, struct fault_rule *rule)
{
    (void)line;
    rule->strike.holds = true;
    return true;
}

static bool
read_signature(struct fault_line *line, struct fault_rule *rule)
{
    int value = FAULT_NO_DAMAGE;

    if (!read_choice(line, "a damage to signatures", damages, COUNT(damages), &value))
        return false;
    rule->strike.damage = (enum fault_damage)value;
    return true;
}

static bool
read_objects(struct fault_line *line, struct fault_rule *rule)
{
    int value = FAULT_ALL_OBJECTS;

    if (!read_choice(line, "an answer of C_FindObjects", object_answers, COUNT(object_answers),
                     &value))
        return false;
    rule->strike.objects = (enum fault_objects)value;
    if (value != FAULT_PARTIAL)
        return true;
    if (!fault_line_number(line, ULONG_MAX, &rule->strike.most))
        return false;
    return rule->strike.most > 0 || fault_line_refuse(line, "partial 0: not a number from 1");
}

static void
put(struct fault_alteration *alteration, const void *value, size_t len)
{
    alteration->value = FAULT_OCTETS;
    alteration->len = len;
    memcpy(alteration->octets, value, len);
}

static bool
put_hex(struct fault_alteration *alteration, const char *hex)
{
    CK_BYTE octets[FAULT_ALTERED_MAX];
    size_t len = strlen(hex) / 2;

    if (strlen(hex) % 2 != 0 || len > sizeof(octets) ||
        strspn(hex, "0123456789abcdefABCDEF") != strlen(hex))
        return false;
    for (size_t i = 0; i < len; i++) {
        char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};

        octets[i] = (CK_BYTE)strtoul(pair, NULL, 16);
    }
    put(alteration, octets, len);
    return true;
}

/* true, false, hex:0102, a number, or a word for a missing value. */
static bool
read_value(struct fault_line *line, struct fault_alteration *alteration)
{
    static const CK_BBOOL yes = CK_TRUE;
    static const CK_BBOOL no = CK_FALSE;
    const char *word;
    unsigned long number;
    int value;

    if (!fault_line_word(line, "a value", &word))
        return false;
    if (choose(values, COUNT(values), word, &value))
        alteration->value = (enum fault_value)value;
    else if (strcmp(word, "true") == 0)
        put(alteration, &yes, sizeof(yes));
    else if (strcmp(word, "false") == 0)
        put(alteration, &no, sizeof(no));
    else if (fault_number_parse(word, &number))
        put(alteration, &number, sizeof(number));
    else if (strncmp(word, "hex:", 4) != 0 || !put_hex(alteration, word + 4))
        return fault_line_refuse(line, "%s: not a value of an attribute", word);
    return true;
}

static bool
read_attribute(struct fault_line *line, struct fault_rule *rule)
{
    const char *word;

    if (!fault_line_word(line, "an attribute", &word))
        return false;
    if (!fault_cka_parse(word, &rule->strike.alteration.type))
        return fault_line_refuse(line, "%s: not an attribute", word);
    return read_value(line, &rule->strike.alteration);
}

static bool
read_point(struct fault_line *line, struct fault_rule *rule)
{
    int value = FAULT_AS_IT_IS;

    if (!read_choice(line, "a form of CKA_EC_POINT", points, COUNT(points), &value))
        return false;
    rule->strike.alteration.type = CKA_EC_POINT;
    rule->strike.alteration.value = (enum fault_value)value;
    return true;
}

static bool
read_flag(struct fault_line *line, struct fault_rule *rule)
{
    const char *word;
    CK_FLAGS flag;

    if (!fault_line_word(line, "a flag", &word))
        return false;
    if (!fault_ckf_parse(word, &flag))
        return fault_line_refuse(line, "%s: not a flag of CK_TOKEN_INFO", word);
    rule->strike.flags |= flag;
    return true;
}

static bool
read_removal(struct fault_line *line, struct fault_rule *rule)
{
    rule->strike.effect = FAULT_REMOVE;
    if (fault_line_take(line, "slot"))
        rule->strike.effect = FAULT_REMOVE_WITH_SLOT;
    rule->strike.effect_rv = CKR_DEVICE_REMOVED;
    return fault_line_time(line, &rule->strike.effect_ns);
}

/* ---- */

struct part {
    const char *word;
    bool (*read)(struct fault_line *line, struct fault_rule *rule);
};

static const struct part conditions[] = {
    {"token", read_token}, {"after", read_after}, {"every", read_every},
    {"times", read_times}, {"for", read_for},     {"chance", read_chance},
};

static const struct part actions[] = {
    {"rv", read_rv},           {"delay", read_delay},
    {"block", read_block},     {"signature", read_signature},
    {"objects", read_objects}, {"attribute", read_attribute},
    {"point", read_point},     {"flag", read_flag},
    {"remove", read_removal},
};

/* True if the next word begins one of these parts; *good is then whether it could be parsed. */
static bool
read_part(const struct part *parts, size_t count, struct fault_line *line, struct fault_rule *rule,
          bool *good)
{
    for (size_t i = 0; i < count; i++) {
        if (fault_line_take(line, parts[i].word)) {
            *good = parts[i].read(line, rule);
            return true;
        }
    }
    return false;
}

static bool
read_effect(struct fault_line *line, struct fault_rule *rule)
{
    for (size_t i = 0; i < COUNT(effects); i++) {
        if (fault_line_take(line, effects[i].word)) {
            rule->strike.effect = (enum fault_effect)effects[i].value;
            return true;
        }
    }
    return false;
}

static void
begin(struct fault_rule *rule)
{
    memset(rule, 0, sizeof(*rule));
    rule->every = 1;
    rule->chance = 1;
}

static bool
read_conditions(struct fault_line *line, struct fault_rule *rule)
{
    bool good = true;

    while (good && read_part(conditions, COUNT(conditions), line, rule, &good))
        continue;
    return good;
}

bool
fault_rule_read(struct fault_line *line, struct fault_rule *out)
{
    bool good = true;
    bool acts = false;

    begin(out);
    if (!fault_line_functions(line, out->on) || !read_conditions(line, out))
        return false;
    while (good && (read_part(actions, COUNT(actions), line, out, &good) || read_effect(line, out)))
        acts = true;
    if (!good || !read_conditions(line, out) || !fault_line_end(line))
        return false;
    return acts || fault_line_refuse(line, "what is to happen is missing");
}

bool
fault_rule_read_numbered(struct fault_line *line, struct fault_rule *out)
{
    unsigned long number;
    bool any = false;

    begin(out);
    if (!fault_line_number(line, FAULT_NUMBERS, &number))
        return false;
    out->number = (unsigned)number;
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        out->on[fn] = fault_table_has(out->number, fn);
        any = any || out->on[fn];
    }
    if (!any)
        return fault_line_refuse(line, "fault %lu: strikes no function", number);
    return read_conditions(line, out) && fault_line_end(line);
}

/* ---- random */

/* "passing", "3", "passing,14" */
static bool
read_faults(struct fault_line *line, unsigned *out)
{
    const char *word;
    char names[FAULT_LINE_MAX];
    char *rest = NULL;

    if (!fault_line_word(line, "a list of faults", &word))
        return false;
    snprintf(names, sizeof(names), "%s", word);
    for (char *name = strtok_r(names, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        unsigned long fault = 0;

        if (strcmp(name, "passing") == 0)
            *out |= fault_table_passing();
        else if (!fault_number_parse(name, &fault) || fault < 1 || fault > FAULT_NUMBERS)
            return fault_line_refuse(line, "%s: not a fault from 1 to %d", name, FAULT_NUMBERS);
        else
            *out |= FAULT_BIT(fault);
    }
    return true;
}

/* "20ms..200ms" */
static bool
read_range(struct fault_line *line, struct fault_range *out)
{
    const char *word;
    char least[32];
    const char *dots;

    if (!fault_line_word(line, "a range of times", &word))
        return false;
    dots = strstr(word, "..");
    if (dots == NULL || (size_t)(dots - word) >= sizeof(least))
        return fault_line_refuse(line, "%s: not a range such as 20ms..1s", word);
    snprintf(least, sizeof(least), "%.*s", (int)(dots - word), word);
    if (!fault_time_parse(least, &out->least_ns) || !fault_time_parse(dots + 2, &out->most_ns) ||
        out->least_ns > out->most_ns)
        return fault_line_refuse(line, "%s: not a range such as 20ms..1s", word);
    return true;
}

static bool
read_random_part(struct fault_line *line, struct fault_random *out)
{
    if (fault_line_take(line, "seed"))
        return fault_line_number(line, ULONG_MAX, &out->seed);
    if (fault_line_take(line, "rate"))
        return fault_line_share(line, &out->rate);
    if (fault_line_take(line, "faults"))
        return read_faults(line, &out->faults);
    if (fault_line_take(line, "outage"))
        return read_range(line, &out->ranges.outage);
    if (fault_line_take(line, "stuck"))
        return read_range(line, &out->ranges.stuck);
    if (fault_line_take(line, "slow"))
        return read_range(line, &out->ranges.slow);
    if (fault_line_take(line, "gap"))
        return fault_line_time(line, &out->gap_ns);
    return fault_line_end(line);
}

bool
fault_random_read(struct fault_line *line, struct fault_random *out)
{
    *out = (struct fault_random){.seed = 1, .ranges = fault_ranges_default, .gap_ns = 250000000};
    while (line->at < line->count) {
        if (!read_random_part(line, out))
            return false;
    }
    if (out->faults == 0 || out->rate <= 0)
        return fault_line_refuse(line, "random needs a rate and faults");
    return true;
}
