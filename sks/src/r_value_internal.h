/*
 * r_value_internal.h - values of Resource-Priority (RFC 4412), which rph PASSporTs claim (RFC
 * 8443).
 */
#ifndef SKS_R_VALUE_INTERNAL_H
#define SKS_R_VALUE_INTERNAL_H

#include <stdbool.h>

/** namespace "." priority, each a token without dots (RFC 4412 section 3.1), of at most
 *  SKS_R_VALUE_MAX octets. NULL is none. */
bool is_r_value(const char *text);

/** Of the namespace esnet (RFC 7135), whose names do not mind case. */
bool is_esnet(const char *r_value);

#endif
