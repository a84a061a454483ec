/* names.c - PKCS#11 constants by name. */
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"

#define NAME(constant)                                                                             \
    {                                                                                              \
#constant, constant                                                                        \
    }
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct name {
    const char *text;
    unsigned long value;
};

static const struct name return_values[] = {
    NAME(CKR_OK),
    NAME(CKR_CANCEL),
    NAME(CKR_HOST_MEMORY),
    NAME(CKR_SLOT_ID_INVALID),
    NAME(CKR_GENERAL_ERROR),
    NAME(CKR_FUNCTION_FAILED),
    NAME(CKR_ARGUMENTS_BAD),
    NAME(CKR_NO_EVENT),
    NAME(CKR_NEED_TO_CREATE_THREADS),
    NAME(CKR_CANT_LOCK),
    NAME(CKR_ATTRIBUTE_READ_ONLY),
    NAME(CKR_ATTRIBUTE_SENSITIVE),
    NAME(CKR_ATTRIBUTE_TYPE_INVALID),
    NAME(CKR_ATTRIBUTE_VALUE_INVALID),
    NAME(CKR_ACTION_PROHIBITED),
    NAME(CKR_DATA_INVALID),
    NAME(CKR_DATA_LEN_RANGE),
    NAME(CKR_DEVICE_ERROR),
    NAME(CKR_DEVICE_MEMORY),
    NAME(CKR_DEVICE_REMOVED),
    NAME(CKR_ENCRYPTED_DATA_INVALID),
    NAME(CKR_ENCRYPTED_DATA_LEN_RANGE),
    NAME(CKR_FUNCTION_CANCELED),
    NAME(CKR_FUNCTION_NOT_PARALLEL),
    NAME(CKR_FUNCTION_NOT_SUPPORTED),
    NAME(CKR_KEY_HANDLE_INVALID),
    NAME(CKR_KEY_SIZE_RANGE),
    NAME(CKR_KEY_TYPE_INCONSISTENT),
    NAME(CKR_KEY_NOT_NEEDED),
    NAME(CKR_KEY_CHANGED),
    NAME(CKR_KEY_NEEDED),
    NAME(CKR_KEY_INDIGESTIBLE),
    NAME(CKR_KEY_FUNCTION_NOT_PERMITTED),
    NAME(CKR_KEY_NOT_WRAPPABLE),
    NAME(CKR_KEY_UNEXTRACTABLE),
    NAME(CKR_MECHANISM_INVALID),
    NAME(CKR_MECHANISM_PARAM_INVALID),
    NAME(CKR_OBJECT_HANDLE_INVALID),
    NAME(CKR_OPERATION_ACTIVE),
    NAME(CKR_OPERATION_NOT_INITIALIZED),
    NAME(CKR_PIN_INCORRECT),
    NAME(CKR_PIN_INVALID),
    NAME(CKR_PIN_LEN_RANGE),
    NAME(CKR_PIN_EXPIRED),
    NAME(CKR_PIN_LOCKED),
    NAME(CKR_SESSION_CLOSED),
    NAME(CKR_SESSION_COUNT),
    NAME(CKR_SESSION_HANDLE_INVALID),
    NAME(CKR_SESSION_PARALLEL_NOT_SUPPORTED),
    NAME(CKR_SESSION_READ_ONLY),
    NAME(CKR_SESSION_EXISTS),
    NAME(CKR_SESSION_READ_ONLY_EXISTS),
    NAME(CKR_SESSION_READ_WRITE_SO_EXISTS),
    NAME(CKR_SIGNATURE_INVALID),
    NAME(CKR_SIGNATURE_LEN_RANGE),
    NAME(CKR_TEMPLATE_INCOMPLETE),
    NAME(CKR_TEMPLATE_INCONSISTENT),
    NAME(CKR_TOKEN_NOT_PRESENT),
    NAME(CKR_TOKEN_NOT_RECOGNIZED),
    NAME(CKR_TOKEN_WRITE_PROTECTED),
    NAME(CKR_UNWRAPPING_KEY_SIZE_RANGE),
    NAME(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT),
    NAME(CKR_USER_ALREADY_LOGGED_IN),
    NAME(CKR_USER_NOT_LOGGED_IN),
    NAME(CKR_USER_PIN_NOT_INITIALIZED),
    NAME(CKR_USER_TYPE_INVALID),
    NAME(CKR_USER_ANOTHER_ALREADY_LOGGED_IN),
    NAME(CKR_USER_TOO_MANY_TYPES),
    NAME(CKR_WRAPPED_KEY_INVALID),
    NAME(CKR_WRAPPED_KEY_LEN_RANGE),
    NAME(CKR_WRAPPING_KEY_HANDLE_INVALID),
    NAME(CKR_WRAPPING_KEY_SIZE_RANGE),
    NAME(CKR_WRAPPING_KEY_TYPE_INCONSISTENT),
    NAME(CKR_RANDOM_SEED_NOT_SUPPORTED),
    NAME(CKR_RANDOM_NO_RNG),
    NAME(CKR_DOMAIN_PARAMS_INVALID),
    NAME(CKR_CURVE_NOT_SUPPORTED),
    NAME(CKR_BUFFER_TOO_SMALL),
    NAME(CKR_SAVED_STATE_INVALID),
    NAME(CKR_INFORMATION_SENSITIVE),
    NAME(CKR_STATE_UNSAVEABLE),
    NAME(CKR_CRYPTOKI_NOT_INITIALIZED),
    NAME(CKR_CRYPTOKI_ALREADY_INITIALIZED),
    NAME(CKR_MUTEX_BAD),
    NAME(CKR_MUTEX_NOT_LOCKED),
    NAME(CKR_NEW_PIN_MODE),
    NAME(CKR_NEXT_OTP),
    NAME(CKR_EXCEEDED_MAX_ITERATIONS),
    NAME(CKR_FIPS_SELF_TEST_FAILED),
    NAME(CKR_LIBRARY_LOAD_FAILED),
    NAME(CKR_PIN_TOO_WEAK),
    NAME(CKR_PUBLIC_KEY_INVALID),
    NAME(CKR_FUNCTION_REJECTED),
};

