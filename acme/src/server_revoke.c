/*
 * server_revoke.c - revokeCert (RFC 8555 section 7.6), and forwarding revocations
 * to the STI-PA.
 *
 * A revocation is durable before the response. In SHAKEN it takes effect through
 * the STI-PA's CRL, so it is forwarded to the STI-PA, again and again until the
 * STI-PA has accepted it; a process that forwards one first records when the next
 * attempt may be made. Revocations that the STI-PA decided on its own are imported
 * from its CRL. The STI-PA may have withdrawn a revocation in the meantime, so a
 * repeated request is forwarded once more.
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/authority_client.h>
#include <acme/base64url.h>
#include <acme/events.h>
#include <acme/json.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <certs/tnauthlist.h>
#include <hsm/log.h>
#include <hsm/time.h>

#include "defer_internal.h"

#define OPERATOR           "operator" /* requester of revocations by the operator */
#define REASON_MAX         6 /* certificateHold: the last one that applies to end entities */
#define KEY_COMPROMISE     1 /* RFC 5280 section 5.3.1 */
#define AGAIN_PER_HOUR     1 /* repeated forwards of an accepted revocation */
#define FORWARDED_PER_TICK 16
#define FORWARD_FIRST_S    15 /* after a failed attempt; doubled ... */
#define FORWARD_LONGEST_S  300 /* ... up to this */
#define FORWARD_DOUBLINGS  5

/* ---- which certificate, and why ---- */

/* A certificate of this CA. Texts are borrowed from the row. */
struct issued {
    struct acme_rows *rows;
    const char *order_id, *account;
};

static bool
take_certificate(struct acme_call *call, const json_t *payload, X509 **out)
{
    struct hsm_reason why = {""};
    const char *text = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = acme_json_string(payload, "certificate", &text, &why);

    if (st == HSM_OK) {
        st = acme_base64url_decode(text, strlen(text), &der, &len);
        if (st == HSM_ERR_MALFORMED)
            (void)hsm_refuse(&why, st, "certificate: not base64url");
    }
    if (st == HSM_OK)
        st = certs_cert_parse_der(der, len, out, &why);
    free(der);
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else if (st != HSM_OK)
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    return st == HSM_OK;
}

/* RFC 5280 section 5.3.1; absent: unspecified (0). */
static bool
take_reason(struct acme_call *call, const json_t *payload, int *out)
{
    const json_t *reason = json_object_get(payload, "reason");

    *out = 0;
    if (reason == NULL)
        return true;
    if (!json_is_integer(reason)) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "reason: not an integer");
        return false;
    }
    if (json_integer_value(reason) < 0 || json_integer_value(reason) > REASON_MAX) {
        acme_call_refuse(call, ACME_BAD_REVOCATION_REASON, 400, "reason: 0 to %d are allowed",
                         REASON_MAX);
        return false;
    }
    *out = (int)json_integer_value(reason);
    return true;
}

/* HSM_ERR_NOT_FOUND: this CA has issued no certificate with this serial. */
static enum hsm_status
find_by_serial(struct acme_store *store, const uint8_t *serial, size_t len, struct issued *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows,
                                          "SELECT order_id, account, der, EXISTS (SELECT 1 FROM"
                                          " revocation WHERE revocation.order_id ="
                                          " issuance.order_id) FROM issuance WHERE serial = ? AND"
                                          " der IS NOT NULL",
                                          "b", serial, len);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    out->order_id = acme_rows_text(rows, 0);
    out->account = acme_rows_text(rows, 1);
    out->rows = rows;
    rows = NULL;
    return HSM_OK;
}

