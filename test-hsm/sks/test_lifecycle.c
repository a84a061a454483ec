/* test_lifecycle.c - mirrors sks/src/lifecycle.c, catalogue_kms.c and the alarms of kms_watch.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <acme/store.h>
#include <certs/cert.h>
#include <hsm/log.h>
#include <sks/kms.h>
#include <sks/lifecycle.h>

#include "data.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define URI          "pkcs11:token=sp"
#define DAY          86400

static struct {
    struct hsm_secret *pin;
    struct sks_tokens *tokens;
    struct sks_catalogue *catalogue;
    struct sks_lifecycle lifecycle;
    time_t now;
} world;

/* Add a credential with a key in the token; one in state active is activated. */
static int64_t
add(const char *label, enum sks_state state, const char *key_uri)
{
    struct hsm_token *token = sks_tokens_get(world.tokens, URI);
    struct hsm_key *key = NULL;
    struct sks_credential credential = {.state = state == SKS_ACTIVE ? SKS_PUBLISHED : state,
                                        .spc = strdup("1234"),
                                        .token_uri = strdup(URI),
                                        .chain_pem = strdup("PEM"),
                                        .x5u = strdup(label),
                                        .not_before = world.now - DAY,
                                        .not_after = world.now + DAY};
    int64_t id;

    if (key_uri == NULL)
        assert_int_equal(hsm_key_generate(token, label, &key), HSM_OK);
    credential.key_uri = strdup(key_uri != NULL ? key_uri : hsm_key_uri(key));
    assert_int_equal(sks_catalogue_put(world.catalogue, &credential), HSM_OK);
    id = credential.id;
    if (state == SKS_ACTIVE)
        assert_int_equal(sks_catalogue_activate(world.catalogue, id), HSM_OK);
    sks_credential_clear(&credential);
    hsm_key_free(key);
    return id;
}

static void
assert_state(int64_t id, enum sks_state wanted)
{
    struct sks_credential credential;

    assert_int_equal(sks_catalogue_find(world.catalogue, id, &credential), HSM_OK);
    assert_string_equal(sks_state_text(credential.state), sks_state_text(wanted));
    sks_credential_clear(&credential);
}

static bool
has_key(const char *label)
{
    struct hsm_key_info *infos = NULL;
    size_t count;
    bool found = false;

    assert_int_equal(hsm_key_list(sks_tokens_get(world.tokens, URI), &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++)
        found = found || strcmp(infos[i].label, label) == 0;
    free(infos);
    return found;
}

static void
a_credential_ends_step_by_step_and_its_key_last(void **state)
{
    int64_t id = add("steps", SKS_ACTIVE, NULL);
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now), HSM_OK);
    assert_state(id, SKS_ACTIVE);
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, id, &why), HSM_ERR_USAGE);
    assert_int_equal(sks_lifecycle_retire(&world.lifecycle, id, &why), HSM_OK);
    assert_int_equal(sks_lifecycle_retire(&world.lifecycle, id, &why), HSM_ERR_USAGE);
    assert_state(id, SKS_RETIRING);
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + 90), HSM_OK);
    assert_state(id, SKS_RETIRING);
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + 200), HSM_OK);
    assert_state(id, SKS_RETIRED);
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + 200), HSM_OK);
    assert_state(id, SKS_RETIRED); /* it has only just entered this state */
    assert_true(has_key("steps"));
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + 2000), HSM_OK);
    assert_state(id, SKS_DESTROYED);
    assert_false(has_key("steps"));
}

static void
what_has_ended_signs_no_more(void **state)
{
    int64_t id = add("ended", SKS_ACTIVE, NULL);

    (void)state;
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + DAY + 1), HSM_OK);
    assert_state(id, SKS_RETIRING);
}

/* A doubtful clock may be ahead for a moment: nothing irreversible is done meanwhile. */
static void
a_clock_that_is_doubted_ends_nothing(void **state)
{
    struct sks_lifecycle doubting = world.lifecycle;
    int64_t id = add("doubted", SKS_ACTIVE, NULL);
    struct hsm_reason why = {""};

    (void)state;
    doubting.clock_is_doubtful = true;
    assert_int_equal(sks_lifecycle_tidy(&doubting, world.now + 3650 * (time_t)DAY), HSM_OK);
    assert_state(id, SKS_ACTIVE);
    assert_int_equal(sks_lifecycle_retire(&doubting, id, &why), HSM_OK);
    assert_int_equal(sks_lifecycle_tidy(&doubting, world.now - 60), HSM_OK);
    assert_state(id, SKS_RETIRING);
    /* A state that was entered while the clock was ahead does not last until that time. */
    assert_int_equal(sks_lifecycle_tidy(&doubting, world.now - 30 * (time_t)DAY), HSM_OK);
    assert_state(id, SKS_RETIRED);
}

