/* test_jws.c - mirrors acme/src/jws.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <acme/json.h>
#include <acme/jwk.h>
#include <acme/jws.h>

#include "data.h"
#include "peer_jws.h"
#include "softhsm.h"

#define COUNT(array)  (sizeof(array) / sizeof((array)[0]))
#define LINE_MAX_SIZE 8192 /* octets of a Wycheproof line */

static struct hsm_token *token;
static struct hsm_key *token_key;

static int
set_up(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("jose");
    return hsm_key_generate(token, "signer", &token_key) == HSM_OK ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    hsm_key_free(token_key);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

static const char *
member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    if (text == NULL)
        fail_msg("vector without \"%s\"", name);
    return text;
}

static EVP_PKEY *
key_of(const json_t *jwk)
{
    struct hsm_reason why = {""};
    EVP_PKEY *key = NULL;

    if (acme_jwk_parse(jwk, &key, &why) != HSM_OK)
        fail_msg("%s", why.text);
    return key;
}

/* Parse and verify; returns the first status other than HSM_OK. */
static enum hsm_status
judge(const char *text, EVP_PKEY *key, struct hsm_reason *why)
{
    struct acme_jws *jws = NULL;
    enum hsm_status st = acme_jws_parse_compact(text, strlen(text), &jws, why);

    if (st == HSM_OK)
        st = acme_jws_verify(jws, key, why);
    acme_jws_free(jws);
    return st;
}

static void
judges(const char *text, EVP_PKEY *key, enum hsm_status wanted, const char *reason)
{
    struct hsm_reason why = {""};
    enum hsm_status st = judge(text, key, &why);

    if (st != wanted || strstr(why.text, reason) == NULL)
        fail_msg("%s: %s: \"%s\", not \"%s\"", text, hsm_status_text(st), why.text, reason);
}

static void
the_example_of_rfc_7515_verifies(void **state)
{
    json_t *vector = data_json("rfc/rfc7515_a3_es256.json");
    const char *text = member(vector, "jws");
    const char *payload = member(vector, "payload_utf8");
    EVP_PKEY *key = key_of(json_object_get(json_object_get(vector, "key"), "jwk"));
    struct acme_jws *jws = NULL;
    struct hsm_reason why = {""};
    size_t len = 0;

    (void)state;
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_OK);
    assert_int_equal(acme_jws_verify(jws, key, &why), HSM_OK);
    assert_string_equal(acme_jws_payload(jws, &len), payload);
    assert_int_equal(len, strlen(payload));
    assert_string_equal(acme_jws_header_text(jws, &len), "{\"alg\":\"ES256\"}");
    assert_int_equal(len, 15);
    assert_string_equal(acme_jws_header_string(jws, "alg"), "ES256");
    assert_null(acme_jws_header_string(jws, "kid"));
    acme_jws_free(jws);
    EVP_PKEY_free(key);
    json_decref(vector);
}

/* Every character of the example is significant, including the last bits of each part. */
static void
no_character_can_be_changed(void **state)
{
    json_t *vector = data_json("rfc/rfc7515_a3_es256.json");
    char *text = strdup(member(vector, "jws"));
    EVP_PKEY *key = key_of(json_object_get(json_object_get(vector, "key"), "jwk"));

    (void)state;
    for (size_t i = 0; text[i] != '\0'; i++) {
        struct hsm_reason why;
        char old = text[i];

        text[i] = old == 'A' ? 'B' : 'A';
        if (judge(text, key, &why) == HSM_OK)
            fail_msg("changed at %zu, still verifies", i);
        text[i] = old;
    }
    judges(text, key, HSM_OK, "");
    free(text);
    EVP_PKEY_free(key);
    json_decref(vector);
}

