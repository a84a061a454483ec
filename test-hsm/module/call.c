/* call.c - the frame of every function. */
#include "call.h"

#include "armed.h"
#include "behind.h"
#include "count.h"
#include "latency.h"
#include "log.h"
#include "slots.h"
#include "throttle.h"
#include "world.h"

static const struct fault_strike no_strike;

static void
begin(struct fault_call *call, enum fault_fn fn, const char *subject, unsigned long number)
{
    call->fn = fn;
    call->subject = subject;
    call->number = number;
    call->session = CK_INVALID_HANDLE;
    call->slot_id = 0;
    call->entry = NULL;
    call->used = NULL;
    call->slot = FAULT_EVERY_SLOT;
    call->strike = &no_strike;
    call->rv = CKR_OK;
    call->inside = false;
    call->engine = false;
    call->begun_ns = fault_log_is_on() ? fault_now_ns() : 0;
    fault_count_call(fn);
}

/* True if the call must not reach the module behind. An error that ends an operation must end it
 * there, too: such a call goes through. */
static bool
is_not_done(const struct fault_call *call)
{
    const struct fault_strike *strike = call->strike;

    if (!strike->answers || strike->read_only)
        return false;
    return strike->outcome == FAULT_ACTIVE ||
           (strike->outcome == FAULT_ENDED && !fault_fn_ends_operation(call->fn));
}

/* Apply whatever happens to a call before it reaches the token; false: call->rv is returned. */
static bool
meet_faults(struct fault_call *call, CK_SESSION_HANDLE session)
{
    unsigned armed = fault_is_armed(call->fn);

    if (armed == 0 && !fault_fn_is_crypto(call->fn))
        return true;
    if (fault_rules_decide(call->fn, call->slot, &call->own)) {
        call->strike = &call->own;
        fault_world_effect(&call->own, call->slot, session);
        if (call->own.holds || call->own.delay_ns > 0)
            fault_hold(call->own.delay_ns, call->own.holds);
    }
    if ((armed & FAULT_ARMED_THROTTLE) != 0) {
        call->rv = fault_throttle_take(call->fn);
        if (call->rv != CKR_OK)
            return false;
    }
    if (fault_fn_is_crypto(call->fn))
        call->engine = fault_engine_take();
    if ((armed & FAULT_ARMED_LATENCY) != 0)
        fault_latency_spend(call->fn);
    if (is_not_done(call))
        call->rv = call->strike->rv;
    return call->rv == CKR_OK;
}

static bool
is_ready(struct fault_call *call)
{
    if (!fault_behind_is_initialized())
        call->rv = CKR_CRYPTOKI_NOT_INITIALIZED;
    return call->rv == CKR_OK;
}

/* Look the session up again: it may have been lost while the call slept. */
static bool
find_session(struct fault_call *call, CK_SESSION_HANDLE session)
{
    call->entry = fault_session_get(session);
    if (call->entry == NULL) {
        call->rv = fault_slot_lost_session();
        return false;
    }
    call->session = atomic_load(&call->entry->real);
    call->slot = atomic_load(&call->entry->slot);
    return true;
}

static void
enter_world(struct fault_call *call)
{
    fault_world_enter();
    call->inside = true;
}

bool
fault_call_enter_local(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session)
{
    begin(call, fn, "session", session);
    if (!is_ready(call))
        return false;
    call->used = fault_session_get(session);
    if (call->used != NULL) {
        fault_session_use(call->used);
        call->slot = atomic_load(&call->used->slot);
    }
    return meet_faults(call, session) && is_ready(call) && find_session(call, session);
}

bool
fault_call_go_inside(struct fault_call *call)
{
    enter_world(call);
    return is_ready(call) && find_session(call, call->number);
}

bool
fault_call_enter(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session)
{
    return fault_call_enter_local(call, fn, session) && fault_call_go_inside(call);
}

static bool
is_there(struct fault_call *call)
{
    enum fault_removal how;

    if (fault_slot_is_away(call->slot, &how))
        call->rv = how == FAULT_REMOVE_SLOT       ? CKR_SLOT_ID_INVALID
                   : call->fn == FN_C_GetSlotInfo ? CKR_OK
                                                  : CKR_TOKEN_NOT_PRESENT;
    return call->rv == CKR_OK;
}

static bool
find_slot(struct fault_call *call, CK_SLOT_ID slot)
{
    if (!fault_slot_find(slot, &call->slot))
        call->rv = CKR_SLOT_ID_INVALID;
    else
        call->slot_id = fault_slot_real(call->slot);
    return call->rv == CKR_OK;
}

bool
fault_call_enter_slot(struct fault_call *call, enum fault_fn fn, CK_SLOT_ID slot)
{
    begin(call, fn, "slot", slot);
    if (!is_ready(call) || !find_slot(call, slot) || !meet_faults(call, CK_INVALID_HANDLE))
        return false;
    enter_world(call);
    if (!is_ready(call) || !find_slot(call, slot))
        return false;
    fault_slot_learn(call->slot);
    return is_there(call);
}

bool
fault_call_enter_any(struct fault_call *call, enum fault_fn fn)
{
    begin(call, fn, NULL, 0);
    return meet_faults(call, CK_INVALID_HANDLE);
}

bool
fault_call_enter_module(struct fault_call *call, enum fault_fn fn)
{
    begin(call, fn, NULL, 0);
    return is_ready(call) && meet_faults(call, CK_INVALID_HANDLE) && is_ready(call);
}

CK_OBJECT_HANDLE
fault_call_object(const struct fault_call *call, CK_OBJECT_HANDLE object)
{
    return fault_object_real(call->slot, object);
}

CK_OBJECT_HANDLE
fault_call_key(const struct fault_call *call, CK_OBJECT_HANDLE key)
{
    return fault_world_material(call->slot, call->session, fault_object_real(call->slot, key));
}

CK_RV
fault_call_object_rv(const struct fault_call *call, CK_RV rv)
{
    if ((rv == CKR_OBJECT_HANDLE_INVALID || rv == CKR_KEY_HANDLE_INVALID) &&
        fault_slot_is_logged_out(call->slot))
        return CKR_USER_NOT_LOGGED_IN;
    return rv;
}

CK_RV
fault_call_show(const struct fault_call *call, CK_RV rv, CK_OBJECT_HANDLE *object)
{
    if (rv != CKR_OK)
        return rv;
    *object = fault_object_shown(call->slot, *object);
    return *object != CK_INVALID_HANDLE ? CKR_OK : CKR_HOST_MEMORY;
}

static void
write_log(const struct fault_call *call)
{
    struct fault_log_line line = {call->fn, call->subject, call->number, call->rv, call->begun_ns};

    fault_log_write(&line);
}

CK_RV
fault_call_leave(struct fault_call *call)
{
    if (call->inside)
        fault_world_leave();
    if (call->engine)
        fault_engine_release();
    if (call->used != NULL)
        fault_session_leave(call->used);
    if (call->strike->answers && !call->strike->read_only && call->rv == CKR_OK)
        call->rv = call->strike->rv;
    if (call->rv != CKR_OK)
        fault_count_failure(call->fn);
    if (call->begun_ns != 0 && fault_log_is_on())
        write_log(call);
    return call->rv;
}
