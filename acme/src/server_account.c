/* server_account.c - accounts: newAccount, update, deactivation, key change (RFC 8555 section 7.3).
 */

#include "server_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include <acme/events.h>
#include <acme/json.h>
#include <acme/jwk.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "defer_internal.h"

/* ---- the account object (RFC 8555 section 7.1.2) ---- */

/* The texts in the row were written by this server. */
enum hsm_status
acme_account_read(struct acme_call *call, const struct acme_rows *rows, size_t first)
{
    const char *contact = acme_rows_text(rows, first), *binding = acme_rows_text(rows, first + 1);
    const char *terms = acme_rows_text(rows, first + 2);

    json_decref(call->contact);
    json_decref(call->binding);
    free(call->terms);
    call->contact = json_loads(contact, 0, NULL);
    call->binding = binding != NULL ? json_loads(binding, 0, NULL) : NULL;
    call->terms = terms != NULL ? strdup(terms) : NULL;
    if (call->contact == NULL || (binding != NULL) != (call->binding != NULL) ||
        (terms != NULL) != (call->terms != NULL)) {
        hsm_log(HSM_LOG_ERROR, "account %s: not readable in the store", call->account);
        return HSM_ERR_IO;
    }
    return HSM_OK;
}

static void
respond_account(struct acme_call *call, int http_status, const char *status)
{
    char orders[ACME_URL_MAX + 1];
    json_t *object;

    acme_server_url(call->server, "acct", call->account, "/orders", orders);
    object =
        json_pack("{s:s, s:O, s:s}", "status", status, "contact", call->contact, "orders", orders);
    if (object != NULL &&
        ((call->terms != NULL &&
          json_object_set_new(object, "termsOfServiceAgreed", json_true()) != 0) ||
         (call->binding != NULL &&
          json_object_set(object, "externalAccountBinding", call->binding) != 0))) {
        json_decref(object);
        object = NULL;
    }
    acme_call_json(call, http_status, object);
}

/* ---- contacts ---- */

/* One addr-spec and nothing else: RFC 8555 section 7.3 forbids hfields and more than one address.
 */
static bool
is_mail_address(const char *text)
{
    const char *at = strchr(text, '@');

    for (const char *c = text; *c != '\0'; c++) {
        if (!isgraph((unsigned char)*c) || strchr(",?<>()\"\\;:", *c) != NULL)
            return false;
    }
    return at != NULL && at != text && at[1] != '\0' && strchr(at + 1, '@') == NULL;
}

static bool
is_good_contact(struct acme_call *call, const json_t *contact)
{
    const char *text = json_string_value(contact);

    if (text == NULL || strlen(text) > ACME_CONTACT_MAX) {
        acme_call_refuse(call, ACME_INVALID_CONTACT, 400,
                         "a contact is not a URL of at most %d octets", ACME_CONTACT_MAX);
        return false;
    }
    if (strncasecmp(text, "mailto:", 7) != 0) {
        acme_call_refuse(call, ACME_UNSUPPORTED_CONTACT, 400, "contact %s: not a mailto URL", text);
        return false;
    }
    if (!is_mail_address(text + 7)) {
        acme_call_refuse(call, ACME_INVALID_CONTACT, 400, "contact %s: not one mail address", text);
        return false;
    }
    return true;
}

/* The member "contact" replaces call->contact when it is there. */
static bool
take_contact(struct acme_call *call, const json_t *payload)
{
    json_t *contact = json_object_get(payload, "contact");

    if (contact == NULL || json_is_null(contact))
        return true;
    if (!json_is_array(contact) || json_array_size(contact) > ACME_CONTACTS_MAX) {
        acme_call_refuse(call, ACME_INVALID_CONTACT, 400,
                         "contact: not an array of at most %d URLs", ACME_CONTACTS_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(contact); i++) {
        if (!is_good_contact(call, json_array_get(contact, i)))
            return false;
    }
    json_decref(call->contact);
    call->contact = json_incref(contact);
    return true;
}

/* ---- newAccount ---- */

/* Read the account of a key into the call; HSM_ERR_NOT_FOUND when there is none. */
static enum hsm_status
find_by_key(struct acme_call *call, const char *thumbprint, bool *valid)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(call->server->config.store, &rows,
                                          "SELECT id, status, " ACME_ACCOUNT_COLUMNS
                                          " FROM account WHERE thumbprint = ?",
                                          "s", thumbprint);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    snprintf(call->account, sizeof(call->account), "%s", acme_rows_text(rows, 0));
    *valid = strcmp(acme_rows_text(rows, 1), ACME_VALID) == 0;
    return acme_account_read(call, rows, 2);
}

