/* test_client.c - mirrors acme/src/client.c: against our STI-CA, and against a CA that
 * misbehaves. */
#define _GNU_SOURCE /* asprintf */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <certs/cert.h>
#include <certs/csr.h>

#include "client_group.h"
#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a client with its callbacks ---- */

struct sp {
    const char *spc, *token_spc; /* NULL: the same */
    enum acme_tkauth_member member;
    unsigned poll_limit_s;
    const char *resume_url;
    int tokens, orders; /* calls for a token, and with a new order */
    char order_url[CA_URL_SIZE];
    bool refuse_order;
    struct hsm_reason why;
};

static enum hsm_status
spc_token(void *context, EVP_PKEY *key, char **token, struct hsm_reason *why)
{
    struct sp *sp = context;

    (void)why;
    sp->tokens++;
    *token =
        peer_token(&ca, &(struct token_plan){.spc = sp->token_spc != NULL ? sp->token_spc : sp->spc,
                                             .account_key = key});
    return HSM_OK;
}

static enum hsm_status
ordered(void *context, const char *url)
{
    struct sp *sp = context;

    sp->orders++;
    snprintf(sp->order_url, sizeof(sp->order_url), "%s", url);
    return sp->refuse_order ? HSM_ERR_IO : HSM_OK;
}

static struct acme_client *
client_of(const struct sp *sp)
{
    return client_group_new((struct acme_client_config){
        .contact = "mailto:noc@sp.example",
        .member = sp->member,
        .poll_limit_s = sp->poll_limit_s != 0 ? sp->poll_limit_s : 10,
    });
}

/* A fresh key for each certificate. */
static void
make_csr(const struct sp *sp, struct certs_tnauthlist **list, uint8_t **der, size_t *len)
{
    static int number;
    struct hsm_key *key = NULL;
    char label[32];

    snprintf(label, sizeof(label), "sp-%d", number++);
    assert_int_equal(hsm_key_generate(ca.pa.token, label, &key), HSM_OK);
    assert_int_equal(certs_tnauthlist_from_spc(sp->spc, list), HSM_OK);
    assert_int_equal(certs_csr_new(&(struct certs_csr_request){.tnauthlist = *list}, key, der, len),
                     HSM_OK);
    hsm_key_free(key);
}

static enum hsm_status
obtain(struct sp *sp, struct certs_chain **chain)
{
    struct acme_client *client = client_of(sp);
    struct certs_tnauthlist *list = NULL;
    uint8_t *csr = NULL;
    size_t len;
    enum hsm_status st;

    make_csr(sp, &list, &csr, &len);
    st = acme_client_obtain(client,
                            &(struct acme_client_order){.tnauthlist = list,
                                                        .spc_token = spc_token,
                                                        .context = sp,
                                                        .csr = csr,
                                                        .csr_len = len,
                                                        .ordered = ordered,
                                                        .resume_url = sp->resume_url},
                            chain, &sp->why);
    free(csr);
    certs_tnauthlist_free(list);
    acme_client_free(client);
    return st;
}

static void
assert_obtains(struct sp *sp)
{
    struct certs_chain *chain = NULL;
    struct certs_tnauthlist *list = NULL;

    if (obtain(sp, &chain) != HSM_OK)
        fail_msg("%s", sp->why.text);
    assert_int_equal(certs_cert_tnauthlist(certs_chain_get(chain, 0), &list, NULL), HSM_OK);
    assert_string_equal(certs_tnauthlist_spc(list), sp->spc);
    assert_int_equal(certs_chain_verify(chain, ca.root, CERTS_FOR_STI, ca_fixture_time(), &sp->why),
                     HSM_OK);
    certs_tnauthlist_free(list);
    certs_chain_free(chain);
}

/* ---- against our STI-CA ---- */