static void
texts_that_are_no_compact_jws_are_refused(void **state)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"", "three parts"},
        {".", "three parts"},
        {"..", "JSON"},
        {"eyJhbGciOiJFUzI1NiJ9.e30", "three parts"},
        {"eyJhbGciOiJFUzI1NiJ9.e30.AA.", "three parts"},
        {"eyJhbGciOiJFUzI1NiJ9.e30.AA.AA", "three parts"},
        {"eyJhbGciOiJFUzI1NiJ9=.e30.AA", "header is not base64url"},
        {" eyJhbGciOiJFUzI1NiJ9.e30.AA", "header is not base64url"},
        {"eyJhbGciOiJFUzI1NiJ9.e30=.AA", "payload is not base64url"},
        {"eyJhbGciOiJFUzI1NiJ9.e31.AA", "payload is not base64url"}, /* trailing bits */
        {"eyJhbGciOiJFUzI1NiJ9.+/8.AA", "payload is not base64url"},
        {"eyJhbGciOiJFUzI1NiJ9.e30.AA==", "signature is not base64url"},
        {"eyJhbGciOiJFUzI1NiJ9.e30.AB", "signature is not base64url"},
        {"eyJhbGciOiJFUzI1NiJ9.e30.AA\n", "signature is not base64url"},
        {"e30.e30.AA", "alg: missing"},
        {"eyJhbGciOjF9.e30.AA", "alg: not a string"},
        {"eyJhbGciOm51bGx9.e30.AA", "alg: not a string"},
        {"eyJhbGciOiJFUzI1NiIsImFsZyI6Im5vbmUifQ.e30.AA", "twice"},
        {"eyJhbGciOiJFUzI1NiJ9e30.e30.AA", "something follows"},
        {"WyJhbGciXQ.e30.AA", "not an object"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct acme_jws *jws = NULL;
        struct hsm_reason why = {""};
        enum hsm_status st = acme_jws_parse_compact(bad[i].text, strlen(bad[i].text), &jws, &why);

        if (st != HSM_ERR_MALFORMED || strstr(why.text, bad[i].reason) == NULL)
            fail_msg("%s: %s: %s", bad[i].text, hsm_status_text(st), why.text);
        assert_null(jws);
    }
}

static void
parts_meet_their_bounds(void **state)
{
    static const char start[] = "{\"alg\":\"ES256\",\"pad\":\"";
    char header[ACME_JWS_HEADER_MAX + 8];
    uint8_t sig[ACME_JWS_SIGNATURE_MAX + 1] = {0};
    size_t pad = ACME_JWS_HEADER_MAX - strlen(start) - 2;
    struct acme_jws *jws = NULL;
    struct hsm_reason why = {""};
    char *text;

    (void)state;
    memset(header, 'x', sizeof(header));
    memcpy(header, start, strlen(start));
    memcpy(header + strlen(start) + pad, "\"}", 3);
    text = peer_jws_with(header, "{}", sig, 64);
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_OK);
    acme_jws_free(jws);
    jws = NULL;
    free(text);

    memcpy(header + strlen(start) + pad + 2, "  ", 3);
    text = peer_jws_with(header, "{}", sig, 64);
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "JWS: header longer than 4096 octets");
    free(text);

    text = peer_jws_with("{\"alg\":\"ES256\"}", "{}", sig, sizeof(sig));
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "JWS: signature longer than 512 octets");
    free(text);
    assert_null(jws);
}

