/* world.c - reboots, logouts, removals, swapped keys. */
#include "world.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "behind.h"
#include "handles.h"
#include "latency.h"
#include "slots.h"

#define LABEL_MAX 64 /* octets of an object's label */

static pthread_mutex_t swap_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool swapping;
static char swapped[2][LABEL_MAX + 1];

/* ---- sessions and logins; all of these with the world stopped */

/*
 * C_CloseAllSessions logs out, too (section 5.6.3). A slot without sessions has no login, and the
 * module behind may no longer have it.
 */
static void
lose_sessions(unsigned slot)
{
    if (fault_session_count(slot) > 0)
        fault_behind->C_CloseAllSessions(fault_slot_real(slot));
    fault_session_release_all(slot);
    fault_object_renumber(slot);
}

static void
lose_session(struct fault_session *session)
{
    if (session == NULL)
        return;
    fault_behind->C_CloseSession(atomic_load(&session->real));
    fault_session_release(session);
}

static void
log_out(unsigned slot)
{
    CK_SESSION_HANDLE session;

    if (fault_session_count(slot) == 0 ||
        fault_behind->C_OpenSession(fault_slot_real(slot), CKF_SERIAL_SESSION, NULL, NULL,
                                    &session) != CKR_OK)
        return;
    fault_behind->C_Logout(session);
    fault_behind->C_CloseSession(session);
    fault_slot_set_logged_out(slot, true);
}

static void
for_slots(unsigned slot, void (*happen)(unsigned slot))
{
    fault_world_stop();
    if (fault_behind_is_initialized()) {
        for (unsigned i = 0; i < fault_slot_count(); i++) {
            if (slot == FAULT_EVERY_SLOT || slot == i)
                happen(i);
        }
    }
    fault_world_resume();
}

void
fault_world_reboot(unsigned slot)
{
    for_slots(slot, lose_sessions);
}

void
fault_world_logout(unsigned slot)
{
    for_slots(slot, log_out);
}

void
fault_world_renumber(unsigned slot)
{
    for_slots(slot, fault_object_renumber);
}

void
fault_world_drop(CK_SESSION_HANDLE session)
{
    fault_world_stop();
    lose_session(fault_session_get(session));
    fault_world_resume();
}

void
fault_world_drop_oldest(unsigned long count)
{
    fault_world_stop();
    for (unsigned long i = 0; i < count; i++)
        lose_session(fault_session_oldest());
    fault_world_resume();
}

/* ---- removal */

bool
fault_world_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t for_ns)
{
    int64_t until_ns = for_ns > 0 ? fault_now_ns() + for_ns : 0;
    bool removed;

    fault_world_stop();
    removed = fault_slot_remove(label, how, rv, until_ns);
    for (unsigned i = 0; removed && fault_behind_is_initialized() && i < fault_slot_count(); i++) {
        if (fault_slot_has_label(i, label))
            lose_sessions(i);
    }
    fault_world_resume();
    return removed;
}

/* ---- the whole module */

void
fault_world_forget(void)
{
    fault_session_release_all(FAULT_EVERY_SLOT);
    fault_object_renumber(FAULT_EVERY_SLOT);
    fault_slot_forget_labels();
}

void
fault_world_finalize(void)
{
    fault_world_stop();
    if (fault_behind_is_initialized()) {
        fault_behind->C_Finalize(NULL);
        fault_behind_set_initialized(false);
        fault_world_forget();
    }
    fault_world_resume();
}

/* ---- keys */

struct chooser {
    CK_SESSION_HANDLE session;
};

static bool
is_private_key(CK_OBJECT_HANDLE real, void *arg)
{
    const struct chooser *chooser = arg;
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_ATTRIBUTE attribute = {CKA_CLASS, &class, sizeof(class)};

    return fault_behind->C_GetAttributeValue(chooser->session, real, &attribute, 1) == CKR_OK &&
           class == CKO_PRIVATE_KEY;
}

static size_t
exchange(unsigned slot)
{
    struct chooser chooser;
    size_t count;

    if (fault_session_count(slot) == 0 ||
        fault_behind->C_OpenSession(fault_slot_real(slot), CKF_SERIAL_SESSION, NULL, NULL,
                                    &chooser.session) != CKR_OK)
        return 0;
    count = fault_object_exchange(slot, is_private_key, &chooser);
    fault_behind->C_CloseSession(chooser.session);
    return count;
}

