/* server_order.c - orders and authorizations (RFC 8555 sections 7.4, 7.5; RFC 9448 section 3). */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/tnauthlist.h>
#include <hsm/log.h>

#define IDENTIFIER_TYPE "TNAuthList"

/* ---- newOrder ---- */

/* What a newOrder asks for. */
struct wanted {
    const char *identifier; /* borrowed from the payload */
    struct certs_tnauthlist *tnauthlist;
    const char *spc; /* borrowed from the list */
    time_t not_before, not_after;
    char order[ACME_ID_LEN + 1], authz[ACME_ID_LEN + 1], challenge[ACME_ID_LEN + 1];
    char token[ACME_ID_LEN + 1];
};

/* Identifiers of a type that is not ours come before everything else: a client of the web's CAs is
 * told so. */
static bool
has_our_types(struct acme_call *call, const json_t *identifiers)
{
    for (size_t i = 0; i < json_array_size(identifiers); i++) {
        const char *type = NULL;
        struct hsm_reason why = {""};

        if (acme_json_string(json_array_get(identifiers, i), "type", &type, &why) != HSM_OK) {
            acme_call_refuse(call, ACME_MALFORMED, 400, "identifier: %s", why.text);
            return false;
        }
        if (strcmp(type, IDENTIFIER_TYPE) != 0) {
            acme_call_refuse(call, ACME_UNSUPPORTED_IDENTIFIER, 403,
                             "identifier type %s: only " IDENTIFIER_TYPE " is supported", type);
            return false;
        }
    }
    return true;
}

static bool
take_identifier(struct acme_call *call, const json_t *payload, struct wanted *wanted)
{
    json_t *identifiers = NULL;
    struct hsm_reason why = {""};

    if (acme_json_array(payload, "identifiers", &identifiers, &why) != HSM_OK ||
        json_array_size(identifiers) == 0) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "identifiers: %s",
                         why.text[0] != '\0' ? why.text : "empty");
        return false;
    }
    if (!has_our_types(call, identifiers))
        return false;
    if (json_array_size(identifiers) != 1) {
        acme_call_refuse(call, ACME_REJECTED_IDENTIFIER, 403,
                         "an order is for one " IDENTIFIER_TYPE);
        return false;
    }
    if (acme_json_string(json_array_get(identifiers, 0), "value", &wanted->identifier, &why) !=
        HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "identifier: %s", why.text);
        return false;
    }
    return true;
}

/* Both alphabets of base64 are in use; the DER counts, and the client's own text is given back. */
static bool
decode_identifier(struct acme_call *call, struct wanted *wanted)
{
    struct hsm_reason why = {""};
    size_t text_len = strlen(wanted->identifier), len = 0;
    uint8_t *der = NULL;
    enum hsm_status st = HSM_ERR_MALFORMED;

    if (text_len <= ACME_IDENTIFIER_MAX)
        st = acme_base64_decode_any(wanted->identifier, text_len, &der, &len);
    if (st == HSM_OK)
        st = certs_tnauthlist_parse(der, len, &wanted->tnauthlist, &why);
    free(der);
    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_MALFORMED, 400, "identifier: %s",
                         why.text[0] != '\0' ? why.text : "not base64 of a short " IDENTIFIER_TYPE);
    return false;
}

static bool
is_participant(struct acme_call *call, const char *spc, bool *known)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(call->server->config.store, &rows,
                                          "SELECT 1 FROM participant WHERE spc = ?", "s", spc);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    *known = acme_rows_next(rows);
    return true;
}

