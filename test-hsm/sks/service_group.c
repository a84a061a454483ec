/* service_group.c - the service that its tests call. */
#define _GNU_SOURCE /* asprintf */
#include "service_group.h"

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

#include "data.h"
#include "one_token.h"

#define TOKEN_URI "pkcs11:token=all"

struct service_world world;

struct service_run sks;

struct called called;

/* ---- the environment ---- */

static time_t
vector_now(void)
{
    return world.now;
}

static enum hsm_status
serve_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    struct certs_chain *copy = NULL;

    (void)context;
    (void)x5u;
    (void)now;
    (void)why;
    atomic_fetch_add(&world.fetching, 1);
    while (atomic_load(&world.repository_is_silent))
        usleep(1000);
    atomic_fetch_sub(&world.fetching, 1);
    assert_int_equal(certs_chain_new(&copy), HSM_OK);
    assert_int_equal(certs_chain_append(copy, world.served), HSM_OK);
    *out = copy;
    return HSM_OK;
}

/* Our roots and those of the vectors; no CRL is checked. */
static void
make_verifier(void)
{
    struct certs_chain *roots = NULL;

    eco_must(certs_chain_read(data_path("self/sti-ca-root.cert.pem"), &roots), "roots");
    eco_must(certs_chain_append(roots, world.eco.roots), "roots");
    eco_must(sks_trust_fixed(roots, NULL, 0, NULL, world.eco.pa_anchors, &world.trust), "trust");
    eco_must(
        sks_verifier_new(&(struct sks_verifier_config){.trust = world.trust, .chain = serve_chain},
                         &world.verifier),
        "verifier");
    certs_chain_free(roots);
}

static void
make_client(const char *label)
{
    world.client_key = eco_key(&world.eco, label);
    world.client = eco_chain(
        eco_issue(&world.eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_TLS_CLIENT,
                                               .subject = {.common_name = "caller"}},
                  hsm_key_public(world.client_key), world.eco.tls_anchors, world.eco.tls_root_key));
}

int
service_group_start(void **state)
{
    struct ecosystem *eco = &world.eco;

    (void)state;
    world.now = NOW;
    eco->now = NOW;
    softhsm_start();
    eco->token = softhsm_token("all");
    eco_pa_new(eco);
    eco_ca_new(eco);
    eco->sp_key = eco_key(eco, "sp");
    eco->sp = eco_sp_chain(eco, ECO_SPC, hsm_key_public(eco->sp_key), 0, 0);
    eco->now = time(NULL); /* TLS uses the real time, not that of the vectors */
    eco_tls_new(eco);
    make_client("tls-client");
    make_verifier();
    eco_must(certs_chain_read(data_path("self/sp-1234.chain.pem"), &world.vector_chain), "chain");
    eco_must(hsm_secret_new(BEARER, strlen(BEARER), &world.bearer), "bearer");
    snprintf(world.path, sizeof(world.path), "%s/catalogue.db", softhsm_dir());
    return 0;
}

int
service_group_stop(void **state)
{
    (void)state;
    hsm_secret_free(world.bearer);
    certs_chain_free(world.client);
    hsm_key_free(world.client_key);
    certs_chain_free(world.vector_chain);
    sks_verifier_free(world.verifier);
    sks_trust_free(world.trust);
    eco_stop(&world.eco);
    return 0;
}

int64_t
publish(const char *key_uri, const struct certs_chain *chain, const char *spc, const char *x5u)
{
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)spc,
        .token_uri = (char *)(uintptr_t)TOKEN_URI,
        .key_uri = (char *)(uintptr_t)key_uri,
        .x5u = (char *)(uintptr_t)x5u,
        .not_after = certs_chain_not_after(chain),
    };

    assert_int_equal(certs_chain_pem(chain, &pem), HSM_OK);
    credential.chain_pem = pem;
    assert_int_equal(sks_catalogue_put(sks.catalogue, &credential), HSM_OK);
    free(pem);
    return credential.id;
}

void
activate(const char *key_uri, const struct certs_chain *chain, const char *spc, const char *x5u)
{
    int64_t id = publish(key_uri, chain, spc, x5u);

    assert_int_equal(sks_catalogue_activate(sks.catalogue, id), HSM_OK);
}

enum hsm_status
new_service(const char *spc, struct sks_service **out)
{
    const struct sks_service_config config = {
        .catalogue = sks.catalogue,
        .tokens = sks.tokens,
        .spc = spc,
        .verifier = world.verifier,
        .trust = world.trust,
        .bearer = world.bearer,
        .metrics = sks.metrics,
        .now = vector_now,
    };

    return sks_service_new(&config, out);
}

