/* authority_account.c - accounts of service providers: authentication, logins, sessions. */

#include <string.h>

#include <openssl/sha.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_internal.h"
#include "limit_internal.h"
#include "password_internal.h"

#define SESSION_TOKEN_LEN 32 /* random octets of an access or refresh token */
#define REFRESH_LIFETIMES 24 /* a refresh token lasts as long as this many access tokens */
#define LIMITS_FORGOTTEN  10000 /* rows deleted at once: other threads write in between */

void
acme_authority_answer_verdict(struct acme_authority *authority, struct acme_http_response *response,
                              enum authority_verdict verdict)
{
    char seconds[16];

    switch (verdict) {
    case AUTHORITY_ANONYMOUS: /* RFC 9110 section 15.5.2 */
        acme_http_response_header(response, "WWW-Authenticate", "Bearer");
        acme_http_response_header(response, "WWW-Authenticate", AUTHORITY_BASIC_CHALLENGE);
        acme_authority_answer_error(response, 401, "credentials wanted");
        return;
    case AUTHORITY_LIMITED: /* RFC 6585 section 4 */
        snprintf(seconds, sizeof(seconds), "%d",
                 ACME_AUTHORITY_FAILURES_S / ACME_AUTHORITY_FAILURES_MAX);
        acme_http_response_header(response, "Retry-After", seconds);
        acme_authority_answer_error(response, 429, "too many failed logins: try again later");
        return;
    case AUTHORITY_BUSY:
        if (!acme_authority_password_wait(authority, response))
            acme_authority_answer_failure(response, HSM_ERR_BUSY);
        return;
    case AUTHORITY_SUSPENDED:
        acme_authority_answer_error(response, 403, "this account is suspended");
        return;
    case AUTHORITY_ELSEWHERE:
        acme_authority_answer_error(response, 403, "this account is not used from this address");
        return;
    case AUTHORITY_REFUSED:
    case AUTHORITY_ADMITTED:
        break;
    }
    acme_authority_answer_error(response, 403,
                                "credentials not accepted"); /* RFC 9448 section 5.5 */
}

static enum hsm_status
admit_basic(struct acme_authority *authority, const struct acme_http_request *request,
            const char *credentials, enum authority_verdict *verdict,
            char account[ACME_AUTHORITY_ID_MAX + 1])
{
    struct acme_basic basic = {.user = NULL};
    struct authority_user found = {.account = ""};
    enum hsm_status st = acme_basic_parse(credentials, &basic);

    *verdict = AUTHORITY_REFUSED;
    if (st == HSM_OK)
        st = acme_authority_password_check(authority, request, basic.user, basic.password, verdict,
                                           &found);
    acme_basic_clear(&basic);
    if (st == HSM_OK && *verdict == AUTHORITY_ADMITTED)
        memcpy(account, found.account, sizeof(found.account));
    return st == HSM_ERR_MALFORMED ? HSM_OK : st;
}

static enum hsm_status
admit_session(struct acme_authority *authority, const char *token, enum authority_verdict *verdict,
              char account[ACME_AUTHORITY_ID_MAX + 1])
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    enum hsm_status st;

    SHA256((const unsigned char *)token, strlen(token), digest);
    st = acme_store_query(authority->config.store, &rows,
                          "SELECT account FROM session WHERE access = ? AND access_until > ?", "bi",
                          digest, sizeof(digest), (int64_t)acme_authority_now(authority));
    if (st != HSM_OK)
        return st;
    *verdict = acme_rows_next(rows) ? AUTHORITY_ADMITTED : AUTHORITY_REFUSED;
    if (*verdict == AUTHORITY_ADMITTED)
        snprintf(account, ACME_AUTHORITY_ID_MAX + 1, "%s", acme_rows_text(rows, 0));
    return HSM_OK;
}

/* A session's access token, or an API key. */
static enum hsm_status
admit_bearer(struct acme_authority *authority, const char *token, enum authority_verdict *verdict,
             char account[ACME_AUTHORITY_ID_MAX + 1])
{
    enum hsm_status st = admit_session(authority, token, verdict, account);

    return st == HSM_OK && *verdict != AUTHORITY_ADMITTED
               ? acme_authority_admit_api_key(authority, token, verdict, account)
               : st;
}

/* An Authorization header takes precedence over the client certificate of the connection. */
static enum hsm_status
identify(struct acme_authority *authority, const struct acme_http_request *request,
         enum authority_verdict *verdict, char account[ACME_AUTHORITY_ID_MAX + 1])
{
    const char *authorization = acme_http_request_header(request, "Authorization");
    const char *client = acme_http_request_client(request);
    const char *credentials;

