/*
 * host_lock_internal.h - turns among the processes of this host where a module's processes race.
 *
 * A software token keeps its objects in files that all processes read and write,
 * and not all implementations lock them (quirk shared-files). With SoftHSM 2.6.1
 * a login empties the token's file and writes it again: a process that reads it
 * in between finds no token, or one without a name. A key that is being generated
 * is seen half-made, and generation fails beside other work on objects. So for
 * such tokens one process writes, or several read: C_Login with the recovery that
 * it belongs to, C_GenerateKeyPair and C_DestroyObject count as writing; searches
 * and descriptions as reading, and so does C_Initialize when a process found no
 * token and looks again. Signatures, and modules without the quirk, never wait.
 */
#ifndef HSM_HOST_LOCK_INTERNAL_H
#define HSM_HOST_LOCK_INTERNAL_H

#include <stdbool.h>

/* For other processes, one of which may be stuck; then without it. */
#define HSM_HOST_WAIT_MS 15000

enum hsm_turn {
    HSM_TURN_READ,
    HSM_TURN_WRITE,
    HSM_TURN_NONE /* what is done needs none */
};

/**
 * What is locked: what SOFTHSM2_CONF or TPM2_PKCS11_STORE names, or else the
 * module's file. Opened, and not locked yet.
 *
 * @return what hsm_host_unlock() takes; -1: it cannot be opened
 */
int hsm_host_place(const char *module_path);

/** flock(), which needs no right to write it; false: another process has it. */
bool hsm_host_try(int place, enum hsm_turn turn);

/**
 * hsm_host_try() with a bounded wait; if that fails the caller goes on without
 * the lock.
 *
 * @return what hsm_host_unlock() takes
 */
int hsm_host_lock(const char *module_path, enum hsm_turn turn);

void hsm_host_unlock(int lock);

/** The environment names files that processes share: even to start a module takes a turn, since one
 *  that reads its database then keeps another from writing it. */
bool hsm_host_place_is_told(void);

#endif
