/* kms_meter.c - metrics of the SP-KMS. */
#include "kms_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/metrics.h>

#define FORGET_LOOKS 4 /* a series not used in this many looks is removed */

static const struct hsm_metric enrollments = {
    "sti_kms_enrollments_total", "Certificates that were asked for, and what came of it.",
    HSM_COUNTER, "spc outcome", NULL};
static const struct hsm_metric troubles = {
    "sti_kms_troubles", "Matters of a service provider (\"\": of all) that stand badly.",
    HSM_GAUGE_MIN_PASSING, "spc", NULL};
static const struct hsm_metric active = {"sti_kms_active_credentials",
                                         "Credentials of a service provider that are to sign.",
                                         HSM_GAUGE_MIN_PASSING, "spc", NULL};
static const struct hsm_metric credential_ends = {
    "sti_kms_credential_not_after_seconds",
    "When the certificate of an active credential ends, since 1970.", HSM_GAUGE_MIN_PASSING,
    "credential spc token", NULL};
static const struct hsm_metric credential_due = {
    "sti_kms_credential_due_seconds", "When an active credential is to be renewed, since 1970.",
    HSM_GAUGE_MIN_PASSING, "credential spc token", NULL};
static const struct hsm_metric ends = {
    "sti_kms_not_after_seconds",
    "When what signing and verifying hang on ends, certificates of credentials apart, since 1970.",
    HSM_GAUGE_MIN_PASSING, "what", NULL};
static const struct hsm_metric refreshed = {
    "sti_kms_trust_refreshed_seconds",
    "When the trusted-CA list and the CRL were last found to be current, since 1970.",
    HSM_GAUGE_MIN, NULL, NULL};
static const struct hsm_metric looked = {"sti_kms_looked_seconds",
                                         "When a service provider was last looked at, since 1970.",
                                         HSM_GAUGE_MIN_PASSING, "spc", NULL};

static struct hsm_metrics *
metrics_of(const struct sks_kms *kms)
{
    return kms->config->common.shared.metrics;
}

static void
set(const struct sks_kms *kms, const struct hsm_metric *metric, const char *label, double value)
{
    hsm_series_set(hsm_series(metrics_of(kms), metric, &label), value);
}

static struct hsm_series *
enrollment_series(const struct sks_kms *kms, const char *spc, bool good)
{
    return hsm_series(metrics_of(kms), &enrollments,
                      (const char *const[]){spc, good ? "good" : "failed"});
}

void
sks_kms_meter_enrollment(const struct kms_provider *provider, bool good)
{
    hsm_series_add(enrollment_series(provider->kms, provider->config->spc, good), 1);
}

void
sks_kms_meter_look(const struct kms_provider *provider, time_t now)
{
    set(provider->kms, &looked, provider->config->spc, (double)now);
}

void
sks_kms_meter_refresh(const struct sks_kms *kms, time_t now)
{
    hsm_series_set(hsm_series(metrics_of(kms), &refreshed, NULL), (double)now);
}

/* ---- state ---- */

static void
meter_credential(struct sks_kms *kms, const struct sks_credential *credential)
{
    struct sks_renewal renewal;
    char id[24];
    const char *const labels[] = {id, credential->spc, credential->token_uri};

    snprintf(id, sizeof(id), "%" PRId64, credential->id);
    hsm_series_set(hsm_series(metrics_of(kms), &credential_ends, labels),
                   (double)credential->not_after);
    if (sks_catalogue_renewal(kms->catalogue, credential->id, &renewal) == HSM_OK)
        hsm_series_set(hsm_series(metrics_of(kms), &credential_due, labels), (double)renewal.due);
}

static void
meter_provider(struct sks_kms *kms, const char *spc, const struct sks_trouble *list, size_t count)
{
    struct sks_credential *credentials = NULL;
    size_t credential_count = 0;
    size_t standing_badly = 0;

    for (size_t i = 0; i < count; i++)
        standing_badly += strcmp(list[i].spc, spc) == 0;
    set(kms, &troubles, spc, (double)standing_badly);
    if (*spc == '\0' || sks_catalogue_list_in(kms->catalogue, spc, SKS_ACTIVE, SKS_ACTIVE,
                                              &credentials, &credential_count) != HSM_OK)
        return;
    set(kms, &active, spc, (double)credential_count);
    (void)hsm_series(metrics_of(kms), &looked, &spc); /* configured, so not dropped */
    (void)enrollment_series(kms, spc, true); /* reported as 0 before the first */
    (void)enrollment_series(kms, spc, false);
    for (size_t i = 0; i < credential_count; i++)
        meter_credential(kms, &credentials[i]);
    sks_credentials_free(credentials, credential_count);
}

static void
meter_watched(struct sks_kms *kms, time_t now)
{
    struct sks_watched *things = NULL;
    size_t count = 0;

    if (sks_kms_watched(kms->config, kms->catalogue, kms->verification.trust, now, &things,
                        &count) != HSM_OK)
        return;
    for (size_t i = 0; i < count; i++)
        if (!things[i].is_credential)
            set(kms, &ends, things[i].what, (double)things[i].ends);
    free(things);
}

void
sks_kms_meter(struct sks_kms *kms, time_t now)
{
    struct sks_trouble *list = NULL;
    size_t count = 0;

    if (metrics_of(kms) == NULL || sks_catalogue_troubles(kms->catalogue, &list, &count) != HSM_OK)
        return;
    meter_provider(kms, "", list, count);
    for (size_t i = 0; i < kms->config->provider_count; i++)
        meter_provider(kms, kms->config->providers[i].spc, list, count);
    sks_troubles_free(list, count);
    meter_watched(kms, now);
    hsm_metrics_forget(metrics_of(kms), FORGET_LOOKS * (unsigned)kms->config->look_every_s);
}