/* RFC 8555 sections 7.3.1 and 7.3.6: respond with the unchanged account, unless it was
 * deactivated. */
static void
respond_existing(struct acme_call *call, bool valid)
{
    if (!valid) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 401,
                         "the account of this key was deactivated or revoked");
        return;
    }
    acme_call_location(call, "acct", call->account);
    respond_account(call, 200, ACME_VALID);
}

/* The members of a new account as texts. */
struct account_texts {
    char *jwk, *contact;
    char *binding; /* NULL: none */
};

static void
account_texts_clear(struct account_texts *texts)
{
    free(texts->jwk);
    free(texts->contact);
    free(texts->binding);
}

static enum hsm_status
make_texts(struct acme_call *call, struct account_texts *texts)
{
    DEFER(json_decref) json_t *jwk = NULL;
    enum hsm_status st = acme_jwk_new(call->key, &jwk);

    if (st != HSM_OK)
        return st;
    texts->jwk = acme_json_text(jwk);
    texts->contact = acme_json_text(call->contact);
    if (call->binding != NULL)
        texts->binding = acme_json_text(call->binding);
    return texts->jwk == NULL || texts->contact == NULL ||
                   (call->binding != NULL && texts->binding == NULL)
               ? HSM_ERR_NOMEM
               : HSM_OK;
}

/* Within a transaction. HSM_ERR_EXISTS: the key or the external account already has an account.
 * HSM_ERR_DENIED: the address has reached its limit. */
static enum hsm_status
insert_account(struct acme_call *call, const char *thumbprint, const char *external, time_t *wait_s)
{
    struct acme_store *store = call->server->config.store;
    CLEAR_AFTER(account_texts_clear) struct account_texts texts = {.jwk = NULL};
    char address[ACME_ADDRESS_MAX + 1];
    enum hsm_status st = make_texts(call, &texts);

    if (st == HSM_OK)
        st = acme_id_new(call->account);
    acme_limit_address(acme_http_request_peer(call->request), address);
    if (st == HSM_OK)
        st = acme_limit_take(store, "accounts", address, call->server->config.accounts_per_address,
                             call->now, wait_s);
    if (st == HSM_OK && *wait_s != 0)
        st = HSM_ERR_DENIED;
    if (st != HSM_OK)
        return st;
    return acme_store_run(store, NULL,
                          "INSERT INTO account (id, status, jwk, thumbprint, contact, created,"
                          " terms, external_account, binding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          "sssssisss", call->account, ACME_VALID, texts.jwk, thumbprint,
                          texts.contact, (int64_t)call->now, call->terms,
                          external[0] != '\0' ? external : NULL, texts.binding);
}

static enum hsm_status
store_account(struct acme_call *call, const char *thumbprint, const char *external, time_t *wait_s)
{
    struct acme_store *store = call->server->config.store;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = insert_account(call, thumbprint, external, wait_s);
    if (st == HSM_OK && external[0] != '\0')
        st = acme_external_tell_used(call, external);
    return acme_store_end(store, st);
}

/* Another request was faster: from the same client, or with the same external account. */
static void
respond_taken(struct acme_call *call, const char *thumbprint)
{
    bool valid = false;
    enum hsm_status st = find_by_key(call, thumbprint, &valid);

    if (st == HSM_OK)
        respond_existing(call, valid);
    else if (st == HSM_ERR_NOT_FOUND)
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403,
                         "externalAccountBinding: the key was used for another account");
    else
        acme_call_fault(call, st);
}

