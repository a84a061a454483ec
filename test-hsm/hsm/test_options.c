/* test_options.c - mirrors hsm/program/options/options.c. */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include "options.h"

#define WORDS_MAX 12
#define NAMES_MAX 2 /* number of --name options */

struct arguments {
    const char *config, *pin_source, *pin_tries, *count;
    const char *names[NAMES_MAX + 1];
    bool json;
    struct operands operands;
};

static const struct option_row rows[] = {
    {"config", "FILE", AT(config), "the configuration"},
    {"pin-source", "SOURCE", AT(pin_source), "where the PIN is"},
    {"pin-tries", "N", AT(pin_tries), "how often"},
    {"count", "N", AT(count), "how many (default 7)"},
    {"name", "NAME", LIST(names), "may be repeated"},
    {"json", NULL, SWITCH(json), "print JSON"},
    {.name = NULL},
};

/* The parsed arguments, one per line. */
static enum hsm_status
print_arguments(const struct arguments *arguments)
{
    printf("config %s\nsource %s\njson %d\n", arguments->config,
           arguments->pin_source != NULL ? arguments->pin_source : "-", arguments->json);
    for (size_t i = 0; arguments->names[i] != NULL; i++)
        printf("name %s\n", arguments->names[i]);
    for (size_t i = 0; i < arguments->operands.count; i++)
        printf("operand %s\n", arguments->operands.all[i]);
    return HSM_OK;
}

static enum hsm_status
print_count(const struct arguments *arguments)
{
    long long count = 7;
    enum hsm_status st = HSM_OK;

    if (arguments->count != NULL)
        st = options_number("count", arguments->count, 1, 100, &count);
    if (st == HSM_OK)
        printf("count %lld\n", count);
    return st;
}

static enum hsm_status
not_found(const struct arguments *arguments)
{
    (void)arguments;
    return HSM_ERR_NOT_FOUND;
}

static const struct command commands[] = {
    {"serve", "config! json name pin-source pin-tries", NULL, "serve them", NULL, print_arguments},
    {"show", "config! json name", "FILE...", "show files", "A file is a file.\n", print_arguments},
    {"show one", "config!", "[FILE]", "show one file", NULL, print_arguments},
    {"account key add", "count", NULL, "a key", NULL, print_count},
    {"account key drop", "", NULL, "no key", NULL, not_found},
};

static void
print_more(void)
{
    printf("more to say\n");
}

static struct option_table table = {
    .program = "sti-test",
    .purpose = "What it is for.",
    .rows = rows,
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
    .arguments_size = sizeof(struct arguments),
    .operands_offset = offsetof(struct arguments, operands),
    .more = print_more,
};

static char said[8192], told[8192]; /* standard output and error of the last run */

static void
read_whole(FILE *from, char *out)
{
    rewind(from);
    out[fread(out, 1, sizeof(said) - 1, from)] = '\0';
    fclose(from);
}

