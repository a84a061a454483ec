/* service.c - the signing and verification API, health and metrics. */
#include <sks/service.h>

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/use.h>
#include <sks/passport.h>
#include <sks/signers.h>

#include "ms_api_signing_internal.h"
#include "ms_api_verification_internal.h"

#define JSON           "application/json"
#define VERIFICATION   "/stir/v1/verification"
#define REQUEST_ID_MAX 128 /* characters of an X-RequestID that is echoed */
#define PROBE_S        10 /* without a signature for this long, one is asked for */
#define RETRY_S        10 /* between attempts to load what could not be loaded */

enum outcome {
    SIGNED,
    REFUSED, /* a fault of the request */
    UNAVAILABLE, /* no credential or no token */
    FAILED,
    OUTCOMES
};

static const char *const outcome_texts[OUTCOMES] = {"signed", "refused", "unavailable", "failed"};

struct sks_service {
    struct sks_service_config config;

    pthread_mutex_t lock; /* over signers */
    struct sks_signers *signers; /* NULL: nothing could be loaded yet */

    pthread_mutex_t refreshing; /* over what follows; one refresh at a time */
    int64_t version; /* of the catalogue when signers, or nothing, was loaded from it */
    time_t retry_at, probe_at; /* on the monotonic clock */

    atomic_bool stale; /* that version could not be loaded */

    atomic_bool token_signs; /* as far as the last signature says */
    atomic_llong last_signed; /* on the monotonic clock */
    atomic_ullong signings[OUTCOMES];
    atomic_ullong verdicts[SKS_E19_ATTEST + 1];
    atomic_ullong verifications[OUTCOMES]; /* those without a verdict */
};

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_service, sks_service_free)
DEFINE_DEFER(struct sks_signers, sks_signers_free)

static time_t
monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static time_t
service_now(const struct sks_service *service)
{
    return service->config.now != NULL ? service->config.now() : time(NULL);
}

/* ---- credentials ---- */

/* The set as it is now, for one call; NULL: nothing is loaded. */
static struct sks_signers *
take_signers(struct sks_service *service)
{
    struct sks_signers *taken = NULL;

    pthread_mutex_lock(&service->lock);
    if (service->signers != NULL)
        taken = sks_signers_share(service->signers);
    pthread_mutex_unlock(&service->lock);
    return taken;
}

static void
replace_signers(struct sks_service *service, struct sks_signers *signers)
{
    struct sks_signers *old;

    pthread_mutex_lock(&service->lock);
    old = service->signers;
    service->signers = signers;
    pthread_mutex_unlock(&service->lock);
    sks_signers_free(old);
}

static void
tell_signers(const struct sks_signers *signers)
{
    int64_t id;

    if (sks_signers_count(signers) == 0)
        hsm_log(HSM_LOG_WARNING, "no active credential: calls are not signed");
    for (size_t i = 0; i < sks_signers_count(signers); i++) {
        const struct sks_signer *signer = sks_signers_get(signers, i, &id);

        hsm_log(HSM_LOG_INFO, "credential %" PRId64 " signs for SPC %s, x5u %s", id,
                sks_signer_spc(signer), sks_signer_x5u(signer));
    }
}

/* Called with `refreshing` held, or before threads know the service. */
static enum hsm_status
load(struct sks_service *service)
{
    struct sks_signers *signers = NULL;
    int64_t version;
    bool good; /* else the keys are looked for again: their token may have come back */
    enum hsm_status st = sks_catalogue_version(service->config.catalogue, &version);

    if (st != HSM_OK)
        return st;
    good = !atomic_load(&service->stale) && atomic_load(&service->token_signs);
    if (version == service->version && (good || monotonic() < service->retry_at))
        return HSM_OK;
    st = sks_signers_load(service->config.catalogue, service->config.token, service->config.spc,
                          &signers);
    service->version = version; /* read before the load: a later change is seen next time */
    atomic_store(&service->stale, st != HSM_OK);
    service->retry_at = monotonic() + RETRY_S;
    if (st != HSM_OK)
        return st;
    tell_signers(signers);
    replace_signers(service, signers);
    atomic_store(&service->token_signs, true);
    return HSM_OK;
}

