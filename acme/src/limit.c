/*
 * limit.c - rate limits, counted in the store.
 *
 * Each subject has one row: the time until which its allowance is used up. An event moves that time
 * by the limit's period divided by its number of events and is refused when the result would be
 * more than one period ahead (the generic cell rate algorithm). A single statement checks and
 * counts, so that processes that share the store agree. A time further ahead was written before the
 * clock was set back, and is ignored.
 */
#include "limit_internal.h"

#include <stdint.h>
#include <stdio.h>

#include <acme/time.h>
#include <hsm/defer.h>

#define MICROSECONDS INT64_C(1000000)
#define WHAT_MAX     31 /* characters */
#define SUBJECT_SIZE (WHAT_MAX + 1 + ACME_LIMIT_WHOM_MAX + 1)

static void
format_subject(const struct acme_limit *limit, const char *whom, char out[SUBJECT_SIZE])
{
    snprintf(out, SUBJECT_SIZE, "%.*s %.*s", WHAT_MAX, limit->what, ACME_LIMIT_WHOM_MAX, whom);
}

static int64_t
step_us(const struct acme_limit *limit)
{
    return limit->in_s * MICROSECONDS / limit->times;
}

static enum hsm_status
read_wait(struct acme_store *store, const char *subject, const struct acme_limit *limit,
          int64_t now_us, time_t *wait_s)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT used_until FROM rate WHERE subject = ?", "s", subject);
    int64_t wait = 0;

    if (st != HSM_OK)
        return st;
    if (acme_rows_next(rows))
        wait = acme_rows_int(rows, 0) + step_us(limit) - now_us - limit->in_s * MICROSECONDS;
    *wait_s = wait <= 0 ? 1 : (time_t)((wait + MICROSECONDS - 1) / MICROSECONDS);
    return HSM_OK;
}

enum hsm_status
acme_limit_take_one(struct acme_store *store, const struct acme_limit *limit, const char *whom,
                    time_t now, time_t *wait_s)
{
    char subject[SUBJECT_SIZE];
    int64_t now_us = (int64_t)now * MICROSECONDS, step, changes = 0;
    int64_t full_us = now_us + limit->in_s * MICROSECONDS;
    int64_t latest_us = full_us + ACME_CLOCK_SKEW_S * MICROSECONDS;
    enum hsm_status st;

    *wait_s = 0;
    if (limit->times == 0)
        return HSM_OK;
    step = step_us(limit);
    format_subject(limit, whom, subject);
    st = acme_store_run(store, &changes,
                        "INSERT INTO rate (subject, used_until) VALUES (?, ?) ON CONFLICT (subject)"
                        " DO UPDATE SET used_until = CASE WHEN rate.used_until BETWEEN ? AND ? THEN"
                        " rate.used_until ELSE ? END + ? WHERE rate.used_until + ? <= ? OR"
                        " rate.used_until > ?",
                        "siiiiiiii", subject, now_us + step, now_us, latest_us, now_us, step, step,
                        full_us, latest_us);
    if (st != HSM_OK || changes == 1)
        return st;
    return read_wait(store, subject, limit, now_us, wait_s);
}

enum hsm_status
acme_limit_is_used_up(struct acme_store *store, const struct acme_limit *limit, const char *whom,
                      time_t now, bool *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    char subject[SUBJECT_SIZE];
    int64_t full_us = ((int64_t)now + limit->in_s) * MICROSECONDS, until = 0;
    enum hsm_status st;

    *out = false;
    if (limit->times == 0)
        return HSM_OK;
    format_subject(limit, whom, subject);
    st = acme_store_query(store, &rows, "SELECT used_until FROM rate WHERE subject = ?", "s",
                          subject);
    if (st != HSM_OK)
        return st;
    if (acme_rows_next(rows))
        until = acme_rows_int(rows, 0);
    *out = until + step_us(limit) > full_us && until <= full_us + ACME_CLOCK_SKEW_S * MICROSECONDS;
    return HSM_OK;
}

enum hsm_status
acme_limit_give_back(struct acme_store *store, const struct acme_limit *limit, const char *whom)
{
    char subject[SUBJECT_SIZE];

    if (limit->times == 0)
        return HSM_OK;
    format_subject(limit, whom, subject);
    return acme_store_run(store, NULL,
                          "UPDATE rate SET used_until = used_until - ? WHERE subject = ?", "is",
                          step_us(limit), subject);
}

enum hsm_status
acme_limit_expire(struct acme_store *store, time_t now, int64_t limit, int64_t *count)
{
    return acme_store_run(store, count,
                          "DELETE FROM rate WHERE subject IN (SELECT subject FROM rate WHERE"
                          " used_until <= ? LIMIT ?)",
                          "ii", (int64_t)now * MICROSECONDS, limit);
}