/* The stored certificate must equal this one octet for octet. */
static enum hsm_status
find_issued(struct acme_store *store, const X509 *cert, struct issued *out)
{
    struct issued found = {.rows = NULL};
    uint8_t serial[CERTS_SERIAL_MAX];
    size_t len = certs_cert_serial(cert, serial), stored_len;
    const uint8_t *stored;
    uint8_t *der = NULL;
    enum hsm_status st = find_by_serial(store, serial, len, &found);

    if (st == HSM_OK)
        st = certs_cert_der(cert, &der, &len);
    if (st == HSM_OK) {
        stored = acme_rows_blob(found.rows, 2, &stored_len);
        if (stored_len != len || memcmp(stored, der, len) != 0)
            st = HSM_ERR_NOT_FOUND;
    }
    free(der);
    if (st == HSM_OK)
        *out = found;
    else
        acme_rows_free(found.rows);
    return st;
}

/* ---- authorization ---- */

/* Whether the account has a valid authorization for the certificate's identifiers: one
 * TNAuthList. */
static enum hsm_status
is_authorized(struct acme_call *call, const X509 *cert, bool *out)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const uint8_t *der;
    size_t len;
    enum hsm_status st = certs_cert_tnauthlist(cert, &list, NULL);

    if (st != HSM_OK)
        return st;
    der = certs_tnauthlist_der(list, &len);
    st = acme_store_query(call->server->config.store, &rows,
                          "SELECT 1 FROM authz WHERE account = ? AND status = '" ACME_VALID "' AND"
                          " expires > ? AND tnauthlist = ? LIMIT 1",
                          "sib", call->account, (int64_t)call->now, der, len);
    if (st == HSM_OK)
        *out = acme_rows_next(rows);
    return st;
}

/* RFC 8555 section 7.6: allowed for the account it was issued to, an account with the
 * authorizations, or the certificate's own key. */
static bool
may_revoke(struct acme_call *call, const struct issued *issued, const X509 *cert)
{
    bool allowed = false;
    enum hsm_status st = HSM_OK;

    if (call->account[0] == '\0')
        allowed = EVP_PKEY_eq(certs_cert_public(cert), call->key) == 1;
    else if (strcmp(call->account, issued->account) == 0)
        allowed = true;
    else
        st = is_authorized(call, cert, &allowed);
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (!allowed)
        acme_call_refuse(
            call, ACME_UNAUTHORIZED, 403,
            "neither the certificate's account, nor one authorized for it, nor its key");
    return allowed;
}

/* ---- the revocation, durable ---- */

/* A revocation: what is revoked, for whom and from when. */
struct decision {
    const struct issued *issued;
    const X509 *cert;
    int reason;
    const char *requester;
    time_t revoked, now;
    bool is_known; /* the STI-PA has it already */
};

static enum hsm_status
insert_revocation(struct acme_store *store, const struct decision *decision)
{
    struct certs_crl_entry entry;
    uint8_t *issuer = NULL;
    size_t len = 0;
    enum hsm_status st = certs_crl_entry_of(decision->cert, &entry, NULL);

    if (st == HSM_OK)
        st = certs_name_der(entry.issuer, &issuer, &len);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "INSERT INTO revocation (order_id, issuer, serial, reason, requester,"
                            " revoked, next_try, accepted)"
                            " VALUES (?, ?, ?, ?, ?, ?, ?, NULLIF(?, 0))",
                            "sbbisiii", decision->issued->order_id, issuer, len, entry.serial,
                            entry.serial_len, (int64_t)decision->reason, decision->requester,
                            (int64_t)decision->revoked, (int64_t)decision->now,
                            decision->is_known ? (int64_t)decision->now : INT64_C(0));
    free(issuer);
    return st;
}

