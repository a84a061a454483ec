/* lint_print.c - print lint findings, as text and as JSON. */
#include <certs/lint.h>

#include <string.h>

#include <openssl/asn1.h>

#include "lint_internal.h"

static bool
has_date(int date)
{
    return date < CERTS_LINT_LATEST;
}

static void
put_date(int date, FILE *to)
{
    fprintf(to, "%04d-%02d-%02d", date / 10000, date / 100 % 100, date % 100);
}

const char *
certs_lint_role_text(enum certs_lint_role role)
{
    switch (role) {
    case CERTS_LINT_ROOT:
        return "root";
    case CERTS_LINT_INTERMEDIATE:
        return "intermediate";
    case CERTS_LINT_END_ENTITY:
        return "end-entity";
    }
    return "unknown";
}

const char *
certs_lint_severity_text(enum certs_lint_severity severity)
{
    return severity == CERTS_LINT_ERROR ? "error" : "warning";
}

const char *
certs_lint_source_text(enum certs_lint_source source)
{
    switch (source) {
    case CERTS_LINT_ATIS:
        return "ATIS-1000080";
    case CERTS_LINT_US_CP:
        return "US SHAKEN CP";
    case CERTS_LINT_RFC:
        return "RFC";
    }
    return "unknown";
}

enum hsm_status
certs_lint_show(const struct certs_lint *lint, const char *file, size_t index, FILE *to)
{
    fprintf(to, "%s: certificate %zu, %s: %s\n", file, index, certs_lint_role_text(lint->role),
            lint->subject);
    fprintf(to, "  rules of ");
    if (has_date(lint->date))
        put_date(lint->date, to);
    else
        fputs("today", to);
    fprintf(to, ": %zu errors, %zu warnings\n", certs_lint_count(lint, CERTS_LINT_ERROR),
            certs_lint_count(lint, CERTS_LINT_WARNING));
    for (size_t i = 0; i < lint->len; i++) {
        const struct certs_lint_finding *finding = &lint->findings[i];

        fprintf(to, "  %-7s  %s: %s\n", certs_lint_severity_text(finding->rule->severity),
                finding->rule->id, finding->detail.text);
        fprintf(to, "           %s (%s)\n", finding->rule->requirement, finding->rule->citation);
    }
    return ferror(to) ? HSM_ERR_IO : HSM_OK;
}

/* RFC 8259 section 7 */
static void
put_escaped(unsigned long character, const unsigned char *octets, size_t len, FILE *to)
{
    if (character == '"' || character == '\\')
        fprintf(to, "\\%c", (int)character);
    else if (character < 0x20 || character == 0x7f)
        fprintf(to, "\\u%04lx", character);
    else
        fwrite(octets, 1, len, to);
}

void
certs_lint_json_text(const char *text, FILE *to)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);

    fputc('"', to);
    while (left > 0) {
        unsigned long character;
        int used = UTF8_getc(at, left < 6 ? (int)left : 6, &character);

        if (used <= 0) {
            fputs("\\ufffd", to);
            used = 1;
        } else {
            put_escaped(character, at, (size_t)used, to);
        }
        at += used;
        left -= (size_t)used;
    }
    fputc('"', to);
}

static void
put_member(const char *name, const char *value, FILE *to)
{
    fprintf(to, "\"%s\":", name);
    certs_lint_json_text(value, to);
    fputc(',', to);
}

static void
put_finding(const struct certs_lint_finding *finding, FILE *to)
{
    const struct certs_lint_rule *rule = finding->rule;

    fputc('{', to);
    put_member("rule", rule->id, to);
    put_member("severity", certs_lint_severity_text(rule->severity), to);
    put_member("source", certs_lint_source_text(rule->source), to);
    put_member("requirement", rule->requirement, to);
    put_member("citation", rule->citation, to);
    fputs("\"detail\":", to);
    certs_lint_json_text(finding->detail.text, to);
    fputc('}', to);
}

static void
put_digest(const struct certs_lint *lint, FILE *to)
{
    fputs("\"sha256\":", to);
    if (!lint->has_digest) {
        fputs("null,", to);
        return;
    }
    fputc('"', to);
    for (size_t i = 0; i < sizeof(lint->sha256); i++)
        fprintf(to, "%02x", lint->sha256[i]);
    fputs("\",", to);
}

enum hsm_status
certs_lint_json(const struct certs_lint *lint, const char *file, size_t index, FILE *to)
{
    fputc('{', to);
    put_member("file", file, to);
    fprintf(to, "\"certificate\":%zu,", index);
    put_digest(lint, to);
    put_member("subject", lint->subject, to);
    put_member("issuer", lint->issuer, to);
    put_member("not_before", lint->not_before, to);
    put_member("role", certs_lint_role_text(lint->role), to);
    fputs("\"rules_of\":\"", to);
    put_date(lint->date, to);
    fprintf(to, "\",\"errors\":%zu,\"warnings\":%zu,\"findings\":[",
            certs_lint_count(lint, CERTS_LINT_ERROR), certs_lint_count(lint, CERTS_LINT_WARNING));
    for (size_t i = 0; i < lint->len; i++) {
        if (i > 0)
            fputc(',', to);
        put_finding(&lint->findings[i], to);
    }
    fputs("]}", to);
    return ferror(to) ? HSM_ERR_IO : HSM_OK;
}
