/* test_journal_index.c - mirrors hsm/src/journal_index.c: rotation and retention. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/file.h>
#include <sys/syscall.h>

#include "journal_group.h"
#include "softhsm.h"

#define CALLS 8000 /* more than fit into one MiB, fewer than fit into two */

/* The library's clocks: `ahead_s` is set by tests; each failed attempt to get a lock adds to
 * `waited_s`. */
static time_t ahead_s;
static _Atomic time_t waited_s;

int
clock_gettime(clockid_t clock, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, out);

    if (clock == CLOCK_REALTIME)
        out->tv_sec += ahead_s;
    if (clock == CLOCK_MONOTONIC)
        out->tv_sec += waited_s;
    return rc;
}

/* Seconds that a failed attempt to get a lock appears to take; 0: real time. */
static _Atomic time_t lock_wait_s;

int
flock(int fd, int operation)
{
    int rc = (int)syscall(SYS_flock, fd, operation);

    if (rc != 0)
        waited_s += lock_wait_s;
    return rc;
}

static unsigned
files_in(const char *dir)
{
    DIR *listing = opendir(dir);
    unsigned count = 0;

    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        count += strstr(entry->d_name, ".log") != NULL ? 1 : 0;
    closedir(listing);
    return count;
}

static bool
come_to_be(const char *dir, unsigned files)
{
    for (int i = 0; i < 2000 && files_in(dir) != files; i++)
        usleep(5000);
    return files_in(dir) == files;
}

static void
sign_until_rotation(struct hsm_key *key)
{
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "rotation", "x"), HSM_OK);
}

static bool
becomes_full(void)
{
    for (int i = 0; i < 2000 && was_full == 0; i++)
        usleep(5000);
    return was_full > 0;
}

static void
the_end_of_a_file_that_the_index_has_no_room_for_is_told_later(void **state)
{
    const char *dir = journal_dir("index-full");
    const struct hsm_journal_config journal = {
        .dir = journal_dir("index-full"), .program = "test", .rotate_mb = 1, .retain_days = 1};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct verdict verdict;
    struct seen seen;

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    was_full = 0;
    full_times = 1;
    full_for = " file-close ";
    sign_until_rotation(key);
    assert_true(becomes_full());
    full_for = NULL;
    for (int i = 0; i < 2000; i++) {
        journal_look(dir, "file-close", &seen);
        if (seen.count == 1)
            break;
        usleep(5000);
    }
    assert_int_equal(seen.count, 1); /* while the process is running */
    close_all(token, key);
    journal_look(dir, "file-close", &seen);
    assert_int_equal(seen.count, 2);
    journal_assert_good(dir, &verdict);
    ahead_s = 2 * 86400;
    token = journal_token(NULL, &journal); /* removes old files, which are recorded as closed */
    hsm_token_close(token);
    ahead_s = 0;
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.removed, 2);
}

static void
a_file_that_the_index_has_no_room_for_is_not_begun_over_and_over(void **state)
{
    const char *dir = journal_dir("begin-full");
    const struct hsm_journal_config journal = {
        .dir = journal_dir("begin-full"), .program = "test", .rotate_mb = 1};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct verdict verdict;

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    was_full = 0;
    full_times = 1000;
    full_for = " file-open ";
    sign_until_rotation(key);
    assert_true(becomes_full());
    usleep(300000); /* several wake-ups of the writer */
    assert_true(was_full <= 2);
    assert_int_equal(files_in(dir), 1);
    full_for = NULL;
    assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "rotation", "x"), HSM_OK);
    assert_true(come_to_be(dir, 2));
    close_all(token, key);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.files, 3);
}

static void
another_file_is_begun_when_one_is_full(void **state)
{
    const char *dir = journal_dir("rotated");
    const struct hsm_journal_config journal = {
        .dir = journal_dir("rotated"), .program = "test", .rotate_mb = 1};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct verdict verdict;
    struct seen seen;

    (void)state;
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "rotation", "x"), HSM_OK);
    close_all(token, key);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.files, 3);
    assert_int_equal(verdict.summary.unsecured, 0);
    journal_look(dir, "file-close", &seen);
    assert_int_equal(seen.count, 2);
    journal_look(dir, "passport", &seen);
    assert_int_equal(seen.count, CALLS);
    journal_look(dir, "key", &seen);
    assert_int_equal(seen.count, 2); /* recorded again in the second file */
}

/* Another process holds the lock of the index, as while its token signs a checkpoint. */
static int
keep_index(const char *dir)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/index", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    return fd;
}

