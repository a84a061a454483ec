/* service_health.c - could a call be signed and verified now? */
#include "service_internal.h"

#include <hsm/defer.h>

DEFINE_DEFER(struct sks_signers, sks_signers_free)

static void
add(json_t *reasons, const char *why)
{
    (void)json_array_append_new(reasons, json_string(why));
}

void
sks_service_not_ready(void *context, json_t *reasons)
{
    struct sks_service *service = context;
    DEFER(sks_signers_free) struct sks_signers *signers = sks_service_signers(service);
    time_t now = sks_service_now(service);

    if (signers == NULL || sks_signers_count(signers) == 0)
        add(reasons, "no active credential");
    else if (sks_signers_at(signers, now) == NULL)
        add(reasons, "the active credential has ended");
    if (!atomic_load(&service->token_signs) || !hsm_token_is_ready(service->config.token))
        add(reasons, "the token does not sign");
    if (!sks_trust_is_ready(service->config.trust, now))
        add(reasons, "no trusted-CA list and CRL that are good now");
    if (atomic_load(&service->stale))
        add(reasons, "an active credential cannot be loaded");
}
