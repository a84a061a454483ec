/* test_sp_verification.c - mirrors sks/src/sp_verification.c: each peer has its own TLS anchors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sks/sp_verification.h>

#include "ecosystem.h"

static struct {
    struct ecosystem eco;
    struct eco_server server; /* an STI-PA or an STI-CR */
    char *pem;
    char url[128]; /* for list, CRL and chain */
    char pa_anchors[4096], other_ca[4096];
    atomic_uint requests;
} world;

static void
serve(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    (void)context;
    (void)request;
    world.requests++;
    acme_http_respond(response, 200, "application/pem-certificate-chain", world.pem,
                      strlen(world.pem));
}

static int
set_up(void **state)
{
    struct ecosystem *eco = &world.eco;
    struct hsm_key *key;
    struct certs_chain *other;

    (void)state;
    eco_start(eco);
    eco_must(certs_chain_pem(eco->sp, &world.pem), "chain");
    key = eco_key(eco, "other-tls-root");
    other = eco_root(eco, CERTS_PROFILE_TLS_ROOT, "Other TLS", key);
    snprintf(world.pa_anchors, sizeof(world.pa_anchors), "%s/pa.pem", softhsm_dir());
    snprintf(world.other_ca, sizeof(world.other_ca), "%s/other.pem", softhsm_dir());
    eco_must(certs_chain_write(eco->pa_anchors, world.pa_anchors), "STI-PA anchors");
    eco_must(certs_chain_write(other, world.other_ca), "other anchors");
    certs_chain_free(other);
    hsm_key_free(key);
    eco_server_start(&world.server, eco, (struct acme_http_handler){.handle = serve});
    snprintf(world.url, sizeof(world.url), "%s/c.pem", world.server.base);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    eco_server_stop(&world.server);
    free(world.pem);
    eco_stop(&world.eco);
    return 0;
}

/* Open with these TLS anchors; NULL: the system's. */
static void
open_with(char *peers_ca, char *repositories_ca, struct sks_sp_verification *out)
{
    const struct sks_sp_config config = {.pa_anchors = world.pa_anchors,
                                         .ca_list_url = world.url,
                                         .crl_url = world.url,
                                         .tls_ca = peers_ca,
                                         .x5u_tls_ca = repositories_ca,
                                         .port_list = {world.server.port, 0},
                                         .private_addresses = true};

    world.requests = 0;
    eco_must(sks_sp_verification_open(&config, out), "verification");
}

static enum hsm_status
get_chain(const struct sks_sp_verification *with, struct hsm_reason *why)
{
    struct certs_chain *chain = NULL;
    enum hsm_status st = sks_x5u_get(with->x5u, world.url, world.eco.now, &chain, why);

    certs_chain_free(chain);
    return st;
}

static void
anchors_of_repositories_are_none_of_the_sti_pa(void **state)
{
    struct sks_sp_verification with;
    struct hsm_reason why = {""};

    (void)state;
    open_with(world.other_ca, world.eco.tls_ca, &with);
    assert_int_equal(get_chain(&with, &why), HSM_OK);
    assert_int_equal(world.requests, 1);
    assert_int_equal(sks_trust_refresh(with.trust, world.eco.now), HSM_ERR_BUSY); /* no request */
    assert_int_equal(world.requests, 1);
    sks_sp_verification_close(&with);
}

static void
anchors_of_the_sti_pa_are_none_of_repositories(void **state)
{
    char *const anchors[] = {NULL, world.other_ca};

    (void)state;
    for (size_t i = 0; i < sizeof(anchors) / sizeof(anchors[0]); i++) {
        struct sks_sp_verification with;
        struct hsm_reason why = {""};

        open_with(world.eco.tls_ca, anchors[i], &with);
        assert_int_equal(get_chain(&with, &why), HSM_ERR_BUSY);
        assert_non_null(strstr(why.text, "TLS not trusted"));
        assert_int_equal(world.requests, 0);
        assert_int_equal(sks_trust_refresh(with.trust, world.eco.now), HSM_ERR_MALFORMED);
        assert_true(world.requests > 0); /* the answer is not a list, but a request was made */
        sks_sp_verification_close(&with);
    }
}

static void
anchors_that_cannot_be_read_are_told_at_the_start(void **state)
{
    char missing[] = "/nonexistent/ca.pem";
    const struct sks_sp_config config = {.pa_anchors = world.pa_anchors,
                                         .ca_list_url = world.url,
                                         .crl_url = world.url,
                                         .x5u_tls_ca = missing};
    struct sks_sp_verification with = {.http = NULL};

    (void)state;
    assert_int_equal(sks_sp_verification_open(&config, &with), HSM_ERR_NOT_FOUND);
    assert_null(with.http);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anchors_of_repositories_are_none_of_the_sti_pa),
        cmocka_unit_test(anchors_of_the_sti_pa_are_none_of_repositories),
        cmocka_unit_test(anchors_that_cannot_be_read_are_told_at_the_start),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
