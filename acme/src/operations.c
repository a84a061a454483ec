/* operations.c - /healthz, /readyz, /metrics. */
#include <acme/operations.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

#define JSON       "application/json"
#define EXPOSITION "text/plain; version=0.0.4; charset=utf-8"

static void
respond(const struct acme_operations *operations, struct acme_http_response *response, int status,
        json_t *answer)
{
    if (operations->detail != NULL && answer != NULL)
        operations->detail(operations->context, answer);
    acme_http_respond_json(response, status, JSON, answer);
}

static void
answer_healthz(const struct acme_operations *operations, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    (void)request;
    respond(operations, response, 200, json_pack("{s:s}", "status", "ok"));
}

/* The readiness function to use; without "role=" the daemon's own. NULL: unknown role. */
static void (*not_ready_of(const struct acme_operations *operations, const char *query))(void *,
                                                                                         json_t *)
{
    static const char asked[] = "role=";

    if (query == NULL || strncmp(query, asked, strlen(asked)) != 0)
        return operations->not_ready;
    for (const struct acme_operations_role *role = operations->roles;
         role != NULL && role->name != NULL; role++)
        if (strcmp(role->name, query + strlen(asked)) == 0)
            return role->not_ready;
    return NULL;
}

static void
answer_readyz(const struct acme_operations *operations, const struct acme_http_request *request,
              struct acme_http_response *response)
{
    void (*not_ready)(void *context, json_t *reasons) =
        not_ready_of(operations, acme_http_request_query(request));
    json_t *reasons;
    bool ready;

    if (not_ready == NULL) {
        acme_http_respond(response, 404, NULL, NULL, 0);
        return;
    }
    reasons = json_array();
    if (reasons == NULL)
        return;
    not_ready(operations->context, reasons);
    ready = json_array_size(reasons) == 0;
    respond(operations, response, ready ? 200 : 503,
            json_pack("{s:b, s:o}", "ready", ready, "reasons", reasons));
}

static void
answer_metrics(const struct acme_operations *operations, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    DEFER(free) char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    enum hsm_status st;

    (void)request;
    if (to == NULL)
        return;
    st = hsm_metrics_write(operations->metrics, to);
    if (fclose(to) == 0 && st == HSM_OK)
        acme_http_respond(response, 200, EXPOSITION, text, len);
}

static const struct {
    const char *path;
    void (*answer)(const struct acme_operations *operations,
                   const struct acme_http_request *request, struct acme_http_response *response);
} routes[] = {
    {ACME_OPERATIONS_HEALTHZ, answer_healthz},
    {ACME_OPERATIONS_READYZ, answer_readyz},
    {ACME_OPERATIONS_METRICS, answer_metrics},
};

bool
acme_operations_answer(const struct acme_operations *operations,
                       const struct acme_http_request *request, struct acme_http_response *response)
{
    enum acme_http_method method = acme_http_request_method(request);

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(acme_http_request_path(request), routes[i].path) != 0)
            continue;
        acme_http_response_route(response, routes[i].path);
        if (method == ACME_HTTP_GET || method == ACME_HTTP_HEAD) {
            acme_http_response_header(response, "Cache-Control", "no-store");
            routes[i].answer(operations, request, response);
        } else {
            acme_http_response_header(response, "Allow", "GET, HEAD");
            acme_http_respond(response, 405, NULL, NULL, 0);
        }
        return true;
    }
    return false;
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    if (!acme_operations_answer(context, request, response))
        acme_http_respond(response, 404, NULL, NULL, 0);
}

/* /healthz is answered by the event loop itself, which shows that it runs. */
static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, ACME_OPERATIONS_HEALTHZ) == 0;
}

struct acme_http_handler
acme_operations_handler(const struct acme_operations *operations)
{
    return (struct acme_http_handler){
        .handle = handle, .is_quick = is_quick, .context = (void *)operations};
}
