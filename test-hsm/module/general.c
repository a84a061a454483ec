/* general.c - C_Initialize, C_Finalize, C_GetInfo (PKCS #11 section 5.4). */
#include "behind.h"
#include "call.h"
#include "control.h"
#include "handles.h"
#include "world.h"
#include "wrap.h"

/*
 * A child of fork() must initialise again (section 5.4.1, C_Initialize). A module behind that would
 * continue with its parent's sessions is finalised first.
 */
static CK_RV
initialize(void *args)
{
    CK_RV rv = fault_behind->C_Initialize(args);

    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED && fault_behind_is_inherited()) {
        fault_behind->C_Finalize(NULL);
        rv = fault_behind->C_Initialize(args);
    }
    return rv;
}

CK_RV
fault_C_Initialize(void *args)
{
    struct fault_call call;

    if (fault_call_enter_any(&call, FN_C_Initialize)) {
        fault_world_stop();
        call.rv = initialize(args);
        if (call.rv == CKR_OK || call.rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
            fault_behind_set_initialized(true);
        fault_world_resume();
        fault_control_listen();
    }
    return fault_call_leave(&call);
}

static CK_RV
finalize(void *reserved)
{
    CK_RV rv;

    if (!fault_behind_is_initialized())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    rv = fault_behind->C_Finalize(reserved);
    if (rv == CKR_OK) {
        fault_behind_set_initialized(false);
        fault_world_forget();
    }
    return rv;
}

CK_RV
fault_C_Finalize(void *reserved)
{
    struct fault_call call;

    if (fault_call_enter_any(&call, FN_C_Finalize)) {
        fault_session_check_finalize();
        fault_world_stop();
        call.rv = finalize(reserved);
        fault_world_resume();
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetInfo(CK_INFO *info)
{
    struct fault_call call;

    if (fault_call_enter_module(&call, FN_C_GetInfo)) {
        fault_world_enter();
        call.rv = fault_behind->C_GetInfo(info);
        fault_world_leave();
    }
    return fault_call_leave(&call);
}