/* The URI names another token; the private key can still sign. */
static void
a_key_that_cannot_be_taken_hold_of_is_not_said_to_be_gone(void **state)
{
    struct hsm_key *key = NULL;
    struct hsm_reason why = {""};
    int64_t id;

    (void)state;
    assert_int_equal(hsm_key_generate(sks_tokens_get(world.tokens, URI), "renamed", &key), HSM_OK);
    id = add("renamed", SKS_RETIRED, "pkcs11:token=before;object=renamed");
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, id, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "its private key renamed is in the token"));
    assert_state(id, SKS_RETIRED);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, id, &why), HSM_OK);
    assert_state(id, SKS_DESTROYED);
}

static void
keys_are_kept_when_the_operator_says_so(void **state)
{
    struct sks_lifecycle keeping = world.lifecycle;
    struct hsm_reason why = {""};
    int64_t id = add("kept", SKS_RETIRED, NULL);

    (void)state;
    keeping.keep_keys = true;
    assert_int_equal(sks_lifecycle_tidy(&keeping, world.now + 10 * DAY), HSM_OK);
    assert_state(id, SKS_RETIRED);
    assert_true(has_key("kept"));
    assert_int_equal(sks_lifecycle_destroy(&keeping, id, &why), HSM_OK); /* explicit request */
    assert_false(has_key("kept"));
}

static void
a_key_that_another_credential_has_is_not_destroyed(void **state)
{
    struct hsm_reason why = {""};
    int64_t active = add("shared", SKS_ACTIVE, NULL);
    struct sks_credential credential;
    int64_t retired;

    (void)state;
    assert_int_equal(sks_catalogue_find(world.catalogue, active, &credential), HSM_OK);
    retired = add("shares", SKS_RETIRED, credential.key_uri);
    sks_credential_clear(&credential);
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, retired, &why), HSM_ERR_USAGE);
    assert_non_null(strstr(why.text, "has its key, too"));
    assert_true(has_key("shared"));
    assert_state(retired, SKS_RETIRED);
}

/* A run died after it destroyed the key and before it recorded this, or the credential never had a
 * key. */
static void
a_key_that_is_gone_already_is_gone(void **state)
{
    struct hsm_reason why = {""};
    int64_t id = add("never-made", SKS_RETIRED, "pkcs11:object=never-made");

    (void)state;
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, id, &why), HSM_OK);
    assert_state(id, SKS_DESTROYED);
    assert_int_equal(sks_lifecycle_destroy(&world.lifecycle, 4711, &why), HSM_ERR_NOT_FOUND);
}

/* An STI-CR with one chain; free() its x5u. */
static void
publish_one(struct sks_repository **repository, char **x5u)
{
    char dir[512];
    struct certs_chain *chain = NULL;

    snprintf(dir, sizeof(dir), "%s/cr", softhsm_dir());
    assert_int_equal(certs_chain_read(data_path("self/sti-ca-root.cert.pem"), &chain), HSM_OK);
    assert_int_equal(sks_repository_open(dir, "https://cr.example/sp", repository), HSM_OK);
    assert_int_equal(sks_repository_publish(*repository, chain, x5u), HSM_OK);
    certs_chain_free(chain);
}

static bool
is_served(const char *x5u)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/cr%s", softhsm_dir(), strrchr(x5u, '/'));
    return access(path, F_OK) == 0;
}

