/* http_defer.c - the deferred part of quick calls, run in the loop or in a thread of its own. */
#include "http_loop_internal.h"

#include <hsm/clock.h>

#define BATCH     8 /* calls whose responses are sent together: repeating the same step is faster */
#define BATCH_MAX 32 /* of the thread: the first response waits for the last call */
#define BACKLOG   16 /* calls from which on waking the thread, and later the loop, pays off */
/* A call that takes longer is waiting for something, and calls behind it must not wait as well. */
#define WATCH_MS 50

bool
acme_http_defer(struct acme_http_response *response, const struct acme_http_rest *rest)
{
    struct http_call *call = acme_http_call_of(response);

    if (call->is_on_thread)
        return false;
    call->rest = *rest;
    return true;
}

static bool
is_long_ago(int64_t then_ns)
{
    return hsm_clock_ns() - then_ns > WATCH_MS * HSM_NS_PER_MS;
}

/* ---- the thread ---- */

/* The functions below are called with the mutex held; they release it while a call runs. */

static void
run_first(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;
    struct http_call *call = STAILQ_FIRST(&later->queue);

    STAILQ_REMOVE_HEAD(&later->queue, next);
    later->queue_len--;
    later->since_ns = hsm_clock_ns();
    loop->running++;
    pthread_mutex_unlock(&loop->mutex);
    acme_http_handle(call);
    pthread_mutex_lock(&loop->mutex);
    loop->running--;
    later->since_ns = 0;
    STAILQ_INSERT_TAIL(&loop->done, call, next);
}

static void
wait_for_work(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;

    while (STAILQ_EMPTY(&later->queue) && !loop->threads_end) {
        later->is_resting = true;
        pthread_cond_wait(&later->work, &loop->mutex);
    }
    later->is_resting = false;
}

/* Waking the loop is expensive: it is woken for half of the queue, and delivers and reads while
 * this thread does the other half. */
static size_t
batch_of(size_t queue_len)
{
    size_t half = queue_len / 2;

    if (half < BATCH)
        return BATCH;
    return half < BATCH_MAX ? half : BATCH_MAX;
}

static void *
later_thread(void *context)
{
    struct acme_http_loop *loop = context;
    const struct http_later *later = &loop->later;

    pthread_mutex_lock(&loop->mutex);
    while (!loop->threads_end) {
        size_t batch = batch_of(later->queue_len);

        for (; batch > 0 && !STAILQ_EMPTY(&later->queue) && !loop->threads_end; batch--)
            run_first(loop);
        acme_http_tell(loop);
        wait_for_work(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
    return NULL;
}

/* ---- the loop ---- */

void
acme_http_later_add(struct http_call *call)
{
    struct acme_http_loop *loop = call->server->loop;
    struct http_later *later = &loop->later;

    loop->calls++;
    if (later->turn_len++ == 0)
        event_active(later->turn_end, EV_TIMEOUT, 0); /* after the events that are active already */
    STAILQ_INSERT_TAIL(&later->turn, call, next);
}

/* False: a call has waited for something. */
static bool
do_batch(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;
    struct http_calls batch = STAILQ_HEAD_INITIALIZER(batch);
    int64_t begun_ns = hsm_clock_ns();
    bool waited = false;
    struct http_call *call;

    for (int i = 0; i < BATCH && !waited && (call = STAILQ_FIRST(&later->turn)) != NULL; i++) {
        STAILQ_REMOVE_HEAD(&later->turn, next);
        later->turn_len--;
        acme_http_handle(call);
        STAILQ_INSERT_TAIL(&batch, call, next);
        waited = is_long_ago(begun_ns);
    }
    while ((call = STAILQ_FIRST(&batch)) != NULL) {
        STAILQ_REMOVE_HEAD(&batch, next);
        loop->calls--;
        acme_http_deliver(call);
    }
    return !waited;
}

static void
watch(struct http_later *later)
{
    const struct timeval period = {0, WATCH_MS * 1000};

    if (!event_pending(later->watch, EV_TIMEOUT, NULL))
        event_add(later->watch, &period);
}

static void
hand_over(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;
    bool is_resting;

    if (!later->has_thread)
        later->has_thread = acme_http_thread_start(loop, later_thread, &later->thread);
    later->out += later->turn_len;
    pthread_mutex_lock(&loop->mutex);
    is_resting = later->is_resting;
    if (later->has_thread) {
        STAILQ_CONCAT(&later->queue, &later->turn);
        later->queue_len += later->turn_len;
    } else {
        acme_http_enqueue_deferred(loop, &later->turn);
    }
    pthread_mutex_unlock(&loop->mutex);
    later->turn_len = 0;
    if (is_resting)
        pthread_cond_signal(&later->work);
    watch(later);
}

static void
on_turn_end(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_later *later = &loop->later;

    (void)fd;
    (void)what;
    while (later->out == 0 && later->turn_len > 0 && later->turn_len < BACKLOG && do_batch(loop))
        continue;
    if (later->turn_len > 0)
        hand_over(loop);
    acme_http_end_when_idle(loop);
}

static void
on_watch(evutil_socket_t fd, short what, void *context)
{
    struct acme_http_loop *loop = context;
    struct http_later *later = &loop->later;

    (void)fd;
    (void)what;
    if (later->out == 0)
        return;
    pthread_mutex_lock(&loop->mutex);
    if (later->since_ns != 0 && is_long_ago(later->since_ns)) {
        acme_http_enqueue_deferred(loop, &later->queue);
        later->queue_len = 0;
    }
    pthread_mutex_unlock(&loop->mutex);
    watch(later);
}

bool
acme_http_later_open(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;

    later->turn_end = event_new(loop->base, -1, 0, on_turn_end, loop);
    later->watch = event_new(loop->base, -1, 0, on_watch, loop);
    return later->turn_end != NULL && later->watch != NULL;
}

void
acme_http_later_free(struct acme_http_loop *loop)
{
    struct http_later *later = &loop->later;

    acme_http_calls_free(&later->turn);
    acme_http_calls_free(&later->queue);
    if (later->turn_end != NULL)
        event_free(later->turn_end);
    if (later->watch != NULL)
        event_free(later->watch);
}
