/*
 * thread_internal.h - threads of the library: no signals, nobody joins them.
 */
#ifndef HSM_THREAD_INTERNAL_H
#define HSM_THREAD_INTERNAL_H

#include <stdbool.h>

/** All signals blocked, detached: who waits for its end does so by a condition of its own. */
bool hsm_thread_start(void *(*run)(void *), void *argument);

#endif
