/* test_service_refresh.c - mirrors sks/src/signing.c: what is loaded again over time, with a clock
 * that the test sets, the shim, and a catalogue that may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <sks/service.h>

#include "caller.h"
#include "ecosystem.h"
#include "one_token.h"

#define SHELF   "pkcs11:token=shelf"
#define SPC_2   "709J"
#define LATER_S 11 /* longer than the interval between loads, or between probes */
#define ROUNDS  3
#define STEPS   500 /* of 10 ms each, to wait for another thread */

static struct {
    struct ecosystem eco;
    struct sks_trust *trust;
    struct sks_catalogue *catalogue;
    struct hsm_token *shelf; /* same slot as the service's token */
    struct sks_tokens *tokens;
    struct sks_rates *rates;
    struct sks_callers *callers;
    struct sks_service *service;
    struct unix_server server;
} world;

static struct called called;
static atomic_long ahead_s; /* offset of the clock that times the attempts */
static atomic_uint failing; /* how many of the next lookups of a credential fail */

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
enum hsm_status __real_sks_catalogue_find(struct sks_catalogue *catalogue, int64_t id,
                                          struct sks_credential *out);
enum hsm_status __wrap_sks_catalogue_find(struct sks_catalogue *catalogue, int64_t id,
                                          struct sks_credential *out);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    int rc = __real_clock_gettime(clock, out);

    if (clock == CLOCK_MONOTONIC_COARSE)
        out->tv_sec += ahead_s;
    return rc;
}

enum hsm_status
__wrap_sks_catalogue_find(struct sks_catalogue *catalogue, int64_t id, struct sks_credential *out)
{
    if (failing == 0)
        return __real_sks_catalogue_find(catalogue, id, out);
    failing--;
    return HSM_ERR_BUSY;
}

static void
refresh_later(void)
{
    ahead_s += LATER_S;
    sks_service_refresh(world.service);
}

/* ---- the environment ---- */

/* Activate a credential with a chain for the key labelled `label`. */
static void
activate(const char *label, const char *spc, const char *key_uri)
{
    struct hsm_key *key = NULL;
    struct certs_chain *chain;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)spc,
        .token_uri = (char[]){SHELF},
        .key_uri = (char *)(uintptr_t)key_uri,
    };
    static unsigned number;
    char x5u[64];

    snprintf(x5u, sizeof(x5u), "https://cr.sp.example/certs/%u.pem", number++);
    credential.x5u = x5u;
    eco_must(hsm_key_find_or_generate(world.shelf, label, &key), label);
    chain = eco_sp_chain(&world.eco, spc, hsm_key_public(key), 0, 0);
    credential.not_after = certs_chain_not_after(chain);
    eco_must(certs_chain_pem(chain, &credential.chain_pem), "chain");
    eco_must(sks_catalogue_put(world.catalogue, &credential), spc);
    eco_must(sks_catalogue_activate(world.catalogue, credential.id), spc);
    free(credential.chain_pem);
    certs_chain_free(chain);
    hsm_key_free(key);
}

static void
open_shelf(void)
{
    const struct acme_token_settings settings = {.probe_ms = 20}; /* retry a refused key soon */

    hsm_token_close(softhsm_token("shelf"));
    world.tokens = one_token(SHELF, &settings);
    world.shelf = sks_tokens_get(world.tokens, SHELF);
}

static int
make_world(void **state)
{
    char path[192];

    (void)state;
    setenv("STI_SHIM_BEHIND", softhsm_module(), 1);
    setenv("STI_TEST_MODULE", SHIM_MODULE, 1);
    setenv("STI_SHIM", "", 1);
    eco_start(&world.eco);
    eco_must(sks_trust_fixed(world.eco.roots, NULL, 0, NULL, NULL, &world.trust), "trust");
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    open_shelf();
    activate("good", ECO_SPC, "pkcs11:object=good");
    activate("bad", SPC_2, "pkcs11:object=bad");
    return 0;
}

static int
end_world(void **state)
{
    (void)state;
    sks_tokens_close(world.tokens);
    sks_catalogue_close(world.catalogue);
    sks_trust_free(world.trust);
    eco_stop(&world.eco);
    return 0;
}

static void
read_callers(void)
{
    char path[192];
    FILE *to;

    snprintf(path, sizeof(path), "%s/callers.conf", softhsm_dir());
    to = fopen(path, "w");
    assert_non_null(to);
    fprintf(to,
            "[customer one]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\n"
            "[customer two]\nspc = " SPC_2 "\nattest = A\nnumbers = 13035550100\n"
            "[caller pbx]\nuid = %ld\nuse = signing metrics\ncustomers = one two\n",
            (long)getuid());
    fclose(to);
    eco_must(sks_callers_read(path, world.rates, &world.callers), path);
    unlink(path);
}

