/* catalogue.c - the credentials of a service provider, in SQLite. */
#include <sks/catalogue.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "catalogue_internal.h"

/*
 * The triggers count changes by any process, so that a running signer notices
 * them. No two credentials have the same x5u, not even retired ones. The x5u of
 * a forgotten credential, if in our repository, cannot recur with another chain,
 * because its name is the digest of the chain.
 */
static const char *const migrations[] = {
    "CREATE TABLE credential ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7),"
    " spc TEXT NOT NULL,"
    " token_uri TEXT NOT NULL,"
    " key_uri TEXT NOT NULL,"
    " ca_directory TEXT,"
    " order_url TEXT,"
    " chain_pem TEXT,"
    " x5u TEXT UNIQUE,"
    " not_after INTEGER NOT NULL);"
    "CREATE INDEX credential_spc ON credential (spc, state);"
    "CREATE TABLE catalogue (version INTEGER NOT NULL);"
    "INSERT INTO catalogue VALUES (1);"
    "CREATE TRIGGER credential_inserted AFTER INSERT ON credential"
    " BEGIN UPDATE catalogue SET version = version + 1; END;"
    "CREATE TRIGGER credential_updated AFTER UPDATE ON credential"
    " BEGIN UPDATE catalogue SET version = version + 1; END;",
    /* The time of earlier changes of a credential is unknown: assume the latest possible. */
    "ALTER TABLE credential ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE credential ADD COLUMN replaces INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE credential ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;"
    "UPDATE credential SET changed_at = CAST(strftime('%s', 'now') AS INTEGER);"
    "CREATE INDEX credential_order ON credential (order_url);"
    "CREATE TABLE renewal ("
    " credential INTEGER PRIMARY KEY,"
    " due INTEGER NOT NULL,"
    " window_start INTEGER NOT NULL,"
    " window_end INTEGER NOT NULL,"
    " ask_at INTEGER NOT NULL,"
    " explanation_url TEXT NOT NULL);"
    "CREATE TABLE acme_account ("
    " ca_directory TEXT NOT NULL,"
    " token_uri TEXT NOT NULL,"
    " label TEXT NOT NULL,"
    " next TEXT NOT NULL,"
    " PRIMARY KEY (ca_directory, token_uri));"
    "CREATE TABLE notice (credential INTEGER PRIMARY KEY);"
    "CREATE TABLE trouble ("
    " matter TEXT PRIMARY KEY,"
    " text TEXT NOT NULL,"
    " since INTEGER NOT NULL,"
    " last INTEGER NOT NULL,"
    " count INTEGER NOT NULL);",
    /* An account belongs to a hosted service provider, or with spc "" to that of [sp]. A trouble
     * concerns one service provider, or with spc "" all. Persistent troubles will be recorded
     * again. */
    "CREATE TABLE account_key ("
    " spc TEXT NOT NULL,"
    " ca_directory TEXT NOT NULL,"
    " token_uri TEXT NOT NULL,"
    " label TEXT NOT NULL,"
    " next TEXT NOT NULL,"
    " PRIMARY KEY (spc, ca_directory, token_uri));"
    "INSERT INTO account_key SELECT '', ca_directory, token_uri, label, next FROM acme_account;"
    "DROP TABLE acme_account;"
    "DROP TABLE trouble;"
    "CREATE TABLE trouble ("
    " spc TEXT NOT NULL,"
    " matter TEXT NOT NULL,"
    " text TEXT NOT NULL,"
    " since INTEGER NOT NULL,"
    " last INTEGER NOT NULL,"
    " count INTEGER NOT NULL,"
    " PRIMARY KEY (spc, matter));",
    "CREATE INDEX credential_changed ON credential (state, changed_at);",
    NULL,
};

const char *
sks_state_text(enum sks_state state)
{
    switch (state) {
    case SKS_GENERATED:
        return "generated";
    case SKS_REQUESTED:
        return "requested";
    case SKS_ISSUED:
        return "issued";
    case SKS_PUBLISHED:
        return "published";
    case SKS_ACTIVE:
        return "active";
    case SKS_RETIRING:
        return "retiring";
    case SKS_RETIRED:
        return "retired";
    case SKS_DESTROYED:
        return "destroyed";
    }
    return "unknown";
}

