/* module.c - PKCS#11 modules, shared by the tokens of a process. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include "module_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "gate_internal.h"
#include "slot_internal.h"

#define SLOTS_MAX   4096 /* slots of one module; further ones are not listed */
#define SLOTS_TRIES 4
#define START_TRIES 5 /* of C_Initialize, while another process writes the files that it reads */
#define START_MS    20 /* between these tries, at first; doubled each time */

/* Counts the threads inside the module; while shut, no other may enter. */
struct door {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside;
    bool shut;
};

struct hsm_module {
    char *path;
    void *library;
    CK_FUNCTION_LIST *list; /* as the library returned it: identifies the connection */
    CK_FUNCTION_LIST functions; /* a copy, as the module may change its list */
    CK_INFO info;
    struct door door;
    struct hsm_gate call; /* for a module that takes one call at a time */
    atomic_bool serial;
    pthread_mutex_t slots_lock;
    struct hsm_slot *slots;
    atomic_uint epoch;
    bool begun; /* C_Initialize was called, whatever it returned */
    pthread_mutex_t opening; /* one opening at a time; protects `started` and the slots */
    bool started; /* and not yet finalised */
    unsigned users; /* under the registry's lock, as is the list of modules */
    struct hsm_module *next;
};

/*
 * C_Initialize is per process, and so is this registry. A child of fork() drops what it inherited
 * without a call to the module (which would speak on the parent's connections).
 */
