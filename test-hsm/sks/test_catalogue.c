/* test_catalogue.c - mirrors sks/src/catalogue.c. */
#define _GNU_SOURCE /* nftw */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <acme/store.h>
#include <sks/catalogue.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TOKEN        "pkcs11:token=a"
#define TOKEN_B      "pkcs11:token=b"

static char dir[64];
static char path[96];
static struct sks_catalogue *catalogue;

static int
start(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sti-catalogue.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/catalogue.db", dir);
    return sks_catalogue_open(path, &catalogue) == HSM_OK ? 0 : -1;
}

static int
remove_entry(const char *name, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(name);
}

static int
stop(void **state)
{
    (void)state;
    sks_catalogue_close(catalogue);
    catalogue = NULL;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void
reopen(void)
{
    sks_catalogue_close(catalogue);
    catalogue = NULL;
    assert_int_equal(sks_catalogue_open(path, &catalogue), HSM_OK);
}

/* A credential in the given state, with texts that sks_credential_clear() can release. */
static struct sks_credential
credential(enum sks_state state, const char *spc, const char *token_uri, const char *x5u)
{
    return (struct sks_credential){
        .state = state,
        .spc = strdup(spc),
        .token_uri = strdup(token_uri),
        .key_uri = strdup("pkcs11:object=key"),
        .ca_directory = strdup("https://ca.example/directory"),
        .order_url = state >= SKS_REQUESTED ? strdup("https://ca.example/order/1") : NULL,
        .chain_pem = state >= SKS_ISSUED ? strdup("PEM") : NULL,
        .x5u = x5u != NULL ? strdup(x5u) : NULL,
        .not_after = state >= SKS_ISSUED ? 1800000000 : 0,
    };
}

static int64_t
put(enum sks_state state, const char *spc, const char *token_uri, const char *x5u)
{
    struct sks_credential made = credential(state, spc, token_uri, x5u);
    int64_t id;

    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    id = made.id;
    assert_true(id > 0);
    sks_credential_clear(&made);
    return id;
}

static enum sks_state
state_of(int64_t id)
{
    struct sks_credential *list = NULL;
    size_t count;
    int found = -1;

    assert_int_equal(sks_catalogue_list(catalogue, NULL, &list, &count), HSM_OK);
    for (size_t i = 0; i < count; i++)
        if (list[i].id == id)
            found = (int)list[i].state;
    sks_credentials_free(list, count);
    assert_true(found >= 0);
    return (enum sks_state)found;
}

static int64_t
version(void)
{
    int64_t now;

    assert_int_equal(sks_catalogue_version(catalogue, &now), HSM_OK);
    return now;
}

static void
credential_keeps_everything_across_every_state(void **state)
{
    struct sks_credential made = credential(SKS_GENERATED, "1234", TOKEN, NULL);
    struct sks_credential *list = NULL;
    size_t count;

    (void)state;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    made.state = SKS_REQUESTED;
    made.order_url = strdup("https://ca.example/order/7");
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    made.state = SKS_ISSUED;
    made.chain_pem = strdup("-----BEGIN CERTIFICATE-----\n");
    made.not_after = 1900000000;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    made.state = SKS_PUBLISHED;
    made.x5u = strdup("https://cr.example/1.pem");
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    assert_int_equal(sks_catalogue_activate(catalogue, made.id), HSM_OK);
    reopen();

    assert_int_equal(sks_catalogue_list(catalogue, NULL, &list, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_int_equal(list[0].id, made.id);
    assert_int_equal(list[0].state, SKS_ACTIVE);
    assert_string_equal(list[0].spc, "1234");
    assert_string_equal(list[0].token_uri, TOKEN);
    assert_string_equal(list[0].key_uri, "pkcs11:object=key");
    assert_string_equal(list[0].ca_directory, "https://ca.example/directory");
    assert_string_equal(list[0].order_url, "https://ca.example/order/7");
    assert_string_equal(list[0].chain_pem, "-----BEGIN CERTIFICATE-----\n");
    assert_string_equal(list[0].x5u, "https://cr.example/1.pem");
    assert_int_equal(list[0].not_after, 1900000000);
    sks_credentials_free(list, count);
    sks_credential_clear(&made);
}

static void
what_is_not_known_yet_stays_null(void **state)
{
    struct sks_credential *list = NULL;
    size_t count;

    (void)state;
    put(SKS_GENERATED, "1234", TOKEN, NULL);
    assert_int_equal(sks_catalogue_list(catalogue, "1234", &list, &count), HSM_OK);
    assert_int_equal(count, 1);
    assert_null(list[0].order_url);
    assert_null(list[0].chain_pem);
    assert_null(list[0].x5u);
    assert_int_equal(list[0].not_after, 0);
    sks_credentials_free(list, count);
}

static void
states_never_go_back(void **state)
{
    (void)state;
    for (int from = SKS_REQUESTED; from <= SKS_DESTROYED; from++) {
        char x5u[64];
        struct sks_credential made;

        snprintf(x5u, sizeof(x5u), "https://cr.example/%d.pem", from);
        made = credential((enum sks_state)from, "1234", TOKEN, x5u);
        assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
        for (int to = SKS_GENERATED; to < from; to++) {
            made.state = (enum sks_state)to;
            assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_ERR_USAGE);
            assert_int_equal(state_of(made.id), from);
        }
        sks_credential_clear(&made);
    }
}

static void
state_without_what_it_says_is_refused(void **state)
{
    (void)state;
    for (int missing = 0; missing < 6; missing++) {
        struct sks_credential made =
            credential(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/1.pem");
        char **const texts[] = {&made.spc, &made.token_uri, &made.key_uri, &made.chain_pem,
                                &made.x5u};

        if (missing < 5) {
            free(*texts[missing]);
            *texts[missing] = NULL;
        } else {
            made.not_after = 0;
        }
        assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_ERR_USAGE);
        assert_int_equal(made.id, 0);
        sks_credential_clear(&made);
    }
}

static void
credential_may_be_given_up_from_anywhere(void **state)
{
    struct sks_credential made = credential(SKS_GENERATED, "1234", TOKEN, NULL);

    (void)state;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    made.state = SKS_RETIRED;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    assert_int_equal(state_of(made.id), SKS_RETIRED);
    sks_credential_clear(&made);
}

static void
only_activation_makes_active(void **state)
{
    struct sks_credential made =
        credential(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/1.pem");

    (void)state;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK);
    made.state = SKS_ACTIVE;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_ERR_USAGE);
    assert_int_equal(state_of(made.id), SKS_PUBLISHED);
    assert_int_equal(sks_catalogue_activate(catalogue, made.id), HSM_OK);
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_OK); /* it is active by now */
    assert_int_equal(sks_catalogue_activate(catalogue, made.id), HSM_OK);
    assert_int_equal(state_of(made.id), SKS_ACTIVE);
    sks_credential_clear(&made);
}

