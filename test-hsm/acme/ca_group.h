/* ca_group.h - the STI-CA of ca_fixture.h that all tests of a program share, and an account there.
 */
#ifndef TEST_CA_GROUP_H
#define TEST_CA_GROUP_H

#include "ca_fixture.h"

extern struct ca_fixture ca;
extern struct peer account;

/** cmocka group fixtures. The state of each test is the account. */
int ca_group_start(void **state);
int ca_group_stop(void **state);

/** ca_group_start() without the account. */
int ca_group_start_alone(void **state);

/** Fails the test, naming `what`, unless the answer is this status and type of problem. */
void ca_assert_refused(const struct got *got, int status, const char *problem, const char *what);
/** Headers that every answer to a POST carries (RFC 8555 sections 6.5, 7.1). */
void ca_assert_post_headers(const struct got *got);

#endif
