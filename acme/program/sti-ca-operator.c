/* sti-ca-operator.c - the commands of an STI-CA's operator on its store. */
#include "sti-ca.h"

#include <stdio.h>
#include <time.h>

#include <acme/server.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/time.h>

/* ---- participants ---- */

enum hsm_status
run_participant_set(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &config, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_participant_set(store, arguments->spc, arguments->organization,
                                     arguments->country != NULL ? arguments->country
                                                                : config.country);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR,
                "an SPC is of [A-Z0-9], an organization has 1 to 64 octets, a country two letters");
    if (st == HSM_OK)
        printf("%s: %s\n", arguments->spc, arguments->organization);
    return st;
}

enum hsm_status
run_participant_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    return st == HSM_OK ? acme_server_participants_show(store, stdout) : st;
}

enum hsm_status
run_participant_remove(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_participant_remove(store, arguments->spc);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "SPC %s: has no registered name", arguments->spc);
    else if (st == HSM_OK)
        printf("%s: removed\n", arguments->spc);
    return st;
}

/* ---- accounts ---- */

enum hsm_status
run_account_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    return st == HSM_OK ? acme_server_accounts_show(store, stdout) : st;
}

enum hsm_status
run_account_revoke(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_account_revoke(store, arguments->id);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "account %s: there is none, or it is valid no more", arguments->id);
    else if (st == HSM_OK)
        printf("account %s: revoked\n", arguments->id);
    return st;
}

/* ---- external accounts ---- */

enum hsm_status
run_eab_add(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &config, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_external_add(store, config.external_accounts, arguments->id);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "an ID is 1 to %d of [A-Za-z0-9_-]", ACME_EXTERNAL_ID_MAX);
    else if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: exists, or was used", arguments->id);
    else if (st == HSM_OK)
        printf("%s: %s/%s\n", arguments->id, config.external_accounts, arguments->id);
    return st;
}

enum hsm_status
run_eab_list(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = open_store(arguments, &config, &store);

    if (st == HSM_OK)
        st = acme_store_query(store, &rows,
                              "SELECT external_account, id, status FROM account WHERE"
                              " external_account IS NOT NULL ORDER BY external_account",
                              "");
    while (st == HSM_OK && acme_rows_next(rows))
        printf("%s\taccount %s\t%s\n", acme_rows_text(rows, 0), acme_rows_text(rows, 1),
               acme_rows_text(rows, 2));
    return st == HSM_OK ? acme_server_external_list(config.external_accounts, stdout) : st;
}

enum hsm_status
run_eab_remove(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &config, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_external_remove(store, config.external_accounts, arguments->id);
    if (st == HSM_ERR_NOT_FOUND || st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "%s: no such key, or it was used", arguments->id);
    else if (st == HSM_OK)
        printf("%s: removed\n", arguments->id);
    return st;
}

/* ---- operators of the web pages ---- */

enum hsm_status
run_web_user_add(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *password = NULL;
    enum hsm_status st = open_store(arguments, &config, &store);

    if (st == HSM_OK)
        st = hsm_secret_from(arguments->password_source, "Password of the operator: ", &password);
    if (st != HSM_OK)
        return st;
    if (!config.web_enabled)
        hsm_log(HSM_LOG_WARNING, "[web] enabled is no: there is no status page");
    st = acme_server_web_user_add(store, arguments->user, password);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR,
                "a user is 1 to 64 of [A-Za-z0-9._@-], a password has 12 octets or more");
    else if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: exists; remove it first", arguments->user);
    else if (st == HSM_OK)
        printf("%s: added\n", arguments->user);
    return st;
}

enum hsm_status
run_web_user_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    return st == HSM_OK ? acme_server_web_users_show(store, stdout) : st;
}

enum hsm_status
run_web_user_remove(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, NULL, &store);

    if (st != HSM_OK)
        return st;
    st = acme_server_web_user_remove(store, arguments->user);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "%s: no such user", arguments->user);
    else if (st == HSM_OK)
        printf("%s: removed\n", arguments->user);
    return st;
}

/* ---- revocation ---- */

static enum hsm_status
revoke_by_serial(struct acme_store *store, const char *serial, int reason)
{
    enum hsm_status st = acme_server_revoke(store, serial, reason, time(NULL));

    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "serial: 1 to %d octets in hex; reason: 0 to 6", CERTS_SERIAL_MAX);
    else if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "%s: no certificate of this STI-CA", serial);
    else if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: is revoked already; the STI-PA is told again", serial);
    else if (st == HSM_OK)
        printf("%s: revoked\n", serial);
    return st;
}

enum hsm_status
run_revoke(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long reason = 0;
    enum hsm_status st = HSM_OK;

    if (arguments->reason != NULL)
        st = options_number("reason", arguments->reason, 0, 6, &reason);
    if (st == HSM_OK)
        st = open_store(arguments, &config, &store);
    if (st != HSM_OK)
        return st;
    if (config.revocation_url == NULL)
        hsm_log(HSM_LOG_WARNING, "no [pa] revocation-url: the STI-PA is not told of revocations");
    return revoke_by_serial(store, arguments->serial, (int)reason);
}

enum hsm_status
run_revocation_resend(const struct arguments *arguments)
{
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    int64_t count = 0;
    time_t since;
    enum hsm_status st;

    if (hsm_time_parse(arguments->since, &since) != HSM_OK)
        return options_refuse("--since is no time as in 2026-01-15T12:00:00Z");
    st = open_store(arguments, &config, &store);
    if (st == HSM_OK)
        st = acme_server_revocations_resend(store, since, time(NULL), &count);
    if (st == HSM_OK)
        printf("%lld\n", (long long)count);
    return st;
}
