/* html.c - pages, built from templates. */
#include "html_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/html.h>

#define FIRST_SIZE 4096 /* octets */

static void
put(struct acme_html *html, const char *octets, size_t len)
{
    size_t size = html->size;
    char *text;

    if (html->failed)
        return;
    while (size < html->len + len + 1)
        size = size == 0 ? FIRST_SIZE : 2 * size;
    if (size > ACME_HTML_MAX) {
        html->failed = true;
        return;
    }
    if (size != html->size) {
        text = realloc(html->text, size);
        if (text == NULL) {
            html->failed = true;
            return;
        }
        html->text = text;
        html->size = size;
    }
    memcpy(html->text + html->len, octets, len);
    html->len += len;
    html->text[html->len] = '\0';
}

static void
put_escaped(struct acme_html *html, const char *value)
{
    while (value != NULL && *value != '\0' && !html->failed) {
        const char *octets;
        size_t len;

        value += hsm_html_character(value, &octets, &len);
        put(html, octets, len);
    }
}

static void
put_number(struct acme_html *html, long long value)
{
    char text[24];

    put(html, text, (size_t)snprintf(text, sizeof(text), "%lld", value));
}

void
acme_html_add(struct acme_html *html, const char *template, ...)
{
    va_list values;

    va_start(values, template);
    for (const char *at = template; *at != '\0' && !html->failed;) {
        size_t literal = strcspn(at, "%");

        put(html, at, literal);
        at += literal;
        if (strncmp(at, "%s", 2) == 0) {
            put_escaped(html, va_arg(values, const char *));
            at += 2;
        } else if (strncmp(at, "%lld", 4) == 0) {
            put_number(html, va_arg(values, long long));
            at += 4;
        } else if (strncmp(at, "%%", 2) == 0) {
            put(html, "%", 1);
            at += 2;
        } else if (*at != '\0') {
            html->failed = true;
        }
    }
    va_end(values);
}

void
acme_html_clear(struct acme_html *html)
{
    free(html->text);
    *html = (struct acme_html){.text = NULL};
}