static void
a_certificate_is_obtained_with_either_member(void **state)
{
    struct sp tkauth = {.spc = "1234", .member = ACME_TKAUTH};
    struct sp atc = {.spc = "1234", .member = ACME_ATC};

    (void)state;
    assert_obtains(&tkauth);
    assert_obtains(&atc);
    assert_int_equal(tkauth.tokens, 1);
    assert_int_equal(tkauth.orders, 1);
}

static void
the_account_is_made_once_and_found_again(void **state)
{
    struct acme_client *client = client_of(&(struct sp){.spc = "1234"});
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE];

    (void)state;
    assert_null(acme_client_kid(client));
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    snprintf(kid, sizeof(kid), "%s", acme_client_kid(client));
    acme_client_free(client);
    client = client_of(&(struct sp){.spc = "1234"});
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    assert_string_equal(acme_client_kid(client), kid);
    acme_client_free(client);
}

static void
an_order_goes_on_where_it_was_left(void **state)
{
    struct sp stopped = {.spc = "1234", .refuse_order = true};
    struct sp resumed = {.spc = "1234"}, again = {.spc = "1234"};
    struct certs_chain *chain = NULL;

    (void)state;
    assert_int_equal(obtain(&stopped, &chain), HSM_ERR_IO); /* only what is recorded is done */
    assert_int_equal(stopped.tokens, 0);
    resumed.resume_url = stopped.order_url;
    assert_obtains(&resumed);
    assert_int_equal(resumed.orders, 0);
    again.resume_url = stopped.order_url; /* valid meanwhile */
    assert_obtains(&again);
    assert_int_equal(again.tokens, 0);
}

static void
a_refusal_says_what_the_ca_said(void **state)
{
    struct sp wrong_token = {.spc = "1234", .token_spc = "5678"};
    struct sp no_order = {.spc = "1234", .resume_url = "x"};
    struct sp bad_spc = {.spc = "abcd"};
    struct certs_chain *chain = NULL;
    char url[CA_URL_SIZE];

    (void)state;
    assert_int_equal(obtain(&wrong_token, &chain), HSM_ERR_DENIED);
    assert_non_null(strstr(wrong_token.why.text, "authorization is invalid: unauthorized: "));
    assert_int_equal(obtain(&bad_spc, &chain), HSM_ERR_DENIED);
    assert_non_null(strstr(bad_spc.why.text, "newOrder: rejectedIdentifier: "));
    snprintf(url, sizeof(url), "%s/acme/order/none", ca.pa.base_url);
    no_order.resume_url = url;
    assert_int_equal(obtain(&no_order, &chain), HSM_ERR_DENIED);
    assert_non_null(strstr(no_order.why.text, "order: malformed: "));
    assert_null(chain);
}

/* The nonces of the first `intercepted` POSTs are unknown to the server. */
static bool
lose_nonces(struct ca_fixture *fixture, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    (void)response;
    if (acme_http_request_method(request) == ACME_HTTP_POST &&
        atomic_fetch_sub(&fixture->intercepted, 1) > 0)
        ca_fixture_sql(fixture, "DELETE FROM nonce");
    return false;
}

static void
a_bad_nonce_is_replaced_and_not_for_ever(void **state)
{
    struct sp patient = {.spc = "1234"}, hopeless = {.spc = "1234"};
    struct certs_chain *chain = NULL;

    (void)state;
    ca.intercept = lose_nonces;
    atomic_store(&ca.intercepted, 2);
    assert_obtains(&patient);
    assert_int_equal(patient.orders, 1);
    atomic_store(&ca.intercepted, 1000);
    assert_int_equal(obtain(&hopeless, &chain), HSM_ERR_BUSY);
    assert_int_equal(atomic_load(&ca.intercepted), 980); /* twenty attempts */
    assert_non_null(strstr(hopeless.why.text, "badNonce"));
    ca.intercept = NULL;
}

/* ---- revocation ---- */

