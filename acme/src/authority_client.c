/* authority_client.c - a client of an STI-PA. */
#define _GNU_SOURCE /* asprintf */
#include <acme/authority_client.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/time.h>

#include "defer_internal.h"

#define TIMEOUT_MS       30000
#define REVOCATION_MS    5000 /* of a revocation request: the caller has other work to do */
#define REPLY_MAX        65536 /* octets of a login's or token's answer */
#define LIST_REPLY_MAX   (ACME_CA_LIST_MAX + 4096) /* octets: the list in its JSON */
#define ACCESS_TOKEN_MAX 8192 /* characters */
#define MESSAGE_SHOWN    120 /* characters of an STI-PA's message in a reason */

/* One part of a URL, as libcurl will use it; NULL: it has none. curl_free() it. */
static char *
url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;

    return curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK ? text : NULL;
}

static bool
same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *in_a = url_part(a, part);
    char *in_b = url_part(b, part);
    bool same = in_a != NULL && in_b != NULL && strcasecmp(in_a, in_b) == 0;

    curl_free(in_a);
    curl_free(in_b);
    return same;
}

/* NULL: not an https URL, or one with user information. */
static CURLU *
https_url(const char *text)
{
    CURLU *url = curl_url();
    char *user = NULL;
    char *scheme = NULL;
    bool is_good;

    if (url == NULL || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
        curl_url_cleanup(url);
        return NULL;
    }
    scheme = url_part(url, CURLUPART_SCHEME);
    user = url_part(url, CURLUPART_USER);
    is_good = scheme != NULL && strcasecmp(scheme, "https") == 0 && user == NULL;
    curl_free(scheme);
    curl_free(user);
    if (!is_good) {
        curl_url_cleanup(url);
        return NULL;
    }
    return url;
}

bool
acme_url_same_origin(const char *a, const char *b)
{
    DEFER(curl_url_cleanup) CURLU *url_a = https_url(a);
    DEFER(curl_url_cleanup) CURLU *url_b = https_url(b);

    return url_a != NULL && url_b != NULL && same_part(url_a, url_b, CURLUPART_HOST) &&
           same_part(url_a, url_b, CURLUPART_PORT);
}

/* The message of an STI-PA's error, truncated; "" if it has none. */
static void
read_message(const struct acme_http_reply *reply, char out[MESSAGE_SHOWN + 1])
{
    DEFER(json_decref) json_t *body = NULL;
    const char *message = NULL;

    out[0] = '\0';
    if (acme_json_parse(reply->body, reply->body_len, &body, NULL) == HSM_OK &&
        acme_json_string_optional(body, "message", &message, NULL) == HSM_OK && message != NULL)
        snprintf(out, MESSAGE_SHOWN + 1, "%s", message);
}

/* Map any status but 200: a fault of the request, a transient fault, or an answer that no STI-PA
 * gives. */
static enum hsm_status
check_status(const struct acme_http_reply *reply, const char *what, struct hsm_reason *why)
{
    char message[MESSAGE_SHOWN + 1];
    enum hsm_status st = HSM_ERR_MALFORMED;

    if (reply->status == 200)
        return HSM_OK;
    if (reply->status == 408 || reply->status == 429 || reply->status >= 500)
        st = HSM_ERR_BUSY;
    else if (reply->status >= 400)
        st = HSM_ERR_DENIED;
    read_message(reply, message);
    return hsm_refuse(why, st, "%s: the STI-PA answered %d%s%s", what, reply->status,
                      message[0] != '\0' ? ": " : "", message);
}

/* The object of a 200 whose "status", if it has one, is "success". */
static enum hsm_status
parse_answer(const struct acme_http_reply *reply, const char *what, json_t **out,
             struct hsm_reason *why)
{
    DEFER(json_decref) json_t *body = NULL;
    const char *status = NULL;
    enum hsm_status st = check_status(reply, what, why);

