/* service_health.c - could a call be signed and verified now? */
#include "service_internal.h"

static void
add(json_t *reasons, const char *why)
{
    (void)json_array_append_new(reasons, json_string(why));
}

void
sks_service_not_ready(void *context, json_t *reasons)
{
    struct sks_service *service = context;
    const char *why[SKS_SIGNING_REASONS_MAX];
    time_t now = sks_service_now(service);
    size_t count = sks_signing_reasons(service->signing, now, why);

    for (size_t i = 0; i < count; i++)
        add(reasons, why[i]);
    if (!sks_trust_is_ready(service->config.trust, now))
        add(reasons, "no trusted-CA list and CRL that are good now");
}

void
sks_service_not_served(void *context, json_t *answer)
{
    struct sks_service *service = context;
    time_t now = sks_service_now(service);
    json_t *list = json_array();

    for (size_t i = 0; i < sks_signing_provider_count(service->signing); i++) {
        const char *why;
        const char *spc = sks_signing_provider(service->signing, i, now, &why);

        if (why != NULL)
            (void)json_array_append_new(list, json_pack("{s:s, s:s}", "spc", spc, "why", why));
    }
    if (json_array_size(list) > 0)
        (void)json_object_set(answer, "not_served", list);
    json_decref(list);
}
