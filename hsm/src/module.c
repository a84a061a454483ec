/* module.c - PKCS#11 modules and their slots, shared by the tokens of a process. */
#include "module_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <hsm/log.h>

#include "ckr_internal.h"

/*
 * libp11 has 16 sessions a slot and no way to change it. One of them is left
 * for its search of keys.
 */
#define SIGNING_SESSIONS 15
#define OWN_SESSIONS     2 /* of the token's: the control session, libp11's search */

/* What libp11 calls a list of slots; it can only be released as a whole. */
struct slot_list {
    PKCS11_SLOT *slots;
    unsigned count;
    struct slot_list *next;
};

struct hsm_module {
    char *path;
    void *library;
    CK_FUNCTION_LIST *functions;
    CK_INFO info;
    PKCS11_CTX *p11;
    struct slot_list *lists;
    struct hsm_slot *slots;
    unsigned users;
    struct hsm_module *next;
};

/* A token whose PIN was refused in this process. */
struct latch {
    CK_TOKEN_INFO token;
    struct latch *next;
};

/*
 * C_Initialize is per process, and so is this. A child of fork() forgets what
 * it inherited without a call to the module (which would speak on the parent's
 * connections), but not the latches: a restarted worker may not wear out a PIN.
 */
static struct {
    pthread_mutex_t lock;
    struct hsm_module *modules;
    struct hsm_module *inherited; /* of the parent: never used, never released */
    struct latch *latches;
    atomic_uint generation;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
forget_inherited(void)
{
    struct hsm_module *last = registry.modules;

    pthread_mutex_init(&registry.lock, NULL);
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
    return atomic_load(&registry.generation);
}

static CK_RV
initialize(const struct hsm_module *module)
{
    CK_C_INITIALIZE_ARGS args;
    CK_RV rv;

    memset(&args, 0, sizeof(args));
    args.flags = CKF_OS_LOCKING_OK;
    rv = module->functions->C_Initialize(&args);
    return rv == CKR_CRYPTOKI_ALREADY_INITIALIZED ? CKR_OK : rv;
}

/* RTLD_NODELETE: vendors' libraries leave threads and exit handlers behind. */
static enum hsm_status
load_library(struct hsm_module *module)
{
    CK_C_GetFunctionList get_functions;

    module->library = dlopen(module->path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (module->library == NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 module: %s", dlerror());
        return HSM_ERR_UNSUPPORTED;
    }
    *(void **)&get_functions = dlsym(module->library, "C_GetFunctionList");
    if (get_functions == NULL || get_functions(&module->functions) != CKR_OK ||
        module->functions == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: not a PKCS#11 module", module->path);
        return HSM_ERR_UNSUPPORTED;
    }
    return HSM_OK;
}

static enum hsm_status
load_into_libp11(struct hsm_module *module)
{
    PKCS11_CTX *p11 = PKCS11_CTX_new();

    if (p11 == NULL)
        return HSM_ERR_NOMEM;
    if (PKCS11_CTX_load(p11, module->path) != 0) {
        PKCS11_CTX_free(p11);
        return hsm_ckr_log(hsm_ckr_from_libp11(), module->path);
    }
    module->p11 = p11;
    return HSM_OK;
}

/*
 * The raw C_Initialize comes first: its arguments hold for both lists where
 * the module has one for all callers. Some have one list per caller
 * (p11-kit-client.so), with its own initialisation.
 */
static enum hsm_status
module_start(struct hsm_module *module)
{
    enum hsm_status st = load_library(module);
    CK_RV rv;

    if (st != HSM_OK)
        return st;
    rv = initialize(module);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_Initialize");
    rv = module->functions->C_GetInfo(&module->info);
    st = rv == CKR_OK ? load_into_libp11(module) : hsm_ckr_log(rv, "C_GetInfo");
    if (st != HSM_OK)
        (void)module->functions->C_Finalize(NULL);
    return st;
}

static void
slot_free(struct hsm_slot *slot)
{
    hsm_gate_destroy(&slot->signing);
    hsm_gate_destroy(&slot->admin);
    free(slot);
}

static void
module_free(struct hsm_module *module)
{
    if (module->library != NULL)
        dlclose(module->library);
    free(module->path);
    free(module);
}

/* Releasing libp11's lists closes all sessions, unloading its context calls C_Finalize. */
static void
module_stop(struct hsm_module *module)
{
    while (module->slots != NULL) {
        struct hsm_slot *slot = module->slots;

        module->slots = slot->next;
        slot_free(slot);
    }
    while (module->lists != NULL) {
        struct slot_list *list = module->lists;

        module->lists = list->next;
        PKCS11_release_all_slots(module->p11, list->slots, list->count);
        free(list);
    }
    PKCS11_CTX_unload(module->p11);
    PKCS11_CTX_free(module->p11);
    (void)module->functions->C_Finalize(NULL); /* of its own list, where it has one */
    ERR_clear_error();
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

/* Under registry.lock; takes the path over. */
static enum hsm_status
module_add(char *path, struct hsm_module **out)
{
    struct hsm_module *module = calloc(1, sizeof(*module));
    enum hsm_status st;

    if (module == NULL) {
        free(path);
        return HSM_ERR_NOMEM;
    }
    module->path = path;
    st = module_start(module);
    if (st != HSM_OK) {
        module_free(module);
        return st;
    }
    module->next = registry.modules;
    registry.modules = module;
    *out = module;
    return HSM_OK;
}

enum hsm_status
hsm_module_open(const char *path, struct hsm_module **out)
{
    char *real = realpath(path, NULL); /* one module must not be initialised under two names */
    struct hsm_module *module;
    enum hsm_status st = HSM_OK;

    if (real == NULL) {
        hsm_log(HSM_LOG_ERROR, "PKCS#11 module %s: %s", path, strerror(errno));
        return errno == ENOMEM ? HSM_ERR_NOMEM : HSM_ERR_NOT_FOUND;
    }
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&registry.lock);
    module = module_of_path(real);
    if (module != NULL)
        free(real);
    else
        st = module_add(real, &module);
    if (st == HSM_OK) {
        module->users++;
        *out = module;
    }
    pthread_mutex_unlock(&registry.lock);
    return st;
}

void
hsm_module_close(struct hsm_module *module)
{
    struct hsm_module **link = &registry.modules;

    pthread_mutex_lock(&registry.lock);
    if (--module->users == 0) {
        while (*link != module)
            link = &(*link)->next;
        *link = module->next;
        module_stop(module);
        module_free(module);
    }
    pthread_mutex_unlock(&registry.lock);
}

CK_FUNCTION_LIST *
hsm_module_functions(const struct hsm_module *module)
{
    return module->functions;
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

static PKCS11_SLOT *
listed_slot(const struct slot_list *list, CK_SLOT_ID id)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (PKCS11_get_slotid_from_slot(&list->slots[i]) == id)
            return &list->slots[i];
    }
    return NULL;
}

/*
 * A fresh list for every slot that is opened for the first time: an older one
 * may not know it yet. Old lists stay, because to release one closes every
 * session of the process.
 */
static enum hsm_status
slot_enumerate(struct hsm_module *module, CK_SLOT_ID id, PKCS11_SLOT **out)
{
    struct slot_list *list = calloc(1, sizeof(*list));
    PKCS11_SLOT *slot;

    if (list == NULL)
        return HSM_ERR_NOMEM;
    if (PKCS11_enumerate_slots(module->p11, &list->slots, &list->count) != 0) {
        free(list);
        return hsm_ckr_log(hsm_ckr_from_libp11(), "slots");
    }
    list->next = module->lists;
    module->lists = list;
    slot = listed_slot(list, id);
    if (slot == NULL || slot->token == NULL) {
        hsm_log(HSM_LOG_ERROR, "slot %lu: the token is gone", id);
        return HSM_ERR_BUSY;
    }
    *out = slot;
    return HSM_OK;
}

static unsigned
signing_permits(const CK_TOKEN_INFO *token)
{
    CK_ULONG most = token->ulMaxRwSessionCount;

    if (most == CK_EFFECTIVELY_INFINITE || most == CK_UNAVAILABLE_INFORMATION)
        return SIGNING_SESSIONS;
    if (most >= SIGNING_SESSIONS + OWN_SESSIONS)
        return SIGNING_SESSIONS;
    return most > OWN_SESSIONS ? (unsigned)most - OWN_SESSIONS : 1;
}

static enum hsm_status
slot_new(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
         struct hsm_slot **out)
{
    struct hsm_slot *slot = calloc(1, sizeof(*slot));
    enum hsm_status st;

