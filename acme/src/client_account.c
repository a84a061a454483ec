/* client_account.c - an ACME client's account (RFC 8555 section 7.3). */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jws.h>

#include <hsm/defer.h>
#include <hsm/use.h>

/* Octets of a MAC key; RFC 7518 section 3.2 requires 32, some CAs give fewer. */
#define EAB_KEY_MIN 16

/* ---- external account binding (RFC 8555 section 7.3.4) ---- */

static enum hsm_status
mac(const struct hsm_secret *secret, const char *text, uint8_t out[HSM_SHA256_LEN],
    struct hsm_reason *why)
{
    uint8_t *key = NULL; /* in memory for this one MAC: it is not a private key, and it is wiped */
    size_t len = 0;
    enum hsm_status st =
        acme_base64_decode_any(hsm_secret_octets(secret), hsm_secret_len(secret), &key, &len);

    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK || len < EAB_KEY_MIN)
        st = hsm_refuse(why, HSM_ERR_MALFORMED,
                        "external account binding: the MAC key is not base64url of %d octets",
                        EAB_KEY_MIN);
    else if (HMAC(EVP_sha256(), key, (int)len, (const uint8_t *)text, strlen(text), out, NULL) ==
             NULL)
        st = HSM_ERR_CRYPTO;
    OPENSSL_cleanse(key, len);
    free(key);
    return st;
}

