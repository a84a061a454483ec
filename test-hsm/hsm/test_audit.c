/* test_audit.c - mirrors hsm/src/audit*.c: tokens with and without a planted fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <hsm/audit.h>
#include <hsm/es256.h>

#include "audit_fixture.h"
#include "raw.h"
#include "skips.h"
#include "softhsm.h"

/* A token with a key that has a certificate, and an audit key; planted objects are added to it. */
struct scene {
    struct hsm_token *token;
    struct raw *raw;
    struct hsm_key *key;
    struct hsm_key *signer;
    struct hsm_audit *audit;
    char certificates[512];
};

static struct scene scene; /* of the running test; also closed if the test fails */

static void
scene_start(const char *label)
{
    scene.token = softhsm_token(label);
    scene.raw = raw_open(label);
    assert_int_equal(hsm_key_generate(scene.token, "signer", &scene.key), HSM_OK);
    assert_int_equal(hsm_key_generate(scene.token, "audit", &scene.signer), HSM_OK);
    snprintf(scene.certificates, sizeof(scene.certificates), "%s/%s.pem", softhsm_dir(), label);
    audit_certificate_file(scene.certificates, hsm_key_public(scene.key));
}

static int
scene_stop(void **state)
{
    (void)state;
    hsm_audit_free(scene.audit);
    hsm_key_free(scene.key);
    hsm_key_free(scene.signer);
    if (scene.raw != NULL)
        raw_close(scene.raw);
    hsm_token_close(scene.token);
    memset(&scene, 0, sizeof(scene));
    return 0;
}

static const json_t *
report_of(bool attempts)
{
    const struct hsm_audit_config config = {
        .program = "test_audit", .signer = scene.signer, .attempts = attempts, .now = AUDIT_NOW};
    const json_t *report = NULL;

    hsm_audit_free(scene.audit);
    scene.audit = NULL;
    assert_int_equal(hsm_audit_new(&config, &scene.audit), HSM_OK);
    if (scene.certificates[0] != '\0')
        assert_int_equal(hsm_audit_certificates(scene.audit, scene.certificates), HSM_OK);
    assert_int_equal(hsm_audit_token(scene.audit, scene.token), HSM_OK);
    assert_int_equal(hsm_audit_finish(scene.audit, &report), HSM_OK);
    return report;
}

/* Add a certificate for the planted key, so that its absence is not a finding. */
static void
certify(const char *label)
{
    EVP_PKEY *public_key = audit_public_of(scene.token, label);

    audit_certificate_file(scene.certificates, public_key);
    EVP_PKEY_free(public_key);
}

static void
a_clean_token_passes(void **state)
{
    const json_t *report;

    (void)state;
    scene_start("clean");
    report = report_of(false);
    audit_assert_findings(report, NULL);
    assert_int_equal(hsm_audit_faults(report), 0);
    audit_assert_verdict(report, "signer", "key.extractable", "pass");
    audit_assert_verdict(report, "signer", "key.local", "pass");
    audit_assert_verdict(report, "signer", "key.public-half", "pass");
    audit_assert_verdict(report, "signer", "key.certificate", "pass");
    audit_assert_verdict(report, "audit", "key.certificate", "info");
}

static void
planted_key_is_the_finding(const char *label, enum raw_plant plant, const char *id)
{
    scene_start(label);
    assert_true(raw_plant(scene.raw, plant, "planted", 1));
    certify("planted");
    audit_assert_findings(report_of(false), id);
    audit_assert_verdict(report_of(false), "planted", id, "finding");
    audit_assert_verdict(report_of(false), "signer", id, "pass");
}

static void
a_key_as_ours_is_no_finding(void **state)
{
    (void)state;
    scene_start("as-ours");
    assert_true(raw_plant(scene.raw, RAW_PLANT_NOTHING, "planted", 1));
    certify("planted");
    audit_assert_findings(report_of(false), NULL);
}

static void
an_extractable_key_is_the_finding(void **state)
{
    (void)state;
    planted_key_is_the_finding("extractable", RAW_PLANT_EXTRACTABLE, "key.extractable");
}

static void
an_imported_key_is_the_finding(void **state)
{
    (void)state;
    planted_key_is_the_finding("imported", RAW_PLANT_IMPORTED, "key.local");
}

static void
a_modifiable_key_is_the_finding(void **state)
{
    (void)state;
    planted_key_is_the_finding("modifiable", RAW_PLANT_MODIFIABLE, "key.modifiable");
}

