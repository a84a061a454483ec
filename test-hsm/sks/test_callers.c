/* test_callers.c - mirrors sks/src/callers.c and rates.c. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/service.h>
#include <sks/x5u.h>

#include "signing_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define TOKEN "a9993e364706816aba3e25717850c26c"
/* printf %s "$TOKEN" | sha256sum */
#define TOKEN_SHA256 "606bb671c889e12f6dca22a7b188614c5765e77da4dfbb4ae7cee2a44944099f"
/* printf %s b00361a396177a9cb410ff61f20015ad | sha256sum */
#define OTHER_SHA256 "464f22b0a3655d9ce7024683bb597f2d02b146450dd7291e544bb0cedadf108c"

/* ---- callers ---- */

static void
who_is_not_in_the_file_is_not_authenticated(void **state)
{
    (void)state;
    begin_with(two_customers, (long)getuid() + 1);
    post(SHAKEN);
    assert_atis_error(401, "POL4010", "");
}

static void
calls_beyond_the_rate_are_told_when_to_come_back(void **state)
{
    static const char callers[] = "[customer acme]\n"
                                  "spc = " ECO_SPC "\n"
                                  "attest = A\n"
                                  "numbers = any\n"
                                  "rate = 1\n"
                                  "burst = 3\n"
                                  "[caller pbx]\n"
                                  "uid = %ld\n"
                                  "customers = acme\n";
    unsigned good = 0;
    char header[512];

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 100 && called.status != 429; i++) {
        post(SHAKEN);
        good += called.status == 200;
    }
    assert_atis_error(429, "POL4290", "of the customer");
    assert_true(good >= 3);
    assert_string_equal(called_header(&called, "Retry-After", header), "1");
    for (int i = 0; i < 10; i++) { /* refused by policy at any rate */
        post("\"attest\":\"B\"," FROM "," TO "," ID);
        assert_atis_error(403, "POL4030", "attest");
    }
    called.status = 0; /* reading Identity headers is work and counts */
    for (int i = 0; i < 100 && called.status != 429; i++) {
        post(DIV ",\"identityHeaders\":[\"no.passport\"]");
        if (called.status != 429)
            assert_3gpp_error(400, "'identityHeaders'");
    }
    assert_3gpp_error(429, "of the customer");
}

#define FROM_2 "\"orig\":{\"tn\":\"13035550100\"}"

/* A request refused by the rate of one customer does not count against the caller's rate for the
 * other. */
static void
a_customer_over_its_rate_does_not_use_up_the_callers(void **state)
{
    static const char callers[] = "[customer busy]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = 12155551212\nrate = 1\n"
                                  "[customer calm]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = 13035550100\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = busy calm\n"
                                  "rate = 1\nburst = 50\n";
    unsigned refused = 0;

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 60; i++) {
        post(SHAKEN);
        refused += called.status == 429 && strstr(called.body, "of the customer") != NULL;
    }
    assert_true(refused > 0);
    post(A "," FROM_2 "," TO "," ID);
    free(signed_identity("identity"));
}

static void
a_caller_over_its_rate_does_not_use_up_the_customers(void **state)
{
    static const char callers[] = "[customer acme]\nspc = " ECO_SPC "\nattest = A\n"
                                  "numbers = any\nrate = 1\nburst = 5\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = acme\nrate = 1\n";
    unsigned refused = 0;

    (void)state;
    begin_with(callers, (long)getuid());
    for (int i = 0; i < 30; i++) {
        post(SHAKEN);
        if (called.status == 429)
            assert_atis_error(429, "POL4290", "of this caller");
        refused += called.status == 429;
    }
    assert_true(refused > 0);
}