    if (slot == NULL)
        return HSM_ERR_NOMEM;
    slot->module = module;
    slot->id = id;
    st = slot_enumerate(module, id, &slot->p11);
    if (st != HSM_OK) {
        free(slot);
        return st;
    }
    if (!hsm_gate_init(&slot->signing, signing_permits(token)) || !hsm_gate_init(&slot->admin, 1)) {
        slot_free(slot);
        return HSM_ERR_NOMEM;
    }
    slot->next = module->slots;
    module->slots = slot;
    *out = slot;
    return HSM_OK;
}

/* Which token it is; counters and sessions in CK_TOKEN_INFO change all the time. */
static bool
is_same_token(const CK_TOKEN_INFO *a, const CK_TOKEN_INFO *b)
{
    return memcmp(a->label, b->label, sizeof(a->label)) == 0 &&
           memcmp(a->manufacturerID, b->manufacturerID, sizeof(a->manufacturerID)) == 0 &&
           memcmp(a->model, b->model, sizeof(a->model)) == 0 &&
           memcmp(a->serialNumber, b->serialNumber, sizeof(a->serialNumber)) == 0;
}

static bool
is_latched(const CK_TOKEN_INFO *token)
{
    for (const struct latch *latch = registry.latches; latch != NULL; latch = latch->next) {
        if (is_same_token(&latch->token, token))
            return true;
    }
    return false;
}

static CK_RV
open_session(const struct hsm_slot *slot, CK_SESSION_HANDLE *out)
{
    return slot->module->functions->C_OpenSession(slot->id, CKF_SERIAL_SESSION | CKF_RW_SESSION,
                                                  NULL, NULL, out);
}

/*
 * libp11 waits without end when it can open no session at all, so one is
 * opened beside the control session before it is let near. Its mode must be
 * set before both: to set it closes all sessions of the slot.
 */
static enum hsm_status
start_sessions(struct hsm_slot *slot)
{
    CK_FUNCTION_LIST *functions = slot->module->functions;
    CK_SESSION_HANDLE control;
    CK_SESSION_HANDLE probe;
    CK_RV rv;

    if (!slot->prepared) {
        if (PKCS11_open_session(slot->p11, 1) != 0)
            return hsm_ckr_log(hsm_ckr_from_libp11(), "session");
        slot->prepared = true;
    }
    rv = open_session(slot, &control);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_OpenSession");
    rv = open_session(slot, &probe);
    if (rv != CKR_OK) {
        (void)functions->C_CloseSession(control);
        return hsm_ckr_log(rv, "C_OpenSession, the second");
    }
    (void)functions->C_CloseSession(probe);
    slot->control = control;
    return HSM_OK;
}

static bool
is_about_the_pin(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE ||
           rv == CKR_PIN_EXPIRED || rv == CKR_PIN_LOCKED;
}

/* Once, ever: the value that comes back decides, and libp11 is told only a PIN that was right. */
static enum hsm_status
login(struct hsm_slot *slot, const struct hsm_secret *pin, bool *pin_refused)
{
    CK_FUNCTION_LIST *functions = slot->module->functions;
    CK_UTF8CHAR *octets = (CK_UTF8CHAR *)hsm_secret_octets(pin);
    CK_RV rv = functions->C_Login(slot->control, CKU_USER, octets, hsm_secret_len(pin));

    *pin_refused = is_about_the_pin(rv);
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN)
        return hsm_ckr_log(rv, "login");
    if (PKCS11_login(slot->p11, 0, hsm_secret_octets(pin)) == 0)
        return HSM_OK;
    (void)functions->C_Logout(slot->control);
    return hsm_ckr_log(hsm_ckr_from_libp11(), "login");
}