static void
a_wrapping_key_is_the_finding(void **state)
{
    (void)state;
    scene_start("wrapping");
    assert_true(raw_plant_wrapping_key(scene.raw, "wrapper"));
    audit_assert_findings(report_of(false), "token.wrapping-key");
}

static void
a_wrapping_key_is_told_of_beside_the_key_that_it_can_wrap(void **state)
{
    const json_t *report;

    (void)state;
    scene_start("wrappable");
    assert_true(raw_plant(scene.raw, RAW_PLANT_EXTRACTABLE, "planted", 1));
    assert_true(raw_plant_wrapping_key(scene.raw, "wrapper"));
    certify("planted");
    report = report_of(true);
    audit_assert_verdict(report, "planted", "key.extractable", "finding");
    audit_assert_verdict(report, "wrapper", "token.wrapping-key", "finding");
    assert_int_equal(audit_count(report, NULL, "finding"), 2);
    assert_true(audit_count(report, "attempt.wrap", "consequence") > 0);
}

static void
a_key_without_a_certificate_is_the_finding(void **state)
{
    (void)state;
    scene_start("uncertified");
    assert_true(raw_plant(scene.raw, RAW_PLANT_NOTHING, "planted", 1));
    audit_assert_findings(report_of(false), "key.certificate");
    audit_assert_verdict(report_of(false), "planted", "key.certificate", "finding");
}

static void
put_certificate(const char *of, EVP_PKEY *public_key)
{
    struct hsm_key_info info = audit_info_of(scene.token, of);
    uint8_t *der = NULL;
    size_t len = audit_certificate_der(public_key, &der);

    assert_true(raw_certificate(scene.raw, of, info.id, info.id_len, der, len));
    OPENSSL_free(der);
}

static void
a_certificate_on_the_token_is_the_keys(void **state)
{
    const json_t *report;

    (void)state;
    scene_start("certified");
    scene.certificates[0] = '\0';
    put_certificate("signer", hsm_key_public(scene.key));
    report = report_of(false);
    audit_assert_findings(report, NULL);
    audit_assert_verdict(report, "signer", "certificate.key", "pass");
}

static void
a_certificate_for_another_key_is_the_finding(void **state)
{
    EVP_PKEY *other = peer_key_new("P-256");
    const json_t *report;

    (void)state;
    scene_start("mismatched");
    assert_true(raw_plant(scene.raw, RAW_PLANT_NOTHING, "planted", 1));
    put_certificate("planted", other);
    report = report_of(false);
    audit_assert_findings(report, "certificate.key");
    audit_assert_verdict(report, "planted", "key.certificate", "consequence");
    EVP_PKEY_free(other);
}

static void
a_certificate_of_no_key_here_is_an_orphan_and_no_finding(void **state)
{
    EVP_PKEY *other = peer_key_new("P-256");
    uint8_t *der = NULL;
    size_t len = audit_certificate_der(other, &der);

    (void)state;
    scene_start("orphan");
    assert_true(raw_certificate(scene.raw, "issuer", (const uint8_t *)"iss", 3, der, len));
    audit_assert_findings(report_of(false), NULL);
    audit_assert_verdict(report_of(false), "issuer", "certificate.orphan", "info");
    OPENSSL_free(der);
    EVP_PKEY_free(other);
}

static void
a_key_that_is_taken_apart_shows_what_is_missing(void **state)
{
    const json_t *report;

    (void)state;
    scene_start("half");
    assert_true(raw_plant(scene.raw, RAW_PLANT_NOTHING, "planted", 1));
    raw_destroy(scene.raw, false, "planted");
    report = report_of(false);
    audit_assert_findings(report, "key.public-half");
    audit_assert_verdict(report, "planted", "key.certificate", "consequence");
}

static void
attempts_take_nothing_and_leave_nothing(void **state)
{
    const json_t *report;
    size_t before;

    (void)state;
    scene_start("attempts");
    before = raw_objects(scene.raw);
    report = report_of(true);
    audit_assert_findings(report, NULL);
    assert_int_equal(audit_count(report, "attempt.value", "pass"), 2);
    assert_int_equal(audit_count(report, "attempt.copy", "pass"), 2);
    assert_int_equal(audit_count(report, "attempt.derive", "pass"), 2);
    assert_int_equal(audit_count(report, "attempt.wrap", "finding"), 0);
    assert_int_equal(raw_objects(scene.raw), before);
    assert_int_equal(raw_count(scene.raw, true, "sti-hsm-audit-throw-away"), 0);
    audit_assert_verdict(report_of(false), "signer", "key.extractable", "pass");
}

