/* raw.c - operations that another program could perform on a token. */
#include "raw.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#include <hsm/es256.h>

#include "peer.h"
#include "softhsm.h"

#define SLOTS_MAX      64
#define ATTRIBUTES_MAX 24
#define RAW_ID_LEN     4

struct raw {
    CK_FUNCTION_LIST *functions;
    CK_SESSION_HANDLE session;
    bool own_list; /* `functions` is a separate list, as some modules return one per call */
};

struct template
{
    CK_ATTRIBUTE attributes[ATTRIBUTES_MAX];
    CK_ULONG count;
};

static const CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const CK_BYTE p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};

static void
must(CK_RV rv, const char *what)
{
    if (rv == CKR_OK)
        return;
    fprintf(stderr, "raw: %s: 0x%lx\n", what, rv);
    abort();
}

static void
add(struct template *t, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    t->attributes[t->count++] = (CK_ATTRIBUTE){type, (void *)value, len};
}

static void
add_bool(struct template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    static const CK_BBOOL values[] = {CK_FALSE, CK_TRUE};

    add(t, type, &values[value], sizeof(CK_BBOOL));
}

static void
add_name(struct template *t, const char *label, const unsigned char *id)
{
    add(t, CKA_LABEL, label, strlen(label));
    if (*id != 0)
        add(t, CKA_ID, id, 1);
}

static CK_FUNCTION_LIST *
functions_of_module(void)
{
    CK_C_GetFunctionList get;
    CK_FUNCTION_LIST *functions = NULL;
    void *library = dlopen(softhsm_module(), RTLD_NOW);

    if (library == NULL)
        must(CKR_GENERAL_ERROR, dlerror());
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    must(get(&functions), "C_GetFunctionList");
    return functions;
}

static CK_SLOT_ID
slot_of(CK_FUNCTION_LIST *functions, const char *label)
{
    CK_SLOT_ID ids[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;

    must(functions->C_GetSlotList(CK_TRUE, ids, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        char padded[33];

        must(functions->C_GetTokenInfo(ids[i], &info), "C_GetTokenInfo");
        snprintf(padded, sizeof(padded), "%-32s", label);
        if (memcmp(info.label, padded, sizeof(info.label)) == 0)
            return ids[i];
    }
    must(CKR_TOKEN_NOT_PRESENT, label);
    return 0;
}

static bool
initialize(CK_FUNCTION_LIST *functions)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = functions->C_Initialize(&args);

    must(rv == CKR_CRYPTOKI_ALREADY_INITIALIZED ? CKR_OK : rv, "C_Initialize");
    return rv == CKR_OK;
}

struct raw *
raw_open(const char *token_label)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    CK_RV rv;

    if (raw == NULL)
        abort();
    raw->functions = functions_of_module();
    raw->own_list = initialize(raw->functions);
    must(raw->functions->C_OpenSession(slot_of(raw->functions, token_label),
                                       CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                       &raw->session),
         "C_OpenSession");
    rv = raw->functions->C_Login(raw->session, CKU_USER, (CK_UTF8CHAR *)SOFTHSM_USER_PIN,
                                 strlen(SOFTHSM_USER_PIN));
    must(rv == CKR_USER_ALREADY_LOGGED_IN ? CKR_OK : rv, "C_Login");
    return raw;
}

void
raw_close(struct raw *raw)
{
    must(raw->functions->C_CloseSession(raw->session), "C_CloseSession");
    if (raw->own_list)
        must(raw->functions->C_Finalize(NULL), "C_Finalize");
    free(raw);
}

void
raw_change_pin(struct raw *raw, const char *before, const char *pin)
{
    must(raw->functions->C_SetPIN(raw->session, (CK_UTF8CHAR *)(uintptr_t)before, strlen(before),
                                  (CK_UTF8CHAR *)(uintptr_t)pin, strlen(pin)),
         "C_SetPIN");
}

/* SoftHSM supports all of it; other tokens refuse what they do not support. */
static bool
made(CK_RV rv, const char *what)
{
    bool refused = rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
                   rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_READ_ONLY ||
                   rv == CKR_CURVE_NOT_SUPPORTED || rv == CKR_GENERAL_ERROR ||
                   rv == CKR_FUNCTION_FAILED;

    if (refused && !softhsm_is_softhsm())
        return false;
    must(rv, what);
    return true;
}

