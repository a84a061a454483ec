/* script.c - the commands. */
#include "script.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "behind.h"
#include "control.h"
#include "count.h"
#include "fake.h"
#include "handles.h"
#include "latency.h"
#include "limit.h"
#include "line.h"
#include "log.h"
#include "module.h"
#include "rule_line.h"
#include "rules.h"
#include "slots.h"
#include "throttle.h"
#include "world.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SLOW_RATE    1e9 /* calls per second: a higher rate is refused */

struct command {
    const char *word;
    bool (*obey)(struct fault_line *line);
};

/* ---- rules */

static bool
add_rule(struct fault_line *line, const struct fault_rule *rule)
{
    unsigned number = fault_rules_add(rule);

    if (number == 0)
        return fault_line_refuse(line, "there are %d rules already", FAULT_RULES_MAX);
    fault_line_say(line, "rule %u", number);
    return true;
}

static bool
obey_on(struct fault_line *line)
{
    struct fault_rule rule;

    return fault_rule_read(line, &rule) && add_rule(line, &rule);
}

static bool
obey_fault(struct fault_line *line)
{
    struct fault_rule rule;

    return fault_rule_read_numbered(line, &rule) && add_rule(line, &rule);
}

static bool
obey_random(struct fault_line *line)
{
    struct fault_random random;

    if (fault_line_take(line, "off")) {
        fault_rules_set_random(NULL);
        return fault_line_end(line);
    }
    if (!fault_random_read(line, &random))
        return false;
    fault_rules_set_random(&random);
    return true;
}

/* ---- time and numbers */

static bool
read_latency(struct fault_line *line, struct fault_latency *out)
{
    memset(out, 0, sizeof(*out));
    if (fault_line_take(line, "off"))
        return fault_line_end(line);
    if (!fault_line_time(line, &out->fixed_ns))
        return false;
    if (fault_line_take(line, "jitter") && !fault_line_time(line, &out->jitter_ns))
        return false;
    if (fault_line_take(line, "ramp")) {
        if (!fault_line_time(line, &out->ramp_ns))
            return false;
        if (!fault_line_take(line, "most"))
            return fault_line_refuse(line, "ramp: what it goes up to (most) is missing");
        if (!fault_line_time(line, &out->most_ns))
            return false;
    }
    if (fault_line_take(line, "slow") &&
        (!fault_line_share(line, &out->slow_share) || !fault_line_time(line, &out->slow_ns)))
        return false;
    return fault_line_end(line);
}

static bool
obey_latency(struct fault_line *line)
{
    struct fault_latency latency;
    bool on[FN_COUNT];

    if (!fault_line_functions(line, on) || !read_latency(line, &latency))
        return false;
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        if (on[fn])
            fault_latency_set(fn, &latency);
    }
    return true;
}

/* A number, or the word that `none` points to, which gives 0: no limit. */
static bool
read_limit(struct fault_line *line, const char *none, unsigned long most, unsigned long *out)
{
    *out = 0;
    if (fault_line_take(line, none))
        return true;
    return fault_line_number(line, most, out);
}

static bool
obey_engines(struct fault_line *line)
{
    unsigned long count;

    if (!read_limit(line, "any", UINT_MAX, &count) || !fault_line_end(line))
        return false;
    fault_engines_set((unsigned)count);
    return true;
}

static bool
read_rv(struct fault_line *line, CK_RV *rv)
{
    return !fault_line_take(line, "rv") || fault_line_rv(line, rv);
}

static bool
obey_sessions(struct fault_line *line)
{
    unsigned long most;
    CK_RV rv = CKR_SESSION_COUNT;

    if (!read_limit(line, "any", FAULT_SESSIONS_MAX, &most) || !read_rv(line, &rv) ||
        !fault_line_end(line))
        return false;
    fault_limit_sessions(most, rv);
    return true;
}

static bool
obey_report(struct fault_line *line)
{
    enum fault_report report = FAULT_REPORT_NUMBER;
    unsigned long number = 0;

    if (fault_line_take(line, "true"))
        report = FAULT_REPORT_TRUE;
    else if (fault_line_take(line, "infinite"))
        report = FAULT_REPORT_INFINITE;
    else if (fault_line_take(line, "unknown"))
        report = FAULT_REPORT_UNKNOWN;
    else if (!fault_line_number(line, ULONG_MAX, &number))
        return false;
    if (!fault_line_end(line))
        return false;
    fault_limit_set_report(report, number);
    return true;
}

