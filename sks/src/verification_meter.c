/* verification_meter.c - the state of the chain cache and the trusted list as metrics. */
#include <sks/verification_meter.h>

#include <stdlib.h>

static const struct hsm_metric asked = {
    "sti_sks_x5u_total",
    "Certificate chains that were asked for: in the cache, in it and fetched anew, not in it.",
    HSM_COUNTER, "result", NULL};
static const struct hsm_metric fetches = {
    "sti_sks_x5u_fetches_total", "Fetches of certificate chains.", HSM_COUNTER, "outcome", NULL};
static const struct hsm_metric chains = {"sti_sks_x5u_chains",
                                         "Certificate chains in the caches of all processes.",
                                         HSM_GAUGE_SUM, NULL, NULL};
static const struct hsm_metric octets = {"sti_sks_x5u_octets", "Octets of them.", HSM_GAUGE_SUM,
                                         NULL, NULL};
static const struct hsm_metric expires = {
    "sti_sks_trust_expires_seconds",
    "When the trusted-CA list, or the CRL, that is held ends, since 1970.", HSM_GAUGE_MIN,
    "document", NULL};
struct sks_verification_meter {
    struct hsm_metrics *metrics;
    struct sks_x5u_cache *x5u;
    struct sks_trust *trust;
    struct sks_x5u_count last;
    struct hsm_series *hit, *stale_hit, *miss, *good, *failed, *chains, *octets;
};

static struct hsm_series *
series(struct hsm_metrics *metrics, const struct hsm_metric *metric, const char *label)
{
    return hsm_series(metrics, metric, &label);
}

enum hsm_status
sks_verification_meter_new(struct hsm_metrics *metrics, struct sks_x5u_cache *x5u,
                           struct sks_trust *trust, struct sks_verification_meter **out)
{
    struct sks_verification_meter *meter = calloc(1, sizeof(*meter));

    if (meter == NULL)
        return HSM_ERR_NOMEM;
    meter->metrics = metrics;
    meter->x5u = x5u;
    meter->trust = trust;
    meter->hit = series(metrics, &asked, "hit");
    meter->stale_hit = series(metrics, &asked, "stale_hit");
    meter->miss = series(metrics, &asked, "miss");
    meter->good = series(metrics, &fetches, "good");
    meter->failed = series(metrics, &fetches, "failed");
    meter->chains = series(metrics, &chains, NULL);
    meter->octets = series(metrics, &octets, NULL);
    sks_verification_meter_read(meter);
    *out = meter;
    return HSM_OK;
}

/* A document that is not held, or does not expire, has no value. */
static void
tell_end(struct sks_verification_meter *meter, const char *document, time_t end)
{
    struct hsm_series *told = series(meter->metrics, &expires, document);

    if (end != 0)
        hsm_series_set(told, (double)end);
    else
        hsm_series_unset(told);
}

static void
read_trust(struct sks_verification_meter *meter)
{
    time_t list, crl;

    sks_trust_ends(meter->trust, &list, &crl);
    tell_end(meter, "ca_list", list);
    tell_end(meter, "crl", crl);
}

void
sks_verification_meter_read(struct sks_verification_meter *meter)
{
    const struct sks_x5u_count *last = &meter->last;
    struct sks_x5u_count now;
    uint64_t failed;

    if (meter->metrics == NULL)
        return;
    sks_x5u_count(meter->x5u, &now);
    failed = now.failed - last->failed;
    hsm_series_add(meter->hit, (now.found - now.stale) - (last->found - last->stale));
    hsm_series_add(meter->stale_hit, now.stale - last->stale);
    hsm_series_add(meter->miss, now.not_found - last->not_found);
    hsm_series_add(meter->good, now.fetched - last->fetched - failed);
    hsm_series_add(meter->failed, failed);
    hsm_series_set(meter->chains, (double)now.kept);
    hsm_series_set(meter->octets, (double)now.octets);
    meter->last = now;
    read_trust(meter);
}

void
sks_verification_meter_free(struct sks_verification_meter *meter)
{
    free(meter);
}
