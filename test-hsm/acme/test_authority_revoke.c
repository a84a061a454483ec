/* test_authority_revoke.c - mirrors acme/src/authority_revoke.c and the files of
 * authority_revoke_internal.h: which accounts may put which certificates on the CRL. */
#define _GNU_SOURCE /* asprintf */

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/base64url.h>
#include <acme/events.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <hsm/time.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PASSWORD     "correct horse"
#define DAY          86400 /* seconds */

static atomic_long clock_offset_s; /* the STI-PA's clock is ahead by this */

/* An STI-CA: its root, the issuing CA below it, and the key of the service provider's
 * certificates. */
struct sti_ca {
    struct hsm_key *root_key, *issuing_key, *sp_key;
    struct certs_chain *root, *chain; /* chain: the issuing CA, its root */
};

static struct sti_ca one, two;

static void
must(enum hsm_status status, const char *what)
{
    if (status == HSM_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, hsm_status_text(status));
    abort();
}

/* ---- certificates ---- */

static X509 *
issue(struct certs_issue_request request, const char *organization, struct hsm_key *key,
      const struct certs_chain *issuer, struct hsm_key *issuer_key)
{
    struct hsm_reason why = {""};
    X509 *cert = NULL;

    request.subject.country = "US";
    request.subject.organization = organization;
    request.public_key = hsm_key_public(key);
    request.not_before = time(NULL) - 60;
    request.not_after = time(NULL) + 30 * DAY;
    if (issuer != NULL) {
        request.not_after -= request.tnauthlist != NULL ? 2 * DAY : DAY;
        request.policy_oid = CERTS_POLICY_CP_1_4;
        request.crl_url = "https://pa.example/download/v1/crl";
        request.crl_issuer = certs_cert_subject_name(certs_chain_get(pa.crl_chain, 0));
    }
    must(certs_serial_new(pa.token, request.serial, &request.serial_len), "serial");
    must(certs_issue(&request, issuer != NULL ? certs_chain_get(issuer, 0) : NULL, issuer_key,
                     &cert, &why),
         why.text);
    return cert;
}

static struct certs_chain *
chain_of(X509 *cert, const struct certs_chain *rest)
{
    struct certs_chain *chain = NULL;

    must(certs_chain_new(&chain), "chain");
    must(certs_chain_add(chain, cert), "chain");
    if (rest != NULL)
        must(certs_chain_append(chain, rest), "chain");
    X509_free(cert);
    return chain;
}

static void
sti_ca_start(struct sti_ca *ca, const char *name)
{
    char label[64];

    snprintf(label, sizeof(label), "%s root", name);
    must(hsm_key_find_or_generate(pa.token, label, &ca->root_key), label);
    ca->root = chain_of(issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_ROOT,
                                                           .subject.common_name = "SHAKEN Root"},
                              name, ca->root_key, NULL, ca->root_key),
                        NULL);
    snprintf(label, sizeof(label), "%s issuing", name);
    must(hsm_key_find_or_generate(pa.token, label, &ca->issuing_key), label);
    ca->chain =
        chain_of(issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                                                    .subject.common_name = "SHAKEN Issuing"},
                       name, ca->issuing_key, ca->root, ca->root_key),
                 ca->root);
    snprintf(label, sizeof(label), "%s sp", name);
    must(hsm_key_find_or_generate(pa.token, label, &ca->sp_key), label);
}

static void
sti_ca_stop(struct sti_ca *ca)
{
    certs_chain_free(ca->chain);
    certs_chain_free(ca->root);
    hsm_key_free(ca->sp_key);
    hsm_key_free(ca->issuing_key);
    hsm_key_free(ca->root_key);
}

/* A fresh certificate for an SPC, then the issuing CA. */
static struct certs_chain *
enrol(struct sti_ca *ca, const char *spc)
{
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain;
    char name[32];
    X509 *cert;

    must(certs_tnauthlist_from_spc(spc, &list), spc);
    snprintf(name, sizeof(name), "SHAKEN %s", spc);
    cert = issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_END_ENTITY,
                                              .subject.common_name = name,
                                              .tnauthlist = list},
                 "Example Telecom", ca->sp_key, ca->chain, ca->issuing_key);
    certs_tnauthlist_free(list);
    chain = chain_of(cert, NULL);
    must(certs_chain_add(chain, certs_chain_get(ca->chain, 0)), "chain");
    return chain;
}

/* ---- requests ---- */

static time_t
pa_clock(void)
{
    return time(NULL) + atomic_load(&clock_offset_s);
}

static char *
basic(const char *user, const char *password)
{
    char pair[256], *encoded, *header = NULL;

    snprintf(pair, sizeof(pair), "%s:%s", user, password);
    encoded = acme_base64_encode(pair, strlen(pair));
    if (encoded == NULL || asprintf(&header, "Basic %s", encoded) < 0)
        abort();
    free(encoded);
    return header;
}

/* Returns the status; *message (may be NULL) receives the answer's "message": free() it. */
static int
post(const char *authorization, const char *content_type, const char *body, char **message)
{
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    char url[128];
    json_t *answer;
    int status;

    snprintf(url, sizeof(url), "%s/sti-pa/revocations", pa.base_url);
    if (acme_http_fetch(pa.http,
                        &(struct acme_http_fetch){.method = "POST",
                                                  .url = url,
                                                  .content_type = content_type,
                                                  .authorization = authorization,
                                                  .body = body,
                                                  .body_len = strlen(body),
                                                  .reply_max = 1 << 16,
                                                  .timeout_ms = 30000},
                        &reply, &why) != HSM_OK)
        fail_msg("%s", why.text);
    status = reply.status;
    answer = json_loadb(reply.body, reply.body_len, 0, NULL);
    assert_non_null(answer);
    assert_string_equal(json_string_value(json_object_get(answer, "status")),
                        status < 300 ? "success" : "error");
    if (message != NULL)
        *message = strdup(json_string_value(json_object_get(answer, "message")));
    json_decref(answer);
    acme_http_reply_clear(&reply);
    return status;
}

/* {"issuer","serial","reason","requester"} of a certificate in the form that others write; decref
 * it. */
static json_t *
plea_of(const struct certs_chain *chain, int reason)
{
    X509 *cert = certs_chain_get(chain, 0);
    unsigned char *issuer = NULL;
    int len = i2d_X509_NAME(X509_get_issuer_name(cert), &issuer);
    char *encoded = acme_base64_encode(issuer, (size_t)len);
    char *serial = certs_cert_serial_hex(cert);
    json_t *plea = json_pack("{s:s, s:s, s:i, s:s}", "issuer", encoded, "serial", serial, "reason",
                             reason, "requester", "the test");

    assert_non_null(plea);
    OPENSSL_free(issuer);
    free(encoded);
    free(serial);
    return plea;
}

/* "Bearer KEY" for a user's account. The key is made on first use, because a password would be
 * hashed for each request. */
static char *
api_key(const char *user)
{
    char path[4300], *authorization = NULL;
    struct hsm_secret *key = NULL;
    struct acme_rows *rows = NULL;
    int64_t number;

    snprintf(path, sizeof(path), "%s/%s.key", softhsm_dir(), user);
    if (access(path, F_OK) != 0) {
        must(acme_store_query(store, &rows, "SELECT id FROM account WHERE \"user\" = ?", "s", user),
             user);
        assert_true(acme_rows_next(rows));
        must(acme_authority_api_key_add(store, acme_rows_text(rows, 0), path, 3660, &number), user);
        acme_rows_free(rows);
    }
    must(hsm_secret_read(path, &key), path);
    assert_true(asprintf(&authorization, "Bearer %s", hsm_secret_octets(key)) > 0);
    hsm_secret_free(key);
    return authorization;
}

/* Takes `plea` over. */
static int
ask(const char *user, json_t *plea)
{
    char *authorization = api_key(user);
    char *body = json_dumps(plea, JSON_COMPACT);
    int status = post(authorization, "application/json", body, NULL);

    json_decref(plea);
    free(authorization);
    free(body);
    return status;
}

/* Add the end of validity that an STI-CA reports. */
static json_t *
with_end(json_t *plea, time_t not_after)
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(not_after, text);
    json_object_set_new(plea, "notAfter", json_string(text));
    return plea;
}

static json_t *
with_chain(json_t *plea, const struct certs_chain *chain)
{
    char *pem = NULL;

    must(certs_chain_pem(chain, &pem), "PEM");
    json_object_set_new(plea, "chain", json_string(pem));
    free(pem);
    return plea;
}

