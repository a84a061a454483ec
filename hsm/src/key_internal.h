/*
 * key_internal.h - what the floor needs of a key beyond key.h.
 */
#ifndef HSM_KEY_INTERNAL_H
#define HSM_KEY_INTERNAL_H

#include <hsm/key.h>

struct hsm_signer;

const struct hsm_token *hsm_key_token(const struct hsm_key *key);

/** The op_timeout_ms of its token. */
unsigned hsm_key_timeout_ms(const struct hsm_key *key);

struct hsm_signer *hsm_key_signer(const struct hsm_key *key);

/** hsm_key_sign_digest_within(), for callers that have another key to try: BUSY is not logged. */
HSM_MUST_CHECK enum hsm_status
hsm_key_sign_digest_quietly(struct hsm_key *key, const uint8_t *digest, unsigned timeout_ms,
                            enum hsm_wait wait, uint8_t *sig);

#endif