/* Take all members that a new account needs. */
static bool
take_account(struct acme_call *call, const json_t *payload, char external[ACME_EXTERNAL_ID_MAX + 1])
{
    json_decref(call->contact);
    call->contact = json_array();
    if (call->contact == NULL) {
        acme_call_fault(call, HSM_ERR_NOMEM);
        return false;
    }
    return take_contact(call, payload) && acme_terms_take(call, payload) &&
           acme_terms_wanted(call) && acme_external_take(call, payload, external);
}

static void
create_account(struct acme_call *call, const json_t *payload, const char *thumbprint)
{
    char external[ACME_EXTERNAL_ID_MAX + 1];
    time_t wait_s = 0;
    enum hsm_status st;

    if (!take_account(call, payload, external))
        return;
    st = store_account(call, thumbprint, external, &wait_s);
    if (st == HSM_ERR_EXISTS) {
        respond_taken(call, thumbprint);
    } else if (st == HSM_ERR_DENIED) {
        acme_limit_refuse(call, "new accounts from this address", wait_s);
    } else if (st != HSM_OK) {
        acme_call_fault(call, st);
    } else {
        hsm_log(HSM_LOG_INFO, "account %s: created, key %s%s%s", call->account, thumbprint,
                external[0] != '\0' ? ", external account " : "", external);
        if (external[0] != '\0')
            acme_external_used(call->server, external);
        acme_call_location(call, "acct", call->account);
        respond_account(call, 201, ACME_VALID);
    }
}

static void
find_or_create(struct acme_call *call, const json_t *payload, bool only_existing)
{
    char thumbprint[ACME_THUMBPRINT_LEN + 1];
    bool valid = false;
    enum hsm_status st = acme_jwk_thumbprint(call->key, thumbprint);

    if (st == HSM_OK)
        st = find_by_key(call, thumbprint, &valid);
    if (st == HSM_OK)
        respond_existing(call, valid);
    else if (st != HSM_ERR_NOT_FOUND)
        acme_call_fault(call, st);
    else if (only_existing)
        acme_call_refuse(call, ACME_ACCOUNT_DOES_NOT_EXIST, 400, "no account has this key");
    else
        create_account(call, payload, thumbprint);
}

void
acme_new_account(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct hsm_reason why = {""};
    bool only_existing = false;

    if (!acme_call_payload(call, &payload))
        return;
    if (acme_json_bool_optional(payload, "onlyReturnExisting", false, &only_existing, &why) !=
        HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
        return;
    }
    find_or_create(call, payload, only_existing);
}

/* ---- the account resource ---- */

/* End a transaction in which an account changed itself, and record the event. */
static enum hsm_status
commit_act(const struct acme_call *call, enum hsm_status st, const char *what, const char *detail)
{
    char who[ACME_ID_LEN + 16];

    snprintf(who, sizeof(who), "account %s", call->account);
    return acme_event_commit(
        call->server->config.store, st,
        &(struct acme_event){
            .at = call->now, .who = who, .what = what, .subject = call->account, .detail = detail});
}

/* The account ended after this request was authenticated. */
static void
refuse_ended(struct acme_call *call)
{
    acme_call_refuse(call, ACME_UNAUTHORIZED, 401, "the account is valid no more");
}

static void
deactivate_account(struct acme_call *call)
{
    struct acme_store *store = call->server->config.store;
    enum hsm_status st = acme_store_begin(store);

    if (st == HSM_OK)
        st = commit_act(call, acme_account_end(store, call->account, ACME_DEACTIVATED),
                        "account deactivated", NULL);
    if (st == HSM_ERR_NOT_FOUND) {
        refuse_ended(call);
        return;
    }
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    hsm_log(HSM_LOG_INFO, "account %s: deactivated", call->account);
    respond_account(call, 200, ACME_DEACTIVATED);
}

/* Read the current account into the call. */
static enum hsm_status
read_account(struct acme_call *call)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT " ACME_ACCOUNT_COLUMNS " FROM account WHERE id = ?", "s", call->account);

    if (st == HSM_OK && !acme_rows_next(rows))
        st = HSM_ERR_NOT_FOUND;
    return st == HSM_OK ? acme_account_read(call, rows, 0) : st;
}

