/* test_authority_publish.c - mirrors acme/src/authority_publish.c: the list of STI-CAs, the CRL,
 * the chain of the signer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/ca_list.h>
#include <certs/crl.h>

#include "authority_service_group.h"

#define LIST_LIFETIME 86400
#define CRL_LIFETIME  43200

static void
trusted_ca_is_on_the_next_list_with_a_higher_sequence(void **state)
{
    X509 *root = pa_fixture_ca_root(&pa, "sti-ca-root", "Example STI-CA");
    uint64_t before = list_sequence();
    struct acme_ca_list *list;

    (void)state;
    assert_int_equal(list_sequence(), before);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_OK);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_ERR_EXISTS);
    list = fetch_list(before, time(NULL));
    assert_non_null(list);
    assert_int_equal(acme_ca_list_sequence(list), before + 1);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 1);
    assert_int_equal(X509_cmp(certs_chain_get(acme_ca_list_roots(list), 0), root), 0);
    acme_ca_list_free(list);
    X509_free(root);
}

static void
list_is_refused_when_rolled_back_or_expired_or_of_another_authority(void **state)
{
    uint64_t sequence = list_sequence();
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_ca_list *list = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_null(fetch_list(sequence + 1, time(NULL)));
    assert_null(fetch_list(0, time(NULL) + LIST_LIFETIME + 1));
    assert_int_equal(
        acme_authority_fetch_ca_list(pa.http, url, pa.tls_chain, 0, time(NULL), &list, &why),
        HSM_ERR_UNTRUSTED);
    assert_null(list);
    free(url);
}

static void
list_is_signed_anew_at_half_of_its_life(void **state)
{
    uint64_t sequence = list_sequence();

    (void)state;
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 - 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence + 1);
}

/* Uses an open connection, which needs no TLS signature, so the answer shows only the state of the
 * list. */
static int
list_status(void)
{
    char *url = url_of(ACME_AUTHORITY_CA_LIST_PATH);
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    int status;

    if (acme_http_fetch(pa.http,
                        &(struct acme_http_fetch){
                            .method = "GET", .url = url, .reply_max = 65536, .timeout_ms = 30000},
                        &reply, &why) != HSM_OK)
        fail_msg("%s", why.text);
    status = reply.status;
    acme_http_reply_clear(&reply);
    free(url);
    return status;
}

static void
list_that_cannot_be_signed_anew_serves_until_it_ends(void **state)
{
    uint64_t sequence;

    (void)state;
    acme_authority_refresh(authority);
    sequence = list_sequence();
    token_answers("C_Sign=0x30"); /* CKR_DEVICE_ERROR */
    atomic_store(&clock_offset_s, LIST_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);
    atomic_store(&clock_offset_s, LIST_LIFETIME + 60);
    assert_int_equal(list_status(), 503);
    token_answers("");
    atomic_store(&clock_offset_s, LIST_LIFETIME + 120); /* retried soon, not each time */
    assert_int_equal(list_status(), 200);
    assert_int_equal(list_sequence(), sequence + 1);
}

