/*
 * server_limit.c - rate limits (RFC 8555 section 6.6).
 *
 * Each subject has one row: the time until which its share is used up. An event moves that by an
 * hour divided by the limit and is refused when it would lie more than an hour ahead (the generic
 * cell rate algorithm). One statement asks and counts, so that processes that share the store
 * agree. What lies further ahead was written by a clock that has been set back since, and counts
 * for nothing.
 */

#include "server_internal.h"

#include <stdio.h>
#include <string.h>

#define MICROSECONDS INT64_C(1000000)
#define HOUR_US      (3600 * MICROSECONDS)
#define SUBJECT_MAX  160 /* what and whom */

static enum hsm_status
read_wait(struct acme_store *store, const char *subject, int64_t step, int64_t now, time_t *wait_s)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT used_until FROM rate WHERE subject = ?", "s", subject);
    int64_t wait = 0;

    if (st != HSM_OK)
        return st;
    if (acme_rows_next(rows))
        wait = acme_rows_int(rows, 0) + step - now - HOUR_US;
    *wait_s = wait <= 0 ? 1 : (time_t)((wait + MICROSECONDS - 1) / MICROSECONDS);
    return HSM_OK;
}

enum hsm_status
acme_limit_take(struct acme_store *store, const char *what, const char *whom, unsigned per_hour,
                time_t now, time_t *wait_s)
{
    char subject[SUBJECT_MAX + 1];
    int64_t now_us = (int64_t)now * MICROSECONDS, step, changes = 0;
    int64_t latest_us = now_us + HOUR_US + ACME_CLOCK_SKEW_S * MICROSECONDS;
    enum hsm_status st;

    *wait_s = 0;
    if (per_hour == 0)
        return HSM_OK;
    step = HOUR_US / per_hour;
    snprintf(subject, sizeof(subject), "%s %s", what, whom);
    st = acme_store_run(store, &changes,
                        "INSERT INTO rate (subject, used_until) VALUES (?, ?) ON CONFLICT (subject)"
                        " DO UPDATE SET used_until = CASE WHEN rate.used_until BETWEEN ? AND ? THEN"
                        " rate.used_until ELSE ? END + ? WHERE rate.used_until + ? <= ? OR"
                        " rate.used_until > ?",
                        "siiiiiiii", subject, now_us + step, now_us, latest_us, now_us, step, step,
                        now_us + HOUR_US, latest_us);
    if (st != HSM_OK || changes == 1)
        return st;
    return read_wait(store, subject, step, now_us, wait_s);
}

void
acme_limit_refuse(struct acme_call *call, const char *what, time_t wait_s)
{
    char seconds[32];

    snprintf(seconds, sizeof(seconds), "%lld", (long long)wait_s);
    acme_http_response_header(call->response, "Retry-After", seconds);
    acme_call_refuse(call, ACME_RATE_LIMITED, 429, "too many %s: try again in %s s", what, seconds);
}

enum hsm_status
acme_limit_expire(struct acme_store *store, time_t now)
{
    return acme_store_run(store, NULL, "DELETE FROM rate WHERE used_until <= ?", "i",
                          (int64_t)now * MICROSECONDS);
}
