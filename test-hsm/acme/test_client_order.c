/*
 * test_client_order.c - mirrors acme/src/client_order.c, client_renewal.c and client_wait.c:
 * against a CA with answers written by the test, and the accounts and nonces of our STI-CA.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/jws.h>
#include <certs/cert.h>

#include "client_group.h"
#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a CA that follows a script ---- */

/* An answer for a path: for all requests, or for the first `times`. */
struct line {
    const char *path;
    int status;
    const char *body; /* %s is replaced by the base URL, up to six times */
    const char *header, *value; /* of the answer, with %s as well; NULL: none */
    int times; /* 0: always */
    bool is_pem;
};

static struct {
    const struct line *lines;
    size_t count;
    int used[16];
    char orders[2048]; /* payloads of newOrder, concatenated */
    int new_orders, challenges;
    char challenge[512]; /* the payload sent last */
} book;

static void
note_payload(const struct acme_http_request *request, char *out, size_t size)
{
    struct acme_jws *jws = NULL;
    size_t len;
    const char *body = acme_http_request_body(request, &len);

    if (acme_jws_parse_flattened(body, len, &jws, NULL) != HSM_OK)
        return;
    snprintf(out + strlen(out), size - strlen(out), "%s\n", acme_jws_payload(jws, &len));
    acme_jws_free(jws);
}

static bool
by_the_book(struct ca_fixture *fixture, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);
    const char *b = fixture->pa.base_url;

    if (strcmp(path, "/acme/new-order") == 0) {
        book.new_orders++;
        note_payload(request, book.orders, sizeof(book.orders));
    }
    if (strncmp(path, "/acme/challenge", 15) == 0) {
        book.challenges++;
        book.challenge[0] = '\0';
        note_payload(request, book.challenge, sizeof(book.challenge));
    }
    for (size_t i = 0; i < book.count; i++) {
        const struct line *line = &book.lines[i];
        char body[4096], value[1024];

        if (strcmp(path, line->path) != 0 || (line->times != 0 && book.used[i] == line->times))
            continue;
        book.used[i]++;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        if (line->header != NULL) {
            snprintf(value, sizeof(value), line->value, b, b, b);
            acme_http_response_header(response, line->header, value);
        }
        if (line->is_pem) {
            acme_http_respond(response, 200, "application/pem-certificate-chain", line->body,
                              strlen(line->body));
            return true;
        }
        snprintf(body, sizeof(body), line->body, b, b, b, b, b, b);
#pragma GCC diagnostic pop
        acme_http_respond(response, line->status,
                          line->status < 300 ? "application/json" : "application/problem+json",
                          body, strlen(body));
        return true;
    }
    return false;
}

static void
open_book(const struct line *lines, size_t count)
{
    memset(&book, 0, sizeof(book));
    book.lines = lines;
    book.count = count;
    ca.intercept = by_the_book;
}

static struct acme_client *
client_new(enum acme_tnauthlist_text text)
{
    return client_group_new(
        (struct acme_client_config){.tnauthlist_text = text, .poll_limit_s = 8});
}

static const char directory_without_renewals[] =
    "{\"newNonce\":\"%s/acme/new-nonce\",\"newAccount\":\"%s/acme/new-account\","
    "\"newOrder\":\"%s/acme/new-order\"}";

static const char directory_with_renewals[] =
    "{\"newNonce\":\"%s/acme/new-nonce\",\"newAccount\":\"%s/acme/new-account\","
    "\"newOrder\":\"%s/acme/new-order\",\"renewalInfo\":\"%s/acme/renewal-info\","
    "\"meta\":{\"termsOfService\":\"%s/terms\",\"externalAccountRequired\":true}}";

#define ORDER(n, state)                                                                            \
    "{\"status\":\"" state "\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}],"     \
    "\"authorizations\":[\"%s/acme/authz/1\"],\"finalize\":\"%s/acme/order/" n "/finalize\","      \
    "\"certificate\":\"%s/acme/cert/1\"}"

#define MANY                                                                                       \
    "{\"type\":\"x\",\"detail\":\"one that says so much that there is no room for the others\"}"
