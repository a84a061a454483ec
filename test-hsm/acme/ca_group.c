/* ca_group.c - an STI-CA that all tests of a program share. */
#include "ca_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct ca_fixture ca;
struct peer account;

int
ca_group_start_alone(void **state)
{
    (void)state;
    ca_fixture_start(&ca);
    return 0;
}

int
ca_group_start(void **state)
{
    ca_fixture_start(&ca);
    peer_join(&ca, &account);
    *state = &account;
    return 0;
}

int
ca_group_stop(void **state)
{
    (void)state;
    peer_stop(&account);
    ca_fixture_stop(&ca);
    return 0;
}

void
ca_assert_refused(const struct got *got, int status, const char *problem, const char *what)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%s: %d %s instead of %d %s", what, got->status, got->body, status, problem);
    assert_string_equal(got_header(got, "Content-Type"), "application/problem+json");
    assert_int_equal(json_integer_value(json_object_get(got->json, "status")), status);
}

void
ca_assert_post_headers(const struct got *got)
{
    char index[CA_URL_SIZE];

    snprintf(index, sizeof(index), "<%s/acme/directory>;rel=\"index\"", ca.pa.base_url);
    assert_string_equal(got_header(got, "Link"), index);
    assert_true(strlen(got_header(got, "Replay-Nonce")) == 22);
    assert_string_equal(got_header(got, "Cache-Control"), "no-store");
}