static void
activation_retires_the_other_of_the_same_spc_and_token_alone(void **state)
{
    int64_t old = put(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/old.pem");
    int64_t other_token = put(SKS_PUBLISHED, "1234", TOKEN_B, "https://cr.example/b.pem");
    int64_t other_spc = put(SKS_PUBLISHED, "5678", TOKEN, "https://cr.example/c.pem");
    int64_t fresh = put(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/fresh.pem");

    (void)state;
    assert_int_equal(sks_catalogue_activate(catalogue, old), HSM_OK);
    assert_int_equal(sks_catalogue_activate(catalogue, other_token), HSM_OK);
    assert_int_equal(sks_catalogue_activate(catalogue, other_spc), HSM_OK);
    assert_int_equal(state_of(old), SKS_ACTIVE);
    assert_int_equal(sks_catalogue_activate(catalogue, fresh), HSM_OK);
    assert_int_equal(state_of(fresh), SKS_ACTIVE);
    assert_int_equal(state_of(old), SKS_RETIRING);
    assert_int_equal(state_of(other_token), SKS_ACTIVE);
    assert_int_equal(state_of(other_spc), SKS_ACTIVE);
    /* a retiring credential is not activated again */
    assert_int_equal(sks_catalogue_activate(catalogue, old), HSM_ERR_USAGE);
    assert_int_equal(state_of(fresh), SKS_ACTIVE);
}

static void
only_what_is_published_becomes_active(void **state)
{
    (void)state;
    for (int from = SKS_GENERATED; from <= SKS_DESTROYED; from++) {
        char x5u[64];
        int64_t id;

        if (from == SKS_PUBLISHED || from == SKS_ACTIVE)
            continue;
        snprintf(x5u, sizeof(x5u), "https://cr.example/%d.pem", from);
        id = put((enum sks_state)from, "1234", TOKEN, x5u);
        assert_int_equal(sks_catalogue_activate(catalogue, id), HSM_ERR_USAGE);
        assert_int_equal(state_of(id), from);
    }
    assert_int_equal(sks_catalogue_activate(catalogue, 4711), HSM_ERR_NOT_FOUND);
}

static void
x5u_is_never_used_twice(void **state)
{
    struct sks_credential again =
        credential(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/1.pem");

    (void)state;
    put(SKS_DESTROYED, "1234", TOKEN, "https://cr.example/1.pem");
    assert_int_equal(sks_catalogue_put(catalogue, &again), HSM_ERR_EXISTS);
    assert_int_equal(again.id, 0);
    sks_credential_clear(&again);
}

static void
list_is_of_one_spc_or_all_oldest_first(void **state)
{
    int64_t a = put(SKS_GENERATED, "1234", TOKEN, NULL);
    int64_t b = put(SKS_GENERATED, "5678", TOKEN, NULL);
    int64_t c = put(SKS_GENERATED, "1234", TOKEN, NULL);
    struct sks_credential *list = NULL;
    size_t count;

    (void)state;
    assert_int_equal(sks_catalogue_list(catalogue, NULL, &list, &count), HSM_OK);
    assert_int_equal(count, 3);
    assert_true(list[0].id == a && list[1].id == b && list[2].id == c);
    sks_credentials_free(list, count);
    assert_int_equal(sks_catalogue_list(catalogue, "1234", &list, &count), HSM_OK);
    assert_int_equal(count, 2);
    assert_true(list[0].id == a && list[1].id == c);
    sks_credentials_free(list, count);
    assert_int_equal(sks_catalogue_list(catalogue, "none", &list, &count), HSM_OK);
    assert_int_equal(count, 0);
    sks_credentials_free(list, count);
}

static void
list_may_leave_out_what_is_over_or_has_not_begun(void **state)
{
    struct sks_credential *list = NULL;
    int64_t ids[SKS_DESTROYED + 1];
    size_t count;

    (void)state;
    for (int at = SKS_GENERATED; at <= SKS_DESTROYED; at++) {
        char x5u[64];

        snprintf(x5u, sizeof(x5u), "https://cr.example/%d.pem", at);
        ids[at] = put((enum sks_state)at, at == SKS_RETIRING ? "5678" : "1234", TOKEN, x5u);
    }
    assert_int_equal(sks_catalogue_list_in(catalogue, NULL, SKS_ACTIVE, SKS_RETIRED, &list, &count),
                     HSM_OK);
    assert_int_equal(count, 3);
    assert_true(list[0].id == ids[SKS_ACTIVE] && list[1].id == ids[SKS_RETIRING] &&
                list[2].id == ids[SKS_RETIRED]);
    sks_credentials_free(list, count);
    assert_int_equal(
        sks_catalogue_list_in(catalogue, "1234", SKS_ACTIVE, SKS_RETIRED, &list, &count), HSM_OK);
    assert_int_equal(count, 2);
    assert_true(list[0].id == ids[SKS_ACTIVE] && list[1].id == ids[SKS_RETIRED]);
    sks_credentials_free(list, count);
    assert_int_equal(
        sks_catalogue_list_in(catalogue, "5678", SKS_ACTIVE, SKS_ACTIVE, &list, &count), HSM_OK);
    assert_int_equal(count, 0);
    sks_credentials_free(list, count);
}

static void
version_grows_with_each_change_by_anyone(void **state)
{
    struct sks_catalogue *mine = catalogue;
    struct sks_catalogue *other = NULL;
    int64_t before = version();
    int64_t id;

    (void)state;
    assert_int_equal(version(), before); /* reading changes nothing */
    assert_int_equal(sks_catalogue_open(path, &other), HSM_OK);
    catalogue = other;
    id = put(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/1.pem");
    catalogue = mine;
    assert_true(version() > before);
    before = version();
    assert_int_equal(sks_catalogue_activate(other, id), HSM_OK);
    assert_true(version() > before);
    before = version();
    assert_int_equal(sks_catalogue_activate(other, 4711), HSM_ERR_NOT_FOUND);
    assert_int_equal(version(), before);
    sks_catalogue_close(other);
}

static void
unknown_id_is_not_found(void **state)
{
    struct sks_credential made = credential(SKS_GENERATED, "1234", TOKEN, NULL);

    (void)state;
    made.id = 4711;
    assert_int_equal(sks_catalogue_put(catalogue, &made), HSM_ERR_NOT_FOUND);
    sks_credential_clear(&made);
}

/* The process is killed right after a change, without closing anything. */
static void
change_survives_the_death_of_its_process(void **state)
{
    pid_t child;
    int status;

    (void)state;
    sks_catalogue_close(catalogue);
    catalogue = NULL;
    child = fork();
    if (child == 0) {
        struct sks_credential made =
            credential(SKS_PUBLISHED, "1234", TOKEN, "https://cr.example/1.pem");

        if (sks_catalogue_open(path, &catalogue) == HSM_OK &&
            sks_catalogue_put(catalogue, &made) == HSM_OK &&
            sks_catalogue_activate(catalogue, made.id) == HSM_OK)
            raise(SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    reopen();
    assert_int_equal(state_of(1), SKS_ACTIVE);
}

static void
file_that_is_no_catalogue_is_refused(void **state)
{
    char other[128];
    FILE *file;
    struct sks_catalogue *opened = NULL;

    (void)state;
    snprintf(other, sizeof(other), "%s/other.db", dir);
    file = fopen(other, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("not a database\n", file);
    fclose(file);
    assert_int_not_equal(sks_catalogue_open(other, &opened), HSM_OK);
    assert_null(opened);
}

static void
states_have_names(void **state)
{
    static const char *const names[] = {"generated", "requested", "issued",  "published",
                                        "active",    "retiring",  "retired", "destroyed"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++)
        assert_string_equal(sks_state_text((enum sks_state)i), names[i]);
}

/* ---- former versions ---- */

#define DIRECTORY "https://ca.example/directory"

enum hsm_status __real_acme_store_open(const char *place, const char *const *scripts,
                                       struct acme_store **out);
enum hsm_status __wrap_acme_store_open(const char *place, const char *const *scripts,
                                       struct acme_store **out);

static const char *const *migrations; /* of the catalogue, as passed to its store */

/* Replaces acme_store_open() through the linker's --wrap. */
enum hsm_status
__wrap_acme_store_open(const char *place, const char *const *scripts, struct acme_store **out)
{
    migrations = scripts;
    return __real_acme_store_open(place, scripts, out);
}

/* The data that the program of that version left: a credential that signs; from the second version
 * on also the time of its renewal and an account key. */
static void
make_former(size_t version, const char *const *former, const char *place)
{
    static const char *const left[] = {
        "INSERT INTO credential (id, state, spc, token_uri, key_uri, ca_directory, chain_pem, x5u,"
        " not_after) VALUES (7, 4, '1234', '" TOKEN "', '" TOKEN ";object=sp', '" DIRECTORY "',"
        " 'chain', 'https://cr.example/7.pem', 99)",
        "INSERT INTO renewal VALUES (7, 11, 12, 13, 14, 'https://ca.example/why')",
        "INSERT INTO acme_account VALUES ('" DIRECTORY "', '" TOKEN "', 'label', 'next')",
        "INSERT INTO account_key VALUES ('', '" DIRECTORY "', '" TOKEN "', 'label', 'next')",
    };
    const bool has_it[COUNT(left)] = {true, version >= 2, version == 2, version >= 3};
    struct acme_store *store = NULL;

    assert_int_equal(__real_acme_store_open(place, former, &store), HSM_OK);
    for (size_t i = 0; i < COUNT(left); i++)
        if (has_it[i])
            assert_int_equal(acme_store_run(store, NULL, left[i], ""), HSM_OK);
    acme_store_close(store);
}

static void
assert_is_kept(struct sks_catalogue *opened, size_t version)
{
    const struct sks_account_owner owner = {
        .spc = "", .ca_directory = DIRECTORY, .token_uri = TOKEN};
    struct sks_account_keys keys = {.label = ""};
    struct sks_credential kept = {.id = 0};
    struct sks_renewal renewal = {.due = 0};

    assert_int_equal(sks_catalogue_find(opened, 7, &kept), HSM_OK);
    assert_int_equal(kept.state, SKS_ACTIVE);
    assert_string_equal(kept.spc, "1234");
    assert_string_equal(kept.key_uri, TOKEN ";object=sp");
    assert_string_equal(kept.chain_pem, "chain");
    assert_string_equal(kept.x5u, "https://cr.example/7.pem");
    assert_int_equal(kept.not_after, 99);
    sks_credential_clear(&kept);
    assert_int_equal(sks_catalogue_account(opened, &owner, &keys), HSM_OK);
    assert_string_equal(keys.label, version >= 2 ? "label" : "");
    assert_string_equal(keys.next, version >= 2 ? "next" : "");
    assert_int_equal(sks_catalogue_renewal(opened, 7, &renewal),
                     version >= 2 ? HSM_OK : HSM_ERR_NOT_FOUND);
    assert_int_equal(renewal.due, version >= 2 ? 11 : 0);
    assert_int_equal(renewal.ask_at, version >= 2 ? 14 : 0);
}

static void
a_catalogue_of_every_former_version_is_taken_further(void **state)
{
    const char *former[32] = {NULL};

    (void)state;
    for (size_t i = 0; migrations[i] != NULL; i++) {
        struct sks_catalogue *opened = NULL;
        char place[128];
        int64_t before = 0;
        int64_t after = 0;

        assert_true(i + 1 < COUNT(former));
        former[i] = migrations[i];
        snprintf(place, sizeof(place), "%s/former-%zu.db", dir, i + 1);
        make_former(i + 1, former, place);
        assert_int_equal(sks_catalogue_open(place, &opened), HSM_OK);
        assert_is_kept(opened, i + 1);
        assert_int_equal(sks_catalogue_version(opened, &before), HSM_OK);
        assert_int_equal(sks_catalogue_forget(opened, 7), HSM_ERR_USAGE); /* it signs */
        sks_catalogue_close(opened);
        assert_int_equal(sks_catalogue_open(place, &opened), HSM_OK); /* migrated only once */
        assert_int_equal(sks_catalogue_version(opened, &after), HSM_OK);
        assert_int_equal(after, before);
        sks_catalogue_close(opened);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(credential_keeps_everything_across_every_state),
        CASE(what_is_not_known_yet_stays_null),
        CASE(states_never_go_back),
        CASE(state_without_what_it_says_is_refused),
        CASE(credential_may_be_given_up_from_anywhere),
        CASE(only_activation_makes_active),
        CASE(activation_retires_the_other_of_the_same_spc_and_token_alone),
        CASE(only_what_is_published_becomes_active),
        CASE(x5u_is_never_used_twice),
        CASE(list_is_of_one_spc_or_all_oldest_first),
        CASE(list_may_leave_out_what_is_over_or_has_not_begun),
        CASE(version_grows_with_each_change_by_anyone),
        CASE(unknown_id_is_not_found),
        CASE(change_survives_the_death_of_its_process),
        CASE(file_that_is_no_catalogue_is_refused),
        CASE(states_have_names),
        CASE(a_catalogue_of_every_former_version_is_taken_further),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
