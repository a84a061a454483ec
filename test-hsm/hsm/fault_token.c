/* fault_token.c - tokens in SoftHSM with the fault module in front. */
#include "fault_token.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <hsm/es256.h>

#define SLOTS_MAX 16

CK_FUNCTION_LIST *p11;
CK_BYTE p11_digest[P11_DIGEST_LEN];

static const char message[] = "to be signed";

CK_RV
p11_initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};

    return p11->C_Initialize(&args);
}

/* Returns CKR_OK, or the failure of the search. */
CK_RV
p11_find_slot(const char *label, CK_SLOT_ID *out)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    CK_RV rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
    char padded[33];

    snprintf(padded, sizeof(padded), "%-32s", label);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
        CK_TOKEN_INFO info;

        rv = p11->C_GetTokenInfo(slots[i], &info);
        if (rv == CKR_OK && memcmp(info.label, padded, sizeof(info.label)) == 0) {
            *out = slots[i];
            return CKR_OK;
        }
    }
    return rv == CKR_OK ? CKR_TOKEN_NOT_PRESENT : rv;
}

CK_RV
p11_open_session(CK_SLOT_ID slot, CK_SESSION_HANDLE *out)
{
    return p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, out);
}

CK_RV
p11_log_in(CK_SESSION_HANDLE session, const char *pin)
{
    return p11->C_Login(session, CKU_USER, (CK_BYTE *)(uintptr_t)pin, strlen(pin));
}

/* Returns the number of objects and writes the first of them to `found`. */
CK_ULONG
p11_find_keys(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label, CK_ULONG batch,
              CK_OBJECT_HANDLE found[P11_FOUND_MAX])
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)},
    };
    CK_ULONG all = 0;
    CK_ULONG count = 1;

    assert_int_equal(p11->C_FindObjectsInit(session, template, 2), CKR_OK);
    while (count > 0 && all < P11_FOUND_MAX) {
        CK_ULONG most = batch < P11_FOUND_MAX - all ? batch : P11_FOUND_MAX - all;

        assert_int_equal(p11->C_FindObjects(session, found + all, most, &count), CKR_OK);
        assert_true(count <= most);
        all += count;
    }
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
    return all;
}

CK_OBJECT_HANDLE
p11_find_key(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label)
{
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];

    assert_int_equal(p11_find_keys(session, class, label, 4, found), 1);
    return found[0];
}

CK_RV
p11_sign_init(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};

    return p11->C_SignInit(session, &mechanism, key);
}

/* `sig` is filled with 0xee beforehand. */
CK_RV
p11_sign_into(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_BYTE sig[P11_SIG_ROOM],
              CK_ULONG *len)
{
    CK_RV rv = p11_sign_init(session, key);

    memset(sig, 0xee, P11_SIG_ROOM);
    if (rv != CKR_OK)
        return rv;
    return p11->C_Sign(session, p11_digest, P11_DIGEST_LEN, sig, len);
}

CK_RV
p11_sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_BYTE sig[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;

    return p11_sign_into(session, key, sig, &len);
}

/* The public key object with this label on the token. */
EVP_PKEY *
p11_public_key(CK_SESSION_HANDLE session, const char *label)
{
    CK_BYTE point[67];
    CK_ATTRIBUTE attribute = {CKA_EC_POINT, point, sizeof(point)};
    CK_OBJECT_HANDLE object = p11_find_key(session, CKO_PUBLIC_KEY, label);
    EVP_PKEY *key = NULL;

    assert_int_equal(p11->C_GetAttributeValue(session, object, &attribute, 1), CKR_OK);
    assert_int_equal(attribute.ulValueLen, sizeof(point));
    assert_int_equal(hsm_p256_from_point(point + 2, 65, &key), HSM_OK);
    return key;
}

bool
p11_verifies(EVP_PKEY *key, const CK_BYTE *sig, CK_ULONG len)
{
    return hsm_es256_verify(key, message, strlen(message), sig, len) == HSM_OK;
}