static bool
read_kind(struct fault_line *line, bool *read_write)
{
    *read_write = fault_line_take(line, "read-write");
    if (!*read_write && !fault_line_take(line, "read-only"))
        return fault_line_refuse(line, "read-only or read-write is missing");
    return true;
}

static bool
obey_refuse(struct fault_line *line)
{
    bool read_write;
    CK_RV rv;

    if (!read_kind(line, &read_write))
        return false;
    rv = read_write ? CKR_TOKEN_WRITE_PROTECTED : CKR_FUNCTION_NOT_SUPPORTED;
    if (!read_rv(line, &rv) || !fault_line_end(line))
        return false;
    fault_limit_kind(read_write, rv);
    return true;
}

static bool
obey_allow(struct fault_line *line)
{
    bool read_write;

    if (!read_kind(line, &read_write) || !fault_line_end(line))
        return false;
    fault_limit_kind(read_write, CKR_OK);
    return true;
}

static bool
obey_throttle(struct fault_line *line)
{
    unsigned long rate;
    unsigned long burst = 1;
    CK_RV rv = CKR_FUNCTION_FAILED;
    bool on[FN_COUNT];

    if (!fault_line_functions(line, on) ||
        !read_limit(line, "off", (unsigned long)SLOW_RATE, &rate))
        return false;
    if (fault_line_take(line, "burst") &&
        !fault_line_number(line, (unsigned long)SLOW_RATE, &burst))
        return false;
    if (!read_rv(line, &rv) || !fault_line_end(line))
        return false;
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        if (on[fn])
            fault_throttle_set(fn, (double)rate, burst > 0 ? (double)burst : 1, rv);
    }
    return true;
}

static bool
obey_lockout(struct fault_line *line)
{
    unsigned long tries;

    if (!read_limit(line, "off", UINT_MAX, &tries) || !fault_line_end(line))
        return false;
    fault_slot_set_lockout((unsigned)tries);
    return true;
}

/* ---- what happens to the token now */

/* "token LABEL", by default every token. */
static bool
read_slot(struct fault_line *line, unsigned *slot)
{
    char label[FAULT_LABEL_SIZE];

    *slot = FAULT_EVERY_SLOT;
    if (!fault_line_take(line, "token"))
        return fault_line_end(line);
    if (!fault_line_label(line, label) || !fault_line_end(line))
        return false;
    for (unsigned i = 0; i < fault_slot_count(); i++) {
        if (fault_slot_has_label(i, label)) {
            *slot = i;
            return true;
        }
    }
    return fault_line_refuse(line, "%s: no token of that label is known", label);
}

static bool
obey_reboot(struct fault_line *line)
{
    unsigned slot;

    if (!read_slot(line, &slot))
        return false;
    fault_world_reboot(slot);
    return true;
}

static bool
obey_logout(struct fault_line *line)
{
    unsigned slot;

    if (!read_slot(line, &slot))
        return false;
    fault_world_logout(slot);
    return true;
}

static bool
obey_renumber(struct fault_line *line)
{
    unsigned slot;

    if (fault_line_take(line, "slots")) {
        if (!fault_line_end(line))
            return false;
        fault_slot_renumber();
        return true;
    }
    if (!read_slot(line, &slot))
        return false;
    fault_world_renumber(slot);
    return true;
}

static bool
obey_exchange(struct fault_line *line)
{
    unsigned slot;

    if (!read_slot(line, &slot))
        return false;
    fault_line_say(line, "%zu", fault_world_exchange(slot));
    return true;
}

static bool
obey_remove(struct fault_line *line)
{
    char label[FAULT_LABEL_SIZE] = "";
    enum fault_removal how = FAULT_REMOVE_TOKEN;
    CK_RV rv = CKR_DEVICE_REMOVED;
    int64_t for_ns = 0;

    if (fault_line_take(line, "token") && !fault_line_label(line, label))
        return false;
    if (fault_line_take(line, "slot"))
        how = FAULT_REMOVE_SLOT;
    if (fault_line_take(line, "for") && !fault_line_time(line, &for_ns))
        return false;
    if (!read_rv(line, &rv) || !fault_line_end(line))
        return false;
    if (!fault_world_remove(label, how, rv, for_ns))
        return fault_line_refuse(line, "%d tokens are away already", FAULT_REMOVALS_MAX);
    return true;
}

static bool
obey_return(struct fault_line *line)
{
    char label[FAULT_LABEL_SIZE] = "";

    if (fault_line_take(line, "token") && !fault_line_label(line, label))
        return false;
    if (!fault_line_end(line))
        return false;
    fault_slot_return(label);
    return true;
}