/* Within a transaction. */
static enum hsm_status
add_event(struct acme_store *store, const struct decision *decision, const char *what)
{
    const char *who = decision->requester, *why = certs_crl_reason_text(decision->reason);
    DEFER(free) char *serial = certs_cert_serial_hex(decision->cert);
    enum hsm_status st = serial != NULL ? HSM_OK : HSM_ERR_NOMEM;

    if (st == HSM_OK)
        st = acme_event_add(store, &(struct acme_event){
                                       .at = decision->now,
                                       .who = strcmp(who, OPERATOR) != 0 ? who : NULL,
                                       .what = what,
                                       .subject = serial,
                                       .detail = why,
                                   });
    if (st == HSM_OK) /* logged before the commit; if that fails, the next attempt logs it again */
        hsm_log(HSM_LOG_INFO, "%s: %s (%s) by %s", what, serial, why, who);
    return st;
}

/* Within a transaction. HSM_ERR_EXISTS: the certificate is revoked already. */
static enum hsm_status
insert_with_event(struct acme_store *store, const struct decision *decision)
{
    enum hsm_status st = insert_revocation(store, decision);

    return st == HSM_OK ? add_event(store, decision, "certificate revoked") : st;
}

/* HSM_ERR_EXISTS: the certificate is revoked already. */
static enum hsm_status
record(struct acme_store *store, const struct decision *decision)
{
    enum hsm_status st = acme_store_begin(store);

    return st == HSM_OK ? acme_store_end(store, insert_with_event(store, decision)) : st;
}

/* Within a transaction. That the key is compromised is news that was not forwarded yet, whatever
 * happened to the revocation before, and it comes once. */
static enum hsm_status
record_compromise(struct acme_store *store, const struct decision *decision, bool *recorded)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        store, &changes,
        "UPDATE revocation SET accepted = NULL, tries = 0, next_try = ?,"
        " requester = ?, reason = ? WHERE order_id = ? AND reason <> ?",
        "isisi", (int64_t)decision->now, decision->requester, (int64_t)KEY_COMPROMISE,
        decision->issued->order_id, (int64_t)KEY_COMPROMISE);

    *recorded = st == HSM_OK && changes == 1;
    return st;
}

/* Within a transaction, to be rolled back unless *asked. */
static enum hsm_status
forward_again(struct acme_store *store, const struct decision *decision, bool *asked)
{
    const char *order_id = decision->issued->order_id;
    unsigned per_hour = strcmp(decision->requester, OPERATOR) != 0 ? AGAIN_PER_HOUR : 0;
    int64_t changes = 0;
    time_t wait_s = 0;
    enum hsm_status st = HSM_OK;

    if (decision->reason == KEY_COMPROMISE)
        st = record_compromise(store, decision, asked);
    if (*asked)
        return add_event(store, decision, "revocation asked for again");
    if (st == HSM_OK)
        st = acme_store_run(store, &changes,
                            "UPDATE revocation SET accepted = NULL, tries = 0, next_try = ?,"
                            " requester = ?, reason = CASE WHEN reason = ? THEN reason ELSE ? END"
                            " WHERE order_id = ? AND accepted IS NOT NULL",
                            "isiis", (int64_t)decision->now, decision->requester,
                            (int64_t)KEY_COMPROMISE, (int64_t)decision->reason, order_id);
    if (st == HSM_OK && changes == 1)
        st =
            acme_limit_take(store, "revocations again", order_id, per_hour, decision->now, &wait_s);
    *asked = st == HSM_OK && changes == 1 && wait_s == 0;
    return *asked ? add_event(store, decision, "revocation asked for again") : st;
}

/* The STI-PA answers a repeated request like the first, unless it has dropped the revocation in
 * between: then it revokes again. A recorded keyCompromise is not replaced by another reason. Any
 * holder of the certificate's key may send the request, so forwarding is limited. */
