/* test_enroll.c - mirrors sks/src/enroll.c, with an STI-PA and an STI-CA; and runs that die on the
 * way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>

#include <hsm/defer.h>
#include <sks/enroll.h>
#include <sks/passport.h>
#include <sks/verify.h>

#include "data.h"
#include "ecosystem.h"
#include "enroll_group.h"
#include "one_token.h"
#include "raw.h"
#include "sp_world.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the state afterwards ---- */

static size_t
keys_named_sp(struct hsm_token *token)
{
    struct hsm_key_info *infos = NULL;
    size_t count;
    size_t found = 0;

    assert_int_equal(hsm_key_list(token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++)
        found += strncmp(infos[i].label, "sp-" ECO_SPC "-", 8) == 0;
    free(infos);
    return found;
}

static void
assert_signs(struct sp *sp)
{
    char *identity = sign(sp);

    assert_non_null(identity);
    free(identity);
}

/* ---- enrollment ---- */

static const char *const steps[] = {"generated", "requested", "authorised",
                                    "issued",    "published", "active"};

static void
count_step(void *context, const char *line)
{
    size_t *next = context;

    if (*next < COUNT(steps) && strncmp(line, steps[*next], strlen(steps[*next])) == 0)
        (*next)++;
}

static void
enrollment_goes_through_every_step(void **state)
{
    struct hsm_reason why;
    struct sks_credential last;
    size_t next = 0;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    sp.enrollment.progress = count_step;
    sp.enrollment.context = &next;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(next, COUNT(steps));
    last = last_credential(&count);
    assert_int_equal(count, 1);
    assert_int_equal(last.state, SKS_ACTIVE);
    assert_int_equal(strncmp(last.key_uri, "pkcs11:", 7), 0);
    assert_int_equal(strncmp(last.x5u, world.cr.server.base, strlen(world.cr.server.base)), 0);
    assert_string_equal(last.token_uri, TOKEN_URI);
    assert_true(last.not_after > time(NULL));
    assert_signs(&sp);
    sks_credential_clear(&last);
}

/* However far a run got before it died, the next one continues it: in the end there is one key, one
 * order and one certificate. */
static void
run_that_dies_after(const char *step, enum sks_state left, int orders_before)
{
    struct sks_credential before;
    struct sks_credential after;
    size_t count;
    size_t keys;
    CLEAR_AFTER(sp_close) struct sp sp;

    print_message("%s\n", step);
    assert_int_equal(enroll_until(step), DIED);
    before = last_credential(&count);
    assert_int_equal(count, 1);
    assert_string_equal(sks_state_text(before.state), sks_state_text(left));
    assert_int_equal(world.ca.orders, orders_before);
    sp_open(&sp, here(), ECO_SPC);
    keys = keys_named_sp(sp.token);

    assert_int_equal(enroll_until("never"), HSM_OK);
    after = last_credential(&count);
    assert_int_equal(count, 1);
    assert_int_equal(after.id, before.id);
    assert_int_equal(after.state, SKS_ACTIVE);
    assert_string_equal(after.key_uri, before.key_uri);
    if (before.order_url != NULL)
        assert_string_equal(after.order_url, before.order_url);
    if (before.chain_pem != NULL)
        assert_string_equal(after.chain_pem, before.chain_pem);
    assert_int_equal(world.ca.orders, 1);
    assert_int_equal(world.ca.finalized, 1);
    assert_int_equal(keys_named_sp(sp.token), keys);
    assert_signs(&sp);
    sks_credential_clear(&before);
    sks_credential_clear(&after);
}

static void
death_after_the_key_is_survived(void **state)
{
    (void)state;
    run_that_dies_after("generated", SKS_GENERATED, 0);
}

static void
death_after_the_order_is_survived(void **state)
{
    (void)state;
    run_that_dies_after("requested", SKS_REQUESTED, 1);
}

static void
death_with_an_spc_token_is_survived(void **state)
{
    (void)state;
    run_that_dies_after("authorised", SKS_REQUESTED, 1);
}

static void
death_after_issuance_is_survived(void **state)
{
    (void)state;
    run_that_dies_after("issued", SKS_ISSUED, 1);
}

static void
death_after_publication_is_survived(void **state)
{
    (void)state;
    run_that_dies_after("published", SKS_PUBLISHED, 1);
}

static void
second_enrollment_takes_the_place_of_the_first(void **state)
{
    struct sks_credential first;
    struct sks_credential second;
    struct hsm_reason why;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    first = last_credential(&count);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    second = last_credential(&count);
    assert_int_equal(count, 2);
    assert_int_equal(second.state, SKS_ACTIVE);
    assert_string_not_equal(first.key_uri, second.key_uri);
    assert_string_not_equal(first.x5u, second.x5u);
    sks_credential_clear(&first);
    sks_credential_clear(&second);
    assert_signs(&sp);
}

static bool
always(void *context)
{
    (void)context;
    return true;
}

static enum sks_state
state_of(struct sp *sp, int64_t id)
{
    struct sks_credential found = {.id = 0};
    enum sks_state state;

    assert_int_equal(sks_catalogue_find(sp->catalogue, id, &found), HSM_OK);
    state = found.state;
    sks_credential_clear(&found);
    return state;
}

/* The CA does not backdate notBefore, so a call made up to a minute ago lies before it. Such calls
 * are signed with the predecessor until there can be none left. */
static void
a_successor_signs_when_no_call_is_older_than_its_certificate(void **state)
{
    struct sks_credential first;
    struct sks_credential second;
    struct hsm_reason why;
    size_t count;

    (void)state;
    assert_int_equal(enroll_until("never"), HSM_OK);
    first = last_credential(&count);
    assert_int_equal(enroll_until("published"), DIED);
    second = last_credential(&count);
    assert_int_equal(count, 2);
    for (int waits = 1; waits >= 0; waits--) {
        time_t begun = time(NULL);
        CLEAR_AFTER(sp_close) struct sp sp;

        sp_open(&sp, here(), ECO_SPC);
        second.not_before = begun - (waits ? SKS_FRESHNESS_S / 2 : SKS_FRESHNESS_S - 2);
        assert_int_equal(sks_catalogue_put(sp.catalogue, &second), HSM_OK);
        sp.enrollment.stopped = waits ? always : NULL;
        assert_int_equal(enroll(&sp, &why), waits ? HSM_ERR_BUSY : HSM_OK);
        assert_int_equal(state_of(&sp, first.id), waits ? SKS_ACTIVE : SKS_RETIRING);
        assert_int_equal(state_of(&sp, second.id), waits ? SKS_PUBLISHED : SKS_ACTIVE);
        if (!waits)
            assert_true(time(NULL) >= second.not_before + SKS_FRESHNESS_S);
        assert_signs(&sp);
    }
    sks_credential_clear(&first);
    sks_credential_clear(&second);
}

/* Without a predecessor, the credential is activated at once and signs the calls that it covers. */
static void
the_first_signs_at_once(void **state)
{
    struct sks_credential first;
    struct hsm_reason why;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_int_equal(enroll_until("published"), DIED);
    first = last_credential(&count);
    sp_open(&sp, here(), ECO_SPC);
    first.not_before = time(NULL) - 1;
    assert_int_equal(sks_catalogue_put(sp.catalogue, &first), HSM_OK);
    sp.enrollment.stopped = always;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(state_of(&sp, first.id), SKS_ACTIVE);
    sks_credential_clear(&first);
}

/* The token was reset, or another token now has its label. */
static void
a_credential_whose_key_is_gone_on_the_way_is_given_up(void **state)
{
    struct sks_credential lost;
    struct hsm_key *key = NULL;
    struct hsm_reason why;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_int_equal(enroll_until("issued"), DIED);
    lost = last_credential(&count);
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(hsm_key_find(sp.token, lost.key_uri, &key), HSM_OK);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(state_of(&sp, lost.id), SKS_RETIRED);
    assert_last_state(SKS_ACTIVE, 2);
    assert_signs(&sp);
    sks_credential_clear(&lost);
}

/* SoftHSM was killed while it generated the key: the catalogue has only the key's label, and
 * CKA_LOCAL is not set yet. */
static void
a_credential_whose_key_was_half_generated_is_given_up(void **state)
{
    struct sks_credential lost;
    struct hsm_reason why;
    struct raw *raw = raw_open("sp");
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_true(raw_import(raw, "half-generated", 1));
    raw_close(raw);
    assert_int_equal(enroll_until("generated"), DIED);
    lost = last_credential(&count);
    free(lost.key_uri);
    lost.key_uri = strdup("pkcs11:object=half-generated");
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(sks_catalogue_put(sp.catalogue, &lost), HSM_OK);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(state_of(&sp, lost.id), SKS_RETIRED);
    assert_last_state(SKS_ACTIVE, 2);
    assert_signs(&sp);
    sks_credential_clear(&lost);
}

/* ---- obstacles ---- */

static void
wrong_password_is_denied_and_the_order_kept(void **state)
{
    struct hsm_secret *wrong = NULL;
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(hsm_secret_new("wrong", 5, &wrong), HSM_OK);
    sp.login.password = wrong;
    assert_int_equal(enroll(&sp, &why), HSM_ERR_DENIED);
    assert_null(strstr(why.text, "wrong"));
    assert_last_state(SKS_REQUESTED, 1);
    sp.login.password = sp.password;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 1);
    assert_int_equal(world.ca.orders, 1);
    hsm_secret_free(wrong);
}

