/*
 * gate_internal.h - a bounded number of callers at a time, first come first served.
 *
 * With one permit it is a mutex with a timeout.
 */
#ifndef HSM_GATE_INTERNAL_H
#define HSM_GATE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include <hsm/status.h>

struct hsm_gate_waiter;

struct hsm_gate {
    pthread_mutex_t lock;
    unsigned free; /* permits; above 0 only while no caller waits */
    struct hsm_gate_waiter *first;
    struct hsm_gate_waiter *last;
};

bool hsm_gate_init(struct hsm_gate *gate, unsigned permits);

/** False when no permit came within the time. */
HSM_MUST_CHECK bool hsm_gate_enter(struct hsm_gate *gate, unsigned timeout_ms);

void hsm_gate_leave(struct hsm_gate *gate);

/** No caller may be inside or waiting. */
void hsm_gate_destroy(struct hsm_gate *gate);

#endif