bool
raw_generate(struct raw *raw, enum raw_kind kind, const char *label, unsigned char id)
{
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    struct template public = {.count = 0};
    struct template private = {.count = 0};
    CK_OBJECT_HANDLE public_object;
    CK_OBJECT_HANDLE private_object;
    CK_RV rv;

    add_bool(&public, CKA_TOKEN, true);
    if (kind == RAW_P384)
        add(&public, CKA_EC_PARAMS, p384, sizeof(p384));
    else
        add(&public, CKA_EC_PARAMS, p256, sizeof(p256));
    add_name(&public, label, &id);
    add_bool(&private, CKA_TOKEN, true);
    add_bool(&private, CKA_PRIVATE, kind != RAW_WITHOUT_LOGIN);
    add_bool(&private, CKA_SENSITIVE, kind != RAW_NOT_SENSITIVE);
    add_bool(&private, CKA_EXTRACTABLE, kind == RAW_EXTRACTABLE);
    add_bool(&private, CKA_SIGN, kind != RAW_NO_SIGN);
    add_bool(&private, CKA_SIGN_RECOVER, false);
    add_bool(&private, CKA_DECRYPT, false);
    add_bool(&private, CKA_UNWRAP, false);
    add_bool(&private, CKA_DERIVE, kind == RAW_DERIVING);
    if (kind == RAW_ALWAYS_AUTHENTICATE)
        add_bool(&private, CKA_ALWAYS_AUTHENTICATE, true);
    add_name(&private, label, &id);
    rv = raw->functions->C_GenerateKeyPair(raw->session, &mechanism, public.attributes,
                                           public.count, private.attributes, private.count,
                                           &public_object, &private_object);
    return made(rv, "C_GenerateKeyPair");
}

static CK_RV
import_public(struct raw *raw, const uint8_t *point, const char *label, const unsigned char *id,
              size_t id_len)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE type = CKK_EC;
    struct template t = {.count = 0};
    CK_OBJECT_HANDLE object;
    uint8_t der[2 + HSM_P256_POINT_LEN] = {0x04, HSM_P256_POINT_LEN};

    memcpy(der + 2, point, HSM_P256_POINT_LEN);
    add(&t, CKA_CLASS, &class, sizeof(class));
    add(&t, CKA_KEY_TYPE, &type, sizeof(type));
    add_bool(&t, CKA_TOKEN, true);
    add_bool(&t, CKA_VERIFY, true);
    add(&t, CKA_EC_PARAMS, p256, sizeof(p256));
    add(&t, CKA_EC_POINT, der, sizeof(der));
    add(&t, CKA_LABEL, label, strlen(label));
    add(&t, CKA_ID, id, id_len);
    return raw->functions->C_CreateObject(raw->session, t.attributes, t.count, &object);
}

static CK_RV
import_private(struct raw *raw, const uint8_t *value, const char *label, const unsigned char *id)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_EC;
    struct template t = {.count = 0};
    CK_OBJECT_HANDLE object;

    add(&t, CKA_CLASS, &class, sizeof(class));
    add(&t, CKA_KEY_TYPE, &type, sizeof(type));
    add_bool(&t, CKA_TOKEN, true);
    add_bool(&t, CKA_PRIVATE, true);
    add_bool(&t, CKA_SENSITIVE, true);
    add_bool(&t, CKA_EXTRACTABLE, false);
    add_bool(&t, CKA_SIGN, true);
    add(&t, CKA_EC_PARAMS, p256, sizeof(p256));
    add(&t, CKA_VALUE, value, 32);
    add_name(&t, label, id);
    return raw->functions->C_CreateObject(raw->session, t.attributes, t.count, &object);
}

bool
raw_import(struct raw *raw, const char *label, unsigned char id)
{
    EVP_PKEY *key = peer_key_new("P-256");
    uint8_t point[HSM_P256_POINT_LEN];
    uint8_t value[32];
    BIGNUM *d = NULL;
    bool good;

    if (hsm_p256_point(key, point) != HSM_OK ||
        EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
        BN_bn2binpad(d, value, sizeof(value)) != sizeof(value))
        abort();
    good = made(import_public(raw, point, label, &id, id != 0 ? 1 : 0), "public") &&
           made(import_private(raw, value, label, &id), "private");
    OPENSSL_cleanse(value, sizeof(value));
    BN_clear_free(d);
    EVP_PKEY_free(key);
    return good;
}

/* Returns the number found; the first one goes to *out, unless `out` is NULL. */
static size_t
find(struct raw *raw, bool private_keys, const char *label, CK_OBJECT_HANDLE *out)
{
    CK_OBJECT_CLASS class = private_keys ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY;
    CK_OBJECT_HANDLE found[16];
    CK_ULONG count = 0;
    struct template t = {.count = 0};

    add(&t, CKA_CLASS, &class, sizeof(class));
    add(&t, CKA_LABEL, label, strlen(label));
    must(raw->functions->C_FindObjectsInit(raw->session, t.attributes, t.count), "find");
    must(raw->functions->C_FindObjects(raw->session, found, 16, &count), "find");
    must(raw->functions->C_FindObjectsFinal(raw->session), "find");
    if (count > 0 && out != NULL)
        *out = found[0];
    return count;
}