/* ATIS-1000080 section 6.4.1: exactly one SPC, [A-Z0-9]+, and nothing else. */
static bool
accepts_spc(struct acme_call *call, struct wanted *wanted)
{
    bool known = true;

    wanted->spc = certs_tnauthlist_spc(wanted->tnauthlist);
    if (wanted->spc == NULL ||
        wanted->spc[strspn(wanted->spc, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")] != '\0') {
        acme_call_refuse(call, ACME_REJECTED_IDENTIFIER, 403,
                         "a SHAKEN certificate is for exactly one SPC of [A-Z0-9]");
        return false;
    }
    if (!is_participant(call, wanted->spc, &known))
        return false;
    if (!known && call->server->config.participants_required) {
        acme_call_refuse(call, ACME_REJECTED_IDENTIFIER, 403,
                         "SPC %s is not registered with this CA", wanted->spc);
        return false;
    }
    return true;
}

static bool
take_time(struct acme_call *call, const json_t *payload, const char *name, time_t *out)
{
    struct hsm_reason why = {""};
    const char *text = NULL;
    enum hsm_status st = acme_json_string_optional(payload, name, &text, &why);

    if (st == HSM_OK && text != NULL && acme_time_parse(text, out) != HSM_OK)
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "%s: not RFC 3339", name);
    if (st == HSM_OK)
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    return false;
}

/* notBefore and notAfter are kept as asked for, or refused: RFC 8555 section 7.4 knows no third. */
static bool
take_validity(struct acme_call *call, const json_t *payload, struct wanted *wanted)
{
    const struct acme_server_config *config = &call->server->config;
    time_t earliest = call->now - config->backdate_s;
    time_t latest = call->now + (time_t)config->valid_days * ACME_DAY_S;

    if (!take_time(call, payload, "notBefore", &wanted->not_before) ||
        !take_time(call, payload, "notAfter", &wanted->not_after))
        return false;
    if ((wanted->not_before != 0 && wanted->not_before < earliest) ||
        (wanted->not_after != 0 && (wanted->not_after > latest || wanted->not_after <= call->now ||
                                    wanted->not_after <= wanted->not_before)) ||
        wanted->not_before >= latest) {
        acme_call_refuse(
            call, ACME_MALFORMED, 400,
            "notBefore, notAfter: not within the %u days from now that this CA issues for",
            config->valid_days);
        return false;
    }
    return true;
}

static bool
has_room(struct acme_call *call)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT count(*) FROM acme_order WHERE account = ? AND status IN ('" ACME_PENDING
        "', '" ACME_READY "', '" ACME_PROCESSING "')",
        "s", call->account);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (acme_rows_next(rows) && acme_rows_int(rows, 0) < ACME_ORDERS_OPEN_MAX)
        return true;
    acme_http_response_header(call->response, "Retry-After", "3600");
    acme_call_refuse(call, ACME_RATE_LIMITED, 429, "this account has %d open orders",
                     ACME_ORDERS_OPEN_MAX);
    return false;
}

/* ---- storing it ---- */

static enum hsm_status
insert_authz(struct acme_call *call, const struct wanted *wanted, int64_t expires)
{
    struct acme_store *store = call->server->config.store;
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(wanted->tnauthlist, &len);
    enum hsm_status st =
        acme_store_run(store, NULL,
                       "INSERT INTO authz (id, account, status, identifier, tnauthlist, expires)"
                       " VALUES (?, ?, ?, ?, ?, ?)",
                       "ssssbi", wanted->authz, call->account, ACME_PENDING, wanted->identifier,
                       der, len, expires);

    if (st != HSM_OK)
        return st;
    return acme_store_run(store, NULL,
                          "INSERT INTO challenge (id, authz, status, token) VALUES (?, ?, ?, ?)",
                          "ssss", wanted->challenge, wanted->authz, ACME_PENDING, wanted->token);
}

static enum hsm_status
insert_order(struct acme_call *call, const struct wanted *wanted)
{
    int64_t expires = call->now + ACME_ORDER_LIFETIME_S;
    enum hsm_status st = insert_authz(call, wanted, expires);

    if (st != HSM_OK)
        return st;
    return acme_store_run(call->server->config.store, NULL,
                          "INSERT INTO acme_order (id, account, authz, status, spc, not_before,"
                          " not_after, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          "sssssiiii", wanted->order, call->account, wanted->authz, ACME_PENDING,
                          wanted->spc, (int64_t)wanted->not_before, (int64_t)wanted->not_after,
                          (int64_t)call->now, expires);
}

