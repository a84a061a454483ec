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
#define SUBJECT_MAX  (ACME_ADDRESS_MAX + 32)

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

static enum hsm_status
count_call(struct acme_store *store, void *context)
{
    struct acme_call *call = context;
    char address[ACME_ADDRESS_MAX + 1];

    acme_limit_address(acme_http_request_peer(call->request), address);
    return acme_limit_take(
        store, call->counting.what, call->account[0] != '\0' ? call->account : address,
        call->server->config.requests_per_account, call->now, &call->counting.wait_s);
}

void
acme_limit_ask(struct acme_call *call, const char *what)
{
    if (call->server->config.requests_per_account == 0)
        return;
    call->counting = (struct acme_counting){
        .work = {.run = count_call, .context = call},
        .what = what,
    };
    acme_store_ask(call->server->config.store, &call->counting.work);
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
acme_limit_expire(struct acme_store *store, time_t now, int64_t limit, int64_t *count)
{
    return acme_store_run(store, count,
                          "DELETE FROM rate WHERE subject IN (SELECT subject FROM rate WHERE"
                          " used_until <= ? LIMIT ?)",
                          "ii", (int64_t)now * MICROSECONDS, limit);
}
