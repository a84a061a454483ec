/* service.c - the signing and verification API. */
#include "service_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/use.h>

#define JSON           "application/json"
#define SIGNING        "/stir/v1/signing"
#define VERIFICATION   "/stir/v1/verification"
#define REQUEST_ID_MAX 128 /* characters of an X-RequestID that is echoed */

time_t
sks_service_now(const struct sks_service *service)
{
    return service->config.now != NULL ? service->config.now() : time(NULL);
}

void
sks_service_refresh(struct sks_service *service)
{
    sks_signing_refresh(service->signing, sks_service_now(service));
    if (service->config.trail != NULL)
        sks_trail_follow(service->config.trail);
    sks_meter_state(service);
}

enum hsm_status
sks_service_check(const struct sks_service *service)
{
    return sks_signing_check(service->signing);
}

/* ---- authentication ---- */

/* The bearer token of a request (RFC 6750 section 2.1); NULL: it has none. */
static const char *
bearer_of(const struct acme_http_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *authorization = acme_http_request_header(request, "Authorization");

    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    authorization += sizeof(scheme) - 1;
    return authorization + strspn(authorization, " ");
}

static bool
bears_token(const struct sks_service *service, const char *bearer)
{
    return service->config.bearer != NULL && bearer != NULL &&
           hsm_secret_equals(service->config.bearer, bearer, strlen(bearer));
}

/* Without a file of callers, no caller is identified: *caller is NULL even if the request is
 * authenticated. */
static bool
is_authenticated(const struct sks_service *service, const struct acme_http_request *request,
                 const struct sks_caller **caller)
{
    struct sks_evidence evidence;

    *caller = NULL;
    if (service->config.callers == NULL)
        return acme_http_request_is_local(request) || acme_http_request_client(request) != NULL ||
               bears_token(service, bearer_of(request));
    evidence.uid = acme_http_request_uid(request);
    evidence.sha256 = acme_http_request_client_sha256(request);
    evidence.subject = acme_http_request_client(request);
    evidence.names = acme_http_request_client_names(request);
    evidence.bearer = bearer_of(request);
    *caller = sks_callers_find(service->config.callers, &evidence);
    return *caller != NULL;
}

/* RFC 6750 section 3. */
static void
respond_not_authenticated(const struct acme_http_request *request,
                          struct acme_http_response *response)
{
    const struct ms_fault fault = {.error = MS_NOT_AUTHENTICATED};
    bool tried = acme_http_request_header(request, "Authorization") != NULL;

    if (tried)
        hsm_log(HSM_LOG_WARNING, "%s: wrong credentials for %s", acme_http_request_peer(request),
                acme_http_request_path(request));
    acme_http_response_header(response, "WWW-Authenticate",
                              tried ? "Bearer realm=\"sti-sks\", error=\"invalid_token\""
                                    : "Bearer realm=\"sti-sks\"");
    sks_ms_fault_respond(&fault, response);
}

/* ---- headers of a request ---- */

/* True if a media range of an Accept header (RFC 9110 section 12.5.1), `len` octets, includes JSON.
 */
static bool
range_takes_json(const char *range, size_t len)
{
    static const char *const names[] = {JSON, "application/*", "*/*", NULL};
    size_t name_len = strcspn(range, " \t;,");
    const char *q = memchr(range, ';', len);

    while (q != NULL && strncasecmp(q + 1 + strspn(q + 1, " \t"), "q=", 2) != 0)
        q = memchr(q + 1, ';', len - (size_t)(q + 1 - range));
    if (q != NULL && strtod(strchr(q, '=') + 1, NULL) <= 0)
        return false; /* q=0: not acceptable */
    for (size_t i = 0; names[i] != NULL; i++)
        if (strlen(names[i]) == name_len && strncasecmp(range, names[i], name_len) == 0)
            return true;
    return false;
}

static bool
accepts_json(const char *accept)
{
    if (accept == NULL || accept[strspn(accept, " \t")] == '\0')
        return true;
    while (*accept != '\0') {
        size_t len;

        accept += strspn(accept, " \t,");
        len = strcspn(accept, ",");
        if (len > 0 && range_takes_json(accept, len))
            return true;
        accept += len;
    }
    return false;
}

