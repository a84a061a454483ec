/* client_wait.c - an ACME client waits as the CA requests, up to a deadline. */
#include "client_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <curl/curl.h>

#include <hsm/clock.h>

#define SLICE_MS 200 /* how often a wait checks whether the client was stopped */

void
acme_patience_start(struct acme_patience *patience, unsigned limit_s)
{
    *patience = (struct acme_patience){
        .deadline_ms = hsm_clock_ms() + (int64_t)limit_s * 1000,
        .backoff = {.first_ms = ACME_WAIT_FIRST_MS, .longest_ms = ACME_WAIT_LONGEST_MS}};
}

long
acme_retry_after_s(const char *value, time_t now)
{
    char *end = NULL;
    long seconds;
    time_t date;

    if (value == NULL || *value == '\0')
        return -1;
    errno = 0;
    seconds = strtol(value, &end, 10);
    if (*end == '\0' && errno == 0 && seconds >= 0)
        return seconds < ACME_RETRY_AFTER_MAX_S ? seconds : ACME_RETRY_AFTER_MAX_S;
    date = curl_getdate(value, NULL);
    if (date == -1)
        return -1;
    seconds = (long)(date - now);
    if (seconds > ACME_RETRY_AFTER_MAX_S)
        return ACME_RETRY_AFTER_MAX_S;
    return seconds > 0 ? seconds : 0;
}

/* False: the client was stopped meanwhile. */
static bool
sleep_ms(const struct acme_client *client, unsigned ms)
{
    int64_t until = hsm_clock_ms() + ms;

    for (;;) {
        int64_t left = until - hsm_clock_ms();
        struct timespec slice = {.tv_nsec = (left < SLICE_MS ? left : SLICE_MS) * 1000000};

        if (client->config.stopped != NULL &&
            client->config.stopped(client->config.stopped_context))
            return false;
        if (left <= 0)
            return true;
        (void)nanosleep(&slice, NULL); /* after a signal the loop computes the remaining time */
    }
}

enum hsm_status
acme_client_wait(struct acme_client *client, struct acme_patience *patience,
                 const char *retry_after, struct hsm_reason *why)
{
    long asked = acme_retry_after_s(retry_after, time(NULL));
    unsigned ms = acme_backoff_next(&patience->backoff, asked > 86400 ? 86400000 : asked * 1000);

    if (asked == 0) /* Retry-After: 0 must not cause a busy loop */
        ms = ACME_WAIT_FIRST_MS / 2;
    if (ms > patience->deadline_ms - hsm_clock_ms()) {
        client->retry_after_s = asked > 0 ? (unsigned)asked : 0;
        return hsm_refuse(why, HSM_ERR_BUSY, "the CA is still processing");
    }
    return sleep_ms(client, ms) ? HSM_OK : hsm_refuse(why, HSM_ERR_BUSY, "stopped");
}
