/* test_account.c - mirrors sks/src/account.c: a key change interrupted at every possible step,
 * against our STI-CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include <sks/account.h>
#include <sks/enroll.h>

#include "ca_fixture.h"
#include "softhsm.h"

#define TOKEN_URI "pkcs11:token=all"

static struct ca_fixture ca;
static char directory[CA_URL_SIZE];
static struct sks_catalogue *catalogue;
static const struct sks_account_owner owner = {"", directory, TOKEN_URI};

/* ---- keys and accounts as stored ---- */

static enum hsm_status
open_account(struct sks_account **out, struct hsm_reason *why)
{
    return sks_account_open(
        &(struct sks_account_config){
            .catalogue = catalogue,
            .token = ca.pa.token,
            .token_uri = TOKEN_URI,
            .client = {.http = ca.pa.http, .directory_url = directory, .poll_limit_s = 5}},
        out, why);
}

static void
must(enum hsm_status st, const struct hsm_reason *why)
{
    if (st != HSM_OK)
        fail_msg("%s: %s", hsm_status_text(st), why->text);
}

/* The URL of the account that opens now; static storage. */
static const char *
kid_now(void)
{
    static char kid[CA_URL_SIZE];
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};

    must(open_account(&account, &why), &why);
    must(acme_client_account(sks_account_client(account), &why), &why);
    snprintf(kid, sizeof(kid), "%s", acme_client_kid(sks_account_client(account)));
    sks_account_close(account);
    return kid;
}

static struct sks_account_keys
noted(void)
{
    struct sks_account_keys keys;

    assert_int_equal(sks_catalogue_account(catalogue, &owner, &keys), HSM_OK);
    return keys;
}

static void
note(const char *label, const char *next)
{
    struct sks_account_keys keys = {.label = ""};

    snprintf(keys.label, sizeof(keys.label), "%s", label);
    snprintf(keys.next, sizeof(keys.next), "%s", next);
    assert_int_equal(sks_catalogue_account_put(catalogue, &owner, &keys), HSM_OK);
}

static size_t
account_keys(void)
{
    struct hsm_key_info *infos = NULL;
    size_t count, found = 0;

    assert_int_equal(hsm_key_list(ca.pa.token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++)
        found += strncmp(infos[i].label, SKS_ENROLL_ACCOUNT_LABEL, 12) == 0;
    free(infos);
    return found;
}

/* ---- a key change ---- */

static void
a_key_change_leaves_one_account_with_one_key(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE], before[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    must(open_account(&account, &why), &why);
    snprintf(before, sizeof(before), "%s", sks_account_label(account));
    must(sks_account_rollover(account, &why), &why);
    assert_string_not_equal(sks_account_label(account), before);
    assert_string_equal(noted().label, sks_account_label(account));
    assert_string_equal(noted().next, "");
    sks_account_close(account);
    assert_string_equal(kid_now(), kid);
    assert_int_equal(account_keys(), 1);
}

static void
no_account_no_key_change(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};

    (void)state;
    must(open_account(&account, &why), &why);
    assert_int_equal(sks_account_rollover(account, &why), HSM_ERR_NOT_FOUND);
    assert_string_equal(noted().next, "");
    sks_account_close(account);
    assert_int_equal(account_keys(), 1);
}

/* The name of the next key is recorded; nothing else has happened. */
static void
death_before_the_key_was_made_is_survived(void **state)
{
    char kid[CA_URL_SIZE];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    note(noted().label, "acme-account-next");
    assert_string_equal(kid_now(), kid);
    assert_string_equal(noted().label, "acme-account-next");
    assert_string_equal(noted().next, "");
    assert_int_equal(account_keys(), 1);
}

/* The CA has changed the key, but its answer was never read. */
static void
death_after_the_ca_took_the_key_is_survived(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_key *next = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    must(open_account(&account, &why), &why);
    note(noted().label, "acme-account-taken");
    assert_int_equal(hsm_key_generate(ca.pa.token, "acme-account-taken", &next), HSM_OK);
    must(acme_client_account_rollover(sks_account_client(account), next, &why), &why);
    sks_account_close(account);
    hsm_key_free(next);

    assert_string_equal(kid_now(), kid);
    assert_string_equal(noted().label, "acme-account-taken");
    assert_int_equal(account_keys(), 1);
}

static const char *broken_path;
static int broken_status;

static bool
break_path(struct ca_fixture *fixture, const struct acme_http_request *request,
           struct acme_http_response *response)
{
    static const char problem[] =
        "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"not today\"}";

    (void)fixture;
    if (strcmp(acme_http_request_path(request), broken_path) != 0)
        return false;
    acme_http_respond(response, broken_status, "application/problem+json", problem,
                      strlen(problem));
    return true;
}

