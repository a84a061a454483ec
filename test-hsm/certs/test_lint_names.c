/*
 * test_lint_names.c - the lint compared with an independent one: real certificates and the findings
 * of the other lint, mapped by the table in lint_names.tsv.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <certs/lint.h>

#include "data.h"

#define NAMES_MAX 80
#define LINE_SIZE 65536 /* octets of a line in the sample */

#define MATERIAL "interop/shaken-certificates/"

/* One line of the table: a rule of the other lint with a possible result, and our rule. */
struct name {
    char theirs[64];
    char result[8]; /* "error", "warn"; "-": it cannot be violated */
    const struct certs_lint_rule *ours; /* NULL if it cannot be violated */
};

static struct name names[NAMES_MAX];
static size_t name_count;

/* Findings, as flags for `names`. */
struct found {
    bool by[NAMES_MAX];
};

static const struct certs_lint_rule *
rule_of(const char *id)
{
    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        if (strcmp(certs_lint_rule(i)->id, id) == 0)
            return certs_lint_rule(i);
    }
    return NULL;
}

static int
read_names(void **state)
{
    char *text = data_text("../certs/lint_names.tsv", NULL);
    char *rest = text;
    char *line;

    (void)state;
    while ((line = strsep(&rest, "\n")) != NULL) {
        struct name *name = &names[name_count];
        char ours[80];

        if (line[0] == '#' || line[0] == '\0')
            continue;
        if (name_count == NAMES_MAX ||
            sscanf(line, "%63s %7s %79s", name->theirs, name->result, ours) != 3)
            abort();
        name->ours = rule_of(ours);
        name_count++;
        if (name->ours == NULL && strcmp(ours, "-") != 0) {
            fprintf(stderr, "lint_names.tsv: no rule %s\n", ours);
            abort();
        }
    }
    free(text);
    return 0;
}

static struct found
lint(X509 *cert)
{
    struct found found = {0};
    struct certs_lint *lint = NULL;

    assert_int_equal(certs_lint_new(cert, NULL, &lint), HSM_OK);
    for (size_t i = 0; i < certs_lint_len(lint); i++) {
        for (size_t k = 0; k < name_count; k++) {
            if (names[k].ours == certs_lint_get(lint, i)->rule)
                found.by[k] = true;
        }
    }
    certs_lint_free(lint);
    return found;
}

static void
mark(struct found *found, const char *theirs, const char *result)
{
    size_t k = 0;

    while (k < name_count &&
           (strcmp(names[k].theirs, theirs) != 0 || strcmp(names[k].result, result) != 0))
        k++;
    if (k == name_count)
        fail_msg("%s, %s: not in lint_names.tsv", theirs, result);
    found->by[k] = true;
}

static bool
agrees(const struct found *wanted, const struct found *found, const char *what)
{
    bool all = true;

    for (size_t k = 0; k < name_count; k++) {
        if (wanted->by[k] == found->by[k])
            continue;
        printf("%s: %s %s\n", what, names[k].theirs, wanted->by[k] ? "not found" : "found");
        all = false;
    }
    return all;
}

static X509 *
cert_of_base64(const char *text)
{
    size_t digits = strlen(text);
    uint8_t *der = malloc(digits / 4 * 3 + 1);
    const uint8_t *at = der;
    int len = EVP_DecodeBlock(der, (const uint8_t *)text, (int)digits);
    X509 *cert;

    assert_true(len > 0);
    cert = d2i_X509(NULL, &at, len - (text[digits - 1] == '=') - (text[digits - 2] == '='));
    free(der);
    assert_non_null(cert);
    return cert;
}

static bool
is_record_agreed(const json_t *record)
{
    const char *key;
    json_t *value;
    struct found wanted = {0};
    struct found found;
    X509 *cert = cert_of_base64(json_string_value(json_object_get(record, "der")));

    json_object_foreach(json_object_get(record, "findings"), key, value)
        mark(&wanted, key, json_string_value(value));
    found = lint(cert);
    X509_free(cert);
    return agrees(&wanted, &found, json_string_value(json_object_get(record, "sha256")));
}

