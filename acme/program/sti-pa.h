/*
 * sti-pa.h - shared by sti-pa.c (keys and daemon) and sti-pa-operator.c (the
 * operator's commands).
 */
#ifndef STI_ACME_STI_PA_H
#define STI_ACME_STI_PA_H

#include <stdbool.h>

#include <acme/store.h>
#include <hsm/status.h>

#include "options.h"
#include "store_program.h"

#define SPCS_MAX     256 /* --spc of one account */
#define PREFIXES_MAX 64 /* --from of one account */

/** The command line; texts are borrowed from argv. */
struct arguments {
    const char *config, *last;
    const char *dir, *token, *module, *pin_source;
    const char *organization, *country, *address, *base_url;
    const char *id, *user, *password_source, *generate_password;
    const char *root, *chain, *certificate, *sha256;
    const char *reason, *client, *file, *days, *number, *to, *account, *sequence, *crl_number;
    const char *spcs[SPCS_MAX + 1]; /* NULL-terminated */
    const char *from[PREFIXES_MAX + 1]; /* NULL-terminated */
    bool check, json, ca;
};

/** Open the store of the configuration that --config names. */
HSM_MUST_CHECK enum hsm_status open_store(const struct arguments *arguments,
                                          struct acme_store **out);

/* The commands of an operator, for the table of commands. */
enum hsm_status run_account_add(const struct arguments *arguments);
enum hsm_status run_account_list(const struct arguments *arguments);
enum hsm_status run_account_suspend(const struct arguments *arguments);
enum hsm_status run_account_reinstate(const struct arguments *arguments);
enum hsm_status run_account_bind(const struct arguments *arguments);
enum hsm_status run_account_limit(const struct arguments *arguments);
enum hsm_status run_account_spc(const struct arguments *arguments);
enum hsm_status run_account_password(const struct arguments *arguments);
enum hsm_status run_account_key_add(const struct arguments *arguments);
enum hsm_status run_account_key_list(const struct arguments *arguments);
enum hsm_status run_account_key_revoke(const struct arguments *arguments);
enum hsm_status run_ca_add(const struct arguments *arguments);
enum hsm_status run_ca_remove(const struct arguments *arguments);
enum hsm_status run_ca_list(const struct arguments *arguments);
enum hsm_status run_ca_account_add(const struct arguments *arguments);
enum hsm_status run_ca_account_extend(const struct arguments *arguments);
enum hsm_status run_revocation_add(const struct arguments *arguments);
enum hsm_status run_revocation_list(const struct arguments *arguments);
enum hsm_status run_revocation_approve(const struct arguments *arguments);
enum hsm_status run_revocation_refuse(const struct arguments *arguments);
enum hsm_status run_revocation_drop(const struct arguments *arguments);
enum hsm_status run_restore(const struct arguments *arguments);

#endif
