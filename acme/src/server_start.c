/* server_start.c - record the settings of a starting STI-CA as events. */
#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include <acme/events.h>
#include <certs/cert.h>

/* Separated by blanks; NULL: out of memory. */
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

enum hsm_status
acme_server_tell_start(struct acme_server *server)
{
    const struct acme_server_config *config = &server->config;
    DEFER(free)
    char *issuer = certs_cert_serial_hex(certs_chain_get(config->issuing_chain, 0));
    DEFER(free) char *authorities = join(config->authorities);
    char days[16];
    const struct acme_event_setting settings[] = {
        {"base-url", config->base_url},
        {"issuing certificate", issuer},
        {"authorities", authorities},
        {"policy", config->policy_oid},
        {"valid-days", days},
        {"within-token", config->within_token ? "yes" : "no"},
        {"terms-of-service", config->terms_of_service},
        {"participants-required", config->participants_required ? "yes" : "no"},
        {"external-account-required", config->external_account_required ? "yes" : "no"},
        {"account-key-in-csr", config->account_key_in_csr ? "yes" : "no"},
    };

    if (issuer == NULL || authorities == NULL)
        return HSM_ERR_NOMEM;
    snprintf(days, sizeof(days), "%u", config->valid_days);
    return acme_events_tell_start(config->store, acme_server_now(server), settings,
                                  sizeof(settings) / sizeof(settings[0]));
}
