/* object.c - the functions of objects (PKCS #11 section 5.7). */
#include "attribute.h"
#include "behind.h"
#include "call.h"
#include "wrap.h"

CK_RV
fault_C_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE *attributes, CK_ULONG count,
                     CK_OBJECT_HANDLE *object)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_CreateObject, session)) {
        call.rv = fault_behind->C_CreateObject(call.session, attributes, count, object);
        call.rv = fault_call_show(&call, call.rv, object);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes,
                   CK_ULONG count, CK_OBJECT_HANDLE *copy)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_CopyObject, session)) {
        call.rv = fault_behind->C_CopyObject(call.session, fault_call_object(&call, object),
                                             attributes, count, copy);
        call.rv = fault_call_show(&call, fault_call_object_rv(&call, call.rv), copy);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_DestroyObject, session)) {
        call.rv = fault_behind->C_DestroyObject(call.session, fault_call_object(&call, object));
        call.rv = fault_call_object_rv(&call, call.rv);
        if (call.rv == CKR_OK)
            fault_object_forget(call.slot, object);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetObjectSize(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG *size)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GetObjectSize, session)) {
        call.rv =
            fault_behind->C_GetObjectSize(call.session, fault_call_object(&call, object), size);
        call.rv = fault_call_object_rv(&call, call.rv);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GetAttributeValue, session)) {
        call.rv = fault_attributes_get(&call, object, attributes, count);
        call.rv = fault_call_object_rv(&call, call.rv);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_SetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_SetAttributeValue, session)) {
        call.rv = fault_behind->C_SetAttributeValue(call.session, fault_call_object(&call, object),
                                                    attributes, count);
        call.rv = fault_call_object_rv(&call, call.rv);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_FindObjectsInit, session)) {
        atomic_store(&call.entry->extra, CK_INVALID_HANDLE);
        call.rv = fault_behind->C_FindObjectsInit(call.session, attributes, count);
    }
    return fault_call_leave(&call);
}

/* Return one object handle more, now or with the next call; returns the number added to *count. */
static CK_ULONG
add_extra(struct fault_call *call, CK_OBJECT_HANDLE extra, CK_OBJECT_HANDLE *objects, CK_ULONG most,
          CK_ULONG count)
{
    if (count < most) {
        objects[count] = extra;
        return 1;
    }
    atomic_store(&call->entry->extra, extra);
    return 0;
}

static CK_RV
find_objects(struct fault_call *call, CK_OBJECT_HANDLE *objects, CK_ULONG most, CK_ULONG *count)
{
    const struct fault_strike *strike = call->strike;
    CK_ULONG wanted = strike->objects == FAULT_PARTIAL && strike->most < most ? strike->most : most;
    CK_OBJECT_HANDLE first = CK_INVALID_HANDLE;
    CK_RV rv = fault_behind->C_FindObjects(call->session, objects, wanted, count);

    if (rv == CKR_OK && *count > 0)
        first = objects[0];
    for (CK_ULONG i = 0; rv == CKR_OK && i < *count; i++)
        rv = fault_call_show(call, rv, &objects[i]);
    if (rv != CKR_OK || first == CK_INVALID_HANDLE)
        return rv;
    if (strike->objects == FAULT_DUPLICATE)
        *count += add_extra(call, objects[0], objects, most, *count);
    if (strike->objects == FAULT_TWIN)
        *count += add_extra(call, fault_object_twin(call->slot, first), objects, most, *count);
    return rv;
}

static CK_RV
find_none(CK_ULONG *count)
{
    *count = 0;
    return CKR_OK;
}

CK_RV
fault_C_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                    CK_ULONG *count)
{
    struct fault_call call;
    CK_OBJECT_HANDLE extra;

    if (fault_call_enter(&call, FN_C_FindObjects, session)) {
        extra = atomic_exchange(&call.entry->extra, CK_INVALID_HANDLE);
        if (call.strike->objects == FAULT_EMPTY && count != NULL)
            call.rv = find_none(count);
        else if (extra != CK_INVALID_HANDLE && objects != NULL && most > 0 && count != NULL)
            *count = add_extra(&call, extra, objects, most, 0);
        else
            call.rv = find_objects(&call, objects, most, count);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_FindObjectsFinal(CK_SESSION_HANDLE session)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_FindObjectsFinal, session)) {
        atomic_store(&call.entry->extra, CK_INVALID_HANDLE);
        call.rv = fault_behind->C_FindObjectsFinal(call.session);
    }
    return fault_call_leave(&call);
}
