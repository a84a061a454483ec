/*
 * test_kms.c - mirrors sks/src/kms.c, kms_lost.c, kms_round.c and kms_watch.c: looks at a service
 * provider, each at a time that the test sets, with a real STI-PA, STI-CA and STI-CR.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <sks/enroll.h>
#include <sks/kms.h>
#include <sks/signers.h>
#include <sks/sp_verification.h>

#include "sp_world.h"

#define NONSENSE "31536000" /* seconds: a year */

static struct hsm_secret *pin;

/* The open handles of a service provider. */
struct sp {
    struct sks_sp_config config;
    struct sks_kms *kms;
    time_t now; /* the time when it was opened */
};

static void
sp_close(struct sp *sp)
{
    sks_kms_close(sp->kms);
    sks_sp_config_clear(&sp->config);
}

static void
write_file(const char *name, const char *text)
{
    char path[512];
    int fd;

    path_in(world.dir, name, path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* @param more  further sections of the configuration */
static void
sp_open(struct sp *sp, const char *token_uri, const char *ca_directory, const char *more)
{
    char text[16384], path[512];

    snprintf(text, sizeof(text),
             "[token]\nuri = %s\nmodule = %s\npin-source = file:%s/pin\n"
             "[sp]\nspc = " ECO_SPC "\n"
             "[pa]\nurl = %s\nanchors = %s\naccount = 1001\nuser = sp\n"
             "password-source = file:%s/password\n"
             "[ca]\ndirectory = %s\npoll-limit = 5\n"
             "[tls]\nca = %s\n"
             "[cr]\nbase-url = %s\n"
             "[verification]\nports = %u\nprivate-addresses = yes\ntls-ca = %s\n%s",
             token_uri, softhsm_module(), world.dir, world.pa.server.base, world.pa_anchor,
             world.dir, ca_directory, world.eco.tls_ca, world.cr.server.base, world.cr.server.port,
             world.eco.tls_ca, more);
    write_file("sp.conf", text);
    write_file("pin", SOFTHSM_USER_PIN);
    write_file("password", PASSWORD);
    path_in(world.dir, "sp.conf", path);
    memset(sp, 0, sizeof(*sp));
    sp->now = time(NULL);
    assert_int_equal(sks_sp_config_read(path, &sp->config), HSM_OK);
    assert_int_equal(sks_kms_open(&sp->config, &(struct sks_kms_hooks){.progress = NULL}, &sp->kms),
                     HSM_OK);
    sks_kms_tend(sp->kms, sp->now);
}

static void
look(struct sp *sp, time_t now)
{
    unsigned again_s = 0;

    assert_int_equal(sks_kms_look(sp->kms, 0, now, &again_s), HSM_OK);
    assert_true(again_s > 0);
}

static size_t
count_in(const struct sp *sp, enum sks_state first, enum sks_state last)
{
    struct sks_credential *list = NULL;
    size_t count = 0;

    assert_int_equal(
        sks_catalogue_list_in(sks_kms_catalogue(sp->kms), NULL, first, last, &list, &count),
        HSM_OK);
    sks_credentials_free(list, count);
    return count;
}

static size_t
all(const struct sp *sp)
{
    return count_in(sp, SKS_GENERATED, SKS_DESTROYED);
}

/* The only active credential; sks_credential_clear() it. */
static struct sks_credential
active(const struct sp *sp)
{
    struct sks_credential *list = NULL;
    struct sks_credential one;
    size_t count = 0;

    assert_int_equal(sks_catalogue_list_in(sks_kms_catalogue(sp->kms), NULL, SKS_ACTIVE, SKS_ACTIVE,
                                           &list, &count),
                     HSM_OK);
    assert_int_equal(count, 1);
    one = list[0];
    memset(&list[0], 0, sizeof(list[0]));
    sks_credentials_free(list, count);
    return one;
}

static int64_t
active_id(const struct sp *sp)
{
    struct sks_credential one = active(sp);
    int64_t id = one.id;

    sks_credential_clear(&one);
    return id;
}

/* The text of a trouble whose matter starts with `matter`, or "". Overwritten by the next call. */
static const char *
trouble(const struct sp *sp, const char *matter)
{
    static char text[1024];
    struct sks_trouble *list = NULL;
    size_t count = 0;

    text[0] = '\0';
    assert_int_equal(sks_catalogue_troubles(sks_kms_catalogue(sp->kms), &list, &count), HSM_OK);
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i].matter, matter, strlen(matter)) == 0)
            snprintf(text, sizeof(text), "%s", list[i].text);
    sks_troubles_free(list, count);
    return text;
}