static void
listen_tls(void)
{
    const struct acme_http_server_config config = {
        .address = "127.0.0.1:0",
        .tls_key = world.eco.tls_key,
        .tls_chain = world.eco.tls,
        .client_anchors = world.eco.tls_anchors,
        .handler = sks_service_handler(sks.service),
    };

    eco_must(acme_http_loop_new(4, &sks.loop), "loop");
    eco_must(acme_http_loop_listen(sks.loop, &config), "listen");
    snprintf(sks.base, sizeof(sks.base), "https://127.0.0.1:%u", acme_http_loop_port(sks.loop, 0));
    sks.tls = (struct caller){.base = sks.base, .tls_ca = world.eco.tls_ca};
    if (pthread_create(&sks.thread, NULL, eco_server_run, sks.loop) != 0)
        abort();
}

int
service_start_without_credential(void **state)
{
    (void)state;
    world.now = NOW;
    world.served = world.eco.sp;
    sks.tokens = one_token(TOKEN_URI, NULL);
    if (hsm_metrics_new(1, &sks.metrics) != HSM_OK ||
        sks_catalogue_open(world.path, &sks.catalogue) != HSM_OK ||
        new_service(ECO_SPC, &sks.service) != HSM_OK)
        return -1;
    unix_server_start(&sks.local, softhsm_dir(), sks_service_handler(sks.service));
    listen_tls();
    return 0;
}

int
service_start(void **state)
{
    if (service_start_without_credential(state) != 0)
        return -1;
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    sks_service_refresh(sks.service);
    return 0;
}

int
service_stop(void **state)
{
    char journal[192];

    (void)state;
    acme_http_loop_stop(sks.loop);
    pthread_join(sks.thread, NULL);
    acme_http_loop_free(sks.loop);
    unix_server_stop(&sks.local);
    sks_service_free(sks.service);
    sks_tokens_close(sks.tokens);
    sks_catalogue_close(sks.catalogue);
    hsm_metrics_free(sks.metrics);
    snprintf(journal, sizeof(journal), "%s-wal", world.path);
    unlink(journal);
    snprintf(journal, sizeof(journal), "%s-shm", world.path);
    unlink(journal);
    return unlink(world.path);
}

/* ---- calls ---- */

void
post(const char *path, const char *body)
{
    static const char *const headers[] = {JSON_TYPE, NULL};

    call(&sks.local.caller, "POST", path, headers, body, &called);
}

char *
signed_identity(void)
{
    json_t *json = called_json(&called);
    const char *identity =
        json_string_value(json_object_get(json_object_get(json, "signingResponse"), "identity"));
    char *copy;

    assert_int_equal(called.status, 200);
    assert_non_null(identity);
    copy = strdup(identity);
    json_decref(json);
    return copy;
}

void
verify_identity(const char *identity)
{
    char *body = NULL;

    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{" MEMBER_FROM
                         ",\"identity\":\"%s\"," MEMBER_TIME "," MEMBER_TO "}}",
                         identity) > 0);
    post(VERIFICATION, body);
    free(body);
}

void
assert_verstat(const char *verstat, int reason_code)
{
    json_t *json = called_json(&called);
    json_t *response = json_object_get(json, "verificationResponse");

    assert_int_equal(called.status, 200);
    assert_string_equal(json_string_value(json_object_get(response, "verstat")), verstat);
    assert_int_equal(json_integer_value(json_object_get(response, "reasoncode")), reason_code);
    json_decref(json);
}

void
assert_error(long status, const char *id, const char *variable)
{
    json_t *json = called_json(&called);
    json_t *error = json_object_get(json, "requestError");
    json_t *exception =
        json_object_get(error, strncmp(id, "POL", 3) == 0 ? "policyException" : "serviceException");
    const char *found = json_string_value(json_object_get(exception, "messageId"));
    const char *first =
        json_string_value(json_array_get(json_object_get(exception, "variables"), 0));

    if (called.status != status || found == NULL || strcmp(found, id) != 0)
        fail_msg("%ld %s, wanted %ld %s", called.status, called.body, status, id);
    assert_true(json_is_string(json_object_get(exception, "text")));
    if (variable != NULL && (first == NULL || strcmp(first, variable) != 0))
        fail_msg("%s, wanted %s", called.body, variable);
    assert_int_equal(json_object_size(json), 1);
    assert_null(strstr(called.body, "signingResponse"));
    json_decref(json);
}
