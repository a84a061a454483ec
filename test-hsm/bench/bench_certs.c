/* bench_certs.c - issuing beside the token's signature in it. */
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include <certs/issue.h>

#include "bench.h"
#include "softhsm.h"

struct issuing {
    struct hsm_key *root_key;
    struct hsm_key *leaf_key;
    X509 *root;
    struct certs_issue_request request;
    uint8_t message[600];
};

static void
issue(void *context, size_t times)
{
    struct issuing *issuing = context;

    while (times-- > 0) {
        X509 *cert = NULL;

        bench_check(certs_issue(&issuing->request, issuing->root, issuing->root_key, &cert, NULL) ==
                        HSM_OK,
                    "certs_issue");
        X509_free(cert);
    }
}

static void
sign_verified(void *context, size_t times)
{
    struct issuing *issuing = context;
    uint8_t sig[HSM_P256_SIG_LEN];

    while (times-- > 0)
        bench_check(hsm_key_sign_verified(issuing->root_key, issuing->message,
                                          sizeof(issuing->message), sig) == HSM_OK,
                    "hsm_key_sign_verified");
}

int
main(void)
{
    struct issuing issuing = {0};
    struct certs_tnauthlist *list = NULL;
    struct hsm_token *token;
    struct certs_issue_request root = {.profile = CERTS_PROFILE_STI_ROOT};
    time_t now = time(NULL);

    softhsm_start();
    token = softhsm_token("bench");
    bench_check(hsm_key_generate(token, "root", &issuing.root_key) == HSM_OK &&
                    hsm_key_generate(token, "leaf", &issuing.leaf_key) == HSM_OK,
                "hsm_key_generate");
    bench_check(certs_tnauthlist_from_spc("1234", &list) == HSM_OK, "certs_tnauthlist_from_spc");

    root.subject = (struct certs_subject){
        .country = "US", .organization = "Bench STI-CA", .common_name = "Bench SHAKEN ROOT"};
    root.public_key = hsm_key_public(issuing.root_key);
    root.not_before = now - 300;
    root.not_after = now + 86400 * 365;
    bench_check(certs_serial_new(token, root.serial, &root.serial_len) == HSM_OK &&
                    certs_issue(&root, NULL, issuing.root_key, &issuing.root, NULL) == HSM_OK,
                "the root");

    issuing.request = root;
    issuing.request.profile = CERTS_PROFILE_STI_END_ENTITY;
    issuing.request.subject.organization = "Bench Telecom";
    issuing.request.subject.common_name = "SHAKEN 1234";
    issuing.request.public_key = hsm_key_public(issuing.leaf_key);
    issuing.request.not_after = now + 86400;
    issuing.request.tnauthlist = list;
    issuing.request.policy_oid = CERTS_POLICY_CP_1_4;
    issuing.request.crl_url = "https://pa.example/download/v1/crl";
    issuing.request.crl_issuer = certs_cert_subject_name(issuing.root);
    bench_check(certs_serial_new(token, issuing.request.serial, &issuing.request.serial_len) ==
                    HSM_OK,
                "certs_serial_new");
    bench_ratio("certs", "certs_issue of an end entity / its verified signature", 0.75,
                (struct bench_side){issue, &issuing}, (struct bench_side){sign_verified, &issuing});

    X509_free(issuing.root);
    certs_tnauthlist_free(list);
    hsm_key_free(issuing.leaf_key);
    hsm_key_free(issuing.root_key);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}
