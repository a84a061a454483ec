/*
 * handles.h - our own handles of sessions and objects, which callers get instead of those of the
 * module behind, so that faults can invalidate, renumber or exchange them.
 *
 * Look-ups take no lock. An object handle is never used twice; a session handle contains a serial,
 * so that an old handle never matches a new session.
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
        pending; /* key of a signing operation that the module behind has not begun */
    _Atomic CK_OBJECT_HANDLE extra; /* handle that the next C_FindObjects returns once more */
    atomic_uint slot;
    atomic_uint users; /* calls in the session, asleep or not */
};

/**
 * A call is in the session from fault_session_use() to fault_session_leave(). Two calls at once, or
 * a call while the module is finalised, violate PKCS#11 (sections 2.6.2 and 5.4.2) and are counted.
 */
void fault_session_use(struct fault_session *session);
void fault_session_leave(struct fault_session *session);
void fault_session_check_finalize(void);
unsigned long fault_session_misuse(void);
void fault_session_reset_misuse(void);

/** The session of a handle; NULL: the handle was never valid, or is no longer. */
struct fault_session *fault_session_get(CK_SESSION_HANDLE handle);

/**
 * Reserve an entry for one more session of a slot.
 *
 * @param most  sessions that the slot may have, 0: no limit
 * @return NULL: the limit is reached
 */
struct fault_session *fault_session_reserve(unsigned slot, unsigned long most);

/** Make a reserved entry a session; returns the handle for fault_session_get(). */
CK_SESSION_HANDLE fault_session_publish(struct fault_session *session, CK_SESSION_HANDLE real);

/** Release a reserved or published session. */
void fault_session_release(struct fault_session *session);

/** Release all sessions of a slot, or of FAULT_EVERY_SLOT. */
void fault_session_release_all(unsigned slot);

unsigned long fault_session_count(unsigned slot);

/** The session that has been open longest, of all slots; NULL: no session is open. */
struct fault_session *fault_session_oldest(void);

/** The caller's handle of an object of the module behind; CK_INVALID_HANDLE: no memory. */
CK_OBJECT_HANDLE fault_object_shown(unsigned slot, CK_OBJECT_HANDLE real);

/** A new additional handle for the same object. */
CK_OBJECT_HANDLE fault_object_twin(unsigned slot, CK_OBJECT_HANDLE real);

/** The object behind a caller's handle; for an invalid one CK_INVALID_HANDLE, which every module
 *  refuses. */
CK_OBJECT_HANDLE fault_object_real(unsigned slot, CK_OBJECT_HANDLE shown);

/** Invalidate the handle of an object that was destroyed. */
void fault_object_forget(unsigned slot, CK_OBJECT_HANDLE shown);

/** Invalidate all object handles of a slot or of FAULT_EVERY_SLOT. */
void fault_object_renumber(unsigned slot);

/**
 * Exchange the handles of the objects for which `chosen` returns true, in a ring.
 *
 * @return the number of objects exchanged
 */
size_t fault_object_exchange(unsigned slot, bool (*chosen)(CK_OBJECT_HANDLE real, void *arg),
                             void *arg);

/** In the child after fork(): forget all sessions and handles, and make the locks anew. */
void fault_handles_child(void);

#endif
