/*
 * server_web.c - the STI-CA's web pages: routes, headers, cookie, layout.
 *
 * No page has a script. A form is accepted only if this server has made it: its hidden field is a
 * MAC over the cookie, which has the __Host- prefix (no other site can set it) and is
 * SameSite=Strict and HttpOnly; and if the browser sends an Origin or Sec-Fetch-Site header, it
 * must name this origin. None of this depends on the process that answers.
 */
#include "server_web_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <acme/base64url.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/time.h>

#define COOKIE       "__Host-sti-web"
#define MEDIA_TYPE   "text/html; charset=utf-8"
#define FORM_PURPOSE "sti-ca web form" /* purpose of the MAC over the cookie */
#define DEFAULT_PORT ":443"

/* No script, no image, no frame; forms are sent to this server only. */
#define POLICY                                                                                     \
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none';"            \
    " base-uri 'none'"

static const char style[] =
    "*{box-sizing:border-box}\n"
    "body{margin:0;font:1rem/1.5 "
    "system-ui,sans-serif;color:#1b1b1b;background:#fff;overflow-wrap:anywhere}\n"
    "header{background:#12305a;color:#fff;padding:.75rem 1rem}\n"
    "header p{margin:0;font-weight:700}\n"
    "nav a{color:#fff;display:inline-block;padding:.25rem 1rem .25rem 0}\n"
    "main{max-width:60rem;padding:1rem;margin:0 auto}\n"
    "h1{font-size:1.6rem;line-height:1.2}\n"
    "h2{font-size:1.2rem;margin-top:2rem}\n"
    "a{color:#0b4a8f}\n"
    ":focus-visible{outline:3px solid #c05600;outline-offset:2px}\n"
    ".skip{position:absolute;left:-100rem}\n"
    ".skip:focus{left:.5rem;top:.5rem;background:#fff;color:#0b4a8f;padding:.5rem}\n"
    "label{display:block;font-weight:700;margin-top:1.25rem}\n"
    ".hint{margin:.25rem 0;color:#454545}\n"
    "textarea{width:100%;min-height:11rem;font:.85rem/1.4 monospace;padding:.5rem;"
    "border:2px solid #5a5a5a;border-radius:.25rem}\n"
    "textarea[aria-invalid]{border-color:#a4001d}\n"
    "button,.button{display:inline-block;font:inherit;font-weight:700;background:#12305a;color:#"
    "fff;"
    "border:0;border-radius:.25rem;padding:.6rem 1.2rem;margin:1rem 1rem 0 0;text-decoration:none;"
    "cursor:pointer}\n"
    ".error{color:#a4001d;font-weight:700;margin:.25rem 0}\n"
    ".summary{border:3px solid #a4001d;padding:.5rem 1rem;margin:1rem 0}\n"
    ".summary h2{margin:0;color:#a4001d}\n"
    ".summary a{color:#a4001d}\n"
    ".good{border-left:.5rem solid #1b6b2f;padding:.25rem 1rem;background:#eef7f0}\n"
    ".bad{border-left:.5rem solid #a4001d;padding:.25rem 1rem;background:#fdeef0}\n"
    "dl{display:grid;grid-template-columns:minmax(9rem,15rem) 1fr;gap:.4rem 1rem;margin:.5rem 0}\n"
    "dt{font-weight:700}\n"
    "dd{margin:0;overflow-wrap:anywhere}\n"
    "pre{font-size:.8rem;background:#f3f3f3;border:1px solid "
    "#c9c9c9;padding:.75rem;overflow:auto}\n"
    ".scroll{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #c9c9c9;"
    "vertical-align:top;overflow-wrap:normal}\n"
    "td.number,th.number{text-align:right}\n"
    "footer{max-width:60rem;margin:2rem auto 0;padding:1rem;color:#454545;font-size:.9rem}\n"
    "@media (max-width:34rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}}\n"
    "@media print{header,nav,.skip,form,.button{display:none}main{max-width:none}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere}}\n";

/* ---- construction ---- */

/* Orders made with the form belong to one account, which has no key, so no JWS can be signed by
 * it. */
static enum hsm_status
insert_account(struct acme_store *store, time_t now)
{
    return acme_store_run(store, NULL,
                          "INSERT INTO account (id, status, jwk, thumbprint, contact, created)"
                          " VALUES (?, ?, '{}', ?, '[]', ?) ON CONFLICT (id) DO NOTHING",
                          "sssi", ACME_WEB_MANUAL, ACME_DEACTIVATED, ACME_WEB_MANUAL, (int64_t)now);
}

