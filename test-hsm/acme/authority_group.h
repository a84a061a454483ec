/* authority_group.h - the STI-PA that all tests of a program share: its store and service behind
 * the server of pa_fixture.h. */
#ifndef TEST_AUTHORITY_GROUP_H
#define TEST_AUTHORITY_GROUP_H

#include <time.h>

#include <acme/authority.h>
#include <acme/store.h>

#include "pa_fixture.h"

extern struct pa_fixture pa;
extern struct acme_store *store;
extern struct acme_authority *authority; /* answers the requests to pa; a test may replace it */

/** Start pa and open the store. authority is NULL until the caller creates it. */
void authority_group_open(void);

/** The path of the store's file, or the URI of its schema in PostgreSQL. */
const char *authority_group_store_path(void);

/** Settings of an STI-PA on this store: tokens for two hours, sessions for ten minutes, lists for a
 * day, CRLs for half a day, no limits. */
struct acme_authority_config authority_group_config(time_t (*now)(void));

/** Add an account with this password for the SPCs, which end with NULL. */
enum hsm_status authority_group_account(const char *id, const char *user, const char *password,
                                        const char *const *spcs, bool ca);

/** cmocka group teardown. */
int authority_group_stop(void **state);

#endif
