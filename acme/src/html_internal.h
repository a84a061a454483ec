/*
 * html_internal.h - pages, built from templates; what is put into a template is escaped, always.
 *
 * A template is a literal of the program: HTML with "%s" and "%lld" where values go. There is no
 * other way into a page, so that nothing from outside can become markup. Values stand in text or
 * in attributes within double quotes, nowhere else.
 */
#ifndef ACME_HTML_INTERNAL_H
#define ACME_HTML_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define ACME_HTML_MAX (1024 * 1024) /* octets of a page; more is a failure */

/** Grows as it is written; after a failure nothing more is written and `failed` stays. */
struct acme_html {
    char *text; /* owned: acme_html_clear() */
    size_t len, size;
    bool failed;
};

/**
 * Append a template. "%s" takes a const char * (NULL: nothing), "%lld" a long long, "%%" is '%';
 * any other conversion is a failure.
 *
 * A value is escaped as hsm_html_character() says.
 */
void acme_html_add(struct acme_html *html, const char *template, ...) HSM_PRINTF(2, 3);

void acme_html_clear(struct acme_html *html);

#endif