    if (authorization == NULL || *authorization == '\0') {
        *verdict = client != NULL ? AUTHORITY_REFUSED : AUTHORITY_ANONYMOUS;
        return client != NULL ? acme_authority_admit_client(authority, client, verdict, account)
                              : HSM_OK;
    }
    if (strlen(authorization) > AUTHORITY_AUTHORIZATION_MAX) {
        *verdict = AUTHORITY_REFUSED;
        return HSM_OK;
    }
    credentials = acme_after_scheme(authorization, "Basic");
    if (credentials != NULL)
        return admit_basic(authority, request, credentials, verdict, account);
    credentials = acme_after_scheme(authorization, "Bearer");
    return admit_bearer(authority, credentials != NULL ? credentials : authorization, verdict,
                        account);
}

enum hsm_status
acme_authority_authenticate(struct acme_authority *authority,
                            const struct acme_http_request *request,
                            enum authority_verdict *verdict,
                            char account[ACME_AUTHORITY_ID_MAX + 1])
{
    enum hsm_status st;

    account[0] = '\0';
    st = identify(authority, request, verdict, account);
    return st == HSM_OK && *verdict == AUTHORITY_ADMITTED
               ? acme_authority_check_standing(authority, request, account, verdict)
               : st;
}

enum hsm_status
acme_authority_admit(struct acme_authority *authority, const struct acme_http_request *request,
                     const char *account_id, enum authority_verdict *verdict)
{
    char account[ACME_AUTHORITY_ID_MAX + 1];
    enum hsm_status st = acme_authority_authenticate(authority, request, verdict, account);

    if (st == HSM_OK && *verdict == AUTHORITY_ADMITTED && strcmp(account, account_id) != 0)
        *verdict = AUTHORITY_REFUSED;
    return st;
}

/* ---- sessions ---- */

void
acme_authority_session_clear(struct authority_session *session)
{
    hsm_secret_free(session->access);
    hsm_secret_free(session->refresh);
}

static enum hsm_status
session_new(struct authority_session *out)
{
    enum hsm_status st = hsm_secret_random(SESSION_TOKEN_LEN, &out->access);

    return st == HSM_OK ? hsm_secret_random(SESSION_TOKEN_LEN, &out->refresh) : st;
}

static enum hsm_status
insert_session(struct acme_authority *authority, const char *account,
               const struct authority_session *session)
{
    int64_t now = acme_authority_now(authority);
    uint8_t access_digest[SHA256_DIGEST_LENGTH];
    uint8_t refresh_digest[SHA256_DIGEST_LENGTH];

    SHA256((const unsigned char *)hsm_secret_octets(session->access),
           hsm_secret_len(session->access), access_digest);
    SHA256((const unsigned char *)hsm_secret_octets(session->refresh),
           hsm_secret_len(session->refresh), refresh_digest);
    return acme_store_run(
        authority->config.store, NULL,
        "INSERT INTO session (access, refresh, account, access_until, refresh_until)"
        " VALUES (?, ?, ?, ?, ?)",
        "bbsii", access_digest, sizeof(access_digest), refresh_digest, sizeof(refresh_digest),
        account, now + authority->config.session_lifetime_s, now + session->refresh_s);
}

/* End the transaction in which the verdict was reached: insert the session if the verdict is
 * AUTHORITY_ADMITTED, else roll back. */
static enum hsm_status
end_opening(struct acme_authority *authority, const char *account,
            const struct authority_session *session, enum authority_verdict verdict,
            enum hsm_status st)
{
    struct acme_store *store = authority->config.store;

    if (st == HSM_OK && verdict != AUTHORITY_ADMITTED) {
        acme_store_rollback(store);
        return HSM_OK;
    }
    if (st == HSM_OK)
        st = insert_session(authority, account, session);
    return acme_store_end(store, st);
}

/* If the password is changed while it is being checked, no session is opened. */
enum hsm_status
acme_authority_session_open(struct acme_authority *authority,
                            const struct acme_http_request *request, const char *user,
                            const char *password, struct authority_session *session,
                            enum authority_verdict *verdict)
{
    struct acme_store *store = authority->config.store;
    struct authority_user found = {.account = ""};
    enum hsm_status st =
        acme_authority_password_check(authority, request, user, password, verdict, &found);

    if (st == HSM_OK && *verdict == AUTHORITY_ADMITTED)
        st = acme_authority_check_standing(authority, request, found.account, verdict);
    if (st != HSM_OK || *verdict != AUTHORITY_ADMITTED)
        return st;
    st = session_new(session);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = acme_authority_password_confirm(store, &found, verdict);
    return end_opening(authority, found.account, session, *verdict, st);
}

static void
answer_session(const struct acme_authority *authority, const struct authority_session *session,
               struct acme_http_response *response)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, 200, "application/json",
                           json_pack("{s:s, s:s, s:s, s:s, s:I}", "status", "success", "message",
                                     "logged in", "accessToken", hsm_secret_octets(session->access),
                                     "refreshToken", hsm_secret_octets(session->refresh),
                                     "expiresIn",
                                     (json_int_t)authority->config.session_lifetime_s));
}

