/* test_server_web.c - mirrors acme/src/server_web*.c: the web pages as a browser requests them. */
#define _GNU_SOURCE /* asprintf, strcasestr */

#include <ctype.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "ca_group.h"

#include <acme/base64url.h>
#include <acme/jwk.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>

#include "peer.h"
#include "postgres.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FORM         "application/x-www-form-urlencoded"
#define PASSWORD     "correct horse battery"
#define RACERS       4

static struct acme_server_config plain; /* the fixture's configuration, with the pages enabled */

/* ---- a browser ---- */

struct browser {
    char cookie[128]; /* "Cookie: NAME=VALUE" */
    char form[64]; /* value of the hidden field */
};

static void
get(const char *path, struct got *got)
{
    ca_fetch(&ca, "GET", path, NULL, NULL, got);
}

static void
assert_page(const struct got *got, int status, const char *text)
{
    if (got->status != status || strstr(got->body, text) == NULL)
        fail_msg("%d %s\ninstead of %d with \"%s\"", got->status, got->body, status, text);
}

/* Read the value of the hidden field with that name. */
static void
read_hidden(const struct got *got, const char *name, char *out, size_t size)
{
    char mark[64];
    const char *at;

    snprintf(mark, sizeof(mark), "name=\"%s\" value=\"", name);
    at = strstr(got->body, mark);
    assert_non_null(at);
    at += strlen(mark);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

/* Read the form; the cookie is sent from then on. */
static void
open_form(struct browser *browser)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    const char *cookie;

    ca.headers[0] = NULL;
    get("/web", &got);
    assert_page(&got, 200, "<form method=\"post\" action=\"/web/preview\">");
    cookie = got_header(&got, "Set-Cookie");
    assert_non_null(strstr(cookie, "; Path=/; Secure; HttpOnly; SameSite=Strict"));
    snprintf(browser->cookie, sizeof(browser->cookie), "Cookie: %.*s", (int)strcspn(cookie, ";"),
             cookie);
    read_hidden(&got, "form", browser->form, sizeof(browser->form));
    ca.headers[0] = browser->cookie;
    ca.headers[1] = NULL;
}

static char *
encoded(const char *value)
{
    char *out = malloc(3 * strlen(value) + 1), *at = out;

    assert_non_null(out);
    for (; *value != '\0'; value++)
        at += snprintf(at, 4, isalnum((unsigned char)*value) ? "%c" : "%%%02X",
                       (unsigned char)*value);
    *at = '\0';
    return out;
}

static void
submit(const struct browser *browser, const char *path, const char *csr, const char *token,
       struct got *got)
{
    char *csr_text = encoded(csr), *token_text = encoded(token), *body = NULL;

    assert_true(asprintf(&body, "form=%s&csr=%s&token=%s", browser->form, csr_text, token_text) >
                0);
    ca_fetch(&ca, "POST", path, FORM, body, got);
    free(body);
    free(csr_text);
    free(token_text);
}

/* A fresh key, and the CSR and token for it. */
struct wish {
    EVP_PKEY *key;
    char *csr, *token;
};

static void
make_wish(struct wish *wish, const char *spc)
{
    wish->key = peer_key_new("P-256");
    wish->csr = peer_csr_pem(wish->key, spc, false);
    wish->token = peer_token(&ca, &(struct token_plan){.spc = spc, .account_key = wish->key});
}

static void
drop_wish(struct wish *wish)
{
    EVP_PKEY_free(wish->key);
    free(wish->csr);
    free(wish->token);
}

/* Confirm; writes the path of the result. */
static void
confirm(const struct browser *browser, const struct wish *wish, char path[CA_URL_SIZE])
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    submit(browser, "/web/issue", wish->csr, wish->token, &got);
    if (got.status != 303)
        fail_msg("%d %s", got.status, got.body);
    snprintf(path, CA_URL_SIZE, "%s", got_header(&got, "Location"));
    assert_int_equal(strncmp(path, "/web/order/", 11), 0);
}

