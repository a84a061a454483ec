/* authority.c - the STI-PA: what it is made of, its tables, and who answers which request. */

#include <acme/authority.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <acme/events.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/metrics.h>

#include "authority_revoke_internal.h"

#define JSON_TYPE  "application/json"
#define REFRESH_NS INT64_C(60000000000)

const char *const acme_authority_migrations[] = {
    "CREATE TABLE account ("
    " id TEXT PRIMARY KEY,"
    " \"user\" TEXT NOT NULL UNIQUE,"
    " salt {octets} NOT NULL,"
    " hash {octets} NOT NULL,"
    " scrypt_n {int} NOT NULL,"
    " scrypt_r {int} NOT NULL,"
    " scrypt_p {int} NOT NULL,"
    " ca {int} NOT NULL,"
    " created {int} NOT NULL){strict};"
    "CREATE TABLE account_spc ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " spc TEXT NOT NULL,"
    " PRIMARY KEY (account, spc)){strict};"
    "CREATE TABLE login_failure ("
    " \"user\" TEXT NOT NULL,"
    " at {int} NOT NULL){strict};"
    "CREATE INDEX login_failure_user ON login_failure(\"user\", at);"
    "CREATE TABLE session ("
    " access {octets} PRIMARY KEY," /* SHA-256 of the access token */
    " refresh {octets} NOT NULL UNIQUE," /* SHA-256 of the refresh token */
    " account TEXT NOT NULL REFERENCES account(id),"
    " access_until {int} NOT NULL,"
    " refresh_until {int} NOT NULL){strict};"
    "CREATE TABLE spc_token ("
    " jti TEXT PRIMARY KEY,"
    " account TEXT NOT NULL REFERENCES account(id),"
    " spc TEXT NOT NULL,"
    " ca {int} NOT NULL,"
    " fingerprint TEXT NOT NULL,"
    " issued {int} NOT NULL,"
    " expires {int} NOT NULL){strict};"
    "CREATE TABLE trusted_ca ("
    " sha256 TEXT PRIMARY KEY,"
    " der {octets} NOT NULL,"
    " added {int} NOT NULL){strict};"
    "CREATE TABLE document ("
    " kind {int} NOT NULL," /* enum authority_document */
    " number {int} NOT NULL," /* sequence of the list, number of the CRL */
    " expires {int} NOT NULL,"
    " signer TEXT NOT NULL," /* URL of the signer's chain */
    " says {octets} NOT NULL," /* SHA-256 of its contents without number and times */
    " body {octets} NOT NULL,"
    " PRIMARY KEY (kind, number)){strict};"
    "CREATE TABLE signer_chain ("
    " id TEXT PRIMARY KEY,"
    " pem TEXT NOT NULL){strict};",

    /* STI-CAs have accounts, and the CRL has entries. */
    "ALTER TABLE account ADD COLUMN is_sti_ca {int} NOT NULL DEFAULT 0;"
    "CREATE TABLE ca_issuer ("
    " name {octets} PRIMARY KEY," /* DER; under it this STI-CA issues, and no other */
    " account TEXT NOT NULL REFERENCES account(id)){strict};"
    "CREATE TABLE revocation ("
    " id {id},"
    " issuer {octets} NOT NULL," /* DER */
    " serial {octets} NOT NULL," /* content octets of the INTEGER */
    " reason {int} NOT NULL,"
    " requester TEXT NOT NULL,"
    " account TEXT NOT NULL REFERENCES account(id),"
    " state TEXT NOT NULL CHECK (state IN ('queued', 'revoked', 'refused')),"
    " asked {int} NOT NULL,"
    " decided {int},"
    " entry {int} UNIQUE," /* counts those that came on the CRL, from 1 on */
    " UNIQUE (issuer, serial)){strict};",

    /* Accounts are suspended, limited, and used with more than a password; tokens are counted. */
    ACME_EVENTS_MIGRATION
    "ALTER TABLE account ADD COLUMN suspended TEXT;" /* the reason; NULL: it is not */
    "ALTER TABLE account ADD COLUMN client TEXT;" /* subject of its client certificate */
    "CREATE UNIQUE INDEX account_client ON account(client);"
    "CREATE TABLE account_source ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " prefix TEXT NOT NULL," /* "ADDRESS/BITS" */
    " PRIMARY KEY (account, prefix)){strict};"
    "CREATE TABLE api_key ("
    " id {id},"
    " digest {octets} NOT NULL UNIQUE," /* SHA-256 */
    " account TEXT NOT NULL REFERENCES account(id),"
    " created {int} NOT NULL,"
    " expires {int} NOT NULL,"
    " revoked {int}){strict};"
    "CREATE INDEX spc_token_account ON spc_token(account, issued);",

    /* Entries leave the CRL. */
    "ALTER TABLE revocation ADD COLUMN not_after {int};" /* of the certificate; NULL: not known */
    "ALTER TABLE revocation ADD COLUMN outlived {int};" /* first on a CRL that is later than it */
    "ALTER TABLE revocation ADD COLUMN dropped {int};" /* on no CRL since */
    "CREATE INDEX revocation_listed ON revocation(entry)"
    " WHERE entry IS NOT NULL AND dropped IS NULL;",

    /* Logins are counted by user and address, and before a password is looked at. */
    "CREATE TABLE rate ("
    " subject TEXT PRIMARY KEY,"
    " used_until {int} NOT NULL){strict};" /* microseconds since 1970 */
    "CREATE TABLE login_address ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " address TEXT NOT NULL," /* of IPv6 its /64 */
    " at {int} NOT NULL," /* the last login from there */
    " PRIMARY KEY (account, address)){strict};"
    "DELETE FROM login_failure;" /* it is there for instances of a former version only */
    "CREATE TABLE published (" /* more than the store knows: it was restored from a backup */
    " kind {int} PRIMARY KEY,"
    " number {int} NOT NULL){strict};", /* of kind, that there was; the next one is higher */

    /* Who asks to revoke is counted, and who only says when a certificate ends is known. */
    "ALTER TABLE revocation ADD COLUMN end_shown {int} NOT NULL DEFAULT 0;" /* read from it */
    "CREATE INDEX revocation_counted ON revocation(account)"
    " WHERE dropped IS NULL AND state <> 'refused';"
    "CREATE INDEX revocation_queued ON revocation(id) WHERE state = 'queued';",

    /* What the governance authority itself revokes is not the account's. */
    "ALTER TABLE revocation ADD COLUMN by_operator {int} NOT NULL DEFAULT 0;",
    NULL,
};

