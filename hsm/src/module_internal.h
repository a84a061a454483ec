/*
 * module_internal.h - PKCS#11 modules and their slots, one of each per process.
 *
 * C_Initialize, C_Login and C_Finalize concern the whole process, so tokens
 * share the module and the slot that they are on, and the last one to go
 * finalises. A slot is used in two ways at once: libp11 signs, on its own pool
 * of sessions, and the raw function list does what libp11 has no call for, on
 * one control session, which also keeps the login alive.
 */
#ifndef HSM_MODULE_INTERNAL_H
#define HSM_MODULE_INTERNAL_H

#include <stdbool.h>

#include <libp11.h>
#include <p11-kit/pkcs11.h>

#include <hsm/secret.h>
#include <hsm/status.h>

#include "gate_internal.h"

struct hsm_module;

/* A slot whose token somebody has open. */
struct hsm_slot {
    struct hsm_module *module; /* borrowed */
    CK_SLOT_ID id;
    PKCS11_SLOT *p11; /* borrowed from the module */
    struct hsm_gate signing; /* no more callers than libp11 has sessions */
    struct hsm_gate admin; /* one caller: the control session, libp11's lists of keys */
    CK_SESSION_HANDLE control; /* read-write, logged in */
    int host_lock; /* of who is inside the admin gate */
    unsigned users; /* tokens that have it open */
    bool prepared; /* libp11 knows that its sessions are read-write */
    struct hsm_slot *next;
};

/** Load and initialise, or share. NOT_FOUND: no such file; UNSUPPORTED: not a PKCS#11 module. */
HSM_MUST_CHECK enum hsm_status hsm_module_open(const char *path, struct hsm_module **out);

void hsm_module_close(struct hsm_module *module);

CK_FUNCTION_LIST *hsm_module_functions(const struct hsm_module *module);

const CK_INFO *hsm_module_info(const struct hsm_module *module);

const char *hsm_module_path(const struct hsm_module *module);

/**
 * Log in to the token in a slot and start its sessions, or share both.
 *
 * @param token  what the token says of itself: names it in the latch for wrong PINs
 */
HSM_MUST_CHECK enum hsm_status hsm_slot_open(struct hsm_module *module, CK_SLOT_ID id,
                                             const CK_TOKEN_INFO *token,
                                             const struct hsm_secret *pin, struct hsm_slot **out);

/** The last user logs out. */
void hsm_slot_close(struct hsm_slot *slot);

/** Changes in the child of a fork(): what was opened under another number is not usable. */
unsigned hsm_fork_generation(void);

#endif
