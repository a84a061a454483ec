/* client_order.c - order, authorize, finalize, download (RFC 8555 section 7.4). */
#include "client_internal.h"
#include "link_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>

#define ROUNDS_MAX      64 /* changes of state of one order, at most */
#define ORDER_PAGES_MAX 256 /* of the account's list of orders that are read */
#define ORDERS_READ_MAX 256 /* unknown orders that are read in search of a lost one */

/* One order being processed. */
struct run {
    struct acme_client *client;
    const struct acme_client_order *order;
    const struct acme_client_identifier *identifiers;
    size_t identifier_count;
    char *url;
    struct acme_patience patience;
    enum acme_client_refused refused; /* what was refused, when the status is HSM_ERR_DENIED */
    struct hsm_reason *why;
};

/* Record what a status HSM_ERR_DENIED refers to. */
static enum hsm_status
refused(struct run *run, enum acme_client_refused what, enum hsm_status st)
{
    if (st == HSM_ERR_DENIED)
        run->refused = what;
    return st;
}

/* ---- authorizations ---- */

/* RFC 9447 section 3: type tkauth-01, tkauth-type atc. The token comes from the STI-PA that the
 * operator configured; a token-authority member is a hint of the CA and is ignored. */
static enum hsm_status
respond_with_spc_token(const struct run *run, const struct acme_client_challenge *challenge,
                       EVP_PKEY *account_key, char **payload)
{
    DEFER(free) char *token = NULL;
    DEFER(json_decref) json_t *object = NULL;
    bool atc = run->client->config.member == ACME_ATC;
    enum hsm_status st;

    if (strcmp(challenge->type, "tkauth-01") != 0 ||
        (challenge->tkauth_type != NULL && strcmp(challenge->tkauth_type, "atc") != 0))
        return HSM_ERR_UNSUPPORTED;
    st = run->order->spc_token(run->order->context, account_key, &token, run->why);
    if (st != HSM_OK)
        return st;
    object = json_pack("{s:s}", atc ? "atc" : "tkauth", token);
    *payload = acme_json_text(object);
    return *payload != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
respond(const struct run *run, const struct acme_client_challenge *challenge, char **payload)
{
    EVP_PKEY *account_key = hsm_key_public(run->client->config.account_key);

    if (run->order->tnauthlist != NULL)
        return respond_with_spc_token(run, challenge, account_key, payload);
    return run->order->respond(run->order->context, challenge, account_key, payload, run->why);
}

/* When a response was lost and is sent again, the challenge may no longer accept one: the
 * authorization shows the outcome. */
static enum hsm_status
look_again(struct run *run, const char *authz_url, size_t i)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    struct acme_authz_view authz;
    enum hsm_status st =
        acme_client_call_again(run->client, "authorization", authz_url, "", &answer, NULL);

    if (st == HSM_OK)
        st = refused(run, ACME_REFUSED_ORDER, acme_authz_parse(answer.body, &authz, NULL));
    if (st == HSM_OK && !authz.is_valid && (i >= authz.count || authz.offered[i].is_pending))
        return HSM_ERR_DENIED;
    return st;
}

/* Respond to the first challenge that is supported; *answered stays false when one was responded to
 * before. */
static enum hsm_status
answer_challenge(struct run *run, const char *authz_url, const struct acme_authz_view *authz,
                 bool *answered)
{
    for (size_t i = 0; i < authz->count; i++) {
        DEFER(free) char *payload = NULL;
        CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
        enum hsm_status st;

        if (!authz->offered[i].is_pending)
            return HSM_OK;
        st = respond(run, &authz->offered[i].challenge, &payload);
        if (st == HSM_ERR_UNSUPPORTED)
            continue;
        if (st != HSM_OK)
            return st;
        st = acme_client_call_again(run->client, "challenge", authz->offered[i].url, payload,
                                    &answer, run->why);
        if (st == HSM_ERR_DENIED)
            st = look_again(run, authz_url, i);
        *answered = st == HSM_OK;
        return st;
    }
    return hsm_refuse(run->why, HSM_ERR_UNSUPPORTED,
                      "authorization: no challenge that can be answered (for a TNAuthList: "
                      "tkauth-01)");
}

