/* authority_observe.c - metrics of the STI-PA: its documents, and when they expire. */
#include "authority_internal.h"

#include <hsm/defer.h>
#include <hsm/metrics.h>

static const struct hsm_metric issued = {
    "sti_pa_document_issued_seconds",
    "When the trusted-CA list, or the CRL, was signed: its end less its life, since 1970.",
    HSM_GAUGE_MAX, "document", NULL};
static const struct hsm_metric expires = {
    "sti_pa_document_expires_seconds",
    "When the trusted-CA list, or the CRL, that is published ends, since 1970.", HSM_GAUGE_MAX,
    "document", NULL};
static const struct hsm_metric number = {"sti_pa_document_number",
                                         "Sequence of the trusted-CA list, or number of the CRL.",
                                         HSM_GAUGE_MAX, "document", NULL};
static const struct hsm_metric not_after = {
    "sti_pa_signer_not_after_seconds",
    "When the certificate of a signer or its issuer ends, since 1970.", HSM_GAUGE_MIN, "document",
    NULL};

static const struct hsm_metric entries = {
    "sti_pa_crl_entries", "Entries of the CRL as it is decided.", HSM_GAUGE_MAX, NULL, NULL};
static const struct hsm_metric entries_max = {
    "sti_pa_crl_entries_max", "Entries that a CRL can have.", HSM_GAUGE_MAX, NULL, NULL};
static const struct hsm_metric queued = {"sti_pa_revocations_queued",
                                         "Requests to revoke that wait for an operator.",
                                         HSM_GAUGE_MAX, NULL, NULL};

static const struct hsm_metric policy_stale = {
    "sti_pa_policy_stale", "1: the governance authority's policy in force is not the file's.",
    HSM_GAUGE_MAX, NULL, NULL};

static const char *const names[AUTHORITY_DOCUMENTS] = {
    [AUTHORITY_CA_LIST] = "ca_list",
    [AUTHORITY_CRL] = "crl",
};

/* Read the latest document; false: there is none, or the store does not respond. */
static bool
read_latest(struct acme_authority *authority, enum authority_document kind, int64_t *sequence,
            time_t *until)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        authority->config.store, &rows,
        "SELECT number, expires FROM document WHERE kind = ? ORDER BY number DESC LIMIT 1", "i",
        (int64_t)kind);

    if (st != HSM_OK || !acme_rows_next(rows))
        return false;
    *sequence = acme_rows_int(rows, 0);
    *until = (time_t)acme_rows_int(rows, 1);
    return true;
}

static unsigned
lifetime_of(const struct acme_authority *authority, enum authority_document kind)
{
    return kind == AUTHORITY_CRL ? authority->config.crl_lifetime_s
                                 : authority->config.list_lifetime_s;
}

static void
observe(struct acme_authority *authority, enum authority_document kind)
{
    struct hsm_metrics *metrics = authority->config.metrics;
    const struct certs_chain *chain =
        kind == AUTHORITY_CRL ? authority->config.crl_chain : authority->config.signer_chain;
    time_t until;
    int64_t sequence;

    hsm_series_set(hsm_series(metrics, &not_after, &names[kind]),
                   (double)certs_chain_not_after(chain));
    if (!read_latest(authority, kind, &sequence, &until))
        return;
    hsm_series_set(hsm_series(metrics, &number, &names[kind]), (double)sequence);
    hsm_series_set(hsm_series(metrics, &expires, &names[kind]), (double)until);
    hsm_series_set(hsm_series(metrics, &issued, &names[kind]),
                   (double)(until - (time_t)lifetime_of(authority, kind)));
}

/* A gauge whose count cannot be read keeps its value. */
static void
observe_count(struct acme_authority *authority, const struct hsm_metric *metric,
              enum hsm_status (*read)(struct acme_store *store, int64_t *out))
{
    int64_t count;

    if (read(authority->config.store, &count) == HSM_OK)
        hsm_series_set(hsm_series(authority->config.metrics, metric, NULL), (double)count);
}

void
acme_authority_observe(struct acme_authority *authority)
{
    struct hsm_metrics *metrics = authority->config.metrics;

    if (metrics == NULL)
        return;
    for (int i = 0; i < AUTHORITY_DOCUMENTS; i++)
        observe(authority, (enum authority_document)i);
    observe_count(authority, &entries, acme_authority_entries_count);
    observe_count(authority, &queued, acme_authority_requests_queued);
    hsm_series_set(hsm_series(metrics, &entries_max, NULL), ACME_AUTHORITY_REVOCATIONS_MAX);
    hsm_series_set(hsm_series(metrics, &policy_stale, NULL),
                   acme_authority_policy_is_stale(authority->policy, authority->config.store) ? 1
                                                                                              : 0);
}

/* Whether the latest document is served: it has not expired, and its number is above those
 * published before the store was restored. */
static bool
is_served(struct acme_authority *authority, enum authority_document kind)
{
    int64_t sequence;
    uint64_t floor;
    time_t until;

    return read_latest(authority, kind, &sequence, &until) &&
           until > acme_authority_now(authority) &&
           acme_authority_document_floor(authority->config.store, kind, &floor) == HSM_OK &&
           (uint64_t)sequence > floor;
}

void
acme_authority_not_ready(struct acme_authority *authority, json_t *reasons)
{
    static const char *const ended[AUTHORITY_DOCUMENTS] = {
        [AUTHORITY_CA_LIST] = "no trusted-CA list that lasts",
        [AUTHORITY_CRL] = "no CRL that lasts",
    };

    for (int i = 0; i < AUTHORITY_DOCUMENTS; i++) {
        if (!is_served(authority, (enum authority_document)i))
            (void)json_array_append_new(reasons, json_string(ended[i]));
    }
}
