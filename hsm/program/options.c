/* options.c - a command line by tables. */
#include "options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "option_word.h"

/* What getopt_long() gives. */
enum {
    OPTION_HELP = OPTION_WORD_FIRST,
    OPTION_VERSION,
    OPTION_ROW, /* of the first row; then those of the others */
};

static const struct option_table *table; /* of this program */

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

/* ---- what a command takes ---- */

/* True if it has the option; *needed if its word ends in "!". */
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

/* True if the command's first word is that; NULL: any. */
static bool
is_of_group(const struct command *command, const char *group)
{
    size_t len = group != NULL ? strlen(group) : 0;

    return group == NULL || (strncmp(command->name, group, len) == 0 &&
                             (command->name[len] == ' ' || command->name[len] == '\0'));
}

/* The commands of a group, or all of them for NULL. */
static void
print_commands(const char *group)
{
    printf("usage: %s %s%sCOMMAND [OPTION...]\n\n", table->program, group != NULL ? group : "",
           group != NULL ? " " : "");
    for (size_t i = 0; i < table->command_count; i++) {
        const struct command *command = &table->commands[i];
        char left[64];

        snprintf(left, sizeof(left), "%s%s%s", command->name, command->operand != NULL ? " " : "",
                 command->operand != NULL ? command->operand : "");
        if (is_of_group(command, group))
            print_line(left, command->summary);
    }
    printf(
        "\nEach takes --help. A private key never leaves its token; PINs are never arguments.\n");
}

