/* test_authority_standing.c - mirrors acme/src/authority_standing.c, authority_policy.c and
 * events.c: which accounts may have an SPC token now, and what is recorded about it. */
#define _GNU_SOURCE /* asprintf */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include <cmocka.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>

#include <acme/authority.h>
#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/events.h>
#include <acme/jwk.h>
#include <acme/provision.h>
#include <hsm/metrics.h>
#include <hsm/process.h>

#include "authority_group.h"
#include "peer.h"
#include "softhsm.h"

#define PASSWORD        "correct horse"
#define TOKEN_LIFETIME  7200
#define TOKENS_PER_HOUR 3
#define TKVALUE_1234    "MAigBhYEMTIzNA" /* the TNAuthList of SPC 1234 */

static struct hsm_metrics *metrics;
static char fingerprint[ACME_FINGERPRINT_LEN + 1];
static char policy_path[4200];
static struct hsm_key *client_key; /* of client_with() */
static struct certs_chain *client_chain;
static time_t offset_s; /* the STI-PA's clock is ahead by this */

static time_t
pa_clock(void)
{
    return time(NULL) + offset_s;
}

static void
write_policy(const char *text)
{
    assert_int_equal(hsm_file_write(policy_path, text, strlen(text), 0600), HSM_OK);
}

static struct acme_authority_config
config_of_fixture(void)
{
    struct acme_authority_config config = authority_group_config(pa_clock);

    config.tokens_per_hour = TOKENS_PER_HOUR;
    config.policy = policy_path;
    config.metrics = metrics;
    return config;
}

static void
add_account(const char *id, const char *user, const char *spc)
{
    assert_int_equal(authority_group_account(id, user, PASSWORD, (const char *[]){spc, NULL}, true),
                     HSM_OK);
}

