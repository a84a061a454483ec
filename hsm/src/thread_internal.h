/*
 * thread_internal.h - threads of the library: all signals blocked, detached.
 */
#ifndef HSM_THREAD_INTERNAL_H
#define HSM_THREAD_INTERNAL_H

#include <stdbool.h>

/** Start a detached thread with all signals blocked; code that waits for its end needs its own
 * condition. */
bool hsm_thread_start(void *(*run)(void *), void *argument);

/**
 * Schedule the calling thread as SCHED_BATCH from now on, unless it has a policy other than
 * SCHED_OTHER: when it is woken, it does not preempt the process that woke it. A module that waits
 * for another process then wakes up once, when the whole answer is there, and not at its first
 * octets.
 */
void hsm_thread_batch(void);

#endif