/* A certificate for that key. */
static struct certs_chain *
obtain_for(struct hsm_key *key)
{
    struct sp sp = {.spc = "1234"};
    struct acme_client *client = client_of(&sp);
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain = NULL;
    uint8_t *csr = NULL;
    size_t len;

    assert_int_equal(certs_tnauthlist_from_spc(sp.spc, &list), HSM_OK);
    assert_int_equal(
        certs_csr_new(&(struct certs_csr_request){.tnauthlist = list}, key, &csr, &len), HSM_OK);
    if (acme_client_obtain(client,
                           &(struct acme_client_order){.tnauthlist = list,
                                                       .spc_token = spc_token,
                                                       .context = &sp,
                                                       .csr = csr,
                                                       .csr_len = len},
                           &chain, &sp.why) != HSM_OK)
        fail_msg("%s", sp.why.text);
    free(csr);
    certs_tnauthlist_free(list);
    acme_client_free(client);
    return chain;
}

static void
a_certificate_is_revoked_once_by_its_account(void **state)
{
    struct acme_client *client = client_of(&(struct sp){.spc = "1234"});
    struct hsm_reason why = {""};
    struct hsm_key *key = NULL;
    struct certs_chain *chain;

    (void)state;
    assert_int_equal(hsm_key_generate(ca.pa.token, "revoked by account", &key), HSM_OK);
    chain = obtain_for(key);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 7, NULL, &why),
                     HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "badRevocationReason: "));
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 1, NULL, &why), HSM_OK);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE reason = 1 AND"
                                           " requester LIKE 'account %'"),
                     1);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 1, NULL, &why),
                     HSM_ERR_EXISTS);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(ca.root, 0), 1, NULL, &why),
                     HSM_ERR_DENIED);
    certs_chain_free(chain);
    hsm_key_free(key);
    acme_client_free(client);
}

static void
a_certificate_is_revoked_by_its_own_key_without_an_account(void **state)
{
    struct acme_client *client = client_of(&(struct sp){.spc = "1234"});
    struct hsm_reason why = {""};
    struct hsm_key *key = NULL;
    struct certs_chain *chain;

    (void)state;
    assert_int_equal(hsm_key_generate(ca.pa.token, "revoked by key", &key), HSM_OK);
    chain = obtain_for(key);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 1, ca.root_key, &why),
                     HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "unauthorized: "));
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 4, key, &why), HSM_OK);
    assert_null(acme_client_kid(client));
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM revocation WHERE reason = 4 AND"
                                           " requester = 'certificate key'"),
                     1);
    certs_chain_free(chain);
    hsm_key_free(key);
    acme_client_free(client);
}

static bool
answer_without_revoke_cert(struct ca_fixture *fixture, const struct acme_http_request *request,
                           struct acme_http_response *response)
{
    char body[2048];
    const char *base = fixture->pa.base_url;

    if (strcmp(acme_http_request_path(request), "/acme/directory") != 0)
        return false;
    snprintf(body, sizeof(body),
             "{\"newNonce\":\"%s/acme/new-nonce\",\"newAccount\":\"%s/acme/new-account\","
             "\"newOrder\":\"%s/acme/new-order\"}",
             base, base, base);
    acme_http_respond(response, 200, "application/json", body, strlen(body));
    return true;
}

static void
a_ca_without_revoke_cert_is_not_asked(void **state)
{
    struct acme_client *client;
    struct hsm_reason why = {""};

    (void)state;
    ca.intercept = answer_without_revoke_cert;
    client = client_of(&(struct sp){.spc = "1234"});
    assert_int_equal(acme_client_revoke(client, certs_chain_get(ca.root, 0), 1, NULL, &why),
                     HSM_ERR_UNSUPPORTED);
    acme_client_free(client);
    ca.intercept = NULL;
}

/* ---- against a CA that follows a script ---- */

#define STATES_MAX 4

struct script {
    const char *what;
    const char *states[STATES_MAX]; /* of the order, one for each read; the last stays */
    const char *retry_after;
    const char *certificate; /* body of the download */
    int new_order_status; /* 0: 201 */
    const char *new_order_body, *no_location;
    enum hsm_status wanted;
    const char *why; /* contained in the reason */
};

