/* pool.c - the sessions of one token, handed out first come first served. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include "pool_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock_internal.h"

struct hsm_waiter {
    pthread_cond_t called;
    struct hsm_session *session; /* given to it */
    bool through_recovery;
    bool dismissed; /* waits no longer: see the pool's service */
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

static void
mark_taken(struct hsm_pool *pool, struct hsm_session *session)
{
    session->serial = ++pool->takings;
    pool->out++;
}

/* Idle sessions meet those who wait. */
static void
hand_over(struct hsm_pool *pool)
{
    while (pool->service == HSM_OK && pool->idle != NULL && pool->first != NULL) {
        struct hsm_waiter *waiter = pool->first;

        unlink_waiter(pool, waiter);
        waiter->session = pop(&pool->idle);
        mark_taken(pool, waiter->session);
        pthread_cond_signal(&waiter->called);
    }
}

/* Those who do not wait through what the pool's service now is. */
static void
dismiss(struct hsm_pool *pool)
{
    struct hsm_waiter *next;

    for (struct hsm_waiter *waiter = pool->first; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (pool->service == HSM_ERR_BUSY && waiter->through_recovery)
            continue;
        unlink_waiter(pool, waiter);
        waiter->dismissed = true;
        pthread_cond_signal(&waiter->called);
    }
}

/* Under the lock; NULL: not within the time, or dismissed. */
static struct hsm_session *
wait_for_one(struct hsm_pool *pool, const struct hsm_patience *patience)
{
    struct hsm_waiter self = {.through_recovery = patience->through_recovery};
    struct timespec deadline = hsm_clock_timespec(patience->deadline);
    int64_t begun = hsm_clock_ns();
    int rc = pthread_cond_init(&self.called, NULL);

    if (rc != 0)
        return NULL;
    append(pool, &self);
    while (self.session == NULL && !self.dismissed && rc == 0)
        rc = pthread_cond_clockwait(&self.called, &pool->lock, CLOCK_MONOTONIC, &deadline);
    if (self.session == NULL && !self.dismissed)
        unlink_waiter(pool, &self);
    pthread_cond_destroy(&self.called);
    pool->waits++;
    pool->waited_ns += hsm_clock_ns() - begun;
    return self.session;
}

enum hsm_status
hsm_pool_take(struct hsm_pool *pool, const struct hsm_patience *patience, struct hsm_session **out,
              unsigned *epoch)
{
    struct hsm_session *session = NULL;
    enum hsm_status refusal = HSM_ERR_BUSY;

    pthread_mutex_lock(&pool->lock);
    if (pool->service == HSM_OK && pool->idle != NULL) {
        session = pop(&pool->idle);
        mark_taken(pool, session);
    } else if (pool->service == HSM_OK ||
               (pool->service == HSM_ERR_BUSY && patience->through_recovery)) {
        session = wait_for_one(pool, patience);
    }
    if (session == NULL && pool->service != HSM_OK)
        refusal = pool->service;
    *epoch = pool->epoch;
    pthread_mutex_unlock(&pool->lock);
    if (session == NULL)
        return refusal;
    *out = session;
    return HSM_OK;
}

/* Under the lock. */
static void
put_back(struct hsm_pool *pool, struct hsm_session *session, struct hsm_session **list)
{
    if (session->written_off) {
        session->written_off = false;
        session->epoch = 0;
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
    pthread_mutex_unlock(&pool->lock);
    return epoch;
}

bool
hsm_pool_is_written_off(struct hsm_pool *pool, const struct hsm_session *session)
{
    bool written_off;

    pthread_mutex_lock(&pool->lock);
    written_off = session->written_off;
    pthread_mutex_unlock(&pool->lock);
    return written_off;
}

bool
hsm_pool_retire(struct hsm_pool *pool, struct hsm_session *session)
{
    bool others;

    pthread_mutex_lock(&pool->lock);
    others = pool->usable > 1 && !session->written_off;
    if (others)
        pool->usable--;
    put_back(pool, session, others ? &pool->retired : &pool->idle);
    pthread_mutex_unlock(&pool->lock);
    return others;
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
    pthread_mutex_unlock(&pool->lock);
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
    pthread_mutex_unlock(&pool->lock);
}

void
hsm_pool_refuse(struct hsm_pool *pool, enum hsm_status why)
{
    pthread_mutex_lock(&pool->lock);
    pool->service = why;
    dismiss(pool);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

enum hsm_status
hsm_pool_await(struct hsm_pool *pool, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    enum hsm_status service;
    int rc = 0;

    pthread_mutex_lock(&pool->lock);
    while (pool->service == HSM_ERR_BUSY && rc == 0)
        rc = pthread_cond_clockwait(&pool->changed, &pool->lock, CLOCK_MONOTONIC, &until);
    service = pool->service;
    pthread_mutex_unlock(&pool->lock);
    return service;
}

enum hsm_status
hsm_pool_service(struct hsm_pool *pool)
{
    enum hsm_status service;

    pthread_mutex_lock(&pool->lock);
    service = pool->service;
    pthread_mutex_unlock(&pool->lock);
    return service;
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
hsm_pool_write_off(struct hsm_pool *pool, struct hsm_session *session, uint64_t serial)
{
    struct hsm_session *other = NULL;

    pthread_mutex_lock(&pool->lock);
    if (session->serial == serial && !session->written_off && !pool->replaced[session->index])
        other = replacement_of(pool, session);
    if (other != NULL) {
        session->written_off = true;
        session->serial = 0;
        pool->replaced[session->index] = true;
        put_back(pool, other, &pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return other != NULL;
}