enum hsm_status
sks_catalogue_open(const char *path, struct sks_catalogue **out)
{
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = calloc(1, sizeof(*catalogue));
    enum hsm_status st;

    if (catalogue == NULL)
        return HSM_ERR_NOMEM;
    st = acme_store_open(path, migrations, &catalogue->store);
    if (st != HSM_OK)
        return st;
    *out = catalogue;
    catalogue = NULL;
    return HSM_OK;
}

void
sks_catalogue_close(struct sks_catalogue *catalogue)
{
    if (catalogue == NULL)
        return;
    acme_store_close(catalogue->store);
    free(catalogue);
}

/* Each state requires certain members, but a credential that was given up may lack them. */
static bool
has_what_its_state_says(const struct sks_credential *credential)
{
    bool given_up = credential->state >= SKS_RETIRED;
    bool issued = credential->chain_pem != NULL && credential->not_after > 0;

    if (credential->state < SKS_GENERATED || credential->state > SKS_DESTROYED ||
        credential->spc == NULL || credential->token_uri == NULL || credential->key_uri == NULL)
        return false;
    if (credential->state >= SKS_ISSUED && !issued && !given_up)
        return false;
    return credential->state < SKS_PUBLISHED || credential->x5u != NULL || given_up;
}

static enum hsm_status
insert(struct sks_catalogue *catalogue, struct sks_credential *credential)
{
    enum hsm_status st = acme_store_begin(catalogue->store);
    int64_t id = 0;

    if (st != HSM_OK)
        return st;
    st = acme_store_insert(
        catalogue->store, &id,
        "INSERT INTO credential (state, spc, token_uri, key_uri, ca_directory,"
        " order_url, chain_pem, x5u, not_before, not_after, replaces, changed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        "isssssssiiii", (int64_t)credential->state, credential->spc, credential->token_uri,
        credential->key_uri, credential->ca_directory, credential->order_url, credential->chain_pem,
        credential->x5u, (int64_t)credential->not_before, (int64_t)credential->not_after,
        credential->replaces, (int64_t)time(NULL));
    if (st != HSM_OK) {
        acme_store_rollback(catalogue->store);
        return st;
    }
    st = acme_store_commit(catalogue->store);
    if (st == HSM_OK)
        credential->id = id;
    return st;
}

/* The stored state of a credential. */
static enum hsm_status
stored_state(struct sks_catalogue *catalogue, int64_t id, enum sks_state *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(catalogue->store, &rows,
                                          "SELECT state FROM credential WHERE id = ?", "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows)) {
        hsm_log(HSM_LOG_ERROR, "credential %lld: not in the catalogue", (long long)id);
        return HSM_ERR_NOT_FOUND;
    }
    *out = (enum sks_state)acme_rows_int(rows, 0);
    return HSM_OK;
}

/* Called within a transaction. */
static enum hsm_status
update(struct sks_catalogue *catalogue, const struct sks_credential *credential)
{
    enum sks_state from;
    enum hsm_status st = stored_state(catalogue, credential->id, &from);

    if (st != HSM_OK)
        return st;
    if (credential->state < from || (credential->state == SKS_ACTIVE && from != SKS_ACTIVE)) {
        hsm_log(HSM_LOG_ERROR, "credential %lld: cannot be put from %s to %s",
                (long long)credential->id, sks_state_text(from), sks_state_text(credential->state));
        return HSM_ERR_USAGE;
    }
    return acme_store_run(catalogue->store, NULL,
                          "UPDATE credential SET changed_at = CASE WHEN state = ?1 THEN changed_at"
                          " ELSE ?11 END, state = ?1, spc = ?2, token_uri = ?3, key_uri = ?4,"
                          " ca_directory = ?5, order_url = ?6, chain_pem = ?7, x5u = ?8,"
                          " not_before = ?9, not_after = ?10, replaces = ?12 WHERE id = ?13",
                          "isssssssiiiii", (int64_t)credential->state, credential->spc,
                          credential->token_uri, credential->key_uri, credential->ca_directory,
                          credential->order_url, credential->chain_pem, credential->x5u,
                          (int64_t)credential->not_before, (int64_t)credential->not_after,
                          (int64_t)time(NULL), credential->replaces, credential->id);
}