/* Process one authorization until it is valid. */
static enum hsm_status
authorize(struct run *run, const char *url)
{
    bool was_answered = false;

    for (int round = 0; round < ROUNDS_MAX; round++) {
        CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
        struct acme_authz_view authz;
        bool answered = false;
        enum hsm_status st =
            acme_client_call_again(run->client, "authorization", url, "", &answer, run->why);

        if (st == HSM_OK)
            st = acme_authz_parse(answer.body, &authz, run->why);
        if (st != HSM_OK || authz.is_valid)
            return refused(run, ACME_REFUSED_ORDER, st);
        if (!was_answered)
            st = answer_challenge(run, url, &authz, &answered);
        was_answered = was_answered || answered;
        if (st == HSM_OK && !answered) /* directly after the response, poll once without waiting */
            st = acme_client_wait(run->client, &run->patience, answer.reply.retry_after, run->why);
        if (st != HSM_OK)
            return st;
    }
    return hsm_refuse(run->why, HSM_ERR_BUSY, "authorization: still pending");
}

/* ---- a new order ---- */

static enum hsm_status
order_request(const struct run *run, bool with_replaces, char **out)
{
    DEFER(json_decref) json_t *identifiers = json_array();
    DEFER(json_decref) json_t *object = NULL;
    DEFER(free) char *certid = NULL;
    enum hsm_status st;

    for (size_t i = 0; i < run->identifier_count; i++)
        if (json_array_append_new(identifiers,
                                  json_pack("{s:s, s:s}", "type", run->identifiers[i].type, "value",
                                            run->identifiers[i].value)) != 0)
            return HSM_ERR_NOMEM;
    object = json_pack("{s:O}", "identifiers", identifiers);
    if (object == NULL)
        return HSM_ERR_NOMEM;
    if (with_replaces) {
        st = acme_client_certid(run->order->replaces, &certid);
        if (st == HSM_ERR_NOMEM ||
            (st == HSM_OK && json_object_set_new(object, "replaces", json_string(certid)) != 0))
            return HSM_ERR_NOMEM;
    }
    *out = acme_json_text(object);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* RFC 9773 section 5: `replaces` is sent to CAs that have renewalInfo. CAs refuse an order whose
 * certificate was replaced already, or belongs to another account, with various statuses and types
 * (409 alreadyReplaced, 403 unauthorized, 404 malformed). Then order without `replaces`, so that
 * the certificate does not expire. A refusal for another reason is repeated. */
static enum hsm_status
ask_new_order(struct run *run, struct acme_answer *answer)
{
    bool with_replaces =
        run->order->replaces != NULL && run->client->directory.renewal_info != NULL;
    DEFER(free) char *request = NULL;
    DEFER(free) char *plain = NULL;
    const char *url = run->client->directory.new_order;
    enum hsm_status st = order_request(run, with_replaces, &request);

    if (st == HSM_OK)
        st = acme_client_call(run->client, "newOrder", url, request, answer, run->why);
    if (st != HSM_ERR_DENIED || !with_replaces)
        return st;
    acme_answer_clear(answer);
    st = order_request(run, false, &plain);
    return st == HSM_OK ? acme_client_call(run->client, "newOrder", url, plain, answer, run->why)
                        : st;
}

static enum hsm_status
note(struct run *run)
{
    if (run->order->ordered == NULL)
        return HSM_OK;
    return run->order->ordered(run->order->context, run->url);
}

static enum hsm_status
new_order(struct run *run, struct acme_answer *answer)
{
    enum hsm_status st = ask_new_order(run, answer);

    if (st == HSM_OK)
        st = acme_client_location(answer, "newOrder", &run->url, run->why);
    return st == HSM_OK ? note(run) : st;
}

/* ---- an order of an earlier attempt that was not recorded ---- */

/* True if the order can be completed for this run; its object is then in `answer`. An unreadable
 * order cannot. */
static bool
is_orphan(struct run *run, const char *url, struct acme_answer *answer)
{
    struct acme_order_view view;

    acme_answer_clear(answer);
    return acme_client_call(run->client, "order", url, "", answer, NULL) == HSM_OK &&
           acme_order_parse(answer->body, &view, NULL) == HSM_OK &&
           (view.status == ACME_ORDER_PENDING || view.status == ACME_ORDER_READY) &&
           acme_order_is_for(answer->body, run->identifiers, run->identifier_count);
}

/* Search one page of the list; *found: run->url and `answer` are those of the order. */
static enum hsm_status
search_page(struct run *run, const json_t *page, unsigned *read, struct acme_answer *answer,
            bool *found)
{
    const json_t *urls = json_object_get(page, "orders");

    for (size_t i = 0; i < json_array_size(urls) && *read < ORDERS_READ_MAX; i++) {
        const char *url = json_string_value(json_array_get(urls, i));

        if (url == NULL || strlen(url) > ACME_CLIENT_URL_MAX ||
            run->order->is_known(run->order->context, url))
            continue;
        (*read)++;
        *found = is_orphan(run, url, answer);
        if (*found)
            return acme_client_replace_text(&run->url, url);
    }
    return HSM_OK;
}

/* HSM_ERR_NOT_FOUND: this was the last page. */
static enum hsm_status
next_page(const struct acme_answer *page, char **url)
{
    char *next = NULL;
    enum hsm_status st = acme_link_find(page->reply.link, "next", 0, &next);

    if (st != HSM_OK)
        return st;
    free(*url);
    *url = next;
    return HSM_OK;
}

/* RFC 8555 section 7.1.2.1. If the CA has no list, or does not return it, a new order is made, as
 * after any other loss. */
static enum hsm_status
search_orders(struct run *run, struct acme_answer *answer, bool *found)
{
    DEFER(free) char *url = NULL;
    unsigned read = 0;
    enum hsm_status st = HSM_OK;

    *found = false;
    if (run->order->is_known == NULL || run->client->orders == NULL)
        return HSM_OK;
    st = acme_client_replace_text(&url, run->client->orders);
    for (int pages = 0; st == HSM_OK && !*found && pages < ORDER_PAGES_MAX; pages++) {
        CLEAR_AFTER(acme_answer_clear) struct acme_answer page = {.body = NULL};

        st = acme_client_call_again(run->client, "orders", url, "", &page, run->why);
        if (st != HSM_OK)
            return st == HSM_ERR_DENIED || st == HSM_ERR_MALFORMED ? HSM_OK : st;
        st = search_page(run, page.body, &read, answer, found);
        if (st == HSM_OK && !*found)
            st = next_page(&page, &url);
    }
    if (st == HSM_ERR_NOT_FOUND) /* there was no further page */
        return HSM_OK;
    return st == HSM_OK && *found ? note(run) : st;
}

/* ---- the states of an order ---- */

/* A refusal without a problem document may come from a proxy: the order counts as unchanged. */
static enum hsm_status
read_order(struct run *run, struct acme_answer *answer)
{
    enum hsm_status st;

    acme_answer_clear(answer);
    st = acme_client_call_again(run->client, "order", run->url, "", answer, run->why);
    return answer->body != NULL || answer->reply.status == 404
               ? refused(run, ACME_REFUSED_ORDER, st)
               : st;
}

/* What a problem document of a finalization, or of an invalid order, refers to. */
static enum acme_client_refused
refused_by(const json_t *problem)
{
    return acme_problem_is(problem, ACME_BAD_CSR) || acme_problem_is(problem, ACME_BAD_PUBLIC_KEY)
               ? ACME_REFUSED_CSR
               : ACME_REFUSED_ORDER;
}

static enum hsm_status
finalize(struct run *run, const char *finalize_url, struct acme_answer *answer)
{
    DEFER(free) char *csr = acme_base64url_encode(run->order->csr, run->order->csr_len);
    DEFER(json_decref) json_t *object = csr != NULL ? json_pack("{s:s}", "csr", csr) : NULL;
    DEFER(free) char *payload = acme_json_text(object);
    DEFER(free) char *url = strdup(finalize_url); /* `answer` owns the other */
    enum hsm_status st;

    if (payload == NULL || url == NULL)
        return HSM_ERR_NOMEM;
    acme_answer_clear(answer);
    st = acme_client_post(run->client, url, payload, NULL, answer, run->why);
    /* not a refusal: the order was finalized before; read its state (section 7.4) */
    if (st == HSM_OK && acme_client_has_problem(answer, ACME_ORDER_NOT_READY))
        return read_order(run, answer);
    if (st == HSM_OK)
        st = refused(run, answer->body != NULL ? refused_by(answer->body) : ACME_REFUSED_OTHER,
                     acme_client_judge(run->client, answer, "finalize", run->why));
    if (st == HSM_OK && answer->body == NULL)
        st = hsm_refuse(run->why, HSM_ERR_MALFORMED, "finalize: the answer is not JSON");
    return st;
}

/* Outputs are written only when everything is there. */
static enum hsm_status
take_valid(struct run *run, const struct acme_order_view *view, struct certs_chain **chain)
{
    DEFER(free) char *x5u = NULL;
    enum hsm_status st;

    if (run->order->x5u != NULL && view->x5u != NULL && (x5u = strdup(view->x5u)) == NULL)
        return HSM_ERR_NOMEM;
    st = refused(run, ACME_REFUSED_ORDER,
                 acme_client_download(run->client, run->order, view->certificate, chain, run->why));
    if (st != HSM_OK || run->order->x5u == NULL)
        return st;
    *run->order->x5u = x5u;
    x5u = NULL; /* handed over */
    return HSM_OK;
}

static enum hsm_status
authorize_all(struct run *run, const struct acme_order_view *view, struct acme_answer *answer)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < view->authorization_count; i++)
        st = authorize(run, view->authorizations[i]);
    return st == HSM_OK ? read_order(run, answer) : st;
}