static struct {
    pthread_mutex_t lock;
    struct hsm_module *modules;
    struct hsm_module *inherited; /* the parent's modules: never used, never released */
    atomic_uint generation;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
forget_inherited(void)
{
    struct hsm_module *last = registry.modules;

    pthread_mutex_init(&registry.lock, NULL);
    hsm_watch_forget();
    atomic_fetch_add(&registry.generation, 1);
    if (last == NULL)
        return;
    while (last->next != NULL)
        last = last->next;
    last->next = registry.inherited;
    registry.inherited = registry.modules;
    registry.modules = NULL;
}

static void
watch_forks(void)
{
    if (pthread_atfork(NULL, NULL, forget_inherited) != 0)
        hsm_log(HSM_LOG_WARNING, "pthread_atfork failed: do not fork with a token open");
}

unsigned
hsm_fork_generation(void)
{
    return atomic_load_explicit(&registry.generation, memory_order_relaxed);
}

bool
hsm_is_same_token(const CK_TOKEN_INFO *a, const CK_TOKEN_INFO *b)
{
    return memcmp(a->label, b->label, sizeof(a->label)) == 0 &&
           memcmp(a->manufacturerID, b->manufacturerID, sizeof(a->manufacturerID)) == 0 &&
           memcmp(a->model, b->model, sizeof(a->model)) == 0 &&
           memcmp(a->serialNumber, b->serialNumber, sizeof(a->serialNumber)) == 0;
}

static CK_RV
initialize(struct hsm_module *module)
{
    CK_C_INITIALIZE_ARGS args;
    CK_RV rv;

    memset(&args, 0, sizeof(args));
    args.flags = CKF_OS_LOCKING_OK;
    module->begun = true;
    rv = module->functions.C_Initialize(&args);
    /* Another library of the process may have initialised the module already. */
    return hsm_ckr_action(rv) == HSM_CKR_NONE ? CKR_OK : rv;
}

static void
finalize(const struct hsm_module *module)
{
    if (module->begun)
        (void)module->functions.C_Finalize(NULL); /* it may be finalised already */
}

/* All functions that are called without a check for NULL are present. */
static bool
is_complete(const CK_FUNCTION_LIST *list)
{
    return list->C_Initialize != NULL && list->C_Finalize != NULL && list->C_GetInfo != NULL &&
           list->C_GetSlotList != NULL && list->C_GetSlotInfo != NULL &&
           list->C_GetTokenInfo != NULL && list->C_GetMechanismInfo != NULL &&
           list->C_OpenSession != NULL && list->C_CloseSession != NULL &&
           list->C_GetSessionInfo != NULL && list->C_Login != NULL && list->C_Logout != NULL &&
           list->C_FindObjectsInit != NULL && list->C_FindObjects != NULL &&
           list->C_FindObjectsFinal != NULL && list->C_GetAttributeValue != NULL &&
           list->C_GenerateKeyPair != NULL && list->C_DestroyObject != NULL &&
           list->C_GenerateRandom != NULL && list->C_SignInit != NULL && list->C_Sign != NULL &&
           list->C_InitToken != NULL && list->C_InitPIN != NULL;
}

/* RTLD_NODELETE: vendors' libraries leave threads and exit handlers behind. */
static enum hsm_status
load_library(struct hsm_module *module)
{
    module->library = dlopen(module->path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (module->library == NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 module: %s", dlerror());
        return HSM_ERR_UNSUPPORTED;
    }
    return HSM_OK;
}

static bool
take_list(struct hsm_module *module)
{
    CK_C_GetFunctionList get_functions;
    CK_FUNCTION_LIST *functions = NULL;

    *(void **)&get_functions = dlsym(module->library, "C_GetFunctionList");
    if (get_functions == NULL || get_functions(&functions) != CKR_OK || functions == NULL ||
        !is_complete(functions))
        return false;
    module->list = functions;
    module->functions = *functions;
    return true;
}

static enum hsm_status
start(struct hsm_module *module)
{
    enum hsm_status st = module->library == NULL ? load_library(module) : HSM_OK;
    CK_RV rv;

    if (st != HSM_OK)
        return st;
    if (!take_list(module)) {
        hsm_log(HSM_LOG_ERROR, "%s: not a PKCS#11 module", module->path);
        return HSM_ERR_UNSUPPORTED;
    }
    rv = initialize(module);
    for (unsigned tries = 1; rv == CKR_GENERAL_ERROR && tries < START_TRIES; tries++) {
        hsm_clock_sleep_until(hsm_deadline_after(START_MS << (tries - 1)));
        rv = initialize(module);
    }
    if (rv != CKR_OK)
        return hsm_ckr_log_of(rv, "PKCS#11 module", module->path, "C_Initialize");
    rv = module->functions.C_GetInfo(&module->info);
    if (rv == CKR_OK)
        return HSM_OK;
    finalize(module);
    return hsm_ckr_log_of(rv, "PKCS#11 module", module->path, "C_GetInfo");
}

static void
module_free(struct hsm_module *module)
{
    if (module->library != NULL)
        dlclose(module->library);
    pthread_mutex_destroy(&module->door.lock);
    pthread_cond_destroy(&module->door.changed);
    hsm_gate_destroy(&module->call);
    pthread_mutex_destroy(&module->slots_lock);
    pthread_mutex_destroy(&module->opening);
    free(module->path);
    free(module);
}

static struct hsm_module *
module_of_path(const char *path)
{
    for (struct hsm_module *m = registry.modules; m != NULL; m = m->next) {
        if (strcmp(m->path, path) == 0)
            return m;
    }
    return NULL;
}

/* Takes the path over; NULL: no memory. */
static struct hsm_module *
module_new(char *path)
{
    struct hsm_module *module = calloc(1, sizeof(*module));

    if (module == NULL || path == NULL) {
        free(module);
        free(path);
        return NULL;
    }
    module->path = path;
    (void)hsm_gate_init(&module->call, 1);
    pthread_mutex_init(&module->door.lock, NULL);
    pthread_cond_init(&module->door.changed, NULL);
    pthread_mutex_init(&module->slots_lock, NULL);
    pthread_mutex_init(&module->opening, NULL);
    atomic_init(&module->epoch, 1);
    return module;
}

/* Under registry.lock; takes the path over. */
static struct hsm_module *
find_or_add(char *path)
{
    struct hsm_module *module = module_of_path(path);

    if (module != NULL) {
        free(path);
        module->users++;
        return module;
    }
    module = module_new(path);
    if (module == NULL)
        return NULL;
    module->users = 1;
    module->next = registry.modules;
    registry.modules = module;
    return module;
}

enum hsm_status
hsm_module_find(const char *path, struct hsm_module **out)
{
    char *real = realpath(path, NULL); /* one module must not be initialised under two names */
    struct hsm_module *module;

    if (real == NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 module %s: %s", path, strerror(errno));
        return errno == ENOMEM ? HSM_ERR_NOMEM : HSM_ERR_NOT_FOUND;
    }
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&registry.lock);
    module = find_or_add(real);
    pthread_mutex_unlock(&registry.lock);
    if (module == NULL)
        return HSM_ERR_NOMEM;
    hsm_module_lock(module);
    *out = module;
    return HSM_OK;
}

void
hsm_module_lock(struct hsm_module *module)
{
    pthread_mutex_lock(&module->opening);
}

void
hsm_module_unlock(struct hsm_module *module)
{
    pthread_mutex_unlock(&module->opening);
}

enum hsm_status
hsm_module_start(struct hsm_module *module)
{
    enum hsm_status st = module->started ? HSM_OK : start(module);

    module->started = st == HSM_OK;
    return st;
}

static bool
has_other_users(const struct hsm_module *module)
{
    bool others;

    pthread_mutex_lock(&registry.lock);
    others = module->users > 1;
    pthread_mutex_unlock(&registry.lock);
    return others;
}

/* True: no user is left. */
static bool
forget_user(struct hsm_module *module)
{
    struct hsm_module **link = &registry.modules;
    bool last;

    pthread_mutex_lock(&registry.lock);
    last = --module->users == 0;
    while (last && *link != module)
        link = &(*link)->next;
    if (last)
        *link = module->next;
    pthread_mutex_unlock(&registry.lock);
    return last;
}

/* A user that comes while the module is being finalised waits for its lock, and starts it again. */
void
hsm_module_release(struct hsm_module *module)
{
    bool last;

    if (module->started && !has_other_users(module)) {
        finalize(module);
        module->started = false;
    }
    last = forget_user(module);
    hsm_module_unlock(module);
    if (last)
        module_free(module);
}

/* p11-kit's proxy, which is its library: each list that it returns is a different one, but all
 * share the process's modules, their sessions and logins. CK_INFO does not distinguish it from
 * p11-kit's client, which reports what the proxy at the server's end reports. */
static bool
is_proxy(const struct hsm_module *module)
{
    return dlsym(module->library, "p11_kit_modules_load") != NULL;
}

enum hsm_status
hsm_module_connect(const struct hsm_module *first, struct hsm_module **out)
{
    struct hsm_module *module;
    enum hsm_status st;

    if (is_proxy(first))
        return HSM_ERR_UNSUPPORTED;
    module = module_new(strdup(first->path));
    if (module == NULL)
        return HSM_ERR_NOMEM;
    st = load_library(module);
    if (st == HSM_OK && (!take_list(module) || module->list == first->list))
        st = HSM_ERR_UNSUPPORTED;
    if (st != HSM_OK) {
        module_free(module);
        return st;
    }
    module->info = first->info;
    *out = module;
    return HSM_OK;
}

void
hsm_module_disconnect(struct hsm_module *module)
{
    finalize(module);
    module_free(module);
}

const CK_FUNCTION_LIST *
hsm_module_functions(const struct hsm_module *module)
{
    return &module->functions;
}

const CK_INFO *
hsm_module_info(const struct hsm_module *module)
{
    return &module->info;
}

const char *
hsm_module_path(const struct hsm_module *module)
{
    return module->path;
}

static CK_RV
slots_once(const struct hsm_module *module, CK_SLOT_ID **out, CK_ULONG *count)
{
    CK_ULONG n = 0;
    CK_RV rv = module->functions.C_GetSlotList(CK_TRUE, NULL, &n);
    CK_SLOT_ID *ids;

    if (rv != CKR_OK)
        return rv;
    if (n > SLOTS_MAX)
        return CKR_DEVICE_ERROR;
    ids = calloc(n + 1, sizeof(*ids));
    if (ids == NULL)
        return CKR_HOST_MEMORY;
    rv = module->functions.C_GetSlotList(CK_TRUE, ids, &n);
    if (rv != CKR_OK) {
        free(ids);
        return rv;
    }
    *out = ids;
    *count = n;
    return CKR_OK;
}

/* The list may grow between the two calls, when another process has created a token. */
CK_RV
hsm_module_slots(const struct hsm_module *module, CK_SLOT_ID **out, CK_ULONG *count)
{
    CK_RV rv = CKR_BUFFER_TOO_SMALL;

    for (int tries = 0; rv == CKR_BUFFER_TOO_SMALL && tries < SLOTS_TRIES; tries++)
        rv = slots_once(module, out, count);
    return rv;
}

unsigned
hsm_module_epoch(const struct hsm_module *module)
{
    return atomic_load(&module->epoch);
}

void
hsm_module_serialise(struct hsm_module *module)
{
    pthread_mutex_lock(&module->slots_lock);
    if (module->slots == NULL)
        atomic_store(&module->serial, true);
    pthread_mutex_unlock(&module->slots_lock);
}

bool
hsm_module_call_begin(struct hsm_module *module, int64_t deadline)
{
    return !atomic_load_explicit(&module->serial, memory_order_relaxed) ||
           hsm_gate_enter(&module->call, hsm_ms_until(deadline));
}

void
hsm_module_call_end(struct hsm_module *module)
{
    if (atomic_load_explicit(&module->serial, memory_order_relaxed))
        hsm_gate_leave(&module->call);
}

static bool
door_enter(struct door *door, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    int rc = 0;
    bool entered;

    pthread_mutex_lock(&door->lock);
    while (door->shut && rc == 0)
        rc = pthread_cond_clockwait(&door->changed, &door->lock, CLOCK_MONOTONIC, &until);
    entered = !door->shut;
    if (entered)
        door->inside++;
    pthread_mutex_unlock(&door->lock);
    return entered;
}

static void
door_leave(struct door *door)
{
    pthread_mutex_lock(&door->lock);
    door->inside--;
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->lock);
}