/* Authenticate over TLS: by a token whose hash is in the file, or by a certificate. */
static int
tls_status(const struct acme_http_client_config *config, const char *authorization)
{
    struct eco_server server;
    struct acme_http_client *client = NULL;
    struct acme_http_reply reply = {.status = 0};
    char url[128];
    char *body = NULL;
    struct acme_http_fetch fetch = {
        .method = "POST",
        .url = url,
        .content_type = "application/json",
        .authorization = authorization,
        .reply_max = 65536,
        .timeout_ms = 10000,
    };
    const struct acme_http_server_config listen = {
        .address = "127.0.0.1:0",
        .tls_key = world.eco.tls_key,
        .tls_chain = world.eco.tls,
        .client_anchors = world.eco.tls_anchors,
        .handler = sks_service_handler(sks.service),
    };
    int status;

    eco_must(acme_http_loop_new(2, &server.loop), "loop");
    eco_must(acme_http_loop_listen(server.loop, &listen), "listen");
    snprintf(url, sizeof(url), "https://127.0.0.1:%u" SIGNING, acme_http_loop_port(server.loop, 0));
    assert_int_equal(pthread_create(&server.thread, NULL, eco_server_run, server.loop), 0);
    fetch.body_len = (size_t)asprintf(&body, "{\"signingRequest\":{\"iat\":%lld," SHAKEN "}}",
                                      (long long)time(NULL));
    fetch.body = body;
    eco_must(acme_http_client_new(config, &client), "client");
    eco_must(acme_http_fetch(client, &fetch, &reply, NULL), "fetch");
    status = reply.status;
    acme_http_reply_clear(&reply);
    acme_http_client_free(client);
    eco_server_stop(&server);
    free(body);
    return status;
}

static void
sha256_hex(const X509 *cert, char out[65])
{
    uint8_t octets[32];

    assert_int_equal(certs_cert_sha256(cert, octets), HSM_OK);
    for (size_t i = 0; i < sizeof(octets); i++)
        snprintf(out + 2 * i, 3, "%02x", octets[i]);
}

static void
remote_callers_are_known_by_token_or_certificate(void **state)
{
    const struct acme_http_client_config plain = {.tls_ca = world.eco.tls_ca};
    const struct acme_http_client_config with = {
        .tls_ca = world.eco.tls_ca, .client_key = world.client_key, .client_chain = world.client};
    char fingerprint[65];
    char *subject = certs_cert_subject(certs_chain_get(world.client, 0));
    char text[1024];

    (void)state;
    sha256_hex(certs_chain_get(world.client, 0), fingerprint);
    snprintf(text, sizeof(text),
             "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
             "[caller by-token]\nbearer-sha256 = " OTHER_SHA256 " " TOKEN_SHA256
             "\ncustomers = acme\n"
             "[caller by-fingerprint]\ncertificate = %s\ncustomers = acme\n",
             fingerprint);
    signing_begin(text);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN), 200);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN "0"), 401);
    assert_int_equal(tls_status(&plain, NULL), 401);
    assert_int_equal(tls_status(&with, NULL), 200);
    signing_finish(NULL);
    snprintf(text, sizeof(text),
             "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
             "[caller by-subject]\nsubject = %s\ncustomers = acme\n",
             subject);
    signing_begin(text);
    assert_int_equal(tls_status(&with, NULL), 200);
    assert_int_equal(tls_status(&plain, "Bearer " TOKEN), 401);
    free(subject);
}

/* ---- what a caller may use ---- */

static long
get(const char *path)
{
    call(&sks.local.caller, "GET", path, NULL, NULL, &called);
    return called.status;
}

#define ONE_CUSTOMER "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = any\n"
#define NOT_SERVED   "not_served" /* of an SPC without a credential */

static void
post_verification(void)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};

    call(&sks.local.caller, "POST", "/stir/v1/verification", headers,
         "{\"verificationRequest\":{\"from\":{\"tn\":\"12155551212\"},\"to\":{\"tn\":"
         "[\"12155551213\"]},\"time\":1,\"identity\":\"no.passport.here\"}}",
         &called);
}

static void
without_use_a_caller_signs_and_verifies_but_reads_no_metrics(void **state)
{
    (void)state;
    begin_with(ONE_CUSTOMER "[customer ghost]\nspc = 999Z\nattest = A\nnumbers = 1\n"
                            "[caller pbx]\nuid = %ld\ncustomers = acme\n",
               (long)getuid());
    post(SHAKEN);
    free(signed_identity("identity"));
    post_verification();
    assert_int_equal(called.status, 200);
    assert_int_equal(get("/metrics"), 403);
    assert_atis_error(403, "POL4030", "/metrics");
    assert_int_equal(get("/readyz"), 200);
    assert_null(strstr(called.body, NOT_SERVED));
}

static void
a_caller_for_metrics_neither_signs_nor_verifies(void **state)
{
    (void)state;
    begin_with(ONE_CUSTOMER "[customer ghost]\nspc = 999Z\nattest = A\nnumbers = 1\n"
                            "[caller prometheus]\nuid = %ld\nuse = metrics\n",
               (long)getuid());
    assert_int_equal(get("/metrics"), 200);
    assert_int_equal(get("/readyz"), 200);
    assert_non_null(strstr(called.body, NOT_SERVED));
    post(SHAKEN);
    assert_atis_error(403, "POL4030", SIGNING);
    post_verification();
    assert_atis_error(403, "POL4030", "/stir/v1/verification");
}