static void
algorithms_other_than_es256_are_refused_by_name(void **state)
{
    static const struct {
        const char *header, *reason;
    } bad[] = {
        {"{\"alg\":\"none\"}", "alg \"none\""},
        {"{\"alg\":\"None\"}", "alg \"None\""},
        {"{\"alg\":\"\"}", "alg \"\""},
        {"{\"alg\":\"es256\"}", "alg \"es256\""},
        {"{\"alg\":\"ES256 \"}", "alg \"ES256 \""},
        {"{\"alg\":\"ES256K\"}", "alg \"ES256K\""},
        {"{\"alg\":\"ES384\"}", "alg \"ES384\""},
        {"{\"alg\":\"HS256\"}", "alg \"HS256\""},
        {"{\"alg\":\"RS256\"}", "alg \"RS256\""},
        {"{\"alg\":\"EdDSA\"}", "alg \"EdDSA\""},
        {"{\"alg\":\"a\\u0007\xc3\xa9\"}", "alg \"a???\""},
        {"{\"alg\":\"ES256\",\"crit\":[\"exp\"],\"exp\":1}", "crit"},
        {"{\"alg\":\"ES256\",\"crit\":[]}", "crit"},
        {"{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":false}", "crit"},
        {"{\"alg\":\"ES256\",\"b64\":false}", "b64"},
        {"{\"alg\":\"ES256\",\"b64\":\"true\"}", "b64"},
    };
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *text = peer_jws(key, bad[i].header, "{\"iss\":\"joe\"}");

        judges(text, key, HSM_ERR_UNSUPPORTED, bad[i].reason);
        free(text);
    }
    EVP_PKEY_free(key);
}

static void
an_unsigned_jws_is_refused(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    char *none = peer_jws_with("{\"alg\":\"none\"}", "{}", "", 0);
    char *bare = peer_jws_with("{\"alg\":\"ES256\"}", "{}", "", 0);

    (void)state;
    judges(none, key, HSM_ERR_UNSUPPORTED, "alg \"none\"");
    judges(bare, key, HSM_ERR_MALFORMED, "signature of 0 octets, not 64");
    free(bare);
    free(none);
    EVP_PKEY_free(key);
}

/* The MAC is right, with a key known to an attacker: the public key as DER and as PEM. */
static void
hs256_keyed_with_the_public_key_is_refused(void **state)
{
    static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    EVP_PKEY *key = peer_key_new("P-256");
    char *input = peer_signing_input(header, "{}");
    BIO *pem = BIO_new(BIO_s_mem());
    uint8_t *der = NULL, mac[32];
    char *pem_text = NULL, *text;
    int der_len = i2d_PUBKEY(key, &der);
    long pem_len;

    (void)state;
    assert_int_equal(PEM_write_bio_PUBKEY(pem, key), 1);
    pem_len = BIO_get_mem_data(pem, &pem_text);
    assert_non_null(HMAC(EVP_sha256(), der, der_len, (uint8_t *)input, strlen(input), mac, NULL));
    text = peer_jws_with(header, "{}", mac, sizeof(mac));
    judges(text, key, HSM_ERR_UNSUPPORTED, "alg \"HS256\" is not ES256");
    free(text);
    assert_non_null(
        HMAC(EVP_sha256(), pem_text, (int)pem_len, (uint8_t *)input, strlen(input), mac, NULL));
    text = peer_jws_with(header, "{}", mac, sizeof(mac));
    judges(text, key, HSM_ERR_UNSUPPORTED, "alg \"HS256\" is not ES256");
    free(text);
    OPENSSL_free(der);
    BIO_free(pem);
    free(input);
    EVP_PKEY_free(key);
}

/* The DER form that a signer failed to convert, and one octet more or less. */
static void
signatures_of_another_length_are_refused(void **state)
{
    static const size_t lengths[] = {1, 32, 63, 65, 70, 71, 72, 96, 128};
    uint8_t sig[128] = {0x30, 0x44, 0x02, 0x20};
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        char *text = peer_jws_with("{\"alg\":\"ES256\"}", "{}", sig, lengths[i]);

        judges(text, key, HSM_ERR_MALFORMED, "octets, not 64");
        free(text);
    }
    EVP_PKEY_free(key);
}

static void
another_key_does_not_verify(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    EVP_PKEY *other = peer_key_new("P-256");
    EVP_PKEY *p384 = peer_key_new("P-384");
    char *text = peer_jws(key, "{\"alg\":\"ES256\",\"b64\":true}", "foo");

    (void)state;
    judges(text, key, HSM_OK, "");
    judges(text, other, HSM_ERR_UNTRUSTED, "does not verify");
    judges(text, p384, HSM_ERR_UNSUPPORTED, "not on P-256");
    free(text);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(other);
    EVP_PKEY_free(key);
}

