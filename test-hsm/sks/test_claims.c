/* test_claims.c - mirrors sks/src/claims.c and rcd.c: the claims of a PASSporT and their form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <sks/claims.h>

#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ORIGID       "de305d54-75b4-431b-adb2-eb6b9e546014"
#define SHA256_A     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define SHA256_B     "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

static const char *const to_13[] = {"12155551213"};
static const char *const to_14[] = {"12155551214"};
static const char *const to_alice[] = {"sip:alice@example.com"};
static const char *const ets_wps[] = {"ets.0", "wps.0"};
static const char *const esnet[] = {"esnet.0"};
static const char *const too_long[] = {
    "a.0123456789012345678901234567890123456789012345678901234567890123"};

/* The claims common to all PASSporTs of one type. */
#define BASE   .orig_tn = "12155551212", .dest_tn = to_13, .dest_tn_count = 1, .iat = 1768478400
#define SHAKEN BASE, .attest = 'A', .origid = ORIGID
#define DIV    BASE, .ppt = SKS_PPT_DIV, .div_tn = "12155551213"
#define RPH    BASE, .ppt = SKS_PPT_RPH, .rph_auth = ets_wps, .rph_count = 2
#define RCD    BASE, .ppt = SKS_PPT_RCD

/* Check the claims and return the refusal as one text; every refusal names its claim. */
static enum hsm_status
check(const struct sks_claims *claims, struct hsm_reason *why)
{
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st = sks_claims_check(claims, &refusal);

    assert_true((st == HSM_ERR_MALFORMED) == (refusal.member != NULL));
    return sks_refusal_tell(&refusal, st, why);
}

