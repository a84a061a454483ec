/*
 * html.h - text from outside, made safe for HTML pages.
 */
#ifndef HSM_HTML_H
#define HSM_HTML_H

#include <stddef.h>

/**
 * Escape the first character of a text for HTML, as text or inside an attribute
 * in double quotes. '&', '<', '>', '"' and ''' become character references; a
 * control character other than tab and line ends, a character that changes the
 * direction of text, and an octet that is not UTF-8 become U+FFFD.
 *
 * @param text  NUL-terminated and not empty
 * @param out   receives what to write, *len octets: static, or part of `text`
 * @return the number of octets of `text` that were consumed
 */
size_t hsm_html_character(const char *text, const char **out, size_t *len);

#endif