static int
start(void **state)
{
    struct acme_authority_config config;
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    assert_int_equal(acme_fingerprint_format(key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    EVP_PKEY_free(key);
    authority_group_open();
    snprintf(policy_path, sizeof(policy_path), "%s/policy.json", softhsm_dir());
    write_policy("{\"default\":{\"allowed\":true,\"ca\":true}}");
    assert_int_equal(hsm_metrics_new(1, &metrics), HSM_OK);
    config = config_of_fixture();
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    return 0;
}

static int
stop(void **state)
{
    authority_group_stop(state);
    hsm_metrics_free(metrics);
    return 0;
}

static int
empty(void **state)
{
    (void)state;
    offset_s = 0;
    write_policy("{\"default\":{\"allowed\":true,\"ca\":true}}");
    assert_int_equal(acme_store_run(store, NULL, "DELETE FROM rate", ""), HSM_OK);
    return 0;
}

/* ---- requests ---- */

static int
post(const char *path, const char *authorization, const char *body, json_t **answer)
{
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    char url[1024];
    const struct acme_http_fetch fetch = {
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .authorization = authorization,
        .body = body,
        .body_len = strlen(body),
        .reply_max = 1 << 20,
        .timeout_ms = 30000,
    };
    int status;

    snprintf(url, sizeof(url), "%s%s", pa.base_url, path);
    if (acme_http_fetch(pa.http, &fetch, &reply, &why) != HSM_OK)
        fail_msg("%s: %s", path, why.text);
    status = reply.status;
    if (answer != NULL)
        *answer = json_loadb(reply.body, reply.body_len, 0, NULL);
    acme_http_reply_clear(&reply);
    return status;
}

static char *
basic(const char *user)
{
    char pair[256];
    char *encoded;
    char *header = NULL;

    snprintf(pair, sizeof(pair), "%s:%s", user, PASSWORD);
    encoded = acme_base64_encode(pair, strlen(pair));
    assert_true(asprintf(&header, "Basic %s", encoded) > 0);
    free(encoded);
    return header;
}

/* Request a token for SPC 1234; *answer may be NULL. */
static int
ask(const char *account, const char *authorization, bool ca, json_t **answer)
{
    char path[256], body[1024];

    snprintf(path, sizeof(path), "/at/account/%s/token", account);
    snprintf(body, sizeof(body),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234
             "\",\"ca\":%s,\"fingerprint\":\"%s\"}}",
             ca ? "true" : "false", fingerprint);
    return post(path, authorization, body, answer);
}

static int
ask_as(const char *account, const char *user)
{
    char *authorization = basic(user);
    int status = ask(account, authorization, false, NULL);

    free(authorization);
    return status;
}

/* Remaining lifetime in seconds of the token in `answer`, which is released. */
static int64_t
lifetime_of(json_t *answer)
{
    const char *token = json_string_value(json_object_get(answer, "token"));
    const char *payload;
    uint8_t *octets = NULL;
    size_t len;
    json_t *claims;
    int64_t exp;

    assert_non_null(token);
    payload = strchr(token, '.') + 1;
    assert_int_equal(acme_base64url_decode(payload, strcspn(payload, "."), &octets, &len), HSM_OK);
    claims = json_loadb((const char *)octets, len, 0, NULL);
    exp = json_integer_value(json_object_get(claims, "exp"));
    json_decref(claims);
    free(octets);
    json_decref(answer);
    return exp - pa_clock();
}

/* The output of acme_events_show(); free() it. */
static char *
events(bool json)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    assert_int_equal(acme_events_show(store, 1000, json, to), HSM_OK);
    fclose(to);
    return text;
}

static void
assert_event(const char *wanted)
{
    char *text = events(false);

    if (strstr(text, wanted) == NULL)
        fail_msg("no event \"%s\" in:\n%s", wanted, text);
    free(text);
}

/* ---- suspension ---- */

static void
suspended_account_gets_nothing_by_any_credential_until_it_is_reinstated(void **state)
{
    char login[256], again[512];
    json_t *answer = NULL;
    char *session = NULL;

    (void)state;
    add_account("suspended", "sp-suspended", "1234");
    snprintf(login, sizeof(login), "{\"userId\":\"sp-suspended\",\"password\":\"%s\"}", PASSWORD);
    assert_int_equal(post("/api/v1/auth/login", NULL, login, &answer), 200);
    session = strdup(json_string_value(json_object_get(answer, "accessToken")));
    snprintf(again, sizeof(again), "{\"refreshToken\":\"%s\"}",
             json_string_value(json_object_get(answer, "refreshToken")));
    json_decref(answer);
    assert_int_equal(ask("suspended", session, false, NULL), 200);

    assert_int_equal(acme_authority_account_suspend(store, "suspended", "fees"), HSM_OK);
    assert_int_equal(acme_authority_account_suspend(store, "suspended", "fees"), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask("suspended", session, false, NULL), 403);
    assert_int_equal(ask_as("suspended", "sp-suspended"), 403);
    assert_int_equal(post("/api/v1/auth/login", NULL, login, NULL), 403);
    assert_int_equal(post("/api/v1/auth/refresh", NULL, again, NULL), 403);

    assert_int_equal(acme_authority_account_reinstate(store, "suspended"), HSM_OK);
    assert_int_equal(acme_authority_account_reinstate(store, "suspended"), HSM_ERR_NOT_FOUND);
    assert_int_equal(ask_as("suspended", "sp-suspended"), 200);
    assert_int_equal(ask("suspended", session, false, NULL), 200);
    assert_int_equal(post("/api/v1/auth/refresh", NULL, again, NULL), 200); /* it was not used up */
    assert_int_equal(ask("suspended", session, false, NULL), 403);
    assert_event("account suspended: suspended: fees\n");
    assert_event("account reinstated: suspended\n");
    free(session);
}

/* ---- codes and password ---- */

static void
account_has_the_codes_that_it_was_given_last(void **state)
{
    char *authorization = basic("sp-codes");

    (void)state;
    add_account("codes", "sp-codes", "5678");
    assert_int_equal(ask_as("codes", "sp-codes"), 403);
    assert_int_equal(
        acme_authority_account_spcs(store, "codes", (const char *[]){"709J", "1234", NULL}, false),
        HSM_OK);
    assert_int_equal(ask_as("codes", "sp-codes"), 200);
    assert_int_equal(ask("codes", authorization, true, NULL), 403);
    assert_int_equal(
        acme_authority_account_spcs(store, "codes", (const char *[]){"1234", NULL}, true), HSM_OK);
    assert_int_equal(ask("codes", authorization, true, NULL), 200);
    assert_int_equal(
        acme_authority_account_spcs(store, "codes", (const char *[]){"12-34", NULL}, true),
        HSM_ERR_MALFORMED);
    assert_int_equal(acme_authority_account_spcs(store, "codes", (const char *[]){NULL}, true),
                     HSM_ERR_MALFORMED);
    assert_int_equal(ask("codes", authorization, true, NULL), 200);
    assert_event("account codes set: codes: SPC 709J 1234\n");
    assert_event("account codes set: codes: may ask for ca, SPC 1234\n");
    free(authorization);
}

static enum hsm_status
change_password(const char *account, const char *text)
{
    struct hsm_secret *password = NULL;
    enum hsm_status st;

    assert_int_equal(hsm_secret_new(text, strlen(text), &password), HSM_OK);
    st = acme_authority_account_password(store, account, password);
    hsm_secret_free(password);
    return st;
}

static void
new_password_closes_what_the_old_one_opened(void **state)
{
    char login[256];
    json_t *answer = NULL;
    char *session;

    (void)state;
    add_account("changed", "sp-changed", "1234");
    snprintf(login, sizeof(login), "{\"userId\":\"sp-changed\",\"password\":\"%s\"}", PASSWORD);
    assert_int_equal(post("/api/v1/auth/login", NULL, login, &answer), 200);
    session = strdup(json_string_value(json_object_get(answer, "accessToken")));
    json_decref(answer);
    assert_int_equal(ask("changed", session, false, NULL), 200);

    assert_int_equal(change_password("changed", "another password"), HSM_OK);
    assert_int_equal(ask("changed", session, false, NULL), 403);
    assert_int_equal(post("/api/v1/auth/login", NULL, login, NULL), 403);
    assert_int_equal(ask_as("changed", "sp-changed"), 403);
    assert_int_equal(change_password("changed", PASSWORD), HSM_OK);
    assert_int_equal(ask_as("changed", "sp-changed"), 200);
    assert_event("account password changed: changed\n");
    free(session);
}

static void
account_that_is_not_there_cannot_be_changed(void **state)
{
    char path[4300];
    int64_t id;

    (void)state;
    snprintf(path, sizeof(path), "%s/nobody.key", softhsm_dir());
    assert_int_equal(acme_authority_account_suspend(store, "nobody", "x"), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_account_reinstate(store, "nobody"), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_account_bind(store, "nobody", "CN=x"), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_account_limit(store, "nobody", (const char *[]){NULL}),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(
        acme_authority_account_spcs(store, "nobody", (const char *[]){"1234", NULL}, false),
        HSM_ERR_NOT_FOUND);
    assert_int_equal(change_password("nobody", "another password"), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_api_key_add(store, "nobody", path, 1, &id), HSM_ERR_NOT_FOUND);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(acme_authority_api_key_revoke(store, 999), HSM_ERR_NOT_FOUND);
}

/* ---- addresses ---- */

static const struct {
    const char *prefix;
    int status;
} sources[] = {
    {"127.0.0.1", 200},    {"127.0.0.0/8", 200}, {"0.0.0.0/0", 200},
    {"127.0.0.2", 403},    {"126.0.0.0/8", 403}, {"127.0.0.2/31", 403},
    {"127.0.0.0/31", 200}, {"::/0", 200},        {"2001:db8::/32", 403},
};

static void
account_is_used_from_its_addresses_only(void **state)
{
    (void)state;
    add_account("limited", "sp-limited", "1234");
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        assert_int_equal(empty(NULL), 0);
        assert_int_equal(acme_authority_account_limit(store, "limited",
                                                      (const char *[]){sources[i].prefix, NULL}),
                         HSM_OK);
        if (ask_as("limited", "sp-limited") != sources[i].status)
            fail_msg("%s: not %d", sources[i].prefix, sources[i].status);
    }
    assert_int_equal(acme_authority_account_limit(store, "limited", (const char *[]){NULL}),
                     HSM_OK);
    assert_int_equal(ask_as("limited", "sp-limited"), 200);
    assert_event("account limited to sources: limited: 2001:db8::/32\n");
    assert_event("account limited to sources: limited: everywhere\n");
}

static void
sources_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",        "localhost",    "127.0.0.1/33", "127.0.0.1/",
                                      "::1/129", "127.0.0.1/-1", "127.0.0.1/a",  "127.0.0.1/8 ",
                                      "1.2.3/24"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(
            acme_authority_account_limit(store, "limited", (const char *[]){bad[i], NULL}),
            HSM_ERR_MALFORMED);
    assert_int_equal(ask_as("limited", "sp-limited"), 200);
}

