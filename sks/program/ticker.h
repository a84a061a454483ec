/*
 * ticker.h - a thread that calls a function periodically; the function may block.
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
    unsigned (*tick)(void *context); /* returns the seconds until its next call */
    void *context;
};

/** Start the thread, which calls `tick` at once and then repeatedly, with all signals blocked. A
 *  failure is logged. */
enum hsm_status ticker_start(struct ticker *ticker, unsigned (*tick)(void *context), void *context);

/** Stop the thread. Waits a limited time for a running tick; false if it has not ended by then.
 * True for a ticker that was not started. */
bool ticker_stop(struct ticker *ticker);

#endif
