/*
 * server_nonce.c - anti-replay nonces (RFC 8555 section 6.5).
 *
 * They are rows of the store, so that several processes share them, and a
 * nonce is good exactly once: whoever deletes its row has used it.
 */

#include "server_internal.h"

#include <string.h>

#include <hsm/log.h>

#define TRIM_EVERY 1000 /* nonces made */

/* Whoever asks for nonces without end pushes out the oldest, whose owners are told badNonce. */
static enum hsm_status
trim(struct acme_server *server)
{
    return acme_store_run(server->config.store, NULL,
                          "DELETE FROM nonce WHERE value IN (SELECT value FROM nonce"
                          " ORDER BY expires DESC LIMIT ? OFFSET ?)",
                          "ii", (int64_t)ACME_ROWS_MAX, (int64_t)ACME_NONCES_MAX);
}

static enum hsm_status
insert(struct acme_server *server, time_t now, char out[ACME_ID_LEN + 1])
{
    char value[ACME_ID_LEN + 1];
    enum hsm_status st = acme_id_new(value);

    if (st == HSM_OK)
        st = acme_store_run(server->config.store, NULL,
                            "INSERT INTO nonce (value, expires) VALUES (?, ?)", "si", value,
                            (int64_t)(now + ACME_NONCE_LIFETIME_S));
    if (st == HSM_OK && atomic_fetch_add(&server->nonces_made, 1) % TRIM_EVERY == TRIM_EVERY - 1)
        st = trim(server);
    if (st == HSM_OK)
        memcpy(out, value, sizeof(value));
    return st;
}

enum hsm_status
acme_nonce_new(struct acme_server *server, time_t now, char out[ACME_ID_LEN + 1])
{
    return insert(server, now, out);
}

/* Within a transaction. */
static enum hsm_status
exchange(struct acme_server *server, time_t now, const char *nonce, char next[ACME_ID_LEN + 1],
         bool *good)
{
    int64_t deleted = 0;
    enum hsm_status st = acme_store_run(server->config.store, &deleted,
                                        "DELETE FROM nonce WHERE value = ? AND expires > ?", "si",
                                        nonce, (int64_t)now);

    if (st == HSM_OK)
        st = insert(server, now, next);
    if (st == HSM_OK)
        *good = deleted == 1;
    return st;
}

enum hsm_status
acme_nonce_use(struct acme_server *server, time_t now, const char *nonce,
               char next[ACME_ID_LEN + 1], bool *good)
{
    char fresh[ACME_ID_LEN + 1];
    bool deleted = false;
    enum hsm_status st = acme_store_begin(server->config.store);

    if (st != HSM_OK)
        return st;
    st = exchange(server, now, nonce, fresh, &deleted);
    if (st != HSM_OK) {
        acme_store_rollback(server->config.store);
        return st;
    }
    st = acme_store_commit(server->config.store);
    if (st != HSM_OK)
        return st;
    memcpy(next, fresh, sizeof(fresh));
    *good = deleted;
    return HSM_OK;
}

void
acme_nonce_expire(struct acme_server *server, time_t now)
{
    enum hsm_status st = acme_store_run(server->config.store, NULL,
                                        "DELETE FROM nonce WHERE expires <= ?", "i", (int64_t)now);

    if (st == HSM_OK)
        st = trim(server);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "expired nonces stay for now: %s", hsm_status_text(st));
}
