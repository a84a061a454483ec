/*
 * slot_internal.h - a token that is open: its login, its sessions, its recovery.
 *
 * One per token and process (but see connection_internal.h), shared by the
 * hsm_tokens that have it open and by the keys and EVP_PKEYs that sign with it. Beside the pool,
 * whose sessions sign, there is one control session, which keeps the login alive and does all other
 * work, for one caller at a time. The slot's thread recovers the token when a caller reports that
 * it failed, and probes an idle one now and then.
 */
#ifndef HSM_SLOT_INTERNAL_H
#define HSM_SLOT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>

#include "gate_internal.h"
#include "host_lock_internal.h"
#include "module_internal.h"
#include "pool_internal.h"
#include "quirk_internal.h"

struct hsm_journal;
struct hsm_signer;
struct hsm_workers;

/* struct hsm_token_config with its defaults filled in. */
struct hsm_settings {
    enum hsm_route route;
    unsigned sessions;
    unsigned workers;
    unsigned queue_max;
    unsigned op_timeout_ms;
    unsigned reconnect_min_ms;
    unsigned reconnect_max_ms;
    unsigned verify_every;
    unsigned probe_ms;
    struct hsm_quirks quirks;
    void (*event)(void *context, const struct hsm_event *event);
    void *event_context;
};

struct hsm_counters {
    atomic_ullong signatures, failures, timeouts, retries, throttled, verified, wrong_signatures;
    atomic_ullong sessions_dropped, losses, recoveries, attempts, restarts, logins, stuck;
};

struct hsm_slot {
    struct hsm_module *module; /* not touched any more once the slot is closed */
    atomic_ulong id; /* CK_SLOT_ID; may be another one after a recovery */
    CK_TOKEN_INFO token; /* which it is */
    char label[33];
    char name[64]; /* for the log: the label, and which connection */
    struct hsm_settings settings;
    struct hsm_secret *pin; /* to log in again; inside the admin gate */
    struct hsm_settings asked; /* of who opened it first, before connections divided them */
    unsigned generation; /* hsm_fork_generation() when it was opened */

    struct hsm_pool pool;
    struct hsm_gate admin; /* one caller: the control session */
    CK_SESSION_HANDLE control; /* read-write, logged in; inside the admin gate */
    unsigned control_epoch; /* of the module; 0: there is none */
    int turn; /* of who is inside the module and the admin gate: what hsm_host_unlock() takes */

    pthread_mutex_t signers_lock;
    struct hsm_signer *signers;
    struct hsm_workers *workers; /* NULL: callers call the module */
    struct hsm_journal *journal; /* NULL: uses of keys are not written; the first's */

    struct hsm_slot *first; /* with a reference; NULL: it is that, connection_internal.h */
    struct hsm_slot *further[HSM_CONNECTIONS_MAX - 1];
    unsigned further_count;
    struct hsm_gate login; /* of the first, for all: the PIN is presented by one at a time */

    pthread_mutex_t care_lock; /* of what follows */
    pthread_cond_t care_changed;
    struct hsm_secret *next_pin; /* for the next login; NULL: the same */
    bool caring; /* the thread lives */
    bool closing;
    bool lost;
    bool restart_wanted;
    bool look_wanted; /* for a key that is new */
    bool opened; /* of the thread, once it lives: it was logged in before */

    char apart[HSM_CACHE_LINE];
    struct hsm_counters counters;
    char apart_too[HSM_CACHE_LINE];
    atomic_uint load; /* calls that chose this connection among others, and an admin caller */
    atomic_bool needed; /* of a further one: it is to be opened */
    atomic_uint stuck_now; /* signatures */
    _Atomic(int64_t) inside_since; /* since when somebody is in the module for it without a session
                                      of its pool, hsm_clock_ns(); 0: nobody is */
    atomic_bool inside_is_told; /* that they are stuck */
    atomic_uint refs; /* tokens and signers */
    unsigned users; /* tokens that have it open; under the module's lock */
    struct hsm_slot *next; /* on the module */
    struct hsm_slot *next_watched;
};

/** Fill in defaults and bounds; HSM_ERR_USAGE, logged, for a setting out of its range. */
HSM_MUST_CHECK enum hsm_status hsm_settings_from(const struct hsm_token_config *config,
                                                 const CK_INFO *module, const CK_TOKEN_INFO *token,
                                                 struct hsm_settings *out);

/**
 * Log in to the token in a slot and start its sessions, or share both. Under the
 * module's lock.
 *
 * @param token  what the token says of itself: names it
 * @param out    with a reference; hsm_slot_close()
 */
HSM_MUST_CHECK enum hsm_status hsm_slot_open(struct hsm_module *module, CK_SLOT_ID id,
                                             const CK_TOKEN_INFO *token,
                                             const struct hsm_token_config *config,
                                             const struct hsm_secret *pin, struct hsm_slot **out);

/**
 * The last user logs out; what still has a reference does not sign any more.
 * Under the module's lock.
 * False: a call is stuck in the module, which must not be released.
 */
