/* http_server.c - the event loop: servers, signals, timers, stopping. */
#include "http_loop_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/thread.h>
#include <openssl/ssl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/supervise.h>

#define BEAT_S 1 /* seconds between two heartbeats of a worker process */
#define STOP_S 10 /* seconds for calls in flight after a request to stop */
/* Seconds for open connections after a request to drain: twice the idle time. */
#define DRAIN_S           75
#define SWEEP_S_MAX       2 /* seconds between two checks of the connections */
#define DESCRIPTORS_SHARE 4 /* a server's connections use 1/4 of the descriptors */

static bool
has_connections(const struct acme_http_loop *loop)
{
    const struct http_server *server;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        if (server->connection_count > 0)
            return true;
    }
    return false;
}

/* While stopping or draining: end the loop when nothing is left to wait for. */
void
acme_http_end_when_idle(struct acme_http_loop *loop)
{
    if (loop->calls == 0 && loop->replying == 0 &&
        (loop->is_stopping || (loop->is_draining && !has_connections(loop))))
        event_base_loopbreak(loop->base);
}

/* ---- the loop ---------------------------------------------------------- */

static void
begin_stop(struct acme_http_loop *loop)
{
    const struct timeval limit = {STOP_S, 0};
    struct http_server *server;

    loop->is_stopping = true;
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        acme_http_accept_stop(server);
        acme_http_close_idle(server);
    }
    event_add(loop->deadline, &limit);
    acme_http_end_when_idle(loop);
}

/* Other processes serve from now on. Open connections may send one more request, whose response
 * announces the close, so that no request is lost. */
static void
begin_drain(struct acme_http_loop *loop)
{
    const struct timeval limit = {DRAIN_S, 0};
    struct http_server *server;

    if (loop->is_draining || loop->is_stopping)
        return;
    hsm_log(HSM_LOG_INFO, "draining: not accepting new connections");
    loop->is_draining = true;
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        acme_http_accept_stop(server);
    }
    event_add(loop->drained, &limit);
    event_add(loop->sweep, &(const struct timeval){1, 0});
    acme_http_end_when_idle(loop);
}

void
acme_http_loop_drain(struct acme_http_loop *loop)
{
    atomic_store(&loop->drain_asked, true);
    acme_http_wake(loop);
}

static void
on_drain_signal(evutil_socket_t number, short what, void *context)
{
    (void)number;
    (void)what;
    begin_drain(context);
}

static void
on_drained(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)fd;
    (void)what;
    if (!loop->is_stopping)
        begin_stop(loop);
}

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)fd;
    (void)what;
    acme_http_take_back(loop);
    if (atomic_load(&loop->drain_asked))
        begin_drain(loop);
    if (atomic_load(&loop->stop_asked) && !loop->is_stopping)
        begin_stop(loop);
    acme_http_end_when_idle(loop);
}

static void
on_signal(evutil_socket_t number, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)what;
    hsm_log(HSM_LOG_INFO, "stopping: signal %d", (int)number);
    if (!loop->is_stopping)
        begin_stop(loop);
}

static void
on_deadline(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;

    (void)fd;
    (void)what;
    hsm_log(HSM_LOG_WARNING, "stopping: %zu calls did not finish in %d s", loop->calls, STOP_S);
    event_base_loopbreak(loop->base);
}

static void
on_tick(evutil_socket_t fd, short what, void *context)
{
    struct http_tick *tick = context;
    struct acme_http_loop *loop = tick->loop;

    (void)fd;
    (void)what;
    if (tick->is_out || loop->is_stopping)
        return;
    acme_http_enqueue_tick(tick);
}

/* TLS handshakes sign in this loop, and brief requests are handled in it: like its threads, it can
 * get stuck. */
