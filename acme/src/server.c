/* server.c - the STI-CA's ACME server: construction, routes, directory, newNonce. */
#define _GNU_SOURCE /* asprintf */

#include <acme/server.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <acme/base64url.h>
#include <acme/events.h>
#include <certs/cert.h>
#include <certs/verdict.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/metrics.h>

#include "server_internal.h"

#define EXPIRE_S 60 /* between two acme_server_expire() of acme_server_tick() */
#define TELL_S   60 /* between two times that orders are said to wait */

#define VERDICTS_MAX      128 /* kept: paths of those who sign SPC tokens */
#define VERDICTS_UNUSED_S 3600

#define BRIEF_NS    INT64_C(5000000) /* a request that takes longer is not brief */
#define LONG_FACTOR 100 /* nor are those of so many times that time after it */

DEFINE_DEFER(struct acme_server, acme_server_free)
DEFINE_DEFER(EVP_MD_CTX, EVP_MD_CTX_free)
DEFINE_DEFER(char, free)

/* Texts of states and JSON, octets of DER; times are seconds since 1970. */
const char *const acme_server_migrations[] = {
    "CREATE TABLE nonce ("
    "  value TEXT PRIMARY KEY,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX nonce_expires ON nonce (expires);"
    "CREATE TABLE account ("
    "  id TEXT PRIMARY KEY,"
    "  status TEXT NOT NULL,"
    "  jwk TEXT NOT NULL,"
    "  thumbprint TEXT NOT NULL UNIQUE,"
    "  contact TEXT NOT NULL,"
    "  created {int} NOT NULL);"
    "CREATE TABLE authz ("
    "  id TEXT PRIMARY KEY,"
    "  account TEXT NOT NULL REFERENCES account (id),"
    "  status TEXT NOT NULL,"
    "  identifier TEXT NOT NULL," /* as the client wrote it */
    "  tnauthlist {octets} NOT NULL,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX authz_account ON authz (account);"
    "CREATE TABLE challenge ("
    "  id TEXT PRIMARY KEY,"
    "  authz TEXT NOT NULL UNIQUE REFERENCES authz (id),"
    "  status TEXT NOT NULL,"
    "  token TEXT NOT NULL,"
    "  error TEXT,"
    "  validated {int},"
    "  jti TEXT," /* of the SPC token that answered it */
    "  token_exp {int},"
    "  ca {int} NOT NULL DEFAULT 0);"
    "CREATE TABLE acme_order ("
    "  id TEXT PRIMARY KEY,"
    "  account TEXT NOT NULL REFERENCES account (id),"
    "  authz TEXT NOT NULL REFERENCES authz (id),"
    "  status TEXT NOT NULL,"
    "  spc TEXT NOT NULL,"
    "  not_before {int},"
    "  not_after {int},"
    "  error TEXT,"
    "  created {int} NOT NULL,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX acme_order_account ON acme_order (account, id);"
    "CREATE INDEX acme_order_authz ON acme_order (authz);"
    "CREATE INDEX acme_order_status ON acme_order (status, expires);"
    /* An intent to certify, durable before the token signs; a certificate once der is there. */
    "CREATE TABLE issuance ("
    "  order_id TEXT PRIMARY KEY REFERENCES acme_order (id),"
    "  certificate TEXT NOT NULL UNIQUE,"
    "  account TEXT NOT NULL,"
    "  spc TEXT NOT NULL,"
    "  organization TEXT NOT NULL,"
    "  country TEXT NOT NULL,"
    "  point {octets} NOT NULL,"
    "  thumbprint TEXT NOT NULL,"
    "  serial {octets} UNIQUE,"
    "  not_before {int},"
    "  not_after {int},"
    "  under TEXT NOT NULL,"
    "  attempted {int} NOT NULL,"
    "  voided {int} NOT NULL DEFAULT 0,"
    "  der {octets},"
    "  chain TEXT);"
    "CREATE INDEX issuance_thumbprint ON issuance (thumbprint);"
    "CREATE TABLE participant ("
    "  spc TEXT PRIMARY KEY,"
    "  organization TEXT NOT NULL,"
    "  country TEXT NOT NULL);",

    /* What is revoked, and whether the STI-PA knows it. */
    "CREATE TABLE revocation ("
    "  order_id TEXT PRIMARY KEY REFERENCES issuance (order_id),"
    "  issuer {octets} NOT NULL,"
    "  serial {octets} NOT NULL,"
    "  reason {int} NOT NULL,"
    "  requester TEXT NOT NULL,"
    "  revoked {int} NOT NULL,"
    "  tries {int} NOT NULL DEFAULT 0,"
    "  next_try {int} NOT NULL,"
    "  accepted {int});" /* by the STI-PA, at that time */
    "CREATE INDEX revocation_waiting ON revocation (next_try) WHERE accepted IS NULL;",

    /* Terms, external accounts, replaced certificates, rate limits. */
    "ALTER TABLE account ADD COLUMN terms TEXT;" /* URL of those that it agreed to */
    "ALTER TABLE account ADD COLUMN external_account TEXT;" /* kid of its binding */
    "ALTER TABLE account ADD COLUMN binding TEXT;"
    "CREATE UNIQUE INDEX account_external ON account (external_account)"
    "  WHERE external_account IS NOT NULL;"
    "ALTER TABLE acme_order ADD COLUMN replaces TEXT;" /* certificate identifier of RFC 9773 */
    "CREATE UNIQUE INDEX acme_order_replaces ON acme_order (replaces)"
    "  WHERE replaces IS NOT NULL AND status <> 'invalid';"
    "CREATE TABLE rate ("
    "  subject TEXT PRIMARY KEY,"
    "  used_until {int} NOT NULL);", /* microseconds since 1970 */

    /* The web pages: SPC tokens that were used there, operators, and what the status page asks. */
    "CREATE TABLE manual_token ("
    "  jti TEXT PRIMARY KEY," /* RFC 7519 section 4.1.7: no two issuers have one in common */
    "  order_id TEXT NOT NULL REFERENCES acme_order (id),"
    "  expires {int} NOT NULL);"
    "CREATE INDEX manual_token_expires ON manual_token (expires);"
    "CREATE TABLE web_user ("
    "  id TEXT PRIMARY KEY,"
    "  created {int} NOT NULL,"
    "  salt {octets} NOT NULL,"
    "  hash {octets} NOT NULL,"
    "  scrypt_n {int} NOT NULL,"
    "  scrypt_r {int} NOT NULL,"
    "  scrypt_p {int} NOT NULL);"
    "CREATE INDEX acme_order_created ON acme_order (created);"
    "CREATE INDEX issuance_not_after ON issuance (not_after);",

    /* Who did what. */
    ACME_EVENTS_MIGRATION,
    NULL,
};

