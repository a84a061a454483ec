/* server_order.c - orders (RFC 8555 section 7.4; RFC 9448 section 3). */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/tnauthlist.h>
#include <hsm/log.h>
#include <hsm/time.h>

#define SUBPROBLEMS_MAX 16 /* of one response; further ones are left out */

/* ---- newOrder ---- */

/* The contents of a newOrder. */
struct wanted {
    const char *identifier; /* borrowed from the payload */
    struct certs_tnauthlist *tnauthlist;
    const char *spc; /* borrowed from the list */
    const char *replaces; /* borrowed from the payload; NULL: none */
    time_t not_before, not_after;
    const char *status; /* of the order: ready when a valid authorization is reused */
    time_t expires;
    struct acme_order_ids ids;
    time_t wait_s; /* seconds to wait; 0: within the limit */
    bool is_full; /* the account has the maximum number of open orders */
};

/* Each identifier has a type; which types are allowed is checked later. */
static bool
have_types(struct acme_call *call, const json_t *identifiers)
{
    for (size_t i = 0; i < json_array_size(identifiers); i++) {
        const char *type = NULL;
        struct hsm_reason why = {""};

        if (acme_json_string(json_array_get(identifiers, i), "type", &type, &why) != HSM_OK) {
            acme_call_refuse(call, ACME_MALFORMED, 400, "identifier: %s", why.text);
            return false;
        }
    }
    return true;
}

static bool
is_ours(const json_t *identifier)
{
    return strcmp(json_string_value(json_object_get(identifier, "type")), ACME_IDENTIFIER_TYPE) ==
           0;
}

/* A subproblem for each unsupported identifier, and for each TNAuthList after the first. */
static json_t *
subproblems_of(const json_t *identifiers)
{
    json_t *out = json_array();
    bool has_one = false;

    for (size_t i = 0; i < json_array_size(identifiers); i++) {
        json_t *identifier = json_array_get(identifiers, i);
        json_t *problem = NULL;

        if (!is_ours(identifier))
            problem = acme_subproblem_new(ACME_UNSUPPORTED_IDENTIFIER,
                                          "only " ACME_IDENTIFIER_TYPE " is supported", identifier);
        else if (has_one)
            problem = acme_subproblem_new(ACME_REJECTED_IDENTIFIER,
                                          "an order is for one " ACME_IDENTIFIER_TYPE, identifier);
        else
            has_one = true;
        if (problem != NULL && json_array_size(out) < SUBPROBLEMS_MAX)
            json_array_append(out, problem);
        json_decref(problem);
    }
    return out;
}

/* With several identifiers, each faulty one gets a subproblem (RFC 8555 section 6.7.1). The type is
 * checked before anything else, so that clients meant for web CAs get this error. */
static bool
is_one_of_ours(struct acme_call *call, const json_t *identifiers)
{
    if (json_array_size(identifiers) > 1) {
        acme_http_respond_json(call->response, 403, "application/problem+json",
                               acme_problem_compound(subproblems_of(identifiers), 403,
                                                     "an order is for one " ACME_IDENTIFIER_TYPE
                                                     " and nothing else"));
        return false;
    }
    if (is_ours(json_array_get(identifiers, 0)))
        return true;
    acme_call_refuse(call, ACME_UNSUPPORTED_IDENTIFIER, 403,
                     "identifier type %s: only " ACME_IDENTIFIER_TYPE " is supported",
                     json_string_value(json_object_get(json_array_get(identifiers, 0), "type")));
    return false;
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
    if (!have_types(call, identifiers) || !is_one_of_ours(call, identifiers))
        return false;
    if (acme_json_string(json_array_get(identifiers, 0), "value", &wanted->identifier, &why) !=
        HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "identifier: %s", why.text);
        return false;
    }
    return true;
}

/* Both alphabets of base64 are in use; the DER is what counts, and responses repeat the client's
 * text. */
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
                         why.text[0] != '\0' ? why.text
                                             : "not base64 of a short " ACME_IDENTIFIER_TYPE);
    return false;
}

static enum hsm_status
is_participant(struct acme_server *server, const char *spc, bool *known)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(server->config.store, &rows,
                                          "SELECT 1 FROM participant WHERE spc = ?", "s", spc);

    if (st == HSM_OK)
        *known = acme_rows_next(rows);
    return st;
}