static void
what_was_destroyed_long_ago_is_forgotten_with_its_chain(void **state)
{
    const struct sks_renewal renewal = {.due = 7};
    struct sks_lifecycle forgetting = world.lifecycle;
    int64_t others = add("https://cr.elsewhere.example/x.pem", SKS_DESTROYED, "pkcs11:object=none");
    int64_t retired = add("kept-as-well", SKS_RETIRED, "pkcs11:object=nobody");
    struct sks_credential gone;
    struct sks_renewal read;
    char *x5u = NULL;
    int64_t id;

    (void)state;
    publish_one(&forgetting.repository, &x5u);
    id = add(x5u, SKS_RETIRED, "pkcs11:object=never-made");
    forgetting.destroyed_s = DAY;
    assert_int_equal(sks_catalogue_renewal_put(world.catalogue, id, &renewal), HSM_OK);
    assert_int_equal(sks_catalogue_forget(world.catalogue, id), HSM_ERR_USAGE);
    assert_int_equal(sks_lifecycle_destroy(&forgetting, id, NULL), HSM_OK);
    forgetting.keep_keys = true;
    assert_int_equal(sks_lifecycle_tidy(&forgetting, world.now + DAY - 60), HSM_OK);
    assert_state(id, SKS_DESTROYED);
    assert_true(is_served(x5u));
    forgetting.spc = "5678"; /* another provider's */
    assert_int_equal(sks_lifecycle_tidy(&forgetting, world.now + 3 * DAY), HSM_OK);
    assert_state(id, SKS_DESTROYED);
    forgetting.spc = "1234";
    assert_int_equal(sks_lifecycle_tidy(&forgetting, world.now + 3 * DAY), HSM_OK);
    assert_int_equal(sks_catalogue_find(world.catalogue, id, &gone), HSM_ERR_NOT_FOUND);
    assert_int_equal(sks_catalogue_find(world.catalogue, others, &gone), HSM_ERR_NOT_FOUND);
    assert_int_equal(sks_catalogue_renewal(world.catalogue, id, &read), HSM_ERR_NOT_FOUND);
    assert_false(is_served(x5u));
    assert_state(retired, SKS_RETIRED); /* keep_keys is set */
    sks_repository_close(forgetting.repository);
    free(x5u);
}

static void
a_certificate_that_has_not_ended_is_not_forgotten(void **state)
{
    struct sks_lifecycle forgetting = world.lifecycle;
    int64_t id = add("revocable", SKS_DESTROYED, "pkcs11:object=gone");

    (void)state;
    forgetting.destroyed_s = 1;
    assert_int_equal(sks_lifecycle_tidy(&forgetting, world.now + DAY), HSM_OK);
    assert_state(id, SKS_DESTROYED);
    assert_int_equal(sks_lifecycle_tidy(&world.lifecycle, world.now + 9 * DAY), HSM_OK);
    assert_state(id, SKS_DESTROYED); /* no period is configured */
}

/* ---- what the SP-KMS records ---- */

static void
what_is_remembered_is_no_new_version(void **state)
{
    const struct sks_renewal renewal = {
        .due = 7, .start = 5, .end = 9, .ask_at = 3, .explanation_url = "https://ca.example/why"};
    const struct sks_account_owner owner = {"", "https://ca/", URI};
    const struct sks_account_owner elsewhere = {"", "https://ca/", "other"};
    const struct sks_account_owner hosted = {"5678", "https://ca/", URI};
    const struct sks_account_keys keys = {.label = "a", .next = "b"};
    struct sks_renewal read = {.due = 0};
    struct sks_account_keys read_keys;
    struct sks_account_row *rows = NULL;
    int64_t before, after;
    size_t count;
    bool told = true;

    (void)state;
    assert_int_equal(sks_catalogue_version(world.catalogue, &before), HSM_OK);
    assert_int_equal(sks_catalogue_renewal(world.catalogue, 99, &read), HSM_ERR_NOT_FOUND);
    assert_int_equal(sks_catalogue_renewal_put(world.catalogue, 99, &renewal), HSM_OK);
    assert_int_equal(sks_catalogue_renewal(world.catalogue, 99, &read), HSM_OK);
    assert_memory_equal(&read, &renewal, sizeof(read));
    assert_int_equal(sks_catalogue_account(world.catalogue, &owner, &read_keys), HSM_OK);
    assert_string_equal(read_keys.label, "");
    assert_int_equal(sks_catalogue_account_put(world.catalogue, &owner, &keys), HSM_OK);
    assert_int_equal(sks_catalogue_account(world.catalogue, &owner, &read_keys), HSM_OK);
    assert_string_equal(read_keys.next, "b");
    assert_int_equal(sks_catalogue_account(world.catalogue, &elsewhere, &read_keys), HSM_OK);
    assert_string_equal(read_keys.label, ""); /* one account per token */
    assert_int_equal(sks_catalogue_account(world.catalogue, &hosted, &read_keys), HSM_OK);
    assert_string_equal(read_keys.label, ""); /* and per hosted provider */
    assert_int_equal(sks_catalogue_accounts(world.catalogue, &rows, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].spc, "");
    assert_string_equal(rows[0].ca_directory, "https://ca/");
    assert_string_equal(rows[0].token_uri, URI);
    assert_string_equal(rows[0].keys.label, "a");
    assert_string_equal(rows[0].keys.next, "b");
    sks_account_rows_free(rows, count);
    assert_int_equal(sks_catalogue_is_told(world.catalogue, 99, &told), HSM_OK);
    assert_false(told);
    assert_int_equal(sks_catalogue_told(world.catalogue, 99), HSM_OK);
    assert_int_equal(sks_catalogue_is_told(world.catalogue, 99, &told), HSM_OK);
    assert_true(told);
    assert_int_equal(sks_catalogue_version(world.catalogue, &after), HSM_OK);
    assert_int_equal(before, after);
}