/* Commit a transaction if its statements succeeded, otherwise roll it back. */
static enum hsm_status
finish(struct sks_catalogue *catalogue, enum hsm_status st)
{
    if (st == HSM_OK)
        return acme_store_commit(catalogue->store);
    acme_store_rollback(catalogue->store);
    return st;
}

enum hsm_status
sks_catalogue_put(struct sks_catalogue *catalogue, struct sks_credential *credential)
{
    enum hsm_status st;

    if (!has_what_its_state_says(credential)) {
        hsm_log(HSM_LOG_ERROR, "credential %lld: lacks what the state %s says is there",
                (long long)credential->id, sks_state_text(credential->state));
        return HSM_ERR_USAGE;
    }
    if (credential->id == 0)
        return insert(catalogue, credential);
    st = acme_store_begin(catalogue->store);
    if (st != HSM_OK)
        return st;
    return finish(catalogue, update(catalogue, credential));
}

/* Called within a transaction. */
static enum hsm_status
replace_active(struct sks_catalogue *catalogue, int64_t id)
{
    enum sks_state from;
    enum hsm_status st = stored_state(catalogue, id, &from);

    if (st != HSM_OK || from == SKS_ACTIVE)
        return st;
    if (from != SKS_PUBLISHED) {
        hsm_log(HSM_LOG_ERROR, "credential %lld: is %s: only a published one becomes active",
                (long long)id, sks_state_text(from));
        return HSM_ERR_USAGE;
    }
    st =
        acme_store_run(catalogue->store, NULL,
                       "UPDATE credential SET state = ?, changed_at = ? WHERE state = ?"
                       " AND (spc, token_uri) ="
                       " (SELECT spc, token_uri FROM credential WHERE id = ?)",
                       "iiii", (int64_t)SKS_RETIRING, (int64_t)time(NULL), (int64_t)SKS_ACTIVE, id);
    if (st != HSM_OK)
        return st;
    return acme_store_run(catalogue->store, NULL,
                          "UPDATE credential SET state = ?, changed_at = ? WHERE id = ?", "iii",
                          (int64_t)SKS_ACTIVE, (int64_t)time(NULL), id);
}

enum hsm_status
sks_catalogue_activate(struct sks_catalogue *catalogue, int64_t id)
{
    enum hsm_status st = acme_store_begin(catalogue->store);

    if (st != HSM_OK)
        return st;
    return finish(catalogue, replace_active(catalogue, id));
}

static bool
credential_from_row(const struct acme_rows *rows, struct sks_credential *out)
{
    out->id = acme_rows_int(rows, 0);
    out->state = (enum sks_state)acme_rows_int(rows, 1);
    out->not_before = (time_t)acme_rows_int(rows, 2);
    out->not_after = (time_t)acme_rows_int(rows, 3);
    out->replaces = acme_rows_int(rows, 4);
    out->changed_at = (time_t)acme_rows_int(rows, 5);
    return sks_catalogue_column(rows, 6, &out->spc) &&
           sks_catalogue_column(rows, 7, &out->token_uri) &&
           sks_catalogue_column(rows, 8, &out->key_uri) &&
           sks_catalogue_column(rows, 9, &out->ca_directory) &&
           sks_catalogue_column(rows, 10, &out->order_url) &&
           sks_catalogue_column(rows, 11, &out->chain_pem) &&
           sks_catalogue_column(rows, 12, &out->x5u);
}

#define COLUMNS                                                                                    \
    "SELECT id, state, not_before, not_after, replaces, changed_at, spc, token_uri, key_uri,"      \
    " ca_directory, order_url, chain_pem, x5u FROM credential"

enum hsm_status
sks_catalogue_find(struct sks_catalogue *catalogue, int64_t id, struct sks_credential *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct sks_credential found = {.id = 0};
    enum hsm_status st =
        acme_store_query(catalogue->store, &rows, COLUMNS " WHERE id = ?", "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    if (!credential_from_row(rows, &found)) {
        sks_credential_clear(&found);
        return HSM_ERR_NOMEM;
    }
    *out = found;
    return HSM_OK;
}

