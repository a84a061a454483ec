/*
 * connection_internal.h - a token that a process reaches by several connections.
 *
 * Where each function list of a module is a connection of its own (quirk `connections`), a token
 * has one slot for each. The first is the token as other code knows it: it signs and does all other
 * work; further ones only sign. Each has its own module, login, sessions, handles and recovery
 * thread, so nothing of one is ever used with another, and one that breaks is recovered while the
 * others sign. A key has a signer on each of them. They share the journal, and present the PIN one
 * at a time: a PIN that was refused to one is not tried by another.
 *
 * A further connection costs a login, and a process at its other end, so it is not opened before a
 * call finds every other one busy, lost, or blocked by a stuck call. Its thread opens it as it
 * recovers a lost one, again and again until that succeeds.
 */
#ifndef HSM_CONNECTION_INTERNAL_H
#define HSM_CONNECTION_INTERNAL_H

#include <stdint.h>

#include "signer_internal.h"
#include "slot_internal.h"

/* Modules for further connections, until there are slots on them. */
struct hsm_connections {
    struct hsm_module *modules[HSM_CONNECTIONS_MAX - 1];
    unsigned count;
};

/**
 * Make as many connections as the quirk, the number of sessions and the library allow; the settings
 * become those of one connection. Followed by hsm_connections_start() or hsm_connections_drop().
 */
void hsm_connections_make(const struct hsm_module *first, struct hsm_settings *settings,
                          struct hsm_connections *out);

void hsm_connections_drop(const struct hsm_connections *connections);

/** Prepare them to be opened; those for which there is no memory are dropped. */
void hsm_connections_start(struct hsm_slot *first, const struct hsm_connections *connections);

/** Under the lock of the first slot's module; connections with calls stuck in them are left
 * alone. */
void hsm_connections_stop(struct hsm_slot *first, int64_t deadline);

/** OK while one of them serves; BUSY while one that was opened may come back. */
enum hsm_status hsm_connections_service(struct hsm_slot *first);

/** Have the further connections look for a new key of the first. */
HSM_MUST_CHECK enum hsm_status hsm_connections_add_key(struct hsm_signer *signer,
                                                       EVP_PKEY *public_key);

/** Sign on the least loaded connection. */
HSM_MUST_CHECK enum hsm_status
hsm_connections_sign(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig);

#endif
