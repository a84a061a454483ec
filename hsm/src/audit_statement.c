/* audit_statement.c - the statements of an audit, and how they are added to the report. */
#include "audit_internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <hsm/es256.h>
#include <hsm/hex.h>

#include "es256_internal.h"

#define P11  "PKCS #11 v3.1 section 4.9 (private key objects)"
#define SITE "RFC 3647 section "

/* In the order of enum hsm_audit_check. docs/AUDIT.md explains each. */
static const struct hsm_audit_row rows[] = {
    {"token.module", SITE "6.2.1 (module standards and controls)",
     "the module that the operator installed"},
    {"token.login", SITE "6.2.8 (activation)", "a login of the user, read-write"},
    {"token.wrapping-key", SITE "6.2.6 (transfer out of the module)",
     "no key on the token that may wrap another"},
    {"object.unknown", SITE "6.2.7 (storage on the module)",
     "key pairs and certificates of this system"},
    {"key.type", SITE "6.1.5 (key sizes)", "CKK_EC on P-256"},
    {"key.private", P11 "; " SITE "6.2.8 (activation)", "CKA_PRIVATE true"},
    {"key.sensitive", P11 "; " SITE "6.2.6 (transfer out of the module)", "CKA_SENSITIVE true"},
    {"key.always-sensitive", P11 "; " SITE "6.2.6 (transfer out of the module)",
     "CKA_ALWAYS_SENSITIVE true"},
    {"key.extractable", P11 "; " SITE "6.2.6 (transfer out of the module)",
     "CKA_EXTRACTABLE false"},
    {"key.never-extractable", P11 "; " SITE "6.2.6 (transfer out of the module)",
     "CKA_NEVER_EXTRACTABLE true"},
    {"key.local", P11 "; " SITE "6.1.1 (key pair generation)", "CKA_LOCAL true"},
    {"key.key-gen-mechanism", P11 "; " SITE "6.1.1 (key pair generation)",
     "CKA_KEY_GEN_MECHANISM CKM_EC_KEY_PAIR_GEN"},
    {"key.modifiable", "PKCS #11 v3.1 section 4.4 (storage objects); " SITE "6.2.7",
     "CKA_MODIFIABLE false"},
    {"key.copyable", "PKCS #11 v3.1 section 4.4 (storage objects); " SITE "6.2.4 (backup)",
     "CKA_COPYABLE false"},
    {"key.sign", SITE "6.1.7 (key usage purposes)", "CKA_SIGN true"},
    {"key.sign-recover", SITE "6.1.7 (key usage purposes)", "CKA_SIGN_RECOVER false"},
    {"key.decrypt", SITE "6.1.7 (key usage purposes)", "CKA_DECRYPT false"},
    {"key.unwrap", SITE "6.1.7 (key usage purposes)", "CKA_UNWRAP false"},
    {"key.derive", SITE "6.1.7 (key usage purposes)", "CKA_DERIVE false"},
    {"key.allowed-mechanisms", SITE "6.1.7 (key usage purposes)",
     "CKA_ALLOWED_MECHANISMS CKM_ECDSA alone"},
    {"key.wrap-with-trusted", SITE "6.2.4 (backup)",
     "of no consequence while CKA_EXTRACTABLE is false"},
    {"key.always-authenticate", SITE "6.2.8 (activation)", "one login for all signatures"},
    {"key.public-half", SITE "6.1.1 (key pair generation)",
     "the public object of its CKA_ID verifies its signature of a challenge"},
    {"key.certificate", SITE "6.1.7 (key usage purposes)", "a certificate for its public half"},
    {"certificate.key", SITE "6.1.3 (public key delivery)", "the key pair that has its CKA_ID"},
    {"certificate.orphan", SITE "6.2.7 (storage on the module)", "a certificate of a key here"},
    {"key.attestation", SITE "6.2.1 (module standards and controls)",
     "the vendor attests: generated in the device, not exportable"},
    {"attempt.value", P11 "; " SITE "6.2.6 (transfer out of the module)",
     "C_GetAttributeValue of CKA_VALUE: CKR_ATTRIBUTE_SENSITIVE"},
    {"attempt.wrap", "PKCS #11 v3.1 section 5.18.3 (C_WrapKey); " SITE "6.2.6",
     "C_WrapKey: CKR_KEY_UNEXTRACTABLE"},
    {"attempt.set", "PKCS #11 v3.1 section 5.7.6 (C_SetAttributeValue); " SITE "6.2.6",
     "C_SetAttributeValue: CKR_ACTION_PROHIBITED or CKR_ATTRIBUTE_READ_ONLY"},
    {"attempt.copy", "PKCS #11 v3.1 section 5.7.2 (C_CopyObject); " SITE "6.2.4 (backup)",
     "C_CopyObject with weaker attributes: CKR_ACTION_PROHIBITED, CKR_ATTRIBUTE_READ_ONLY or "
     "CKR_TEMPLATE_INCONSISTENT"},
    {"attempt.session-copy", "PKCS #11 v3.1 section 5.7.2 (C_CopyObject); " SITE "6.2.4 (backup)",
     "C_CopyObject to a session object: CKR_ACTION_PROHIBITED"},
    {"attempt.derive", "PKCS #11 v3.1 section 5.18.5 (C_DeriveKey); " SITE "6.1.7",
     "C_DeriveKey by CKM_ECDH1_DERIVE: CKR_KEY_FUNCTION_NOT_PERMITTED"},
    {"file.private-key", SITE "6.2.5 (archival)", "no private key in a file"},
    {"file.search", SITE "6.2.5 (archival)", "every file was read"},
    {"file.token-store", SITE "6.2.7 (storage on the module)", "the store of a software token"},
    {"process.control", SITE "6.2.7 (storage on the module)",
     "a planted value is found in every form"},
    {"process.secret", SITE "6.2.7 (storage on the module)",
     "no private key in the memory of the process"},
};

