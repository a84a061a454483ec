/*
 * time.h - UTC as text: RFC 3339 as protocols and logs carry it, and two shorter forms.
 */
#ifndef HSM_TIME_H
#define HSM_TIME_H

#include <time.h>

#include <hsm/status.h>

#define HSM_TIME_LEN       20 /* "2026-01-15T12:00:00Z" */
#define HSM_TIME_DAY_LEN   10 /* "2026-01-15" */
#define HSM_TIME_STAMP_LEN 16 /* "20260115T120000Z", for names of files and labels */

/* To the second; "" for a time outside of the format's range. */
void hsm_time_format(time_t t, char out[HSM_TIME_LEN + 1]);
void hsm_time_day(time_t t, char out[HSM_TIME_DAY_LEN + 1]);
void hsm_time_stamp(time_t t, char out[HSM_TIME_STAMP_LEN + 1]);

/** Parse an RFC 3339 time with any offset; a fraction is dropped. HSM_ERR_MALFORMED for any other
 *  text. */
HSM_MUST_CHECK enum hsm_status hsm_time_parse(const char *text, time_t *out);

#endif