enum hsm_status
acme_spc_check(struct acme_server *server, const struct certs_tnauthlist *list, const char **spc,
               struct hsm_reason *why)
{
    const char *only = certs_tnauthlist_spc(list);
    bool known = true;
    enum hsm_status st;

    if (only == NULL || only[strspn(only, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")] != '\0')
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                          "a SHAKEN certificate is for exactly one SPC of [A-Z0-9]");
    st = is_participant(server, only, &known);
    if (st != HSM_OK)
        return st;
    if (!known && server->config.participants_required)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "SPC %s is not registered with this CA", only);
    *spc = only;
    return HSM_OK;
}

static bool
accepts_spc(struct acme_call *call, struct wanted *wanted)
{
    struct hsm_reason why = {""};
    enum hsm_status st = acme_spc_check(call->server, wanted->tnauthlist, &wanted->spc, &why);

    if (st == HSM_OK)
        return true;
    if (why.text[0] == '\0')
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_REJECTED_IDENTIFIER, 403, "%s", why.text);
    return false;
}

static bool
take_time(struct acme_call *call, const json_t *payload, const char *name, time_t *out)
{
    struct hsm_reason why = {""};
    const char *text = NULL;
    enum hsm_status st = acme_json_string_optional(payload, name, &text, &why);

    if (st == HSM_OK && text != NULL && hsm_time_parse(text, out) != HSM_OK)
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "%s: not RFC 3339", name);
    else if (st == HSM_OK && text != NULL && *out == 0) /* 0 is "absent" from here on */
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "%s: long past", name);
    if (st == HSM_OK)
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    return false;
}

/* The latest notAfter of a certificate ordered now. */
static time_t
latest_not_after(const struct acme_call *call)
{
    time_t configured = call->now + (time_t)call->server->config.valid_days * ACME_DAY_S;
    time_t issuer = certs_chain_not_after(call->server->config.issuing_chain);

    return configured < issuer ? configured : issuer;
}

/* notBefore and notAfter are accepted as requested or refused: RFC 8555 section 7.4 allows nothing
 * else. */
static bool
take_validity(struct acme_call *call, const json_t *payload, struct wanted *wanted)
{
    time_t earliest = call->now - call->server->config.backdate_s;
    time_t latest = latest_not_after(call);
    char text[HSM_TIME_LEN + 1];

    if (!take_time(call, payload, "notBefore", &wanted->not_before) ||
        !take_time(call, payload, "notAfter", &wanted->not_after))
        return false;
    if ((wanted->not_before != 0 && wanted->not_before < earliest) ||
        (wanted->not_after != 0 && (wanted->not_after > latest || wanted->not_after <= call->now ||
                                    wanted->not_after <= wanted->not_before)) ||
        wanted->not_before >= latest) {
        hsm_time_format(latest, text);
        acme_call_refuse(call, ACME_MALFORMED, 400,
                         "notBefore, notAfter: not between now and %s, for which this CA issues",
                         text);
        return false;
    }
    return true;
}

/* ---- storing the order ---- */

/*
 * RFC 8555 section 7.4: the server may reuse a valid authorization. It is based on an SPC
 * token, and is not reused when the token has expired (RFC 9447 section 3.3), or expires before
 * a certificate that must not outlive it. HSM_ERR_NOT_FOUND: there is none.
 */
static enum hsm_status
find_authz(struct acme_call *call, struct wanted *wanted)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(wanted->tnauthlist, &len);
    time_t until = call->server->config.within_token ? wanted->not_after : 0;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT authz.id, authz.expires FROM authz JOIN challenge ON challenge.authz = authz.id"
        " WHERE authz.account = ? AND authz.status = '" ACME_VALID "' AND authz.expires > ? AND"
        " challenge.token_exp > ? AND challenge.token_exp >= ? AND authz.tnauthlist = ? AND"
        " authz.identifier = ? ORDER BY challenge.token_exp DESC LIMIT 1",
        "siiibs", call->account, (int64_t)call->now, (int64_t)call->now, (int64_t)until, der, len,
        wanted->identifier);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    snprintf(wanted->ids.authz, sizeof(wanted->ids.authz), "%s", acme_rows_text(rows, 0));
    wanted->status = ACME_READY;
    wanted->expires = (time_t)acme_rows_int(rows, 1);
    return HSM_OK;
}