static const struct script *script;

static void
answer_order(const char *state, int status, struct acme_http_response *response)
{
    char url[CA_URL_SIZE], body[2048];

    snprintf(url, sizeof(url), "%s/acme", ca.pa.base_url);
    snprintf(body, sizeof(body),
             "{\"status\":\"%s\",\"identifiers\":[],\"authorizations\":[],\"finalize\":"
             "\"%s/order/1/finalize\",\"certificate\":\"%s/cert/1\"%s}",
             state, url, url,
             strcmp(state, "invalid") == 0
                 ? ",\"error\":{\"type\":\"urn:ietf:params:acme:error:serverInternal\","
                   "\"detail\":\"out of ink\"}"
                 : "");
    if (script->retry_after != NULL)
        acme_http_response_header(response, "Retry-After", script->retry_after);
    acme_http_respond(response, status, "application/json", body, strlen(body));
}

static void
answer_new_order(struct acme_http_response *response)
{
    char url[CA_URL_SIZE];

    snprintf(url, sizeof(url), "%s/acme/order/1", ca.pa.base_url);
    if (script->no_location == NULL)
        acme_http_response_header(response, "Location", url);
    if (script->new_order_status != 0)
        acme_http_respond(response, script->new_order_status, "application/problem+json",
                          script->new_order_body, strlen(script->new_order_body));
    else
        answer_order("ready", 201, response);
}

static bool
play(struct ca_fixture *fixture, const struct acme_http_request *request,
     struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);
    int n;

    if (strcmp(path, "/acme/new-order") == 0) {
        answer_new_order(response);
    } else if (strcmp(path, "/acme/order/1/finalize") == 0 || strcmp(path, "/acme/order/1") == 0) {
        n = atomic_fetch_add(&fixture->intercepted, 1);
        while (n > 0 && (n >= STATES_MAX || script->states[n] == NULL))
            n--;
        answer_order(script->states[n], 200, response);
    } else if (strcmp(path, "/acme/cert/1") == 0) {
        acme_http_respond(response, 200, "application/pem-certificate-chain", script->certificate,
                          strlen(script->certificate));
    } else {
        return false; /* the real server answers directory, nonces and accounts */
    }
    return true;
}

