/* sti-pa-operator.c - the commands of an STI-PA's operator on its store. */
#include "sti-pa.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <acme/authority.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/secret.h>

#define PASSWORD_LEN 16 /* random octets of a generated password */
#define KEY_DAYS     365 /* validity of an API key without --days */
#define REASON_MAX   10 /* RFC 5280 section 5.3.1 */

/* Print or log the outcome of a change of an account. */
static enum hsm_status
say(const struct arguments *arguments, enum hsm_status st, const char *done, const char *not_found)
{
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "account %s: %s", arguments->id, not_found);
    if (st == HSM_OK)
        printf("account %s: %s\n", arguments->id, done);
    return st;
}

/* ---- accounts and trusted STI-CAs ---- */

/* Written to its file before the store has it. *made: the file is this process's. */
static enum hsm_status
generate_password(const char *path, bool *made, struct hsm_secret **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *password = NULL;
    enum hsm_status st = hsm_secret_random(PASSWORD_LEN, &password);

    if (st == HSM_OK)
        st = hsm_secret_write(password, path);
    if (st != HSM_OK)
        return st;
    *made = true;
    *out = password;
    password = NULL;
    return HSM_OK;
}

/* For a new account: use the file that an earlier attempt left, if it is this user's alone. */
static enum hsm_status
read_first_password(const struct arguments *arguments, bool *made, struct hsm_secret **out)
{
    const char *path = arguments->generate_password;

    if (arguments->password_source != NULL)
        return hsm_secret_from(arguments->password_source, "Password of the account", out);
    if (access(path, F_OK) != 0)
        return generate_password(path, made, out);
    hsm_log(HSM_LOG_WARNING, "%s: is there already: the password in it is used", path);
    return hsm_secret_read_own(path, out);
}

/* For a new password, an existing file is refused: the old password may have leaked. */
static enum hsm_status
read_next_password(const struct arguments *arguments, bool *made, struct hsm_secret **out)
{
    enum hsm_status st;

    if (arguments->password_source != NULL)
        return hsm_secret_from(arguments->password_source, "Password of the account", out);
    st = generate_password(arguments->generate_password, made, out);
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR,
                "%s: is there already: a new password wants a new file; nothing was"
                " changed",
                arguments->generate_password);
    return st;
}

typedef enum hsm_status password_reader(const struct arguments *arguments, bool *made,
                                        struct hsm_secret **out);

/* The store has not taken the password. After any other error it may have. */
static bool
is_refused(enum hsm_status st)
{
    return st == HSM_ERR_EXISTS || st == HSM_ERR_NOT_FOUND || st == HSM_ERR_MALFORMED ||
           st == HSM_ERR_USAGE || st == HSM_ERR_UNTRUSTED;
}

/* Open the store, read the password, and call `use` with both. A file that was made for a password
 * that no account has is removed. */
static enum hsm_status
with_password(const struct arguments *arguments, password_reader *read,
              enum hsm_status (*use)(const struct arguments *arguments, struct acme_store *store,
                                     const struct hsm_secret *password))
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *password = NULL;
    bool made = false;
    enum hsm_status st;

    if ((arguments->password_source == NULL) == (arguments->generate_password == NULL))
        return options_refuse("one of --password-source and --generate-password is needed");
    st = open_store(arguments, &store);
    if (st == HSM_OK)
        st = read(arguments, &made, &password);
    if (st == HSM_OK)
        st = use(arguments, store, password);
    if (made && is_refused(st))
        (void)unlink(arguments->generate_password);
    return st;
}

static enum hsm_status
add_sp_account(const struct arguments *arguments, struct acme_store *store,
               const struct hsm_secret *password)
{
    enum hsm_status st = acme_authority_account_add(store, arguments->id, arguments->user, password,
                                                    arguments->spcs, arguments->ca);

    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "account %s or user %s exists; nothing was changed", arguments->id,
                arguments->user);
    return say(arguments, st, "added", "there is none");
}

enum hsm_status
run_account_add(const struct arguments *arguments)
{
    return with_password(arguments, read_first_password, add_sp_account);
}

