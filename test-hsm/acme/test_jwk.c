/* test_jwk.c - mirrors acme/src/jwk.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <acme/json.h>
#include <acme/jwk.h>

#include "data.h"
#include "peer.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The key of RFC 7515 appendix A.3. */
#define X  "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\""
#define Y  "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define EC "\"kty\":\"EC\",\"crv\":\"P-256\","

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

static enum hsm_status
parse_text(const char *text, EVP_PKEY **out, struct hsm_reason *why)
{
    json_t *jwk = NULL;
    enum hsm_status st;

    assert_int_equal(acme_json_parse(text, strlen(text), &jwk, why), HSM_OK);
    st = acme_jwk_parse(jwk, out, why);
    json_decref(jwk);
    return st;
}

static void
thumbprints_are_those_of_rfc_7638(void **state)
{
    json_t *vectors = data_json("rfc/rfc7638_thumbprint.json"), *entry;
    size_t i, elliptic = 0;

    (void)state;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry)
    {
        const json_t *jwk = json_object_get(entry, "jwk");
        char thumbprint[ACME_THUMBPRINT_LEN + 1];
        struct hsm_reason why;
        EVP_PKEY *key = NULL;

        if (strcmp(member(jwk, "kty"), "EC") != 0) {
            assert_int_equal(acme_jwk_parse(jwk, &key, &why), HSM_ERR_UNSUPPORTED);
            continue;
        }
        key = key_of(jwk);
        assert_int_equal(acme_jwk_thumbprint(key, thumbprint), HSM_OK);
        assert_string_equal(thumbprint, member(entry, "thumbprint_b64u"));
        EVP_PKEY_free(key);
        elliptic++;
    }
    assert_int_equal(elliptic, 2);
    json_decref(vectors);
}

static void
a_key_becomes_the_jwk_it_came_from(void **state)
{
    json_t *vectors = data_json("self/account_fingerprint.json"), *jwk = NULL;
    EVP_PKEY *key = peer_key_from_pem("self/acme-account.key.pem");

    (void)state;
    assert_int_equal(acme_jwk_new(key, &jwk), HSM_OK);
    assert_true(json_equal(jwk, json_object_get(vectors, "acme_account_jwk")));
    EVP_PKEY_free(key);
    json_decref(jwk);
    json_decref(vectors);
}

static void
jwk_that_state_their_purpose_are_read(void **state)
{
    static const char *const good[] = {
        "{" EC X "," Y "}",
        "{" EC X "," Y ",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"k\",\"future\":{\"a\":[]}}",
        "{" EC X "," Y ",\"key_ops\":[\"sign\",\"verify\"]}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct hsm_reason why = {""};
        EVP_PKEY *key = NULL;

        if (parse_text(good[i], &key, &why) != HSM_OK)
            fail_msg("%s: %s", good[i], why.text);
        assert_non_null(key);
        EVP_PKEY_free(key);
    }
}

