/* kms.c - the SP-KMS: what it opens, and a single enrollment. */
#include "kms_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define LINE_SIZE 1024

void
sks_kms_tell(const struct kms_provider *provider, const char *format, ...)
{
    const struct sks_kms *kms = provider->kms;
    char line[LINE_SIZE];
    size_t len = 0;
    va_list arguments;

    if (kms->hooks.progress == NULL)
        return;
    if (kms->config->provider_count > 1)
        len = (size_t)snprintf(line, sizeof(line), "SPC %s: ", provider->config->spc);
    va_start(arguments, format);
    vsnprintf(line + len, sizeof(line) - len, format, arguments);
    va_end(arguments);
    kms->hooks.progress(kms->hooks.context, line);
}

void
sks_kms_tell_line(void *context, const char *line)
{
    sks_kms_tell(context, "%s", line);
}

const char *
sks_kms_token_uri(const struct kms_provider *provider, size_t i)
{
    return sks_tokens_uri(provider->kms->tokens, provider->config->tokens[i]);
}

/* ---- open and close ---- */

static enum hsm_status
open_shared(struct sks_kms *kms)
{
    const struct sks_sp_config *config = kms->config;
    enum hsm_status st = sks_sp_tokens_open(config, config->common.shared.pin, &kms->tokens);

    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &kms->catalogue);
    if (st == HSM_OK)
        st = sks_sp_verification_open(config, &kms->verification);
    return st;
}

static void
set_provider(struct sks_kms *kms, size_t i)
{
    struct kms_provider *provider = &kms->providers[i];

    provider->kms = kms;
    provider->config = &kms->config->providers[i];
    for (size_t j = 0; j < SKS_SP_TOKENS_MAX; j++)
        provider->places[j].backoff =
            (struct acme_backoff){.first_ms = (unsigned)kms->config->retry_first_s * 1000,
                                  .longest_ms = (unsigned)kms->config->retry_longest_s * 1000};
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
    kms->providers = calloc(config->provider_count, sizeof(*kms->providers));
    if (kms->providers == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < config->provider_count; i++)
        set_provider(kms, i);
    st = open_shared(kms);
    if (st != HSM_OK)
        return st;
    *out = kms;
    kms = NULL;
    return HSM_OK;
}

void
sks_kms_forget(struct sks_kms *kms, size_t provider)
{
    struct kms_provider *of = &kms->providers[provider];

    for (size_t i = 0; i < SKS_SP_TOKENS_MAX; i++)
        for (size_t j = 0; j < SKS_SP_CAS_MAX; j++) {
            sks_account_close(of->accounts[i][j]);
            of->accounts[i][j] = NULL;
        }
}

/* Close what sks_kms_prepare() opened, even if it opened only a part. */
static void
put_back(struct kms_provider *provider)
{
    for (size_t i = 0; i < SKS_SP_CAS_MAX; i++) {
        hsm_secret_free(provider->eab_keys[i]);
        provider->eab_keys[i] = NULL;
    }
    hsm_secret_free(provider->upload_bearer);
    hsm_secret_free(provider->password);
    hsm_secret_free(provider->api_key);
    sks_repository_close(provider->repository);
    provider->upload_bearer = provider->password = provider->api_key = NULL;
    provider->repository = NULL;
}

bool
sks_kms_is_opening(struct sks_kms *kms)
{
    return sks_tokens_are_opening(kms->tokens);
}

void
sks_kms_close(struct sks_kms *kms)
{
    if (kms == NULL)
        return;
    for (size_t i = 0; kms->providers != NULL && i < kms->config->provider_count; i++) {
        sks_kms_forget(kms, i);
        put_back(&kms->providers[i]);
    }
    free(kms->providers);
    sks_sp_verification_close(&kms->verification);
    sks_catalogue_close(kms->catalogue);
    sks_tokens_close(kms->tokens);
    free(kms);
}

/* ---- the parts of a provider ---- */

