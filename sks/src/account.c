/* account.c - the SP-KMS's account at an STI-CA, and the change of its key. */
#include <sks/account.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <sks/enroll.h>

#include "key_label_internal.h"

struct sks_account {
    struct sks_account_config config;
    char *token_uri; /* owned copy of config.token_uri */
    struct sks_account_keys keys;
    struct hsm_key *key;
    struct acme_client *client; /* uses `key` */
};

static struct sks_account_owner
owner_of(const struct sks_account *account)
{
    return (struct sks_account_owner){
        .spc = account->config.hosted_spc != NULL ? account->config.hosted_spc : "",
        .ca_directory = account->config.client.directory_url,
        .token_uri = account->token_uri,
    };
}

static enum hsm_status
note(struct sks_account *account, const struct sks_account_keys *keys, struct hsm_reason *why)
{
    const struct sks_account_owner owner = owner_of(account);
    enum hsm_status st = sks_catalogue_account_put(account->config.catalogue, &owner, keys);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "the catalogue did not take the account's key: %s",
                          hsm_status_text(st));
    account->keys = *keys;
    return HSM_OK;
}

/* The label of a hosted provider's key contains its SPC. */
static enum hsm_status
new_label(const struct sks_account *account, char out[SKS_ACCOUNT_LABEL_MAX + 1],
          struct hsm_reason *why)
{
    const char *spc = account->config.hosted_spc;
    char prefix[sizeof(SKS_ENROLL_ACCOUNT_LABEL) + 1 + CERTS_SPC_MAX];

    snprintf(prefix, sizeof(prefix), "%s%s%s", SKS_ENROLL_ACCOUNT_LABEL, spc != NULL ? "-" : "",
             spc != NULL ? spc : "");
    return sks_key_label_new(account->config.token, prefix, out, why);
}

/* The label of the first key is durable before the key is generated, as with all keys. */
static enum hsm_status
name_first_key(struct sks_account *account, struct hsm_reason *why)
{
    struct sks_account_keys keys = {.label = SKS_ENROLL_ACCOUNT_LABEL};
    enum hsm_status st =
        account->config.hosted_spc == NULL ? HSM_OK : new_label(account, keys.label, why);

    return st == HSM_OK ? note(account, &keys, why) : st;
}

static enum hsm_status
read_keys(struct sks_account *account, struct hsm_reason *why)
{
    const struct sks_account_owner owner = owner_of(account);
    enum hsm_status st = sks_catalogue_account(account->config.catalogue, &owner, &account->keys);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "the catalogue cannot be used: %s", hsm_status_text(st));
    return account->keys.label[0] != '\0' ? HSM_OK : name_first_key(account, why);
}

static enum hsm_status
have_key(struct sks_account *account, const char *label, struct hsm_key **out,
         struct hsm_reason *why)
{
    enum hsm_status st = hsm_key_find_or_generate(account->config.token, label, out);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "account key %s: %s", label, hsm_status_text(st));
    return HSM_OK;
}

static enum hsm_status
new_client(const struct sks_account *account, struct hsm_key *key, struct acme_client **out,
           struct hsm_reason *why)
{
    struct acme_client_config config = account->config.client;

    config.account_key = key;
    return acme_client_new(&config, out, why);
}

/* ---- key change ---- */

/* True if `uri` names the account's token, by the same or by another text (RFC 7512). */
static bool
is_its_token(const struct sks_account *account, const char *uri)
{
    const struct sks_tokens *tokens = account->config.tokens;

    if (strcmp(uri, account->token_uri) == 0)
        return true;
    for (size_t i = 0; tokens != NULL && i < sks_tokens_count(tokens); i++)
        if (sks_tokens_is(tokens, i, account->token_uri))
            return sks_tokens_is(tokens, i, uri);
    return false;
}

/* True if an account uses the key with this label, or if that cannot be determined. */
static bool
is_used(const struct sks_account *account, const char *label)
{
    struct sks_account_row *rows = NULL;
    size_t count = 0;
    bool used = sks_catalogue_accounts(account->config.catalogue, &rows, &count) != HSM_OK;

    for (size_t i = 0; i < count; i++)
        used = used ||
               ((strcmp(rows[i].keys.label, label) == 0 || strcmp(rows[i].keys.next, label) == 0) &&
                is_its_token(account, rows[i].token_uri));
    sks_account_rows_free(rows, count);
    return used;
}

/* Destroy an old key unless an account uses it; a key that remains does no harm. */
static void
destroy_old(struct sks_account *account, struct hsm_key *old, const char *label)
{
    if (is_used(account, label))
        return;
    if (hsm_key_destroy(old) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "account key %s: no longer needed, but still in the token", label);
}

/* The next key is the account's key at the CA: make it the account's key here too. */
static enum hsm_status
take_next(struct sks_account *account, struct hsm_key **next, struct hsm_reason *why)
{
    struct sks_account_keys keys = {.next = ""};
    struct sks_account_keys before = account->keys;
    struct hsm_key *old = account->key;
    enum hsm_status st;

    memcpy(keys.label, before.next, sizeof(keys.label));
    st = note(account, &keys, why);
    if (st != HSM_OK)
        return st;
    account->key = *next;
    *next = NULL; /* handed over */
    destroy_old(account, old, before.label);
    hsm_key_free(old);
    return HSM_OK;
}

/* The CA refused the next key: the account keeps the present one. */
static void
give_up_next(struct sks_account *account, struct hsm_key *next)
{
    struct sks_account_keys keys = account->keys;
    char label[SKS_ACCOUNT_LABEL_MAX + 1];

    memcpy(label, keys.next, sizeof(label));
    keys.next[0] = '\0';
    if (note(account, &keys, NULL) == HSM_OK)
        destroy_old(account, next, label);
}

