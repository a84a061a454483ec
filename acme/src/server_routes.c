/* server_routes.c - routes to the handlers; directory and newNonce (RFC 8555 sections 7.1, 7.2). */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <hsm/clock.h>

#define BRIEF_NS    INT64_C(5000000) /* a longer request is not brief */
#define LONG_FACTOR 100 /* times its duration: how long requests do not count as brief after it */

/* ---- directory and newNonce ---- */

static json_t *
directory_meta(const struct acme_server_config *config)
{
    json_t *meta =
        json_pack("{s:b}", "externalAccountRequired", (int)config->external_account_required);

    if (meta != NULL && config->terms_of_service != NULL &&
        json_object_set_new(meta, "termsOfService", json_string(config->terms_of_service)) != 0) {
        json_decref(meta);
        return NULL;
    }
    return meta;
}

/* RFC 8555 section 7.1.1. newAuthz is left out, as it is not supported. */
static void
directory(struct acme_call *call)
{
    static const struct {
        const char *name, *resource;
    } entries[] = {
        {"newNonce", "new-nonce"},   {"newAccount", "new-account"},
        {"newOrder", "new-order"},   {"revokeCert", "revoke-cert"},
        {"keyChange", "key-change"}, {"renewalInfo", "renewal-info"},
    };
    json_t *meta = directory_meta(&call->server->config);
    json_t *body = meta != NULL ? json_pack("{s:o}", "meta", meta) : NULL;
    char url[ACME_URL_MAX + 1];

    for (size_t i = 0; body != NULL && i < sizeof(entries) / sizeof(entries[0]); i++) {
        acme_server_url(call->server, entries[i].resource, NULL, NULL, url);
        if (json_object_set_new(body, entries[i].name, json_string(url)) != 0) {
            json_decref(body);
            body = NULL;
        }
    }
    acme_call_json(call, 200, body);
}

/* RFC 8555 section 7.2: HEAD 200, GET 204; add_nonce() adds the header. */
static void
new_nonce(struct acme_call *call)
{
    time_t wait_s = 0;
    enum hsm_status st = acme_nonce_new(call, &wait_s);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    if (wait_s != 0) {
        acme_limit_refuse(call, "nonces for this address", wait_s);
        return;
    }
    acme_http_respond(call->response,
                      acme_http_request_method(call->request) == ACME_HTTP_HEAD ? 200 : 204, NULL,
                      NULL, 0);
}

/* ---- routes ---- */

enum route_kind {
    ROUTE_READ, /* GET and HEAD, not authenticated */
    ROUTE_NEW, /* POST, signed by a jwk in the header */
    ROUTE_ACCOUNT, /* POST, signed by an account */
    ROUTE_EITHER, /* POST, signed by a jwk or by an account */
};

enum route_flag {
    SETTLES = 1, /* the handler calls acme_call_settle() */
    WAITS = 2, /* it may send a request to another server */
    LASTS = 4, /* the handler sets Cache-Control */
};

struct route {
    const char *pattern;
    enum route_kind kind;
    void (*handle)(struct acme_call *call);
    unsigned flags;
    const char *counted; /* name of the account's rate limit; NULL: not limited */
};