/* The CRL published now; certs_crl_free() it. */
static struct certs_crl *
fetch_crl(void)
{
    char *url = acme_authority_crl_url(pa.base_url);
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {""};

    if (acme_authority_fetch_crl(pa.http, url, pa.root, pa_clock(), &crl, &why) != HSM_OK)
        fail_msg("%s", why.text);
    free(url);
    return crl;
}

static bool
is_on_crl(const struct certs_chain *chain)
{
    struct certs_crl *crl = fetch_crl();
    bool is = certs_crl_has(crl, certs_chain_get(chain, 0));

    certs_crl_free(crl);
    return is;
}

static uint64_t
crl_number(void)
{
    struct certs_crl *crl = fetch_crl();
    uint64_t number = certs_crl_number(crl);

    certs_crl_free(crl);
    return number;
}

static int64_t
count(const char *sql)
{
    struct acme_rows *rows = NULL;
    int64_t n;

    must(acme_store_query(store, &rows, sql, ""), sql);
    n = acme_rows_next(rows) ? acme_rows_int(rows, 0) : -1;
    acme_rows_free(rows);
    return n;
}

/* Stop the STI-PA if it runs, and start it on the same store with the `special` settings. */
static void
begin_with(const struct acme_authority_config *special)
{
    struct acme_authority_config config = authority_group_config(pa_clock);

    config.token_lifetime_s = 3600;
    config.crl_lifetime_s = 2 * DAY;
    config.entry_days = special->entry_days;
    config.revocations_per_hour = special->revocations_per_hour;
    config.revocations_per_account = special->revocations_per_account;
    config.revocation_automatic = special->revocation_automatic;
    config.crl_pause_ms = special->crl_pause_ms;
    acme_authority_free(authority);
    must(acme_authority_new(&config, &authority), "STI-PA");
}

static void
begin_again(unsigned entry_days)
{
    begin_with(&(struct acme_authority_config){.entry_days = entry_days});
}

/* ---- an STI-CA ---- */

static void
what_an_sti_ca_revokes_is_on_the_crl_at_once(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *other = enrol(&one, "1234");
    struct certs_crl_entry entry = {.issuer = NULL};
    struct certs_crl *crl;
    uint64_t before = crl_number();

    (void)state;
    assert_false(is_on_crl(chain));
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    crl = fetch_crl();
    assert_int_equal(certs_crl_number(crl), before + 1);
    assert_int_equal(certs_crl_find(crl, certs_chain_get(chain, 0), &entry), HSM_OK);
    assert_int_equal(entry.reason, 1);
    assert_in_range(entry.revoked_at, time(NULL) - 60, time(NULL) + 1);
    assert_false(certs_crl_has(crl, certs_chain_get(other, 0)));
    certs_crl_free(crl);
    certs_chain_free(other);
    certs_chain_free(chain);
}

static void
the_same_request_again_changes_nothing(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_crl_entry entry = {.issuer = NULL};
    struct certs_crl *crl;
    uint64_t number;
    json_t *upper = plea_of(chain, 1);
    char *serial = strdup(json_string_value(json_object_get(upper, "serial")));
    char *padded = NULL;

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    number = crl_number();
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 4)), 200); /* the first reason stays */
    /* Upper case, with the leading zeros that others write. */
    for (char *c = serial; *c != '\0'; c++)
        *c = *c >= 'a' ? (char)(*c - 'a' + 'A') : *c;
    assert_true(asprintf(&padded, "0000%s", serial) > 0);
    json_object_set_new(upper, "serial", json_string(padded));
    assert_int_equal(ask("ca-one", upper), 200);
    assert_int_equal(crl_number(), number);
    crl = fetch_crl();
    assert_int_equal(certs_crl_find(crl, certs_chain_get(chain, 0), &entry), HSM_OK);
    assert_int_equal(entry.reason, 1);
    certs_crl_free(crl);
    free(padded);
    free(serial);
    certs_chain_free(chain);
}

/* "Bearer TOKEN" of ca-one; free() it. */
static char *
log_in(void)
{
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const char *login = "{\"userId\":\"ca-one\",\"password\":\"" PASSWORD "\"}";
    char url[128], *authorization = NULL;
    json_t *session;

    snprintf(url, sizeof(url), "%s/api/v1/auth/login", pa.base_url);
    assert_int_equal(acme_http_fetch(pa.http,
                                     &(struct acme_http_fetch){.method = "POST",
                                                               .url = url,
                                                               .content_type = "application/json",
                                                               .body = login,
                                                               .body_len = strlen(login),
                                                               .reply_max = 65536,
                                                               .timeout_ms = 30000},
                                     &reply, &why),
                     HSM_OK);
    session = json_loadb(reply.body, reply.body_len, 0, NULL);
    assert_true(asprintf(&authorization, "Bearer %s",
                         json_string_value(json_object_get(session, "accessToken"))) > 0);
    json_decref(session);
    acme_http_reply_clear(&reply);
    return authorization;
}

static void
an_access_token_is_as_good_as_a_password(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 0);
    char *body = json_dumps(plea, 0);
    char *authorization = log_in();

    (void)state;
    assert_int_equal(post(authorization, "application/json", body, NULL), 200);
    assert_true(is_on_crl(chain));
    free(authorization);
    free(body);
    json_decref(plea);
    certs_chain_free(chain);
}

static void
an_sti_ca_revokes_its_own_issuing_certificate_too(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *issuing = NULL;

    (void)state;
    must(certs_chain_new(&issuing), "chain");
    must(certs_chain_add(issuing, certs_chain_get(two.chain, 0)), "chain");
    assert_int_equal(ask("ca-two", plea_of(issuing, 2)), 200);
    assert_true(is_on_crl(issuing));
    certs_chain_free(issuing);
    certs_chain_free(chain);
}

static void
an_operator_revokes_what_nobody_asked_for(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    X509 *cert = certs_chain_get(chain, 0);

    (void)state;
    for (int reason = 7; reason <= 8; reason++)
        assert_int_equal(acme_authority_revocation_add(store, cert, reason, time(NULL)),
                         HSM_ERR_MALFORMED);
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(pa.signer_chain, 0), 1, time(NULL)),
        HSM_ERR_NOT_FOUND);
    assert_false(is_on_crl(chain));
    assert_int_equal(acme_authority_revocation_add(store, cert, 9, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chain));
    assert_int_equal(acme_authority_revocation_add(store, cert, 9, time(NULL)), HSM_ERR_EXISTS);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200); /* the STI-CA may ask as well */
    assert_int_equal(count("SELECT count(*) FROM event WHERE what = 'certificate revoked' AND"
                           " who LIKE 'operator %' AND detail = 'the operator'"),
                     1);
    certs_chain_free(chain);
}

static void
an_operator_revokes_what_was_asked_for_and_waits(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 0, time(NULL)),
                     HSM_OK);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

static void
an_sti_ca_does_not_revoke_what_another_one_issued(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");
    char *message = NULL, *authorization = basic("ca-two", PASSWORD), *body;
    json_t *plea = plea_of(chain, 1);

    (void)state;
    body = json_dumps(plea, 0);
    assert_int_equal(post(authorization, "application/json", body, &message), 403);
    assert_string_equal(message, "the issuer is not of this account");
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    assert_false(is_on_crl(chain));
    /* A chain does not help an STI-CA: chains are for service providers. */
    assert_int_equal(ask("ca-two", with_chain(plea_of(chain, 1), chain)), 403);
    free(message);
    free(authorization);
    free(body);
    json_decref(plea);
    certs_chain_free(chain);
}

static void
an_sti_ca_has_no_spc_tokens(void **state)
{
    char url[128], *authorization = basic("ca-one", PASSWORD);
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const char *body =
        "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNA\",\"fingerprint\":"
        "\"SHA256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:"
        "00:00:00:00:00\"}";

    (void)state;
    snprintf(url, sizeof(url), "%s/at/account/ca1/token", pa.base_url);
    assert_int_equal(acme_http_fetch(pa.http,
                                     &(struct acme_http_fetch){.method = "POST",
                                                               .url = url,
                                                               .content_type = "application/json",
                                                               .authorization = authorization,
                                                               .body = body,
                                                               .body_len = strlen(body),
                                                               .reply_max = 65536,
                                                               .timeout_ms = 30000},
                                     &reply, &why),
                     HSM_OK);
    assert_int_equal(reply.status, 403);
    acme_http_reply_clear(&reply);
    free(authorization);
}

