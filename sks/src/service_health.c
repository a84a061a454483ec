/* service_health.c - whether calls can be signed and verified now. */
#include "service_internal.h"

static void
add(json_t *reasons, const char *why)
{
    (void)json_array_append_new(reasons, json_string(why));
}

static void
not_signing(void *context, json_t *reasons)
{
    struct sks_service *service = context;
    const char *why[SKS_SIGNING_REASONS_MAX];
    size_t count = sks_signing_reasons(service->signing, sks_service_now(service), why);

    for (size_t i = 0; i < count; i++)
        add(reasons, why[i]);
}

/* Not a reason against signing, which needs list and CRL only for div PASSporTs of customers with
 * div-headers = verified: when they expire, callers must keep sending calls to be signed. */
static void
not_verifying(void *context, json_t *reasons)
{
    struct sks_service *service = context;

    if (!sks_trust_is_ready(service->config.trust, sks_service_now(service)))
        add(reasons, "no trusted-CA list and CRL that are good now");
}

const struct acme_operations_role sks_service_roles[] = {
    [SKS_ROLE_SIGNING] = {"signing", not_signing},
    [SKS_ROLE_VERIFICATION] = {"verification", not_verifying},
    {NULL, NULL},
};

bool
sks_service_is_ready(struct sks_service *service, enum sks_role role)
{
    json_t *reasons = json_array();
    bool good;

    sks_service_roles[role].not_ready(service, reasons);
    good = reasons != NULL && json_array_size(reasons) == 0;
    json_decref(reasons);
    return good;
}

/* List the active credentials that do not sign, each with the reason. */
static void
add_left_out(struct sks_service *service, size_t provider, json_t *list)
{
    struct sks_signers *latest = sks_signing_latest(service->signing, provider);

    for (size_t i = 0; latest != NULL && i < sks_signers_left_out_count(latest); i++) {
        const struct sks_left_out *one = sks_signers_left_out(latest, i);

        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:I, s:s}", "spc", one->spc, "credential",
                                              (json_int_t)one->id, "why", one->why));
    }
    sks_signers_free(latest);
}

static void
add_list(json_t *answer, const char *name, json_t *list)
{
    if (json_array_size(list) > 0)
        (void)json_object_set(answer, name, list);
    json_decref(list);
}

void
sks_service_detail(void *context, json_t *answer)
{
    struct sks_service *service = context;
    time_t now = sks_service_now(service);
    json_t *not_served = json_array();
    json_t *left_out = json_array();

    for (size_t i = 0; i < sks_signing_provider_count(service->signing); i++) {
        const char *why;
        const char *spc = sks_signing_provider(service->signing, i, now, &why);

        if (why != NULL)
            (void)json_array_append_new(not_served,
                                        json_pack("{s:s, s:s}", "spc", spc, "why", why));
        add_left_out(service, i, left_out);
    }
    add_list(answer, "not_served", not_served);
    add_list(answer, "left_out", left_out);
}
