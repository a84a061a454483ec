/* test_service_credentials.c - mirrors sks/src/service.c and signers.c: which credential signs, and
 * that no call gets an unsigned success. */
#define _GNU_SOURCE /* asprintf */
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

#include <sks/service.h>
#include <sks/verify.h>

#include "service_group.h"

static void
without_a_credential_signing_is_503(void **state)
{
    (void)state;
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "no active credential");
    post(SIGNING, "{}"); /* a malformed request is reported first */
    assert_error(400, "SVC4001", "signingRequest");
}

static void
credential_that_is_only_published_does_not_sign(void **state)
{
    (void)state;
    publish("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "no active credential");
}

static void
credential_signs_as_soon_as_it_is_active(void **state)
{
    char *identity;

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    assert_int_equal(called.status, 503);
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    post(SIGNING, GOOD_SIGNING); /* without a refresh */
    identity = signed_identity();
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    free(identity);
}

static void
ended_certificate_does_not_sign(void **state)
{
    char body[512];

    (void)state;
    world.now = certs_chain_not_after(world.eco.sp) + 1;
    snprintf(body, sizeof(body),
             "{\"signingRequest\":{" MEMBER_ATTEST "," MEMBER_DEST ",\"iat\":%lld," MEMBER_ORIG
             "," MEMBER_ORIGID "}}",
             (long long)world.now);
    post(SIGNING, body);
    assert_error(503, "POL5030", NULL);
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "not valid now"));
}

/* What a worker that starts now logs. */
static void
hear_start(char *heard, size_t room)
{
    struct sks_service *service = NULL;
    FILE *log = tmpfile();
    int terminal = dup(STDERR_FILENO);

    assert_non_null(log);
    dup2(fileno(log), STDERR_FILENO);
    assert_int_equal(new_service(ECO_SPC, &service), HSM_OK);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    sks_service_free(service);
    rewind(log);
    heard[fread(heard, 1, room - 1, log)] = '\0';
    fclose(log);
}

static void
ended_certificate_is_not_said_to_sign(void **state)
{
    char heard[2048];

    (void)state;
    hear_start(heard, sizeof(heard));
    assert_non_null(strstr(heard, " signs for SPC " ECO_SPC));
    world.now = certs_chain_not_after(world.eco.sp) + 1;
    hear_start(heard, sizeof(heard));
    assert_null(strstr(heard, " signs for SPC"));
    assert_non_null(strstr(heard, " of SPC " ECO_SPC ": its certificate has expired"));
}

static void
certificate_of_another_key_is_refused_at_load(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=tls-client", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(ECO_SPC, &service), HSM_ERR_UNTRUSTED);
    assert_null(service);
    sks_service_refresh(sks.service); /* nor does the running one use it */
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", NULL);
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_non_null(strstr(called.body, "cannot be loaded"));
}

static void
certificate_of_another_spc_is_refused_at_load(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=sp", world.eco.sp, "5678", X5U);
    assert_int_equal(new_service("5678", &service), HSM_ERR_UNTRUSTED);
    assert_null(service);
}

static void
key_that_is_not_there_gives_503_until_it_is(void **state)
{
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=nowhere", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(ECO_SPC, &service), HSM_OK);
    sks_service_free(service);
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", NULL);
}

static void
several_spcs_want_a_choice(void **state)
{
    struct certs_chain *other =
        eco_sp_chain(&world.eco, "5678", hsm_key_public(world.eco.sp_key), NOW - 60, NOW + 3600);
    struct sks_service *service = NULL;

    (void)state;
    activate("pkcs11:object=sp", world.eco.sp, ECO_SPC, X5U);
    assert_int_equal(new_service(NULL, &service), HSM_OK); /* only one candidate */
    sks_service_free(service);
    service = NULL;
    activate("pkcs11:object=sp", other, "5678", "https://cr.sp.example/certs/5678.pem");
    assert_int_equal(new_service(NULL, &service), HSM_ERR_AMBIGUOUS);
    assert_null(service);
    assert_int_equal(new_service("5678", &service), HSM_OK);
    sks_service_free(service);
    certs_chain_free(other);
}

/* A credential that cannot be loaded does not replace one that can. */
static void
bad_reload_keeps_what_signs(void **state)
{
    char *identity;

    (void)state;
    activate("pkcs11:object=tls-client", world.eco.sp, ECO_SPC,
             "https://cr.sp.example/certs/bad.pem");
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_non_null(strstr(identity, "info=<" X5U ">"));
    verify_identity(identity);
    assert_verstat("TN-Validation-Passed", 0);
    free(identity);
}

