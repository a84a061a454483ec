/* server_upkeep.c - periodic work of the STI-CA: delete expired rows, complete pending orders. */

#include "server_internal.h"

#include <certs/verdict.h>
#include <hsm/log.h>

#define EXPIRE_S 60 /* between two deletions of expired rows */
#define CRL_S    300 /* between two imports of the STI-PA's CRL */
#define TELL_S   60 /* between two warnings of pending orders */

#define BATCH       500 /* rows per transaction */
#define BATCHES_MAX 200 /* of each kind per call */

#define VERDICTS_UNUSED_S 3600

/* ---- duties that one process performs for all ---- */

bool
acme_duty_claim(struct acme_server *server, const char *name, time_t pause_s, time_t now)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        server->config.store, &changes,
        "INSERT INTO duty (name, next) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
        " next = excluded.next WHERE duty.next <= ? OR duty.next > ?",
        "siii", name, (int64_t)(now + pause_s), (int64_t)now,
        (int64_t)(now + pause_s + ACME_CLOCK_SKEW_S));

    return st == HSM_OK && changes == 1; /* the store has logged the reason */
}

/* ---- deletion: each batch is a transaction, so that requests are served in between ---- */

/* RFC 8555 section 7.4: an order that was not fulfilled in time becomes invalid, and may be
 * deleted. *count receives the number of orders. */
static enum hsm_status
end_orders(struct acme_store *store, time_t now, int64_t *count)
{
    return acme_store_run(store, count,
                          "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE id IN (SELECT id"
                          " FROM acme_order WHERE status IN ('" ACME_PENDING "', '" ACME_READY
                          "') AND expires <= ? LIMIT ?)",
                          "ii", (int64_t)now, (int64_t)BATCH);
}

/* Unless another order uses it. */
static enum hsm_status
delete_authz(struct acme_store *store, const char *authz)
{
    enum hsm_status st = acme_store_run(store, NULL,
                                        "DELETE FROM challenge WHERE authz = ? AND NOT EXISTS"
                                        " (SELECT 1 FROM acme_order WHERE acme_order.authz = ?)",
                                        "ss", authz, authz);

    return st == HSM_OK ? acme_store_run(store, NULL,
                                         "DELETE FROM authz WHERE id = ? AND NOT EXISTS"
                                         " (SELECT 1 FROM acme_order WHERE acme_order.authz = ?)",
                                         "ss", authz, authz)
                        : st;
}

/* Within a transaction. An authorization is deleted with its last order: there is none without an
 * order. */
static enum hsm_status
delete_invalid(struct acme_store *store, time_t now, int64_t *count)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "DELETE FROM acme_order WHERE id IN (SELECT id FROM acme_order WHERE"
        " status = '" ACME_INVALID "' AND expires <= ? AND NOT EXISTS (SELECT 1 FROM issuance WHERE"
        " order_id = acme_order.id) LIMIT ?) RETURNING authz",
        "ii", (int64_t)(now - ACME_ORDER_KEPT_S), (int64_t)BATCH);

    if (st == HSM_OK)
        *count = (int64_t)acme_rows_count(rows);
    while (st == HSM_OK && acme_rows_next(rows))
        st = delete_authz(store, acme_rows_text(rows, 0));
    return st;
}

static enum hsm_status
delete_orders(struct acme_store *store, time_t now, int64_t *count)
{
    enum hsm_status st = acme_store_begin(store);

    return st == HSM_OK ? acme_store_end(store, delete_invalid(store, now, count)) : st;
}

static enum hsm_status
delete_manual_tokens(struct acme_store *store, time_t now, int64_t *count)
{
    return acme_store_run(store, count,
                          "DELETE FROM manual_token WHERE jti IN (SELECT jti FROM manual_token"
                          " WHERE expires <= ? LIMIT ?)",
                          "ii", (int64_t)now, (int64_t)BATCH);
}

static enum hsm_status
delete_nonces(struct acme_store *store, time_t now, int64_t *count)
{
    return acme_store_run(store, count,
                          "DELETE FROM nonce WHERE value IN (SELECT value FROM nonce WHERE"
                          " expires <= ? LIMIT ?)",
                          "ii", (int64_t)now, (int64_t)BATCH);
}

static enum hsm_status
delete_rates(struct acme_store *store, time_t now, int64_t *count)
{
    return acme_limit_expire(store, now, BATCH, count);
}

static enum hsm_status
sweep(struct acme_store *store, time_t now)
{
    enum hsm_status (*const steps[])(struct acme_store * store, time_t now, int64_t * count) = {
        end_orders, delete_orders, delete_manual_tokens, delete_nonces, delete_rates,
    };
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < sizeof(steps) / sizeof(steps[0]); i++) {
        int64_t count = BATCH;

        for (int n = 0; st == HSM_OK && count == BATCH && n < BATCHES_MAX; n++)
            st = steps[i](store, now, &count);
    }
    return st == HSM_OK ? acme_nonce_trim(store) : st;
}

static void
sweep_and_tell(struct acme_server *server, time_t now)
{
    enum hsm_status st = sweep(server->config.store, now);

    if (st != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "what has expired stays for now: %s", hsm_status_text(st));
}

/* ---- the rest ---- */

/* The token was unavailable, or a process died: complete pending orders even if no client polls. */
static void
resume(struct acme_server *server, time_t now)
{
    enum hsm_status st = acme_issue_resume(server, false, ACME_SIGNED_PER_TICK, now);

    if (st == HSM_OK || !acme_time_is_due(server->tell_at, TELL_S, now))
        return;
    hsm_log(HSM_LOG_WARNING, "orders wait for their certificates: %s", hsm_status_text(st));
    server->tell_at = now + TELL_S;
}

void
acme_server_expire(struct acme_server *server)
{
    time_t now = acme_server_now(server);

    sweep_and_tell(server, now);
    resume(server, now);
}

void
acme_server_tick(struct acme_server *server)
{
    time_t now = acme_server_now(server);

    acme_server_forward(server);
    acme_server_observe(server);
    if (acme_time_is_due(server->expire_at, EXPIRE_S, now)) {
        server->expire_at = now + EXPIRE_S;
        certs_verdicts_forget(server->verdicts, now, VERDICTS_UNUSED_S);
        if (acme_duty_claim(server, "sweep", EXPIRE_S, now))
            sweep_and_tell(server, now);
    }
    resume(server, now);
    if (acme_time_is_due(server->crl_at, CRL_S, now)) {
        server->crl_at = now + CRL_S;
        if (acme_duty_claim(server, "crl", CRL_S, now))
            acme_crl_take(server, now);
    }
    acme_crl_go_on(server, now);
}
