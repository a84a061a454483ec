/* http_patience.c - timeouts of connections. */
#include "http_loop_internal.h"

/* Idle seconds allowed when connections must not be kept longer than necessary. */
#define HASTE_S 3

size_t
acme_http_output_len(const struct http_output *output)
{
    return output->lens[0] + output->lens[1];
}

/* Nearly full: idle connections must not keep others out. */
static bool
is_crowded(const struct http_server *server)
{
    return server->connection_count >= server->connections_max - server->connections_max / 8;
}

/* A draining loop does not wait long for connections without a request in progress. */
static bool
is_in_haste(const struct http_connection *connection)
{
    const struct http_server *server = connection->server;

    return !connection->is_replying &&
           ((server->loop->is_draining && connection->input.len == 0) || is_crowded(server));
}

bool
acme_http_is_overdue(const struct http_connection *connection, time_t now)
{
    time_t idle_s = (time_t)connection->server->idle_s;

    if (connection->call != NULL)
        return false;
    if (is_in_haste(connection) && idle_s > HASTE_S)
        idle_s = HASTE_S;
    return now - connection->progress > idle_s || now - connection->since > 2 * idle_s;
}

static bool
is_slower(const struct http_connection *a, const struct http_connection *b)
{
    return b == NULL || a->progress < b->progress;
}

struct http_connection *
acme_http_slowest(const struct acme_http_loop *loop, const struct http_connection *but)
{
    const struct http_server *server;
    struct http_connection *connection, *slowest = NULL;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        TAILQ_FOREACH(connection, &server->connections, all)
        {
            if (acme_http_output_len(&connection->output) > 0 && connection != but &&
                is_slower(connection, slowest))
                slowest = connection;
        }
    }
    return slowest;
}