static void
spc_of_somebody_else_is_denied(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), "5678");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_DENIED);
    assert_last_state(SKS_REQUESTED, 1);
}

static void
text_that_is_no_spc_is_refused(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), "12 34");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_MALFORMED);
}

static void
busy_ca_is_asked_again_by_the_next_run(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    break_at(&world.ca, "/acme/new-order", 503, "", "text/plain");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_BUSY);
    assert_last_state(SKS_GENERATED, 1);
    world.ca.broken = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 1);
}

/* The CA has lost or invalidated the order: a new order is placed for the same key. */
static void
order_that_is_gone_is_replaced(void **state)
{
    static const char problem[] =
        "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"no such order\"}";
    struct sks_credential before;
    struct sks_credential after;
    struct hsm_reason why;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_int_equal(enroll_until("requested"), DIED);
    before = last_credential(&count);
    break_at(&world.ca, strstr(before.order_url, "/acme/order/"), 404, problem,
             "application/problem+json");
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    after = last_credential(&count);
    assert_int_equal(count, 1);
    assert_string_equal(after.key_uri, before.key_uri);
    assert_string_not_equal(after.order_url, before.order_url);
    assert_int_equal(after.state, SKS_ACTIVE);
    world.ca.broken = NULL;
    sks_credential_clear(&before);
    sks_credential_clear(&after);
}

