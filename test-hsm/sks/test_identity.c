/* test_identity.c - mirrors sks/src/identity.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sks/identity.h>

#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define URL "https://cr.sp.example/c.pem"

static const struct {
    const char *text;
    const char *passport, *info, *alg, *ppt; /* NULL: absent */
} good[] = {
    {"h.p.s;info=<" URL ">;alg=ES256;ppt=shaken", "h.p.s", URL, "ES256", "shaken"},
    {"h.p.s;info=<" URL ">;alg=ES256;ppt=\"shaken\"", "h.p.s", URL, "ES256", "shaken"},
    {"h.p.s;ppt=shaken;alg=ES256;info=<" URL ">", "h.p.s", URL, "ES256", "shaken"},
    {"h.p.s ; info = <" URL "> ;\r\n alg\t= ES256 ", "h.p.s", URL, "ES256", NULL},
    {"Identity: h.p.s;info=<" URL ">", "h.p.s", URL, NULL, NULL},
    {"identity : h.p.s;info=<" URL ">", "h.p.s", URL, NULL, NULL},
    {"y:h.p.s;INFO=<" URL ">;PPT=div", "h.p.s", URL, NULL, "div"},
    {"h.p.s;info=" URL ";ppt=shaken", "h.p.s", URL, NULL, "shaken"},
    {"h.p.s;info=<https://a/b;c=d>", "h.p.s", "https://a/b;c=d", NULL, NULL},
    {"h.p.s;info=<not a uri>", "h.p.s", "not a uri", NULL, NULL},
    {"h.p.s;x;y=1;z=\"a b\";z=2;info=<" URL ">", "h.p.s", URL, NULL, NULL},
    {"h.p.s;x=\"a \\\"b\\\\\";info=<" URL ">;y=\"\xc3\xa9\"", "h.p.s", URL, NULL, NULL},
    {"h.p.s;alg=ES256;ppt=shaken", "h.p.s", NULL, "ES256", "shaken"},
    {"h.p.s", "h.p.s", NULL, NULL, NULL},
    {"..s-_+/=;info=<" URL ">", "..s-_+/=", URL, NULL, NULL},
};

static void
assert_text(const char *text, const char *wanted)
{
    assert_int_equal(text == NULL, wanted == NULL);
    if (wanted != NULL)
        assert_string_equal(text, wanted);
}

static void
what_deployed_callers_send_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct sks_identity identity = {0};
        struct hsm_reason why = {""};

        print_message("%s\n", good[i].text);
        assert_int_equal(sks_identity_parse(good[i].text, &identity, &why), HSM_OK);
        assert_text(identity.passport, good[i].passport);
        assert_text(identity.info, good[i].info);
        assert_text(identity.alg, good[i].alg);
        assert_text(identity.ppt, good[i].ppt);
        sks_identity_clear(&identity);
        assert_null(identity.passport);
    }
}

static const char *const bad[] = {
    "",
    " ",
    ";info=<" URL ">",
    "Identity:",
    "Other: h.p.s;info=<" URL ">",
    "h p s;info=<" URL ">",
    "h.p.s, h.p.s;info=<" URL ">",
    "h.p.s;info=<" URL,
    "h.p.s;info=",
    "h.p.s;info=<" URL "> x",
    "h.p.s;info=<" URL ">x",
    "h.p.s;info=<" URL ">;info=<" URL ">",
    "h.p.s;info=<" URL ">;Alg=ES256;alg=ES256",
    "h.p.s;info=<" URL ">;ppt=shaken;ppt=\"div\"",
    "h.p.s;info=<" URL ">;ppt=\"shaken",
    "h.p.s;info=<" URL ">;ppt=\"\"",
    "h.p.s;info=<" URL ">;ppt=\"a b\"",
    "h.p.s;info=<" URL ">;ppt=\"sha\\ken\"",
    "h.p.s;info=<" URL ">;ppt=shaken, h.p.s",
    "h.p.s;info=<" URL ">;alg",
    "h.p.s;info=<" URL ">;;ppt=shaken",
    "h.p.s;info=<" URL ">;",
    "h.p.s;info=<" URL ">;=shaken",
    "h.p.s;info=<https://a/\x01>",
    "h.p.s;info=<https://a/\xc3\xa9>",
    "h.p.s;x=\"\r\n\"",
    "h.p.s;x=\"\\\"",
    "h.p.s;info=<" URL ">;x=\"\\",
};

static void
what_breaks_the_grammar_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct sks_identity identity = {.passport = NULL};
        struct hsm_reason why = {""};

        print_message("%s\n", bad[i]);
        assert_int_equal(sks_identity_parse(bad[i], &identity, &why), HSM_ERR_MALFORMED);
        assert_null(identity.passport);
        assert_non_null(strstr(why.text, "Identity: "));
        assert_int_equal(sks_identity_parse(bad[i], &identity, NULL), HSM_ERR_MALFORMED);
    }
}

static void
a_value_has_a_bound(void **state)
{
    char *text = malloc(SKS_IDENTITY_MAX + 2);
    struct sks_identity identity = {0};

    (void)state;
    memset(text, 'a', SKS_IDENTITY_MAX + 1);
    text[SKS_IDENTITY_MAX + 1] = '\0';
    assert_int_equal(sks_identity_parse(text, &identity, NULL), HSM_ERR_MALFORMED);
    text[SKS_IDENTITY_MAX] = '\0';
    assert_int_equal(sks_identity_parse(text, &identity, NULL), HSM_OK);
    sks_identity_clear(&identity);
    free(text);
}

static void
what_is_formatted_is_what_peers_send_and_parses_back(void **state)
{
    char *text = sks_identity_format("h.p.s", URL, "shaken");
    struct sks_identity identity = {0};

    (void)state;
    assert_string_equal(text, "h.p.s;info=<" URL ">;alg=ES256;ppt=shaken");
    assert_int_equal(sks_identity_parse(text, &identity, NULL), HSM_OK);
    assert_string_equal(identity.info, URL);
    sks_identity_clear(&identity);
    free(text);
}

static void
the_examples_of_rfc_8224_parse(void **state)
{
    json_t *vectors = data_json("rfc/rfc8224_identity.json");
    json_t *vector;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(vectors, "cases"), i, vector)
    {
        struct sks_identity identity = {0};
        const char *text = json_string_value(json_object_get(vector, "identity"));
        const char *jws = json_string_value(json_object_get(vector, "jws"));

        assert_int_equal(sks_identity_parse(text, &identity, NULL), HSM_OK);
        assert_string_equal(identity.info, json_string_value(json_object_get(vector, "info")));
        if (jws == NULL)
            jws = json_string_value(json_object_get(vector, "compact"));
        assert_string_equal(identity.passport, jws);
        assert_null(identity.alg);
        assert_null(identity.ppt);
        sks_identity_clear(&identity);
    }
    assert_int_equal(i, 2);
    json_decref(vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_deployed_callers_send_is_understood),
        cmocka_unit_test(what_breaks_the_grammar_is_refused),
        cmocka_unit_test(a_value_has_a_bound),
        cmocka_unit_test(what_is_formatted_is_what_peers_send_and_parses_back),
        cmocka_unit_test(the_examples_of_rfc_8224_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