static enum hsm_status
read_secret(const char *source, const char *question, struct hsm_secret **out,
            struct hsm_reason *why)
{
    enum hsm_status st = source == NULL ? HSM_OK : hsm_secret_from(source, question, out);

    return st == HSM_OK ? st : hsm_refuse(why, st, "%s%s", question, hsm_status_text(st));
}

/* The MAC key of an external account: in the main file each STI-CA can have one; a hosted provider
 * can have one, for its first STI-CA. */
static const char *
eab_key_source(const struct kms_provider *provider, size_t ca)
{
    const struct sks_sp_provider *config = provider->config;

    if (config->name == NULL)
        return provider->kms->config->cas[ca].eab_key_source;
    return config->ca_count > 0 && config->cas[0] == ca ? config->eab_key_source : NULL;
}

static const char *
eab_kid(const struct kms_provider *provider, size_t ca)
{
    return provider->config->name == NULL ? provider->kms->config->cas[ca].eab_kid
                                          : provider->config->eab_kid;
}

static enum hsm_status
read_secrets(struct kms_provider *provider, const char *upload_bearer_source,
             struct hsm_reason *why)
{
    const struct sks_sp_provider *config = provider->config;
    enum hsm_status st =
        read_secret(config->pa_password_source,
                    "Password of the account at the STI-PA: ", &provider->password, why);

    if (st == HSM_OK)
        st = read_secret(config->pa_api_key_source,
                         "API key of the account at the STI-PA: ", &provider->api_key, why);
    if (st == HSM_OK)
        st = read_secret(upload_bearer_source,
                         "Bearer token of the STI-CR: ", &provider->upload_bearer, why);
    for (size_t i = 0; st == HSM_OK && i < config->ca_count; i++)
        st = read_secret(
            eab_key_source(provider, config->cas[i]),
            "MAC key of the external account binding: ", &provider->eab_keys[config->cas[i]], why);
    return st;
}

/* Use either the provider's own STI-CR or [cr], each with its own upload settings. */
static enum hsm_status
open_repository(struct kms_provider *provider, struct hsm_reason *why)
{
    const struct sks_sp_provider *own = provider->config;
    const struct sks_sp_config *config = provider->kms->config;
    const char *base_url = own->cr_base_url != NULL ? own->cr_base_url : config->cr_base_url;
    bool is_own = own->cr_base_url != NULL;
    enum hsm_status st = sks_repository_open(config->cr_dir, base_url, &provider->repository);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "%s in %s: %s", base_url, config->cr_dir, hsm_status_text(st));
    provider->publisher = (struct sks_publisher){
        .http = provider->kms->verification.http,
        .upload_url = is_own ? own->upload_url : config->upload_url,
        .upload_command = is_own ? own->upload_command : config->upload_command,
        .notify_command = config->notify_command,
        .dir = config->cr_dir,
        .timeout_s = (unsigned)config->command_timeout_s,
    };
    st = sks_publish_check(&provider->publisher, why);
    if (st == HSM_OK)
        st = read_secrets(provider,
                          is_own ? own->upload_bearer_source : config->upload_bearer_source, why);
    provider->publisher.upload_bearer = provider->upload_bearer;
    return st;
}

enum hsm_status
sks_kms_prepare(struct kms_provider *provider, struct hsm_reason *why)
{
    enum hsm_status st;

    if (provider->is_prepared)
        return HSM_OK;
    st = open_repository(provider, why);
    if (st != HSM_OK) {
        put_back(provider);
        return st;
    }
    provider->login = (struct acme_authority_login){.http = provider->kms->verification.http,
                                                    .base_url = provider->kms->config->pa_url,
                                                    .account_id = provider->config->pa_account,
                                                    .user = provider->config->pa_user,
                                                    .password = provider->password,
                                                    .api_key = provider->api_key};
    provider->is_prepared = true;
    return HSM_OK;
}