/* The CA issued a certificate for another key: the credential is retired. */
static void
certificate_of_another_key_retires_the_credential(void **state)
{
    char *pem = NULL;
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(certs_chain_pem(world.eco.sp, &pem), HSM_OK);
    break_at(&world.ca, "/acme/cert/", 200, pem, "application/pem-certificate-chain");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_UNTRUSTED);
    assert_string_equal(why.text, "the certificate is for another key");
    assert_last_state(SKS_RETIRED, 1);
    world.ca.broken = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 2);
    free(pem);
}

/* An enrollment whose certificate was issued but refused: its root is not on the list. */
static void
leave_what_is_issued(struct sp *sp)
{
    struct sks_trust *strangers = NULL;
    struct certs_chain *roots = NULL;
    struct hsm_reason why;

    assert_int_equal(certs_chain_read(data_path("self/sti-ca-root.cert.pem"), &roots), HSM_OK);
    assert_int_equal(sks_trust_fixed(roots, NULL, 0, NULL, sp->pa_anchors, &strangers), HSM_OK);
    sp->enrollment.trust = strangers;
    assert_int_equal(enroll(sp, &why), HSM_ERR_UNTRUSTED);
    assert_last_state(SKS_REQUESTED, 1); /* the root may be added to the list later */
    sp->enrollment.trust = sp->trust;
    sks_trust_free(strangers);
    certs_chain_free(roots);
}

