/*
 * html_internal.h - pages, built from templates; every value is escaped.
 *
 * A template is a string literal: HTML with "%s" and "%lld" where values go. There is no other
 * way to add to a page, so outside input cannot become markup. Values may stand in text and in
 * attributes within double quotes, nowhere else.
 */
#ifndef ACME_HTML_INTERNAL_H
#define ACME_HTML_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define ACME_HTML_MAX (1024 * 1024) /* octets of a page; a longer page is a failure */

/** Grows as needed; after a failure nothing is appended and `failed` stays set. */
struct acme_html {
    char *text; /* owned: acme_html_clear() */
    size_t len, size;
    bool failed;
};

/**
 * Append a template. "%s" takes a const char * (NULL: nothing), "%lld" a long long, "%%" is '%';
 * any other conversion is a failure.
 *
 * A value is escaped by hsm_html_character().
 */
void acme_html_add(struct acme_html *html, const char *template, ...) HSM_PRINTF(2, 3);

void acme_html_clear(struct acme_html *html);

#endif