/* One line of the table: tcId, result, flags, JWK, JWS, comment. Returns false for a heading. */
static bool
wycheproof_case(char *line)
{
    struct hsm_reason why = {""};
    char *field[6] = {line};
    json_t *jwk = NULL;
    EVP_PKEY *key = NULL;
    enum hsm_status st;
    bool valid;

    if (line[0] == '#')
        return false;
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 1; i < COUNT(field); i++) {
        char *tab = strchr(field[i - 1], '\t');

        assert_non_null(tab);
        *tab = '\0';
        field[i] = tab + 1;
    }
    valid = strcmp(field[1], "valid") == 0;
    assert_true(valid || strcmp(field[1], "invalid") == 0);
    assert_int_equal(acme_json_parse(field[3], strlen(field[3]), &jwk, &why), HSM_OK);
    st = acme_jwk_parse(jwk, &key, &why);
    if (st == HSM_OK)
        st = judge(field[4], key, &why);
    if ((st == HSM_OK) != valid)
        fail_msg("%s (%s): %s: %s", field[0], field[5], hsm_status_text(st), why.text);
    EVP_PKEY_free(key);
    json_decref(jwk);
    return true;
}

static void
wycheproof_agrees(void **state)
{
    const char *path = shared_path("interop/wycheproof/jws_es256.tsv");
    char line[LINE_MAX_SIZE];
    size_t cases = 0;
    FILE *file;

    (void)state;
    if (path == NULL)
        skip();
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        assert_non_null(strchr(line, '\n'));
        cases += wycheproof_case(line);
    }
    fclose(file);
    assert_int_equal(cases, 41);
}

/* The key that an ACME request refers to: its jwk, or the account's key. */
static EVP_PKEY *
key_of_request(const struct acme_jws *jws)
{
    const json_t *jwk = json_object_get(acme_jws_header(jws), "jwk");

    if (jwk != NULL)
        return key_of(jwk);
    assert_non_null(acme_jws_header_string(jws, "kid"));
    return peer_key_from_pem("self/acme-account.key.pem");
}

static struct acme_jws *
request_of(const json_t *body)
{
    struct acme_jws *jws = NULL;
    struct hsm_reason why = {""};

    if (acme_jws_parse_object(body, &jws, &why) != HSM_OK)
        fail_msg("%s", why.text);
    return jws;
}

static void
acme_requests_verify_and_name_their_url(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json"), *step;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(vectors, "steps"), i, step)
    {
        struct acme_jws *jws = request_of(json_object_get(step, "body"));
        EVP_PKEY *key = key_of_request(jws);
        struct hsm_reason why = {""};
        char url[256];

        if (acme_jws_verify(jws, key, &why) != HSM_OK)
            fail_msg("%s: %s", member(step, "name"), why.text);
        snprintf(url, sizeof(url), "%s%s", member(vectors, "base"), member(step, "path"));
        assert_string_equal(acme_jws_header_string(jws, "url"), url);
        assert_non_null(acme_jws_header_string(jws, "nonce"));
        EVP_PKEY_free(key);
        acme_jws_free(jws);
    }
    assert_int_equal(i, 12);
    json_decref(vectors);
}

static void
acme_requests_do_not_verify_with_parts_of_another(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json");
    json_t *steps = json_object_get(vectors, "steps");

    (void)state;
    for (size_t i = 0; i + 1 < json_array_size(steps); i++) {
        json_t *body = json_object_get(json_array_get(steps, i), "body");
        json_t *next = json_object_get(json_array_get(steps, i + 1), "body");
        struct hsm_reason why = {""};
        struct acme_jws *jws;
        EVP_PKEY *key;

        json_object_set(body, "signature", json_object_get(next, "signature"));
        jws = request_of(body);
        key = key_of_request(jws);
        assert_int_equal(acme_jws_verify(jws, key, &why), HSM_ERR_UNTRUSTED);
        EVP_PKEY_free(key);
        acme_jws_free(jws);
    }
    json_decref(vectors);
}