/* ---- shared by the handlers ---- */

void
acme_server_url(const struct acme_server *server, const char *resource, const char *id,
                const char *rest, char out[ACME_URL_MAX + 1])
{
    snprintf(out, ACME_URL_MAX + 1, "%s/acme/%s%s%s%s", server->config.base_url, resource,
             id != NULL ? "/" : "", id != NULL ? id : "", rest != NULL ? rest : "");
}

time_t
acme_server_now(const struct acme_server *server)
{
    return server->config.now != NULL ? server->config.now() : time(NULL);
}

enum hsm_status
acme_id_new(char out[ACME_ID_LEN + 1])
{
    DEFER(free) char *text = NULL;
    unsigned char octets[16];

    if (RAND_bytes(octets, sizeof(octets)) != 1) {
        hsm_log(HSM_LOG_ERROR, "random generator failed");
        return HSM_ERR_CRYPTO;
    }
    text = acme_base64url_encode(octets, sizeof(octets));
    if (text == NULL)
        return HSM_ERR_NOMEM;
    memcpy(out, text, ACME_ID_LEN + 1);
    return HSM_OK;
}

void
acme_call_refuse(struct acme_call *call, enum acme_error error, int http_status, const char *format,
                 ...)
{
    char text[HSM_REASON_MAX];
    struct hsm_reason detail;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)hsm_refuse(&detail, HSM_OK, "%s", text); /* printable, whatever the client sent */
    acme_problem_respond(call->response, error, http_status, detail.text);
}

