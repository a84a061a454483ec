/*
 * options.h - the command line of the programs, by tables:
 * PROGRAM COMMAND [OPTION...] [OPERAND...].
 *
 * A program has a table of options, which are members of its struct arguments, and a table of
 * commands, each with the options that it takes. From these come the reading, the refusals and all
 * of --help. What stands behind an option is never repeated in a refusal: it may be a secret that
 * is in the wrong place.
 */
#ifndef STI_OPTIONS_H
#define STI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define OPTION_TIMES_MAX 32 /* times that a list's option may be said, where no other bound is */

/* What the command line said: the program's own; texts are borrowed from argv. */
struct arguments;

enum option_kind {
    OPTION_TEXT, /* const char *; NULL where nothing was said */
    OPTION_SWITCH, /* bool */
    OPTION_LIST, /* const char *[MAX + 1], NULL-terminated: may be said MAX times */
};

struct option_row {
    const char *name;
    const char *value; /* what the help calls it; NULL of a switch */
    enum option_kind kind;
    size_t offset; /* in struct arguments */
    size_t max; /* times that it may be said */
    const char *help;
};

#define AT(member)     OPTION_TEXT, offsetof(struct arguments, member), 1
#define SWITCH(member) OPTION_SWITCH, offsetof(struct arguments, member), 1
#define LIST(member)                                                                               \
    OPTION_LIST, offsetof(struct arguments, member),                                               \
        sizeof(((struct arguments *)NULL)->member) / sizeof(const char *) - 1

/* What is behind the options; a member of struct arguments. */
struct operands {
    const char *first; /* NULL: none */
    char *const *all;
    size_t count;
};

struct command {
    const char *name; /* words: "serve", "crl show", "account key add" */
    const char *options; /* the names it takes, between blanks; "key!" cannot be left out */
    const char *operand; /* what the help calls it: "FILE" is needed, "[FILE]" is not, of "FILE..."
                            there are one or more; NULL: takes none */
    const char *summary; /* a line */
    const char *more; /* what the command's help adds, lines; or NULL */
    enum hsm_status (*run)(const struct arguments *arguments);
};

struct option_table {
    const char *program;
    const char *purpose; /* a line for the help; or NULL */
    const struct option_row *rows; /* up to one without a name; "log-format" and "log-level" are
                                      for all commands */
    const struct command *commands;
    size_t command_count;
    size_t arguments_size; /* of struct arguments */
    size_t operands_offset; /* of the struct operands in it, if a command takes one */
    bool last_counts; /* of what is said twice, the last; else it is refused. Lists take both */
    void (*complete)(const struct command *command, struct arguments *arguments); /* or NULL */
    void (*more)(void); /* print what the program's help adds; or NULL */
};

/* Harden the process, find the command, read its options, run it; the program's exit status. */
int options_main(const struct option_table *table, int argc, char **argv);

/* Whether a command takes an option. */
bool options_take(const struct command *command, const char *name);

/* Say on standard error what is wrong with the command line; HSM_ERR_USAGE. */
enum hsm_status options_refuse(const char *format, ...) HSM_PRINTF(1, 2);

/* The value of --OPTION: a decimal number from `min`, which is not negative, to `max`. Anything
 * else is refused, *out is as it was. */
enum hsm_status options_number(const char *option, const char *text, long long min, long long max,
                               long long *out);

#endif
