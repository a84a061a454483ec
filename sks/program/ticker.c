/* ticker.c - a thread that calls a function periodically. */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "ticker.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include <hsm/clock.h>
#include <hsm/log.h>

#define TICK_LIMIT_S 5 /* for a tick to end when the daemon stops */

static void *
ticker_run(void *argument)
{
    struct ticker *ticker = argument;
    bool stop = false;

    while (!stop) {
        int64_t begun_ns = hsm_clock_ns();
        struct timespec until =
            hsm_clock_timespec(begun_ns + ticker->tick(ticker->context) * HSM_NS_PER_S);

        pthread_mutex_lock(&ticker->lock);
        while (!ticker->stop &&
               pthread_cond_timedwait(&ticker->stopped, &ticker->lock, &until) != ETIMEDOUT)
            continue;
        stop = ticker->stop;
        pthread_mutex_unlock(&ticker->lock);
    }
    return NULL;
}

enum hsm_status
ticker_start(struct ticker *ticker, unsigned (*tick)(void *context), void *context)
{
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t before;

    ticker->tick = tick;
    ticker->context = context;
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ticker->stopped, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    ticker->started = pthread_create(&ticker->thread, NULL, ticker_run, ticker) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ticker->started)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "cannot start a thread");
    return HSM_ERR_IO;
}

bool
ticker_stop(struct ticker *ticker)
{
    struct timespec until;

    if (!ticker->started)
        return true;
    pthread_mutex_lock(&ticker->lock);
    ticker->stop = true;
    pthread_cond_signal(&ticker->stopped);
    pthread_mutex_unlock(&ticker->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TICK_LIMIT_S;
    ticker->started = pthread_timedjoin_np(ticker->thread, NULL, &until) != 0;
    return !ticker->started;
}
