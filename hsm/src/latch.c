/* latch.c - tokens whose PIN was refused, in this process and in those that share its list. */
#include "module_internal.h"

#include <stdatomic.h>
#include <string.h>

#include <sys/mman.h>

#include <hsm/token.h>

#define LATCHES_MAX 256 /* tokens; when so many PINs were refused no other one is tried */

enum latch_state {
    FREE,
    BEING_SET,
    SET,
};

/* Without a lock: a process may be killed at any moment. */
struct latches {
    struct latch {
        atomic_int state;
        unsigned configuration; /* under which the PIN was refused */
        CK_TOKEN_INFO token;
    } all[LATCHES_MAX];
};

static struct latches own;
static struct latches *latches = &own; /* or what is shared */

/* Of this process, and of the children that it forks. */
static unsigned configuration, configuration_before, configurations;

enum hsm_status
hsm_latches_share(void)
{
    struct latches *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED)
        return HSM_ERR_NOMEM;
    memcpy(shared, &own, sizeof(own));
    if (latches != &own)
        (void)munmap(latches, sizeof(*latches));
    latches = shared;
    configuration = configurations = 0; /* as what is in `own` has it */
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
