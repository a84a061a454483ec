/*
 * signer_internal.h - a key as it is in the token now, and its signatures.
 *
 * Shared by hsm_keys and lent EVP_PKEYs. A signer outlives recoveries, in which its handles are
 * looked up again, and the closing of its token, after which it no longer signs.
 */
#ifndef HSM_SIGNER_INTERNAL_H
#define HSM_SIGNER_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#include "slot_internal.h"

/* Bounds of one call. */
#define HSM_LOSSES_MAX 16 /* recoveries that a call waits for: its key alone may be at fault */
#define HSM_WRONG_MAX  4 /* signatures that do not verify */

struct hsm_lane;
struct hsm_object_pair;
struct hsm_job;
struct hsm_journal_key;

struct hsm_signer {
    struct hsm_slot *slot; /* with a reference */
    _Atomic(CK_OBJECT_HANDLE) private_object;
    _Atomic(CK_OBJECT_HANDLE) public_object;
    struct hsm_key_info info; /* as first found: never changes */
    EVP_PKEY *public_key; /* in memory, without a token behind it */
    struct hsm_es256_verifier *verifier; /* of that key */
    const struct hsm_journal_key *journal_key; /* its name in the journal; NULL: no journal */
    _Atomic(enum hsm_status) status; /* OK; BUSY: being looked for; else refused with this */
    atomic_bool retired; /* set before the status becomes NOT_FOUND, which is final */
    /* by session index: the opening of the session in which a signature of this key was verified;
     * 0: none */
    _Atomic(uint64_t) *proven;
    atomic_bool doubted; /* it gave a wrong signature since it was last proven */
    /* used by the slot's thread: */
    int64_t missing_since; /* 0: not missing */
    _Atomic(int64_t) tried_again; /* if refused because it is doubted: not before; read, too, when
                                   * the key is loaded again */
    unsigned doubted_ms; /* the pause before that; 0: it is not refused for this */
    enum hsm_status refused_with; /* the refusal that was logged last; OK: none */
    bool disproved; /* in the present recovery */
    struct hsm_lane **lanes; /* for the libp11 route; NULL on the direct one */
    unsigned lane_count;
    struct hsm_signer *further[HSM_CONNECTIONS_MAX - 1]; /* with a reference: the same key on */
    unsigned further_count; /* further connections */
    atomic_uint refs;
    struct hsm_signer *next; /* under the slot's signers_lock */
    char apart[HSM_CACHE_LINE]; /* every signature reads what is above, writes what is below */
    atomic_uint signatures; /* counted for verify_every */
    char apart_too[HSM_CACHE_LINE];
};

/** Parameters of a signature. */
struct hsm_request {
    const uint8_t *digest; /* HSM_SHA256_LEN octets */
    struct hsm_patience patience;
    bool verify; /* verify it before it is given out */
    bool quiet; /* do not log a token that does not answer in time */
    bool unrecorded; /* for the journal itself, whose checkpoint is the record of it */
};

/**
 * Add a signer to the slot; takes public_key over on success. Without a handle (CK_INVALID_HANDLE)
 * its key is to be looked for.
 */
HSM_MUST_CHECK enum hsm_status
hsm_signer_new(struct hsm_slot *slot, const struct hsm_key_info *info,
               CK_OBJECT_HANDLE private_object, CK_OBJECT_HANDLE public_object,
               EVP_PKEY *public_key, struct hsm_signer **out);

void hsm_signer_ref(struct hsm_signer *signer);
void hsm_signer_unref(struct hsm_signer *signer);
DEFINE_DEFER(struct hsm_signer, hsm_signer_unref)

/** Its key was destroyed on the token: it is not looked up again, and no longer signs. */
void hsm_signer_retire(struct hsm_signer *signer);

/** Sign, by a worker if there are workers; a failure is logged. */
HSM_MUST_CHECK enum hsm_status hsm_signer_sign(struct hsm_signer *signer,
                                               const struct hsm_request *request, uint8_t *sig);

/** hsm_signer_sign() on its own connection alone; not counted, logged or journaled. */
HSM_MUST_CHECK enum hsm_status
hsm_signer_sign_alone(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig);

/** Sign in this thread; not logged. `job` records the session in use; may be NULL. */
HSM_MUST_CHECK enum hsm_status hsm_signer_sign_here(struct hsm_signer *signer,
                                                    const struct hsm_request *request,
                                                    struct hsm_job *job, uint8_t *sig);

/** Form of what C_Sign returned. */
enum hsm_form {
    HSM_FORM_GOOD,
    HSM_FORM_BAD /* CKR_OK, but no signature: wrong length, R or S out of range */
};

/** C_SignInit and C_Sign; `sig` receives R || S if the value is CKR_OK and the form is good. */
HSM_MUST_CHECK CK_RV hsm_signer_call(const struct hsm_signer *signer, CK_SESSION_HANDLE session,
                                     const uint8_t *digest, uint8_t *sig, enum hsm_form *form);

/** A signature on the control session, verified; inside the admin gate. */
HSM_MUST_CHECK enum hsm_status hsm_signer_try(const struct hsm_signer *signer);

/* ---- signer_find.c: inside the admin gate ---- */

/**
 * Find the key's objects by its CKA_ID, and read its attributes; not logged.
 *
 * @retval HSM_ERR_UNTRUSTED  another key has that CKA_ID: both outputs are written all the same
 */
HSM_MUST_CHECK enum hsm_status hsm_signer_find(const struct hsm_signer *signer,
                                               struct hsm_object_pair *pair,
                                               struct hsm_key_info *info);

/* ---- signer_find.c: in the slot's own thread ---- */

/**
 * Look for all keys, or for the missing ones: each must still have its public half and its
 * attributes, or it is refused from now on. BUSY when the token did not answer.
 */
HSM_MUST_CHECK enum hsm_status hsm_signers_find_again(struct hsm_slot *slot, bool all);

/**
 * Requires one good signature from the keys, if there are any, and one from each key that gave a
 * wrong one: a key that fails again while another signs is refused.
 */
HSM_MUST_CHECK enum hsm_status hsm_signers_prove(struct hsm_slot *slot);

/** True if it is time to look again for a key that was missing or refused after a recovery. */
bool hsm_signers_missing(struct hsm_slot *slot);

/** Milliseconds until a key that signed wrongly is to be tried again; `at_most` if there is none.
 */
unsigned hsm_signers_pause_ms(struct hsm_slot *slot, unsigned at_most);

#endif