static CK_OBJECT_HANDLE
the_one(struct raw *raw, bool private_keys, const char *label)
{
    CK_OBJECT_HANDLE object = 0;

    must(find(raw, private_keys, label, &object) == 1 ? CKR_OK : CKR_OBJECT_HANDLE_INVALID, label);
    return object;
}

size_t
raw_count(struct raw *raw, bool private_keys, const char *label)
{
    return find(raw, private_keys, label, NULL);
}

void
raw_destroy(struct raw *raw, bool private_keys, const char *label)
{
    must(raw->functions->C_DestroyObject(raw->session, the_one(raw, private_keys, label)), label);
}

unsigned long
raw_read_value(struct raw *raw, const char *label)
{
    CK_BYTE value[64];
    CK_ATTRIBUTE attribute = {CKA_VALUE, value, sizeof(value)};

    return raw->functions->C_GetAttributeValue(raw->session, the_one(raw, true, label), &attribute,
                                               1);
}

unsigned long
raw_make_extractable(struct raw *raw, const char *label)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE attribute = {CKA_EXTRACTABLE, &yes, sizeof(yes)};

    return raw->functions->C_SetAttributeValue(raw->session, the_one(raw, true, label), &attribute,
                                               1);
}

/* ---- keys like ours except for one attribute ---- */

/* `strict` includes attributes that some modules do not know; see hsm_object_generate(). */
static void
add_as_ours(struct template *t, enum raw_plant plant, bool strict)
{
    static const CK_MECHANISM_TYPE allowed[] = {CKM_ECDSA};

    add_bool(t, CKA_TOKEN, true);
    add_bool(t, CKA_PRIVATE, true);
    add_bool(t, CKA_SENSITIVE, true);
    add_bool(t, CKA_EXTRACTABLE, plant == RAW_PLANT_EXTRACTABLE);
    add_bool(t, CKA_SIGN, true);
    add_bool(t, CKA_SIGN_RECOVER, false);
    add_bool(t, CKA_DECRYPT, false);
    add_bool(t, CKA_UNWRAP, false);
    add_bool(t, CKA_DERIVE, false);
    if (!strict)
        return;
    add_bool(t, CKA_MODIFIABLE, plant == RAW_PLANT_MODIFIABLE);
    add_bool(t, CKA_COPYABLE, false);
    add(t, CKA_ALLOWED_MECHANISMS, allowed, sizeof(allowed));
}

static CK_RV
generate_as_ours(struct raw *raw, enum raw_plant plant, const char *label, const unsigned char *id,
                 bool strict)
{
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    struct template public = {.count = 0};
    struct template private = {.count = 0};
    CK_OBJECT_HANDLE public_object;
    CK_OBJECT_HANDLE private_object;

    add_bool(&public, CKA_TOKEN, true);
    if (strict)
        add_bool(&public, CKA_WRAP, false);
    add(&public, CKA_EC_PARAMS, p256, sizeof(p256));
    add(&public, CKA_LABEL, label, strlen(label));
    add(&public, CKA_ID, id, RAW_ID_LEN);
    add_as_ours(&private, plant, strict);
    add(&private, CKA_LABEL, label, strlen(label));
    add(&private, CKA_ID, id, RAW_ID_LEN);
    return raw->functions->C_GenerateKeyPair(raw->session, &mechanism, public.attributes,
                                             public.count, private.attributes, private.count,
                                             &public_object, &private_object);
}

static CK_RV
import_as_ours(struct raw *raw, const uint8_t *value, const char *label, const unsigned char *id,
               bool strict)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_EC;
    struct template t = {.count = 0};
    CK_OBJECT_HANDLE object;

    add(&t, CKA_CLASS, &class, sizeof(class));
    add(&t, CKA_KEY_TYPE, &type, sizeof(type));
    add_as_ours(&t, RAW_PLANT_IMPORTED, strict);
    add(&t, CKA_EC_PARAMS, p256, sizeof(p256));
    add(&t, CKA_VALUE, value, 32);
    add(&t, CKA_LABEL, label, strlen(label));
    add(&t, CKA_ID, id, RAW_ID_LEN);
    return raw->functions->C_CreateObject(raw->session, t.attributes, t.count, &object);
}

