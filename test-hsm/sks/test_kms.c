/*
 * test_kms.c - mirrors sks/src/kms.c, kms_round.c and kms_watch.c: looks at a service provider,
 * each at a time that the test sets, with a real STI-PA, STI-CA and STI-CR.
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

#include <hsm/defer.h>
#include <sks/enroll.h>
#include <sks/kms.h>
#include <sks/sp_verification.h>

#include "sp_world.h"

#define NONSENSE "31536000" /* seconds: a year */

/* What a service provider has open. */
struct sp {
    struct sks_sp_config config;
    struct sks_kms *kms;
    time_t now; /* when it was opened */
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

/* @param more  sections of the configuration */
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

/* The active one, which is the only one; sks_credential_clear() it. */
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

/* The text of a trouble in a matter that begins so; "": none. Overwritten by the next call. */
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
destroy_key(const char *uri)
{
    struct hsm_token *token = softhsm_reopen("sp");
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find(token, uri, &key), HSM_OK);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- what is renewed, and when ---- */

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

/* The keys of account and credential are gone: the next account did not order the predecessor. */
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
    assert_int_equal(all(&sp), 2); /* the first at once, as RFC 9773 section 4.2 has it */
    look(&sp, sp.now + sp.config.retry_longest_s + 600);
    assert_int_equal(all(&sp), 3);
}

/* ---- a token that the configuration words otherwise ---- */

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

/* RFC 7512: another text, the same token, and the account that the catalogue has in it. */
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
    assert_int_equal(world.ca.orders, 2); /* by that account: `replaces` was accepted */
}

/* ---- an STI-CA that asks to be left alone ---- */

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
    look(&sp, sp.now + ECO_DAY / 2); /* what was asked for is kept so far */
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

/* A CA with the accounts of the other, that takes no orders now. */
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
    look(&sp, sp.now + 1); /* nothing signs: that is urgent */
    assert_int_equal(world.ca.orders, 1);
    look(&sp, sp.now + 1);
    assert_int_equal(world.ca.orders, 1); /* both are left alone */
    world.ca.broken = NULL;
    look(&sp, sp.now + 180); /* and the second for a shorter time */
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

/* ---- what others refuse ---- */

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

/* ---- what is over for long ---- */

/* A provider whose STI-CR could not be opened at that look. */
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

/* Each test begins with a token that has no keys. */
static int
begin_empty(void **state)
{
    struct hsm_token *token = softhsm_reopen("sp");
    struct hsm_key_info *infos = NULL;
    size_t count;

    if (hsm_key_list(token, &infos, &count) != HSM_OK)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char uri[128];

        snprintf(uri, sizeof(uri), "pkcs11:object=%s", infos[i].label);
        destroy_key(uri);
    }
    free(infos);
    hsm_token_close(token);
    return begin(state);
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
        CASE(troubles_of_what_is_not_there_any_more_end),
        CASE(a_notification_that_fails_is_a_trouble),
        CASE(nothing_is_forgotten_while_its_chain_cannot_be_taken_away),
    };

    return cmocka_run_group_tests(tests, make_world, end_world);
}
