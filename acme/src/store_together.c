/*
 * store_together.c - combine writes of several threads in one transaction, with a single sync
 * to disk.
 *
 * The first thread begins the transaction (it leads); works that are queued until the store
 * has granted it are included, later ones go with the next. The next one is led by a thread
 * that is waiting, and not by one that has queued a work and is busy otherwise, for example
 * with a fetch.
 */
#include <acme/store.h>

#include "store_internal.h"

#define TOGETHER 64 /* works per transaction; other processes write to the store, too */

void
acme_store_queue_init(struct store_queue *queue)
{
    pthread_mutex_init(&queue->mutex, NULL);
    STAILQ_INIT(&queue->waiting);
    queue->is_led = false;
}

void
acme_store_queue_destroy(struct store_queue *queue)
{
    pthread_mutex_destroy(&queue->mutex);
}

/* The two functions below are called with the mutex held. */

static void
put(struct store_queue *queue, struct acme_store_work *work)
{
    STAILQ_INSERT_TAIL(&queue->waiting, work, others);
    work->is_queued = true;
}

static void
take_one(struct store_queue *queue, struct acme_store_work *work)
{
    STAILQ_REMOVE(&queue->waiting, work, acme_store_work, others);
    work->is_queued = false;
}

/* ---- leading a transaction ---- */

static void
take(struct store_queue *queue, struct acme_store_works *to)
{
    struct acme_store_work *work;

    pthread_mutex_lock(&queue->mutex);
    for (int i = 1; i < TOGETHER && (work = STAILQ_FIRST(&queue->waiting)) != NULL; i++) {
        take_one(queue, work);
        STAILQ_INSERT_TAIL(to, work, others);
    }
    pthread_mutex_unlock(&queue->mutex);
}

/* The first waiting thread leads from now on. */
static void
leave(struct store_queue *queue)
{
    struct acme_store_work *next;

    pthread_mutex_lock(&queue->mutex);
    STAILQ_FOREACH(next, &queue->waiting, others)
    {
        if (next->is_awaited)
            break;
    }
    queue->is_led = next != NULL;
    if (next != NULL) {
        take_one(queue, next);
        next->leads = true;
        sem_post(&next->told);
    }
    pthread_mutex_unlock(&queue->mutex);
}

/* ---- a group: a work that fails is undone alone, and the store stays locked ---- */

/* Most groups succeed as a whole. False: a work has failed. */
static bool
run_all(struct acme_store *store, struct acme_store_works *works)
{
    struct acme_store_work *work;

    STAILQ_FOREACH(work, works, others)
    {
        work->status = work->run(store, work->context);
        if (work->status != HSM_OK)
            return false;
    }
    return true;
}

static enum hsm_status
run_marked(struct acme_store *store, struct acme_store_work *work)
{
    enum hsm_status st = acme_store_mark(store);

    if (st != HSM_OK)
        return st;
    work->status = work->run(store, work->context);
    return work->status == HSM_OK ? acme_store_unmark(store) : acme_store_undo(store);
}

/* Not HSM_OK: the whole transaction has failed. */
static enum hsm_status
run_each(struct acme_store *store, struct acme_store_works *works)
{
    struct acme_store_work *work;
    enum hsm_status st = HSM_OK;

    STAILQ_FOREACH(work, works, others)
    {
        if (st == HSM_OK)
            st = run_marked(store, work);
    }
    return st;
}

static enum hsm_status
run_group(struct acme_store *store, struct acme_store_works *works)
{
    enum hsm_status st = acme_store_mark(store);

    if (st != HSM_OK || run_all(store, works))
        return st;
    st = acme_store_undo(store);
    return st == HSM_OK ? run_each(store, works) : st;
}

static bool
is_alone(const struct acme_store_works *works)
{
    return STAILQ_NEXT(STAILQ_FIRST(works), others) == NULL;
}

/* Sets the status of each work; if the transaction fails, all works fail. */
static void
carry_out(struct acme_store *store, struct acme_store_works *works)
{
    struct acme_store_work *work = STAILQ_FIRST(works);
    enum hsm_status st = acme_store_begin(store);

    take(acme_store_queue_of(store), works);
    if (st == HSM_OK) {
        if (is_alone(works))
            st = run_all(store, works) ? HSM_OK : work->status;
        else
            st = run_group(store, works);
        st = acme_store_end(store, st);
    }
    STAILQ_FOREACH(work, works, others)
    {
        if (st != HSM_OK)
            work->status = st;
    }
}

/* A work may cease to exist as soon as its thread was woken. */
static void
tell(struct acme_store_works *done, const struct acme_store_work *own)
{
    struct acme_store_work *work;

    while ((work = STAILQ_FIRST(done)) != NULL) {
        STAILQ_REMOVE_HEAD(done, others);
        if (work != own)
            sem_post(&work->told);
    }
}

static void
lead(struct acme_store *store, struct acme_store_work *own)
{
    struct acme_store_works works = STAILQ_HEAD_INITIALIZER(works);

    STAILQ_INSERT_HEAD(&works, own, others);
    carry_out(store, &works);
    leave(acme_store_queue_of(store));
    tell(&works, own);
}

/* ---- requests ---- */

void
acme_store_ask(struct acme_store *store, struct acme_store_work *work)
{
    struct store_queue *queue = acme_store_queue_of(store);

    sem_init(&work->told, 0, 0);
    work->status = HSM_OK;
    work->is_queued = work->is_awaited = work->leads = false;
    pthread_mutex_lock(&queue->mutex);
    put(queue, work);
    pthread_mutex_unlock(&queue->mutex);
}

/* True: no other thread leads. */
static bool
begin_to_lead(struct store_queue *queue, struct acme_store_work *work)
{
    bool leads;

    pthread_mutex_lock(&queue->mutex);
    work->is_awaited = true;
    leads = work->is_queued && !queue->is_led;
    if (leads) {
        take_one(queue, work);
        queue->is_led = true;
    }
    pthread_mutex_unlock(&queue->mutex);
    return leads;
}

enum hsm_status
acme_store_wait(struct acme_store *store, struct acme_store_work *work)
{
    bool leads = begin_to_lead(acme_store_queue_of(store), work);

    while (!leads && sem_wait(&work->told) != 0)
        continue; /* interrupted by a signal */
    if (leads || work->leads)
        lead(store, work);
    sem_destroy(&work->told);
    return work->status;
}

enum hsm_status
acme_store_together(struct acme_store *store,
                    enum hsm_status (*run)(struct acme_store *store, void *context), void *context)
{
    struct acme_store_work work = {.run = run, .context = context};

    acme_store_ask(store, &work);
    return acme_store_wait(store, &work);
}
