/*
 * behind.h - the module behind ours, and the lock under which faults change its state.
 *
 * Calls that go through hold this lock, the world, for reading. A reboot, logout or finalisation
 * caused by a fault holds it for writing, so that no session is closed while a call is in it.
 */
#ifndef FAULT_BEHIND_H
#define FAULT_BEHIND_H

#include <stdbool.h>

#include <p11-kit/pkcs11.h>

/** The functions of the module behind; NULL before fault_behind_load() succeeded. */
extern CK_FUNCTION_LIST *fault_behind;

/** Path for the next load; NULL or not called: $STI_FAULT_MODULE. */
void fault_behind_name(const char *path);

/** Load the module behind, once; a failure is one line on standard error. */
bool fault_behind_load(void);

bool fault_behind_is_initialized(void);
void fault_behind_set_initialized(bool initialized);

/** True in the child of a process that had initialised it: it must be finalised first. */
bool fault_behind_is_inherited(void);

void fault_world_enter(void);
void fault_world_leave(void);
void fault_world_stop(void);
void fault_world_resume(void);

void fault_behind_child(void);

#endif
