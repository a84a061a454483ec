/* test_audit_report.c - mirrors hsm/src/audit_verify.c and audit_report.c: reports that were
 * tampered with, or signed with wrong contents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include <hsm/audit.h>
#include <hsm/base64url.h>

#include "audit_fixture.h"
#include "raw.h"
#include "softhsm.h"

#define PAYLOAD_STEP 397 /* one octet in this many is changed */

static char *jws; /* of a token with a planted fault, with attempts */
static size_t jws_len;
static json_t *report; /* its payload */
static EVP_PKEY *signer; /* public key of its signer */
static EVP_PKEY *liar; /* another system's audit key, in memory */

static enum hsm_status
verify(const char *text, size_t len, EVP_PKEY *trusted)
{
    struct hsm_reason why = {""};
    json_t *out = NULL;
    enum hsm_status st = hsm_audit_verify(text, len, trusted, &out, &why);

    assert_true((st == HSM_OK) == (out != NULL));
    assert_true(st == HSM_OK || st == HSM_ERR_NOMEM || why.text[0] != '\0');
    json_decref(out);
    return st;
}

static void
a_report_verifies_without_a_token(void **state)
{
    char *with_line_end = malloc(jws_len + 2);

    (void)state;
    assert_int_equal(verify(jws, jws_len, NULL), HSM_OK);
    assert_int_equal(verify(jws, jws_len, signer), HSM_OK);
    snprintf(with_line_end, jws_len + 2, "%s\n", jws);
    assert_int_equal(verify(with_line_end, jws_len + 1, signer), HSM_OK);
    free(with_line_end);
}

static void
another_signer_is_not_trusted(void **state)
{
    (void)state;
    assert_int_equal(verify(jws, jws_len, liar), HSM_ERR_UNTRUSTED);
}

static void
a_changed_octet_is_noticed(void **state)
{
    const char *payload = strchr(jws, '.') + 1;
    const char *signature = strrchr(jws, '.') + 1;
    char *changed = malloc(jws_len + 1);

    (void)state;
    assert_non_null(changed);
    for (size_t i = 0; i < jws_len; i++) {
        bool in_payload = jws + i >= payload && jws + i < signature;

        if (in_payload && i % PAYLOAD_STEP != 0)
            continue;
        memcpy(changed, jws, jws_len + 1);
        changed[i] = (char)(changed[i] == 'A' ? 'B' : 'A');
        assert_int_not_equal(verify(changed, jws_len, signer), HSM_OK);
    }
    free(changed);
}

static void
a_report_cut_short_or_drawn_out_is_noticed(void **state)
{
    static const char *const bad[] = {
        "", ".", "..", "a.b.c", "not a report", "\n", "eyJhbGciOiJub25lIn0.e30."};
    char *longer = malloc(jws_len + 8);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(verify(bad[i], strlen(bad[i]), NULL), HSM_OK);
    for (size_t cut = 1; cut < jws_len; cut += cut < 100 ? 1 : 997)
        assert_int_not_equal(verify(jws, jws_len - cut, NULL), HSM_OK);
    snprintf(longer, jws_len + 8, "%s.e30", jws);
    assert_int_not_equal(verify(longer, jws_len + 4, NULL), HSM_OK);
    snprintf(longer, jws_len + 8, "%sA", jws);
    assert_int_not_equal(verify(longer, jws_len + 1, NULL), HSM_OK);
    free(longer);
}

/* ---- statements that a signer may not make ---- */

static char *
encode(const char *header, const char *payload, EVP_PKEY *key, size_t *len)
{
    char *head = hsm_base64url_encode(header, strlen(header));
    char *body = hsm_base64url_encode(payload, strlen(payload));
    size_t size = strlen(head) + strlen(body) + 100;
    char *out = malloc(size);
    uint8_t sig[64];
    int n = snprintf(out, size, "%s.%s", head, body);

    peer_sign_es256(key, out, (size_t)n, sig);
    out[n] = '.';
    *len = (size_t)n + 1 + hsm_base64url_write(sig, sizeof(sig), out + n + 1);
    free(head);
    free(body);
    return out;
}

