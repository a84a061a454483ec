/*
 * slots.h - the slots that callers see: numbers that can change, tokens that can be away, PINs that
 * can be locked.
 *
 * A slot is known inside by an index below FAULT_SLOTS_MAX.
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
    FAULT_REMOVE_SLOT, /* the slot is gone too */
};

/** The slot that callers call `shown`; false: there is none of that number. */
bool fault_slot_find(CK_SLOT_ID shown, unsigned *index);

/** The slot that the module behind calls `real`; false: more than FAULT_SLOTS_MAX were seen. */
bool fault_slot_meet(CK_SLOT_ID real, unsigned *index);

CK_SLOT_ID fault_slot_real(unsigned index);
CK_SLOT_ID fault_slot_shown(unsigned index);

/** Every slot gets another number. */
void fault_slot_renumber(void);

/** Ask the module behind for the token's label, once; the world is entered, and it is initialised.
 */
void fault_slot_learn(unsigned index);

/** Whether the token in the slot is known to have this label; "" is every token's. */
bool fault_slot_has_label(unsigned index, const char *label);

/** The label of the token in the slot, "" where it is not known. */
void fault_slot_label(unsigned index, char label[FAULT_LABEL_SIZE]);

/** Slots known, for loops over them. */
unsigned fault_slot_count(void);

/** The token may be another one now. */
void fault_slot_forget_label(unsigned index);
void fault_slot_forget_labels(void);

/**
 * Tokens with this label ("": all) are away.
 *
 * @param rv        what sessions of such a token answer with meanwhile
 * @param until_ns  when they come back, 0: when told; by fault_now_ns()
 * @return false: FAULT_REMOVALS_MAX are away already
 */
bool fault_slot_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t until_ns);

/** "": all. */
void fault_slot_return(const char *label);

/** Whether the slot's token is away. */
bool fault_slot_is_away(unsigned index, enum fault_removal *how);

/** What a session that was lost answers with: CKR_SESSION_HANDLE_INVALID where none is away. */
CK_RV fault_slot_lost_session(void);

/** Wrong PINs that lock a token; 0: none do. */
void fault_slot_set_lockout(unsigned tries);

/** CKR_PIN_LOCKED or CKR_OK. */
CK_RV fault_slot_may_login(unsigned index);

/** What the module behind said about the user's PIN. */
void fault_slot_login_result(unsigned index, CK_RV rv);

/** Flags for CK_TOKEN_INFO that follow from wrong PINs. */
CK_FLAGS fault_slot_pin_flags(unsigned index);

/** Somebody else logged out: private objects are CKR_USER_NOT_LOGGED_IN until the next login. */
void fault_slot_set_logged_out(unsigned index, bool logged_out);
bool fault_slot_is_logged_out(unsigned index);

/** Nothing away, nothing locked; numbers as they are. */
void fault_slot_reset(void);

void fault_slot_child(void);

#endif
