/*
 * ckr_internal.h - PKCS#11 return values as statuses and words.
 */
#ifndef HSM_CKR_INTERNAL_H
#define HSM_CKR_INTERNAL_H

#include <p11-kit/pkcs11.h>

#include <hsm/status.h>

/** The kind that tells the caller what to do next; HSM_OK for CKR_OK. */
enum hsm_status hsm_ckr_status(CK_RV rv);

/** "CKR_PIN_INCORRECT"; "CKR" for one that has no name here. Static storage. */
const char *hsm_ckr_name(CK_RV rv);

/** Log that `what` failed with this value, and return its kind. */
enum hsm_status hsm_ckr_log(CK_RV rv, const char *what);

/** The value that libp11 left in OpenSSL's error queue, which is emptied; CKR_GENERAL_ERROR if
 * none. */
CK_RV hsm_ckr_from_libp11(void);

#endif
