/* catalogue_kms.c - what the SP-KMS stores beside the credentials. */
#include "catalogue_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

bool
sks_catalogue_column(const struct acme_rows *rows, size_t column, char **out)
{
    const char *text = acme_rows_text(rows, column);

    *out = text == NULL ? NULL : strdup(text);
    return text == NULL || *out != NULL;
}

/* ---- renewal ---- */

enum hsm_status
sks_catalogue_renewal(struct sks_catalogue *catalogue, int64_t id, struct sks_renewal *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(catalogue->store, &rows,
                         "SELECT due, window_start, window_end, ask_at, explanation_url"
                         " FROM renewal WHERE credential = ?",
                         "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    *out = (struct sks_renewal){
        .due = (time_t)acme_rows_int(rows, 0),
        .start = (time_t)acme_rows_int(rows, 1),
        .end = (time_t)acme_rows_int(rows, 2),
        .ask_at = (time_t)acme_rows_int(rows, 3),
    };
    snprintf(out->explanation_url, sizeof(out->explanation_url), "%s", acme_rows_text(rows, 4));
    return HSM_OK;
}

enum hsm_status
sks_catalogue_renewal_put(struct sks_catalogue *catalogue, int64_t id,
                          const struct sks_renewal *renewal)
{
    return acme_store_run(catalogue->store, NULL,
                          "INSERT OR REPLACE INTO renewal (credential, due, window_start,"
                          " window_end, ask_at, explanation_url) VALUES (?, ?, ?, ?, ?, ?)",
                          "iiiiis", id, (int64_t)renewal->due, (int64_t)renewal->start,
                          (int64_t)renewal->end, (int64_t)renewal->ask_at,
                          renewal->explanation_url);
}

/* ---- accounts ---- */

enum hsm_status
sks_catalogue_account(struct sks_catalogue *catalogue, const struct sks_account_owner *owner,
                      struct sks_account_keys *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(catalogue->store, &rows,
                                          "SELECT label, next FROM account_key"
                                          " WHERE spc = ? AND ca_directory = ? AND token_uri = ?",
                                          "sss", owner->spc, owner->ca_directory, owner->token_uri);

    if (st != HSM_OK)
        return st;
    memset(out, 0, sizeof(*out));
    if (!acme_rows_next(rows))
        return HSM_OK;
    snprintf(out->label, sizeof(out->label), "%s", acme_rows_text(rows, 0));
    snprintf(out->next, sizeof(out->next), "%s", acme_rows_text(rows, 1));
    return HSM_OK;
}

enum hsm_status
sks_catalogue_account_put(struct sks_catalogue *catalogue, const struct sks_account_owner *owner,
                          const struct sks_account_keys *keys)
{
    return acme_store_run(catalogue->store, NULL,
                          "INSERT OR REPLACE INTO account_key (spc, ca_directory, token_uri, label,"
                          " next) VALUES (?, ?, ?, ?, ?)",
                          "sssss", owner->spc, owner->ca_directory, owner->token_uri, keys->label,
                          keys->next);
}

enum hsm_status
sks_catalogue_accounts(struct sks_catalogue *catalogue, struct sks_account_row **out, size_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct sks_account_row *list;
    size_t n = 0;
    enum hsm_status st =
        acme_store_query(catalogue->store, &rows,
                         "SELECT spc, ca_directory, token_uri, label, next FROM account_key"
                         " ORDER BY spc, ca_directory, token_uri",
                         "");

    if (st != HSM_OK)
        return st;
    list = calloc(acme_rows_count(rows) + 1, sizeof(*list));
    if (list == NULL)
        return HSM_ERR_NOMEM;
    while (acme_rows_next(rows)) {
        struct sks_account_row *one = &list[n++];

        if (!sks_catalogue_column(rows, 0, &one->spc) ||
            !sks_catalogue_column(rows, 1, &one->ca_directory) ||
            !sks_catalogue_column(rows, 2, &one->token_uri)) {
            sks_account_rows_free(list, n);
            return HSM_ERR_NOMEM;
        }
        snprintf(one->keys.label, sizeof(one->keys.label), "%s", acme_rows_text(rows, 3));
        snprintf(one->keys.next, sizeof(one->keys.next), "%s", acme_rows_text(rows, 4));
    }
    *out = list;
    *count = n;
    return HSM_OK;
}