static int
begin(void **state)
{
    struct sks_service_config config = {
        .catalogue = world.catalogue, .tokens = world.tokens, .trust = world.trust};

    (void)state;
    eco_must(sks_rates_new(&world.rates), "rates");
    read_callers();
    config.callers = world.callers;
    eco_must(sks_service_new(&config, &world.service), "service");
    unix_server_start(&world.server, softhsm_dir(), sks_service_handler(world.service));
    return 0;
}

static int
end(void **state)
{
    (void)state;
    setenv("STI_SHIM", "", 1);
    failing = 0;
    unix_server_stop(&world.server);
    sks_service_free(world.service);
    sks_callers_free(world.callers);
    sks_rates_free(world.rates);
    return 0;
}

/* ---- calls ---- */

/* The status of a call from that number, which selects the provider that signs. */
static long
sign_from(const char *orig)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    char body[512];

    snprintf(body, sizeof(body),
             "{\"signingRequest\":{\"iat\":%lld,\"attest\":\"A\",\"orig\":{\"tn\":\"%s\"},"
             "\"dest\":{\"tn\":[\"12155551213\"]},"
             "\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\"}}",
             (long long)time(NULL), orig);
    call(&world.server.caller, "POST", "/stir/v1/signing", headers, body, &called);
    return called.status;
}

#define FROM_ONE "12155551212"
#define FROM_TWO "13035550100"

static bool
is_served(const char *spc)
{
    char not_served[64];

    snprintf(not_served, sizeof(not_served), "{\"spc\":\"%s\",\"why\":", spc);
    call(&world.server.caller, "GET", "/healthz", NULL, NULL, &called);
    assert_int_equal(called.status, 200);
    return strstr(called.body, not_served) == NULL;
}

static unsigned long long
losses(void)
{
    struct hsm_token_stats stats;

    hsm_token_stats(world.shelf, &stats);
    return stats.losses;
}

/* The wrong signature was detected once, at the expense of all keys of the token. */
static void
a_key_that_signs_wrongly_is_not_believed_again_and_costs_the_others_nothing(void **state)
{
    unsigned long long before;

    (void)state;
    setenv("STI_SHIM", "flip-of=bad", 1); /* the first signature is verified */
    assert_int_equal(sign_from(FROM_TWO), 503);
    assert_int_equal(sign_from(FROM_ONE), 200);
    before = losses();
    assert_true(before > 0);
    for (int i = 0; i < ROUNDS; i++) {
        assert_false(is_served(SPC_2));
        assert_true(is_served(ECO_SPC));
        refresh_later();
        assert_int_equal(sign_from(FROM_ONE), 200);
        if (i % 2 == 1)
            assert_int_equal(sign_from(FROM_TWO), 503);
    }
    /* The catalogue has a new version, so everything is loaded again. */
    activate("good-too", ECO_SPC, "pkcs11:object=good-too");
    sks_service_refresh(world.service);
    assert_int_equal(sign_from(FROM_TWO), 503);
    assert_false(is_served(SPC_2));
    assert_int_equal(losses(), before);
    setenv("STI_SHIM", "", 1);
    for (int i = 0; i < STEPS && !is_served(SPC_2); i++) {
        usleep(10000);
        refresh_later();
    }
    assert_true(is_served(SPC_2));
    assert_int_equal(sign_from(FROM_TWO), 200);
    assert_int_equal(losses(), before);
}

static void
retire(const char *spc)
{
    struct sks_credential *retiring = NULL;
    size_t count = 0;

    eco_must(
        sks_catalogue_list_in(world.catalogue, spc, SKS_RETIRING, SKS_RETIRING, &retiring, &count),
        spc);
    assert_int_equal(count, 1);
    retiring->state = SKS_RETIRED;
    eco_must(sks_catalogue_put(world.catalogue, retiring), spc);
    sks_credentials_free(retiring, count);
}

/* The successor cannot be loaded. The state of the old credential is looked up until that
 * succeeds. */
static void
what_was_given_up_signs_no_more_though_the_catalogue_fails_once(void **state)
{
    (void)state;
    assert_int_equal(sign_from(FROM_TWO), 200);
    activate("bad", SPC_2, "pkcs11:object=lost");
    sks_service_refresh(world.service);
    assert_int_equal(sign_from(FROM_TWO), 200);
    retire(SPC_2);
    failing = 1;
    sks_service_refresh(world.service);
    assert_int_equal(failing, 0);
    refresh_later();
    assert_int_equal(sign_from(FROM_TWO), 503);
    assert_int_equal(sign_from(FROM_ONE), 200);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(a_key_that_signs_wrongly_is_not_believed_again_and_costs_the_others_nothing),
        WITH_SERVICE(what_was_given_up_signs_no_more_though_the_catalogue_fails_once),
    };

    return cmocka_run_group_tests(tests, make_world, end_world);
}
