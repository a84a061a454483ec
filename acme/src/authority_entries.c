/*
 * authority_entries.c - the entries of the CRL, and how long each stays.
 *
 * An entry stays until it has been on a CRL issued after the certificate's end
 * (RFC 5280 section 3.3), and for the lifetime of one more CRL: a relying party
 * that fetches a CRL each time its own expires has seen the entry.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_internal.h"

#define DAY_S 86400

/* *out keeps its value when the query returns no row. */
static enum hsm_status
read_number(struct acme_store *store, const char *query, int64_t *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows, query, "");

    if (st == HSM_OK && acme_rows_next(rows))
        *out = acme_rows_int(rows, 0);
    return st;
}

enum hsm_status
acme_authority_entries_last(struct acme_store *store, int64_t *out)
{
    *out = 0;
    return read_number(store, "SELECT coalesce(max(entry), 0) FROM revocation", out);
}

enum hsm_status
acme_authority_entries_count(struct acme_store *store, int64_t *out)
{
    return read_number(
        store, "SELECT count(*) FROM revocation WHERE entry IS NOT NULL AND dropped IS NULL", out);
}

enum hsm_status
acme_authority_requests_queued(struct acme_store *store, int64_t *out)
{
    return read_number(store, "SELECT count(*) FROM revocation WHERE state = 'queued'", out);
}

enum hsm_status
acme_authority_requests_last(struct acme_store *store, int64_t *out)
{
    *out = 0;
    return read_number(store, "SELECT coalesce(max(id), 0) FROM revocation", out);
}

/* Entries are counted only when the last number shows that the bound can have been reached. */
enum hsm_status
acme_authority_entries_full(struct acme_store *store, bool *is_full)
{
    int64_t last = 0, count = 0;
    enum hsm_status st = acme_authority_entries_last(store, &last);

    if (st == HSM_OK && last >= ACME_AUTHORITY_REVOCATIONS_MAX)
        st = acme_authority_entries_count(store, &count);
    if (st == HSM_OK)
        *is_full = count >= ACME_AUTHORITY_REVOCATIONS_MAX;
    return st;
}

enum hsm_status
acme_authority_entry_add(struct acme_store *store, int64_t id, int64_t now)
{
    int64_t last = 0;
    enum hsm_status st = acme_authority_entries_last(store, &last);

    if (st != HSM_OK)
        return st;
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET decided = CASE WHEN state = 'revoked' THEN decided"
                          " ELSE ? END, state = 'revoked', entry = ?, outlived = NULL,"
                          " dropped = NULL WHERE id = ?",
                          "iii", now, last + 1, id);
}

/* The CRL's contents are identified by the number of its last entry: give this row a new number, so
 * that taking it off counts as a change. */
static enum hsm_status
number_anew(struct acme_store *store, int64_t id)
{
    int64_t last = 0;
    enum hsm_status st = acme_authority_entries_last(store, &last);

    if (st != HSM_OK)
        return st;
    return acme_store_run(store, NULL, "UPDATE revocation SET entry = ? WHERE id = ?", "ii",
                          last + 1, id);
}

enum hsm_status
acme_authority_entries_take_off(struct acme_store *store, const char *account, int64_t first,
                                int64_t last, int64_t now, int64_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "UPDATE revocation SET state = 'refused', decided = ?, dropped = ? WHERE entry IS NOT NULL"
        " AND dropped IS NULL AND id BETWEEN ? AND ? AND account = coalesce(?, account)"
        " AND by_operator <= ? RETURNING id",
        "iiiisi", now, now, first, last, account, (int64_t)(account == NULL));

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    *count = (int64_t)acme_rows_count(rows);
    return number_anew(store, acme_rows_int(rows, 0));
}

/* Earlier versions accepted any certificate from an operator. A row that no CRL can hold must not
 * keep the others off the CRL. */
