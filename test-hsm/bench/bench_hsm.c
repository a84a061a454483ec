/* bench_hsm.c - what the layer costs beside the token's own C_Sign. */
#include <dlfcn.h>
#include <string.h>

#include <openssl/evp.h>
#include <p11-kit/pkcs11.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#include "bench.h"
#include "softhsm.h"

static const uint8_t message[300] = "a PASSporT's signing input has about this many octets";

struct raw_key {
    CK_FUNCTION_LIST *list;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
};

static void
sign_message(void *context, size_t times)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    while (times-- > 0)
        bench_check(hsm_key_sign(context, message, sizeof(message), sig) == HSM_OK, "hsm_key_sign");
}

static void
raw_sign(void *context, size_t times)
{
    struct raw_key *raw = context;
    uint8_t digest[HSM_SHA256_LEN] = {1}, sig[HSM_P256_SIG_LEN];

    while (times-- > 0) {
        CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
        CK_ULONG len = sizeof(sig);

        bench_check(raw->list->C_SignInit(raw->session, &mechanism, raw->key) == CKR_OK &&
                        raw->list->C_Sign(raw->session, digest, sizeof(digest), sig, &len) ==
                            CKR_OK,
                    "C_Sign");
    }
}

/* The module is loaded and logged in already: this only asks it for another session. */
static void
raw_open(struct raw_key *raw, const char *token_label)
{
    void *module = dlopen(softhsm_module(), RTLD_NOW);
    CK_C_GetFunctionList get = module == NULL ? NULL : dlsym(module, "C_GetFunctionList");
    CK_OBJECT_CLASS private_key = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &private_key, sizeof(private_key)}};
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8, found = 0;
    CK_TOKEN_INFO info;

    bench_check(get != NULL && get(&raw->list) == CKR_OK, "C_GetFunctionList");
    bench_check(raw->list->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK, "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        if (raw->list->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            memcmp(info.label, token_label, strlen(token_label)) == 0)
            bench_check(raw->list->C_OpenSession(slots[i], CKF_SERIAL_SESSION | CKF_RW_SESSION,
                                                 NULL, NULL, &raw->session) == CKR_OK,
                        "C_OpenSession");
    }
    bench_check(raw->list->C_FindObjectsInit(raw->session, template, 1) == CKR_OK &&
                    raw->list->C_FindObjects(raw->session, &raw->key, 1, &found) == CKR_OK &&
                    raw->list->C_FindObjectsFinal(raw->session) == CKR_OK && found == 1,
                "C_FindObjects");
}

struct verification {
    struct hsm_key *key;
    uint8_t sig[HSM_P256_SIG_LEN];
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len;
    uint8_t digest[HSM_SHA256_LEN];
};

static void
verify_message(void *context, size_t times)
{
    struct verification *v = context;

    while (times-- > 0)
        bench_check(hsm_es256_verify(hsm_key_public(v->key), message, sizeof(message), v->sig,
                                     sizeof(v->sig)) == HSM_OK,
                    "hsm_es256_verify");
}

static void
raw_verify(void *context, size_t times)
{
    struct verification *v = context;

    while (times-- > 0) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(hsm_key_public(v->key), NULL);

        bench_check(ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
                        EVP_PKEY_verify(ctx, v->der, v->der_len, v->digest, sizeof(v->digest)) == 1,
                    "EVP_PKEY_verify");
        EVP_PKEY_CTX_free(ctx);
    }
}

int
main(void)
{
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct raw_key raw = {0};
    struct verification v = {0};

    softhsm_start();
    token = softhsm_token("bench");
    bench_check(hsm_key_generate(token, "signer", &key) == HSM_OK, "hsm_key_generate");
    raw_open(&raw, "bench");
    bench_ratio("hsm", "hsm_key_sign of 300 octets / raw C_Sign", 0.85,
                (struct bench_side){sign_message, key}, (struct bench_side){raw_sign, &raw});

    v.key = key;
    bench_check(hsm_key_sign(key, message, sizeof(message), v.sig) == HSM_OK &&
                    hsm_es256_to_der(v.sig, v.der, &v.der_len) == HSM_OK &&
                    EVP_Digest(message, sizeof(message), v.digest, NULL, EVP_sha256(), NULL) == 1,
                "a signature to verify");
    bench_ratio("hsm", "hsm_es256_verify of 300 octets / raw P-256 verify", 0.90,
                (struct bench_side){verify_message, &v}, (struct bench_side){raw_verify, &v});

    raw.list->C_CloseSession(raw.session);
    hsm_key_free(key);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}
