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
#define LOCK_WAIT_S   60 /* for another sti-kms to release its lock */

/** The options of the command line; texts are borrowed from argv. */
struct arguments {
    struct sks_sp_init init; /* options of init alone */
    const char *tls_names[TLS_NAMES_MAX + 1];
    const char *config;
    const char *token, *spc;
    const char *id, *reason, *ca, *contact;
    bool json, force, yes, check;
};

/** Check that the configuration has what an enrollment needs, for every provider. */
enum hsm_status kms_check_config(const struct sks_sp_config *config);

/**
 * Lock the credentials of one SPC: two processes would both continue the same credential.
 *
 * @param wait_s  seconds to wait for another process to release the lock
 * @param fd      close() it to release the lock; the end of the process releases it, too
 * @retval HSM_ERR_BUSY  another process holds the lock
 */
enum hsm_status kms_lock(const struct sks_sp_config *config, const char *spc, unsigned wait_s,
                         int *fd);

/** What a command does for one provider, while holding its lock. */
typedef enum hsm_status kms_act(const struct arguments *arguments,
                                const struct sks_sp_config *config, struct sks_kms *kms,
                                size_t provider, struct hsm_reason *why);

/** Which providers a command is for. */
enum kms_choice {
    KMS_EACH, /* the provider of --spc; without it, each provider */
    KMS_ONE, /* the provider of --spc; without it, the only one configured */
};

/** Run `act` for each chosen provider; a failure does not stop the others. Returns the first
 *  failure; each was logged. @param prepare  run once before them; may be NULL */
enum hsm_status kms_for(const struct arguments *arguments, enum kms_choice choice,
                        enum hsm_status (*prepare)(struct sks_kms *kms), kms_act *act);

/** True if --spc names this provider, or is absent. */
bool kms_is_meant(const struct arguments *arguments, const char *spc);

/** Print a line of progress for a person. */
void kms_print(void *context, const char *line);

/** The token of a provider by the URI of --token; NULL: the first token. HSM_ERR_NOT_FOUND: the
 *  provider has no such token. */
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
