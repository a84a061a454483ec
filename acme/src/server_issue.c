/*
 * server_issue.c - from intent to certificate.
 *
 * The contents of a certificate are durable before the token signs them, and the
 * certificate is durable before it is announced. An intent determines the octets
 * that are signed, so signing again after a crash makes the same certificate and not
 * a second one with its serial. When the issuer or the profile has changed
 * permanently in between, the intent becomes void and its serial is not used.
 */
#define _GNU_SOURCE /* asprintf */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <acme/json.h>
#include <certs/cert.h>
#include <certs/tnauthlist.h>
#include <hsm/es256.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/use.h>

#include "defer_internal.h"

#define FOREIGN_KEPT_S 300 /* an intent under another configuration is kept this long */

/* ---- the intent ---- */

void
acme_issue_validity(const struct acme_server *server, time_t now, time_t token_exp,
                    time_t *not_before, time_t *not_after)
{
    time_t limit = certs_chain_not_after(server->config.issuing_chain);

    if (server->config.within_token && token_exp < limit)
        limit = token_exp;
    if (*not_before == 0)
        *not_before = now - server->config.backdate_s;
    if (*not_after != 0)
        return;
    *not_after = now + (time_t)server->config.valid_days * ACME_DAY_S;
    if (*not_after > limit)
        *not_after = limit;
}

void
acme_issue_draw_serial(const struct acme_server *server, struct acme_serial *out)
{
    if (certs_serial_new(server->config.token, out->octets, &out->len) != HSM_OK)
        out->len = 0;
}

enum hsm_status
acme_issue_record(struct acme_server *server, const struct acme_intent *intent, time_t now)
{
    const struct acme_serial *serial = intent->serial;
    uint8_t point[HSM_P256_POINT_LEN];
    char certificate[ACME_ID_LEN + 1];
    time_t not_before = intent->not_before, not_after = intent->not_after;
    enum hsm_status st = hsm_p256_point(intent->public_key, point);

    if (st == HSM_OK)
        st = acme_id_new(certificate);
    if (st != HSM_OK)
        return st;
    acme_issue_validity(server, now, intent->token_exp, &not_before, &not_after);
    return acme_store_run(server->config.store, NULL,
                          "INSERT INTO issuance (order_id, certificate, account, spc, organization,"
                          " country, point, thumbprint, serial, not_before, not_after, under,"
                          " attempted, recorded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          "ssssssbsbiisii", intent->order_id, certificate, intent->account,
                          intent->spc, intent->organization, intent->country, point, sizeof(point),
                          intent->thumbprint, serial->len > 0 ? serial->octets : NULL, serial->len,
                          (int64_t)not_before, (int64_t)not_after, server->under, (int64_t)now,
                          (int64_t)now);
}

/* An intent as stored; borrowed from the row. */
struct issuance {
    struct acme_rows *rows;
    const char *order_id, *spc, *organization, *country, *under, *account, *thumbprint;
    const uint8_t *point, *serial; /* serial NULL: not yet assigned */
    size_t point_len, serial_len;
    time_t not_before, not_after, expires;
    time_t attempted, recorded;
};

/* HSM_ERR_NOT_FOUND: nothing is left to do. */
static enum hsm_status
load_issuance(struct acme_server *server, const char *order_id, struct issuance *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        server->config.store, &rows,
        "SELECT order_id, issuance.spc, organization, country, under, point, serial,"
        " issuance.not_before, issuance.not_after, attempted, acme_order.expires,"
        " acme_order.account, recorded, thumbprint FROM issuance"
        " JOIN acme_order ON acme_order.id = order_id WHERE order_id = ? AND der IS NULL AND"
        " voided = 0",
        "s", order_id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    out->order_id = acme_rows_text(rows, 0);
    out->spc = acme_rows_text(rows, 1);
    out->organization = acme_rows_text(rows, 2);
    out->country = acme_rows_text(rows, 3);
    out->under = acme_rows_text(rows, 4);
    out->point = acme_rows_blob(rows, 5, &out->point_len);
    out->serial = acme_rows_blob(rows, 6, &out->serial_len);
    out->not_before = (time_t)acme_rows_int(rows, 7);
    out->not_after = (time_t)acme_rows_int(rows, 8);
    out->attempted = (time_t)acme_rows_int(rows, 9);
    out->expires = (time_t)acme_rows_int(rows, 10);
    out->account = acme_rows_text(rows, 11);
    out->recorded = (time_t)acme_rows_int(rows, 12);
    out->thumbprint = acme_rows_text(rows, 13);
    out->rows = rows;
    rows = NULL;
    return HSM_OK;
}

