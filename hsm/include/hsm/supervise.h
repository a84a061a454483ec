/*
 * supervise.h - a daemon as a supervisor and worker processes that it keeps alive.
 *
 * PKCS#11 state does not survive fork(), and a vendor's module may crash or
 * never return. So the supervisor forks first, and each worker opens the token
 * afterwards: a faulty module costs one worker and the calls in it. The
 * supervisor itself must neither load a module nor start threads. Sockets are
 * opened before the fork, so that workers share them.
 */
#ifndef HSM_SUPERVISE_H
#define HSM_SUPERVISE_H

#include <stdbool.h>

#include <sys/types.h>

#include <hsm/status.h>

#define HSM_WORKERS_MAX     64
#define HSM_HEARTBEAT_MS    30000 /* a worker without a beat for this long is stuck */
#define HSM_WORKER_START_MS 120000 /* from fork to hsm_worker_ready(): login, finding keys */
#define HSM_WORKER_STOP_MS  15000 /* from SIGTERM to exit: for calls in flight */
/* From SIGHUP to exit, once another worker has taken its place: for open connections. */
#define HSM_WORKER_RETIRE_MS 120000
/* During a reload, until the next worker with the new configuration is ready. */
#define HSM_RELOAD_MS 300000
/* Pause before a worker that ended is restarted; doubled each time. */
#define HSM_RESTART_MIN_MS   100
#define HSM_RESTART_MAX_MS   30000 /* longest pause; after serving this long the first again */
#define HSM_WORKER_EXIT_BASE 100 /* exit status of a worker: 0, or this plus the hsm_status */

/** A worker's view of itself; lives in the worker's process. */
struct hsm_worker;

/** 0 to workers - 1; a replacement has the number of the worker it replaces. */
unsigned hsm_worker_index(const struct hsm_worker *worker);

/** 0 to HSM_PLACES - 2, different for each living process; during a reload the new worker and the
 *  one it replaces share an index, but not a place. HSM_PLACES - 1 is the supervisor's. */
#define HSM_PLACES (2 * HSM_WORKERS_MAX + 1)
unsigned hsm_worker_place(const struct hsm_worker *worker);

/**
 * True if no other worker is alive, and none will be started before this one is
 * ready: it may take over what a crash of all workers left behind.
 */
bool hsm_worker_is_alone(const struct hsm_worker *worker);

/** True if this worker tries a new configuration: if it ends before it is ready, nothing changes.
 */
bool hsm_worker_is_candidate(const struct hsm_worker *worker);

/**
 * Everything is open and the worker serves; from here on it must beat. Call this
 * in the thread that handles SIGTERM and SIGINT, with their handling in place:
 * they are blocked until now, because an interrupted login can destroy a software
 * token. Threads created earlier keep them blocked.
 */
void hsm_worker_ready(struct hsm_worker *worker);

/** Report that the worker is not stuck; several times per heartbeat_ms, from the code that would be
 *  stuck, in any thread. The beat is suppressed, so that the worker is replaced, while calls are
 *  stuck in all sessions of a token, or one that prevents its recovery, and no other token of the
 *  process serves. */
void hsm_worker_beat(struct hsm_worker *worker);

/**
 * End a worker without releasing anything, because a thread is still inside what
 * would be released. `status` is HSM_OK when nothing else is wrong.
 */
_Noreturn void hsm_worker_abandon(enum hsm_status status);

enum hsm_worker_change {
    HSM_WORKER_STARTED, /* forked */
    HSM_WORKER_READY,
    HSM_WORKER_STUCK, /* SIGKILL was sent: no beat, not ready in time, or not ended in time */
    HSM_WORKER_ENDED, /* reaped */
};

/** Counts since hsm_supervise() was called. */
struct hsm_supervise_counts {
    unsigned long started; /* workers forked, including the first ones */
    unsigned long failed; /* ended without being asked to, including the stuck ones */
    unsigned long stuck;
};

struct hsm_worker_event {
    enum hsm_worker_change change;
    unsigned index, place;
    pid_t pid;
    unsigned rest_ms; /* HSM_WORKER_ENDED: until the next one is started; 0 if none will be */
    struct hsm_supervise_counts counts;
};

enum hsm_reload_step {
    HSM_RELOAD_PREPARE, /* read and check the new configuration; workers started later get it */
    HSM_RELOAD_COMMIT, /* all workers serve with the new one: the old one is no longer needed */
    HSM_RELOAD_ABANDON, /* they could not: go back to the old one */
};

/** Times in milliseconds; 0: the default above. */
struct hsm_supervise_config {
    unsigned workers; /* 1 to HSM_WORKERS_MAX */
    /**
     * Called in each worker: open the token, hsm_worker_ready(), serve until
     * SIGTERM or SIGINT, release everything, return, or hsm_worker_abandon().
     */
    enum hsm_status (*run)(struct hsm_worker *worker, void *context);
    void *context;
    unsigned heartbeat_ms, start_ms, stop_ms, retire_ms, reload_ms;
    unsigned restart_min_ms, restart_max_ms;
    /**
     * Called in the supervisor at SIGHUP, to change what `context` holds for workers. If
     * HSM_RELOAD_PREPARE fails, having logged why, nothing changes; the other steps cannot fail.
     * NULL: SIGHUP is passed on.
     *
     * @param workers  HSM_RELOAD_PREPARE: the present number; receives the number wanted
     */
    enum hsm_status (*reload)(void *context, enum hsm_reload_step step, unsigned *workers);
    /** Called in the supervisor; may be NULL. */
    void (*on_event)(void *context, const struct hsm_worker_event *event);
};

/**
 * Keep the workers running until SIGTERM or SIGINT, which is passed on to them; a
 * worker that outlives stop_ms is killed. If the supervisor dies, the workers are
 * killed, one that is still starting as soon as it is ready.
 *
 * At SIGHUP, once all workers serve, `reload` is called for a new configuration,
 * and one worker tries it. If that worker does not become ready, nothing has
 * changed. Once it is ready others follow, and for each of them an old worker gets
 * SIGHUP: it takes no more connections, and ends when those it has are done
 * (retire_ms at most). If the first new worker becomes ready but then none for
 * reload_ms, the reload is undone: workers with the old configuration are started
 * where some have left, and the new ones leave, one for one; after another
 * reload_ms all that still have the new configuration leave, too. Without `reload`
 * SIGHUP is passed on; a worker ignores it unless `run` handles it.
 *
 * One worker starts at a time. If one ends with HSM_ERR_DENIED all are ended: a
 * refused PIN is tried once, not once per worker, and not by workers that go on
 * without that token either. A new configuration may have another PIN: its workers
 * try it once, and a refusal does not affect those with the old configuration.
 * Until the first worker was ready any other status but HSM_ERR_BUSY ends all,
 * too: the configuration is wrong. Otherwise the worker is restarted after a pause
 * that doubles; a failure that is unlikely to pass by itself gets the longest pause.
 *
 * With $NOTIFY_SOCKET (systemd's Type=notify) READY=1 is sent when all workers
 * are ready for the first time, RELOADING=1 and READY=1 around a reload, STOPPING=1,
 * and WATCHDOG=1 as $WATCHDOG_USEC asks.
 *
 * Call it in the main thread of a process without other threads. In a worker it
 * does not return.
 *
 * @retval HSM_OK        asked to stop, and all workers ended by themselves
 * @retval HSM_ERR_BUSY  asked to stop, and a worker had to be killed
 * @return any other: the status of the worker that ended all, as above
 */
HSM_MUST_CHECK enum hsm_status hsm_supervise(const struct hsm_supervise_config *config);

#endif
