/* server_request.c - authenticate requests: JWS, nonce and key (RFC 8555 section 6). */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include <acme/json.h>
#include <acme/jwk.h>
#include <hsm/log.h>

#define MEDIA_TYPE "application/jose+json"
#define NONCE_MAX  128 /* characters of a nonce that a client sends */

void
acme_call_url(const struct acme_call *call, char out[ACME_URL_MAX + 1])
{
    const char *query = acme_http_request_query(call->request);

    snprintf(out, ACME_URL_MAX + 1, "%s%s%s%s", call->server->config.base_url,
             acme_http_request_path(call->request), query != NULL ? "?" : "",
             query != NULL ? query : "");
}

/* RFC 8555 section 6.2: any other media type is 415. Parameters are ignored. */
static bool
has_media_type(struct acme_call *call)
{
    const char *type = acme_http_request_header(call->request, "Content-Type");
    size_t len = strlen(MEDIA_TYPE);

    if (type != NULL && strncasecmp(type, MEDIA_TYPE, len) == 0 &&
        (type[len] == '\0' || type[len] == ';' || type[len] == ' '))
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 415, "Content-Type is not " MEDIA_TYPE);
    return false;
}

static bool
parse_jws(struct acme_call *call)
{
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *body = acme_http_request_body(call->request, &len);
    enum hsm_status st = acme_jws_parse_flattened(body, len, &call->jws, &why);

    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    return false;
}

bool
acme_call_wants_es256(struct acme_call *call, const struct acme_jws *jws)
{
    const char *alg = acme_jws_header_string(jws, "alg");
    json_t *problem;

    if (alg != NULL && strcmp(alg, "ES256") == 0)
        return true;
    problem = acme_problem_new(ACME_BAD_SIGNATURE_ALGORITHM, 400, "only ES256 is supported");
    if (problem != NULL &&
        json_object_set_new(problem, "algorithms", json_pack("[s]", "ES256")) != 0) {
        json_decref(problem);
        problem = NULL;
    }
    acme_http_respond_json(call->response, 400, "application/problem+json", problem);
    return false;
}

/* RFC 8555 section 6.4: the signed URL must be that of the request. */
static bool
has_url(struct acme_call *call)
{
    const char *signed_url = acme_jws_header_string(call->jws, "url");
    char url[ACME_URL_MAX + 1];

    acme_call_url(call, url);
    if (signed_url != NULL && strcmp(signed_url, url) == 0)
        return true;
    acme_call_refuse(call, ACME_UNAUTHORIZED, 403,
                     "url of the protected header is not the URL of this request, %s", url);
    return false;
}

static bool
is_base64url(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= NONCE_MAX &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

/* RFC 8555 section 6.5.2 */
static bool
begins_exchange(struct acme_call *call)
{
    const char *nonce = acme_jws_header_string(call->jws, "nonce");

    if (nonce != NULL && !is_base64url(nonce)) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "nonce is not base64url");
        return false;
    }
    acme_nonce_ask(call, nonce);
    call->is_exchanging = true;
    return true;
}

/* RFC 8555 sections 6.5.1 and 6.5.2 */
static bool
nonce_is_good(struct acme_call *call)
{
    const struct acme_nonce_exchange *exchange = &call->exchange;
    enum hsm_status st = acme_nonce_wait(&call->exchange);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    memcpy(call->nonce, exchange->next, sizeof(call->nonce));
    if (!exchange->is_good)
        acme_call_refuse(call, ACME_BAD_NONCE, 400,
                         exchange->nonce != NULL ? "nonce was used before, is too old or not ours"
                                                 : "no nonce in the protected header");
    return exchange->is_good;
}

static bool
has_room(struct acme_call *call, enum hsm_status counted)
{
    if (counted != HSM_OK)
        acme_call_fault(call, counted);
    else if (call->counting.wait_s != 0)
        acme_limit_refuse(call, call->counting.what, call->counting.wait_s);
    return counted == HSM_OK && call->counting.wait_s == 0;
}

bool
acme_call_settle(struct acme_call *call)
{
    enum hsm_status counted = HSM_OK;

    if (!call->is_exchanging)
        return call->is_settled;
    call->is_exchanging = false;
    call->is_settled = nonce_is_good(call);
    if (call->counting.what != NULL)
        counted = acme_store_wait(call->server->config.store, &call->counting.work);
    call->is_settled = call->is_settled && has_room(call, counted);
    return call->is_settled;
}

/* ---- the key ---- */

static bool
key_of_jwk(struct acme_call *call, const json_t *jwk)
{
    struct hsm_reason why = {""};
    enum hsm_status st = acme_jwk_parse(jwk, &call->key, &why);

    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_BAD_PUBLIC_KEY, 400, "%s", why.text);
    return false;
}