static void
a_ca_that_is_busy_is_asked_again_when_the_account_is_opened(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE], next[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    must(open_account(&account, &why), &why);
    broken_path = "/acme/key-change";
    broken_status = 503;
    ca.intercept = break_path;
    assert_int_equal(sks_account_rollover(account, &why), HSM_ERR_BUSY);
    sks_account_close(account);
    snprintf(next, sizeof(next), "%s", noted().next);
    assert_string_not_equal(next, "");
    account = NULL;
    assert_int_equal(open_account(&account, &why), HSM_ERR_BUSY);
    assert_null(account);
    ca.intercept = NULL;
    assert_string_equal(kid_now(), kid);
    assert_string_equal(noted().label, next);
    assert_int_equal(account_keys(), 1);
}

static void
a_ca_that_refuses_leaves_the_present_key(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE], label[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    snprintf(label, sizeof(label), "%s", noted().label);
    must(open_account(&account, &why), &why);
    broken_path = "/acme/key-change";
    broken_status = 403;
    ca.intercept = break_path;
    assert_int_equal(sks_account_rollover(account, &why), HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "keyChange: unauthorized: not today"));
    sks_account_close(account);
    assert_string_equal(noted().label, label);
    assert_string_equal(noted().next, "");
    note(label, "acme-account-refused"); /* a change begun earlier is given up */
    assert_string_equal(kid_now(), kid);
    assert_string_equal(noted().next, "");
    ca.intercept = NULL;
    assert_int_equal(account_keys(), 1);
}

/* The STI-CA changes the key, but its answer cannot be parsed. */
static bool
garble_key_change(struct ca_fixture *fixture, const struct acme_http_request *request,
                  struct acme_http_response *response)
{
    const struct acme_http_handler handler = acme_server_handler(fixture->server);

    if (strcmp(acme_http_request_path(request), "/acme/key-change") != 0)
        return false;
    handler.handle(handler.context, request, response);
    acme_http_respond(response, 200, "application/json", "null", 4);
    return true;
}

static void
an_answer_that_cannot_be_read_costs_no_key(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE], next[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    must(open_account(&account, &why), &why);
    ca.intercept = garble_key_change;
    assert_int_equal(sks_account_rollover(account, &why), HSM_ERR_MALFORMED);
    ca.intercept = NULL;
    sks_account_close(account);
    snprintf(next, sizeof(next), "%s", noted().next);
    assert_string_not_equal(next, "");
    assert_int_equal(account_keys(), 2);
    assert_string_equal(kid_now(), kid);
    assert_string_equal(noted().label, next);
    assert_int_equal(account_keys(), 1);
}

/* The CA has lost its store, or its replica lags behind. */
static void
a_ca_that_knows_neither_key_costs_none(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};

    (void)state;
    must(open_account(&account, &why), &why); /* generates a key but no account */
    sks_account_close(account);
    account = NULL;
    note(noted().label, "acme-account-unknown");
    must(open_account(&account, &why), &why);
    assert_string_equal(noted().next, "acme-account-unknown");
    assert_int_equal(account_keys(), 2);
    sks_account_close(account);
    (void)kid_now(); /* creates the account with the present key */
    (void)kid_now();
    assert_string_equal(noted().label, "acme-account-unknown"); /* the key change is finished */
    assert_int_equal(account_keys(), 1);
}

static void
an_account_that_ended_during_a_key_change_can_be_replaced(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_key *next = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    must(open_account(&account, &why), &why);
    note(noted().label, "acme-account-ended");
    assert_int_equal(hsm_key_generate(ca.pa.token, "acme-account-ended", &next), HSM_OK);
    must(acme_client_account_rollover(sks_account_client(account), next, &why), &why);
    sks_account_close(account);
    hsm_key_free(next);
    assert_int_equal(acme_server_account_revoke(ca.store, strrchr(kid, '/') + 1), HSM_OK);

    account = NULL;
    must(open_account(&account, &why), &why);
    assert_string_equal(noted().label, "acme-account-ended");
    must(sks_account_replace(account, &why), &why);
    assert_string_not_equal(acme_client_kid(sks_account_client(account)), kid);
    sks_account_close(account);
    assert_int_equal(account_keys(), 1);
}

static bool
answer_deactivated(struct ca_fixture *fixture, const struct acme_http_request *request,
                   struct acme_http_response *response)
{
    static const char body[] = "{\"status\":\"deactivated\"}";
    char url[CA_URL_SIZE];

    if (strcmp(acme_http_request_path(request), "/acme/new-account") != 0 ||
        fixture->intercepted++ > 0)
        return false;
    snprintf(url, sizeof(url), "%s/acme/acct/1", fixture->pa.base_url);
    acme_http_response_header(response, "Location", url);
    acme_http_respond(response, 200, "application/json", body, strlen(body));
    return true;
}