/* As token objects or as session objects. */
CK_RV
p11_generate(CK_SESSION_HANDLE session, const char *label, CK_BYTE id, bool on_token)
{
    static const CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL token = on_token ? CK_TRUE : CK_FALSE;
    CK_BBOOL yes = CK_TRUE;
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &token, 1},
        {CKA_EC_PARAMS, (void *)(uintptr_t)p256, sizeof(p256)},
        {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)},
        {CKA_ID, &id, 1},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &token, 1},   {CKA_PRIVATE, &yes, 1},
        {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1},
        {CKA_SIGN, &yes, 1},      {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)},
        {CKA_ID, &id, 1},
    };
    CK_OBJECT_HANDLE objects[2];

    return p11->C_GenerateKeyPair(session, &mechanism, public, COUNT(public), private,
                                  COUNT(private), &objects[0], &objects[1]);
}

/* Make a token in the free slot, with a user PIN. */
static void
p11_make_token(const char *label)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    CK_SESSION_HANDLE session;
    CK_BYTE padded[33];

    snprintf((char *)padded, sizeof(padded), "%-32s", label);
    assert_int_equal(p11->C_GetSlotList(CK_FALSE, NULL, &count), CKR_OK);
    assert_int_equal(p11->C_GetSlotList(CK_FALSE, slots, &count), CKR_OK);
    assert_int_equal(p11->C_InitToken(slots[count - 1], (CK_BYTE *)SOFTHSM_SO_PIN,
                                      strlen(SOFTHSM_SO_PIN), padded),
                     CKR_OK);
    assert_int_equal(p11_open_session(slots[count - 1], &session), CKR_OK);
    assert_int_equal(
        p11->C_Login(session, CKU_SO, (CK_BYTE *)SOFTHSM_SO_PIN, strlen(SOFTHSM_SO_PIN)), CKR_OK);
    assert_int_equal(p11->C_InitPIN(session, (CK_BYTE *)SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN)),
                     CKR_OK);
    assert_int_equal(p11->C_CloseSession(session), CKR_OK);
}

/* Initialise, open a session, log in and find the key; false: a step failed. */
bool
p11_try_come_up(struct p11_token *f, const char *token)
{
    CK_RV rv = p11_initialize();

    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return false;
    if (p11_find_slot(token, &f->slot) != CKR_OK ||
        p11_open_session(f->slot, &f->session) != CKR_OK)
        return false;
    rv = p11_log_in(f->session, SOFTHSM_USER_PIN);
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN)
        return false;
    f->key = p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha");
    return true;
}

void
p11_come_up(struct p11_token *f, const char *token)
{
    assert_true(p11_try_come_up(f, token));
}

int64_t
p11_now_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 * MS + now.tv_nsec;
}

static void
get_functions(void)
{
    CK_C_GetFunctionList get;
    void *library = dlopen(fault_module_path(), RTLD_NOW | RTLD_LOCAL);

    assert_non_null(library);
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    assert_non_null(get);
    assert_int_equal(get(&p11), CKR_OK);
    dlclose(library); /* it stays loaded */
}

int
p11_group_start(void **state)
{
    struct p11_token f;
    CK_SLOT_ID slot;

    (void)state;
    fault_open();
    softhsm_start();
    EVP_Digest(message, strlen(message), p11_digest, NULL, EVP_sha256(), NULL);
    get_functions();
    assert_int_equal(p11_initialize(), CKR_OK);
    p11_make_token("shelf");
    p11_make_token("other");
    assert_int_equal(p11_find_slot("shelf", &slot), CKR_OK);
    assert_int_equal(p11_open_session(slot, &f.session), CKR_OK);
    assert_int_equal(p11_log_in(f.session, SOFTHSM_USER_PIN), CKR_OK);
    assert_int_equal(p11_generate(f.session, "alpha", 1, true), CKR_OK);
    assert_int_equal(p11_generate(f.session, "beta", 2, true), CKR_OK);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    return 0;
}

int
p11_group_stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
p11_token_open(void **state)
{
    static struct p11_token f;

    p11_come_up(&f, "shelf");
    fault("reset");
    *state = &f;
    return 0;
}

int
p11_token_close(void **state)
{
    (void)state;
    fault("reset");
    p11->C_Finalize(NULL);
    return 0;
}