enum hsm_status
acme_web_new(const struct acme_server_config *config, time_t now, struct acme_web **out)
{
    struct acme_web *web;
    enum hsm_status st;

    if (!config->web_enabled)
        return HSM_OK;
    st = insert_account(config->store, now);
    if (st != HSM_OK)
        return st;
    web = calloc(1, sizeof(*web));
    if (web == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_secret_random(SHA256_DIGEST_LENGTH, &web->key);
    if (st != HSM_OK) {
        free(web);
        return st;
    }
    pthread_mutex_init(&web->scrypt, NULL);
    pthread_mutex_init(&web->mutex, NULL);
    *out = web;
    return HSM_OK;
}

void
acme_web_free(struct acme_web *web)
{
    if (web == NULL)
        return;
    pthread_mutex_destroy(&web->scrypt);
    pthread_mutex_destroy(&web->mutex);
    hsm_secret_free(web->key);
    OPENSSL_cleanse(web, sizeof(*web));
    free(web);
}

/* ---- pages ---- */

void
acme_web_begin(struct acme_web_call *call, const char *title)
{
    acme_html_add(&call->page,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<title>%s - STI-CA</title>\n"
                  "<link rel=\"stylesheet\" href=\"/web/style.css\">\n</head>\n<body>\n"
                  "<a class=\"skip\" href=\"#main\">Skip to the content</a>\n"
                  "<header><p>STI-CA</p>\n<nav aria-label=\"Pages\">"
                  "<a href=\"/web\">Request a certificate</a> "
                  "<a href=\"/web/status\">Status, for the operator</a></nav></header>\n"
                  "<main id=\"main\" tabindex=\"-1\">\n<h1>%s</h1>\n",
                  title, title);
}

void
acme_web_end(struct acme_web_call *call, int http_status)
{
    char at[HSM_TIME_LEN + 1];

    hsm_time_format(call->now, at);
    acme_html_add(&call->page,
                  "</main>\n<footer>Made at %s. Times are UTC.</footer>\n</body>\n"
                  "</html>\n",
                  at);
    if (call->page.failed) {
        hsm_log(HSM_LOG_ERROR, "a web page is larger than %d octets, or memory is short",
                ACME_HTML_MAX);
        acme_http_respond(call->response, 500, NULL, NULL, 0);
        return;
    }
    acme_http_respond(call->response, http_status, MEDIA_TYPE, call->page.text, call->page.len);
}

void
acme_web_say(struct acme_web_call *call, int http_status, const char *title, const char *text)
{
    acme_web_begin(call, title);
    acme_html_add(&call->page, "<p>%s</p>\n<p><a href=\"/web\">Begin again with the form</a></p>\n",
                  text);
    acme_web_end(call, http_status);
}

void
acme_web_fault(struct acme_web_call *call, enum hsm_status st)
{
    if (st == HSM_ERR_BUSY) {
        acme_http_response_header(call->response, "Retry-After", ACME_RETRY_AFTER);
        acme_web_say(call, 503, "Busy", "The STI-CA is busy. Try again in a moment.");
        return;
    }
    acme_web_say(call, 500, "A fault of the STI-CA",
                 "Nothing is wrong with your request. The operator finds the reason in the log.");
}

void
acme_web_refuse_limit(struct acme_web_call *call, const char *what, time_t wait_s)
{
    char seconds[32], text[160];

    snprintf(seconds, sizeof(seconds), "%lld", (long long)wait_s);
    snprintf(text, sizeof(text), "There were too many %s. Try again in %s seconds.", what, seconds);
    acme_http_response_header(call->response, "Retry-After", seconds);
    acme_web_say(call, 429, "Too many requests", text);
}

void
acme_web_redirect(struct acme_web_call *call, const char *path)
{
    acme_http_response_header(call->response, "Location", path);
    acme_http_respond(call->response, 303, NULL, NULL, 0);
}

void
acme_web_row(struct acme_web_call *call, const char *name, const char *value)
{
    acme_html_add(&call->page, "<dt>%s</dt><dd>%s</dd>\n", name, value);
}

void
acme_web_time_row(struct acme_web_call *call, const char *name, time_t t)
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(t, text);
    acme_web_row(call, name, text);
}

void
acme_web_serial(const uint8_t *serial, size_t len, char out[ACME_WEB_SERIAL_LEN + 1])
{
    hsm_hex_put(serial, len < CERTS_SERIAL_MAX ? len : CERTS_SERIAL_MAX, out);
}

/* ---- authenticity of forms ---- */

/* Read the value of this server's cookie, if it has the right length. */
static void
read_cookie(struct acme_web_call *call)
{
    const char *at = acme_http_request_header(call->request, "Cookie");

    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ";");

        if (strncmp(at, COOKIE "=", sizeof(COOKIE)) == 0 && len == sizeof(COOKIE) + ACME_ID_LEN) {
            memcpy(call->secret, at + sizeof(COOKIE), ACME_ID_LEN);
            call->secret[ACME_ID_LEN] = '\0';
            return;
        }
        at += len;
        at += strspn(at, "; ");
    }
}

static bool
set_cookie(struct acme_web_call *call)
{
    char value[sizeof(COOKIE) + ACME_ID_LEN + 64];
    enum hsm_status st = acme_id_new(call->secret);

    if (st != HSM_OK) {
        acme_web_fault(call, st);
        return false;
    }
    snprintf(value, sizeof(value), COOKIE "=%s; Path=/; Secure; HttpOnly; SameSite=Strict",
             call->secret);
    acme_http_response_header(call->response, "Set-Cookie", value);
    return true;
}

