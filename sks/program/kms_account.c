/* kms_account.c - sti-kms account: the ACME account at an STI-CA (RFC 8555 section 7.3). */
#include "kms_commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

/** What a command does with an account. */
typedef enum hsm_status account_act(const struct arguments *arguments, struct sks_account *account,
                                    struct hsm_reason *why);

static enum hsm_status
show(const struct arguments *arguments, struct sks_account *account, struct hsm_reason *why)
{
    struct acme_client *client = sks_account_client(account);
    struct acme_client_account_state state;
    struct acme_client_meta meta;
    enum hsm_status st = acme_client_account_read(client, &state, why);

    (void)arguments;
    if (st != HSM_OK)
        return st;
    acme_client_meta(client, &meta);
    printf("account   %s\nstatus    %s\ncontact   %s\nkey       %s\nterms     %s\n"
           "binding   %s\nrenewals  %s\n",
           acme_client_kid(client), state.status, state.contacts[0] != '\0' ? state.contacts : "-",
           sks_account_label(account), meta.terms_of_service != NULL ? meta.terms_of_service : "-",
           meta.external_account_required ? "external account required" : "not required",
           meta.has_renewal_info ? "the CA says when (RFC 9773)" : "the CA does not say when");
    return HSM_OK;
}

static enum hsm_status
update(const struct arguments *arguments, struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st =
        acme_client_account_update(sks_account_client(account), arguments->contact, why);

    if (st == HSM_OK)
        printf("contact: %s\n", arguments->contact);
    return st;
}

static enum hsm_status
rollover(const struct arguments *arguments, struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st = sks_account_rollover(account, why);

    (void)arguments;
    if (st == HSM_OK)
        printf("account key: %s\n", sks_account_label(account));
    return st;
}

static enum hsm_status
replace(const struct arguments *arguments, struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st = sks_account_replace(account, why);

    (void)arguments;
    if (st == HSM_OK)
        printf("account %s: made\naccount key: %s\n", acme_client_kid(sks_account_client(account)),
               sks_account_label(account));
    return st;
}

static enum hsm_status
deactivate(const struct arguments *arguments, struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st;

    (void)arguments;
    st = acme_client_account_deactivate(sks_account_client(account), why);
    if (st == HSM_OK)
        printf("account %s: deactivated\n", acme_client_kid(sks_account_client(account)));
    return st;
}

static enum hsm_status
with_account(const struct arguments *arguments, const struct sks_sp_config *config,
             struct sks_kms *kms, size_t provider, account_act *act, struct hsm_reason *why)
{
    DEFER(free) char *name = NULL;
    struct sks_account *account = NULL;
    const char *token = NULL;
    size_t ca = 0;
    enum hsm_status st = kms_find_token(config, provider, arguments->token, &token);

    if (st == HSM_OK)
        st = sks_kms_find_ca(config, provider, arguments->ca, &ca);
    if (st == HSM_OK)
        st = sks_kms_token_name(kms, provider, token, &name);
    if (st == HSM_OK)
        st = sks_kms_account(kms, provider, name, ca, &account, why);
    return st == HSM_OK ? act(arguments, account, why) : st;
}

#define ACT(name)                                                                                  \
    static enum hsm_status act_##name(const struct arguments *arguments,                           \
                                      const struct sks_sp_config *config, struct sks_kms *kms,     \
                                      size_t provider, struct hsm_reason *why)                     \
    {                                                                                              \
        return with_account(arguments, config, kms, provider, name, why);                          \
    }

ACT(show)
ACT(update)
ACT(rollover)
ACT(replace)
ACT(deactivate)

enum hsm_status
kms_run_account_show(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_EACH, NULL, act_show);
}

enum hsm_status
kms_run_account_update(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_EACH, NULL, act_update);
}

enum hsm_status
kms_run_account_rollover(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_EACH, NULL, act_rollover);
}

enum hsm_status
kms_run_account_replace(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_ONE, NULL, act_replace);
}

enum hsm_status
kms_run_account_deactivate(const struct arguments *arguments)
{

    if (!arguments->yes) {
        hsm_log(HSM_LOG_ERROR, "irreversible: confirm with --yes");
        return HSM_ERR_USAGE;
    }
    return kms_for(arguments, KMS_ONE, NULL, act_deactivate);
}
