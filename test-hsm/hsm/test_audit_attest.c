/*
 * test_audit_attest.c - mirrors hsm/src/audit_attest.c and audit_yubihsm.c.
 *
 * No YubiHSM is available: the certificates are made here, by a software CA in
 * memory that plays the vendor and the device, with extensions encoded octet by
 * octet as in the device's documentation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <hsm/audit.h>

#include "audit_fixture.h"
#include "softhsm.h"

struct extension {
    const char *oid;
    uint8_t der[16];
    size_t len;
};

#define ARC "1.3.6.1.4.1.41482.4."

/* Firmware 2.4.0, serial 9112061, generated, domain 1, sign-ecdsa, object 3, label "sp". */
static const struct extension usual[] = {
    {ARC "1", {4, 3, 2, 4, 0}, 5},
    {ARC "2", {2, 4, 0, 139, 9, 253}, 6},
    {ARC "3", {3, 2, 0, 0x01}, 4},
    {ARC "4", {3, 3, 0, 0, 1}, 5},
    {ARC "5", {3, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, 11},
    {ARC "6", {2, 1, 3}, 3},
    {ARC "9", {12, 2, 's', 'p'}, 4},
};

#define USUAL (sizeof(usual) / sizeof(usual[0]))

static EVP_PKEY *root_key;
static EVP_PKEY *device_key;
static X509 *root;
static X509 *device;
static struct hsm_token *token;
static struct hsm_key *key;
static char roots_path[512];
static char chain_path[512];

static void
add_extension(X509 *certificate, const struct extension *extension)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(extension->oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *made = NULL;

    assert_int_equal(ASN1_OCTET_STRING_set(value, extension->der, (int)extension->len), 1);
    made = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
    assert_int_equal(X509_add_ext(certificate, made, -1), 1);
    X509_EXTENSION_free(made);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
}

static X509 *
certificate(const char *name, EVP_PKEY *public_key, X509 *issuer)
{
    static long serial = 1;
    X509 *made = X509_new();
    X509_NAME *subject = X509_get_subject_name(made);

    assert_int_equal(X509_set_version(made, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(made), serial++), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                                (const unsigned char *)name, -1, -1, 0),
                     1);
    assert_int_equal(
        X509_set_issuer_name(made, issuer != NULL ? X509_get_subject_name(issuer) : subject), 1);
    assert_non_null(ASN1_TIME_set(X509_getm_notBefore(made), AUDIT_NOW - 60));
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(made), AUDIT_NOW + 86400));
    assert_int_equal(X509_set_pubkey(made, public_key), 1);
    return made;
}

static X509 *
ca(const char *name, EVP_PKEY *own, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *made = certificate(name, own, issuer);
    X509_EXTENSION *basic =
        X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    assert_int_equal(X509_add_ext(made, basic, -1), 1);
    X509_EXTENSION_free(basic);
    assert_true(X509_sign(made, issuer_key, EVP_sha256()) > 0);
    return made;
}

static void
write_certificates(const char *path, X509 *first, X509 *second)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    assert_int_equal(fclose(file), 0);
}

/* The device's attestation with one extension replaced; `left_out` is omitted. */
static void
attest(EVP_PKEY *public_key, const struct extension *instead, const char *left_out, EVP_PKEY *by)
{
    X509 *made = certificate("YubiHSM Attestation id:0x0003", public_key, device);

    for (size_t i = 0; i < USUAL; i++) {
        bool other = instead != NULL && strcmp(instead->oid, usual[i].oid) == 0;

        if (left_out == NULL || strcmp(left_out, usual[i].oid) != 0)
            add_extension(made, other ? instead : &usual[i]);
    }
    assert_true(X509_sign(made, by, EVP_sha256()) > 0);
    write_certificates(chain_path, made, device);
    X509_free(made);
}

static struct hsm_audit *audit;

static const json_t *
judged(void)
{
    const struct hsm_audit_config config = {
        .program = "test_audit_attest", .uncertified = "attested,other", .now = AUDIT_NOW};
    const json_t *report = NULL;

    hsm_audit_free(audit);
    audit = NULL;
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    assert_int_equal(hsm_audit_attestations(audit, chain_path, roots_path), HSM_OK);
    assert_int_equal(hsm_audit_token(audit, token), HSM_OK);
    assert_int_equal(hsm_audit_finish(audit, &report), HSM_OK);
    return report;
}

static void
an_attested_key_passes(void **state)
{
    const json_t *report;
    char *text;

    (void)state;
    attest(hsm_key_public(key), NULL, NULL, device_key);
    report = judged();
    audit_assert_findings(report, NULL);
    audit_assert_verdict(report, "attested", "key.attestation", "pass");
    text = audit_printed(report, hsm_audit_print_text);
    assert_non_null(strstr(text, "serial 9112061, firmware 2.4.0"));
    assert_non_null(strstr(text, "generated in the device, not exportable"));
    free(text);
}

