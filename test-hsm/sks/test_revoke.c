/* test_revoke.c - mirrors sks/src/revoke.c, with an STI-PA and an STI-CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hsm/defer.h>
#include <sks/enroll.h>
#include <sks/revoke.h>
#include <sks/verify.h>

#include "ecosystem.h"
#include "enroll_group.h"
#include "sp_world.h"

static enum hsm_status
fetch_x5u(void *context, const char *x5u, time_t now, struct certs_chain **out,
          struct hsm_reason *why)
{
    (void)now;
    return acme_http_fetch_chain(context, x5u, out, why);
}

/* The verdict on a call by an STI-VS with the current list and CRL. */
static struct sks_verification
judge(const struct place *place, const char *identity)
{
    struct sks_verifier *verifier = NULL;
    struct sks_verification verdict;
    const struct sks_call call = {.from_tn = "12155551212",
                                  .to_tn = dest,
                                  .to_tn_count = 1,
                                  .time = time(NULL),
                                  .identity = identity};
    CLEAR_AFTER(sp_close) struct sp sp;

    sp_open(&sp, place, ECO_SPC); /* fetches list and CRL again */
    eco_must(sks_verifier_new(&(struct sks_verifier_config){.trust = sp.trust,
                                                            .chain = fetch_x5u,
                                                            .context = sp.http},
                              &verifier),
             "STI-VS");
    assert_int_equal(sks_verify(verifier, &call, time(NULL), &verdict), HSM_OK);
    sks_verifier_free(verifier);
    return verdict;
}

static int64_t
last_id(void)
{
    size_t count;
    struct sks_credential last = last_credential(&count);
    int64_t id = last.id;

    sks_credential_clear(&last);
    return id;
}

static void
a_revoked_credential_signs_no_more_and_its_calls_fail(void **state)
{
    struct sks_credential credential = {.id = 0};
    struct sks_verification verdict;
    struct hsm_reason why;
    char *identity;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    identity = sign(&sp);
    verdict = judge(here(), identity);
    assert_int_equal(verdict.verdict, SKS_VALID);

    assert_int_equal(sks_revoke_begin(sp.catalogue, last_id(), &credential, &why), HSM_OK);
    assert_last_state(SKS_RETIRING, 1);
    assert_null(sign(&sp)); /* before the CA is contacted */
    assert_int_equal(sks_revoke_finish(sp.catalogue, sp.client, &credential, 1, &why), HSM_OK);
    assert_last_state(SKS_RETIRED, 1);
    acme_server_forward(world.server);
    verdict = judge(here(), identity);
    assert_int_equal(verdict.verdict, SKS_E17_UNTRUSTED);
    assert_int_equal(verdict.reason_code, 437);
    assert_string_equal(verdict.verstat, "TN-Validation-Failed");
    assert_non_null(strstr(verdict.reason_desc.text, "revoked"));

    assert_int_equal(enroll(&sp, &why), HSM_OK); /* enrollment continues with a new key */
    assert_last_state(SKS_ACTIVE, 2);
    free(identity);
    identity = sign(&sp);
    verdict = judge(here(), identity);
    assert_int_equal(verdict.verdict, SKS_VALID);
    free(identity);
    sks_credential_clear(&credential);
}

static void
a_revocation_that_was_cut_short_is_done_again(void **state)
{
    struct sks_credential credential = {.id = 0};
    struct hsm_reason why;
    int64_t id;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    id = last_id();
    assert_int_equal(sks_revoke_begin(sp.catalogue, id, &credential, &why), HSM_OK);
    break_at(&world.ca, "/acme/revoke-cert", 503, "", "text/plain");
    assert_int_equal(sks_revoke_finish(sp.catalogue, sp.client, &credential, 1, &why),
                     HSM_ERR_BUSY);
    assert_last_state(SKS_RETIRING, 1);
    assert_null(sign(&sp));
    sks_credential_clear(&credential);

    world.ca.broken = NULL;
    for (int i = 0; i < 2; i++) { /* the second time, the CA answers that it is already revoked */
        assert_int_equal(sks_revoke_begin(sp.catalogue, id, &credential, &why), HSM_OK);
        assert_int_equal(sks_revoke_finish(sp.catalogue, sp.client, &credential, 1, &why), HSM_OK);
        assert_last_state(SKS_RETIRED, 1);
        sks_credential_clear(&credential);
    }
}

static void
what_the_ca_refuses_to_revoke_still_signs_no_more(void **state)
{
    struct sks_credential credential = {.id = 0};
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(sks_revoke_begin(sp.catalogue, last_id(), &credential, &why), HSM_OK);
    assert_int_equal(sks_revoke_finish(sp.catalogue, sp.client, &credential, 9, &why),
                     HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "badRevocationReason"));
    assert_last_state(SKS_RETIRING, 1);
    assert_null(sign(&sp));
    sks_credential_clear(&credential);
}

static void
a_credential_on_the_way_is_revoked_once_it_has_a_certificate(void **state)
{
    struct sks_credential credential = {.id = 0};
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_int_equal(enroll_until("requested"), DIED);
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(sks_revoke_begin(sp.catalogue, last_id(), &credential, &why), HSM_ERR_USAGE);
    assert_non_null(strstr(why.text, "is requested and has no certificate"));
    assert_int_equal(sks_revoke_begin(sp.catalogue, 4711, &credential, &why), HSM_ERR_NOT_FOUND);
    assert_last_state(SKS_REQUESTED, 1);
    assert_int_equal(enroll_until("issued"), DIED);
    assert_int_equal(sks_revoke_begin(sp.catalogue, last_id(), &credential, &why), HSM_OK);
    assert_last_state(SKS_RETIRED, 1);
    assert_int_equal(sks_revoke_finish(sp.catalogue, sp.client, &credential, 4, &why), HSM_OK);
    sks_credential_clear(&credential);
}

#define CASE(name) cmocka_unit_test_setup(name, sp_world_begin)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(a_revoked_credential_signs_no_more_and_its_calls_fail),
        CASE(a_revocation_that_was_cut_short_is_done_again),
        CASE(what_the_ca_refuses_to_revoke_still_signs_no_more),
        CASE(a_credential_on_the_way_is_revoked_once_it_has_a_certificate),
    };

    if (argc == 9 && strcmp(argv[1], "enroll") == 0)
        return enroll_and_die(argv);
    return cmocka_run_group_tests(tests, sp_world_start, sp_world_stop);
}