void
acme_call_fault(struct acme_call *call, enum hsm_status st)
{
    if (st == HSM_ERR_BUSY) {
        acme_http_response_header(call->response, "Retry-After", ACME_RETRY_AFTER);
        acme_problem_respond(call->response, ACME_SERVER_INTERNAL, 503, "busy: try again");
        return;
    }
    acme_problem_respond(call->response, ACME_SERVER_INTERNAL, 500, hsm_status_text(st));
}

void
acme_call_json(struct acme_call *call, int http_status, json_t *value)
{
    acme_http_respond_json(call->response, http_status, "application/json", value);
}

void
acme_call_location(struct acme_call *call, const char *resource, const char *id)
{
    char url[ACME_URL_MAX + 1];

    acme_server_url(call->server, resource, id, NULL, url);
    acme_http_response_header(call->response, "Location", url);
}

void
acme_call_link(struct acme_call *call, const char *url, const char *rel)
{
    char value[ACME_URL_MAX + 64];

    snprintf(value, sizeof(value), "<%s>;rel=\"%s\"", url, rel);
    acme_http_response_header(call->response, "Link", value);
}

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

/* RFC 8555 section 7.1.1. What is not offered (newAuthz) is not there. */
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

/* RFC 8555 section 7.2: HEAD 200, GET 204; the header is added to every answer. */
static void
new_nonce(struct acme_call *call)
{
    enum hsm_status st = acme_nonce_new(call->server, call->now, call->nonce);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    acme_http_respond(call->response,
                      acme_http_request_method(call->request) == ACME_HTTP_HEAD ? 200 : 204, NULL,
                      NULL, 0);
}

/* ---- routes ---- */

enum route_kind {
    ROUTE_READ, /* GET and HEAD, not authenticated */
    ROUTE_NEW, /* POST, signed by a key in the header */
    ROUTE_ACCOUNT, /* POST, signed by an account */
    ROUTE_EITHER, /* POST, signed by a key in the header or by an account */
};

struct route {
    const char *pattern;
    enum route_kind kind;
    void (*handle)(struct acme_call *call);
    bool settles; /* the handler calls acme_call_settle() */
    bool waits; /* it may ask another server */
};

static const struct route routes[] = {
    {"/acme/directory", ROUTE_READ, directory, false, false},
    {"/acme/new-nonce", ROUTE_READ, new_nonce, false, false},
    {"/acme/new-account", ROUTE_NEW, acme_new_account, false, false},
    {"/acme/acct/:id", ROUTE_ACCOUNT, acme_account, false, false},
    {"/acme/acct/:id/orders", ROUTE_ACCOUNT, acme_account_orders, false, false},
    {"/acme/key-change", ROUTE_ACCOUNT, acme_key_change, false, false},
    {"/acme/new-order", ROUTE_ACCOUNT, acme_new_order, true, false},
    {"/acme/order/:id", ROUTE_ACCOUNT, acme_order, true, false},
    {"/acme/order/:id/finalize", ROUTE_ACCOUNT, acme_finalize, true, false},
    {"/acme/authz/:id", ROUTE_ACCOUNT, acme_authorization, true, false},
    {"/acme/chall/:id", ROUTE_ACCOUNT, acme_challenge, true, true},
    {"/acme/cert/:id", ROUTE_ACCOUNT, acme_certificate, true, false},
    {"/acme/cert/:id/:n", ROUTE_ACCOUNT, acme_certificate_alternate, true, false},
    {"/acme/chain/:id", ROUTE_READ, acme_hosted_chain, false, false},
    {"/acme/renewal-info/:id", ROUTE_READ, acme_renewal_info, false, false},
    {"/acme/revoke-cert", ROUTE_EITHER, acme_revoke_cert, false, false},
};

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

