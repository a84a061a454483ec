/* slot.c - the functions of slots and tokens (PKCS #11 section 5.5). */
#include <stdlib.h>

#include "behind.h"
#include "call.h"
#include "limit.h"
#include "slots.h"
#include "wrap.h"

static bool
is_shown(CK_SLOT_ID real, bool token_present, CK_SLOT_ID *shown)
{
    enum fault_removal how;
    unsigned slot;

    if (!fault_slot_meet(real, &slot))
        return false;
    fault_slot_learn(slot);
    *shown = fault_slot_shown(slot);
    return !fault_slot_is_away(slot, &how) || (!token_present && how == FAULT_REMOVE_TOKEN);
}

/* Section 5.2: without a list, or with a short one, *count receives the required size. */
static CK_RV
answer_slots(const CK_SLOT_ID *slots, CK_ULONG have, CK_SLOT_ID *list, CK_ULONG *count)
{
    CK_ULONG room = *count;

    *count = have;
    if (list == NULL)
        return CKR_OK;
    if (room < have)
        return CKR_BUFFER_TOO_SMALL;
    for (CK_ULONG i = 0; i < have; i++)
        list[i] = slots[i];
    return CKR_OK;
}

/* A request for the count alone is passed on: some modules look for new tokens only then. */
static CK_RV
list_slots(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count)
{
    CK_SLOT_ID slots[FAULT_SLOTS_MAX];
    CK_ULONG real_count = FAULT_SLOTS_MAX;
    CK_ULONG have = 0;
    CK_RV rv = CKR_OK;

    if (count == NULL)
        return CKR_ARGUMENTS_BAD;
    if (list == NULL)
        rv = fault_behind->C_GetSlotList(token_present, NULL, &real_count);
    real_count = FAULT_SLOTS_MAX;
    if (rv == CKR_OK)
        rv = fault_behind->C_GetSlotList(token_present, slots, &real_count);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < real_count; i++) {
        if (is_shown(slots[i], token_present == CK_TRUE, &slots[have]))
            have++;
    }
    return answer_slots(slots, have, list, count);
}

CK_RV
fault_C_GetSlotList(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count)
{
    struct fault_call call;

    if (fault_call_enter_module(&call, FN_C_GetSlotList)) {
        fault_world_enter();
        call.rv = fault_behind_is_initialized() ? list_slots(token_present, list, count)
                                                : CKR_CRYPTOKI_NOT_INITIALIZED;
        fault_world_leave();
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    struct fault_call call;
    enum fault_removal how;

    if (fault_call_enter_slot(&call, FN_C_GetSlotInfo, slot)) {
        call.rv = fault_behind->C_GetSlotInfo(call.slot_id, info);
        if (call.rv == CKR_OK && fault_slot_is_away(call.slot, &how))
            info->flags &= ~CKF_TOKEN_PRESENT;
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    struct fault_call call;

    if (fault_call_enter_slot(&call, FN_C_GetTokenInfo, slot)) {
        call.rv = fault_behind->C_GetTokenInfo(call.slot_id, info);
        if (call.rv == CKR_OK) {
            info->flags |= call.strike->flags | fault_slot_pin_flags(call.slot);
            fault_limit_report(call.slot, info);
        }
    }
    return fault_call_leave(&call);
}

/* It may block without limit, so the world is not entered. */
CK_RV
fault_C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    struct fault_call call;
    unsigned index;

    if (fault_call_enter_module(&call, FN_C_WaitForSlotEvent)) {
        call.rv = fault_behind->C_WaitForSlotEvent(flags, slot, reserved);
        if (call.rv == CKR_OK && fault_slot_meet(*slot, &index))
            *slot = fault_slot_shown(index);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    struct fault_call call;

    if (fault_call_enter_slot(&call, FN_C_GetMechanismList, slot))
        call.rv = fault_behind->C_GetMechanismList(call.slot_id, list, count);
    return fault_call_leave(&call);
}

CK_RV
fault_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    struct fault_call call;

    if (fault_call_enter_slot(&call, FN_C_GetMechanismInfo, slot))
        call.rv = fault_behind->C_GetMechanismInfo(call.slot_id, type, info);
    return fault_call_leave(&call);
}

CK_RV
fault_C_InitToken(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG pin_len, CK_BYTE *label)
{
    struct fault_call call;

    if (fault_call_enter_slot(&call, FN_C_InitToken, slot)) {
        call.rv = fault_behind->C_InitToken(call.slot_id, pin, pin_len, label);
        fault_slot_forget_label(call.slot);
    }
    return fault_call_leave(&call);
}
