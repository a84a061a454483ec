/*
 * connection_internal.h - a token that a process reaches by several connections.
 *
 * Where each function list of a module is a connection of its own (quirk
 * `connections`), a token has one slot for each: the first, which is the token
 * as everybody knows it and does all that is not signing, and further ones,
 * which sign. Each has a module, login, sessions, handles and a thread that
 * recovers it, of its own, so nothing of one is ever used with another, and
 * one that breaks is mended while the others sign. A key has a signer on each
 * of them. They share the journal, and present the PIN one at a time: what is
 * refused to one is tried by no other.
 *
 * A further one is not opened before it is needed, when a call finds every other
 * one busy, lost, or blocked by a call that is stuck in it: it costs a login, and
 * a process at its other end. It is opened as a lost one is recovered, by its
 * thread, again and again until that succeeds.
 */
#ifndef HSM_CONNECTION_INTERNAL_H
#define HSM_CONNECTION_INTERNAL_H

#include <stdint.h>

#include "signer_internal.h"
#include "slot_internal.h"

/* Modules for the further ones, until there are slots on them. */
struct hsm_connections {
    struct hsm_module *modules[HSM_CONNECTIONS_MAX - 1];
    unsigned count;
};

/**
 * As many as the quirk says, the sessions are, and the library gives; the
 * settings become those of one connection. hsm_connections_drop() if not
 * hsm_connections_start().
 */
void hsm_connections_make(const struct hsm_module *first, struct hsm_settings *settings,
                          struct hsm_connections *out);

void hsm_connections_drop(const struct hsm_connections *connections);

/** Have them ready to be opened; those that there is no memory for are dropped. */
void hsm_connections_start(struct hsm_slot *first, const struct hsm_connections *connections);

/** Under the first's module's lock; those with calls stuck in them are left. */
void hsm_connections_stop(struct hsm_slot *first, int64_t deadline);

/** OK while one of them serves; BUSY while one of those that were opened may come back. */
enum hsm_status hsm_connections_service(struct hsm_slot *first);

/** A new key of the first is to be found by the others, too. */
HSM_MUST_CHECK enum hsm_status hsm_connections_add_key(struct hsm_signer *signer,
                                                       EVP_PKEY *public_key);

/** Sign on the one that has least to do. */
HSM_MUST_CHECK enum hsm_status
hsm_connections_sign(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig);

#endif
