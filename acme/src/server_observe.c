/* server_observe.c - readiness and metrics of the STI-CA. */
#include "server_internal.h"

#include <hsm/metrics.h>

static const struct hsm_metric issuances = {
    "sti_ca_issuances_total", "Orders whose certificate was issued, put off, or given up.",
    HSM_COUNTER, "outcome", NULL};
static const struct hsm_metric not_after = {
    "sti_ca_certificate_not_after_seconds",
    "When the issuing certificate or one of its issuers ends, since 1970.", HSM_GAUGE_MIN, NULL,
    NULL};
static const struct hsm_metric processing = {"sti_ca_orders_processing",
                                             "Orders that wait for their certificate.",
                                             HSM_GAUGE_MAX, NULL, NULL};
static const struct hsm_metric unforwarded = {"sti_ca_revocations_waiting",
                                              "Revocations that the STI-PA does not know of yet.",
                                              HSM_GAUGE_MAX, NULL, NULL};

static const char *const outcomes[] = {
    [ACME_ISSUED] = "issued",
    [ACME_PUT_OFF] = "put_off",
    [ACME_GIVEN_UP] = "given_up",
};

void
acme_server_count_issuance(struct acme_server *server, enum acme_issuance_outcome outcome)
{
    hsm_series_add(hsm_series(server->config.metrics, &issuances, &outcomes[outcome]), 1);
}

static void
count_rows(struct acme_server *server, const struct hsm_metric *metric, const char *sql)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct hsm_series *series = hsm_series(server->config.metrics, metric, NULL);

    if (acme_store_query(server->config.store, &rows, sql, "") == HSM_OK && acme_rows_next(rows))
        hsm_series_set(series, (double)acme_rows_int(rows, 0));
    else
        hsm_series_unset(series);
}

void
acme_server_observe(struct acme_server *server)
{
    struct hsm_metrics *metrics = server->config.metrics;

    if (metrics == NULL)
        return;
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
        (void)hsm_series(metrics, &issuances, &outcomes[i]); /* exported from the start, with 0 */
    hsm_series_set(hsm_series(metrics, &not_after, NULL),
                   (double)certs_chain_not_after(server->config.issuing_chain));
    count_rows(server, &processing,
               "SELECT count(*) FROM acme_order WHERE status = '" ACME_PROCESSING "'");
    count_rows(server, &unforwarded, "SELECT count(*) FROM revocation WHERE accepted IS NULL");
}

void
acme_server_not_ready(struct acme_server *server, json_t *reasons)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;

    if (certs_chain_not_after(server->config.issuing_chain) <= acme_server_now(server))
        (void)json_array_append_new(reasons, json_string("the issuing certificate has ended"));
    if (acme_store_query(server->config.store, &rows, "SELECT 1", "") != HSM_OK)
        (void)json_array_append_new(reasons, json_string("the store does not answer"));
}
