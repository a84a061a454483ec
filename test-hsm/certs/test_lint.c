/* test_lint.c - mirrors certs/src/lint.c and lint_print.c, and the program's lint and rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <certs/lint.h>

#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const roles[] = {"root", "intermediate", "end-entity"};

static struct certs_lint *
lint(const X509 *cert, const struct certs_lint_options *options)
{
    struct certs_lint *found = NULL;

    assert_int_equal(certs_lint_new(cert, options, &found), HSM_OK);
    return found;
}

static bool
has(const struct certs_lint *found, const char *id)
{
    for (size_t i = 0; i < certs_lint_len(found); i++) {
        if (strcmp(certs_lint_get(found, i)->rule->id, id) == 0)
            return true;
    }
    return false;
}

/* The output as text or JSON; free() it. */
static char *
printed(const struct certs_lint *found, const char *file, bool json)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    assert_int_equal(
        json ? certs_lint_json(found, file, 7, to) : certs_lint_show(found, file, 7, to), HSM_OK);
    fclose(to);
    return text;
}

static void
certificates_of_the_vectors_keep_the_profile_but_those_of_the_pa(void **state)
{
    static const struct {
        const char *name;
        enum certs_lint_role role;
        bool good;
    } certs[] = {
        {"self/sti-ca-root.cert.pem", CERTS_LINT_ROOT, true},
        {"self/sti-ca-int.cert.pem", CERTS_LINT_INTERMEDIATE, true},
        {"self/sp-1234.cert.pem", CERTS_LINT_END_ENTITY, true},
        {"self/pa-root.cert.pem", CERTS_LINT_ROOT, false},
        {"self/pa-signer.cert.pem", CERTS_LINT_END_ENTITY, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(certs); i++) {
        X509 *cert = data_cert(certs[i].name);
        struct certs_lint *found = lint(cert, NULL);

        assert_int_equal(certs_lint_role(found), certs[i].role);
        assert_int_equal(certs_lint_count(found, CERTS_LINT_ERROR) == 0, certs[i].good);
        certs_lint_free(found);
        X509_free(cert);
    }
}

static void
the_day_and_the_sources_choose_the_rules(void **state)
{
    X509 *cert = data_cert("self/pa-signer.cert.pem");
    struct certs_lint *found = lint(cert, NULL);

    (void)state;
    assert_int_equal(certs_lint_date(found), 20250101); /* the certificate's notBefore */
    assert_true(has(found, "ee.tnauthlist"));
    assert_true(has(found, "ee.certificate-policies.shaken"));
    certs_lint_free(found);

    found = lint(cert, &(struct certs_lint_options){.date = 20201202});
    assert_int_equal(certs_lint_len(found), 0);
    certs_lint_free(found);
    found = lint(cert, &(struct certs_lint_options){.date = 20201203});
    assert_true(has(found, "ee.tnauthlist"));
    assert_false(has(found, "ee.tnauthlist.spc-characters"));
    certs_lint_free(found);

    found = lint(cert, &(struct certs_lint_options){.sources = CERTS_LINT_US_CP});
    assert_false(has(found, "ee.tnauthlist"));
    assert_true(has(found, "ee.certificate-policies.shaken"));
    certs_lint_free(found);
    X509_free(cert);
}

static void
the_issuing_certificate_is_compared_where_it_is_known(void **state)
{
    X509 *cert = data_cert("self/sp-1234.cert.pem");
    X509 *issuer = data_cert("self/sti-ca-int.cert.pem");
    X509 *other = data_cert("self/sti-ca-root.cert.pem");
    struct certs_lint *found = lint(cert, &(struct certs_lint_options){.issuer = issuer});

    (void)state;
    assert_int_equal(certs_lint_len(found), 0);
    certs_lint_free(found);
    found = lint(cert, &(struct certs_lint_options){.issuer = other});
    assert_true(has(found, "issued.issuer.name"));
    assert_true(has(found, "issued.authority-key-identifier.issuer"));
    certs_lint_free(found);
    X509_free(other);
    X509_free(issuer);
    X509_free(cert);
}

/* A CA lints before it signs, so the certificate does not show its role yet. */
static void
a_certificate_that_is_not_signed_can_be_judged(void **state)
{
    X509 *signed_cert = data_cert("self/sti-ca-root.cert.pem");
    X509 *cert = X509_new();
    struct certs_lint *found;
    char *text;
    json_t *json;

    (void)state;
    X509_set_version(cert, X509_VERSION_3);
    X509_set_subject_name(cert, X509_get_subject_name(signed_cert));
    X509_set_issuer_name(cert, X509_get_issuer_name(signed_cert));
    X509_set_pubkey(cert, X509_get0_pubkey(signed_cert));
    ASN1_TIME_set(X509_getm_notBefore(cert), DATA_NOW);
    ASN1_TIME_set(X509_getm_notAfter(cert), DATA_NOW + 60);
    found = lint(cert, &(struct certs_lint_options){.role = CERTS_LINT_ROOT});
    assert_int_equal(certs_lint_role(found), CERTS_LINT_ROOT);
    assert_true(has(found, "sti.basic-constraints"));
    assert_true(has(found, "ca.serial-number.positive"));
    assert_true(has(found, "ca.signature.algorithm"));
    assert_false(has(found, "sti.signature.agreement"));
    assert_false(has(found, "root.subject.cn.root"));
    text = printed(found, "unsigned", true);
    json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "sha256")));
    json_decref(json);
    free(text);
    certs_lint_free(found);
    X509_free(cert);
    X509_free(signed_cert);
}