/* A session that its refresh token may renew. */
static struct authority_session
renewable_session(const struct acme_authority *authority)
{
    return (struct authority_session){.refresh_s = (int64_t)authority->config.session_lifetime_s *
                                                   REFRESH_LIFETIMES};
}

void
acme_authority_serve_login(struct acme_authority *authority,
                           const struct acme_http_request *request, const char *param,
                           struct acme_http_response *response)
{
    DEFER(json_decref) json_t *body = acme_authority_body(request, response);
    CLEAR_AFTER(acme_authority_session_clear)
    struct authority_session session = renewable_session(authority);
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    const char *user;
    const char *password;
    struct hsm_reason why;
    enum hsm_status st;

    (void)param;
    if (body == NULL)
        return;
    if (acme_json_string(body, "userId", &user, &why) != HSM_OK ||
        acme_json_string(body, "password", &password, &why) != HSM_OK) {
        acme_authority_answer_error(response, 400, why.text);
        return;
    }
    if (strlen(user) > ACME_AUTHORITY_USER_MAX) {
        acme_authority_answer_error(response, 400, "userId: too long");
        return;
    }
    st = acme_authority_session_open(authority, request, user, password, &session, &verdict);
    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
    } else if (verdict != AUTHORITY_ADMITTED) {
        if (verdict != AUTHORITY_BUSY)
            hsm_log(HSM_LOG_WARNING, "STI-PA: login from %s refused",
                    acme_http_request_peer(request));
        acme_authority_answer_verdict(authority, response, verdict);
    } else {
        answer_session(authority, &session, response);
    }
}

/* Find the account of a refresh token and delete the token: of two requests with the same token
 * only one is answered. Within a transaction. */
static enum hsm_status
spend_refresh_token(struct acme_authority *authority, const char *token,
                    char account[ACME_AUTHORITY_ID_MAX + 1], enum authority_verdict *verdict)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct acme_store *store = authority->config.store;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    enum hsm_status st;

    SHA256((const unsigned char *)token, strlen(token), digest);
    st = acme_store_query(store, &rows,
                          "SELECT account FROM session WHERE refresh = ? AND refresh_until > ?",
                          "bi", digest, sizeof(digest), (int64_t)acme_authority_now(authority));
    if (st != HSM_OK || !acme_rows_next(rows))
        return st;
    snprintf(account, ACME_AUTHORITY_ID_MAX + 1, "%s", acme_rows_text(rows, 0));
    *verdict = AUTHORITY_ADMITTED;
    return acme_store_run(store, NULL, "DELETE FROM session WHERE refresh = ?", "b", digest,
                          sizeof(digest));
}

/* The token stays valid if no session is opened. */
static enum hsm_status
open_by_refresh_token(struct acme_authority *authority, const struct acme_http_request *request,
                      const char *token, struct authority_session *session,
                      enum authority_verdict *verdict)
{
    char account[ACME_AUTHORITY_ID_MAX + 1] = "";
    enum hsm_status st = session_new(session);

    if (st == HSM_OK)
        st = acme_store_begin(authority->config.store);
    if (st != HSM_OK)
        return st;
    st = spend_refresh_token(authority, token, account, verdict);
    if (st == HSM_OK && *verdict == AUTHORITY_ADMITTED)
        st = acme_authority_check_standing(authority, request, account, verdict);
    return end_opening(authority, account, session, *verdict, st);
}

void
acme_authority_serve_relogin(struct acme_authority *authority,
                             const struct acme_http_request *request, const char *param,
                             struct acme_http_response *response)
{
    DEFER(json_decref) json_t *body = acme_authority_body(request, response);
    CLEAR_AFTER(acme_authority_session_clear)
    struct authority_session session = renewable_session(authority);
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    const char *token;
    struct hsm_reason why;
    enum hsm_status st;

    (void)param;
    if (body == NULL)
        return;
    if (acme_json_string(body, "refreshToken", &token, &why) != HSM_OK) {
        acme_authority_answer_error(response, 400, why.text);
        return;
    }
    st = open_by_refresh_token(authority, request, token, &session, &verdict);
    if (st != HSM_OK)
        acme_authority_answer_failure(response, st);
    else if (verdict != AUTHORITY_ADMITTED)
        acme_authority_answer_verdict(authority, response, verdict);
    else
        answer_session(authority, &session, response);
}

enum hsm_status
acme_authority_accounts_expire(struct acme_authority *authority)
{
    int64_t now = acme_authority_now(authority), count;
    enum hsm_status st = acme_store_run(authority->config.store, NULL,
                                        "DELETE FROM session WHERE refresh_until <= ?", "i", now);

    if (st != HSM_OK)
        return st;
    st = acme_limit_expire(authority->config.store, (time_t)now, LIMITS_FORGOTTEN, &count);
    return st == HSM_OK ? acme_authority_password_expire(authority) : st;
}