#define PROBLEM(type, detail)                                                                      \
    "{\"type\":\"urn:ietf:params:acme:error:" type "\",\"detail\":\"" detail "\"}"

/* ---- any identifier, any challenge ---- */

static const struct acme_client_identifier dns[] = {{"dns", "sp.example"}};

static enum hsm_status
respond_http01(void *context, const struct acme_client_challenge *challenge, EVP_PKEY *key,
               char **payload, struct hsm_reason *why)
{
    (void)context;
    (void)key;
    (void)why;
    if (strcmp(challenge->type, "http-01") != 0)
        return HSM_ERR_UNSUPPORTED;
    assert_string_equal(challenge->identifier_value, "sp.example");
    assert_string_equal(challenge->token, "t0ken");
    *payload = strdup("{}");
    return HSM_OK;
}

static bool
knows_order_1(void *context, const char *url)
{
    (void)context;
    return strstr(url, "/order/1") != NULL;
}

static enum hsm_status
note_order(void *context, const char *url)
{
    char *noted = context;

    snprintf(noted, CA_URL_SIZE, "%s", url);
    return HSM_OK;
}

static enum hsm_status
obtain(struct acme_client_order order, struct certs_chain **chain, struct hsm_reason *why)
{
    struct acme_client *client = client_new(ACME_TNAUTHLIST_BASE64URL);
    enum hsm_status st;

    order.identifiers = dns;
    order.identifier_count = 1;
    order.respond = respond_http01;
    order.csr = (const uint8_t *)"csr";
    order.csr_len = 3;
    st = acme_client_obtain(client, &order, chain, why);
    acme_client_free(client);
    return st;
}