/* One of several simultaneous confirmations of the same request. */
struct race {
    const struct browser *browser;
    const struct wish *wish;
    char path[CA_URL_SIZE];
};

static int64_t
issued(void)
{
    return ca_fixture_count(&ca, "SELECT count(*) FROM issuance");
}

/* ---- the manual flow ---- */

static void
assert_chain_of(const char *pem, EVP_PKEY *key)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};

    assert_int_equal(certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &chain, &why),
                     HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    assert_int_equal(EVP_PKEY_eq(certs_cert_public(certs_chain_get(chain, 0)), key), 1);
    certs_chain_free(chain);
}

static void
a_csr_and_its_token_become_a_chain(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char fingerprint[ACME_FINGERPRINT_LEN + 1], path[CA_URL_SIZE], chain[CA_URL_SIZE + 16];
    int64_t before = issued();
    CLEAR_AFTER(got_clear) struct got preview = {.status = 0};
    CLEAR_AFTER(got_clear) struct got result = {.status = 0};
    CLEAR_AFTER(got_clear) struct got download = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    submit(&browser, "/web/preview", wish.csr, wish.token, &preview);
    assert_page(&preview, 200, "CN=SHAKEN 1234, O=Service Provider 1234, C=US");
    assert_int_equal(acme_fingerprint_format(wish.key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    assert_page(&preview, 200, fingerprint);
    assert_page(&preview, 200, "<dt>CRL distribution point</dt><dd>https://pa.example/crl</dd>");
    assert_page(&preview, 200, "<dt>May be a CA (ca)</dt><dd>no</dd>");
    assert_null(strstr(preview.body, "Somebody Else")); /* the subject of the CSR */
    assert_int_equal(issued(), before);

    confirm(&browser, &wish, path);
    get(path, &result);
    assert_page(&result, 200, "The certificate for SPC 1234 is issued.");
    snprintf(chain, sizeof(chain), "%s/chain.pem", path);
    get(chain, &download);
    assert_int_equal(download.status, 200);
    assert_string_equal(got_header(&download, "Content-Type"), "application/pem-certificate-chain");
    assert_string_equal(got_header(&download, "Content-Disposition"),
                        "attachment; filename=\"sti-1234.pem\"");
    assert_chain_of(download.body, wish.key);
    assert_int_equal(issued(), before + 1);
}

/* A double click, a reloaded page or a lost answer. */
static void
the_same_request_again_leads_to_the_same_certificate(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE], again[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got preview = {.status = 0};
    int64_t before = issued();

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    confirm(&browser, &wish, path);
    confirm(&browser, &wish, again);
    assert_string_equal(path, again);
    submit(&browser, "/web/preview", wish.csr, wish.token, &preview);
    assert_int_equal(preview.status, 303);
    assert_string_equal(got_header(&preview, "Location"), path);
    assert_int_equal(issued(), before + 1);
}

static void *
confirm_once(void *of)
{
    struct race *race = of;

    confirm(race->browser, race->wish, race->path);
    return NULL;
}

static void
of_requests_that_come_at_once_one_makes_the_order(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    struct race races[RACERS];
    pthread_t threads[RACERS];
    int64_t before = issued();

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    for (size_t i = 0; i < RACERS; i++) {
        races[i] = (struct race){.browser = &browser, .wish = &wish};
        assert_int_equal(pthread_create(&threads[i], NULL, confirm_once, &races[i]), 0);
    }
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 1; i < RACERS; i++)
        assert_string_equal(races[i].path, races[0].path);
    assert_int_equal(issued(), before + 1);
}

/* A token pasted from a mail: several lines with trailing blanks. */
static void
a_token_in_several_lines_is_one_token(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char *folded = NULL, path[CA_URL_SIZE];

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    assert_true(asprintf(&folded, "\r\n %.40s \r\n\t%s\r\n", wish.token, wish.token + 40) > 0);
    free(wish.token);
    wish.token = folded;
    confirm(&browser, &wish, path);
}

/* ---- refusals ---- */

static EVP_PKEY *used_key; /* already certified */

/* The input that replaces a good CSR and a good token; NULL: the good one. */
struct refusal {
    const char *csr, *token;
    const char *spc; /* in the CSR; "": none */
    struct token_plan plan;
    bool csr_ca, other_key, used, expired;
    const char *field, *why;
};

static const struct refusal refusals[] = {
    {.csr = " ", .field = "csr", .why = "The certificate signing request is missing"},
    {.csr = "text", .field = "csr", .why = "neither DER nor a PEM &quot;CERTIFICATE REQUEST&quot;"},
    {.csr = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n",
     .field = "csr",
     .why = "CSR: not a CertificationRequest of RFC 2986"},
    {.csr = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
     .field = "csr",
     .why = "CERTIFICATE"},
    {.spc = "", .field = "csr", .why = "CSR: no TNAuthList extension"},
    {.spc = "ab1",
     .field = "csr",
     .why = "a SHAKEN certificate is for exactly one SPC of [A-Z0-9]"},
    {.spc = "5678", .field = "token", .why = "the SPC token is for SPC 1234, the CSR for SPC 5678"},
    {.csr_ca = true,
     .field = "csr",
     .why = "CSR: BasicConstraints cA is not the ca of the SPC token"},
    {.plan = {.ca = true},
     .field = "csr",
     .why = "CSR: BasicConstraints cA is not the ca of the SPC token"},
    {.csr_ca = true,
     .plan = {.ca = true},
     .field = "csr",
     .why = "CSR: delegate CA certificates are not issued here"},
    {.used = true, .field = "csr", .why = "CSR: its key was certified before"},
    {.token = " \n", .field = "token", .why = "The SPC token is missing"},
    {.token = "a.b", .field = "token", .why = "SPC token: "},
    {.other_key = true,
     .field = "token",
     .why = "fingerprint: not that of the CSR&#39;s key, which is SHA256 "},
    {.expired = true, .field = "token", .why = "exp: the SPC token has expired"},
    {.plan = {.x5u = "https://elsewhere.example/signer.pem"},
     .field = "token",
     .why = "x5u https://elsewhere.example/signer.pem is of no authority known here"},
};

static void
refuse(const struct browser *browser, const struct refusal *refusal, const char *path)
{
    struct token_plan plan = refusal->plan;
    EVP_PKEY *fresh = peer_key_new("P-256"), *other = peer_key_new("P-256");
    EVP_PKEY *key = refusal->used ? used_key : fresh;
    const char *spc = refusal->spc == NULL ? "1234" : refusal->spc;
    char *csr = peer_csr_pem(key, *spc != '\0' ? spc : NULL, refusal->csr_ca);
    char *token, mark[160];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    plan.spc = "1234";
    plan.account_key = refusal->other_key ? other : key;
    plan.exp = refusal->expired ? time(NULL) - 1 : 0;
    token = peer_token(&ca, &plan);
    submit(browser, path, refusal->csr != NULL ? refusal->csr : csr,
           refusal->token != NULL ? refusal->token : token, &got);
    assert_page(&got, 422, refusal->why);
    snprintf(mark, sizeof(mark), "<li><a href=\"#%s\">", refusal->field);
    assert_page(&got, 422, mark);
    assert_null(strstr(strstr(got.body, mark) + 1, "<li>")); /* the only one */
    snprintf(mark, sizeof(mark), "aria-describedby=\"%s-error %s-hint\"", refusal->field,
             refusal->field);
    assert_page(&got, 422, mark);
    free(csr);
    free(token);
    EVP_PKEY_free(fresh);
    EVP_PKEY_free(other);
}

static void
each_refusal_names_its_field_and_issues_nothing(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE];
    int64_t before;

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    confirm(&browser, &wish, path);
    used_key = wish.key;
    before = issued();
    for (size_t i = 0; i < COUNT(refusals); i++) {
        refuse(&browser, &refusals[i], "/web/preview");
        refuse(&browser, &refusals[i], "/web/issue");
    }
    assert_int_equal(issued(), before);
}