bool hsm_slot_close(struct hsm_slot *slot);

/** Not logged in, not started, with one reference. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_slot_new(struct hsm_module *module, CK_SLOT_ID id,
                                            const CK_TOKEN_INFO *token,
                                            const struct hsm_settings *settings,
                                            const struct hsm_secret *pin, struct hsm_slot **out);

/** Nobody signs on it any more: log out and give up its reference; false as hsm_slot_close(). */
bool hsm_slot_stop(struct hsm_slot *slot, int64_t deadline);

void hsm_slot_ref(struct hsm_slot *slot);
void hsm_slot_unref(struct hsm_slot *slot);

/** Make sure of an open session for a taker; CKR_OK or what C_OpenSession said. */
HSM_MUST_CHECK CK_RV hsm_slot_session_ready(struct hsm_slot *slot, struct hsm_session *session,
                                            unsigned epoch);

/** Close it: the next taker opens it anew. Where one call goes in at a time and others do not end
 *  for a while, or until the deadline, it is closed by that taker, too. */
void hsm_slot_session_drop(struct hsm_slot *slot, struct hsm_session *session, int64_t deadline);

/**
 * What went wrong in this epoch of the pool was the token's fault: recover it.
 *
 * @param restart  a new login will not do
 */
void hsm_slot_lost(struct hsm_slot *slot, unsigned epoch, bool restart, const char *why);

/** Call the configured event callback. */
void hsm_slot_tell(const struct hsm_slot *slot, enum hsm_event_kind kind, const char *detail);

/* ---- admin.c ---- */

/** Slots that hsm_process_is_hopeless() looks at. */
void hsm_watch_add(struct hsm_slot *slot);
void hsm_watch_remove(struct hsm_slot *slot);

/** Enclose calls that may get stuck in the module; inside the admin gate. Begun again before each
 *  key of many, so that the time of one is measured and not that of all. */
void hsm_slot_begin_inside(struct hsm_slot *slot);
void hsm_slot_end_inside(struct hsm_slot *slot);

/** True if such a call takes longer than an operation may. */
bool hsm_slot_is_stuck_inside(const struct hsm_slot *slot);

/** Count and report a stuck call, once. */
void hsm_slot_look_inside(struct hsm_slot *slot);

/** Enter the admin gate; on a timeout hsm_slot_look_inside(). */
HSM_MUST_CHECK bool hsm_slot_gate_enter(struct hsm_slot *slot, unsigned timeout_ms);

enum hsm_admission {
    HSM_ADMITTED,
    HSM_KEPT_BY_CALLS, /* it was restarted, or one call goes in at a time and did not end */
    HSM_KEPT_BY_FILES /* other processes did not end */
};

/**
 * Enter the module, in turn where processes take turns; of those who are inside
 * the admin gate, or have the slot alone.
 *
 * @param wait_ms   for the module, each time that it is this process's turn
 * @param deadline  for all of it
 */
HSM_MUST_CHECK enum hsm_admission hsm_slot_enter(struct hsm_slot *slot, enum hsm_turn turn,
                                                 unsigned wait_ms, int64_t deadline);

/** hsm_slot_enter() to open or recover the token: out of turn if other processes do not finish. */
HSM_MUST_CHECK bool hsm_slot_enter_to_log_in(struct hsm_slot *slot, unsigned wait_ms);

void hsm_slot_leave(struct hsm_slot *slot);

/**
 * Enter the admin gate with a control session that is logged in, and the module,
 * in turn. Waits through a recovery, within the time of an operation. What kept
 * it out is logged.
 */
HSM_MUST_CHECK enum hsm_status hsm_slot_admin_enter(struct hsm_slot *slot, enum hsm_turn turn);

/** Inside the admin gate and the module: true if the control session is gone, or not logged in. */
bool hsm_slot_control_is_lost(const struct hsm_slot *slot);

/**
 * Leave it with how it went. True when it failed because the token was lost:
 * what changes nothing may be asked again, after the recovery that is under way.
 */
bool hsm_slot_admin_leave(struct hsm_slot *slot, enum hsm_status status);

/* ---- recover.c ---- */

/** Start the slot's own thread. */
HSM_MUST_CHECK enum hsm_status hsm_care_start(struct hsm_slot *slot);

/** The PIN of the next login and of those after it. */
void hsm_care_take_pin(struct hsm_slot *slot, struct hsm_secret *pin);

/** Ask it to end, and wait for it; false: it is stuck in the module. */
HSM_MUST_CHECK bool hsm_care_stop(struct hsm_slot *slot, int64_t deadline);

/** Have it open a connection that never was, or whose PIN was refused. */
void hsm_care_open(struct hsm_slot *slot);

/** Have it look for the keys that are missing. */
void hsm_care_look(struct hsm_slot *slot);

/** Open the control session and log in, once; entered to log in. */
HSM_MUST_CHECK enum hsm_status hsm_slot_login(struct hsm_slot *slot);

#endif
