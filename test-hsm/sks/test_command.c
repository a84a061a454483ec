/* test_command.c - mirrors sks/src/command.c: programs that end, fail or hang, and their arguments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include <hsm/process.h>
#include <sks/command.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char dir[] = "/tmp/sti-command.XXXXXX";
static char script[64], seen[64];

static const struct sks_command_value values[] = {
    {"file", "/a b/$(reboot);x"}, {"url", "https://cr.example/x.pem"}, {NULL, NULL}};

static void
write_script(const char *text)
{
    FILE *to = fopen(script, "w");

    assert_non_null(to);
    fprintf(to, "#!/bin/sh\n%s\n", text);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(chmod(script, 0700), 0);
}

static enum hsm_status
run(const char *arguments, unsigned timeout_s, struct hsm_reason *why)
{
    char command[512];

    snprintf(command, sizeof(command), "%s %s", script, arguments);
    return sks_command_run(command, values, timeout_s, why);
}

static void
assert_seen(const char *wanted)
{
    uint8_t *text = NULL;
    size_t len;

    assert_int_equal(hsm_file_read(seen, 4096, &text, &len), HSM_OK);
    assert_string_equal((char *)text, wanted);
    free(text);
}

static void
words_come_as_they_are_and_no_shell_reads_them(void **state)
{
    struct hsm_reason why = {""};
    char text[256];

    (void)state;
    snprintf(text, sizeof(text), "printf '[%%s]' \"$@\" >%s", seen);
    write_script(text);
    assert_int_equal(run("put  {file} --to={url}/x $HOME *", 20, &why), HSM_OK);
    assert_seen("[put][/a b/$(reboot);x][--to=https://cr.example/x.pem/x][$HOME][*]");
}

static void
nothing_of_ours_is_handed_on(void **state)
{
    struct hsm_reason why = {""};
    char text[256];
    FILE *open_here = fopen("/etc/passwd", "r"); /* without O_CLOEXEC */

    (void)state;
    setenv("STI_SECRET", "x", 1);
    snprintf(text, sizeof(text),
             "{ tr '\\0' '\\n' </proc/$$/environ; ls -l /proc/$$/fd | grep -c passwd;"
             " readlink /proc/$$/fd/0; } >%s",
             seen);
    write_script(text);
    assert_int_equal(run("", 20, &why), HSM_OK);
    assert_seen("PATH=/usr/bin:/bin\n0\n/dev/null\n");
    fclose(open_here);
}

static void
a_program_that_fails_or_hangs_is_busy(void **state)
{
    static const struct {
        const char *text;
        unsigned timeout_s;
        const char *why;
    } cases[] = {
        {"exit 3", 20, "exit status 3"},
        {"kill -9 $$", 20, "ended by signal 9"},
        {"sleep 600", 1, "not ended after 1 s"},
        {"trap '' TERM INT HUP; sleep 600 & wait; sleep 600", 1, "not ended after 1 s"},
    };
    time_t before = time(NULL);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hsm_reason why = {""};

        write_script(cases[i].text);
        assert_int_equal(run("", cases[i].timeout_s, &why), HSM_ERR_BUSY);
        if (strstr(why.text, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].text, why.text);
    }
    assert_true(time(NULL) - before < 60);
}

static void
what_is_no_command_is_refused(void **state)
{
    char many[512] = "/bin/true", longer[4096] = "/bin/true ";
    const struct {
        const char *command;
        enum hsm_status wanted;
    } cases[] = {
        {"", HSM_ERR_MALFORMED},
        {"true", HSM_ERR_MALFORMED},
        {"./true", HSM_ERR_MALFORMED},
        {"/bin/true {name}", HSM_ERR_MALFORMED},
        {"/bin/true {", HSM_ERR_MALFORMED},
        {many, HSM_ERR_MALFORMED},
        {longer, HSM_ERR_MALFORMED},
        {"/nowhere/at/all", HSM_ERR_IO},
        {"/etc/passwd", HSM_ERR_IO},
    };

    (void)state;
    for (int i = 0; i < SKS_COMMAND_WORDS_MAX; i++)
        strncat(many, " x", sizeof(many) - strlen(many) - 1);
    memset(longer + strlen(longer), 'x', sizeof(longer) - strlen(longer) - 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hsm_reason why = {""};

        assert_int_equal(sks_command_check(cases[i].command, values, &why), cases[i].wanted);
        assert_string_not_equal(why.text, "");
        assert_int_equal(sks_command_run(cases[i].command, values, 5, &why), cases[i].wanted);
    }
    assert_int_equal(sks_command_check("/bin/true {file}", values, NULL), HSM_OK);
}

static int
start(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(script, sizeof(script), "%s/program", dir);
    snprintf(seen, sizeof(seen), "%s/seen", dir);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    unlink(script);
    unlink(seen);
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_come_as_they_are_and_no_shell_reads_them),
        cmocka_unit_test(nothing_of_ours_is_handed_on),
        cmocka_unit_test(a_program_that_fails_or_hangs_is_busy),
        cmocka_unit_test(what_is_no_command_is_refused),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