static void
a_trouble_is_counted_until_it_is_over(void **state)
{
    struct sks_trouble *list = NULL;
    size_t count = 0;

    (void)state;
    assert_int_equal(sks_catalogue_trouble_put(world.catalogue, "1234", "m", "first", 100), HSM_OK);
    assert_int_equal(sks_catalogue_trouble_put(world.catalogue, "5678", "m", "other", 150), HSM_OK);
    assert_int_equal(sks_catalogue_trouble_put(world.catalogue, "1234", "m", "second", 200),
                     HSM_OK);
    assert_int_equal(sks_catalogue_troubles(world.catalogue, &list, &count), HSM_OK);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].spc, "1234");
    assert_string_equal(list[0].text, "second");
    assert_int_equal(list[0].since, 100);
    assert_int_equal(list[0].last, 200);
    assert_int_equal(list[0].count, 2);
    sks_troubles_free(list, count);
    assert_int_equal(sks_catalogue_trouble_put(world.catalogue, "1234", "m", NULL, 300), HSM_OK);
    assert_int_equal(sks_catalogue_troubles(world.catalogue, &list, &count), HSM_OK);
    assert_int_equal(count, 1); /* ended for one provider only */
    assert_string_equal(list[0].spc, "5678");
    sks_troubles_free(list, count);
}