/* ---- API keys ---- */

static void
api_key_is_good_until_it_is_revoked_or_over(void **state)
{
    char path[4300];
    char *header = NULL;
    struct hsm_secret *key = NULL;
    int64_t id = 0;
    struct stat file;

    (void)state;
    add_account("keyed", "sp-keyed", "1234");
    snprintf(path, sizeof(path), "%s/keyed.key", softhsm_dir());
    assert_int_equal(acme_authority_api_key_add(store, "keyed", path, 0, &id), HSM_ERR_MALFORMED);
    assert_int_equal(acme_authority_api_key_add(store, "keyed", path, 2, &id), HSM_OK);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(hsm_secret_read(path, &key), HSM_OK);
    assert_true(asprintf(&header, "Bearer %s", hsm_secret_octets(key)) > 0);

    assert_int_equal(ask("keyed", header, false, NULL), 200);
    assert_int_equal(ask("limited", header, false, NULL), 403); /* another account */
    header[strlen(header) - 1] ^= 1;
    assert_int_equal(ask("keyed", header, false, NULL), 403);
    header[strlen(header) - 1] ^= 1;
    offset_s = 2 * 86400 + 60;
    assert_int_equal(ask("keyed", header, false, NULL), 403);
    offset_s = 0;
    assert_int_equal(acme_authority_api_key_revoke(store, id), HSM_OK);
    assert_int_equal(ask("keyed", header, false, NULL), 403);
    assert_int_equal(acme_authority_api_key_revoke(store, id), HSM_ERR_NOT_FOUND);
    assert_event("API key added: keyed: number 1, for 2 days\n");
    assert_event("API key revoked: keyed: number 1\n");
    hsm_secret_free(key);
    free(header);
}

