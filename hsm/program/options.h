/*
 * options.h - the command line of sti-hsm and sti-cert, by tables:
 * PROGRAM COMMAND [OPTION...] [OPERAND...].
 */
#ifndef STI_OPTIONS_H
#define STI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define OPTION_TIMES_MAX 32 /* times that a list's option may be said; more: refused */
#define OPTION_ROWS_MAX  96

/* What the command line said: the program's own. Its members of options are const char *, or for a
 * list const char *[OPTION_TIMES_MAX + 1]; borrowed from argv, NULL where it said nothing. */
struct arguments;

struct option_row {
    const char *name;
    const char *value; /* what the help calls it; NULL: takes none */
    size_t offset; /* in struct arguments */
    bool is_list; /* may be said several times */
    const char *help;
};

#define AT(member)   offsetof(struct arguments, member), false
#define LIST(member) offsetof(struct arguments, member), true

/* What is behind the options; a member of struct arguments. */
struct operands {
    const char *first; /* NULL: none */
    char *const *all;
    size_t count;
};

struct command {
    const char *name; /* one word, or two: "crl show" */
    const char *options; /* the names it takes, between blanks; "key!" cannot be left out */
    const char *operand; /* what the help calls it: "FILE" is needed, "[FILE]" is not, of "FILE..."
                            there are one or more; NULL: takes none */
    const char *summary;
    const char *more; /* what the help adds; or NULL */
    enum hsm_status (*run)(const struct arguments *arguments);
};

struct option_table {
    const char *program;
    const struct option_row *rows; /* up to one without a name, at most OPTION_ROWS_MAX;
                                      "log-format" and "log-level" are for all commands */
    const struct command *commands;
    size_t command_count;
    size_t arguments_size, operands_offset; /* of struct arguments */
    void (*complete)(const struct command *command, struct arguments *arguments); /* or NULL */
};

/* Find the command, read its options, run it; returns the exit status of the program. */
int options_main(const struct option_table *table, int argc, char **argv);

/* Whether a command takes an option. */
bool options_take(const struct command *command, const char *name);

/* Say on standard error what is wrong with the command line; HSM_ERR_USAGE. */
enum hsm_status options_refuse(const char *format, ...) HSM_PRINTF(1, 2);

#endif