static bool
is_json(const char *content_type)
{
    size_t len = content_type == NULL ? 0 : strcspn(content_type, " \t;");

    return len == strlen(JSON) && strncasecmp(content_type, JSON, len) == 0;
}

static bool
has_length(const struct acme_http_request *request)
{
    return acme_http_request_header(request, "Content-Length") != NULL ||
           acme_http_request_header(request, "Transfer-Encoding") != NULL;
}

bool
sks_service_body(const struct acme_http_request *request, const char **body, size_t *len,
                 struct ms_fault *fault)
{
    const char *accept = acme_http_request_header(request, "Accept");

    *body = acme_http_request_body(request, len);
    if (!accepts_json(accept))
        return sks_ms_refuse(fault, MS_NOT_ACCEPTABLE, accept, "");
    if (!has_length(request))
        return sks_ms_refuse(fault, MS_MISSING_LENGTH, "", "");
    if (*len == 0)
        return sks_ms_refuse(fault, MS_MISSING_BODY, "", "");
    if (!is_json(acme_http_request_header(request, "Content-Type")))
        return sks_ms_refuse(fault, MS_UNSUPPORTED_BODY, JSON, "");
    return true;
}

/* Echo the id, so that callers find the request in their logs, if it is harmless in a header. */
static void
echo_request_id(const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *id = acme_http_request_header(request, "X-RequestID");
    size_t len = 0;

    if (id == NULL)
        return;
    while (isgraph((unsigned char)id[len]))
        len++;
    if (id[len] == '\0' && len > 0 && len <= REQUEST_ID_MAX)
        acme_http_response_header(response, "X-RequestID", id);
}

const struct sks_dial_plan *
sks_service_dial_plan(const struct sks_service *service, const struct sks_caller *caller)
{
    const struct sks_dial_plan *own = caller == NULL ? NULL : sks_caller_dial_plan(caller);

    return own != NULL ? own : service->config.dial_plan;
}

enum sks_outcome
sks_service_outcome(const struct ms_fault *fault)
{
    if (fault->error == MS_NOT_POSSIBLE_NOW)
        return SKS_OUTCOME_UNAVAILABLE;
    return fault->error == MS_INTERNAL ? SKS_OUTCOME_FAILED : SKS_OUTCOME_REFUSED;
}

/* ---- routes ---- */

/* Without a file of callers, those that are authenticated may use everything. */
static bool
may_use(const struct sks_caller *caller, enum sks_api api)
{
    return caller == NULL || sks_caller_may_use(caller, api);
}

/* Any probe may query whether the service is ready. Which service providers are not served, and
 * why, is shown only to those who may read the metrics. */
static void
answer_operations(struct sks_service *service, const struct sks_caller *caller,
                  const struct acme_http_request *request, struct acme_http_response *response)
{
    struct acme_operations operations = service->operations;

    if (!is_authenticated(service, request, &caller) || !may_use(caller, SKS_API_METRICS))
        operations.detail = NULL;
    (void)acme_operations_answer(&operations, request, response);
}

static const struct route {
    const char *path;
    bool is_post;
    bool is_open; /* to callers that are not authenticated */
    enum sks_api api; /* which other callers must be allowed to use */
    void (*answer)(struct sks_service *service, const struct sks_caller *caller,
                   const struct acme_http_request *request, struct acme_http_response *response);
} routes[] = {
    {SIGNING, true, false, SKS_API_SIGNING, sks_service_answer_signing},
    {VERIFICATION, true, false, SKS_API_VERIFICATION, sks_service_answer_verification},
    {ACME_OPERATIONS_HEALTHZ, false, true, SKS_API_METRICS, answer_operations},
    {ACME_OPERATIONS_READYZ, false, true, SKS_API_METRICS, answer_operations},
    {ACME_OPERATIONS_METRICS, false, false, SKS_API_METRICS, answer_operations},
};

static const struct route *
find_route(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return NULL;
}

static bool
takes_method(const struct route *route, enum acme_http_method method)
{
    if (route->is_post)
        return method == ACME_HTTP_POST;
    return method == ACME_HTTP_GET || method == ACME_HTTP_HEAD;
}