/* A token that was taken away is noticed by /readyz without a call having to fail. */
static void
probe(struct sks_service *service)
{
    DEFER(sks_signers_free) struct sks_signers *signers = NULL;
    time_t now = monotonic();
    enum hsm_status st;

    if (now < service->probe_at || now - atomic_load(&service->last_signed) < PROBE_S)
        return;
    service->probe_at = now + PROBE_S;
    signers = take_signers(service);
    if (signers == NULL)
        return;
    st = sks_signers_probe(signers, service_now(service));
    if (st != HSM_ERR_NOT_FOUND)
        atomic_store(&service->token_signs, st == HSM_OK);
}

void
sks_service_refresh(struct sks_service *service)
{
    pthread_mutex_lock(&service->refreshing);
    if (load(service) == HSM_OK) /* a failure was logged, and what was loaded stays */
        probe(service);
    pthread_mutex_unlock(&service->refreshing);
}

/* A credential may have become active since the last tick: no call is refused for that. */
static struct sks_signers *
signers_that_can_sign(struct sks_service *service, time_t now)
{
    struct sks_signers *signers = take_signers(service);

    if (signers != NULL && sks_signers_at(signers, now) != NULL)
        return signers;
    sks_signers_free(signers);
    pthread_mutex_lock(&service->refreshing);
    if (load(service) != HSM_OK)
        hsm_log(HSM_LOG_DEBUG, "credentials could not be loaded for a call");
    pthread_mutex_unlock(&service->refreshing);
    return take_signers(service);
}

/* ---- who may ask ---- */