/* A signature that does not verify, and a signer without a certificate of the STI-PA for tokens. */
static void
a_token_of_nobody_is_refused(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char x5u[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got broken = {.status = 0};
    CLEAR_AFTER(got_clear) struct got rogue = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    wish.token[strlen(wish.token) - 5] ^= 1;
    submit(&browser, "/web/issue", wish.csr, wish.token, &broken);
    assert_page(&broken, 422, "<a href=\"#token\">");
    free(wish.token);
    snprintf(x5u, sizeof(x5u), "%s/pa/rogue.pem", ca.pa.base_url);
    wish.token = peer_token(
        &ca, &(struct token_plan){
                 .spc = "1234", .account_key = wish.key, .x5u = x5u, .signer = ca.pa.crl_key});
    submit(&browser, "/web/issue", wish.csr, wish.token, &rogue);
    assert_page(&rogue, 422, "<a href=\"#token\">");
}

static void
the_identifier_of_a_token_is_used_once(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish first;
    CLEAR_AFTER(drop_wish) struct wish second;
    char path[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&first, "1234");
    make_wish(&second, "1234");
    free(first.token);
    free(second.token);
    first.token = peer_token(
        &ca, &(struct token_plan){.spc = "1234", .account_key = first.key, .jti = "once"});
    second.token = peer_token(
        &ca, &(struct token_plan){.spc = "1234", .account_key = second.key, .jti = "once"});
    confirm(&browser, &first, path);
    submit(&browser, "/web/issue", second.csr, second.token, &got);
    assert_page(&got, 422, "jti: an SPC token is used once, and this one was used before");
}

static void
both_fields_are_told_at_once_and_what_was_pasted_stays(void **state)
{
    struct browser browser;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    open_form(&browser);
    submit(&browser, "/web/preview", "</textarea><script>alert(1)</script>", "\"'><b>", &got);
    assert_page(&got, 422, "<a href=\"#csr\">");
    assert_page(&got, 422, "<a href=\"#token\">");
    assert_page(&got, 422, "&lt;/textarea&gt;&lt;script&gt;alert(1)&lt;/script&gt;</textarea>");
    assert_null(strstr(got.body, "<script"));
    assert_null(strstr(got.body, "<b>"));
}

static void
an_unknown_participant_is_refused_where_they_are_registered(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    CLEAR_AFTER(got_clear) struct got named = {.status = 0};

    (void)state;
    ca.config.participants_required = true;
    ca_fixture_restart(&ca);
    open_form(&browser);
    make_wish(&wish, "777Q");
    submit(&browser, "/web/preview", wish.csr, wish.token, &got);
    assert_page(&got, 422, "SPC 777Q is not registered with this CA");
    assert_int_equal(acme_server_participant_set(ca.store, "777Q", "<b>Tel & \"Co\"</b>", "CA"),
                     HSM_OK);
    submit(&browser, "/web/preview", wish.csr, wish.token, &named);
    assert_page(&named, 200, "CN=SHAKEN 777Q, O=&lt;b&gt;Tel &amp; &quot;Co&quot;&lt;/b&gt;, C=CA");
    ca.config = plain;
    ca_fixture_restart(&ca);
}

/* ---- the origin of a form ---- */

static const struct {
    const char *headers[3]; /* in addition to the cookie */
    bool no_cookie, other_form;
    const char *type, *body; /* NULL: the correct value */
    int status;
} strangers[] = {
    {.no_cookie = true, .status = 403},
    {.other_form = true, .status = 403},
    {.headers = {"Origin: https://elsewhere.example"}, .status = 403},
    {.headers = {"Origin: null"}, .status = 403},
    {.headers = {"Sec-Fetch-Site: cross-site"}, .status = 403},
    {.headers = {"Sec-Fetch-Site: same-site"}, .status = 403},
    {.type = "multipart/form-data; boundary=x", .status = 415},
    {.type = "application/x-www-form-urlencodedx", .status = 415},
    {.body = "csr=a&token=b", .status = 403},
    {.body = "csr=a", .status = 400},
    {.body = "csr=a&token=b&more=c", .status = 400},
    {.body = "csr=%zz", .status = 400},
};

static void
a_form_that_is_not_ours_does_nothing(void **state)
{
    struct browser browser, other;
    CLEAR_AFTER(drop_wish) struct wish wish;
    int64_t before;

    (void)state;
    open_form(&other);
    open_form(&browser);
    make_wish(&wish, "1234");
    before = issued();
    for (size_t i = 0; i < COUNT(strangers); i++) {
        struct browser sends = browser;
        char *csr = encoded(wish.csr), *body = NULL;
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        ca.headers[0] = strangers[i].no_cookie ? strangers[i].headers[0] : browser.cookie;
        ca.headers[1] = strangers[i].no_cookie ? NULL : strangers[i].headers[0];
        ca.headers[2] = NULL;
        if (strangers[i].other_form)
            memcpy(sends.form, other.form, sizeof(sends.form));
        assert_true(asprintf(&body, "form=%s&csr=%s&token=%s", sends.form, csr, wish.token) > 0);
        ca_fetch(&ca, "POST", "/web/issue", strangers[i].type != NULL ? strangers[i].type : FORM,
                 strangers[i].body != NULL ? strangers[i].body : body, &got);
        if (got.status != strangers[i].status)
            fail_msg("%zu: %d instead of %d: %s", i, got.status, strangers[i].status, got.body);
        free(csr);
        free(body);
    }
    assert_int_equal(issued(), before);
}

static void
a_browser_that_says_our_own_origin_is_welcome(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char origin[CA_URL_SIZE], path[CA_URL_SIZE];

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    snprintf(origin, sizeof(origin), "Origin: %s", ca.url);
    ca.headers[1] = origin;
    ca.headers[2] = "Sec-Fetch-Site: same-origin";
    ca.headers[3] = NULL;
    confirm(&browser, &wish, path);
}

static void
every_page_keeps_scripts_and_frames_out(void **state)
{
    static const char *const paths[] = {"/web",        "/web/nothing",   "/web/preview",
                                        "/web/status", "/web/style.css", "/web/order/unknown"};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};
        const char *policy;

        get(paths[i], &got);
        policy = got_header(&got, "Content-Security-Policy");
        assert_non_null(strstr(policy, "default-src 'none'; style-src 'self'; form-action 'self';"
                                       " frame-ancestors 'none'; base-uri 'none'"));
        assert_string_equal(got_header(&got, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(got_header(&got, "Referrer-Policy"), "same-origin");
        assert_string_equal(got_header(&got, "Cache-Control"), "no-store");
        assert_null(strcasestr(got.body, "<script"));
        assert_null(strcasestr(got.body, " style="));
    }
}

static void
pages_are_asked_for_as_they_are_meant(void **state)
{
    CLEAR_AFTER(got_clear) struct got preview = {.status = 0};
    CLEAR_AFTER(got_clear) struct got form = {.status = 0};
    CLEAR_AFTER(got_clear) struct got order = {.status = 0};

    (void)state;
    get("/web/preview", &preview);
    assert_int_equal(preview.status, 405);
    assert_string_equal(got_header(&preview, "Allow"), "POST");
    ca_fetch(&ca, "POST", "/web", FORM, "", &form);
    assert_int_equal(form.status, 405);
    assert_string_equal(got_header(&form, "Allow"), "GET, HEAD");
    get("/web/order/AAAAAAAAAAAAAAAAAAAAAA/chain.pem", &order);
    assert_int_equal(order.status, 404);
}

static void
without_the_switch_there_are_no_pages(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca.config.web_enabled = false;
    ca_fixture_restart(&ca);
    get("/web", &got);
    assert_int_equal(got.status, 404);
    assert_string_equal(got_problem(&got), "malformed");
    ca.config = plain;
    ca_fixture_restart(&ca);
}

/* ---- orders ---- */

static void
a_token_that_is_away_is_told_and_the_page_loaded_again_has_the_certificate(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE], chain[CA_URL_SIZE + 16];
    CLEAR_AFTER(got_clear) struct got waiting = {.status = 0};
    CLEAR_AFTER(got_clear) struct got none = {.status = 0};
    CLEAR_AFTER(got_clear) struct got result = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    confirm(&browser, &wish, path);
    ca_fixture_order_sql(
        &ca, path,
        "UPDATE issuance SET der = NULL, chain = NULL, attempted = recorded + 30 WHERE"
        " order_id = ?");
    ca_fixture_order_sql(&ca, path, "UPDATE acme_order SET status = 'processing' WHERE id = ?");
    get(path, &waiting);
    assert_page(&waiting, 200, "does not answer at the moment");
    assert_string_equal(got_header(&waiting, "Retry-After"), "5");
    snprintf(chain, sizeof(chain), "%s/chain.pem", path);
    get(chain, &none);
    assert_int_equal(none.status, 404);
    ca_fixture_sql(&ca, "UPDATE issuance SET attempted = 0 WHERE der IS NULL AND voided = 0");
    get(path, &result);
    assert_page(&result, 200, "The certificate for SPC 1234 is issued.");
}

