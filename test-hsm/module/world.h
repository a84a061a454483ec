/*
 * world.h - what happens to the token behind everybody's back.
 *
 * Each waits until no call is inside the module behind, and holds new ones off meanwhile. Slots are
 * indexes of slots.h, or FAULT_EVERY_SLOT.
 */
#ifndef FAULT_WORLD_H
#define FAULT_WORLD_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include "rules.h"

/** All sessions, logins and handles are lost, as when an HSM starts again. */
void fault_world_reboot(unsigned slot);

/** That session is lost. */
void fault_world_drop(CK_SESSION_HANDLE session);

/** The `count` sessions that are open longest are lost. */
void fault_world_drop_oldest(unsigned long count);

/** Another program of the same process logged out. */
void fault_world_logout(unsigned slot);

/** Objects get other handles; the old ones are invalid. */
void fault_world_renumber(unsigned slot);

/** Handles of private keys change owners; how many. */
size_t fault_world_exchange(unsigned slot);

/** The token with that label ("": each) is away: as fault_slot_remove(). */
bool fault_world_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t for_ns);

/** Somebody else called C_Finalize. */
void fault_world_finalize(void);

/** Nothing of the token is left: C_Finalize succeeded, or this is the child of a fork. */
void fault_world_forget(void);

/** What a strike does to the token, just before the call that it struck. */
void fault_world_effect(const struct fault_strike *strike, unsigned slot,
                        CK_SESSION_HANDLE session);

/**
 * The keys with these two labels trade places: each is found under the name of the other.
 * NULL: as they were.
 */
void fault_world_swap(const char *label, const char *other);

/** The object that a handle stands for now; world is entered. */
CK_OBJECT_HANDLE fault_world_material(unsigned slot, CK_SESSION_HANDLE real_session,
                                      CK_OBJECT_HANDLE object);

void fault_world_child(void);

#endif
