/*
 * host_lock_internal.h - turns among the processes of this host where a module's processes race.
 *
 * A software token keeps its objects in files that all processes read and write, and not all
 * implementations lock them (quirk shared-files). With SoftHSM 2.6.1 a login empties the token's
 * file and writes it again: a process that reads it in between finds no token, or one without a
 * name. A key that is being generated is seen half-made, and generation fails beside other work on
 * objects. So on such tokens either one process writes or several read. C_Login, with the recovery
 * that it belongs to, C_GenerateKeyPair and C_DestroyObject count as writing; searches,
 * descriptions, and C_Initialize when a process found no token and looks again count as reading.
 * Signatures, and modules without the quirk, never wait.
 */
#ifndef HSM_HOST_LOCK_INTERNAL_H
#define HSM_HOST_LOCK_INTERNAL_H

#include <stdbool.h>

/* Longest wait for other processes, one of which may be stuck; then go on without the lock. */
#define HSM_HOST_WAIT_MS 15000

enum hsm_turn {
    HSM_TURN_READ,
    HSM_TURN_WRITE,
    HSM_TURN_NONE /* no lock is needed */
};

/**
 * Open the file to lock: the one that SOFTHSM2_CONF or TPM2_PKCS11_STORE names, or else the
 * module's file. It is not locked yet.
 *
 * @return the argument of hsm_host_unlock(); -1: it cannot be opened
 */
int hsm_host_place(const char *module_path);

/** flock(), which needs no right to write it; false: another process has it. */
bool hsm_host_try(int place, enum hsm_turn turn);

/**
 * hsm_host_try() with a bounded wait; if that fails the caller goes on without the lock.
 *
 * @return the argument of hsm_host_unlock()
 */
int hsm_host_lock(const char *module_path, enum hsm_turn turn);

void hsm_host_unlock(int lock);

/** The environment names files that processes share: then even starting a module takes a turn,
 * since a module that reads its database keeps another process from writing it. */
bool hsm_host_place_is_set(void);

#endif
