/* test_journal.c - mirrors hsm/src/journal.c: what is told, by many, and what may not write. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <sys/wait.h>

#include "journal_group.h"
#include "softhsm.h"

#define PASSING_KEYS 80 /* more than are remembered without an open handle */

static void
a_signature_is_told_with_key_kind_digest_asker_and_outcome(void **state)
{
    const char *dir = journal_dir("told");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    char hex[65];
    struct seen seen, introduced;
    struct verdict verdict;

    (void)state;
    assert_int_equal(journal_sign(key, HSM_USE_SPC_TOKEN, "account 17, of two", "a token"), HSM_OK);
    close_all(token, key);
    journal_look(dir, "spc-token", &seen);
    assert_int_equal(seen.count, 1);
    journal_digest("a token", hex);
    assert_string_equal(seen.digest, hex);
    assert_string_equal(seen.who, "account%2017%2c%20of%20two");
    assert_string_equal(seen.outcome, "ok");
    journal_look(dir, "key", &introduced);
    assert_int_equal(introduced.count, 1);
    assert_string_equal(introduced.key, seen.key);
    assert_memory_equal(introduced.digest, seen.key, 32);
    assert_non_null(strstr(introduced.detail, "label=" JOURNAL_SIGNER ",token=" JOURNAL_TOKEN));
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.files, 2);
    assert_int_equal(verdict.summary.unsecured, 0);
    assert_int_equal(verdict.summary.unspecified, 0);
}

static void
every_kind_has_its_word(void **state)
{
    const char *dir = journal_dir("kinds");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);

    (void)state;
    for (unsigned kind = 0; kind < HSM_USE_KINDS; kind++)
        assert_int_equal(journal_sign(key, (enum hsm_use_kind)kind, NULL, "x"), HSM_OK);
    close_all(token, key);
    for (unsigned kind = 0; kind < HSM_USE_KINDS; kind++) {
        struct seen seen;

        journal_look(dir, hsm_use_word((enum hsm_use_kind)kind), &seen);
        assert_true(seen.count >= 1);
        assert_string_equal(seen.who, "test");
    }
}

static void
keys_are_told_when_they_are_made_and_destroyed(void **state)
{
    const char *dir = journal_dir("made");
    struct hsm_key *key = NULL, *other = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen made, destroyed;

    (void)state;
    assert_int_equal(hsm_key_generate(token, "short-lived", &other), HSM_OK);
    assert_int_equal(hsm_key_destroy(other), HSM_OK);
    hsm_key_free(other);
    close_all(token, key);
    journal_look(dir, "key-generation", &made);
    journal_look(dir, "key-destruction", &destroyed);
    assert_int_equal(destroyed.count, 1);
    assert_string_equal(made.digest, destroyed.digest);
    assert_memory_equal(made.digest, made.key, 32);
}

/* A key without open handles is forgotten once there are many; if it is used again, it is recorded
 * again. */
static void
keys_that_come_and_go_are_forgotten(void **state)
{
    const char *dir = journal_dir("forgotten");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen introduced, made;
    struct verdict verdict;

    (void)state;
    assert_int_equal(journal_sign(key, HSM_USE_CRL, NULL, "before"), HSM_OK);
    hsm_key_free(key);
    for (int i = 0; i < PASSING_KEYS; i++) {
        assert_int_equal(hsm_key_generate(token, "passing", &key), HSM_OK);
        assert_int_equal(hsm_key_destroy(key), HSM_OK);
        hsm_key_free(key);
    }
    assert_int_equal(hsm_key_find(token, "pkcs11:object=" JOURNAL_SIGNER, &key), HSM_OK);
    assert_int_equal(journal_sign(key, HSM_USE_CRL, NULL, "after"), HSM_OK);
    close_all(token, key);
    journal_look(dir, "key-generation", &made);
    assert_int_equal(made.count, PASSING_KEYS);
    journal_look(dir, "key", &introduced);
    assert_int_equal(introduced.count, PASSING_KEYS + 2);
    journal_assert_good(dir, &verdict);
}