/* Do what the state of the order requires; *done: the chain was downloaded. */
static enum hsm_status
step(struct run *run, struct acme_answer *answer, struct certs_chain **chain, bool *done)
{
    struct acme_order_view view;
    enum hsm_status st = refused(run, refused_by(json_object_get(answer->body, "error")),
                                 acme_order_parse(answer->body, &view, run->why));

    if (st != HSM_OK)
        return st;
    switch (view.status) {
    case ACME_ORDER_PENDING:
        return authorize_all(run, &view, answer);
    case ACME_ORDER_READY:
        return finalize(run, view.finalize, answer);
    case ACME_ORDER_PROCESSING:
        st = acme_client_wait(run->client, &run->patience, answer->reply.retry_after, run->why);
        return st == HSM_OK ? read_order(run, answer) : st;
    case ACME_ORDER_VALID:
        *done = true;
        return take_valid(run, &view, chain);
    case ACME_ORDER_INVALID:
        break; /* refused in acme_order_parse() */
    }
    return HSM_ERR_DENIED;
}

static enum hsm_status
begin(struct run *run, struct acme_answer *answer)
{
    bool found = false;
    enum hsm_status st;

    if (run->order->resume_url != NULL) {
        st = acme_client_replace_text(&run->url, run->order->resume_url);
        return st == HSM_OK ? read_order(run, answer) : st;
    }
    st = search_orders(run, answer, &found);
    if (st != HSM_OK || found)
        return st;
    acme_answer_clear(answer);
    return new_order(run, answer);
}

