/* http_server.c - evhttp over OpenSSL: one event loop, and threads for handlers that wait. */
#include "http_loop_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/listener.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/supervise.h>

#define BEAT_S 1 /* seconds between two beats of a worker process */
#define STOP_S 10 /* seconds for the calls in flight when the loop is asked to stop */
#define DRAIN_S                                                                                    \
    75 /* seconds for open connections when it is asked to drain: twice the idle time              \
        */
#define SWEEP_S_MAX 2 /* seconds between two looks at the connections */

DEFINE_DEFER(struct acme_http_loop, acme_http_loop_free)

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
http_end_when_idle(struct acme_http_loop *loop)
{
    if (loop->calls == 0 && loop->replying == 0 &&
        (loop->is_stopping || (loop->is_draining && !has_connections(loop))))
        event_base_loopbreak(loop->base);
}

/* ---- handler threads --------------------------------------------------- */

static void
wake_up(struct acme_http_loop *loop)
{
    const uint64_t one = 1;
    ssize_t n;

    do {
        n = write(loop->wake_fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR); /* EAGAIN: it is awake */
}

void
http_handle(struct http_call *call)
{
    const struct acme_http_handler *handler = &call->server->handler;

    handler->handle(handler->context, call->request, &call->response);
}

static bool
began_before(const struct http_call *a, const struct http_call *b)
{
    return a->begun_ns < b->begun_ns;
}

/* The queue to take a call from, or NULL. What waits for a stranger's server does not keep
 * everybody else waiting: of several threads it leaves one. */
static struct http_calls *
next_queue(struct acme_http_loop *loop)
{
    const size_t slow_max = loop->threads_wanted > 1 ? loop->threads_wanted - 1 : 1;
    const struct http_call *call = STAILQ_FIRST(&loop->queue);
    const struct http_call *slow = STAILQ_FIRST(&loop->slow);

    if (slow != NULL && loop->slow_running < slow_max && (call == NULL || began_before(slow, call)))
        return &loop->slow;
    return call != NULL ? &loop->queue : NULL;
}

/* These two are called with the mutex held, and let go of it while they are at it. */

static void
run_call(struct acme_http_loop *loop, struct http_calls *queue)
{
    struct http_call *call = STAILQ_FIRST(queue);

    STAILQ_REMOVE_HEAD(queue, next);
    loop->queue_len--;
    loop->slow_running += call->is_slow;
    call->is_on_thread = true;
    pthread_mutex_unlock(&loop->mutex);
    http_handle(call);
    pthread_mutex_lock(&loop->mutex);
    call->is_on_thread = false;
    loop->slow_running -= call->is_slow;
    if (!http_was_parked(loop, call))
        STAILQ_INSERT_TAIL(&loop->done, call, next);
}

static void
run_tick(struct acme_http_loop *loop)
{
    struct http_tick *tick = STAILQ_FIRST(&loop->due);

    STAILQ_REMOVE_HEAD(&loop->due, turn);
    pthread_mutex_unlock(&loop->mutex);
    tick->tick(tick->context);
    pthread_mutex_lock(&loop->mutex);
    STAILQ_INSERT_TAIL(&loop->ticked, tick, turn);
}

static void *
handler_thread(void *context)
{
    struct acme_http_loop *loop = context;
    struct http_calls *queue;
    unsigned self;

    pthread_mutex_lock(&loop->mutex);
    self = loop->threads_begun++;
    for (;;) {
        while ((queue = next_queue(loop)) == NULL && STAILQ_EMPTY(&loop->due) && !loop->threads_end)
            pthread_cond_wait(&loop->work, &loop->mutex);
        if (loop->threads_end)
            break;
        loop->running++;
        loop->busy_since[self] = http_monotonic_s();
        if (!STAILQ_EMPTY(&loop->due))
            run_tick(loop);
        else
            run_call(loop, queue);
        loop->busy_since[self] = 0;
        loop->running--;
        wake_up(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
    return NULL;
}

/* False: the queue is full. */
bool
http_enqueue(struct acme_http_loop *loop, struct http_call *call)
{
    bool has_room;

    pthread_mutex_lock(&loop->mutex);
    has_room = loop->queue_len < (call->is_slow ? ACME_HTTP_QUEUE_MAX / 2 : ACME_HTTP_QUEUE_MAX);
    if (has_room) {
        if (call->is_slow)
            STAILQ_INSERT_TAIL(&loop->slow, call, next);
        else
            STAILQ_INSERT_TAIL(&loop->queue, call, next);
        loop->queue_len++;
        pthread_cond_signal(&loop->work);
    }
    pthread_mutex_unlock(&loop->mutex);
    if (has_room)
        loop->calls++;
    return has_room;
}

/* Signals are for the loop's thread: a PKCS#11 module is not to be interrupted. */
static enum hsm_status
start_threads(struct acme_http_loop *loop)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && loop->thread_count < loop->threads_wanted) {
        rc = pthread_create(&loop->threads[loop->thread_count], NULL, handler_thread, loop);
        if (rc == 0)
            loop->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot start a thread: %s", strerror(rc));
        return HSM_ERR_NOMEM;
    }
    return HSM_OK;
}

/* False: a handler did not return in its time; its thread cannot be ended. */
static bool
end_threads(struct acme_http_loop *loop)
{
    bool all_rest;

    pthread_mutex_lock(&loop->mutex);
    loop->threads_end = true;
    pthread_cond_broadcast(&loop->work);
    all_rest = loop->running == 0;
    pthread_mutex_unlock(&loop->mutex);
    for (unsigned i = 0; i < loop->thread_count; i++) {
        if (all_rest)
            pthread_join(loop->threads[i], NULL);
        else
            pthread_detach(loop->threads[i]);
    }
    loop->thread_count = 0;
    return all_rest;
}

/* How long the thread that is longest at a call or a tick has been at it. */
static time_t
longest_s(struct acme_http_loop *loop)
{
    time_t now = http_monotonic_s();
    time_t since = now;

    pthread_mutex_lock(&loop->mutex);
    for (unsigned i = 0; i < loop->threads_begun; i++) {
        if (loop->busy_since[i] != 0 && loop->busy_since[i] < since)
            since = loop->busy_since[i];
    }
    pthread_mutex_unlock(&loop->mutex);
    return now - since;
}

/* ---- the loop ---------------------------------------------------------- */

static void
take_back_calls(struct acme_http_loop *loop)
{
    struct http_calls done = STAILQ_HEAD_INITIALIZER(done);
    struct http_ticks ticked = STAILQ_HEAD_INITIALIZER(ticked);
    struct http_call *call;
    struct http_tick *tick;

    pthread_mutex_lock(&loop->mutex);
    STAILQ_CONCAT(&done, &loop->done);
    STAILQ_CONCAT(&ticked, &loop->ticked);
    pthread_mutex_unlock(&loop->mutex);
    while ((tick = STAILQ_FIRST(&ticked)) != NULL) {
        STAILQ_REMOVE_HEAD(&ticked, turn);
        loop->calls--;
        tick->is_out = false;
    }
    while ((call = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, next);
        loop->calls--;
        http_deliver(call);
    }
}

static void
stop_accepting(struct http_server *server)
{
    if (server->socket == NULL)
        return;
    if (server->refuser != NULL)
        event_del(server->refuser);
    evhttp_del_accept_socket(server->http, server->socket);
    server->socket = NULL;
}

static void
begin_stop(struct acme_http_loop *loop)
{
    const struct timeval limit = {STOP_S, 0};
    struct http_server *server;

    loop->is_stopping = true;
    http_adopt(-1, 0, loop);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        stop_accepting(server);
        http_close_idle(server);
    }
    event_add(loop->deadline, &limit);
    http_end_when_idle(loop);
}

