/* authority_start.c - record the settings of a starting STI-PA as events. */
#include "authority_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include <acme/events.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#define NUMBER_SIZE 16

enum hsm_status
acme_authority_tell_start(struct acme_authority *authority)
{
    const struct acme_authority_config *config = &authority->config;
    DEFER(free) char *signer = certs_cert_serial_hex(certs_chain_get(config->signer_chain, 0));
    DEFER(free) char *crl_signer = certs_cert_serial_hex(certs_chain_get(config->crl_chain, 0));
    char token_s[NUMBER_SIZE], session_s[NUMBER_SIZE], list_s[NUMBER_SIZE], crl_s[NUMBER_SIZE];
    char tokens[NUMBER_SIZE], hourly[NUMBER_SIZE], quota[NUMBER_SIZE];
    const struct acme_event_setting settings[] = {
        {"base-url", config->base_url},
        {"signer certificate", signer},
        {"CRL signer certificate", crl_signer},
        {"token-lifetime-s", token_s},
        {"session-lifetime-s", session_s},
        {"list-lifetime-s", list_s},
        {"crl-lifetime-s", crl_s},
        {"tokens-per-hour", tokens},
        {"revocations-per-hour", hourly},
        {"revocations-per-account", quota},
        {"revocation-automatic", config->revocation_automatic != NULL ? config->revocation_automatic
                                                                      : ACME_AUTHORITY_AUTOMATIC},
        {"policy", config->policy},
    };

    if (signer == NULL || crl_signer == NULL)
        return HSM_ERR_NOMEM;
    snprintf(token_s, sizeof(token_s), "%u", config->token_lifetime_s);
    snprintf(session_s, sizeof(session_s), "%u", config->session_lifetime_s);
    snprintf(list_s, sizeof(list_s), "%u", config->list_lifetime_s);
    snprintf(crl_s, sizeof(crl_s), "%u", config->crl_lifetime_s);
    snprintf(tokens, sizeof(tokens), "%u", config->tokens_per_hour);
    snprintf(hourly, sizeof(hourly), "%u", config->revocations_per_hour);
    snprintf(quota, sizeof(quota), "%u", config->revocations_per_account);
    return acme_events_tell_start(config->store, acme_authority_now(authority), settings,
                                  sizeof(settings) / sizeof(settings[0]));
}
