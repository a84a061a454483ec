/* notify.c - the datagrams of sd_notify(3), without libsystemd. */
#include "notify_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <hsm/log.h>

void
hsm_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    socklen_t name_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    ssize_t sent = -1;
    int fd;

    if (len == 0)
        return;
    if ((path[0] != '/' && path[0] != '@') || len >= sizeof(name.sun_path)) {
        hsm_log(HSM_LOG_WARNING, "NOTIFY_SOCKET: not a path or an abstract name");
        return;
    }
    memcpy(name.sun_path, path, len);
    if (path[0] == '@') /* unix(7): the abstract namespace */
        name.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                      (const struct sockaddr *)&name, name_len);
    if (sent < 0)
        hsm_log(HSM_LOG_WARNING, "NOTIFY_SOCKET: %s: %s", state, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* The value of a variable that is a whole number; else 0. */
static long long
number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    long long number;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    number = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

int64_t
hsm_notify_watchdog_ms(void)
{
    long long period_us = number_of("WATCHDOG_USEC");
    long long wanted_pid = number_of("WATCHDOG_PID");

    if (period_us <= 0 || (wanted_pid != 0 && wanted_pid != (long long)getpid()))
        return 0;
    return period_us / 2000 > 0 ? period_us / 2000 : 1;
}
