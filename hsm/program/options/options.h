/*
 * options.h - the command line of the programs, by tables:
 *
 *   PROGRAM COMMAND [OPTION...] [OPERAND...]
 *
 * A program has a table of options, which are members of its struct arguments, and a table of
 * commands, each with the options that it takes. Parsing, refusals and all of --help are derived
 * from them. The value of an option is never repeated in a refusal: it may be a misplaced secret.
 */
#ifndef STI_OPTIONS_H
#define STI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define OPTION_TIMES_MAX 32 /* for a list option without a bound of its own */

/* The parsed command line, defined by the program; texts are borrowed from argv. */
struct arguments;

enum option_kind {
    OPTION_TEXT, /* const char *; NULL if not given */
    OPTION_SWITCH, /* bool */
    OPTION_LIST, /* const char *[MAX + 1], NULL-terminated: may be given MAX times */
};

struct option_row {
    const char *name;
    const char *value; /* its name in the help; NULL for a switch */
    enum option_kind kind;
    size_t offset; /* in struct arguments */
    size_t max; /* times that it may be given */
    const char *help;
};

#define AT(member)     OPTION_TEXT, offsetof(struct arguments, member), 1
#define SWITCH(member) OPTION_SWITCH, offsetof(struct arguments, member), 1
#define LIST(member)                                                                               \
    OPTION_LIST, offsetof(struct arguments, member),                                               \
        sizeof(((struct arguments *)NULL)->member) / sizeof(const char *) - 1

/* The operands; a member of struct arguments. */
struct operands {
    const char *first; /* NULL: none */
    char *const *all;
    size_t count;
};

struct command {
    const char *name; /* words: "serve", "crl show", "account key add" */
    const char *options; /* names of its options, separated by blanks; "key!" is required */
    const char *operand; /* its name in the help: "FILE" is required, "[FILE]" optional, "FILE..."
                          * one or more; NULL: takes none */
    const char *summary; /* a line */
    const char *more; /* further lines of the command's help; or NULL */
    enum hsm_status (*run)(const struct arguments *arguments);
};

struct option_table {
    const char *program;
    const char *purpose; /* a line for the help; or NULL */
    const struct option_row *rows; /* up to a row without a name; all commands have "log-format" and
                                    * "log-level" */
    const struct command *commands;
    size_t command_count;
    size_t arguments_size; /* of struct arguments */
    size_t operands_offset; /* of the struct operands in it, if a command takes one */
    bool last_counts; /* the last of repeated options counts; else they are refused */
    void (*complete)(const struct command *command, struct arguments *arguments); /* or NULL */
    void (*more)(void); /* prints further lines of the program's help; or NULL */
};

/* Harden the process, find the command, read its options, run it; the program's exit status. */
int options_main(const struct option_table *table, int argc, char **argv);

/* Whether a command takes an option. */
bool options_take(const struct command *command, const char *name);

/* Report a fault of the command line on standard error; HSM_ERR_USAGE. */
enum hsm_status options_refuse(const char *format, ...) HSM_PRINTF(1, 2);

/* The value of --OPTION: a decimal number from `min`, which is not negative, to `max`. Any other
 * value is refused, and *out is unchanged. */
enum hsm_status options_number(const char *option, const char *text, long long min, long long max,
                               long long *out);

#endif