static void
an_attempt_that_succeeds_is_told_with_the_attribute_that_let_it(void **state)
{
    const json_t *report;

    (void)state;
    scene_start("taken");
    assert_true(raw_plant(scene.raw, RAW_PLANT_EXTRACTABLE, "planted", 1));
    certify("planted");
    report = report_of(true);
    audit_assert_findings(report, "key.extractable");
    assert_true(audit_count(report, "attempt.wrap", "consequence") > 0);
}

static void
text_and_html_say_what_the_report_says(void **state)
{
    const json_t *report;
    char *text;
    char *html;

    (void)state;
    scene_start("printed");
    assert_true(raw_plant(scene.raw, RAW_PLANT_NOTHING, "<script>alert('&')", 1));
    report = report_of(false);
    text = audit_printed(report, hsm_audit_print_text);
    html = audit_printed(report, hsm_audit_print_html);
    assert_non_null(strstr(text, "NOT CLEAN"));
    assert_non_null(strstr(text, "key.certificate"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(&#39;&amp;&#39;)"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "http:"));
    assert_non_null(strstr(html, "</html>"));
    free(text);
    free(html);
}

static void
a_nonce_is_printable_and_bounded(void **state)
{
    static const char *const bad[] = {"", "a\nb", "\x7f", "caf\xc3\xa9"};
    struct hsm_audit_config config = {.program = "test_audit", .now = AUDIT_NOW};
    struct hsm_audit *audit = NULL;
    char longest[HSM_AUDIT_NONCE_MAX + 2];

    (void)state;
    memset(longest, 'n', sizeof(longest));
    longest[HSM_AUDIT_NONCE_MAX + 1] = '\0';
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config.nonce = bad[i];
        assert_int_equal(hsm_audit_new(&config, &audit), HSM_ERR_USAGE);
    }
    config.nonce = longest;
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_ERR_USAGE);
    longest[HSM_AUDIT_NONCE_MAX] = '\0';
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    hsm_audit_free(audit);
}

static void
an_audit_without_a_signer_is_not_signed(void **state)
{
    const struct hsm_audit_config config = {.program = "test_audit", .now = AUDIT_NOW};
    struct hsm_audit *audit = NULL;
    const json_t *report = NULL;
    char *jws = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
    assert_int_equal(hsm_audit_sign(audit, &jws, &len), HSM_ERR_USAGE);
    assert_int_equal(hsm_audit_finish(audit, &report), HSM_OK);
    assert_int_equal(hsm_audit_sign(audit, &jws, &len), HSM_ERR_USAGE);
    hsm_audit_free(audit);
}

static int
start(void **state)
{
    (void)state;
    softhsm_start();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

#define AUDIT_TEST(test) cmocka_unit_test_teardown(test, scene_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        AUDIT_TEST(a_clean_token_passes),
        AUDIT_TEST(a_key_as_ours_is_no_finding),
        AUDIT_TEST(an_extractable_key_is_the_finding),
        AUDIT_TEST(an_imported_key_is_the_finding),
        AUDIT_TEST(a_modifiable_key_is_the_finding),
        AUDIT_TEST(a_wrapping_key_is_the_finding),
        AUDIT_TEST(a_wrapping_key_is_told_of_beside_the_key_that_it_can_wrap),
        AUDIT_TEST(a_key_without_a_certificate_is_the_finding),
        AUDIT_TEST(a_certificate_on_the_token_is_the_keys),
        AUDIT_TEST(a_certificate_for_another_key_is_the_finding),
        AUDIT_TEST(a_certificate_of_no_key_here_is_an_orphan_and_no_finding),
        AUDIT_TEST(a_key_that_is_taken_apart_shows_what_is_missing),
        AUDIT_TEST(attempts_take_nothing_and_leave_nothing),
        AUDIT_TEST(an_attempt_that_succeeds_is_told_with_the_attribute_that_let_it),
        AUDIT_TEST(text_and_html_say_what_the_report_says),
        AUDIT_TEST(a_nonce_is_printable_and_bounded),
        AUDIT_TEST(an_audit_without_a_signer_is_not_signed),
    };

    return skips_run_group_tests(tests, start, stop);
}