static enum hsm_status
find_or_insert_authz(struct acme_call *call, struct wanted *wanted)
{
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    if (call->server->config.authorizations_reused)
        st = find_authz(call, wanted);
    if (st != HSM_ERR_NOT_FOUND)
        return st;
    return acme_authz_insert(call->server->config.store,
                             &(struct acme_new_authz){.ids = &wanted->ids,
                                                      .account = call->account,
                                                      .identifier = wanted->identifier,
                                                      .tnauthlist = wanted->tnauthlist,
                                                      .expires = wanted->expires});
}

enum hsm_status
acme_order_count(struct acme_server *server, const char *whom, const char *peer, time_t now,
                 time_t *wait_s)
{
    const struct acme_server_config *config = &server->config;
    char address[ACME_ADDRESS_MAX + 1];
    enum hsm_status st =
        acme_limit_take(config->store, "orders", whom, config->orders_per_account, now, wait_s);

    if (st != HSM_OK || *wait_s != 0)
        return st;
    acme_limit_address(peer, address);
    return acme_limit_take(config->store, "orders", address, config->orders_per_address, now,
                           wait_s);
}

/* Within a transaction, so that concurrent orders cannot exceed the limit together. */
static enum hsm_status
count_open(struct acme_call *call, bool *is_full)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT count(*) FROM acme_order WHERE account = ? AND status IN ('" ACME_PENDING
        "', '" ACME_READY "', '" ACME_PROCESSING "')",
        "s", call->account);

    if (st == HSM_OK)
        *is_full = acme_rows_next(rows) && acme_rows_int(rows, 0) >= ACME_ORDERS_OPEN_MAX;
    return st;
}

/* An order that is being stored. */
struct placing {
    struct acme_call *call;
    struct wanted *wanted;
    const struct wanted *drawn; /* state at the start of each run */
};

/* Within a transaction. HSM_ERR_EXISTS: another order replaces the same certificate.
 * HSM_ERR_DENIED: a limit is reached. */
static enum hsm_status
place(struct acme_store *store, void *context)
{
    const struct placing *placing = context;
    struct acme_call *call = placing->call;
    struct wanted *wanted = placing->wanted;
    enum hsm_status st;

    *wanted = *placing->drawn;
    st = count_open(call, &wanted->is_full);
    if (st == HSM_OK && !wanted->is_full)
        st = acme_order_count(call->server, call->account, acme_http_request_peer(call->request),
                              call->now, &wanted->wait_s);
    if (st != HSM_OK)
        return st;
    if (wanted->is_full || wanted->wait_s != 0)
        return HSM_ERR_DENIED;
    st = find_or_insert_authz(call, wanted);
    if (st != HSM_OK)
        return st;
    return acme_order_insert(store, &(struct acme_new_order){.ids = &wanted->ids,
                                                             .account = call->account,
                                                             .status = wanted->status,
                                                             .spc = wanted->spc,
                                                             .not_before = wanted->not_before,
                                                             .not_after = wanted->not_after,
                                                             .created = call->now,
                                                             .expires = wanted->expires,
                                                             .replaces = wanted->replaces});
}

static enum hsm_status
store_order(struct acme_call *call, struct wanted *wanted)
{
    struct wanted drawn;
    struct placing placing = {call, wanted, &drawn};
    enum hsm_status st = acme_order_ids_new(&wanted->ids);

    if (st != HSM_OK)
        return st;
    drawn = *wanted;
    return acme_store_together(call->server->config.store, place, &placing);
}

static void
respond_new_order(struct acme_call *call, const struct wanted *wanted)
{
    struct acme_order order = {
        .id = wanted->ids.order,
        .status = wanted->status,
        .authz = wanted->ids.authz,
        .identifier = wanted->identifier,
        .replaces = wanted->replaces,
        .expires = wanted->expires,
        .not_before = wanted->not_before,
        .not_after = wanted->not_after,
    };

    hsm_log(HSM_LOG_INFO, "order %s: SPC %s, account %s", wanted->ids.order, wanted->spc,
            call->account);
    acme_order_respond(call, 201, &order);
}

static void
refuse_more(struct acme_call *call, const struct wanted *wanted)
{
    if (!wanted->is_full) {
        acme_limit_refuse(call, "orders of this account or address", wanted->wait_s);
        return;
    }
    acme_http_response_header(call->response, "Retry-After", "3600");
    acme_call_refuse(call, ACME_RATE_LIMITED, 429, "this account has %d open orders",
                     ACME_ORDERS_OPEN_MAX);
}

