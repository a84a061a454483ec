/* recover.c - the thread that looks after a token: recovery and probes. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <hsm/log.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "signer_internal.h"
#include "slot_internal.h"
#include "thread_internal.h"

#define ATTEMPT_WAIT_MS 1000 /* for callers to leave the module, per attempt */
#define LOGIN_WAIT_MS   3000 /* for another connection or worker that presents the same PIN */
#define LOOK_WAIT_MS    100 /* for calls in progress, to look for a missing key */
#define MISSING_WAIT_MS 50 /* between searches for a key that may come back, at first */
#define MISSING_LOOKS   40 /* searches at that interval; then it doubles up to the probe interval */

void
hsm_slot_lost(struct hsm_slot *slot, unsigned epoch, bool restart, const char *why)
{
    if (!hsm_pool_suspend(&slot->pool, epoch))
        return; /* already reported, or the epoch is over */
    atomic_fetch_add(&slot->counters.losses, 1);
    hsm_log(HSM_LOG_WARNING, "token %s: lost: %s", slot->name, why);
    hsm_slot_report(slot, HSM_EVENT_LOST, why);
    pthread_mutex_lock(&slot->care_lock);
    slot->lost = true;
    slot->restart_wanted = restart;
    pthread_cond_broadcast(&slot->care_changed);
    pthread_mutex_unlock(&slot->care_lock);
}

/* ---- locating the token, and the login ---- */

static bool
is_in_slot(const struct hsm_slot *slot, CK_SLOT_ID id, CK_TOKEN_INFO *info)
{
    return hsm_module_functions(slot->module)->C_GetTokenInfo(id, info) == CKR_OK &&
           (info->flags & CKF_TOKEN_INITIALIZED) != 0 && hsm_is_same_token(info, &slot->token);
}

/* Identify the token by CK_TOKEN_INFO, as its slot may have another number than before; *flags
 * receives its present flags. */
static enum hsm_status
locate(struct hsm_slot *slot, CK_FLAGS *flags)
{
    CK_TOKEN_INFO info;
    CK_SLOT_ID *ids = NULL;
    CK_ULONG count = 0;
    bool found = is_in_slot(slot, slot->id, &info);

    if (!found && hsm_module_slots(slot->module, &ids, &count) != CKR_OK)
        return HSM_ERR_BUSY;
    for (CK_ULONG i = 0; i < count && !found; i++) {
        found = is_in_slot(slot, ids[i], &info);
        if (found)
            slot->id = ids[i];
    }
    free(ids);
    if (!found)
        return HSM_ERR_BUSY;
    *flags = info.flags;
    return HSM_OK;
}

static CK_RV
open_control(struct hsm_slot *slot)
{
    const CK_FUNCTION_LIST *functions = hsm_module_functions(slot->module);
    CK_RV rv;

    if (slot->control_epoch != 0 && slot->control_epoch == hsm_module_epoch(slot->module))
        (void)functions->C_CloseSession(slot->control);
    slot->control_epoch = 0;
    rv = functions->C_OpenSession(slot->id, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                  &slot->control);
    if (rv == CKR_OK)
        slot->control_epoch = hsm_module_epoch(slot->module);
    return rv;
}

/* Includes unknown values: a vendor's own "wrong PIN", presented again and again, would lock the
 * token. */
static bool
is_refusal(CK_RV rv)
{
    return hsm_ckr_action(rv) == HSM_CKR_PIN || !hsm_ckr_is_known(rv);
}

void
hsm_care_take_pin(struct hsm_slot *slot, struct hsm_secret *pin)
{
    struct hsm_secret *before;

    pthread_mutex_lock(&slot->care_lock);
    before = slot->next_pin;
    slot->next_pin = pin;
    pthread_mutex_unlock(&slot->care_lock);
    hsm_secret_free(before);
}

/* Inside the admin gate. */
static void
use_next_pin(struct hsm_slot *slot)
{
    struct hsm_secret *next;

    pthread_mutex_lock(&slot->care_lock);
    next = slot->next_pin;
    slot->next_pin = NULL;
    pthread_mutex_unlock(&slot->care_lock);
    if (next == NULL)
        return;
    hsm_secret_free(slot->pin);
    slot->pin = next;
}

