/*
 * options.h - the command line of sti-cert, by tables.
 */
#ifndef STI_CERT_OPTIONS_H
#define STI_CERT_OPTIONS_H

#include <stddef.h>

#include <hsm/status.h>

#define OPTION_NAMES_MAX 32 /* times that an option may be said; more: refused */

/* What the command line said; borrowed from argv, NULL where it said nothing. */
struct arguments {
    const char *module;
    const char *token;
    const char *key;
    const char *pin_source;
    const char *journal;
    const char *quirks;
    const char *profile;
    const char *csr;
    const char *issuer;
    const char *country;
    const char *state;
    const char *locality;
    const char *organization;
    const char *common_name;
    const char *tnauthlist;
    const char *tnauthlist_url;
    const char *numbers_under_spc;
    const char *subject_cert;
    const char *path_length;
    const char *ca;
    const char *policy;
    const char *crl_url;
    const char *crl_issuer;
    const char *days;
    const char *not_before;
    const char *not_after;
    const char *backdate;
    const char *anchors;
    const char *purpose;
    const char *crl;
    const char *crl_signer;
    const char *pa_anchors;
    const char *intermediates;
    const char *ca_keys;
    const char *any_crl;
    const char *any_tnauthlist;
    const char *previous;
    const char *reason;
    const char *signer_url;
    const char *hours;
    const char *at;
    const char *date;
    const char *json;
    const char *out;
    const char *log_format;
    const char *log_level;
    const char *dns[OPTION_NAMES_MAX + 1]; /* NULL-terminated */
    const char *ip[OPTION_NAMES_MAX + 1];
    const char *spc[OPTION_NAMES_MAX + 1];
    const char *number[OPTION_NAMES_MAX + 1];
    const char *range[OPTION_NAMES_MAX + 1];
    const char *must_include[OPTION_NAMES_MAX + 1];
    const char *permit[OPTION_NAMES_MAX + 1];
    const char *must_exclude[OPTION_NAMES_MAX + 1];
    const char *revoke[OPTION_NAMES_MAX + 1];
    const char *operand;
    char *const *operands; /* `operand` and what follows it, of a command that takes several */
    size_t operand_count;
};

struct command {
    const char *name; /* one word, or two: "crl show" */
    const char *options; /* the names it takes, between blanks; "key!" cannot be left out */
    const char *operand; /* what the help calls it, and then it is needed; NULL: takes none; with
                            "..." at its end: one or more */
    const char *summary;
    const char *more; /* what the help adds */
    enum hsm_status (*run)(const struct arguments *arguments);
};

/* Say what is wrong with the command line. */
enum hsm_status options_refuse(const char *format, ...) HSM_PRINTF(1, 2);

/* Find the command, read its options, run it; returns the exit status of the program. */
int options_main(const struct command *commands, size_t count, int argc, char **argv);

#endif