bool
hsm_module_enter(struct hsm_module *module, int64_t deadline)
{
    if (!door_enter(&module->door, deadline))
        return false;
    if (hsm_module_call_begin(module, deadline))
        return true;
    door_leave(&module->door);
    return false;
}

void
hsm_module_leave(struct hsm_module *module)
{
    hsm_module_call_end(module);
    door_leave(&module->door);
}

/* False: a call stays inside until the deadline, or another thread has shut it. */
static bool
door_shut(struct door *door, int64_t deadline)
{
    struct timespec until = hsm_clock_timespec(deadline);
    bool shut = false;
    int rc = 0;

    pthread_mutex_lock(&door->lock);
    if (!door->shut) {
        door->shut = true;
        while (door->inside > 0 && rc == 0)
            rc = pthread_cond_clockwait(&door->changed, &door->lock, CLOCK_MONOTONIC, &until);
        shut = door->inside == 0;
        door->shut = shut;
        pthread_cond_broadcast(&door->changed);
    }
    pthread_mutex_unlock(&door->lock);
    return shut;
}

static void
door_open(struct door *door)
{
    pthread_mutex_lock(&door->lock);
    door->shut = false;
    pthread_cond_broadcast(&door->changed);
    pthread_mutex_unlock(&door->lock);
}