/* RFC 8555 section 6.3: a GET where a POST-as-GET is due is 405 and malformed. */
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

/* RFC 8555 section 6.1: clients in a browser may use this server from any site: nothing but its
 * signature makes a request good. */
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

static void
dispatch(struct acme_call *call)
{
    const struct route *route = find_route(acme_http_request_path(call->request), call->params);
    char index[ACME_URL_MAX + 1];

    if (route != NULL)
        acme_http_response_route(call->response, route->pattern);
    call->is_brief = route != NULL && !route->waits;
    add_cors(call);
    if (route == NULL || route->handle != acme_hosted_chain)
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
    else if (acme_call_authenticate(call, signer_of(route)) &&
             (route->settles || acme_call_settle(call)))
        route->handle(call);
    if (call->is_exchanging) /* refused: but a client hears of its nonce first */
        (void)acme_call_settle(call);
}

/* RFC 8555 section 6.5: a fresh nonce in every answer to a POST, errors included. */
static void
add_nonce(struct acme_call *call)
{
    bool was_asked = call->exchange.server != NULL; /* and if in vain, the store does not answer */

    if (call->nonce[0] == '\0' && !was_asked &&
        acme_http_request_method(call->request) == ACME_HTTP_POST &&
        acme_nonce_new(call->server, call->now, call->nonce) != HSM_OK)
        return; /* logged by the store; the client asks newNonce */
    if (call->nonce[0] != '\0')
        acme_http_response_header(call->response, "Replay-Nonce", call->nonce);
}

/* Disk or token are slow: for a while their callers wait on threads, and the event loop does not.
 */
