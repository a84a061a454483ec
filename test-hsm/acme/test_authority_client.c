/* test_authority_client.c - mirrors acme/src/authority_client.c, against an STI-PA that misbehaves.
 */
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

#include <jansson.h>

#include <acme/authority_client.h>
#include <acme/authority_token.h>
#include <acme/ca_list.h>
#include <certs/crl.h>

#include "pa_fixture.h"

#define FP                                                                                         \
    "SHA256 "                                                                                      \
    "0B:15:90:71:2D:0D:19:FD:9D:34:6A:C6:80:59:3E:1B:0A:21:34:AE:65:01:45:41:06:D5:EA:F2:D9:4C:"   \
    "66:EC"
#define LOGGED_IN "{\"status\":\"success\",\"accessToken\":\"acc-ess\",\"refreshToken\":\"r\"}"

#define ANSWERS_MAX 4

/* The answer of the STI-PA to a path. */
struct answer {
    const char *path;
    int status;
    const char *body;
    size_t len;
};

static struct pa_fixture pa;
static struct answer answers[ANSWERS_MAX];
static char *signer_pem, *crl_signer_pem;
static char signer_url[128], crl_signer_url[128];
static struct certs_tnauthlist *tnauthlist;
static struct hsm_secret *password;

/* of the last request */
static char last_path[256], last_authorization[256], last_body[2048], last_login[2048];

static void
answer(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);
    const char *authorization = acme_http_request_header(request, "Authorization");
    size_t len;

    (void)context;
    snprintf(last_path, sizeof(last_path), "%s", path);
    snprintf(last_authorization, sizeof(last_authorization), "%s",
             authorization != NULL ? authorization : "");
    snprintf(last_body, sizeof(last_body), "%s", acme_http_request_body(request, &len));
    if (strcmp(path, "/api/v1/auth/login") == 0)
        memcpy(last_login, last_body, sizeof(last_login));
    for (size_t i = 0; i < ANSWERS_MAX && answers[i].path != NULL; i++) {
        if (strcmp(path, answers[i].path) == 0) {
            acme_http_respond(response, answers[i].status, "application/octet-stream",
                              answers[i].body, answers[i].len);
            return;
        }
    }
    if (strcmp(path, "/signer.pem") == 0)
        acme_http_respond(response, 200, "application/pem-certificate-chain", signer_pem,
                          strlen(signer_pem));
    else if (strcmp(path, "/crl-signer.pem") == 0)
        acme_http_respond(response, 200, "application/pem-certificate-chain", crl_signer_pem,
                          strlen(crl_signer_pem));
    else
        acme_http_respond(response, 404, "text/plain", "no", 2);
}

static void
script(size_t i, const char *path, int status, const char *body)
{
    answers[i] = (struct answer){path, status, body, strlen(body)};
}

static int
start(void **state)
{
    (void)state;
    pa_fixture_start(&pa, (struct acme_http_handler){.handle = answer});
    assert_int_equal(certs_chain_pem(pa.signer_chain, &signer_pem), HSM_OK);
    assert_int_equal(certs_chain_pem(pa.crl_chain, &crl_signer_pem), HSM_OK);
    snprintf(signer_url, sizeof(signer_url), "%s/signer.pem", pa.base_url);
    snprintf(crl_signer_url, sizeof(crl_signer_url), "%s/crl-signer.pem", pa.base_url);
    assert_int_equal(certs_tnauthlist_from_spc("1234", &tnauthlist), HSM_OK);
    assert_int_equal(hsm_secret_new("pass\"word", 9, &password), HSM_OK);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    free(signer_pem);
    free(crl_signer_pem);
    certs_tnauthlist_free(tnauthlist);
    hsm_secret_free(password);
    pa_fixture_stop(&pa);
    return 0;
}

static int
clear(void **state)
{
    (void)state;
    memset(answers, 0, sizeof(answers));
    return 0;
}

/* ---- origins ---- */