/* ---- bodies ---- */

static void
a_body_with_one_fault_is_refused(void **state)
{
    static const struct {
        const char *name, *value; /* JSON; NULL: absent */
        int status;
    } rows[] = {
        {"issuer", NULL, 400},
        {"serial", NULL, 400},
        {"reason", NULL, 400},
        {"requester", NULL, 400},
        {"issuer", "1", 400},
        {"issuer", "\"\"", 400},
        {"issuer", "\"****\"", 400},
        {"issuer", "\"MAM=\"", 400}, /* not a name */
        {"issuer", "\"MAA=\"", 403}, /* an empty name */
        {"serial", "1", 400},
        {"serial", "\"\"", 400},
        {"serial", "\"0\"", 400},
        {"serial", "\"00\"", 400},
        {"serial", "\"0g\"", 400},
        {"serial", "\"-1\"", 400},
        {"serial", "\"0x12\"", 400},
        {"serial", "\"0102030405060708091011121314151617181920ff\"", 400},
        {"serial", "\"8102030405060708091011121314151617181920\"", 400}, /* 21 octets with its 00 */
        {"reason", "7", 400},
        {"reason", "8", 400},
        {"reason", "11", 400},
        {"reason", "-1", 400},
        {"reason", "1.5", 400},
        {"reason", "\"1\"", 400},
        {"requester", "\"\"", 400},
        {"requester", "\"a\\nb\"", 400},
        {"requester", "\"\\u007f\"", 400},
        {"requester", "\"\\u009b2K\"", 400}, /* CSI: erase the line */
        {"requester", "\"\\u202etset\"", 400}, /* right-to-left override */
        {"requester", "\"\\u2028\"", 400},
        {"requester", "7", 400},
        {"chain", "7", 400},
        {"notAfter", "7", 400},
        {"notAfter", "\"\"", 400},
        {"notAfter", "\"2026-01-15\"", 400},
        {"notAfter", "\"1969-12-31T23:59:59Z\"", 400},
        {"notAfter", "\"2001-01-15T12:00:00Z\"", 400}, /* past */
        {"notAfter", "\"9999-12-31T23:59:59Z\"", 400}, /* no entry stays forever */
    };
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *plea = plea_of(chain, 1);
        int status;

        if (rows[i].value == NULL)
            json_object_del(plea, rows[i].name);
        else
            json_object_set_new(plea, rows[i].name,
                                json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        status = ask("ca-one", plea);
        if (status != rows[i].status)
            fail_msg("%s %s: %d", rows[i].name, rows[i].value != NULL ? rows[i].value : "missing",
                     status);
    }
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(chain);
}

static void
a_member_that_is_too_long_is_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char text[ACME_AUTHORITY_REQUESTER_MAX + 2] = "", *issuer = calloc(1, 8193);

    (void)state;
    memset(text, 'r', ACME_AUTHORITY_REQUESTER_MAX + 1);
    json_object_set_new(plea, "requester", json_string(text));
    assert_int_equal(ask("ca-one", plea), 400);
    assert_non_null(issuer);
    memset(issuer, 'A', 8192);
    plea = plea_of(chain, 1);
    json_object_set_new(plea, "issuer", json_string(issuer));
    assert_int_equal(ask("ca-one", plea), 400);
    text[ACME_AUTHORITY_REQUESTER_MAX] = '\0';
    plea = plea_of(chain, 1);
    json_object_set_new(plea, "requester", json_string(text));
    assert_int_equal(ask("ca-one", plea), 200);
    free(issuer);
    certs_chain_free(chain);
}

static void
what_is_no_request_is_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char *good = json_dumps(plea, JSON_COMPACT), *twice = NULL;
    char *authorization = basic("ca-one", PASSWORD), *wrong = basic("ca-one", "guess");
    char *unknown = basic("ca-none", PASSWORD);
    const char *const bodies[] = {"", "{", "[]", "null", "7"};

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++)
        assert_int_equal(post(authorization, "application/json", bodies[i], NULL), 400);
    assert_true(asprintf(&twice, "{\"reason\":1,%s", good + 1) > 0);
    assert_int_equal(post(authorization, "application/json", twice, NULL), 400);
    assert_int_equal(post(authorization, "text/plain", good, NULL), 415);
    assert_int_equal(post(NULL, "application/json", good, NULL), 401);
    assert_int_equal(post(wrong, "application/json", good, NULL), 403);
    assert_int_equal(post(unknown, "application/json", good, NULL), 403);
    assert_int_equal(post("Bearer nonsense", "application/json", good, NULL), 403);
    assert_false(is_on_crl(chain));
    free(unknown);
    free(wrong);
    free(authorization);
    free(twice);
    free(good);
    json_decref(plea);
    certs_chain_free(chain);
}

/* ---- a service provider ---- */

static int64_t
last_id(void)
{
    return count("SELECT max(id) FROM revocation");
}

static void
a_service_provider_asks_and_an_operator_decides(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    uint64_t number = crl_number();
    int64_t id;

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202); /* the same again */
    assert_false(is_on_crl(chain));
    assert_int_equal(crl_number(), number);
    id = last_id();
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chain)); /* when the CRL is fetched next */
    assert_int_equal(crl_number(), number + 1);
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 200);
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(acme_authority_revocation_decide(store, id + 1, true, time(NULL)),
                     HSM_ERR_NOT_FOUND);
    certs_chain_free(chain);
}

static void
what_an_operator_refused_is_refused_again_until_he_or_the_sti_ca_says_otherwise(void **state)
{
    struct certs_chain *first = enrol(&one, "1234");
    struct certs_chain *second = enrol(&one, "1234");
    int64_t id;

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(first, 5), first)), 202);
    id = last_id();
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_OK);
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(ask("sp", with_chain(plea_of(first, 5), first)), 403);
    assert_false(is_on_crl(first));
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_OK);
    assert_true(is_on_crl(first));

    assert_int_equal(ask("sp", with_chain(plea_of(second, 5), second)), 202);
    assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(second, 1)), 200);
    assert_true(is_on_crl(second));
    certs_chain_free(second);
    certs_chain_free(first);
}

static void
the_word_of_the_sti_ca_ends_the_waiting(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 0), chain)), 202);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_true(is_on_crl(chain));
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE account = 'ca1' AND reason = 1"
                           " AND id = (SELECT max(id) FROM revocation)"),
                     1);
    certs_chain_free(chain);
}

static void
a_service_provider_asks_only_for_certificates_with_its_spc(void **state)
{
    struct certs_chain *own = enrol(&one, "1234");
    struct certs_chain *foreign = enrol(&one, "5678");
    struct certs_chain *untrusted;
    struct sti_ca rogue = {.root = NULL};
    int64_t before = count("SELECT count(*) FROM revocation");
    json_t *plea;

    (void)state;
    sti_ca_start(&rogue, "Rogue");
    untrusted = enrol(&rogue, "1234");
    /* No proof, proof for another certificate, for another SPC, under an untrusted root. */
    assert_int_equal(ask("sp", plea_of(own, 1)), 400);
    assert_int_equal(ask("sp", with_chain(plea_of(foreign, 1), own)), 400);
    assert_int_equal(ask("sp", with_chain(plea_of(foreign, 1), foreign)), 403);
    assert_int_equal(ask("sp", with_chain(plea_of(untrusted, 1), untrusted)), 403);
    plea = plea_of(own, 1);
    json_object_set_new(plea, "chain", json_string("no PEM"));
    assert_int_equal(ask("sp", plea), 400);
    /* The issuing CA is not an end entity. */
    assert_int_equal(ask("sp", with_chain(plea_of(one.chain, 1), one.chain)), 403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(untrusted);
    certs_chain_free(foreign);
    certs_chain_free(own);
    sti_ca_stop(&rogue);
}

static void
what_is_decided_without_an_operator_is_configured(void **state)
{
    static const struct {
        const char *rule;
        int ca, sp, sp_compromised; /* expected statuses */
    } rows[] = {
        {NULL, 200, 202, 202},
        {"none", 202, 202, 202},
        {"sti-ca, sp:keyCompromise", 200, 202, 200},
        {"sp", 202, 200, 200},
        {"sti-ca:keyCompromise,sp:superseded sp:keyCompromise", 202, 202, 200},
    };
    static const char *const bad[] = {
        "sti_ca", "sp:", "sp:7", "sp:removeFromCRL", ":", "none, sp", "sp:keyCompromise:sp", "",
        " ",      ",",   " , ",  "none,none"};
    struct acme_authority *other = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct certs_chain *ca = enrol(&one, "1234"), *sp = enrol(&one, "1234");
        struct certs_chain *compromised = enrol(&one, "1234");

        begin_with(&(struct acme_authority_config){.revocation_automatic = rows[i].rule});
        assert_int_equal(ask("ca-one", plea_of(ca, 5)), rows[i].ca);
        assert_int_equal(is_on_crl(ca), rows[i].ca == 200);
        assert_int_equal(ask("sp", with_chain(plea_of(sp, 5), sp)), rows[i].sp);
        assert_int_equal(ask("sp", with_chain(plea_of(compromised, 1), compromised)),
                         rows[i].sp_compromised);
        assert_int_equal(is_on_crl(compromised), rows[i].sp_compromised == 200);
        certs_chain_free(compromised);
        certs_chain_free(sp);
        certs_chain_free(ca);
    }
    begin_again(0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct acme_authority_config config = {.base_url = pa.base_url,
                                                     .store = store,
                                                     .signer_key = pa.signer_key,
                                                     .signer_chain = pa.signer_chain,
                                                     .crl_key = pa.crl_key,
                                                     .crl_chain = pa.crl_chain,
                                                     .token_lifetime_s = 1,
                                                     .session_lifetime_s = 1,
                                                     .list_lifetime_s = DAY,
                                                     .crl_lifetime_s = DAY,
                                                     .revocation_automatic = bad[i],
                                                     .only_checked = true};

        assert_int_equal(acme_authority_new(&config, &other), HSM_ERR_MALFORMED);
    }
}