static void
production_certificates_have_the_same_findings(void **state)
{
    const char *path = shared_path(MATERIAL "sample.jsonl.gz");
    char command[8192];
    char *line = malloc(LINE_SIZE);
    size_t agreed = 0;
    size_t all = 0;
    FILE *sample;

    (void)state;
    if (path == NULL) {
        free(line);
        skip();
    }
    snprintf(command, sizeof(command), "exec gzip -dc '%s'", path);
    sample = popen(command, "r");
    assert_non_null(sample);
    while (fgets(line, LINE_SIZE, sample) != NULL) {
        json_t *record = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

        assert_non_null(record);
        agreed += is_record_agreed(record) ? 1 : 0;
        all++;
        json_decref(record);
    }
    assert_int_equal(pclose(sample), 0);
    free(line);
    printf("%zu of %zu production certificates have the same findings\n", agreed, all);
    assert_true(all >= 780);
    assert_true(agreed * 1000 >= all * 995);
}

static X509 *
cert_of_pem(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    if (cert == NULL)
        fail_msg("%s: not read", path);
    return cert;
}

/* "FILE<tab>rule,rule": the other lint's violated rules, without the result. */
static bool
is_defect_agreed(char *line, const char *directory)
{
    char *rules = strchr(line, '\t');
    char path[8192];
    char *rule;
    struct found wanted = {0};
    struct found found;
    X509 *cert;

    assert_non_null(rules);
    *rules++ = '\0';
    rules[strcspn(rules, "\n")] = '\0';
    snprintf(path, sizeof(path), "%s/%s", directory, line);
    cert = cert_of_pem(path);
    found = lint(cert);
    X509_free(cert);
    while ((rule = strsep(&rules, ",")) != NULL) {
        if (*rule != '\0')
            mark(&wanted, rule, "error");
    }
    return agrees(&wanted, &found, line);
}

static void
certificates_with_single_defects_have_the_same_findings(void **state)
{
    const char *path = shared_path(MATERIAL "single-defects/expected.tsv");
    char directory[4096];
    char line[4096];
    size_t agreed = 0;
    size_t all = 0;
    FILE *expected;

    (void)state;
    if (path == NULL)
        skip();
    snprintf(directory, sizeof(directory), "%s", path);
    *strrchr(directory, '/') = '\0';
    expected = fopen(path, "r");
    assert_non_null(expected);
    while (fgets(line, sizeof(line), expected) != NULL) {
        agreed += is_defect_agreed(line, directory) ? 1 : 0;
        all++;
    }
    fclose(expected);
    printf("%zu of %zu certificates with single defects have the same findings\n", agreed, all);
    assert_true(all >= 75);
    assert_int_equal(agreed, all);
}

/* "| name | requirement | citation | notBefore >= |": every rule is in the table, with its date. */
static void
all_rules_of_the_other_lint_are_mapped(void **state)
{
    const char *path = shared_path(MATERIAL "rules.md");
    char line[4096];
    size_t all = 0;
    FILE *rules;

    (void)state;
    if (path == NULL)
        skip();
    rules = fopen(path, "r");
    assert_non_null(rules);
    while (fgets(line, sizeof(line), rules) != NULL) {
        char theirs[64];
        char *day = strstr(line, "| 20");
        int year, month, of_month;
        size_t k = 0;

        if (sscanf(line, "| e_%60s", theirs + 2) != 1)
            continue;
        memcpy(theirs, "e_", 2);
        while (k < name_count && strcmp(names[k].theirs, theirs) != 0)
            k++;
        if (k == name_count)
            fail_msg("%s: not in lint_names.tsv", theirs);
        assert_non_null(day);
        assert_int_equal(sscanf(day, "| %d-%d-%d |", &year, &month, &of_month), 3);
        if (names[k].ours != NULL && names[k].ours->from != year * 10000 + month * 100 + of_month)
            fail_msg("%s: not from %d", theirs, names[k].ours->from);
        all++;
    }
    fclose(rules);
    assert_int_equal(all, 53);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(production_certificates_have_the_same_findings),
        cmocka_unit_test(certificates_with_single_defects_have_the_same_findings),
        cmocka_unit_test(all_rules_of_the_other_lint_are_mapped),
    };

    return cmocka_run_group_tests(tests, read_names, NULL);
}
