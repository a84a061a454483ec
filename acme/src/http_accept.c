/* http_accept.c - new connections: served, refused, or left to other processes. */
#define _GNU_SOURCE /* accept4 */
#include "http_loop_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <hsm/clock.h>
#include <hsm/log.h>

#define REFUSED_AT_ONCE 64 /* connections closed in one turn while the server is full */

static bool
is_full(const struct http_server *server)
{
    return server->connection_count >= server->connections_max;
}

/* A full server stops accepting from a shared socket: other processes accept there, or connections
 * wait in its backlog. From its own socket it accepts connections and closes them. */
void
acme_http_accept_update(struct http_server *server)
{
    bool wanted = server->fd >= 0 && (server->listener != NULL || !is_full(server));

    if (wanted == server->is_accepting)
        return;
    if (wanted)
        event_add(&server->acceptable, NULL);
    else
        event_del(&server->acceptable);
    server->is_accepting = wanted;
}

/* False: no connection is waiting, or accept4() failed. */
static bool
accept_one(struct http_server *server, struct sockaddr_storage *from, int *out)
{
    socklen_t len = sizeof(*from);

    memset(from, 0, sizeof(*from));
    *out = accept4(server->fd, (struct sockaddr *)from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (*out >= 0)
        return true;
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return false;
    /* Probably out of descriptors. The connection stays in the backlog and would make the socket
     * readable again and again; acme_http_sweep() resumes accepting. */
    hsm_log(HSM_LOG_ERROR, "%s: cannot accept connections for a while: %s", server->address,
            strerror(errno));
    event_del(&server->acceptable);
    server->is_accepting = false;
    return false;
}

/* At most once a second: a flood of connections must not flood the log. */
void
acme_http_accept_tell(struct http_server *server)
{
    time_t now = hsm_clock_s();

    if (server->refused == 0 || now == server->refused_told)
        return;
    hsm_log(HSM_LOG_WARNING, "%s: %zu connections are open; %zu refused", server->address,
            server->connection_count, server->refused);
    server->refused = 0;
    server->refused_told = now;
}

static void
refuse_some(struct http_server *server)
{
    struct sockaddr_storage from;
    int fd;

    for (int i = 0; i < REFUSED_AT_ONCE && accept_one(server, &from, &fd); i++) {
        close(fd);
        server->refused++;
    }
    acme_http_accept_tell(server);
}

/* One connection per turn: of several processes that were woken, each takes one. */
static void
on_acceptable(evutil_socket_t listening, short what, void *context)
{
    struct http_server *server = context;
    struct sockaddr_storage from;
    int fd;

    (void)listening;
    (void)what;
    if (is_full(server)) {
        refuse_some(server);
    } else if (accept_one(server, &from, &fd)) {
        acme_http_connection_open(server, fd, (const struct sockaddr *)&from);
        acme_http_accept_update(server);
    }
}

bool
acme_http_accept_start(struct http_server *server)
{
    if (event_assign(&server->acceptable, server->loop->base, server->fd, EV_READ | EV_PERSIST,
                     on_acceptable, server) != 0)
        return false;
    acme_http_accept_update(server);
    return true;
}

void
acme_http_accept_stop(struct http_server *server)
{
    if (server->fd < 0)
        return;
    if (server->is_accepting)
        event_del(&server->acceptable);
    server->is_accepting = false;
    server->fd = -1;
    if (server->listener != NULL) {
        close(server->listener->fd);
        server->listener->fd = -1;
    }
}
