/*
 * arguments.h - the command line of sti-cert.
 */
#ifndef STI_CERT_ARGUMENTS_H
#define STI_CERT_ARGUMENTS_H

#include <stdbool.h>

#include "options.h"

/* The parsed command line; borrowed from argv, NULL for options that were not given. */
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
    const char *subject_cert;
    const char *path_length;
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
    const char *previous;
    const char *reason;
    const char *signer_url;
    const char *hours;
    const char *at;
    const char *date;
    const char *out;
    const char *log_format;
    const char *log_level;
    const char *dns[OPTION_TIMES_MAX + 1]; /* NULL-terminated */
    const char *ip[OPTION_TIMES_MAX + 1];
    const char *spc[OPTION_TIMES_MAX + 1];
    const char *number[OPTION_TIMES_MAX + 1];
    const char *range[OPTION_TIMES_MAX + 1];
    const char *must_include[OPTION_TIMES_MAX + 1];
    const char *permit[OPTION_TIMES_MAX + 1];
    const char *must_exclude[OPTION_TIMES_MAX + 1];
    const char *revoke[OPTION_TIMES_MAX + 1];
    bool any_crl, any_tnauthlist, ca, json, numbers_under_spc;
    struct operands operands;
};

extern const struct option_row argument_rows[];

#endif