/* The kind and the requester of a signature are recorded on every route. */
static void
every_route_is_told(void **state)
{
    static const struct {
        const char *name;
        enum hsm_route route;
        unsigned workers;
    } rows[] = {{"direct", HSM_ROUTE_DIRECT, 0},
                {"libp11", HSM_ROUTE_LIBP11, 0},
                {"direct-workers", HSM_ROUTE_DIRECT, 2},
                {"libp11-workers", HSM_ROUTE_LIBP11, 2}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct hsm_journal_config journal = {.dir = journal_dir(rows[i].name),
                                                   .program = "test"};
        const struct hsm_token_config config = {.route = rows[i].route, .workers = rows[i].workers};
        struct hsm_token *token = journal_token(&config, &journal);
        struct hsm_key *key = NULL;
        struct seen seen;

        assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
        assert_int_equal(journal_sign(key, HSM_USE_CRL, rows[i].name, "a list"), HSM_OK);
        close_all(token, key);
        journal_look(journal_dir(rows[i].name), "crl", &seen);
        assert_int_equal(seen.count, 1);
        assert_string_equal(seen.who, rows[i].name);
    }
}

static void
a_key_that_openssl_has_signs_handshakes_unless_said_otherwise(void **state)
{
    const char *dir = journal_dir("lent");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen seen;

    (void)state;
    for (int i = 0; i < 2; i++) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        uint8_t sig[80];
        size_t len = sizeof(sig);
        HSM_USE_FOR(i == 0 ? HSM_USE_UNSPECIFIED : HSM_USE_CSR);

        assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, hsm_key_pkey(key)), 1);
        assert_int_equal(EVP_DigestSign(ctx, sig, &len, (const uint8_t *)"x", 1), 1);
        EVP_MD_CTX_free(ctx);
    }
    close_all(token, key);
    journal_look(dir, "tls", &seen);
    assert_int_equal(seen.count, 1);
    journal_look(dir, "csr", &seen);
    assert_int_equal(seen.count, 1);
}

static void
a_certificate_is_on_the_disk_before_it_is_given_out(void **state)
{
    const char *dir = journal_dir("durable");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen seen;

    (void)state;
    assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "order 1", "a certificate"), HSM_OK);
    journal_look(dir, "certificate", &seen); /* while the token is open */
    assert_int_equal(seen.count, 1);
    close_all(token, key);
}

static void
a_call_is_written_within_the_time_for_it(void **state)
{
    const struct hsm_journal_config journal = {
        .dir = journal_dir("calls"), .program = "test", .flush_ms = 5};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct seen seen = {.count = 0};

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "sbc-1", "a PASSporT"), HSM_OK);
    for (int i = 0; i < 1000 && seen.count == 0; i++) {
        usleep(5000);
        journal_look(journal_dir("calls"), "passport", &seen);
    }
    assert_int_equal(seen.count, 1);
    close_all(token, key);
}

static void
a_failure_is_told_as_one(void **state)
{
    const char *dir = journal_dir("failed");
    struct hsm_key *key = NULL, *again = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen seen;

    (void)state;
    assert_int_equal(hsm_key_generate(token, "gone", &again), HSM_OK);
    assert_int_equal(hsm_key_destroy(again), HSM_OK);
    assert_int_equal(journal_sign(again, HSM_USE_AUDIT, NULL, "x"), HSM_ERR_NOT_FOUND);
    hsm_key_free(again);
    close_all(token, key);
    journal_look(dir, "audit", &seen);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.outcome, "not-found");
}

#define THREADS 4
#define EACH    300

/* ---- many ---- */

static void *
sign_many(void *argument)
{
    for (int i = 0; i < EACH; i++) {
        if (journal_sign(argument, i % 50 == 0 ? HSM_USE_CRL : HSM_USE_PASSPORT, "many", "x") !=
            HSM_OK)
            return argument;
    }
    return NULL;
}

static void
sign_on_threads(struct hsm_key *key)
{
    pthread_t threads[THREADS];
    void *failed = NULL;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_many, key), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static void
