/* conformance_pa.c - requirements of RFC 9447 and 9448 on the server that issues SPC tokens. */
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

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <unistd.h>

#include "ca_fixture.h"

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/jwk.h>
#include <hsm/defer.h>
#include <hsm/process.h>

#include "conformance.h"
#include "peer.h"
#include "softhsm.h"

#define LIFETIME_S       7200
#define SHORT_LIFETIME_S 600 /* of tokens for 709J, by policy */
#define TOKENS_AN_HOUR   60
#define TKVALUE_1234     "MAigBhYEMTIzNA"
#define TKVALUE_709J     "MAigBhYENzA5Sg"

static struct ca_fixture *ca; /* the STI-CA on the same server */
static struct acme_store *store;
static struct acme_authority *authority;
static EVP_PKEY *acme_account; /* its fingerprint is in the tokens */
static char fingerprint[ACME_FINGERPRINT_LEN + 1];
static char keys[3][256]; /* "Authorization: Bearer KEY" */
static const char *const ids[] = {"1234", "709J", "busy"};

static bool
answer(struct ca_fixture *fixture, const struct acme_http_request *request,
       struct acme_http_response *response)
{
    static const char *const mine[] = {"/at/", "/sti-pa/", "/api/v1/", "/download/"};
    struct acme_http_handler handler = acme_authority_handler(authority);
    const char *path = acme_http_request_path(request);

    (void)fixture;
    for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++)
        if (strncmp(path, mine[i], strlen(mine[i])) == 0) {
            handler.handle(handler.context, request, response);
            return true;
        }
    return false;
}

/* Add an account for one code, under ids[i], with an API key. */
static void
add_account(size_t i, const char *spc, bool may_ask_for_ca)
{
    struct hsm_secret *secret = NULL;
    char path[4300];
    int64_t number;

    snprintf(path, sizeof(path), "%s/%s.key", softhsm_dir(), ids[i]);
    assert_int_equal(hsm_secret_random(16, &secret), HSM_OK);
    assert_int_equal(acme_authority_account_add(store, ids[i], ids[i], secret,
                                                (const char *[]){spc, NULL}, may_ask_for_ca),
                     HSM_OK);
    hsm_secret_free(secret);
    assert_int_equal(acme_authority_api_key_add(store, ids[i], path, 1, &number), HSM_OK);
    assert_int_equal(hsm_secret_read(path, &secret), HSM_OK);
    snprintf(keys[i], sizeof(keys[i]), "Authorization: Bearer %s", hsm_secret_octets(secret));
    hsm_secret_free(secret);
    assert_int_equal(unlink(path), 0);
}

void
conformance_pa_start(struct ca_fixture *fixture)
{
    static const char policy[] = "{\"default\":{\"allowed\":true,\"ca\":true},"
                                 "\"spc\":{\"709J\":{\"ca\":true,\"tokenLifetime\":600}}}";
    char path[4300], policy_path[4300];

    ca = fixture;
    snprintf(path, sizeof(path), "%s/conformance-pa.db", softhsm_dir());
    snprintf(policy_path, sizeof(policy_path), "%s/conformance-policy.json", softhsm_dir());
    assert_int_equal(hsm_file_write(policy_path, policy, strlen(policy), 0600), HSM_OK);
    assert_int_equal(acme_store_open(path, acme_authority_migrations, &store), HSM_OK);
    assert_int_equal(
        acme_authority_new(&(struct acme_authority_config){.base_url = ca->pa.base_url,
                                                           .store = store,
                                                           .signer_key = ca->pa.signer_key,
                                                           .signer_chain = ca->pa.signer_chain,
                                                           .crl_key = ca->pa.crl_key,
                                                           .crl_chain = ca->pa.crl_chain,
                                                           .token_lifetime_s = LIFETIME_S,
                                                           .session_lifetime_s = 600,
                                                           .list_lifetime_s = 86400,
                                                           .crl_lifetime_s = 86400,
                                                           .tokens_per_hour = TOKENS_AN_HOUR,
                                                           .policy = policy_path},
                           &authority),
        HSM_OK);
    add_account(0, "1234", false);
    add_account(1, "709J", true);
    add_account(2, "1234", false);
    acme_account = peer_key_new("P-256");
    assert_int_equal(
        acme_fingerprint_format(acme_account, ACME_FINGERPRINT_THUMBPRINT, fingerprint), HSM_OK);
    ca->intercept = answer;
}

