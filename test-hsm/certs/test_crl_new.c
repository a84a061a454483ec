/* test_crl_new.c - mirrors certs/src/crl_new.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/crl.h>

#include "crl_group.h"
#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SIGNER_URL "https://sti-pa.example/download/v1/certificate/crl.pem"

static void
an_empty_crl_is_signed_in_the_token(void **state)
{
    struct certs_crl_request request = {.number = 1, .signer_cert_url = SIGNER_URL};
    struct certs_crl *crl = make(&request);
    X509 *cert = data_cert("self/sp-1234-revoked.cert.pem");

    (void)state;
    assert_int_equal(certs_crl_verify(crl, signer_chain, anchors, CRL_URL, DATA_NOW, NULL), HSM_OK);
    assert_int_equal(certs_crl_number(crl), 1);
    assert_int_equal(certs_crl_next_update(crl), DATA_NOW + A_DAY);
    assert_string_equal(certs_crl_signer_cert_url(crl), SIGNER_URL);
    assert_false(certs_crl_has(crl, cert));
    X509_free(cert);
    certs_crl_free(crl);
}

/* OpenSSL parses each CRL, honours certificateIssuer, and gives the same result. */
static void
agrees_with_openssl(const uint8_t *der, size_t len, const X509_NAME *issuer, const uint8_t *serial,
                    size_t serial_len, int wanted)
{
    X509_CRL *crl = d2i_X509_CRL(NULL, &der, (long)len);
    X509 *cert = cert_named(issuer, serial, serial_len);
    X509_REVOKED *entry = NULL;

    assert_non_null(crl);
    assert_int_equal(X509_CRL_verify(crl, X509_get0_pubkey(signer)), 1);
    assert_int_equal(X509_CRL_get0_by_cert(crl, &entry, cert), wanted);
    X509_free(cert);
    X509_CRL_free(crl);
}

static void
the_same_serial_under_two_issuers_is_two_certificates(void **state)
{
    X509 *one = data_cert("self/sti-ca-int.cert.pem");
    X509 *two = data_cert("self/rogue-root.cert.pem");
    const X509_NAME *a = X509_get_subject_name(one);
    const X509_NAME *b = X509_get_subject_name(two);
    const struct certs_crl_entry entries[] = {
        {a, {0x7f, 1}, 2, DATA_NOW - 60, 1},
        {a, {0x00, 0x80}, 2, DATA_NOW - 60, 0},
        {b, {0x01}, 1, DATA_NOW - 60, 4},
        {X509_get_subject_name(signer), {0x02}, 1, DATA_NOW - 60, 0},
        {a, {0x7f, 1}, 2, DATA_NOW - 60, 1}, /* listed twice */
    };
    struct certs_crl_request request = {.number = UINT64_MAX,
                                        .this_update = DATA_NOW - 60,
                                        .next_update = DATA_NOW + A_DAY,
                                        .url = CRL_URL,
                                        .entries = entries,
                                        .count = COUNT(entries)};
    struct certs_crl *crl = NULL;
    uint8_t *der = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_OK);
    assert_int_equal(certs_crl_parse(der, len, &crl, NULL), HSM_OK);
    assert_true(certs_crl_number(crl) == UINT64_MAX);
    assert_true(is_listed(crl, a, "7f01"));
    assert_false(is_listed(crl, b, "7f01"));
    assert_true(is_listed(crl, a, "80"));
    assert_true(is_listed(crl, b, "01"));
    assert_false(is_listed(crl, a, "01"));
    assert_true(is_listed(crl, X509_get_subject_name(signer), "02"));
    assert_false(is_listed(crl, b, "02"));
    agrees_with_openssl(der, len, a, entries[0].serial, 2, 1);
    agrees_with_openssl(der, len, b, entries[0].serial, 2, 0);
    agrees_with_openssl(der, len, b, entries[2].serial, 1, 1);
    free(der);
    certs_crl_free(crl);
    X509_free(one);
    X509_free(two);
}

