/* authority_revocations.c - an operator lists and decides revocation requests, and adds and drops
 * CRL entries. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/events.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/text.h>
#include <hsm/time.h>

#include "authority_revoke_internal.h"

#define LISTED_MAX 100000 /* requests listed, the newest */

/* "SERIAL of ISSUER" from two columns; free() it. */
static char *
certificate_text(const struct acme_rows *rows, size_t issuer, size_t serial)
{
    size_t issuer_len, serial_len;
    const uint8_t *issuer_der = acme_rows_blob(rows, issuer, &issuer_len);
    const uint8_t *octets = acme_rows_blob(rows, serial, &serial_len);

    return acme_authority_certificate_text(issuer_der, issuer_len, octets, serial_len);
}

static enum hsm_status
show_request(const struct acme_rows *rows, FILE *to)
{
    DEFER(free) char *certificate = certificate_text(rows, 2, 3);
    const char *state = acme_rows_text(rows, 1);
    char when[HSM_TIME_LEN + 1];

    if (certificate == NULL)
        return HSM_ERR_NOMEM;
    hsm_time_format((time_t)acme_rows_int(rows, 6), when);
    fprintf(to, "%" PRId64 "  %s  %s  %s  serial ", acme_rows_int(rows, 0), state, when,
            certs_crl_reason_text((int)acme_rows_int(rows, 4)));
    hsm_text_put(certificate, to);
    fprintf(to, "  asked by account %s: ", acme_rows_text(rows, 7));
    hsm_text_put(acme_rows_text(rows, 5), to);
    fputc('\n', to);
    return HSM_OK;
}

enum hsm_status
acme_authority_revocations_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT * FROM (SELECT id, state, issuer, serial, reason, requester, asked, account"
        " FROM revocation ORDER BY id DESC LIMIT ?) AS latest ORDER BY id",
        "i", (int64_t)LISTED_MAX);

    while (st == HSM_OK && acme_rows_next(rows))
        st = show_request(rows, to);
    return st;
}

/* ---- pending requests ---- */

static enum hsm_status
enter(struct acme_store *store, int64_t id, int64_t now)
{
    bool is_full = false;
    enum hsm_status st = acme_authority_entries_full(store, &is_full);

    if (st == HSM_OK && is_full) {
        hsm_log(HSM_LOG_ERROR, "the CRL is full: %d entries", ACME_AUTHORITY_REVOCATIONS_MAX);
        return HSM_ERR_UNSUPPORTED;
    }
    return st == HSM_OK ? acme_authority_entry_add(store, id, now) : st;
}

/* Within a transaction. The caller owns *certificate, also when the request is refused. */
static enum hsm_status
decide_by_hand(struct acme_store *store, int64_t id, bool approve, int64_t now, char **certificate)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const char *state;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT state, issuer, serial FROM revocation WHERE id = ?", "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    state = acme_rows_text(rows, 0);
    if (strcmp(state, AUTHORITY_STATE_QUEUED) != 0 &&
        !(approve && strcmp(state, AUTHORITY_STATE_REFUSED) == 0)) {
        hsm_log(HSM_LOG_ERROR, "revocation %" PRId64 ": is %s already", id, state);
        return HSM_ERR_USAGE;
    }
    *certificate = certificate_text(rows, 1, 2);
    if (approve)
        return enter(store, id, now);
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET state = '" AUTHORITY_STATE_REFUSED
                          "', decided = ? WHERE id = ?",
                          "ii", now, id);
}

enum hsm_status
acme_authority_revocation_decide(struct acme_store *store, int64_t id, bool approve, time_t now)
{
    DEFER(free) char *certificate = NULL;
    char subject[32];
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = decide_by_hand(store, id, approve, now, &certificate);
    snprintf(subject, sizeof(subject), "%" PRId64, id);
    return acme_event_commit(store, st,
                             &(struct acme_event){
                                 .at = now,
                                 .what = approve ? "revocation approved" : "revocation refused",
                                 .subject = subject,
                                 .detail = certificate,
                             });
}

/* ---- revoked without a request ---- */

/* Within a transaction. */
static enum hsm_status
add(struct acme_store *store, const struct authority_plea *plea, time_t now)
{
    struct authority_decision decision;
    enum hsm_status st = acme_authority_decide(store, plea, 0, now, &decision);

    if (st != HSM_OK)
        return st;
    if (decision.obstacle == AUTHORITY_CRL_FULL) {
        hsm_log(HSM_LOG_ERROR, "the CRL is full: %d entries", ACME_AUTHORITY_REVOCATIONS_MAX);
        return HSM_ERR_UNSUPPORTED;
    }
    return decision.is_changed ? HSM_OK : HSM_ERR_EXISTS;
}

enum hsm_status
acme_authority_revocation_add(struct acme_store *store, const X509 *cert, int reason, time_t now)
{
    char account[ACME_AUTHORITY_ID_MAX + 1] = "";
    CLEAR_AFTER(acme_authority_plea_clear)
    struct authority_plea plea = {.reason = reason,
                                  .requester = "the operator",
                                  .account = account,
                                  .asker = AUTHORITY_OPERATOR,
                                  .is_automatic = true};
    struct hsm_reason why = {""};
    enum hsm_status st = certs_crl_is_reason(reason) ? acme_authority_plea_take(cert, &plea, &why)
                                                     : HSM_ERR_MALFORMED;

    if (st == HSM_ERR_UNSUPPORTED)
        hsm_log(HSM_LOG_ERROR, "the certificate cannot be revoked: %s", why.text);
    if (st == HSM_OK)
        st = acme_authority_plea_adopt(store, &plea, account);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = add(store, &plea, now);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* ---- taken off the CRL ---- */

enum hsm_status
acme_authority_revocations_drop(struct acme_store *store, const char *account_id, int64_t first,
                                int64_t last, const char *reason, time_t now, int64_t *count)
{
    char subject[64], *detail = NULL;
    size_t len = 0;
    int64_t dropped = 0;
    FILE *to;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_entries_take_off(store, account_id, first, last, now, &dropped);
    snprintf(subject, sizeof(subject), "%" PRId64 " to %" PRId64, first, last);
    to = open_memstream(&detail, &len);
    if (to != NULL) {
        fprintf(to, "%" PRId64 " entries%s%s: %s", dropped,
                account_id != NULL ? " of account " : "", account_id != NULL ? account_id : "",
                reason);
        (void)fclose(to);
    }
    st = acme_event_commit(
        store, st == HSM_OK && detail == NULL ? HSM_ERR_NOMEM : st,
        &(struct acme_event){
            .at = now, .what = "revocations dropped", .subject = subject, .detail = detail});
    free(detail);
    if (st == HSM_OK)
        *count = dropped;
    return st;
}
