/* softhsm.c - a throw-away SoftHSM in its own directory. */
#define _GNU_SOURCE /* nftw, environ */
#include "softhsm.h"

#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

#define PATH_SIZE 4096 /* octets */

static char directory[PATH_SIZE];

static void
must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    abort();
}

const char *
softhsm_module(void)
{
    const char *module = getenv("STI_TEST_MODULE");

    return module != NULL ? module : "/usr/lib/softhsm/libsofthsm2.so";
}

bool
softhsm_is_softhsm(void)
{
    return strstr(softhsm_module(), "softhsm") != NULL;
}

const char *
softhsm_dir(void)
{
    return directory;
}

/* reset_on_fork is off by default; real modules behave as if it were on. */
static void
write_config(const char *path)
{
    FILE *file = fopen(path, "w");

    must(file != NULL, path);
    fprintf(file,
            "directories.tokendir = %s/tokens\n"
            "objectstore.backend = file\n"
            "log.level = ERROR\n"
            "slots.removable = false\n"
            "slots.mechanisms = ALL\n"
            "library.reset_on_fork = true\n",
            directory);
    must(fclose(file) == 0, path);
}

/*
 * Called by ThreadSanitizer. SoftHSM, which calls gmtime() in C_GetTokenInfo, and libcrypto were
 * not built with the sanitizer, so reports from within them are suppressed. libcrypto decodes the
 * policies of a certificate at first use, under a lock, but checks for them without it.
 */
const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
    return "race:libsofthsm2.so\ncalled_from_lib:libcrypto.so.3\n";
}

void
softhsm_start(void)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_SIZE + 32];
    int n = snprintf(directory, sizeof(directory), "%s/sti-softhsm.XXXXXX",
                     base != NULL ? base : "/tmp");

    must(n > 0 && (size_t)n < sizeof(directory), "TMPDIR");
    must(mkdtemp(directory) != NULL, directory);
    snprintf(path, sizeof(path), "%s/tokens", directory);
    must(mkdir(path, 0700) == 0, path);
    snprintf(path, sizeof(path), "%s/softhsm2.conf", directory);
    write_config(path);
    must(setenv("SOFTHSM2_CONF", path, 1) == 0, "SOFTHSM2_CONF");
}

static struct hsm_secret *
secret(const char *text)
{
    struct hsm_secret *made = NULL;

    must(hsm_secret_new(text, strlen(text), &made) == HSM_OK, "secret");
    return made;
}

/* For modules without a usable C_InitToken: a program makes the token. */
static void
run_token_command(const char *command, const char *label)
{
    char *const argv[] = {(char *)command, (char *)label, NULL};
    int status = -1;
    pid_t pid;

    must(setenv("STI_TEST_USER_PIN", SOFTHSM_USER_PIN, 1) == 0, "STI_TEST_USER_PIN");
    must(setenv("STI_TEST_SO_PIN", SOFTHSM_SO_PIN, 1) == 0, "STI_TEST_SO_PIN");
    must(posix_spawn(&pid, command, NULL, NULL, argv, environ) == 0, command);
    must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, command);
}

static void
init_token(const char *label)
{
    struct hsm_secret *so_pin = secret(SOFTHSM_SO_PIN);
    struct hsm_secret *pin = secret(SOFTHSM_USER_PIN);

    must(hsm_token_init(softhsm_module(), label, so_pin, pin) == HSM_OK, "hsm_token_init");
    hsm_secret_free(so_pin);
    hsm_secret_free(pin);
}

struct hsm_token *
softhsm_token(const char *label)
{
    const char *command = getenv("STI_TEST_TOKEN_COMMAND");

    if (command != NULL)
        run_token_command(command, label);
    else
        init_token(label);
    return softhsm_reopen(label);
}

struct hsm_token *
softhsm_reopen(const char *label)
{
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = secret(SOFTHSM_USER_PIN);
    const char *timeout = getenv("STI_TEST_TIMEOUT_MS");
    char uri[128];
    struct hsm_token_config config = {
        .uri = uri, .module = softhsm_module(), .pin = pin, .quirks = getenv("STI_TEST_QUIRKS")};

    if (timeout != NULL)
        config.op_timeout_ms = (unsigned)strtoul(timeout, NULL, 10);
    snprintf(uri, sizeof(uri), "pkcs11:token=%s", label);
    must(hsm_token_open(&config, &token) == HSM_OK, "hsm_token_open");
    hsm_secret_free(pin);
    return token;
}

static int
remove_entry(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

void
softhsm_stop(void)
{
    if (directory[0] == '\0')
        return;
    must(nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0, directory);
    directory[0] = '\0';
    unsetenv("SOFTHSM2_CONF");
}
