/* pool.c - the sessions of one token, handed out first come first served. */
#define _GNU_SOURCE /* pthread_cond_clockwait, sem_clockwait */
#include "pool_internal.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock_internal.h"

#define CALLED_S 3600 /* extra time for a settled waiter, to which sem_post() is imminent */

/* A waiter sleeps on its own semaphore, not on the pool's lock: when it wakes it does not find the
 * lock held by the thread that woke it, and so sleeps only once. */
struct hsm_waiter {
    sem_t called; /* posted once, after it is settled: no other thread uses the waiter afterwards */
    atomic_bool released; /* set before the post: gives ThreadSanitizer, which does not know
                           * sem_clockwait(), the ordering that `called` establishes */
    bool settled; /* under the lock: it has left the queue, and the fields below are set */
    struct hsm_session *session; /* handed to it; NULL: dismissed, see `refusal` */
    unsigned epoch;
    enum hsm_status refusal;
    bool through_recovery;
    int64_t begun;
    struct hsm_waiter *next;
    struct hsm_waiter *before;
};

static void
push(struct hsm_session **list, struct hsm_session *session)
{
    session->next = *list;
    *list = session;
}

static struct hsm_session *
pop(struct hsm_session **list)
{
    struct hsm_session *session = *list;

    *list = session->next;
    session->next = NULL;
    return session;
}

bool
hsm_pool_init(struct hsm_pool *pool, unsigned count)
{
    memset(pool, 0, sizeof(*pool));
    pool->all = calloc(count, sizeof(*pool->all));
    pool->replaced = calloc(count, sizeof(*pool->replaced));
    if (pool->all == NULL || pool->replaced == NULL || pthread_mutex_init(&pool->lock, NULL) != 0 ||
        pthread_cond_init(&pool->changed, NULL) != 0) {
        free(pool->all);
        free(pool->replaced);
        return false;
    }
    for (unsigned i = count; i-- > 0;) {
        pool->all[i].index = i;
        push(&pool->idle, &pool->all[i]);
    }
    pool->count = count;
    pool->usable = count;
    pool->epoch = 1;
    pool->service = HSM_ERR_BUSY;
    return true;
}

static bool
is_original(const struct hsm_pool *pool, const struct hsm_session *session)
{
    return session >= pool->all && session < pool->all + pool->count;
}

static void
free_replacements(const struct hsm_pool *pool, struct hsm_session *list)
{
    while (list != NULL) {
        struct hsm_session *session = pop(&list);

        if (!is_original(pool, session))
            free(session);
    }
}

void
hsm_pool_destroy(struct hsm_pool *pool)
{
    free_replacements(pool, pool->idle);
    free_replacements(pool, pool->retired);
    free_replacements(pool, pool->spare);
    free(pool->all);
    free(pool->replaced);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
}

static void
append(struct hsm_pool *pool, struct hsm_waiter *waiter)
{
    waiter->before = pool->last;
    if (pool->last != NULL)
        pool->last->next = waiter;
    else
        pool->first = waiter;
    pool->last = waiter;
    pool->waiting++;
}

static void
unlink_waiter(struct hsm_pool *pool, struct hsm_waiter *waiter)
{
    if (waiter->before != NULL)
        waiter->before->next = waiter->next;
    else
        pool->first = waiter->next;
    if (waiter->next != NULL)
        waiter->next->before = waiter->before;
    else
        pool->last = waiter->before;
    pool->waiting--;
}

/* Under the lock. */
static enum hsm_status
service_of(const struct hsm_pool *pool)
{
    return pool->service == HSM_OK && pool->usable == 0 ? HSM_ERR_BUSY : pool->service;
}

static void
mark_taken(struct hsm_pool *pool, struct hsm_session *session)
{
    session->serial = ++pool->takings;
    pool->out++;
}

/* Under the lock; the waiter is called by unlock_and_call(). */
static void
settle(struct hsm_pool *pool, struct hsm_waiter *waiter, struct hsm_session *session)
{
    unlink_waiter(pool, waiter);
    pool->waits++;
    pool->waited_ns += hsm_clock_ns() - waiter->begun;
    waiter->session = session;
    waiter->epoch = pool->epoch;
    waiter->refusal = service_of(pool);
    waiter->next = pool->settled;
    pool->settled = waiter;
    waiter->settled = true;
}

