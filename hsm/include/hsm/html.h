/*
 * html.h - text that is not ours, in pages of HTML.
 */
#ifndef HSM_HTML_H
#define HSM_HTML_H

#include <stddef.h>

/**
 * The first character of a text as it stands in HTML, as text or in an attribute
 * within double quotes. '&', '<', '>', '"' and ''' become character references;
 * a control character other than tab and line ends, one that turns the direction
 * of text, and an octet that is not of UTF-8, becomes U+FFFD.
 *
 * @param text  ends with NUL and is not empty
 * @param out   receives what to write, *len octets: static, or in the text
 * @return the octets of the text that it stands for
 */
size_t hsm_html_character(const char *text, const char **out, size_t *len);

#endif