static enum hsm_status
store_order(struct acme_call *call, struct wanted *wanted)
{
    struct acme_store *store = call->server->config.store;
    enum hsm_status st = acme_id_new(wanted->order);

    if (st == HSM_OK)
        st = acme_id_new(wanted->authz);
    if (st == HSM_OK)
        st = acme_id_new(wanted->challenge);
    if (st == HSM_OK)
        st = acme_id_new(wanted->token);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = insert_order(call, wanted);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

static void
respond_new_order(struct acme_call *call, const struct wanted *wanted)
{
    struct acme_order order = {
        .id = wanted->order,
        .status = ACME_PENDING,
        .authz = wanted->authz,
        .identifier = wanted->identifier,
        .expires = call->now + ACME_ORDER_LIFETIME_S,
        .not_before = wanted->not_before,
        .not_after = wanted->not_after,
    };

    hsm_log(HSM_LOG_INFO, "order %s: SPC %s, account %s", wanted->order, wanted->spc,
            call->account);
    acme_order_respond(call, 201, &order);
}

void
acme_new_order(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct wanted wanted = {.identifier = NULL};
    enum hsm_status st;

    if (acme_call_payload(call, &payload) && take_identifier(call, payload, &wanted) &&
        decode_identifier(call, &wanted) && accepts_spc(call, &wanted) &&
        take_validity(call, payload, &wanted) && has_room(call)) {
        st = store_order(call, &wanted);
        if (st != HSM_OK)
            acme_call_fault(call, st);
        else
            respond_new_order(call, &wanted);
    }
    certs_tnauthlist_free(wanted.tnauthlist);
}

/* ---- the order resource ---- */

static void
fill_order(struct acme_order *order, struct acme_rows *rows, time_t now)
{
    order->rows = rows;
    order->id = acme_rows_text(rows, 0);
    order->status = acme_rows_text(rows, 2);
    order->authz = acme_rows_text(rows, 3);
    order->spc = acme_rows_text(rows, 4);
    order->not_before = (time_t)acme_rows_int(rows, 5);
    order->not_after = (time_t)acme_rows_int(rows, 6);
    order->error = acme_rows_text(rows, 7);
    order->expires = (time_t)acme_rows_int(rows, 8);
    order->identifier = acme_rows_text(rows, 9);
    order->tnauthlist = acme_rows_blob(rows, 10, &order->tnauthlist_len);
    order->ca = acme_rows_int(rows, 11) != 0;
    order->certificate = strcmp(order->status, ACME_VALID) == 0 ? acme_rows_text(rows, 12) : NULL;
    if (order->expires <= now &&
        (strcmp(order->status, ACME_PENDING) == 0 || strcmp(order->status, ACME_READY) == 0))
        order->status = ACME_INVALID; /* acme_server_expire() will write it down */
}

bool
acme_order_load(struct acme_call *call, struct acme_order *order)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT acme_order.id, acme_order.account, acme_order.status, acme_order.authz,"
        " acme_order.spc, acme_order.not_before, acme_order.not_after, acme_order.error,"
        " acme_order.expires, authz.identifier, authz.tnauthlist, challenge.ca,"
        " issuance.certificate FROM acme_order JOIN authz ON authz.id = acme_order.authz"
        " JOIN challenge ON challenge.authz = authz.id"
        " LEFT JOIN issuance ON issuance.order_id = acme_order.id WHERE acme_order.id = ?",
        "s", call->params[0]);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (!acme_rows_next(rows)) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such order");
        return false;
    }
    if (strcmp(acme_rows_text(rows, 1), call->account) != 0) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "the order is another account's");
        return false;
    }
    fill_order(order, rows, call->now);
    rows = NULL;
    return true;
}

static bool
add_url(json_t *object, const char *name, const struct acme_server *server, const char *resource,
        const char *id, const char *rest)
{
    char url[ACME_URL_MAX + 1];

    acme_server_url(server, resource, id, rest, url);
    return json_object_set_new(object, name, json_string(url)) == 0;
}

static bool
add_time(json_t *object, const char *name, time_t t)
{
    char text[ACME_TIME_LEN + 1];

    if (t == 0)
        return true;
    acme_time_format(t, text);
    return json_object_set_new(object, name, json_string(text)) == 0;
}