static void
origins_are_compared_as_rfc_6454_says(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"https://pa.example/a", "https://pa.example/b?c", true},
        {"https://pa.example", "HTTPS://PA.EXAMPLE:443/", true},
        {"https://pa.example:8443/a", "https://pa.example:8443/b", true},
        {"https://[::1]:8443/a", "https://[::1]:8443/b", true},
        {"https://pa.example", "https://pa.example:8443", false},
        {"https://pa.example", "http://pa.example:443", false},
        {"http://pa.example", "http://pa.example", false},
        {"https://pa.example", "https://pa.example.evil.example", false},
        {"https://pa.example", "https://pa.example@evil.example", false},
        {"https://pa.example", "https://evil.example/pa.example", false},
        {"https://pa.example", "https://user@pa.example", false},
        {"https://pa.example", "pa.example", false},
        {"https://pa.example", "//pa.example/", false},
        {"https://pa.example", "", false},
        {"", "", false},
        {"https://pa.example", "ftp://pa.example", false},
        {"https://pa.example", "https://", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (acme_url_same_origin(rows[i].a, rows[i].b) != rows[i].same ||
            acme_url_same_origin(rows[i].b, rows[i].a) != rows[i].same)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
    }
}

/* ---- SPC tokens ---- */

static char *
token_answer(const struct certs_tnauthlist *list, bool ca, const char *fingerprint)
{
    struct acme_authority_token_request request = {
        .x5u = signer_url,
        .exp = time(NULL) + 3600,
        .jti = "jti-1",
        .tnauthlist = list,
        .ca = ca,
        .fingerprint = fingerprint,
    };
    char *token = NULL;
    char *body = NULL;

    assert_int_equal(acme_authority_token_new(&request, pa.signer_key, &token), HSM_OK);
    assert_true(
        asprintf(&body, "{\"status\":\"success\",\"message\":\"m\",\"token\":\"%s\"}", token) > 0);
    free(token);
    return body;
}

static enum hsm_status
fetch_token(const char *base_url, const char *account, char **token, struct hsm_reason *why)
{
    struct acme_authority_login login = {.http = pa.http,
                                         .base_url = base_url,
                                         .account_id = account,
                                         .user = "sp",
                                         .password = password};

    return acme_authority_fetch_token(&login, tnauthlist, false, FP, token, why);
}

