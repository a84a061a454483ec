/* client.c - an ACME client: order, authorize, finalize, download (RFC 8555 section 7.4). */
#define _GNU_SOURCE /* asprintf */

#include <acme/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jws.h>
#include <acme/problem.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/use.h>

#define REPLY_MAX      65536 /* octets of a JSON answer */
#define TIMEOUT_MS     30000 /* of one request */
#define URL_MAX        2048 /* characters of a URL that the server names */
#define NONCE_TRIES    3 /* badNonce, RFC 8555 section 6.5 */
#define ROUNDS_MAX     64 /* states that one order may be seen in */
#define AUTHZS_MAX     16 /* authorizations of one order */
#define WAIT_FIRST_S   1 /* between polls without Retry-After; doubled ... */
#define WAIT_LONGEST_S 15 /* ... up to this */

DEFINE_DEFER(json_t, json_decref)
DEFINE_DEFER(struct acme_client, acme_client_free)
DEFINE_DEFER(char, free)

struct acme_client {
    struct acme_client_config config; /* its pointers are borrowed */
    char *new_nonce, *new_account, *new_order;
    char *revoke_cert; /* NULL: the CA has none */
    char *kid; /* NULL before acme_client_account() */
    char *nonce; /* the one to use next; NULL: ask newNonce */
};

/* One answer: its HTTP reply, its body when that is JSON, and its problem type. */
struct answer {
    struct acme_http_reply reply;
    json_t *body; /* NULL: empty, or not JSON */
};

static void
answer_clear(struct answer *answer)
{
    acme_http_reply_clear(&answer->reply);
    json_decref(answer->body);
    answer->body = NULL;
}

#define ANSWER __attribute__((cleanup(answer_clear))) struct answer

/* ---- the clock of one acme_client_obtain() ---- */

struct patience {
    time_t deadline; /* CLOCK_MONOTONIC seconds */
    unsigned next_s; /* without Retry-After */
};

