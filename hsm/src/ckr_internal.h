/*
 * ckr_internal.h - PKCS#11 return values as statuses and words.
 */
#ifndef HSM_CKR_INTERNAL_H
#define HSM_CKR_INTERNAL_H

#include <stdbool.h>

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

/** What to do about a return value before it is reported to a caller. */
enum hsm_ckr_action {
    HSM_CKR_NONE, /* not a failure */
    HSM_CKR_RETRY, /* try once more: the session is good */
    HSM_CKR_SESSION, /* do not use this session again, take another */
    HSM_CKR_FEWER, /* the token has no room for another session: use the open ones */
    HSM_CKR_LOGIN, /* log in again and find the keys again */
    HSM_CKR_RESTART, /* C_Finalize, C_Initialize, then log in and find the keys */
    HSM_CKR_THROTTLE, /* wait a little, try again */
    HSM_CKR_PIN, /* never present this PIN again */
    HSM_CKR_PERMANENT /* a retry will not help: report it */
};

enum hsm_ckr_action hsm_ckr_action(CK_RV rv);

/** True for a value of the standard that can occur here; false for others, such as a vendor's. */
bool hsm_ckr_is_known(CK_RV rv);

/** True if the value refuses the request itself and says nothing about the token's state. An
 *  unknown value counts as a refusal for callers that ask for one attribute or attempt. */
bool hsm_ckr_is_refusal(CK_RV rv);

/** The kind that tells the caller what to do next; HSM_OK for CKR_OK. */
enum hsm_status hsm_ckr_status(CK_RV rv);

/** "CKR_PIN_INCORRECT"; "CKR" for a value without a name here. Static storage. */
const char *hsm_ckr_name(CK_RV rv);

#define HSM_CKR_TEXT_SIZE 48

/** The value's name, or its number if it has no name here: "0x80000030". Returns `out`. */
const char *hsm_ckr_text(CK_RV rv, char out[HSM_CKR_TEXT_SIZE]);

/** Log that `what` failed with this value, and return its kind. */
enum hsm_status hsm_ckr_log(CK_RV rv, const char *what);

/** The same as "KIND NAME: WHAT". */
enum hsm_status hsm_ckr_log_of(CK_RV rv, const char *kind, const char *name, const char *what);

/** While true, hsm_ckr_log() in this thread logs at HSM_LOG_DEBUG. Not hsm_log_repeats(): what else
 *  a later attempt logs, such as a refused PIN, is new. */
void hsm_ckr_log_quietly(bool quietly);

/** The value that libp11 left in OpenSSL's error queue, which is emptied; CKR_GENERAL_ERROR if it
 * left none. */
CK_RV hsm_ckr_from_libp11(void);

#endif