static void *
verify_in_a_thread(void *context)
{
    static const char *const headers[] = {JSON_TYPE, NULL};
    struct called *answer = malloc(sizeof(*answer));

    call(&sks.local.caller, "POST", VERIFICATION, headers, context, answer);
    return answer;
}

/* The caller chooses the URL of the certificate that has to be fetched. */
static void
a_repository_that_is_silent_holds_up_no_signature(void **state)
{
    pthread_t threads[12];
    char *identity;
    char *body = NULL;

    (void)state;
    post(SIGNING, GOOD_SIGNING);
    identity = signed_identity();
    assert_true(asprintf(&body,
                         "{\"verificationRequest\":{" MEMBER_FROM
                         ",\"identity\":\"%s\"," MEMBER_TIME "," MEMBER_TO "}}",
                         identity) > 0);
    atomic_store(&world.repository_is_silent, true);
    for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_in_a_thread, body), 0);
    while (atomic_load(&world.fetching) < 3) /* three of the four serving threads */
        usleep(1000);
    post(SIGNING, GOOD_SIGNING);
    assert_int_equal(called.status, 200);
    atomic_store(&world.repository_is_silent, false);
    for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
        struct called *answer = NULL;

        assert_int_equal(pthread_join(threads[i], (void **)&answer), 0);
        assert_non_null(strstr(answer->body, "TN-Validation-Passed"));
        free(answer);
    }
    free(identity);
    free(body);
}

/* The directory of SoftHSM's tokens is moved away under a running service. */
static void
token_that_is_away_never_gives_an_unsigned_success(void **state)
{
    char tokens[256];
    char away[256];
    long during;

    (void)state;
    snprintf(tokens, sizeof(tokens), "%s/tokens", softhsm_dir());
    snprintf(away, sizeof(away), "%s/away", softhsm_dir());
    assert_int_equal(rename(tokens, away), 0);
    post(SIGNING, GOOD_SIGNING);
    during = called.status;
    assert_int_equal(rename(away, tokens), 0);
    /* A module may continue with what it has in memory; the signature must then be valid. */
    if (during == 200) {
        char *identity = signed_identity();

        verify_identity(identity);
        assert_verstat("TN-Validation-Passed", 0);
        free(identity);
    } else {
        assert_error(503, "POL5030", NULL);
    }
}

static void
key_destroyed_in_the_token_gives_503(void **state)
{
    struct hsm_key *key = eco_key(&world.eco, "short-lived");
    struct certs_chain *chain =
        eco_sp_chain(&world.eco, ECO_SPC, hsm_key_public(key), NOW - 60, NOW + 3600);

    (void)state;
    activate("pkcs11:object=short-lived", chain, ECO_SPC, "https://cr.sp.example/certs/short.pem");
    sks_service_refresh(sks.service);
    post(SIGNING, GOOD_SIGNING);
    free(signed_identity());
    assert_non_null(strstr(called.body, "short.pem"));
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    post(SIGNING, GOOD_SIGNING);
    assert_error(503, "POL5030", "the token does not sign");
    call(&sks.local.caller, "GET", "/readyz", NULL, NULL, &called);
    assert_int_equal(called.status, 503);
    assert_non_null(strstr(called.body, "the token does not sign"));
    hsm_key_free(key);
    certs_chain_free(chain);
}

#define WITH_CREDENTIAL(name) cmocka_unit_test_setup_teardown(name, service_start, service_stop)
#define WITHOUT_CREDENTIAL(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, service_start_without_credential, service_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITHOUT_CREDENTIAL(without_a_credential_signing_is_503),
        WITHOUT_CREDENTIAL(credential_that_is_only_published_does_not_sign),
        WITHOUT_CREDENTIAL(credential_signs_as_soon_as_it_is_active),
        WITH_CREDENTIAL(ended_certificate_does_not_sign),
        WITH_CREDENTIAL(ended_certificate_is_not_said_to_sign),
        WITHOUT_CREDENTIAL(certificate_of_another_key_is_refused_at_load),
        WITHOUT_CREDENTIAL(certificate_of_another_spc_is_refused_at_load),
        WITHOUT_CREDENTIAL(key_that_is_not_there_gives_503_until_it_is),
        WITHOUT_CREDENTIAL(several_spcs_want_a_choice),
        WITH_CREDENTIAL(bad_reload_keeps_what_signs),
        WITH_CREDENTIAL(key_destroyed_in_the_token_gives_503),
        WITH_CREDENTIAL(a_repository_that_is_silent_holds_up_no_signature),
        /* last: SoftHSM does not find its objects again in this process */
        WITH_CREDENTIAL(token_that_is_away_never_gives_an_unsigned_success),
    };

    return cmocka_run_group_tests(tests, service_group_start, service_group_stop);
}