/* Releases the lock. A waiter that was called may no longer exist. */
static void
unlock_and_call(struct hsm_pool *pool)
{
    struct hsm_waiter *waiter = pool->settled;

    pool->settled = NULL;
    pthread_mutex_unlock(&pool->lock);
    while (waiter != NULL) {
        struct hsm_waiter *next = waiter->next;

        atomic_store_explicit(&waiter->released, true, memory_order_release);
        sem_post(&waiter->called);
        waiter = next;
    }
}

/* Hand idle sessions to waiters. */
static void
hand_over(struct hsm_pool *pool)
{
    while (pool->service == HSM_OK && pool->idle != NULL && pool->first != NULL) {
        struct hsm_session *session = pop(&pool->idle);

        mark_taken(pool, session);
        settle(pool, pool->first, session);
    }
}

/* Settle those waiters that do not wait while the pool has its present service. */
static void
dismiss(struct hsm_pool *pool)
{
    struct hsm_waiter *next;

    for (struct hsm_waiter *waiter = pool->first; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (service_of(pool) != HSM_ERR_BUSY || !waiter->through_recovery)
            settle(pool, waiter, NULL);
    }
}

/* Wait to be called; false: the deadline came first, and `self` has left the queue. */
static bool
is_called(struct hsm_pool *pool, struct hsm_waiter *self, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    bool settled;

    while (sem_clockwait(&self->called, CLOCK_MONOTONIC, &until) != 0) {
        if (errno == EINTR)
            continue;
        pthread_mutex_lock(&pool->lock);
        settled = self->settled;
        if (!settled) {
            pool->waits++;
            pool->waited_ns += hsm_clock_ns() - self->begun;
            unlink_waiter(pool, self);
        }
        pthread_mutex_unlock(&pool->lock);
        if (!settled)
            return false;
        until.tv_sec += CALLED_S;
    }
    return atomic_load_explicit(&self->released, memory_order_acquire);
}

/* Called under the lock, which it releases. */
static enum hsm_status
wait_for_one(struct hsm_pool *pool, const struct hsm_patience *patience, struct hsm_session **out,
             unsigned *epoch)
{
    struct hsm_waiter self = {
        .through_recovery = patience->through_recovery,
        .begun = hsm_clock_ns(),
    };
    bool called;

    sem_init(&self.called, 0, 0); /* fails only for values that are too large */
    append(pool, &self);
    pthread_mutex_unlock(&pool->lock);
    called = is_called(pool, &self, patience->deadline);
    sem_destroy(&self.called);
    if (!called)
        return HSM_ERR_BUSY;
    if (self.session == NULL)
        return self.refusal;
    *epoch = self.epoch;
    *out = self.session;
    return HSM_OK;
}

enum hsm_status
hsm_pool_take(struct hsm_pool *pool, const struct hsm_patience *patience, struct hsm_session **out,
              unsigned *epoch)
{
    enum hsm_status service;

    pthread_mutex_lock(&pool->lock);
    service = service_of(pool);
    if ((service == HSM_OK && pool->idle == NULL) ||
        (service == HSM_ERR_BUSY && patience->through_recovery))
        return wait_for_one(pool, patience, out, epoch);
    if (service == HSM_OK) {
        *out = pop(&pool->idle);
        mark_taken(pool, *out);
        *epoch = pool->epoch;
    }
    pthread_mutex_unlock(&pool->lock);
    return service;
}

/* Under the lock. */
static void
put_back(struct hsm_pool *pool, struct hsm_session *session, struct hsm_session **list)
{
    if (session->held) {
        session->held = false;
        if (pool->usable++ == 0)
            pthread_cond_broadcast(&pool->changed);
    }
    if (session->written_off) {
        session->written_off = false;
        if (session->epoch != 0)
            session->epoch = HSM_EPOCH_STALE;
        pool->replaced[session->index] = false;
        push(&pool->spare, session);
        return;
    }
    session->serial = 0;
    push(list, session);
    if (--pool->out == 0)
        pthread_cond_broadcast(&pool->changed);
    hand_over(pool);
}

unsigned
hsm_pool_give(struct hsm_pool *pool, struct hsm_session *session)
{
    unsigned epoch;

    pthread_mutex_lock(&pool->lock);
    put_back(pool, session, &pool->idle);
    epoch = pool->epoch;
    unlock_and_call(pool);
    return epoch;
}

bool
hsm_pool_is_left_behind(struct hsm_pool *pool, const struct hsm_session *session)
{
    bool left;

    pthread_mutex_lock(&pool->lock);
    left = session->written_off || session->held;
    pthread_mutex_unlock(&pool->lock);
    return left;
}

