/* skips.c - skip the tests that a token cannot pass, and print the reason. */
#define _GNU_SOURCE /* program_invocation_short_name */
#include "skips.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 512 /* octets */

static void
is_skipped(void **state)
{
    (void)state;
    skip();
}

static void
give_up(const char *what, const char *which)
{
    fprintf(stderr, "%s: %s\n", what, which);
    abort();
}

/* Split "PROGRAM.TEST REASON". Returns the test's name, or NULL if the line is for another program.
 */
static char *
test_of_line(char *line, char **reason)
{
    size_t len = strlen(program_invocation_short_name);
    char *blank = strchr(line, ' ');

    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '#' || line[0] == '\0')
        return NULL;
    if (blank == NULL)
        give_up("skipped without a reason", line);
    if (strncmp(line, program_invocation_short_name, len) != 0 || line[len] != '.')
        return NULL;
    *blank = '\0';
    *reason = blank + 1;
    return line + len + 1;
}

static void
skip_one(struct CMUnitTest *tests, size_t count, const char *name, const char *reason)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tests[i].name, name) != 0)
            continue;
        print_message("skipped: %s: %s\n", name, reason);
        tests[i].test_func = is_skipped;
        tests[i].setup_func = NULL;
        tests[i].teardown_func = NULL;
        return;
    }
    give_up("skipped and not there", name);
}

int
skips_run(const char *group, const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup,
          CMFixtureFunction teardown)
{
    const char *path = getenv("STI_TEST_SKIPS");
    struct CMUnitTest *chosen = calloc(count + 1, sizeof(*chosen));
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    char line[LINE_SIZE];
    char *reason = NULL;
    int failed;

    if (chosen == NULL || (path != NULL && file == NULL))
        give_up("STI_TEST_SKIPS", path != NULL ? path : "memory");
    memcpy(chosen, tests, count * sizeof(*chosen));
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *name = test_of_line(line, &reason);

        if (name != NULL)
            skip_one(chosen, count, name, reason);
    }
    if (file != NULL)
        fclose(file);
    failed = _cmocka_run_group_tests(group, chosen, count, setup, teardown);
    free(chosen);
    return failed;
}