/* ---- client certificates ---- */

/* A client of the STI-PA that shows a certificate of this common name. */
static struct acme_http_client *
client_with(const char *common_name)
{
    struct hsm_key *root_key = NULL, *key = NULL;
    struct certs_chain *chain = NULL;
    struct acme_http_client *client = NULL;
    char path[4300], ca[4300];
    struct acme_provision_request request = {
        .label = common_name,
        .certificate = {.profile = CERTS_PROFILE_TLS_CLIENT,
                        .subject = {.common_name = common_name}},
        .valid_days = 1,
        .issuer = pa.tls_root,
        .path = path,
    };

    snprintf(path, sizeof(path), "%s/%s.pem", softhsm_dir(), common_name);
    snprintf(ca, sizeof(ca), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_ROOT_FILE);
    assert_int_equal(
        hsm_key_find(pa.token, "pkcs11:object=" ACME_PROVISION_TLS_ROOT_LABEL, &root_key), HSM_OK);
    request.issuer_key = root_key;
    assert_int_equal(acme_provision_certificate(pa.token, &request, &key, &chain), HSM_OK);
    assert_int_equal(acme_http_client_new(&(struct acme_http_client_config){.tls_ca = ca,
                                                                            .client_key = key,
                                                                            .client_chain = chain},
                                          &client),
                     HSM_OK);
    client_key = key;
    client_chain = chain;
    hsm_key_free(root_key);
    return client;
}

static void
client_certificate_is_good_for_the_account_it_is_bound_to(void **state)
{
    struct acme_http_client *usual = pa.http;

    (void)state;
    add_account("bound", "sp-bound", "1234");
    pa.http = client_with("kms.example");
    assert_int_equal(ask("bound", NULL, false, NULL), 403);
    assert_int_equal(acme_authority_account_bind(store, "bound", "CN=kms.example"), HSM_OK);
    assert_int_equal(acme_authority_account_bind(store, "keyed", "CN=kms.example"), HSM_ERR_EXISTS);
    assert_int_equal(acme_authority_account_bind(store, "keyed", ""), HSM_ERR_MALFORMED);
    assert_int_equal(ask("bound", NULL, false, NULL), 200);
    assert_int_equal(ask("keyed", NULL, false, NULL), 403);
    /* An Authorization header takes precedence over the certificate. */
    assert_int_equal(ask("bound", "Bearer nothing", false, NULL), 403);
    assert_int_equal(acme_authority_account_suspend(store, "bound", "x"), HSM_OK);
    assert_int_equal(ask("bound", NULL, false, NULL), 403);
    assert_int_equal(acme_authority_account_reinstate(store, "bound"), HSM_OK);
    assert_int_equal(acme_authority_account_bind(store, "bound", NULL), HSM_OK);
    assert_int_equal(ask("bound", NULL, false, NULL), 403);
    acme_http_client_free(pa.http);
    certs_chain_free(client_chain);
    hsm_key_free(client_key);
    pa.http = usual;
    assert_int_equal(ask("bound", NULL, false, NULL), 401);
}