bool
acme_web_form_token(const struct acme_web_call *call, char out[ACME_WEB_FORM_LEN + 1])
{
    unsigned char mac[32];
    unsigned len = 0;

    if (HMAC(EVP_sha256(), call->secret, (int)strlen(call->secret),
             (const unsigned char *)FORM_PURPOSE, strlen(FORM_PURPOSE), mac, &len) == NULL)
        return false;
    out[acme_base64url_write(mac, len, out)] = '\0';
    return true;
}

/* An Origin (RFC 6454 section 7) omits the default port of the scheme. */
static bool
is_our_origin(const struct acme_server *server, const char *origin)
{
    const char *ours = server->config.base_url;
    size_t len = strlen(ours), port = strlen(DEFAULT_PORT);

    if (len > port && strcmp(ours + len - port, DEFAULT_PORT) == 0)
        len -= port;
    return strlen(origin) == len && strncasecmp(origin, ours, len) == 0;
}

static bool
is_from_here(const struct acme_web_call *call)
{
    const char *origin = acme_http_request_header(call->request, "Origin");
    const char *site = acme_http_request_header(call->request, "Sec-Fetch-Site");

    return (origin == NULL || is_our_origin(call->server, origin)) &&
           (site == NULL || strcmp(site, "same-origin") == 0);
}

/* ---- routes ---- */

static void
stylesheet(struct acme_web_call *call)
{
    acme_http_respond(call->response, 200, "text/css; charset=utf-8", style, sizeof(style) - 1);
}

enum route_flag {
    POST = 1, /* POST instead of GET */
    FORM = 2, /* the page has a form, or may have one */
    WAITS = 4, /* it may contact another server: for an SPC token's signer or the CRL */
};

static const struct route {
    const char *pattern;
    void (*handle)(struct acme_web_call *call);
    unsigned flags;
} routes[] = {
    {"/web", acme_web_form, FORM},
    {"/web/preview", acme_web_preview, POST | FORM | WAITS},
    {"/web/issue", acme_web_issue, POST | FORM | WAITS},
    {"/web/order/:id", acme_web_order, 0},
    {"/web/order/:id/chain.pem", acme_web_chain, 0},
    {"/web/status", acme_web_status, WAITS},
    {"/web/style.css", stylesheet, 0},
};

static bool
has(const struct route *route, enum route_flag flag)
{
    return (route->flags & flag) != 0;
}

/* NULL: no such page. */
static const struct route *
find_route(const char *path, char params[1][ACME_HTTP_PARAM_MAX + 1])
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (acme_http_match(path, routes[i].pattern, params, 1))
            return &routes[i];
    }
    return NULL;
}

static void
add_headers(struct acme_web_call *call)
{
    static const struct {
        const char *name, *value;
    } headers[] = {
        {"Content-Security-Policy", POLICY},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"}, /* for browsers without frame-ancestors */
        /* no-referrer would make the Origin of the server's own forms "null" */
        {"Referrer-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-store"},
    };

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        acme_http_response_header(call->response, headers[i].name, headers[i].value);
}

static bool
wants_method(struct acme_web_call *call, const struct route *route)
{
    enum acme_http_method method = acme_http_request_method(call->request);
    bool reads = method == ACME_HTTP_GET || method == ACME_HTTP_HEAD;

    if (has(route, POST) ? method == ACME_HTTP_POST : reads)
        return true;
    acme_http_response_header(call->response, "Allow", has(route, POST) ? "POST" : "GET, HEAD");
    acme_web_say(call, 405, "Not so", "This page cannot be asked for in that way.");
    return false;
}

static void
dispatch(struct acme_web_call *call)
{
    const struct route *route = find_route(acme_http_request_path(call->request), call->params);

    if (route == NULL) {
        acme_web_say(call, 404, "No such page", "There is no page of this address.");
        return;
    }
    acme_http_response_route(call->response, route->pattern);
    if (!wants_method(call, route))
        return;
    read_cookie(call);
    if (has(route, POST) && (call->secret[0] == '\0' || !is_from_here(call)))
        acme_web_say(call, 403, "Not from the form",
                     "This request does not come from the form of this STI-CA as your browser shows"
                     " it, or your browser sends no cookies. Nothing was done.");
    else if (!has(route, FORM) || call->secret[0] != '\0' || set_cookie(call))
        route->handle(call);
}

bool
acme_web_has(const struct acme_server *server, const char *path)
{
    return server->web != NULL && strncmp(path, "/web", 4) == 0 &&
           (path[4] == '\0' || path[4] == '/');
}

bool
acme_web_waits(const struct acme_server *server, const char *path)
{
    char params[1][ACME_HTTP_PARAM_MAX + 1];
    const struct route *route = acme_web_has(server, path) ? find_route(path, params) : NULL;

    return route != NULL && has(route, WAITS);
}

void
acme_web_handle(struct acme_server *server, const struct acme_http_request *request,
                struct acme_http_response *response)
{
    struct acme_web_call call = {
        .server = server,
        .request = request,
        .response = response,
        .now = acme_server_now(server),
    };

    add_headers(&call);
    dispatch(&call);
    acme_html_clear(&call.page);
}
