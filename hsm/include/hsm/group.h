/*
 * group.h - keys on several tokens that serve one purpose.
 *
 * No key is ever copied: each token has its own key, with a certificate of its
 * own, and a signature of any of them will do. A group chooses among them by
 * preference and load, and goes on to the next one when a token fails, within
 * the caller's deadline. Threads may share a group.
 */
#ifndef HSM_GROUP_H
#define HSM_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/key.h>
#include <hsm/status.h>

#define HSM_GROUP_MAX 32 /* members; more: HSM_ERR_USAGE */

struct hsm_group;

HSM_MUST_CHECK enum hsm_status hsm_group_new(struct hsm_group **out);

/**
 * @param key         borrowed until hsm_group_remove() or hsm_group_free()
 * @param preference  members of a lower one are chosen first, for as long as they are well
 * @param member      what the caller knows this key by (its certificate, ...); may be NULL
 */
HSM_MUST_CHECK enum hsm_status hsm_group_add(struct hsm_group *group, struct hsm_key *key,
                                             unsigned preference, void *member);

/** Not chosen any more; returns when nobody signs with it. */
void hsm_group_remove(struct hsm_group *group, struct hsm_key *key);

/** Members whose token is well now. */
size_t hsm_group_ready(struct hsm_group *group);

/**
 * What a member is to sign: its digest (HSM_SHA256_LEN octets). A PASSporT
 * names the certificate of its signer, so it is another one for each member.
 *
 * @retval HSM_ERR_NOT_FOUND  this member has none for this call (its certificate does not cover
 *                            it): the next is asked, and this one is as well as before
 * @retval other              no member has: the call ends with it
 */
typedef enum hsm_status hsm_group_digest_fn(void *call, void *member, uint8_t *digest);

/**
 * Sign with the member that is best now, or with the next when it fails.
 *
 * @param make        asked for each member that is tried
 * @param timeout_ms  for all of it
 * @param sig         receives HSM_P256_SIG_LEN octets
 * @param member      receives whose signature it is; may be NULL
 *
 * @retval HSM_ERR_NOT_FOUND  the group is empty, or `make` said so of every member
 * @retval HSM_ERR_BUSY       no member signed in time
 */
HSM_MUST_CHECK enum hsm_status hsm_group_sign(struct hsm_group *group, hsm_group_digest_fn *make,
                                              void *call, unsigned timeout_ms, uint8_t *sig,
                                              void **member);

/** Nobody may sign. The keys stay. NULL is fine. */
void hsm_group_free(struct hsm_group *group);

#endif
