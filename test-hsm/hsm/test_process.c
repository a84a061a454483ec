/* test_process.c - mirrors hsm/src/process.c. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/process.h>

static char directory[] = "/tmp/sti-process.XXXXXX";
static char path[128];

/* The missing properties of a hardened process as bits of an exit status; 0: none. */
static int
faults_of_hardened_process(void)
{
    const struct rlimit none = {0, 0};
    struct rlimit core = {1, 1};
    struct sigaction pipe_action;
    int ends[2];

    if (setenv("SSLKEYLOGFILE", "/tmp/keys", 1) != 0 || hsm_process_harden() != HSM_OK)
        return 1;
    if (prctl(PR_GET_DUMPABLE) != 0)
        return 2;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0)
        return 3;
    if (umask(0) != 077)
        return 4;
    if (sigaction(SIGPIPE, NULL, &pipe_action) != 0 || pipe_action.sa_handler != SIG_IGN)
        return 5;
    if (pipe(ends) != 0 || close(ends[0]) != 0)
        return 6;
    if (write(ends[1], "x", 1) != -1 || errno != EPIPE)
        return 7;
    if (getenv("SSLKEYLOGFILE") != NULL)
        return 8;
    if (setrlimit(RLIMIT_FSIZE, &none) != 0)
        return 9;
    return hsm_file_write(path, "x", 1, 0600) == HSM_ERR_IO ? 0 : 10; /* no signal ends it */
}

static void
a_hardened_process_leaves_no_core_and_closed_files(void **state)
{
    int status = -1;
    pid_t child = fork();

    (void)state;
    if (child == 0)
        _exit(faults_of_hardened_process());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
a_file_is_read_whole_up_to_its_bound(void **state)
{
    uint8_t *octets = NULL;
    uint8_t large[10000];
    size_t len = 0;

    (void)state;
    memset(large, 'x', sizeof(large));
    assert_int_equal(hsm_file_write(path, large, sizeof(large), 0600), HSM_OK);
    assert_int_equal(hsm_file_read(path, sizeof(large), &octets, &len), HSM_OK);
    assert_int_equal(len, sizeof(large));
    assert_memory_equal(octets, large, sizeof(large));
    assert_int_equal(octets[len], '\0');
    free(octets);
    octets = NULL;
    assert_int_equal(hsm_file_read(path, sizeof(large) - 1, &octets, &len), HSM_ERR_MALFORMED);
    assert_null(octets);
}

static void
an_empty_file_is_no_error(void **state)
{
    uint8_t *octets = NULL;
    size_t len = 7;

    (void)state;
    assert_int_equal(hsm_file_write(path, "", 0, 0600), HSM_OK);
    assert_int_equal(hsm_file_read(path, 16, &octets, &len), HSM_OK);
    assert_int_equal(len, 0);
    assert_int_equal(octets[0], '\0');
    free(octets);
}

static void
what_is_no_file_is_not_read(void **state)
{
    uint8_t *octets = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(hsm_file_read("/absent/file", 16, &octets, &len), HSM_ERR_NOT_FOUND);
    assert_int_equal(hsm_file_read(directory, 16, &octets, &len), HSM_ERR_IO);
    assert_int_equal(hsm_file_read("/dev/zero", 65536, &octets, &len), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_file_read_fd(-1, 16, &octets, &len), HSM_ERR_IO);
    assert_null(octets);
}

static void
a_descriptor_is_read_to_its_end(void **state)
{
    uint8_t *octets = NULL;
    size_t len = 0;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "message", 7), 7);
    close(ends[1]);
    assert_int_equal(hsm_file_read_fd(ends[0], 7, &octets, &len), HSM_OK);
    assert_int_equal(len, 7);
    assert_string_equal(octets, "message");
    free(octets);
    close(ends[0]);
}

static void
a_file_is_replaced_with_its_mode(void **state)
{
    struct stat about;
    uint8_t *octets = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(hsm_file_write(path, "old", 3, 0600), HSM_OK);
    assert_int_equal(hsm_file_write(path, "newer", 5, 0644), HSM_OK);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0644);
    assert_int_equal(hsm_file_read(path, 16, &octets, &len), HSM_OK);
    assert_string_equal(octets, "newer");
    free(octets);
    assert_int_equal(hsm_file_write("/absent/file", "x", 1, 0600), HSM_ERR_IO);
}

static void
a_file_is_created_only_once(void **state)
{
    uint8_t *octets = NULL;
    size_t len = 0;

    (void)state;
    unlink(path);
    assert_int_equal(hsm_file_create(path, "first", 5, 0600), HSM_OK);
    assert_int_equal(hsm_file_create(path, "second", 6, 0600), HSM_ERR_EXISTS);
    assert_int_equal(hsm_file_read(path, 16, &octets, &len), HSM_OK);
    assert_string_equal(octets, "first");
    free(octets);
}

static int
make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/file", directory);
    return 0;
}

static int
remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory); /* fails if a temporary file is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hardened_process_leaves_no_core_and_closed_files),
        cmocka_unit_test(a_file_is_read_whole_up_to_its_bound),
        cmocka_unit_test(an_empty_file_is_no_error),
        cmocka_unit_test(what_is_no_file_is_not_read),
        cmocka_unit_test(a_descriptor_is_read_to_its_end),
        cmocka_unit_test(a_file_is_replaced_with_its_mode),
        cmocka_unit_test(a_file_is_created_only_once),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
