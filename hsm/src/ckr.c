/* ckr.c - PKCS#11 return values as statuses and words. */
#include "ckr_internal.h"

#include <stddef.h>
#include <stdio.h>

#include <libp11.h>
#include <openssl/err.h>

#include <hsm/log.h>

struct ckr_meaning {
    CK_RV rv;
    const char *name;
    enum hsm_status status;
    enum hsm_ckr_action action;
};

#define MEANS(rv, status, action)                                                                  \
    {                                                                                              \
        rv, #rv, status, HSM_CKR_##action                                                          \
    }

/*
 * PKCS #11 v3.1 section 5.1: what the caller can do about a value, and what this library does about
 * it before it reports the value.
 */
static const struct ckr_meaning meanings[] = {
    MEANS(CKR_OK, HSM_OK, NONE),
    MEANS(CKR_HOST_MEMORY, HSM_ERR_NOMEM, THROTTLE),
    MEANS(CKR_SLOT_ID_INVALID, HSM_ERR_BUSY, RESTART),
    MEANS(CKR_GENERAL_ERROR, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_FUNCTION_FAILED, HSM_ERR_BUSY, THROTTLE),
    MEANS(CKR_ARGUMENTS_BAD, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_CANT_LOCK, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_ATTRIBUTE_READ_ONLY, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_ATTRIBUTE_SENSITIVE, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_ATTRIBUTE_TYPE_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_ATTRIBUTE_VALUE_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_ACTION_PROHIBITED, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_DATA_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_DATA_LEN_RANGE, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_DEVICE_ERROR, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_DEVICE_MEMORY, HSM_ERR_BUSY, THROTTLE),
    MEANS(CKR_DEVICE_REMOVED, HSM_ERR_BUSY, RESTART),
    MEANS(CKR_FUNCTION_CANCELED, HSM_ERR_BUSY, RETRY),
    MEANS(CKR_FUNCTION_NOT_SUPPORTED, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_KEY_HANDLE_INVALID, HSM_ERR_NOT_FOUND, LOGIN),
    MEANS(CKR_KEY_TYPE_INCONSISTENT, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_KEY_FUNCTION_NOT_PERMITTED, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_KEY_NOT_WRAPPABLE, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_KEY_SIZE_RANGE, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_KEY_UNEXTRACTABLE, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_MECHANISM_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_MECHANISM_PARAM_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_OBJECT_HANDLE_INVALID, HSM_ERR_NOT_FOUND, LOGIN),
    MEANS(CKR_OPERATION_ACTIVE, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_OPERATION_NOT_INITIALIZED, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_PIN_INCORRECT, HSM_ERR_DENIED, PIN),
    MEANS(CKR_PIN_INVALID, HSM_ERR_DENIED, PIN),
    MEANS(CKR_PIN_LEN_RANGE, HSM_ERR_DENIED, PIN),
    MEANS(CKR_PIN_EXPIRED, HSM_ERR_DENIED, PIN),
    MEANS(CKR_PIN_LOCKED, HSM_ERR_DENIED, PIN),
    MEANS(CKR_SESSION_CLOSED, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_SESSION_COUNT, HSM_ERR_BUSY, FEWER),
    MEANS(CKR_SESSION_HANDLE_INVALID, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_SESSION_READ_ONLY, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_SESSION_EXISTS, HSM_ERR_BUSY, SESSION),
    MEANS(CKR_SESSION_READ_WRITE_SO_EXISTS, HSM_ERR_BUSY, LOGIN),
    MEANS(CKR_SIGNATURE_INVALID, HSM_ERR_CRYPTO, PERMANENT),
    MEANS(CKR_TEMPLATE_INCOMPLETE, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_TEMPLATE_INCONSISTENT, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_TOKEN_NOT_PRESENT, HSM_ERR_BUSY, RESTART),
    MEANS(CKR_TOKEN_NOT_RECOGNIZED, HSM_ERR_BUSY, RESTART),
    MEANS(CKR_TOKEN_WRITE_PROTECTED, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_USER_ALREADY_LOGGED_IN, HSM_ERR_BUSY, NONE),
    MEANS(CKR_USER_NOT_LOGGED_IN, HSM_ERR_BUSY, LOGIN),
    MEANS(CKR_USER_PIN_NOT_INITIALIZED, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_USER_TYPE_INVALID, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, HSM_ERR_BUSY, PERMANENT),
    MEANS(CKR_USER_TOO_MANY_TYPES, HSM_ERR_BUSY, PERMANENT),
    MEANS(CKR_DOMAIN_PARAMS_INVALID, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_CURVE_NOT_SUPPORTED, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_CRYPTOKI_NOT_INITIALIZED, HSM_ERR_BUSY, RESTART),
    MEANS(CKR_CRYPTOKI_ALREADY_INITIALIZED, HSM_ERR_BUSY, NONE),
    MEANS(CKR_FUNCTION_REJECTED, HSM_ERR_DENIED, PERMANENT),
    MEANS(CKR_WRAPPING_KEY_HANDLE_INVALID, HSM_ERR_NOT_FOUND, LOGIN),
    MEANS(CKR_WRAPPING_KEY_SIZE_RANGE, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_WRAPPING_KEY_TYPE_INCONSISTENT, HSM_ERR_UNSUPPORTED, PERMANENT),
    MEANS(CKR_BUFFER_TOO_SMALL, HSM_ERR_UNSUPPORTED, SESSION),
};

