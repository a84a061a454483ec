/* bench_acme.c - JWS verification beside the ECDSA verification in it; what issues, over HTTPS. */
#include <stdlib.h>
#include <string.h>

#include <acme/jws.h>
#include <hsm/es256.h>

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

int
main(void)
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

    free(request.jws);
    hsm_key_free(request.key);
    hsm_token_close(token);
    softhsm_stop();
    bench_issue();
    return 0;
}