static void
a_request_that_became_void_says_so(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    confirm(&browser, &wish, path);
    ca_fixture_order_sql(
        &ca, path,
        "UPDATE issuance SET der = NULL, chain = NULL, attempted = 0, recorded = 0,"
        " under = 'x'"
        " WHERE order_id = ?");
    ca_fixture_order_sql(&ca, path, "UPDATE acme_order SET status = 'processing' WHERE id = ?");
    get(path, &got);
    assert_page(&got, 200, "the certificate could not be issued: place a new order");
}

static void
a_revoked_certificate_is_shown_as_such(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE], serial[64];
    const char *at;
    CLEAR_AFTER(got_clear) struct got before = {.status = 0};
    CLEAR_AFTER(got_clear) struct got after = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "1234");
    confirm(&browser, &wish, path);
    get(path, &before);
    at = strstr(before.body, "<dt>Serial number</dt><dd>");
    assert_non_null(at);
    snprintf(serial, sizeof(serial), "%.32s", at + strlen("<dt>Serial number</dt><dd>"));
    assert_int_equal(acme_server_revoke(ca.store, serial, 1, ca_fixture_time()), HSM_OK);
    get(path, &after);
    assert_page(&after, 200, "This certificate is revoked since ");
    assert_page(&after, 200, "reason keyCompromise");
}

