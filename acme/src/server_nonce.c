/*
 * server_nonce.c - anti-replay nonces (RFC 8555 section 6.5).
 *
 * They are rows of the store, so that several processes share them, and a
 * nonce is good exactly once: its row becomes that of the next one.
 *
 * A thread of its own writes them. What is asked of it while it waits for the
 * disk is done in the next transaction together; meanwhile whoever asks goes on
 * with what changes nothing: the request's signature, what it wants, its answer.
 */

#include "server_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#define TRIM_EVERY 1000 /* nonces made */
#define TOGETHER   64 /* nonces of one transaction; others write to the store, too */

STAILQ_HEAD(exchanges, acme_nonce_exchange);

struct acme_nonces {
    struct acme_server *server;
    pthread_t thread;
    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t asked;
    struct exchanges waiting;
    bool ends;
    unsigned made; /* since the store was last trimmed; the thread's own */
};

/* ---- in the store ---- */

/* Whoever asks for nonces without end pushes out the oldest, whose owners are told badNonce. */
static enum hsm_status
trim(struct acme_server *server)
{
    return acme_store_run(server->config.store, NULL,
                          "DELETE FROM nonce WHERE value IN (SELECT value FROM nonce"
                          " ORDER BY expires DESC LIMIT ? OFFSET ?)",
                          "ii", (int64_t)ACME_ROWS_MAX, (int64_t)ACME_NONCES_MAX);
}

/* Whoever changes a nonce's row into the next one has used it. */
static enum hsm_status
carry_out(struct acme_store *store, struct acme_nonce_exchange *exchange)
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
    if (st != HSM_OK || exchange->is_good)
        return st;
    return acme_store_run(store, NULL, "INSERT INTO nonce (value, expires) VALUES (?, ?)", "si",
                          exchange->next, expires);
}

/* In one transaction: after a fault none of them is done. */
static enum hsm_status
carry_out_all(struct acme_nonces *nonces, const struct exchanges *exchanges)
{
    struct acme_store *store = nonces->server->config.store;
    struct acme_nonce_exchange *exchange;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    STAILQ_FOREACH(exchange, exchanges, others)
    {
        if (st == HSM_OK)
            st = carry_out(store, exchange);
        nonces->made++;
    }
    if (st == HSM_OK && nonces->made >= TRIM_EVERY) {
        nonces->made = 0;
        st = trim(nonces->server);
    }
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* ---- the thread ---- */

/* With the mutex held. */
static void
take(struct exchanges *from, struct exchanges *to)
{
    struct acme_nonce_exchange *exchange;

    STAILQ_INIT(to);
    for (int i = 0; i < TOGETHER && (exchange = STAILQ_FIRST(from)) != NULL; i++) {
        STAILQ_REMOVE_HEAD(from, others);
        STAILQ_INSERT_TAIL(to, exchange, others);
    }
}

/* Who asked may be gone as soon as it is told. */
static void
give(struct exchanges *exchanges, enum hsm_status status)
{
    struct acme_nonce_exchange *exchange;

    while ((exchange = STAILQ_FIRST(exchanges)) != NULL) {
        STAILQ_REMOVE_HEAD(exchanges, others);
        exchange->status = status;
        sem_post(&exchange->done);
    }
}

static void *
write_nonces(void *context)
{
    struct acme_nonces *nonces = context;
    struct exchanges taken;

    pthread_mutex_lock(&nonces->mutex);
    for (;;) {
        while (STAILQ_EMPTY(&nonces->waiting) && !nonces->ends)
            pthread_cond_wait(&nonces->asked, &nonces->mutex);
        if (STAILQ_EMPTY(&nonces->waiting))
            break;
        take(&nonces->waiting, &taken);
        pthread_mutex_unlock(&nonces->mutex);
        give(&taken, carry_out_all(nonces, &taken));
        pthread_mutex_lock(&nonces->mutex);
    }
    pthread_mutex_unlock(&nonces->mutex);
    return NULL;
}

/* Signals are for the event loop. */
static int
start_thread(struct acme_nonces *nonces)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&nonces->thread, NULL, write_nonces, nonces);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

enum hsm_status
acme_nonces_new(struct acme_server *server, struct acme_nonces **out)
{
    struct acme_nonces *nonces = calloc(1, sizeof(*nonces));

    if (nonces == NULL)
        return HSM_ERR_NOMEM;
    nonces->server = server;
    STAILQ_INIT(&nonces->waiting);
    pthread_mutex_init(&nonces->mutex, NULL);
    pthread_cond_init(&nonces->asked, NULL);
    if (start_thread(nonces) != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot start a thread");
        pthread_cond_destroy(&nonces->asked);
        pthread_mutex_destroy(&nonces->mutex);
        free(nonces);
        return HSM_ERR_NOMEM;
    }
    *out = nonces;
    return HSM_OK;
}

void
acme_nonces_free(struct acme_nonces *nonces)
{
    if (nonces == NULL)
        return;
    pthread_mutex_lock(&nonces->mutex);
    nonces->ends = true;
    pthread_cond_signal(&nonces->asked);
    pthread_mutex_unlock(&nonces->mutex);
    pthread_join(nonces->thread, NULL);
    pthread_cond_destroy(&nonces->asked);
    pthread_mutex_destroy(&nonces->mutex);
    free(nonces);
}

/* ---- for those who ask ---- */

void
acme_nonce_ask(struct acme_nonces *nonces, const char *nonce, time_t now,
               struct acme_nonce_exchange *exchange)
{
    *exchange = (struct acme_nonce_exchange){.nonce = nonce, .now = now};
    sem_init(&exchange->done, 0, 0);
    pthread_mutex_lock(&nonces->mutex);
    STAILQ_INSERT_TAIL(&nonces->waiting, exchange, others);
    pthread_mutex_unlock(&nonces->mutex);
    pthread_cond_signal(&nonces->asked);
}

enum hsm_status
acme_nonce_wait(struct acme_nonce_exchange *exchange)
{
    while (sem_wait(&exchange->done) != 0)
        continue; /* a signal */
    sem_destroy(&exchange->done);
    return exchange->status;
}

enum hsm_status
acme_nonce_new(struct acme_server *server, time_t now, char out[ACME_ID_LEN + 1])
{
    struct acme_nonce_exchange exchange;
    enum hsm_status st;

    acme_nonce_ask(server->nonces, NULL, now, &exchange);
    st = acme_nonce_wait(&exchange);
    if (st == HSM_OK)
        memcpy(out, exchange.next, sizeof(exchange.next));
    return st;
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
