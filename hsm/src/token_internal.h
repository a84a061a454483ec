/*
 * token_internal.h - what key.c and object.c need of an open token.
 */
#ifndef HSM_TOKEN_INTERNAL_H
#define HSM_TOKEN_INTERNAL_H

#include <hsm/token.h>

#include "slot_internal.h"

struct hsm_token {
    struct hsm_module *module;
    struct hsm_slot *slot;
    CK_TOKEN_INFO raw; /* as it was when opened */
    struct hsm_token_info info;
    bool shares_files; /* with other processes, which may be writing them: host_lock_internal.h */
    unsigned generation; /* hsm_fork_generation() when it was opened */
};

/** HSM_ERR_USAGE, logged, in the child of a fork(). */
HSM_MUST_CHECK enum hsm_status hsm_token_check(const struct hsm_token *token);

/** hsm_slot_admin_enter() and hsm_slot_admin_leave(), after hsm_token_check(). */
HSM_MUST_CHECK enum hsm_status hsm_token_admin_enter(struct hsm_token *token, enum hsm_turn turn);
bool hsm_token_admin_leave(struct hsm_token *token, enum hsm_status status);

#endif