/* ---- policy ---- */

static const struct {
    const char *policy;
    int plain, ca; /* expected statuses */
} policies[] = {
    {"{}", 403, 403},
    {"{\"default\":{\"allowed\":true}}", 200, 403},
    {"{\"default\":{\"allowed\":true,\"ca\":true}}", 200, 200},
    {"{\"spc\":{\"1234\":{}}}", 200, 403},
    {"{\"spc\":{\"1234\":{\"ca\":true}}}", 200, 200},
    {"{\"spc\":{\"709J\":{\"ca\":true}}}", 403, 403},
    {"{\"default\":{\"allowed\":true,\"ca\":true},\"spc\":{\"1234\":{\"allowed\":false}}}", 403,
     403},
    {"{\"default\":{\"allowed\":true,\"ca\":true},\"spc\":{\"1234\":{\"ca\":false}}}", 200, 403},
};

static void
policy_decides_at_once_what_a_code_may_have(void **state)
{
    char *authorization = basic("sp-policy");

    (void)state;
    add_account("policy", "sp-policy", "1234");
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        assert_int_equal(empty(NULL), 0);
        write_policy(policies[i].policy);
        if (ask("policy", authorization, false, NULL) != policies[i].plain ||
            ask("policy", authorization, true, NULL) != policies[i].ca)
            fail_msg("%s: not %d and %d", policies[i].policy, policies[i].plain, policies[i].ca);
    }
    assert_event("sti-pa: policy loaded: ");
    free(authorization);
}

static void
policy_decides_how_long_a_token_is_good_for(void **state)
{
    char *authorization = basic("sp-policy");
    json_t *answer = NULL;

    (void)state;
    assert_int_equal(ask("policy", authorization, false, &answer), 200);
    assert_in_range(lifetime_of(answer), TOKEN_LIFETIME - 60, TOKEN_LIFETIME);
    write_policy("{\"default\":{\"allowed\":true,\"tokenLifetime\":1800},"
                 "\"spc\":{\"1234\":{\"tokenLifetime\":600}}}");
    assert_int_equal(ask("policy", authorization, false, &answer), 200);
    assert_in_range(lifetime_of(answer), 540, 600);
    write_policy("{\"default\":{\"allowed\":true,\"tokenLifetime\":1800}}");
    assert_int_equal(ask("policy", authorization, false, &answer), 200);
    assert_in_range(lifetime_of(answer), 1740, 1800);
    free(authorization);
}

static const char *const bad_policies[] = {
    "",
    "[]",
    "{\"defaults\":{}}",
    "{\"default\":[]}",
    "{\"default\":{\"allow\":true}}",
    "{\"default\":{\"allowed\":1}}",
    "{\"default\":{\"tokenLifetime\":59}}",
    "{\"default\":{\"tokenLifetime\":31622401}}",
    "{\"default\":{\"tokenLifetime\":\"60\"}}",
    "{\"spc\":[]}",
    "{\"spc\":{\"1234\":true}}",
    "{\"spc\":{\"\":{}}}",
    "{\"spc\":{\"12 34\":{}}}",
    "{\"spc\":{\"1234\":{},\"1234\":{}}}",
    "{\"spc\":{\"1234\":{\"ca\":\"yes\"}}}",
};

static void
policy_that_is_bad_does_not_open_and_does_not_replace_a_good_one(void **state)
{
    char *authorization = basic("sp-policy");

    (void)state;
    for (size_t i = 0; i < sizeof(bad_policies) / sizeof(bad_policies[0]); i++) {
        struct acme_authority_config config = config_of_fixture();
        struct acme_authority *other = NULL;

        assert_int_equal(empty(NULL), 0);
        assert_int_equal(ask("policy", authorization, false, NULL), 200);
        write_policy(bad_policies[i]);
        assert_int_equal(acme_authority_new(&config, &other), HSM_ERR_MALFORMED);
        if (ask("policy", authorization, true, NULL) != 200)
            fail_msg("%s: replaced a good one", bad_policies[i]);
    }
    assert_int_equal(unlink(policy_path), 0);
    assert_int_equal(ask("policy", authorization, false, NULL), 200);
    free(authorization);
}

