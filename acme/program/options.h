/*
 * options.h - the command line of this floor's programs, by tables:
 * PROGRAM COMMAND [--option VALUE ...].
 */
#ifndef STI_ACME_OPTIONS_H
#define STI_ACME_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define OPTIONS_MAX 48 /* rows of a table */

enum option_kind {
    OPTION_TEXT, /* const char * */
    OPTION_SWITCH, /* bool */
    OPTION_LIST, /* const char *[list_max + 1], NULL-terminated: may be given several times */
};

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset; /* of the member in the program's struct of arguments */
    size_t list_max;
};

/* Rows whose member is one of the program's struct arguments. */
#define TEXT_OPTION(name, member)                                                                  \
    {                                                                                              \
        name, OPTION_TEXT, offsetof(struct arguments, member), 0                                   \
    }
#define SWITCH_OPTION(name, member)                                                                \
    {                                                                                              \
        name, OPTION_SWITCH, offsetof(struct arguments, member), 0                                 \
    }
#define LIST_OPTION(name, member, list_max)                                                        \
    {                                                                                              \
        name, OPTION_LIST, offsetof(struct arguments, member), list_max                            \
    }

struct option_command {
    const char *words; /* "serve", "account add", "ca account add" */
    const char *options; /* that it takes, separated by blanks; "config!" cannot be left out */
    enum hsm_status (*run)(const void *arguments);
};

struct option_table {
    const char *program;
    void (*help)(void); /* print it to standard output */
    const struct option_row *rows;
    size_t row_count;
    const struct option_command *commands;
    size_t command_count;
};

/* The initializer of a table of two arrays. */
#define OPTION_TABLE(program, help, rows, commands)                                                \
    {                                                                                              \
        program, help, rows, sizeof(rows) / sizeof((rows)[0]), commands,                           \
            sizeof(commands) / sizeof((commands)[0])                                               \
    }

/**
 * Harden the process, find the command that argv names, read its options, run it.
 *
 * @param arguments  the program's struct, zeroed; its texts are borrowed from argv
 * @return the exit status of the program
 */
int options_main(const struct option_table *table, void *arguments, int argc, char **argv);

/** A number from 1 to `max`; false: the text is none, *out is as it was. */
bool options_count(const char *text, long long max, long long *out);

/** Say on standard error what is wrong with the command line; HSM_ERR_USAGE. */
enum hsm_status options_refuse(const struct option_table *table, const char *why);

#endif