static void
alarms_rise_between_due_and_end(void **state)
{
    static const struct {
        time_t now;
        const char *wanted;
    } cases[] = {
        {999, "fine"},    {1000, "due"},    {1499, "due"},   {1500, "late"},  {1899, "late"},
        {1900, "urgent"}, {2000, "urgent"}, {2001, "ended"}, {9999, "ended"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_string_equal(sks_alarm_text(sks_alarm_at(1000, 2000, cases[i].now)),
                            cases[i].wanted);
}

static const struct sks_watched *
find_watched(const struct sks_watched *things, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(things[i].what, what, strlen(what)) == 0)
            return &things[i];
    fail_msg("%s: not watched", what);
    return NULL;
}

/* For a credential, its decided renewal counts; a list or a CRL that is absent counts as ended. */
static void
what_signing_hangs_on_is_watched(void **state)
{
    const struct sks_renewal renewal = {.due = world.now + 1000};
    struct sks_sp_provider providers[] = {{.spc = (char *)(uintptr_t) "1234"},
                                          {.spc = (char *)(uintptr_t) "5678"}};
    struct sks_sp_config config = {.providers = providers,
                                   .provider_count = 2,
                                   .pa_anchors =
                                       (char *)(uintptr_t)data_path("self/pa-root.cert.pem")};
    int64_t id = add("watched", SKS_ACTIVE, NULL);
    struct sks_watched *things = NULL;
    const struct sks_watched *one;
    struct certs_chain *anchors = NULL;
    struct sks_trust *trust = NULL;
    char what[64];
    size_t count;

    (void)state;
    assert_int_equal(certs_chain_read(config.pa_anchors, &anchors), HSM_OK);
    assert_int_equal(sks_trust_fixed(anchors, NULL, 0, NULL, anchors, &trust), HSM_OK);
    assert_int_equal(sks_catalogue_renewal_put(world.catalogue, id, &renewal), HSM_OK);
    assert_int_equal(sks_kms_watched(&config, world.catalogue, trust, world.now, &things, &count),
                     HSM_OK);
    snprintf(what, sizeof(what), "certificate of credential %lld (SPC 1234)", (long long)id);
    one = find_watched(things, count, what);
    assert_int_equal(one->due, renewal.due);
    assert_int_equal(one->ends, world.now + DAY);
    one = find_watched(things, count, "active credential of SPC 5678: there is none");
    assert_int_equal(sks_alarm_at(one->due, one->ends, world.now), SKS_ENDED);
    one = find_watched(things, count, "CRL");
    assert_int_equal(sks_alarm_at(one->due, one->ends, world.now), SKS_ENDED);
    (void)find_watched(things, count, "trusted-CA list");
    one = find_watched(things, count, "STI-PA anchor ");
    assert_int_equal(one->ends, certs_cert_not_after(certs_chain_get(anchors, 0)));
    assert_true(one->due < one->ends &&
                one->due > certs_cert_not_before(certs_chain_get(anchors, 0)));
    free(things);
    sks_trust_free(trust);
    certs_chain_free(anchors);
}

/* A catalogue from before hosted providers existed: its accounts become those of [sp]. */
static void
accounts_of_an_older_catalogue_stay(void **state)
{
    static const char *const older[] = {
        "CREATE TABLE credential (id INTEGER PRIMARY KEY, state INTEGER, changed_at INTEGER);",
        "CREATE TABLE acme_account (ca_directory TEXT NOT NULL, token_uri TEXT NOT NULL,"
        " label TEXT NOT NULL, next TEXT NOT NULL, PRIMARY KEY (ca_directory, token_uri));"
        "INSERT INTO acme_account VALUES ('https://ca/', 'pkcs11:token=sp', 'mine', 'soon');"
        "CREATE TABLE trouble (matter TEXT PRIMARY KEY);",
        NULL,
    };
    const struct sks_account_owner owner = {"", "https://ca/", URI};
    const struct sks_account_owner hosted = {"1234", "https://ca/", URI};
    struct sks_catalogue *catalogue = NULL;
    struct acme_store *store = NULL;
    struct sks_account_keys keys;
    char path[512];

    (void)state;
    snprintf(path, sizeof(path), "%s/older.db", softhsm_dir());
    assert_int_equal(acme_store_open(path, older, &store), HSM_OK);
    acme_store_close(store);
    assert_int_equal(sks_catalogue_open(path, &catalogue), HSM_OK);
    assert_int_equal(sks_catalogue_account(catalogue, &owner, &keys), HSM_OK);
    assert_string_equal(keys.label, "mine");
    assert_string_equal(keys.next, "soon");
    assert_int_equal(sks_catalogue_account(catalogue, &hosted, &keys), HSM_OK);
    assert_string_equal(keys.label, "");
    sks_catalogue_close(catalogue);
}

static int
start(void **state)
{
    const char *const dir = (softhsm_start(), softhsm_dir());
    struct sks_token_config config = {.uri = URI, .module = softhsm_module()};
    char path[512];

    (void)state;
    hsm_log_open(&(struct hsm_log_config){.program = "test", .level = HSM_LOG_ERROR});
    hsm_token_close(softhsm_token("sp"));
    snprintf(path, sizeof(path), "%s/catalogue.db", dir);
    world.now = time(NULL);
    if (hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &world.pin) != HSM_OK)
        return -1;
    config.pin = world.pin;
    if (sks_tokens_open(&config, 1, &world.tokens) != HSM_OK ||
        sks_catalogue_open(path, &world.catalogue) != HSM_OK)
        return -1;
    world.lifecycle = (struct sks_lifecycle){
        .catalogue = world.catalogue, .tokens = world.tokens, .retiring_s = 100, .retired_s = 1000};
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    sks_catalogue_close(world.catalogue);
    sks_tokens_close(world.tokens);
    hsm_secret_free(world.pin);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_credential_ends_step_by_step_and_its_key_last),
        cmocka_unit_test(what_has_ended_signs_no_more),
        cmocka_unit_test(a_clock_that_is_doubted_ends_nothing),
        cmocka_unit_test(a_key_that_cannot_be_taken_hold_of_is_not_said_to_be_gone),
        cmocka_unit_test(keys_are_kept_when_the_operator_says_so),
        cmocka_unit_test(a_key_that_another_credential_has_is_not_destroyed),
        cmocka_unit_test(a_key_that_is_gone_already_is_gone),
        cmocka_unit_test(what_was_destroyed_long_ago_is_forgotten_with_its_chain),
        cmocka_unit_test(a_certificate_that_has_not_ended_is_not_forgotten),
        cmocka_unit_test(what_is_remembered_is_no_new_version),
        cmocka_unit_test(accounts_of_an_older_catalogue_stay),
        cmocka_unit_test(a_trouble_is_counted_until_it_is_over),
        cmocka_unit_test(alarms_rise_between_due_and_end),
        cmocka_unit_test(what_signing_hangs_on_is_watched),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