/* A decision of an operator takes precedence over a rule. */
static void
no_rule_grants_a_service_provider_what_an_operator_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), HSM_OK);
    begin_with(&(struct acme_authority_config){.revocation_automatic = "sp"});
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 403);
    assert_false(is_on_crl(chain));
    begin_again(0);
    certs_chain_free(chain);
}

static void
an_event_names_the_certificate(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));
    char *text = NULL, *wanted = NULL;
    size_t len = 0;
    FILE *to;

    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
            assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)),
                             HSM_OK);
        } else {
            assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
        }
        to = open_memstream(&text, &len);
        assert_int_equal(acme_events_show(store, 1, false, to), HSM_OK);
        fclose(to);
        assert_true(asprintf(&wanted, "%s of CN=SHAKEN Issuing,O=One,C=US%s", serial,
                             i == 0 ? "\n" : ": the test\n") > 0);
        assert_non_null(strstr(text, wanted));
        free(wanted);
        free(text);
    }
    free(serial);
    certs_chain_free(chain);
}

/* Encode the issuer differently: in upper case, and as another string type. */
static json_t *
with_other_encoding(json_t *plea, const char *organization)
{
    X509_NAME *name = X509_NAME_new();
    unsigned char *der = NULL;
    char *encoded;
    int len;

    X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (const unsigned char *)"us", -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "O", V_ASN1_T61STRING, (const unsigned char *)organization, -1,
                               -1, 0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               (const unsigned char *)" shaken  ISSUING ", -1, -1, 0);
    len = i2d_X509_NAME(name, &der);
    encoded = acme_base64_encode(der, (size_t)len);
    json_object_set_new(plea, "issuer", json_string(encoded));
    free(encoded);
    OPENSSL_free(der);
    X509_NAME_free(name);
    return plea;
}

/* RFC 5280 section 7.1: names are compared as by those who look up the CRL. */
static void
an_issuer_is_the_same_in_every_encoding(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    assert_int_equal(ask("ca-two", with_other_encoding(plea_of(chain, 1), "ONE")), 403);
    assert_int_equal(ask("ca-one", with_other_encoding(plea_of(chain, 1), "ONE")), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("sp", with_chain(with_other_encoding(plea_of(chain, 1), "ONE"), chain)),
                     200);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before + 1);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* This holds also where the STI-CA has no account that fixes the encoding. */
static void
a_certificate_is_asked_for_once_in_every_encoding(void **state)
{
    struct sti_ca third = {.root = NULL};
    struct certs_chain *chain;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    sti_ca_start(&third, "Without Account");
    must(acme_authority_ca_add(store, certs_chain_get(third.root, 0)), "root");
    chain = enrol(&third, "1234");
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    must(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), "refuse");
    assert_int_equal(
        ask("sp", with_chain(with_other_encoding(plea_of(chain, 1), "WITHOUT account"), chain)),
        403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before + 1);
    certs_chain_free(chain);
    sti_ca_stop(&third);
}

/* ---- the client ---- */

static void
the_client_tells_a_queued_request_from_one_that_is_done(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_crl_entry entry = {.serial_len = 0};
    struct hsm_secret *password = NULL;
    struct hsm_reason why = {""};
    char url[128], *pem = NULL;
    bool queued = false;
    struct acme_authority_revocation revocation = {.http = pa.http,
                                                   .url = url,
                                                   .user = "sp",
                                                   .serial = entry.serial,
                                                   .reason = 1,
                                                   .requester = "the test"};
    uint8_t *issuer = NULL;

    (void)state;
    snprintf(url, sizeof(url), "%s" ACME_AUTHORITY_REVOCATIONS_PATH, pa.base_url);
    must(certs_crl_entry_of(certs_chain_get(chain, 0), &entry, NULL), "entry");
    must(certs_name_der(entry.issuer, &issuer, &revocation.issuer_len), "issuer");
    revocation.serial_len = entry.serial_len;
    must(certs_chain_pem(chain, &pem), "PEM");
    must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), "password");
    revocation.issuer = issuer;
    revocation.password = password;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why),
                     HSM_ERR_DENIED); /* no chain */
    assert_non_null(strstr(why.text, "chain: missing"));
    revocation.chain_pem = pem;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why), HSM_OK);
    assert_true(queued);
    revocation.user = "ca-one";
    revocation.chain_pem = NULL;
    assert_int_equal(acme_authority_request_revocation(&revocation, &queued, &why), HSM_OK);
    assert_false(queued);
    revocation.url = "https://127.0.0.1:1/sti-pa/revocations";
    assert_int_equal(acme_authority_request_revocation(&revocation, NULL, &why), HSM_ERR_BUSY);
    hsm_secret_free(password);
    free(pem);
    free(issuer);
    certs_chain_free(chain);
}

/* ---- accounts of STI-CAs ---- */

static enum hsm_status
add_ca_account(const char *id, const char *user, const struct certs_chain *chain)
{
    struct hsm_secret *password = NULL;
    enum hsm_status st;

    must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), "password");
    st = acme_authority_ca_account_add(store, id, user, password, chain);
    hsm_secret_free(password);
    return st;
}