enum hsm_status
sks_kms_check(struct sks_kms *kms, size_t provider, struct hsm_reason *why)
{
    struct kms_provider *of = &kms->providers[provider];
    enum hsm_status st = sks_kms_prepare(of, why);

    for (size_t i = 0; st == HSM_OK && i < of->config->token_count; i++) {
        const char *fault = sks_tokens_fault(kms->tokens, sks_kms_token_uri(of, i));

        if (fault != NULL)
            st = hsm_refuse(why, HSM_ERR_BUSY, "token %s: %s", sks_kms_token_uri(of, i), fault);
    }
    return st;
}

struct sks_catalogue *
sks_kms_catalogue(const struct sks_kms *kms)
{
    return kms->catalogue;
}

/* ---- accounts ---- */

enum hsm_status
sks_kms_find_ca(const struct sks_sp_config *config, size_t provider, const char *name, size_t *out)
{
    const struct sks_sp_provider *of = &config->providers[provider];

    for (size_t i = 0; i < of->ca_count; i++) {
        const struct sks_sp_ca *ca = &config->cas[of->cas[i]];

        if (name != NULL && strcmp(ca->directory, name) != 0 &&
            (ca->name == NULL || strcmp(ca->name, name) != 0))
            continue;
        *out = of->cas[i];
        return HSM_OK;
    }
    hsm_log(HSM_LOG_ERROR, "%s: no STI-CA of the configuration has this name or directory",
            name != NULL ? name : "[ca]");
    return HSM_ERR_NOT_FOUND;
}

/* The index among the provider's tokens; the last one if `uri` names none of them. */
static size_t
token_index(const struct kms_provider *provider, const char *uri)
{
    size_t i = 0;

    while (i + 1 < provider->config->token_count &&
           !sks_tokens_is(provider->kms->tokens, provider->config->tokens[i], uri))
        i++;
    return i;
}

/* The configuration may now name the token by a different text (RFC 7512). Take the account that
 * the catalogue has under exactly this text, or else under another name of the token. */
static enum hsm_status
name_account_token(struct sks_kms *kms, size_t token, const struct sks_account_owner *owner,
                   char **out)
{
    struct sks_account_row *rows = NULL;
    size_t count = 0;
    const char *name = NULL;
    enum hsm_status st = sks_catalogue_accounts(kms->catalogue, &rows, &count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].spc, owner->spc) != 0 ||
            strcmp(rows[i].ca_directory, owner->ca_directory) != 0)
            continue;
        if (strcmp(rows[i].token_uri, owner->token_uri) == 0 ||
            (name == NULL && sks_tokens_is(kms->tokens, token, rows[i].token_uri)))
            name = rows[i].token_uri;
    }
    if (st == HSM_OK && (*out = strdup(name != NULL ? name : owner->token_uri)) == NULL)
        st = HSM_ERR_NOMEM;
    sks_account_rows_free(rows, count);
    return st;
}

enum hsm_status
sks_kms_account(struct sks_kms *kms, size_t provider, const char *token_uri, size_t ca,
                struct sks_account **out, struct hsm_reason *why)
{
    struct kms_provider *of = &kms->providers[provider];
    const struct sks_sp_provider *own = of->config;
    const struct sks_sp_ca *config = &kms->config->cas[ca];
    size_t token = token_index(of, token_uri);
    struct sks_account **place = &of->accounts[token][ca];
    DEFER(free) char *name = NULL;
    enum hsm_status st = sks_kms_prepare(of, why);
    struct sks_account_config account = {
        .catalogue = kms->catalogue,
        .token = sks_tokens_get(kms->tokens, token_uri),
        .tokens = kms->tokens,
        .hosted_spc = own->name != NULL ? own->spc : NULL,
        .client = {.http = kms->verification.http,
                   .directory_url = config->directory,
                   .contact = own->contact != NULL ? own->contact : config->contact,
                   .member = config->member,
                   .tnauthlist_text = config->tnauthlist_text,
                   .poll_limit_s = (unsigned)kms->config->poll_limit_s,
                   .eab_kid = of->eab_keys[ca] != NULL ? eab_kid(of, ca) : NULL,
                   .eab_key = of->eab_keys[ca],
                   .stopped = kms->hooks.stopped,
                   .stopped_context = kms->hooks.context},
    };

