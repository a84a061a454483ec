/* kms.c - the SP-KMS: what it opens, and one enrollment. */
#include "kms_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define LINE_SIZE 1024

DEFINE_DEFER(struct sks_kms, sks_kms_close)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(char, free)

void
kms_tell(const struct sks_kms *kms, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    if (kms->hooks.progress == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    kms->hooks.progress(kms->hooks.context, line);
}

/* ---- open and close ---- */

static enum hsm_status
read_secret(const char *source, const char *question, struct hsm_secret **out)
{
    return source == NULL ? HSM_OK : hsm_secret_from(source, question, out);
}

static enum hsm_status
read_secrets(struct sks_kms *kms)
{
    const struct sks_sp_config *config = kms->config;
    enum hsm_status st = read_secret(config->pa_password_source,
                                     "Password of the account at the STI-PA: ", &kms->password);

    if (st == HSM_OK)
        st = read_secret(config->upload_bearer_source,
                         "Bearer token of the STI-CR: ", &kms->upload_bearer);
    for (size_t i = 0; st == HSM_OK && i < sks_sp_ca_count(config); i++)
        st = read_secret(config->cas[i].eab_key_source,
                         "MAC key of the external account binding: ", &kms->eab_keys[i]);
    return st;
}

static enum hsm_status
prepare_publisher(struct sks_kms *kms)
{
    struct hsm_reason why = {""};
    enum hsm_status st;

    kms->publisher = (struct sks_publisher){
        .http = kms->verification.http,
        .upload_url = kms->config->upload_url,
        .upload_bearer = kms->upload_bearer,
        .upload_command = kms->config->upload_command,
        .notify_command = kms->config->notify_command,
        .dir = kms->config->cr_dir,
        .timeout_s = (unsigned)kms->config->command_timeout_s,
    };
    st = sks_publish_check(&kms->publisher, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
    return st;
}

static enum hsm_status
open_parts(struct sks_kms *kms)
{
    const struct sks_sp_config *config = kms->config;
    enum hsm_status st = sks_sp_tokens_open(config, config->common.shared.pin, &kms->tokens);

    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &kms->catalogue);
    if (st == HSM_OK)
        st = sks_repository_open(config->cr_dir, config->cr_base_url, &kms->repository);
    if (st == HSM_OK)
        st = sks_sp_verification_open(config, &kms->verification);
    if (st == HSM_OK)
        st = read_secrets(kms);
    if (st == HSM_OK)
        st = prepare_publisher(kms);
    return st;
}

enum hsm_status
sks_kms_open(const struct sks_sp_config *config, const struct sks_kms_hooks *hooks,
             struct sks_kms **out)
{
    DEFER(sks_kms_close) struct sks_kms *kms = calloc(1, sizeof(*kms));
    enum hsm_status st;

    if (kms == NULL)
        return HSM_ERR_NOMEM;
    kms->config = config;
    kms->hooks = *hooks;
    st = open_parts(kms);
    if (st != HSM_OK)
        return st;
    kms->login = (struct acme_authority_login){.http = kms->verification.http,
                                               .base_url = config->pa_url,
                                               .account_id = config->pa_account,
                                               .user = config->pa_user,
                                               .password = kms->password};
    for (size_t i = 0; i < SKS_TOKENS_MAX; i++)
        kms->places[i].backoff =
            (struct acme_backoff){.first_ms = (unsigned)config->retry_first_s * 1000,
                                  .longest_ms = (unsigned)config->retry_longest_s * 1000};
    *out = kms;
    kms = NULL;
    return HSM_OK;
}

void
sks_kms_forget(struct sks_kms *kms)
{
    for (size_t i = 0; i < SKS_TOKENS_MAX; i++)
        for (size_t j = 0; j < SKS_SP_CAS_MAX; j++) {
            sks_account_close(kms->accounts[i][j]);
            kms->accounts[i][j] = NULL;
        }
}

void
sks_kms_close(struct sks_kms *kms)
{
    if (kms == NULL)
        return;
    sks_kms_forget(kms);
    for (size_t i = 0; i < SKS_SP_CAS_MAX; i++)
        hsm_secret_free(kms->eab_keys[i]);
    hsm_secret_free(kms->upload_bearer);
    hsm_secret_free(kms->password);
    sks_sp_verification_close(&kms->verification);
    sks_repository_close(kms->repository);
    sks_catalogue_close(kms->catalogue);
    sks_tokens_close(kms->tokens);
    free(kms);
}

struct sks_catalogue *
sks_kms_catalogue(const struct sks_kms *kms)
{
    return kms->catalogue;
}

void
sks_kms_lifecycle(const struct sks_kms *kms, struct sks_lifecycle *out)
{
    *out = (struct sks_lifecycle){
        .catalogue = kms->catalogue,
        .tokens = kms->tokens,
        .spc = kms->config->spc,
        .retiring_s = (time_t)kms->config->retiring_s,
        .retired_s = (time_t)kms->config->retired_s,
        .keep_keys = !kms->config->destroys_keys,
        .progress = kms->hooks.progress,
        .context = kms->hooks.context,
    };
}

/* ---- accounts ---- */

enum hsm_status
sks_kms_find_ca(const struct sks_sp_config *config, const char *name, size_t *out)
{
    size_t count = sks_sp_ca_count(config);

    for (size_t i = 0; i < count; i++) {
        const struct sks_sp_ca *ca = &config->cas[i];

        if (name != NULL && strcmp(ca->directory, name) != 0 &&
            (ca->name == NULL || strcmp(ca->name, name) != 0))
            continue;
        *out = i;
        return HSM_OK;
    }
    hsm_log(HSM_LOG_ERROR, "%s: no STI-CA of the configuration has this name or directory",
            name != NULL ? name : "[ca]");
    return HSM_ERR_NOT_FOUND;
}

static size_t
token_index(const struct sks_kms *kms, const char *uri)
{
    size_t i = 0;

    while (i + 1 < sks_tokens_count(kms->tokens) &&
           strcmp(sks_tokens_uri(kms->tokens, i), uri) != 0)
        i++;
    return i;
}

enum hsm_status
sks_kms_account(struct sks_kms *kms, const char *token_uri, size_t ca, struct sks_account **out,
                struct hsm_reason *why)
{
    const struct sks_sp_ca *config = &kms->config->cas[ca];
    struct sks_account **place = &kms->accounts[token_index(kms, token_uri)][ca];
    const struct sks_account_config account = {
        .catalogue = kms->catalogue,
        .token = sks_tokens_get(kms->tokens, token_uri),
        .token_uri = token_uri,
        .client = {.http = kms->verification.http,
                   .directory_url = config->directory,
                   .contact = config->contact,
                   .member = config->member,
                   .tnauthlist_text = config->tnauthlist_text,
                   .poll_limit_s = (unsigned)kms->config->poll_limit_s,
                   .eab_kid = config->eab_kid,
                   .eab_key = kms->eab_keys[ca],
                   .stopped = kms->hooks.stopped,
                   .stopped_context = kms->hooks.context},
    };
    enum hsm_status st = HSM_OK;

    if (account.token == NULL)
        return hsm_refuse(why, HSM_ERR_BUSY, "token %s is away", token_uri);
    if (*place == NULL)
        st = sks_account_open(&account, place, why);
    if (st == HSM_OK)
        *out = *place;
    return st;
}

/* ---- one enrollment ---- */

/* The operator has said from whose hands certificates shall come: is it one that is trusted? */
static enum hsm_status
check_name(const struct sks_kms *kms, const char *name, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    enum hsm_status st = sks_trust_roots(kms->verification.trust, time(NULL), &roots, why);

    if (st != HSM_OK)
        return st;
    for (size_t i = 0; i < certs_chain_len(roots); i++) {
        DEFER(free) char *organization = certs_cert_organization(certs_chain_get(roots, i));

        if (organization != NULL && strcmp(organization, name) == 0)
            return HSM_OK;
    }
    return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                      "%s: no root on the STI-PA's list is of this organization", name);
}