size_t
fault_world_exchange(unsigned slot)
{
    size_t count = 0;

    fault_world_stop();
    for (unsigned i = 0; fault_behind_is_initialized() && i < fault_slot_count(); i++) {
        if (slot == FAULT_EVERY_SLOT || slot == i)
            count += exchange(i);
    }
    fault_world_resume();
    return count;
}

void
fault_world_swap(const char *label, const char *other)
{
    pthread_mutex_lock(&swap_lock);
    snprintf(swapped[0], sizeof(swapped[0]), "%s", label != NULL ? label : "");
    snprintf(swapped[1], sizeof(swapped[1]), "%s", other != NULL ? other : "");
    atomic_store(&swapping, label != NULL);
    pthread_mutex_unlock(&swap_lock);
}

/* The label that a swap gives to the key with this label; false: the key is not swapped. */
static bool
other_label(const char *label, char other[LABEL_MAX + 1])
{
    bool swaps = true;

    pthread_mutex_lock(&swap_lock);
    if (strcmp(label, swapped[0]) == 0)
        snprintf(other, LABEL_MAX + 1, "%s", swapped[1]);
    else if (strcmp(label, swapped[1]) == 0)
        snprintf(other, LABEL_MAX + 1, "%s", swapped[0]);
    else
        swaps = false;
    pthread_mutex_unlock(&swap_lock);
    return swaps;
}

/* In a new session: a search may be active in the caller's. */
static CK_OBJECT_HANDLE
find(unsigned slot, CK_OBJECT_CLASS class, const char *label)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)},
    };
    CK_OBJECT_HANDLE found = CK_INVALID_HANDLE;
    CK_SESSION_HANDLE session;
    CK_ULONG count = 0;

    if (fault_behind->C_OpenSession(fault_slot_real(slot), CKF_SERIAL_SESSION, NULL, NULL,
                                    &session) != CKR_OK)
        return found;
    if (fault_behind->C_FindObjectsInit(session, template, 2) == CKR_OK) {
        fault_behind->C_FindObjects(session, &found, 1, &count);
        fault_behind->C_FindObjectsFinal(session);
    }
    fault_behind->C_CloseSession(session);
    return count == 1 ? found : CK_INVALID_HANDLE;
}

CK_OBJECT_HANDLE
fault_world_material(unsigned slot, CK_SESSION_HANDLE real_session, CK_OBJECT_HANDLE object)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    char label[LABEL_MAX + 1] = "";
    char other[LABEL_MAX + 1];
    CK_ATTRIBUTE about[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_LABEL, label, LABEL_MAX},
    };
    CK_OBJECT_HANDLE found;

    if (!atomic_load_explicit(&swapping, memory_order_relaxed))
        return object;
    if (fault_behind->C_GetAttributeValue(real_session, object, about, 2) != CKR_OK)
        return object;
    if (!other_label(label, other))
        return object;
    found = find(slot, class, other);
    return found != CK_INVALID_HANDLE ? found : object;
}

/* ---- */

/* Remove the token of the call, or all tokens if it is unknown. */
static void
remove_token(const struct fault_strike *strike, unsigned slot, enum fault_removal how)
{
    char label[FAULT_LABEL_SIZE];

    fault_slot_label(slot, label);
    fault_world_remove(label, how, strike->effect_rv, strike->effect_ns);
}

void
fault_world_effect(const struct fault_strike *strike, unsigned slot, CK_SESSION_HANDLE session)
{
    switch (strike->effect) {
    case FAULT_NO_EFFECT:
        break;
    case FAULT_DROP:
        fault_world_drop(session);
        break;
    case FAULT_REBOOT:
        fault_world_reboot(slot);
        break;
    case FAULT_LOGOUT:
        fault_world_logout(slot);
        break;
    case FAULT_RENUMBER:
        fault_world_renumber(slot);
        break;
    case FAULT_RENUMBER_SLOTS:
        fault_slot_renumber();
        break;
    case FAULT_EXCHANGE:
        fault_world_exchange(slot);
        break;
    case FAULT_REMOVE:
        remove_token(strike, slot, FAULT_REMOVE_TOKEN);
        break;
    case FAULT_REMOVE_WITH_SLOT:
        remove_token(strike, slot, FAULT_REMOVE_SLOT);
        fault_slot_renumber();
        break;
    case FAULT_FINALIZE:
        fault_world_finalize();
        break;
    case FAULT_CRASH:
        raise(SIGSEGV);
        break;
    }
}

void
fault_world_child(void)
{
    swap_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}