bool
hsm_pool_retire(struct hsm_pool *pool, struct hsm_session *session)
{
    bool others;

    pthread_mutex_lock(&pool->lock);
    others = pool->usable > 1 && !session->written_off && !session->held;
    if (others)
        pool->usable--;
    put_back(pool, session, others ? &pool->retired : &pool->idle);
    unlock_and_call(pool);
    return others;
}

bool
hsm_pool_recall(struct hsm_pool *pool, struct hsm_session **out, unsigned *epoch)
{
    bool found;

    pthread_mutex_lock(&pool->lock);
    found = pool->service == HSM_OK && pool->retired != NULL;
    if (found) {
        *out = pop(&pool->retired);
        *epoch = pool->epoch;
        (*out)->held = true; /* counts as usable again when it is returned */
        mark_taken(pool, *out);
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

void
hsm_pool_retire_again(struct hsm_pool *pool, struct hsm_session *session)
{
    pthread_mutex_lock(&pool->lock);
    session->held = false;
    session->serial = 0;
    push(&pool->retired, session);
    if (--pool->out == 0)
        pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

bool
hsm_pool_suspend(struct hsm_pool *pool, unsigned epoch)
{
    bool first;

    pthread_mutex_lock(&pool->lock);
    first = pool->epoch == epoch && pool->service == HSM_OK;
    if (first) {
        pool->service = HSM_ERR_BUSY;
        dismiss(pool);
    }
    unlock_and_call(pool);
    return first;
}

bool
hsm_pool_drain(struct hsm_pool *pool, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    int rc = 0;
    bool quiet;

    pthread_mutex_lock(&pool->lock);
    while (pool->out > 0 && rc == 0)
        rc = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    quiet = pool->out == 0;
    pthread_mutex_unlock(&pool->lock);
    return quiet;
}

void
hsm_pool_resume(struct hsm_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->epoch++;
    while (pool->retired != NULL) {
        push(&pool->idle, pop(&pool->retired));
        pool->usable++;
    }
    pool->service = HSM_OK;
    hand_over(pool);
    pthread_cond_broadcast(&pool->changed);
    unlock_and_call(pool);
}

void
hsm_pool_refuse(struct hsm_pool *pool, enum hsm_status why)
{
    pthread_mutex_lock(&pool->lock);
    pool->service = why;
    dismiss(pool);
    pthread_cond_broadcast(&pool->changed);
    unlock_and_call(pool);
}

enum hsm_status
hsm_pool_await(struct hsm_pool *pool, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    enum hsm_status service;
    int rc = 0;

    pthread_mutex_lock(&pool->lock);
    while (service_of(pool) == HSM_ERR_BUSY && rc == 0)
        rc = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    service = service_of(pool);
    pthread_mutex_unlock(&pool->lock);
    return service;
}

enum hsm_status
hsm_pool_service(struct hsm_pool *pool)
{
    enum hsm_status service;

    pthread_mutex_lock(&pool->lock);
    service = service_of(pool);
    pthread_mutex_unlock(&pool->lock);
    return service;
}

bool
hsm_pool_is_used_up(struct hsm_pool *pool)
{
    bool used_up;

    pthread_mutex_lock(&pool->lock);
    used_up = pool->usable == 0;
    pthread_mutex_unlock(&pool->lock);
    return used_up;
}

unsigned
hsm_pool_epoch(struct hsm_pool *pool)
{
    unsigned epoch;

    pthread_mutex_lock(&pool->lock);
    epoch = pool->epoch;
    pthread_mutex_unlock(&pool->lock);
    return epoch;
}

/* Under the lock; NULL: no memory. */
static struct hsm_session *
replacement_of(struct hsm_pool *pool, const struct hsm_session *session)
{
    struct hsm_session *other = pool->spare != NULL ? pop(&pool->spare) : calloc(1, sizeof(*other));

    if (other != NULL)
        other->index = session->index;
    return other;
}

bool
hsm_pool_leave_behind(struct hsm_pool *pool, struct hsm_session *session, uint64_t serial)
{
    struct hsm_session *other = NULL;
    bool stuck;

    pthread_mutex_lock(&pool->lock);
    stuck = session->serial == serial && !session->written_off && !session->held;
    if (stuck && !pool->replaced[session->index])
        other = replacement_of(pool, session);
    if (other != NULL) {
        session->written_off = true;
        session->serial = 0;
        pool->replaced[session->index] = true;
        put_back(pool, other, &pool->idle);
    } else if (stuck) {
        session->held = true;
        if (--pool->usable == 0)
            dismiss(pool);
    }
    unlock_and_call(pool);
    return stuck;
}
