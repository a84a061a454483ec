/*
 * armed.h - flags of what a call of each function must check before it goes through; usually none.
 */
#ifndef FAULT_ARMED_H
#define FAULT_ARMED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "functions.h"

#define FAULT_ARMED_RULES    1U /* rules.h */
#define FAULT_ARMED_RANDOM   2U /* rules.h */
#define FAULT_ARMED_LATENCY  4U /* latency.h */
#define FAULT_ARMED_THROTTLE 8U /* throttle.h */

extern atomic_uint fault_armed[FN_COUNT]; /* rules.c */

static inline unsigned
fault_is_armed(enum fault_fn fn)
{
    return atomic_load_explicit(&fault_armed[fn], memory_order_relaxed);
}

static inline void
fault_arm(enum fault_fn fn, unsigned what, bool on)
{
    if (on)
        atomic_fetch_or(&fault_armed[fn], what);
    else
        atomic_fetch_and(&fault_armed[fn], ~what);
}

#endif
