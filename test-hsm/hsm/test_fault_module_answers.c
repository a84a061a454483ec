/* test_fault_module_answers.c - how the fault module changes answers: signatures, objects,
 * attributes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <hsm/es256.h>

#include "fault_token.h"

/* ---- signatures */

static void
damaged_signatures_do_not_verify(void **state)
{
    static const struct {
        const char *damage;
        CK_ULONG least;
        CK_ULONG most;
    } rows[] = {
        {"flip", 64, 64},   {"short", 62, 62}, {"long", 65, 65},    {"r-zero", 64, 64},
        {"s-zero", 64, 64}, {"zero", 64, 64},  {"garbage", 64, 64}, {"der", 68, 72},
    };
    struct p11_token *f = *state;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    for (size_t i = 0; i < COUNT(rows); i++) {
        CK_BYTE sig[P11_SIG_ROOM];
        CK_ULONG len = P11_SIG_ROOM;

        fault("on C_Sign times 1 signature %s", rows[i].damage);
        assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
        assert_in_range(len, rows[i].least, rows[i].most);
        assert_false(p11_verifies(key, sig, len));
        len = P11_SIG_ROOM;
        assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
        assert_true(p11_verifies(key, sig, len));
    }
    EVP_PKEY_free(key);
}

static void
der_and_stale_signatures_are_real_ones(void **state)
{
    struct p11_token *f = *state;
    CK_BYTE sig[P11_SIG_ROOM];
    CK_BYTE raw[HSM_P256_SIG_LEN];
    CK_BYTE again[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    fault("on C_Sign times 1 signature der");
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
    assert_int_equal(hsm_es256_from_der(sig, len, raw), HSM_OK);
    assert_true(p11_verifies(key, raw, sizeof(raw)));
    len = 64; /* too small */
    fault("on C_Sign times 1 signature der");
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_BUFFER_TOO_SMALL);
    assert_in_range(len, 68, 72);

    len = P11_SIG_ROOM;
    fault("on C_Sign after 1 times 1 signature stale");
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
    len = P11_SIG_ROOM;
    assert_int_equal(p11_sign_into(f->session, f->key, again, &len), CKR_OK);
    assert_memory_equal(sig, again, 64);
    EVP_PKEY_free(key);
}

static void
a_constant_costs_no_signature(void **state)
{
    struct p11_token *f = *state;
    CK_BYTE sig[P11_SIG_ROOM];
    CK_BYTE der[HSM_P256_DER_SIG_MAX];
    CK_ULONG len = 63;
    size_t der_len;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    fault("fake constant");
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_BUFFER_TOO_SMALL);
    assert_int_equal(len, 64);
    assert_int_equal(p11_sign_init(f->session, f->key), CKR_OPERATION_ACTIVE);
    assert_int_equal(p11->C_Sign(f->session, p11_digest, P11_DIGEST_LEN, NULL, &len), CKR_OK);
    assert_int_equal(p11->C_Sign(f->session, p11_digest, P11_DIGEST_LEN, sig, &len), CKR_OK);
    assert_int_equal(hsm_es256_to_der(sig, der, &der_len), HSM_OK); /* r and s are in range */
    assert_false(p11_verifies(key, sig, len));
    assert_int_equal(p11->C_Sign(f->session, p11_digest, P11_DIGEST_LEN, sig, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(p11_sign(f->session, 0x7777), CKR_KEY_HANDLE_INVALID);
    fault("on C_Sign times 1 rv CKR_DEVICE_ERROR active");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_ERROR);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OPERATION_ACTIVE);
    fault("fake off");
    assert_int_equal(p11->C_Sign(f->session, p11_digest, P11_DIGEST_LEN, sig, &len), CKR_OK);
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
    assert_true(p11_verifies(key, sig, len));
    EVP_PKEY_free(key);
}