static void
chain_to_an_untrusted_root_is_not_published(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    leave_what_is_issued(&sp);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 1);
    assert_int_equal(world.ca.finalized, 1);
}

/* It stays at the CA and would otherwise be fetched again and again. */
static void
certificate_that_was_revoked_before_it_was_taken_is_given_up(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp before, after;

    (void)state;
    sp_open(&before, here(), ECO_SPC);
    leave_what_is_issued(&before);
    revoke_the_last();
    sp_open(&after, here(), ECO_SPC); /* with the current CRL */
    assert_int_equal(enroll(&after, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "revoked"));
    assert_last_state(SKS_RETIRED, 1);
    assert_int_equal(enroll(&after, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 2);
    assert_signs(&after);
}

/* The CA no longer has the certificate. Its key was certified once and is not certified again. */
static void
certificate_that_is_lost_is_asked_for_with_another_key(void **state)
{
    static const char problem[] =
        "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"no such certificate\"}";
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    leave_what_is_issued(&sp);
    break_at(&world.ca, "/acme/cert/", 404, problem, "application/problem+json");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "certified before"));
    assert_last_state(SKS_RETIRED, 1);
    world.ca.broken = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 2);
    assert_int_equal(world.ca.finalized, 3);
}

/* An answer of an intermediary between client and CA says nothing about the order. */
static void
an_order_survives_who_refuses_for_another_reason(void **state)
{
    static const struct {
        const char *path;
        int status;
        const char *body, *content_type;
    } cases[] = {
        {"/acme/new-account", 403, "<html>sign in</html>", "text/html"},
        {"/acme/order/", 403, "<html>sign in</html>", "text/html"},
        {"/acme/new-account", 401,
         "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"not now\"}",
         "application/problem+json"},
    };
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    assert_int_equal(enroll_until("requested"), DIED);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct acme_client *client = NULL;

        sp_open(&sp, here(), ECO_SPC);
        assert_int_equal(
            acme_client_new(&(struct acme_client_config){.http = sp.http,
                                                         .directory_url = world.directory,
                                                         .account_key = sp.account_key,
                                                         .poll_limit_s = 5},
                            &client, &why),
            HSM_OK);
        sp.enrollment.client = client; /* has not looked up its account yet */
        break_at(&world.ca, cases[i].path, cases[i].status, cases[i].body, cases[i].content_type);
        assert_int_equal(enroll(&sp, &why), HSM_ERR_DENIED);
        assert_last_state(SKS_REQUESTED, 1);
        world.ca.broken = NULL;
        acme_client_free(client);
        sp_close(&sp);
    }
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(world.ca.orders, 1);
}

static void
chain_that_cannot_be_fetched_is_not_activated(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum hsm_status wanted;
    } cases[] = {
        {404, "", HSM_ERR_BUSY},
        {500, "", HSM_ERR_BUSY},
        {302, "", HSM_ERR_BUSY},
        {200, "", HSM_ERR_UNTRUSTED},
        {200, "-----BEGIN CERTIFICATE-----\n", HSM_ERR_UNTRUSTED},
    };
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    for (size_t i = 0; i < COUNT(cases); i++) {
        break_at(&world.cr, "/", cases[i].status, cases[i].body,
                 "application/pem-certificate-chain");
        assert_int_equal(enroll(&sp, &why), cases[i].wanted);
        assert_last_state(SKS_ISSUED, 1);
    }
    world.cr.broken = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 1);
    assert_int_equal(world.ca.finalized, 1); /* issued once */
}

