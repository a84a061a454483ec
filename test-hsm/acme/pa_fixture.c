/* pa_fixture.c - an STI-PA's keys and certificates, and an HTTPS server. */
#include "pa_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/x509.h>

#include <acme/provision.h>
#include <certs/issue.h>
#include <hsm/log.h>

#include "softhsm.h"

static void
must(enum hsm_status status, const char *what)
{
    if (status == HSM_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, hsm_status_text(status));
    abort();
}

static void
certify(struct pa_fixture *fixture, const char *label, enum certs_profile profile,
        struct hsm_key **key, struct certs_chain **chain)
{
    char path[4200];
    struct acme_provision_request request = {
        .label = label,
        .certificate = {.profile = profile,
                        .subject = {.country = "US",
                                    .organization = "STI-PA Example",
                                    .common_name = label}},
        .valid_days = 3650,
        .issuer = fixture->root,
        .issuer_key = fixture->root_key,
        .path = path,
    };

    snprintf(path, sizeof(path), "%s/%s.pem", softhsm_dir(), label);
    must(acme_provision_certificate(fixture->token, &request, key, chain), label);
}

static void
certify_all(struct pa_fixture *fixture)
{
    char path[4200];
    struct acme_provision_tls tls = {.dir = softhsm_dir(),
                                     .organization = "STI-PA Example",
                                     .country = "US",
                                     .base_url = "https://127.0.0.1:1"};

    certify(fixture, "pa-root", CERTS_PROFILE_PA_ROOT, &fixture->root_key, &fixture->root);
    certify(fixture, "pa-signer", CERTS_PROFILE_PA_SIGNER, &fixture->signer_key,
            &fixture->signer_chain);
    certify(fixture, "pa-crl", CERTS_PROFILE_PA_CRL_SIGNER, &fixture->crl_key, &fixture->crl_chain);
    must(acme_provision_tls(fixture->token, &tls), "TLS");
    must(hsm_key_find(fixture->token, "pkcs11:object=" ACME_PROVISION_TLS_SERVER_LABEL,
                      &fixture->tls_key),
         "TLS key");
    snprintf(path, sizeof(path), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_CHAIN_FILE);
    must(certs_chain_read(path, &fixture->tls_chain), path);
    snprintf(path, sizeof(path), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_ROOT_FILE);
    must(certs_chain_read(path, &fixture->tls_root), path);
}

static void *
serve(void *loop)
{
    must(acme_http_loop_run(loop), "serve");
    return NULL;
}

void
pa_fixture_start(struct pa_fixture *fixture, struct acme_http_handler handler)
{
    struct acme_http_server_config server = {.address = "127.0.0.1:0", .handler = handler};
    struct acme_http_client_config client = {.tls_ca = NULL};
    char path[4200];

    hsm_log_open(&(struct hsm_log_config){.program = "test", .level = HSM_LOG_ERROR});
    softhsm_start();
    *fixture = (struct pa_fixture){.token = softhsm_token("sti-pa")};
    certify_all(fixture);
    server.tls_key = fixture->tls_key;
    server.tls_chain = fixture->tls_chain;
    server.client_anchors = fixture->tls_root;
    must(acme_http_loop_new(4, &fixture->loop), "loop");
    must(acme_http_loop_listen(fixture->loop, &server), "listen");
    snprintf(fixture->base_url, sizeof(fixture->base_url), "https://127.0.0.1:%u",
             acme_http_loop_port(fixture->loop, 0));
    snprintf(path, sizeof(path), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_ROOT_FILE);
    client.tls_ca = path;
    must(acme_http_client_new(&client, &fixture->http), "client");
    if (pthread_create(&fixture->thread, NULL, serve, fixture->loop) != 0)
        abort();
}

X509 *
pa_fixture_ca_root(struct pa_fixture *fixture, const char *label, const char *organization)
{
    struct hsm_key *key = NULL;
    X509 *root = NULL;
    struct hsm_reason why = {""};
    struct certs_issue_request request = {
        .profile = CERTS_PROFILE_STI_ROOT,
        .subject = {.country = "US", .organization = organization, .common_name = "SHAKEN ROOT"},
        .not_before = time(NULL) - 60,
        .not_after = time(NULL) + 365 * 86400,
    };

    must(hsm_key_find_or_generate(fixture->token, label, &key), label);
    request.public_key = hsm_key_public(key);
    must(certs_serial_new(fixture->token, request.serial, &request.serial_len), "serial");
    must(certs_issue(&request, NULL, key, &root, &why), why.text);
    hsm_key_free(key);
    return root;
}

void
pa_fixture_stop(struct pa_fixture *fixture)
{
    acme_http_loop_stop(fixture->loop);
    pthread_join(fixture->thread, NULL);
    acme_http_client_free(fixture->http);
    acme_http_loop_free(fixture->loop);
    certs_chain_free(fixture->tls_root);
    certs_chain_free(fixture->tls_chain);
    certs_chain_free(fixture->crl_chain);
    certs_chain_free(fixture->signer_chain);
    certs_chain_free(fixture->root);
    hsm_key_free(fixture->tls_key);
    hsm_key_free(fixture->crl_key);
    hsm_key_free(fixture->signer_key);
    hsm_key_free(fixture->root_key);
    hsm_token_close(fixture->token);
    softhsm_stop();
}
