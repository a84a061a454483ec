/* test_journal_crash.c - mirrors hsm/src/journal_read.c and journal_writer.c: what a crash leaves.
 */
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

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "journal_group.h"

#define FILES_SYNCED 256 /* of all tests */

/* The octets of each file that a power failure would leave. */
static struct {
    ino_t file;
    off_t octets;
} synced[FILES_SYNCED];

static pthread_mutex_t synced_lock = PTHREAD_MUTEX_INITIALIZER;

int
fdatasync(int fd)
{
    struct stat about;
    size_t at = 0;

    assert_int_equal(fstat(fd, &about), 0);
    pthread_mutex_lock(&synced_lock);
    while (at < FILES_SYNCED - 1 && synced[at].file != 0 && synced[at].file != about.st_ino)
        at++;
    synced[at].file = about.st_ino;
    synced[at].octets = about.st_size;
    pthread_mutex_unlock(&synced_lock);
    return (int)syscall(SYS_fdatasync, fd);
}

static size_t
synced_octets(const char *dir, const char *file)
{
    char path[2 * PATH_ROOM];
    struct stat about;
    off_t octets = 0;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    assert_int_equal(stat(path, &about), 0);
    pthread_mutex_lock(&synced_lock);
    for (size_t i = 0; i < FILES_SYNCED; i++)
        octets = synced[i].file == about.st_ino ? synced[i].octets : octets;
    pthread_mutex_unlock(&synced_lock);
    return (size_t)octets;
}

static void
crash_in_a_process(const char *dir)
{
    pid_t child = fork_child();
    int status;

    if (child == 0) {
        struct hsm_key *key = NULL;

        (void)journal_open(dir, &key);
        if (journal_sign(key, HSM_USE_CERTIFICATE, "order 2", "before") != HSM_OK)
            _exit(1);
        (void)journal_sign(key, HSM_USE_PASSPORT, "sbc-1", "lost, perhaps");
        (void)raise(SIGKILL);
    }
    status = status_of(child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_crash_loses_what_was_not_written_and_is_told(void **state)
{
    char dir[PATH_ROOM];
    struct verdict verdict;
    struct seen seen;
    struct hsm_key *key = NULL;
    struct hsm_token *token;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("crash"));
    crash_in_a_process(dir);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.ended_early, 1);
    assert_int_equal(verdict.notices, 1);
    assert_non_null(strstr(verdict.notice, "did not close it"));
    journal_look(dir, "certificate", &seen);
    assert_int_equal(seen.count, 1); /* durable */
    token = journal_open(dir, &key); /* the next process records it in the index */
    close_all(token, key);
    journal_look(dir, "file-recovered", &seen);
    assert_int_equal(seen.count, 1);
    journal_assert_good(dir, &verdict);
    assert_int_equal(verdict.summary.ended_early, 1);
    assert_int_equal(verdict.summary.unsecured, 0); /* covered by the index's checkpoint now */
}

/* Wait for a checkpoint that covers all calls. */
static void
wait_for_checkpoint(const char *dir, unsigned calls)
{
    unsigned long long size = 0;
    struct seen last, seen;

    do {
        usleep(10000);
        journal_look(dir, "passport", &last);
        journal_look(dir, "file-checkpoint", &seen);
        if (seen.count > 0)
            assert_int_equal(sscanf(strstr(seen.detail, "size="), "size=%llu", &size), 1);
    } while (last.count < calls || size <= last.number);
}

/* Lines of calls are not synced one by one, but a checkpoint never covers what is not on the
 * disk. */
static void
a_power_failure_after_a_checkpoint_is_no_fault(void **state)
{
    char dir[PATH_ROOM], copy[PATH_ROOM], file[HSM_JOURNAL_NAME_MAX + 1];
    const struct hsm_journal_config journal = {
        .dir = dir, .program = "test", .checkpoint_records = 1};
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct verdict verdict;
    char *octets;
    size_t len;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("power"));
    snprintf(copy, sizeof(copy), "%s", journal_dir("power-failed"));
    token = journal_token(NULL, &journal);
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "proxy", "x"), HSM_OK);
    wait_for_checkpoint(dir, 20);
    snprintf(file, sizeof(file), "%s", journal_only_file(dir));
    journal_copy(dir, "power-failed");
    octets = journal_get(copy, file, &len);
    journal_put(copy, file, octets, synced_octets(dir, file));
    free(octets);
    close_all(token, key);
    journal_assert_good(copy, &verdict);
    assert_int_equal(verdict.summary.ended_early, 1);
}

static void
a_line_that_a_crash_cut_short_is_told(void **state)
{
    char dir[PATH_ROOM];
    char file[HSM_JOURNAL_NAME_MAX + 1];
    struct verdict verdict;
    struct seen seen;
    struct hsm_key *key = NULL;
    struct hsm_token *token;
    char *octets;
    size_t len = 0;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("torn"));
    crash_in_a_process(dir);
    snprintf(file, sizeof(file), "%s", journal_only_file(dir));
    octets = journal_get(dir, file, &len);
    journal_put(dir, file, octets, len - 30);
    free(octets);
    journal_assert_good(dir, &verdict);
    assert_non_null(strstr(verdict.notice, "cut short"));
    token = journal_open(dir, &key);
    close_all(token, key);
    journal_look(dir, "file-recovered", &seen);
    assert_null(strstr(seen.detail, "torn=0"));
    journal_assert_good(dir, &verdict);
    assert_non_null(strstr(verdict.notice, "cut short"));
}

static void
a_line_of_the_index_that_a_crash_cut_short_is_taken_away_and_told(void **state)
{
    char dir[PATH_ROOM];
    struct verdict verdict;
    struct seen seen;
    struct hsm_key *key = NULL;
    struct hsm_token *token;
    char *octets;
    size_t len = 0;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", journal_dir("torn-index"));
    crash_in_a_process(dir);
    octets = journal_get(dir, HSM_JOURNAL_INDEX, &len);
    octets = realloc(octets, len + 6);
    memcpy(octets + len, "2 2026", 6);
    journal_put(dir, HSM_JOURNAL_INDEX, octets, len + 6);
    free(octets);
    token = journal_open(dir, &key);
    close_all(token, key);
    journal_look(dir, "index-torn", &seen);
    assert_string_equal(seen.detail, "octets=6");
    journal_assert_good(dir, &verdict);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        /* in children, before this process has threads */
        cmocka_unit_test(a_crash_loses_what_was_not_written_and_is_told),
        cmocka_unit_test(a_power_failure_after_a_checkpoint_is_no_fault),
        cmocka_unit_test(a_line_that_a_crash_cut_short_is_told),
        cmocka_unit_test(a_line_of_the_index_that_a_crash_cut_short_is_taken_away_and_told),
    };

    return cmocka_run_group_tests(tests, journal_group_start, journal_group_stop);
}
