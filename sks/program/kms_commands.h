/*
 * kms_commands.h - what the files of sti-kms share.
 */
#ifndef STI_KMS_COMMANDS_H
#define STI_KMS_COMMANDS_H

#include <stdbool.h>

#include <hsm/status.h>
#include <hsm/time.h>
#include <sks/kms.h>
#include <sks/sp_init.h>
#include <sks/sp_verification.h>

#include "options.h"

#define PROGRAM       "sti-kms"
#define TLS_NAMES_MAX 16
#define LOCK_WAIT_S   60 /* for another sti-kms to end what it is at */

/** What the command line said; texts are borrowed from argv. */
struct arguments {
    struct sks_sp_init init; /* what init alone takes */
    const char *tls_names[TLS_NAMES_MAX + 1];
    const char *config;
    const char *token, *spc;
    const char *id, *reason, *ca, *contact;
    bool json, force, yes, check;
};

/** What an enrollment needs of the configuration is there, for every provider. */
enum hsm_status kms_check_config(const struct sks_sp_config *config);

/**
 * Two at once would both continue the same credential.
 *
 * @param spc     whose credentials
 * @param wait_s  for the other one to end
 * @param fd      close() it to let others work; they do when this process ends, too
 * @retval HSM_ERR_BUSY  another one is at work
 */
enum hsm_status kms_lock(const struct sks_sp_config *config, const char *spc, unsigned wait_s,
                         int *fd);

/** What a command does for a provider, which is locked meanwhile. */
typedef enum hsm_status kms_act(const struct arguments *arguments,
                                const struct sks_sp_config *config, struct sks_kms *kms,
                                size_t provider, struct hsm_reason *why);

/** Which providers a command is for. */
enum kms_choice {
    KMS_EACH, /* that of --spc, or all of them */
    KMS_ONE, /* that of --spc, or the only one */
};

/** Do so for each; what keeps one from it keeps no other from it. The first failure is returned,
 *  each was logged. @param prepare  before the first; may be NULL */
enum hsm_status kms_for(const struct arguments *arguments, enum kms_choice choice,
                        enum hsm_status (*prepare)(struct sks_kms *kms), kms_act *act);

/** True if --spc means that provider, or is not given. */
bool kms_is_meant(const struct arguments *arguments, const char *spc);

/** Print a line of progress for a person. */
void kms_print(void *context, const char *line);

/** The token of a provider that --token names; NULL: its first. HSM_ERR_NOT_FOUND: none. */
enum hsm_status kms_find_token(const struct sks_sp_config *config, size_t provider, const char *uri,
                               const char **out);

/** "2026-01-15T12:00:00Z"; "-" for 0. */
void kms_format_time(time_t time, char out[HSM_TIME_LEN + 1]);

enum hsm_status kms_run(const struct arguments *arguments);
enum hsm_status kms_run_status(const struct arguments *arguments);
enum hsm_status kms_run_ca_list(const struct arguments *arguments);
enum hsm_status kms_run_account_show(const struct arguments *arguments);
enum hsm_status kms_run_account_update(const struct arguments *arguments);
enum hsm_status kms_run_account_rollover(const struct arguments *arguments);
enum hsm_status kms_run_account_replace(const struct arguments *arguments);
enum hsm_status kms_run_account_deactivate(const struct arguments *arguments);

#endif
