/* server_challenge.c - the tkauth-01 challenge: SPC tokens (RFC 9447, RFC 9448 sections 4 and 6).
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <acme/authority_token.h>
#include <acme/json.h>
#include <certs/tnauthlist.h>
#include <hsm/log.h>
#include <hsm/time.h>

json_t *
acme_challenge_object(const struct acme_server *server,
                      const struct acme_challenge_state *challenge)
{
    char url[ACME_URL_MAX + 1], time[HSM_TIME_LEN + 1];
    json_t *object;

    acme_server_url(server, "chall", challenge->id, NULL, url);
    object = json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "tkauth-01", "tkauth-type", "atc",
                       "url", url, "status", challenge->status, "token", challenge->token);
    if (object != NULL && challenge->validated != 0) {
        hsm_time_format(challenge->validated, time);
        if (json_object_set_new(object, "validated", json_string(time)) != 0)
            goto failed;
    }
    if (object != NULL && challenge->error != NULL &&
        json_object_set_new(object, "error", json_loads(challenge->error, 0, NULL)) != 0)
        goto failed;
    return object;
failed:
    json_decref(object);
    return NULL;
}

/* ---- the resource ---- */

struct challenge {
    struct acme_rows *rows; /* owned; the other members are borrowed from it */
    struct acme_challenge_state state;
    const char *authz, *authz_status;
    const uint8_t *tnauthlist;
    size_t tnauthlist_len;
    time_t authz_expires;
};

static bool
load_challenge(struct acme_call *call, struct challenge *challenge)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT authz.account, challenge.id, challenge.status, challenge.token, challenge.error,"
        " challenge.validated, authz.id, authz.status, authz.tnauthlist, authz.expires"
        " FROM challenge JOIN authz ON authz.id = challenge.authz WHERE challenge.id = ?",
        "s", call->params[0]);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (!acme_rows_next(rows)) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such challenge");
        return false;
    }
    if (strcmp(acme_rows_text(rows, 0), call->account) != 0) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "the challenge is another account's");
        return false;
    }
    challenge->state.id = acme_rows_text(rows, 1);
    challenge->state.status = acme_rows_text(rows, 2);
    challenge->state.token = acme_rows_text(rows, 3);
    challenge->state.error = acme_rows_text(rows, 4);
    challenge->state.validated = (time_t)acme_rows_int(rows, 5);
    challenge->authz = acme_rows_text(rows, 6);
    challenge->authz_status = acme_rows_text(rows, 7);
    challenge->tnauthlist = acme_rows_blob(rows, 8, &challenge->tnauthlist_len);
    challenge->authz_expires = (time_t)acme_rows_int(rows, 9);
    challenge->rows = rows;
    rows = NULL;
    return true;
}

static void
respond_challenge(struct acme_call *call, const struct challenge *challenge)
{
    char authz[ACME_URL_MAX + 1];

    acme_server_url(call->server, "authz", challenge->authz, NULL, authz);
    acme_call_link(call, authz, "up"); /* RFC 8555 section 7.5.1 */
    acme_call_json(call, 200, acme_challenge_object(call->server, &challenge->state));
}

/* ---- checking an SPC token ---- */

/*
 * True if the URL is at or below a configured one. Whole path segments are
 * compared, so that https://pa.example does not admit https://pa.example.net, and
 * ".." is refused.
 */
static bool
is_below(const char *url, const char *authority)
{
    size_t len = strlen(authority);

    if (strncmp(url, authority, len) != 0 || strstr(url, "..") != NULL)
        return false;
    return authority[len - 1] == '/' || url[len] == '/' || url[len] == '\0';
}

static bool
is_of_authority(const struct acme_server_config *config, const char *x5u)
{
    for (size_t i = 0; config->authorities[i] != NULL; i++) {
        if (is_below(x5u, config->authorities[i]))
            return true;
    }
    return false;
}

/* RFC 9448 section 6, steps 2 and 3: from an x5u below a configured URL, or from x5c. */
static enum hsm_status
find_signer(struct acme_server *server, const struct acme_authority_token *token, time_t now,
            struct certs_chain **out, struct acme_refusal *refusal)
{
    const char *x5u = acme_authority_token_x5u(token);
    enum hsm_status st;