static const struct route routes[] = {
    {"/acme/directory", ROUTE_READ, directory, 0, NULL},
    {"/acme/new-nonce", ROUTE_READ, new_nonce, 0, NULL},
    {"/acme/new-account", ROUTE_NEW, acme_new_account, 0, NULL},
    {"/acme/acct/:id", ROUTE_ACCOUNT, acme_account, 0, NULL},
    {"/acme/acct/:id/orders", ROUTE_ACCOUNT, acme_account_orders, 0, NULL},
    {"/acme/key-change", ROUTE_ACCOUNT, acme_key_change, 0, "key changes"},
    {"/acme/new-order", ROUTE_ACCOUNT, acme_new_order, SETTLES, NULL},
    {"/acme/order/:id", ROUTE_ACCOUNT, acme_order, SETTLES, NULL},
    {"/acme/order/:id/finalize", ROUTE_ACCOUNT, acme_finalize, SETTLES, NULL},
    {"/acme/authz/:id", ROUTE_ACCOUNT, acme_authorization, SETTLES, NULL},
    {"/acme/chall/:id", ROUTE_ACCOUNT, acme_challenge, WAITS, "challenge answers"},
    {"/acme/cert/:id", ROUTE_ACCOUNT, acme_certificate, SETTLES, NULL},
    {"/acme/cert/:id/:n", ROUTE_ACCOUNT, acme_certificate_alternate, SETTLES, NULL},
    {"/acme/chain/:id", ROUTE_READ, acme_hosted_chain, LASTS, NULL},
    {"/acme/renewal-info/:id", ROUTE_READ, acme_renewal_info, LASTS, NULL},
    {"/acme/revoke-cert", ROUTE_EITHER, acme_revoke_cert, 0, "revocations"},
};

static bool
has(const struct route *route, enum route_flag flag)
{
    return (route->flags & flag) != 0;
}

static const struct route *
find_route(const char *path, char params[2][ACME_HTTP_PARAM_MAX + 1])
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (acme_http_match(path, routes[i].pattern, params, 2))
            return &routes[i];
    }
    return NULL;
}

static const char *
methods_of(const struct route *route)
{
    return route->kind == ROUTE_READ ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

/* RFC 8555 section 6.3: a GET where POST-as-GET is required is 405 and malformed. */
static bool
wants_method(struct acme_call *call, const struct route *route)
{
    enum acme_http_method method = acme_http_request_method(call->request);
    bool reads = method == ACME_HTTP_GET || method == ACME_HTTP_HEAD;

    if (route->kind == ROUTE_READ ? reads : method == ACME_HTTP_POST)
        return true;
    acme_http_response_header(call->response, "Allow", methods_of(route));
    acme_call_refuse(call, ACME_MALFORMED, 405, "method not allowed here");
    return false;
}

/* RFC 8555 section 6.1: clients in a browser may use this server from any site; requests are
 * authenticated by their signature only. */
static void
add_cors(struct acme_call *call)
{
    acme_http_response_header(call->response, "Access-Control-Allow-Origin", "*");
    acme_http_response_header(call->response, "Access-Control-Expose-Headers",
                              "Link, Location, Replay-Nonce, Retry-After");
}

static void
answer_preflight(struct acme_call *call, const struct route *route)
{
    acme_http_response_header(call->response, "Allow", methods_of(route));
    acme_http_response_header(call->response, "Access-Control-Allow-Methods", methods_of(route));
    acme_http_response_header(call->response, "Access-Control-Allow-Headers", "Content-Type");
    acme_http_response_header(call->response, "Access-Control-Max-Age", "86400");
    acme_http_respond(call->response, 204, NULL, NULL, 0);
}

static enum acme_signer
signer_of(const struct route *route)
{
    if (route->kind == ROUTE_NEW)
        return ACME_SIGNER_NEW;
    return route->kind == ROUTE_EITHER ? ACME_SIGNER_EITHER : ACME_SIGNER_ACCOUNT;
}

/* The signer is an account or a key that anybody can generate. The nonce of a response to such a
 * key counts for its address, like those of newNonce. */
static void
handle_signed(struct acme_call *call, const struct route *route)
{
    bool is_account = call->account[0] != '\0';

    if (is_account && route->counted != NULL && !acme_call_is_read(call))
        acme_limit_ask(call, route->counted);
    if (has(route, SETTLES) || acme_call_settle(call))
        route->handle(call);
    if (call->is_exchanging) /* refused, but badNonce takes precedence */
        (void)acme_call_settle(call);
    if (!is_account && call->is_settled)
        acme_nonce_count_unknown(call);
}

static void
dispatch(struct acme_call *call)
{
    const struct route *route = find_route(acme_http_request_path(call->request), call->params);
    char index[ACME_URL_MAX + 1];

    if (route != NULL)
        acme_http_response_route(call->response, route->pattern);
    call->is_brief = route != NULL && !has(route, WAITS);
    add_cors(call);
    if (route == NULL || !has(route, LASTS))
        acme_http_response_header(call->response, "Cache-Control", "no-store");
    if (route == NULL || route->handle != directory) { /* RFC 8555 section 7.1 */
        acme_server_url(call->server, "directory", NULL, NULL, index);
        acme_call_link(call, index, "index");
    }
    if (route == NULL) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such resource");
        return;
    }
    if (acme_http_request_method(call->request) == ACME_HTTP_OPTIONS) {
        answer_preflight(call, route);
        return;
    }
    if (!wants_method(call, route))
        return;
    if (route->kind == ROUTE_READ)
        route->handle(call);
    else if (acme_call_authenticate(call, signer_of(route)))
        handle_signed(call, route);
    else if (call->is_exchanging && acme_call_settle(call)) /* badNonce takes precedence */
        acme_nonce_count_unknown(call);
}