    if (st != HSM_OK)
        return st;
    st = acme_json_parse(reply->body, reply->body_len, &body, why);
    if (st == HSM_OK)
        st = acme_json_string_optional(body, "status", &status, why);
    if (st != HSM_OK)
        return st;
    if (status != NULL && strcasecmp(status, "success") != 0) {
        char message[MESSAGE_SHOWN + 1];

        read_message(reply, message);
        return hsm_refuse(why, HSM_ERR_DENIED, "%s: the STI-PA refused: %s", what, message);
    }
    *out = body;
    body = NULL;
    return HSM_OK;
}

/* POST JSON below the base URL.
 * @param body  taken over; NULL: out of memory */
static enum hsm_status
post(const struct acme_authority_login *login, const char *path, const char *authorization,
     json_t *body, struct acme_http_reply *reply, struct hsm_reason *why)
{
    char *text = acme_json_text(body);
    size_t base_len = strlen(login->base_url);
    char *url = NULL;
    struct acme_http_fetch fetch = {
        .method = "POST",
        .content_type = "application/json",
        .accept = "application/json",
        .authorization = authorization,
        .body = text,
        .reply_max = REPLY_MAX,
        .timeout_ms = TIMEOUT_MS,
    };
    enum hsm_status st = HSM_ERR_NOMEM;

    json_decref(body);
    while (base_len > 0 && login->base_url[base_len - 1] == '/')
        base_len--;
    if (text != NULL && asprintf(&url, "%.*s%s", (int)base_len, login->base_url, path) >= 0) {
        fetch.url = url;
        fetch.body_len = strlen(text);
        st = acme_http_fetch(login->http, &fetch, reply, why);
        free(url);
    }
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text)); /* it may hold the password */
    free(text);
    return st;
}

/* An access token is copied into a header unchanged. */
static bool
is_access_token(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > ACCESS_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isgraph((unsigned char)text[i]))
            return false;
    }
    return true;
}

/* The value of the header; the caller wipes and frees it. An API key has the same syntax as an
 * access token. */
static enum hsm_status
bearer_credentials(const struct hsm_secret *api_key, char **out, struct hsm_reason *why)
{
    if (!is_access_token(hsm_secret_octets(api_key)))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "API key of the STI-PA: not a token");
    if (asprintf(out, "Bearer %s", hsm_secret_octets(api_key)) >= 0)
        return HSM_OK;
    *out = NULL;
    return HSM_ERR_NOMEM;
}

/* An access token; the caller wipes and frees it. */
static enum hsm_status
log_in(const struct acme_authority_login *login, char **access, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_http_reply_clear) struct acme_http_reply reply = {0};
    DEFER(json_decref) json_t *answer = NULL;
    const char *token;
    enum hsm_status st =
        post(login, "/api/v1/auth/login", NULL,
             json_pack("{s:s, s:s#}", "userId", login->user, "password",
                       hsm_secret_octets(login->password), hsm_secret_len(login->password)),
             &reply, why);

    if (st == HSM_OK)
        st = parse_answer(&reply, "login", &answer, why);
    if (st == HSM_OK)
        st = acme_json_string(answer, "accessToken", &token, why);
    if (st != HSM_OK)
        return st;
    if (!is_access_token(token))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "login: accessToken is not a token");
    *access = strdup(token);
    return *access != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* The "atc" object of RFC 9447 section 4; tkvalue as RFC 9448 section 5.4 writes it. */
static json_t *
atc_new(const struct certs_tnauthlist *tnauthlist, bool ca, const char *fingerprint)
{
    size_t len;
    const uint8_t *der = certs_tnauthlist_der(tnauthlist, &len);
    DEFER(free) char *tkvalue = acme_base64url_encode(der, len);

    if (tkvalue == NULL)
        return NULL;
    return json_pack("{s:{s:s, s:s, s:b, s:s}}", "atc", "tktype", "TNAuthList", "tkvalue", tkvalue,
                     "ca", (int)ca, "fingerprint", fingerprint);
}

/* A token that differs from the request is of no use at the STI-CA, so refuse it here. Nothing is
 * trusted yet. */
