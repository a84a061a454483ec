/*
 * slot_internal.h - an open token: its login, its sessions, its recovery.
 *
 * One per token and process (but see connection_internal.h), shared by the hsm_tokens that have it
 * open and by the keys and EVP_PKEYs that sign with it. Beside the pool, whose sessions sign, there
 * is one control session, which keeps the login alive and does all other work, for one caller at a
 * time. The slot's thread recovers the token when a caller reports that it failed, and probes an
 * idle one now and then.
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
    struct hsm_module *module; /* not used any more once the slot is closed */
    atomic_ulong id; /* CK_SLOT_ID; may be another one after a recovery */
    CK_TOKEN_INFO token; /* identifies the token */
    char label[33];
    char name[64]; /* for the log: the label, and which connection */
    struct hsm_settings settings;
    struct hsm_secret *pin; /* for further logins; inside the admin gate */
    struct hsm_settings asked; /* the first opener's, before they were divided among connections */
    unsigned generation; /* hsm_fork_generation() when it was opened */

    struct hsm_pool pool;
    struct hsm_gate admin; /* admits one caller to the control session */
    CK_SESSION_HANDLE control; /* read-write, logged in; inside the admin gate */
    unsigned control_epoch; /* the module's epoch when it was opened; 0: no session */
    int turn; /* inside the module and the admin gate: argument of hsm_host_unlock() */

    pthread_mutex_t signers_lock;
    struct hsm_signer *signers;
    struct hsm_workers *workers; /* NULL: callers call the module themselves */
    struct hsm_journal *journal; /* owned by the first slot; NULL: uses of keys are not recorded */

    struct hsm_slot *first; /* with a reference; NULL: this is the first (connection_internal.h) */
    struct hsm_slot *further[HSM_CONNECTIONS_MAX - 1];
    unsigned further_count;
    struct hsm_gate login; /* in the first, for all connections: one presents the PIN at a time */

    pthread_mutex_t care_lock; /* protects the members below */
    pthread_cond_t care_changed;
    struct hsm_secret *next_pin; /* for the next login; NULL: unchanged */
    bool caring; /* the thread runs */
    bool closing;
    bool lost;
    bool restart_wanted;
    bool look_wanted; /* to look for a new key */
    bool opened; /* owned by the thread once it runs: it was logged in before */

    char apart[HSM_CACHE_LINE];
    struct hsm_counters counters;
    char apart_too[HSM_CACHE_LINE];
    atomic_uint load; /* calls that chose this connection among others, and an admin caller */
    atomic_bool needed; /* in a further connection: it is to be opened */
    atomic_uint stuck_now; /* signatures */
    _Atomic(int64_t) inside_since; /* start of a call in the module without a session of its pool,
                                    * hsm_clock_ns(); 0: no such call */
    atomic_bool inside_is_reported; /* that this call is stuck was reported */
    atomic_uint refs; /* held by tokens and signers */
    unsigned users; /* tokens that have it open; under the module's lock */
    struct hsm_slot *next; /* on the same module */
    struct hsm_slot *next_watched;
};

/** Fill in defaults and bounds; HSM_ERR_USAGE, logged, for a setting out of its range. */
HSM_MUST_CHECK enum hsm_status hsm_settings_from(const struct hsm_token_config *config,
                                                 const CK_INFO *module, const CK_TOKEN_INFO *token,
                                                 struct hsm_settings *out);

/**
 * Log in to the token in a slot and start its sessions, or share an open one. Under the module's
 * lock.
 *
 * @param token  what the token says of itself: identifies it
 * @param out    with a reference; hsm_slot_close()
 */
HSM_MUST_CHECK enum hsm_status hsm_slot_open(struct hsm_module *module, CK_SLOT_ID id,
                                             const CK_TOKEN_INFO *token,
                                             const struct hsm_token_config *config,
                                             const struct hsm_secret *pin, struct hsm_slot **out);