    if (st != HSM_OK)
        return st;
    if (account.token == NULL) {
        const char *fault = sks_tokens_fault(kms->tokens, token_uri);

        return hsm_refuse(why, HSM_ERR_BUSY, "token %s: %s", token_uri,
                          fault != NULL ? fault : "its token is away");
    }
    if (*place == NULL) {
        const struct sks_account_owner owner = {account.hosted_spc != NULL ? own->spc : "",
                                                config->directory, token_uri};

        st = name_account_token(kms, own->tokens[token], &owner, &name);
        account.token_uri = name;
        if (st == HSM_OK)
            st = sks_account_open(&account, place, why);
    }
    if (st == HSM_OK)
        *out = *place;
    return st;
}

/* ---- a single enrollment ---- */

/* The operator configured the organization of the CA: check that it has a root on the STI-PA's
 * list. */
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
sks_kms_token_name(struct sks_kms *kms, size_t provider, const char *token_uri, char **out)
{
    const struct kms_provider *of = &kms->providers[provider];
    size_t token = of->config->tokens[token_index(of, token_uri)];
    struct sks_credential *list = NULL;
    size_t count = 0;
    const char *name = token_uri;
    bool is_of_active = false;
    enum hsm_status st = sks_catalogue_list_in(kms->catalogue, of->config->spc, SKS_GENERATED,
                                               SKS_ACTIVE, &list, &count);

    for (size_t i = 0; i < count; i++) { /* the newest is last */
        bool is_active = list[i].state == SKS_ACTIVE;

        if ((is_of_active && !is_active) || !sks_tokens_is(kms->tokens, token, list[i].token_uri))
            continue;
        name = list[i].token_uri;
        is_of_active = is_active;
    }
    if (st == HSM_OK && (*out = strdup(name)) == NULL)
        st = HSM_ERR_NOMEM;
    sks_credentials_free(list, count);
    return st;
}

enum hsm_status
sks_kms_enroll(struct sks_kms *kms, size_t provider, const char *token_uri, size_t ca,
               int64_t replaces, int64_t *id, struct hsm_reason *why)
{
    struct kms_provider *of = &kms->providers[provider];
    const struct sks_sp_ca *config = &kms->config->cas[ca];
    struct sks_account *account = NULL;
    struct sks_enrollment enrollment = {
        .token = sks_tokens_get(kms->tokens, token_uri),
        .token_uri = token_uri,
        .catalogue = kms->catalogue,
        .ca_directory = config->directory,
        .authority = &of->login,
        .fingerprint = config->fingerprint_form,
        .trust = kms->verification.trust,
        .http = kms->verification.repositories,
        .spc = of->config->spc,
        .publisher = &of->publisher,
        .hosted_by_ca = config->hosts_chains ? kms->verification.x5u : NULL,
        .private_addresses = kms->config->private_addresses,
        .replaces = replaces,
        .progress = sks_kms_tell_line,
        .context = of,
        .stopped = kms->hooks.stopped,
        .stopped_context = kms->hooks.context,
    };
    enum hsm_status st = sks_kms_prepare(of, why);

    if (st == HSM_OK && config->name != NULL)
        st = check_name(kms, config->name, why);
    if (st == HSM_OK)
        st = sks_kms_account(kms, provider, token_uri, ca, &account, why);
    if (st != HSM_OK)
        return st;
    enrollment.repository = of->repository;
    enrollment.client = sks_account_client(account);
    st = sks_enroll(&enrollment, id, why);
    if (st == HSM_OK)
        sks_kms_notify(of, time(NULL));
    return st;
}
