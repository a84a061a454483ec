/* server_authz.c - the authorization resource (RFC 8555 section 7.5). */

#include "server_internal.h"

#include <string.h>

#include <acme/json.h>

struct authz {
    struct acme_rows *rows; /* owned; the other members are borrowed from it */
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
        object =
            json_pack("{s:s, s:{s:s, s:s}, s:[o]}", "status", status, "identifier", "type",
                      ACME_IDENTIFIER_TYPE, "value", authz->identifier, "challenges", challenge);
    if (object != NULL && !acme_json_add_time(object, "expires", authz->expires)) {
        json_decref(object);
        object = NULL;
    }
    acme_call_json(call, 200, object);
}

/* RFC 8555 section 7.5.2; its orders become invalid (section 7.1.6). */
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
    return acme_store_end(store, st);
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
    if (acme_call_settle(call)) {
        if (acme_call_is_read(call))
            respond_authz(call, &authz, authz.status);
        else
            update_authz(call, &authz);
    }
    acme_rows_free(authz.rows);
}
