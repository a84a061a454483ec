/* authority_operator.c - accounts: an operator of the STI-PA adds, changes and lists them. */

#include <ctype.h>
#include <string.h>

#include <acme/events.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_internal.h"
#include "password_internal.h"

#define EVENT_DETAIL_MAX 1024 /* octets; a longer list of codes is truncated */

/* An account id is put into URLs unescaped: the unreserved characters of RFC 3986, no dot
 * segment. */
static bool
is_account_id(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > ACME_AUTHORITY_ID_MAX || strcmp(text, ".") == 0 ||
        strcmp(text, "..") == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("-._~", text[i]) == NULL)
            return false;
    }
    return true;
}

bool
acme_authority_is_user(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > ACME_AUTHORITY_USER_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f || text[i] == ':')
            return false;
    }
    return true;
}

static enum hsm_status
check_names(const char *account_id, const char *user)
{
    if (!is_account_id(account_id)) {
        hsm_log(HSM_LOG_ERROR, "account id: not 1 to %d letters, digits, '-', '.', '_', '~'",
                ACME_AUTHORITY_ID_MAX);
        return HSM_ERR_MALFORMED;
    }
    if (!acme_authority_is_user(user)) {
        hsm_log(HSM_LOG_ERROR, "user: not 1 to %d printable octets without ':'",
                ACME_AUTHORITY_USER_MAX);
        return HSM_ERR_MALFORMED;
    }
    return HSM_OK;
}

static enum hsm_status
check_spcs(const char *account_id, const char *const *spcs)
{
    if (spcs[0] == NULL) {
        hsm_log(HSM_LOG_ERROR, "account %s: no service provider code", account_id);
        return HSM_ERR_MALFORMED;
    }
    for (size_t i = 0; spcs[i] != NULL; i++) {
        DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
        enum hsm_status st = certs_tnauthlist_from_spc(spcs[i], &list);

        if (st == HSM_ERR_MALFORMED)
            hsm_log(HSM_LOG_ERROR, "\"%s\": not a service provider code", spcs[i]);
        if (st != HSM_OK)
            return st;
    }
    return HSM_OK;
}

/* @param user  NULL: left out */
static void
describe(const char *user, const struct authority_rights *rights, char out[EVENT_DETAIL_MAX])
{
    const char *const *spc = rights->spcs;
    size_t len = (size_t)snprintf(out, EVENT_DETAIL_MAX, "%s%s%s", user != NULL ? "user " : "",
                                  user != NULL ? user : "", user != NULL ? ", " : "");

    len += (size_t)snprintf(out + len, EVENT_DETAIL_MAX - len, "%s%s",
                            rights->ca ? "may ask for ca, " : "",
                            rights->issuers != NULL ? "STI-CA" : "SPC");
    for (; spc != NULL && *spc != NULL && len < EVENT_DETAIL_MAX; spc++)
        len += (size_t)snprintf(out + len, EVENT_DETAIL_MAX - len, " %s", *spc);
}

static enum hsm_status
insert_spcs(struct acme_store *store, const char *account_id, const char *const *spcs)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && spcs[i] != NULL; i++)
        st = acme_store_run(
            store, NULL,
            "INSERT INTO account_spc (account, spc) VALUES (?, ?) ON CONFLICT DO NOTHING", "ss",
            account_id, spcs[i]);
    return st;
}

static enum hsm_status
insert_account(struct acme_store *store, const char *account_id, const char *user,
               const struct acme_password_hash *hash, const struct authority_rights *rights)
{
    enum hsm_status st = acme_store_run(
        store, NULL,
        "INSERT INTO account (id, \"user\", salt, hash, scrypt_n, scrypt_r, scrypt_p, ca, created,"
        " is_sti_ca) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "ssbbiiiiii", account_id, user, hash->salt, sizeof(hash->salt), hash->hash,
        sizeof(hash->hash), (int64_t)hash->n, (int64_t)hash->r, (int64_t)hash->p,
        (int64_t)rights->ca, (int64_t)time(NULL), (int64_t)(rights->issuers != NULL));

    if (st == HSM_OK && rights->spcs != NULL)
        st = insert_spcs(store, account_id, rights->spcs);
    if (st == HSM_OK && rights->issuers != NULL)
        st = acme_authority_issuers_insert(store, account_id, rights->issuers);
    return st;
}

enum hsm_status
acme_authority_account_insert(struct acme_store *store, const char *account_id, const char *user,
                              const struct hsm_secret *password,
                              const struct authority_rights *rights)
{
    struct acme_password_hash hash;
    char detail[EVENT_DETAIL_MAX];
    enum hsm_status st = check_names(account_id, user);

    if (st != HSM_OK)
        return st;
    st = acme_password_hash_new(password, &hash);
    if (st != HSM_OK)
        return st;
    st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = insert_account(store, account_id, user, &hash, rights);
    describe(user, rights, detail);
    return acme_event_commit(
        store, st,
        &(struct acme_event){
            .at = time(NULL), .what = "account added", .subject = account_id, .detail = detail});
}

