/* options.c - the command line of this floor's programs, by tables. */

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>
#include <hsm/process.h>

#include "option_word.h"

enum hsm_status
options_refuse(const struct option_table *table, const char *why)
{
    fprintf(stderr, "%s: %s\nTry '%s --help'.\n", table->program, why, table->program);
    return HSM_ERR_USAGE;
}

/* Whether a command takes an option, and cannot do without it. */
static bool
takes(const struct option_command *command, const char *option, bool *required)
{
    size_t len = strlen(option);

    for (const char *at = command->options; (at = strstr(at, option)) != NULL; at += len) {
        bool begins = at == command->options || at[-1] == ' ';

        *required = at[len] == '!';
        if (begins && (*required || at[len] == ' ' || at[len] == '\0'))
            return true;
    }
    *required = false;
    return false;
}

static enum hsm_status
take(const struct option_table *table, const struct option_row *row, void *arguments,
     const char *value)
{
    void *member = (char *)arguments + row->offset;
    const char **texts = member;
    size_t n = 0;

    switch (row->kind) {
    case OPTION_TEXT:
        texts[0] = value;
        return HSM_OK;
    case OPTION_SWITCH:
        *(bool *)member = true;
        return HSM_OK;
    case OPTION_LIST:
        break;
    }
    while (texts[n] != NULL)
        n++;
    if (n == row->list_max)
        return options_refuse(table, "an option is given too often");
    texts[n] = value;
    return HSM_OK;
}

static bool
is_given(const struct option_row *row, const void *arguments)
{
    const void *member = (const char *)arguments + row->offset;

    return row->kind == OPTION_SWITCH ? *(const bool *)member
                                      : *(const char *const *)member != NULL;
}

/* Every option is one that the command takes, and none that it needs is missing. */
static enum hsm_status
check(const struct option_table *table, const struct option_command *command, const void *arguments)
{
    char text[128];

    for (size_t i = 0; i < table->row_count; i++) {
        const struct option_row *row = &table->rows[i];
        bool required;
        bool taken = takes(command, row->name, &required);
        bool given = is_given(row, arguments);

        if (given == taken || (!given && !required))
            continue;
        snprintf(text, sizeof(text), given ? "%s does not take --%s" : "%s wants --%s",
                 command->words, row->name);
        return options_refuse(table, text);
    }
    return HSM_OK;
}

static enum hsm_status
parse(const struct option_table *table, void *arguments, int argc, char **argv)
{
    struct option options[OPTIONS_MAX + 1] = {{0}};
    struct hsm_reason why;
    int found;

    for (size_t i = 0; i < table->row_count && i < OPTIONS_MAX; i++) {
        options[i].name = table->rows[i].name;
        options[i].has_arg = table->rows[i].kind == OPTION_SWITCH ? no_argument : required_argument;
        options[i].val = OPTION_WORD_FIRST + (int)i;
    }
    opterr = 0;
    while ((found = getopt_long(argc, argv, OPTION_WORD_NO_SHORT, options, NULL)) != -1) {
        const struct option_row *row;

        if (found < OPTION_WORD_FIRST) {
            option_word_fault(found, argv, &why);
            return options_refuse(table, why.text);
        }
        row = &table->rows[found - OPTION_WORD_FIRST];
        if (!option_word_is_spelled_out(argv, row->name))
            return options_refuse(table, "an option is cut short");
        if (take(table, row, arguments, optarg) != HSM_OK)
            return HSM_ERR_USAGE;
    }
    return optind == argc ? HSM_OK : options_refuse(table, "a word too many");
}

/* Whether the first words are `wanted`, and how many they are. */
static bool
begins_with(const char *wanted, int argc, char **argv, int *words)
{
    int n = 0;

    for (;;) {
        size_t len = strcspn(wanted, " ");

        if (++n >= argc || strlen(argv[n]) != len || strncmp(argv[n], wanted, len) != 0)
            return false;
        if (wanted[len] == '\0')
            break;
        wanted += len + 1;
    }
    *words = n;
    return true;
}

/* The command of the most words: "ca add" is not "ca". */
static const struct option_command *
find(const struct option_table *table, int argc, char **argv, int *words)
{
    const struct option_command *found = NULL;

    *words = 0;
    for (size_t i = 0; i < table->command_count; i++) {
        int n;

        if (!begins_with(table->commands[i].words, argc, argv, &n) || n <= *words)
            continue;
        *words = n;
        found = &table->commands[i];
    }
    return found;
}

static enum hsm_status
run(const struct option_table *table, void *arguments, int argc, char **argv)
{
    const struct option_command *command;
    enum hsm_status st;
    int words;

    if (argc >= 2 && strcmp(argv[argc - 1], "--help") == 0) {
        table->help();
        return HSM_OK;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", table->program, STI_VERSION);
        return HSM_OK;
    }
    command = find(table, argc, argv, &words);
    if (command == NULL)
        return options_refuse(table, argc < 2 ? "no command" : "no such command");
    argv[words] = argv[0]; /* what getopt_long() calls us */
    st = parse(table, arguments, argc - words, argv + words);
    if (st == HSM_OK)
        st = check(table, command, arguments);
    return st == HSM_OK ? command->run(arguments) : st;
}

int
options_main(const struct option_table *table, void *arguments, int argc, char **argv)
{
    enum hsm_status st;

    hsm_log_open(&(struct hsm_log_config){.program = table->program, .level = HSM_LOG_INFO});
    st = hsm_process_harden();
    if (st == HSM_OK)
        st = run(table, arguments, argc, argv);
    return hsm_status_exit(st);
}

bool
options_count(const char *text, long long max, long long *out)
{
    char *end = NULL;
    long long value;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < 1 || value > max)
        return false;
    *out = value;
    return true;
}