/* Verification has a rate of its own: the calls that are signed do not count against it. */
static void
verification_has_its_own_rate(void **state)
{
    char header[512];
    int good = 0;

    (void)state;
    begin_with(ONE_CUSTOMER "[caller pbx]\nuid = %ld\ncustomers = acme\n"
                            "verification-rate = 1\nverification-burst = 3\n",
               (long)getuid());
    for (int i = 0; i < 10; i++) {
        post(SHAKEN);
        free(signed_identity("identity"));
    }
    for (int i = 0; i < 100 && called.status != 429; i++) {
        post_verification();
        good += called.status == 200;
    }
    assert_in_range(good, 3, 99);
    assert_atis_error(429, "POL4290", "of this caller");
    assert_string_equal(called_header(&called, "Retry-After", header), "1");
    post(SHAKEN);
    free(signed_identity("identity"));
}

/* ---- the file of callers ---- */

static void
a_file_of_callers_that_says_too_little_or_nonsense_is_refused(void **state)
{
#define CUSTOMER "[customer a]\nspc = 1234\nattest = A\nnumbers = any\n"
    static const char *const bad[] = {
        "",
        CUSTOMER, /* no caller */
        CUSTOMER "[caller p]\ncustomers = a\n", /* no authentication of the caller */
        CUSTOMER "[caller p]\nuid = 1\n",
        CUSTOMER "[caller p]\nuid = 1\nuse = verification signing\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nuse = everything\n",
        CUSTOMER "burst = 5\n[caller p]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nburst = 5\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nrate = 9\nverification-burst = 5\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = b\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a a\n",
        CUSTOMER "[caller p]\nuid = -2\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncolour = red\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 1234\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nnational-prefix = 0\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\nnational-digits = 9\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\nnational-prefix = +\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\nnational-digits = 15\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\ncountry-code = 33\n"
                 "international-prefix = 000000\n",
        CUSTOMER "[caller p]\nbearer-sha256 = " TOKEN "\ncustomers = a\n",
        CUSTOMER "[caller p]\nbearer-sha256 = " TOKEN_SHA256 "0\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n[caller q]\nuid = 2\ncustomers = a\n"
                 "[caller p]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n[caller q]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[caller p]\nname = DNS:a\ncustomers = a\n"
                 "[caller q]\nname = DNS:a\ncustomers = a\n",
        CUSTOMER "[caller p]\nsubject = CN=a\ncustomers = a\n"
                 "[caller q]\nsubject = CN=a\ncustomers = a\n",
        CUSTOMER "[caller p]\nbearer-sha256 = " TOKEN_SHA256 "\ncustomers = a\n"
                 "[caller q]\nbearer-sha256 = " TOKEN_SHA256 "\ncustomers = a\n",
        CUSTOMER "[caller p]\ncertificate = " TOKEN_SHA256 "\ncustomers = a\n"
                 "[caller q]\nuid = 1\ncertificate = " TOKEN_SHA256 "\ncustomers = a\n",
        CUSTOMER "[caller]\nuid = 1\ncustomers = a\n",
        CUSTOMER "[friend p]\nuid = 1\ncustomers = a\n",
        CUSTOMER CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = D\nnumbers = any\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = x\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 9-1\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 1-10\n[caller p]\nuid = 1\ncustomers = "
        "a\n",
        "[customer a]\nattest = A\nnumbers = any\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\ntypes = msg\n[caller p]\nuid = 1\n"
        "customers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\norigid = x\n[caller p]\nuid = 1\n"
        "customers = a\n",
        CUSTOMER "div-headers = maybe\n[caller p]\nuid = 1\ncustomers = a\n",
        "[customer a]\nspc = 1234\nattest = A\nnumbers = any\nrate = -1\n[caller p]\nuid = 1\n"
        "customers = a\n",
    };
    struct sks_callers *callers = NULL;
    size_t count;

    (void)state;
    eco_must(sks_rates_new(&sks.rates), "rates");
    for (size_t i = 0; i < COUNT(bad); i++)
        if (read_callers(bad[i], &callers) == HSM_OK)
            fail_msg("taken: %s", bad[i]);
    assert_null(callers);
    assert_int_equal(read_callers(CUSTOMER "[caller p]\nuid = 1\ncustomers = a\n", &callers),
                     HSM_OK);
    assert_string_equal(sks_callers_spcs(callers, &count)[0], "1234");
    assert_int_equal(count, 1);
    sks_callers_free(callers);
    sks_rates_free(sks.rates);
    sks.rates = NULL;
}