static void
name_signer(json_t *value, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    json_t *who = json_object_get(value, "signer");
    uint8_t *der = NULL;
    int der_len = i2d_PUBKEY(key, &der);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hash[2 * SHA256_DIGEST_LENGTH + 1];
    char *pem = NULL;
    long pem_len;

    assert_true(der_len > 0);
    SHA256(der, (size_t)der_len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    pem_len = BIO_get_mem_data(bio, &pem);
    json_object_set_new(who, "public_key", json_stringn(pem, (size_t)pem_len));
    json_object_set_new(who, "spki_sha256", json_string(hash));
    OPENSSL_free(der);
    BIO_free(bio);
}

#define HEADER "{\"alg\":\"ES256\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\"}"

static enum hsm_status
verify_lie(json_t *lie, const char *header)
{
    char *payload;
    char *text;
    size_t len = 0;
    enum hsm_status st;

    payload = json_dumps(lie, JSON_COMPACT);
    text = encode(header, payload, liar, &len);
    st = verify(text, len, NULL);
    free(text);
    free(payload);
    return st;
}

static json_t *
statement_with(json_t *value, const char *id, const char *verdict)
{
    json_t *statement;
    size_t i;

    json_array_foreach(json_object_get(value, "statements"), i, statement)
    {
        if (strcmp(json_string_value(json_object_get(statement, "id")), id) == 0 &&
            strcmp(json_string_value(json_object_get(statement, "verdict")), verdict) == 0)
            return statement;
    }
    fail_msg("no statement %s %s", id, verdict);
    return NULL;
}

static json_t *
statement_of(json_t *value, const char *id)
{
    return statement_with(value, id, "pass");
}

static void
set(json_t *object, const char *name, json_t *value)
{
    assert_int_equal(json_object_set_new(object, name, value), 0);
}

static json_t *
first_token(json_t *value)
{
    return json_array_get(json_object_get(value, "tokens"), 0);
}

static void
no_change(json_t *r)
{
    (void)r;
}

static void
another_format(json_t *r)
{
    set(r, "format", json_string("sti-hsm-audit/2"));
}

static void
a_member_less(json_t *r)
{
    json_object_del(r, "host");
}

static void
a_member_more(json_t *r)
{
    set(r, "comment", json_string("all is well"));
}

static void
a_member_more_below(json_t *r)
{
    set(statement_of(r, "key.sign"), "comment", json_string("all is well"));
}

static void
another_type(json_t *r)
{
    set(r, "attempts", json_integer(1));
}

static void
an_unknown_id(json_t *r)
{
    set(statement_of(r, "key.sign"), "id", json_string("key.beauty"));
}

static void
an_unknown_verdict(json_t *r)
{
    set(statement_of(r, "key.sign"), "verdict", json_string("fine"));
}

static void
a_finding_passed(json_t *r)
{
    json_t *summary = json_object_get(r, "summary");

    set(statement_with(r, "key.extractable", "finding"), "verdict", json_string("pass"));
    set(summary, "pass", json_integer(json_integer_value(json_object_get(summary, "pass")) + 1));
    set(summary, "finding",
        json_integer(json_integer_value(json_object_get(summary, "finding")) - 1));
}

static void
another_value(json_t *r)
{
    set(json_object_get(statement_of(r, "key.sensitive"), "evidence"), "value", json_false());
}

static void
another_requirement(json_t *r)
{
    set(statement_of(r, "key.sensitive"), "requirement", json_string("none"));
}

static void
a_wrong_count(json_t *r)
{
    set(json_object_get(r, "summary"), "finding", json_integer(0));
}

static void
a_statement_less(json_t *r)
{
    json_t *statements = json_object_get(r, "statements");
    json_t *summary = json_object_get(r, "summary");
    json_t *statement;
    size_t i;

    json_array_foreach(statements, i, statement)
    {
        if (strcmp(json_string_value(json_object_get(statement, "id")), "key.sensitive") == 0)
            break;
    }
    json_array_remove(statements, i);
    set(summary, "pass", json_integer(json_integer_value(json_object_get(summary, "pass")) - 1));
}

static void
a_cause_without_a_finding(json_t *r)
{
    set(statement_with(r, "key.never-extractable", "consequence"), "cause",
        json_string("key.local"));
}

static void
a_consequence_without_a_cause(json_t *r)
{
    json_object_del(statement_with(r, "key.never-extractable", "consequence"), "cause");
}

static void
no_signer(json_t *r)
{
    set(r, "signer", json_null());
}

static void
another_hash_of_the_signer(json_t *r)
{
    set(json_object_get(r, "signer"), "spki_sha256",
        json_string("0000000000000000000000000000000000000000000000000000000000000000"));
}

static void
a_hash_that_is_none(json_t *r)
{
    set(json_object_get(first_token(r), "module"), "sha256", json_string("unknown"));
}

static void
controls_for_the_terminal(json_t *r)
{
    set(r, "host", json_string("\033[2Jclean"));
}

static void
text_beyond_ascii(json_t *r)
{
    set(json_object_get(first_token(r), "token"), "label", json_string("caf\xc3\xa9"));
}

static void
a_key_without_its_attempts(json_t *r)
{
    json_t *objects = json_object_get(first_token(r), "objects");
    json_t *one = json_deep_copy(json_array_get(objects, 0));

    set(one, "class", json_string("CKO_PRIVATE_KEY"));
    set(one, "uri", json_string("pkcs11:object=kept-quiet;type=private"));
    json_array_append_new(objects, one);
}

static const struct {
    void (*change)(json_t *r);
    enum hsm_status wanted;
} lies[] = {
    {no_change, HSM_OK},
    {another_format, HSM_ERR_UNSUPPORTED},
    {a_member_less, HSM_ERR_MALFORMED},
    {a_member_more, HSM_ERR_MALFORMED},
    {a_member_more_below, HSM_ERR_MALFORMED},
    {another_type, HSM_ERR_MALFORMED},
    {an_unknown_id, HSM_ERR_MALFORMED},
    {an_unknown_verdict, HSM_ERR_MALFORMED},
    {a_finding_passed, HSM_ERR_MALFORMED},
    {another_value, HSM_ERR_MALFORMED},
    {another_requirement, HSM_ERR_MALFORMED},
    {a_wrong_count, HSM_ERR_MALFORMED},
    {a_statement_less, HSM_ERR_MALFORMED},
    {a_cause_without_a_finding, HSM_ERR_MALFORMED},
    {a_consequence_without_a_cause, HSM_ERR_MALFORMED},
    {no_signer, HSM_ERR_MALFORMED},
    {another_hash_of_the_signer, HSM_ERR_MALFORMED},
    {a_hash_that_is_none, HSM_ERR_MALFORMED},
    {controls_for_the_terminal, HSM_ERR_MALFORMED},
    {text_beyond_ascii, HSM_ERR_MALFORMED},
    {a_key_without_its_attempts, HSM_ERR_MALFORMED},
};

static void
a_report_that_contradicts_itself_is_refused_though_it_is_signed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        json_t *lie = json_deep_copy(report);

        name_signer(lie, liar);
        lies[i].change(lie);
        print_message("%zu\n", i);
        assert_int_equal(verify_lie(lie, HEADER), lies[i].wanted);
        json_decref(lie);
    }
}