static void
on_beat(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    time_t longest = acme_http_threads_longest_s(loop);

    (void)fd;
    (void)what;
    if (longest < ACME_HTTP_STUCK_S)
        hsm_worker_beat(loop->worker);
    else if (!loop->is_stuck)
        hsm_log(HSM_LOG_ERROR, "a handler has not returned for %lld s", (long long)longest);
    loop->is_stuck = longest >= ACME_HTTP_STUCK_S;
}

static void
on_libevent_log(int severity, const char *message)
{
    hsm_log(severity >= EVENT_LOG_WARN ? HSM_LOG_WARNING : HSM_LOG_DEBUG, "libevent: %s", message);
}

static void
start_libevent(void)
{
    struct sigaction now;

    evthread_use_pthreads();
    event_set_log_callback(on_libevent_log);
    /* Writing to a closed connection must be an error of write() and not end the process. */
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static bool
make_events(struct acme_http_loop *loop)
{
    /* EV_ET: each write wakes the loop, and the count need not be read. */
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_ET | EV_PERSIST, on_wake, loop);
    loop->proceed = event_new(loop->base, -1, 0, acme_http_proceed, loop);
    loop->sweep = event_new(loop->base, -1, EV_PERSIST, acme_http_sweep, loop);
    loop->deadline = event_new(loop->base, -1, 0, on_deadline, loop);
    loop->sigterm = evsignal_new(loop->base, SIGTERM, on_signal, loop);
    loop->sigint = evsignal_new(loop->base, SIGINT, on_signal, loop);
    loop->sighup = evsignal_new(loop->base, SIGHUP, on_drain_signal, loop);
    loop->drained = event_new(loop->base, -1, 0, on_drained, loop);
    loop->beat = event_new(loop->base, -1, EV_PERSIST, on_beat, loop);
    return loop->sighup != NULL && loop->drained != NULL && loop->beat != NULL &&
           loop->wake != NULL && loop->proceed != NULL && loop->sweep != NULL &&
           loop->deadline != NULL && loop->sigterm != NULL && loop->sigint != NULL &&
           event_add(loop->wake, NULL) == 0;
}

enum hsm_status
acme_http_loop_new(unsigned threads, struct acme_http_loop **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    DEFER(acme_http_loop_free) struct acme_http_loop *loop = NULL;

    if (threads == 0 || threads > HTTP_THREADS_MAX)
        return HSM_ERR_USAGE;
    pthread_once(&once, start_libevent);
    loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return HSM_ERR_NOMEM;
    TAILQ_INIT(&loop->servers);
    TAILQ_INIT(&loop->ticks);
    TAILQ_INIT(&loop->ready);
    STAILQ_INIT(&loop->later.turn);
    STAILQ_INIT(&loop->later.queue);
    STAILQ_INIT(&loop->queue);
    STAILQ_INIT(&loop->slow);
    STAILQ_INIT(&loop->done);
    STAILQ_INIT(&loop->parked);
    STAILQ_INIT(&loop->due);
    STAILQ_INIT(&loop->ticked);
    pthread_mutex_init(&loop->mutex, NULL);
    pthread_cond_init(&loop->work, NULL);
    pthread_cond_init(&loop->later.work, NULL);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = event_base_new();
    loop->scratch = malloc(HTTP_SCRATCH);
    if (loop->wake_fd < 0 || loop->base == NULL || loop->scratch == NULL || !make_events(loop) ||
        !acme_http_later_open(loop)) {
        hsm_log(HSM_LOG_ERROR, "cannot make an event loop: %s", strerror(errno));
        return HSM_ERR_NOMEM;
    }
    loop->threads_wanted = threads;
    *out = loop;
    loop = NULL;
    return HSM_OK;
}

/* ---- servers ----------------------------------------------------------- */

static void
server_free(struct http_server *server)
{
    acme_http_accept_stop(server);
    acme_http_close_all(server);
    acme_http_listener_close(server->listener);
    SSL_CTX_free(server->tls);
    free(server->address);
    free(server);
}

DEFINE_DEFER(struct http_server, server_free)