static void
note_time(struct acme_server *server, int64_t begun)
{
    int64_t now = hsm_metric_clock_ns(), took = now - begun;
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
    int64_t begun = hsm_metric_clock_ns();

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

/* While disk and token answer soon. A database elsewhere may be silent for longer than a loop may
 * be. The web pages hash passwords. */
static bool
is_brief(void *context, enum acme_http_method method, const char *path)
{
    struct acme_server *server = context;
    char params[2][ACME_HTTP_PARAM_MAX + 1];
    const struct route *route = find_route(path, params);

    (void)method;
    return route != NULL && !route->waits && !acme_store_is_remote(server->config.store) &&
           atomic_load(&server->long_until) < hsm_metric_clock_ns();
}

struct acme_http_handler
acme_server_handler(struct acme_server *server)
{
    return (struct acme_http_handler){.handle = handle, .is_brief = is_brief, .context = server};
}

/* ---- construction ---- */

/* "https://host[:port]" and nothing after it: kid, url and Location are compared as texts. */
static bool
is_base_url(const char *url)
{
    return strncmp(url, "https://", 8) == 0 && url[8] != '\0' && strlen(url) <= ACME_BASE_URL_MAX &&
           strpbrk(url + 8, "/?#@\\ \"<>") == NULL;
}

static enum hsm_status
check_config(const struct acme_server_config *config)
{
    if (!is_base_url(config->base_url)) {
        hsm_log(HSM_LOG_ERROR, "base URL %s: not https://host or https://host:port",
                config->base_url);
        return HSM_ERR_USAGE;
    }
    for (size_t i = 0; config->authorities[i] != NULL; i++) {
        if (strncmp(config->authorities[i], "https://", 8) != 0 ||
            config->authorities[i][8] == '\0') {
            hsm_log(HSM_LOG_ERROR, "authority %s: not an https URL", config->authorities[i]);
            return HSM_ERR_USAGE;
        }
    }
    if (config->renew_until_percent != 0 &&
        config->renew_from_percent >= config->renew_until_percent) {
        hsm_log(HSM_LOG_ERROR, "renewal: from %u to %u percent of a certificate's life",
                config->renew_from_percent, config->renew_until_percent);
        return HSM_ERR_USAGE;
    }
    if (config->external_account_required && config->external_accounts == NULL) {
        hsm_log(HSM_LOG_ERROR, "external accounts are required, but there is no directory of keys");
        return HSM_ERR_USAGE;
    }
    if (config->revocation_url != NULL &&
        (strncmp(config->revocation_url, "https://", 8) != 0 ||
         (config->revocation_api_key == NULL &&
          (config->revocation_user == NULL || config->revocation_password == NULL)))) {
        hsm_log(HSM_LOG_ERROR, "revocations: %s: not an https URL, or no credentials for it",
                config->revocation_url);
        return HSM_ERR_USAGE;
    }
    if (!hsm_key_matches(config->issuing_key,
                         certs_cert_public(certs_chain_get(config->issuing_chain, 0)))) {
        hsm_log(HSM_LOG_ERROR, "key %s is not the key of the issuing certificate",
                hsm_key_label(config->issuing_key));
        return HSM_ERR_UNTRUSTED;
    }
    return HSM_OK;
}

/* Everything but the intent itself that a certificate's octets depend on. */
static enum hsm_status
digest_under(const struct acme_server_config *config, char out[ACME_UNDER_LEN + 1])
{
    DEFER(EVP_MD_CTX_free) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char issuer[32], result[32];
    uint8_t *name = NULL;
    size_t name_len = 0;
    enum hsm_status st = certs_cert_sha256(certs_chain_get(config->issuing_chain, 0), issuer);

    if (st == HSM_OK)
        st = certs_name_der(config->crl_issuer, &name, &name_len);
    if (st != HSM_OK)
        return st;
    st =
        digest != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(digest, issuer, sizeof(issuer)) == 1 &&
                EVP_DigestUpdate(digest, config->policy_oid, strlen(config->policy_oid) + 1) == 1 &&
                EVP_DigestUpdate(digest, config->crl_url, strlen(config->crl_url) + 1) == 1 &&
                EVP_DigestUpdate(digest, name, name_len) == 1 &&
                EVP_DigestFinal_ex(digest, result, NULL) == 1
            ? HSM_OK
            : HSM_ERR_CRYPTO;
    free(name);
    if (st == HSM_OK)
        hsm_hex_put(result, sizeof(result), out);
    return st;
}

enum hsm_status
acme_server_new(const struct acme_server_config *config, struct acme_server **out)
{
    DEFER(acme_server_free) struct acme_server *server = calloc(1, sizeof(*server));
    enum hsm_status st;

    if (server == NULL)
        return HSM_ERR_NOMEM;
    server->config = *config;
    st = check_config(config);
    if (st == HSM_OK)
        st = acme_chain_without_root(config->issuing_chain, &server->intermediates);
    if (st == HSM_OK)
        st = certs_chain_pem(server->intermediates, &server->intermediates_pem);
    if (st == HSM_OK)
        st = acme_signers_new(&server->signers);
    if (st == HSM_OK)
        st = certs_verdicts_new(&(struct certs_path_policy){.purpose = CERTS_FOR_PA_SIGNING},
                                VERDICTS_MAX, &server->verdicts);
    if (st == HSM_OK)
        st = acme_keys_new(&server->keys);
    if (st == HSM_OK)
        st = acme_chain_take_alternates(server);
    if (st == HSM_OK)
        st = digest_under(config, server->under);
    if (st == HSM_OK)
        st = acme_web_new(config, acme_server_now(server), &server->web);
    if (st == HSM_OK && !config->only_checked)
        st = acme_issue_resume(server, !config->others_serve, ACME_ROWS_MAX,
                               acme_server_now(server));
    if (st != HSM_OK && st != HSM_ERR_BUSY) /* busy: they are completed when the token is back */
        return st;
    acme_server_observe(server);

    *out = server;
    server = NULL;
    return HSM_OK;
}

/* RFC 8555 section 7.4: an order that was not fulfilled in time becomes invalid, and may be
 * deleted. */
static enum hsm_status
expire_orders(struct acme_store *store, time_t now)
{
    enum hsm_status st =
        acme_store_run(store, NULL,
                       "UPDATE acme_order SET status = '" ACME_INVALID "' WHERE status IN "
                       "('" ACME_PENDING "', '" ACME_READY "') AND expires <= ?",
                       "i", (int64_t)now);

    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM acme_order WHERE status = '" ACME_INVALID "' AND expires"
                            " <= ? AND NOT EXISTS (SELECT 1 FROM issuance WHERE order_id ="
                            " acme_order.id)",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM challenge WHERE authz IN (SELECT id FROM authz WHERE"
                            " expires <= ? AND NOT EXISTS"
                            " (SELECT 1 FROM acme_order WHERE acme_order.authz = authz.id))",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "DELETE FROM authz WHERE expires <= ? AND NOT EXISTS"
                            " (SELECT 1 FROM acme_order WHERE acme_order.authz = authz.id)",
                            "i", (int64_t)(now - ACME_ORDER_KEPT_S));
    return st;
}

/* The token was away, or a process died: what waits is completed when nobody polls for it, too. */
static void
resume(struct acme_server *server, time_t now)
{
    enum hsm_status st = acme_issue_resume(server, false, ACME_SIGNED_PER_TICK, now);

    if (st == HSM_OK || !acme_time_is_due(server->tell_at, TELL_S, now))
        return;
    hsm_log(HSM_LOG_WARNING, "orders wait for their certificates: %s", hsm_status_text(st));
    server->tell_at = now + TELL_S;
}

void
acme_server_expire(struct acme_server *server)
{
    struct acme_store *store = server->config.store;
    time_t now = acme_server_now(server);
    enum hsm_status st = acme_store_begin(store);

    if (st == HSM_OK) {
        st = expire_orders(store, now);
        if (st == HSM_OK)
            st = acme_store_run(store, NULL, "DELETE FROM manual_token WHERE expires <= ?", "i",
                                (int64_t)now);
        if (st == HSM_OK)
            st = acme_limit_expire(store, now);
        if (st == HSM_OK)
            st = acme_store_commit(store);
        else
            acme_store_rollback(store);
    }
    if (st != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "expired orders stay for now: %s", hsm_status_text(st));
    acme_nonce_expire(server, now);
    certs_verdicts_forget(server->verdicts, now, VERDICTS_UNUSED_S);
    resume(server, now);
}

void
acme_server_tick(struct acme_server *server)
{
    time_t now = acme_server_now(server);

    acme_server_forward(server);
    acme_server_observe(server);
    if (!acme_time_is_due(server->expire_at, EXPIRE_S, now)) {
        resume(server, now);
        return;
    }
    server->expire_at = now + EXPIRE_S;
    acme_server_expire(server);
}

void
acme_server_free(struct acme_server *server)
{
    if (server == NULL)
        return;
    acme_keys_free(server->keys);
    certs_chain_free(server->intermediates);
    free(server->intermediates_pem);
    acme_signers_free(server->signers);
    certs_verdicts_free(server->verdicts);
    acme_web_free(server->web);
    for (size_t i = 0; i < server->alternate_count; i++)
        certs_chain_free(server->alternates[i]);
    free(server);
}

char *
acme_server_directory_url(const char *base_url)
{
    char *url = NULL;

    return asprintf(&url, "%s/acme/directory", base_url) < 0 ? NULL : url;
}