static void
print_command(const struct command *command)
{
    bool needed;

    printf("usage: %s %s", table->program, command->name);
    for (size_t i = 0; table->rows[i].name != NULL; i++)
        if (takes(command, table->rows[i].name, &needed) && needed)
            printf(" --%s %s", table->rows[i].name, table->rows[i].value);
    printf(" [OPTION...]%s%s\n\n%s\n\n", command->operand != NULL ? " " : "",
           command->operand != NULL ? command->operand : "", command->summary);
    for (size_t i = 0; table->rows[i].name != NULL; i++)
        if (options_take(command, table->rows[i].name))
            print_option(table->rows[i].name, table->rows[i].value, table->rows[i].help);
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

/* The rows that the command takes, as getopt_long() wants them. */
static void
long_options(const struct command *command, struct option *out)
{
    size_t n = 0;

    for (size_t i = 0; i < OPTION_ROWS_MAX && table->rows[i].name != NULL; i++) {
        const struct option_row *row = &table->rows[i];

        if (options_take(command, row->name))
            out[n++] =
                (struct option){row->name, row->value != NULL ? required_argument : no_argument,
                                NULL, OPTION_ROW + (int)i};
    }
    out[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    out[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    out[n] = (struct option){NULL, 0, NULL, 0};
}

static const char **
member(struct arguments *arguments, const struct option_row *row)
{
    return (const char **)((char *)arguments + row->offset);
}

static enum hsm_status
store(struct arguments *arguments, const struct option_row *row, const char *value)
{
    const char **at = member(arguments, row);
    size_t n = 0;

    if (!row->is_list) {
        if (*at != NULL)
            return options_refuse("--%s is there twice", row->name);
        *at = value;
        return HSM_OK;
    }
    while (at[n] != NULL)
        n++;
    if (n == OPTION_TIMES_MAX)
        return options_refuse("more than %d times --%s", OPTION_TIMES_MAX, row->name);
    at[n] = value;
    return HSM_OK;
}

static enum hsm_status
check_needed(const struct command *command, struct arguments *arguments)
{
    bool needed;

    for (size_t i = 0; table->rows[i].name != NULL; i++)
        if (takes(command, table->rows[i].name, &needed) && needed &&
            *member(arguments, &table->rows[i]) == NULL)
            return options_refuse("%s: --%s is needed", command->name, table->rows[i].name);
    return HSM_OK;
}

static enum hsm_status
take_operands(const struct command *command, int argc, char **argv, struct arguments *arguments)
{
    struct operands *out = (struct operands *)((char *)arguments + table->operands_offset);

    if (optind < argc && command->operand != NULL) {
        out->first = argv[optind];
        out->all = argv + optind;
        out->count = takes_several(command) ? (size_t)(argc - optind) : 1;
        optind += (int)out->count;
    }
    if (optind < argc)
        return options_refuse("%s: too many arguments", command->name);
    if (command->operand != NULL && command->operand[0] != '[' && out->count == 0)
        return options_refuse("%s: %s is needed", command->name, command->operand);
    return check_needed(command, arguments);
}

/* *done: the option was answered, nothing is to be run. */
static enum hsm_status
read_options(const struct command *command, int argc, char **argv, struct arguments *out,
             bool *done)
{
    struct option options[OPTION_ROWS_MAX + 3];
    struct hsm_reason why;
    int chosen;

    long_options(command, options);
    opterr = 0;
    while ((chosen = getopt_long(argc, argv, OPTION_WORD_NO_SHORT, options, NULL)) != -1) {
        const struct option_row *row;

        *done = chosen == OPTION_HELP || chosen == OPTION_VERSION;
        if (chosen == OPTION_HELP)
            print_command(command);
        else if (chosen == OPTION_VERSION)
            print_version();
        if (*done)
            return HSM_OK;
        if (chosen < OPTION_ROW) {
            option_word_fault(chosen, argv, &why);
            return options_refuse("%s", why.text);
        }
        row = &table->rows[chosen - OPTION_ROW];
        if (!option_word_is_spelled_out(argv, row->name))
            return options_refuse("an option is cut short");
        if (store(out, row, optarg != NULL ? optarg : "") != HSM_OK)
            return HSM_ERR_USAGE;
    }
    return take_operands(command, argc, argv, out);
}

/* ---- running ---- */

/* What an option that is for all commands said; NULL: nothing. */
static const char *
said(struct arguments *arguments, const char *name)
{
    for (size_t i = 0; table->rows[i].name != NULL; i++)
        if (strcmp(table->rows[i].name, name) == 0)
            return *member(arguments, &table->rows[i]);
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
read_and_run(const struct command *command, int argc, char **argv, struct arguments *arguments)
{
    bool done = false;
    enum hsm_status st = read_options(command, argc, argv, arguments, &done);

    if (st != HSM_OK || done)
        return st;
    if (table->complete != NULL)
        table->complete(command, arguments);
    st = open_log(arguments);
    return st == HSM_OK ? command->run(arguments) : st;
}

static int
run_command(const struct command *command, int argc, char **argv)
{
    struct arguments *arguments = calloc(1, table->arguments_size);
    enum hsm_status st = HSM_ERR_NOMEM;

    if (arguments != NULL)
        st = read_and_run(command, argc, argv, arguments);
    free(arguments);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot write to standard output");
        st = st == HSM_OK ? HSM_ERR_IO : st;
    }
    return hsm_status_exit(st);
}

/* How many words of the command line are this command's name; 0: another one's. */
static int
words_of(const struct command *command, int argc, char **argv)
{
    const char *second = strchr(command->name, ' ');

    if (argc < 2 || !is_of_group(command, argv[1]))
        return 0;
    if (second == NULL)
        return 1;
    return argc > 2 && strcmp(argv[2], second + 1) == 0 ? 2 : 0;
}

static bool
is_group(const char *word)
{
    for (size_t i = 0; i < table->command_count; i++)
        if (is_of_group(&table->commands[i], word))
            return true;
    return false;
}

/* `sti-hsm --help`, `sti-hsm key --help`, and what is no command. */
static int
without_command(char **argv)
{
    const char *group = argv[1] != NULL && is_group(argv[1]) ? argv[1] : NULL;
    const char *next = group != NULL ? argv[2] : argv[1];

    if (next != NULL && strcmp(next, "--help") == 0) {
        print_commands(group);
        return 0;
    }
    if (next != NULL && strcmp(next, "--version") == 0) {
        print_version();
        return 0;
    }
    return hsm_status_exit(options_refuse("no such command; see %s --help", table->program));
}

int
options_main(const struct option_table *program_table, int argc, char **argv)
{
    const struct command *found = NULL;
    int most = 0;

    table = program_table;
    for (size_t i = 0; i < table->command_count; i++) { /* "audit show" is not "audit" */
        int words = words_of(&table->commands[i], argc, argv);

        if (words > most) {
            most = words;
            found = &table->commands[i];
        }
    }
    if (found == NULL)
        return without_command(argv);
    argv[most] = argv[0]; /* what getopt_long() calls us */
    return run_command(found, argc - most, argv + most);
}