static enum hsm_status
start_accepting(struct http_server *server, const struct acme_http_listener *listener)
{
    server->port = acme_http_listener_port(listener);
    server->is_unix = listener->unix_path != NULL;
    server->fd = listener->fd;
    return acme_http_accept_start(server) ? HSM_OK : HSM_ERR_NOMEM;
}

/* Reserve part of the process's descriptors for files, the token and outgoing connections. */
static size_t
connections_max(const struct acme_http_server_config *config)
{
    size_t wanted =
        config->connections_max != 0 ? config->connections_max : ACME_HTTP_CONNECTIONS_MAX;
    struct rlimit descriptors;

    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur != RLIM_INFINITY &&
        wanted > descriptors.rlim_cur / DESCRIPTORS_SHARE)
        wanted = descriptors.rlim_cur / DESCRIPTORS_SHARE;
    return wanted;
}

static enum hsm_status
server_new(struct acme_http_loop *loop, const struct acme_http_server_config *config,
           struct http_server **out)
{
    struct http_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return HSM_ERR_NOMEM;
    TAILQ_INIT(&server->connections);
    server->loop = loop;
    server->fd = -1;
    server->handler = config->handler;
    server->is_quiet = config->is_quiet;
    server->metrics = config->metrics;
    server->idle_s = config->idle_s != 0 ? config->idle_s : ACME_HTTP_IDLE_S;
    server->connections_max = connections_max(config);
    server->address = strdup(config->address);
    if (server->address == NULL) {
        free(server);
        return HSM_ERR_NOMEM;
    }
    *out = server;
    return HSM_OK;
}

enum hsm_status
acme_http_loop_listen(struct acme_http_loop *loop, const struct acme_http_server_config *config)
{
    DEFER(server_free) struct http_server *server = NULL;
    bool is_unix = strncmp(config->address, "unix:", 5) == 0;
    enum hsm_status st;

    if (config->without_tls ? !acme_http_address_is_loopback(config->address)
                            : is_unix != (config->tls_key == NULL)) {
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: %s", config->address,
                config->without_tls ? "without TLS on loopback only"
                : is_unix           ? "no TLS on a Unix socket"
                                    : "TLS needs a key");
        return HSM_ERR_USAGE;
    }
    st = server_new(loop, config, &server);
    if (st == HSM_OK && !is_unix && !config->without_tls)
        st = acme_http_tls_new(config, &server->tls);
    if (st == HSM_OK && server->tls != NULL)
        server->tls_not_after = certs_chain_not_after(config->tls_chain);
    if (st == HSM_OK && config->listener == NULL)
        st = acme_http_listener_open(config->address, &server->listener);
    if (st == HSM_OK)
        st =
            start_accepting(server, config->listener != NULL ? config->listener : server->listener);
    if (st != HSM_OK)
        return st;
    hsm_log(HSM_LOG_INFO, "listening on %s (port %u)", server->address, server->port);
    TAILQ_INSERT_TAIL(&loop->servers, server, next);
    server = NULL;
    return HSM_OK;
}

unsigned
acme_http_loop_port(const struct acme_http_loop *loop, size_t i)
{
    const struct http_server *server;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        if (i-- == 0)
            return server->port;
    }
    return 0;
}

enum hsm_status
acme_http_loop_every(struct acme_http_loop *loop, unsigned seconds, void (*tick)(void *context),
                     void *context)
{
    const struct timeval period = {(time_t)seconds, 0};
    struct http_tick *made;

    if (seconds == 0)
        return HSM_ERR_USAGE;
    made = calloc(1, sizeof(*made));
    if (made == NULL)
        return HSM_ERR_NOMEM;
    made->loop = loop;
    made->tick = tick;
    made->context = context;
    made->event = event_new(loop->base, -1, EV_PERSIST, on_tick, made);
    if (made->event == NULL || event_add(made->event, &period) != 0) {
        if (made->event != NULL)
            event_free(made->event);
        free(made);
        return HSM_ERR_NOMEM;
    }
    TAILQ_INSERT_TAIL(&loop->ticks, made, next);
    return HSM_OK;
}

