/*
 * arguments.h - the command line of sti-hsm.
 */
#ifndef STI_HSM_ARGUMENTS_H
#define STI_HSM_ARGUMENTS_H

#include <stdbool.h>

#include "options.h"

/* The parsed command line; borrowed from argv, NULL for options that were not given. */
struct arguments {
    const char *module;
    const char *token; /* the last one given */
    const char *key;
    const char *label;
    const char *pin_source;
    const char *journal;
    const char *dir;
    const char *file;
    const char *record;
    const char *digest_of;
    const char *who;
    const char *kind;
    const char *public_key;
    const char *checkpoint;
    const char *check;
    const char *token_count;
    const char *counted_before;
    const char *so_pin_source;
    const char *in;
    const char *out;
    const char *route;
    const char *sessions;
    const char *quirks;
    const char *seconds;
    const char *log_format;
    const char *log_level;
    const char *attestation;
    const char *attestation_root;
    const char *nonce;
    const char *report;
    const char *secret_source;
    const char *signer;
    const char *uncertified;
    const char *tokens[OPTION_TIMES_MAX + 1]; /* NULL-terminated */
    const char *certificates[OPTION_TIMES_MAX + 1];
    const char *files[OPTION_TIMES_MAX + 1];
    const char *processes[OPTION_TIMES_MAX + 1];
    bool attempt, html, json, yes;
    struct operands operands;
};

extern const struct option_row argument_rows[];

/* Fill in defaults: the journal of $STI_JOURNAL. */
void arguments_complete(const struct command *command, struct arguments *arguments);

#endif
