/*
 * token_internal.h - what key.c and object.c need of an open token.
 */
#ifndef HSM_TOKEN_INTERNAL_H
#define HSM_TOKEN_INTERNAL_H

#include <hsm/token.h>

#include "module_internal.h"

#define HSM_ADMIN_WAIT_MS 60000 /* for the control session; longer: HSM_ERR_BUSY */
#define HSM_SIGN_WAIT_MS  30000 /* for one of libp11's sessions; longer: HSM_ERR_BUSY */

struct hsm_token {
    struct hsm_module *module;
    struct hsm_slot *slot;
    CK_TOKEN_INFO raw; /* as it was when opened */
    struct hsm_token_info info;
    unsigned generation; /* hsm_fork_generation() when it was opened */
};

/** HSM_ERR_USAGE, logged, in the child of a fork(). */
HSM_MUST_CHECK enum hsm_status hsm_token_check(const struct hsm_token *token);

/** Enter the admin gate of the token and take the host lock, after hsm_token_check(). */
HSM_MUST_CHECK enum hsm_status hsm_token_admin_enter(struct hsm_token *token);

void hsm_token_admin_leave(struct hsm_token *token);

#endif