/**
 * The last user logs out; objects that still have a reference no longer sign. Under the module's
 * lock. False: a call is stuck in the module, which must not be released.
 */
bool hsm_slot_close(struct hsm_slot *slot);

/** Not logged in, not started, with one reference. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_slot_new(struct hsm_module *module, CK_SLOT_ID id,
                                            const CK_TOKEN_INFO *token,
                                            const struct hsm_settings *settings,
                                            const struct hsm_secret *pin, struct hsm_slot **out);

/** No key signs on it any more: log out and give up its reference; false as hsm_slot_close(). */
bool hsm_slot_stop(struct hsm_slot *slot, int64_t deadline);

void hsm_slot_ref(struct hsm_slot *slot);
void hsm_slot_unref(struct hsm_slot *slot);

/** Open the session for its taker if needed; CKR_OK or the value of C_OpenSession. */
HSM_MUST_CHECK CK_RV hsm_slot_session_ready(struct hsm_slot *slot, struct hsm_session *session,
                                            unsigned epoch);

/** Close the session: its next taker opens it again. If one call goes in at a time and others do
 * not end for a while, or until the deadline, that taker closes it first. */
void hsm_slot_session_drop(struct hsm_slot *slot, struct hsm_session *session, int64_t deadline);

/**
 * The token was at fault in this epoch of the pool: recover it.
 *
 * @param restart  a new login will not do
 */
void hsm_slot_lost(struct hsm_slot *slot, unsigned epoch, bool restart, const char *why);

/** Call the configured event callback. */
void hsm_slot_report(const struct hsm_slot *slot, enum hsm_event_kind kind, const char *detail);

/* ---- admin.c ---- */

/** Slots that hsm_process_is_hopeless() looks at. */
void hsm_watch_add(struct hsm_slot *slot);
void hsm_watch_remove(struct hsm_slot *slot);

/** Mark the start of a call that may get stuck in the module; inside the admin gate. Marked again
 * before each key of many, so that the time of one is measured and not that of all. */
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
    HSM_KEPT_BY_CALLS, /* it was being restarted, or calls that keep others out did not end */
    HSM_KEPT_BY_FILES /* other processes kept the files locked */
};

/**
 * Enter the module, in turn where processes take turns. The caller is inside the admin gate, or is
 * the only user of the slot.
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
 * Enter the admin gate with a control session that is logged in, and the module, in turn. Waits
 * through a recovery, within the time of an operation. The obstacle is logged.
 */
HSM_MUST_CHECK enum hsm_status hsm_slot_admin_enter(struct hsm_slot *slot, enum hsm_turn turn);

/** Inside the admin gate and the module: true if the control session is gone, or not logged in. */
bool hsm_slot_control_is_lost(const struct hsm_slot *slot);

/**
 * Leave with the result of the operation. True when it failed because the token was lost: an
 * operation that changes nothing may be repeated, after the recovery in progress.
 */
bool hsm_slot_admin_leave(struct hsm_slot *slot, enum hsm_status status);

/* ---- recover.c ---- */

/** Start the slot's own thread. */
HSM_MUST_CHECK enum hsm_status hsm_care_start(struct hsm_slot *slot);

/** The PIN for the next login and those after it; takes it over. */
void hsm_care_take_pin(struct hsm_slot *slot, struct hsm_secret *pin);

/** Stop the thread and wait for it; false: it is stuck in the module. */
HSM_MUST_CHECK bool hsm_care_stop(struct hsm_slot *slot, int64_t deadline);

/** Have the thread open a connection that never was open, or whose PIN was refused. */
void hsm_care_open(struct hsm_slot *slot);

/** Have the thread look for missing keys. */
void hsm_care_look(struct hsm_slot *slot);

/** Open the control session and log in, once; after hsm_slot_enter_to_log_in(). */
HSM_MUST_CHECK enum hsm_status hsm_slot_login(struct hsm_slot *slot);

#endif
