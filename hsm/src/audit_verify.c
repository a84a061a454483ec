/* audit_verify.c - verify a signed report: its signature, its schema, its consistency. */
#include "audit_internal.h"
#include "audit_report_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <hsm/base64url.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/json.h>

#include "defer_internal.h"

/* Checks that every report must state for each private key. */
static const enum hsm_audit_check of_each_key[] = {
    HSM_CHECK_KEY_TYPE,
    HSM_CHECK_PRIVATE,
    HSM_CHECK_SENSITIVE,
    HSM_CHECK_ALWAYS_SENSITIVE,
    HSM_CHECK_EXTRACTABLE,
    HSM_CHECK_NEVER_EXTRACTABLE,
    HSM_CHECK_LOCAL,
    HSM_CHECK_KEY_GEN_MECHANISM,
    HSM_CHECK_MODIFIABLE,
    HSM_CHECK_COPYABLE,
    HSM_CHECK_SIGN,
    HSM_CHECK_SIGN_RECOVER,
    HSM_CHECK_DECRYPT,
    HSM_CHECK_UNWRAP,
    HSM_CHECK_DERIVE,
    HSM_CHECK_ALLOWED_MECHANISMS,
    HSM_CHECK_WRAP_WITH_TRUSTED,
    HSM_CHECK_ALWAYS_AUTHENTICATE,
    HSM_CHECK_PUBLIC_HALF,
    HSM_CHECK_CERTIFICATE,
};

/* Further checks in a report with attempts. */
static const enum hsm_audit_check attempted_of_each_key[] = {
    HSM_CHECK_ATTEMPT_VALUE, HSM_CHECK_ATTEMPT_WRAP,         HSM_CHECK_ATTEMPT_SET,
    HSM_CHECK_ATTEMPT_COPY,  HSM_CHECK_ATTEMPT_SESSION_COPY, HSM_CHECK_ATTEMPT_DERIVE,
};

/* Statements whose verdict follows from a boolean attribute. */
static const struct {
    enum hsm_audit_check check;
    bool wanted;
} by_value[] = {
    {HSM_CHECK_PRIVATE, true},           {HSM_CHECK_SENSITIVE, true},
    {HSM_CHECK_ALWAYS_SENSITIVE, true},  {HSM_CHECK_EXTRACTABLE, false},
    {HSM_CHECK_NEVER_EXTRACTABLE, true}, {HSM_CHECK_MODIFIABLE, false},
    {HSM_CHECK_COPYABLE, false},         {HSM_CHECK_SIGN, true},
    {HSM_CHECK_SIGN_RECOVER, false},     {HSM_CHECK_DECRYPT, false},
    {HSM_CHECK_UNWRAP, false},           {HSM_CHECK_DERIVE, false},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

const char *
hsm_audit_member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

/* ---- the JWS ---- */

struct parts {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len;
    size_t signed_len; /* from the start of the header */
};

/* Three parts (RFC 7515 section 7.1); one line end may follow them in a file. */
static enum hsm_status
split(const char *jws, size_t len, struct parts *out, struct hsm_reason *why)
{
    const char *first = memchr(jws, '.', len);
    const char *second =
        first != NULL ? memchr(first + 1, '.', len - (size_t)(first + 1 - jws)) : NULL;

    if (len > 0 && jws[len - 1] == '\n')
        len--;
    if (len > HSM_AUDIT_REPORT_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "report: larger than %d octets",
                          HSM_AUDIT_REPORT_MAX);
    if (second == NULL || (size_t)(second - jws) >= len)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "report: not a compact JWS");
    out->header = jws;
    out->header_len = (size_t)(first - jws);
    out->payload = first + 1;
    out->payload_len = (size_t)(second - first) - 1;
    out->signature = second + 1;
    out->signature_len = len - (size_t)(second + 1 - jws);
    out->signed_len = (size_t)(second - jws);
    return HSM_OK;
}

static enum hsm_status
decode_json(const char *text, size_t len, const char *what, json_t **out, struct hsm_reason *why)
{
    uint8_t *octets = NULL;
    size_t octets_len = 0;
    enum hsm_status st = hsm_base64url_decode(text, len, &octets, &octets_len);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "%s: not base64url", what);
    st = hsm_json_parse((const char *)octets, octets_len, out, why);
    free(octets);
    return st;
}

