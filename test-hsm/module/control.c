/* control.c - the socket for commands. */
#define _GNU_SOURCE /* accept4 */
#include "control.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "sti_fault.h"

#define CLIENT_PATIENCE_S 5 /* for a client to send its script */

static atomic_long listening; /* id of the process that listens */
static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
static pid_t socket_owner;

static void
remove_socket(void)
{
    if (socket_owner == getpid())
        unlink(socket_path);
}

/* One script, to the end of file; NULL: too long, or the client went away. */
static char *
read_script(int fd)
{
    char *script = malloc(FAULT_COMMANDS_MAX + 1);
    size_t len = 0;
    ssize_t n = 1;

    while (script != NULL && n > 0 && len < FAULT_COMMANDS_MAX) {
        n = read(fd, script + len, FAULT_COMMANDS_MAX - len);
        len += n > 0 ? (size_t)n : 0;
        n = n < 0 && errno == EINTR ? 1 : n;
    }
    if (script == NULL || n != 0) {
        free(script);
        return NULL;
    }
    script[len] = '\0';
    return script;
}

static void
send_all(int fd, const char *text)
{
    size_t len = strlen(text);
    ssize_t n = 0;

    for (size_t sent = 0; sent < len && n >= 0; sent += (size_t)n) {
        n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            n = 0;
    }
}

static void
serve(int fd)
{
    struct timeval patience = {.tv_sec = CLIENT_PATIENCE_S};
    char *script;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    script = read_script(fd);
    send_all(fd, script != NULL ? sti_fault_control(script) : "error: no script");
    send_all(fd, "\n");
    free(script);
    close(fd);
}

static void *
listen_for_ever(void *arg)
{
    int listener = (int)(intptr_t)arg;

    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            serve(fd);
        else if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    close(listener);
    return NULL;
}

/* With signals blocked: they are for the program's own threads. */
static bool
start_thread(int listener)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attr, listen_for_ever, (void *)(intptr_t)listener);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0;
}

static int
bind_socket(const char *directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%ld.sock", directory,
                     (long)getpid());

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    unlink(address.sun_path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        chmod(address.sun_path, 0600) != 0 || listen(fd, 16) != 0) {
        close(fd);
        return -1;
    }
    memcpy(socket_path, address.sun_path, sizeof(socket_path));
    return fd;
}

void
fault_control_listen(void)
{
    const char *directory = getenv("STI_FAULT_CONTROL");
    long pid = (long)getpid();
    int listener;

    if (directory == NULL || atomic_exchange(&listening, pid) == pid)
        return;
    listener = bind_socket(directory);
    if (listener < 0 || !start_thread(listener)) {
        fprintf(stderr, "sti-fault-module: %s: cannot listen: %s\n", directory, strerror(errno));
        return;
    }
    if (socket_owner == 0)
        atexit(remove_socket);
    socket_owner = getpid();
}
