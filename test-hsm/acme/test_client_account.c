/* test_client_account.c - mirrors acme/src/client_account.c: against our STI-CA, and a CA that
 * requires an external account. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jws.h>

#include "client_group.h"

/* 48 octets. */
#define MAC_KEY_TEXT "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

static struct hsm_key *keys[4];

static struct acme_client *
client_of(struct hsm_key *key)
{
    return client_group_new((struct acme_client_config){.account_key = key, .poll_limit_s = 5});
}

/* ---- the CA's data of an account ---- */

static void
an_account_is_found_only_when_it_was_made(void **state)
{
    struct acme_client *client = client_of(keys[0]);
    struct acme_client_account_state shown;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_client_account_find(client, &why), HSM_ERR_NOT_FOUND);
    assert_null(acme_client_kid(client));
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    acme_client_free(client);
    client = client_of(keys[0]);
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_OK);
    assert_string_equal(shown.status, "valid");
    assert_string_equal(shown.contacts, "");
    acme_client_free(client);
}

static void
a_contact_is_replaced_and_taken_away(void **state)
{
    struct acme_client *client = client_of(keys[0]);
    struct acme_client_account_state shown;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    assert_int_equal(acme_client_account_update(client, "mailto:noc@sp.example", &why), HSM_OK);
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_OK);
    assert_string_equal(shown.contacts, "mailto:noc@sp.example");
    assert_int_equal(acme_client_account_update(client, "tel:+1", &why), HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "unsupportedContact"));
    assert_non_null(strstr(why.text, "change the contact")); /* what the operator can do */
    assert_int_equal(acme_client_account_update(client, NULL, &why), HSM_OK);
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_OK);
    assert_string_equal(shown.contacts, "");
    acme_client_free(client);
}

/* Control sequences do not reach a terminal. */
static bool
answer_with_escapes(struct ca_fixture *fixture, const struct acme_http_request *request,
                    struct acme_http_response *response)
{
    static const char body[] =
        "{\"status\":\"va\\u001b[2Jlid\",\"contact\":[\"mailto:a\\u001b[2J\",\"mailto:b\"]}";

    (void)fixture;
    if (strstr(acme_http_request_path(request), "/acct/") == NULL)
        return false;
    acme_http_respond(response, 200, "application/json", body, strlen(body));
    return true;
}

static void
what_is_no_url_is_not_told_as_a_contact(void **state)
{
    struct acme_client *client = client_of(keys[0]);
    struct acme_client_account_state shown;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    assert_non_null(strstr(acme_client_kid(client), "/acct/"));
    ca.intercept = answer_with_escapes;
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_OK);
    ca.intercept = NULL;
    assert_string_equal(shown.status, "?");
    assert_string_equal(shown.contacts, "mailto:b");
    acme_client_free(client);
}

static void
a_key_change_leaves_the_account_and_takes_the_old_key_away(void **state)
{
    struct acme_client *client = client_of(keys[1]), *other = client_of(keys[0]);
    struct acme_client_account_state shown;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE];

    (void)state;
    assert_int_equal(acme_client_account_rollover(client, keys[2], &why), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    snprintf(kid, sizeof(kid), "%s", acme_client_kid(client));
    assert_int_equal(acme_client_account(other, &why), HSM_OK);
    assert_int_equal(acme_client_account_rollover(client, keys[0], &why), HSM_ERR_EXISTS);
    assert_int_equal(acme_client_account_rollover(client, keys[2], &why), HSM_OK);
    assert_int_equal(acme_client_account_read(client, &shown, &why), HSM_OK); /* by the new key */
    acme_client_free(client);

    client = client_of(keys[2]);
    assert_int_equal(acme_client_account_find(client, &why), HSM_OK);
    assert_string_equal(acme_client_kid(client), kid);
    acme_client_free(client);
    client = client_of(keys[1]);
    assert_int_equal(acme_client_account_find(client, &why), HSM_ERR_NOT_FOUND);
    acme_client_free(client);
    acme_client_free(other);
}

static void
a_deactivated_account_is_of_no_use(void **state)
{
    struct acme_client *client = client_of(keys[3]);
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    assert_int_equal(acme_client_account_deactivate(client, &why), HSM_OK);
    assert_int_equal(acme_client_account_update(client, NULL, &why), HSM_ERR_DENIED);
    assert_int_equal(acme_client_account(client, &why), HSM_ERR_DENIED);
    assert_null(acme_client_kid(client));
    acme_client_free(client);
}

/* ---- external account binding, verified with OpenSSL's HMAC only ---- */

static struct {
    int seen;
    bool bad;
    const char *wrong;
} binding;

static void
expect(bool holds, const char *what)
{
    if (!holds && !binding.bad) {
        binding.bad = true;
        binding.wrong = what;
    }
}

static json_t *
decoded(const char *text)
{
    uint8_t *octets = NULL;
    size_t len = 0;
    json_t *json = NULL;

    if (text != NULL && acme_base64url_decode(text, strlen(text), &octets, &len) == HSM_OK)
        json = json_loadb((char *)octets, len, 0, NULL);
    free(octets);
    return json;
}

static bool
mac_is_right(const char *protected, const char *payload, const char *signature)
{
    uint8_t *key = NULL, *given = NULL, code[32];
    size_t key_len = 0, given_len = 0;
    char input[4096];
    bool right;

    snprintf(input, sizeof(input), "%s.%s", protected, payload);
    right = acme_base64url_decode(MAC_KEY_TEXT, strlen(MAC_KEY_TEXT), &key, &key_len) == HSM_OK &&
            acme_base64url_decode(signature, strlen(signature), &given, &given_len) == HSM_OK &&
            HMAC(EVP_sha256(), key, (int)key_len, (uint8_t *)input, strlen(input), code, NULL) !=
                NULL &&
            given_len == sizeof(code) && memcmp(code, given, sizeof(code)) == 0;
    free(key);
    free(given);
    return right;
}