static void
destroy_key_in(const char *label, const char *uri)
{
    struct hsm_token *token = softhsm_reopen(label);
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find(token, uri, &key), HSM_OK);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
destroy_key(const char *uri)
{
    destroy_key_in("sp", uri);
}

/* ---- what is renewed and when ---- */

static void
a_good_credential_is_left_alone(void **state)
{
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    assert_int_equal(count_in(&sp, SKS_ACTIVE, SKS_ACTIVE), 1);
    look(&sp, sp.now);
    look(&sp, sp.now + ECO_DAY);
    assert_int_equal(all(&sp), 1);
    assert_string_equal(trouble(&sp, ""), "");
}

/* The keys of the account and of the credential are gone. The new account did not order the
 * predecessor. */
static void
a_token_that_was_reset_is_renewed_by_another_account(void **state)
{
    struct sks_credential before;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    before = active(&sp);
    sks_kms_close(sp.kms);
    destroy_key(before.key_uri);
    destroy_key("pkcs11:object=" SKS_ENROLL_ACCOUNT_LABEL);
    sks_sp_config_clear(&sp.config);
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    assert_string_equal(trouble(&sp, "pkcs11:"), "");
    assert_true(active_id(&sp) > before.id);
    assert_int_equal(world.ca.orders, 3); /* one with `replaces` was refused */
    sks_credential_clear(&before);
}

static void
a_window_that_is_always_over_makes_no_new_key_each_minute(void **state)
{
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    break_at(&world.ca, "/acme/renewal-info/", 200,
             "{\"suggestedWindow\":{\"start\":\"2020-01-01T00:00:00Z\","
             "\"end\":\"2020-01-02T00:00:00Z\"}}",
             "application/json");
    for (int i = 0; i < 6; i++)
        look(&sp, sp.now + i);
    assert_int_equal(all(&sp), 2); /* the first is renewed at once (RFC 9773 section 4.2) */
    look(&sp, sp.now + sp.config.retry_longest_s + 600);
    assert_int_equal(all(&sp), 3);
}

/* ---- a token under another URI ---- */

static void
roll_over(struct sp *sp, const char *token_uri, char kid[512])
{
    struct sks_account *account = NULL;
    struct hsm_reason why = {""};

    if (sks_kms_account(sp->kms, 0, token_uri, 0, &account, &why) != HSM_OK ||
        sks_account_rollover(account, &why) != HSM_OK)
        fail_msg("%s", why.text);
    snprintf(kid, 512, "%s", acme_client_kid(sks_account_client(account)));
    sks_kms_forget(sp->kms, 0);
}

/* RFC 7512: another URI for the same token finds the account recorded for that token. */
static void
another_wording_of_a_token_has_the_same_account(void **state)
{
    const char *reworded =
        softhsm_is_softhsm() ? TOKEN_URI ";manufacturer=SoftHSM%20project" : TOKEN_URI;
    char before[512], after[512];
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    roll_over(&sp, TOKEN_URI, before);
    sp_close(&sp);
    sp_open(&sp, reworded, world.directory, "");
    roll_over(&sp, reworded, after);
    assert_string_equal(after, before);
    assert_int_equal(sks_kms_make_due(sp.kms, 0, sp.now), HSM_OK);
    look(&sp, sp.now);
    assert_int_equal(active_id(&sp), 2);
    assert_int_equal(world.ca.orders, 2); /* same account: `replaces` was accepted */
}

/* ---- an STI-CA that sends Retry-After ---- */

static void
nonsense_in_retry_after_is_bounded(void **state)
{
    int orders;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    world.ca.retry_after = NONSENSE;
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
    assert_int_equal(sks_kms_make_due(sp.kms, 0, sp.now), HSM_OK);
    look(&sp, sp.now);
    assert_non_null(strstr(trouble(&sp, "pkcs11:"), "tried again at"));
    orders = world.ca.orders;
    world.ca.broken = NULL;
    look(&sp, sp.now + ECO_DAY / 2); /* the retry time is still kept */
    assert_int_equal(world.ca.orders, orders);
    assert_int_equal(all(&sp), 2);
    look(&sp, sp.now + ECO_DAY + ECO_DAY / 5);
    assert_int_equal(active_id(&sp), 2);
}

