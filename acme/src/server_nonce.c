/*
 * server_nonce.c - anti-replay nonces (RFC 8555 section 6.5).
 *
 * They are rows in the store, so that processes share them. A nonce is good
 * exactly once: its row becomes that of the next one.
 *
 * Between acme_nonce_ask() and acme_nonce_wait() the server does work that changes
 * nothing: it verifies the signature and parses the request. If other threads are
 * writing, the exchange is part of the next transaction.
 */

#include "server_internal.h"

#include <string.h>

#define TRIM_EVERY 1000 /* nonces that were made */

/* A client that requests many nonces displaces the oldest ones, whose users get badNonce. */
enum hsm_status
acme_nonce_trim(struct acme_store *store)
{
    return acme_store_run(store, NULL,
                          "DELETE FROM nonce WHERE value IN (SELECT value FROM nonce"
                          " ORDER BY expires DESC LIMIT ? OFFSET ?)",
                          "ii", (int64_t)ACME_ROWS_MAX, (int64_t)ACME_NONCES_MAX);
}

/* Insert a nonce that replaces none. This is limited, or one address could displace the nonces of
 * other clients. */
static enum hsm_status
insert(struct acme_store *store, struct acme_nonce_exchange *exchange, int64_t expires)
{
    enum hsm_status st = acme_limit_take(store, "nonces", exchange->address,
                                         exchange->server->config.nonces_per_address, exchange->now,
                                         &exchange->wait_s);

    if (st != HSM_OK)
        return st;
    if (exchange->wait_s != 0) {
        exchange->next[0] = '\0';
        return HSM_OK;
    }
    return acme_store_run(store, NULL, "INSERT INTO nonce (value, expires) VALUES (?, ?)", "si",
                          exchange->next, expires);
}

/* The request that changes a nonce's row into the next one has used the nonce. */
static enum hsm_status
replace(struct acme_store *store, struct acme_nonce_exchange *exchange)
{
    int64_t expires = (int64_t)exchange->now + ACME_NONCE_LIFETIME_S, changes = 0;
    enum hsm_status st = acme_id_new(exchange->next);

    if (st == HSM_OK && exchange->nonce != NULL)
        st = acme_store_run(store, &changes,
                            "UPDATE nonce SET value = ?, expires = ? WHERE value = ? AND"
                            " expires > ?",
                            "sisi", exchange->next, expires, exchange->nonce,
                            (int64_t)exchange->now);
    exchange->is_good = changes == 1;
    return st != HSM_OK || exchange->is_good ? st : insert(store, exchange, expires);
}

static enum hsm_status
carry_out(struct acme_store *store, void *context)
{
    struct acme_nonce_exchange *exchange = context;
    unsigned made = atomic_fetch_add(&exchange->server->nonces_made, 1);
    enum hsm_status st = replace(store, exchange);

    return st == HSM_OK && made % TRIM_EVERY == TRIM_EVERY - 1 ? acme_nonce_trim(store) : st;
}

void
acme_nonce_ask(struct acme_call *call, const char *nonce)
{
    struct acme_nonce_exchange *exchange = &call->exchange;

    *exchange = (struct acme_nonce_exchange){
        .server = call->server,
        .work = {.run = carry_out, .context = exchange},
        .nonce = nonce,
        .now = call->now,
    };
    acme_limit_address(acme_http_request_peer(call->request), exchange->address);
    acme_store_ask(call->server->config.store, &exchange->work);
}

enum hsm_status
acme_nonce_wait(struct acme_nonce_exchange *exchange)
{
    return acme_store_wait(exchange->server->config.store, &exchange->work);
}

enum hsm_status
acme_nonce_new(struct acme_call *call, time_t *wait_s)
{
    enum hsm_status st;

    acme_nonce_ask(call, NULL);
    st = acme_nonce_wait(&call->exchange);
    if (st != HSM_OK)
        return st;
    memcpy(call->nonce, call->exchange.next, sizeof(call->nonce));
    *wait_s = call->exchange.wait_s;
    return HSM_OK;
}

/* The nonce of the request was good and is used up. Over the limit, the response has no fresh
 * one. */
void
acme_nonce_count_unknown(struct acme_call *call)
{
    time_t wait_s = 0;

    if (acme_limit_take(call->server->config.store, "nonces", call->exchange.address,
                        call->server->config.nonces_per_address, call->now, &wait_s) != HSM_OK ||
        wait_s != 0)
        call->nonce[0] = '\0';
}