/* Of the threads and processes that find an intent, one tries it at a time. A time of the last
 * attempt in the future was written before the clock was set back. */
static enum hsm_status
claim(struct acme_server *server, const struct issuance *issuance, time_t now, bool *ours)
{
    int64_t changes = 0;
    enum hsm_status st = HSM_OK;

    if (issuance->attempted <= now - ACME_RETRY_S || issuance->attempted > now + ACME_CLOCK_SKEW_S)
        st = acme_store_run(server->config.store, &changes,
                            "UPDATE issuance SET attempted = ? WHERE order_id = ? AND"
                            " attempted = ? AND der IS NULL AND voided = 0",
                            "isi", (int64_t)now, issuance->order_id, (int64_t)issuance->attempted);
    if (st == HSM_OK)
        *ours = changes == 1;
    return st;
}

/* ---- signing ---- */

/* Assign a serial that the token could not generate when the intent was recorded. Durable before it
 * is used. */
static enum hsm_status
assign_serial(struct acme_server *server, struct issuance *issuance)
{
    DEFER(acme_rows_free) struct acme_rows *old = NULL;
    struct acme_serial serial;
    enum hsm_status st;

    acme_issue_draw_serial(server, &serial);
    if (serial.len == 0)
        return HSM_ERR_BUSY;
    st = acme_store_run(server->config.store, NULL,
                        "UPDATE issuance SET serial = ? WHERE order_id = ? AND serial IS NULL",
                        "bs", serial.octets, serial.len, issuance->order_id);
    if (st != HSM_OK)
        return st;
    old = issuance->rows;
    issuance->rows = NULL; /* load_issuance() may fail */
    return load_issuance(server, issuance->order_id, issuance);
}

static enum hsm_status
sign(struct acme_server *server, const struct issuance *issuance, uint8_t **out, size_t *len,
     struct hsm_reason *why)
{
    const struct acme_server_config *config = &server->config;
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *tnauthlist = NULL;
    DEFER(EVP_PKEY_free) EVP_PKEY *public_key = NULL;
    char common_name[CERTS_SPC_MAX + 8];
    struct certs_issue_request request = {
        .profile = CERTS_PROFILE_STI_END_ENTITY,
        .subject = {.country = issuance->country,
                    .organization = issuance->organization,
                    .common_name = common_name},
        .serial_len = issuance->serial_len,
        .not_before = issuance->not_before,
        .not_after = issuance->not_after,
        .policy_oid = config->policy_oid,
        .crl_url = config->crl_url,
        .crl_issuer = config->crl_issuer,
    };
    enum hsm_status st = certs_tnauthlist_from_spc(issuance->spc, &tnauthlist);
    HSM_USE_ASKED_BY(issuance->account);

    if (st == HSM_OK)
        st = hsm_p256_from_point(issuance->point, issuance->point_len, &public_key);
    if (st != HSM_OK)
        return st;
    snprintf(common_name, sizeof(common_name), "SHAKEN %s", issuance->spc);
    memcpy(request.serial, issuance->serial, issuance->serial_len);
    request.tnauthlist = tnauthlist;
    request.public_key = public_key;
    return certs_issue_der(&request, certs_chain_get(config->issuing_chain, 0), config->issuing_key,
                           out, len, why);
}

/* ---- the outcome, durable ---- */

static enum hsm_status
pem_chain(const struct acme_server *server, const uint8_t *der, size_t len, char **out)
{
    DEFER(free) char *leaf = NULL;
    enum hsm_status st = certs_cert_pem_of_der(der, len, &leaf);

    if (st != HSM_OK)
        return st;
    return asprintf(out, "%s%s", leaf, server->intermediates_pem) < 0 ? HSM_ERR_NOMEM : HSM_OK;
}

struct issued {
    const struct issuance *issuance;
    const uint8_t *der;
    size_t len;
    const char *chain;
    bool is_first; /* outcome of the intent */
};

