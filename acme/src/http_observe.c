/* http_observe.c - what is told of a request: a line in the log, and metrics. */
#include "http_loop_internal.h"

#include <stdio.h>
#include <strings.h>

#include <hsm/log.h>
#include <hsm/metrics.h>

#define NO_ROUTE "other" /* what nobody serves: its path may be anything, and is not told */

static const struct hsm_metric requests = {"sti_http_requests_total",
                                           "Requests by route, method and status.", HSM_COUNTER,
                                           "route method status", NULL};
static const struct hsm_metric durations = {
    "sti_http_request_seconds", "Time from a whole request to its answer, waiting included.",
    HSM_HISTOGRAM, "route", hsm_metric_seconds};
static const struct hsm_metric connections = {"sti_http_connections", "Open connections.",
                                              HSM_GAUGE_SUM, "listener", NULL};
static const struct hsm_metric queued = {
    "sti_http_requests_waiting", "Requests that wait for a thread.", HSM_GAUGE_SUM, NULL, NULL};

/* Of the answer: handlers echo only what is harmless. */
static const char *
request_id(const struct acme_http_response *response)
{
    for (size_t i = 0; i < response->header_count; i++) {
        if (strcasecmp(response->headers[i].name, "X-RequestID") == 0)
            return response->headers[i].value;
    }
    return NULL;
}

/* Never the query, a header of the request or a body: there are tokens and telephone numbers. */
static void
log_call(const struct http_call *call, enum hsm_log_level level, const char *route,
         const char *status, double seconds, const char *note)
{
    const struct acme_http_request *request = call->request;
    const char *path = call->response.route != NULL ? request->path : NULL;
    char ms[32];
    const struct hsm_log_field fields[] = {
        {"method", http_method_text(request->method), false},
        {"route", route, false},
        {"path", path, false},
        {"status", status, true},
        {"peer", request->peer, false},
        {"client", request->client.subject, false},
        {"request_id", request_id(&call->response), false},
        {"ms", ms, true},
    };

    snprintf(ms, sizeof(ms), "%.1f", seconds * 1e3);
    hsm_log_event(level, fields, sizeof(fields) / sizeof(fields[0]), "%s %s %s %s %s ms%s",
                  http_method_text(request->method), path != NULL ? path : route, status,
                  request->peer, ms, note);
}

void
http_observe_call(const struct http_call *call, const char *note)
{
    struct hsm_metrics *metrics = call->server->metrics;
    const char *route = call->response.route != NULL ? call->response.route : NO_ROUTE;
    double seconds = (double)(hsm_metric_clock_ns() - call->begun_ns) / 1e9;
    /* 503 is said on purpose; any other 5xx never goes without a line */
    bool is_fault = call->response.status >= 500 && call->response.status != 503;
    enum hsm_log_level level = is_fault ? HSM_LOG_WARNING : HSM_LOG_INFO;
    char status[16];

    snprintf(status, sizeof(status), "%d", call->response.status);
    if (metrics != NULL) {
        hsm_series_add(hsm_series(metrics, &requests,
                                  (const char *const[]){
                                      route, http_method_text(call->request->method), status}),
                       1);
        hsm_series_observe(hsm_series(metrics, &durations, &route), seconds);
    }
    if ((is_fault || !call->server->is_quiet) && hsm_log_is_on(level))
        log_call(call, level, route, status, seconds, note);
}

void
http_observe_refusal(const struct http_server *server, enum acme_http_method method, int status)
{
    char text[16];

    hsm_log(HSM_LOG_INFO, "%s: request refused: %d", server->address, status);
    snprintf(text, sizeof(text), "%d", status);
    hsm_series_add(hsm_series(server->metrics, &requests,
                              (const char *const[]){NO_ROUTE, http_method_text(method), text}),
                   1);
}

void
http_observe_loop(struct acme_http_loop *loop)
{
    const struct http_server *server;
    size_t waiting;

    pthread_mutex_lock(&loop->mutex);
    waiting = loop->queue_len;
    pthread_mutex_unlock(&loop->mutex);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        const char *const address[] = {server->address};

        hsm_series_set(hsm_series(server->metrics, &connections, address),
                       (double)server->connection_count);
        hsm_series_set(hsm_series(server->metrics, &queued, NULL), (double)waiting);
    }
}