/* The parsed payload of the step with that name; the caller decrefs *payload. */
static const json_t *
step_payload(const json_t *vectors, const char *name, json_t **payload)
{
    struct hsm_reason why = {""};
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(vectors, "steps"), i, step)
    {
        struct acme_jws *jws;
        const char *text;
        size_t len;

        if (strcmp(member(step, "name"), name) != 0)
            continue;
        jws = request_of(json_object_get(step, "body"));
        text = acme_jws_payload(jws, &len);
        assert_int_equal(acme_json_parse(text, len, payload, &why), HSM_OK);
        acme_jws_free(jws);
        return *payload;
    }
    fail_msg("no step %s", name);
    return NULL;
}

static void
the_inner_jws_of_a_key_change_verifies_with_the_new_key(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json"), *payload = NULL;
    struct acme_jws *inner = request_of(step_payload(vectors, "keyChange", &payload));
    EVP_PKEY *new_key = peer_key_from_pem("self/acme-account-new.key.pem");
    EVP_PKEY *old_key = peer_key_from_pem("self/acme-account.key.pem");
    EVP_PKEY *named = key_of(json_object_get(acme_jws_header(inner), "jwk"));
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(EVP_PKEY_eq(named, new_key), 1);
    assert_int_equal(acme_jws_verify(inner, new_key, &why), HSM_OK);
    assert_int_equal(acme_jws_verify(inner, old_key, &why), HSM_ERR_UNTRUSTED);
    EVP_PKEY_free(named);
    EVP_PKEY_free(old_key);
    EVP_PKEY_free(new_key);
    acme_jws_free(inner);
    json_decref(payload);
    json_decref(vectors);
}

static void
the_mac_of_an_external_account_binding_is_no_signature(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json"), *payload = NULL;
    const json_t *account = step_payload(vectors, "newAccount+EAB", &payload);
    struct acme_jws *binding = request_of(json_object_get(account, "externalAccountBinding"));
    EVP_PKEY *key = peer_key_from_pem("self/acme-account.key.pem");
    struct hsm_reason why = {""};

    (void)state;
    assert_string_equal(acme_jws_header_string(binding, "alg"), "HS256");
    assert_int_equal(acme_jws_verify(binding, key, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "HS256"));
    EVP_PKEY_free(key);
    acme_jws_free(binding);
    json_decref(payload);
    json_decref(vectors);
}

static void
the_mac_of_an_external_account_binding_verifies_with_its_key_alone(void **state)
{
    json_t *vectors = data_json("self/acme_requests.json"), *payload = NULL;
    const json_t *account = step_payload(vectors, "newAccount+EAB", &payload);
    struct acme_jws *binding = request_of(json_object_get(account, "externalAccountBinding"));
    struct acme_jws *request =
        request_of(json_object_get(json_array_get(json_object_get(vectors, "steps"), 0), "body"));
    const char *text =
        json_string_value(json_object_get(json_object_get(vectors, "eab"), "mac_key_b64u"));
    uint8_t *key = NULL;
    size_t len;

    (void)state;
    assert_int_equal(acme_base64url_decode(text, strlen(text), &key, &len), HSM_OK);
    assert_int_equal(acme_jws_verify_mac(binding, key, len, NULL), HSM_OK);
    assert_int_equal(acme_jws_verify_mac(binding, key, len - 1, NULL), HSM_ERR_UNTRUSTED);
    assert_int_equal(acme_jws_verify_mac(request, key, len, NULL), HSM_ERR_UNSUPPORTED);
    key[0] ^= 1;
    assert_int_equal(acme_jws_verify_mac(binding, key, len, NULL), HSM_ERR_UNTRUSTED);
    free(key);
    acme_jws_free(binding);
    acme_jws_free(request);
    json_decref(payload);
    json_decref(vectors);
}

#define PROTECTED "\"protected\":\"eyJhbGciOiJFUzI1NiJ9\""