/* RFC 8555 section 6.5: a fresh nonce in every response to a POST, including errors, unless a limit
 * is reached. */
static void
add_nonce(struct acme_call *call)
{
    bool was_asked = call->exchange.server != NULL; /* if that exchange failed, no nonce is added */
    time_t wait_s = 0;

    if (call->nonce[0] == '\0' && !was_asked &&
        acme_http_request_method(call->request) == ACME_HTTP_POST &&
        acme_nonce_new(call, &wait_s) != HSM_OK)
        return; /* logged by the store; the client requests newNonce */
    if (call->nonce[0] != '\0')
        acme_http_response_header(call->response, "Replay-Nonce", call->nonce);
}

/* After a slow request, the disk or the token is slow: for a while requests run on threads, so that
 * the event loop does not wait. */
static void
note_time(struct acme_server *server, int64_t begun)
{
    int64_t now = hsm_clock_ns(), took = now - begun;
    int64_t until = now + LONG_FACTOR * took, before = atomic_load(&server->long_until);

    while (took > BRIEF_NS && before < until &&
           !atomic_compare_exchange_weak(&server->long_until, &before, until))
        continue;
}

static void
handle_acme(struct acme_server *server, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    struct acme_call call = {
        .server = server,
        .request = request,
        .response = response,
        .now = acme_server_now(server),
    };
    int64_t begun = hsm_clock_ns();

    dispatch(&call);
    add_nonce(&call);
    acme_jws_free(call.jws);
    EVP_PKEY_free(call.key);
    acme_account_key_free(call.account_key);
    json_decref(call.contact);
    json_decref(call.binding);
    free(call.terms);
    if (call.is_brief)
        note_time(server, begun);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct acme_server *server = context;

    if (acme_web_has(server, acme_http_request_path(request)))
        acme_web_handle(server, request, response);
    else
        handle_acme(server, request, response);
}

/* As long as disk and token are fast. A remote database may block longer than a loop may wait. The
 * web pages hash passwords. */
static bool
is_brief(void *context, enum acme_http_method method, const char *path)
{
    struct acme_server *server = context;
    char params[2][ACME_HTTP_PARAM_MAX + 1];
    const struct route *route = find_route(path, params);

    (void)method;
    return route != NULL && !has(route, WAITS) && !acme_store_is_remote(server->config.store) &&
           atomic_load(&server->long_until) < hsm_clock_ns();
}

/* Requests that depend on another server do not hold up those that do not: orders, nonces,
 * finalize. */
static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    char params[2][ACME_HTTP_PARAM_MAX + 1];
    const struct route *route = find_route(path, params);

    (void)method;
    return route != NULL ? has(route, WAITS) : acme_web_waits(context, path);
}

struct acme_http_handler
acme_server_handler(struct acme_server *server)
{
    return (struct acme_http_handler){
        .handle = handle, .is_brief = is_brief, .is_slow = is_slow, .context = server};
}
