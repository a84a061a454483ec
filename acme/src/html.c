/* html.c - pages, built from templates. */
#include "html_internal.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE  4096 /* octets */
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

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

static const char *
reference_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

/* Octets of the character of UTF-8 that begins here (RFC 3629 section 4); 0: none does. */
static size_t
utf8_len(const unsigned char *at)
{
    static const struct {
        unsigned char first_min, first_max, second_min, second_max;
        size_t len;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    if (at[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        size_t n = 2;

        if (at[0] < forms[i].first_min || at[0] > forms[i].first_max ||
            at[1] < forms[i].second_min || at[1] > forms[i].second_max)
            continue;
        while (n < forms[i].len && (at[n] & 0xc0) == 0x80)
            n++;
        return n == forms[i].len ? n : 0;
    }
    return 0;
}

static bool
is_control(unsigned char c)
{
    return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
}

static void
put_escaped(struct acme_html *html, const char *value)
{
    for (const char *at = value; at != NULL && *at != '\0' && !html->failed;) {
        const char *reference = reference_of(*at);
        size_t len = is_control((unsigned char)*at) ? 0 : utf8_len((const unsigned char *)at);

        if (reference != NULL)
            put(html, reference, strlen(reference));
        else if (len == 0)
            put(html, REPLACEMENT, strlen(REPLACEMENT));
        else
            put(html, at, len);
        at += len == 0 ? 1 : len;
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