static void
token_request_is_as_deployed_authorities_want_it(void **state)
{
    char *body = token_answer(tnauthlist, false, FP);
    char base_url[128];
    char *token = NULL;
    struct hsm_reason why = {""};
    json_t *sent;
    json_t *wanted;

    (void)state;
    script(0, "/api/v1/auth/login", 200, LOGGED_IN);
    script(1, "/api/v1/account/sp-1/token", 200, body);
    snprintf(base_url, sizeof(base_url), "%s/", pa.base_url);
    if (fetch_token(base_url, "sp-1", &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_non_null(strstr(body, token));
    assert_string_equal(last_path, "/api/v1/account/sp-1/token");
    assert_string_equal(last_authorization, "acc-ess");

    sent = json_loads(last_login, 0, NULL);
    wanted = json_pack("{s:s, s:s}", "userId", "sp", "password", "pass\"word");
    assert_true(json_equal(sent, wanted));
    json_decref(sent);
    json_decref(wanted);
    sent = json_loads(last_body, 0, NULL);
    wanted = json_pack("{s:{s:s, s:s, s:b, s:s}}", "atc", "tktype", "TNAuthList", "tkvalue",
                       "MAigBhYEMTIzNA", "ca", 0, "fingerprint", FP);
    assert_true(json_equal(sent, wanted));
    json_decref(sent);
    json_decref(wanted);
    free(token);
    free(body);
}

static void
token_is_asked_for_with_an_api_key_and_without_a_login(void **state)
{
    static const char unsafe[] = "k\r\nX-Evil: 1";
    char *body = token_answer(tnauthlist, false, FP), *token = NULL;
    struct hsm_secret *key = NULL;
    struct hsm_reason why = {""};
    struct acme_authority_login login = {
        .http = pa.http, .base_url = pa.base_url, .account_id = "sp-1"};

    (void)state;
    script(0, "/api/v1/account/sp-1/token", 200, body); /* no login needed */
    assert_int_equal(hsm_secret_new("k-e.y", 5, &key), HSM_OK);
    login.api_key = key;
    assert_int_equal(acme_authority_fetch_token(&login, tnauthlist, false, FP, &token, &why),
                     HSM_OK);
    assert_string_equal(last_authorization, "Bearer k-e.y");
    hsm_secret_free(key);
    free(token);
    free(body);

    assert_int_equal(hsm_secret_new(unsafe, strlen(unsafe), &key), HSM_OK);
    login.api_key = key;
    assert_int_equal(acme_authority_fetch_token(&login, tnauthlist, false, FP, &token, &why),
                     HSM_ERR_MALFORMED);
    assert_string_equal(last_authorization, "Bearer k-e.y"); /* from before: nothing was sent */
    hsm_secret_free(key);
}

static void
refusals_of_the_authority_are_told_apart(void **state)
{
    static const struct {
        int login_status;
        const char *login;
        int token_status;
        const char *token;
        enum hsm_status status;
        const char *says; /* part of the reason */
    } rows[] = {
        {403, "{\"status\":\"error\",\"message\":\"who are you\"}", 0, "", HSM_ERR_DENIED,
         "who are you"},
        {200, LOGGED_IN, 403, "{\"status\":\"error\",\"message\":\"not your SPC\"}", HSM_ERR_DENIED,
         "not your SPC"},
        {200, "{\"status\":\"error\",\"message\":\"closed\"}", 0, "", HSM_ERR_DENIED, "closed"},
        {200, LOGGED_IN, 400, "not JSON", HSM_ERR_DENIED, "400"},
        {429, "", 0, "", HSM_ERR_BUSY, "429"},
        {503, "{\"message\":\"later\"}", 0, "", HSM_ERR_BUSY, "later"},
        {200, LOGGED_IN, 500, "<html>", HSM_ERR_BUSY, "500"},
        {302, "", 0, "", HSM_ERR_MALFORMED, "302"},
        {200, "", 0, "", HSM_ERR_MALFORMED, ""},
        {200, "{}", 0, "", HSM_ERR_MALFORMED, "accessToken"},
        {200, "{\"accessToken\":\"\"}", 0, "", HSM_ERR_MALFORMED, "accessToken"},
        {200, "{\"accessToken\":\"a\\r\\nX-Evil: 1\"}", 0, "", HSM_ERR_MALFORMED, "accessToken"},
        {200, "{\"accessToken\":\"a\",\"accessToken\":\"b\"}", 0, "", HSM_ERR_MALFORMED, ""},
        {200, LOGGED_IN, 200, "{\"status\":\"success\"}", HSM_ERR_MALFORMED, "token"},
        {200, LOGGED_IN, 200, "{\"token\":\"abc\"}", HSM_ERR_MALFORMED, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_reason why = {""};
        char *token = NULL;
        enum hsm_status st;

        script(0, "/api/v1/auth/login", rows[i].login_status, rows[i].login);
        script(1, "/api/v1/account/1/token", rows[i].token_status, rows[i].token);
        st = fetch_token(pa.base_url, "1", &token, &why);
        if (st != rows[i].status || strstr(why.text, rows[i].says) == NULL)
            fail_msg("row %zu: %s: %s", i, hsm_status_text(st), why.text);
        assert_null(token);
    }
}

static void
token_that_was_not_asked_for_is_refused(void **state)
{
    struct certs_tnauthlist *another = NULL;
    char *bodies[3];

    (void)state;
    assert_int_equal(certs_tnauthlist_from_spc("5678", &another), HSM_OK);
    bodies[0] = token_answer(another, false, FP);
    bodies[1] = token_answer(tnauthlist, true, FP);
    bodies[2] = token_answer(tnauthlist, false, "LFB1gKGE_15CTDyu5NuDVZX7eZuEu_tS3PiHXLOrusU");
    script(0, "/api/v1/auth/login", 200, LOGGED_IN);
    for (size_t i = 0; i < 3; i++) {
        struct hsm_reason why = {""};
        char *token = NULL;

        script(1, "/api/v1/account/1/token", 200, bodies[i]);
        assert_int_equal(fetch_token(pa.base_url, "1", &token, &why), HSM_ERR_UNTRUSTED);
        free(bodies[i]);
    }
    certs_tnauthlist_free(another);
}

static void
account_that_would_change_the_path_is_not_sent(void **state)
{
    static const char *const ids[] = {"", ".", "..", "a/b", "a?b", "a b", "a%2fb", "a#b"};

    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char *token = NULL;

        last_path[0] = '\0';
        assert_int_equal(fetch_token(pa.base_url, ids[i], &token, NULL), HSM_ERR_USAGE);
        assert_string_equal(last_path, "");
    }
}

static void
authority_that_is_away_is_busy(void **state)
{
    struct hsm_reason why = {""};
    char *token = NULL;

    (void)state;
    assert_int_equal(fetch_token("https://127.0.0.1:9", "1", &token, &why), HSM_ERR_BUSY);
    assert_int_equal(fetch_token("http://127.0.0.1:9", "1", &token, &why), HSM_ERR_MALFORMED);
}

/* ---- trusted-CA list ---- */

static char *
new_list(const char *x5u, time_t exp, struct hsm_key *signer)
{
    struct acme_ca_list_request request = {.sequence = 5, .exp = exp, .x5u = x5u, .roots = pa.root};
    char *jws = NULL;

    assert_int_equal(acme_ca_list_new(&request, signer, &jws), HSM_OK);
    return jws;
}

static enum hsm_status
fetch_list(struct acme_ca_list **list, struct hsm_reason *why)
{
    char url[128];

    snprintf(url, sizeof(url), "%s/list", pa.base_url);
    return acme_authority_fetch_ca_list(pa.http, url, pa.root, 5, time(NULL), list, why);
}

static void
list_is_read_in_json_and_bare(void **state)
{
    char *jws = new_list(signer_url, time(NULL) + 60, pa.signer_key);
    char *wrapped = NULL;
    const char *bodies[2];

    (void)state;
    assert_true(asprintf(&wrapped, "{\"status\":\"success\",\"caList\":\"%s\"}", jws) > 0);
    bodies[0] = jws;
    bodies[1] = wrapped;
    for (size_t i = 0; i < 2; i++) {
        struct acme_ca_list *list = NULL;
        struct hsm_reason why = {""};

        script(0, "/list", 200, bodies[i]);
        if (fetch_list(&list, &why) != HSM_OK)
            fail_msg("%s", why.text);
        assert_int_equal(acme_ca_list_sequence(list), 5);
        acme_ca_list_free(list);
    }
    free(wrapped);
    free(jws);
}

static void
list_is_refused_when_its_signer_is_elsewhere_or_wrong(void **state)
{
    char elsewhere[160];
    char missing[160];
    char *lists[5];
    static const enum hsm_status wanted[] = {HSM_ERR_UNTRUSTED, HSM_ERR_UNTRUSTED,
                                             HSM_ERR_UNTRUSTED, HSM_ERR_UNTRUSTED,
                                             HSM_ERR_UNTRUSTED};
    struct acme_ca_list *list = NULL;

    (void)state;
    /* The same server under another name is a different origin. */
    snprintf(elsewhere, sizeof(elsewhere), "https://localhost%s", strrchr(signer_url, ':'));
    snprintf(missing, sizeof(missing), "https://pa.evil.example/signer.pem");
    lists[0] = new_list(elsewhere, time(NULL) + 60, pa.signer_key);
    lists[1] = new_list(missing, time(NULL) + 60, pa.signer_key);
    lists[2] = new_list(signer_url, time(NULL) - 60, pa.signer_key);
    lists[3] = new_list(signer_url, time(NULL) + 60, pa.tls_key);
    lists[4] = new_list(crl_signer_url, time(NULL) + 60, pa.crl_key);
    for (size_t i = 0; i < 5; i++) {
        struct hsm_reason why = {""};
        enum hsm_status st;

        script(0, "/list", 200, lists[i]);
        st = fetch_list(&list, &why);
        if (st != wanted[i])
            fail_msg("row %zu: %s: %s", i, hsm_status_text(st), why.text);
        free(lists[i]);
    }
    assert_null(list);
}

static void
answers_that_are_no_list_are_refused(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum hsm_status wanted;
    } rows[] = {
        {404, "", HSM_ERR_DENIED},
        {500, "", HSM_ERR_BUSY},
        {200, "", HSM_ERR_MALFORMED},
        {200, "{}", HSM_ERR_MALFORMED},
        {200, "{\"caList\":7}", HSM_ERR_MALFORMED},
        {200, "{\"caList\":\"a.b.c\"}", HSM_ERR_MALFORMED},
        {200, "aaaaaaaaaaaa", HSM_ERR_MALFORMED},
    };
    struct acme_ca_list *list = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_reason why = {""};
        enum hsm_status st;

        script(0, "/list", rows[i].status, rows[i].body);
        st = fetch_list(&list, &why);
        if (st != rows[i].wanted)
            fail_msg("row %zu: %s: %s", i, hsm_status_text(st), why.text);
    }
}

