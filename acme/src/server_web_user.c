/*
 * server_web_user.c - operators who may see the status page.
 *
 * HTTP Basic (RFC 7617), which is only offered over TLS. The page is read-only, so that
 * credentials that a browser sends automatically cannot be misused to change anything. A right
 * password is remembered for some minutes by a MAC, so that reloading the page does not cost
 * another scrypt.
 */
#include "server_web_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <acme/events.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/time.h>

#define USER_MAX          64 /* octets */
#define PASSWORD_MIN      12 /* octets */
#define AUTHORIZATION_MAX 2048 /* characters of the header's value; longer: refused */
#define ADMITTED_S        600

#define HASH_COLUMNS "salt, hash, scrypt_n, scrypt_r, scrypt_p"

/* ---- commands of the operator ---- */

static bool
is_user(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= USER_MAX &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._@") ==
               len;
}

enum hsm_status
acme_server_web_user_add(struct acme_store *store, const char *user,
                         const struct hsm_secret *password)
{
    struct acme_password_hash hash;
    enum hsm_status st;

    if (!is_user(user) || hsm_secret_len(password) < PASSWORD_MIN)
        return HSM_ERR_MALFORMED;
    st = acme_password_hash_new(password, &hash);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = acme_store_run(
        store, NULL,
        "INSERT INTO web_user (id, created, " HASH_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?)",
        "sibbiii", user, (int64_t)time(NULL), hash.salt, sizeof(hash.salt), hash.hash,
        sizeof(hash.hash), (int64_t)hash.n, (int64_t)hash.r, (int64_t)hash.p);
    return acme_event_commit(
        store, st,
        &(struct acme_event){.at = time(NULL), .what = "web user added", .subject = user});
}

enum hsm_status
acme_server_web_user_remove(struct acme_store *store, const char *user)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, &changes, "DELETE FROM web_user WHERE id = ?", "s", user);
    if (st == HSM_OK && changes == 0)
        st = HSM_ERR_NOT_FOUND;
    return acme_event_commit(
        store, st,
        &(struct acme_event){.at = time(NULL), .what = "web user removed", .subject = user});
}

enum hsm_status
acme_server_web_users_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT id, created FROM web_user ORDER BY id", "");
    char at[HSM_TIME_LEN + 1];

    while (st == HSM_OK && acme_rows_next(rows)) {
        hsm_time_format((time_t)acme_rows_int(rows, 1), at);
        fprintf(to, "%s\tsince %s\n", acme_rows_text(rows, 0), at);
    }
    return st;
}

/* ---- recently verified passwords ---- */

/* The digest covers the stored hash, so a password is not recognized after it was changed. */
static bool
digest_of(const struct acme_web *web, const struct acme_basic *basic,
          const struct acme_password_hash *stored, uint8_t out[32])
{
    uint8_t octets[AUTHORIZATION_MAX + ACME_PASSWORD_HASH_LEN];
    unsigned len = 0;
    bool done;

    if (basic->len > AUTHORIZATION_MAX)
        return false;
    memcpy(octets, basic->user, basic->len); /* user, NUL, password */
    memcpy(octets + basic->len, stored->hash, sizeof(stored->hash));
    done = HMAC(EVP_sha256(), hsm_secret_octets(web->key), (int)hsm_secret_len(web->key), octets,
                basic->len + sizeof(stored->hash), out, &len) != NULL;
    OPENSSL_cleanse(octets, sizeof(octets));
    return done;
}

static bool
was_admitted(struct acme_web *web, const uint8_t digest[32], time_t now)
{
    bool found = false;

    pthread_mutex_lock(&web->mutex);
    for (size_t i = 0; i < ACME_WEB_ADMITTED_MAX; i++)
        found = found || (web->admitted[i].until > now &&
                          CRYPTO_memcmp(web->admitted[i].digest, digest, 32) == 0);
    pthread_mutex_unlock(&web->mutex);
    return found;
}