enum hsm_status
acme_authority_account_add(struct acme_store *store, const char *account_id, const char *user,
                           const struct hsm_secret *password, const char *const *spcs, bool ca)
{
    const struct authority_rights rights = {.spcs = spcs, .ca = ca};
    enum hsm_status st = check_spcs(account_id, spcs);

    return st == HSM_OK ? acme_authority_account_insert(store, account_id, user, password, &rights)
                        : st;
}

/* Within a transaction. */
static enum hsm_status
replace_spcs(struct acme_store *store, const char *account_id, const char *const *spcs, bool ca)
{
    int64_t changes = 0;
    enum hsm_status st =
        acme_store_run(store, &changes, "UPDATE account SET ca = ? WHERE id = ? AND is_sti_ca = 0",
                       "is", (int64_t)ca, account_id);

    if (st == HSM_OK && changes == 0)
        return HSM_ERR_NOT_FOUND;
    if (st == HSM_OK)
        st = acme_store_run(store, NULL, "DELETE FROM account_spc WHERE account = ?", "s",
                            account_id);
    return st == HSM_OK ? insert_spcs(store, account_id, spcs) : st;
}

enum hsm_status
acme_authority_account_spcs(struct acme_store *store, const char *account_id,
                            const char *const *spcs, bool ca)
{
    const struct authority_rights rights = {.spcs = spcs, .ca = ca};
    char detail[EVENT_DETAIL_MAX];
    enum hsm_status st = check_spcs(account_id, spcs);

    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = replace_spcs(store, account_id, spcs, ca);
    describe(NULL, &rights, detail);
    return acme_event_commit(store, st,
                             &(struct acme_event){.at = time(NULL),
                                                  .what = "account codes set",
                                                  .subject = account_id,
                                                  .detail = detail});
}

/* Within a transaction. Sessions opened with the old password end, and addresses of earlier logins
 * are forgotten: a thief may have used them. */
static enum hsm_status
replace_password(struct acme_store *store, const char *account_id,
                 const struct acme_password_hash *hash)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        store, &changes,
        "UPDATE account SET salt = ?, hash = ?, scrypt_n = ?, scrypt_r = ?, scrypt_p = ?"
        " WHERE id = ?",
        "bbiiis", hash->salt, sizeof(hash->salt), hash->hash, sizeof(hash->hash), (int64_t)hash->n,
        (int64_t)hash->r, (int64_t)hash->p, account_id);

    if (st == HSM_OK && changes == 0)
        return HSM_ERR_NOT_FOUND;
    if (st == HSM_OK)
        st = acme_store_run(store, NULL, "DELETE FROM session WHERE account = ?", "s", account_id);
    return st == HSM_OK ? acme_store_run(store, NULL, "DELETE FROM login_address WHERE account = ?",
                                         "s", account_id)
                        : st;
}

enum hsm_status
acme_authority_account_password(struct acme_store *store, const char *account_id,
                                const struct hsm_secret *password)
{
    struct acme_password_hash hash;
    enum hsm_status st = acme_password_hash_new(password, &hash);

    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = replace_password(store, account_id, &hash);
    return acme_event_commit(store, st,
                             &(struct acme_event){.at = time(NULL),
                                                  .what = "account password changed",
                                                  .subject = account_id});
}

/* Print " TITLE VALUE VALUE ...", or nothing if the account has no values. */
static enum hsm_status
show_list(struct acme_store *store, const char *title, const char *sql, const char *account_id,
          FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows, sql, "s", account_id);

    if (st == HSM_OK && acme_rows_count(rows) > 0)
        fprintf(to, "  %s", title);
    while (st == HSM_OK && acme_rows_next(rows))
        fprintf(to, " %s", acme_rows_text(rows, 0));
    return st;
}

static enum hsm_status
show_account(struct acme_store *store, const struct acme_rows *rows, FILE *to)
{
    const char *id = acme_rows_text(rows, 0), *client = acme_rows_text(rows, 4);
    const char *suspended = acme_rows_text(rows, 5);
    enum hsm_status st;

    fprintf(to, "%s  user %s%s", id, acme_rows_text(rows, 1),
            acme_rows_int(rows, 3) != 0 ? "  STI-CA" : "");
    st = show_list(store, "SPC", "SELECT spc FROM account_spc WHERE account = ? ORDER BY spc", id,
                   to);
    if (acme_rows_int(rows, 2) != 0)
        fputs("  may ask for ca", to);
    if (st == HSM_OK)
        st = show_list(store, "from",
                       "SELECT prefix FROM account_source WHERE account = ? ORDER BY prefix", id,
                       to);
    if (client != NULL)
        fprintf(to, "  client %s", client);
    if (suspended != NULL)
        fprintf(to, "  suspended: %s", suspended);
    fputs("\n", to);
    return st;
}

enum hsm_status
acme_authority_accounts_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT id, \"user\", ca, is_sti_ca, client, suspended FROM account ORDER BY id", "");

    while (st == HSM_OK && acme_rows_next(rows))
        st = show_account(store, rows, to);
    return st;
}