static struct {
    struct eco_server server;
    char directory[1024], url[128];
    atomic_int orders;
} busy;

/* A CA that has the accounts of the other one but accepts no orders at present. */
static void
answer_busy(void *context, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);

    (void)context;
    if (strcmp(path, "/directory") == 0) {
        acme_http_respond(response, 200, "application/json", busy.directory,
                          strlen(busy.directory));
        return;
    }
    busy.orders++;
    acme_http_response_header(response, "Retry-After", NONSENSE);
    acme_http_respond(response, 503, "text/plain", "", 0);
}

static void
start_busy(void)
{
    eco_server_start(&busy.server, &world.eco, (struct acme_http_handler){.handle = answer_busy});
    snprintf(busy.url, sizeof(busy.url), "%s/directory", busy.server.base);
    snprintf(busy.directory, sizeof(busy.directory),
             "{\"newNonce\":\"%s/acme/new-nonce\",\"newAccount\":\"%s/acme/new-account\","
             "\"newOrder\":\"%s/orders\"}",
             world.ca.server.base, world.ca.server.base, busy.server.base);
    busy.orders = 0;
}

static void
another_ca_need_not_wait_for_the_first(void **state)
{
    char more[256];
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    start_busy();
    snprintf(more, sizeof(more), "[ca-2]\ndirectory = %s\n", world.directory);
    sp_open(&sp, TOKEN_URI, busy.url, more);
    look(&sp, sp.now);
    assert_int_equal(busy.orders, 1);
    assert_int_equal(count_in(&sp, SKS_ACTIVE, SKS_ACTIVE), 0);
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
    look(&sp, sp.now + 10); /* nothing signs: urgent. The look before may have taken seconds */
    assert_int_equal(world.ca.orders, 1);
    look(&sp, sp.now + 20);
    assert_int_equal(world.ca.orders, 1); /* both CAs are left alone */
    world.ca.broken = NULL;
    look(&sp, sp.now + 180); /* the second CA for a shorter time */
    assert_int_equal(busy.orders, 1);
    assert_int_equal(count_in(&sp, SKS_ACTIVE, SKS_ACTIVE), 1);
    assert_string_equal(trouble(&sp, "pkcs11:"), "");
    eco_server_stop(&busy.server);
}

/* ---- a clock that is wrong for a moment ---- */

static void
a_clock_that_was_ahead_leaves_everything_as_it_was(void **state)
{
    const time_t ahead = 10 * (time_t)365 * ECO_DAY;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    look(&sp, sp.now);
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
    assert_int_equal(sks_kms_make_due(sp.kms, 0, sp.now), HSM_OK);
    look(&sp, sp.now + ahead); /* list and CRL have ended, too */
    assert_int_equal(active_id(&sp), 1);
    assert_int_equal(world.ca.orders, 2);
    world.ca.broken = NULL;
    look(&sp, sp.now);
    assert_int_equal(active_id(&sp), 2);
}

/* ---- refusals by others ---- */

static bool
is_watched_as_refused(const struct sp *sp, time_t now)
{
    struct sks_sp_verification verification;
    struct sks_watched *things = NULL;
    size_t count = 0;
    bool found = false;

    assert_int_equal(sks_sp_verification_open(&sp->config, &verification), HSM_OK);
    assert_int_equal(sks_kms_watched(&sp->config, sks_kms_catalogue(sp->kms), verification.trust,
                                     now, &things, &count),
                     HSM_OK);
    for (size_t i = 0; i < count; i++)
        found = found || (strstr(things[i].what, "every STI-VS refuses it") != NULL &&
                          sks_alarm_at(things[i].due, things[i].ends, now) == SKS_ENDED);
    free(things);
    sks_sp_verification_close(&verification);
    return found;
}

