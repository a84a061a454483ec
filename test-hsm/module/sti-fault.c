/*
 * sti-fault.c - give commands to every process that has the fault module loaded.
 *
 *   sti-fault [--pid PID] DIR COMMAND [WORD...]
 *
 * DIR is the directory in $STI_FAULT_CONTROL of those processes. Each reply is a line "PID: REPLY";
 * with --pid it is the reply alone. A COMMAND of "-" is a script on standard input. Exit status: 0
 * all processes obeyed, 1 one refused or none listens, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "control.h"
#include "script.h"

#define EXIT_USAGE 2

struct request {
    const char *directory;
    const char *pid; /* NULL: every process */
    char commands[FAULT_COMMANDS_MAX + 1];
};

static int
usage(FILE *to, int status)
{
    fputs("usage: sti-fault [--pid PID] DIR COMMAND [WORD...]\n"
          "       sti-fault [--pid PID] DIR -      (commands on standard input)\n",
          to);
    return status;
}

static bool
add_word(struct request *request, const char *word)
{
    size_t len = strlen(request->commands);
    bool quote = strpbrk(word, " \t") != NULL;
    size_t room = sizeof(request->commands) - len;
    int n = snprintf(request->commands + len, room, "%s%s%s%s", len > 0 ? " " : "",
                     quote ? "\"" : "", word, quote ? "\"" : "");

    return n >= 0 && (size_t)n < room;
}

static bool
read_commands(struct request *request)
{
    size_t len = fread(request->commands, 1, sizeof(request->commands) - 1, stdin);

    request->commands[len] = '\0';
    return feof(stdin) || getchar() == EOF;
}

/* False: wrong usage. */
static bool
read_arguments(int argc, char **argv, struct request *out)
{
    int at = 1;

    if (at + 1 < argc && strcmp(argv[at], "--pid") == 0) {
        out->pid = argv[at + 1];
        at += 2;
    }
    if (argc - at < 2)
        return false;
    out->directory = argv[at++];
    if (strcmp(argv[at], "-") == 0)
        return argc == at + 1 && read_commands(out);
    for (; at < argc; at++) {
        if (!add_word(out, argv[at]))
            return false;
    }
    return true;
}

static int
connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(address.sun_path))
        return -1;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool
send_all(int fd, const char *text)
{
    size_t len = strlen(text);
    size_t sent = 0;

    while (sent < len) {
        ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return false;
        sent += n > 0 ? (size_t)n : 0;
    }
    return shutdown(fd, SHUT_WR) == 0;
}

static size_t
receive(int fd, char *text, size_t size)
{
    size_t len = 0;
    ssize_t n = 1;

    while (n > 0 && len < size - 1) {
        n = read(fd, text + len, size - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    return len;
}

static void
print_reply(const struct request *request, const char *pid, char *reply)
{
    char *rest = NULL;

    if (request->pid != NULL) {
        fputs(reply, stdout);
        return;
    }
    for (char *line = strtok_r(reply, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        printf("%s: %s\n", pid, line);
}

/* False: the process refused. A process that has ended is skipped: only its socket is left. */
static bool
ask(const struct request *request, const char *pid, unsigned *asked)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    char reply[FAULT_REPLY_SIZE + 2];
    bool good;
    int fd;
    int n = snprintf(path, sizeof(path), "%s/%s.sock", request->directory, pid);

    fd = n > 0 && (size_t)n < sizeof(path) ? connect_to(path) : -1;
    if (fd < 0)
        return true;
    good = send_all(fd, request->commands) && receive(fd, reply, sizeof(reply)) > 0;
    close(fd);
    if (!good)
        return true;
    (*asked)++;
    good = strncmp(reply, "error: ", strlen("error: ")) != 0;
    print_reply(request, pid, reply);
    return good;
}

static bool
ask_all(const struct request *request, unsigned *asked)
{
    DIR *directory = opendir(request->directory);
    const struct dirent *entry;
    bool good = true;

    if (directory == NULL)
        return true;
    while ((entry = readdir(directory)) != NULL) {
        char pid[32];
        size_t len = strspn(entry->d_name, "0123456789");

        if (len == 0 || len >= sizeof(pid) || strcmp(entry->d_name + len, ".sock") != 0)
            continue;
        memcpy(pid, entry->d_name, len);
        pid[len] = '\0';
        good = ask(request, pid, asked) && good;
    }
    closedir(directory);
    return good;
}

int
main(int argc, char **argv)
{
    static struct request request;
    unsigned asked = 0;
    bool good;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, EXIT_SUCCESS);
    if (!read_arguments(argc, argv, &request))
        return usage(stderr, EXIT_USAGE);
    good = request.pid != NULL ? ask(&request, request.pid, &asked) : ask_all(&request, &asked);
    if (asked == 0)
        fprintf(stderr, "sti-fault: %s: nobody listens\n", request.directory);
    return good && asked > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
