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
    HSM_CKR_NONE, /* it is no failure */
    HSM_CKR_RETRY, /* ask once more: nothing is wrong with the session */
    HSM_CKR_SESSION, /* this session is not to be used again: another one */
    HSM_CKR_FEWER, /* the token has no room for another session: do with those there are */
    HSM_CKR_LOGIN, /* log in again and look for the keys again */
    HSM_CKR_RESTART, /* C_Finalize, C_Initialize, and all of it */
    HSM_CKR_THROTTLE, /* wait a little, ask again */
    HSM_CKR_PIN, /* never again with this PIN */
    HSM_CKR_PERMANENT /* the caller's */
};

enum hsm_ckr_action hsm_ckr_action(CK_RV rv);

/** True for a value of the standard that can occur here; false for others, such as a vendor's. */
bool hsm_ckr_is_known(CK_RV rv);

/** True if the value refuses the request itself and says nothing about the token's state. An
 *  unknown value counts as a refusal for callers that ask for one attribute or attempt. */
bool hsm_ckr_is_refusal(CK_RV rv);

/** The kind that tells the caller what to do next; HSM_OK for CKR_OK. */
enum hsm_status hsm_ckr_status(CK_RV rv);

/** "CKR_PIN_INCORRECT"; "CKR" for one that has no name here. Static storage. */
const char *hsm_ckr_name(CK_RV rv);

#define HSM_CKR_TEXT_SIZE 48

/** Its name, or its number where that is all there is: "0x80000030"; `out`. */
const char *hsm_ckr_text(CK_RV rv, char out[HSM_CKR_TEXT_SIZE]);

/** Log that `what` failed with this value, and return its kind. */
enum hsm_status hsm_ckr_log(CK_RV rv, const char *what);

/** While true, hsm_ckr_log() in this thread logs at HSM_LOG_DEBUG. Not hsm_log_repeats(): what else
 *  a later attempt logs, such as a refused PIN, is new. */
void hsm_ckr_log_quietly(bool quietly);

/** The value that libp11 left in OpenSSL's error queue, which is emptied; CKR_GENERAL_ERROR if
 * none. */
CK_RV hsm_ckr_from_libp11(void);

#endif
