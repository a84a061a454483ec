/*
 * supervise_internal.h - the supervisor and its workers.
 *
 * supervise.c         fork, listen to hearts, replace
 * supervise_reload.c  put workers of a new configuration in the place of the old ones
 * supervise_worker.c  what runs in a worker
 */
#ifndef HSM_SUPERVISE_INTERNAL_H
#define HSM_SUPERVISE_INTERNAL_H

#include <hsm/supervise.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#define SLOTS (2 * HSM_WORKERS_MAX) /* two halves: of a configuration, and of the one before */
#define NEVER INT64_MAX
#define BEAT  '.' /* what a worker writes on its line */
#define READY 'R'

struct hsm_worker {
    unsigned place; /* in the slots */
    bool is_alone;
    bool is_candidate;
    atomic_bool is_hopeless; /* and said so, instead of beating */
    int line; /* to the supervisor */
    pid_t supervisor;
    sigset_t mask; /* of a worker that serves */
};

enum slot_state {
    UNUSED,
    RESTING, /* there is no process, but will be */
    STARTING,
    SERVING,
    RETIRING, /* of the configuration before: it ends when its connections have */
    KILLED, /* and not reaped yet */
};

/* The place of one worker. Times are monotonic milliseconds. */
struct slot {
    enum slot_state state;
    pid_t pid;
    int line; /* from the worker; -1: it closed it, or there is none */
    int64_t until; /* RESTING: then it is started; with a process: then it is killed */
    int64_t retired_until; /* RETIRING: the same, whether it beats or not */
    int64_t ready_at;
    bool was_ready;
    bool is_retired; /* nobody starts it again */
    unsigned failures; /* in a row */
};

struct supervisor {
    struct hsm_supervise_config config; /* without zeros */
    struct slot slots[SLOTS];
    unsigned half; /* of the slots: 0 or 1, that of the configuration in use */
    pid_t pid;
    int signals; /* signalfd */
    sigset_t mask_before;
    struct sigaction chld_before;
    bool was_ready; /* a worker was, once */
    bool was_complete; /* all were, at once */
    bool is_stopping;
    int64_t stop_until;
    int64_t watchdog_ms, watchdog_at;
    bool wants_reload; /* SIGHUP came */
    struct slot *candidate; /* the first worker of a new configuration; NULL: none is tried */
    unsigned candidates; /* workers that this configuration wants */
    bool is_replacing; /* of the configuration in use not all workers serve that shall */
    bool is_going_back; /* it was in use before: the new one has failed */
    int64_t reload_until; /* while replacing: then it has failed */
    unsigned workers_before; /* the last reload */
    struct hsm_supervise_counts counts;
    enum hsm_status result;
};

/** The workers of the configuration in use: config.workers of them. */
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

/** Try a new configuration, if one is wanted and it is the time for it. */
void hsm_supervisor_begin_reload(struct supervisor *supervisor, int64_t now);
/** When a reload that goes on has failed; NEVER: none does. */
int64_t hsm_supervisor_reload_due(const struct supervisor *supervisor);
/** One that did not go on for too long is given up. */
void hsm_supervisor_give_up_reload(struct supervisor *supervisor, int64_t now);
/** A worker became ready. */
void hsm_supervisor_go_on_reloading(struct supervisor *supervisor, struct slot *slot, int64_t now);
/** A worker ended. True: it was the candidate, and the configuration is given up. */
bool hsm_supervisor_reload_failed(struct supervisor *supervisor, const struct slot *slot,
                                  const char *why);

/* supervise_worker.c */

/** How many processes share what they open, this one among them: workers and the one that a reload
 *  begins with beside them; or 1. */
unsigned hsm_supervisor_processes(void);

/** In a process that was just forked. */
_Noreturn void hsm_supervisor_work(const struct supervisor *supervisor, struct hsm_worker *worker);

#endif