DEFINE_DEFER(struct acme_authority, acme_authority_free)

time_t
authority_now(const struct acme_authority *authority)
{
    return authority->config.now != NULL ? authority->config.now() : time(NULL);
}

char *
authority_url(const char *base_url, const char *path)
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
    return authority_url(base_url, ACME_AUTHORITY_CRL_PATH);
}

void
authority_answer_error(struct acme_http_response *response, int status, const char *message)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, status, JSON_TYPE,
                           json_pack("{s:s, s:s}", "status", "error", "message", message));
}

void
authority_answer_failure(struct acme_http_response *response, enum hsm_status status)
{
    if (status != HSM_ERR_BUSY) {
        authority_answer_error(response, 500, "internal error");
        return;
    }
    acme_http_response_header(response, "Retry-After", "5");
    authority_answer_error(response, 503, "not available at the moment");
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
authority_body(const struct acme_http_request *request, struct acme_http_response *response)
{
    struct hsm_reason why;
    const char *text;
    json_t *body = NULL;
    size_t len;

    if (!is_json_type(acme_http_request_header(request, "Content-Type"))) {
        acme_http_response_header(response, "Accept", JSON_TYPE);
        authority_answer_error(response, 415, "Content-Type: not " JSON_TYPE);
        return NULL;
    }
    text = acme_http_request_body(request, &len);
    switch (acme_json_parse(text, len, &body, &why)) {
    case HSM_OK:
        return body;
    case HSM_ERR_NOMEM:
        authority_answer_failure(response, HSM_ERR_NOMEM);
        return NULL;
    default:
        authority_answer_error(response, 400, why.text);
        return NULL;
    }
}

static const struct route {
    const char *pattern;
    enum acme_http_method method;
    void (*answer)(struct acme_authority *authority, const struct acme_http_request *request,
                   const char *param, struct acme_http_response *response);
} routes[] = {
    {"/api/v1/auth/login", ACME_HTTP_POST, authority_login},
    {"/api/v1/auth/refresh", ACME_HTTP_POST, authority_relogin},
    {"/at/account/:id/token", ACME_HTTP_POST, authority_grant},
    {"/sti-pa/account/:id/token", ACME_HTTP_POST, authority_grant},
    {"/api/v1/account/:id/token", ACME_HTTP_POST, authority_grant},
    {ACME_AUTHORITY_CA_LIST_PATH, ACME_HTTP_GET, authority_get_ca_list},
    {ACME_AUTHORITY_CRL_PATH, ACME_HTTP_GET, authority_get_crl},
    {ACME_AUTHORITY_SIGNERS_PATH ":id", ACME_HTTP_GET, authority_get_signer},
    {ACME_AUTHORITY_REVOCATIONS_PATH, ACME_HTTP_POST, authority_revoke},
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
        authority_answer_error(response, 405, "method not allowed here");
        return;
    }
    authority_answer_error(response, 404, "no such resource");
}

