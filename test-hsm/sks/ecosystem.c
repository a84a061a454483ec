/* ecosystem.c - an STI-PA, an STI-CA and a service provider on one token. */
#include "ecosystem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <certs/crl.h>
#include <certs/tnauthlist.h>
#include <hsm/log.h>

void
eco_must(enum hsm_status st, const char *what)
{
    if (st == HSM_OK)
        return;
    fprintf(stderr, "ecosystem: %s: %s\n", what, hsm_status_text(st));
    abort();
}

struct hsm_key *
eco_key(struct ecosystem *eco, const char *label)
{
    struct hsm_key *key = NULL;

    eco_must(hsm_key_generate(eco->token, label, &key), label);
    return key;
}

X509 *
eco_issue(struct ecosystem *eco, struct certs_issue_request request, EVP_PKEY *public_key,
          const struct certs_chain *issuer, struct hsm_key *issuer_key)
{
    struct hsm_reason why = {""};
    X509 *cert = NULL;
    const char *profile = certs_profile_text(request.profile);

    request.public_key = public_key;
    request.subject.country = "US";
    request.subject.organization = "Test";
    if (request.not_after == 0) {
        request.not_before = eco->now - 3600;
        request.not_after = eco->now + 365 * ECO_DAY;
    }
    eco_must(certs_serial_new(eco->token, request.serial, &request.serial_len), profile);
    if (certs_issue(&request, issuer == NULL ? NULL : certs_chain_get(issuer, 0), issuer_key, &cert,
                    &why) != HSM_OK) {
        fprintf(stderr, "ecosystem: %s: %s\n", profile, why.text);
        abort();
    }
    return cert;
}

struct certs_chain *
eco_chain(X509 *cert)
{
    struct certs_chain *chain = NULL;

    eco_must(certs_chain_new(&chain), "chain");
    eco_must(certs_chain_add(chain, cert), "chain");
    X509_free(cert);
    return chain;
}

struct certs_chain *
eco_sp_chain(struct ecosystem *eco, const char *spc, EVP_PKEY *public_key, time_t not_before,
             time_t not_after)
{
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain;
    char name[128];

    snprintf(name, sizeof(name), "SHAKEN %s", spc);
    eco_must(certs_tnauthlist_from_spc(spc, &list), spc);
    chain = eco_chain(
        eco_issue(eco,
                  (struct certs_issue_request){
                      .profile = CERTS_PROFILE_STI_END_ENTITY,
                      .subject = {.common_name = name},
                      .tnauthlist = list,
                      .policy_oid = CERTS_POLICY_CP_1_4,
                      .crl_url = ECO_CRL_URL,
                      .crl_issuer = certs_cert_subject_name(certs_chain_get(eco->crl_signer, 0)),
                      .not_before = not_before,
                      .not_after = not_after,
                  },
                  public_key, eco->ca, eco->ca_key));
    eco_must(certs_chain_append(chain, eco->ca), spc);
    certs_tnauthlist_free(list);
    return chain;
}

struct certs_chain *
eco_root(struct ecosystem *eco, enum certs_profile profile, const char *name, struct hsm_key *key)
{
    return eco_chain(eco_issue(
        eco, (struct certs_issue_request){.profile = profile, .subject = {.common_name = name}},
        hsm_key_public(key), NULL, key));
}

void
eco_pa_new(struct ecosystem *eco)
{
    eco->pa_key = eco_key(eco, "pa-root");
    eco->pa_signer_key = eco_key(eco, "pa-signer");
    eco->crl_key = eco_key(eco, "pa-crl");
    eco->pa_anchors = eco_root(eco, CERTS_PROFILE_PA_ROOT, "Test STI-PA ROOT", eco->pa_key);
    eco->pa_signer = eco_chain(
        eco_issue(eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_PA_SIGNER,
                                               .subject = {.common_name = "Test STI-PA signer"}},
                  hsm_key_public(eco->pa_signer_key), eco->pa_anchors, eco->pa_key));
    eco->crl_signer = eco_chain(
        eco_issue(eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_PA_CRL_SIGNER,
                                               .subject = {.common_name = "Test STI-PA CRL"}},
                  hsm_key_public(eco->crl_key), eco->pa_anchors, eco->pa_key));
}

void
eco_ca_new(struct ecosystem *eco)
{
    eco->root_key = eco_key(eco, "root");
    eco->ca_key = eco_key(eco, "ca");
    eco->roots = eco_root(eco, CERTS_PROFILE_STI_ROOT, "Test SHAKEN ROOT", eco->root_key);
    eco->ca = eco_chain(
        eco_issue(eco,
                  (struct certs_issue_request){
                      .profile = CERTS_PROFILE_STI_INTERMEDIATE,
                      .subject = {.common_name = "Test SHAKEN Intermediate"},
                      .policy_oid = CERTS_POLICY_CP_1_4,
                      .crl_url = ECO_CRL_URL,
                      .crl_issuer = certs_cert_subject_name(certs_chain_get(eco->crl_signer, 0)),
                  },
                  hsm_key_public(eco->ca_key), eco->roots, eco->root_key));
}

