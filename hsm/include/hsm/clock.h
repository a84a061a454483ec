/*
 * clock.h - the monotonic clock: for deadlines and durations, never for dates (hsm/time.h).
 */
#ifndef HSM_CLOCK_H
#define HSM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define HSM_NS_PER_MS INT64_C(1000000)
#define HSM_NS_PER_S  INT64_C(1000000000)

/** CLOCK_MONOTONIC in nanoseconds. */
int64_t hsm_clock_ns(void);

/** The same in whole milliseconds. */
int64_t hsm_clock_ms(void);

/** Whole seconds of CLOCK_MONOTONIC_COARSE: cheaper, and a few milliseconds behind. */
time_t hsm_clock_s(void);

/** A value of hsm_clock_ns(), as clock_nanosleep() and pthread_cond_clockwait() take it. */
struct timespec hsm_clock_timespec(int64_t ns);

#endif
