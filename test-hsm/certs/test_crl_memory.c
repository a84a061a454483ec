/* test_crl_memory.c - a CRL when memory runs out: the result is never "not revoked". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include <certs/crl.h>

#include "peer_cert.h"

#define NEVER           0
#define ALLOCATIONS_MAX 20000 /* more than any of these functions needs */

static struct {
    unsigned long count, fails_at; /* from 1; NEVER: none */
} allocations;

static bool
fails(void)
{
    return ++allocations.count == allocations.fails_at;
}

static void *
allocate(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : malloc(size);
}

static void *
reallocate(void *octets, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : realloc(octets, size);
}

static void
release(void *octets, const char *file, int line)
{
    (void)file;
    (void)line;
    free(octets);
}

static void
fail_at(unsigned long n)
{
    allocations.count = 0;
    allocations.fails_at = n;
}

static bool
has_failed(void)
{
    return allocations.fails_at != NEVER && allocations.count >= allocations.fails_at;
}

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
        fail_at(n);
        st = certs_crl_check(crl, revoked, NULL);
        assert_int_not_equal(st, HSM_OK);
        faults += st != HSM_ERR_UNTRUSTED;
    } while (has_failed());
    assert_int_equal(st, HSM_ERR_UNTRUSTED);
    assert_true(faults > 0);
    fail_at(1);
    assert_true(certs_crl_has(crl, revoked));
    fail_at(NEVER);
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
        fail_at(n);
        st = certs_crl_parse((const uint8_t *)der, len, &crl, NULL);
        is_over = !has_failed();
        fail_at(NEVER);
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

    /* OpenSSL refuses this after its first allocation */
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