static void
flattened_jws_have_three_members(void **state)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"[]", "not an object"},
        {"{" PROTECTED ",\"payload\":\"\"}", "signature: missing"},
        {"{" PROTECTED ",\"signature\":\"AA\"}", "payload: missing"},
        {"{\"payload\":\"\",\"signature\":\"AA\"}", "protected: missing"},
        {"{" PROTECTED ",\"payload\":{},\"signature\":\"AA\"}", "payload: not a string"},
        {"{" PROTECTED ",\"payload\":null,\"signature\":\"AA\"}", "payload: not a string"},
        {"{" PROTECTED ",\"payload\":\"\",\"signature\":\"AA\",\"header\":{\"kid\":\"1\"}}",
         "only protected"},
        {"{" PROTECTED ",\"payload\":\"\",\"signature\":\"AA\",\"signatures\":[]}",
         "only protected"},
        {"{" PROTECTED ",\"payload\":\"\",\"payload\":\"e30\",\"signature\":\"AA\"}", "twice"},
        {"{" PROTECTED ",\"payload\":\"\",\"signature\":\"AA==\"}", "signature is not base64url"},
        {"{\"protected\":\"\",\"payload\":\"\",\"signature\":\"AA\"}", "ends too early"},
        {"{" PROTECTED ",\"payload\":\"\",\"signature\":\"AA\"}x", "something follows"},
    };
    static const char good[] = "{" PROTECTED ",\"payload\":\"\",\"signature\":\"AA\"}";
    struct acme_jws *jws = NULL;
    struct hsm_reason why = {""};
    size_t len = 99;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        enum hsm_status st = acme_jws_parse_flattened(bad[i].text, strlen(bad[i].text), &jws, &why);

        if (st != HSM_ERR_MALFORMED || strstr(why.text, bad[i].reason) == NULL)
            fail_msg("%s: %s: %s", bad[i].text, hsm_status_text(st), why.text);
        assert_null(jws);
    }
    assert_int_equal(acme_jws_parse_flattened(good, strlen(good), &jws, &why), HSM_OK);
    assert_string_equal(acme_jws_payload(jws, &len), ""); /* POST-as-GET */
    assert_int_equal(len, 0);
    acme_jws_free(jws);
}

static void
what_the_token_signs_verifies(void **state)
{
    static const char payload[] = "{\"a\":\"\xc3\xa9\"}\0with a NUL";
    struct acme_jws *jws = NULL;
    struct hsm_reason why = {""};
    char *text = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(
        acme_jws_sign_compact("{\"alg\":\"ES256\"}", payload, sizeof(payload), token_key, &text),
        HSM_OK);
    assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_OK);
    assert_int_equal(acme_jws_verify(jws, hsm_key_public(token_key), &why), HSM_OK);
    assert_memory_equal(acme_jws_payload(jws, &len), payload, sizeof(payload));
    assert_int_equal(len, sizeof(payload));
    acme_jws_free(jws);
    free(text);
}

static void
what_the_token_signs_flattened_verifies(void **state)
{
    static const char *const payloads[] = {"", "{}", "{\"csr\":\"AA\"}"};

    (void)state;
    for (size_t i = 0; i < COUNT(payloads); i++) {
        struct acme_jws *jws = NULL;
        struct hsm_reason why = {""};
        char *text = NULL;
        size_t len = 0;

        assert_int_equal(acme_jws_sign_flattened("{\"alg\":\"ES256\",\"nonce\":\"n\"}", payloads[i],
                                                 strlen(payloads[i]), token_key, &text),
                         HSM_OK);
        assert_int_equal(acme_jws_parse_flattened(text, strlen(text), &jws, &why), HSM_OK);
        assert_int_equal(acme_jws_verify(jws, hsm_key_public(token_key), &why), HSM_OK);
        assert_string_equal(acme_jws_payload(jws, &len), payloads[i]);
        assert_string_equal(acme_jws_header_string(jws, "nonce"), "n");
        acme_jws_free(jws);
        free(text);
    }
}

