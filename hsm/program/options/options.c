/* options.c - a command line driven by tables. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hsm/log.h>
#include <hsm/process.h>

#define LINE_WIDTH    90
#define NAME_TOLD_MAX 40 /* octets of an unknown option's name that a refusal repeats */

static const struct option_table *table; /* the running program's */

enum hsm_status
options_refuse(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", table->program);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return HSM_ERR_USAGE;
}

/* A precision for printf(). */
static int
name_told(size_t len)
{
    return len < NAME_TOLD_MAX ? (int)len : NAME_TOLD_MAX;
}

enum hsm_status
options_number(const char *option, const char *text, long long min, long long max, long long *out)
{
    char *end = NULL;
    long long number = -1;

    errno = 0;
    if (*text >= '0' && *text <= '9')
        number = strtoll(text, &end, 10);
    if (end != NULL && *end == '\0' && errno == 0 && number >= min && number <= max) {
        *out = number;
        return HSM_OK;
    }
    if (max == LLONG_MAX)
        return options_refuse("--%s: not a number from %lld on", option, min);
    return options_refuse("--%s: not a number from %lld to %lld", option, min, max);
}

/* ---- options of a command ---- */

/* True if the command takes the option; *needed if it cannot be left out ("!"). */
static bool
takes(const struct command *command, const char *name, bool *needed)
{
    size_t len = strlen(name);
    const char *options = command->options;

    *needed = false;
    while (*options != '\0') {
        size_t word = strcspn(options, " ");

        if (strncmp(options, name, len) == 0 && (word == len || options[len] == '!')) {
            *needed = word != len;
            return true;
        }
        options += word;
        options += strspn(options, " ");
    }
    return strncmp(name, "log-", 4) == 0;
}

bool
options_take(const struct command *command, const char *name)
{
    bool needed;

    return takes(command, name, &needed);
}

static bool
takes_several(const struct command *command)
{
    const char *dots = strstr(command->operand, "...");

    return dots != NULL && dots[3] == '\0';
}

/* Number of leading words that the command line shares with a command's name; *whole: all of the
 * name's. */
static size_t
words_alike(const char *name, char *const *words, bool *whole)
{
    for (size_t n = 0;; n++) {
        size_t len = strcspn(name, " ");

        *whole = false;
        if (words[n] == NULL || strlen(words[n]) != len || strncmp(words[n], name, len) != 0)
            return n;
        *whole = name[len] == '\0';
        if (*whole)
            return n + 1;
        name += len + 1;
    }
}

/* ---- help ---- */

static void
print_line(const char *left, const char *help)
{
    printf("  %-22s  %s\n", left, help);
}

static void
print_option(const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", name, value != NULL ? " " : "",
             value != NULL ? value : "");
    print_line(left, help);
}

/* Print the commands whose names begin with these words; all commands without words. */
static void
print_commands(char *const *words, size_t count)
{
    printf("usage: %s ", table->program);
    for (size_t i = 0; i < count; i++)
        printf("%s ", words[i]);
    printf("COMMAND [OPTION...]\n\n");
    if (table->purpose != NULL && count == 0)
        printf("%s\n\n", table->purpose);
    for (size_t i = 0; i < table->command_count; i++) {
        const struct command *command = &table->commands[i];
        bool whole;
        char left[64];

        snprintf(left, sizeof(left), "%s%s%s", command->name, command->operand != NULL ? " " : "",
                 command->operand != NULL ? command->operand : "");
        if (words_alike(command->name, words, &whole) >= count)
            print_line(left, command->summary);
    }
    printf("\nEach takes --help. No private key leaves its token; PINs and passwords are never"
           " arguments.\n");
    if (table->more != NULL && count == 0)
        table->more();
}

/* A word of the synopsis, on the next line if this one is full. */
static void
put_word(size_t *column, const char *word)
{
    if (*column + strlen(" ") + strlen(word) > LINE_WIDTH) {
        printf("\n      ");
        *column = strlen("      ");
    }
    printf(" %s", word);
    *column += strlen(" ") + strlen(word);
}

/* The required options; "[OPTION...]" if there are others. */
static void
print_synopsis(const struct command *command)
{
    size_t column = strlen("usage:");
    bool others = false;
    bool needed;
    char word[96];

    printf("usage:");
    snprintf(word, sizeof(word), "%s %s", table->program, command->name);
    put_word(&column, word);
    for (const struct option_row *row = table->rows; row->name != NULL; row++) {
        if (!takes(command, row->name, &needed))
            continue;
        others = others || !needed;
        snprintf(word, sizeof(word), "--%s %s", row->name, row->value);
        if (needed)
            put_word(&column, word);
    }
    if (others)
        put_word(&column, "[OPTION...]");
    if (command->operand != NULL)
        put_word(&column, command->operand);
    putchar('\n');
}

