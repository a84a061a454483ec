/*
 * time.h - RFC 3339 date and time, as ACME objects carry it and people read it.
 */
#ifndef ACME_TIME_H
#define ACME_TIME_H

#include <time.h>

#include <hsm/status.h>

#define ACME_TIME_LEN 20 /* "2026-01-15T12:00:00Z" */

/** UTC, to the second; "" for a time that has no such text. */
void acme_time_format(time_t t, char out[ACME_TIME_LEN + 1]);

/** RFC 3339 with any offset; a fraction is dropped. HSM_ERR_MALFORMED: it is none. */
HSM_MUST_CHECK enum hsm_status acme_time_parse(const char *text, time_t *out);

#endif
