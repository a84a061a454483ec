/* bench_raw.c - the token's own C_Sign. */
#include "bench_raw.h"

#include <dlfcn.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "softhsm.h"

double
bench_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void
bench_raw_sign(const struct bench_raw *raw, unsigned session)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BYTE digest[32] = {1};
    CK_BYTE sig[64];
    CK_ULONG len = sizeof(sig);

    bench_check(raw->list->C_SignInit(raw->sessions[session], &mechanism, raw->key) == CKR_OK &&
                    raw->list->C_Sign(raw->sessions[session], digest, sizeof(digest), sig, &len) ==
                        CKR_OK,
                "C_Sign");
}

CK_FUNCTION_LIST *
bench_raw_functions(void)
{
    void *module = dlopen(softhsm_module(), RTLD_NOW);
    CK_C_GetFunctionList get = NULL;
    CK_FUNCTION_LIST *list = NULL;

    if (module != NULL)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    bench_check(get != NULL && get(&list) == CKR_OK, "C_GetFunctionList");
    return list;
}

CK_SLOT_ID
bench_raw_slot(CK_FUNCTION_LIST *list, const char *token)
{
    CK_SLOT_ID slots[16];
    CK_ULONG count = 16;
    CK_TOKEN_INFO info;

    bench_check(list->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK, "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        if (list->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            memcmp(info.label, token, strlen(token)) == 0)
            return slots[i];
    }
    bench_check(0, "finding the token");
    return 0;
}

void
bench_raw_open(struct bench_raw *raw, const char *token, unsigned sessions)
{
    CK_OBJECT_CLASS private_key = CKO_PRIVATE_KEY;
    char label[] = "signer";
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &private_key, sizeof(private_key)},
                               {CKA_LABEL, label, strlen(label)}};
    CK_ULONG found = 0;

    raw->list = bench_raw_functions();
    raw->slot = bench_raw_slot(raw->list, token);
    for (unsigned i = 0; i < sessions; i++)
        bench_check(raw->list->C_OpenSession(raw->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                                             NULL, &raw->sessions[i]) == CKR_OK,
                    "C_OpenSession");
    bench_check(raw->list->C_FindObjectsInit(raw->sessions[0], template, 2) == CKR_OK &&
                    raw->list->C_FindObjects(raw->sessions[0], &raw->key, 1, &found) == CKR_OK &&
                    raw->list->C_FindObjectsFinal(raw->sessions[0]) == CKR_OK && found == 1,
                "C_FindObjects");
}

void
bench_raw_close(struct bench_raw *raw, unsigned sessions)
{
    for (unsigned i = 0; i < sessions; i++)
        (void)raw->list->C_CloseSession(raw->sessions[i]);
}