/* A member that was not sent (NULL) keeps its value, even with concurrent changes.
 * HSM_ERR_NOT_FOUND: the account is not valid any more. */
static enum hsm_status
write_members(struct acme_call *call)
{
    DEFER(free)
    char *contact = acme_json_text(call->contact);
    int64_t changes = 0;
    enum hsm_status st;

    if (call->contact != NULL && contact == NULL)
        return HSM_ERR_NOMEM;
    st = acme_store_run(call->server->config.store, &changes,
                        "UPDATE account SET contact = COALESCE(?, contact),"
                        " terms = COALESCE(?, terms) WHERE id = ? AND status = '" ACME_VALID "'",
                        "sss", contact, call->terms, call->account);
    if (st == HSM_OK && changes == 0)
        st = HSM_ERR_NOT_FOUND;
    return st == HSM_OK ? read_account(call) : st;
}

/* Members from authentication are dropped first, so that the call has only those of the payload. */
static void
update_account(struct acme_call *call, const json_t *payload)
{
    enum hsm_status st;

    json_decref(call->contact);
    call->contact = NULL;
    free(call->terms);
    call->terms = NULL;
    if (!take_contact(call, payload) || !acme_terms_take(call, payload))
        return;
    st = write_members(call);
    if (st == HSM_ERR_NOT_FOUND)
        refuse_ended(call);
    else if (st != HSM_OK)
        acme_call_fault(call, st);
    else
        respond_account(call, 200, ACME_VALID);
}

bool
acme_account_is_own(struct acme_call *call)
{
    if (strcmp(call->params[0], call->account) == 0)
        return true;
    acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "not the account that signed the request");
    return false;
}

/* RFC 8555 sections 7.3.2 and 7.3.6; members that an account cannot change are ignored. */
void
acme_account(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct hsm_reason why = {""};
    const char *status = NULL;

    if (!acme_account_is_own(call))
        return;
    if (acme_call_is_read(call)) {
        respond_account(call, 200, ACME_VALID);
        return;
    }
    if (!acme_call_payload(call, &payload))
        return;
    if (acme_json_string_optional(payload, "status", &status, &why) != HSM_OK)
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
    else if (status != NULL && strcmp(status, ACME_DEACTIVATED) == 0)
        deactivate_account(call);
    else if (status != NULL && strcmp(status, ACME_VALID) != 0)
        acme_call_refuse(call, ACME_MALFORMED, 400, "status: an account can only be deactivated");
    else
        update_account(call, payload);
}

/* ---- key change (RFC 8555 section 7.3.5) ---- */

/* The inner JWS: signed by the new key, with the same URL, without a nonce. */
static bool
check_inner(struct acme_call *call, const struct acme_jws *inner, EVP_PKEY **new_key)
{
    const json_t *header = acme_jws_header(inner), *jwk = json_object_get(header, "jwk");
    const char *url = acme_jws_header_string(inner, "url");
    struct hsm_reason why = {""};
    char expected[ACME_URL_MAX + 1];

    acme_call_url(call, expected);
    if (!acme_call_wants_es256(call, inner))
        return false;
    if (jwk == NULL || json_object_get(header, "kid") != NULL ||
        json_object_get(header, "nonce") != NULL) {
        acme_call_refuse(call, ACME_MALFORMED, 400,
                         "inner JWS: wants a jwk, neither kid nor nonce");
        return false;
    }
    if (url == NULL || strcmp(url, expected) != 0) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "inner JWS: url is not that of the outer one");
        return false;
    }
    if (acme_jwk_parse(jwk, new_key, &why) != HSM_OK) {
        acme_call_refuse(call, ACME_BAD_PUBLIC_KEY, 400, "inner JWS: %s", why.text);
        return false;
    }
    if (acme_jws_verify(inner, *new_key, &why) != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "inner JWS: %s", why.text);
        return false;
    }
    return true;
}

