/* audit_name.c - names for the numbers of PKCS #11. */
#include "audit_internal.h"

#include <stdio.h>

struct name {
    CK_ULONG value;
    const char *text;
};

#define NAME(constant)                                                                             \
    {                                                                                              \
        constant, #constant                                                                        \
    }
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct name mechanisms[] = {
    NAME(CKM_RSA_PKCS_KEY_PAIR_GEN),
    NAME(CKM_RSA_PKCS),
    NAME(CKM_RSA_9796),
    NAME(CKM_RSA_X_509),
    NAME(CKM_SHA1_RSA_PKCS),
    NAME(CKM_RSA_PKCS_OAEP),
    NAME(CKM_RSA_PKCS_PSS),
    NAME(CKM_SHA1_RSA_PKCS_PSS),
    NAME(CKM_SHA256_RSA_PKCS),
    NAME(CKM_SHA384_RSA_PKCS),
    NAME(CKM_SHA512_RSA_PKCS),
    NAME(CKM_SHA224_RSA_PKCS),
    NAME(CKM_SHA256_RSA_PKCS_PSS),
    NAME(CKM_SHA384_RSA_PKCS_PSS),
    NAME(CKM_SHA512_RSA_PKCS_PSS),
    NAME(CKM_SHA224_RSA_PKCS_PSS),
    NAME(CKM_RSA_AES_KEY_WRAP),
    NAME(CKM_DES_KEY_GEN),
    NAME(CKM_DES_ECB),
    NAME(CKM_DES_CBC),
    NAME(CKM_DES_CBC_PAD),
    NAME(CKM_DES2_KEY_GEN),
    NAME(CKM_DES3_KEY_GEN),
    NAME(CKM_DES3_ECB),
    NAME(CKM_DES3_CBC),
    NAME(CKM_DES3_CBC_PAD),
    NAME(CKM_DES3_CMAC),
    NAME(CKM_MD5),
    NAME(CKM_MD5_HMAC),
    NAME(CKM_SHA_1),
    NAME(CKM_SHA_1_HMAC),
    NAME(CKM_SHA224),
    NAME(CKM_SHA224_HMAC),
    NAME(CKM_SHA256),
    NAME(CKM_SHA256_HMAC),
    NAME(CKM_SHA384),
    NAME(CKM_SHA384_HMAC),
    NAME(CKM_SHA512),
    NAME(CKM_SHA512_HMAC),
    NAME(CKM_GENERIC_SECRET_KEY_GEN),
    NAME(CKM_CONCATENATE_BASE_AND_KEY),
    NAME(CKM_CONCATENATE_BASE_AND_DATA),
    NAME(CKM_CONCATENATE_DATA_AND_BASE),
    NAME(CKM_XOR_BASE_AND_DATA),
    NAME(CKM_EXTRACT_KEY_FROM_KEY),
    NAME(CKM_EC_KEY_PAIR_GEN),
    NAME(CKM_ECDSA),
    NAME(CKM_ECDSA_SHA1),
    NAME(CKM_ECDSA_SHA224),
    NAME(CKM_ECDSA_SHA256),
    NAME(CKM_ECDSA_SHA384),
    NAME(CKM_ECDSA_SHA512),
    NAME(CKM_ECDH1_DERIVE),
    NAME(CKM_ECDH1_COFACTOR_DERIVE),
    NAME(CKM_ECMQV_DERIVE),
    NAME(CKM_ECDH_AES_KEY_WRAP),
    NAME(CKM_EC_EDWARDS_KEY_PAIR_GEN),
    NAME(CKM_EDDSA),
    NAME(CKM_AES_KEY_GEN),
    NAME(CKM_AES_ECB),
    NAME(CKM_AES_CBC),
    NAME(CKM_AES_MAC),
    NAME(CKM_AES_CBC_PAD),
    NAME(CKM_AES_CTR),
    NAME(CKM_AES_GCM),
    NAME(CKM_AES_CCM),
    NAME(CKM_AES_CTS),
    NAME(CKM_AES_CMAC),
    NAME(CKM_AES_KEY_WRAP),
    NAME(CKM_AES_KEY_WRAP_PAD),
    NAME(CKM_DES_ECB_ENCRYPT_DATA),
    NAME(CKM_DES_CBC_ENCRYPT_DATA),
    NAME(CKM_DES3_ECB_ENCRYPT_DATA),
    NAME(CKM_DES3_CBC_ENCRYPT_DATA),
    NAME(CKM_AES_ECB_ENCRYPT_DATA),
    NAME(CKM_AES_CBC_ENCRYPT_DATA),
    NAME(CKM_DSA_KEY_PAIR_GEN),
    NAME(CKM_DSA_SHA1),
    NAME(CKM_DSA_PARAMETER_GEN),
    NAME(CKM_DH_PKCS_KEY_PAIR_GEN),
    NAME(CKM_DH_PKCS_DERIVE),
    NAME(CKM_DH_PKCS_PARAMETER_GEN),
    NAME(CKM_DSA_SHA224),
    NAME(CKM_DSA_SHA256),
    NAME(CKM_DSA_SHA384),
    NAME(CKM_DSA_SHA512),
};

