/*
 * latency.h - the time that a token takes, spent asleep, and how many calls it works on at once.
 */
#ifndef FAULT_LATENCY_H
#define FAULT_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "functions.h"

struct fault_latency {
    int64_t fixed_ns;
    int64_t jitter_ns; /* evenly between fixed - jitter and fixed + jitter */
    int64_t ramp_ns; /* more with every call ... */
    int64_t most_ns; /* ... up to this */
    double slow_share; /* of the calls, 0 to 1, take ... */
    int64_t slow_ns; /* ... this instead */
};

/** CLOCK_MONOTONIC. */
int64_t fault_now_ns(void);

/** A well-mixed number from one that counts up. */
uint64_t fault_mix(uint64_t counter);

/** Zero for none. */
void fault_latency_set(enum fault_fn fn, const struct fault_latency *latency);

/** Sleep as long as this call takes. */
void fault_latency_spend(enum fault_fn fn);

/** Calls of cryptographic functions that are worked on at once, 0: any number. */
void fault_engines_set(unsigned count);

/** Wait for an engine, first come, first served; false: they are not limited, nothing to release.
 */
bool fault_engine_take(void);
void fault_engine_release(void);

/** Calls that wait for one now. */
unsigned fault_engine_waiting(void);

/** Sleep for delay_ns, or with `forever` until fault_release(); that ends a delay too. */
void fault_hold(int64_t delay_ns, bool forever);
void fault_release(void);

/** Calls in fault_hold() now. */
unsigned fault_held(void);

/** Every function at once, engines any number, nobody held. */
void fault_latency_reset(void);

void fault_latency_child(void);

#endif