static const struct name attributes[] = {
    NAME(CKA_CLASS),
    NAME(CKA_TOKEN),
    NAME(CKA_PRIVATE),
    NAME(CKA_LABEL),
    NAME(CKA_VALUE),
    NAME(CKA_TRUSTED),
    NAME(CKA_KEY_TYPE),
    NAME(CKA_SUBJECT),
    NAME(CKA_ID),
    NAME(CKA_SENSITIVE),
    NAME(CKA_ENCRYPT),
    NAME(CKA_DECRYPT),
    NAME(CKA_WRAP),
    NAME(CKA_UNWRAP),
    NAME(CKA_SIGN),
    NAME(CKA_SIGN_RECOVER),
    NAME(CKA_VERIFY),
    NAME(CKA_VERIFY_RECOVER),
    NAME(CKA_DERIVE),
    NAME(CKA_PUBLIC_KEY_INFO),
    NAME(CKA_EXTRACTABLE),
    NAME(CKA_LOCAL),
    NAME(CKA_NEVER_EXTRACTABLE),
    NAME(CKA_ALWAYS_SENSITIVE),
    NAME(CKA_KEY_GEN_MECHANISM),
    NAME(CKA_MODIFIABLE),
    NAME(CKA_COPYABLE),
    NAME(CKA_DESTROYABLE),
    NAME(CKA_EC_PARAMS),
    NAME(CKA_EC_POINT),
    NAME(CKA_ALWAYS_AUTHENTICATE),
    NAME(CKA_WRAP_WITH_TRUSTED),
    NAME(CKA_ALLOWED_MECHANISMS),
};

