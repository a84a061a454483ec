/* lint.c - sti-cert lint: check certificates against the SHAKEN certificate profile. */
#include "lint.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <certs/lint.h>
#include <hsm/defer.h>
#include <hsm/process.h>

#define LINT_FILE_MAX  67108864 /* octets */
#define LINT_CHAIN_MAX 16 /* certificates of a file that are tried as issuers */

typedef STACK_OF(X509) lint_certs;

static void
lint_certs_free(lint_certs *certs)
{
    sk_X509_pop_free(certs, X509_free);
}

DEFINE_DEFER(BIO, BIO_free_all)
DEFINE_DEFER(lint_certs, lint_certs_free)

const char lint_more[] =
    "FILE holds PEM certificates, or one in DER, and is judged by itself: no signature, "
    "revocation\n"
    "or trust is looked at. Where the file holds a certificate's issuer the two are compared.\n"
    "A certificate is judged by the rules in force at its notBefore, or on the day of --date.\n"
    "Exit status 0: no finding of severity error (warnings may be printed); 1: at least one;\n"
    "2: a FILE could not be read, or holds no certificate, or the command line is wrong.\n";

/* State of a run. */
struct run {
    struct certs_lint_options options;
    bool json;
    bool has_error; /* there is a finding of this severity */
    bool has_printed; /* an element of the JSON array was printed */
};

static void
begin_element(struct run *run)
{
    if (run->has_printed)
        printf(",\n");
    run->has_printed = true;
}

static enum hsm_status
push(lint_certs *certs, X509 *cert)
{
    if (sk_X509_push(certs, cert) > 0)
        return HSM_OK;
    X509_free(cert);
    return HSM_ERR_NOMEM;
}

/* One DER certificate, or all PEM blocks with certificates: whatever OpenSSL reads. */
static enum hsm_status
parse_certs(const uint8_t *octets, size_t len, lint_certs *certs)
{
    DEFER(BIO_free_all) BIO *bio = NULL;
    const uint8_t *at = octets;
    X509 *cert = d2i_X509(NULL, &at, (long)len);
    enum hsm_status st = HSM_OK;

    if (cert != NULL)
        return push(certs, cert);
    bio = BIO_new_mem_buf(octets, (int)len);
    if (bio == NULL)
        return HSM_ERR_NOMEM;
    while (st == HSM_OK && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        st = push(certs, cert);
    if (st != HSM_OK)
        return st;
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return HSM_ERR_MALFORMED;
    return sk_X509_num(certs) > 0 ? HSM_OK : HSM_ERR_MALFORMED;
}

static enum hsm_status
read_certs(const char *path, lint_certs *certs)
{
    uint8_t *octets = NULL;
    size_t len;
    enum hsm_status st = hsm_file_read(path, LINT_FILE_MAX, &octets, &len);

    if (st == HSM_OK)
        st = parse_certs(octets, len, certs);
    free(octets);
    ERR_clear_error();
    return st;
}

/* The certificate of the file that signed this one; NULL: none did, or it is self-signed. */
static const X509 *
issuer_in(const lint_certs *certs, X509 *cert)
{
    for (int i = 0; i < sk_X509_num(certs) && i < LINT_CHAIN_MAX; i++) {
        X509 *other = sk_X509_value(certs, i);
        EVP_PKEY *key = other == cert ? NULL : X509_get0_pubkey(other);

        if (key != NULL && X509_verify(cert, key) == 1)
            return other;
    }
    return NULL;
}

static enum hsm_status
lint_one(struct run *run, const char *file, const lint_certs *certs, int i)
{
    DEFER(certs_lint_free) struct certs_lint *found = NULL;
    struct certs_lint_options options = run->options;
    X509 *cert = sk_X509_value(certs, i);
    enum hsm_status st;

    options.issuer = i < LINT_CHAIN_MAX ? issuer_in(certs, cert) : NULL;
    ERR_clear_error();
    st = certs_lint_new(cert, &options, &found);
    if (st != HSM_OK)
        return st;
    if (certs_lint_count(found, CERTS_LINT_ERROR) > 0)
        run->has_error = true;
    if (!run->json)
        return certs_lint_show(found, file, (size_t)i + 1, stdout);
    begin_element(run);
    return certs_lint_json(found, file, (size_t)i + 1, stdout);
}

static enum hsm_status
tell_unreadable(struct run *run, const char *file)
{
    if (run->json) {
        begin_element(run);
        printf("{\"file\":");
        certs_lint_json_text(file, stdout);
        printf(",\"error\":\"no certificate could be read\"}");
    }
    return options_refuse("%s: no certificate could be read", file);
}

/* HSM_ERR_USAGE: the file could not be read; the other files are checked all the same. */
static enum hsm_status
lint_file(struct run *run, const char *file)
{
    DEFER(lint_certs_free) lint_certs *certs = sk_X509_new_null();
    enum hsm_status st;

    if (certs == NULL)
        return HSM_ERR_NOMEM;
    if (read_certs(file, certs) != HSM_OK)
        return tell_unreadable(run, file);
    for (int i = 0; i < sk_X509_num(certs); i++) {
        st = lint_one(run, file, certs, i);
        if (st != HSM_OK)
            return st;
    }
    return HSM_OK;
}

static enum hsm_status
lint_files(struct run *run, const struct arguments *arguments)
{
    enum hsm_status result = HSM_OK;

    if (run->json)
        printf("[");
    for (size_t i = 0; i < arguments->operands.count; i++) {
        enum hsm_status st = lint_file(run, arguments->operands.all[i]);

        if (st != HSM_OK)
            result = st;
    }
    if (run->json)
        printf("]\n");
    if (result == HSM_OK && run->has_error)
        result = HSM_ERR_UNTRUSTED;
    return result;
}

static enum hsm_status
parse_date(const char *text, int *out)
{
    int year;
    int month;
    int day;
    int end = 0;

    if (strlen(text) != strlen("2026-01-15") ||
        sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &end) != 3 || text[end] != '\0' ||
        year < 1 || month < 1 || month > 12 || day < 1 || day > 31)
        return options_refuse("--date: not a day such as 2026-01-15");
    *out = year * 10000 + month * 100 + day;
    return HSM_OK;
}