static void
every_answer_of_a_ca_ends_in_a_chain_or_a_reason(void **state)
{
    char *chain_pem = data_text("self/sp-1234.chain.pem", NULL);
    char *key_pem = data_text("self/sp-1234.key.pem", NULL), *both = NULL;
    char *long_text = malloc(70001);

    (void)state;
    memset(long_text, ' ', 70000);
    long_text[70000] = '\0';
    assert_true(asprintf(&both, "%s%s", chain_pem, key_pem) > 0);
    const struct script scripts[] = {
        {.what = "valid at once", .states = {"valid"}, .certificate = chain_pem},
        {.what = "processing, then valid",
         .states = {"processing", "valid"},
         .retry_after = "1",
         .certificate = chain_pem},
        {.what = "invalid", .states = {"invalid"}, .wanted = HSM_ERR_DENIED, .why = "out of ink"},
        {.what = "processing for an hour",
         .states = {"processing"},
         .retry_after = "3600",
         .wanted = HSM_ERR_BUSY,
         .why = "processing"},
        {.what = "unknown state", .states = {"baking"}, .wanted = HSM_ERR_DENIED, .why = "baking"},
        {.what = "a private key in the chain",
         .states = {"valid"},
         .certificate = both,
         .wanted = HSM_ERR_MALFORMED},
        {.what = "no PEM",
         .states = {"valid"},
         .certificate = "<html>",
         .wanted = HSM_ERR_MALFORMED},
        {.what = "an endless answer",
         .states = {"valid"},
         .certificate = long_text,
         .wanted = HSM_ERR_MALFORMED},
        {.what = "503",
         .states = {"valid"},
         .new_order_status = 503,
         .new_order_body = "",
         .wanted = HSM_ERR_BUSY,
         .why = "503"},
        {.what = "rate limited",
         .states = {"valid"},
         .new_order_status = 429,
         .new_order_body =
             "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"slow down\"}",
         .wanted = HSM_ERR_BUSY,
         .why = "rateLimited: slow down"},
        {.what = "another type of problem",
         .states = {"valid"},
         .new_order_status = 403,
         .new_order_body = "{\"type\":\"about:blank\",\"detail\":\"no\"}",
         .wanted = HSM_ERR_DENIED,
         .why = "newOrder: about:blank: no"},
        {.what = "a problem that is none",
         .states = {"valid"},
         .new_order_status = 403,
         .new_order_body = "{{{",
         .wanted = HSM_ERR_DENIED,
         .why = "HTTP status 403"},
        {.what = "success that is no JSON",
         .states = {"valid"},
         .new_order_status = 201,
         .new_order_body = "{{{",
         .wanted = HSM_ERR_MALFORMED},
        {.what = "no Location",
         .states = {"valid"},
         .no_location = "",
         .wanted = HSM_ERR_MALFORMED,
         .why = "Location"},
    };
    ca.intercept = play;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        struct sp sp = {.spc = "1234", .poll_limit_s = 5};
        struct certs_chain *chain = NULL;
        enum hsm_status st;

        script = &scripts[i];
        atomic_store(&ca.intercepted, 0);
        st = obtain(&sp, &chain);
        if (st != script->wanted ||
            (script->why != NULL && strstr(sp.why.text, script->why) == NULL))
            fail_msg("%s: %s, %s", script->what, hsm_status_text(st), sp.why.text);
        assert_true((chain != NULL) == (st == HSM_OK));
        certs_chain_free(chain);
    }
    ca.intercept = NULL;
    free(chain_pem);
    free(key_pem);
    free(both);
    free(long_text);
}

static bool
bare_directory(struct ca_fixture *fixture, const struct acme_http_request *request,
               struct acme_http_response *response)
{
    const char *body = "{\"newNonce\":\"https://127.0.0.1:1/n\",\"newAccount\":7}";

    (void)fixture;
    (void)request;
    acme_http_respond(response, 200, "application/json", body, strlen(body));
    return true;
}

static void
a_directory_without_its_resources_is_refused(void **state)
{
    struct acme_client *client = NULL;
    struct hsm_reason why = {""};
    struct acme_client_config config = {.http = ca.pa.http, .account_key = account_key};

    (void)state;
    ca.intercept = bare_directory;
    config.directory_url = ca.authority;
    assert_int_equal(acme_client_new(&config, &client, &why), HSM_ERR_MALFORMED);
    ca.intercept = NULL;
    config.directory_url = "https://127.0.0.1:1/directory";
    assert_int_equal(acme_client_new(&config, &client, &why), HSM_ERR_BUSY);
    config.directory_url = "http://127.0.0.1:1/directory";
    assert_int_equal(acme_client_new(&config, &client, &why), HSM_ERR_MALFORMED);
    assert_null(client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_is_obtained_with_either_member),
        cmocka_unit_test(the_account_is_made_once_and_found_again),
        cmocka_unit_test(an_order_goes_on_where_it_was_left),
        cmocka_unit_test(a_refusal_says_what_the_ca_said),
        cmocka_unit_test(a_bad_nonce_is_replaced_and_not_for_ever),
        cmocka_unit_test(a_certificate_is_revoked_once_by_its_account),
        cmocka_unit_test(a_certificate_is_revoked_by_its_own_key_without_an_account),
        cmocka_unit_test(a_ca_without_revoke_cert_is_not_asked),
        cmocka_unit_test(every_answer_of_a_ca_ends_in_a_chain_or_a_reason),
        cmocka_unit_test(a_directory_without_its_resources_is_refused),
    };

    return cmocka_run_group_tests(tests, client_group_start, client_group_stop);
}
