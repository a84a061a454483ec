/*
 * lane_internal.h - the libp11 route: one key in a context of libp11.
 *
 * libp11 takes a PKCS#11 module by its path. It gets ours (lane_module.c, sti-hsm-lane.so), which
 * returns a function list of this process: one token with one key, whose C_Sign signs on a session
 * of the slot's pool. So libp11's EVP_PKEY is used, without the problems of using libp11 0.4.12
 * alone:
 *   - its pool has 16 sessions: a lane takes that many of the slot's pool, or half
 *     where a stuck one is replaced, and a key has as many lanes as that needs;
 *     more lanes would be slower: a thread that wakes finds its data in the
 *     processor's cache if other threads have just used it;
 *   - it waits for ever when C_OpenSession fails: here it does not fail;
 *   - a session that failed goes back into its pool, and after a lost
 *     connection nothing of it works again: its sessions and its handle of the
 *     key are names here, for whatever the slot has at the moment;
 *   - it loads every key of the token, in quadratic time: here there is one;
 *   - its array of keys moves when it grows, and EVP_PKEYs point into it: here
 *     it does not grow;
 *   - it keeps the PIN on the heap: here it needs none.
 */
#ifndef HSM_LANE_INTERNAL_H
#define HSM_LANE_INTERNAL_H

#include <stdint.h>

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#include "signer_internal.h"

#define HSM_LANE_SESSIONS 16 /* of libp11's pool, a fixed number */

struct hsm_lane;

/** A lane owned by the signer: it holds no reference to it. */
HSM_MUST_CHECK enum hsm_status hsm_lane_new(struct hsm_signer *signer, struct hsm_lane **out);

void hsm_lane_free(struct hsm_lane *lane);
DEFINE_DEFER(struct hsm_lane, hsm_lane_free)

/** Sign on a session that the caller has taken from the pool; as hsm_signer_call(). */
HSM_MUST_CHECK CK_RV hsm_lane_sign(struct hsm_lane *lane, const struct hsm_session *session,
                                   const uint8_t *digest, uint8_t *sig, enum hsm_form *form);

/**
 * An EVP_PKEY for OpenSSL's own use: it takes a session for each signature, which is verified. It
 * keeps the signer for as long as it has references.
 */
HSM_MUST_CHECK enum hsm_status hsm_lane_lend(struct hsm_signer *signer, EVP_PKEY **out);

#endif