static void
a_revoked_certificate_is_noticed_and_replaced(void **state)
{
    time_t later;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "[kms]\nrenewal-info = no\n");
    look(&sp, sp.now);
    assert_false(is_watched_as_refused(&sp, sp.now));
    revoke_the_last();
    later = sp.now + sp.config.crl_every_s + 1;
    sks_kms_tend(sp.kms, later);
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
    look(&sp, later);
    assert_true(is_watched_as_refused(&sp, later));
    assert_non_null(strstr(trouble(&sp, "pkcs11:"), "every STI-VS refuses it"));
    assert_non_null(strstr(trouble(&sp, "pkcs11:"), "revoked"));
    world.ca.broken = NULL;
    look(&sp, later + sp.config.retry_first_s + 1);
    assert_int_equal(active_id(&sp), 2);
    assert_false(is_watched_as_refused(&sp, later));
    assert_string_equal(trouble(&sp, "pkcs11:"), "");
}

/* ---- two tokens, and a certificate that others refuse ---- */

static enum sks_state
state_of(const struct sp *sp, int64_t id)
{
    struct sks_credential one = {.id = 0};
    enum sks_state state;

    assert_int_equal(sks_catalogue_find(sks_kms_catalogue(sp->kms), id, &one), HSM_OK);
    state = one.state;
    sks_credential_clear(&one);
    return state;
}

/* The number of credentials that a signer would load and sign with. */
static size_t
signing(const struct sp *sp)
{
    const struct sks_token_config configs[] = {
        {.uri = TOKEN_URI, .module = softhsm_module(), .pin = pin},
        {.uri = "pkcs11:token=sp-b", .module = softhsm_module(), .pin = pin},
    };
    struct sks_tokens *tokens = NULL;
    struct sks_signers *signers = NULL;
    size_t count;

    assert_int_equal(sks_tokens_open(configs, 2, &tokens), HSM_OK);
    assert_int_equal(sks_signers_load(sks_kms_catalogue(sp->kms), tokens, ECO_SPC, &signers),
                     HSM_OK);
    count = sks_signers_count(signers);
    sks_signers_free(signers);
    sks_tokens_close(tokens);
    return count;
}

/* Credential 1 is on the first token, credential 2 on the second. No other is made from now on. */
static void
open_two(struct sp *sp)
{
    char more[1024];

    snprintf(more, sizeof(more),
             "[token-2]\nuri = pkcs11:token=sp-b\nmodule = %s\npin-source = file:%s/pin\n"
             "[kms]\nrenewal-info = no\n",
             softhsm_module(), world.dir);
    sp_open(sp, TOKEN_URI, world.directory, more);
    look(sp, sp->now);
    assert_int_equal(signing(sp), 2);
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
}

/* Give the active credential a chain of its key that ends in a root which is not on the list. */
static void
distrust(const struct sp *sp, int64_t id, const char *label)
{
    struct hsm_token *token = softhsm_reopen(label);
    struct hsm_key *root_key = NULL;
    struct certs_chain *roots;
    struct certs_tnauthlist *list = NULL;
    struct sks_credential one = {.id = 0};
    struct certs_chain *chain;
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find_or_generate(world.eco.token, "other-root", &root_key), HSM_OK);
    roots = eco_root(&world.eco, CERTS_PROFILE_STI_ROOT, "Other SHAKEN ROOT", root_key);
    assert_int_equal(sks_catalogue_find(sks_kms_catalogue(sp->kms), id, &one), HSM_OK);
    assert_int_equal(hsm_key_find(token, one.key_uri, &key), HSM_OK);
    eco_must(certs_tnauthlist_from_spc(ECO_SPC, &list), "SPC");
    chain = eco_chain(
        eco_issue(&world.eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_STI_END_ENTITY,
                                               .subject = {.common_name = "SHAKEN " ECO_SPC},
                                               .tnauthlist = list,
                                               .policy_oid = CERTS_POLICY_CP_1_4,
                                               .crl_url = ECO_CRL_URL,
                                               .crl_issuer = certs_cert_subject_name(
                                                   certs_chain_get(world.eco.crl_signer, 0))},
                  hsm_key_public(key), roots, root_key));
    eco_must(certs_chain_append(chain, roots), "chain");
    free(one.chain_pem);
    one.chain_pem = NULL;
    assert_int_equal(certs_chain_pem(chain, &one.chain_pem), HSM_OK);
    assert_int_equal(sks_catalogue_put(sks_kms_catalogue(sp->kms), &one), HSM_OK);
    certs_chain_free(chain);
    certs_chain_free(roots);
    certs_tnauthlist_free(list);
    sks_credential_clear(&one);
    hsm_key_free(root_key);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
