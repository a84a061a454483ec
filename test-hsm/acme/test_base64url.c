/* test_base64url.c - mirrors acme/src/base64url.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/base64url.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef enum hsm_status decode_fn(const char *text, size_t len, uint8_t **out, size_t *out_len);

/* RFC 4648 section 10, and octets that are encoded with the characters in which the alphabets
 * differ. */
static const struct {
    const char *octets, *standard, *url;
} vectors[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "-__-"},
    {"\xff", "/w==", "_w"},
};

static void
decodes_to(decode_fn *decode, const char *text, const char *octets)
{
    uint8_t *out = NULL;
    size_t len = 99;

    assert_int_equal(decode(text, strlen(text), &out, &len), HSM_OK);
    assert_int_equal(len, strlen(octets));
    assert_string_equal((const char *)out, octets); /* terminated by NUL */
    free(out);
}

static void
refuses(decode_fn *decode, const char *text, size_t len)
{
    uint8_t *out = NULL;
    size_t out_len = 99;

    assert_int_equal(decode(text, len, &out, &out_len), HSM_ERR_MALFORMED);
    assert_null(out);
    assert_int_equal(out_len, 99);
}

static void
published_vectors_hold_in_both_directions(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(vectors); i++) {
        char *url = acme_base64url_encode(vectors[i].octets, strlen(vectors[i].octets));
        char *standard = acme_base64_encode(vectors[i].octets, strlen(vectors[i].octets));

        assert_string_equal(url, vectors[i].url);
        assert_string_equal(standard, vectors[i].standard);
        assert_int_equal(ACME_BASE64URL_LEN(strlen(vectors[i].octets)), strlen(vectors[i].url));
        decodes_to(acme_base64url_decode, url, vectors[i].octets);
        decodes_to(acme_base64_decode, standard, vectors[i].octets);
        decodes_to(acme_base64_decode_any, url, vectors[i].octets);
        decodes_to(acme_base64_decode_any, standard, vectors[i].octets);
        free(url);
        free(standard);
    }
}

static void
every_octet_survives_at_every_length(void **state)
{
    uint8_t octets[256 + 3], *back = NULL;
    size_t back_len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(octets); i++)
        octets[i] = (uint8_t)(i * 167 + 13); /* 167 is odd, so each value occurs */
    for (size_t len = 0; len <= sizeof(octets); len++) {
        char *text = acme_base64url_encode(octets, len);

        assert_int_equal(strlen(text), ACME_BASE64URL_LEN(len));
        assert_int_equal(acme_base64url_decode(text, strlen(text), &back, &back_len), HSM_OK);
        assert_int_equal(back_len, len);
        assert_memory_equal(back, octets, len);
        free(back);
        free(text);
    }
}

static void
base64url_is_strict(void **state)
{
    static const char *const bad[] = {
        "Zg==",  "Zg=",   "Z",           "Zm9vY", "Zh", /* trailing bits 0001 */
        "Zm9=",  "Zm-",   "+//+",        "/w",    "Zm 9v", "Zm9v\n",
        " Zm9v", "Zm9v.", "Zm\xc3\xa9v", "====",  "=",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        refuses(acme_base64url_decode, bad[i], strlen(bad[i]));
    refuses(acme_base64url_decode, "Zm\0v", 4);
}

static void
base64_wants_its_padding_and_alphabet(void **state)
{
    static const char *const bad[] = {
        "Zg",   "Zg=",  "Zm8",      "Z===",  "-__-",   "_w==", "Zh==",
        "Zm9=", "====", "Zg==Zg==", "Zm9v=", "Zm9v\n", "=Zg=",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        refuses(acme_base64_decode, bad[i], strlen(bad[i]));
}

static void
either_alphabet_is_read_but_nothing_else(void **state)
{
    static const char *const bad[] = {
        "Zg=", "Zm8==", "Z", "+__+", "Zh", "Zh==", "Zm 8=", "Zg===", "Z===", "Zm9v\n", "====",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        refuses(acme_base64_decode_any, bad[i], strlen(bad[i]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_hold_in_both_directions),
        cmocka_unit_test(every_octet_survives_at_every_length),
        cmocka_unit_test(base64url_is_strict),
        cmocka_unit_test(base64_wants_its_padding_and_alphabet),
        cmocka_unit_test(either_alphabet_is_read_but_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
