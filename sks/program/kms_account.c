/* kms_account.c - sti-kms account: the ACME account at an STI-CA (RFC 8555 section 7.3). */
#include "kms_commands.h"

#include <stdio.h>
#include <unistd.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "options.h"

DEFINE_DEFER(struct sks_kms, sks_kms_close)

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
             account_act *act)
{
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    DEFER(sks_kms_close) struct sks_kms *kms = NULL;
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    const char *token;
    size_t ca;
    enum hsm_status st = kms_find_token(config, arguments->init.token_uri, &token);

    if (st == HSM_OK)
        st = sks_kms_find_ca(config, arguments->ca, &ca);
    if (st == HSM_OK)
        st = sks_kms_open(config, &hooks, &kms);
    if (st != HSM_OK)
        return st;
    st = sks_kms_account(kms, token, ca, &account, &why);
    if (st == HSM_OK)
        st = act(arguments, account, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", config->cas[ca].directory,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    return st;
}

static enum hsm_status
run(const struct arguments *arguments, account_act *act)
{
    CONFIG config = {.spc = NULL};
    int lock;
    enum hsm_status st = kms_read_config(arguments, &config);

    if (st == HSM_OK)
        st = kms_lock(&config, LOCK_WAIT_S, &lock);
    if (st != HSM_OK)
        return st;
    st = with_account(arguments, &config, act);
    close(lock);
    return st;
}

enum hsm_status
kms_run_account_show(const void *command_line)
{
    return run(command_line, show);
}

enum hsm_status
kms_run_account_update(const void *command_line)
{
    return run(command_line, update);
}

enum hsm_status
kms_run_account_rollover(const void *command_line)
{
    return run(command_line, rollover);
}

enum hsm_status
kms_run_account_deactivate(const void *command_line)
{
    const struct arguments *arguments = command_line;

    if (!arguments->yes) {
        hsm_log(HSM_LOG_ERROR, "this cannot be taken back: say --yes");
        return HSM_ERR_USAGE;
    }
    return run(arguments, deactivate);
}