/* The account has no key, so it cannot sign a JWS. */
static void
nobody_is_the_account_of_these_orders(void **state)
{
    struct peer peer;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca.headers[0] = NULL;
    peer_start(&peer);
    snprintf(peer.kid, sizeof(peer.kid), "%s/acme/acct/manual", ca.url);
    peer_send(&ca, &peer, "/acme/new-order", "{}", &got);
    assert_int_equal(got.status, 401);
    assert_string_equal(got_problem(&got), "unauthorized");
    peer_stop(&peer);
}

static void
forms_and_orders_of_an_address_are_limited(void **state)
{
    struct browser browser;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got second = {.status = 0};

    (void)state;
    ca.config.orders_per_address = 1;
    ca_fixture_restart(&ca);
    open_form(&browser);
    submit(&browser, "/web/preview", "a", "b", &first);
    assert_int_equal(first.status, 422);
    submit(&browser, "/web/preview", "a", "b", &second);
    assert_page(&second, 429, "There were too many forms from this address.");
    assert_true(atoi(got_header(&second, "Retry-After")) > 0);
    ca_fixture_sql(&ca, "DELETE FROM rate");
    ca.config = plain;
    ca_fixture_restart(&ca);
}

/* ---- the status page ---- */

static void
ask_as(const char *user, const char *password, struct got *got)
{
    char pair[256], header[512], *base64;

    snprintf(pair, sizeof(pair), "%s:%s", user, password);
    base64 = acme_base64_encode(pair, strlen(pair));
    assert_non_null(base64);
    snprintf(header, sizeof(header), "Authorization: Basic %s", base64);
    free(base64);
    ca.headers[0] = header;
    ca.headers[1] = NULL;
    get("/web/status", got);
    ca.headers[0] = NULL;
}