threads_write_one_file_and_nothing_is_missing(void **state)
{
    const struct hsm_journal_config journal = {
        .dir = journal_dir("threads"), .program = "test", .checkpoint_records = 100};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct hsm_journal_stats stats;
    struct verdict verdict;
    struct seen seen;

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    sign_on_threads(key);
    hsm_journal_stats(token, &stats);
    assert_true(stats.records >= THREADS * EACH);
    assert_int_equal(stats.lost, 0);
    close_all(token, key);
    journal_assert_good(journal_dir("threads"), &verdict);
    assert_true(verdict.summary.uses >= THREADS * EACH);
    assert_true(verdict.summary.checkpoints >= 4); /* some in between, and one at the end */
    assert_int_equal(verdict.summary.unsecured, 0);
    journal_look(journal_dir("threads"), "crl", &seen);
    assert_int_equal(seen.count, THREADS * EACH / 50);
}

/* Runs in a child: the whole sequence. */
static int
write_in_a_process(const char *dir)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);

    for (int i = 0; i < 50; i++) {
        if (journal_sign(key, HSM_USE_CRL, "process", "x") != HSM_OK)
            return 1;
    }
    close_all(token, key);
    return 0;
}

static void
processes_write_beside_each_other(void **state)
{
    char dir[PATH_ROOM];
    struct verdict verdict;
    struct seen seen;
    pid_t children[THREADS];

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("processes"));
    for (int i = 0; i < THREADS; i++) {
        children[i] = fork_child();
        if (children[i] == 0)
            _exit(write_in_a_process(dir));
    }
    for (int i = 0; i < THREADS; i++) {
        int status = status_of(children[i]);

        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("a child: %s %d", WIFSIGNALED(status) ? "signal" : "exit status",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.files, 1 + THREADS);
    assert_int_equal(verdict.summary.ended_early, 0);
    assert_int_equal(verdict.summary.unsecured, 0);
    journal_look(dir, "crl", &seen);
    assert_int_equal(seen.count, 50 * THREADS);
}

/* ---- processes that may not write ---- */

static void
a_journal_that_is_wrong_is_not_written_to(void **state)
{
    char dir[PATH_ROOM];
    const struct hsm_journal_config journal = {.dir = dir, .program = "test"};
    struct hsm_token_config config = {.uri = "pkcs11:token=" JOURNAL_TOKEN, .journal = &journal};
    struct hsm_key *key = NULL;
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;
    char *octets;
    size_t len = 0;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("wrong"));
    token = journal_open(dir, &key);
    close_all(token, key);
    octets = journal_get(dir, HSM_JOURNAL_INDEX, &len);
    octets[len / 2] ^= 1;
    journal_put(dir, HSM_JOURNAL_INDEX, octets, len);
    free(octets);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.module = softhsm_module();
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_ERR_UNTRUSTED);
    hsm_secret_free(pin);
}

static void
settings_that_make_no_sense_are_refused(void **state)
{
    static const struct hsm_journal_config rows[] = {
        {.dir = NULL, .program = "test"},
        {.dir = "/nonexistent/below", .program = "test"},
        {.dir = "/tmp", .program = "Has Blanks"},
    };
    struct hsm_secret *pin = NULL;

    (void)state;
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct hsm_token_config config = {.uri = "pkcs11:token=" JOURNAL_TOKEN,
                                                .module = softhsm_module(),
                                                .pin = pin,
                                                .journal = &rows[i]};
        struct hsm_token *token = NULL;

        assert_int_not_equal(hsm_token_open(&config, &token), HSM_OK);
    }
    hsm_secret_free(pin);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        /* in children, before this process has threads */
        cmocka_unit_test(processes_write_beside_each_other),
        cmocka_unit_test(a_signature_is_told_with_key_kind_digest_asker_and_outcome),
        cmocka_unit_test(every_kind_has_its_word),
        cmocka_unit_test(keys_are_told_when_they_are_made_and_destroyed),
        cmocka_unit_test(keys_that_come_and_go_are_forgotten),
        cmocka_unit_test(every_route_is_told),
        cmocka_unit_test(a_key_that_openssl_has_signs_handshakes_unless_said_otherwise),
        cmocka_unit_test(a_certificate_is_on_the_disk_before_it_is_given_out),
        cmocka_unit_test(a_call_is_written_within_the_time_for_it),
        cmocka_unit_test(a_failure_is_told_as_one),
        cmocka_unit_test(threads_write_one_file_and_nothing_is_missing),
        cmocka_unit_test(a_journal_that_is_wrong_is_not_written_to),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, journal_group_start, journal_group_stop);
}