static const struct name attributes[] = {
    NAME(CKA_CLASS),
    NAME(CKA_TOKEN),
    NAME(CKA_PRIVATE),
    NAME(CKA_LABEL),
    NAME(CKA_VALUE),
    NAME(CKA_SENSITIVE),
    NAME(CKA_ENCRYPT),
    NAME(CKA_DECRYPT),
    NAME(CKA_WRAP),
    NAME(CKA_UNWRAP),
    NAME(CKA_SIGN),
    NAME(CKA_SIGN_RECOVER),
    NAME(CKA_VERIFY),
    NAME(CKA_DERIVE),
    NAME(CKA_EXTRACTABLE),
    NAME(CKA_LOCAL),
    NAME(CKA_NEVER_EXTRACTABLE),
    NAME(CKA_ALWAYS_SENSITIVE),
    NAME(CKA_KEY_GEN_MECHANISM),
    NAME(CKA_MODIFIABLE),
    NAME(CKA_COPYABLE),
    NAME(CKA_EC_PARAMS),
    NAME(CKA_EC_POINT),
    NAME(CKA_ALWAYS_AUTHENTICATE),
    NAME(CKA_WRAP_WITH_TRUSTED),
    NAME(CKA_ALLOWED_MECHANISMS),
    NAME(CKA_KEY_TYPE),
};

static const struct name classes[] = {
    NAME(CKO_DATA),       NAME(CKO_CERTIFICATE), NAME(CKO_PUBLIC_KEY),        NAME(CKO_PRIVATE_KEY),
    NAME(CKO_SECRET_KEY), NAME(CKO_HW_FEATURE),  NAME(CKO_DOMAIN_PARAMETERS), NAME(CKO_MECHANISM),
};

static const struct name states[] = {
    NAME(CKS_RO_PUBLIC_SESSION), NAME(CKS_RO_USER_FUNCTIONS), NAME(CKS_RW_PUBLIC_SESSION),
    NAME(CKS_RW_USER_FUNCTIONS), NAME(CKS_RW_SO_FUNCTIONS),
};

static const struct name token_flags[] = {
    NAME(CKF_RNG),
    NAME(CKF_WRITE_PROTECTED),
    NAME(CKF_LOGIN_REQUIRED),
    NAME(CKF_USER_PIN_INITIALIZED),
    NAME(CKF_RESTORE_KEY_NOT_NEEDED),
    NAME(CKF_CLOCK_ON_TOKEN),
    NAME(CKF_PROTECTED_AUTHENTICATION_PATH),
    NAME(CKF_DUAL_CRYPTO_OPERATIONS),
    NAME(CKF_TOKEN_INITIALIZED),
    NAME(CKF_SECONDARY_AUTHENTICATION),
    NAME(CKF_USER_PIN_COUNT_LOW),
    NAME(CKF_USER_PIN_FINAL_TRY),
    NAME(CKF_USER_PIN_LOCKED),
    NAME(CKF_USER_PIN_TO_BE_CHANGED),
    NAME(CKF_SO_PIN_COUNT_LOW),
    NAME(CKF_SO_PIN_FINAL_TRY),
    NAME(CKF_SO_PIN_LOCKED),
    NAME(CKF_SO_PIN_TO_BE_CHANGED),
};

static const struct name mechanism_flags[] = {
    NAME(CKF_HW),       NAME(CKF_ENCRYPT),           NAME(CKF_DECRYPT), NAME(CKF_DIGEST),
    NAME(CKF_SIGN),     NAME(CKF_SIGN_RECOVER),      NAME(CKF_VERIFY),  NAME(CKF_VERIFY_RECOVER),
    NAME(CKF_GENERATE), NAME(CKF_GENERATE_KEY_PAIR), NAME(CKF_WRAP),    NAME(CKF_UNWRAP),
    NAME(CKF_DERIVE),   NAME(CKF_EXTENSION),
};

static const char *
name_of(const struct name *names, size_t count, CK_ULONG value)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i].value == value)
            return names[i].text;
    }
    return NULL;
}

const char *
hsm_audit_mechanism_name(CK_MECHANISM_TYPE type)
{
    return name_of(mechanisms, COUNT(mechanisms), type);
}

const char *
hsm_audit_attribute_name(CK_ATTRIBUTE_TYPE type)
{
    return name_of(attributes, COUNT(attributes), type);
}

const char *
hsm_audit_class_name(CK_OBJECT_CLASS class)
{
    return name_of(classes, COUNT(classes), class);
}

const char *
hsm_audit_state_name(CK_STATE state)
{
    return name_of(states, COUNT(states), state);
}

json_t *
hsm_audit_mechanism(CK_MECHANISM_TYPE type)
{
    const char *name = hsm_audit_mechanism_name(type);
    char number[2 + 2 * sizeof(type) + 1];

    snprintf(number, sizeof(number), "0x%lx", type);
    return json_string(name != NULL ? name : number);
}

/* Names of the flags that are set; flags without a name here are left out. */
static json_t *
flags_of(const struct name *names, size_t count, CK_FLAGS flags)
{
    json_t *set = json_array();

    for (size_t i = 0; set != NULL && i < count; i++) {
        if ((flags & names[i].value) != 0 &&
            json_array_append_new(set, json_string(names[i].text)) != 0) {
            json_decref(set);
            set = NULL;
        }
    }
    return set;
}

json_t *
hsm_audit_token_flags(CK_FLAGS flags)
{
    return flags_of(token_flags, COUNT(token_flags), flags);
}

json_t *
hsm_audit_mechanism_flags(CK_FLAGS flags)
{
    return flags_of(mechanism_flags, COUNT(mechanism_flags), flags);
}
