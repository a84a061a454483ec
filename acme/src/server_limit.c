/* server_limit.c - rate limits (RFC 8555 section 6.6). */
#include "server_internal.h"

#include <stdio.h>

enum hsm_status
acme_limit_take(struct acme_store *store, const char *what, const char *whom, unsigned per_hour,
                time_t now, time_t *wait_s)
{
    return acme_limit_take_one(store,
                               &(struct acme_limit){
                                   .what = what,
                                   .times = per_hour,
                                   .in_s = ACME_HOUR_S,
                               },
                               whom, now, wait_s);
}

/* Runs after the exchange of the nonce, in the same transaction. A request that will be sent again
 * because of its nonce (RFC 8555 section 6.5) does not count. */
static enum hsm_status
count_call(struct acme_store *store, void *context)
{
    struct acme_call *call = context;

    if (!call->exchange.is_good)
        return HSM_OK;
    return acme_limit_take(store, call->counting.what, call->account,
                           call->server->config.requests_per_account, call->now,
                           &call->counting.wait_s);
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
