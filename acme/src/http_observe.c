/* http_observe.c - log and metrics of a request. */
#include "http_loop_internal.h"

#include <stdint.h>
#include <stdio.h>

#include <hsm/clock.h>
#include <hsm/log.h>
#include <hsm/metrics.h>

#define ID_SIZE  128 /* octets of a request's identifier that are logged */
#define NO_ROUTE "other" /* no handler matched: the path is arbitrary and is not logged */

static const struct hsm_metric requests = {"sti_http_requests_total",
                                           "Requests by route, method and status.", HSM_COUNTER,
                                           "route method status", NULL};
static const struct hsm_metric durations = {
    "sti_http_request_seconds", "Time from a whole request to its answer, waiting included.",
    HSM_HISTOGRAM, "route", hsm_metric_seconds};
static const struct hsm_metric connections = {"sti_http_connections", "Open connections.",
                                              HSM_GAUGE_SUM, "listener", NULL};
static const struct hsm_metric tls_not_after = {
    "sti_http_certificate_not_after_seconds",
    "When the listener's TLS certificate or one of its issuers ends, since 1970.", HSM_GAUGE_MIN,
    "listener", NULL};
static const struct hsm_metric queued = {
    "sti_http_requests_waiting", "Requests that wait for a thread.", HSM_GAUGE_SUM, NULL, NULL};

const char *
acme_http_method_text(enum acme_http_method method)
{
    static const char *const texts[] = {
        [ACME_HTTP_GET] = "GET",         [ACME_HTTP_HEAD] = "HEAD",
        [ACME_HTTP_POST] = "POST",       [ACME_HTTP_PUT] = "PUT",
        [ACME_HTTP_DELETE] = "DELETE",   [ACME_HTTP_OPTIONS] = "OPTIONS",
        [ACME_HTTP_OTHER] = "(another)",
    };

    return texts[method];
}

/* Never log the query, a request header or a body: they may contain tokens and telephone
 * numbers. */
static void
log_call(const struct http_call *call, enum hsm_log_level level, const char *route, double seconds,
         const char *note)
{
    const struct acme_http_request *request = &call->request;
    const char *path = call->response.route != NULL ? request->path : NULL;
    size_t id_len = 0; /* from the response: handlers echo only harmless identifiers */
    const char *id = acme_http_response_field(&call->response, "X-RequestID", &id_len);
    char id_text[ID_SIZE], status[16], ms[32];
    const struct hsm_log_field fields[] = {
        {"method", acme_http_method_text(request->method), false},
        {"route", route, false},
        {"path", path, false},
        {"status", status, true},
        {"peer", request->peer->address, false},
        {"client", request->peer->subject, false},
        {"request_id", id != NULL ? id_text : NULL, false},
        {"ms", ms, true},
    };

    snprintf(id_text, sizeof(id_text), "%.*s", (int)id_len, id != NULL ? id : "");
    snprintf(status, sizeof(status), "%d", call->response.status);
    snprintf(ms, sizeof(ms), "%.1f", seconds * 1e3);
    hsm_log_event(level, fields, sizeof(fields) / sizeof(fields[0]), "%s %s %s %s %s ms%s",
                  acme_http_method_text(request->method), path != NULL ? path : route, status,
                  request->peer->address, ms, note);
}

/* The series of a request; looked up once, since routes are static texts. */
static const struct http_seen *
seen_of(struct http_server *server, const char *route, enum acme_http_method method, int status)
{
    uintptr_t hash = (uintptr_t)route / 8 + 7 * (uintptr_t)method + (uintptr_t)status;
    struct http_seen *seen = &server->seen[hash % HTTP_SEEN];
    char text[16];

    if (seen->route == route && seen->method == method && seen->status == status)
        return seen;
    snprintf(text, sizeof(text), "%d", status);
    *seen = (struct http_seen){
        .route = route,
        .method = method,
        .status = status,
        .count = hsm_series(server->metrics, &requests,
                            (const char *const[]){route, acme_http_method_text(method), text}),
        .durations = hsm_series(server->metrics, &durations, &route),
    };
    return seen;
}

void
acme_http_observe_call(const struct http_call *call, const char *note)
{
    const char *route = call->response.route != NULL ? call->response.route : NO_ROUTE;
    double seconds = (double)(hsm_clock_ns() - call->begun_ns) / 1e9;
    /* 503 is intentional; every other 5xx is logged */
    bool is_fault = call->response.status >= 500 && call->response.status != 503;
    enum hsm_log_level level = is_fault ? HSM_LOG_WARNING : HSM_LOG_INFO;
    const struct http_seen *seen =
        seen_of(call->server, route, call->request.method, call->response.status);

    hsm_series_add(seen->count, 1);
    hsm_series_observe(seen->durations, seconds);
    if ((is_fault || !call->server->is_quiet) && hsm_log_is_on(level))
        log_call(call, level, route, seconds, note);
}

void
acme_http_observe_refusal(const struct http_server *server, enum acme_http_method method,
                          int status)
{
    char text[16];

    hsm_log(HSM_LOG_INFO, "%s: request refused: %d", server->address, status);
    snprintf(text, sizeof(text), "%d", status);
    hsm_series_add(hsm_series(server->metrics, &requests,
                              (const char *const[]){NO_ROUTE, acme_http_method_text(method), text}),
                   1);
}

void
acme_http_observe_loop(struct acme_http_loop *loop)
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
        if (server->tls_not_after != 0)
            hsm_series_set(hsm_series(server->metrics, &tls_not_after, address),
                           (double)server->tls_not_after);
    }
}