static void
other_headers_are_refused(void **state)
{
    static const char *const headers[] = {
        "{}",
        "{\"alg\":\"none\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\"}",
        "{\"alg\":\"HS256\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\"}",
        "{\"alg\":\"ES256\",\"typ\":\"JWT\"}",
        "{\"alg\":\"ES256\"}",
        "{\"alg\":\"ES256\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\",\"crit\":[\"x\"]}",
        "{\"alg\":\"ES256\",\"alg\":\"none\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\"}",
    };
    json_t *lie = json_deep_copy(report);

    (void)state;
    name_signer(lie, liar);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        assert_int_not_equal(verify_lie(lie, headers[i]), HSM_OK);
    json_decref(lie);
}

static void
make_report(struct hsm_token *token, struct hsm_key *key)
{
    const struct hsm_audit_config config = {.program = "test_audit_report",
                                            .nonce = "of the auditor",
                                            .signer = key,
                                            .attempts = true,
                                            .now = AUDIT_NOW};
    struct hsm_audit *audit = NULL;
    const json_t *made = NULL;

    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    assert_int_equal(hsm_audit_token(audit, token), HSM_OK);
    assert_int_equal(hsm_audit_finish(audit, &made), HSM_OK);
    assert_int_equal(hsm_audit_sign(audit, &jws, &jws_len), HSM_OK);
    report = json_deep_copy(made);
    hsm_audit_free(audit);
}

static int
start(void **state)
{
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct raw *raw;

    (void)state;
    softhsm_start();
    token = softhsm_token("reported");
    raw = raw_open("reported");
    assert_int_equal(hsm_key_generate(token, "audit", &key), HSM_OK);
    assert_true(raw_plant(raw, RAW_PLANT_EXTRACTABLE, "planted", 1));
    make_report(token, key);
    signer = hsm_key_public(key);
    EVP_PKEY_up_ref(signer);
    liar = peer_key_new("P-256");
    hsm_key_free(key);
    raw_close(raw);
    hsm_token_close(token);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    json_decref(report);
    free(jws);
    EVP_PKEY_free(signer);
    EVP_PKEY_free(liar);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_verifies_without_a_token),
        cmocka_unit_test(another_signer_is_not_trusted),
        cmocka_unit_test(a_changed_octet_is_noticed),
        cmocka_unit_test(a_report_cut_short_or_drawn_out_is_noticed),
        cmocka_unit_test(a_report_that_contradicts_itself_is_refused_though_it_is_signed),
        cmocka_unit_test(other_headers_are_refused),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
