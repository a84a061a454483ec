/* admin.c - admission to the control session: one caller at a time, and detection of stuck calls.
 */
#include "slot_internal.h"

#include <hsm/log.h>

#include "clock_internal.h"

#define TURN_STEP_MS   1 /* between polls while other processes hold the file lock */
#define HOPELESS_TIMES 20 /* times op_timeout_ms: a call inside for longer will not return */

/* ---- stuck calls ---- */

/* The slots of this process whose care thread runs. */
static struct {
    pthread_mutex_t lock;
    struct hsm_slot *first;
} watched = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
hsm_watch_forget(void)
{
    pthread_mutex_init(&watched.lock, NULL);
    watched.first = NULL;
}

void
hsm_watch_add(struct hsm_slot *slot)
{
    pthread_mutex_lock(&watched.lock);
    slot->next_watched = watched.first;
    watched.first = slot;
    pthread_mutex_unlock(&watched.lock);
}

void
hsm_watch_remove(struct hsm_slot *slot)
{
    struct hsm_slot **link = &watched.first;

    pthread_mutex_lock(&watched.lock);
    while (*link != NULL && *link != slot)
        link = &(*link)->next_watched;
    if (*link == slot)
        *link = slot->next_watched;
    pthread_mutex_unlock(&watched.lock);
}

void
hsm_slot_begin_inside(struct hsm_slot *slot)
{
    slot->inside_is_reported = false;
    slot->inside_since = hsm_clock_ns();
}

void
hsm_slot_end_inside(struct hsm_slot *slot)
{
    slot->inside_since = 0;
}

static bool
is_inside_for(const struct hsm_slot *slot, int64_t ms)
{
    int64_t since = slot->inside_since;

    return since != 0 && hsm_clock_ns() - since > ms * HSM_NS_PER_MS;
}

bool
hsm_slot_is_stuck_inside(const struct hsm_slot *slot)
{
    return is_inside_for(slot, slot->settings.op_timeout_ms);
}

void
hsm_slot_look_inside(struct hsm_slot *slot)
{
    if (!hsm_slot_is_stuck_inside(slot) || atomic_exchange(&slot->inside_is_reported, true))
        return;
    atomic_fetch_add(&slot->counters.stuck, 1);
    hsm_log(HSM_LOG_WARNING, "token %s: a call that is not a signature is stuck in the module",
            slot->name);
    hsm_slot_report(slot, HSM_EVENT_STUCK, "");
}

/* Nothing in this process can mend it: without a session no key signs, and without its admin gate
 * the token cannot be recovered. */
static bool
is_hopeless(struct hsm_slot *slot)
{
    return hsm_pool_is_used_up(&slot->pool) ||
           is_inside_for(slot, (int64_t)HOPELESS_TIMES * slot->settings.op_timeout_ms);
}

bool
hsm_process_is_hopeless(void)
{
    bool hopeless = false;
    bool served = false;

    pthread_mutex_lock(&watched.lock);
    for (struct hsm_slot *slot = watched.first; slot != NULL; slot = slot->next_watched) {
        bool is_lost = is_hopeless(slot);

        hsm_slot_look_inside(slot);
        hopeless = hopeless || is_lost;
        served = served || (!is_lost && hsm_pool_service(&slot->pool) == HSM_OK);
    }
    pthread_mutex_unlock(&watched.lock);
    return hopeless && !served;
}

/* ---- entering the module ---- */

bool
hsm_slot_gate_enter(struct hsm_slot *slot, unsigned timeout_ms)
{
    bool entered = hsm_gate_enter(&slot->admin, timeout_ms);

    if (!entered)
        hsm_slot_look_inside(slot);
    return entered;
}

static int
place_of(const struct hsm_slot *slot, enum hsm_turn turn)
{
    if (turn == HSM_TURN_NONE || !slot->settings.quirks.shared_files)
        return -1;
    return hsm_host_place(hsm_module_path(slot->module));
}

/* Holds neither the module nor the lock while it waits for the other: where one call goes in at a
 * time, signatures do not wait for other processes, and other processes do not wait for a stuck
 * call of this one. */
static enum hsm_admission
enter_in_turn(const struct hsm_slot *slot, enum hsm_turn turn, int place, unsigned wait_ms,
              int64_t deadline)
{
    for (;;) {
        int64_t soon = hsm_deadline_after(wait_ms);

        if (!hsm_module_enter(slot->module, soon < deadline ? soon : deadline))
            return HSM_KEPT_BY_CALLS;
        if (place < 0 || hsm_host_try(place, turn))
            return HSM_ADMITTED;
        hsm_module_leave(slot->module);
        if (hsm_clock_ns() >= deadline)
            return HSM_KEPT_BY_FILES;
        hsm_clock_sleep_until(hsm_deadline_after(TURN_STEP_MS));
    }
}

enum hsm_admission
hsm_slot_enter(struct hsm_slot *slot, enum hsm_turn turn, unsigned wait_ms, int64_t deadline)
{
    int place = place_of(slot, turn);
    enum hsm_admission admission = enter_in_turn(slot, turn, place, wait_ms, deadline);

    if (admission != HSM_ADMITTED) {
        hsm_host_unlock(place);
        return admission;
    }
    slot->turn = place;
    atomic_fetch_add(&slot->load, 1); /* steers signatures to a less loaded connection */
    hsm_slot_begin_inside(slot);
    return HSM_ADMITTED;
}