static bool
bears_token(const struct sks_service *service, const char *authorization)
{
    static const char scheme[] = "Bearer ";

    if (service->config.bearer == NULL || authorization == NULL ||
        strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return false;
    authorization += sizeof(scheme) - 1;
    authorization += strspn(authorization, " ");
    return hsm_secret_equals(service->config.bearer, authorization, strlen(authorization));
}

static bool
is_authenticated(const struct sks_service *service, const struct acme_http_request *request)
{
    return acme_http_request_is_local(request) || acme_http_request_client(request) != NULL ||
           bears_token(service, acme_http_request_header(request, "Authorization"));
}

/* For the journal: as what the configuration lets a caller in. */
static const char *
caller_name(const struct acme_http_request *request)
{
    const char *client = acme_http_request_client(request);

    if (client != NULL)
        return client;
    return acme_http_request_is_local(request) ? "local" : "bearer";
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
    ms_fault_respond(&fault, response);
}

/* ---- what a request's header says ---- */

/* One media range of an Accept header (RFC 9110 section 12.5.1), up to `len`. */
static bool
range_takes_json(const char *range, size_t len)
{
    static const char *const names[] = {JSON, "application/*", "*/*", NULL};
    size_t name_len = strcspn(range, " \t;,");
    const char *q = memchr(range, ';', len);

    while (q != NULL && strncasecmp(q + 1 + strspn(q + 1, " \t"), "q=", 2) != 0)
        q = memchr(q + 1, ';', len - (size_t)(q + 1 - range));
    if (q != NULL && strtod(strchr(q, '=') + 1, NULL) <= 0)
        return false; /* q=0: anything but this */
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

/* The body of a POST. */
static bool
take_body(const struct acme_http_request *request, const char **body, size_t *len,
          struct ms_fault *fault)
{
    const char *accept = acme_http_request_header(request, "Accept");

    *body = acme_http_request_body(request, len);
    if (!accepts_json(accept))
        return ms_refuse(fault, MS_NOT_ACCEPTABLE, accept, "");
    if (!has_length(request))
        return ms_refuse(fault, MS_MISSING_LENGTH, "", "");
    if (*len == 0)
        return ms_refuse(fault, MS_MISSING_BODY, "", "");
    if (!is_json(acme_http_request_header(request, "Content-Type")))
        return ms_refuse(fault, MS_UNSUPPORTED_BODY, JSON, "");
    return true;
}

/* So that callers find their request in their logs; only what is harmless in a header. */
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

/* ---- POST /stir/v1/signing ---- */

static enum outcome
outcome_of(const struct ms_fault *fault)
{
    if (fault->error == MS_NOT_POSSIBLE_NOW)
        return UNAVAILABLE;
    return fault->error == MS_INTERNAL ? FAILED : REFUSED;
}

static bool
cannot_now(struct ms_fault *fault, const char *why)
{
    return ms_refuse(fault, MS_NOT_POSSIBLE_NOW, why, "");
}

/* RFC 8224 section 4.1: nobody signs for a time that is not now. */
static bool
check_fresh(const struct sks_claims *claims, time_t now, struct ms_fault *fault)
{
    struct hsm_reason why;

    if (claims->iat >= (int64_t)now - SKS_FRESHNESS_S &&
        claims->iat <= (int64_t)now + SKS_FRESHNESS_S)
        return true;
    hsm_refuse(&why, HSM_ERR_UNTRUSTED, "not within %d s of now", SKS_FRESHNESS_S);
    return ms_refuse(fault, MS_INVALID_PARAMETER, "iat", why.text);
}

static bool
sign_claims(struct sks_service *service, const struct sks_claims *claims, time_t now,
            char **identity, struct ms_fault *fault)
{
    DEFER(sks_signers_free) struct sks_signers *signers = signers_that_can_sign(service, now);
    struct sks_signer *signer = signers == NULL ? NULL : sks_signers_at(signers, now);
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (signer == NULL)
        return cannot_now(fault, "no active credential");
    st = sks_signer_sign(signer, claims, now, identity, &why);
    if (st == HSM_OK) {
        atomic_store(&service->last_signed, monotonic());
        atomic_store(&service->token_signs, true);
        return true;
    }
    if (st == HSM_ERR_UNTRUSTED)
        return cannot_now(fault, "the active credential is not valid now");
    if (st == HSM_ERR_NOMEM || st == HSM_ERR_MALFORMED) /* the claims were checked before */
        return ms_refuse(fault, MS_INTERNAL, "", "");
    hsm_log(HSM_LOG_ERROR, "a call was not signed: %s", why.text);
    atomic_store(&service->token_signs, false);
    return cannot_now(fault, "the token does not sign");
}

static bool
sign(struct sks_service *service, const struct acme_http_request *request, char **identity,
     struct ms_fault *fault)
{
    struct ms_signing signing;
    time_t now = service_now(service);
    const char *body;
    size_t len;
    bool signed_now;

    if (!take_body(request, &body, &len, fault) || !ms_signing_parse(body, len, &signing, fault))
        return false;
    signed_now = check_fresh(&signing.claims, now, fault) &&
                 sign_claims(service, &signing.claims, now, identity, fault);
    ms_signing_clear(&signing);
    return signed_now;
}

static void
answer_signing(struct sks_service *service, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    DEFER(free) char *identity = NULL;
    struct ms_fault fault = {.dialect = MS_ATIS};

    if (sign(service, request, &identity, &fault)) {
        acme_http_respond_json(response, 200, JSON,
                               json_pack("{s:{s:s}}", "signingResponse", "identity", identity));
        atomic_fetch_add(&service->signings[SIGNED], 1);
    } else {
        ms_fault_respond(&fault, response);
        atomic_fetch_add(&service->signings[outcome_of(&fault)], 1);
    }
}

/* ---- POST /stir/v1/verification ---- */

/* Without a list and a CRL that are good now there is no saying whether a certificate is trusted:
 * that is this server's fault, and no verdict on the call. */
static bool
judge(struct sks_service *service, const struct sks_call *call, struct sks_verification *out,
      struct ms_fault *fault)
{
    time_t now = service_now(service);

    if (sks_verify(service->config.verifier, call, now, out) != HSM_OK)
        return ms_refuse(fault, MS_INTERNAL, "", "");
    if (out->verdict == SKS_E17_UNTRUSTED && !sks_trust_is_ready(service->config.trust, now))
        return cannot_now(fault, "no trusted-CA list and CRL that are good now");
    return true;
}

static bool
verify(struct sks_service *service, const struct acme_http_request *request,
       struct sks_verification *out, struct ms_fault *fault)
{
    struct ms_verification verification;
    const char *body;
    size_t len;
    bool judged;

    if (!take_body(request, &body, &len, fault) ||
        !ms_verification_parse(body, len, &verification, fault))
        return false;
    judged = judge(service, &verification.call, out, fault);
    ms_verification_clear(&verification);
    return judged;
}

static void
answer_verification(struct sks_service *service, const struct acme_http_request *request,
                    struct acme_http_response *response)
{
    struct sks_verification verification;
    struct ms_fault fault = {.dialect = MS_ATIS};

    if (verify(service, request, &verification, &fault)) {
        acme_http_respond_json(response, 200, JSON, ms_verification_response(&verification));
        atomic_fetch_add(&service->verdicts[verification.verdict], 1);
    } else {
        ms_fault_respond(&fault, response);
        atomic_fetch_add(&service->verifications[outcome_of(&fault)], 1);
    }
}

/* ---- GET /healthz, /readyz, /metrics ---- */

static void
answer_healthz(struct sks_service *service, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    (void)service;
    (void)request;
    acme_http_respond_json(response, 200, JSON, json_pack("{s:s}", "status", "ok"));
}

/* Why no call could be signed and verified now, as a JSON array; NULL: no memory. */
static json_t *
reasons_not_ready(struct sks_service *service)
{
    DEFER(sks_signers_free) struct sks_signers *signers = take_signers(service);
    time_t now = service_now(service);
    json_t *reasons = json_array();
    const char *why[4] = {NULL};

    if (atomic_load(&service->stale))
        why[3] = "an active credential cannot be loaded";
    if (signers == NULL || sks_signers_count(signers) == 0)
        why[0] = "no active credential";
    else if (sks_signers_at(signers, now) == NULL)
        why[0] = "the active credential has ended";
    if (!atomic_load(&service->token_signs))
        why[1] = "the token does not sign";
    if (!sks_trust_is_ready(service->config.trust, now))
        why[2] = "no trusted-CA list and CRL that are good now";
    for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++)
        if (why[i] != NULL)
            json_array_append_new(reasons, json_string(why[i]));
    return reasons;
}

static void
answer_readyz(struct sks_service *service, const struct acme_http_request *request,
              struct acme_http_response *response)
{
    json_t *reasons = reasons_not_ready(service);
    bool ready = json_array_size(reasons) == 0;

    (void)request;
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, ready ? 200 : 503, JSON,
                           json_pack("{s:b, s:o}", "ready", ready, "reasons", reasons));
}