static enum hsm_status
check_token(const char *text, const struct certs_tnauthlist *tnauthlist, bool ca,
            const char *fingerprint, struct hsm_reason *why)
{
    DEFER(acme_authority_token_free) struct acme_authority_token *token = NULL;
    enum hsm_status st = acme_authority_token_parse(text, &token, why);

    if (st != HSM_OK)
        return st;
    if (!certs_tnauthlist_equals(acme_authority_token_tnauthlist(token), tnauthlist))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "SPC token: of another TNAuthList");
    if (acme_authority_token_ca(token) != ca)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "SPC token: ca is not what was asked for");
    if (strcasecmp(acme_authority_token_fingerprint(token), fingerprint) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "SPC token: of another fingerprint");
    return HSM_OK;
}

/* Account ids are put into the path unescaped: unreserved characters only (RFC 3986 section
 * 2.3). */
static enum hsm_status
token_path(const char *account_id, char **path, struct hsm_reason *why)
{
    size_t len = strlen(account_id);

    if (len == 0 || strcmp(account_id, ".") == 0 || strcmp(account_id, "..") == 0)
        return hsm_refuse(why, HSM_ERR_USAGE, "STI-PA account: not an id");
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)account_id[i]) && strchr("-._~", account_id[i]) == NULL)
            return hsm_refuse(why, HSM_ERR_USAGE, "STI-PA account: not an id");
    }
    return asprintf(path, "/api/v1/account/%s/token", account_id) >= 0 ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
acme_authority_fetch_token(const struct acme_authority_login *login,
                           const struct certs_tnauthlist *tnauthlist, bool ca,
                           const char *fingerprint, char **token, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_http_reply_clear) struct acme_http_reply reply = {0};
    DEFER(json_decref) json_t *answer = NULL;
    DEFER(free) char *path = NULL;
    char *access = NULL;
    const char *text = NULL;
    enum hsm_status st = token_path(login->account_id, &path, why);

    if (st == HSM_OK)
        st = login->api_key != NULL ? bearer_credentials(login->api_key, &access, why)
                                    : log_in(login, &access, why);
    if (st != HSM_OK)
        return st;
    st = post(login, path, access, atc_new(tnauthlist, ca, fingerprint), &reply, why);
    OPENSSL_cleanse(access, strlen(access));
    free(access);
    if (st == HSM_OK)
        st = parse_answer(&reply, "SPC token", &answer, why);
    if (st == HSM_OK)
        st = acme_json_string(answer, "token", &text, why);
    if (st == HSM_OK)
        st = check_token(text, tnauthlist, ca, fingerprint, why);
    if (st != HSM_OK)
        return st;
    *token = strdup(text);
    return *token != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* ---- revocations ---- */

