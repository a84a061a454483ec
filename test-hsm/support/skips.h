/*
 * skips.h - skip the tests that a token cannot pass, and print the reason.
 *
 * $STI_TEST_SKIPS names a file of lines "PROGRAM.TEST REASON", such as
 * "hsm_key.openssl_serves_tls_with_it no such mechanism"; a line that begins
 * with # is a comment. Without the variable nothing is skipped.
 */
#ifndef TEST_SKIPS_H
#define TEST_SKIPS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/** cmocka_run_group_tests() without the tests that the file lists. Aborts if it lists a test that
 * this program does not have. */
#define skips_run_group_tests(tests, setup, teardown)                                              \
    skips_run(#tests, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

int skips_run(const char *group, const struct CMUnitTest *tests, size_t count,
              CMFixtureFunction setup, CMFixtureFunction teardown);

#endif
