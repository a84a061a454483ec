/*
 * clock_internal.h - deadlines: points of the monotonic clock, in nanoseconds.
 */
#ifndef HSM_CLOCK_INTERNAL_H
#define HSM_CLOCK_INTERNAL_H

#include <stdint.h>
#include <time.h>

#define HSM_MS 1000000LL /* nanoseconds */

static inline int64_t
hsm_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t
hsm_deadline_after(unsigned ms)
{
    return hsm_clock_ns() + (int64_t)ms * HSM_MS;
}

static inline struct timespec
hsm_clock_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
                             .tv_nsec = (long)(ns % 1000000000)};
}

/** Whole milliseconds, rounded up; 0 when the deadline is past. */
static inline unsigned
hsm_ms_until(int64_t deadline)
{
    int64_t left = deadline - hsm_clock_ns();

    return left > 0 ? (unsigned)(left / HSM_MS) + 1 : 0;
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