/* ---- CRL ---- */

static enum hsm_status
fetch_crl(const char *says_url, const char *signer_cert_url, time_t next_update,
          struct hsm_reason *why)
{
    struct certs_crl_request request = {
        .number = 1,
        .this_update = time(NULL) - 120,
        .next_update = next_update,
        .url = says_url,
        .signer_cert_url = signer_cert_url,
    };
    char url[128];
    uint8_t *der = NULL;
    size_t len;
    struct certs_crl *crl = NULL;
    enum hsm_status st;

    snprintf(url, sizeof(url), "%s/crl", pa.base_url);
    assert_int_equal(
        certs_crl_new(&request, certs_chain_get(pa.crl_chain, 0), pa.crl_key, &der, &len), HSM_OK);
    answers[0] = (struct answer){"/crl", 200, (char *)der, len};
    st = acme_authority_fetch_crl(pa.http, url, pa.root, time(NULL), &crl, why);
    memset(answers, 0, sizeof(answers));
    certs_crl_free(crl);
    free(der);
    return st;
}

static void
crl_is_refused_when_its_signer_or_place_is_another(void **state)
{
    char url[128];
    time_t soon = time(NULL) + 60;
    struct hsm_reason why = {""};

    (void)state;
    snprintf(url, sizeof(url), "%s/crl", pa.base_url);
    if (fetch_crl(url, crl_signer_url, soon, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(fetch_crl(url, NULL, soon, &why), HSM_ERR_UNTRUSTED);
    assert_int_equal(fetch_crl(url, "https://pa.evil.example/crl-signer.pem", soon, &why),
                     HSM_ERR_UNTRUSTED);
    assert_int_equal(fetch_crl(url, signer_url, soon, &why), HSM_ERR_UNTRUSTED);
    assert_int_equal(fetch_crl("https://pa.evil.example/crl", crl_signer_url, soon, &why),
                     HSM_ERR_UNTRUSTED);
    assert_int_equal(fetch_crl(url, crl_signer_url, time(NULL) - 60, &why), HSM_ERR_UNTRUSTED);
}

static void
answers_that_are_no_crl_are_refused(void **state)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {""};
    char url[128];

    (void)state;
    snprintf(url, sizeof(url), "%s/crl", pa.base_url);
    assert_int_equal(acme_authority_fetch_crl(pa.http, url, pa.root, time(NULL), &crl, &why),
                     HSM_ERR_DENIED);
    script(0, "/crl", 200, "garbage");
    assert_int_equal(acme_authority_fetch_crl(pa.http, url, pa.root, time(NULL), &crl, &why),
                     HSM_ERR_MALFORMED);
    assert_null(crl);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origins_are_compared_as_rfc_6454_says),
        cmocka_unit_test_teardown(token_request_is_as_deployed_authorities_want_it, clear),
        cmocka_unit_test_teardown(token_is_asked_for_with_an_api_key_and_without_a_login, clear),
        cmocka_unit_test_teardown(refusals_of_the_authority_are_told_apart, clear),
        cmocka_unit_test_teardown(token_that_was_not_asked_for_is_refused, clear),
        cmocka_unit_test_teardown(account_that_would_change_the_path_is_not_sent, clear),
        cmocka_unit_test_teardown(authority_that_is_away_is_busy, clear),
        cmocka_unit_test_teardown(list_is_read_in_json_and_bare, clear),
        cmocka_unit_test_teardown(list_is_refused_when_its_signer_is_elsewhere_or_wrong, clear),
        cmocka_unit_test_teardown(answers_that_are_no_list_are_refused, clear),
        cmocka_unit_test_teardown(crl_is_refused_when_its_signer_or_place_is_another, clear),
        cmocka_unit_test_teardown(answers_that_are_no_crl_are_refused, clear),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
