/* session.c - the functions of sessions and PINs (PKCS #11 sections 5.5 and 5.6). */
#include "behind.h"
#include "call.h"
#include "limit.h"
#include "slots.h"
#include "wrap.h"

/* No callback is passed on: known modules do not use it, and it would get a handle of the module
 * behind, which is meaningless to the caller. */
static CK_RV
open_session(struct fault_call *call, CK_FLAGS flags, CK_SESSION_HANDLE *session)
{
    struct fault_session *entry;
    CK_SESSION_HANDLE real;
    CK_RV rv = fault_limit_check(flags);

    if (call->strike->read_only && (flags & CKF_RW_SESSION) == 0)
        return call->strike->rv;
    if (rv != CKR_OK)
        return rv;
    if (session == NULL)
        return CKR_ARGUMENTS_BAD;
    entry = fault_session_reserve(call->slot, fault_limit_most());
    if (entry == NULL)
        return fault_limit_rv();
    rv = fault_behind->C_OpenSession(call->slot_id, flags, NULL, NULL, &real);
    if (rv == CKR_OK)
        *session = fault_session_publish(entry, real);
    else
        fault_session_release(entry);
    return rv;
}

CK_RV
fault_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                    CK_SESSION_HANDLE *session)
{
    struct fault_call call;

    (void)application;
    (void)notify;
    if (fault_call_enter_slot(&call, FN_C_OpenSession, slot))
        call.rv = open_session(&call, flags, session);
    return fault_call_leave(&call);
}

CK_RV
fault_C_CloseSession(CK_SESSION_HANDLE session)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_CloseSession, session)) {
        call.rv = fault_behind->C_CloseSession(call.session);
        if (call.rv == CKR_OK)
            fault_session_release(call.entry);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_CloseAllSessions(CK_SLOT_ID slot)
{
    struct fault_call call;

    if (fault_call_enter_slot(&call, FN_C_CloseAllSessions, slot)) {
        call.rv = fault_behind->C_CloseAllSessions(call.slot_id);
        if (call.rv == CKR_OK)
            fault_session_release_all(call.slot);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GetSessionInfo, session)) {
        call.rv = fault_behind->C_GetSessionInfo(call.session, info);
        if (call.rv == CKR_OK)
            info->slotID = fault_slot_shown(call.slot);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetOperationState(CK_SESSION_HANDLE session, CK_BYTE *state, CK_ULONG *len)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GetOperationState, session))
        call.rv = fault_behind->C_GetOperationState(call.session, state, len);
    return fault_call_leave(&call);
}

CK_RV
fault_C_SetOperationState(CK_SESSION_HANDLE session, CK_BYTE *state, CK_ULONG len,
                          CK_OBJECT_HANDLE encryption_key, CK_OBJECT_HANDLE authentication_key)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_SetOperationState, session))
        call.rv = fault_behind->C_SetOperationState(
            call.session, state, len, fault_object_real(call.slot, encryption_key),
            fault_object_real(call.slot, authentication_key));
    return fault_call_leave(&call);
}

static CK_RV
log_in(struct fault_call *call, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len)
{
    CK_RV rv = user == CKU_USER ? fault_slot_may_login(call->slot) : CKR_OK;

    if (rv != CKR_OK)
        return rv;
    rv = fault_behind->C_Login(call->session, user, pin, pin_len);
    if (user == CKU_USER)
        fault_slot_login_result(call->slot, rv);
    return rv;
}

CK_RV
fault_C_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_Login, session))
        call.rv = log_in(&call, user, pin, pin_len);
    return fault_call_leave(&call);
}

CK_RV
fault_C_Logout(CK_SESSION_HANDLE session)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_Logout, session))
        call.rv = fault_behind->C_Logout(call.session);
    return fault_call_leave(&call);
}

CK_RV
fault_C_InitPIN(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG pin_len)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_InitPIN, session))
        call.rv = fault_behind->C_InitPIN(call.session, pin, pin_len);
    return fault_call_leave(&call);
}

CK_RV
fault_C_SetPIN(CK_SESSION_HANDLE session, CK_BYTE *old_pin, CK_ULONG old_len, CK_BYTE *new_pin,
               CK_ULONG new_len)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_SetPIN, session))
        call.rv = fault_behind->C_SetPIN(call.session, old_pin, old_len, new_pin, new_len);
    return fault_call_leave(&call);
}
