/*
 * supervise_internal.h - the supervisor and its workers.
 *
 *   supervise.c         fork, receive heartbeats, replace workers
 *   supervise_reload.c  replace the workers by those of a new configuration
 *   supervise_worker.c  the code that runs in a worker
 */
#ifndef HSM_SUPERVISE_INTERNAL_H
#define HSM_SUPERVISE_INTERNAL_H

#include <hsm/supervise.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#define SLOTS (2 * HSM_WORKERS_MAX) /* for the present configuration, and for the last */
#define NEVER INT64_MAX
#define BEAT  '.' /* a heartbeat on a worker's line */
#define READY 'R'

struct hsm_worker {
    unsigned place; /* index among the slots */
    bool is_alone;
    bool is_candidate;
    atomic_bool is_hopeless; /* and was reported, instead of a heartbeat */
    int line; /* to the supervisor */
    pid_t supervisor;
    sigset_t mask; /* signal mask while the worker serves */
};

enum slot_state {
    UNUSED,
    RESTING, /* no process yet; one will be started */
    STARTING,
    SERVING,
    RETIRING, /* of the preceding configuration: ends once its connections have ended */
    KILLED, /* but not reaped yet */
};

/* The place of one worker. Times are monotonic milliseconds. */
struct slot {
    enum slot_state state;
    pid_t pid;
    int line; /* from the worker; -1: closed by the worker, or no worker */
    int64_t until; /* RESTING: time of its start; with a process: time at which it is killed */
    int64_t retired_until; /* RETIRING: time at which it is killed in spite of heartbeats */
    int64_t ready_at;
    bool was_ready;
    bool is_retired; /* not to be started again */
    unsigned failures; /* in succession */
};

struct supervisor {
    struct hsm_supervise_config config; /* with defaults filled in */
    struct slot slots[SLOTS];
    unsigned half; /* index of the half that the present configuration uses: 0 or 1 */
    pid_t pid;
    int signals; /* signalfd */
    sigset_t mask_before;
    struct sigaction chld_before;
    bool was_ready; /* at least one worker was ready */
    bool was_complete; /* all workers were ready at once */
    bool is_stopping;
    int64_t stop_until;
    int64_t watchdog_ms, watchdog_at;
    bool wants_reload; /* SIGHUP came */
    struct slot *candidate; /* the first worker of a new configuration; NULL: none is being tried */
    unsigned candidates; /* workers that the new configuration wants */
    bool is_replacing; /* not all workers of the present configuration serve yet */
    bool is_going_back; /* back to the preceding configuration, as the new one failed */
    int64_t reload_until; /* while replacing: deadline, after which the reload has failed */
    unsigned workers_before; /* before the last reload */
    struct hsm_supervise_counts counts;
    enum hsm_status result;
};

/** The workers of the present configuration: config.workers of them. */
static inline struct slot *
slots_in_use(struct supervisor *supervisor)
{
    return &supervisor->slots[supervisor->half * HSM_WORKERS_MAX];
}

static inline unsigned
slot_index(const struct supervisor *supervisor, const struct slot *slot)
{
    return (unsigned)(slot - supervisor->slots) % HSM_WORKERS_MAX;
}

static inline bool
has_process(const struct slot *slot)
{
    return slot->state != UNUSED && slot->state != RESTING;
}

/* supervise.c */
unsigned hsm_supervisor_count(const struct supervisor *supervisor, enum slot_state state);
unsigned hsm_supervisor_count_serving(struct supervisor *supervisor);

/* supervise_reload.c */

/** Try a new configuration if one was requested and can be tried now. */
void hsm_supervisor_begin_reload(struct supervisor *supervisor, int64_t now);
/** The deadline of the reload in progress; NEVER: there is none. */
int64_t hsm_supervisor_reload_due(const struct supervisor *supervisor);
/** Give up a reload that made no progress until its deadline. */
void hsm_supervisor_give_up_reload(struct supervisor *supervisor, int64_t now);
/** A worker became ready. */
void hsm_supervisor_go_on_reloading(struct supervisor *supervisor, struct slot *slot, int64_t now);
/** A worker ended. True: it was the candidate, and the configuration is given up. */
bool hsm_supervisor_reload_failed(struct supervisor *supervisor, const struct slot *slot,
                                  const char *why);

/* supervise_worker.c */

/** How many processes share limited resources, this one included: the workers and the extra one
 * with which a reload begins; without a supervisor 1. */
unsigned hsm_supervisor_processes(void);

/** Called in a process that was just forked. */
_Noreturn void hsm_supervisor_work(const struct supervisor *supervisor, struct hsm_worker *worker);

#endif