/* RFC 8555 section 7.1.3 */
static json_t *
order_object(const struct acme_server *server, const struct acme_order *order)
{
    char authz[ACME_URL_MAX + 1];
    json_t *object;

    acme_server_url(server, "authz", order->authz, NULL, authz);
    object =
        json_pack("{s:s, s:[{s:s, s:s}], s:[s]}", "status", order->status, "identifiers", "type",
                  IDENTIFIER_TYPE, "value", order->identifier, "authorizations", authz);
    if (object == NULL)
        return NULL;
    if (!add_time(object, "expires", order->expires) ||
        !add_time(object, "notBefore", order->not_before) ||
        !add_time(object, "notAfter", order->not_after) ||
        !add_url(object, "finalize", server, "order", order->id, "/finalize") ||
        (order->certificate != NULL &&
         !add_url(object, "certificate", server, "cert", order->certificate, NULL)) ||
        (order->error != NULL &&
         json_object_set_new(object, "error", json_loads(order->error, 0, NULL)) != 0)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

void
acme_order_respond(struct acme_call *call, int http_status, const struct acme_order *order)
{
    if (strcmp(order->status, ACME_PROCESSING) == 0)
        acme_http_response_header(call->response, "Retry-After", ACME_RETRY_AFTER);
    acme_call_location(call, "order", order->id);
    acme_call_json(call, http_status, order_object(call->server, order));
}

/* A client that polls while the token was away does not wait for the next acme_server_expire(). */
void
acme_order(struct acme_call *call)
{
    struct acme_order order = {.rows = NULL};
    enum hsm_status st = HSM_OK;

    if (!acme_call_wants_read(call) || !acme_order_load(call, &order))
        return;
    if (strcmp(order.status, ACME_PROCESSING) == 0) {
        st = acme_issue_complete(call->server, order.id, false, call->now);
        acme_rows_free(order.rows);
        order.rows = NULL;
        if (!acme_order_load(call, &order))
            return;
    }
    if (st != HSM_OK && st != HSM_ERR_BUSY)
        hsm_log(HSM_LOG_WARNING, "order %s: still processing: %s", order.id, hsm_status_text(st));
    acme_order_respond(call, 200, &order);
    acme_rows_free(order.rows);
}

/* ---- the authorization resource ---- */

struct authz {
    struct acme_rows *rows; /* the rest is borrowed from it */
    const char *status, *identifier;
    const char *challenge_id, *challenge_status, *token, *error;
    time_t expires, validated;
};

static bool
load_authz(struct acme_call *call, struct authz *authz)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT authz.account, authz.status, authz.identifier, authz.expires, challenge.id,"
        " challenge.status, challenge.token, challenge.error, challenge.validated"
        " FROM authz JOIN challenge ON challenge.authz = authz.id WHERE authz.id = ?",
        "s", call->params[0]);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (!acme_rows_next(rows)) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such authorization");
        return false;
    }
    if (strcmp(acme_rows_text(rows, 0), call->account) != 0) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "the authorization is another account's");
        return false;
    }
    authz->status = acme_rows_text(rows, 1);
    authz->identifier = acme_rows_text(rows, 2);
    authz->expires = (time_t)acme_rows_int(rows, 3);
    authz->challenge_id = acme_rows_text(rows, 4);
    authz->challenge_status = acme_rows_text(rows, 5);
    authz->token = acme_rows_text(rows, 6);
    authz->error = acme_rows_text(rows, 7);
    authz->validated = (time_t)acme_rows_int(rows, 8);
    if (authz->expires <= call->now &&
        (strcmp(authz->status, ACME_PENDING) == 0 || strcmp(authz->status, ACME_VALID) == 0))
        authz->status = ACME_EXPIRED;
    authz->rows = rows;
    rows = NULL;
    return true;
}

/* RFC 8555 section 7.1.4 */
static void
respond_authz(struct acme_call *call, const struct authz *authz, const char *status)
{
    json_t *challenge = acme_challenge_object(
        call->server, &(struct acme_challenge_state){.id = authz->challenge_id,
                                                     .status = authz->challenge_status,
                                                     .token = authz->token,
                                                     .error = authz->error,
                                                     .validated = authz->validated});
    json_t *object = NULL;

    if (challenge != NULL)
        object = json_pack("{s:s, s:{s:s, s:s}, s:[o]}", "status", status, "identifier", "type",
                           IDENTIFIER_TYPE, "value", authz->identifier, "challenges", challenge);
    if (object != NULL && !add_time(object, "expires", authz->expires)) {
        json_decref(object);
        object = NULL;
    }
    acme_call_json(call, 200, object);
}

/* RFC 8555 section 7.5.2; its orders cannot be fulfilled any more (section 7.1.6). */
static enum hsm_status
deactivate_authz(struct acme_store *store, const char *id)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, NULL,
                        "UPDATE authz SET status = '" ACME_DEACTIVATED "' WHERE id = ?", "s", id);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE authz = ? AND"
                            " status IN ('" ACME_PENDING "', '" ACME_READY "')",
                            "s", id);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

static void
update_authz(struct acme_call *call, const struct authz *authz)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct hsm_reason why = {""};
    const char *status = NULL;
    enum hsm_status st;

    if (!acme_call_payload(call, &payload))
        return;
    if (acme_json_string(payload, "status", &status, &why) != HSM_OK ||
        strcmp(status, ACME_DEACTIVATED) != 0) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "an authorization can only be deactivated");
        return;
    }
    if (strcmp(authz->status, ACME_PENDING) != 0 && strcmp(authz->status, ACME_VALID) != 0) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "the authorization is %s", authz->status);
        return;
    }
    st = deactivate_authz(call->server->config.store, call->params[0]);
    if (st != HSM_OK)
        acme_call_fault(call, st);
    else
        respond_authz(call, authz, ACME_DEACTIVATED);
}

void
acme_authorization(struct acme_call *call)
{
    struct authz authz = {.rows = NULL};

    if (!load_authz(call, &authz))
        return;
    if (acme_call_is_read(call))
        respond_authz(call, &authz, authz.status);
    else
        update_authz(call, &authz);
    acme_rows_free(authz.rows);
}
