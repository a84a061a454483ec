/* latch.c - tokens whose PIN was refused, in this process and in those that share its list. */
#include "module_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <sys/mman.h>

#include <hsm/token.h>

#include "clock_internal.h"

#define LATCHES_MAX 256 /* tokens; when the list is full, no PIN is tried at all */
#define LOGINS_MAX  64 /* logins at a time, each to another token */
#define STEP_MS     1 /* between attempts to take a login lock */

enum latch_state {
    FREE,
    BEING_SET,
    SET,
};

struct latches {
    struct latch { /* lock-free: a process may be killed at any moment */
        atomic_int state;
        unsigned configuration; /* the one under which the PIN was refused */
        CK_TOKEN_INFO token;
    } all[LATCHES_MAX];
    pthread_mutex_t logins[LOGINS_MAX]; /* used in a shared list only */
};

static struct latches own;
static struct latches *latches = &own; /* or the shared list */

/* Configurations of this process and of the children that it forks. */
static unsigned configuration, configuration_before, configurations;

/* Robust mutexes: the lock of a process that is killed during a login passes to another process. */
static bool
init_logins(struct latches *shared)
{
    pthread_mutexattr_t attributes;
    bool good = pthread_mutexattr_init(&attributes) == 0;

    if (!good)
        return false;
    good = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
           pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0;
    for (size_t i = 0; i < LOGINS_MAX && good; i++)
        good = pthread_mutex_init(&shared->logins[i], &attributes) == 0;
    (void)pthread_mutexattr_destroy(&attributes);
    return good;
}

enum hsm_status
hsm_latches_share(void)
{
    struct latches *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED)
        return HSM_ERR_NOMEM;
    memcpy(shared, &own, sizeof(own));
    if (!init_logins(shared)) {
        (void)munmap(shared, sizeof(*shared));
        return HSM_ERR_NOMEM;
    }
    if (latches != &own)
        (void)munmap(latches, sizeof(*latches));
    latches = shared;
    configuration = configurations = 0; /* as in the entries copied from `own` */
    return HSM_OK;
}

void
hsm_latch_set(const CK_TOKEN_INFO *token)
{
    for (unsigned i = 0; i < LATCHES_MAX; i++) {
        struct latch *latch = &latches->all[i];
        int state = FREE;

        if (!atomic_compare_exchange_strong(&latch->state, &state, BEING_SET))
            continue;
        latch->configuration = configuration;
        latch->token = *token;
        atomic_store(&latch->state, SET);
        return;
    }
}

bool
hsm_latch_is_set(const CK_TOKEN_INFO *token)
{
    bool full = true;

    for (unsigned i = 0; i < LATCHES_MAX; i++) {
        const struct latch *latch = &latches->all[i];
        int state = atomic_load(&latch->state);

        if (state == SET && latch->configuration == configuration &&
            hsm_is_same_token(&latch->token, token))
            return true;
        full = full && state != FREE;
    }
    return full;
}

/* FNV-1a. Two tokens with the same hash wait for each other. */
static pthread_mutex_t *
login_of(const CK_TOKEN_INFO *token)
{
    uint32_t hash = 2166136261;

    for (size_t i = 0; i < sizeof(token->label); i++)
        hash = (hash ^ token->label[i]) * 16777619;
    for (size_t i = 0; i < sizeof(token->serialNumber); i++)
        hash = (hash ^ token->serialNumber[i]) * 16777619;
    return &latches->logins[hash % LOGINS_MAX];
}

bool
hsm_latch_enter(const CK_TOKEN_INFO *token, unsigned timeout_ms)
{
    int64_t deadline = hsm_deadline_after(timeout_ms);
    int rc;

    if (latches == &own)
        return true;
    while ((rc = pthread_mutex_trylock(login_of(token))) == EBUSY && hsm_clock_ns() < deadline)
        hsm_clock_sleep_until(hsm_deadline_after(STEP_MS));
    if (rc == EOWNERDEAD)
        rc = pthread_mutex_consistent(login_of(token));
    return rc == 0;
}

void
hsm_latch_leave(const CK_TOKEN_INFO *token)
{
    if (latches != &own)
        (void)pthread_mutex_unlock(login_of(token));
}

static void
forget(bool of_all)
{
    for (unsigned i = 0; i < LATCHES_MAX; i++) {
        struct latch *latch = &latches->all[i];
        int state = SET;

        if (of_all || latch->configuration != configuration)
            (void)atomic_compare_exchange_strong(&latch->state, &state, FREE);
    }
}

void
hsm_token_forget_refusals(void)
{
    forget(true);
}

void
hsm_latches_begin_configuration(void)
{
    forget(false);
    configuration_before = configuration;
    configuration = ++configurations;
}

void
hsm_latches_abandon_configuration(void)
{
    configuration = configuration_before;
}