static void
json_tells_the_certificate_and_each_finding(void **state)
{
    X509 *cert = data_cert("self/pa-signer.cert.pem");
    struct certs_lint *found = lint(cert, NULL);
    char *text = printed(found, "a \"b\"\\\n\xc3\xa9\xff", true);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_t *findings = json_object_get(json, "findings");

    (void)state;
    assert_non_null(json);
    assert_null(strchr(text, '\n'));
    assert_string_equal(json_string_value(json_object_get(json, "file")),
                        "a \"b\"\\\n\xc3\xa9\xef\xbf\xbd");
    assert_int_equal(json_integer_value(json_object_get(json, "certificate")), 7);
    assert_int_equal(strlen(json_string_value(json_object_get(json, "sha256"))), 64);
    assert_string_equal(json_string_value(json_object_get(json, "role")), "end-entity");
    assert_string_equal(json_string_value(json_object_get(json, "rules_of")), "2025-01-01");
    assert_int_equal(json_integer_value(json_object_get(json, "errors")),
                     certs_lint_count(found, CERTS_LINT_ERROR));
    assert_int_equal(json_array_size(findings), certs_lint_len(found));
    for (size_t i = 0; i < certs_lint_len(found); i++) {
        const struct certs_lint_finding *finding = certs_lint_get(found, i);
        json_t *one = json_array_get(findings, i);

        assert_string_equal(json_string_value(json_object_get(one, "rule")), finding->rule->id);
        assert_string_equal(json_string_value(json_object_get(one, "severity")),
                            certs_lint_severity_text(finding->rule->severity));
        assert_string_equal(json_string_value(json_object_get(one, "citation")),
                            finding->rule->citation);
        assert_string_equal(json_string_value(json_object_get(one, "detail")),
                            finding->detail.text);
    }
    json_decref(json);
    free(text);
    certs_lint_free(found);
    X509_free(cert);
}

static void
shown_names_cannot_drive_a_terminal(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *cert = peer_cert(&(struct peer_spec){.cn = "x\033[31m\n", .key = key});
    struct certs_lint *found = lint(cert, NULL);
    char *text = printed(found, "file", false);

    (void)state;
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "file: certificate 7, end-entity: CN=x\\1B[31m\\0A\n"));
    assert_non_null(strstr(text, "ee.subject.cn.shaken: CN \"x?[31m?\"\n"));
    free(text);
    certs_lint_free(found);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* Change every octet of a certificate: whatever OpenSSL still parses is judged and printed. */
static void
whatever_openssl_reads_is_judged(void **state)
{
    X509 *cert = data_cert("self/sp-1234.cert.pem");
    uint8_t *der = NULL;
    size_t len = 0;
    size_t judged = 0;

    (void)state;
    assert_int_equal(certs_cert_der(cert, &der, &len), HSM_OK);
    X509_free(cert);
    for (size_t i = 0; i < len * 8; i++) {
        const uint8_t *at = der;

        der[i / 8] ^= (uint8_t)(1U << i % 8);
        cert = d2i_X509(NULL, &at, (long)len);
        if (cert != NULL) {
            struct certs_lint *found = lint(cert, NULL);

            free(printed(found, "file", false));
            free(printed(found, "file", true));
            certs_lint_free(found);
            judged++;
        }
        X509_free(cert);
        der[i / 8] ^= (uint8_t)(1U << i % 8);
    }
    assert_true(judged > 1000);
    free(der);
}

