/* authority_service_group.h - the STI-PA of authority_group.h with a clock and a token that tests
 * control, and requests to it. */
#ifndef TEST_AUTHORITY_SERVICE_GROUP_H
#define TEST_AUTHORITY_SERVICE_GROUP_H

#include <stdatomic.h>
#include <stdint.h>

#include <jansson.h>
#include <openssl/evp.h>

#include <acme/authority.h>
#include <acme/jwk.h>

#include "authority_group.h"

#define PASSWORD     "correct horse"
#define TKVALUE_1234 "MAigBhYEMTIzNA" /* the TNAuthList of SPC 1234 */

extern EVP_PKEY *account_key; /* of an ACME account; tokens carry its fingerprint */
extern char fingerprint[ACME_FINGERPRINT_LEN + 1];
extern atomic_long clock_offset_s; /* the STI-PA's clock is ahead by this */
extern atomic_long clock_stands_s; /* offset at which the clock stands still; 0: it runs */

/** The clock of the STI-PA. */
time_t pa_clock(void);

/** Add an account with PASSWORD. */
enum hsm_status add_account(const char *id, const char *user, const char *const *spcs, bool ca);

/* Set the faults of the token, in the syntax of test-hsm/hsm/shim.c. */
void token_answers(const char *faults);

/** cmocka group fixtures. */
int authority_service_start(void **state);
int authority_service_stop(void **state);

/** cmocka teardown of one test. */
int reset_clock(void **state);

/** Returns the status; a request without a type has no body. */
int exchange(const char *method, const char *path, const char *authorization, const char *type,
             const char *body, struct acme_http_reply *reply);

/* POST JSON; *answer (may be NULL) receives the body, to be decref'd. */
int post(const char *path, const char *authorization, const char *body, json_t **answer);

/** A member that is a text. */
const char *text_of(const json_t *object, const char *name);

/* The access token of a successful login; free() it. */
char *login(const char *user);

/** The URL of a path of the STI-PA; free() it. */
char *url_of(const char *path);

/* The verified list; acme_ca_list_free() it. NULL: refused, and the reason is printed. */
struct acme_ca_list *fetch_list(uint64_t previous_sequence, time_t now);

/** Of the list published now. */
uint64_t list_sequence(void);

#endif