/* Within a transaction; an intent has one outcome, and a second one changes nothing. */
static enum hsm_status
write_certificate(struct acme_store *store, void *context)
{
    struct issued *issued = context;
    const struct issuance *issuance = issued->issuance;
    int64_t changes = 0;
    enum hsm_status st =
        acme_store_run(store, &changes,
                       "UPDATE issuance SET der = ?, chain = ? WHERE order_id = ?"
                       " AND der IS NULL AND voided = 0",
                       "bss", issued->der, issued->len, issued->chain, issuance->order_id);

    if (st == HSM_OK && changes == 1)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_VALID "' WHERE id = ? AND"
                            " status = '" ACME_PROCESSING "'",
                            "s", issuance->order_id);
    issued->is_first = changes == 1;
    return st;
}

static void
log_issued(const struct issuance *issuance)
{
    size_t len = issuance->serial_len < CERTS_SERIAL_MAX ? issuance->serial_len : CERTS_SERIAL_MAX;
    char serial[HSM_HEX_LEN(CERTS_SERIAL_MAX) + 1];

    hsm_hex_put(issuance->serial, len, serial);
    hsm_log(HSM_LOG_INFO, "order %s: certificate %s issued for SPC %s", issuance->order_id, serial,
            issuance->spc);
}

static enum hsm_status
store_certificate(struct acme_server *server, const struct issuance *issuance, const uint8_t *der,
                  size_t len)
{
    struct issued issued = {.issuance = issuance, .der = der, .len = len};
    DEFER(free) char *chain = NULL;
    enum hsm_status st = pem_chain(server, der, len, &chain);

    issued.chain = chain;
    if (st == HSM_OK)
        st = acme_store_together(server->config.store, write_certificate, &issued);
    if (st != HSM_OK) {
        acme_server_count_issuance(server, ACME_PUT_OFF);
    } else if (issued.is_first) {
        acme_server_count_issuance(server, ACME_ISSUED);
        log_issued(issuance);
    }
    return st;
}

static enum hsm_status
write_void(struct acme_store *store, const struct issuance *issuance, const char *problem)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        store, &changes,
        "UPDATE issuance SET voided = 1 WHERE order_id = ? AND der IS NULL AND voided = 0", "s",
        issuance->order_id);

    if (st == HSM_OK && changes == 1)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_INVALID "', error = ? WHERE"
                            " id = ? AND status = '" ACME_PROCESSING "'",
                            "ss", problem, issuance->order_id);
    return st;
}

/* What the error of a void order says. */
struct objection {
    enum acme_error error;
    int http_status;
    const char *detail;
};

static const struct objection not_issued = {
    ACME_SERVER_INTERNAL, 500, "the certificate could not be issued: place a new order"};
static const struct objection account_ended = {ACME_UNAUTHORIZED, 403,
                                               "its account was deactivated or revoked"};
static const struct objection key_refused = {
    ACME_BAD_CSR, 400, "CSR: its key was revoked as compromised, or is another account's"};

/* The serial stays with the void intent. */
static enum hsm_status
void_issuance(struct acme_server *server, const struct issuance *issuance,
              const struct objection *objection, const char *why)
{
    struct acme_store *store = server->config.store;
    DEFER(json_decref)
    json_t *problem = acme_problem_new(objection->error, objection->http_status, objection->detail);
    DEFER(free) char *text = acme_json_text(problem);
    enum hsm_status st;

    hsm_log(objection == &not_issued ? HSM_LOG_ERROR : HSM_LOG_INFO, "order %s: void: %s",
            issuance->order_id, why);
    acme_server_count_issuance(server, ACME_GIVEN_UP);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = write_void(store, issuance, text);
    return acme_store_end(store, st);
}

/* ---- completing ---- */

/* True if a retry cannot succeed: the request violates its profile, or the issuer cannot cover it.
 * These refusals have a reason. The token has the same statuses without one, which may pass:
 * another key has the issuing key's place, or the token is being closed. */
static bool
is_final(enum hsm_status st, const struct hsm_reason *why)
{
    return (st == HSM_ERR_USAGE || st == HSM_ERR_UNTRUSTED) && why->text[0] != '\0';
}

