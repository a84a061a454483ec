/* test_verdict_memory.c - verdicts when memory runs out: such a failure is never a kept refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/verdict.h>

#include "failing_memory.h"
#include "path_fixture.h"

#define ALLOCATIONS_MAX 20000 /* more than one verdict needs */
#define A_DAY           86400
#define LATER           301 /* seconds: a refusal is kept for five minutes */

enum {
    FAULT,
    REFUSED
};

static unsigned long counted[2];

/* Octets of their own: what OpenSSL remembers of a certificate is not shared between two tries. */
static struct certs_chain *
fresh(const char *names)
{
    struct certs_chain *made = path_chain(names);
    struct certs_chain *parsed = NULL;
    char *pem = NULL;

    assert_int_equal(certs_chain_pem(made, &pem), HSM_OK);
    assert_int_equal(certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &parsed, NULL),
                     HSM_OK);
    free(pem);
    certs_chain_free(made);
    return parsed;
}

/* True if there were that many allocations. */
static bool
check_with_failure_at(unsigned long n, struct certs_verdicts *verdicts, const char *names,
                      const struct certs_trust *trust)
{
    struct certs_chain *chain = fresh(names);
    struct hsm_reason why = {0};
    enum hsm_status st;
    bool failed;

    memory_fail_at(n);
    st = certs_verdicts_check(verdicts, chain, trust, DATA_NOW, NULL, &why);
    failed = memory_has_failed();
    memory_fail_at(MEMORY_NEVER);
    if (st != HSM_OK)
        counted[st == HSM_ERR_UNTRUSTED ? REFUSED : FAULT]++;
    if (st == HSM_ERR_NOMEM || st == HSM_ERR_CRYPTO) {
        assert_int_equal(certs_verdicts_check(verdicts, chain, trust, DATA_NOW, NULL, &why),
                         HSM_OK);
    }
    st = certs_verdicts_check(verdicts, chain, trust, DATA_NOW + LATER, NULL, &why);
    if (st != HSM_OK)
        fail_msg("allocation %lu: %s", n, why.text);
    certs_chain_free(chain);
    return failed;
}

static void
a_good_chain_is_not_refused_for_long_because_memory_was_missing(void **state)
{
    struct certs_chain *anchors = fresh("root");
    const struct certs_trust trust = {.anchors = anchors, .until = DATA_NOW + A_DAY};
    unsigned long n = 0;
    bool failed;

    (void)state;
    do {
        struct certs_verdicts *verdicts = NULL;

        assert_true(++n < ALLOCATIONS_MAX);
        assert_int_equal(certs_verdicts_new(NULL, 100, &verdicts), HSM_OK);
        failed = check_with_failure_at(n, verdicts, "leaf,int", &trust);
        certs_verdicts_free(verdicts);
    } while (failed);
    assert_true(counted[FAULT] > counted[REFUSED]); /* OpenSSL reports most, but not all */
    certs_chain_free(anchors);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_chain_is_not_refused_for_long_because_memory_was_missing),
    };
    int failed;

    memory_may_fail();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    path_fixture_free();
    return failed;
}