/* A credential that was not completed before its certificate expired. */
static void
credential_that_ended_on_the_way_is_given_up(void **state)
{
    char *const spc = (char *)(uintptr_t)ECO_SPC;
    struct sks_credential old = {.state = SKS_ISSUED,
                                 .spc = spc,
                                 .token_uri = (char *)(uintptr_t)TOKEN_URI,
                                 .key_uri = (char *)(uintptr_t) "pkcs11:object=old",
                                 .ca_directory = world.directory,
                                 .chain_pem = (char *)(uintptr_t) "PEM",
                                 .not_after = time(NULL) - 1};
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(sks_catalogue_put(sp.catalogue, &old), HSM_OK);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_last_state(SKS_ACTIVE, 2);
}

/* A credential that another CA or token was to complete is left alone. */
static void
credential_of_another_ca_is_left_alone(void **state)
{
    struct sks_credential other = {.state = SKS_GENERATED,
                                   .spc = (char *)(uintptr_t)ECO_SPC,
                                   .token_uri = (char *)(uintptr_t)TOKEN_URI,
                                   .key_uri = (char *)(uintptr_t) "pkcs11:object=other",
                                   .ca_directory = (char *)(uintptr_t) "https://other.example/"};
    struct hsm_reason why;
    struct sks_credential *list = NULL;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    assert_int_equal(sks_catalogue_put(sp.catalogue, &other), HSM_OK);
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(sks_catalogue_list(sp.catalogue, NULL, &list, &count), HSM_OK);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].state, SKS_GENERATED);
    assert_int_equal(list[1].state, SKS_ACTIVE);
    sks_credentials_free(list, count);
}

/* ---- an STI-CA that hosts the chains ---- */

static struct sks_x5u_cache *
rules_with_port(struct sp *sp, unsigned port)
{
    const unsigned ports[] = {port, 0};
    const struct sks_x5u_config config = {
        .http = sp->http, .ports = ports, .private_addresses = true};
    struct sks_x5u_cache *rules = NULL;

    assert_int_equal(sks_x5u_cache_new(&config, &rules), HSM_OK);
    return rules;
}

static size_t
own_chains(void)
{
    char path[512];
    struct dirent *entry;
    size_t found = 0;
    DIR *dir;

    path_in(world.dir, "cr", path);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        found += entry->d_name[0] != '.';
    closedir(dir);
    return found;
}

static void
x5u_is_where_the_ca_hosts_the_chain(void **state)
{
    struct sks_credential last;
    struct hsm_reason why;
    struct certs_chain *hosted = NULL;
    size_t count;
    CLEAR_AFTER(sp_close) struct sp sp;
    struct sks_x5u_cache *rules;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    rules = rules_with_port(&sp, world.ca.server.port);
    sp.enrollment.hosted_by_ca = rules;
    sp.enrollment.private_addresses = true;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    last = last_credential(&count);
    assert_int_equal(last.state, SKS_ACTIVE);
    assert_int_equal(strncmp(last.x5u, world.ca.server.base, strlen(world.ca.server.base)), 0);
    assert_int_equal(acme_http_fetch_chain(sp.http, last.x5u, &hosted, &why), HSM_OK);
    assert_int_equal(own_chains(), 0);
    assert_signs(&sp);
    certs_chain_free(hosted);
    sks_credential_clear(&last);
    sks_x5u_cache_free(rules);
}

/* A hosted chain that verifiers would refuse, or cannot fetch, is not activated; it is checked
 * again at the next attempt. */