static bool
obey_drop(struct fault_line *line)
{
    unsigned long count = FAULT_SESSIONS_MAX;

    if (!fault_line_take(line, "all") && !fault_line_number(line, FAULT_SESSIONS_MAX, &count))
        return false;
    if (!fault_line_end(line))
        return false;
    fault_world_drop_oldest(count);
    return true;
}

static bool
obey_finalize(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_world_finalize();
    return true;
}

static bool
obey_swap(struct fault_line *line)
{
    const char *label;
    const char *other;

    if (fault_line_take(line, "off")) {
        fault_world_swap(NULL, NULL);
        return fault_line_end(line);
    }
    if (!fault_line_word(line, "a key's label", &label) ||
        !fault_line_word(line, "the other key's label", &other) || !fault_line_end(line))
        return false;
    fault_world_swap(label, other);
    return true;
}

static bool
obey_release(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_release();
    return true;
}

/* ---- the module itself */

static bool
obey_module(struct fault_line *line)
{
    const char *path;

    if (!fault_line_word(line, "a path", &path) || !fault_line_end(line))
        return false;
    if (fault_behind != NULL)
        return fault_line_refuse(line, "a module is loaded already");
    fault_behind_name(path);
    return true;
}

static bool
obey_fake(struct fault_line *line)
{
    enum fault_fake mode = FAULT_FAKE_OFF;

    if (fault_line_take(line, "constant"))
        mode = FAULT_FAKE_CONSTANT;
    else if (fault_line_take(line, "replay"))
        mode = FAULT_FAKE_REPLAY;
    else if (!fault_line_take(line, "off"))
        return fault_line_refuse(line, "constant, replay or off is missing");
    if (!fault_line_end(line))
        return false;
    fault_fake_set(mode);
    return true;
}

static bool
offer(struct fault_line *line, bool offered)
{
    bool on[FN_COUNT];

    if (!fault_line_functions(line, on) || !fault_line_end(line))
        return false;
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        if (on[fn])
            fault_module_offer(fn, offered);
    }
    return true;
}

static bool
obey_null(struct fault_line *line)
{
    return offer(line, false);
}

static bool
obey_offer(struct fault_line *line)
{
    return offer(line, true);
}

static bool
obey_log(struct fault_line *line)
{
    const char *path;

    if (!fault_line_word(line, "a file", &path) || !fault_line_end(line))
        return false;
    if (!fault_log_open(strcmp(path, "off") != 0 ? path : NULL))
        return fault_line_refuse(line, "%s: cannot be written", path);
    return true;
}

static bool
obey_reset(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_rules_reset();
    fault_throttle_reset();
    fault_limit_reset();
    fault_slot_reset();
    fault_fake_set(FAULT_FAKE_OFF);
    fault_world_swap(NULL, NULL);
    fault_module_offer_all();
    fault_latency_reset();
    fault_count_reset();
    fault_session_reset_misuse();
    return true;
}

/* ---- questions */

/* Reply with the count of one function, or of each function whose count is not 0. */
static bool
tell(struct fault_line *line, unsigned long (*count)(enum fault_fn fn))
{
    const char *separator = "";
    const char *name;
    enum fault_fn fn;

    if (line->at < line->count) {
        if (!fault_line_word(line, "a function", &name) || !fault_line_end(line))
            return false;
        if (!fault_fn_parse(name, &fn))
            return fault_line_refuse(line, "%s: not a function", name);
        fault_line_say(line, "%lu", count(fn));
        return true;
    }
    for (fn = 0; fn < FN_COUNT; fn++) {
        if (count(fn) == 0)
            continue;
        fault_line_say(line, "%s%s %lu", separator, fault_fn_name(fn), count(fn));
        separator = "\n";
    }
    return true;
}

static bool
obey_count(struct fault_line *line)
{
    return tell(line, fault_count_calls);
}

static bool
obey_failed(struct fault_line *line)
{
    return tell(line, fault_count_failures);
}

static bool
obey_struck(struct fault_line *line)
{
    bool by_fault = fault_line_take(line, "fault");
    unsigned long number = 0;

    if ((by_fault || line->at < line->count) &&
        !fault_line_number(line, by_fault ? FAULT_NUMBERS : FAULT_RULES_MAX, &number))
        return false;
    if (!fault_line_end(line))
        return false;
    fault_line_say(line, "%lu",
                   by_fault ? fault_rules_struck_by_fault((unsigned)number)
                            : fault_rules_struck((unsigned)number));
    return true;
}

