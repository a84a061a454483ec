/*
 * pool_internal.h - the sessions of one token, handed out first come first served.
 *
 * A session is the unit of concurrency: one caller has it at a time. A caller
 * waits for one until its own deadline, even while the token is being recovered
 * and no session is handed out at all. A returned session goes to the caller that
 * has waited longest: pools that wake any waiter have ten times the p99 when
 * callers outnumber sessions.
 *
 * The pool knows nothing of the module: a caller that takes a session whose epoch
 * is not the pool's (or is 0) opens it.
 */
#ifndef HSM_POOL_INTERNAL_H
#define HSM_POOL_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

#define HSM_SESSIONS_MAX 1024 /* of one token, in one process */
#define HSM_CACHE_LINE   64 /* octets: data this far apart is not fetched together */
#define HSM_EPOCH_STALE  UINT_MAX /* not the epoch of any pool */

struct hsm_session {
    CK_SESSION_HANDLE handle;
    unsigned index; /* below the pool's count; a replacement takes over the index */
    unsigned epoch; /* the pool's when it was opened; 0: not open; HSM_EPOCH_STALE: to be closed */
    unsigned module_epoch; /* the module's when it was opened: older handles are invalid */
    uint64_t serial; /* number of the most recent taking */
    uint64_t opened_by; /* serial of the taking in which it was opened: signer.c */
    bool written_off; /* under the lock: its taker is stuck, and a replacement is in its place */
    bool held; /* under the lock: its taker is stuck without a replacement, or it was recalled */
    struct hsm_session *next;
    char apart[HSM_CACHE_LINE]; /* off the cache line of the next, which others write */
};

struct hsm_waiter;

struct hsm_pool {
    char apart[HSM_CACHE_LINE]; /* every signature writes the members below */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* no session is taken any more, or the service changed */
    struct hsm_session *all; /* `count` of them */
    struct hsm_session *idle;
    struct hsm_session *retired; /* sessions that the token has no room for */
    struct hsm_session *spare; /* unused replacements */
    bool *replaced; /* by index: a replacement exists */
    struct hsm_waiter *first;
    struct hsm_waiter *last;
    struct hsm_waiter *settled; /* to be called once the lock is released */
    uint64_t takings;
    uint64_t waits; /* takings and attempts that had to wait */
    int64_t waited_ns;
    unsigned count;
    unsigned out;
    unsigned usable; /* neither retired, nor written off, nor held by a stuck caller */
    unsigned waiting;
    unsigned epoch; /* starts at 1; changes when sessions must be opened again */
    enum hsm_status service; /* OK; BUSY: being recovered, callers wait; else callers are refused
                              * with this status; see hsm_pool_service() */
    char apart_too[HSM_CACHE_LINE];
};

/** How long a caller waits, and for what. */
struct hsm_patience {
    int64_t deadline; /* hsm_clock_ns() */
    bool through_recovery; /* false: BUSY as soon as the token is being recovered */
};

/** Begins with service BUSY. False: no memory. */
HSM_MUST_CHECK bool hsm_pool_init(struct hsm_pool *pool, unsigned count);

/** No caller may have a session or wait; sessions are not closed. */
void hsm_pool_destroy(struct hsm_pool *pool);

/**
 * Take a session.
 *
 * @param epoch  receives the pool's epoch
 * @retval HSM_ERR_BUSY  no session became free before the deadline
 * @retval other         the status with which the pool refuses
 */
HSM_MUST_CHECK enum hsm_status hsm_pool_take(struct hsm_pool *pool,
                                             const struct hsm_patience *patience,
                                             struct hsm_session **out, unsigned *epoch);

/** Return a session, which goes to the caller that has waited longest. Returns the present epoch.
 */
unsigned hsm_pool_give(struct hsm_pool *pool, struct hsm_session *session);

/** True if its taker was stuck: its handle must be closed before it is given back. */
bool hsm_pool_is_left_behind(struct hsm_pool *pool, const struct hsm_session *session);

/** Retire a session that could not be opened. False: it is the last, and was given back instead. */
bool hsm_pool_retire(struct hsm_pool *pool, struct hsm_session *session);

/**
 * Take a retired session, to try whether the token has room for it now: on success give it back,
 * else retire it again. False: no session is retired, or the pool does not serve (one whose usable
 * sessions are all stuck counts as serving).
 */
HSM_MUST_CHECK bool hsm_pool_recall(struct hsm_pool *pool, struct hsm_session **out,
                                    unsigned *epoch);
void hsm_pool_retire_again(struct hsm_pool *pool, struct hsm_session *session);

/** Stop handing out sessions if the epoch is still this one; true for the first caller. */
bool hsm_pool_suspend(struct hsm_pool *pool, unsigned epoch);

/** Wait until every session is back or written off; false: the deadline came first. */
bool hsm_pool_drain(struct hsm_pool *pool, int64_t deadline);

/** Hand out sessions again, in a new epoch; retired sessions are tried again. */
void hsm_pool_resume(struct hsm_pool *pool);

/** Fail all present and future callers with `why`. */
void hsm_pool_refuse(struct hsm_pool *pool, enum hsm_status why);

/** Wait until sessions are handed out; BUSY at the deadline, or the refusing status. */
HSM_MUST_CHECK enum hsm_status hsm_pool_await(struct hsm_pool *pool, int64_t deadline);

/** The pool's service; BUSY instead of OK while calls are stuck in all usable sessions. */
enum hsm_status hsm_pool_service(struct hsm_pool *pool);

/** True while calls are stuck in all usable sessions: nothing is served until one returns. */
bool hsm_pool_is_used_up(struct hsm_pool *pool);

unsigned hsm_pool_epoch(struct hsm_pool *pool);

/**
 * The taker of a session is stuck: replace the session, once. If the replacement gets stuck too,
 * the pool has one session less.
 *
 * @return false if the taker has returned it
 */
bool hsm_pool_leave_behind(struct hsm_pool *pool, struct hsm_session *session, uint64_t serial);

#endif