static time_t
monotonic_now(void)
{
    struct timespec t = {.tv_sec = 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* Delta seconds or an HTTP date (RFC 9110 section 10.2.3); -1: absent or neither. */
static long
retry_after_s(const char *value)
{
    char *end = NULL;
    long seconds;
    time_t date;

    if (value == NULL || *value == '\0')
        return -1;
    errno = 0;
    seconds = strtol(value, &end, 10);
    if (*end == '\0' && errno == 0 && seconds >= 0)
        return seconds;
    date = curl_getdate(value, NULL);
    if (date == -1)
        return -1;
    seconds = (long)(date - time(NULL));
    return seconds > 0 ? seconds : 0;
}

/* Wait as the server asks; HSM_ERR_BUSY when that is past the deadline. */
static enum hsm_status
wait_before_poll(struct patience *patience, const char *retry_after, struct hsm_reason *why)
{
    long asked = retry_after_s(retry_after), left = (long)(patience->deadline - monotonic_now());
    struct timespec pause = {.tv_sec = asked >= 0 ? asked : (long)patience->next_s};

    if (pause.tv_sec < WAIT_FIRST_S)
        pause.tv_sec = WAIT_FIRST_S;
    if (pause.tv_sec > left)
        return hsm_refuse(why, HSM_ERR_BUSY, "the CA is still processing");
    if (patience->next_s < WAIT_LONGEST_S)
        patience->next_s *= 2;
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
        continue;
    return HSM_OK;
}

/* ---- requests ---- */

static enum hsm_status
replace_text(char **member, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    free(*member);
    *member = copy;
    return HSM_OK;
}

/* "TYPE: DETAIL" of a problem document, without the prefix of the type. */
static void
problem_text(const struct answer *answer, char text[HSM_REASON_MAX])
{
    const char *type = NULL, *detail = NULL;
    size_t prefix = strlen(ACME_ERROR_PREFIX);

    if (answer->body != NULL) {
        type = json_string_value(json_object_get(answer->body, "type"));
        detail = json_string_value(json_object_get(answer->body, "detail"));
    }
    if (type == NULL)
        snprintf(text, HSM_REASON_MAX, "HTTP status %d", answer->reply.status);
    else
        snprintf(text, HSM_REASON_MAX, "%s: %s",
                 strncmp(type, ACME_ERROR_PREFIX, prefix) == 0 ? type + prefix : type,
                 detail != NULL ? detail : "no detail");
}

static bool
has_problem(const struct answer *answer, enum acme_error error)
{
    const char *type = json_string_value(json_object_get(answer->body, "type"));
    size_t prefix = strlen(ACME_ERROR_PREFIX);

    return answer->reply.status >= 400 && type != NULL &&
           strncmp(type, ACME_ERROR_PREFIX, prefix) == 0 &&
           strcmp(type + prefix, acme_problem_type(error)) == 0;
}

/* Kind of a refusal: what may pass is HSM_ERR_BUSY. */
static enum hsm_status
judge(const struct answer *answer, const char *what, struct hsm_reason *why)
{
    char text[HSM_REASON_MAX];
    bool passes = answer->reply.status >= 500 || answer->reply.status == 429 ||
                  has_problem(answer, ACME_RATE_LIMITED) || has_problem(answer, ACME_BAD_NONCE);

    if (answer->reply.status >= 200 && answer->reply.status < 300)
        return HSM_OK;
    problem_text(answer, text);
    return hsm_refuse(why, passes ? HSM_ERR_BUSY : HSM_ERR_DENIED, "%s: %s", what, text);
}

static void
keep_nonce(struct acme_client *client, const struct acme_http_reply *reply)
{
    free(client->nonce);
    client->nonce = reply->replay_nonce != NULL ? strdup(reply->replay_nonce) : NULL;
}

static enum hsm_status
exchange(struct acme_client *client, const struct acme_http_fetch *fetch, struct answer *answer,
         struct hsm_reason *why)
{
    enum hsm_status st = acme_http_fetch(client->config.http, fetch, &answer->reply, why);

    if (st != HSM_OK)
        return st;
    keep_nonce(client, &answer->reply);
    if (strstr(answer->reply.content_type, "json") == NULL || answer->reply.body_len == 0)
        return HSM_OK;
    st = acme_json_parse(answer->reply.body, answer->reply.body_len, &answer->body, why);
    /* an error without a readable document is still that error */
    return st == HSM_ERR_MALFORMED && answer->reply.status >= 400 ? HSM_OK : st;
}

static enum hsm_status
fetch_nonce(struct acme_client *client, struct hsm_reason *why)
{
    ANSWER answer = {.body = NULL};
    enum hsm_status st = exchange(client,
                                  &(struct acme_http_fetch){.method = "HEAD",
                                                            .url = client->new_nonce,
                                                            .reply_max = REPLY_MAX,
                                                            .timeout_ms = TIMEOUT_MS},
                                  &answer, why);

    if (st == HSM_OK)
        st = judge(&answer, "newNonce", why);
    if (st == HSM_OK && client->nonce == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "newNonce: no Replay-Nonce");
    return st;
}

/* Who signs a request. */
struct signer {
    struct hsm_key *key;
    const char *kid; /* NULL: the header has the key's jwk */
};

static struct signer
account_signer(const struct acme_client *client)
{
    return (struct signer){.key = client->config.account_key, .kid = client->kid};
}

/* RFC 8555 section 6.2: kid, or before there is an account the jwk. */
static enum hsm_status
make_header(const struct acme_client *client, const struct signer *signer, const char *url,
            char **out)
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
    *out = failed == 0 ? json_dumps(header, JSON_COMPACT) : NULL;
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* The handshake with the server is another use of another key. */
static enum hsm_status
sign_request(const struct signer *signer, const char *header, const char *payload, char **out)
{
    HSM_USE_FOR(HSM_USE_ACME);

    return acme_jws_sign_flattened(header, payload, strlen(payload), signer->key, out);
}

static enum hsm_status
post_once(struct acme_client *client, const struct signer *signer, const char *url,
          const char *payload, const char *accept, struct answer *answer, struct hsm_reason *why)
{
    DEFER(free) char *header = NULL;
    DEFER(free) char *body = NULL;
    enum hsm_status st = HSM_OK;

    if (client->nonce == NULL)
        st = fetch_nonce(client, why);
    if (st == HSM_OK)
        st = make_header(client, signer, url, &header);
    if (st == HSM_OK)
        st = sign_request(signer, header, payload, &body);
    if (st != HSM_OK)
        return st;
    return exchange(client,
                    &(struct acme_http_fetch){.method = "POST",
                                              .url = url,
                                              .content_type = "application/jose+json",
                                              .accept = accept,
                                              .body = body,
                                              .body_len = strlen(body),
                                              .reply_max = REPLY_MAX,
                                              .timeout_ms = TIMEOUT_MS},
                    answer, why);
}

/**
 * A signed request, again with the fresh nonce when the server did not like the old one.
 *
 * @param payload  "": POST-as-GET (RFC 8555 section 6.3)
 * @param accept   NULL: any
 * HSM_OK whatever the status of the answer.
 */
static enum hsm_status
post_as(struct acme_client *client, const struct signer *signer, const char *url,
        const char *payload, const char *accept, struct answer *answer, struct hsm_reason *why)
{
    for (int tries = 1;; tries++) {
        enum hsm_status st = post_once(client, signer, url, payload, accept, answer, why);

        if (st != HSM_OK || tries == NONCE_TRIES || !has_problem(answer, ACME_BAD_NONCE))
            return st;
        answer_clear(answer);
    }
}

/* As post_as(), by the account. */
static enum hsm_status
post(struct acme_client *client, const char *url, const char *payload, const char *accept,
     struct answer *answer, struct hsm_reason *why)
{
    const struct signer signer = account_signer(client);

    return post_as(client, &signer, url, payload, accept, answer, why);
}

/* As post(), and anything but success is a refusal with the problem's words. */
static enum hsm_status
call(struct acme_client *client, const char *what, const char *url, const char *payload,
     struct answer *answer, struct hsm_reason *why)
{
    enum hsm_status st = post(client, url, payload, NULL, answer, why);

    if (st == HSM_OK)
        st = judge(answer, what, why);
    if (st == HSM_OK && answer->body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "%s: the answer is not JSON", what);
    return st;
}

/* ---- directory and account ---- */

static enum hsm_status
take_url(const json_t *directory, const char *name, char **out, struct hsm_reason *why)
{
    const char *url = NULL;
    enum hsm_status st = acme_json_string(directory, name, &url, why);

    if (st == HSM_OK && strlen(url) > URL_MAX)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "%s: too long", name);
    return st == HSM_OK ? replace_text(out, url) : st;
}

static enum hsm_status
read_directory(struct acme_client *client, struct hsm_reason *why)
{
    ANSWER answer = {.body = NULL};
    enum hsm_status st = exchange(client,
                                  &(struct acme_http_fetch){.method = "GET",
                                                            .url = client->config.directory_url,
                                                            .reply_max = REPLY_MAX,
                                                            .timeout_ms = TIMEOUT_MS},
                                  &answer, why);

    if (st == HSM_OK)
        st = judge(&answer, "directory", why);
    if (st == HSM_OK && answer.body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "directory: not JSON");
    if (st == HSM_OK)
        st = take_url(answer.body, "newNonce", &client->new_nonce, why);
    if (st == HSM_OK)
        st = take_url(answer.body, "newAccount", &client->new_account, why);
    if (st == HSM_OK)
        st = take_url(answer.body, "newOrder", &client->new_order, why);
    if (st == HSM_OK && json_object_get(answer.body, "revokeCert") != NULL)
        st = take_url(answer.body, "revokeCert", &client->revoke_cert, why);
    return st;
}

enum hsm_status
acme_client_new(const struct acme_client_config *config, struct acme_client **out,
                struct hsm_reason *why)
{
    DEFER(acme_client_free) struct acme_client *client = calloc(1, sizeof(*client));
    enum hsm_status st;

    if (client == NULL)
        return HSM_ERR_NOMEM;
    client->config = *config;
    st = read_directory(client, why);
    if (st != HSM_OK)
        return st;
    *out = client;
    client = NULL;
    return HSM_OK;
}

void
acme_client_free(struct acme_client *client)
{
    if (client == NULL)
        return;
    free(client->new_nonce);
    free(client->new_account);
    free(client->new_order);
    free(client->revoke_cert);
    free(client->kid);
    free(client->nonce);
    free(client);
}

static enum hsm_status
need_location(const struct answer *answer, const char *what, char **out, struct hsm_reason *why)
{
    const char *location = answer->reply.location;

    if (location == NULL || strlen(location) > URL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: no usable Location", what);
    return replace_text(out, location);
}

enum hsm_status
acme_client_account(struct acme_client *client, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *payload = json_pack("{s:b}", "termsOfServiceAgreed", 1);
    DEFER(free) char *text = NULL;
    ANSWER answer = {.body = NULL};
    enum hsm_status st;

    if (client->config.contact != NULL && payload != NULL &&
        json_object_set_new(payload, "contact", json_pack("[s]", client->config.contact)) != 0)
        return HSM_ERR_NOMEM;
    text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;
    if (text == NULL)
        return HSM_ERR_NOMEM;
    free(client->kid); /* newAccount is signed with the jwk */
    client->kid = NULL;
    st = call(client, "newAccount", client->new_account, text, &answer, why);
    return st == HSM_OK ? need_location(&answer, "newAccount", &client->kid, why) : st;
}

const char *
acme_client_kid(const struct acme_client *client)
{
    return client->kid;
}

/* ---- authorizations ---- */

static enum hsm_status
refuse_with_error(const json_t *object, const char *what, const char *status,
                  struct hsm_reason *why)
{
    struct answer problem = {.body = json_object_get(object, "error")}; /* borrowed */
    char text[HSM_REASON_MAX];

    if (problem.body == NULL)
        return hsm_refuse(why, HSM_ERR_DENIED, "%s is %s", what, status);
    problem_text(&problem, text);
    return hsm_refuse(why, HSM_ERR_DENIED, "%s is %s: %s", what, status, text);
}

/* RFC 9447 section 3: type tkauth-01, tkauth-type atc. */
static const json_t *
find_challenge(const json_t *authz)
{
    const json_t *challenges = json_object_get(authz, "challenges");

    for (size_t i = 0; i < json_array_size(challenges); i++) {
        const json_t *challenge = json_array_get(challenges, i);
        const char *type = json_string_value(json_object_get(challenge, "type"));
        const char *tkauth = json_string_value(json_object_get(challenge, "tkauth-type"));

        if (type != NULL && strcmp(type, "tkauth-01") == 0 &&
            (tkauth == NULL || strcmp(tkauth, "atc") == 0))
            return challenge;
    }
    return NULL;
}

/* The token comes from the STI-PA that the operator configured; a token-authority member is a hint
 * of the CA's (RFC 9447 section 3) and not followed. */
static enum hsm_status
answer_challenge(struct acme_client *client, const struct acme_client_order *order, const char *url,
                 struct hsm_reason *why)
{
    DEFER(free) char *token = NULL;
    DEFER(free) char *payload = NULL;
    DEFER(json_decref) json_t *object = NULL;
    ANSWER answer = {.body = NULL};
    enum hsm_status st =
        order->spc_token(order->context, hsm_key_public(client->config.account_key), &token, why);

    if (st != HSM_OK)
        return st;
    object = json_pack("{s:s}", client->config.member == ACME_ATC ? "atc" : "tkauth", token);
    payload = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (payload == NULL)
        return HSM_ERR_NOMEM;
    return call(client, "challenge", url, payload, &answer, why);
}

/* One look at an authorization, and what it asks for. *done: it is valid. */
static enum hsm_status
step_authz(struct acme_client *client, const struct acme_client_order *order, const char *url,
           bool *answered, bool *done, struct answer *answer, struct hsm_reason *why)
{
    const char *status = NULL, *challenge_status = NULL, *challenge_url = NULL;
    const json_t *challenge;
    enum hsm_status st = call(client, "authorization", url, "", answer, why);

    if (st == HSM_OK)
        st = acme_json_string(answer->body, "status", &status, why);
    if (st != HSM_OK)
        return st;
    *done = strcmp(status, "valid") == 0;
    if (*done)
        return HSM_OK;
    challenge = find_challenge(answer->body);
    if (strcmp(status, "pending") != 0)
        return refuse_with_error(challenge, "authorization", status, why);
    if (challenge == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "authorization: no tkauth-01 challenge");
    st = acme_json_string(challenge, "status", &challenge_status, why);
    if (st == HSM_OK)
        st = acme_json_string(challenge, "url", &challenge_url, why);
    if (st != HSM_OK || *answered || strcmp(challenge_status, "pending") != 0)
        return st;
    *answered = true;
    return answer_challenge(client, order, challenge_url, why);
}

static enum hsm_status
authorize(struct acme_client *client, const struct acme_client_order *order, const char *url,
          struct patience *patience, struct hsm_reason *why)
{
    bool answered = false, done = false;

    for (int round = 0; round < ROUNDS_MAX; round++) {
        ANSWER answer = {.body = NULL};
        bool had_answered = answered;
        enum hsm_status st = step_authz(client, order, url, &answered, &done, &answer, why);

        if (st != HSM_OK || done)
            return st;
        if (had_answered || !answered) { /* right after the answer look again at once */
            st = wait_before_poll(patience, answer.reply.retry_after, why);
            if (st != HSM_OK)
                return st;
        }
    }
    return hsm_refuse(why, HSM_ERR_BUSY, "authorization: still pending");
}

static enum hsm_status
authorize_all(struct acme_client *client, const struct acme_client_order *order,
              const json_t *object, struct patience *patience, struct hsm_reason *why)
{
    json_t *urls = NULL;
    enum hsm_status st = acme_json_array(object, "authorizations", &urls, why);

    if (st == HSM_OK && json_array_size(urls) > AUTHZS_MAX)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "order: too many authorizations");
    for (size_t i = 0; st == HSM_OK && i < json_array_size(urls); i++) {
        const char *url = json_string_value(json_array_get(urls, i));

        st = url != NULL ? authorize(client, order, url, patience, why)
                         : hsm_refuse(why, HSM_ERR_MALFORMED, "order: authorizations");
    }
    return st;
}

/* ---- the order ---- */

static enum hsm_status
new_order(struct acme_client *client, const struct acme_client_order *order, char **url,
          struct answer *answer, struct hsm_reason *why)
{
    DEFER(free) char *identifier = NULL;
    DEFER(free) char *payload = NULL;
    DEFER(json_decref) json_t *object = NULL;
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(order->tnauthlist, &len);
    enum hsm_status st;

    identifier = acme_base64url_encode(der, len); /* RFC 9448 section 3 */
    if (identifier != NULL)
        object =
            json_pack("{s:[{s:s, s:s}]}", "identifiers", "type", "TNAuthList", "value", identifier);
    payload = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (payload == NULL)
        return HSM_ERR_NOMEM;
    st = call(client, "newOrder", client->new_order, payload, answer, why);
    if (st == HSM_OK)
        st = need_location(answer, "newOrder", url, why);
    if (st == HSM_OK && order->ordered != NULL)
        st = order->ordered(order->context, *url);
    return st;
}

static enum hsm_status
read_order(struct acme_client *client, const char *url, struct answer *answer,
           struct hsm_reason *why)
{
    answer_clear(answer);
    return call(client, "order", url, "", answer, why);
}

/* orderNotReady is no refusal: somebody finalized it before, its state will tell (section 7.4). */
static enum hsm_status
finalize(struct acme_client *client, const struct acme_client_order *order, const char *url,
         struct answer *answer, struct hsm_reason *why)
{
    DEFER(free) char *csr = acme_base64url_encode(order->csr, order->csr_len);
    DEFER(json_decref) json_t *object = csr != NULL ? json_pack("{s:s}", "csr", csr) : NULL;
    DEFER(free) char *payload = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    DEFER(free) char *finalize_url = NULL;
    enum hsm_status st;

    if (payload == NULL)
        return HSM_ERR_NOMEM;
    st = take_url(answer->body, "finalize", &finalize_url, why);
    if (st != HSM_OK)
        return st;
    answer_clear(answer);
    st = post(client, finalize_url, payload, NULL, answer, why);
    if (st == HSM_OK && has_problem(answer, ACME_ORDER_NOT_READY))
        return read_order(client, url, answer, why);
    if (st == HSM_OK)
        st = judge(answer, "finalize", why);
    if (st == HSM_OK && answer->body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "finalize: the answer is not JSON");
    return st;
}

static enum hsm_status
download(struct acme_client *client, const json_t *object, struct certs_chain **chain,
         struct hsm_reason *why)
{
    ANSWER answer = {.body = NULL};
    const char *url = NULL;
    enum hsm_status st = acme_json_string(object, "certificate", &url, why);

    if (st == HSM_OK)
        st = post(client, url, "", "application/pem-certificate-chain", &answer, why);
    if (st == HSM_OK)
        st = judge(&answer, "certificate", why);
    if (st != HSM_OK)
        return st;
    /* RFC 8555 section 11.4: certificates and nothing else */
    return certs_chain_parse_pem(answer.reply.body, answer.reply.body_len, CERTS_CHAIN_LEN_MAX,
                                 chain, why);
}

/* What the present state of the order asks for (RFC 8555 section 7.4). */
static enum hsm_status
step_order(struct acme_client *client, const struct acme_client_order *order, const char *url,
           const char *status, struct answer *answer, struct patience *patience,
           struct hsm_reason *why)
{
    enum hsm_status st;

    if (strcmp(status, "ready") == 0)
        return finalize(client, order, url, answer, why);
    if (strcmp(status, "pending") == 0)
        st = authorize_all(client, order, answer->body, patience, why);
    else if (strcmp(status, "processing") == 0)
        st = wait_before_poll(patience, answer->reply.retry_after, why);
    else
        st = refuse_with_error(answer->body, "order", status, why);
    return st == HSM_OK ? read_order(client, url, answer, why) : st;
}

static enum hsm_status
carry_through(struct acme_client *client, const struct acme_client_order *order, const char *url,
              struct answer *answer, struct certs_chain **chain, struct hsm_reason *why)
{
    struct patience patience = {.deadline = monotonic_now() + client->config.poll_limit_s,
                                .next_s = WAIT_FIRST_S};

    for (int round = 0; round < ROUNDS_MAX; round++) {
        const char *status = NULL;
        enum hsm_status st = acme_json_string(answer->body, "status", &status, why);

        if (st == HSM_OK && strcmp(status, "valid") == 0)
            return download(client, answer->body, chain, why);
        if (st == HSM_OK)
            st = step_order(client, order, url, status, answer, &patience, why);
        if (st != HSM_OK)
            return st;
    }
    return hsm_refuse(why, HSM_ERR_BUSY, "order: no progress");
}

enum hsm_status
acme_client_obtain(struct acme_client *client, const struct acme_client_order *order,
                   struct certs_chain **chain, struct hsm_reason *why)
{
    DEFER(free) char *url = NULL;
    ANSWER answer = {.body = NULL};
    enum hsm_status st = HSM_OK;

    if (client->kid == NULL)
        st = acme_client_account(client, why);
    if (st != HSM_OK)
        return st;
    if (order->resume_url != NULL) {
        st = replace_text(&url, order->resume_url);
        if (st == HSM_OK)
            st = read_order(client, url, &answer, why);
    } else {
        st = new_order(client, order, &url, &answer, why);
    }
    return st == HSM_OK ? carry_through(client, order, url, &answer, chain, why) : st;
}

/* ---- revocation ---- */

static enum hsm_status
revocation_payload(const X509 *cert, int reason, char **out)
{
    DEFER(free) char *text = NULL;
    DEFER(json_decref) json_t *object = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = certs_cert_der(cert, &der, &len);

    if (st != HSM_OK)
        return st;
    text = acme_base64url_encode(der, len);
    free(der);
    if (text != NULL)
        object = json_pack("{s:s, s:i}", "certificate", text, "reason", reason);
    *out = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
acme_client_revoke(struct acme_client *client, const X509 *cert, int reason,
                   struct hsm_key *certificate_key, struct hsm_reason *why)
{
    struct signer signer = {.key = certificate_key};
    DEFER(free) char *payload = NULL;
    ANSWER answer = {.body = NULL};
    enum hsm_status st = HSM_OK;

    if (client->revoke_cert == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "the CA has no revokeCert");
    if (certificate_key == NULL && client->kid == NULL)
        st = acme_client_account(client, why);
    if (st == HSM_OK)
        st = revocation_payload(cert, reason, &payload);
    if (st != HSM_OK)
        return st;
    if (certificate_key == NULL)
        signer = account_signer(client);
    st = post_as(client, &signer, client->revoke_cert, payload, NULL, &answer, why);
    if (st == HSM_OK && has_problem(&answer, ACME_ALREADY_REVOKED))
        return hsm_refuse(why, HSM_ERR_EXISTS, "revokeCert: the certificate is revoked already");
    return st == HSM_OK ? judge(&answer, "revokeCert", why) : st;
}