/* Presents it once; a refusal is recorded before it is reported. */
static enum hsm_status
present_pin(struct hsm_slot *slot)
{
    CK_UTF8CHAR *octets;
    CK_RV rv;

    use_next_pin(slot);
    octets = (CK_UTF8CHAR *)hsm_secret_octets(slot->pin);
    atomic_fetch_add(&slot->counters.logins, 1);
    rv = hsm_module_functions(slot->module)
             ->C_Login(slot->control, CKU_USER, octets, hsm_secret_len(slot->pin));
    if (!is_refusal(rv))
        return hsm_ckr_action(rv) == HSM_CKR_NONE
                   ? HSM_OK
                   : hsm_ckr_log_of(rv, "token", slot->name, "login");
    hsm_latch_set(&slot->token);
    hsm_slot_report(slot, HSM_EVENT_PIN_REFUSED, hsm_ckr_name(rv));
    (void)hsm_ckr_log_of(rv, "token", slot->name, "the PIN was refused, and is not tried again");
    return HSM_ERR_DENIED;
}

static enum hsm_status
login_unless_refused(struct hsm_slot *slot)
{
    enum hsm_status st;
    CK_RV rv;

    if (hsm_latch_is_set(&slot->token)) {
        hsm_log(HSM_LOG_ERROR, "token %s: the PIN was refused before: not tried again", slot->name);
        return HSM_ERR_DENIED;
    }
    rv = open_control(slot);
    if (rv != CKR_OK)
        return hsm_ckr_log_of(rv, "token", slot->name, "C_OpenSession");
    st = present_pin(slot);
    if (st != HSM_OK) {
        (void)hsm_module_functions(slot->module)->C_CloseSession(slot->control);
        slot->control_epoch = 0;
    }
    return st;
}

/* One login at a time among all connections and workers, so that each knows of a refusal before it
 * tries. */
enum hsm_status
hsm_slot_login(struct hsm_slot *slot)
{
    struct hsm_gate *gate = slot->first != NULL ? &slot->first->login : &slot->login;
    enum hsm_status st = HSM_ERR_BUSY;

    if (!hsm_gate_enter(gate, LOGIN_WAIT_MS))
        return HSM_ERR_BUSY;
    if (hsm_latch_enter(&slot->token, LOGIN_WAIT_MS)) {
        st = login_unless_refused(slot);
        hsm_latch_leave(&slot->token);
    }
    hsm_gate_leave(gate);
    return st;
}

static bool
control_is_good(const struct hsm_slot *slot)
{
    CK_SESSION_INFO info;

    return slot->control_epoch != 0 && slot->control_epoch == hsm_module_epoch(slot->module) &&
           hsm_module_functions(slot->module)->C_GetSessionInfo(slot->control, &info) == CKR_OK &&
           info.state == CKS_RW_USER_FUNCTIONS;
}

/* ---- one attempt ---- */

/* No PIN is needed while the control session is still logged in. */
static enum hsm_status
log_in_again(struct hsm_slot *slot, CK_FLAGS flags)
{
    if (control_is_good(slot))
        return HSM_OK;
    if ((flags & (CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY)) == 0)
        return hsm_slot_login(slot);
    hsm_log(HSM_LOG_ERROR, "token %s: the PIN is locked, or one wrong one from it", slot->label);
    return HSM_ERR_DENIED;
}

/* In the module and inside the admin gate. */
static enum hsm_status
restore(struct hsm_slot *slot)
{
    CK_FLAGS flags = 0;
    enum hsm_status st = locate(slot, &flags);

    if (st == HSM_OK)
        st = log_in_again(slot, flags);
    if (st == HSM_OK)
        st = hsm_signers_find_again(slot, true);
    return st == HSM_OK ? hsm_signers_prove(slot) : st;
}

/* Called inside the module: until its calls may go on, no other slot must take it for still lost
 * and restart the module under them. */
static void
recovered(struct hsm_slot *slot, int64_t since)
{
    pthread_mutex_lock(&slot->care_lock);
    slot->lost = false;
    pthread_mutex_unlock(&slot->care_lock);
    hsm_log(HSM_LOG_INFO, "token %s: %s after %lld ms", slot->name,
            slot->opened ? "recovered" : "open",
            (long long)((hsm_clock_ns() - since) / HSM_NS_PER_MS));
    if (slot->opened) {
        atomic_fetch_add(&slot->counters.recoveries, 1);
        hsm_slot_report(slot, HSM_EVENT_RECOVERED, ""); /* before a call that waited can return */
    }
    slot->opened = true;
    pthread_mutex_lock(&slot->care_lock);
    if (!slot->closing) /* hsm_slot_close() may not have waited for this */
        hsm_pool_resume(&slot->pool);
    pthread_mutex_unlock(&slot->care_lock);
}

