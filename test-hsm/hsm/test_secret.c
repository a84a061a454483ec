/* test_secret.c - mirrors hsm/src/secret.c. */
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/secret.h>

static char directory[] = "/tmp/sti-secret.XXXXXX";
static char path_buffer[128];

static const char *
path_of(const char *name)
{
    snprintf(path_buffer, sizeof(path_buffer), "%s/%s", directory, name);
    return path_buffer;
}

static const char *
file_of(const char *name, const void *octets, size_t len)
{
    const char *path = path_of(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, octets, len), len);
    close(fd);
    return path;
}

static void
assert_secret(struct hsm_secret *secret, const char *expected)
{
    assert_int_equal(hsm_secret_len(secret), strlen(expected));
    assert_string_equal(hsm_secret_octets(secret), expected);
    hsm_secret_free(secret);
}

static void
a_secret_keeps_its_octets(void **state)
{
    struct hsm_secret *secret = NULL;

    (void)state;
    assert_int_equal(hsm_secret_new("2468", 4, &secret), HSM_OK);
    assert_true(hsm_secret_equals(secret, "2468", 4));
    assert_false(hsm_secret_equals(secret, "2469", 4));
    assert_false(hsm_secret_equals(secret, "246", 3));
    assert_false(hsm_secret_equals(secret, "24680", 5));
    assert_secret(secret, "2468");
}

static void
empty_and_oversized_secrets_are_refused(void **state)
{
    char large[HSM_SECRET_MAX + 1];
    struct hsm_secret *secret = NULL;

    (void)state;
    memset(large, 'x', sizeof(large));
    assert_int_equal(hsm_secret_new("", 0, &secret), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_secret_new(large, sizeof(large), &secret), HSM_ERR_MALFORMED);
    assert_null(secret);
    assert_int_equal(hsm_secret_new(large, HSM_SECRET_MAX, &secret), HSM_OK);
    hsm_secret_free(secret);
    hsm_secret_free(NULL);
}

static void
a_file_gives_its_first_line(void **state)
{
    static const struct {
        const char *content;
        const char *secret;
    } rows[] = {
        {"2468\n", "2468"},         {"2468", "2468"},     {"2468\r\n", "2468"},
        {"2468\nsecond\n", "2468"}, {" a b \n", " a b "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_secret *secret = NULL;

        file_of("pin", rows[i].content, strlen(rows[i].content));
        assert_int_equal(hsm_secret_read(path_of("pin"), &secret), HSM_OK);
        assert_secret(secret, rows[i].secret);
    }
}

static void
a_file_that_others_may_have_made_or_read_is_not_our_own(void **state)
{
    struct hsm_secret *secret = NULL;

    (void)state;
    file_of("own", "2468\n", 5);
    assert_int_equal(chmod(path_of("own"), 0600), 0);
    assert_int_equal(hsm_secret_read_own(path_of("own"), &secret), HSM_OK);
    assert_secret(secret, "2468");
    secret = NULL;
    assert_int_equal(chmod(path_of("own"), 0640), 0);
    assert_int_equal(hsm_secret_read_own(path_of("own"), &secret), HSM_ERR_DENIED);
    assert_int_equal(chmod(path_of("own"), 0602), 0);
    assert_int_equal(hsm_secret_read_own(path_of("own"), &secret), HSM_ERR_DENIED);
    assert_int_equal(chmod(path_of("own"), 0600), 0);
    if (geteuid() == 0) { /* only root can change the owner */
        assert_int_equal(chown(path_of("own"), 65534, (gid_t)-1), 0);
        assert_int_equal(hsm_secret_read_own(path_of("own"), &secret), HSM_ERR_DENIED);
        assert_int_equal(chown(path_of("own"), 0, (gid_t)-1), 0);
    }
    assert_int_equal(symlink("own", path_of("link")), 0);
    assert_int_equal(hsm_secret_read_own(path_of("link"), &secret), HSM_ERR_DENIED);
    assert_int_equal(unlink(path_of("link")), 0);
    assert_int_equal(hsm_secret_read_own(directory, &secret), HSM_ERR_DENIED);
    assert_int_equal(hsm_secret_read_own(path_of("absent"), &secret), HSM_ERR_NOT_FOUND);
    assert_null(secret);
    assert_int_equal(unlink(path_of("own")), 0);
}

static void
files_that_hold_no_secret_are_refused(void **state)
{
    char large[HSM_SECRET_MAX + 8];
    struct hsm_secret *secret = NULL;

    (void)state;
    memset(large, 'x', sizeof(large));
    assert_int_equal(hsm_secret_read(path_of("absent"), &secret), HSM_ERR_NOT_FOUND);
    assert_int_equal(hsm_secret_read(directory, &secret), HSM_ERR_IO);
    assert_int_equal(hsm_secret_read("/dev/zero", &secret), HSM_ERR_MALFORMED);
    file_of("f", "", 0);
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_ERR_MALFORMED);
    file_of("f", "\nsecond\n", 8);
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_ERR_MALFORMED);
    file_of("f",
            "24\0"
            "68\n",
            6);
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_ERR_MALFORMED);
    file_of("f", large, HSM_SECRET_MAX + 1);
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_ERR_MALFORMED);
    file_of("f", large, sizeof(large));
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_ERR_MALFORMED);
    assert_null(secret);
    file_of("f", large, HSM_SECRET_MAX);
    assert_int_equal(hsm_secret_read(path_of("f"), &secret), HSM_OK);
    assert_int_equal(hsm_secret_len(secret), HSM_SECRET_MAX);
    hsm_secret_free(secret);
}