/* List, CRL and revocations do not depend on the policy. */
static bool
tells_policy(void)
{
    json_t *reasons = json_array();
    char *text;
    bool tells;

    acme_authority_not_ready(authority, reasons);
    text = json_dumps(reasons, 0);
    tells = strstr(text, "policy") != NULL;
    free(text);
    json_decref(reasons);
    return tells;
}

static int
policy_stale(void)
{
    char *text = NULL, *at;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    int value;

    acme_authority_refresh(authority);
    assert_int_equal(hsm_metrics_write(metrics, to), HSM_OK);
    fclose(to);
    at = strstr(text, "\nsti_pa_policy_stale ");
    assert_non_null(at);
    value = atoi(at + strlen("\nsti_pa_policy_stale "));
    free(text);
    return value;
}

static void
run_sql(const char *sql)
{
    assert_int_equal(acme_store_run(store, NULL, sql, ""), HSM_OK);
}

/* The file is in place, but the store cannot record the event for a while. */
static void
policy_that_could_not_be_taken_is_in_force_as_soon_as_it_can(void **state)
{
    char *authorization = basic("sp-policy");
    int status = 200;

    (void)state;
    assert_int_equal(ask("policy", authorization, false, NULL), 200);
    assert_int_equal(policy_stale(), 0);
    write_policy("{}");
    run_sql("ALTER TABLE event RENAME TO event_away");
    assert_int_equal(ask("policy", authorization, false, NULL), 200); /* unchanged */
    assert_false(tells_policy());
    assert_int_equal(policy_stale(), 1);
    run_sql("ALTER TABLE event_away RENAME TO event");
    while (status == 200) { /* retried every other second; the runner ends the loop otherwise */
        run_sql("DELETE FROM rate");
        status = ask("policy", authorization, false, NULL);
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    assert_int_equal(status, 403);
    assert_int_equal(policy_stale(), 0);
    write_policy("{\"defaults\":{}}");
    assert_int_equal(policy_stale(), 1);
    assert_int_equal(unlink(policy_path), 0);
    assert_int_equal(policy_stale(), 1);
    assert_false(tells_policy());
    free(authorization);
}

/* The change falls within the granularity of the clock, or its mtime was set back. */
static void
policy_is_read_again_when_only_the_time_of_its_inode_changed(void **state)
{
    static const char former[] = "{\"default\":{\"allowed\": true}}";
    static const char latter[] = "{\"default\":{\"allowed\":false}}";
    char *authorization = basic("sp-policy");
    struct stat before;
    int fd;

    (void)state;
    write_policy(former);
    assert_int_equal(ask("policy", authorization, false, NULL), 200);
    assert_int_equal(stat(policy_path, &before), 0);
    fd = open(policy_path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, latter, strlen(latter)), strlen(former));
    assert_int_equal(futimens(fd, (struct timespec[]){before.st_atim, before.st_mtim}), 0);
    close(fd);
    assert_int_equal(ask("policy", authorization, false, NULL), 403);
    free(authorization);
}

/* ---- rate ---- */

static void
account_gets_so_many_tokens_in_an_hour(void **state)
{
    (void)state;
    add_account("busy", "sp-busy", "1234");
    for (int i = 0; i < TOKENS_PER_HOUR; i++)
        assert_int_equal(ask_as("busy", "sp-busy"), 200);
    assert_int_equal(ask_as("busy", "sp-busy"), 429);
    assert_int_equal(ask_as("policy", "sp-policy"), 200); /* another account */
    offset_s = 3601;
    assert_int_equal(ask_as("busy", "sp-busy"), 200);
    offset_s = -100000; /* requests counted by a clock that was ahead are dropped */
    assert_int_equal(ask_as("busy", "sp-busy"), 200);
}

static void *
ask_for_one(void *status)
{
    *(int *)status = ask_as("at-once", "sp-at-once");
    return NULL;
}

