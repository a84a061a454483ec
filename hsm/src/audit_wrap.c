/* audit_wrap.c - session keys with which to wrap others. */
#include "audit_internal.h"

#include <string.h>

#include <openssl/crypto.h>

#include "ckr_internal.h"

#define WRAPPED_MAX 8192 /* octets: a wrapped private key */
#define AES_LEN     32 /* octets */
#define RSA_BITS    3072 /* large enough for a PKCS #8 of P-256 under OAEP */

/* PKCS #11 v3; p11-kit has no names for them. */
#define ECDH_X_AES_KEY_WRAP   0x4038
#define ECDH_COF_AES_KEY_WRAP 0x4039
#define EC_MONTGOMERY         0x41

static CK_BBOOL yes = CK_TRUE;
static CK_BBOOL no = CK_FALSE;

static const CK_FUNCTION_LIST *
functions_of(const struct hsm_audit_scene *scene)
{
    return hsm_module_functions(scene->slot->module);
}

static bool
offers(const struct hsm_audit_scene *scene, CK_MECHANISM_TYPE type)
{
    for (CK_ULONG i = 0; i < scene->mechanism_count; i++) {
        if (scene->mechanisms[i] == type)
            return true;
    }
    return false;
}

/* CK_INVALID_HANDLE: the token does not make such keys. */
static CK_OBJECT_HANDLE
make_secret(const struct hsm_audit_scene *scene, CK_MECHANISM_TYPE generator, CK_KEY_TYPE type,
            CK_ULONG len)
{
    const CK_FUNCTION_LIST *functions = functions_of(scene);
    CK_MECHANISM mechanism = {generator, NULL, 0};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)}, {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_TOKEN, &no, sizeof(no)},       {CKA_WRAP, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)}, {CKA_VALUE_LEN, &len, sizeof(len)},
    };
    CK_ULONG count = len > 0 ? 6 : 5;

    if (!offers(scene, generator) || functions->C_GenerateKey == NULL ||
        functions->C_GenerateKey(scene->slot->control, &mechanism, template, count, &made) !=
            CKR_OK)
        return CK_INVALID_HANDLE;
    return made;
}

static void
make_rsa(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *out)
{
    static const CK_BYTE exponent[] = {1, 0, 1};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ULONG bits = RSA_BITS;
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_WRAP, &yes, sizeof(yes)},
        {CKA_MODULUS_BITS, &bits, sizeof(bits)},
        {CKA_PUBLIC_EXPONENT, (void *)exponent, sizeof(exponent)},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_UNWRAP, &yes, sizeof(yes)},
    };

    if (offers(scene, CKM_RSA_PKCS_KEY_PAIR_GEN) &&
        functions_of(scene)->C_GenerateKeyPair(scene->slot->control, &mechanism, public, 4, private,
                                               3, &out->rsa, &out->rsa_private) != CKR_OK)
        out->rsa = out->rsa_private = CK_INVALID_HANDLE;
}

/* A key that may be wrapped and may derive: if it is not refused, the refusal of another key is not
 * due to the call itself. */
static void
make_sample(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *out)
{
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_EC_PARAMS, (void *)hsm_p256_params, sizeof(hsm_p256_params)},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &no, sizeof(no)},         {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)}, {CKA_DERIVE, &yes, sizeof(yes)},
        {CKA_SIGN, &yes, sizeof(yes)},
    };

    if (functions_of(scene)->C_GenerateKeyPair(scene->slot->control, &mechanism, public, 2, private,
                                               5, &out->sample_public, &out->sample) != CKR_OK)
        out->sample = out->sample_public = CK_INVALID_HANDLE;
}

void
hsm_wrapping_keys_make(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *out)
{
    memset(out, 0, sizeof(*out)); /* CK_INVALID_HANDLE is 0 */
    out->aes = make_secret(scene, CKM_AES_KEY_GEN, CKK_AES, AES_LEN);
    out->des = make_secret(scene, CKM_DES_KEY_GEN, CKK_DES, 0);
    out->des3 = make_secret(scene, CKM_DES3_KEY_GEN, CKK_DES3, 0);
    make_rsa(scene, out);
    make_sample(scene, out);
}

void
hsm_wrapping_keys_destroy(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *keys)
{
    const CK_OBJECT_HANDLE all[] = {keys->aes,         keys->des,    keys->des3,         keys->rsa,
                                    keys->rsa_private, keys->sample, keys->sample_public};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] != CK_INVALID_HANDLE)
            (void)hsm_audit_keep(scene->audit, hsm_object_destroy(scene->slot, all[i]));
    }
    memset(keys, 0, sizeof(*keys));
}

