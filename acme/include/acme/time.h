/*
 * time.h - RFC 3339 date and time, as ACME objects carry it and people read it.
 */
#ifndef ACME_TIME_H
#define ACME_TIME_H

#include <stdbool.h>
#include <time.h>

#include <hsm/status.h>

#define ACME_TIME_LEN 20 /* "2026-01-15T12:00:00Z" */

/** UTC, to the second; "" for a time that has no such text. */
void acme_time_format(time_t t, char out[ACME_TIME_LEN + 1]);

/** RFC 3339 with any offset; a fraction is dropped. HSM_ERR_MALFORMED: it is none. */
HSM_MUST_CHECK enum hsm_status acme_time_parse(const char *text, time_t *out);

#define ACME_CLOCK_SKEW_S 60 /* by which the clocks of two instances on one store may differ */

/** Whether it is time for what was put off for `pause_s` until `at`. It also is when `at` lies
 *  further ahead than that: then the clock has been set back since. */
bool acme_time_is_due(time_t at, time_t pause_s, time_t now);

#endif
