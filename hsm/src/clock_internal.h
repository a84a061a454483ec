/*
 * clock_internal.h - deadlines: points of the monotonic clock, in nanoseconds.
 */
#ifndef HSM_CLOCK_INTERNAL_H
#define HSM_CLOCK_INTERNAL_H

#include <hsm/clock.h>

static inline int64_t
hsm_deadline_after(unsigned ms)
{
    return hsm_clock_ns() + (int64_t)ms * HSM_NS_PER_MS;
}

/** Whole milliseconds, rounded up; 0 when the deadline is past. */
static inline unsigned
hsm_ms_until(int64_t deadline)
{
    int64_t left = deadline - hsm_clock_ns();

    return left > 0 ? (unsigned)(left / HSM_NS_PER_MS) + 1 : 0;
}

/** Sleep until this time; return at once if it is past. */
static inline void
hsm_clock_sleep_until(int64_t ns)
{
    struct timespec t = hsm_clock_timespec(ns);

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0 && hsm_clock_ns() < ns)
        continue;
}

#endif