static void
another_type_of_identifier_is_ordered_and_answered(void **state)
{
    char *pem = data_text("self/sp-1234.chain.pem", NULL);
    const struct line lines[] = {
        {"/acme/new-order", 201, ORDER("1", "pending"), "Location", "%s/acme/order/1", 0, false},
        {"/acme/authz/1", 200,
         "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"sp.example\"},"
         "\"challenges\":[{\"type\":\"dns-01\",\"url\":\"%s/acme/challenge/0\",\"token\":\"x\","
         "\"status\":\"pending\"},{\"type\":\"http-01\",\"url\":\"%s/acme/challenge/1\","
         "\"token\":\"t0ken\",\"status\":\"pending\"}]}",
         NULL, NULL, 1, false},
        {"/acme/challenge/1", 200, "{\"status\":\"processing\"}", NULL, NULL, 0, false},
        {"/acme/authz/1", 200, "{\"status\":\"valid\"}", NULL, NULL, 0, false},
        {"/acme/order/1", 200, ORDER("1", "ready"), NULL, NULL, 1, false},
        {"/acme/order/1/finalize", 200, ORDER("1", "processing"), "Retry-After", "1", 0, false},
        {"/acme/order/1", 503, "{}", NULL, NULL, 1, false}, /* transient */
        {"/acme/order/1", 200, ORDER("1", "valid"), NULL, NULL, 0, false},
        {"/acme/cert/1", 200, pem, NULL, NULL, 0, true},
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};

    (void)state;
    open_book(lines, COUNT(lines));
    if (obtain((struct acme_client_order){.csr = NULL}, &chain, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(book.challenges, 1);
    assert_string_equal(book.challenge, "{}\n");
    assert_string_equal(book.orders,
                        "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}]}\n");
    certs_chain_free(chain);
    free(pem);
}

/* Each state and fault of an authorization, and the reason that the operator sees. */
static void
an_authorization_that_fails_says_why(void **state)
{
    static const struct {
        const char *body;
        enum hsm_status wanted;
        const char *why;
    } cases[] = {
        {"{\"status\":\"invalid\",\"challenges\":[{\"type\":\"a\"},{\"type\":\"b\",\"error\":"
         "{\"type\":\"urn:ietf:params:acme:error:incorrectResponse\",\"detail\":\"wrong key\"}}]}",
         HSM_ERR_DENIED,
         "authorization is invalid: incorrectResponse: wrong key (check tkauth-member"},
        {"{\"status\":\"expired\"}", HSM_ERR_DENIED, "authorization is expired"},
        {"{\"status\":\"revoked\"}", HSM_ERR_DENIED, "authorization is revoked"},
        {"{\"status\":\"deactivated\"}", HSM_ERR_DENIED, "authorization is deactivated"},
        {"{\"status\":\"pending\"}", HSM_ERR_UNSUPPORTED, "no challenge that can be answered"},
        {"{\"status\":\"pending\",\"challenges\":[{\"type\":\"dns-01\",\"url\":\"%s/x\"}]}",
         HSM_ERR_UNSUPPORTED, "no challenge that can be answered"},
        {"{\"status\":7}", HSM_ERR_MALFORMED, "status"},
        {"{}", HSM_ERR_MALFORMED, "status"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct line lines[] = {
            {"/acme/new-order", 201, ORDER("1", "pending"), "Location", "%s/acme/order/1", 0,
             false},
            {"/acme/authz/1", 200, cases[i].body, NULL, NULL, 0, false},
        };
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};
        enum hsm_status st;

        open_book(lines, COUNT(lines));
        st = obtain((struct acme_client_order){.csr = NULL}, &chain, &why);
        if (st != cases[i].wanted || strstr(why.text, cases[i].why) == NULL)
            fail_msg("%s: %s, %s", cases[i].body, hsm_status_text(st), why.text);
    }
}

/* Each type of RFC 8555 section 6.7 that an order may meet is reported with an explanation. */
static void
a_problem_is_told_with_what_it_means(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum hsm_status wanted;
        const char *why;
    } cases[] = {
        {403, PROBLEM("rejectedIdentifier", "no"), HSM_ERR_DENIED,
         "newOrder: rejectedIdentifier: no (the CA does not certify this)"},
        {403, PROBLEM("unsupportedIdentifier", "no"), HSM_ERR_DENIED, "identifiers of this type"},
        {403, PROBLEM("accountDoesNotExist", "no"), HSM_ERR_DENIED, "no account of this key"},
        {500, PROBLEM("serverInternal", "no"), HSM_ERR_BUSY, "a fault of the CA"},
        {403, PROBLEM("rateLimited", "no"), HSM_ERR_BUSY, "tried again later"},
        {403,
         "{\"type\":\"urn:ietf:params:acme:error:userActionRequired\",\"detail\":\"terms\","
         "\"instance\":\"https://ca.example/agree\"}",
         HSM_ERR_DENIED, "userActionRequired: terms, see https://ca.example/agree (a person"},
        {403,
         "{\"type\":\"urn:ietf:params:acme:error:compound\",\"detail\":\"several\","
         "\"subproblems\":[{\"type\":\"x\",\"detail\":\"the first\"}]}",
         HSM_ERR_DENIED, "compound: several; x: the first"},
        {403, /* section 6.7.1 */
         "{\"type\":\"urn:ietf:params:acme:error:malformed\","
         "\"detail\":\"Some of the identifiers requested were rejected\",\"subproblems\":["
         "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"Invalid underscore\","
         "\"identifier\":{\"type\":\"dns\",\"value\":\"_example.org\"}},"
         "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"not here\","
         "\"identifier\":{\"type\":\"dns\",\"value\":\"example.net\"}}]}",
         HSM_ERR_DENIED,
         "malformed: Some of the identifiers requested were rejected; dns _example.org: malformed: "
         "Invalid underscore; dns example.net: rejectedIdentifier: not here"},
        {403,
         "{\"type\":\"urn:ietf:params:acme:error:compound\",\"detail\":\"several\","
         "\"subproblems\":[" MANY ", " MANY ", " MANY ", " MANY ", 7, " MANY "]}",
         HSM_ERR_DENIED, "; and 3 more"},
        {400, "{\"type\":7}", HSM_ERR_DENIED, "HTTP status 400"},
        {400, "[]", HSM_ERR_DENIED, "HTTP status 400"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct line lines[] = {
            {"/acme/new-order", cases[i].status, cases[i].body, "Retry-After", "77", 0, false}};
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};
        enum hsm_status st;

        open_book(lines, COUNT(lines));
        st = obtain((struct acme_client_order){.csr = NULL}, &chain, &why);
        if (st != cases[i].wanted || strstr(why.text, cases[i].why) == NULL)
            fail_msg("%s: %s, %s", cases[i].body, hsm_status_text(st), why.text);
        assert_int_equal(book.new_orders, 1); /* no second newOrder */
    }
}

/* ---- an order whose URL was lost ---- */

static void
a_lost_order_is_found_in_the_list_and_no_second_one_made(void **state)
{
    char *pem = data_text("self/sp-1234.chain.pem", NULL);
    const struct line lines[] = {
        {"/acme/new-account", 200, "{\"status\":\"valid\",\"orders\":\"%s/acme/orders/a\"}",
         "Location", "%s/acme/acct/1", 0, false},
        {"/acme/orders/a", 200, "{\"orders\":[\"%s/acme/order/1\",\"%s/acme/order/2\"]}", "Link",
         "<%s/acme/orders/b>;rel=\"next\"", 0, false},
        {"/acme/orders/b", 200, "{\"orders\":[\"%s/acme/order/3\",\"%s/acme/order/4\"]}", NULL,
         NULL, 0, false},
        {"/acme/order/2", 200, ORDER("2", "valid"), NULL, NULL, 0, false}, /* already valid */
        {"/acme/order/3", 200,
         "{\"status\":\"ready\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"other\"}],"
         "\"finalize\":\"%s/x\"}",
         NULL, NULL, 0, false},
        {"/acme/order/4", 200, ORDER("4", "ready"), NULL, NULL, 0, false},
        {"/acme/order/4/finalize", 200, ORDER("4", "valid"), NULL, NULL, 0, false},
        {"/acme/cert/1", 200, pem, NULL, NULL, 0, true},
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    char noted[CA_URL_SIZE] = "";

    (void)state;
    open_book(lines, COUNT(lines));
    if (obtain((struct acme_client_order){.is_known = knows_order_1,
                                          .ordered = note_order,
                                          .context = noted},
               &chain, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(book.new_orders, 0);
    assert_non_null(strstr(noted, "/acme/order/4"));
    certs_chain_free(chain);
    free(pem);
}

#define PAGES 20 /* each with three orders of unknown state */

/* A list with the lost order at its very end; the script answers the other requests. */
static bool
with_a_long_list(struct ca_fixture *fixture, const struct acme_http_request *request,
                 struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request), *base = fixture->pa.base_url;
    char body[1024], link[CA_URL_SIZE];
    int page = 0;

    if (sscanf(path, "/acme/orders/%d", &page) != 1) {
        if (strncmp(path, "/acme/order/old", 15) != 0)
            return by_the_book(fixture, request, response);
        acme_http_respond(response, 200, "application/json", "{\"status\":\"valid\"}", 18);
        return true;
    }
    snprintf(body, sizeof(body),
             "{\"orders\":[\"%s/acme/order/old%da\",\"%s/acme/order/old%db\","
             "\"%s/acme/order/%s\"]}",
             base, page, base, page, base, page == PAGES ? "4" : "old");
    snprintf(link, sizeof(link), "<%s/acme/orders/%d>;rel=\"next\"", base, page + 1);
    if (page < PAGES)
        acme_http_response_header(response, "Link", link);
    acme_http_respond(response, 200, "application/json", body, strlen(body));
    return true;
}

static void
the_list_is_read_to_its_end(void **state)
{
    char *pem = data_text("self/sp-1234.chain.pem", NULL);
    const struct line lines[] = {
        {"/acme/new-account", 200, "{\"status\":\"valid\",\"orders\":\"%s/acme/orders/1\"}",
         "Location", "%s/acme/acct/1", 0, false},
        {"/acme/order/4", 200, ORDER("4", "ready"), NULL, NULL, 0, false},
        {"/acme/order/4/finalize", 200, ORDER("4", "valid"), NULL, NULL, 0, false},
        {"/acme/cert/1", 200, pem, NULL, NULL, 0, true},
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};

    (void)state;
    open_book(lines, COUNT(lines));
    ca.intercept = with_a_long_list;
    if (obtain((struct acme_client_order){.is_known = knows_order_1}, &chain, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(book.new_orders, 0);
    certs_chain_free(chain);
    free(pem);
}

/* The answer to a challenge took effect, but the response was lost; the CA refuses it the second
 * time. */
static void
a_challenge_that_takes_no_answer_any_more_may_have_been_answered(void **state)
{
    static const char pending[] =
        "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"sp.example\"},"
        "\"challenges\":[{\"type\":\"http-01\",\"url\":\"%s/acme/challenge/1\","
        "\"token\":\"t0ken\",\"status\":\"pending\"}]}";
    static const struct {
        const char *authz; /* its state afterwards */
        const char *finalize;
        enum acme_client_refused refused;
        const char *why;
    } cases[] = {
        {"{\"status\":\"valid\"}", PROBLEM("badCSR", "no"), ACME_REFUSED_CSR, "finalize: badCSR"},
        {"{\"status\":\"valid\"}", PROBLEM("badPublicKey", "no"), ACME_REFUSED_CSR,
         "finalize: badPublicKey"},
        {"{\"status\":\"valid\"}", PROBLEM("unauthorized", "no"), ACME_REFUSED_ORDER,
         "finalize: unauthorized"},
        {"{\"status\":\"valid\"}", "", ACME_REFUSED_OTHER, "finalize: HTTP status 400"},
        {pending, "", ACME_REFUSED_OTHER, "challenge: malformed: not pending"},
        {"{\"status\":\"invalid\"}", "", ACME_REFUSED_ORDER, "challenge: malformed: not pending"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct line lines[] = {
            {"/acme/order/1", 200, ORDER("1", "pending"), NULL, NULL, 1, false},
            {"/acme/authz/1", 200, pending, NULL, NULL, 1, false},
            {"/acme/challenge/1", 503, "{}", "Retry-After", "0", 1, false},
            {"/acme/challenge/1", 400, PROBLEM("malformed", "not pending"), NULL, NULL, 0, false},
            {"/acme/authz/1", 200, cases[i].authz, NULL, NULL, 0, false},
            {"/acme/order/1", 200, ORDER("1", "ready"), NULL, NULL, 0, false},
            {"/acme/order/1/finalize", 400, cases[i].finalize, NULL, NULL, 0, false},
        };
        enum acme_client_refused refused = ACME_REFUSED_OTHER;
        char url[CA_URL_SIZE];
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};

        open_book(lines, COUNT(lines));
        snprintf(url, sizeof(url), "%s/acme/order/1", ca.pa.base_url);
        assert_int_equal(obtain((struct acme_client_order){.resume_url = url, .refused = &refused},
                                &chain, &why),
                         HSM_ERR_DENIED);
        assert_memory_equal(why.text, cases[i].why, strlen(cases[i].why));
        assert_int_equal(refused, cases[i].refused);
        assert_int_equal(book.challenges, 2);
    }
}

static void
without_a_list_a_new_order_is_made(void **state)
{
    const struct line lines[] = {
        {"/acme/new-account", 200, "{\"status\":\"valid\",\"orders\":\"%s/acme/orders/a\"}",
         "Location", "%s/acme/acct/1", 0, false},
        {"/acme/orders/a", 404, PROBLEM("malformed", "no list"), NULL, NULL, 0, false},
        {"/acme/new-order", 403, PROBLEM("rejectedIdentifier", "enough"), NULL, NULL, 0, false},
    };
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};

    (void)state;
    open_book(lines, COUNT(lines));
    assert_int_equal(obtain((struct acme_client_order){.is_known = knows_order_1}, &chain, &why),
                     HSM_ERR_DENIED);
    assert_int_equal(book.new_orders, 1);
}

/* ---- alternate chains (RFC 8555 section 7.4.2) ---- */

/* `context` is the length of the chains to trust. */
static bool
is_that_long(void *context, const struct certs_chain *chain)
{
    return certs_chain_len(chain) == *(const size_t *)context;
}

static void
of_several_chains_the_first_that_is_accepted_is_taken(void **state)
{
    char *pem = data_text("self/sp-1234.chain.pem", NULL);
    char *leaf = data_text("self/sp-1234.cert.pem", NULL);
    char *foreign = data_text("self/rogue-leaf.cert.pem", NULL);
    const struct line lines[] = {
        {"/acme/new-order", 201, ORDER("1", "ready"), "Location", "%s/acme/order/1", 0, false},
        {"/acme/order/1/finalize", 200, ORDER("1", "valid"), NULL, NULL, 0, false},
        {"/acme/cert/1", 200, pem, "Link",
         "<%s/acme/cert/2>;rel=\"alternate\", <%s/acme/cert/3>;rel=\"alternate\","
         " <%s/acme/cert/4>;rel=\"alternate\"",
         0, true},
        {"/acme/cert/2", 200, foreign, NULL, NULL, 0, true}, /* a certificate for another key */
        {"/acme/cert/3", 404, PROBLEM("malformed", "gone"), NULL, NULL, 0, false},
        {"/acme/cert/4", 200, leaf, NULL, NULL, 0, true},
    };
    static const struct {
        size_t trusted, taken;
        int fetched; /* number of alternates */
    } cases[] = {{2, 2, 0}, {1, 1, 3}, {7, 2, 3}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t trusted = cases[i].trusted;
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};

        open_book(lines, COUNT(lines));
        if (obtain((struct acme_client_order){.accepts = is_that_long, .context = &trusted}, &chain,
                   &why) != HSM_OK)
            fail_msg("%s", why.text);
        assert_int_equal(certs_chain_len(chain), cases[i].taken);
        assert_int_equal(book.used[3] + book.used[4] + book.used[5], cases[i].fetched);
        certs_chain_free(chain);
    }
    free(foreign);
    free(leaf);
    free(pem);
}

/* ---- replaces, renewalInfo (RFC 9773) ---- */

static X509 *
some_certificate(struct certs_chain **chain)
{
    assert_int_equal(certs_chain_read(data_path("self/sp-1234.chain.pem"), chain), HSM_OK);
    return certs_chain_get(*chain, 0);
}

/* The CA refuses it because the certificate was replaced before, belongs to another account, or is
 * unknown. */
static void
what_a_certificate_replaces_is_said_once(void **state)
{
    static const struct {
        int status;
        const char *problem;
    } refusals[] = {
        {409, PROBLEM("alreadyReplaced", "done")},
        {403, PROBLEM("unauthorized", "another account's")},
        {404, PROBLEM("malformed", "no such certificate")},
    };
    struct line without_renewals[] = {
        {"/acme/directory", 200, directory_without_renewals, NULL, NULL, 0, false},
        {"/acme/new-order", 403, PROBLEM("rejectedIdentifier", "enough"), NULL, NULL, 0, false},
    };
    struct certs_chain *chain = NULL, *before = NULL;
    const X509 *replaced = some_certificate(&before);
    struct hsm_reason why = {""};
    char *certid = NULL, wanted[256];

    (void)state;
    assert_int_equal(acme_client_certid(replaced, &certid), HSM_OK);
    snprintf(wanted, sizeof(wanted),
             "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}],\"replaces\":\"%s\"}\n"
             "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"sp.example\"}]}\n",
             certid);
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const struct line lines[] = {
            {"/acme/directory", 200, directory_with_renewals, NULL, NULL, 0, false},
            {"/acme/new-order", refusals[i].status, refusals[i].problem, NULL, NULL, 1, false},
            {"/acme/new-order", 403, PROBLEM("rejectedIdentifier", "enough"), NULL, NULL, 0, false},
        };

        open_book(lines, COUNT(lines));
        assert_int_equal(obtain((struct acme_client_order){.replaces = replaced}, &chain, &why),
                         HSM_ERR_DENIED);
        assert_int_equal(book.new_orders, 2);
        assert_string_equal(book.orders, wanted);
    }

    open_book(without_renewals, COUNT(without_renewals)); /* not sent to a CA without renewalInfo */
    assert_int_equal(obtain((struct acme_client_order){.replaces = replaced}, &chain, &why),
                     HSM_ERR_DENIED);
    assert_null(strstr(book.orders, "replaces"));
    free(certid);
    certs_chain_free(before);
}

/* RFC 9773 section 4.1 and appendix A. */
static void
a_certid_is_that_of_the_rfc(void **state)
{
    json_t *vector = data_json("rfc/rfc9773_ari_certid.json");
    const char *text = json_string_value(json_object_get(vector, "cert_der_b64"));
    uint8_t *der = NULL;
    char *certid = NULL;
    X509 *cert = NULL;
    size_t len;

    (void)state;
    assert_int_equal(acme_base64_decode(text, strlen(text), &der, &len), HSM_OK);
    assert_int_equal(certs_cert_parse_der(der, len, &cert, NULL), HSM_OK);
    assert_int_equal(acme_client_certid(cert, &certid), HSM_OK);
    assert_string_equal(certid, json_string_value(json_object_get(vector, "certid")));
    free(certid);
    X509_free(cert);
    free(der);
    json_decref(vector);
}

static void
a_window_is_read_and_a_wrong_one_refused(void **state)
{
    static const struct {
        int status;
        const char *body, *retry_after;
        enum hsm_status wanted;
        time_t start, end;
        unsigned retry_s;
        const char *explanation; /* NULL: not compared */
    } cases[] = {
        {200,
         "{\"suggestedWindow\":{\"start\":\"2026-01-02T04:00:00Z\","
         "\"end\":\"2026-01-03T05:00:00+01:00\"},\"explanationURL\":\"https://ca.example/why\"}",
         "21600", HSM_OK, 1767326400, 1767412800, 21600, "https://ca.example/why"},
        {200,
         "{\"suggestedWindow\":{\"start\":\"2026-01-02T04:00:00Z\","
         "\"end\":\"2026-01-03T05:00:00+01:00\"},\"explanationURL\":\"https://a/\\u001b[2J\"}",
         "21600", HSM_OK, 1767326400, 1767412800, 21600, ""}, /* not a URL */
        {200,
         "{\"suggestedWindow\":{\"start\":\"2026-01-02T04:00:00Z\",\"end\":\"2026-01-02T04:00:"
         "01Z\"}}",
         "1", HSM_OK, 1767326400, 1767326401, 60, NULL}, /* at most once a minute */
        {200,
         "{\"suggestedWindow\":{\"start\":\"2026-01-02T04:00:00Z\",\"end\":\"2026-01-02T04:00:"
         "00Z\"}}",
         NULL, HSM_ERR_MALFORMED, 0, 0, 0, NULL},
        {200, "{\"suggestedWindow\":{\"start\":\"yesterday\",\"end\":\"2026-01-02T04:00:00Z\"}}",
         NULL, HSM_ERR_MALFORMED, 0, 0, 0, NULL},
        {200, "{\"suggestedWindow\":{\"start\":\"2026-01-02T04:00:00Z\"}}", NULL, HSM_ERR_MALFORMED,
         0, 0, 0, NULL},
        {200, "{}", NULL, HSM_ERR_MALFORMED, 0, 0, 0, NULL},
        {404, PROBLEM("malformed", "what certificate?"), NULL, HSM_ERR_DENIED, 0, 0, 0, NULL},
        {503, "{}", NULL, HSM_ERR_BUSY, 0, 0, 0, NULL},
    };
    struct certs_chain *chain = NULL;
    const X509 *cert = some_certificate(&chain);
    char *certid = NULL, path[256];

    (void)state;
    assert_int_equal(acme_client_certid(cert, &certid), HSM_OK);
    snprintf(path, sizeof(path), "/acme/renewal-info/%s", certid);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct line lines[] = {
            {"/acme/directory", 200, directory_with_renewals, NULL, NULL, 0, false},
            {path, cases[i].status, cases[i].body,
             cases[i].retry_after != NULL ? "Retry-After" : NULL, cases[i].retry_after, 0, false},
        };
        struct acme_client_renewal window = {.start = 7};
        struct hsm_reason why = {""};
        struct acme_client *client;
        enum hsm_status st;

        open_book(lines, COUNT(lines));
        client = client_new(ACME_TNAUTHLIST_BASE64URL);
        st = acme_client_renewal(client, cert, &window, &why);
        if (st != cases[i].wanted)
            fail_msg("%s: %s, %s", cases[i].body, hsm_status_text(st), why.text);
        assert_int_equal(window.start, st == HSM_OK ? cases[i].start : 7);
        if (st == HSM_OK) {
            assert_int_equal(window.end, cases[i].end);
            assert_int_equal(window.retry_after_s, cases[i].retry_s);
            if (cases[i].explanation != NULL)
                assert_string_equal(window.explanation_url, cases[i].explanation);
        }
        acme_client_free(client);
    }
    free(certid);
    certs_chain_free(chain);
}

static void
what_a_directory_says_of_the_ca_is_told(void **state)
{
    const struct line lines[] = {
        {"/acme/directory", 200, directory_with_renewals, NULL, NULL, 0, false}};
    struct acme_client_meta meta;
    struct acme_client *client;

    (void)state;
    open_book(lines, COUNT(lines));
    client = client_new(ACME_TNAUTHLIST_BASE64URL);
    acme_client_meta(client, &meta);
    assert_non_null(strstr(meta.terms_of_service, "/terms"));
    assert_null(meta.website);
    assert_true(meta.external_account_required && meta.has_renewal_info);
    acme_client_free(client);
}

/* ---- the TNAuthList encoding in deployed use ---- */

static void
a_tnauthlist_is_written_as_the_ca_wants_it(void **state)
{
    const struct line lines[] = {
        {"/acme/new-order", 403, PROBLEM("rejectedIdentifier", "enough"), NULL, NULL, 0, false}};
    static const struct {
        enum acme_tnauthlist_text text;
        const char *value;
    } cases[] = {
        {ACME_TNAUTHLIST_BASE64URL, "\"MAigBhYEODE4SA\""},
        {ACME_TNAUTHLIST_BASE64, "\"MAigBhYEODE4SA==\""},
    };
    struct certs_tnauthlist *list = NULL;

    (void)state;
    assert_int_equal(certs_tnauthlist_from_spc("818H", &list), HSM_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct acme_client *client;
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};

        open_book(lines, COUNT(lines));
        client = client_new(cases[i].text);
        assert_int_equal(acme_client_obtain(client, &(struct acme_client_order){.tnauthlist = list},
                                            &chain, &why),
                         HSM_ERR_DENIED);
        if (strstr(book.orders, cases[i].value) == NULL)
            fail_msg("%s", book.orders);
        acme_client_free(client);
    }
    certs_tnauthlist_free(list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_type_of_identifier_is_ordered_and_answered),
        cmocka_unit_test(an_authorization_that_fails_says_why),
        cmocka_unit_test(a_problem_is_told_with_what_it_means),
        cmocka_unit_test(a_lost_order_is_found_in_the_list_and_no_second_one_made),
        cmocka_unit_test(the_list_is_read_to_its_end),
        cmocka_unit_test(a_challenge_that_takes_no_answer_any_more_may_have_been_answered),
        cmocka_unit_test(without_a_list_a_new_order_is_made),
        cmocka_unit_test(of_several_chains_the_first_that_is_accepted_is_taken),
        cmocka_unit_test(what_a_certificate_replaces_is_said_once),
        cmocka_unit_test(a_certid_is_that_of_the_rfc),
        cmocka_unit_test(a_window_is_read_and_a_wrong_one_refused),
        cmocka_unit_test(what_a_directory_says_of_the_ca_is_told),
        cmocka_unit_test(a_tnauthlist_is_written_as_the_ca_wants_it),
    };

    return cmocka_run_group_tests(tests, client_group_start, client_group_stop);
}
