/*
 * server_nonce.c - anti-replay nonces (RFC 8555 section 6.5).
 *
 * They are rows of the store, so that several processes share them, and a
 * nonce is good exactly once: its row becomes that of the next one.
 *
 * Whoever waits for its exchange writes it, if nobody else is at it. What is
 * asked meanwhile is done in the next transaction together, by a thread that
 * goes on as long as there is more; whoever asks does in that time what changes
 * nothing: the request's signature, what it wants, its answer.
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
    pthread_cond_t left;
    struct exchanges waiting; /* of whoever is at it the next transaction */
    bool is_at_it; /* somebody is: one who waits, or the thread */
    bool is_left; /* to the thread, which is to be at it */
    bool ends;
    unsigned made; /* since the store was last trimmed; of whoever is at it */
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

/* With the mutex held. */
static void
take(struct acme_nonces *nonces, struct exchanges *to)
{
    struct acme_nonce_exchange *exchange;

    for (int i = 0; i < TOGETHER && (exchange = STAILQ_FIRST(&nonces->waiting)) != NULL; i++) {
        STAILQ_REMOVE_HEAD(&nonces->waiting, others);
        STAILQ_INSERT_TAIL(to, exchange, others);
    }
}

/* Within a transaction. */
static enum hsm_status
carry_out_taken(struct acme_nonces *nonces, const struct exchanges *taken)
{
    struct acme_store *store = nonces->server->config.store;
    struct acme_nonce_exchange *exchange;
    enum hsm_status st = HSM_OK;

    STAILQ_FOREACH(exchange, taken, others)
    {
        if (st == HSM_OK)
            st = carry_out(store, exchange);
        nonces->made++;
    }
    if (st == HSM_OK && nonces->made >= TRIM_EVERY) {
        nonces->made = 0;
        st = trim(nonces->server);
    }
    return st;
}

/* Those taken, and those that have come when the store has let us in: in one transaction, so that
 * after a fault none of them is done. */
static enum hsm_status
carry_out_all(struct acme_nonces *nonces, struct exchanges *taken)
{
    struct acme_store *store = nonces->server->config.store;
    enum hsm_status st = acme_store_begin(store);

    pthread_mutex_lock(&nonces->mutex);
    take(nonces, taken);
    pthread_mutex_unlock(&nonces->mutex);
    if (st != HSM_OK)
        return st;
    st = carry_out_taken(nonces, taken);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
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

/* With the mutex held, by whoever was at it: what waits is left to the thread. */
static void
leave(struct acme_nonces *nonces)
{
    nonces->is_at_it = nonces->is_left = !STAILQ_EMPTY(&nonces->waiting);
    if (nonces->is_left)
        pthread_cond_signal(&nonces->left);
}

/* ---- the thread ---- */

static void *
write_nonces(void *context)
{
    struct acme_nonces *nonces = context;
    struct exchanges taken = STAILQ_HEAD_INITIALIZER(taken);

    pthread_mutex_lock(&nonces->mutex);
    while (!nonces->ends) {
        if (!nonces->is_left) {
            pthread_cond_wait(&nonces->left, &nonces->mutex);
            continue;
        }
        pthread_mutex_unlock(&nonces->mutex);
        give(&taken, carry_out_all(nonces, &taken));
        pthread_mutex_lock(&nonces->mutex);
        leave(nonces);
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
    pthread_cond_init(&nonces->left, NULL);
    if (start_thread(nonces) != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot start a thread");
        pthread_cond_destroy(&nonces->left);
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
    pthread_cond_signal(&nonces->left);
    pthread_mutex_unlock(&nonces->mutex);
    pthread_join(nonces->thread, NULL);
    pthread_cond_destroy(&nonces->left);
    pthread_mutex_destroy(&nonces->mutex);
    free(nonces);
}

/* ---- for those who ask ---- */

/* With the mutex held: for whoever is at it. */
static void
join(struct acme_nonces *nonces, struct acme_nonce_exchange *exchange)
{
    sem_init(&exchange->done, 0, 0);
    STAILQ_INSERT_TAIL(&nonces->waiting, exchange, others);
    exchange->is_waiting = true;
}

void
acme_nonce_ask(struct acme_nonces *nonces, const char *nonce, time_t now,
               struct acme_nonce_exchange *exchange)
{
    *exchange = (struct acme_nonce_exchange){.nonce = nonce, .now = now};
    pthread_mutex_lock(&nonces->mutex);
    if (nonces->is_at_it)
        join(nonces, exchange);
    pthread_mutex_unlock(&nonces->mutex);
}

static enum hsm_status
wait_for_others(struct acme_nonce_exchange *exchange)
{
    while (sem_wait(&exchange->done) != 0)
        continue; /* a signal */
    sem_destroy(&exchange->done);
    return exchange->status;
}

/* Those who have come meanwhile go along. */
static enum hsm_status
write_own(struct acme_nonces *nonces, struct acme_nonce_exchange *exchange)
{
    struct exchanges taken = STAILQ_HEAD_INITIALIZER(taken);
    enum hsm_status st;

    STAILQ_INSERT_HEAD(&taken, exchange, others);
    st = carry_out_all(nonces, &taken);
    STAILQ_REMOVE_HEAD(&taken, others);
    give(&taken, st);
    pthread_mutex_lock(&nonces->mutex);
    leave(nonces);
    pthread_mutex_unlock(&nonces->mutex);
    return st;
}

enum hsm_status
acme_nonce_wait(struct acme_nonces *nonces, struct acme_nonce_exchange *exchange)
{
    if (!exchange->is_waiting) {
        pthread_mutex_lock(&nonces->mutex);
        if (nonces->is_at_it)
            join(nonces, exchange);
        nonces->is_at_it = true;
        pthread_mutex_unlock(&nonces->mutex);
    }
    return exchange->is_waiting ? wait_for_others(exchange) : write_own(nonces, exchange);
}

enum hsm_status
acme_nonce_new(struct acme_server *server, time_t now, char out[ACME_ID_LEN + 1])
{
    struct acme_nonce_exchange exchange;
    enum hsm_status st;

    acme_nonce_ask(server->nonces, NULL, now, &exchange);
    st = acme_nonce_wait(server->nonces, &exchange);
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
