/* authority_oauth.c - access tokens for clients of OAuth 2.0: the client credentials grant (RFC
 * 6749 section 4.4). The client is the user of an account, authenticated by HTTP Basic. */

#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_internal.h"
#include "form_internal.h"

#define GRANT     "client_credentials"
#define PARAM_MAX 256 /* octets of a value */

enum param {
    PARAM_GRANT,
    PARAM_SCOPE,
    PARAM_SECRET,
    PARAMS
};

static void clear_params(struct acme_form_field (*params)[PARAMS])
{
    acme_form_clear(*params, PARAMS);
}

/* RFC 6749 section 5.2. */
static void
answer_error(struct acme_http_response *response, int status, const char *error,
             const char *description)
{
    if (status == 401)
        acme_http_response_header(response, "WWW-Authenticate", AUTHORITY_BASIC_CHALLENGE);
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(
        response, status, "application/json",
        json_pack("{s:s, s:s}", "error", error, "error_description", description));
}

/* ---- the request ---- */

/* A parameter without a value counts as absent (RFC 6749 section 3.2). */
static bool
is_given(const struct acme_form_field *param)
{
    return param->value != NULL && param->value[0] != '\0';
}

static bool
check_params(const struct acme_form_field *params, struct acme_http_response *response)
{
    if (!is_given(&params[PARAM_GRANT]))
        answer_error(response, 400, "invalid_request", "grant_type: missing");
    else if (is_given(&params[PARAM_SECRET]))
        answer_error(response, 400, "invalid_request",
                     "client_secret: the password is for Authorization: Basic");
    else if (strcmp(params[PARAM_GRANT].value, GRANT) != 0)
        answer_error(response, 400, "unsupported_grant_type", "grant_type: not " GRANT);
    else if (is_given(&params[PARAM_SCOPE]))
        answer_error(response, 400, "invalid_scope", "scope: there are none");
    else
        return true;
    return false;
}

static bool
take_request(const struct acme_http_request *request, struct acme_http_response *response)
{
    CLEAR_AFTER(clear_params)
    struct acme_form_field params[PARAMS] = {
        [PARAM_GRANT] = {.name = "grant_type", .max = PARAM_MAX},
        [PARAM_SCOPE] = {.name = "scope", .max = PARAM_MAX},
        [PARAM_SECRET] = {.name = "client_secret", .max = PARAM_MAX},
    };
    struct hsm_reason why = {""};
    size_t len;
    const char *body = acme_http_request_body(request, &len);
    enum hsm_status st;

    if (!acme_form_is_type(acme_http_request_header(request, "Content-Type"))) {
        answer_error(response, 400, "invalid_request", "Content-Type: not " ACME_FORM_TYPE);
        return false;
    }
    st = acme_form_pick(body, len, params, PARAMS, &why);
    if (st == HSM_OK)
        return check_params(params, response);
    if (st == HSM_ERR_NOMEM)
        acme_authority_answer_failure(response, st);
    else
        answer_error(response, 400, "invalid_request", why.text);
    return false;
}

/* ---- the client ---- */

/* Both texts are form-encoded inside Basic (RFC 6749 section 2.3.1). HSM_ERR_MALFORMED: there are
 * none, or they are invalid. */
static enum hsm_status
read_credentials(const struct acme_http_request *request, struct acme_basic *out)
{
    const char *authorization = acme_http_request_header(request, "Authorization");
    const char *credentials;
    enum hsm_status st;

    if (authorization == NULL || strlen(authorization) > AUTHORITY_AUTHORIZATION_MAX)
        return HSM_ERR_MALFORMED;
    credentials = acme_after_scheme(authorization, "Basic");
    if (credentials == NULL)
        return HSM_ERR_MALFORMED;
    st = acme_basic_parse(credentials, out);
    if (st != HSM_OK)
        return st;
    if (!acme_form_decode(out->user) || !acme_form_decode(out->password) ||
        !acme_json_can_carry(out->user))
        return HSM_ERR_MALFORMED;
    return HSM_OK;
}

/* ---- the answer ---- */

/* RFC 6749 section 5.1; there is no refresh token (section 4.4.3). */
static void
answer_token(const struct acme_authority *authority, const struct authority_session *session,
             struct acme_http_response *response)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_response_header(response, "Pragma", "no-cache");
    acme_http_respond_json(response, 200, "application/json",
                           json_pack("{s:s, s:s, s:I}", "access_token",
                                     hsm_secret_octets(session->access), "token_type", "Bearer",
                                     "expires_in",
                                     (json_int_t)authority->config.session_lifetime_s));
}

static void
answer_verdict(struct acme_authority *authority, const struct acme_http_request *request,
               enum authority_verdict verdict, struct acme_http_response *response)
{
    if (verdict == AUTHORITY_BUSY || verdict == AUTHORITY_LIMITED) {
        acme_authority_answer_verdict(authority, response, verdict);
        return;
    }
    hsm_log(HSM_LOG_WARNING, "STI-PA: login from %s refused", acme_http_request_peer(request));
    if (verdict == AUTHORITY_SUSPENDED)
        answer_error(response, 400, "unauthorized_client", "this account is suspended");
    else if (verdict == AUTHORITY_ELSEWHERE)
        answer_error(response, 400, "unauthorized_client",
                     "this account is not used from this address");
    else
        answer_error(response, 401, "invalid_client", "credentials not accepted");
}

/* The client does not get the refresh token, so that ends with the access token. */
void
acme_authority_serve_oauth(struct acme_authority *authority,
                           const struct acme_http_request *request, const char *param,
                           struct acme_http_response *response)
{
    CLEAR_AFTER(acme_authority_session_clear)
    struct authority_session session = {.refresh_s = authority->config.session_lifetime_s};
    CLEAR_AFTER(acme_basic_clear) struct acme_basic basic = {.user = NULL};
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    enum hsm_status st;

    (void)param;
    if (!take_request(request, response))
        return;
    st = read_credentials(request, &basic);
    if (st == HSM_OK)
        st = acme_authority_session_open(authority, request, basic.user, basic.password, &session,
                                         &verdict);
    if (st == HSM_OK && verdict == AUTHORITY_ADMITTED)
        answer_token(authority, &session, response);
    else if (st == HSM_OK)
        answer_verdict(authority, request, verdict, response);
    else if (st == HSM_ERR_MALFORMED)
        answer_error(response, 401, "invalid_client", "Basic user and password wanted");
    else
        acme_authority_answer_failure(response, st);
}
