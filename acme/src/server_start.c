/* server_start.c - what an STI-CA started with, as events: whoever asks later what was in force. */
#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/events.h>
#include <certs/cert.h>

#define CONFIGURED "configured"

DEFINE_DEFER(char, free)

/* The value of the last start; within a transaction. */
static enum hsm_status
is_same(struct acme_store *store, const char *name, const char *value, bool *same)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows,
                                          "SELECT detail FROM event WHERE what = '" CONFIGURED
                                          "' AND subject = ? ORDER BY id DESC LIMIT 1",
                                          "s", name);

    if (st == HSM_OK)
        *same = acme_rows_next(rows) && strcmp(acme_rows_text(rows, 0), value) == 0;
    return st;
}

static enum hsm_status
tell(const struct acme_server *server, const char *name, const char *value)
{
    bool same = false;
    enum hsm_status st = is_same(server->config.store, name, value, &same);

    if (st != HSM_OK || same)
        return st;
    return acme_event_add(server->config.store, &(struct acme_event){.at = acme_server_now(server),
                                                                     .what = CONFIGURED,
                                                                     .subject = name,
                                                                     .detail = value});
}

/* With a blank between two; NULL: out of memory. */
static char *
join(const char *const *texts)
{
    char *joined = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&joined, &len);

    if (to == NULL)
        return NULL;
    for (size_t i = 0; texts[i] != NULL; i++)
        fprintf(to, "%s%s", i > 0 ? " " : "", texts[i]);
    if (fclose(to) == 0)
        return joined;
    free(joined);
    return NULL;
}

/* Within a transaction. */
static enum hsm_status
tell_all(const struct acme_server *server)
{
    const struct acme_server_config *config = &server->config;
    DEFER(free)
    char *issuer = certs_cert_serial_hex(certs_chain_get(config->issuing_chain, 0));
    DEFER(free) char *authorities = join(config->authorities);
    char days[16];
    const struct {
        const char *name, *value;
    } values[] = {
        {"base-url", config->base_url},
        {"issuing certificate", issuer},
        {"authorities", authorities},
        {"policy", config->policy_oid},
        {"valid-days", days},
        {"terms-of-service", config->terms_of_service},
        {"participants-required", config->participants_required ? "yes" : "no"},
        {"external-account-required", config->external_account_required ? "yes" : "no"},
        {"account-key-in-csr", config->account_key_in_csr ? "yes" : "no"},
    };
    enum hsm_status st = issuer != NULL && authorities != NULL ? HSM_OK : HSM_ERR_NOMEM;

    snprintf(days, sizeof(days), "%u", config->valid_days);
    for (size_t i = 0; st == HSM_OK && i < sizeof(values) / sizeof(values[0]); i++)
        st = tell(server, values[i].name, values[i].value != NULL ? values[i].value : "none");
    return st;
}

enum hsm_status
acme_server_tell_start(struct acme_server *server)
{
    struct acme_store *store = server->config.store;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = tell_all(server);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}
