/* service_meter.c - metrics of the signing and verification API. */
#include "service_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/metrics.h>

#include "sign_internal.h"

#define KEY_TOLD_S 600 /* how long the series of an unused key is kept, to be scraped */

static const struct hsm_metric signing_seconds = {
    "sti_sks_signing_seconds", "Signing requests by outcome, and how long each took.",
    HSM_HISTOGRAM, "outcome", hsm_metric_seconds};
static const struct hsm_metric signatures = {"sti_sks_signatures_total",
                                             "Signatures that were asked of a key.",
                                             HSM_COUNTER_PASSING, "spc key token outcome", NULL};
static const struct hsm_metric signature_seconds = {
    "sti_sks_signature_seconds",
    "How long a token took to sign a PASSporT, the wait for a session and other tokens included.",
    HSM_HISTOGRAM, "token outcome", hsm_metric_seconds};
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
static const struct hsm_metric ready = {"sti_sks_ready",
                                        "1 when calls could be signed, or verified, now.",
                                        HSM_GAUGE_MIN, "role", NULL};
static const struct hsm_metric loaded = {
    "sti_sks_credential_loaded", "1 when an active credential signs, 0 when it is left out.",
    HSM_GAUGE_MIN_PASSING, "credential spc", NULL};

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
    for (size_t i = 0; i < SKS_ROLES; i++)
        out->ready[i] = hsm_series(metrics, &ready, &sks_service_roles[i].name);
}

static double
seconds_since(int64_t begun)
{
    return (double)(hsm_clock_ns() - begun) / 1e9;
}

void
sks_meter_signing(struct sks_service *service, enum sks_outcome outcome, int64_t begun)
{
    hsm_series_observe(service->meter.signing[outcome], seconds_since(begun));
}

static struct sks_signer_series
signature_series(const struct sks_service *service, const struct sks_signer *signer, bool good)
{
    const char *token = sks_signer_token_label(signer);
    const char *outcome = outcome_texts[good ? SKS_OUTCOME_GOOD : SKS_OUTCOME_FAILED];
    const char *const labels[] = {sks_signer_spc(signer), sks_signer_key_label(signer), token,
                                  outcome};
    const char *const of_token[] = {token, outcome};

    return (struct sks_signer_series){
        hsm_series(service->config.metrics, &signatures, labels),
        hsm_series(service->config.metrics, &signature_seconds, of_token),
    };
}

/* The series of good signatures, which nearly every call counts, are looked up once. */
void
sks_meter_signature(void *service, const struct sks_signer *signer, bool good, int64_t took_ns)
{
    struct sks_signer_series series = {NULL, NULL};

    if (good)
        series = sks_signer_series(signer);
    if (series.count == NULL || series.seconds == NULL) {
        series = signature_series(service, signer, good);
        if (good)
            sks_signer_count_in(signer, series);
    }
    hsm_series_add(series.count, 1);
    hsm_series_observe(series.seconds, (double)took_ns / 1e9);
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
loaded_series(const struct sks_service *service, int64_t id, const char *spc)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, id);
    return hsm_series(service->config.metrics, &loaded, (const char *const[]){text, spc});
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
        hsm_series_set(loaded_series(service, id, sks_signer_spc(signer)), 1);
        (void)signature_series(service, signer, true); /* in use, although not looked up */
    }
}

/* The series of credentials that are no longer active are not looked up again, so they are dropped.
 */
static void
set_left_out(struct sks_service *service, size_t provider)
{
    DEFER(sks_signers_free)
    struct sks_signers *latest = sks_signing_latest(service->signing, provider);

    for (size_t i = 0; latest != NULL && i < sks_signers_left_out_count(latest); i++) {
        const struct sks_left_out *one = sks_signers_left_out(latest, i);

        hsm_series_set(loaded_series(service, one->id, one->spc), 0);
    }
}

static void
set_provider_ready(struct sks_service *service, size_t provider)
{
    const char *why;
    const char *spc =
        sks_signing_provider(service->signing, provider, sks_service_now(service), &why);

    hsm_series_set(hsm_series(service->config.metrics, &provider_ready, &spc), why == NULL ? 1 : 0);
    set_left_out(service, provider);
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
    for (int role = 0; role < SKS_ROLES; role++)
        hsm_series_set(service->meter.ready[role],
                       sks_service_is_ready(service, (enum sks_role)role) ? 1 : 0);
    hsm_metrics_forget(service->config.metrics, KEY_TOLD_S);
}

void
sks_meter_forget(void *context, const struct sks_signers *signers)
{
    struct sks_service *service = context;

    for (size_t i = 0; signers != NULL && i < sks_signers_count(signers); i++) {
        int64_t id;
        const struct sks_signer *signer = sks_signers_get(signers, i, &id);

        hsm_series_unset(credential_series(service, signers, i));
        hsm_series_unset(loaded_series(service, id, sks_signer_spc(signer)));
    }
}