/* The latch is made first: there must be no way to learn of a refusal and not to keep it. */
static enum hsm_status
login_latched(struct hsm_slot *slot, const CK_TOKEN_INFO *token, const struct hsm_secret *pin)
{
    struct latch *latch = calloc(1, sizeof(*latch));
    bool pin_refused = false;
    enum hsm_status st;

    if (latch == NULL)
        return HSM_ERR_NOMEM;
    st = login(slot, pin, &pin_refused);
    if (!pin_refused) {
        free(latch);
        return st;
    }
    latch->token = *token;
    latch->next = registry.latches;
    registry.latches = latch;
    return st;
}

/* Under registry.lock. */
static enum hsm_status
slot_start(struct hsm_slot *slot, const CK_TOKEN_INFO *token, const struct hsm_secret *pin)
{
    enum hsm_status st;

    if (is_latched(token)) {
        hsm_log(HSM_LOG_ERROR, "the PIN of this token was refused before: not tried again");
        return HSM_ERR_DENIED;
    }
    st = start_sessions(slot);
    if (st != HSM_OK)
        return st;
    st = login_latched(slot, token, pin);
    if (st != HSM_OK)
        (void)slot->module->functions->C_CloseSession(slot->control);
    return st;
}

static struct hsm_slot *
slot_of_id(const struct hsm_module *module, CK_SLOT_ID id)
{
    for (struct hsm_slot *slot = module->slots; slot != NULL; slot = slot->next) {
        if (slot->id == id)
            return slot;
    }
    return NULL;
}

enum hsm_status
hsm_slot_open(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
              const struct hsm_secret *pin, struct hsm_slot **out)
{
    struct hsm_slot *slot;
    enum hsm_status st = HSM_OK;

    pthread_mutex_lock(&registry.lock);
    slot = slot_of_id(module, id);
    if (slot == NULL)
        st = slot_new(module, id, token, &slot);
    if (st == HSM_OK && slot->users == 0)
        st = slot_start(slot, token, pin);
    if (st == HSM_OK) {
        slot->users++;
        *out = slot;
    }
    pthread_mutex_unlock(&registry.lock);
    return st;
}

/* libp11 first: after a foreign C_Logout it would believe itself logged in for ever. */
void
hsm_slot_close(struct hsm_slot *slot)
{
    CK_FUNCTION_LIST *functions = slot->module->functions;

    pthread_mutex_lock(&registry.lock);
    if (--slot->users == 0) {
        (void)PKCS11_logout(slot->p11);
        (void)functions->C_Logout(slot->control);
        (void)functions->C_CloseSession(slot->control);
        ERR_clear_error();
    }
    pthread_mutex_unlock(&registry.lock);
}