void
conformance_pa_stop(void)
{
    acme_authority_free(authority);
    acme_store_close(store);
    EVP_PKEY_free(acme_account);
}

void
conformance_pa_ask(const char *as, const char *method, const char *path, const char *content_type,
                   const char *payload, struct got *got)
{
    ca->headers[0] = *as != '\0' ? "Authorization: Bearer nobody" : NULL;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        if (strcmp(as, ids[i]) == 0)
            ca->headers[0] = keys[i];
    ca_fetch(ca, method, path, payload != NULL ? content_type : NULL, payload, got);
    ca->headers[0] = NULL;
}

/* ---- tokens ---- */

/* The token granted to an account for this request, with or without "atc" around it. */
static struct acme_authority_token *
grant(const char *account, const char *tkvalue, bool is_ca, bool bare)
{
    struct acme_authority_token *token = NULL;
    struct hsm_reason why = {""};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char path[128], wish[512];

    snprintf(path, sizeof(path), "/at/account/%s/token", account);
    snprintf(wish, sizeof(wish),
             "%s{\"tktype\":\"TNAuthList\",\"tkvalue\":\"%s\",\"ca\":%s,\"fingerprint\":\"%s\"}%s",
             bare ? "" : "{\"atc\":", tkvalue, is_ca ? "true" : "false", fingerprint,
             bare ? "" : "}");
    conformance_pa_ask(account, "POST", path, "application/json", wish, &got);
    if (got.status != 200)
        fail_msg("%d %s", got.status, got.body);
    if (acme_authority_token_parse(got_text(&got, "token"), &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    return token;
}

static struct certs_chain *
fetch_signer(const struct acme_authority_token *token)
{
    struct certs_chain *signer = NULL;
    struct hsm_reason why = {""};

    assert_true(acme_url_same_origin(acme_authority_token_x5u(token), ca->pa.base_url));
    if (acme_http_fetch_chain(ca->pa.http, acme_authority_token_x5u(token), &signer, &why) !=
        HSM_OK)
        fail_msg("%s", why.text);
    return signer;
}

/* Checked as an STI-CA does (RFC 9448 section 6); releases the token. */
static void
assert_good(struct acme_authority_token *token, const char *spc)
{
    struct certs_tnauthlist *identifier = NULL;
    struct certs_chain *signer = fetch_signer(token);
    struct hsm_reason why = {""};

    assert_int_equal(certs_tnauthlist_from_spc(spc, &identifier), HSM_OK);
    if (acme_authority_token_check(token,
                                   &(struct acme_authority_token_policy){
                                       .signer = signer,
                                       .pa_anchors = ca->pa.root,
                                       .account_key = acme_account,
                                       .identifier = identifier,
                                       .now = time(NULL),
                                   },
                                   &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_string_equal(acme_authority_token_iss(token), ca->pa.base_url);
    certs_tnauthlist_free(identifier);
    certs_chain_free(signer);
    acme_authority_token_free(token);
}

void
conformance_pa_token_is_good(void)
{
    assert_good(grant("1234", TKVALUE_1234, false, false), "1234");
}

void
conformance_pa_token_has_the_bare_form(void)
{
    assert_good(grant("1234", TKVALUE_1234, false, true), "1234");
}

void
conformance_pa_token_keeps_the_alphabet(void)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char wish[512], *payload;
    const char *text;
    uint8_t *octets = NULL;
    size_t len;

    snprintf(wish, sizeof(wish),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234
             "==\",\"fingerprint\":\"%s\"}}",
             fingerprint);
    conformance_pa_ask("1234", "POST", "/at/account/1234/token", "application/json", wish, &got);
    assert_int_equal(got.status, 200);
    text = strchr(got_text(&got, "token"), '.') + 1;
    payload = strndup(text, strcspn(text, "."));
    assert_int_equal(acme_base64url_decode(payload, strlen(payload), &octets, &len), HSM_OK);
    assert_non_null(strstr((char *)octets, "\"tkvalue\":\"" TKVALUE_1234 "==\""));
    free(octets);
    free(payload);
}

static int64_t
recorded(const char *jti)
{
    struct acme_rows *rows = NULL;
    int64_t count;

    assert_int_equal(acme_store_query(store, &rows,
                                      "SELECT count(*) FROM spc_token WHERE jti = ?"
                                      " AND account = '1234' AND spc = '1234'",
                                      "s", jti),
                     HSM_OK);
    assert_true(acme_rows_next(rows));
    count = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return count;
}

void
conformance_pa_jti_is_new_and_recorded(void)
{
    struct acme_authority_token *one = grant("1234", TKVALUE_1234, false, false);
    struct acme_authority_token *two = grant("1234", TKVALUE_1234, false, false);

    assert_string_not_equal(acme_authority_token_jti(one), acme_authority_token_jti(two));
    assert_int_equal(recorded(acme_authority_token_jti(one)), 1);
    assert_int_equal(recorded(acme_authority_token_jti(two)), 1);
    acme_authority_token_free(one);
    acme_authority_token_free(two);
}

void
conformance_pa_token_ends_when_policy_says(void)
{
    struct acme_authority_token *usual = grant("1234", TKVALUE_1234, false, false);
    struct acme_authority_token *brief = grant("709J", TKVALUE_709J, false, false);
    const time_t now = time(NULL);

    assert_in_range(acme_authority_token_exp(usual), now + SHORT_LIFETIME_S + 1, now + LIFETIME_S);
    assert_in_range(acme_authority_token_exp(brief), now + 1, now + SHORT_LIFETIME_S);
    acme_authority_token_free(usual);
    acme_authority_token_free(brief);
}

void
conformance_pa_ca_flag_is_as_asked_for(void)
{
    struct acme_authority_token *with = grant("709J", TKVALUE_709J, true, false);
    struct acme_authority_token *without = grant("709J", TKVALUE_709J, false, false);

    assert_true(acme_authority_token_ca(with));
    assert_false(acme_authority_token_ca(without));
    acme_authority_token_free(without);
    assert_good(with, "709J");
}

void
conformance_pa_signer_is_where_x5u_says(void)
{
    struct acme_authority_token *token = grant("1234", TKVALUE_1234, false, false);
    struct certs_chain *signer = fetch_signer(token);

    assert_int_equal(certs_chain_len(signer), 2);
    assert_int_equal(X509_cmp(certs_chain_get(signer, 1), certs_chain_get(ca->pa.root, 0)), 0);
    certs_chain_free(signer);
    assert_good(token, "1234"); /* RFC 7515: it is verified with alg ES256 only */
}

void
conformance_pa_tokens_are_limited(void)
{
    char wish[512];

    snprintf(wish, sizeof(wish),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    for (int i = 0; i <= 2 * TOKENS_AN_HOUR; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        conformance_pa_ask("busy", "POST", "/at/account/busy/token", "application/json", wish,
                           &got);
        if (got.status == 429) {
            assert_in_range(i, TOKENS_AN_HOUR, 2 * TOKENS_AN_HOUR);
            assert_true(strlen(got_header(&got, "Retry-After")) > 0);
            return;
        }
        assert_int_equal(got.status, 200);
    }
    fail_msg("no limit");
}