enum hsm_status
sks_kms_enroll(struct sks_kms *kms, const char *token_uri, size_t ca, int64_t replaces, int64_t *id,
               struct hsm_reason *why)
{
    const struct sks_sp_ca *config = &kms->config->cas[ca];
    struct sks_enrollment enrollment = {
        .token = sks_tokens_get(kms->tokens, token_uri),
        .token_uri = token_uri,
        .catalogue = kms->catalogue,
        .repository = kms->repository,
        .ca_directory = config->directory,
        .authority = &kms->login,
        .fingerprint = config->fingerprint_form,
        .trust = kms->verification.trust,
        .http = kms->verification.http,
        .spc = kms->config->spc,
        .publisher = &kms->publisher,
        .replaces = replaces,
        .progress = kms->hooks.progress,
        .context = kms->hooks.context,
    };
    struct sks_account *account = NULL;
    enum hsm_status st = config->name == NULL ? HSM_OK : check_name(kms, config->name, why);

    if (st == HSM_OK)
        st = sks_kms_account(kms, token_uri, ca, &account, why);
    if (st != HSM_OK)
        return st;
    enrollment.client = sks_account_client(account);
    st = sks_enroll(&enrollment, id, why);
    if (st == HSM_OK)
        kms_notify(kms, time(NULL));
    return st;
}