static void
a_large_crl_finds_each_entry_and_no_other(void **state)
{
    size_t count = 20000;
    struct certs_crl_entry *entries = calloc(count, sizeof(*entries));
    X509 *one = data_cert("self/sti-ca-int.cert.pem");
    struct certs_crl_request request = {.number = 2, .entries = entries, .count = count};
    struct certs_crl *crl;

    (void)state;
    for (size_t i = 0; i < count; i++) /* odd serials are revoked */
        entries[i] = (struct certs_crl_entry){
            .issuer = X509_get_subject_name(one),
            .serial = {0x40, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 1},
            .serial_len = 5,
            .revoked_at = DATA_NOW};
    crl = make(&request);
    for (size_t i = 0; i < count; i++) {
        X509 *cert = cert_named(entries[i].issuer, entries[i].serial, 5);

        assert_true(certs_crl_has(crl, cert));
        entries[i].serial[4] = 0;
        X509_free(cert);
        cert = cert_named(entries[i].issuer, entries[i].serial, 5);
        assert_false(certs_crl_has(crl, cert));
        X509_free(cert);
    }
    certs_crl_free(crl);
    X509_free(one);
    free(entries);
}

/* A name with `attributes` attributes of 60 characters each. */
static X509_NAME *
long_name(char c, int attributes)
{
    X509_NAME *name = X509_NAME_new();
    char value[61];

    memset(value, c, sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (int i = 0; i < attributes; i++)
        peer_must(
            X509_NAME_add_entry_by_txt(name, "OU", MBSTRING_UTF8, (uint8_t *)value, -1, -1, 0) == 1,
            value);
    return name;
}

#define MANY 25000 /* entries, each with an issuer */

static struct certs_crl_entry *
long_list(const X509_NAME *a, const X509_NAME *b)
{
    struct certs_crl_entry *entries = calloc(MANY, sizeof(*entries));

    assert_non_null(entries);
    for (size_t i = 0; i < MANY; i++)
        entries[i] = (struct certs_crl_entry){
            .issuer = i % 2 == 0 ? a : b,
            .serial = {0x40, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i},
            .serial_len = CERTS_SERIAL_MAX,
            .revoked_at = DATA_NOW,
            .reason = 1};
    return entries;
}

static void
a_crl_of_more_than_16_megaoctets_is_made_and_read(void **state)
{
    X509_NAME *a = long_name('a', 10), *b = long_name('b', 10);
    struct certs_crl_entry *entries = long_list(a, b);
    struct certs_crl_request request = {.number = 2, .entries = entries, .count = MANY};
    struct certs_crl *crl = make(&request);
    uint8_t *der = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_crl_len(crl), MANY);
    for (size_t i = 0; i < MANY; i += MANY / 3) {
        X509 *cert = cert_named(entries[i].issuer, entries[i].serial, CERTS_SERIAL_MAX);

        assert_true(certs_crl_has(crl, cert));
        X509_set_issuer_name(cert, i % 2 == 0 ? b : a);
        assert_false(certs_crl_has(crl, cert));
        X509_free(cert);
    }
    assert_int_equal(certs_crl_der(crl, &der, &len), HSM_OK);
    assert_true(len > 1U << 24);
    free(der);
    certs_crl_free(crl);
    free(entries);
    X509_NAME_free(a);
    X509_NAME_free(b);
}

/* A CRL that readers would refuse is not signed. */
static void
a_crl_that_nobody_reads_is_not_made(void **state)
{
    X509_NAME *a = long_name('a', 14), *b = long_name('b', 14);
    struct certs_crl_entry *entries = long_list(a, b);
    struct certs_crl_request request = {.number = 2,
                                        .this_update = DATA_NOW,
                                        .next_update = DATA_NOW + 1,
                                        .url = CRL_URL,
                                        .entries = entries,
                                        .count = MANY};
    uint8_t *der = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_ERR_UNSUPPORTED);
    assert_null(der);
    free(entries);
    X509_NAME_free(a);
    X509_NAME_free(b);
}