static void
assert_payload(const struct sks_claims *claims, const char *wanted)
{
    char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
    struct hsm_reason why = {""};
    size_t len = 0;

    if (check(claims, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(sks_claims_payload(claims, payload, &len), HSM_OK);
    assert_string_equal(payload, wanted);
    assert_int_equal(len, strlen(wanted));
}

/* The payload of a PASSporT made by a peer; free() it. */
static char *
payload_of_vector(const json_t *vectors, const char *id)
{
    const json_t *cases = json_object_get(vectors, "cases");
    uint8_t *octets = NULL;
    size_t len = 0;

    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *jws = json_string_value(json_object_get(one, "jws"));

        if (strcmp(json_string_value(json_object_get(one, "id")), id) != 0)
            continue;
        jws = strchr(jws, '.') + 1;
        assert_int_equal(acme_base64url_decode(jws, strcspn(jws, "."), &octets, &len), HSM_OK);
    }
    assert_non_null(octets);
    return (char *)octets;
}

static void
each_kind_is_written_as_its_vector(void **state)
{
    json_t *vectors = data_json("self/passport_other.json");
    json_t *rcd = json_pack("{s:s}", "nam", "Example Corp");
    const struct {
        const char *id;
        struct sks_claims claims;
    } cases[] = {
        {"shaken", {SHAKEN}},
        {"div",
         {.ppt = SKS_PPT_DIV,
          .orig_tn = "12155551212",
          .dest_tn = to_14,
          .dest_tn_count = 1,
          .iat = 1768478400,
          .div_tn = "12155551213"}},
        {"rph", {RPH}},
        {"rph+sph",
         {BASE, .ppt = SKS_PPT_RPH, .rph_auth = esnet, .rph_count = 1, .sph = "psap-callback"}},
        {"rcd", {RCD, .rcd = rcd}},
        {"base-no-ppt",
         {.ppt = SKS_PPT_NONE,
          .orig_tn = "12155551212",
          .dest_uri = to_alice,
          .dest_uri_count = 1,
          .iat = 1768478400}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *wanted = payload_of_vector(vectors, cases[i].id);

        print_message("%s\n", cases[i].id);
        assert_payload(&cases[i].claims, wanted);
        free(wanted);
    }
    json_decref(rcd);
    json_decref(vectors);
}

/* RFC 8225 section 9: members are sorted; the order of arrays is kept. */
static void
all_members_stand_in_their_order(void **state)
{
    static const struct sks_mky mky[] = {{"sha-256", SHA256_A}, {"sha-256", SHA256_B}};
    json_t *rcd = json_pack("{s:s, s:s}", "nam", "Caf\xc3\xa9", "apn", "12155551212");
    json_t *rcdi = json_pack("{s:s}", "/apn", "sha256-h1Smt4Q59Pp/wtiAsQUhDxDY0cE1Rk61vzBWv/tdGnw");
    struct hsm_reason why = {""};
    struct sks_claims claims = {SHAKEN, .rcd = rcd, .crn = "say \"hi\"", .mky = mky,
                                .mky_count = 2};

    (void)state;
    assert_payload(
        &claims, "{\"attest\":\"A\",\"crn\":\"say \\\"hi\\\"\",\"dest\":{\"tn\":[\"12155551213\"]},"
                 "\"iat\":1768478400,\"mky\":[{\"alg\":\"sha-256\",\"dig\":\"" SHA256_A
                 "\"},{\"alg\":\"sha-256\",\"dig\":\"" SHA256_B
                 "\"}],\"orig\":{\"tn\":\"12155551212\"},\"origid\":\"" ORIGID
                 "\",\"rcd\":{\"apn\":\"12155551212\",\"nam\":\"Caf\xc3\xa9\"}}");
    claims.rcdi = rcdi; /* the digest does not match the value */
    assert_int_equal(check(&claims, &why), HSM_ERR_MALFORMED);
    assert_non_null(strstr(why.text, "rcdi: /apn"));
    assert_payload(&(struct sks_claims){DIV, .div_hi = "1.2"},
                   "{\"dest\":{\"tn\":[\"12155551213\"]},\"div\":{\"hi\":\"1.2\",\"tn\":"
                   "\"12155551213\"},\"iat\":1768478400,\"orig\":{\"tn\":\"12155551212\"}}");
    json_decref(rcdi);
    json_decref(rcd);
}

static void
what_a_standard_forbids_is_refused(void **state)
{
    static const char *const no_dot[] = {"ets0"};
    static const char *const two_dots[] = {"ets.0.1"};
    static const char *const blank[] = {"ets. 0"};
    static const struct sks_mky twice[] = {{"sha-256", SHA256_A}, {"sha-256", SHA256_A}};
    static const struct sks_mky unsorted[] = {{"sha-256", SHA256_B}, {"sha-256", SHA256_A}};
    static const struct sks_mky weak[] = {{"md5", "00112233445566778899AABBCCDDEEFF"}};
    static const struct sks_mky cut[] = {{"sha-256", "AABB"}};
    static const struct sks_mky lower[] = {
        {"sha-256", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}};
    json_t *rcd = json_pack("{s:s}", "nam", "");
    const struct {
        const char *claim;
        struct sks_claims claims;
    } cases[] = {
        {"attest", {BASE, .origid = ORIGID}},
        {"attest", {DIV, .attest = 'A'}},
        {"attest", {RPH, .attest = 'A'}},
        {"attest", {RCD, .crn = "x", .attest = 'A'}},
        {"origid", {BASE, .attest = 'A'}},
        {"origid", {DIV, .origid = ORIGID}},
        {"div", {SHAKEN, .div_tn = "1"}},
        {"div", {BASE, .ppt = SKS_PPT_DIV}},
        {"div", {DIV, .div_uri = "sip:a@example.com"}},
        {"div", {BASE, .ppt = SKS_PPT_DIV, .div_tn = "+1"}},
        {"div", {DIV, .div_hi = ""}},
        {"div", {DIV, .div_hi = "1;2"}},
        {"rcd", {DIV, .rcd = rcd}},
        {"crn", {DIV, .crn = "x"}},
        {"mky", {DIV, .mky = twice, .mky_count = 1}},
        {"rph", {SHAKEN, .rph_auth = ets_wps, .rph_count = 2}},
        {"rph", {BASE, .ppt = SKS_PPT_RPH}},
        {"rph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = no_dot, .rph_count = 1}},
        {"rph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = two_dots, .rph_count = 1}},
        {"rph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = blank, .rph_count = 1}},
        {"rph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = ets_wps, .rph_count = SKS_RPH_MAX + 1}},
        {"sph", {SHAKEN, .sph = "psap-callback"}},
        {"sph", {RPH, .sph = "psap-callback"}}, /* without an esnet value */
        {"rph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = too_long, .rph_count = 1}},
        {"sph", {BASE, .ppt = SKS_PPT_RPH, .rph_auth = esnet, .rph_count = 1, .sph = "urgent"}},
        {"rcd", {RCD}},
        {"rcdi", {SHAKEN, .rcdi = rcd}},
        {"crn", {SHAKEN, .crn = ""}},
        {"mky", {SHAKEN, .mky = twice, .mky_count = 2}},
        {"mky", {SHAKEN, .mky = unsorted, .mky_count = 2}},
        {"mky", {SHAKEN, .mky = weak, .mky_count = 1}},
        {"mky", {SHAKEN, .mky = cut, .mky_count = 1}},
        {"mky", {SHAKEN, .mky = lower, .mky_count = 1}},
        {"mky", {SHAKEN, .mky = unsorted, .mky_count = SKS_MKY_MAX + 1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hsm_reason why = {""};

        if (check(&cases[i].claims, &why) != HSM_ERR_MALFORMED ||
            strncmp(why.text, cases[i].claim, strlen(cases[i].claim)) != 0)
            fail_msg("case %zu (%s): %s", i, cases[i].claim, why.text);
    }
    json_decref(rcd);
}

/* ---- rich call data ---- */

static enum hsm_status
check_rich(const char *rcd_text, const char *rcdi_text, struct hsm_reason *why)
{
    json_t *rcd = json_loads(rcd_text, JSON_DECODE_ANY, NULL);
    json_t *rcdi = rcdi_text == NULL ? NULL : json_loads(rcdi_text, JSON_DECODE_ANY, NULL);
    const struct sks_claims claims = {RCD, .rcd = rcd, .rcdi = rcdi};
    enum hsm_status st;

    assert_non_null(rcd);
    assert_true(rcdi_text == NULL || rcdi != NULL);
    st = check(&claims, why);
    json_decref(rcd);
    json_decref(rcdi);
    return st;
}

/* RFC 9795 section 5.1 */
static void
rich_call_data_has_the_members_of_its_rfc(void **state)
{
    static const char *const good[] = {
        "{\"nam\":\"\"}",
        "{\"nam\":\"Q\",\"apn\":\"12155551212\",\"icn\":\"https://example.com/q.png\"}",
        "{\"nam\":\"Q\",\"icn\":\"data:image/png;base64,AAAA\"}",
        "{\"nam\":\"Q\",\"jcl\":\"https://example.com/q.json\"}",
        "{\"nam\":\"Q\",\"jcd\":[\"vcard\",[[\"version\",{},\"text\",\"4.0\"]]]}",
    };
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"nam\":1}",
        "{\"nam\":\"Q\",\"apn\":\"+1\"}",
        "{\"nam\":\"Q\",\"apn\":1}",
        "{\"nam\":\"Q\",\"icn\":\"http://example.com/q.png\"}",
        "{\"nam\":\"Q\",\"icn\":\"https://\"}",
        "{\"nam\":\"Q\",\"icn\":\"data:\"}",
        "{\"nam\":\"Q\",\"jcl\":\"data:x,y\"}",
        "{\"nam\":\"Q\",\"jcd\":{}}",
        "{\"nam\":\"Q\",\"jcd\":[\"vcard\",[]]}",
        "{\"nam\":\"Q\",\"jcd\":[\"card\",[[\"version\",{},\"text\",\"4.0\"]]]}",
        "{\"nam\":\"Q\",\"jcd\":[\"vcard\",[[\"version\",{},\"text\"]]]}",
        "{\"nam\":\"Q\",\"jcd\":[\"vcard\",[[\"version\",{},\"text\",1.5]]]}",
        "{\"nam\":\"Q\",\"jcl\":\"https://a\",\"jcd\":[\"vcard\",[[\"v\",{},\"t\",\"4\"]]]}",
        "{\"nam\":\"Q\",\"other\":\"x\"}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct hsm_reason why = {""};

        if (check_rich(good[i], NULL, &why) != HSM_OK)
            fail_msg("%s: %s", good[i], why.text);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct hsm_reason why = {""};

        if (check_rich(bad[i], NULL, &why) != HSM_ERR_MALFORMED ||
            strncmp(why.text, "rcd: ", 5) != 0)
            fail_msg("%s: %s", bad[i], why.text);
    }
}

/* The digests that RFC 9795 publishes, and the same digests for another value. */
static void
published_digests_are_recomputed(void **state)
{
    json_t *vectors = data_json("rfc/rfc9795_rcdi.json");
    const json_t *cases = json_object_get(vectors, "cases");
    const json_t *nam = json_array_get(cases, 0);
    const json_t *jcd = json_array_get(cases, 2);
    json_t *rcd = json_object();
    json_t *rcdi = json_object();
    const json_t *photo;
    struct sks_claims claims = {RCD, .rcd = rcd, .rcdi = rcdi};
    struct hsm_reason why = {""};

    (void)state;
    json_object_set(rcd, "nam", json_object_get(nam, "value"));
    json_object_set(rcd, "jcd", json_object_get(jcd, "value"));
    json_object_set(rcdi, "/nam", json_object_get(nam, "rcdi"));
    json_object_set(rcdi, "/jcd", json_object_get(jcd, "rcdi"));
    assert_int_equal(check(&claims, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "rcdi: /jcd/1/3/3: a URI without its digest");
    for (int i = 3; i <= 5; i++) {
        char pointer[16];

        snprintf(pointer, sizeof(pointer), "/jcd/1/%d/3", i);
        json_object_set(rcdi, pointer, json_object_get(nam, "rcdi")); /* content not fetched */
    }
    photo = json_object_get(rcdi, "/jcd/1/3/3");
    assert_non_null(photo);
    if (check(&claims, &why) != HSM_OK)
        fail_msg("%s", why.text);
    json_object_set_new(rcd, "nam", json_string("R Branch"));
    assert_int_equal(check(&claims, &why), HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "rcdi: /nam: not the digest of the value");
    json_decref(rcdi);
    json_decref(rcd);
    json_decref(vectors);
}

static void
digests_that_say_nothing_are_refused(void **state)
{
#define NAM_DIGEST "sha256-sM275lTgzCte+LHOKHtU4SxG8shlOo6OS4ot8IJQImY"
#define RCD_Q      "{\"nam\":\"Q Branch Spy Gadgets\"}"
#define RCD_ICN    "{\"nam\":\"Q\",\"icn\":\"https://example.com/q.png\"}"
    static const struct {
        const char *rcd, *rcdi;
        bool good;
    } cases[] = {
        {RCD_Q, "{\"/nam\":\"" NAM_DIGEST "\"}", true},
        {RCD_Q, "{\"/nam\":\"" NAM_DIGEST "=\"}", true},
        {RCD_ICN, "{\"/icn\":\"" NAM_DIGEST "\"}", true},
        {RCD_Q, "{}", false},
        {RCD_Q, "[]", false},
        {RCD_Q, "{\"/nam\":1}", false},
        {RCD_Q, "{\"nam\":\"" NAM_DIGEST "\"}", false},
        {RCD_Q, "{\"/apn\":\"" NAM_DIGEST "\"}", false},
        {RCD_Q, "{\"/nam\":\"sha1-sM275lTgzCte+LHOKHtU4SxG8sg\"}", false},
        {RCD_Q, "{\"/nam\":\"sha256-sM275lTg\"}", false},
        {RCD_Q, "{\"/nam\":\"sha384-sM275lTgzCte+LHOKHtU4SxG8shlOo6OS4ot8IJQImY\"}", false},
        {RCD_Q, "{\"/nam\":\"sha256-sM275lTgzCte-LHOKHtU4SxG8shlOo6OS4ot8IJQImY\"}", false},
        {RCD_Q, "{\"/nam/0\":\"" NAM_DIGEST "\"}", false},
        {RCD_Q, "{\"/jcl/1\":\"" NAM_DIGEST "\"}", false},
        {RCD_ICN, "{\"/nam\":\"sha256-QiKqjFx5WdCEmCmEcYqcTSq1AlHtJzdJcO2cEmEtDKo\"}", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hsm_reason why = {""};
        enum hsm_status st = check_rich(cases[i].rcd, cases[i].rcdi, &why);

        if (st != (cases[i].good ? HSM_OK : HSM_ERR_MALFORMED))
            fail_msg("%s: %s", cases[i].rcdi, why.text);
    }
}

/* Otherwise a request costs as many digests of a long claim as fit into it. */
static void
rich_call_data_that_is_too_long_is_refused_before_its_digests(void **state)
{
    char nam[SKS_PASSPORT_PAYLOAD_MAX + 1];
    json_t *rcdi = json_pack("{s:s}", "/nam", NAM_DIGEST);
    json_t *rcd;
    struct hsm_reason why = {""};

    (void)state;
    memset(nam, 'Q', sizeof(nam) - 1);
    nam[sizeof(nam) - 1] = '\0';
    rcd = json_pack("{s:s}", "nam", nam);
    assert_non_null(rcd);
    assert_int_equal(check(&(struct sks_claims){RCD, .rcd = rcd, .rcdi = rcdi}, &why),
                     HSM_ERR_MALFORMED);
    assert_string_equal(why.text, "rcd: too long");
    json_decref(rcd);
    json_decref(rcdi);
}

static void
names_of_kinds_are_those_of_ppt(void **state)
{
    enum sks_ppt ppt;

    (void)state;
    for (int i = 0; i < SKS_PPT_NONE; i++) {
        assert_int_equal(sks_ppt_parse(sks_ppt_text((enum sks_ppt)i), &ppt), HSM_OK);
        assert_int_equal(ppt, i);
    }
    assert_int_equal(sks_ppt_parse("", &ppt), HSM_ERR_NOT_FOUND);
    assert_int_equal(sks_ppt_parse("SHAKEN", &ppt), HSM_ERR_NOT_FOUND);
    assert_int_equal(sks_ppt_parse("div-o", &ppt), HSM_ERR_NOT_FOUND);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_written_as_its_vector),
        cmocka_unit_test(all_members_stand_in_their_order),
        cmocka_unit_test(what_a_standard_forbids_is_refused),
        cmocka_unit_test(rich_call_data_has_the_members_of_its_rfc),
        cmocka_unit_test(published_digests_are_recomputed),
        cmocka_unit_test(digests_that_say_nothing_are_refused),
        cmocka_unit_test(rich_call_data_that_is_too_long_is_refused_before_its_digests),
        cmocka_unit_test(names_of_kinds_are_those_of_ppt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
