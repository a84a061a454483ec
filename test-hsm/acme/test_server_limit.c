/* test_server_limit.c - mirrors acme/src/server_limit.c: nonces per address, requests per account.
 */
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

#include "ca_group.h"

#define HOUR 3600

static struct peer other;

static void
limit(unsigned nonces, unsigned requests)
{
    ca.config.nonces_per_address = nonces;
    ca.config.requests_per_account = requests;
    ca_fixture_restart(&ca);
    ca_fixture_sql(&ca, "DELETE FROM rate");
    ca_fixture_set_time(time(NULL));
}

static void
assert_limited(const struct got *got, int longest_s)
{
    int wait = atoi(got_header(got, "Retry-After"));

    assert_int_equal(got->status, 429);
    assert_string_equal(got_problem(got), "rateLimited");
    assert_true(wait > 0 && wait <= longest_s);
}

/* ---- nonces ---- */

static void
new_nonce(const char *method, struct got *got)
{
    got_clear(got);
    ca_fetch(&ca, method, "/acme/new-nonce", NULL, NULL, got);
}

static void
nonces_of_an_address_are_limited_and_none_is_made_beyond(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    int64_t made;

    (void)state;
    limit(4, 0);
    for (int i = 0; i < 4; i++) {
        new_nonce(i % 2 == 0 ? "HEAD" : "GET", &got);
        assert_int_equal(got.status, i % 2 == 0 ? 200 : 204);
    }
    made = ca_fixture_count(&ca, "SELECT count(*) FROM nonce");
    new_nonce("GET", &got);
    assert_limited(&got, HOUR / 4);
    assert_string_equal(got_header(&got, "Replay-Nonce"), "");
    new_nonce("HEAD", &got);
    assert_int_equal(got.status, 429);
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM nonce"), made);
    ca_fixture_set_time(ca_fixture_time() + HOUR / 4);
    new_nonce("GET", &got);
    assert_int_equal(got.status, 204);
}

/* Send a request of the account with that nonce, and store the next one. */
static void
ask(const struct post *plan, char nonce[64], struct got *got)
{
    struct post post = *plan;

    got_clear(got);
    post.nonce = nonce;
    peer_post(&ca, &account, &post, got);
    snprintf(nonce, 64, "%s", got_header(got, "Replay-Nonce"));
}

static void
nonces_that_an_account_gets_with_its_answers_are_not_counted(void **state)
{
    const struct post read = {.path = account.kid, .payload = ""};
    char nonce[64];
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(1, 0);
    ca_nonce(&ca, nonce);
    for (int i = 0; i < 10; i++) {
        ask(&read, nonce, &got);
        assert_int_equal(got.status, 200);
        assert_string_not_equal(nonce, "");
    }
    new_nonce("GET", &got);
    assert_limited(&got, HOUR);
}

