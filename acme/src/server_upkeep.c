/* server_upkeep.c - what the STI-CA does unasked: delete what has expired, complete what waits. */

#include "server_internal.h"

#include <certs/verdict.h>
#include <hsm/log.h>

#define EXPIRE_S 60 /* between two acme_server_expire() of acme_server_tick() */
#define TELL_S   60 /* between two times that orders are said to wait */

#define VERDICTS_UNUSED_S 3600

/* RFC 8555 section 7.4: an order that was not fulfilled in time becomes invalid, and may be
 * deleted. */
static enum hsm_status
expire_orders(struct acme_store *store, time_t now)
{
    enum hsm_status st =
        acme_store_run(store, NULL,
                       "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE status IN "
                       "('" ACME_PENDING "', '" ACME_READY "') AND expires <= ?",
                       "i", (int64_t)now);

    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM acme_order WHERE status = '" ACME_INVALID "' AND expires"
                            " <= ? AND NOT EXISTS (SELECT 1 FROM issuance WHERE order_id ="
                            " acme_order.id)",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM challenge WHERE authz IN (SELECT id FROM authz WHERE"
                            " expires <= ? AND NOT EXISTS"
                            " (SELECT 1 FROM acme_order WHERE acme_order.authz = authz.id))",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM authz WHERE expires <= ? AND NOT EXISTS"
                            " (SELECT 1 FROM acme_order WHERE acme_order.authz = authz.id)",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    return st;
}

/* The token was away, or a process died: what waits is completed when nobody polls for it, too. */
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
    struct acme_store *store = server->config.store;
    time_t now = acme_server_now(server);
    enum hsm_status st = acme_store_begin(store);

    if (st == HSM_OK) {
        st = expire_orders(store, now);
        if (st == HSM_OK)
            st = acme_store_run(store, NULL, "DELETE FROM manual_token WHERE expires <= ?", "i",
                                (int64_t)now);
        if (st == HSM_OK)
            st = acme_limit_expire(store, now);
        if (st == HSM_OK)
            st = acme_store_commit(store);
        else
            acme_store_rollback(store);
    }
    if (st != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "expired orders stay for now: %s", hsm_status_text(st));
    acme_nonce_expire(server, now);
    certs_verdicts_forget(server->verdicts, now, VERDICTS_UNUSED_S);
    resume(server, now);
}

void
acme_server_tick(struct acme_server *server)
{
    time_t now = acme_server_now(server);

    acme_server_forward(server);
    acme_server_observe(server);
    if (!acme_time_is_due(server->expire_at, EXPIRE_S, now)) {
        resume(server, now);
        return;
    }
    server->expire_at = now + EXPIRE_S;
    acme_server_expire(server);
}