/* Request the key change, possibly a second time. It is given up only if the CA refuses it and
 * still has the account under the present key: if the response was lost or unreadable, the CA may
 * have made the change. */
static enum hsm_status
change_key(struct sks_account *account, struct hsm_key **next, struct hsm_reason *why)
{
    enum hsm_status st = acme_client_account_rollover(account->client, *next, why);

    if (st == HSM_OK)
        return take_next(account, next, why);
    if ((st == HSM_ERR_DENIED || st == HSM_ERR_EXISTS || st == HSM_ERR_UNSUPPORTED) &&
        acme_client_account_find(account->client, NULL) == HSM_OK)
        give_up_next(account, *next);
    return st;
}

/* The CA refused the next key, as it does when the account of a key has ended. If it does not know
 * the present key, that ended account is this one. */
static bool
has_ended_under_next(struct sks_account *account, enum hsm_status st)
{
    return st == HSM_ERR_DENIED &&
           acme_client_account_find(account->client, NULL) == HSM_ERR_NOT_FOUND;
}

/* Determine which of the two keys the CA knows, and finish the key change accordingly. */
static enum hsm_status
finish_rollover(struct sks_account *account, struct hsm_reason *why)
{
    DEFER(hsm_key_free) struct hsm_key *next = NULL;
    DEFER(acme_client_free) struct acme_client *client = NULL;
    enum hsm_status st = have_key(account, account->keys.next, &next, why);

    if (st == HSM_OK)
        st = new_client(account, next, &client, why);
    if (st == HSM_OK)
        st = acme_client_account_find(client, why);
    if (st == HSM_ERR_NOT_FOUND)
        return change_key(account, &next, why);
    if (st == HSM_OK || has_ended_under_next(account, st))
        st = take_next(account, &next, why);
    if (st != HSM_OK)
        return st;
    acme_client_free(account->client);
    account->client = client;
    client = NULL;
    return HSM_OK;
}

enum hsm_status
sks_account_rollover(struct sks_account *account, struct hsm_reason *why)
{
    struct sks_account_keys keys = account->keys;
    enum hsm_status st = acme_client_account_find(account->client, why);

    if (st == HSM_OK)
        st = new_label(account, keys.next, why);
    if (st == HSM_OK)
        st = note(account, &keys, why);
    return st == HSM_OK ? finish_rollover(account, why) : st;
}

/* ---- another account ---- */

/* HSM_OK: the CA has ended the account of the present key, or has no account for it. */
static enum hsm_status
check_has_ended(struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st = acme_client_account_find(account->client, why);

    if (st == HSM_OK)
        return hsm_refuse(why, HSM_ERR_USAGE, "the account is good: deactivate it first");
    return st == HSM_ERR_DENIED || st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
}

enum hsm_status
sks_account_replace(struct sks_account *account, struct hsm_reason *why)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(acme_client_free) struct acme_client *client = NULL;
    struct sks_account_keys keys = {.next = ""}, before = account->keys;
    enum hsm_status st = check_has_ended(account, why);

    if (st == HSM_OK)
        st = new_label(account, keys.label, why);
    if (st == HSM_OK)
        st = note(account, &keys, why);
    if (st == HSM_OK)
        st = have_key(account, keys.label, &key, why);
    if (st == HSM_OK)
        st = new_client(account, key, &client, why);
    if (st != HSM_OK)
        return st;
    destroy_old(account, account->key, before.label);
    acme_client_free(account->client);
    hsm_key_free(account->key);
    account->client = client;
    account->key = key;
    client = NULL;
    key = NULL;
    return acme_client_account(account->client, why);
}

/* ---- open and close ---- */

/* After a change that was given up, the present key is valid. If the CA knows neither key, the
 * account will be created with the present one; the next one stays recorded, in case the CA knows
 * it later. */
static enum hsm_status
go_on_with_rollover(struct sks_account *account, struct hsm_reason *why)
{
    enum hsm_status st = finish_rollover(account, why);
    bool given_up = account->keys.next[0] == '\0';

    if (st == HSM_OK || (!given_up && st != HSM_ERR_NOT_FOUND))
        return st;
    hsm_log(HSM_LOG_WARNING, "%s: a key change that was begun is %s: %s",
            account->config.client.directory_url, given_up ? "given up" : "not finished",
            why != NULL ? why->text : hsm_status_text(st));
    return HSM_OK;
}

enum hsm_status
sks_account_open(const struct sks_account_config *config, struct sks_account **out,
                 struct hsm_reason *why)
{
    DEFER(sks_account_close) struct sks_account *account = calloc(1, sizeof(*account));
    enum hsm_status st;

    if (account == NULL)
        return HSM_ERR_NOMEM;
    account->config = *config;
    account->token_uri = strdup(config->token_uri);
    if (account->token_uri == NULL)
        return HSM_ERR_NOMEM;
    st = read_keys(account, why);
    if (st == HSM_OK)
        st = have_key(account, account->keys.label, &account->key, why);
    if (st == HSM_OK)
        st = new_client(account, account->key, &account->client, why);
    if (st == HSM_OK && account->keys.next[0] != '\0')
        st = go_on_with_rollover(account, why);
    if (st != HSM_OK)
        return st;
    *out = account;
    account = NULL;
    return HSM_OK;
}

struct acme_client *
sks_account_client(const struct sks_account *account)
{
    return account->client;
}

const char *
sks_account_label(const struct sks_account *account)
{
    return account->keys.label;
}

void
sks_account_close(struct sks_account *account)
{
    if (account == NULL)
        return;
    acme_client_free(account->client);
    hsm_key_free(account->key);
    free(account->token_uri);
    free(account);
}