void
hsm_module_add_slot(struct hsm_module *module, struct hsm_slot *slot)
{
    pthread_mutex_lock(&module->slots_lock);
    slot->next = module->slots;
    module->slots = slot;
    pthread_mutex_unlock(&module->slots_lock);
}

void
hsm_module_remove_slot(struct hsm_module *module, struct hsm_slot *slot)
{
    struct hsm_slot **link = &module->slots;

    pthread_mutex_lock(&module->slots_lock);
    while (*link != slot)
        link = &(*link)->next;
    *link = slot->next;
    pthread_mutex_unlock(&module->slots_lock);
}

struct hsm_slot *
hsm_module_slot_of(const struct hsm_module *module, const CK_TOKEN_INFO *token)
{
    struct hsm_slot *slot = module->slots;

    while (slot != NULL && (slot->users == 0 || !hsm_is_same_token(&slot->token, token)))
        slot = slot->next;
    return slot;
}

/* Finalising takes the module from every token on it, so it must not serve any other of them. A
 * call that is left behind while its pool is drained is counted as stuck before its session is
 * given up, so stuck_now is checked last. */
static bool
is_needed_by_others(struct hsm_module *module, const struct hsm_slot *by, int64_t deadline)
{
    bool needed = false;

    pthread_mutex_lock(&module->slots_lock);
    for (struct hsm_slot *slot = module->slots; slot != NULL && !needed; slot = slot->next) {
        needed = (slot != by && hsm_pool_service(&slot->pool) == HSM_OK) ||
                 !hsm_pool_drain(&slot->pool, deadline) || atomic_load(&slot->stuck_now) > 0;
    }
    pthread_mutex_unlock(&module->slots_lock);
    return needed;
}

enum hsm_status
hsm_module_restart(struct hsm_module *module, const struct hsm_slot *by, int64_t deadline)
{
    CK_RV rv = CKR_OK;

    if (!door_shut(&module->door, deadline))
        return HSM_OK;
    if (!is_needed_by_others(module, by, deadline)) {
        if (module->begun)
            atomic_fetch_add(&module->epoch, 1);
        finalize(module);
        rv = initialize(module);
    }
    door_open(&module->door);
    return rv == CKR_OK ? HSM_OK : hsm_ckr_status(rv);
}