/* Run a child with this command line, split at blanks; returns its exit status. */
static int
run_to(int output, int error, const char *line)
{
    int status = -1;
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        char text[256];
        char name[] = "sti-test";
        char *argv[WORDS_MAX + 2] = {name};
        char *rest = NULL;
        int argc = 1;

        snprintf(text, sizeof(text), "%s", line);
        for (char *word = strtok_r(text, " ", &rest); word != NULL && argc <= WORDS_MAX;
             word = strtok_r(NULL, " ", &rest))
            argv[argc++] = word;
        dup2(output, STDOUT_FILENO);
        dup2(error, STDERR_FILENO);
        _exit(options_main(&table, argc, argv));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int
run(const char *line)
{
    FILE *output = tmpfile();
    FILE *error = tmpfile();
    int status;

    assert_non_null(output);
    assert_non_null(error);
    status = run_to(fileno(output), fileno(error), line);
    read_whole(output, said);
    read_whole(error, told);
    return status;
}

static void
a_command_gets_what_the_line_says(void **state)
{
    static const struct {
        const char *line, *said;
    } table_of_lines[] = {
        {"serve --config a", "config a\nsource -\njson 0\n"},
        {"serve --json --config=a --pin-source fd:3", "config a\nsource fd:3\njson 1\n"},
        {"serve --config --json", "config --json\nsource -\njson 0\n"},
        {"serve --config= --name x --name=y=z", "config \nsource -\njson 0\nname x\nname y=z\n"},
        {"show x --config a y", "config a\nsource -\njson 0\noperand x\noperand y\n"},
        {"show --config a - -- --json --", "config a\nsource -\njson 0\noperand -\n"
                                           "operand --json\noperand --\n"},
        {"show one --config a", "config a\nsource -\njson 0\n"},
        {"show one --config a x", "config a\nsource -\njson 0\noperand x\n"},
        {"show two --config a", "config a\nsource -\njson 0\noperand two\n"},
        {"account key add", "count 7\n"},
        {"account key add --count 100", "count 100\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table_of_lines) / sizeof(table_of_lines[0]); i++) {
        assert_int_equal(run(table_of_lines[i].line), 0);
        assert_string_equal(said, table_of_lines[i].said);
        assert_string_equal(told, "");
    }
    assert_int_equal(run("account key drop"), 1);
}

/* A refusal does not repeat the value of an option: "2468" may be a PIN. */
static void
a_refusal_names_the_option_and_not_its_value(void **state)
{
    static const struct {
        const char *line, *told;
    } refusals[] = {
        {"", "no command"},
        {"2468", "no such command; see sti-test --help"},
        {"account", "no such command"},
        {"account key", "no such command"},
        {"account key 2468", "no such command"},
        {"account 2468 add", "no such command"},
        {"--config=2468 serve", "--config: the command comes first"},
        {"account --pin=2468 key add", "--pin: the command comes first"},
        {"serve", "serve: --config is needed"},
        {"serve --config", "--config: FILE is needed"},
        {"serve --config a 2468", "serve: too many arguments"},
        {"serve --config a --config=2468", "--config is there twice"},
        {"serve --config a --json --json", "--json is there twice"},
        {"serve --config a --json=2468", "--json takes no value"},
        {"serve --config a --name x --name y --name 2468", "--name is there more than 2 times"},
        {"serve --config a --count 2468", "serve does not take --count"},
        {"serve --config a --nonsense=2468", "serve: unrecognized option --nonsense\n"},
        {"serve --config a --nonsense 2468", "serve: unrecognized option --nonsense\n"},
        {"serve --config a --pin=2468", "--pin is cut short, and ambiguous"},
        {"serve --config a --pin-s=2468", "--pin-s is cut short: write --pin-source\n"},
        {"serve --config a --pin-s 2468", "--pin-s is cut short: write --pin-source\n"},
        {"serve --config a --pin-sources 2468", "unrecognized option --pin-sources\n"},
        {"serve --config a --=2468", "cut short, and ambiguous"},
        {"serve --config a -p2468", "serve: options begin with two dashes\n"},
        {"serve --config a --a-name-that-is-longer-than-any-option-of-2468",
         "unrecognized option --a-name-that-is-longer-than-any-option-of\n"},
        {"show --config a", "show: FILE... is needed"},
        {"show one --config a x 2468", "show one: too many arguments"},
        {"account key add --count 0", "--count: not a number from 1 to 100\n"},
        {"account key add --count 2468", "--count: not a number from 1 to 100\n"},
        {"account key add --count=", "--count: not a number from 1 to 100\n"},
        {"account key add --count +1", "--count: not a number from 1 to 100\n"},
        {"account key add --count 1x", "--count: not a number from 1 to 100\n"},
        {"account key add --count 99999999999999999999", "--count: not a number from 1 to 100\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        assert_int_equal(run(refusals[i].line), 2);
        assert_string_equal(said, "");
        assert_int_equal(strncmp(told, "sti-test: ", 10), 0);
        if (strstr(told, refusals[i].told) == NULL)
            fail_msg("\"%s\": %s", refusals[i].line, told);
        assert_null(strstr(told, "2468"));
    }
}

static void
help_and_version_are_told_at_every_level(void **state)
{
    (void)state;
    assert_int_equal(run("--help"), 0);
    assert_string_equal(said, "usage: sti-test COMMAND [OPTION...]\n\nWhat it is for.\n\n"
                              "  serve                   serve them\n"
                              "  show FILE...            show files\n"
                              "  show one [FILE]         show one file\n"
                              "  account key add         a key\n"
                              "  account key drop        no key\n\n"
                              "Each takes --help. No private key leaves its token; PINs and"
                              " passwords are never arguments.\n"
                              "more to say\n");
    assert_int_equal(run("account key --help"), 0);
    assert_non_null(strstr(said, "usage: sti-test account key COMMAND"));
    assert_non_null(strstr(said, "account key add"));
    assert_null(strstr(said, "serve"));
    assert_null(strstr(said, "more to say"));
    assert_int_equal(run("show --name x --help --nonsense"), 0);
    assert_string_equal(said, "usage: sti-test show --config FILE [OPTION...] FILE...\n\n"
                              "show files\n\n"
                              "  --config FILE           the configuration\n"
                              "  --name NAME             may be repeated\n"
                              "  --json                  print JSON\n"
                              "  --help                  this text\n"
                              "  --version               the version\n\n"
                              "A file is a file.\n");
    assert_int_equal(run("show one --help"), 0);
    assert_non_null(strstr(said, "usage: sti-test show one --config FILE [FILE]\n"));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(run((const char *const[]){"--version", "account --version",
                                                   "serve --json --version"}[i]),
                         0);
        assert_int_equal(strncmp(said, "sti-test ", 9), 0);
    }
}

static void
of_what_is_said_twice_the_last_counts_where_a_table_wants_it(void **state)
{
    (void)state;
    table.last_counts = true;
    assert_int_equal(run("serve --config a --json --json --config b"), 0);
    table.last_counts = false;
    assert_string_equal(said, "config b\nsource -\njson 1\n");
    assert_int_equal(run("serve --config a --config b"), 2);
}

static void
what_cannot_be_written_is_a_failure_unless_nobody_reads(void **state)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int ends[2];

    (void)state;
    assert_true(full >= 0 && nowhere >= 0);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(run_to(full, nowhere, "account key add"), 1);
    assert_int_equal(run_to(full, nowhere, "--help"), 1);
    assert_int_equal(run_to(ends[1], nowhere, "account key add"), 0);
    close(ends[1]);
    close(nowhere);
    close(full);
}

static void
a_number_is_decimal_and_within_its_bounds(void **state)
{
    long long number = 5;

    (void)state;
    assert_int_equal(options_number("id", "9223372036854775807", 1, LLONG_MAX, &number), HSM_OK);
    assert_true(number == LLONG_MAX);
    assert_int_equal(options_number("id", "0", 0, 0, &number), HSM_OK);
    assert_true(number == 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_gets_what_the_line_says),
        cmocka_unit_test(a_refusal_names_the_option_and_not_its_value),
        cmocka_unit_test(help_and_version_are_told_at_every_level),
        cmocka_unit_test(of_what_is_said_twice_the_last_counts_where_a_table_wants_it),
        cmocka_unit_test(what_cannot_be_written_is_a_failure_unless_nobody_reads),
        cmocka_unit_test(a_number_is_decimal_and_within_its_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