static void
add_user(const char *user, const char *password, enum hsm_status wanted)
{
    struct hsm_secret *secret = NULL;

    assert_int_equal(hsm_secret_new(password, strlen(password), &secret), HSM_OK);
    assert_int_equal(acme_server_web_user_add(ca.store, user, secret), wanted);
    hsm_secret_free(secret);
}

static void
the_status_is_for_operators(void **state)
{
    CLEAR_AFTER(got_clear) struct got nobody = {.status = 0};
    CLEAR_AFTER(got_clear) struct got wrong = {.status = 0};
    CLEAR_AFTER(got_clear) struct got unknown = {.status = 0};
    CLEAR_AFTER(got_clear) struct got right = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};
    CLEAR_AFTER(got_clear) struct got removed = {.status = 0};

    (void)state;
    ca.headers[0] = NULL;
    get("/web/status", &nobody);
    assert_int_equal(nobody.status, 401);
    assert_string_equal(got_header(&nobody, "WWW-Authenticate"),
                        "Basic realm=\"STI-CA status\", charset=\"UTF-8\"");
    add_user("alice", "short", HSM_ERR_MALFORMED);
    add_user("no user", PASSWORD, HSM_ERR_MALFORMED);
    add_user("alice", PASSWORD, HSM_OK);
    add_user("alice", PASSWORD, HSM_ERR_EXISTS);
    ask_as("alice", PASSWORD "x", &wrong);
    assert_int_equal(wrong.status, 401);
    ask_as("bob", PASSWORD, &unknown);
    assert_int_equal(unknown.status, 401);
    ask_as("alice", PASSWORD, &right);
    assert_page(&right, 200, "<h1>Status</h1>");
    ask_as("alice", PASSWORD, &again);
    assert_int_equal(again.status, 200);
    assert_int_equal(acme_server_web_user_remove(ca.store, "alice"), HSM_OK);
    assert_int_equal(acme_server_web_user_remove(ca.store, "alice"), HSM_ERR_NOT_FOUND);
    ask_as("alice", PASSWORD, &removed); /* although it was valid a moment ago */
    assert_int_equal(removed.status, 401);
}