/* Replace the oldest. */
static void
remember(struct acme_web *web, const uint8_t digest[32], time_t now)
{
    size_t oldest = 0;

    pthread_mutex_lock(&web->mutex);
    for (size_t i = 1; i < ACME_WEB_ADMITTED_MAX; i++) {
        if (web->admitted[i].until < web->admitted[oldest].until)
            oldest = i;
    }
    memcpy(web->admitted[oldest].digest, digest, 32);
    web->admitted[oldest].until = now + ADMITTED_S;
    pthread_mutex_unlock(&web->mutex);
}

/* ---- authentication ---- */

static bool
refuse(struct acme_web_call *call)
{
    acme_http_response_header(call->response, "WWW-Authenticate",
                              "Basic realm=\"STI-CA status\", charset=\"UTF-8\"");
    acme_web_say(call, 401, "For the operator",
                 "This page wants the user and password of an"
                 " operator.");
    return false;
}

static enum hsm_status
find_user(struct acme_web_call *call, const char *user, struct acme_password_hash *out, bool *known)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(call->server->config.store, &rows,
                         "SELECT " HASH_COLUMNS " FROM web_user WHERE id = ?", "s", user);

    if (st != HSM_OK)
        return st;
    *known = acme_rows_next(rows);
    if (*known)
        return acme_password_hash_read(rows, 0, out);
    *out = acme_password_hash_of_nobody();
    return HSM_OK;
}

/* Passwords are hashed one at a time, with a limit per hour and address; a thread never waits. */
static bool
may_try(struct acme_web_call *call)
{
    char address[ACME_ADDRESS_MAX + 1];
    time_t wait_s = 0;
    enum hsm_status st;

    acme_limit_address(acme_http_request_peer(call->request), address);
    st = acme_limit_take(call->server->config.store, "logins", address, ACME_WEB_LOGINS, call->now,
                         &wait_s);
    if (st == HSM_OK && wait_s != 0) {
        acme_web_refuse_limit(call, "passwords from this address", wait_s);
        return false;
    }
    if (st == HSM_OK && pthread_mutex_trylock(&call->server->web->scrypt) != 0)
        st = HSM_ERR_BUSY;
    if (st != HSM_OK)
        acme_web_fault(call, st);
    return st == HSM_OK;
}

static bool
check_password(struct acme_web_call *call, const struct acme_basic *basic)
{
    struct acme_web *web = call->server->web;
    struct acme_password_hash stored;
    uint8_t digest[32];
    bool known = false, matches = false;
    enum hsm_status st = find_user(call, basic->user, &stored, &known);

    if (st != HSM_OK || !digest_of(web, basic, &stored, digest)) {
        acme_web_fault(call, st);
        return false;
    }
    if (known && was_admitted(web, digest, call->now))
        return true;
    if (!may_try(call))
        return false;
    st = acme_password_matches(basic->password, strlen(basic->password), &stored, &matches);
    pthread_mutex_unlock(&web->scrypt);
    if (st != HSM_OK) {
        acme_web_fault(call, st);
        return false;
    }
    if (!known || !matches) {
        hsm_log(HSM_LOG_WARNING, "status page: user or password not accepted, from %s",
                acme_http_request_peer(call->request));
        return refuse(call);
    }
    remember(web, digest, call->now);
    return true;
}

bool
acme_web_wants_operator(struct acme_web_call *call)
{
    const char *authorization = acme_http_request_header(call->request, "Authorization");
    const char *credentials = NULL;
    struct acme_basic basic = {.user = NULL};
    bool admitted;

    if (authorization != NULL && strlen(authorization) <= AUTHORIZATION_MAX)
        credentials = acme_after_scheme(authorization, "Basic");
    if (credentials == NULL || acme_basic_parse(credentials, &basic) != HSM_OK)
        return refuse(call);
    admitted = check_password(call, &basic);
    acme_basic_clear(&basic);
    return admitted;
}
