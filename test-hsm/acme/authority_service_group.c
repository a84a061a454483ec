/* authority_service_group.c - the STI-PA behind a token whose faults tests set. */
#define _GNU_SOURCE /* asprintf */
#include "authority_service_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include <acme/authority_client.h>
#include <acme/ca_list.h>

#include "peer.h"
#include "softhsm.h"

EVP_PKEY *account_key;
char fingerprint[ACME_FINGERPRINT_LEN + 1];
atomic_long clock_offset_s;
atomic_long clock_stands_s;

time_t
pa_clock(void)
{
    const time_t stands = atomic_load(&clock_stands_s);

    return (stands != 0 ? stands : time(NULL)) + atomic_load(&clock_offset_s);
}

enum hsm_status
add_account(const char *id, const char *user, const char *const *spcs, bool ca)
{
    return authority_group_account(id, user, PASSWORD, spcs, ca);
}

void
token_answers(const char *faults)
{
    assert_int_equal(setenv("STI_SHIM", faults, 1), 0);
}

int
authority_service_start(void **state)
{
    struct acme_authority_config config;

    (void)state;
    assert_int_equal(setenv("STI_SHIM_BEHIND", softhsm_module(), 1), 0);
    assert_int_equal(setenv("STI_TEST_MODULE", SHIM_MODULE, 1), 0);
    assert_int_equal(setenv("STI_TEST_TIMEOUT_MS", "1500", 1), 0);
    token_answers("");
    authority_group_open();
    config = authority_group_config(pa_clock);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    assert_int_equal(add_account("1234", "sp-1234", (const char *[]){"1234", "709J", NULL}, false),
                     HSM_OK);
    assert_int_equal(add_account("sp.two", "sp-two", (const char *[]){"5678", NULL}, true), HSM_OK);
    account_key = peer_key_new("P-256");
    assert_int_equal(acme_fingerprint_format(account_key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    return 0;
}

int
authority_service_stop(void **state)
{
    EVP_PKEY_free(account_key);
    return authority_group_stop(state);
}

int
reset_clock(void **state)
{
    (void)state;
    atomic_store(&clock_offset_s, 0);
    atomic_store(&clock_stands_s, 0);
    return 0;
}

/* ---- requests ---- */

int
exchange(const char *method, const char *path, const char *authorization, const char *type,
         const char *body, struct acme_http_reply *reply)
{
    struct hsm_reason why = {""};
    char url[1024];
    struct acme_http_fetch fetch = {
        .method = method,
        .url = url,
        .content_type = type,
        .authorization = authorization,
        .body = body,
        .body_len = body != NULL ? strlen(body) : 0,
        .reply_max = 1 << 20,
        .timeout_ms = 30000,
    };

    snprintf(url, sizeof(url), "%s%s", pa.base_url, path);
    if (acme_http_fetch(pa.http, &fetch, reply, &why) != HSM_OK)
        fail_msg("%s %s: %s", method, path, why.text);
    return reply->status;
}

int
post(const char *path, const char *authorization, const char *body, json_t **answer)
{
    struct acme_http_reply reply = {0};
    int status = exchange("POST", path, authorization, "application/json", body, &reply);

    if (answer != NULL) {
        *answer = json_loadb(reply.body, reply.body_len, 0, NULL);
        assert_non_null(*answer);
    }
    acme_http_reply_clear(&reply);
    return status;
}

const char *
text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    assert_non_null(text);
    return text;
}

char *
login(const char *user)
{
    char body[256];
    json_t *answer = NULL;
    char *token;

    snprintf(body, sizeof(body), "{\"userId\":\"%s\",\"password\":\"%s\"}", user, PASSWORD);
    assert_int_equal(post("/api/v1/auth/login", NULL, body, &answer), 200);
    assert_string_equal(text_of(answer, "status"), "success");
    token = strdup(text_of(answer, "accessToken"));
    json_decref(answer);
    return token;
}

char *
url_of(const char *path)
{
    char *url = NULL;

    assert_true(asprintf(&url, "%s%s", pa.base_url, path) > 0);
    return url;
}

struct acme_ca_list *
fetch_list(uint64_t previous_sequence, time_t now)
{
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st =
        acme_authority_fetch_ca_list(pa.http, url, pa.root, previous_sequence, now, &list, &why);

    if (st != HSM_OK) {
        assert_int_equal(st, HSM_ERR_UNTRUSTED);
        print_message("%s\n", why.text);
    }
    free(url);
    return list;
}

uint64_t
list_sequence(void)
{
    struct acme_ca_list *list = fetch_list(0, time(NULL));
    uint64_t sequence;

    assert_non_null(list);
    sequence = acme_ca_list_sequence(list);
    acme_ca_list_free(list);
    return sequence;
}
