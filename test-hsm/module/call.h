/*
 * call.h - the frame of every function: count the call, apply faults and latency, translate its
 * session, call the module behind, log it.
 *
 *     struct fault_call call;
 *
 *     if (fault_call_enter(&call, FN_C_SignUpdate, session))
 *         call.rv = fault_behind->C_SignUpdate(call.session, part, len);
 *     return fault_call_leave(&call);
 */
#ifndef FAULT_CALL_H
#define FAULT_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include "functions.h"
#include "handles.h"
#include "rules.h"

struct fault_call {
    enum fault_fn fn;
    const char *subject; /* as in log.h */
    unsigned long number; /* the caller's session handle or slot */
    CK_SESSION_HANDLE session; /* handle in the module behind */
    CK_SLOT_ID slot_id; /* slot in the module behind */
    struct fault_session *entry; /* NULL without a session */
    struct fault_session *used; /* the session in which the call is counted */
    unsigned slot; /* index of slots.h */
    const struct fault_strike *strike; /* never NULL */
    struct fault_strike own; /* unset unless something struck */
    CK_RV rv; /* the return value */
    int64_t begun_ns;
    bool inside; /* holds the world for reading */
    bool engine; /* holds an engine */
};

/** Begin a call. True: it goes through; the caller sets call->rv to what the module behind returns.
 */
bool fault_call_enter(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session);

/** fault_call_enter() for a call that does not go through: the session is checked, the world is not
 *  entered. */
bool fault_call_enter_local(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session);

/** fault_call_enter() for functions of a slot. */
bool fault_call_enter_slot(struct fault_call *call, enum fault_fn fn, CK_SLOT_ID slot);

/** fault_call_enter() for functions of the module; the world is not entered. */
bool fault_call_enter_module(struct fault_call *call, enum fault_fn fn);

/** fault_call_enter() for functions that need no initialised module, such as C_Initialize. */
bool fault_call_enter_any(struct fault_call *call, enum fault_fn fn);

/** Enter the world in a local call, which then may go through after all. */
bool fault_call_go_inside(struct fault_call *call);

/** The handle in the module behind for a caller's handle; CK_INVALID_HANDLE for an invalid one. */
CK_OBJECT_HANDLE fault_call_object(const struct fault_call *call, CK_OBJECT_HANDLE object);

/** fault_call_object() for a key that is about to be used. */
CK_OBJECT_HANDLE fault_call_key(const struct fault_call *call, CK_OBJECT_HANDLE key);

/** The return value for the use of an object, which after a logout by others becomes that reason.
 */
CK_RV fault_call_object_rv(const struct fault_call *call, CK_RV rv);

/** After success, translate the handle of an object that was made or found into a caller's handle.
 */
CK_RV fault_call_show(const struct fault_call *call, CK_RV rv, CK_OBJECT_HANDLE *object);

/** End a call; returns the value for the caller. */
CK_RV fault_call_leave(struct fault_call *call);

#endif
