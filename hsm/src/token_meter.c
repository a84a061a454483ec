/* token_meter.c - turn hsm_token_stats(), which counts since the token was opened, into counters
 * that outlive the process. */
#include <hsm/token_meter.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/uri.h>

#define NS 1e9

static const struct hsm_metric ready = {"sti_token_ready",
                                        "1 when the token serves all processes that have it open.",
                                        HSM_GAUGE_MIN, "token", NULL};
static const struct hsm_metric sessions = {"sti_token_sessions",
                                           "Sessions of the token, and calls that wait for one.",
                                           HSM_GAUGE_SUM, "token state", NULL};
static const struct hsm_metric signatures = {
    "sti_token_signatures_total", "Signatures that the token gave.", HSM_COUNTER, "token", NULL};
static const struct hsm_metric events = {"sti_token_events_total",
                                         "What happened to the token and to calls in it.",
                                         HSM_COUNTER, "token event", NULL};
static const struct hsm_metric waits = {"sti_token_session_waits_total",
                                        "Calls that found no idle session.", HSM_COUNTER, "token",
                                        NULL};
static const struct hsm_metric waited = {"sti_token_session_wait_seconds_total",
                                         "Time that calls waited for a session.", HSM_COUNTER_NS,
                                         "token", NULL};

#define COUNT(member)                                                                              \
    {                                                                                              \
#member, offsetof(struct hsm_token_stats, member)                                          \
    }
static const struct {
    const char *event;
    size_t offset;
} counted[] = {
    COUNT(failures), COUNT(timeouts),         COUNT(retries),          COUNT(throttled),
    COUNT(verified), COUNT(wrong_signatures), COUNT(sessions_dropped), COUNT(losses),
    COUNT(attempts), COUNT(recoveries),       COUNT(restarts),         COUNT(logins),
    COUNT(stuck),
};
#define EVENTS (sizeof(counted) / sizeof(counted[0]))

struct hsm_token_meter {
    const struct hsm_token *token; /* borrowed */
    struct hsm_token_stats last;
    struct hsm_series *ready, *usable, *in_flight, *waiting, *signatures, *waits, *waited;
    struct hsm_series *events[EVENTS];
};

static struct hsm_series *
series(struct hsm_metrics *metrics, const struct hsm_metric *metric, const char *token,
       const char *second)
{
    return hsm_series(metrics, metric, (const char *const[]){token, second});
}

enum hsm_status
hsm_token_meter_new(struct hsm_metrics *metrics, const struct hsm_token *token,
                    struct hsm_token_meter **out)
{
    struct hsm_token_meter *meter = calloc(1, sizeof(*meter));
    struct hsm_token_info info;

    if (meter == NULL)
        return HSM_ERR_NOMEM;
    hsm_token_info(token, &info);
    meter->token = token;
    meter->ready = series(metrics, &ready, info.label, NULL);
    meter->usable = series(metrics, &sessions, info.label, "usable");
    meter->in_flight = series(metrics, &sessions, info.label, "in_flight");
    meter->waiting = series(metrics, &sessions, info.label, "waiting");
    meter->signatures = series(metrics, &signatures, info.label, NULL);
    meter->waits = series(metrics, &waits, info.label, NULL);
    meter->waited = series(metrics, &waited, info.label, NULL);
    for (size_t i = 0; i < EVENTS; i++)
        meter->events[i] = series(metrics, &events, info.label, counted[i].event);
    hsm_token_meter_read(meter);
    *out = meter;
    return HSM_OK;
}

void
hsm_token_meter_absent(struct hsm_metrics *metrics, const char *uri)
{
    DEFER(hsm_uri_free) struct hsm_uri *parsed = NULL;
    const char *label = NULL;

    if (hsm_uri_parse(uri, &parsed, NULL) == HSM_OK)
        label = hsm_uri_get(parsed, "token");
    hsm_series_set(series(metrics, &ready, label != NULL ? label : uri, NULL), 0);
}

static uint64_t
count_at(const struct hsm_token_stats *stats, size_t i)
{
    uint64_t count;

    memcpy(&count, (const char *)stats + counted[i].offset, sizeof(count));
    return count;
}

void
hsm_token_meter_read(struct hsm_token_meter *meter)
{
    const struct hsm_token_stats *last = &meter->last;
    struct hsm_token_stats now;

    hsm_token_stats(meter->token, &now);
    hsm_series_set(meter->ready, now.service == HSM_OK ? 1 : 0);
    hsm_series_set(meter->usable, now.sessions_usable);
    hsm_series_set(meter->in_flight, now.in_flight);
    hsm_series_set(meter->waiting, now.waiting);
    hsm_series_add(meter->signatures, now.signatures - last->signatures);
    hsm_series_add(meter->waits, now.waits - last->waits);
    hsm_series_add(meter->waited, now.waited_ns - last->waited_ns);
    for (size_t i = 0; i < EVENTS; i++)
        hsm_series_add(meter->events[i], count_at(&now, i) - count_at(last, i));
    meter->last = now;
}

void
hsm_token_meter_free(struct hsm_token_meter *meter)
{
    if (meter == NULL)
        return;
    hsm_token_meter_read(meter); /* adds what was counted since the last reading */
    hsm_series_unset(meter->ready);
    hsm_series_unset(meter->usable);
    hsm_series_unset(meter->in_flight);
    hsm_series_unset(meter->waiting);
    free(meter);
}