/* "HEADER.PAYLOAD" of the binding of this account key at this newAccount URL. */
static enum hsm_status
binding_input(const struct acme_client *client, char **header, char **payload)
{
    DEFER(json_decref)
    json_t *protected = json_pack("{s:s, s:s, s:s}", "alg", "HS256", "kid", client->config.eab_kid,
                                  "url", client->directory.new_account);
    DEFER(json_decref) json_t *jwk = NULL;
    DEFER(free) char *header_text = NULL;
    DEFER(free) char *jwk_text = NULL;
    enum hsm_status st = acme_jwk_new(hsm_key_public(client->config.account_key), &jwk);

    if (st != HSM_OK)
        return st;
    header_text = acme_json_text(protected);
    jwk_text = acme_json_text(jwk);
    if (header_text == NULL || jwk_text == NULL)
        return HSM_ERR_NOMEM;
    *header = acme_base64url_encode(header_text, strlen(header_text));
    *payload = acme_base64url_encode(jwk_text, strlen(jwk_text));
    return *header != NULL && *payload != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
add_binding(const struct acme_client *client, json_t *request, struct hsm_reason *why)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *payload = NULL;
    DEFER(free) char *signature = NULL;
    DEFER(free) char *text = NULL;
    uint8_t code[HSM_SHA256_LEN];
    size_t size;
    enum hsm_status st = binding_input(client, &header, &payload);

    if (st != HSM_OK)
        return st;
    size = strlen(header) + strlen(payload) + 2;
    text = malloc(size);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    snprintf(text, size, "%s.%s", header, payload);
    st = mac(client->config.eab_key, text, code, why);
    if (st != HSM_OK)
        return st;
    signature = acme_base64url_encode(code, sizeof(code));
    if (signature == NULL ||
        json_object_set_new(request, "externalAccountBinding",
                            json_pack("{s:s, s:s, s:s}", "protected", header, "payload", payload,
                                      "signature", signature)) != 0)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

/* ---- newAccount ---- */

static enum hsm_status
new_account_request(const struct acme_client *client, char **out, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *request = json_pack("{s:b}", "termsOfServiceAgreed", 1);
    enum hsm_status st = HSM_OK;

    if (request == NULL)
        return HSM_ERR_NOMEM;
    if (client->config.contact != NULL &&
        json_object_set_new(request, "contact", json_pack("[s]", client->config.contact)) != 0)
        return HSM_ERR_NOMEM;
    if (client->config.eab_kid != NULL)
        st = add_binding(client, request, why);
    if (st != HSM_OK)
        return st;
    *out = acme_json_text(request);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static void
forget_account(struct acme_client *client)
{
    free(client->kid);
    client->kid = NULL;
    free(client->orders);
    client->orders = NULL;
}

/* Send newAccount, signed with the jwk; takes the account's URL and list of orders from the
 * answer. */
static enum hsm_status
ask_new_account(struct acme_client *client, const char *request, struct acme_answer *answer,
                struct hsm_reason *why)
{
    const char *orders = NULL;
    enum hsm_status st;

    forget_account(client);
    st = acme_client_call_again(client, "newAccount", client->directory.new_account, request,
                                answer, why);
    if (st != HSM_OK)
        return st;
    st = acme_client_location(answer, "newAccount", &client->kid, why);
    orders = json_string_value(json_object_get(answer->body, "orders"));
    if (st == HSM_OK && orders != NULL && strlen(orders) <= ACME_CLIENT_URL_MAX)
        st = acme_client_replace_text(&client->orders, orders);
    return st;
}

/* By RFC 8555 section 7.3.6 a CA refuses requests of a deactivated account; some CAs answer
 * them. */
static enum hsm_status
check_status(struct acme_client *client, const struct acme_answer *answer, struct hsm_reason *why)
{
    const char *status = json_string_value(json_object_get(answer->body, "status"));

    if (status == NULL || strcmp(status, "valid") == 0)
        return HSM_OK;
    forget_account(client);
    return hsm_refuse(why, HSM_ERR_DENIED, "the account is %s", status);
}

enum hsm_status
acme_client_account(struct acme_client *client, struct hsm_reason *why)
{
    DEFER(free) char *request = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = new_account_request(client, &request, why);

    if (st == HSM_OK)
        st = ask_new_account(client, request, &answer, why);
    return st == HSM_OK ? check_status(client, &answer, why) : st;
}

enum hsm_status
acme_client_account_find(struct acme_client *client, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = ask_new_account(client, "{\"onlyReturnExisting\":true}", &answer, why);

    if (acme_client_has_problem(&answer, ACME_ACCOUNT_DOES_NOT_EXIST))
        return hsm_refuse(why, HSM_ERR_NOT_FOUND, "the CA has no account of this key");
    return st == HSM_OK ? check_status(client, &answer, why) : st;
}

/* ---- the account object ---- */

static enum hsm_status
find_once(struct acme_client *client, struct hsm_reason *why)
{
    return client->kid != NULL ? HSM_OK : acme_client_account_find(client, why);
}

enum hsm_status
acme_client_account_read(struct acme_client *client, struct acme_client_account_state *out,
                         struct hsm_reason *why)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    struct acme_client_account_state state = {.contacts = ""};
    const json_t *contacts;
    const char *status = NULL;
    enum hsm_status st = find_once(client, why);

    if (st == HSM_OK)
        st = acme_client_call_again(client, "account", client->kid, "", &answer, why);
    if (st == HSM_OK)
        st = acme_json_string(answer.body, "status", &status, why);
    if (st != HSM_OK)
        return st;
    snprintf(state.status, sizeof(state.status), "%s", acme_client_is_url(status) ? status : "?");
    contacts = json_object_get(answer.body, "contact");
    for (size_t i = 0; i < json_array_size(contacts); i++) {
        const char *one = json_string_value(json_array_get(contacts, i));
        size_t len = strlen(state.contacts);

        if (one != NULL && acme_client_is_url(one)) /* section 7.1.2 */
            snprintf(state.contacts + len, sizeof(state.contacts) - len, "%s%s", len > 0 ? " " : "",
                     one);
    }
    *out = state;
    return HSM_OK;
}

static enum hsm_status
change_account(struct acme_client *client, const json_t *request, struct hsm_reason *why)
{
    DEFER(free) char *text = acme_json_text(request);
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = text != NULL ? find_once(client, why) : HSM_ERR_NOMEM;

    return st == HSM_OK ? acme_client_call_again(client, "account", client->kid, text, &answer, why)
                        : st;
}

enum hsm_status
acme_client_account_update(struct acme_client *client, const char *contact, struct hsm_reason *why)
{
    DEFER(json_decref)
    json_t *request =
        contact != NULL ? json_pack("{s:[s]}", "contact", contact) : json_pack("{s:[]}", "contact");

    return change_account(client, request, why);
}

enum hsm_status
acme_client_account_deactivate(struct acme_client *client, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *request = json_pack("{s:s}", "status", "deactivated");

    return change_account(client, request, why);
}

/* ---- key change (RFC 8555 section 7.3.5) ---- */

/* The inner JWS: signed by the new key; contains the account URL and the old key. */
static enum hsm_status
inner_jws(const struct acme_client *client, struct hsm_key *new_key, char **out)
{
    DEFER(json_decref) json_t *old_jwk = NULL;
    DEFER(json_decref) json_t *new_jwk = NULL;
    DEFER(json_decref) json_t *header = NULL;
    DEFER(json_decref) json_t *payload = NULL;
    DEFER(free) char *header_text = NULL;
    DEFER(free) char *payload_text = NULL;
    enum hsm_status st = acme_jwk_new(hsm_key_public(client->config.account_key), &old_jwk);
    HSM_USE_FOR(HSM_USE_ACME);

    if (st == HSM_OK)
        st = acme_jwk_new(hsm_key_public(new_key), &new_jwk);
    if (st != HSM_OK)
        return st;
    header = json_pack("{s:s, s:O, s:s}", "alg", "ES256", "jwk", new_jwk, "url",
                       client->directory.key_change);
    payload = json_pack("{s:s, s:O}", "account", client->kid, "oldKey", old_jwk);
    header_text = acme_json_text(header);
    payload_text = acme_json_text(payload);
    if (header_text == NULL || payload_text == NULL)
        return HSM_ERR_NOMEM;
    return acme_jws_sign_flattened(header_text, payload_text, strlen(payload_text), new_key, out);
}

enum hsm_status
acme_client_account_rollover(struct acme_client *client, struct hsm_key *new_key,
                             struct hsm_reason *why)
{
    DEFER(free) char *inner = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st;

    if (client->directory.key_change == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "the CA has no keyChange");
    st = find_once(client, why);
    if (st == HSM_OK)
        st = inner_jws(client, new_key, &inner);
    if (st == HSM_OK)
        st = acme_client_post(client, client->directory.key_change, inner, NULL, &answer, why);
    if (st == HSM_OK && answer.reply.status == 409)
        return hsm_refuse(why, HSM_ERR_EXISTS, "keyChange: another account has this key");
    if (st == HSM_OK)
        st = acme_client_judge(client, &answer, "keyChange", why);
    if (st == HSM_OK)
        client->config.account_key = new_key;
    return st;
}