static enum hsm_status
query_list(struct sks_catalogue *catalogue, const char *spc, enum sks_state first,
           enum sks_state last, struct acme_rows **out)
{
    if (spc == NULL)
        return acme_store_query(catalogue->store, out,
                                COLUMNS " WHERE state BETWEEN ? AND ? ORDER BY id", "ii",
                                (int64_t)first, (int64_t)last);
    return acme_store_query(catalogue->store, out,
                            COLUMNS " WHERE spc = ? AND state BETWEEN ? AND ? ORDER BY id", "sii",
                            spc, (int64_t)first, (int64_t)last);
}

static enum hsm_status
list_from_rows(struct acme_rows *rows, struct sks_credential **out, size_t *count)
{
    struct sks_credential *list = calloc(acme_rows_count(rows) + 1, sizeof(*list));
    size_t n = 0;

    if (list == NULL)
        return HSM_ERR_NOMEM;
    while (acme_rows_next(rows))
        if (!credential_from_row(rows, &list[n++])) {
            sks_credentials_free(list, n);
            return HSM_ERR_NOMEM;
        }
    *out = list;
    *count = n;
    return HSM_OK;
}

enum hsm_status
sks_catalogue_list_in(struct sks_catalogue *catalogue, const char *spc, enum sks_state first,
                      enum sks_state last, struct sks_credential **out, size_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = query_list(catalogue, spc, first, last, &rows);

    return st == HSM_OK ? list_from_rows(rows, out, count) : st;
}

enum hsm_status
sks_catalogue_list_destroyed(struct sks_catalogue *catalogue, const char *spc, time_t since,
                             time_t now, struct sks_credential **out, size_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(catalogue->store, &rows,
                         COLUMNS " WHERE state = ?1 AND changed_at <= ?2 AND not_after < ?3"
                                 " AND (?4 IS NULL OR spc = ?4) ORDER BY changed_at LIMIT ?5",
                         "iiisi", (int64_t)SKS_DESTROYED, (int64_t)since, (int64_t)now, spc,
                         (int64_t)SKS_FORGET_MAX);

    return st == HSM_OK ? list_from_rows(rows, out, count) : st;
}

/* Called within a transaction. */
static enum hsm_status
delete_destroyed(struct sks_catalogue *catalogue, int64_t id)
{
    int64_t deleted = 0;
    enum hsm_status st = acme_store_run(catalogue->store, &deleted,
                                        "DELETE FROM credential WHERE id = ? AND state = ?", "ii",
                                        id, (int64_t)SKS_DESTROYED);

    if (st == HSM_OK && deleted == 0) {
        hsm_log(HSM_LOG_ERROR, "credential %lld: not destroyed: it is not forgotten",
                (long long)id);
        return HSM_ERR_USAGE;
    }
    if (st == HSM_OK)
        st = acme_store_run(catalogue->store, NULL, "DELETE FROM renewal WHERE credential = ?", "i",
                            id);
    if (st == HSM_OK)
        st = acme_store_run(catalogue->store, NULL, "DELETE FROM notice WHERE credential = ?", "i",
                            id);
    return st;
}

enum hsm_status
sks_catalogue_forget(struct sks_catalogue *catalogue, int64_t id)
{
    enum hsm_status st = acme_store_begin(catalogue->store);

    if (st != HSM_OK)
        return st;
    return finish(catalogue, delete_destroyed(catalogue, id));
}

enum hsm_status
sks_catalogue_list(struct sks_catalogue *catalogue, const char *spc, struct sks_credential **out,
                   size_t *count)
{
    return sks_catalogue_list_in(catalogue, spc, SKS_GENERATED, SKS_DESTROYED, out, count);
}

void
sks_credential_clear(struct sks_credential *credential)
{
    free(credential->spc);
    free(credential->token_uri);
    free(credential->key_uri);
    free(credential->ca_directory);
    free(credential->order_url);
    free(credential->chain_pem);
    free(credential->x5u);
    memset(credential, 0, sizeof(*credential));
}

void
sks_credentials_free(struct sks_credential *credentials, size_t count)
{
    if (credentials == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        sks_credential_clear(&credentials[i]);
    free(credentials);
}

enum hsm_status
sks_catalogue_version(struct sks_catalogue *catalogue, int64_t *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(catalogue->store, &rows, "SELECT version FROM catalogue", "");

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_IO;
    *out = acme_rows_int(rows, 0);
    return HSM_OK;
}