static void
passwords_are_tried_so_often_an_hour(void **state)
{
    CLEAR_AFTER(got_clear) struct got last = {.status = 0};
    CLEAR_AFTER(got_clear) struct got limited = {.status = 0};

    (void)state;
    ca_fixture_sql(&ca, "DELETE FROM rate");
    ask_as("alice", "nothing", &last);
    assert_int_equal(last.status, 401);
    ca_fixture_sql(&ca, "UPDATE rate SET used_until = used_until + 3550000000 WHERE subject LIKE"
                        " 'logins %'");
    ask_as("alice", PASSWORD, &limited);
    assert_page(&limited, 429, "There were too many passwords from this address.");
    ca_fixture_sql(&ca, "DELETE FROM rate");
}

static void
the_status_tells_what_an_operator_asks_first(void **state)
{
    struct browser browser;
    CLEAR_AFTER(drop_wish) struct wish wish;
    char path[CA_URL_SIZE];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    open_form(&browser);
    make_wish(&wish, "4321");
    confirm(&browser, &wish, path);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    ca_fixture_sql(&ca, "UPDATE issuance SET not_after = attempted + 86400 WHERE"
                        " spc = '4321'");
    ca_fixture_sql(&ca, "INSERT INTO revocation (order_id, issuer, serial, reason, requester,"
                        " revoked, next_try, tries) SELECT order_id, point, serial, 4, 'operator',"
                        " 1700000000, 1700000100, 3 FROM issuance WHERE spc = '1234' LIMIT 1");
    add_user("carol", PASSWORD, HSM_OK);
    ask_as("carol", PASSWORD, &got);
    assert_page(&got, 200, "The token is ready.");
    assert_page(&got, 200, "<tr><td>issued</td><td>web page</td><td class=\"number\">");
    assert_page(&got, 200, "<td>4321</td><td>Service Provider 4321</td>");
    assert_page(&got, 200,
                "<td>superseded</td><td>2023-11-14T22:13:20Z</td>"
                "<td class=\"number\">3</td>");
    assert_page(&got, 200, "<td>web user added</td><td>carol</td>");
    assert_page(&got, 200, "https://pa.example/crl"); /* no server there */
    assert_non_null(strstr(got.body, "<p class=\"bad\">"));
}

