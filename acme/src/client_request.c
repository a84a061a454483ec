/* client_request.c - an ACME client's requests: nonces, JWS, answers (RFC 8555 section 6). */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/json.h>
#include <acme/jws.h>

#include <hsm/defer.h>
#include <hsm/use.h>

/* After badNonce (RFC 8555 section 6.5): some CAs refuse every second nonce as a test. */
#define NONCE_TRIES 20
#define CALL_TRIES  3 /* of a call that fails with a transient error */
#define CALL_WAIT_S 20 /* bound on the waits between them */

void
acme_answer_clear(struct acme_answer *answer)
{
    acme_http_reply_clear(&answer->reply);
    json_decref(answer->body);
    answer->body = NULL;
}

enum hsm_status
acme_client_replace_text(char **text, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    free(*text);
    *text = copy;
    return HSM_OK;
}

bool
acme_problem_is(const json_t *problem, enum acme_error error)
{
    const char *type = json_string_value(json_object_get(problem, "type"));
    size_t prefix = strlen(ACME_ERROR_PREFIX);

    return type != NULL && strncmp(type, ACME_ERROR_PREFIX, prefix) == 0 &&
           strcmp(type + prefix, acme_problem_type(error)) == 0;
}

bool
acme_client_has_problem(const struct acme_answer *answer, enum acme_error error)
{
    return answer->reply.status >= 400 && acme_problem_is(answer->body, error);
}

enum hsm_status
acme_client_judge(struct acme_client *client, const struct acme_answer *answer, const char *what,
                  struct hsm_reason *why)
{
    int status = answer->reply.status;
    char text[HSM_REASON_MAX];
    bool passes = status >= 500 || status == 429 || status == 408 ||
                  acme_client_has_problem(answer, ACME_RATE_LIMITED) ||
                  acme_client_has_problem(answer, ACME_BAD_NONCE);
    long asked = acme_retry_after_s(answer->reply.retry_after, time(NULL));

    client->retry_after_s = 0;
    if (status >= 200 && status < 300)
        return HSM_OK;
    if (passes && asked > 0)
        client->retry_after_s = (unsigned)asked;
    acme_problem_describe(answer->body, status, text);
    return hsm_refuse(why, passes ? HSM_ERR_BUSY : HSM_ERR_DENIED, "%s: %s", what, text);
}

static void
keep_nonce(struct acme_client *client, const struct acme_http_reply *reply)
{
    free(client->nonce);
    client->nonce = reply->replay_nonce != NULL ? strdup(reply->replay_nonce) : NULL;
}

static enum hsm_status
exchange(struct acme_client *client, const struct acme_http_fetch *fetch,
         struct acme_answer *answer, struct hsm_reason *why)
{
    enum hsm_status st = acme_http_fetch(client->config.http, fetch, &answer->reply, why);

    if (st != HSM_OK)
        return st;
    if (strstr(answer->reply.content_type, "json") == NULL || answer->reply.body_len == 0)
        return HSM_OK;
    st = acme_json_parse(answer->reply.body, answer->reply.body_len, &answer->body, why);
    /* an error without a readable document is still that error */
    return st == HSM_ERR_MALFORMED && answer->reply.status >= 400 ? HSM_OK : st;
}

enum hsm_status
acme_client_get(struct acme_client *client, const char *url, struct acme_answer *answer,
                struct hsm_reason *why)
{
    return exchange(client,
                    &(struct acme_http_fetch){.method = "GET",
                                              .url = url,
                                              .reply_max = ACME_REPLY_MAX,
                                              .timeout_ms = ACME_TIMEOUT_MS},
                    answer, why);
}

static enum hsm_status
fetch_nonce(struct acme_client *client, struct hsm_reason *why)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = exchange(client,
                                  &(struct acme_http_fetch){.method = "HEAD",
                                                            .url = client->directory.new_nonce,
                                                            .reply_max = ACME_REPLY_MAX,
                                                            .timeout_ms = ACME_TIMEOUT_MS},
                                  &answer, why);

    if (st == HSM_OK)
        st = acme_client_judge(client, &answer, "newNonce", why);
    if (st != HSM_OK)
        return st;
    keep_nonce(client, &answer.reply);
    if (client->nonce == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "newNonce: no Replay-Nonce");
    return HSM_OK;
}

