/*
 * thread_internal.h - threads of the library: all signals blocked, detached.
 */
#ifndef HSM_THREAD_INTERNAL_H
#define HSM_THREAD_INTERNAL_H

#include <stdbool.h>

/** Start a detached thread with all signals blocked; code that waits for its end needs its own
 * condition. */
bool hsm_thread_start(void *(*run)(void *), void *argument);

#endif
