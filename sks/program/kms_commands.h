/*
 * kms_commands.h - what the files of sti-kms share.
 */
#ifndef STI_KMS_COMMANDS_H
#define STI_KMS_COMMANDS_H

#include <stdbool.h>

#include <acme/time.h>
#include <hsm/status.h>
#include <sks/kms.h>
#include <sks/sp_config.h>
#include <sks/sp_init.h>

#define PROGRAM       "sti-kms"
#define TLS_NAMES_MAX 16
#define LOCK_WAIT_S   60 /* for another sti-kms to end what it is at */

/** What the command line said; texts are borrowed from argv. */
struct arguments {
    struct sks_sp_init init; /* its token_uri is that of other commands, too */
    const char *tls_names[TLS_NAMES_MAX + 1];
    const char *config;
    const char *id, *reason, *ca, *contact;
    bool json, force, yes;
};

#define CONFIG __attribute__((cleanup(sks_sp_config_clear))) struct sks_sp_config

enum hsm_status kms_read_config(const struct arguments *arguments, struct sks_sp_config *config);

/** What an enrollment needs of the configuration is there. */
enum hsm_status kms_check_config(const struct sks_sp_config *config);

/**
 * Two at once would both continue the same credential.
 *
 * @param wait_s  for the other one to end
 * @param fd      close() it to let others work; they do when this process ends, too
 * @retval HSM_ERR_BUSY  another one is at work
 */
enum hsm_status kms_lock(const struct sks_sp_config *config, unsigned wait_s, int *fd);

/** Print a line of progress for a person. */
void kms_print(void *context, const char *line);

/** The token of the configuration that --token names; NULL: the first. HSM_ERR_NOT_FOUND: none. */
enum hsm_status kms_find_token(const struct sks_sp_config *config, const char *uri,
                               const char **out);

/** "2026-01-15T12:00:00Z"; "-" for 0. */
void kms_format_time(time_t time, char out[ACME_TIME_LEN + 1]);

enum hsm_status kms_run(const void *command_line);
enum hsm_status kms_run_status(const void *command_line);
enum hsm_status kms_run_ca_list(const void *command_line);
enum hsm_status kms_run_account_show(const void *command_line);
enum hsm_status kms_run_account_update(const void *command_line);
enum hsm_status kms_run_account_rollover(const void *command_line);
enum hsm_status kms_run_account_deactivate(const void *command_line);

#endif