/* The id in an account URL of this server, or NULL. */
static const char *
account_of_kid(const struct acme_call *call, const char *kid)
{
    char prefix[ACME_URL_MAX + 1];
    size_t len;

    acme_server_url(call->server, "acct", "", NULL, prefix);
    len = strlen(prefix);
    return strncmp(kid, prefix, len) == 0 && strlen(kid + len) <= ACME_ID_LEN ? kid + len : NULL;
}

static bool
account_is_valid(struct acme_call *call, const char *status)
{
    if (strcmp(status, ACME_VALID) == 0)
        return true;
    acme_call_refuse(call, ACME_UNAUTHORIZED, 401, "the account is %s", status);
    return false;
}

static bool
key_of_account(struct acme_call *call, const char *kid)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const char *id = account_of_kid(call, kid);
    enum hsm_status st = HSM_OK;

    if (id != NULL)
        st = acme_store_query(
            call->server->config.store, &rows,
            "SELECT jwk, status, " ACME_ACCOUNT_COLUMNS " FROM account WHERE id = ?", "s", id);
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (id == NULL || !acme_rows_next(rows)) {
        acme_call_refuse(call, ACME_ACCOUNT_DOES_NOT_EXIST, 400,
                         "kid is no account of this server");
        return false;
    }
    snprintf(call->account, sizeof(call->account), "%s", id);
    if (!account_is_valid(call, acme_rows_text(rows, 1)))
        return false;
    st = acme_keys_find(call->server->keys, acme_rows_text(rows, 0), &call->account_key);
    if (st == HSM_OK)
        st = EVP_PKEY_up_ref(call->account_key->key) == 1 ? HSM_OK : HSM_ERR_CRYPTO;
    if (st == HSM_OK)
        call->key = call->account_key->key;
    if (st == HSM_OK)
        st = acme_account_read(call, rows, 2);
    if (st != HSM_OK)
        acme_call_fault(call, st);
    return st == HSM_OK;
}

/* RFC 8555 section 6.2: exactly one of jwk and kid, each only where it is allowed. */
static bool
find_key(struct acme_call *call, enum acme_signer signer)
{
    const json_t *header = acme_jws_header(call->jws);
    const json_t *jwk = json_object_get(header, "jwk"), *kid = json_object_get(header, "kid");

    if ((jwk != NULL) == (kid != NULL)) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s of jwk and kid in the protected header",
                         jwk != NULL ? "both" : "neither");
        return false;
    }
    if (signer != ACME_SIGNER_ACCOUNT && jwk != NULL)
        return key_of_jwk(call, jwk);
    if (signer != ACME_SIGNER_NEW && json_is_string(kid))
        return key_of_account(call, json_string_value(kid));
    acme_call_refuse(call, ACME_MALFORMED, 400, "this resource wants a %s in the protected header",
                     signer == ACME_SIGNER_NEW ? "jwk" : "kid that is a string");
    return false;
}

static enum hsm_status
verify(const struct acme_call *call, struct hsm_reason *why)
{
    return call->account_key != NULL
               ? acme_jws_verify_by(call->jws, call->account_key->verifier, why)
               : acme_jws_verify(call->jws, call->key, why);
}

static bool
signature_is_good(struct acme_call *call)
{
    struct hsm_reason why = {""};
    enum hsm_status st = verify(call, &why);

    if (st == HSM_ERR_UNTRUSTED && call->server->config.read_without_dot)
        st = acme_jws_verify_without_dot(call->jws, call->key, &why);
    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_UNTRUSTED)
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "%s", why.text);
    else if (st == HSM_ERR_UNSUPPORTED || st == HSM_ERR_MALFORMED)
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    else
        acme_call_fault(call, st);
    return false;
}

bool
acme_call_authenticate(struct acme_call *call, enum acme_signer signer)
{
    return has_media_type(call) && parse_jws(call) && acme_call_wants_es256(call, call->jws) &&
           has_url(call) && begins_exchange(call) && find_key(call, signer) &&
           signature_is_good(call);
}

/* ---- the payload ---- */

bool
acme_call_is_read(const struct acme_call *call)
{
    size_t len = 0;

    (void)acme_jws_payload(call->jws, &len);
    return len == 0;
}

bool
acme_call_wants_read(struct acme_call *call)
{
    if (acme_call_is_read(call))
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 400, "only POST-as-GET, with an empty payload");
    return false;
}

bool
acme_call_payload(struct acme_call *call, json_t **out)
{
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *payload = acme_jws_payload(call->jws, &len);
    enum hsm_status st = acme_json_parse(payload, len, out, &why);

    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_MALFORMED, 400, "payload: %s", why.text);
    return false;
}
