/* server.c - the STI-CA's ACME server: construction, and what all handlers use. */
#define _GNU_SOURCE /* asprintf */

#include <acme/server.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/verdict.h>
#include <hsm/hex.h>
#include <hsm/log.h>

#include "server_internal.h"

#define VERDICTS_MAX 128 /* kept: paths of SPC tokens' signers */

DEFINE_DEFER(EVP_MD_CTX, EVP_MD_CTX_free)

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
    (void)hsm_refuse(&detail, HSM_OK, "%s", text); /* makes the client's text printable */
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

/* ---- construction ---- */

bool
acme_server_base_url_is_valid(const char *url)
{
    return strncmp(url, "https://", 8) == 0 && url[8] != '\0' && strlen(url) <= ACME_BASE_URL_MAX &&
           strpbrk(url + 8, "/?#@\\ \"<>") == NULL;
}

static enum hsm_status
check_config(const struct acme_server_config *config)
{
    if (!acme_server_base_url_is_valid(config->base_url)) {
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
    if (!acme_server_chain_is_whole(config->issuing_chain)) {
        hsm_log(HSM_LOG_ERROR,
                "the chain of the key %s: not an issuing certificate, its issuers, and their root",
                hsm_key_label(config->issuing_key));
        return HSM_ERR_UNTRUSTED;
    }
    return HSM_OK;
}

/* A digest of everything, apart from the intent, that a certificate's octets depend on. */
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
        st = acme_limit_here_new(
            &(struct acme_limit){.times = config->renewal_info_per_address, .in_s = ACME_HOUR_S},
            &server->renewals);
    if (st == HSM_OK)
        st = acme_chain_take_alternates(server);
    if (st == HSM_OK)
        st = digest_under(config, server->under);
    if (st == HSM_OK)
        st = acme_web_new(config, acme_server_now(server), &server->web);
    if (st != HSM_OK)
        return st;
    if (!config->only_checked)
        st = acme_issue_resume(server, !config->others_serve, ACME_ROWS_MAX,
                               acme_server_now(server));
    if (st != HSM_OK && st != HSM_ERR_BUSY) /* busy: completed when the token is available again */
        return st;
    acme_server_observe(server);

    *out = server;
    server = NULL;
    return HSM_OK;
}

void
acme_server_free(struct acme_server *server)
{
    if (server == NULL)
        return;
    acme_keys_free(server->keys);
    acme_limit_here_free(server->renewals);
    certs_chain_free(server->intermediates);
    free(server->intermediates_pem);
    acme_signers_free(server->signers);
    certs_verdicts_free(server->verdicts);
    acme_web_free(server->web);
    certs_crl_free(server->crl);
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