static void
an_account_of_an_sti_ca_is_for_a_trusted_chain_that_no_other_has(void **state)
{
    struct sti_ca rogue = {.root = NULL}, third = {.root = NULL};
    struct certs_chain *sp = enrol(&one, "1234");
    int64_t accounts = count("SELECT count(*) FROM account");

    (void)state;
    sti_ca_start(&rogue, "Rogue");
    sti_ca_start(&third, "Third");
    must(acme_authority_ca_add(store, certs_chain_get(third.root, 0)), "root");
    assert_int_equal(add_ca_account("x", "ca-x", rogue.chain), HSM_ERR_UNTRUSTED);
    assert_int_equal(add_ca_account("x", "ca-x", sp), HSM_ERR_UNTRUSTED);
    assert_int_equal(add_ca_account("x", "ca-x", one.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("ca1", "ca-x", third.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("x", "ca-one", third.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("x/y", "ca-x", third.chain), HSM_ERR_MALFORMED);
    assert_int_equal(add_ca_account("x", "a:b", third.chain), HSM_ERR_MALFORMED);
    assert_int_equal(count("SELECT count(*) FROM account"), accounts);
    assert_int_equal(count("SELECT count(*) FROM ca_issuer"), 4);
    assert_int_equal(add_ca_account("x", "ca-x", third.chain), HSM_OK);
    assert_int_equal(count("SELECT count(*) FROM ca_issuer"), 6);
    certs_chain_free(sp);
    sti_ca_stop(&third);
    sti_ca_stop(&rogue);
}

static void
sha256_hex(const X509 *cert, char hex[65])
{
    uint8_t digest[32];

    must(certs_cert_sha256(cert, digest), "digest");
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void
an_sti_ca_that_is_trusted_no_more_revokes_nothing(void **state)
{
    struct certs_chain *chain = enrol(&two, "1234");
    struct certs_chain *entered = enrol(&two, "1234");
    X509 *root = certs_chain_get(two.root, 0);
    char hex[65];

    (void)state;
    assert_int_equal(ask("ca-two", plea_of(entered, 1)), 200);
    sha256_hex(root, hex);
    must(acme_authority_ca_remove(store, hex, "ceased"), "remove");
    assert_int_equal(ask("ca-two", plea_of(chain, 1)), 403);
    assert_false(is_on_crl(chain));
    assert_true(is_on_crl(entered)); /* revoked certificates stay revoked */
    /* A revocation by the governance authority does not depend on accounts. */
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 1, time(NULL)),
                     HSM_OK);
    must(acme_authority_ca_add(store, root), "root");
    assert_int_equal(ask("ca-two", plea_of(chain, 1)), 200);
    certs_chain_free(entered);
    certs_chain_free(chain);
}

/* A second issuing CA under the same root. */
static void
an_account_grows_with_the_next_issuing_certificate(void **state)
{
    struct sti_ca next = {.root = one.root, .issuing_key = one.issuing_key, .sp_key = one.sp_key};
    struct certs_chain *sp;
    X509 *cert;

    (void)state;
    cert = issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                                              .subject.common_name = "SHAKEN Issuing 2"},
                 "One", one.issuing_key, one.root, one.root_key);
    next.chain = chain_of(cert, one.root);
    sp = enrol(&next, "1234");
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 403);
    assert_int_equal(acme_authority_ca_account_extend(store, "ca2", next.chain), HSM_ERR_EXISTS);
    assert_int_equal(acme_authority_ca_account_extend(store, "1001", next.chain),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_ca_account_extend(store, "none", next.chain),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_ca_account_extend(store, "ca1", sp), HSM_ERR_UNTRUSTED);
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 403);
    for (int i = 0; i < 2; i++) /* repeating it is harmless */
        assert_int_equal(acme_authority_ca_account_extend(store, "ca1", next.chain), HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 200);
    assert_int_equal(ask("ca-two", plea_of(sp, 1)), 403);
    assert_true(is_on_crl(sp));
    certs_chain_free(sp);
    certs_chain_free(next.chain);
}

/* ---- the CRL ---- */

static void
the_crl_is_signed_anew_each_day_with_the_same_entries(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    uint64_t number;

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 3)), 200);
    number = crl_number();
    acme_authority_refresh(authority);
    assert_int_equal(crl_number(), number);
    atomic_store(&clock_offset_s, DAY - 3600);
    acme_authority_refresh(authority);
    assert_int_equal(count("SELECT max(number) FROM document WHERE kind = 1"), (int64_t)number);
    atomic_store(&clock_offset_s, DAY);
    acme_authority_refresh(authority);
    assert_int_equal(count("SELECT max(number) FROM document WHERE kind = 1"), (int64_t)number + 1);
    atomic_store(&clock_offset_s, 0);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* A revocation accepted but not published before a crash is published after it. */
static void
a_restart_publishes_what_was_decided(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    const char *undo = "DELETE FROM document WHERE kind = 1 AND number ="
                       " (SELECT max(number) FROM document WHERE kind = 1)";

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    must(acme_store_run(store, NULL, undo, ""), undo);
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE entry IS NOT NULL"),
                     count("SELECT max(entry) FROM revocation"));
    begin_again(0);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* Sign a new CRL at that offset of the clock. */
static void
sign_crl_at(int offset_s)
{
    uint64_t number = crl_number();

    atomic_store(&clock_offset_s, offset_s);
    acme_authority_refresh(authority);
    assert_int_equal(crl_number(), number + 1);
}

/* RFC 5280 section 3.3; here CRLs are valid for two days. */
static void
an_entry_leaves_the_crl_after_its_certificate_has_ended(void **state)
{
    struct certs_chain *ended = enrol(&one, "1234");
    struct certs_chain *good = enrol(&one, "1234");
    struct certs_chain *unknown = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation WHERE dropped IS NOT NULL");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(ended, 1), time(NULL) + 3600)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(good, 1), time(NULL) + 5 * DAY)), 200);
    assert_int_equal(ask("ca-one", plea_of(unknown, 1)), 200);
    /* The first CRL after the end of the certificate, and another while the first is valid. */
    for (int day = 1; day <= 2; day++) {
        sign_crl_at(day * DAY);
        assert_true(is_on_crl(ended));
    }
    sign_crl_at(3 * DAY);
    assert_false(is_on_crl(ended));
    assert_true(is_on_crl(good));
    assert_true(is_on_crl(unknown));
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE dropped IS NOT NULL"),
                     before + 1);
    /* requested again, without an end of validity */
    assert_int_equal(ask("ca-one", plea_of(ended, 4)), 200);
    assert_true(is_on_crl(ended));
    sign_crl_at(0);
    assert_true(is_on_crl(good));
    certs_chain_free(unknown);
    certs_chain_free(good);
    certs_chain_free(ended);
}

/* Only CRLs that begin after the certificate's end count, however late they begin. */
static void
an_entry_is_on_a_crl_that_is_later_than_its_certificate_however_late(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 3600)), 200);
    assert_true(is_on_crl(chain));
    sign_crl_at(5 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(6 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(7 * DAY + 1);
    assert_false(is_on_crl(chain));
    sign_crl_at(0);
    certs_chain_free(chain);
}

static void
an_entry_whose_end_nobody_knows_stays_as_long_as_configured(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *told = enrol(&one, "1234");

    (void)state;
    begin_again(1);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(told, 1)), 200);
    assert_int_equal(ask("ca-one", with_chain(plea_of(told, 1), told)), 200);
    sign_crl_at(DAY); /* a day has passed, but thisUpdate is backdated */
    assert_true(is_on_crl(chain));
    sign_crl_at(2 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(3 * DAY);
    assert_true(is_on_crl(chain));
    sign_crl_at(4 * DAY);
    assert_false(is_on_crl(chain));
    assert_true(is_on_crl(told)); /* its certificate was shown afterwards */
    sign_crl_at(0);
    begin_again(0);
    certs_chain_free(told);
    certs_chain_free(chain);
}

/* When the certificate is shown, its end is read from it, and a different statement in the request
 * is ignored. */
static void
when_a_certificate_ends_is_read_from_it_where_it_is_shown(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&one, "1234")};
    char sql[160];

    (void)state;
    assert_int_equal(
        ask("sp", with_end(with_chain(plea_of(chains[0], 1), chains[0]), time(NULL) + 60)), 202);
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(chains[1], 0), 1, time(NULL)), HSM_OK);
    for (size_t i = 0; i < COUNT(chains); i++) {
        snprintf(sql, sizeof(sql), "SELECT not_after - %lld FROM revocation WHERE id = %lld",
                 (long long)certs_cert_not_after(certs_chain_get(chains[i], 0)),
                 (long long)(last_id() - 1) + (long long)i);
        assert_int_equal(count(sql), 0);
        certs_chain_free(chains[i]);
    }
}

/* CRLs are valid for two days: an entry whose end could be set earlier would be missing from the
 * fourth. */
static void
who_may_revoke_cannot_take_it_back(void **state)
{
    struct certs_chain *untold = enrol(&one, "1234");
    struct certs_chain *told = enrol(&one, "1234");
    struct certs_chain *shown = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", plea_of(untold, 1)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(untold, 1), time(NULL) - DAY)), 400);
    assert_int_equal(ask("ca-one", with_end(plea_of(untold, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(told, 1), time(NULL) + 20 * DAY)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(told, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_chain(plea_of(shown, 1), shown)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(shown, 1), time(NULL) + 60)), 200);
    for (int day = 1; day <= 4; day++)
        sign_crl_at(day * DAY);
    assert_true(is_on_crl(untold));
    assert_true(is_on_crl(told));
    assert_true(is_on_crl(shown));
    sign_crl_at(0);
    certs_chain_free(shown);
    certs_chain_free(told);
    certs_chain_free(untold);
}

/* Another trusted STI-CA cannot end an entry either, by issuing under that name a certificate that
 * ends earlier. */
static void
a_certificate_from_the_root_of_another_sti_ca_shows_nothing(void **state)
{
    struct sti_ca forger = two;
    struct certs_chain *forged;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    forger.chain =
        chain_of(issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                                                    .subject.common_name = "SHAKEN Issuing"},
                       "One", two.issuing_key, two.root, two.root_key),
                 two.root);
    forged = enrol(&forger, "1234");
    assert_int_equal(ask("ca-one", with_chain(plea_of(forged, 1), forged)), 403);
    assert_int_equal(ask("sp", with_chain(plea_of(forged, 1), forged)), 403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(forged);
    certs_chain_free(forger.chain);
}