/* The header must be exactly what this library writes: no other algorithm, no "crit", no key. */
static enum hsm_status
check_header(const struct parts *parts, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *header = NULL;
    enum hsm_status st = decode_json(parts->header, parts->header_len, "header", &header, why);

    if (st != HSM_OK)
        return st;
    if (json_object_size(header) != 2 || strcmp(hsm_audit_member(header, "alg"), "ES256") != 0 ||
        strcmp(hsm_audit_member(header, "typ"), HSM_AUDIT_JWS_TYPE) != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                          "header: not alg ES256 and typ " HSM_AUDIT_JWS_TYPE);
    return HSM_OK;
}

static enum hsm_status
public_key_of(const json_t *signer, EVP_PKEY **out, struct hsm_reason *why)
{
    const char *pem = hsm_audit_member(signer, "public_key");
    DEFER(BIO_free_all) BIO *bio = BIO_new_mem_buf(pem, (int)strlen(pem));
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    uint8_t *der = NULL;
    char hash[2 * HSM_SHA256_LEN + 1] = "";
    int len = key != NULL ? i2d_PUBKEY(key, &der) : 0;
    bool good = len > 0 && hsm_audit_sha256(der, (size_t)len, hash) == HSM_OK &&
                strcmp(hash, hsm_audit_member(signer, "spki_sha256")) == 0;

    OPENSSL_free(der);
    ERR_clear_error();
    if (!good) {
        EVP_PKEY_free(key);
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "signer: public_key is no public key, or not that of spki_sha256");
    }
    *out = key;
    return HSM_OK;
}

static enum hsm_status
check_signature(const struct parts *parts, const json_t *report, EVP_PKEY *trusted,
                struct hsm_reason *why)
{
    const json_t *signer = json_object_get(report, "signer");
    DEFER(EVP_PKEY_free) EVP_PKEY *key = NULL;
    uint8_t *sig = NULL;
    size_t sig_len = 0;
    enum hsm_status st;

    if (!json_is_object(signer))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "report: signed, and names no signer");
    st = public_key_of(signer, &key, why);
    if (st != HSM_OK)
        return st;
    if (trusted != NULL && EVP_PKEY_eq(trusted, key) != 1)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "signer: another key than the one to trust");
    st = hsm_base64url_decode(parts->signature, parts->signature_len, &sig, &sig_len);
    if (st == HSM_OK)
        st = hsm_es256_verify(key, parts->header, parts->signed_len, sig, sig_len);
    free(sig);
    return st == HSM_OK ? st : hsm_refuse(why, st, "signature: does not verify");
}

/* ---- consistency ---- */

static enum hsm_status
contradiction(struct hsm_reason *why, size_t index, const char *what)
{
    return hsm_refuse(why, HSM_ERR_MALFORMED, "statement %zu: %s", index, what);
}

static bool
has_finding(const json_t *statements, const char *id)
{
    const json_t *statement;
    size_t i;

    json_array_foreach(statements, i, statement)
    {
        if (strcmp(hsm_audit_member(statement, "id"), id) == 0 &&
            strcmp(hsm_audit_member(statement, "verdict"), "finding") == 0)
            return true;
    }
    return false;
}

/* True if the verdict is consistent with the value in the evidence. */
static bool
agrees(const json_t *statement, enum hsm_audit_check check, unsigned verdict)
{
    const json_t *value = json_object_get(json_object_get(statement, "evidence"), "value");

    for (size_t i = 0; i < COUNT(by_value); i++) {
        bool as_wanted = json_is_boolean(value) && json_is_true(value) == by_value[i].wanted;

        if (by_value[i].check != check)
            continue;
        if (json_is_null(value))
            return verdict == HSM_AUDIT_UNPROVEN || verdict == HSM_AUDIT_NOT_REPORTED;
        return json_is_boolean(value) && as_wanted == (verdict == HSM_AUDIT_PASS);
    }
    return true;
}

static enum hsm_status
check_statement(const json_t *statements, size_t i, size_t *counts, struct hsm_reason *why)
{
    const json_t *statement = json_array_get(statements, i);
    enum hsm_audit_check check = hsm_audit_check_of(hsm_audit_member(statement, "id"));
    unsigned verdict = hsm_audit_verdict_of(hsm_audit_member(statement, "verdict"));
    const char *cause = hsm_audit_member(statement, "cause");

    if (check == HSM_CHECK_NONE)
        return contradiction(why, i, "unknown id");
    if (verdict == HSM_AUDIT_VERDICTS)
        return contradiction(why, i, "unknown verdict");
    if (strcmp(hsm_audit_member(statement, "requirement"), hsm_audit_row(check)->requirement) != 0)
        return contradiction(why, i, "another requirement than its id has");
    if ((cause[0] != '\0') != (verdict == HSM_AUDIT_CONSEQUENCE))
        return contradiction(why, i, "a consequence without a cause, or a cause of none");
    if (cause[0] != '\0' && !has_finding(statements, cause))
        return contradiction(why, i, "its cause is no finding of this report");
    if (!agrees(statement, check, verdict))
        return contradiction(why, i, "its evidence does not give its verdict");
    counts[verdict]++;
    return HSM_OK;
}