static enum hsm_status
open_token(const struct hsm_journal_config *journal)
{
    struct hsm_token_config config = {
        .uri = "pkcs11:token=" JOURNAL_TOKEN, .module = softhsm_module(), .journal = journal};
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;
    enum hsm_status st;

    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    st = hsm_token_open(&config, &token);
    hsm_secret_free(pin);
    hsm_token_close(token);
    return st;
}

static void
a_journal_is_not_opened_while_another_process_keeps_the_index_for_long(void **state)
{
    const char *dir = journal_dir("index-kept-for-long");
    const struct hsm_journal_config journal = {.dir = dir, .program = "test"};
    int fd;

    (void)state;
    alarm(100);
    assert_int_equal(open_token(&journal), HSM_OK);
    fd = keep_index(dir);
    lock_wait_s = 16;
    assert_int_equal(open_token(&journal), HSM_ERR_BUSY);
    assert_in_range(waited_s, 16, 32); /* a token whose files others write is retried */
    lock_wait_s = waited_s = 0;
    close(fd);
    assert_int_equal(open_token(&journal), HSM_OK);
    alarm(0);
}

static void
a_full_file_is_written_on_while_another_process_keeps_the_index(void **state)
{
    const char *dir = journal_dir("index-kept");
    const struct hsm_journal_config journal = {
        .dir = journal_dir("index-kept"), .program = "test", .rotate_mb = 1};
    struct hsm_token *token = journal_token(NULL, &journal);
    struct hsm_key *key = NULL;
    struct verdict verdict;
    struct seen seen;
    int fd;

    (void)state;
    alarm(100);
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    fd = keep_index(dir);
    sign_until_rotation(key);
    for (int i = 0; i < 200; i++) { /* until all are on disk */
        journal_look(dir, "passport", &seen);
        if (seen.count == CALLS)
            break;
        usleep(50000);
    }
    assert_int_equal(seen.count, CALLS);
    assert_int_equal(files_in(dir), 1);
    close(fd);
    for (int i = 0; i < 2000 && files_in(dir) == 1; i++) {
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "rotation", "x"), HSM_OK);
        usleep(5000);
    }
    assert_int_equal(files_in(dir), 2);
    close_all(token, key);
    journal_assert_good(dir, &verdict);
    alarm(0);
}

static void
a_journal_is_closed_while_another_process_keeps_the_index(void **state)
{
    const char *dir = journal_dir("index-kept-at-the-end");
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct verdict verdict;
    struct seen seen;
    int fd;

    (void)state;
    alarm(100);
    assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "end", "x"), HSM_OK);
    fd = keep_index(dir);
    lock_wait_s = 4;
    close_all(token, key);
    assert_in_range(waited_s, 4, 8); /* the notary's attempt, and its last one */
    lock_wait_s = waited_s = 0;
    close(fd);
    journal_look(dir, "file-close", &seen);
    assert_int_equal(seen.count, 0);
    token = journal_open(dir, &key);
    close_all(token, key);
    journal_look(dir, "file-recovered", &seen);
    assert_int_equal(seen.count, 1);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.files, 3); /* with the index */
    alarm(0);
}

static void
files_are_removed_after_their_time_and_the_index_says_so(void **state)
{
    struct hsm_journal_config journal = {
        .dir = journal_dir("retained"), .program = "test", .retain_days = 1};
    struct hsm_token *token;
    struct verdict verdict;
    struct seen seen;

    (void)state;
    hsm_token_close(journal_token(NULL, &journal));
    hsm_token_close(journal_token(NULL, &journal));
    journal_assert_good(journal.dir, &verdict);
    assert_int_equal(verdict.summary.removed, 0);
    ahead_s = 2 * 86400;
    token = journal_token(NULL, &journal);
    hsm_token_close(token);
    ahead_s = 0;
    journal_look(journal.dir, "file-removed", &seen);
    assert_int_equal(seen.count, 2);
    journal_assert_good(journal.dir, &verdict);
    assert_int_equal(verdict.summary.removed, 2);
    assert_int_equal(verdict.summary.files, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_file_is_begun_when_one_is_full),
        cmocka_unit_test(a_journal_is_not_opened_while_another_process_keeps_the_index_for_long),
        cmocka_unit_test(a_full_file_is_written_on_while_another_process_keeps_the_index),
        cmocka_unit_test(a_journal_is_closed_while_another_process_keeps_the_index),
        cmocka_unit_test(the_end_of_a_file_that_the_index_has_no_room_for_is_told_later),
        cmocka_unit_test(a_file_that_the_index_has_no_room_for_is_not_begun_over_and_over),
        cmocka_unit_test(files_are_removed_after_their_time_and_the_index_says_so),
    };

    return cmocka_run_group_tests(tests, journal_group_start, journal_group_stop);
}
