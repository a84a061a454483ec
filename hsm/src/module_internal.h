/*
 * module_internal.h - PKCS#11 modules, one of each per process.
 *
 * C_Initialize and C_Finalize concern the whole process, so tokens share their
 * module, and the last one to be closed finalises it. A module can be restarted
 * only while no thread is inside it.
 *
 * Some libraries return a different function list at each C_GetFunctionList, and
 * each list is a connection of its own, with its own C_Initialize, C_Login,
 * sessions and handles. Such a list is a separate module here, too, used by one
 * token alone (connection_internal.h).
 */
#ifndef HSM_MODULE_INTERNAL_H
#define HSM_MODULE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

struct hsm_module;
struct hsm_slot;

/**
 * Find or register the module and take its lock: no other thread opens or closes
 * it, or a token of it, meanwhile. Other modules are not affected, however long
 * it takes.
 *
 * @param out  with a reference; hsm_module_release()
 * @retval HSM_ERR_NOT_FOUND  no such file
 */
HSM_MUST_CHECK enum hsm_status hsm_module_find(const char *path, struct hsm_module **out);

void hsm_module_lock(struct hsm_module *module);
void hsm_module_unlock(struct hsm_module *module);

/** Load and initialise the module if that is still to be done, under its lock. UNSUPPORTED: not a
 * PKCS#11 module. */
HSM_MUST_CHECK enum hsm_status hsm_module_start(struct hsm_module *module);

/** Give up the reference and the lock; the last one finalises. A slot that was left behind with a
 *  call stuck in it keeps its reference. */
void hsm_module_release(struct hsm_module *module);

/**
 * Another connection: not initialised yet, hsm_module_restart() does that. Not shared.
 *
 * @retval HSM_ERR_UNSUPPORTED  the library gives one list of functions and no other,
 *                              or all of them are one connection
 */
HSM_MUST_CHECK enum hsm_status hsm_module_connect(const struct hsm_module *first,
                                                  struct hsm_module **out);

/** Finalise a module of hsm_module_connect(). */
void hsm_module_disconnect(struct hsm_module *module);

const CK_FUNCTION_LIST *hsm_module_functions(const struct hsm_module *module);

const CK_INFO *hsm_module_info(const struct hsm_module *module);

const char *hsm_module_path(const struct hsm_module *module);

/** Changes with every C_Initialize: handles of an older epoch are invalid. */
unsigned hsm_module_epoch(const struct hsm_module *module);

/**
 * Enclose calls to the module that do not use a session of a pool: it is not
 * restarted meanwhile. False: it was being restarted until the deadline.
 */
HSM_MUST_CHECK bool hsm_module_enter(struct hsm_module *module, int64_t deadline);

void hsm_module_leave(struct hsm_module *module);

/** Allow one call at a time for all its tokens: the quirk `serial`. Takes effect only before the
 *  first token opens, under the module's lock. */
void hsm_module_serialise(struct hsm_module *module);

/**
 * Enclose a call with a session of a pool. Does not wait, unless the module takes
 * one call at a time. hsm_module_enter() counts as such a call. False: the
 * deadline passed.
 */
HSM_MUST_CHECK bool hsm_module_call_begin(struct hsm_module *module, int64_t deadline);

void hsm_module_call_end(struct hsm_module *module);

/**
 * C_Finalize and C_Initialize, for a slot that is being recovered; its pool is suspended, and the
 * caller has not entered the module. While another token of this module is served, or calls are
 * stuck in it, nothing is done: the epoch stays, and the result is HSM_OK. On a new connection the
 * first call is C_Initialize alone, and the epoch stays, too.
 *
 * @retval HSM_ERR_BUSY  the module does not initialise
 */
HSM_MUST_CHECK enum hsm_status hsm_module_restart(struct hsm_module *module,
                                                  const struct hsm_slot *by, int64_t deadline);

/** Slots that hold a token, initialised or not; *out is released with free(). Not logged. */
HSM_MUST_CHECK CK_RV hsm_module_slots(const struct hsm_module *module, CK_SLOT_ID **out,
                                      CK_ULONG *count);

/** The slots of open tokens, and of those that were closed with calls stuck in the module. */
void hsm_module_add_slot(struct hsm_module *module, struct hsm_slot *slot);
void hsm_module_remove_slot(struct hsm_module *module, struct hsm_slot *slot);

/** Under the module's lock: the slot of this token that has users, NULL if none. */
struct hsm_slot *hsm_module_slot_of(const struct hsm_module *module, const CK_TOKEN_INFO *token);

/** Compare the identity of tokens: counters and sessions in CK_TOKEN_INFO change all the time. */
bool hsm_is_same_token(const CK_TOKEN_INFO *a, const CK_TOKEN_INFO *b);

/*
 * latch.c: tokens whose PIN was refused in this process, in the process that forked it, or in
 * another child of that process: a worker must not use up PIN attempts after a refusal to another.
 */
void hsm_latch_set(const CK_TOKEN_INFO *token);
bool hsm_latch_is_set(const CK_TOKEN_INFO *token);

/**
 * Enclose a login, from the check of the list until a refusal is in it: processes that share the
 * list log in to a token one at a time. A process with its own list must see to that itself. False:
 * the timeout passed.
 */
HSM_MUST_CHECK bool hsm_latch_enter(const CK_TOKEN_INFO *token, unsigned timeout_ms);
void hsm_latch_leave(const CK_TOKEN_INFO *token);

/** Children of this process share one list from now on, which starts with the refusals to this
 * process. Call before there are threads. */
HSM_MUST_CHECK enum hsm_status hsm_latches_share(void);

/**
 * A refusal counts for processes of the configuration under which it was made: another
 * configuration may have another PIN. Children forked from now on have a new configuration. Only
 * processes of the preceding configuration may still run.
 */
void hsm_latches_begin_configuration(void);

/** Children have the preceding configuration again, with the refusals under it. */
void hsm_latches_abandon_configuration(void);

/**
 * admin.c: calls are stuck in a token so that it can no longer be used or recovered, and no other
 * token of this process serves. Only the end of the process ends such calls.
 */
bool hsm_process_is_hopeless(void);

/** In the child of a fork(): the watched slots are the parent's. */
void hsm_watch_forget(void);

/** Changes in the child of a fork(): objects opened under another generation are unusable. */
unsigned hsm_fork_generation(void);

#endif
