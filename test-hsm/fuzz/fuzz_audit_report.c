/* fuzz_audit_report.c - a signed report, and what follows its signature check: schema, text, HTML.
 */
#define _GNU_SOURCE /* open_memstream */
#include <stdio.h>

#include <hsm/audit.h>
#include <hsm/json.h>

#include "audit_report_internal.h"
#include "fuzz.h"

/* The output is printable; in HTML no tag comes from the report. */
static void
print_as(const json_t *report, void (*print)(const json_t *report, FILE *out), int html)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    fuzz_assert(out != NULL);
    print(report, out);
    fclose(out);
    for (size_t i = 0; i < len; i++)
        fuzz_assert(text[i] == '\n' || (text[i] >= 0x20 && text[i] <= 0x7e));
    fuzz_assert(!html || strstr(text, "<script") == NULL);
    free(text);
}

static void
print_all(const json_t *report)
{
    print_as(report, hsm_audit_print_text, 0);
    print_as(report, hsm_audit_print_html, 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hsm_reason why;
    json_t *report = NULL;

    if (hsm_audit_verify((const char *)data, len, NULL, &report, &why) == HSM_OK)
        print_all(report);
    json_decref(report);
    report = NULL;
    if (hsm_json_parse((const char *)data, len, &report, &why) == HSM_OK &&
        hsm_audit_check_schema(report, &why) == HSM_OK)
        print_all(report);
    json_decref(report);
    return 0;
}