static void
token_that_could_not_be_signed_does_not_count(void **state)
{
    struct acme_authority_config config = authority_group_config(pa_clock);
    struct acme_authority *before = authority;
    char *authorization = login("sp-1234");
    char wish[512];

    (void)state;
    snprintf(wish, sizeof(wish),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    config.tokens_per_hour = 2;
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    token_answers("C_Sign=0x30"); /* CKR_DEVICE_ERROR */
    for (unsigned i = 0; i < 2 * config.tokens_per_hour; i++)
        assert_int_not_equal(post("/at/account/1234/token", authorization, wish, NULL) / 100, 2);
    token_answers("");
    for (unsigned i = 0; i < config.tokens_per_hour; i++)
        assert_int_equal(post("/at/account/1234/token", authorization, wish, NULL), 200);
    assert_int_equal(post("/at/account/1234/token", authorization, wish, NULL), 429);
    acme_authority_free(authority);
    authority = before;
    free(authorization);
}

static void
clock_that_was_ahead_is_made_up_for(void **state)
{
    uint64_t sequence;

    (void)state;
    atomic_store(&clock_offset_s, 10 * LIST_LIFETIME);
    acme_authority_refresh(authority);
    sequence = list_sequence();
    atomic_store(&clock_offset_s, 0);
    assert_int_equal(list_sequence(), sequence + 1);
    assert_int_equal(list_sequence(), sequence + 1);
}

/* With the clock ahead, the signer had expired. The failure from then delays no retry under the
 * right clock. */
static void
signature_that_failed_when_the_clock_was_ahead_is_tried_again(void **state)
{
    long left = (long)(certs_chain_not_after(pa.signer_chain) - time(NULL));
    X509 *root = pa_fixture_ca_root(&pa, "late-root", "Late STI-CA");
    uint64_t sequence = list_sequence();

    (void)state;
    atomic_store(&clock_offset_s, left + 1000);
    assert_int_equal(acme_authority_ca_add(store, root), HSM_OK);
    acme_authority_refresh(authority);
    atomic_store(&clock_offset_s, 0);
    assert_int_equal(list_sequence(), sequence + 1);
    X509_free(root);
}

static void
list_and_token_end_with_their_signer(void **state)
{
    long left = (long)(certs_chain_not_after(pa.signer_chain) - time(NULL));
    char *access;
    char body[512];
    uint64_t sequence;

    (void)state;
    snprintf(body, sizeof(body),
             "{\"tktype\":\"TNAuthList\",\"tkvalue\":\"" TKVALUE_1234 "\",\"fingerprint\":\"%s\"}",
             fingerprint);
    atomic_store(&clock_offset_s, left - LIST_LIFETIME / 4);
    acme_authority_refresh(authority);
    sequence = list_sequence();
    acme_authority_refresh(authority);
    assert_int_equal(list_sequence(), sequence);

    atomic_store(&clock_offset_s, left - 60);
    access = login("sp-1234");
    assert_int_equal(post("/at/account/1234/token", access, body, NULL), 200);
    atomic_store(&clock_offset_s, left + 1);
    assert_int_equal(post("/at/account/1234/token", access, body, NULL), 500);
    free(access);
}

static struct certs_crl *
fetch_crl(time_t now, const struct certs_chain *anchors)
{
    char *url = acme_authority_crl_url(pa.base_url);
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {""};

    if (acme_authority_fetch_crl(pa.http, url, anchors, now, &crl, &why) != HSM_OK)
        print_message("%s\n", why.text);
    free(url);
    return crl;
}

static void
crl_is_good_and_grows_in_number(void **state)
{
    struct certs_crl *first = fetch_crl(time(NULL), pa.root);
    struct certs_crl *second;

    (void)state;
    assert_non_null(first);
    assert_false(certs_crl_has(first, certs_chain_get(pa.signer_chain, 0)));
    assert_null(fetch_crl(time(NULL), pa.tls_chain));
    assert_null(fetch_crl(time(NULL) + 2 * CRL_LIFETIME, pa.root));
    atomic_store(&clock_offset_s, CRL_LIFETIME / 2 + 60);
    acme_authority_refresh(authority);
    second = fetch_crl(pa_clock(), pa.root);
    assert_non_null(second);
    assert_int_equal(certs_crl_number(second), certs_crl_number(first) + 1);
    assert_true(certs_crl_next_update(second) > certs_crl_next_update(first));
    certs_crl_free(first);
    certs_crl_free(second);
}

static void
crl_is_der_and_may_be_cached(void **state)
{
    struct acme_http_reply reply = {0};

    (void)state;
    assert_int_equal(exchange("GET", "/download/v1/crl", NULL, NULL, NULL, &reply), 200);
    assert_string_equal(reply.content_type, "application/pkix-crl");
    assert_int_equal((uint8_t)reply.body[0], 0x30);
    assert_string_equal(reply.cache_control, "public, max-age=300");
    assert_non_null(reply.etag);
    acme_http_reply_clear(&reply);
    assert_int_equal(exchange("HEAD", "/download/v1/crl", NULL, NULL, NULL, &reply), 200);
    assert_int_equal(reply.body_len, 0);
    acme_http_reply_clear(&reply);
}

static void
signers_chain_stays_where_it_is(void **state)
{
    struct acme_ca_list *list = fetch_list(0, time(NULL));
    struct acme_http_reply reply = {0};
    const char *path;

    (void)state;
    assert_non_null(list);
    path = acme_ca_list_x5u(list) + strlen(pa.base_url);
    assert_int_equal(strncmp(path, ACME_AUTHORITY_SIGNERS_PATH "certificateId_",
                             strlen(ACME_AUTHORITY_SIGNERS_PATH "certificateId_")),
                     0);
    assert_int_equal(exchange("GET", path, NULL, NULL, NULL, &reply), 200);
    assert_string_equal(reply.content_type, "application/pem-certificate-chain");
    assert_non_null(strstr(reply.cache_control, "immutable"));
    acme_http_reply_clear(&reply);
    acme_ca_list_free(list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(trusted_ca_is_on_the_next_list_with_a_higher_sequence,
                                  reset_clock),
        cmocka_unit_test_teardown(
            list_is_refused_when_rolled_back_or_expired_or_of_another_authority, reset_clock),
        cmocka_unit_test_teardown(list_is_signed_anew_at_half_of_its_life, reset_clock),
        cmocka_unit_test_teardown(list_that_cannot_be_signed_anew_serves_until_it_ends,
                                  reset_clock),
        cmocka_unit_test_teardown(token_that_could_not_be_signed_does_not_count, reset_clock),
        cmocka_unit_test_teardown(clock_that_was_ahead_is_made_up_for, reset_clock),
        cmocka_unit_test_teardown(signature_that_failed_when_the_clock_was_ahead_is_tried_again,
                                  reset_clock),
        cmocka_unit_test_teardown(list_and_token_end_with_their_signer, reset_clock),
        cmocka_unit_test_teardown(crl_is_good_and_grows_in_number, reset_clock),
        cmocka_unit_test_teardown(crl_is_der_and_may_be_cached, reset_clock),
        cmocka_unit_test_teardown(signers_chain_stays_where_it_is, reset_clock),
    };

    return cmocka_run_group_tests(tests, authority_service_start, authority_service_stop);
}
