/* client.c - an ACME client: the CA's directory (RFC 8555 section 7.1.1). */
#include "client_internal.h"

#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

static enum hsm_status
read_directory(struct acme_client *client, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = acme_client_get(client, client->config.directory_url, &answer, why);

    if (st == HSM_OK)
        st = acme_client_judge(client, &answer, "directory", why);
    if (st == HSM_OK && answer.body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "directory: not JSON");
    return st == HSM_OK ? acme_directory_parse(answer.body, &client->directory, why) : st;
}

enum hsm_status
acme_client_new(const struct acme_client_config *config, struct acme_client **out,
                struct hsm_reason *why)
{
    DEFER(acme_client_free) struct acme_client *client = NULL;
    enum hsm_status st;

    if ((config->eab_kid == NULL) != (config->eab_key == NULL))
        return hsm_refuse(why, HSM_ERR_USAGE, "external account binding: key id and key, or none");
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        return HSM_ERR_NOMEM;
    client->config = *config;
    st = read_directory(client, why);
    if (st != HSM_OK)
        return st;
    *out = client;
    client = NULL;
    return HSM_OK;
}

void
acme_client_free(struct acme_client *client)
{
    if (client == NULL)
        return;
    acme_directory_clear(&client->directory);
    free(client->kid);
    free(client->orders);
    free(client->nonce);
    free(client);
}

void
acme_client_meta(const struct acme_client *client, struct acme_client_meta *out)
{
    *out = (struct acme_client_meta){
        .terms_of_service = client->directory.terms_of_service,
        .website = client->directory.website,
        .external_account_required = client->directory.external_account_required,
        .has_renewal_info = client->directory.renewal_info != NULL,
    };
}

unsigned
acme_client_retry_after_s(const struct acme_client *client)
{
    return client->retry_after_s;
}

const char *
acme_client_kid(const struct acme_client *client)
{
    return client->kid;
}