a_revoked_certificate_signs_no_more_if_another_can(void **state)
{
    time_t later;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    open_two(&sp);
    revoke_the_last();
    later = sp.now + sp.config.crl_every_s + 1;
    sks_kms_tend(sp.kms, later);
    look(&sp, later);
    assert_int_equal(state_of(&sp, 1), SKS_ACTIVE);
    assert_int_equal(state_of(&sp, 2), SKS_RETIRING);
    assert_int_equal(signing(&sp), 1);
    assert_non_null(strstr(trouble(&sp, "pkcs11:token=sp-b"), "credential 2: every STI-VS"));
    assert_non_null(strstr(trouble(&sp, "pkcs11:token=sp-b"), "revoked"));
    sks_kms_close(sp.kms); /* the reason survives a restart */
    assert_int_equal(sks_kms_open(&sp.config, &(struct sks_kms_hooks){.progress = NULL}, &sp.kms),
                     HSM_OK);
    world.ca.broken = NULL;
    look(&sp, later + 1);
    assert_int_equal(state_of(&sp, 2), SKS_RETIRING);
    assert_int_equal(state_of(&sp, 3), SKS_ACTIVE);
    assert_int_equal(signing(&sp), 2);
    assert_string_equal(trouble(&sp, "pkcs11:"), "");
}

static void
a_certificate_whose_root_is_not_trusted_signs_no_more_if_another_can(void **state)
{
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    open_two(&sp);
    distrust(&sp, 1, "sp");
    look(&sp, sp.now + 1);
    assert_int_equal(state_of(&sp, 1), SKS_RETIRING);
    assert_int_equal(state_of(&sp, 2), SKS_ACTIVE);
    assert_int_equal(signing(&sp), 1);
    assert_non_null(strstr(trouble(&sp, TOKEN_URI), "credential 1: every STI-VS refuses it"));
}

/* The other credential is active, but its key is gone. */
static void
the_last_certificate_that_can_sign_goes_on_signing(void **state)
{
    struct sks_credential other = {.id = 0};
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    open_two(&sp);
    assert_int_equal(sks_catalogue_find(sks_kms_catalogue(sp.kms), 2, &other), HSM_OK);
    destroy_key_in("sp-b", other.key_uri);
    sks_credential_clear(&other);
    distrust(&sp, 1, "sp");
    look(&sp, sp.now + 1);
    assert_int_equal(state_of(&sp, 1), SKS_ACTIVE);
    assert_int_equal(state_of(&sp, 2), SKS_ACTIVE);
    assert_int_equal(signing(&sp), 1);
    assert_true(is_watched_as_refused(&sp, sp.now + 1));
}

/* A list that lacks a root by mistake must not retire all credentials. */
static void
certificates_that_are_all_refused_go_on_signing(void **state)
{
    struct sks_credential before[2] = {{.id = 0}, {.id = 0}};
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    open_two(&sp);
    for (int64_t i = 0; i < 2; i++)
        assert_int_equal(sks_catalogue_find(sks_kms_catalogue(sp.kms), i + 1, &before[i]), HSM_OK);
    distrust(&sp, 1, "sp");
    distrust(&sp, 2, "sp-b");
    look(&sp, sp.now + 1);
    assert_int_equal(count_in(&sp, SKS_ACTIVE, SKS_ACTIVE), 2);
    assert_int_equal(count_in(&sp, SKS_RETIRING, SKS_DESTROYED), 0);
    assert_int_equal(signing(&sp), 2);
    assert_true(is_watched_as_refused(&sp, sp.now + 1));
    for (size_t i = 0; i < 2; i++) { /* trusted again */
        assert_int_equal(sks_catalogue_put(sks_kms_catalogue(sp.kms), &before[i]), HSM_OK);
        sks_credential_clear(&before[i]);
    }
    assert_false(is_watched_as_refused(&sp, sp.now + 1));
    look(&sp, sp.now + 2);
    assert_int_equal(state_of(&sp, 1), SKS_ACTIVE);
    assert_int_equal(state_of(&sp, 2), SKS_ACTIVE);
    assert_int_equal(signing(&sp), 2);
}

/* ---- troubles end ---- */