/* An early end stated first does not override a later one from another party that may revoke. */
static void
a_later_end_is_heard_from_whoever_may_revoke(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *shown = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 60)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(chain, 1), time(NULL) + 20 * DAY)), 200);
    assert_int_equal(ask("ca-one", with_end(plea_of(shown, 1), time(NULL) + 60)), 200);
    for (int day = 1; day <= 4; day++)
        sign_crl_at(day * DAY);
    assert_true(is_on_crl(chain));
    assert_false(is_on_crl(shown));
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 200);
    assert_true(is_on_crl(shown));
    sign_crl_at(0);
    certs_chain_free(shown);
    certs_chain_free(chain);
}

/* Simulates a full history of earlier entries. */
static void
entries_that_left_the_crl_make_room(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char sql[128];

    (void)state;
    snprintf(sql, sizeof(sql),
             "UPDATE revocation SET entry = %d WHERE entry ="
             " (SELECT max(entry) FROM revocation)",
             ACME_AUTHORITY_REVOCATIONS_MAX);
    must(acme_store_run(store, NULL, sql, ""), sql);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

struct racer {
    struct certs_chain *chain;
    int status;
};

static void *
race(void *context)
{
    struct racer *racer = context;

    racer->status = ask("ca-one", plea_of(racer->chain, 1));
    return NULL;
}

static void
requests_at_once_are_all_on_the_crl(void **state)
{
    struct racer racers[6];
    pthread_t threads[COUNT(racers)];
    int64_t before = count("SELECT max(entry) FROM revocation");

    (void)state;
    for (size_t i = 0; i < COUNT(racers); i++) /* each pair requests the same revocation */
        racers[i] = (struct racer){.chain = i % 2 == 0 ? enrol(&one, "1234") : racers[i - 1].chain};
    for (size_t i = 0; i < COUNT(racers); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < COUNT(racers); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].status, 200);
        assert_true(is_on_crl(racers[i].chain));
    }
    assert_int_equal(count("SELECT max(entry) FROM revocation"), before + 3);
    for (size_t i = 0; i < COUNT(racers); i += 2)
        certs_chain_free(racers[i].chain);
}

/* The STI-PA's program calls this once a second. */
static void *
tick(void *stop)
{
    const struct timespec second = {1, 0};

    while (!atomic_load((atomic_bool *)stop)) {
        acme_authority_tick(authority);
        nanosleep(&second, NULL);
    }
    return NULL;
}

static time_t
clock_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

#define MANY 200

/* A request does not wait until the CRL is signed, and requests for the CRL do not cause a
 * signature for each entry. */
static void
many_revocations_take_few_crls(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    json_t *plea = plea_of(chain, 1);
    char *authorization = api_key("ca-one");
    atomic_bool stop = false;
    pthread_t ticking;
    uint64_t before;
    size_t entries;
    time_t begun;
    struct certs_crl *crl;

    (void)state;
    begin_with(&(struct acme_authority_config){.crl_pause_ms = ACME_AUTHORITY_CRL_PAUSE_MS});
    crl = fetch_crl();
    before = certs_crl_number(crl);
    entries = certs_crl_len(crl);
    certs_crl_free(crl);
    begun = clock_s();
    assert_int_equal(pthread_create(&ticking, NULL, tick, &stop), 0);
    for (int i = 0; i < MANY; i++) {
        char serial[32], *body;

        snprintf(serial, sizeof(serial), "7777%08x", (unsigned)i);
        json_object_set_new(plea, "serial", json_string(serial));
        body = json_dumps(plea, 0);
        assert_int_equal(post(authorization, "application/json", body, NULL), 200);
        free(body);
        if (i % 10 == 0) /* a verifier fetches it meanwhile */
            (void)crl_number();
    }
    do { /* "within about a second"; the test runner ends the loop otherwise */
        crl = fetch_crl();
        if (certs_crl_len(crl) < entries + MANY) {
            certs_crl_free(crl);
            crl = NULL;
            nanosleep(&(struct timespec){0, 50000000}, NULL);
        }
    } while (crl == NULL);
    /* At most one CRL per second from the ticks and one per second from requests for it. */
    assert_in_range(certs_crl_number(crl) - before, 1, 2 * (clock_s() - begun + 2));
    assert_true(certs_crl_number(crl) - before < MANY / 2);
    certs_crl_free(crl);
    atomic_store(&stop, true);
    pthread_join(ticking, NULL);
    begin_again(0);
    free(authorization);
    json_decref(plea);
    certs_chain_free(chain);
}

/* ---- how much ---- */

static const char *
last_event(void)
{
    static char what[64];
    struct acme_rows *rows = NULL;

    must(acme_store_query(store, &rows, "SELECT what FROM event ORDER BY id DESC LIMIT 1", ""),
         "event");
    snprintf(what, sizeof(what), "%s", acme_rows_next(rows) ? acme_rows_text(rows, 0) : "");
    acme_rows_free(rows);
    return what;
}

static void
an_account_has_so_many_revocations_and_another_is_not_touched(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&one, "1234"), enrol(&two, "1234")};
    int64_t own = count("SELECT count(*) FROM revocation WHERE account = 'ca1' AND dropped IS NULL"
                        " AND state <> 'refused' AND by_operator = 0");

    (void)state;
    begin_with(&(struct acme_authority_config){.revocations_per_account = (unsigned)own + 1});
    assert_int_equal(ask("ca-one", plea_of(chains[0], 1)), 200);
    for (int i = 0; i < 2; i++) /* the event is recorded once */
        assert_int_equal(ask("ca-one", plea_of(chains[1], 1)), 403);
    assert_string_equal(last_event(), "quota of revocations used up");
    assert_int_equal(count("SELECT count(*) FROM event WHERE what LIKE 'quota %'"), 1);
    assert_int_equal(ask("ca-one", plea_of(chains[0], 1)), 200); /* already revoked */
    assert_int_equal(ask("ca-two", plea_of(chains[2], 1)), 200);
    assert_false(is_on_crl(chains[1]));
    /* A revocation by the operator does not count. */
    assert_int_equal(
        acme_authority_revocation_add(store, certs_chain_get(chains[1], 0), 1, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chains[1]));
    begin_again(0);
    for (size_t i = 0; i < COUNT(chains); i++)
        certs_chain_free(chains[i]);
}

static void
an_account_asks_so_often_in_an_hour(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    struct certs_chain *other = enrol(&two, "1234");

    (void)state;
    begin_with(&(struct acme_authority_config){.revocations_per_hour = 2});
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 429);
    assert_string_equal(last_event(), "too many requests to revoke");
    assert_int_equal(ask("ca-two", plea_of(other, 1)), 200);
    atomic_store(&clock_offset_s, 3600);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    atomic_store(&clock_offset_s, 0);
    begin_again(0);
    certs_chain_free(other);
    certs_chain_free(chain);
}

/* ---- revocations made in error ---- */

static void
an_operator_takes_off_what_should_never_have_been_on_the_crl(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&two, "1234"), enrol(&one, "1234")};
    struct certs_chain *own = enrol(&one, "1234");
    int64_t first, dropped = 0;
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < COUNT(chains); i++)
        assert_int_equal(ask(i == 1 ? "ca-two" : "ca-one", plea_of(chains[i], 1)), 200);
    first = last_id() - 2;
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(own, 0), 1, time(NULL)),
                     HSM_OK);
    number = crl_number();
    assert_int_equal(acme_authority_revocations_drop(store, "ca1", first, first + 3, "stolen",
                                                     time(NULL), &dropped),
                     HSM_OK);
    assert_int_equal(dropped, 2);
    assert_string_equal(last_event(), "revocations dropped");
    assert_false(is_on_crl(chains[0]));
    assert_true(is_on_crl(chains[1]));
    assert_false(is_on_crl(chains[2]));
    assert_true(is_on_crl(own)); /* the operator's, although that STI-CA issued it */
    assert_int_equal(crl_number(), number + 1);
    assert_int_equal(acme_authority_revocations_drop(store, "ca1", first, first + 2, "stolen",
                                                     time(NULL), &dropped),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(ask("sp", with_chain(plea_of(chains[0], 1), chains[0])), 403);
    /* The last one can be dropped as well, and a revocation after that is visible. */
    assert_int_equal(acme_authority_revocations_drop(store, NULL, first + 1, first + 1, "x",
                                                     time(NULL), &dropped),
                     HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(chains[2], 1)), 200);
    assert_true(is_on_crl(chains[2]));
    assert_false(is_on_crl(chains[1]));
    certs_chain_free(own);
    for (size_t i = 0; i < COUNT(chains); i++)
        certs_chain_free(chains[i]);
}

