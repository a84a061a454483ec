/* service_meter.c - what the signing and verification API counts. */
#include "service_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include <hsm/defer.h>
#include <hsm/metrics.h>

#include "sign_internal.h"

#define KEY_TOLD_S 600 /* a key that signs no more: Prometheus has asked by then */

DEFINE_DEFER(struct sks_signers, sks_signers_free)

static const struct hsm_metric signing_seconds = {
    "sti_sks_signing_seconds", "Signing requests by outcome, and how long each took.",
    HSM_HISTOGRAM, "outcome", hsm_metric_seconds};
static const struct hsm_metric signatures = {"sti_sks_signatures_total",
                                             "Signatures that were asked of a key.",
                                             HSM_COUNTER_PASSING, "spc key outcome", NULL};
static const struct hsm_metric verification_seconds = {
    "sti_sks_verification_seconds", "Verification requests by outcome, and how long each took.",
    HSM_HISTOGRAM, "outcome", hsm_metric_seconds};
static const struct hsm_metric verifications = {
    "sti_sks_verifications_total", "Verdicts by case (ATIS-1000082).", HSM_COUNTER, "case", NULL};
static const struct hsm_metric verstats = {"sti_sks_verstat_total", "Verdicts by verstat.",
                                           HSM_COUNTER, "verstat", NULL};
static const struct hsm_metric not_after = {
    "sti_sks_credential_not_after_seconds",
    "When the certificate of a signing credential ends, since 1970.", HSM_GAUGE_MIN_PASSING,
    "credential spc key", NULL};
static const struct hsm_metric ready = {
    "sti_sks_ready", "1 when calls could be signed and verified now.", HSM_GAUGE_MIN, NULL, NULL};

static const struct hsm_metric provider_ready = {
    "sti_sks_provider_ready", "1 when a service provider has a credential that signs now.",
    HSM_GAUGE_MIN, "spc", NULL};

static const char *const outcome_texts[SKS_OUTCOMES] = {"good", "refused", "unavailable", "failed"};

static struct hsm_series *
verdict_series(struct hsm_metrics *metrics, enum sks_case verdict)
{
    char text[16] = "valid";
    const char *label = text;

    if (verdict != SKS_VALID)
        snprintf(text, sizeof(text), "E%d", (int)verdict);
    return hsm_series(metrics, &verifications, &label);
}

void
sks_meter_open(struct hsm_metrics *metrics, struct sks_meter *out)
{
    for (size_t i = 0; i < SKS_OUTCOMES; i++) {
        out->signing[i] = hsm_series(metrics, &signing_seconds, &outcome_texts[i]);
        out->verification[i] = hsm_series(metrics, &verification_seconds, &outcome_texts[i]);
    }
    out->verdicts[SKS_VALID] = verdict_series(metrics, SKS_VALID);
    for (int i = SKS_E3_TIME_STALE; i <= SKS_E19_ATTEST; i++)
        out->verdicts[i] = verdict_series(metrics, (enum sks_case)i);
    out->ready = hsm_series(metrics, &ready, NULL);
}

static double
seconds_since(int64_t begun)
{
    return (double)(hsm_metric_clock_ns() - begun) / 1e9;
}

void
sks_meter_signing(struct sks_service *service, enum sks_outcome outcome, int64_t begun)
{
    hsm_series_observe(service->meter.signing[outcome], seconds_since(begun));
}

static struct hsm_series *
signature_series(const struct sks_service *service, const struct sks_signer *signer, bool good)
{
    const char *const labels[] = {sks_signer_spc(signer), sks_signer_key_label(signer),
                                  outcome_texts[good ? SKS_OUTCOME_GOOD : SKS_OUTCOME_FAILED]};

    return hsm_series(service->config.metrics, &signatures, labels);
}

/* What nearly every call counts is looked up once. */
void
sks_meter_signature(void *service, const struct sks_signer *signer, bool good)
{
    struct hsm_series *series = good ? sks_signer_series(signer) : NULL;

    if (series == NULL) {
        series = signature_series(service, signer, good);
        if (good)
            sks_signer_count_in(signer, series);
    }
    hsm_series_add(series, 1);
}

void
sks_meter_verification(struct sks_service *service, enum sks_outcome outcome, int64_t begun)
{
    hsm_series_observe(service->meter.verification[outcome], seconds_since(begun));
}

void
sks_meter_verdict(struct sks_service *service, const struct sks_verification *verification)
{
    hsm_series_add(service->meter.verdicts[verification->verdict], 1);
    hsm_series_add(hsm_series(service->config.metrics, &verstats, &verification->verstat), 1);
}

static struct hsm_series *
credential_series(struct sks_service *service, const struct sks_signers *signers, size_t i)
{
    int64_t id;
    const struct sks_signer *signer = sks_signers_get(signers, i, &id);
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, id);
    return hsm_series(
        service->config.metrics, &not_after,
        (const char *const[]){text, sks_signer_spc(signer), sks_signer_key_label(signer)});
}

static bool
is_ready(struct sks_service *service)
{
    json_t *reasons = json_array();
    bool good;

    sks_service_not_ready(service, reasons);
    good = reasons != NULL && json_array_size(reasons) == 0;
    json_decref(reasons);
    return good;
}

static void
set_not_after(struct sks_service *service, size_t provider)
{
    DEFER(sks_signers_free)
    struct sks_signers *signers = sks_signing_signers(service->signing, provider);

    for (size_t i = 0; signers != NULL && i < sks_signers_count(signers); i++) {
        int64_t id;
        const struct sks_signer *signer = sks_signers_get(signers, i, &id);

        hsm_series_set(credential_series(service, signers, i),
                       (double)sks_signer_not_after(signer));
        (void)signature_series(service, signer, true); /* it is kept in the signer */
    }
}

static void
set_provider_ready(struct sks_service *service, size_t provider)
{
    const char *why;
    const char *spc =
        sks_signing_provider(service->signing, provider, sks_service_now(service), &why);

    hsm_series_set(hsm_series(service->config.metrics, &provider_ready, &spc), why == NULL ? 1 : 0);
}

void
sks_meter_state(struct sks_service *service)
{
    if (service->config.metrics == NULL)
        return;
    for (size_t i = 0; i < sks_signing_provider_count(service->signing); i++) {
        set_not_after(service, i);
        set_provider_ready(service, i);
    }
    hsm_series_set(service->meter.ready, is_ready(service) ? 1 : 0);
    hsm_metrics_forget(service->config.metrics, KEY_TOLD_S);
}

void
sks_meter_forget(void *context, const struct sks_signers *signers)
{
    struct sks_service *service = context;

    for (size_t i = 0; signers != NULL && i < sks_signers_count(signers); i++)
        hsm_series_unset(credential_series(service, signers, i));
}
