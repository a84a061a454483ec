/* http_park.c - parked requests, which wait without a thread. */
#include "http_loop_internal.h"

#include <stdlib.h>

/* Links a loop, which may end first, and the code that resumes the request, which may be late. */
struct acme_http_parked {
    struct http_call *call; /* NULL: the loop has ended */
};

/* Guards the ends of all of these: it outlives every loop. Taken before a loop's mutex. */
static pthread_mutex_t ends = PTHREAD_MUTEX_INITIALIZER;

/* A parked request holds its octets, and the bounds on the queue and on connections do not apply to
 * it. */
static bool
take_place(struct acme_http_loop *loop)
{
    if (atomic_fetch_add(&loop->parked_count, 1) < ACME_HTTP_PARKED_MAX)
        return true;
    atomic_fetch_sub(&loop->parked_count, 1);
    return false;
}

static void
leave_place(struct acme_http_loop *loop)
{
    atomic_fetch_sub(&loop->parked_count, 1);
}

struct acme_http_parked *
acme_http_park(struct acme_http_response *response)
{
    struct http_call *call = acme_http_call_of(response);
    struct acme_http_parked *parked;

    if (!call->is_on_thread || call->is_in_vain || call->parks == ACME_HTTP_PARKS_MAX ||
        !take_place(call->server->loop))
        return NULL;
    parked = calloc(1, sizeof(*parked));
    if (parked == NULL) {
        leave_place(call->server->loop);
        return NULL;
    }
    parked->call = call;
    call->parked = parked;
    call->parks++;
    return parked;
}

bool
acme_http_hand_over(struct acme_http_response *response)
{
    struct http_call *call = acme_http_call_of(response);

    if (call->is_on_thread)
        return false;
    call->is_handed_over = true;
    return true;
}

bool
acme_http_was_parked(struct acme_http_response *response)
{
    return acme_http_call_of(response)->parks > 0;
}

void
acme_http_keep(struct acme_http_response *response, void *kept, void (*release)(void *kept))
{
    struct http_call *call = acme_http_call_of(response);

    call->kept = kept;
    call->release = release;
}

void *
acme_http_kept(struct acme_http_response *response)
{
    return acme_http_call_of(response)->kept;
}

void
acme_http_unpark(struct acme_http_parked *parked)
{
    if (parked == NULL)
        return;
    parked->call->parked = NULL;
    leave_place(parked->call->server->loop);
    free(parked);
}

/* With the loop's mutex held. */
static void
enqueue_again(struct acme_http_loop *loop, struct http_call *call)
{
    call->is_resumed = false;
    acme_http_response_clear(&call->response);
    acme_http_response_init(&call->response);
    STAILQ_INSERT_TAIL(call->is_slow ? &loop->slow : &loop->queue, call, next);
    loop->queue_len++;
    pthread_cond_signal(&loop->work);
}

bool
acme_http_resume(struct acme_http_parked *parked)
{
    struct http_call *call;
    struct acme_http_loop *loop;
    bool goes_on;

    pthread_mutex_lock(&ends);
    call = parked->call;
    goes_on = call != NULL;
    if (goes_on) {
        loop = call->server->loop;
        pthread_mutex_lock(&loop->mutex);
        call->parked = NULL;
        leave_place(loop);
        if (call->is_on_thread) {
            call->is_resumed = true; /* its handler has not returned yet */
        } else {
            STAILQ_REMOVE(&loop->parked, call, http_call, next);
            enqueue_again(loop, call);
        }
        pthread_mutex_unlock(&loop->mutex);
    }
    pthread_mutex_unlock(&ends);
    free(parked);
    return goes_on;
}

bool
acme_http_call_was_parked(struct acme_http_loop *loop, struct http_call *call)
{
    if (call->is_resumed)
        enqueue_again(loop, call);
    else if (call->parked != NULL)
        STAILQ_INSERT_TAIL(&loop->parked, call, next);
    else
        return false;
    return true;
}

/* With both locks held: the code that resumes the request frees the link. */
static void
forget(struct acme_http_loop *loop, struct http_call *call)
{
    STAILQ_REMOVE(&loop->parked, call, http_call, next);
    call->parked->call = NULL;
    call->parked = NULL;
    leave_place(loop);
}

void
acme_http_forget_parked(struct http_call *call)
{
    struct acme_http_loop *loop = call->server->loop;
    bool is_parked;

    call->is_in_vain = true; /* it cannot be parked any more */
    pthread_mutex_lock(&ends);
    pthread_mutex_lock(&loop->mutex);
    is_parked = !call->is_on_thread && call->parked != NULL; /* its thread sets it without a lock */
    if (is_parked)
        forget(loop, call);
    pthread_mutex_unlock(&loop->mutex);
    pthread_mutex_unlock(&ends);
    if (!is_parked)
        return;
    loop->calls--;
    call->response.status = 503; /* not sent; a client that leaves is not a fault of the server */
    acme_http_observe_call(call, " (the peer is gone)");
    acme_http_call_free(call);
    acme_http_end_when_idle(loop);
}

void
acme_http_forget_all_parked(struct acme_http_loop *loop)
{
    struct http_calls all = STAILQ_HEAD_INITIALIZER(all);
    struct http_call *call;

    pthread_mutex_lock(&ends);
    pthread_mutex_lock(&loop->mutex);
    while ((call = STAILQ_FIRST(&loop->parked)) != NULL) {
        forget(loop, call);
        STAILQ_INSERT_TAIL(&all, call, next);
    }
    pthread_mutex_unlock(&loop->mutex);
    pthread_mutex_unlock(&ends);
    acme_http_calls_free(&all);
}