static enum hsm_status
add_ca_account(const struct arguments *arguments, struct acme_store *store,
               const struct hsm_secret *password)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = certs_chain_read(arguments->chain, &chain);

    if (st != HSM_OK)
        return st;
    st = acme_authority_ca_account_add(store, arguments->id, arguments->user, password, chain);
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR,
                "account %s or user %s exists, or a name in %s is another account's; nothing was"
                " changed",
                arguments->id, arguments->user, arguments->chain);
    return say(arguments, st, "added", "there is none");
}

enum hsm_status
run_ca_account_add(const struct arguments *arguments)
{
    return with_password(arguments, read_first_password, add_ca_account);
}

enum hsm_status
run_account_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    return st == HSM_OK ? acme_authority_accounts_show(store, stdout) : st;
}

enum hsm_status
run_ca_add(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(certs_chain_free) struct certs_chain *root = NULL;
    enum hsm_status st = certs_chain_read(arguments->root, &root);

    if (st != HSM_OK)
        return st;
    if (certs_chain_len(root) != 1) {
        hsm_log(HSM_LOG_ERROR, "%s: not exactly one certificate", arguments->root);
        return HSM_ERR_MALFORMED;
    }
    st = open_store(arguments, &store);
    if (st == HSM_OK)
        st = acme_authority_ca_add(store, certs_chain_get(root, 0));
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: on the list already", arguments->root);
    if (st == HSM_OK)
        printf("%s: trusted\n", arguments->root);
    return st;
}

enum hsm_status
run_ca_remove(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_ca_remove(store, arguments->sha256, arguments->reason);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "%s: not on the list", arguments->sha256);
    if (st == HSM_OK)
        printf("%s: trusted no more\n", arguments->sha256);
    return st;
}

enum hsm_status
run_ca_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    return st == HSM_OK ? acme_authority_cas_show(store, stdout) : st;
}

enum hsm_status
run_ca_account_extend(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = certs_chain_read(arguments->chain, &chain);

    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_ca_account_extend(store, arguments->id, chain);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "account %s: no STI-CA has it", arguments->id);
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "a name in %s is another account's; nothing was changed",
                arguments->chain);
    if (st == HSM_OK)
        printf("account %s: extended\n", arguments->id);
    return st;
}

/* ---- revocations ---- */

enum hsm_status
run_revocation_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    return st == HSM_OK ? acme_authority_revocations_show(store, stdout) : st;
}

enum hsm_status
run_revocation_add(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    long long reason = 0;
    enum hsm_status st = HSM_OK;

    if (arguments->reason != NULL)
        st = options_number("reason", arguments->reason, 0, REASON_MAX, &reason);
    if (st == HSM_OK)
        st = certs_chain_read(arguments->certificate, &chain);
    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_revocation_add(store, certs_chain_get(chain, 0), (int)reason, time(NULL));
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "reason %lld: none that a CRL gives (RFC 5280 section 5.3.1)",
                reason);
    else if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "%s: its issuer is no STI-CA's that has an account",
                arguments->certificate);
    else if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: is on the CRL already", arguments->certificate);
    else if (st == HSM_OK)
        printf("%s: revoked\n", arguments->certificate);
    return st;
}

static enum hsm_status
decide(const struct arguments *arguments, bool approve)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long id = 0;
    enum hsm_status st = options_number("id", arguments->id, 1, LLONG_MAX, &id);

    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_revocation_decide(store, id, approve, time(NULL));
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "revocation %s: there is none", arguments->id);
    if (st == HSM_OK)
        printf("revocation %s: %s\n", arguments->id, approve ? "approved" : "refused");
    return st;
}

enum hsm_status
run_revocation_approve(const struct arguments *arguments)
{
    return decide(arguments, true);
}

enum hsm_status
run_revocation_refuse(const struct arguments *arguments)
{
    return decide(arguments, false);
}

enum hsm_status
run_revocation_drop(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long first = 0, last = 0;
    int64_t count = 0;
    enum hsm_status st = options_number("id", arguments->id, 1, LLONG_MAX, &first);

    last = first;
    if (st == HSM_OK && arguments->to != NULL)
        st = options_number("to", arguments->to, first, LLONG_MAX, &last);
    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_revocations_drop(store, arguments->account, first, last, arguments->reason,
                                         time(NULL), &count);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "revocations %lld to %lld: none of these is on the CRL", first,
                last);
    if (st == HSM_OK)
        printf("%" PRId64 " dropped\n", count);
    return st;
}

