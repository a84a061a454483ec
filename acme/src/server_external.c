/*
 * server_external.c - external account binding (RFC 8555 section 7.3.4).
 *
 * The keys are files in a directory, one for each binding that was not made yet. The store
 * ensures that a key is used once: its identifier is unique there. The file is removed
 * afterwards.
 */

#include "server_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <acme/base64url.h>
#include <acme/events.h>
#include <acme/json.h>
#include <acme/jwk.h>
#include <hsm/log.h>

#include "defer_internal.h"

#define KEY_LEN      32 /* random octets: the length of SHA-256 (RFC 7518 section 3.2) */
#define PATH_MAX_LEN 4095 /* characters */

/* An identifier is also a file name. */
static bool
is_id(const char *id)
{
    size_t len = strlen(id);

    return len > 0 && len <= ACME_EXTERNAL_ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static enum hsm_status
path_of(const char *dir, const char *id, char out[PATH_MAX_LEN + 1])
{
    int len = snprintf(out, PATH_MAX_LEN + 1, "%s/%s", dir, id);

    return len > 0 && len <= PATH_MAX_LEN ? HSM_OK : HSM_ERR_USAGE;
}

/* ---- the operator's side ---- */

static enum hsm_status
is_bound(struct acme_store *store, const char *id, bool *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT 1 FROM account WHERE external_account = ?", "s", id);

    if (st == HSM_OK)
        *out = acme_rows_next(rows);
    return st;
}

static enum hsm_status
write_key(const char *dir, const char *id)
{
    DEFER(hsm_secret_free) struct hsm_secret *random = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *text = NULL;
    char path[PATH_MAX_LEN + 1], encoded[ACME_BASE64URL_LEN(2 * KEY_LEN)];
    size_t len;
    enum hsm_status st = path_of(dir, id, path);

    if (st == HSM_OK)
        st = hsm_secret_random(KEY_LEN, &random); /* its hex digits are the octets of the key */
    if (st != HSM_OK)
        return st;
    len = acme_base64url_write(hsm_secret_octets(random), hsm_secret_len(random), encoded);
    st = hsm_secret_new(encoded, len, &text);
    OPENSSL_cleanse(encoded, sizeof(encoded));
    return st == HSM_OK ? hsm_secret_write(text, path) : st;
}

enum hsm_status
acme_server_external_add(struct acme_store *store, const char *dir, const char *id)
{
    bool bound = false;
    enum hsm_status st;

    if (!is_id(id))
        return HSM_ERR_MALFORMED;
    st = is_bound(store, id, &bound);
    if (st == HSM_OK && bound)
        return HSM_ERR_EXISTS;
    if (st == HSM_OK && mkdir(dir, 0700) != 0 && errno != EEXIST) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", dir, strerror(errno));
        return HSM_ERR_IO;
    }
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    return acme_event_commit(
        store, write_key(dir, id),
        &(struct acme_event){.at = time(NULL), .what = "external account added", .subject = id});
}

static enum hsm_status
remove_key(const char *dir, const char *id)
{
    char path[PATH_MAX_LEN + 1];

    if (!is_id(id))
        return HSM_ERR_MALFORMED;
    if (path_of(dir, id, path) != HSM_OK)
        return HSM_ERR_USAGE;
    if (unlink(path) == 0)
        return HSM_OK;
    if (errno == ENOENT)
        return HSM_ERR_NOT_FOUND;
    hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
    return HSM_ERR_IO;
}

enum hsm_status
acme_server_external_remove(struct acme_store *store, const char *dir, const char *id)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    return acme_event_commit(
        store, remove_key(dir, id),
        &(struct acme_event){.at = time(NULL), .what = "external account removed", .subject = id});
}

enum hsm_status
acme_server_external_list(const char *dir, FILE *to)
{
    DIR *entries = opendir(dir);
    const struct dirent *entry;

    if (entries == NULL) {
        if (errno == ENOENT) /* no key was ever made */
            return HSM_OK;
        hsm_log(HSM_LOG_ERROR, "%s: %s", dir, strerror(errno));
        return HSM_ERR_IO;
    }
    while ((entry = readdir(entries)) != NULL) {
        if (is_id(entry->d_name))
            fprintf(to, "%s\tnot used\n", entry->d_name);
    }
    closedir(entries);
    return HSM_OK;
}

enum hsm_status
acme_external_tell_used(const struct acme_call *call, const char *id)
{
    char who[ACME_ID_LEN + 16];

    snprintf(who, sizeof(who), "account %s", call->account);
    return acme_event_add(
        call->server->config.store,
        &(struct acme_event){
            .at = call->now, .who = who, .what = "external account used", .subject = id});
}

void
acme_external_used(const struct acme_server *server, const char *id)
{
    enum hsm_status st = remove_key(server->config.external_accounts, id);

    if (st != HSM_OK) /* it cannot be used again: the store has its identifier */
        hsm_log(HSM_LOG_WARNING, "key of external account %s: stays on disk: %s", id,
                hsm_status_text(st));
}