static bool
offers_to_wrap_by(const struct hsm_audit_scene *scene, CK_MECHANISM_TYPE type)
{
    CK_MECHANISM_INFO info;

    return offers(scene, type) &&
           functions_of(scene)->C_GetMechanismInfo(scene->slot->id, type, &info) == CKR_OK &&
           (info.flags & CKF_WRAP) != 0;
}

bool
hsm_wraps_under_public(const struct hsm_audit_scene *scene, CK_KEY_TYPE type)
{
    switch (type) {
    case CKK_RSA:
        return true;
    case CKK_EC:
        return offers_to_wrap_by(scene, CKM_ECDH_AES_KEY_WRAP) ||
               offers_to_wrap_by(scene, ECDH_COF_AES_KEY_WRAP);
    case EC_MONTGOMERY:
        return offers_to_wrap_by(scene, CKM_ECDH_AES_KEY_WRAP) ||
               offers_to_wrap_by(scene, ECDH_X_AES_KEY_WRAP);
    default:
        return false;
    }
}

bool
hsm_wrapping_mechanism(const struct hsm_audit_scene *scene, size_t index, CK_MECHANISM_TYPE *out)
{
    for (CK_ULONG i = 0; i < scene->mechanism_count; i++) {
        CK_MECHANISM_INFO info;
        CK_RV rv =
            functions_of(scene)->C_GetMechanismInfo(scene->slot->id, scene->mechanisms[i], &info);

        if (rv != CKR_OK || (info.flags & CKF_WRAP) == 0 || index-- > 0)
            continue;
        *out = scene->mechanisms[i];
        return true;
    }
    return false;
}

/* The key and the parameter for a mechanism; false: the mechanism is not supported here. */
static bool
prepare(const struct hsm_wrapping_keys *keys, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE *key)
{
    static CK_BYTE iv[16];
    static CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0};

    mechanism->pParameter = NULL;
    mechanism->ulParameterLen = 0;
    switch (mechanism->mechanism) {
    case CKM_AES_CBC:
    case CKM_AES_CBC_PAD:
        mechanism->pParameter = iv;
        mechanism->ulParameterLen = 16;
        *key = keys->aes;
        return true;
    case CKM_AES_ECB:
    case CKM_AES_KEY_WRAP:
    case CKM_AES_KEY_WRAP_PAD:
        *key = keys->aes;
        return true;
    case CKM_DES_CBC:
    case CKM_DES_CBC_PAD:
        mechanism->pParameter = iv;
        mechanism->ulParameterLen = 8;
        *key = keys->des;
        return true;
    case CKM_DES_ECB:
        *key = keys->des;
        return true;
    case CKM_DES3_CBC:
    case CKM_DES3_CBC_PAD:
        mechanism->pParameter = iv;
        mechanism->ulParameterLen = 8;
        *key = keys->des3;
        return true;
    case CKM_DES3_ECB:
        *key = keys->des3;
        return true;
    case CKM_RSA_PKCS_OAEP:
        mechanism->pParameter = &oaep;
        mechanism->ulParameterLen = sizeof(oaep);
        *key = keys->rsa;
        return true;
    case CKM_RSA_PKCS:
    case CKM_RSA_X_509:
        *key = keys->rsa;
        return true;
    default:
        return false;
    }
}

bool
hsm_wrap_with(const struct hsm_audit_scene *scene, const struct hsm_wrapping_keys *keys,
              CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE key, CK_RV *rv, size_t *len)
{
    const CK_FUNCTION_LIST *functions = functions_of(scene);
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_OBJECT_HANDLE by = CK_INVALID_HANDLE;
    CK_BYTE wrapped[WRAPPED_MAX];
    CK_ULONG wrapped_len = sizeof(wrapped);

    if (functions->C_WrapKey == NULL || key == CK_INVALID_HANDLE ||
        !prepare(keys, &mechanism, &by) || by == CK_INVALID_HANDLE)
        return false;
    *rv = functions->C_WrapKey(scene->slot->control, &mechanism, by, key, wrapped, &wrapped_len);
    *len = *rv == CKR_OK ? wrapped_len : 0;
    OPENSSL_cleanse(wrapped, sizeof(wrapped)); /* a private key, wrapped under a session key */
    return true;
}