static enum hsm_status
carry_through(struct run *run, struct certs_chain **chain)
{
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    bool done = false;
    enum hsm_status st = begin(run, &answer);

    for (int round = 0; st == HSM_OK && !done; round++)
        st = round < ROUNDS_MAX ? step(run, &answer, chain, &done)
                                : hsm_refuse(run->why, HSM_ERR_BUSY, "order: no progress");
    return st;
}

/* ---- identifiers ---- */

/* A TNAuthList identifier's value; free() it. NULL: out of memory. */
static char *
tnauthlist_value(const struct acme_client *client, const struct certs_tnauthlist *list)
{
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(list, &len);

    return client->config.tnauthlist_text == ACME_TNAUTHLIST_BASE64
               ? acme_base64_encode(der, len)
               : acme_base64url_encode(der, len); /* RFC 9448 section 3 */
}

enum hsm_status
acme_client_obtain(struct acme_client *client, const struct acme_client_order *order,
                   struct certs_chain **chain, struct hsm_reason *why)
{
    struct run run = {.client = client,
                      .order = order,
                      .identifiers = order->identifiers,
                      .identifier_count = order->identifier_count,
                      .why = why};
    DEFER(free) char *value = NULL;
    struct acme_client_identifier identifier = {.type = "TNAuthList"};
    enum hsm_status st = client->kid != NULL ? HSM_OK : acme_client_account(client, why);

    if (order->refused != NULL)
        *order->refused = ACME_REFUSED_OTHER;
    if (st != HSM_OK)
        return st;
    if (order->tnauthlist != NULL) {
        value = tnauthlist_value(client, order->tnauthlist);
        if (value == NULL)
            return HSM_ERR_NOMEM;
        identifier.value = value;
        run.identifiers = &identifier;
        run.identifier_count = 1;
    }
    acme_patience_start(&run.patience, client->config.poll_limit_s);
    st = carry_through(&run, chain);
    if (st == HSM_ERR_DENIED && order->refused != NULL)
        *order->refused = run.refused;
    free(run.url);
    return st;
}