static void
a_replayed_signature_verifies(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE beta = p11_find_key(f->session, CKO_PRIVATE_KEY, "beta");
    CK_BYTE first[P11_SIG_ROOM];
    CK_BYTE second[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    fault("fake replay");
    assert_int_equal(p11_sign_into(f->session, f->key, first, &len), CKR_OK);
    assert_true(p11_verifies(key, first, len));
    len = P11_SIG_ROOM;
    assert_int_equal(p11_sign_into(f->session, f->key, second, &len), CKR_OK);
    assert_memory_equal(first, second, 64);
    len = P11_SIG_ROOM;
    assert_int_equal(p11_sign_into(f->session, beta, second, &len), CKR_OK);
    assert_memory_not_equal(first, second, 64);
    len = P11_SIG_ROOM;
    fault("on C_Sign times 1 signature flip");
    assert_int_equal(p11_sign_into(f->session, f->key, second, &len), CKR_OK);
    assert_false(p11_verifies(key, second, len));
    fault("logout");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK); /* known without a call behind */
    EVP_PKEY_free(key);
}

/* ---- objects */

static void
objects_are_missing_doubled_or_few_at_once(void **state)
{
    static const CK_ULONG batches[] = {1, 2, 4};
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];

    for (size_t i = 0; i < COUNT(batches); i++) {
        fault("reset");
        fault("on C_FindObjects times 1 objects empty");
        assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "alpha", batches[i], found), 0);
        assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "alpha", batches[i], found), 1);
        fault("on C_FindObjects objects duplicate");
        assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "alpha", batches[i], found), 2);
        assert_int_equal(found[0], found[1]);
        fault("reset\non C_FindObjects objects twin");
        assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "alpha", batches[i], found), 2);
        assert_int_not_equal(found[0], found[1]);
        assert_int_equal(p11_sign(f->session, found[0]), CKR_OK);
        assert_int_equal(p11_sign(f->session, found[1]), CKR_OK);
    }
    fault("reset\non C_FindObjects objects partial 1");
    assert_int_equal(p11_generate(f->session, "pair", 1, false), CKR_OK);
    assert_int_equal(p11_generate(f->session, "pair", 1, false), CKR_OK);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "pair", 4, found), 2);
    assert_int_equal(fault_number("count C_FindObjects"), 3);
}

static CK_RV
get_attribute(struct p11_token *f, CK_ATTRIBUTE_TYPE type, void *value, CK_ULONG *len)
{
    CK_ATTRIBUTE attribute = {type, value, *len};
    CK_RV rv = p11->C_GetAttributeValue(f->session, f->key, &attribute, 1);

    *len = attribute.ulValueLen;
    return rv;
}

static void
attributes_have_other_values(void **state)
{
    static const struct {
        const char *value;
        CK_RV rv;
        CK_ULONG len;
        CK_BYTE first;
    } rows[] = {
        {"true", CKR_OK, 1, 1},
        {"false", CKR_OK, 1, 0},
        {"hex:0203", CKR_OK, 2, 2},
        {"0x1234", CKR_OK, sizeof(CK_ULONG), 0x34},
        {"missing", CKR_ATTRIBUTE_TYPE_INVALID, CK_UNAVAILABLE_INFORMATION, 0xee},
        {"sensitive", CKR_ATTRIBUTE_SENSITIVE, CK_UNAVAILABLE_INFORMATION, 0xee},
        {"unavailable", CKR_OK, CK_UNAVAILABLE_INFORMATION, 0xee},
        {"empty", CKR_OK, 0, 0xee},
    };
    struct p11_token *f = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        CK_BYTE value[16];
        CK_ULONG len = sizeof(value);

        memset(value, 0xee, sizeof(value));
        fault("reset");
        fault("on C_GetAttributeValue attribute CKA_EXTRACTABLE %s", rows[i].value);
        assert_int_equal(get_attribute(f, CKA_EXTRACTABLE, value, &len), rows[i].rv);
        assert_int_equal(len, rows[i].len);
        assert_int_equal(value[0], rows[i].first);
        len = sizeof(value);
        assert_int_equal(get_attribute(f, CKA_SENSITIVE, value, &len), CKR_OK);
        assert_int_equal(value[0], CK_TRUE);
    }
}