static void
tokens_that_are_asked_for_at_once_are_no_more(void **state)
{
    pthread_t threads[3 * TOKENS_PER_HOUR];
    int statuses[3 * TOKENS_PER_HOUR] = {0};
    int granted = 0;

    (void)state;
    add_account("at-once", "sp-at-once", "1234");
    for (int i = 0; i < 3 * TOKENS_PER_HOUR; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_for_one, &statuses[i]), 0);
    for (int i = 0; i < 3 * TOKENS_PER_HOUR; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        granted += statuses[i] == 200;
        assert_true(statuses[i] == 200 || statuses[i] == 429);
    }
    assert_int_equal(granted, TOKENS_PER_HOUR);
}

/* ---- STI-CAs ---- */

static void
root_is_trusted_only_if_the_profile_is_kept_and_until_it_is_removed(void **state)
{
    X509 *good = pa_fixture_ca_root(&pa, "good-root", "Good STI-CA");
    X509 *bad = X509_dup(good);
    unsigned char digest[32];
    char hex[65];

    (void)state;
    /* ATIS-1000080 section 6.4.1 requires keyCertSign. */
    X509_EXTENSION_free(X509_delete_ext(bad, X509_get_ext_by_NID(bad, NID_key_usage, -1)));
    assert_int_equal(acme_authority_ca_add(store, bad), HSM_ERR_UNTRUSTED);
    assert_int_equal(acme_authority_ca_add(store, good), HSM_OK);
    assert_int_equal(X509_digest(good, EVP_sha256(), digest, NULL), 1);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    assert_int_equal(acme_authority_ca_remove(store, hex, "ceased"), HSM_OK);
    assert_int_equal(acme_authority_ca_remove(store, hex, "ceased"), HSM_ERR_NOT_FOUND);
    assert_event("STI-CA trusted: ");
    assert_event(": ceased\n");
    X509_free(bad);
    X509_free(good);
}

/* ---- events ---- */

static void
events_are_not_changed_and_not_deleted(void **state)
{
    char *before = events(true);
    char *after;
    json_t *first;

    (void)state;
    assert_int_not_equal(acme_store_run(store, NULL, "UPDATE event SET who = 'nobody'", ""),
                         HSM_OK);
    assert_int_not_equal(acme_store_run(store, NULL, "DELETE FROM event", ""), HSM_OK);
    after = events(true);
    assert_string_equal(before, after);
    first = json_loadb(before, strcspn(before, "\n"), 0, NULL);
    assert_non_null(first);
    assert_int_equal(json_integer_value(json_object_get(first, "id")), 1);
    assert_int_equal(strlen(json_string_value(json_object_get(first, "at"))), 20);
    assert_int_equal(acme_events_show(store, 0, false, stdout), HSM_ERR_USAGE);
    json_decref(first);
    free(before);
    free(after);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(
            suspended_account_gets_nothing_by_any_credential_until_it_is_reinstated, empty),
        cmocka_unit_test_setup(account_has_the_codes_that_it_was_given_last, empty),
        cmocka_unit_test_setup(new_password_closes_what_the_old_one_opened, empty),
        cmocka_unit_test_setup(account_that_is_not_there_cannot_be_changed, empty),
        cmocka_unit_test_setup(account_is_used_from_its_addresses_only, empty),
        cmocka_unit_test_setup(sources_that_are_none_are_refused, empty),
        cmocka_unit_test_setup(api_key_is_good_until_it_is_revoked_or_over, empty),
        cmocka_unit_test_setup(client_certificate_is_good_for_the_account_it_is_bound_to, empty),
        cmocka_unit_test_setup(policy_decides_at_once_what_a_code_may_have, empty),
        cmocka_unit_test_setup(policy_decides_how_long_a_token_is_good_for, empty),
        cmocka_unit_test_setup(policy_that_is_bad_does_not_open_and_does_not_replace_a_good_one,
                               empty),
        cmocka_unit_test_setup(policy_that_could_not_be_taken_is_in_force_as_soon_as_it_can, empty),
        cmocka_unit_test_setup(policy_is_read_again_when_only_the_time_of_its_inode_changed, empty),
        cmocka_unit_test_setup(account_gets_so_many_tokens_in_an_hour, empty),
        cmocka_unit_test_setup(tokens_that_are_asked_for_at_once_are_no_more, empty),
        cmocka_unit_test_setup(root_is_trusted_only_if_the_profile_is_kept_and_until_it_is_removed,
                               empty),
        cmocka_unit_test_setup(events_are_not_changed_and_not_deleted, empty),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