static void
chain_that_the_ca_does_not_host_well_is_not_activated(void **state)
{
    struct hsm_reason why;
    char *pem = NULL;
    CLEAR_AFTER(sp_close) struct sp sp;
    struct sks_x5u_cache *strict, *rules;

    (void)state;
    sp_open(&sp, here(), ECO_SPC);
    strict = rules_with_port(&sp, 1);
    rules = rules_with_port(&sp, world.ca.server.port);
    assert_int_equal(certs_chain_pem(world.eco.sp, &pem), HSM_OK);
    sp.enrollment.hosted_by_ca = strict;
    assert_int_equal(enroll(&sp, &why), HSM_ERR_MALFORMED);
    assert_last_state(SKS_ISSUED, 1);
    sp.enrollment.hosted_by_ca = rules;
    assert_int_equal(enroll(&sp, &why), HSM_ERR_BUSY); /* verifiers refuse such addresses */
    assert_non_null(strstr(why.text, "public address"));
    assert_last_state(SKS_ISSUED, 1);
    sp.enrollment.private_addresses = true;
    break_at(&world.ca, "/acme/chain/", 404, "", "text/plain");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_BUSY);
    break_at(&world.ca, "/acme/chain/", 200, pem, "application/pem-certificate-chain");
    assert_int_equal(enroll(&sp, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "serves another certificate"));
    assert_last_state(SKS_ISSUED, 1);
    assert_null(sign(&sp));
    world.ca.broken = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(world.ca.orders, 1);
    free(pem);
    sks_x5u_cache_free(strict);
    sks_x5u_cache_free(rules);
}

static void
an_order_without_x5u_wants_an_sti_cr_of_ones_own(void **state)
{
    struct hsm_reason why;
    CLEAR_AFTER(sp_close) struct sp sp;
    struct sks_x5u_cache *rules;

    (void)state;
    assert_int_equal(enroll_until("issued"), DIED); /* the order's x5u was not fetched yet */
    sp_open(&sp, here(), ECO_SPC);
    rules = rules_with_port(&sp, world.ca.server.port);
    sp.enrollment.hosted_by_ca = rules;
    assert_int_equal(enroll(&sp, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "names no x5u"));
    assert_last_state(SKS_ISSUED, 1);
    sp.enrollment.hosted_by_ca = NULL;
    assert_int_equal(enroll(&sp, &why), HSM_OK);
    assert_int_equal(own_chains(), 1);
    sks_x5u_cache_free(rules);
}

#define CASE(name) cmocka_unit_test_setup(name, sp_world_begin)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(enrollment_goes_through_every_step),
        CASE(death_after_the_key_is_survived),
        CASE(death_after_the_order_is_survived),
        CASE(death_with_an_spc_token_is_survived),
        CASE(death_after_issuance_is_survived),
        CASE(death_after_publication_is_survived),
        CASE(second_enrollment_takes_the_place_of_the_first),
        CASE(a_successor_signs_when_no_call_is_older_than_its_certificate),
        CASE(the_first_signs_at_once),
        CASE(a_credential_whose_key_is_gone_on_the_way_is_given_up),
        CASE(a_credential_whose_key_was_half_generated_is_given_up),
        CASE(wrong_password_is_denied_and_the_order_kept),
        CASE(spc_of_somebody_else_is_denied),
        CASE(text_that_is_no_spc_is_refused),
        CASE(busy_ca_is_asked_again_by_the_next_run),
        CASE(order_that_is_gone_is_replaced),
        CASE(certificate_of_another_key_retires_the_credential),
        CASE(chain_to_an_untrusted_root_is_not_published),
        CASE(certificate_that_was_revoked_before_it_was_taken_is_given_up),
        CASE(certificate_that_is_lost_is_asked_for_with_another_key),
        CASE(an_order_survives_who_refuses_for_another_reason),
        CASE(chain_that_cannot_be_fetched_is_not_activated),
        CASE(credential_that_ended_on_the_way_is_given_up),
        CASE(credential_of_another_ca_is_left_alone),
        CASE(x5u_is_where_the_ca_hosts_the_chain),
        CASE(chain_that_the_ca_does_not_host_well_is_not_activated),
        CASE(an_order_without_x5u_wants_an_sti_cr_of_ones_own),
    };

    if (argc == 9 && strcmp(argv[1], "enroll") == 0)
        return enroll_and_die(argv);
    return cmocka_run_group_tests(tests, sp_world_start, sp_world_stop);
}
