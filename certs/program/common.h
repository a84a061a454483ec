/*
 * common.h - code shared by commands of sti-cert.
 */
#ifndef STI_CERT_COMMON_H
#define STI_CERT_COMMON_H

#include <time.h>

#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/token.h>

#include "arguments.h"

/* Log why an input was refused, once. */
enum hsm_status tell(enum hsm_status st, const char *what, const struct hsm_reason *why);

/* --key is a URI, or a label on --token. */
enum hsm_status open_key(const struct arguments *arguments, struct hsm_token **token,
                         struct hsm_key **key);

/* Write the text to --out, or to standard output. */
enum hsm_status put_out(const struct arguments *arguments, const char *text);

/* The value of an option: "2026-01-15T12:00:00Z", UTC. */
enum hsm_status parse_time(const char *option, const char *text, time_t *out);

/* --at, or now. */
enum hsm_status time_of(const struct arguments *arguments, time_t *out);

#endif
