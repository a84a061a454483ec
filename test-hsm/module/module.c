/* module.c - loading, the function list, fork(). */
#include "module.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "behind.h"
#include "call.h"
#include "control.h"
#include "fake.h"
#include "handles.h"
#include "latency.h"
#include "log.h"
#include "script.h"
#include "sign.h"
#include "slots.h"
#include "sti_fault.h"
#include "throttle.h"
#include "world.h"
#include "wrap.h"

#define EXPORTED __attribute__((visibility("default")))

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;
static CK_FUNCTION_LIST list;

static bool
is_behind(enum fault_fn fn)
{
    switch (fn) {
#define FAULT_FUNCTION(name)                                                                       \
    case FN_##name:                                                                                \
        return fault_behind->name != NULL;
        FAULT_FUNCTIONS(FAULT_FUNCTION)
#undef FAULT_FUNCTION
    case FN_COUNT:
        break;
    }
    return false;
}

void
fault_module_offer(enum fault_fn fn, bool offered)
{
    switch (fn) {
#define FAULT_FUNCTION(name)                                                                       \
    case FN_##name:                                                                                \
        __atomic_store_n(&list.name, offered ? fault_##name : NULL, __ATOMIC_RELEASE);             \
        break;
        FAULT_FUNCTIONS(FAULT_FUNCTION)
#undef FAULT_FUNCTION
    case FN_COUNT:
        break;
    }
}

void
fault_module_offer_all(void)
{
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++)
        fault_module_offer(fn, fault_behind == NULL || is_behind(fn));
}

/* Real modules do not survive fork(): the child must begin with C_Initialize. */
static void
after_fork_in_child(void)
{
    load_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    fault_behind_child();
    fault_handles_child();
    fault_slot_child();
    fault_latency_child();
    fault_throttle_child();
    fault_rules_child();
    fault_fake_child();
    fault_sign_child();
    fault_world_child();
}

static bool
run_script_file(const char *path)
{
    char error[256];

    if (fault_script_run_file(path, error, sizeof(error)))
        return true;
    fprintf(stderr, "sti-fault-module: %s: %s\n", path, error);
    return false;
}

/* load_lock is held. */
static bool
load(void)
{
    const char *script = getenv("STI_FAULT_SCRIPT");
    const char *log = getenv("STI_FAULT_LOG");

    if (loaded)
        return true;
    if ((script != NULL && !run_script_file(script)) || !fault_behind_load())
        return false;
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        if (!is_behind(fn))
            fault_module_offer(fn, false);
    }
    if (log != NULL && !fault_log_open(log))
        fprintf(stderr, "sti-fault-module: %s: cannot be written\n", log);
    pthread_atfork(NULL, NULL, after_fork_in_child);
    loaded = true;
    return true;
}

bool
fault_module_load(void)
{
    bool good;

    pthread_mutex_lock(&load_lock);
    good = load();
    pthread_mutex_unlock(&load_lock);
    if (good)
        fault_control_listen();
    return good;
}

/* A constructor, so that it runs before a script can remove a function. */
__attribute__((constructor)) static void
offer_everything(void)
{
    list.version = (CK_VERSION){2, 40};
    fault_module_offer_all();
}

CK_RV
fault_C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    struct fault_call call;

    if (!fault_module_load())
        return CKR_GENERAL_ERROR;
    if (fault_call_enter_any(&call, FN_C_GetFunctionList)) {
        if (out != NULL)
            *out = &list;
        else
            call.rv = CKR_ARGUMENTS_BAD;
    }
    return fault_call_leave(&call);
}

EXPORTED CK_RV
C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    return fault_C_GetFunctionList(out);
}

EXPORTED const char *
sti_fault_control(const char *commands)
{
    static _Thread_local char reply[FAULT_REPLY_SIZE];

    fault_script_run(commands, reply, sizeof(reply));
    return reply;
}