static const char *const verdicts[HSM_AUDIT_VERDICTS] = {
    "pass", "finding", "consequence", "unproven", "not-reported", "untested", "info",
};

const struct hsm_audit_row *
hsm_audit_row(enum hsm_audit_check check)
{
    _Static_assert(sizeof(rows) / sizeof(rows[0]) == HSM_CHECK_COUNT, "a row for each check");
    return &rows[check];
}

enum hsm_audit_check
hsm_audit_check_of(const char *id)
{
    unsigned i = 0;

    while (i < HSM_CHECK_COUNT && strcmp(rows[i].id, id) != 0)
        i++;
    return (enum hsm_audit_check)i;
}

const char *
hsm_audit_verdict_name(enum hsm_audit_verdict verdict)
{
    return verdicts[verdict];
}

unsigned
hsm_audit_verdict_of(const char *name)
{
    unsigned i = 0;

    while (i < HSM_AUDIT_VERDICTS && strcmp(verdicts[i], name) != 0)
        i++;
    return i;
}

bool
hsm_audit_keep(struct hsm_audit *audit, enum hsm_status status)
{
    if (audit->failure == HSM_OK)
        audit->failure = status;
    return audit->failure == HSM_OK;
}

json_t *
hsm_audit_pack(struct hsm_audit *audit, const char *format, ...)
{
    json_t *value;
    va_list list;

    va_start(list, format);
    value = json_vpack_ex(NULL, 0, format, list);
    va_end(list);
    if (value == NULL)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    return value;
}

void
hsm_audit_state(struct hsm_audit *audit, const struct hsm_audit_statement *statement)
{
    const struct hsm_audit_row *row = &rows[statement->check];
    const char *expected = statement->expected != NULL ? statement->expected : row->expected;
    json_t *value = hsm_audit_pack(audit, "{s:s, s:s, s:s, s:s, s:s, s:o, s:s}", "id", row->id,
                                   "subject", statement->subject, "requirement", row->requirement,
                                   "expected", expected, "found", statement->found, "evidence",
                                   statement->evidence, "verdict", verdicts[statement->verdict]);

    if (value != NULL && statement->verdict == HSM_AUDIT_CONSEQUENCE &&
        json_object_set_new(value, "cause", json_string(rows[statement->cause].id)) != 0)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    if (value != NULL && json_array_append_new(audit->statements, value) != 0)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
}

json_t *
hsm_audit_text(const void *octets, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = octets;
    char *out = malloc(len * 4 + 1);
    size_t n = 0;
    json_t *text;

    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (in[i] >= 0x20 && in[i] <= 0x7e && in[i] != '\\') {
            out[n++] = (char)in[i];
            continue;
        }
        out[n++] = '\\';
        out[n++] = 'x';
        out[n++] = digits[in[i] >> 4];
        out[n++] = digits[in[i] & 15];
    }
    text = json_stringn(out, n);
    free(out);
    return text;
}

json_t *
hsm_audit_hex(const uint8_t *octets, size_t len)
{
    char *out = malloc(HSM_HEX_LEN(len) + 1);
    json_t *text;

    if (out == NULL)
        return NULL;
    hsm_hex_put(octets, len, out);
    text = json_stringn(out, HSM_HEX_LEN(len));
    free(out);
    return text;
}

enum hsm_status
hsm_audit_sha256(const void *octets, size_t len, char *out)
{
    uint8_t digest[HSM_SHA256_LEN];
    enum hsm_status st = hsm_sha256(octets, len, digest);

    if (st != HSM_OK)
        return st;
    hsm_hex_put(digest, sizeof(digest), out);
    return HSM_OK;
}

bool
hsm_audit_is_listed(const char *list, const char *label)
{
    size_t len = strlen(label);

    while (list != NULL && *list != '\0') {
        size_t word = strcspn(list, ",");

        if (word == len && len > 0 && memcmp(list, label, len) == 0)
            return true;
        list += word;
        list += *list == ',' ? 1 : 0;
    }
    return false;
}