/* "Basic" user and password (RFC 7617); the caller wipes and frees it. */
static enum hsm_status
basic_credentials(const char *user, const struct hsm_secret *password, char **out)
{
    size_t user_len = strlen(user);
    size_t len = user_len + 1 + hsm_secret_len(password);
    char *pair = malloc(len + 1);
    char *encoded = NULL;
    char *header = NULL;

    if (pair == NULL)
        return HSM_ERR_NOMEM;
    memcpy(pair, user, user_len);
    pair[user_len] = ':';
    memcpy(pair + user_len + 1, hsm_secret_octets(password), hsm_secret_len(password) + 1);
    encoded = acme_base64_encode(pair, len);
    if (encoded != NULL && asprintf(&header, "Basic %s", encoded) < 0)
        header = NULL;
    OPENSSL_cleanse(pair, len);
    free(pair);
    if (encoded != NULL)
        OPENSSL_cleanse(encoded, strlen(encoded));
    free(encoded);
    *out = header;
    return header != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* The body of the request: issuer in base64, serial in hex. free() it. */
static char *
revocation_text(const struct acme_authority_revocation *revocation)
{
    DEFER(free) char *issuer = acme_base64_encode(revocation->issuer, revocation->issuer_len);
    DEFER(json_decref) json_t *body = NULL;
    size_t len =
        revocation->serial_len < CERTS_SERIAL_MAX ? revocation->serial_len : CERTS_SERIAL_MAX;
    char serial[HSM_HEX_LEN(CERTS_SERIAL_MAX) + 1];
    char not_after[HSM_TIME_LEN + 1];

    hsm_hex_put(revocation->serial, len, serial);
    hsm_time_format(revocation->not_after, not_after);
    if (issuer != NULL)
        body = json_pack("{s:s, s:s, s:i, s:s, s:s*, s:s*}", "issuer", issuer, "serial", serial,
                         "reason", revocation->reason, "requester", revocation->requester,
                         "notAfter", revocation->not_after != 0 ? not_after : NULL, "chain",
                         revocation->chain_pem);
    return acme_json_text(body);
}

enum hsm_status
acme_authority_request_revocation(const struct acme_authority_revocation *revocation, bool *queued,
                                  struct hsm_reason *why)
{
    CLEAR_AFTER(acme_http_reply_clear) struct acme_http_reply reply = {0};
    DEFER(free) char *body = revocation_text(revocation);
    char *credentials = NULL;
    enum hsm_status st =
        revocation->api_key != NULL
            ? bearer_credentials(revocation->api_key, &credentials, why)
            : basic_credentials(revocation->user, revocation->password, &credentials);

    if (st == HSM_OK && body == NULL)
        st = HSM_ERR_NOMEM;
    if (st == HSM_OK)
        st = acme_http_fetch(revocation->http,
                             &(struct acme_http_fetch){.method = "POST",
                                                       .url = revocation->url,
                                                       .content_type = "application/json",
                                                       .accept = "application/json",
                                                       .authorization = credentials,
                                                       .body = body,
                                                       .body_len = strlen(body),
                                                       .reply_max = REPLY_MAX,
                                                       .timeout_ms = REVOCATION_MS},
                             &reply, why);
    if (credentials != NULL)
        OPENSSL_cleanse(credentials, strlen(credentials));
    free(credentials);
    if (st == HSM_OK && reply.status != 202)
        st = check_status(&reply, "revocation", why);
    if (st == HSM_OK && queued != NULL)
        *queued = reply.status == 202;
    return st;
}

static enum hsm_status
get(const struct acme_authority_query *query, const char *accept, size_t reply_max,
    const char *what, struct acme_http_reply *reply, struct hsm_reason *why)
{
    struct acme_http_fetch fetch = {
        .method = "GET",
        .url = query->url,
        .accept = accept,
        .if_none_match = query->etag,
        .reply_max = reply_max,
        .timeout_ms = TIMEOUT_MS,
    };
    enum hsm_status st = acme_http_fetch(query->http, &fetch, reply, why);

    if (st == HSM_OK && query->etag != NULL && reply->status == 304)
        return HSM_ERR_EXISTS;
    return st == HSM_OK ? check_status(reply, what, why) : st;
}

/* The signed object: a list or a CRL. */
struct signed_text {
    const struct acme_ca_list *list; /* NULL: a CRL */
    uint64_t previous_sequence;
    const struct certs_crl *crl;
    const char *signer_url; /* NULL: it names no signer */
};

static enum hsm_status
check_signature(const struct acme_authority_query *query, const struct signed_text *text,
                const struct certs_chain *signer, time_t now, struct hsm_reason *why)
{
    if (text->list != NULL)
        return acme_ca_list_check(text->list, signer, query->pa_anchors, text->previous_sequence,
                                  now, why);
    return certs_crl_verify(text->crl, signer, query->pa_anchors, query->url, now, why);
}

/* A signer's certificate is fetched from the configured STI-PA only. */
static enum hsm_status
find_signer(const struct acme_authority_query *query, const struct signed_text *text, time_t now,
            struct certs_chain **out, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *signer = NULL;
    enum hsm_status st;

    if (text->signer_url == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "it does not say where its signer's certificate is");
    if (!acme_url_same_origin(query->url, text->signer_url))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "its signer's certificate is not at the STI-PA: %s", text->signer_url);
    if (query->signer != NULL && check_signature(query, text, query->signer, now, NULL) == HSM_OK)
        return certs_chain_copy(query->signer, out);
    st = acme_http_fetch_chain(query->http, text->signer_url, &signer, why);
    if (st == HSM_OK)
        st = check_signature(query, text, signer, now, why);
    if (st != HSM_OK)
        return st;
    *out = signer;
    signer = NULL;
    return HSM_OK;
}

