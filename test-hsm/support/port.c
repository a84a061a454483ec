/* port.c - a port for a server that a test starts. */
#include "port.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define FIRST 10240
#define COUNT 16384 /* ends below ip_local_port_range of the kernel: 32768 and more */
#define TRIES 1000

static bool
is_free(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;

    if (fd >= 0)
        close(fd);
    return is_bound;
}

unsigned
free_port(void)
{
    static unsigned next;

    for (int i = 0; i < TRIES; i++) {
        unsigned port = FIRST + ((unsigned)getpid() * 37 + next++) % COUNT;

        if (is_free(port))
            return port;
    }
    abort();
}
