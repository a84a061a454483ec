/*
 * call.h - the frame of every function: count it, see what strikes it, spend its time, translate
 * its session, go through, log it.
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
    unsigned long number; /* the session or slot as the caller knows it */
    CK_SESSION_HANDLE session; /* as the module behind knows it */
    CK_SLOT_ID slot_id; /* the same */
    struct fault_session *entry; /* NULL without a session */
    struct fault_session *used; /* the call is counted in this one */
    unsigned slot; /* index of slots.h */
    const struct fault_strike *strike; /* never NULL */
    struct fault_strike own; /* unset unless something struck */
    CK_RV rv; /* the answer */
    int64_t begun_ns;
    bool inside; /* the world is entered */
    bool engine; /* one is taken */
};

/** True: the call goes through; call->rv is to be what the module behind answers. */
bool fault_call_enter(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session);

/** The same for a call that does not go through: the session is checked, the world not entered. */
bool fault_call_enter_local(struct fault_call *call, enum fault_fn fn, CK_SESSION_HANDLE session);

/** For functions of a slot. */
bool fault_call_enter_slot(struct fault_call *call, enum fault_fn fn, CK_SLOT_ID slot);

/** For functions of the module; the world is not entered. */
bool fault_call_enter_module(struct fault_call *call, enum fault_fn fn);

/** Of the functions that make the module ready and put it away: it need not be initialised. */
bool fault_call_enter_any(struct fault_call *call, enum fault_fn fn);

/** From where a local call may go through after all. */
bool fault_call_go_inside(struct fault_call *call);

/** What a handle of the caller's is called behind; none where it is not good. */
CK_OBJECT_HANDLE fault_call_object(const struct fault_call *call, CK_OBJECT_HANDLE object);

/** The same, of a key that is about to be used. */
CK_OBJECT_HANDLE fault_call_key(const struct fault_call *call, CK_OBJECT_HANDLE key);

/** What the use of that object was answered; after a logout by others that is the reason. */
CK_RV fault_call_object_rv(const struct fault_call *call, CK_RV rv);

/** After success: the caller gets a handle of its own for what was made or found. */
CK_RV fault_call_show(const struct fault_call *call, CK_RV rv, CK_OBJECT_HANDLE *object);

/** The answer to give. */
CK_RV fault_call_leave(struct fault_call *call);

#endif