static void
head(FILE *to, const char *name, const char *type, const char *help)
{
    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
write_signings(struct sks_service *service, FILE *to)
{
    static const char name[] = "sti_sks_signatures_total";

    head(to, name, "counter", "Signing requests by outcome.");
    for (size_t i = 0; i < OUTCOMES; i++)
        fprintf(to, "%s{outcome=\"%s\"} %llu\n", name, outcome_texts[i],
                atomic_load(&service->signings[i]));
}

static void
write_verifications(struct sks_service *service, FILE *to)
{
    static const char name[] = "sti_sks_verifications_total";

    head(to, name, "counter",
         "Verification requests by case (ATIS-1000082), or why there is none.");
    fprintf(to, "%s{case=\"valid\"} %llu\n", name, atomic_load(&service->verdicts[SKS_VALID]));
    for (int i = SKS_E3_TIME_STALE; i <= SKS_E19_ATTEST; i++)
        fprintf(to, "%s{case=\"E%d\"} %llu\n", name, i, atomic_load(&service->verdicts[i]));
    for (size_t i = REFUSED; i < OUTCOMES; i++)
        fprintf(to, "%s{case=\"%s\"} %llu\n", name, outcome_texts[i],
                atomic_load(&service->verifications[i]));
}

static void
write_credentials(struct sks_service *service, FILE *to)
{
    static const char name[] = "sti_sks_credential_not_after_seconds";
    DEFER(sks_signers_free) struct sks_signers *signers = take_signers(service);
    size_t count = signers == NULL ? 0 : sks_signers_count(signers);
    int64_t id;

    head(to, name, "gauge", "When the certificate of a signing credential ends, since 1970.");
    for (size_t i = 0; i < count; i++) {
        const struct sks_signer *signer = sks_signers_get(signers, i, &id);

        fprintf(to, "%s{credential=\"%" PRId64 "\",spc=\"%s\"} %lld\n", name, id,
                sks_signer_spc(signer), (long long)sks_signer_not_after(signer));
    }
}

static void
write_ready(struct sks_service *service, FILE *to)
{
    json_t *reasons = reasons_not_ready(service);

    head(to, "sti_sks_ready", "gauge", "1 when calls could be signed and verified now.");
    fprintf(to, "sti_sks_ready %d\n", json_array_size(reasons) == 0 ? 1 : 0);
    json_decref(reasons);
}

static void
answer_metrics(struct sks_service *service, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    DEFER(free) char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    (void)request;
    if (to == NULL)
        return;
    write_signings(service, to);
    write_verifications(service, to);
    write_credentials(service, to);
    write_ready(service, to);
    if (fclose(to) == 0)
        acme_http_respond(response, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

/* ---- routes ---- */

static const struct route {
    const char *path;
    bool is_post;
    bool is_open; /* to callers that are not authenticated */
    void (*answer)(struct sks_service *service, const struct acme_http_request *request,
                   struct acme_http_response *response);
} routes[] = {
    {"/stir/v1/signing", true, false, answer_signing},
    {VERIFICATION, true, false, answer_verification},
    {"/healthz", false, true, answer_healthz},
    {"/readyz", false, true, answer_readyz},
    {"/metrics", false, false, answer_metrics},
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

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct sks_service *service = context;
    const struct route *route = find_route(acme_http_request_path(request));
    struct ms_fault fault = {.error = MS_NOT_FOUND};
    HSM_USE_ASKED_BY(caller_name(request));

    echo_request_id(request, response);
    if ((route == NULL || !route->is_open) && !is_authenticated(service, request)) {
        respond_not_authenticated(request, response);
    } else if (route == NULL) {
        ms_fault_respond(&fault, response);
    } else if (!takes_method(route, acme_http_request_method(request))) {
        fault.error = MS_METHOD_NOT_ALLOWED;
        acme_http_response_header(response, "Allow", route->is_post ? "POST" : "GET, HEAD");
        ms_fault_respond(&fault, response);
    } else {
        route->answer(service, request, response);
    }
}

/* Alive means that the event loop turns; everything else may wait for a token or a fetch. */
static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, "/healthz") == 0;
}

/* A caller chooses whose server we fetch his certificate from: calls are signed meanwhile. */
static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)method;
    return strcmp(path, VERIFICATION) == 0;
}