/* ---- newAccount ---- */

static bool
refuse(struct acme_call *call, enum acme_error error, int http_status, const char *why)
{
    acme_call_refuse(call, error, http_status, "externalAccountBinding: %s", why);
    return false;
}

/* The header: a MAC, a kid, the URL of the outer JWS, no nonce. */
static bool
check_header(struct acme_call *call, const struct acme_jws *binding)
{
    const json_t *header = acme_jws_header(binding);
    const char *alg = acme_jws_header_string(binding, "alg");
    const char *kid = acme_jws_header_string(binding, "kid");
    const char *url = acme_jws_header_string(binding, "url");
    char expected[ACME_URL_MAX + 1];

    acme_call_url(call, expected);
    if (strcmp(alg, "HS256") != 0)
        return refuse(call, ACME_BAD_SIGNATURE_ALGORITHM, 400, "alg is not the MAC HS256");
    if (kid == NULL)
        return refuse(call, ACME_MALFORMED, 400, "no kid");
    if (json_object_get(header, "nonce") != NULL)
        return refuse(call, ACME_MALFORMED, 400, "has a nonce");
    if (url == NULL || strcmp(url, expected) != 0)
        return refuse(call, ACME_MALFORMED, 400, "its url is not that of the request");
    return true;
}

/* The payload is the account's key. */
static bool
check_payload(struct acme_call *call, const struct acme_jws *binding)
{
    DEFER(json_decref) json_t *jwk = NULL;
    DEFER(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *payload = acme_jws_payload(binding, &len);

    if (acme_json_parse(payload, len, &jwk, &why) != HSM_OK ||
        acme_jwk_parse(jwk, &key, &why) != HSM_OK)
        return refuse(call, ACME_MALFORMED, 400, why.text);
    if (EVP_PKEY_eq(key, call->key) != 1)
        return refuse(call, ACME_MALFORMED, 400, "its payload is not the key of the request");
    return true;
}

static enum hsm_status
verify_mac(const char *path, const struct acme_jws *binding)
{
    DEFER(hsm_secret_free) struct hsm_secret *text = NULL;
    uint8_t *key = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_secret_read(path, &text);

    if (st == HSM_OK)
        st = acme_base64url_decode(hsm_secret_octets(text), hsm_secret_len(text), &key, &len);
    if (st == HSM_ERR_MALFORMED) {
        hsm_log(HSM_LOG_ERROR, "%s: not a base64url key", path);
        return HSM_ERR_IO;
    }
    if (st == HSM_OK)
        st = acme_jws_verify_mac(binding, key, len, NULL);
    if (key != NULL)
        OPENSSL_cleanse(key, len);
    free(key);
    return st;
}

/* A client cannot distinguish an unknown identifier from an invalid MAC. */
static bool
check_mac(struct acme_call *call, const struct acme_jws *binding, const char *id)
{
    const char *dir = call->server->config.external_accounts;
    char path[PATH_MAX_LEN + 1];
    enum hsm_status st = is_id(id) ? path_of(dir, id, path) : HSM_ERR_NOT_FOUND;

    if (st == HSM_OK && access(path, F_OK) != 0)
        st = HSM_ERR_NOT_FOUND;
    if (st == HSM_OK)
        st = verify_mac(path, binding);
    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_UNTRUSTED || st == HSM_ERR_NOT_FOUND || st == HSM_ERR_UNSUPPORTED)
        return refuse(call, ACME_UNAUTHORIZED, 403,
                      "no such key, or it was used, or the MAC is not its");
    acme_call_fault(call, st);
    return false;
}

bool
acme_external_take(struct acme_call *call, const json_t *payload, char id[ACME_EXTERNAL_ID_MAX + 1])
{
    DEFER(acme_jws_free) struct acme_jws *binding = NULL;
    json_t *object = json_object_get(payload, "externalAccountBinding");
    struct hsm_reason why = {""};

    id[0] = '\0';
    if (call->server->config.external_accounts == NULL)
        return true; /* without external accounts the member is ignored */
    if (object == NULL) {
        if (call->server->config.external_account_required)
            acme_call_refuse(call, ACME_EXTERNAL_ACCOUNT_REQUIRED, 403,
                             "accounts of this CA are bound to an external account");
        return !call->server->config.external_account_required;
    }
    if (acme_jws_parse_object(object, &binding, &why) != HSM_OK)
        return refuse(call, ACME_MALFORMED, 400, why.text);
    if (!check_header(call, binding) || !check_payload(call, binding) ||
        !check_mac(call, binding, acme_jws_header_string(binding, "kid")))
        return false;
    snprintf(id, ACME_EXTERNAL_ID_MAX + 1, "%s", acme_jws_header_string(binding, "kid"));
    json_decref(call->binding);
    call->binding = json_incref(object);
    return true;
}