/* ---- what an operator sees ---- */

static void
the_list_of_requests_tells_who_wants_what(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));
    char *text = NULL, *line;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocations_show(store, to), HSM_OK);
    fclose(to);
    line = strstr(text, serial);
    assert_non_null(line);
    while (line > text && line[-1] != '\n')
        line--;
    assert_int_equal(strtol(line, NULL, 10), last_id());
    assert_non_null(strstr(line, "queued"));
    assert_non_null(strstr(line, "keyCompromise"));
    assert_non_null(strstr(line, "CN=SHAKEN Issuing"));
    assert_non_null(strstr(line, "asked by account 1001: the test"));
    free(text);
    free(serial);
    certs_chain_free(chain);
}

/* Simulates that many entries from others, in SQLite's dialect; the CRL is not signed with them. */
static void
a_full_crl_is_told_and_takes_nothing(void **state)
{
    struct certs_chain *chain;
    char *authorization, *body, *message = NULL;
    json_t *plea;
    const char *fill =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        " INSERT INTO revocation (issuer, serial, reason, requester, account, state, asked,"
        " decided, entry) SELECT x'3000', CAST(i AS BLOB), 1, 'filler', 'ca2', 'revoked', 1, 1,"
        " 1000000 + i FROM n";

    (void)state;
    if (getenv("STI_TEST_STORE") != NULL)
        skip();
    chain = enrol(&one, "1234");
    authorization = api_key("ca-one");
    plea = plea_of(chain, 1);
    must(acme_store_run(store, NULL, fill, "i", (int64_t)ACME_AUTHORITY_REVOCATIONS_MAX), fill);
    body = json_dumps(plea, 0);
    assert_int_equal(post(authorization, "application/json", body, &message), 507);
    assert_string_equal(message, "the CRL is full, and the STI-PA's operator knows");
    assert_string_equal(last_event(), "CRL full");
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 1, time(NULL)),
                     HSM_ERR_UNSUPPORTED);
    must(acme_store_run(store, NULL, "DELETE FROM revocation WHERE requester = 'filler'", ""),
         "delete");
    assert_int_equal(post(authorization, "application/json", body, NULL), 200);
    free(message);
    free(body);
    json_decref(plea);
    free(authorization);
    certs_chain_free(chain);
}

/* ---- STI-CAs that do not use this software ---- */

#define PEER_CA                                                                                    \
    {"basicConstraints", "critical,CA:TRUE"}, {"keyUsage", "critical,keyCertSign"},                \
    {                                                                                              \
        "subjectKeyIdentifier", "hash"                                                             \
    }
#define PEER_BELOW                                                                                 \
    {"authorityKeyIdentifier", "keyid"},                                                           \
    {                                                                                              \
        "crlDistributionPoints", "URI:https://pa.example/download/v1/crl"                          \
    }
static const struct peer_ext peer_root_exts[] = {PEER_CA, {NULL, NULL}};
static const struct peer_ext peer_ca_exts[] = {PEER_CA, PEER_BELOW, {NULL, NULL}};
static const struct peer_ext peer_leaf_exts[] = {{"basicConstraints", "critical,CA:FALSE"},
                                                 {"keyUsage", "critical,digitalSignature"},
                                                 {"subjectKeyIdentifier", "hash"},
                                                 PEER_BELOW,
                                                 {PEER_TNAUTHLIST_1234},
                                                 {NULL, NULL}};

/* Keys in memory on P-384, as 3 of the 19 roots in production have. */
struct peer_ca {
    EVP_PKEY *root_key, *key, *leaf_key;
    X509 *root, *ca;
    unsigned long issued; /* number of certificates */
};

/* The name includes C and O; issuer NULL: a root. */
static X509 *
peer_issue(struct peer_ca *peer, const char *cn, EVP_PKEY *key, const X509 *issuer,
           EVP_PKEY *issuer_key, const struct peer_ext *exts)
{
    X509 *cert = peer_cert(&(struct peer_spec){.cn = cn,
                                               .key = key,
                                               .issuer = issuer,
                                               .issuer_key = issuer_key,
                                               .not_before = time(NULL) - 60,
                                               .not_after = time(NULL) + 20 * DAY,
                                               .exts = exts});
    X509_NAME *name = X509_NAME_new();
    char serial[32];

    peer_must(
        X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (uint8_t *)"US", -1, -1, 0) == 1 &&
            X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (uint8_t *)"Peer", -1, -1, 0) ==
                1 &&
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0) ==
                1 &&
            X509_set_subject_name(cert, name) == 1 &&
            (issuer != NULL || X509_set_issuer_name(cert, name) == 1),
        cn);
    snprintf(serial, sizeof(serial), "4f%016lx", ++peer->issued);
    peer_set_serial(cert, serial, issuer_key);
    peer_must(X509_sign(cert, issuer_key, EVP_sha384()) > 0, cn); /* CP 1.4, for P-384 */
    X509_NAME_free(name);
    return cert;
}

static void
peer_ca_start(struct peer_ca *peer)
{
    peer->root_key = peer_key_new("P-384");
    peer->key = peer_key_new("P-384");
    peer->leaf_key = peer_key_new("P-256");
    peer->root =
        peer_issue(peer, "Peer SHAKEN Root", peer->root_key, NULL, peer->root_key, peer_root_exts);
    peer->ca = peer_issue(peer, "Peer SHAKEN Issuing", peer->key, peer->root, peer->root_key,
                          peer_ca_exts);
}

static void
peer_ca_stop(struct peer_ca *peer)
{
    X509_free(peer->ca);
    X509_free(peer->root);
    EVP_PKEY_free(peer->leaf_key);
    EVP_PKEY_free(peer->key);
    EVP_PKEY_free(peer->root_key);
}

static struct certs_chain *
peer_ca_chain(const struct peer_ca *peer)
{
    struct certs_chain *chain = NULL;

    must(certs_chain_new(&chain), "chain");
    must(certs_chain_add(chain, peer->ca), "chain");
    must(certs_chain_add(chain, peer->root), "chain");
    return chain;
}

static X509 *
peer_leaf(struct peer_ca *peer)
{
    return peer_issue(peer, "SHAKEN 1234", peer->leaf_key, peer->ca, peer->key, peer_leaf_exts);
}

static struct certs_chain *
peer_enrol(struct peer_ca *peer)
{
    struct certs_chain *chain = chain_of(peer_leaf(peer), NULL);

    must(certs_chain_add(chain, peer->ca), "chain");
    return chain;
}

/* A certificate under a trusted root can be revoked, whatever the curve of the keys above it. */
static void
an_sti_ca_on_another_curve_revokes_as_others_do(void **state)
{
    struct peer_ca peer = {.issued = 0};
    struct certs_chain *above, *asked, *shown, *added;

    (void)state;
    peer_ca_start(&peer);
    above = peer_ca_chain(&peer);
    asked = peer_enrol(&peer);
    shown = peer_enrol(&peer);
    added = peer_enrol(&peer);
    assert_int_equal(add_ca_account("peer", "ca-peer", above), HSM_ERR_UNTRUSTED);
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 403);
    must(acme_authority_ca_add(store, peer.root), "root");
    must(add_ca_account("peer", "ca-peer", above), "account");
    assert_int_equal(ask("ca-peer", with_chain(plea_of(asked, 1), asked)), 200);
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 202);
    must(acme_authority_revocation_decide(store, last_id(), true, time(NULL)), "approve");
    must(acme_authority_revocation_add(store, certs_chain_get(added, 0), 1, time(NULL)), "add");
    acme_authority_refresh(authority);
    assert_true(is_on_crl(asked));
    assert_true(is_on_crl(shown));
    assert_true(is_on_crl(added));
    certs_chain_free(added);
    certs_chain_free(shown);
    certs_chain_free(asked);
    certs_chain_free(above);
    peer_ca_stop(&peer);
}

/* RFC 5280 section 4.1.2.2: the refusal names the fault, and nothing is stored that a CRL cannot
 * encode. */