/* A vendor's own value: some report lost connections in this way, and opening another session is
 * cheap. As an answer to a PIN it is a refusal (recover.c). */
static const struct ckr_meaning unknown = {0, "CKR", HSM_ERR_BUSY, HSM_CKR_SESSION};

static const struct ckr_meaning *
meaning_of(CK_RV rv)
{
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (meanings[i].rv == rv)
            return &meanings[i];
    }
    return &unknown;
}

bool
hsm_ckr_is_known(CK_RV rv)
{
    return meaning_of(rv) != &unknown;
}

enum hsm_status
hsm_ckr_status(CK_RV rv)
{
    return meaning_of(rv)->status;
}

enum hsm_ckr_action
hsm_ckr_action(CK_RV rv)
{
    return meaning_of(rv)->action;
}

bool
hsm_ckr_is_refusal(CK_RV rv)
{
    return !hsm_ckr_is_known(rv) || hsm_ckr_action(rv) == HSM_CKR_PERMANENT;
}

const char *
hsm_ckr_name(CK_RV rv)
{
    return meaning_of(rv)->name;
}

const char *
hsm_ckr_text(CK_RV rv, char out[HSM_CKR_TEXT_SIZE])
{
    if (hsm_ckr_is_known(rv))
        snprintf(out, HSM_CKR_TEXT_SIZE, "%s", hsm_ckr_name(rv));
    else
        snprintf(out, HSM_CKR_TEXT_SIZE, "0x%lx", rv);
    return out;
}

/* A recovery logs the obstacle once; later attempts are quiet. */
static _Thread_local bool quiet;

void
hsm_ckr_log_quietly(bool quietly)
{
    quiet = quietly;
}

enum hsm_status
hsm_ckr_log(CK_RV rv, const char *what)
{
    hsm_log(quiet ? HSM_LOG_DEBUG : HSM_LOG_ERROR, "%s: %s (0x%lx)", what, hsm_ckr_name(rv), rv);
    return hsm_ckr_status(rv);
}

enum hsm_status
hsm_ckr_log_of(CK_RV rv, const char *kind, const char *name, const char *what)
{
    char text[512];

    snprintf(text, sizeof(text), "%s %s: %s", kind, name, what);
    return hsm_ckr_log(rv, text);
}

CK_RV
hsm_ckr_from_libp11(void)
{
    CK_RV rv = CKR_GENERAL_ERROR;
    /* libp11's errors have this library number, and CKR values as reasons. */
    int library = ERR_get_CKR_code();
    unsigned long error;

    while ((error = ERR_get_error()) != 0) {
        if (ERR_GET_LIB(error) == library)
            rv = (CK_RV)ERR_GET_REASON(error);
    }
    return rv;
}