static const struct name token_flags[] = {
    NAME(CKF_RNG),
    NAME(CKF_WRITE_PROTECTED),
    NAME(CKF_LOGIN_REQUIRED),
    NAME(CKF_USER_PIN_INITIALIZED),
    NAME(CKF_PROTECTED_AUTHENTICATION_PATH),
    NAME(CKF_TOKEN_INITIALIZED),
    NAME(CKF_USER_PIN_COUNT_LOW),
    NAME(CKF_USER_PIN_FINAL_TRY),
    NAME(CKF_USER_PIN_LOCKED),
    NAME(CKF_USER_PIN_TO_BE_CHANGED),
    NAME(CKF_SO_PIN_COUNT_LOW),
    NAME(CKF_SO_PIN_FINAL_TRY),
    NAME(CKF_SO_PIN_LOCKED),
    NAME(CKF_SO_PIN_TO_BE_CHANGED),
};

static const char *const function_names[] = {
#define FAULT_FUNCTION(name) [FN_##name] = #name,
    FAULT_FUNCTIONS(FAULT_FUNCTION)
#undef FAULT_FUNCTION
};

bool
fault_number_parse(const char *word, unsigned long *out)
{
    bool hex = strncmp(word, "0x", 2) == 0;
    const char *digits = hex ? word + 2 : word;
    unsigned long value;
    char *end;

    if (*digits == '\0' || strspn(digits, "0123456789abcdefABCDEF") != strlen(digits))
        return false;
    errno = 0;
    value = strtoul(digits, &end, hex ? 16 : 10);
    if (errno != 0 || *end != '\0')
        return false;
    *out = value;
    return true;
}

static bool
parse(const struct name *names, size_t count, const char *word, unsigned long *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i].text, word) == 0) {
            *out = names[i].value;
            return true;
        }
    }
    return fault_number_parse(word, out);
}

const char *
fault_ckr_text(CK_RV rv, char text[FAULT_CKR_TEXT_MAX])
{
    const char *name = NULL;

    for (size_t i = 0; i < COUNT(return_values) && name == NULL; i++) {
        if (return_values[i].value == rv)
            name = return_values[i].text;
    }
    if (name != NULL)
        snprintf(text, FAULT_CKR_TEXT_MAX, "%s", name);
    else
        snprintf(text, FAULT_CKR_TEXT_MAX, "0x%lx", rv);
    return text;
}

bool
fault_ckr_parse(const char *word, CK_RV *out)
{
    return parse(return_values, COUNT(return_values), word, out);
}

bool
fault_cka_parse(const char *word, CK_ATTRIBUTE_TYPE *out)
{
    return parse(attributes, COUNT(attributes), word, out);
}

bool
fault_ckf_parse(const char *word, CK_FLAGS *out)
{
    return parse(token_flags, COUNT(token_flags), word, out);
}

const char *
fault_fn_name(enum fault_fn fn)
{
    return fn < FN_COUNT ? function_names[fn] : "?";
}

bool
fault_fn_parse(const char *name, enum fault_fn *out)
{
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        if (strcmp(function_names[fn], name) == 0) {
            *out = fn;
            return true;
        }
    }
    return false;
}

bool
fault_fn_ends_operation(enum fault_fn fn)
{
    switch (fn) {
    case FN_C_Encrypt:
    case FN_C_EncryptFinal:
    case FN_C_Decrypt:
    case FN_C_DecryptFinal:
    case FN_C_Digest:
    case FN_C_DigestFinal:
    case FN_C_Sign:
    case FN_C_SignFinal:
    case FN_C_SignRecover:
    case FN_C_Verify:
    case FN_C_VerifyFinal:
    case FN_C_VerifyRecover:
        return true;
    default:
        return false;
    }
}

bool
fault_fn_is_crypto(enum fault_fn fn)
{
    switch (fn) {
    case FN_C_SignUpdate:
    case FN_C_GenerateKey:
    case FN_C_GenerateKeyPair:
    case FN_C_WrapKey:
    case FN_C_UnwrapKey:
    case FN_C_DeriveKey:
    case FN_C_GenerateRandom:
        return true;
    default:
        return fault_fn_ends_operation(fn);
    }
}