static void
troubles_of_what_is_not_there_any_more_end(void **state)
{
    struct sks_catalogue *catalogue;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "");
    catalogue = sks_kms_catalogue(sp.kms);
    assert_int_equal(
        sks_catalogue_trouble_put(catalogue, ECO_SPC, "pkcs11:token=gone", "away", sp.now), HSM_OK);
    assert_int_equal(
        sks_catalogue_trouble_put(catalogue, ECO_SPC, "notify-command", "failed", sp.now), HSM_OK);
    look(&sp, sp.now);
    assert_string_equal(trouble(&sp, ""), "");
}

static void
a_notification_that_fails_is_a_trouble(void **state)
{
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "[kms]\nnotify-command = /bin/false\n");
    look(&sp, sp.now);
    assert_string_not_equal(trouble(&sp, "notify-command"), "");
}

/* ---- credentials destroyed long ago ---- */

/* A provider whose STI-CR could not be opened in this round. */
static void
nothing_is_forgotten_while_its_chain_cannot_be_taken_away(void **state)
{
    struct sks_credential old = {.state = SKS_DESTROYED,
                                 .spc = (char *)(uintptr_t)ECO_SPC,
                                 .token_uri = (char *)(uintptr_t)TOKEN_URI,
                                 .key_uri = (char *)(uintptr_t) "pkcs11:object=old",
                                 .chain_pem = (char *)(uintptr_t) "PEM",
                                 .x5u = (char *)(uintptr_t) "https://cr.example/old.pem",
                                 .not_after = time(NULL) - ECO_DAY};
    char path[512];
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, TOKEN_URI, world.directory, "[kms]\nforget-after = 1\n");
    assert_int_equal(sks_catalogue_put(sks_kms_catalogue(sp.kms), &old), HSM_OK);
    path_in(world.dir, "password", path);
    assert_int_equal(unlink(path), 0);
    look(&sp, sp.now + 60);
    assert_int_equal(count_in(&sp, SKS_DESTROYED, SKS_DESTROYED), 1);
    assert_string_not_equal(trouble(&sp, "configuration"), "");
    write_file("password", PASSWORD);
    look(&sp, sp.now + 60);
    assert_int_equal(count_in(&sp, SKS_DESTROYED, SKS_DESTROYED), 0);
    assert_string_equal(trouble(&sp, "configuration"), "");
}

/* ---- fixtures ---- */

static void
destroy_all(const char *label)
{
    struct hsm_token *token = softhsm_reopen(label);
    struct hsm_key_info *infos = NULL;
    size_t count;

    assert_int_equal(hsm_key_list(token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++) {
        char uri[128];

        snprintf(uri, sizeof(uri), "pkcs11:object=%s", infos[i].label);
        destroy_key_in(label, uri);
    }
    free(infos);
    hsm_token_close(token);
}

/* Each test begins with tokens without keys. */
static int
begin_empty(void **state)
{
    destroy_all("sp");
    destroy_all("sp-b");
    return sp_world_begin(state);
}

static int
make_tokens(void **state)
{
    if (sp_world_start(state) != 0 ||
        hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) != HSM_OK)
        return -1;
    hsm_token_close(softhsm_token("sp-b"));
    return 0;
}

static int
end_tokens(void **state)
{
    hsm_secret_free(pin);
    return sp_world_stop(state);
}

#define CASE(name) cmocka_unit_test_setup(name, begin_empty)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_good_credential_is_left_alone),
        CASE(a_token_that_was_reset_is_renewed_by_another_account),
        CASE(a_window_that_is_always_over_makes_no_new_key_each_minute),
        CASE(another_wording_of_a_token_has_the_same_account),
        CASE(nonsense_in_retry_after_is_bounded),
        CASE(another_ca_need_not_wait_for_the_first),
        CASE(a_clock_that_was_ahead_leaves_everything_as_it_was),
        CASE(a_revoked_certificate_is_noticed_and_replaced),
        CASE(a_revoked_certificate_signs_no_more_if_another_can),
        CASE(a_certificate_whose_root_is_not_trusted_signs_no_more_if_another_can),
        CASE(the_last_certificate_that_can_sign_goes_on_signing),
        CASE(certificates_that_are_all_refused_go_on_signing),
        CASE(troubles_of_what_is_not_there_any_more_end),
        CASE(a_notification_that_fails_is_a_trouble),
        CASE(nothing_is_forgotten_while_its_chain_cannot_be_taken_away),
    };

    return cmocka_run_group_tests(tests, make_tokens, end_tokens);
}