/* ---- numbers ---- */

/* *out keeps its value without the option. */
static enum hsm_status
read_number(const char *option, const char *text, int64_t *out)
{
    long long number = 0;
    enum hsm_status st = HSM_OK;

    if (text != NULL)
        st = options_number(option, text, 1, ACME_AUTHORITY_NUMBER_MAX, &number);
    if (st == HSM_OK)
        *out = number;
    return st;
}

enum hsm_status
run_restore(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    int64_t sequence = 0, crl_number = 0;
    enum hsm_status st = read_number("sequence", arguments->sequence, &sequence);

    if (st == HSM_OK)
        st = read_number("crl-number", arguments->crl_number, &crl_number);
    if (st == HSM_OK && sequence == 0 && crl_number == 0)
        st = options_refuse("--sequence or --crl-number is needed");
    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st == HSM_OK)
        st = acme_authority_numbers_raise(store, sequence, crl_number, time(NULL));
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "the store has a higher number already; nothing was changed");
    if (st == HSM_OK && sequence != 0)
        printf("trusted-CA list: the next sequence is higher than %" PRId64 "\n", sequence);
    if (st == HSM_OK && crl_number != 0)
        printf("CRL: the next number is higher than %" PRId64 "\n", crl_number);
    return st;
}

/* ---- the standing of an account ---- */

enum hsm_status
run_account_suspend(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_account_suspend(store, arguments->id, arguments->reason);
    return say(arguments, st, "suspended", "there is none, or it is suspended already");
}

enum hsm_status
run_account_reinstate(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_account_reinstate(store, arguments->id);
    return say(arguments, st, "reinstated", "there is none, or it is not suspended");
}

enum hsm_status
run_account_bind(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_account_bind(store, arguments->id, arguments->client);
    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: is bound to another account", arguments->client);
    return say(arguments, st,
               arguments->client != NULL ? "client certificate bound"
                                         : "client certificate unbound",
               "there is none");
}

enum hsm_status
run_account_limit(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_account_limit(store, arguments->id, arguments->from);
    return say(arguments, st,
               arguments->from[0] != NULL ? "limited to these addresses" : "from everywhere",
               "there is none");
}

enum hsm_status
run_account_spc(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_account_spcs(store, arguments->id, arguments->spcs, arguments->ca);
    return say(arguments, st, "may have tokens for these codes", "no service provider has it");
}

static enum hsm_status
change_password(const struct arguments *arguments, struct acme_store *store,
                const struct hsm_secret *password)
{
    enum hsm_status st = acme_authority_account_password(store, arguments->id, password);

    return say(arguments, st, "password changed", "there is none");
}

enum hsm_status
run_account_password(const struct arguments *arguments)
{
    return with_password(arguments, read_next_password, change_password);
}

/* ---- API keys ---- */

enum hsm_status
run_account_key_add(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long days = KEY_DAYS;
    int64_t id = 0;
    enum hsm_status st = HSM_OK;

    if (arguments->days != NULL)
        st = options_number("days", arguments->days, 1, ACME_AUTHORITY_KEY_DAYS_MAX, &days);
    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_api_key_add(store, arguments->id, arguments->file, (unsigned)days, &id);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "account %s: there is none", arguments->id);
    if (st == HSM_OK)
        printf("account %s: API key %" PRId64 " is in %s\n", arguments->id, id, arguments->file);
    return st;
}

enum hsm_status
run_account_key_list(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = open_store(arguments, &store);

    return st == HSM_OK ? acme_authority_api_keys_show(store, stdout) : st;
}

enum hsm_status
run_account_key_revoke(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long number = 0;
    enum hsm_status st = options_number("number", arguments->number, 1, LLONG_MAX, &number);

    if (st == HSM_OK)
        st = open_store(arguments, &store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_api_key_revoke(store, number);
    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "API key %lld: there is none, or it is revoked already", number);
    if (st == HSM_OK)
        printf("API key %lld: revoked\n", number);
    return st;
}
