/* latch.c - tokens whose PIN was refused, in this process and in those that share its list. */
#include "module_internal.h"

#include <stdatomic.h>
#include <string.h>

#include <sys/mman.h>

#include <hsm/token.h>

#define LATCHES_MAX 256 /* tokens; when so many PINs were refused no other one is tried */

/* Only added to, without a lock: a process may be killed at any moment. */
struct latches {
    atomic_uint begun; /* entries that somebody fills, or has */
    struct {
        atomic_bool is_set;
        CK_TOKEN_INFO token;
    } all[LATCHES_MAX];
};

static struct latches own;
static struct latches *latches = &own; /* or what is shared */

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
    return HSM_OK;
}

void
hsm_latch_set(const CK_TOKEN_INFO *token)
{
    unsigned i = atomic_fetch_add(&latches->begun, 1);

    if (i >= LATCHES_MAX)
        return;
    latches->all[i].token = *token;
    atomic_store(&latches->all[i].is_set, true);
}

bool
hsm_latch_is_set(const CK_TOKEN_INFO *token)
{
    unsigned count = atomic_load(&latches->begun);

    for (unsigned i = 0; i < count && i < LATCHES_MAX; i++)
        if (atomic_load(&latches->all[i].is_set) &&
            hsm_is_same_token(&latches->all[i].token, token))
            return true;
    return count >= LATCHES_MAX;
}

void
hsm_token_forget_refusals(void)
{
    unsigned count = atomic_load(&latches->begun);

    for (unsigned i = 0; i < count && i < LATCHES_MAX; i++)
        atomic_store(&latches->all[i].is_set, false);
    atomic_store(&latches->begun, 0);
}
