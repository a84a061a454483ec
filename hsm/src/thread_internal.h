/*
 * thread_internal.h - threads of the library: no signals, nobody joins them.
 */
#ifndef HSM_THREAD_INTERNAL_H
#define HSM_THREAD_INTERNAL_H

#include <stdbool.h>

/** All signals blocked, detached: who waits for its end does so by a condition of its own. */
bool hsm_thread_start(void *(*run)(void *), void *argument);

/**
 * Schedule the calling thread as SCHED_BATCH from now on, unless it has a policy other than
 * SCHED_OTHER: when it is woken, it does not preempt the process that woke it. A module that waits
 * for another process then wakes up once, when the whole answer is there, and not at its first
 * octets.
 */
void hsm_thread_batch(void);

#endif
