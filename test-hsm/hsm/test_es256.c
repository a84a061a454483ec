/* test_es256.c - mirrors hsm/src/es256.c, with RFC 6979 and Wycheproof's signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <hsm/es256.h>

#include "data.h"
#include "peer.h"

#define ROW_SIZE 16384 /* octets of a line of Wycheproof's table */
#define MSG_SIZE 8192 /* octets of a message or a signature there */

static EVP_PKEY *
key_from_spki(const char *base64)
{
    uint8_t der[256];
    const uint8_t *p = der;
    int len = EVP_DecodeBlock(der, (const uint8_t *)base64, (int)strlen(base64));
    EVP_PKEY *key;

    assert_true(len > 0);
    key = d2i_PUBKEY(NULL, &p, len);
    assert_non_null(key);
    return key;
}

static const char *
text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    assert_non_null(text);
    return text;
}

/* Verify and convert to DER and back, for each case of a vector file. */
static void
check_cases(const json_t *cases, EVP_PKEY *key, const char *raw_name, const char *der_name)
{
    size_t i;
    json_t *row;

    assert_in_range(json_array_size(cases), 1, 100);
    json_array_foreach(cases, i, row)
    {
        const char *message = text_of(row, "msg_ascii");
        uint8_t raw[HSM_P256_SIG_LEN];
        uint8_t der[HSM_P256_DER_SIG_MAX];
        uint8_t made[HSM_P256_DER_SIG_MAX];
        size_t der_len = data_unhex(text_of(row, der_name), der, sizeof(der));
        size_t made_len = 0;

        assert_int_equal(data_unhex(text_of(row, raw_name), raw, sizeof(raw)), sizeof(raw));
        assert_int_equal(hsm_es256_verify(key, message, strlen(message), raw, sizeof(raw)), HSM_OK);
        assert_int_equal(hsm_es256_to_der(raw, made, &made_len), HSM_OK);
        assert_int_equal(made_len, der_len);
        assert_memory_equal(made, der, der_len);
        assert_int_equal(hsm_es256_from_der(der, der_len, made), HSM_OK);
        assert_memory_equal(made, raw, sizeof(raw));
        raw[i % sizeof(raw)] ^= 1;
        assert_int_equal(hsm_es256_verify(key, message, strlen(message), raw, sizeof(raw)),
                         HSM_ERR_UNTRUSTED);
    }
}