void
eco_tls_new(struct ecosystem *eco)
{
    static const char *const names[] = {"localhost", NULL};
    static const char *const addresses[] = {"127.0.0.1", NULL};

    eco->tls_root_key = eco_key(eco, "tls-root");
    eco->tls_key = eco_key(eco, "tls-server");
    eco->tls_anchors = eco_root(eco, CERTS_PROFILE_TLS_ROOT, "Test TLS", eco->tls_root_key);
    eco->tls =
        eco_chain(eco_issue(eco,
                            (struct certs_issue_request){.profile = CERTS_PROFILE_TLS_SERVER,
                                                         .subject = {.common_name = "localhost"},
                                                         .dns_names = names,
                                                         .ip_addresses = addresses},
                            hsm_key_public(eco->tls_key), eco->tls_anchors, eco->tls_root_key));
    snprintf(eco->tls_ca, sizeof(eco->tls_ca), "%s/tls-root.pem", softhsm_dir());
    eco_must(certs_chain_write(eco->tls_anchors, eco->tls_ca), "TLS root");
    eco_must(
        acme_http_client_new(&(struct acme_http_client_config){.tls_ca = eco->tls_ca}, &eco->http),
        "HTTP client");
}

void
eco_start(struct ecosystem *eco)
{
    hsm_log_open(&(struct hsm_log_config){.program = "test", .level = HSM_LOG_WARNING});
    memset(eco, 0, sizeof(*eco));
    eco->now = time(NULL);
    softhsm_start();
    eco->token = softhsm_token("all");
    eco_pa_new(eco);
    eco_ca_new(eco);
    eco->sp_key = eco_key(eco, "sp");
    eco->sp = eco_sp_chain(eco, ECO_SPC, hsm_key_public(eco->sp_key), 0, 0);
    eco_tls_new(eco);
}

void
eco_stop(struct ecosystem *eco)
{
    struct hsm_key *const keys[] = {eco->root_key,      eco->ca_key,  eco->sp_key,
                                    eco->pa_key,        eco->crl_key, eco->tls_root_key,
                                    eco->pa_signer_key, eco->tls_key};
    struct certs_chain *const chains[] = {eco->roots,      eco->ca,         eco->sp,
                                          eco->pa_anchors, eco->pa_signer,  eco->crl_signer,
                                          eco->tls,        eco->tls_anchors};

    acme_http_client_free(eco->http);
    for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++)
        certs_chain_free(chains[i]);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        hsm_key_free(keys[i]);
    hsm_token_close(eco->token);
    softhsm_stop();
}

char *
eco_identity(struct ecosystem *eco, const char *ppt, const char *x5u, const char *orig,
             const char *claims)
{
    const size_t size = 2 * (1024 + strlen(x5u) + strlen(claims));
    char *json = malloc(size);
    char *text = malloc(size);
    uint8_t sig[HSM_P256_SIG_LEN];
    char *part;
    size_t len;

    if (json == NULL || text == NULL)
        abort();
    snprintf(json, size, "{\"alg\":\"ES256\",\"ppt\":\"%s\",\"typ\":\"passport\",\"x5u\":\"%s\"}",
             ppt, x5u);
    part = acme_base64url_encode(json, strlen(json));
    len = (size_t)snprintf(text, size, "%s.", part);
    free(part);
    snprintf(json, size,
             "{\"dest\":{\"tn\":[\"12155551213\"]},\"iat\":%lld,\"orig\":{\"tn\":\"%s\"}%s}",
             (long long)eco->now, orig, claims);
    part = acme_base64url_encode(json, strlen(json));
    len += (size_t)snprintf(text + len, size - len, "%s", part);
    free(part);
    eco_must(hsm_key_sign(eco->sp_key, text, len, sig), "sign");
    part = acme_base64url_encode(sig, sizeof(sig));
    snprintf(text + len, size - len, ".%s;info=<%s>;alg=ES256;ppt=%s", part, x5u, ppt);
    free(part);
    free(json);
    return text;
}

uint8_t *
eco_crl(struct ecosystem *eco, uint64_t number, time_t this_update, int days, const char *url,
        const char *signer_url, const X509 *revoked, size_t *len)
{
    struct certs_crl_entry entry = {.revoked_at = this_update, .reason = 1};
    struct certs_crl_request request = {
        .number = number,
        .this_update = this_update,
        .next_update = this_update + days * ECO_DAY,
        .url = url,
        .signer_cert_url = signer_url,
        .entries = &entry,
        .count = revoked == NULL ? 0 : 1,
    };
    uint8_t *der = NULL;

    if (revoked != NULL) {
        entry.issuer = certs_cert_subject_name(certs_chain_get(eco->ca, 0));
        entry.serial_len = certs_cert_serial(revoked, entry.serial);
    }
    eco_must(certs_crl_new(&request, certs_chain_get(eco->crl_signer, 0), eco->crl_key, &der, len),
             "CRL");
    return der;
}

void *
eco_server_run(void *loop)
{
    eco_must(acme_http_loop_run(loop), "server");
    return NULL;
}

void
eco_server_start(struct eco_server *server, struct ecosystem *eco, struct acme_http_handler handler)
{
    const struct acme_http_server_config config = {
        .address = "127.0.0.1:0",
        .tls_key = eco->tls_key,
        .tls_chain = eco->tls,
        .handler = handler,
    };

    eco_must(acme_http_loop_new(8, &server->loop), "server");
    eco_must(acme_http_loop_listen(server->loop, &config), "server");
    server->port = acme_http_loop_port(server->loop, 0);
    snprintf(server->base, sizeof(server->base), "https://127.0.0.1:%u", server->port);
    if (pthread_create(&server->thread, NULL, eco_server_run, server->loop) != 0)
        abort();
}

void
eco_server_stop(struct eco_server *server)
{
    acme_http_loop_stop(server->loop);
    pthread_join(server->thread, NULL);
    acme_http_loop_free(server->loop);
}