void
acme_http_loop_supervise(struct acme_http_loop *loop, struct hsm_worker *worker)
{
    loop->worker = worker;
}

static unsigned
sweep_period(const struct acme_http_loop *loop)
{
    const struct http_server *server;
    unsigned period = SWEEP_S_MAX;

    TAILQ_FOREACH(server, &loop->servers, next)
    {
        if (server->idle_s / 4 < period)
            period = server->idle_s / 4;
    }
    return period > 0 ? period : 1;
}

void
acme_http_loop_leave_signals(struct acme_http_loop *loop)
{
    loop->leaves_signals = true;
}

enum hsm_status
acme_http_loop_run(struct acme_http_loop *loop)
{
    static atomic_flag signals_taken = ATOMIC_FLAG_INIT; /* by one loop of a process */
    const struct timeval period = {(time_t)sweep_period(loop), 0};
    const struct timeval beats = {BEAT_S, 0};
    enum hsm_status st = acme_http_threads_start(loop);
    bool has_signals;

    if (st != HSM_OK)
        return st;
    has_signals = !loop->leaves_signals && !atomic_flag_test_and_set(&signals_taken);
    event_add(loop->sweep, &period);
    if (has_signals) {
        event_add(loop->sigterm, NULL);
        event_add(loop->sigint, NULL);
    }
    if (loop->worker != NULL) {
        if (has_signals)
            event_add(loop->sighup, NULL);
        event_add(loop->beat, &beats);
        hsm_worker_ready(loop->worker);
    }
    if (event_base_dispatch(loop->base) != 0) {
        hsm_log(HSM_LOG_ERROR, "the event loop failed");
        st = HSM_ERR_IO;
    }
    if (has_signals) {
        event_del(loop->sigterm);
        event_del(loop->sigint);
        event_del(loop->sighup);
        atomic_flag_clear(&signals_taken);
    }
    loop->is_abandoned = !acme_http_threads_end(loop);
    if (st != HSM_OK)
        return st;
    return loop->is_abandoned ? HSM_ERR_BUSY : HSM_OK;
}

void
acme_http_loop_stop(struct acme_http_loop *loop)
{
    atomic_store(&loop->stop_asked, true);
    acme_http_wake(loop);
}

static void
free_events(struct acme_http_loop *loop)
{
    struct event *const all[] = {loop->wake,     loop->proceed, loop->sweep,
                                 loop->deadline, loop->sigterm, loop->sigint,
                                 loop->sighup,   loop->drained, loop->beat};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] != NULL)
            event_free(all[i]);
    }
}

static void
free_servers(struct acme_http_loop *loop)
{
    struct http_server *server;
    struct http_tick *tick;

    while ((server = TAILQ_FIRST(&loop->servers)) != NULL) {
        TAILQ_REMOVE(&loop->servers, server, next);
        server_free(server);
    }
    while ((tick = TAILQ_FIRST(&loop->ticks)) != NULL) {
        TAILQ_REMOVE(&loop->ticks, tick, next);
        event_free(tick->event);
        free(tick);
    }
}

void
acme_http_loop_free(struct acme_http_loop *loop)
{
    if (loop == NULL || loop->is_abandoned)
        return; /* a thread may still use it */
    if (loop->thread_count > 0)
        (void)acme_http_threads_end(loop); /* not all could be started: those that were are idle */
    acme_http_forget_all_parked(loop); /* resuming a request uses its server, so first */
    free_servers(loop); /* after that, unanswered calls do not refer to connections */
    acme_http_calls_free(&loop->queue);
    acme_http_calls_free(&loop->slow);
    acme_http_calls_free(&loop->done);
    acme_http_later_free(loop);
    free_events(loop);
    acme_http_text_clear(&loop->head);
    free(loop->scratch);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_cond_destroy(&loop->later.work);
    pthread_cond_destroy(&loop->work);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