static bool
obey_held(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_line_say(line, "%u", fault_held());
    return true;
}

static bool
obey_waiting(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_line_say(line, "%u", fault_engine_waiting());
    return true;
}

static bool
obey_misuse(struct fault_line *line)
{
    if (!fault_line_end(line))
        return false;
    fault_line_say(line, "%lu", fault_session_misuse());
    return true;
}

static bool
obey_open(struct fault_line *line)
{
    unsigned slot;

    if (!read_slot(line, &slot))
        return false;
    fault_line_say(line, "%lu", fault_session_count(slot));
    return true;
}

static bool
obey_status(struct fault_line *line)
{
    enum fault_removal how;
    char label[FAULT_LABEL_SIZE];

    if (!fault_line_end(line))
        return false;
    fault_line_say(line, "initialized %s\n", fault_behind_is_initialized() ? "yes" : "no");
    fault_line_say(line, "sessions %lu\n", fault_session_count(FAULT_EVERY_SLOT));
    fault_line_say(line, "held %u\n", fault_held());
    fault_line_say(line, "struck %lu", fault_rules_struck(0));
    for (unsigned i = 0; i < fault_slot_count(); i++) {
        fault_slot_label(i, label);
        fault_line_say(line, "\nslot 0x%lx \"%s\" sessions %lu %s", fault_slot_shown(i), label,
                       fault_session_count(i), fault_slot_is_away(i, &how) ? "away" : "there");
    }
    return true;
}

/* ---- */

static const struct command commands[] = {
    {"on", obey_on},
    {"fault", obey_fault},
    {"random", obey_random},
    {"latency", obey_latency},
    {"engines", obey_engines},
    {"sessions", obey_sessions},
    {"report", obey_report},
    {"refuse", obey_refuse},
    {"allow", obey_allow},
    {"throttle", obey_throttle},
    {"lockout", obey_lockout},
    {"reboot", obey_reboot},
    {"logout", obey_logout},
    {"renumber", obey_renumber},
    {"exchange", obey_exchange},
    {"remove", obey_remove},
    {"return", obey_return},
    {"drop", obey_drop},
    {"finalize", obey_finalize},
    {"swap", obey_swap},
    {"release", obey_release},
    {"module", obey_module},
    {"fake", obey_fake},
    {"null", obey_null},
    {"offer", obey_offer},
    {"log", obey_log},
    {"reset", obey_reset},
    {"count", obey_count},
    {"failed", obey_failed},
    {"struck", obey_struck},
    {"held", obey_held},
    {"waiting", obey_waiting},
    {"misuse", obey_misuse},
    {"open", obey_open},
    {"status", obey_status},
};

static bool
obey(struct fault_line *line)
{
    const char *word = line->words[line->at++];

    line->reply_len = 0;
    line->reply[0] = '\0';
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (strcmp(commands[i].word, word) == 0)
            return commands[i].obey(line);
    }
    return fault_line_refuse(line, "%s: no such command", word);
}

/* Put "error: " before the reason, with the line's number if there are several lines. */
static bool
refused(struct fault_line *line, unsigned number, bool several)
{
    char why[FAULT_LINE_MAX];

    snprintf(why, sizeof(why), "%s", line->reply);
    if (several)
        fault_line_refuse(line, "error: line %u: %s", number, why);
    else
        fault_line_refuse(line, "error: %s", why);
    return false;
}

bool
fault_script_run(const char *text, char *reply, size_t size)
{
    struct fault_line line = {.reply = reply, .reply_size = size};
    bool several = strchr(text, '\n') != NULL;
    unsigned number = 0;

    reply[0] = '\0';
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        number++;
        if (!fault_line_read(&line, text, len))
            return refused(&line, number, several);
        if (line.count > 0 && !obey(&line))
            return refused(&line, number, several);
        text += len + (text[len] == '\n');
    }
    if (reply[0] == '\0')
        snprintf(reply, size, "ok");
    return true;
}

bool
fault_script_run_file(const char *path, char *error, size_t size)
{
    static char text[FAULT_COMMANDS_MAX + 1]; /* load time: one thread */
    FILE *file = fopen(path, "re");
    size_t len;

    if (file == NULL) {
        snprintf(error, size, "cannot be read");
        return false;
    }
    len = fread(text, 1, sizeof(text), file);
    fclose(file);
    if (len > FAULT_COMMANDS_MAX) {
        snprintf(error, size, "longer than %d octets", FAULT_COMMANDS_MAX);
        return false;
    }
    text[len] = '\0';
    return fault_script_run(text, error, size);
}
