/* test_crl_memory.c - a CRL when memory runs out: the result is never "not revoked". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/crl.h>

#include "failing_memory.h"
#include "peer_cert.h"

#define ALLOCATIONS_MAX 20000 /* more than any of these functions needs */

static struct certs_crl *
vector(void)
{
    struct certs_crl *crl = NULL;
    size_t len;
    char *der = data_text("self/sti-pa.crl.der", &len);

    assert_int_equal(certs_crl_parse((const uint8_t *)der, len, &crl, NULL), HSM_OK);
    free(der);
    return crl;
}

static void
a_revoked_certificate_is_not_good_because_memory_is_missing(void **state)
{
    struct certs_crl *crl = vector();
    X509 *revoked = data_cert("self/sp-1234-revoked.cert.pem");
    unsigned long n = 0, faults = 0;
    enum hsm_status st;

    (void)state;
    do {
        assert_true(++n < ALLOCATIONS_MAX);
        memory_fail_at(n);
        st = certs_crl_check(crl, revoked, NULL);
        assert_int_not_equal(st, HSM_OK);
        faults += st != HSM_ERR_UNTRUSTED;
    } while (memory_has_failed());
    assert_int_equal(st, HSM_ERR_UNTRUSTED);
    assert_true(faults > 0);
    memory_fail_at(1);
    assert_true(certs_crl_has(crl, revoked));
    memory_fail_at(MEMORY_NEVER);
    X509_free(revoked);
    certs_crl_free(crl);
}

/* A CRL that was parsed contains all of its entries. */
static void
a_crl_is_read_whole_or_not_at_all(void **state)
{
    X509 *revoked = data_cert("self/sp-1234-revoked.cert.pem");
    unsigned long n = 0, faults = 0;
    size_t len;
    char *der = data_text("self/sti-pa.crl.der", &len);
    bool is_over;

    (void)state;
    do {
        struct certs_crl *crl = NULL;
        enum hsm_status st;

        assert_true(++n < ALLOCATIONS_MAX);
        memory_fail_at(n);
        st = certs_crl_parse((const uint8_t *)der, len, &crl, NULL);
        is_over = !memory_has_failed();
        memory_fail_at(MEMORY_NEVER);
        if (st == HSM_OK)
            assert_int_equal(certs_crl_check(crl, revoked, NULL), HSM_ERR_UNTRUSTED);
        faults += st != HSM_OK;
        certs_crl_free(crl);
    } while (!is_over);
    assert_true(faults > 0);
    free(der);
    X509_free(revoked);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_revoked_certificate_is_not_good_because_memory_is_missing),
        cmocka_unit_test(a_crl_is_read_whole_or_not_at_all),
    };

    memory_may_fail();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
