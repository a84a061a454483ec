/*
 * slots.h - the slots that callers see: their numbers can change, their tokens can be away, their
 * PINs can be locked.
 *
 * Within the module a slot is identified by an index below FAULT_SLOTS_MAX.
 */
#ifndef FAULT_SLOTS_H
#define FAULT_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#define FAULT_LABEL_SIZE   33 /* octets of a token's label, with the 0 */
#define FAULT_REMOVALS_MAX 16 /* tokens named as away at once */

enum fault_removal {
    FAULT_REMOVE_TOKEN, /* the slot stays, empty */
    FAULT_REMOVE_SLOT, /* the slot disappears, too */
};

/** Find the slot with the number `shown` for callers; false: there is no such slot. */
bool fault_slot_find(CK_SLOT_ID shown, unsigned *index);

/** Find or add the slot `real` of the module behind; false: there are FAULT_SLOTS_MAX already. */
bool fault_slot_meet(CK_SLOT_ID real, unsigned *index);

CK_SLOT_ID fault_slot_real(unsigned index);
CK_SLOT_ID fault_slot_shown(unsigned index);

/** Give every slot another number. */
void fault_slot_renumber(void);

/** Read the token's label from the module behind, once. The caller has entered the world, and the
 *  module behind is initialised. */
void fault_slot_learn(unsigned index);

/** Whether the token in the slot is known to have this label; "" matches every token. */
bool fault_slot_has_label(unsigned index, const char *label);

/** The label of the token in the slot; "": unknown. */
void fault_slot_label(unsigned index, char label[FAULT_LABEL_SIZE]);

/** The number of known slots; their indexes are below it. */
unsigned fault_slot_count(void);

/** Forget the label: another token may be in the slot now. */
void fault_slot_forget_label(unsigned index);
void fault_slot_forget_labels(void);

/**
 * Remove the tokens with this label ("": all).
 *
 * @param rv        returned for sessions of such a token meanwhile
 * @param until_ns  when they come back, by fault_now_ns(); 0: with fault_slot_return()
 * @return false: FAULT_REMOVALS_MAX are away already
 */
bool fault_slot_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t until_ns);

/** Bring the tokens with this label back; "": all. */
void fault_slot_return(const char *label);

/** Whether the slot's token is away. */
bool fault_slot_is_away(unsigned index, enum fault_removal *how);

/** The return value for a lost session: CKR_SESSION_HANDLE_INVALID if no token is away. */
CK_RV fault_slot_lost_session(void);

/** The number of wrong PINs that locks a token; 0: never. */
void fault_slot_set_lockout(unsigned tries);

/** CKR_PIN_LOCKED or CKR_OK. */
CK_RV fault_slot_may_login(unsigned index);

/** Record what the module behind returned for the user's PIN. */
void fault_slot_login_result(unsigned index, CK_RV rv);

/** Flags for CK_TOKEN_INFO that follow from wrong PINs. */
CK_FLAGS fault_slot_pin_flags(unsigned index);

/** After a logout by others: private objects give CKR_USER_NOT_LOGGED_IN until the next login. */
void fault_slot_set_logged_out(unsigned index, bool logged_out);
bool fault_slot_is_logged_out(unsigned index);

/** No token away, no PIN locked; slot numbers stay as they are. */
void fault_slot_reset(void);

void fault_slot_child(void);

#endif
