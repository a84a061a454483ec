/*
 * sti-pa.h - what the files of the program share: sti-pa.c (its keys, its daemon) and
 * sti-pa-operator.c (what an operator does to its store).
 */
#ifndef STI_ACME_STI_PA_H
#define STI_ACME_STI_PA_H

#include <stdbool.h>

#include <acme/store.h>
#include <hsm/status.h>

#include "common.h"
#include "options.h"

#define SPCS_MAX     256 /* --spc of one account */
#define PREFIXES_MAX 64 /* --from of one account */

/** What it said; texts are borrowed from argv. */
struct arguments {
    struct common_arguments common;
    const char *dir, *token, *module, *pin_source;
    const char *organization, *country, *address, *base_url;
    const char *id, *user, *password_source, *generate_password;
    const char *root, *chain, *certificate, *sha256;
    const char *reason, *client, *file, *days, *number, *to, *account, *sequence, *crl_number;
    const char *spcs[SPCS_MAX + 1]; /* NULL-terminated */
    const char *from[PREFIXES_MAX + 1]; /* likewise */
    bool ca;
};

extern const struct option_table pa_options;

/** HSM_ERR_USAGE, and says why on standard error. */
enum hsm_status pa_usage(const char *why);

/* The commands of an operator, for the table of commands. */
enum hsm_status run_account_add(const void *command_line);
enum hsm_status run_account_list(const void *command_line);
enum hsm_status run_account_suspend(const void *command_line);
enum hsm_status run_account_reinstate(const void *command_line);
enum hsm_status run_account_bind(const void *command_line);
enum hsm_status run_account_limit(const void *command_line);
enum hsm_status run_account_spc(const void *command_line);
enum hsm_status run_account_password(const void *command_line);
enum hsm_status run_account_key_add(const void *command_line);
enum hsm_status run_account_key_list(const void *command_line);
enum hsm_status run_account_key_revoke(const void *command_line);
enum hsm_status run_ca_add(const void *command_line);
enum hsm_status run_ca_remove(const void *command_line);
enum hsm_status run_ca_list(const void *command_line);
enum hsm_status run_ca_account_add(const void *command_line);
enum hsm_status run_ca_account_extend(const void *command_line);
enum hsm_status run_revocation_add(const void *command_line);
enum hsm_status run_revocation_list(const void *command_line);
enum hsm_status run_revocation_approve(const void *command_line);
enum hsm_status run_revocation_refuse(const void *command_line);
enum hsm_status run_revocation_drop(const void *command_line);
enum hsm_status run_restore(const void *command_line);

#endif
