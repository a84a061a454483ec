/* test_service_x5u.c - mirrors sks/src/service_verification.c with a cache of chains: how often a
 * repository is requested, and which calls wait for it. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/service.h>
#include <sks/x5u.h>

#include "caller.h"
#include "ecosystem.h"
#include "one_token.h"

#define PATH    "/stir/v1/verification"
#define CALLERS 12 /* at once; four threads serve them */

static struct {
    struct ecosystem eco;
    struct eco_server repository;
    char *sp_pem, *ended_pem;
    struct sks_x5u_cache *x5u;
    struct sks_trust *trust;
    struct sks_tokens *tokens;
    struct sks_verifier *verifier;
    struct sks_catalogue *catalogue;
    struct sks_service *service;
    struct unix_server server;
    struct called called;
    atomic_uint fetches;
    atomic_bool is_shut;
} world;

static void
serve(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *pem =
        strstr(acme_http_request_path(request), "ended") != NULL ? world.ended_pem : world.sp_pem;

    (void)context;
    world.fetches++;
    while (world.is_shut)
        usleep(1000);
    acme_http_respond(response, 200, "application/pem-certificate-chain", pem, strlen(pem));
}

static enum hsm_status
get(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    return sks_x5u_get(context, x5u, now, out, why);
}

static enum hsm_status
ask(void *context, const char *x5u, time_t now, const struct sks_call *call,
    struct certs_chain **out, struct hsm_reason *why)
{
    return sks_x5u_ask(context, x5u, now, call->wait, out, why);
}

static char *
pem_of_leaf(time_t not_after)
{
    struct ecosystem *eco = &world.eco;
    struct certs_chain *chain =
        eco_sp_chain(eco, ECO_SPC, hsm_key_public(eco->sp_key), eco->now - 3600, not_after);
    char *pem = NULL;

    eco_must(certs_chain_pem(chain, &pem), "chain");
    certs_chain_free(chain);
    return pem;
}

static int
set_up(void **state)
{
    struct ecosystem *eco = &world.eco;
    char path[160];

    (void)state;
    eco_start(eco);
    world.sp_pem = pem_of_leaf(eco->now + ECO_DAY);
    world.ended_pem = pem_of_leaf(eco->now - 60);
    eco_server_start(&world.repository, eco, (struct acme_http_handler){.handle = serve});
    eco_must(sks_trust_fixed(eco->roots, NULL, 0, NULL, NULL, &world.trust), "trust");
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    sks_catalogue_close(world.catalogue);
    sks_trust_free(world.trust);
    eco_server_stop(&world.repository);
    free(world.ended_pem);
    free(world.sp_pem);
    eco_stop(&world.eco);
    return 0;
}

/* With an empty cache. */
static int
start(void **state)
{
    const unsigned ports[] = {world.repository.port, 0};
    const struct sks_x5u_config x5u = {
        .http = world.eco.http, .ports = ports, .private_addresses = true};
    struct sks_verifier_config verifier = {.trust = world.trust, .chain = get, .ask = ask};
    struct sks_service_config service;

    world.tokens = one_token("pkcs11:token=all", NULL);
    service = (struct sks_service_config){
        .catalogue = world.catalogue, .tokens = world.tokens, .trust = world.trust};
    (void)state;
    world.fetches = 0;
    world.is_shut = false;
    eco_must(sks_x5u_cache_new(&x5u, &world.x5u), "cache");
    verifier.context = world.x5u;
    eco_must(sks_verifier_new(&verifier, &world.verifier), "verifier");
    service.verifier = world.verifier;
    eco_must(sks_service_new(&service, &world.service), "service");
    unix_server_start(&world.server, softhsm_dir(), sks_service_handler(world.service));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    unix_server_stop(&world.server);
    sks_service_free(world.service);
    sks_tokens_close(world.tokens);
    sks_verifier_free(world.verifier);
    sks_x5u_cache_free(world.x5u);
    return 0;
}

/* A request to judge a PASSporT that names this path of the repository; free() it. */
static char *
request_new(const char *path)
{
    char x5u[128];
    char *identity;
    char *body = NULL;

    snprintf(x5u, sizeof(x5u), "%s%s", world.repository.base, path);
    identity = eco_identity(&world.eco, "shaken", x5u, "12155551212", ECO_SHAKEN);
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{\"from\":{\"tn\":\"12155551212\"},"
                         "\"to\":{\"tn\":[\"12155551213\"]},\"time\":%lld,\"identity\":\"%s\"}}",
                         (long long)world.eco.now, identity) > 0);
    free(identity);
    return body;
}

static void
post(const char *body, struct called *called)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};

    call(&world.server.caller, "POST", PATH, headers, body, called);
}

static void
assert_verdict(const struct called *called, const char *verstat, const char *text)
{
    assert_int_equal(called->status, 200);
    assert_non_null(strstr(called->body, verstat));
    assert_non_null(strstr(called->body, text));
}

struct caller_thread {
    pthread_t thread;
    const char *body;
    struct called called;
};

static void *
post_in_a_thread(void *context)
{
    struct caller_thread *caller = context;

    post(caller->body, &caller->called);
    return NULL;
}

/* More than there are threads, while a fetch is under way. */
static void
call_at_once(const char *body, const char *verstat, const char *text)
{
    static struct caller_thread callers[CALLERS];

    world.is_shut = true;
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i].body = body;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, post_in_a_thread, &callers[i]),
                         0);
    }
    while (world.fetches == 0)
        usleep(1000);
    post("{\"verificationRequest\":{}}", &world.called); /* there are threads for others */
    assert_int_equal(world.called.status, 400);
    world.is_shut = false;
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_verdict(&callers[i].called, verstat, text);
    }
}

static void
a_certificate_that_has_ended_is_fetched_once(void **state)
{
    char *body = request_new("/ended.pem");

    (void)state;
    post(body, &world.called);
    assert_verdict(&world.called, "TN-Validation-Failed", "437");
    assert_int_equal(world.fetches, 1);
    post(body, &world.called);
    assert_verdict(&world.called, "TN-Validation-Failed", "437");
    assert_int_equal(world.fetches, 1);
    free(body);
}

static void
many_calls_of_an_ended_certificate_are_one_fetch(void **state)
{
    char *body = request_new("/ended-at-once.pem");

    (void)state;
    call_at_once(body, "TN-Validation-Failed", "437");
    assert_int_equal(world.fetches, 1);
    free(body);
}

static void
many_calls_of_a_good_certificate_are_one_fetch(void **state)
{
    char *body = request_new("/good.pem");

    (void)state;
    call_at_once(body, "TN-Validation-Passed", "verstat");
    assert_int_equal(world.fetches, 1);
    free(body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_certificate_that_has_ended_is_fetched_once),
        TEST(many_calls_of_an_ended_certificate_are_one_fetch),
        TEST(many_calls_of_a_good_certificate_are_one_fetch),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
