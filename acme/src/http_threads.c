/* http_threads.c - threads for handlers that wait: calls and ticks are given to them and taken
 * back. */
#include "http_loop_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <hsm/clock.h>
#include <hsm/log.h>

void
acme_http_wake(struct acme_http_loop *loop)
{
    const uint64_t one = 1;
    ssize_t n;

    do
        n = write(loop->wake_fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

void
acme_http_handle(struct http_call *call)
{
    const struct acme_http_handler *handler = &call->server->handler;

    if (call->rest.work != NULL)
        call->rest.work(call->rest.context);
    else
        handler->handle(handler->context, &call->request, &call->response);
}

static bool
began_before(const struct http_call *a, const struct http_call *b)
{
    return a->begun_ns < b->begun_ns;
}

/* The queue to take a call from, or NULL. Slow calls, which may wait for another operator's server,
 * never occupy the last thread. */
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

/* The functions below are called with the mutex held; they release it while they work. */

/* The loop is woken once for all calls that finish before it takes them back. */
void
acme_http_tell(struct acme_http_loop *loop)
{
    if (loop->is_told || (STAILQ_EMPTY(&loop->done) && STAILQ_EMPTY(&loop->ticked)))
        return;
    loop->is_told = true;
    pthread_mutex_unlock(&loop->mutex);
    acme_http_wake(loop);
    pthread_mutex_lock(&loop->mutex);
}

static void
run_call(struct acme_http_loop *loop, struct http_calls *queue)
{
    struct http_call *call = STAILQ_FIRST(queue);

    STAILQ_REMOVE_HEAD(queue, next);
    loop->queue_len--;
    loop->slow_running += call->is_slow;
    call->is_on_thread = true;
    pthread_mutex_unlock(&loop->mutex);
    acme_http_handle(call);
    pthread_mutex_lock(&loop->mutex);
    call->is_on_thread = false;
    loop->slow_running -= call->is_slow;
    if (!acme_http_call_was_parked(loop, call))
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
        loop->busy_since[self] = hsm_clock_s();
        if (!STAILQ_EMPTY(&loop->due))
            run_tick(loop);
        else
            run_call(loop, queue);
        loop->busy_since[self] = 0;
        loop->running--; /* before waking the loop, which may end then */
        acme_http_tell(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
    return NULL;
}

/* False: the queue is full. */
bool
acme_http_enqueue(struct acme_http_loop *loop, struct http_call *call)
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
    }
    pthread_mutex_unlock(&loop->mutex);
    if (has_room) {
        pthread_cond_signal(&loop->work);
        loop->calls++;
    }
    return has_room;
}

void
acme_http_enqueue_tick(struct http_tick *tick)
{
    struct acme_http_loop *loop = tick->loop;

    tick->is_out = true;
    loop->calls++;
    pthread_mutex_lock(&loop->mutex);
    STAILQ_INSERT_TAIL(&loop->due, tick, turn);
    pthread_mutex_unlock(&loop->mutex);
    pthread_cond_signal(&loop->work);
}

void
acme_http_enqueue_deferred(struct acme_http_loop *loop, struct http_calls *calls)
{
    const struct http_call *call;

    STAILQ_FOREACH(call, calls, next)
    {
        loop->queue_len++;
    }
    STAILQ_CONCAT(&loop->queue, calls);
    pthread_cond_broadcast(&loop->work);
}

/* Only the loop's thread handles signals: calls of a PKCS#11 module must not be interrupted. */
bool
acme_http_thread_start(struct acme_http_loop *loop, void *(*run)(void *loop), pthread_t *out)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(out, NULL, run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        hsm_log(HSM_LOG_ERROR, "cannot start a thread: %s", strerror(rc));
    return rc == 0;
}

enum hsm_status
acme_http_threads_start(struct acme_http_loop *loop)
{
    for (; loop->thread_count < loop->threads_wanted; loop->thread_count++) {
        if (!acme_http_thread_start(loop, handler_thread, &loop->threads[loop->thread_count]))
            return HSM_ERR_NOMEM;
    }
    return HSM_OK;
}

static void
end_thread(pthread_t thread, bool rests)
{
    if (rests)
        pthread_join(thread, NULL);
    else
        pthread_detach(thread);
}

bool
acme_http_threads_end(struct acme_http_loop *loop)
{
    bool all_rest;

    pthread_mutex_lock(&loop->mutex);
    loop->threads_end = true;
    pthread_cond_broadcast(&loop->work);
    pthread_cond_signal(&loop->later.work);
    all_rest = loop->running == 0;
    pthread_mutex_unlock(&loop->mutex);
    for (unsigned i = 0; i < loop->thread_count; i++)
        end_thread(loop->threads[i], all_rest);
    if (loop->later.has_thread)
        end_thread(loop->later.thread, all_rest);
    loop->thread_count = 0;
    loop->later.has_thread = false;
    return all_rest;
}

time_t
acme_http_threads_longest_s(struct acme_http_loop *loop)
{
    time_t now = hsm_clock_s();
    time_t since = now;

    pthread_mutex_lock(&loop->mutex);
    for (unsigned i = 0; i < loop->threads_begun; i++) {
        if (loop->busy_since[i] != 0 && loop->busy_since[i] < since)
            since = loop->busy_since[i];
    }
    if (loop->later.since_ns != 0 && loop->later.since_ns / HSM_NS_PER_S < since)
        since = loop->later.since_ns / HSM_NS_PER_S;
    pthread_mutex_unlock(&loop->mutex);
    return now - since;
}

void
acme_http_take_back(struct acme_http_loop *loop)
{
    struct http_calls done = STAILQ_HEAD_INITIALIZER(done);
    struct http_ticks ticked = STAILQ_HEAD_INITIALIZER(ticked);
    struct http_call *call;
    struct http_tick *tick;

    pthread_mutex_lock(&loop->mutex);
    STAILQ_CONCAT(&done, &loop->done);
    STAILQ_CONCAT(&ticked, &loop->ticked);
    loop->is_told = false;
    pthread_mutex_unlock(&loop->mutex);
    while ((tick = STAILQ_FIRST(&ticked)) != NULL) {
        STAILQ_REMOVE_HEAD(&ticked, turn);
        loop->calls--;
        tick->is_out = false;
    }
    while ((call = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, next);
        loop->calls--;
        if (call->rest.work != NULL)
            loop->later.out--;
        acme_http_deliver(call);
    }
}
