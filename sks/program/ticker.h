/*
 * ticker.h - a thread that does something now and then, and may wait for others while it does.
 */
#ifndef STI_SKS_TICKER_H
#define STI_SKS_TICKER_H

#include <pthread.h>
#include <stdbool.h>

#include <hsm/status.h>

struct ticker { /* zeroed before it starts */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool stop;
    unsigned (*tick)(void *context); /* says in how many seconds it wants to be called again */
    void *context;
};

/** Call it at once, and again and again. Signals are for other threads. A fault is logged. */
enum hsm_status ticker_start(struct ticker *ticker, unsigned (*tick)(void *context), void *context);

/** Waits for the tick that runs, but not for ever: false when it has not ended. One that was not
 *  started has. */
bool ticker_stop(struct ticker *ticker);

#endif
