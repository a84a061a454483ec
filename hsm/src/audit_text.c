/* audit_text.c - a report as text. */
#include "audit_internal.h"
#include "audit_report_internal.h"

#include <stdlib.h>
#include <string.h>

static const json_t *
member(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

static const char *
text(const json_t *object, const char *name)
{
    return hsm_audit_member(object, name);
}

static void
print_token(const json_t *token, FILE *out)
{
    const json_t *info = member(token, "token");
    const json_t *module = member(token, "module");
    const json_t *object;
    size_t i;

    fprintf(out, "\nToken %s\n", text(token, "uri"));
    fprintf(out, "  %s %s, serial %s, hardware %s, firmware %s\n", text(info, "manufacturer"),
            text(info, "model"), text(info, "serial"), text(info, "hardware"),
            text(info, "firmware"));
    fprintf(out, "  module %s\n  %s, %s, version %s\n  SHA-256 %s\n", text(module, "path"),
            text(module, "manufacturer"), text(module, "description"), text(module, "version"),
            text(module, "sha256"));
    fprintf(out, "  %zu mechanisms, %zu objects:\n", json_array_size(member(token, "mechanisms")),
            json_array_size(member(token, "objects")));
    json_array_foreach(member(token, "objects"), i, object)
        fprintf(out, "    %-16s  %s  id %s\n", text(object, "class"), text(object, "label"),
                text(object, "id"));
}

static bool
is_verdict(const json_t *statement, enum hsm_audit_verdict verdict)
{
    return strcmp(text(statement, "verdict"), hsm_audit_verdict_name(verdict)) == 0;
}

static void
print_full(const json_t *statement, FILE *out)
{
    char *evidence = json_dumps(member(statement, "evidence"), JSON_COMPACT);

    fprintf(out, "\n  %s  %s\n      %s\n", text(statement, "verdict"), text(statement, "id"),
            text(statement, "subject"));
    fprintf(out, "      expected: %s\n      found: %s\n", text(statement, "expected"),
            text(statement, "found"));
    if (text(statement, "cause")[0] != '\0')
        fprintf(out, "      because of: %s\n", text(statement, "cause"));
    fprintf(out, "      serves: %s\n      evidence: %s\n", text(statement, "requirement"),
            evidence != NULL ? evidence : "");
    free(evidence);
}

static void
print_verdict(const json_t *report, enum hsm_audit_verdict verdict, const char *title, FILE *out)
{
    const json_t *statement;
    bool any = false;
    size_t i;

    json_array_foreach(member(report, "statements"), i, statement)
    {
        if (!is_verdict(statement, verdict))
            continue;
        if (!any)
            fprintf(out, "\n%s\n", title);
        any = true;
        print_full(statement, out);
    }
}

/* The subject is printed once for consecutive statements about it. */
static void
print_rest(const json_t *report, FILE *out)
{
    const char *last = "";
    const json_t *statement;
    size_t i;

    fprintf(out, "\nAll other statements\n");
    json_array_foreach(member(report, "statements"), i, statement)
    {
        const char *cause = text(statement, "cause");

        if (is_verdict(statement, HSM_AUDIT_FINDING) || is_verdict(statement, HSM_AUDIT_UNPROVEN))
            continue;
        if (strcmp(last, text(statement, "subject")) != 0)
            fprintf(out, "\n  %s\n", text(statement, "subject"));
        last = text(statement, "subject");
        fprintf(out, "    %-12s  %-23s  %s%s%s\n", text(statement, "verdict"),
                text(statement, "id"), text(statement, "found"),
                cause[0] != '\0' ? "; because of " : "", cause);
    }
}

static void
print_head(const json_t *report, FILE *out)
{
    const json_t *signer = member(report, "signer");

    fprintf(out, "Audit of private keys, %s\n", text(report, "made"));
    fprintf(out, "  by %s on %s\n", text(report, "program"), text(report, "host"));
    if (text(report, "nonce")[0] != '\0')
        fprintf(out, "  auditor's nonce: %s\n", text(report, "nonce"));
    fprintf(out, "  keys were%s tried to be taken\n",
            json_is_true(member(report, "attempts")) ? "" : " not");
    if (json_is_object(signer))
        fprintf(out,
                "  signed by %s\n  a key generated in its token; SHA-256 of its public half %s\n",
                text(signer, "uri"), text(signer, "spki_sha256"));
    else
        fprintf(out, "  not signed\n");
}

void
hsm_audit_print_text(const json_t *report, FILE *out)
{
    const json_t *token;
    const char *name;
    json_t *count;
    size_t i;

    print_head(report, out);
    fprintf(out, "\n%s\n", hsm_audit_faults(report) == 0 ? "Clean." : "NOT CLEAN.");
    json_object_foreach((json_t *)member(report, "summary"), name, count)
        fprintf(out, "  %-12s  %lld\n", name, (long long)json_integer_value(count));
    print_verdict(report, HSM_AUDIT_FINDING, "Findings", out);
    print_verdict(report, HSM_AUDIT_UNPROVEN, "Required, and not reported by the module", out);
    json_array_foreach(member(report, "tokens"), i, token) print_token(token, out);
    print_rest(report, out);
}
