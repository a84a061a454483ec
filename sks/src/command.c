/* command.c - run an operator's program, without a shell. */
#define _GNU_SOURCE /* posix_spawn_file_actions_addclosefrom_np, pidfd_open */
#include <sks/command.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/pidfd.h>
#include <sys/wait.h>

#include <hsm/clock.h>

/* The words of a command, in the form that posix_spawn() takes. */
struct words {
    char text[SKS_COMMAND_TEXT_MAX];
    size_t used;
    char *argv[SKS_COMMAND_WORDS_MAX + 1];
    size_t count;
};

static bool
append(struct words *words, const char *octets, size_t len)
{
    if (len >= sizeof(words->text) - words->used)
        return false;
    memcpy(words->text + words->used, octets, len);
    words->used += len;
    return true;
}

/* The value for the "{name}" at `at`, and the length of "{name}"; NULL: unknown. */
static const char *
value_at(const char *at, const struct sks_command_value *values, size_t *len)
{
    for (; values != NULL && values->name != NULL; values++) {
        size_t name_len = strlen(values->name);

        if (strncmp(at + 1, values->name, name_len) == 0 && at[name_len + 1] == '}') {
            *len = name_len + 2;
            return values->value;
        }
    }
    return NULL;
}

static enum hsm_status
too_long(struct hsm_reason *why)
{
    return hsm_refuse(why, HSM_ERR_MALFORMED, "the command is too long");
}

/* Add one word of the command, with its values filled in. */
static enum hsm_status
add_word(struct words *words, const char *word, size_t word_len,
         const struct sks_command_value *values, struct hsm_reason *why)
{
    if (words->count == SKS_COMMAND_WORDS_MAX)
        return too_long(why);
    words->argv[words->count++] = words->text + words->used;
    for (size_t i = 0; i < word_len;) {
        size_t taken = 1;
        const char *octets = word + i;
        size_t len = 1;

        if (word[i] == '{') {
            octets = value_at(word + i, values, &taken);
            if (octets == NULL)
                return hsm_refuse(why, HSM_ERR_MALFORMED, "the command's %.*s stands for nothing",
                                  (int)word_len, word);
            len = strlen(octets);
        }
        if (!append(words, octets, len))
            return too_long(why);
        i += taken;
    }
    return append(words, "", 1) ? HSM_OK : too_long(why);
}

static enum hsm_status
split(const char *command, const struct sks_command_value *values, struct words *words,
      struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    words->used = words->count = 0;
    for (const char *at = command + strspn(command, " "); st == HSM_OK && *at != '\0';
         at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");

        st = add_word(words, at, len, values, why);
        at += len;
    }
    words->argv[words->count] = NULL;
    if (st == HSM_OK && (words->count == 0 || words->argv[0][0] != '/'))
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "the command's program is not an absolute path");
    return st;
}

enum hsm_status
sks_command_check(const char *command, const struct sks_command_value *values,
                  struct hsm_reason *why)
{
    struct words words;
    enum hsm_status st = split(command, values, &words, why);

    if (st == HSM_OK && access(words.argv[0], X_OK) != 0)
        st = hsm_refuse(why, HSM_ERR_IO, "%s: %s", words.argv[0], strerror(errno));
    return st;
}

/* The program starts with no signal blocked or ignored, and with no descriptor of ours but standard
 * error. */
static int
spawn(const struct words *words, pid_t *out)
{
    static char path[] = "PATH=/usr/bin:/bin";
    char *const environment[] = {path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    rc = posix_spawn(out, words->argv[0], &actions, &attributes, words->argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* True if the process ended in time. */
static bool
wait_for_end(pid_t pid, unsigned timeout_s)
{
    struct pollfd process = {.fd = pidfd_open(pid, 0), .events = POLLIN};
    time_t now = hsm_clock_s();
    const time_t until = now + (time_t)timeout_s;
    int rc = 0;

    if (process.fd < 0)
        return false;
    do {
        rc = poll(&process, 1, (int)(until - now) * 1000);
        now = hsm_clock_s();
    } while (rc < 0 && errno == EINTR && now < until);
    close(process.fd);
    return rc == 1;
}

enum hsm_status
sks_command_run(const char *command, const struct sks_command_value *values, unsigned timeout_s,
                struct hsm_reason *why)
{
    struct words words;
    int status = 0;
    bool ended;
    pid_t pid;
    int rc;
    enum hsm_status st = split(command, values, &words, why);

    if (st != HSM_OK)
        return st;
    rc = spawn(&words, &pid);
    if (rc != 0)
        return hsm_refuse(why, HSM_ERR_IO, "%s: %s", words.argv[0], strerror(rc));
    ended = wait_for_end(pid, timeout_s);
    (void)kill(-pid, SIGKILL); /* and whatever it left behind */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!ended)
        return hsm_refuse(why, HSM_ERR_BUSY, "%s: not ended after %u s", words.argv[0], timeout_s);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return HSM_OK;
    if (WIFSIGNALED(status))
        return hsm_refuse(why, HSM_ERR_BUSY, "%s: ended by signal %d", words.argv[0],
                          WTERMSIG(status));
    return hsm_refuse(why, HSM_ERR_BUSY, "%s: exit status %d", words.argv[0], WEXITSTATUS(status));
}