enum hsm_status
lint(const struct arguments *arguments)
{
    struct run run = {.json = arguments->json};
    enum hsm_status st = HSM_OK;

    if (arguments->date != NULL)
        st = parse_date(arguments->date, &run.options.date);
    return st == HSM_OK ? lint_files(&run, arguments) : st;
}

/* "root, intermediate": as text, or as the strings of a JSON array. */
static void
print_roles(unsigned roles, const char *quote)
{
    static const enum certs_lint_role all[] = {CERTS_LINT_ROOT, CERTS_LINT_INTERMEDIATE,
                                               CERTS_LINT_END_ENTITY};
    const char *before = "";

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if ((roles & all[i]) == 0)
            continue;
        printf("%s%s%s%s", before, quote, certs_lint_role_text(all[i]), quote);
        before = ", ";
    }
}

static void
print_day(int day, const char *quote)
{
    printf("%s%04d-%02d-%02d%s", quote, day / 10000, day / 100 % 100, day % 100, quote);
}

static void
print_rule(const struct certs_lint_rule *rule)
{
    printf("%s\n  %s, of ", rule->id, certs_lint_severity_text(rule->severity));
    print_roles(rule->roles, "");
    if (rule->from != 0) {
        printf("; from ");
        print_day(rule->from, "");
    }
    if (rule->until != 0) {
        printf(" until before ");
        print_day(rule->until, "");
    }
    printf("\n  %s (%s)\n", rule->requirement, rule->citation);
}

static void
print_json_text(const char *name, const char *text)
{
    printf(",\"%s\":", name);
    certs_lint_json_text(text, stdout);
}

static void
print_json_day(const char *name, int day)
{
    printf(",\"%s\":", name);
    if (day == 0)
        printf("null");
    else
        print_day(day, "\"");
}

static void
print_json_rule(const struct certs_lint_rule *rule)
{
    printf("{\"rule\":");
    certs_lint_json_text(rule->id, stdout);
    printf(",\"roles\":[");
    print_roles(rule->roles, "\"");
    printf("]");
    print_json_text("source", certs_lint_source_text(rule->source));
    print_json_text("severity", certs_lint_severity_text(rule->severity));
    print_json_day("from", rule->from);
    print_json_day("until", rule->until);
    print_json_text("requirement", rule->requirement);
    print_json_text("citation", rule->citation);
    printf("}");
}

enum hsm_status
lint_rules(const struct arguments *arguments)
{
    bool json = arguments->json;

    for (size_t i = 0; i < certs_lint_rule_count(); i++) {
        if (!json) {
            print_rule(certs_lint_rule(i));
            continue;
        }
        printf(i == 0 ? "[" : ",\n");
        print_json_rule(certs_lint_rule(i));
    }
    if (json)
        printf("]\n");
    return HSM_OK;
}