/* Ownership moves from the reply to the caller. */
static char *
take_etag(struct acme_http_reply *reply)
{
    char *etag = reply->etag;

    reply->etag = NULL;
    return etag;
}

/* Deployed STI-PAs send {"caList": JWS}; a bare JWS is accepted, too. */
static enum hsm_status
parse_list(const struct acme_http_reply *reply, struct acme_ca_list **out, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *answer = NULL;
    const char *text = reply->body;
    size_t len = reply->body_len;
    enum hsm_status st;

    if (len > 0 && *text == '{') {
        st = parse_answer(reply, "trusted-CA list", &answer, why);
        if (st == HSM_OK)
            st = acme_json_string(answer, "caList", &text, why);
        if (st != HSM_OK)
            return st;
        len = strlen(text);
    }
    return acme_ca_list_parse(text, len, out, why);
}

enum hsm_status
acme_authority_get_ca_list(const struct acme_authority_query *query, uint64_t previous_sequence,
                           time_t now, struct acme_ca_list **out, struct certs_chain **signer,
                           char **etag, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_http_reply_clear) struct acme_http_reply reply = {0};
    DEFER(acme_ca_list_free) struct acme_ca_list *list = NULL;
    enum hsm_status st = get(query, "application/json, application/jose", LIST_REPLY_MAX,
                             "trusted-CA list", &reply, why);

    if (st == HSM_OK)
        st = parse_list(&reply, &list, why);
    if (st == HSM_OK)
        st = find_signer(query,
                         &(struct signed_text){.list = list,
                                               .previous_sequence = previous_sequence,
                                               .signer_url = acme_ca_list_x5u(list)},
                         now, signer, why);
    if (st != HSM_OK)
        return st;
    *etag = take_etag(&reply);
    *out = list;
    list = NULL;
    return HSM_OK;
}

enum hsm_status
acme_authority_get_crl(const struct acme_authority_query *query, time_t now, struct certs_crl **out,
                       struct certs_chain **signer, char **etag, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_http_reply_clear) struct acme_http_reply reply = {0};
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = get(query, "application/pkix-crl", CERTS_CRL_MAX, "CRL", &reply, why);

    if (st == HSM_OK)
        st = certs_crl_parse((const uint8_t *)reply.body, reply.body_len, &crl, why);
    if (st == HSM_OK)
        st = find_signer(
            query, &(struct signed_text){.crl = crl, .signer_url = certs_crl_signer_cert_url(crl)},
            now, signer, why);
    if (st != HSM_OK)
        return st;
    *etag = take_etag(&reply);
    *out = crl;
    crl = NULL;
    return HSM_OK;
}

enum hsm_status
acme_authority_fetch_ca_list(struct acme_http_client *http, const char *url,
                             const struct certs_chain *pa_anchors, uint64_t previous_sequence,
                             time_t now, struct acme_ca_list **out, struct hsm_reason *why)
{
    const struct acme_authority_query query = {.http = http, .url = url, .pa_anchors = pa_anchors};
    DEFER(certs_chain_free) struct certs_chain *signer = NULL;
    DEFER(free) char *etag = NULL;

    return acme_authority_get_ca_list(&query, previous_sequence, now, out, &signer, &etag, why);
}

enum hsm_status
acme_authority_fetch_crl(struct acme_http_client *http, const char *url,
                         const struct certs_chain *pa_anchors, time_t now, struct certs_crl **out,
                         struct hsm_reason *why)
{
    const struct acme_authority_query query = {.http = http, .url = url, .pa_anchors = pa_anchors};
    DEFER(certs_chain_free) struct certs_chain *signer = NULL;
    DEFER(free) char *etag = NULL;

    return acme_authority_get_crl(&query, now, out, &signer, &etag, why);
}