static bool
has_serial_of_crl(const struct acme_rows *rows)
{
    size_t len;
    const uint8_t *serial = acme_rows_blob(rows, 1, &len);

    if (serial != NULL && len > 0 && len <= CERTS_SERIAL_MAX && (serial[0] & 0x80) == 0)
        return true;
    hsm_log(HSM_LOG_ERROR,
            "STI-PA: revocation %" PRId64 " is left out of the CRL: its serial number is none of"
            " RFC 5280 section 4.1.2.2, so that no CRL can have it",
            acme_rows_int(rows, 5));
    return false;
}

/* The serial number has passed has_serial_of_crl(). */
static enum hsm_status
read_entry(const struct acme_rows *rows, struct certs_crl_entry *out)
{
    X509_NAME *issuer = NULL;
    size_t len;
    const uint8_t *octets = acme_rows_blob(rows, 0, &len);

    if (certs_name_parse(octets, len, &issuer) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: an issuer in the store is not readable");
        return HSM_ERR_IO;
    }
    out->issuer = issuer;
    octets = acme_rows_blob(rows, 1, &len);
    memcpy(out->serial, octets, len);
    out->serial_len = len;
    out->reason = (int)acme_rows_int(rows, 2);
    out->revoked_at = (time_t)acme_rows_int(rows, 3);
    return HSM_OK;
}

/* Drop the entries whose last CRL has expired. */
static enum hsm_status
drop(struct acme_authority *authority)
{
    int64_t now = acme_authority_now(authority), dropped = 0;
    enum hsm_status st =
        acme_store_run(authority->config.store, &dropped,
                       "UPDATE revocation SET dropped = ? WHERE dropped IS NULL AND outlived <= ?",
                       "ii", now, now - (int64_t)authority->config.crl_lifetime_s);

    if (st == HSM_OK && dropped > 0)
        hsm_log(HSM_LOG_INFO,
                "STI-PA: %" PRId64 " entries of certificates that have ended are left"
                " out of the CRL from now on",
                dropped);
    return st;
}

/* Ordered by issuer: the CRL names it once for all its entries. */
enum hsm_status
acme_authority_entries_read(struct acme_authority *authority, struct authority_entries *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct authority_entries entries = {.count = 0};
    enum hsm_status st = drop(authority);

    if (st == HSM_OK)
        st = acme_store_query(authority->config.store, &rows,
                              "SELECT issuer, serial, reason, decided, entry, id FROM revocation"
                              " WHERE entry IS NOT NULL AND dropped IS NULL ORDER BY issuer, entry",
                              "");
    if (st != HSM_OK)
        return st;
    entries.entries = calloc(acme_rows_count(rows) + 1, sizeof(*entries.entries));
    if (entries.entries == NULL)
        return HSM_ERR_NOMEM;
    while (st == HSM_OK && acme_rows_next(rows)) {
        if (has_serial_of_crl(rows))
            st = read_entry(rows, &entries.entries[entries.count++]);
        if (acme_rows_int(rows, 4) > entries.last)
            entries.last = acme_rows_int(rows, 4);
    }
    if (st != HSM_OK) {
        acme_authority_entries_clear(&entries);
        return st;
    }
    *out = entries;
    return HSM_OK;
}

enum hsm_status
acme_authority_entries_outlive(struct acme_authority *authority, int64_t last, time_t this_update)
{
    unsigned days = authority->config.entry_days;

    return acme_store_run(authority->config.store, NULL,
                          "UPDATE revocation SET outlived = ? WHERE entry <= ? AND outlived IS NULL"
                          " AND dropped IS NULL AND coalesce(not_after, decided + ?) < ?",
                          "iiii", (int64_t)acme_authority_now(authority), last,
                          (int64_t)(days > 0 ? days : ACME_AUTHORITY_ENTRY_DAYS) * DAY_S,
                          (int64_t)this_update);
}

void
acme_authority_entries_clear(struct authority_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        X509_NAME_free((X509_NAME *)entries->entries[i].issuer);
    free(entries->entries);
    *entries = (struct authority_entries){.count = 0};
}