static void
other_jwk_are_refused(void **state)
{
    static const struct {
        const char *jwk;
        enum hsm_status status;
        const char *reason;
    } bad[] = {
        {"{}", HSM_ERR_MALFORMED, "kty: missing"},
        {"{\"kty\":5}", HSM_ERR_MALFORMED, "kty: not a string"},
        {"{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}", HSM_ERR_UNSUPPORTED, "kty"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\"," X "}", HSM_ERR_UNSUPPORTED, "kty"},
        {"{\"kty\":\"oct\",\"k\":\"AAAA\"}", HSM_ERR_MALFORMED, "private"},
        {"{\"kty\":\"ec\",\"crv\":\"P-256\"," X "," Y "}", HSM_ERR_UNSUPPORTED, "kty"},
        {"{\"kty\":\"EC\"," X "," Y "}", HSM_ERR_MALFORMED, "crv: missing"},
        {"{\"kty\":\"EC\",\"crv\":\"P-384\"," X "," Y "}", HSM_ERR_UNSUPPORTED, "crv"},
        {"{\"kty\":\"EC\",\"crv\":\"secp256k1\"," X "," Y "}", HSM_ERR_UNSUPPORTED, "crv"},
        {"{" EC X "}", HSM_ERR_MALFORMED, "y: missing"},
        {"{" EC Y "}", HSM_ERR_MALFORMED, "x: missing"},
        {"{" EC X ",\"y\":1}", HSM_ERR_MALFORMED, "y: not a string"},
        {"{" EC X "," Y ",\"d\":\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}",
         HSM_ERR_MALFORMED, "private"},
        {"{" EC X "," Y ",\"use\":\"enc\"}", HSM_ERR_UNSUPPORTED, "use"},
        {"{" EC X "," Y ",\"alg\":\"ES384\"}", HSM_ERR_UNSUPPORTED, "alg"},
        {"{" EC X "," Y ",\"key_ops\":[\"encrypt\"]}", HSM_ERR_UNSUPPORTED, "key_ops"},
        {"{" EC X "," Y ",\"key_ops\":\"verify\"}", HSM_ERR_UNSUPPORTED, "key_ops"},
        /* 31 and 33 octets, padding, the other alphabet, trailing bits, a point off the curve */
        {"{" EC X ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5Q\"}", HSM_ERR_MALFORMED,
         "y is not"},
        {"{" EC X ",\"y\":\"AMfxRM0bvZt-hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt\"}", HSM_ERR_MALFORMED,
         "y is not"},
        {"{" EC X ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0=\"}", HSM_ERR_MALFORMED,
         "y is not"},
        {"{" EC X ",\"y\":\"x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0\"}", HSM_ERR_MALFORMED,
         "y is not"},
        {"{" EC X ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1\"}", HSM_ERR_MALFORMED,
         "y is not"},
        {"{" EC X ",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4\"}", HSM_ERR_MALFORMED,
         "not a point"},
        {"{" EC "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
         "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
         HSM_ERR_MALFORMED, "not a point"},
        {"{" EC "\"x\":\"__________________________________________8\"," Y "}", HSM_ERR_MALFORMED,
         "not a point"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct hsm_reason why = {""};
        EVP_PKEY *key = NULL;
        enum hsm_status st = parse_text(bad[i].jwk, &key, &why);

        if (st != bad[i].status || strstr(why.text, bad[i].reason) == NULL)
            fail_msg("%s: %s: %s", bad[i].jwk, hsm_status_text(st), why.text);
        assert_null(key);
    }
}

static void
keys_on_other_curves_have_no_jwk(void **state)
{
    EVP_PKEY *key = peer_key_new("P-384");
    char thumbprint[ACME_THUMBPRINT_LEN + 1];
    json_t *jwk = NULL;

    (void)state;
    assert_int_equal(acme_jwk_new(key, &jwk), HSM_ERR_UNSUPPORTED);
    assert_int_equal(acme_jwk_thumbprint(key, thumbprint), HSM_ERR_UNSUPPORTED);
    assert_null(jwk);
    EVP_PKEY_free(key);
}

static void
fingerprints_are_written_in_both_forms(void **state)
{
    json_t *vectors = data_json("self/account_fingerprint.json");
    EVP_PKEY *key = key_of(json_object_get(vectors, "acme_account_jwk"));
    char text[ACME_FINGERPRINT_LEN + 1];

    (void)state;
    assert_int_equal(acme_fingerprint_format(key, ACME_FINGERPRINT_THUMBPRINT, text), HSM_OK);
    assert_string_equal(text, member(vectors, "form_A_thumbprint_hex"));
    assert_int_equal(acme_fingerprint_format(key, ACME_FINGERPRINT_SPKI, text), HSM_OK);
    assert_string_equal(text, member(vectors, "form_B_spki_hex"));
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
fingerprints_match_in_three_forms(void **state)
{
    static const char *const forms[] = {"form_A_thumbprint_hex", "form_B_spki_hex",
                                        "form_C_raw_thumbprint"};
    json_t *vectors = data_json("self/account_fingerprint.json");
    EVP_PKEY *key = peer_key_from_pem("self/acme-account.key.pem");
    EVP_PKEY *other = peer_key_from_pem("self/acme-account-new.key.pem");

    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        assert_true(acme_fingerprint_matches(member(vectors, forms[i]), key));
        assert_false(acme_fingerprint_matches(member(vectors, forms[i]), other));
    }
    EVP_PKEY_free(other);
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
texts_that_are_nearly_a_fingerprint_do_not_match(void **state)
{
    json_t *vectors = data_json("self/account_fingerprint.json");
    const char *good = member(vectors, "form_A_thumbprint_hex");
    EVP_PKEY *key = peer_key_from_pem("self/acme-account.key.pem");
    char text[ACME_FINGERPRINT_LEN + 2] = "";

    (void)state;
    assert_false(acme_fingerprint_matches("", key));
    assert_false(acme_fingerprint_matches("SHA256 ", key));
    assert_false(acme_fingerprint_matches(good + strlen("SHA256 "), key));
    memcpy(text, good, strlen(good));
    text[strlen(good)] = ' ';
    assert_false(acme_fingerprint_matches(text, key));
    text[strlen(good) - 1] = '\0';
    assert_false(acme_fingerprint_matches(text, key));
    memcpy(text, good, strlen(good));
    text[strlen(good)] = '\0';
    assert_true(acme_fingerprint_matches(text, key));
    text[7] = text[7] == '0' ? '1' : '0';
    assert_false(acme_fingerprint_matches(text, key));
    EVP_PKEY_free(key);
    json_decref(vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thumbprints_are_those_of_rfc_7638),
        cmocka_unit_test(a_key_becomes_the_jwk_it_came_from),
        cmocka_unit_test(jwk_that_state_their_purpose_are_read),
        cmocka_unit_test(other_jwk_are_refused),
        cmocka_unit_test(keys_on_other_curves_have_no_jwk),
        cmocka_unit_test(fingerprints_are_written_in_both_forms),
        cmocka_unit_test(fingerprints_match_in_three_forms),
        cmocka_unit_test(texts_that_are_nearly_a_fingerprint_do_not_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