static void
place_order(struct acme_call *call, struct wanted *wanted)
{
    enum hsm_status st = store_order(call, wanted);

    if (st == HSM_ERR_EXISTS)
        acme_replaces_refuse(call);
    else if (st == HSM_ERR_DENIED)
        refuse_more(call, wanted);
    else if (st != HSM_OK)
        acme_call_fault(call, st);
    else
        respond_new_order(call, wanted);
}

void
acme_new_order(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct wanted wanted = {.status = ACME_PENDING, .expires = call->now + ACME_ORDER_LIFETIME_S};

    if (acme_terms_wanted(call) && acme_call_payload(call, &payload) &&
        take_identifier(call, payload, &wanted) && decode_identifier(call, &wanted) &&
        accepts_spc(call, &wanted) && take_validity(call, payload, &wanted) &&
        acme_replaces_take(call, payload, wanted.spc, &wanted.replaces) && acme_call_settle(call))
        place_order(call, &wanted);
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
    order->replaces = acme_rows_text(rows, 13);
    order->token_exp = (time_t)acme_rows_int(rows, 14);
    if (order->expires <= now &&
        (strcmp(order->status, ACME_PENDING) == 0 || strcmp(order->status, ACME_READY) == 0))
        order->status = ACME_INVALID; /* acme_server_tick() will record it */
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
        " issuance.certificate, acme_order.replaces, challenge.token_exp FROM acme_order JOIN "
        "authz ON authz.id = "
        "acme_order.authz"
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

bool
acme_json_add_url(json_t *object, const char *name, const struct acme_server *server,
                  const char *resource, const char *id, const char *rest)
{
    char url[ACME_URL_MAX + 1];

    acme_server_url(server, resource, id, rest, url);
    return json_object_set_new(object, name, json_string(url)) == 0;
}

bool
acme_json_add_time(json_t *object, const char *name, time_t t)
{
    char text[HSM_TIME_LEN + 1];

    if (t == 0)
        return true;
    hsm_time_format(t, text);
    return json_object_set_new(object, name, json_string(text)) == 0;
}

static bool
add_text(json_t *object, const char *name, const char *text)
{
    return text == NULL || json_object_set_new(object, name, json_string(text)) == 0;
}

/* URLs of the certificate, and of the hosted chain for an STI-VS: x5u (RFC 9448 section 7). */
static bool
add_certificate(json_t *object, const struct acme_server *server, const struct acme_order *order)
{
    char x5u[ACME_URL_MAX + 1];

    if (order->certificate == NULL)
        return true;
    acme_chain_hosted_url(server, order->certificate, x5u);
    return acme_json_add_url(object, "certificate", server, "cert", order->certificate, NULL) &&
           (!server->config.chains_hosted || add_text(object, "x5u", x5u));
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
                  ACME_IDENTIFIER_TYPE, "value", order->identifier, "authorizations", authz);
    if (object == NULL)
        return NULL;
    if (!acme_json_add_time(object, "expires", order->expires) ||
        !acme_json_add_time(object, "notBefore", order->not_before) ||
        !acme_json_add_time(object, "notAfter", order->not_after) ||
        !acme_json_add_url(object, "finalize", server, "order", order->id, "/finalize") ||
        !add_certificate(object, server, order) || !add_text(object, "replaces", order->replaces) ||
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

/* A client that polls after the token was unavailable does not wait for the next
 * acme_server_tick(). False: the response was made. */
static bool
complete(struct acme_call *call, struct acme_order *order)
{
    enum hsm_status st = acme_issue_complete(call->server, order->id, false, call->now);

    if (st != HSM_OK && st != HSM_ERR_BUSY)
        hsm_log(HSM_LOG_WARNING, "order %s: still processing: %s", order->id, hsm_status_text(st));
    acme_rows_free(order->rows);
    order->rows = NULL;
    return acme_order_load(call, order);
}

void
acme_order(struct acme_call *call)
{
    struct acme_order order = {.rows = NULL};

    if (!acme_call_wants_read(call) || !acme_order_load(call, &order))
        return;
    if (acme_call_settle(call) &&
        (strcmp(order.status, ACME_PROCESSING) != 0 || complete(call, &order)))
        acme_order_respond(call, 200, &order);
    acme_rows_free(order.rows);
}