/* Run sti-cert with these words; *output receives its output: free() it. */
static int
run(const char *words, char **output)
{
    char command[8192];
    size_t len;
    FILE *said;
    FILE *to = open_memstream(output, &len);
    int c;
    int status;

    snprintf(command, sizeof(command), "'%s' %s", program_path("sti-cert"), words);
    said = popen(command, "r");
    assert_non_null(said);
    while ((c = fgetc(said)) != EOF)
        fputc(c, to);
    fclose(to);
    status = pclose(said);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
the_exit_status_tells_the_severity(void **state)
{
    static const struct {
        const char *words; /* %s: test-hsm/data/self */
        int status;
        const char *says;
    } runs[] = {
        {"lint %s/sp-1234.chain.pem", 0, "certificate 2, intermediate"},
        {"lint %s/sp-1234.chain.pem %s/sti-ca-root.cert.pem", 0, "certificate 1, root"},
        {"lint %s/sp-1234.chain.pem %s/pa-signer.cert.pem", 1, "error    ee.tnauthlist: "},
        {"lint --date 2020-01-01 %s/pa-signer.cert.pem", 0, "rules of 2020-01-01: 0 errors"},
        {"lint %s/pa-signer.cert.pem %s/sp-1234.csr.pem", 2, "no certificate could be read"},
        {"lint %s/sp-1234.csr.pem %s/sp-1234.cert.pem", 2, "rules of 2026-01-01"},
        {"lint %s/sti-pa.crl.der", 2, "no certificate could be read"},
        {"lint %s/none", 2, "no certificate could be read"},
        {"lint", 2, "FILE... is needed"},
        {"lint --date 2020-13-01 %s/sp-1234.cert.pem", 2, "not a day"},
        {"lint --date 2020-1-1 %s/sp-1234.cert.pem", 2, "not a day"},
        {"rules", 0, "ee.tnauthlist\n  error, of end-entity; from 2020-12-03\n"},
    };
    char self[4096];

    (void)state;
    snprintf(self, sizeof(self), "%s", data_path("self"));
    for (size_t i = 0; i < COUNT(runs); i++) {
        char words[8192] = "";
        size_t len = 0;
        char *output = NULL;
        int status;

        for (const char *c = runs[i].words; *c != '\0'; c++) {
            if (c[0] == '%' && c[1] == 's') {
                len += (size_t)snprintf(words + len, sizeof(words) - len, "%s", self);
                c++;
            } else {
                words[len++] = *c;
            }
        }
        snprintf(words + len, sizeof(words) - len, " 2>&1");
        status = run(words, &output);
        if (status != runs[i].status || strstr(output, runs[i].says) == NULL)
            fail_msg("%s: %d: %s", runs[i].words, status, output);
        free(output);
    }
}

static void
the_program_prints_one_json_array(void **state)
{
    char words[8192];
    char *output = NULL;
    json_t *json;

    (void)state;
    snprintf(words, sizeof(words), "lint --json '%s' /none 2>/dev/null",
             data_path("self/sp-1234.chain.pem"));
    assert_int_equal(run(words, &output), 2);
    json = json_loads(output, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(json), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 1), "certificate")),
                     2);
    assert_non_null(json_object_get(json_array_get(json, 2), "error"));
    json_decref(json);
    free(output);

    assert_int_equal(run("rules --json", &output), 0);
    json = json_loads(output, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(json), certs_lint_rule_count());
    json_decref(json);
    free(output);
}

/* docs/PROFILE.md has a row for each rule, with its severity, date and roles. */
static void
the_profile_is_documented(void **state)
{
    char *text = data_text("../../docs/PROFILE.md", NULL);

    (void)state;
    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        const struct certs_lint_rule *rule = certs_lint_rule(i);
        char row[256];
        char days[64] = "always";
        char until[32] = "";
        char of[64] = "";
        size_t len = 0;

        if (rule->until != 0)
            snprintf(until, sizeof(until), " to %04d-%02d-%02d", rule->until / 10000,
                     rule->until / 100 % 100, rule->until % 100);
        if (rule->from != 0)
            snprintf(days, sizeof(days), "%04d-%02d-%02d%s", rule->from / 10000,
                     rule->from / 100 % 100, rule->from % 100, until);
        for (size_t k = 0; k < COUNT(roles); k++) {
            if ((rule->roles & 1U << k) != 0)
                len += (size_t)snprintf(of + len, sizeof(of) - len, "%s%s", len == 0 ? "" : ", ",
                                        roles[k]);
        }
        snprintf(row, sizeof(row), "| `%s` | %s | %s | %s |", rule->id, of,
                 certs_lint_severity_text(rule->severity), days);
        if (strstr(text, row) == NULL)
            fail_msg("docs/PROFILE.md has no \"%s\"", row);
        if (strstr(text, rule->requirement) == NULL)
            fail_msg("docs/PROFILE.md has no \"%s\"", rule->requirement);
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_of_the_vectors_keep_the_profile_but_those_of_the_pa),
        cmocka_unit_test(the_day_and_the_sources_choose_the_rules),
        cmocka_unit_test(the_issuing_certificate_is_compared_where_it_is_known),
        cmocka_unit_test(a_certificate_that_is_not_signed_can_be_judged),
        cmocka_unit_test(json_tells_the_certificate_and_each_finding),
        cmocka_unit_test(shown_names_cannot_drive_a_terminal),
        cmocka_unit_test(whatever_openssl_reads_is_judged),
        cmocka_unit_test(the_exit_status_tells_the_severity),
        cmocka_unit_test(the_program_prints_one_json_array),
        cmocka_unit_test(the_profile_is_documented),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
