/* test_journal_full.c - mirrors hsm/src/journal_writer.c: a disk that is full or slow. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <sys/resource.h>

#include "journal_group.h"
#include "softhsm.h"

/* Hashing a line with this word fails, as without memory. */
static const char *_Atomic none_for;
static atomic_int none_times;

int
EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *octets, size_t len)
{
    static int (*real)(EVP_MD_CTX *, const void *, size_t);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "EVP_DigestUpdate");
    if (none_for != NULL && none_times > 0 &&
        memmem(octets, len, none_for, strlen(none_for)) != NULL) {
        none_times--;
        return 0;
    }
    return real(ctx, octets, len);
}

/* A limit that the process can raise again stands for a disk that fills up and is cleared. */
static void
limit_files(rlim_t octets)
{
    struct rlimit limit;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = octets;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
until_failing(const struct hsm_token *token, bool wanted)
{
    struct hsm_journal_stats stats;

    for (int i = 0; i < 2000; i++) {
        hsm_journal_stats(token, &stats);
        if (stats.failing == wanted)
            return;
        usleep(5000);
    }
    fail_msg("the journal does not get %s", wanted ? "into trouble" : "well");
}

static void
a_full_disk_refuses_certificates_and_lets_calls_pass(void **state)
{
    static const struct {
        enum hsm_journal_failure policy;
        enum hsm_status certificate, call;
    } rows[] = {{HSM_JOURNAL_BY_KIND, HSM_ERR_IO, HSM_OK},
                {HSM_JOURNAL_REFUSE, HSM_ERR_IO, HSM_ERR_IO},
                {HSM_JOURNAL_GO_ON, HSM_OK, HSM_OK}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char name[32];
        struct hsm_journal_config journal = {.program = "test", .on_failure = rows[i].policy};
        struct hsm_token *token;
        struct hsm_key *key = NULL;
        struct verdict verdict;

        snprintf(name, sizeof(name), "full-%zu", i);
        journal.dir = journal_dir(name);
        token = journal_token(NULL, &journal);
        assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
        assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "a", "x"), HSM_OK);
        limit_files(100);
        assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "b", "x"), rows[i].certificate);
        until_failing(token, true);
        assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "c", "x"), rows[i].certificate);
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "d", "x"), rows[i].call);
        limit_files(RLIM_INFINITY);
        until_failing(token, false);
        assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "e", "x"), HSM_OK);
        close_all(token, key);
        journal_assert_good(journal_dir(name), &verdict); /* everything that waited was written */
        assert_int_equal(verdict.summary.lost, 0);
    }
}

/* Standard error of hsm_token_open() with this journal, which fails. */
static void
open_without_room(const struct hsm_journal_config *journal, char *heard, size_t room)
{
    FILE *log = tmpfile();
    int terminal = dup(STDERR_FILENO);
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;
    struct hsm_token_config config = {
        .uri = "pkcs11:token=" JOURNAL_TOKEN, .module = softhsm_module(), .journal = journal};

    assert_non_null(log);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    dup2(fileno(log), STDERR_FILENO);
    full_times = 1;
    full_for = " open ";
    assert_int_equal(hsm_token_open(&config, &token), HSM_ERR_IO);
    full_for = NULL;
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    hsm_secret_free(pin);
    rewind(log);
    heard[fread(heard, 1, room - 1, log)] = '\0';
    fclose(log);
}

static void
a_journal_that_cannot_be_begun_is_told(void **state)
{
    const struct hsm_journal_config journal = {.dir = journal_dir("begin"), .program = "test"};
    char heard[1024];

    (void)state;
    hsm_token_close(journal_token(NULL, &journal)); /* the index has its first line */
    open_without_room(&journal, heard, sizeof(heard));
    assert_non_null(strstr(heard, "/begin: test-"));
    assert_non_null(strstr(heard, ": cannot be written: No space left on device"));
}

static void
what_had_no_room_is_counted_in_its_place(void **state)
{
    const struct hsm_journal_config journal = {
        .dir = journal_dir("lost"), .program = "test", .on_failure = HSM_JOURNAL_GO_ON};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct hsm_journal_stats stats = {.lost = 0};
    struct verdict verdict;

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    limit_files(100);
    assert_int_equal(journal_sign(key, HSM_USE_CRL, NULL, "x"), HSM_OK);
    until_failing(token, true);
    for (int i = 0; i < 40000 && stats.lost < 10; i++) {
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, NULL, "x"), HSM_OK);
        hsm_journal_stats(token, &stats);
    }
    assert_true(stats.lost >= 10);
    limit_files(RLIM_INFINITY);
    until_failing(token, false);
    close_all(token, key);
    journal_assert_good(journal_dir("lost"), &verdict);
    assert_int_equal(verdict.summary.lost, stats.lost);
}

static void
an_entry_that_had_no_memory_is_written_in_its_turn(void **state)
{
    const char *dir = journal_dir("memory");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct verdict verdict;
    struct seen seen;

    (void)state;
    none_times = 1;
    none_for = " certificate ";
    assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "first", "x"), HSM_ERR_IO);
    none_for = NULL;
    until_failing(token, false);
    assert_int_equal(journal_sign(key, HSM_USE_CERTIFICATE, "second", "x"), HSM_OK);
    close_all(token, key);
    journal_look(dir, "certificate", &seen);
    assert_int_equal(seen.count, 2);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.lost, 0);
}

/* A signature is not returned unless its record is known to be on disk by the deadline. */
static void
a_disk_that_is_slow_does_not_hold_a_call_past_its_deadline(void **state)
{
    const char *dir = journal_dir("slow");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    const uint8_t digest[HSM_SHA256_LEN] = {1};
    uint8_t sig[HSM_P256_SIG_LEN];
    struct verdict verdict;
    HSM_USE_FOR(HSM_USE_CERTIFICATE);

    (void)state;
    slow_writes = 0;
    slow_for = " certificate ";
    assert_int_equal(
        hsm_key_sign_digest_within(key, digest, SLOW_MS / 5, HSM_WAIT_FOR_RECOVERY, sig),
        HSM_ERR_IO);
    assert_int_equal(slow_writes, 0); /* still being written */
    close_all(token, key);
    assert_int_equal(slow_writes, 1);
    slow_for = NULL;
    journal_assert_good(dir, &verdict);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_refuses_certificates_and_lets_calls_pass),
        cmocka_unit_test(a_journal_that_cannot_be_begun_is_told),
        cmocka_unit_test(what_had_no_room_is_counted_in_its_place),
        cmocka_unit_test(an_entry_that_had_no_memory_is_written_in_its_turn),
        cmocka_unit_test(a_disk_that_is_slow_does_not_hold_a_call_past_its_deadline),
    };

    return cmocka_run_group_tests(tests, journal_group_start, journal_group_stop);
}
