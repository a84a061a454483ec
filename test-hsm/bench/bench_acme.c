/* bench_acme.c - JWS verification beside the ECDSA verification in it; what counting costs; what
 * issues, over HTTPS. With an argument one part of it: requests, issue. */
#include <stdlib.h>
#include <string.h>

#include <acme/jws.h>
#include <hsm/clock.h>
#include <hsm/es256.h>
#include <hsm/metrics.h>

#include "bench.h"
#include "bench_issue.h"
#include "softhsm.h"

static const char header[] = "{\"alg\":\"ES256\",\"kid\":\"https://ca.example/acme/account/1\","
                             "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAA\","
                             "\"url\":\"https://ca.example/acme/new-order\"}";
static const char payload[] = "{\"identifiers\":[{\"type\":\"TNAuthList\","
                              "\"value\":\"MAigBhYEMTIzNA\"}]}";

struct request {
    struct hsm_key *key;
    char *jws;
    size_t jws_len;
    uint8_t message[400];
    uint8_t sig[HSM_P256_SIG_LEN];
};

static void
parse_and_verify(void *context, size_t times)
{
    struct request *request = context;

    while (times-- > 0) {
        struct acme_jws *jws = NULL;

        bench_check(acme_jws_parse_flattened(request->jws, request->jws_len, &jws, NULL) ==
                            HSM_OK &&
                        acme_jws_verify(jws, hsm_key_public(request->key), NULL) == HSM_OK,
                    "acme_jws_verify");
        acme_jws_free(jws);
    }
}

static void
verify(void *context, size_t times)
{
    struct request *request = context;

    while (times-- > 0)
        bench_check(hsm_es256_verify(hsm_key_public(request->key), request->message,
                                     sizeof(request->message), request->sig,
                                     sizeof(request->sig)) == HSM_OK,
                    "hsm_es256_verify");
}

/* The metrics updated for one signed call: its request and its signature. */
static void
count(void *context, size_t times)
{
    static const struct hsm_metric requests = {"requests_total", "Requests.", HSM_COUNTER,
                                               "route method status", NULL};
    static const struct hsm_metric signatures = {"signatures_total", "Signatures.", HSM_COUNTER,
                                                 "spc key token outcome", NULL};
    static const struct hsm_metric seconds = {"seconds", "Time.", HSM_HISTOGRAM, "route",
                                              hsm_metric_seconds};
    static const char *const request[] = {"/stir/v1/signing", "POST", "200"};
    static const char *const key[] = {"1234", "sp-1234-20260115T120000Z-1eec", "sti-sp", "good"};
    struct hsm_metrics *metrics = context;
    struct hsm_series *signing = hsm_series(metrics, &seconds, &key[0]);
    struct hsm_series *signature = hsm_series(metrics, &signatures, key); /* the signer has both */
    struct hsm_series *of_token = hsm_series(metrics, &seconds, &key[2]);

    while (times-- > 0) {
        int64_t begun = hsm_clock_ns();

        hsm_series_add(hsm_series(metrics, &requests, request), 1);
        hsm_series_observe(hsm_series(metrics, &seconds, request), 0.001);
        hsm_series_add(signature, 1);
        hsm_series_observe(of_token, (double)(hsm_clock_ns() - begun) / 1e9);
        hsm_series_observe(signing, (double)(hsm_clock_ns() - begun) / 1e9);
    }
}

static void
metrics(struct request *request)
{
    struct hsm_metrics *metrics = NULL;

    bench_check(hsm_metrics_new(1, &metrics) == HSM_OK, "hsm_metrics_new");
    bench_share("acme", "time of counting a signed call / of a P-256 verification", 0.02,
                (struct bench_side){count, metrics}, (struct bench_side){verify, request});
    hsm_metrics_free(metrics);
}

static void
requests(void)
{
    struct request request = {0};
    struct hsm_token *token;

    softhsm_start();
    token = softhsm_token("bench");
    bench_check(hsm_key_generate(token, "account", &request.key) == HSM_OK, "hsm_key_generate");
    bench_check(acme_jws_sign_flattened(header, payload, strlen(payload), request.key,
                                        &request.jws) == HSM_OK &&
                    hsm_key_sign(request.key, request.message, sizeof(request.message),
                                 request.sig) == HSM_OK,
                "signing");
    request.jws_len = strlen(request.jws);
    bench_ratio("acme", "ACME request parsed and verified / its P-256 verify", 0.80,
                (struct bench_side){parse_and_verify, &request},
                (struct bench_side){verify, &request});
    metrics(&request);

    free(request.jws);
    hsm_key_free(request.key);
    hsm_token_close(token);
    softhsm_stop();
}

/* bench_acme [PART ...] */
int
main(int argc, char **argv)
{
    if (bench_is_wanted("requests", argc, argv))
        requests();
    if (bench_is_wanted("issue", argc, argv))
        bench_issue();
    if (bench_is_wanted("disk", argc, argv))
        bench_disk();
    return bench_status(argc, argv);
}