struct acme_http_handler
sks_service_handler(struct sks_service *service)
{
    return (struct acme_http_handler){
        .handle = handle, .is_quick = is_quick, .is_slow = is_slow, .context = service};
}

/* Not there now, but it may come; anything else is for a person to put right before starting. */
static bool
may_come(enum hsm_status st)
{
    return st == HSM_ERR_BUSY || st == HSM_ERR_NOT_FOUND;
}

enum hsm_status
sks_service_new(const struct sks_service_config *config, struct sks_service **out)
{
    DEFER(sks_service_free) struct sks_service *service = calloc(1, sizeof(*service));
    enum hsm_status st;

    if (service == NULL)
        return HSM_ERR_NOMEM;
    service->config = *config;
    service->version = -1; /* none: versions grow from 1 */
    pthread_mutex_init(&service->lock, NULL);
    pthread_mutex_init(&service->refreshing, NULL);
    atomic_init(&service->stale, false);
    atomic_init(&service->token_signs, true);
    atomic_init(&service->last_signed, -PROBE_S);
    st = load(service);
    if (st != HSM_OK && !may_come(st))
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
    sks_signers_free(service->signers);
    pthread_mutex_destroy(&service->lock);
    pthread_mutex_destroy(&service->refreshing);
    free(service);
}
