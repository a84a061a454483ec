/* authority.c - the STI-PA: its parts, and which function answers which request. */

#include <acme/authority.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <certs/cert.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_revoke_internal.h"

#define JSON_TYPE  "application/json"
#define REFRESH_NS INT64_C(60000000000)

time_t
acme_authority_now(const struct acme_authority *authority)
{
    return authority->config.now != NULL ? authority->config.now() : time(NULL);
}

char *
acme_authority_url(const char *base_url, const char *path)
{
    size_t base_len = strlen(base_url);
    size_t path_len = strlen(path);
    char *url;

    while (base_len > 0 && base_url[base_len - 1] == '/')
        base_len--;
    url = malloc(base_len + path_len + 1);
    if (url == NULL)
        return NULL;
    memcpy(url, base_url, base_len);
    memcpy(url + base_len, path, path_len + 1);
    return url;
}

char *
acme_authority_crl_url(const char *base_url)
{
    return acme_authority_url(base_url, ACME_AUTHORITY_CRL_PATH);
}

void
acme_authority_answer_error(struct acme_http_response *response, int status, const char *message)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, status, JSON_TYPE,
                           json_pack("{s:s, s:s}", "status", "error", "message", message));
}

void
acme_authority_answer_failure(struct acme_http_response *response, enum hsm_status status)
{
    if (status != HSM_ERR_BUSY) {
        acme_authority_answer_error(response, 500, "internal error");
        return;
    }
    acme_http_response_header(response, "Retry-After", "5");
    acme_authority_answer_error(response, 503, "not available at the moment");
}

/* RFC 9110 section 8.3: parameters such as charset do not matter, nor does case. */
static bool
is_json_type(const char *content_type)
{
    size_t len = strlen(JSON_TYPE);

    if (content_type == NULL || strncasecmp(content_type, JSON_TYPE, len) != 0)
        return false;
    content_type += len;
    content_type += strspn(content_type, " \t");
    return *content_type == '\0' || *content_type == ';';
}

json_t *
acme_authority_body(const struct acme_http_request *request, struct acme_http_response *response)
{
    struct hsm_reason why;
    const char *text;
    json_t *body = NULL;
    size_t len;

    if (!is_json_type(acme_http_request_header(request, "Content-Type"))) {
        acme_http_response_header(response, "Accept", JSON_TYPE);
        acme_authority_answer_error(response, 415, "Content-Type: not " JSON_TYPE);
        return NULL;
    }
    text = acme_http_request_body(request, &len);
    switch (acme_json_parse(text, len, &body, &why)) {
    case HSM_OK:
        return body;
    case HSM_ERR_NOMEM:
        acme_authority_answer_failure(response, HSM_ERR_NOMEM);
        return NULL;
    default:
        acme_authority_answer_error(response, 400, why.text);
        return NULL;
    }
}

static const struct route {
    const char *pattern;
    enum acme_http_method method;
    void (*answer)(struct acme_authority *authority, const struct acme_http_request *request,
                   const char *param, struct acme_http_response *response);
} routes[] = {
    {"/api/v1/auth/login", ACME_HTTP_POST, acme_authority_serve_login},
    {"/api/v1/auth/refresh", ACME_HTTP_POST, acme_authority_serve_relogin},
    {"/api/v1/auth/token", ACME_HTTP_POST, acme_authority_serve_oauth},
    {"/at/account/:id/token", ACME_HTTP_POST, acme_authority_grant},
    {"/sti-pa/account/:id/token", ACME_HTTP_POST, acme_authority_grant},
    {"/api/v1/account/:id/token", ACME_HTTP_POST, acme_authority_grant},
    {ACME_AUTHORITY_CA_LIST_PATH, ACME_HTTP_GET, acme_authority_serve_ca_list},
    {ACME_AUTHORITY_CRL_PATH, ACME_HTTP_GET, acme_authority_serve_crl},
    {ACME_AUTHORITY_SIGNERS_PATH ":id", ACME_HTTP_GET, acme_authority_serve_signer},
    {ACME_AUTHORITY_REVOCATIONS_PATH, ACME_HTTP_POST, acme_authority_revoke},
};

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    enum acme_http_method method = acme_http_request_method(request);
    const char *path = acme_http_request_path(request);
    char param[1][ACME_HTTP_PARAM_MAX + 1] = {{0}};

    if (method == ACME_HTTP_HEAD) /* the server leaves the body out */
        method = ACME_HTTP_GET;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!acme_http_match(path, routes[i].pattern, param, 1))
            continue;
        acme_http_response_route(response, routes[i].pattern);
        if (method == routes[i].method) {
            routes[i].answer(context, request, param[0], response);
            return;
        }
        acme_http_response_header(response, "Allow",
                                  routes[i].method == ACME_HTTP_GET ? "GET, HEAD" : "POST");
        acme_authority_answer_error(response, 405, "method not allowed here");
        return;
    }
    acme_authority_answer_error(response, 404, "no such resource");
}

/* Requests that may hash a password or wait for the token. The list, the CRL and the signers'
 * certificates are always served by another thread. */
static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    (void)context;
    (void)path;
    return method == ACME_HTTP_POST;
}