static enum hsm_status
ask_again(struct acme_store *store, const struct decision *decision)
{
    bool asked = false;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = forward_again(store, decision, &asked);
    if (st == HSM_OK && asked)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* HSM_ERR_EXISTS: it was revoked before, and will be forwarded again. */
static enum hsm_status
record_or_ask_again(struct acme_store *store, const struct decision *decision)
{
    enum hsm_status st = record(store, decision), again;

    if (st != HSM_ERR_EXISTS)
        return st;
    again = ask_again(store, decision);
    return again == HSM_OK ? st : again;
}

static void
revoke(struct acme_call *call, const X509 *cert, int reason, const struct issued *issued)
{
    char requester[ACME_ID_LEN + 16] = "certificate key";
    enum hsm_status st;

    if (!may_revoke(call, issued, cert))
        return;
    if (certs_cert_not_after(cert) < call->now) { /* it need not be on a CRL any more */
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "the certificate has expired");
        return;
    }
    if (call->account[0] != '\0')
        snprintf(requester, sizeof(requester), "account %s", call->account);
    st = record_or_ask_again(call->server->config.store, &(struct decision){.issued = issued,
                                                                            .cert = cert,
                                                                            .reason = reason,
                                                                            .requester = requester,
                                                                            .revoked = call->now,
                                                                            .now = call->now});
    if (st == HSM_ERR_EXISTS) {
        acme_call_refuse(call, ACME_ALREADY_REVOKED, 400, "the certificate is revoked already");
        return;
    }
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    if (call->server->config.revocation_url == NULL)
        hsm_log(HSM_LOG_WARNING, "the revocation waits: no URL of the STI-PA is configured for it");
    acme_http_respond(call->response, 200, NULL, NULL, 0);
}

void
acme_revoke_cert(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    DEFER(X509_free) X509 *cert = NULL;
    struct issued issued = {.rows = NULL};
    int reason;
    enum hsm_status st;

    if (!acme_call_payload(call, &payload) || !take_certificate(call, payload, &cert) ||
        !take_reason(call, payload, &reason))
        return;
    st = find_issued(call->server->config.store, cert, &issued);
    if (st == HSM_OK)
        revoke(call, cert, reason, &issued);
    else if (st == HSM_ERR_NOT_FOUND)
        acme_call_refuse(call, ACME_MALFORMED, 404, "certificate: none of this CA");
    else
        acme_call_fault(call, st);
    acme_rows_free(issued.rows);
}

enum hsm_status
acme_server_revoke(struct acme_store *store, const char *serial, int reason, time_t now)
{
    DEFER(X509_free) X509 *cert = NULL;
    struct issued issued = {.rows = NULL};
    uint8_t octets[CERTS_SERIAL_MAX];
    const uint8_t *der;
    size_t len;
    enum hsm_status st;

    if (reason < 0 || reason > REASON_MAX ||
        certs_serial_parse(serial, octets, &len, NULL) != HSM_OK)
        return HSM_ERR_MALFORMED;
    st = find_by_serial(store, octets, len, &issued);
    if (st != HSM_OK)
        return st;
    der = acme_rows_blob(issued.rows, 2, &len);
    st = certs_cert_parse_der(der, len, &cert, NULL);
    if (st == HSM_OK)
        st = record_or_ask_again(store, &(struct decision){.issued = &issued,
                                                           .cert = cert,
                                                           .reason = reason,
                                                           .requester = OPERATOR,
                                                           .revoked = now,
                                                           .now = now});
    acme_rows_free(issued.rows);
    return st;
}

/* ---- for an STI-PA that has lost revocations ---- */

/* Including those imported from its CRL: it has lost them, too. */
static enum hsm_status
resend(struct acme_store *store, time_t since, time_t now, int64_t *count)
{
    char from[HSM_TIME_LEN + 1], detail[32];
    enum hsm_status st =
        acme_store_run(store, count,
                       "UPDATE revocation SET accepted = NULL, tries = 0, next_try = ? WHERE"
                       " accepted >= ? AND order_id IN (SELECT order_id FROM issuance WHERE"
                       " not_after > ?)",
                       "iii", (int64_t)now, (int64_t)since, (int64_t)now);

    if (st != HSM_OK)
        return st;
    hsm_time_format(since, from);
    snprintf(detail, sizeof(detail), "%lld", (long long)*count);
    return acme_event_add(
        store, &(struct acme_event){
                   .at = now, .what = "revocations sent again", .subject = from, .detail = detail});
}