static void
what_is_too_long_is_not_signed(void **state)
{
    char *long_text = malloc(ACME_JWS_PAYLOAD_MAX + 2);
    char *text = NULL;

    (void)state;
    memset(long_text, ' ', ACME_JWS_PAYLOAD_MAX + 1);
    long_text[ACME_JWS_PAYLOAD_MAX + 1] = '\0';
    assert_int_equal(acme_jws_sign_compact("{\"alg\":\"ES256\"}", long_text,
                                           ACME_JWS_PAYLOAD_MAX + 1, token_key, &text),
                     HSM_ERR_USAGE);
    assert_int_equal(acme_jws_sign_flattened(long_text, "", 0, token_key, &text), HSM_ERR_USAGE);
    assert_null(text);
    free(long_text);
}

static void
x5u_is_an_https_url(void **state)
{
    static const struct {
        const char *header, *reason;
    } bad[] = {
        {"{\"alg\":\"ES256\"}", "x5u: missing"},
        {"{\"alg\":\"ES256\",\"x5u\":[\"https://a\"]}", "x5u: not a string"},
        {"{\"alg\":\"ES256\",\"x5u\":\"\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"https://\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"http://a.example/c\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"file:///etc/passwd\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\" https://a.example/c\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"https://a.example/c d\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"https://a.example/\\r\\nX: y\"}", "not an https URL"},
        {"{\"alg\":\"ES256\",\"x5u\":\"https://\xc3\xa9.example/\"}", "not an https URL"},
    };
    static const char good[] = "{\"alg\":\"ES256\",\"x5u\":\"HTTPS://a.example:8443/c.pem\"}";
    uint8_t sig[64] = {0};

    (void)state;
    for (size_t i = 0; i <= COUNT(bad); i++) {
        char *text = peer_jws_with(i < COUNT(bad) ? bad[i].header : good, "{}", sig, sizeof(sig));
        struct acme_jws *jws = NULL;
        struct hsm_reason why = {""};
        const char *x5u = NULL;

        assert_int_equal(acme_jws_parse_compact(text, strlen(text), &jws, &why), HSM_OK);
        if (i < COUNT(bad)) {
            assert_int_equal(acme_jws_x5u(jws, &x5u, &why), HSM_ERR_MALFORMED);
            assert_non_null(strstr(why.text, bad[i].reason));
            assert_null(x5u);
        } else {
            assert_int_equal(acme_jws_x5u(jws, &x5u, &why), HSM_OK);
            assert_string_equal(x5u, "HTTPS://a.example:8443/c.pem");
        }
        acme_jws_free(jws);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_rfc_7515_verifies),
        cmocka_unit_test(no_character_can_be_changed),
        cmocka_unit_test(texts_that_are_no_compact_jws_are_refused),
        cmocka_unit_test(parts_meet_their_bounds),
        cmocka_unit_test(algorithms_other_than_es256_are_refused_by_name),
        cmocka_unit_test(an_unsigned_jws_is_refused),
        cmocka_unit_test(hs256_keyed_with_the_public_key_is_refused),
        cmocka_unit_test(signatures_of_another_length_are_refused),
        cmocka_unit_test(another_key_does_not_verify),
        cmocka_unit_test(wycheproof_agrees),
        cmocka_unit_test(acme_requests_verify_and_name_their_url),
        cmocka_unit_test(acme_requests_do_not_verify_with_parts_of_another),
        cmocka_unit_test(the_inner_jws_of_a_key_change_verifies_with_the_new_key),
        cmocka_unit_test(the_mac_of_an_external_account_binding_is_no_signature),
        cmocka_unit_test(the_mac_of_an_external_account_binding_verifies_with_its_key_alone),
        cmocka_unit_test(flattened_jws_have_three_members),
        cmocka_unit_test(what_the_token_signs_verifies),
        cmocka_unit_test(what_the_token_signs_flattened_verifies),
        cmocka_unit_test(what_is_too_long_is_not_signed),
        cmocka_unit_test(x5u_is_an_https_url),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
