/* test_journal.c - mirrors hsm/src/journal.c: every signature is recorded, whatever happens. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "forking.h"
#include "journal_fixture.h"
#include "softhsm.h"

#define SLOW_MS 1000

#define FILES_SYNCED 256 /* of all tests */

#define CALLS 8000 /* more than fit into one MiB, fewer than fit into two */

#define PASSING_KEYS 80 /* more than are remembered without an open handle */

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

/* The library's disk: the next `full_times` writes of lines with the word `full_for` fail with
 * ENOSPC. */
static const char *_Atomic full_for;
static atomic_int full_times;
static atomic_int was_full;

static bool
is_full(const void *octets, size_t len)
{
    if (full_for == NULL || full_times <= 0 ||
        memmem(octets, len, full_for, strlen(full_for)) == NULL)
        return false;
    full_times--;
    was_full++;
    return true;
}

/* Writes of lines with this word are slow. */
static const char *_Atomic slow_for;
static atomic_int slow_writes;

ssize_t
write(int fd, const void *octets, size_t len)
{
    if (slow_for != NULL && memmem(octets, len, slow_for, strlen(slow_for)) != NULL) {
        usleep(SLOW_MS * 1000);
        slow_writes++;
    }
    if (is_full(octets, len)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, octets, len);
}

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

static void
close_all(struct hsm_token *token, struct hsm_key *key)
{
    hsm_key_free(key);
    hsm_token_close(token);
}

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

/* ---- many ---- */

#define THREADS 4
#define EACH    300

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

/* In a child, a failed assertion aborts with its message; the child must not continue with the
 * tests of its parent. */
static pid_t
fork_child(void)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    return child;
}

static int
status_of(pid_t child)
{
    int status = -1;

    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
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

/* ---- crashes ---- */

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

/* ---- a full disk ---- */

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

/* ---- rotation and retention ---- */

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

static int
start(void **state)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token;

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token(JOURNAL_TOKEN));
    token = journal_open(journal_dir("keys"), &key); /* makes both keys for the following tests */
    close_all(token, key);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        /* in children, before this process has threads */
        cmocka_unit_test(processes_write_beside_each_other),
        cmocka_unit_test(a_crash_loses_what_was_not_written_and_is_told),
        cmocka_unit_test(a_power_failure_after_a_checkpoint_is_no_fault),
        cmocka_unit_test(a_line_that_a_crash_cut_short_is_told),
        cmocka_unit_test(a_line_of_the_index_that_a_crash_cut_short_is_taken_away_and_told),
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
        cmocka_unit_test(a_full_disk_refuses_certificates_and_lets_calls_pass),
        cmocka_unit_test(what_had_no_room_is_counted_in_its_place),
        cmocka_unit_test(an_entry_that_had_no_memory_is_written_in_its_turn),
        cmocka_unit_test(a_disk_that_is_slow_does_not_hold_a_call_past_its_deadline),
        cmocka_unit_test(another_file_is_begun_when_one_is_full),
        cmocka_unit_test(a_journal_is_not_opened_while_another_process_keeps_the_index_for_long),
        cmocka_unit_test(a_full_file_is_written_on_while_another_process_keeps_the_index),
        cmocka_unit_test(a_journal_is_closed_while_another_process_keeps_the_index),
        cmocka_unit_test(the_end_of_a_file_that_the_index_has_no_room_for_is_told_later),
        cmocka_unit_test(a_file_that_the_index_has_no_room_for_is_not_begun_over_and_over),
        cmocka_unit_test(files_are_removed_after_their_time_and_the_index_says_so),
        cmocka_unit_test(a_journal_that_is_wrong_is_not_written_to),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