/* The keyChange object: this account and its current key. */
static bool
check_key_change(struct acme_call *call, const struct acme_jws *inner)
{
    DEFER(json_decref) json_t *object = NULL;
    DEFER(EVP_PKEY_free) EVP_PKEY *old_key = NULL;
    const char *account = NULL, *kid = acme_jws_header_string(call->jws, "kid");
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *payload = acme_jws_payload(inner, &len);
    enum hsm_status st = acme_json_parse(payload, len, &object, &why);

    if (st == HSM_OK)
        st = acme_json_string(object, "account", &account, &why);
    if (st == HSM_OK && strcmp(account, kid) != 0)
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "account is not the one that signed the request");
    if (st == HSM_OK)
        st = acme_jwk_parse(json_object_get(object, "oldKey"), &old_key, &why);
    if (st == HSM_OK && EVP_PKEY_eq(old_key, call->key) != 1)
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "oldKey is not the account's key");
    if (st == HSM_OK)
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 400, "keyChange: %s", why.text);
    return false;
}

/* 409 with the URL of the account that has the new key. */
static void
respond_key_taken(struct acme_call *call, const char *thumbprint)
{
    bool valid = false;

    if (find_by_key(call, thumbprint, &valid) == HSM_OK)
        acme_call_location(call, "acct", call->account);
    acme_call_refuse(call, ACME_MALFORMED, 409, "an account has the new key already");
}

/* HSM_ERR_NOT_FOUND: the account no longer has the old key, or it has ended. */
static enum hsm_status
replace_key(struct acme_call *call, const char *jwk, const char *old_thumbprint,
            const char *new_thumbprint)
{
    struct acme_store *store = call->server->config.store;
    int64_t changes = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, &changes,
                        "UPDATE account SET jwk = ?, thumbprint = ? WHERE id = ? AND"
                        " thumbprint = ? AND status = '" ACME_VALID "'",
                        "ssss", jwk, new_thumbprint, call->account, old_thumbprint);
    if (st == HSM_OK && changes != 1)
        st = HSM_ERR_NOT_FOUND;
    return commit_act(call, st, "account key changed", new_thumbprint);
}

static void
store_new_key(struct acme_call *call, EVP_PKEY *new_key)
{
    DEFER(json_decref) json_t *jwk = NULL;
    DEFER(free) char *text = NULL;
    char old_thumbprint[ACME_THUMBPRINT_LEN + 1] = "", new_thumbprint[ACME_THUMBPRINT_LEN + 1] = "";
    enum hsm_status st = acme_jwk_thumbprint(call->key, old_thumbprint);

    if (st == HSM_OK)
        st = acme_jwk_thumbprint(new_key, new_thumbprint);
    if (st == HSM_OK)
        st = acme_jwk_new(new_key, &jwk);
    if (st == HSM_OK && (text = acme_json_text(jwk)) == NULL)
        st = HSM_ERR_NOMEM;
    if (st == HSM_OK && strcmp(old_thumbprint, new_thumbprint) == 0)
        st = HSM_ERR_EXISTS;
    if (st == HSM_OK)
        st = replace_key(call, text, old_thumbprint, new_thumbprint);
    if (st == HSM_ERR_EXISTS)
        respond_key_taken(call, new_thumbprint);
    else if (st == HSM_ERR_NOT_FOUND) /* changed after this request was authenticated */
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403,
                         "oldKey is not the key of a valid account any more");
    else if (st != HSM_OK)
        acme_call_fault(call, st);
    else {
        hsm_log(HSM_LOG_INFO, "account %s: key changed to %s", call->account, new_thumbprint);
        respond_account(call, 200, ACME_VALID);
    }
}

void
acme_key_change(struct acme_call *call)
{
    DEFER(acme_jws_free) struct acme_jws *inner = NULL;
    DEFER(EVP_PKEY_free) EVP_PKEY *new_key = NULL;
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *payload = acme_jws_payload(call->jws, &len);

    if (acme_jws_parse_flattened(payload, len, &inner, &why) != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "inner JWS: %s", why.text);
        return;
    }
    if (check_inner(call, inner, &new_key) && check_key_change(call, inner))
        store_new_key(call, new_key);
}
