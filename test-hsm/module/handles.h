/*
 * handles.h - what callers hold: handles of sessions and objects of our own, in front of those of
 * the module behind. So they can be made invalid, renumbered or exchanged.
 *
 * Look-ups take no lock. A number is never given out twice for an object; a session's number holds
 * a serial, so that an old one never meets a new session.
 */
#ifndef FAULT_HANDLES_H
#define FAULT_HANDLES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#define FAULT_SESSIONS_MAX 65535 /* open at once */
#define FAULT_SLOTS_MAX    256 /* known at once; also the bound of slot numbers below */
#define FAULT_EVERY_SLOT   FAULT_SLOTS_MAX

struct fault_session {
    _Alignas(64) _Atomic CK_SESSION_HANDLE handle; /* 0: this entry is free */
    _Atomic CK_SESSION_HANDLE real;
    _Atomic CK_OBJECT_HANDLE
        pending; /* key of a signature that the module behind knows nothing of */
    _Atomic CK_OBJECT_HANDLE extra; /* that the next C_FindObjects gives once more */
    atomic_uint slot;
    atomic_uint users; /* calls that are in it, asleep or not */
};

/**
 * A call is in the session from fault_session_use() to fault_session_leave(). Two at once, or one
 * while the module is finalised, break the rules of PKCS#11 (sections 2.6.2 and 5.4.2): these are
 * counted.
 */
void fault_session_use(struct fault_session *session);
void fault_session_leave(struct fault_session *session);
void fault_session_check_finalize(void);
unsigned long fault_session_misuse(void);
void fault_session_reset_misuse(void);

/** NULL: not one of ours, or not any more. */
struct fault_session *fault_session_get(CK_SESSION_HANDLE handle);

/**
 * A place for one more session of that slot.
 *
 * @param most  sessions that the slot may have, 0: no limit
 * @return NULL: there are that many
 */
struct fault_session *fault_session_reserve(unsigned slot, unsigned long most);

/** What was reserved becomes a session, and can be got by the handle that this returns. */
CK_SESSION_HANDLE fault_session_publish(struct fault_session *session, CK_SESSION_HANDLE real);

/** Of a reserved or a published one. */
void fault_session_release(struct fault_session *session);

/** All of a slot, or of FAULT_EVERY_SLOT. */
void fault_session_release_all(unsigned slot);

unsigned long fault_session_count(unsigned slot);

/** The one that has been open longest, of every slot; NULL: none is. */
struct fault_session *fault_session_oldest(void);

/** The handle that callers know it by; CK_INVALID_HANDLE: no memory. */
CK_OBJECT_HANDLE fault_object_shown(unsigned slot, CK_OBJECT_HANDLE real);

/** One more handle for the same object, known by no other. */
CK_OBJECT_HANDLE fault_object_twin(unsigned slot, CK_OBJECT_HANDLE real);

/** CK_INVALID_HANDLE, which every module refuses, for a handle that is not one of ours. */
CK_OBJECT_HANDLE fault_object_real(unsigned slot, CK_OBJECT_HANDLE shown);

/** The object is gone. */
void fault_object_forget(unsigned slot, CK_OBJECT_HANDLE shown);

/** No handle given out before is good any more. Slot or FAULT_EVERY_SLOT. */
void fault_object_renumber(unsigned slot);

/**
 * The handles of those objects of which `chosen` is true change owners, round in a ring.
 *
 * @return how many
 */
size_t fault_object_exchange(unsigned slot, bool (*chosen)(CK_OBJECT_HANDLE real, void *arg),
                             void *arg);

/** In the child after fork(): no session is open, no handle good, no lock held. */
void fault_handles_child(void);

#endif