static enum hsm_status
attempt_inside(struct hsm_slot *slot, bool restart, int64_t since)
{
    int64_t deadline = hsm_deadline_after(ATTEMPT_WAIT_MS);
    unsigned before = hsm_module_epoch(slot->module);
    enum hsm_status st = HSM_OK;

    hsm_pool_drain(&slot->pool, deadline); /* a signature made across the recovery is verified */
    if (restart) {
        hsm_slot_begin_inside(slot);
        st = hsm_module_restart(slot->module, slot, deadline);
        hsm_slot_end_inside(slot);
    }
    if (slot->opened && hsm_module_epoch(slot->module) != before)
        atomic_fetch_add(&slot->counters.restarts, 1);
    if (st != HSM_OK || !hsm_slot_enter_to_log_in(slot, ATTEMPT_WAIT_MS))
        return HSM_ERR_BUSY;
    st = restore(slot);
    if (st == HSM_OK)
        recovered(slot, since);
    hsm_slot_leave(slot);
    return st;
}

static enum hsm_status
attempt(struct hsm_slot *slot, bool restart, int64_t since)
{
    enum hsm_status st;

    if (slot->opened)
        atomic_fetch_add(&slot->counters.attempts, 1);
    if (!hsm_slot_gate_enter(slot, ATTEMPT_WAIT_MS))
        return HSM_ERR_BUSY;
    st = attempt_inside(slot, restart, since);
    hsm_gate_leave(&slot->admin);
    return st;
}

/* ---- recovery ---- */

/* Half of the delay is random, so that processes that lost a token together do not return
 * together. */
static int64_t
with_jitter(unsigned backoff_ms)
{
    int64_t half = (int64_t)backoff_ms * HSM_NS_PER_MS / 2;
    uint64_t chance;

    if (RAND_bytes((uint8_t *)&chance, sizeof(chance)) != 1)
        return half;
    return half + (int64_t)(chance % (uint64_t)(half + 1));
}

/* Under care_lock. */
static void
pause_before_next(struct hsm_slot *slot, unsigned backoff_ms)
{
    struct timespec until = hsm_clock_timespec(hsm_clock_ns() + with_jitter(backoff_ms));
    int rc = 0;

    while (!slot->closing && rc == 0)
        rc = pthread_cond_clockwait(&slot->care_changed, &slot->care_lock, CLOCK_MONOTONIC, &until);
}

static void
refused(struct hsm_slot *slot)
{
    pthread_mutex_lock(&slot->care_lock);
    slot->lost = false;
    pthread_mutex_unlock(&slot->care_lock);
    hsm_log(HSM_LOG_ERROR, "token %s: out of service until somebody sees to its PIN", slot->name);
    hsm_pool_refuse(&slot->pool, HSM_ERR_DENIED);
}

/* Try a new login first; if that fails, restart the module. */
static void
recover(struct hsm_slot *slot, bool restart)
{
    unsigned backoff_ms = slot->settings.reconnect_min_ms;
    int64_t since = hsm_clock_ns();
    bool closing = false;

    if (!slot->opened)
        hsm_pool_refuse(&slot->pool, HSM_ERR_BUSY); /* not open yet, but callers may wait */
    for (unsigned tries = 0; !closing; tries++) {
        enum hsm_status st;

        hsm_ckr_log_quietly(tries > 0);
        st = attempt(slot, restart || slot->settings.quirks.restart, since);
        hsm_ckr_log_quietly(false);
        if (st == HSM_ERR_DENIED)
            refused(slot);
        if (st == HSM_OK || st == HSM_ERR_DENIED)
            return;
        restart = true;
        pthread_mutex_lock(&slot->care_lock);
        pause_before_next(slot, backoff_ms);
        closing = slot->closing;
        pthread_mutex_unlock(&slot->care_lock);
        backoff_ms = backoff_ms * 2 < slot->settings.reconnect_max_ms
                         ? backoff_ms * 2
                         : slot->settings.reconnect_max_ms;
    }
}

/* ---- probes ---- */

/* The limit may have been temporary. Stops at the first session that the token has no room for. */
static void
try_retired(struct hsm_slot *slot)
{
    struct hsm_session *session;
    unsigned epoch;

    while (hsm_pool_recall(&slot->pool, &session, &epoch)) {
        if (hsm_slot_session_ready(slot, session, epoch) != CKR_OK) {
            hsm_pool_retire_again(&slot->pool, session);
            return;
        }
        (void)hsm_pool_give(&slot->pool, session);
    }
}

/* Does not delay signatures: if the control session is in use, that proves more than a probe
 * would. */