static enum hsm_status
check_statements(const json_t *report, struct hsm_reason *why)
{
    const json_t *statements = json_object_get(report, "statements");
    const json_t *summary = json_object_get(report, "summary");
    size_t counts[HSM_AUDIT_VERDICTS] = {0};
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < json_array_size(statements); i++)
        st = check_statement(statements, i, counts, why);
    for (unsigned i = 0; st == HSM_OK && i < HSM_AUDIT_VERDICTS; i++) {
        const char *name = hsm_audit_verdict_name((enum hsm_audit_verdict)i);

        if (json_integer_value(json_object_get(summary, name)) != (json_int_t)counts[i])
            st = hsm_refuse(why, HSM_ERR_MALFORMED, "summary: %s is not how many there are", name);
    }
    return st;
}

static bool
is_stated(const json_t *statements, const char *subject, enum hsm_audit_check check)
{
    const char *id = hsm_audit_row(check)->id;
    const json_t *statement;
    size_t i;

    json_array_foreach(statements, i, statement)
    {
        if (strcmp(hsm_audit_member(statement, "id"), id) == 0 &&
            strcmp(hsm_audit_member(statement, "subject"), subject) == 0)
            return true;
    }
    return false;
}

static enum hsm_status
check_asked(const json_t *statements, const char *subject, const enum hsm_audit_check *checks,
            size_t count, struct hsm_reason *why)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_stated(statements, subject, checks[i]))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s is not stated of %s",
                              hsm_audit_row(checks[i])->id, subject);
    }
    return HSM_OK;
}

/* Every check required for a key of the inventory must be stated. */
static enum hsm_status
check_keys(const json_t *report, const json_t *objects, struct hsm_reason *why)
{
    const json_t *statements = json_object_get(report, "statements");
    bool attempts = json_is_true(json_object_get(report, "attempts"));
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < json_array_size(objects); i++) {
        const json_t *object = json_array_get(objects, i);
        const char *uri = hsm_audit_member(object, "uri");

        if (strcmp(hsm_audit_member(object, "class"), "CKO_PRIVATE_KEY") != 0)
            continue;
        st = check_asked(statements, uri, of_each_key, COUNT(of_each_key), why);
        if (st == HSM_OK && attempts)
            st = check_asked(statements, uri, attempted_of_each_key, COUNT(attempted_of_each_key),
                             why);
    }
    return st;
}

static enum hsm_status
check_inventory(const json_t *report, struct hsm_reason *why)
{
    const json_t *statements = json_object_get(report, "statements");
    const json_t *tokens = json_object_get(report, "tokens");
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < json_array_size(tokens); i++) {
        static const enum hsm_audit_check of_a_token[] = {HSM_CHECK_MODULE, HSM_CHECK_LOGIN};
        const json_t *token = json_array_get(tokens, i);

        st = check_asked(statements, hsm_audit_member(token, "uri"), of_a_token, COUNT(of_a_token),
                         why);
        if (st == HSM_OK)
            st = check_keys(report, json_object_get(token, "objects"), why);
    }
    return st;
}

enum hsm_status
hsm_audit_verify(const char *jws, size_t len, EVP_PKEY *trusted, json_t **out,
                 struct hsm_reason *why)
{
    DEFER(json_decref) json_t *report = NULL;
    struct parts parts = {0};
    enum hsm_status st = split(jws, len, &parts, why);

    if (st == HSM_OK)
        st = check_header(&parts, why);
    if (st == HSM_OK)
        st = decode_json(parts.payload, parts.payload_len, "report", &report, why);
    if (st == HSM_OK)
        st = hsm_audit_check_schema(report, why);
    if (st == HSM_OK)
        st = check_signature(&parts, report, trusted, why);
    if (st == HSM_OK)
        st = check_statements(report, why);
    if (st == HSM_OK)
        st = check_inventory(report, why);
    if (st != HSM_OK)
        return st;
    *out = report;
    report = NULL;
    return HSM_OK;
}
