/* audit_fixture.c - queries on audit reports, and certificates for keys of a token. */
#define _GNU_SOURCE /* open_memstream */
#include "audit_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <hsm/es256.h>

static X509 *
certificate_for(EVP_PKEY *public_key)
{
    EVP_PKEY *issuer = peer_key_new("P-256");
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    assert_int_equal(X509_set_version(certificate, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 4711), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)"planted", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    assert_non_null(ASN1_TIME_set(X509_getm_notBefore(certificate), AUDIT_NOW - 60));
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(certificate), AUDIT_NOW + 86400));
    assert_int_equal(X509_set_pubkey(certificate, public_key), 1);
    assert_true(X509_sign(certificate, issuer, EVP_sha256()) > 0);
    EVP_PKEY_free(issuer);
    return certificate;
}

size_t
audit_certificate_der(EVP_PKEY *public_key, uint8_t **der)
{
    X509 *certificate = certificate_for(public_key);
    int len = i2d_X509(certificate, der);

    assert_true(len > 0);
    X509_free(certificate);
    return (size_t)len;
}

void
audit_certificate_file(const char *path, EVP_PKEY *public_key)
{
    X509 *certificate = certificate_for(public_key);
    FILE *file = fopen(path, "a");

    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    assert_int_equal(fclose(file), 0);
    X509_free(certificate);
}

struct hsm_key_info
audit_info_of(struct hsm_token *token, const char *label)
{
    struct hsm_key_info *infos = NULL;
    struct hsm_key_info found = {.id_len = 0};
    size_t count = 0;

    assert_int_equal(hsm_key_list(token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(infos[i].label, label) == 0)
            found = infos[i];
    }
    free(infos);
    assert_string_equal(found.label, label);
    return found;
}

EVP_PKEY *
audit_public_of(struct hsm_token *token, const char *label)
{
    struct hsm_key_info info = audit_info_of(token, label);
    EVP_PKEY *key = NULL;

    assert_true(info.has_point);
    assert_int_equal(hsm_p256_from_point(info.point, sizeof(info.point), &key), HSM_OK);
    return key;
}

static const char *
text(const json_t *statement, const char *name)
{
    return json_string_value(json_object_get(statement, name));
}

size_t
audit_count(const json_t *report, const char *id, const char *verdict)
{
    const json_t *statement;
    size_t count = 0;
    size_t i;

    json_array_foreach(json_object_get(report, "statements"), i, statement)
    {
        if ((id == NULL || strcmp(text(statement, "id"), id) == 0) &&
            strcmp(text(statement, "verdict"), verdict) == 0)
            count++;
    }
    return count;
}

static void
print_findings(const json_t *report)
{
    const json_t *statement;
    size_t i;

    json_array_foreach(json_object_get(report, "statements"), i, statement)
    {
        if (strcmp(text(statement, "verdict"), "finding") == 0 ||
            strcmp(text(statement, "verdict"), "unproven") == 0)
            print_message("%s: %s: %s: %s\n", text(statement, "verdict"), text(statement, "id"),
                          text(statement, "subject"), text(statement, "found"));
    }
}

void
audit_assert_findings(const json_t *report, const char *id)
{
    size_t wanted = id != NULL ? 1 : 0;
    size_t all = audit_count(report, NULL, "finding") + audit_count(report, NULL, "unproven");

    if (all != wanted || (id != NULL && audit_count(report, id, "finding") != 1))
        print_findings(report);
    assert_int_equal(all, wanted);
    assert_int_equal(hsm_audit_faults(report), wanted);
    if (id != NULL)
        assert_int_equal(audit_count(report, id, "finding"), 1);
}

void
audit_assert_verdict(const json_t *report, const char *label, const char *id, const char *verdict)
{
    const json_t *statement;
    char object[128];
    size_t found = 0;
    size_t i;

    snprintf(object, sizeof(object), ";object=%s;", label);
    json_array_foreach(json_object_get(report, "statements"), i, statement)
    {
        if (strcmp(text(statement, "id"), id) != 0 ||
            strstr(text(statement, "subject"), object) == NULL)
            continue;
        found++;
        assert_string_equal(text(statement, "verdict"), verdict);
    }
    assert_int_equal(found, 1);
}

char *
audit_printed(const json_t *report, void (*print)(const json_t *report, FILE *out))
{
    char *octets = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&octets, &len);

    assert_non_null(out);
    print(report, out);
    assert_int_equal(fclose(out), 0);
    return octets;
}
