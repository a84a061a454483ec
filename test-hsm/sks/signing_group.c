/* signing_group.c - the service that the tests of signing call. */
#define _GNU_SOURCE /* asprintf */
#include "signing_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/passport.h>

#include "fault_client.h"
#include "one_token.h"

#define JSON_TYPE "Content-Type: application/json"

struct signing_world world;

struct signing_run sks;

struct called called;

/* ---- the environment ---- */

/* Only the chain of the first provider can be fetched. */
static enum hsm_status
fetch(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)context;
    (void)now;
    if (strcmp(x5u, X5U) == 0)
        return certs_chain_copy(world.eco.sp, out);
    return hsm_refuse(why, HSM_ERR_BUSY, "%s is not there", x5u);
}

/* The first chain requested has to be fetched, and arrives at once. */
static enum hsm_status
ask(void *context, const char *x5u, time_t now, const struct sks_call *call,
    struct certs_chain **out, struct hsm_reason *why)
{
    if (world.asked++ > 0)
        return fetch(context, x5u, now, out, why);
    call->wait->landed(call->wait->context);
    return HSM_ERR_NOT_FOUND;
}

void
make_verifier(const struct sks_trust_config *trust)
{
    struct sks_verifier_config config = {.chain = fetch, .ask = ask};

    if (trust != NULL)
        eco_must(sks_trust_new(trust, &world.trust), "trust");
    else
        eco_must(sks_trust_fixed(world.eco.roots, NULL, 0, NULL, NULL, &world.trust), "trust");
    config.trust = world.trust;
    eco_must(sks_verifier_new(&config, &world.verifier), "verifier");
}

void
free_verifier(void)
{
    sks_verifier_free(world.verifier);
    sks_trust_free(world.trust);
}

void
activate(const char *token_uri, const char *key_uri, const struct certs_chain *chain,
         const char *spc, const char *x5u)
{
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)spc,
        .token_uri = (char *)(uintptr_t)token_uri,
        .key_uri = (char *)(uintptr_t)key_uri,
        .x5u = (char *)(uintptr_t)x5u,
        .not_after = certs_chain_not_after(chain),
    };

    eco_must(certs_chain_pem(chain, &pem), "chain");
    credential.chain_pem = pem;
    eco_must(sks_catalogue_put(world.catalogue, &credential), spc);
    eco_must(sks_catalogue_activate(world.catalogue, credential.id), spc);
    free(pem);
}

int
signing_group_start(void **state)
{
    struct ecosystem *eco = &world.eco;
    char path[192];

    (void)state;
    fault_open();
    eco_start(eco);
    world.key_2 = eco_key(eco, "sp-2");
    world.chain_2 = eco_sp_chain(eco, SPC_2, hsm_key_public(world.key_2), 0, 0);
    world.client_key = eco_key(eco, "tls-client");
    world.client =
        eco_chain(eco_issue(eco,
                            (struct certs_issue_request){.profile = CERTS_PROFILE_TLS_CLIENT,
                                                         .subject = {.common_name = "caller"}},
                            hsm_key_public(world.client_key), eco->tls_anchors, eco->tls_root_key));
    make_verifier(NULL);
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    snprintf(world.trail, sizeof(world.trail), "%s/trail", softhsm_dir());
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    eco_must(hsm_metrics_new(1, &world.metrics), "metrics");
    activate(ALL, "pkcs11:object=sp", eco->sp, ECO_SPC, X5U);
    activate(ALL, "pkcs11:object=sp-2", world.chain_2, SPC_2, X5U_2);
    return 0;
}

int
signing_group_stop(void **state)
{
    (void)state;
    hsm_metrics_free(world.metrics);
    sks_catalogue_close(world.catalogue);
    free_verifier();
    certs_chain_free(world.client);
    hsm_key_free(world.client_key);
    certs_chain_free(world.chain_2);
    hsm_key_free(world.key_2);
    eco_stop(&world.eco);
    return 0;
}

/* ---- services ---- */

enum hsm_status
read_callers(const char *text, struct sks_callers **out)
{
    char path[192];
    FILE *to;
    enum hsm_status st;

    snprintf(path, sizeof(path), "%s/callers.conf", softhsm_dir());
    to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
    st = sks_callers_read(path, sks.rates, out);
    unlink(path);
    return st;
}

