/* server_order_insert.c - insert the rows of a new order, for newOrder and the web page. */

#include "server_internal.h"

#include <acme/authority_token.h>

static enum hsm_status
insert_challenge(struct acme_store *store, const struct acme_new_authz *authz, const char *status)
{
    const struct acme_authority_token *token = authz->token;

    return acme_store_run(
        store, NULL,
        "INSERT INTO challenge (id, authz, status, token, validated, jti, token_exp, ca)"
        " VALUES (?, ?, ?, ?, NULLIF(?, 0), ?, NULLIF(?, 0), ?)",
        "ssssisii", authz->ids->challenge, authz->ids->authz, status, authz->ids->token,
        (int64_t)authz->validated, token != NULL ? acme_authority_token_jti(token) : NULL,
        token != NULL ? (int64_t)acme_authority_token_exp(token) : INT64_C(0),
        (int64_t)(token != NULL && acme_authority_token_ca(token)));
}

enum hsm_status
acme_authz_insert(struct acme_store *store, const struct acme_new_authz *authz)
{
    const char *status = authz->token != NULL ? ACME_VALID : ACME_PENDING;
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(authz->tnauthlist, &len);
    enum hsm_status st =
        acme_store_run(store, NULL,
                       "INSERT INTO authz (id, account, status, identifier, tnauthlist, expires)"
                       " VALUES (?, ?, ?, ?, ?, ?)",
                       "ssssbi", authz->ids->authz, authz->account, status, authz->identifier, der,
                       len, (int64_t)authz->expires);

    return st == HSM_OK ? insert_challenge(store, authz, status) : st;
}

enum hsm_status
acme_order_insert(struct acme_store *store, const struct acme_new_order *order)
{
    return acme_store_run(store, NULL,
                          "INSERT INTO acme_order (id, account, authz, status, spc, not_before,"
                          " not_after, created, expires, replaces)"
                          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          "sssssiiiis", order->ids->order, order->account, order->ids->authz,
                          order->status, order->spc, (int64_t)order->not_before,
                          (int64_t)order->not_after, (int64_t)order->created,
                          (int64_t)order->expires, order->replaces);
}

enum hsm_status
acme_order_ids_new(struct acme_order_ids *ids)
{
    enum hsm_status st = acme_id_new(ids->order);

    if (st == HSM_OK)
        st = acme_id_new(ids->authz);
    if (st == HSM_OK)
        st = acme_id_new(ids->challenge);
    return st == HSM_OK ? acme_id_new(ids->token) : st;
}
