/* test_service.c - mirrors sks/src/service.c: callers, rotation, health and metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include <sks/service.h>
#include <sks/verify.h>

#include "one_token.h"
#include "service_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- who may call ---- */

static void
tls_callers_show_a_bearer_token(void **state)
{
    static const struct {
        const char *authorization;
        long status;
        const char *challenge;
    } cases[] = {
        {"Authorization: Bearer " BEARER, 200, ""},
        {"Authorization: bearer " BEARER, 200, ""},
        {"Authorization: Bearer " BEARER "x", 401,
         "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Bearer a9993e364706816aba3e25717850c26d", 401,
         "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Bearer ", 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: " BEARER, 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"Authorization: Basic " BEARER, 401, "Bearer realm=\"sti-sks\", error=\"invalid_token\""},
        {"X-Nothing: x", 401, "Bearer realm=\"sti-sks\""},
    };
    char value[512];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const headers[] = {JSON_TYPE, cases[i].authorization, NULL};

        call(&sks.tls, "POST", SIGNING, headers, GOOD_SIGNING, &called);
        if (called.status != cases[i].status)
            fail_msg("%s: %ld", cases[i].authorization, called.status);
        assert_string_equal(called_header(&called, "WWW-Authenticate", value), cases[i].challenge);
        if (cases[i].status == 401)
            assert_error(401, "POL4010", NULL);
    }
}

static void
without_authentication_nothing_is_told(void **state)
{
    static const char *const paths[] = {SIGNING, VERIFICATION, "/metrics", "/", "/nothing"};
    static const char *const headers[] = {JSON_TYPE, NULL};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        call(&sks.tls, "POST", paths[i], headers, GOOD_SIGNING, &called);
        assert_error(401, "POL4010", NULL);
        call(&sks.tls, "GET", paths[i], NULL, NULL, &called);
        assert_error(401, "POL4010", NULL);
    }
}

static long
status_for_client(const struct acme_http_client_config *config)
{
    char url[128];
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply = {0};
    struct hsm_reason why = {""};
    const struct acme_http_fetch fetch = {
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .body = GOOD_SIGNING,
        .body_len = strlen(GOOD_SIGNING),
        .reply_max = 65536,
        .timeout_ms = 10000,
    };
    long status = 0; /* status if the TLS handshake fails */

    snprintf(url, sizeof(url), "%s" SIGNING, sks.base);
    assert_int_equal(acme_http_client_new(config, &client), HSM_OK);
    if (acme_http_fetch(client, &fetch, &reply, &why) == HSM_OK)
        status = reply.status;
    acme_http_reply_clear(&reply);
    acme_http_client_free(client);
    return status;
}

static void
tls_client_certificate_is_as_good_as_a_bearer_token(void **state)
{
    const struct acme_http_client_config with = {
        .tls_ca = world.eco.tls_ca, .client_key = world.client_key, .client_chain = world.client};
    const struct acme_http_client_config without = {.tls_ca = world.eco.tls_ca};

    (void)state;
    assert_int_equal(status_for_client(&with), 200);
    assert_int_equal(status_for_client(&without), 401);
}

/* A valid certificate of an SP that was not issued under the API's client anchors. */
static void
client_certificate_under_another_root_is_refused(void **state)
{
    const struct acme_http_client_config stranger = {.tls_ca = world.eco.tls_ca,
                                                     .client_key = world.eco.pa_signer_key,
                                                     .client_chain = world.eco.pa_signer};
    long status;

    (void)state;
    status = status_for_client(&stranger);
    assert_true(status == 0 || status == 401);
}

/* ---- rotation under load ---- */

struct load {
    atomic_bool stop;
    atomic_int calls, failures;
};

static void *
call_all_the_time(void *context)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    struct called *mine = malloc(sizeof(*mine));
    struct load *load = context;

    while (!load->stop) {
        call(&sks.local.caller, "POST", SIGNING, headers, GOOD_SIGNING, mine);
        load->calls++;
        if (mine->status != 200 || strstr(mine->body, "\"identity\"") == NULL)
            load->failures++;
    }
    free(mine);
    return NULL;
}