static void
a_pipe_gives_one_secret_a_line(void **state)
{
    struct hsm_secret *secret = NULL;
    char source[16];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "first\nsecond\n", 13), 13);
    close(ends[1]);
    snprintf(source, sizeof(source), "fd:%d", ends[0]);
    assert_int_equal(hsm_secret_read_fd(ends[0], &secret), HSM_OK);
    assert_secret(secret, "first");
    assert_int_equal(hsm_secret_from(source, "", &secret), HSM_OK);
    assert_secret(secret, "second");
    secret = NULL;
    assert_int_equal(hsm_secret_read_fd(ends[0], &secret), HSM_ERR_MALFORMED); /* end of file */
    close(ends[0]);
    assert_int_equal(hsm_secret_read_fd(ends[0], &secret), HSM_ERR_IO);
    assert_null(secret);
}

static void
sources_are_named_in_four_ways(void **state)
{
    struct hsm_secret *secret = NULL;
    char source[160];

    (void)state;
    file_of("pin", "2468\n", 5);
    snprintf(source, sizeof(source), "file:%s", path_of("pin"));
    assert_int_equal(hsm_secret_from(source, "", &secret), HSM_OK);
    assert_secret(secret, "2468");
    assert_int_equal(hsm_secret_from(path_of("pin"), "", &secret), HSM_OK);
    assert_secret(secret, "2468");
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    assert_int_equal(hsm_secret_from("credential:pin", "", &secret), HSM_OK);
    assert_secret(secret, "2468");
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void
bad_sources_are_refused(void **state)
{
    static const struct {
        const char *source;
        enum hsm_status status;
    } rows[] = {
        {"fd:", HSM_ERR_MALFORMED},
        {"fd:x", HSM_ERR_MALFORMED},
        {"fd:-1", HSM_ERR_MALFORMED},
        {"fd:3x", HSM_ERR_MALFORMED},
        {"fd:99999999999999999999", HSM_ERR_MALFORMED},
        {"fd:1000", HSM_ERR_IO},
        {"credential:", HSM_ERR_MALFORMED},
        {"credential:../pin", HSM_ERR_MALFORMED},
        {"credential:..", HSM_ERR_MALFORMED},
        {"credential:absent", HSM_ERR_NOT_FOUND},
        {"file:/absent", HSM_ERR_NOT_FOUND},
        {"", HSM_ERR_USAGE},
        {"1234", HSM_ERR_USAGE}, /* the PIN itself instead of a source */
    };
    struct hsm_secret *secret = NULL;

    (void)state;
    assert_int_equal(hsm_secret_from("credential:pin", "", &secret), HSM_ERR_NOT_FOUND);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(hsm_secret_from(rows[i].source, "", &secret), rows[i].status);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_null(secret);
}

/* `shown` receives what the terminal displays, up to size - 1 characters. */
static void
answer_on_terminal(int terminal, const char *answer, char *shown, size_t size)
{
    struct termios mode;
    size_t used = 0;
    ssize_t n;

    for (int waited_ms = 0; waited_ms < 10000; waited_ms++) {
        assert_int_equal(tcgetattr(terminal, &mode), 0);
        if ((mode.c_lflag & ECHO) == 0)
            break;
        usleep(1000);
    }
    assert_int_equal(write(terminal, answer, strlen(answer)), strlen(answer));
    while ((n = read(terminal, shown + used, size - 1 - used)) > 0) /* EIO after the child's end */
        used += (size_t)n;
    shown[used] = '\0';
}

/* Exit status of a child that prompts for a secret on its own terminal and compares it with
 * `expected`. */
static int
status_of_prompt(const char *answer, const char *expected, char *shown, size_t size)
{
    int terminal = -1;
    int status = -1;
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);

    assert_true(child >= 0);
    if (child == 0) {
        struct hsm_secret *secret = NULL;
        enum hsm_status st = hsm_secret_from("prompt", "Say it: ", &secret);

        if (st != HSM_OK)
            _exit(expected == NULL ? 0 : 1);
        _exit(expected != NULL && hsm_secret_equals(secret, expected, strlen(expected)) ? 0 : 2);
    }
    answer_on_terminal(terminal, answer, shown, size);
    close(terminal);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
a_prompt_asks_and_does_not_echo(void **state)
{
    char shown[256];

    (void)state;
    assert_int_equal(status_of_prompt("97531\n", "97531", shown, sizeof(shown)), 0);
    assert_non_null(strstr(shown, "Say it: "));
    assert_null(strstr(shown, "97531"));
    assert_int_equal(status_of_prompt("\n", NULL, shown, sizeof(shown)), 0);
}

static void
random_secrets_are_hex_and_differ(void **state)
{
    struct hsm_secret *a = NULL;
    struct hsm_secret *b = NULL;

    (void)state;
    assert_int_equal(hsm_secret_random(32, &a), HSM_OK);
    assert_int_equal(hsm_secret_random(32, &b), HSM_OK);
    assert_int_equal(hsm_secret_len(a), 64);
    assert_int_equal(strspn(hsm_secret_octets(a), "0123456789abcdef"), 64);
    assert_false(hsm_secret_equals(a, hsm_secret_octets(b), 64));
    hsm_secret_free(a);
    hsm_secret_free(b);
    assert_int_equal(hsm_secret_random(0, &a), HSM_ERR_USAGE);
    assert_int_equal(hsm_secret_random(HSM_SECRET_MAX, &a), HSM_ERR_USAGE);
    assert_int_equal(hsm_secret_random(HSM_SECRET_MAX / 2, &a), HSM_OK);
    assert_int_equal(hsm_secret_len(a), HSM_SECRET_MAX);
    hsm_secret_free(a);
}

static void
a_secret_is_written_once_for_its_owner_alone(void **state)
{
    struct hsm_secret *secret = NULL;
    struct hsm_secret *back = NULL;
    struct stat about;

    (void)state;
    assert_int_equal(hsm_secret_new("token", 5, &secret), HSM_OK);
    assert_int_equal(hsm_secret_write(secret, path_of("made")), HSM_OK);
    assert_int_equal(stat(path_of("made"), &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_int_equal(hsm_secret_read(path_of("made"), &back), HSM_OK);
    assert_secret(back, "token");
    assert_int_equal(hsm_secret_write(secret, path_of("made")), HSM_ERR_EXISTS);
    assert_int_equal(hsm_secret_write(secret, path_of("absent/made")), HSM_ERR_IO);
    hsm_secret_free(secret);
}

/* The old block of what grows is wiped before it is freed; see acme/test_http_remains.c for both.
 */
static void
a_block_grows_with_its_octets(void **state)
{
    char *block = hsm_wipe_realloc(NULL, 4);
    char *same;

    (void)state;
    assert_non_null(block);
    memcpy(block, "pin", 4);
    same = hsm_wipe_realloc(block, 2);
    assert_ptr_equal(same, block);
    block = hsm_wipe_realloc(block, 100000);
    assert_non_null(block);
    assert_string_equal(block, "pin");
    hsm_wipe_free(block);
    hsm_wipe_free(NULL);
}

static int
make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int
remove_directory(void **state)
{
    static const char *const names[] = {"pin", "f", "made"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i]));
    return rmdir(directory); /* fails if a temporary file is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_keeps_its_octets),
        cmocka_unit_test(empty_and_oversized_secrets_are_refused),
        cmocka_unit_test(a_file_gives_its_first_line),
        cmocka_unit_test(a_file_that_others_may_have_made_or_read_is_not_our_own),
        cmocka_unit_test(files_that_hold_no_secret_are_refused),
        cmocka_unit_test(a_pipe_gives_one_secret_a_line),
        cmocka_unit_test(sources_are_named_in_four_ways),
        cmocka_unit_test(bad_sources_are_refused),
        cmocka_unit_test(a_prompt_asks_and_does_not_echo),
        cmocka_unit_test(random_secrets_are_hex_and_differ),
        cmocka_unit_test(a_secret_is_written_once_for_its_owner_alone),
        cmocka_unit_test(a_block_grows_with_its_octets),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