/* Others serve from now on. Connections that are open may bring one more request, whose answer says
 * that it was the last: so none is lost. */
static void
begin_drain(struct acme_http_loop *loop)
{
    const struct timeval limit = {DRAIN_S, 0};
    struct http_server *server;

    if (loop->is_draining || loop->is_stopping)
        return;
    hsm_log(HSM_LOG_INFO, "no more connections are taken; those that are open are served");
    loop->is_draining = true;
    http_adopt(-1, 0, loop);
    TAILQ_FOREACH(server, &loop->servers, next)
    {
        stop_accepting(server);
    }
    event_add(loop->drained, &limit);
    event_add(loop->sweep, &(const struct timeval){1, 0});
    http_end_when_idle(loop);
}

void
acme_http_loop_drain(struct acme_http_loop *loop)
{
    atomic_store(&loop->drain_asked, true);
    wake_up(loop);
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
    uint64_t count;

    (void)what;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    take_back_calls(loop);
    if (atomic_load(&loop->drain_asked))
        begin_drain(loop);
    if (atomic_load(&loop->stop_asked) && !loop->is_stopping)
        begin_stop(loop);
    http_end_when_idle(loop);
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
    tick->is_out = true;
    loop->calls++;
    pthread_mutex_lock(&loop->mutex);
    STAILQ_INSERT_TAIL(&loop->due, tick, turn);
    pthread_cond_signal(&loop->work);
    pthread_mutex_unlock(&loop->mutex);
}

