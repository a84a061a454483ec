/*
 * supervise.h - a daemon as a supervisor and worker processes that it keeps alive.
 *
 * PKCS#11 state does not survive fork(), and a vendor's module may crash or
 * never return. So the supervisor forks first, and each worker opens the token
 * afterwards: what a module does costs one worker, and the calls it had. The
 * supervisor itself must neither load a module nor start threads. Sockets are
 * opened before, so that workers share them.
 */
#ifndef HSM_SUPERVISE_H
#define HSM_SUPERVISE_H

#include <stdbool.h>

#include <sys/types.h>

#include <hsm/status.h>

#define HSM_WORKERS_MAX     64
#define HSM_HEARTBEAT_MS    30000 /* without a beat for so long a worker is stuck */
#define HSM_WORKER_START_MS 120000 /* from fork to hsm_worker_ready(): login, finding keys */
#define HSM_WORKER_STOP_MS  15000 /* from SIGTERM to the end: calls in flight */
/* From SIGHUP, when another has taken its place, to the end: connections. */
#define HSM_WORKER_RETIRE_MS 120000
/* Of a reload, until another worker of the new configuration is ready. */
#define HSM_RELOAD_MS 300000
/* Before a worker that ended is started again; doubled each time. */
#define HSM_RESTART_MIN_MS   100
#define HSM_RESTART_MAX_MS   30000 /* at most; a worker that served so long begins anew */
#define HSM_WORKER_EXIT_BASE 100 /* exit status of a worker: 0, or this and the hsm_status */

/** What a worker knows of itself. It lives in the worker's process. */
struct hsm_worker;

/** 0 to workers - 1; a replacement has the number of the worker it replaces. */
unsigned hsm_worker_index(const struct hsm_worker *worker);

/** 0 to HSM_PLACES - 2: another one for each process that lives; of a reload both the new one and
 *  the one that it replaces have the same index. HSM_PLACES - 1 is nobody's: the supervisor's. */
#define HSM_PLACES (2 * HSM_WORKERS_MAX + 1)
unsigned hsm_worker_place(const struct hsm_worker *worker);

/**
 * True if no other worker lives, and none is started before this one is
 * ready: it may take over what a crash of all left behind.
 */
bool hsm_worker_is_alone(const struct hsm_worker *worker);

/** True if it tries a new configuration: when it ends before it is ready, nothing changes. */
bool hsm_worker_is_candidate(const struct hsm_worker *worker);

/**
 * Everything is open and the worker serves; from here on it must beat. In the
 * thread that takes SIGTERM and SIGINT, with what takes them in place: they are
 * blocked until here, because a login that is cut short can destroy a software
 * token. Threads that were made before keep them blocked.
 */
void hsm_worker_ready(struct hsm_worker *worker);

/** "I am not stuck": several times in heartbeat_ms, by whatever would be stuck. Any thread. Not
 * said, so that the worker is replaced, while calls are stuck in all sessions of a token, or one
 * that keeps it from recovery, and no other token of the process serves. */
void hsm_worker_beat(struct hsm_worker *worker);

/**
 * End a worker without releasing anything: a thread is inside what would be
 * released. HSM_OK when nothing else is wrong.
 */
_Noreturn void hsm_worker_abandon(enum hsm_status status);

enum hsm_worker_change {
    HSM_WORKER_STARTED, /* forked */
    HSM_WORKER_READY,
    HSM_WORKER_STUCK, /* SIGKILL was sent: no beat, or not ready or not ended in time */
    HSM_WORKER_ENDED, /* reaped */
};

/** Since hsm_supervise() was called. */
struct hsm_supervise_counts {
    unsigned long started; /* workers forked, the first ones included */
    unsigned long failed; /* ended, and nobody had asked them to; the stuck ones included */
    unsigned long stuck;
};

struct hsm_worker_event {
    enum hsm_worker_change change;
    unsigned index, place;
    pid_t pid;
    unsigned rest_ms; /* HSM_WORKER_ENDED: until the next is started; 0 when none will be */
    struct hsm_supervise_counts counts;
};

enum hsm_reload_step {
    HSM_RELOAD_PREPARE, /* read and check; workers that start from now on get the new one */
    HSM_RELOAD_COMMIT, /* all workers serve with it: the old one is needed no more */
    HSM_RELOAD_ABANDON, /* they could not: back to the old one */
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
     * Called in the supervisor at SIGHUP: what `context` says to workers changes. A failure of
     * HSM_RELOAD_PREPARE, whose reason was logged, leaves all as it is; the others cannot fail.
     * NULL: SIGHUP is passed on.
     *
     * @param workers  HSM_RELOAD_PREPARE: how many there are, receives how many there shall be
     */
    enum hsm_status (*reload)(void *context, enum hsm_reload_step step, unsigned *workers);
    /** Called in the supervisor; NULL: nobody wants to know. */
    void (*on_event)(void *context, const struct hsm_worker_event *event);
};

/**
 * Keep the workers running until SIGTERM or SIGINT, which they get as well; a
 * worker that outlives stop_ms is killed. When the supervisor dies the workers
 * are killed, one that is starting when it is ready.
 *
 * At SIGHUP, when all workers serve, `reload` is asked for a new configuration,
 * and one worker tries it. When that is ready others follow, and for each of
 * them an old one gets SIGHUP: it takes no more connections, and ends when those
 * that it has are done (retire_ms at most). If it does not become ready nothing
 * has changed. If the first one does and for reload_ms no other, the way back is
 * taken: workers of the old configuration are started where some have left, and
 * the new ones leave, one for one; after reload_ms more whoever still has the new
 * one leaves, too. Without `reload` SIGHUP is passed on; a worker ignores it unless
 * `run` takes it.
 *
 * One worker is starting at a time. One that ends with HSM_ERR_DENIED ends all:
 * a PIN that was refused is tried once, not once for each worker; nor is it by
 * workers that go on without that token. A new configuration may have another PIN: its
 * workers try it once, and a refusal does not concern those of the old one. Before the
 * first was ready any other kind but HSM_ERR_BUSY ends all, too: the
 * configuration is wrong. Otherwise it is started again, after a rest that
 * doubles; what does not look like passing by itself rests longest.
 *
 * With $NOTIFY_SOCKET (systemd's Type=notify) READY=1 is sent when all workers
 * are ready for the first time, RELOADING=1 and READY=1 around a reload, STOPPING=1,
 * and WATCHDOG=1 as $WATCHDOG_USEC asks.
 *
 * Call it in the main thread of a process without others. In a worker it does
 * not return.
 *
 * @retval HSM_OK        asked to stop, and all workers ended by themselves
 * @retval HSM_ERR_BUSY  asked to stop, and a worker had to be killed
 * @return else what a worker ended with, as above
 */
HSM_MUST_CHECK enum hsm_status hsm_supervise(const struct hsm_supervise_config *config);

#endif