static void
rotation_costs_no_call(void **state)
{
    struct hsm_key *next = eco_key(&world.eco, "next");
    struct certs_chain *chain =
        eco_sp_chain(&world.eco, ECO_SPC, hsm_key_public(next), NOW - 60, NOW + 3600);
    struct load load = {false, 0, 0};
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_all_the_time, &load), 0);
    for (int i = 0; i < 20; i++) {
        char x5u[64];
        int before = load.calls;

        snprintf(x5u, sizeof(x5u), "https://cr.sp.example/certs/%d.pem", i);
        if (i % 2 == 0)
            activate("pkcs11:object=next", chain, ECO_SPC, x5u);
        else
            activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, x5u);
        sks_service_refresh(sks.service);
        while (load.calls < before + 6)
            usleep(1000);
    }
    load.stop = true;
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(load.failures, 0);
    post(SIGNING, GOOD_SIGNING);
    assert_non_null(strstr(called.body, "info=<https://cr.sp.example/certs/19.pem>"));
    assert_int_equal(hsm_key_destroy(next), HSM_OK);
    hsm_key_free(next);
    certs_chain_free(chain);
}

/* ---- health and metrics ---- */

static void
health_is_told_to_anyone(void **state)
{
    (void)state;
    call(&sks.tls, "GET", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    call(&sks.tls, "HEAD", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_int_equal(called.body_len, 0);
    call(&sks.tls, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_string_equal(called.body, "{\"ready\":true,\"reasons\":[]}");
}

static void
not_ready_without_a_credential_but_alive(void **state)
{
    (void)state;
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "no active credential"));
    call(&sks.local.caller, "GET", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    call(&sks.local.caller, "GET", "/readyz?role=signing", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    call(&sks.local.caller, "GET", "/readyz?role=verification", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_non_null(strstr(called.body, "{\"ready\":true,\"reasons\":[],"));
}

static void
assert_metric(const char *line)
{
    if (strstr(called.body, line) == NULL)
        fail_msg("no %s in:\n%s", line, called.body);
}

static void
metrics_count_what_was_answered(void **state)
{
    char line[128];

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    post(SIGNING, GOOD_SIGNING);
    post(SIGNING, "{");
    post(VERIFICATION, VERIFY_THIS(MEMBER_FROM, MEMBER_IDENTITY, "\"time\":1", MEMBER_TO));
    post(VERIFICATION, "{");
    call(&sks.local.caller, "GET", "/metrics", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    assert_metric("sti_sks_signature_seconds_count{token=\"all\",outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signatures_total{spc=\"" ECO_SPC
                  "\",key=\"sp\",token=\"all\",outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"good\"} 2\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"refused\"} 1\n");
    assert_metric("sti_sks_signing_seconds_count{outcome=\"unavailable\"} 0\n");
    assert_metric("sti_sks_signing_seconds_bucket{outcome=\"good\",le=\"+Inf\"} 2\n");
    assert_metric("sti_sks_verifications_total{case=\"valid\"} 0\n");
    assert_metric("sti_sks_verifications_total{case=\"E3\"} 1\n");
    assert_metric("sti_sks_verstat_total{verstat=\"No-TN-Validation\"} 1\n");
    assert_metric("sti_sks_verification_seconds_count{outcome=\"refused\"} 1\n");
    assert_metric("# TYPE sti_sks_signatures_total counter\n");
    assert_metric("sti_sks_ready{role=\"signing\"} 1\n");
    assert_metric("sti_sks_ready{role=\"verification\"} 1\n");
    assert_metric("sti_sks_credential_loaded{credential=\"1\",spc=\"" ECO_SPC "\"} 1\n");
    assert_metric("sti_sks_provider_ready{spc=\"" ECO_SPC "\"} 1\n");
    snprintf(line, sizeof(line),
             "sti_sks_credential_not_after_seconds{credential=\"1\",spc=\"" ECO_SPC
             "\",key=\"sp\"} %lld\n",
             (long long)certs_chain_not_after(world.eco.sp));
    assert_metric(line);
}

#define WITH_CREDENTIAL(name) cmocka_unit_test_setup_teardown(name, service_start, service_stop)
#define WITHOUT_CREDENTIAL(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, service_start_without_credential, service_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CREDENTIAL(tls_callers_show_a_bearer_token),
        WITH_CREDENTIAL(without_authentication_nothing_is_told),
        WITH_CREDENTIAL(tls_client_certificate_is_as_good_as_a_bearer_token),
        WITH_CREDENTIAL(client_certificate_under_another_root_is_refused),
        WITH_CREDENTIAL(rotation_costs_no_call),
        WITH_CREDENTIAL(health_is_told_to_anyone),
        WITHOUT_CREDENTIAL(not_ready_without_a_credential_but_alive),
        WITH_CREDENTIAL(metrics_count_what_was_answered),
    };

    return cmocka_run_group_tests(tests, service_group_start, service_group_stop);
}