static void
what_the_device_does_not_vouch_for_is_the_finding(void **state)
{
    static const struct extension others[] = {
        {ARC "3", {3, 2, 0, 0x02}, 4}, /* imported */
        {ARC "3", {3, 2, 0, 0x11}, 4}, /* generated, imported under wrap */
        {ARC "5", {3, 9, 0, 0, 0, 0, 0, 0, 1, 0, 0x80}, 11}, /* exportable-under-wrap */
        {ARC "3", {3, 2, 0}, 3}, /* truncated */
        {ARC "3", {3, 3, 0, 0, 1}, 5}, /* two octets of origin */
        {ARC "3", {2, 1, 1}, 3}, /* an INTEGER */
        {ARC "3", {3, 2, 4, 0x10}, 4}, /* unused bits */
        {ARC "5", {3, 2, 0, 0x80}, 4}, /* one octet of capabilities */
        {ARC "1", {4, 2, 2, 4}, 4}, /* two octets of version */
        {ARC "2", {2, 4, 0, 139, 9, 253, 0}, 7}, /* trailing octet */
        {ARC "6", {2, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 11}, /* larger than 64 bits */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        attest(hsm_key_public(key), &others[i], NULL, device_key);
        audit_assert_findings(judged(), "key.attestation");
    }
}

static void
an_extension_that_is_missing_or_twice_is_the_finding(void **state)
{
    static const char *const needed[] = {ARC "1", ARC "2", ARC "4", ARC "5", ARC "6"};
    X509 *twice;

    (void)state;
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        attest(hsm_key_public(key), NULL, needed[i], device_key);
        audit_assert_findings(judged(), "key.attestation");
    }
    twice = certificate("YubiHSM Attestation id:0x0003", hsm_key_public(key), device);
    for (size_t i = 0; i < USUAL; i++)
        add_extension(twice, &usual[i]);
    add_extension(twice, &usual[4]);
    assert_true(X509_sign(twice, device_key, EVP_sha256()) > 0);
    write_certificates(chain_path, twice, device);
    audit_assert_findings(judged(), "key.attestation");
    X509_free(twice);
}

static void
another_signature_or_root_is_the_finding(void **state)
{
    EVP_PKEY *other = peer_key_new("P-256");
    X509 *other_root = ca("another root", other, NULL, other);

    (void)state;
    attest(hsm_key_public(key), NULL, NULL, other);
    audit_assert_findings(judged(), "key.attestation");
    attest(hsm_key_public(key), NULL, NULL, device_key);
    write_certificates(roots_path, other_root, NULL);
    audit_assert_findings(judged(), "key.attestation");
    write_certificates(roots_path, root, NULL);
    audit_assert_findings(judged(), NULL);
    X509_free(other_root);
    EVP_PKEY_free(other);
}

static void
an_attestation_of_another_key_says_nothing_of_this_one(void **state)
{
    EVP_PKEY *other = peer_key_new("P-256");

    (void)state;
    attest(other, NULL, NULL, device_key);
    audit_assert_verdict(judged(), "attested", "key.attestation", "untested");
    EVP_PKEY_free(other);
}

static void
files_without_certificates_are_refused(void **state)
{
    const struct hsm_audit_config config = {.program = "test_audit_attest", .now = AUDIT_NOW};
    FILE *file = fopen(chain_path, "w");

    (void)state;
    assert_int_equal(fclose(file), 0);
    hsm_audit_free(audit);
    audit = NULL;
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    assert_int_equal(hsm_audit_attestations(audit, chain_path, roots_path), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_audit_attestations(audit, roots_path, chain_path), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_audit_attestations(audit, "/absent", roots_path), HSM_ERR_NOT_FOUND);
}

static int
start(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("attest");
    assert_int_equal(hsm_key_generate(token, "attested", &key), HSM_OK);
    root_key = peer_key_new("P-256");
    device_key = peer_key_new("P-256");
    root = ca("maker", root_key, NULL, root_key);
    device = ca("YubiHSM 9112061", device_key, root, root_key);
    snprintf(roots_path, sizeof(roots_path), "%s/roots.pem", softhsm_dir());
    snprintf(chain_path, sizeof(chain_path), "%s/chain.pem", softhsm_dir());
    write_certificates(roots_path, root, NULL);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    hsm_audit_free(audit);
    hsm_key_free(key);
    hsm_token_close(token);
    X509_free(root);
    X509_free(device);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(device_key);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attested_key_passes),
        cmocka_unit_test(what_the_device_does_not_vouch_for_is_the_finding),
        cmocka_unit_test(an_extension_that_is_missing_or_twice_is_the_finding),
        cmocka_unit_test(another_signature_or_root_is_the_finding),
        cmocka_unit_test(an_attestation_of_another_key_says_nothing_of_this_one),
        cmocka_unit_test(files_without_certificates_are_refused),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