static void
altered_attributes_stand_among_others(void **state)
{
    struct p11_token *f = *state;
    CK_BBOOL extractable = CK_FALSE;
    CK_BBOOL local = CK_TRUE;
    CK_BYTE label[8];
    CK_BYTE small[1];
    CK_ATTRIBUTE attributes[] = {
        {CKA_LABEL, label, sizeof(label)},
        {CKA_EXTRACTABLE, &extractable, 1},
        {CKA_ID, small, 0}, /* too small */
        {CKA_LOCAL, &local, 1},
        {CKA_EC_POINT, NULL, 0}, /* absent in a private key */
    };

    fault("on C_GetAttributeValue attribute CKA_EXTRACTABLE true\n"
          "on C_GetAttributeValue attribute CKA_LOCAL false\n"
          "on C_GetAttributeValue point raw");
    assert_int_equal(p11->C_GetAttributeValue(f->session, f->key, attributes, 4),
                     CKR_BUFFER_TOO_SMALL);
    assert_memory_equal(label, "alpha", 5);
    assert_int_equal(attributes[0].ulValueLen, 5);
    assert_int_equal(extractable, CK_TRUE);
    assert_int_equal(attributes[2].ulValueLen, CK_UNAVAILABLE_INFORMATION);
    assert_int_equal(local, CK_FALSE);
    assert_int_equal(p11->C_GetAttributeValue(f->session, f->key, &attributes[4], 1),
                     CKR_ATTRIBUTE_TYPE_INVALID);
    assert_int_equal(p11->C_GetAttributeValue(f->session, 0x7777, attributes, 1),
                     CKR_OBJECT_HANDLE_INVALID);
}

static void
a_point_comes_in_four_forms_and_a_wrong_one(void **state)
{
    static const struct {
        const char *form;
        CK_ULONG len;
        CK_ULONG skip; /* octets before X */
        CK_BYTE head[4];
    } rows[] = {
        {"der", 67, 3, {0x04, 0x41, 0x04}},
        {"raw", 65, 1, {0x04}},
        {"xy", 64, 0, {0}},
        {"bits", 68, 4, {0x03, 0x42, 0x00, 0x04}},
    };
    struct p11_token *f = *state;
    CK_BYTE real[67];
    CK_ULONG len = sizeof(real);
    CK_BYTE value[80];

    f->key = p11_find_key(f->session, CKO_PUBLIC_KEY, "alpha");
    assert_int_equal(get_attribute(f, CKA_EC_POINT, real, &len), CKR_OK);
    for (size_t i = 0; i < COUNT(rows); i++) {
        fault("reset");
        fault("on C_GetAttributeValue point %s", rows[i].form);
        len = 0;
        assert_int_equal(get_attribute(f, CKA_EC_POINT, NULL, &len), CKR_OK);
        assert_int_equal(len, rows[i].len);
        assert_int_equal(get_attribute(f, CKA_EC_POINT, value, &len), CKR_OK);
        assert_int_equal(len, rows[i].len);
        assert_memory_equal(value + rows[i].skip, real + 3, 64);
        assert_memory_equal(value, rows[i].head, rows[i].skip);
        len = rows[i].len - 1;
        assert_int_equal(get_attribute(f, CKA_EC_POINT, value, &len), CKR_BUFFER_TOO_SMALL);
    }
    fault("reset\non C_GetAttributeValue point other");
    len = sizeof(value);
    assert_int_equal(get_attribute(f, CKA_EC_POINT, value, &len), CKR_OK);
    assert_int_equal(len, 67);
    assert_memory_not_equal(value, real, 67);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_TOKEN(damaged_signatures_do_not_verify),
        ON_TOKEN(der_and_stale_signatures_are_real_ones),
        ON_TOKEN(a_constant_costs_no_signature),
        ON_TOKEN(a_replayed_signature_verifies),
        ON_TOKEN(objects_are_missing_doubled_or_few_at_once),
        ON_TOKEN(attributes_have_other_values),
        ON_TOKEN(altered_attributes_stand_among_others),
        ON_TOKEN(a_point_comes_in_four_forms_and_a_wrong_one),
    };

    return cmocka_run_group_tests(tests, p11_group_start, p11_group_stop);
}