/* TLS handshakes sign in this loop, so that it may be stuck as well as its threads. */
static void
on_beat(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    time_t longest = longest_s(loop);

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
    /* A peer that is gone is an error of write(), not the end of the process. */
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static bool
make_events(struct acme_http_loop *loop)
{
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    loop->adopt = event_new(loop->base, -1, 0, http_adopt, loop);
    loop->sweep = event_new(loop->base, -1, EV_PERSIST, http_sweep, loop);
    loop->deadline = event_new(loop->base, -1, 0, on_deadline, loop);
    loop->sigterm = evsignal_new(loop->base, SIGTERM, on_signal, loop);
    loop->sigint = evsignal_new(loop->base, SIGINT, on_signal, loop);
    loop->sighup = evsignal_new(loop->base, SIGHUP, on_drain_signal, loop);
    loop->drained = event_new(loop->base, -1, 0, on_drained, loop);
    loop->beat = event_new(loop->base, -1, EV_PERSIST, on_beat, loop);
    return loop->sighup != NULL && loop->drained != NULL && loop->beat != NULL &&
           loop->wake != NULL && loop->adopt != NULL && loop->sweep != NULL &&
           loop->deadline != NULL && loop->sigterm != NULL && loop->sigint != NULL &&
           event_add(loop->wake, NULL) == 0;
}

/* What evhttp asks of epoll for one answer mostly cancels out: changes are gathered and made once a
 * turn. Connections, whose descriptors nobody duplicates, may have that. */
static struct event_base *
base_new(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config != NULL && event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0)
        base = event_base_new_with_config(config);
    if (config != NULL)
        event_config_free(config);
    return base;
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
    TAILQ_INIT(&loop->fresh);
    STAILQ_INIT(&loop->queue);
    STAILQ_INIT(&loop->slow);
    STAILQ_INIT(&loop->done);
    STAILQ_INIT(&loop->parked);
    STAILQ_INIT(&loop->due);
    STAILQ_INIT(&loop->ticked);
    pthread_mutex_init(&loop->mutex, NULL);
    pthread_cond_init(&loop->work, NULL);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = base_new();
    if (loop->wake_fd < 0 || loop->base == NULL || !make_events(loop)) {
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
    if (server->http != NULL) {
        if (server->socket != NULL)
            stop_accepting(server);
        evhttp_free(server->http); /* closes the connections */
    }
    if (server->refuser != NULL)
        event_free(server->refuser);
    acme_http_listener_close(server->listener);
    SSL_CTX_free(server->tls);
    free(server->address);
    free(server);
}

DEFINE_DEFER(struct http_server, server_free)

static bool
make_http(struct http_server *server)
{
    server->http = evhttp_new(server->loop->base);
    if (server->http == NULL)
        return false;
    evhttp_set_max_headers_size(server->http, ACME_HTTP_HEADERS_MAX);
    evhttp_set_max_body_size(server->http, ACME_HTTP_BODY_MAX);
    evhttp_set_timeout(server->http, (int)server->idle_s);
    /* A body that is too large is read away, so that the client gets to read the 413. */
    evhttp_set_flags(server->http, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_default_content_type(server->http, NULL);
    evhttp_set_allowed_methods(server->http, UINT16_MAX); /* handlers answer 405 */
    evhttp_set_bevcb(server->http, http_on_accept, server);
    evhttp_set_gencb(server->http, http_on_request, server);
    return true;
}

/* What evhttp listens on it closes, too: it gets ours, and of a shared one a descriptor of its own.
 */
static int
take_descriptor(struct http_server *server, const struct acme_http_listener *shared)
{
    int fd;

    if (shared == NULL) {
        fd = server->listener->fd;
        server->listener->fd = -1;
        return fd;
    }
    fd = fcntl(shared->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        hsm_log(HSM_LOG_ERROR, "cannot listen on %s: %s", server->address, strerror(errno));
    return fd;
}

static enum hsm_status
start_accepting(struct http_server *server, const struct acme_http_listener *shared)
{
    const struct acme_http_listener *listener = shared != NULL ? shared : server->listener;
    int fd;

    server->port = acme_http_listener_port(listener);
    server->is_unix = listener->unix_path != NULL;
    if (!make_http(server))
        return HSM_ERR_NOMEM;
    fd = take_descriptor(server, shared);
    if (fd < 0)
        return HSM_ERR_IO;
    server->socket = evhttp_accept_socket_with_handle(server->http, fd);
    if (server->socket == NULL) {
        close(fd);
        return HSM_ERR_NOMEM;
    }
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(server->socket),
                                http_on_accept_error);
    if (shared != NULL)
        return HSM_OK;
    server->refuser =
        event_new(server->loop->base, fd, EV_READ | EV_PERSIST, http_refuse_connections, server);
    return server->refuser != NULL ? HSM_OK : HSM_ERR_NOMEM;
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
    server->handler = config->handler;
    server->is_quiet = config->is_quiet;
    server->metrics = config->metrics;
    server->idle_s = config->idle_s != 0 ? config->idle_s : ACME_HTTP_IDLE_S;
    server->connections_max =
        config->connections_max != 0 ? config->connections_max : ACME_HTTP_CONNECTIONS_MAX;
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
        st = http_tls_new(config, &server->tls);
    if (st == HSM_OK && config->listener == NULL)
        st = acme_http_listener_open(config->address, &server->listener);
    if (st == HSM_OK)
        st = start_accepting(server, config->listener);
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

enum hsm_status
acme_http_loop_run(struct acme_http_loop *loop)
{
    static atomic_flag signals_taken = ATOMIC_FLAG_INIT; /* a process has them once */
    const struct timeval period = {(time_t)sweep_period(loop), 0};
    const struct timeval beats = {BEAT_S, 0};
    enum hsm_status st = start_threads(loop);
    bool has_signals;

    if (st != HSM_OK)
        return st;
    has_signals = !atomic_flag_test_and_set(&signals_taken);
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
    loop->is_abandoned = !end_threads(loop);
    if (st != HSM_OK)
        return st;
    return loop->is_abandoned ? HSM_ERR_BUSY : HSM_OK;
}

void
acme_http_loop_stop(struct acme_http_loop *loop)
{
    atomic_store(&loop->stop_asked, true);
    wake_up(loop);
}

static void
free_calls(struct http_calls *calls)
{
    struct http_call *call;

    while ((call = STAILQ_FIRST(calls)) != NULL) {
        STAILQ_REMOVE_HEAD(calls, next);
        http_call_free(call);
    }
}

static void
free_events(struct acme_http_loop *loop)
{
    struct event *const all[] = {loop->wake,     loop->adopt,   loop->sweep,
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
        (void)end_threads(loop); /* not all could be started: they rest */
    http_adopt(-1, 0, loop);
    free_servers(loop); /* calls that were not answered forget their connections */
    free_calls(&loop->queue);
    free_calls(&loop->slow);
    free_calls(&loop->done);
    http_forget_parked(loop);
    free_events(loop);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_cond_destroy(&loop->work);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