static void
a_crl_is_not_made_against_its_rules(void **state)
{
    const struct certs_crl_entry bad_reason = {X509_get_subject_name(root), {1}, 1, DATA_NOW, 7};
    const struct certs_crl_entry no_serial = {X509_get_subject_name(root), {1}, 0, DATA_NOW, 0};
    const struct certs_crl_entry negative = {X509_get_subject_name(root), {0x80}, 1, DATA_NOW, 0};
    struct certs_crl_request request = {
        .number = 1, .this_update = DATA_NOW, .next_update = DATA_NOW + 1, .url = CRL_URL};
    uint8_t *der = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_crl_new(&request, signer, root_key, &der, &len), HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_crl_new(&request, root, root_key, &der, &len), HSM_ERR_UNTRUSTED);
    request.entries = &bad_reason;
    request.count = 1;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_ERR_USAGE);
    request.entries = &no_serial;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_ERR_USAGE);
    request.entries = &negative;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_ERR_USAGE);
    request.count = 0;
    request.next_update = DATA_NOW;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_ERR_USAGE);
    assert_null(der);
}

static void
a_shown_crl_tells_each_entry_with_its_issuer(void **state)
{
    struct certs_crl *crl = data_crl("self/sti-pa.crl.der");
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(certs_crl_show(crl, to), HSM_OK);
    fclose(to);
    assert_non_null(strstr(text, "CRL number 7\n"));
    assert_non_null(strstr(text, "58de999901a2436fcdce43e1a0063990  2026-01-10 00:00:00 UTC  "
                                 "keyCompromise  CN=Example SHAKEN Intermediate"));
    assert_non_null(strstr(text, "443ee2399fcffb5c09c4afcb8e6eb1b7  2026-01-11 00:00:00 UTC  "
                                 "unspecified  CN=Example SHAKEN Intermediate"));
    assert_non_null(strstr(text, "55492c1d19f42e88516b08db24a61a83  2026-01-12 00:00:00 UTC  "
                                 "unspecified  CN=Another SHAKEN Intermediate"));
    free(text);
    certs_crl_free(crl);
}

static void
a_crl_in_pem_reads_as_the_same(void **state)
{
    struct certs_crl_request request = {
        .number = 3, .this_update = DATA_NOW, .next_update = DATA_NOW + A_DAY, .url = CRL_URL};
    struct certs_crl *crl = NULL;
    uint8_t *der = NULL;
    uint8_t *again = NULL;
    char *pem = NULL;
    size_t len;
    size_t again_len;

    (void)state;
    assert_int_equal(certs_crl_new(&request, signer, signer_key, &der, &len), HSM_OK);
    assert_int_equal(certs_crl_pem(der, len, &pem), HSM_OK);
    assert_int_equal(certs_crl_parse((uint8_t *)pem, strlen(pem), &crl, NULL), HSM_OK);
    assert_int_equal(certs_crl_number(crl), 3);
    assert_int_equal(certs_crl_der(crl, &again, &again_len), HSM_OK);
    assert_int_equal(again_len, len);
    assert_memory_equal(again, der, len);
    certs_crl_free(crl);
    free(again);
    free(pem);
    free(der);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_crl_is_signed_in_the_token),
        cmocka_unit_test(the_same_serial_under_two_issuers_is_two_certificates),
        cmocka_unit_test(a_large_crl_finds_each_entry_and_no_other),
        cmocka_unit_test(a_crl_of_more_than_16_megaoctets_is_made_and_read),
        cmocka_unit_test(a_crl_that_nobody_reads_is_not_made),
        cmocka_unit_test(a_crl_is_not_made_against_its_rules),
        cmocka_unit_test(a_shown_crl_tells_each_entry_with_its_issuer),
        cmocka_unit_test(a_crl_in_pem_reads_as_the_same),
    };

    return cmocka_run_group_tests(tests, crl_group_start, crl_group_stop);
}
