/* client_group.h - ACME clients of the STI-CA of ca_group.h. */
#ifndef TEST_CLIENT_GROUP_H
#define TEST_CLIENT_GROUP_H

#include <acme/client.h>
#include <hsm/key.h>

#include "ca_group.h"

extern struct hsm_key *account_key;

/** cmocka group fixtures: the STI-CA without an account, and the key of one. */
int client_group_start(void **state);
int client_group_stop(void **state);

/** A client for the STI-CA's directory, with account_key unless the settings name another key;
 * acme_client_free() it. Fails the test if it cannot be made. */
struct acme_client *client_group_new(struct acme_client_config config);

#endif
