/* behind.c - load the module behind; the lock between its callers and its faults. */
#define _GNU_SOURCE /* PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP */
#include "behind.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD_INITIAL PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP

CK_FUNCTION_LIST *fault_behind;

static char *chosen_path;
static atomic_bool initialized;
static bool inherited;
static pthread_rwlock_t world = WORLD_INITIAL;

void
fault_behind_name(const char *path)
{
    free(chosen_path);
    chosen_path = path != NULL ? strdup(path) : NULL;
}

static bool
complain(const char *what, const char *detail)
{
    fprintf(stderr, "sti-fault-module: %s: %s\n", what, detail != NULL ? detail : "?");
    return false;
}

bool
fault_behind_load(void)
{
    const char *path = chosen_path != NULL ? chosen_path : getenv("STI_FAULT_MODULE");
    CK_C_GetFunctionList get;
    void *library;

    if (fault_behind != NULL)
        return true;
    if (path == NULL)
        return complain("STI_FAULT_MODULE", "does not say which module to wrap");
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return complain(path, dlerror());
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (get == NULL || get(&fault_behind) != CKR_OK) {
        fault_behind = NULL;
        dlclose(library);
        return complain(path, "no function list");
    }
    return true;
}

bool
fault_behind_is_initialized(void)
{
    return atomic_load_explicit(&initialized, memory_order_acquire);
}

void
fault_behind_set_initialized(bool is_initialized)
{
    inherited = false;
    atomic_store(&initialized, is_initialized);
}

bool
fault_behind_is_inherited(void)
{
    return inherited;
}

void
fault_world_enter(void)
{
    pthread_rwlock_rdlock(&world);
}

void
fault_world_leave(void)
{
    pthread_rwlock_unlock(&world);
}

void
fault_world_stop(void)
{
    pthread_rwlock_wrlock(&world);
}

void
fault_world_resume(void)
{
    pthread_rwlock_unlock(&world);
}

/* In the child after fork(): release what another thread held at the fork. */
void
fault_behind_child(void)
{
    world = (pthread_rwlock_t)WORLD_INITIAL;
    inherited = atomic_load(&initialized);
    atomic_store(&initialized, false);
}