    if (x5u == NULL) {
        st = certs_chain_new(out);
        return st == HSM_OK ? certs_chain_append(*out, acme_authority_token_x5c(token)) : st;
    }
    if (!is_of_authority(&server->config, x5u)) {
        refusal->error = ACME_UNAUTHORIZED;
        return hsm_refuse(&refusal->why, HSM_ERR_UNTRUSTED,
                          "SPC token: x5u %s is of no authority known here", x5u);
    }
    refusal->error = ACME_CONNECTION;
    return acme_signers_fetch(server, x5u, now, out, &refusal->why);
}

enum hsm_status
acme_token_check(struct acme_server *server, const struct acme_authority_token *token,
                 const struct certs_tnauthlist *identifier, EVP_PKEY *account_key, time_t now,
                 struct certs_chain **signer, struct acme_refusal *refusal)
{
    DEFER(certs_chain_free) struct certs_chain *found = NULL;
    struct acme_authority_token_policy policy = {
        .pa_anchors = server->config.pa_anchors,
        .verdicts = server->verdicts,
        .account_key = account_key,
        .identifier = identifier,
        .now = now,
    };
    enum hsm_status st = find_signer(server, token, now, &found, refusal);

    if (st != HSM_OK)
        return st;
    refusal->error = ACME_UNAUTHORIZED;
    policy.signer = found;
    st = acme_authority_token_check(token, &policy, &refusal->why);
    if (st != HSM_OK || signer == NULL)
        return st;
    *signer = found;
    found = NULL;
    return HSM_OK;
}

static enum hsm_status
check_token(struct acme_call *call, const struct challenge *challenge,
            const struct acme_authority_token *token, struct acme_refusal *refusal)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *identifier = NULL;
    enum hsm_status st = certs_tnauthlist_parse(challenge->tnauthlist, challenge->tnauthlist_len,
                                                &identifier, &refusal->why);

    return st == HSM_OK ? acme_token_check(call->server, token, identifier, call->key, call->now,
                                           NULL, refusal)
                        : st;
}

/* ---- storing the result, in one transaction ---- */

/* RFC 8555 section 7.1.6: challenge, authorization and order become valid, valid and ready. */
static enum hsm_status
write_valid(struct acme_call *call, const struct challenge *challenge,
            const struct acme_authority_token *token)
{
    struct acme_store *store = call->server->config.store;
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        store, &changes,
        "UPDATE challenge SET status = '" ACME_VALID "', validated = ?, jti = ?, token_exp = ?,"
        " ca = ? WHERE id = ? AND status = '" ACME_PENDING "'",
        "isiis", (int64_t)call->now, acme_authority_token_jti(token),
        (int64_t)acme_authority_token_exp(token), (int64_t)acme_authority_token_ca(token),
        challenge->state.id);

    if (st != HSM_OK || changes != 1) /* another request of this account was faster, or an error */
        return st;
    st = acme_store_run(store, NULL,
                        "UPDATE authz SET status = '" ACME_VALID "' WHERE id = ? AND"
                        " status = '" ACME_PENDING "'",
                        "s", challenge->authz);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_READY "' WHERE authz = ? AND"
                            " status = '" ACME_PENDING "'",
                            "s", challenge->authz);
    return st;
}

static enum hsm_status
write_invalid(struct acme_call *call, const struct challenge *challenge, const char *problem)
{
    struct acme_store *store = call->server->config.store;
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(store, &changes,
                                        "UPDATE challenge SET status = '" ACME_INVALID
                                        "', error = ? WHERE id = ? AND"
                                        " status = '" ACME_PENDING "'",
                                        "ss", problem, challenge->state.id);

    if (st != HSM_OK || changes != 1)
        return st;
    st = acme_store_run(store, NULL,
                        "UPDATE authz SET status = '" ACME_INVALID "' WHERE id = ? AND"
                        " status = '" ACME_PENDING "'",
                        "s", challenge->authz);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "UPDATE acme_order SET status = '" ACME_INVALID "', error = ? WHERE"
                            " authz = ? AND status = '" ACME_PENDING "'",
                            "ss", problem, challenge->authz);
    return st;
}

/* The result of checking a response to the challenge. */
struct verdict {
    struct acme_call *call;
    const struct challenge *challenge;
    const struct acme_authority_token *token; /* NULL: refused */
    const char *problem; /* the reason of a refusal */
};

static enum hsm_status
write_verdict(struct acme_store *store, void *context)
{
    const struct verdict *verdict = context;

    (void)store;
    return verdict->token != NULL
               ? write_valid(verdict->call, verdict->challenge, verdict->token)
               : write_invalid(verdict->call, verdict->challenge, verdict->problem);
}

