/* supervise_group.h - a supervisor, whose events are recorded, and workers with memory that they
 * share. */
#ifndef TEST_SUPERVISE_GROUP_H
#define TEST_SUPERVISE_GROUP_H

#include <stddef.h>

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include <hsm/supervise.h>
#include <hsm/token.h>

#define WORKERS    3
#define EVENTS_MAX 256
#define LIMIT_S    30 /* a slower test is stuck itself */

/* The supervisor's events, and results of workers in shared memory. */
extern struct hsm_worker_event events[EVENTS_MAX];
extern size_t event_count;

struct shared {
    int runs[HSM_WORKERS_MAX]; /* by index; at most one worker per index runs at a time */
    int alone;
    int hups;
    atomic_uint opened, refused, logins; /* counts of workers whose token is lost */
    unsigned sessions; /* of one of two workers */
};

extern struct shared *shared;

/* If this returns true for an event, the supervisor receives SIGTERM. */
extern bool (*is_enough)(const struct hsm_worker_event *event);
extern bool is_asked;

/* Signal to send to the worker of an event; 0: none. */
extern int (*signal_for)(const struct hsm_worker_event *event);

/** Records an event, and does what is_enough and signal_for say. */
void on_event(void *context, const struct hsm_worker_event *event);

/** Recorded events of this kind. */
size_t count_of(enum hsm_worker_change change);

/** Those of the last event. */
const struct hsm_supervise_counts *last_counts(void);

/* Set by SIGTERM and SIGINT in serve(). */
extern volatile sig_atomic_t is_over;

/** Send a heartbeat and rest for ten milliseconds. */
void beat(struct hsm_worker *worker);

/* A well-behaved worker: it becomes ready, sends heartbeats and ends on request. */
enum hsm_status serve(struct hsm_worker *worker);

/** Count a run in `shared`; returns which one of this index it is. */
int begin_run(struct hsm_worker *worker);

/** A worker that does all that it must. */
enum hsm_status run_well(struct hsm_worker *worker, void *context);

/** WORKERS workers that run this, with short times; events go to on_event(). */
struct hsm_supervise_config
    supervise_with(enum hsm_status (*run)(struct hsm_worker *worker, void *context));

/** For is_enough. */
bool all_are_ready(const struct hsm_worker_event *event);
bool a_replacement_is_ready(const struct hsm_worker_event *event);
void assert_no_child_is_left(void);

/** For signal_for. */
int kill_the_last_when_all_are_ready(const struct hsm_worker_event *event);
bool two_were_ready(const struct hsm_worker_event *event);

/** A worker that ends with the status at `context`. */
enum hsm_status run_and_return(struct hsm_worker *worker, void *context);

/** cmocka setup of one test. */
int supervise_group_fresh(void **state);

/** cmocka group fixtures. */
int supervise_group_start(void **state);
int supervise_group_stop(void **state);

#endif
