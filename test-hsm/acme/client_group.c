/* client_group.c - ACME clients of the STI-CA that all tests of a program share. */
#include "client_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct hsm_key *account_key;

int
client_group_start(void **state)
{
    ca_group_start_alone(state);
    return hsm_key_generate(ca.pa.token, "acme-account", &account_key) == HSM_OK ? 0 : -1;
}

int
client_group_stop(void **state)
{
    hsm_key_free(account_key);
    return ca_group_stop(state);
}

struct acme_client *
client_group_new(struct acme_client_config config)
{
    struct acme_client *client = NULL;
    struct hsm_reason why = {""};
    char directory[CA_URL_SIZE];

    snprintf(directory, sizeof(directory), "%s/acme/directory", ca.pa.base_url);
    config.http = ca.pa.http;
    config.directory_url = directory;
    if (config.account_key == NULL)
        config.account_key = account_key;
    if (acme_client_new(&config, &client, &why) != HSM_OK)
        fail_msg("%s", why.text);
    return client;
}