/* RFC 8555 section 7.3.6: what a deactivated account has asked for is cancelled. */
static enum hsm_status
check_account(struct acme_server *server, const struct issuance *issuance,
              const struct objection **objection)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st;

    if (strcmp(issuance->account, ACME_WEB_MANUAL) == 0)
        return HSM_OK;
    st = acme_store_query(server->config.store, &rows,
                          "SELECT 1 FROM account WHERE id = ? AND status = '" ACME_VALID "'", "s",
                          issuance->account);
    if (st == HSM_OK && !acme_rows_next(rows))
        *objection = &account_ended;
    return st;
}

/* What would refuse the order now may have happened while it waited for the token. */
static enum hsm_status
check_again(struct acme_server *server, const struct issuance *issuance,
            const struct objection **objection)
{
    enum hsm_status st = check_account(server, issuance, objection);

    if (st != HSM_OK || *objection != NULL)
        return st;
    st = acme_csr_key_check(server, issuance->account, true, issuance->thumbprint);
    if (st != HSM_ERR_EXISTS)
        return st;
    *objection = &key_refused;
    return HSM_OK;
}

static enum hsm_status
carry_out(struct acme_server *server, struct issuance *issuance, time_t now)
{
    const struct objection *objection = NULL;
    DEFER(free) char *der = NULL;
    uint8_t *octets = NULL;
    size_t len = 0;
    struct hsm_reason why = {""};
    enum hsm_status st = HSM_OK;

    if (strcmp(issuance->under, server->under) != 0)
        return void_issuance(server, issuance, &not_issued,
                             "the issuer or the profile has changed");
    if (issuance->expires <= now)
        return void_issuance(server, issuance, &not_issued, "the order has expired");
    if (issuance->recorded != now)
        st = check_again(server, issuance, &objection);
    if (objection != NULL)
        return void_issuance(server, issuance, objection, objection->detail);
    if (st == HSM_OK && issuance->serial == NULL)
        st = assign_serial(server, issuance);
    if (st != HSM_OK)
        return st;
    st = sign(server, issuance, &octets, &len, &why);
    der = (char *)octets;
    if (is_final(st, &why))
        return void_issuance(server, issuance, &not_issued, why.text);
    if (st != HSM_OK) {
        acme_server_count_issuance(server, ACME_PUT_OFF);
        return HSM_ERR_BUSY; /* any other error may be transient: the token may sign later */
    }
    return store_certificate(server, issuance, octets, len);
}

/* An intent recorded under another configuration is left to an instance that has this
 * configuration, as long as there may be one: instances are reconfigured one after another. */
static bool
is_for_others(const struct acme_server *server, const struct issuance *issuance, time_t now)
{
    return strcmp(issuance->under, server->under) != 0 &&
           issuance->recorded > now - FOREIGN_KEPT_S &&
           issuance->recorded <= now + ACME_CLOCK_SKEW_S;
}

enum hsm_status
acme_issue_complete(struct acme_server *server, const char *order_id, bool first, time_t now)
{
    struct issuance issuance = {.rows = NULL};
    bool ours = first;
    enum hsm_status st = load_issuance(server, order_id, &issuance);

    if (st == HSM_OK && !first && !is_for_others(server, &issuance, now))
        st = claim(server, &issuance, now, &ours);
    if (st == HSM_OK && ours)
        st = carry_out(server, &issuance, now);
    acme_rows_free(issuance.rows);
    return st == HSM_ERR_NOT_FOUND ? HSM_OK : st; /* done already, perhaps by another process */
}

enum hsm_status
acme_issue_resume(struct acme_server *server, bool first, int64_t limit, time_t now)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        server->config.store, &rows,
        "SELECT order_id FROM issuance JOIN acme_order ON acme_order.id = order_id WHERE"
        " status = '" ACME_PROCESSING "' AND (? = 1 OR under = ? OR recorded <= ? OR recorded > ?)"
        " ORDER BY attempted LIMIT ?", /* as in is_for_others() */
        "isiii", (int64_t)first, server->under, (int64_t)(now - FOREIGN_KEPT_S),
        (int64_t)(now + ACME_CLOCK_SKEW_S), limit);

    while (st == HSM_OK && acme_rows_next(rows))
        st = acme_issue_complete(server, acme_rows_text(rows, 0), first, now);
    return st;
}