/* The first row of the pages is a write; with SQLite it would fail as busy only after ten
 * seconds. */
static void
a_busy_store_starts_no_server_without_its_pages(void **state)
{
    struct acme_server *server = NULL;

    (void)state;
    if (!acme_store_is_uri(postgres_or_file(ca.store_path)))
        skip();
    ca_fixture_sql(&ca, "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS"
                        " $$BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END$$");
    ca_fixture_sql(&ca, "CREATE TRIGGER busy BEFORE INSERT ON account FOR EACH ROW"
                        " EXECUTE FUNCTION busy()");
    assert_int_equal(acme_server_new(&ca.config, &server), HSM_ERR_BUSY);
    ca_fixture_sql(&ca, "DROP FUNCTION busy CASCADE");
    assert_int_equal(acme_server_new(&ca.config, &server), HSM_OK);
    acme_server_free(server);
}

/* Removes the headers that a test has set. */
static int
without_headers(void **state)
{
    (void)state;
    ca.headers[0] = NULL;
    return 0;
}

static int
start(void **state)
{
    ca_group_start_alone(state);
    ca.config.web_enabled = true;
    plain = ca.config;
    ca_fixture_restart(&ca);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, without_headers)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_csr_and_its_token_become_a_chain),
        TEST(the_same_request_again_leads_to_the_same_certificate),
        TEST(of_requests_that_come_at_once_one_makes_the_order),
        TEST(a_token_in_several_lines_is_one_token),
        TEST(each_refusal_names_its_field_and_issues_nothing),
        TEST(a_token_of_nobody_is_refused),
        TEST(the_identifier_of_a_token_is_used_once),
        TEST(both_fields_are_told_at_once_and_what_was_pasted_stays),
        TEST(an_unknown_participant_is_refused_where_they_are_registered),
        TEST(a_form_that_is_not_ours_does_nothing),
        TEST(a_browser_that_says_our_own_origin_is_welcome),
        TEST(every_page_keeps_scripts_and_frames_out),
        TEST(pages_are_asked_for_as_they_are_meant),
        TEST(without_the_switch_there_are_no_pages),
        TEST(a_token_that_is_away_is_told_and_the_page_loaded_again_has_the_certificate),
        TEST(a_request_that_became_void_says_so),
        TEST(a_revoked_certificate_is_shown_as_such),
        TEST(nobody_is_the_account_of_these_orders),
        TEST(forms_and_orders_of_an_address_are_limited),
        TEST(the_status_is_for_operators),
        TEST(passwords_are_tried_so_often_an_hour),
        TEST(the_status_tells_what_an_operator_asks_first),
        TEST(a_busy_store_starts_no_server_without_its_pages),
    };

    return cmocka_run_group_tests(tests, start, ca_group_stop);
}