bool
hsm_slot_enter_to_log_in(struct hsm_slot *slot, unsigned wait_ms)
{
    enum hsm_admission admission =
        hsm_slot_enter(slot, HSM_TURN_WRITE, wait_ms, hsm_deadline_after(HSM_HOST_WAIT_MS));

    if (admission == HSM_KEPT_BY_FILES) {
        hsm_log(HSM_LOG_WARNING,
                "token %s: other processes keep its files locked: continuing without the lock",
                slot->name);
        admission = hsm_slot_enter(slot, HSM_TURN_NONE, wait_ms, hsm_deadline_after(wait_ms));
    }
    return admission == HSM_ADMITTED;
}

void
hsm_slot_leave(struct hsm_slot *slot)
{
    hsm_slot_end_inside(slot);
    atomic_fetch_sub(&slot->load, 1);
    hsm_host_unlock(slot->turn);
    hsm_module_leave(slot->module);
}

/* ---- the control session, logged in ---- */

/* What an admin caller waits for, and until when. */
struct wish {
    enum hsm_turn turn;
    int64_t deadline;
    const char *kept_by; /* the obstacle, for the log */
};

static enum hsm_status
wait_until_served(struct hsm_slot *slot, struct wish *wish)
{
    enum hsm_status st = hsm_pool_await(&slot->pool, wish->deadline);

    wish->kept_by = st == HSM_ERR_BUSY ? "it is being recovered" : hsm_status_text(st);
    return st;
}

static enum hsm_status
enter_gate(struct hsm_slot *slot, struct wish *wish)
{
    wish->kept_by = "another call has its control session";
    return hsm_slot_gate_enter(slot, hsm_ms_until(wish->deadline)) ? HSM_OK : HSM_ERR_BUSY;
}

static enum hsm_status
enter_module(struct hsm_slot *slot, struct wish *wish)
{
    enum hsm_admission admission =
        hsm_slot_enter(slot, wish->turn, hsm_ms_until(wish->deadline), wish->deadline);

    wish->kept_by = admission == HSM_KEPT_BY_FILES ? "other processes keep its files busy"
                                                   : "calls in its module do not end";
    return admission == HSM_ADMITTED ? HSM_OK : HSM_ERR_BUSY;
}

/* The caller is in the module. If false, the slot's thread recovers what is missing. */
static bool
is_served_here(struct hsm_slot *slot)
{
    unsigned epoch = hsm_pool_epoch(&slot->pool);

    if (hsm_pool_service(&slot->pool) != HSM_OK)
        return false;
    if (slot->control_epoch == hsm_module_epoch(slot->module))
        return true;
    hsm_slot_lost(slot, epoch, false, "the module was restarted under its control session");
    return false;
}

/* *again is true if the token was lost meanwhile and there is time left. */
static enum hsm_status
try_to_enter(struct hsm_slot *slot, struct wish *wish, bool *again)
{
    enum hsm_status st = wait_until_served(slot, wish);

    *again = false;
    if (st == HSM_OK)
        st = enter_gate(slot, wish);
    if (st != HSM_OK)
        return st;
    st = enter_module(slot, wish);
    if (st == HSM_OK && is_served_here(slot))
        return HSM_OK;
    if (st == HSM_OK) {
        hsm_slot_leave(slot);
        wish->kept_by = "it is being recovered";
        *again = hsm_clock_ns() < wish->deadline;
    }
    hsm_gate_leave(&slot->admin);
    return HSM_ERR_BUSY;
}

enum hsm_status
hsm_slot_admin_enter(struct hsm_slot *slot, enum hsm_turn turn)
{
    struct wish wish = {.turn = turn, .deadline = hsm_deadline_after(slot->settings.op_timeout_ms)};
    enum hsm_status st;
    bool again;

    do
        st = try_to_enter(slot, &wish, &again);
    while (again);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "token %s: not asked: %s", slot->label, wish.kept_by);
    return st;
}

bool
hsm_slot_control_is_lost(const struct hsm_slot *slot)
{
    CK_SESSION_INFO info;
    CK_RV rv = hsm_module_functions(slot->module)->C_GetSessionInfo(slot->control, &info);

    return rv != CKR_OK || info.state != CKS_RW_USER_FUNCTIONS;
}

/* Statuses that a call on a lost token can return. */
static bool
may_be_lost(enum hsm_status status)
{
    return status == HSM_ERR_BUSY || status == HSM_ERR_NOT_FOUND || status == HSM_ERR_CRYPTO ||
           status == HSM_ERR_UNSUPPORTED || status == HSM_ERR_UNTRUSTED;
}

bool
hsm_slot_admin_leave(struct hsm_slot *slot, enum hsm_status status)
{
    bool lost = may_be_lost(status) && hsm_slot_control_is_lost(slot);

    if (lost)
        hsm_slot_lost(slot, hsm_pool_epoch(&slot->pool), false, "the control session");
    hsm_slot_leave(slot);
    hsm_gate_leave(&slot->admin);
    return lost;
}