static CK_RV
plant_import(struct raw *raw, const char *label, const unsigned char *id, bool strict)
{
    EVP_PKEY *key = peer_key_new("P-256");
    uint8_t point[HSM_P256_POINT_LEN];
    uint8_t value[32];
    BIGNUM *d = NULL;
    CK_RV rv;

    if (hsm_p256_point(key, point) != HSM_OK ||
        EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) != 1 ||
        BN_bn2binpad(d, value, sizeof(value)) != sizeof(value))
        abort();
    rv = import_as_ours(raw, value, label, id, strict);
    if (rv == CKR_OK)
        rv = import_public(raw, point, label, id, RAW_ID_LEN);
    OPENSSL_cleanse(value, sizeof(value));
    BN_clear_free(d);
    EVP_PKEY_free(key);
    return rv;
}

bool
raw_plant(struct raw *raw, enum raw_plant plant, const char *label, unsigned char id)
{
    const unsigned char long_id[RAW_ID_LEN] = {0x70, 0x6c, 0x61, id};
    CK_RV rv = CKR_OK;

    for (int strict = 1; strict >= 0; strict--) {
        rv = plant == RAW_PLANT_IMPORTED
                 ? plant_import(raw, label, long_id, strict == 1)
                 : generate_as_ours(raw, plant, label, long_id, strict == 1);
        if (rv == CKR_OK)
            return strict == 1 || plant != RAW_PLANT_MODIFIABLE;
    }
    return made(rv, label);
}

bool
raw_plant_wrapping_key(struct raw *raw, const char *label)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    struct template t = {.count = 0};
    CK_OBJECT_HANDLE object;
    CK_ULONG len = 32;
    CK_RV rv;

    add_bool(&t, CKA_TOKEN, true);
    add_bool(&t, CKA_PRIVATE, true);
    add_bool(&t, CKA_SENSITIVE, true);
    add_bool(&t, CKA_WRAP, true);
    add(&t, CKA_VALUE_LEN, &len, sizeof(len));
    add(&t, CKA_LABEL, label, strlen(label));
    rv = raw->functions->C_GenerateKey(raw->session, &mechanism, t.attributes, t.count, &object);
    return rv != CKR_MECHANISM_INVALID && rv != CKR_FUNCTION_NOT_SUPPORTED && made(rv, label);
}

/* Some modules require names and serial number in addition to the certificate. */
static void
add_certificate(struct template *t, X509 *certificate, uint8_t **subject, uint8_t **issuer,
                uint8_t **serial)
{
    int subject_len = i2d_X509_NAME(X509_get_subject_name(certificate), subject);
    int issuer_len = i2d_X509_NAME(X509_get_issuer_name(certificate), issuer);
    int serial_len = i2d_ASN1_INTEGER(X509_get_serialNumber(certificate), serial);

    if (subject_len <= 0 || issuer_len <= 0 || serial_len <= 0)
        abort();
    add(t, CKA_SUBJECT, *subject, (size_t)subject_len);
    add(t, CKA_ISSUER, *issuer, (size_t)issuer_len);
    add(t, CKA_SERIAL_NUMBER, *serial, (size_t)serial_len);
}

bool
raw_certificate(struct raw *raw, const char *label, const unsigned char *id, size_t id_len,
                const unsigned char *der, size_t der_len)
{
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, (long)der_len);
    CK_OBJECT_CLASS class = CKO_CERTIFICATE;
    CK_CERTIFICATE_TYPE type = CKC_X_509;
    struct template t = {.count = 0};
    uint8_t *names[3] = {NULL, NULL, NULL};
    CK_OBJECT_HANDLE object;
    CK_RV rv;

    add(&t, CKA_CLASS, &class, sizeof(class));
    add(&t, CKA_CERTIFICATE_TYPE, &type, sizeof(type));
    add_bool(&t, CKA_TOKEN, true);
    add_certificate(&t, certificate, &names[0], &names[1], &names[2]);
    add(&t, CKA_VALUE, der, der_len);
    add(&t, CKA_LABEL, label, strlen(label));
    add(&t, CKA_ID, id, id_len);
    rv = raw->functions->C_CreateObject(raw->session, t.attributes, t.count, &object);
    for (int i = 0; i < 3; i++)
        OPENSSL_free(names[i]);
    X509_free(certificate);
    return made(rv, label);
}

size_t
raw_objects(struct raw *raw)
{
    CK_OBJECT_HANDLE found[256];
    CK_ULONG count = 0;

    must(raw->functions->C_FindObjectsInit(raw->session, NULL, 0), "find");
    must(raw->functions->C_FindObjects(raw->session, found, 256, &count), "find");
    must(raw->functions->C_FindObjectsFinal(raw->session), "find");
    return count;
}
