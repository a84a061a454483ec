/*
 * world.h - events at the token that callers do not cause.
 *
 * Each function waits until no call is in the module behind, and blocks new calls meanwhile. Slots
 * are indexes of slots.h, or FAULT_EVERY_SLOT.
 */
#ifndef FAULT_WORLD_H
#define FAULT_WORLD_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include "rules.h"

/** Lose all sessions, logins and handles, as when an HSM reboots. */
void fault_world_reboot(unsigned slot);

/** Lose a session. */
void fault_world_drop(CK_SESSION_HANDLE session);

/** Lose the `count` sessions that have been open longest. */
void fault_world_drop_oldest(unsigned long count);

/** Log out, as other code in the same process could. */
void fault_world_logout(unsigned slot);

/** Give objects new handles; the old ones become invalid. */
void fault_world_renumber(unsigned slot);

/** Exchange the handles of private keys; returns how many. */
size_t fault_world_exchange(unsigned slot);

/** Remove the token with this label ("": all): see fault_slot_remove(). */
bool fault_world_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t for_ns);

/** Finalise, as other code in the same process could. */
void fault_world_finalize(void);

/** Drop all state of the token after C_Finalize, or in the child of a fork. */
void fault_world_forget(void);

/** Apply a strike's effect on the token, just before the call that it struck. */
void fault_world_effect(const struct fault_strike *strike, unsigned slot,
                        CK_SESSION_HANDLE session);

/**
 * Swap the keys with these two labels: each is found under the label of the other.
 * NULL: undo the swap.
 */
void fault_world_swap(const char *label, const char *other);

/** The object that a handle now stands for, under a swap. The caller has entered the world. */
CK_OBJECT_HANDLE fault_world_material(unsigned slot, CK_SESSION_HANDLE real_session,
                                      CK_OBJECT_HANDLE object);

void fault_world_child(void);

#endif