/* Some CAs answer with a deactivated account where others refuse. */
static void
an_account_that_is_said_to_be_deactivated_has_ended(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char label[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    (void)kid_now();
    snprintf(label, sizeof(label), "%s", noted().label);
    must(open_account(&account, &why), &why);
    ca.intercepted = 0;
    ca.intercept = answer_deactivated;
    must(sks_account_replace(account, &why), &why);
    assert_string_not_equal(noted().label, label);
    sks_account_close(account);
}

static void
another_account_is_made_where_the_ca_has_ended_one(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char kid[CA_URL_SIZE], label[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    snprintf(kid, sizeof(kid), "%s", kid_now());
    snprintf(label, sizeof(label), "%s", noted().label);
    must(open_account(&account, &why), &why);
    assert_int_equal(sks_account_replace(account, &why), HSM_ERR_USAGE);
    assert_string_equal(noted().label, label);

    assert_int_equal(acme_server_account_revoke(ca.store, strrchr(kid, '/') + 1), HSM_OK);
    assert_int_equal(acme_client_account(sks_account_client(account), &why), HSM_ERR_DENIED);
    must(sks_account_replace(account, &why), &why);
    assert_string_not_equal(acme_client_kid(sks_account_client(account)), kid);
    assert_string_not_equal(noted().label, label);
    snprintf(kid, sizeof(kid), "%s", acme_client_kid(sks_account_client(account)));
    sks_account_close(account);
    assert_string_equal(kid_now(), kid);
    assert_int_equal(account_keys(), 1);
}

static void
a_ca_that_is_away_ends_no_account(void **state)
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};
    char label[SKS_ACCOUNT_LABEL_MAX + 1];

    (void)state;
    (void)kid_now();
    snprintf(label, sizeof(label), "%s", noted().label);
    must(open_account(&account, &why), &why);
    broken_path = "/acme/new-account";
    broken_status = 500;
    ca.intercept = break_path;
    assert_int_equal(sks_account_replace(account, &why), HSM_ERR_BUSY);
    assert_string_equal(noted().label, label);
    sks_account_close(account);
}

/* A key that is used by an account at another CA is not destroyed. */
static void
a_shared_key_is_kept(void **state)
{
    const struct sks_account_keys other = {.label = SKS_ENROLL_ACCOUNT_LABEL};
    const struct sks_account_owner elsewhere = {"", "https://other.example/", TOKEN_URI};
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};

    (void)state;
    (void)kid_now();
    assert_int_equal(sks_catalogue_account_put(catalogue, &elsewhere, &other), HSM_OK);
    must(open_account(&account, &why), &why);
    must(sks_account_rollover(account, &why), &why);
    sks_account_close(account);
    assert_int_equal(account_keys(), 2);
}

/* ---- fixtures ---- */

static void
destroy_account_keys(void)
{
    struct hsm_key_info *infos = NULL;
    size_t count;

    assert_int_equal(hsm_key_list(ca.pa.token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++) {
        struct hsm_key *key = NULL;
        char uri[128];

        if (strncmp(infos[i].label, SKS_ENROLL_ACCOUNT_LABEL, 12) != 0)
            continue;
        snprintf(uri, sizeof(uri), "pkcs11:object=%s", infos[i].label);
        assert_int_equal(hsm_key_find(ca.pa.token, uri, &key), HSM_OK);
        assert_int_equal(hsm_key_destroy(key), HSM_OK);
        hsm_key_free(key);
    }
    free(infos);
}

static int
begin(void **state)
{
    static int number;
    char path[512];

    (void)state;
    snprintf(path, sizeof(path), "%s/catalogue-%d.db", softhsm_dir(), number++);
    return sks_catalogue_open(path, &catalogue) == HSM_OK ? 0 : -1;
}

static int
end(void **state)
{
    (void)state;
    ca.intercept = NULL;
    destroy_account_keys();
    sks_catalogue_close(catalogue);
    return 0;
}

static int
start(void **state)
{
    (void)state;
    ca_fixture_start(&ca);
    snprintf(directory, sizeof(directory), "%s/acme/directory", ca.pa.base_url);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    ca_fixture_stop(&ca);
    return 0;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_key_change_leaves_one_account_with_one_key),
        CASE(no_account_no_key_change),
        CASE(death_before_the_key_was_made_is_survived),
        CASE(death_after_the_ca_took_the_key_is_survived),
        CASE(a_ca_that_is_busy_is_asked_again_when_the_account_is_opened),
        CASE(a_ca_that_refuses_leaves_the_present_key),
        CASE(an_answer_that_cannot_be_read_costs_no_key),
        CASE(a_ca_that_knows_neither_key_costs_none),
        CASE(an_account_that_ended_during_a_key_change_can_be_replaced),
        CASE(an_account_that_is_said_to_be_deactivated_has_ended),
        CASE(another_account_is_made_where_the_ca_has_ended_one),
        CASE(a_ca_that_is_away_ends_no_account),
        CASE(a_shared_key_is_kept),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