static void
probe(struct hsm_slot *slot)
{
    unsigned epoch = hsm_pool_epoch(&slot->pool);
    bool missing = hsm_signers_missing(slot);
    bool good = true;
    unsigned wait_ms = missing ? LOOK_WAIT_MS : 0;

    if ((hsm_pool_service(&slot->pool) != HSM_OK && !hsm_pool_is_used_up(&slot->pool)) ||
        !hsm_slot_gate_enter(slot, 0))
        return;
    if (hsm_slot_enter(slot, missing ? HSM_TURN_READ : HSM_TURN_NONE, wait_ms,
                       hsm_deadline_after(wait_ms)) == HSM_ADMITTED) {
        good = control_is_good(slot);
        if (good && missing && hsm_signers_find_again(slot, false) != HSM_OK)
            good = control_is_good(slot);
        if (good)
            try_retired(slot);
        hsm_slot_leave(slot);
    }
    hsm_gate_leave(&slot->admin);
    if (!good)
        hsm_slot_lost(slot, epoch, false, "the control session of an idle token");
}

/* ---- the thread ---- */

/* How long an idle token is left alone; `looks` counts the searches for a missing key. */
static unsigned
pause_ms(struct hsm_slot *slot, unsigned *looks)
{
    unsigned ms = MISSING_WAIT_MS;

    if (!slot->opened || !hsm_signers_missing(slot)) {
        *looks = 0;
        return hsm_signers_pause_ms(slot, slot->settings.probe_ms);
    }
    ++*looks;
    for (unsigned i = MISSING_LOOKS; i < *looks && ms < slot->settings.probe_ms; i++)
        ms *= 2;
    return ms < slot->settings.probe_ms ? ms : slot->settings.probe_ms;
}

/* Under care_lock: true when the token is lost, false when a probe is due. A key that has just gone
 * missing is searched for as often as the first one was. */
static bool
wait_for_work(struct hsm_slot *slot, unsigned ms, unsigned *looks)
{
    struct timespec until = hsm_clock_timespec(hsm_deadline_after(ms));
    int rc = 0;

    while (!slot->closing && !slot->lost && !slot->look_wanted && rc == 0)
        rc = pthread_cond_clockwait(&slot->care_changed, &slot->care_lock, CLOCK_MONOTONIC, &until);
    if (slot->lost || slot->look_wanted)
        *looks = 0;
    slot->look_wanted = false;
    return slot->lost;
}

static void *
care(void *argument)
{
    struct hsm_slot *slot = argument;
    unsigned looks = 0;

    pthread_mutex_lock(&slot->care_lock);
    while (!slot->closing) {
        bool lost = wait_for_work(slot, pause_ms(slot, &looks), &looks);
        bool restart = slot->restart_wanted;

        if (slot->closing)
            break;
        pthread_mutex_unlock(&slot->care_lock);
        if (lost)
            recover(slot, restart);
        else
            probe(slot);
        pthread_mutex_lock(&slot->care_lock);
    }
    pthread_mutex_unlock(&slot->care_lock);
    OPENSSL_thread_stop(); /* the thread that waits for this end may end the process */
    pthread_mutex_lock(&slot->care_lock);
    slot->caring = false;
    pthread_cond_broadcast(&slot->care_changed);
    pthread_mutex_unlock(&slot->care_lock);
    hsm_slot_unref(slot);
    return NULL;
}

enum hsm_status
hsm_care_start(struct hsm_slot *slot)
{
    hsm_slot_ref(slot);
    slot->caring = true;
    if (hsm_thread_start(care, slot)) {
        hsm_watch_add(slot);
        return HSM_OK;
    }
    slot->caring = false;
    hsm_slot_unref(slot);
    return HSM_ERR_NOMEM;
}

bool
hsm_care_stop(struct hsm_slot *slot, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    int rc = 0;
    bool stopped;

    pthread_mutex_lock(&slot->care_lock);
    slot->closing = true;
    pthread_cond_broadcast(&slot->care_changed);
    while (slot->caring && rc == 0)
        rc = pthread_cond_clockwait(&slot->care_changed, &slot->care_lock, CLOCK_MONOTONIC, &until);
    stopped = !slot->caring;
    pthread_mutex_unlock(&slot->care_lock);
    return stopped;
}

void
hsm_care_open(struct hsm_slot *slot)
{
    pthread_mutex_lock(&slot->care_lock);
    slot->lost = true;
    slot->restart_wanted = true;
    pthread_cond_broadcast(&slot->care_changed);
    pthread_mutex_unlock(&slot->care_lock);
}

void
hsm_care_look(struct hsm_slot *slot)
{
    pthread_mutex_lock(&slot->care_lock);
    slot->look_wanted = true;
    pthread_cond_broadcast(&slot->care_changed);
    pthread_mutex_unlock(&slot->care_lock);
}