/* @param token  NULL: refused */
static enum hsm_status
store_verdict(struct acme_call *call, const struct challenge *challenge,
              const struct acme_authority_token *token, const struct acme_refusal *refusal)
{
    struct verdict verdict = {.call = call, .challenge = challenge, .token = token};
    DEFER(json_decref) json_t *problem = NULL;
    DEFER(free) char *text = NULL;

    if (token == NULL) {
        problem = acme_problem_new(refusal->error, 403, refusal->why.text);
        text = acme_json_text(problem);
        if (text == NULL)
            return HSM_ERR_NOMEM;
    }
    verdict.problem = text;
    return acme_store_together(call->server->config.store, write_verdict, &verdict);
}

bool
acme_status_is_fault(enum hsm_status st)
{
    return st == HSM_ERR_NOMEM || st == HSM_ERR_IO || st == HSM_ERR_CRYPTO || st == HSM_ERR_USAGE;
}

/* The STI-PA is unavailable: that is not a fault of the token, and the client may send it again
 * (RFC 8555 section 8.2). */
static void
refuse_for_now(struct acme_call *call, const struct challenge *challenge,
               const struct acme_refusal *refusal)
{
    hsm_log(HSM_LOG_WARNING, "authorization %s waits: %s", challenge->authz, refusal->why.text);
    acme_http_response_header(call->response, "Retry-After", ACME_RETRY_AFTER);
    acme_call_refuse(call, refusal->error, 503, "%s", refusal->why.text);
}

static void
answer(struct acme_call *call, struct challenge *challenge, const char *text)
{
    DEFER(acme_authority_token_free) struct acme_authority_token *token = NULL;
    struct acme_refusal refusal = {.error = ACME_INCORRECT_RESPONSE};
    enum hsm_status checked = acme_authority_token_parse(text, &token, &refusal.why), st;

    if (checked == HSM_OK)
        checked = check_token(call, challenge, token, &refusal);
    if (checked == HSM_ERR_BUSY) {
        refuse_for_now(call, challenge, &refusal);
        return;
    }
    if (acme_status_is_fault(checked)) { /* it stays pending: the client may respond again */
        acme_call_fault(call, checked);
        return;
    }
    if (checked != HSM_OK)
        hsm_log(HSM_LOG_INFO, "authorization %s: %s", challenge->authz, refusal.why.text);
    st = store_verdict(call, challenge, checked == HSM_OK ? token : NULL, &refusal);
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    acme_rows_free(challenge->rows);
    challenge->rows = NULL;
    if (load_challenge(call, challenge))
        respond_challenge(call, challenge);
}

/* "tkauth" (RFC 9448 section 4) or "atc" (sent by deployed clients), not both. */
static bool
take_token(struct acme_call *call, const json_t *payload, const char **out)
{
    const char *tkauth = NULL, *atc = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st = acme_json_string_optional(payload, "tkauth", &tkauth, &why);

    if (st == HSM_OK)
        st = acme_json_string_optional(payload, "atc", &atc, &why);
    if (st == HSM_OK && (tkauth == NULL) == (atc == NULL))
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "wants the SPC token as one of tkauth and atc");
    if (st != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
        return false;
    }
    *out = tkauth != NULL ? tkauth : atc;
    return true;
}

/* RFC 8555 section 7.5.1: only a pending challenge of a pending authorization can be responded
 * to. */
static bool
is_answerable(struct acme_call *call, const struct challenge *challenge)
{
    if (challenge->authz_expires > call->now && strcmp(challenge->authz_status, ACME_PENDING) == 0)
        return true;
    acme_call_refuse(call, ACME_MALFORMED, 400, "the authorization is %s",
                     challenge->authz_expires <= call->now ? ACME_EXPIRED
                                                           : challenge->authz_status);
    return false;
}

void
acme_challenge(struct acme_call *call)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct challenge challenge = {.rows = NULL};
    const char *token = NULL;

    if (!load_challenge(call, &challenge))
        return;
    if (acme_call_is_read(call) || strcmp(challenge.state.status, ACME_PENDING) != 0) {
        respond_challenge(call, &challenge); /* read, or responded to before */
    } else if (is_answerable(call, &challenge) && acme_call_payload(call, &payload) &&
               take_token(call, payload, &token)) {
        answer(call, &challenge, token);
    }
    acme_rows_free(challenge.rows);
}