struct acme_http_handler
acme_authority_handler(struct acme_authority *authority)
{
    return (struct acme_http_handler){.handle = handle, .is_slow = is_slow, .context = authority};
}

/* Checked at start and not at the first token: the key must be the key of its certificate, and
 * relying parties must find its issuers. */
static enum hsm_status
check_signer(const char *role, const struct hsm_key *key, const struct certs_chain *chain)
{
    const X509 *cert = certs_chain_get(chain, 0);

    if (cert == NULL || !hsm_key_matches(key, certs_cert_public(cert))) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: key %s is not the key of the %s certificate",
                hsm_key_label(key), role);
        return HSM_ERR_UNTRUSTED;
    }
    if (!certs_chain_is_in_order(chain)) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: the %s chain: not its certificate, then each issuer", role);
        return HSM_ERR_UNTRUSTED;
    }
    return HSM_OK;
}

static enum hsm_status
check_config(const struct acme_authority_config *config)
{
    enum hsm_status st;

    if (config->base_url == NULL || strncasecmp(config->base_url, "https://", 8) != 0 ||
        config->token_lifetime_s == 0 || config->session_lifetime_s == 0 ||
        config->list_lifetime_s == 0 || config->crl_lifetime_s == 0) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: the base URL is not https, or a lifetime is 0");
        return HSM_ERR_USAGE;
    }
    st = check_signer("signer's", config->signer_key, config->signer_chain);
    if (st != HSM_OK)
        return st;
    return check_signer("CRL signer's", config->crl_key, config->crl_chain);
}

/* The URLs and names that every token, list and CRL carries. */
static enum hsm_status
fill(struct acme_authority *authority)
{
    const struct acme_authority_config *config = &authority->config;
    enum hsm_status st;

    authority->crl_url = acme_authority_crl_url(config->base_url);
    authority->crl_issuer = certs_cert_subject(certs_chain_get(config->crl_chain, 0));
    if (authority->crl_url == NULL || authority->crl_issuer == NULL)
        return HSM_ERR_NOMEM;
    st = acme_authority_signer_publish(authority, config->signer_chain, &authority->signer_url);
    if (st != HSM_OK)
        return st;
    return acme_authority_signer_publish(authority, config->crl_chain, &authority->crl_signer_url);
}

static enum hsm_status
read_rule(struct acme_authority *authority)
{
    const char *text = authority->config.revocation_automatic;
    struct hsm_reason why = {""};
    enum hsm_status st = acme_authority_automatic_parse(
        text != NULL ? text : ACME_AUTHORITY_AUTOMATIC, authority->automatic, &why);

    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "STI-PA: [pa] revocation-automatic: %s", why.text);
    return st;
}

enum hsm_status
acme_authority_new(const struct acme_authority_config *config, struct acme_authority **out)
{
    DEFER(acme_authority_free) struct acme_authority *authority = NULL;
    enum hsm_status st = check_config(config);

    if (st != HSM_OK)
        return st;
    authority = calloc(1, sizeof(*authority));
    if (authority == NULL)
        return HSM_ERR_NOMEM;
    authority->config = *config;
    pthread_mutex_init(&authority->signing, NULL); /* Linux: cannot fail with default attributes */
    acme_authority_hashing_init(&authority->hashing);

    st = read_rule(authority);
    if (st == HSM_OK && config->policy != NULL)
        st = acme_authority_policy_open(config->policy, config->only_checked ? NULL : config->store,
                                        &authority->policy);
    if (st == HSM_OK)
        st = fill(authority);
    for (int i = 0; i < AUTHORITY_DOCUMENTS && st == HSM_OK && !config->only_checked; i++)
        st = acme_authority_document_refresh(authority, (enum authority_document)i);
    if (st != HSM_OK)
        return st;
    acme_authority_observe(authority);
    *out = authority;
    authority = NULL;
    return HSM_OK;
}

void
acme_authority_refresh(struct acme_authority *authority)
{
    for (int i = 0; i < AUTHORITY_DOCUMENTS; i++)
        /* logged where it was noticed; the published document stays, and the next call tries
         * again */
        (void)!acme_authority_document_refresh(authority, (enum authority_document)i);
    (void)!acme_authority_accounts_expire(authority);
    (void)!acme_authority_tokens_expire(authority);
    acme_authority_observe(authority);
}

void
acme_authority_tick(struct acme_authority *authority)
{
    int64_t now_ns = hsm_clock_ns();

    if (now_ns - atomic_load(&authority->refreshed_ns) >= REFRESH_NS) {
        atomic_store(&authority->refreshed_ns, now_ns);
        acme_authority_refresh(authority);
    } else if (atomic_exchange(&authority->crl_changed, false) &&
               acme_authority_document_refresh(authority, AUTHORITY_CRL) != HSM_OK) {
        atomic_store(&authority->crl_changed, true); /* try again in a second */
    }
}

void
acme_authority_free(struct acme_authority *authority)
{
    if (authority == NULL)
        return;
    free(authority->signer_url);
    free(authority->crl_signer_url);
    free(authority->crl_url);
    free(authority->crl_issuer);
    acme_authority_hashing_clear(&authority->hashing);
    pthread_mutex_destroy(&authority->signing);
    acme_authority_policy_free(authority->policy);
    free(authority);
}