void
sks_account_rows_free(struct sks_account_row *rows, size_t count)
{
    if (rows == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        free(rows[i].spc);
        free(rows[i].ca_directory);
        free(rows[i].token_uri);
    }
    free(rows);
}

/* ---- notices ---- */

enum hsm_status
sks_catalogue_is_told(struct sks_catalogue *catalogue, int64_t id, bool *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(catalogue->store, &rows,
                                          "SELECT 1 FROM notice WHERE credential = ?", "i", id);

    if (st == HSM_OK)
        *out = acme_rows_count(rows) > 0;
    return st;
}

enum hsm_status
sks_catalogue_told(struct sks_catalogue *catalogue, int64_t id)
{
    return acme_store_run(catalogue->store, NULL,
                          "INSERT OR REPLACE INTO notice (credential) VALUES (?)", "i", id);
}

/* ---- orders ---- */

/* If the query fails, the order counts as recorded, so that no credential takes over an order that
 * belongs to another one. */
bool
sks_catalogue_has_order(struct sks_catalogue *catalogue, const char *order_url)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;

    return acme_store_query(catalogue->store, &rows,
                            "SELECT 1 FROM credential WHERE order_url = ? LIMIT 1", "s",
                            order_url) != HSM_OK ||
           acme_rows_count(rows) > 0;
}

/* ---- troubles ---- */

enum hsm_status
sks_catalogue_trouble_put(struct sks_catalogue *catalogue, const char *spc, const char *matter,
                          const char *text, time_t now)
{
    if (text == NULL)
        return acme_store_run(catalogue->store, NULL,
                              "DELETE FROM trouble WHERE spc = ? AND matter = ?", "ss", spc,
                              matter);
    return acme_store_run(catalogue->store, NULL,
                          "INSERT INTO trouble (spc, matter, text, since, last, count)"
                          " VALUES (?1, ?2, ?3, ?4, ?4, 1) ON CONFLICT (spc, matter) DO"
                          " UPDATE SET text = ?3, last = ?4, count = count + 1",
                          "sssi", spc, matter, text, (int64_t)now);
}

enum hsm_status
sks_catalogue_troubles(struct sks_catalogue *catalogue, struct sks_trouble **out, size_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct sks_trouble *list;
    size_t n = 0;
    enum hsm_status st = acme_store_query(
        catalogue->store, &rows,
        "SELECT spc, matter, text, since, last, count FROM trouble ORDER BY since, spc", "");

    if (st != HSM_OK)
        return st;
    list = calloc(acme_rows_count(rows) + 1, sizeof(*list));
    if (list == NULL)
        return HSM_ERR_NOMEM;
    while (acme_rows_next(rows)) {
        struct sks_trouble *one = &list[n++];

        one->since = (time_t)acme_rows_int(rows, 3);
        one->last = (time_t)acme_rows_int(rows, 4);
        one->count = acme_rows_int(rows, 5);
        if (!sks_catalogue_column(rows, 0, &one->spc) ||
            !sks_catalogue_column(rows, 1, &one->matter) ||
            !sks_catalogue_column(rows, 2, &one->text)) {
            sks_troubles_free(list, n);
            return HSM_ERR_NOMEM;
        }
    }
    *out = list;
    *count = n;
    return HSM_OK;
}

void
sks_troubles_free(struct sks_trouble *troubles, size_t count)
{
    if (troubles == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        free(troubles[i].spc);
        free(troubles[i].matter);
        free(troubles[i].text);
    }
    free(troubles);
}