void
signing_begin(const char *callers)
{
    static const struct sks_dial_plan nanp = {"1", "1", "011", 10};
    struct sks_service_config config = {
        .catalogue = world.catalogue,
        .tokens = sks.tokens,
        .spc = ECO_SPC,
        .verifier = world.verifier,
        .trust = world.trust,
        .dial_plan = &nanp,
        .metrics = world.metrics,
    };

    eco_must(sks_rates_new(&sks.rates), "rates");
    if (sks.tokens == NULL)
        config.tokens = sks.tokens = one_token(ALL, NULL);
    if (callers != NULL)
        assert_int_equal(read_callers(callers, &sks.callers), HSM_OK);
    eco_must(sks_trail_open(world.trail, &sks.trail), "trail");
    config.callers = sks.callers;
    config.trail = sks.trail;
    eco_must(sks_service_new(&config, &sks.service), "service");
    unix_server_start(&sks.local, softhsm_dir(), sks_service_handler(sks.service));
}

int
signing_finish(void **state)
{
    (void)state;
    fault("swap off\nreset");
    if (sks.service == NULL)
        return 0;
    unix_server_stop(&sks.local);
    sks_service_free(sks.service);
    sks_trail_close(sks.trail);
    sks_callers_free(sks.callers);
    sks_rates_free(sks.rates);
    sks_tokens_close(sks.tokens);
    memset(&sks, 0, sizeof(sks));
    unlink(world.trail);
    return 0;
}

/* ---- calls ---- */

void
post_at(time_t iat, const char *members)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    char *body = NULL;

    assert_true(asprintf(&body, "{\"signingRequest\":{\"iat\":%lld,%s}}", (long long)iat, members) >
                0);
    call(&sks.local.caller, "POST", SIGNING, headers, body, &called);
    free(body);
}

void
post(const char *members)
{
    post_at(time(NULL), members);
}

char *
signed_identity(const char *member)
{
    json_t *json = called_json(&called);
    json_t *response = json_object_get(json, "signingResponse");
    const char *identity = json_string_value(json_object_get(response, member));
    char *copy;

    if (called.status != 200 || identity == NULL)
        fail_msg("%ld %s", called.status, called.body);
    copy = strdup(identity);
    json_decref(json);
    return copy;
}

json_t *
signed_payload(const char *member)
{
    char *identity = signed_identity(member);
    json_t *header = NULL;
    json_t *payload = NULL;

    *strchr(identity, ';') = '\0';
    assert_int_equal(sks_passport_decode(identity, &header, &payload, NULL), HSM_OK);
    json_decref(header);
    free(identity);
    return payload;
}

void
assert_3gpp_error(long status, const char *text)
{
    json_t *json = called_json(&called);
    const char *error = json_string_value(json_object_get(json, "error"));

    if (called.status != status || error == NULL || strstr(error, text) == NULL ||
        json_object_size(json) != 1)
        fail_msg("%ld %s, wanted %ld %s", called.status, called.body, status, text);
    json_decref(json);
}

void
assert_atis_error(long status, const char *id, const char *variable)
{
    if (called.status != status || strstr(called.body, id) == NULL ||
        strstr(called.body, "requestError") == NULL || strstr(called.body, variable) == NULL)
        fail_msg("%ld %s, wanted %ld %s %s", called.status, called.body, status, id, variable);
}

/* ---- callers ---- */

const char two_customers[] = "[customer acme]\n"
                             "spc = " ECO_SPC "\n"
                             "attest = A B\n"
                             "numbers = 12155551200-12155551299\n"
                             "types = shaken div rph\n"
                             "rph = ets\n"
                             "origid = " ORIGID "\n"
                             "[customer bell]\n"
                             "spc = " SPC_2 "\n"
                             "attest = C\n"
                             "numbers = any\n"
                             "types = shaken div\n"
                             "div-headers = yes\n"
                             "[caller pbx]\n"
                             "uid = %ld\n"
                             "country-code = 1\n"
                             "use = signing verification metrics\n"
                             "customers = acme bell\n";

void
begin_with(const char *callers, long uid)
{
    char text[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the texts above */
    snprintf(text, sizeof(text), callers, uid);
#pragma GCC diagnostic pop
    signing_begin(text);
}

char *
moved(const char *identity)
{
    char *text = NULL;

    assert_true(asprintf(&text, "%.*s;info=<" X5U_2 ">", (int)strcspn(identity, ";"), identity) >
                0);
    return text;
}
