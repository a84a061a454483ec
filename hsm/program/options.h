/*
 * options.h - the command line of sti-hsm, by tables.
 */
#ifndef STI_HSM_OPTIONS_H
#define STI_HSM_OPTIONS_H

#include <stddef.h>

#include <hsm/status.h>

#define WORDS_MAX 16 /* times that an option may be given; more: refused */

/* An option that may be given several times. */
struct words {
    const char *items[WORDS_MAX];
    size_t count;
};

/* What the command line said; borrowed from argv, NULL where it said nothing. */
struct arguments {
    const char *module;
    const char *token;
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
    const char *digest;
    const char *out;
    const char *yes;
    const char *route;
    const char *sessions;
    const char *quirks;
    const char *seconds;
    const char *json;
    const char *log_format;
    const char *log_level;
    const char *attempt;
    const char *attestation;
    const char *attestation_root;
    const char *html;
    const char *nonce;
    const char *report;
    const char *secret_source;
    const char *signer;
    const char *uncertified;
    const char *certificate; /* of these, and of --token, the last one */
    const char *files;
    const char *process;
    struct words all_tokens;
    struct words all_certificates;
    struct words all_files;
    struct words all_processes;
    const char *operand;
};

struct command {
    const char *group;
    const char *verb; /* NULL: the group is the command */
    const char *options; /* names that it takes, between blanks; "label!" cannot be left out */
    const char *operand; /* what the help calls it; NULL: takes none */
    const char *summary;
    enum hsm_status (*run)(const struct arguments *arguments);
};

/** Find the command that argv names, read its options, run it; the exit status of the program. */
int options_main(const struct command *commands, size_t count, int argc, char **argv);

/** Say on standard error what is wrong with the command line; HSM_ERR_USAGE. */
enum hsm_status options_refuse(const char *why);

#endif