/* The name for the signing journal: the one under which the configuration admits the caller. */
static const char *
caller_name(const struct sks_caller *caller, const struct acme_http_request *request)
{
    const char *client = acme_http_request_client(request);

    if (caller != NULL)
        return sks_caller_name(caller);
    if (client != NULL)
        return client;
    return acme_http_request_is_local(request) ? "local" : "bearer";
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct sks_service *service = context;
    const struct route *route = find_route(acme_http_request_path(request));
    struct ms_fault fault = {.error = MS_NOT_FOUND};
    const struct sks_caller *caller = NULL;

    echo_request_id(request, response);
    if (route != NULL)
        acme_http_response_route(response, route->path);
    if ((route == NULL || !route->is_open) && !is_authenticated(service, request, &caller)) {
        respond_not_authenticated(request, response);
    } else if (route == NULL) {
        sks_ms_fault_respond(&fault, response);
    } else if (!route->is_open && !may_use(caller, route->api)) {
        sks_ms_refuse(&fault, MS_NOT_ALLOWED, route->path, "not in the caller's \"use\"");
        sks_ms_fault_respond(&fault, response);
    } else if (!takes_method(route, acme_http_request_method(request))) {
        fault.error = MS_METHOD_NOT_ALLOWED;
        acme_http_response_header(response, "Allow", route->is_post ? "POST" : "GET, HEAD");
        sks_ms_fault_respond(&fault, response);
    } else {
        HSM_USE_ASKED_BY(caller_name(caller, request));

        route->answer(service, caller, request, response);
    }
}

/* /healthz needs nothing but the event loop. All else may wait for a token or a fetch, except
 * signing with a token that is faster than handing the call to a thread. */
static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    const struct sks_service *service = context;

    if (strcmp(path, SIGNING) == 0)
        return method == ACME_HTTP_POST && sks_signing_is_quick(service->signing);
    return strcmp(path, ACME_OPERATIONS_HEALTHZ) == 0;
}

/* A stranger chooses the server that a certificate is fetched from. If the verifier cannot park the
 * call, a thread waits for that server; as slow requests leave a thread free, calls can still be
 * signed. */
static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    const struct sks_service *service = context;

    (void)method;
    return strcmp(path, VERIFICATION) == 0 && sks_verifier_waits(service->config.verifier);
}

struct acme_http_handler
sks_service_handler(struct sks_service *service)
{
    return (struct acme_http_handler){
        .handle = handle, .is_quick = is_quick, .is_slow = is_slow, .context = service};
}

const struct acme_operations *
sks_service_operations(const struct sks_service *service)
{
    return &service->operations;
}

enum hsm_status
sks_service_new(const struct sks_service_config *config, struct sks_service **out)
{
    DEFER(sks_service_free) struct sks_service *service = calloc(1, sizeof(*service));
    struct sks_signing_config signing = {
        .catalogue = config->catalogue,
        .tokens = config->tokens,
        .serving = config->serving,
        .is_candidate = config->is_candidate,
        .spcs = &config->spc,
        .spc_count = 1,
        .signature = sks_meter_signature,
        .replaced = sks_meter_forget,
        .context = service,
    };
    enum hsm_status st;

    if (service == NULL)
        return HSM_ERR_NOMEM;
    if (config->callers != NULL)
        signing.spcs = sks_callers_spcs(config->callers, &signing.spc_count);
    pthread_mutex_init(&service->calls.lock, NULL);
    service->config = *config;
    service->operations =
        (struct acme_operations){.metrics = config->metrics,
                                 .not_ready = sks_service_roles[SKS_ROLE_SIGNING].not_ready,
                                 .roles = sks_service_roles,
                                 .detail = sks_service_detail,
                                 .context = service};
    sks_meter_open(config->metrics, &service->meter);
    st = sks_signing_new(&signing, sks_service_now(service), &service->signing);
    if (st != HSM_OK)
        return st;
    *out = service;
    service = NULL;
    return HSM_OK;
}

void
sks_service_free(struct sks_service *service)
{
    if (service == NULL)
        return;
    sks_calls_free(&service->calls);
    sks_signing_free(service->signing);
    free(service);
}
