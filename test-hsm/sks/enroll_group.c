/* enroll_group.c - what a service provider opens to enroll. */
#include "enroll_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hsm/defer.h>
#include <sks/signers.h>

#include "ecosystem.h"
#include "one_token.h"
#include "sp_world.h"

extern char **environ;

/* ---- the service provider ---- */

static void
sp_open_files(struct sp *sp, const struct place *place)
{
    char path[512];

    path_in(place->dir, "catalogue.db", path);
    eco_must(sks_catalogue_open(path, &sp->catalogue), path);
    path_in(place->dir, "cr", path);
    eco_must(sks_repository_open(path, place->cr_url, &sp->repository), path);
}

static void
sp_open_trust(struct sp *sp, const struct place *place)
{
    char list[256];
    char *crl = acme_authority_crl_url(place->pa_url);
    char path[512];

    snprintf(list, sizeof(list), "%s" ACME_AUTHORITY_CA_LIST_PATH, place->pa_url);
    path_in(place->dir, "trust", path);
    eco_must(certs_chain_read(place->pa_anchor, &sp->pa_anchors), "STI-PA anchor");
    eco_must(sks_trust_new(&(struct sks_trust_config){.http = sp->http,
                                                      .pa_anchors = sp->pa_anchors,
                                                      .ca_list_url = list,
                                                      .crl_url = crl,
                                                      .dir = path},
                           &sp->trust),
             "trust");
    eco_must(sks_trust_refresh(sp->trust, time(NULL)), "trust");
    free(crl);
}

void
sp_open(struct sp *sp, const struct place *place, const char *spc)
{
    struct hsm_reason why = {""};

    memset(sp, 0, sizeof(*sp));
    sp->token = softhsm_reopen("sp");
    sp_open_files(sp, place);
    eco_must(
        acme_http_client_new(&(struct acme_http_client_config){.tls_ca = place->tls_ca}, &sp->http),
        "HTTP client");
    sp_open_trust(sp, place);
    eco_must(hsm_key_find_or_generate(sp->token, SKS_ENROLL_ACCOUNT_LABEL, &sp->account_key),
             "account key");
    eco_must(acme_client_new(&(struct acme_client_config){.http = sp->http,
                                                          .directory_url = place->ca_directory,
                                                          .account_key = sp->account_key,
                                                          .poll_limit_s = 5},
                             &sp->client, &why),
             why.text);
    eco_must(acme_client_account(sp->client, &why), why.text);
    eco_must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &sp->password), "password");
    sp->login = (struct acme_authority_login){.http = sp->http,
                                              .base_url = place->pa_url,
                                              .account_id = "1001",
                                              .user = "sp",
                                              .password = sp->password};
    sp->enrollment = (struct sks_enrollment){.token = sp->token,
                                             .token_uri = TOKEN_URI,
                                             .catalogue = sp->catalogue,
                                             .repository = sp->repository,
                                             .client = sp->client,
                                             .ca_directory = place->ca_directory,
                                             .authority = &sp->login,
                                             .fingerprint = ACME_FINGERPRINT_THUMBPRINT,
                                             .trust = sp->trust,
                                             .http = sp->http,
                                             .spc = spc};
}

void
sp_close(struct sp *sp)
{
    hsm_secret_free(sp->password);
    acme_client_free(sp->client);
    hsm_key_free(sp->account_key);
    sks_trust_free(sp->trust);
    certs_chain_free(sp->pa_anchors);
    acme_http_client_free(sp->http);
    sks_repository_close(sp->repository);
    sks_catalogue_close(sp->catalogue);
    hsm_token_close(sp->token);
}

/* ---- an enrollment that dies ---- */

static void
die_at_step(void *context, const char *line)
{
    const char *step = context;

    if (strncmp(line, step, strlen(step)) == 0)
        _exit(DIED);
}

int
enroll_and_die(char **argv)
{
    const struct place place = {argv[3], argv[4], argv[5], argv[6], argv[7], argv[8]};
    struct hsm_reason why = {""};
    struct sp sp;
    int64_t id;
    enum hsm_status st;

    sp_open(&sp, &place, ECO_SPC);
    sp.enrollment.progress = die_at_step;
    sp.enrollment.context = argv[2];
    st = sks_enroll(&sp.enrollment, &id, &why);
    if (st != HSM_OK)
        fprintf(stderr, "enroll: %s\n", why.text);
    sp_close(&sp);
    return (int)st;
}

const struct place *
here(void)
{
    static struct place place;

    place = (struct place){world.pa.server.base, world.directory, world.cr.server.base, world.dir,
                           world.eco.tls_ca,     world.pa_anchor};
    return &place;
}

int
enroll_until(const char *step)
{
    const struct place *place = here();
    char *const argv[] = {(char *)"test_enroll",
                          (char *)"enroll",
                          (char *)(uintptr_t)step,
                          (char *)(uintptr_t)place->pa_url,
                          (char *)(uintptr_t)place->ca_directory,
                          (char *)(uintptr_t)place->cr_url,
                          (char *)(uintptr_t)place->dir,
                          (char *)(uintptr_t)place->tls_ca,
                          (char *)(uintptr_t)place->pa_anchor,
                          NULL};
    pid_t child;
    int status;

    assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- the state afterwards ---- */

struct sks_credential
last_credential(size_t *count)
{
    struct sks_catalogue *catalogue = NULL;
    struct sks_credential *list = NULL;
    struct sks_credential last;
    char path[512];

    path_in(world.dir, "catalogue.db", path);
    assert_int_equal(sks_catalogue_open(path, &catalogue), HSM_OK);
    assert_int_equal(sks_catalogue_list(catalogue, NULL, &list, count), HSM_OK);
    assert_true(*count > 0);
    last = list[*count - 1];
    memset(&list[*count - 1], 0, sizeof(last));
    sks_credentials_free(list, *count);
    sks_catalogue_close(catalogue);
    return last;
}

void
assert_last_state(enum sks_state wanted, size_t wanted_count)
{
    size_t count;
    struct sks_credential last = last_credential(&count);

    assert_string_equal(sks_state_text(last.state), sks_state_text(wanted));
    assert_int_equal(count, wanted_count);
    sks_credential_clear(&last);
}

const char *const dest[] = {"12155551213"};

enum hsm_status
enroll(struct sp *sp, struct hsm_reason *why)
{
    int64_t id = 0;
    enum hsm_status st;

    why->text[0] = '\0';
    st = sks_enroll(&sp->enrollment, &id, why);
    if (st == HSM_OK)
        assert_true(id > 0);
    else
        assert_string_not_equal(why->text, "");
    return st;
}

char *
sign(struct sp *sp)
{
    const struct sks_claims claims = {
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = dest,
        .dest_tn_count = 1,
        .iat = time(NULL),
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };
    struct sks_tokens *tokens = one_token(TOKEN_URI, NULL);
    struct sks_signers *signers = NULL;
    struct sks_signer *signer;
    char *identity = NULL;

    assert_int_equal(sks_signers_load(sp->catalogue, tokens, ECO_SPC, &signers), HSM_OK);
    assert_int_equal(sks_signers_left_out_count(signers), 0);
    signer = sks_signers_at(signers, time(NULL));
    if (signer != NULL)
        assert_int_equal(sks_signer_sign(signer, &claims, time(NULL), &identity, NULL), HSM_OK);
    sks_signers_free(signers);
    sks_tokens_close(tokens);
    return identity;
}