static void
print_command(const struct command *command)
{
    print_synopsis(command);
    printf("\n%s\n\n", command->summary);
    for (const struct option_row *row = table->rows; row->name != NULL; row++)
        if (options_take(command, row->name))
            print_option(row->name, row->value, row->help);
    print_option("help", NULL, "this text");
    print_option("version", NULL, "the version");
    if (command->more != NULL)
        printf("\n%s", command->more);
}

static void
print_version(void)
{
    printf("%s %s\n", table->program, STI_VERSION);
}

/* ---- reading ---- */

static const char **
texts(struct arguments *arguments, const struct option_row *row)
{
    return (const char **)((char *)arguments + row->offset);
}

static bool *
switched(struct arguments *arguments, const struct option_row *row)
{
    return (bool *)((char *)arguments + row->offset);
}

static bool
is_said(struct arguments *arguments, const struct option_row *row)
{
    return row->kind == OPTION_SWITCH ? *switched(arguments, row) : *texts(arguments, row) != NULL;
}

static enum hsm_status
store(struct arguments *arguments, const struct option_row *row, const char *value)
{
    size_t n = 0;

    if (row->kind != OPTION_LIST && !table->last_counts && is_said(arguments, row))
        return options_refuse("--%s is there twice", row->name);
    if (row->kind == OPTION_SWITCH) {
        *switched(arguments, row) = true;
        return HSM_OK;
    }
    while (row->kind == OPTION_LIST && texts(arguments, row)[n] != NULL)
        n++;
    if (n == row->max)
        return options_refuse("--%s is there more than %zu times", row->name, row->max);
    texts(arguments, row)[n] = value;
    return HSM_OK;
}

static bool
is_named(const struct option_row *row, const char *name, size_t len)
{
    return strlen(row->name) == len && strncmp(row->name, name, len) == 0;
}

/* Why a name is not an option of the command. An abbreviation is not accepted: "--pin" would be
 * "--pin-source", and what was typed after it a source, which error messages repeat. A PIN must
 * never seem to be a valid argument. */
static enum hsm_status
refuse_name(const struct command *command, const char *name, size_t len)
{
    const struct option_row *longer = NULL;
    bool ambiguous = false;

    for (const struct option_row *row = table->rows; row->name != NULL; row++) {
        if (is_named(row, name, len))
            return options_refuse("%s does not take --%s", command->name, row->name);
        if (strncmp(row->name, name, len) != 0 || !options_take(command, row->name))
            continue;
        ambiguous = longer != NULL;
        longer = row;
    }
    if (longer == NULL)
        return options_refuse("%s: unrecognized option --%.*s", command->name, name_told(len),
                              name);
    if (ambiguous)
        return options_refuse("--%.*s is cut short, and ambiguous: see %s %s --help",
                              name_told(len), name, table->program, command->name);
    return options_refuse("--%.*s is cut short: write --%s", name_told(len), name, longer->name);
}

static const struct option_row *
find_row(const struct command *command, const char *name, size_t len)
{
    for (const struct option_row *row = table->rows; row->name != NULL; row++)
        if (is_named(row, name, len) && options_take(command, row->name))
            return row;
    return NULL;
}

/* Read an option at **at, with its value in the same word or in the next one; *at is moved past
 * it. */
static enum hsm_status
read_option(const struct command *command, char ***at, struct arguments *out)
{
    const char *name = *(*at)++ + strlen("--");
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct option_row *row = find_row(command, name, len);

    if (row == NULL)
        return refuse_name(command, name, len);
    if (row->kind == OPTION_SWITCH && value != NULL)
        return options_refuse("--%s takes no value", row->name);
    if (row->kind != OPTION_SWITCH && value == NULL) {
        value = **at;
        if (value == NULL)
            return options_refuse("--%s: %s is needed", row->name, row->value);
        (*at)++;
    }
    return store(out, row, value);
}

static enum hsm_status
check_needed(const struct command *command, struct arguments *arguments)
{
    bool needed;

    for (const struct option_row *row = table->rows; row->name != NULL; row++)
        if (takes(command, row->name, &needed) && needed && !is_said(arguments, row))
            return options_refuse("%s: --%s is needed", command->name, row->name);
    return HSM_OK;
}

static enum hsm_status
take_operands(const struct command *command, char *const *operands, size_t count,
              struct arguments *arguments)
{
    struct operands *out = (struct operands *)((char *)arguments + table->operands_offset);

    if (count > 0 && (command->operand == NULL || (count > 1 && !takes_several(command))))
        return options_refuse("%s: too many arguments", command->name);
    if (count > 0)
        *out = (struct operands){operands[0], operands, count};
    else if (command->operand != NULL && command->operand[0] != '[')
        return options_refuse("%s: %s is needed", command->name, command->operand);
    return check_needed(command, arguments);
}