static void
what_no_account_has_signed_gives_no_nonce_beyond_the_limit(void **state)
{
    static const struct post cases[] = {
        {.path = "/acme/new-order", .payload = "{}", .break_signature = true},
        {.path = "/acme/new-order", .payload = "{}", .nonce = "never-given"},
        {.path = "/acme/new-order", .payload = "{}", .content_type = "text/plain"},
        {.path = "/acme/nothing", .payload = "{}"},
        {.path = "/acme/new-account", .payload = "{\"onlyReturnExisting\":true}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct peer unknown = {.key = account.key};
        struct post post = cases[i];
        char nonce[64];
        CLEAR_AFTER(got_clear) struct got first = {.status = 0};
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        limit(2, 0);
        ca_nonce(&ca, nonce);
        if (cases[i].nonce == NULL)
            post.nonce = nonce;
        peer_post(&ca, i == 4 ? &unknown : &account, &post, &first);
        assert_string_not_equal(got_header(&first, "Replay-Nonce"), "");
        snprintf(nonce, sizeof(nonce), "%s", got_header(&first, "Replay-Nonce"));
        peer_post(&ca, i == 4 ? &unknown : &account, &post, &got);
        assert_int_equal(got.status, first.status); /* the same answer */
        if (got_header(&got, "Replay-Nonce")[0] != '\0')
            fail_msg("case %zu: %s", i, got_header(&got, "Replay-Nonce"));
    }
}

/* ---- requests ---- */

static void
send_revocation(const struct peer *peer, struct got *got)
{
    got_clear(got);
    peer_send(&ca, peer, "/acme/revoke-cert", "{}", got);
}

static void
requests_of_an_account_are_limited(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(0, 2);
    for (int i = 0; i < 2; i++) {
        send_revocation(&account, &got);
        assert_int_equal(got.status, 400);
    }
    send_revocation(&account, &got);
    assert_limited(&got, HOUR / 2);
    assert_string_not_equal(got_header(&got, "Replay-Nonce"), "");
    send_revocation(&other, &got); /* per account */
    assert_int_equal(got.status, 400);
    got_clear(&got);
    peer_send(&ca, &account, "/acme/key-change", "{}", &got); /* per kind of request */
    assert_int_equal(got.status, 400);
    ca_fixture_set_time(ca_fixture_time() + HOUR / 2);
    send_revocation(&account, &got);
    assert_int_equal(got.status, 400);
}

/* Any certificate holder has such a key. */
static void
what_the_key_of_a_certificate_signs_is_not_counted(void **state)
{
    const struct post post = {.path = "/acme/revoke-cert", .payload = "{}", .with_jwk = true};
    const struct peer holder = {.key = account.key};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(0, 1);
    for (int i = 0; i < 3; i++) {
        got_clear(&got);
        peer_post(&ca, &holder, &post, &got);
        assert_int_equal(got.status, 400);
    }
}

static void
challenges_are_answered_so_often_and_read_any_time(void **state)
{
    struct peer_order order;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(0, 1);
    peer_order(&ca, &account, "1234", &order);
    peer_send(&ca, &account, order.challenge, "{}", &got);
    assert_int_equal(got.status, 400);
    for (int i = 0; i < 3; i++) {
        got_clear(&got);
        peer_send(&ca, &account, order.challenge, "", &got);
        assert_int_equal(got.status, 200);
    }
    got_clear(&got);
    peer_send(&ca, &account, order.challenge, "{\"tkauth\":\"x\"}", &got);
    assert_limited(&got, HOUR);
    peer_assert_status(&ca, &account, order.url, "pending");
}

static bool
an_sti_pa_counts_and_is_away(struct ca_fixture *fixture, const struct acme_http_request *request,
                             struct acme_http_response *response)
{
    if (strcmp(acme_http_request_path(request), "/pa/signer.pem") != 0)
        return false;
    atomic_fetch_add(&fixture->intercepted, 1);
    acme_http_respond(response, 503, NULL, NULL, 0);
    return true;
}

/* A request with a used nonce does not cause a fetch either (RFC 8555 section 6.5). */
static void
for_a_challenge_answer_too_many_nothing_is_fetched(void **state)
{
    struct peer_order order;
    char *token, *payload = NULL, *body;
    int fetched;
    CLEAR_AFTER(got_clear) struct got first = {.status = 0};
    CLEAR_AFTER(got_clear) struct got again = {.status = 0};
    CLEAR_AFTER(got_clear) struct got fresh = {.status = 0};
    CLEAR_AFTER(got_clear) struct got later = {.status = 0};

    (void)state;
    limit(0, 1);
    peer_order(&ca, &account, "1234", &order);
    token = peer_token(&ca, &(struct token_plan){.spc = "1234", .account_key = account.key});
    assert_true(asprintf(&payload, "{\"tkauth\":\"%s\"}", token) > 0);
    body = peer_body(&ca, &account, &(struct post){.path = order.challenge, .payload = payload});
    ca.intercept = an_sti_pa_counts_and_is_away;
    ca_fetch(&ca, "POST", order.challenge, "application/jose+json", body, &first);
    fetched = atomic_load(&ca.intercepted);
    ca_fetch(&ca, "POST", order.challenge, "application/jose+json", body, &again);
    peer_send(&ca, &account, order.challenge, payload, &fresh);
    assert_int_equal(first.status, 503);
    assert_true(fetched > 0);
    assert_int_equal(again.status, 400);
    assert_string_equal(got_problem(&again), "badNonce");
    assert_limited(&fresh, HOUR);
    assert_int_equal(atomic_load(&ca.intercepted), fetched);
    ca_fixture_set_time(ca_fixture_time() + HOUR);
    peer_send(&ca, &account, order.challenge, payload, &later);
    ca.intercept = NULL;
    assert_int_equal(later.status, 503);
    assert_int_equal(atomic_load(&ca.intercepted), 2 * fetched);
    free(body);
    free(payload);
    free(token);
}

static void
send_with_unknown_nonce(struct got *got)
{
    peer_post(&ca, &account,
              &(struct post){.path = "/acme/revoke-cert", .payload = "{}", .nonce = "never-given"},
              got);
}

static void
a_used_nonce_is_told_before_a_limit(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(0, 1);
    send_revocation(&account, &got);
    got_clear(&got);
    send_with_unknown_nonce(&got);
    assert_int_equal(got.status, 400);
    assert_string_equal(got_problem(&got), "badNonce");
}

/* Anyone who has read such a request can replay it. */
static void
requests_with_a_used_nonce_use_up_nothing_of_the_accounts(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    limit(0, 1);
    for (int i = 0; i < 3; i++) {
        got_clear(&got);
        send_with_unknown_nonce(&got);
        assert_int_equal(got.status, 400);
        assert_string_equal(got_problem(&got), "badNonce");
    }
    assert_int_equal(
        ca_fixture_count(&ca, "SELECT count(*) FROM rate WHERE subject LIKE 'revocations %'"), 0);
    send_revocation(&account, &got);
    assert_int_equal(got.status, 400);
    assert_string_equal(got_problem(&got), "malformed");
    send_revocation(&account, &got);
    assert_limited(&got, HOUR);
}

/* ---- renewalInfo ---- */

static void
ask_for_renewal(struct got *got)
{
    got_clear(got);
    ca_fetch(&ca, "GET", "/acme/renewal-info/AAAA.AAAA", NULL, NULL, got);
}

/* The store is not written for it. */
static void
renewal_info_of_an_address_is_limited_within_the_process(void **state)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    (void)state;
    ca.config.renewal_info_per_address = 3;
    limit(0, 0);
    ca.config.renewal_info_per_address = 0;
    for (int i = 0; i < 3; i++) {
        ask_for_renewal(&got);
        assert_int_equal(got.status, 404);
    }
    ask_for_renewal(&got);
    assert_limited(&got, HOUR / 3);
    assert_string_equal(got_header(&got, "Cache-Control"), "no-store");
    assert_int_equal(ca_fixture_count(&ca, "SELECT count(*) FROM rate"), 0);
    ca_fixture_set_time(ca_fixture_time() + HOUR / 3);
    ask_for_renewal(&got);
    assert_int_equal(got.status, 404);
    assert_string_equal(got_header(&got, "Cache-Control"), "no-store");
    limit(0, 0); /* 0 means unlimited */
    for (int i = 0; i < 5; i++) {
        ask_for_renewal(&got);
        assert_int_equal(got.status, 404);
    }
}

static int
start(void **state)
{
    ca_group_start(state);
    peer_join(&ca, &other);
    return 0;
}

static int
stop(void **state)
{
    peer_stop(&other);
    return ca_group_stop(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonces_of_an_address_are_limited_and_none_is_made_beyond),
        cmocka_unit_test(nonces_that_an_account_gets_with_its_answers_are_not_counted),
        cmocka_unit_test(what_no_account_has_signed_gives_no_nonce_beyond_the_limit),
        cmocka_unit_test(requests_of_an_account_are_limited),
        cmocka_unit_test(what_the_key_of_a_certificate_signs_is_not_counted),
        cmocka_unit_test(challenges_are_answered_so_often_and_read_any_time),
        cmocka_unit_test(for_a_challenge_answer_too_many_nothing_is_fetched),
        cmocka_unit_test(a_used_nonce_is_told_before_a_limit),
        cmocka_unit_test(requests_with_a_used_nonce_use_up_nothing_of_the_accounts),
        cmocka_unit_test(renewal_info_of_an_address_is_limited_within_the_process),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
