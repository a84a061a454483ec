/*
 * nss_shim.c - NSS softokn as a PKCS#11 module like any other.
 *
 * Softokn is not initialised without a configuration string, which it takes in
 * a member of C_Initialize's arguments that the standard does not have. This
 * module is softokn's function list with a C_Initialize that adds the string:
 * the content of the file that $STI_NSS_PARAMETERS names, read each time, so
 * that tokens may be added between C_Finalize and C_Initialize.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#define PARAMETERS_MAX 16384 /* octets */

/* CK_C_INITIALIZE_ARGS as NSS declares it (its pkcs11t.h). */
struct nss_initialize_args {
    CK_CREATEMUTEX create_mutex;
    CK_DESTROYMUTEX destroy_mutex;
    CK_LOCKMUTEX lock_mutex;
    CK_UNLOCKMUTEX unlock_mutex;
    CK_FLAGS flags;
    char *parameters;
    void *reserved;
};

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list);

static CK_FUNCTION_LIST *softokn;
static CK_FUNCTION_LIST ours;

static int
read_parameters(char *out, size_t size)
{
    const char *path = getenv("STI_NSS_PARAMETERS");
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    size_t len;

    if (file == NULL)
        return 0;
    len = fread(out, 1, size - 1, file);
    out[len] = '\0';
    return fclose(file) == 0 && len < size - 1;
}

static CK_RV
initialize(void *given)
{
    static char parameters[PARAMETERS_MAX];
    struct nss_initialize_args args = {.flags = CKF_OS_LOCKING_OK, .parameters = parameters};
    const CK_C_INITIALIZE_ARGS *caller = given;

    if (!read_parameters(parameters, sizeof(parameters)))
        return CKR_ARGUMENTS_BAD;
    if (caller != NULL) {
        args.create_mutex = caller->CreateMutex;
        args.destroy_mutex = caller->DestroyMutex;
        args.lock_mutex = caller->LockMutex;
        args.unlock_mutex = caller->UnlockMutex;
        args.flags = caller->flags;
    }
    return softokn->C_Initialize(&args);
}

CK_RV
C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
    CK_C_GetFunctionList get;

    if (softokn == NULL) {
        void *library = dlopen("libsoftokn3.so", RTLD_NOW);

        if (library == NULL)
            return CKR_GENERAL_ERROR;
        *(void **)&get = dlsym(library, "C_GetFunctionList");
        if (get == NULL || get(&softokn) != CKR_OK)
            return CKR_GENERAL_ERROR;
        ours = *softokn;
        ours.C_Initialize = initialize;
    }
    *list = &ours;
    return CKR_OK;
}
