/* audit_html.c - a report as one printable page of HTML, without scripts or external resources. */
#include "audit_internal.h"
#include "audit_report_internal.h"

#include <stdlib.h>
#include <string.h>

#include <hsm/html.h>

static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<title>Audit of private keys</title>\n<style>\n"
    "body{font:10pt/1.35 sans-serif;margin:2em;color:#000;background:#fff}\n"
    "h1{font-size:16pt}h2{font-size:12pt;margin-top:1.6em}\n"
    "table{border-collapse:collapse;width:100%;table-layout:fixed}\n"
    "th,td{border:1px solid #999;padding:.25em .4em;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}\n"
    "th{background:#eee}tr{break-inside:avoid}thead{display:table-header-group}\n"
    "code{font:8.5pt/1.3 monospace}\n"
    ".finding,.unproven{font-weight:bold;border-left:4px solid #b00}\n"
    ".clean{border:2px solid #060;padding:.5em}.faults{border:2px solid #b00;padding:.5em}\n"
    "col.v{width:9em}col.i{width:13em}\n"
    "@page{margin:15mm}@media print{body{margin:0}}\n"
    "</style>\n</head>\n<body>\n<h1>Audit of private keys</h1>\n";

static const json_t *
member(const json_t *object, const char *name)
{
    return json_object_get(object, name);
}

/* Every text from outside is written with this function. */
static void
put(const char *text, FILE *out)
{
    while (*text != '\0') {
        const char *octets;
        size_t len;

        text += hsm_html_character(text, &octets, &len);
        fwrite(octets, 1, len, out);
    }
}

static void
put_member(const json_t *object, const char *name, FILE *out)
{
    put(hsm_audit_member(object, name), out);
}

static void
put_row(const char *name, const char *value, FILE *out)
{
    fputs("<tr><th>", out);
    put(name, out);
    fputs("</th><td>", out);
    put(value, out);
    fputs("</td></tr>\n", out);
}

static void
put_head(const json_t *report, FILE *out)
{
    const json_t *signer = member(report, "signer");
    bool clean = hsm_audit_faults(report) == 0;

    fputs(head, out);
    fprintf(out, "<p class=\"%s\">%s</p>\n<table>\n", clean ? "clean" : "faults",
            clean ? "Clean: no finding." : "Not clean.");
    put_row("made", hsm_audit_member(report, "made"), out);
    put_row("by", hsm_audit_member(report, "program"), out);
    put_row("on", hsm_audit_member(report, "host"), out);
    put_row("auditor's nonce", hsm_audit_member(report, "nonce"), out);
    put_row("attempts to take keys", json_is_true(member(report, "attempts")) ? "made" : "not made",
            out);
    put_row("signed by", json_is_object(signer) ? hsm_audit_member(signer, "uri") : "nobody", out);
    put_row("SHA-256 of the signer's public half", hsm_audit_member(signer, "spki_sha256"), out);
    fputs("</table>\n", out);
}

static void
put_summary(const json_t *report, FILE *out)
{
    const char *name;
    json_t *count;

    fputs("<h2>Verdicts</h2>\n<table>\n<tr>", out);
    json_object_foreach((json_t *)member(report, "summary"), name, count)
    {
        fputs("<th>", out);
        put(name, out);
        fputs("</th>", out);
    }
    fputs("</tr>\n<tr>", out);
    json_object_foreach((json_t *)member(report, "summary"), name, count)
        fprintf(out, "<td>%lld</td>", (long long)json_integer_value(count));
    fputs("</tr>\n</table>\n", out);
}

static void
put_objects(const json_t *token, FILE *out)
{
    const json_t *object;
    size_t i;

    fputs("<table>\n<thead><tr><th>class</th><th>label</th><th>id</th></tr></thead>\n", out);
    json_array_foreach(member(token, "objects"), i, object)
    {
        fputs("<tr><td>", out);
        put_member(object, "class", out);
        fputs("</td><td>", out);
        put_member(object, "label", out);
        fputs("</td><td><code>", out);
        put_member(object, "id", out);
        fputs("</code></td></tr>\n", out);
    }
    fputs("</table>\n", out);
}

static void
put_token(const json_t *token, FILE *out)
{
    const json_t *info = member(token, "token");
    const json_t *module = member(token, "module");

    fputs("<h2>Token <code>", out);
    put_member(token, "uri", out);
    fputs("</code></h2>\n<table>\n", out);
    put_row("manufacturer", hsm_audit_member(info, "manufacturer"), out);
    put_row("model", hsm_audit_member(info, "model"), out);
    put_row("serial", hsm_audit_member(info, "serial"), out);
    put_row("hardware", hsm_audit_member(info, "hardware"), out);
    put_row("firmware", hsm_audit_member(info, "firmware"), out);
    put_row("module", hsm_audit_member(module, "path"), out);
    put_row("module description", hsm_audit_member(module, "description"), out);
    put_row("module version", hsm_audit_member(module, "version"), out);
    put_row("module SHA-256", hsm_audit_member(module, "sha256"), out);
    fputs("</table>\n", out);
    put_objects(token, out);
}

static void
put_statement(const json_t *statement, FILE *out)
{
    char *evidence = json_dumps(member(statement, "evidence"), JSON_COMPACT);
    const char *cause = hsm_audit_member(statement, "cause");

    fputs("<tr><td class=\"", out);
    put_member(statement, "verdict", out);
    fputs("\">", out);
    put_member(statement, "verdict", out);
    fputs("</td><td>", out);
    put_member(statement, "id", out);
    fputs("</td><td><code>", out);
    put_member(statement, "subject", out);
    fputs("</code><br>expected: ", out);
    put_member(statement, "expected", out);
    fputs("<br>found: ", out);
    put_member(statement, "found", out);
    if (cause[0] != '\0') {
        fputs("<br>because of: ", out);
        put(cause, out);
    }
    fputs("<br>serves: ", out);
    put_member(statement, "requirement", out);
    fputs("<br><code>", out);
    put(evidence != NULL ? evidence : "", out);
    fputs("</code></td></tr>\n", out);
    free(evidence);
}

static void
put_statements(const json_t *report, enum hsm_audit_verdict verdict, FILE *out)
{
    const char *name = hsm_audit_verdict_name(verdict);
    const json_t *statement;
    size_t i;

    json_array_foreach(member(report, "statements"), i, statement)
    {
        if (strcmp(hsm_audit_member(statement, "verdict"), name) == 0)
            put_statement(statement, out);
    }
}

void
hsm_audit_print_html(const json_t *report, FILE *out)
{
    /* Verdicts that require action come first. */
    static const enum hsm_audit_verdict order[HSM_AUDIT_VERDICTS] = {
        HSM_AUDIT_FINDING,      HSM_AUDIT_UNPROVEN, HSM_AUDIT_CONSEQUENCE, HSM_AUDIT_UNTESTED,
        HSM_AUDIT_NOT_REPORTED, HSM_AUDIT_INFO,     HSM_AUDIT_PASS,
    };
    const json_t *token;
    size_t i;

    put_head(report, out);
    put_summary(report, out);
    json_array_foreach(member(report, "tokens"), i, token) put_token(token, out);
    fputs("<h2>Statements</h2>\n<table>\n<colgroup><col class=\"v\"><col class=\"i\"><col>"
          "</colgroup>\n<thead><tr><th>verdict</th><th>statement</th><th>subject, evidence</th>"
          "</tr></thead>\n",
          out);
    for (i = 0; i < HSM_AUDIT_VERDICTS; i++)
        put_statements(report, order[i], out);
    fputs("</table>\n</body>\n</html>\n", out);
}