static void
signatures_of_rfc_6979_verify(void **state)
{
    json_t *vectors = data_json("rfc/rfc6979_p256_sha256.json");
    EVP_PKEY *key = key_from_spki(text_of(json_object_get(vectors, "key"), "spki_der_b64"));

    (void)state;
    check_cases(json_object_get(vectors, "cases"), key, "sig_raw_hex", "sig_der_hex");
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
leading_zeros_and_high_bits_are_converted(void **state)
{
    json_t *vectors = data_json("self/ecdsa_raw_der.json");
    EVP_PKEY *key = key_from_spki(text_of(json_object_get(vectors, "key"), "spki_der_b64"));

    (void)state;
    check_cases(json_object_get(vectors, "cases"), key, "raw_hex", "der_hex");
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
raw_signatures_out_of_range_or_length_are_refused(void **state)
{
    json_t *vectors = data_json("self/ecdsa_raw_der.json");
    EVP_PKEY *key = key_from_spki(text_of(json_object_get(vectors, "key"), "spki_der_b64"));
    json_t *negatives = json_object_get(vectors, "negative_raw_hex");
    const char *name;
    json_t *hex;

    (void)state;
    assert_int_equal(json_object_size(negatives), 5);
    json_object_foreach(negatives, name, hex)
    {
        uint8_t raw[HSM_P256_SIG_LEN + 1];
        uint8_t der[HSM_P256_DER_SIG_MAX];
        size_t der_len = 0;
        size_t len = data_unhex(json_string_value(hex), raw, sizeof(raw));

        if (len == HSM_P256_SIG_LEN) {
            assert_int_equal(hsm_es256_verify(key, "edge-10", 7, raw, len), HSM_ERR_UNTRUSTED);
            assert_int_equal(hsm_es256_to_der(raw, der, &der_len), HSM_ERR_MALFORMED);
        } else {
            assert_int_equal(hsm_es256_verify(key, "edge-10", 7, raw, len), HSM_ERR_MALFORMED);
        }
    }
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
der_that_is_not_minimal_or_not_der_is_refused(void **state)
{
    static const char *const rows[] = {
        "-",
        "3000",
        "3006020101020101ff", /* trailing octet */
        "3106020101020101", /* not a SEQUENCE */
        "308106020101020101", /* length in long form */
        "3007020101020101", /* length too large */
        "3006030101020101", /* R is not an INTEGER */
        "3006020101030101", /* S is not an INTEGER */
        "300702020001020101", /* leading zero */
        "3006020181020101", /* negative R */
        "3006020101020181", /* negative S */
        "3006020100020101", /* R = 0 */
        "3006020101020100", /* S = 0 */
        "30050200020101", /* empty R */
        "3003020101", /* no S */
        "3009020101020101020101", /* a third INTEGER */
        "3006020201020101", /* R extends into S */
        /* R = n */
        "3026022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551020101",
        /* R of 33 octets */
        "302602210100000000000000000000000000000000000000000000000000000000000000ff020101",
        /* R of 34 octets */
        "3027022200ff00000000000000000000000000000000000000000000000000000000000000ff020101",
    };
    uint8_t der[HSM_P256_DER_SIG_MAX + 8];
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    memset(sig, 0xaa, sizeof(sig));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = data_unhex(rows[i], der, sizeof(der));

        if (hsm_es256_from_der(der, len, sig) != HSM_ERR_MALFORMED)
            fail_msg("%s: accepted", rows[i]);
        assert_int_equal(sig[0], 0xaa); /* written only on success */
    }
    assert_int_equal(data_unhex("3006020101020101", der, sizeof(der)), 8);
    assert_int_equal(hsm_es256_from_der(der, 8, sig), HSM_OK);
    assert_int_equal(sig[31], 1);
    assert_int_equal(sig[63], 1);
}

/* One row of Wycheproof: tcId, result, flags, public key, message, signature, comment. */
struct wycheproof {
    char *id;
    bool valid;
    uint8_t point[HSM_P256_POINT_LEN];
    uint8_t message[MSG_SIZE];
    size_t message_len;
    uint8_t sig[MSG_SIZE];
    size_t sig_len;
};

static void
split_row(char *line, struct wycheproof *out)
{
    char *columns[6];
    char *rest = line;

    for (size_t i = 0; i < 6; i++) {
        columns[i] = strsep(&rest, "\t\n");
        assert_non_null(columns[i]);
    }
    out->id = columns[0];
    out->valid = strcmp(columns[1], "valid") == 0;
    assert_true(out->valid || strcmp(columns[1], "invalid") == 0);
    assert_int_equal(data_unhex(columns[3], out->point, sizeof(out->point)), sizeof(out->point));
    out->message_len = data_unhex(columns[4], out->message, sizeof(out->message));
    out->sig_len = data_unhex(columns[5], out->sig, sizeof(out->sig));
}

/* A prepared verifier gives the same result. */
static bool
verifies(EVP_PKEY *key, const struct wycheproof *row, const uint8_t *sig, size_t sig_len)
{
    struct hsm_es256_verifier *ready = NULL;
    enum hsm_status st = hsm_es256_verify(key, row->message, row->message_len, sig, sig_len);

    assert_int_equal(hsm_es256_verifier_new(key, &ready), HSM_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            hsm_es256_verifier_verify(ready, row->message, row->message_len, sig, sig_len), st);
    hsm_es256_verifier_free(ready);
    return st == HSM_OK;
}

static bool
raw_verifies(EVP_PKEY *key, const struct wycheproof *row)
{
    return verifies(key, row, row->sig, row->sig_len);
}

static bool
der_verifies(EVP_PKEY *key, const struct wycheproof *row)
{
    uint8_t raw[HSM_P256_SIG_LEN];

    return hsm_es256_from_der(row->sig, row->sig_len, raw) == HSM_OK &&
           verifies(key, row, raw, sizeof(raw));
}

static void
check_wycheproof(const char *name, size_t cases,
                 bool (*verify)(EVP_PKEY *key, const struct wycheproof *row))
{
    const char *path = shared_path(name);
    char line[ROW_SIZE];
    size_t count = 0;
    FILE *file;

    if (path == NULL)
        skip();
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        struct wycheproof row;
        EVP_PKEY *key = NULL;

        if (line[0] == '#')
            continue;
        split_row(line, &row);
        assert_int_equal(hsm_p256_from_point(row.point, sizeof(row.point), &key), HSM_OK);
        if (verify(key, &row) != row.valid)
            fail_msg("case %s: %s", row.id, row.valid ? "refused" : "accepted");
        EVP_PKEY_free(key);
        count++;
    }
    fclose(file);
    assert_int_equal(count, cases);
}

static void
wycheproof_raw_signatures_get_their_verdicts(void **state)
{
    (void)state;
    check_wycheproof("interop/wycheproof/ecdsa_p256_sha256_p1363.tsv", 262, raw_verifies);
}

static void
wycheproof_der_signatures_get_their_verdicts(void **state)
{
    (void)state;
    check_wycheproof("interop/wycheproof/ecdsa_p256_sha256_der.tsv", 484, der_verifies);
}

static void
keys_on_other_curves_and_of_other_kinds_are_unsupported(void **state)
{
    static const uint8_t sig[HSM_P256_SIG_LEN] = {[31] = 1, [63] = 1};
    EVP_PKEY *p384 = peer_key_new("P-384");
    EVP_PKEY *k256 = peer_key_new("secp256k1");
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    EVP_PKEY *keys[] = {p384, k256, rsa};
    struct hsm_es256_verifier *ready = NULL;
    uint8_t point[HSM_P256_POINT_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        assert_non_null(keys[i]);
        assert_int_equal(hsm_es256_verify(keys[i], "x", 1, sig, sizeof(sig)), HSM_ERR_UNSUPPORTED);
        assert_int_equal(hsm_es256_verifier_new(keys[i], &ready), HSM_ERR_UNSUPPORTED);
        assert_null(ready);
        assert_int_equal(hsm_p256_point(keys[i], point), HSM_ERR_UNSUPPORTED);
        EVP_PKEY_free(keys[i]);
    }
}

static void
a_point_makes_a_key_and_back(void **state)
{
    json_t *vectors = data_json("self/keys.json");
    json_t *ca = json_object_get(json_object_get(vectors, "keys"), "sti-ca-root");
    EVP_PKEY *key = NULL;
    uint8_t point[HSM_P256_POINT_LEN];
    uint8_t back[HSM_P256_POINT_LEN];
    EVP_PKEY *spki = key_from_spki(text_of(ca, "spki_der_b64"));

    (void)state;
    assert_int_equal(data_unhex(text_of(ca, "point_hex"), point, sizeof(point)), sizeof(point));
    assert_int_equal(hsm_p256_from_point(point, sizeof(point), &key), HSM_OK);
    assert_int_equal(EVP_PKEY_eq(key, spki), 1);
    assert_int_equal(hsm_p256_point(key, back), HSM_OK);
    assert_memory_equal(back, point, sizeof(point));
    assert_int_equal(hsm_p256_point(spki, back), HSM_OK);
    assert_memory_equal(back, point, sizeof(point));
    EVP_PKEY_free(spki);
    EVP_PKEY_free(key);
    json_decref(vectors);
}

static void
points_off_the_curve_or_in_other_forms_are_refused(void **state)
{
    json_t *vectors = data_json("self/keys.json");
    json_t *ca = json_object_get(json_object_get(vectors, "keys"), "sti-ca-root");
    uint8_t point[HSM_P256_POINT_LEN];
    EVP_PKEY *key = NULL;

    (void)state;
    assert_int_equal(data_unhex(text_of(ca, "point_hex"), point, sizeof(point)), sizeof(point));
    assert_int_equal(hsm_p256_from_point(point, 64, &key), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_p256_from_point(point, 0, &key), HSM_ERR_MALFORMED);
    point[0] = 0x02; /* compressed */
    assert_int_equal(hsm_p256_from_point(point, 33, &key), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_p256_from_point(point, 65, &key), HSM_ERR_MALFORMED);
    point[0] = 0x06; /* hybrid */
    assert_int_equal(hsm_p256_from_point(point, 65, &key), HSM_ERR_MALFORMED);
    point[0] = 0x04;
    point[64] ^= 1;
    assert_int_equal(hsm_p256_from_point(point, 65, &key), HSM_ERR_MALFORMED);
    assert_null(key);
    json_decref(vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_of_rfc_6979_verify),
        cmocka_unit_test(leading_zeros_and_high_bits_are_converted),
        cmocka_unit_test(raw_signatures_out_of_range_or_length_are_refused),
        cmocka_unit_test(der_that_is_not_minimal_or_not_der_is_refused),
        cmocka_unit_test(wycheproof_raw_signatures_get_their_verdicts),
        cmocka_unit_test(wycheproof_der_signatures_get_their_verdicts),
        cmocka_unit_test(keys_on_other_curves_and_of_other_kinds_are_unsupported),
        cmocka_unit_test(a_point_makes_a_key_and_back),
        cmocka_unit_test(points_off_the_curve_or_in_other_forms_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
