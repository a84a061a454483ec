/* authority_revoke_group.c - the STI-PA and the STI-CAs whose certificates tests revoke. */
#define _GNU_SOURCE /* asprintf */
#include "authority_revoke_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <acme/authority_client.h>
#include <acme/base64url.h>
#include <certs/cert.h>
#include <certs/crl.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "softhsm.h"

atomic_long clock_offset_s;

struct sti_ca one, two;

void
must(enum hsm_status status, const char *what)
{
    if (status == HSM_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, hsm_status_text(status));
    abort();
}

/* ---- certificates ---- */

X509 *
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

struct certs_chain *
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

void
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

void
sti_ca_stop(struct sti_ca *ca)
{
    certs_chain_free(ca->chain);
    certs_chain_free(ca->root);
    hsm_key_free(ca->sp_key);
    hsm_key_free(ca->issuing_key);
    hsm_key_free(ca->root_key);
}

struct certs_chain *
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

int
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

json_t *
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

char *
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

int
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

json_t *
with_chain(json_t *plea, const struct certs_chain *chain)
{
    char *pem = NULL;

    must(certs_chain_pem(chain, &pem), "PEM");
    json_object_set_new(plea, "chain", json_string(pem));
    free(pem);
    return plea;
}

struct certs_crl *
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

bool
is_on_crl(const struct certs_chain *chain)
{
    struct certs_crl *crl = fetch_crl();
    bool is = certs_crl_has(crl, certs_chain_get(chain, 0));

    certs_crl_free(crl);
    return is;
}

uint64_t
crl_number(void)
{
    struct certs_crl *crl = fetch_crl();
    uint64_t number = certs_crl_number(crl);

    certs_crl_free(crl);
    return number;
}

int64_t
count(const char *sql)
{
    struct acme_rows *rows = NULL;
    int64_t n;

    must(acme_store_query(store, &rows, sql, ""), sql);
    n = acme_rows_next(rows) ? acme_rows_int(rows, 0) : -1;
    acme_rows_free(rows);
    return n;
}

void
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

void
begin_again(unsigned entry_days)
{
    begin_with(&(struct acme_authority_config){.entry_days = entry_days});
}

int64_t
last_id(void)
{
    return count("SELECT max(id) FROM revocation");
}

enum hsm_status
add_ca_account(const char *id, const char *user, const struct certs_chain *chain)
{
    struct hsm_secret *password = NULL;
    enum hsm_status st;

    must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), "password");
    st = acme_authority_ca_account_add(store, id, user, password, chain);
    hsm_secret_free(password);
    return st;
}

const char *
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

/* ---- the group ---- */

int
authority_revoke_start(void **state)
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

int
authority_revoke_stop(void **state)
{
    sti_ca_stop(&two);
    sti_ca_stop(&one);
    return authority_group_stop(state);
}