static void
numbers_are_single_ranges_or_prefixes(void **state)
{
    static const char text[] =
        "[customer a]\nspc = 1234\nattest = A\nnumbers = 911 12155551200-12155551299 1303* 999* "
        "98-99 9999999999999*\n"
        "[caller p]\nuid = 1\ncustomers = a\n";
    static const struct {
        const char *number;
        bool is_in;
    } cases[] = {
        {"911", true},
        {"9110", false},
        {"12155551200", true},
        {"12155551299", true},
        {"12155551300", false},
        {"1215555120", false},
        {"1303", true},
        {"13035550100", true},
        {"130", false},
        {"130355501000000", true},
        {"1304", false},
        {"*67", false},
        {"999", true},
        {"9999", true},
        {"9990", true},
        {"999999999999999", true},
        {"999000000000000", true},
        {"998999999999999", false},
        {"98", true},
        {"99", true},
        {"97", false},
        {"9", false},
    };
    struct sks_callers *callers = NULL;
    const struct sks_caller *caller;

    (void)state;
    eco_must(sks_rates_new(&sks.rates), "rates");
    assert_int_equal(read_callers(text, &callers), HSM_OK);
    caller = sks_callers_find(callers, &(struct sks_evidence){.uid = 1});
    assert_non_null(caller);
    assert_null(sks_callers_find(callers, &(struct sks_evidence){.uid = -1}));
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct sks_claims claims = {.orig_tn = cases[i].number};
        const struct sks_customer *customer = NULL;

        if (sks_caller_customer(caller, NULL, &claims, &customer, NULL) !=
            (cases[i].is_in ? HSM_OK : HSM_ERR_DENIED))
            fail_msg("%s", cases[i].number);
    }
    sks_callers_free(callers);
    sks_rates_free(sks.rates);
    sks.rates = NULL;
}

/* The test passes the time; nothing sleeps. */
static void
a_bucket_gives_its_burst_and_fills_at_its_rate(void **state)
{
    const int64_t second = INT64_C(1000000000);
    struct sks_rates *rates = NULL;
    size_t a, b, again;
    unsigned wait_s = 0;

    (void)state;
    assert_int_equal(sks_rates_new(&rates), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "a", &a), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "b", &b), HSM_OK);
    assert_int_equal(sks_rates_bucket(rates, "a", &again), HSM_OK);
    assert_int_equal(a, again);
    assert_int_not_equal(a, b);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sks_rates_take(rates, a, 10, 5, second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second, &wait_s), HSM_ERR_BUSY);
    assert_int_equal(wait_s, 1);
    assert_int_equal(sks_rates_take(rates, b, 10, 5, second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second + second / 10, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, second + second / 10, &wait_s), HSM_ERR_BUSY);
    for (int i = 0; i < 5; i++) /* full again, but not beyond the burst */
        assert_int_equal(sks_rates_take(rates, a, 10, 5, 100 * second, &wait_s), HSM_OK);
    assert_int_equal(sks_rates_take(rates, a, 10, 5, 100 * second, &wait_s), HSM_ERR_BUSY);
    sks_rates_free(rates);
}

#define TEST(test) cmocka_unit_test_teardown(test, signing_finish)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_not_in_the_file_is_not_authenticated),
        TEST(calls_beyond_the_rate_are_told_when_to_come_back),
        TEST(a_customer_over_its_rate_does_not_use_up_the_callers),
        TEST(a_caller_over_its_rate_does_not_use_up_the_customers),
        TEST(remote_callers_are_known_by_token_or_certificate),
        TEST(without_use_a_caller_signs_and_verifies_but_reads_no_metrics),
        TEST(a_caller_for_metrics_neither_signs_nor_verifies),
        TEST(verification_has_its_own_rate),
        TEST(a_file_of_callers_that_says_too_little_or_nonsense_is_refused),
        TEST(numbers_are_single_ranges_or_prefixes),
        TEST(a_bucket_gives_its_burst_and_fills_at_its_rate),
    };

    return cmocka_run_group_tests(tests, signing_group_start, signing_group_stop);
}
