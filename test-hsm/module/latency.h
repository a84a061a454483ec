/*
 * latency.h - the time that a token takes, simulated by sleeping, and how many calls it serves at
 * once.
 */
#ifndef FAULT_LATENCY_H
#define FAULT_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "functions.h"

struct fault_latency {
    int64_t fixed_ns;
    int64_t jitter_ns; /* evenly between fixed - jitter and fixed + jitter */
    int64_t ramp_ns; /* added with every call */
    int64_t most_ns; /* limit of the time with the ramp */
    double slow_share; /* share of the calls, 0 to 1, that take slow_ns instead */
    int64_t slow_ns;
};

/** CLOCK_MONOTONIC. */
int64_t fault_now_ns(void);

/** A pseudo-random number from a counter. */
uint64_t fault_mix(uint64_t counter);

/** All members zero: no latency. */
void fault_latency_set(enum fault_fn fn, const struct fault_latency *latency);

/** Sleep as long as this call takes. */
void fault_latency_spend(enum fault_fn fn);

/** Limit the cryptographic calls in progress at once; 0: no limit. */
void fault_engines_set(unsigned count);

/** Wait for an engine, first come, first served; false: engines are not limited, do not release. */
bool fault_engine_take(void);
void fault_engine_release(void);

/** The number of calls now waiting for an engine. */
unsigned fault_engine_waiting(void);

/** Sleep for delay_ns, or with `forever` until fault_release(), which ends a delay, too. */
void fault_hold(int64_t delay_ns, bool forever);
void fault_release(void);

/** The number of calls now in fault_hold(). */
unsigned fault_held(void);

/** Remove all latencies and the limit of engines, and release all held calls. */
void fault_latency_reset(void);

void fault_latency_child(void);

#endif
