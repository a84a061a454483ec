/* test_server_routes.c - mirrors acme/src/server_routes.c: requests that depend on other servers do
 * not delay the rest. */
#define _GNU_SOURCE /* asprintf */

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "ca_group.h"

#define ANSWERS  5 /* simultaneous answers to challenges: more than the server has threads */
#define HANGING  3 /* of four threads; one is left for others */
#define PATIENCE 20000 /* ms to wait for what should happen at once */

/* ---- an STI-PA that accepts connections and never answers ---- */

static int hanging = -1;

static void
hang(char authority[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);

    hanging = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(hanging, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(hanging, 64), 0);
    assert_int_equal(getsockname(hanging, (struct sockaddr *)&address, &len), 0);
    snprintf(authority, 64, "https://127.0.0.1:%u/pa/", ntohs(address.sin_port));
}

static int
accept_soon(void)
{
    struct pollfd wait = {.fd = hanging, .events = POLLIN};

    assert_int_equal(poll(&wait, 1, PATIENCE), 1);
    return accept(hanging, NULL, NULL);
}

/* ---- challenges that wait for it ---- */

struct answer {
    pthread_t thread;
    struct peer_order order;
    char *payload;
    int status;
};

static atomic_int answered;

static void *
answer_challenge(void *context)
{
    struct answer *answer = context;
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_send(&ca, &account, answer->order.challenge, answer->payload, &got);
    answer->status = got.status;
    atomic_fetch_add(&answered, 1);
    return NULL;
}

/* Each has a different x5u, because a fetched one would be cached. */
static void
begin(struct answer *answer, const char *authority, int i)
{
    struct token_plan plan = {.spc = "1234", .account_key = account.key};
    char x5u[128];
    char *token;

    snprintf(x5u, sizeof(x5u), "%s%d.pem", authority, i);
    plan.x5u = x5u;
    peer_order(&ca, &account, "1234", &answer->order);
    token = peer_token(&ca, &plan);
    assert_true(asprintf(&answer->payload, "{\"tkauth\":\"%s\"}", token) > 0);
    free(token);
}

static void
an_authority_that_hangs_keeps_no_other_request_waiting(void **state)
{
    struct answer answers[ANSWERS];
    char authority[64], nonce[64];
    const char *authorities[3] = {ca.authority, authority, NULL};
    int connections[HANGING];
    CLEAR_AFTER(got_clear) struct got read = {.status = 0};

    (void)state;
    hang(authority);
    ca.config.authorities = authorities;
    ca_fixture_restart(&ca);
    for (int i = 0; i < ANSWERS; i++)
        begin(&answers[i], authority, i);
    for (int i = 0; i < ANSWERS; i++)
        assert_int_equal(pthread_create(&answers[i].thread, NULL, answer_challenge, &answers[i]),
                         0);
    for (int i = 0; i < HANGING; i++)
        connections[i] = accept_soon();
    ca_nonce(&ca, nonce);
    peer_send(&ca, &account, answers[0].order.url, "", &read);
    assert_string_equal(got_text(&read, "status"), "pending");
    assert_int_equal(atomic_load(&answered), 0);
    close(hanging); /* from now on, fetches are refused */
    for (int i = 0; i < HANGING; i++)
        close(connections[i]);
    for (int i = 0; i < ANSWERS; i++) {
        pthread_join(answers[i].thread, NULL);
        assert_int_equal(answers[i].status, 503); /* the token is not at fault */
        free(answers[i].payload);
    }
    ca.config.authorities = ca.authorities;
    ca_fixture_restart(&ca);
}

static void
pages_that_ask_others_are_told_from_those_that_do_not(void **state)
{
    static const struct {
        const char *path;
        bool slow;
    } cases[] = {
        {"/web", false},
        {"/web/preview", true},
        {"/web/issue", true},
        {"/web/status", true},
        {"/web/order/x", false},
        {"/acme/chall/x", true},
        {"/acme/new-nonce", false},
        {"/acme/order/x", false},
        {"/nothing", false},
    };
    struct acme_http_handler handler;

    (void)state;
    ca.config.web_enabled = true;
    ca_fixture_restart(&ca);
    handler = acme_server_handler(ca.server);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (handler.is_slow(handler.context, ACME_HTTP_POST, cases[i].path) != cases[i].slow)
            fail_msg("%s", cases[i].path);
    }
    ca.config.web_enabled = false;
    ca_fixture_restart(&ca);
    handler = acme_server_handler(ca.server);
    assert_false(handler.is_slow(handler.context, ACME_HTTP_POST, "/web/issue"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authority_that_hangs_keeps_no_other_request_waiting),
        cmocka_unit_test(pages_that_ask_others_are_told_from_those_that_do_not),
    };

    return cmocka_run_group_tests(tests, ca_group_start, ca_group_stop);
}