static void
a_certificate_whose_serial_number_no_crl_has_is_refused(void **state)
{
    static const char *const serials[] = {"8000112233445566778899aabbccddeeff001122",
                                          "7f00112233445566778899aabbccddeeff00112233", "-80"};
    struct certs_crl_entry entry;
    struct peer_ca peer = {.issued = 0};
    struct certs_chain *good;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    peer_ca_start(&peer);
    for (size_t i = 0; i < COUNT(serials); i++) {
        X509 *leaf = peer_leaf(&peer);

        X509_set_issuer_name(leaf, certs_cert_subject_name(certs_chain_get(one.chain, 0)));
        peer_set_serial(leaf, serials[i], peer.key);
        assert_int_equal(certs_crl_entry_of(leaf, &entry, NULL), HSM_ERR_UNSUPPORTED);
        assert_int_equal(acme_authority_revocation_add(store, leaf, 1, time(NULL)),
                         HSM_ERR_UNSUPPORTED);
        X509_free(leaf);
    }
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    good = enrol(&one, "1234");
    assert_int_equal(ask("ca-one", plea_of(good, 1)), 200);
    assert_true(is_on_crl(good));
    certs_chain_free(good);
    peer_ca_stop(&peer);
}

/* Rows that an earlier version stored. */
static void
a_row_that_no_crl_can_have_does_not_stop_the_crl(void **state)
{
    static const struct {
        uint8_t serial[CERTS_SERIAL_MAX + 1];
        size_t len;
    } bad[] = {{{0}, 0}, {{0x80}, 1}, {{1}, CERTS_SERIAL_MAX + 1}};
    struct certs_chain *chain = enrol(&one, "1234");
    size_t listed;
    struct certs_crl *crl;
    uint64_t number = crl_number();

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        must(acme_store_run(store, NULL,
                            "INSERT INTO revocation (issuer, serial, reason, requester, account,"
                            " state, asked, decided, entry) SELECT ?, ?, 1, 'earlier', 'ca2',"
                            " 'revoked', 1, 1, max(entry) + 1 FROM revocation",
                            "bb", "\x30\x00", (size_t)2, bad[i].serial, bad[i].len),
             "insert");
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    crl = fetch_crl();
    listed = (size_t)count("SELECT count(*) FROM revocation WHERE entry IS NOT NULL AND dropped"
                           " IS NULL AND requester <> 'earlier'");
    assert_int_equal(certs_crl_number(crl), number + 1);
    assert_int_equal(certs_crl_len(crl), listed);
    assert_true(certs_crl_has(crl, certs_chain_get(chain, 0)));
    must(acme_store_run(store, NULL, "DELETE FROM revocation WHERE requester = 'earlier'", ""),
         "delete");
    certs_crl_free(crl);
    certs_chain_free(chain);
}

/* RFC 5280 section 5.3.3: an entry inherits the issuer, which keeps a CRL of many STI-CAs short. */
static void
an_issuer_is_named_once_for_all_its_entries(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&two, "1234"), enrol(&one, "1234"),
                                    enrol(&two, "1234")};
    const X509_NAME *before = NULL;
    struct certs_crl *crl;
    int64_t issuers = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(chains); i++)
        assert_int_equal(ask(i % 2 == 0 ? "ca-one" : "ca-two", plea_of(chains[i], 1)), 200);
    crl = fetch_crl();
    for (size_t i = 0; i < certs_crl_len(crl); i++) {
        struct certs_crl_entry entry;

        certs_crl_get(crl, i, &entry);
        issuers += before == NULL || X509_NAME_cmp(before, entry.issuer) != 0;
        before = entry.issuer;
    }
    assert_int_equal(issuers, count("SELECT count(DISTINCT issuer) FROM revocation"
                                    " WHERE entry IS NOT NULL AND dropped IS NULL"));
    for (size_t i = 0; i < COUNT(chains); i++) {
        assert_true(certs_crl_has(crl, certs_chain_get(chains[i], 0)));
        certs_chain_free(chains[i]);
    }
    certs_crl_free(crl);
}

/* ---- the group ---- */

/* The port, and thus the base URL, is known only once the server listens. */
static int
start(void **state)
{
    const char *const spcs[] = {"1234", "709J", NULL};

    (void)state;
    authority_group_open();
    begin_again(0);
    sti_ca_start(&one, "One");
    sti_ca_start(&two, "Two");
    must(acme_authority_ca_add(store, certs_chain_get(one.root, 0)), "root");
    must(acme_authority_ca_add(store, certs_chain_get(two.root, 0)), "root");
    must(add_ca_account("ca1", "ca-one", one.chain), "account");
    must(add_ca_account("ca2", "ca-two", two.chain), "account");
    must(authority_group_account("1001", "sp", PASSWORD, spcs, false), "account");
    return 0;
}

static int
stop(void **state)
{
    sti_ca_stop(&two);
    sti_ca_stop(&one);
    return authority_group_stop(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_sti_ca_revokes_is_on_the_crl_at_once),
        cmocka_unit_test(the_same_request_again_changes_nothing),
        cmocka_unit_test(an_access_token_is_as_good_as_a_password),
        cmocka_unit_test(an_sti_ca_revokes_its_own_issuing_certificate_too),
        cmocka_unit_test(an_operator_revokes_what_nobody_asked_for),
        cmocka_unit_test(an_operator_revokes_what_was_asked_for_and_waits),
        cmocka_unit_test(an_sti_ca_does_not_revoke_what_another_one_issued),
        cmocka_unit_test(an_sti_ca_has_no_spc_tokens),
        cmocka_unit_test(a_body_with_one_fault_is_refused),
        cmocka_unit_test(a_member_that_is_too_long_is_refused),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(a_service_provider_asks_and_an_operator_decides),
        cmocka_unit_test(
            what_an_operator_refused_is_refused_again_until_he_or_the_sti_ca_says_otherwise),
        cmocka_unit_test(the_word_of_the_sti_ca_ends_the_waiting),
        cmocka_unit_test(a_service_provider_asks_only_for_certificates_with_its_spc),
        cmocka_unit_test(what_is_decided_without_an_operator_is_configured),
        cmocka_unit_test(no_rule_grants_a_service_provider_what_an_operator_refused),
        cmocka_unit_test(an_event_names_the_certificate),
        cmocka_unit_test(an_issuer_is_the_same_in_every_encoding),
        cmocka_unit_test(a_certificate_is_asked_for_once_in_every_encoding),
        cmocka_unit_test(the_client_tells_a_queued_request_from_one_that_is_done),
        cmocka_unit_test(an_account_of_an_sti_ca_is_for_a_trusted_chain_that_no_other_has),
        cmocka_unit_test(an_sti_ca_that_is_trusted_no_more_revokes_nothing),
        cmocka_unit_test(an_account_grows_with_the_next_issuing_certificate),
        cmocka_unit_test(the_crl_is_signed_anew_each_day_with_the_same_entries),
        cmocka_unit_test(a_restart_publishes_what_was_decided),
        cmocka_unit_test(an_entry_leaves_the_crl_after_its_certificate_has_ended),
        cmocka_unit_test(an_entry_is_on_a_crl_that_is_later_than_its_certificate_however_late),
        cmocka_unit_test(an_entry_whose_end_nobody_knows_stays_as_long_as_configured),
        cmocka_unit_test(when_a_certificate_ends_is_read_from_it_where_it_is_shown),
        cmocka_unit_test(who_may_revoke_cannot_take_it_back),
        cmocka_unit_test(a_certificate_from_the_root_of_another_sti_ca_shows_nothing),
        cmocka_unit_test(a_later_end_is_heard_from_whoever_may_revoke),
        cmocka_unit_test(entries_that_left_the_crl_make_room),
        cmocka_unit_test(requests_at_once_are_all_on_the_crl),
        cmocka_unit_test(many_revocations_take_few_crls),
        cmocka_unit_test(an_account_has_so_many_revocations_and_another_is_not_touched),
        cmocka_unit_test(an_account_asks_so_often_in_an_hour),
        cmocka_unit_test(an_operator_takes_off_what_should_never_have_been_on_the_crl),
        cmocka_unit_test(the_list_of_requests_tells_who_wants_what),
        cmocka_unit_test(a_full_crl_is_told_and_takes_nothing),
        cmocka_unit_test(an_sti_ca_on_another_curve_revokes_as_others_do),
        cmocka_unit_test(a_certificate_whose_serial_number_no_crl_has_is_refused),
        cmocka_unit_test(a_row_that_no_crl_can_have_does_not_stop_the_crl),
        cmocka_unit_test(an_issuer_is_named_once_for_all_its_entries),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