/* Whatever may make a password be hashed, or wait for the token: list, CRL and signers always find
 * a thread beside it. */
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

/* At load and not at the first token: a key beside the wrong certificate. */
static enum hsm_status
check_signer(const char *role, const struct hsm_key *key, const struct certs_chain *chain)
{
    const X509 *cert = certs_chain_get(chain, 0);

    if (cert == NULL || !hsm_key_matches(key, certs_cert_public(cert))) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: key %s is not the key of the %s certificate",
                hsm_key_label(key), role);
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

/* The texts that every token, list and CRL carries. */
static enum hsm_status
fill(struct acme_authority *authority)
{
    const struct acme_authority_config *config = &authority->config;
    enum hsm_status st;

    authority->crl_url = acme_authority_crl_url(config->base_url);
    authority->crl_issuer = certs_cert_subject(certs_chain_get(config->crl_chain, 0));
    if (authority->crl_url == NULL || authority->crl_issuer == NULL)
        return HSM_ERR_NOMEM;
    st = authority_signer_publish(authority, config->signer_chain, &authority->signer_url);
    if (st != HSM_OK)
        return st;
    return authority_signer_publish(authority, config->crl_chain, &authority->crl_signer_url);
}

static enum hsm_status
read_rule(struct acme_authority *authority)
{
    const char *text = authority->config.revocation_automatic;
    struct hsm_reason why = {""};
    enum hsm_status st = authority_automatic_parse(text != NULL ? text : ACME_AUTHORITY_AUTOMATIC,
                                                   authority->automatic, &why);

    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "STI-PA: what is revoked automatically: %s", why.text);
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
    authority_hashing_init(&authority->hashing);

    st = read_rule(authority);
    if (st == HSM_OK && config->policy != NULL)
        st = authority_policy_open(config->policy, config->only_checked ? NULL : config->store,
                                   &authority->policy);
    if (st == HSM_OK)
        st = fill(authority);
    for (int i = 0; i < AUTHORITY_DOCUMENTS && st == HSM_OK && !config->only_checked; i++)
        st = authority_document_refresh(authority, (enum authority_document)i);
    if (st != HSM_OK)
        return st;
    authority_observe(authority);
    *out = authority;
    authority = NULL;
    return HSM_OK;
}

void
acme_authority_refresh(struct acme_authority *authority)
{
    for (int i = 0; i < AUTHORITY_DOCUMENTS; i++)
        /* logged where it was noticed; what is published stays, and the next call tries again */
        (void)!authority_document_refresh(authority, (enum authority_document)i);
    (void)!authority_accounts_expire(authority);
    authority_observe(authority);
}

void
acme_authority_tick(struct acme_authority *authority)
{
    int64_t now_ns = hsm_metric_clock_ns();

    if (now_ns - atomic_load(&authority->refreshed_ns) >= REFRESH_NS) {
        atomic_store(&authority->refreshed_ns, now_ns);
        acme_authority_refresh(authority);
    } else if (atomic_exchange(&authority->crl_changed, false) &&
               authority_document_refresh(authority, AUTHORITY_CRL) != HSM_OK) {
        atomic_store(&authority->crl_changed, true); /* in a second, then */
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
    authority_hashing_clear(&authority->hashing);
    pthread_mutex_destroy(&authority->signing);
    authority_policy_free(authority->policy);
    free(authority);
}