/* RFC 8555 section 6.2: kid, or jwk before there is an account. */
static enum hsm_status
make_header(const struct acme_client *client, const struct acme_client_signer *signer,
            const char *url, char **out)
{
    DEFER(json_decref)
    json_t *header =
        json_pack("{s:s, s:s, s:s}", "alg", "ES256", "nonce", client->nonce, "url", url);
    json_t *jwk = NULL;
    enum hsm_status st = HSM_OK;
    int failed;

    if (header == NULL)
        return HSM_ERR_NOMEM;
    if (signer->kid == NULL)
        st = acme_jwk_new(hsm_key_public(signer->key), &jwk);
    if (st != HSM_OK)
        return st;
    failed = jwk != NULL ? json_object_set_new(header, "jwk", jwk)
                         : json_object_set_new(header, "kid", json_string(signer->kid));
    *out = failed == 0 ? acme_json_text(header) : NULL;
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* Count this signature as ACME; the TLS handshake signs with another key for another use. */
static enum hsm_status
sign_request(const struct acme_client_signer *signer, const char *header, const char *payload,
             char **out)
{
    HSM_USE_FOR(HSM_USE_ACME);

    return acme_jws_sign_flattened(header, payload, strlen(payload), signer->key, out);
}

static enum hsm_status
post_once(struct acme_client *client, const struct acme_client_signer *signer, const char *url,
          const char *payload, const char *accept, struct acme_answer *answer,
          struct hsm_reason *why)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *body = NULL;
    enum hsm_status st = HSM_OK;

    if (client->nonce == NULL)
        st = fetch_nonce(client, why);
    if (st == HSM_OK)
        st = make_header(client, signer, url, &header);
    if (st != HSM_OK)
        return st;
    st = sign_request(signer, header, payload, &body);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "key %s does not sign: %s", hsm_key_label(signer->key),
                          hsm_status_text(st));
    free(client->nonce); /* it may be used up even if no answer comes */
    client->nonce = NULL;
    st = exchange(client,
                  &(struct acme_http_fetch){.method = "POST",
                                            .url = url,
                                            .content_type = "application/jose+json",
                                            .accept = accept,
                                            .body = body,
                                            .body_len = strlen(body),
                                            .reply_max = ACME_REPLY_MAX,
                                            .timeout_ms = ACME_TIMEOUT_MS},
                  answer, why);
    if (st == HSM_OK)
        keep_nonce(client, &answer->reply);
    return st;
}

enum hsm_status
acme_client_post_as(struct acme_client *client, const struct acme_client_signer *signer,
                    const char *url, const char *payload, const char *accept,
                    struct acme_answer *answer, struct hsm_reason *why)
{
    for (int tries = 1;; tries++) {
        enum hsm_status st = post_once(client, signer, url, payload, accept, answer, why);

        if (st != HSM_OK || tries == NONCE_TRIES ||
            !acme_client_has_problem(answer, ACME_BAD_NONCE))
            return st;
        acme_answer_clear(answer);
    }
}

enum hsm_status
acme_client_post(struct acme_client *client, const char *url, const char *payload,
                 const char *accept, struct acme_answer *answer, struct hsm_reason *why)
{
    const struct acme_client_signer signer = {.key = client->config.account_key,
                                              .kid = client->kid};

    return acme_client_post_as(client, &signer, url, payload, accept, answer, why);
}

enum hsm_status
acme_client_call(struct acme_client *client, const char *what, const char *url, const char *payload,
                 struct acme_answer *answer, struct hsm_reason *why)
{
    enum hsm_status st = acme_client_post(client, url, payload, NULL, answer, why);

    if (st == HSM_OK)
        st = acme_client_judge(client, answer, what, why);
    if (st == HSM_OK && answer->body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "%s: the answer is not JSON", what);
    return st;
}

enum hsm_status
acme_client_call_again(struct acme_client *client, const char *what, const char *url,
                       const char *payload, struct acme_answer *answer, struct hsm_reason *why)
{
    struct acme_patience patience;

    acme_patience_start(&patience, CALL_WAIT_S);
    for (int tries = 1;; tries++) {
        enum hsm_status st = acme_client_call(client, what, url, payload, answer, why);

        if (st != HSM_ERR_BUSY || tries == CALL_TRIES ||
            acme_client_has_problem(answer, ACME_BAD_NONCE) ||
            acme_client_wait(client, &patience, answer->reply.retry_after, NULL) != HSM_OK)
            return st;
        acme_answer_clear(answer);
    }
}

enum hsm_status
acme_client_location(const struct acme_answer *answer, const char *what, char **out,
                     struct hsm_reason *why)
{
    const char *location = answer->reply.location;

    if (location == NULL || strlen(location) > ACME_CLIENT_URL_MAX || !acme_client_is_url(location))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: no usable Location", what);
    return acme_client_replace_text(out, location);
}
