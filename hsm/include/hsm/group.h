/*
 * group.h - keys on several tokens that serve one purpose.
 *
 * No key is ever copied: each token has its own key, with its own certificate,
 * and a signature by any of them will do. A group chooses among them by
 * preference and load, and moves on to the next when a token fails, within the
 * caller's deadline. Threads may share a group; a child that inherits one
 * through fork() is refused (HSM_ERR_USAGE).
 *
 * A token that hangs without an error gets at most half of a call's remaining
 * time while there is another one to try, and never more than the op_timeout_ms of
 * struct hsm_token_config for this token. It is then tried last for a while, and
 * after that by one call at a time until it signs again. If the module itself
 * may not return, this needs workers (token.h).
 */
#ifndef HSM_GROUP_H
#define HSM_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define HSM_GROUP_MAX 32 /* members; more: HSM_ERR_USAGE */

struct hsm_group;

HSM_MUST_CHECK enum hsm_status hsm_group_new(struct hsm_group **out);

/**
 * @param key         borrowed until hsm_group_remove() or hsm_group_free()
 * @param preference  members with a lower value are chosen first while their tokens work
 * @param member      the caller's data about this key (its certificate, ...); may be NULL
 */
HSM_MUST_CHECK enum hsm_status hsm_group_add(struct hsm_group *group, struct hsm_key *key,
                                             unsigned preference, void *member);

/** Stop choosing this key; returns when no signature with it is in progress. */
void hsm_group_remove(struct hsm_group *group, struct hsm_key *key);

/** The number of members whose token works now. */
size_t hsm_group_ready(struct hsm_group *group);

/**
 * Write the digest that a member is to sign (HSM_SHA256_LEN octets). A PASSporT names the
 * certificate of its signer, so each member signs a different one.
 *
 * @retval HSM_ERR_NOT_FOUND  this member cannot sign for this call (its certificate does not cover
 *                            it): the next is tried, and this one does not count as failed
 * @retval other              no member can: the call ends with this status
 */
typedef enum hsm_status hsm_group_digest_fn(void *call, void *member, uint8_t *digest);

/**
 * Sign with the member that is best now, or with the next when it fails.
 *
 * @param make        called for each member that is tried
 * @param timeout_ms  for the whole call; 0: the longest op_timeout_ms of the members' tokens
 * @param sig         receives HSM_P256_SIG_LEN octets
 * @param member      receives the member that signed; may be NULL
 *
 * @retval HSM_ERR_NOT_FOUND  the group is empty, or `make` returned it for every member
 * @retval HSM_ERR_BUSY       no member signed in time
 */
HSM_MUST_CHECK enum hsm_status hsm_group_sign(struct hsm_group *group, hsm_group_digest_fn *make,
                                              void *call, unsigned timeout_ms, uint8_t *sig,
                                              void **member);

/** No signature may be in progress. The keys are not freed. NULL is fine. */
void hsm_group_free(struct hsm_group *group);
DEFINE_DEFER(struct hsm_group, hsm_group_free)

#endif
