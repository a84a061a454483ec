/* server_operator.c - an operator of the STI-CA manages participants and accounts. */

#include "server_internal.h"

#include <ctype.h>
#include <string.h>

#include <acme/events.h>
#include <certs/tnauthlist.h>
#include <hsm/time.h>

#define LISTED_MAX 100000 /* accounts listed, the newest */

/* ---- participants ---- */

enum hsm_status
acme_server_participant_set(struct acme_store *store, const char *spc, const char *organization,
                            const char *country)
{
    struct certs_tnauthlist *list = NULL;
    char detail[ACME_ORGANIZATION_MAX + 8];
    enum hsm_status st = certs_tnauthlist_from_spc(spc, &list);

    if (st != HSM_OK)
        return st;
    certs_tnauthlist_free(list);
    if (organization[0] == '\0' || strlen(organization) > ACME_ORGANIZATION_MAX ||
        strlen(country) != 2 || !isupper((unsigned char)country[0]) ||
        !isupper((unsigned char)country[1]))
        return HSM_ERR_MALFORMED;
    st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, NULL,
                        "INSERT INTO participant (spc, organization, country) VALUES (?, ?, ?)"
                        " ON CONFLICT (spc) DO UPDATE SET organization = excluded.organization,"
                        " country = excluded.country",
                        "sss", spc, organization, country);
    snprintf(detail, sizeof(detail), "%s, %s", organization, country);
    return acme_event_commit(
        store, st,
        &(struct acme_event){
            .at = time(NULL), .what = "participant set", .subject = spc, .detail = detail});
}

/* Within a transaction. Open orders of the participant become invalid: they were placed under the
 * name that is removed. */
static enum hsm_status
remove_participant(struct acme_store *store, const char *spc)
{
    int64_t changes = 0;
    enum hsm_status st =
        acme_store_run(store, &changes, "DELETE FROM participant WHERE spc = ?", "s", spc);

    if (st == HSM_OK && changes == 0)
        return HSM_ERR_NOT_FOUND;
    if (st == HSM_OK) /* what is being signed is then not stored */
        st = acme_store_run(store, NULL,
                            "UPDATE issuance SET voided = 1 WHERE der IS NULL AND order_id IN"
                            " (SELECT id FROM acme_order WHERE spc = ? AND"
                            " status = '" ACME_PROCESSING "')",
                            "s", spc);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE spc = ? AND"
                            " status IN ('" ACME_PENDING "', '" ACME_READY "', '" ACME_PROCESSING
                            "')",
                            "s", spc);
    return st;
}

enum hsm_status
acme_server_participant_remove(struct acme_store *store, const char *spc)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    return acme_event_commit(
        store, remove_participant(store, spc),
        &(struct acme_event){.at = time(NULL), .what = "participant removed", .subject = spc});
}

enum hsm_status
acme_server_participants_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT spc, organization, country FROM participant ORDER BY spc", "");

    while (st == HSM_OK && acme_rows_next(rows))
        fprintf(to, "%s\t%s\t%s\n", acme_rows_text(rows, 0), acme_rows_text(rows, 1),
                acme_rows_text(rows, 2));
    return st;
}

/* ---- accounts ---- */

enum hsm_status
acme_account_end(struct acme_store *store, const char *account, const char *status)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(store, &changes,
                                        "UPDATE account SET status = ? WHERE id = ? AND"
                                        " status = '" ACME_VALID "'",
                                        "ss", status, account);

    if (st == HSM_OK && changes == 0)
        return HSM_ERR_NOT_FOUND;
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE authz SET status = '" ACME_DEACTIVATED "' WHERE account = ?"
                            " AND status IN ('" ACME_PENDING "', '" ACME_VALID "')",
                            "s", account);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE account = ?"
                            " AND status IN ('" ACME_PENDING "', '" ACME_READY "')",
                            "s", account);
    return st;
}

enum hsm_status
acme_server_account_revoke(struct acme_store *store, const char *account)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    return acme_event_commit(
        store, acme_account_end(store, account, ACME_REVOKED),
        &(struct acme_event){.at = time(NULL), .what = "account revoked", .subject = account});
}

enum hsm_status
acme_server_accounts_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    char created[HSM_TIME_LEN + 1];
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT id, status, created, contact, external_account FROM (SELECT * FROM account"
        " ORDER BY created DESC LIMIT ?) AS latest ORDER BY created",
        "i", (int64_t)LISTED_MAX);

    while (st == HSM_OK && acme_rows_next(rows)) {
        const char *external = acme_rows_text(rows, 4);

        hsm_time_format((time_t)acme_rows_int(rows, 2), created);
        fprintf(to, "%s\t%s\tsince %s\t%s%s%s\n", acme_rows_text(rows, 0), acme_rows_text(rows, 1),
                created, acme_rows_text(rows, 3), external != NULL ? "\texternal account " : "",
                external != NULL ? external : "");
    }
    return st;
}