enum hsm_status
acme_server_revocations_resend(struct acme_store *store, time_t since, time_t now, int64_t *count)
{
    int64_t sent = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st == HSM_OK)
        st = acme_store_end(store, resend(store, since, now, &sent));
    if (st == HSM_OK)
        *count = sent;
    return st;
}

/* ---- from the STI-PA ---- */

/* The certificate of an entry, unless its revocation is recorded; HSM_ERR_NOT_FOUND: it was not
 * issued by this CA. */
static enum hsm_status
find_unrevoked(struct acme_store *store, const struct certs_crl_entry *entry, struct issued *out,
               X509 **cert)
{
    DEFER(X509_free) X509 *found = NULL;
    struct issued issued = {.rows = NULL};
    const uint8_t *der;
    size_t len;
    enum hsm_status st = find_by_serial(store, entry->serial, entry->serial_len, &issued);

    if (st != HSM_OK)
        return st;
    der = acme_rows_blob(issued.rows, 2, &len);
    st = certs_cert_parse_der(der, len, &found, NULL);
    if (st == HSM_OK && (acme_rows_int(issued.rows, 3) != 0 ||
                         X509_NAME_cmp(X509_get_issuer_name(found), entry->issuer) != 0))
        st = HSM_ERR_NOT_FOUND;
    if (st != HSM_OK) {
        acme_rows_free(issued.rows);
        return st;
    }
    *out = issued;
    *cert = found;
    found = NULL;
    return HSM_OK;
}

enum hsm_status
acme_revocation_take(struct acme_store *store, const struct certs_crl_entry *entry, time_t now)
{
    DEFER(X509_free) X509 *cert = NULL;
    struct issued issued = {.rows = NULL};
    enum hsm_status st = find_unrevoked(store, entry, &issued, &cert);

    if (st != HSM_OK)
        return st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
    st = insert_with_event(
        store, &(struct decision){.issued = &issued,
                                  .cert = cert,
                                  .reason = entry->reason >= 0 ? entry->reason : 0,
                                  .requester = "STI-PA",
                                  .revoked = entry->revoked_at < now ? entry->revoked_at : now,
                                  .now = now,
                                  .is_known = true});
    acme_rows_free(issued.rows);
    return st;
}

/* ---- to the STI-PA ---- */

/* A revocation that the STI-PA has not accepted yet; borrowed from the row. */
struct waiting {
    struct acme_rows *rows;
    const char *order_id, *requester;
    const uint8_t *issuer, *serial;
    size_t issuer_len, serial_len;
    int reason;
    time_t not_after;
    int64_t tries;
};

/* HSM_ERR_NOT_FOUND: none is due, in the sense of acme_time_is_due(). */
static enum hsm_status
load_due(struct acme_server *server, time_t now, struct waiting *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(server->config.store, &rows,
                         "SELECT r.order_id, r.issuer, r.serial, r.reason, r.requester, r.tries,"
                         " i.not_after FROM revocation r"
                         " JOIN issuance i ON i.order_id = r.order_id WHERE accepted IS NULL AND "
                         "(next_try <= ? OR next_try > ?)"
                         " ORDER BY next_try LIMIT 1",
                         "ii", (int64_t)now, (int64_t)(now + FORWARD_LONGEST_S));

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    out->order_id = acme_rows_text(rows, 0);
    out->issuer = acme_rows_blob(rows, 1, &out->issuer_len);
    out->serial = acme_rows_blob(rows, 2, &out->serial_len);
    out->reason = (int)acme_rows_int(rows, 3);
    out->requester = acme_rows_text(rows, 4);
    out->tries = acme_rows_int(rows, 5);
    out->not_after = (time_t)acme_rows_int(rows, 6);
    out->rows = rows;
    rows = NULL;
    return HSM_OK;
}

