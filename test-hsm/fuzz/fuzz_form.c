/* fuzz_form.c - the body of a form, and its values in a page: no value becomes markup. What a
 * strict form accepts, a lenient one reads alike. */
#include "form_internal.h"
#include "fuzz.h"
#include "html_internal.h"

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
    struct acme_form_field fields[] = {
        {.name = "csr", .max = 4096}, {.name = "token", .max = 4096}, {.name = "form", .max = 43}};
    struct acme_form_field picked[] = {{.name = "csr", .max = 4096}};
    struct acme_html html = {.text = NULL};
    struct hsm_reason why;
    char *body = fuzz_text(octets, len);

    (void)!acme_form_pick(body, len, picked, 1, &why);
    if (acme_form_parse(body, len, fields, 3, &why) == HSM_OK) {
        fuzz_assert((fields[0].value == NULL) == (picked[0].value == NULL));
        fuzz_assert(fields[0].value == NULL || strcmp(fields[0].value, picked[0].value) == 0);
        for (size_t i = 0; i < 3; i++) {
            fuzz_assert(fields[i].value == NULL || strlen(fields[i].value) <= fields[i].max);
            acme_html_add(&html, "%s", fields[i].value);
        }
        fuzz_assert(!html.failed);
        fuzz_assert(html.text == NULL || strpbrk(html.text, "<>\"'") == NULL);
    }
    acme_html_clear(&html);
    acme_form_clear(picked, 1);
    acme_form_clear(fields, 3);
    free(body);
    return 0;
}
