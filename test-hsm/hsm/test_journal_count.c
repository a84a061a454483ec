/*
 * test_journal_count.c - the journal's count of signatures compared with the token's, for which the
 * fault module counts the calls that reach it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fault_client.h"
#include "journal_fixture.h"
#include "softhsm.h"

static void
sign_times(const char *dir, int times)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);

    for (int i = 0; i < times; i++)
        (void)journal_sign(key, i % 5 == 0 ? HSM_USE_CRL : HSM_USE_PASSPORT, "count", "x");
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
journal_and_token_count_the_same(void **state)
{
    const char *dir = journal_dir("counted");
    unsigned long before = fault_number("count C_Sign");
    struct verdict verdict;

    (void)state;
    sign_times(dir, 25);
    sign_times(dir, 7);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.calls, fault_number("count C_Sign") - before);
}

/* A call that fails and is retried counts as one use and as two signatures of the token. */
static void
what_is_tried_again_is_counted_too(void **state)
{
    const char *dir = journal_dir("tried");
    unsigned long before = fault_number("count C_Sign");
    struct verdict verdict;

    (void)state;
    fault("on C_Sign after 5 times 1 rv CKR_DEVICE_ERROR");
    sign_times(dir, 20);
    journal_assert_good(dir, &verdict);
    assert_true(verdict.summary.calls > verdict.summary.uses - 2);
    assert_int_equal(verdict.summary.calls, fault_number("count C_Sign") - before);
}

/* Another program that has the PIN signs without the journal. */
static void
a_signature_past_the_journal_is_missed(void **state)
{
    const char *dir = journal_dir("past");
    unsigned long before = fault_number("count C_Sign");
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct verdict verdict;

    (void)state;
    sign_times(dir, 10);
    token = softhsm_reopen(JOURNAL_TOKEN);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=" JOURNAL_SIGNER, &key), HSM_OK);
    assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, NULL, "nobody shall know"), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.calls + 1, fault_number("count C_Sign") - before);
}

static int
start(void **state)
{
    (void)state;
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token(JOURNAL_TOKEN));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(journal_and_token_count_the_same),
        cmocka_unit_test(what_is_tried_again_is_counted_too),
        cmocka_unit_test(a_signature_past_the_journal_is_missed),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