/* RFC 8555 section 7.3.4: alg, kid, url and no nonce; the payload is the account's key. */
static void
judge_binding(const json_t *object, const json_t *outer_header)
{
    const char *protected = json_string_value(json_object_get(object, "protected"));
    const char *payload = json_string_value(json_object_get(object, "payload"));
    const char *signature = json_string_value(json_object_get(object, "signature"));
    json_t *header = decoded(protected), *jwk = decoded(payload);

    binding.seen++;
    expect(json_object_size(header) == 3, "three members");
    expect(json_equal(json_object_get(header, "alg"), json_object_get(header, "alg")) &&
               strcmp(json_string_value(json_object_get(header, "alg")), "HS256") == 0,
           "alg");
    expect(strcmp(json_string_value(json_object_get(header, "kid")), "sp-7") == 0, "kid");
    expect(json_equal(json_object_get(header, "url"), json_object_get(outer_header, "url")), "url");
    expect(json_equal(jwk, json_object_get(outer_header, "jwk")), "payload");
    expect(mac_is_right(protected, payload, signature), "MAC");
    json_decref(header);
    json_decref(jwk);
}

static bool
want_binding(struct ca_fixture *fixture, const struct acme_http_request *request,
             struct acme_http_response *response)
{
    static const char problem[] =
        "{\"type\":\"urn:ietf:params:acme:error:externalAccountRequired\",\"detail\":\"who?\"}";
    struct acme_jws *jws = NULL;
    const char *body;
    json_t *payload = NULL;
    size_t len;
    bool bound;

    (void)fixture;
    if (strcmp(acme_http_request_path(request), "/acme/new-account") != 0)
        return false;
    body = acme_http_request_body(request, &len);
    if (acme_jws_parse_flattened(body, len, &jws, NULL) != HSM_OK)
        return false;
    payload = json_loads(acme_jws_payload(jws, &len), 0, NULL);
    bound = json_object_get(payload, "externalAccountBinding") != NULL;
    if (bound)
        judge_binding(json_object_get(payload, "externalAccountBinding"), acme_jws_header(jws));
    else
        acme_http_respond(response, 403, "application/problem+json", problem, strlen(problem));
    json_decref(payload);
    acme_jws_free(jws);
    return !bound;
}

static void
an_account_is_bound_as_the_rfc_says(void **state)
{
    struct acme_client_config config = {
        .poll_limit_s = 5, .account_key = keys[0], .eab_kid = "sp-7"};
    struct acme_client *client = client_of(keys[0]);
    struct hsm_secret *mac_key = NULL;
    struct hsm_reason why = {""};

    (void)state;
    ca.intercept = want_binding;
    assert_int_equal(acme_client_account(client, &why), HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "externalAccountRequired: who? (configure the key id"));
    acme_client_free(client);

    assert_int_equal(hsm_secret_new(MAC_KEY_TEXT, strlen(MAC_KEY_TEXT), &mac_key), HSM_OK);
    config.eab_key = mac_key;
    client = client_group_new(config);
    memset(&binding, 0, sizeof(binding));
    assert_int_equal(acme_client_account(client, &why), HSM_OK);
    assert_int_equal(binding.seen, 1);
    if (binding.bad)
        fail_msg("%s", binding.wrong);
    acme_client_free(client);
    hsm_secret_free(mac_key);
    ca.intercept = NULL;
}

static void
a_mac_key_that_is_none_is_refused_and_not_told(void **state)
{
    static const char *const wrong[] = {"not base64!", "c2hvcnQ"};
    struct hsm_reason why = {""};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct acme_client_config config = {
            .poll_limit_s = 5, .account_key = keys[0], .eab_kid = "sp-7"};
        struct hsm_secret *mac_key = NULL;
        struct acme_client *client;

        assert_int_equal(hsm_secret_new(wrong[i], strlen(wrong[i]), &mac_key), HSM_OK);
        config.eab_key = mac_key;
        client = client_group_new(config);
        assert_int_equal(acme_client_account(client, &why), HSM_ERR_MALFORMED);
        assert_null(strstr(why.text, wrong[i]));
        acme_client_free(client);
        hsm_secret_free(mac_key);
    }
}

static void
half_a_binding_is_a_fault_of_the_caller(void **state)
{
    struct acme_client *client = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(acme_client_new(&(struct acme_client_config){.http = ca.pa.http,
                                                                  .directory_url = ca.authority,
                                                                  .account_key = keys[0],
                                                                  .eab_kid = "sp-7"},
                                     &client, &why),
                     HSM_ERR_USAGE);
}

static int
start(void **state)
{
    ca_group_start_alone(state);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char label[16];

        snprintf(label, sizeof(label), "account-%zu", i);
        if (hsm_key_generate(ca.pa.token, label, &keys[i]) != HSM_OK)
            return -1;
    }
    return 0;
}

static int
stop(void **state)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        hsm_key_free(keys[i]);
    return ca_group_stop(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_is_found_only_when_it_was_made),
        cmocka_unit_test(a_contact_is_replaced_and_taken_away),
        cmocka_unit_test(what_is_no_url_is_not_told_as_a_contact),
        cmocka_unit_test(a_key_change_leaves_the_account_and_takes_the_old_key_away),
        cmocka_unit_test(a_deactivated_account_is_of_no_use),
        cmocka_unit_test(an_account_is_bound_as_the_rfc_says),
        cmocka_unit_test(a_mac_key_that_is_none_is_refused_and_not_told),
        cmocka_unit_test(half_a_binding_is_a_fault_of_the_caller),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