/* Of several processes that find it, one tries at a time; the next attempt is due after the
 * pause. */
static enum hsm_status
claim(struct acme_server *server, const struct waiting *waiting, time_t now, bool *ours)
{
    int64_t pause = FORWARD_FIRST_S, changes = 0;
    enum hsm_status st;

    if (waiting->tries < FORWARD_DOUBLINGS)
        pause <<= waiting->tries;
    else
        pause = FORWARD_LONGEST_S;
    st = acme_store_run(server->config.store, &changes,
                        "UPDATE revocation SET tries = tries + 1, next_try = ? WHERE order_id = ?"
                        " AND tries = ? AND accepted IS NULL",
                        "isi", (int64_t)now + pause, waiting->order_id, waiting->tries);
    *ours = st == HSM_OK && changes == 1;
    return st;
}

/* A failure loses nothing: the STI-PA answers a repeated request like the first. */
static enum hsm_status
forward(struct acme_server *server, const struct waiting *waiting, time_t now)
{
    const struct acme_server_config *config = &server->config;
    struct hsm_reason why = {""};
    enum hsm_status st = acme_authority_request_revocation(
        &(struct acme_authority_revocation){
            .http = config->http,
            .url = config->revocation_url,
            .user = config->revocation_user,
            .password = config->revocation_password,
            .api_key = config->revocation_api_key,
            .issuer = waiting->issuer,
            .issuer_len = waiting->issuer_len,
            .serial = waiting->serial,
            .serial_len = waiting->serial_len,
            .reason = waiting->reason,
            .requester = waiting->requester,
            .not_after = waiting->not_after,
        },
        NULL, &why);

    /* The certificate has expired: the STI-PA refuses what no CRL has to list (RFC 5280 section
     * 3.3). */
    if (st == HSM_ERR_DENIED && waiting->not_after < now) {
        hsm_log(HSM_LOG_WARNING, "order %s: the certificate ended before the STI-PA knew: %s",
                waiting->order_id, why.text);
        st = HSM_OK;
    } else if (st == HSM_OK) {
        hsm_log(HSM_LOG_INFO, "order %s: the STI-PA has accepted the revocation",
                waiting->order_id);
    }
    if (st != HSM_OK) {
        hsm_log(st == HSM_ERR_BUSY ? HSM_LOG_WARNING : HSM_LOG_ERROR,
                "order %s: the STI-PA does not know of the revocation after %lld attempts: %s",
                waiting->order_id, (long long)waiting->tries + 1, why.text);
        return st;
    }
    return acme_store_run(config->store, NULL, /* unless the reason has changed meanwhile */
                          "UPDATE revocation SET accepted = ? WHERE order_id = ? AND reason = ?",
                          "isi", (int64_t)now, waiting->order_id, (int64_t)waiting->reason);
}

/* HSM_ERR_NOT_FOUND: none is due; HSM_ERR_BUSY: the STI-PA is unavailable. */
static enum hsm_status
forward_one(struct acme_server *server, time_t now)
{
    struct waiting waiting = {.rows = NULL};
    bool ours = false;
    enum hsm_status st = load_due(server, now, &waiting);

    if (st == HSM_OK)
        st = claim(server, &waiting, now, &ours);
    if (st == HSM_OK && ours)
        st = forward(server, &waiting, now);
    acme_rows_free(waiting.rows);
    return st;
}

void
acme_server_forward(struct acme_server *server)
{
    time_t now = acme_server_now(server);

    if (server->config.revocation_url == NULL)
        return;
    for (int i = 0; i < FORWARDED_PER_TICK; i++) {
        enum hsm_status st = forward_one(server, now);

        /* A refusal by the STI-PA does not block the others. Everything was logged. */
        if (st == HSM_ERR_NOT_FOUND || st == HSM_ERR_BUSY)
            return;
    }
}