/* True if the word asked for help or the version, which was printed. */
static bool
answer(const char *word, const struct command *command)
{
    if (strcmp(word, "--help") == 0)
        print_command(command);
    else if (strcmp(word, "--version") == 0)
        print_version();
    else
        return false;
    return true;
}

/* The words after the command's name: options and operands in any order, after "--" operands only.
 * The operands are moved to the front. *done: help or the version was printed, and no command is to
 * be run. */
static enum hsm_status
read_words(const struct command *command, char **words, struct arguments *out, bool *done)
{
    char **at = words;
    size_t operands = 0;
    bool has_options = true;

    while (*at != NULL) {
        const char *word = *at;

        if (!has_options || word[0] != '-' || word[1] == '\0') {
            words[operands++] = *at++;
        } else if (word[1] != '-') {
            return options_refuse("%s: options begin with two dashes", command->name);
        } else if (word[2] == '\0') {
            has_options = false;
            at++;
        } else if (answer(word, command)) {
            *done = true;
            return HSM_OK;
        } else if (read_option(command, &at, out) != HSM_OK) {
            return HSM_ERR_USAGE;
        }
    }
    return take_operands(command, words, operands, out);
}

/* ---- running ---- */

/* The value of an option that all commands have; NULL: not given, or the program does not have
 * it. */
static const char *
said(struct arguments *arguments, const char *name)
{
    for (const struct option_row *row = table->rows; row->name != NULL; row++)
        if (strcmp(row->name, name) == 0)
            return *texts(arguments, row);
    return NULL;
}

static enum hsm_status
open_log(struct arguments *arguments)
{
    struct hsm_log_config log = {table->program, HSM_LOG_TEXT, HSM_LOG_INFO};
    const char *format = said(arguments, "log-format");
    const char *level = said(arguments, "log-level");

    if (format != NULL && hsm_log_format_parse(format, &log.format) != HSM_OK)
        return options_refuse("--log-format is text or json");
    if (level != NULL && hsm_log_level_parse(level, &log.level) != HSM_OK)
        return options_refuse("--log-level is error, warning, info or debug");
    hsm_log_open(&log);
    return HSM_OK;
}

static enum hsm_status
read_and_run(const struct command *command, char **words, struct arguments *arguments)
{
    bool done = false;
    enum hsm_status st = read_words(command, words, arguments, &done);

    if (st != HSM_OK || done)
        return st;
    if (table->complete != NULL)
        table->complete(command, arguments);
    st = open_log(arguments);
    return st == HSM_OK ? command->run(arguments) : st;
}

static enum hsm_status
run_command(const struct command *command, char **words)
{
    struct arguments *arguments = calloc(1, table->arguments_size);
    enum hsm_status st =
        arguments != NULL ? read_and_run(command, words, arguments) : HSM_ERR_NOMEM;

    free(arguments);
    return st;
}

/* `sti-hsm --help`, `sti-pa account key --help`, and words that are not a command. `group` of the
 * words begin a command's name. */
static enum hsm_status
without_command(char *const *words, size_t group)
{
    const char *next = words[group];

    if (next == NULL)
        return options_refuse("no command, or no such command; see %s --help", table->program);
    if (strcmp(next, "--help") == 0) {
        print_commands(words, group);
        return HSM_OK;
    }
    if (strcmp(next, "--version") == 0) {
        print_version();
        return HSM_OK;
    }
    if (strncmp(next, "--", 2) == 0)
        return options_refuse("--%.*s: the command comes first; see %s --help",
                              name_told(strcspn(next + 2, "=")), next + 2, table->program);
    return options_refuse("no such command; see %s --help", table->program);
}

static enum hsm_status
find_and_run(char **words)
{
    const struct command *found = NULL;
    size_t most = 0;
    size_t group = 0;

    for (size_t i = 0; i < table->command_count; i++) { /* "audit show" is not "audit" */
        bool whole;
        size_t alike = words_alike(table->commands[i].name, words, &whole);

        group = alike > group ? alike : group;
        if (!whole || alike <= most)
            continue;
        most = alike;
        found = &table->commands[i];
    }
    return found != NULL ? run_command(found, words + most) : without_command(words, group);
}

/* A reader that has closed the pipe needs no more output. */
static bool
reader_has_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

int
options_main(const struct option_table *program_table, int argc, char **argv)
{
    enum hsm_status st;

    table = program_table;
    hsm_log_open(&(struct hsm_log_config){table->program, HSM_LOG_TEXT, HSM_LOG_INFO});
    st = hsm_process_harden();
    if (st == HSM_OK)
        st = find_and_run(argv + (argc > 0 ? 1 : 0));
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && !reader_has_gone()) {
        hsm_log(HSM_LOG_ERROR, "cannot write to standard output");
        st = st == HSM_OK ? HSM_ERR_IO : st;
    }
    return hsm_status_exit(st);
}
